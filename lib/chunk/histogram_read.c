/*
 * histogram_read.c - chunks of histograms read back.
 *
 * What is carried from sample to sample is one table of numbers: count, zero count, buckets, with the
 * last difference of each (integers) or the window of its last change (floats). Every bucket of every
 * sample has at least one bit, so memory stays within a multiple of the chunk's size.
 */
#include <math.h>

#include "lib/chunk/internal.h"

typedef struct number { /* one of the numbers that each sample has */
    union {
        int64_t whole; /* of a bucket: its difference to its neighbour */
        uint64_t bits; /* of a float */
    };
    int64_t step;
    chk_window window;
} number;

typedef struct state {
    chk_in *in;
    ps_arena *arena;
    bool floats;
    uint8_t flags;
    hst_hist layout;
    number *numbers; /* count, zero count, then the buckets of both sides */
    size_t n_numbers;
    uint64_t sum;
    chk_window sum_window;
    int64_t t_ms, step;
} state;

/* ---- layout ------------------------------------------------------------------------------------------- */

static double
get_zero_threshold(chk_in *in)
{
    uint64_t code = chk_get(in, 8);
    if (code == 0)
        return 0;
    return code == 255 ? ps_double_of(chk_get64(in)) : ldexp(0.5, (int)code - 243);
}

static double
get_bound(chk_in *in)
{
    uint64_t v = chk_get_uint(in);
    return v == 0 ? ps_double_of(chk_get64(in)) : (double)(v - 1) / 1000;
}

static ps_status
get_spans(state *s, hst_side *side, ps_err *err)
{
    uint64_t n = chk_get_uint(s->in), n_counts = 0, per_bucket = s->floats ? 64 : 1;
    if (n > chk_left(s->in) / 2)
        return chk_damaged("it is too short for its spans", err);
    hst_span *spans = ps_arena_new(s->arena, ((size_t)n + 1) * sizeof(*spans));
    if (spans == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    for (uint64_t i = 0; i < n; i++) {
        uint64_t length = chk_get_uint(s->in);
        int64_t offset = chk_get_int(s->in);
        if (length > chk_left(s->in) || offset != (int32_t)offset)
            return chk_damaged("a span is out of range", err);
        spans[i] = (hst_span){(int32_t)offset, (uint32_t)length};
        n_counts += length;
    }
    if (n_counts > chk_left(s->in) / per_bucket)
        return chk_damaged("it is too short for its buckets", err);
    *side = (hst_side){.spans = spans, .n_spans = (uint32_t)n, .n_counts = (uint32_t)n_counts};
    return PS_OK;
}

static ps_status
get_bounds(state *s, ps_err *err)
{
    uint64_t n = chk_get_uint(s->in);
    if (n > chk_left(s->in) / 5)
        return chk_damaged("it is too short for its bounds", err);
    double *bounds = ps_arena_new(s->arena, ((size_t)n + 1) * sizeof(*bounds));
    if (bounds == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    for (uint64_t i = 0; i < n; i++)
        bounds[i] = get_bound(s->in);
    s->layout.bounds = bounds;
    s->layout.n_bounds = (uint32_t)n;
    return PS_OK;
}

static ps_status
get_layout(state *s, ps_err *err)
{
    hst_hist *h = &s->layout;
    ps_err why;
    s->flags = (uint8_t)chk_get(s->in, 8);
    h->zero_threshold = get_zero_threshold(s->in);
    int64_t schema = chk_get_int(s->in);
    if (schema != (int32_t)schema)
        return chk_damaged("its schema is out of range", err);
    h->schema = (int32_t)schema;
    h->integer = !s->floats;
    PS_TRY(get_spans(s, &h->positive, err));
    PS_TRY(get_spans(s, &h->negative, err));
    if (h->schema == HST_CUSTOM)
        PS_TRY(get_bounds(s, err));
    if (s->in->bad)
        return chk_damaged("it ends within its layout", err);
    if (hst_check(h, &why) != PS_OK)
        return chk_damaged(why.text, err);
    s->n_numbers = 2 + (size_t)h->positive.n_counts + h->negative.n_counts;
    s->numbers = ps_arena_array(s->arena, s->n_numbers, sizeof(*s->numbers));
    if (s->numbers == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    for (size_t i = 0; i < s->n_numbers; i++)
        s->numbers[i].window.leading = CHK_NO_WINDOW;
    s->sum_window.leading = CHK_NO_WINDOW;
    return PS_OK;
}

/* ---- samples -------------------------------------------------------------------------------------------- */

static void
get_number(state *s, number *v, bool first, bool is_count)
{
    if (s->floats && first) {
        v->bits = chk_get64(s->in);
    } else if (s->floats) {
        v->bits = chk_get_xor(s->in, v->bits, &v->window);
    } else if (first) {
        v->whole = is_count ? (int64_t)chk_get_uint(s->in) : chk_get_int(s->in);
    } else { /* wraps around where bytes are hostile */
        v->step = (int64_t)((uint64_t)v->step + (uint64_t)chk_get_int(s->in));
        v->whole = (int64_t)((uint64_t)v->whole + (uint64_t)v->step);
    }
}

static double
count_of(const state *s, const number *v)
{
    return s->floats ? ps_double_of(v->bits) : (double)(uint64_t)v->whole;
}

static void
make_side(const state *s, const number *v, hst_side *side, double *counts)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < side->n_counts; i++) {
        sum += (uint64_t)v[i].whole;
        counts[i] = s->floats ? ps_double_of(v[i].bits) : (double)(int64_t)sum;
    }
    side->counts = counts;
}

static ps_status
make_histogram(state *s, bool first, const hst_hist **ret, ps_err *err)
{
    bool stale = s->sum == MDL_STALE_NAN_BITS;
    size_t n_counts = stale ? 0 : s->n_numbers - 2;
    hst_hist *h = ps_arena_new(s->arena, sizeof(*h) + n_counts * sizeof(double));
    if (h == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    double *counts = (double *)(h + 1);
    if (stale) {
        *h = (hst_hist){.sum = ps_double_of(s->sum), .integer = !s->floats};
    } else {
        *h = s->layout;
        h->hint = s->flags == CHK_FLAG_GAUGE ? HST_GAUGE : first ? HST_UNKNOWN : HST_NOT_RESET;
        h->sum = ps_double_of(s->sum);
        h->count = count_of(s, &s->numbers[0]);
        h->zero_count = count_of(s, &s->numbers[1]);
        make_side(s, s->numbers + 2, &h->positive, counts);
        make_side(s, s->numbers + 2 + h->positive.n_counts, &h->negative,
                  counts + h->positive.n_counts);
        if (h->schema == HST_CUSTOM && h->zero_count != 0 && !isnan(h->zero_count))
            return chk_damaged("custom buckets have no zero bucket", err);
    }
    *ret = h;
    return PS_OK;
}

static void
get_sample(state *s, size_t i)
{
    int64_t change = chk_get_int(s->in);
    if (i == 0) {
        s->t_ms = change;
    } else {
        s->step = (int64_t)((uint64_t)s->step + (uint64_t)change);
        s->t_ms = (int64_t)((uint64_t)s->t_ms + (uint64_t)s->step);
    }
    get_number(s, &s->numbers[0], i == 0, true);
    get_number(s, &s->numbers[1], i == 0, true);
    s->sum = i == 0 ? chk_get64(s->in) : chk_get_xor(s->in, s->sum, &s->sum_window);
    if (i > 0 && s->sum == MDL_STALE_NAN_BITS)
        return;
    for (size_t k = 2; k < s->n_numbers; k++)
        get_number(s, &s->numbers[k], i == 0, false);
}

ps_status
chk_read_histograms(chk_in *in, bool floats, size_t n, ps_arena *arena, chk_decoded *ret,
                    ps_err *err)
{
    state s = {.in = in, .arena = arena, .floats = floats};
    chk_decoded d = {.t_ms = ps_arena_new(arena, (n + 1) * sizeof(int64_t)),
                     .histograms = ps_arena_new(arena, (n + 1) * sizeof(hst_hist *)),
                     .n = n};
    if (d.t_ms == NULL || d.histograms == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    if (n > 0)
        PS_TRY(get_layout(&s, err));
    s.flags &= CHK_FLAG_MASK;
    for (size_t i = 0; i < n; i++) {
        get_sample(&s, i);
        if (in->bad)
            return chk_damaged("it ends within a sample", err);
        d.t_ms[i] = s.t_ms;
        PS_TRY(make_histogram(&s, i == 0, &d.histograms[i], err));
    }
    *ret = d;
    return PS_OK;
}
