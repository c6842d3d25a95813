/* Faults on demand.
 *
 * The control file, named by LABCTL_PRODUCER_FAULTS, has lines `serial name value`. It is read when it has changed, at
 * every exposure and every node access, under flock, and a line is taken out of it as it acts. Lines about a lost
 * camera stay while it is lost, so that a consumer's next process finds it lost too:
 * FaultLost 1 until somebody writes FaultLost 0; FaultLostSeconds becomes FaultLostUntil with a CLOCK_MONOTONIC time. */
#include "faults.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "library.h"

#define FILE_BYTES 65536

/* Losses that nodes asked for; they outlive GCInitLib, since an unplugged camera stays unplugged. */
static int64_t lost_by_node_until_ns[CAMERAS_MAX];

static int64_t after(double seconds) { return monotonic_ns() + (int64_t)(seconds * 1e9); }

bool faults_set(struct camera *camera, const char *name, double value) {
    struct faults *faults = &camera->faults;
    if (strcmp(name, "FaultDropNext") == 0) faults->drop = (int64_t)value;
    else if (strcmp(name, "FaultIncompleteNext") == 0) faults->incomplete = (int64_t)value;
    else if (strcmp(name, "FaultDuplicateId") == 0) faults->duplicate = (int64_t)value;
    else if (strcmp(name, "FaultLateNext") == 0) faults->late_ms = value;
    else if (strcmp(name, "FaultNodeHangSeconds") == 0) faults->hang_s = value;
    else if (strcmp(name, "FaultStallSeconds") == 0) faults->stall_until_ns = after(value);
    else if (strcmp(name, "FaultLostSeconds") == 0) lost_by_node_until_ns[camera->index] = after(value);
    else if (strcmp(name, "FaultLost") == 0) lost_by_node_until_ns[camera->index] = value != 0 ? INT64_MAX : 0;
    else return false;
    return true;
}

bool faults_lost(const struct camera *camera) {
    const int64_t now = monotonic_ns();
    return camera->faults.lost_by_file || now < camera->faults.lost_until_ns ||
           now < lost_by_node_until_ns[camera->index];
}

void faults_clear(struct camera *camera) { memset(&camera->faults, 0, sizeof camera->faults); }

struct text { char bytes[FILE_BYTES]; size_t length; };

static void keep(struct text *kept, const char *line) {
    const int room = (int)(sizeof kept->bytes - kept->length);
    const int written = snprintf(kept->bytes + kept->length, (size_t)room, "%s\n", line);
    if (written < room) kept->length += (size_t)written;
}

/* Acts on one line and keeps it, keeps it changed, or drops it. */
static void take_line(struct camera *camera, char *line, bool open, struct text *kept) {
    struct faults *faults = &camera->faults;
    char serial[32], name[64];
    double value;
    if (sscanf(line, "%31s %63s %lf", serial, name, &value) != 3 || strcmp(serial, camera->serial) != 0) {
        if (*line) keep(kept, line);
        return;
    }
    if (strcmp(name, "FaultLost") == 0) {
        faults->lost_by_file = value != 0;
        if (faults->lost_by_file) keep(kept, line);
        else faults->lost_until_ns = lost_by_node_until_ns[camera->index] = 0;
    } else if (strcmp(name, "FaultLostSeconds") == 0) {
        char until[128];
        faults->lost_until_ns = after(value);
        snprintf(until, sizeof until, "%s FaultLostUntil %lld", serial, (long long)faults->lost_until_ns);
        keep(kept, until);
    } else if (strcmp(name, "FaultLostUntil") == 0) {
        faults->lost_until_ns = (int64_t)value;
        if (monotonic_ns() < faults->lost_until_ns) keep(kept, line);
    } else if (!open) {
        faults->lines_waiting = true;
        keep(kept, line);
    } else if (!faults_set(camera, name, value)) {
        fprintf(stderr, "labctl.cti: control file: no fault is called %s\n", name);
    }
}

/* A later FaultLost 0 ends what stood before it: the kept lines about this camera's loss go. */
static bool loss_is_over(const struct camera *camera, const char *line) {
    char serial[32], name[64];
    if (sscanf(line, "%31s %63s", serial, name) != 2 || strcmp(serial, camera->serial) != 0) return false;
    return (strcmp(name, "FaultLost") == 0 && !camera->faults.lost_by_file) ||
           (strcmp(name, "FaultLostUntil") == 0 && camera->faults.lost_until_ns == 0);
}

static void replace_content(int file, const char *content, size_t length) {
    if (ftruncate(file, 0) != 0 || pwrite(file, content, length, 0) != (ssize_t)length)
        fprintf(stderr, "labctl.cti: the control file of faults cannot be written\n");
}

static void read_file(struct camera *camera, int file, bool open) {
    char content[FILE_BYTES + 1];
    const ssize_t length = pread(file, content, FILE_BYTES, 0);
    if (length < 0) return;
    content[length] = '\0';
    static struct text kept, final; /* under the library's lock */
    kept.length = final.length = 0;
    camera->faults.lines_waiting = camera->faults.lost_by_file = false;
    camera->faults.lost_until_ns = 0;
    char copy[FILE_BYTES + 1], *rest = copy, *line;
    memcpy(copy, content, (size_t)length + 1);
    while ((line = strsep(&rest, "\n"))) take_line(camera, line, open, &kept);
    kept.bytes[kept.length] = '\0';
    rest = kept.bytes;
    while ((line = strsep(&rest, "\n")))
        if (*line && !loss_is_over(camera, line)) keep(&final, line);
    if (final.length != (size_t)length || memcmp(final.bytes, content, final.length) != 0)
        replace_content(file, final.bytes, final.length);
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

void faults_poll(struct camera *camera, bool open_camera) {
    const char *path = getenv("LABCTL_PRODUCER_FAULTS");
    struct faults *faults = &camera->faults;
    struct stat now;
    if (!path || !*path || stat(path, &now) != 0) return;
    if (same_file(&now, &faults->seen) && !(faults->lines_waiting && open_camera)) return;
    const int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    if (flock(file, LOCK_EX) == 0) {
        read_file(camera, file, open_camera);
        fstat(file, &faults->seen);
    }
    close(file); /* lets go of the lock too */
}
