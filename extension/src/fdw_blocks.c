/*
 * fdw_blocks.c - opens the blocks that rows hold, whole or their heads only.
 *
 * A row brings its bytes in line or as a TOAST pointer, which is followed here; bytes that the
 * directory did not keep are fetched again by key. Whole blocks of merged and sealed rows have their
 * checksums compared; of a head only so many TOAST chunks are read as the head takes (2 to 5 % of a
 * sealed block), and it answers which series there are and how each ends.
 *
 * A block that cannot be read is told of once and passed over from then on (damage.h). What is found to
 * be wrong later, inside a block whose checksums fit, is an error: nobody but a broken writer makes such.
 *
 * Memory: readers and copies of bytes live in the scan's block memory and are given back on closing.
 */
#include "fdw.h"

#include "damage.h"

#include "access/detoast.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Two TOAST chunks: mostly that is the whole head. */
enum { HEAD_GUESS_BYTES = 3992 };

const char *const fdw_table_names[FDW_TABLE_N] = {
    [FDW_TABLE_BLOCK] = "_prom_data.block",
    [FDW_TABLE_FAR] = "_prom_data.block_far",
    [FDW_TABLE_MERGED] = "_prom_data.merged",
    [FDW_TABLE_FRESH] = "_prom_data.fresh",
};

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

/* ---- memory ------------------------------------------------------------------------------- */

int fdw_block_memory_kb = 256 * 1024;

void
fdw_define_settings(void)
{
    DefineCustomIntVariable("promscale.block_memory",
                            "Memory for the blocks that a query on samples has open.",
                            "Where more blocks overlap than fit, they are read in turns.",
                            &fdw_block_memory_kb, fdw_block_memory_kb, 64, MAX_KILOBYTES,
                            PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
}

/* Detoasted bytes, or the body in the clear; the directory; values and what decodes them. */
size_t
fdw_block_need(const fdw_block *block)
{
    size_t bytes = (size_t)block->meta.n_series * 96 + 8192;

    if (block->data != NULL)
        bytes += toast_raw_datum_size(PointerGetDatum(block->data));
    if (block->meta.format == BLK_FORMAT_FLUSH)
        bytes += (size_t)block->meta.n_samples * 24;
    return bytes;
}

static size_t
open_bytes(const fdw_scan *scan)
{
    return scan->block_memory.used_bytes + scan->plain_bytes;
}

bool
fdw_block_fits(const fdw_scan *scan, const fdw_block *block)
{
    return open_bytes(scan) + fdw_block_need(block) <= (size_t)fdw_block_memory_kb * 1024;
}

/* ---- opening and closing ------------------------------------------------------------------ */

void
fdw_block_count(fdw_scan *scan, fdw_block *block, fdw_counted what)
{
    uint64 *const counts[] = {
        [FDW_COUNTED_SKIPPED] = &scan->counts.blocks_skipped,
        [FDW_COUNTED_HEAD] = &scan->counts.blocks_heads,
        [FDW_COUNTED_READ] = &scan->counts.blocks_read,
    };

    if (block->counted >= what)
        return;
    if (block->counted != FDW_COUNTED_NOT)
        (*counts[block->counted])--;
    (*counts[what])++;
    block->counted = what;
}

/* The reader is there: notes what it takes. */
static void
opened(fdw_scan *scan, fdw_block *block, bool head_only)
{
    block->head_only = head_only;
    block->n_series = blk_reader_n_series(block->reader);
    if (block->plain != NULL)
        scan->plain_bytes += VARSIZE_ANY(block->plain);
    scan->counts.bytes_read +=
        VARSIZE_ANY_EXHDR(block->plain != NULL ? block->plain : block->data);
    fdw_block_count(scan, block, head_only ? FDW_COUNTED_HEAD : FDW_COUNTED_READ);
}

/* Nothing of the block is shown from here on. */
static bool
damaged(fdw_scan *scan, fdw_block *block, ps_status status, const ps_err *err)
{
    if (!damage_is(status))
        fdw_block_raise(block, status, err);
    if (block->plain != NULL)
        pfree(block->plain);
    block->plain = NULL;
    block->damaged = true;
    scan->counts.blocks_damaged++;
    damage_found(fdw_table_names[block->table], block->id, &block->meta, status, err);
    return false;
}

typedef struct fetching {
    fdw_scan *scan;
    const fdw_block *block;
    struct varlena *plain;
} fetching;

static void
fetch_guarded(void *arg)
{
    fetching *f = arg;

    f->plain = fetch_by_key(f->scan, f->block);
}

/* All bytes of the block in the clear, from wherever they are. */
static ps_status
fetch_bytes(fdw_scan *scan, fdw_block *block, struct varlena **ret, ps_err *err)
{
    if (block->data == NULL) {
        fetching f = {.scan = scan, .block = block};

        PS_TRY(damage_guarded(fetch_guarded, &f, err));
        *ret = block->plain = f.plain;
        return PS_OK;
    }
    PS_TRY(damage_detoast(block->data, 0, ret, err));
    if (*ret != block->data)
        block->plain = *ret;
    return PS_OK;
}

bool
fdw_block_open(fdw_scan *scan, fdw_block *block)
{
    if (block->damaged)
        return false;
    if (block->reader != NULL && !block->head_only)
        return true;
    fdw_block_close(scan, block);

    MemoryContext old = MemoryContextSwitchTo(scan->block_memory.context);
    struct varlena *bytes = NULL;
    ps_err err = {0};
    ps_status status = fetch_bytes(scan, block, &bytes, &err);

    MemoryContextSwitchTo(old);
    if (status == PS_OK) {
        ps_str data = {.ptr = VARDATA_ANY(bytes), .len = VARSIZE_ANY_EXHDR(bytes)};

        status = blk_reader_open_lazy(&scan->block_memory.alloc, data, &block->meta, &block->reader,
                                      &err);
    }
    if (status != PS_OK)
        return damaged(scan, block, status, &err);
    opened(scan, block, false);
    return true;
}

/* The first bytes of the block, as many as its head has; NULL: the block has to be opened whole. */
static ps_status
fetch_head(fdw_scan *scan, const fdw_block *block, struct varlena **ret, ps_err *err)
{
    MemoryContext old = MemoryContextSwitchTo(scan->block_memory.context);
    struct varlena *bytes = NULL;
    size_t total = toast_raw_datum_size(PointerGetDatum(block->data)) - VARHDRSZ, head = 0;
    ps_status status = damage_detoast(block->data, HEAD_GUESS_BYTES, &bytes, err);

    if (status == PS_OK)
        head = blk_head_bytes((ps_str){VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)});
    if (status == PS_OK && (head == 0 || head > total)) {
        pfree(bytes);
        bytes = NULL;
    } else if (status == PS_OK && head > VARSIZE_ANY_EXHDR(bytes)) {
        pfree(bytes);
        status = damage_detoast(block->data, head, &bytes, err);
    }
    MemoryContextSwitchTo(old);
    *ret = status == PS_OK ? bytes : NULL;
    return status;
}

bool
fdw_block_open_head(fdw_scan *scan, fdw_block *block)
{
    ps_err err = {0};
    ps_status status = PS_OK;

    if (block->damaged)
        return false;
    if (block->reader != NULL)
        return true;
    if (block->meta.format == BLK_FORMAT_COLUMNS && block->data != NULL &&
        VARATT_IS_EXTERNAL(block->data))
        status = fetch_head(scan, block, &block->plain, &err);
    if (status == PS_OK && block->plain == NULL)
        return fdw_block_open(scan, block);
    if (status == PS_OK) {
        ps_str head = {.ptr = VARDATA_ANY(block->plain), .len = VARSIZE_ANY_EXHDR(block->plain)};

        status = blk_reader_open_head(&scan->block_memory.alloc, head, &block->meta, &block->reader,
                                      &err);
    }
    if (status != PS_OK)
        return damaged(scan, block, status, &err);
    opened(scan, block, true);
    return true;
}

double
fdw_block_last_value(const fdw_block *block)
{
    const blk_series *s = &block->current;
    double value = s->last_value;
    ps_err err = {0};

    if (!s->last_known) {
        ps_status status =
            blk_reader_values(block->reader, s->index, s->n_samples - 1, 1, &value, &err);

        if (status != PS_OK)
            fdw_block_raise(block, status, &err);
    }
    return value;
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
    blk_bench_free(block->bench);
    block->bench = NULL;
    blk_reader_free(block->reader);
    block->reader = NULL;
    block->head_only = false;
    if (block->plain != NULL) {
        scan->plain_bytes -= VARSIZE_ANY(block->plain);
        pfree(block->plain);
    }
    block->plain = NULL;
}

void
fdw_block_leave(fdw_scan *scan, fdw_block *block)
{
    if (!scan->directory.complete || open_bytes(scan) > (size_t)work_mem * 1024)
        fdw_block_close(scan, block);
}
