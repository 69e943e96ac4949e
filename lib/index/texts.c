/*
 * texts.c - the label names and values that selected series have, and the metrics they belong to.
 *
 * What was found is marked in one array of bits, over names, pairs or metrics, whatever the number of
 * queries; the answer is what is marked, in the index's own order. A query without matchers does not
 * visit all series: each pair's list is followed for some steps, which usually is enough to find a series
 * that counts. Where many have died there are pairs left that nothing was found of. Their lists are followed to
 * their ends if these are a part of all series together; otherwise all series are gone through from the newest, until
 * nothing is left to be found, or those that count if it is known which and they are fewer.
 */
#include "lib/index/internal.h"

/* A series of a list is somewhere, and takes a few times as long as the next of all. */
enum { POLL_EVERY = 4096, STEPS = 16, PART = 2 };

typedef struct marks {
    const idx *x;
    ps_arena *arena;
    ps_err *err;
    uint64_t *bits; /* over names, pairs or metrics */
    size_t polled;
} marks;

static ps_status
no_memory(ps_err *err)
{
    return ps_fail(err, PS_ENOMEM, "the query needs more memory than it may use");
}

static bool
is_marked(const marks *m, uint32_t i)
{
    return (m->bits[i / 64] >> i % 64 & 1) != 0;
}

static void
mark(marks *m, uint32_t i)
{
    m->bits[i / 64] |= UINT64_C(1) << i % 64;
}

static ps_status
poll_now_and_then(marks *m, const idx_query *q)
{
    if (++m->polled % POLL_EVERY != 0 || q->should_stop == NULL)
        return PS_OK;
    return q->should_stop(q->self) ? ps_fail(m->err, PS_ECANCELED, "the query was canceled")
                                   : PS_OK;
}

static ps_status
begin(marks *m, const idx *x, size_t n_bits, ps_arena *arena, ps_err *err)
{
    *m = (marks){.x = x, .arena = arena, .err = err};
    PS_TRY(idx_check_usable(x, err));
    if (!x->settled)
        return ps_fail(err, PS_EINTERNAL, "the label index is being changed");
    m->bits = ps_arena_array(arena, n_bits / 64 + 1, sizeof(*m->bits));
    return m->bits == NULL ? no_memory(err) : PS_OK;
}

/* IDX_NONE: the tenant has no series. */
static uint32_t
tenant_of(const idx *x, const idx_query *queries, size_t n)
{
    size_t at;
    return n > 0 && idx_tenant_find(x, queries[0].tenant_id, &at) ? x->tenants_by_id[at] : IDX_NONE;
}

static bool
counts(const idx *x, const idx_query *q, uint32_t slot)
{
    const idx_slot *s = &x->slots[slot];
    return idx_slot_alive(s) && (q->within == NULL || mdl_ids_has(q->within, s->id));
}

typedef enum answer { NO, YES, UNKNOWN } answer;

/* Has the pair a series that counts? Looks at so many of its series. */
static ps_status
pair_counts(marks *m, const idx_query *q, uint32_t pair, uint32_t steps, answer *ret)
{
    idx_walk w;
    *ret = NO;
    idx_walk_begin(&m->x->pairs[pair].slots, &w);
    for (uint32_t i = 1; idx_walk_next(&w); i++) {
        PS_TRY(poll_now_and_then(m, q));
        *ret = counts(m->x, q, w.slot) ? YES : UNKNOWN;
        if (*ret == YES || i == steps)
            return PS_OK;
    }
    *ret = NO;
    return PS_OK;
}

/* ---- one query ---------------------------------------------------------------------------------- */

typedef struct wanted { /* what is still to be found out */
    uint64_t *bits;
    size_t n;
    bool names; /* or pairs */
} wanted;

static ps_status
wanted_init(const marks *m, size_t n_bits, bool names, wanted *ret)
{
    *ret = (wanted){.names = names};
    ret->bits = ps_arena_array(m->arena, n_bits / 64 + 1, sizeof(*ret->bits));
    return ret->bits == NULL ? no_memory(m->err) : PS_OK;
}

static void
want(wanted *w, uint32_t i)
{
    w->bits[i / 64] |= UINT64_C(1) << i % 64;
    w->n++;
}

static void
find_in(marks *m, wanted *w, const uint32_t *pairs)
{
    for (uint32_t k = 1; k <= pairs[0]; k++) {
        uint32_t i = w->names ? m->x->keys[pairs[k]].name : pairs[k];
        if ((w->bits[i / 64] >> i % 64 & 1) == 0)
            continue;
        w->bits[i / 64] &= ~(UINT64_C(1) << i % 64);
        w->n--;
        mark(m, i);
    }
}

typedef struct finding {
    marks *m;
    const idx_query *q;
    wanted *w;
} finding;

static ps_status
find_in_slot(void *self, uint32_t slot)
{
    finding *f = self;
    if (f->w->n > 0)
        find_in(f->m, f->w, f->m->x->slots[slot].pairs);
    return poll_now_and_then(f->m, f->q);
}

static ps_status
find_wanted(marks *m, const idx_query *q, uint32_t tenant, wanted *w)
{
    const idx *x = m->x;
    finding f = {m, q, w};
    if (w->n > 0 && idx_few_within(q->within, x->n_slots))
        return idx_each_within(x, q->within, tenant, find_in_slot, &f);
    for (size_t slot = x->n_slots; slot-- > 0 && w->n > 0;) {
        PS_TRY(poll_now_and_then(m, q));
        if (counts(x, q, (uint32_t)slot) && x->metrics[x->slots[slot].metric].tenant == tenant)
            find_in(m, w, x->slots[slot].pairs);
    }
    return PS_OK;
}

/* The lists of a name's pairs that are still wanted. */
static ps_status
follow_wanted(marks *m, const idx_query *q, const idx_name *name, const wanted *w)
{
    for (size_t i = 0; i < name->n_sorted; i++) {
        uint32_t pair = name->values[i];
        answer any;
        if ((w->bits[pair / 64] >> pair % 64 & 1) == 0)
            continue;
        PS_TRY(pair_counts(m, q, pair, IDX_NONE, &any));
        if (any == YES)
            mark(m, pair);
    }
    return PS_OK;
}

static ps_status
all_values(marks *m, const idx_query *q, uint32_t tenant, const idx_name *name)
{
    wanted w;
    uint64_t behind = 0; /* series of those that are wanted */
    PS_TRY(wanted_init(m, m->x->n_pairs, false, &w));
    for (size_t i = 0; i < name->n_sorted; i++) {
        answer any = is_marked(m, name->values[i]) ? NO : UNKNOWN;
        if (any == UNKNOWN)
            PS_TRY(pair_counts(m, q, name->values[i], STEPS, &any));
        if (any == YES)
            mark(m, name->values[i]);
        else if (any == UNKNOWN) {
            want(&w, name->values[i]);
            behind += m->x->pairs[name->values[i]].slots.n;
        }
    }
    uint64_t others = idx_few_within(q->within, m->x->n_slots) ? q->within->count : m->x->n_slots;
    return behind < others / PART ? follow_wanted(m, q, name, &w) : find_wanted(m, q, tenant, &w);
}

static ps_status
all_names(marks *m, const idx_query *q, uint32_t tenant)
{
    const idx_tenant *t = &m->x->tenants[tenant];
    wanted w;
    PS_TRY(wanted_init(m, m->x->n_names, true, &w));
    for (size_t i = 0; i < t->n_names; i++) {
        const idx_name *name = &m->x->names[t->names[i]];
        answer any = NO;
        for (size_t k = 0; k < name->n_sorted && any == NO && !is_marked(m, t->names[i]); k++)
            PS_TRY(pair_counts(m, q, name->values[k], STEPS, &any));
        if (any == YES)
            mark(m, t->names[i]);
        else if (any == UNKNOWN)
            want(&w, t->names[i]);
    }
    return find_wanted(m, q, tenant, &w);
}

/* Marks what the selected series have: pairs of the name, or names where it is IDX_NONE. */
static ps_status
selected(marks *m, const idx_query *q, uint32_t name)
{
    const idx *x = m->x;
    idx_slots found;
    PS_TRY(idx_find_slots(x, q, 0, m->arena, &found, m->err));
    for (size_t i = 0; i < found.n; i++) {
        const uint32_t *pairs = x->slots[found.items[i]].pairs;
        PS_TRY(poll_now_and_then(m, q));
        for (uint32_t k = 1; k <= pairs[0]; k++) {
            uint32_t of = x->keys[pairs[k]].name;
            if (name == IDX_NONE)
                mark(m, of);
            else if (of == name)
                mark(m, pairs[k]);
        }
    }
    return PS_OK;
}

/* ---- results ------------------------------------------------------------------------------------- */

static ps_status
gather(marks *m, const uint32_t *in_order, size_t n, bool pairs, idx_texts *ret)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        k += is_marked(m, in_order[i]);
    ret->items = ps_arena_array(m->arena, k + 1, sizeof(*ret->items));
    if (ret->items == NULL)
        return no_memory(m->err);
    ret->n = 0;
    for (size_t i = 0; i < n; i++) {
        if (is_marked(m, in_order[i]))
            ret->items[ret->n++] =
                pairs ? m->x->pairs[in_order[i]].label.value : m->x->names[in_order[i]].text;
    }
    return PS_OK;
}

ps_status
idx_names(const idx *x, const idx_query *queries, size_t n, ps_arena *arena, idx_texts *ret,
          ps_err *err)
{
    marks m;
    uint32_t tenant = tenant_of(x, queries, n);
    *ret = (idx_texts){0};
    PS_TRY(begin(&m, x, x->n_names, arena, err));
    if (tenant == IDX_NONE)
        return PS_OK;
    const idx_tenant *t = &x->tenants[tenant];
    for (size_t i = 0; i < n; i++)
        PS_TRY(queries[i].n_matchers == 0 ? all_names(&m, &queries[i], tenant)
                                          : selected(&m, &queries[i], IDX_NONE));
    return gather(&m, t->names, t->n_names, false, ret);
}

ps_status
idx_values(const idx *x, ps_str name, const idx_query *queries, size_t n, ps_arena *arena,
           idx_texts *ret, ps_err *err)
{
    marks m;
    uint32_t tenant = tenant_of(x, queries, n);
    *ret = (idx_texts){0};
    PS_TRY(begin(&m, x, x->n_pairs, arena, err));
    uint32_t number = tenant == IDX_NONE ? IDX_NONE : idx_name_find(x, tenant, name);
    if (number == IDX_NONE)
        return PS_OK;
    const idx_name *found = &x->names[number];
    for (size_t i = 0; i < n; i++)
        PS_TRY(queries[i].n_matchers == 0 ? all_values(&m, &queries[i], tenant, found)
                                          : selected(&m, &queries[i], number));
    return gather(&m, found->values, found->n_sorted, true, ret);
}

ps_status
idx_metrics(const idx *x, const idx_query *queries, size_t n, ps_arena *arena, idx_metric_ids *ret,
            ps_err *err)
{
    marks m;
    uint32_t tenant = tenant_of(x, queries, n);
    *ret = (idx_metric_ids){0};
    PS_TRY(begin(&m, x, x->n_metrics, arena, err));
    if (tenant == IDX_NONE)
        return PS_OK;
    for (size_t i = 0; i < n; i++) {
        idx_slots found;
        PS_TRY(idx_find_slots(x, &queries[i], queries[i].max_series, arena, &found, err));
        ret->all = ret->all || found.too_many;
        for (size_t k = 0; k < found.n; k++)
            mark(&m, x->slots[found.items[k]].metric);
    }
    const idx_tenant *t = &x->tenants[tenant];
    ret->items = ps_arena_array(arena, t->n_metrics + 1, sizeof(*ret->items));
    if (ret->items == NULL)
        return no_memory(err);
    for (size_t i = 0; i < t->n_metrics; i++) {
        if (is_marked(&m, t->metrics[i]))
            ret->items[ret->n++] = x->metrics[t->metrics[i]].id;
    }
    return PS_OK;
}
