/*
 * reader.c - one face for both formats: open, walk the series, seek, decode.
 *
 * A reader borrows the block's bytes and owns what it decoded. It keeps scratch memory between
 * calls, so it is used by one thread at a time.
 */
#include "lib/block/internal.h"

static ps_status
open_any(const ps_alloc *alloc, ps_str data, const blk_meta *expect, bool head_only,
         blk_reader **ret, ps_err *err)
{
    int16_t format;

    PS_TRY(blk_header_format(data, &format, err));
    if (data.len > BLK_MAX_BYTES)
        return ps_fail(err, PS_ECORRUPT, "block is damaged: too long");
    if (head_only && format != BLK_FORMAT_COLUMNS)
        return ps_fail(err, PS_EINVAL, "a flush block has no head of its own");
    blk_reader *r = ps_alloc_new(alloc, sizeof *r);
    if (r == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    memset(r, 0, sizeof *r);
    r->alloc = *alloc;
    r->head_only = head_only;
    r->meta.format = format; /* says how to close, whatever happens while opening */
    ps_status status =
        format == BLK_FORMAT_FLUSH ? blk_flush_open(r, data, err) : blk_columns_open(r, data, err);
    if (status == PS_OK && expect != NULL)
        status = blk_meta_compare(&r->meta, expect, err);
    if (status != PS_OK) {
        blk_reader_free(r);
        return status;
    }
    *ret = r;
    return PS_OK;
}

ps_status
blk_reader_open(const ps_alloc *alloc, ps_str data, const blk_meta *expect, blk_reader **ret,
                ps_err *err)
{
    return open_any(alloc, data, expect, false, ret, err);
}

ps_status
blk_reader_open_head(const ps_alloc *alloc, ps_str prefix, const blk_meta *expect, blk_reader **ret,
                     ps_err *err)
{
    return open_any(alloc, prefix, expect, true, ret, err);
}

void
blk_reader_free(blk_reader *r)
{
    if (r == NULL)
        return;
    if (r->meta.format == BLK_FORMAT_FLUSH)
        blk_flush_close(r);
    else
        blk_columns_close(r);
    ps_alloc alloc = r->alloc;
    ps_alloc_free(&alloc, r, sizeof *r);
}

const blk_meta *
blk_reader_meta(const blk_reader *r)
{
    return &r->meta;
}

uint32_t
blk_reader_n_series(const blk_reader *r)
{
    return r->n_series;
}

void
blk_reader_series(const blk_reader *r, uint32_t i, blk_series *ret)
{
    if (r->meta.format == BLK_FORMAT_COLUMNS) {
        const blk_columns_series *s = &r->cseries[i];
        const blk_tcol *c = &r->tcols[s->tcol];
        *ret = (blk_series){.series_id = s->series_id,
                            .metric_id = r->meta.metric_id,
                            .n_samples = c->n,
                            .t_first_ms = c->t_first,
                            .t_last_ms = c->t_last,
                            .last_value = s->values.last,
                            .index = i};
        return;
    }
    const blk_flush_series *s = &r->fseries[i];
    uint32_t lo = r->vec_start[s->vec], hi = r->vec_start[s->vec + 1];
    *ret = (blk_series){.series_id = s->series_id,
                        .metric_id = s->metric_id,
                        .n_samples = hi - lo,
                        .t_first_ms = r->vec_times[lo],
                        .t_last_ms = r->vec_times[hi - 1],
                        .last_value = r->values[s->first_value + (hi - lo) - 1],
                        .index = i};
}

uint32_t
blk_reader_seek(const blk_reader *r, int32_t metric_id, int64_t series_id)
{
    uint32_t lo = 0, hi = r->n_series;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        bool columns = r->meta.format == BLK_FORMAT_COLUMNS;
        int32_t metric = columns ? r->meta.metric_id : r->fseries[mid].metric_id;
        int64_t id = columns ? r->cseries[mid].series_id : r->fseries[mid].series_id;
        if (metric < metric_id || (metric == metric_id && id < series_id))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static size_t
decode_flush(const blk_reader *r, uint32_t i, int64_t from_ms, int64_t to_ms, int64_t *t_ms,
             double *values)
{
    const blk_flush_series *s = &r->fseries[i];
    uint32_t base = r->vec_start[s->vec], lo = base, hi = r->vec_start[s->vec + 1];

    while (lo < hi && r->vec_times[lo] < from_ms)
        lo++;
    while (hi > lo && r->vec_times[hi - 1] > to_ms)
        hi--;
    if (hi - lo == 1 && values != NULL) { /* the usual case */
        t_ms[0] = r->vec_times[lo];
        values[0] = r->values[s->first_value + (lo - base)];
        return 1;
    }
    memcpy(t_ms, r->vec_times + lo, (hi - lo) * sizeof *t_ms);
    if (values != NULL)
        memcpy(values, r->values + s->first_value + (lo - base), (hi - lo) * sizeof *values);
    return hi - lo;
}

ps_status
blk_reader_decode(blk_reader *r, uint32_t i, int64_t from_ms, int64_t to_ms, int64_t *t_ms,
                  double *values, size_t *ret_n, ps_err *err)
{
    if (i >= r->n_series)
        return ps_fail(err, PS_EINVAL, "no such series in the block");
    if (r->meta.format == BLK_FORMAT_COLUMNS)
        return blk_columns_decode(r, i, from_ms, to_ms, t_ms, values, ret_n, err);
    *ret_n = decode_flush(r, i, from_ms, to_ms, t_ms, values);
    return PS_OK;
}
