/*
 * pairs.c - tenants, label names and label pairs: finding them, making them, and the order of values.
 *
 * Names are few: each tenant's stand in order from the start. Values are many: new ones are collected,
 * sorted among themselves and merged into the name's list by idx_pairs_settle(). Ranks of values leave
 * gaps, so that a new value usually fits in between and only now and then all of a name's are
 * numbered anew.
 */
#include "lib/index/internal.h"

#define GROW(x, member, n, err)                                                                    \
    idx_grow((x), (void **)&(x)->member, (n), &(x)->cap_##member, sizeof(*(x)->member), (err))

/* ---- tenants and names ------------------------------------------------------------------------ */

bool
idx_tenant_find(const idx *x, int32_t id, size_t *ret_at)
{
    size_t lo = 0, hi = x->n_tenants;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (x->tenants[x->tenants_by_id[mid]].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    *ret_at = lo;
    return lo < x->n_tenants && x->tenants[x->tenants_by_id[lo]].id == id;
}

ps_status
idx_tenant_get(idx *x, int32_t id, uint32_t *ret, ps_err *err)
{
    size_t at;
    if (idx_tenant_find(x, id, &at)) {
        *ret = x->tenants_by_id[at];
        return PS_OK;
    }
    PS_TRY(GROW(x, tenants, x->n_tenants, err));
    PS_TRY(GROW(x, tenants_by_id, x->n_tenants, err));
    memmove(x->tenants_by_id + at + 1, x->tenants_by_id + at,
            (x->n_tenants - at) * sizeof(uint32_t));
    x->tenants[x->n_tenants] = (idx_tenant){.id = id};
    x->tenants_by_id[at] = *ret = (uint32_t)x->n_tenants++;
    return PS_OK;
}

static bool
find_name(const idx *x, uint32_t tenant, ps_str text, size_t *ret_at)
{
    const idx_tenant *t = &x->tenants[tenant];
    size_t lo = 0, hi = t->n_names;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (ps_str_cmp(x->names[t->names[mid]].text, text) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *ret_at = lo;
    return lo < t->n_names && ps_str_eq(x->names[t->names[lo]].text, text);
}

uint32_t
idx_name_find(const idx *x, uint32_t tenant, ps_str text)
{
    size_t at;
    return find_name(x, tenant, text, &at) ? x->tenants[tenant].names[at] : IDX_NONE;
}

static ps_status
keep_text(idx *x, ps_str s, ps_str *ret, ps_err *err)
{
    void *p;
    PS_TRY(idx_keep(x, s.len, 1, &p, err));
    if (s.len > 0)
        memcpy(p, s.ptr, s.len);
    *ret = (ps_str){p, s.len};
    return PS_OK;
}

static ps_status
name_get(idx *x, uint32_t tenant, ps_str text, uint32_t *ret, ps_err *err)
{
    size_t at;
    if (find_name(x, tenant, text, &at)) {
        *ret = x->tenants[tenant].names[at];
        return PS_OK;
    }
    idx_tenant *t = &x->tenants[tenant];
    ps_str kept;
    PS_TRY(GROW(x, names, x->n_names, err));
    PS_TRY(idx_grow(x, (void **)&t->names, t->n_names, &t->cap_names, sizeof(uint32_t), err));
    PS_TRY(keep_text(x, text, &kept, err));
    memmove(t->names + at + 1, t->names + at, (t->n_names - at) * sizeof(uint32_t));
    t->n_names++;
    t->names_came = true;
    x->names[x->n_names] = (idx_name){.text = kept, .tenant = tenant};
    t->names[at] = *ret = (uint32_t)x->n_names++;
    return PS_OK;
}

/* ---- pairs -------------------------------------------------------------------------------------- */

static uint32_t
pair_hash(const idx *x, uint32_t name, ps_str value)
{
    return (uint32_t)ps_hash64(value, idx_mix(name, x->seed));
}

/* Where the pair stands, or the free place where it would. The table is never full. */
static size_t
pair_place(const idx *x, uint32_t name, ps_str value, uint32_t hash)
{
    size_t mask = x->cap_pair_table - 1, at = hash & mask;
    for (; x->pair_table[at] != 0; at = (at + 1) & mask) {
        uint32_t pair = x->pair_table[at] - 1;
        if (x->pairs[pair].hash == hash && x->keys[pair].name == name &&
            ps_str_eq(x->pairs[pair].label.value, value))
            break;
    }
    return at;
}

uint32_t
idx_pair_find(const idx *x, uint32_t name, ps_str value)
{
    if (x->cap_pair_table == 0)
        return IDX_NONE;
    uint32_t found = x->pair_table[pair_place(x, name, value, pair_hash(x, name, value))];
    return found == 0 ? IDX_NONE : found - 1;
}

static ps_status
pair_table_reserve(idx *x, ps_err *err)
{
    if (x->n_pairs < x->cap_pair_table / 4 * 3)
        return PS_OK;
    size_t cap = x->cap_pair_table == 0 ? 64 : x->cap_pair_table * 2;
    void *table = NULL;
    PS_TRY(idx_resize(x, &table, 0, cap, sizeof(uint32_t), err));
    idx_release(x, x->pair_table, x->cap_pair_table, sizeof(uint32_t));
    x->pair_table = memset(table, 0, cap * sizeof(uint32_t));
    x->cap_pair_table = cap;
    for (size_t i = 0; i < x->n_pairs; i++) {
        size_t at = x->pairs[i].hash & (cap - 1);
        while (x->pair_table[at] != 0)
            at = (at + 1) & (cap - 1);
        x->pair_table[at] = (uint32_t)i + 1;
    }
    return PS_OK;
}

static ps_status
note_dirty_name(idx *x, uint32_t name, ps_err *err)
{
    if (x->names[name].n > x->names[name].n_sorted)
        return PS_OK; /* it is in there already */
    PS_TRY(GROW(x, dirty_names, x->n_dirty_names, err));
    x->dirty_names[x->n_dirty_names++] = name;
    return PS_OK;
}

static ps_status
pair_new(idx *x, uint32_t name, ps_str value, uint32_t *ret, ps_err *err)
{
    PS_TRY(pair_table_reserve(x, err));
    PS_TRY(GROW(x, pairs, x->n_pairs, err));
    PS_TRY(GROW(x, keys, x->n_pairs, err));
    PS_TRY(note_dirty_name(x, name, err));
    idx_name *m = &x->names[name];
    PS_TRY(idx_grow(x, (void **)&m->values, m->n, &m->cap, sizeof(uint32_t), err));
    uint32_t hash = pair_hash(x, name, value);
    size_t at = pair_place(x, name, value, hash);
    ps_str kept;
    PS_TRY(keep_text(x, value, &kept, err));
    uint32_t pair = (uint32_t)x->n_pairs++;
    x->pairs[pair] = (idx_pair_entry){.label = {m->text, kept}, .hash = hash, .metric = IDX_NONE};
    x->keys[pair] = (idx_key){.name = name};
    m->values[m->n++] = pair;
    x->pair_table[at] = pair + 1;
    x->settled = false;
    *ret = pair;
    return PS_OK;
}

static ps_status
pair_get(idx *x, int32_t tenant_id, ps_str name, ps_str value, uint32_t *ret, ps_err *err)
{
    uint32_t tenant, number;
    PS_TRY(idx_tenant_get(x, tenant_id, &tenant, err));
    PS_TRY(name_get(x, tenant, name, &number, err));
    uint32_t found = idx_pair_find(x, number, value);
    if (found == IDX_NONE)
        return pair_new(x, number, value, ret, err);
    *ret = found;
    return PS_OK;
}

ps_status
idx_pair(idx *x, int32_t tenant_id, ps_str name, ps_str value, uint32_t *ret, ps_err *err)
{
    PS_TRY(idx_check_usable(x, err));
    if (name.len == 0 || value.len == 0)
        return ps_fail(err, PS_EINVAL, "a label without a name or a value");
    return idx_changed(x, pair_get(x, tenant_id, name, value, ret, err));
}

/* ---- order ---------------------------------------------------------------------------------------- */

size_t
idx_values_seek(const idx *x, const idx_name *name, ps_str value)
{
    size_t lo = 0, hi = name->n_sorted;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (ps_str_cmp(x->pairs[name->values[mid]].label.value, value) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int
compare_values(const idx *x, uint32_t a, uint32_t b)
{
    return ps_str_cmp(x->pairs[a].label.value, x->pairs[b].label.value);
}

static void
number_values(idx *x, const idx_name *m)
{
    uint64_t step = (UINT64_C(1) << 32) / (m->n + 1);
    for (size_t i = 0; i < m->n; i++)
        x->keys[m->values[i]].rank = (uint32_t)(step * (i + 1));
}

/*
 * Merges sorted new values into the sorted old ones, from the end, and gives them ranks in the gaps.
 * A value beyond the last one takes a small step, since values often come in ascending order.
 */
static void
merge_values(idx *x, idx_name *m, const uint32_t *fresh, size_t n_fresh)
{
    enum { STEP = 1 << 12 };
    size_t a = m->n_sorted, b = n_fresh, to = m->n;
    while (b > 0) {
        bool old = a > 0 && compare_values(x, m->values[a - 1], fresh[b - 1]) > 0;
        m->values[--to] = old ? m->values[--a] : fresh[--b];
    }
    /* what stands before `to` has not moved; unranked values have rank 0 */
    bool room = true;
    for (size_t i = to; i < m->n && room; i++) {
        idx_key *key = &x->keys[m->values[i]];
        if (key->rank != 0)
            continue;
        size_t next = i + 1;
        while (next < m->n && x->keys[m->values[next]].rank == 0)
            next++;
        uint64_t lo = i > 0 ? x->keys[m->values[i - 1]].rank : 0;
        uint64_t hi = next < m->n ? x->keys[m->values[next]].rank : UINT64_C(1) << 32;
        uint64_t step = (hi - lo) / (next - i + 1);
        if (next == m->n && step > STEP)
            step = STEP;
        room = step > 0;
        key->rank = (uint32_t)(lo + step);
    }
    if (!room)
        number_values(x, m);
}

static ps_status
settle_name(idx *x, idx_name *m, ps_err *err)
{
    size_t n_fresh = m->n - m->n_sorted;
    void *scratch = NULL;
    PS_TRY(idx_resize(x, &scratch, 0, n_fresh * 2, sizeof(uint32_t), err));
    uint32_t *fresh = scratch;
    memcpy(fresh, m->values + m->n_sorted, n_fresh * sizeof(uint32_t));
    idx_sort(x, fresh, fresh + n_fresh, n_fresh, compare_values);
    bool first = m->n_sorted == 0;
    if (first) {
        memcpy(m->values, fresh, n_fresh * sizeof(uint32_t));
        number_values(x, m);
    } else {
        merge_values(x, m, fresh, n_fresh);
    }
    m->n_sorted = m->n;
    idx_release(x, scratch, n_fresh * 2, sizeof(uint32_t));
    return PS_OK;
}

ps_status
idx_pairs_settle(idx *x, ps_err *err)
{
    for (size_t i = 0; i < x->n_tenants; i++) {
        idx_tenant *t = &x->tenants[i];
        for (size_t k = 0; t->names_came && k < t->n_names; k++)
            x->names[t->names[k]].rank = (uint32_t)k;
        t->names_came = false;
    }
    while (x->n_dirty_names > 0)
        PS_TRY(settle_name(x, &x->names[x->dirty_names[--x->n_dirty_names]], err));
    return PS_OK;
}
