/*
 * label_known.c - what a view knows that does not hold all series: the names of all metrics, by which those are
 * found that have to be asked for, and which of the ids that come back it has not met.
 *
 * An id that was found in the index once is in there for good. So those of the last answers are remembered as
 * a set, and usually a request compares two sets of bits and looks up no id at all.
 *
 * So are the last answers themselves for metrics of which far more series are held than live.
 */
#include "connector/catalog/label_view.h"

#include <stdlib.h>

enum { TAIL = 256 }; /* metrics that may stand unsorted at the end, besides an eighth of all */

/* ---- metrics by name ---------------------------------------------------------------------------- */

static int
by_name(const void *a, const void *b)
{
    const label_metric *x = a, *y = b;
    int c = ps_str_cmp(x->name, y->name);
    return c != 0 ? c : (x->id > y->id) - (x->id < y->id);
}

static void
sort_metrics(label_view *v)
{
    qsort(v->metrics, v->n_metrics, sizeof(*v->metrics), by_name);
    v->n_sorted = v->n_metrics;
}

static size_t
first_named(const label_view *v, ps_str name)
{
    size_t lo = 0, hi = v->n_sorted;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (ps_str_cmp(v->metrics[mid].name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool
knows_metric(const label_view *v, int32_t id, ps_str name)
{
    for (size_t i = first_named(v, name); i < v->n_sorted && ps_str_eq(v->metrics[i].name, name); i++) {
        if (v->metrics[i].id == id)
            return true;
    }
    for (size_t i = v->n_sorted; i < v->n_metrics; i++) {
        if (v->metrics[i].id == id)
            return true;
    }
    return false;
}

static ps_status
push_metric(label_view *v, int32_t id, ps_str name, ps_err *err)
{
    if (v->n_metrics == v->cap_metrics) {
        size_t cap = v->cap_metrics == 0 ? 64 : v->cap_metrics * 2;
        label_metric *more = realloc(v->metrics, cap * sizeof(*more));
        if (more == NULL)
            return ps_fail(err, PS_ENOMEM, "out of memory");
        v->metrics = more;
        v->cap_metrics = cap;
    }
    ps_str copy;
    if (ps_arena_dup(&v->names, name, &copy) != PS_OK)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    v->metrics[v->n_metrics++] = (label_metric){id, copy};
    return PS_OK;
}

ps_status
label_view_add_metric(label_view *v, int32_t id, ps_str name, ps_err *err)
{
    if (v->extent == LABEL_ALL || knows_metric(v, id, name))
        return PS_OK;
    PS_TRY(push_metric(v, id, name, err));
    if (v->n_metrics - v->n_sorted > TAIL + v->n_sorted / 8)
        sort_metrics(v);
    return PS_OK;
}

typedef struct naming { /* the metrics that fit one query */
    const label_view *v;
    const label_query *q;
    ps_arena *arena;
    idx_metric_ids *ret;
    size_t max;
} naming;

/* Puts it among the results, once. */
static void
take_metric(naming *n, size_t i)
{
    const label_metric *m = &n->v->metrics[i];
    for (size_t k = 0; k < n->q->n_matchers; k++) {
        const re_matcher *matcher = n->q->matchers[k];
        if (ps_str_eq_c(re_matcher_of(matcher)->name, MDL_METRIC_NAME) &&
            !re_matcher_matches(matcher, m->name))
            return;
    }
    for (size_t k = 0; k < n->ret->n; k++) {
        if (n->ret->items[k] == m->id)
            return;
    }
    if (n->ret->n == n->max)
        n->ret->all = true;
    else
        n->ret->items[n->ret->n++] = m->id;
}

/* A matcher on the name that all must pass; NULL: any name will do. Best is one that says which names. */
static const re_matcher *
name_matcher(const label_query *q)
{
    const re_matcher *best = NULL;
    for (size_t k = 0; k < q->n_matchers; k++) {
        const mdl_matcher *m = re_matcher_of(q->matchers[k]);
        bool positive = m->type == MDL_MATCH_EQ || m->type == MDL_MATCH_RE;
        if (!ps_str_eq_c(m->name, MDL_METRIC_NAME))
            continue;
        if (best == NULL || (positive && re_matcher_set(q->matchers[k], NULL) > 0))
            best = q->matchers[k];
    }
    return best;
}

static void
name_query(naming *n)
{
    const label_view *v = n->v;
    const re_matcher *best = name_matcher(n->q);
    const ps_str *set = NULL;
    size_t n_set = 0;
    if (best == NULL) {
        n->ret->all = true;
        return;
    }
    mdl_match type = re_matcher_of(best)->type;
    if (type == MDL_MATCH_EQ || type == MDL_MATCH_RE)
        n_set = re_matcher_set(best, &set);
    for (size_t i = 0; i < n_set && !n->ret->all; i++) {
        for (size_t k = first_named(v, set[i]);
             k < v->n_sorted && ps_str_eq(v->metrics[k].name, set[i]); k++)
            take_metric(n, k);
    }
    for (size_t k = n_set > 0 ? v->n_sorted : 0; k < v->n_metrics && !n->ret->all; k++)
        take_metric(n, k);
}

ps_status
label_view_named(label_view *v, const label_query *q, size_t n, size_t max, ps_arena *arena,
                 idx_metric_ids *ret, ps_err *err)
{
    *ret = (idx_metric_ids){.items = ps_arena_array(arena, max + 1, sizeof(*ret->items))};
    if (ret->items == NULL)
        return ps_fail(err, PS_ENOMEM, "the query needs more memory than it may use");
    pthread_rwlock_rdlock(&v->lock);
    for (size_t i = 0; i < n && !ret->all; i++) {
        naming one = {v, &q[i], arena, ret, max};
        name_query(&one);
    }
    pthread_rwlock_unlock(&v->lock);
    return PS_OK;
}

/* ---- what is missing ------------------------------------------------------------------------------ */

bool
label_view_is_whole(const label_view *v)
{
    return v->extent == LABEL_ALL;
}

int64_t
label_view_since_ms(const label_view *v)
{
    return v->since_ms;
}

uint64_t
label_view_taught(const label_view *v)
{
    return atomic_load(&v->taught);
}

typedef struct missing {
    const label_view *v;
    const ps_alloc *alloc;
    int64_t *ids;
    size_t n, cap;
    size_t known; /* of those that were not seen before */
    bool failed;
} missing;

static void
look_at(void *self, int64_t id)
{
    missing *m = self;
    if (idx_knows(m->v->x, id)) {
        m->known++;
        return;
    }
    if (m->n == m->cap && !m->failed) {
        size_t cap = m->cap == 0 ? 256 : m->cap * 2;
        int64_t *ids = m->alloc->realloc(m->alloc->self, m->ids, m->cap * sizeof(*ids),
                                         cap * sizeof(*ids));
        m->failed = ids == NULL;
        m->ids = ids == NULL ? m->ids : ids;
        m->cap = ids == NULL ? m->cap : cap;
    }
    if (!m->failed)
        m->ids[m->n++] = id;
}

typedef struct adding {
    mdl_ids *to;
    bool failed;
} adding;

static void
add_run(void *self, int64_t lo, int64_t hi)
{
    adding *a = self;
    a->failed = a->failed || mdl_ids_add(a->to, lo, hi) != PS_OK;
}

/* All of them are in the index. */
static void
note_seen(label_view *v, mdl_ids *ids)
{
    adding a = {.to = &v->seen};
    pthread_rwlock_wrlock(&v->seen_lock);
    mdl_ids_runs(ids, add_run, &a);
    if (a.failed || mdl_ids_bytes(&v->seen) > v->max_bytes / 16) {
        mdl_ids_done(&v->seen);
        mdl_ids_init(&v->seen, &ps_malloc);
    }
    pthread_rwlock_unlock(&v->seen_lock);
}

ps_status
label_view_unknown(label_view *v, mdl_ids *ids, const ps_alloc *alloc, int64_t **ret, size_t *ret_n,
                   size_t *ret_cap)
{
    missing m = {.v = v, .alloc = alloc};
    pthread_rwlock_rdlock(&v->lock);
    pthread_rwlock_rdlock(&v->seen_lock);
    mdl_ids_missing(ids, &v->seen, look_at, &m);
    pthread_rwlock_unlock(&v->seen_lock);
    pthread_rwlock_unlock(&v->lock);
    if (m.n == 0 && !m.failed && m.known > 0)
        note_seen(v, ids);
    *ret = m.ids;
    *ret_n = m.n;
    *ret_cap = m.cap;
    return m.failed ? PS_ENOMEM : PS_OK;
}

/* ---- guesses -------------------------------------------------------------------------------------- */

static label_guess *
guess_of(label_view *v, int32_t tenant_id, int32_t metric_id)
{
    return &v->guesses[((uint32_t)metric_id ^ (uint32_t)tenant_id * 31) % LABEL_GUESSES];
}

static void
add_id(void *self, int64_t id)
{
    adding *a = self;
    a->failed = a->failed || mdl_ids_add(a->to, id, id) != PS_OK;
}

static bool
copy_ids(mdl_ids *to, const mdl_ids *from)
{
    static const mdl_ids none = {0};
    adding a = {.to = to};
    mdl_ids_missing(from, &none, add_id, &a);
    return !a.failed;
}

bool
label_view_guess(label_view *v, int32_t tenant_id, int32_t metric_id, int64_t from_ms,
                 int64_t to_ms, mdl_ids *ret)
{
    const label_guess *g = guess_of(v, tenant_id, metric_id);
    pthread_rwlock_rdlock(&v->seen_lock);
    bool found = g->metric_id == metric_id && g->tenant_id == tenant_id &&
                 g->from_ms == mdl_window_start_ms(from_ms) &&
                 g->to_ms == mdl_window_start_ms(to_ms) && copy_ids(ret, &g->ids);
    pthread_rwlock_unlock(&v->seen_lock);
    return found;
}

/* Under the lock. */
static void
drop_guess(label_view *v, label_guess *g)
{
    v->guess_bytes -= mdl_ids_bytes(&g->ids);
    mdl_ids_done(&g->ids);
    g->metric_id = 0;
}

void
label_view_keep_guess(label_view *v, int32_t tenant_id, int32_t metric_id, int64_t from_ms,
                      int64_t to_ms, const mdl_ids *ids)
{
    const size_t most = v->max_bytes / 16;
    label_guess made = {.tenant_id = tenant_id,
                        .metric_id = metric_id,
                        .from_ms = mdl_window_start_ms(from_ms),
                        .to_ms = mdl_window_start_ms(to_ms)};
    mdl_ids_init(&made.ids, &ps_malloc);
    if (mdl_ids_bytes(ids) > most || !copy_ids(&made.ids, ids)) {
        mdl_ids_done(&made.ids);
        return;
    }
    label_guess *g = guess_of(v, tenant_id, metric_id);
    pthread_rwlock_wrlock(&v->seen_lock);
    drop_guess(v, g);
    *g = made;
    v->guess_bytes += mdl_ids_bytes(&made.ids);
    for (size_t i = 0; v->guess_bytes > most && i < LABEL_GUESSES; i++)
        drop_guess(v, &v->guesses[i]);
    pthread_rwlock_unlock(&v->seen_lock);
}
