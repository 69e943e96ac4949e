/*
 * flush_write.c - the block of one flush: many series with one or a few samples each.
 *
 * Columns run across series, since a series alone is too short to compress: ids as differences;
 * times as a dictionary of time vectors (all series of a target share one) and an index per
 * series; values per metric as integers, the first of each series in one column, the steps to the
 * following ones in another. lz4 goes over the whole body and stays if it makes it smaller.
 *
 * One pass over the sorted points fills arrays in one scratch allocation; everything the writer
 * needs beyond that is appended to the caller's buffer.
 */
#include "lib/block/histograms.h"

#include <lz4.h>

/* ---- checking and counting ----------------------------------------------------------------- */

static ps_status
check_points(int32_t metric_or_bucket, blk_flush_state *st, blk_meta *m, ps_err *err)
{
    const blk_point *p = st->points;

    m->series_lo = m->series_hi = p[0].series_id;
    m->t_min_ms = m->t_max_ms = p[0].t_ms;
    st->n_series = st->n_metrics = 1;
    for (size_t i = 0; i < st->n; i++) {
        bool new_metric = i > 0 && p[i].metric_id != p[i - 1].metric_id;
        bool new_series = new_metric || (i > 0 && p[i].series_id != p[i - 1].series_id);
        if (i == 0 || new_metric) {
            if (p[i].metric_id <= 0 || (p[i].metric_id != metric_or_bucket &&
                                        mdl_bucket(p[i].metric_id) != metric_or_bucket))
                return ps_fail(err, PS_EINVAL, "metric %d does not belong to row %d",
                               p[i].metric_id, metric_or_bucket);
        }
        if (i > 0 && (p[i].metric_id < p[i - 1].metric_id ||
                      (!new_metric && p[i].series_id < p[i - 1].series_id) ||
                      (!new_series && p[i].t_ms <= p[i - 1].t_ms)))
            return ps_fail(err, PS_EINVAL, "points are not sorted and unique");
        st->n_metrics += new_metric;
        st->n_series += new_series;
        m->series_lo = p[i].series_id < m->series_lo ? p[i].series_id : m->series_lo;
        m->series_hi = p[i].series_id > m->series_hi ? p[i].series_id : m->series_hi;
        m->t_min_ms = p[i].t_ms < m->t_min_ms ? p[i].t_ms : m->t_min_ms;
        m->t_max_ms = p[i].t_ms > m->t_max_ms ? p[i].t_ms : m->t_max_ms;
        st->started |= blk_start_valid(p[i].start_ms) != 0;
    }
    if (m->t_min_ms < MDL_TIME_MIN_MS || m->t_max_ms > MDL_TIME_MAX_MS)
        return ps_fail(err, PS_EINVAL, "sample time is out of range");
    m->n_series = (int32_t)st->n_series;
    m->n_samples = (int32_t)st->n;
    return PS_OK;
}

static ps_status
check_histograms(blk_flush_state *st, ps_err *err)
{
    size_t numbers = 0;

    for (size_t i = 0; i < st->n; i++) {
        const hst_hist *h = st->points[i].histogram;
        size_t n = blk_populated(h);
        if (n > BLK_MAX_BUCKETS || h->n_bounds > BLK_MAX_BUCKETS)
            return ps_fail(err, PS_ELIMIT, "more than %zu buckets in a histogram", BLK_MAX_BUCKETS);
        st->n_pops += n;
        numbers += n + h->n_bounds;
    }
    if (numbers > BLK_FLUSH_MAX_NUMBERS)
        return ps_fail(err, PS_ELIMIT, "more than %zu buckets for one flush block",
                       BLK_FLUSH_MAX_NUMBERS);
    return PS_OK;
}

/* ---- scratch ------------------------------------------------------------------------------- */

/* Carves the arrays out of one allocation; with mem NULL only measures. */
static size_t
carve(blk_flush_state *st, char *mem)
{
    size_t at = 0;
    struct {
        void **p;
        size_t bytes;
    } parts[] = {
        {(void **)&st->id_delta, st->n_series * 8},
        {(void **)&st->vec_of, st->n_series * 8},
        {(void **)&st->metric_delta, st->n_metrics * 8},
        {(void **)&st->metric_series, st->n_metrics * 8},
        {(void **)&st->vec_len, st->n_series * 8},
        {(void **)&st->vec_first, st->n_series * 8},
        {(void **)&st->vec_rest, st->n * 8},
        {(void **)&st->ints, st->n * 8},
        {(void **)&st->first, st->n_series * 8},
        {(void **)&st->steps, st->n * 8},
        {(void **)&st->values, st->n * 8},
        {(void **)&st->vec_at, st->n_series * 4},
        {(void **)&st->exc, st->n * 4},
        {(void **)&st->table, st->table_size * 4},
    };

    for (size_t i = 0; i < PS_ARRAY_LEN(parts); i++) {
        if (mem != NULL)
            *parts[i].p = mem + at;
        at += (parts[i].bytes + 7) & ~(size_t)7;
    }
    return at;
}

/* ---- series and times ---------------------------------------------------------------------- */

static bool
same_vector(const blk_flush_state *st, size_t vec, const blk_point *p, size_t len)
{
    const blk_point *q = st->points + st->vec_at[vec];

    if (st->vec_len[vec] != len)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (p[i].t_ms != q[i].t_ms)
            return false;
    }
    return true;
}

static size_t
find_vector(blk_flush_state *st, size_t at, size_t len, size_t before)
{
    const blk_point *p = st->points + at;

    /* the same target as before, or the next one in the order of an earlier metric */
    for (size_t guess = before; guess < before + 2 && guess < st->n_vecs; guess++) {
        if (same_vector(st, guess, p, len))
            return guess;
    }
    uint64_t hash = ((uint64_t)p[0].t_ms ^ (uint64_t)p[len - 1].t_ms << 20 ^ len) *
                    UINT64_C(0x9E3779B97F4A7C15);
    size_t mask = st->table_size - 1, slot = (hash >> 32) & mask;
    for (; st->table[slot] != 0; slot = (slot + 1) & mask) {
        if (same_vector(st, st->table[slot] - 1, p, len))
            return st->table[slot] - 1;
    }
    size_t vec = st->n_vecs++;
    st->table[slot] = (uint32_t)vec + 1;
    st->vec_at[vec] = (uint32_t)at;
    st->vec_len[vec] = len;
    for (size_t i = 1; i < len; i++)
        st->vec_rest[st->n_rest++] = (uint64_t)p[i].t_ms - (uint64_t)p[i - 1].t_ms;
    return vec;
}

static void
collect(blk_flush_state *st, const blk_meta *m)
{
    size_t series = 0, metric = 0, vec = 0;
    int64_t id_before = m->series_lo;
    int32_t metric_before = 0;

    for (size_t at = 0, end; at < st->n; at = end, series++) {
        const blk_point *p = st->points + at;
        for (end = at + 1; end < st->n && st->points[end].series_id == p->series_id &&
                           st->points[end].metric_id == p->metric_id;)
            end++;
        if (at == 0 || p->metric_id != metric_before) {
            st->metric_delta[metric] = (uint64_t)(int64_t)(p->metric_id - metric_before);
            st->metric_series[metric++] = 0;
            metric_before = p->metric_id;
        }
        st->metric_series[metric - 1]++;
        st->id_delta[series] = (uint64_t)p->series_id - (uint64_t)id_before;
        id_before = p->series_id;
        vec = find_vector(st, at, end - at, vec);
        st->vec_of[series] = vec;
    }
    uint64_t before = (uint64_t)m->t_min_ms;
    for (size_t v = 0; v < st->n_vecs; v++) {
        uint64_t t = (uint64_t)st->points[st->vec_at[v]].t_ms;
        st->vec_first[v] = t - before;
        before = t;
    }
}

/* ---- values -------------------------------------------------------------------------------- */

void
blk_flush_put_head(const double *v, size_t n, uint64_t *ints, uint32_t *exc, ps_buf *out)
{
    size_t n_exc = 0;
    unsigned k = 0, flags = 0;

    if (!blk_decimal_analyse(v, n, ints, exc, &n_exc, &k)) {
        flags = BLK_GROUP_BITS;
        k = 0;
        n_exc = 0;
        for (size_t i = 0; i < n; i++)
            ints[i] = blk_ordered_bits(ps_bits_of(v[i]));
    }
    unsigned shift = blk_common_shift(ints, n);
    for (size_t i = 0; shift > 0 && i < n; i++)
        ints[i] = (uint64_t)((int64_t)ints[i] >> shift);
    flags |= k | (n_exc > 0 ? BLK_GROUP_EXC : 0) | (shift > 0 ? BLK_GROUP_SHIFT : 0);
    ps_buf_add_char(out, (char)flags);
    if (shift > 0)
        ps_buf_add_char(out, (char)shift);
    if (n_exc > 0) {
        blk_buf_varint(out, n_exc);
        for (size_t i = 0; i < n_exc; i++)
            blk_buf_varint(out, exc[i] - (i == 0 ? 0 : exc[i - 1]));
        for (size_t i = 0; i < n_exc; i++)
            blk_buf_u64(out, ps_bits_of(v[exc[i]]));
    }
}

void
blk_flush_put_values(blk_flush_state *st, size_t n, size_t series, size_t n_series, ps_buf *out)
{
    uint64_t *ints = st->ints;
    size_t n_steps = 0;

    blk_flush_put_head(st->values, n, ints, st->exc, out);
    if (n == n_series) { /* one sample each */
        blk_icol_encode(ints, n, out);
        return;
    }
    for (size_t s = 0, i = 0; s < n_series; s++) {
        size_t len = st->vec_len[st->vec_of[series + s]];
        st->first[s] = ints[i];
        for (size_t j = 1; j < len; j++)
            st->steps[n_steps++] = ints[i + j] - ints[i + j - 1];
        i += len;
    }
    blk_icol_encode(st->first, n_series, out);
    blk_icol_encode(st->steps, n_steps, out);
}

/* Values of one metric: series n_series from `series` on, samples at..at+n. */
static void
put_group(blk_flush_state *st, size_t at, size_t n, size_t series, size_t n_series, ps_buf *out)
{
    for (size_t i = 0; i < n; i++)
        st->values[i] = st->points[at + i].value;
    blk_flush_put_values(st, n, series, n_series, out);
}

/* Start timestamps of all samples; borrows arrays of the values, which come later. */
static void
put_starts(blk_flush_state *st, const blk_meta *m, ps_buf *out)
{
    int64_t *starts = (int64_t *)st->steps, *t = (int64_t *)(void *)st->values;

    for (size_t i = 0; i < st->n; i++) {
        starts[i] = blk_start_valid(st->points[i].start_ms);
        t[i] = st->points[i].t_ms;
    }
    blk_starts_put(starts, t, st->n, m->t_min_ms, st->ints, out);
}

static ps_status
put_body(const ps_alloc *alloc, blk_flush_state *st, const blk_meta *m, ps_buf *out)
{
    if (m->metric_id < 0) {
        blk_buf_varint(out, st->n_metrics);
        blk_icol_encode(st->metric_delta, st->n_metrics, out);
        blk_icol_encode(st->metric_series, st->n_metrics, out);
    }
    blk_icol_encode(st->id_delta, st->n_series, out);
    blk_buf_varint(out, st->n_vecs);
    blk_icol_encode(st->vec_len, st->n_vecs, out);
    blk_icol_encode(st->vec_first, st->n_vecs, out);
    blk_icol_encode(st->vec_rest, st->n_rest, out);
    blk_icol_encode(st->vec_of, st->n_series, out);
    if (st->started)
        put_starts(st, m, out);
    if (st->kind == BLK_KIND_HISTOGRAM)
        return blk_flush_put_histograms(alloc, st, out);
    for (size_t metric = 0, series = 0, at = 0; metric < st->n_metrics; metric++) {
        size_t n_series = st->metric_series[metric], n = 0;
        for (size_t s = 0; s < n_series; s++)
            n += st->vec_len[st->vec_of[series + s]];
        put_group(st, at, n, series, n_series, out);
        series += n_series;
        at += n;
    }
    return PS_OK;
}

/* Replaces the body from `at` on by its length and its lz4 form if that is smaller. */
static ps_status
compress_body(const ps_alloc *alloc, ps_buf *out, size_t at, bool *ret_done)
{
    enum { WORTH_TRYING = 48 };
    const size_t len = out->len - at;

    *ret_done = false;
    if (len < WORTH_TRYING)
        return PS_OK;
    /* less room than the body has: lz4 gives up where it does not win */
    const size_t state_size = (size_t)LZ4_sizeofState(), room = len - 8, total = state_size + room;
    char *mem = ps_alloc_new(alloc, total);
    if (mem == NULL)
        return PS_ENOMEM;
    int got =
        LZ4_compress_fast_extState(mem, out->ptr + at, mem + state_size, (int)len, (int)room, 1);
    if (got > 0) {
        out->len = at;
        blk_buf_varint(out, len);
        ps_buf_add(out, mem + state_size, (size_t)got);
        *ret_done = true;
    }
    ps_alloc_free(alloc, mem, total);
    return PS_OK;
}

static ps_status
encode(const ps_alloc *alloc, int32_t tenant_id, int32_t metric_or_bucket, int16_t kind,
       const blk_point *points, size_t n, ps_buf *out, blk_meta *ret_meta, ps_err *err)
{
    blk_flush_state st = {.points = points, .n = n, .kind = kind, .table_size = 16};
    blk_meta m = {.tenant_id = tenant_id,
                  .metric_id = metric_or_bucket,
                  .level = BLK_LEVEL_FRESH,
                  .kind = kind,
                  .format = BLK_FORMAT_FLUSH};
    const size_t start = out->len;
    bool lz4 = false;

    if (n == 0 || metric_or_bucket == 0)
        return ps_fail(err, PS_EINVAL, "a block without samples or metric");
    if (n > BLK_FLUSH_MAX_SAMPLES)
        return ps_fail(err, PS_ELIMIT, "more than %zu samples for one flush block",
                       BLK_FLUSH_MAX_SAMPLES);
    PS_TRY(check_points(metric_or_bucket, &st, &m, err));
    if (kind == BLK_KIND_HISTOGRAM)
        PS_TRY(check_histograms(&st, err));
    m.dist_key = mdl_dist_key(tenant_id, metric_or_bucket);

    while (st.table_size < st.n_series * 2)
        st.table_size *= 2;
    const size_t size = carve(&st, NULL);
    char *mem = ps_alloc_new(alloc, size);
    if (mem == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    carve(&st, mem);
    memset(st.table, 0, st.table_size * sizeof *st.table);
    collect(&st, &m);
    blk_header_write(out, &m, st.started ? BLK_FLAG_STARTS : 0);
    const size_t body_at = out->len;
    if (put_body(alloc, &st, &m, out) != PS_OK)
        out->failed = true;
    ps_alloc_free(alloc, mem, size);
    if (!out->failed && out->len - start > BLK_MAX_BYTES) {
        out->len = start;
        return ps_fail(err, PS_ELIMIT, "more than %zu bytes for one flush block", BLK_MAX_BYTES);
    }
    if (!out->failed && compress_body(alloc, out, body_at, &lz4) != PS_OK)
        out->failed = true;
    if (out->failed) {
        out->len = start;
        return ps_fail(err, PS_ENOMEM, "out of memory");
    }
    char *p = out->ptr + start;
    if (lz4)
        blk_header_set_flag(p, BLK_FLAG_LZ4);
    ps_put_u32le(p + BLK_OFF_CRC, blk_crc_skipping((ps_str){p, out->len - start}));
    *ret_meta = m;
    return PS_OK;
}

ps_status
blk_encode_flush(const ps_alloc *alloc, int32_t tenant_id, int32_t metric_or_bucket,
                 const blk_point *points, size_t n, ps_buf *out, blk_meta *ret_meta, ps_err *err)
{
    return encode(alloc, tenant_id, metric_or_bucket, BLK_KIND_FLOAT, points, n, out, ret_meta,
                  err);
}

ps_status
blk_encode_flush_histograms(const ps_alloc *alloc, int32_t tenant_id, int32_t metric_or_bucket,
                            const blk_point *points, size_t n, ps_buf *out, blk_meta *ret_meta,
                            ps_err *err)
{
    return encode(alloc, tenant_id, metric_or_bucket, BLK_KIND_HISTOGRAM, points, n, out, ret_meta,
                  err);
}
