/*
 * feed.c - what happened to series since a cursor: feed() for those who hold ids (deletions matter),
 * follow() for those who hold labels (creations, too). Connectors poll it with every query they
 * answer, so it is one kept statement, in one snapshot.
 *
 * Rows of the feed carry their transaction's id. next_cursor is the oldest transaction that this
 * snapshot still saw running: whatever commits later has an id at or above it, so that a poll from
 * there misses nothing, and may repeat something. A cursor below the feed's floor, or above every
 * transaction of this server (it is of another one), cannot be served: trimmed.
 *
 * follow() has whole snapshots for cursors, so that nothing is told twice however long some other
 * transaction runs: what was not visible then and is now. A standby's snapshots do not list what was
 * running; there the cursor is the plain horizon, and things may be told again.
 */
#include "catalog.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/datum.h"

PG_FUNCTION_INFO_V1(feed_poll);
Datum
feed_poll(PG_FUNCTION_ARGS)
{
    static catalog_stmt stmt = {
        .sql = "SELECT pg_catalog.pg_snapshot_xmin(now.s), gone.trimmed,"
               " CASE WHEN gone.trimmed THEN '{}'::pg_catalog.int8[] ELSE ARRAY("
               "  SELECT id FROM _prom_catalog.series_feed f, pg_catalog.unnest(f.series_ids) id"
               "  WHERE f.tx OPERATOR(pg_catalog.>=) $1 AND f.op OPERATOR(pg_catalog.=) 'd'"
               "  ORDER BY id) END"
               " FROM (SELECT pg_catalog.pg_current_snapshot() AS s) now, _prom_catalog.state,"
               " LATERAL (SELECT $1 OPERATOR(pg_catalog.<) feed_floor"
               "  OR $1 OPERATOR(pg_catalog.>) pg_catalog.pg_snapshot_xmax(now.s) AS trimmed) gone",
        .n_args = 1,
        .args = {XID8OID},
    };
    MemoryContext caller = CurrentMemoryContext;
    Datum cursor = PG_GETARG_DATUM(0);
    bool nulls[4] = {false};
    Datum columns[4];
    TupleDesc desc;

    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 4)
        elog(ERROR, "feed must return a record of four columns");
    SPI_connect();
    columns[0] = Int64GetDatum(catalog_generation(true));
    if (catalog_run(&stmt, &cursor, true) != 1)
        elog(ERROR, "the feed's statement gave no row");
    columns[1] = catalog_value(0, 1);
    columns[2] = catalog_value(0, 2);
    columns[3] = catalog_value(0, 3);
    MemoryContext spi = MemoryContextSwitchTo(caller);
    columns[3] = datumCopy(columns[3], false, -1);
    Datum result = HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), columns, nulls));
    MemoryContextSwitchTo(spi);
    SPI_finish();
    PG_RETURN_DATUM(result);
}

PG_FUNCTION_INFO_V1(feed_follow);
Datum
feed_follow(PG_FUNCTION_ARGS)
{
    static catalog_stmt stmt = {
        .sql = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery()"
               " THEN pg_catalog.concat(now.horizon, ':', now.horizon, ':')"
               "::pg_catalog.pg_snapshot ELSE now.s END,"
               " gone.trimmed, news.created, news.deleted"
               " FROM (SELECT s, pg_catalog.pg_snapshot_xmin(s) AS horizon"
               "  FROM pg_catalog.pg_current_snapshot() s) now, _prom_catalog.state,"
               " LATERAL (SELECT pg_catalog.pg_snapshot_xmin($1)"
               "   OPERATOR(pg_catalog.<) feed_floor"
               "  OR pg_catalog.pg_snapshot_xmin($1)"
               "   OPERATOR(pg_catalog.>) pg_catalog.pg_snapshot_xmax(now.s) AS trimmed) gone,"
               " LATERAL (SELECT"
               "  COALESCE(pg_catalog.array_agg(id)"
               "   FILTER (WHERE op OPERATOR(pg_catalog.=) 'c'), '{}') AS created,"
               "  COALESCE(pg_catalog.array_agg(id)"
               "   FILTER (WHERE op OPERATOR(pg_catalog.=) 'd'), '{}') AS deleted"
               "  FROM _prom_catalog.series_feed f, pg_catalog.unnest(f.series_ids) id"
               "  WHERE NOT gone.trimmed"
               "  AND f.tx OPERATOR(pg_catalog.>=) pg_catalog.pg_snapshot_xmin($1)"
               "  AND NOT pg_catalog.pg_visible_in_snapshot(f.tx, $1)) news",
        .n_args = 1,
        .args = {PG_SNAPSHOTOID},
    };
    MemoryContext caller = CurrentMemoryContext;
    Datum cursor = PG_GETARG_DATUM(0);
    bool nulls[5] = {false};
    Datum columns[5];
    TupleDesc desc;

    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 5)
        elog(ERROR, "follow must return a record of five columns");
    SPI_connect();
    columns[0] = Int64GetDatum(catalog_generation(true));
    if (catalog_run(&stmt, &cursor, true) != 1)
        elog(ERROR, "the feed's statement gave no row");
    for (int i = 1; i < 5; i++)
        columns[i] = catalog_value(0, i);
    MemoryContext spi = MemoryContextSwitchTo(caller);
    for (int i = 1; i < 5; i++) {
        if (i != 2)
            columns[i] = datumCopy(columns[i], false, -1);
    }
    Datum result = HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), columns, nulls));
    MemoryContextSwitchTo(spi);
    SPI_finish();
    PG_RETURN_DATUM(result);
}
