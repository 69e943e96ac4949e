/*
 * listen.c - "host:port" to a listening socket, with errors that say what to do.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connector/http/internal.h"

enum { BACKLOG = 511 };

/* Splits at the last colon; "[::1]:9201" loses its brackets. */
static ps_status
split_address(const char *address, char *host, size_t cap, const char **ret_port, ps_err *err)
{
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : 0;

    if (colon == NULL || colon[1] == 0 || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        strlen(colon + 1) > 5 || len >= cap)
        return ps_fail(err, PS_EINVAL,
                       "listen address \"%.80s\" is not host:port (like 127.0.0.1:9201)", address);
    if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    } else if (memchr(address, ':', len) != NULL) {
        return ps_fail(err, PS_EINVAL,
                       "listen address \"%.80s\": an IPv6 address stands in brackets ([::1]:9201)",
                       address);
    }
    memcpy(host, address, len);
    host[len] = 0;
    *ret_port = colon + 1;
    return PS_OK;
}

static int
listen_on(const struct addrinfo *ai)
{
    int one = 1, zero = 0;
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static void
bound_text(int fd, char *text, size_t cap)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    char host[64] = "?", port[8] = "?";

    if (getsockname(fd, (struct sockaddr *)&sa, &len) == 0)
        getnameinfo((struct sockaddr *)&sa, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(text, cap, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

ps_status
http_listen(const char *address, int *ret_fd, char *text, size_t cap, ps_err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *list = NULL;
    char host[128];
    const char *port = NULL;
    int fd = -1, saved = EADDRNOTAVAIL;

    PS_TRY(split_address(address, host, sizeof(host), &port, err));
    int rc = getaddrinfo(host[0] ? host : NULL, port, &hints, &list);
    if (rc != 0)
        return ps_fail(err, PS_EINVAL, "listen address \"%.80s\": %s", address, gai_strerror(rc));
    /* IPv6 first where no host is named: that socket takes IPv4 too. */
    for (int pass = 0; pass < 2 && fd < 0; pass++) {
        for (const struct addrinfo *ai = list; ai != NULL && fd < 0; ai = ai->ai_next) {
            if ((ai->ai_family == AF_INET6) != (pass == 0 && host[0] == 0) && host[0] == 0)
                continue;
            fd = listen_on(ai);
            saved = fd < 0 ? errno : saved;
        }
    }
    freeaddrinfo(list);
    if (fd < 0 && saved == EADDRINUSE)
        return ps_fail(
            err, PS_EUNAVAILABLE,
            "%.80s is already in use: another program, perhaps another promscale, listens there. Stop it or "
            "choose another address with --web.listen-address",
            address);
    if (fd < 0)
        return ps_fail(err, PS_EUNAVAILABLE, "cannot listen on %.80s: %s", address,
                       strerror(saved));
    bound_text(fd, text, cap);
    *ret_fd = fd;
    return PS_OK;
}
