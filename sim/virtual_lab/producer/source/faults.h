/* Faults on demand, by nodes or by lines in a control file. See the package's docstring for what each does. */
#ifndef LABCTL_FAULTS_H
#define LABCTL_FAULTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct camera;

struct faults {
    int64_t drop, incomplete, duplicate; /* frames still to be hit */
    double late_ms, hang_s;
    int64_t stall_until_ns;
    struct stat seen;   /* the control file when it was last read */
    bool lines_waiting; /* it holds lines for this camera that are for an open camera */
    bool lost_by_file;
    int64_t lost_until_ns;
};

/* Sets one fault by its name. False: no such fault. */
bool faults_set(struct camera *camera, const char *name, double value);

/* Reads the control file if it has changed. `open`: take out the lines that act on an open camera. */
void faults_poll(struct camera *camera, bool open);

bool faults_lost(const struct camera *camera);
void faults_clear(struct camera *camera);

#endif
