/*
 * harness.c - see harness.h. Matching is the slow and obvious way: every series, every matcher.
 */
#include "tests/unit/eval/harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "lib/regex/regex.h"
#include "tests/unit/support.h"

void
store_init(store *s)
{
    memset(s, 0, sizeof *s);
    ps_arena_init(&s->arena, &ps_malloc, 0);
}

void
store_done(store *s)
{
    ps_arena_done(&s->arena);
}

static store_series *
new_series(store *s, const char *text, int64_t t0, int64_t step_ms, size_t n)
{
    pql_error error;
    assert_true(s->n < STORE_MAX_SERIES);
    store_series *x = &s->series[s->n++];
    char *copy = ps_arena_new(&s->arena, strlen(text) + 1);
    memcpy(copy, text, strlen(text) + 1);
    assert_int_equal(pql_parse_series(&s->arena, ps_str_c(copy), &x->labels, &error), PS_OK);
    x->n = n;
    x->t_ms = ps_arena_array(&s->arena, n + 1, sizeof *x->t_ms);
    x->v = ps_arena_array(&s->arena, n + 1, sizeof *x->v);
    for (size_t i = 0; i < n; i++)
        x->t_ms[i] = t0 + (int64_t)i * step_ms;
    return x;
}

store_series *
store_add(store *s, const char *series, int64_t t0, int64_t step_ms, size_t n, const double *values,
          double slope)
{
    store_series *x = new_series(s, series, t0, step_ms, n);
    for (size_t i = 0; i < n; i++)
        x->v[i] = values != NULL ? values[i] : (double)i * slope;
    return x;
}

store_series *
store_add_hists(store *s, const char *series, int64_t t0, int64_t step_ms, size_t n,
                const char *histogram)
{
    store_series *x = new_series(s, series, t0, step_ms, n);
    const hst_hist *one;
    bool hint;
    ps_err err;
    assert_int_equal(hst_parse(&s->arena, ps_str_c(histogram), &one, &hint, &err), PS_OK);
    x->h = ps_arena_array(&s->arena, n + 1, sizeof *x->h);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(hst_mul(&s->arena, one, (double)(i + 1), &x->h[i]), PS_OK);
    return x;
}

/* ---- source -------------------------------------------------------------------------------------- */

typedef struct found {
    size_t *series;
    int64_t from_ms, to_ms;
} found;

static store *sorting;

static int
by_labels(const void *a, const void *b)
{
    return mdl_labels_cmp(sorting->series[*(const size_t *)a].labels,
                          sorting->series[*(const size_t *)b].labels);
}

static ps_status
select_one(store *s, const ev_selection *sel, ev_series_list *ret, ps_err *err)
{
    re_matcher *matchers[16];
    found *f = ps_arena_array(&s->arena, 1, sizeof *f);
    f->series = ps_arena_array(&s->arena, s->n + 1, sizeof *f->series);
    f->from_ms = sel->from_ms;
    f->to_ms = sel->to_ms;
    assert_true(sel->n_matchers <= 16);
    for (size_t i = 0; i < sel->n_matchers; i++)
        PS_TRY(re_matcher_new(&ps_malloc, &sel->matchers[i], &matchers[i], err));
    ret->n = 0;
    for (size_t i = 0; i < s->n; i++)
        if (re_matchers_match(matchers, sel->n_matchers, s->series[i].labels))
            f->series[ret->n++] = i;
    for (size_t i = 0; i < sel->n_matchers; i++)
        re_matcher_free(matchers[i]);
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    sorting = s;
    qsort(f->series, ret->n, sizeof *f->series, by_labels);
    pthread_mutex_unlock(&lock);
    mdl_labels *labels = ps_arena_array(&s->arena, ret->n + 1, sizeof *labels);
    for (size_t i = 0; i < ret->n; i++)
        labels[i] = s->series[f->series[i]].labels;
    ret->labels = labels;
    ret->impl = f;
    return PS_OK;
}

static ps_status
store_select(void *self, const ev_selection *selections, size_t n, ev_series_list *ret, ps_err *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    ps_status status = PS_OK;
    pthread_mutex_lock(&lock); /* the arena of the store is used by queries at the same time */
    for (size_t i = 0; i < n && status == PS_OK; i++)
        status = select_one(self, &selections[i], &ret[i], err);
    pthread_mutex_unlock(&lock);
    return status;
}

static ps_status
store_read(void *self, const ev_series_list *list, size_t series, size_t worker, ev_samples *into,
           ps_err *err)
{
    store *s = self;
    const found *f = list->impl;
    const store_series *x = &s->series[f->series[series]];
    (void)worker;
    __atomic_fetch_add(&s->reads, 1, __ATOMIC_RELAXED);
    if (s->fail_reads != PS_OK)
        return ps_fail(err, s->fail_reads, "the store is away");
    PS_TRY(ev_samples_reserve(into, into->n + x->n, x->h != NULL, false));
    for (size_t i = 0; i < x->n; i++) {
        if (x->t_ms[i] < f->from_ms || x->t_ms[i] > f->to_ms)
            continue;
        into->t_ms[into->n] = x->t_ms[i];
        into->v[into->n] = x->v[i];
        if (x->h != NULL)
            PS_TRY(hst_copy(&into->arena, x->h[i], &into->h[into->n]));
        into->n++;
    }
    return PS_OK;
}

/* The truth; what reads no more than the newest sample of a series is taken at its word. */
static ps_status
store_estimate(void *self, const ev_selection *selections, size_t n, ev_series_list *ret,
               ev_reading *ret_readings, ps_err *err)
{
    store *s = self;
    PS_TRY(store_select(self, selections, n, ret, err));
    if (s->fail_estimates != PS_OK)
        return ps_fail(err, s->fail_estimates, "the store is away");
    for (size_t i = 0; i < n; i++) {
        const found *f = ret[i].impl;
        ret_readings[i] = (ev_reading){0};
        for (size_t k = 0; k < ret[i].n; k++) {
            const store_series *x = &s->series[f->series[k]];
            size_t before = ret_readings[i].samples;
            for (size_t j = 0; j < x->n; j++)
                ret_readings[i].samples += x->t_ms[j] >= f->from_ms && x->t_ms[j] <= f->to_ms;
            ret_readings[i].series += ret_readings[i].samples > before;
        }
        ret_readings[i].blocks = ret[i].n;
        ret_readings[i].bytes = 100 * ret[i].n;
    }
    return PS_OK;
}

static void
store_taken(void *self, const ev_series_list *list, ev_reading *ret)
{
    (void)self;
    *ret = (ev_reading){.blocks = list->n, .bytes = 100 * list->n};
}

ev_source
store_source(store *s)
{
    return (ev_source){.self = s,
                       .select = store_select,
                       .read = store_read,
                       .estimate = store_estimate,
                       .taken = store_taken};
}

/* ---- threads --------------------------------------------------------------------------------------- */

typedef struct crew {
    ev_task_fn fn;
    void *arg;
    size_t n;
    atomic_size_t next;
} crew;

typedef struct crew_member {
    crew *c;
    size_t worker;
} crew_member;

static void *
work(void *arg)
{
    crew_member *m = arg;
    size_t task;
    while ((task = atomic_fetch_add(&m->c->next, 1)) < m->c->n)
        m->c->fn(m->c->arg, task, m->worker);
    return NULL;
}

static void
run_crew(void *self, size_t n, ev_task_fn fn, void *arg)
{
    size_t workers = (size_t)(uintptr_t)self;
    crew c = {.fn = fn, .arg = arg, .n = n};
    pthread_t threads[16];
    crew_member members[16];
    for (size_t i = 0; i < workers; i++) {
        members[i] = (crew_member){&c, i};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &members[i]), 0);
    }
    for (size_t i = 0; i < workers; i++)
        pthread_join(threads[i], NULL);
}

ev_executor
harness_threads(size_t n)
{
    return (ev_executor){(void *)(uintptr_t)n, n, run_crew};
}

/* ---- queries ----------------------------------------------------------------------------------------- */

static void
print_series(ps_buf *out, const ev_result_series *s, bool bits)
{
    char text[PS_DOUBLE_TEXT];
    mdl_format_labels(out, s->labels.items, s->labels.n, 0);
    for (size_t i = 0; i < s->n; i++) {
        ps_buf_addf(out, " %lld:", (long long)s->t_ms[i]);
        if (s->h != NULL && s->h[i] != NULL) {
            hst_format(out, s->h[i]);
            continue;
        }
        ps_format_double(text, s->v[i]);
        ps_buf_add_c(out, text);
        if (bits)
            ps_buf_addf(out, "/%016llx", (unsigned long long)ps_bits_of(s->v[i]));
    }
    ps_buf_add_char(out, '\n');
}

static void
print_result(ps_buf *out, const ev_result *r, bool bits)
{
    for (size_t i = 0; i < r->n; i++)
        print_series(out, &r->series[i], bits);
    if (r->type == PQL_STRING)
        ps_buf_add_str(out, r->text);
    for (size_t i = 0; i < r->n_warnings; i++)
        ps_buf_addf(out, "%.*s\n", (int)r->warnings[i].len, r->warnings[i].ptr);
    for (size_t i = 0; i < r->n_infos; i++)
        ps_buf_addf(out, "%.*s\n", (int)r->infos[i].len, r->infos[i].ptr);
}

static harness_result
run_printed(store *s, const harness_query *h, bool bits)
{
    static const pql_options all = {true, true, true};
    harness_result r = {.status = PS_OK};
    ps_arena arena;
    pql_expr *expr;
    pql_error error;
    ps_buf_init(&r.text, &ps_malloc);
    ps_arena_init(&arena, &ps_malloc, 0);
    r.status = pql_parse(&arena, ps_str_c(h->text), &all, &expr, &error);
    if (r.status != PS_OK) {
        ps_buf_add_c(&r.text, error.text);
        ps_arena_done(&arena);
        return r;
    }
    ev_env env = {.alloc = h->alloc.realloc != NULL ? h->alloc : ps_malloc,
                  .source = store_source(s),
                  .executor = h->threads == 0 ? ev_serial : harness_threads(h->threads),
                  .poll = h->poll,
                  .poll_self = h->poll_self};
    ev_query *q;
    const ev_result *result;
    r.status = ev_query_new(&env, &h->options, expr, ps_str_c(h->text), h->start_ms, h->end_ms,
                            h->step_ms, &q);
    if (r.status == PS_OK)
        r.status = ev_query_run(q, &result);
    if (r.status == PS_OK) {
        print_result(&r.text, result, bits);
        r.stats = result->stats;
        r.stats.per_step = NULL;
    } else
        ps_buf_add_str(&r.text, ev_query_error(q));
    ev_query_free(q);
    ps_arena_done(&arena);
    return r;
}

harness_result
harness_run(store *s, const harness_query *q)
{
    return run_printed(s, q, true);
}

void
harness_done(harness_result *r)
{
    ps_buf_done(&r->text);
}

void
harness_expect(store *s, const harness_query *q, const char *expected)
{
    harness_result r = run_printed(s, q, false);
    ps_buf_add_char(&r.text, '\0');
    assert_string_equal(r.text.ptr, expected);
    harness_done(&r);
}
