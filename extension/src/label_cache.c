/* label_cache.c - see label_cache.h. */
#include "label_cache.h"

#include "catalog/pg_type.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* Beyond this everything is forgotten and looked up anew: slower, never wrong. */
enum { LABEL_CACHE_MAX_BYTES = 16 << 20 };

struct label_cache {
    MemoryContext context; /* holds entries; child of the call site's context */
    HTAB *entries;
    catalog_stamp stamp;
    bool loading; /* a statement is under way; found set: it failed, and entries are half done */
};

static void
cache_clear(label_cache *cache)
{
    HASHCTL control = {
        .keysize = sizeof(int32),
        .entrysize = sizeof(label_entry),
        .hcxt = cache->context,
    };

    MemoryContextReset(cache->context); /* takes the hash table with it */
    cache->entries =
        hash_create("promscale labels", 128, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    cache->stamp = catalog_stamp_now();
    cache->loading = false;
}

label_cache *
label_cache_of(FmgrInfo *flinfo)
{
    label_cache *cache = flinfo->fn_extra;

    if (cache == NULL) {
        cache = MemoryContextAllocZero(flinfo->fn_mcxt, sizeof *cache);
        cache->context =
            AllocSetContextCreate(flinfo->fn_mcxt, "promscale label cache", ALLOCSET_DEFAULT_SIZES);
        cache_clear(cache);
        flinfo->fn_extra = cache;
    }
    return cache;
}

static text *
copy_text(MemoryContext context, Datum value)
{
    ps_str s = catalog_str(value);
    text *copy = MemoryContextAllocHuge(context, VARHDRSZ + s.len);

    SET_VARSIZE(copy, VARHDRSZ + s.len);
    memcpy(VARDATA(copy), s.ptr, s.len);
    return copy;
}

static void
fetch(label_cache *cache, const int32 *ids, int n)
{
    static catalog_stmt stmt = {
        .sql = "SELECT l.id, k.key, l.value FROM _prom_catalog.label l"
               " JOIN _prom_catalog.label_key k ON k.id OPERATOR(pg_catalog.=) l.key_id"
               " WHERE l.id OPERATOR(pg_catalog.=) ANY ($1)",
        .n_args = 1,
        .args = {INT4ARRAYOID},
    };
    Datum values[1];

    SPI_connect();
    values[0] = PointerGetDatum(catalog_make_int4_array(ids, n));
    uint64 found = catalog_run(&stmt, values, true);
    for (uint64 i = 0; i < found; i++) {
        int32 id = DatumGetInt32(catalog_value(i, 1));
        Datum value = PointerGetDatum(PG_DETOAST_DATUM_PACKED(catalog_value(i, 3)));
        Datum key = PointerGetDatum(PG_DETOAST_DATUM_PACKED(catalog_value(i, 2)));
        text *key_copy = copy_text(cache->context, key);
        text *value_copy = copy_text(cache->context, value);
        bool exists;
        label_entry *entry = hash_search(cache->entries, &id, HASH_FIND, &exists);
        if (entry == NULL)
            elog(ERROR, "the catalog returned a label that was not asked for");
        entry->key = key_copy;
        entry->value = value_copy;
        entry->known = true;
    }
    SPI_finish();
}

void
label_cache_load(label_cache *cache, const int32 *ids, int n)
{
    catalog_stamp now = catalog_stamp_now();

    if (cache->loading || !catalog_stamp_eq(&now, &cache->stamp) ||
        MemoryContextMemAllocated(cache->context, true) > LABEL_CACHE_MAX_BYTES)
        cache_clear(cache);

    int32 *missing = NULL;
    int n_missing = 0;
    for (int i = 0; i < n; i++) {
        bool exists;

        if (ids[i] == 0)
            continue;
        label_entry *entry = hash_search(cache->entries, &ids[i], HASH_ENTER, &exists);
        if (exists)
            continue;
        entry->known = false;
        if (missing == NULL)
            missing = palloc_array(int32, n);
        missing[n_missing++] = ids[i];
    }
    if (n_missing == 0)
        return;
    cache->loading = true;
    fetch(cache, missing, n_missing);
    cache->loading = false;
    pfree(missing);
}

const label_entry *
label_cache_find(label_cache *cache, int32 id)
{
    if (id == 0)
        return NULL;
    const label_entry *entry = hash_search(cache->entries, &id, HASH_FIND, NULL);
    return entry != NULL && entry->known ? entry : NULL;
}
