/*
 * fn_range_trend.c - deriv, predict_linear, double_exponential_smoothing.
 *
 * Least squares with compensated sums over each window, times relative to the window's first sample
 * (deriv) or to the step (predict_linear). Smoothing is a chain from the window's first sample to its
 * last, so that windows share nothing; several are run side by side to keep the processor busy.
 */
#include "lib/eval/fn_lanes.h"

/* ---- straight lines ---------------------------------------------------------------------------------- */

typedef struct line {
    double slope, at_zero;
} line;

typedef struct moments { /* compensated sums of x, y, x * y, x * x */
    double x, x_c, y, y_c, xy, xy_c, xx, xx_c;
} moments;

static line
line_through(moments m, const int64_t *t, const double *v, size_t from, size_t n, int64_t zero)
{
    for (size_t i = from; i < n; i++) {
        double x = (double)(t[i] - zero) / 1e3;
        ev_kahan(x, &m.x, &m.x_c);
        ev_kahan(v[i], &m.y, &m.y_c);
        ev_kahan(x * v[i], &m.xy, &m.xy_c);
        ev_kahan(x * x, &m.xx, &m.xx_c);
    }
    double count = (double)n, sx = m.x + m.x_c, sy = m.y + m.y_c;
    double slope = ((m.xy + m.xy_c) - sx * sy / count) / ((m.xx + m.xx_c) - sx * sx / count);
    return (line){slope, sy / count - slope * sx / count};
}

/* A constant has no slope, whatever the rounding would say. */
static bool
is_constant(const double *v, size_t n, line *ret)
{
    for (size_t i = 1; i < n; i++)
        if (v[i] != v[0])
            return false;
    *ret = isinf(v[0]) ? (line){NAN, NAN} : (line){0, v[0]};
    return true;
}

static int64_t
zero_time(const ev_walk *w, size_t i, bool predict)
{
    const ev_range_call *call = w->call;
    return predict ? call->first_eval_ms + (int64_t)(w->first + i) * call->eval_step_ms
                   : w->f.t[w->fw.lo[i]];
}

static void
lanes_of_moments(const ev_lanes *l, const int64_t zero[EV_LANES], moments ret[EV_LANES])
{
    for (size_t p = 0; p < EV_PAIRS; p++) { /* the sums of one pair fill the registers */
        const int64_t *ta = l->t[2 * p], *tb = l->t[2 * p + 1];
        int64_t za = zero[2 * p], zb = zero[2 * p + 1];
        ev_pair sx = {0}, cx = {0}, sy = {0}, cy = {0}, sxy = {0}, cxy = {0}, sxx = {0}, cxx = {0};
        for (size_t i = 0; i < l->shortest; i++) {
            ev_pair x = {(double)(ta[i] - za), (double)(tb[i] - zb)}, y = ev_pair_of(l, p, i);
            x /= 1e3;
            ev_kahan_pair(x, &sx, &cx);
            ev_kahan_pair(y, &sy, &cy);
            ev_kahan_pair(x * y, &sxy, &cxy);
            ev_kahan_pair(x * x, &sxx, &cxx);
        }
        for (size_t k = 0; k < 2; k++)
            ret[2 * p + k] = (moments){sx[k],  cx[k],  sy[k],  cy[k],
                                       sxy[k], cxy[k], sxx[k], cxx[k]};
    }
}

static void
lines_of_block(const ev_walk *w, bool predict, ev_row *out)
{
    ev_lanes lanes;
    moments begun[EV_LANES];
    size_t taken = 0; /* lanes that are computed up to the shortest, from window i on */
    for (size_t i = 0; i < w->n; i++) {
        if (taken == 0 && ev_take_lanes(w, i, 4, &lanes)) {
            int64_t zeros[EV_LANES];
            for (size_t k = 0; k < EV_LANES; k++)
                zeros[k] = zero_time(w, i + k, predict);
            lanes_of_moments(&lanes, zeros, begun);
            taken = EV_LANES;
        }
        size_t lo = w->fw.lo[i], n = w->fw.hi[i] - lo, step = w->first + i;
        size_t from = taken == 0 ? 0 : lanes.shortest;
        moments m = taken == 0 ? (moments){0} : begun[EV_LANES - taken--];
        line l;
        if (n < 2)
            continue;
        if (!is_constant(w->f.v + lo, n, &l))
            l = line_through(m, w->f.t + lo, w->f.v + lo, from, n, zero_time(w, i, predict));
        ev_put(out, step, predict ? l.slope * w->call->params[0][step] + l.at_zero : l.slope);
    }
}

static ps_status
regression(const ev_range_call *call, const ev_samples *s, ev_row *out, bool predict)
{
    ev_walk w;
    PS_TRY(ev_walk_begin(&w, call, s));
    while (w.f.n != 0 && ev_walk_next(&w)) {
        ev_walk_ignore_histograms(&w);
        lines_of_block(&w, predict, out);
    }
    ev_walk_end(&w);
    return PS_OK;
}

ps_status
ev_fn_deriv(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return regression(call, s, out, false);
}

ps_status
ev_fn_predict_linear(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return regression(call, s, out, true);
}

/* ---- smoothing ------------------------------------------------------------------------------------------- */

enum { LANES = 8 };

typedef struct chain {
    double before, now, trend; /* smoothed values, and the trend at the last one */
} chain;

static inline void
chain_step(chain *s, double sf, double tf, double v)
{
    double x = sf * v;
    s->trend = tf * (s->now - s->before) + (1 - tf) * s->trend;
    double y = (1 - sf) * (s->now + s->trend);
    s->before = s->now;
    s->now = x + y;
}

/* The second value: the trend is that of the first two. */
static inline chain
chain_start(double sf, const double *v)
{
    double trend = v[1] - v[0];
    return (chain){v[0], sf * v[1] + (1 - sf) * (v[0] + trend), trend};
}

/* %f of the language that people compare messages with. */
static void
add_fixed(ps_buf *out, double v)
{
    char text[PS_DOUBLE_PLAIN_TEXT];
    double magnitude = fabs(v);
    if (!(magnitude < 1e9)) {
        ps_format_double_plain(text, v);
        ps_buf_add_c(out, text);
        if (isfinite(v))
            ps_buf_add_c(out, ".000000");
        return;
    }
    uint64_t millionths = (uint64_t)(magnitude * 1e6 + 0.5);
    ps_buf_addf(out, "%s%llu.%06llu", signbit(v) ? "-" : "",
                (unsigned long long)(millionths / 1000000),
                (unsigned long long)(millionths % 1000000));
}

static ps_status
bad_factor(const ev_range_call *call, const char *name, const char *letters, double v)
{
    ps_buf text;
    ps_buf_init(&text, ev_alloc(call->c));
    ps_buf_addf(&text, "invalid %s factor. Expected: 0 < %s < 1, got: ", name, letters);
    add_fixed(&text, v);
    ps_status status = text.failed ? ev_no_memory(call->c)
                                   : ev_fail_str(call->c, PS_EINVAL, ps_buf_str(&text));
    ps_buf_done(&text);
    return status;
}

static ps_status
check_factors(const ev_walk *w, size_t step)
{
    double sf = w->call->params[0][step], tf = w->call->params[1][step];
    if (sf <= 0 || sf >= 1)
        return bad_factor(w->call, "smoothing", "sf", sf);
    if (tf <= 0 || tf >= 1)
        return bad_factor(w->call, "trend", "tf", tf);
    return PS_OK;
}

/* Windows [i, i + n) of the block, n <= LANES, all of two points at least. */
static void
smooth_windows(const ev_walk *w, size_t i, size_t n, ev_row *out)
{
    const double *v[LANES];
    double sf[LANES], tf[LANES];
    size_t len[LANES], shortest = SIZE_MAX;
    chain chains[LANES];
    for (size_t k = 0; k < LANES; k++) {
        size_t at = i + (k < n ? k : 0);
        sf[k] = w->call->params[0][w->first + at];
        tf[k] = w->call->params[1][w->first + at];
        v[k] = w->f.v + w->fw.lo[at];
        len[k] = w->fw.hi[at] - w->fw.lo[at];
        shortest = len[k] < shortest ? len[k] : shortest;
        chains[k] = chain_start(sf[k], v[k]);
    }
    for (size_t j = 2; j < shortest; j++)
        for (size_t k = 0; k < LANES; k++)
            chain_step(&chains[k], sf[k], tf[k], v[k][j]);
    for (size_t k = 0; k < n; k++) {
        for (size_t j = shortest; j < len[k]; j++)
            chain_step(&chains[k], sf[k], tf[k], v[k][j]);
        ev_put(out, w->first + i + k, chains[k].now);
    }
}

static ps_status
smooth_block(ev_walk *w, ev_row *out)
{
    size_t first = 0, n = 0;
    for (size_t i = 0; i < w->n; i++) {
        if (w->any >> i & 1)
            PS_TRY(check_factors(w, w->first + i));
        bool enough = w->fw.hi[i] - w->fw.lo[i] >= 2;
        if (enough && n++ == 0)
            first = i;
        if (n == LANES || (n != 0 && !enough)) {
            smooth_windows(w, first, n, out);
            n = 0;
        }
    }
    if (n != 0)
        smooth_windows(w, first, n, out);
    return PS_OK;
}

ps_status
ev_fn_smoothing(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    ps_status status = PS_OK;
    ev_walk w;
    PS_TRY(ev_walk_begin(&w, call, s));
    while (status == PS_OK && ev_walk_next(&w)) {
        ev_walk_ignore_histograms(&w);
        status = smooth_block(&w, out);
    }
    ev_walk_end(&w);
    return status;
}
