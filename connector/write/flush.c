/*
 * flush.c - one transaction, one round trip (and the one that COPY needs): a single query string
 *
 *     BEGIN; SELECT guard(generation); COPY fresh ...; [SELECT insert_exemplars(...);] COMMIT
 *
 * guard takes the shared lock that deletion takes exclusively and only then compares generations,
 * so ids of deleted series are never committed. The result counts as success only if every part
 * succeeded, the last word was COMMIT (a failed transaction answers ROLLBACK to it), and no WARNING
 * came with it: a commit whose wait for a synchronous standby was cut short reports success with a
 * warning. (libpq hands out notices as soon as it reads them, so which statement one belongs to
 * cannot be told; none of ours sends any.)
 *
 * A commit in doubt (connection lost) is a failure like any other: sending the samples again is
 * harmless, since equal samples are one sample.
 */
#include "connector/write/internal.h"

enum { CHUNK_BYTES = 1 << 20 };

static const char copy_sql[] =
    "COPY _prom_data.fresh (tenant_id, metric_id, dist_key, level, kind, format, series_lo,"
    " series_hi, t_min, t_max, n_series, n_samples, data) FROM STDIN (FORMAT binary);";

static ps_status
build_sql(wp_batch *b, int64_t generation, wp_request *const *requests, size_t n, ps_err *err)
{
    bool exemplars = false;
    for (size_t i = 0; i < n; i++)
        exemplars = exemplars || requests[i]->n_exemplars > 0;
    ps_buf_clear(&b->sql);
    ps_buf_addf(&b->sql, "BEGIN;SELECT _prom_catalog.guard(%lld);", (long long)generation);
    if (b->n_rows > 0)
        ps_buf_add_c(&b->sql, copy_sql);
    if (exemplars)
        wp_exemplars_sql(&b->sql, requests, n);
    ps_buf_add_c(&b->sql, "COMMIT");
    ps_buf_add_char(&b->sql, '\0');
    return b->sql.failed ? ps_fail(err, PS_ENOMEM, "out of memory") : PS_OK;
}

static ps_status
send_rows(PGconn *pg, const ps_buf *copy, ps_err *err)
{
    for (size_t at = 0; at < copy->len; at += CHUNK_BYTES) {
        size_t part = copy->len - at < CHUNK_BYTES ? copy->len - at : CHUNK_BYTES;
        if (PQputCopyData(pg, copy->ptr + at, (int)part) != 1)
            return pg_fail_result(NULL, pg, err);
    }
    if (PQputCopyEnd(pg, NULL) != 1)
        return pg_fail_result(NULL, pg, err);
    return PS_OK;
}

/* Reads all results; the first error decides. */
static ps_status
collect(wp_conn *c, const wp_batch *b, const pg_wait *wait, ps_err *err)
{
    ps_status failure = PS_OK;
    bool committed = false;
    for (;;) {
        PGresult *res;
        ps_status status = pg_next_result(c->pg, wait, &res, failure == PS_OK ? err : NULL);
        if (status != PS_OK)
            return status;
        if (res == NULL)
            break;
        ExecStatusType kind = PQresultStatus(res);
        if (kind == PGRES_COPY_IN) {
            status = send_rows(c->pg, &b->copy, err);
        } else if (kind == PGRES_COMMAND_OK) {
            committed = strcmp(PQcmdStatus(res), "COMMIT") == 0;
        } else if (kind != PGRES_TUPLES_OK && failure == PS_OK) {
            failure = pg_fail_result(res, c->pg, err);
        }
        PQclear(res);
        if (status != PS_OK)
            return status;
        if (PQstatus(c->pg) != CONNECTION_OK)
            break;
    }
    if (failure != PS_OK)
        return failure;
    if (!committed)
        return ps_fail(err, PS_EUNAVAILABLE, "the transaction did not end with a commit");
    if (c->warning[0] != '\0')
        return ps_fail(err, PS_EUNAVAILABLE, "the database committed with a warning: %s",
                       c->warning);
    return PS_OK;
}

ps_status
wp_send(write_path *w, wp_conn *c, wp_batch *b, int64_t generation,
        wp_request *const *with_exemplars, size_t n, ps_err *err)
{
    pg_wait wait = wp_wait(w);
    PS_TRY(build_sql(b, generation, with_exemplars, n, err));
    c->warning[0] = '\0';
    if (PQsendQuery(c->pg, b->sql.ptr) == 0)
        return pg_fail_result(NULL, c->pg, err);
    ps_status status = collect(c, b, &wait, err);
    if (status != PS_OK)
        return status;
    metric_add(w->stats.flushes, 1);
    metric_add(w->stats.duplicates, (double)b->dups.duplicates);
    metric_add(w->stats.conflicts, (double)b->dups.conflicts);
    metric_observe(w->stats.flush_rows, (double)b->n_rows);
    metric_observe(w->stats.flush_samples, (double)b->n_samples);
    metric_observe(w->stats.flush_bytes, (double)b->copy.len);
    return PS_OK;
}
