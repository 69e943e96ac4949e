/*
 * verify_block.c - what prom_api.verify() looks at in one row.
 *
 * First what the row says (bounds that contradict each other, a level or a day that is not its table's,
 * an id that was never given out). Then the block: it has to open, whole, with checksums, as the block
 * of its row; its directory has to be in order and to add up to what the row says; its series have to be
 * series of the catalog. With care (deep) each series is decoded, and compared with what the directory
 * says of it and with the sets of series by window.
 */
#include "verify.h"

#include "damage.h"
#include "maint.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define LOOK_BUDGET ((size_t)1 << 30)

typedef struct look { /* one open block */
    verify *v;
    const verify_row *row;
    bridge_alloc memory;
    blk_reader *reader;
    blk_bench *bench;
    ps_arena arena; /* of the histograms of a series */
    int64 *t_ms;    /* scratch */
    void *values;
    int64 *start_ms;
    size_t cap;
    uint64 n_missing; /* series that are not in their window's set */
    int64 missing, missing_window_ms;
} look;

/* ---- the row ------------------------------------------------------------------------------ */

static char *
time_of(int64 ms)
{
    TimestampTz t;

    return bridge_ms_to_timestamptz(ms, &t) ? pstrdup(timestamptz_to_str(t)) : "no time";
}

static void
look_at_columns(verify *v, const verify_row *row)
{
    const blk_meta *m = &row->meta;
    int64 day_ms = mdl_day_start_ms(m->t_min_ms);

    if (m->level != v->level)
        verify_put(v, row, psprintf("level is %d in a table of level %d", m->level, v->level));
    if (row->id > v->last_id || row->id < 1)
        verify_put(v, row, psprintf("id is not one that the sequence has given out, which is at "
                                    INT64_FORMAT, v->last_id));
    if (m->t_min_ms < v->from_ms || m->t_max_ms >= v->to_ms)
        verify_put(v, row, "times are outside of the table's day");
    else if (v->level >= BLK_LEVEL_MERGED && m->t_max_ms - day_ms >= MDL_DAY_MS)
        verify_put(v, row, "a merged or sealed block crosses the end of a day");
    else if (v->level == BLK_LEVEL_MERGED &&
             m->t_max_ms >= maint_cell_of(m->t_min_ms, v->boundary_ms).to_ms)
        verify_put(v, row, psprintf("a merged block leaves its cell, which ends at %s",
                                    time_of(maint_cell_of(m->t_min_ms, v->boundary_ms).to_ms)));
}

/* ---- series and the catalog --------------------------------------------------------------- */

static void
ask_series(void *arg)
{
    Datum *ids = arg;

    if (SPI_execute_with_args("SELECT id, metric_id, tenant_id FROM _prom_catalog.series"
                              " WHERE id OPERATOR(pg_catalog.=) ANY ($1)",
                              1, (Oid[]){INT8ARRAYOID}, ids, NULL, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not read series");
}

/* Fills v->series with those of the block that are not in it yet. Where the catalog itself cannot be read, the
 * series of this table's blocks are not looked for any more. */
static void
learn_series(verify *v, const blk_reader *reader)
{
    uint32 n = blk_reader_n_series(reader), n_new = 0;
    Datum *ids = palloc_extended(n * sizeof(Datum), MCXT_ALLOC_HUGE);

    for (uint32 i = 0; i < n; i++) {
        blk_series s;
        bool found;

        blk_reader_series(reader, i, &s);
        verify_known *known = hash_search(v->series, &s.series_id, HASH_ENTER, &found);

        if (found)
            continue;
        known->metric_id = known->tenant_id = 0;
        ids[n_new++] = Int64GetDatum(s.series_id);
    }
    if (n_new == 0)
        return;

    Datum array = PointerGetDatum(
        construct_array(ids, (int)n_new, INT8OID, sizeof(int64), true, TYPALIGN_DOUBLE));

    ps_err err = {0};

    if (damage_guarded(ask_series, &array, &err) != PS_OK) {
        v->series_seen = false;
        verify_put(v, NULL, psprintf("series in the catalog cannot be read: %s",
                                     bridge_text(PS_ECORRUPT, &err)));
        return;
    }
    for (uint64 i = 0; i < SPI_processed; i++) {
        HeapTuple tuple = SPI_tuptable->vals[i];
        TupleDesc desc = SPI_tuptable->tupdesc;
        bool isnull;
        int64 id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
        verify_known *known = hash_search(v->series, &id, HASH_FIND, NULL);

        if (known == NULL)
            continue;
        known->metric_id = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull));
        known->tenant_id = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
    }
    SPI_freetuptable(SPI_tuptable);
}

/* Rows that metrics share may hold samples of one that was dropped since. */
static bool
was_dropped(int32 metric_id)
{
    Datum value = Int32GetDatum(metric_id);
    bool dropped;

    SPI_execute_with_args("SELECT 1 FROM _prom_catalog.dropped_metric"
                          " WHERE id OPERATOR(pg_catalog.=) $1",
                          1, (Oid[]){INT4OID}, &value, NULL, true, 1);
    dropped = SPI_processed > 0;
    SPI_freetuptable(SPI_tuptable);
    return dropped;
}

static void
look_at_series(look *l)
{
    verify *v = l->v;
    uint32 n = blk_reader_n_series(l->reader), n_unknown = 0, n_other = 0;
    int64 unknown = 0, other = 0;
    int32 dropped = 0;

    if (!v->series_seen)
        return;
    learn_series(v, l->reader);
    if (!v->series_seen)
        return;
    for (uint32 i = 0; i < n; i++) {
        blk_series s;

        blk_reader_series(l->reader, i, &s);
        const verify_known *known = hash_search(v->series, &s.series_id, HASH_FIND, NULL);

        if (known->metric_id == s.metric_id && known->tenant_id == l->row->meta.tenant_id)
            continue;
        if (known->metric_id != 0) {
            if (n_other++ == 0)
                other = s.series_id;
            continue;
        }
        if (l->row->meta.metric_id < 0 && (dropped == s.metric_id || was_dropped(s.metric_id))) {
            dropped = s.metric_id;
            continue;
        }
        if (n_unknown++ == 0)
            unknown = s.series_id;
    }
    if (n_unknown > 0)
        verify_put(v, l->row, psprintf("%u of its %u series are not in the catalog, the first is "
                                       INT64_FORMAT, n_unknown, n, unknown));
    if (n_other > 0)
        verify_put(v, l->row,
                   psprintf("%u of its %u series are of another metric or tenant in the catalog, "
                            "the first is " INT64_FORMAT, n_other, n, other));
}

/* ---- the directory ------------------------------------------------------------------------ */

/* NULL: all is well. */
static char *
look_at_directory(const look *l)
{
    const blk_meta *m = &l->row->meta;
    uint32 n = blk_reader_n_series(l->reader);
    int64 lo = PG_INT64_MAX, hi = PG_INT64_MIN, first = PG_INT64_MAX, last = PG_INT64_MIN;
    int64 samples = 0;
    blk_series before = {0};

    for (uint32 i = 0; i < n; i++) {
        blk_series s;

        blk_reader_series(l->reader, i, &s);
        if (i > 0 && (s.metric_id < before.metric_id ||
                      (s.metric_id == before.metric_id && s.series_id <= before.series_id)))
            return psprintf("series " INT64_FORMAT " is out of order", s.series_id);
        if (m->metric_id > 0 ? s.metric_id != m->metric_id : mdl_bucket(s.metric_id) != m->metric_id)
            return psprintf("series " INT64_FORMAT " is of metric_id %d", s.series_id, s.metric_id);
        if (s.n_samples == 0 || s.t_first_ms > s.t_last_ms)
            return psprintf("series " INT64_FORMAT " has no samples, or ends before it begins",
                            s.series_id);
        lo = Min(lo, s.series_id);
        hi = Max(hi, s.series_id);
        first = Min(first, s.t_first_ms);
        last = Max(last, s.t_last_ms);
        samples += s.n_samples;
        before = s;
    }
    if ((int64)n != m->n_series || samples != m->n_samples)
        return psprintf("holds %u series and " INT64_FORMAT " samples, its row says %d and %d", n,
                        samples, m->n_series, m->n_samples);
    if (lo != m->series_lo || hi != m->series_hi)
        return psprintf("holds series " INT64_FORMAT " to " INT64_FORMAT ", its row says otherwise",
                        lo, hi);
    if (first != m->t_min_ms || last != m->t_max_ms)
        return psprintf("holds times from %s to %s, its row says otherwise", time_of(first),
                        time_of(last));
    return NULL;
}

/* ---- samples ------------------------------------------------------------------------------ */

static void
reserve(look *l, size_t n)
{
    if (n <= l->cap)
        return;
    l->cap = Max(n, l->cap * 2);
    l->t_ms = palloc_extended(l->cap * sizeof(*l->t_ms), MCXT_ALLOC_HUGE);
    l->values = palloc_extended(l->cap * sizeof(double), MCXT_ALLOC_HUGE);
    l->start_ms = palloc_extended(l->cap * sizeof(*l->start_ms), MCXT_ALLOC_HUGE);
}

/* Samples lo .. lo + n, decoded; only whether that goes. */
static ps_status
decode_contents(look *l, const blk_series *s, size_t lo, size_t n, ps_err *err)
{
    ps_status status;

    if (l->row->meta.kind == BLK_KIND_HISTOGRAM) {
        status = blk_bench_histograms(l->bench, l->reader, s->index, lo, n, &l->arena,
                                      (const hst_hist **)l->values, err);
        ps_arena_reset(&l->arena);
    } else {
        status = blk_bench_values(l->bench, l->reader, s->index, lo, n, l->values, err);
        if (status == PS_OK && n > 0 && s->last_known &&
            memcmp((double *)l->values + n - 1, &s->last_value, sizeof(double)) != 0)
            return ps_fail(err, PS_ECORRUPT, "the last value is not that of the directory");
    }
    if (status == PS_OK)
        status = blk_bench_starts(l->bench, l->reader, s->index, lo, n, l->start_ms, err);
    return status;
}

static ps_status
decode_series(look *l, const blk_series *s, ps_err *err)
{
    size_t lo = 0, n = 0;

    reserve(l, s->n_samples);
    PS_TRY(blk_bench_times(l->bench, l->reader, s->index, PG_INT64_MIN, PG_INT64_MAX, l->t_ms, &lo,
                           &n, err));
    if (n != s->n_samples || lo != 0)
        return ps_fail(err, PS_ECORRUPT, "%zu samples instead of %u", n, s->n_samples);
    for (size_t i = 1; i < n; i++) {
        if (l->t_ms[i] <= l->t_ms[i - 1])
            return ps_fail(err, PS_ECORRUPT, "times do not ascend");
    }
    if (l->t_ms[0] != s->t_first_ms || l->t_ms[n - 1] != s->t_last_ms)
        return ps_fail(err, PS_ECORRUPT, "times are not those of the directory");
    return decode_contents(l, s, lo, n, err);
}

static void
look_at_samples(look *l)
{
    uint32 n = blk_reader_n_series(l->reader);
    ps_err err = {0};

    l->bench = blk_bench_new(&l->memory.alloc);
    ps_arena_init(&l->arena, &l->memory.alloc, 0);
    for (uint32 i = 0; i < n; i++) {
        blk_series s;
        ps_status status;

        CHECK_FOR_INTERRUPTS();
        blk_reader_series(l->reader, i, &s);
        status = l->bench == NULL ? PS_ENOMEM : decode_series(l, &s, &err);
        if (status != PS_OK) {
            verify_put(l->v, l->row,
                       psprintf("series " INT64_FORMAT ": %s", s.series_id, bridge_text(status, &err)));
            return;
        }
    }
}

/* ---- sets of series by window --------------------------------------------------------------- */

static void
ask_set(void *arg)
{
    static const Oid types[] = {INT4OID, INT4OID, TIMESTAMPTZOID};

    SPI_execute_with_args("SELECT series_ids FROM _prom_data.presence"
                          " WHERE tenant_id OPERATOR(pg_catalog.=) $1"
                          " AND metric_id OPERATOR(pg_catalog.=) $2"
                          " AND window_start OPERATOR(pg_catalog.=) $3",
                          3, (Oid *)types, (Datum *)arg, NULL, true, 0);
}

static void
load_set(verify *v, int32 tenant_id, int32 metric_id, int64 window_ms)
{
    Datum values[] = {Int32GetDatum(tenant_id), Int32GetDatum(metric_id),
                      TimestampTzGetDatum(bridge_ms_to_timestamptz_unchecked(window_ms))};

    MemoryContextReset(v->set_context);
    bridge_alloc_init(&v->set_memory, v->set_context, PRESENCE_BUDGET);
    mdl_ids_init(&v->set, &v->set_memory.alloc);
    v->set_tenant = tenant_id;
    v->set_metric = metric_id;
    v->set_window_ms = window_ms;
    v->set_good = damage_guarded(ask_set, values, NULL) == PS_OK;
    if (!v->set_good) /* verify_catalog() says so */
        return;
    for (uint64 i = 0; i < SPI_processed; i++) {
        bool isnull;
        Datum value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
        struct varlena *set;

        /* a damaged set is reported for itself */
        if (damage_detoast((struct varlena *)DatumGetPointer(value), 0, &set, NULL) != PS_OK ||
            mdl_ids_read(&v->set, (ps_str){VARDATA_ANY(set), VARSIZE_ANY_EXHDR(set)}, NULL) !=
                PS_OK)
            v->set_good = false;
    }
    SPI_freetuptable(SPI_tuptable);
}

static bool
expect_in_set(void *self, int64 lo, int64 hi, int64 window_ms)
{
    look *l = self;
    verify *v = l->v;
    const blk_meta *m = &l->row->meta;

    if (v->set_metric != m->metric_id || v->set_tenant != m->tenant_id ||
        v->set_window_ms != window_ms)
        load_set(v, m->tenant_id, m->metric_id, window_ms);
    for (int64 id = lo; v->set_good && id <= hi; id++) {
        if (mdl_ids_has(&v->set, id))
            continue;
        if (l->n_missing++ == 0) {
            l->missing = id;
            l->missing_window_ms = window_ms;
        }
    }
    return true;
}

static void
look_at_presence(look *l)
{
    const blk_meta *m = &l->row->meta;
    const presence_range g = {l->reader,   0,           blk_reader_n_series(l->reader), m->t_min_ms,
                              m->t_max_ms, m->t_min_ms, m->t_max_ms};
    presence_scratch scratch = {0};

    if (presence_of_range(&g, &scratch, expect_in_set, l, NULL) == PS_OK && l->n_missing > 0)
        verify_put(l->v, l->row,
                   psprintf("the set of series in the window that begins at %s lacks series "
                            INT64_FORMAT " (of " UINT64_FORMAT " that sets lack)",
                            time_of(l->missing_window_ms), l->missing, l->n_missing));
}

/* ---- all of it ---------------------------------------------------------------------------- */

static void
look_at_block(verify *v, const verify_row *row, struct varlena *data)
{
    look l = {.v = v, .row = row};
    ps_err err = {0};
    struct varlena *bytes = NULL;
    ps_status status = damage_detoast(data, 0, &bytes, &err);
    char *problem;

    bridge_alloc_init(&l.memory, v->row_context, LOOK_BUDGET);
    if (status == PS_OK)
        status = blk_reader_open(&l.memory.alloc,
                                 (ps_str){VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)}, &row->meta,
                                 &l.reader, &err);
    if (status != PS_OK) {
        verify_put(v, row, bridge_text(status, &err));
        return;
    }
    problem = look_at_directory(&l);
    if (problem != NULL)
        verify_put(v, row, problem);
    look_at_series(&l);
    if (v->deep && problem == NULL) {
        look_at_samples(&l);
        if (v->level > BLK_LEVEL_FRESH && row->meta.metric_id > 0)
            look_at_presence(&l);
    }
    blk_bench_free(l.bench);
    blk_reader_free(l.reader);
}

void
verify_look(verify *v, HeapTuple tuple, TupleDesc desc)
{
    verify_row row;
    ps_err err = {0};
    bool isnull;
    ps_status status = bridge_meta_read(tuple, desc, 2, &row.meta, &err);

    row.id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
    if (status == PS_OK)
        status = damage_check_row(&row.meta, &err);
    if (status != PS_OK) {
        verify_put(v, &row, bridge_text(status, &err));
        return;
    }
    look_at_columns(v, &row);

    Datum data = SPI_getbinval(tuple, desc, 2 + BRIDGE_META_N, &isnull);

    if (isnull)
        verify_put(v, &row, "has no data");
    else
        look_at_block(v, &row, (struct varlena *)DatumGetPointer(data));
}
