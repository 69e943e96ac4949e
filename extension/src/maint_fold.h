/*
 * maint_fold.h - between maint_fold.c (the step) and maint_group.c (one bucket of metrics in it).
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

typedef struct fold {
    MemoryContext context;       /* of the step */
    MemoryContext group_context; /* reset after each group */
    int64 boundary_ms;
    int64 *bad; /* ids that earlier steps could not read */
    size_t n_bad;
    SPIPlanPtr candidates; /* heads of merged rows by (metric, time range) */
    SPIPlanPtr take;       /* DELETE ... RETURNING by key */
    SPIPlanPtr insert;     /* into merged */
    SPIPlanPtr put_back;   /* into merged, id kept */
    fold_stats stats;
} fold;

/* Folds rows[0..n) (one bucket, ascending by tenant and id) into merged. */
void fold_group(fold *f, fold_row *rows, size_t n);

#endif
