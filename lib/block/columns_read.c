/*
 * columns_read.c - opens and decodes merged and sealed blocks.
 *
 * Opening checks both CRCs and walks the head once: every time column and series gets its frame
 * headers' place and its payload's offset (lengths follow from the head, offsets are their sums).
 * Decoding a series touches only its own frames, and of those only the ones in the time range; a series that is
 * relative to the one before also that one's, whose integers are kept since whoever reads it read the other first.
 *
 * Memory: one array of time columns and one of series, each bounded by the head's length.
 */
#include "lib/block/histograms.h"

enum { TCOL_MIN_BYTES = 2, ENTRY_MIN_BYTES = 4, HISTOGRAM_ENTRY_MIN_BYTES = 3 };

static ps_status
damaged(ps_err *err, const char *what)
{
    return ps_fail(err, PS_ECORRUPT, "block is damaged: %s", what);
}

static ps_status
parse_tcols(blk_reader *r, blk_in *in, uint64_t *body_off, ps_err *err)
{
    uint64_t n = blk_in_varint(in);
    blk_tcol prev = {0};

    if (in->bad || n == 0 || n > (uint64_t)r->meta.n_series || n > blk_in_left(in) / TCOL_MIN_BYTES)
        return damaged(err, "number of time columns");
    r->n_tcols = (uint32_t)n;
    r->tcols = ps_alloc_array(&r->alloc, n, sizeof *r->tcols);
    if (r->tcols == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < r->n_tcols; i++) {
        bool unsupported = false;
        if (!blk_tcol_parse(in, &prev, &r->tcols[i], &unsupported)) {
            if (unsupported)
                return ps_fail(err, PS_EUNSUPPORTED, "block has a time column of an unknown kind");
            return damaged(err, "time column");
        }
        r->tcols[i].body_off = (size_t)*body_off;
        *body_off += r->tcols[i].body_len;
        if (*body_off > r->body_len)
            return damaged(err, "time column's length");
        prev = r->tcols[i];
    }
    return PS_OK;
}

static bool
parse_tref(blk_in *in, unsigned flags, int64_t before, uint32_t n_tcols, uint32_t *ret)
{
    int64_t t = before;

    switch (flags & BLK_ENTRY_TREF) {
    case BLK_TREF_SAME:
        break;
    case BLK_TREF_NEXT:
        t = before + 1;
        break;
    case BLK_TREF_INDEX: {
        uint64_t x = blk_in_varint(in);
        t = x > UINT32_MAX ? -1 : (int64_t)x;
        break;
    }
    default:
        return false;
    }
    *ret = (uint32_t)t;
    return t >= 0 && t < n_tcols;
}

/* Codec, last value and frame headers of floats; of histograms only the payload's length. */
static ps_status
parse_values(const blk_reader *r, blk_in *in, unsigned codec, unsigned flags, blk_columns_series *before,
             blk_columns_series *s, ps_err *err)
{
    const uint32_t n = r->tcols[s->tcol].n;

    if (r->meta.kind == BLK_KIND_HISTOGRAM) {
        uint64_t len = blk_in_varint(in);
        if (in->bad || len > BLK_MAX_BYTES)
            return damaged(err, "series entry");
        s->values = (blk_vcol){.body_len = (uint32_t)len};
        return PS_OK;
    }
    if (codec == BLK_CODEC_DEC_RELATIVE && (before == NULL || r->tcols[before->tcol].n != n))
        return damaged(err, "series entry");
    ps_status status =
        blk_codec_parse(in, codec, flags, n, before == NULL ? NULL : &before->values, &s->values);
    if (status == PS_EUNSUPPORTED)
        return ps_fail(err, status, "block has values of codec %u, not known to this build", codec);
    if (status == PS_OK && s->values.depth > 0)
        before->values.is_base = true;
    return status == PS_OK ? PS_OK : damaged(err, "series entry");
}

static ps_status
parse_entry(blk_reader *r, blk_in *in, uint32_t i, int64_t tref_before, uint64_t *body_off,
            ps_err *err)
{
    const bool histogram = r->meta.kind == BLK_KIND_HISTOGRAM;
    blk_columns_series *s = &r->cseries[i];
    uint64_t step = blk_in_varint(in);
    unsigned codec = histogram ? 0 : blk_in_u8(in), flags = blk_in_u8(in);
    uint64_t base = (uint64_t)(i == 0 ? r->meta.series_lo : r->cseries[i - 1].series_id);

    if (in->bad || (i == 0) != (step == 0) || step > (uint64_t)r->meta.series_hi - base)
        return damaged(err, "series ids");
    s->series_id = (int64_t)(base + step);
    if ((flags & BLK_ENTRY_TREF) == BLK_ENTRY_TREF)
        return ps_fail(err, PS_EUNSUPPORTED,
                       "block refers to times in a way not known to this build");
    if (histogram && flags & ~(unsigned)BLK_ENTRY_TREF)
        return ps_fail(err, PS_EUNSUPPORTED,
                       "block has histograms of a form not known to this build");
    if (!parse_tref(in, flags, tref_before, r->n_tcols, &s->tcol))
        return damaged(err, "time column reference");
    PS_TRY(parse_values(r, in, codec, flags, i == 0 ? NULL : s - 1, s, err));
    s->values.body_off = (size_t)*body_off;
    *body_off += s->values.body_len;
    if (*body_off > r->body_len)
        return damaged(err, "series length");
    return PS_OK;
}

/* Start timestamps of each series. */
static ps_status
parse_starts(blk_reader *r, blk_in *in, uint64_t *body_off, ps_err *err)
{
    blk_starts_chain chain = {0};

    if (r->n_series > blk_in_left(in))
        return damaged(err, "start timestamps");
    r->scols = ps_alloc_array(&r->alloc, r->n_series, sizeof *r->scols);
    if (r->scols == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < r->n_series; i++) {
        ps_status status = blk_scol_parse(in, &chain, &r->scols[i]);
        if (status == PS_EUNSUPPORTED)
            return ps_fail(err, status,
                           "block has start timestamps of a form not known to this build");
        r->scols[i].body_off = (size_t)*body_off;
        *body_off += r->scols[i].body_len;
        if (status != PS_OK || *body_off > r->body_len)
            return damaged(err, "start timestamps");
    }
    return PS_OK;
}

static ps_status
parse_head(blk_reader *r, blk_in *in, ps_err *err)
{
    const bool histogram = r->meta.kind == BLK_KIND_HISTOGRAM;
    uint64_t body_off = 0, samples = 0;
    int64_t t_min = INT64_MAX, t_max = INT64_MIN, tref = -1;

    PS_TRY(parse_tcols(r, in, &body_off, err));
    if (histogram)
        PS_TRY(blk_layouts_read(&r->alloc, in, &r->layouts, &r->n_layouts, err));
    if ((uint64_t)r->meta.n_series >
        blk_in_left(in) / (histogram ? HISTOGRAM_ENTRY_MIN_BYTES : ENTRY_MIN_BYTES))
        return damaged(err, "number of series");
    r->n_series = (uint32_t)r->meta.n_series;
    r->cseries = ps_alloc_array(&r->alloc, r->n_series, sizeof *r->cseries);
    if (r->cseries == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < r->n_series; i++) {
        PS_TRY(parse_entry(r, in, i, tref, &body_off, err));
        tref = r->cseries[i].tcol;
        const blk_tcol *c = &r->tcols[tref];
        samples += c->n;
        t_min = c->t_first < t_min ? c->t_first : t_min;
        t_max = c->t_last > t_max ? c->t_last : t_max;
    }
    if (r->started)
        PS_TRY(parse_starts(r, in, &body_off, err));
    if (blk_in_left(in) != 0 || body_off != r->body_len)
        return damaged(err, "lengths do not add up");
    if (samples != (uint64_t)r->meta.n_samples || t_min != r->meta.t_min_ms ||
        t_max != r->meta.t_max_ms || r->cseries[r->n_series - 1].series_id != r->meta.series_hi)
        return damaged(err, "header does not match the directory");
    return PS_OK;
}

ps_status
blk_columns_open(blk_reader *r, ps_str data, ps_err *err)
{
    const uint8_t *p = (const uint8_t *)data.ptr;
    size_t head_len = blk_head_bytes(data);
    unsigned flags;

    r->own = (blk_bench){.alloc = r->alloc, .kept = &r->own_kept, .n_kept = 1};
    blk_codec_scratch_init(&r->own.scratch, &r->alloc);
    if (head_len == 0)
        return damaged(err, "head length");
    if (data.len < head_len)
        return r->head_only ? ps_fail(err, PS_EINVAL, "the first %zu bytes of the block are needed",
                                      head_len)
                            : damaged(err, "cut short");
    if (blk_crc_skipping((ps_str){data.ptr, head_len}) != ps_get_u32le(p + BLK_OFF_CRC))
        return damaged(err, "checksum of the head");
    blk_in in = {p, p + head_len, false};
    PS_TRY(blk_header_read(&in, &r->meta, &flags, err));
    if (r->meta.metric_id <= 0)
        return damaged(err, "metric");
    r->started = (flags & BLK_FLAG_STARTS) != 0;
    r->body = p + head_len;
    r->body_len = ps_get_u32le(p + BLK_OFF_BODY_LEN);
    if (!r->head_only) {
        if (r->body_len != data.len - head_len)
            return damaged(err, "length of the body");
        if (ps_crc32c(0, r->body, r->body_len) != ps_get_u32le(p + BLK_OFF_BODY_CRC))
            return damaged(err, "checksum of the body");
    }
    return parse_head(r, &in, err);
}

void
blk_columns_close(blk_reader *r)
{
    ps_alloc_free(&r->alloc, r->tcols, r->n_tcols * sizeof *r->tcols);
    ps_alloc_free(&r->alloc, r->cseries, r->n_series * sizeof *r->cseries);
    ps_alloc_free(&r->alloc, r->scols, r->n_series * sizeof *r->scols);
    blk_scratch_done(&r->alloc, &r->own_kept.times);
    blk_scratch_done(&r->alloc, &r->own_kept.ints);
    blk_scratch_done(&r->alloc, &r->own.times);
    blk_scratch_done(&r->alloc, &r->own.columns);
    blk_scratch_done(&r->alloc, &r->own.matrix);
    blk_codec_scratch_done(&r->own.scratch, &r->alloc);
}

/* The part of the kept column that lies in the range. */
static void
slice_kept(const blk_kept *kept, const blk_tcol *c, int64_t from_ms, int64_t to_ms, int64_t *t_ms,
           size_t *ret_lo, size_t *ret_n)
{
    const int64_t *t = kept->times.ptr;
    size_t bounds[2];

    for (unsigned k = 0; k < 2; k++) { /* first time >= from, first time > to */
        size_t lo = 0, hi = c->n;
        while (lo < hi) {
            size_t mid = lo + (hi - lo) / 2;
            if (k == 0 ? t[mid] < from_ms : t[mid] <= to_ms)
                lo = mid + 1;
            else
                hi = mid;
        }
        bounds[k] = lo;
    }
    *ret_lo = bounds[0];
    *ret_n = bounds[1] > bounds[0] ? bounds[1] - bounds[0] : 0;
    memcpy(t_ms, t + bounds[0], *ret_n * sizeof *t);
}

static blk_kept *
place_of(const blk_bench *b, const blk_reader *r, uint32_t tcol)
{
    return &b->kept[((uintptr_t)r / sizeof *r + tcol) & (b->n_kept - 1)];
}

/* Times of series i in the range. A column that is wanted whole and that the next series shares
 * is kept. */
static ps_status
decode_times(const blk_reader *r, blk_bench *b, uint32_t i, int64_t from_ms, int64_t to_ms,
             int64_t *t_ms, size_t *ret_lo, size_t *ret_n)
{
    const uint32_t tcol = r->cseries[i].tcol;
    const blk_tcol *c = &r->tcols[tcol];
    blk_kept *kept = place_of(b, r, tcol);

    if (kept->of == r && kept->tcol == tcol) {
        slice_kept(kept, c, from_ms, to_ms, t_ms, ret_lo, ret_n);
        return PS_OK;
    }
    if (!blk_tcol_decode(c, r->body, r->body_len, from_ms, to_ms, t_ms, ret_lo, ret_n))
        return PS_ECORRUPT;
    if (c->frames == NULL || c->n > BLK_KEPT_TIMES || *ret_n != c->n || i + 1 >= r->n_series ||
        r->cseries[i + 1].tcol != tcol)
        return PS_OK;
    kept->of = NULL;
    void *times = blk_scratch_get(&b->alloc, &kept->times, c->n, sizeof *t_ms);
    if (times == NULL)
        return PS_ENOMEM;
    memcpy(times, t_ms, c->n * sizeof *t_ms);
    kept->of = r;
    kept->tcol = tcol;
    return PS_OK;
}

static ps_status
need_body(const blk_reader *r, ps_err *err)
{
    return r->head_only ? ps_fail(err, PS_EINVAL, "the block was opened without its body") : PS_OK;
}

ps_status
blk_columns_times(const blk_reader *r, blk_bench *b, uint32_t i, int64_t from_ms, int64_t to_ms,
                  int64_t *t_ms, size_t *ret_lo, size_t *ret_n, ps_err *err)
{
    PS_TRY(need_body(r, err));
    ps_status status = decode_times(r, b, i, from_ms, to_ms, t_ms, ret_lo, ret_n);
    if (status == PS_ENOMEM)
        return ps_fail(err, status, "out of memory");
    return status == PS_OK ? PS_OK : damaged(err, "times");
}

/* Values of a series that is relative to others or is what another is relative to: from the first of the row on, or
 * from the one whose integers are kept. */
static ps_status
row_values(const blk_reader *r, blk_bench *b, uint32_t i, size_t lo, size_t n, double *values)
{
    const uint32_t n_all = r->tcols[r->cseries[i].tcol].n;
    blk_kept *kept = place_of(b, r, 0);
    uint32_t at = i - r->cseries[i].values.depth;

    if (kept->ints_of == r && kept->lo == lo && kept->n == n && kept->series >= at && kept->series < i)
        at = kept->series + 1;
    kept->ints_of = NULL;
    uint64_t *ints = blk_scratch_get(&b->alloc, &kept->ints, n, sizeof *ints);
    if (ints == NULL)
        return PS_ENOMEM;
    for (; at <= i; at++)
        PS_TRY(blk_codec_integers(&r->cseries[at].values, n_all, r->body, r->body_len, lo, n, ints,
                                  at == i ? values : NULL));
    kept->ints_of = r;
    kept->series = i;
    kept->lo = lo;
    kept->n = n;
    return PS_OK;
}

ps_status
blk_columns_values(const blk_reader *r, blk_bench *b, uint32_t i, size_t lo, size_t n,
                   double *values, ps_err *err)
{
    const blk_columns_series *s = &r->cseries[i];

    if (n == 0)
        return PS_OK;
    PS_TRY(need_body(r, err));
    ps_status status =
        s->values.is_base || s->values.depth > 0
            ? row_values(r, b, i, lo, n, values)
            : blk_codec_decode(&b->alloc, &b->scratch, &s->values, r->tcols[s->tcol].n, r->body,
                               r->body_len, lo, n, values);
    if (status == PS_ENOMEM)
        return ps_fail(err, status, "out of memory");
    return status == PS_OK ? PS_OK : damaged(err, "values");
}

ps_status
blk_columns_starts(const blk_reader *r, blk_bench *b, uint32_t i, size_t lo, size_t n,
                   int64_t *start_ms, ps_err *err)
{
    const uint32_t n_all = r->tcols[r->cseries[i].tcol].n;
    const blk_scol *c = &r->scols[i];
    int64_t *t = NULL;

    PS_TRY(need_body(r, err));
    if (blk_scol_needs_times(c)) {
        size_t first, got;
        t = blk_scratch_get(&b->alloc, &b->times, n_all, sizeof *t);
        if (t == NULL)
            return ps_fail(err, PS_ENOMEM, "out of memory");
        PS_TRY(blk_columns_times(r, b, i, INT64_MIN, INT64_MAX, t, &first, &got, err));
        t += lo;
    }
    if (!blk_scol_decode(c, r->body, n_all, lo, n, t, start_ms))
        return damaged(err, "start timestamps");
    return PS_OK;
}
