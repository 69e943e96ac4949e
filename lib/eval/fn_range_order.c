/*
 * fn_range_order.c - functions over ranges that compare values: min, max, their times, quantile, mad.
 *
 * min and max keep a queue of candidates (positions whose value no later one of the window beats), so
 * that a window costs what enters and leaves it. quantile and mad keep the window's values in order
 * while little enters and leaves, else sort it anew.
 *
 * Order is that of integers: a double's bits, made comparable, with NaN below all.
 */
#include "lib/eval/fn_range.h"

/* ---- min and max ------------------------------------------------------------------------------------ */

typedef struct extreme {
    bool max, time; /* time: of the last one of equals; else the value of the first one */
} extreme;

/* Does candidate a give way to the later b? */
static inline bool
beaten(extreme x, double a, double b)
{
    if (x.time)
        return x.max ? b >= a : b <= a;
    return x.max ? b > a : b < a;
}

static inline void
put_extreme(const ev_walk *w, extreme x, size_t at, size_t step, ev_row *out)
{
    ev_put(out, step, x.time ? (double)w->f.t[at] / 1000 : w->f.v[at]);
}

/* A window alone. NaN gives way to anything that comes later. */
static void
scan_window(const ev_walk *w, extreme x, size_t i, ev_row *out)
{
    size_t at = w->fw.lo[i];
    for (size_t k = at + 1; k < w->fw.hi[i]; k++)
        if (w->f.v[at] != w->f.v[at] || beaten(x, w->f.v[at], w->f.v[k]))
            at = k;
    put_extreme(w, x, at, w->first + i, out);
}

typedef struct candidates {
    size_t *at; /* [points]; those in [head, tail) are in the window, best first */
    size_t head, tail, seen;
} candidates;

static void
slide(const ev_walk *w, candidates *q, extreme x, size_t i, ev_row *out)
{
    const double *v = w->f.v;
    size_t lo = w->fw.lo[i], hi = w->fw.hi[i];
    if (q->seen < lo)
        q->seen = lo;
    for (; q->seen < hi; q->seen++) {
        if (v[q->seen] != v[q->seen])
            continue;
        while (q->tail > q->head && beaten(x, v[q->at[q->tail - 1]], v[q->seen]))
            q->tail--;
        q->at[q->tail++] = q->seen;
    }
    while (q->head < q->tail && q->at[q->head] < lo)
        q->head++;
    if (lo < hi)
        put_extreme(w, x, q->head < q->tail ? q->at[q->head] : hi - 1, w->first + i, out);
}

static ps_status
min_or_max(const ev_range_call *call, const ev_samples *s, ev_row *out, extreme x)
{
    candidates q = {0};
    ev_walk w;
    PS_TRY(ev_walk_begin(&w, call, s));
    if (call->n_steps > 1 && w.f.n != 0) {
        q.at = ev_scratch(call->c, w.f.n, sizeof *q.at);
        if (q.at == NULL) {
            ev_walk_end(&w);
            return PS_ENOMEM;
        }
    }
    while (w.f.n != 0 && ev_walk_next(&w)) {
        ev_walk_ignore_histograms(&w);
        for (size_t i = 0; i < w.n; i++) {
            if (q.at != NULL)
                slide(&w, &q, x, i, out);
            else if (w.fw.lo[i] < w.fw.hi[i])
                scan_window(&w, x, i, out);
        }
    }
    if (q.at != NULL)
        ev_scratch_free(call->c, q.at, w.f.n, sizeof *q.at);
    ev_walk_end(&w);
    return PS_OK;
}

ps_status
ev_fn_min(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return min_or_max(call, s, out, (extreme){.max = false});
}

ps_status
ev_fn_max(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return min_or_max(call, s, out, (extreme){.max = true});
}

ps_status
ev_fn_ts_of_min(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return min_or_max(call, s, out, (extreme){.time = true});
}

ps_status
ev_fn_ts_of_max(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return min_or_max(call, s, out, (extreme){.max = true, .time = true});
}

/* ---- values in order ----------------------------------------------------------------------------------- */

static inline int64_t
key_of(double v)
{
    int64_t bits = (int64_t)ps_bits_of(v);
    return v != v ? INT64_MIN : bits ^ (int64_t)((uint64_t)(bits >> 63) >> 1);
}

static inline double
value_of(int64_t key)
{
    if (key == INT64_MIN)
        return NAN;
    return ps_double_of((uint64_t)(key ^ (int64_t)((uint64_t)(key >> 63) >> 1)));
}

typedef struct ordered { /* the values of points [lo, hi) */
    int64_t *keys, *spare; /* [most] each */
    size_t n, most, lo, hi;
} ordered;

enum { RUN = 16 };

static void
sort_run(int64_t *keys, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        int64_t key = keys[i];
        size_t k = i;
        for (; k > 0 && keys[k - 1] > key; k--)
            keys[k] = keys[k - 1];
        keys[k] = key;
    }
}

static void
merge_runs(int64_t *to, const int64_t *from, size_t n, size_t width)
{
    for (size_t at = 0; at < n; at += 2 * width) {
        size_t mid = n - at < width ? n : at + width;
        size_t end = n - at < 2 * width ? n : at + 2 * width;
        size_t a = at, b = mid;
        for (size_t k = at; k < end; k++) {
            bool left = a < mid && (b == end || from[a] <= from[b]);
            to[k] = left ? from[a++] : from[b++];
        }
    }
}

/* Merge sort: never slow, whatever the values. */
static void
sort_keys(ordered *o)
{
    for (size_t at = 0; at < o->n; at += RUN)
        sort_run(o->keys + at, o->n - at < RUN ? o->n - at : RUN);
    for (size_t width = RUN; width < o->n; width *= 2) {
        merge_runs(o->spare, o->keys, o->n, width);
        int64_t *t = o->keys;
        o->keys = o->spare;
        o->spare = t;
    }
}

static size_t
place_of(const ordered *o, int64_t key)
{
    size_t lo = 0, hi = o->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (o->keys[mid] < key)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void
move_window(ordered *o, const double *v, size_t lo, size_t hi)
{
    size_t out = lo < o->hi ? lo - o->lo : o->hi - o->lo;
    size_t in = hi - (lo < o->hi ? o->hi : lo);
    if (out + in > 8 && out + in > (hi - lo) / 8) {
        o->n = hi - lo;
        for (size_t i = 0; i < o->n; i++)
            o->keys[i] = key_of(v[lo + i]);
        sort_keys(o);
    } else {
        for (size_t i = o->lo; i < o->lo + out; i++) {
            size_t at = place_of(o, key_of(v[i]));
            o->n--;
            memmove(o->keys + at, o->keys + at + 1, (o->n - at) * sizeof *o->keys);
        }
        for (size_t i = hi - in; i < hi; i++) {
            int64_t key = key_of(v[i]);
            size_t at = place_of(o, key);
            memmove(o->keys + at + 1, o->keys + at, (o->n - at) * sizeof *o->keys);
            o->keys[at] = key;
            o->n++;
        }
    }
    o->lo = lo;
    o->hi = hi;
}

/* ---- quantile and mad ------------------------------------------------------------------------------------- */

/* Between the two values around rank q * (n - 1). */
static double
quantile_of(const ordered *o, double q)
{
    if (q != q)
        return q;
    if (q < 0 || q > 1)
        return q < 0 ? -INFINITY : INFINITY;
    double last = (double)(o->n - 1), rank = q * last;
    double below = (double)(size_t)rank; /* rank is not negative */
    double above = below + 1 < last ? below + 1 : last;
    double weight = rank - below;
    return value_of(o->keys[(size_t)below]) * (1 - weight) +
           value_of(o->keys[(size_t)above]) * weight;
}

/* Median of the distances from the median: they fall towards it from both ends of the ordered values,
 * so the largest half is taken off from outside in. */
static double
mad_of(const ordered *o)
{
    if (o->keys[0] == INT64_MIN)
        return NAN;
    double median = quantile_of(o, 0.5), inf = INFINITY;
    size_t lo = 0, hi = o->n - 1, below = hi / 2, above = below < hi ? below + 1 : hi;
    double weight = 0.5 * (double)hi - (double)below;
    if (!isfinite(median)) {
        /* distances of infinities from each other are no numbers, the smallest of all */
        size_t n_nan = 0;
        for (size_t i = 0; i < o->n; i++) {
            double d = value_of(o->keys[i]) - median;
            n_nan += d != d;
        }
        return n_nan > below ? inf - inf : inf * (1 - weight) + (n_nan > above ? 0 : inf) * weight;
    }
    double upper = 0;
    for (size_t rank = o->n - 1;; rank--) {
        double l = fabs(value_of(o->keys[lo]) - median);
        double r = fabs(value_of(o->keys[hi]) - median);
        double d = l >= r ? l : r;
        if (rank == above)
            upper = d;
        if (rank == below)
            return d * (1 - weight) + upper * weight;
        if (l >= r)
            lo++;
        else
            hi--;
    }
}

static void
note_quantile(const ev_range_call *call, double q)
{
    char number[PS_DOUBLE_TEXT];
    ps_format_double_go(number, q);
    ev_warn(call->c, call->call->call.args[0],
            "quantile value should be between 0 and 1, got %s", number);
}

static ps_status
over_ordered(const ev_range_call *call, const ev_samples *s, ev_row *out, bool mad)
{
    ordered o = {0};
    double noted = 0.5;
    ev_walk w;
    PS_TRY(ev_walk_begin(&w, call, s));
    o.most = w.f.n;
    if (o.most != 0 && (o.keys = ev_scratch(call->c, o.most, 16)) == NULL) {
        ev_walk_end(&w);
        return PS_ENOMEM;
    }
    int64_t *block = o.keys;
    o.spare = o.most != 0 ? o.keys + o.most : NULL;
    while (w.f.n != 0 && ev_walk_next(&w)) {
        ev_walk_ignore_histograms(&w);
        for (size_t i = 0; i < w.n; i++) {
            if (w.fw.lo[i] == w.fw.hi[i])
                continue;
            double q = mad ? 0.5 : call->params[0][w.first + i];
            if (!(q >= 0 && q <= 1) && ps_bits_of(q) != ps_bits_of(noted))
                note_quantile(call, noted = q);
            move_window(&o, w.f.v, w.fw.lo[i], w.fw.hi[i]);
            ev_put(out, w.first + i, mad ? mad_of(&o) : quantile_of(&o, q));
        }
    }
    if (o.most != 0)
        ev_scratch_free(call->c, block, o.most, 16);
    ev_walk_end(&w);
    return PS_OK;
}

ps_status
ev_fn_quantile(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return over_ordered(call, s, out, false);
}

ps_status
ev_fn_mad(const ev_range_call *call, const ev_samples *s, ev_row *out)
{
    return over_ordered(call, s, out, true);
}
