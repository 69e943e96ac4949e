/* histgen.c - see histgen.h. */
#include "tests/unit/support.h"

#include <math.h>

#include "tests/unit/block/histgen.h"

typedef struct maker {
    uint64_t *state;
    ps_arena *arena;
    hst_hist h;        /* all but buckets */
    double *pops[2];   /* dense, from `lowest` on */
    int32_t lowest, n; /* of both sides */
} maker;

static void
make_space(maker *m, int32_t lowest, int32_t n)
{
    m->lowest = lowest;
    m->n = n;
    for (unsigned side = 0; side < 2; side++) {
        m->pops[side] = ps_arena_array(m->arena, (size_t)n, sizeof(double));
        assert_non_null(m->pops[side]);
    }
}

/* Spans over what is populated; every now and then an empty bucket or an empty span as well. */
static hst_side
make_side(maker *m, unsigned side, bool untidy)
{
    hst_span *spans = ps_arena_array(m->arena, (size_t)m->n * 2 + 1, sizeof *spans);
    double *counts = ps_arena_array(m->arena, (size_t)m->n + 1, sizeof *counts);
    hst_side s = {.spans = spans, .counts = counts};
    int32_t next = 0;

    assert_true(spans != NULL && counts != NULL);
    for (int32_t i = 0; i < m->n; i++) {
        double v = m->pops[side][i];
        if (v == 0 && !(untidy && gen_below(m->state, 8) == 0))
            continue;
        if (untidy && s.n_spans > 0 && gen_below(m->state, 8) == 0)
            spans[s.n_spans++] = (hst_span){0, 0};
        int32_t index = m->lowest + i, gap = s.n_spans == 0 ? index : index - next;
        if (s.n_spans > 0 && gap == 0)
            spans[s.n_spans - 1].length++;
        else
            spans[s.n_spans++] = (hst_span){gap, 1};
        counts[s.n_counts++] = v;
        next = index + 1;
    }
    return s;
}

static const hst_hist *
make(maker *m, bool untidy)
{
    hst_hist *h = ps_arena_new(m->arena, sizeof *h);

    assert_non_null(h);
    *h = m->h;
    h->positive = make_side(m, 0, untidy);
    h->negative = m->h.schema == HST_CUSTOM ? (hst_side){0} : make_side(m, 1, untidy);
    assert_int_equal(hst_check(h, NULL), PS_OK);
    return h;
}

static void
observe(maker *m, unsigned n, int32_t from, int32_t to)
{
    for (unsigned i = 0; i < n; i++) {
        unsigned side = m->h.schema != HST_CUSTOM && gen_below(m->state, 5) == 0;
        int32_t at = from + (int32_t)(gen_below(m->state, (uint64_t)(to - from)) +
                                      gen_below(m->state, (uint64_t)(to - from))) /
                                2;
        m->pops[side][at]++;
        m->h.count++;
        m->h.sum += gen_unit(m->state);
    }
}

static void
clear(maker *m)
{
    for (unsigned side = 0; side < 2; side++)
        memset(m->pops[side], 0, (size_t)m->n * sizeof(double));
    m->h.count = m->h.sum = m->h.zero_count = 0;
}

static const hst_hist *
marker(maker *m)
{
    hst_hist *h = ps_arena_new(m->arena, sizeof *h);

    assert_non_null(h);
    *h =
        (hst_hist){.sum = ps_double_of(MDL_STALE_NAN_BITS), .integer = gen_below(m->state, 2) == 0};
    return h;
}

static double
any_number(uint64_t *state)
{
    double v;

    gen_fill_values(state, gen_below(state, 3) == 0 ? GEN_NOISE_BITS : GEN_HOSTILE, &v, 1);
    return v;
}

static void
make_hostile(maker *m)
{
    static const int32_t schemas[] = {-4, -1, 0, 3, 8};

    clear(m);
    m->h.schema = schemas[gen_below(m->state, PS_ARRAY_LEN(schemas))];
    m->h.count = any_number(m->state);
    m->h.sum = any_number(m->state);
    m->h.zero_count = any_number(m->state);
    do
        m->h.zero_threshold = fabs(any_number(m->state));
    while (isnan(m->h.zero_threshold) || isinf(m->h.zero_threshold));
    m->h.hint = (hst_hint)gen_below(m->state, 4);
    m->h.integer = gen_below(m->state, 2);
    for (unsigned k = (unsigned)gen_below(m->state, 20); k > 0; k--)
        m->pops[k & 1][gen_below(m->state, (uint64_t)m->n)] = any_number(m->state);
}

static void
begin(maker *m, gen_histograms kind)
{
    static const double bounds[] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};

    m->h = (hst_hist){.schema = 3, .integer = true, .zero_threshold = 0x1p-128};
    make_space(m, kind == GEN_HIST_CUSTOM ? 0 : -20, 60);
    if (kind == GEN_HIST_CUSTOM) {
        m->h.schema = HST_CUSTOM;
        m->h.zero_threshold = 0;
        m->h.bounds = bounds;
        m->h.n_bounds = PS_ARRAY_LEN(bounds);
        make_space(m, 0, PS_ARRAY_LEN(bounds) + 1);
    } else if (kind == GEN_HIST_WIDE) {
        make_space(m, -1000, 3000);
    } else if (kind == GEN_HIST_FAR) {
        make_space(m, gen_below(m->state, 2) ? -HST_INDEX_MAX : HST_INDEX_MAX - 5, 5);
    } else if (kind == GEN_HIST_GAUGE) {
        m->h.hint = HST_GAUGE;
        m->h.integer = false;
    }
}

/* Moves on to sample i. */
static void
step(maker *m, gen_histograms kind, size_t i)
{
    uint64_t *state = m->state;
    int32_t grown = 5 + (int32_t)(i / 8);

    switch (kind) {
    case GEN_HIST_COUNTER:
        observe(m, (unsigned)gen_below(state, 100), 0, grown < m->n ? grown : m->n);
        break;
    case GEN_HIST_STEADY:
        observe(m, i == 0 ? 100000 : 300, 0, m->n);
        m->h.zero_count += (double)gen_below(state, 2);
        m->h.count = m->h.count + (double)(gen_below(state, 50) == 0); /* an observation of NaN */
        break;
    case GEN_HIST_RESETS:
        m->h.hint = HST_UNKNOWN;
        if (gen_below(state, 20) == 0) {
            clear(m);
            m->h.hint = HST_RESET;
        } else if (gen_below(state, 2) == 0) {
            m->h.hint = HST_NOT_RESET;
        }
        observe(m, 20, 0, m->n);
        break;
    case GEN_HIST_GAUGE:
        clear(m);
        for (unsigned k = 0; k < 10; k++)
            m->pops[k & 1][gen_below(state, (uint64_t)m->n)] = gen_unit(state) * 100;
        m->h.sum = gen_unit(state);
        m->h.count = (double)gen_below(state, 100) / 10;
        m->h.zero_count = gen_unit(state);
        break;
    case GEN_HIST_SCHEMAS:
        if (gen_below(state, 10) == 0) {
            clear(m);
            m->h.schema = (int32_t)gen_below(state, 13) - 4;
            m->h.zero_threshold = gen_below(state, 2) ? 0.001 : 0;
            m->h.integer = gen_below(state, 2);
        }
        observe(m, 10, 0, m->n);
        break;
    case GEN_HIST_HOSTILE:
        make_hostile(m);
        break;
    case GEN_HIST_EMPTY:
        m->h.sum += gen_unit(state);
        break;
    default:
        observe(m, 50, 0, m->n);
        break;
    }
}

void
gen_fill_histograms(uint64_t *state, gen_histograms kind, ps_arena *arena, const hst_hist **h,
                    size_t n)
{
    maker m = {.state = state, .arena = arena};

    begin(&m, kind);
    for (size_t i = 0; i < n; i++) {
        if (kind == GEN_HIST_RESETS && gen_below(state, 10) == 0) {
            h[i] = marker(&m);
            continue;
        }
        step(&m, kind, i);
        h[i] = make(&m, kind != GEN_HIST_WIDE && gen_below(state, 4) == 0);
    }
}

void
gen_fill_starts(uint64_t *state, unsigned kind, const int64_t *t, int64_t *starts, size_t n)
{
    int64_t start = t[0] - (int64_t)gen_below(state, 100000000) - 1;

    for (size_t i = 0; i < n; i++) {
        switch (kind) {
        case 0:
            starts[i] = 0;
            break;
        case 1:
            if (gen_below(state, 40) == 0)
                start = t[i] - 1;
            starts[i] = start;
            break;
        case 2:
            starts[i] = t[i] - 15000;
            break;
        case 3:
            starts[i] = gen_below(state, 4) == 0 ? 0 : t[0] - 1000;
            break;
        default:
            starts[i] = (int64_t)(gen_u64(state) % (uint64_t)MDL_TIME_MAX_MS) / 3;
        }
        if (starts[i] < MDL_TIME_MIN_MS)
            starts[i] = 0;
    }
}

void
check_histogram(const hst_hist *got, const hst_hist *want)
{
    assert_int_equal(hst_check(got, NULL), PS_OK);
    assert_int_equal(got->hint, want->hint);
    if (hst_is_stale(want) && want->count == 0 && want->positive.n_counts == 0) {
        assert_true(hst_is_stale(got) && got->count == 0);
        assert_int_equal(got->positive.n_counts + got->negative.n_counts, 0);
        return;
    }
    assert_true(hst_equal(got, want));
    assert_true(ps_bits_of(got->zero_threshold) == ps_bits_of(want->zero_threshold));
    assert_int_equal(got->integer, want->integer);
    for (unsigned side = 0; side < 2; side++) {
        const hst_side *s = side == 0 ? &got->positive : &got->negative;
        for (uint32_t i = 0; i < s->n_counts; i++)
            assert_true(s->counts[i] != 0);
        for (uint32_t i = 0; i < s->n_spans; i++)
            assert_true(s->spans[i].length > 0 && (i == 0 || s->spans[i].offset > 0));
    }
}
