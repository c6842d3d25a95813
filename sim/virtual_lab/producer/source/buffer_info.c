/* What a buffer holds: DSGetBufferInfo, chunks, parts. */
#include <string.h>

#include "answers.h"
#include "library.h"

static GC_ERROR find(const void *stream, const void *handle, struct buffer **buffer) {
    struct camera *camera = camera_of_stream(stream);
    if (!camera) return no_handle("stream");
    *buffer = find_buffer(&camera->stream, handle);
    return *buffer ? GC_ERR_SUCCESS : fail(GC_ERR_INVALID_HANDLE, "not the handle of an announced buffer");
}

static GC_ERROR frame_info(const struct buffer *buffer, int32_t command, INFO_DATATYPE *type, void *out, size_t *size) {
    const struct frame *frame = &buffer->frame;
    const bool has_image = frame->image_bytes > 0;
    switch (command) {
        case BUFFER_INFO_TIMESTAMP:
        case BUFFER_INFO_TIMESTAMP_NS: return answer_uint64(frame->timestamp_ns, type, out, size);
        case BUFFER_INFO_IS_INCOMPLETE: return answer_bool(frame->incomplete, type, out, size);
        case BUFFER_INFO_SIZE_FILLED: return answer_size(frame->filled_bytes, type, out, size);
        case BUFFER_INFO_DATA_SIZE: return answer_size(frame->payload_bytes, type, out, size);
        case BUFFER_INFO_WIDTH: return answer_size(frame->width, type, out, size);
        case BUFFER_INFO_HEIGHT:
        case BUFFER_INFO_DELIVERED_IMAGEHEIGHT: return answer_size(frame->height, type, out, size);
        case BUFFER_INFO_XOFFSET: return answer_size(frame->offset_x, type, out, size);
        case BUFFER_INFO_YOFFSET: return answer_size(frame->offset_y, type, out, size);
        case BUFFER_INFO_XPADDING:
        case BUFFER_INFO_YPADDING:
        case BUFFER_INFO_IMAGEOFFSET: return answer_size(0, type, out, size);
        case BUFFER_INFO_FRAMEID: return answer_uint64(frame->id, type, out, size);
        case BUFFER_INFO_IMAGEPRESENT: return answer_bool(has_image, type, out, size);
        case BUFFER_INFO_PAYLOADTYPE: return answer_size(PAYLOAD_TYPE_IMAGE, type, out, size);
        case BUFFER_INFO_PIXELFORMAT: return answer_uint64(frame->pixel_format, type, out, size);
        case BUFFER_INFO_PIXELFORMAT_NAMESPACE: return answer_uint64(PIXELFORMAT_NAMESPACE_PFNC_32BIT, type, out, size);
        case BUFFER_INFO_PIXEL_ENDIANNESS: return answer_int32(PIXELENDIANNESS_LITTLE, type, out, size);
        case BUFFER_INFO_DELIVERED_CHUNKPAYLOADSIZE: return answer_size(8 * frame->chunk_count, type, out, size);
        case BUFFER_INFO_CHUNKLAYOUTID: return answer_uint64(frame->chunk_count, type, out, size);
        case BUFFER_INFO_CONTAINS_CHUNKDATA: return answer_bool(frame->chunk_count > 0, type, out, size);
        case BUFFER_INFO_DATA_LARGER_THAN_BUFFER: return answer_bool(frame->larger_than_buffer, type, out, size);
        default: return no_answer("buffer", command);
    }
}

GC_ERROR DSGetBufferInfo(DS_HANDLE stream, BUFFER_HANDLE handle, int32_t command, INFO_DATATYPE *type, void *out,
                         size_t *size) {
    LIBRARY_LOCKED;
    struct buffer *buffer = NULL;
    const GC_ERROR found = find(stream, handle, &buffer);
    if (found) return found;
    switch (command) {
        case BUFFER_INFO_BASE: return answer_pointer(buffer->memory, type, out, size);
        case BUFFER_INFO_SIZE: return answer_size(buffer->size, type, out, size);
        case BUFFER_INFO_USER_PTR: return answer_pointer(buffer->user, type, out, size);
        case BUFFER_INFO_NEW_DATA: return answer_bool(buffer->new_data, type, out, size);
        case BUFFER_INFO_IS_QUEUED: return answer_bool(buffer->state == BUFFER_QUEUED, type, out, size);
        case BUFFER_INFO_IS_ACQUIRING: return answer_bool(buffer->state == BUFFER_FILLING, type, out, size);
        case BUFFER_INFO_TLTYPE: return answer_text(TL_TYPE, type, out, size);
        default: break;
    }
    if (buffer->state == BUFFER_FILLING) return fail(GC_ERR_BUSY, "a frame is being written into the buffer");
    return frame_info(buffer, command, type, out, size);
}

GC_ERROR DSGetBufferChunkData(DS_HANDLE stream, BUFFER_HANDLE handle, SINGLE_CHUNK_DATA *chunks, size_t *count) {
    LIBRARY_LOCKED;
    struct buffer *buffer = NULL;
    const GC_ERROR found = find(stream, handle, &buffer);
    if (found) return found;
    if (!count) return fail(GC_ERR_INVALID_PARAMETER, "no place for the number of chunks");
    if (buffer->state == BUFFER_FILLING) return fail(GC_ERR_BUSY, "a frame is being written into the buffer");
    const struct frame *frame = &buffer->frame;
    if (chunks && *count < frame->chunk_count)
        return fail(GC_ERR_BUFFER_TOO_SMALL, "room for %zu chunks, there are %zu", *count, frame->chunk_count);
    if (chunks) memcpy(chunks, frame->chunks, frame->chunk_count * sizeof *chunks);
    *count = frame->chunk_count;
    return GC_ERR_SUCCESS;
}

/* A frame is one plain image, never multi-part. */
GC_ERROR DSGetNumBufferParts(DS_HANDLE stream, BUFFER_HANDLE handle, uint32_t *count) {
    LIBRARY_LOCKED;
    struct buffer *buffer = NULL;
    const GC_ERROR found = find(stream, handle, &buffer);
    if (found) return found;
    if (!count) return fail(GC_ERR_INVALID_PARAMETER, "no place for the count");
    *count = 0;
    return GC_ERR_SUCCESS;
}

GC_ERROR DSGetBufferPartInfo(DS_HANDLE stream, BUFFER_HANDLE handle, uint32_t part, int32_t command,
                             INFO_DATATYPE *type, void *out, size_t *size) {
    LIBRARY_LOCKED;
    (void)command, (void)type, (void)out, (void)size;
    struct buffer *buffer = NULL;
    const GC_ERROR found = find(stream, handle, &buffer);
    return found ? found : fail(GC_ERR_INVALID_INDEX, "part %u asked for, frames have no parts", part);
}
