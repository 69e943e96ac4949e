/*
 * promql_series.c - _prom_ext.matching_series(selector): the series that a PromQL selector finds, for SQL
 * that deletes or counts them. As the calling user sees them, in the statement's snapshot.
 */
#include "promql.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* One that every series matches would find all of them: hardly what was meant. */
static void
check_not_all(const promql_source *src, const pql_expr *selector)
{
    for (size_t i = 0; i < selector->selector.n_matchers; i++) {
        const mdl_matcher *m = &selector->selector.matchers[i];
        re_matcher *compiled;
        ps_err err;

        bridge_check(re_matcher_new(&src->memory.alloc, m, &compiled, &err), &err);
        bool empty = re_matcher_matches_empty(compiled);
        re_matcher_free(compiled);
        if (!empty)
            return;
    }
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("a selector must contain at least one non-empty matcher"),
                    errhint("{__name__=~\".+\"} is every series.")));
}

PGDLLEXPORT Datum matching_series(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(matching_series);
Datum
matching_series(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *)fcinfo->resultinfo;
    text *words = PG_GETARG_TEXT_PP(0);
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "promscale series", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(context);
    promql_source *src = promql_source_new(context, GetActiveSnapshot(), promql_memory_bytes());
    pql_error error;
    pql_expr *selector;
    promql_list list;

    ps_status st =
        pql_parse_selector(&src->arena, (ps_str){VARDATA_ANY(words), VARSIZE_ANY_EXHDR(words)},
                           &selector, &error);
    if (st == PS_ENOMEM)
        promql_no_memory();
    if (st != PS_OK)
        promql_raise_syntax(&error);
    check_not_all(src, selector);
    promql_select_matching(src, selector->selector.matchers, selector->selector.n_matchers, &list);
    MemoryContextSwitchTo(caller);
    InitMaterializedSRF(fcinfo, 0);
    for (size_t i = 0; i < list.n; i++) { /* ascending by metric and series */
        Datum values[2] = {Int32GetDatum(list.rows[i].metric_id), Int64GetDatum(list.rows[i].id)};
        bool nulls[2] = {false};

        tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
    }
    MemoryContextDelete(context);
    return (Datum)0;
}
