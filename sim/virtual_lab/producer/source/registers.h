/* The registers of a camera, by the table in register_map.h. */
#ifndef LABCTL_REGISTERS_H
#define LABCTL_REGISTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gentl.h"
#include "register_map.h"

enum {
    NO_REGISTER = -1,
#define X(name, ...) REG_##name,
    REGISTERS(X)
#undef X
    REG_COUNT
};

enum {
#define X(name, number) CHUNK_##name,
    CHUNKS(X)
#undef X
    CHUNK_COUNT
};

union value {
    int64_t integer;
    double real;
    char text[REGISTER_BYTES];
};

struct camera;

void reset_registers(struct camera *camera);

/* Sets the sensor to width x height; the region becomes all of it. */
void set_sensor(struct camera *camera, int64_t width, int64_t height);

int64_t integer_of(const struct camera *camera, int reg);
double real_of(const struct camera *camera, int reg);

/* Sets a feature within its limits, without regard to locks, as the automatic functions do. */
void set_real(struct camera *camera, int reg, double value);
void count_up(struct camera *camera, int reg);

GC_ERROR read_register(struct camera *camera, uint64_t address, void *buffer, size_t *size);
GC_ERROR write_register(struct camera *camera, uint64_t address, const void *buffer, size_t *size);

#endif
