/*
 * tree.c - /api/v1/format_query and /api/v1/parse_query: a query as text in its canonical layout, and as tree.
 */
#include "connector/info/internal.h"

/* NULL: it was answered. */
static pql_expr *
parse(const info *in, api_job *job)
{
    pql_expr *expr = NULL;
    pql_error error;

    if (pql_parse(api_arena(job), api_param(job, "query"), in->language, &expr, &error) == PS_OK)
        return expr;
    api_fail(job, API_BAD_DATA, "invalid parameter \"query\": %s", error.text);
    return NULL;
}

void
info_format_query(api_job *job, void *self)
{
    const pql_expr *expr = parse(self, job);
    ps_buf text, data;

    if (expr == NULL)
        return;
    ps_buf_init(&text, &ps_malloc);
    ps_buf_init(&data, &ps_malloc);
    pql_print_pretty(&text, expr);
    api_json_text(&data, ps_buf_str(&text), true);
    data.failed |= text.failed;
    api_answer(job, &data, NULL, 0);
    ps_buf_done(&data);
    ps_buf_done(&text);
}

void
info_parse_query(api_job *job, void *self)
{
    const pql_expr *expr = parse(self, job);
    ps_buf data;

    if (expr == NULL)
        return;
    ps_buf_init(&data, &ps_malloc);
    pql_print_json(&data, expr);
    info_answer_html_safe(job, &data);
    ps_buf_done(&data);
}
