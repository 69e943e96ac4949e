/* merge.h - the state of a merge, for merge.c (inputs and outputs) and merge_samples.c (the samples of
 * one series). */
#ifndef PROMSCALE_BLOCK_MERGE_H
#define PROMSCALE_BLOCK_MERGE_H

#include "lib/block/histograms.h"

typedef struct blk_cursor { /* one input: its next series of the metric */
    int64_t series_id;
    uint32_t index, end; /* in the reader; index < end */
    uint32_t input;      /* precedence: lower wins */
} blk_cursor;

typedef struct blk_slot { /* an open output between two cuts */
    int64_t key;
    blk_writer *writer;
} blk_slot;

typedef struct blk_merging {
    const ps_alloc *alloc;
    blk_reader *const *inputs;
    const blk_merge_opts *opts;
    int64_t series_lo, series_hi; /* those of opts, or everything */
    blk_emit_fn emit;
    void *self;
    blk_cursor *cursors; /* by input, later a heap */
    size_t n_cursors;
    int16_t kind;
    bool started;
    /* samples of the current series: times, contents, start timestamps; the second is for merging
     * runs */
    blk_scratch t[2], v[2], starts[2];
    ps_arena arena; /* histograms of the current series */
    size_t n;
    size_t *runs; /* starts of ascending runs; room for one per input and the end */
    size_t n_runs;
    blk_slot *slots; /* by key */
    size_t n_slots, slots_cap;
    ps_buf out;
    blk_merge_stats stats;
} blk_merging;

/* Decodes one input's samples of the current series behind those already there. */
ps_status blk_merge_gather(blk_merging *m, const blk_cursor *c, ps_err *err) PS_MUST_CHECK;
/* Ascending times, the first of equal ones. Needed where more than one run was gathered. */
ps_status blk_merge_sort(blk_merging *m, ps_err *err) PS_MUST_CHECK;

#endif
