/* Chunks: values of a frame that follow its pixels in the buffer. */
#ifndef LABCTL_CHUNKS_H
#define LABCTL_CHUNKS_H

#include "camera.h"

/* Bytes of a frame with its chunks, as the camera is set; and for an image of so many bytes. */
size_t payload_bytes(const struct camera *camera);
size_t bytes_with_chunks(const struct camera *camera, size_t image);

/* Writes the enabled chunks of `frame` into `memory` (`size` bytes) after the pixels and lists them in the frame. */
void append_chunks(const struct camera *camera, const struct exposure *used, struct frame *frame, uint8_t *memory,
                   size_t size);

#endif
