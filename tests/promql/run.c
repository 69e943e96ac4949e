/*
 * run.c - runs scripts over the engine and counts what holds.
 *
 * An instant query is asked again in other forms that must give the same: pinned to its time by "@" and
 * asked at other times, and as the middle step of a range query. A case holds when all its forms do.
 */
#include "tests/promql/run.h"

#include "tests/promql/compare.h"
#include "tests/promql/load.h"

enum { LOOKBACK_MS = 5 * 60 * 1000, MINUTE_MS = 60 * 1000, MAX_SAMPLES = 10000 };

const pql_options run_language = {.experimental_functions = true,
                                  .extended_range = true,
                                  .fill = true};

/* ---- one evaluation ------------------------------------------------------------------------------ */

ps_status
run_query_start(run_query *r, const memory_store *store, const ev_executor *executor, ps_str text,
                int64_t start_ms, int64_t end_ms, int64_t step_ms)
{
    static const ev_options options = {.lookback_ms = LOOKBACK_MS,
                                       .subquery_step_ms = MINUTE_MS,
                                       .max_samples = MAX_SAMPLES,
                                       .delayed_names = true,
                                       .start_timestamps = true};
    memset(r, 0, sizeof *r);
    ps_arena_init(&r->arena, &ps_malloc, 0);
    memory_view_open(&r->view, store, &ps_malloc);
    pql_expr *expr;
    PS_TRY(pql_parse(&r->arena, text, &run_language, &expr, &r->parse_error));
    r->parsed = true;
    r->type = expr->type;
    ev_env env = {.alloc = ps_malloc,
                  .source = memory_view_source(&r->view),
                  .executor = *executor};
    PS_TRY(ev_query_new(&env, &options, expr, text, start_ms, end_ms, step_ms, &r->q));
    return ev_query_run(r->q, &r->result);
}

ps_str
run_query_error(const run_query *r)
{
    if (!r->parsed)
        return ps_str_c(r->parse_error.text);
    return r->q == NULL ? PS_STR("out of memory") : ev_query_error(r->q);
}

void
run_query_done(run_query *r)
{
    ev_query_free(r->q);
    memory_view_close(&r->view);
    ps_arena_done(&r->arena);
}

/* ---- one case ------------------------------------------------------------------------------------ */

typedef struct run_case {
    const run_options *options;
    const memory_store *store;
    const script_eval *e;
    ps_buf why;
} run_case;

/* A failure where one may be expected. */
static bool
check_failure(run_case *c, ps_str error)
{
    const script_eval *e = c->e;
    if (!e->expected[EXPECT_FAIL]) {
        ps_buf_add_c(&c->why, "expected a result, got the error: ");
        ps_buf_add_str(&c->why, error);
        return false;
    }
    for (size_t i = 0; i < e->n_texts; i++) {
        if (e->texts[i].kind != EXPECT_FAIL || script_text_matches(&e->texts[i], error))
            continue;
        ps_buf_add_c(&c->why, "expected the error: ");
        ps_buf_add_str(&c->why, e->texts[i].text);
        ps_buf_add_c(&c->why, ", got: ");
        ps_buf_add_str(&c->why, error);
        return false;
    }
    return true;
}

/* As the script says, over its times. */
static bool
check_query(run_case *c, ps_str text, int64_t start_ms, int64_t end_ms, int64_t step_ms,
            pql_type *ret_type)
{
    run_query r;
    bool good;
    ps_status status =
        run_query_start(&r, c->store, c->options->executor, text, start_ms, end_ms, step_ms);
    *ret_type = r.type;
    if (!r.parsed) {
        ps_buf_add_c(&c->why, "does not parse: ");
        ps_buf_add_str(&c->why, run_query_error(&r));
        good = false;
    } else if (status != PS_OK) {
        good = check_failure(c, run_query_error(&r));
    } else if (c->e->expected[EXPECT_FAIL]) {
        ps_buf_add_c(&c->why, "expected an error, got a result");
        good = false;
    } else {
        good = compare_notes(c->e, r.result, &c->why) && compare_result(c->e, r.result, &c->why);
    }
    run_query_done(&r);
    return good;
}

/* As the middle step of a range query. */
static bool
check_middle(run_case *c, ps_str text, int64_t t_ms, pql_type type)
{
    run_query r;
    bool good;
    ps_status status = run_query_start(&r, c->store, c->options->executor, text, t_ms - MINUTE_MS,
                                       t_ms + MINUTE_MS, MINUTE_MS);
    if (status != PS_OK) {
        ps_buf_add_c(&c->why, "as a range query it fails: ");
        ps_buf_add_str(&c->why, run_query_error(&r));
        good = false;
    } else {
        good = compare_step(c->e, r.result, type, t_ms, &c->why);
    }
    run_query_done(&r);
    return good;
}

static bool
knows_its_range(ps_str text)
{
    static const char *const calls[] = {"start()", "end()", "range()", "step()"};
    for (size_t i = 0; i < PS_ARRAY_LEN(calls); i++) {
        if (memmem(text.ptr, text.len, calls[i], strlen(calls[i])) != NULL)
            return true;
    }
    return false;
}

/* An instant query, and as the middle of a range query where that must give the same. */
static bool
check_instant(run_case *c, ps_str text, int64_t t_ms)
{
    const script_eval *e = c->e;
    pql_type type;
    bool good = check_query(c, text, t_ms, t_ms, 0, &type);
    bool only = e->matrix || e->is_string || e->expected[EXPECT_ORDERED] ||
                e->expected[EXPECT_FAIL] || !c->options->rewrites || knows_its_range(text);
    if (good && !only)
        good = check_middle(c, text, t_ms, type);
    if (!good && !ps_str_eq(text, e->expr)) {
        ps_buf_addf(&c->why, " (asked at %lld ms as: ", (long long)t_ms);
        ps_buf_add_str(&c->why, text);
        ps_buf_add_char(&c->why, ')');
    }
    return good;
}

static bool
check_pinned(run_case *c)
{
    int64_t t_ms = c->e->start_ms;
    int64_t times[] = {-10 * t_ms, 0, t_ms / 5, t_ms, 10 * t_ms};
    if (t_ms == 0) {
        times[0] = -1000;
        times[4] = 1000;
    }
    ps_buf text;
    ps_buf_init(&text, &ps_malloc);
    bool good = true;
    if (rewrite_at(c->e->expr, t_ms, &text)) {
        for (size_t i = 0; i < PS_ARRAY_LEN(times) && good; i++)
            good = check_instant(c, ps_buf_str(&text), times[i]);
    }
    ps_buf_done(&text);
    return good;
}

static bool
check_case(run_case *c)
{
    const script_eval *e = c->e;
    pql_type type;
    if (e->range)
        return check_query(c, e->expr, e->start_ms, e->end_ms, e->step_ms, &type);
    return check_instant(c, e->expr, e->start_ms) && (!c->options->rewrites || check_pinned(c));
}

static void
run_eval(const char *file, const script_command *command, const run_options *options,
         const memory_store *store, run_counts *counts)
{
    run_case c = {.options = options, .store = store, .e = &command->eval};
    ps_buf_init(&c.why, &ps_malloc);
    bool good = check_case(&c);
    counts->passed += good;
    counts->failed += !good;
    if (!good || options->verbose)
        fprintf(options->out, "%s %s:%zu: %.*s%s%.*s\n", good ? "ok  " : "FAIL", file,
                command->line, (int)c.e->expr.len, c.e->expr.ptr, good ? "" : ": ", (int)c.why.len,
                c.why.len == 0 ? "" : c.why.ptr);
    ps_buf_done(&c.why);
}

/* ---- scripts ------------------------------------------------------------------------------------- */

static ps_status
change_store(ps_arena *arena, const script_command *c, memory_store *store, ps_err *err)
{
    if (c->kind == SCRIPT_CLEAR)
        memory_clear(store);
    if (c->kind == SCRIPT_LOAD)
        return load_run(arena, &c->load, store, err);
    return PS_OK;
}

void
run_script(const char *file, ps_str text, const run_options *options, memory_store *store,
           run_counts *counts)
{
    script s;
    script_command c;
    ps_arena arena;
    script_open(&s, text);
    ps_arena_init(&arena, &ps_malloc, 0);
    do {
        ps_err err = {.text = ""};
        ps_arena_reset(&arena);
        ps_status status = script_next(&s, &arena, &c, &err);
        if (status == PS_OK)
            status = change_store(&arena, &c, store, &err);
        if (status != PS_OK) {
            fprintf(options->out, "FAIL %s:%zu: %s\n", file, c.line, err.text);
            counts->failed++;
            c.kind = SCRIPT_CLEAR; /* goes on with the next */
        }
        if (c.kind == SCRIPT_EVAL && (options->only == 0 || options->only == c.line))
            run_eval(file, &c, options, store, counts);
        script_command_done(&c);
    } while (c.kind != SCRIPT_END);
    ps_arena_done(&arena);
    memory_clear(store);
}

ps_status
run_loads(ps_str text, memory_store *store, ps_err *err)
{
    script s;
    script_command c;
    ps_arena arena;
    ps_status status;
    script_open(&s, text);
    ps_arena_init(&arena, &ps_malloc, 0);
    do {
        ps_arena_reset(&arena);
        status = script_next(&s, &arena, &c, err);
        if (status == PS_OK)
            status = change_store(&arena, &c, store, err);
        script_command_done(&c);
    } while (status == PS_OK && c.kind != SCRIPT_END);
    ps_arena_done(&arena);
    return status;
}
