/* The floor under framed echo: both ends in C over a Unix socket, nothing but system calls.
 *
 *   echo server PATH
 *   echo ping PATH SIZE COUNT            prints ns of one round trip
 *   echo pipe PATH SIZE COUNT WINDOW     prints frames a second, WINDOW frames under way
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { PREFIX = 8, READ_BYTES = 256 << 10 };

static void die(const char *what) { perror(what); exit(1); }

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int unix_socket(const char *path, struct sockaddr_un *address) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    strncpy(address->sun_path, path, sizeof address->sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0) die("socket");
    return fd;
}

static void write_all(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0) exit(0); /* the client is gone */
        data += n, size -= n;
    }
}

/* Bytes of the complete frames at the start of the buffer. */
static size_t complete(const char *data, size_t size, size_t *missing) {
    size_t at = 0;
    *missing = 0;
    while (size - at >= PREFIX) {
        uint64_t length;
        memcpy(&length, data + at, PREFIX);
        if (length > size - at - PREFIX) {
            *missing = length + PREFIX;
            break;
        }
        at += PREFIX + length;
    }
    return at;
}

static void serve(int fd) {
    size_t room = READ_BYTES, got = 0, missing;
    char *data = malloc(room);
    for (;;) {
        ssize_t n = read(fd, data + got, room - got);
        if (n <= 0) break;
        got += n;
        size_t done = complete(data, got, &missing);
        write_all(fd, data, done);
        memmove(data, data + done, got -= done);
        if (missing > room) data = realloc(data, room = missing);
    }
    free(data);
    close(fd);
}

static int server(const char *path) {
    struct sockaddr_un address;
    int fd = unix_socket(path, &address);
    if (bind(fd, (void *)&address, sizeof address) || listen(fd, 8)) die("listen");
    for (;;) serve(accept(fd, NULL, NULL));
}

static char *frames(size_t size, size_t count) {
    char *data = malloc((PREFIX + size) * count);
    for (size_t i = 0; i < count; i++) {
        uint64_t length = size;
        memcpy(data + i * (PREFIX + size), &length, PREFIX);
        memset(data + i * (PREFIX + size) + PREFIX, 'x', size);
    }
    return data;
}

static void ping(int fd, size_t size, long count) {
    size_t whole = PREFIX + size;
    char *out = frames(size, 1), *in = malloc(whole);
    double start = 0;
    for (long i = -count / 10; i < count; i++) {
        if (i == 0) start = now_ns();
        write_all(fd, out, whole);
        for (size_t got = 0; got < whole;) {
            ssize_t n = read(fd, in + got, whole - got);
            if (n <= 0) die("read");
            got += n;
        }
    }
    if (memcmp(in, out, whole)) die("another frame came back");
    printf("%.1f\n", (now_ns() - start) / count);
}

static void pipe_through(int fd, size_t size, long count, long window) {
    size_t whole = PREFIX + size, total = whole * count, most = whole * window;
    size_t sent = 0, got = 0;
    char *out = frames(size, window), *in = malloc(READ_BYTES);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    double start = now_ns();
    while (got < total) {
        size_t limit = got + most < total ? got + most : total;
        while (sent < limit) {
            size_t at = sent % most, part = most - at;
            ssize_t n = write(fd, out + at, part < limit - sent ? part : limit - sent);
            if (n < 0) {
                if (errno == EAGAIN) break;
                die("write");
            }
            sent += n;
        }
        struct pollfd ready = {fd, POLLIN | (sent < limit ? POLLOUT : 0), 0};
        poll(&ready, 1, -1);
        if (!(ready.revents & (POLLIN | POLLHUP))) continue;
        ssize_t n = read(fd, in, READ_BYTES);
        if (n == 0 || (n < 0 && errno != EAGAIN)) die("read");
        if (n > 0) got += n;
    }
    printf("%.1f\n", count / (now_ns() - start) * 1e9);
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "server")) return server(argv[2]);
    if (argc < 5) return 2;
    struct sockaddr_un address;
    int fd = unix_socket(argv[2], &address);
    if (connect(fd, (void *)&address, sizeof address)) die("connect");
    if (!strcmp(argv[1], "ping")) ping(fd, atol(argv[3]), atol(argv[4]));
    else pipe_through(fd, atol(argv[3]), atol(argv[4]), atol(argv[5]));
    return 0;
}
