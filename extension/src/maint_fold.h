/*
 * maint_fold.h - between maint_fold.c (the step), maint_group.c (one bucket of metrics in it) and maint_units.c (what
 * is in the bucket).
 */
#ifndef PROMSCALE_MAINT_FOLD_H
#define PROMSCALE_MAINT_FOLD_H

#include "maint.h"

typedef struct fold_row { /* a fresh row that this fold has deleted */
    maint_row row;
    int32 bucket;
    bool put_back; /* could not be processed: goes back as it was */
} fold_row;

typedef struct fold_stats {
    int64 samples_in;
    int64 duplicates;
    int64 conflicts;
    int64 rows_in;
    int64 rows_taken; /* merged rows rewritten */
    int64 rows_out;
} fold_stats;

typedef struct maint_presence maint_presence; /* maint_presence.c */

typedef struct fold {
    MemoryContext context;       /* of the step */
    MemoryContext group_context; /* reset after each group */
    int64 boundary_ms;
    int64 *bad; /* ids that earlier steps could not read */
    size_t n_bad;
    int32 *dropped; /* ids of metrics whose samples are left out, ascending */
    size_t n_dropped;
    SPIPlanPtr candidates; /* heads of merged rows by (metric, time range) */
    SPIPlanPtr take;       /* DELETE ... RETURNING by key */
    SPIPlanPtr insert;     /* into merged */
    SPIPlanPtr put_back;   /* into merged, id kept */
    int32 *histograms;     /* metrics that have some */
    size_t n_histograms, cap_histograms;
    fold_stats stats;
    maint_figures figures;
    maint_presence *presence;
} fold;

/* What is merged with each other: samples of one kind, of a tenant's metric. */
typedef struct fold_stream {
    int32 tenant_id, metric_id;
    int16 kind;
} fold_stream;

static inline fold_stream
fold_stream_of(const blk_meta *m)
{
    return (fold_stream){m->tenant_id, m->metric_id, m->kind};
}

/* A fresh row as an input of one stream: a range of its series. */
typedef struct fold_pair {
    fold_stream stream;
    uint32 row; /* index into rows: ascending with the id inside a tenant */
    uint32 series, series_end;
    int64 t_min_ms, t_max_ms;
    uint64 samples;
} fold_pair;

/* A stream with all its inputs. */
typedef struct fold_unit {
    fold_stream stream;
    fold_pair *pairs;
    size_t n_pairs;
    maint_cell *cells; /* ascending, each with new samples */
    size_t n_cells;
} fold_unit;

/* All of one bucket; lives in the group context. */
typedef struct fold_bucket {
    fold *f;
    bridge_alloc alloc; /* readers of fresh rows */
    MemoryContext unit_context;
    fold_row *rows;
    size_t n_rows;
    blk_reader **readers; /* NULL: the row goes back */
    fold_pair *pairs;
    size_t n_pairs, cap_pairs;
    fold_unit *units;
    size_t n_units;
    maint_row *heads; /* merged rows in reach, by tenant, metric, kind, id */
    bool *taken;      /* of heads */
    size_t n_heads;
    bool two_kinds;    /* heads of other kinds than floats are among them */
    maint_row *merged; /* the taken ones with their data, same order */
    size_t n_merged;
} fold_bucket;

/* Opens the rows of b and lists its units with their cells. A unit without cells has
 * failed, or its metric was dropped. */
void fold_list_units(fold_bucket *b);
/* Order by tenant, metric, kind. */
int fold_stream_order(fold_stream a, fold_stream b);
/* A unit that cannot be merged: its fresh rows go back. */
void fold_give_up(fold_bucket *b, fold_unit *u, const char *text);

/* ---- maint_presence.c: which series have samples in which window ------------------------------- */

/* In the step's context. */
maint_presence *fold_presence_new(fold *f);
/* What a unit writes while it is merged; thrown away if the unit fails. */
typedef struct fold_presence_run {
    int64 lo, hi, window_ms; /* series ids */
} fold_presence_run;
typedef struct fold_presence_note {
    const ps_alloc *alloc;
    fold_presence_run *runs;
    size_t n, cap;
    bool failed; /* no memory */
} fold_presence_note;
void fold_presence_series(fold_presence_note *note, int64 series_id, const int64 *t_ms, size_t n);
/* The unit was merged. */
void fold_presence_add(fold *f, int32 tenant_id, int32 metric_id, const fold_presence_note *note);
/* Adds what was noted of a bucket to the sets in the database, where it is not in them yet. */
void fold_presence_write(fold *f);

/* Folds rows[0..n) (one bucket, ascending by tenant and id) into merged. */
void fold_group(fold *f, fold_row *rows, size_t n);

#endif
