/*
 * run.h - runs scripts over the engine and counts what holds.
 */
#ifndef PROMSCALE_TESTS_PROMQL_RUN_H
#define PROMSCALE_TESTS_PROMQL_RUN_H

#include <stdio.h>

#include "tests/promql/memory.h"
#include "tests/promql/script.h"

typedef struct run_options {
    bool rewrites; /* each instant query in further forms, see rewrite.c */
    bool verbose;  /* a line for what holds, too */
    size_t only;   /* the command that begins at this line, 0: all (data is loaded anyway) */
    const ev_executor *executor;
    FILE *out;
} run_options;

typedef struct run_counts {
    size_t passed, failed;
} run_counts;

void run_script(const char *file, ps_str text, const run_options *options, memory_store *store,
                run_counts *counts);
/* Only what the load and clear commands say. */
ps_status run_loads(ps_str text, memory_store *store, ps_err *err) PS_MUST_CHECK;

/* The script as lines of JSON, with the engine's answers (export.c). */
ps_status run_export(ps_str text, FILE *to, ps_err *err) PS_MUST_CHECK;

/* One evaluation with the settings that scripts are made for. */
typedef struct run_query {
    ps_arena arena;
    memory_view view;
    ev_query *q;
    const ev_result *result; /* NULL after a failure */
    pql_type type;           /* of the expression */
    bool parsed;
    pql_error parse_error;
} run_query;
/* Whatever it returns, run_query_done() follows. The text must live until then. */
ps_status run_query_start(run_query *r, const memory_store *store, const ev_executor *executor,
                          ps_str text, int64_t start_ms, int64_t end_ms,
                          int64_t step_ms) PS_MUST_CHECK;
ps_str run_query_error(const run_query *r);
void run_query_done(run_query *r);
/* All that the language has. */
extern const pql_options run_language;

/*
 * The same query with "@ t" at every selector and subquery that has none, as text (rewrite.c). False:
 * its result depends on when it is asked, so that it would be another query; or it does not parse.
 */
bool rewrite_at(ps_str text, int64_t t_ms, ps_buf *out);

#endif
