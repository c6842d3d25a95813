/* Reading and writing features: limits, increments, rounding, locks, and what a feature does when written. */
#include "registers.h"

#include <math.h>
#include <string.h>

#include "chunks.h"
#include "library.h"
#include "pixel_formats.h"

enum kind { KIND_INTEGER, KIND_FLOAT, KIND_TEXT, KIND_COMMAND };
enum access { ACCESS_READ, ACCESS_READ_WRITE, ACCESS_WRITE };

static const struct reg {
    const char *name;
    enum kind kind;
    enum access access;
    int lock;
    double low;
    int low_register;
    double high;
    int high_register;
    double step, initial;
    const char *text;
} table[REG_COUNT] = {
#define X(name, ...) {#name, __VA_ARGS__},
    REGISTERS(X)
#undef X
};

int64_t integer_of(const struct camera *camera, int reg) { return camera->values[reg].integer; }
double real_of(const struct camera *camera, int reg) { return camera->values[reg].real; }
void count_up(struct camera *camera, int reg) { camera->values[reg].integer++; }

void reset_registers(struct camera *camera) {
    const int64_t width = integer_of(camera, REG_SensorWidth), height = integer_of(camera, REG_SensorHeight);
    memset(camera->values, 0, sizeof camera->values);
    for (int reg = 0; reg < REG_COUNT; reg++) {
        if (table[reg].kind == KIND_FLOAT) camera->values[reg].real = table[reg].initial;
        else if (table[reg].kind == KIND_TEXT) strncpy(camera->values[reg].text, table[reg].text, REGISTER_BYTES - 1);
        else camera->values[reg].integer = (int64_t)table[reg].initial;
    }
    strncpy(camera->values[REG_DeviceSerialNumber].text, camera->serial, REGISTER_BYTES - 1);
    camera->chunks_off = 0;
    set_sensor(camera, width, height);
}

static void follow_region(struct camera *camera) {
    union value *values = camera->values;
    values[REG_WidthLimit].integer = values[REG_WidthMax].integer - values[REG_OffsetX].integer;
    values[REG_HeightLimit].integer = values[REG_HeightMax].integer - values[REG_OffsetY].integer;
    values[REG_OffsetXLimit].integer = values[REG_WidthMax].integer - values[REG_Width].integer;
    values[REG_OffsetYLimit].integer = values[REG_HeightMax].integer - values[REG_Height].integer;
}

void set_sensor(struct camera *camera, int64_t width, int64_t height) {
    union value *values = camera->values;
    values[REG_SensorWidth].integer = width;
    values[REG_SensorHeight].integer = height;
    values[REG_Width].integer = values[REG_WidthMax].integer = width & ~(int64_t)3;
    values[REG_Height].integer = values[REG_HeightMax].integer = height & ~(int64_t)1;
    values[REG_OffsetX].integer = values[REG_OffsetY].integer = 0;
    follow_region(camera);
}

static double limit(const struct camera *camera, int reg, double constant) {
    return reg == NO_REGISTER ? constant : (double)integer_of(camera, reg);
}

void set_real(struct camera *camera, int reg, double value) {
    const double low = limit(camera, table[reg].low_register, table[reg].low);
    const double high = limit(camera, table[reg].high_register, table[reg].high);
    const double step = table[reg].step;
    if (step > 0) value = low + step * round((value - low) / step);
    camera->values[reg].real = fmin(fmax(value, low), high);
}

/* The register at an address, or NO_REGISTER. */
static int find_register(uint64_t address) {
    const uint64_t index = (address - REGISTER_BASE) / REGISTER_BYTES;
    if (address < REGISTER_BASE || (address - REGISTER_BASE) % REGISTER_BYTES || index >= REG_COUNT) return NO_REGISTER;
    return (int)index;
}

static bool size_fits(int reg, size_t size) { return size == (table[reg].kind == KIND_TEXT ? REGISTER_BYTES : 8u); }

/* Brings up to date what is computed when it is asked for. */
static void refresh(struct camera *camera, int reg) {
    union value *value = &camera->values[reg];
    const struct faults *faults = &camera->faults;
    const int64_t now = monotonic_ns();
    switch (reg) {
        case REG_DeviceTemperature:
            value->real = 25 + 15 * fmin((double)(now - camera->powered_ns) / 600e9, 1);
            break;
        case REG_PayloadSize: value->integer = (int64_t)payload_bytes(camera); break;
        case REG_ChunkEnable:
            value->integer = !(camera->chunks_off >> integer_of(camera, REG_ChunkSelector) & 1);
            break;
        case REG_FaultDropNext: value->integer = faults->drop; break;
        case REG_FaultIncompleteNext: value->integer = faults->incomplete; break;
        case REG_FaultDuplicateId: value->integer = faults->duplicate; break;
        case REG_FaultLateNext: value->real = faults->late_ms; break;
        case REG_FaultNodeHangSeconds: value->real = faults->hang_s; break;
        case REG_FaultLost: value->integer = 0; break; /* while it is 1, nobody can read it */
        case REG_FaultLostSeconds: value->real = 0; break;
        case REG_FaultStallSeconds: value->real = fmax((double)(faults->stall_until_ns - now) / 1e9, 0); break;
        default: break;
    }
}

/* What follows from a value that was just written. */
static GC_ERROR act(struct camera *camera, int reg) {
    const union value value = camera->values[reg];
    switch (reg) {
        case REG_Width: case REG_Height: case REG_OffsetX: case REG_OffsetY: follow_region(camera); break;
        case REG_Gain: camera->values[REG_GainRaw].integer = lround(value.real * 10); break;
        case REG_GainRaw: camera->values[REG_Gain].real = (double)value.integer / 10; break;
        case REG_ChunkEnable: {
            const uint32_t bit = 1u << integer_of(camera, REG_ChunkSelector);
            camera->chunks_off = value.integer ? camera->chunks_off & ~bit : camera->chunks_off | bit;
            break;
        }
        case REG_AcquisitionStart: return camera_start(camera);
        case REG_AcquisitionStop: camera_stop(camera); break;
        case REG_TriggerSoftware: camera_trigger(camera); break;
        case REG_TimestampLatch: camera->values[REG_TimestampLatchValue].integer = monotonic_ns(); break;
        case REG_DeviceReset: camera_reset(camera); break;
        case REG_FaultDropNext: case REG_FaultIncompleteNext: case REG_FaultDuplicateId: case REG_FaultLost:
            faults_set(camera, table[reg].name, (double)value.integer);
            break;
        case REG_FaultLateNext: case REG_FaultStallSeconds: case REG_FaultNodeHangSeconds: case REG_FaultLostSeconds:
            faults_set(camera, table[reg].name, value.real);
            break;
        default: break;
    }
    return GC_ERR_SUCCESS;
}

GC_ERROR read_register(struct camera *camera, uint64_t address, void *buffer, size_t *size) {
    const int reg = find_register(address);
    if (reg == NO_REGISTER || !size_fits(reg, *size))
        return fail(GC_ERR_INVALID_ADDRESS, "no register of %zu bytes at 0x%llx", *size, (unsigned long long)address);
    if (table[reg].access == ACCESS_WRITE) return fail(GC_ERR_ACCESS_DENIED, "%s is write-only", table[reg].name);
    refresh(camera, reg);
    memcpy(buffer, &camera->values[reg], *size);
    return GC_ERR_SUCCESS;
}

static GC_ERROR check_integer(struct camera *camera, int reg, int64_t value) {
    const double low = limit(camera, table[reg].low_register, table[reg].low);
    const double high = limit(camera, table[reg].high_register, table[reg].high);
    if ((double)value < low || (double)value > high)
        return fail(GC_ERR_INVALID_VALUE, "%s = %lld is not in %g..%g", table[reg].name, (long long)value, low, high);
    if (table[reg].step > 1 && (value - (int64_t)low) % (int64_t)table[reg].step)
        return fail(GC_ERR_INVALID_VALUE, "%s = %lld is not in steps of %g", table[reg].name, (long long)value,
                    table[reg].step);
    if (reg == REG_PixelFormat && !find_pixel_format((uint64_t)value))
        return fail(GC_ERR_INVALID_VALUE, "pixel format 0x%llx is not offered", (unsigned long long)value);
    return GC_ERR_SUCCESS;
}

GC_ERROR write_register(struct camera *camera, uint64_t address, const void *buffer, size_t *size) {
    const int reg = find_register(address);
    if (reg == NO_REGISTER || !size_fits(reg, *size))
        return fail(GC_ERR_INVALID_ADDRESS, "no register of %zu bytes at 0x%llx", *size, (unsigned long long)address);
    if (table[reg].access == ACCESS_READ) return fail(GC_ERR_ACCESS_DENIED, "%s is read-only", table[reg].name);
    if (table[reg].lock != NO_REGISTER && integer_of(camera, table[reg].lock))
        return fail(GC_ERR_ACCESS_DENIED, "%s is locked by %s", table[reg].name, table[table[reg].lock].name);
    union value value = {0};
    memcpy(&value, buffer, *size);
    if (table[reg].kind == KIND_INTEGER) {
        const GC_ERROR checked = check_integer(camera, reg, value.integer);
        if (checked) return checked;
        camera->values[reg].integer = value.integer;
    } else if (table[reg].kind == KIND_FLOAT) {
        const double low = limit(camera, table[reg].low_register, table[reg].low);
        const double high = limit(camera, table[reg].high_register, table[reg].high);
        if (!(value.real >= low && value.real <= high))
            return fail(GC_ERR_INVALID_VALUE, "%s = %g is not in %g..%g", table[reg].name, value.real, low, high);
        set_real(camera, reg, value.real);
    } else if (table[reg].kind == KIND_TEXT) {
        value.text[REGISTER_BYTES - 1] = '\0';
        camera->values[reg] = value;
    }
    return act(camera, reg);
}
