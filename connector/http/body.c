/*
 * body.c - bodies in memory: one buffer per request, all of them together under one limit.
 *
 * The buffer has the size that Content-Length announces (so bytes are copied once); a chunked body
 * grows by doubling. What counts against the common limit is what has arrived, in steps: announcing
 * much and sending nothing takes no room from others, since untouched pages are not memory.
 */
#include <stdlib.h>

#include "connector/http/internal.h"

enum { STEP_BYTES = 256 * 1024, FIRST_CHUNKED = 64 * 1024 };

static bool
reserve(http_request *r, size_t bytes)
{
    http_server *s = r->server;

    if (bytes <= r->body_reserved)
        return true;
    size_t more = bytes - r->body_reserved;
    pthread_mutex_lock(&s->lock);
    bool ok = s->body_bytes + (int64_t)more <= s->body_pool_bytes;
    if (ok)
        s->body_bytes += (int64_t)more;
    pthread_mutex_unlock(&s->lock);
    if (ok)
        r->body_reserved += more;
    return ok;
}

static size_t
min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

ps_status
http_body_begin(http_request *r)
{
    bool chunked = r->content_length == SIZE_MAX;
    size_t limit = r->route->max_body_bytes;

    if (!chunked && r->content_length > limit)
        return PS_ELIMIT;
    r->body_cap = chunked ? min_size(limit, FIRST_CHUNKED) : r->content_length;
    if (r->body_cap == 0)
        return PS_OK;
    if (!reserve(r, min_size(r->body_cap, STEP_BYTES)))
        return PS_EUNAVAILABLE;
    r->body = malloc(r->body_cap);
    return r->body ? PS_OK : PS_EUNAVAILABLE;
}

ps_status
http_body_add(http_request *r, const char *data, size_t len)
{
    size_t limit = r->route->max_body_bytes;

    if (len > limit - r->body_len)
        return PS_ELIMIT;
    if (r->body_len + len > r->body_cap) {
        /* Only chunked bodies come here: the library hands out no more than was announced. */
        size_t cap = r->body_cap ? r->body_cap : 1;
        while (cap < r->body_len + len)
            cap *= 2;
        cap = min_size(cap, limit);
        char *body = realloc(r->body, cap);
        if (body == NULL)
            return PS_EUNAVAILABLE;
        r->body = body;
        r->body_cap = cap;
    }
    size_t need = (r->body_len + len + STEP_BYTES - 1) / STEP_BYTES * STEP_BYTES;
    if (!reserve(r, min_size(need, r->body_cap)))
        return PS_EUNAVAILABLE;
    memcpy(r->body + r->body_len, data, len);
    r->body_len += len;
    return PS_OK;
}

void
http_body_free(http_request *r)
{
    http_server *s = r->server;

    free(r->body);
    r->body = NULL;
    r->body_len = r->body_cap = 0;
    if (r->body_reserved == 0)
        return;
    pthread_mutex_lock(&s->lock);
    s->body_bytes -= (int64_t)r->body_reserved;
    pthread_mutex_unlock(&s->lock);
    r->body_reserved = 0;
}
