/*
 * explain.c - /api/v1/explain: the plan of a query with what it would take, and what it took.
 *
 * Parameters are those of query (time) or, with any of start, end and step, of query_range; besides
 * analyze=true (the query runs, its result is thrown away) and format=text.
 */
#include "connector/pg/pg.h"
#include "connector/query/internal.h"

typedef struct explain_request {
    query_request q;
    bool analyze, text;
} explain_request;

enum { MAX_WARNINGS = 32 }; /* read_source_warnings() gives fewer */

static ps_status
read_word(const api_job *job, const char *name, const char *const words[2], bool *ret, ps_err *err)
{
    ps_str s = api_param(job, name);
    if (s.len > 0 && !ps_str_eq_c(s, words[0]) && !ps_str_eq_c(s, words[1]))
        return ps_fail(err, PS_EINVAL, "invalid parameter \"%s\": it is \"%s\" or \"%s\"", name,
                       words[0], words[1]);
    *ret = ps_str_eq_c(s, words[1]);
    return PS_OK;
}

static ps_status
read_explain(query_api *shared, api_job *job, explain_request *r, ps_err *err)
{
    static const char *const truth[2] = {"false", "true"}, *const formats[2] = {"json", "text"};
    r->q.range =
        api_has_param(job, "start") || api_has_param(job, "end") || api_has_param(job, "step");
    PS_TRY(query_read_request(shared, job, &r->q, err));
    PS_TRY(read_word(job, "analyze", truth, &r->analyze, err));
    return read_word(job, "format", formats, &r->text, err);
}

static int64_t
now(void *self)
{
    (void)self;
    return pg_now_ns();
}

static void
respond_plan(query_api *shared, api_job *job, const explain_request *r, read_source *src,
             const ev_plan *plan)
{
    ps_str warnings[MAX_WARNINGS];
    const ps_str *of_source;
    size_t n = read_source_warnings(src, &of_source);
    ps_buf out;
    ps_buf_init(&out, &ps_malloc);
    out.max = (size_t)shared->settings->promql_max_bytes;
    if (r->text)
        ev_plan_text(&out, plan);
    else
        ev_plan_json(&out, plan);
    for (size_t i = 0; r->text && i < n; i++) {
        ps_buf_add_c(&out, "warning: ");
        ps_buf_add(&out, of_source[i].ptr, of_source[i].len);
        ps_buf_add_char(&out, '\n');
    }
    if (plan->analyzed)
        metric_add(shared->samples, (double)plan->result->stats.samples_read);
    if (out.failed)
        api_fail(job, API_EXECUTION,
                 "the plan is larger than an answer may be (metrics.promql.max-bytes), or there is "
                 "no memory for it");
    else if (r->text)
        api_respond(job, 200, "text/plain; charset=utf-8", &out);
    else {
        memcpy(warnings, of_source, n * sizeof(*warnings));
        for (size_t i = 0; plan->analyzed && i < plan->result->n_warnings && n < MAX_WARNINGS; i++)
            warnings[n++] = plan->result->warnings[i];
        api_answer(job, &out, warnings, n);
    }
    ps_buf_done(&out);
}

static void
explain(query_api *shared, api_job *job, const explain_request *r, read_source *src, pql_expr *expr)
{
    const query_request *q = &r->q;
    ev_env env = {.alloc = ps_malloc,
                  .source = read_source_for_engine(src),
                  .executor = query_pool_executor(shared->pool),
                  .poll = api_poll,
                  .poll_self = job,
                  .now = now};
    const ev_plan *plan = NULL;
    ev_query *eq = NULL;
    ps_status st =
        ev_query_new(&env, &q->engine, expr, q->query, q->start_ms, q->end_ms, q->step_ms, &eq);
    bool preparing = st != PS_OK;
    if (st == PS_OK)
        st = ev_query_explain(eq, r->analyze, &plan);
    if (st == PS_OK)
        respond_plan(shared, job, r, src, plan);
    else if (preparing && st == PS_EINVAL)
        api_fail_text(job, API_BAD_DATA, ev_query_error(eq));
    else
        api_fail_status(job, st, eq != NULL ? ev_query_error(eq) : PS_STR("no memory"));
    ev_query_free(eq);
}

void
query_explain(api_job *job, void *self)
{
    query_api *shared = self;
    explain_request r = {0};
    read_source *src = NULL;
    pql_expr *expr = NULL;
    ps_err err;
    ps_status st = read_explain(shared, job, &r, &err);
    if (st != PS_OK) {
        api_fail_params(job, st, &err);
        return;
    }
    if (!query_parse(shared, job, &r.q, &expr))
        return;
    st = api_open_source(job, query_pool_executor(shared->pool).n_workers, 0, &src, &err);
    if (st != PS_OK) {
        api_fail_status(job, st, ps_str_c(err.text));
        return;
    }
    explain(shared, job, &r, src, expr);
    api_close_source(job, src);
}
