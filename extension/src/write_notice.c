/*
 * write_notice.c - what the user should know about a statement that has succeeded: rows that were left
 * out, since the first of a series and time stays, and rows that will not stay for long.
 *
 * Notices, not warnings: a loader may cause one with every statement, and the server's log is no
 * place for them.
 */
#include "write.h"

#include "access/xact.h"
#include "bridge.h"
#include "catalog/pg_type.h"
#include "maint.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* Younger samples are not worth a look at the settings. */
enum { YOUNG_MS = 3600 * 1000 };

/* They are counted where maintenance counts those that it finds. */
void
write_tell_duplicates(const write_stmt *s)
{
    static catalog_stmt stmt = {
        .sql = "SELECT _prom_catalog.count_conflicts($1, $2, $3)",
        .n_args = 3,
        .args = {INT4OID, INT8OID, INT8OID},
    };
    const uint64 rows = s->dups.duplicates + s->dups.conflicts;
    Datum values[] = {Int32GetDatum(s->metric_id), Int64GetDatum((int64)s->dups.duplicates),
                      Int64GetDatum((int64)s->dups.conflicts)};

    if (rows == 0)
        return;
    SPI_connect();
    catalog_run(&stmt, values, false);
    SPI_finish();
    ereport(NOTICE,
            (errmsg_plural(UINT64_FORMAT " row was left out: %s row of this statement has the same "
                                         "series and time",
                           UINT64_FORMAT " rows were left out: %s row of this statement has the "
                                         "same series and time",
                           (unsigned long)rows, rows, s->overwrite ? "a later" : "an earlier"),
             errdetail(UINT64_FORMAT " of them with another value.", s->dups.conflicts)));
}

/* ---- how long they will stay ------------------------------------------------------------- */

/* Is there any rule that makes series of one metric differ? */
static bool
selectors_exist(void)
{
    static catalog_stmt stmt = {.sql = "SELECT 1 FROM _prom_catalog.retention_rule LIMIT 1"};
    const bool exist = catalog_run(&stmt, NULL, false) > 0;

    SPI_freetuptable(SPI_tuptable);
    return exist;
}

/* What metric $1 says, or the rule for samples without a tenant, or the default. Its functions are few: a
 * large import asks, too. */
#define BASE                                                                                       \
    "SELECT b.period::pg_catalog.text, b.rule, $2 FROM (SELECT coalesce(m.retention_period,"       \
    " t.period, _prom_catalog.setting('retention_period')::pg_catalog.interval) AS period, CASE"   \
    " WHEN m.retention_period IS NULL AND t.period IS NOT NULL THEN 't' ELSE 'm' END AS rule"      \
    " FROM _prom_catalog.metric m LEFT JOIN _prom_catalog.tenant_retention t"                      \
    " ON t.tenant OPERATOR(pg_catalog.=) '' WHERE m.id OPERATOR(pg_catalog.=) $1) b"               \
    " WHERE b.period OPERATOR(pg_catalog.>) '0'::pg_catalog.interval"                              \
    " AND $2 OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) b.period)"

/* Of series ($2) with samples of times ($3) one that is too old by its own rule. */
#define SERIES                                                                                     \
    "SELECT x.period::pg_catalog.text, x.rule, x.t FROM ("                                         \
    "SELECT coalesce(c.period, b.period) AS period, u.t, CASE"                                     \
    " WHEN c.series_id IS NOT NULL THEN 's' WHEN m.retention_period IS NOT NULL THEN 'm'"          \
    " WHEN EXISTS (SELECT FROM _prom_catalog.tenant_retention t"                                   \
    " WHERE t.tenant OPERATOR(pg_catalog.=) '') THEN 't' ELSE 'm' END AS rule"                     \
    " FROM _prom_catalog.metric m CROSS JOIN _prom_catalog.base_period($1, 0, false) b (period)"   \
    " CROSS JOIN ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) u (id, t)"               \
    " LEFT JOIN _prom_catalog.series_classes($1) c"                                                \
    " ON c.series_id OPERATOR(pg_catalog.=) u.id WHERE m.id OPERATOR(pg_catalog.=) $1) x"          \
    " WHERE x.period OPERATOR(pg_catalog.>) '0'::pg_catalog.interval"                              \
    " AND x.t OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) x.period)"           \
    " ORDER BY pg_catalog.now() OPERATOR(pg_catalog.-) x.period DESC, x.t LIMIT 1"

static void
ask(write_stmt *s, catalog_stmt *stmt, Datum *values)
{
    if (catalog_run(stmt, values, false) > 0) {
        MemoryContext old = MemoryContextSwitchTo(s->context);

        s->old.period = TextDatumGetCString(catalog_value(0, 1));
        s->old.rule = *TextDatumGetCString(catalog_value(0, 2));
        s->old.time = DatumGetTimestampTz(catalog_value(0, 3));
        MemoryContextSwitchTo(old);
    }
    SPI_freetuptable(SPI_tuptable);
}

static int64
young_from(void)
{
    return bridge_timestamptz_floor_ms(GetCurrentTransactionStartTimestamp()) - YOUNG_MS;
}

/* Which series a row is of is known while it is stored. */
void
write_note_old(write_stmt *s, const blk_point *points, size_t n)
{
    static catalog_stmt stmt = {
        .sql = SERIES, .n_args = 3, .args = {INT4OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID}};
    const int64 young_ms = young_from();
    size_t k = 0;

    if (s->old.period != NULL || s->oldest_ms > young_ms || s->old.alike)
        return;
    if (!s->old.asked && !selectors_exist()) {
        s->old.alike = true;
        return;
    }
    int64 *ids = palloc_extended(n * sizeof(int64), MCXT_ALLOC_HUGE);
    int64 *times = palloc_extended(n * sizeof(int64), MCXT_ALLOC_HUGE);
    for (size_t i = 0; i < n; i++) {
        const blk_point *p = &points[i];

        if (p->t_ms > young_ms ||
            (k > 0 && ids[k - 1] == p->series_id && times[k - 1] <= p->t_ms))
            continue;
        ids[k] = p->series_id;
        times[k++] = p->t_ms;
    }
    Datum values[] = {Int32GetDatum(s->metric_id), maint_int8_array(ids, k),
                      maint_time_array(times, k)};
    if (k > 0)
        ask(s, &stmt, values);
    s->old.asked = true;
    pfree(ids);
    pfree(times);
}

/* Whoever loads old samples may not think of the period after which they are dropped. One of them is
 * enough; without selectors the oldest says it for all. */
void
write_tell_retention(write_stmt *s)
{
    static catalog_stmt stmt = {.sql = BASE, .n_args = 2, .args = {INT4OID, TIMESTAMPTZOID}};
    const write_old *old = &s->old;

    if (!old->asked && s->oldest_ms <= young_from()) {
        Datum values[] = {Int32GetDatum(s->metric_id), maint_time(s->oldest_ms)};

        SPI_connect();
        ask(s, &stmt, values);
        SPI_finish();
    }
    if (old->period == NULL)
        return;
    const char *whose = old->rule == 's'   ? "that a selector gives their series"
                        : old->rule == 't' ? "of samples without a tenant"
                                           : "of the metric";

    ereport(NOTICE, (errmsg("samples older than %s will be dropped by maintenance", old->period),
                     errdetail("That is the retention period %s; one of the rows of this statement is of %s.",
                               whose, timestamptz_to_str(old->time)),
                     old->rule == 's'
                         ? errhint("prom_info.retention shows all rules; set_retention() changes "
                                   "that of a selector.")
                         : errhint("Choose a longer one with set_metric_retention_period() "
                                   "first.")));
}
