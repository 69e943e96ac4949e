/*
 * fdw_directory.c - the directory: block rows of one metric (and of the bucket that it may be packed
 * into), read in pages in order of (t_min, table, id).
 *
 * A cluster is a run of rows whose times overlap: it ends where the next row starts after everything
 * before has ended. Blocks of different clusters have no sample in common, so clusters are walked one
 * after another and forgotten. Sealed windows, which never overlap, are a cluster each.
 *
 * Pages: a statement reads the first rows after the last key, so no portal is open between calls. Rows
 * of `block` are further bounded below by the start of the UTC day that holds the first wanted
 * millisecond: no block crosses a day, and that bound is what prunes partitions.
 *
 * Backwards, for those who look for the end of each series: rows of the other tables may be of any
 * length and are read at once; `block` is read by days, at first two, then eight times as many as
 * before. What is not read yet lies on earlier days, so a cluster that begins after those is complete.
 *
 * A row brings its bytes in line or as a TOAST pointer. In-line bytes are kept up to a bound; beyond
 * it they are dropped and fetched again by key when the block is opened.
 *
 * When a rescan may come and everything fits into one page, the rows (and, up to work_mem, the opened
 * blocks) are kept: a nested loop then pays for its blocks once.
 */
#include "fdw.h"

#include "damage.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

enum {
    FIRST_PAGE_ROWS = 1000, /* a query with LIMIT may need no more */
    PAGE_ROWS = 5000,
    KEPT_PAGE_ROWS = 20000,      /* when a rescan may come */
    MAX_INLINE_BYTES = 32 << 20, /* of rows in memory */
    MAX_BACK_DAYS = 1000,        /* then the rest at once */
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
                   int64 series_hi, bool keep, bool backwards)
{
    if (!backwards && dir->valid && dir->complete && dir->metric_id == metric_id &&
        dir->from_ms == from_ms && dir->to_ms == to_ms && dir->series_lo <= series_lo &&
        dir->series_hi >= series_hi) {
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
    dir->keep = keep && !backwards;
    dir->backwards = backwards;
    dir->ended_ms = PG_INT64_MAX;
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
    ps_err err = {0};

    if (place_null || id_null || place < 0 || place >= FDW_TABLE_N)
        elog(ERROR, "a row of the block directory is not as asked for");

    ps_status status = bridge_meta_read(tuple, desc, 3, &meta, &err);

    dir->last_t_ms = meta.t_min_ms;
    dir->last_t = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 3 + BRIDGE_META_T_MIN, &id_null));
    dir->last_table = place;
    dir->last_id = id;
    if (status == PS_OK)
        status = damage_check_row(&meta, &err);
    if (status != PS_OK) {
        dir->scan->counts.blocks_damaged++;
        damage_found(fdw_table_names[place], id, &meta, status, &err);
        return;
    }
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

    block->serial = ++dir->scan->last_serial;
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

/* Runs one of the statements and adds its rows; at the end of what there is it brings fewer than limit. */
static bool
read_rows(fdw_directory *dir, fdw_stmt stmt, Datum *values, long limit)
{
    size_t skipped = dir->skipped;

    fdw_spi_begin(dir->scan->snapshot);

    uint64 n = fdw_spi_run(stmt, values, limit);

    for (uint64 i = 0; i < n; i++)
        item_add(dir, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
    fdw_spi_end();
    dir->scan->counts.blocks_skipped += dir->skipped - skipped;
    return n == (uint64)limit;
}

/* block_from: of table block, rows from here on. */
static void
read_page(fdw_directory *dir, Datum block_from)
{
    bool first = dir->pages == 0;
    long limit = first && dir->keep ? KEPT_PAGE_ROWS : first ? FIRST_PAGE_ROWS : PAGE_ROWS;
    Datum values[11] = {
        Int32GetDatum(dir->metric_id),
        Int32GetDatum(mdl_bucket(dir->metric_id)),
        timestamptz_datum(dir->from_ms),
        timestamptz_datum(dir->to_ms),
        block_from,
        TimestampTzGetDatum(first ? DT_NOBEGIN : dir->last_t),
        Int32GetDatum(first ? -1 : (int)dir->last_table),
        Int64GetDatum(first ? 0 : dir->last_id),
        Int64GetDatum(dir->series_lo),
        Int64GetDatum(dir->series_hi),
        Int16GetDatum(dir->scan->other_kind),
    };

    dir->eof = !read_rows(dir, FDW_STMT_DIRECTORY, values, limit);
    dir->pages++;
    dir->complete = dir->eof && first && dir->keep;
}

/* ---- clusters, forwards ------------------------------------------------------------------- */

static bool
next_forwards(fdw_directory *dir, size_t *ret_first, size_t *ret_n)
{
    size_t n = 0;
    int64 end_ms = PG_INT64_MIN;

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

        int64 day = mdl_day_start_ms(dir->from_ms);

        read_page(dir, timestamptz_datum(dir->pages == 0 ? day : Max(day, dir->last_t_ms)));
    }
    *ret_first = dir->next;
    *ret_n = n;
    dir->next += n;
    return n > 0;
}

/* ---- clusters, backwards ------------------------------------------------------------------ */

static int
compare_end(const void *a, const void *b)
{
    int64 x = (*(fdw_block *const *)a)->meta.t_max_ms, y = (*(fdw_block *const *)b)->meta.t_max_ms;

    return (x < y) - (x > y);
}

static int
compare_start(const void *a, const void *b)
{
    const fdw_block *x = *(fdw_block *const *)a, *y = *(fdw_block *const *)b;

    if (x->meta.t_min_ms != y->meta.t_min_ms)
        return x->meta.t_min_ms < y->meta.t_min_ms ? -1 : 1;
    if (x->table != y->table)
        return x->table < y->table ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The days to be read next; false if there are none. */
static bool
next_days(fdw_directory *dir)
{
    int64 first = mdl_day_start_ms(dir->from_ms), days;

    if (dir->ended_ms == PG_INT64_MAX) {
        int64 now_ms = bridge_timestamptz_floor_ms(GetCurrentTransactionStartTimestamp());

        dir->day_hi_ms = dir->to_ms + 1;
        dir->day_lo_ms = mdl_day_start_ms(Min(dir->to_ms, now_ms)) - MDL_DAY_MS;
        dir->back_days = 2;
    } else {
        if (dir->day_lo_ms <= first)
            return false;
        dir->back_days *= 8;
        days = Min((dir->day_lo_ms - first) / MDL_DAY_MS, dir->back_days);
        dir->day_hi_ms = dir->day_lo_ms;
        dir->day_lo_ms =
            dir->back_days > MAX_BACK_DAYS ? first : dir->day_lo_ms - days * MDL_DAY_MS;
    }
    dir->day_lo_ms = Max(dir->day_lo_ms, first);
    dir->last_t_ms = dir->day_hi_ms - 1;
    dir->last_t = DatumGetTimestampTz(timestamptz_datum(dir->last_t_ms));
    dir->last_id = PG_INT64_MIN;
    return true;
}

static void
read_back(fdw_directory *dir)
{
    if (dir->pages == 0) {
        do {
            CHECK_FOR_INTERRUPTS();
            read_page(dir, TimestampTzGetDatum(DT_NOEND));
        } while (!dir->eof);
        dir->eof = !next_days(dir);
    } else {
        Datum values[9] = {
            Int32GetDatum(dir->metric_id),        timestamptz_datum(dir->from_ms),
            timestamptz_datum(dir->day_lo_ms),    timestamptz_datum(dir->to_ms),
            TimestampTzGetDatum(dir->last_t),     Int64GetDatum(dir->last_id),
            Int64GetDatum(dir->series_lo),        Int64GetDatum(dir->series_hi),
            Int16GetDatum(dir->scan->other_kind),
        };

        if (read_rows(dir, FDW_STMT_DIRECTORY_BACK, values, PAGE_ROWS)) {
            dir->ended_ms = mdl_day_start_ms(dir->last_t_ms) + MDL_DAY_MS;
        } else {
            dir->ended_ms = dir->day_lo_ms;
            dir->eof = !next_days(dir);
        }
    }
    if (dir->n > 1)
        qsort(dir->items, dir->n, sizeof(*dir->items), compare_end);
}

static bool
next_backwards(fdw_directory *dir, size_t *ret_first, size_t *ret_n)
{
    for (;;) {
        size_t n = 0;

        if (dir->n > 0) {
            int64 start_ms = dir->items[0]->meta.t_min_ms;

            for (n = 1; n < dir->n && dir->items[n]->meta.t_max_ms >= start_ms; n++)
                start_ms = Min(start_ms, dir->items[n]->meta.t_min_ms);
            if (start_ms < dir->ended_ms && !dir->eof)
                n = 0;
        }
        if (n > 0 || dir->eof) {
            if (n > 1)
                qsort(dir->items, n, sizeof(*dir->items), compare_start);
            *ret_first = 0;
            *ret_n = dir->next = n;
            return n > 0;
        }
        CHECK_FOR_INTERRUPTS();
        read_back(dir);
    }
}

bool
fdw_directory_next(fdw_directory *dir, size_t *ret_first, size_t *ret_n)
{
    if (!dir->complete && dir->next > 0) {
        drop_walked(dir, dir->next);
        dir->next = 0;
    }
    return dir->backwards ? next_backwards(dir, ret_first, ret_n)
                          : next_forwards(dir, ret_first, ret_n);
}
