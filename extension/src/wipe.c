/*
 * wipe.c - _prom_ext.wipe_pages(): zeroes what deleted rows have left in the free space of a table's pages.
 *
 * VACUUM removes a deleted row by moving the rows that stay together; the bytes that are free afterwards it
 * leaves as they were. Whoever erases samples wants them out of the files. Free space is what lies between a
 * page's line pointers and its lowest row: nobody reads it, and a row that comes later overwrites it. So it
 * can be zeroed under the page's exclusive lock alone, beside readers and writers. The log gets an image of
 * the page, which by its nature has no free space: standbys and recovery end with zeroes there as well.
 *
 * Rows that were deleted before `horizon` and are still there (VACUUM found a snapshot that may see them, or
 * the page in use) are counted, and so are those of transactions that failed; the caller comes again.
 * Pages that hold nothing but zeroes there are not written: going over a clean table costs reading it.
 *
 * This is care for files, as VACUUM is, and the one place that touches a table's pages: what is stored is
 * read and written by SQL only.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/transam.h"
#include "access/xloginsert.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "utils/rel.h"

enum { COLUMNS = 3 };

typedef struct wiped {
    int64 kept;  /* deleted rows that are still there */
    int64 pages; /* written */
} wiped;

/* Did the transaction that wrote the row fail? What it copied is nobody's row, but its bytes are there. */
static bool
never_was(HeapTupleHeader row, TransactionId horizon)
{
    if (HeapTupleHeaderXminCommitted(row))
        return false;
    if (HeapTupleHeaderXminInvalid(row))
        return true;
    const TransactionId writer = HeapTupleHeaderGetRawXmin(row);
    return TransactionIdIsNormal(writer) && TransactionIdPrecedes(writer, horizon) &&
           !TransactionIdIsInProgress(writer) && !TransactionIdDidCommit(writer);
}

/* Was the row deleted by a transaction before the horizon, or never committed? */
static bool
is_dead(HeapTupleHeader row, TransactionId horizon)
{
    if (never_was(row, horizon))
        return true;
    if ((row->t_infomask & HEAP_XMAX_INVALID) != 0 || HEAP_XMAX_IS_LOCKED_ONLY(row->t_infomask))
        return false;
    const TransactionId deleter = HeapTupleHeaderGetUpdateXid(row);
    return TransactionIdIsNormal(deleter) && TransactionIdPrecedes(deleter, horizon) &&
           TransactionIdDidCommit(deleter);
}

static int64
count_dead(Page page, TransactionId horizon)
{
    const OffsetNumber last = PageGetMaxOffsetNumber(page);
    int64 n = 0;

    for (OffsetNumber i = FirstOffsetNumber; i <= last; i++) {
        const ItemId item = PageGetItemId(page, i);
        if (ItemIdIsNormal(item))
            n += is_dead((HeapTupleHeader)PageGetItem(page, item), horizon);
    }
    return n;
}

static bool
is_zero(const char *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static void
wipe_page(Relation table, Buffer buffer, TransactionId horizon, wiped *w)
{
    Page page = BufferGetPage(buffer);

    if (PageIsNew(page))
        return;
    w->kept += count_dead(page, horizon);

    const PageHeader header = (PageHeader)page;
    if (header->pd_lower < SizeOfPageHeaderData || header->pd_lower > header->pd_upper ||
        header->pd_upper > header->pd_special || header->pd_special > BLCKSZ)
        ereport(ERROR,
                (errcode(ERRCODE_DATA_CORRUPTED),
                 errmsg("page %u of \"%s\" has a damaged header", BufferGetBlockNumber(buffer),
                        RelationGetRelationName(table))));
    char *hole = (char *)page + header->pd_lower;
    const size_t size = header->pd_upper - header->pd_lower;
    if (is_zero(hole, size))
        return;
    START_CRIT_SECTION();
    memset(hole, 0, size);
    MarkBufferDirty(buffer);
    if (RelationNeedsWAL(table))
        log_newpage_buffer(buffer, true);
    END_CRIT_SECTION();
    w->pages++;
}

static Relation
open_heap(Oid id)
{
    /* conflicts with nobody but those who would change or move the table */
    Relation table = try_relation_open(id, RowExclusiveLock);

    if (table == NULL)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("there is no table %u", id)));
    if ((table->rd_rel->relkind != RELKIND_RELATION &&
         table->rd_rel->relkind != RELKIND_TOASTVALUE) ||
        table->rd_rel->relam != HEAP_TABLE_AM_OID)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("\"%s\" is not a table whose pages are known",
                               RelationGetRelationName(table))));
    return table;
}

/* (table, from_page, max_pages, horizon) -> (next_page, kept, wiped): next_page is NULL behind the last. */
PG_FUNCTION_INFO_V1(wipe_pages);
Datum
wipe_pages(PG_FUNCTION_ARGS)
{
    const int64 from = PG_GETARG_INT64(1), max = PG_GETARG_INT64(2);
    const TransactionId horizon =
        XidFromFullTransactionId(FullTransactionIdFromU64(DatumGetUInt64(PG_GETARG_DATUM(3))));
    bool nulls[COLUMNS] = {false};
    TupleDesc desc;
    wiped w = {0};

    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "wipe_pages returns a row");
    if (from < 0 || max < 0 || !TransactionIdIsNormal(horizon))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("that is no range of pages")));
    Relation table = open_heap(PG_GETARG_OID(0));
    BufferAccessStrategy strategy = GetAccessStrategy(BAS_VACUUM);
    const int64 n_pages = RelationGetNumberOfBlocks(table);
    const int64 to = from + Min(max, n_pages - Min(from, n_pages));

    for (int64 i = from; i < to; i++) {
        CHECK_FOR_INTERRUPTS();
        Buffer buffer =
            ReadBufferExtended(table, MAIN_FORKNUM, (BlockNumber)i, RBM_NORMAL, strategy);
        LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
        wipe_page(table, buffer, horizon, &w);
        UnlockReleaseBuffer(buffer);
    }
    FreeAccessStrategy(strategy);
    relation_close(table, NoLock);
    nulls[0] = to >= n_pages;
    Datum values[COLUMNS] = {Int64GetDatum(to), Int64GetDatum(w.kept), Int64GetDatum(w.pages)};
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}
