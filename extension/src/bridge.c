/*
 * bridge.c - see bridge.h.
 *
 * Alignment: libraries are promised max_align_t (16 bytes), palloc promises 8. So a request takes a
 * little more, is aligned by hand, and the chunk's own address stands in the word before.
 */
#include "bridge.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include <stdalign.h>
#include <stddef.h>

/* ---- memory ----------------------------------------------------------------------------- */

enum { ALIGN_BYTES = alignof(max_align_t), EXTRA_BYTES = ALIGN_BYTES + sizeof(void *) };

static void *
chunk_new(bridge_alloc *a, size_t size)
{
    if (size > BRIDGE_ALLOC_MAX - EXTRA_BYTES)
        return NULL;
    size_t full = size + EXTRA_BYTES;
    if (a->budget_bytes != 0 && (full > a->budget_bytes || a->used_bytes > a->budget_bytes - full))
        return NULL;
    char *raw = MemoryContextAllocExtended(a->context, full, MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE);
    if (raw == NULL)
        return NULL;
    a->used_bytes += full;
    char *aligned = (char *)TYPEALIGN(ALIGN_BYTES, (uintptr_t)(raw + sizeof(void *)));
    memcpy(aligned - sizeof(void *), &raw, sizeof(void *));
    return aligned;
}

static void
chunk_free(bridge_alloc *a, void *p, size_t size)
{
    char *raw;

    memcpy(&raw, (char *)p - sizeof(void *), sizeof(void *));
    pfree(raw);
    Assert(a->used_bytes >= size + EXTRA_BYTES);
    a->used_bytes -= size + EXTRA_BYTES;
}

/* repalloc cannot be told to return NULL in every supported version, hence new, copy, free. */
static void *
bridge_realloc(void *self, void *old, size_t old_size, size_t new_size)
{
    bridge_alloc *a = self;

    if (new_size == 0) {
        if (old != NULL)
            chunk_free(a, old, old_size);
        return NULL;
    }
    void *p = chunk_new(a, new_size);
    if (p != NULL && old != NULL) {
        memcpy(p, old, Min(old_size, new_size));
        chunk_free(a, old, old_size);
    }
    return p;
}

void
bridge_alloc_init(bridge_alloc *a, MemoryContext context, size_t budget_bytes)
{
    *a = (bridge_alloc){
        .alloc = {.realloc = bridge_realloc, .self = a},
        .context = context,
        .budget_bytes = budget_bytes,
    };
}

/* ---- errors ----------------------------------------------------------------------------- */

static const struct {
    int sqlstate;
    const char *text; /* when the library gave none */
} status_table[PS_STATUS_MAX] = {
    [PS_OK] = {ERRCODE_INTERNAL_ERROR, "a call that succeeded was reported as failed"},
    [PS_EINVAL] = {ERRCODE_INVALID_PARAMETER_VALUE, "invalid input"},
    [PS_ENOMEM] = {ERRCODE_OUT_OF_MEMORY, "out of memory"},
    [PS_ELIMIT] = {ERRCODE_PROGRAM_LIMIT_EXCEEDED, "a limit was exceeded"},
    [PS_ECORRUPT] = {ERRCODE_DATA_CORRUPTED, "stored data are damaged"},
    [PS_EUNSUPPORTED] = {ERRCODE_FEATURE_NOT_SUPPORTED, "not supported by this version"},
    [PS_ENOTFOUND] = {ERRCODE_UNDEFINED_OBJECT, "not found"},
    [PS_ECONFLICT] = {ERRCODE_T_R_SERIALIZATION_FAILURE, "the catalog has changed meanwhile"},
    [PS_ETIMEOUT] = {ERRCODE_QUERY_CANCELED, "timed out"},
    [PS_ECANCELED] = {ERRCODE_QUERY_CANCELED, "canceled"},
    [PS_EUNAVAILABLE] = {ERRCODE_CANNOT_CONNECT_NOW, "not available at the moment"},
    [PS_EINTERNAL] = {ERRCODE_INTERNAL_ERROR, "internal error"},
};

int
bridge_sqlstate(ps_status status)
{
    if ((unsigned)status >= PS_STATUS_MAX)
        return ERRCODE_INTERNAL_ERROR;
    return status_table[status].sqlstate;
}

/* Library texts may quote foreign bytes; a message must be valid in the database's encoding. */
static const char *
presentable(const char *text)
{
    if (pg_verify_mbstr(GetDatabaseEncoding(), text, (int)strlen(text), true))
        return text;
    char *copy = pstrdup(text);
    for (char *c = copy; *c != '\0'; c++) {
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    }
    return copy;
}

const char *
bridge_text(ps_status status, const ps_err *err)
{
    if ((unsigned)status >= PS_STATUS_MAX)
        status = PS_EINTERNAL;
    if (err != NULL && err->code == status && err->text[0] != '\0')
        return presentable(err->text);
    return status_table[status].text;
}

void
bridge_raise(ps_status status, const ps_err *err, const char *detail, const char *hint)
{
    if (status == PS_ECANCELED)
        CHECK_FOR_INTERRUPTS();
    if ((unsigned)status >= PS_STATUS_MAX)
        status = PS_EINTERNAL;
    ereport(ERROR, (errcode(bridge_sqlstate(status)), errmsg_internal("%s", bridge_text(status, err)),
                    detail != NULL ? errdetail_internal("%s", detail) : 0,
                    hint != NULL ? errhint("%s", hint) : 0));
    pg_unreachable();
}

/* ---- interrupts ------------------------------------------------------------------------- */

bool
bridge_interrupted(void *unused)
{
    return InterruptPending && (QueryCancelPending || ProcDiePending || ClientConnectionLost);
}

/* ---- time ------------------------------------------------------------------------------- */

bool
bridge_ms_to_timestamptz(int64 ms, TimestampTz *ret)
{
    if (ms < MDL_TIME_MIN_MS || ms > MDL_TIME_MAX_MS)
        return false;
    *ret = bridge_ms_to_timestamptz_unchecked(ms);
    return true;
}

int64
bridge_timestamptz_floor_ms(TimestampTz ts)
{
    if (TIMESTAMP_IS_NOBEGIN(ts))
        return PG_INT64_MIN;
    if (TIMESTAMP_IS_NOEND(ts))
        return PG_INT64_MAX;
    int64 ms = ts / 1000;
    if (ts % 1000 < 0)
        ms--;
    return ms + BRIDGE_EPOCH_SHIFT_MS;
}

int64
bridge_timestamptz_ceil_ms(TimestampTz ts)
{
    if (TIMESTAMP_NOT_FINITE(ts))
        return bridge_timestamptz_floor_ms(ts);
    return bridge_timestamptz_floor_ms(ts) + (ts % 1000 != 0);
}

bool
bridge_timestamptz_to_ms(TimestampTz ts, int64 *ret)
{
    if (TIMESTAMP_NOT_FINITE(ts) || ts % 1000 != 0)
        return false;
    *ret = ts / 1000 + BRIDGE_EPOCH_SHIFT_MS;
    return true;
}

/* ---- block rows ------------------------------------------------------------------------- */

const Oid bridge_meta_types[BRIDGE_META_N] = {
    INT4OID, INT4OID, INT8OID,        INT2OID,        INT2OID, INT2OID,
    INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT4OID,
};

ps_status
bridge_meta_read(HeapTuple tuple, TupleDesc desc, int first_attno, blk_meta *ret, ps_err *err)
{
    Datum d[BRIDGE_META_N];
    blk_meta meta = {0};
    ps_status status = PS_OK;

    for (int i = 0; i < BRIDGE_META_N; i++) {
        bool isnull;

        d[i] = SPI_getbinval(tuple, desc, first_attno + i, &isnull);
        if (SPI_result < 0)
            elog(ERROR, "column %d of a block row is not there", first_attno + i);
        if (isnull) {
            d[i] = (Datum)0;
            status = ps_fail(err, PS_ECORRUPT, "column \"%s\" of a block row is null",
                             NameStr(TupleDescAttr(desc, first_attno + i - 1)->attname));
        }
    }
    meta.tenant_id = DatumGetInt32(d[0]);
    meta.metric_id = DatumGetInt32(d[1]);
    meta.dist_key = DatumGetInt64(d[2]);
    meta.level = DatumGetInt16(d[3]);
    meta.kind = DatumGetInt16(d[4]);
    meta.format = DatumGetInt16(d[5]);
    meta.series_lo = DatumGetInt64(d[6]);
    meta.series_hi = DatumGetInt64(d[7]);
    meta.n_series = DatumGetInt32(d[10]);
    meta.n_samples = DatumGetInt32(d[11]);
    bool whole = bridge_timestamptz_to_ms(DatumGetTimestampTz(d[8]), &meta.t_min_ms);
    whole &= bridge_timestamptz_to_ms(DatumGetTimestampTz(d[9]), &meta.t_max_ms);
    if (!whole && status == PS_OK)
        status = ps_fail(err, PS_ECORRUPT, "a time bound of a block row is not a whole millisecond");
    if (!whole) {
        meta.t_min_ms = bridge_timestamptz_floor_ms(DatumGetTimestampTz(d[8]));
        meta.t_max_ms = bridge_timestamptz_floor_ms(DatumGetTimestampTz(d[9]));
    }
    *ret = meta;
    return status;
}

void
bridge_meta_from_tuple(HeapTuple tuple, TupleDesc desc, int first_attno, blk_meta *ret)
{
    ps_err err = {0};

    bridge_check(bridge_meta_read(tuple, desc, first_attno, ret, &err), &err);
}

void
bridge_meta_to_datums(const blk_meta *meta, Datum ret[BRIDGE_META_N])
{
    TimestampTz t_min, t_max;

    if (!bridge_ms_to_timestamptz(meta->t_min_ms, &t_min) ||
        !bridge_ms_to_timestamptz(meta->t_max_ms, &t_max))
        ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
                        errmsg("a block's time bound is outside timestamptz")));
    ret[0] = Int32GetDatum(meta->tenant_id);
    ret[1] = Int32GetDatum(meta->metric_id);
    ret[2] = Int64GetDatum(meta->dist_key);
    ret[3] = Int16GetDatum(meta->level);
    ret[4] = Int16GetDatum(meta->kind);
    ret[5] = Int16GetDatum(meta->format);
    ret[6] = Int64GetDatum(meta->series_lo);
    ret[7] = Int64GetDatum(meta->series_hi);
    ret[8] = TimestampTzGetDatum(t_min);
    ret[9] = TimestampTzGetDatum(t_max);
    ret[10] = Int32GetDatum(meta->n_series);
    ret[11] = Int32GetDatum(meta->n_samples);
}
