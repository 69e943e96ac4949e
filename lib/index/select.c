/*
 * select.c - which series match.
 *
 * Each matcher becomes a test: a set of pairs of its label name, of which a series must have one (the
 * matcher does not match the empty value, so the label must be there) or must have none (it matches
 * the empty value: the set holds what it does not match). The test with the fewest series behind it
 * gives the candidates, the others are asked of each candidate's own labels. Where no test requires
 * anything, all series of the tenant are candidates. If only series of a set count, and it is a good deal smaller
 * than that, those of the set are the candidates: of a metric with a long past few live.
 *
 * Candidates that are all series of one metric (a metric's name, usually) come from the metric's own
 * list, in order. Others are sorted by metric and position in it; then the metrics' runs, which rarely
 * interleave, are put one behind the other or, if they do interleave, sorted by comparing.
 */
#include "lib/index/internal.h"

enum { POLL_EVERY = 4096 };

typedef struct test {
    const re_matcher *matcher;
    bool want; /* a series must have one of the pairs; else: none */
    const uint32_t *pairs;
    size_t n;
    const uint64_t *bits; /* the same as bits over all pairs; NULL with a single one */
    uint64_t series;      /* that the pairs have together, deleted ones included */
    bool lazy;            /* nothing was gathered: each candidate's value of `name` is asked */
    uint32_t name;
} test;

typedef struct selection {
    const idx *x;
    const idx_query *q;
    ps_arena *arena;
    ps_err *err;
    uint32_t tenant;
    test *tests;
    size_t n_tests;
    uint32_t *slots; /* what was found so far */
    size_t n, cap;
    bool sorted; /* they come in order of their label sets */
    size_t polled;
} selection;

static ps_status
no_memory(const selection *s)
{
    return ps_fail(s->err, PS_ENOMEM, "the query needs more memory than it may use");
}

static ps_status
poll_now_and_then(selection *s)
{
    if (++s->polled % POLL_EVERY != 0 || s->q->should_stop == NULL)
        return PS_OK;
    return s->q->should_stop(s->q->self) ? ps_fail(s->err, PS_ECANCELED, "the query was canceled")
                                         : PS_OK;
}

/* ---- tests ------------------------------------------------------------------------------------ */

typedef struct hits { /* pairs that are being gathered */
    uint32_t *items;
    size_t n, cap;
} hits;

static ps_status
add_hit(selection *s, hits *h, uint32_t pair)
{
    if (h->n == h->cap) {
        size_t cap = h->cap == 0 ? 8 : h->cap * 2;
        uint32_t *items = ps_arena_new(s->arena, cap * sizeof(*items));
        if (items == NULL)
            return no_memory(s);
        if (h->n > 0)
            memcpy(items, h->items, h->n * sizeof(*items));
        h->items = items;
        h->cap = cap;
    }
    h->items[h->n++] = pair;
    return PS_OK;
}

static ps_status
scan_values(selection *s, const test *t, const idx_name *name, hits *h)
{
    const idx *x = s->x;
    ps_str prefix = t->want ? re_matcher_prefix(t->matcher) : (ps_str){NULL, 0};
    size_t i = prefix.len > 0 ? idx_values_seek(x, name, prefix) : 0;
    for (; i < name->n_sorted; i++) {
        uint32_t pair = name->values[i];
        ps_str value = x->pairs[pair].label.value;
        if (prefix.len > 0 && !ps_str_starts(value, prefix))
            break;
        PS_TRY(poll_now_and_then(s));
        if (re_matcher_matches(t->matcher, value) == t->want)
            PS_TRY(add_hit(s, h, pair));
    }
    return PS_OK;
}

/* The pairs of a label name that its matcher matches or, if it may be absent, does not match. */
static ps_status
gather_pairs(selection *s, test *t, uint32_t name, hits *h)
{
    const mdl_matcher *m = re_matcher_of(t->matcher);
    const ps_str *set;
    size_t n_set = 0;
    if (m->type == MDL_MATCH_NE && m->value.len > 0 && !t->want) {
        set = &m->value; /* what it does not match is one value */
        n_set = 1;
    } else if (t->want && (m->type == MDL_MATCH_EQ || m->type == MDL_MATCH_RE)) {
        n_set = re_matcher_set(t->matcher, &set);
    }
    if (n_set == 0)
        return scan_values(s, t, &s->x->names[name], h);
    for (size_t i = 0; i < n_set; i++) {
        uint32_t pair = idx_pair_find(s->x, name, set[i]);
        if (pair != IDX_NONE)
            PS_TRY(add_hit(s, h, pair));
    }
    return PS_OK;
}

/* Sets the bits of the pairs, and keeps each pair once ("a|b|a"). */
static size_t
unique_hits(const hits *h, uint64_t *bits)
{
    size_t n = 0;
    for (size_t i = 0; i < h->n; i++) {
        uint64_t bit = UINT64_C(1) << h->items[i] % 64, *word = &bits[h->items[i] / 64];
        if ((*word & bit) == 0)
            h->items[n++] = h->items[i];
        *word |= bit;
    }
    return n;
}

/* Does gathering mean to look at every value? */
static bool
needs_scan(const re_matcher *matcher)
{
    const mdl_matcher *m = re_matcher_of(matcher);
    return (m->type == MDL_MATCH_RE || m->type == MDL_MATCH_NRE) &&
           re_matcher_set(matcher, NULL) == 0 && re_matcher_prefix(matcher).len == 0;
}

/* *ret_none: nothing can match. `others`: series behind the best test so far. */
static ps_status
make_test(selection *s, const re_matcher *matcher, uint64_t others, bool *ret_none)
{
    const idx *x = s->x;
    uint32_t name = idx_name_find(x, s->tenant, re_matcher_of(matcher)->name);
    test t = {.matcher = matcher, .want = !re_matcher_matches_empty(matcher), .name = name};
    hits h = {0};
    if (name != IDX_NONE && others < x->names[name].n_sorted && needs_scan(matcher)) {
        t.lazy = true;
        s->tests[s->n_tests++] = t;
        return PS_OK;
    }
    if (name != IDX_NONE)
        PS_TRY(gather_pairs(s, &t, name, &h));
    if (h.n == 0) {
        *ret_none = t.want;
        return PS_OK; /* otherwise all pass */
    }
    if (h.n > 1) {
        uint64_t *bits = ps_arena_array(s->arena, x->n_pairs / 64 + 1, sizeof(*bits));
        if (bits == NULL)
            return no_memory(s);
        t.bits = bits;
        h.n = unique_hits(&h, bits);
    }
    t.pairs = h.items;
    t.n = h.n;
    for (size_t i = 0; i < h.n; i++)
        t.series += x->pairs[h.items[i]].slots.n;
    s->tests[s->n_tests++] = t;
    return PS_OK;
}

static bool
passes_lazily(const idx *x, const test *t, const uint32_t *pairs)
{
    for (uint32_t i = 1; i <= pairs[0]; i++) {
        if (x->keys[pairs[i]].name == t->name)
            return re_matcher_matches(t->matcher, x->pairs[pairs[i]].label.value);
    }
    return !t->want;
}

static bool
passes(const idx *x, const test *t, const uint32_t *pairs)
{
    if (t->lazy)
        return passes_lazily(x, t, pairs);
    if (t->n == 1) {
        for (uint32_t i = 1; i <= pairs[0]; i++) {
            if (pairs[i] == t->pairs[0])
                return t->want;
        }
    } else {
        for (uint32_t i = 1; i <= pairs[0]; i++) {
            if (t->bits[pairs[i] / 64] >> pairs[i] % 64 & 1)
                return t->want;
        }
    }
    return !t->want;
}

/* ---- candidates ------------------------------------------------------------------------------- */

static ps_status
consider(selection *s, uint32_t slot, const test *given)
{
    const idx_slot *c = &s->x->slots[slot];
    PS_TRY(poll_now_and_then(s));
    if (!idx_slot_alive(c) || (s->q->within != NULL && !mdl_ids_has(s->q->within, c->id)))
        return PS_OK;
    for (size_t i = 0; i < s->n_tests; i++) {
        if (&s->tests[i] != given && !passes(s->x, &s->tests[i], c->pairs))
            return PS_OK;
    }
    if (s->q->max_series != 0 && s->n == s->q->max_series)
        return ps_fail(s->err, PS_ELIMIT, "the query selects more than %zu series",
                       s->q->max_series);
    if (s->n == s->cap) {
        size_t cap = s->cap == 0 ? 256 : s->cap * 2;
        uint32_t *slots = ps_arena_new(s->arena, cap * sizeof(*slots));
        if (slots == NULL)
            return no_memory(s);
        if (s->n > 0)
            memcpy(slots, s->slots, s->n * sizeof(*slots));
        s->slots = slots;
        s->cap = cap;
    }
    s->slots[s->n++] = slot;
    return PS_OK;
}

static ps_status
from_metric(selection *s, const idx_metric *m, const test *given)
{
    for (size_t i = 0; i < m->n_sorted; i++) {
        if (s->sorted && s->q->limit != 0 && s->n == s->q->limit)
            break;
        PS_TRY(consider(s, m->order[i], given));
    }
    return PS_OK;
}

static ps_status
from_postings(selection *s, const test *given)
{
    for (size_t i = 0; i < given->n; i++) { /* a series has one pair of a name: none comes twice */
        idx_walk w;
        idx_walk_begin(&s->x->pairs[given->pairs[i]].slots, &w);
        while (idx_walk_next(&w))
            PS_TRY(consider(s, w.slot, given));
    }
    return PS_OK;
}

/* Are the pair's series those of one metric, all of them? */
static const idx_metric *
whole_metric(const idx *x, uint32_t pair)
{
    const idx_pair_entry *p = &x->pairs[pair];
    return p->metric != IDX_NONE && x->metrics[p->metric].added == p->slots.n
               ? &x->metrics[p->metric]
               : NULL;
}

/* The test that gives the candidates; NULL: none can. */
static const test *
best_test(const selection *s)
{
    const test *best = NULL;
    for (size_t i = 0; i < s->n_tests; i++) {
        const test *t = &s->tests[i];
        if (t->want && !t->lazy && (best == NULL || t->series < best->series))
            best = t;
    }
    return best;
}

/* Cheap matchers first: where they leave few candidates, regular expressions are better run over
 * those than over all values. */
static ps_status
make_tests(selection *s, bool *ret_none)
{
    *ret_none = false;
    for (int scans = 0; scans < 2; scans++) {
        for (size_t i = 0; i < s->q->n_matchers && !*ret_none; i++) {
            const re_matcher *m = s->q->matchers[i];
            const test *best = best_test(s);
            if (needs_scan(m) == (scans == 1))
                PS_TRY(make_test(s, m, best != NULL ? best->series : UINT64_MAX, ret_none));
        }
    }
    return PS_OK;
}

static ps_status
consider_wanted(void *self, uint32_t slot)
{
    return consider(self, slot, NULL);
}

static ps_status
find_slots(selection *s)
{
    const idx *x = s->x;
    const test *best = best_test(s);
    if (idx_few_within(s->q->within, best == NULL ? x->n_slots : best->series))
        return idx_each_within(x, s->q->within, s->tenant, consider_wanted, s);
    if (best == NULL) {
        const idx_tenant *t = &x->tenants[s->tenant];
        s->sorted = t->n_metrics == 1;
        for (size_t i = 0; i < t->n_metrics; i++)
            PS_TRY(from_metric(s, &x->metrics[t->metrics[i]], NULL));
        return PS_OK;
    }
    const idx_metric *m = best->n == 1 ? whole_metric(x, best->pairs[0]) : NULL;
    s->sorted = m != NULL;
    return m != NULL ? from_metric(s, m, best) : from_postings(s, best);
}

/* ---- order ------------------------------------------------------------------------------------ */

/* Runs begin at starts[i] and end before starts[i + 1]. True: one behind the other in some order,
 * which is applied. */
static bool
join_runs(selection *s, uint32_t *starts, size_t n_runs, uint32_t *scratch, uint32_t *order,
          uint32_t *firsts)
{
    /* sorted by their first slots; a slot finds its run by its metric's position in `starts` */
    for (size_t i = 0; i < n_runs; i++)
        firsts[i] = s->slots[starts[i]];
    idx_sort(s->x, firsts, order, n_runs, idx_slot_cmp);
    size_t to = 0;
    for (size_t i = 0; i < n_runs; i++) {
        uint32_t metric = s->x->slots[firsts[i]].metric;
        size_t lo = 0, hi = n_runs - 1; /* runs stand in order of metric numbers */
        while (lo < hi) {
            size_t mid = lo + (hi - lo) / 2;
            if (s->x->slots[s->slots[starts[mid]]].metric < metric)
                lo = mid + 1;
            else
                hi = mid;
        }
        size_t n = starts[lo + 1] - starts[lo];
        memcpy(scratch + to, s->slots + starts[lo], n * sizeof(*scratch));
        if (to > 0 && idx_slot_cmp(s->x, scratch[to - 1], scratch[to]) > 0)
            return false;
        to += n;
    }
    memcpy(s->slots, scratch, to * sizeof(*scratch));
    return true;
}

static ps_status
sort_slots(selection *s)
{
    const idx *x = s->x;
    uint64_t *keys = ps_arena_new(s->arena, s->n * 2 * sizeof(*keys));
    uint32_t *starts = ps_arena_new(s->arena, (s->n + 1) * sizeof(*starts));
    if (keys == NULL || starts == NULL)
        return no_memory(s);
    for (size_t i = 0; i < s->n; i++)
        keys[i] = (uint64_t)x->slots[s->slots[i]].metric << 32 | x->slots[s->slots[i]].pos;
    uint64_t *sorted = idx_sort_u64(keys, keys + s->n, s->n);
    size_t n_runs = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (i == 0 || sorted[i] >> 32 != sorted[i - 1] >> 32)
            starts[n_runs++] = (uint32_t)i;
        s->slots[i] = x->metrics[sorted[i] >> 32].order[(uint32_t)sorted[i]];
    }
    starts[n_runs] = (uint32_t)s->n;
    if (n_runs < 2)
        return PS_OK;
    uint32_t *scratch = (uint32_t *)keys; /* room for 4 n of them */
    if (!join_runs(s, starts, n_runs, scratch, scratch + s->n, scratch + 2 * s->n))
        idx_sort(x, s->slots, scratch, s->n, idx_slot_cmp);
    return PS_OK;
}

/* ---- result ------------------------------------------------------------------------------------- */

static ps_status
make_result(selection *s, idx_found *ret)
{
    const idx *x = s->x;
    size_t n_labels = 0;
    for (size_t i = 0; i < s->n; i++)
        n_labels += x->slots[s->slots[i]].pairs[0];
    idx_series *items = ps_arena_new(s->arena, s->n * sizeof(*items));
    mdl_label *labels = ps_arena_new(s->arena, n_labels * sizeof(*labels));
    if (items == NULL || labels == NULL)
        return no_memory(s);
    for (size_t i = 0; i < s->n; i++) {
        const idx_slot *slot = &x->slots[s->slots[i]];
        uint32_t n = slot->pairs[0];
        PS_TRY(poll_now_and_then(s));
        for (uint32_t k = 0; k < n; k++)
            labels[k] = x->pairs[slot->pairs[k + 1]].label;
        items[i] = (idx_series){slot->id, x->metrics[slot->metric].id, {labels, n}};
        labels += n;
    }
    *ret = (idx_found){items, s->n};
    return PS_OK;
}

/* Fills s->slots; *ret_too_many: it would mean to look at more candidates than that. */
static ps_status
begin(selection *s, uint64_t max_candidates, bool *ret_too_many)
{
    const idx *x = s->x;
    size_t at;
    bool none;
    *ret_too_many = false;
    PS_TRY(idx_check_usable(x, s->err));
    if (!x->settled)
        return ps_fail(s->err, PS_EINTERNAL, "the label index is being changed");
    if (!idx_tenant_find(x, s->q->tenant_id, &at))
        return PS_OK;
    s->tenant = x->tenants_by_id[at];
    s->tests = ps_arena_array(s->arena, s->q->n_matchers + 1, sizeof(*s->tests));
    if (s->tests == NULL)
        return no_memory(s);
    PS_TRY(make_tests(s, &none));
    if (none)
        return PS_OK;
    if (max_candidates != 0) {
        const test *best = best_test(s);
        *ret_too_many = (best == NULL ? x->n_slots : best->series) > max_candidates;
        if (*ret_too_many)
            return PS_OK;
    }
    return find_slots(s);
}

ps_status
idx_find_slots(const idx *x, const idx_query *q, uint64_t max_candidates, ps_arena *arena,
               idx_slots *ret, ps_err *err)
{
    selection s = {.x = x, .q = q, .arena = arena, .err = err};
    bool too_many;
    PS_TRY(begin(&s, max_candidates, &too_many));
    *ret = (idx_slots){s.slots, s.n, s.sorted, too_many};
    return PS_OK;
}

ps_status
idx_select(const idx *x, const idx_query *q, ps_arena *arena, idx_found *ret, ps_err *err)
{
    selection s = {.x = x, .q = q, .arena = arena, .err = err};
    bool too_many;
    *ret = (idx_found){0};
    PS_TRY(begin(&s, 0, &too_many));
    if (s.n == 0)
        return PS_OK;
    if (!s.sorted && s.n > 1)
        PS_TRY(sort_slots(&s));
    if (q->limit != 0 && s.n > q->limit)
        s.n = q->limit;
    return make_result(&s, ret);
}
