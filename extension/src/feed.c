/*
 * feed.c - feed(): what happened to series since a cursor. Connectors poll it with every query they
 * answer, so it is one kept statement, in one snapshot.
 *
 * Rows of the feed carry their transaction's id. next_cursor is the oldest transaction that this
 * snapshot still saw running: whatever commits later has an id at or above it, so that a poll from
 * there misses nothing, and may repeat something. A cursor below the feed's floor, or above every
 * transaction of this server (it is of another one), cannot be served: trimmed.
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
