/* The interface (IF...) with its list of cameras, and an opened camera as the host sees it (Dev...). */
#include <stdio.h>
#include <string.h>

#include "answers.h"
#include "library.h"
#include "system.h"

static bool is_interface(const void *handle) { return handle && handle == library.interface; }

static void stream_id(const struct camera *camera, char id[32]) { snprintf(id, 32, "%s-stream", camera->serial); }

GC_ERROR device_info(struct camera *camera, int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    char shown[REGISTER_BYTES + sizeof camera->serial + 4];
    snprintf(shown, sizeof shown, "%s (%s)", camera->values[REG_DeviceModelName].text, camera->serial);
    const int32_t access = camera_is_lost(camera) ? DEVICE_ACCESS_STATUS_NOACCESS
                           : camera->device       ? DEVICE_ACCESS_STATUS_OPEN_READWRITE
                                                  : DEVICE_ACCESS_STATUS_READWRITE;
    switch (command) {
        case DEVICE_INFO_ID: return answer_text(camera->serial, type, buffer, size);
        case DEVICE_INFO_VENDOR: return answer_text(VENDOR, type, buffer, size);
        case DEVICE_INFO_MODEL: return answer_text(camera->values[REG_DeviceModelName].text, type, buffer, size);
        case DEVICE_INFO_TLTYPE: return answer_text(TL_TYPE, type, buffer, size);
        case DEVICE_INFO_DISPLAYNAME: return answer_text(shown, type, buffer, size);
        case DEVICE_INFO_ACCESS_STATUS: return answer_int32(access, type, buffer, size);
        case DEVICE_INFO_USER_DEFINED_NAME: return answer_text(camera->values[REG_DeviceUserID].text, type, buffer, size);
        case DEVICE_INFO_SERIAL_NUMBER: return answer_text(camera->serial, type, buffer, size);
        case DEVICE_INFO_VERSION: return answer_text(VERSION, type, buffer, size);
        case DEVICE_INFO_TIMESTAMP_FREQUENCY: return answer_uint64(1000000000, type, buffer, size);
        default: return no_answer("device", command);
    }
}

void close_stream(struct camera *camera) {
    if (!camera->stream.handle) return;
    stop_stream(&camera->stream);
    /* harvesters never unregisters events: a registration that outlived its stream would block the next one. */
    camera->stream.event = NULL;
    camera->stream.handle = NULL;
    free_buffers(&camera->stream);
    pthread_cond_broadcast(camera->stream.changed);
}

void close_device(struct camera *camera) {
    if (!camera->device) return;
    camera_stop(camera);
    close_stream(camera);
    bench_close(&camera->bench);
    camera->device = camera->port = NULL;
}

void close_interface(void) {
    for (int i = 0; i < library.camera_count; i++) close_device(&library.cameras[i]);
    library.interface = NULL;
}

GC_ERROR IFClose(IF_HANDLE interface) {
    LIBRARY_LOCKED;
    if (!is_interface(interface)) return no_handle("interface");
    close_interface();
    return GC_ERR_SUCCESS;
}

GC_ERROR IFGetInfo(IF_HANDLE interface, int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    LIBRARY_LOCKED;
    if (!is_interface(interface)) return no_handle("interface");
    return interface_info(command, type, buffer, size);
}

GC_ERROR IFUpdateDeviceList(IF_HANDLE interface, bool8_t *changed, uint64_t timeout_ms) {
    LIBRARY_LOCKED;
    (void)timeout_ms;
    if (!is_interface(interface)) return no_handle("interface");
    unsigned listed = 0;
    for (int i = 0; i < library.camera_count; i++)
        if (!camera_is_lost(&library.cameras[i])) listed |= 1u << i;
    if (changed) *changed = listed != library.listed;
    library.listed = listed;
    return GC_ERR_SUCCESS;
}

GC_ERROR IFGetNumDevices(IF_HANDLE interface, uint32_t *count) {
    LIBRARY_LOCKED;
    if (!is_interface(interface)) return no_handle("interface");
    if (!count) return fail(GC_ERR_INVALID_PARAMETER, "no place for the count");
    *count = (uint32_t)__builtin_popcount(library.listed);
    return GC_ERR_SUCCESS;
}

GC_ERROR IFGetDeviceID(IF_HANDLE interface, uint32_t index, char *id, size_t *size) {
    LIBRARY_LOCKED;
    if (!is_interface(interface)) return no_handle("interface");
    for (int i = 0; i < library.camera_count; i++)
        if (library.listed >> i & 1 && index-- == 0) return answer_text(library.cameras[i].serial, NULL, id, size);
    return fail(GC_ERR_INVALID_INDEX, "there are %d cameras in the list", __builtin_popcount(library.listed));
}

static GC_ERROR find_listed(const char *id, struct camera **camera) {
    if (!id) return fail(GC_ERR_INVALID_PARAMETER, "no camera id given");
    *camera = camera_of_id(id);
    if (!*camera || !(library.listed >> (*camera)->index & 1)) return fail(GC_ERR_INVALID_ID, "no camera '%s' in the list", id);
    return GC_ERR_SUCCESS;
}

GC_ERROR IFGetDeviceInfo(IF_HANDLE interface, const char *id, int32_t command, INFO_DATATYPE *type, void *buffer,
                         size_t *size) {
    LIBRARY_LOCKED;
    if (!is_interface(interface)) return no_handle("interface");
    struct camera *camera = NULL;
    const GC_ERROR found = find_listed(id, &camera);
    return found ? found : device_info(camera, command, type, buffer, size);
}

GC_ERROR IFOpenDevice(IF_HANDLE interface, const char *id, int32_t access, DEV_HANDLE *device) {
    LIBRARY_LOCKED;
    if (!is_interface(interface)) return no_handle("interface");
    if (!device) return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    if (access < DEVICE_ACCESS_READONLY || access > DEVICE_ACCESS_EXCLUSIVE)
        return fail(GC_ERR_INVALID_PARAMETER, "access flag %d cannot open a camera", access);
    struct camera *camera = NULL;
    const GC_ERROR found = find_listed(id, &camera);
    if (found) return found;
    if (camera->device) return fail(GC_ERR_RESOURCE_IN_USE, "camera %s is open", id);
    if (camera_is_lost(camera)) return fail(GC_ERR_IO, "camera %s does not answer", id);
    char why[200];
    if (bench_is_configured() && !bench_open(&camera->bench, camera->index, 2000, -1, why, sizeof why))
        return fail(GC_ERR_IO, "%s", why);
    if (bench_is_configured() && !sensor_is_set() &&
        (camera->bench.width != integer_of(camera, REG_SensorWidth) ||
         camera->bench.height != integer_of(camera, REG_SensorHeight)))
        set_sensor(camera, camera->bench.width, camera->bench.height);
    camera->gone = false;
    camera->values[REG_TLParamsLocked].integer = 0;
    camera->port = new_handle();
    *device = camera->device = new_handle();
    return GC_ERR_SUCCESS;
}

GC_ERROR IFGetParentTL(IF_HANDLE interface, TL_HANDLE *system) {
    LIBRARY_LOCKED;
    if (!is_interface(interface)) return no_handle("interface");
    if (!system) return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    *system = library.system;
    return GC_ERR_SUCCESS;
}

GC_ERROR DevGetPort(DEV_HANDLE device, PORT_HANDLE *port) {
    LIBRARY_LOCKED;
    const struct camera *camera = camera_of_device(device);
    if (!camera) return no_handle("device");
    if (!port) return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    *port = camera->port;
    return GC_ERR_SUCCESS;
}

GC_ERROR DevGetNumDataStreams(DEV_HANDLE device, uint32_t *count) {
    LIBRARY_LOCKED;
    if (!camera_of_device(device)) return no_handle("device");
    if (!count) return fail(GC_ERR_INVALID_PARAMETER, "no place for the count");
    *count = 1;
    return GC_ERR_SUCCESS;
}

GC_ERROR DevGetDataStreamID(DEV_HANDLE device, uint32_t index, char *id, size_t *size) {
    LIBRARY_LOCKED;
    const struct camera *camera = camera_of_device(device);
    if (!camera) return no_handle("device");
    if (index != 0) return fail(GC_ERR_INVALID_INDEX, "stream %u asked for, there is only 0", index);
    char own[32];
    stream_id(camera, own);
    return answer_text(own, NULL, id, size);
}

GC_ERROR DevOpenDataStream(DEV_HANDLE device, const char *id, DS_HANDLE *stream) {
    LIBRARY_LOCKED;
    struct camera *camera = camera_of_device(device);
    if (!camera) return no_handle("device");
    if (!stream || !id) return fail(GC_ERR_INVALID_PARAMETER, "no id, or no place for the handle");
    char own[32];
    stream_id(camera, own);
    if (strcmp(id, own) != 0) return fail(GC_ERR_INVALID_ID, "no stream '%s'; the only one is %s", id, own);
    if (camera->stream.handle) return fail(GC_ERR_RESOURCE_IN_USE, "the stream is open");
    camera->stream.delivered = camera->stream.underrun = camera->stream.started = 0;
    *stream = camera->stream.handle = new_handle();
    return GC_ERR_SUCCESS;
}

GC_ERROR DevGetInfo(DEV_HANDLE device, int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    LIBRARY_LOCKED;
    struct camera *camera = camera_of_device(device);
    if (!camera) return no_handle("device");
    return device_info(camera, command, type, buffer, size);
}

GC_ERROR DevClose(DEV_HANDLE device) {
    LIBRARY_LOCKED;
    struct camera *camera = camera_of_device(device);
    if (!camera) return no_handle("device");
    close_device(camera);
    return GC_ERR_SUCCESS;
}

GC_ERROR DevGetParentIF(DEV_HANDLE device, IF_HANDLE *interface) {
    LIBRARY_LOCKED;
    if (!camera_of_device(device)) return no_handle("device");
    if (!interface) return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    *interface = library.interface;
    return GC_ERR_SUCCESS;
}
