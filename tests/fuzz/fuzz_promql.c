/*
 * fuzz_promql.c - texts of queries, selectors, series and literals.
 *
 * The first byte chooses the options, the rest is a text. What is accepted must print to a text that
 * parses to the same tree (compared as JSON, which holds everything but places; matchers sorted) and
 * prints the same again; so must its split form. What is refused must say why, in valid UTF-8, and
 * where, within the text. Preparing for an evaluation must end well or say why not.
 */
#include <stdio.h>
#include <string.h>

#include "lib/promql/promql.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_TEXT = 4096, BUDGET = 8 << 20 };

static void
check_error(ps_status status, const pql_error *error, size_t len)
{
    REQUIRE(status == PS_EINVAL || status == PS_ELIMIT || status == PS_ENOMEM);
    size_t n = strnlen(error->text, sizeof error->text);
    REQUIRE(n > 0 && n < sizeof error->text);
    REQUIRE(ps_utf8_valid((ps_str){error->text, n}));
    REQUIRE(error->from <= error->to && error->to <= len);
}

static int
matcher_cmp(const void *a, const void *b)
{
    const mdl_matcher *x = a, *y = b;
    int order = ps_str_cmp(x->name, y->name);
    if (order == 0)
        order = (int)x->type - (int)y->type;
    return order != 0 ? order : ps_str_cmp(x->value, y->value);
}

/* Sorts matchers, looks at places and depths. */
static void
walk(pql_expr *e, size_t len)
{
    REQUIRE(e->from <= e->to && e->to <= len);
    REQUIRE(e->depth >= 1 && e->depth <= PQL_MAX_DEPTH);
    REQUIRE(e->type != PQL_NONE);
    size_t n = pql_children(e, NULL, 0);
    pql_expr **children = calloc(n + 1, sizeof *children);
    REQUIRE(children != NULL && pql_children(e, children, n) == n);
    if (e->kind == PQL_SELECTOR && e->selector.n_matchers > 0)
        qsort(e->selector.matchers, e->selector.n_matchers, sizeof(mdl_matcher), matcher_cmp);
    for (size_t i = 0; i < n; i++) {
        REQUIRE(children[i]->depth < e->depth);
        walk(children[i], len);
    }
    free(children);
}

/* Prometheus rounds times beyond 2^52 ms when it prints them, and so do doubles in general. */
static bool
has_far_times(const char *json, size_t len)
{
    const char *end = json + len;
    static const char key[] = "\"timestamp\":";
    while ((json = memmem(json, (size_t)(end - json), key, sizeof key - 1)) != NULL) {
        json += sizeof key - 1;
        if (strspn(json, "-0123456789") > 15)
            return true;
    }
    return false;
}

static ps_buf
print(void (*printer)(ps_buf *, const pql_expr *), const pql_expr *e)
{
    ps_buf out;
    ps_buf_init(&out, &ps_malloc);
    printer(&out, e);
    REQUIRE(!out.failed);
    REQUIRE(ps_utf8_valid(ps_buf_str(&out)));
    ps_buf_add_char(&out, '\0');
    REQUIRE(!out.failed);
    out.len--;
    return out;
}

static void
check_same(const ps_buf *text, const ps_buf *json, const ps_buf *line, const pql_options *options)
{
    ps_arena arena;
    pql_expr *again = NULL;
    pql_error error;
    ps_arena_init(&arena, &ps_malloc, 0);
    if (pql_parse(&arena, ps_buf_str(text), options, &again, &error) != PS_OK) {
        fprintf(stderr, "%s\n%s\n", text->ptr, error.text);
        abort();
    }
    walk(again, text->len);
    ps_buf again_json = print(pql_print_json, again);
    ps_buf again_line = print(pql_print, again);
    if (strcmp(again_json.ptr, json->ptr) != 0 || strcmp(again_line.ptr, line->ptr) != 0) {
        fprintf(stderr, "%s\n%s\n%s\n%s\n%s\n", text->ptr, json->ptr, again_json.ptr, line->ptr,
                again_line.ptr);
        abort();
    }
    ps_buf_done(&again_json);
    ps_buf_done(&again_line);
    ps_arena_done(&arena);
}

static void
check_query(ps_str text, unsigned choice)
{
    pql_options options = {choice & 1, choice & 2, choice & 4};
    ps_arena arena;
    pql_expr *expr = NULL;
    pql_error error;
    ps_arena_init(&arena, &ps_malloc, BUDGET);
    ps_status status = pql_parse(&arena, text, &options, &expr, &error);
    if (status != PS_OK) {
        check_error(status, &error, text.len);
    } else {
        walk(expr, text.len);
        ps_buf json = print(pql_print_json, expr);
        ps_buf line = print(pql_print, expr);
        ps_buf pretty = print(pql_print_pretty, expr);
        if (!has_far_times(json.ptr, json.len)) {
            check_same(&line, &json, &line, &options);
            check_same(&pretty, &json, &line, &options);
        }
        int64_t step = (choice >> 3 & 3) * 15000;
        status = pql_prepare(&arena, expr, 1000000, 1000000 + 10 * step, step, &error);
        if (status != PS_OK)
            check_error(status, &error, text.len);
        ps_buf_done(&json);
        ps_buf_done(&line);
        ps_buf_done(&pretty);
    }
    ps_arena_done(&arena);
}

static void
check_parts(ps_str text)
{
    ps_arena arena;
    pql_expr *expr;
    pql_error error;
    mdl_labels labels;
    ps_str string;
    double number;
    ps_arena_init(&arena, &ps_malloc, BUDGET);
    ps_status status = pql_parse_selector(&arena, text, &expr, &error);
    if (status != PS_OK)
        check_error(status, &error, text.len);
    status = pql_parse_series(&arena, text, &labels, &error);
    if (status != PS_OK)
        check_error(status, &error, text.len);
    for (size_t i = 1; status == PS_OK && i < labels.n; i++)
        REQUIRE(ps_str_cmp(labels.items[i - 1].name, labels.items[i].name) < 0);
    if (pql_unquote(&arena, text, &string) == PS_OK) {
        ps_str again;
        ps_buf quoted;
        ps_buf_init(&quoted, &ps_malloc);
        pql_quote(&quoted, string);
        REQUIRE(!quoted.failed);
        REQUIRE(pql_unquote(&arena, ps_buf_str(&quoted), &again) == PS_OK);
        REQUIRE(ps_str_eq(string, again));
        ps_buf_done(&quoted);
    }
    status = pql_parse_number(text, &number);
    REQUIRE(status == PS_OK || status == PS_EINVAL);
    ps_arena_done(&arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > MAX_TEXT)
        return 0;
    size_t len = size - 1;
    char *exact = malloc(len == 0 ? 1 : len);
    REQUIRE(exact != NULL);
    if (len > 0)
        memcpy(exact, data + 1, len);
    check_query((ps_str){exact, len}, data[0]);
    check_parts((ps_str){exact, len});
    free(exact);
    return 0;
}
