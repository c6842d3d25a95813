/* The link to the bench, which renders what the sensor sees. One connection per open camera; see the package's
 * docstring for the messages. Without LABCTL_BENCH_SOCKET there is no bench and the camera shows its test pattern. */
#ifndef LABCTL_BENCH_LINK_H
#define LABCTL_BENCH_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bench {
    int socket; /* -1: not connected */
    int64_t width, height;
    uint32_t slots;
    int memory_file;
    const uint8_t *memory;
    size_t memory_bytes;
};

/* A whole sensor, row by row, in the bench's memory. */
struct picture { const uint16_t *dn; size_t width, height; };

struct bench_request { uint64_t frame_id; int64_t start_ns, exposure_ns; double gain_db, black_level; };

enum bench_result { BENCH_OK, BENCH_FAILED, BENCH_STOPPED };

bool bench_is_configured(void);

/* Connects and asks for the sensor. False, with the reason in `why`. A readable `stop_fd` (or -1) ends the wait. */
bool bench_open(struct bench *bench, int camera, int timeout_ms, int stop_fd, char *why, size_t why_bytes);
void bench_close(struct bench *bench);

/* Tells the bench that an exposure begins. False: it cannot be reached. */
bool bench_request(struct bench *bench, int camera, const struct bench_request *request);

/* Waits until `deadline_ns` for the answer to the last request. Whatever goes wrong closes the link, so that a late
 * answer can never be taken for that of another exposure. */
enum bench_result bench_await(struct bench *bench, uint64_t frame_id, int64_t deadline_ns, int stop_fd,
                              struct picture *picture);

#endif
