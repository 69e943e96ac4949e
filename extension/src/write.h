/*
 * write.h - samples from SQL: INSERT and COPY into the views of prom_data.
 *
 * PostgreSQL hands rows to a view one at a time, and we store blocks. So each view has two triggers:
 * write_row (INSTEAD OF INSERT, per row) checks the row and keeps it; write_end (AFTER INSERT, per
 * statement) turns what the statement has brought into blocks and inserts them into
 * _prom_data.fresh, in the caller's transaction and with the caller's rights. A statement that
 * brings more than promscale.write_memory is stored in several goes.
 *
 *   write_trigger.c    the two triggers: whose row is it, is it a sample
 *   write_statement.c  what a running statement has gathered, and what becomes of it on errors
 *   write_labels.c     labels as jsonb to series ids
 *   write_flush.c      rows to blocks
 *   write_overwrite.c  where new samples replace what is stored
 *   write_notice.c     what the user should know afterwards
 *
 * What must hold:
 *
 * 1. Rows belong to the statement that brought them, and are stored or dropped with it. A statement
 *    is known by the executor's memory context, which lives exactly as long (write_statement.c).
 * 2. The guard lock is taken before ids are looked up and held to the end of the transaction, so
 *    that no series is deleted between the look and the commit.
 * 3. Of rows with the same series and time the first one stays: within a statement by sorting that
 *    keeps the order, between statements by the order of block ids, as everywhere. Unless the user
 *    wants to overwrite.
 *
 * All memory hangs below the executor's context; nothing has to be freed on errors.
 */
#ifndef PROMSCALE_WRITE_H
#define PROMSCALE_WRITE_H

#include "catalog.h"

#include "access/xact.h"

#include "lib/block/block.h"

struct set_table_hash;

typedef struct write_set { /* a label set that the statement has named */
    mdl_label *labels;     /* sorted; NULL once it has an id */
    size_t n_labels;
    int64 id; /* of the series; 0: not known yet */
} write_set;

typedef struct write_old { /* a row that will not stay for long */
    bool alike;            /* all series of the metric are kept as long: asked once at the end */
    bool asked;            /* they are not: with each flush */
    char *period;          /* NULL: there is none */
    char rule;             /* whose period that is: s selector, t tenant, m metric or default */
    TimestampTz time;
} write_old;

typedef struct write_stmt write_stmt;
struct write_stmt {
    write_stmt *next;
    MemoryContext query;   /* borrowed: the executor's, by which we know the statement */
    MemoryContext context; /* child of query; this struct lives in it */
    MemoryContextCallback at_end;
    bool listed;
    Oid view;
    SubTransactionId subid;
    int32 metric_id;
    ps_str metric_name; /* ptr NULL until labels ask for it */

    /* Rows in the order they came. owner: 0, or 1 + index of the row's label set; series_id: 0 if
     * only labels were given. */
    blk_point *points;
    size_t n_points, cap_points;
    int64 oldest_ms; /* of all rows so far */

    /* Label sets, remembered for the whole statement; all of it lives in set_context. */
    MemoryContext set_context;
    struct set_table_hash *set_table; /* bytes of the jsonb -> index in sets */
    write_set *sets;
    size_t n_sets, cap_sets, n_resolved;
    int64 generation; /* of the ids found so far */
    ps_str last_json; /* of the row before; most rows say the same again */
    uint32 last_set;
    size_t set_bytes;
    uint64 seed;

    blk_dup_stats dups;
    write_old old;

    bool overwrite;
    int64 *own_ids; /* of the rows that the last flush has stored, where it overwrites */
    size_t n_own_ids, cap_own_ids;
};

/* ---- write_statement.c ------------------------------------------------------------------- */

/* What may be gathered before it is stored. */
size_t write_memory_bytes(void);
void write_define_settings(void);

/* The statement that runs in this memory context and inserts into this view; NULL if it is new. */
write_stmt *write_stmt_find(MemoryContext query, Oid view);
/* The same when the caller stands outside the executor's context: the innermost one of the view. */
write_stmt *write_stmt_innermost(Oid view);
write_stmt *write_stmt_new(MemoryContext query, Oid view, int32 metric_id);
/* Everything is stored: frees it. */
void write_stmt_free(write_stmt *s);

/* ---- write_labels.c ---------------------------------------------------------------------- */

/* The index of this label set in s->sets. */
uint32 write_set_of(write_stmt *s, Datum json);
/* Gives each set an id. Inside SPI_connect, under the guard lock. */
void write_resolve_sets(write_stmt *s);
void write_forget_sets(write_stmt *s);
/* The statement's metric_name. */
void write_need_metric_name(write_stmt *s);

/* ---- write_flush.c ----------------------------------------------------------------------- */

/* Stores what is gathered; s is empty afterwards. */
void write_flush(write_stmt *s);

/* ---- write_overwrite.c ------------------------------------------------------------------- */

void write_overwrite_define_settings(void);
/* Is this session one that overwrites? */
bool write_overwrites(void);
/* Checks rights and takes the maintenance lock. Before the guard lock. */
void write_overwrite_begin(void);
void write_overwrite_turn(blk_point *points, size_t n);
/* Erases what was stored of these points, sorted by (day, series, time), but for own_ids. Inside
 * SPI_connect. */
void write_overwrite_finish(const write_stmt *s, const blk_point *points, size_t n);

/* ---- write_notice.c ---------------------------------------------------------------------- */

/* Where rules differ by series: looks for rows that are too old. Points: sorted by (day, series, time),
 * their series known. Inside SPI_connect. */
void write_note_old(write_stmt *s, const blk_point *points, size_t n);

/* After the last flush. */
void write_tell_duplicates(const write_stmt *s);
void write_tell_retention(write_stmt *s);

#endif
