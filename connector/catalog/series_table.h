/*
 * series_table.h - the hash table under the series cache: no lock, no metrics. Only series_cache.c
 * and the tests include it.
 *
 * Entries have small numbers (ids), since the successor guess must never be a pointer: what an id
 * names may have been evicted or replaced meanwhile, and then the comparison simply fails.
 *
 * A key may stand in one of two buckets of eight slots, chosen by two halves of its hash; it is put
 * where more room is. With two choices the buckets fill evenly, so the table grows at 70 % and
 * practically never finds both full before; if it does, one of the sixteen gives way.
 */
#ifndef PROMSCALE_CONNECTOR_SERIES_TABLE_H
#define PROMSCALE_CONNECTOR_SERIES_TABLE_H

#include <stdatomic.h>

#include "connector/catalog/series_cache.h"

typedef struct series_entry {
    uint64_t hash;
    series_ref ref;
    int32_t tenant_id;
    uint32_t len;
    _Atomic uint32_t next;   /* id that followed this one last time; 0 = none */
    _Atomic uint8_t touched; /* CLOCK's reference mark */
    char bytes[];
} series_entry;

enum { SERIES_BUCKET_SLOTS = 8 };
typedef struct series_slot {
    uint32_t tag; /* part of the hash: saves a look at the entry */
    uint32_t id;  /* 0 = empty */
} series_slot;
typedef struct series_bucket {
    series_slot slots[SERIES_BUCKET_SLOTS];
} series_bucket;

typedef struct series_table {
    series_bucket *buckets;
    uint32_t bucket_mask;
    series_entry **entries; /* by id; [0] is NULL; a free id is NULL and listed in `vacant` */
    uint32_t *vacant;       /* stack of free ids below n_ids; as large as entries */
    uint32_t n_ids, cap_ids, n_vacant;
    uint32_t hand; /* CLOCK: next id to look at */
    size_t n, bytes, max_bytes;
    uint64_t evictions, seed, hash_mask;
} series_table;

bool series_table_init(series_table *t, size_t max_bytes, uint64_t seed, uint64_t hash_mask);
void series_table_done(series_table *t);
void series_table_clear(series_table *t);

uint32_t series_table_find(const series_table *t, int32_t tenant_id,
                           ps_str key); /* 0 = not there */
/* Adds or replaces. False: no room. */
bool series_table_put(series_table *t, int32_t tenant_id, ps_str key, series_ref ref);
/* ids sorted; returns the number of entries that went. */
size_t series_table_delete_series(series_table *t, const int64_t *ids, size_t n);

static inline bool
series_entry_is(const series_entry *e, int32_t tenant_id, ps_str key)
{
    return e->len == key.len && e->tenant_id == tenant_id &&
           memcmp(e->bytes, key.ptr, key.len) == 0;
}

static inline series_entry *
series_table_at(const series_table *t, uint32_t id)
{
    return id < t->n_ids ? t->entries[id] : NULL;
}

static inline uint32_t
series_table_successor(const series_table *t, uint32_t id)
{
    const series_entry *e = series_table_at(t, id);
    return e != NULL ? atomic_load_explicit(&e->next, memory_order_relaxed) : 0;
}

static inline void
series_table_set_successor(const series_table *t, uint32_t id, uint32_t next)
{
    series_entry *e = series_table_at(t, id);
    if (e != NULL)
        atomic_store_explicit(&e->next, next, memory_order_relaxed);
}

/* Marks an entry as used, and fetches the one that will likely be asked for next. */
static inline void
series_table_touch(const series_table *t, uint32_t id)
{
    series_entry *e = t->entries[id];
    if (atomic_load_explicit(&e->touched, memory_order_relaxed) == 0)
        atomic_store_explicit(&e->touched, 1, memory_order_relaxed);
    const char *ahead =
        (const char *)series_table_at(t, atomic_load_explicit(&e->next, memory_order_relaxed));
    if (ahead != NULL) {
        __builtin_prefetch(ahead);
        __builtin_prefetch(ahead + 64);
        __builtin_prefetch(ahead + 128);
        __builtin_prefetch(ahead + 192);
    }
}

#endif
