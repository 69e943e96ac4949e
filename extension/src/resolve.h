/*
 * resolve.h - from label text to series ids: the one place where the catalog grows.
 *
 * resolve_series() gets a batch of series of one tenant, by text, and returns their ids, making what
 * does not exist. Any number of sessions may do so at once with overlapping batches:
 *
 *   - table after table in one fixed order: metric, key, label, position, series;
 *   - within a table first look up everything, then INSERT what is missing in the order of its digests,
 *     then look up again, in a new snapshot, what somebody else inserted first (see resolve_insert);
 *   - positions have no digest: whoever needs new ones locks the metrics' rows in the order of ids.
 *
 * So everyone meets locks in the same order. A rest of deadlocks is possible where names of views
 * collide; the caller repeats on 40P01 and 40001. Identity is a digest; every hit is verified against
 * the text, or, for series, against the label ids that the text has led to.
 *
 *   resolve.c         arguments in, checks, ids out
 *   resolve_names.c   metrics and label keys, and the names of their views and columns
 *   resolve_steps.c   label pairs, and their positions in a metric's arrays
 *   resolve_series.c  the series themselves, and their entry in the feed
 *
 * All memory is the calling function's; nothing outlives the call except prepared statements.
 */
#ifndef PROMSCALE_RESOLVE_H
#define PROMSCALE_RESOLVE_H

#include "catalog.h"

#include "utils/hsearch.h"

typedef struct resolve_name { /* a metric or a label key */
    Datum text;
    pg_uuid_t digest;
    int32 id; /* 0: not known yet */
} resolve_name;

typedef struct resolve_pair {
    int32 key; /* index in keys */
    Datum value;
    pg_uuid_t digest; /* of the value */
    int32 id;
} resolve_pair;

typedef struct resolve_position { /* hash entry: where a key stands in a metric's label arrays */
    struct {
        int32 metric; /* index in metrics */
        int32 key;    /* index in keys */
    } at;
    int32 pos;
} resolve_position;

typedef struct resolve_series {
    int32 metric;      /* index in metrics */
    int32 n_refs;      /* labels */
    const int32 *refs; /* 1-based indices in pairs */
    pg_uuid_t digest;
    int32 n_labels;    /* length of the label array */
    int32 first_label; /* its first element in flat_labels */
    int64 id;
} resolve_series;

typedef struct resolve_batch {
    int32 tenant_id;
    resolve_name *metrics;
    resolve_name *keys;
    resolve_pair *pairs;
    resolve_series *series;
    int n_metrics, n_keys, n_pairs, n_series;
    int32 *given_metrics; /* for each name in the arguments, its index in metrics */
    int n_given_metrics;
    int64 n_refs;
    HTAB *positions;
    int32 *flat_labels; /* all label arrays, one after another */
} resolve_batch;

/* More label names on one metric are refused: each makes every later array of the metric longer. */
enum { RESOLVE_MAX_POSITIONS = 8192 };

void resolve_metrics(resolve_batch *batch);
void resolve_keys(resolve_batch *batch);
void resolve_labels(resolve_batch *batch);
void resolve_positions(resolve_batch *batch);
void resolve_series_ids(resolve_batch *batch);

/* ---- small tools for the three files ----------------------------------------------------- */

/* Indices of the items whose id is still 0; *ret_n of them. */
typedef bool (*resolve_missing_fn)(const resolve_batch *batch, int item);
int *resolve_missing(const resolve_batch *batch, int n, resolve_missing_fn missing, int *ret_n);

/* Keeps one of each run of equal items; they are sorted by the same function. Returns how many. */
int resolve_unique(int *items, int n, qsort_arg_comparator compare, resolve_batch *batch);

static inline int
resolve_uuid_cmp(const pg_uuid_t *a, const pg_uuid_t *b)
{
    return memcmp(a->data, b->data, UUID_LEN);
}

/* Two different texts with one digest: cannot be stored, and is no reason to mix them up. */
BRIDGE_NORETURN void resolve_collision(const char *what);
/* Others keep taking what we make (or delete it at once): give way. */
BRIDGE_NORETURN void resolve_give_way(const char *what);

/*
 * Runs an INSERT of rows that were missing a moment ago; returns the number of rows, which are in
 * SPI_tuptable. `plain` is tried first, in a subtransaction: without a conflict clause a row costs a
 * third less. Should somebody have been faster with one of them, it is rolled back and `careful` does
 * the same with ON CONFLICT DO NOTHING. Rows must be unique among themselves.
 */
uint64 resolve_insert(catalog_stmt *plain, catalog_stmt *careful, Datum *values);

ArrayType *resolve_uuid_array(const pg_uuid_t *items, int n);

#endif
