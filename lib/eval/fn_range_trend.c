/*
 * fn_range_trend.c - deriv, predict_linear, double_exponential_smoothing.
 *
 * Least squares with compensated sums over each window, times relative to the window's first sample
 * (deriv) or to the step (predict_linear). Smoothing is a chain from the window's first sample to its
 * last, so that windows share nothing; several are run side by side to keep the processor busy.
 */
#include "lib/eval/fn_range.h"

/* ---- straight lines ---------------------------------------------------------------------------------- */

typedef struct line {
    double slope, at_zero;
} line;

static line
line_through(const int64_t *t, const double *v, size_t n, int64_t zero)
{
    double sx = 0, cx = 0, sy = 0, cy = 0, sxy = 0, cxy = 0, sxx = 0, cxx = 0;
    bool constant = true;
    for (size_t i = 0; i < n; i++) {
        double x = (double)(t[i] - zero) / 1e3;
        constant &= i == 0 || v[i] == v[0];
        ev_kahan(x, &sx, &cx);
        ev_kahan(v[i], &sy, &cy);
        ev_kahan(x * v[i], &sxy, &cxy);
        ev_kahan(x * x, &sxx, &cxx);
    }
    if (constant) {
        double nan = NAN;
        return isinf(v[0]) ? (line){nan, nan} : (line){0, v[0]};
    }
    double count = (double)n;
    sx += cx;
    sy += cy;
    sxy += cxy;
    sxx += cxx;
    double slope = (sxy - sx * sy / count) / (sxx - sx * sx / count);
    return (line){slope, sy / count - slope * sx / count};
}

static ps_status
regression(const ev_range_call *call, const ev_samples *s, ev_row *out, bool predict)
{
    ev_walk w;
    PS_TRY(ev_walk_begin(&w, call, s));
    while (w.f.n != 0 && ev_walk_next(&w)) {
        ev_walk_ignore_histograms(&w);
        for (size_t i = 0; i < w.n; i++) {
            size_t lo = w.fw.lo[i], n = w.fw.hi[i] - lo, step = w.first + i;
            if (n < 2)
                continue;
            int64_t zero = predict ? call->first_eval_ms + (int64_t)step * call->eval_step_ms
                                   : w.f.t[lo];
            line l = line_through(w.f.t + lo, w.f.v + lo, n, zero);
            ev_put(out, step, predict ? l.slope * call->params[0][step] + l.at_zero : l.slope);
        }
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
