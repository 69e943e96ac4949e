/*
 * maint_seal.h - between maint_seal.c (the step) and maint_window.c (one metric and window in it).
 */
#ifndef PROMSCALE_MAINT_SEAL_H
#define PROMSCALE_MAINT_SEAL_H

#include "maint.h"

typedef struct seal_window {
    int32 metric_id;
    int64 dist_key;
    int64 from_ms, to_ms;
    bool far; /* goes to block_far: its day has no partition and deserves none */
} seal_window;

typedef struct seal_stats {
    int64 samples;
    int64 bytes_in;
    int64 rows_in;
    int64 rows_out;
    int64 duplicates;
    int64 conflicts;
} seal_stats;

typedef struct seal {
    MemoryContext context;        /* of the step */
    MemoryContext window_context; /* reset after each window */
    int64 slice_bytes;            /* compressed; decoded, a few times as much is in memory */
    SPIPlanPtr heads;             /* of the window's merged rows */
    SPIPlanPtr rows;              /* of some of them, with data */
    SPIPlanPtr erase;             /* DELETE by id */
    SPIPlanPtr insert, insert_far;
    seal_stats stats;
    maint_figures figures;
    const maint_row *guilty; /* the row that an error is about, if one is known */
} seal;

/* Seals one window. Raises on any trouble; the caller has opened a subtransaction. */
void seal_one(seal *s, const seal_window *w);

#endif
