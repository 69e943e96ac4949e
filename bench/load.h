/*
 * load.h - what generators of load share: a connection, a request on it, its answer.
 *
 * HTTP/1.1 over a kept connection, remote write 1.0 in snappy, blocking; loopback only. An answer's body is read
 * and dropped. The including program has `die`.
 */
#ifndef PROMSCALE_BENCH_LOAD_H
#define PROMSCALE_BENCH_LOAD_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/base.h"

typedef struct load_server {
    char host[64];
    int port;
    const char *path;
} load_server;

static _Noreturn void die(const char *what);

static inline void
load_parse_url(load_server *ret, const char *url)
{
    const char *slash;

    if (strncmp(url, "http://", 7) != 0 ||
        sscanf(url, "http://%63[^:]:%d", ret->host, &ret->port) != 2)
        die("--url http://127.0.0.1:PORT/api/v1/write");
    slash = strchr(url + 7, '/');
    ret->path = slash ? slash : "/api/v1/write";
}

static inline int
load_dial(const load_server *to)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)to->port)};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || inet_pton(AF_INET, to->host, &addr.sin_addr) != 1)
        die("bad address");
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static inline bool
load_send_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

/* Status of the answer, -1 if the connection broke. */
static inline int
load_answer(int fd)
{
    char buf[16384];
    size_t n = 0;
    char *end = NULL;
    int status;
    long body_len = 0;

    while (end == NULL) {
        ssize_t k = recv(fd, buf + n, sizeof(buf) - 1 - n, 0);

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return -1;
        n += (size_t)k;
        buf[n] = 0;
        end = strstr(buf, "\r\n\r\n");
        if (end == NULL && n == sizeof(buf) - 1)
            return -1;
    }
    if (sscanf(buf, "HTTP/1.%*d %d", &status) != 1)
        return -1;
    {
        char *cl = strcasestr(buf, "\r\ncontent-length:");

        if (cl != NULL && cl < end)
            body_len = strtol(cl + 17, NULL, 10);
    }
    body_len -= (long)(n - (size_t)(end + 4 - buf));
    if (status != 204 && status != 200 && status != 503)
        fprintf(stderr, "answered %d: %.200s\n", status, end + 4);
    while (body_len > 0) {
        ssize_t k = recv(fd, buf, sizeof(buf), 0);

        if (k <= 0)
            return -1;
        body_len -= k;
    }
    return status;
}

static inline bool
load_send(int fd, const load_server *to, ps_str body)
{
    char head[512];
    int n = snprintf(head, sizeof(head),
                     "POST %s HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: application/x-protobuf\r\n"
                     "Content-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n"
                     "User-Agent: promscale-bench\r\nContent-Length: %zu\r\n\r\n",
                     to->path, to->host, to->port, body.len);

    return fd >= 0 && load_send_all(fd, head, (size_t)n) && load_send_all(fd, body.ptr, body.len);
}

#endif
