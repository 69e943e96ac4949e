/*
 * oracle.h - what the index must answer, the slow way: every live series asked in turn.
 */
#ifndef PROMSCALE_TESTS_UNIT_INDEX_ORACLE_H
#define PROMSCALE_TESTS_UNIT_INDEX_ORACLE_H

#include <stdio.h>

#include "lib/index/index.h"
#include "tests/unit/support.h"

enum { ORACLE_LABELS = 8, ORACLE_TEXT = 24 };

typedef struct oracle_series {
    int64_t id;
    int32_t tenant_id, metric_id;
    bool deleted;
    size_t n;
    mdl_label labels[ORACLE_LABELS];
    char names[ORACLE_LABELS][ORACLE_TEXT], values[ORACLE_LABELS][ORACLE_TEXT];
} oracle_series;

static inline void
oracle_label(oracle_series *s, const char *name, const char *value)
{
    assert_true(s->n < ORACLE_LABELS);
    snprintf(s->names[s->n], ORACLE_TEXT, "%s", name);
    snprintf(s->values[s->n], ORACLE_TEXT, "%s", value);
    s->n++;
}

/* Sorts, and points the labels at their texts. */
static inline mdl_labels
oracle_labels(oracle_series *s)
{
    for (size_t i = 0; i < s->n; i++)
        s->labels[i] = (mdl_label){ps_str_c(s->names[i]), ps_str_c(s->values[i])};
    for (size_t i = 1; i < s->n; i++) {
        mdl_label v = s->labels[i];
        size_t j = i;
        for (; j > 0 && ps_str_cmp(s->labels[j - 1].name, v.name) > 0; j--)
            s->labels[j] = s->labels[j - 1];
        s->labels[j] = v;
    }
    return (mdl_labels){s->labels, s->n};
}

static inline int
oracle_compare(const void *a, const void *b)
{
    const oracle_series *x = *(oracle_series *const *)a, *y = *(oracle_series *const *)b;
    return mdl_labels_cmp((mdl_labels){x->labels, x->n}, (mdl_labels){y->labels, y->n});
}

static inline void
oracle_check(const idx *x, oracle_series *all, size_t n_all, int32_t tenant_id,
             re_matcher *const *matchers, size_t n_matchers)
{
    oracle_series **want = calloc(n_all + 1, sizeof(*want));
    size_t n = 0;
    for (size_t i = 0; i < n_all; i++) {
        oracle_series *s = &all[i];
        if (!s->deleted && s->tenant_id == tenant_id &&
            re_matchers_match(matchers, n_matchers, (mdl_labels){s->labels, s->n}))
            want[n++] = s;
    }
    qsort(want, n, sizeof(*want), oracle_compare);

    ps_arena arena;
    ps_err err;
    idx_found found;
    ps_arena_init(&arena, &ps_malloc, 0);
    idx_query q = {.tenant_id = tenant_id, .matchers = matchers, .n_matchers = n_matchers};
    assert_int_equal(idx_select(x, &q, &arena, &found, &err), PS_OK);
    assert_int_equal(found.n, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(found.items[i].series_id, want[i]->id);
        assert_int_equal(found.items[i].metric_id, want[i]->metric_id);
        assert_true(
            mdl_labels_eq(found.items[i].labels, (mdl_labels){want[i]->labels, want[i]->n}));
    }
    ps_arena_done(&arena);
    free(want);
}

#endif
