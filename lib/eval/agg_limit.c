/*
 * agg_limit.c - limitk, limit_ratio: some of the input series pass, unchanged.
 *
 * Both choose without looking at values, so rows pass through as they come: limitk counts per group and
 * step how many it has let through (memory: groups x steps x 4 bytes), limit_ratio asks a hash of the
 * labels, which stands for a number in [0, 1].
 */
#include "lib/eval/agg.h"

#include <math.h>

typedef struct limit_node {
    ev_node base;
    agg_groups groups; /* of limitk */
    agg_param param;
    bool nothing;     /* whatever comes in, nothing goes out */
    uint32_t *passed; /* limitk: [groups][steps] */
    size_t passed_bytes;
    ps_buf key; /* limit_ratio: scratch */
} limit_node;

/* ---- limitk --------------------------------------------------------------------------------------- */

static ps_status
limitk_open(limit_node *l)
{
    ev_node *n = &l->base;
    PS_TRY(ev_agg_check_k(n->c, &l->param, &l->nothing));
    if (l->nothing)
        return PS_OK;
    PS_TRY(ev_agg_group(n->c, n->expr, n->kids[0], PS_STR(""), &l->groups));
    size_t n_cells;
    if (!ps_mul_size(l->groups.n, n->grid.n, &n_cells) || n_cells > SIZE_MAX / sizeof(uint32_t))
        return ev_no_memory(n->c);
    l->passed_bytes = n_cells * sizeof(uint32_t);
    l->passed = ps_alloc_array(ev_alloc(n->c), n_cells + 1, sizeof(uint32_t));
    if (l->passed == NULL)
        return ev_no_memory(n->c);
    return PS_OK;
}

static void
limitk_row(limit_node *l, size_t series, uint64_t *has)
{
    size_t n_steps = l->base.grid.n;
    uint32_t *passed = l->passed + l->groups.of[series] * n_steps;
    for (size_t s = ev_agg_next_set(has, 0, n_steps); s < n_steps;
         s = ev_agg_next_set(has, s + 1, n_steps)) {
        /* counts stay far below 2^53: k as a whole number, cut towards zero */
        if ((double)passed[s] + 1 <= l->param.at[s])
            passed[s]++;
        else
            ev_unset(has, s);
    }
}

/* ---- limit_ratio -------------------------------------------------------------------------------------- */

static void
warn_ratio(ev_node *n, double got, double cap)
{
    char text[PS_DOUBLE_TEXT], cap_text[PS_DOUBLE_TEXT];
    ps_format_double_go(text, got);
    ps_format_double_go(cap_text, cap);
    ev_warn(n->c, pql_unwrap(n->expr->aggregate.param),
            "ratio value should be between -1 and 1, got %s, capping to %s", text, cap_text);
}

static ps_status
limit_ratio_open(limit_node *l)
{
    ev_node *n = &l->base;
    if (l->param.any_nan && !ev_rehearses(n->c))
        return ev_fail(n->c, PS_EINVAL, "Ratio value is NaN");
    l->nothing = l->param.max == 0 && l->param.min == 0;
    if (l->param.max > 1)
        warn_ratio(n, l->param.max, 1);
    if (l->param.min < -1)
        warn_ratio(n, l->param.min, -1);
    return PS_OK;
}

static void
add_sized(ps_buf *out, ps_str s)
{
    if (s.len < 255) {
        ps_buf_add_char(out, (char)(uint8_t)s.len);
    } else {
        const char size[4] = {(char)0xff, (char)(s.len & 0xff), (char)(s.len >> 8 & 0xff),
                              (char)(s.len >> 16 & 0xff)};
        ps_buf_add(out, size, sizeof size);
    }
    ps_buf_add_str(out, s);
}

/* Where a label set stands in [0, 1]: xxHash64 over its labels, each text after its length. Everybody who
 * asks Prometheus for half of the series gets this half. */
static ps_status
label_fraction(ps_buf *key, mdl_labels labels, double *ret)
{
    ps_buf_clear(key);
    for (size_t i = 0; i < labels.n; i++) {
        add_sized(key, labels.items[i].name);
        add_sized(key, labels.items[i].value);
    }
    if (key->failed)
        return PS_ENOMEM;
    *ret = (double)ps_xxh64(ps_buf_str(key)) / (double)UINT64_MAX;
    return PS_OK;
}

static ps_status
limit_ratio_row(limit_node *l, size_t series, uint64_t *has)
{
    double at;
    if (label_fraction(&l->key, l->base.kids[0]->series[series].labels, &at) != PS_OK)
        return ev_no_memory(l->base.c);
    size_t n_steps = l->base.grid.n;
    for (size_t s = ev_agg_next_set(has, 0, n_steps); s < n_steps;
         s = ev_agg_next_set(has, s + 1, n_steps)) {
        double ratio = l->param.at[s];
        ratio = ratio > 1 ? 1 : ratio < -1 ? -1 : ratio;
        if (ratio >= 0 ? !(at < ratio) : !(at >= 1 + ratio))
            ev_unset(has, s);
    }
    return PS_OK;
}

/* How many series pass at a step. */
static uint64_t
expected(const limit_node *l)
{
    const ev_node *n = &l->base;
    double most = l->param.max;
    uint64_t series = 0;
    if (n->expr->aggregate.op == PQL_LIMIT_RATIO) {
        double ratio = fabs(most) > fabs(l->param.min) ? fabs(most) : fabs(l->param.min);
        return ratio < 1 ? (uint64_t)ceil((double)n->n_series * ratio) : n->n_series;
    }
    for (size_t g = 0; g < l->groups.n; g++)
        series += most < l->groups.sizes[g] ? (uint64_t)most : l->groups.sizes[g];
    return series;
}

static uint64_t
limit_holds(const ev_node *n, size_t steps)
{
    const limit_node *l = (const limit_node *)n;
    uint64_t counts = ev_times(ev_times(l->groups.n, steps), sizeof(uint32_t));
    uint64_t opening = ev_groups_bytes(l->groups.n);
    return counts > opening ? counts : opening;
}

/* ---- node ---------------------------------------------------------------------------------------------- */

static ps_status
limit_open(ev_node *n)
{
    limit_node *l = (limit_node *)n;
    ps_buf_init(&l->key, ev_alloc(n->c));
    PS_TRY(ev_agg_param_open(n, &l->param));
    PS_TRY(ev_open(n->kids[0]));
    if (n->expr->aggregate.op == PQL_LIMITK)
        PS_TRY(limitk_open(l));
    else
        PS_TRY(limit_ratio_open(l));
    n->distinct = n->kids[0]->distinct;
    if (l->nothing) /* nobody pulls a node without series */
        return ev_agg_drain(n->kids[0]);
    n->series = n->kids[0]->series;
    n->n_series = n->kids[0]->n_series;
    ev_expect_series(n, expected(l));
    return PS_OK;
}

static ps_status
limit_next(ev_node *n, ev_batch **ret)
{
    limit_node *l = (limit_node *)n;
    *ret = NULL;
    if (l->nothing)
        return PS_OK;
    PS_TRY(ev_next(n->kids[0], ret));
    ev_batch *b = *ret;
    for (size_t i = 0; b != NULL && i < b->n; i++) {
        uint64_t *has = b->has + i * b->n_words;
        if (n->expr->aggregate.op == PQL_LIMITK)
            limitk_row(l, b->first + i, has);
        else
            PS_TRY(limit_ratio_row(l, b->first + i, has));
    }
    return PS_OK;
}

static void
limit_close(ev_node *n)
{
    limit_node *l = (limit_node *)n;
    if (l->passed != NULL)
        ps_alloc_free(ev_alloc(n->c), l->passed, l->passed_bytes + sizeof(uint32_t));
    l->passed = NULL;
    if (l->key.alloc.realloc != NULL)
        ps_buf_done(&l->key);
}

const ev_node_ops ev_agg_limit_ops = {"limit",     sizeof(limit_node), limit_open, limit_next,
                                      limit_close, EV_GATHER,          limit_holds};
