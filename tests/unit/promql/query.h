/*
 * query.h - what the tests of the language share: parse a text with everything switched on, print a
 * tree to a string that lives until the next call.
 */
#ifndef PROMSCALE_TESTS_UNIT_PROMQL_QUERY_H
#define PROMSCALE_TESTS_UNIT_PROMQL_QUERY_H

#include "tests/unit/support.h"

#include "lib/promql/internal.h"

typedef struct query {
    ps_arena arena;
    pql_expr *expr; /* NULL if the text is wrong */
    pql_error error;
    ps_status status;
} query;

/* The text is copied to the heap at its exact size and is gone when this returns. */
static inline query
query_parse_with(const char *text, size_t len, const pql_options *options)
{
    query q = {.expr = NULL};
    char *copy = test_exact_copy(text, len);
    ps_arena_init(&q.arena, &ps_malloc, 64 << 20);
    q.status = pql_parse(&q.arena, (ps_str){copy, len}, options, &q.expr, &q.error);
    free(copy);
    assert_int_equal(q.status == PS_OK, q.expr != NULL);
    return q;
}

static inline query
query_parse(const char *text)
{
    static const pql_options all = {true, true, true};
    return query_parse_with(text, strlen(text), &all);
}

/* Fails the test if the text is wrong. */
static inline query
query_valid(const char *text)
{
    query q = query_parse(text);
    if (q.status != PS_OK)
        fail_msg("%s: %s", text, q.error.text);
    return q;
}

static inline void
query_done(query *q)
{
    ps_arena_done(&q->arena);
}

typedef void (*query_printer)(ps_buf *out, const pql_expr *expr);

static inline const char *
query_text(const query *q, query_printer printer)
{
    static char text[1 << 16];
    ps_buf out;
    ps_buf_init(&out, &ps_malloc);
    printer(&out, q->expr);
    assert_false(out.failed);
    assert_true(out.len < sizeof text);
    if (out.len > 0)
        memcpy(text, out.ptr, out.len);
    text[out.len] = '\0';
    ps_buf_done(&out);
    return text;
}

static inline int
query_matcher_cmp(const void *a, const void *b)
{
    const mdl_matcher *x = a, *y = b;
    int order = ps_str_cmp(x->name, y->name);
    if (order == 0)
        order = (int)x->type - (int)y->type;
    return order != 0 ? order : ps_str_cmp(x->value, y->value);
}

/* Order of writing says nothing, and printing does not keep it. */
static inline void
query_sort_matchers(pql_expr *e)
{
    pql_expr *children[16];
    size_t n = pql_children(e, children, PS_ARRAY_LEN(children));
    assert_true(n <= PS_ARRAY_LEN(children));
    if (e->kind == PQL_SELECTOR && e->selector.n_matchers > 0)
        qsort(e->selector.matchers, e->selector.n_matchers, sizeof(mdl_matcher), query_matcher_cmp);
    for (size_t i = 0; i < n; i++)
        query_sort_matchers(children[i]);
}

#endif
