/*
 * histgen.h - histograms to encode: plausible and hostile, repeatable from a seed; and the check that
 * what comes back is what was written.
 */
#ifndef PROMSCALE_TESTS_UNIT_BLOCK_HISTGEN_H
#define PROMSCALE_TESTS_UNIT_BLOCK_HISTGEN_H

#include "tests/unit/block/blockgen.h"

typedef enum gen_histograms {
    GEN_HIST_COUNTER, /* integers that grow, over a growing range of buckets */
    GEN_HIST_STEADY,  /* the same, all buckets from the start */
    GEN_HIST_RESETS,  /* with resets, hints, staleness markers */
    GEN_HIST_GAUGE,   /* floats, each sample with buckets of its own */
    GEN_HIST_CUSTOM,  /* custom bounds, as of classic histograms */
    GEN_HIST_SCHEMAS, /* schema and zero threshold change now and then */
    GEN_HIST_HOSTILE, /* any bits */
    GEN_HIST_WIDE,    /* thousands of buckets */
    GEN_HIST_EMPTY,   /* nothing but sums */
    GEN_HIST_FAR,     /* buckets at both ends of what is possible */
    GEN_HISTOGRAMS_END
} gen_histograms;

/* n samples of one series, in the arena; all pass hst_check(). */
void gen_fill_histograms(uint64_t *state, gen_histograms kind, ps_arena *arena, const hst_hist **h,
                         size_t n);
/* Start timestamps for times t: 0 none, 1 one that resets, 2 of delta temporality, 3 in between some
 * unknown, 4 anything. */
enum { GEN_STARTS_END = 5 };
void gen_fill_starts(uint64_t *state, unsigned kind, const int64_t *t, int64_t *starts, size_t n);

/* Same bits and hints; empty buckets are none. Staleness markers need not keep their layout. */
void check_histogram(const hst_hist *got, const hst_hist *want);

#endif
