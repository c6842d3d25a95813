/* Conversion of 12-bit levels: to fewer bits by dropping the lowest, to 16 by a shift of 4. Little-endian throughout;
 * packed formats put the first pixel into the lowest bits [EMVA PFNC]. A Bayer format is the mono of its depth: the
 * colours are in the light, not in the coding. */
#include "pixel_formats.h"

#include <string.h>

static void to_8(const uint16_t *dn12, uint8_t *out, size_t pixels) {
    for (size_t i = 0; i < pixels; i++) out[i] = (uint8_t)(dn12[i] >> 4);
}

static void to_10(const uint16_t *dn12, uint8_t *out, size_t pixels) {
    for (size_t i = 0; i < pixels; i++) {
        const uint16_t dn10 = dn12[i] >> 2;
        memcpy(out + 2 * i, &dn10, 2);
    }
}

static void to_10_packed(const uint16_t *dn12, uint8_t *out, size_t pixels) {
    for (size_t i = 0; i + 4 <= pixels; i += 4, out += 5) {
        const unsigned a = dn12[i] >> 2, b = dn12[i + 1] >> 2, c = dn12[i + 2] >> 2, d = dn12[i + 3] >> 2;
        out[0] = (uint8_t)a;
        out[1] = (uint8_t)(a >> 8 | b << 2);
        out[2] = (uint8_t)(b >> 6 | c << 4);
        out[3] = (uint8_t)(c >> 4 | d << 6);
        out[4] = (uint8_t)(d >> 2);
    }
}

static void to_12(const uint16_t *dn12, uint8_t *out, size_t pixels) { memcpy(out, dn12, 2 * pixels); }

static void to_12_packed(const uint16_t *dn12, uint8_t *out, size_t pixels) {
    for (size_t i = 0; i + 2 <= pixels; i += 2, out += 3) {
        const unsigned a = dn12[i], b = dn12[i + 1];
        out[0] = (uint8_t)a;
        out[1] = (uint8_t)(a >> 8 | b << 4);
        out[2] = (uint8_t)(b >> 4);
    }
}

static void to_16(const uint16_t *dn12, uint8_t *out, size_t pixels) {
    for (size_t i = 0; i < pixels; i++) {
        const uint16_t dn16 = (uint16_t)(dn12[i] << 4);
        memcpy(out + 2 * i, &dn16, 2);
    }
}

static const struct pixel_format formats[] = {
    {PIXEL_Mono8, 8, 1, to_8},      {PIXEL_Mono10, 16, 1, to_10},          {PIXEL_Mono10p, 10, 4, to_10_packed},
    {PIXEL_Mono12, 16, 1, to_12},   {PIXEL_Mono12p, 12, 2, to_12_packed},  {PIXEL_Mono16, 16, 1, to_16},
    {PIXEL_BayerRG8, 8, 1, to_8},   {PIXEL_BayerRG12, 16, 1, to_12},       {PIXEL_BayerRG12p, 12, 2, to_12_packed},
};

const struct pixel_format *find_pixel_format(uint64_t code) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].code == code) return &formats[i];
    return NULL;
}
