/* The link to the bench: Unix SOCK_SEQPACKET for the words, a mapped file for the pixels. */
#include "bench_link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "library.h"

#define BITS 12

#pragma pack(push, 1)
struct hello { char magic[4]; uint32_t camera; };
struct hello_answer { char magic[4]; uint32_t status, width, height, bits, slots; uint64_t slot_bytes; };
struct exposure_message {
    char magic[4];
    uint32_t camera;
    uint64_t frame_id, start_ns, exposure_ns;
    double gain_db, black_level_dn;
    uint32_t slot, reserved;
};
struct exposure_answer { char magic[4]; uint32_t status; uint64_t frame_id, offset; uint32_t width, height; };
#pragma pack(pop)

_Static_assert(sizeof(struct exposure_message) == 56 && sizeof(struct exposure_answer) == 32, "sizes of the contract");

static const char *setting(const char *name) {
    const char *text = getenv(name);
    return text && *text ? text : NULL;
}

bool bench_is_configured(void) { return setting("LABCTL_BENCH_SOCKET") != NULL; }

static void unmap(struct bench *bench) {
    if (bench->memory) munmap((void *)(uintptr_t)bench->memory, bench->memory_bytes);
    if (bench->memory) close(bench->memory_file);
    bench->memory = NULL;
}

void bench_close(struct bench *bench) {
    unmap(bench);
    if (bench->socket >= 0) close(bench->socket);
    memset(bench, 0, sizeof *bench);
    bench->socket = -1;
}

static bool map_memory(struct bench *bench) {
    const char *path = setting("LABCTL_BENCH_MEMORY");
    struct stat info;
    unmap(bench);
    const int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return false;
    void *memory = MAP_FAILED;
    if (fstat(file, &info) == 0 && info.st_size > 0)
        memory = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) {
        close(file);
        return false;
    }
    bench->memory_file = file;
    bench->memory = memory;
    bench->memory_bytes = (size_t)info.st_size;
    return true;
}

/* Waits for a message. 1: there is one (or the end of the link), 0: too late, -1: told to stop. */
static int wait_for_message(int socket, int64_t deadline_ns, int stop_fd) {
    struct pollfd waits[2] = {{socket, POLLIN, 0}, {stop_fd, POLLIN, 0}};
    for (;;) {
        const int64_t left = deadline_ns - monotonic_ns();
        const int ready = poll(waits, 2, left > 0 ? (int)(left / 1000000) + 1 : 0);
        if (ready < 0 && errno != EINTR) return 0;
        if (waits[1].revents && ready > 0) return -1;
        if (waits[0].revents && ready > 0) return 1;
        if (left <= 0) return 0;
    }
}

/* Connects; the bench may be slow to accept, then its queue is full for a while. */
static int connect_to(const char *path, int64_t deadline_ns) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    const int link = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    while (link >= 0 && connect(link, (struct sockaddr *)&address, sizeof address) != 0) {
        if (errno != EAGAIN || monotonic_ns() >= deadline_ns) {
            const int reason = errno;
            close(link);
            errno = reason;
            return -1;
        }
        poll(NULL, 0, 5);
    }
    return link;
}

bool bench_open(struct bench *bench, int camera, int timeout_ms, int stop_fd, char *why, size_t why_bytes) {
    const char *path = setting("LABCTL_BENCH_SOCKET");
    const int64_t deadline_ns = monotonic_ns() + (int64_t)timeout_ms * 1000000;
    const struct hello hello = {{'L', 'B', 'H', '1'}, (uint32_t)camera};
    struct hello_answer answer;
    bench_close(bench);
    bench->socket = connect_to(path, deadline_ns);
    if (bench->socket < 0) {
        snprintf(why, why_bytes, "no bench at %s: %s", path, strerror(errno));
        return false;
    }
    if (send(bench->socket, &hello, sizeof hello, MSG_NOSIGNAL) != sizeof hello ||
        wait_for_message(bench->socket, deadline_ns, stop_fd) != 1 ||
        recv(bench->socket, &answer, sizeof answer, 0) != sizeof answer || memcmp(answer.magic, "LBH1", 4) != 0)
        snprintf(why, why_bytes, "the bench at %s did not answer the hello of camera %d", path, camera);
    else if (answer.status != 0 || answer.bits != BITS || answer.width < 4 || answer.height < 2 || answer.width > 16384 ||
             answer.height > 16384)
        snprintf(why, why_bytes, "the bench refuses camera %d: status %u, %ux%u, %u bits", camera, answer.status,
                 answer.width, answer.height, answer.bits);
    else if (!map_memory(bench))
        snprintf(why, why_bytes, "the bench's memory (LABCTL_BENCH_MEMORY) cannot be mapped");
    else {
        bench->width = answer.width;
        bench->height = answer.height;
        bench->slots = answer.slots ? answer.slots : 1;
        return true;
    }
    bench_close(bench);
    return false;
}

bool bench_request(struct bench *bench, int camera, const struct bench_request *request) {
    const struct exposure_message message = {
        .magic = {'L', 'B', 'X', '1'}, .camera = (uint32_t)camera, .frame_id = request->frame_id,
        .start_ns = (uint64_t)request->start_ns, .exposure_ns = (uint64_t)request->exposure_ns,
        .gain_db = request->gain_db, .black_level_dn = request->black_level,
        .slot = (uint32_t)(request->frame_id % bench->slots),
    };
    if (send(bench->socket, &message, sizeof message, MSG_NOSIGNAL) == sizeof message) return true;
    bench_close(bench);
    return false;
}

/* The picture that an answer points to; false when it does not lie in the memory. */
static bool locate(struct bench *bench, const struct exposure_answer *answer, struct picture *picture) {
    const uint64_t bytes = (uint64_t)answer->width * answer->height * 2;
    struct stat info;
    if (answer->width != bench->width || answer->height != bench->height || answer->offset % 2) return false;
    /* The file as it is now: reading beyond its end would kill the process. */
    if (fstat(bench->memory_file, &info) != 0) return false;
    const uint64_t file_bytes = (uint64_t)info.st_size;
    if (answer->offset > file_bytes || bytes > file_bytes - answer->offset) return false;
    if (answer->offset + bytes > bench->memory_bytes && !map_memory(bench)) return false;
    *picture = (struct picture){(const uint16_t *)(const void *)(bench->memory + answer->offset), answer->width,
                                answer->height};
    return true;
}

enum bench_result bench_await(struct bench *bench, uint64_t frame_id, int64_t deadline_ns, int stop_fd,
                              struct picture *picture) {
    const int ready = wait_for_message(bench->socket, deadline_ns, stop_fd);
    struct exposure_answer answer = {0};
    if (ready == 1 && recv(bench->socket, &answer, sizeof answer, 0) == sizeof answer &&
        memcmp(answer.magic, "LBX1", 4) == 0 && answer.frame_id == frame_id) {
        if (answer.status == 0 && locate(bench, &answer, picture)) return BENCH_OK;
        if (!bench->memory) bench_close(bench);
        return BENCH_FAILED; /* answered in order, so the link is sound */
    }
    bench_close(bench);
    return ready < 0 ? BENCH_STOPPED : BENCH_FAILED;
}
