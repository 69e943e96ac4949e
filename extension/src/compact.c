/*
 * compact.c - what sql/075-compact.sql must know of files: how much of a table's file is free, from which
 * page on its end would fit into the holes before it, and which TOAST value belongs to a row.
 *
 * Free is what the free space map says: that is where an INSERT looks. VACUUM writes the map, so rows that an
 * old snapshot may still see do not count as free, and what is said here can only be too little. Only the map
 * is read, a byte for each page.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/freespace.h"
#include "utils/rel.h"

enum { COLUMNS = 4, PAGE_ROOM = BLCKSZ - SizeOfPageHeaderData, NEARLY = 64 };

/* The map counts by steps, and a page from which VACUUM has removed all keeps a line pointer. */
static int64
free_bytes(Relation table, int64 page)
{
    const int64 n = (int64)GetRecordedFreeSpace(table, (BlockNumber)page);

    return n >= PAGE_ROOM - NEARLY ? PAGE_ROOM : n;
}

/*
 * The first page such that all that lies from it on fits into free space before it, in pieces of `unit`
 * bytes: from both ends towards each other.
 */
static int64
find_cut(Relation table, int64 n_pages, int64 unit)
{
    int64 low = 0, high = n_pages;
    int64 room = 0, need = 0; /* before low; from high on */

    while (low < high) {
        CHECK_FOR_INTERRUPTS();
        const int64 used = PAGE_ROOM - free_bytes(table, high - 1);
        if (need + used <= room) {
            need += used;
            high--;
        } else {
            room += free_bytes(table, low) / unit * unit;
            low++;
        }
    }
    return high;
}

/* (table, unit, below) -> (pages, free bytes, room, cut); room: in pieces of unit, in pages before below. */
PG_FUNCTION_INFO_V1(file_space);
Datum
file_space(PG_FUNCTION_ARGS)
{
    const int32 unit = PG_GETARG_INT32(1);
    const int64 below = PG_GETARG_INT64(2);
    bool nulls[COLUMNS] = {false};
    TupleDesc desc;
    int64 sum = 0, room = 0;

    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "file_space returns a row");
    if (unit < 1 || unit > PAGE_ROOM)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("a piece has between 1 and %d bytes", (int)PAGE_ROOM)));
    Relation table = try_relation_open(PG_GETARG_OID(0), AccessShareLock);
    if (table == NULL)
        PG_RETURN_NULL();
    if ((table->rd_rel->relkind != RELKIND_RELATION &&
         table->rd_rel->relkind != RELKIND_TOASTVALUE) ||
        table->rd_rel->relam != HEAP_TABLE_AM_OID) {
        relation_close(table, AccessShareLock);
        PG_RETURN_NULL(); /* pages that we do not know */
    }
    const int64 n_pages = RelationGetNumberOfBlocks(table);
    for (int64 i = 0; i < n_pages; i++) {
        CHECK_FOR_INTERRUPTS();
        const int64 n = free_bytes(table, i);
        sum += n;
        room += i < below ? n / unit * unit : 0;
    }
    const int64 cut = find_cut(table, n_pages, unit);
    relation_close(table, AccessShareLock);
    Datum values[COLUMNS] = {Int64GetDatum(n_pages), Int64GetDatum(sum), Int64GetDatum(room),
                             Int64GetDatum(cut)};
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* The id of the value in the TOAST table; NULL if it lies in its row. */
PG_FUNCTION_INFO_V1(toast_value);
Datum
toast_value(PG_FUNCTION_ARGS)
{
    const struct varlena *data = (const struct varlena *)PG_GETARG_POINTER(0);
    struct varatt_external pointer;

    if (!VARATT_IS_EXTERNAL_ONDISK(data))
        PG_RETURN_NULL();
    VARATT_EXTERNAL_GET_POINTER(pointer, data);
    PG_RETURN_OID(pointer.va_valueid);
}
