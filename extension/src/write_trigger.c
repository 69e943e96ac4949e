/*
 * write_trigger.c - the two triggers of the views in prom_data; write.h tells the idea.
 *
 * write_row sees every row, so it does little: finds the statement (nearly always the first of the
 * list), checks the four columns, notes 32 bytes. All that a row can be blamed for is said here,
 * where COPY can name the line; only whether a series id exists is asked later, for all at once.
 *
 * Both can be put on any view by whoever may create triggers with them. That does no harm: they write
 * samples of the metric that the trigger names, with the rights of the user who inserts.
 */
#include "write.h"

#include "access/htup_details.h"
#include "bridge.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

enum { COL_TIME, COL_VALUE, COL_SERIES, COL_LABELS, N_COLUMNS };

static TriggerData *
called_as(FunctionCallInfo fcinfo, TriggerEvent timing, bool row, const char *name)
{
    TriggerData *t = (TriggerData *)fcinfo->context;

    if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_INSERT(t->tg_event) ||
        (t->tg_event & TRIGGER_EVENT_TIMINGMASK) != timing ||
        (TRIGGER_FIRED_FOR_ROW(t->tg_event) != 0) != row)
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("%s() is not called in the way that it is made for", name),
                        errhint("It is a trigger of the views in schema prom_data.")));
    return t;
}

/* ---- a statement begins ------------------------------------------------------------------- */

static int32
metric_of(const TriggerData *t)
{
    static const Oid types[N_COLUMNS] = {TIMESTAMPTZOID, FLOAT8OID, INT8OID, JSONBOID};
    Relation view = t->tg_relation;
    TupleDesc desc = RelationGetDescr(view);
    bool fits = view->rd_rel->relkind == RELKIND_VIEW && desc->natts == N_COLUMNS &&
                t->tg_trigger->tgnargs == 1;

    for (int i = 0; fits && i < N_COLUMNS; i++)
        fits = TupleDescAttr(desc, i)->atttypid == types[i];
    int32 metric_id = fits ? pg_strtoint32(t->tg_trigger->tgargs[0]) : 0;
    if (metric_id <= 0)
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("\"%s\" is not a view through which samples can be written",
                               RelationGetRelationName(view)),
                        errhint("The views in schema prom_data are made with their triggers.")));
    return metric_id;
}

static write_stmt *
statement_of(const TriggerData *t)
{
    MemoryContext query = MemoryContextGetParent(CurrentMemoryContext);
    write_stmt *s = write_stmt_find(query, RelationGetRelid(t->tg_relation));

    if (likely(s != NULL))
        return s;
    if (IsolationUsesXactSnapshot())
        ereport(ERROR,
                (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
                 errmsg("samples can be written at isolation level READ COMMITTED only"),
                 errdetail("At a higher level this transaction might not see the series that "
                           "others have made or deleted.")));
    return write_stmt_new(query, RelationGetRelid(t->tg_relation), metric_of(t));
}

/* ---- a row -------------------------------------------------------------------------------- */

static void
check_not_null(const TriggerData *t, const bool *nulls)
{
    for (int i = COL_TIME; i <= COL_VALUE; i++) {
        if (nulls[i])
            ereport(ERROR,
                    (errcode(ERRCODE_NOT_NULL_VIOLATION),
                     errmsg("null value in column \"%s\" of \"%s\"",
                            NameStr(TupleDescAttr(RelationGetDescr(t->tg_relation), i)->attname),
                            RelationGetRelationName(t->tg_relation)),
                     errtable(t->tg_relation)));
    }
    if (nulls[COL_SERIES] && nulls[COL_LABELS])
        ereport(ERROR,
                (errcode(ERRCODE_NOT_NULL_VIOLATION),
                 errmsg("a sample of \"%s\" has neither labels nor a series_id",
                        RelationGetRelationName(t->tg_relation)),
                 errhint("Give labels, as in '{\"node\": \"brain\"}', '{}' if there are none, or "
                         "a series_id of prom_series.%s.",
                         quote_identifier(RelationGetRelationName(t->tg_relation)))));
}

/* Down to the millisecond before. */
static int64
time_of(Datum d)
{
    TimestampTz time = DatumGetTimestampTz(d);
    int64 ms = bridge_timestamptz_floor_ms(time);

    if (TIMESTAMP_NOT_FINITE(time) || ms < MDL_TIME_MIN_MS || ms > MDL_TIME_MAX_MS)
        ereport(ERROR,
                (errcode(ERRCODE_DATETIME_FIELD_OVERFLOW),
                 errmsg("a sample needs a time between %s and %s", "4714-11-24 BC", "294276-12-31"),
                 errhint("\"infinity\" and \"-infinity\" are not times of samples.")));
    return ms;
}

/* The slot of a new point; stores what there is if there is no room. */
static blk_point *
new_point(write_stmt *s)
{
    if (likely(s->n_points < s->cap_points))
        return &s->points[s->n_points];

    /* sorting takes the same again */
    const size_t limit = write_memory_bytes();
    const size_t rest = limit - Min(limit, s->set_bytes);
    const size_t max = Max(rest / (2 * sizeof(blk_point)), 256);
    if (s->n_points >= max) {
        write_flush(s);
        return &s->points[0];
    }
    s->cap_points = Min(Max(s->cap_points * 2, 16), max);
    if (s->points == NULL)
        s->points = MemoryContextAlloc(s->context, s->cap_points * sizeof(blk_point));
    else
        s->points = repalloc_huge(s->points, s->cap_points * sizeof(blk_point));
    return &s->points[s->n_points];
}

/* RETURNING shows the time that is stored. */
static HeapTuple
as_stored(HeapTuple row, TupleDesc desc, Datum *values, bool *nulls, int64 ms)
{
    const TimestampTz stored = bridge_ms_to_timestamptz_unchecked(ms);

    if (likely(stored == DatumGetTimestampTz(values[COL_TIME])))
        return row;
    values[COL_TIME] = TimestampTzGetDatum(stored);
    return heap_form_tuple(desc, values, nulls);
}

PG_FUNCTION_INFO_V1(write_row);
Datum
write_row(PG_FUNCTION_ARGS)
{
    TriggerData *t = called_as(fcinfo, TRIGGER_EVENT_INSTEAD, true, "write_row");
    TupleDesc desc = RelationGetDescr(t->tg_relation);
    write_stmt *s = statement_of(t);
    Datum values[N_COLUMNS];
    bool nulls[N_COLUMNS];

    heap_deform_tuple(t->tg_trigtuple, desc, values, nulls);
    check_not_null(t, nulls);
    const int64 ms = time_of(values[COL_TIME]);
    uint32 owner = nulls[COL_LABELS] ? 0 : 1 + write_set_of(s, values[COL_LABELS]);
    blk_point *p = new_point(s);
    *p = (blk_point){
        .series_id = nulls[COL_SERIES] ? 0 : DatumGetInt64(values[COL_SERIES]),
        .t_ms = ms,
        .value = DatumGetFloat8(values[COL_VALUE]),
        .owner = owner,
    };
    if (!nulls[COL_SERIES] && p->series_id <= 0)
        ereport(ERROR, (errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
                        errmsg("there is no series " INT64_FORMAT, p->series_id),
                        errhint("Ids of series stand in prom_series.%s.",
                                quote_identifier(RelationGetRelationName(t->tg_relation)))));
    s->oldest_ms = Min(s->oldest_ms, ms);
    s->n_points++;
    PG_RETURN_POINTER(as_stored(t->tg_trigtuple, desc, values, nulls, ms));
}

/* ---- a statement ends --------------------------------------------------------------------- */

/*
 * COPY calls it outside the executor's context; then the innermost statement of the view is the one.
 * Should that COPY have brought no row, a statement around it is stored a little early, which is no
 * harm: it runs in the same subtransaction.
 */
PG_FUNCTION_INFO_V1(write_end);
Datum
write_end(PG_FUNCTION_ARGS)
{
    TriggerData *t = called_as(fcinfo, TRIGGER_EVENT_AFTER, false, "write_end");
    const Oid view = RelationGetRelid(t->tg_relation);
    write_stmt *s = write_stmt_find(MemoryContextGetParent(CurrentMemoryContext), view);

    if (s == NULL)
        s = write_stmt_innermost(view);
    if (s != NULL) {
        write_flush(s);
        write_tell_duplicates(s);
        write_tell_retention(s);
        write_stmt_free(s);
    }
    PG_RETURN_POINTER(NULL);
}
