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
 * Lanes. Otherwise several neighbouring windows are summed side by side, see fn_lanes.h.
 */
#include "lib/eval/fn_lanes.h"

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

/* ---- lanes ------------------------------------------------------------------------------------------------ */

static void
lanes_of_sums(const ev_walk *w, size_t i, const ev_lanes *l, bool avg, ev_row *out)
{
    ev_pair sums[EV_PAIRS] = {0}, cs[EV_PAIRS] = {0};
    for (size_t j = 0; j < l->shortest; j++)
        for (size_t p = 0; p < EV_PAIRS; p++)
            ev_kahan_pair(ev_pair_of(l, p, j), &sums[p], &cs[p]);
    for (size_t k = 0; k < EV_LANES; k++) {
        double sum = sums[k / 2][k % 2], c = cs[k / 2][k % 2], result, n = (double)l->n[k];
        for (size_t j = l->shortest; j < l->n[k]; j++)
            ev_kahan(l->v[k][j], &sum, &c);
        if (!avg)
            result = isinf(sum) ? sum : sum + c;
        else if (!isfinite(sum))
            result = avg_of(l->v[k], l->n[k]); /* somewhere it overflowed, or a value is odd */
        else
            result = sum / n + c / n;
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
    ev_lanes lanes;
    size_t i = 0;
    while (i < w->n) {
        if (ev_take_lanes(w, i, 4, &lanes)) {
            lanes_of_sums(w, i, &lanes, avg, out);
            i += EV_LANES;
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

typedef struct spread { /* mean and sum of squared distances so far, compensated */
    double mean, mean_c, aux, aux_c;
} spread;

static double
variance_of(spread s, const double *v, size_t from, size_t n)
{
    for (size_t i = from; i < n; i++) {
        double delta = v[i] - (s.mean + s.mean_c);
        ev_kahan(delta / (double)(i + 1), &s.mean, &s.mean_c);
        ev_kahan(delta * (v[i] - (s.mean + s.mean_c)), &s.aux, &s.aux_c);
    }
    return (s.aux + s.aux_c) / (double)n;
}

static void
lanes_of_spreads(const ev_lanes *l, spread ret[EV_LANES])
{
    ev_pair mean[EV_PAIRS] = {0}, mean_c[EV_PAIRS] = {0}, aux[EV_PAIRS] = {0}, aux_c[EV_PAIRS] = {0};
    for (size_t i = 0; i < l->shortest; i++)
        for (size_t p = 0; p < EV_PAIRS; p++) {
            ev_pair v = ev_pair_of(l, p, i), delta = v - (mean[p] + mean_c[p]);
            ev_kahan_pair(delta / (double)(i + 1), &mean[p], &mean_c[p]);
            ev_kahan_pair(delta * (v - (mean[p] + mean_c[p])), &aux[p], &aux_c[p]);
        }
    for (size_t k = 0; k < EV_LANES; k++)
        ret[k] = (spread){mean[k / 2][k % 2], mean_c[k / 2][k % 2], aux[k / 2][k % 2],
                          aux_c[k / 2][k % 2]};
}

static void
variances_of_block(const ev_walk *w, bool root, ev_row *out)
{
    ev_lanes lanes;
    spread begun[EV_LANES];
    size_t taken = 0; /* lanes that are computed up to the shortest, from window i on */
    for (size_t i = 0; i < w->n; i++) {
        if (taken == 0 && ev_take_lanes(w, i, 4, &lanes)) {
            lanes_of_spreads(&lanes, begun);
            taken = EV_LANES;
        }
        size_t lo = w->fw.lo[i], n = w->fw.hi[i] - lo;
        double v = 0;
        if (taken != 0)
            v = variance_of(begun[EV_LANES - taken--], w->f.v + lo, lanes.shortest, n);
        else if (n != 0)
            v = variance_of((spread){0}, w->f.v + lo, 0, n);
        if (n != 0)
            ev_put(out, w->first + i, root ? sqrt(v) : v);
    }
}

static ps_status
variance(const ev_range_call *call, const ev_samples *s, ev_row *out, bool root)
{
    ev_walk w;
    PS_TRY(ev_walk_begin(&w, call, s));
    while (w.f.n != 0 && ev_walk_next(&w)) {
        ev_walk_ignore_histograms(&w);
        variances_of_block(&w, root, out);
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
