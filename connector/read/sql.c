/*
 * sql.c - see sql.h. A connection that was idle may have died with a server that is back meanwhile: then
 * the statement, which only reads, is sent once more.
 */
#include "connector/read/sql.h"

#include "connector/read/internal.h"

ps_status
read_sql(read_source *src, const char *sql, const pg_param *params, size_t n_params, PGresult **ret,
         ps_err *err)
{
    pg_wait wait = read_wait(src);

    for (bool again = true;; again = false) {
        read_conn *c;
        PS_TRY(read_conn_get(src, &c, err));
        bool used = c->used;
        ps_status status = pg_run(c->pg, sql, params, n_params, &wait, ret, err);
        if (status == PS_ETIMEOUT || status == PS_ECANCELED)
            pg_cancel(c->pg);
        read_conn_put(src->store, c, status == PS_OK);
        if (status != PS_EUNAVAILABLE || !used || !again)
            return status;
        read_conns_close_idle(src->store);
    }
}

ps_status
read_sql_writing(read_source *src, const char *sql, const pg_param *params, size_t n_params,
                 PGresult **ret, ps_err *err)
{
    enum { CONNECT_TIMEOUT_MS = 10000 };
    pg_wait wait = read_wait(src);
    PGconn *conn;

    PS_TRY(pg_connect(src->store->conninfo, "admin", CONNECT_TIMEOUT_MS, &conn, err));
    ps_status status = pg_run(conn, sql, params, n_params, &wait, ret, err);
    if (status == PS_ETIMEOUT || status == PS_ECANCELED)
        pg_cancel(conn);
    PQfinish(conn);
    return status;
}
