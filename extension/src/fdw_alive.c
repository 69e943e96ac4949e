/*
 * fdw_alive.c - the series of a metric, without those that are long gone.
 *
 * A metric may have had a thousand times the series that live: pods come and go. Who asks for the last hour
 * must not read them all. Where a metric has many series and the time has a beginning, the sets of
 * _prom_data.presence and the directories of fresh rows say which can have samples in it (presence.c), and
 * these are read by their ids. What is left out has no samples there, so the result is the same.
 *
 * Whether it is worth while is the planner's guess of how many series the metric has, which is known anyway, and
 * how many ids the sets hold. So metrics of usual size cost what they did. In any doubt about the sets, and where
 * the table of series was never analysed, all series are read.
 *
 * Planning asks the same, less exactly: how many ids the sets are said to hold, and some of the ids.
 */
#include "fdw.h"

#include <math.h>

#include "presence.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"

enum {
    MANY = 500,     /* series from which on it is worth a look at the sets */
    WORTH = 3,      /* times as many as live: a row by id takes longer than one of many */
    MOST = 4000000, /* ids */
    SET_ROWS = 64,  /* that planning looks at: LIMIT in the statement, less one */
    DRAWN = 500     /* ids for planning, or a few more */
};

typedef struct looking {
    int32 metric_id;
    int64 from_ms, to_ms;
    ArrayType *ids; /* NULL: all series are to be read */
} looking;

static bool
look(void *self, double planned)
{
    looking *l = self;

    if (l->from_ms <= MDL_TIME_MIN_MS || planned < MANY)
        return false;
    l->ids = presence_of_metric(l->metric_id, &l->from_ms, &l->to_ms,
                                (uint64)Min(planned / WORTH, MOST));
    return l->ids != NULL;
}

void
fdw_alive_each(int32 metric_id, fdw_stmt all, fdw_stmt by_id, int64 *from_ms, int64 *to_ms,
               fdw_row_fn fn, void *self)
{
    looking l = {.metric_id = metric_id, .from_ms = *from_ms, .to_ms = *to_ms};
    Datum arg = Int32GetDatum(metric_id);

    fdw_spi_each_unless(all, &arg, fn, self, look, &l);
    *from_ms = PG_INT64_MIN;
    *to_ms = PG_INT64_MAX;
    if (l.ids == NULL)
        return;
    *from_ms = l.from_ms;
    *to_ms = l.to_ms;
    arg = PointerGetDatum(l.ids);
    fdw_spi_each(by_id, &arg, fn, self);
    pfree(l.ids);
}

/* ---- planning ------------------------------------------------------------------------------- */

typedef struct window { /* rows of the statement's result */
    uint64 first, n;
    double series;
} window;

typedef struct drawing {
    uint64 of; /* ids there are */
    Datum *ids;
    int n, cap;
} drawing;

/* Each with the same chance, which its id alone decides: a plan does not change from one time to the next, and ids
 * that lie at equal distances are as likely as others. */
static void
draw_run(void *self, int64_t lo, int64_t hi)
{
    drawing *d = self;

    for (int64 id = lo; id <= hi && d->n < d->cap; id++) {
        uint32 h = hash_bytes_uint32((uint32)id ^ (uint32)((uint64)id >> 32));

        if (d->of <= DRAWN || (uint64)h * d->of >> 32 < DRAWN)
            d->ids[d->n++] = Int64GetDatum(id);
    }
}

static bool
read_sets(const window *w, mdl_ids *into)
{
    for (uint64 i = w->first; i < w->first + w->n; i++) {
        bool isnull;
        ps_err err;
        ps_str set;
        Datum value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &isnull);

        if (presence_set_bytes(value, &set, &err) != PS_OK ||
            mdl_ids_read(into, set, &err) != PS_OK)
            return false;
    }
    return true;
}

/* Rows come window by window. */
static void
sum_up(uint64 n_rows, window *ret_fullest, double *ret_sum)
{
    window w = {0};
    Datum at = 0;

    *ret_fullest = w;
    *ret_sum = 0;
    for (uint64 i = 0; i < n_rows; i++) {
        bool isnull;
        HeapTuple row = SPI_tuptable->vals[i];
        Datum start = SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull);
        int32 n = DatumGetInt32(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull));

        if (i == 0 || start != at)
            w = (window){.first = i};
        at = start;
        w.n++;
        w.series += n;
        *ret_sum += n;
        if (w.series > ret_fullest->series)
            *ret_fullest = w;
    }
}

bool
fdw_alive_guess(int32 metric_id, int64 from_ms, int64 to_ms, fdw_living *ret)
{
    TimestampTz from, to;
    window fullest;
    double sum;
    bridge_alloc alloc;
    mdl_ids ids;

    if (!presence_may_be_read() ||
        !bridge_ms_to_timestamptz(Max(mdl_window_start_ms(from_ms), MDL_TIME_MIN_MS), &from) ||
        !bridge_ms_to_timestamptz(to_ms, &to))
        return false;

    Datum values[] = {Int32GetDatum(metric_id), TimestampTzGetDatum(from), TimestampTzGetDatum(to)};
    uint64 n_rows = fdw_spi_run(FDW_STMT_EST_ALIVE, values, 0);
    bool good = n_rows > 0 && n_rows <= SET_ROWS;

    bridge_alloc_init(&alloc, CurrentMemoryContext, PRESENCE_BUDGET);
    mdl_ids_init(&ids, &alloc.alloc);
    if (good) {
        sum_up(n_rows, &fullest, &sum);
        good = fullest.n > 0 && read_sets(&fullest, &ids) && ids.count > 0;
    }
    if (good) {
        drawing d = {.of = ids.count, .cap = DRAWN * 2};

        d.ids = palloc(sizeof(Datum) * d.cap);
        mdl_ids_runs(&ids, draw_run, &d);
        /* as many as in the fullest window if all live on, as in all of them if none does */
        ret->series = sqrt(fullest.series * sum);
        ret->all = ids.count <= DRAWN && sum == fullest.series;
        ret->ids =
            construct_array(d.ids, d.n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
        pfree(d.ids);
    }
    mdl_ids_done(&ids);
    SPI_freetuptable(SPI_tuptable);
    return good;
}
