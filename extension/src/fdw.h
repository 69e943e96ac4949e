/*
 * fdw.h - samples as rows: the foreign tables _prom_data.samples(metric_id, time, value, series_id,
 * labels) with the floats, and _prom_data.histograms, in which the value is a histogram and which has a
 * column start_time behind the others. Private to the fdw_*.c files.
 *
 * How a row comes to be:
 *
 *   fdw_quals     the WHERE clause is sorted into three heaps: conditions on metric, time and series
 *                 that select blocks; quals that use only series-level columns (metric_id, series_id,
 *                 labels), evaluated once per series; the rest, evaluated per row by the executor
 *   fdw_estimate  a look at a few block rows says how much there is
 *   fdw_sample    quals on series are tried on some series, for the estimate
 *   fdw_distinct  hands the planner numbers of different values
 *   fdw_plan      paths and the plan
 *   fdw_scan      evaluates the conditions when execution starts, walks metric by metric
 *   fdw_series    the metric's series that exist and pass the series-level quals
 *   fdw_directory the metric's block rows in order of time, cut into clusters (runs of rows whose
 *                 times overlap)
 *   fdw_blocks    opens a block when it is needed, or its head
 *   fdw_slices    cuts a cluster in time if its blocks would take too much memory together
 *   fdw_merge     walks a cluster series by series, opening blocks on the way
 *   fdw_crowd     the same for clusters of more blocks than can be open together
 *   fdw_runs      what blocks hold of one series becomes one sequence; of equal times the first write
 *                 wins: the higher level, then the lower id
 *   fdw_histograms  contents of samples that are histograms, and start timestamps
 *   fdw_scan      hands the samples out row by row
 *
 * Floats and histograms of a metric lie in rows of their own (kind); a scan leaves out the rows of the
 * kind that it does not want, and promql() wants both: then a float wins over a histogram of the same
 * time, wherever they are stored.
 *
 * Where the query wants only aggregates of samples, fdw_upper.h takes over the last step.
 *
 * All reading is SQL through SPI (fdw_spi), read-only, as the calling user, in the executor's
 * snapshot: rights and row-level security on the block and series tables are the gate. No portal
 * outlives a call, so there is nothing to close on error, and rolling back to a savepoint takes
 * nothing away from an open cursor; block rows are read in pages, resumed by key.
 *
 * A block's bytes are either in the row or behind a TOAST pointer that is followed when the block is
 * opened; both are safe to keep as long as the executor's snapshot is registered.
 *
 * Memory: everything of a scan lives below one context that dies with the executor's state. At any
 * time the blocks open are those that hold the current series (a few times work_mem where slices can
 * help, at most promscale.block_memory), plus, between rescans, as many as fit into work_mem.
 *
 * Not parallel-safe, no ANALYZE (its statistics would tell what row security hides).
 */
#ifndef PROMSCALE_FDW_H
#define PROMSCALE_FDW_H

#include "postgres.h"

#include "bridge.h"
#include "executor/tuptable.h"
#include "foreign/fdwapi.h"
#include "nodes/execnodes.h"
#include "nodes/pathnodes.h"
#include "utils/array.h"
#include "utils/snapshot.h"

/* Columns of the foreign tables. */
enum {
    SAMPLES_METRIC = 1,
    SAMPLES_TIME = 2,
    SAMPLES_VALUE = 3,
    SAMPLES_SERIES = 4,
    SAMPLES_LABELS = 5,
    SAMPLES_NATTS = 5,
    HISTOGRAMS_START = 6,
    HISTOGRAMS_NATTS = 6
};

/* ---- fdw_spi: the statements -------------------------------------------------------------- */

typedef enum fdw_stmt {
    FDW_STMT_METRICS,           /* all metric ids */
    FDW_STMT_SERIES_OF_METRIC,  /* ($1 metric) id, metric_id, labels */
    FDW_STMT_SERIES_BY_ID,      /* ($1 ids) id, metric_id, labels */
    FDW_STMT_SERIES_OF_TENANTS, /* ($1 metric) id, tenant_id, labels */
    FDW_STMT_TENANTS_BY_ID,     /* ($1 ids) the same */
    FDW_STMT_METRIC_NAMES,      /* id, metric_name */
    FDW_STMT_METRIC_NAMED,      /* ($1 name) the same */
    FDW_STMT_DIRECTORY,         /* block rows of a metric, see fdw_directory.c */
    FDW_STMT_DIRECTORY_BACK,    /* sealed ones of a stretch of days, latest first */
    FDW_STMT_DATA_BLOCK,        /* ($1 metric, $2 t_min, $3 dist_key, $4 id) data */
    FDW_STMT_DATA_FAR,
    FDW_STMT_DATA_MERGED,
    FDW_STMT_DATA_FRESH,
    FDW_STMT_EST_BLOCKS, /* a sample of block rows, see fdw_estimate.c */
    FDW_STMT_EST_ANY,
    FDW_STMT_EST_SERIES,
    FDW_STMT_EST_ALIVE, /* ($1 metric, $2 from, $3 to) window, number and ids of sets, newest first */
    FDW_STMT_EST_SAMPLE, /* the others: see fdw_sample.c */
    FDW_STMT_EST_MATCH,
    FDW_STMT_EST_POSITION,
    FDW_STMT_EST_REGEX,
    FDW_STMT_N
} fdw_stmt;

/* Between these two the following may be used; snapshot NULL: the active one. */
void fdw_spi_begin(Snapshot snapshot);
void fdw_spi_end(void);
/* Runs a statement to its end or to max_rows (0 = all); rows are in SPI_tuptable. Returns their number. */
uint64 fdw_spi_run(fdw_stmt stmt, Datum *values, long max_rows);
/* The same in pieces, for results that may be large: called for each row. */
typedef void (*fdw_row_fn)(void *self, HeapTuple tuple, TupleDesc desc);
void fdw_spi_each(fdw_stmt stmt, Datum *values, fdw_row_fn fn, void *self);
/* The same, but nothing is run if `instead` says so, which is told how many rows the planner expects. */
typedef bool (*fdw_instead_fn)(void *self, double planned);
void fdw_spi_each_unless(fdw_stmt stmt, Datum *values, fdw_row_fn fn, void *self,
                         fdw_instead_fn instead, void *instead_self);

/* What the planner thinks of a statement, without running it; ret_rows may be NULL. */
Cost fdw_spi_cost(fdw_stmt stmt, Datum *values, double *ret_rows);

/* ---- fdw_quals: what is wanted ------------------------------------------------------------ */

typedef enum fdw_cond_kind {
    FDW_METRIC_EQ,
    FDW_METRIC_ANY,
    FDW_SERIES_EQ,
    FDW_SERIES_ANY,
    FDW_TIME_LT,
    FDW_TIME_LE,
    FDW_TIME_EQ,
    FDW_TIME_GE,
    FDW_TIME_GT
} fdw_cond_kind;

typedef struct fdw_cond { /* column <kind> value */
    fdw_cond_kind kind;
    Oid type; /* of the value; of its elements for the _ANY kinds */
    Expr *value;
} fdw_cond;

typedef struct fdw_quals { /* lists of bare clauses, in the order given */
    List *conds;           /* the clauses that became conditions */
    List *cond_kinds;      /* int, parallel to conds */
    List *cond_types;      /* oid, parallel */
    List *cond_values;     /* Expr, parallel */
    List *series_quals;    /* only metric_id, series_id, labels */
    List *row_quals;       /* the rest: the executor's */
} fdw_quals;

/* Is clause a condition on this table's blocks? */
bool fdw_match_cond(PlannerInfo *root, Index relid, Expr *clause, fdw_cond *ret);
/* Does clause use nothing of this table but series-level columns, and any of them? */
bool fdw_is_series_level(Index relid, Expr *clause);
/* Sorts RestrictInfos into the three heaps; pseudoconstant ones are left out. */
void fdw_classify(PlannerInfo *root, RelOptInfo *rel, List *rinfos, fdw_quals *ret);

typedef struct fdw_want { /* conditions with their values: what a (re)scan is to read */
    bool nothing;         /* they exclude each other */
    int64 from_ms, to_ms; /* inclusive, inside timestamptz */
    bool all_metrics, all_series;
    int64 *metrics; /* sorted, unique, if not all */
    int64 *series;
    int n_metrics, n_series;
} fdw_want;

void fdw_want_init(fdw_want *want);
/* Narrows want by one condition; a NULL value wants nothing. Allocates in the current context. */
void fdw_want_narrow(fdw_want *want, fdw_cond_kind kind, Oid type, Datum value, bool isnull);

/* ---- fdw_estimate ------------------------------------------------------------------------- */

typedef struct fdw_estimate {
    double samples; /* within metric and time bounds */
    double blocks;
    double series;  /* of the metrics wanted */
    double metrics; /* how many metrics are wanted */
    double series_per_block;
    double range_ms; /* of time that the samples cover; 0: no idea */
    double
        series_passing; /* share of the series that pass the quals on series that could be tried */
    List *untried;      /* the other quals on series */
} fdw_estimate;

/* Rows of other_kind (0: none) do not count. */
void fdw_estimate_rel(PlannerInfo *root, const fdw_quals *quals, int16 other_kind,
                      fdw_estimate *ret);
/* About how many series there are; inside fdw_spi_begin. */
double fdw_series_of_metric(int32 metric_id);

typedef struct fdw_living { /* about those of a metric in a time */
    double series;
    ArrayType *ids; /* some of them */
    bool all;       /* these are all */
} fdw_living;

/* ---- fdw_sample ---------------------------------------------------------------------------- */

/* Share of a metric's n_series series that pass those quals that can be tried; of those that live, unless living
 * is NULL. Inside fdw_spi_begin. */
double fdw_sample_fraction(PlannerInfo *root, int32 metric_id, double n_series,
                           const fdw_living *living, List *quals, List **ret_untried);

typedef struct fdw_rel { /* what planning knows of a scan: RelOptInfo.fdw_private */
    fdw_quals quals;     /* of baserestrictinfo */
    fdw_estimate estimate;
    double series_fraction; /* passing the rel's own conditions and quals on series */
    double row_fraction;    /* of their samples, passing the row quals */
} fdw_rel;

/* ---- fdw_distinct --------------------------------------------------------------------------- */

/* Tells the planner how many different values the columns have; once, when the library is loaded. */
void fdw_distinct_install(void);
/* What is known of a relation of ours whose size was estimated; NULL for others. In fdw_plan.c. */
const fdw_estimate *fdw_estimate_of(const RelOptInfo *rel);

/* ---- fdw_alive: the series of a metric, or those that lived ------------------------------- */

/* Calls fn for each series of the metric, or where most of them did not live then for each that may have samples in
 * [*from_ms, *to_ms], and widens these two to the time that the series are right for. all, by_id: statements with
 * the same columns. Inside fdw_spi_begin. */
void fdw_alive_each(int32 metric_id, fdw_stmt all, fdw_stmt by_id, int64 *from_ms, int64 *to_ms,
                    fdw_row_fn fn, void *self);

/* About how many series of the metric live in a time, for planning: what the sets say, without fresh rows. False:
 * they do not say, as above, or are too many to be looked at. Inside fdw_spi_begin. */
bool fdw_alive_guess(int32 metric_id, int64 from_ms, int64 to_ms, fdw_living *ret);

/* ---- fdw_series: who exists and passes ---------------------------------------------------- */

typedef struct fdw_series {
    int64 id;
    int32 metric_id;
    Datum labels; /* int4[]; 0 if nobody asked for them */
} fdw_series;

typedef struct fdw_scan fdw_scan;

typedef struct fdw_series_set { /* ascending by (metric_id, id) */
    MemoryContext context;
    fdw_series *rows;
    size_t n, cap;
} fdw_series_set;

/* Loads one metric's series, or those of want->series, and keeps what passes the series-level quals.
 * Replaces what the set held. */
void fdw_series_load_metric(fdw_scan *scan, int32 metric_id, fdw_series_set *set);
void fdw_series_load_ids(fdw_scan *scan, const fdw_want *want, fdw_series_set *set);
void fdw_series_clear(fdw_series_set *set);

/* ---- fdw_directory, fdw_blocks: the block rows of a metric, and what is in them ------------ */

typedef enum fdw_table { /* order of precedence: earlier ones win; block and block_far are peers */
                         FDW_TABLE_BLOCK,
                         FDW_TABLE_FAR,
                         FDW_TABLE_MERGED,
                         FDW_TABLE_FRESH,
                         FDW_TABLE_N
} fdw_table;

/* promscale.block_memory: what a scan's open blocks may take together. One block may take more; its
 * library memory is bounded by this and FDW_BLOCK_MAX_BYTES, so that a damaged one cannot ask for all. */
extern int fdw_block_memory_kb;
#define FDW_BLOCK_MAX_BYTES ((size_t)1 << 30)
void fdw_define_settings(void);

extern const char *const fdw_table_names[FDW_TABLE_N];

/* What EXPLAIN says of a row; each counts once, as the most that was done with it. */
typedef enum fdw_counted {
    FDW_COUNTED_NOT,
    FDW_COUNTED_SKIPPED, /* in blocks_skipped */
    FDW_COUNTED_HEAD,    /* in blocks_heads */
    FDW_COUNTED_READ     /* in blocks_read */
} fdw_counted;

typedef struct fdw_block {
    fdw_table table;
    int64 id;
    blk_meta meta;
    struct varlena *data; /* as it came: in line, or a TOAST pointer; NULL: fetch it by key */
    size_t inline_bytes;
    uint64 serial; /* no other row that the scan reads has it */
    /* while open */
    blk_reader *reader;
    blk_bench *bench;      /* for histograms and start timestamps; NULL until one is asked for */
    struct varlena *plain; /* what the reader borrows, if it is a copy */
    uint32 pos;            /* next series to look at */
    uint32 n_series;
    blk_series current; /* series at pos */
    bool current_valid; /* false: no series of the metric left in this block */
    bool head_only;     /* open, but without its samples */
    bool damaged;       /* cannot be read, and that was told */
    fdw_counted counted;
} fdw_block;

typedef struct fdw_directory {
    fdw_scan *scan;
    MemoryContext context;
    int32 metric_id;
    int64 from_ms, to_ms;
    int64 series_lo, series_hi; /* rows outside this range come without data and are skipped */
    fdw_block **items;          /* in order of (t_min, table, id) */
    size_t n, cap;
    size_t next;         /* first item of the next cluster */
    size_t inline_bytes; /* held by items */
    bool valid;          /* metric and range are set */
    bool complete;       /* items is the whole directory */
    bool eof;            /* no more pages */
    bool keep;           /* do not drop items that were walked: a rescan may come */
    int pages;
    bool backwards;
    int64 back_days;
    int64 day_lo_ms,
        day_hi_ms;      /* backwards: the days of table block that are being read, [lo, hi) */
    int64 ended_ms;     /* backwards: rows not read yet end before this */
    int64 last_t_ms;    /* key of the last row read */
    TimestampTz last_t; /* the same to the microsecond: a damaged row may have some */
    fdw_table last_table;
    int64 last_id;
    size_t skipped;
} fdw_directory;

void fdw_directory_init(fdw_directory *dir, fdw_scan *scan, MemoryContext parent);
/* Points the directory at a metric. keep: hold on to the rows for rescans, if they are few.
 * backwards: clusters come from the newest to the oldest, sealed days are read as far as the caller
 * goes; nothing is kept. */
void fdw_directory_open(fdw_directory *dir, int32 metric_id, int64 from_ms, int64 to_ms,
                        int64 series_lo, int64 series_hi, bool keep, bool backwards);
/* Next cluster: items [*ret_first, *ret_first + *ret_n). The one before is forgotten unless kept. */
bool fdw_directory_next(fdw_directory *dir, size_t *ret_first, size_t *ret_n);
void fdw_directory_close(fdw_directory *dir);

/* What the block will take when open, roughly. */
size_t fdw_block_need(const fdw_block *block);
/* Does it fit in beside those that are open? */
bool fdw_block_fits(const fdw_scan *scan, const fdw_block *block);
void fdw_block_count(fdw_scan *scan, fdw_block *block, fdw_counted what);
/* False: it is damaged, and has to be passed over (damage.h). */
bool fdw_block_open(fdw_scan *scan, fdw_block *block);
/* The same for those who need series, their bounds and last values, but no samples: where it saves
 * something, only the block's first bytes are read (head_only). fdw_block_open reads the rest later. */
bool fdw_block_open_head(fdw_scan *scan, fdw_block *block);
/* Value of the current series at its t_last_ms. */
double fdw_block_last_value(const fdw_block *block);
/* Both make current the first series of the metric that is >= series_id; advance only goes forward. */
void fdw_block_seek(fdw_block *block, int32 metric_id, int64 series_id);
void fdw_block_advance(fdw_block *block, int32 metric_id, int64 series_id);
/* Closes the block, or keeps it open for a rescan while there is room. */
void fdw_block_leave(fdw_scan *scan, fdw_block *block);
void fdw_block_close(fdw_scan *scan, fdw_block *block);
BRIDGE_NORETURN void fdw_block_raise(const fdw_block *block, ps_status status, const ps_err *err);

/* ---- fdw_slices: a cluster, piece by piece in time ------------------------------------------ */

typedef struct fdw_slices {
    int64 *starts_ms; /* n starts and one end */
    size_t n, next;
} fdw_slices;

/* blocks: a cluster, ascending by t_min. */
void fdw_slices_make(fdw_slices *slices, const fdw_want *want, fdw_block *const *blocks, size_t n,
                     MemoryContext context);
bool fdw_slices_next(fdw_slices *slices, int64 *ret_from_ms, int64 *ret_to_ms);

/* ---- fdw_merge, fdw_runs, fdw_crowd: a cluster, series by series --------------------------- */

typedef struct fdw_samples { /* parallel arrays that grow; read-only for those who get them */
    int64_t *t_ms;
    double *values;
    size_t n, cap;
    /* As long as this stays the same, so do n and t_ms[0..n), from series to series; whoever keeps
     * something per time need not make it again. Never 0. */
    uint64 times_version;
} fdw_samples;

typedef struct fdw_times { /* times while they are merged */
    int64_t *t_ms;
    uint64 *tags; /* where each came from */
    size_t n, cap;
} fdw_times;

typedef struct fdw_run { /* what one block holds of the current series */
    fdw_block *block;
    blk_series series;
    /* decoded and put aside (fdw_crowd): samples lo.. lo + n of it; t_ms NULL: ask the open block */
    const int64_t *t_ms;
    double *values;
    const hst_hist **histograms;
    int64 *start_ms;
    size_t lo, n;
} fdw_run;

typedef struct fdw_piece { /* so many samples of a run come next */
    uint32 run, lo, n;
} fdw_piece;

typedef struct fdw_use { /* what the pieces take of a run */
    size_t n_pieces;
    size_t lo, end;
    size_t at; /* in `aside`, if it has several pieces */
} fdw_use;

typedef struct fdw_mark { /* names a run's times */
    uint64 block;         /* its serial */
    uint32 times_id;
} fdw_mark;

typedef struct fdw_found {
    size_t wanted; /* index */
    fdw_run run;
} fdw_found;

typedef struct fdw_crowd {
    MemoryContext context; /* samples of this batch */
    bridge_alloc memory;   /* in it */
    ps_arena arena;        /* its histograms */
    fdw_found *found;
    size_t n_found, cap_found;
    size_t next_found; /* to be handed out */
    size_t batch;      /* series to take at a time */
} fdw_crowd;

typedef struct fdw_merge {
    fdw_scan *scan;
    MemoryContext context;
    int32 metric_id; /* this and what is wanted of it: set by the caller */
    const fdw_series *wanted;
    size_t n_wanted;
    int64 from_ms, to_ms;
    size_t next_wanted;
    fdw_block **blocks; /* of the cluster, ascending by series_lo */
    size_t n_blocks, cap_blocks;
    size_t next_block; /* first one not yet reached */
    fdw_block **active;
    size_t n_active;
    fdw_run *runs; /* of the current series */
    size_t n_runs, cap_runs;
    fdw_samples out;
    /* how runs become out: as it was for the last series, and for which runs that holds */
    fdw_piece *pieces;
    size_t n_pieces, cap_pieces;
    fdw_use *uses; /* as many as runs, as are the next two */
    fdw_mark *marks;
    uint32 *order;
    size_t n_marks, cap_uses;
    bool times_decoded;
    fdw_times scratch[2];
    double *aside; /* values of runs in several pieces */
    size_t cap_aside;
    bool crowded; /* the open blocks became too many */
    fdw_crowd crowd;
} fdw_merge;

void fdw_merge_init(fdw_merge *m, fdw_scan *scan, MemoryContext parent);
/* Of the blocks those that reach into [from, to] are walked, and of them that part. */
void fdw_merge_start(fdw_merge *m, int64 from_ms, int64 to_ms, fdw_block *const *blocks,
                     size_t n_blocks);
/* Samples of the next series that has any: in m->out (or only out.n, if neither times nor values are
 * needed). Returns NULL at the end of the cluster. */
const fdw_series *fdw_merge_next(fdw_merge *m);
/* Leaves all blocks that are still active. */
void fdw_merge_stop(fdw_merge *m);
/* First wanted series at or after `from` whose id is >= id; gallops, then bisects. */
size_t fdw_wanted_seek(const fdw_merge *m, size_t from, int64 id);
/* m->runs become m->out. */
void fdw_merge_runs(fdw_merge *m);
void fdw_crowd_begin(fdw_merge *m);
const fdw_series *fdw_crowd_next(fdw_merge *m);
void *fdw_grow(MemoryContext context, void *array, size_t *cap, size_t need, size_t size);

/* ---- fdw_scan ----------------------------------------------------------------------------- */

typedef struct fdw_counts { /* for EXPLAIN ANALYZE, summed over rescans */
    uint64 blocks_read;
    uint64 blocks_heads;   /* of which only the head was read */
    uint64 blocks_skipped; /* rows in range that were passed over by their series */
    uint64 samples_decoded;
    uint64 blocks_damaged; /* left out, with a warning */
    uint64 bytes_read;     /* of blocks and heads; not shown */
    uint64 series_total;
    uint64 series_matched;
} fdw_counts;

struct fdw_scan {
    MemoryContext context;
    Snapshot snapshot; /* the executor's, borrowed */
    int n_conds;
    fdw_cond_kind *cond_kinds;
    Oid *cond_types;
    ExprState **cond_values;
    ExprState *series_quals; /* NULL: none */
    int n_series_quals;
    Bitmapset *series_params; /* executor parameters in them */
    bool series_subplan;      /* a subplan in them, which may depend on anything */
    bool series_vary;         /* a rescan may ask for other series: do not narrow the directory */
    bool may_rescan;
    ExprContext *econtext;
    TupleTableSlot *series_slot; /* series-level columns, for series_quals */
    TupleTableSlot *slot;        /* what we hand out */
    /* need_value is about floats; the others are only set where histograms are read */
    bool need_time, need_value, need_labels, need_histogram, need_start;
    int16 other_kind; /* of rows that are left out; 0: none are */
    /* for the histograms that fdw_newest comes upon; NULL: there are none */
    ps_arena *newest_arena;
    bool backwards; /* clusters from the newest to the oldest: fdw_newest.c */

    bool started;
    MemoryContext want_context;
    fdw_want want;
    int64 *metrics; /* to be walked */
    size_t n_metrics, next_metric;
    fdw_series_set series;
    int32 series_metric; /* whose series are in the set: 0 = none, valid across rescans */
    int64 series_from_ms, series_to_ms; /* the time of which none is missing in it */
    fdw_directory directory;
    bool series_given; /* the set was loaded by id; slices of it are the metrics' */
    bool in_metric, in_cluster, in_slice;
    size_t cluster_first, cluster_n; /* in directory.items */
    fdw_slices slices;
    fdw_merge merge;

    bridge_alloc block_memory; /* of the library, for blocks open, active or kept */
    size_t plain_bytes;        /* their detoasted bytes */
    uint64 last_serial;

    size_t row, n_rows; /* of the current series, in merge.out */
    const fdw_series *current;
    struct fdw_stretch *stretch; /* fdw_histograms: rows of it that are ready */
    fdw_counts counts;
};

/*
 * Finds the next series with samples: scan->current, and its samples in scan->merge.out (times or
 * values only if needed, out.n always). A series comes again for each slice of time that holds
 * some of it. False at the end.
 */
bool fdw_scan_next_series(fdw_scan *scan);

/* Goes to the next metric that has series to be read: they are scan->merge.wanted, its blocks are in
 * scan->directory. */
bool fdw_scan_next_metric(fdw_scan *scan);

/* ---- fdw_newest: the newest sample of each series ------------------------------------------- */

typedef struct fdw_newest fdw_newest;

/* Walks scan by itself (not together with fdw_scan_next_series). only_first: the newest samples of
 * each metric are enough, if they are found together; some series may then be missing. */
fdw_newest *fdw_newest_new(fdw_scan *scan, bool only_first);
/* Next series, in no order: scan->current, the time and value of its newest sample. */
bool fdw_newest_next(fdw_newest *w, int64 *ret_t_ms, double *ret_value);
/* What fdw_newest_next gave, if it is a histogram (in scan->newest_arena); else NULL. */
const hst_hist *fdw_newest_histogram(const fdw_newest *w);
/* Its start timestamp (0: not known), if the scan needs them. */
int64 fdw_newest_start(const fdw_newest *w);
/* After fdw_scan_again. */
void fdw_newest_again(fdw_newest *w);

/* ---- fdw_histograms -------------------------------------------------------------------------- */

static inline bool
fdw_run_is_histogram(const fdw_run *run)
{
    return run->block->meta.kind == BLK_KIND_HISTOGRAM;
}

/* Contents of samples [from, from + n) of m->out: histograms (NULL where it is a float), made in the
 * arena, and start timestamps (0: not known). Either array may be NULL. */
void fdw_merge_histograms(fdw_merge *m, size_t from, size_t n, ps_arena *arena,
                          const hst_hist **histograms, int64 *start_ms);
/* The same of samples lo .. lo + n of one series of an open block. */
void fdw_block_histograms(fdw_scan *scan, fdw_block *block, uint32 index, size_t lo, size_t n,
                          ps_arena *arena, const hst_hist **histograms);
void fdw_block_starts(fdw_scan *scan, fdw_block *block, const blk_series *series, size_t lo,
                      size_t n, int64 *start_ms);
/* Puts histogram and start time of a row of the current series into the slot. */
void fdw_histograms_fill(fdw_scan *scan, size_t row);

/* Is it the table of floats, or that of histograms? */
bool fdw_shape_fits(Oid table);
bool fdw_shape_of_histograms(Oid table);
/* The state of a scan for a node; desc begins with the table's columns. */
fdw_scan *fdw_scan_new(ForeignScanState *node, TupleDesc desc, int eflags);
/* One without a node: the samples of given series (rows, ascending by (metric_id, id), borrowed) with
 * from_ms <= time <= to_ms. Lives in a child of parent, which the caller deletes (scan->context). */
fdw_scan *fdw_scan_of_series(MemoryContext parent, Snapshot snapshot, fdw_series *rows, size_t n,
                             int64 from_ms, int64 to_ms);
/* From the start again; changed: executor parameters that have. */
void fdw_scan_again(fdw_scan *scan, const Bitmapset *changed);
/* Puts the current series into scan->slot; time and value are the caller's to fill in. */
void fdw_scan_fill_series(fdw_scan *scan);

/* ---- fdw_plan ----------------------------------------------------------------------------- */

/* Cost of reading all that the rel's own quals ask for, without handing out rows. */
void fdw_upper_cost(PlannerInfo *root, RelOptInfo *rel, Cost *ret);

/* Cost of reading the newest sample of each series. */
void fdw_newest_cost(PlannerInfo *root, RelOptInfo *rel, Cost *ret);

/* ---- callbacks, by file ------------------------------------------------------------------- */

void fdw_get_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid table);
void fdw_get_paths(PlannerInfo *root, RelOptInfo *rel, Oid table);
ForeignScan *fdw_get_plan(PlannerInfo *root, RelOptInfo *rel, Oid table, ForeignPath *path,
                          List *tlist, List *clauses, Plan *outer_plan);
/* Members of ForeignScan.fdw_private; the aggregating scan has more (fdw_upper.h). fdw_exprs begins
 * with the values of the conditions and the series-level quals. */
enum {
    FDW_PRIVATE_KINDS,
    FDW_PRIVATE_TYPES,
    FDW_PRIVATE_ATTRS,
    FDW_PRIVATE_SERIES, /* number of series-level quals */
    FDW_PRIVATE_N
};
int fdw_private_int(const ForeignScan *plan, int member);

void fdw_begin(ForeignScanState *node, int eflags);
TupleTableSlot *fdw_iterate(ForeignScanState *node);
void fdw_rescan(ForeignScanState *node);
void fdw_end(ForeignScanState *node);
void fdw_explain(ForeignScanState *node, ExplainState *es);
/* What all scans show. */
void fdw_explain_scan(ForeignScanState *node, fdw_scan *scan, ExplainState *es);
void fdw_explain_quals(ForeignScanState *node, ExplainState *es, const char *label, int first,
                       int n);
/* Expressions over the plan's columns as text. */
char *fdw_explain_exprs(ForeignScanState *node, ExplainState *es, Node *exprs);

/* the same for nodes that aggregate: fdw_upper_plan.c, fdw_upper_exec.c */
void fdw_upper_paths(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input,
                     RelOptInfo *output, void *extra);
void fdw_upper_define_settings(void);
ForeignScan *fdw_upper_plan(PlannerInfo *root, RelOptInfo *rel, List *tlist);
void fdw_upper_begin(ForeignScanState *node, int eflags);
TupleTableSlot *fdw_upper_iterate(ForeignScanState *node);
void fdw_upper_rescan(ForeignScanState *node);
void fdw_upper_end(ForeignScanState *node);
void fdw_upper_explain(ForeignScanState *node, ExplainState *es);

#endif
