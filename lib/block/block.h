/*
 * block.h - the block: our unit of storage. Samples of one tenant and one metric (or, in a packed
 * flush block, of one bucket of small metrics), series by series, compressed, self-describing,
 * checked. The byte format is docs/block-format.md; stored blocks are never reinterpreted, new
 * versions get new numbers.
 *
 * Two formats behind one reader:
 *   BLK_FORMAT_FLUSH    what one flush wrote: few samples per series, columns run across series,
 *                       lz4 outside; may hold several metrics (a directory says which).
 *   BLK_FORMAT_COLUMNS  merged and sealed: per series a directory entry (offsets, last time and
 *                       value) and frames of 128 values that decode alone; directory and frame
 *                       headers come first, so that a prefix of the bytes answers "last value".
 *
 * All bytes handed to readers are hostile: every length is checked, a damaged block gives
 * PS_ECORRUPT, an unknown kind or format PS_EUNSUPPORTED, and nothing is read outside `data`.
 * Values are carried as bits: NaN payloads, -0 and the stale marker survive.
 */
#ifndef PROMSCALE_BLOCK_H
#define PROMSCALE_BLOCK_H

#include "lib/histogram/histogram.h"
#include "lib/model/model.h"

/* A block holds floats or native histograms (of integers and of floats alike). Either may have start
 * timestamps. */
enum { BLK_KIND_FLOAT = 1, BLK_KIND_HISTOGRAM = 2 };
enum { BLK_FORMAT_FLUSH = 1, BLK_FORMAT_COLUMNS = 2 };
enum { BLK_LEVEL_FRESH = 0, BLK_LEVEL_MERGED = 1, BLK_LEVEL_SEALED = 2 };
enum { BLK_FRAME_VALUES = 128 };
/* Limits of the format itself: a reader refuses more. */
#define BLK_MAX_BYTES ((size_t)64 << 20)
#define BLK_MAX_SAMPLES ((size_t)16 << 20)
/* A flush block's directory is decoded as a whole when opened: fewer samples, so that a tiny hostile
 * block cannot ask for much memory. */
#define BLK_FLUSH_MAX_SAMPLES ((size_t)65536)
/* Of histograms: populated buckets of one (and custom bounds, likewise); both of all samples of a
 * flush block; numbers of one series of a columns block. */
#define BLK_MAX_BUCKETS ((size_t)16384)
#define BLK_FLUSH_MAX_NUMBERS ((size_t)4 << 20)
#define BLK_SERIES_MAX_NUMBERS ((size_t)8 << 20)

/* The columns of the row that holds the block. The block's header repeats all of it, the CRC covers
 * it, and the reader compares it with the row. */
typedef struct blk_meta {
    int32_t tenant_id;
    int32_t metric_id; /* negative: a bucket of small metrics (mdl_bucket), format FLUSH only */
    int64_t dist_key;  /* mdl_dist_key(tenant_id, metric_id) */
    int16_t level;
    int16_t kind;
    int16_t format;
    int64_t series_lo, series_hi; /* smallest and largest series id, inclusive */
    int64_t t_min_ms, t_max_ms;   /* inclusive */
    int32_t n_series;
    int32_t n_samples;
} blk_meta;

/* ---- points: what a flush starts from ---------------------------------------------------- */

typedef struct blk_point {
    int64_t series_id;
    int64_t t_ms;
    union {
        double value;
        const hst_hist *histogram; /* borrowed, checked; points of a batch are all of one kind */
    };
    int32_t metric_id;
    uint32_t owner;   /* free for the caller (index of the request that brought it) */
    int64_t start_ms; /* start timestamp, 0 = not known */
} blk_point;

typedef struct blk_dup_stats {
    uint64_t duplicates; /* same series, time and value bits */
    uint64_t conflicts;  /* same series and time, other value: the first one stays */
} blk_dup_stats;

/*
 * Sorts points by (metric_id, series_id, t_ms), keeping arrival order among equals, and drops all
 * but the first of each (series, time). scratch holds n points. Returns the number left; adds to
 * *stats.
 */
size_t blk_points_sort_unique(blk_point *points, blk_point *scratch, size_t n,
                              blk_dup_stats *stats);
/* The same for points with histograms: hst_equal() ones are duplicates. */
size_t blk_histograms_sort_unique(blk_point *points, blk_point *scratch, size_t n,
                                  blk_dup_stats *stats);

/*
 * Encodes sorted unique points of one tenant as one flush block. metric_or_bucket is the row's
 * metric_id: > 0 (then all points are of it) or a bucket. Appends the bytes to out. Errors:
 * PS_ENOMEM, PS_ELIMIT (more than BLK_FLUSH_MAX_SAMPLES points: the caller splits), PS_EINVAL (not
 * sorted and unique, a time out of range, a metric that does not belong to the row).
 */
ps_status blk_encode_flush(const ps_alloc *alloc, int32_t tenant_id, int32_t metric_or_bucket,
                           const blk_point *points, size_t n, ps_buf *out, blk_meta *ret_meta,
                           ps_err *err) PS_MUST_CHECK;
/* The same for points with histograms; a block of kind HISTOGRAM. PS_ELIMIT also for more than
 * BLK_FLUSH_MAX_NUMBERS or BLK_MAX_BYTES (the caller splits), and for a histogram of more than
 * BLK_MAX_BUCKETS (which no splitting helps: such ones are refused before). Empty buckets are not
 * stored. In either kind of block a start timestamp that is no time is stored as not known. */
ps_status blk_encode_flush_histograms(const ps_alloc *alloc, int32_t tenant_id,
                                      int32_t metric_or_bucket, const blk_point *points, size_t n,
                                      ps_buf *out, blk_meta *ret_meta, ps_err *err) PS_MUST_CHECK;

/* ---- columns writer ----------------------------------------------------------------------- */

typedef struct blk_writer blk_writer;
typedef struct blk_writer_opts {
    int32_t tenant_id;
    int32_t metric_id; /* > 0 */
    int16_t level;     /* BLK_LEVEL_MERGED or BLK_LEVEL_SEALED; sealed tries harder */
    int16_t kind;      /* 0: BLK_KIND_FLOAT */
} blk_writer_opts;

/* NULL: no memory */
blk_writer *blk_writer_new(const ps_alloc *alloc, const blk_writer_opts *opts);
void blk_writer_free(blk_writer *w);
/* Adds one series: ids ascending from call to call, times strictly ascending, n >= 1. Copies.
 * PS_ELIMIT: no room in this block, which can still be finished (3 million samples fit in any
 * case). After PS_ENOMEM the writer can only be freed. */
ps_status blk_writer_add(blk_writer *w, int64_t series_id, const int64_t *t_ms,
                         const double *values, size_t n, ps_err *err) PS_MUST_CHECK;
/* The same with start timestamps (NULL: none is known), and for a writer of kind HISTOGRAM with
 * histograms, of which nothing is borrowed. */
ps_status blk_writer_add_started(blk_writer *w, int64_t series_id, const int64_t *t_ms,
                                 const int64_t *start_ms, const double *values, size_t n,
                                 ps_err *err) PS_MUST_CHECK;
ps_status blk_writer_add_histograms(blk_writer *w, int64_t series_id, const int64_t *t_ms,
                                    const int64_t *start_ms, const hst_hist *const *histograms,
                                    size_t n, ps_err *err) PS_MUST_CHECK;
/* The same with a series of a block that is open, values as they are encoded there: times and starts are
 * the caller's, who has decoded all of them. Only if blk_writer_may_copy(), or PS_EINVAL: floats of the same
 * level in format COLUMNS; a series that is written relative to the one before only right behind that one. Damage
 * in the values is copied as well. The reader must not be freed before the block is finished. */
typedef struct blk_reader blk_reader;
bool blk_writer_may_copy(const blk_writer *w, const blk_reader *r, uint32_t i);
ps_status blk_writer_add_copied(blk_writer *w, const blk_reader *r, uint32_t i, const int64_t *t_ms,
                                const int64_t *start_ms, size_t n, ps_err *err) PS_MUST_CHECK;
size_t blk_writer_samples(const blk_writer *w);
size_t blk_writer_bytes(const blk_writer *w); /* estimate of the finished block's size */
/* Appends the finished block to out and empties the writer for the next one. */
ps_status blk_writer_finish(blk_writer *w, ps_buf *out, blk_meta *ret_meta,
                            ps_err *err) PS_MUST_CHECK;

/* ---- reader ------------------------------------------------------------------------------- */

typedef struct blk_series { /* one series of a block; plain data, valid while the reader is */
    int64_t series_id;
    int32_t metric_id;
    uint32_t n_samples;
    int64_t t_first_ms, t_last_ms;
    double last_value;
    bool last_known;   /* false: last_value is not decoded yet (flush blocks opened lazily), or the
                          block holds histograms */
    bool started;      /* some of its samples may have start timestamps */
    uint32_t index;    /* position in the block */
    uint32_t times_id; /* series of this block with the same number have the same times */
} blk_series;

/*
 * Opens a block of either format: checks length, CRC, header, directory; compares with *expect
 * (the row) unless NULL. Borrows data (it must outlive the reader). Memory: the directory and, for
 * a flush block, its samples.
 */
ps_status blk_reader_open(const ps_alloc *alloc, ps_str data, const blk_meta *expect,
                          blk_reader **ret, ps_err *err) PS_MUST_CHECK;
/* The same, but values of a flush block are decoded when they are asked for, one series or, after
 * several, one metric at a time, and damage in them is found then. For those who want few series. */
ps_status blk_reader_open_lazy(const ps_alloc *alloc, ps_str data, const blk_meta *expect,
                               blk_reader **ret, ps_err *err) PS_MUST_CHECK;
/* The same from the first bytes of a COLUMNS block: series and last values are there, decoding
 * samples is refused with PS_EINVAL. Needs at least blk_head_bytes(); the body's CRC is not
 * checked, the head's is. */
ps_status blk_reader_open_head(const ps_alloc *alloc, ps_str prefix, const blk_meta *expect,
                               blk_reader **ret, ps_err *err) PS_MUST_CHECK;
/* Length of the head of a block, read from its first 64 bytes; 0 if those are not a COLUMNS
 * header. */
size_t blk_head_bytes(ps_str prefix);
/* Header only (no CRC check): what the block says of itself. For verification tools. */
ps_status blk_peek_meta(ps_str prefix, blk_meta *ret, ps_err *err) PS_MUST_CHECK;
void blk_reader_free(blk_reader *r);
const blk_meta *blk_reader_meta(const blk_reader *r);
uint32_t blk_reader_n_series(const blk_reader *r);
/* i < n_series; ascending by (metric_id, series_id). */
void blk_reader_series(const blk_reader *r, uint32_t i, blk_series *ret);
/* The metric of series i; *ret_end is the first series behind those of it. */
int32_t blk_reader_metric(const blk_reader *r, uint32_t i, uint32_t *ret_end);
/* Index of the first series >= (metric_id, series_id); n_series if there is none. */
uint32_t blk_reader_seek(const blk_reader *r, int32_t metric_id, int64_t series_id);
/*
 * Decodes the samples of series i with from_ms <= t <= to_ms into caller-owned arrays of at least
 * n_samples entries each, times strictly ascending. Only frames that can hold such times are
 * touched. *ret_n is the number written. values may be NULL (times only). On error the arrays may
 * hold anything.
 */
ps_status blk_reader_decode(blk_reader *r, uint32_t i, int64_t from_ms, int64_t to_ms,
                            int64_t *t_ms, double *values, size_t *ret_n,
                            ps_err *err) PS_MUST_CHECK;

/* The two halves of it. Times in the range are those of samples *ret_lo, *ret_lo + 1, ... of the
 * series; values are those of samples lo .. lo + n and are decoded without looking at the times. */
ps_status blk_reader_times(blk_reader *r, uint32_t i, int64_t from_ms, int64_t to_ms, int64_t *t_ms,
                           size_t *ret_lo, size_t *ret_n, ps_err *err) PS_MUST_CHECK;
ps_status blk_reader_values(blk_reader *r, uint32_t i, size_t lo, size_t n, double *values,
                            ps_err *err) PS_MUST_CHECK;

/*
 * Several threads at once: each has a bench, and then a reader of COLUMNS or one that is prepared does
 * not change. Readers that a bench was used with must not be freed before its last use with any other.
 */
typedef struct blk_bench blk_bench;
blk_bench *blk_bench_new(const ps_alloc *alloc); /* NULL: no memory */
void blk_bench_free(blk_bench *b);
/* Decodes what a flush block that was opened lazily holds of the metric. Not by several threads. */
ps_status blk_reader_prepare(blk_reader *r, int32_t metric_id, ps_err *err) PS_MUST_CHECK;
ps_status blk_bench_times(blk_bench *b, const blk_reader *r, uint32_t i, int64_t from_ms,
                          int64_t to_ms, int64_t *t_ms, size_t *ret_lo, size_t *ret_n,
                          ps_err *err) PS_MUST_CHECK;
ps_status blk_bench_values(blk_bench *b, const blk_reader *r, uint32_t i, size_t lo, size_t n,
                           double *values, ps_err *err) PS_MUST_CHECK;
/* The other contents of samples lo .. lo + n. Histograms are made in the arena; asking for them of
 * floats, or for floats of histograms, is PS_EINVAL. Start timestamps are 0 where none is known. */
ps_status blk_bench_histograms(blk_bench *b, const blk_reader *r, uint32_t i, size_t lo, size_t n,
                               ps_arena *arena, const hst_hist **histograms,
                               ps_err *err) PS_MUST_CHECK;
ps_status blk_bench_starts(blk_bench *b, const blk_reader *r, uint32_t i, size_t lo, size_t n,
                           int64_t *start_ms, ps_err *err) PS_MUST_CHECK;

/* ---- runs: one series over several blocks -------------------------------------------------- */

/* What one block holds of a series. Of two runs with the same time a float wins over a histogram
 * (whatever happens to either block later), then the one of the higher level, then the one with the
 * lower id: the first write. */
typedef struct blk_run {
    const blk_reader *reader;
    uint32_t index; /* of the series in it */
    int64_t id;     /* of the row */
} blk_run;
/* Room that the arrays of blk_runs_decode must have: samples of all runs that reach into the range. */
size_t blk_runs_samples(const blk_run *runs, size_t n, int64_t from_ms, int64_t to_ms);
/* What blk_runs_read() is going to find: which of its arrays are needed. */
typedef struct blk_runs_kinds {
    bool floats, histograms, starts;
} blk_runs_kinds;
blk_runs_kinds blk_runs_look(const blk_run *runs, size_t n, int64_t from_ms, int64_t to_ms);
/* Arrays of the caller, of blk_runs_samples() entries each. */
typedef struct blk_samples {
    int64_t *t_ms;
    double *values;              /* of a histogram: 0 */
    const hst_hist **histograms; /* NULL where the sample is a float; may be NULL if blk_runs_look
                                    says that there are none */
    int64_t *start_ms;           /* NULL: not wanted */
    ps_arena *arena;             /* for histograms */
    size_t n;                    /* set */
} blk_samples;
/* The samples in [from, to] of n runs of one series, ascending, each time once. */
ps_status blk_runs_read(blk_bench *b, const blk_run *runs, size_t n, int64_t from_ms, int64_t to_ms,
                        blk_samples *into, ps_err *err) PS_MUST_CHECK;
/* The same for runs that are all of floats, without start timestamps. */
ps_status blk_runs_decode(blk_bench *b, const blk_run *runs, size_t n, int64_t from_ms,
                          int64_t to_ms, int64_t *t_ms, double *values, size_t *ret_n,
                          ps_err *err) PS_MUST_CHECK;
/* The newest of them, for runs of floats (of others: blk_runs_read over ever longer windows, or all);
 * *ret_any false: there is none. Runs that end in the range may be of readers that
 * were opened by blk_reader_open_head. */
ps_status blk_runs_newest(blk_bench *b, const blk_run *runs, size_t n, int64_t from_ms,
                          int64_t to_ms, bool *ret_any, int64_t *ret_t_ms, double *ret_value,
                          ps_err *err) PS_MUST_CHECK;

/* ---- merge -------------------------------------------------------------------------------- */

/* Series first to end - 1 of a reader. */
typedef struct blk_part {
    uint32_t first, end;
} blk_part;

typedef struct blk_merge_opts {
    int32_t tenant_id;
    int32_t metric_id; /* > 0; of packed inputs only this metric is taken */
    int16_t out_level;
    int64_t from_ms, to_ms;       /* take samples with from_ms <= t < to_ms */
    int64_t series_lo, series_hi; /* take series with lo <= id <= hi; both 0 = all */
    /* NULL, or for each input where the metric's series are, if the caller knows; then series_lo and
     * series_hi must be 0 */
    const blk_part *parts;
    int64_t cut_ms; /* no output crosses a multiple of this (Unix epoch, UTC); 0 = no cuts */
    /* cuts only inside [lo, hi); a block lies wholly inside, below or above */
    int64_t cut_lo_ms, cut_hi_ms;
    size_t target_bytes; /* finish an output block when its estimate reaches this */
    size_t target_samples;
    /* most samples of different series that are held at once where many flush blocks come together,
     * 16 bytes each; 0 = 131072 */
    size_t at_once;
    /* NULL, or told each series as it is written, ascending, with the times of its samples; self is
     * emit's */
    void (*on_series)(void *self, int64_t series_id, const int64_t *t_ms, size_t n);
} blk_merge_opts;

typedef struct blk_merge_stats {
    uint64_t samples_in; /* inside [from, to) */
    uint64_t samples_out;
    uint64_t blocks_out;
    blk_dup_stats dups;
} blk_merge_stats;

/* Called for each finished output; data is valid during the call. A status other than PS_OK ends
 * the merge with it. */
typedef ps_status (*blk_emit_fn)(void *self, ps_str data, const blk_meta *meta, ps_err *err);

/*
 * Merges blocks of one metric and one kind (PS_EINVAL otherwise). inputs[0] wins over inputs[1] and so on where they hold the same
 * (series, time). Outputs are COLUMNS blocks; within a cut series ascend from block to block (the
 * cuts take turns when a block fills up before the end). A series with more than target_samples
 * samples in a cut goes on in the next block. Memory: about one series' samples over all inputs
 * (twice when they are not in time order; of flush blocks also at_once samples, and 4 bytes for each series
 * of each) plus one output block per open cut; should_stop (may be NULL) is polled per series and
 * input and ends it with PS_ECANCELED.
 */
ps_status blk_merge(const ps_alloc *alloc, blk_reader *const *inputs, size_t n_inputs,
                    const blk_merge_opts *opts, blk_emit_fn emit, void *self,
                    bool (*should_stop)(void *self), blk_merge_stats *ret_stats,
                    ps_err *err) PS_MUST_CHECK;

#endif
