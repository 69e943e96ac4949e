/*
 * maint_seal.h - between maint_seal.c (the steps), maint_window.c (one metric and window in them) and
 * maint_layers.c (which sealed rows are written anew).
 */
#ifndef PROMSCALE_MAINT_SEAL_H
#define PROMSCALE_MAINT_SEAL_H

#include "maint.h"

/* How much is written anew of what was sealed before. */
typedef enum seal_zeal {
    SEAL_PLAIN, /* nothing: too much of it cannot be read */
    SEAL_SOON,  /* what late samples touch, as far as they are many beside it */
    SEAL_QUIET, /* all that makes the window smaller, now that nothing more comes */
    SEAL_ALL,   /* everything that lies on each other */
} seal_zeal;

typedef struct seal_window {
    int32 metric_id;
    int64 dist_key;
    int64 from_ms, to_ms;
    int64 width_ms; /* of the metric's chunks */
    bool far;       /* goes to block_far: its day has no partition and deserves none */
} seal_window;

typedef struct seal_stats {
    int64 samples;
    int64 bytes_in;
    int64 rows_in;
    int64 rows_out;
    int64 duplicates;
    int64 conflicts;
} seal_stats;

/* Statements on one of the tables. */
typedef struct seal_plans {
    SPIPlanPtr heads; /* rows of a metric in a span of time, without data */
    SPIPlanPtr rows;  /* some of them, with data */
    SPIPlanPtr erase; /* DELETE by id */
} seal_plans;

typedef struct seal {
    MemoryContext context;        /* of the step */
    MemoryContext window_context; /* reset after each window */
    int64 slice_bytes;            /* compressed; decoded, a few times as much is in memory */
    seal_plans merged;
    seal_plans sealed;    /* of the day below */
    SPIPlanPtr erase_far; /* the same in block_far */
    int64 sealed_day_ms;
    bool sealed_far;
    SPIPlanPtr insert, insert_far;
    seal_stats stats;
    maint_figures figures;
    const maint_row *guilty; /* the row that an error is about, if one is known */
    seal_zeal zeal;
} seal;

/*
 * Seals what is merged of one window, and joins it with what is sealed as far as s->zeal says. Raises on
 * any trouble; the caller has opened a subtransaction. *ret_fragmented: rows are left in the day that lie
 * on each other; *ret_held: on one that could not be read lately.
 */
void seal_one(seal *s, const seal_window *w, bool *ret_fragmented, bool *ret_held);

/* Rows of one tenant and kind in a day: the sealed ones, then the merged ones, each by id. */
typedef struct seal_stream {
    const maint_row *rows;
    const bool *shut; /* sealed rows that cannot be read */
    size_t n, n_sealed;
    int64 day_ms, width_ms;
    seal_zeal zeal;
    /* set by seal_plan */
    int32 *batch; /* the rows of one number are to be written together; -1: the row stays */
    int32 n_batches;
    bool fragmented;
    bool held; /* rows are left that lie on one that is shut */
} seal_stream;

enum { SEAL_WINDOWS = 24 }; /* chunks of a day, at most */

/* Allocates in the current context. */
void seal_plan(seal_stream *st);

#endif
