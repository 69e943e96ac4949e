/*
 * fdw_estimate.c - how much a metric holds within bounds, cheaply.
 *
 * The density of a metric (samples per millisecond) changes slowly. So at most a few hundred block
 * rows of the metric are looked at, of the last day of the wanted range; the rest is multiplication by
 * the length of the range, from the first day that has data (found roughly). If the last day is empty,
 * a day in the middle or the first day stands for all. Each look is one statement by primary key,
 * pruned to two partitions, about a tenth of a millisecond whatever the number of partitions; there are
 * two to twelve. A range without ends is the one that the day partitions cover: their bounds are read
 * from the relation's descriptor, which says nothing of anybody's data.
 *
 * The number of series is counted up to 1000. Beyond that it is how many lived in that time (fdw_alive.c)
 * or, where the sets do not say, what the planner thinks of the series table; or what the blocks of one
 * moment hold together, if that is more (on one level they hold different series). Small metrics may share rows of `fresh`; of such a row a metric's share is taken
 * to be that of its series. What share of the series passes the quals on series: see fdw_sample.c.
 *
 * Bounds are what the expressions give while planning (so now() - interval '1 h' counts as of now);
 * values that are not known yet (parameters of generic plans, joins) count as a default fraction.
 * Only rows that the caller may see are counted.
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
    FEW_SAMPLES = 1000,        /* when nothing is seen, but not everything was looked at */
    MAX_METRICS_LOOKED_AT = 4, /* the others are taken to be like these */
    DEFAULT_METRICS = 500,     /* wanted, when nothing is said of metrics */
    DEFAULT_ANY = 10,          /* elements of an array that is not known yet */
    SERIES_COUNTED = 1000,     /* LIMIT in the statement */
    ARM_ROWS = 512,            /* LIMIT in the statement for block, block_far and merged */
    FRESH_ROWS = 64,           /* for fresh, and for the rows of fresh that small metrics share */
    PACKED = FDW_TABLE_N,      /* place of the latter in the statement's result */
    BISECTIONS = 3,
};

typedef struct seen { /* a block row */
    int place;
    double samples, series;
    int64 first_ms, last_ms;
} seen;

typedef struct density {
    double samples; /* inside the bounds */
    double rows, series_sum;
    double series_at_once;   /* in rows of one level that hold the same moment */
    int64 first_ms, last_ms; /* of the bounds what the rows cover */
    bool cut;                /* a LIMIT was reached: there are more rows, and later ones */
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

static seen
seen_row(HeapTuple tuple, TupleDesc desc)
{
    bool isnull;
    TimestampTz first = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 4, &isnull));
    TimestampTz last = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 5, &isnull));

    return (seen){
        .place = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull)),
        .samples = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull)),
        .series = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull)),
        .first_ms = bridge_timestamptz_floor_ms(first),
        .last_ms = bridge_timestamptz_floor_ms(last),
    };
}

static void
add_row(density *d, const seen *row, int64 from_ms, int64 to_ms)
{
    int64 first_ms = Max(row->first_ms, from_ms), last_ms = Min(row->last_ms, to_ms);
    double part = ((double)(last_ms - first_ms) + 1) / ((double)(row->last_ms - row->first_ms) + 1);

    d->samples += row->samples * Min(part, 1);
    d->series_sum += row->series;
    d->first_ms = d->rows == 0 ? first_ms : Min(d->first_ms, first_ms);
    d->last_ms = d->rows == 0 ? last_ms : Max(d->last_ms, last_ms);
    d->rows++;
}

/* Series of a level's rows at the middle of the first of them. */
static double
series_at_once(const seen *rows, int n, int place)
{
    int64 moment_ms = 0;
    bool found = false;
    double series = 0;

    for (int i = 0; i < n; i++) {
        if (rows[i].place != place)
            continue;
        if (!found)
            moment_ms = rows[i].first_ms + (rows[i].last_ms - rows[i].first_ms) / 2;
        found = true;
        if (rows[i].first_ms <= moment_ms && rows[i].last_ms >= moment_ms)
            series += rows[i].series;
    }
    return series;
}

/* What rows of the metric (of n_series series) reach into the bounds. */
static void
look(int32 metric_id, int16 other_kind, double n_series, int64 from_ms, int64 to_ms, density *ret)
{
    TimestampTz from = 0, to = 0, day = 0;
    int place_rows[FDW_TABLE_N + 1] = {0};

    *ret = (density){0};
    if (!bridge_ms_to_timestamptz(from_ms, &from) || !bridge_ms_to_timestamptz(to_ms, &to) ||
        !bridge_ms_to_timestamptz(Max(mdl_day_start_ms(from_ms), MDL_TIME_MIN_MS), &day))
        return;

    Datum values[6] = {Int32GetDatum(metric_id),
                       TimestampTzGetDatum(from),
                       TimestampTzGetDatum(to),
                       TimestampTzGetDatum(day),
                       Int32GetDatum(mdl_bucket(metric_id)),
                       Int16GetDatum(other_kind)};
    int n = (int)fdw_spi_run(FDW_STMT_EST_BLOCKS, values, 0);
    seen *rows = palloc(sizeof(seen) * Max(n, 1));

    for (int i = 0; i < n; i++) {
        rows[i] = seen_row(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
        place_rows[rows[i].place]++;
    }
    SPI_freetuptable(SPI_tuptable);
    for (int i = 0; i < n; i++) {
        if (rows[i].place == PACKED) {
            /* of a metric that has rows of its own there is nothing in them */
            if (place_rows[FDW_TABLE_FRESH] > 0)
                continue;
            rows[i].samples *= Min(n_series / Max(rows[i].series, 1), 1);
            rows[i].series = Min(n_series, rows[i].series);
        }
        add_row(ret, &rows[i], from_ms, to_ms);
    }
    for (int place = 0; place <= FDW_TABLE_N; place++) {
        int limit = place >= FDW_TABLE_FRESH ? FRESH_ROWS : ARM_ROWS;

        ret->cut |= place_rows[place] >= limit;
        ret->series_at_once = Max(ret->series_at_once, series_at_once(rows, n, place));
    }
    pfree(rows);
}

/* Is there anything in the bounds that is not fresh? */
static bool
anything(int32 metric_id, int16 other_kind, int64 from_ms, int64 to_ms)
{
    TimestampTz from = 0, to = 0, day = 0;

    if (!bridge_ms_to_timestamptz(from_ms, &from) || !bridge_ms_to_timestamptz(to_ms, &to) ||
        !bridge_ms_to_timestamptz(Max(mdl_day_start_ms(from_ms), MDL_TIME_MIN_MS), &day))
        return false;

    Datum values[6] = {Int32GetDatum(metric_id),
                       TimestampTzGetDatum(from),
                       TimestampTzGetDatum(to),
                       TimestampTzGetDatum(day),
                       Int32GetDatum(mdl_bucket(metric_id)),
                       Int16GetDatum(other_kind)};
    bool found = fdw_spi_run(FDW_STMT_EST_ANY, values, 1) > 0;

    SPI_freetuptable(SPI_tuptable);
    return found;
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

/* Is there anything on the day that begins then, or on what of it lies before with_data_ms? */
static bool
data_at(int32 metric_id, int16 other_kind, int64 probe_ms, int64 with_data_ms)
{
    return anything(metric_id, other_kind, probe_ms, Min(probe_ms + MDL_DAY_MS, with_data_ms - 1));
}

/* About where the metric's data begin in [from_ms, with_data_ms]; the later end is known to have some.
 * At the beginning, in most cases; otherwise in steps back that double, and then halved again. */
static int64
first_data(int32 metric_id, int16 other_kind, int64 from_ms, int64 with_data_ms)
{
    int64 without_ms = from_ms, step_ms = MDL_DAY_MS, newest_ms = with_data_ms;

    if (from_ms >= with_data_ms || data_at(metric_id, other_kind, from_ms, with_data_ms))
        return Min(from_ms, with_data_ms);
    while (newest_ms - step_ms > from_ms) {
        if (!data_at(metric_id, other_kind, newest_ms - step_ms, with_data_ms)) {
            without_ms = newest_ms - step_ms;
            break;
        }
        with_data_ms = newest_ms - step_ms;
        step_ms *= 2;
    }
    for (int i = 0; i < BISECTIONS && with_data_ms - without_ms > MDL_DAY_MS; i++) {
        int64 probe_ms = without_ms + (with_data_ms - without_ms) / 2;

        if (data_at(metric_id, other_kind, probe_ms, with_data_ms))
            with_data_ms = probe_ms;
        else
            without_ms = probe_ms;
    }
    return with_data_ms;
}

/* Adds to *ret what is in a window that was looked at, and in rest_ms more that are like it. */
static void
extrapolate(const density *d, double n_series, int64 window_start_ms, int64 window_ms,
            double rest_ms, fdw_estimate *ret)
{
    double covered_ms = (double)(d->last_ms - d->first_ms) + 1;
    double used_ms = window_ms + 1.0; /* of the window; it may end after the data do */
    double scale = 1;

    if (d->cut)
        scale = Max(n_series / Max(d->series_at_once, 1), 1) * Max(window_ms / covered_ms, 1);
    else
        used_ms = Max((double)(d->last_ms - window_start_ms), used_ms / 4);
    scale *= 1 + rest_ms / used_ms;
    ret->samples += Max(d->samples * scale, 1);
    ret->blocks += Max(d->rows * scale, 1);
    ret->series_per_block = Max(ret->series_per_block, d->series_sum / d->rows);
}

/* *ret is used if it is not NULL, the metric has many series and the sets say who lives; then *ret_known. */
static double
series_of(int32 metric_id, int64 from_ms, int64 to_ms, fdw_living *ret, bool *ret_known)
{
    Datum id = Int32GetDatum(metric_id);
    double planned, n = count_of(FDW_STMT_EST_SERIES, id);

    *ret_known = false;
    if (n < SERIES_COUNTED)
        return n;
    *ret_known = ret != NULL && fdw_alive_guess(metric_id, from_ms, to_ms, ret);
    if (*ret_known)
        return ret->series;
    (void)fdw_spi_cost(FDW_STMT_SERIES_OF_METRIC, &id, &planned);
    return Max(n, planned);
}

double
fdw_series_of_metric(int32 metric_id)
{
    bool known;

    return series_of(metric_id, 0, 0, NULL, &known);
}

/* Adds one metric's share to *ret. Returns whether *ret_living is known. */
static bool
estimate_metric(int32 metric_id, int16 other_kind, int64 from_ms, int64 to_ms, fdw_estimate *ret,
                fdw_living *ret_living)
{
    density d;
    bool known;
    int64 window_ms = Min(to_ms - from_ms, MDL_DAY_MS);
    int64 window_start_ms = to_ms - window_ms;
    double rest_ms = (double)(window_start_ms - from_ms);
    double series = series_of(metric_id, from_ms, to_ms, ret_living, &known);

    look(metric_id, other_kind, series, window_start_ms, to_ms, &d);
    if (d.rows > 0 && rest_ms > 0)
        rest_ms =
            (double)(window_start_ms - first_data(metric_id, other_kind, from_ms, window_start_ms));
    for (int i = 1; i >= 0 && d.rows == 0 && rest_ms > 0; i--) {
        window_start_ms = from_ms + (int64)(rest_ms / 2 * i);
        look(metric_id, other_kind, series, window_start_ms, window_start_ms + window_ms, &d);
    }
    if (d.rows > 0) {
        extrapolate(&d, series, window_start_ms, window_ms, rest_ms, ret);
        ret->range_ms = Max(ret->range_ms, rest_ms > 0 ? rest_ms + (double)window_ms
                                                       : (double)(d.last_ms - d.first_ms) + 1);
    } else {
        ret->samples += rest_ms > 0 ? FEW_SAMPLES : 1;
        ret->blocks += 1;
    }
    ret->series +=
        Max(known || series >= SERIES_COUNTED ? Max(series, d.series_at_once) : series, 1);
    return known;
}

void
fdw_estimate_rel(PlannerInfo *root, const fdw_quals *quals, int16 other_kind, fdw_estimate *ret)
{
    fdw_want want;
    double metrics = DEFAULT_METRICS;
    double fraction = known_want(root, quals, &want, &metrics);
    int64 from_ms, to_ms;
    int looked_at = 0;

    *ret = (fdw_estimate){.samples = 1,
                          .blocks = 1,
                          .series = 1,
                          .metrics = 1,
                          .series_passing = 1,
                          .untried = quals->series_quals};
    if (want.nothing || !ActiveSnapshotSet())
        return;
    if (want.all_metrics) {
        ret->metrics = metrics;
        ret->samples = FEW_SAMPLES * 100.0 * metrics * fraction;
        ret->blocks = metrics;
        ret->series = metrics * 10;
        return;
    }
    ret->samples = ret->blocks = ret->series = 0;
    ret->metrics = want.n_metrics;
    fdw_spi_begin(NULL);

    clip_range(&want, &from_ms, &to_ms);
    for (int i = 0; i < want.n_metrics && looked_at < MAX_METRICS_LOOKED_AT; i++) {
        if (want.metrics[i] > 0 && want.metrics[i] <= PG_INT32_MAX) {
            int32 metric_id = (int32)want.metrics[i];
            fdw_living living;
            bool known = estimate_metric(metric_id, other_kind, from_ms, to_ms, ret, &living);

            /* the first stands for all */
            if (looked_at++ == 0 && quals->series_quals != NIL)
                ret->series_passing =
                    fdw_sample_fraction(root, metric_id, ret->series, known ? &living : NULL,
                                        quals->series_quals, &ret->untried);
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
