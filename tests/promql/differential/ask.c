/*
 * ask.c - answers many queries over the series of a script, one line each: for the differential test.
 *
 *   promql-ask SCRIPT < questions
 *
 * A question: start, end and step in ms (step 0: instant, at start), 0 or 1 for names dropped late, and the
 * query, separated by tabs. An answer: the result as Prometheus's API gives it, or {"error": ...}.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/promql/compare.h"
#include "tests/promql/run.h"

typedef struct question {
    int64_t start_ms, end_ms, step_ms;
    bool delayed;
    ps_str query;
} question;

static bool
read_file(const char *name, ps_buf *out)
{
    char chunk[65536];
    FILE *f = fopen(name, "rb");
    if (f == NULL)
        return false;
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, f)) > 0;)
        ps_buf_add(out, chunk, n);
    bool ok = !ferror(f) && !out->failed;
    fclose(f);
    return ok;
}

static bool
read_question(char *line, question *ret)
{
    long long start, end, step;
    int delayed, at = 0;
    if (sscanf(line, "%lld\t%lld\t%lld\t%d\t%n", &start, &end, &step, &delayed, &at) != 4 || at == 0)
        return false;
    line[strcspn(line, "\n")] = '\0';
    *ret = (question){start, end, step, delayed != 0, ps_str_c(line + at)};
    return true;
}

static void
fail(ps_buf *out, ps_status status, ps_str text)
{
    ps_buf_addf(out, "{\"status\":\"%s\",\"error\":", ps_status_name(status));
    print_json_text(out, text);
    ps_buf_add_char(out, '}');
}

static void
evaluate(const memory_store *store, const question *q, pql_expr *expr, ps_buf *out)
{
    memory_view view;
    ev_query *query;
    const ev_result *result;
    ev_options options = {.delayed_names = q->delayed};
    memory_view_open(&view, store, &ps_malloc);
    ev_env env = {.alloc = ps_malloc, .source = memory_view_source(&view), .executor = ev_serial};
    ps_status status = ev_query_new(&env, &options, expr, q->query, q->start_ms, q->end_ms,
                                    q->step_ms, &query);
    if (status == PS_OK)
        status = ev_query_run(query, &result);
    if (status == PS_OK)
        print_result(out, result);
    else
        fail(out, status, ev_query_error(query));
    ev_query_free(query);
    memory_view_close(&view);
}

static void
answer(const memory_store *store, const question *q)
{
    ps_arena arena;
    pql_expr *expr;
    pql_error error;
    ps_buf out;
    ps_buf_init(&out, &ps_malloc);
    ps_arena_init(&arena, &ps_malloc, 0);
    ps_status status = pql_parse(&arena, q->query, &run_language, &expr, &error);
    if (status == PS_OK)
        evaluate(store, q, expr, &out);
    else
        fail(&out, status, ps_str_c(error.text));
    ps_arena_done(&arena);
    for (size_t i = 0; i < out.len; i++)
        if (out.ptr[i] == '\n')
            out.ptr[i] = ' ';
    printf("%.*s\n", (int)out.len, out.ptr);
    fflush(stdout);
    ps_buf_done(&out);
}

int
main(int argc, char **argv)
{
    static char line[65536];
    memory_store store;
    ps_buf text;
    ps_err err = {.text = "cannot be read"};
    int code = 0;
    memory_init(&store);
    ps_buf_init(&text, &ps_malloc);
    if (argc != 2 || !read_file(argv[1], &text) ||
        run_loads(ps_buf_str(&text), &store, &err) != PS_OK) {
        fprintf(stderr, "promql-ask: %s: %s\n", argc == 2 ? argv[1] : "one script is wanted",
                err.text);
        code = 2;
    }
    while (code == 0 && fgets(line, sizeof line, stdin) != NULL) {
        question q;
        if (read_question(line, &q))
            answer(&store, &q);
        else
            code = 2;
    }
    ps_buf_done(&text);
    memory_done(&store);
    return code;
}
