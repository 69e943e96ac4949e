/*
 * fdw_scan.c - the executor's side: conditions are evaluated at the first row (not when the node is
 * made: EXPLAIN makes nodes, and parameters come later), then metric by metric, cluster by cluster,
 * slice by slice, series by series, row by row.
 *
 * Rows are handed out in one virtual slot of our own that stays filled: for a row only time and value
 * change, for a series the rest. Columns that nobody asked for are NULL.
 *
 * A rescan evaluates the conditions again. What it may reuse: the loaded series if the metric is the
 * same and no parameter of the series-level quals has changed; the directory and its open blocks if
 * metric and time bounds are the same (fdw_blocks.c).
 */
#include "fdw.h"

#include "damage.h"
#include "histogram.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

StaticAssertDecl(sizeof(Datum) == 8, "times and values are handed out by value");

/* ---- making and ending the node ----------------------------------------------------------- */

static bool
has_columns(Oid table, const Oid *types, int n)
{
    bool fits = get_atttype(table, n + 1) == InvalidOid;

    for (int i = 0; fits && i < n; i++)
        fits = get_atttype(table, i + 1) == types[i];
    return fits;
}

bool
fdw_shape_fits(Oid table)
{
    static const Oid types[SAMPLES_NATTS] = {INT4OID, TIMESTAMPTZOID, FLOAT8OID, INT8OID,
                                             INT4ARRAYOID};

    return has_columns(table, types, SAMPLES_NATTS);
}

bool
fdw_shape_of_histograms(Oid table)
{
    const Oid types[HISTOGRAMS_NATTS] = {INT4OID, TIMESTAMPTZOID, histogram_type_oid(),
                                         INT8OID, INT4ARRAYOID,   TIMESTAMPTZOID};

    return get_atttype(table, HISTOGRAMS_NATTS) != InvalidOid &&
           has_columns(table, types, HISTOGRAMS_NATTS);
}

static void
check_shape(Relation rel)
{
    if (!fdw_shape_fits(RelationGetRelid(rel)) && !fdw_shape_of_histograms(RelationGetRelid(rel)))
        ereport(ERROR,
                (errcode(ERRCODE_FDW_SCHEMA_NOT_FOUND),
                 errmsg("foreign table \"%s\" has other columns than this wrapper delivers",
                        RelationGetRelationName(rel)),
                 errhint("The columns must be metric_id int4, time timestamptz, value float8, "
                         "series_id int8, labels int4[]; or histogram instead of float8, and "
                         "start_time timestamptz at the end.")));
}

static void metrics_of_series(fdw_scan *scan);

typedef struct params_walk {
    Bitmapset *ids;
    bool subplan;
} params_walk;

/* Executor parameters in an expression; a subplan may depend on anything. */
static bool
find_params(Node *node, params_walk *walk)
{
    if (node == NULL)
        return false;
    if (IsA(node, Param) && ((Param *)node)->paramkind == PARAM_EXEC)
        walk->ids = bms_add_member(walk->ids, ((Param *)node)->paramid);
    if (IsA(node, SubPlan))
        walk->subplan = true;
    return expression_tree_walker(node, find_params, walk);
}

static void
init_exprs(fdw_scan *scan, ForeignScanState *node, ForeignScan *plan)
{
    List *kinds = list_nth(plan->fdw_private, FDW_PRIVATE_KINDS);
    List *types = list_nth(plan->fdw_private, FDW_PRIVATE_TYPES);
    int n = list_length(kinds);
    params_walk conds = {0}, series = {0};

    scan->n_conds = n;
    scan->cond_kinds = palloc(sizeof(fdw_cond_kind) * Max(n, 1));
    scan->cond_types = palloc(sizeof(Oid) * Max(n, 1));
    scan->cond_values = palloc(sizeof(ExprState *) * Max(n, 1));
    for (int i = 0; i < n; i++) {
        Expr *value = list_nth(plan->fdw_exprs, i);

        scan->cond_kinds[i] = list_nth_int(kinds, i);
        scan->cond_types[i] = list_nth_oid(types, i);
        scan->cond_values[i] = ExecInitExpr(value, &node->ss.ps);
        if (scan->cond_kinds[i] == FDW_SERIES_EQ || scan->cond_kinds[i] == FDW_SERIES_ANY)
            find_params((Node *)value, &series);
        find_params((Node *)value, &conds);
    }
    scan->series_vary = series.ids != NULL || series.subplan;
    series = (params_walk){0};
    scan->n_series_quals = fdw_private_int(plan, FDW_PRIVATE_SERIES);
    if (scan->n_series_quals > 0) {
        List *quals = list_truncate(list_copy_tail(plan->fdw_exprs, n), scan->n_series_quals);

        scan->series_quals = ExecInitQual(quals, &node->ss.ps);
        find_params((Node *)quals, &series);
    }
    scan->series_params = series.ids;
    scan->series_subplan = series.subplan;
    scan->series_vary |= series.ids != NULL || series.subplan;
    scan->may_rescan = scan->series_vary || conds.ids != NULL || conds.subplan;
}

int
fdw_private_int(const ForeignScan *plan, int member)
{
    return intVal(list_nth(plan->fdw_private, member));
}

/* The parts that read; scan->context is set. */
static void
init_reading(fdw_scan *scan)
{
    scan->series.context =
        AllocSetContextCreate(scan->context, "promscale series", ALLOCSET_DEFAULT_SIZES);
    fdw_directory_init(&scan->directory, scan, scan->context);
    fdw_merge_init(&scan->merge, scan, scan->context);
    bridge_alloc_init(&scan->block_memory,
                      AllocSetContextCreate(scan->context, "promscale open blocks",
                                            ALLOCSET_DEFAULT_SIZES),
                      (size_t)fdw_block_memory_kb * 1024 + FDW_BLOCK_MAX_BYTES);
}

fdw_scan *
fdw_scan_new(ForeignScanState *node, TupleDesc desc, int eflags)
{
    ForeignScan *plan = castNode(ForeignScan, node->ss.ps.plan);
    EState *estate = node->ss.ps.state;
    MemoryContext context =
        AllocSetContextCreate(estate->es_query_cxt, "promscale scan", ALLOCSET_DEFAULT_SIZES);
    MemoryContext old = MemoryContextSwitchTo(context);
    fdw_scan *scan = palloc0(sizeof(*scan));
    List *attrs = list_nth(plan->fdw_private, FDW_PRIVATE_ATTRS);

    scan->context = context;
    scan->snapshot = estate->es_snapshot;
    scan->need_time = list_member_int(attrs, SAMPLES_TIME);
    scan->need_value = list_member_int(attrs, SAMPLES_VALUE);
    scan->need_start = list_member_int(attrs, HISTOGRAMS_START);
    scan->other_kind = BLK_KIND_HISTOGRAM;
    scan->need_labels = list_member_int(attrs, SAMPLES_LABELS);
    init_exprs(scan, node, plan);
    scan->may_rescan |= (eflags & EXEC_FLAG_REWIND) != 0;
    scan->want_context =
        AllocSetContextCreate(context, "promscale conditions", ALLOCSET_SMALL_SIZES);
    init_reading(scan);
    MemoryContextSwitchTo(old);
    scan->econtext = CreateExprContext(estate);
    scan->series_slot = ExecInitExtraTupleSlot(estate, desc, &TTSOpsVirtual);
    scan->slot = ExecInitExtraTupleSlot(estate, desc, &TTSOpsVirtual);
    for (int i = 0; i < desc->natts; i++)
        scan->series_slot->tts_isnull[i] = scan->slot->tts_isnull[i] = true;
    return scan;
}

fdw_scan *
fdw_scan_of_series(MemoryContext parent, Snapshot snapshot, fdw_series *rows, size_t n,
                   int64 from_ms, int64 to_ms)
{
    MemoryContext context = AllocSetContextCreate(parent, "promscale scan", ALLOCSET_DEFAULT_SIZES);
    MemoryContext old = MemoryContextSwitchTo(context);
    fdw_scan *scan = palloc0(sizeof(*scan));

    scan->context = scan->want_context = context;
    scan->snapshot = snapshot;
    scan->need_time = scan->need_value = scan->need_histogram = true;
    init_reading(scan);
    fdw_want_init(&scan->want);
    scan->want.from_ms = Max(scan->want.from_ms, from_ms);
    scan->want.to_ms = Min(scan->want.to_ms, to_ms);
    scan->series.rows = rows;
    scan->series.n = n;
    scan->series_given = scan->started = true;
    if (scan->want.from_ms <= scan->want.to_ms)
        metrics_of_series(scan);
    MemoryContextSwitchTo(old);
    return scan;
}

void
fdw_begin(ForeignScanState *node, int eflags)
{
    Relation rel = node->ss.ss_currentRelation;
    fdw_scan *scan;

    check_shape(rel);
    node->fdw_state = scan = fdw_scan_new(node, RelationGetDescr(rel), eflags);
    if (RelationGetDescr(rel)->natts == HISTOGRAMS_NATTS) {
        scan->other_kind = BLK_KIND_FLOAT;
        scan->need_histogram = scan->need_value;
        scan->need_value = false;
    }
}

void
fdw_end(ForeignScanState *node)
{
    fdw_scan *scan = node->fdw_state;

    if (scan == NULL)
        return;
    node->fdw_state = NULL;
    const bool met = scan->counts.blocks_damaged > 0;
    MemoryContextDelete(scan->context);
    damage_rest(met);
}

void
fdw_scan_again(fdw_scan *scan, const Bitmapset *changed)
{
    fdw_merge_stop(&scan->merge);
    scan->started = false;
    scan->in_metric = scan->in_cluster = scan->in_slice = false;
    scan->row = scan->n_rows = 0;
    if (scan->series_subplan || bms_overlap(scan->series_params, changed))
        scan->series_metric = 0;
}

void
fdw_rescan(ForeignScanState *node)
{
    fdw_scan_again(node->fdw_state, node->ss.ps.chgParam);
}

/* ---- starting ----------------------------------------------------------------------------- */

static void
add_metric(void *self, HeapTuple tuple, TupleDesc desc)
{
    fdw_scan *scan = self;
    bool isnull;
    int32 id = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));

    if ((scan->n_metrics & (scan->n_metrics - 1)) == 0) {
        size_t bytes = Max(scan->n_metrics * 2, 16) * sizeof(int64);

        if (scan->metrics == NULL)
            scan->metrics = MemoryContextAllocHuge(scan->want_context, bytes);
        else
            scan->metrics = repalloc_huge(scan->metrics, bytes);
    }
    scan->metrics[scan->n_metrics++] = id;
}

/* The metrics of the series that were loaded by id. */
static void
metrics_of_series(fdw_scan *scan)
{
    scan->metrics =
        MemoryContextAllocHuge(scan->want_context, Max(scan->series.n, 1) * sizeof(int64));
    for (size_t i = 0; i < scan->series.n; i++) {
        if (i == 0 || scan->series.rows[i].metric_id != scan->series.rows[i - 1].metric_id)
            scan->metrics[scan->n_metrics++] = scan->series.rows[i].metric_id;
    }
}

static void
start(fdw_scan *scan)
{
    MemoryContextReset(scan->want_context);

    MemoryContext old = MemoryContextSwitchTo(scan->want_context);

    fdw_want_init(&scan->want);
    for (int i = 0; i < scan->n_conds; i++) {
        bool isnull;
        Datum value = ExecEvalExpr(scan->cond_values[i], scan->econtext, &isnull);

        fdw_want_narrow(&scan->want, scan->cond_kinds[i], scan->cond_types[i], value, isnull);
    }
    MemoryContextSwitchTo(old);
    scan->metrics = NULL;
    scan->n_metrics = scan->next_metric = 0;
    scan->series_given = !scan->want.all_series;
    scan->started = true;
    if (scan->want.nothing)
        return;
    if (scan->series_given) {
        fdw_series_load_ids(scan, &scan->want, &scan->series);
        scan->series_metric = 0;
        metrics_of_series(scan);
    } else if (!scan->want.all_metrics) {
        scan->metrics = scan->want.metrics;
        scan->n_metrics = scan->want.n_metrics;
    } else {
        fdw_spi_begin(scan->snapshot);
        fdw_spi_each(FDW_STMT_METRICS, NULL, add_metric, scan);
        fdw_spi_end();
    }
    /* conditions on metrics that no int4 can meet */
    while (scan->n_metrics > 0 && scan->metrics[scan->n_metrics - 1] > PG_INT32_MAX)
        scan->n_metrics--;
    while (scan->next_metric < scan->n_metrics && scan->metrics[scan->next_metric] <= 0)
        scan->next_metric++;
}

/* ---- walking ------------------------------------------------------------------------------ */

/* The slice of the series that belongs to a metric. */
static void
series_of_metric(fdw_scan *scan, int32 metric_id)
{
    if (!scan->series_given) {
        if (scan->series_metric != metric_id || scan->want.from_ms < scan->series_from_ms ||
            scan->want.to_ms > scan->series_to_ms) {
            fdw_series_load_metric(scan, metric_id, &scan->series);
            scan->series_metric = metric_id;
        }
        scan->merge.wanted = scan->series.rows;
        scan->merge.n_wanted = scan->series.n;
        return;
    }

    size_t i = 0, k;

    while (i < scan->series.n && scan->series.rows[i].metric_id < metric_id)
        i++;
    for (k = i; k < scan->series.n && scan->series.rows[k].metric_id == metric_id; k++)
        ;
    scan->merge.wanted = scan->series.rows + i;
    scan->merge.n_wanted = k - i;
}

bool
fdw_scan_next_metric(fdw_scan *scan)
{
    fdw_merge *merge = &scan->merge;

    if (!scan->started)
        start(scan);
    while (scan->next_metric < scan->n_metrics) {
        int32 metric_id = (int32)scan->metrics[scan->next_metric++];
        bool keep = scan->may_rescan && scan->n_metrics == 1;

        CHECK_FOR_INTERRUPTS();
        merge->metric_id = metric_id;
        series_of_metric(scan, metric_id);
        if (merge->n_wanted == 0)
            continue;
        fdw_directory_open(&scan->directory, metric_id, scan->want.from_ms, scan->want.to_ms,
                           scan->series_vary ? PG_INT64_MIN : merge->wanted[0].id,
                           scan->series_vary ? PG_INT64_MAX : merge->wanted[merge->n_wanted - 1].id,
                           keep, scan->backwards);
        return true;
    }
    if (!scan->may_rescan) /* the node may outlive the statement */
        damage_rest(false);
    return false;
}

static bool
next_cluster(fdw_scan *scan)
{
    if (!fdw_directory_next(&scan->directory, &scan->cluster_first, &scan->cluster_n))
        return false;
    fdw_slices_make(&scan->slices, &scan->want, scan->directory.items + scan->cluster_first,
                    scan->cluster_n, scan->context);
    return true;
}

static bool
next_slice(fdw_scan *scan)
{
    int64 from_ms, to_ms;

    if (!fdw_slices_next(&scan->slices, &from_ms, &to_ms))
        return false;
    fdw_merge_start(&scan->merge, from_ms, to_ms, scan->directory.items + scan->cluster_first,
                    scan->cluster_n);
    return true;
}

bool
fdw_scan_next_series(fdw_scan *scan)
{
    for (;;) {
        if (!scan->in_metric && !(scan->in_metric = fdw_scan_next_metric(scan)))
            return false;
        if (!scan->in_cluster && !(scan->in_cluster = next_cluster(scan))) {
            scan->in_metric = false;
            continue;
        }
        if (!scan->in_slice && !(scan->in_slice = next_slice(scan))) {
            scan->in_cluster = false;
            continue;
        }
        scan->current = fdw_merge_next(&scan->merge);
        if (scan->current != NULL) {
            scan->row = 0;
            scan->n_rows = scan->merge.out.n;
            return true;
        }
        scan->in_slice = false;
    }
}

void
fdw_scan_fill_series(fdw_scan *scan)
{
    TupleTableSlot *slot = scan->slot;

    ExecClearTuple(slot);
    slot->tts_values[SAMPLES_METRIC - 1] = Int32GetDatum(scan->current->metric_id);
    slot->tts_isnull[SAMPLES_METRIC - 1] = false;
    slot->tts_isnull[SAMPLES_TIME - 1] = !scan->need_time;
    slot->tts_isnull[SAMPLES_VALUE - 1] = !scan->need_value && !scan->need_histogram;
    slot->tts_values[SAMPLES_SERIES - 1] = Int64GetDatum(scan->current->id);
    slot->tts_isnull[SAMPLES_SERIES - 1] = false;
    slot->tts_values[SAMPLES_LABELS - 1] = scan->current->labels;
    slot->tts_isnull[SAMPLES_LABELS - 1] = !scan->need_labels;
    ExecStoreVirtualTuple(slot);
}

TupleTableSlot *
fdw_iterate(ForeignScanState *node)
{
    fdw_scan *scan = node->fdw_state;
    TupleTableSlot *slot = scan->slot;

    if (scan->row == scan->n_rows) {
        if (!fdw_scan_next_series(scan))
            return ExecClearTuple(slot);
        fdw_scan_fill_series(scan);
    } else if (unlikely(TTS_EMPTY(slot))) {
        fdw_scan_fill_series(scan);
    }

    size_t row = scan->row++;

    if (scan->need_time)
        slot->tts_values[SAMPLES_TIME - 1] =
            TimestampTzGetDatum(bridge_ms_to_timestamptz_unchecked(scan->merge.out.t_ms[row]));
    if (scan->need_value)
        slot->tts_values[SAMPLES_VALUE - 1] = Float8GetDatum(scan->merge.out.values[row]);
    else if (scan->need_histogram || scan->need_start)
        fdw_histograms_fill(scan, row);
    return slot;
}
