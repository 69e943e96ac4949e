/*
 * series.c - adding and deleting series, and the series of each metric in order of their label sets.
 *
 * Deleting marks the slot; lists that name it keep it. Its id stays known, so that whoever is behind
 * and adds it again does not bring it back.
 */
#include "lib/index/internal.h"

#define GROW(x, member, n, err)                                                                    \
    idx_grow((x), (void **)&(x)->member, (n), &(x)->cap_##member, sizeof(*(x)->member), (err))

/* ---- slots by id ------------------------------------------------------------------------------ */

static size_t
slot_place(const idx *x, int64_t id)
{
    size_t mask = x->cap_slot_table - 1, at = idx_mix((uint64_t)id, x->seed) & mask;
    while (x->slot_table[at] != 0 && x->slots[x->slot_table[at] - 1].id != id)
        at = (at + 1) & mask;
    return at;
}

uint32_t
idx_slot_find(const idx *x, int64_t id)
{
    uint32_t found = x->cap_slot_table == 0 ? 0 : x->slot_table[slot_place(x, id)];
    return found == 0 ? IDX_NONE : found - 1;
}

bool
idx_knows(const idx *x, int64_t series_id)
{
    return idx_slot_find(x, series_id) != IDX_NONE;
}

typedef struct each {
    const idx *x;
    uint32_t tenant;
    idx_slot_fn fn;
    void *self;
    ps_status status;
} each;

static void
each_id(void *self, int64_t id)
{
    each *e = self;
    uint32_t slot = e->status == PS_OK ? idx_slot_find(e->x, id) : IDX_NONE;
    if (slot == IDX_NONE || !idx_slot_alive(&e->x->slots[slot]) ||
        e->x->metrics[e->x->slots[slot].metric].tenant != e->tenant)
        return;
    e->status = e->fn(e->self, slot);
}

ps_status
idx_each_within(const idx *x, const mdl_ids *within, uint32_t tenant, idx_slot_fn fn, void *self)
{
    static const mdl_ids none = {0};
    each e = {x, tenant, fn, self, PS_OK};
    mdl_ids_missing(within, &none, each_id, &e);
    return e.status;
}

static ps_status
slot_table_reserve(idx *x, ps_err *err)
{
    if (x->n_slots < x->cap_slot_table / 4 * 3)
        return PS_OK;
    size_t cap = x->cap_slot_table == 0 ? 64 : x->cap_slot_table * 2;
    void *table = NULL;
    PS_TRY(idx_resize(x, &table, 0, cap, sizeof(uint32_t), err));
    idx_release(x, x->slot_table, x->cap_slot_table, sizeof(uint32_t));
    x->slot_table = memset(table, 0, cap * sizeof(uint32_t));
    x->cap_slot_table = cap;
    for (size_t i = 0; i < x->n_slots; i++)
        x->slot_table[slot_place(x, x->slots[i].id)] = (uint32_t)i + 1;
    return PS_OK;
}

static ps_status
slot_new(idx *x, int64_t id, uint32_t *ret, ps_err *err)
{
    PS_TRY(slot_table_reserve(x, err));
    PS_TRY(GROW(x, slots, x->n_slots, err));
    size_t at = slot_place(x, id);
    *ret = (uint32_t)x->n_slots++;
    x->slots[*ret] = (idx_slot){.id = id, .metric = IDX_NONE, .pos = IDX_NONE};
    x->slot_table[at] = *ret + 1;
    return PS_OK;
}

/* ---- metrics ------------------------------------------------------------------------------------ */

static size_t
metric_place(const idx *x, uint32_t tenant, int32_t id)
{
    uint64_t key = (uint64_t)tenant << 32 | (uint32_t)id;
    size_t mask = x->cap_metric_table - 1, at = idx_mix(key, x->seed) & mask;
    for (; x->metric_table[at] != 0; at = (at + 1) & mask) {
        const idx_metric *m = &x->metrics[x->metric_table[at] - 1];
        if (m->id == id && m->tenant == tenant)
            break;
    }
    return at;
}

static ps_status
metric_table_reserve(idx *x, ps_err *err)
{
    if (x->n_metrics < x->cap_metric_table / 4 * 3)
        return PS_OK;
    size_t cap = x->cap_metric_table == 0 ? 64 : x->cap_metric_table * 2;
    void *table = NULL;
    PS_TRY(idx_resize(x, &table, 0, cap, sizeof(uint32_t), err));
    idx_release(x, x->metric_table, x->cap_metric_table, sizeof(uint32_t));
    x->metric_table = memset(table, 0, cap * sizeof(uint32_t));
    x->cap_metric_table = cap;
    for (size_t i = 0; i < x->n_metrics; i++) {
        const idx_metric *m = &x->metrics[i];
        x->metric_table[metric_place(x, m->tenant, m->id)] = (uint32_t)i + 1;
    }
    return PS_OK;
}

static ps_status
metric_get(idx *x, uint32_t tenant, int32_t id, uint32_t *ret, ps_err *err)
{
    PS_TRY(metric_table_reserve(x, err));
    size_t at = metric_place(x, tenant, id);
    if (x->metric_table[at] != 0) {
        *ret = x->metric_table[at] - 1;
        return PS_OK;
    }
    idx_tenant *t = &x->tenants[tenant];
    PS_TRY(GROW(x, metrics, x->n_metrics, err));
    PS_TRY(idx_grow(x, (void **)&t->metrics, t->n_metrics, &t->cap_metrics, sizeof(uint32_t), err));
    *ret = (uint32_t)x->n_metrics++;
    x->metrics[*ret] = (idx_metric){.tenant = tenant, .id = id};
    x->metric_table[at] = *ret + 1;
    t->metrics[t->n_metrics++] = *ret;
    return PS_OK;
}

static ps_status
note_dirty_metric(idx *x, uint32_t metric, ps_err *err)
{
    if (x->metrics[metric].dirty)
        return PS_OK;
    PS_TRY(GROW(x, dirty_metrics, x->n_dirty_metrics, err));
    x->dirty_metrics[x->n_dirty_metrics++] = metric;
    x->metrics[metric].dirty = true;
    return PS_OK;
}

/* ---- adding and deleting -------------------------------------------------------------------------- */

/* Label sets are short, and mostly in order. */
static bool
sort_pairs(const idx *x, uint32_t tenant, uint32_t *pairs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t v = pairs[i];
        if (v >= x->n_pairs || x->names[x->keys[v].name].tenant != tenant)
            return false;
        size_t j = i;
        for (; j > 0; j--) {
            int cmp = ps_str_cmp(x->pairs[pairs[j - 1]].label.name, x->pairs[v].label.name);
            if (cmp == 0)
                return false;
            if (cmp < 0)
                break;
            pairs[j] = pairs[j - 1];
        }
        pairs[j] = v;
    }
    return true;
}

static ps_status
add_postings(idx *x, uint32_t slot, uint32_t metric, const uint32_t *pairs, size_t n, ps_err *err)
{
    for (size_t i = 0; i < n; i++) {
        idx_pair_entry *p = &x->pairs[pairs[i]];
        p->metric = p->slots.n == 0 || p->metric == metric ? metric : IDX_NONE;
        PS_TRY(idx_postings_add(x, &p->slots, slot, err));
    }
    return PS_OK;
}

static ps_status
add(idx *x, int32_t tenant_id, int64_t id, int32_t metric_id, uint32_t *pairs, size_t n,
    ps_err *err)
{
    uint32_t tenant, metric, slot;
    void *kept;
    PS_TRY(idx_tenant_get(x, tenant_id, &tenant, err));
    if (!sort_pairs(x, tenant, pairs, n))
        return ps_fail(err, PS_EINVAL, "labels that are not of the series' tenant, or one twice");
    PS_TRY(metric_get(x, tenant, metric_id, &metric, err));
    PS_TRY(note_dirty_metric(x, metric, err));
    idx_metric *m = &x->metrics[metric];
    PS_TRY(idx_grow(x, (void **)&m->order, m->n, &m->cap, sizeof(uint32_t), err));
    PS_TRY(idx_keep(x, (n + 1) * sizeof(uint32_t), sizeof(uint32_t), &kept, err));
    PS_TRY(slot_new(x, id, &slot, err));
    uint32_t *own = kept;
    own[0] = (uint32_t)n;
    memcpy(own + 1, pairs, n * sizeof(uint32_t));
    x->slots[slot].pairs = own;
    x->slots[slot].metric = metric;
    x->slots[slot].pos = 0;
    m->order[m->n++] = slot;
    m->added++;
    x->settled = false;
    return add_postings(x, slot, metric, pairs, n, err);
}

ps_status
idx_add(idx *x, int32_t tenant_id, int64_t series_id, int32_t metric_id, uint32_t *pairs, size_t n,
        ps_err *err)
{
    PS_TRY(idx_check_usable(x, err));
    if (n == 0 || n >= IDX_MAX_COUNT)
        return ps_fail(err, PS_EINVAL, "a series without labels");
    if (idx_knows(x, series_id))
        return PS_OK;
    return idx_changed(x, add(x, tenant_id, series_id, metric_id, pairs, n, err));
}

ps_status
idx_add_labels(idx *x, int32_t tenant_id, int64_t series_id, int32_t metric_id, mdl_labels labels,
               ps_err *err)
{
    PS_TRY(idx_check_usable(x, err));
    if (idx_knows(x, series_id))
        return PS_OK;
    void *scratch = NULL;
    PS_TRY(idx_changed(x, idx_resize(x, &scratch, 0, labels.n, sizeof(uint32_t), err)));
    uint32_t *pairs = scratch;
    ps_status status = PS_OK;
    for (size_t i = 0; i < labels.n && status == PS_OK; i++)
        status =
            idx_pair(x, tenant_id, labels.items[i].name, labels.items[i].value, &pairs[i], err);
    if (status == PS_OK)
        status = idx_add(x, tenant_id, series_id, metric_id, pairs, labels.n, err);
    idx_release(x, scratch, labels.n, sizeof(uint32_t));
    return status;
}

ps_status
idx_delete(idx *x, int64_t series_id, ps_err *err)
{
    PS_TRY(idx_check_usable(x, err));
    uint32_t slot = idx_slot_find(x, series_id);
    if (slot == IDX_NONE) {
        x->n_dead++;
        return idx_changed(x, slot_new(x, series_id, &slot, err));
    }
    idx_slot *s = &x->slots[slot];
    if (!idx_slot_alive(s))
        return PS_OK;
    s->pos = IDX_NONE;
    x->n_dead++;
    /* it leaves the metric's list with the next idx_settle(), which this alone does not make necessary */
    return idx_changed(x, note_dirty_metric(x, s->metric, err));
}

/* ---- order ------------------------------------------------------------------------------------------ */

/* As mdl_labels_cmp of the two label sets; among equals the higher id first. */
int
idx_slot_cmp(const idx *x, uint32_t a, uint32_t b)
{
    const uint32_t *p = x->slots[a].pairs, *q = x->slots[b].pairs;
    uint32_t n = p[0] < q[0] ? p[0] : q[0];
    for (uint32_t i = 1; i <= n; i++) {
        if (p[i] == q[i])
            continue;
        idx_key k = x->keys[p[i]], l = x->keys[q[i]];
        if (k.name == l.name)
            return k.rank < l.rank ? -1 : 1;
        return x->names[k.name].rank < x->names[l.name].rank ? -1 : 1;
    }
    if (p[0] != q[0])
        return p[0] < q[0] ? -1 : 1;
    return (x->slots[a].id < x->slots[b].id) - (x->slots[a].id > x->slots[b].id);
}

static bool
same_labels(const idx *x, uint32_t a, uint32_t b)
{
    const uint32_t *p = x->slots[a].pairs, *q = x->slots[b].pairs;
    return memcmp(p, q, ((size_t)(p[0] < q[0] ? p[0] : q[0]) + 1) * sizeof(*p)) == 0;
}

/* Leaves out the deleted, and all but the newest of series with the same labels: the older one has
 * been deleted, and whoever told us of its successor was faster. Gives the others their positions. */
static void
compact_and_number(idx *x, idx_metric *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        idx_slot *s = &x->slots[m->order[i]];
        if (!idx_slot_alive(s))
            continue;
        if (n > 0 && same_labels(x, m->order[n - 1], m->order[i])) {
            s->pos = IDX_NONE;
            x->n_dead++;
            continue;
        }
        s->pos = (uint32_t)n;
        m->order[n++] = m->order[i];
    }
    m->n = m->n_sorted = n;
}

static void
merge_fresh(const idx *x, idx_metric *m, const uint32_t *fresh, size_t n_fresh)
{
    size_t a = m->n_sorted, b = n_fresh, to = m->n;
    while (b > 0) {
        bool old = a > 0 && idx_slot_cmp(x, m->order[a - 1], fresh[b - 1]) > 0;
        m->order[--to] = old ? m->order[--a] : fresh[--b];
    }
}

static ps_status
settle_metric(idx *x, idx_metric *m, ps_err *err)
{
    size_t n_fresh = m->n - m->n_sorted;
    void *scratch = NULL;
    if (n_fresh > 0) {
        PS_TRY(idx_resize(x, &scratch, 0, n_fresh * 2, sizeof(uint32_t), err));
        uint32_t *fresh = scratch;
        memcpy(fresh, m->order + m->n_sorted, n_fresh * sizeof(uint32_t));
        idx_sort(x, fresh, fresh + n_fresh, n_fresh, idx_slot_cmp);
        merge_fresh(x, m, fresh, n_fresh);
        idx_release(x, scratch, n_fresh * 2, sizeof(uint32_t));
    }
    compact_and_number(x, m);
    m->dirty = false;
    return PS_OK;
}

ps_status
idx_series_settle(idx *x, ps_err *err)
{
    while (x->n_dirty_metrics > 0)
        PS_TRY(settle_metric(x, &x->metrics[x->dirty_metrics[--x->n_dirty_metrics]], err));
    return PS_OK;
}

ps_status
idx_settle(idx *x, ps_err *err)
{
    PS_TRY(idx_check_usable(x, err));
    PS_TRY(idx_changed(x, idx_pairs_settle(x, err)));
    PS_TRY(idx_changed(x, idx_series_settle(x, err)));
    x->settled = true;
    return PS_OK;
}
