/*
 * label_cache.h - label ids to keys and values, remembered for the length of one query.
 *
 * val() and jsonb() are called for every row of a result, over few distinct ids: each call site keeps
 * what it has looked up. Rows are read by SPI as the calling user, under the query's snapshot; the
 * memory forgets everything when the snapshot or the user changes, and when it has grown too big.
 */
#ifndef PROMSCALE_LABEL_CACHE_H
#define PROMSCALE_LABEL_CACHE_H

#include "catalog.h"

typedef struct label_cache label_cache;

typedef struct label_entry {
    int32 id;   /* hash key */
    bool known; /* false: no such label for this user; then key and value are not set */
    text *key;  /* owned by the cache; valid until the next label_cache_load */
    text *value;
} label_entry;

/* The cache of this call site, made at its first call. */
label_cache *label_cache_of(FmgrInfo *flinfo);
/* Looks up, in one statement, the ids that are not known yet. Zero is never a label. */
void label_cache_load(label_cache *cache, const int32 *ids, int n);
/* NULL if the id is 0 or no label. Ids must have been loaded by the last label_cache_load. */
const label_entry *label_cache_find(label_cache *cache, int32 id);

#endif
