/* Events: a new buffer on a data stream. No other event is offered. */
#include <string.h>
#include <time.h>

#include "answers.h"
#include "library.h"
#include "system.h"

static bool is_known_module(const void *handle) {
    return handle && (handle == library.system || handle == library.interface || camera_of_device(handle) ||
                      camera_of_port(handle) || camera_of_stream(handle));
}

GC_ERROR GCRegisterEvent(EVENTSRC_HANDLE source, int32_t event_type, EVENT_HANDLE *event) {
    LIBRARY_LOCKED;
    if (!is_known_module(source)) return no_handle("module");
    if (!event) return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    struct camera *camera = camera_of_stream(source);
    if (!camera || event_type != EVENT_NEW_BUFFER)
        return fail(GC_ERR_NOT_IMPLEMENTED, "event %d is not offered by this module", event_type);
    if (camera->stream.event) return fail(GC_ERR_RESOURCE_IN_USE, "the event is registered");
    camera->stream.kills = 0;
    camera->stream.fired = 0;
    *event = camera->stream.event = new_handle();
    return GC_ERR_SUCCESS;
}

GC_ERROR GCUnregisterEvent(EVENTSRC_HANDLE source, int32_t event_type) {
    LIBRARY_LOCKED;
    if (!is_known_module(source)) return no_handle("module");
    struct camera *camera = camera_of_stream(source);
    if (!camera || event_type != EVENT_NEW_BUFFER || !camera->stream.event)
        return fail(GC_ERR_INVALID_PARAMETER, "event %d is not registered", event_type);
    camera->stream.event = NULL;
    pthread_cond_broadcast(camera->stream.changed);
    return GC_ERR_SUCCESS;
}

/* Waits for a change of the stream. False: the time is over. */
static bool wait_for_change(struct stream *stream, int64_t deadline_ns) {
    if (deadline_ns == INT64_MAX) return pthread_cond_wait(stream->changed, &library_mutex) == 0;
    const struct timespec until = {deadline_ns / 1000000000, deadline_ns % 1000000000};
    return pthread_cond_timedwait(stream->changed, &library_mutex, &until) == 0;
}

GC_ERROR EventGetData(EVENT_HANDLE event, void *buffer, size_t *size, uint64_t timeout_ms) {
    LIBRARY_LOCKED;
    struct camera *camera = camera_of_event(event);
    if (!camera) return no_handle("event");
    if (!size) return fail(GC_ERR_INVALID_PARAMETER, "no place for the size");
    if (buffer && *size < sizeof(EVENT_NEW_BUFFER_DATA))
        return fail(GC_ERR_BUFFER_TOO_SMALL, "%zu bytes offered, %zu needed", *size, sizeof(EVENT_NEW_BUFFER_DATA));
    *size = sizeof(EVENT_NEW_BUFFER_DATA);
    if (!buffer) return GC_ERR_SUCCESS;
    struct stream *stream = &camera->stream;
    const uint64_t for_ever = (uint64_t)INT64_MAX / 2000000;
    const int64_t deadline_ns = timeout_ms > for_ever ? INT64_MAX : monotonic_ns() + (int64_t)timeout_ms * 1000000;
    bool in_time = true;
    for (;;) {
        struct buffer *ready = oldest_buffer(stream, BUFFER_READY);
        if (stream->kills) {
            stream->kills--;
            return fail(GC_ERR_ABORT, "EventKill ended the wait");
        }
        if (ready) {
            const EVENT_NEW_BUFFER_DATA data = {ready->handle, ready->user};
            memcpy(buffer, &data, sizeof data);
            set_buffer_state(stream, ready, BUFFER_BORROWED);
            stream->fired++;
            return GC_ERR_SUCCESS;
        }
        if (!in_time || timeout_ms == 0) return fail(GC_ERR_TIMEOUT, "no frame came within %llu ms", (unsigned long long)timeout_ms);
        in_time = wait_for_change(stream, deadline_ns);
        if (camera_of_event(event) != camera) return fail(GC_ERR_ABORT, "the event was unregistered during the wait");
    }
}

GC_ERROR EventGetDataInfo(EVENT_HANDLE event, const void *data, size_t data_size, int32_t command, INFO_DATATYPE *type,
                          void *buffer, size_t *size) {
    LIBRARY_LOCKED;
    if (!camera_of_event(event)) return no_handle("event");
    if (!data || data_size < sizeof(EVENT_NEW_BUFFER_DATA)) return fail(GC_ERR_INVALID_PARAMETER, "not the data of an event");
    EVENT_NEW_BUFFER_DATA held;
    memcpy(&held, data, sizeof held);
    switch (command) {
        case EVENT_DATA_ID: return answer_pointer(held.buffer, type, buffer, size);
        case EVENT_DATA_VALUE: return answer_pointer(held.user_pointer, type, buffer, size);
        default: return no_answer("event", command);
    }
}

GC_ERROR EventGetInfo(EVENT_HANDLE event, int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    LIBRARY_LOCKED;
    struct camera *camera = camera_of_event(event);
    if (!camera) return no_handle("event");
    switch (command) {
        case EVENT_EVENT_TYPE: return answer_int32(EVENT_NEW_BUFFER, type, buffer, size);
        case EVENT_NUM_IN_QUEUE: return answer_size(count_buffers(&camera->stream, BUFFER_READY), type, buffer, size);
        case EVENT_NUM_FIRED: return answer_uint64(camera->stream.fired, type, buffer, size);
        case EVENT_SIZE_MAX:
        case EVENT_INFO_DATA_SIZE_MAX: return answer_size(sizeof(EVENT_NEW_BUFFER_DATA), type, buffer, size);
        default: return no_answer("event", command);
    }
}

/* The buffers behind the events go back to the pool of announced ones. */
GC_ERROR EventFlush(EVENT_HANDLE event) {
    LIBRARY_LOCKED;
    struct camera *camera = camera_of_event(event);
    if (!camera) return no_handle("event");
    struct buffer *ready;
    while ((ready = oldest_buffer(&camera->stream, BUFFER_READY))) set_buffer_state(&camera->stream, ready, BUFFER_IDLE);
    return GC_ERR_SUCCESS;
}

GC_ERROR EventKill(EVENT_HANDLE event) {
    LIBRARY_LOCKED;
    struct camera *camera = camera_of_event(event);
    if (!camera) return no_handle("event");
    camera->stream.kills++;
    pthread_cond_broadcast(camera->stream.changed);
    return GC_ERR_SUCCESS;
}
