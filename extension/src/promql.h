/*
 * promql.h - PromQL in SQL: prom_api.promql(), promql_range(), promql_explain(). Private to promql_*.c.
 *
 *   promql_call     arguments, settings, the engine's run, rows and errors
 *   promql_source   what the engine reads: series and samples, found once per query
 *   promql_select   which series match
 *   promql_series   the same as a function of its own
 *   promql_explain  the plan of a query, with what it would read
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
    int64 from_ms, to_ms; /* series without samples then may be left out; all time, if not set */
} promql_source;

/* context is deleted by the caller. */
promql_source *promql_source_new(MemoryContext context, Snapshot snapshot, size_t max_bytes);
ev_source promql_source_for_engine(promql_source *src);

/* The series that match the compiled matchers of src. Raises. */
void promql_select(promql_source *src, const mdl_matcher *name, promql_list *ret);
/* body(src, arg); what it raises is kept in src, and the engine told so. */
ps_status promql_guarded(promql_source *src, void (*body)(promql_source *src, void *arg), void *arg,
                         ps_err *err);
/* ev_source.estimate: no samples are read. */
ps_status promql_estimate(void *self, const ev_selection *selections, size_t n, ev_series_list *ret,
                          ev_reading *ret_readings, ps_err *err);

/* A query that is ready to run: src->query. From here to the end the current memory context is its own,
 * src->context, which the caller deletes. Raises. */
promql_source *promql_begin(text *query, int64 start_ms, int64 end_ms, int64 step_ms);
/* The query did not succeed. */
BRIDGE_NORETURN void promql_failed(promql_source *src, ps_status st);
void promql_notes(const ev_result *r); /* as messages */
int64 promql_time_ms(TimestampTz t, const char *name);
/* start, stop and step are arguments `first` and the next two. */
void promql_range_args(FunctionCallInfo fcinfo, int first, int64 *ret_start_ms, int64 *ret_stop_ms,
                       int64 *ret_step_ms);

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
