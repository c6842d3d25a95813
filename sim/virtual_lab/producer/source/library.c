/* The library as a whole: initialisation, the lock, handles, the error of the last call. */
#include "library.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "answers.h"
#include "system.h"

struct library library;
pthread_mutex_t library_mutex = PTHREAD_MUTEX_INITIALIZER;

static uintptr_t last_handle = 0x1000;
static _Thread_local GC_ERROR last_error;
static _Thread_local char last_text[256];

int library_lock(void) { return pthread_mutex_lock(&library_mutex); }

void library_unlock(const int *held) {
    (void)held;
    pthread_mutex_unlock(&library_mutex);
}

void *new_handle(void) { return (void *)(last_handle += 16); }

GC_ERROR fail(GC_ERROR code, const char *text, ...) {
    va_list arguments;
    va_start(arguments, text);
    vsnprintf(last_text, sizeof last_text, text, arguments);
    va_end(arguments);
    return last_error = code;
}

GC_ERROR no_handle(const char *what) {
    if (!library.initialised) return fail(GC_ERR_NOT_INITIALIZED, "GCInitLib was not called");
    return fail(GC_ERR_INVALID_HANDLE, "not the handle of an open %s", what);
}

int64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#define CAMERA_WHERE(condition)                                      \
    for (int i = 0; handle && i < library.camera_count; i++) {       \
        struct camera *camera = &library.cameras[i];                 \
        if (condition) return camera;                                \
    }                                                                \
    return NULL

struct camera *camera_of_device(const void *handle) { CAMERA_WHERE(camera->device == handle); }
struct camera *camera_of_stream(const void *handle) { CAMERA_WHERE(camera->stream.handle == handle); }
struct camera *camera_of_port(const void *handle) { CAMERA_WHERE(camera->port == handle); }
struct camera *camera_of_event(const void *handle) { CAMERA_WHERE(camera->stream.event == handle); }
struct camera *camera_of_id(const char *handle) { CAMERA_WHERE(strcmp(camera->serial, handle) == 0); }

/* A whole number from the environment, within limits; complains on stderr, since harvesters hides the error text. */
static bool number_from(const char *name, long low, long high, long *value) {
    const char *text = getenv(name);
    if (!text || !*text) return true;
    char *end;
    const long number = strtol(text, &end, 10);
    if (*end || number < low || number > high) {
        fprintf(stderr, "labctl.cti: %s=%s is no whole number from %ld to %ld\n", name, text, low, high);
        return false;
    }
    *value = number;
    return true;
}

/* Made once: a thread may still be waking up from one while the library is initialised again. */
static pthread_cond_t wakes[CAMERAS_MAX], stream_changes[CAMERAS_MAX];

static void make_conditions(void) {
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    for (int i = 0; i < CAMERAS_MAX; i++) {
        pthread_cond_init(&wakes[i], &clock);
        pthread_cond_init(&stream_changes[i], &clock);
    }
    pthread_condattr_destroy(&clock);
}

static void init_camera(struct camera *camera, int index, bool old_names) {
    memset(camera, 0, sizeof *camera);
    camera->index = index;
    camera->old_names = old_names;
    snprintf(camera->serial, sizeof camera->serial, "VLAB%04d", index + 1);
    camera->bench.socket = -1;
    camera->wake = &wakes[index];
    camera->stream.changed = &stream_changes[index];
    camera->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    camera->powered_ns = monotonic_ns();
    camera_reset(camera);
}

GC_ERROR GCInitLib(void) {
    LIBRARY_LOCKED;
    if (library.initialised) return fail(GC_ERR_RESOURCE_IN_USE, "GCInitLib was called before");
    long cameras = 2, old_names = 0;
    long width = 1920, height = 1200;
    if (!number_from("LABCTL_PRODUCER_CAMERAS", 1, CAMERAS_MAX, &cameras) ||
        !number_from("LABCTL_PRODUCER_OLD_NAMES", 0, 1, &old_names) || !sensor_from_environment(&width, &height))
        return fail(GC_ERR_INVALID_VALUE, "a LABCTL_PRODUCER_... variable has a bad value; see stderr");
    static pthread_once_t conditions = PTHREAD_ONCE_INIT;
    pthread_once(&conditions, make_conditions);
    memset(&library, 0, sizeof library);
    library.camera_count = (int)cameras;
    for (int i = 0; i < library.camera_count; i++) {
        init_camera(&library.cameras[i], i, old_names && i == library.camera_count - 1);
        set_sensor(&library.cameras[i], width, height);
    }
    library.initialised = true;
    return GC_ERR_SUCCESS;
}

GC_ERROR GCCloseLib(void) {
    LIBRARY_LOCKED;
    if (!library.initialised) return no_handle("library");
    close_interface();
    library.system = NULL;
    library.initialised = false;
    for (int i = 0; i < library.camera_count; i++) close(library.cameras[i].stop_fd);
    return GC_ERR_SUCCESS;
}

GC_ERROR GCGetInfo(int32_t command, INFO_DATATYPE *type, void *buffer, size_t *size) {
    LIBRARY_LOCKED;
    return system_info(command, type, buffer, size);
}

GC_ERROR GCGetLastError(GC_ERROR *code, char *text, size_t *size) {
    if (code) *code = last_error;
    if (!size) return GC_ERR_INVALID_PARAMETER;
    /* Not answer_text: asking for the last error must not replace it. */
    const char *said = last_error ? last_text : "no error";
    const size_t bytes = strlen(said) + 1;
    if (text && *size < bytes) return GC_ERR_BUFFER_TOO_SMALL;
    if (text) memcpy(text, said, bytes);
    *size = bytes;
    return GC_ERR_SUCCESS;
}
