/*
 * promql.h - PromQL in SQL: prom_api.promql() and prom_api.promql_range(). Private to promql_*.c.
 *
 *   promql_call     arguments, settings, the engine's run, rows and errors
 *   promql_source   what the engine reads: series and samples, found once per query
 *   promql_select   which series match
 *   promql_series   the same as a function of its own
 *
 * The engine (lib/eval) runs in the backend, in one thread. It reads through the same scan as the
 * foreign table: SQL through SPI, as the calling user, in the snapshot of the calling statement; so
 * rights and row-level security are the gate, and a query sees what the statement sees.
 *
 * No longjmp passes the engine: callbacks catch what PostgreSQL raises, keep it, and answer with a
 * status; it is raised again when the engine has returned. All memory (the engine's, label sets,
 * samples) comes from one context through one allocator with a budget (promscale.promql_memory); only
 * compiled regular expressions are elsewhere, and the context's end frees them.
 */
#ifndef PROMSCALE_PROMQL_SQL_H
#define PROMSCALE_PROMQL_SQL_H

#include "postgres.h"

#include "bridge.h"
#include "fdw.h"
#include "utils/hsearch.h"

#include "lib/eval/eval.h"
#include "lib/regex/regex.h"

typedef struct promql_list { /* one selection's series, ascending by label set */
    fdw_series *rows;        /* ascending by (metric, id), for the scan */
    uint32 *order;           /* rows[i] is series order[i] of the selection */
    mdl_labels *labels;      /* by series */
    size_t n;
} promql_list;

typedef struct promql_source {
    MemoryContext context; /* of the query; all of this lives in it */
    Snapshot snapshot;
    bridge_alloc memory;
    ps_arena arena;        /* label sets, samples */
    HTAB *labels;          /* label ids to texts */
    HTAB *tenants;         /* tenant ids to names, as they come */
    ErrorData *raised;     /* by PostgreSQL inside a callback */
    re_matcher **matchers; /* of the selection under way */
    size_t n_matchers;
    ev_query *query;
    bool starts; /* start timestamps are wanted; set by the caller */
} promql_source;

/* context is deleted by the caller. */
promql_source *promql_source_new(MemoryContext context, Snapshot snapshot, size_t max_bytes);
ev_source promql_source_for_engine(promql_source *src);

/* The series that match the compiled matchers of src. Raises. */
void promql_select(promql_source *src, const mdl_matcher *name, promql_list *ret);

/* The same for matchers that are not compiled yet. Raises. */
void promql_select_matching(promql_source *src, const mdl_matcher *matchers, size_t n,
                            promql_list *ret);

BRIDGE_NORETURN void promql_no_memory(void);
/* ... or what the parser says of the text. */
BRIDGE_NORETURN void promql_raise_syntax(const pql_error *error);
/* Setting promscale.promql_memory in bytes. */
size_t promql_memory_bytes(void);

void promql_define_settings(void);

#endif
