/*
 * fn_map_date.c - parts of dates: minute, hour, day_of_week, day_of_month, day_of_year, days_in_month,
 * month, year. Numbers are seconds since 1970, in UTC; fractions are cut off.
 *
 * Days are counted from the first of January of a far year that begins a cycle of 400 years, so that
 * all arithmetic is unsigned. What is no number, or too large for 64 bits, becomes the smallest
 * integer, and that wraps around to the last moment that can be told, as it does in Go.
 */
#include "lib/eval/fn_map.h"

#define YEAR_ZERO INT64_C(-292277022399)
#define SECONDS_BEFORE_1970 UINT64_C(9223372028715321600)

typedef struct date {
    int64_t year;
    unsigned month, day, year_day, week_day, hour, minute; /* month, day, year_day from 1 */
    bool leap;
} date;

static uint64_t
seconds_of(double v)
{
    bool fits = v >= -9223372036854775808.0 && v < 9223372036854775808.0;
    return (uint64_t)(fits ? (int64_t)v : INT64_MIN) + SECONDS_BEFORE_1970;
}

static unsigned
days_in(const date *d)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[d->month - 1] + (d->month == 2 && d->leap);
}

static date
date_of(double v)
{
    uint64_t seconds = seconds_of(v), days = seconds / 86400;
    date d = {.hour = (unsigned)(seconds % 86400 / 3600),
              .minute = (unsigned)(seconds % 3600 / 60),
              .week_day = (unsigned)((days + 1) % 7)};
    uint64_t cycles = days / 146097, rest = days % 146097;
    uint64_t centuries = rest / 36524 < 3 ? rest / 36524 : 3; /* the fourth is a day longer */
    rest -= centuries * 36524;
    uint64_t fours = rest / 1461;
    rest %= 1461;
    uint64_t years = rest / 365 < 3 ? rest / 365 : 3;
    rest -= years * 365;
    d.year = YEAR_ZERO + (int64_t)(cycles * 400 + centuries * 100 + fours * 4 + years);
    d.leap = years == 3 && (fours != 24 || centuries == 3);
    d.year_day = (unsigned)rest + 1;
    for (d.month = 1; rest >= days_in(&d); d.month++)
        rest -= days_in(&d);
    d.day = (unsigned)rest + 1;
    return d;
}

static double
part_of(pql_fn part, double v)
{
    date d = date_of(v);
    switch (part) {
    case PQL_FN_MINUTE:
        return d.minute;
    case PQL_FN_HOUR:
        return d.hour;
    case PQL_FN_DAY_OF_WEEK:
        return d.week_day;
    case PQL_FN_DAY_OF_MONTH:
        return d.day;
    case PQL_FN_DAY_OF_YEAR:
        return d.year_day;
    case PQL_FN_DAYS_IN_MONTH:
        return days_in(&d);
    case PQL_FN_MONTH:
        return d.month;
    default:
        return (double)d.year;
    }
}

ps_status
ev_map_date(const ev_map_call *call, ev_batch *b)
{
    pql_fn part = call->call->call.fn->id;
    ev_floats_only(b);
    for (size_t i = 0; i < b->n; i++)
        for (size_t step = 0; step < b->n_steps; step++)
            if (ev_has(b->has + i * b->n_words, step))
                b->v[i * b->n_steps + step] = part_of(part, b->v[i * b->n_steps + step]);
    return PS_OK;
}
