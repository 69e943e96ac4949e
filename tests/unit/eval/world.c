/*
 * world.c - see world.h.
 */
#include "tests/unit/eval/world.h"

#include <math.h>
#include <stdio.h>

static ps_str
text(world *w, const char *format, size_t number)
{
    char buf[32];
    ps_str s;
    /* the format is one of this file's */
    int n = strcmp(format, "5") == 0 ? snprintf(buf, sizeof buf, "%05zu", number)
                                     : snprintf(buf, sizeof buf, "%zu", number);
    assert_int_equal(ps_arena_dup(&w->arena, (ps_str){buf, (size_t)n}, &s), PS_OK);
    return s;
}

void
world_init(world *w, size_t n_series, size_t n_groups, size_t n_steps)
{
    memset(w, 0, sizeof *w);
    w->n_series = n_series;
    w->n_steps = n_steps;
    ps_arena_init(&w->arena, &ps_malloc, 0);
    ps_arena_init(&w->query_arena, &ps_malloc, 0);
    w->labels = ps_arena_array(&w->arena, n_series + 1, sizeof *w->labels);
    w->v = ps_arena_array(&w->arena, n_series * n_steps + 1, sizeof *w->v);
    w->has = ps_arena_array(&w->arena, n_series * n_steps + 1, sizeof *w->has);
    w->h = ps_arena_array(&w->arena, n_series * n_steps + 1, sizeof *w->h);
    assert_true(w->labels != NULL && w->v != NULL && w->has != NULL && w->h != NULL);
    for (size_t i = 0; i < n_series; i++) {
        mdl_label *items = ps_arena_array(&w->arena, 3, sizeof *items);
        assert_non_null(items);
        /* the label that comes first in the order of sets is the number, so that groups mix */
        items[0] = (mdl_label){PS_STR("__name__"), PS_STR("m")};
        items[1] = (mdl_label){PS_STR("a"), text(w, "5", i)};
        items[2] = (mdl_label){PS_STR("g"), text(w, "", i % n_groups)};
        w->labels[i] = (mdl_labels){items, 3};
    }
}

static void
forget_query(world *w)
{
    ev_query_free(w->query);
    w->query = NULL;
    ps_arena_reset(&w->query_arena);
}

void
world_done(world *w)
{
    forget_query(w);
    ps_arena_done(&w->query_arena);
    ps_arena_done(&w->arena);
}

void
world_set(world *w, size_t series, size_t step, double v)
{
    w->v[world_cell(w, series, step)] = v;
    w->h[world_cell(w, series, step)] = NULL;
    w->has[world_cell(w, series, step)] = true;
}

void
world_set_hist(world *w, size_t series, size_t step, const char *notation)
{
    size_t at = world_cell(w, series, step);
    bool has_hint;
    ps_err err;
    assert_int_equal(hst_parse(&w->arena, ps_str_c(notation), &w->h[at], &has_hint, &err), PS_OK);
    w->has[at] = true;
}

static ps_status
world_select(void *self, const ev_selection *selections, size_t n, ev_series_list *ret, ps_err *err)
{
    world *w = self;
    (void)selections;
    (void)err;
    for (size_t i = 0; i < n; i++)
        ret[i] = (ev_series_list){w->n_series, w->labels, NULL};
    return PS_OK;
}

static ps_status
world_read(void *self, const ev_series_list *list, size_t series, size_t worker, ev_samples *into,
           ps_err *err)
{
    world *w = self;
    (void)list;
    (void)worker;
    PS_TRY(ev_samples_reserve(into, into->n + w->n_steps, true, false));
    for (size_t s = 0; s < w->n_steps; s++) {
        size_t at = world_cell(w, series, s);
        if (!w->has[at])
            continue;
        into->t_ms[into->n] = (int64_t)s * WORLD_STEP_MS;
        into->v[into->n] = w->v[at];
        into->h[into->n] = NULL;
        if (w->h[at] != NULL && hst_copy(&into->arena, w->h[at], &into->h[into->n]) != PS_OK)
            return ps_fail(err, PS_ENOMEM, "out of memory");
        into->n++;
    }
    return PS_OK;
}

ps_status
world_ask(world *w, const ps_alloc *alloc, const char *query, const ev_result **ret,
          ps_str *ret_error)
{
    const pql_options language = {.experimental_functions = true};
    const ev_options options = {.lookback_ms = 1, .delayed_names = true};
    const ev_env env = {
        .alloc = *alloc,
        .source = {w, world_select, world_read},
        .executor = ev_serial,
    };
    forget_query(w);
    pql_expr *expr;
    pql_error error;
    if (pql_parse(&w->query_arena, ps_str_c(query), &language, &expr, &error) != PS_OK)
        fail_msg("%s", error.text);
    int64_t end = (int64_t)(w->n_steps - 1) * WORLD_STEP_MS;
    ps_status status = ev_query_new(&env, &options, expr, ps_str_c(query), 0, end,
                                    end == 0 ? 0 : WORLD_STEP_MS, &w->query);
    if (status == PS_OK)
        status = ev_query_run(w->query, ret);
    if (status != PS_OK && ret_error != NULL)
        *ret_error = w->query == NULL ? PS_STR("") : ev_query_error(w->query);
    return status;
}

const ev_result *
world_answer(world *w, const char *query)
{
    const ev_result *result;
    ps_str error;
    if (world_ask(w, &ps_malloc, query, &result, &error) != PS_OK)
        fail_msg("%s: %.*s", query, (int)error.len, error.ptr);
    return result;
}

const ev_result_series *
world_series(const ev_result *r, const char *labels)
{
    const ev_result_series *found = NULL;
    ps_buf buf;
    ps_buf_init(&buf, &ps_malloc);
    for (size_t i = 0; i < r->n && found == NULL; i++) {
        ps_buf_clear(&buf);
        mdl_format_labels(&buf, r->series[i].labels.items, r->series[i].labels.n, 0);
        if (ps_str_eq_c(ps_buf_str(&buf), labels))
            found = &r->series[i];
    }
    ps_buf_done(&buf);
    return found;
}

bool
world_value(const ev_result_series *s, size_t step, double *ret)
{
    for (size_t i = 0; s != NULL && i < s->n; i++) {
        if (s->t_ms[i] == (int64_t)step * WORLD_STEP_MS && (s->h == NULL || s->h[i] == NULL)) {
            *ret = s->v[i];
            return true;
        }
    }
    return false;
}

bool
world_same(double a, double b)
{
    return (isnan(a) && isnan(b)) || ps_bits_of(a) == ps_bits_of(b);
}
