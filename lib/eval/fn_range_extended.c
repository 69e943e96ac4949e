/*
 * fn_range_extended.c - rate, increase, delta of anchored and smoothed ranges over floats.
 *
 * Nothing is extrapolated: the value at each edge of the window is taken from a sample (anchored: the
 * last one at or before the left edge, the last one inside) or from the straight line between the two
 * neighbours of the edge (smoothed). A counter that went down between these neighbours counts from
 * zero there. Resets between the edges add the value before them, as ever.
 */
#include "lib/eval/fn_range.h"

/* Index of the first of points [lo, hi) whose time is at least t; hi if there is none. */
static size_t
first_at(const int64_t *times, size_t lo, size_t hi, int64_t t)
{
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (times[mid] >= t)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

/* First and last point that window i is computed from; false: nothing can be said. */
bool
ev_extended_ends(const ev_walk *w, const ev_points *p, const ev_ends *e, size_t i, size_t *first,
                 size_t *last)
{
    bool smoothed = w->call->edge == PQL_SMOOTHED;
    int64_t from = ev_window_from(w, i), to = ev_window_to(w, i);
    size_t lo = e->lo[i], end = e->hi[i] - 1;
    size_t behind = first_at(p->t, lo, end, from + 1);
    *first = behind > lo ? behind - 1 : lo;
    *last = smoothed ? first_at(p->t, lo, end, to) : end;
    return p->t[*last] > from && !(smoothed && p->t[*first] > to);
}

static double
between(const ev_points *p, size_t i, int64_t t, bool counter)
{
    double a = p->v[i], b = p->v[i + 1];
    if (counter && b < a)
        a = 0;
    return a + (b - a) * (double)(t - p->t[i]) / (double)(p->t[i + 1] - p->t[i]);
}

static double
resets_between(const ev_points *p, size_t first, size_t last, double left, double right)
{
    double sum = 0, prev = left;
    for (size_t i = first; i < last; i++) {
        if (p->v[i] < prev)
            sum += prev;
        prev = p->v[i];
    }
    return right < prev ? sum + prev : sum;
}

static void
window(ev_walk *w, size_t i, ev_rate_kind kind, double range_s, ev_row *out)
{
    const ev_points *p = &w->f;
    bool smoothed = w->call->edge == PQL_SMOOTHED;
    int64_t from = ev_window_from(w, i), to = ev_window_to(w, i);
    size_t first, last;
    if (!ev_extended_ends(w, p, &w->fw, i, &first, &last))
        return;
    double left = p->v[first], right = p->v[last];
    if (smoothed && p->t[first] < from)
        left = between(p, first, from, kind.counter);
    if (smoothed && last > w->fw.lo[i] && p->t[last] > to)
        right = between(p, last - 1, to, kind.counter);
    double change = right - left;
    if (kind.counter) {
        /* the neighbours of an edge outside of the window are in left and right already */
        if (p->t[first] <= from)
            first++;
        size_t end = p->t[last] >= to ? last : last + 1;
        change += resets_between(p, first, end, left, right);
    }
    ev_put(out, w->first + i, kind.per_second ? change / range_s : change);
}

void
ev_rate_extended(ev_walk *w, ev_rate_kind kind, ev_row *out)
{
    double range_s = ev_seconds(w->call->range_ms);
    for (size_t i = 0; i < w->n; i++)
        if (w->fw.hi[i] > w->fw.lo[i] && !(w->mixed >> i & 1))
            window(w, i, kind, range_s, out);
}
