/*
 * fdw_series.c - the series of a scan: those that have a row in the catalog (visible to the caller)
 * and pass the series-level quals, which are evaluated here, once per series, over a slot that holds
 * metric_id, series_id and labels. Samples of series without a row never appear.
 *
 * The set owns its labels (in its context). Rows arrive in any order and are sorted at the end.
 */
#include "fdw.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "utils/datum.h"
#include "utils/memutils.h"

typedef struct loader {
    fdw_scan *scan;
    fdw_series_set *set;
    const fdw_want *want; /* when loading by id: metrics to keep; may be NULL */
} loader;

void
fdw_series_clear(fdw_series_set *set)
{
    MemoryContextReset(set->context);
    set->rows = NULL;
    set->n = set->cap = 0;
}

static fdw_series *
set_add(fdw_series_set *set)
{
    if (set->n == set->cap) {
        size_t cap = set->cap == 0 ? 64 : set->cap * 2;
        size_t bytes = cap * sizeof(fdw_series);

        if (set->rows == NULL)
            set->rows = MemoryContextAllocHuge(set->context, bytes);
        else
            set->rows = repalloc_huge(set->rows, bytes);
        set->cap = cap;
    }
    return &set->rows[set->n++];
}

static bool
passes(fdw_scan *scan, int64 id, int32 metric_id, Datum labels)
{
    TupleTableSlot *slot = scan->series_slot;
    bool result;

    if (scan->series_quals == NULL)
        return true;
    ExecClearTuple(slot);
    memset(slot->tts_isnull, true, sizeof(bool) * SAMPLES_NATTS);
    slot->tts_values[SAMPLES_METRIC - 1] = Int32GetDatum(metric_id);
    slot->tts_isnull[SAMPLES_METRIC - 1] = false;
    slot->tts_values[SAMPLES_SERIES - 1] = Int64GetDatum(id);
    slot->tts_isnull[SAMPLES_SERIES - 1] = false;
    slot->tts_values[SAMPLES_LABELS - 1] = labels;
    slot->tts_isnull[SAMPLES_LABELS - 1] = false;
    ExecStoreVirtualTuple(slot);
    scan->econtext->ecxt_scantuple = slot;
    result = ExecQual(scan->series_quals, scan->econtext);
    ResetExprContext(scan->econtext);
    return result;
}

static bool
metric_wanted(const fdw_want *want, int32 metric_id)
{
    if (want == NULL || want->all_metrics)
        return true;
    for (int i = 0; i < want->n_metrics; i++) {
        if (want->metrics[i] == metric_id)
            return true;
    }
    return false;
}

static void
load_row(void *self, HeapTuple tuple, TupleDesc desc)
{
    loader *l = self;
    fdw_scan *scan = l->scan;
    bool isnull[3];
    int64 id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull[0]));
    int32 metric_id = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull[1]));
    Datum labels = SPI_getbinval(tuple, desc, 3, &isnull[2]);

    if (isnull[0] || isnull[1] || isnull[2])
        elog(ERROR, "a null in a row of _prom_catalog.series");
    if (!metric_wanted(l->want, metric_id))
        return;
    scan->counts.series_total++;
    if (!passes(scan, id, metric_id, labels))
        return;
    scan->counts.series_matched++;

    fdw_series *row = set_add(l->set);

    *row = (fdw_series){.id = id, .metric_id = metric_id};
    if (scan->need_labels) {
        MemoryContext old = MemoryContextSwitchTo(l->set->context);

        /* detoasted, so that each row handed out does not do it again */
        row->labels = PointerGetDatum(PG_DETOAST_DATUM_COPY(labels));
        MemoryContextSwitchTo(old);
    }
}

static int
compare_series(const void *a, const void *b)
{
    const fdw_series *x = a, *y = b;

    if (x->metric_id != y->metric_id)
        return x->metric_id < y->metric_id ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static void
sort(fdw_series_set *set)
{
    for (size_t i = 1; i < set->n; i++) {
        if (compare_series(&set->rows[i - 1], &set->rows[i]) > 0) {
            qsort(set->rows, set->n, sizeof(fdw_series), compare_series);
            break;
        }
    }
}

/* Loaded for another time than before they are loaded for all times: the next one may be another again. */
void
fdw_series_load_metric(fdw_scan *scan, int32 metric_id, fdw_series_set *set)
{
    loader l = {.scan = scan, .set = set};
    const bool again = scan->series_metric == metric_id;

    fdw_series_clear(set);
    scan->series_from_ms = again ? MDL_TIME_MIN_MS : scan->want.from_ms;
    scan->series_to_ms = scan->want.to_ms;
    fdw_spi_begin(scan->snapshot);
    fdw_alive_each(metric_id, FDW_STMT_SERIES_OF_METRIC, FDW_STMT_SERIES_BY_ID,
                   &scan->series_from_ms, &scan->series_to_ms, load_row, &l);
    fdw_spi_end();
    sort(set);
}

void
fdw_series_load_ids(fdw_scan *scan, const fdw_want *want, fdw_series_set *set)
{
    Datum *ids = palloc(sizeof(Datum) * Max(want->n_series, 1));
    loader l = {.scan = scan, .set = set, .want = want};
    ArrayType *array;
    Datum arg;

    for (int i = 0; i < want->n_series; i++)
        ids[i] = Int64GetDatum(want->series[i]);
    array = construct_array(ids, want->n_series, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
                            TYPALIGN_DOUBLE);
    arg = PointerGetDatum(array);
    fdw_series_clear(set);
    fdw_spi_begin(scan->snapshot);
    fdw_spi_each(FDW_STMT_SERIES_BY_ID, &arg, load_row, &l);
    fdw_spi_end();
    sort(set);
    pfree(array);
    pfree(ids);
}
