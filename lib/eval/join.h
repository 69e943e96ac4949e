/*
 * join.h of eval - what the files of binary operators and info() share.
 *
 * ev_binop is the element-wise part: two rows and the steps at which both stand become a row. Who stands
 * where is the business of the nodes (binary_scalar.c, join_vector.c, join_set.c).
 */
#ifndef PROMSCALE_EVAL_JOIN_H
#define PROMSCALE_EVAL_JOIN_H

#include "lib/eval/internal.h"

typedef struct ev_binop {
    ev_ctx *c;
    const pql_expr *e; /* PQL_BINARY */
    pql_op op;
    bool return_bool;
    bool keep_right; /* a comparison yields the right operand (scalar > vector) */
    size_t n_steps, n_words;
    uint8_t *last; /* [n_steps] kind of the last note of each step; NULL: there was none */
} ev_binop;

void ev_binop_init(ev_binop *b, ev_ctx *c, const pql_expr *e, size_t n_steps);
/*
 * out = l op r at the steps of `both`. out may be l or r itself. *out has what is kept; ok (may be NULL,
 * not one of the rows' own) gets the steps whose types fit the operator, kept or not. Histograms come
 * from out->arena or are those of the operands.
 */
ps_status ev_binop_row(ev_binop *b, const ev_row *l, const ev_row *r, const uint64_t *both,
                       ev_row *out, uint64_t *ok) PS_MUST_CHECK;
/* Makes the annotations: per step the last one counts, as in Prometheus. At the end of all rows. */
void ev_binop_finish(ev_binop *b);
double ev_binop_scalar(pql_op op, double l, double r);
/* The operator makes another metric of it: the name is dropped. */
bool ev_binop_changes_metric(pql_op op);

ps_status ev_build_scalar_scalar(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret);
ps_status ev_build_vector_scalar(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret);
ps_status ev_build_join(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret);
ps_status ev_build_set(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret);

/* By which labels series are matched. */
typedef struct ev_match_on {
    bool on;
    const ps_str *names; /* of ignoring(): with the metric name */
    size_t n;
} ev_match_on;
ps_status ev_match_on_of(ev_ctx *c, const pql_matching *m, ev_match_on *ret) PS_MUST_CHECK;
ps_status ev_match_key(ev_ctx *c, const ev_match_on *by, mdl_labels l,
                       mdl_labels *ret) PS_MUST_CHECK;
/* Groups of a node's series by their keys, adding new ones. *ret is an array in the query's arena. */
ps_status ev_match_groups(ev_ctx *c, const ev_match_on *by, const ev_node *n, ev_groups *groups,
                          uint32_t **ret) PS_MUST_CHECK;

/* ---- two vectors (join_plan.c makes what join_vector.c runs) ---------------------------------------- */

/* Series of the one side that share a group and the labels that go into the result: never two of them
 * at a step, so that they are one row. */
typedef struct ev_one {
    uint32_t row;                 /* of the matrix: all of them */
    uint32_t series, group, next; /* next of the group; EV_NO_ROW: the last */
} ev_one;
enum { EV_NO_ROW = UINT32_MAX };

/* A row of the result: a series of the many side with a row of the one side, or with fill values. */
typedef struct ev_pair {
    uint32_t many; /* EV_NO_ROW: filled */
    uint32_t one;  /* EV_NO_ROW: filled only */
    uint32_t group;
    bool fill_one;  /* also where the group has nothing on the one side */
    uint64_t *seen; /* steps at which one with equal labels of this group was; NULL: none can be */
} ev_pair;

typedef struct ev_join {
    ev_node node; /* kids: left, right */
    ev_binop op;
    ev_match_on by;
    const pql_matching *m;
    bool swapped;   /* the left side is the one side */
    bool drop_name; /* the result has no metric name */
    bool drop_late; /* ... at the end of the query */
    bool fill_one, fill_many;
    double fill_one_value, fill_many_value;
    ev_node *one_kid, *many_kid;
    ev_groups *groups;
    size_t n_groups;
    uint32_t *one_group, *many_group; /* per series */
    uint32_t *first_one;              /* per group: an index of ones */
    ev_matrix one;
    ev_one *ones;
    size_t n_ones;
    uint64_t *
        *any_one; /* per group: steps with any of its ones; NULL: as its only one, or nothing */
    uint64_t **matched; /* per group: steps with a result; NULL: not needed */
    ev_pair *pairs;
    ev_series *series; /* of the pairs */
    size_t n_pairs, cap_pairs, cap_series;
    size_t n_streamed; /* the filled ones of the one side stand last */
    /* steps at which two series of the one side share a group, and the first such pair */
    uint64_t *clash;
    uint32_t (*clash_of)[2];
    uint64_t *any_many;
    /* running */
    ev_batch out, *in;
    size_t at; /* next pair */
    bool drained;
    size_t twice_at; /* the first step with two results of equal labels, SIZE_MAX: none so far */
    ev_matrix many;  /* where errors are certain: the many side, to find the first of them */
    ev_batch many_view;
    bool many_held;
    double *fill_many_v, *filled_v; /* [n_steps]: the fill value; a row of the one side with it */
    uint64_t *filled_has, *both, *ok;
} ev_join;

ps_status ev_join_plan(ev_join *j) PS_MUST_CHECK; /* kids are open, the one side is a matrix */
/* The first step at which the one side was not unique, SIZE_MAX: there is none. */
size_t ev_join_clash_at(const ev_join *j);
ps_status ev_join_fail_clash(ev_join *j, size_t step);

#endif
