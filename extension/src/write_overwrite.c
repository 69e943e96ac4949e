/*
 * write_overwrite.c - INSERT and COPY that replace: with promscale.on_conflict = 'overwrite' a row takes the
 * place of whatever is stored of its series and time.
 *
 * Nothing is changed in place. The rows become fresh blocks as ever, and then the samples of the same series
 * and times are erased from all other blocks (067-delete.sql), so that the new ones are the only ones. In
 * one transaction: others see the old values until it commits, and all the new ones after.
 *
 * What makes it exact, beside others who write the same samples:
 *
 * 1. The lock of maintenance comes first and stays to the end of the transaction: nobody moves samples, and
 *    of two who replace one waits.
 * 2. Our rows get their ids; then we wait for those who hold the guard lock at that moment, that is, who may
 *    have lower ids and have not committed yet. (Nobody has to wait for us: no lock is queued for.) What
 *    they have stored is there when we erase. Whoever comes later has higher ids, and the first write wins.
 *
 * Within a statement the last row of a series and time wins, as if rows came one by one.
 */
#include "write.h"

#include "bridge.h"
#include "catalog/pg_type.h"
#include "maint.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/guc.h"

enum { KEEP, OVERWRITE };

static const struct config_enum_entry choices[] = {
    {"keep", KEEP, false}, {"overwrite", OVERWRITE, false}, {NULL, 0, false}};
static int on_conflict = KEEP;

void
write_overwrite_define_settings(void)
{
    DefineCustomEnumVariable("promscale.on_conflict",
                             "What INSERT and COPY do where a sample of the same series and time is "
                             "stored: keep it or overwrite it.",
                             NULL, &on_conflict, KEEP, choices, PGC_USERSET, 0, NULL, NULL, NULL);
}

bool
write_overwrites(void)
{
    return on_conflict == OVERWRITE;
}

/* ---- before rows are stored --------------------------------------------------------------- */

static void
check_rights(void)
{
    static catalog_stmt stmt = {
        .sql = "SELECT pg_catalog.has_table_privilege('_prom_data.merged', 'DELETE')"};

    catalog_run(&stmt, NULL, true);
    if (!DatumGetBool(catalog_value(0, 1)))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("replacing samples needs the rights of prom_modifier"),
                        errhint("With promscale.on_conflict = 'keep' new samples are stored, and "
                                "those that exist stay.")));
}

void
write_overwrite_begin(void)
{
    static catalog_stmt stmt = {.sql = "SELECT _prom_catalog.lock_to_delete()"};

    SPI_connect();
    check_rights();
    catalog_run(&stmt, NULL, false);
    SPI_finish();
}

/* Sorting keeps the first of equals: turned round, that is the last one. */
void
write_overwrite_turn(blk_point *points, size_t n)
{
    for (size_t a = 0, b = n; a + 1 < b; a++) {
        const blk_point p = points[a];
        points[a] = points[--b];
        points[b] = p;
    }
}

/* ---- after ---------------------------------------------------------------------------------- */

static void
wait_for_writers(void)
{
    LOCKTAG guard;
    const int level = NewGUCNestLevel();

    SET_LOCKTAG_ADVISORY(guard, MyDatabaseId, (uint32)(CATALOG_LOCK_GUARD >> 32),
                         (uint32)CATALOG_LOCK_GUARD, 1);
    if (LockTimeout == 0)
        (void)set_config_option("lock_timeout", "1min", PGC_USERSET, PGC_S_SESSION,
                                GUC_ACTION_SAVE, true, 0, false);
    WaitForLockers(guard, ExclusiveLock, false);
    AtEOXact_GUC(true, level);
}

static size_t
day_end(const blk_point *points, size_t a, size_t n)
{
    const int64 day = mdl_day_start_ms(points[a].t_ms);
    size_t b = a + 1;

    while (b < n && mdl_day_start_ms(points[b].t_ms) == day)
        b++;
    return b;
}

static void
erase_day(const write_stmt *s, const blk_point *points, size_t n)
{
    static catalog_stmt stmt = {
        .sql = "SELECT _prom_catalog.erase_points($1, $2, $3, $4, $5, $6)",
        .n_args = 6,
        .args = {INT4OID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
                 INT8ARRAYOID},
    };
    int64 *series = palloc_extended(n * sizeof(int64), MCXT_ALLOC_HUGE);
    int64 *times = palloc_extended(n * sizeof(int64), MCXT_ALLOC_HUGE);
    int64 from = PG_INT64_MAX, to = PG_INT64_MIN;

    for (size_t i = 0; i < n; i++) {
        series[i] = points[i].series_id;
        times[i] = points[i].t_ms;
        from = Min(from, times[i]);
        to = Max(to, times[i]);
    }
    Datum values[] = {Int32GetDatum(s->metric_id),
                      maint_int8_array(series, n),
                      maint_int8_array(times, n),
                      TimestampTzGetDatum(bridge_ms_to_timestamptz_unchecked(from)),
                      TimestampTzGetDatum(bridge_ms_to_timestamptz_unchecked(to)),
                      maint_int8_array(s->own_ids, s->n_own_ids)};
    catalog_run(&stmt, values, false);
    for (int i = 1; i < 3; i++)
        pfree(DatumGetPointer(values[i]));
    pfree(series);
    pfree(times);
}

/* More at once would not fit into an array. */
enum { MAX_POINTS = 1 << 22 };

void
write_overwrite_finish(const write_stmt *s, const blk_point *points, size_t n)
{
    wait_for_writers();
    for (size_t a = 0, b; a < n; a = b) {
        b = Min(day_end(points, a, n), a + MAX_POINTS);
        erase_day(s, points + a, b - a);
        CHECK_FOR_INTERRUPTS();
    }
}
