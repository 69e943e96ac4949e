/*
 * fetch.c - the rows that hold blocks of the selected series, as they arrive.
 *
 * Of each table those of the metrics (and of the buckets that small metrics share) whose times and
 * series, metric by metric, reach into what is asked for. No block crosses a UTC day, so rows begin no earlier than the
 * day of the first wanted millisecond: that bound prunes partitions and ranges of keys.
 *
 * The statement is prepared and its plan is the same for all parameters (nested loops over
 * index scans of the primary keys; pool.c sees to it): planning would take four times as long as running it does, partitions are
 * pruned when it starts.
 *
 * Where only the newest sample of each series is wanted, the heads of blocks of floats that end in time
 * are enough: their directories know it.
 *
 * Bytes that the server itself cannot bring (TOAST) come as NULL, so that they cost one block and not
 * the statement.
 *
 * Rows come one by one (single-row mode): each is opened while the server sends the next, and the
 * bytes are counted before there are too many. A large row's bytes stay in its result, small ones are
 * copied, since a result of its own costs more than they are worth.
 */
#include <stdlib.h>

#include "connector/read/internal.h"

enum { DATA = 13, TABLE = 14, COLUMNS = 15, PARAMS = 8, SMALL_BYTES = 2048 };

static const char *const tables[] = {"fresh", "merged", "block", "block_far"};

/* OFFSET 0 keeps the order of the loops: metric by metric. */
#define FROM_TABLE(t, data)                                                                        \
    "SELECT b.* FROM unnest($1, $2, $3) w (metric_id, lo, hi), LATERAL ("                          \
    "SELECT id, tenant_id, metric_id, dist_key, level, kind, format, series_lo, series_hi,"        \
    " t_min, t_max, n_series, n_samples, " data ", '" t "'::text FROM _prom_data." t                              \
    " WHERE metric_id = w.metric_id AND series_lo <= w.hi AND series_hi >= w.lo"                   \
    " AND t_min >= $4 AND t_min <= $5 AND t_max >= $6 AND tenant_id = $7 OFFSET 0) b"
#define FROM_ALL(data)                                                                             \
    FROM_TABLE("fresh", data)                                                                      \
    " UNION ALL " FROM_TABLE("merged", data) " UNION ALL " FROM_TABLE(                             \
        "block", data) " UNION ALL " FROM_TABLE("block_far", data)

#define BLOCKS_SQL                                                                                 \
    FROM_ALL("_prom_ext.block_bytes(data, $8 AND t_max <= $5 AND kind = 1)")

static const char blocks_sql[] = BLOCKS_SQL;
/* The same in order of time. */
static const char by_time_sql[] = "SELECT * FROM (" BLOCKS_SQL ") b ORDER BY t_min";
/* Their sizes, which are known without reading what lies out of line. */
static const char sizes_sql[] = FROM_ALL("pg_catalog.octet_length(data)");

#define PARAM_TYPES "int4[], int8[], int8[], timestamptz, timestamptz, timestamptz, int4, bool"

static ps_status
prepare(PGconn *conn, const char *name_and_types, const char *statement, const pg_wait *wait,
        ps_err *err)
{
    ps_buf sql;
    PGresult *res = NULL;
    ps_buf_init(&sql, &ps_malloc);
    ps_buf_addf(&sql, "PREPARE %s AS ", name_and_types);
    ps_buf_add_c(&sql, statement);
    ps_buf_add_char(&sql, 0);
    ps_status status = sql.failed ? ps_fail(err, PS_ENOMEM, "out of memory")
                                  : pg_run(conn, sql.ptr, NULL, 0, wait, &res, err);
    PQclear(res);
    ps_buf_done(&sql);
    return status;
}

ps_status
read_fetch_prepare(PGconn *conn, const pg_wait *wait, ps_err *err)
{
    PS_TRY(prepare(conn, "follow (pg_snapshot)", follow_sql, wait, err));
    PS_TRY(prepare(conn, "alive (int4, int4[], timestamptz, timestamptz)",
                   "SELECT _prom_ext.series_alive($1, $2, $3, $4)", wait, err));
    PS_TRY(prepare(conn, "blocks (" PARAM_TYPES ")", blocks_sql, wait, err));
    return prepare(conn, "sizes (" PARAM_TYPES ")", sizes_sql, wait, err);
}

ps_status
read_fetch_prepare_by_time(PGconn *conn, const pg_wait *wait, ps_err *err)
{
    return prepare(conn, "blocks_by_time (" PARAM_TYPES ")", by_time_sql, wait, err);
}

/* ---- sending ---------------------------------------------------------------------------------------- */

int64_t
read_timestamp_of(int64_t t_ms)
{
    if (t_ms <= MDL_TIME_MIN_MS)
        return INT64_MIN; /* -infinity */
    if (t_ms >= MDL_TIME_MAX_MS)
        return INT64_MAX;
    return pg_timestamp_of_ms(t_ms);
}

typedef struct range { /* of the wanted series of a metric or bucket */
    int32_t metric_id;
    int64_t lo, hi;
} range;

static void
widen(range *r, const range *by)
{
    r->lo = by->lo < r->lo ? by->lo : r->lo;
    r->hi = by->hi > r->hi ? by->hi : r->hi;
}

/* Of each metric; then of the buckets. `ret` has room for all of them. */
static size_t
find_ranges(const read_list *list, range *ret)
{
    size_t n = 0;
    range buckets[MDL_BUCKETS];
    for (int32_t b = 0; b < MDL_BUCKETS; b++)
        buckets[b] = (range){-b - 1, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < list->found.n; i++) { /* ascending by metric and series */
        const read_wanted *w = &list->wanted[i];
        if (n > 0 && ret[n - 1].metric_id == w->metric_id)
            ret[n - 1].hi = w->series_id;
        else
            ret[n++] = (range){w->metric_id, w->series_id, w->series_id};
    }
    for (size_t i = 0; i < list->n_metrics; i++)
        widen(&buckets[-mdl_bucket(ret[i].metric_id) - 1], &ret[i]);
    for (int32_t b = 0; b < MDL_BUCKETS; b++) {
        if (buckets[b].lo <= buckets[b].hi)
            ret[n++] = buckets[b];
    }
    return n;
}

/* $1 to $3; *ret_ends: where each ends in out. */
static ps_status
put_ranges(read_source *src, const read_list *list, ps_buf *out, size_t ret_ends[3], ps_err *err)
{
    range *ranges = ps_arena_array(&src->arena, list->n_metrics + MDL_BUCKETS, sizeof(*ranges));
    if (ranges == NULL)
        return read_no_memory(src, err);
    size_t n = find_ranges(list, ranges);
    pg_put_array(out, PG_OID_INT4, n);
    for (size_t i = 0; i < n; i++) {
        pg_put_u32(out, 4);
        pg_put_u32(out, (uint32_t)ranges[i].metric_id);
    }
    ret_ends[0] = out->len;
    for (int high = 0; high < 2; high++) {
        pg_put_array(out, PG_OID_INT8, n);
        for (size_t i = 0; i < n; i++) {
            pg_put_u32(out, 8);
            pg_put_u64(out, (uint64_t)(high ? ranges[i].hi : ranges[i].lo));
        }
        ret_ends[1 + high] = out->len;
    }
    return PS_OK;
}

ps_status
read_fetch_send(read_source *src, const read_list *list, PGconn *conn, bool *ret_sent, ps_err *err)
{
    static const int formats[PARAMS] = {1, 1, 1, 1, 1, 1, 1, 1};
    const ev_selection *sel = &list->selection;
    const char *values[PARAMS];
    int lengths[PARAMS] = {0, 0, 0, 8, 8, 8, 4, 1};
    size_t ends[3];
    ps_buf buf;
    *ret_sent = list->found.n > 0 && sel->from_ms <= sel->to_ms;
    if (!*ret_sent)
        return PS_OK;
    int64_t day_ms =
        sel->from_ms <= MDL_TIME_MIN_MS ? sel->from_ms : mdl_day_start_ms(sel->from_ms);
    ps_buf_init(&buf, &ps_malloc);
    ps_status status = put_ranges(src, list, &buf, ends, err);
    pg_put_u64(&buf, (uint64_t)read_timestamp_of(day_ms));
    pg_put_u64(&buf, (uint64_t)read_timestamp_of(sel->to_ms));
    pg_put_u64(&buf, (uint64_t)read_timestamp_of(sel->from_ms));
    pg_put_u32(&buf, (uint32_t)list->tenant_id);
    if (status == PS_OK && (buf.failed || buf.len > INT32_MAX))
        status = ps_fail(err, PS_ENOMEM, "out of memory");
    if (status == PS_OK) {
        for (int i = 0; i < 3; i++) {
            values[i] = buf.ptr + (i == 0 ? 0 : ends[i - 1]);
            lengths[i] = (int)(buf.ptr + ends[i] - values[i]);
        }
        for (int i = 3; i < PARAMS - 1; i++)
            values[i] = buf.ptr + ends[2] + (i - 3) * 8;
        values[PARAMS - 1] = sel->newest_only ? "\1" : "\0";
        const char *name = src->estimating        ? "sizes"
                           : list->on_row != NULL ? "blocks_by_time"
                                                  : "blocks";
        if (PQsendQueryPrepared(conn, name, PARAMS, values, lengths, formats, 1) == 0)
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
    static const int sizes[DATA] = {8, 4, 4, 8, 2, 2, 2, 8, 8, 8, 8, 4, 4};
    const char *table = NULL;
    bool good = PQnfields(res) == COLUMNS;
    for (int i = 0; good && i < DATA; i++)
        good = PQgetlength(res, 0, i) == sizes[i];
    for (size_t i = 0; good && i < PS_ARRAY_LEN(tables); i++) {
        if (strcmp(tables[i], PQgetvalue(res, 0, TABLE)) == 0)
            table = tables[i];
    }
    good = good && table != NULL;
    if (!good)
        return ps_fail(err, PS_ECORRUPT, "the database answered no block");
    *ret = (read_block){.id = number(res, 0), .table = table};
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
    *ret_data = (ps_str){PQgetvalue(res, 0, DATA), (size_t)PQgetlength(res, 0, DATA)};
    return PS_OK;
}

/* What of a row can be seen to be wrong without its block. */
static ps_status
check_row(const PGresult *res, const read_block *row, ps_err *err)
{
    const blk_meta *m = &row->meta;
    if (PQgetisnull(res, 0, DATA))
        return ps_fail(err, PS_ECORRUPT, "the server cannot read its bytes");
    if (number(res, 9) % 1000 != 0 || number(res, 10) % 1000 != 0)
        return ps_fail(err, PS_ECORRUPT, "a time bound of the row is not a whole millisecond");
    if (m->n_series < 1 || m->n_samples < m->n_series || m->series_lo > m->series_hi ||
        m->t_min_ms > m->t_max_ms)
        return ps_fail(err, PS_ECORRUPT, "the row's columns contradict each other");
    return PS_OK;
}

/* Takes res. */
static ps_status
take_row(read_source *src, read_list *list, PGresult *res, ps_err *err)
{
    read_block row;
    ps_str data;
    ps_status status = read_row(res, &row, &data, err);
    if (status == PS_OK && check_row(res, &row, err) != PS_OK) {
        status = read_damage(src, list, &row, PS_ECORRUPT, err);
        PQclear(res);
        return status;
    }
    if (status == PS_OK && list->on_row != NULL)
        status = list->on_row(src, list, &row, data.len, err);
    if (status == PS_OK && src->estimating) {
        bool good = data.len == 4;
        status = good ? read_estimate_row(src, list, &row.meta, pg_get_u32(data.ptr), err)
                      : ps_fail(err, PS_ECORRUPT, "the database answered no size of a block");
    } else if (status == PS_OK) {
        list->n_rows++;
        list->n_row_bytes += data.len;
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
    list->n_rows = list->n_row_bytes = 0;
    if (src->estimating)
        PS_TRY(read_estimate_begin(src, list, err));
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
