/*
 * sum.c - sums and means of many histograms, compensated.
 *
 * An accumulator keeps, for each bucket seen so far, its index, the sum and what was lost in rounding
 * (Kahan, Neumaier), in three arrays sorted by index. A histogram whose buckets are all known is added
 * in one walk without memory; for new ones the arrays are merged once. Whatever changes the layout
 * (wider zero bucket, lower schema, fewer bounds) is applied to the accumulator in place.
 *
 * A mean is a sum until a sum would be infinite. Whether it could be is told by `reach`, which is not
 * below the absolute value of any field; only where that is near the largest double the accumulator
 * is saved first, so that an addition can be taken back.
 */
#include <float.h>

#include "lib/histogram/internal.h"

typedef struct cells {
    int32_t *index;
    double *sum, *lost;
    uint32_t n, cap;
} cells;

typedef struct field {
    double sum, lost;
} field;

typedef struct sum_state { /* what an addition changes */
    hst_hist scalars;      /* schema, hint, threshold, bounds */
    field count, total, zero;
    cells positive, negative;
} sum_state;

struct hst_sum {
    ps_arena *arena;
    sum_state now, saved;
    double n;
    double reach;
    bool compensated, incremental;
    bool seen_reset, seen_not_reset;
};

static void
field_add(field *f, double v)
{
    hst_kahan(v, &f->sum, &f->lost);
}

/* ---- cells ----------------------------------------------------------------------------------------- */

/* Room for n cells; what is there stays, if keep. */
static ps_status
reserve(ps_arena *arena, cells *c, size_t n, bool keep)
{
    if (n <= c->cap)
        return PS_OK;
    size_t cap = n + n / 2 + 4;
    if (cap > 2 * (size_t)HST_INDEX_MAX)
        cap = n;
    char *p = ps_arena_new(arena, cap * (2 * sizeof(double) + sizeof(int32_t)));
    if (p == NULL)
        return PS_ENOMEM;
    cells wide = {.sum = (double *)p, .cap = (uint32_t)cap};
    wide.lost = wide.sum + cap;
    wide.index = (int32_t *)(wide.lost + cap);
    if (keep && c->n > 0) {
        memcpy(wide.sum, c->sum, sizeof(double) * c->n);
        memcpy(wide.lost, c->lost, sizeof(double) * c->n);
        memcpy(wide.index, c->index, sizeof(int32_t) * c->n);
        wide.n = c->n;
    }
    *c = wide;
    return PS_OK;
}

static ps_status
cells_copy(ps_arena *arena, cells *to, const cells *from)
{
    to->n = 0;
    PS_TRY(reserve(arena, to, from->n, false));
    if (from->n > 0) {
        memcpy(to->sum, from->sum, sizeof(double) * from->n);
        memcpy(to->lost, from->lost, sizeof(double) * from->n);
        memcpy(to->index, from->index, sizeof(int32_t) * from->n);
    }
    to->n = from->n;
    return PS_OK;
}

static ps_status
cells_set(ps_arena *arena, cells *c, const hst_side *side)
{
    hst_walk w = hst_walk_of(side, 0);
    int32_t index;
    c->n = 0;
    PS_TRY(reserve(arena, c, side->n_counts, false));
    while (hst_peek(&w, &index)) {
        c->index[c->n] = index;
        c->lost[c->n] = 0;
        c->sum[c->n++] = hst_take(&w);
    }
    return PS_OK;
}

/* All buckets that come under `index`, as a sum and what it lost. */
static field
take_field(hst_walk *w, int32_t index)
{
    field f = {hst_take(w), 0};
    int32_t next;
    while (hst_peek(w, &next) && next == index)
        field_add(&f, hst_take(w));
    return f;
}

static void
cell_add(cells *c, uint32_t i, field f)
{
    hst_kahan(f.sum, &c->sum[i], &c->lost[i]);
    if (f.lost != 0)
        hst_kahan(f.lost, &c->sum[i], &c->lost[i]);
}

/* Buckets to come that have no cell at or after `at`. */
static size_t
missing(const cells *c, uint32_t at, hst_walk w)
{
    size_t n = 0;
    int32_t index, last = INT32_MIN;
    while (hst_peek(&w, &index)) {
        hst_take(&w);
        if (index == last)
            continue;
        last = index;
        while (at < c->n && c->index[at] < index)
            at++;
        n += at == c->n || c->index[at] != index;
    }
    return n;
}

static void
cell_move(cells *c, uint32_t to, uint32_t from)
{
    c->index[to] = c->index[from];
    c->sum[to] = c->sum[from];
    c->lost[to] = c->lost[from];
}

/* Adds the rest of w, whose next bucket belongs before cell `at`. */
static ps_status
cells_merge(ps_arena *arena, cells *c, uint32_t at, hst_walk *w)
{
    size_t more = missing(c, at, *w);
    if (more > HST_INDEX_MAX)
        return PS_ENOMEM;
    PS_TRY(reserve(arena, c, c->n + more, true));
    /* The cells from `at` go to the end of the room; then both are merged towards it. */
    uint32_t from = at + (uint32_t)more, end = c->n + (uint32_t)more;
    for (uint32_t i = end; i > from; i--)
        cell_move(c, i - 1, i - 1 - (uint32_t)more);
    int32_t index;
    while (hst_peek(w, &index)) {
        while (from < end && c->index[from] < index)
            cell_move(c, at++, from++);
        bool known = from < end && c->index[from] == index;
        if (known)
            cell_move(c, at, from++);
        field f = take_field(w, index);
        if (known) {
            cell_add(c, at++, f);
            continue;
        }
        c->index[at] = index;
        c->sum[at] = f.sum;
        c->lost[at++] = f.lost;
    }
    c->n = end;
    return PS_OK;
}

/* Adds the spans to come that have their cells side by side, as they have unless something is new: plain
 * loops. Returns the cell to go on with. */
static uint32_t
cells_add_spans(cells *c, hst_walk *w)
{
    uint32_t at = 0;
    int32_t index;
    if (w->shift != 0 || w->to != NULL || w->divisor != 1)
        return 0;
    while (hst_peek(w, &index)) {
        uint32_t n = w->in_span;
        while (at < c->n && c->index[at] < index)
            at++;
        if (n > c->n - at || c->index[at] != index ||
            c->index[at + n - 1] != index + (int32_t)n - 1)
            return at;
        for (uint32_t i = 0; i < n; i++)
            hst_kahan(w->count[i], &c->sum[at + i], &c->lost[at + i]);
        w->count += n;
        w->left -= n;
        w->index += (int32_t)n;
        w->in_span = 0;
        at += n;
    }
    return at;
}

static ps_status
cells_add(ps_arena *arena, cells *c, hst_walk *w)
{
    uint32_t at = cells_add_spans(c, w);
    int32_t index;
    while (hst_peek(w, &index)) {
        while (at < c->n && c->index[at] < index)
            at++;
        if (at == c->n || c->index[at] != index)
            return cells_merge(arena, c, at, w);
        cell_add(c, at++, take_field(w, index));
    }
    return PS_OK;
}

static void
cells_reduce(cells *c, int32_t shift)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        int32_t index = hst_shift_index(c->index[i], shift);
        if (n > 0 && c->index[n - 1] == index) {
            double lost = c->lost[i];
            hst_kahan(c->sum[i], &c->sum[n - 1], &c->lost[n - 1]);
            hst_kahan(lost, &c->sum[n - 1], &c->lost[n - 1]);
            continue;
        }
        cell_move(c, n, i);
        c->index[n++] = index;
    }
    c->n = n;
}

static void
cells_scale(cells *c, double factor, double divisor)
{
    for (uint32_t i = 0; i < c->n; i++) {
        c->sum[i] = c->sum[i] * factor / divisor;
        c->lost[i] = c->lost[i] * factor / divisor;
    }
}

/* ---- zero bucket ----------------------------------------------------------------------------------- */

/* As widen_side() of add.c, over cells. */
static bool
widen_cells(const cells *c, int32_t schema, double *width, field *zero)
{
    for (uint32_t i = 0; i < c->n; i++) {
        if (hst_exponential_bound(schema, c->index[i] - 1) >= *width)
            return false;
        field_add(zero, c->sum[i]);
        field_add(zero, c->lost[i]);
        double upper = hst_exponential_bound(schema, c->index[i]);
        if (upper > *width) {
            if (c->sum[i] == 0)
                return false;
            *width = upper;
            return true;
        }
    }
    return false;
}

static void
drop_inside(cells *c, int32_t schema, double width)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n; i++)
        if (hst_exponential_bound(schema, c->index[i] - 1) >= width)
            cell_move(c, n++, i);
    c->n = n;
}

static void
widen_sum(sum_state *s, double wish)
{
    double width = wish;
    field zero;
    do {
        zero = s->zero;
        widen_cells(&s->positive, s->scalars.schema, &width, &zero);
    } while (widen_cells(&s->negative, s->scalars.schema, &width, &zero));
    s->zero = zero;
    s->scalars.zero_threshold = width;
    drop_inside(&s->positive, s->scalars.schema, width);
    drop_inside(&s->negative, s->scalars.schema, width);
}

static void
add_zero(sum_state *s, const hst_hist *h, double divisor)
{
    double width = h->zero_threshold;
    field zero = {h->zero_count / divisor, 0};
    while (width != s->scalars.zero_threshold) {
        if (s->scalars.zero_threshold > width)
            width = hst_widen(h, divisor, s->scalars.zero_threshold, &zero.sum, &zero.lost);
        if (width > s->scalars.zero_threshold)
            widen_sum(s, width);
    }
    field_add(&s->zero, zero.sum);
    field_add(&s->zero, zero.lost);
}

/* ---- custom bounds ---------------------------------------------------------------------------------- */

static void
drop_empty(cells *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n; i++)
        if (c->sum[i] != 0 || c->lost[i] != 0)
            cell_move(c, n++, i);
    c->n = n;
}

/* Maps what is summed so far to the bounds that it has in common with h, and prepares w for h. */
static ps_status
reconcile_bounds(ps_arena *arena, sum_state *s, const hst_hist *h, hst_walk *w)
{
    hst_hist *l = &s->scalars;
    uint32_t n = hst_common_bounds(l->bounds, l->n_bounds, h->bounds, h->n_bounds, NULL);
    double *bounds = ps_arena_new(arena, sizeof(double) * ((size_t)n + 1));
    if (bounds == NULL)
        return PS_ENOMEM;
    hst_common_bounds(l->bounds, l->n_bounds, h->bounds, h->n_bounds, bounds);
    cells *c = &s->positive;
    uint32_t at = 0, n_new = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        uint32_t k = (uint32_t)c->index[i];
        while (at < n && (k >= l->n_bounds || bounds[at] < l->bounds[k]))
            at++;
        field f = {c->sum[i], c->lost[i]};
        if (n_new == 0 || c->index[n_new - 1] != (int32_t)at) {
            c->index[n_new] = (int32_t)at;
            c->sum[n_new] = c->lost[n_new] = 0;
            n_new++;
        }
        hst_kahan(f.sum, &c->sum[n_new - 1], &c->lost[n_new - 1]);
        hst_kahan(f.lost, &c->sum[n_new - 1], &c->lost[n_new - 1]);
    }
    c->n = n_new;
    l->bounds = bounds;
    l->n_bounds = n;
    w->from = h->bounds;
    w->n_from = h->n_bounds;
    w->to = bounds;
    w->n_to = n;
    return PS_OK;
}

/* ---- sums ------------------------------------------------------------------------------------------- */

static double
reach_of(const hst_hist *h)
{
    double sum = isnan(h->sum) ? 0 : fabs(h->sum), count = isnan(h->count) ? 0 : fabs(h->count);
    double all = isnan(h->zero_count) ? 0 : fabs(h->zero_count);
    for (uint32_t i = 0; i < h->positive.n_counts; i++)
        all += isnan(h->positive.counts[i]) ? 0 : fabs(h->positive.counts[i]);
    for (uint32_t i = 0; i < h->negative.n_counts; i++)
        all += isnan(h->negative.counts[i]) ? 0 : fabs(h->negative.counts[i]);
    return sum > all ? (sum > count ? sum : count) : (all > count ? all : count);
}

static void
see_hint(hst_sum *s, hst_hint hint)
{
    s->seen_reset |= hint == HST_RESET;
    s->seen_not_reset |= hint == HST_NOT_RESET;
}

ps_status
hst_sum_reset(hst_sum *s, const hst_hist *first)
{
    sum_state *now = &s->now;
    now->scalars = *first;
    if (first->n_bounds > 0) {
        /* Bounds are those of a stranger: they are kept, unless they are the same as before. */
        double *bounds = ps_arena_new(s->arena, sizeof(double) * first->n_bounds);
        if (bounds == NULL)
            return PS_ENOMEM;
        now->scalars.bounds = memcpy(bounds, first->bounds, sizeof(double) * first->n_bounds);
    }
    now->count = (field){first->count, 0};
    now->total = (field){first->sum, 0};
    now->zero = (field){hst_is_custom(first) ? 0 : first->zero_count, 0};
    s->n = 1;
    s->reach = reach_of(first);
    s->compensated = s->incremental = s->seen_reset = s->seen_not_reset = false;
    see_hint(s, first->hint);
    PS_TRY(cells_set(s->arena, &now->positive, &first->positive));
    return cells_set(s->arena, &now->negative, &first->negative);
}

ps_status
hst_sum_new(ps_arena *arena, const hst_hist *first, hst_sum **ret)
{
    hst_sum *s = ps_arena_array(arena, 1, sizeof *s);
    if (s == NULL)
        return PS_ENOMEM;
    s->arena = arena;
    PS_TRY(hst_sum_reset(s, first));
    *ret = s;
    return PS_OK;
}

static ps_status
add_buckets(ps_arena *arena, sum_state *s, const hst_hist *h, double divisor)
{
    int32_t common = s->scalars.schema < h->schema ? s->scalars.schema : h->schema;
    if (s->scalars.schema > common) {
        cells_reduce(&s->positive, s->scalars.schema - common);
        cells_reduce(&s->negative, s->scalars.schema - common);
        s->scalars.schema = common;
    }
    hst_walk positive = hst_walk_of(&h->positive, h->schema - common);
    hst_walk negative = hst_walk_of(&h->negative, h->schema - common);
    positive.divisor = negative.divisor = divisor;
    hst_skip_upto(&positive, common, s->scalars.zero_threshold);
    hst_skip_upto(&negative, common, s->scalars.zero_threshold);
    PS_TRY(cells_add(arena, &s->positive, &positive));
    return cells_add(arena, &s->negative, &negative);
}

static ps_status
add_custom(ps_arena *arena, sum_state *s, const hst_hist *h, double divisor, hst_notes *notes)
{
    hst_walk w = hst_walk_of(&h->positive, 0);
    w.divisor = divisor;
    bool same = hst_same_bounds(s->scalars.bounds, s->scalars.n_bounds, h->bounds, h->n_bounds);
    if (!same) {
        PS_TRY(reconcile_bounds(arena, s, h, &w));
        if (notes != NULL)
            notes->bounds_reconciled = true;
    }
    PS_TRY(cells_add(arena, &s->positive, &w));
    if (!same)
        drop_empty(&s->positive);
    return PS_OK;
}

static ps_status
add(hst_sum *s, const hst_hist *h, double divisor, hst_notes *notes)
{
    sum_state *now = &s->now;
    hst_join_hints(&now->scalars.hint, h->hint);
    s->compensated = true;
    field_add(&now->count, h->count / divisor);
    field_add(&now->total, h->sum / divisor);
    if (hst_is_custom(h))
        return add_custom(s->arena, now, h, divisor, notes);
    add_zero(now, h, divisor);
    return add_buckets(s->arena, now, h, divisor);
}

/* Before an addition: kinds, hints, how many. */
static ps_status
begin_add(hst_sum *s, const hst_hist *h, hst_notes *notes)
{
    if (hst_is_custom(h) != hst_is_custom(&s->now.scalars))
        return PS_EINVAL;
    see_hint(s, h->hint);
    if (notes != NULL && s->seen_reset && s->seen_not_reset)
        notes->hint_collision = true;
    s->n++;
    return PS_OK;
}

ps_status
hst_sum_add(hst_sum *s, const hst_hist *h, hst_notes *notes)
{
    PS_TRY(begin_add(s, h, notes));
    return add(s, h, 1, notes);
}

/* ---- means ------------------------------------------------------------------------------------------- */

static bool
any_infinite(const cells *c)
{
    for (uint32_t i = 0; i < c->n; i++)
        if (isinf(c->sum[i]))
            return true;
    return false;
}

static bool
overflows(const sum_state *s)
{
    return isinf(s->count.sum) || isinf(s->total.sum) || isinf(s->zero.sum) ||
           any_infinite(&s->positive) || any_infinite(&s->negative);
}

static void
field_scale(field *f, double factor, double divisor)
{
    f->sum = f->sum * factor / divisor;
    f->lost = f->lost * factor / divisor;
}

static void
scale_state(sum_state *s, double factor, double divisor)
{
    field_scale(&s->count, factor, divisor);
    field_scale(&s->total, factor, divisor);
    field_scale(&s->zero, factor, divisor);
    cells_scale(&s->positive, factor, divisor);
    cells_scale(&s->negative, factor, divisor);
}

static ps_status
copy_state(ps_arena *arena, sum_state *to, const sum_state *from)
{
    cells positive = to->positive, negative = to->negative;
    PS_TRY(cells_copy(arena, &positive, &from->positive));
    PS_TRY(cells_copy(arena, &negative, &from->negative));
    *to = *from;
    to->positive = positive;
    to->negative = negative;
    return PS_OK;
}

/* Adds as to a sum; *ret: no field became infinite. Else all is as before. */
static ps_status
try_add(hst_sum *s, const hst_hist *h, hst_notes *notes, bool *ret)
{
    bool compensated = s->compensated;
    s->reach += reach_of(h);
    *ret = true;
    if (s->reach < DBL_MAX / 4)
        return add(s, h, 1, notes);
    PS_TRY(copy_state(s->arena, &s->saved, &s->now));
    PS_TRY(add(s, h, 1, notes));
    if (!overflows(&s->now))
        return PS_OK;
    sum_state t = s->now;
    s->now = s->saved;
    s->saved = t;
    s->compensated = compensated;
    *ret = false;
    return PS_OK;
}

ps_status
hst_mean_add(hst_sum *s, const hst_hist *h, hst_notes *notes)
{
    PS_TRY(begin_add(s, h, notes));
    if (!s->incremental) {
        bool done;
        PS_TRY(try_add(s, h, notes, &done));
        if (done)
            return PS_OK;
        s->incremental = true;
        scale_state(&s->now, 1, s->n - 1);
    }
    scale_state(&s->now, (s->n - 1) / s->n, 1);
    return add(s, h, s->n, notes);
}

/* ---- results ------------------------------------------------------------------------------------------ */

typedef struct sum_out {
    const sum_state *s;
    double divisor;
    bool compensated;
} sum_out;

static double
value_of(const sum_out *o, field f)
{
    double v = f.sum / o->divisor;
    return o->compensated ? v + f.lost / o->divisor : v;
}

static void
put_cells(const sum_out *o, const cells *c, hst_out *out)
{
    for (uint32_t i = 0; i < c->n; i++)
        hst_put(out, c->index[i], value_of(o, (field){c->sum[i], c->lost[i]}));
}

static void
fill_cells(const void *self, hst_out *positive, hst_out *negative)
{
    const sum_out *o = self;
    put_cells(o, &o->s->positive, positive);
    put_cells(o, &o->s->negative, negative);
}

static ps_status
value(const hst_sum *s, double divisor, ps_arena *arena, const hst_hist **ret)
{
    sum_out o = {&s->now, divisor, s->compensated};
    hst_hist like = s->now.scalars;
    like.count = value_of(&o, s->now.count);
    like.sum = value_of(&o, s->now.total);
    like.zero_count = value_of(&o, s->now.zero);
    return hst_build(arena, &like, false, fill_cells, &o, ret);
}

ps_status
hst_sum_value(const hst_sum *s, ps_arena *arena, const hst_hist **ret)
{
    return value(s, 1, arena, ret);
}

ps_status
hst_mean_value(const hst_sum *s, ps_arena *arena, const hst_hist **ret)
{
    return value(s, s->incremental ? 1 : s->n, arena, ret);
}
