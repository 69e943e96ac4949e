/*
 * fn_range_hist.c - rate, increase, delta, irate, idelta, sum, avg over ranges of native histograms.
 *
 * The rules are those of floats (fn_range_rate.c, fn_range_sum.c), bucket by bucket. In addition all
 * histograms of a window must be of one kind (exponential or custom buckets), counters are expected
 * where counters make sense and gauges where gauges do, and the first sample of a window does not count
 * if a reset follows it at once: then its layout does not matter either.
 *
 * Work is done in a scratch arena that is emptied window by window; only results go to the row's.
 */
#include "lib/eval/fn_range.h"

static inline uint32_t
bit(ev_range_note note)
{
    return UINT32_C(1) << note;
}

static void
note_all(ev_walk *w, uint32_t notes)
{
    for (ev_range_note note = EV_NOTE_MIXED; note <= EV_NOTE_BOUNDS_AGG; note++)
        if (notes >> note & 1)
            ev_walk_note(w, note);
}

ps_status
ev_hist_begin(ev_hist_work *k, ev_walk *w, ev_rate_kind kind)
{
    *k = (ev_hist_work){.w = w, .kind = kind};
    if (w->h.n == 0)
        return PS_OK;
    ps_arena_init(&k->scratch, ev_alloc(w->call->c), 0);
    ps_arena_init(&k->sums, ev_alloc(w->call->c), 0);
    if (!kind.counter || w->h.n < 2)
        return PS_OK;
    k->known = ev_scratch(w->call->c, w->h.n, 1);
    if (k->known == NULL)
        return PS_ENOMEM;
    memset(k->known, 0, w->h.n);
    k->run = ev_scratch(w->call->c, w->h.n, sizeof *k->run);
    return k->run == NULL ? PS_ENOMEM : PS_OK;
}

void
ev_hist_end(ev_hist_work *k)
{
    if (k->w->h.n == 0)
        return;
    ps_arena_done(&k->scratch);
    ps_arena_done(&k->sums);
    if (k->known != NULL)
        ev_scratch_free(k->w->call->c, k->known, k->w->h.n, 1);
    if (k->run != NULL)
        ev_scratch_free(k->w->call->c, k->run, k->w->h.n, sizeof *k->run);
}

bool
ev_hist_is_reset(ev_hist_work *k, size_t i)
{
    const ev_points *p = &k->w->h;
    if (k->known[i] == 0) {
        bool reset = p->start != NULL &&
                     ev_start_is_reset(p->start[i - 1], p->t[i - 1], p->start[i], p->t[i]);
        k->known[i] = reset || hst_detect_reset(p->h[i - 1], p->h[i]) ? 2 : 1;
    }
    return k->known[i] == 2;
}

/* Are samples lo .. hi - 1 of one kind and resolution, with no reset between them? Windows only move to
 * the right, so that every sample is looked at once. */
static bool
is_one_run(ev_hist_work *k, size_t lo, size_t hi)
{
    const hst_hist *const *h = k->w->h.h;
    if (k->n_runs < lo)
        k->n_runs = lo;
    for (size_t i = k->n_runs; i < hi; i++) {
        bool alike = i > lo && h[i]->schema == h[i - 1]->schema &&
                     (h[i]->hint == HST_GAUGE) == (h[i - 1]->hint == HST_GAUGE) &&
                     !ev_hist_is_reset(k, i);
        k->run[i] = alike ? k->run[i - 1] : (uint32_t)i;
    }
    k->n_runs = hi > k->n_runs ? hi : k->n_runs;
    return k->run[hi - 1] <= lo;
}

ps_status
ev_put_hist(ev_ctx *c, ev_row *out, size_t n_steps, size_t step, const hst_hist *h)
{
    if (out->h == NULL)
        PS_TRY(ev_row_hists(c, out, n_steps));
    out->h[step] = h;
    ev_put(out, step, 0);
    return PS_OK;
}

static ps_status
put(ev_hist_work *k, ev_row *out, size_t step, const hst_hist *h)
{
    const ev_range_call *call = k->w->call;
    return ev_put_hist(call->c, out, call->n_steps, step, h);
}

/* ---- rate, increase, delta ------------------------------------------------------------------------------ */

/* One window: what goes in and what comes out. PS_EINVAL: kinds are mixed. */
typedef struct window {
    size_t lo, hi;
    const hst_hist *change;
    uint32_t notes;
} window;

/* The first sample as if it were empty: a reset follows it. */
static hst_hist
empty_like(const hst_hist *h)
{
    return (hst_hist){.schema = h->schema, .bounds = h->bounds, .n_bounds = h->n_bounds};
}

/* Kinds and hints of all samples; finds the lowest resolution that matters. */
static ps_status
look_at_all(const ev_hist_work *k, window *v, const hst_hist *first, bool one_run, int32_t *schema)
{
    const hst_hist *const *h = k->w->h.h;
    const hst_hist *last = h[v->hi - 1];
    bool custom = hst_is_custom(first);
    if (k->kind.counter && (h[v->lo]->hint == HST_GAUGE || last->hint == HST_GAUGE))
        v->notes |= bit(EV_NOTE_NOT_COUNTER);
    if (hst_is_custom(last) != custom)
        return PS_EINVAL;
    *schema = first->schema < last->schema ? first->schema : last->schema;
    if (one_run)
        return PS_OK;
    for (size_t i = v->lo + 1; k->kind.counter && i + 1 < v->hi; i++) {
        if (h[i]->hint == HST_GAUGE)
            v->notes |= bit(EV_NOTE_NOT_COUNTER);
        if (h[i]->schema < *schema)
            *schema = h[i]->schema;
        if (hst_is_custom(h[i]) != custom) {
            v->notes = 0;
            return PS_EINVAL;
        }
    }
    return PS_OK;
}

static ps_status
add_noted(ev_hist_work *k, window *v, const hst_hist *h)
{
    hst_notes notes = {0};
    PS_TRY(hst_add(&k->scratch, v->change, h, &notes, &v->change));
    if (notes.bounds_reconciled)
        v->notes |= bit(EV_NOTE_BOUNDS_ADD);
    return PS_OK;
}

/* Last - first, plus what was there before each reset. */
static ps_status
change_of(ev_hist_work *k, window *v)
{
    const ev_points *p = &k->w->h;
    const hst_hist *first = p->h[v->lo], *last = p->h[v->hi - 1];
    hst_notes notes = {0};
    int32_t schema;
    bool one_run = k->kind.counter && is_one_run(k, v->lo, v->hi);
    bool reset_first = k->kind.counter && !one_run && ev_hist_is_reset(k, v->lo + 1);
    hst_hist empty = empty_like(p->h[v->lo + 1]);
    if (reset_first)
        first = &empty;
    PS_TRY(look_at_all(k, v, first, one_run, &schema));
    v->change = last;
    if (!hst_is_custom(last) && schema < last->schema)
        PS_TRY(hst_reduce(&k->scratch, last, schema, &v->change));
    ps_status status = hst_sub(&k->scratch, v->change, first, &notes, &v->change);
    if (notes.bounds_reconciled)
        v->notes |= bit(EV_NOTE_BOUNDS_SUB);
    bool resets = k->kind.counter && !one_run;
    for (size_t i = v->lo + 1; status == PS_OK && resets && i < v->hi; i++)
        if (ev_hist_is_reset(k, i) && !(reset_first && i == v->lo + 1))
            status = add_noted(k, v, p->h[i - 1]);
    if (status == PS_EINVAL)
        v->notes = 0;
    PS_TRY(status);
    if (!k->kind.counter && (p->h[v->lo]->hint != HST_GAUGE || p->h[v->hi - 1]->hint != HST_GAUGE))
        v->notes |= bit(EV_NOTE_NOT_GAUGE);
    return hst_with_hint(&k->scratch, v->change, HST_GAUGE, &v->change);
}

static bool
has_overlap(const ev_points *p, size_t lo, size_t hi)
{
    for (size_t i = lo + 1; p->start != NULL && i < hi; i++)
        if (ev_start_overlaps(p->start[i - 1], p->t[i - 1], p->start[i]))
            return true;
    return false;
}

/* The increase of the window and how far it is to be extended; v->change NULL: no result. */
static ps_status
extend(ev_hist_work *k, window *v, size_t i, ev_span *s)
{
    const ev_points *p = &k->w->h;
    const hst_hist *first = p->h[v->lo];
    *s = (ev_span){.from = ev_window_from(k->w, i),
                   .to = ev_window_to(k->w, i),
                   .first_t = p->t[v->lo],
                   .last_t = p->t[v->hi - 1],
                   .n = v->hi - v->lo,
                   .first = first->count};
    if (s->n > 1) {
        PS_TRY(change_of(k, v));
        s->change = v->change->count;
        k->overlaps += k->kind.counter && has_overlap(p, v->lo, v->hi);
    }
    if (p->start == NULL || p->start[v->lo] <= s->from || p->start[v->lo] >= s->first_t ||
        p->start[v->lo] == 0)
        return PS_OK;
    s->start = p->start[v->lo];
    if (v->change != NULL)
        return add_noted(k, v, first);
    v->change = first;
    return PS_OK;
}

/* After a window: PS_EINVAL says that it has no result. */
static ps_status
finish(ev_hist_work *k, ps_status status, uint32_t notes)
{
    if (status == PS_EINVAL)
        notes |= bit(EV_NOTE_SCHEMAS);
    if (status == PS_OK || status == PS_EINVAL)
        note_all(k->w, notes);
    if (status == PS_ENOMEM)
        (void)ev_no_memory(k->w->call->c);
    ps_arena_reset(&k->scratch);
    return status == PS_EINVAL ? PS_OK : status;
}

ps_status
ev_hist_rate(ev_hist_work *k, size_t i, ev_row *out)
{
    window v = {.lo = k->w->hw.lo[i], .hi = k->w->hw.hi[i]};
    ev_span s;
    const hst_hist *result = NULL;
    ps_status status = extend(k, &v, i, &s);
    if (status == PS_OK && v.change != NULL) {
        double factor = ev_rate_factor(&s, k->kind, ev_seconds(k->w->call->range_ms));
        status = hst_mul(out->arena, v.change, factor, &result);
    }
    status = finish(k, status, v.notes);
    return status == PS_OK && result != NULL ? put(k, out, k->w->first + i, result) : status;
}

/* ---- anchored and smoothed ---------------------------------------------------------------------------- */

/* The histogram at time t on the line between samples i and i + 1. */
static ps_status
between(ev_hist_work *k, window *v, size_t i, int64_t t, const hst_hist **ret)
{
    const ev_points *p = &k->w->h;
    const hst_hist *a = p->h[i], *b = p->h[i + 1], *h;
    hst_notes sub = {0}, add = {0};
    *ret = t == p->t[i] ? a : b;
    if (t == p->t[i] || t == p->t[i + 1])
        return PS_OK;
    double part = (double)(t - p->t[i]) / (double)(p->t[i + 1] - p->t[i]);
    if (k->kind.counter && hst_detect_reset(a, b))
        return hst_mul(&k->scratch, b, part, ret);
    PS_TRY(hst_sub(&k->scratch, b, a, &sub, &h));
    if (sub.bounds_reconciled)
        v->notes |= bit(EV_NOTE_BOUNDS_SUB);
    PS_TRY(hst_mul(&k->scratch, h, part, &h));
    PS_TRY(hst_add(&k->scratch, h, a, &add, ret));
    if (add.bounds_reconciled)
        v->notes |= bit(EV_NOTE_BOUNDS_ADD);
    return PS_OK;
}

typedef struct edges {
    const hst_hist *left, *right;
    const hst_hist *correction; /* NULL: none */
} edges;

static ps_status
add_correction(ev_hist_work *k, window *v, edges *e, const hst_hist *h)
{
    hst_notes notes = {0};
    if (e->correction == NULL) {
        e->correction = h;
        return PS_OK;
    }
    PS_TRY(hst_add(&k->scratch, e->correction, h, &notes, &e->correction));
    if (notes.bounds_reconciled)
        v->notes |= bit(EV_NOTE_BOUNDS_ADD);
    return PS_OK;
}

/* What was there before each reset between the edges. The samples that the edges were made of are not
 * looked at again: `right` carries the hint of the last one. */
static ps_status
correct(ev_hist_work *k, window *v, edges *e, int64_t from)
{
    const ev_points *p = &k->w->h;
    size_t i = v->lo + 1, last = v->hi - 1;
    const hst_hist *prev = e->left;
    if (k->w->call->edge == PQL_SMOOTHED && p->t[v->lo] < from &&
        hst_detect_reset(p->h[v->lo], p->h[v->lo + 1])) {
        /* the line to the left edge has seen this reset */
        prev = p->h[v->lo + 1];
        i++;
    }
    if (i > last)
        return PS_OK;
    for (; i < last; i++) {
        if (hst_detect_reset(prev, p->h[i]))
            PS_TRY(add_correction(k, v, e, prev));
        prev = p->h[i];
    }
    return hst_detect_reset(prev, e->right) ? add_correction(k, v, e, prev) : PS_OK;
}

static ps_status
check_kinds(const ev_hist_work *k, window *v)
{
    const hst_hist *const *h = k->w->h.h;
    for (size_t i = v->lo; i < v->hi; i++) {
        if (hst_is_custom(h[i]) != hst_is_custom(h[v->lo]))
            return PS_EINVAL;
        if (k->kind.counter && h[i]->hint == HST_GAUGE)
            v->notes |= bit(EV_NOTE_NOT_COUNTER);
    }
    return PS_OK;
}

static ps_status
change_between_edges(ev_hist_work *k, window *v, size_t i)
{
    const ev_points *p = &k->w->h;
    int64_t from = ev_window_from(k->w, i), to = ev_window_to(k->w, i);
    size_t first = v->lo, last = v->hi - 1;
    bool smoothed = k->w->call->edge == PQL_SMOOTHED;
    edges e = {p->h[first], p->h[last], NULL};
    hst_notes notes = {0};
    PS_TRY(check_kinds(k, v));
    if (smoothed && p->t[first] < from)
        PS_TRY(between(k, v, first, from, &e.left));
    if (smoothed && last > k->w->hw.lo[i] && p->t[last] > to)
        PS_TRY(between(k, v, last - 1, to, &e.right));
    if (!k->kind.counter && (e.left->hint != HST_GAUGE || e.right->hint != HST_GAUGE))
        v->notes |= bit(EV_NOTE_NOT_GAUGE);
    PS_TRY(hst_sub(&k->scratch, e.right, e.left, &notes, &v->change));
    if (notes.bounds_reconciled)
        v->notes |= bit(EV_NOTE_BOUNDS_SUB);
    if (!k->kind.counter)
        return PS_OK;
    PS_TRY(correct(k, v, &e, from));
    return e.correction == NULL ? PS_OK : add_noted(k, v, e.correction);
}

ps_status
ev_hist_rate_extended(ev_hist_work *k, size_t i, ev_row *out)
{
    window v = {0};
    const hst_hist *result = NULL;
    size_t last;
    if (!ev_extended_ends(k->w, &k->w->h, &k->w->hw, i, &v.lo, &last))
        return PS_OK;
    v.hi = last + 1;
    ps_status status = change_between_edges(k, &v, i);
    if (status == PS_OK)
        status = hst_with_hint(&k->scratch, v.change, HST_GAUGE, &v.change);
    if (status == PS_OK && k->kind.per_second)
        status = hst_div(out->arena, v.change, ev_seconds(k->w->call->range_ms), &result);
    else if (status == PS_OK)
        status = hst_copy(out->arena, v.change, &result);
    status = finish(k, status, v.notes);
    return status == PS_OK && result != NULL ? put(k, out, k->w->first + i, result) : status;
}

/* ---- irate, idelta -------------------------------------------------------------------------------------- */

ps_status
ev_hist_instant(ev_hist_work *k, const hst_hist *a, const hst_hist *b, bool start_reset,
                double seconds, size_t step, ev_row *out)
{
    const hst_hist *h = b, *result = NULL;
    hst_notes notes = {0};
    uint32_t seen = 0;
    ps_status status = PS_OK;
    bool both_gauges = a->hint == HST_GAUGE && b->hint == HST_GAUGE;
    if (k->kind.counter && (a->hint == HST_GAUGE || b->hint == HST_GAUGE))
        seen |= bit(EV_NOTE_NOT_COUNTER);
    if (!k->kind.counter && !both_gauges)
        seen |= bit(EV_NOTE_NOT_GAUGE);
    if (!k->kind.counter || (!start_reset && !hst_detect_reset(a, b)))
        status = hst_sub(&k->scratch, b, a, &notes, &h);
    if (notes.bounds_reconciled)
        seen |= bit(EV_NOTE_BOUNDS_SUB);
    if (status == PS_OK)
        status = hst_with_hint(&k->scratch, h, HST_GAUGE, &h);
    if (status == PS_OK && k->kind.per_second)
        status = hst_div(out->arena, h, seconds, &result);
    else if (status == PS_OK)
        status = hst_copy(out->arena, h, &result);
    status = finish(k, status, seen);
    return status == PS_OK && result != NULL ? put(k, out, step, result) : status;
}

/* ---- sum, avg -------------------------------------------------------------------------------------------- */

static ps_status
sum_window(ev_hist_work *k, size_t i, bool avg, hst_notes *notes, ps_arena *arena,
           const hst_hist **ret)
{
    const hst_hist *const *h = k->w->h.h;
    size_t lo = k->w->hw.lo[i], hi = k->w->hw.hi[i];
    if (k->sum == NULL)
        PS_TRY(hst_sum_new(&k->sums, h[lo], &k->sum));
    else
        PS_TRY(hst_sum_reset(k->sum, h[lo]));
    for (size_t at = lo + 1; at < hi; at++)
        PS_TRY(avg ? hst_mean_add(k->sum, h[at], notes) : hst_sum_add(k->sum, h[at], notes));
    return avg ? hst_mean_value(k->sum, arena, ret) : hst_sum_value(k->sum, arena, ret);
}

ps_status
ev_hist_sum(ev_hist_work *k, size_t i, bool avg, ev_row *out)
{
    const hst_hist *result = NULL;
    hst_notes notes = {0};
    uint32_t seen = 0;
    ps_status status = sum_window(k, i, avg, &notes, out->arena, &result);
    if (status == PS_OK && notes.hint_collision)
        seen |= bit(EV_NOTE_COLLISION);
    if (status == PS_OK && notes.bounds_reconciled)
        seen |= bit(EV_NOTE_BOUNDS_AGG);
    status = finish(k, status, seen);
    return status == PS_OK && result != NULL ? put(k, out, k->w->first + i, result) : status;
}
