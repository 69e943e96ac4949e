/*
 * sql.h - one statement on a connection for reading, for endpoints whose answers lie in tables of their own.
 */
#ifndef PROMSCALE_CONNECTOR_READ_SQL_H
#define PROMSCALE_CONNECTOR_READ_SQL_H

#include "connector/pg/pg.h"
#include "connector/read/read.h"

/* Parameters and result are binary, as with pg_run. Ends with the source: by its deadline (PS_ETIMEOUT) or
 * when it is cancelled (PS_ECANCELED), in the database, too. A result is held in memory as a whole: who
 * cannot know how large it is puts a LIMIT on it. */
ps_status read_sql(read_source *src, const char *sql, const pg_param *params, size_t n_params,
                   PGresult **ret, ps_err *err) PS_MUST_CHECK;
/* The same on a connection of its own, which may write; never sent twice. */
ps_status read_sql_writing(read_source *src, const char *sql, const pg_param *params,
                           size_t n_params, PGresult **ret, ps_err *err) PS_MUST_CHECK;

#endif
