/*
 * block_info.c - what is inside a block row, for those who only count: small metrics of a tenant share
 * rows of _prom_data.fresh, and prom_info.metric gives each its part.
 */
#include "bridge.h"
#include "damage.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* A block is at most BLK_MAX_BYTES; its directory and decompressed body are of that order. */
#define BLOCK_INFO_BUDGET ((size_t)512 << 20)

typedef struct part {
    int32 metric_id;
    int64 n_samples;
    int64 t_min_ms, t_max_ms;
} part;

static void
put_part(ReturnSetInfo *rsinfo, const part *p)
{
    TimestampTz t_min, t_max;
    bool nulls[4] = {false};

    if (!bridge_ms_to_timestamptz(p->t_min_ms, &t_min) ||
        !bridge_ms_to_timestamptz(p->t_max_ms, &t_max))
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("a block holds a time outside timestamptz")));
    Datum values[4] = {Int32GetDatum(p->metric_id), Int64GetDatum(p->n_samples),
                       TimestampTzGetDatum(t_min), TimestampTzGetDatum(t_max)};
    tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* block_parts(data) -> (metric_id, n_samples, t_min, t_max), one row a metric. */
PG_FUNCTION_INFO_V1(block_parts);
Datum
block_parts(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *)fcinfo->resultinfo;
    bytea *data = PG_GETARG_BYTEA_PP(0);
    blk_reader *reader = NULL;
    bridge_alloc alloc;
    ps_err err = {0};
    part p = {0};

    InitMaterializedSRF(fcinfo, 0);
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "promscale block", ALLOCSET_DEFAULT_SIZES);
    bridge_alloc_init(&alloc, context, BLOCK_INFO_BUDGET);
    bridge_check(blk_reader_open(&alloc.alloc, (ps_str){VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data)},
                                 NULL, &reader, &err),
                 &err);
    for (uint32 i = 0; i < blk_reader_n_series(reader); i++) { /* ascending by metric */
        blk_series s;

        blk_reader_series(reader, i, &s);
        if (p.n_samples > 0 && s.metric_id != p.metric_id) {
            put_part(rsinfo, &p);
            p.n_samples = 0;
        }
        if (p.n_samples == 0)
            p = (part){.metric_id = s.metric_id, .t_min_ms = s.t_first_ms, .t_max_ms = s.t_last_ms};
        p.n_samples += s.n_samples;
        p.t_min_ms = Min(p.t_min_ms, s.t_first_ms);
        p.t_max_ms = Max(p.t_max_ms, s.t_last_ms);
    }
    if (p.n_samples > 0)
        put_part(rsinfo, &p);
    blk_reader_free(reader);
    MemoryContextDelete(context);
    return (Datum)0;
}

/* block_head(data): the first bytes of a block, which say which series it holds, and of each its bounds
 * and last value. A flush block has no such part: all of it. */
PG_FUNCTION_INFO_V1(block_head);
Datum
block_head(PG_FUNCTION_ARGS)
{
    enum { PREFIX = 64 };
    Datum data = PG_GETARG_DATUM(0);
    bytea *prefix = PG_DETOAST_DATUM_SLICE(data, 0, PREFIX);
    size_t n = blk_head_bytes((ps_str){VARDATA_ANY(prefix), VARSIZE_ANY_EXHDR(prefix)});

    if (n == 0 || n > BLK_MAX_BYTES)
        PG_RETURN_DATUM(data);
    PG_RETURN_BYTEA_P(PG_DETOAST_DATUM_SLICE(data, 0, (int32)n));
}

/* block_bytes(data, head): all of it, or what block_head() gives; NULL if the server cannot bring it. */
PG_FUNCTION_INFO_V1(block_bytes);
Datum
block_bytes(PG_FUNCTION_ARGS)
{
    enum { GUESS = 3992 }; /* two TOAST chunks: mostly that is the whole head */
    struct varlena *data = (struct varlena *)DatumGetPointer(PG_GETARG_DATUM(0)), *bytes;
    size_t n;

    if (!VARATT_IS_EXTERNAL(data) && !VARATT_IS_COMPRESSED(data))
        PG_RETURN_POINTER(data);
    if (PG_GETARG_BOOL(1)) {
        if (damage_detoast(data, GUESS, &bytes, NULL) != PS_OK)
            PG_RETURN_NULL();
        n = blk_head_bytes((ps_str){VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)});
        if (n != 0 && n <= VARSIZE_ANY_EXHDR(bytes)) {
            SET_VARSIZE(bytes, VARHDRSZ + n);
            PG_RETURN_POINTER(bytes);
        }
        if (n > BLK_MAX_BYTES)
            n = 0;
    } else {
        n = 0;
    }
    if (damage_detoast(data, n, &bytes, NULL) != PS_OK)
        PG_RETURN_NULL();
    PG_RETURN_POINTER(bytes);
}

PG_FUNCTION_INFO_V1(block_bucket);
Datum
block_bucket(PG_FUNCTION_ARGS)
{
    PG_RETURN_INT32(mdl_bucket(PG_GETARG_INT32(0)));
}
