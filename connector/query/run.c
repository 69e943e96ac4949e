/*
 * run.c - one query, from its parameters to its answer.
 *
 *   parameters -> parse -> source (connection, snapshot) -> lib/eval -> JSON -> answer
 *
 * Errors go out as the Prometheus API words them: bad_data for what the client wrote, execution for what
 * cannot be computed over this data, timeout, canceled, and unavailable or internal for our side.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "connector/pg/pg.h"
#include "connector/query/internal.h"

typedef struct request { /* parameters, understood */
    ps_str query;
    int64_t start_ms, end_ms, step_ms;
    int64_t timeout_ns;
    uint64_t limit;
    ev_options engine;
    const char *stats_warning;
    bool stats;
} request;

typedef struct answer { /* of a failure */
    int status;
    const char *type;
} answer;

static const answer bad_data = {400, "bad_data"};

/* ---- features --------------------------------------------------------------------------------------------- */

static bool
set_feature(query_api *api, ps_str name)
{
    /* always on here, or of a part that this program does not have */
    static const char *const accepted[] = {"promql-at-modifier", "promql-negative-offset",
                                           "promql-duration-expr", "native-histograms"};
    const struct {
        const char *name;
        bool *flag;
    } features[] = {{"promql-experimental-functions", &api->language.experimental_functions},
                    {"promql-extended-range-selectors", &api->language.extended_range},
                    {"promql-binop-fill-modifiers", &api->language.fill},
                    {"promql-delayed-name-removal", &api->engine.delayed_names},
                    {"use-start-timestamps", &api->engine.start_timestamps},
                    {"type-and-unit-labels", &api->engine.type_unit_labels},
                    {"promql-per-step-stats", &api->per_step_stats}};

    for (size_t i = 0; i < PS_ARRAY_LEN(features); i++) {
        if (ps_str_eq_c(name, features[i].name))
            return *features[i].flag = true;
    }
    for (size_t i = 0; i < PS_ARRAY_LEN(accepted); i++) {
        if (ps_str_eq_c(name, accepted[i]))
            return true;
    }
    return false;
}

ps_status
query_features(query_api *api, const char *list, ps_err *err)
{
    ps_str rest = ps_str_c(list);

    while (rest.len > 0) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        size_t len = comma ? (size_t)(comma - rest.ptr) : rest.len;
        ps_str name = ps_str_trim((ps_str){rest.ptr, len});
        if (name.len > 0 && !set_feature(api, name))
            return ps_fail(err, PS_EINVAL,
                           "enable-feature: there is no feature \"%.*s\"; there are "
                           "promql-experimental-functions, promql-extended-range-selectors, "
                           "promql-binop-fill-modifiers, promql-delayed-name-removal, "
                           "promql-per-step-stats",
                           (int)ps_utf8_prefix(name, 60), name.ptr);
        len += comma != NULL;
        rest = (ps_str){rest.ptr + len, rest.len - len};
    }
    return PS_OK;
}

/* ---- answering ---------------------------------------------------------------------------------------------- */

static double
seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

/* Lets go of the request. */
static void
respond(query_job *job, int status, ps_str body)
{
    query_api *api = job->api;
    http_request *r = job->r;
    char labels[48];

    snprintf(labels, sizeof(labels), "type=\"%s\",code=\"%d\"", job->range ? "range" : "instant",
             status);
    metric_add(metrics_counter(api->metrics, "promscale_query_requests_total", "Queries by answer.",
                               labels),
               1);
    metric_observe(api->m.seconds[job->range], seconds(pg_now_ns() - job->arrived_ns));
    pthread_mutex_lock(&api->lock);
    job->r = NULL;
    pthread_mutex_unlock(&api->lock);
    http_respond(r, status, "application/json", body);
}

static void
respond_error(query_job *job, answer a, ps_str text)
{
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    query_render_error(&out, a.type, text);
    if (out.failed) {
        ps_buf_clear(&out);
        ps_buf_add_c(&out, "{\"status\":\"error\",\"errorType\":\"unavailable\",\"error\":\"no "
                           "memory\"}");
        a.status = 503;
    }
    respond(job, a.status, ps_buf_str(&out));
    ps_buf_done(&out);
}

static answer
answer_of(ps_status st)
{
    switch (st) {
    case PS_EINVAL:
    case PS_ELIMIT:
    case PS_ENOMEM:
    case PS_EUNSUPPORTED:
        return (answer){422, "execution"};
    case PS_ETIMEOUT:
        return (answer){503, "timeout"};
    case PS_ECANCELED:
        return (answer){499, "canceled"};
    case PS_EUNAVAILABLE:
    case PS_ECONFLICT:
        return (answer){503, "unavailable"};
    default:
        return (answer){500, "internal"};
    }
}

/* ---- parameters ----------------------------------------------------------------------------------------------- */

static ps_status
bad_param(const char *name, ps_err *err)
{
    char reason[sizeof(err->text)];

    snprintf(reason, sizeof(reason), "%s", err->text);
    return ps_fail(err, PS_EINVAL, "invalid parameter \"%s\": %s", name, reason);
}

static ps_status
read_time(const query_params *p, const char *name, int64_t absent, int64_t *ret, ps_err *err)
{
    ps_str s = query_param(p, name);

    if (s.len == 0 && absent != INT64_MIN) {
        *ret = absent;
        return PS_OK;
    }
    return query_parse_time(s, ret, err) == PS_OK ? PS_OK : bad_param(name, err);
}

static ps_status
read_range(query_api *api, const query_params *p, request *q, ps_err *err)
{
    int64_t step_ns;

    PS_TRY(read_time(p, "start", INT64_MIN, &q->start_ms, err));
    PS_TRY(read_time(p, "end", INT64_MIN, &q->end_ms, err));
    if (q->end_ms < q->start_ms)
        return ps_fail(err, PS_EINVAL,
                       "invalid parameter \"end\": end timestamp must not be before start time");
    if (query_parse_duration(query_param(p, "step"), &step_ns, err) != PS_OK)
        return bad_param("step", err);
    q->step_ms = step_ns / 1000000;
    if (q->step_ms <= 0)
        return ps_fail(err, PS_EINVAL,
                       "invalid parameter \"step\": zero or negative query resolution step widths "
                       "are not accepted. Try a positive integer");
    int64_t max = api->settings->promql_max_points;
    if ((q->end_ms - q->start_ms) / q->step_ms > max)
        return ps_fail(err, PS_EINVAL,
                       max == 11000
                           ? "exceeded maximum resolution of 11,000 points per timeseries. Try "
                             "decreasing the query resolution (?step=XX)"
                           : "exceeded maximum resolution of %lld points per timeseries. Try "
                             "decreasing the query resolution (?step=XX)",
                       (long long)max);
    return PS_OK;
}

static ps_status
read_engine_options(query_api *api, const query_params *p, request *q, ps_err *err)
{
    ps_str lookback = query_param(p, "lookback_delta"), stats = query_param(p, "stats");
    int64_t ns;

    q->engine = api->engine;
    if (lookback.len > 0) {
        if (query_parse_duration(lookback, &ns, err) != PS_OK) {
            char reason[sizeof(err->text)];
            snprintf(reason, sizeof(reason), "%s", err->text);
            return ps_fail(err, PS_EINVAL, "error parsing lookback delta duration: %s", reason);
        }
        if (ns / 1000000 > 0)
            q->engine.lookback_ms = ns / 1000000;
    }
    q->stats = stats.len > 0;
    q->engine.per_step_stats = api->per_step_stats && ps_str_eq_c(stats, "all");
    if (q->stats && !ps_str_eq_c(stats, "all") && !ps_str_eq_c(stats, "true"))
        q->stats_warning = "unsupported value of the stats parameter: use \"true\" or \"all\"";
    return PS_OK;
}

static ps_status
read_request(query_job *job, const query_params *p, request *q, ps_err *err)
{
    query_api *api = job->api;
    struct timespec now;
    ps_str timeout = query_param(p, "timeout");
    int64_t ns;

    clock_gettime(CLOCK_REALTIME, &now);
    q->query = query_param(p, "query");
    q->timeout_ns = api->settings->promql_timeout_ms * 1000000;
    if (query_parse_limit(query_param(p, "limit"), &q->limit, err) != PS_OK)
        return bad_param("limit", err);
    if (job->range) {
        PS_TRY(read_range(api, p, q, err));
    } else {
        PS_TRY(read_time(p, "time", (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
                         &q->start_ms, err));
        q->end_ms = q->start_ms;
    }
    if (timeout.len > 0) {
        if (query_parse_duration(timeout, &ns, err) != PS_OK)
            return bad_param("timeout", err);
        if (ns < q->timeout_ns)
            q->timeout_ns = ns;
    }
    return read_engine_options(api, p, q, err);
}

/* ---- evaluating --------------------------------------------------------------------------------------------------- */

static ps_status
poll_job(void *self)
{
    query_job *job = self;
    ps_status st = (ps_status)atomic_load_explicit(&job->stop, memory_order_relaxed);

    if (st != PS_OK)
        return st == PS_EUNAVAILABLE ? PS_ECANCELED : st;
    return pg_now_ns() > job->deadline_ns ? PS_ETIMEOUT : PS_OK;
}

static void
publish_source(query_job *job, read_source *src)
{
    pthread_mutex_lock(&job->api->lock);
    job->source = src;
    if (src != NULL && atomic_load(&job->stop) != PS_OK)
        read_source_cancel(src);
    pthread_mutex_unlock(&job->api->lock);
}

static void
respond_result(query_job *job, const request *q, const ev_result *result, query_timings t)
{
    query_api *api = job->api;
    query_rendering w = {.result = result,
                         .time_ms = q->start_ms,
                         .limit = q->limit,
                         .warning = q->stats_warning,
                         .stats = q->stats,
                         .per_step = q->engine.per_step_stats,
                         .start_ms = q->start_ms,
                         .step_ms = q->step_ms,
                         .timings = t};
    ps_buf out;

    if (q->limit > 0 && result->n > q->limit &&
        (result->type == PQL_VECTOR || result->type == PQL_MATRIX))
        w.warning = "results truncated due to limit";
    metric_add(api->m.samples, (double)result->stats.samples_read);
    w.timings.total = seconds(pg_now_ns() - job->arrived_ns);
    ps_buf_init(&out, &ps_malloc);
    out.max = (size_t)api->settings->promql_max_bytes;
    query_render(&out, &w);
    if (out.failed)
        respond_error(job, (answer){422, "execution"},
                      PS_STR("the answer is larger than a query may be "
                             "(metrics.promql.max-bytes), or there is no memory for it"));
    else
        respond(job, 200, ps_buf_str(&out));
    ps_buf_done(&out);
}

static void
fail_query(query_job *job, ps_status st, ps_str text)
{
    if (atomic_load(&job->stop) == PS_EUNAVAILABLE) {
        st = PS_EUNAVAILABLE;
        text = PS_STR("the connector is stopping");
    }
    answer a = answer_of(st);

    if (a.status >= 500 && st != PS_ETIMEOUT)
        log_limited(job->api->log, LOG_WARN, 10000, "a query could not be answered",
                    (const log_field[]){LOG_INT("status", a.status),
                                        LOG_STR("reason", text.len ? text.ptr : "")},
                    2);
    respond_error(job, a, text);
}

static void
evaluate(query_job *job, const request *q, read_source *src, pql_expr *expr)
{
    query_api *api = job->api;
    ev_env env = {.alloc = ps_malloc,
                  .source = read_source_for_engine(src),
                  .executor = query_pool_executor(api->pool),
                  .poll = poll_job,
                  .poll_self = job};
    query_timings t = {.queue = seconds(job->begun_ns - job->arrived_ns)};
    const ev_result *result = NULL;
    ev_query *eq = NULL;
    int64_t from = pg_now_ns();

    ps_status st =
        ev_query_new(&env, &q->engine, expr, q->query, q->start_ms, q->end_ms, q->step_ms, &eq);
    int64_t prepared = pg_now_ns();
    t.prepare = seconds(prepared - from);
    bool preparing = st != PS_OK;
    if (st == PS_OK)
        st = ev_query_run(eq, &result);
    t.eval = seconds(pg_now_ns() - prepared);
    if (st == PS_OK)
        respond_result(job, q, result, t);
    else if (preparing && st == PS_EINVAL)
        respond_error(job, bad_data, ev_query_error(eq));
    else
        fail_query(job, st, eq != NULL ? ev_query_error(eq) : PS_STR("no memory"));
    ev_query_free(eq);
}

static void
open_and_evaluate(query_job *job, const request *q, pql_expr *expr)
{
    query_api *api = job->api;
    read_source_config config = {.tenant = http_request_identity(job->r)->tenant,
                                 .n_workers = query_pool_executor(api->pool).n_workers,
                                 .deadline_ns = job->deadline_ns};
    read_source *src = NULL;
    ps_err err;
    ps_status st = read_source_open(api->store, &config, &src, &err);

    if (st != PS_OK) {
        fail_query(job, st, ps_str_c(err.text));
        return;
    }
    publish_source(job, src);
    evaluate(job, q, src, expr);
    publish_source(job, NULL);
    read_source_close(src);
}

/* Bad queries are answered before anything is asked of the database. */
static ps_status
parse(query_job *job, const request *q, ps_arena *arena, pql_expr **ret, ps_buf *text)
{
    pql_error error;
    ps_status st = pql_parse(arena, q->query, &job->api->language, ret, &error);

    if (st != PS_OK) {
        ps_buf_addf(text, "invalid parameter \"query\": %s", error.text);
        return PS_EINVAL;
    }
    if (job->range && (*ret)->type != PQL_VECTOR && (*ret)->type != PQL_SCALAR) {
        ps_buf_addf(text,
                    "invalid parameter \"query\": invalid expression type \"%s\" for range query, "
                    "must be Scalar or instant Vector",
                    pql_type_text((*ret)->type));
        return PS_EINVAL;
    }
    return PS_OK;
}

void
query_run(query_job *job)
{
    query_params params;
    request q = {0};
    ps_arena arena;
    ps_buf text;
    pql_expr *expr = NULL;
    ps_err err;

    job->begun_ns = pg_now_ns();
    ps_arena_init(&arena, &ps_malloc, (size_t)64 << 20);
    ps_buf_init(&text, &ps_malloc);
    ps_status st = query_params_init(&params, job->r, &err);
    if (st == PS_OK)
        st = read_request(job, &params, &q, &err);
    if (st != PS_OK)
        respond_error(job, bad_data, ps_str_c(err.text));
    else if (parse(job, &q, &arena, &expr, &text) != PS_OK)
        respond_error(job, bad_data, ps_buf_str(&text));
    else {
        job->deadline_ns = job->arrived_ns + q.timeout_ns;
        open_and_evaluate(job, &q, expr);
    }
    ps_buf_done(&text);
    ps_arena_done(&arena);
    query_params_done(&params);
}
