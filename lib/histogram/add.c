/*
 * add.c - a + b and a - b.
 *
 * Both sides are merged bucket by bucket in one pass over each. Before that the layouts are made
 * the same: the zero bucket becomes so wide that it cuts no populated bucket of either, the schema is
 * the lower of the two, of custom bounds those remain that both have. Nothing of a or b is copied for
 * that: the walks map indexes as they go.
 *
 * As in Prometheus the two operands are not treated alike where buckets reach below the zero
 * threshold: of `a` those are left out that were taken into a wider zero bucket, of `b` all that end
 * at or below the threshold.
 */
#include "lib/histogram/internal.h"

/* ---- zero bucket --------------------------------------------------------------------------------- */

/* Adds the buckets of one side that begin below *width; true if *width had to grow. */
static bool
widen_side(const hst_side *side, int32_t schema, double divisor, double *width, double *zero,
           double *lost)
{
    hst_walk w = hst_walk_of(side, 0);
    int32_t index;
    w.divisor = divisor;
    while (hst_peek(&w, &index) && hst_exponential_bound(schema, index - 1) < *width) {
        double count = hst_take(&w), upper = hst_exponential_bound(schema, index);
        hst_kahan(count, zero, lost);
        if (upper > *width) {
            if (count == 0)
                return false;
            *width = upper;
            return true;
        }
    }
    return false;
}

double
hst_widen(const hst_hist *h, double divisor, double wish, double *ret_zero, double *ret_lost)
{
    double zero, lost, width = wish;
    bool again;
    do {
        zero = h->zero_count / divisor;
        lost = 0;
        again = false;
        if (width == h->zero_threshold)
            break;
        widen_side(&h->positive, h->schema, divisor, &width, &zero, &lost);
        /* A width that grows here reaches further on the positive side, too. */
        again = widen_side(&h->negative, h->schema, divisor, &width, &zero, &lost);
    } while (again);
    *ret_zero = zero;
    if (ret_lost != NULL)
        *ret_lost = lost;
    return width;
}

void
hst_skip_upto(hst_walk *w, int32_t schema, double threshold)
{
    int32_t index;
    bool fresh = w->left > 0 && w->in_span == 0 && w->index == 0;
    if (fresh && threshold < 1 && w->span->length > 0 && w->span->offset >= 0)
        return; /* its first bucket ends at 1 or above: the usual case */
    while (hst_peek(w, &index) && hst_exponential_bound(schema, index) <= threshold)
        hst_take(w);
}

/* Leaves out the buckets that begin below a threshold. */
static void
skip_inside(hst_walk *w, int32_t schema, double threshold)
{
    int32_t index;
    int32_t shift = w->shift;
    w->shift = 0;
    while (hst_peek(w, &index) && hst_exponential_bound(schema, index - 1) < threshold)
        hst_take(w);
    w->shift = shift;
}

/* ---- hints ------------------------------------------------------------------------------------------ */

bool
hst_join_hints(hst_hint *hint, hst_hint other)
{
    if (*hint == other || *hint == HST_GAUGE)
        return false;
    if (other == HST_GAUGE) {
        *hint = HST_GAUGE;
        return false;
    }
    bool collision = *hint != HST_UNKNOWN && other != HST_UNKNOWN;
    *hint = HST_UNKNOWN;
    return collision;
}

/* ---- merging ------------------------------------------------------------------------------------------ */

typedef struct pair {
    hst_walk a, b;
} pair;

typedef struct sum_of_two {
    pair positive, negative;
    double sign; /* of b */
    /* Buckets of b that come under one index are added up before they are added to a's. */
    bool join_b;
} sum_of_two;

static double
take_b(const sum_of_two *s, hst_walk *b, int32_t index, double onto, bool has_a)
{
    if (s->join_b) {
        double v = hst_take_all(b, index) * s->sign;
        return has_a ? onto + v : v;
    }
    int32_t next;
    do {
        double v = hst_take(b) * s->sign;
        onto = has_a ? onto + v : v;
        has_a = true;
    } while (hst_peek(b, &next) && next == index);
    return onto;
}

static void
merge(const sum_of_two *s, const pair *p, hst_out *out)
{
    hst_walk a = p->a, b = p->b;
    int32_t ia = 0, ib = 0;
    for (;;) {
        bool more_a = hst_peek(&a, &ia), more_b = hst_peek(&b, &ib);
        if (!more_a && !more_b)
            return;
        bool use_a = more_a && (!more_b || ia <= ib);
        bool use_b = more_b && (!more_a || ib <= ia);
        int32_t index = use_a ? ia : ib;
        double v = use_a ? hst_take_all(&a, index) : 0;
        if (use_b)
            v = take_b(s, &b, index, v, use_a);
        hst_put(out, index, v);
    }
}

static void
fill_sum(const void *self, hst_out *positive, hst_out *negative)
{
    const sum_of_two *s = self;
    merge(s, &s->positive, positive);
    merge(s, &s->negative, negative);
}

/* Custom bounds that differ: the common ones go to the arena, both walks map to them. */
static ps_status
map_bounds(ps_arena *arena, const hst_hist *a, const hst_hist *b, hst_hist *like, sum_of_two *s)
{
    uint32_t n = hst_common_bounds(a->bounds, a->n_bounds, b->bounds, b->n_bounds, NULL);
    double *bounds = ps_arena_new(arena, sizeof(double) * ((size_t)n + 1));
    if (bounds == NULL)
        return PS_ENOMEM;
    hst_common_bounds(a->bounds, a->n_bounds, b->bounds, b->n_bounds, bounds);
    pair *p = &s->positive;
    p->a.from = a->bounds;
    p->a.n_from = a->n_bounds;
    p->b.from = b->bounds;
    p->b.n_from = b->n_bounds;
    p->a.to = p->b.to = bounds;
    p->a.n_to = p->b.n_to = n;
    s->join_b = false;
    like->bounds = bounds;
    like->n_bounds = n;
    return PS_OK;
}

/* The same width for both; fills in what of a and b is not to be merged. */
static void
reconcile_zero(const hst_hist *a, const hst_hist *b, hst_hist *like, sum_of_two *s)
{
    double width_a = a->zero_threshold, zero_a = a->zero_count;
    double width_b = b->zero_threshold, zero_b = b->zero_count;
    while (width_a != width_b) {
        if (width_a > width_b)
            width_b = hst_widen(b, 1, width_a, &zero_b, NULL);
        if (width_b > width_a)
            width_a = hst_widen(a, 1, width_b, &zero_a, NULL);
    }
    if (width_a != a->zero_threshold) {
        skip_inside(&s->positive.a, a->schema, width_a);
        skip_inside(&s->negative.a, a->schema, width_a);
    }
    hst_skip_upto(&s->positive.b, like->schema, width_a);
    hst_skip_upto(&s->negative.b, like->schema, width_a);
    like->zero_threshold = width_a;
    like->zero_count = zero_a + s->sign * zero_b;
}

static ps_status
combine(ps_arena *arena, const hst_hist *a, const hst_hist *b, double sign, hst_notes *notes,
        const hst_hist **ret)
{
    if (hst_is_custom(a) != hst_is_custom(b))
        return PS_EINVAL;
    hst_hist like = *a;
    like.count = a->count + sign * b->count;
    like.sum = a->sum + sign * b->sum;
    like.schema = a->schema < b->schema ? a->schema : b->schema;
    if (hst_alike(a, b)) {
        bool collided = hst_join_hints(&like.hint, b->hint);
        PS_TRY(hst_sum_alike(arena, &like, a, b, sign, ret));
        if (notes != NULL)
            notes->hint_collision |= collided;
        return PS_OK;
    }
    sum_of_two s = {.sign = sign, .join_b = true};
    s.positive.a = hst_walk_of(&a->positive, a->schema - like.schema);
    s.positive.b = hst_walk_of(&b->positive, b->schema - like.schema);
    s.negative.a = hst_walk_of(&a->negative, a->schema - like.schema);
    s.negative.b = hst_walk_of(&b->negative, b->schema - like.schema);
    bool mapped = false;
    like.zero_count = 0;
    if (!hst_is_custom(a))
        reconcile_zero(a, b, &like, &s);
    else if (!hst_same_bounds(a->bounds, a->n_bounds, b->bounds, b->n_bounds)) {
        mapped = true;
        PS_TRY(map_bounds(arena, a, b, &like, &s));
    }
    bool collision = hst_join_hints(&like.hint, b->hint);
    PS_TRY(hst_build(arena, &like, false, fill_sum, &s, ret));
    if (notes != NULL) {
        notes->bounds_reconciled |= mapped;
        notes->hint_collision |= collision;
    }
    return PS_OK;
}

ps_status
hst_add(ps_arena *arena, const hst_hist *a, const hst_hist *b, hst_notes *notes,
        const hst_hist **ret)
{
    return combine(arena, a, b, 1, notes, ret);
}

ps_status
hst_sub(ps_arena *arena, const hst_hist *a, const hst_hist *b, hst_notes *notes,
        const hst_hist **ret)
{
    return combine(arena, a, b, -1, notes, ret);
}
