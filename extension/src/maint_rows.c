/*
 * maint_rows.c - block rows in and out by SPI, the maintenance lock, arrays for unnest(), and the
 * memory of what went wrong. See maint.h.
 *
 * Tables are reached through SQL only: an engine may have placed the rows elsewhere.
 */
#include "maint.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define LOCK_MAINTENANCE INT64CONST(0x50524f4d00000002)

bool
maint_lock(void)
{
    bool isnull;

    if (XactIsoLevel != XACT_READ_COMMITTED)
        ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
                        errmsg("maintenance needs isolation level READ COMMITTED")));
    int rc = SPI_execute(psprintf("SELECT pg_catalog.pg_try_advisory_xact_lock(" INT64_FORMAT ")",
                                  LOCK_MAINTENANCE),
                         false, 1);
    if (rc != SPI_OK_SELECT || SPI_processed != 1)
        elog(ERROR, "could not ask for the maintenance lock: %s", SPI_result_code_string(rc));
    bool held =
        DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    SPI_freetuptable(SPI_tuptable);
    return held;
}

/* A dump is restored table by table, its sequences last. Until then new rows would get ids below those
 * of old ones, and win over them. */
void
maint_check_ids(int64 max_id)
{
    bool isnull;

    if (SPI_execute("SELECT last_value FROM _prom_data.block_id_seq", false, 1) != SPI_OK_SELECT)
        elog(ERROR, "could not read the sequence of block ids");
    const int64 last =
        DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    SPI_freetuptable(SPI_tuptable);
    if (max_id > last)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("block " INT64_FORMAT " is ahead of the sequence of block ids", max_id),
                 errhint("A restore is under way, or has not set the sequence.")));
}

static maint_rows
take_rows(MemoryContext context, bool with_data, const maint_row **ret_at)
{
    SPITupleTable *table = SPI_tuptable;
    TupleDesc desc = table->tupdesc;
    const int last = BRIDGE_META_N + 2;
    maint_rows rows = {.n = SPI_processed};
    MemoryContext old = MemoryContextSwitchTo(context);

    rows.items = palloc_extended(Max(rows.n, 1) * sizeof(maint_row), MCXT_ALLOC_HUGE);
    for (size_t i = 0; i < rows.n; i++) {
        maint_row *row = &rows.items[i];
        HeapTuple tuple = table->vals[i];
        bool isnull;

        *ret_at = row;
        row->id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
        bridge_meta_from_tuple(tuple, desc, 2, &row->meta);
        Datum d = SPI_getbinval(tuple, desc, last, &isnull);
        if (isnull)
            ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a block row has no data")));
        if (with_data) {
            bytea *data = DatumGetByteaPP(d);
            row->data = (ps_str){VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data)};
            row->data_bytes = (int64)row->data.len;
        } else {
            row->data = (ps_str){NULL, 0};
            row->data_bytes = DatumGetInt64(d);
        }
    }
    *ret_at = NULL;
    MemoryContextSwitchTo(old);
    return rows;
}

maint_rows
maint_rows_take(MemoryContext context, bool with_data)
{
    const maint_row *at;

    return take_rows(context, with_data, &at);
}

maint_rows
maint_rows_take_naming(MemoryContext context, const maint_row **ret_guilty)
{
    return take_rows(context, true, ret_guilty);
}

SPIPlanPtr
maint_prepare(const char *sql, int n_args, const Oid *types)
{
    SPIPlanPtr plan = SPI_prepare(sql, n_args, (Oid *)types);

    if (plan == NULL)
        elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
    return plan;
}

uint64
maint_run(SPIPlanPtr plan, const Datum *values, const char *nulls, int expected)
{
    MemoryContext old = CurrentMemoryContext;
    int rc = SPI_execute_plan(plan, (Datum *)values, nulls, false, 0);

    MemoryContextSwitchTo(old); /* SPI leaves its own context behind */
    if (rc != expected)
        elog(ERROR, "maintenance statement gave %s", SPI_result_code_string(rc));
    return SPI_processed;
}

SPIPlanPtr
maint_prepare_insert(const char *table, bool with_id)
{
    Oid types[BRIDGE_META_N + 2];

    memcpy(types, bridge_meta_types, sizeof(bridge_meta_types));
    types[BRIDGE_META_N] = BYTEAOID;
    types[BRIDGE_META_N + 1] = INT8OID;
    return maint_prepare(psprintf("INSERT INTO _prom_data.%s (" BRIDGE_META_COLUMNS
                                  ", data%s) VALUES "
                                  "($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13%s)",
                                  table, with_id ? ", id" : "", with_id ? ",$14" : ""),
                         BRIDGE_META_N + (with_id ? 2 : 1), types);
}

void
maint_insert(SPIPlanPtr plan, const int64 *id, const blk_meta *meta, ps_str data)
{
    Datum values[BRIDGE_META_N + 2];
    bytea *copy = palloc_extended(VARHDRSZ + data.len, MCXT_ALLOC_HUGE);

    SET_VARSIZE(copy, VARHDRSZ + data.len);
    memcpy(VARDATA(copy), data.ptr, data.len);
    bridge_meta_to_datums(meta, values);
    values[BRIDGE_META_N] = PointerGetDatum(copy);
    if (id != NULL)
        values[BRIDGE_META_N + 1] = Int64GetDatum(*id);
    maint_run(plan, values, NULL, SPI_OK_INSERT);
    pfree(copy);
}

void
maint_note_error(const char *what, int64 id, const blk_meta *meta, const char *text)
{
    static const Oid types[] = {INT8OID, INT4OID, INT2OID, TIMESTAMPTZOID, TEXTOID, TEXTOID};
    Datum values[] = {
        Int64GetDatum(id),
        Int32GetDatum(meta->metric_id),
        Int16GetDatum(meta->level),
        TimestampTzGetDatum(bridge_ms_to_timestamptz_unchecked(meta->t_min_ms)),
        CStringGetTextDatum(what),
        CStringGetTextDatum(text),
    };
    MemoryContext old = CurrentMemoryContext;
    int rc = SPI_execute_with_args(
        "INSERT INTO _prom_catalog.maintenance_error AS e (block_id, metric_id, level, t_min, "
        "step, message) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (block_id) DO UPDATE SET "
        "step = EXCLUDED.step, message = EXCLUDED.message, noted_at = EXCLUDED.noted_at",
        lengthof(types), (Oid *)types, values, NULL, false, 0);

    MemoryContextSwitchTo(old);
    if (rc != SPI_OK_INSERT)
        elog(ERROR, "could not note an error: %s", SPI_result_code_string(rc));
    ereport(LOG, (errmsg("promscale %s: block " INT64_FORMAT " of metric %d is left alone: %s",
                         what, id, meta->metric_id, text)));
}

void
maint_note_day(const char *what, int32 metric_id, int64 t_ms, int level, const char *text)
{
    const blk_meta meta = {.metric_id = metric_id, .t_min_ms = t_ms, .level = level};
    const int64 day = maint_floor_ms(t_ms, MDL_DAY_MS) / MDL_DAY_MS + (1 << 28);

    maint_note_error(what, -(((2 * day + (level == BLK_LEVEL_SEALED)) << 32) + metric_id), &meta, text);
}

/* ---- after the step ---------------------------------------------------------------------- */

void
maint_want_vacuum(const char *table, bool freeze)
{
    static const Oid types[] = {TEXTOID, BOOLOID};
    Datum values[] = {CStringGetTextDatum(table), BoolGetDatum(freeze)};
    MemoryContext old = CurrentMemoryContext;
    int rc =
        SPI_execute_with_args("INSERT INTO _prom_catalog.vacuum_queue AS q (table_name, frozen) "
                              "VALUES ($1, $2) ON CONFLICT (table_name) DO UPDATE "
                              "SET frozen = true WHERE EXCLUDED.frozen AND NOT q.frozen",
                              lengthof(types), (Oid *)types, values, NULL, false, 0);

    MemoryContextSwitchTo(old);
    if (rc != SPI_OK_INSERT)
        elog(ERROR, "could not ask for a vacuum: %s", SPI_result_code_string(rc));
}

static void
turn_off(const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)set_config_option(names[i], "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
                                0, false);
}

/* Keys are joined by nested loops over the primary key; a planner without statistics of a table that
 * changes by the second might prefer to read all of it. Undone by AtEOXact_GUC or an abort. */
void
maint_prefer_the_key(void)
{
    static const char *const off[] = {"enable_seqscan", "enable_hashjoin", "enable_mergejoin",
                                      "enable_bitmapscan", "jit"};

    turn_off(off, lengthof(off));
}

/* Who takes most rows of a table reads it as it lies; one that was empty at the last VACUUM looks to the
 * planner as if an index would do. */
void
maint_prefer_the_table(bool from_a_place)
{
    static const char *const off[] = {"enable_indexscan", "enable_indexonlyscan",
                                      "enable_bitmapscan", "jit", "enable_seqscan"};

    turn_off(off, lengthof(off) - !from_a_place);
}

/* ---- arrays ----------------------------------------------------------------------------- */

static Datum
array_of(Datum *datums, size_t n, Oid type, int len, char align)
{
    if (n > INT_MAX / 16)
        ereport(ERROR,
                (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("too many rows in one step")));
    return PointerGetDatum(construct_array(datums, (int)n, type, len, true, align));
}

Datum
maint_int4_array(const int32 *values, size_t n)
{
    Datum *d = palloc_extended((n + 1) * sizeof(Datum), MCXT_ALLOC_HUGE);

    for (size_t i = 0; i < n; i++)
        d[i] = Int32GetDatum(values[i]);
    return array_of(d, n, INT4OID, sizeof(int32), TYPALIGN_INT);
}

Datum
maint_int8_array(const int64 *values, size_t n)
{
    Datum *d = palloc_extended((n + 1) * sizeof(Datum), MCXT_ALLOC_HUGE);

    for (size_t i = 0; i < n; i++)
        d[i] = Int64GetDatum(values[i]);
    return array_of(d, n, INT8OID, sizeof(int64), TYPALIGN_DOUBLE);
}

Datum
maint_time(int64 ms)
{
    TimestampTz t;

    if (!bridge_ms_to_timestamptz(ms, &t))
        t = ms < 0 ? DT_NOBEGIN : DT_NOEND;
    return TimestampTzGetDatum(t);
}

Datum
maint_time_array(const int64 *ms, size_t n)
{
    Datum *d = palloc_extended((n + 1) * sizeof(Datum), MCXT_ALLOC_HUGE);

    for (size_t i = 0; i < n; i++)
        d[i] = maint_time(ms[i]);
    return array_of(d, n, TIMESTAMPTZOID, sizeof(TimestampTz), TYPALIGN_DOUBLE);
}
