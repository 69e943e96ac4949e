/*
 * series_table.c - see series_table.h for the idea. Every byte that the table takes is in `bytes`:
 * buckets, the array of entries, and each entry with the allocator's own overhead.
 */
#include "connector/catalog/series_table.h"

#include <stdlib.h>

enum { FIRST_BUCKETS = 64, FIRST_IDS = 256 };

/* What malloc takes for n bytes: an 8-byte header, multiples of 16, at least 32. */
static size_t
malloc_bytes(size_t n)
{
    size_t taken = (n + 8 + 15) & ~(size_t)15;
    return taken < 32 ? 32 : taken;
}

static size_t
entry_bytes(size_t key_len)
{
    return malloc_bytes(offsetof(series_entry, bytes) + key_len);
}

static size_t
ids_bytes(uint32_t cap_ids)
{
    return (size_t)cap_ids * (sizeof(series_entry *) + sizeof(uint32_t));
}

static uint64_t
hash_of(const series_table *t, int32_t tenant_id, ps_str key)
{
    uint64_t seed = t->seed + (uint64_t)(uint32_t)tenant_id * UINT64_C(0x9e3779b97f4a7c15);
    return ps_hash64(key, seed) & t->hash_mask;
}

/* Bits 0..31 choose the first bucket, 32..63 the second; the tag mixes both. */
static series_bucket *
bucket_of(const series_table *t, uint64_t hash, int choice)
{
    return &t->buckets[(uint32_t)(choice == 0 ? hash : hash >> 32) & t->bucket_mask];
}

static uint32_t
tag_of(uint64_t hash)
{
    return (uint32_t)((hash * UINT64_C(0xff51afd7ed558ccd)) >> 32);
}

bool
series_table_init(series_table *t, size_t max_bytes, uint64_t seed, uint64_t hash_mask)
{
    *t = (series_table){.max_bytes = max_bytes,
                        .seed = seed,
                        .hash_mask = hash_mask == 0 ? UINT64_MAX : hash_mask,
                        .bucket_mask = FIRST_BUCKETS - 1,
                        .cap_ids = FIRST_IDS,
                        .n_ids = 1,
                        .hand = 1};
    t->bytes = FIRST_BUCKETS * sizeof(series_bucket) + ids_bytes(FIRST_IDS);
    if (t->bytes > max_bytes)
        return false;
    t->buckets = aligned_alloc(sizeof(series_bucket), FIRST_BUCKETS * sizeof(series_bucket));
    t->entries = calloc(FIRST_IDS, sizeof(*t->entries));
    t->vacant = calloc(FIRST_IDS, sizeof(*t->vacant));
    if (t->buckets == NULL || t->entries == NULL || t->vacant == NULL) {
        series_table_done(t);
        return false;
    }
    memset(t->buckets, 0, FIRST_BUCKETS * sizeof(series_bucket));
    return true;
}

void
series_table_done(series_table *t)
{
    for (uint32_t id = 1; t->entries != NULL && id < t->n_ids; id++)
        free(t->entries[id]);
    free(t->entries);
    free(t->vacant);
    free(t->buckets);
    *t = (series_table){0};
}

uint32_t
series_table_find(const series_table *t, int32_t tenant_id, ps_str key)
{
    uint64_t hash = hash_of(t, tenant_id, key);
    uint32_t tag = tag_of(hash);
    for (int choice = 0; choice < 2; choice++) {
        const series_bucket *b = bucket_of(t, hash, choice);
        for (int i = 0; i < SERIES_BUCKET_SLOTS; i++) {
            if (b->slots[i].tag == tag && b->slots[i].id != 0 &&
                series_entry_is(t->entries[b->slots[i].id], tenant_id, key))
                return b->slots[i].id;
        }
    }
    return 0;
}

/* Takes an entry out of the table and frees it. */
static void
remove_entry(series_table *t, uint32_t id)
{
    series_entry *e = t->entries[id];
    for (int choice = 0; choice < 2; choice++) {
        series_bucket *b = bucket_of(t, e->hash, choice);
        for (int i = 0; i < SERIES_BUCKET_SLOTS; i++) {
            if (b->slots[i].id == id)
                b->slots[i] = (series_slot){0};
        }
    }
    t->bytes -= entry_bytes(e->len);
    t->n--;
    t->entries[id] = NULL;
    t->vacant[t->n_vacant++] = id;
    free(e);
}

static bool
spare(series_entry *e) /* CLOCK: whoever was used since the hand came by stays, once */
{
    return atomic_exchange_explicit(&e->touched, 0, memory_order_relaxed) != 0;
}

/* The hand moves on by one; who stands there goes or is spared. */
static void
move_hand(series_table *t)
{
    if (t->hand >= t->n_ids)
        t->hand = 1;
    series_entry *e = t->entries[t->hand];
    if (e != NULL && !spare(e)) {
        remove_entry(t, t->hand);
        t->evictions++;
    }
    t->hand++;
}

/* Evicts until `need` more bytes fit. */
static bool
make_room(series_table *t, size_t need)
{
    while (t->bytes + need > t->max_bytes) {
        if (t->n == 0)
            return false;
        move_hand(t);
    }
    return true;
}

/* A free slot of the emptier bucket; NULL if both are full. */
static series_slot *
free_slot(const series_table *t, uint64_t hash)
{
    series_slot *best = NULL;
    int best_room = 0;
    for (int choice = 0; choice < 2; choice++) {
        series_bucket *b = bucket_of(t, hash, choice);
        series_slot *slot = NULL;
        int room = 0;
        for (int i = 0; i < SERIES_BUCKET_SLOTS; i++) {
            if (b->slots[i].id == 0) {
                room++;
                slot = &b->slots[i];
            }
        }
        if (room > best_room) {
            best_room = room;
            best = slot;
        }
    }
    return best;
}

/* Both buckets are full: one of the sixteen goes. Two rounds, as the first may only clear marks. */
static series_slot *
evict_from_buckets(series_table *t, uint64_t hash)
{
    for (int round = 0; round < 2; round++) {
        for (int choice = 0; choice < 2; choice++) {
            series_bucket *b = bucket_of(t, hash, choice);
            for (int i = 0; i < SERIES_BUCKET_SLOTS; i++) {
                if (!spare(t->entries[b->slots[i].id])) {
                    remove_entry(t, b->slots[i].id);
                    t->evictions++;
                    return &b->slots[i];
                }
            }
        }
    }
    return NULL; /* not reached: the second round finds no marks */
}

static bool
grow_buckets(series_table *t)
{
    size_t old_n = (size_t)t->bucket_mask + 1, new_n = old_n * 2;
    size_t added = (new_n - old_n) * sizeof(series_bucket);
    if (new_n > UINT32_MAX / 2 || t->bytes + added > t->max_bytes)
        return false;
    series_bucket *buckets = aligned_alloc(sizeof(series_bucket), new_n * sizeof(series_bucket));
    if (buckets == NULL)
        return false;
    memset(buckets, 0, new_n * sizeof(series_bucket));
    free(t->buckets);
    t->buckets = buckets;
    t->bucket_mask = (uint32_t)(new_n - 1);
    t->bytes += added;
    for (uint32_t id = 1; id < t->n_ids; id++) {
        if (t->entries[id] == NULL)
            continue;
        uint64_t hash = t->entries[id]->hash;
        series_slot *slot = free_slot(t, hash);
        if (slot == NULL)
            slot = evict_from_buckets(t, hash);
        *slot = (series_slot){.tag = tag_of(hash), .id = id};
    }
    return true;
}

static bool
grow_ids(series_table *t)
{
    uint32_t cap = t->cap_ids * 2;
    if (cap > UINT32_MAX / 4 || t->bytes + ids_bytes(t->cap_ids) > t->max_bytes)
        return false;
    series_entry **entries = realloc(t->entries, cap * sizeof(*entries));
    if (entries == NULL)
        return false;
    t->entries = entries;
    uint32_t *vacant = realloc(t->vacant, cap * sizeof(*vacant));
    if (vacant == NULL)
        return false; /* entries is merely larger than counted */
    t->vacant = vacant;
    t->bytes += ids_bytes(t->cap_ids);
    t->cap_ids = cap;
    return true;
}

/* An id for a new entry; 0 if there is none even after evicting. */
static uint32_t
take_id(series_table *t)
{
    if (t->n_vacant == 0 && t->n_ids == t->cap_ids && !grow_ids(t)) {
        /* No room for more numbers: one entry gives its own. */
        while (t->n_vacant == 0 && t->n > 0)
            move_hand(t);
    }
    if (t->n_vacant > 0)
        return t->vacant[--t->n_vacant];
    if (t->n_ids == t->cap_ids)
        return 0;
    t->entries[t->n_ids] = NULL;
    return t->n_ids++;
}

bool
series_table_put(series_table *t, int32_t tenant_id, ps_str key, series_ref ref)
{
    uint32_t id = series_table_find(t, tenant_id, key);
    if (id != 0) {
        t->entries[id]->ref = ref;
        return true;
    }
    size_t taken = entry_bytes(key.len);
    if (key.len > UINT32_MAX / 2 || taken > t->max_bytes / 8)
        return false; /* one key must not push out everything else */
    size_t slots = ((size_t)t->bucket_mask + 1) * SERIES_BUCKET_SLOTS;
    if (t->n * 10 >= slots * 7)
        grow_buckets(t);
    if (!make_room(t, taken))
        return false;
    id = take_id(t);
    if (id == 0)
        return false;
    series_entry *e = make_room(t, taken) ? malloc(offsetof(series_entry, bytes) + key.len) : NULL;
    if (e == NULL) {
        t->vacant[t->n_vacant++] = id;
        return false;
    }
    uint64_t hash = hash_of(t, tenant_id, key);
    e->hash = hash;
    e->ref = ref;
    e->tenant_id = tenant_id;
    e->len = (uint32_t)key.len;
    atomic_init(&e->next, 0);
    atomic_init(&e->touched, 0);
    memcpy(e->bytes, key.ptr, key.len);
    series_slot *slot = free_slot(t, hash);
    if (slot == NULL)
        slot = evict_from_buckets(t, hash);
    *slot = (series_slot){.tag = tag_of(hash), .id = id};
    t->entries[id] = e;
    t->bytes += taken;
    t->n++;
    return true;
}

static bool
sorted_has(const int64_t *ids, size_t n, int64_t id)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (ids[mid] < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && ids[lo] == id;
}

size_t
series_table_delete_series(series_table *t, const int64_t *ids, size_t n)
{
    size_t before = t->n;
    for (uint32_t id = 1; id < t->n_ids; id++) {
        if (t->entries[id] != NULL && sorted_has(ids, n, t->entries[id]->ref.series_id))
            remove_entry(t, id);
    }
    return before - t->n;
}

void
series_table_clear(series_table *t)
{
    for (uint32_t id = 1; id < t->n_ids; id++) {
        if (t->entries[id] != NULL)
            remove_entry(t, id);
    }
}
