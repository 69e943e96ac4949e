/*
 * fn_range.c - the walk over the windows of a series, and the table of functions over ranges.
 *
 * See fn_range.h for the idea. A series that holds floats and histograms is split into two copies in
 * time order; windows then are two index ranges.
 */
#include "lib/eval/fn_range.h"

/* ---- the table -------------------------------------------------------------------------------- */

const ev_range_function *
ev_range_function_of(pql_fn fn)
{
    static const ev_range_function table[] = {
        {PQL_FN_AVG_OVER_TIME, ev_fn_avg, false},
        {PQL_FN_CHANGES, ev_fn_changes, false},
        {PQL_FN_COUNT_OVER_TIME, ev_fn_count, false},
        {PQL_FN_DELTA, ev_fn_delta, false},
        {PQL_FN_DERIV, ev_fn_deriv, false},
        {PQL_FN_DOUBLE_EXPONENTIAL_SMOOTHING, ev_fn_smoothing, false},
        {PQL_FN_FIRST_OVER_TIME, ev_fn_first, true},
        {PQL_FN_IDELTA, ev_fn_idelta, false},
        {PQL_FN_INCREASE, ev_fn_increase, false},
        {PQL_FN_IRATE, ev_fn_irate, false},
        {PQL_FN_LAST_OVER_TIME, ev_fn_last, true},
        {PQL_FN_MAD_OVER_TIME, ev_fn_mad, false},
        {PQL_FN_MAX_OVER_TIME, ev_fn_max, false},
        {PQL_FN_MIN_OVER_TIME, ev_fn_min, false},
        {PQL_FN_PREDICT_LINEAR, ev_fn_predict_linear, false},
        {PQL_FN_PRESENT_OVER_TIME, ev_fn_present, false},
        {PQL_FN_QUANTILE_OVER_TIME, ev_fn_quantile, false},
        {PQL_FN_RATE, ev_fn_rate, false},
        {PQL_FN_RESETS, ev_fn_resets, false},
        {PQL_FN_STDDEV_OVER_TIME, ev_fn_stddev, false},
        {PQL_FN_STDVAR_OVER_TIME, ev_fn_stdvar, false},
        {PQL_FN_SUM_OVER_TIME, ev_fn_sum, false},
        {PQL_FN_TS_OF_FIRST_OVER_TIME, ev_fn_ts_of_first, false},
        {PQL_FN_TS_OF_LAST_OVER_TIME, ev_fn_ts_of_last, false},
        {PQL_FN_TS_OF_MAX_OVER_TIME, ev_fn_ts_of_max, false},
        {PQL_FN_TS_OF_MIN_OVER_TIME, ev_fn_ts_of_min, false},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(table); i++)
        if (table[i].fn == fn)
            return &table[i];
    return NULL;
}

/* ---- the walk ----------------------------------------------------------------------------------- */

static bool
wants_starts(const ev_range_call *call)
{
    pql_fn fn = call->call->call.fn->id;
    return (fn == PQL_FN_RATE || fn == PQL_FN_INCREASE || fn == PQL_FN_IRATE ||
            fn == PQL_FN_RESETS) &&
           ev_query_options(call->c)->start_timestamps;
}

/* One allocation holds all arrays of both kinds. */
static ps_status
split(ev_walk *w, const ev_samples *s, size_t n_hists, bool starts)
{
    size_t n_floats = s->n - n_hists;
    w->copy_bytes = s->n * (starts ? 24 : 16);
    w->copy = ev_scratch(w->call->c, w->copy_bytes, 1);
    if (w->copy == NULL)
        return PS_ENOMEM;
    int64_t *t = w->copy, *start = starts ? t + 2 * s->n : NULL;
    double *v = (double *)(t + s->n);
    const hst_hist **h = (const hst_hist **)(v + n_floats);
    w->f = (ev_points){n_floats, t, v, NULL, start};
    w->h = (ev_points){n_hists, t + n_floats, NULL, h, starts ? start + n_floats : NULL};
    for (size_t i = 0, f = 0, k = n_floats; i < s->n; i++) {
        size_t to = s->h[i] == NULL ? f++ : k++;
        t[to] = s->t_ms[i];
        if (starts)
            start[to] = s->start_ms[i];
        if (s->h[i] == NULL)
            v[to] = s->v[i];
        else
            h[to - n_floats] = s->h[i];
    }
    return PS_OK;
}

ps_status
ev_walk_begin(ev_walk *w, const ev_range_call *call, const ev_samples *s)
{
    bool starts = s->start_ms != NULL && wants_starts(call);
    size_t n_hists = 0;
    w->call = call;
    w->noted = 0;
    w->first = w->n = 0;
    w->any = w->mixed = 0;
    w->copy = NULL;
    w->left_ms = call->edge == PQL_PLAIN ? 0 : call->lookback_ms;
    w->right_ms = call->edge == PQL_SMOOTHED ? call->lookback_ms : 0;
    w->fw.hi[0] = w->fw.lo[0] = w->hw.hi[0] = w->hw.lo[0] = 0;
    if (s->h != NULL)
        for (size_t i = 0; i < s->n; i++)
            n_hists += s->h[i] != NULL;
    w->f = (ev_points){s->n, s->t_ms, s->v, NULL, starts ? s->start_ms : NULL};
    w->h = (ev_points){0};
    if (n_hists == 0)
        return PS_OK;
    if (n_hists < s->n)
        return split(w, s, n_hists, starts);
    w->h = (ev_points){s->n, s->t_ms, NULL, (const hst_hist *const *)s->h, w->f.start};
    w->f = (ev_points){0};
    return PS_OK;
}

void
ev_walk_end(ev_walk *w)
{
    if (w->copy != NULL)
        ev_scratch_free(w->call->c, w->copy, w->copy_bytes, 1);
}

/* The windows of n steps, the first of which is (from, to]; returns which are not empty. */
static uint64_t
find_ends(ev_ends *e, size_t lo, size_t hi, const ev_points *p, int64_t from, int64_t to,
          int64_t step, size_t n)
{
    uint64_t any = 0;
    for (size_t i = 0; i < n; i++) {
        while (hi < p->n && p->t[hi] <= to)
            hi++;
        while (lo < hi && p->t[lo] <= from)
            lo++;
        e->lo[i] = lo;
        e->hi[i] = hi;
        any |= (uint64_t)(lo < hi) << i;
        from += step;
        to += step;
    }
    return any;
}

bool
ev_walk_next(ev_walk *w)
{
    const ev_range_call *call = w->call;
    size_t last = w->n == 0 ? 0 : w->n - 1;
    w->first += w->n;
    /* long windows over many steps: a query that is to stop does not wait for the series to end */
    if (w->first >= call->n_steps || (w->first > 0 && ev_poll(call->c) != PS_OK))
        return false;
    w->n = call->n_steps - w->first < EV_BLOCK ? call->n_steps - w->first : EV_BLOCK;
    int64_t from = ev_window_from(w, 0) - w->left_ms;
    int64_t to = ev_window_to(w, 0) + w->right_ms;
    w->any = w->mixed = 0;
    if (w->f.n != 0)
        w->any = find_ends(&w->fw, w->fw.lo[last], w->fw.hi[last], &w->f, from, to,
                           call->end_step_ms, w->n);
    else
        memset(&w->fw, 0, sizeof w->fw);
    if (w->h.n != 0) {
        uint64_t any = find_ends(&w->hw, w->hw.lo[last], w->hw.hi[last], &w->h, from, to,
                                 call->end_step_ms, w->n);
        w->mixed = w->any & any;
        w->any |= any;
    }
    return true;
}

/* ---- annotations -------------------------------------------------------------------------------- */

const pql_expr *
ev_range_position(const ev_range_call *call)
{
    if (call->call->call.fn->id == PQL_FN_QUANTILE_OVER_TIME)
        return call->call->call.args[0]; /* the first argument of any kind */
    return call->arg;
}

void
ev_walk_note(ev_walk *w, ev_range_note note)
{
    static const struct {
        bool warning, named;
        const char *text;
    } texts[] = {
        [EV_NOTE_MIXED] = {true, true,
                           "encountered a mix of histograms and floats for metric name"},
        [EV_NOTE_IGNORED] = {false, true,
                             "ignored histograms in a range containing both floats and histograms "
                             "for metric name"},
        [EV_NOTE_NOT_COUNTER] = {true, true, "this native histogram metric is not a counter:"},
        [EV_NOTE_NOT_GAUGE] = {true, true, "this native histogram metric is not a gauge:"},
        [EV_NOTE_SCHEMAS] = {true, true,
                             "vector contains a mix of histograms with exponential and custom "
                             "buckets schemas for metric name"},
        [EV_NOTE_COLLISION] = {true, false,
                               "conflicting counter resets during histogram aggregation"},
        [EV_NOTE_BOUNDS_ADD] = {false, false,
                                "mismatched custom buckets were reconciled during addition"},
        [EV_NOTE_BOUNDS_SUB] = {false, false,
                                "mismatched custom buckets were reconciled during subtraction"},
        [EV_NOTE_BOUNDS_AGG] = {false, false,
                                "mismatched custom buckets were reconciled during aggregation"},
    };
    if (w->noted >> note & 1)
        return;
    w->noted |= UINT32_C(1) << note;
    ev_ctx *c = w->call->c;
    ps_buf *text = ev_note_begin(c);
    ps_buf_add_c(text, texts[note].text);
    if (texts[note].named) {
        ps_buf_add_char(text, ' ');
        pql_quote(text, ev_metric_name(w->call->labels));
    }
    ev_note_end(c, !texts[note].warning, ev_range_position(w->call));
}

void
ev_walk_ignore_histograms(ev_walk *w)
{
    if (w->mixed != 0)
        ev_walk_note(w, EV_NOTE_IGNORED);
}

/* ---- start timestamps ------------------------------------------------------------------------------ */

bool
ev_start_is_reset(int64_t prev_start, int64_t prev_t, int64_t start, int64_t t)
{
    if (start == 0 || start >= t || start < prev_t)
        return false; /* unknown, impossible, or older than the sample before */
    if (start > prev_t)
        return true;
    /* It starts exactly at the sample before: deltas do, and so do counters of unknown start, whose
     * first sample then has no usable start of its own. */
    return prev_start != 0 && prev_start < prev_t;
}

bool
ev_start_overlaps(int64_t prev_start, int64_t prev_t, int64_t start)
{
    return start != 0 && start < prev_t && start != prev_start;
}

/* ---- memory ------------------------------------------------------------------------------------------ */

void *
ev_scratch(ev_ctx *c, size_t n, size_t size)
{
    size_t bytes;
    void *p = ps_mul_size(n, size, &bytes) ? ps_alloc_new(ev_alloc(c), bytes) : NULL;
    if (p == NULL)
        (void)ev_no_memory(c);
    return p;
}

void
ev_scratch_free(ev_ctx *c, void *p, size_t n, size_t size)
{
    ps_alloc_free(ev_alloc(c), p, n * size);
}
