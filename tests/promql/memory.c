/*
 * memory.c - series in memory, and a source over them.
 *
 * Series are kept sorted by labels, so that what matches comes out in the order that sources promise.
 * A view looks at all series for each selection: scripts have few.
 */
#include "tests/promql/memory.h"

#include <stdlib.h>

#include "lib/regex/regex.h"

void
memory_init(memory_store *m)
{
    memset(m, 0, sizeof *m);
    ps_arena_init(&m->arena, &ps_malloc, 0);
}

void
memory_clear(memory_store *m)
{
    for (size_t i = 0; i < m->n; i++) {
        free(m->series[i]->samples);
        free(m->series[i]->read);
        free(m->series[i]);
    }
    m->n = 0;
    ps_arena_done(&m->arena);
}

void
memory_done(memory_store *m)
{
    memory_clear(m);
    free(m->series);
    m->series = NULL;
    m->cap = 0;
}

/* ---- filling ----------------------------------------------------------------------------------- */

/* Where the series stands, or would stand. */
static size_t
find(const memory_store *m, mdl_labels labels, bool *found)
{
    size_t from = 0;
    size_t to = m->n;
    *found = false;
    while (from < to) {
        size_t mid = from + (to - from) / 2;
        int order = mdl_labels_cmp(m->series[mid]->labels, labels);
        if (order == 0) {
            *found = true;
            return mid;
        }
        if (order < 0)
            from = mid + 1;
        else
            to = mid;
    }
    return from;
}

static ps_status
copy_labels(ps_arena *arena, mdl_labels labels, mdl_labels *ret)
{
    mdl_label *items = ps_arena_array(arena, labels.n + 1, sizeof *items);
    if (items == NULL)
        return PS_ENOMEM;
    for (size_t i = 0; i < labels.n; i++) {
        PS_TRY(ps_arena_dup(arena, labels.items[i].name, &items[i].name));
        PS_TRY(ps_arena_dup(arena, labels.items[i].value, &items[i].value));
    }
    *ret = (mdl_labels){items, labels.n};
    return PS_OK;
}

static ps_status
add_series(memory_store *m, mdl_labels labels, size_t at)
{
    if (m->n == m->cap) {
        size_t cap = m->cap == 0 ? 16 : 2 * m->cap;
        memory_series **grown = realloc(m->series, cap * sizeof(memory_series *));
        if (grown == NULL)
            return PS_ENOMEM;
        m->series = grown;
        m->cap = cap;
    }
    memory_series *s = calloc(1, sizeof *s);
    if (s == NULL)
        return PS_ENOMEM;
    if (copy_labels(&m->arena, labels, &s->labels) != PS_OK) {
        free(s);
        return PS_ENOMEM;
    }
    memmove(m->series + at + 1, m->series + at, (m->n - at) * sizeof(memory_series *));
    m->series[at] = s;
    m->n++;
    return PS_OK;
}

ps_status
memory_append(memory_store *m, mdl_labels labels, const memory_sample *sample, ps_err *err)
{
    bool found;
    size_t at = find(m, labels, &found);
    if (!found && add_series(m, labels, at) != PS_OK)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    memory_series *s = m->series[at];
    if (s->n > 0 && s->samples[s->n - 1].t_ms >= sample->t_ms)
        return ps_fail(err, PS_EINVAL, "out of order sample at %lld ms", (long long)sample->t_ms);
    if (s->n == s->cap) {
        size_t cap = s->cap == 0 ? 16 : 2 * s->cap;
        memory_sample *grown = realloc(s->samples, cap * sizeof *grown);
        if (grown == NULL)
            return ps_fail(err, PS_ENOMEM, "out of memory");
        s->samples = grown;
        s->cap = cap;
    }
    memory_sample copy = *sample;
    if (sample->h != NULL && hst_copy(&m->arena, sample->h, &copy.h) != PS_OK)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    s->samples[s->n++] = copy;
    s->histograms |= copy.h != NULL;
    s->starts |= copy.start_ms != 0;
    return PS_OK;
}

ps_status
memory_settle(memory_store *m)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->series[i]->histograms)
            PS_TRY(memory_hints(&m->arena, m->series[i]));
    }
    return PS_OK;
}

/* ---- the source -------------------------------------------------------------------------------- */

typedef struct view_list { /* ev_series_list.impl */
    memory_series **series;
    int64_t from_ms, to_ms;
    bool newest_only;
} view_list;

static ps_status
select_one(memory_view *v, const ev_selection *sel, ev_series_list *ret, ps_err *err)
{
    const memory_store *m = v->store;
    ps_alloc alloc = ps_arena_as_alloc(&v->arena);
    re_matcher **matchers = ps_arena_array(&v->arena, sel->n_matchers + 1, sizeof *matchers);
    mdl_labels *labels = ps_arena_array(&v->arena, m->n + 1, sizeof *labels);
    memory_series **series = ps_arena_array(&v->arena, m->n + 1, sizeof(memory_series *));
    view_list *list = ps_arena_array(&v->arena, 1, sizeof *list);
    if (matchers == NULL || labels == NULL || series == NULL || list == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    size_t made = 0;
    ps_status status = PS_OK;
    for (; made < sel->n_matchers && status == PS_OK; made += status == PS_OK)
        status = re_matcher_new(&alloc, &sel->matchers[made], &matchers[made], err);
    size_t n = 0;
    for (size_t i = 0; i < m->n && status == PS_OK; i++) {
        if (re_matchers_match(matchers, made, m->series[i]->labels)) {
            labels[n] = m->series[i]->labels;
            series[n++] = m->series[i];
        }
    }
    for (size_t i = 0; i < made; i++)
        re_matcher_free(matchers[i]);
    *list = (view_list){series, sel->from_ms, sel->to_ms, sel->newest_only};
    *ret = (ev_series_list){n, labels, list};
    return status;
}

static ps_status
view_select(void *self, const ev_selection *selections, size_t n, ev_series_list *ret, ps_err *err)
{
    for (size_t i = 0; i < n; i++)
        PS_TRY(select_one(self, &selections[i], &ret[i], err));
    return PS_OK;
}

/* Number of the first sample at or after t_ms. */
static size_t
lower_bound(const memory_series *s, int64_t t_ms)
{
    size_t from = 0;
    size_t to = s->n;
    while (from < to) {
        size_t mid = from + (to - from) / 2;
        if (s->samples[mid].t_ms < t_ms)
            from = mid + 1;
        else
            to = mid;
    }
    return from;
}

static ps_status
view_read(void *self, const ev_series_list *list, size_t series, size_t worker, ev_samples *into,
          ps_err *err)
{
    memory_view *v = self;
    (void)worker;
    size_t call = __atomic_add_fetch(&v->reads, 1, __ATOMIC_RELAXED);
    if (v->fail_read_from != 0 && call >= v->fail_read_from)
        return ps_fail(err, PS_EUNAVAILABLE, "the store is away");
    const view_list *window = list->impl;
    const memory_series *s = window->series[series];
    size_t from = lower_bound(s, window->from_ms);
    size_t to = from;
    while (to < s->n && s->samples[to].t_ms <= window->to_ms)
        to++;
    if (window->newest_only && to - from > 1)
        from = to - 1;
    if (ev_samples_reserve(into, into->n + (to - from), s->histograms, s->starts) != PS_OK)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    for (size_t i = from; i < to; i++) {
        size_t at = into->n++;
        into->t_ms[at] = s->samples[i].t_ms;
        into->v[at] = s->samples[i].v;
        if (into->h != NULL)
            into->h[at] = s->read == NULL ? NULL : s->read[i];
        if (into->start_ms != NULL)
            into->start_ms[at] = s->samples[i].start_ms;
    }
    return PS_OK;
}

void
memory_view_open(memory_view *v, const memory_store *store, const ps_alloc *alloc)
{
    memset(v, 0, sizeof *v);
    v->store = store;
    ps_arena_init(&v->arena, alloc, 0);
}

void
memory_view_close(memory_view *v)
{
    ps_arena_done(&v->arena);
}

ev_source
memory_view_source(memory_view *v)
{
    return (ev_source){.self = v, .select = view_select, .read = view_read};
}
