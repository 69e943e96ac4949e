/*
 * fdw_spi.c - the statements by which scans read, and how they are run.
 *
 * Each statement is prepared once per backend and kept; the plan cache analyses it again when tables
 * or roles change. Statements on block tables are planned anew at each execution (custom plans), so
 * that the bounds are constants and partitions are pruned while planning: a generic plan would lock
 * every partition. JIT is off meanwhile: it would compile for longer than these statements run.
 */
#include "fdw.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "jit/jit.h"
#include "nodes/parsenodes.h"
#include "utils/guc.h"
#include "utils/plancache.h"
#include "utils/portal.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

enum { MAX_ARGS = 11, ROWS_PER_FETCH = 5000 };

#define CUSTOM CURSOR_OPT_CUSTOM_PLAN

/* Operators are named with their schema: a caller's search_path may hold others of the same names. */
#define EQ " OPERATOR(pg_catalog.=) "
#define LE " OPERATOR(pg_catalog.<=) "
#define GE " OPERATOR(pg_catalog.>=) "
#define LT " OPERATOR(pg_catalog.<) "
#define GT " OPERATOR(pg_catalog.>) "
#define NE " OPERATOR(pg_catalog.<>) "

/* SQL is laid out by hand. */
/* clang-format off */

/* One arm of the directory. A row whose series are of no interest comes without its data. Rows are left
 * out by the kind that the scan has no use for: one that nobody knows is seen and refused. */
#define DIRECTORY_ARM(number, name, metric, more)                                                  \
    "SELECT " number "::pg_catalog.int4 AS place, id, " BRIDGE_META_COLUMNS                        \
    ", CASE WHEN series_lo" LE "$10 AND series_hi" GE "$9 THEN data END AS data"                   \
    " FROM _prom_data." name " WHERE metric_id" EQ metric " AND kind" NE "$11"                     \
    " AND t_min" LE "$4 AND t_max" GE "$3 AND t_min" GE "$6" more                                  \
    " AND (t_min" GT "$6 OR $7" LT number " OR ($7" EQ number " AND id" GT "$8))"

#define DATA_OF(name)                                                                              \
    "SELECT data FROM _prom_data." name                                                            \
    " WHERE metric_id" EQ "$1 AND t_min" EQ "$2 AND dist_key" EQ "$3 AND id" EQ "$4"
#define DATA_ARGS 4, {INT4OID, TIMESTAMPTZOID, INT8OID, INT8OID}

#define ESTIMATE_ARM(number, name, metric, limit)                                                          \
    "(SELECT " number "::pg_catalog.int4 AS place, n_samples, n_series, t_min, t_max"              \
    " FROM _prom_data." name " WHERE metric_id" EQ metric                                          \
    " AND t_min" GE "$4 AND t_min" LE "$3 AND t_max" GE "$2 AND kind" NE "$6"                      \
    " ORDER BY t_min LIMIT " limit ")"

static const struct {
    const char *sql;
    int n_args;
    Oid args[MAX_ARGS];
    int options;
} statements[FDW_STMT_N] = {
    [FDW_STMT_METRICS] = {"SELECT id FROM _prom_catalog.metric ORDER BY id", 0, {0}, 0},
    [FDW_STMT_SERIES_OF_METRIC] =
        {"SELECT id, metric_id, labels FROM _prom_catalog.series WHERE metric_id" EQ "$1",
         1, {INT4OID}, CUSTOM},
    [FDW_STMT_SERIES_BY_ID] =
        {"SELECT id, metric_id, labels FROM _prom_catalog.series WHERE id" EQ "ANY ($1)",
         1, {INT8ARRAYOID}, 0},
    [FDW_STMT_SERIES_OF_TENANTS] =
        {"SELECT id, tenant_id, labels FROM _prom_catalog.series WHERE metric_id" EQ "$1",
         1, {INT4OID}, CUSTOM},
    [FDW_STMT_TENANTS_BY_ID] =
        {"SELECT id, tenant_id, labels FROM _prom_catalog.series WHERE id" EQ "ANY ($1)",
         1, {INT8ARRAYOID}, 0},
    [FDW_STMT_METRIC_NAMES] = {"SELECT id, metric_name FROM _prom_catalog.metric", 0, {0}, 0},
    [FDW_STMT_METRIC_NAMED] =
        {"SELECT id, metric_name FROM _prom_catalog.metric"
         " WHERE digest" EQ "_prom_ext.text_digest($1)", 1, {TEXTOID}, 0},
    [FDW_STMT_DIRECTORY] =
        {"SELECT * FROM ("
         DIRECTORY_ARM("0", "block", "$1", " AND t_min" GE "$5") " UNION ALL "
         DIRECTORY_ARM("1", "block_far", "$1", "") " UNION ALL "
         DIRECTORY_ARM("2", "merged", "$1", "") " UNION ALL "
         DIRECTORY_ARM("3", "fresh", "$1", "") " UNION ALL "
         DIRECTORY_ARM("3", "fresh", "$2", "")
         ") b ORDER BY t_min, place, id",
         11,
         {INT4OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
          INT4OID, INT8OID, INT8OID, INT8OID, INT2OID},
         CUSTOM | CURSOR_OPT_FAST_PLAN},
    [FDW_STMT_DIRECTORY_BACK] =
        {"SELECT 0::pg_catalog.int4 AS place, id, " BRIDGE_META_COLUMNS
         ", CASE WHEN series_lo" LE "$8 AND series_hi" GE "$7 THEN data END AS data"
         " FROM _prom_data.block WHERE metric_id" EQ "$1 AND t_max" GE "$2 AND t_min" GE "$3"
         " AND t_min" LE "$4 AND t_min" LE "$5 AND (t_min" LT "$5 OR id" GT "$6) AND kind" NE "$9"
         " ORDER BY t_min DESC, id",
         9,
         {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID,
          INT8OID, INT2OID},
         CUSTOM | CURSOR_OPT_FAST_PLAN},
    [FDW_STMT_DATA_BLOCK] = {DATA_OF("block"), DATA_ARGS, CUSTOM},
    [FDW_STMT_DATA_FAR] = {DATA_OF("block_far"), DATA_ARGS, 0},
    [FDW_STMT_DATA_MERGED] = {DATA_OF("merged"), DATA_ARGS, 0},
    [FDW_STMT_DATA_FRESH] = {DATA_OF("fresh"), DATA_ARGS, 0},
    [FDW_STMT_EST_BLOCKS] =
        {ESTIMATE_ARM("0", "block", "$1", "512")
         " UNION ALL " ESTIMATE_ARM("1", "block_far", "$1", "512")
         " UNION ALL " ESTIMATE_ARM("2", "merged", "$1", "512")
         " UNION ALL " ESTIMATE_ARM("3", "fresh", "$1", "64")
         " UNION ALL " ESTIMATE_ARM("4", "fresh", "$5", "64"),
         6, {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT2OID}, CUSTOM},
    [FDW_STMT_EST_ANY] =
        {ESTIMATE_ARM("0", "block", "$1", "1") " UNION ALL " ESTIMATE_ARM("1", "block_far", "$1", "1")
         " UNION ALL " ESTIMATE_ARM("2", "merged", "$1", "1"),
         6, {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT2OID}, CUSTOM},
    [FDW_STMT_EST_SERIES] =
        {"SELECT pg_catalog.count(*) FROM (SELECT 1 FROM _prom_catalog.series WHERE metric_id" EQ "$1"
         " LIMIT 1000) s",
         1, {INT4OID}, 0},
    [FDW_STMT_EST_ALIVE] =
        {"SELECT window_start, n_series, series_ids FROM _prom_data.presence WHERE metric_id" EQ "$1"
         " AND window_start" GE "$2 AND window_start" LE "$3 ORDER BY window_start DESC LIMIT 65",
         3, {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID}, CURSOR_OPT_GENERIC_PLAN},
    [FDW_STMT_EST_SAMPLE] =
        {"SELECT id, labels FROM _prom_catalog.series WHERE metric_id" EQ "$1"
         " ORDER BY metric_id, tenant_id, digest LIMIT 500",
         1, {INT4OID}, CURSOR_OPT_GENERIC_PLAN},
    [FDW_STMT_EST_MATCH] =
        {"SELECT pg_catalog.count(*) FROM (SELECT 1 FROM _prom_catalog.series WHERE metric_id" EQ "$1"
         " AND labels OPERATOR(pg_catalog.&&) $2 AND labels OPERATOR(pg_catalog.&&) $3"
         " AND labels OPERATOR(pg_catalog.&&) $4 LIMIT 1000) s",
         4, {INT4OID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID}, CUSTOM},
    [FDW_STMT_EST_POSITION] =
        {"SELECT p.pos FROM _prom_catalog.label_key k JOIN _prom_catalog.label_key_position p"
         " ON p.key_id" EQ "k.id WHERE p.metric_id" EQ "$1 AND k.digest" EQ "$2 AND k.key" EQ "$3",
         3, {INT4OID, UUIDOID, TEXTOID}, CURSOR_OPT_GENERIC_PLAN},
    [FDW_STMT_EST_REGEX] =
        {"SELECT id FROM _prom_catalog.label WHERE id" EQ "ANY ($1)"
         " AND value OPERATOR(pg_catalog.~) $2",
         2, {INT4ARRAYOID, TEXTOID}, CURSOR_OPT_GENERIC_PLAN},
};

/* clang-format on */

static SPIPlanPtr plans[FDW_STMT_N]; /* kept for the life of the backend */

static SPIPlanPtr
plan_of(fdw_stmt stmt)
{
    if (plans[stmt] == NULL) {
        SPIPlanPtr plan =
            SPI_prepare_cursor(statements[stmt].sql, statements[stmt].n_args,
                               (Oid *)statements[stmt].args, statements[stmt].options);

        if (plan == NULL)
            elog(ERROR, "could not prepare \"%s\": %s", statements[stmt].sql,
                 SPI_result_code_string(SPI_result));
        if (SPI_keepplan(plan) != 0)
            elog(ERROR, "could not keep a prepared statement");
        plans[stmt] = plan;
    }
    return plans[stmt];
}

static void
set_local(const char *name, const char *value)
{
    (void)set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
                            false);
}

/* Around planning only: functions of the user that run later see the settings of the user. An error
 * meanwhile restores them, too, at the end of the (sub)transaction. */
static int
planning_begins(void)
{
    int level = NewGUCNestLevel();

    if (jit_enabled)
        set_local("jit", "off");
    if (plan_cache_mode != PLAN_CACHE_MODE_AUTO)
        set_local("plan_cache_mode", "auto");
    return level;
}

void
fdw_spi_begin(Snapshot snapshot)
{
    PushActiveSnapshot(snapshot != NULL ? snapshot : GetActiveSnapshot());
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
}

void
fdw_spi_end(void)
{
    SPI_finish();
    PopActiveSnapshot();
}

uint64
fdw_spi_run(fdw_stmt stmt, Datum *values, long max_rows)
{
    SPIPlanPtr plan = plan_of(stmt);
    int level = planning_begins();
    int rc = SPI_execute_plan(plan, values, NULL, true, max_rows);

    AtEOXact_GUC(true, level);
    if (rc != SPI_OK_SELECT)
        elog(ERROR, "\"%s\" failed: %s", statements[stmt].sql, SPI_result_code_string(rc));
    return SPI_processed;
}

void
fdw_spi_each_unless(fdw_stmt stmt, Datum *values, fdw_row_fn fn, void *self, fdw_instead_fn instead,
                    void *instead_self)
{
    SPIPlanPtr plan = plan_of(stmt);
    int level = planning_begins();
    Portal portal = SPI_cursor_open(NULL, plan, values, NULL, true);
    bool more;

    AtEOXact_GUC(true, level);
    more = instead == NULL ||
           !instead(instead_self, linitial_node(PlannedStmt, portal->stmts)->planTree->plan_rows);
    while (more) {
        SPITupleTable *rows;
        uint64 n;

        SPI_cursor_fetch(portal, true, ROWS_PER_FETCH);
        rows = SPI_tuptable;
        n = SPI_processed; /* fn may use SPI itself */
        for (uint64 i = 0; i < n; i++)
            fn(self, rows->vals[i], rows->tupdesc);
        SPI_freetuptable(rows);
        more = n > 0;
    }
    SPI_cursor_close(portal);
}

void
fdw_spi_each(fdw_stmt stmt, Datum *values, fdw_row_fn fn, void *self)
{
    fdw_spi_each_unless(stmt, values, fn, self, NULL, NULL);
}

Cost
fdw_spi_cost(fdw_stmt stmt, Datum *values, double *ret_rows)
{
    CachedPlanSource *source = linitial(SPI_plan_get_plan_sources(plan_of(stmt)));
    ParamListInfo params = makeParamList(statements[stmt].n_args);
    int level = planning_begins();

    for (int i = 0; i < params->numParams; i++) {
        params->params[i] = (ParamExternData){.value = values[i],
                                              .pflags = PARAM_FLAG_CONST,
                                              .ptype = statements[stmt].args[i]};
    }

    CachedPlan *cached = GetCachedPlan(source, params, CurrentResourceOwner, NULL);
    const Plan *plan = linitial_node(PlannedStmt, cached->stmt_list)->planTree;
    Cost cost = plan->total_cost;

    if (ret_rows != NULL)
        *ret_rows = plan->plan_rows;
    ReleaseCachedPlan(cached, CurrentResourceOwner);
    AtEOXact_GUC(true, level);
    return cost;
}
