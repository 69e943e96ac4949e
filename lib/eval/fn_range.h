/*
 * fn_range.h - what functions over ranges share: the walk over the windows of one series.
 *
 * A series comes as one array of samples. The walk splits it into floats and histograms (almost always
 * one of the two is empty, then nothing is copied) and hands out the windows in blocks of 64 steps,
 * which is one word of a row's presence bits and fits on the stack. Windows are index ranges; both
 * ends only move forward, so that all windows of a series cost steps + samples.
 *
 * Annotations are noted at most once per kind and series here; the context keeps each text once.
 */
#ifndef PROMSCALE_EVAL_FN_RANGE_H
#define PROMSCALE_EVAL_FN_RANGE_H

#include <math.h>

#include "lib/eval/internal.h"

typedef struct ev_points { /* of one kind; v or h is NULL */
    size_t n;
    const int64_t *t;
    const double *v;
    const hst_hist *const *h;
    const int64_t *start; /* start timestamps; NULL: not wanted or none known */
} ev_points;

enum { EV_BLOCK = 64 };

typedef struct ev_ends { /* window i of a block: points [lo[i], hi[i]) */
    size_t lo[EV_BLOCK], hi[EV_BLOCK];
} ev_ends;

/* Annotations that several functions have; one bit each. */
typedef enum ev_range_note {
    EV_NOTE_MIXED,       /* floats and histograms in one window: no result */
    EV_NOTE_IGNORED,     /* histograms beside floats were left out */
    EV_NOTE_NOT_COUNTER, /* a gauge histogram */
    EV_NOTE_NOT_GAUGE,
    EV_NOTE_SCHEMAS,    /* exponential and custom buckets */
    EV_NOTE_COLLISION,  /* of counter reset hints in an aggregation */
    EV_NOTE_BOUNDS_ADD, /* custom bounds were reconciled: while adding, ... */
    EV_NOTE_BOUNDS_SUB,
    EV_NOTE_BOUNDS_AGG,
} ev_range_note;

typedef struct ev_walk {
    const ev_range_call *call;
    ev_points f, h;
    int64_t left_ms, right_ms; /* the window reaches further by so much (anchored, smoothed) */
    uint32_t noted;
    /* The block: n steps from `first` on. */
    size_t first, n;
    ev_ends fw, hw;      /* hw only if h.n != 0 */
    uint64_t any, mixed; /* bits: windows with points, with floats and histograms */
    void *copy;          /* of a series that holds both */
    size_t copy_bytes;
} ev_walk;

ps_status ev_walk_begin(ev_walk *w, const ev_range_call *call, const ev_samples *s) PS_MUST_CHECK;
/* The next block; false after the last one, and when the query is to stop (call->c->failed). */
bool ev_walk_next(ev_walk *w);
void ev_walk_end(ev_walk *w);
void ev_walk_note(ev_walk *w, ev_range_note note);
const pql_expr *ev_range_position(const ev_range_call *call); /* what annotations point to */
/* Notes histograms beside floats in a window of the block, which are left out. */
void ev_walk_ignore_histograms(ev_walk *w);

/* Edges of the window of step i of the block, without what anchored and smoothed add. */
static inline int64_t
ev_window_to(const ev_walk *w, size_t i)
{
    return w->call->first_end_ms + (int64_t)(w->first + i) * w->call->end_step_ms;
}
static inline int64_t
ev_window_from(const ev_walk *w, size_t i)
{
    return ev_window_to(w, i) - w->call->range_ms;
}

static inline void
ev_put(ev_row *row, size_t step, double v)
{
    row->v[step] = v;
    ev_set(row->has, step);
}

/* The range in seconds, by the operations that Go's Duration.Seconds() has. */
static inline double
ev_seconds(int64_t ms)
{
    return (double)(ms / 1000) + (double)(ms % 1000 * 1000000) / 1e9;
}

/* Kahan-Neumaier: adds inc to *sum, the rounding error to *c. Without branches, so that several
 * windows can be summed side by side. */
static inline void
ev_kahan(double inc, double *sum, double *c)
{
    double t = *sum + inc;
    bool swap = !(fabs(*sum) >= fabs(inc));
    double big = swap ? inc : *sum, small = swap ? *sum : inc;
    double with = *c + ((big - t) + small);
    *c = isinf(t) ? 0 : with;
    *sum = t;
}

/* Did the counter start anew between two samples, by their start timestamps (0: unknown)? */
bool ev_start_is_reset(int64_t prev_start, int64_t prev_t, int64_t start, int64_t t);
/* Does the time that a sample covers overlap with the sample before it? */
bool ev_start_overlaps(int64_t prev_start, int64_t prev_t, int64_t start);

/* Memory of one series' evaluation; NULL after ev_no_memory(). */
void *ev_scratch(ev_ctx *c, size_t n, size_t size);
void ev_scratch_free(ev_ctx *c, void *p, size_t n, size_t size);

ps_status ev_fn_rate(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_increase(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_delta(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_irate(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_idelta(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_resets(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_changes(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_deriv(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_predict_linear(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_smoothing(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_sum(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_avg(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_stddev(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_stdvar(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_min(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_max(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_ts_of_min(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_ts_of_max(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_count(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_present(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_first(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_last(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_ts_of_first(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_ts_of_last(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_quantile(const ev_range_call *call, const ev_samples *s, ev_row *out);
ps_status ev_fn_mad(const ev_range_call *call, const ev_samples *s, ev_row *out);

/* ---- rate and its kin, in three files -------------------------------------------------------------- */

typedef struct ev_rate_kind {
    bool counter, per_second;
} ev_rate_kind;

/* What the increase between the first and the last sample of a window becomes when it is extended to
 * the edges: a factor. */
typedef struct ev_span {
    int64_t from, to, first_t, last_t;
    int64_t start;        /* of the counter within the window, before first_t; or 0 */
    size_t n;             /* samples */
    double first, change; /* value (a histogram's count) and increase; for the zero limit */
} ev_span;
double ev_rate_factor(const ev_span *s, ev_rate_kind kind, double range_s);
/* Anchored and smoothed: first and last point that window i is computed from; false: no result. */
bool ev_extended_ends(const ev_walk *w, const ev_points *p, const ev_ends *e, size_t i,
                      size_t *first, size_t *last);
/* Over floats: a whole block. */
void ev_rate_extended(ev_walk *w, ev_rate_kind kind, ev_row *out);

/* What functions of histograms keep for one series. */
typedef struct ev_hist_work {
    ev_walk *w;
    ev_rate_kind kind;
    uint8_t *known; /* of pair (i - 1, i): 0 not looked at, 1 no reset, 2 reset */
    uint32_t *run;  /* from here to i all are alike and there is no reset; known below n_runs */
    size_t n_runs;
    ps_arena scratch; /* of one window */
    hst_sum *sum;     /* in sums */
    ps_arena sums;
    uint64_t overlaps; /* windows with overlapping start times */
} ev_hist_work;
/* Takes no memory if the series has no histograms. */
ps_status ev_hist_begin(ev_hist_work *k, ev_walk *w, ev_rate_kind kind) PS_MUST_CHECK;
void ev_hist_end(ev_hist_work *k);
/* rate & co. of window i of the block: nothing, or a histogram in out. */
ps_status ev_hist_rate(ev_hist_work *k, size_t i, ev_row *out) PS_MUST_CHECK;
ps_status ev_hist_rate_extended(ev_hist_work *k, size_t i, ev_row *out) PS_MUST_CHECK;
/* irate, idelta of histograms a and b. */
ps_status ev_hist_instant(ev_hist_work *k, const hst_hist *a, const hst_hist *b, bool start_reset,
                          double seconds, size_t step, ev_row *out) PS_MUST_CHECK;
/* sum_over_time, avg_over_time of window i. */
ps_status ev_hist_sum(ev_hist_work *k, size_t i, bool avg, ev_row *out) PS_MUST_CHECK;
/* Makes h, which is in out's arena, the result of a step. */
ps_status ev_put_hist(ev_ctx *c, ev_row *out, size_t n_steps, size_t step,
                      const hst_hist *h) PS_MUST_CHECK;
/* Was there a reset between histograms i - 1 and i of the series? */
bool ev_hist_is_reset(ev_hist_work *k, size_t i);

#endif
