/*
 * catalog.h - what the catalog's C functions share: prepared statements, digests as uuid, arrays from
 * SQL, and the question whether remembered catalog rows are still what the caller may see.
 *
 * All catalog rows are reached by SQL (SPI), never by table access of our own: rights, row-level
 * security and engines that distribute tables then work by themselves.
 */
#ifndef PROMSCALE_CATALOG_H
#define PROMSCALE_CATALOG_H

#include "postgres.h"

#include "compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

#include "lib/model/model.h"

/* Advisory locks (one bigint each). GUARD: flushes and resolution share it, deletion takes it alone. */
#define CATALOG_LOCK_GUARD INT64CONST(0x50524f4d00000001)

#define CATALOG_ERRCODE_GENERATION MAKE_SQLSTATE('P', 'S', '0', '0', '1')

/* ---- statements ------------------------------------------------------------------------- */

enum { CATALOG_MAX_ARGS = 13 };

/*
 * A statement that is prepared at first use and kept for the session. It lives in a static variable;
 * plans are generic (see resolve_steps.c for why no estimate may choose them). Every name in `sql` is
 * qualified, operators too where the calling function does not set search_path.
 */
typedef struct catalog_stmt {
    const char *sql;
    int n_args;
    Oid args[CATALOG_MAX_ARGS];
    SPIPlanPtr plan; /* NULL until first used */
} catalog_stmt;

/*
 * Runs it inside SPI_connect; returns the number of rows (in SPI_tuptable, for statements that give
 * any). read_only: under the caller's snapshot; otherwise under a new one, as READ COMMITTED needs
 * to see what others have committed meanwhile.
 */
uint64 catalog_run(catalog_stmt *stmt, Datum *values, bool read_only);
/* Column `column` (1-based) of row `row` of the last result; a NULL there is an internal error. */
Datum catalog_value(uint64 row, int column);

/* Raises 25001 if this transaction keeps one snapshot: locks taken in it would prove nothing. */
void catalog_need_read_committed(const char *function);
/* The generation that ids belong to: the stored one, with the server's timeline above it, so that ids
 * learnt before a fail-over or a recovery to an earlier point are never taken for valid after it.
 * read_only as for catalog_run. */
int64 catalog_generation(bool read_only);
void catalog_lock_guard_shared(void);

/* ---- arguments -------------------------------------------------------------------------- */

/* All arrays from SQL: at most one dimension, no NULL; otherwise 22023 naming the argument. */
Datum *catalog_text_array(ArrayType *array, const char *name, int *ret_n);
const int32 *catalog_int4_array(ArrayType *array, const char *name, int *ret_n);
ArrayType *catalog_make_int4_array(const int32 *items, int n);

/* The bytes of a text that is not toasted or short-headed compressed; borrows. */
static inline ps_str
catalog_str(Datum text_datum)
{
    struct varlena *v = (struct varlena *)DatumGetPointer(text_datum);
    return (ps_str){VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v)};
}

static inline pg_uuid_t
catalog_uuid(const ps_digest *digest)
{
    pg_uuid_t uuid;

    StaticAssertStmt(sizeof(uuid.data) == sizeof(digest->bytes), "a uuid holds a digest");
    memcpy(uuid.data, digest->bytes, sizeof(uuid.data));
    return uuid;
}

/* ---- is it still what the caller sees? --------------------------------------------------- */

/* Names a snapshot and the user; two equal stamps see the same catalog rows. */
typedef struct catalog_stamp {
    TransactionId xmin, xmax;
    uint32 n_running;
    CommandId command;
    uint64 completed;
    Oid user;
} catalog_stamp;

catalog_stamp catalog_stamp_now(void);
bool catalog_stamp_eq(const catalog_stamp *a, const catalog_stamp *b);

#endif
