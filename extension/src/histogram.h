/*
 * histogram.h - prom_api.histogram, the SQL type of native histograms. Private to histogram_*.c, the
 * scans and promql().
 *
 *   histogram_bytes      the bytes of a value, and the way back
 *   histogram_type       text, binary, jsonb
 *   histogram_functions  functions and operators
 *   histogram_aggregate  sum, avg, histogram_increase
 *
 * A value's bytes may come from anywhere (a table somebody wrote by hand, a binary COPY, a damaged page),
 * so they are checked as a whole each time they are read: what comes out has passed hst_check().
 */
#ifndef PROMSCALE_HISTOGRAM_SQL_H
#define PROMSCALE_HISTOGRAM_SQL_H

#include "bridge.h"

/* Memory for one call: an arena in a memory context. It must stay where it is. */
typedef struct histogram_work {
    bridge_alloc memory;
    ps_arena arena;
} histogram_work;

/* What one value, with what is computed from it, may take. */
#define HISTOGRAM_WORK_BYTES ((size_t)256 << 20)
/* Text fills gaps with zeros, and a gap may be as long as the range of all indexes. */
#define HISTOGRAM_MAX_BUCKETS ((uint64)1 << 21)

void histogram_work_init(histogram_work *w, MemoryContext context, size_t max_bytes);

/* The histogram in the bytes, made in the arena. False: they are damaged (or there is no memory for
 * them), and *err says why. */
ps_status histogram_read(ps_arena *arena, ps_str bytes, const hst_hist **ret,
                         ps_err *err) PS_MUST_CHECK;
/* Appends the bytes of h. */
void histogram_write(ps_buf *out, const hst_hist *h);

/* A value of the type, detoasted and read; raises. */
const hst_hist *histogram_of_datum(histogram_work *w, Datum value);
/* A value of the type in the current context. */
Datum histogram_datum(const hst_hist *h);

/* The type's oid; InvalidOid: it is not there. */
Oid histogram_type_oid(void);

/* Raises unless an operation on histograms has gone well. */
void histogram_check_combined(ps_status st);
/* Says what the library had to remark on. */
void histogram_tell(const hst_notes *notes);

#endif
