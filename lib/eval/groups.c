/*
 * groups.c - label sets to dense numbers: open addressing over hashes that are kept, full comparison on
 * a hit. The key of the hash is an address of this process, which clients do not know.
 */
#include "lib/eval/query.h"

struct ev_groups {
    ev_ctx *c;
    uint64_t seed;
    uint32_t *slots; /* group + 1, 0: free */
    size_t n_slots;  /* a power of two, at most half full */
    mdl_labels *labels;
    uint64_t *hashes;
    size_t n, cap;
    ps_buf key; /* scratch: the bytes that are hashed */
};

ps_status
ev_groups_new(ev_ctx *c, size_t expected, ev_groups **ret)
{
    *ret = NULL;
    ev_groups *g = ps_alloc_array(ev_alloc(c), 1, sizeof *g);
    if (g == NULL)
        return ev_no_memory(c);
    g->c = c;
    g->seed = (uint64_t)(uintptr_t)c->q * UINT64_C(0x9e3779b97f4a7c15);
    ps_buf_init(&g->key, ev_alloc(c));
    g->cap = expected < 8 ? 8 : expected;
    g->n_slots = 16;
    while (g->n_slots < g->cap * 2)
        g->n_slots *= 2;
    g->slots = ps_alloc_array(ev_alloc(c), g->n_slots, sizeof *g->slots);
    g->labels = ps_alloc_array(ev_alloc(c), g->cap, sizeof *g->labels);
    g->hashes = ps_alloc_array(ev_alloc(c), g->cap, sizeof *g->hashes);
    if (g->slots == NULL || g->labels == NULL || g->hashes == NULL) {
        ev_groups_free(g);
        return ev_no_memory(c);
    }
    *ret = g;
    return PS_OK;
}

uint64_t
ev_groups_bytes(uint64_t groups)
{
    uint64_t slots = 16, cap = 8;
    while (cap < groups && cap < UINT64_MAX / 8)
        cap *= 2;
    while (slots < cap * 2)
        slots *= 2;
    return sizeof(ev_groups) + slots * sizeof(uint32_t) +
           cap * (sizeof(mdl_labels) + sizeof(uint64_t));
}

void
ev_groups_free(ev_groups *g)
{
    if (g == NULL)
        return;
    const ps_alloc *a = ev_alloc(g->c);
    if (g->slots != NULL)
        ps_alloc_free(a, g->slots, g->n_slots * sizeof *g->slots);
    if (g->labels != NULL)
        ps_alloc_free(a, g->labels, g->cap * sizeof *g->labels);
    if (g->hashes != NULL)
        ps_alloc_free(a, g->hashes, g->cap * sizeof *g->hashes);
    ps_buf_done(&g->key);
    ps_alloc_free(a, g, sizeof *g);
}

/* One hash over names and values with their lengths; short sets are gathered on the stack. */
static bool
hash_labels(const ev_groups *g, ps_buf *key, mdl_labels l, uint64_t *ret)
{
    char small[512];
    size_t n = 0;
    for (size_t i = 0; i < l.n && n <= sizeof small; i++)
        n += l.items[i].name.len + l.items[i].value.len + 8;
    char *p = small;
    if (n > sizeof small) {
        n = 0;
        for (size_t i = 0; i < l.n; i++)
            n += l.items[i].name.len + l.items[i].value.len + 8;
        ps_buf_clear(key);
        if (!ps_buf_reserve(key, n))
            return false;
        p = key->ptr;
    }
    char *at = p;
    for (size_t i = 0; i < l.n; i++) {
        ps_put_u32le(at, (uint32_t)l.items[i].name.len);
        ps_put_u32le(at + 4, (uint32_t)l.items[i].value.len);
        memcpy(at + 8, l.items[i].name.ptr, l.items[i].name.len);
        at += 8 + l.items[i].name.len;
        memcpy(at, l.items[i].value.ptr, l.items[i].value.len);
        at += l.items[i].value.len;
    }
    *ret = ps_hash64((ps_str){p, n}, g->seed);
    return true;
}

/* The slot of the labels, or the free one where they belong. */
static size_t
find_slot(const ev_groups *g, mdl_labels l, uint64_t hash)
{
    size_t mask = g->n_slots - 1, i = hash & mask;
    while (g->slots[i] != 0) {
        uint32_t group = g->slots[i] - 1;
        if (g->hashes[group] == hash && mdl_labels_eq(g->labels[group], l))
            break;
        i = (i + 1) & mask;
    }
    return i;
}

static ps_status
grow(ev_groups *g)
{
    const ps_alloc *a = ev_alloc(g->c);
    size_t cap = g->cap * 2, n_slots = g->n_slots * 2;
    uint32_t *slots = ps_alloc_array(a, n_slots, sizeof *slots);
    mdl_labels *labels = ps_alloc_array(a, cap, sizeof *labels);
    uint64_t *hashes = ps_alloc_array(a, cap, sizeof *hashes);
    if (slots == NULL || labels == NULL || hashes == NULL) {
        if (slots != NULL)
            ps_alloc_free(a, slots, n_slots * sizeof *slots);
        if (labels != NULL)
            ps_alloc_free(a, labels, cap * sizeof *labels);
        if (hashes != NULL)
            ps_alloc_free(a, hashes, cap * sizeof *hashes);
        return ev_no_memory(g->c);
    }
    memcpy(labels, g->labels, g->n * sizeof *labels);
    memcpy(hashes, g->hashes, g->n * sizeof *hashes);
    for (size_t i = 0; i < g->n; i++) {
        size_t at = hashes[i] & (n_slots - 1);
        while (slots[at] != 0)
            at = (at + 1) & (n_slots - 1);
        slots[at] = (uint32_t)i + 1;
    }
    ps_alloc_free(a, g->slots, g->n_slots * sizeof *slots);
    ps_alloc_free(a, g->labels, g->cap * sizeof *labels);
    ps_alloc_free(a, g->hashes, g->cap * sizeof *hashes);
    g->slots = slots;
    g->labels = labels;
    g->hashes = hashes;
    g->cap = cap;
    g->n_slots = n_slots;
    return PS_OK;
}

ps_status
ev_groups_add(ev_groups *g, mdl_labels l, uint32_t *ret, bool *ret_new)
{
    uint64_t hash;
    if (!hash_labels(g, &g->key, l, &hash))
        return ev_no_memory(g->c);
    size_t slot = find_slot(g, l, hash);
    if (ret_new != NULL)
        *ret_new = g->slots[slot] == 0;
    if (g->slots[slot] == 0) {
        if (g->n == g->cap || g->n * 2 >= g->n_slots) {
            if (g->n >= UINT32_MAX / 4)
                return ev_fail(g->c, PS_ELIMIT, "too many series");
            PS_TRY(grow(g));
            slot = find_slot(g, l, hash);
        }
        g->labels[g->n] = l;
        g->hashes[g->n] = hash;
        g->slots[slot] = (uint32_t)++g->n;
    }
    *ret = g->slots[slot] - 1;
    return PS_OK;
}

bool
ev_groups_find(const ev_groups *g, mdl_labels l, uint32_t *ret)
{
    uint64_t hash;
    ps_buf key;
    ps_buf_init(&key, ev_alloc(g->c));
    bool hashed = hash_labels(g, &key, l, &hash);
    ps_buf_done(&key);
    if (!hashed)
        return false;
    size_t slot = find_slot(g, l, hash);
    if (g->slots[slot] == 0)
        return false;
    *ret = g->slots[slot] - 1;
    return true;
}

size_t
ev_groups_n(const ev_groups *g)
{
    return g->n;
}

mdl_labels
ev_groups_labels(const ev_groups *g, uint32_t group)
{
    return g->labels[group];
}
