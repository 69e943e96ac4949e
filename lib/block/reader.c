/*
 * reader.c - one face for both formats: open, walk the series, seek, decode.
 *
 * A reader borrows the block's bytes and owns what it decoded. It keeps scratch memory between
 * calls, so it is used by one thread at a time; or by several that each bring a bench, which has the
 * scratch memory then, so that nothing in the reader changes.
 */
#include "lib/block/histograms.h"

static ps_status
open_any(const ps_alloc *alloc, ps_str data, const blk_meta *expect, bool head_only, bool lazy,
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
    ps_status status = format == BLK_FORMAT_FLUSH ? blk_flush_open(r, data, lazy, err)
                                                  : blk_columns_open(r, data, err);
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
    return open_any(alloc, data, expect, false, false, ret, err);
}

ps_status
blk_reader_open_lazy(const ps_alloc *alloc, ps_str data, const blk_meta *expect, blk_reader **ret,
                     ps_err *err)
{
    return open_any(alloc, data, expect, false, true, ret, err);
}

ps_status
blk_reader_open_head(const ps_alloc *alloc, ps_str prefix, const blk_meta *expect, blk_reader **ret,
                     ps_err *err)
{
    return open_any(alloc, prefix, expect, true, false, ret, err);
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
    ps_alloc_free(&alloc, r->layouts, r->n_layouts * sizeof *r->layouts);
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
                            .last_known = r->meta.kind == BLK_KIND_FLOAT,
                            .started = r->started && r->scols[i].mode != BLK_STARTS_NONE,
                            .index = i,
                            .times_id = s->tcol};
        return;
    }
    const blk_flush_series *s = &r->fseries[i];
    uint32_t lo = r->vec_start[s->vec], hi = r->vec_start[s->vec + 1];
    const bool known = r->values != NULL && r->groups[s->group].decoded;
    *ret = (blk_series){.series_id = s->series_id,
                        .metric_id = s->metric_id,
                        .n_samples = hi - lo,
                        .t_first_ms = r->vec_times[lo],
                        .t_last_ms = r->vec_times[hi - 1],
                        .last_value = known ? r->values[s->first_value + (hi - lo) - 1] : 0,
                        .last_known = known,
                        .started = r->started,
                        .index = i,
                        .times_id = s->vec};
}

int32_t
blk_reader_metric(const blk_reader *r, uint32_t i, uint32_t *ret_end)
{
    *ret_end = r->n_series;
    if (r->meta.format == BLK_FORMAT_COLUMNS)
        return r->meta.metric_id;
    *ret_end = r->groups[r->fseries[i].group].hi;
    return r->fseries[i].metric_id;
}

/* The series of a metric in a flush block: a group's, or none where the metric would be. */
static void
narrow_to_metric(const blk_reader *r, int32_t metric_id, uint32_t *lo, uint32_t *hi)
{
    uint32_t a = 0, b = r->n_groups;

    while (a < b) {
        uint32_t mid = a + (b - a) / 2;
        if (r->groups[mid].metric_id < metric_id)
            a = mid + 1;
        else
            b = mid;
    }
    *lo = a < r->n_groups ? r->groups[a].lo : r->n_series;
    *hi = a < r->n_groups && r->groups[a].metric_id == metric_id ? r->groups[a].hi : *lo;
}

uint32_t
blk_reader_seek(const blk_reader *r, int32_t metric_id, int64_t series_id)
{
    uint32_t lo = 0, hi = r->n_series;

    if (r->meta.format == BLK_FORMAT_FLUSH) {
        narrow_to_metric(r, metric_id, &lo, &hi);
        if (series_id == INT64_MIN)
            return lo;
    }

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

/* Times of series i of a flush block in the range, in place. */
static const int64_t *
flush_times(const blk_reader *r, uint32_t i, int64_t from_ms, int64_t to_ms, size_t *ret_lo,
            size_t *ret_n)
{
    const uint32_t vec = r->fseries[i].vec;
    uint32_t base = r->vec_start[vec], lo = base, hi = r->vec_start[vec + 1];

    while (lo < hi && r->vec_times[lo] < from_ms)
        lo++;
    while (hi > lo && r->vec_times[hi - 1] > to_ms)
        hi--;
    *ret_lo = lo - base;
    *ret_n = hi - lo;
    return r->vec_times + lo;
}

static ps_status
no_series(ps_err *err)
{
    return ps_fail(err, PS_EINVAL, "no such series in the block");
}

static ps_status
need_kind(const blk_reader *r, int16_t kind, ps_err *err)
{
    if (r->meta.kind == kind)
        return PS_OK;
    return ps_fail(err, PS_EINVAL, "the block holds %s",
                   kind == BLK_KIND_FLOAT ? "histograms" : "no histograms");
}

ps_status
blk_reader_times(blk_reader *r, uint32_t i, int64_t from_ms, int64_t to_ms, int64_t *t_ms,
                 size_t *ret_lo, size_t *ret_n, ps_err *err)
{
    if (i >= r->n_series)
        return no_series(err);
    if (r->meta.format == BLK_FORMAT_COLUMNS)
        return blk_columns_times(r, &r->own, i, from_ms, to_ms, t_ms, ret_lo, ret_n, err);
    const int64_t *t = flush_times(r, i, from_ms, to_ms, ret_lo, ret_n);
    memcpy(t_ms, t, *ret_n * sizeof *t_ms);
    return PS_OK;
}

ps_status
blk_reader_values(blk_reader *r, uint32_t i, size_t lo, size_t n, double *values, ps_err *err)
{
    if (i >= r->n_series)
        return no_series(err);
    PS_TRY(need_kind(r, BLK_KIND_FLOAT, err));
    bool columns = r->meta.format == BLK_FORMAT_COLUMNS;
    uint32_t vec = columns ? 0 : r->fseries[i].vec;
    size_t len =
        columns ? r->tcols[r->cseries[i].tcol].n : r->vec_start[vec + 1] - r->vec_start[vec];
    if (lo > len || n > len - lo)
        return ps_fail(err, PS_EINVAL, "no such samples in the series");
    return columns ? blk_columns_values(r, &r->own, i, lo, n, values, err)
                   : blk_flush_values(r, i, lo, n, values, err);
}

ps_status
blk_reader_decode(blk_reader *r, uint32_t i, int64_t from_ms, int64_t to_ms, int64_t *t_ms,
                  double *values, size_t *ret_n, ps_err *err)
{
    size_t lo;

    PS_TRY(blk_reader_times(r, i, from_ms, to_ms, t_ms, &lo, ret_n, err));
    return values == NULL ? PS_OK : blk_reader_values(r, i, lo, *ret_n, values, err);
}

/* ---- several threads -------------------------------------------------------------------------- */

enum { BENCH_KEPT = 64 };

blk_bench *
blk_bench_new(const ps_alloc *alloc)
{
    blk_bench *b = ps_alloc_array(alloc, 1, sizeof *b);

    if (b == NULL)
        return NULL;
    b->alloc = *alloc;
    b->n_kept = BENCH_KEPT;
    b->kept = ps_alloc_array(alloc, BENCH_KEPT, sizeof *b->kept);
    blk_codec_scratch_init(&b->scratch, alloc);
    if (b->kept == NULL) {
        ps_alloc_free(alloc, b, sizeof *b);
        return NULL;
    }
    return b;
}

void
blk_bench_free(blk_bench *b)
{
    if (b == NULL)
        return;
    ps_alloc alloc = b->alloc;
    for (size_t i = 0; i < b->n_kept; i++) {
        blk_scratch_done(&alloc, &b->kept[i].times);
        blk_scratch_done(&alloc, &b->kept[i].ints);
    }
    ps_alloc_free(&alloc, b->kept, b->n_kept * sizeof *b->kept);
    blk_codec_scratch_done(&b->scratch, &alloc);
    blk_scratch_done(&alloc, &b->parts);
    blk_scratch_done(&alloc, &b->marks);
    blk_scratch_done(&alloc, &b->values);
    blk_scratch_done(&alloc, &b->times);
    blk_scratch_done(&alloc, &b->columns);
    blk_scratch_done(&alloc, &b->matrix);
    ps_alloc_free(&alloc, b, sizeof *b);
}

ps_status
blk_reader_prepare(blk_reader *r, int32_t metric_id, ps_err *err)
{
    if (r->meta.format != BLK_FORMAT_FLUSH)
        return PS_OK;
    for (uint32_t k = 0; k < r->n_groups; k++) {
        if (r->groups[k].metric_id == metric_id)
            return blk_flush_group_decode(r, k, err);
    }
    return PS_OK;
}

ps_status
blk_bench_times(blk_bench *b, const blk_reader *r, uint32_t i, int64_t from_ms, int64_t to_ms,
                int64_t *t_ms, size_t *ret_lo, size_t *ret_n, ps_err *err)
{
    if (i >= r->n_series)
        return no_series(err);
    if (r->meta.format == BLK_FORMAT_COLUMNS)
        return blk_columns_times(r, b, i, from_ms, to_ms, t_ms, ret_lo, ret_n, err);
    const int64_t *t = flush_times(r, i, from_ms, to_ms, ret_lo, ret_n);
    memcpy(t_ms, t, *ret_n * sizeof *t_ms);
    return PS_OK;
}

/* Samples lo..lo + n are there; of a flush block also: decoded. */
static ps_status
need_samples(const blk_reader *r, uint32_t i, size_t lo, size_t n, ps_err *err)
{
    if (i >= r->n_series)
        return no_series(err);
    if (r->meta.format == BLK_FORMAT_COLUMNS) {
        if (lo > r->tcols[r->cseries[i].tcol].n || n > r->tcols[r->cseries[i].tcol].n - lo)
            return ps_fail(err, PS_EINVAL, "no such samples in the series");
        return PS_OK;
    }
    const blk_flush_series *s = &r->fseries[i];
    size_t len = r->vec_start[s->vec + 1] - r->vec_start[s->vec];
    if (!r->groups[s->group].decoded || lo > len || n > len - lo)
        return ps_fail(err, PS_EINVAL, "samples that were not prepared");
    return PS_OK;
}

ps_status
blk_bench_values(blk_bench *b, const blk_reader *r, uint32_t i, size_t lo, size_t n, double *values,
                 ps_err *err)
{
    PS_TRY(need_samples(r, i, lo, n, err));
    PS_TRY(need_kind(r, BLK_KIND_FLOAT, err));
    if (r->meta.format == BLK_FORMAT_COLUMNS)
        return blk_columns_values(r, b, i, lo, n, values, err);
    if (n > 0)
        memcpy(values, r->values + r->fseries[i].first_value + lo, n * sizeof *values);
    return PS_OK;
}

ps_status
blk_bench_histograms(blk_bench *b, const blk_reader *r, uint32_t i, size_t lo, size_t n,
                     ps_arena *arena, const hst_hist **histograms, ps_err *err)
{
    PS_TRY(need_samples(r, i, lo, n, err));
    PS_TRY(need_kind(r, BLK_KIND_HISTOGRAM, err));
    if (r->meta.format == BLK_FORMAT_COLUMNS)
        return blk_columns_histograms(r, b, i, lo, n, arena, histograms, err);
    return blk_flush_histograms_make(r, i, lo, n, arena, histograms, err);
}

ps_status
blk_bench_starts(blk_bench *b, const blk_reader *r, uint32_t i, size_t lo, size_t n,
                 int64_t *start_ms, ps_err *err)
{
    PS_TRY(need_samples(r, i, lo, n, err));
    if (n == 0)
        return PS_OK;
    if (!r->started)
        memset(start_ms, 0, n * sizeof *start_ms);
    else if (r->meta.format == BLK_FORMAT_COLUMNS)
        return blk_columns_starts(r, b, i, lo, n, start_ms, err);
    else
        memcpy(start_ms, r->starts + r->fseries[i].first_value + lo, n * sizeof *start_ms);
    return PS_OK;
}
