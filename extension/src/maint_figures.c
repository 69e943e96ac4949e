/*
 * maint_figures.c - what a maintenance step changes in _prom_catalog.metric_day, gathered row by row
 * and written by one statement at the end of the step, in its transaction.
 *
 * Sums are kept as differences. Hours cannot be (a bit does not know how many rows stand behind it), so
 * a step that looks at a cell of time clears the cell's hours and sets those of all rows that are in it
 * afterwards. Within a step nobody sets for one metric and tenant what somebody else clears: cells and
 * windows do not overlap (and what of other kinds lies in a cell is set by each that clears). Only hours of
 * sealed rows are cleared by the day, maybe by several windows of it: there the last one is right.
 */
#include "maint.h"

#include "catalog/pg_type.h"

enum { DAY_HOURS = 24 };

static void *
grown(maint_figures *f, void *items, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return items;
    *cap = Max(64, *cap * 2);
    return items == NULL ? MemoryContextAllocHuge(f->context, *cap * size)
                         : repalloc_huge(items, *cap * size);
}

static int32
day_of(int64 t_ms)
{
    return (int32)(mdl_day_start_ms(t_ms) / MDL_DAY_MS);
}

/* Neighbours are mostly about the same day, so looking at the last entry keeps the list short. Entries
 * below the mark must stay as they are. */
static maint_figure *
entry(maint_figures *f, int32 tenant_id, int32 metric_id, int32 day)
{
    if (f->n > f->mark) {
        maint_figure *last = &f->items[f->n - 1];
        if (last->metric_id == metric_id && last->day == day && last->tenant_id == tenant_id)
            return last;
    }
    f->items = grown(f, f->items, f->n, &f->cap, sizeof(maint_figure));
    f->items[f->n] = (maint_figure){.tenant_id = tenant_id,
                                    .metric_id = metric_id,
                                    .day = day,
                                    .order = (uint32)f->n};
    return &f->items[f->n++];
}

/* The hours of `day` that [from, to] touches. */
static int32
hours_of(int32 day, int64 from_ms, int64 to_ms)
{
    const int64 start = day * (int64)MDL_DAY_MS;
    const int64 lo = Max(from_ms - start, 0) / MAINT_HOUR_MS;
    const int64 hi = Min((to_ms - start) / MAINT_HOUR_MS, DAY_HOURS - 1);

    return lo > hi ? 0 : (int32)(((1U << (hi - lo + 1)) - 1) << lo);
}

void
maint_figures_row(maint_figures *f, const blk_meta *m, int64 bytes, int sign)
{
    maint_figure *e = entry(f, m->tenant_id, m->metric_id, day_of(m->t_min_ms));
    const int32 hours = sign > 0 ? hours_of(e->day, m->t_min_ms, m->t_max_ms) : 0;

    if (m->level == BLK_LEVEL_MERGED) {
        e->merged_rows += sign;
        e->merged_samples += sign * (int64)m->n_samples;
        e->merged_bytes += sign * bytes;
        e->merged_set |= hours;
    } else {
        e->sealed_rows += sign;
        e->sealed_samples += sign * (int64)m->n_samples;
        e->sealed_bytes += sign * bytes;
        e->sealed_set |= hours;
    }
}

void
maint_figures_stays(maint_figures *f, const blk_meta *m)
{
    maint_figure *e = entry(f, m->tenant_id, m->metric_id, day_of(m->t_min_ms));
    const int32 hours = hours_of(e->day, m->t_min_ms, m->t_max_ms);

    if (m->level == BLK_LEVEL_MERGED)
        e->merged_set |= hours;
    else
        e->sealed_set |= hours;
}

void
maint_figures_clear(maint_figures *f, int32 tenant_id, int32 metric_id, int64 from_ms, int64 to_ms)
{
    maint_figure *e = entry(f, tenant_id, metric_id, day_of(from_ms));

    e->merged_clear |= hours_of(e->day, from_ms, to_ms - 1);
}

void
maint_figures_clear_sealed(maint_figures *f, int32 tenant_id, int32 metric_id, int64 day_ms)
{
    maint_figure *e = entry(f, tenant_id, metric_id, day_of(day_ms));

    e->sealed_clear = hours_of(e->day, day_ms, day_ms + MDL_DAY_MS - 1);
    e->sealed_set = 0;
}

void
maint_figures_dups(maint_figures *f, int32 tenant_id, int32 metric_id, int64 duplicates,
                   int64 conflicts)
{
    if (duplicates == 0 && conflicts == 0)
        return;
    f->dups = grown(f, f->dups, f->n_dups, &f->cap_dups, sizeof(maint_dups));
    f->dups[f->n_dups++] = (maint_dups){tenant_id, metric_id, duplicates, conflicts};
}

/* ---- writing ----------------------------------------------------------------------------- */

static int
cmp_figures(const void *a, const void *b)
{
    const maint_figure *x = a, *y = b;

    if (x->metric_id != y->metric_id)
        return x->metric_id < y->metric_id ? -1 : 1;
    if (x->day != y->day)
        return x->day < y->day ? -1 : 1;
    return x->tenant_id < y->tenant_id ? -1 : x->tenant_id > y->tenant_id;
}

static int
cmp_figures_in_order(const void *a, const void *b)
{
    const maint_figure *x = a, *y = b;
    const int diff = cmp_figures(a, b);

    return diff != 0 ? diff : x->order < y->order ? -1 : x->order > y->order;
}

static void
combine(maint_figures *f)
{
    size_t out = 0;

    qsort(f->items, f->n, sizeof(maint_figure), cmp_figures_in_order);
    for (size_t i = 0; i < f->n; i++) {
        const maint_figure *e = &f->items[i];
        maint_figure *o = &f->items[Max(out, 1) - 1];

        if (out == 0 || cmp_figures(o, e) != 0) {
            f->items[out++] = *e;
            continue;
        }
        o->merged_rows += e->merged_rows;
        o->merged_samples += e->merged_samples;
        o->merged_bytes += e->merged_bytes;
        o->sealed_rows += e->sealed_rows;
        o->sealed_samples += e->sealed_samples;
        o->sealed_bytes += e->sealed_bytes;
        o->merged_clear |= e->merged_clear;
        o->merged_set |= e->merged_set;
        o->sealed_clear |= e->sealed_clear;
        o->sealed_set = (o->sealed_set & ~e->sealed_clear) | e->sealed_set;
    }
    f->n = out;
}

enum { N_INTS = 9, N_LONGS = 4, N_ARRAYS = N_INTS + N_LONGS };

static void
make_arrays(const maint_figures *f, Datum values[N_ARRAYS])
{
    int32 *ints = palloc_extended((f->n + 1) * sizeof(int32), MCXT_ALLOC_HUGE);
    int64 *longs = palloc_extended((f->n + 1) * sizeof(int64), MCXT_ALLOC_HUGE);

    for (int c = 0; c < N_INTS; c++) {
        for (size_t i = 0; i < f->n; i++) {
            const maint_figure *e = &f->items[i];
            const int32 row[N_INTS] = {e->metric_id,          e->day,
                                       e->tenant_id,          (int32)e->merged_rows,
                                       (int32)e->sealed_rows, e->merged_clear,
                                       e->merged_set,         e->sealed_clear,
                                       e->sealed_set};
            ints[i] = row[c];
        }
        values[c] = maint_int4_array(ints, f->n);
    }
    for (int c = 0; c < N_LONGS; c++) {
        for (size_t i = 0; i < f->n; i++) {
            const maint_figure *e = &f->items[i];
            const int64 row[N_LONGS] = {e->merged_samples, e->sealed_samples, e->merged_bytes,
                                        e->sealed_bytes};
            longs[i] = row[c];
        }
        values[N_INTS + c] = maint_int8_array(longs, f->n);
    }
    pfree(ints);
    pfree(longs);
}

#define FIGURES                                                                                    \
    "unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) u (metric_id, day, "           \
    "tenant_id, merged_rows, sealed_rows, clear, merged_hours, clear_sealed, sealed_hours, "       \
    "merged_samples, sealed_samples, merged_bytes, sealed_bytes) "

static void
write_days(maint_figures *f)
{
    static const Oid types[N_ARRAYS] = {
        INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID,
        INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT8ARRAYOID,
        INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
    };
    Datum values[N_ARRAYS];

    combine(f);
    make_arrays(f, values);
    /* Nearly always every row is there, and updating is cheaper than to insert and to find that. */
    SPIPlanPtr update = maint_prepare(
        "UPDATE _prom_catalog.metric_day d SET merged_rows = d.merged_rows + u.merged_rows, "
        "sealed_rows = d.sealed_rows + u.sealed_rows, "
        "merged_hours = (d.merged_hours & ~u.clear) | u.merged_hours, "
        "sealed_hours = (d.sealed_hours & ~u.clear_sealed) | u.sealed_hours, "
        "merged_samples = d.merged_samples + u.merged_samples, "
        "sealed_samples = d.sealed_samples + u.sealed_samples, "
        "merged_bytes = d.merged_bytes + u.merged_bytes, "
        "sealed_bytes = d.sealed_bytes + u.sealed_bytes FROM " FIGURES
        "WHERE d.metric_id = u.metric_id AND d.day = date '1970-01-01' + u.day "
        "AND d.tenant_id = u.tenant_id",
        N_ARRAYS, types);
    if (maint_run(update, values, NULL, SPI_OK_UPDATE) == f->n)
        return;
    SPIPlanPtr insert = maint_prepare(
        "INSERT INTO _prom_catalog.metric_day (metric_id, day, tenant_id, merged_rows, sealed_rows, "
        "merged_hours, sealed_hours, merged_samples, sealed_samples, merged_bytes, sealed_bytes) "
        "SELECT u.metric_id, date '1970-01-01' + u.day, u.tenant_id, u.merged_rows, u.sealed_rows, "
        "u.merged_hours, u.sealed_hours, u.merged_samples, u.sealed_samples, u.merged_bytes, "
        "u.sealed_bytes FROM " FIGURES "ON CONFLICT DO NOTHING",
        N_ARRAYS, types);
    maint_run(insert, values, NULL, SPI_OK_INSERT);
}

static void
write_dups(const maint_figures *f)
{
    static const Oid types[] = {INT4ARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID};
    const size_t n = f->n_dups;
    int32 *tenants = palloc_extended(n * sizeof(int32), MCXT_ALLOC_HUGE);
    int32 *metrics = palloc_extended(n * sizeof(int32), MCXT_ALLOC_HUGE);
    int64 *duplicates = palloc_extended(n * sizeof(int64), MCXT_ALLOC_HUGE);
    int64 *conflicts = palloc_extended(n * sizeof(int64), MCXT_ALLOC_HUGE);

    for (size_t i = 0; i < n; i++) {
        tenants[i] = f->dups[i].tenant_id;
        metrics[i] = f->dups[i].metric_id;
        duplicates[i] = f->dups[i].duplicates;
        conflicts[i] = f->dups[i].conflicts;
    }
    Datum values[] = {maint_int4_array(tenants, n), maint_int4_array(metrics, n),
                      maint_int8_array(duplicates, n), maint_int8_array(conflicts, n)};
    maint_run(maint_prepare("INSERT INTO _prom_catalog.metric_conflict (tenant_id, metric_id, "
                            "duplicates, conflicts) SELECT * FROM unnest($1, $2, $3, $4)",
                            lengthof(types), types),
              values, NULL, SPI_OK_INSERT);
}

void
maint_figures_write(maint_figures *f)
{
    MemoryContext old = MemoryContextSwitchTo(f->context);

    if (f->n > 0)
        write_days(f);
    if (f->n_dups > 0)
        write_dups(f);
    f->n = f->n_dups = 0;
    maint_figures_mark(f);
    MemoryContextSwitchTo(old);
}
