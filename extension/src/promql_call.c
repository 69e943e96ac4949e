/*
 * promql_call.c - prom_api.promql(query, at) and prom_api.promql_range(query, start, stop, step): from
 * arguments to rows.
 *
 * A result goes into a tuplestore, which spills to disk beyond work_mem; what the engine holds until
 * then is bounded by promscale.promql_memory. Annotations become WARNING and NOTICE messages.
 */
#include "promql.h"

#include "histogram.h"

#include "common/int.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

enum { MAX_STEPS = 11000, COLUMNS = 4 };

static int memory_kb = 256 * 1024;
static int max_samples = 50000000;
static int lookback_ms = 300000;
static int subquery_step_ms = 60000;
static char *features = NULL;

/* ---- settings --------------------------------------------------------------------------------------- */

/* What Prometheus has behind feature flags, by its names. */
static bool
read_features(const char *list, pql_options *language, ev_options *engine, char **ret_unknown)
{
    const struct {
        const char *name;
        bool *flag; /* NULL: always on */
    } known[] = {{"promql-experimental-functions", &language->experimental_functions},
                 {"promql-extended-range-selectors", &language->extended_range},
                 {"promql-binop-fill-modifiers", &language->fill},
                 {"promql-delayed-name-removal", &engine->delayed_names},
                 {"use-start-timestamps", &engine->start_timestamps},
                 {"type-and-unit-labels", &engine->type_unit_labels},
                 {"promql-at-modifier", NULL},
                 {"promql-negative-offset", NULL},
                 {"promql-duration-expr", NULL}};
    List *words;
    ListCell *cell;
    bool ok = SplitIdentifierString(pstrdup(list), ',', &words);

    *ret_unknown = ok ? NULL : pstrdup(list);
    foreach (cell, words) {
        size_t i = 0;

        while (i < lengthof(known) && strcmp(known[i].name, lfirst(cell)) != 0)
            i++;
        if (i == lengthof(known)) {
            *ret_unknown = lfirst(cell);
            return false;
        }
        if (known[i].flag != NULL)
            *known[i].flag = true;
    }
    return ok;
}

static bool
check_features(char **value, void **extra, GucSource source)
{
    pql_options language = {0};
    ev_options engine = {0};
    char *unknown;

    if (read_features(*value, &language, &engine, &unknown))
        return true;
    GUC_check_errdetail("There is no feature \"%s\".", unknown);
    GUC_check_errhint(
        "Features are promql-experimental-functions, promql-extended-range-selectors, "
        "promql-binop-fill-modifiers, promql-delayed-name-removal.");
    return false;
}

void
promql_define_settings(void)
{
    DefineCustomIntVariable("promscale.promql_memory",
                            "Memory that one call of promql() or promql_range() may use.",
                            "Label sets, samples and what is computed from them.", &memory_kb,
                            memory_kb, 1024, MAX_KILOBYTES, PGC_USERSET, GUC_UNIT_KB, NULL, NULL,
                            NULL);
    DefineCustomIntVariable("promscale.promql_max_samples",
                            "Samples that one PromQL query may hold at the same time.", NULL,
                            &max_samples, max_samples, 1, PG_INT32_MAX, PGC_USERSET, 0, NULL, NULL,
                            NULL);
    DefineCustomIntVariable("promscale.promql_lookback",
                            "How far back an instant selector looks for the newest sample.", NULL,
                            &lookback_ms, lookback_ms, 1, PG_INT32_MAX, PGC_USERSET, GUC_UNIT_MS,
                            NULL, NULL, NULL);
    DefineCustomIntVariable("promscale.promql_subquery_step", "Step of subqueries that name none.",
                            NULL, &subquery_step_ms, subquery_step_ms, 1, PG_INT32_MAX, PGC_USERSET,
                            GUC_UNIT_MS, NULL, NULL, NULL);
    DefineCustomStringVariable("promscale.promql_features",
                               "Parts of PromQL that Prometheus has behind feature flags.",
                               "A list of its names, separated by commas.", &features, "",
                               PGC_USERSET, GUC_LIST_INPUT, check_features, NULL, NULL);
}

size_t
promql_memory_bytes(void)
{
    return (size_t)memory_kb * 1024;
}

/* ---- errors -------------------------------------------------------------------------------------------- */

static char *
c_string(ps_str s)
{
    char *copy = pnstrdup(s.len ? s.ptr : "", s.len);

    pg_verifymbstr(copy, strlen(copy), false);
    return copy;
}

void
promql_raise_syntax(const pql_error *error)
{
    bool gated = strstr(error->text, "enable") != NULL;

    ereport(ERROR,
            (errcode(ERRCODE_SYNTAX_ERROR), errmsg("%s", error->text),
             errdetail("Line %u, column %u of the PromQL query.", error->line, error->column),
             gated ? errhint("promscale.promql_features enables what Prometheus has behind "
                             "feature flags.")
                   : errhint("The language is that of Prometheus 3; strings are quoted with "
                             "double quotes.")));
}

void
promql_failed(promql_source *src, ps_status st)
{
    char *text = c_string(ev_query_error(src->query));

    ev_query_free(src->query);
    src->query = NULL;
    if (src->raised != NULL)
        ReThrowError(src->raised);
    /* the engine's own budget is the same as the allocator's */
    if (st == PS_ENOMEM ||
        (st == PS_ELIMIT && strstr(text, "memory") != NULL && strstr(text, "samples") == NULL))
        promql_no_memory();
    if (st == PS_ECANCELED)
        CHECK_FOR_INTERRUPTS();
    if (st == PS_ELIMIT)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("%s", text),
                        errhint("Ask for fewer series or a shorter time, or raise "
                                "promscale.promql_max_samples.")));
    ereport(ERROR, (errcode(st == PS_EINVAL ? ERRCODE_DATA_EXCEPTION : bridge_sqlstate(st)),
                    errmsg("%s", text)));
}

/* ---- rows ------------------------------------------------------------------------------------------------ */

static Datum
labels_datum(mdl_labels labels)
{
    JsonbParseState *state = NULL;

    pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
    for (size_t i = 0; i < labels.n; i++) {
        const mdl_label *l = &labels.items[i];
        JsonbValue key = {.type = jbvString}, value = {.type = jbvString};

        key.val.string.val = unconstify(char *, l->name.ptr);
        key.val.string.len = (int)l->name.len;
        value.val.string.val = unconstify(char *, l->value.ptr);
        value.val.string.len = (int)l->value.len;
        pushJsonbValue(&state, WJB_KEY, &key);
        pushJsonbValue(&state, WJB_VALUE, &value);
    }
    return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

static void
put_series(ReturnSetInfo *rsinfo, const ev_result_series *s, MemoryContext scratch)
{
    MemoryContext old = MemoryContextSwitchTo(scratch);
    Datum values[COLUMNS];

    values[2] = labels_datum(s->labels);
    for (size_t i = 0; i < s->n; i++) {
        bool nulls[COLUMNS] = {false};
        TimestampTz t;

        if ((i & 4095) == 0)
            CHECK_FOR_INTERRUPTS();
        if (!bridge_ms_to_timestamptz(s->t_ms[i], &t))
            continue; /* cannot happen: steps and samples are within timestamptz */
        values[0] = TimestampTzGetDatum(t);
        nulls[1] = s->h != NULL && s->h[i] != NULL;
        nulls[3] = !nulls[1];
        values[1] = nulls[1] ? (Datum)0 : Float8GetDatum(s->v[i]);
        values[3] = nulls[3] ? (Datum)0 : histogram_datum(s->h[i]);
        tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
    }
    MemoryContextSwitchTo(old);
    MemoryContextReset(scratch);
}

void
promql_notes(const ev_result *r)
{
    for (size_t i = 0; i < r->n_warnings; i++)
        ereport(WARNING, (errmsg("%s", c_string(r->warnings[i]))));
    for (size_t i = 0; i < r->n_infos; i++)
        ereport(NOTICE, (errmsg("%s", c_string(r->infos[i]))));
}

static void
put_result(FunctionCallInfo fcinfo, promql_source *src, const ev_result *r)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *)fcinfo->resultinfo;
    MemoryContext scratch =
        AllocSetContextCreate(src->context, "promscale rows", ALLOCSET_DEFAULT_SIZES);

    if (r->type == PQL_STRING)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("a PromQL query that gives a string cannot be a table"),
                        errhint("Ask for a vector or a scalar.")));
    for (size_t i = 0; i < r->n; i++)
        put_series(rsinfo, &r->series[i], scratch);
    promql_notes(r);
}

/* ---- running ----------------------------------------------------------------------------------------------- */

static ps_status
poll(void *unused)
{
    return bridge_interrupted(unused) ? PS_ECANCELED : PS_OK;
}

static int64
now_ns(void *unused)
{
    struct timespec t;

    (void)unused;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64)t.tv_sec * 1000000000 + t.tv_nsec;
}

promql_source *
promql_begin(text *query, int64 start_ms, int64 end_ms, int64 step_ms)
{
    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "promscale PromQL query",
                                                  ALLOCSET_DEFAULT_SIZES);

    MemoryContextSwitchTo(context);

    promql_source *src = promql_source_new(context, GetActiveSnapshot(), (size_t)memory_kb * 1024);
    ev_env env = {.alloc = src->memory.alloc,
                  .source = promql_source_for_engine(src),
                  .executor = ev_serial,
                  .poll = poll,
                  .now = now_ns};
    ev_options engine = {.lookback_ms = lookback_ms,
                         .subquery_step_ms = subquery_step_ms,
                         .max_samples = (uint64)max_samples,
                         .max_bytes = (size_t)memory_kb * 1024};
    pql_options language = {0};
    ps_str words = {VARDATA_ANY(query), VARSIZE_ANY_EXHDR(query)};
    pql_error error;
    pql_expr *expr;
    char *unknown;
    ps_status st;

    (void)read_features(features ? features : "", &language, &engine, &unknown);
    src->starts = engine.start_timestamps;
    st = pql_parse(&src->arena, words, &language, &expr, &error);
    if (st == PS_ENOMEM)
        promql_no_memory();
    if (st != PS_OK)
        promql_raise_syntax(&error);
    if (step_ms > 0 && expr->type != PQL_VECTOR && expr->type != PQL_SCALAR)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("invalid expression type \"%s\" for range query, must be Scalar or "
                               "instant Vector",
                               pql_type_text(expr->type))));
    st = ev_query_new(&env, &engine, expr, words, start_ms, end_ms, step_ms, &src->query);
    if (st != PS_OK)
        promql_failed(src, st);
    return src;
}

static void
run(FunctionCallInfo fcinfo, text *query, int64 start_ms, int64 end_ms, int64 step_ms)
{
    MemoryContext caller = CurrentMemoryContext;
    promql_source *src = promql_begin(query, start_ms, end_ms, step_ms);
    const ev_result *result = NULL;
    ps_status st;

    InitMaterializedSRF(fcinfo, 0);
    st = ev_query_run(src->query, &result);
    if (st != PS_OK)
        promql_failed(src, st);
    put_result(fcinfo, src, result);
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(src->context);
}

/* ---- functions ------------------------------------------------------------------------------------------------ */

int64
promql_time_ms(TimestampTz t, const char *name)
{
    if (TIMESTAMP_NOT_FINITE(t))
        ereport(ERROR,
                (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("%s must be finite", name)));
    return bridge_timestamptz_floor_ms(t);
}

PGDLLEXPORT Datum promql_instant(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promql_instant);
Datum
promql_instant(PG_FUNCTION_ARGS)
{
    int64 at = promql_time_ms(PG_GETARG_TIMESTAMPTZ(1), "at");

    run(fcinfo, PG_GETARG_TEXT_PP(0), at, at, 0);
    return (Datum)0;
}

static int64
step_of(const Interval *step)
{
    int64 us;

    if (step->month != 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("step must not have months or years"),
                        errhint("Months differ in length; use days.")));
    if (pg_mul_s64_overflow((int64)step->day, USECS_PER_DAY, &us) ||
        pg_add_s64_overflow(us, step->time, &us) || us < 1000)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("step must be at least a millisecond")));
    return us / 1000;
}

void
promql_range_args(FunctionCallInfo fcinfo, int first, int64 *ret_start_ms, int64 *ret_stop_ms,
                  int64 *ret_step_ms)
{
    int64 start = promql_time_ms(PG_GETARG_TIMESTAMPTZ(first), "start");
    int64 stop = promql_time_ms(PG_GETARG_TIMESTAMPTZ(first + 1), "stop");
    int64 step = step_of(PG_GETARG_INTERVAL_P(first + 2));

    if (stop < start)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("stop must not be before start")));
    if ((stop - start) / step > MAX_STEPS)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("promql_range() computes at most 11,000 points per series"),
                        errhint("Use a larger step, or a shorter range.")));
    *ret_start_ms = start;
    *ret_stop_ms = stop;
    *ret_step_ms = step;
}

PGDLLEXPORT Datum promql_range(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promql_range);
Datum
promql_range(PG_FUNCTION_ARGS)
{
    int64 start, stop, step;

    promql_range_args(fcinfo, 1, &start, &stop, &step);
    run(fcinfo, PG_GETARG_TEXT_PP(0), start, stop, step);
    return (Datum)0;
}
