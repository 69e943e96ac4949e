/*
 * fn_lanes.h - neighbouring windows of a series computed side by side.
 *
 * A compensated sum is a chain of dependent additions, which leaves a processor idle most of the time;
 * sums of several windows are independent chains, each with exactly the operations it would have
 * alone. So windows are taken eight at a time as far as the shortest of them reaches, and each is then
 * finished by itself. Two windows share one vector register.
 */
#ifndef PROMSCALE_EVAL_FN_LANES_H
#define PROMSCALE_EVAL_FN_LANES_H

#include "lib/eval/fn_range.h"

typedef double ev_pair __attribute__((vector_size(16)));
typedef int64_t ev_pair_bits __attribute__((vector_size(16)));

enum { EV_LANES = 8, EV_PAIRS = EV_LANES / 2 };

typedef struct ev_lanes {
    const double *v[EV_LANES];
    const int64_t *t[EV_LANES];
    size_t n[EV_LANES], shortest;
} ev_lanes;

/* The windows [i, i + EV_LANES) of a block, if all of them hold at least `least` points. */
static inline bool
ev_take_lanes(const ev_walk *w, size_t i, size_t least, ev_lanes *l)
{
    if (i + EV_LANES > w->n || w->mixed != 0 || w->fw.hi[i] == 0) /* no floats: no arrays */
        return false;
    l->shortest = SIZE_MAX;
    for (size_t k = 0; k < EV_LANES; k++) {
        size_t lo = w->fw.lo[i + k];
        l->v[k] = w->f.v + lo;
        l->t[k] = w->f.t + lo;
        l->n[k] = w->fw.hi[i + k] - lo;
        if (l->n[k] < l->shortest)
            l->shortest = l->n[k];
    }
    return l->shortest >= least;
}

static inline ev_pair
ev_pair_of(const ev_lanes *l, size_t p, size_t i)
{
    return (ev_pair){l->v[2 * p][i], l->v[2 * p + 1][i]};
}

static inline ev_pair
ev_pair_abs(ev_pair a)
{
    return (ev_pair)((ev_pair_bits)a & INT64_MAX);
}

/* ev_kahan() of two. */
static inline void
ev_kahan_pair(ev_pair inc, ev_pair *sum, ev_pair *c)
{
    ev_pair t = *sum + inc;
    ev_pair_bits keep = ev_pair_abs(*sum) >= ev_pair_abs(inc);
    ev_pair_bits both = (ev_pair_bits)*sum ^ (ev_pair_bits)inc;
    ev_pair_bits big = (keep & both) ^ (ev_pair_bits)inc;
    ev_pair lost = ((ev_pair)big - t) + (ev_pair)(big ^ both);
    ev_pair_bits fine = ev_pair_abs(t) != (ev_pair){INFINITY, INFINITY};
    *c = (ev_pair)(fine & (ev_pair_bits)(*c + lost));
    *sum = t;
}

#endif
