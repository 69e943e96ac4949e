/* merge.h - the state of a merge, for merge.c (inputs and outputs), merge_samples.c (the samples of one
 * series) and merge_scatter.c (all series at once, where that is cheaper). */
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
    const int64_t *series_t; /* what is being written */
    const void *series_v;
    blk_slot *slots; /* by key */
    size_t n_slots, slots_cap;
    ps_buf out;
    blk_merge_stats stats;
} blk_merging;

/* Decodes one input's samples of the current series behind those already there. */
ps_status blk_merge_gather(blk_merging *m, const blk_cursor *c, ps_err *err) PS_MUST_CHECK;
/* Ascending times, the first of equal ones. Needed where more than one run was gathered. */
ps_status blk_merge_sort(blk_merging *m, ps_err *err) PS_MUST_CHECK;

/* Writes a series: ids ascend from call to call, times inside each. */
ps_status blk_merge_write(blk_merging *m, int64_t series_id, const int64_t *t, const void *v,
                          size_t n, ps_err *err) PS_MUST_CHECK;

/* Is merge_scatter.c the cheaper way for what the cursors stand before? They are in the order of the
 * inputs; afterwards they are spent. */
bool blk_merge_scatters(const blk_merging *m);
ps_status blk_merge_scatter(blk_merging *m, bool (*should_stop)(void *self),
                            ps_err *err) PS_MUST_CHECK;

#endif
