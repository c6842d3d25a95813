/* All state of the producer in this process, the one lock over it, handles, and the error of the last call.
 *
 * One lock guards everything. A call takes it at its top (LIBRARY_LOCKED) and gives it back on every way out. What
 * takes long (rendering a frame, waiting for the bench, joining a camera's thread) is done without it.
 * Handles are numbers that are never used twice, looked up at each call: a stale one is an error, never a crash. */
#ifndef LABCTL_LIBRARY_H
#define LABCTL_LIBRARY_H

#include <pthread.h>
#include <stdbool.h>

#include "camera.h"
#include "gentl.h"
#include "stream.h"

#define CAMERAS_MAX 8
#define TL_TYPE "Custom"
#define VENDOR "labctl"
#define VERSION "1.0"
#define SYSTEM_ID "labctl-virtual"
#define INTERFACE_ID "labctl-bench"

struct library {
    bool initialised;
    void *system, *interface; /* handles; NULL while closed */
    int camera_count;
    unsigned listed; /* bit per camera: in the list since the last IFUpdateDeviceList */
    struct camera cameras[CAMERAS_MAX];
};

extern struct library library;
extern pthread_mutex_t library_mutex;

void library_unlock(const int *held);
int library_lock(void);
#define LIBRARY_LOCKED __attribute__((cleanup(library_unlock), unused)) const int library_held = library_lock()

/* A handle that this process has not used before. */
void *new_handle(void);

/* Notes why a call fails, for GCGetLastError of this thread, and returns `code`. */
GC_ERROR fail(GC_ERROR code, const char *text, ...) __attribute__((format(printf, 2, 3)));

/* NOT_INITIALIZED or INVALID_HANDLE. */
GC_ERROR no_handle(const char *what);

struct camera *camera_of_device(const void *handle);
struct camera *camera_of_stream(const void *handle);
struct camera *camera_of_port(const void *handle);
struct camera *camera_of_event(const void *handle);
struct camera *camera_of_id(const char *id); /* id or serial number */

/* Closes what is open below, as TLClose and GCCloseLib do. */
void close_stream(struct camera *camera);
void close_device(struct camera *camera);
void close_interface(void);

int64_t monotonic_ns(void);

#endif
