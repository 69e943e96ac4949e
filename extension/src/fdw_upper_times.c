/*
 * fdw_upper_times.c - group keys that depend on time: the times of a series are cut into runs whose
 * samples have the same key values.
 *
 * Three ways, the cheapest first. Series scraped together have the same times: then the runs of the
 * series before are the runs of this one. Keys are steady when they see time only through date_bin,
 * time_bucket or date_trunc of a fixed width (and a fixed zone): one evaluation tells the whole
 * bucket, and buckets once seen are looked up, mostly next to the one before. Otherwise keys are
 * evaluated once per distinct time and remembered.
 *
 * A bucket is believed only if the call says of its start what it says of the sample and the sample
 * lies within the width after it; else the answer counts for that one time.
 */
#include "fdw_upper.h"

#include "executor/executor.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "catalog/pg_type.h"

enum { KNOWN_MAX = 1 << 18, SPANS_MAX = 1 << 18 };

/* ---- start -------------------------------------------------------------------------------- */

/* Microseconds of a unit of date_trunc; 0: not of fixed width. */
static int64
width_of_unit(const char *unit)
{
    static const struct {
        const char *name;
        int64 us;
        bool zoned; /* begins where the zone says */
    } units[] = {
        {"millisecond", 1000, false},      {"milliseconds", 1000, false},
        {"second", USECS_PER_SEC, false},  {"minute", USECS_PER_MINUTE, true},
        {"hour", USECS_PER_HOUR, true},    {"day", USECS_PER_DAY, true},
        {"week", 7 * USECS_PER_DAY, true},
    };
    long offset;

    for (size_t i = 0; i < lengthof(units); i++) {
        if (strcmp(units[i].name, unit) == 0)
            return !units[i].zoned || pg_get_timezone_offset(session_timezone, &offset)
                       ? units[i].us
                       : 0;
    }
    return 0;
}

static int64
width_of(upper_times_key *key, ExprContext *econtext)
{
    bool isnull;
    Datum width;

    if (key->call == NULL)
        return 0;
    width = ExecEvalExpr(key->width, econtext, &isnull);
    if (isnull)
        return 0;
    if (key->width_type == TEXTOID)
        return width_of_unit(text_to_cstring(DatumGetTextPP(width)));

    Interval *interval = DatumGetIntervalP(width);
    int64 us;

    if (interval->month != 0 || interval->day < 0 || interval->day > 100000 || interval->time < 0 ||
        interval->time > USECS_PER_DAY * 100000)
        return 0;
    us = interval->day * USECS_PER_DAY + interval->time;
    return us;
}

void
upper_times_start(upper_times *times)
{
    MemoryContext old = MemoryContextSwitchTo(times->econtext->ecxt_per_tuple_memory);

    upper_keys_clear(&times->distinct);
    times->n_spans = times->n_last = times->n_runs = 0;
    times->last_version = 0;
    if (times->known != NULL)
        upper_map_reset(times->known);
    times->steady = true;
    for (int i = 0; i < times->n_keys; i++) {
        times->keys[i].width_us = width_of(&times->keys[i], times->econtext);
        times->steady &= times->keys[i].width_us > 0;
    }
    MemoryContextSwitchTo(old);
    if (!times->steady && times->known == NULL)
        times->known = upper_map_create(times->context, 1024, NULL);
}

/* ---- keys --------------------------------------------------------------------------------- */

static void
set_time(upper_times *times, TimestampTz time)
{
    times->slot->tts_values[SAMPLES_TIME - 1] = TimestampTzGetDatum(time);
    times->slot->tts_isnull[SAMPLES_TIME - 1] = false;
}

static uint32
evaluate(upper_times *times, int64 t_ms)
{
    ExprContext *econtext = times->econtext;
    MemoryContext old;
    uint32 number;

    econtext->ecxt_scantuple = times->slot;
    ResetExprContext(econtext);
    set_time(times, bridge_ms_to_timestamptz_unchecked(t_ms));
    old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
    for (int i = 0; i < times->n_keys; i++)
        times->values[i] = ExecEvalExpr(times->keys[i].expr, econtext, &times->nulls[i]);
    number = upper_keys_find(&times->distinct, times->values, times->nulls);
    MemoryContextSwitchTo(old);
    return number;
}

/* Narrows *span, which holds t_ms, to the bucket that the key's call puts t_ms into. */
static void
narrow_to_bucket(upper_times *times, upper_times_key *key, int64 t_ms, upper_span *span)
{
    ExprContext *econtext = times->econtext;
    TimestampTz time = bridge_ms_to_timestamptz_unchecked(t_ms);
    bool isnull, again_null = true;
    TimestampTz start, again = 0;

    set_time(times, time);
    start = DatumGetTimestampTz(ExecEvalExprSwitchContext(key->call, econtext, &isnull));
    if (!isnull && !TIMESTAMP_NOT_FINITE(start) && start <= time && time - start < key->width_us) {
        set_time(times, start);
        again = DatumGetTimestampTz(ExecEvalExprSwitchContext(key->call, econtext, &again_null));
    }
    if (again_null || again != start) {
        span->from_ms = span->to_ms = t_ms;
        return;
    }
    span->from_ms = Max(span->from_ms, bridge_timestamptz_ceil_ms(start));
    span->to_ms = Min(span->to_ms, bridge_timestamptz_ceil_ms(start + key->width_us) - 1);
}

/* ---- spans -------------------------------------------------------------------------------- */

/* First span that ends at or after t_ms. */
static size_t
span_seek(const upper_times *times, int64 t_ms)
{
    size_t lo = 0, hi = times->n_spans;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (times->spans[mid].to_ms < t_ms)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The span of t_ms, made before times->spans[at]; there is none yet. */
static void
span_make(upper_times *times, size_t at, int64 t_ms)
{
    upper_span span = {.from_ms = PG_INT64_MIN, .to_ms = PG_INT64_MAX};

    span.key = evaluate(times, t_ms);
    for (int i = 0; i < times->n_keys; i++)
        narrow_to_bucket(times, &times->keys[i], t_ms, &span);
    /* single times near a bucket that was seen as a whole */
    if (at > 0)
        span.from_ms = Max(span.from_ms, times->spans[at - 1].to_ms + 1);
    if (at < times->n_spans)
        span.to_ms = Min(span.to_ms, times->spans[at].from_ms - 1);
    if (times->n_spans == times->cap_spans) {
        times->cap_spans = Max(times->cap_spans * 2, 64);
        times->spans =
            times->spans == NULL
                ? MemoryContextAllocHuge(times->context, times->cap_spans * sizeof(upper_span))
                : repalloc_huge(times->spans, times->cap_spans * sizeof(upper_span));
    }
    memmove(times->spans + at + 1, times->spans + at, (times->n_spans - at) * sizeof(upper_span));
    times->spans[at] = span;
    times->n_spans++;
}

static void
add_run(upper_times *times, size_t end, uint32 key)
{
    if (times->n_runs > 0 && times->runs[times->n_runs - 1].key == key)
        times->runs[times->n_runs - 1].end = end;
    else
        times->runs[times->n_runs++] = (upper_run){.end = end, .key = key};
}

static void
cut_by_spans(upper_times *times, const int64 *t_ms, size_t n)
{
    size_t at;

    if (times->n_spans > SPANS_MAX)
        times->n_spans = 0;
    at = span_seek(times, t_ms[0]);
    for (size_t i = 0; i < n;) {
        if (at < times->n_spans && times->spans[at].to_ms < t_ms[i])
            at++;
        if (at < times->n_spans && times->spans[at].to_ms < t_ms[i])
            at = span_seek(times, t_ms[i]);
        if (at == times->n_spans || times->spans[at].from_ms > t_ms[i])
            span_make(times, at, t_ms[i]);
        while (i < n && t_ms[i] <= times->spans[at].to_ms)
            i++;
        add_run(times, i, times->spans[at].key);
    }
}

static void
cut_one_by_one(upper_times *times, const int64 *t_ms, size_t n)
{
    if (times->known->members > KNOWN_MAX)
        upper_map_reset(times->known);
    for (size_t i = 0; i < n; i++) {
        upper_map_entry *entry = upper_map_lookup(times->known, (uint64)t_ms[i]);
        uint32 key;

        if (entry != NULL) {
            key = entry->value;
        } else {
            bool found;

            key = evaluate(times, t_ms[i]);
            upper_map_insert(times->known, (uint64)t_ms[i], &found)->value = key;
        }
        add_run(times, i + 1, key);
    }
}

/* ---- the cut ------------------------------------------------------------------------------ */

static void
reserve(upper_times *times, size_t n)
{
    if (n > times->cap_last) {
        size_t cap = Max(n, times->cap_last * 2);

        if (times->last_ms != NULL) {
            pfree(times->last_ms);
            pfree(times->runs);
        }
        times->last_ms = MemoryContextAllocHuge(times->context, cap * sizeof(int64));
        times->runs = MemoryContextAllocHuge(times->context, cap * sizeof(upper_run));
        times->cap_last = cap;
    }
}

void
upper_times_cut(upper_times *times, uint64 version, const int64 *t_ms, size_t n)
{
    if (version != 0 && version == times->last_version)
        return;
    times->last_version = version;
    if (n == times->n_last && memcmp(t_ms, times->last_ms, n * sizeof(int64)) == 0)
        return;
    reserve(times, n);
    times->n_last = 0;
    times->n_runs = 0;
    if (times->steady)
        cut_by_spans(times, t_ms, n);
    else
        cut_one_by_one(times, t_ms, n);
    memcpy(times->last_ms, t_ms, n * sizeof(int64));
    times->n_last = n;
}
