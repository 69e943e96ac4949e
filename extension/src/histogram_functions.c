/*
 * histogram_functions.c - what SQL asks of a histogram and does with two: PromQL's functions and
 * operators on values of prom_api.histogram, computed by the same library.
 *
 * Where PromQL drops an element and warns (exponential buckets with custom ones), SQL has an error, since
 * a row cannot vanish from an expression; what PromQL only remarks on (custom bounds that differ and were
 * reduced to those in common, a reset that met its opposite) is a NOTICE.
 */
#include "histogram.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include <math.h>

/* ---- numbers ---------------------------------------------------------------------------------- */

static const hst_hist *
argument(FunctionCallInfo fcinfo, int i, histogram_work *w)
{
    histogram_work_init(w, CurrentMemoryContext, HISTOGRAM_WORK_BYTES);
    return histogram_of_datum(w, PG_GETARG_DATUM(i));
}

PGDLLEXPORT Datum promscale_histogram_count(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_count);
Datum
promscale_histogram_count(PG_FUNCTION_ARGS)
{
    histogram_work w;

    PG_RETURN_FLOAT8(argument(fcinfo, 0, &w)->count);
}

PGDLLEXPORT Datum promscale_histogram_sum(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_sum);
Datum
promscale_histogram_sum(PG_FUNCTION_ARGS)
{
    histogram_work w;

    PG_RETURN_FLOAT8(argument(fcinfo, 0, &w)->sum);
}

PGDLLEXPORT Datum promscale_histogram_avg(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_avg);
Datum
promscale_histogram_avg(PG_FUNCTION_ARGS)
{
    histogram_work w;
    const hst_hist *h = argument(fcinfo, 0, &w);

    PG_RETURN_FLOAT8(h->sum / h->count);
}

PGDLLEXPORT Datum promscale_histogram_stdvar(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_stdvar);
Datum
promscale_histogram_stdvar(PG_FUNCTION_ARGS)
{
    histogram_work w;

    PG_RETURN_FLOAT8(hst_variance(argument(fcinfo, 0, &w)));
}

PGDLLEXPORT Datum promscale_histogram_stddev(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_stddev);
Datum
promscale_histogram_stddev(PG_FUNCTION_ARGS)
{
    histogram_work w;

    PG_RETURN_FLOAT8(sqrt(hst_variance(argument(fcinfo, 0, &w))));
}

PGDLLEXPORT Datum promscale_histogram_quantile(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_quantile);
Datum
promscale_histogram_quantile(PG_FUNCTION_ARGS)
{
    hst_quantile_notes notes = {0};
    histogram_work w;

    PG_RETURN_FLOAT8(hst_quantile(argument(fcinfo, 1, &w), PG_GETARG_FLOAT8(0), &notes));
}

PGDLLEXPORT Datum promscale_histogram_fraction(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_fraction);
Datum
promscale_histogram_fraction(PG_FUNCTION_ARGS)
{
    hst_quantile_notes notes = {0};
    histogram_work w;

    PG_RETURN_FLOAT8(
        hst_fraction(argument(fcinfo, 2, &w), PG_GETARG_FLOAT8(0), PG_GETARG_FLOAT8(1), &notes));
}

/* ---- buckets ---------------------------------------------------------------------------------- */

/* Populated buckets from the lowest value upward. */
PGDLLEXPORT Datum promscale_histogram_buckets(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_buckets);
Datum
promscale_histogram_buckets(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *)fcinfo->resultinfo;
    histogram_work w;
    hst_iter it;
    hst_bucket b;

    InitMaterializedSRF(fcinfo, 0);
    hst_iter_up(&it, argument(fcinfo, 0, &w));
    while (hst_next(&it, &b)) {
        bool nulls[5] = {false};
        Datum values[5] = {Float8GetDatum(b.lower), Float8GetDatum(b.upper),
                           Float8GetDatum(b.count), BoolGetDatum(b.lower_in),
                           BoolGetDatum(b.upper_in)};

        if (b.count == 0)
            continue;
        CHECK_FOR_INTERRUPTS();
        tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
    }
    return (Datum)0;
}

/* ---- operators -------------------------------------------------------------------------------- */

BRIDGE_NORETURN static void
raise_mixed(ps_status st)
{
    if (st != PS_EINVAL)
        bridge_raise(st, NULL, NULL, NULL);
    ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                    errmsg("a histogram with custom buckets cannot be combined with one that has "
                           "exponential buckets")));
    pg_unreachable();
}

void
histogram_check_combined(ps_status st)
{
    if (st != PS_OK)
        raise_mixed(st);
}

void
histogram_tell(const hst_notes *notes)
{
    if (notes->bounds_reconciled)
        ereport(NOTICE, (errmsg("histograms with different custom bounds were reduced to the "
                                "bounds that they have in common")));
    if (notes->hint_collision)
        ereport(NOTICE, (errmsg("a histogram after a counter reset was combined with one that is "
                                "not after one")));
}

typedef ps_status (*combine_fn)(ps_arena *, const hst_hist *, const hst_hist *, hst_notes *,
                                const hst_hist **);

static Datum
combine(FunctionCallInfo fcinfo, combine_fn fn, bool gauge)
{
    hst_notes notes = {0};
    histogram_work w;
    const hst_hist *a = argument(fcinfo, 0, &w);
    const hst_hist *b = histogram_of_datum(&w, PG_GETARG_DATUM(1));
    const hst_hist *h = NULL;

    histogram_check_combined(fn(&w.arena, a, b, &notes, &h));
    if (gauge)
        histogram_check_combined(hst_with_hint(&w.arena, h, HST_GAUGE, &h));
    histogram_tell(&notes);
    return histogram_datum(h);
}

PGDLLEXPORT Datum promscale_histogram_add(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_add);
Datum
promscale_histogram_add(PG_FUNCTION_ARGS)
{
    PG_RETURN_DATUM(combine(fcinfo, hst_add, false));
}

/* A difference may go up and down: a gauge, as in PromQL. */
PGDLLEXPORT Datum promscale_histogram_sub(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_sub);
Datum
promscale_histogram_sub(PG_FUNCTION_ARGS)
{
    PG_RETURN_DATUM(combine(fcinfo, hst_sub, true));
}

static Datum
scale(FunctionCallInfo fcinfo, int histogram, bool divide)
{
    histogram_work w;
    const hst_hist *h = argument(fcinfo, histogram, &w);
    double by = PG_GETARG_FLOAT8(1 - histogram);
    ps_status st = divide ? hst_div(&w.arena, h, by, &h) : hst_mul(&w.arena, h, by, &h);

    bridge_check(st, NULL);
    return histogram_datum(h);
}

PGDLLEXPORT Datum promscale_histogram_mul(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_mul);
Datum
promscale_histogram_mul(PG_FUNCTION_ARGS)
{
    PG_RETURN_DATUM(scale(fcinfo, 0, false));
}

PGDLLEXPORT Datum promscale_histogram_mul_right(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_mul_right);
Datum
promscale_histogram_mul_right(PG_FUNCTION_ARGS)
{
    PG_RETURN_DATUM(scale(fcinfo, 1, false));
}

PGDLLEXPORT Datum promscale_histogram_div(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_div);
Datum
promscale_histogram_div(PG_FUNCTION_ARGS)
{
    PG_RETURN_DATUM(scale(fcinfo, 0, true));
}

static bool
same(FunctionCallInfo fcinfo)
{
    histogram_work w;
    const hst_hist *a = argument(fcinfo, 0, &w);

    return hst_equal(a, histogram_of_datum(&w, PG_GETARG_DATUM(1)));
}

PGDLLEXPORT Datum promscale_histogram_eq(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_eq);
Datum
promscale_histogram_eq(PG_FUNCTION_ARGS)
{
    PG_RETURN_BOOL(same(fcinfo));
}

PGDLLEXPORT Datum promscale_histogram_ne(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_ne);
Datum
promscale_histogram_ne(PG_FUNCTION_ARGS)
{
    PG_RETURN_BOOL(!same(fcinfo));
}
