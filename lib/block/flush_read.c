/*
 * flush_read.c - opens flush blocks. They are small, so opening decodes ids and times of all series.
 * Values are decoded then, too, after which a series is a slice of two arrays; or, lazily, when
 * somebody wants them (flush_values.c), and until then the body is kept.
 *
 * Memory is bounded before any of it is asked for: at most BLK_FLUSH_MAX_SAMPLES samples and
 * series (so products of counts and sizes do not overflow), and a body of at most 255 times the compressed bytes (what lz4 can reach).
 */
#include "lib/block/histograms.h"

#include <lz4.h>

static ps_status
damaged(ps_err *err, const char *what)
{
    return ps_fail(err, PS_ECORRUPT, "block is damaged: %s", what);
}

static ps_status
no_memory(ps_err *err)
{
    return ps_fail(err, PS_ENOMEM, "out of memory");
}

/* ---- series -------------------------------------------------------------------------------- */

/* The metrics of the block and how many series each has; tmp holds twice as many integers as series. */
static bool
read_metrics(blk_reader *r, blk_in *in, uint64_t *tmp)
{
    const uint32_t n_series = r->n_series;
    uint64_t n = 1, *count = tmp + n_series;

    tmp[0] = (uint64_t)(int64_t)r->meta.metric_id;
    count[0] = n_series;
    if (r->meta.metric_id < 0) {
        n = blk_in_varint(in);
        if (in->bad || n == 0 || n > n_series || !blk_icol_decode(in, n, tmp) ||
            !blk_icol_decode(in, n, count))
            return false;
    }
    r->groups = ps_alloc_array(&r->alloc, n, sizeof *r->groups);
    if (r->groups == NULL)
        return true; /* the caller sees it */
    r->n_groups = (uint32_t)n;
    uint32_t at = 0;
    int32_t metric = 0;
    for (uint32_t k = 0; k < n; k++) {
        if (tmp[k] == 0 || tmp[k] > (uint64_t)(INT32_MAX - metric) || count[k] == 0 ||
            count[k] > n_series - at)
            return false;
        metric += (int32_t)tmp[k];
        if (metric != r->meta.metric_id && mdl_bucket(metric) != r->meta.metric_id)
            return false; /* nobody would look for it here */
        r->groups[k] =
            (blk_flush_group){.metric_id = metric, .lo = at, .hi = at + (uint32_t)count[k]};
        at = r->groups[k].hi;
    }
    return at == n_series;
}

static bool
read_ids(blk_reader *r, blk_in *in, uint64_t *tmp)
{
    int64_t lo = INT64_MAX, hi = INT64_MIN;
    uint64_t id = (uint64_t)r->meta.series_lo;

    if (!blk_icol_decode(in, r->n_series, tmp))
        return false;
    for (uint32_t k = 0; k < r->n_groups; k++) {
        const blk_flush_group *g = &r->groups[k];
        bool falls = false;
        for (uint32_t i = g->lo; i < g->hi; i++) {
            int64_t before = (int64_t)id;
            id += tmp[i];
            falls |= i > g->lo && (int64_t)id <= before;
            r->fseries[i].series_id = (int64_t)id;
            r->fseries[i].metric_id = g->metric_id;
            r->fseries[i].group = k;
        }
        if (falls)
            return false;
        int64_t first = r->fseries[g->lo].series_id, last = (int64_t)id; /* ascending */
        lo = first < lo ? first : lo;
        hi = last > hi ? last : hi;
    }
    return lo == r->meta.series_lo && hi == r->meta.series_hi;
}

/* ---- times --------------------------------------------------------------------------------- */

static bool
read_vector_lengths(blk_reader *r, blk_in *in, uint64_t *tmp)
{
    uint64_t total = 0;

    if (!blk_icol_decode(in, r->n_vecs, tmp))
        return false;
    for (uint32_t v = 0; v < r->n_vecs; v++) {
        /* every vector belongs to a series, so together they have at most all samples */
        if (tmp[v] == 0 || tmp[v] > (uint64_t)r->meta.n_samples - total)
            return false;
        r->vec_start[v] = (uint32_t)total;
        total += tmp[v];
    }
    r->vec_start[r->n_vecs] = (uint32_t)total;
    return true;
}

static bool
read_vector_times(blk_reader *r, blk_in *in, uint64_t *tmp)
{
    const uint32_t n_times = r->vec_start[r->n_vecs], n_rest = n_times - r->n_vecs;
    uint64_t *rest = tmp + r->n_vecs;
    uint64_t first = (uint64_t)r->meta.t_min_ms;
    int64_t lo = INT64_MAX, hi = INT64_MIN;

    if (!blk_icol_decode(in, r->n_vecs, tmp) || !blk_icol_decode(in, n_rest, rest))
        return false;
    for (uint32_t v = 0; v < r->n_vecs; v++) {
        first += tmp[v];
        int64_t t = (int64_t)first;
        for (uint32_t i = r->vec_start[v]; i < r->vec_start[v + 1]; i++) {
            if (i > r->vec_start[v]) {
                if (*rest == 0 || *rest > (uint64_t)r->meta.t_max_ms - (uint64_t)t)
                    return false;
                t = (int64_t)((uint64_t)t + *rest++);
            }
            if (t < r->meta.t_min_ms || t > r->meta.t_max_ms)
                return false;
            r->vec_times[i] = t;
            lo = t < lo ? t : lo;
            hi = t > hi ? t : hi;
        }
    }
    return lo == r->meta.t_min_ms && hi == r->meta.t_max_ms;
}

static bool
read_vector_index(blk_reader *r, blk_in *in, uint64_t *tmp)
{
    uint64_t total = 0, n_samples = (uint64_t)r->meta.n_samples;

    if (!blk_icol_decode(in, r->n_series, tmp))
        return false;
    const uint32_t *start = r->vec_start;
    blk_flush_series *s = r->fseries;
    for (uint32_t i = 0; i < r->n_series; i++, s++) {
        if (tmp[i] >= r->n_vecs || total > n_samples)
            return false;
        s->vec = (uint32_t)tmp[i];
        s->first_value = (uint32_t)total;
        total += start[tmp[i] + 1] - start[tmp[i]];
    }
    if (total != n_samples)
        return false;
    for (uint32_t k = 0; k < r->n_groups; k++) {
        uint32_t end = k + 1 < r->n_groups ? r->fseries[r->groups[k].hi].first_value
                                           : (uint32_t)r->meta.n_samples;
        r->groups[k].n = end - r->fseries[r->groups[k].lo].first_value;
    }
    return true;
}

/* Start timestamps of all samples. */
static ps_status
read_starts(blk_reader *r, blk_in *in, uint64_t *tmp, ps_err *err)
{
    int64_t *t = (int64_t *)tmp;
    bool unsupported = false;

    r->starts = ps_alloc_array(&r->alloc, (size_t)r->meta.n_samples, sizeof *r->starts);
    if (r->starts == NULL)
        return no_memory(err);
    for (uint32_t i = 0; i < r->n_series; i++) {
        const uint32_t *start = r->vec_start + r->fseries[i].vec;
        memcpy(t, r->vec_times + start[0], (start[1] - start[0]) * sizeof *t);
        t += start[1] - start[0];
    }
    if (blk_starts_get(in, (int64_t *)tmp, (size_t)r->meta.n_samples, r->meta.t_min_ms, r->starts,
                       &unsupported))
        return PS_OK;
    if (unsupported)
        return ps_fail(err, PS_EUNSUPPORTED,
                       "block has start timestamps of a form not known to this build");
    return damaged(err, "start timestamps");
}

/* ---- opening ------------------------------------------------------------------------------- */

/* Everything before the values; *in stands at them afterwards. */
static ps_status
read_directory(blk_reader *r, blk_in *in, uint64_t *tmp, ps_err *err)
{
    if (!read_metrics(r, in, tmp))
        return damaged(err, "metrics");
    if (r->groups == NULL)
        return no_memory(err);
    if (!read_ids(r, in, tmp))
        return damaged(err, "series");
    uint64_t n_vecs = blk_in_varint(in);
    if (in->bad || n_vecs == 0 || n_vecs > r->n_series)
        return damaged(err, "number of time vectors");
    r->n_vecs = (uint32_t)n_vecs;
    r->vec_start = ps_alloc_array(&r->alloc, n_vecs + 1, sizeof *r->vec_start);
    if (r->vec_start == NULL)
        return no_memory(err);
    if (!read_vector_lengths(r, in, tmp))
        return damaged(err, "lengths of time vectors");
    r->n_vec_times = r->vec_start[r->n_vecs];
    r->vec_times = ps_alloc_new(&r->alloc, r->n_vec_times * sizeof *r->vec_times);
    if (r->vec_times == NULL)
        return no_memory(err);
    if (!read_vector_times(r, in, tmp) || !read_vector_index(r, in, tmp))
        return damaged(err, "times");
    if (r->started)
        PS_TRY(read_starts(r, in, tmp, err));
    return r->meta.kind == BLK_KIND_HISTOGRAM ? blk_flush_histograms_open(r, in, tmp, err) : PS_OK;
}

/* The body in the clear: the block itself, or memory that the reader owns. */
static ps_status
unpack_body(blk_reader *r, unsigned flags, blk_in *in, ps_err *err)
{
    if (!(flags & BLK_FLAG_LZ4))
        return PS_OK;
    uint64_t size = blk_in_varint(in);
    size_t packed = blk_in_left(in);
    if (in->bad || size == 0 || size > BLK_MAX_BYTES || size / 255 > packed)
        return damaged(err, "length of the body");
    r->plain = ps_alloc_new(&r->alloc, (size_t)size);
    if (r->plain == NULL)
        return no_memory(err);
    r->plain_size = (size_t)size;
    int got = LZ4_decompress_safe((const char *)in->p, r->plain, (int)packed, (int)size);
    if (got < 0 || (uint64_t)got != size)
        return damaged(err, "compressed body");
    *in = (blk_in){(const uint8_t *)r->plain, (const uint8_t *)r->plain + size, false};
    return PS_OK;
}

ps_status
blk_flush_open(blk_reader *r, ps_str data, bool lazy, ps_err *err)
{
    const uint8_t *p = (const uint8_t *)data.ptr;
    blk_in in = {p, p + data.len, false};
    unsigned flags;

    if (blk_crc_skipping(data) != ps_get_u32le(p + BLK_OFF_CRC))
        return damaged(err, "checksum");
    PS_TRY(blk_header_read(&in, &r->meta, &flags, err));
    if (r->meta.metric_id == 0 || (size_t)r->meta.n_samples > BLK_FLUSH_MAX_SAMPLES)
        return damaged(err, "header");
    r->n_series = (uint32_t)r->meta.n_series;
    r->started = (flags & BLK_FLAG_STARTS) != 0;
    PS_TRY(unpack_body(r, flags, &in, err));
    const size_t tmp_size = (size_t)r->meta.n_samples * 2 * sizeof(uint64_t);
    uint64_t *tmp = ps_alloc_new(&r->alloc, tmp_size);
    r->fseries = ps_alloc_new(&r->alloc, r->n_series * sizeof *r->fseries);
    ps_status status = PS_OK;
    if (tmp == NULL || r->fseries == NULL)
        status = no_memory(err);
    if (status == PS_OK)
        status = read_directory(r, &in, tmp, err);
    ps_alloc_free(&r->alloc, tmp, tmp_size);
    if (status == PS_OK) {
        if (r->meta.kind == BLK_KIND_FLOAT)
            r->groups[0].p = in.p;
        r->values_end = in.end;
    }
    if (status == PS_OK && !lazy)
        status = blk_flush_values_all(r, err);
    if (!lazy && r->meta.kind == BLK_KIND_FLOAT) { /* layouts point into it */
        ps_alloc_free(&r->alloc, r->plain, r->plain_size);
        r->plain = NULL;
    }
    return status;
}

void
blk_flush_close(blk_reader *r)
{
    ps_alloc_free(&r->alloc, r->plain, r->plain_size);
    for (uint32_t k = 0; k < r->n_groups; k++) {
        blk_flush_group *g = &r->groups[k];
        ps_alloc_free(&r->alloc, g->pops, g->n_pops * sizeof *g->pops);
        ps_alloc_free(&r->alloc, g->buckets, g->n_buckets * sizeof *g->buckets);
    }
    const size_t n_samples = (size_t)r->meta.n_samples;
    ps_alloc_free(&r->alloc, r->histograms, n_samples * sizeof *r->histograms);
    ps_alloc_free(&r->alloc, r->starts, n_samples * sizeof *r->starts);
    ps_alloc_free(&r->alloc, r->groups, r->n_groups * sizeof *r->groups);
    blk_scratch_done(&r->alloc, &r->ints);
    ps_alloc_free(&r->alloc, r->fseries, r->n_series * sizeof *r->fseries);
    ps_alloc_free(&r->alloc, r->values, (size_t)r->meta.n_samples * sizeof *r->values);
    ps_alloc_free(&r->alloc, r->vec_start, ((size_t)r->n_vecs + 1) * sizeof *r->vec_start);
    ps_alloc_free(&r->alloc, r->vec_times, r->n_vec_times * sizeof *r->vec_times);
}
