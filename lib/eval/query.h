/*
 * query.h of eval - one evaluation: what nodes share, for the files of the frame only.
 *
 * The query owns all memory: an arena for what lives as long as it, and an allocator that counts every
 * byte against the budget (atomically: pieces of the leaf run in several threads). Selections are
 * registered while nodes are built; the source is asked for all of them at once, before the first node
 * is opened.
 */
#ifndef PROMSCALE_EVAL_QUERY_H
#define PROMSCALE_EVAL_QUERY_H

#include <stdatomic.h>

#include "lib/eval/internal.h"

typedef struct ev_budget {
    ps_alloc under;
    size_t max; /* 0: none */
    atomic_size_t used, peak;
    atomic_bool refused; /* the budget, not the allocator, said no */
    /* The node that runs, if the query is explained: what is taken and given back meanwhile, by any thread,
     * is its. Set only while no other thread works. */
    ev_profile *profile;
} ev_budget;

struct ev_profile {                  /* of a node */
    size_t steps;                    /* of the run, while it is rehearsed */
    uint64_t expect;                 /* series; UINT64_MAX: nobody said */
    atomic_int_least64_t used, peak; /* heap */
    size_t arena;                    /* taken from the query's arena */
    int64_t total_ns;
    uint64_t series, points;
    uint64_t read_series, read_samples; /* of a leaf */
};

/* Samples that the steps of a grid looked at, as Prometheus counts them. */
struct ev_counts {
    uint64_t total;
    uint64_t *per_step; /* [n_steps], NULL: not asked for */
    size_t n_steps;
};

/* Annotations of a context: a list in order of first sight, small enough to be searched. */
typedef struct ev_note {
    bool info;
    uint64_t hash;
    const pql_expr *at;
    ps_str text; /* in the notes' arena; for gathered notes what stands before the figures */
    enum { EV_NOTE_PLAIN, EV_NOTE_MONOTONICITY, EV_NOTE_OVERLAP } kind;
    int64_t t_min, t_max;
    double bucket_min, bucket_max, max_diff;
    uint64_t n;
} ev_note;

struct ev_notes {
    ps_arena arena;
    ps_alloc alloc;
    ev_note *items;
    size_t n, cap;
    ps_buf text; /* of the note that is being made */
    bool failed; /* no memory for one */
};

struct ev_query {
    ev_env env;
    ev_options options;
    ev_budget budget;
    ps_alloc alloc; /* counts */
    ps_arena arena;
    ev_ctx ctx;
    ev_notes notes;
    ev_counts counts;
    pql_expr *expr;
    ps_str text;
    int64_t start_ms, end_ms, step_ms;
    ev_grid grid;
    bool range; /* asked as a range query */
    bool ran;
    ev_selection *selections;
    size_t n_selections, cap_selections;
    ev_series_list *lists; /* [n_selections] once selected */
    ev_node *root, *last_made;
    int stats_asked, stats_barred; /* while building: see stats_only.c */
    atomic_int_least64_t held, peak_held;
    atomic_uint_least64_t samples_read;
    bool explained, rehearses;
    size_t arena_mark;    /* what of the arena nodes were charged with */
    ev_reading *readings; /* [n_selections] while rehearsing */
    ev_result result;
};

void ev_notes_init(ev_notes *n, const ps_alloc *alloc);
void ev_notes_done(ev_notes *n);
void ev_notes_clear(ev_notes *n);
/* Appends those of `from`, as if they had been made there. */
void ev_notes_take(ev_notes *into, const ev_notes *from);
/* Whole texts in order, split by kind. */
ps_status ev_notes_texts(ev_ctx *c, const ps_str **ret_warnings, size_t *ret_n_warnings,
                         const ps_str **ret_infos, size_t *ret_n_infos) PS_MUST_CHECK;

/* A context for a piece of work that another thread may do. */
void ev_ctx_init(ev_ctx *c, ev_query *q, ev_notes *notes);
void ev_ctx_done(ev_ctx *c);
/* Takes notes and failure of a piece over; returns its status. */
ps_status ev_ctx_take(ev_ctx *c, ev_ctx *piece) PS_MUST_CHECK;
void ev_budget_init(ev_budget *b, const ps_alloc *under, size_t max);
ps_alloc ev_budget_alloc(ev_budget *b);
ps_alloc ev_budget_arena_alloc(ev_budget *b); /* not counted as any node's */
/* As ev_query_new() of one that is not prepared. */
ev_query *ev_query_init(const ev_env *env, const ev_options *options);
/* Builds the nodes of an expression (q->root). Samples of a subquery as the whole are counted in inner. */
ps_status ev_query_build(ev_query *q, const pql_expr *e, ev_counts *inner) PS_MUST_CHECK;
/* Parts of ev_query_run(): may it run; the run; a failure gets its words. */
ps_status ev_query_once(ev_query *q) PS_MUST_CHECK;
ps_status ev_query_run_now(ev_query *q) PS_MUST_CHECK;
ps_status ev_query_worded(ev_query *q, ps_status status) PS_MUST_CHECK;

/* Counts `samples` as looked at by a step / by each of the steps. */
static inline void
ev_count(ev_counts *counts, size_t step, uint64_t samples)
{
    counts->total += samples;
    if (counts->per_step != NULL)
        counts->per_step[step] += samples;
}

/* Registers what a leaf reads; equal selections share a number. */
ps_status ev_select(ev_ctx *c, const ev_selection *s, size_t *ret) PS_MUST_CHECK;
ev_selection ev_raw_selection(const ev_query *q, const pql_expr *e);
/* A raw range selector or subquery as the result of an instant query. */
ps_status ev_raw_range(ev_query *q, const pql_expr *e) PS_MUST_CHECK;

#endif
