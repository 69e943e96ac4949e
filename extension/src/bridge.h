/*
 * bridge.h - where the pure C libraries meet the backend: memory, errors, interrupts, time, and the
 * columns of a block row.
 *
 * The rule that everything here serves: no longjmp passes through a library frame. So the allocator
 * returns NULL instead of raising, interrupts are polled by a function that only returns a bool, and
 * errors travel as ps_status until the caller stands outside the library and calls bridge_raise or
 * CHECK_FOR_INTERRUPTS.
 */
#ifndef PROMSCALE_BRIDGE_H
#define PROMSCALE_BRIDGE_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "compat.h"
#include "datatype/timestamp.h"

#include "lib/block/block.h"

/* ---- memory ----------------------------------------------------------------------------- */

/* No single request above this is granted, whatever the budget. */
#define BRIDGE_ALLOC_MAX ((size_t)2 << 30)

/*
 * A ps_alloc over a memory context, with a budget. Memory that is not given back dies with the
 * context. The struct must stay where it is while `alloc` is in use (alloc.self points to it).
 */
typedef struct bridge_alloc {
    ps_alloc alloc;
    MemoryContext context; /* borrowed */
    size_t used_bytes;     /* granted and not given back, with our few bytes per request */
    size_t budget_bytes;   /* 0 = none */
} bridge_alloc;

void bridge_alloc_init(bridge_alloc *a, MemoryContext context, size_t budget_bytes);

/* ---- errors ----------------------------------------------------------------------------- */

int bridge_sqlstate(ps_status status);

/*
 * ereport(ERROR) for a failed library call. err may be NULL (then the status has a general text);
 * detail and hint may be NULL. A canceled call becomes the interrupt that caused it.
 */
BRIDGE_NORETURN void bridge_raise(ps_status status, const ps_err *err, const char *detail,
                                  const char *hint);

/* The text of a failure, valid in the database's encoding: err's, or a general one. */
const char *bridge_text(ps_status status, const ps_err *err);

/* Returns if status is PS_OK, raises otherwise. */
static inline void
bridge_check(ps_status status, const ps_err *err)
{
    if (unlikely(status != PS_OK))
        bridge_raise(status, err, NULL, NULL);
}

/* ---- interrupts ------------------------------------------------------------------------- */

/* Has somebody asked this backend to stop? Never jumps; the signature is that of should_stop. After
 * the library has returned, the caller runs CHECK_FOR_INTERRUPTS. */
bool bridge_interrupted(void *unused);

/* ---- time ------------------------------------------------------------------------------- */

/* Between Unix ms and timestamptz (microseconds since 2000). */
#define BRIDGE_EPOCH_SHIFT_MS INT64CONST(946684800000)

/* Exact; false if ms is outside timestamptz. */
bool bridge_ms_to_timestamptz(int64 ms, TimestampTz *ret);
/* Exact; false if ts is infinite or not a whole number of milliseconds. */
bool bridge_timestamptz_to_ms(TimestampTz ts, int64 *ret);
/* Greatest ms <= ts and smallest ms >= ts; infinities give PG_INT64_MIN and PG_INT64_MAX. */
int64 bridge_timestamptz_floor_ms(TimestampTz ts);
int64 bridge_timestamptz_ceil_ms(TimestampTz ts);

/* For times that are known to lie in timestamptz (a checked block's samples inside its bounds). */
static inline TimestampTz
bridge_ms_to_timestamptz_unchecked(int64 ms)
{
    return (ms - BRIDGE_EPOCH_SHIFT_MS) * 1000;
}

/* ---- block rows ------------------------------------------------------------------------- */

enum { BRIDGE_META_T_MIN = 8, BRIDGE_META_N = 12 };
/* The columns of a block row that describe the block, in the order that the functions below expect. */
#define BRIDGE_META_COLUMNS                                                                        \
    "tenant_id, metric_id, dist_key, level, kind, format, series_lo, series_hi, t_min, t_max, "    \
    "n_series, n_samples"
/* Types of these columns, for SPI_prepare and unnest. */
extern const Oid bridge_meta_types[BRIDGE_META_N];

/* Reads BRIDGE_META_N columns from attribute first_attno (1-based). Raises XX001 on a NULL or on a
 * time that is no millisecond. */
void bridge_meta_from_tuple(HeapTuple tuple, TupleDesc desc, int first_attno, blk_meta *ret);
/* The same, but says so by PS_ECORRUPT; *ret is filled as well as can be. */
ps_status bridge_meta_read(HeapTuple tuple, TupleDesc desc, int first_attno, blk_meta *ret,
                           ps_err *err) PS_MUST_CHECK;
/* The inverse; raises 22008 if a time is outside timestamptz. */
void bridge_meta_to_datums(const blk_meta *meta, Datum ret[BRIDGE_META_N]);

#endif
