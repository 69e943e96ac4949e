/*
 * maint_cells.c - cells of time, and which merged rows a fold takes along. See maint.h.
 *
 * Choice: rows that one merge wrote together are a run (ids ascending with the series). Walking from
 * the youngest run to the older ones, the fold takes everything down to the oldest run R for which
 *     FAN_IN * samples(R) <= samples(R and all younger ones) + new samples
 * that is, it waits until FAN_IN runs of like size have gathered and then makes one of them. A sample
 * is rewritten about log(n) / log(FAN_IN) times, and at most some FAN_IN runs of each size wait. FAN_IN
 * depends on the metric, so that not all of them have gathered in the same fold: it would take long. Of
 * a metric so large that FAN_IN runs are too much at once, fewer are taken.
 */
#include "maint.h"

#include "utils/timestamp.h"

enum { FAN_IN_LEAST = 10, FAN_IN_MOST = 16 };
/* Larger runs are left to the seal; so the memory of a fold is bounded. */
#define TAKE_MAX_BYTES ((int64)96 << 20)

int64
maint_floor_ms(int64 t_ms, int64 step_ms)
{
    int64 q = t_ms / step_ms;

    if (t_ms % step_ms < 0)
        q--;
    return q * step_ms;
}

maint_cell
maint_cell_of(int64 t_ms, int64 boundary_ms)
{
    const int64 step = t_ms < boundary_ms ? MDL_DAY_MS : MAINT_HOUR_MS;
    const int64 from = maint_floor_ms(t_ms, step);

    return (maint_cell){.from_ms = from, .to_ms = from + step};
}

/* Where the boundary may go back to: behind the last row that was merged into the cell of a day. */
static int64
last_day_cell(int64 from_ms)
{
    static const Oid types[] = {TIMESTAMPTZOID};
    Datum values[] = {maint_time(from_ms)};
    bool none;
    int64 end = from_ms;

    if (SPI_execute_with_args("SELECT max(t_max) FROM _prom_data.merged WHERE t_max >= $1 "
                              "AND date_bin('1 hour', t_min, '2000-01-01 00:00:00+00') "
                              " <> date_bin('1 hour', t_max, '2000-01-01 00:00:00+00')",
                              lengthof(types), (Oid *)types, values, NULL, false,
                              1) != SPI_OK_SELECT)
        elog(ERROR, "could not look for rows merged by days");
    Datum t_max = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &none);
    if (!none)
        end =
            mdl_day_start_ms(bridge_timestamptz_floor_ms(DatumGetTimestampTz(t_max))) + MDL_DAY_MS;
    SPI_freetuptable(SPI_tuptable);
    return end;
}

/* "Old" begins before yesterday (UTC). A clock that was far ahead has moved the boundary with it, and what is
 * stored now would be merged by days for as long: then it comes back as far as it can. */
int64
maint_boundary(bool advance)
{
    bool isnull;
    int64 stored = PG_INT64_MIN;
    int64 now_ms = bridge_timestamptz_floor_ms(GetCurrentTimestamp());
    int64 wanted = mdl_day_start_ms(now_ms) - MDL_DAY_MS;

    if (SPI_execute("SELECT boundary FROM _prom_catalog.merge_boundary", false, 1) != SPI_OK_SELECT)
        elog(ERROR, "could not read the merge boundary");
    if (SPI_processed == 1)
        stored = bridge_timestamptz_floor_ms(DatumGetTimestampTz(
            SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)));
    SPI_freetuptable(SPI_tuptable);
    if (advance && stored > wanted + 2 * MDL_DAY_MS)
        wanted = Min(last_day_cell(wanted), stored);
    else if (wanted < stored)
        wanted = stored;
    if (!advance || wanted == stored)
        return stored;

    static const Oid types[] = {TIMESTAMPTZOID};
    Datum values[] = {TimestampTzGetDatum(bridge_ms_to_timestamptz_unchecked(wanted))};
    if (SPI_execute_with_args(
            "INSERT INTO _prom_catalog.merge_boundary AS b (boundary) VALUES ($1) "
            "ON CONFLICT (one) DO UPDATE SET boundary = EXCLUDED.boundary",
            1, (Oid *)types, values, NULL, false, 0) != SPI_OK_INSERT)
        elog(ERROR, "could not move the merge boundary");
    return wanted;
}

static bool
overlaps(const maint_row *row, const maint_cell *cell)
{
    return row->meta.t_min_ms < cell->to_ms && row->meta.t_max_ms >= cell->from_ms;
}

static bool
inside(const maint_row *row, const maint_cell *cell)
{
    return row->meta.t_min_ms >= cell->from_ms && row->meta.t_max_ms < cell->to_ms;
}

static bool
listed(const int64 *ids, size_t n, int64 id)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == id)
            return true;
    }
    return false;
}

static uint64
fan_in_of(int32 metric_id)
{
    return FAN_IN_LEAST + (uint32)metric_id % (FAN_IN_MOST - FAN_IN_LEAST + 1);
}

size_t
maint_pick(const maint_row *rows, size_t n, const maint_cell *cell, const int64 *stop_at,
           size_t n_stop, bool *taken)
{
    const uint64 fan_in = fan_in_of(rows[0].meta.metric_id);
    uint64 total = cell->new_samples;
    int64 bytes = 0;
    size_t take_from = n; /* everything from here on that touches the cell is taken */
    size_t oldest = n;    /* oldest row walked over; the run under the eye begins there */
    size_t complete = n;  /* the oldest run that was walked over as a whole begins there */
    int64 complete_bytes = 0;
    uint64 run_samples = 0;
    size_t n_taken = 0;

    for (size_t i = n; i-- > 0;) {
        const maint_row *row = &rows[i];

        if (!overlaps(row, cell))
            continue;
        if (oldest < n && row->meta.series_hi >= rows[oldest].meta.series_lo) {
            /* the run that began at `oldest` is complete: a row of another run comes before it */
            if (run_samples * fan_in <= total)
                take_from = oldest;
            run_samples = 0;
            complete = oldest;
            complete_bytes = bytes;
        }
        if (!inside(row, cell) || listed(stop_at, n_stop, row->id))
            break;
        bytes += row->data_bytes;
        if (bytes > TAKE_MAX_BYTES) {
            /* in the middle of a run: that run stays, and what is younger will not wait for more */
            if (take_from == n && complete_bytes >= TAKE_MAX_BYTES / 2)
                take_from = complete;
            goto chosen;
        }
        oldest = i;
        run_samples += (uint64)row->meta.n_samples;
        total += (uint64)row->meta.n_samples;
    }
    if (oldest < take_from && run_samples != 0 && run_samples * fan_in <= total)
        take_from = oldest;
chosen:
    for (size_t i = take_from; i < n; i++) {
        if (overlaps(&rows[i], cell)) {
            taken[i] = true;
            n_taken++;
        }
    }
    return n_taken;
}
