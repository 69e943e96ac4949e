/*
 * fdw_upper.h - aggregation inside the scan: SELECT with GROUP BY or aggregates over one samples table
 * becomes one node that walks blocks series by series and hands out groups. No row is made for a
 * sample. Private to the fdw_upper_*.c files.
 *
 * Where only newest samples are asked for (max(time), last(value, time), by series-level keys; SELECT
 * DISTINCT ON (series_id) ... ORDER BY series_id, time DESC) the node walks with fdw_newest.c instead
 * of reading everything.
 *
 *   fdw_upper_exprs   what expressions depend on, which aggregates are known
 *   fdw_upper_plan    is the query such that this node can answer it? Its path and its plan
 *   fdw_upper_begin   makes the node from the plan, and shows it in EXPLAIN
 *   fdw_upper_exec    the node: walks the series, brings each run of samples to its group
 *   fdw_upper_times   the part of a group's key that depends on time: a series' samples cut into runs
 *   fdw_upper_groups  distinct combinations of key values
 *   fdw_upper_states  what is kept of each group for each aggregate, and the results
 *
 * Group keys are of two kinds: over series-level columns, evaluated once per series, and over time,
 * evaluated once per distinct time or, for date_bin and its like, once per bucket. A group is a pair
 * of a combination of the one kind and a combination of the other.
 *
 * Quals that need each sample, and FILTER clauses and arguments that are more than a column, are
 * evaluated sample by sample over a slot, after everything that comes before them in SQL's own order.
 *
 * The node's tuple begins with the five columns of the table, so that expressions over them can be
 * evaluated against it; of these a result row fills those that are group keys themselves. The other
 * keys follow, then the aggregates. In fdw_exprs columns are wrapped in no-op relabelings: bare,
 * the planner would take a whole expression there for the group key of the same shape.
 *
 * Memory: groups are kept within hash_mem. When they do not fit, the walk starts again and takes only
 * a share of the groups, chosen by the hash of their keys; the rest comes in later passes.
 */
#ifndef PROMSCALE_FDW_UPPER_H
#define PROMSCALE_FDW_UPPER_H

#include "fdw.h"

/* More members of ForeignScan.fdw_private. */
enum {
    FDW_PRIVATE_ROW = FDW_PRIVATE_N, /* number of quals to be evaluated per sample */
    FDW_PRIVATE_GROUPED,             /* is there a GROUP BY? (its keys may all be constants) */
    FDW_PRIVATE_KEYS,                /* list of upper_key_member lists */
    FDW_PRIVATE_EQUALS,              /* oids, parallel: equality operators of the keys */
    FDW_PRIVATE_AGGS,                /* list of upper_agg_member lists */
    FDW_PRIVATE_WALK,                /* upper_walk */
};

typedef enum upper_walk {
    UPPER_ALL,          /* every sample */
    UPPER_NEWEST,       /* each series' newest sample is enough */
    UPPER_NEWEST_ALONE, /* the newest sample of all is enough */
    UPPER_NEWEST_ROWS,  /* rows are wanted, not groups: each series' newest sample */
} upper_walk;

/* After conditions and series-level quals fdw_exprs holds: row quals; for each key its expression and,
 * if it is steady, the call that makes it so and that call's width; for each aggregate its filter and
 * its argument, where there is one to evaluate. */
enum { KEY_LEVEL, KEY_ATTNO, KEY_STEADY };
enum { AGG_FUNC, AGG_ATTNO, AGG_ARG, AGG_FILTER, AGG_FILTER_LEVEL };

/* What an expression depends on. */
typedef enum upper_level { UPPER_NOTHING, UPPER_SERIES, UPPER_TIME, UPPER_ROW } upper_level;

/* ---- exprs, while planning ------------------------------------------------------------------ */

typedef struct upper_query { /* what a plan is made of: RelOptInfo.fdw_private of the grouped rel */
    Index relid;
    fdw_quals quals;
    List *key_exprs; /* those with columns in them */
    List *key_equals;
    List *aggs;   /* Aggref, each once */
    List *having; /* implicitly ANDed */
    bool grouped;
    upper_walk walk;
    PathTarget *target;
} upper_query;

/* Can an expression be evaluated by the node, and at what level? */
bool upper_level_of(const upper_query *q, Node *expr, upper_level *ret);
/* Do the expressions name no whole rows and no system columns? */
bool upper_only_columns(Index relid, List *exprs);
/* The column that an expression is; 0: it is more than a column. */
AttrNumber upper_plain_column(const upper_query *q, Node *expr);
/* Adds a group key; false: it is none that the node can compute. */
bool upper_add_key(upper_query *q, Node *expr, const SortGroupClause *clause);
/* Collects the aggregates of an expression; true: it needs what groups do not have. */
bool upper_unfit(Node *node, upper_query *q);
/* The aggregate's oid, or what stands for it. */
Oid upper_agg_func(const upper_query *q, const Aggref *agg);
/* The argument that must be evaluated for each sample; NULL: none, a column is taken as it stands. */
Node *upper_agg_arg(const upper_query *q, const Aggref *agg);
/* The one call that cuts time into buckets and through which an expression sees it; NULL: none. */
FuncExpr *upper_steady_call(const upper_query *q, Node *expr);

/* ---- states ------------------------------------------------------------------------------- */

typedef enum upper_acc { /* what is accumulated */
                         ACC_COUNT,
                         ACC_SUM,
                         ACC_MOMENTS,
                         ACC_MIN,
                         ACC_MAX,
                         ACC_MIN_TIME,
                         ACC_MAX_TIME,
                         ACC_FIRST,
                         ACC_LAST,
} upper_acc;

/* Stand for the aggregates first(value, time) and last(value, time), whose oids are not fixed. */
#define UPPER_FUNC_FIRST ((Oid)1)
#define UPPER_FUNC_LAST ((Oid)2)

typedef struct upper_state { /* of one group; all zero: nothing seen */
    int64 n;
    union {
        double x; /* sum, or extreme */
        int64 t_ms;
    };
    double y; /* sum of squared differences from the mean; value at t_ms */
} upper_state;

/* What aggregate of the catalog is computed from; false: not one of ours. */
bool upper_acc_of(Oid aggregate, upper_acc *ret);
/* Adds n > 0 samples, ascending in time; an array that the kind does not look at may be NULL. */
void upper_add(upper_acc acc, upper_state *state, const int64 *t_ms, const double *values,
               size_t n);
Datum upper_result(Oid aggregate, const upper_state *state, bool *ret_null);

/* ---- groups ------------------------------------------------------------------------------- */

typedef struct upper_keys { /* distinct combinations of key values, numbered as they come */
    int n_columns;
    FmgrInfo *equal, *hash;
    Oid *collations;
    int16 *lengths;
    bool *by_value;
    MemoryContext context;
    Datum *values; /* n_columns for each combination */
    bool *nulls;
    uint32 *hashes;
    uint32 n, cap;
    uint32 *table; /* number + 1, 0: free; open addressing */
    uint32 mask;
    size_t bytes;            /* taken, roughly */
    uint32 modulus, residue; /* combinations with other hashes are left out in this pass */
} upper_keys;

#define UPPER_LEFT_OUT PG_UINT32_MAX

void upper_keys_init(upper_keys *keys, int n_columns, const Oid *equals, const Oid *types,
                     const Oid *collations, MemoryContext parent);
void upper_keys_clear(upper_keys *keys);
/* Number of a combination, new or known; UPPER_LEFT_OUT if this pass does not take it. */
uint32 upper_keys_find(upper_keys *keys, const Datum *values, const bool *nulls);

typedef struct upper_map_entry {
    uint64 key;
    uint32 value;
    uint32 status;
} upper_map_entry;

#define SH_PREFIX upper_map
#define SH_ELEMENT_TYPE upper_map_entry
#define SH_KEY_TYPE uint64
#define SH_SCOPE extern
#define SH_DECLARE
#include <lib/simplehash.h>

/* ---- times -------------------------------------------------------------------------------- */

typedef struct upper_times_key {
    ExprState *expr;
    ExprState
        *call; /* the expression depends on time through this timestamptz only; NULL: on all */
    ExprState *width; /* of the buckets that call gives: an interval, or the unit of date_trunc */
    Oid width_type;
    int64 width_us; /* 0: not known to be steady */
} upper_times_key;

typedef struct upper_span { /* times that all have the same key values */
    int64 from_ms, to_ms;   /* inclusive */
    uint32 key;
} upper_span;

typedef struct upper_run { /* samples one after another with the same key values */
    size_t end;            /* index after the last */
    uint32 key;
} upper_run;

typedef struct upper_times {
    MemoryContext context;
    ExprContext *econtext;
    TupleTableSlot *slot; /* shared with everybody who evaluates; only time is ours */
    upper_times_key *keys;
    int n_keys;
    bool steady; /* all keys have a width */
    upper_keys distinct;
    Datum *values; /* scratch */
    bool *nulls;
    upper_span *spans; /* if steady: ascending, without overlap */
    size_t n_spans, cap_spans;
    upper_map_hash *known; /* otherwise: time to key */
    uint64 last_version;   /* of the times that the runs are of: see fdw_samples */
    int64 *last_ms;        /* these times */
    size_t n_last, cap_last;
    upper_run *runs;
    size_t n_runs;
} upper_times;

/* Evaluates widths; called when execution (again) starts. */
void upper_times_start(upper_times *times);
/* Cuts times, ascending, n > 0, into times->runs. Equal versions, if not 0, mean equal times. */
void upper_times_cut(upper_times *times, uint64 version, const int64 *t_ms, size_t n);

/* ---- the node ------------------------------------------------------------------------------ */

typedef struct upper_input { /* what a state is fed with; aggregates with the same one share it */
    upper_acc acc;
    Expr *filter, *arg; /* NULL: none; arg only if it is not simply a column */
    ExprState *filter_state, *arg_state;
    bool per_sample; /* filter or argument must be evaluated for each sample */
    bool off;        /* the filter says no for the current series */
} upper_input;

typedef struct upper_key {
    int attno; /* in the node's tuple */
    bool of_time;
    ExprState *expr; /* series-level ones */
} upper_key;

typedef struct upper_pass {
    uint32 modulus, residue;
} upper_pass;

typedef struct upper_node {
    fdw_scan *scan;
    MemoryContext context;
    ExprContext *econtext;
    TupleTableSlot *out;
    upper_walk walk;
    fdw_newest *newest; /* walks, unless all samples are wanted */
    ExprState *row_quals;
    int n_row_quals;
    bool grouped;

    upper_key *keys; /* in the order of GROUP BY */
    int n_keys, n_series_keys, n_time_keys;
    upper_keys series_keys;
    upper_times times;
    Datum *values; /* scratch for series-level keys */
    bool *nulls;
    uint32 *series_numbers; /* of the metric's series, by place in scan->series */
    size_t cap_series;
    int32 series_metric;

    upper_input *inputs;
    int n_inputs;
    int n_aggs;
    Oid *agg_funcs;
    int *agg_attnos, *agg_inputs;

    upper_state *states; /* n_inputs for each group */
    uint64 *pairs;       /* series number << 32 | time number, if there are keys of both kinds */
    upper_map_hash *groups_of_pairs;
    size_t n_groups, cap_groups;

    int64 *t_ms; /* samples that pass the row quals */
    double *sample_values;
    size_t cap_samples;

    bool computed;
    size_t next_group;
    upper_pass *pending; /* passes still to come */
    int n_pending, cap_pending;
    upper_pass pass;
    int n_passes;
} upper_node;

#endif
