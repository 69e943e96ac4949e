/*
 * promql_explain.c - prom_api.promql_explain() and promql_explain_json(): the plan of a PromQL query.
 *
 * What reading would take comes from the block directory that the scan of the foreign table walks: rows
 * as the calling user sees them, of whose data nothing is looked at. A row tells how many samples of how
 * many series lie between which times and series; of those count the shares that are wanted. For the
 * newest samples only, rows are counted from the newest until every series should be found, as
 * fdw_newest.c reads them.
 */
#include "promql.h"

#include <math.h>

#include "access/detoast.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* ---- what reading would take ------------------------------------------------------------------------- */

enum { HEAD_BYTES = 3992 }; /* of a sealed block that is asked for the ends of its series */

typedef struct sums {
    double series, samples, bytes;
    uint64 blocks;
} sums;

static size_t
wanted_of(const fdw_merge *m, const blk_meta *meta)
{
    size_t first = fdw_wanted_seek(m, 0, meta->series_lo);

    if (meta->series_hi == PG_INT64_MAX)
        return m->n_wanted - first;
    return fdw_wanted_seek(m, first, meta->series_hi + 1) - first;
}

/* Returns how many of the wanted series it should have. */
static double
add_row(const ev_selection *sel, const fdw_merge *m, const fdw_block *block, sums *sum)
{
    const blk_meta *meta = &block->meta;
    size_t wanted = wanted_of(m, meta);
    double bytes = meta->n_samples * 2.0; /* those of rows in line are not kept without end */

    if (wanted == 0 || meta->n_series <= 0)
        return 0;
    if (block->data != NULL)
        bytes = (double)(toast_raw_datum_size(PointerGetDatum(block->data)) - VARHDRSZ);
    if (sel->newest_only && meta->format == BLK_FORMAT_COLUMNS && block->data != NULL &&
        VARATT_IS_EXTERNAL(block->data))
        bytes = Min(bytes, HEAD_BYTES);

    double series = Min((double)wanted, (double)meta->n_series);
    double samples = ev_expected_samples(sel->from_ms, sel->to_ms, meta->t_min_ms, meta->t_max_ms,
                                         meta->n_series, meta->n_samples);

    sum->blocks++;
    sum->bytes += bytes;
    sum->samples += series * samples;
    return series * Min(samples, 1);
}

static int
compare_end(const void *a, const void *b)
{
    int64 x = (*(fdw_block *const *)a)->meta.t_max_ms, y = (*(fdw_block *const *)b)->meta.t_max_ms;

    return (x < y) - (x > y);
}

/* Rows of the metric at which the scan stands. */
static void
add_metric(const ev_selection *sel, fdw_scan *scan, sums *sum)
{
    const fdw_merge *m = &scan->merge;
    double series = 0;
    size_t first, n;

    while (fdw_directory_next(&scan->directory, &first, &n)) {
        fdw_block **items = scan->directory.items + first;

        CHECK_FOR_INTERRUPTS();
        if (sel->newest_only && n > 1)
            qsort(items, n, sizeof(*items), compare_end);
        for (size_t i = 0; i < n; i++) {
            if (sel->newest_only && series >= (double)m->n_wanted)
                break;
            series += add_row(sel, m, items[i], sum);
        }
        if (sel->newest_only && series >= (double)m->n_wanted)
            break;
    }
    sum->series += Min(series, (double)m->n_wanted);
}

static void
estimate_one(promql_source *src, const ev_selection *sel, ev_series_list *ret,
             ev_reading *ret_reading)
{
    promql_list list;
    sums sum = {0};

    promql_select_matching(src, sel->matchers, sel->n_matchers, &list);
    if (list.n > 0) {
        fdw_scan *scan = fdw_scan_of_series(src->context, src->snapshot, list.rows, list.n,
                                            sel->from_ms, sel->to_ms);

        scan->backwards = sel->newest_only;
        while (fdw_scan_next_metric(scan))
            add_metric(sel, scan, &sum);
        MemoryContextDelete(scan->context);
    }
    if (sel->newest_only)
        sum.samples = Min(sum.samples, sum.series);
    *ret = (ev_series_list){.n = list.n, .labels = list.labels};
    *ret_reading = (ev_reading){.series = (uint64)ceil(sum.series),
                                .blocks = sum.blocks,
                                .samples = (uint64)ceil(sum.samples),
                                .bytes = (uint64)sum.bytes};
}

typedef struct estimating {
    const ev_selection *selections;
    size_t n;
    ev_series_list *ret;
    ev_reading *ret_readings;
} estimating;

static void
estimate_all(promql_source *src, void *arg)
{
    const estimating *e = arg;

    for (size_t i = 0; i < e->n; i++)
        estimate_one(src, &e->selections[i], &e->ret[i], &e->ret_readings[i]);
}

ps_status
promql_estimate(void *self, const ev_selection *selections, size_t n, ev_series_list *ret,
                ev_reading *ret_readings, ps_err *err)
{
    estimating e = {selections, n, ret, ret_readings};

    return promql_guarded(self, estimate_all, &e, err);
}

/* ---- functions ----------------------------------------------------------------------------------------- */

/* The plan of a query, rendered in the memory of its context, which is the current one from now on. */
static promql_source *
explain(text *query, int64 start_ms, int64 end_ms, int64 step_ms, bool analyze,
        void (*render)(ps_buf *out, const ev_plan *p), ps_str *ret)
{
    promql_source *src = promql_begin(query, start_ms, end_ms, step_ms);
    const ev_plan *plan;
    ps_buf out;
    ps_status st = ev_query_explain(src->query, analyze, &plan);

    if (st != PS_OK)
        promql_failed(src, st);
    ps_buf_init(&out, &src->memory.alloc);
    render(&out, plan);
    if (out.failed)
        promql_no_memory();
    if (plan->result != NULL)
        promql_notes(plan->result);
    *ret = ps_buf_str(&out);
    return src;
}

/* A row for each line. */
static Datum
explain_rows(FunctionCallInfo fcinfo, int64 start_ms, int64 end_ms, int64 step_ms, bool analyze)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *)fcinfo->resultinfo;
    MemoryContext caller = CurrentMemoryContext;
    ps_str rest;
    promql_source *src =
        explain(PG_GETARG_TEXT_PP(0), start_ms, end_ms, step_ms, analyze, ev_plan_text, &rest);

    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    while (rest.len > 0) {
        const char *end = memchr(rest.ptr, '\n', rest.len);
        size_t len = end == NULL ? rest.len : (size_t)(end - rest.ptr);
        Datum value = PointerGetDatum(cstring_to_text_with_len(rest.ptr, (int)len));
        bool null = false;

        tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &null);
        len += end != NULL;
        rest = (ps_str){rest.ptr + len, rest.len - len};
    }
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(src->context);
    return (Datum)0;
}

static Datum
explain_json(FunctionCallInfo fcinfo, int64 start_ms, int64 end_ms, int64 step_ms, bool analyze)
{
    MemoryContext caller = CurrentMemoryContext;
    ps_str json;
    promql_source *src =
        explain(PG_GETARG_TEXT_PP(0), start_ms, end_ms, step_ms, analyze, ev_plan_json, &json);
    char *text = pnstrdup(json.ptr, json.len);

    MemoryContextSwitchTo(caller);

    Datum result = DirectFunctionCall1(jsonb_in, CStringGetDatum(text));

    MemoryContextDelete(src->context);
    return result;
}

PGDLLEXPORT Datum promql_explain_instant(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promql_explain_instant);
Datum
promql_explain_instant(PG_FUNCTION_ARGS)
{
    int64 at = promql_time_ms(PG_GETARG_TIMESTAMPTZ(1), "at");

    return explain_rows(fcinfo, at, at, 0, PG_GETARG_BOOL(2));
}

PGDLLEXPORT Datum promql_explain_range(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promql_explain_range);
Datum
promql_explain_range(PG_FUNCTION_ARGS)
{
    int64 start, stop, step;

    promql_range_args(fcinfo, 1, &start, &stop, &step);
    return explain_rows(fcinfo, start, stop, step, PG_GETARG_BOOL(4));
}

PGDLLEXPORT Datum promql_explain_json_instant(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promql_explain_json_instant);
Datum
promql_explain_json_instant(PG_FUNCTION_ARGS)
{
    int64 at = promql_time_ms(PG_GETARG_TIMESTAMPTZ(1), "at");

    return explain_json(fcinfo, at, at, 0, PG_GETARG_BOOL(2));
}

PGDLLEXPORT Datum promql_explain_json_range(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promql_explain_json_range);
Datum
promql_explain_json_range(PG_FUNCTION_ARGS)
{
    int64 start, stop, step;

    promql_range_args(fcinfo, 1, &start, &stop, &step);
    return explain_json(fcinfo, start, stop, step, PG_GETARG_BOOL(4));
}
