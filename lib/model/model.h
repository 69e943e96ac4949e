/*
 * model.h - labels, series identity, samples: the words that all other parts share.
 *
 * A series is a metric name with labels. A sample is (time in ms, value). The metric name is the
 * label __name__; label sets are kept sorted by name (memcmp), names unique.
 */
#ifndef PROMSCALE_MODEL_H
#define PROMSCALE_MODEL_H

#include "lib/base/base.h"

#define MDL_METRIC_NAME "__name__"
#define MDL_STALE_NAN_BITS UINT64_C(0x7ff0000000000002) /* Prometheus's staleness marker */
#define MDL_NORMAL_NAN_BITS UINT64_C(0x7ff8000000000001)

/* Sample times must lie in timestamptz: 4714-11-24 BC to 294276-12-31 AD. In ms. */
#define MDL_TIME_MIN_MS INT64_C(-210866803200000)
#define MDL_TIME_MAX_MS INT64_C(9224318015999999)
#define MDL_DAY_MS INT64_C(86400000)

/* Start of the UTC day that holds t_ms (floor, also for negative times). */
int64_t mdl_day_start_ms(int64_t t_ms);

typedef struct mdl_label { /* borrows both */
    ps_str name;
    ps_str value;
} mdl_label;

typedef struct mdl_labels { /* sorted by name, unique; borrows the array */
    const mdl_label *items;
    size_t n;
} mdl_labels;

typedef struct mdl_label_limits { /* 0 = no limit */
    uint32_t max_labels;
    uint32_t max_name_bytes;
    uint32_t max_value_bytes;
    uint32_t max_set_bytes; /* names and values together */
} mdl_label_limits;

/*
 * Makes a label set from n labels in any order: sorts `items` in place, drops labels with an empty
 * value (Prometheus: empty means absent), and checks: at least one label, __name__ present and not
 * empty, names not empty and unique, valid UTF-8 without NUL in names and values, the limits.
 * Errors: PS_EINVAL or PS_ELIMIT with a text that says what is wrong (not which series: the caller
 * adds that with mdl_format_labels). *ret_n is the new number of labels.
 */
ps_status mdl_labels_canonical(mdl_label *items, size_t n, const mdl_label_limits *limits,
                               size_t *ret_n, ps_err *err) PS_MUST_CHECK;

/* Order of label sets: pair by pair in order of names, bytewise; a prefix sorts first. */
int mdl_labels_cmp(mdl_labels a, mdl_labels b);
bool mdl_labels_eq(mdl_labels a, mdl_labels b);

/* What a selector asks of a label; a label that is absent counts as "". Plain data: lib/regex makes
 * one that can be run of it. */
typedef enum mdl_match { MDL_MATCH_EQ, MDL_MATCH_NE, MDL_MATCH_RE, MDL_MATCH_NRE } mdl_match;
typedef struct mdl_matcher { /* borrows both */
    mdl_match type;
    ps_str name;
    ps_str value;
} mdl_matcher;

/* Value of a label, empty slice with ptr NULL if absent. */
ps_str mdl_labels_get(mdl_labels labels, ps_str name);

/*
 * Identity of a label set: digest over u32le length and bytes of each name and value in order.
 * The tenant is not in it; keys in the database are (tenant_id, metric_id, digest). The extension
 * computes the same function (_prom_ext.series_digest) and a test compares the two.
 * Fails only with PS_ENOMEM.
 */
ps_status mdl_labels_digest(mdl_labels labels, ps_buf *scratch, ps_digest *ret) PS_MUST_CHECK;
/* Identity of one (name, value) pair, same encoding. */
ps_status mdl_label_digest(ps_str name, ps_str value, ps_buf *scratch,
                           ps_digest *ret) PS_MUST_CHECK;

/* name{a="b",c="d"} with Prometheus's quoting, cut to max_bytes (0 = no limit) at a character
 * boundary with "...". Valid UTF-8 for any bytes. */
void mdl_format_labels(ps_buf *out, const mdl_label *items, size_t n, size_t max_bytes);

/*
 * Where a metric's blocks live. dist_key is the one column that a distributed engine may place rows
 * by: a hash of (tenant, metric-or-negative-bucket). Stored; never change it.
 */
int64_t mdl_dist_key(int32_t tenant_id, int32_t metric_or_bucket);

/* Small metrics of one tenant share fresh rows: such a row has metric_id = mdl_bucket(metric_id),
 * a number in -MDL_BUCKETS..-1. Readers of metric m ask for metric_id IN (m, mdl_bucket(m)). */
enum { MDL_BUCKETS = 32 };
static inline int32_t
mdl_bucket(int32_t metric_id)
{
    return -(int32_t)((uint32_t)metric_id % MDL_BUCKETS) - 1;
}

/* ---- sets of series ids: ids.c ---------------------------------------------------------------- */

/* Which series lived when is kept per window: eight hours, aligned to UTC. Stored; never change it. */
#define MDL_WINDOW_MS (MDL_DAY_MS / 3)
int64_t mdl_window_start_ms(int64_t t_ms);

/* A set of positive ids: bits in chunks, so that ids that lie close together cost little. */
typedef struct mdl_ids_chunk mdl_ids_chunk;
typedef struct mdl_ids {
    ps_alloc alloc; /* copied */
    uint64_t count;
    mdl_ids_chunk *chunks;
    size_t n, cap;
    uint32_t *table; /* open addressing, number + 1; a power of two of them */
    size_t table_cap;
} mdl_ids;

void mdl_ids_init(mdl_ids *s, const ps_alloc *alloc);
void mdl_ids_done(mdl_ids *s);
/* lo, lo + 1, ... hi; numbers outside of 1 to MDL_ID_MAX are no ids and are left out. PS_ENOMEM: some of
 * them may be in. */
#define MDL_ID_MAX (INT64_MAX / 4)
ps_status mdl_ids_add(mdl_ids *s, int64_t lo, int64_t hi) PS_MUST_CHECK;
bool mdl_ids_has(const mdl_ids *s, int64_t id);
/* Calls fn for each run of consecutive ids, ascending. */
typedef void (*mdl_ids_fn)(void *self, int64_t lo, int64_t hi);
void mdl_ids_runs(mdl_ids *s, mdl_ids_fn fn, void *self);
/* Calls fn for each id of s that is not in `in`, in no order. */
typedef void (*mdl_id_fn)(void *self, int64_t id);
void mdl_ids_missing(const mdl_ids *s, const mdl_ids *in, mdl_id_fn fn, void *self);
size_t mdl_ids_bytes(const mdl_ids *s); /* of memory */

/*
 * Sets as bytes (docs/read-path.md): runs as differences in 7-bit groups, counted and checked. At most
 * MDL_IDS_MAX ids, so that a few hostile bytes cannot ask for much.
 */
#define MDL_IDS_MAX (UINT32_C(1) << 28)
/* Ascending and unique, each an id. Appends. */
void mdl_ids_encode(const int64_t *ids, size_t n, ps_buf *out);
/* The same of a whole set. PS_ENOMEM, PS_ELIMIT: more than MDL_IDS_MAX. */
ps_status mdl_ids_write(mdl_ids *s, ps_buf *out, ps_err *err) PS_MUST_CHECK;
/* Adds what the bytes say. PS_ECORRUPT: nothing was added; PS_ENOMEM: some of it may be in. */
ps_status mdl_ids_read(mdl_ids *s, ps_str bytes, ps_err *err) PS_MUST_CHECK;
/* The number of ids, checked. */
ps_status mdl_ids_count(ps_str bytes, uint32_t *ret, ps_err *err) PS_MUST_CHECK;

#endif
