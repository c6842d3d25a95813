/* Rendering of frames. The test pattern costs one copy per row: a row is a piece of one long ramp that is converted to
 * the pixel format once per acquisition, and fits into the processor's cache. */
#include "rendering.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "camera.h"

#define LEVELS 4096

bool renderer_open(struct renderer *renderer, const struct camera *camera) {
    renderer_close(renderer);
    renderer->format = find_pixel_format((uint64_t)integer_of(camera, REG_PixelFormat));
    renderer->width = (size_t)integer_of(camera, REG_Width);
    renderer->height = (size_t)integer_of(camera, REG_Height);
    renderer->offset_x = (size_t)integer_of(camera, REG_OffsetX);
    renderer->offset_y = (size_t)integer_of(camera, REG_OffsetY);
    renderer->gamma = integer_of(camera, REG_GammaEnable) != 0;
    const double gamma = real_of(camera, REG_Gamma);
    for (int level = 0; level < LEVELS; level++)
        renderer->levels[level] = (uint16_t)(renderer->gamma ? lround(4095 * pow(level / 4095.0, gamma)) : level);

    const size_t pixels = LEVELS + renderer->width;
    uint16_t *ramp = malloc((pixels + 4) * sizeof *ramp);
    bool made = ramp && (renderer->row = malloc(renderer->width * sizeof *renderer->row));
    for (size_t i = 0; made && i < pixels + 4; i++) ramp[i] = renderer->levels[i % LEVELS];
    for (unsigned start = 0; made && start < renderer->format->group; start++) {
        made = (renderer->ramps[start] = malloc(pixels * renderer->format->bits / 8));
        if (made) renderer->format->convert(ramp + start, renderer->ramps[start], pixels);
    }
    free(ramp);
    return made;
}

void renderer_close(struct renderer *renderer) {
    free(renderer->row);
    for (int i = 0; i < 4; i++) free(renderer->ramps[i]);
    memset(renderer, 0, sizeof *renderer);
}

static size_t phase_of(const struct renderer *renderer, size_t row, uint64_t frame_id) {
    return (renderer->offset_x + 3 * (renderer->offset_y + row) + 16 * frame_id) % LEVELS;
}

static void render_pattern(const struct renderer *renderer, uint64_t frame_id, size_t rows, uint8_t *out) {
    const struct pixel_format *format = renderer->format;
    const size_t row_bytes = renderer->width * format->bits / 8;
    for (size_t row = 0; row < rows; row++) {
        const size_t phase = phase_of(renderer, row, frame_id), start = phase % format->group;
        memcpy(out + row * row_bytes, renderer->ramps[start] + (phase - start) * format->bits / 8, row_bytes);
    }
}

/* One row of the region, DN12; dark where the sensor reaches beyond the picture. */
static void cut_row(const struct renderer *renderer, const struct picture *picture, size_t row) {
    const size_t y = renderer->offset_y + row, x = renderer->offset_x;
    size_t lit = 0;
    if (y < picture->height && x < picture->width) {
        lit = picture->width - x < renderer->width ? picture->width - x : renderer->width;
        const uint16_t *from = picture->dn + y * picture->width + x;
        for (size_t i = 0; i < lit; i++) renderer->row[i] = from[i] < LEVELS ? from[i] : LEVELS - 1;
    }
    memset(renderer->row + lit, 0, (renderer->width - lit) * sizeof *renderer->row);
}

void render(const struct renderer *renderer, const struct picture *picture, uint64_t frame_id, size_t rows,
            uint8_t *out) {
    if (!picture) {
        render_pattern(renderer, frame_id, rows, out);
        return;
    }
    const size_t row_bytes = renderer->width * renderer->format->bits / 8;
    for (size_t row = 0; row < rows; row++) {
        cut_row(renderer, picture, row);
        if (renderer->gamma)
            for (size_t i = 0; i < renderer->width; i++) renderer->row[i] = renderer->levels[renderer->row[i]];
        renderer->format->convert(renderer->row, out + row * row_bytes, renderer->width);
    }
}

double mean_level(const struct renderer *renderer, const struct picture *picture, uint64_t frame_id) {
    double sum = 0;
    size_t count = 0;
    for (size_t row = 0; row < renderer->height; row += 8) {
        if (picture) cut_row(renderer, picture, row);
        const size_t phase = phase_of(renderer, row, frame_id);
        for (size_t i = 0; i < renderer->width; i += 8, count++)
            sum += picture ? renderer->row[i] : (double)((phase + i) % LEVELS);
    }
    return sum / (double)count;
}
