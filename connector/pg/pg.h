/*
 * pg.h - libpq, the little that we need of it: connect, run, and tell errors apart.
 */
#ifndef PROMSCALE_CONNECTOR_PG_H
#define PROMSCALE_CONNECTOR_PG_H

#include <libpq-fe.h>

#include "connector/config/settings.h"
#include "connector/log/log.h"
#include "lib/base/base.h"

/* db.* settings as a libpq conninfo string (keyword/value or the URI with our additions). */
ps_status pg_conninfo(const settings *s, ps_buf *out, ps_err *err) PS_MUST_CHECK;

/* What an SQLSTATE means for the one who sent the data. */
typedef enum pg_verdict {
    PG_VERDICT_RETRY,      /* connection lost, server starting, serialisation, deadlock, out of resources */
    PG_VERDICT_GENERATION, /* PS001: the catalog moved on */
    PG_VERDICT_DATA,       /* classes 22, 23, 54 and the like: this data will never go in */
    PG_VERDICT_BUG         /* anything else: retried, and said loudly */
} pg_verdict;
pg_verdict pg_verdict_of(const PGresult *res, const PGconn *conn);

/* Connects with a deadline; sets application_name, synchronous_commit=on, standard_conforming_strings,
 * client_encoding UTF8, DateStyle ISO, TimeZone UTC and bytea hex. Password never in the error text. */
ps_status pg_connect(const char *conninfo, const char *application, int64_t timeout_ms, PGconn **ret,
                     ps_err *err) PS_MUST_CHECK;

/* connector/pg/install.c: checks server version (>= 15) and encoding (UTF8), then installs or upgrades
 * the extension in one transaction under the install lock, as settings allow. Messages say what to do. */
ps_status pg_install(const char *conninfo, const settings *s, logger *log, ps_err *err) PS_MUST_CHECK;

#endif
