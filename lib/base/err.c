/*
 * err.c - filling an error without allocating.
 *
 * An error is written exactly when memory or time may already be gone, so everything happens in the
 * caller's ps_err. A text that is too long is cut at a character boundary: error texts travel into
 * HTTP answers, logs and PostgreSQL messages, all of which want valid UTF-8.
 */
#include "lib/base/base.h"

#include <stdio.h>

/* Shortens text of len bytes so that it does not end inside a character that the cut split. */
static size_t
drop_partial_character(const char *text, size_t len)
{
    size_t start = len;
    while (start > 0 && len - start < 4 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
        start--;
    if (start == 0)
        return len;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    return len - (start - 1) < need ? start - 1 : len;
}

PS_PRINTF(4, 0)
static void
fill(ps_err *err, ps_status code, int32_t offset, const char *fmt, va_list args)
{
    err->code = code;
    err->offset = offset;
    err->text[0] = '\0';
    int n = vsnprintf(err->text, sizeof err->text, fmt, args);
    if (n >= (int)sizeof err->text)
        err->text[drop_partial_character(err->text, sizeof err->text - 1)] = '\0';
}

ps_status
ps_fail(ps_err *err, ps_status code, const char *fmt, ...)
{
    if (err != NULL) {
        va_list args;
        va_start(args, fmt);
        fill(err, code, -1, fmt, args);
        va_end(args);
    }
    return code;
}

ps_status
ps_fail_at(ps_err *err, ps_status code, size_t offset, const char *fmt, ...)
{
    if (err != NULL) {
        va_list args;
        va_start(args, fmt);
        fill(err, code, offset > INT32_MAX ? INT32_MAX : (int32_t)offset, fmt, args);
        va_end(args);
    }
    return code;
}

const char *
ps_status_name(ps_status status)
{
    switch (status) {
    case PS_OK:
        return "ok";
    case PS_EINVAL:
        return "invalid";
    case PS_ENOMEM:
        return "out of memory";
    case PS_ELIMIT:
        return "limit";
    case PS_ECORRUPT:
        return "corrupt";
    case PS_EUNSUPPORTED:
        return "unsupported";
    case PS_ENOTFOUND:
        return "not found";
    case PS_ECONFLICT:
        return "conflict";
    case PS_ETIMEOUT:
        return "timeout";
    case PS_ECANCELED:
        return "canceled";
    case PS_EUNAVAILABLE:
        return "unavailable";
    case PS_EINTERNAL:
        return "internal";
    case PS_STATUS_MAX:
        break;
    }
    return "unknown";
}
