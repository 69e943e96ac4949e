/*
 * encode.c - from sorted points to rows of _prom_data.fresh, in COPY's binary format.
 *
 * A row costs the database the same whatever it holds, so metrics with few samples in this flush
 * share rows: each belongs to one of MDL_BUCKETS buckets by its id, and a bucket's row has a
 * directory. Points are sorted by metric, hence a bucket's are too. A row holds floats or histograms;
 * one of histograms is bounded by their memory, too.
 */
#include "connector/write/internal.h"

enum { COLUMNS = 13 };

void
wp_rows_begin(wp_batch *b)
{
    static const char head[] =
        "PGCOPY\n\377\r\n"; /* and a zero byte, which belongs to the signature */
    ps_buf_clear(&b->copy);
    ps_buf_add(&b->copy, head, sizeof(head));
    pg_put_u32(&b->copy, 0); /* flags */
    pg_put_u32(&b->copy, 0); /* no extension */
    b->n_rows = b->n_samples = 0;
}

ps_status
wp_rows_end(wp_batch *b, ps_err *err)
{
    pg_put_u16(&b->copy, UINT16_MAX);
    return b->copy.failed ? ps_fail(err, PS_ENOMEM, "out of memory") : PS_OK;
}

static void
put_int2(ps_buf *out, int16_t v)
{
    pg_put_u32(out, 2);
    pg_put_u16(out, (uint16_t)v);
}

static void
put_int4(ps_buf *out, int32_t v)
{
    pg_put_u32(out, 4);
    pg_put_u32(out, (uint32_t)v);
}

static void
put_int8(ps_buf *out, int64_t v)
{
    pg_put_u32(out, 8);
    pg_put_u64(out, (uint64_t)v);
}

/* All columns before the data: of fixed length, so that the data can be encoded in place behind
 * them. */
static void
put_meta(ps_buf *out, const blk_meta *m, size_t data_len)
{
    pg_put_u16(out, COLUMNS);
    put_int4(out, m->tenant_id);
    put_int4(out, m->metric_id);
    put_int8(out, m->dist_key);
    put_int2(out, m->level);
    put_int2(out, m->kind);
    put_int2(out, m->format);
    put_int8(out, m->series_lo);
    put_int8(out, m->series_hi);
    put_int8(out, pg_timestamp_of_ms(m->t_min_ms));
    put_int8(out, pg_timestamp_of_ms(m->t_max_ms));
    put_int4(out, m->n_series);
    put_int4(out, m->n_samples);
    pg_put_u32(out, (uint32_t)data_len);
}

static ps_status
put_row(wp_batch *b, int32_t tenant_id, int kind, int32_t metric_or_bucket, const blk_point *points,
        size_t n, ps_err *err)
{
    ps_buf *out = &b->copy;
    blk_meta meta = {0};
    size_t start = out->len;
    put_meta(out, &meta, 0);
    size_t data = out->len;
    ps_status status =
        (kind == BLK_KIND_HISTOGRAM ? blk_encode_flush_histograms
                                    : blk_encode_flush)(&ps_malloc, tenant_id, metric_or_bucket,
                                                        points, n, out, &meta, err);
    if (status != PS_OK) {
        out->len = start;
        if (status != PS_ELIMIT || n < 2)
            return status;
        PS_TRY(put_row(b, tenant_id, kind, metric_or_bucket, points, n / 2, err));
        return put_row(b, tenant_id, kind, metric_or_bucket, points + n / 2, n - n / 2, err);
    }
    if (out->failed)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    size_t end = out->len;
    out->len = start;
    put_meta(out, &meta, end - data);
    out->len = end;
    b->n_rows++;
    b->n_samples += n;
    return PS_OK;
}

/* How many of the points one row takes. */
static size_t
row_of(int kind, const blk_point *points, size_t n)
{
    size_t k = n < WP_ROW_MAX_SAMPLES ? n : WP_ROW_MAX_SAMPLES;
    if (kind == BLK_KIND_FLOAT)
        return k;
    size_t bytes = hst_bytes(points[0].histogram), i = 1;
    while (i < k && (bytes += hst_bytes(points[i].histogram)) <= WP_ROW_MAX_HISTOGRAM_BYTES)
        i++;
    return i;
}

static ps_status
put_rows(wp_batch *b, int32_t tenant_id, int kind, int32_t metric_or_bucket,
         const blk_point *points, size_t n, ps_err *err)
{
    for (size_t at = 0, part; at < n; at += part) {
        part = row_of(kind, points + at, n - at);
        PS_TRY(put_row(b, tenant_id, kind, metric_or_bucket, points + at, part, err));
    }
    return PS_OK;
}

static size_t
run_of_metric(const blk_point *points, size_t n)
{
    size_t k = 1;
    while (k < n && points[k].metric_id == points[0].metric_id)
        k++;
    return k;
}

/* points are sorted and unique; scratch holds n. */
ps_status
wp_rows_add(wp_batch *b, int32_t tenant_id, int kind, const blk_point *points, size_t n,
            blk_point *scratch, ps_err *err)
{
    size_t fill[MDL_BUCKETS + 1] = {
        0}; /* of bucket -i at [i]: its count, then where its next point goes */
    for (size_t at = 0; at < n;) {
        size_t run = run_of_metric(points + at, n - at);
        if (run >= WP_PACK_BELOW)
            PS_TRY(put_rows(b, tenant_id, kind, points[at].metric_id, points + at, run, err));
        else
            fill[-mdl_bucket(points[at].metric_id)] += run;
        at += run;
    }
    size_t start[MDL_BUCKETS + 2];
    start[1] = 0;
    for (int i = 1; i <= MDL_BUCKETS; i++) {
        start[i + 1] = start[i] + fill[i];
        fill[i] = start[i];
    }
    for (size_t at = 0; at < n;) {
        size_t run = run_of_metric(points + at, n - at);
        if (run < WP_PACK_BELOW) {
            size_t *to = &fill[-mdl_bucket(points[at].metric_id)];
            memcpy(scratch + *to, points + at, run * sizeof(*points));
            *to += run;
        }
        at += run;
    }
    for (int i = 1; i <= MDL_BUCKETS; i++) {
        if (start[i + 1] > start[i])
            PS_TRY(
                put_rows(b, tenant_id, kind, -i, scratch + start[i], start[i + 1] - start[i], err));
    }
    return PS_OK;
}
