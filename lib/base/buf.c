/*
 * buf.c - a growing byte buffer whose failure sticks.
 *
 * Writers append dozens of pieces; checking each would hide what they write. So the first append
 * that finds no memory, or would pass the limit, sets `failed`, nothing is appended from then on,
 * and the writer looks once at its end. A failed append leaves what was there before it unchanged.
 *
 * Invariants: len <= cap; len <= max if max is set (cap may be one larger, for vsnprintf's NUL).
 */
#include "lib/base/base.h"

#include <stdio.h>

enum { FIRST_CAPACITY = 64 };

void
ps_buf_init(ps_buf *buf, const ps_alloc *alloc)
{
    *buf = (ps_buf){.alloc = *alloc};
}

void
ps_buf_done(ps_buf *buf)
{
    ps_alloc_free(&buf->alloc, buf->ptr, buf->cap);
    buf->ptr = NULL;
    buf->len = 0;
    buf->cap = 0;
    buf->failed = false;
}

void
ps_buf_clear(ps_buf *buf)
{
    buf->len = 0;
    buf->failed = false;
}

/* Room for `more` bytes of content and `slack` bytes behind it that do not count for the limit. */
static bool
reserve(ps_buf *buf, size_t more, size_t slack)
{
    size_t len;
    size_t need;
    if (buf->failed)
        return false;
    if (!ps_add_size(buf->len, more, &len) || !ps_add_size(len, slack, &need) ||
        (buf->max != 0 && len > buf->max))
        goto failed;
    if (need <= buf->cap)
        return true;
    size_t cap = buf->cap < FIRST_CAPACITY ? FIRST_CAPACITY : buf->cap;
    if (cap > SIZE_MAX / 2)
        cap = need;
    else if (buf->cap != 0)
        cap *= 2;
    if (buf->max != 0 && cap > buf->max)
        cap = buf->max;
    if (cap < need)
        cap = need;
    char *grown = buf->alloc.realloc(buf->alloc.self, buf->ptr, buf->cap, cap);
    if (grown == NULL)
        goto failed;
    buf->ptr = grown;
    buf->cap = cap;
    return true;

failed:
    buf->failed = true;
    return false;
}

bool
ps_buf_reserve(ps_buf *buf, size_t more)
{
    return reserve(buf, more, 0);
}

void
ps_buf_add(ps_buf *buf, const void *bytes, size_t len)
{
    if (len == 0 || !reserve(buf, len, 0))
        return;
    memcpy(buf->ptr + buf->len, bytes, len);
    buf->len += len;
}

void
ps_buf_add_str(ps_buf *buf, ps_str s)
{
    ps_buf_add(buf, s.ptr, s.len);
}

void
ps_buf_add_c(ps_buf *buf, const char *nul_terminated)
{
    ps_buf_add_str(buf, ps_str_c(nul_terminated));
}

void
ps_buf_add_char(ps_buf *buf, char c)
{
    ps_buf_add(buf, &c, 1);
}

void
ps_buf_addv(ps_buf *buf, const char *fmt, va_list args)
{
    if (buf->failed)
        return;
    va_list again;
    va_copy(again, args);
    size_t spare = buf->cap - buf->len;
    int n = vsnprintf(spare > 0 ? buf->ptr + buf->len : NULL, spare, fmt, args);
    if (n < 0)
        buf->failed = true;
    else if (reserve(buf, (size_t)n, 1)) {
        if ((size_t)n >= spare)
            vsnprintf(buf->ptr + buf->len, (size_t)n + 1, fmt, again);
        buf->len += (size_t)n;
    }
    va_end(again);
}

void
ps_buf_addf(ps_buf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    ps_buf_addv(buf, fmt, args);
    va_end(args);
}

ps_str
ps_buf_str(const ps_buf *buf)
{
    return (ps_str){buf->ptr, buf->len};
}
