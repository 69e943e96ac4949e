/*
 * fdw_blocks.c - the directory: block rows of one metric (and of the bucket that it may be packed
 * into), read in pages in order of (t_min, table, id), and opening the blocks that they hold.
 *
 * A cluster is a run of rows whose times overlap: it ends where the next row starts after everything
 * before has ended. Blocks of different clusters have no sample in common, so clusters are walked one
 * after another and forgotten. Sealed windows, which never overlap, are a cluster each.
 *
 * Pages: a statement reads the first rows after the last key, so no portal is open between calls. Rows
 * of `block` are further bounded below by the start of the UTC day that holds the first wanted
 * millisecond: no block crosses a day, and that bound is what prunes partitions.
 *
 * A row brings its bytes in line or as a TOAST pointer. In-line bytes are kept up to a bound; beyond
 * it they are dropped and fetched again by key when the block is opened.
 *
 * When a rescan may come and everything fits into one page, the rows (and, up to work_mem, the opened
 * blocks) are kept: a nested loop then pays for its blocks once.
 */
#include "fdw.h"

#include "access/detoast.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

enum {
    FIRST_PAGE_ROWS = 1000, /* a query with LIMIT may need no more */
    PAGE_ROWS = 5000,
    KEPT_PAGE_ROWS = 20000,      /* when a rescan may come */
    MAX_INLINE_BYTES = 32 << 20, /* of rows in memory */
};

const char *const fdw_table_names[FDW_TABLE_N] = {
    [FDW_TABLE_BLOCK] = "_prom_data.block",
    [FDW_TABLE_FAR] = "_prom_data.block_far",
    [FDW_TABLE_MERGED] = "_prom_data.merged",
    [FDW_TABLE_FRESH] = "_prom_data.fresh",
};

/* ---- rows --------------------------------------------------------------------------------- */

void
fdw_directory_init(fdw_directory *dir, fdw_scan *scan, MemoryContext parent)
{
    memset(dir, 0, sizeof(*dir));
    dir->scan = scan;
    dir->context = AllocSetContextCreate(parent, "promscale block rows", ALLOCSET_DEFAULT_SIZES);
}

void
fdw_directory_close(fdw_directory *dir)
{
    for (size_t i = 0; i < dir->n; i++)
        fdw_block_close(dir->scan, dir->items[i]);
    MemoryContextReset(dir->context);
    dir->items = NULL;
    dir->n = dir->cap = 0;
    dir->inline_bytes = 0;
    dir->valid = false;
}

void
fdw_directory_open(fdw_directory *dir, int32 metric_id, int64 from_ms, int64 to_ms, int64 series_lo,
                   int64 series_hi, bool keep)
{
    if (dir->valid && dir->complete && dir->metric_id == metric_id && dir->from_ms == from_ms &&
        dir->to_ms == to_ms && dir->series_lo <= series_lo && dir->series_hi >= series_hi) {
        dir->next = 0;
        return;
    }
    fdw_directory_close(dir);
    dir->metric_id = metric_id;
    dir->from_ms = from_ms;
    dir->to_ms = to_ms;
    dir->series_lo = series_lo;
    dir->series_hi = series_hi;
    dir->valid = true;
    dir->keep = keep;
    dir->complete = false;
    dir->eof = false;
    dir->next = 0;
    dir->pages = 0;
}

static void
item_free(fdw_directory *dir, fdw_block *block)
{
    fdw_block_close(dir->scan, block);
    dir->inline_bytes -= block->inline_bytes;
    if (block->data != NULL)
        pfree(block->data);
    pfree(block);
}

/* Forgets what was walked, to make room for the next page. */
static void
drop_walked(fdw_directory *dir, size_t n)
{
    for (size_t i = 0; i < n; i++)
        item_free(dir, dir->items[i]);
    memmove(dir->items, dir->items + n, (dir->n - n) * sizeof(*dir->items));
    dir->n -= n;
}

static void
item_add(fdw_directory *dir, HeapTuple tuple, TupleDesc desc)
{
    bool place_null, id_null, data_null;
    int place = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &place_null));
    int64 id = DatumGetInt64(SPI_getbinval(tuple, desc, 2, &id_null));
    Datum data = SPI_getbinval(tuple, desc, 3 + BRIDGE_META_N, &data_null);
    blk_meta meta;

    if (place_null || id_null || place < 0 || place >= FDW_TABLE_N)
        elog(ERROR, "a row of the block directory is not as asked for");
    bridge_meta_from_tuple(tuple, desc, 3, &meta);
    dir->last_t_ms = meta.t_min_ms;
    dir->last_table = place;
    dir->last_id = id;
    if (meta.series_lo > dir->series_hi || meta.series_hi < dir->series_lo) {
        dir->skipped++;
        return;
    }
    if (dir->n == dir->cap) {
        dir->cap = dir->cap == 0 ? 64 : dir->cap * 2;
        if (dir->items == NULL)
            dir->items = MemoryContextAllocHuge(dir->context, dir->cap * sizeof(*dir->items));
        else
            dir->items = repalloc_huge(dir->items, dir->cap * sizeof(*dir->items));
    }

    fdw_block *block = MemoryContextAllocZero(dir->context, sizeof(*block));

    block->table = place;
    block->id = id;
    block->meta = meta;
    if (!data_null) {
        struct varlena *bytes = (struct varlena *)DatumGetPointer(data);
        size_t size = VARSIZE_ANY(bytes);
        bool external = VARATT_IS_EXTERNAL(bytes);

        if (external || dir->inline_bytes + size <= MAX_INLINE_BYTES) {
            block->data = MemoryContextAlloc(dir->context, size);
            memcpy(block->data, bytes, size);
            block->inline_bytes = external ? 0 : size;
            dir->inline_bytes += block->inline_bytes;
        }
    }
    dir->items[dir->n++] = block;
}

static Datum
timestamptz_datum(int64 ms)
{
    if (ms <= MDL_TIME_MIN_MS)
        return TimestampTzGetDatum(DT_NOBEGIN);
    if (ms >= MDL_TIME_MAX_MS)
        return TimestampTzGetDatum(DT_NOEND);
    return TimestampTzGetDatum(bridge_ms_to_timestamptz_unchecked(ms));
}

static void
read_page(fdw_directory *dir)
{
    bool first = dir->pages == 0;
    long limit = first && dir->keep ? KEPT_PAGE_ROWS : first ? FIRST_PAGE_ROWS : PAGE_ROWS;
    int64 day = mdl_day_start_ms(dir->from_ms);
    Datum values[10] = {
        Int32GetDatum(dir->metric_id),
        Int32GetDatum(mdl_bucket(dir->metric_id)),
        timestamptz_datum(dir->from_ms),
        timestamptz_datum(dir->to_ms),
        timestamptz_datum(first ? day : Max(day, dir->last_t_ms)),
        TimestampTzGetDatum(first ? DT_NOBEGIN
                                  : bridge_ms_to_timestamptz_unchecked(dir->last_t_ms)),
        Int32GetDatum(first ? -1 : (int)dir->last_table),
        Int64GetDatum(first ? 0 : dir->last_id),
        Int64GetDatum(dir->series_lo),
        Int64GetDatum(dir->series_hi),
    };
    size_t skipped = dir->skipped;

    fdw_spi_begin(dir->scan->snapshot);

    uint64 n = fdw_spi_run(FDW_STMT_DIRECTORY, values, limit);

    for (uint64 i = 0; i < n; i++)
        item_add(dir, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
    fdw_spi_end();
    dir->pages++;
    dir->eof = n < (uint64)limit;
    dir->complete = dir->eof && first && dir->keep;
    dir->scan->counts.blocks_skipped += dir->skipped - skipped;
}

bool
fdw_directory_next(fdw_directory *dir, size_t *ret_first, size_t *ret_n)
{
    size_t n = 0;
    int64 end_ms = PG_INT64_MIN;

    if (!dir->complete && dir->next > 0) {
        drop_walked(dir, dir->next);
        dir->next = 0;
    }
    for (;;) {
        while (dir->next + n < dir->n) {
            const blk_meta *meta = &dir->items[dir->next + n]->meta;

            if (n > 0 && meta->t_min_ms > end_ms) {
                *ret_first = dir->next;
                *ret_n = n;
                dir->next += n;
                return true;
            }
            end_ms = Max(end_ms, meta->t_max_ms);
            n++;
        }
        if (dir->complete || dir->eof)
            break;
        CHECK_FOR_INTERRUPTS();
        read_page(dir);
    }
    *ret_first = dir->next;
    *ret_n = n;
    dir->next += n;
    return n > 0;
}

/* ---- bytes -------------------------------------------------------------------------------- */

void
fdw_block_raise(const fdw_block *block, ps_status status, const ps_err *err)
{
    char *detail = psprintf("Block %lld of table %s (metric_id %d).", (long long)block->id,
                            fdw_table_names[block->table], block->meta.metric_id);

    bridge_raise(status, err, detail, NULL);
}

/* The row's bytes again, by primary key. */
static struct varlena *
fetch_by_key(fdw_scan *scan, const fdw_block *block)
{
    static const fdw_stmt stmts[FDW_TABLE_N] = {
        [FDW_TABLE_BLOCK] = FDW_STMT_DATA_BLOCK,
        [FDW_TABLE_FAR] = FDW_STMT_DATA_FAR,
        [FDW_TABLE_MERGED] = FDW_STMT_DATA_MERGED,
        [FDW_TABLE_FRESH] = FDW_STMT_DATA_FRESH,
    };
    Datum values[4] = {
        Int32GetDatum(block->meta.metric_id),
        TimestampTzGetDatum(bridge_ms_to_timestamptz_unchecked(block->meta.t_min_ms)),
        Int64GetDatum(block->meta.dist_key),
        Int64GetDatum(block->id),
    };
    bool isnull = true;
    Datum data = 0;
    struct varlena *copy = NULL;
    MemoryContext old = CurrentMemoryContext;

    fdw_spi_begin(scan->snapshot);
    if (fdw_spi_run(stmts[block->table], values, 1) == 1)
        data = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
    if (!isnull) {
        MemoryContext spi_context = MemoryContextSwitchTo(old);

        copy = PG_DETOAST_DATUM_COPY(data);
        MemoryContextSwitchTo(spi_context);
    }
    fdw_spi_end();
    if (copy == NULL)
        elog(ERROR, "block %lld of table %s is not there any more", (long long)block->id,
             fdw_table_names[block->table]);
    return copy;
}

BRIDGE_NORETURN static void raise_budget(void);

static void
raise_budget(void)
{
    ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY),
                    errmsg("too many blocks overlap to be read within %zu MB",
                           FDW_BLOCK_BUDGET_BYTES >> 20),
                    errhint("CALL prom_api.execute_maintenance() folds them into fewer.")));
    pg_unreachable();
}

/* Memory of the library is counted by its allocator, detoasted bytes are counted here. */
static void
check_budget(const fdw_scan *scan, const fdw_block *block)
{
    size_t size = 0;

    if (block->data != NULL && VARATT_IS_EXTERNAL(block->data))
        size = toast_raw_datum_size(PointerGetDatum(block->data));

    if (scan->open_bytes + size > FDW_BLOCK_BUDGET_BYTES)
        raise_budget();
}

void
fdw_block_open(fdw_scan *scan, fdw_block *block)
{
    if (block->reader != NULL)
        return;

    MemoryContext old = MemoryContextSwitchTo(scan->block_memory.context);
    struct varlena *bytes = block->data;
    size_t used = scan->block_memory.used_bytes;
    ps_err err = {0};

    check_budget(scan, block);
    if (bytes == NULL)
        bytes = block->plain = fetch_by_key(scan, block);
    else if (VARATT_IS_EXTERNAL(bytes) || VARATT_IS_COMPRESSED(bytes))
        bytes = block->plain = detoast_attr(bytes);
    MemoryContextSwitchTo(old);

    ps_str data = {.ptr = VARDATA_ANY(bytes), .len = VARSIZE_ANY_EXHDR(bytes)};
    ps_status status =
        blk_reader_open(&scan->block_memory.alloc, data, &block->meta, &block->reader, &err);

    if (status == PS_ENOMEM)
        raise_budget();
    if (status != PS_OK)
        fdw_block_raise(block, status, &err);
    block->n_series = blk_reader_n_series(block->reader);
    block->open_bytes = scan->block_memory.used_bytes - used;
    if (block->plain != NULL)
        block->open_bytes += VARSIZE_ANY(block->plain);
    scan->open_bytes += block->open_bytes;
    if (!block->counted) {
        block->counted = true;
        scan->counts.blocks_read++;
    }
}

/* Looks at series pos, which is at or after where the walk wants to be. */
static void
look_at(fdw_block *block, int32 metric_id, uint32 pos)
{
    block->pos = pos;
    block->current_valid = pos < block->n_series;
    if (block->current_valid) {
        blk_reader_series(block->reader, pos, &block->current);
        block->current_valid = block->current.metric_id == metric_id;
    }
}

void
fdw_block_seek(fdw_block *block, int32 metric_id, int64 series_id)
{
    look_at(block, metric_id, blk_reader_seek(block->reader, metric_id, series_id));
}

/* Forwards to the first series of the metric that is >= series_id; mostly that is the next one. */
void
fdw_block_advance(fdw_block *block, int32 metric_id, int64 series_id)
{
    look_at(block, metric_id, block->pos + 1);
    if (block->current_valid && block->current.series_id < series_id)
        fdw_block_seek(block, metric_id, series_id);
}

void
fdw_block_close(fdw_scan *scan, fdw_block *block)
{
    if (block->reader == NULL)
        return;
    blk_reader_free(block->reader);
    block->reader = NULL;
    if (block->plain != NULL)
        pfree(block->plain);
    block->plain = NULL;
    scan->open_bytes -= block->open_bytes;
    block->open_bytes = 0;
}

void
fdw_block_leave(fdw_scan *scan, fdw_block *block)
{
    if (!scan->directory.complete || scan->open_bytes > (size_t)work_mem * 1024)
        fdw_block_close(scan, block);
}
