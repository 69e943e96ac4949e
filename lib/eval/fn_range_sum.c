/*
 * fn_range_sum.c - sum, avg, stddev, stdvar over ranges.
 *
 * Each window is summed anew, in order of time, with compensation: that is what makes results equal
 * to Prometheus's to the last bit. Two things make it fast all the same:
 *
 * Exact series. If all values are integers and the sum of their magnitudes is below 2^53, every order
 * of adding gives the same exact number and all compensations are zero. Then running totals are kept
 * and a window is a difference of two of them. Counters and counts of things are such series.
 *
 * Lanes. Otherwise several neighbouring windows are summed side by side: each is a chain of dependent
 * additions, together they keep the processor busy.
 */
#include "lib/eval/fn_range.h"

enum { LANES = 8 };

/* ---- exact series ----------------------------------------------------------------------------------- */

static bool
is_exact(const ev_points *p)
{
    const double limit = 9007199254740992.0; /* 2^53 */
    double sum = 0;
    size_t i = 0;
    while (i < p->n) {
        size_t end = p->n - i < 256 ? p->n : i + 256;
        double odd = 0;
        for (; i < end; i++) {
            double v = p->v[i];
            double magnitude = fabs(v);
            /* adding and taking off 2^52 leaves integers below it as they are */
            odd += magnitude + 4503599627370496.0 - 4503599627370496.0 != magnitude;
            sum += magnitude;
        }
        if (odd != 0 || !(sum < limit))
            return false;
    }
    return true;
}

/* ---- one window ----------------------------------------------------------------------------------------- */

static double
sum_of(const double *v, size_t n)
{
    double sum = 0, c = 0;
    for (size_t i = 0; i < n; i++)
        ev_kahan(v[i], &sum, &c);
    return isinf(sum) ? sum : sum + c;
}

/* The sum as long as it stays finite, then a mean that is moved on value by value. */
static double
avg_of(const double *v, size_t n)
{
    double sum = v[0], c = 0;
    size_t i = 1;
    for (; i < n; i++) {
        double next = sum, next_c = c;
        ev_kahan(v[i], &next, &next_c);
        if (isinf(next))
            break;
        sum = next;
        c = next_c;
    }
    if (i == n)
        return sum / (double)n + c / (double)n;
    double mean = sum / (double)i;
    c /= (double)i;
    for (; i < n; i++) {
        double count = (double)(i + 1), q = (count - 1) / count;
        mean *= q;
        c *= q;
        ev_kahan(v[i] / count, &mean, &c);
    }
    return mean + c;
}

static double
variance_of(const double *v, size_t n)
{
    double mean = 0, mean_c = 0, aux = 0, aux_c = 0;
    for (size_t i = 0; i < n; i++) {
        double delta = v[i] - (mean + mean_c);
        ev_kahan(delta / (double)(i + 1), &mean, &mean_c);
        ev_kahan(delta * (v[i] - (mean + mean_c)), &aux, &aux_c);
    }
    return (aux + aux_c) / (double)n;
}

/* ---- lanes ------------------------------------------------------------------------------------------------ */

typedef struct lanes {
    double sum[LANES], c[LANES];
} lanes;

/* Sums LANES windows of the same length; sum and c as after the last value. */
static void
sum_lanes(lanes *l, const double *const v[LANES], size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < LANES; k++)
            ev_kahan(v[k][i], &l->sum[k], &l->c[k]);
}

/* The windows [i, i + LANES) of a block, if all of them hold at least `least` points. */
static bool
lanes_ready(const ev_walk *w, size_t i, size_t least, size_t *ret_shortest)
{
    size_t shortest = SIZE_MAX;
    if (i + LANES > w->n || w->mixed != 0)
        return false;
    for (size_t k = 0; k < LANES; k++) {
        size_t n = w->fw.hi[i + k] - w->fw.lo[i + k];
        shortest = n < shortest ? n : shortest;
    }
    *ret_shortest = shortest;
    return shortest >= least;
}

static void
lanes_of_sums(const ev_walk *w, size_t i, size_t shortest, bool avg, ev_row *out)
{
    const double *v[LANES];
    lanes l;
    for (size_t k = 0; k < LANES; k++) {
        v[k] = w->f.v + w->fw.lo[i + k];
        l.sum[k] = l.c[k] = 0;
    }
    sum_lanes(&l, v, shortest);
    for (size_t k = 0; k < LANES; k++) {
        size_t n = w->fw.hi[i + k] - w->fw.lo[i + k];
        double sum = l.sum[k], c = l.c[k], result;
        for (size_t j = shortest; j < n; j++)
            ev_kahan(v[k][j], &sum, &c);
        if (!avg)
            result = isinf(sum) ? sum : sum + c;
        else if (isinf(sum) || sum != sum)
            result = avg_of(v[k], n); /* somewhere it overflowed, or a value is no number */
        else
            result = sum / (double)n + c / (double)n;
        ev_put(out, w->first + i + k, result);
    }
}

/* ---- sum and avg --------------------------------------------------------------------------------------------- */

static void
sums_of_exact(const ev_walk *w, double *total, size_t *lo, size_t *hi, bool avg, ev_row *out)
{
    for (size_t i = 0; i < w->n; i++) {
        for (; *hi < w->fw.hi[i]; ++*hi)
            *total += w->f.v[*hi];
        for (; *lo < w->fw.lo[i]; ++*lo)
            *total -= w->f.v[*lo];
        if (*lo < *hi && !(w->mixed >> i & 1)) {
            double sum = *total + 0.0;
            ev_put(out, w->first + i, avg ? sum / (double)(*hi - *lo) : sum);
        }
    }
}

static ps_status
sums_of_block(ev_hist_work *hists, bool avg, ev_row *out)
{
    ev_walk *w = hists->w;
    size_t i = 0, shortest;
    while (i < w->n) {
        if (lanes_ready(w, i, 4, &shortest)) {
            lanes_of_sums(w, i, shortest, avg, out);
            i += LANES;
            continue;
        }
        size_t lo = w->fw.lo[i], n = w->fw.hi[i] - lo;
        if ((w->any & ~w->mixed) >> i & 1) {
            if (n != 0)
                ev_put(out, w->first + i, avg ? avg_of(w->f.v + lo, n) : sum_of(w->f.v + lo, n));
            else
                PS_TRY(ev_hist_sum(hists, i, avg, out));
        }
        i++;
    }
    return PS_OK;
}

static ps_status
sum_or_avg(const ev_range_call *call, const ev_samples *s, ev_row *out, bool avg)
{
    double total = 0;
    size_t lo = 0, hi = 0;
    ev_walk w;
    ev_hist_work hists;
    PS_TRY(ev_walk_begin(&w, call, s));
    ps_status status = ev_hist_begin(&hists, &w, (ev_rate_kind){0});
    bool exact = w.h.n == 0 && call->n_steps > 1 && is_exact(&w.f);
    while (status == PS_OK && ev_walk_next(&w)) {
        if (w.mixed != 0)
            ev_walk_note(&w, EV_NOTE_MIXED);
        if (exact)
            sums_of_exact(&w, &total, &lo, &hi, avg, out);
        else
            status = sums_of_block(&hists, avg, out);
    }
    ev_hist_end(&hists);
    ev_walk_end(&w);
    return status;
}

ps_status
ev_fn_sum(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return sum_or_avg(call, s, out, false);
}

ps_status
ev_fn_avg(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return sum_or_avg(call, s, out, true);
}

/* ---- stddev and stdvar ------------------------------------------------------------------------------------------ */

static ps_status
variance(const ev_range_call *call, const ev_samples *s, ev_row *out, bool root)
{
    ev_walk w;
    PS_TRY(ev_walk_begin(&w, call, s));
    while (w.f.n != 0 && ev_walk_next(&w)) {
        ev_walk_ignore_histograms(&w);
        for (size_t i = 0; i < w.n; i++) {
            size_t lo = w.fw.lo[i], n = w.fw.hi[i] - lo;
            if (n == 0)
                continue;
            double v = variance_of(w.f.v + lo, n);
            ev_put(out, w.first + i, root ? sqrt(v) : v);
        }
    }
    ev_walk_end(&w);
    return PS_OK;
}

ps_status
ev_fn_stddev(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return variance(call, s, out, true);
}

ps_status
ev_fn_stdvar(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return variance(call, s, out, false);
}
