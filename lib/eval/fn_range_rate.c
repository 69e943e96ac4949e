/*
 * fn_range_rate.c - rate, increase, delta over floats, with extrapolation; irate, idelta.
 *
 * The increase of a window is last - first, plus the value before each reset in it, added in order of
 * time. Resets are found once per series and kept as a list of indexes, so that a window costs the
 * same however many samples it has. Then the increase is scaled to the whole window: see
 * ev_rate_factor().
 */
#include "lib/eval/fn_range.h"

/* ---- extrapolation --------------------------------------------------------------------------------- */

/*
 * The series is taken to go on to an edge if the gap there is less than 1.1 mean distances of samples,
 * else for half a distance. A counter does not reach back beyond the time at which the straight line
 * would be zero. If the counter is known to have started within the window, nothing is guessed on the
 * left.
 */
typedef struct reach {
    double sampled, to_start, to_end;
} reach;

static reach
reach_of(const ev_span *s)
{
    reach r = {.sampled = (double)(s->last_t - s->first_t) / 1000,
               .to_start = (double)(s->first_t - s->from) / 1000,
               .to_end = (double)(s->to - s->last_t) / 1000};
    double gap = s->n > 1 ? r.sampled / (double)(s->n - 1) : 0, limit = gap * 1.1;
    if (s->start != 0) {
        r.to_start = 0;
        r.sampled = (double)(s->last_t - s->start) / 1000;
    } else if (r.to_start >= limit) {
        r.to_start = gap / 2;
    }
    if (r.to_end >= limit)
        r.to_end = gap / 2;
    return r;
}

static inline double
factor_of(reach r, ev_rate_kind kind, double range_s)
{
    double factor = r.sampled == 0 ? 1 : (r.sampled + r.to_start + r.to_end) / r.sampled;
    return kind.per_second ? factor / range_s : factor;
}

/* Would the line be zero within to_start before the first sample? */
static inline bool
limited_by_zero(const ev_span *s, const reach *r, double *ret)
{
    if (!(s->change > 0 && s->first >= 0) || s->start != 0)
        return false;
    /* Far from it nothing is divided. An infinite product on the left may stand for less. */
    double left = r->sampled * s->first, right = r->to_start * s->change;
    if (left > right * 1.000001 && left < INFINITY)
        return false;
    *ret = r->sampled * (s->first / s->change);
    return *ret < r->to_start;
}

double
ev_rate_factor(const ev_span *s, ev_rate_kind kind, double range_s)
{
    reach r = reach_of(s);
    double to_zero;
    if (kind.counter && limited_by_zero(s, &r, &to_zero))
        r.to_start = to_zero;
    return factor_of(r, kind, range_s);
}

/* Windows of a regular series lie alike: what the last one's span gave is kept. */
typedef struct last_span {
    int64_t left, inner, right;
    size_t n;
    reach r;
    double factor;
} last_span;

static inline double
factor_of_span(last_span *l, const ev_span *s, ev_rate_kind kind, double range_s)
{
    int64_t left = s->first_t - s->from, inner = s->last_t - s->first_t, right = s->to - s->last_t;
    double to_zero;
    if (s->start != 0)
        return ev_rate_factor(s, kind, range_s);
    if (left != l->left || inner != l->inner || right != l->right || s->n != l->n) {
        reach r = reach_of(s);
        *l = (last_span){left, inner, right, s->n, r, factor_of(r, kind, range_s)};
    }
    if (!kind.counter || !limited_by_zero(s, &l->r, &to_zero))
        return l->factor;
    return factor_of((reach){l->r.sampled, to_zero, l->r.to_end}, kind, range_s);
}

/* ---- resets of a series --------------------------------------------------------------------------- */

enum { SMALL_RESETS = 32 };
typedef struct resets {
    size_t n, next; /* next: the first one that the coming windows may hold */
    size_t *at;     /* point i: the counter went down between i - 1 and i */
    size_t small[SMALL_RESETS];
    size_t overlap; /* the last point seen whose start overlaps with the point before; 0: none */
    size_t seen;    /* points looked at for overlaps */
    uint64_t overlaps;
} resets;

static inline bool
is_reset(const ev_points *p, size_t i)
{
    return p->v[i] < p->v[i - 1] ||
           (p->start != NULL &&
            ev_start_is_reset(p->start[i - 1], p->t[i - 1], p->start[i], p->t[i]));
}

static ps_status
find_resets(resets *r, ev_ctx *c, const ev_points *p)
{
    size_t n = 0;
    r->n = r->next = r->overlap = r->overlaps = 0;
    r->seen = 1;
    r->at = r->small;
    if (p->start == NULL)
        for (size_t i = 1; i < p->n; i++)
            n += p->v[i] < p->v[i - 1];
    else
        for (size_t i = 1; i < p->n; i++)
            n += is_reset(p, i);
    if (n == 0)
        return PS_OK;
    if (n > SMALL_RESETS && (r->at = ev_scratch(c, n, sizeof *r->at)) == NULL)
        return PS_ENOMEM;
    for (size_t i = 1; i < p->n; i++)
        if (is_reset(p, i))
            r->at[r->n++] = i;
    return PS_OK;
}

static void
resets_done(resets *r, ev_ctx *c)
{
    if (r->at != r->small)
        ev_scratch_free(c, r->at, r->n, sizeof *r->at);
}

static inline double
add_resets(resets *r, const ev_points *p, size_t lo, size_t hi, double change)
{
    while (r->next < r->n && r->at[r->next] <= lo)
        r->next++;
    for (size_t i = r->next; i < r->n && r->at[i] < hi; i++)
        change += p->v[r->at[i] - 1];
    return change;
}

/* A window with an overlap of start times counts once. */
static void
count_overlaps(resets *r, const ev_points *p, size_t lo, size_t hi)
{
    for (; r->seen < hi; r->seen++)
        if (ev_start_overlaps(p->start[r->seen - 1], p->t[r->seen - 1], p->start[r->seen]))
            r->overlap = r->seen;
    r->overlaps += r->overlap > lo;
}

/* ---- rate, increase, delta --------------------------------------------------------------------------- */

static void
rate_of_window(const ev_walk *w, resets *r, last_span *last, ev_rate_kind kind, double range_s,
               size_t i, ev_row *out)
{
    const ev_points *p = &w->f;
    size_t lo = w->fw.lo[i], hi = w->fw.hi[i];
    ev_span s = {.from = ev_window_from(w, i),
                 .to = ev_window_to(w, i),
                 .first_t = p->t[lo],
                 .last_t = p->t[hi - 1],
                 .n = hi - lo,
                 .first = p->v[lo],
                 .change = p->v[hi - 1] - p->v[lo]};
    if (kind.counter) {
        if (p->start != NULL) {
            count_overlaps(r, p, lo, hi);
            if (p->start[lo] > s.from && p->start[lo] < s.first_t)
                s.start = p->start[lo];
        }
        if (r->n != 0)
            s.change = add_resets(r, p, lo, hi, s.change);
    }
    if (s.start != 0)
        s.change += s.first;
    else if (s.n < 2)
        return;
    ev_put(out, w->first + i, s.change * factor_of_span(last, &s, kind, range_s));
}

static ps_status
rate_of_floats(ev_walk *w, resets *r, ev_hist_work *hists, ev_rate_kind kind, ev_row *out)
{
    double range_s = ev_seconds(w->call->range_ms);
    bool plain = w->call->edge == PQL_PLAIN;
    last_span last = {.left = -1};
    while (ev_walk_next(w)) {
        if (w->mixed != 0)
            ev_walk_note(w, EV_NOTE_MIXED);
        if (w->f.n != 0 && !plain)
            ev_rate_extended(w, kind, out);
        for (size_t i = 0; i < w->n && w->f.n != 0 && plain; i++)
            if (w->fw.hi[i] > w->fw.lo[i] && !(w->mixed >> i & 1))
                rate_of_window(w, r, &last, kind, range_s, i, out);
        for (size_t i = 0; i < w->n && w->h.n != 0; i++)
            if (w->hw.hi[i] > w->hw.lo[i] && !(w->mixed >> i & 1))
                PS_TRY(plain ? ev_hist_rate(hists, i, out) : ev_hist_rate_extended(hists, i, out));
    }
    return PS_OK;
}

/* Names of counters end in certain words; says so if floats came out of one that does not. */
static void
note_names(const ev_range_call *call, const ev_row *out)
{
    static const char *const ends[] = {"_total", "_sum", "_count", "_bucket"};
    ps_str name = ev_metric_name(call->labels);
    uint64_t any = 0;
    if (name.len == 0)
        return;
    ps_str type = mdl_labels_get(call->labels, PS_STR("__type__"));
    bool by_type = ev_query_options(call->c)->type_unit_labels;
    if (by_type && (ps_str_eq_c(type, "counter") || ps_str_eq_c(type, "histogram")))
        return;
    for (size_t i = 0; !by_type && i < PS_ARRAY_LEN(ends); i++) {
        size_t len = strlen(ends[i]);
        if (name.len >= len && memcmp(name.ptr + name.len - len, ends[i], len) == 0)
            return;
    }
    for (size_t step = 0; step < call->n_steps && any == 0; step++)
        any |= ev_has(out->has, step) && (out->h == NULL || out->h[step] == NULL);
    if (any == 0)
        return;
    ps_buf *text = ev_note_begin(call->c);
    if (by_type) {
        ps_buf_add_c(text, "metric might not be a counter, __type__ label is not set to "
                           "\"counter\" or \"histogram\", got ");
        pql_quote(text, type);
        ps_buf_add_c(text, ": ");
    } else {
        ps_buf_add_c(text, "metric might not be a counter, name does not end in "
                           "_total/_sum/_count/_bucket: ");
    }
    pql_quote(text, name);
    ev_note_end(call->c, true, ev_range_position(call));
}

static ps_status
extrapolated(const ev_range_call *call, const ev_samples *s, ev_row *out, ev_rate_kind kind)
{
    ev_walk w;
    resets r = {.at = r.small};
    ev_hist_work hists;
    PS_TRY(ev_walk_begin(&w, call, s));
    ps_status status = ev_hist_begin(&hists, &w, kind);
    if (status == PS_OK && kind.counter && call->edge == PQL_PLAIN && w.f.n != 0)
        status = find_resets(&r, call->c, &w.f);
    if (status == PS_OK)
        status = rate_of_floats(&w, &r, &hists, kind, out);
    uint64_t overlaps = r.overlaps + hists.overlaps;
    if (status == PS_OK && overlaps != 0)
        ev_note_start_overlap(call->c, ev_range_position(call), ev_metric_name(call->labels),
                              overlaps);
    if (status == PS_OK && kind.counter)
        note_names(call, out);
    resets_done(&r, call->c);
    ev_hist_end(&hists);
    ev_walk_end(&w);
    return status;
}

ps_status
ev_fn_rate(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return extrapolated(call, s, out, (ev_rate_kind){.counter = true, .per_second = true});
}

ps_status
ev_fn_increase(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return extrapolated(call, s, out, (ev_rate_kind){.counter = true});
}

ps_status
ev_fn_delta(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return extrapolated(call, s, out, (ev_rate_kind){0});
}

/* ---- irate, idelta ------------------------------------------------------------------------------------- */

/* The last two samples of window i, of either kind: floats have h == NULL. */
typedef struct last_sample {
    int64_t t, start;
    double v;
    const hst_hist *h;
} last_sample;

static last_sample
sample_of(const ev_points *p, size_t i)
{
    return (last_sample){p->t[i], p->start == NULL ? 0 : p->start[i], p->v == NULL ? 0 : p->v[i],
                         p->h == NULL ? NULL : p->h[i]};
}

static bool
last_two(const ev_walk *w, size_t i, last_sample ret[2])
{
    size_t f = w->fw.hi[i], h = w->h.n == 0 ? 0 : w->hw.hi[i];
    size_t f_lo = w->fw.lo[i], h_lo = w->h.n == 0 ? 0 : w->hw.lo[i];
    for (int k = 1; k >= 0; k--) {
        if (f > f_lo && (h == h_lo || w->f.t[f - 1] > w->h.t[h - 1]))
            ret[k] = sample_of(&w->f, --f);
        else if (h > h_lo)
            ret[k] = sample_of(&w->h, --h);
        else
            return false;
    }
    return true;
}

static ps_status
instant_of_window(ev_hist_work *k, size_t i, bool per_second, ev_row *out)
{
    ev_walk *w = k->w;
    last_sample s[2];
    if (!last_two(w, i, s))
        return PS_OK;
    double seconds = (double)(s[1].t - s[0].t) / 1000;
    bool start_reset = ev_start_is_reset(s[0].start, s[0].t, s[1].start, s[1].t);
    if ((s[0].h == NULL) != (s[1].h == NULL)) {
        ev_walk_note(w, EV_NOTE_MIXED);
        return PS_OK;
    }
    if (s[1].h != NULL)
        return ev_hist_instant(k, s[0].h, s[1].h, start_reset, seconds, w->first + i, out);
    double v = s[1].v;
    if (!per_second || !(s[1].v < s[0].v || start_reset))
        v = s[1].v - s[0].v;
    ev_put(out, w->first + i, per_second ? v / seconds : v);
    return PS_OK;
}

static ps_status
instant(const ev_range_call *call, const ev_samples *s, ev_row *out, bool per_second)
{
    ev_walk w;
    ev_hist_work hists;
    PS_TRY(ev_walk_begin(&w, call, s));
    ps_status status = ev_hist_begin(&hists, &w, (ev_rate_kind){per_second, per_second});
    while (status == PS_OK && ev_walk_next(&w))
        for (size_t i = 0; i < w.n && status == PS_OK; i++)
            status = instant_of_window(&hists, i, per_second, out);
    ev_hist_end(&hists);
    ev_walk_end(&w);
    return status;
}

ps_status
ev_fn_irate(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return instant(call, s, out, true);
}

ps_status
ev_fn_idelta(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return instant(call, s, out, false);
}
