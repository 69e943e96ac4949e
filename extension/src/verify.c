/*
 * verify.c - the walk of prom_api.verify() over the rows of one table.
 *
 * Rows are asked for by ranges of pages, not by key: a range of which PostgreSQL refuses a page is asked
 * for again page by page, what it refuses then is reported, and the walk goes on behind it. (A table without
 * pages, as where an engine places rows elsewhere, is asked for all of it at once.) All statements
 * use the caller's snapshot and rights. Whoever may not read a partition itself reads it through its
 * parent, narrowed to its day.
 */
#include "verify.h"

#include "damage.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/itemptr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

enum { PAGES_AT_ONCE = 32, KNOWN_MAX = 1 << 18, ANSWER_COLUMNS = 8 };
enum { ARG_FROM_PAGE, ARG_TO_PAGE, ARG_DAY, ARG_NEXT_DAY, ARG_METRICS, ARG_START, ARG_STOP, ARGS };

typedef struct walk {
    verify *v;
    SPIPlanPtr plan;
    Datum values[ARGS];
    char nulls[ARGS + 1];
    uint32 from_page, to_page; /* [from, to); both 0: everything */
} walk;

void
verify_put(verify *v, const verify_row *row, const char *problem)
{
    Datum values[ANSWER_COLUMNS] = {0};
    bool nulls[ANSWER_COLUMNS];
    TimestampTz t_min, t_max;

    memset(nulls, row == NULL, sizeof(nulls));
    if (row != NULL) {
        const blk_meta *m = &row->meta;

        nulls[3] = !bridge_ms_to_timestamptz(m->t_min_ms, &t_min);
        nulls[4] = !bridge_ms_to_timestamptz(m->t_max_ms, &t_max);
        values[0] = Int64GetDatum(row->id);
        values[1] = Int32GetDatum(m->tenant_id);
        values[2] = Int32GetDatum(m->metric_id);
        values[3] = nulls[3] ? (Datum)0 : TimestampTzGetDatum(t_min);
        values[4] = nulls[4] ? (Datum)0 : TimestampTzGetDatum(t_max);
        values[5] = Int32GetDatum(m->n_series);
        values[6] = Int32GetDatum(m->n_samples);
    }
    nulls[7] = false;
    values[7] = CStringGetTextDatum(problem);
    tuplestore_putvalues(v->rsinfo->setResult, v->rsinfo->setDesc, values, nulls);
}

/* ---- pages -------------------------------------------------------------------------------- */

static Datum
start_of_page(uint32 page, ItemPointerData *at)
{
    ItemPointerSet(at, page, 0);
    return PointerGetDatum(at);
}

/* Scans by page only: another way to the rows would be gone through once for each range. */
static void
read_pages(void *arg)
{
    walk *w = arg;
    static const char *const ways[] = {"enable_indexscan", "enable_bitmapscan", "enable_seqscan",
                                       "jit"};
    ItemPointerData from, to;
    int level = NewGUCNestLevel();

    for (int i = 0; w->to_page > 0 && i < lengthof(ways); i++)
        (void)set_config_option(ways[i], "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
                                0, false);
    w->values[ARG_FROM_PAGE] = start_of_page(w->from_page, &from);
    w->values[ARG_TO_PAGE] = start_of_page(w->to_page == 0 ? MaxBlockNumber : w->to_page, &to);
    if (SPI_execute_plan(w->plan, w->values, w->nulls, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not read block rows");
    AtEOXact_GUC(true, level);
}

static void
forget_series(verify *v)
{
    HASHCTL control = {
        .keysize = sizeof(int64), .entrysize = sizeof(verify_known), .hcxt = v->context};

    if (v->series != NULL)
        hash_destroy(v->series);
    v->series =
        hash_create("promscale series", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
look_at_rows(verify *v)
{
    SPITupleTable *table = SPI_tuptable;
    uint64 n = SPI_processed;

    for (uint64 i = 0; i < n; i++) {
        MemoryContext old = MemoryContextSwitchTo(v->row_context);

        CHECK_FOR_INTERRUPTS();
        verify_look(v, table->vals[i], table->tupdesc);
        MemoryContextSwitchTo(old);
        MemoryContextReset(v->row_context);
        if (hash_get_num_entries(v->series) > KNOWN_MAX)
            forget_series(v);
    }
    SPI_freetuptable(table);
}

static void
walk_pages(walk *w, uint32 from, uint32 to)
{
    ps_err err = {0};

    w->from_page = from;
    w->to_page = to;
    if (damage_guarded(read_pages, w, &err) == PS_OK) {
        look_at_rows(w->v);
    } else if (to == 0) {
        verify_put(w->v, NULL, psprintf("cannot be read: %s", bridge_text(PS_ECORRUPT, &err)));
    } else if (to - from == 1) {
        verify_put(w->v, NULL,
                   psprintf("page %u cannot be read: %s", from, bridge_text(PS_ECORRUPT, &err)));
    } else {
        for (uint32 page = from; page < to; page++)
            walk_pages(w, page, page + 1);
    }
}

/* ---- the statement ------------------------------------------------------------------------ */

static char *
name_of(Oid relation)
{
    char *name = get_rel_name(relation);

    if (name == NULL)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                        errmsg("there is no relation with OID %u", relation)));
    return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), name);
}

static SPIPlanPtr
prepare(Oid relation, bool by_day, bool by_metric, bool by_start, bool by_stop)
{
    Oid types[ARGS] = {TIDOID,         TIDOID,         TIMESTAMPTZOID, TIMESTAMPTZOID,
                       INT4ARRAYOID,   TIMESTAMPTZOID, TIMESTAMPTZOID};
    char *sql = psprintf(
        "SELECT id, " BRIDGE_META_COLUMNS ", data FROM %s WHERE ctid OPERATOR(pg_catalog.>=) $1"
        " AND ctid OPERATOR(pg_catalog.<) $2%s%s%s%s",
        name_of(relation),
        by_day ? " AND t_min OPERATOR(pg_catalog.>=) $3 AND t_min OPERATOR(pg_catalog.<) $4" : "",
        by_metric ? " AND metric_id OPERATOR(pg_catalog.=) ANY ($5)" : "",
        by_start ? " AND t_max OPERATOR(pg_catalog.>=) $6" : "",
        by_stop ? " AND t_min OPERATOR(pg_catalog.<=) $7" : "");
    SPIPlanPtr plan = SPI_prepare_cursor(sql, ARGS, types, CURSOR_OPT_CUSTOM_PLAN);

    if (plan == NULL)
        elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
    return plan;
}

/* The first column of the first row as a number; if_none where there is none. */
static int64
ask_number(const char *sql, int64 if_none)
{
    bool isnull = true;
    int64 n = if_none;

    if (SPI_execute(sql, true, 1) == SPI_OK_SELECT && SPI_processed == 1)
        n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    SPI_freetuptable(SPI_tuptable);
    return isnull ? if_none : n;
}

static void
ask_once(verify *v, Oid partition, uint32 *ret_pages)
{
    TimestampTz boundary;

    v->last_id = ask_number(
        "SELECT CASE WHEN pg_catalog.has_sequence_privilege('_prom_data.block_id_seq',"
        " 'USAGE, SELECT') THEN coalesce(pg_catalog.pg_sequence_last_value("
        "'_prom_data.block_id_seq'), 0) END",
        PG_INT64_MAX);
    v->series_seen =
        ask_number("SELECT CASE WHEN pg_catalog.row_security_active('_prom_catalog.series')"
                   " THEN 0 ELSE 1 END::pg_catalog.int8",
                   0) == 1;
    boundary = ask_number("SELECT boundary FROM _prom_catalog.merge_boundary", DT_NOEND);
    v->boundary_ms = bridge_timestamptz_floor_ms(boundary); /* none: nothing was merged yet */
    *ret_pages = (uint32)(ask_number(psprintf("SELECT pg_catalog.pg_relation_size(%u::pg_catalog."
                                              "regclass)",
                                              partition),
                                     0) /
                          BLCKSZ);
}

static void
walk_table(walk *w, uint32 pages)
{
    if (pages == 0)
        walk_pages(w, 0, 0);
    for (uint32 page = 0; page < pages; page += PAGES_AT_ONCE)
        walk_pages(w, page, pages - page > PAGES_AT_ONCE ? page + PAGES_AT_ONCE : pages);
}

/* verify_table(relation, partition, level, day, next_day, metrics, start, stop, deep): rows of a partition,
 * read from the relation. NULL: no bound. */
PG_FUNCTION_INFO_V1(verify_table);
Datum
verify_table(PG_FUNCTION_ARGS)
{
    enum { RELATION, PARTITION, LEVEL, DAY, NEXT_DAY, METRICS, START, STOP, DEEP };
    verify v = {.rsinfo = (ReturnSetInfo *)fcinfo->resultinfo};
    walk w = {.v = &v};
    uint32 pages;

    if (PG_ARGISNULL(RELATION) || PG_ARGISNULL(PARTITION) || PG_ARGISNULL(LEVEL))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                        errmsg("relation, partition and level must not be null")));
    InitMaterializedSRF(fcinfo, 0);
    Oid relation = PG_GETARG_OID(RELATION), partition = PG_GETARG_OID(PARTITION);
    bool by_day = !PG_ARGISNULL(DAY) && !PG_ARGISNULL(NEXT_DAY);
    Relation table = try_relation_open(partition, AccessShareLock);

    if (table == NULL) /* retention has dropped the day since it was listed */
        return (Datum)0;
    relation_close(table, NoLock);
    v.level = PG_GETARG_INT16(LEVEL);
    v.deep = !PG_ARGISNULL(DEEP) && PG_GETARG_BOOL(DEEP);
    v.from_ms = by_day ? bridge_timestamptz_floor_ms(PG_GETARG_TIMESTAMPTZ(DAY)) : PG_INT64_MIN;
    v.to_ms = by_day ? bridge_timestamptz_floor_ms(PG_GETARG_TIMESTAMPTZ(NEXT_DAY)) : PG_INT64_MAX;
    v.context =
        AllocSetContextCreate(CurrentMemoryContext, "promscale verify", ALLOCSET_DEFAULT_SIZES);
    v.row_context =
        AllocSetContextCreate(v.context, "promscale verify row", ALLOCSET_DEFAULT_SIZES);
    v.set_context =
        AllocSetContextCreate(v.context, "promscale verify set", ALLOCSET_DEFAULT_SIZES);
    forget_series(&v);
    memset(w.nulls, ' ', ARGS);
    for (int i = 0; i < ARGS - ARG_DAY; i++) {
        w.values[ARG_DAY + i] = PG_ARGISNULL(DAY + i) ? (Datum)0 : PG_GETARG_DATUM(DAY + i);
        w.nulls[ARG_DAY + i] = PG_ARGISNULL(DAY + i) ? 'n' : ' ';
    }
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    ask_once(&v, partition, &pages);
    w.plan = prepare(relation, by_day && relation != partition, !PG_ARGISNULL(METRICS),
                     !PG_ARGISNULL(START), !PG_ARGISNULL(STOP));
    walk_table(&w, pages);
    SPI_finish();
    MemoryContextDelete(v.context);
    return (Datum)0;
}

static void
note_first(void *self, int64_t lo, int64_t hi)
{
    int64 *first = self;

    *first = Min(*first, lo);
}

/* ids_problem(set, n_series, part_lo): what is wrong with a part of a set of presence; NULL: nothing. */
PG_FUNCTION_INFO_V1(ids_problem);
Datum
ids_problem(PG_FUNCTION_ARGS)
{
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "promscale set", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(context);
    struct varlena *bytes = NULL;
    bridge_alloc alloc;
    mdl_ids ids;
    uint32 n = 0;
    int64 first = PG_INT64_MAX;
    ps_err err = {0};
    char *problem = NULL;

    bridge_alloc_init(&alloc, context, PRESENCE_BUDGET);
    mdl_ids_init(&ids, &alloc.alloc);
    ps_status status =
        damage_detoast((struct varlena *)DatumGetPointer(PG_GETARG_DATUM(0)), 0, &bytes, &err);
    if (status == PS_OK) {
        ps_str set = {VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)};

        status = mdl_ids_read(&ids, set, &err);
        if (status == PS_OK)
            status = mdl_ids_count(set, &n, &err);
        if (status == PS_OK)
            mdl_ids_runs(&ids, note_first, &first);
    }
    MemoryContextSwitchTo(caller);
    if (status != PS_OK)
        problem = pstrdup(bridge_text(status, &err));
    else if ((int64)n != PG_GETARG_INT32(1))
        problem = psprintf("set of series ids holds %u, its row says %d", n, PG_GETARG_INT32(1));
    else if (first < PG_GETARG_INT64(2))
        problem = psprintf("set of series ids begins with " INT64_FORMAT ", its row says " INT64_FORMAT,
                           first, PG_GETARG_INT64(2));
    MemoryContextDelete(context);
    if (problem == NULL)
        PG_RETURN_NULL();
    PG_RETURN_TEXT_P(cstring_to_text(problem));
}
