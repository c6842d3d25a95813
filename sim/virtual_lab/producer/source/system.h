/* What the modules above the cameras tell about themselves, for Get...Info and for their ports. */
#ifndef LABCTL_SYSTEM_H
#define LABCTL_SYSTEM_H

#include <stdbool.h>

#include "gentl.h"

struct camera;

GC_ERROR system_info(int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size);
GC_ERROR interface_info(int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size);
GC_ERROR device_info(struct camera *camera, int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size);

/* Sensor size by LABCTL_PRODUCER_SENSOR=WIDTHxHEIGHT; untouched when unset. False: a bad value. */
bool sensor_from_environment(long *width, long *height);
bool sensor_is_set(void);

#endif
