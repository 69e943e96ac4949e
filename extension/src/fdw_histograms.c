/*
 * fdw_histograms.c - contents of samples that are histograms, and start timestamps.
 *
 * What comes where is decided by times alone (fdw_runs.c); here the pieces of the plan are turned into
 * histograms, for as many rows as somebody wants at a time: a long series of wide histograms takes far
 * more memory decoded than it does in its blocks. Rows are handed out stretch by stretch, each the
 * length of a frame.
 *
 * A block's bench, which the library decodes with, lives and dies with the open block.
 */
#include "fdw.h"

#include "histogram.h"
#include "utils/memutils.h"

struct fdw_stretch {
    MemoryContext context; /* of the values; reset for each stretch */
    MemoryContext decoded; /* of the library's histograms; empty between calls */
    size_t from, n;
    const hst_hist *histograms[BLK_FRAME_VALUES];
    Datum values[BLK_FRAME_VALUES];
    int64 start_ms[BLK_FRAME_VALUES];
};

/* ---- blocks ----------------------------------------------------------------------------------- */

static blk_bench *
bench_of(fdw_scan *scan, fdw_block *block)
{
    if (block->bench == NULL)
        block->bench = blk_bench_new(&scan->block_memory.alloc);
    if (block->bench == NULL)
        fdw_block_raise(block, PS_ENOMEM, NULL);
    return block->bench;
}

void
fdw_block_histograms(fdw_scan *scan, fdw_block *block, uint32 index, size_t lo, size_t n,
                     ps_arena *arena, const hst_hist **histograms)
{
    ps_err err = {0};
    ps_status status = blk_reader_prepare(block->reader, block->current.metric_id, &err);

    if (status == PS_OK)
        status = blk_bench_histograms(bench_of(scan, block), block->reader, index, lo, n, arena,
                                      histograms, &err);
    if (status != PS_OK)
        fdw_block_raise(block, status, &err);
}

void
fdw_block_starts(fdw_scan *scan, fdw_block *block, const blk_series *series, size_t lo, size_t n,
                 int64 *start_ms)
{
    ps_err err = {0};
    ps_status status;

    if (!series->started) {
        memset(start_ms, 0, n * sizeof(*start_ms));
        return;
    }
    status = blk_reader_prepare(block->reader, series->metric_id, &err);
    if (status == PS_OK)
        status = blk_bench_starts(bench_of(scan, block), block->reader, series->index, lo, n,
                                  start_ms, &err);
    if (status != PS_OK)
        fdw_block_raise(block, status, &err);
}

/* ---- pieces ----------------------------------------------------------------------------------- */

/* Samples lo .. lo + n of a run. */
static void
run_contents(fdw_scan *scan, const fdw_run *run, size_t lo, size_t n, ps_arena *arena,
             const hst_hist **histograms, int64 *start_ms)
{
    const bool aside = run->t_ms != NULL;

    Assert(!aside || (lo >= run->lo && lo + n <= run->lo + run->n));
    if (histograms != NULL && !fdw_run_is_histogram(run))
        memset(histograms, 0, n * sizeof(*histograms));
    else if (histograms != NULL && aside)
        memcpy(histograms, run->histograms + (lo - run->lo), n * sizeof(*histograms));
    else if (histograms != NULL)
        fdw_block_histograms(scan, run->block, run->series.index, lo, n, arena, histograms);
    if (start_ms != NULL && aside)
        memcpy(start_ms, run->start_ms + (lo - run->lo), n * sizeof(*start_ms));
    else if (start_ms != NULL)
        fdw_block_starts(scan, run->block, &run->series, lo, n, start_ms);
}

void
fdw_merge_histograms(fdw_merge *m, size_t from, size_t n, ps_arena *arena,
                     const hst_hist **histograms, int64 *start_ms)
{
    size_t at = 0; /* row where the piece begins */

    for (size_t i = 0; i < m->n_pieces && at < from + n; i++) {
        const fdw_piece *p = &m->pieces[i];
        size_t lo = Max(at, from), hi = Min(at + p->n, from + n);

        if (lo < hi)
            run_contents(m->scan, &m->runs[p->run], p->lo + (lo - at), hi - lo, arena,
                         histograms == NULL ? NULL : histograms + (lo - from),
                         start_ms == NULL ? NULL : start_ms + (lo - from));
        at += p->n;
    }
}

/* ---- rows ------------------------------------------------------------------------------------- */

static struct fdw_stretch *
stretch_new(fdw_scan *scan)
{
    struct fdw_stretch *s = MemoryContextAllocZero(scan->context, sizeof(*s));

    s->context =
        AllocSetContextCreate(scan->context, "promscale histograms", ALLOCSET_DEFAULT_SIZES);
    s->decoded = AllocSetContextCreate(scan->context, "promscale decoded histograms",
                                       ALLOCSET_DEFAULT_SIZES);
    return s;
}

static void
load(fdw_scan *scan, struct fdw_stretch *s, size_t from, size_t n)
{
    histogram_work w;

    MemoryContextReset(s->context);
    s->from = from;
    s->n = 0;
    histogram_work_init(&w, s->decoded, (size_t)fdw_block_memory_kb * 1024 + FDW_BLOCK_MAX_BYTES);
    fdw_merge_histograms(&scan->merge, from, n, &w.arena,
                         scan->need_histogram ? s->histograms : NULL,
                         scan->need_start ? s->start_ms : NULL);

    MemoryContext old = MemoryContextSwitchTo(s->context);

    for (size_t i = 0; scan->need_histogram && i < n; i++)
        s->values[i] = histogram_datum(s->histograms[i]);
    MemoryContextSwitchTo(old);
    MemoryContextReset(s->decoded);
    s->n = n;
}

void
fdw_histograms_fill(fdw_scan *scan, size_t row)
{
    TupleTableSlot *slot = scan->slot;
    struct fdw_stretch *s = scan->stretch;

    if (s == NULL)
        s = scan->stretch = stretch_new(scan);
    if (row == 0 || row < s->from ||
        row >= s->from + s->n) /* 0: another series, or another slice */
        load(scan, s, row, Min(scan->n_rows - row, BLK_FRAME_VALUES));

    size_t i = row - s->from;

    if (scan->need_histogram)
        slot->tts_values[SAMPLES_VALUE - 1] = s->values[i];
    if (scan->need_start) {
        TimestampTz start = 0;

        slot->tts_isnull[HISTOGRAMS_START - 1] =
            s->start_ms[i] == 0 || !bridge_ms_to_timestamptz(s->start_ms[i], &start);
        slot->tts_values[HISTOGRAMS_START - 1] = TimestampTzGetDatum(start);
    }
}
