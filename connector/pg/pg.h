/*
 * pg.h - libpq, the little that we need of it: connect, run, wait, and tell errors apart.
 *
 * Nothing here owns a thread or a lock; a PGconn belongs to one thread at a time.
 */
#ifndef PROMSCALE_CONNECTOR_PG_H
#define PROMSCALE_CONNECTOR_PG_H

#include <libpq-fe.h>

#include "connector/config/settings.h"
#include "connector/log/log.h"
#include "lib/base/base.h"

/* db.* settings as a libpq keyword/value string (a URI is taken apart, so that what follows may be
 * appended to it). */
ps_status pg_conninfo(const settings *s, ps_buf *out, ps_err *err) PS_MUST_CHECK;

/* What an SQLSTATE means for the one who sent the data. */
typedef enum pg_verdict {
    PG_VERDICT_RETRY,      /* connection lost, server starting, deadlock, out of resources */
    PG_VERDICT_GENERATION, /* PS001: the catalog moved on */
    PG_VERDICT_DATA,       /* classes 22, 54, a CHECK: this data will never go in */
    PG_VERDICT_BUG         /* anything else: retried, and said loudly */
} pg_verdict;
/* res may be NULL: then the connection is lost. */
pg_verdict pg_verdict_of(const PGresult *res, const PGconn *conn);
/* The same by SQLSTATE ("" or NULL: none was given). */
pg_verdict pg_verdict_of_state(const char *sqlstate);
/* RETRY: PS_EUNAVAILABLE, GENERATION: PS_ECONFLICT, DATA: PS_EINVAL, BUG: PS_EINTERNAL. */
ps_status pg_status_of(pg_verdict verdict);

/* Connects with a deadline; sets synchronous_commit=on, standard_conforming_strings, client_encoding
 * UTF8, DateStyle ISO, TimeZone UTC, bytea hex, and as application_name the conninfo's (or
 * "promscale") followed by the role: "promscale flusher 0". Password never in the error text. */
ps_status pg_connect(const char *conninfo, const char *role, int64_t timeout_ms, PGconn **ret,
                     ps_err *err) PS_MUST_CHECK;

/* ---- running statements without getting stuck ---------------------------------------------- */

typedef struct pg_wait {
    int cancel_fd;       /* give up when this becomes readable; -1 = none */
    int64_t deadline_ns; /* CLOCK_MONOTONIC; INT64_MAX = none */
} pg_wait;

int64_t pg_now_ns(void); /* CLOCK_MONOTONIC */

/* The next result of what was sent, *ret NULL after the last one. PS_ETIMEOUT, PS_ECANCELED and
 * PS_EUNAVAILABLE leave the connection in the middle of something: close it. */
ps_status pg_next_result(PGconn *conn, const pg_wait *wait, PGresult **ret,
                         ps_err *err) PS_MUST_CHECK;
/* Sends what libpq still holds (non-blocking connections). */
ps_status pg_flush_out(PGconn *conn, const pg_wait *wait, ps_err *err) PS_MUST_CHECK;

/* The next row of a COPY TO that has begun; *ret is the caller's to PQfreemem, NULL after the last one
 * (then go on with pg_next_result). Errors as above. */
ps_status pg_next_copy_row(PGconn *conn, const pg_wait *wait, char **ret, size_t *ret_len,
                           ps_err *err) PS_MUST_CHECK;
/* Asks the server to stop what this connection is waiting for. The connection is to be closed. */
void pg_cancel(PGconn *conn);

typedef struct pg_param { /* binary; type 0 = as the statement says */
    Oid type;
    ps_str bytes; /* ptr NULL: SQL NULL */
} pg_param;
enum { PG_MAX_PARAMS = 16 };

/* One statement with binary parameters and a binary result. Errors by verdict (pg_status_of), the
 * text is SQLSTATE and message; on PS_OK *ret is the caller's to PQclear. */
ps_status pg_run(PGconn *conn, const char *sql, const pg_param *params, size_t n_params,
                 const pg_wait *wait, PGresult **ret, ps_err *err) PS_MUST_CHECK;
/* Fills err from an error result and returns pg_status_of its verdict. */
ps_status pg_fail_result(const PGresult *res, const PGconn *conn, ps_err *err);

/* ---- binary values -------------------------------------------------------------------------- */

enum {
    PG_OID_INT4 = 23,
    PG_OID_INT8 = 20,
    PG_OID_TEXT = 25,
    PG_OID_INT4_ARRAY = 1007,
    PG_OID_INT8_ARRAY = 1016,
    PG_OID_TEXT_ARRAY = 1009,
    PG_OID_TIMESTAMPTZ = 1184,
    PG_OID_XID8 = 5069,
    PG_OID_SNAPSHOT = 5038
};

/* Unix ms as timestamptz's microseconds since 2000; the caller has checked MDL_TIME_*. */
static inline int64_t
pg_timestamp_of_ms(int64_t t_ms)
{
    return (t_ms - INT64_C(946684800000)) * 1000;
}
/* The inverse, down to the millisecond. */
static inline int64_t
pg_ms_of_timestamp(int64_t us)
{
    return us / 1000 - (us % 1000 < 0) + INT64_C(946684800000);
}
void pg_put_u16(ps_buf *out, uint16_t v); /* network order */
void pg_put_u32(ps_buf *out, uint32_t v);
void pg_put_u64(ps_buf *out, uint64_t v);
uint32_t pg_get_u32(const char *p);
uint64_t pg_get_u64(const char *p);
/* Header of a one-dimensional array without NULLs; the elements follow as length and bytes. */
void pg_put_array(ps_buf *out, Oid element, size_t n);
/* Elements of such an array of fixed-size numbers (int4, int8). PS_ECORRUPT if it is not one, or
 * not of n elements. */
ps_status pg_get_int4_array(ps_str bytes, size_t n, int32_t *ret, ps_err *err) PS_MUST_CHECK;
ps_status pg_get_int8_array(ps_str bytes, size_t n, int64_t *ret, ps_err *err) PS_MUST_CHECK;
/* Number of elements, -1 if it is no such array. */
int64_t pg_array_length(ps_str bytes);

/* connector/pg/install.c: checks server version (>= 15) and encoding (UTF8), then installs or
 * upgrades the extension in one transaction under the install lock, as settings allow. Messages
 * say what to do. */
ps_status pg_install(const char *conninfo, const settings *s, logger *log,
                     ps_err *err) PS_MUST_CHECK;

#endif
