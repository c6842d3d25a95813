/* Answers of the Get...Info functions: type, size, two-call idiom. Call one and return what it returns. */
#ifndef LABCTL_ANSWERS_H
#define LABCTL_ANSWERS_H

#include <stdbool.h>

#include "gentl.h"

GC_ERROR answer_text(const char *text, INFO_DATATYPE *type, void *buffer, size_t *size);
GC_ERROR answer_bool(bool value, INFO_DATATYPE *type, void *buffer, size_t *size);
GC_ERROR answer_int32(int32_t value, INFO_DATATYPE *type, void *buffer, size_t *size);
GC_ERROR answer_uint32(uint32_t value, INFO_DATATYPE *type, void *buffer, size_t *size);
GC_ERROR answer_uint64(uint64_t value, INFO_DATATYPE *type, void *buffer, size_t *size);
GC_ERROR answer_size(size_t value, INFO_DATATYPE *type, void *buffer, size_t *size);
GC_ERROR answer_pointer(const void *value, INFO_DATATYPE *type, void *buffer, size_t *size);

/* Copies `bytes` bytes by the two-call idiom: no buffer, the size is told; too small, BUFFER_TOO_SMALL. */
GC_ERROR answer_bytes(const void *value, size_t bytes, void *buffer, size_t *size);

/* NOT_AVAILABLE for a command that this module does not answer. */
GC_ERROR no_answer(const char *what, int32_t command);

#endif
