/* One virtual camera: registers, settings in force, exposure thread, faults, link to the bench, and its stream. */
#ifndef LABCTL_CAMERA_H
#define LABCTL_CAMERA_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench_link.h"
#include "faults.h"
#include "registers.h"
#include "rendering.h"
#include "stream.h"

#define DELAY_MAX 16

/* What an exposure is made with. */
struct exposure { double time_us, gain_db, black_level; };

enum run_state { RUN_IDLE, RUN_ON, RUN_ENDING };

struct camera {
    int index;
    char serial[16];
    bool old_names;
    void *device, *port; /* handles; NULL while closed */
    bool gone;           /* lost since it was opened: dead until opened again */
    union value values[REG_COUNT];
    uint32_t chunks_off; /* bit per chunk in the order of CHUNKS */
    int64_t powered_ns;

    pthread_t thread;
    enum run_state run;
    bool stopping, finished; /* finished: the thread ended by itself and waits to be joined */
    bool waits_for_trigger, triggered;
    pthread_cond_t *wake;
    int stop_fd; /* readable while stopping: ends a wait for the bench */

    uint64_t next_id, started;
    int64_t readout_ns; /* what it took to write the last frame */
    struct exposure settings[DELAY_MAX + 1]; /* of the last exposures, by started % (DELAY_MAX + 1) */
    struct renderer renderer;
    struct faults faults;
    struct bench bench;
    struct stream stream;
};

void camera_reset(struct camera *camera);

/* AcquisitionStart and AcquisitionStop. The lock is let go while the thread is joined. */
GC_ERROR camera_start(struct camera *camera);
void camera_stop(struct camera *camera);
void camera_trigger(struct camera *camera);

/* True while the camera is unplugged; from then on an open one is `gone`. Reads the control file. */
bool camera_is_lost(struct camera *camera);

#endif
