/* The exposure thread of a camera: wait for the trigger or the pace, expose, hand the frame over.
 * Everything here runs under the library's lock, except sleeping, talking to the bench and writing pixels. */
#include "camera.h"

#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "chunks.h"
#include "library.h"

#define POLL_NS 20000000          /* how often a waiting camera looks for faults */
#define BENCH_LIMIT_NS 2000000000 /* what the bench may take beyond the exposure */
#define RECONNECT_MS 200
#define TARGET_LEVEL 1800.0 /* DN12 that the automatic functions steer the mean towards */

/* One frame on its way from exposure to buffer. */
struct shot {
    struct frame frame;
    struct exposure used;
    const struct picture *picture; /* NULL: test pattern */
    bool failed;                   /* the bench gave nothing */
};

static bool should_end(struct camera *camera) { return camera->stopping || camera_is_lost(camera); }

static void sleep_until(struct camera *camera, int64_t deadline_ns) {
    const int64_t slice_ns = monotonic_ns() + POLL_NS, until_ns = deadline_ns < slice_ns ? deadline_ns : slice_ns;
    const struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};
    pthread_cond_timedwait(camera->wake, &library_mutex, &until);
}

/* Waits until then, or longer while the camera stalls. False: the acquisition ends. */
static bool wait_until(struct camera *camera, int64_t deadline_ns) {
    for (;;) {
        faults_poll(camera, true);
        if (should_end(camera)) return false;
        const int64_t stall_ns = camera->faults.stall_until_ns;
        const int64_t end_ns = deadline_ns > stall_ns ? deadline_ns : stall_ns;
        if (monotonic_ns() >= end_ns) return true;
        sleep_until(camera, end_ns);
    }
}

static bool is_triggered(const struct camera *camera) { return integer_of(camera, REG_TriggerMode) != 0; }

/* Waits for the moment of the next exposure. False: the acquisition ends. */
static bool wait_for_start(struct camera *camera, int64_t *next_ns) {
    while (is_triggered(camera) && !camera->triggered) {
        camera->waits_for_trigger = true;
        sleep_until(camera, INT64_MAX);
        faults_poll(camera, true);
        if (should_end(camera)) return false;
    }
    camera->waits_for_trigger = false;
    const int64_t now = monotonic_ns();
    if (camera->triggered) {
        camera->triggered = false;
        return wait_until(camera, now + llround(real_of(camera, REG_TriggerDelay) * 1e3));
    }
    const bool paced = integer_of(camera, REG_AcquisitionFrameRateEnable) != 0;
    const int64_t start_ns = paced && *next_ns > now ? *next_ns : now;
    *next_ns = start_ns + (int64_t)(1e9 / real_of(camera, REG_AcquisitionFrameRate));
    return wait_until(camera, start_ns);
}

/* Settings of this exposure: those that stood when the exposure ExposurePipelineDelay before it began. */
static struct exposure settings_in_force(struct camera *camera) {
    const uint64_t delay = (uint64_t)integer_of(camera, REG_ExposurePipelineDelay), now = camera->started;
    camera->settings[now % (DELAY_MAX + 1)] = (struct exposure){
        real_of(camera, REG_ExposureTime), real_of(camera, REG_Gain), real_of(camera, REG_BlackLevel)};
    return camera->settings[(now - (delay < now ? delay : now)) % (DELAY_MAX + 1)];
}

static uint64_t take_frame_id(struct camera *camera) {
    if (camera->faults.duplicate > 0 && camera->next_id > 0) {
        camera->faults.duplicate--;
        return camera->next_id - 1;
    }
    return camera->next_id++;
}

/* Asks the bench; the lock is let go meanwhile, and nobody else touches the link while the thread lives. */
static void begin_at_bench(struct camera *camera, const struct shot *shot) {
    const struct bench_request request = {shot->frame.id, (int64_t)shot->frame.timestamp_ns,
                                          llround(shot->used.time_us * 1e3), shot->used.gain_db, shot->used.black_level};
    if (camera->bench.socket >= 0) bench_request(&camera->bench, camera->index, &request);
}

static bool end_at_bench(struct camera *camera, struct shot *shot, int64_t end_ns, struct picture *picture) {
    enum bench_result result = BENCH_FAILED;
    if (camera->bench.socket >= 0) {
        pthread_mutex_unlock(&library_mutex);
        result = bench_await(&camera->bench, shot->frame.id, end_ns + BENCH_LIMIT_NS, camera->stop_fd, picture);
        pthread_mutex_lock(&library_mutex);
    }
    if (result == BENCH_STOPPED) return false;
    shot->failed = result == BENCH_FAILED;
    shot->picture = picture;
    if (shot->failed) count_up(camera, REG_StatBenchFailures);
    return true;
}

static void reconnect(struct camera *camera) {
    char why[200];
    pthread_mutex_unlock(&library_mutex);
    bench_open(&camera->bench, camera->index, RECONNECT_MS, camera->stop_fd, why, sizeof why);
    pthread_mutex_lock(&library_mutex);
}

/* Exposes and reads out; the pixels are made when a buffer is there. False: the acquisition ends. */
static bool expose(struct camera *camera, struct shot *shot, struct picture *picture) {
    if (bench_is_configured() && camera->bench.socket < 0) reconnect(camera);
    memset(shot, 0, sizeof *shot);
    shot->used = settings_in_force(camera);
    shot->frame.id = take_frame_id(camera);
    const int64_t start_ns = monotonic_ns(), end_ns = start_ns + llround(shot->used.time_us * 1e3);
    shot->frame.timestamp_ns = (uint64_t)start_ns;
    camera->started++;
    camera->stream.started++;
    count_up(camera, REG_StatFramesStarted);
    if (bench_is_configured()) begin_at_bench(camera, shot);
    if (!wait_until(camera, end_ns)) {
        bench_close(&camera->bench); /* its answer is to come, and must not be taken for a later one */
        return false;
    }
    if (bench_is_configured() && !end_at_bench(camera, shot, end_ns, picture)) return false;
    const double late_ms = camera->faults.late_ms;
    camera->faults.late_ms = 0;
    return wait_until(camera, monotonic_ns() + llround(late_ms * 1e6));
}

static void steer_automatics(struct camera *camera, double mean) {
    const double ratio = fmin(fmax(TARGET_LEVEL / fmax(mean, 1), 0.5), 2);
    if (integer_of(camera, REG_ExposureAuto))
        set_real(camera, REG_ExposureTime, real_of(camera, REG_ExposureTime) * ratio);
    if (integer_of(camera, REG_GainAuto)) {
        set_real(camera, REG_Gain, real_of(camera, REG_Gain) + 20 * log10(ratio));
        camera->values[REG_GainRaw].integer = lround(real_of(camera, REG_Gain) * 10);
    }
}

/* Writes the frame into a buffer that the stream gave; the lock is let go meanwhile. */
static void fill(struct camera *camera, struct shot *shot, struct buffer *buffer) {
    const struct renderer *renderer = &camera->renderer;
    struct frame *frame = &shot->frame;
    const size_t row_bytes = renderer->width * renderer->format->bits / 8;
    size_t rows = renderer->height;
    bool cut = false;
    if (camera->faults.incomplete > 0) {
        camera->faults.incomplete--;
        cut = true;
        rows /= 2;
    }
    if (shot->failed) rows = 0;
    if (rows * row_bytes > buffer->size) rows = buffer->size / row_bytes;
    uint8_t *memory = buffer->memory;
    const bool automatic = !shot->failed && (integer_of(camera, REG_ExposureAuto) || integer_of(camera, REG_GainAuto));

    pthread_mutex_unlock(&library_mutex);
    render(renderer, shot->picture, frame->id, rows, memory);
    const double mean = automatic ? mean_level(renderer, shot->picture, frame->id) : 0;
    pthread_mutex_lock(&library_mutex);

    if (automatic) steer_automatics(camera, mean);
    frame->pixel_format = renderer->format->code;
    frame->width = renderer->width;
    frame->height = renderer->height;
    frame->offset_x = renderer->offset_x;
    frame->offset_y = renderer->offset_y;
    frame->image_bytes = frame->payload_bytes = renderer->height * row_bytes;
    frame->filled_bytes = rows * row_bytes;
    frame->larger_than_buffer = bytes_with_chunks(camera, frame->image_bytes) > buffer->size;
    frame->incomplete = cut || shot->failed || frame->larger_than_buffer;
    if (!frame->incomplete) append_chunks(camera, &shot->used, frame, memory, buffer->size);
}

/* Puts the frame into a queued buffer. False: there was none, or the frame got lost on the way. */
static bool deliver(struct camera *camera, struct shot *shot) {
    struct stream *stream = &camera->stream;
    struct buffer *buffer = stream->grabbing ? oldest_buffer(stream, BUFFER_QUEUED) : NULL;
    if (camera->faults.drop > 0) {
        camera->faults.drop--;
        count_up(camera, REG_StatDropped);
    } else if (!stream->grabbing) {
        count_up(camera, REG_StatDiscarded);
    } else if (!buffer) {
        stream->underrun++;
        count_up(camera, REG_StatUnderrun);
    } else {
        const int64_t begun_ns = monotonic_ns();
        set_buffer_state(stream, buffer, BUFFER_FILLING);
        fill(camera, shot, buffer);
        camera->readout_ns = monotonic_ns() - begun_ns;
        buffer->frame = shot->frame;
        buffer->new_data = true;
        set_buffer_state(stream, buffer, BUFFER_READY);
        stream->delivered++;
        count_up(camera, REG_StatDelivered);
        if (shot->frame.incomplete) count_up(camera, REG_StatIncomplete);
        if (stream->left != GENTL_INFINITE && --stream->left == 0) stream->grabbing = false;
        return true;
    }
    return false;
}

/* Frames that this acquisition may have; 0: any number. */
static uint64_t frame_limit(const struct camera *camera) {
    switch (integer_of(camera, REG_AcquisitionMode)) {
        case 1: return 1;
        case 2: return (uint64_t)integer_of(camera, REG_AcquisitionFrameCount);
        default: return 0;
    }
}

static void *run(void *argument) {
    struct camera *camera = argument;
    struct shot shot;
    struct picture picture;
    prctl(PR_SET_TIMERSLACK, 1000ul); /* wake up within a microsecond, not 50 */
    pthread_mutex_lock(&library_mutex);
    const uint64_t limit = frame_limit(camera);
    int64_t next_ns = 0;
    while (wait_for_start(camera, &next_ns)) {
        if (!expose(camera, &shot, &picture)) {
            count_up(camera, REG_StatDiscarded);
            break;
        }
        /* A sensor is read out whether or not there is a buffer; else a starved camera would spin. */
        if (!deliver(camera, &shot) && !wait_until(camera, monotonic_ns() + camera->readout_ns)) break;
        /* The lock is held from here until wait_for_start waits: who gets this frame may trigger the next at once. */
        pthread_cond_broadcast(camera->stream.changed);
        if (limit && camera->started >= limit) break;
    }
    camera->waits_for_trigger = false;
    camera->finished = true;
    pthread_mutex_unlock(&library_mutex);
    return NULL;
}

static void forget_statistics(struct camera *camera) {
    static const int counters[] = {REG_StatFramesStarted, REG_StatDelivered, REG_StatIncomplete, REG_StatUnderrun,
                                   REG_StatDropped, REG_StatDiscarded, REG_StatTriggersAccepted, REG_StatTriggersMissed,
                                   REG_StatBenchFailures};
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++) camera->values[counters[i]].integer = 0;
}

GC_ERROR camera_start(struct camera *camera) {
    if (camera->run == RUN_ON && camera->finished) camera_stop(camera);
    if (camera->run != RUN_IDLE) return fail(GC_ERR_BUSY, "camera %s is acquiring", camera->serial);
    if (!renderer_open(&camera->renderer, camera)) return fail(GC_ERR_OUT_OF_MEMORY, "no memory for the acquisition");
    forget_statistics(camera);
    camera->next_id = camera->started = 0;
    camera->stopping = camera->finished = camera->triggered = false;
    camera->waits_for_trigger = is_triggered(camera);
    /* Signals belong to the consumer's own threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const bool runs = pthread_create(&camera->thread, NULL, run, camera) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!runs) return fail(GC_ERR_RESOURCE_EXHAUSTED, "no thread for the acquisition");
    camera->run = RUN_ON;
    return GC_ERR_SUCCESS;
}

void camera_stop(struct camera *camera) {
    while (camera->run == RUN_ENDING) pthread_cond_wait(camera->wake, &library_mutex);
    if (camera->run == RUN_IDLE) return;
    camera->run = RUN_ENDING;
    camera->stopping = true;
    pthread_cond_broadcast(camera->wake);
    const uint64_t one = 1;
    uint64_t drained;
    if (write(camera->stop_fd, &one, sizeof one) != sizeof one) return; /* cannot be: the counter is far from full */
    pthread_mutex_unlock(&library_mutex);
    pthread_join(camera->thread, NULL);
    pthread_mutex_lock(&library_mutex);
    if (read(camera->stop_fd, &drained, sizeof drained) < 0) drained = 0;
    renderer_close(&camera->renderer);
    camera->run = RUN_IDLE;
    pthread_cond_broadcast(camera->wake);
}

void camera_trigger(struct camera *camera) {
    const bool hears = camera->run == RUN_ON && camera->waits_for_trigger && !camera->triggered &&
                       is_triggered(camera) && integer_of(camera, REG_TriggerSource) == 0;
    count_up(camera, hears ? REG_StatTriggersAccepted : REG_StatTriggersMissed);
    if (!hears) return;
    camera->triggered = true;
    camera->waits_for_trigger = false;
    pthread_cond_broadcast(camera->wake);
}

void camera_reset(struct camera *camera) {
    camera_stop(camera);
    faults_clear(camera);
    reset_registers(camera);
}

bool camera_is_lost(struct camera *camera) {
    faults_poll(camera, camera->device != NULL);
    const bool lost = faults_lost(camera);
    if (lost && camera->device) camera->gone = true;
    return lost;
}
