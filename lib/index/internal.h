/*
 * internal.h of index - how it is kept.
 *
 * Everything is numbered from 0 in order of arrival and refers to other things by number: tenants,
 * names (of a tenant), pairs (of a name), metrics (of a tenant), slots (series). Numbers never change,
 * so lists of slots grow at their end and stay sorted. What has an order of its own has it twice: a
 * list in that order, and a rank in each element that makes comparing two of them one comparison of
 * integers. Both are made by idx_settle; what came since stands unsorted at the end of the list.
 *
 * A label set is an array of pair numbers in order of their names; two of them compare like the label
 * sets if each pair compares by (rank of its name, rank of its value).
 */
#ifndef PROMSCALE_INDEX_INTERNAL_H
#define PROMSCALE_INDEX_INTERNAL_H

#include "lib/index/index.h"

#define IDX_NONE UINT32_MAX
#define IDX_MAX_COUNT (UINT32_MAX - 1)

/* ---- memory: sort.c, memory.c ------------------------------------------------------------- */

/* Like realloc of n elements of `size`; counts, and keeps to the budget. */
ps_status idx_resize(idx *x, void **array, size_t old_n, size_t new_n, size_t size,
                     ps_err *err) PS_MUST_CHECK;
void idx_release(idx *x, void *array, size_t n, size_t size);
/* Makes room for one more in an array of n with room for *cap. */
ps_status idx_grow(idx *x, void **array, size_t n, size_t *cap, size_t size,
                   ps_err *err) PS_MUST_CHECK;
/* Bytes that stay where they are until idx_free. */
ps_status idx_keep(idx *x, size_t bytes, size_t align, void **ret, ps_err *err) PS_MUST_CHECK;

typedef int (*idx_cmp_fn)(const idx *x, uint32_t a, uint32_t b);
/* Stable merge sort; scratch holds n. */
void idx_sort(const idx *x, uint32_t *items, uint32_t *scratch, size_t n, idx_cmp_fn cmp);
/* By value; scratch holds n. Returns where the result is: items or scratch. */
uint64_t *idx_sort_u64(uint64_t *items, uint64_t *scratch, size_t n);

/* ---- lists of slots: postings.c ------------------------------------------------------------ */

/* Ascending slots, as differences in 7-bit groups. A single one is only `last`. */
typedef struct idx_postings {
    uint8_t *bytes;
    size_t cap;
    uint32_t len, n, last;
} idx_postings;
ps_status idx_postings_add(idx *x, idx_postings *p, uint32_t slot, ps_err *err) PS_MUST_CHECK;

typedef struct idx_walk {
    const uint8_t *p;
    uint32_t left, slot;
    bool single;
} idx_walk;
void idx_walk_begin(const idx_postings *p, idx_walk *w);
static inline bool
idx_walk_next(idx_walk *w)
{
    if (w->left == 0)
        return false;
    w->left--;
    if (w->single)
        return true;
    uint32_t step = 0;
    for (unsigned shift = 0;; shift += 7) {
        uint32_t b = *w->p++;
        step |= (b & 127) << shift;
        if (b < 128)
            break;
    }
    w->slot += step;
    return true;
}

/* ---- pairs: pairs.c ------------------------------------------------------------------------- */

typedef struct idx_key { /* of a pair: all that comparing needs */
    uint32_t name;
    uint32_t rank; /* of the value among those of the name */
} idx_key;

typedef struct idx_pair_entry {
    mdl_label label;
    idx_postings slots;
    uint32_t hash;
    uint32_t metric; /* of all its slots; IDX_NONE: of several, or no slot yet */
} idx_pair_entry;

typedef struct idx_name {
    ps_str text;
    uint32_t tenant;
    uint32_t rank;    /* among the tenant's */
    uint32_t *values; /* pairs, the first n_sorted in order of their values */
    size_t n, n_sorted, cap;
} idx_name;

typedef struct idx_tenant {
    int32_t id;
    uint32_t *names; /* always in order */
    size_t n_names, cap_names;
    uint32_t *metrics;
    size_t n_metrics, cap_metrics;
    bool names_came; /* ranks are to be made */
} idx_tenant;

/* Position in x->tenants_by_id, and whether it is there. */
bool idx_tenant_find(const idx *x, int32_t id, size_t *ret_at);
/* IDX_NONE: there is none. */
uint32_t idx_name_find(const idx *x, uint32_t tenant, ps_str text);
uint32_t idx_pair_find(const idx *x, uint32_t name, ps_str value);
ps_status idx_tenant_get(idx *x, int32_t id, uint32_t *ret, ps_err *err) PS_MUST_CHECK;
ps_status idx_pairs_settle(idx *x, ps_err *err) PS_MUST_CHECK;
/* First of the name's sorted values that is >= value. */
size_t idx_values_seek(const idx *x, const idx_name *name, ps_str value);

/* ---- series: series.c ------------------------------------------------------------------------ */

typedef struct idx_slot {
    int64_t id;
    const uint32_t *pairs; /* their number first; NULL: never added, only deleted */
    uint32_t metric;
    uint32_t pos; /* in the metric's order; IDX_NONE: deleted */
} idx_slot;

typedef struct idx_metric {
    uint32_t tenant;
    int32_t id;
    uint32_t added;  /* slots ever */
    uint32_t *order; /* slots, the first n_sorted in order of their label sets */
    size_t n, n_sorted, cap;
    bool dirty; /* in x->dirty_metrics */
} idx_metric;

static inline bool
idx_slot_alive(const idx_slot *s)
{
    return s->pos != IDX_NONE;
}

/* IDX_NONE: nobody has heard of it. */
uint32_t idx_slot_find(const idx *x, int64_t id);
/* Are so few ids wanted that each is looked up, instead of going through so many candidates? */
static inline bool
idx_few_within(const mdl_ids *within, uint64_t n_candidates)
{
    return within != NULL && within->count < n_candidates / 4;
}
/* Calls fn for each slot of those ids that is alive and the tenant's, until it fails; in no order. */
typedef ps_status (*idx_slot_fn)(void *self, uint32_t slot);
ps_status idx_each_within(const idx *x, const mdl_ids *within, uint32_t tenant, idx_slot_fn fn,
                          void *self) PS_MUST_CHECK;
int idx_slot_cmp(const idx *x, uint32_t a, uint32_t b);
ps_status idx_series_settle(idx *x, ps_err *err) PS_MUST_CHECK;

/* ---- selecting: select.c ---------------------------------------------------------------------- */

typedef struct idx_slots {
    uint32_t *items;
    size_t n;
    bool sorted;   /* they are in order of their label sets */
    bool too_many; /* nothing was looked at: there are more candidates than that */
} idx_slots;
/* What the query selects, in any order. max_candidates 0: no limit. */
ps_status idx_find_slots(const idx *x, const idx_query *q, uint64_t max_candidates, ps_arena *arena,
                         idx_slots *ret, ps_err *err) PS_MUST_CHECK;

/* ---- the whole -------------------------------------------------------------------------------- */

struct idx {
    ps_alloc alloc;
    size_t bytes, max_bytes;
    uint64_t seed;
    bool broken;  /* memory ran out half-way through a change */
    bool settled; /* nothing stands unsorted */

    char *keep; /* what is left of the last chunk of kept bytes */
    size_t keep_left;
    struct idx_chunk *chunks;

    idx_tenant *tenants;
    size_t n_tenants, cap_tenants;
    uint32_t *tenants_by_id; /* as many */
    size_t cap_tenants_by_id;

    idx_name *names;
    size_t n_names, cap_names;
    uint32_t *dirty_names;
    size_t n_dirty_names, cap_dirty_names;

    idx_key *keys; /* of pairs */
    size_t cap_keys;
    idx_pair_entry *pairs;
    size_t n_pairs, cap_pairs;
    uint32_t *pair_table; /* open addressing, number + 1 */
    size_t cap_pair_table;

    idx_metric *metrics;
    size_t n_metrics, cap_metrics;
    uint32_t *metric_table;
    size_t cap_metric_table;
    uint32_t *dirty_metrics;
    size_t n_dirty_metrics, cap_dirty_metrics;

    idx_slot *slots;
    size_t n_slots, cap_slots, n_dead;
    uint32_t *slot_table;
    size_t cap_slot_table;
};

/* Marks the index as unusable when a change failed; passes status on. */
ps_status idx_changed(idx *x, ps_status status);
ps_status idx_check_usable(const idx *x, ps_err *err) PS_MUST_CHECK;

static inline uint64_t
idx_mix(uint64_t v, uint64_t seed)
{
    v ^= seed;
    v *= UINT64_C(0x9e3779b97f4a7c15);
    v ^= v >> 32;
    v *= UINT64_C(0xd6e8feb86659fd93);
    return v ^ v >> 29;
}

#endif
