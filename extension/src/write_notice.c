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

/* Whoever loads old samples may not think of the period after which they are dropped. */
void
write_tell_retention(const write_stmt *s)
{
    static catalog_stmt stmt = {
        .sql = "SELECT r.period::pg_catalog.text FROM (SELECT coalesce(m.retention_period,"
               " _prom_catalog.setting('retention_period')::pg_catalog.interval) AS period"
               " FROM _prom_catalog.metric m WHERE m.id OPERATOR(pg_catalog.=) $1) r"
               " WHERE r.period OPERATOR(pg_catalog.>) '0'::pg_catalog.interval"
               " AND $2 OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) r.period)",
        .n_args = 2,
        .args = {INT4OID, TIMESTAMPTZOID},
    };
    const TimestampTz oldest = bridge_ms_to_timestamptz_unchecked(s->oldest_ms);
    Datum values[] = {Int32GetDatum(s->metric_id), TimestampTzGetDatum(oldest)};

    if (s->oldest_ms == PG_INT64_MAX ||
        s->oldest_ms >
            bridge_timestamptz_floor_ms(GetCurrentTransactionStartTimestamp()) - YOUNG_MS)
        return;
    SPI_connect();
    if (catalog_run(&stmt, values, false) > 0)
        ereport(NOTICE,
                (errmsg("samples older than %s will be dropped by maintenance",
                        TextDatumGetCString(catalog_value(0, 1))),
                 errdetail("That is the retention period of the metric; the oldest row of this "
                           "statement is of %s.",
                           timestamptz_to_str(oldest)),
                 errhint("Choose a longer one with set_metric_retention_period() first.")));
    SPI_finish();
}
