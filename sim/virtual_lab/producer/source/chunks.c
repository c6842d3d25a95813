/* Layout: pixels, padding to 8 bytes, then 8 bytes per enabled chunk in the order of CHUNKS. */
#include "chunks.h"

#include <string.h>

#include "pixel_formats.h"

static const uint64_t chunk_ids[CHUNK_COUNT] = {
#define X(name, number) number,
    CHUNKS(X)
#undef X
};

static size_t image_bytes(const struct camera *camera) {
    const struct pixel_format *format = find_pixel_format((uint64_t)integer_of(camera, REG_PixelFormat));
    return (size_t)(integer_of(camera, REG_Width) * integer_of(camera, REG_Height)) * format->bits / 8;
}

static size_t aligned(size_t bytes) { return (bytes + 7) & ~(size_t)7; }

size_t payload_bytes(const struct camera *camera) { return bytes_with_chunks(camera, image_bytes(camera)); }

size_t bytes_with_chunks(const struct camera *camera, size_t image) {
    if (!integer_of(camera, REG_ChunkModeActive)) return image;
    const uint32_t all = (1u << CHUNK_COUNT) - 1;
    return aligned(image) + 8 * (size_t)__builtin_popcount(all & ~camera->chunks_off);
}

void append_chunks(const struct camera *camera, const struct exposure *used, struct frame *frame, uint8_t *memory,
                   size_t size) {
    frame->chunk_count = 0;
    if (!integer_of(camera, REG_ChunkModeActive)) return;
    size_t offset = aligned(frame->image_bytes);
    for (int chunk = 0; chunk < CHUNK_COUNT && offset + 8 <= size; chunk++) {
        if (camera->chunks_off >> chunk & 1) continue;
        switch (chunk) {
            case CHUNK_ExposureTime: memcpy(memory + offset, &used->time_us, 8); break;
            case CHUNK_Gain: memcpy(memory + offset, &used->gain_db, 8); break;
            case CHUNK_FrameID: memcpy(memory + offset, &frame->id, 8); break;
            default: memcpy(memory + offset, &frame->timestamp_ns, 8); break;
        }
        frame->chunks[frame->chunk_count++] = (SINGLE_CHUNK_DATA){chunk_ids[chunk], (ptrdiff_t)offset, 8};
        offset += 8;
    }
    frame->filled_bytes = frame->payload_bytes = offset;
}
