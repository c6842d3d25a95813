/* Answers of the Get...Info functions. */
#include "answers.h"

#include <string.h>

#include "library.h"

GC_ERROR answer_bytes(const void *value, size_t bytes, void *buffer, size_t *size) {
    if (!size) return fail(GC_ERR_INVALID_PARAMETER, "no place for the size of the answer");
    if (buffer && *size < bytes) return fail(GC_ERR_BUFFER_TOO_SMALL, "%zu bytes offered, %zu needed", *size, bytes);
    *size = bytes;
    if (buffer) memcpy(buffer, value, bytes);
    return GC_ERR_SUCCESS;
}

static GC_ERROR answer(INFO_DATATYPE kind, const void *value, size_t bytes, INFO_DATATYPE *type, void *buffer,
                       size_t *size) {
    if (type) *type = kind;
    return answer_bytes(value, bytes, buffer, size);
}

GC_ERROR answer_text(const char *text, INFO_DATATYPE *type, void *buffer, size_t *size) {
    return answer(INFO_DATATYPE_STRING, text, strlen(text) + 1, type, buffer, size);
}

GC_ERROR answer_bool(bool value, INFO_DATATYPE *type, void *buffer, size_t *size) {
    const bool8_t byte = value;
    return answer(INFO_DATATYPE_BOOL8, &byte, sizeof byte, type, buffer, size);
}

GC_ERROR answer_int32(int32_t value, INFO_DATATYPE *type, void *buffer, size_t *size) {
    return answer(INFO_DATATYPE_INT32, &value, sizeof value, type, buffer, size);
}

GC_ERROR answer_uint32(uint32_t value, INFO_DATATYPE *type, void *buffer, size_t *size) {
    return answer(INFO_DATATYPE_UINT32, &value, sizeof value, type, buffer, size);
}

GC_ERROR answer_uint64(uint64_t value, INFO_DATATYPE *type, void *buffer, size_t *size) {
    return answer(INFO_DATATYPE_UINT64, &value, sizeof value, type, buffer, size);
}

GC_ERROR answer_size(size_t value, INFO_DATATYPE *type, void *buffer, size_t *size) {
    return answer(INFO_DATATYPE_SIZET, &value, sizeof value, type, buffer, size);
}

GC_ERROR answer_pointer(const void *value, INFO_DATATYPE *type, void *buffer, size_t *size) {
    return answer(INFO_DATATYPE_PTR, &value, sizeof value, type, buffer, size);
}

GC_ERROR no_answer(const char *what, int32_t command) {
    return fail(GC_ERR_NOT_AVAILABLE, "the %s has no answer to info command %d", what, command);
}
