/*
 * fuzz_histogram.c - native histograms.
 *
 * The first byte chooses what the rest is:
 *   0  text in the notation of scripts: what is read is written, compacted, walked
 *   1  two descriptions of histograms with populations of any kind: what passes the check goes through
 *      all operations
 *   2  two descriptions with small whole numbers: arithmetic is exact there, so that observations may
 *      neither be lost nor made, and different ways must lead to the same result
 */
#include <math.h>

#include "lib/histogram/histogram.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_SPANS = 6, MAX_BUCKETS = 96, MAX_BOUNDS = 24, BUDGET = 1 << 24 };

typedef struct input {
    const uint8_t *p;
    size_t left;
    bool whole;
} input;

typedef struct drawn { /* a histogram and what it is made of */
    hst_hist h;
    hst_span spans[2][MAX_SPANS];
    double counts[2][MAX_BUCKETS];
    double bounds[MAX_BOUNDS];
} drawn;

static uint8_t
byte(input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->p++;
}

static double
number(input *in)
{
    if (in->whole)
        return byte(in);
    uint8_t kind = byte(in);
    if (kind < 200)
        return kind;
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | byte(in);
    return ps_double_of(bits);
}

static void
draw_side(input *in, drawn *d, int which, hst_side *side)
{
    uint32_t n_spans = byte(in) % (MAX_SPANS + 1), n = 0;
    for (uint32_t i = 0; i < n_spans; i++) {
        uint8_t at = byte(in), length = byte(in) % 17;
        int32_t offset = i == 0 ? (int8_t)at / 4 : at % 8;
        if (!in->whole && at == 255)
            offset = (int32_t)((uint32_t)byte(in) << 24 | (uint32_t)byte(in) << 16);
        d->spans[which][i] = (hst_span){offset, length};
        n += length;
    }
    if (!in->whole && byte(in) == 1)
        n++; /* a wrong number of buckets */
    if (n > MAX_BUCKETS)
        n = MAX_BUCKETS;
    for (uint32_t i = 0; i < n; i++)
        d->counts[which][i] = number(in);
    *side = (hst_side){d->spans[which], n_spans, n, d->counts[which]};
}

static double
total(const hst_hist *h)
{
    double t = h->zero_count;
    for (uint32_t i = 0; i < h->positive.n_counts; i++)
        t += h->positive.counts[i];
    for (uint32_t i = 0; i < h->negative.n_counts; i++)
        t += h->negative.counts[i];
    return t;
}

static void
draw(input *in, drawn *d)
{
    static const double widths[] = {0, 0, 0.001, 0.5, 1, 1.4142135623730949, 2, 3};
    hst_hist *h = &d->h;
    uint8_t schema = byte(in);
    /* Below -1 a few buckets reach the end of all doubles. */
    *h = (hst_hist){.schema = in->whole ? (int32_t)(schema % 10) - 1 : (int32_t)(schema % 13) - 4};
    if (schema < 64)
        h->schema = HST_CUSTOM;
    if (!in->whole && schema == 255)
        h->schema = (int8_t)byte(in);
    h->hint = in->whole ? HST_UNKNOWN : (hst_hint)(byte(in) % 4);
    draw_side(in, d, 0, &h->positive);
    if (h->schema != HST_CUSTOM) {
        draw_side(in, d, 1, &h->negative);
        h->zero_count = number(in);
        h->zero_threshold = in->whole ? widths[byte(in) % 8] : number(in);
    } else {
        h->n_bounds = byte(in) % (MAX_BOUNDS + 1);
        double bound = (int8_t)byte(in);
        for (uint32_t i = 0; i < h->n_bounds;
             i++, bound += in->whole ? 1 + byte(in) % 4 : number(in))
            d->bounds[i] = bound;
        h->bounds = d->bounds;
    }
    h->sum = number(in);
    h->count = in->whole ? total(h) : number(in);
}

/* ---- one histogram ------------------------------------------------------------------------------- */

static void
check_walks(const hst_hist *h)
{
    enum { MAX_WALK = 2 * MAX_BUCKETS + 1 };
    hst_iter it;
    hst_bucket up[MAX_WALK], b;
    size_t n = 0, k = 0;
    hst_iter_up(&it, h);
    while (hst_next(&it, &b)) {
        if (n < MAX_WALK)
            up[n] = b;
        n++;
    }
    REQUIRE(n == (size_t)h->positive.n_counts + h->negative.n_counts + (h->zero_count > 0));
    hst_iter_down(&it, h);
    while (hst_next(&it, &b)) {
        k++;
        if (n <= MAX_WALK)
            REQUIRE(up[n - k].index == b.index && up[n - k].lower == b.lower &&
                    up[n - k].upper == b.upper);
    }
    REQUIRE(k == n);
}

static void
check_text(const hst_hist *h)
{
    ps_buf out;
    ps_buf_init(&out, &ps_malloc);
    hst_format(&out, h);
    REQUIRE(!out.failed && out.len > 0 && out.ptr[out.len - 1] == '}');
    ps_buf_done(&out);
}

static void
check_one(ps_arena *arena, const hst_hist *h)
{
    const hst_hist *r, *again;
    hst_quantile_notes notes = {0};
    check_walks(h);
    check_text(h);
    REQUIRE(hst_copy(arena, h, &r) == PS_OK && hst_equal(h, r) && hst_check(r, NULL) == PS_OK);
    REQUIRE(hst_compact(arena, h, &r) == PS_OK && hst_equal(h, r) && hst_check(r, NULL) == PS_OK);
    REQUIRE(hst_compact(arena, r, &again) == PS_OK && again == r);
    REQUIRE(!hst_detect_reset(h, r) || h->hint == HST_RESET || isnan(total(h)));
    REQUIRE(hst_mul(arena, h, -2, &r) == PS_OK && hst_check(r, NULL) == PS_OK);
    REQUIRE(hst_div(arena, h, 3, &r) == PS_OK && hst_check(r, NULL) == PS_OK);
    REQUIRE(hst_trim(arena, h, 1.25, true, &r) == PS_OK && hst_check(r, NULL) == PS_OK);
    REQUIRE(hst_trim(arena, h, -0.75, false, &r) == PS_OK && hst_check(r, NULL) == PS_OK);
    for (double q = -0.25; q <= 1.25; q += 0.25)
        hst_quantile(h, q, &notes);
    hst_fraction(h, -1, 1.5, &notes);
    hst_variance(h);
    REQUIRE(hst_weight(h) * 16 + 16 > 176 + 8 * (size_t)h->positive.n_counts);
    if (h->schema == HST_CUSTOM)
        return;
    REQUIRE(hst_reduce(arena, h, HST_SCHEMA_MIN, &r) == PS_OK && hst_check(r, NULL) == PS_OK);
}

static bool
near(double a, double b)
{
    return fabs(a - b) <= 1e-9 * (fabs(a) + fabs(b) + 1);
}

/* Nothing negative, and the count is that of all buckets. */
static void
check_whole(ps_arena *arena, const hst_hist *h)
{
    const hst_hist *r, *below, *above;
    hst_quantile_notes notes = {0};
    if (h->schema != HST_CUSTOM) {
        for (int32_t s = h->schema; s >= HST_SCHEMA_MIN; s--)
            REQUIRE(hst_reduce(arena, h, s, &r) == PS_OK && total(r) == total(h) &&
                    !hst_detect_reset(h, r));
        REQUIRE(hst_trim(arena, h, 0.8, true, &below) == PS_OK);
        REQUIRE(hst_trim(arena, h, 0.8, false, &above) == PS_OK);
        REQUIRE(near(below->count + above->count, h->count));
    }
    if (h->count == 0)
        return;
    double last = -HUGE_VAL;
    for (double q = 0; q <= 1; q += 0.0625) {
        double v = hst_quantile(h, q, &notes);
        /* Where the zero bucket lies over others, they are not in order. */
        if (h->zero_threshold == 0)
            REQUIRE(!(v < last) || near(v, last));
        last = v;
    }
    REQUIRE(near(hst_fraction(h, -HUGE_VAL, HUGE_VAL, &notes), 1));
    REQUIRE(!notes.result_is_nan && !notes.skewed && !notes.excluded);
}

/* ---- two --------------------------------------------------------------------------------------------- */

static ps_status
sum_both(ps_arena *arena, const hst_hist *a, const hst_hist *b, bool mean, const hst_hist **ret)
{
    hst_sum *s;
    REQUIRE(hst_sum_new(arena, b, &s) == PS_OK); /* used before */
    REQUIRE(hst_sum_reset(s, a) == PS_OK);
    PS_TRY(mean ? hst_mean_add(s, b, NULL) : hst_sum_add(s, b, NULL));
    return mean ? hst_mean_value(s, arena, ret) : hst_sum_value(s, arena, ret);
}

static void
check_pair(ps_arena *arena, const hst_hist *a, const hst_hist *b, bool whole)
{
    const hst_hist *sum, *r, *mean;
    hst_notes notes = {0};
    hst_detect_reset(a, b);
    if (hst_is_custom(a) != hst_is_custom(b)) {
        REQUIRE(hst_add(arena, a, b, &notes, &sum) == PS_EINVAL);
        REQUIRE(sum_both(arena, a, b, false, &r) == PS_EINVAL);
        return;
    }
    REQUIRE(hst_add(arena, a, b, &notes, &sum) == PS_OK && hst_check(sum, NULL) == PS_OK);
    REQUIRE(hst_sub(arena, a, b, NULL, &r) == PS_OK && hst_check(r, NULL) == PS_OK);
    REQUIRE(sum_both(arena, a, b, true, &mean) == PS_OK && hst_check(mean, NULL) == PS_OK);
    REQUIRE(sum_both(arena, a, b, false, &r) == PS_OK && hst_check(r, NULL) == PS_OK);
    REQUIRE(r->schema == sum->schema && r->zero_threshold == sum->zero_threshold);
    if (!whole)
        return;
    REQUIRE(hst_equal(sum, r));
    REQUIRE(hst_mul(arena, mean, 2, &r) == PS_OK && hst_equal(sum, r));
    if (a->schema != b->schema)
        return;
    REQUIRE(!hst_detect_reset(a, sum));
    if (hst_is_custom(a))
        REQUIRE(total(sum) == total(a) + total(b));
    bool plain = a->zero_threshold == 0 && b->zero_threshold == 0 && !notes.bounds_reconciled;
    if (plain)
        REQUIRE(hst_sub(arena, sum, b, NULL, &r) == PS_OK && hst_equal(r, a));
}

/* ---- text ---------------------------------------------------------------------------------------------- */

static void
check_notation(ps_arena *arena, const uint8_t *data, size_t size)
{
    const hst_hist *h = NULL;
    bool has_hint;
    ps_err err = {0};
    char *exact = malloc(size == 0 ? 1 : size);
    REQUIRE(exact != NULL);
    if (size > 0)
        memcpy(exact, data, size);
    ps_status status = hst_parse(arena, (ps_str){exact, size}, &h, &has_hint, &err);
    free(exact);
    REQUIRE(status == PS_OK || (status == PS_EINVAL && err.text[0] != '\0'));
    if (status == PS_OK) {
        REQUIRE(hst_check(h, NULL) == PS_OK);
        check_one(arena, h);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 4096)
        return 0;
    ps_arena arena;
    ps_arena_init(&arena, &ps_malloc, BUDGET);
    if (data[0] % 3 == 0) {
        check_notation(&arena, data + 1, size - 1);
    } else {
        static const size_t pair = 2;
        input in = {data + 1, size - 1, data[0] % 3 == 2};
        drawn *d = ps_arena_array(&arena, pair, sizeof *d);
        REQUIRE(d != NULL);
        bool good = true;
        for (size_t i = 0; i < pair; i++) {
            draw(&in, &d[i]);
            if (hst_check(&d[i].h, NULL) != PS_OK) {
                good = false;
                continue;
            }
            check_one(&arena, &d[i].h);
            if (in.whole)
                check_whole(&arena, &d[i].h);
        }
        if (good)
            check_pair(&arena, &d[0].h, &d[1].h, in.whole);
    }
    ps_arena_done(&arena);
    return 0;
}
