/*
 * fdw_estimate.c - how much a metric holds within bounds, cheaply.
 *
 * The density of a metric (samples per millisecond) changes slowly. So at most a few hundred block
 * rows of the metric are looked at, of the last day of the wanted range; the rest is multiplication by
 * the length of the range, from the first day that has data (found by bisection, roughly). If the last
 * day is empty, a day in the middle or the first day stands for all. Each look is one statement by
 * primary key, pruned to two partitions, about a tenth of a millisecond whatever the number of
 * partitions; there are two to six. A range without ends is the one that the day partitions cover:
 * their bounds are read from the relation's descriptor, which says nothing of anybody's data. The
 * number of series is counted up to 1000, then taken from the fullest block seen.
 *
 * Bounds are what the expressions give while planning (so now() - interval '1 h' counts as of now);
 * values that are not known yet (parameters of generic plans, joins) count as a default fraction.
 * Packed rows of small metrics are not looked at: whatever exists is small then, and FEW_SAMPLES says
 * so. Only rows that the caller may see are counted.
 */
#include "fdw.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "optimizer/optimizer.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/selfuncs.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

enum {
    FEW_SAMPLES = 1000,        /* when nothing is seen */
    MAX_METRICS_LOOKED_AT = 4, /* the others are taken to be like these */
    DEFAULT_METRICS = 500,     /* wanted, when nothing is said of metrics */
    DEFAULT_ANY = 10,          /* elements of an array that is not known yet */
    SERIES_COUNTED = 1000,     /* LIMIT in the statement */
    ARM_ROWS = 128,            /* LIMIT in the statement for block and for merged */
    BISECTIONS = 4,
};

typedef struct density {
    double samples, series_max, series_sum;
    double rows;
    int64 first_ms, last_ms; /* covered by the rows seen */
    bool cut;                /* a LIMIT was reached: the rows cover only a part of the window */
} density;

/* Folds the conditions whose values are known while planning; returns the others' time factor. */
static double
known_want(PlannerInfo *root, const fdw_quals *quals, fdw_want *want, double *ret_metrics)
{
    double fraction = 1;
    int unknown_bounds = 0;
    ListCell *kind, *type, *value;

    fdw_want_init(want);
    forthree(kind, quals->cond_kinds, type, quals->cond_types, value, quals->cond_values)
    {
        fdw_cond_kind k = lfirst_int(kind);
        Node *node = estimate_expression_value(root, lfirst(value));

        if (IsA(node, Const)) {
            Const *c = (Const *)node;

            fdw_want_narrow(want, k, lfirst_oid(type), c->constvalue, c->constisnull);
        } else if (k == FDW_METRIC_EQ || k == FDW_METRIC_ANY) {
            *ret_metrics = Min(*ret_metrics, k == FDW_METRIC_EQ ? 1 : DEFAULT_ANY);
        } else if (k >= FDW_TIME_LT) {
            unknown_bounds++;
        }
    }
    if (unknown_bounds == 1)
        fraction = DEFAULT_INEQ_SEL;
    else if (unknown_bounds > 1)
        fraction = DEFAULT_RANGE_INEQ_SEL;
    return fraction;
}

static void
look_at_row(density *d, HeapTuple tuple, TupleDesc desc, int *place_rows)
{
    bool isnull;
    int place = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
    double samples = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull));
    double series = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
    int64 t_min =
        bridge_timestamptz_floor_ms(DatumGetTimestampTz(SPI_getbinval(tuple, desc, 4, &isnull)));
    int64 t_max =
        bridge_timestamptz_floor_ms(DatumGetTimestampTz(SPI_getbinval(tuple, desc, 5, &isnull)));

    d->samples += samples;
    d->series_max = Max(d->series_max, series);
    d->series_sum += series;
    d->first_ms = d->rows == 0 ? t_min : Min(d->first_ms, t_min);
    d->last_ms = d->rows == 0 ? t_max : Max(d->last_ms, t_max);
    d->rows++;
    if (place >= 0 && place < FDW_TABLE_N && ++place_rows[place] >= ARM_ROWS)
        d->cut = true;
}

static void
look(int32 metric_id, int64 from_ms, int64 to_ms, density *ret)
{
    TimestampTz from = 0, to = 0, day = 0;
    int place_rows[FDW_TABLE_N] = {0};

    *ret = (density){0};
    if (!bridge_ms_to_timestamptz(from_ms, &from) || !bridge_ms_to_timestamptz(to_ms, &to) ||
        !bridge_ms_to_timestamptz(Max(mdl_day_start_ms(from_ms), MDL_TIME_MIN_MS), &day))
        return;

    Datum values[4] = {Int32GetDatum(metric_id), TimestampTzGetDatum(from), TimestampTzGetDatum(to),
                       TimestampTzGetDatum(day)};
    uint64 n = fdw_spi_run(FDW_STMT_EST_BLOCKS, values, 0);

    for (uint64 i = 0; i < n; i++)
        look_at_row(ret, SPI_tuptable->vals[i], SPI_tuptable->tupdesc, place_rows);
    SPI_freetuptable(SPI_tuptable);
}

static double
count_of(fdw_stmt stmt, Datum arg)
{
    bool isnull;
    double n = 0;

    if (fdw_spi_run(stmt, &arg, 1) == 1)
        n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    SPI_freetuptable(SPI_tuptable);
    return n;
}

/* The range that the day partitions cover; false if there are none. */
static bool
partitions_range(int64 *ret_from_ms, int64 *ret_to_ms)
{
    Oid schema = get_namespace_oid("_prom_data", true);
    Oid table = OidIsValid(schema) ? get_relname_relid("block", schema) : InvalidOid;
    bool found = false;

    if (!OidIsValid(table) || get_rel_relkind(table) != RELKIND_PARTITIONED_TABLE)
        return false;

    Relation rel = table_open(table, AccessShareLock);
    PartitionBoundInfo bounds = RelationGetPartitionDesc(rel, true)->boundinfo;

    if (bounds != NULL && bounds->strategy == PARTITION_STRATEGY_RANGE && bounds->ndatums > 1 &&
        bounds->kind[0][0] == PARTITION_RANGE_DATUM_VALUE &&
        bounds->kind[bounds->ndatums - 1][0] == PARTITION_RANGE_DATUM_VALUE) {
        *ret_from_ms = bridge_timestamptz_floor_ms(DatumGetTimestampTz(bounds->datums[0][0]));
        *ret_to_ms = bridge_timestamptz_floor_ms(
            DatumGetTimestampTz(bounds->datums[bounds->ndatums - 1][0]));
        found = true;
    }
    table_close(rel, AccessShareLock);
    return found;
}

/* Cuts what is wanted to where data may be: not after now, and open ends to the partitions'. */
static void
clip_range(const fdw_want *want, int64 *ret_from_ms, int64 *ret_to_ms)
{
    int64 now_ms = bridge_timestamptz_floor_ms(GetCurrentTimestamp());
    int64 oldest_ms = now_ms - MDL_DAY_MS, newest_ms = now_ms;
    int64 from_ms = want->from_ms, to_ms = Min(want->to_ms, now_ms);

    if ((from_ms == MDL_TIME_MIN_MS || to_ms == now_ms) &&
        partitions_range(&oldest_ms, &newest_ms)) {
        if (from_ms == MDL_TIME_MIN_MS)
            from_ms = Min(oldest_ms, to_ms);
        to_ms = Min(to_ms, Max(newest_ms, from_ms));
    } else if (from_ms == MDL_TIME_MIN_MS) {
        from_ms = to_ms - MDL_DAY_MS;
    }
    *ret_from_ms = from_ms;
    *ret_to_ms = Max(to_ms, from_ms);
}

/* Where the metric's data begin in [from_ms, with_data_ms]; the later end is known to have some. */
static int64
first_data(int32 metric_id, int64 from_ms, int64 with_data_ms)
{
    int64 without_ms = from_ms, probe_ms = from_ms;

    for (int i = 0; i <= BISECTIONS && probe_ms < with_data_ms; i++) {
        density d;

        look(metric_id, probe_ms, Min(probe_ms + MDL_DAY_MS, with_data_ms), &d);
        if (d.rows > 0)
            with_data_ms = probe_ms;
        else
            without_ms = probe_ms;
        probe_ms = without_ms + (with_data_ms - without_ms) / 2;
    }
    return with_data_ms;
}

/* Adds one metric's share to *ret. */
static void
estimate_metric(int32 metric_id, int64 from_ms, int64 to_ms, fdw_estimate *ret)
{
    density d;
    int64 window_ms = Min(to_ms - from_ms, MDL_DAY_MS);
    int64 rest_ms = to_ms - from_ms - window_ms;
    double series = count_of(FDW_STMT_EST_SERIES, Int32GetDatum(metric_id));

    look(metric_id, to_ms - window_ms, to_ms, &d);
    if (d.rows > 0 && rest_ms > 0)
        from_ms = first_data(metric_id, from_ms, to_ms - window_ms);
    for (int i = 1; i >= 0 && d.rows == 0 && rest_ms > 0; i--)
        look(metric_id, from_ms + rest_ms / 2 * i, from_ms + rest_ms / 2 * i + window_ms, &d);
    if (d.rows == 0) {
        ret->samples += FEW_SAMPLES;
        ret->blocks += 1;
    } else {
        double range_ms = (double)(to_ms - from_ms) + 1;
        double covered_ms = (double)(d.last_ms - d.first_ms) + 1;
        double scale = d.cut ? range_ms / covered_ms : range_ms / ((double)window_ms + 1);

        /* rows that reach beyond the range count by what of them lies inside */
        if (covered_ms > range_ms)
            scale = range_ms / covered_ms;
        ret->samples += Max(d.samples * scale, 1);
        ret->blocks += Max(d.rows * scale, 1);
        ret->series_per_block = Max(ret->series_per_block, d.series_sum / d.rows);
    }
    ret->series += Max(series >= SERIES_COUNTED ? Max(series, d.series_max) : series, 1);
}

void
fdw_estimate_rel(PlannerInfo *root, const fdw_quals *quals, fdw_estimate *ret)
{
    fdw_want want;
    double metrics = DEFAULT_METRICS;
    double fraction = known_want(root, quals, &want, &metrics);
    int64 from_ms, to_ms;
    int looked_at = 0;

    *ret = (fdw_estimate){.samples = 1, .blocks = 1, .series = 1, .metrics = 1};
    if (want.nothing || !ActiveSnapshotSet())
        return;
    if (want.all_metrics) {
        ret->metrics = metrics;
        ret->samples = FEW_SAMPLES * 100.0 * metrics * fraction;
        ret->blocks = metrics;
        ret->series = metrics * 10;
        return;
    }
    *ret = (fdw_estimate){.metrics = want.n_metrics};
    fdw_spi_begin(NULL);

    clip_range(&want, &from_ms, &to_ms);
    for (int i = 0; i < want.n_metrics && looked_at < MAX_METRICS_LOOKED_AT; i++) {
        if (want.metrics[i] > 0 && want.metrics[i] <= PG_INT32_MAX) {
            estimate_metric((int32)want.metrics[i], from_ms, to_ms, ret);
            looked_at++;
        }
    }
    fdw_spi_end();
    if (looked_at > 0 && want.n_metrics > looked_at) {
        double factor = (double)want.n_metrics / looked_at;

        ret->samples *= factor;
        ret->blocks *= factor;
        ret->series *= factor;
    }
    ret->samples = Max(ret->samples * fraction, 1);
    ret->blocks = Max(ret->blocks * fraction, 1);
    ret->series = Max(ret->series, 1);
}
