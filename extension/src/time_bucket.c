/*
 * time_bucket.c - time_bucket(width, ts [, origin | offset]): the start of the bucket that a time falls
 * into. The same signatures and answers as TimescaleDB's functions of that name, for databases that
 * do not have it; where both exist search_path decides, and the answers do not differ.
 *
 * Widths are months, or days and less; a day is 24 hours and everything is reckoned in UTC, so that the
 * functions are immutable. Buckets of days and less are counted from Monday, 3 January 2000, so that
 * weeks begin on Mondays; buckets of months from January 2000. An origin puts the edge of a bucket
 * elsewhere (for months only its month counts); an offset moves the edges by an interval. Infinite
 * times are their own buckets.
 */
#include "postgres.h"

#include "common/int.h"
#include "fmgr.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

PGDLLEXPORT Datum promscale_time_bucket(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum promscale_time_bucket_origin(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum promscale_time_bucket_offset(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum promscale_time_bucket_date(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum promscale_time_bucket_date_origin(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum promscale_time_bucket_date_offset(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_time_bucket);
PG_FUNCTION_INFO_V1(promscale_time_bucket_origin);
PG_FUNCTION_INFO_V1(promscale_time_bucket_offset);
PG_FUNCTION_INFO_V1(promscale_time_bucket_date);
PG_FUNCTION_INFO_V1(promscale_time_bucket_date_origin);
PG_FUNCTION_INFO_V1(promscale_time_bucket_date_offset);

#define MONDAY_2000 (2 * USECS_PER_DAY) /* 3 January, in microseconds since 1 January */
#define MONTHS_2000 (2000 * 12)

static void
raise_out_of_range(void)
{
    ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
                    errmsg("the bucket begins outside the range of timestamps")));
}

/* Largest multiple of width, counted from origin, that is not after x. */
static int64
bucket_of(int64 width, int64 x, int64 origin)
{
    int64 distance, rest, start;

    origin %= width;
    if (pg_sub_s64_overflow(x, origin, &distance))
        raise_out_of_range();
    rest = distance % width;
    if (pg_sub_s64_overflow(x, rest < 0 ? rest + width : rest, &start))
        raise_out_of_range();
    return start;
}

/* Months since year 0 of a timestamp. */
static int64
months_of(Timestamp ts)
{
    struct pg_tm tm;
    fsec_t fsec;

    if (timestamp2tm(ts, NULL, &tm, &fsec, NULL, NULL) != 0)
        raise_out_of_range();
    return (int64)tm.tm_year * 12 + tm.tm_mon - 1;
}

static Timestamp
month_bucket(int32 width, Timestamp ts, int64 origin_months)
{
    int64 months = bucket_of(width, months_of(ts), origin_months);
    int64 year = months >= 0 ? months / 12 : -((11 - months) / 12);
    Timestamp start;

    if (!IS_VALID_JULIAN(year, months - year * 12 + 1, 1))
        raise_out_of_range();
    start = (int64)(date2j((int)year, (int)(months - year * 12) + 1, 1) - POSTGRES_EPOCH_JDATE) *
            USECS_PER_DAY;
    if (!IS_VALID_TIMESTAMP(start))
        raise_out_of_range();
    return start;
}

/* Microseconds of a width that has no months. */
static int64
width_us(const Interval *width)
{
    int64 us;

    if (pg_mul_s64_overflow(width->day, USECS_PER_DAY, &us) ||
        pg_add_s64_overflow(us, width->time, &us))
        ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
                        errmsg("a bucket's width is out of range")));
    return us;
}

static Timestamp
bucket(const Interval *width, Timestamp ts, const Timestamp *origin)
{
    bool by_months = width->month != 0;
    Timestamp start;

    if (by_months && (width->day != 0 || width->time != 0))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("a bucket's width cannot have months together with days or time"),
                 errhint("Give months and years only, or weeks, days, hours and less only.")));
    if (by_months ? width->month <= 0 : width_us(width) <= 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("a bucket's width must be greater than zero")));
    if (origin != NULL && TIMESTAMP_NOT_FINITE(*origin))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("the origin of buckets cannot be infinite")));
    if (TIMESTAMP_NOT_FINITE(ts))
        return ts;
    if (by_months)
        return month_bucket(width->month, ts, origin == NULL ? MONTHS_2000 : months_of(*origin));
    start = bucket_of(width_us(width), ts, origin == NULL ? MONDAY_2000 : *origin);
    if (!IS_VALID_TIMESTAMP(start))
        raise_out_of_range();
    return start;
}

static Timestamp
bucket_with_offset(Interval *width, Timestamp ts, Interval *offset)
{
    Datum moved = DirectFunctionCall2(timestamp_mi_interval, TimestampGetDatum(ts),
                                      IntervalPGetDatum(offset));
    Timestamp start = bucket(width, DatumGetTimestamp(moved), NULL);

    return DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval, TimestampGetDatum(start),
                                                 IntervalPGetDatum(offset)));
}

/* ---- timestamp and timestamptz, which are the same number --------------------------------- */

Datum
promscale_time_bucket(PG_FUNCTION_ARGS)
{
    PG_RETURN_TIMESTAMP(bucket(PG_GETARG_INTERVAL_P(0), PG_GETARG_TIMESTAMP(1), NULL));
}

Datum
promscale_time_bucket_origin(PG_FUNCTION_ARGS)
{
    Timestamp origin = PG_GETARG_TIMESTAMP(2);

    PG_RETURN_TIMESTAMP(bucket(PG_GETARG_INTERVAL_P(0), PG_GETARG_TIMESTAMP(1), &origin));
}

Datum
promscale_time_bucket_offset(PG_FUNCTION_ARGS)
{
    PG_RETURN_TIMESTAMP(bucket_with_offset(PG_GETARG_INTERVAL_P(0), PG_GETARG_TIMESTAMP(1),
                                           PG_GETARG_INTERVAL_P(2)));
}

/* ---- date --------------------------------------------------------------------------------- */

static Timestamp
timestamp_of(Datum date)
{
    return DatumGetTimestamp(DirectFunctionCall1(date_timestamp, date));
}

static Datum
date_of(Timestamp ts)
{
    return DirectFunctionCall1(timestamp_date, TimestampGetDatum(ts));
}

Datum
promscale_time_bucket_date(PG_FUNCTION_ARGS)
{
    return date_of(bucket(PG_GETARG_INTERVAL_P(0), timestamp_of(PG_GETARG_DATUM(1)), NULL));
}

Datum
promscale_time_bucket_date_origin(PG_FUNCTION_ARGS)
{
    Timestamp origin = timestamp_of(PG_GETARG_DATUM(2));

    return date_of(bucket(PG_GETARG_INTERVAL_P(0), timestamp_of(PG_GETARG_DATUM(1)), &origin));
}

Datum
promscale_time_bucket_date_offset(PG_FUNCTION_ARGS)
{
    return date_of(bucket_with_offset(PG_GETARG_INTERVAL_P(0), timestamp_of(PG_GETARG_DATUM(1)),
                                      PG_GETARG_INTERVAL_P(2)));
}
