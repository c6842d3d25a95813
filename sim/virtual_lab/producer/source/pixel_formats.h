/* Pixel formats: how 12-bit levels (DN12) become the bytes of a frame. */
#ifndef LABCTL_PIXEL_FORMATS_H
#define LABCTL_PIXEL_FORMATS_H

#include <stddef.h>
#include <stdint.h>

#include "register_map.h"

enum {
#define X(name, number) PIXEL_##name = number,
    PIXEL_FORMATS(X)
#undef X
};

struct pixel_format {
    uint64_t code;
    unsigned bits;  /* per pixel in memory */
    unsigned group; /* pixels that share bytes: rows and copies begin at a multiple of it */
    void (*convert)(const uint16_t *dn12, uint8_t *out, size_t pixels);
};

/* NULL for a code that is not offered. */
const struct pixel_format *find_pixel_format(uint64_t code);

#endif
