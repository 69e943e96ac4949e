/*
 * fetch.c - the rows that hold blocks of the selected series, as they arrive.
 *
 * Of each table those of the metrics (and of the buckets that small metrics share) whose times and
 * series reach into what is asked for. No block crosses a UTC day, so rows begin no earlier than the
 * day of the first wanted millisecond: that bound prunes partitions and ranges of keys.
 *
 * Rows come one by one (single-row mode): each is opened while the server sends the next, and the
 * bytes are counted before there are too many. A large row's bytes stay in its result, small ones are
 * copied, since a result of its own costs more than they are worth.
 */
#include <stdlib.h>

#include "connector/read/internal.h"

enum { COLUMNS = 14, PARAMS = 7, PARAM_BYTES = 44, SMALL_BYTES = 2048 };

#define FROM_TABLE(t)                                                                                \
    "SELECT id, tenant_id, metric_id, dist_key, level, kind, format, series_lo, series_hi,"          \
    " t_min, t_max, n_series, n_samples, data FROM _prom_data." t                                    \
    " WHERE metric_id = ANY ($1) AND tenant_id = $7 AND t_min >= $2 AND t_min <= $3 AND t_max >= $4" \
    " AND series_lo <= $5 AND series_hi >= $6"

static const char blocks_sql[] = FROM_TABLE("fresh") " UNION ALL " FROM_TABLE(
    "merged") " UNION ALL " FROM_TABLE("block") " UNION ALL " FROM_TABLE("block_far");

ps_status
read_fetch_prepare(PGconn *conn, const pg_wait *wait, ps_err *err)
{
    ps_buf sql;
    PGresult *res = NULL;
    ps_buf_init(&sql, &ps_malloc);
    ps_buf_addf(&sql, "PREPARE follow (pg_snapshot) AS %s", follow_sql);
    ps_buf_add_char(&sql, 0);
    ps_status status = sql.failed ? ps_fail(err, PS_ENOMEM, "out of memory")
                                  : pg_run(conn, sql.ptr, NULL, 0, wait, &res, err);
    PQclear(res);
    ps_buf_done(&sql);
    return status;
}

/* ---- sending ---------------------------------------------------------------------------------------- */

static int64_t
timestamp_of(int64_t t_ms)
{
    if (t_ms <= MDL_TIME_MIN_MS)
        return INT64_MIN; /* -infinity */
    if (t_ms >= MDL_TIME_MAX_MS)
        return INT64_MAX;
    return pg_timestamp_of_ms(t_ms);
}

/* The metrics and their buckets, each once. */
static void
put_metrics(ps_buf *out, const read_list *list)
{
    bool bucket[MDL_BUCKETS] = {false};
    size_t n_buckets = 0;
    for (size_t i = 0; i < list->n_metrics; i++) {
        int32_t b = -mdl_bucket(list->metrics[i]) - 1;
        n_buckets += !bucket[b];
        bucket[b] = true;
    }
    pg_put_array(out, PG_OID_INT4, list->n_metrics + n_buckets);
    for (size_t i = 0; i < list->n_metrics; i++) {
        pg_put_u32(out, 4);
        pg_put_u32(out, (uint32_t)list->metrics[i]);
    }
    for (int32_t b = 0; b < MDL_BUCKETS; b++) {
        if (bucket[b]) {
            pg_put_u32(out, 4);
            pg_put_u32(out, (uint32_t)(-b - 1));
        }
    }
}

ps_status
read_fetch_send(read_source *src, const read_list *list, PGconn *conn, bool *ret_sent, ps_err *err)
{
    static const Oid types[PARAMS] = {PG_OID_INT4_ARRAY,  PG_OID_TIMESTAMPTZ, PG_OID_TIMESTAMPTZ,
                                      PG_OID_TIMESTAMPTZ, PG_OID_INT8,        PG_OID_INT8,
                                      PG_OID_INT4};
    static const int formats[PARAMS] = {1, 1, 1, 1, 1, 1, 1};
    const char *values[PARAMS];
    int lengths[PARAMS] = {0, 8, 8, 8, 8, 8, 4};
    ps_buf buf;
    (void)src;
    *ret_sent = list->found.n > 0 && list->selection.from_ms <= list->selection.to_ms;
    if (!*ret_sent)
        return PS_OK;
    int64_t lo = INT64_MAX, hi = INT64_MIN, from_ms = list->selection.from_ms;
    for (size_t i = 0; i < list->found.n; i++) {
        int64_t id = list->wanted[i].series_id;
        lo = id < lo ? id : lo;
        hi = id > hi ? id : hi;
    }
    ps_buf_init(&buf, &ps_malloc);
    pg_put_u64(&buf, (uint64_t)timestamp_of(
                         from_ms <= MDL_TIME_MIN_MS ? from_ms : mdl_day_start_ms(from_ms)));
    pg_put_u64(&buf, (uint64_t)timestamp_of(list->selection.to_ms));
    pg_put_u64(&buf, (uint64_t)timestamp_of(from_ms));
    pg_put_u64(&buf, (uint64_t)hi);
    pg_put_u64(&buf, (uint64_t)lo);
    pg_put_u32(&buf, (uint32_t)list->tenant_id);
    put_metrics(&buf, list);
    ps_status status = PS_OK;
    if (buf.failed || buf.len > INT32_MAX) {
        status = ps_fail(err, PS_ENOMEM, "out of memory");
    } else {
        values[0] = buf.ptr + PARAM_BYTES;
        lengths[0] = (int)(buf.len - PARAM_BYTES);
        for (int i = 1; i < PARAMS; i++)
            values[i] = buf.ptr + (i - 1) * 8;
        if (PQsendQueryParams(conn, blocks_sql, PARAMS, types, values, lengths, formats, 1) == 0)
            status = pg_fail_result(NULL, conn, err);
    }
    ps_buf_done(&buf);
    return status;
}

/* ---- receiving ---------------------------------------------------------------------------------------- */

static int64_t
number(const PGresult *res, int column)
{
    const char *p = PQgetvalue(res, 0, column);
    switch (PQgetlength(res, 0, column)) {
    case 2:
        return (int16_t)((uint8_t)p[0] << 8 | (uint8_t)p[1]);
    case 4:
        return (int32_t)pg_get_u32(p);
    default:
        return (int64_t)pg_get_u64(p);
    }
}

static ps_status
read_row(const PGresult *res, read_block *ret, ps_str *ret_data, ps_err *err)
{
    static const int sizes[COLUMNS - 1] = {8, 4, 4, 8, 2, 2, 2, 8, 8, 8, 8, 4, 4};
    bool good = PQnfields(res) == COLUMNS && !PQgetisnull(res, 0, COLUMNS - 1);
    for (int i = 0; good && i < COLUMNS - 1; i++)
        good = PQgetlength(res, 0, i) == sizes[i];
    if (!good)
        return ps_fail(err, PS_ECORRUPT, "the database answered no block");
    *ret = (read_block){.id = number(res, 0)};
    ret->meta = (blk_meta){.tenant_id = (int32_t)number(res, 1),
                           .metric_id = (int32_t)number(res, 2),
                           .dist_key = number(res, 3),
                           .level = (int16_t)number(res, 4),
                           .kind = (int16_t)number(res, 5),
                           .format = (int16_t)number(res, 6),
                           .series_lo = number(res, 7),
                           .series_hi = number(res, 8),
                           .t_min_ms = pg_ms_of_timestamp(number(res, 9)),
                           .t_max_ms = pg_ms_of_timestamp(number(res, 10)),
                           .n_series = (int32_t)number(res, 11),
                           .n_samples = (int32_t)number(res, 12)};
    *ret_data = (ps_str){PQgetvalue(res, 0, COLUMNS - 1), (size_t)PQgetlength(res, 0, COLUMNS - 1)};
    return PS_OK;
}

/* Takes res. */
static ps_status
take_row(read_source *src, read_list *list, PGresult *res, ps_err *err)
{
    read_block row;
    ps_str data;
    ps_status status = read_row(res, &row, &data, err);
    if (status == PS_OK) {
        metric_add(src->store->m_blocks, 1);
        metric_add(src->store->m_bytes, (double)data.len);
        row.res = data.len > SMALL_BYTES ? res : NULL;
        status = read_blocks_add(src, list, &row, data, err);
        if (status == PS_OK && list->n_blocks > 0 && list->blocks[list->n_blocks - 1].res == res)
            return PS_OK;
    }
    PQclear(res);
    return status;
}

ps_status
read_fetch_receive(read_source *src, read_list *list, PGconn *conn, ps_err *err)
{
    pg_wait wait = read_wait(src);
    if (PQsetSingleRowMode(conn) == 0)
        return ps_fail(err, PS_EINTERNAL, "libpq does not hand out single rows");
    for (;;) {
        PGresult *res;
        PS_TRY(pg_next_result(conn, &wait, &res, err));
        switch (res == NULL ? PGRES_EMPTY_QUERY : PQresultStatus(res)) {
        case PGRES_EMPTY_QUERY:
            PQclear(res);
            return read_blocks_finish(src, list, err);
        case PGRES_SINGLE_TUPLE:
            PS_TRY(take_row(src, list, res, err));
            break;
        case PGRES_TUPLES_OK: /* after the last row */
            PQclear(res);
            break;
        default: {
            ps_status status = pg_fail_result(res, conn, err);
            PQclear(res);
            return status;
        }
        }
    }
}
