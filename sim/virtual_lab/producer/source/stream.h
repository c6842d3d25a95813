/* Data stream of one camera: its buffers and what each holds. */
#ifndef LABCTL_STREAM_H
#define LABCTL_STREAM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gentl.h"

#define BUFFERS_MAX 256
#define CHUNKS_MAX 8

/* IDLE: announced. QUEUED: waits for a frame. FILLING: a frame is being written, without the lock.
 * READY: waits for EventGetData. BORROWED: the consumer has it. */
enum buffer_state { BUFFER_IDLE, BUFFER_QUEUED, BUFFER_FILLING, BUFFER_READY, BUFFER_BORROWED };

struct frame {
    uint64_t id, timestamp_ns, pixel_format;
    size_t width, height, offset_x, offset_y;
    size_t image_bytes, filled_bytes, payload_bytes;
    bool incomplete, larger_than_buffer;
    size_t chunk_count;
    SINGLE_CHUNK_DATA chunks[CHUNKS_MAX];
};

struct buffer {
    void *handle; /* NULL: this place is free */
    uint8_t *memory;
    size_t size;
    void *user;
    bool own_memory, new_data;
    enum buffer_state state;
    uint64_t order; /* of coming into its present state */
    struct frame frame;
};

struct stream {
    void *handle, *event; /* NULL while closed, unregistered */
    bool grabbing;
    uint64_t left; /* frames until the stream stops by itself */
    uint64_t delivered, underrun, started, fired, last_order;
    unsigned kills;
    pthread_cond_t *changed; /* a frame came, a fill ended, a wait was killed, the stream closed */
    struct buffer buffers[BUFFERS_MAX];
};

struct camera;

struct buffer *find_buffer(struct stream *stream, const void *handle);
size_t count_buffers(const struct stream *stream, enum buffer_state state);
size_t count_announced(const struct stream *stream);
void set_buffer_state(struct stream *stream, struct buffer *buffer, enum buffer_state state);

/* First in line of that state, or NULL. */
struct buffer *oldest_buffer(struct stream *stream, enum buffer_state state);

/* Stops grabbing and waits until no frame is being written. */
void stop_stream(struct stream *stream);
void free_buffers(struct stream *stream);

GC_ERROR stream_info(struct camera *camera, int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size);

#endif
