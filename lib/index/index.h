/*
 * index.h - the label index: which series match these matchers?
 *
 * Holds, for any number of tenants, every series with its labels: label pairs once each with a sorted
 * list of the series that have them, the values of each label name in order, and the series of each
 * metric in the order of their label sets. A selection starts from the smallest such list and checks
 * what it finds there against the other matchers; regular expressions run once per distinct value.
 *
 * Series are added and deleted in any order and any number of times: ids are never used again by
 * whoever gives them, so a series that was deleted once stays deleted, even if it is "added" later by
 * somebody who is behind. What is added can be selected after the next idx_settle().
 *
 * Threads: none in here. One writer (pairs, add, delete, settle) or any number of readers (select,
 * stats) at a time: that is a read-write lock of the caller. Texts and label sets that a selection
 * gave out stay where they are until idx_free, whatever is added later.
 *
 * Memory: everything that is taken is counted, with what an allocator adds to it, against max_bytes.
 * Room of deleted series is not used again: when they are many (idx_stats), build a new index.
 */
#ifndef PROMSCALE_INDEX_H
#define PROMSCALE_INDEX_H

#include "lib/model/model.h"
#include "lib/regex/regex.h"

typedef struct idx idx;

/* max_bytes 0: no limit. seed: secret, for the tables that clients fill. */
ps_status idx_new(const ps_alloc *alloc, size_t max_bytes, uint64_t seed, idx **ret,
                  ps_err *err) PS_MUST_CHECK;
void idx_free(idx *x); /* NULL is fine */

/* ---- the writer ---------------------------------------------------------------------------- */

/*
 * All of these: PS_ELIMIT beyond max_bytes (or beyond 2^32 of anything), PS_ENOMEM; after either the
 * index answers nothing more and can only be freed.
 */

/* The number of a label pair of a tenant, made if it is new. Copies. */
ps_status idx_pair(idx *x, int32_t tenant_id, ps_str name, ps_str value, uint32_t *ret,
                   ps_err *err) PS_MUST_CHECK;
/* A series by its pairs (numbers of this tenant's pairs, in any order, names unique; sorted in place).
 * Nothing happens if the id is known, deleted or not. PS_EINVAL: no such pairs, or a name twice. */
ps_status idx_add(idx *x, int32_t tenant_id, int64_t series_id, int32_t metric_id, uint32_t *pairs,
                  size_t n, ps_err *err) PS_MUST_CHECK;
/* The same in one step. */
ps_status idx_add_labels(idx *x, int32_t tenant_id, int64_t series_id, int32_t metric_id,
                         mdl_labels labels, ps_err *err) PS_MUST_CHECK;
/* Also an id that was never added is remembered as deleted. Takes effect at once. */
ps_status idx_delete(idx *x, int64_t series_id, ps_err *err) PS_MUST_CHECK;
/* Puts what was added in order. */
ps_status idx_settle(idx *x, ps_err *err) PS_MUST_CHECK;

/* ---- readers ------------------------------------------------------------------------------- */

typedef struct idx_series {
    int64_t series_id;
    int32_t metric_id;
    mdl_labels labels; /* array in the arena, texts in the index */
} idx_series;

typedef struct idx_found {
    idx_series *items; /* ascending by mdl_labels_cmp */
    size_t n;
} idx_found;

/*
 * Series of the tenant that match all matchers; results and what is needed on the way are put into
 * `arena` (PS_ENOMEM: its budget is used up). max_series: beyond it PS_ELIMIT; 0 = no limit.
 * should_stop (may be NULL) is polled now and then: PS_ECANCELED. Before the first idx_settle, and
 * between adding and settling, PS_EINTERNAL.
 */
typedef struct idx_query {
    int32_t tenant_id;
    re_matcher *const *matchers;
    size_t n_matchers;
    size_t max_series;
    size_t limit;          /* only the first so many; 0 = all */
    const mdl_ids *within; /* NULL: any; else only series of this set */
    bool (*should_stop)(void *self);
    void *self;
} idx_query;
ps_status idx_select(const idx *x, const idx_query *q, ps_arena *arena, idx_found *ret,
                     ps_err *err) PS_MUST_CHECK;

/* Label names, or values of one label, of the series that any of n queries of one tenant selects:
 * ascending, each once, texts in the index. A query without matchers is answered without looking at
 * series one by one. `limit` and `max_series` do not matter. */
typedef struct idx_texts {
    ps_str *items;
    size_t n;
} idx_texts;
ps_status idx_names(const idx *x, const idx_query *queries, size_t n, ps_arena *arena,
                    idx_texts *ret, ps_err *err) PS_MUST_CHECK;
ps_status idx_values(const idx *x, ps_str name, const idx_query *queries, size_t n, ps_arena *arena,
                     idx_texts *ret, ps_err *err) PS_MUST_CHECK;
/* The metrics of what they select, in no order; `all`: to find out would mean to look at more than
 * max_series series, so it may be all of them. */
typedef struct idx_metric_ids {
    int32_t *items;
    size_t n;
    bool all;
} idx_metric_ids;
ps_status idx_metrics(const idx *x, const idx_query *queries, size_t n, ps_arena *arena,
                      idx_metric_ids *ret, ps_err *err) PS_MUST_CHECK;

/* The series of those metrics of a tenant for which key_of() gives a key that is not 0, which it is put under;
 * n_series: of the metric, deleted ones perhaps included. In no order, in the arena. Labels are not looked
 * at. */
typedef struct idx_keyed {
    int32_t key;
    int64_t series_id;
} idx_keyed;
typedef int32_t (*idx_key_fn)(void *self, int32_t metric_id, size_t n_series);
ps_status idx_series_of_metrics(const idx *x, int32_t tenant_id, idx_key_fn key_of, void *self,
                                ps_arena *arena, idx_keyed **ret, size_t *ret_n,
                                ps_err *err) PS_MUST_CHECK;

bool idx_knows(const idx *x, int64_t series_id); /* also one that was deleted */

typedef struct idx_stats {
    size_t bytes, max_bytes;
    uint64_t series, deleted; /* that can be selected; that only take room */
    uint64_t names, pairs;
} idx_stats;
idx_stats idx_get_stats(const idx *x);

/* What fills a tenant's part of the index: living series only, largest first. Texts are borrowed from the
 * index, arrays are in the arena; its budget must hold 4 bytes for each label pair. */
typedef struct idx_figure {
    ps_str name, value; /* value: of by_pair only */
    uint64_t count;
} idx_figure;
typedef struct idx_figures {
    idx_figure *items;
    size_t n;
} idx_figures;
typedef struct idx_cardinality_query {
    int32_t tenant_id;
    size_t limit; /* of each list */
    bool (*should_stop)(void *self);
    void *self;
} idx_cardinality_query;
typedef struct idx_cardinality {
    uint64_t series, pairs;
    idx_figures by_metric, by_pair;            /* series */
    idx_figures values_by_name, bytes_by_name; /* values; bytes that they take in here */
} idx_cardinality;
ps_status idx_get_cardinality(const idx *x, const idx_cardinality_query *q, ps_arena *arena,
                              idx_cardinality *ret, ps_err *err) PS_MUST_CHECK;

#endif
