/*
 * log.h - one line per event, written at the edge where an error is handled: logfmt or JSON on stderr.
 * Never credentials. Thread-safe (one write(2) per line).
 *
 *   log_info(lg, "flush failed, retrying", LOG_STR("sqlstate", s), LOG_INT("requests", n));
 */
#ifndef PROMSCALE_CONNECTOR_LOG_H
#define PROMSCALE_CONNECTOR_LOG_H

#include "lib/base/base.h"

typedef enum log_level { LOG_ERROR = 0, LOG_WARN, LOG_INFO, LOG_DEBUG } log_level;
typedef struct logger logger;

typedef struct log_field {
    const char *key;
    enum { LOG_FIELD_STR, LOG_FIELD_INT, LOG_FIELD_DOUBLE } type;
    ps_str s;
    int64_t i;
    double d;
} log_field;

#define LOG_STR(k, v) ((log_field){.key = (k), .type = LOG_FIELD_STR, .s = ps_str_c(v)})
#define LOG_SLICE(k, v) ((log_field){.key = (k), .type = LOG_FIELD_STR, .s = (v)})
#define LOG_INT(k, v) ((log_field){.key = (k), .type = LOG_FIELD_INT, .i = (int64_t)(v)})
#define LOG_DOUBLE(k, v) ((log_field){.key = (k), .type = LOG_FIELD_DOUBLE, .d = (v)})

/* fd is borrowed (2 = stderr). format: "logfmt" or "json"; level: "error" ... "debug". */
ps_status log_new(int fd, const char *format, const char *level, logger **ret,
                  ps_err *err) PS_MUST_CHECK;
void log_free(logger *lg);
bool log_enabled(const logger *lg, log_level level);
void log_fields(logger *lg, log_level level, const char *msg, const log_field *fields, size_t n);
/* Same message at most once per interval_ms; says how many were left out ("suppressed"). */
void log_limited(logger *lg, log_level level, int64_t interval_ms, const char *msg,
                 const log_field *fields, size_t n);

#define LOG_AT(lg, level, msg, ...)                                                                \
    do {                                                                                           \
        if (log_enabled((lg), (level))) {                                                          \
            const log_field log_f_[] = {__VA_ARGS__};                                              \
            log_fields((lg), (level), (msg), log_f_, sizeof(log_f_) / sizeof(log_field));          \
        }                                                                                          \
    } while (0)
#define log_error(lg, msg, ...) LOG_AT(lg, LOG_ERROR, msg, __VA_ARGS__)
#define log_warn(lg, msg, ...) LOG_AT(lg, LOG_WARN, msg, __VA_ARGS__)
#define log_info(lg, msg, ...) LOG_AT(lg, LOG_INFO, msg, __VA_ARGS__)
#define log_debug(lg, msg, ...) LOG_AT(lg, LOG_DEBUG, msg, __VA_ARGS__)

#endif
