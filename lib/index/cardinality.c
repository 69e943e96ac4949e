/*
 * cardinality.c - which metrics, names and values have how many series: what fills an index.
 *
 * Lists of series also hold deleted ones, so living series are counted one by one, each of its pairs: the
 * work grows with what can be selected, not with what was ever deleted. The largest so many of a kind are
 * kept in a heap with the smallest on top; equal ones in the order of their texts, so that the same index
 * says the same twice.
 */
#include "lib/index/internal.h"

/* ---- the largest ------------------------------------------------------------------------------------ */

typedef struct top {
    idx_figure *items; /* a heap: the least wanted first */
    size_t n, max;
} top;

static bool
before(const idx_figure *a, const idx_figure *b)
{
    if (a->count != b->count)
        return a->count > b->count;
    int c = ps_str_cmp(a->name, b->name);
    return c != 0 ? c < 0 : ps_str_cmp(a->value, b->value) < 0;
}

static void
sift_down(top *t, size_t at, size_t n)
{
    for (;;) {
        size_t worst = at, child = 2 * at + 1;
        for (size_t i = child; i < child + 2 && i < n; i++) {
            if (before(&t->items[worst], &t->items[i]))
                worst = i;
        }
        if (worst == at)
            return;
        idx_figure keep = t->items[at];
        t->items[at] = t->items[worst];
        t->items[worst] = keep;
        at = worst;
    }
}

static void
top_add(top *t, idx_figure f)
{
    if (t->n == t->max) {
        if (!before(&f, &t->items[0]))
            return;
        t->items[0] = f;
        sift_down(t, 0, t->n);
        return;
    }
    size_t at = t->n++;
    t->items[at] = f;
    while (at > 0 && before(&t->items[(at - 1) / 2], &t->items[at])) {
        size_t up = (at - 1) / 2;
        idx_figure keep = t->items[at];
        t->items[at] = t->items[up];
        t->items[up] = keep;
        at = up;
    }
}

static idx_figures
top_finish(top *t)
{
    for (size_t n = t->n; n > 1; n--) { /* the least wanted goes to the end */
        idx_figure keep = t->items[0];
        t->items[0] = t->items[n - 1];
        t->items[n - 1] = keep;
        sift_down(t, 0, n - 1);
    }
    return (idx_figures){t->items, t->n};
}

static ps_status
top_init(top *t, size_t limit, size_t possible, ps_arena *arena, ps_err *err)
{
    *t = (top){.max = limit < possible ? limit : possible};
    t->items = ps_arena_array(arena, t->max + 1, sizeof(*t->items));
    return t->items != NULL ? PS_OK : ps_fail(err, PS_ENOMEM, "no memory for figures");
}

/* ---- counting ----------------------------------------------------------------------------------------- */

enum { POLL_EVERY = 65536 };

/* counts[pair]: living series of the tenant that have it. */
static ps_status
count_series(const idx *x, const idx_cardinality_query *q, uint32_t tenant, uint32_t *counts,
             uint64_t *ret_series, ps_err *err)
{
    uint64_t series = 0;

    for (size_t i = 0; i < x->n_slots; i++) {
        const idx_slot *s = &x->slots[i];
        if (i % POLL_EVERY == 0 && q->should_stop != NULL && q->should_stop(q->self))
            return ps_fail(err, PS_ECANCELED, "counting was canceled");
        if (s->pairs == NULL || !idx_slot_alive(s) || x->metrics[s->metric].tenant != tenant)
            continue;
        series++;
        for (uint32_t k = 1; k <= s->pairs[0]; k++)
            counts[s->pairs[k]]++;
    }
    *ret_series = series;
    return PS_OK;
}

typedef struct tops {
    top metrics, names, bytes, pairs;
} tops;

static void
add_name(const idx *x, const idx_name *name, const uint32_t *counts, tops *t, idx_cardinality *ret)
{
    uint64_t values = 0, bytes = 0;
    bool is_metric = ps_str_eq_c(name->text, "__name__");

    for (size_t i = 0; i < name->n; i++) {
        const idx_pair_entry *pair = &x->pairs[name->values[i]];
        uint64_t n = counts[name->values[i]];
        bytes += sizeof(*pair) + sizeof(idx_key) + pair->label.value.len + pair->slots.cap;
        if (n == 0)
            continue;
        values++;
        top_add(&t->pairs, (idx_figure){name->text, pair->label.value, n});
        if (is_metric)
            top_add(&t->metrics, (idx_figure){pair->label.value, {"", 0}, n});
    }
    if (values == 0)
        return;
    ret->pairs += values;
    top_add(&t->names, (idx_figure){name->text, {"", 0}, values});
    top_add(&t->bytes, (idx_figure){name->text, {"", 0}, bytes});
}

ps_status
idx_get_cardinality(const idx *x, const idx_cardinality_query *q, ps_arena *arena,
                    idx_cardinality *ret, ps_err *err)
{
    size_t at;
    tops t;

    *ret = (idx_cardinality){0};
    PS_TRY(idx_check_usable(x, err));
    if (!idx_tenant_find(x, q->tenant_id, &at))
        return PS_OK;
    uint32_t tenant = x->tenants_by_id[at];
    const idx_tenant *of = &x->tenants[tenant];
    uint32_t *counts = ps_arena_array(arena, x->n_pairs + 1, sizeof(*counts));
    if (counts == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory for figures");
    PS_TRY(top_init(&t.metrics, q->limit, x->n_pairs, arena, err));
    PS_TRY(top_init(&t.names, q->limit, of->n_names, arena, err));
    PS_TRY(top_init(&t.bytes, q->limit, of->n_names, arena, err));
    PS_TRY(top_init(&t.pairs, q->limit, x->n_pairs, arena, err));
    PS_TRY(count_series(x, q, tenant, counts, &ret->series, err));
    for (size_t i = 0; i < of->n_names; i++)
        add_name(x, &x->names[of->names[i]], counts, &t, ret);
    ret->by_metric = top_finish(&t.metrics);
    ret->values_by_name = top_finish(&t.names);
    ret->bytes_by_name = top_finish(&t.bytes);
    ret->by_pair = top_finish(&t.pairs);
    return PS_OK;
}

/* ---- series by metric -------------------------------------------------------------------------------- */

ps_status
idx_series_of_metrics(const idx *x, int32_t tenant_id, idx_key_fn key_of, void *self,
                      ps_arena *arena, idx_keyed **ret, size_t *ret_n, ps_err *err)
{
    size_t at, room = 0, n = 0;
    *ret = NULL;
    *ret_n = 0;
    PS_TRY(idx_check_usable(x, err));
    if (!idx_tenant_find(x, tenant_id, &at))
        return PS_OK;
    const idx_tenant *t = &x->tenants[x->tenants_by_id[at]];
    int32_t *keys = ps_arena_array(arena, t->n_metrics + 1, sizeof(*keys));
    for (size_t i = 0; keys != NULL && i < t->n_metrics; i++) {
        const idx_metric *m = &x->metrics[t->metrics[i]];
        keys[i] = key_of(self, m->id, m->n);
        room += keys[i] != 0 ? m->n : 0;
    }
    idx_keyed *found = keys == NULL ? NULL : ps_arena_array(arena, room + 1, sizeof(*found));
    if (found == NULL)
        return ps_fail(err, PS_ENOMEM, "the query needs more memory than it may use");
    for (size_t i = 0; i < t->n_metrics; i++) {
        const idx_metric *m = &x->metrics[t->metrics[i]];
        for (size_t k = 0; keys[i] != 0 && k < m->n; k++) {
            const idx_slot *s = &x->slots[m->order[k]];
            if (idx_slot_alive(s))
                found[n++] = (idx_keyed){keys[i], s->id};
        }
    }
    *ret = found;
    *ret_n = n;
    return PS_OK;
}
