/* Data streams (DS...): announcing and queueing of buffers, start, stop, flush, statistics. */
#include "stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "chunks.h"
#include "library.h"

struct buffer *find_buffer(struct stream *stream, const void *handle) {
    for (int i = 0; handle && i < BUFFERS_MAX; i++)
        if (stream->buffers[i].handle == handle) return &stream->buffers[i];
    return NULL;
}

size_t count_buffers(const struct stream *stream, enum buffer_state state) {
    size_t count = 0;
    for (int i = 0; i < BUFFERS_MAX; i++) count += stream->buffers[i].handle && stream->buffers[i].state == state;
    return count;
}

size_t count_announced(const struct stream *stream) {
    size_t count = 0;
    for (int i = 0; i < BUFFERS_MAX; i++) count += stream->buffers[i].handle != NULL;
    return count;
}

void set_buffer_state(struct stream *stream, struct buffer *buffer, enum buffer_state state) {
    buffer->state = state;
    buffer->order = ++stream->last_order;
    if (state != BUFFER_READY && state != BUFFER_BORROWED) buffer->new_data = false;
}

struct buffer *oldest_buffer(struct stream *stream, enum buffer_state state) {
    struct buffer *oldest = NULL;
    for (int i = 0; i < BUFFERS_MAX; i++) {
        struct buffer *buffer = &stream->buffers[i];
        if (buffer->handle && buffer->state == state && (!oldest || buffer->order < oldest->order)) oldest = buffer;
    }
    return oldest;
}

/* A frame is written in a millisecond or two, so this wait is short. */
static void wait_for_fill(struct stream *stream) {
    while (count_buffers(stream, BUFFER_FILLING)) pthread_cond_wait(stream->changed, &library_mutex);
}

void stop_stream(struct stream *stream) {
    stream->grabbing = false;
    wait_for_fill(stream);
}

static void forget_buffer(struct buffer *buffer) {
    if (buffer->own_memory) free(buffer->memory);
    memset(buffer, 0, sizeof *buffer);
}

void free_buffers(struct stream *stream) {
    for (int i = 0; i < BUFFERS_MAX; i++) forget_buffer(&stream->buffers[i]);
}

GC_ERROR stream_info(struct camera *camera, int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    const struct stream *stream = &camera->stream;
    char id[32];
    snprintf(id, sizeof id, "%s-stream", camera->serial);
    switch (command) {
        case STREAM_INFO_ID: return answer_text(id, type, buffer, size);
        case STREAM_INFO_NUM_DELIVERED: return answer_uint64(stream->delivered, type, buffer, size);
        case STREAM_INFO_NUM_UNDERRUN: return answer_uint64(stream->underrun, type, buffer, size);
        case STREAM_INFO_NUM_ANNOUNCED: return answer_size(count_announced(stream), type, buffer, size);
        case STREAM_INFO_NUM_QUEUED: return answer_size(count_buffers(stream, BUFFER_QUEUED), type, buffer, size);
        case STREAM_INFO_NUM_AWAIT_DELIVERY:
            return answer_size(count_buffers(stream, BUFFER_READY), type, buffer, size);
        case STREAM_INFO_NUM_STARTED: return answer_uint64(stream->started, type, buffer, size);
        case STREAM_INFO_PAYLOAD_SIZE: return answer_size(payload_bytes(camera), type, buffer, size);
        case STREAM_INFO_IS_GRABBING: return answer_bool(stream->grabbing, type, buffer, size);
        case STREAM_INFO_DEFINES_PAYLOADSIZE: return answer_bool(false, type, buffer, size);
        case STREAM_INFO_TLTYPE: return answer_text(TL_TYPE, type, buffer, size);
        case STREAM_INFO_NUM_CHUNKS_MAX: return answer_size(CHUNK_COUNT, type, buffer, size);
        case STREAM_INFO_BUF_ANNOUNCE_MIN: return answer_size(1, type, buffer, size);
        case STREAM_INFO_BUF_ALIGNMENT: return answer_size(1, type, buffer, size);
        default: return no_answer("stream", command);
    }
}

static GC_ERROR announce(struct stream *stream, void *memory, size_t size, void *user, bool own, BUFFER_HANDLE *handle) {
    for (int i = 0; i < BUFFERS_MAX; i++) {
        struct buffer *buffer = &stream->buffers[i];
        if (buffer->handle) continue;
        *buffer = (struct buffer){.handle = new_handle(), .memory = memory, .size = size, .user = user, .own_memory = own};
        *handle = buffer->handle;
        return GC_ERR_SUCCESS;
    }
    return fail(GC_ERR_RESOURCE_EXHAUSTED, "%d buffers are announced; more are not held", BUFFERS_MAX);
}

GC_ERROR DSAnnounceBuffer(DS_HANDLE handle, void *memory, size_t size, void *user, BUFFER_HANDLE *buffer) {
    LIBRARY_LOCKED;
    struct camera *camera = camera_of_stream(handle);
    if (!camera) return no_handle("stream");
    if (!memory || !size || !buffer) return fail(GC_ERR_INVALID_PARAMETER, "no memory, or no place for the handle");
    for (int i = 0; i < BUFFERS_MAX; i++)
        if (camera->stream.buffers[i].handle && camera->stream.buffers[i].memory == memory)
            return fail(GC_ERR_RESOURCE_IN_USE, "this memory is announced already");
    return announce(&camera->stream, memory, size, user, false, buffer);
}

GC_ERROR DSAllocAndAnnounceBuffer(DS_HANDLE handle, size_t size, void *user, BUFFER_HANDLE *buffer) {
    LIBRARY_LOCKED;
    struct camera *camera = camera_of_stream(handle);
    if (!camera) return no_handle("stream");
    if (!size || !buffer) return fail(GC_ERR_INVALID_PARAMETER, "no size, or no place for the handle");
    void *memory = calloc(1, size);
    if (!memory) return fail(GC_ERR_OUT_OF_MEMORY, "no memory for a buffer of %zu bytes", size);
    const GC_ERROR result = announce(&camera->stream, memory, size, user, true, buffer);
    if (result) free(memory);
    return result;
}

GC_ERROR DSRevokeBuffer(DS_HANDLE handle, BUFFER_HANDLE buffer_handle, void **memory, void **user) {
    LIBRARY_LOCKED;
    struct camera *camera = camera_of_stream(handle);
    if (!camera) return no_handle("stream");
    struct buffer *buffer = find_buffer(&camera->stream, buffer_handle);
    if (buffer && buffer->state == BUFFER_FILLING) {
        wait_for_fill(&camera->stream);
        buffer = camera_of_stream(handle) ? find_buffer(&camera->stream, buffer_handle) : NULL;
    }
    if (!buffer) return fail(GC_ERR_INVALID_HANDLE, "not the handle of an announced buffer");
    if (memory) *memory = buffer->own_memory ? NULL : buffer->memory;
    if (user) *user = buffer->user;
    forget_buffer(buffer);
    return GC_ERR_SUCCESS;
}

GC_ERROR DSQueueBuffer(DS_HANDLE handle, BUFFER_HANDLE buffer_handle) {
    LIBRARY_LOCKED;
    struct camera *camera = camera_of_stream(handle);
    if (!camera) return no_handle("stream");
    struct buffer *buffer = find_buffer(&camera->stream, buffer_handle);
    if (!buffer) return fail(GC_ERR_INVALID_HANDLE, "not the handle of an announced buffer");
    if (buffer->state != BUFFER_IDLE && buffer->state != BUFFER_BORROWED)
        return fail(GC_ERR_INVALID_BUFFER, "the buffer is queued already");
    set_buffer_state(&camera->stream, buffer, BUFFER_QUEUED);
    return GC_ERR_SUCCESS;
}

static void move_all(struct stream *stream, enum buffer_state from, enum buffer_state to) {
    struct buffer *buffer;
    while ((buffer = oldest_buffer(stream, from))) {
        if (to == BUFFER_READY) { /* handed out empty */
            memset(&buffer->frame, 0, sizeof buffer->frame);
            buffer->frame.incomplete = true;
        }
        set_buffer_state(stream, buffer, to);
    }
}

GC_ERROR DSFlushQueue(DS_HANDLE handle, int32_t operation) {
    LIBRARY_LOCKED;
    struct camera *camera = camera_of_stream(handle);
    if (!camera) return no_handle("stream");
    struct stream *stream = &camera->stream;
    if (operation == ACQ_QUEUE_ALL_TO_INPUT || operation == ACQ_QUEUE_ALL_DISCARD) wait_for_fill(stream);
    switch (operation) {
        case ACQ_QUEUE_INPUT_TO_OUTPUT:
            move_all(stream, BUFFER_QUEUED, BUFFER_READY);
            pthread_cond_broadcast(stream->changed);
            break;
        case ACQ_QUEUE_OUTPUT_DISCARD: move_all(stream, BUFFER_READY, BUFFER_IDLE); break;
        case ACQ_QUEUE_ALL_TO_INPUT:
            move_all(stream, BUFFER_READY, BUFFER_QUEUED);
            move_all(stream, BUFFER_BORROWED, BUFFER_QUEUED);
            move_all(stream, BUFFER_IDLE, BUFFER_QUEUED);
            break;
        case ACQ_QUEUE_UNQUEUED_TO_INPUT:
            move_all(stream, BUFFER_IDLE, BUFFER_QUEUED);
            move_all(stream, BUFFER_BORROWED, BUFFER_QUEUED);
            break;
        case ACQ_QUEUE_ALL_DISCARD:
            move_all(stream, BUFFER_QUEUED, BUFFER_IDLE);
            move_all(stream, BUFFER_READY, BUFFER_IDLE);
            break;
        default: return fail(GC_ERR_INVALID_PARAMETER, "queue operation %d is unknown", operation);
    }
    return GC_ERR_SUCCESS;
}

GC_ERROR DSStartAcquisition(DS_HANDLE handle, int32_t flags, uint64_t count) {
    LIBRARY_LOCKED;
    struct camera *camera = camera_of_stream(handle);
    if (!camera) return no_handle("stream");
    if (flags != 0) return fail(GC_ERR_INVALID_PARAMETER, "start flag %d is unknown", flags);
    if (!count) return fail(GC_ERR_INVALID_PARAMETER, "0 frames asked for");
    struct stream *stream = &camera->stream;
    if (stream->grabbing) return fail(GC_ERR_RESOURCE_IN_USE, "the stream is grabbing");
    if (!count_announced(stream)) return fail(GC_ERR_INVALID_BUFFER, "no buffer is announced");
    stream->grabbing = true;
    stream->left = count;
    stream->delivered = stream->underrun = stream->started = 0;
    return GC_ERR_SUCCESS;
}

/* Default and kill are alike: a frame that is being written is finished, no other begins. */
GC_ERROR DSStopAcquisition(DS_HANDLE handle, int32_t flags) {
    LIBRARY_LOCKED;
    struct camera *camera = camera_of_stream(handle);
    if (!camera) return no_handle("stream");
    if (flags != 0 && flags != 1) return fail(GC_ERR_INVALID_PARAMETER, "stop flag %d is unknown", flags);
    stop_stream(&camera->stream);
    return GC_ERR_SUCCESS;
}

GC_ERROR DSGetInfo(DS_HANDLE handle, int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    LIBRARY_LOCKED;
    struct camera *camera = camera_of_stream(handle);
    if (!camera) return no_handle("stream");
    return stream_info(camera, command, type, buffer, size);
}

GC_ERROR DSGetBufferID(DS_HANDLE handle, uint32_t index, BUFFER_HANDLE *buffer) {
    LIBRARY_LOCKED;
    struct camera *camera = camera_of_stream(handle);
    if (!camera) return no_handle("stream");
    if (!buffer) return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    const uint32_t asked = index;
    for (int i = 0; i < BUFFERS_MAX; i++) {
        if (!camera->stream.buffers[i].handle || index-- != 0) continue;
        *buffer = camera->stream.buffers[i].handle;
        return GC_ERR_SUCCESS;
    }
    return fail(GC_ERR_INVALID_INDEX, "buffer %u asked for, %zu are announced", asked, count_announced(&camera->stream));
}

GC_ERROR DSClose(DS_HANDLE handle) {
    LIBRARY_LOCKED;
    struct camera *camera = camera_of_stream(handle);
    if (!camera) return no_handle("stream");
    close_stream(camera);
    return GC_ERR_SUCCESS;
}

GC_ERROR DSGetParentDev(DS_HANDLE handle, DEV_HANDLE *device) {
    LIBRARY_LOCKED;
    const struct camera *camera = camera_of_stream(handle);
    if (!camera) return no_handle("stream");
    if (!device) return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    *device = camera->device;
    return GC_ERR_SUCCESS;
}
