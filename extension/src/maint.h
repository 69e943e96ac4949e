/*
 * maint.h - what the maintenance steps share: block rows as they come and go through SQL, time cells,
 * and the choice of what to merge.
 *
 *   maint_rows.c   rows in and out by SPI; the lock; errors that are remembered
 *   maint_cells.c  cells of time; which merged rows a fold takes along
 *   maint_fold.c   fresh -> merged      maint_units.c, maint_group.c    one bucket inside a fold
 *   maint_join.c   hours that are over: merged -> merged
 *   maint_seal.c   merged -> block      maint_window.c    one metric and window inside a seal
 *   maint_layers.c   which sealed rows are written anew with what came late
 *   maint_figures.c  what a step changes in the figures of its metrics
 *
 * The rules that all of them keep, so that an answer never changes by maintenance:
 *
 * 0. Floats and histograms of a metric (kinds) are streams of their own: no row holds both, no step
 *    merges one with the other, and the rules below hold for each. A reader of both takes the float
 *    of two samples of the same time, whatever their levels and ids.
 * 1. Precedence between two rows that hold the same series and time: the higher level, then the
 *    lower id. Rows are immutable; a step deletes rows and inserts others in one transaction, and
 *    it fails unless it deleted exactly what it read.
 * 2. One step at a time (an advisory lock, held to the end of the transaction), in READ COMMITTED,
 *    so that every statement after the lock sees what the step before has committed. Ids of merged
 *    and sealed rows are therefore handed out in commit order.
 * 3. A fold takes fresh rows oldest id first, and may take merged rows along. New rows have higher
 *    ids than all that exist, so whatever they replace must be the youngest: in each cell of time
 *    the merged rows taken are a suffix, by id, of the stream's rows that touch the cell.
 * 4. No merged row leaves its cell. So rows of different cells never overlap, the suffix rule can be
 *    checked cell by cell, and a window to seal (a union of cells) cuts no row.
 *    A join takes all rows of the metric in the cell.
 * 5. A seal takes all merged rows of a metric and window, and may take sealed rows along. Again new rows
 *    have higher ids than all that exist: of the sealed rows that overlap with one that is taken, all with
 *    higher ids are taken, too. No sealed row leaves its day.
 */
#ifndef PROMSCALE_MAINT_H
#define PROMSCALE_MAINT_H

#include "bridge.h"
#include "executor/spi.h"

#define MAINT_HOUR_MS INT64CONST(3600000)

/* ---- rows ------------------------------------------------------------------------------- */

typedef struct maint_row {
    int64 id;
    blk_meta meta;
    int64 data_bytes; /* length of data, also where data itself was not read */
    ps_str data;      /* borrows from the SPI tuple table or a memory context of the step */
} maint_row;

typedef struct maint_rows {
    maint_row *items;
    size_t n;
} maint_rows;

/* Columns for maint_rows_take. m is the alias of the table. */
#define MAINT_META_COLUMNS                                                                         \
    "m.id, m.tenant_id, m.metric_id, m.dist_key, m.level, m.kind, m.format, m.series_lo, "         \
    "m.series_hi, m.t_min, m.t_max, m.n_series, m.n_samples"
#define MAINT_ROW_COLUMNS MAINT_META_COLUMNS ", m.data"
#define MAINT_HEAD_COLUMNS MAINT_META_COLUMNS ", octet_length(m.data)::int8"

/* The rows of SPI_tuptable in `context`; with_data: the last column is data, else its length. */
maint_rows maint_rows_take(MemoryContext context, bool with_data);
/* With data. *ret_guilty is the row whose data the server cannot give, should that raise; in `context`. */
maint_rows maint_rows_take_naming(MemoryContext context, const maint_row **ret_guilty);

/* True if this transaction now holds the maintenance lock, false if somebody else does. */
bool maint_lock(void);

/* Raises if a row has an id that the sequence has not given out yet (while a dump is restored). */
void maint_check_ids(int64 max_id);

SPIPlanPtr maint_prepare(const char *sql, int n_args, const Oid *types);
/* Runs a plan that must give `expected`; raises otherwise. Returns the number of rows. */
uint64 maint_run(SPIPlanPtr plan, const Datum *values, const char *nulls, int expected);

/* INSERT into one of the block tables. with_id: rows keep the id they had. */
SPIPlanPtr maint_prepare_insert(const char *table, bool with_id);
void maint_insert(SPIPlanPtr plan, const int64 *id, const blk_meta *meta, ps_str data);

/* Remembers that a row cannot be processed, so that later steps leave it alone for a while, and
 * says so in the log. `what` names the step. */
void maint_note_error(const char *what, int64 id, const blk_meta *meta, const char *text);

/* The same where no single row is to blame: the day of a metric, under an id that no row has. */
void maint_note_day(const char *what, int32 metric_id, int64 t_ms, int level, const char *text);

/* True of errors that the server raises where the file of a table does not hold what it should. */
static inline bool
maint_is_lost(const ErrorData *error)
{
    return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TO_CATEGORY(ERRCODE_IO_ERROR);
}

/* Puts a table (of schema _prom_data) on the list of those that want a VACUUM after the commit. */
void maint_want_vacuum(const char *table, bool freeze);
/* Makes the planner join by the primary keys until the GUC nest level ends. */
void maint_prefer_the_key(void);
/* Makes it read tables from begin to end; or from a place that is given (ctid) to the end. */
void maint_prefer_the_table(bool from_a_place);

/* Times outside timestamptz (the ends of the first and last cell) become infinities. */
Datum maint_time(int64 ms);
Datum maint_int4_array(const int32 *values, size_t n);
Datum maint_int8_array(const int64 *values, size_t n);
Datum maint_time_array(const int64 *ms, size_t n);

/* ---- cells ------------------------------------------------------------------------------ */

/*
 * Before the boundary a cell is a UTC day, from it on an hour. The boundary is the start of a day,
 * is stored in the database, and moves forward (hour cells that it passes lie inside the day's cell); back
 * it goes only where no merged row behind it crosses an hour. Young data need small cells, since a fold looks at the rows of its cells each time;
 * old data come late and thinly, and would make a row per hour.
 */
typedef struct maint_cell {
    int64 from_ms, to_ms; /* [from, to) */
    uint64 new_samples;
} maint_cell;

int64 maint_floor_ms(int64 t_ms, int64 step_ms);
maint_cell maint_cell_of(int64 t_ms, int64 boundary_ms);
/* Reads the stored boundary and moves it to where `now` wants it. Needs the maintenance lock. */
int64 maint_boundary(bool advance);

/*
 * Marks (taken[i] = true) which of n > 0 merged rows of one tenant, metric and kind, ascending by id,
 * a fold that brings cell->new_samples takes along. Returns how many. stop_at holds ids (ascending)
 * that cannot be read: nothing at or below them is taken.
 */
size_t maint_pick(const maint_row *rows, size_t n, const maint_cell *cell, const int64 *stop_at,
                  size_t n_stop, bool *taken);

/* ---- figures ---------------------------------------------------------------------------- */

/* What a step adds to a row of _prom_catalog.metric_day; hours are bits 0 to 23. */
typedef struct maint_figure {
    int32 tenant_id, metric_id;
    int32 day; /* since 1970 */
    int32 merged_clear, merged_set, sealed_clear, sealed_set;
    uint32 order; /* in which they were added */
    int64 merged_rows, merged_samples, merged_bytes;
    int64 sealed_rows, sealed_samples, sealed_bytes;
} maint_figure;

typedef struct maint_dups {
    int32 tenant_id, metric_id;
    int64 duplicates, conflicts;
} maint_dups;

/* Zero but for context, which is that of the step. */
typedef struct maint_figures {
    MemoryContext context;
    maint_figure *items;
    size_t n, cap;
    maint_dups *dups;
    size_t n_dups, cap_dups;
    size_t mark, mark_dups;
} maint_figures;

/* What is added from here on can be taken back, for a part of a step that may fail. */
static inline void
maint_figures_mark(maint_figures *f)
{
    f->mark = f->n;
    f->mark_dups = f->n_dups;
}

static inline void
maint_figures_take_back(maint_figures *f)
{
    f->n = f->mark;
    f->n_dups = f->mark_dups;
}

/* A merged or sealed row comes (sign 1, bytes of data) or goes (-1). */
void maint_figures_row(maint_figures *f, const blk_meta *m, int64 bytes, int sign);
/* A merged or sealed row that stays where hours are cleared. */
void maint_figures_stays(maint_figures *f, const blk_meta *m);
/* No merged row is left in [from, to), which lies in one day, but those named in this step. */
void maint_figures_clear(maint_figures *f, int32 tenant_id, int32 metric_id, int64 from_ms,
                         int64 to_ms);
/* Likewise of sealed rows: none is left of this day but those named from here on. */
void maint_figures_clear_sealed(maint_figures *f, int32 tenant_id, int32 metric_id, int64 day_ms);
void maint_figures_dups(maint_figures *f, int32 tenant_id, int32 metric_id, int64 duplicates,
                        int64 conflicts);
/* Writes all of it, inside SPI, and empties the list. */
void maint_figures_write(maint_figures *f);

/* ---- sizes ------------------------------------------------------------------------------ */

/* Memory that one step may use inside the libraries. */
#define MAINT_MEMORY_BYTES ((size_t)1 << 30)
/* A finished row's data; see docs/decisions/ on the size of rows. */
#define MAINT_TARGET_BYTES ((size_t)48 << 10)
#define MAINT_TARGET_SAMPLES ((size_t)1 << 20)

#endif
