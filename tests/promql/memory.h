/*
 * memory.h - series in memory, and a source over them for the engine.
 *
 * For the script runner, unit tests and fuzzers. Behaves like the store that scripts were written for:
 * counter reset hints of histograms are not what was appended but what reading back gives (see hints.c).
 *
 * A memory_store is filled by one thread; once it is settled any number of views may read it at the same
 * time. Everything that a view gives borrows from the store.
 */
#ifndef PROMSCALE_TESTS_PROMQL_MEMORY_H
#define PROMSCALE_TESTS_PROMQL_MEMORY_H

#include "lib/eval/eval.h"

typedef struct memory_sample {
    int64_t t_ms;
    int64_t start_ms; /* 0 = unknown */
    double v;
    const hst_hist *h; /* NULL: a float */
} memory_sample;

typedef struct memory_series {
    mdl_labels labels;
    size_t n, cap;
    memory_sample *samples; /* h as appended */
    const hst_hist **read;  /* h as it is read back; NULL before memory_settle() */
    bool histograms, starts;
} memory_series;

typedef struct memory_store {
    ps_arena arena; /* labels, histograms */
    size_t n, cap;
    memory_series **series; /* ascending by labels */
} memory_store;

void memory_init(memory_store *m);
void memory_done(memory_store *m);
void memory_clear(memory_store *m);
/* Labels are sorted and unique; copies them and the histogram. Times ascend within a series. PS_EINVAL:
 * they do not; PS_ENOMEM. */
ps_status memory_append(memory_store *m, mdl_labels labels, const memory_sample *sample,
                        ps_err *err) PS_MUST_CHECK;
/* After appending, before views are opened: works out the hints. */
ps_status memory_settle(memory_store *m) PS_MUST_CHECK;
/* The hints of one series (hints.c). */
ps_status memory_hints(ps_arena *arena, memory_series *s) PS_MUST_CHECK;

typedef struct memory_view {
    const memory_store *store;
    ps_arena arena;
    size_t reads;          /* calls of read(); atomic */
    size_t fail_read_from; /* this call of read() and all after it fail; 0: none */
} memory_view;

/* Memory of lists comes from alloc. The view must outlive the query. */
void memory_view_open(memory_view *v, const memory_store *store, const ps_alloc *alloc);
void memory_view_close(memory_view *v);
ev_source memory_view_source(memory_view *v);

#endif
