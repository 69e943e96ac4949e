/*
 * series_cache.h - from label bytes, as senders write them, to a series' ids.
 *
 * One table, keyed by (tenant, bytes). The bytes are the label fields of a remote-write TimeSeries
 * as they stand in the message. The second level, "canonical label set -> series", is the same
 * table: a label set is made canonical, written in that same form (sorted by name) and looked up
 * again. What Prometheus sends is sorted already, so both levels share one entry and label text is
 * stored once; other spellings of a set cost an entry each.
 *
 * A hash (keyed by a secret of this process) only chooses where to look: a hit requires the same
 * tenant, length and bytes. Two buckets of eight slots are all that is ever probed. Memory has one
 * budget that counts everything; over it entries go by CLOCK.
 *
 * Threads: readers hold a read lock for a whole request (series_cache_begin .. _end) and may set
 * only the reference mark and the successor guess, both atomic; everything else is done under the
 * write lock.
 *
 * Catalog generation: all entries hold at one generation of the catalog (see _prom_catalog.state).
 * Each change of it also changes `epoch`, a number of this process that starts anew for no reason;
 * whoever took ids remembers the epoch and compares before relying on them.
 */
#ifndef PROMSCALE_CONNECTOR_SERIES_CACHE_H
#define PROMSCALE_CONNECTOR_SERIES_CACHE_H

#include "connector/metrics/metrics.h"
#include "lib/base/base.h"

typedef struct series_cache series_cache;

typedef struct series_cache_config {
    size_t max_bytes;
    uint64_t seed;      /* 0 = take a random one (what programs do) */
    uint64_t hash_mask; /* for tests that force collisions; 0 = all bits count */
    metrics *metrics;   /* may be NULL */
} series_cache_config;

ps_status series_cache_new(const series_cache_config *config, series_cache **ret,
                           ps_err *err) PS_MUST_CHECK;
void series_cache_free(series_cache *c);
/* The secret, for other tables that clients fill. */
uint64_t series_cache_seed(const series_cache *c);

/* What a catalog of one moment says of a series. */
typedef struct series_ref {
    int64_t series_id;
    int32_t metric_id;
} series_ref;

/* ---- readers ------------------------------------------------------------------------------- */

typedef struct series_cursor { /* one request's walk; on the reader's stack */
    uint64_t epoch;
    int64_t generation; /* 0: not known yet, the cache is empty */
    uint32_t last;      /* entry found last: its successor is the first guess */
    uint32_t queries, hits, guessed;
} series_cursor;

void series_cache_begin(series_cache *c, series_cursor *cur);
bool series_cache_find(series_cache *c, series_cursor *cur, int32_t tenant_id, ps_str key,
                       series_ref *ret);
void series_cache_end(series_cache *c, const series_cursor *cur);
/* Lets a waiting writer in, in the middle of a long walk. The cursor keeps its first epoch; if
 * that has passed, whoever compares epochs later finds out. */
void series_cache_yield(series_cache *c);

/* ---- writers ------------------------------------------------------------------------------- */

typedef struct series_cache_item {
    ps_str key; /* copied */
    int32_t tenant_id;
    series_ref ref;
} series_cache_item;

/* False, and nothing is kept, if the epoch has moved on since the items' ids were read. An item
 * that finds no room is left out: it is a cache. */
bool series_cache_insert(series_cache *c, uint64_t epoch, const series_cache_item *items, size_t n);

typedef struct series_cache_view {
    uint64_t epoch;
    int64_t generation;
} series_cache_view;
series_cache_view series_cache_now(series_cache *c);

/* The catalog is at `generation` now and these series are gone (ids in any order; sorted in place).
 * The epoch changes if the generation did. */
void series_cache_advance(series_cache *c, int64_t generation, int64_t *deleted, size_t n_deleted);
/* Forgets everything, the generation too: another database, or the feed was trimmed beyond our
 * cursor. */
void series_cache_clear(series_cache *c, int64_t generation);

typedef struct series_cache_stats {
    size_t bytes, max_bytes, elements;
    uint64_t queries, hits, evictions;
} series_cache_stats;
series_cache_stats series_cache_get_stats(series_cache *c);

#endif
