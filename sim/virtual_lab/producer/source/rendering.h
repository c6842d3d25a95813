/* From light to bytes: the camera's region of a picture of the bench, or of the test pattern, in a pixel format. */
#ifndef LABCTL_RENDERING_H
#define LABCTL_RENDERING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench_link.h"
#include "pixel_formats.h"

struct camera;

struct renderer {
    const struct pixel_format *format;
    size_t width, height, offset_x, offset_y;
    bool gamma;
    uint16_t levels[4096]; /* DN12 before gamma -> after */
    uint16_t *row;
    uint8_t *ramps[4]; /* the test pattern's ramp, converted, from each pixel of a group on */
};

/* As the camera is set now. False: no memory. */
bool renderer_open(struct renderer *renderer, const struct camera *camera);
void renderer_close(struct renderer *renderer);

/* Writes the first `rows` rows. Without a picture the pixel at column x, row y of the *sensor* is
 * DN12 = (x + 3 y + 16 frame_id) mod 4096. */
void render(const struct renderer *renderer, const struct picture *picture, uint64_t frame_id, size_t rows,
            uint8_t *out);

/* Mean DN12 before gamma of every eighth pixel. */
double mean_level(const struct renderer *renderer, const struct picture *picture, uint64_t frame_id);

#endif
