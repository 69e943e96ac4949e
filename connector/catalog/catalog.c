/*
 * catalog.c - the catalog's small calls; resolving series has a file of its own.
 */
#include "connector/catalog/catalog.h"

#include <stdlib.h>

static ps_str
field(const PGresult *res, int row, int column)
{
    return (ps_str){PQgetvalue(res, row, column), (size_t)PQgetlength(res, row, column)};
}

/* The promised row with n columns, none of them NULL. */
static bool
is_row(const PGresult *res, int n)
{
    if (PQntuples(res) != 1 || PQnfields(res) != n)
        return false;
    for (int i = 0; i < n; i++) {
        if (PQgetisnull(res, 0, i))
            return false;
    }
    return true;
}

ps_status
catalog_identity(PGconn *conn, const pg_wait *wait, char ret[CATALOG_IDENTITY_BYTES], ps_err *err)
{
    static const char sql[] =
        "SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()),"
        " CASE WHEN pg_is_in_recovery() THEN 'standby'"
        " ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END,"
        " (SELECT oid FROM pg_database WHERE datname = current_database()))::text";
    PGresult *res;
    PS_TRY(pg_run(conn, sql, NULL, 0, wait, &res, err));
    ps_status status = PS_OK;
    if (!is_row(res, 1) || PQgetlength(res, 0, 0) >= CATALOG_IDENTITY_BYTES)
        status = ps_fail(err, PS_ECORRUPT, "the database does not say who it is");
    else
        memcpy(ret, PQgetvalue(res, 0, 0), (size_t)PQgetlength(res, 0, 0) + 1);
    PQclear(res);
    return status;
}

ps_status
catalog_tenant_id(PGconn *conn, const pg_wait *wait, ps_str name, int32_t *ret, ps_err *err)
{
    pg_param param = {PG_OID_TEXT, {name.ptr != NULL ? name.ptr : "", name.len}};
    PGresult *res;
    PS_TRY(pg_run(conn, "SELECT _prom_catalog.tenant_id($1)", &param, 1, wait, &res, err));
    ps_status status = PS_OK;
    if (!is_row(res, 1) || PQgetlength(res, 0, 0) != 4)
        status = ps_fail(err, PS_ECORRUPT, "the database answered no tenant id");
    else
        *ret = (int32_t)pg_get_u32(PQgetvalue(res, 0, 0));
    PQclear(res);
    return status;
}

static ps_status
read_feed(const PGresult *res, catalog_feed *feed, ps_err *err)
{
    if (!is_row(res, 4) || PQgetlength(res, 0, 0) != 8 || PQgetlength(res, 0, 1) != 8 ||
        PQgetlength(res, 0, 2) != 1)
        return ps_fail(err, PS_ECORRUPT, "the database answered no feed");
    int64_t n = pg_array_length(field(res, 0, 3));
    if (n < 0)
        return ps_fail(err, PS_ECORRUPT, "the database answered no feed");
    if (n > 0) {
        feed->deleted = calloc((size_t)n, sizeof(*feed->deleted));
        if (feed->deleted == NULL)
            return ps_fail(err, PS_ENOMEM, "out of memory");
        PS_TRY(pg_get_int8_array(field(res, 0, 3), (size_t)n, feed->deleted, err));
    }
    feed->n_deleted = (size_t)n;
    feed->generation = (int64_t)pg_get_u64(PQgetvalue(res, 0, 0));
    feed->cursor = pg_get_u64(PQgetvalue(res, 0, 1));
    feed->trimmed = PQgetvalue(res, 0, 2)[0] != 0;
    return PS_OK;
}

ps_status
catalog_poll(PGconn *conn, const pg_wait *wait, catalog_feed *feed, ps_err *err)
{
    static const char sql[] =
        "SELECT generation, next_cursor, trimmed, coalesce(deleted, '{}')"
        " FROM _prom_catalog.feed(coalesce($1, pg_snapshot_xmin(pg_current_snapshot())))";
    uint64_t cursor = feed->cursor;
    ps_buf bytes;
    ps_buf_init(&bytes, &ps_malloc);
    pg_put_u64(&bytes, cursor);
    pg_param param = {PG_OID_XID8, {cursor == 0 ? NULL : bytes.ptr, bytes.len}};
    PGresult *res = NULL;
    catalog_feed answer = {0};
    ps_status status = bytes.failed ? ps_fail(err, PS_ENOMEM, "out of memory")
                                    : pg_run(conn, sql, &param, 1, wait, &res, err);
    if (status == PS_OK)
        status = read_feed(res, &answer, err);
    if (status == PS_OK)
        *feed = answer;
    else
        catalog_feed_done(&answer);
    PQclear(res);
    ps_buf_done(&bytes);
    return status;
}

void
catalog_feed_done(catalog_feed *feed)
{
    free(feed->deleted);
    feed->deleted = NULL;
    feed->n_deleted = 0;
}

/* One piece of memory: rules, then their texts. */
static ps_status
copy_periods(const PGresult *res, catalog_period **ret, size_t *ret_n, ps_err *err)
{
    size_t n = (size_t)PQntuples(res), bytes = 0;
    for (size_t i = 0; i < n; i++) {
        if (PQgetlength(res, (int)i, 0) != 1 || PQgetlength(res, (int)i, 2) != 8)
            return ps_fail(err, PS_EINTERNAL, "how long samples are kept is not a number");
        bytes += (size_t)PQgetlength(res, (int)i, 1);
    }
    catalog_period *rules = malloc((n + 1) * sizeof(*rules) + bytes);
    if (rules == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    char *text = (char *)(rules + n + 1);
    for (size_t i = 0; i < n; i++) {
        size_t len = (size_t)PQgetlength(res, (int)i, 1);
        memcpy(text, PQgetvalue(res, (int)i, 1), len);
        rules[i] = (catalog_period){*PQgetvalue(res, (int)i, 0), {text, len},
                                    (int64_t)pg_get_u64(PQgetvalue(res, (int)i, 2))};
        text += len;
    }
    *ret = rules;
    *ret_n = n;
    return PS_OK;
}

ps_status
catalog_periods(PGconn *conn, const pg_wait *wait, catalog_period **ret, size_t *ret_n, ps_err *err)
{
    PGresult *res = NULL;
    const char *sql = "SELECT kind, subject, kept_ms FROM _prom_catalog.retention_periods()";
    PS_TRY(pg_run(conn, sql, NULL, 0, wait, &res, err));
    ps_status status = PQnfields(res) == 3
                           ? copy_periods(res, ret, ret_n, err)
                           : ps_fail(err, PS_EINTERNAL, "how long samples are kept is not known");
    PQclear(res);
    return status;
}

static void
put_text(ps_buf *out, ps_str s)
{
    pg_put_u32(out, (uint32_t)s.len);
    ps_buf_add_str(out, s);
}

ps_status
catalog_upsert_metadata(PGconn *conn, const pg_wait *wait, int32_t tenant_id,
                        const catalog_metadata *items, size_t n, ps_err *err)
{
    ps_buf bufs[5]; /* tenant, family, type, unit, help */
    for (size_t i = 0; i < PS_ARRAY_LEN(bufs); i++)
        ps_buf_init(&bufs[i], &ps_malloc);
    pg_put_u32(&bufs[0], (uint32_t)tenant_id);
    for (size_t i = 1; i < PS_ARRAY_LEN(bufs); i++)
        pg_put_array(&bufs[i], PG_OID_TEXT, n);
    for (size_t i = 0; i < n; i++) {
        put_text(&bufs[1], items[i].family);
        put_text(&bufs[2], ps_str_c(items[i].type));
        put_text(&bufs[3], items[i].unit);
        put_text(&bufs[4], items[i].help);
    }
    pg_param params[5];
    bool failed = false;
    for (size_t i = 0; i < PS_ARRAY_LEN(bufs); i++) {
        params[i] = (pg_param){i == 0 ? PG_OID_INT4 : PG_OID_TEXT_ARRAY, ps_buf_str(&bufs[i])};
        failed = failed || bufs[i].failed;
    }
    PGresult *res = NULL;
    ps_status status =
        failed ? ps_fail(err, PS_ENOMEM, "out of memory")
               : pg_run(conn, "SELECT _prom_catalog.upsert_metadata($1, $2, $3, $4, $5)", params,
                        PS_ARRAY_LEN(params), wait, &res, err);
    PQclear(res);
    for (size_t i = 0; i < PS_ARRAY_LEN(bufs); i++)
        ps_buf_done(&bufs[i]);
    return status;
}
