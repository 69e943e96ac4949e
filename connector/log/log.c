/*
 * log.c - one event, one line, one write(2).
 *
 * A line is built on the caller's stack in a fixed buffer and written whole, so threads never interleave
 * and logging never allocates. Too long values are cut ("..."); bytes that are not UTF-8 become '?', so
 * that nothing a client sends can forge a line or break a JSON reader.
 */
#include "connector/log/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096, VALUE_MAX_BYTES = 1024, LIMIT_SLOTS = 64 };

typedef struct limit_slot { /* of log_limited, one per message text */
    uint64_t hash;
    int64_t last_ms;
    int64_t suppressed;
} limit_slot;

struct logger {
    int fd;
    bool json;
    log_level level;
    pthread_mutex_t lock; /* guards slots only */
    limit_slot slots[LIMIT_SLOTS];
};

typedef struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
    bool json;
} line;

static const char *const level_names[] = {"error", "warn", "info", "debug"};

ps_status
log_new(int fd, const char *format, const char *level, logger **ret, ps_err *err)
{
    size_t lv = 0;

    while (lv < PS_ARRAY_LEN(level_names) && strcmp(level_names[lv], level) != 0)
        lv++;
    if (lv == PS_ARRAY_LEN(level_names))
        return ps_fail(err, PS_EINVAL, "log level \"%.32s\" is not one of error, warn, info, debug",
                       level);
    bool json = strcmp(format, "json") == 0;
    if (!json && strcmp(format, "logfmt") != 0)
        return ps_fail(err, PS_EINVAL, "log format \"%.32s\" is neither logfmt nor json", format);
    logger *lg = calloc(1, sizeof(*lg));
    if (lg == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory for the log");
    lg->fd = fd;
    lg->json = json;
    lg->level = (log_level)lv;
    pthread_mutex_init(&lg->lock, NULL);
    *ret = lg;
    return PS_OK;
}

void
log_free(logger *lg)
{
    if (lg == NULL)
        return;
    pthread_mutex_destroy(&lg->lock);
    free(lg);
}

bool
log_enabled(const logger *lg, log_level level)
{
    return lg != NULL && level <= lg->level;
}

/* ---- building a line: room is kept for the end ("}\n") ------------------------------------- */

static void
put(line *l, const char *bytes, size_t len)
{
    size_t room = sizeof(l->text) - 4 - l->len;

    if (len > room)
        len = room;
    memcpy(l->text + l->len, bytes, len);
    l->len += len;
}

static void
put_c(line *l, const char *text)
{
    put(l, text, strlen(text));
}

static void
put_escaped_char(line *l, unsigned char c)
{
    char hex[8];

    if (c == '"' || c == '\\') {
        char pair[2] = {'\\', (char)c};
        put(l, pair, 2);
    } else if (c == '\n') {
        put_c(l, "\\n");
    } else if (c == '\t') {
        put_c(l, "\\t");
    } else if (c < 0x20 || c == 0x7f) {
        put(l, hex, (size_t)snprintf(hex, sizeof(hex), "\\u%04x", c));
    } else {
        put(l, (const char *)&c, 1);
    }
}

static void
put_quoted(line *l, ps_str s)
{
    size_t shown = s.len <= VALUE_MAX_BYTES ? s.len : ps_utf8_prefix(s, VALUE_MAX_BYTES);
    bool valid = ps_utf8_valid((ps_str){s.ptr, shown});

    put_c(l, "\"");
    for (size_t i = 0; i < shown && l->len + 32 < sizeof(l->text); i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        put_escaped_char(l, !valid && c >= 0x80 ? '?' : c);
    }
    put_c(l, shown < s.len ? "...\"" : "\"");
}

static bool
is_bare(ps_str s) /* may stand without quotes in logfmt */
{
    if (s.len == 0 || s.len > VALUE_MAX_BYTES)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= 0x7f)
            return false;
    }
    return true;
}

static void
put_key(line *l, const char *key)
{
    if (l->json) {
        put_c(l, l->len == 0 ? "{\"" : ",\"");
        put_c(l, key);
        put_c(l, "\":");
    } else {
        if (l->len > 0)
            put_c(l, " ");
        put_c(l, key);
        put_c(l, "=");
    }
}

static void
put_str(line *l, const char *key, ps_str value)
{
    if (sizeof(l->text) - l->len < 128 + strlen(key))
        return; /* full: the field is left out whole, so that the line stays well-formed */
    put_key(l, key);
    if (!l->json && is_bare(value) && l->len + value.len + 64 < sizeof(l->text))
        put(l, value.ptr, value.len);
    else
        put_quoted(l, value);
}

static void
put_number(line *l, const log_field *f)
{
    char text[PS_DOUBLE_TEXT + 16];
    size_t len;

    if (sizeof(l->text) - l->len < 128 + strlen(f->key))
        return;
    put_key(l, f->key);
    if (f->type == LOG_FIELD_INT) {
        len = (size_t)snprintf(text, sizeof(text), "%lld", (long long)f->i);
        put(l, text, len);
        return;
    }
    len = ps_format_double(text, f->d);
    bool finite = f->d - f->d == 0;
    if (l->json && !finite)
        put_c(l, "\"");
    put(l, text, len);
    if (l->json && !finite)
        put_c(l, "\"");
}

static void
put_time(line *l)
{
    struct timespec now;
    struct tm tm;
    char text[64];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    len += (size_t)snprintf(text + len, sizeof(text) - len, ".%03dZ", (int)(now.tv_nsec / 1000000));
    put_str(l, "ts", (ps_str){text, len});
}

static void
write_line(logger *lg, log_level level, const char *msg, const log_field *fields, size_t n,
           int64_t suppressed)
{
    line l;

    l.len = 0;
    l.json = lg->json;
    put_time(&l);
    put_str(&l, "level", ps_str_c(level_names[level]));
    put_str(&l, "msg", ps_str_c(msg));
    for (size_t i = 0; i < n; i++) {
        if (fields[i].type == LOG_FIELD_STR)
            put_str(&l, fields[i].key, fields[i].s);
        else
            put_number(&l, &fields[i]);
    }
    if (suppressed > 0)
        put_number(&l, &(log_field){.key = "suppressed", .type = LOG_FIELD_INT, .i = suppressed});
    if (l.json)
        l.text[l.len++] = '}';
    l.text[l.len++] = '\n';
    ssize_t done;
    do
        done = write(lg->fd, l.text, l.len);
    while (done < 0 && errno == EINTR); /* nowhere to report a failing log */
}

void
log_fields(logger *lg, log_level level, const char *msg, const log_field *fields, size_t n)
{
    if (log_enabled(lg, level))
        write_line(lg, level, msg, fields, n, 0);
}

static int64_t
monotonic_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The slot of this message, or the one idle longest. */
static limit_slot *
find_slot(logger *lg, uint64_t hash)
{
    limit_slot *oldest = &lg->slots[0];

    for (size_t i = 0; i < LIMIT_SLOTS; i++) {
        if (lg->slots[i].hash == hash)
            return &lg->slots[i];
        if (lg->slots[i].last_ms < oldest->last_ms)
            oldest = &lg->slots[i];
    }
    *oldest = (limit_slot){.hash = hash, .last_ms = INT64_MIN};
    return oldest;
}

void
log_limited(logger *lg, log_level level, int64_t interval_ms, const char *msg,
            const log_field *fields, size_t n)
{
    if (!log_enabled(lg, level))
        return;
    int64_t now = monotonic_ms();
    uint64_t hash = ps_hash64(ps_str_c(msg), 1) | 1; /* 0 marks an empty slot */
    pthread_mutex_lock(&lg->lock);
    limit_slot *slot = find_slot(lg, hash);
    bool quiet = slot->last_ms != INT64_MIN && now - slot->last_ms < interval_ms;
    int64_t suppressed = quiet ? 0 : slot->suppressed;
    if (quiet) {
        slot->suppressed++;
    } else {
        slot->last_ms = now;
        slot->suppressed = 0;
    }
    pthread_mutex_unlock(&lg->lock);
    if (!quiet)
        write_line(lg, level, msg, fields, n, suppressed);
}
