/*
 * promql_series.c - _prom_ext.matching_series(selector): the series that a PromQL selector finds, for SQL
 * that deletes or counts them or decides how long they are kept. As the calling user sees them, in the
 * statement's snapshot. _prom_ext.canonical_selector(selector): what rules about series are known by.
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

static promql_source *
new_source(MemoryContext context)
{
    return promql_source_new(context, GetActiveSnapshot(), promql_memory_bytes());
}

/* The selector that the text holds, in the source's memory. */
static pql_selector *
parse(promql_source *src, const text *words)
{
    pql_error error;
    pql_expr *expr;
    ps_status st = pql_parse_selector(
        &src->arena, (ps_str){VARDATA_ANY(words), VARSIZE_ANY_EXHDR(words)}, &expr, &error);

    if (st == PS_ENOMEM)
        promql_no_memory();
    if (st != PS_OK)
        promql_raise_syntax(&error);
    check_not_all(src, expr);
    return &expr->selector;
}

/* Series of one metric alone: the selector with one matcher more. */
static void
of_metric(promql_source *src, pql_selector *selector, const text *name)
{
    const size_t n = selector->n_matchers;
    mdl_matcher *more = ps_arena_array(&src->arena, n + 1, sizeof(*more));

    if (more == NULL)
        promql_no_memory();
    more[0] = (mdl_matcher){.type = MDL_MATCH_EQ,
                            .name = PS_STR(MDL_METRIC_NAME),
                            .value = {VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)}};
    memcpy(more + 1, selector->matchers, n * sizeof(*more));
    selector->matchers = more;
    selector->n_matchers = n + 1;
}

static void
put_series(FunctionCallInfo fcinfo, const promql_list *list)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *)fcinfo->resultinfo;

    InitMaterializedSRF(fcinfo, 0);
    for (size_t i = 0; i < list->n; i++) { /* ascending by metric and series */
        Datum values[2] = {Int32GetDatum(list->rows[i].metric_id), Int64GetDatum(list->rows[i].id)};
        bool nulls[2] = {false};

        tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
    }
}

/* (selector) or (selector, metric_name): rows (metric_id, series_id). */
PGDLLEXPORT Datum matching_series(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(matching_series);
Datum
matching_series(PG_FUNCTION_ARGS)
{
    text *words = PG_GETARG_TEXT_PP(0);
    text *name = PG_NARGS() > 1 ? PG_GETARG_TEXT_PP(1) : NULL;
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "promscale series", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(context);
    promql_source *src = new_source(context);
    pql_selector *selector = parse(src, words);
    promql_list list;

    if (name != NULL)
        of_metric(src, selector, name);
    promql_select_matching(src, selector->matchers, selector->n_matchers, &list);
    MemoryContextSwitchTo(caller);
    put_series(fcinfo, &list);
    MemoryContextDelete(context);
    return (Datum)0;
}

static int
by_text(const void *a, const void *b)
{
    const mdl_matcher *x = a, *y = b;
    int c = ps_str_cmp(x->name, y->name);

    if (c == 0)
        c = (int)x->type - (int)y->type;
    return c != 0 ? c : ps_str_cmp(x->value, y->value);
}

/* (selector) -> the one way to write a selector with these matchers. */
PGDLLEXPORT Datum canonical_selector(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(canonical_selector);
Datum
canonical_selector(PG_FUNCTION_ARGS)
{
    text *words = PG_GETARG_TEXT_PP(0);
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "promscale selector", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(context);
    promql_source *src = new_source(context);
    pql_expr expr = {.kind = PQL_SELECTOR, .type = PQL_VECTOR, .selector = *parse(src, words)};
    pql_selector *s = &expr.selector;
    size_t n = 0;
    ps_buf out;

    s->name = (ps_str){"", 0}; /* it is among the matchers */
    qsort(s->matchers, s->n_matchers, sizeof(*s->matchers), by_text);
    for (size_t i = 0; i < s->n_matchers; i++) {
        if (n == 0 || by_text(&s->matchers[n - 1], &s->matchers[i]) != 0)
            s->matchers[n++] = s->matchers[i];
    }
    s->n_matchers = n;
    ps_buf_init(&out, &src->memory.alloc);
    pql_print(&out, &expr);
    if (out.failed)
        promql_no_memory();
    MemoryContextSwitchTo(caller);
    text *result = cstring_to_text_with_len(out.ptr, (int)out.len);
    MemoryContextDelete(context);
    PG_RETURN_TEXT_P(result);
}
