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
 */
#include "fdw.h"

#include "presence.h"

enum {
    MANY = 3000,   /* series from which on it is worth a look at the sets */
    WORTH = 3,     /* times as many as live: a row by id takes longer than one of many */
    MOST = 4000000 /* ids */
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
