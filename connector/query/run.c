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

typedef query_request request;

/* ---- features --------------------------------------------------------------------------------------------- */

static bool
set_feature(query_api *shared, ps_str name)
{
    /* always on here, or of a part that this program does not have */
    static const char *const accepted[] = {"promql-at-modifier", "promql-negative-offset",
                                           "promql-duration-expr", "native-histograms"};
    const struct {
        const char *name;
        bool *flag;
    } features[] = {{"promql-experimental-functions", &shared->language.experimental_functions},
                    {"promql-extended-range-selectors", &shared->language.extended_range},
                    {"promql-binop-fill-modifiers", &shared->language.fill},
                    {"promql-delayed-name-removal", &shared->engine.delayed_names},
                    {"use-start-timestamps", &shared->engine.start_timestamps},
                    {"type-and-unit-labels", &shared->engine.type_unit_labels},
                    {"promql-per-step-stats", &shared->per_step_stats}};

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
query_features(query_api *shared, const char *list, ps_err *err)
{
    ps_str rest = ps_str_c(list);

    while (rest.len > 0) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        size_t len = comma ? (size_t)(comma - rest.ptr) : rest.len;
        ps_str name = ps_str_trim((ps_str){rest.ptr, len});
        if (name.len > 0 && !set_feature(shared, name))
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

/* ---- parameters ----------------------------------------------------------------------------------------------- */

static double
seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

static ps_status
read_range(query_api *shared, const api_job *job, request *q, ps_err *err)
{
    int64_t step_ns;

    PS_TRY(api_time_param(job, "start", INT64_MIN, &q->start_ms, err));
    PS_TRY(api_time_param(job, "end", INT64_MIN, &q->end_ms, err));
    if (q->end_ms < q->start_ms)
        return ps_fail(err, PS_EINVAL,
                       "invalid parameter \"end\": end timestamp must not be before start time");
    if (api_parse_duration(api_param(job, "step"), &step_ns, err) != PS_OK)
        return api_bad_param("step", err);
    q->step_ms = step_ns / 1000000;
    if (q->step_ms <= 0)
        return ps_fail(err, PS_EINVAL,
                       "invalid parameter \"step\": zero or negative query resolution step widths "
                       "are not accepted. Try a positive integer");
    int64_t max = shared->settings->promql_max_points;
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
read_engine_options(query_api *shared, const api_job *job, request *q, ps_err *err)
{
    ps_str lookback = api_param(job, "lookback_delta"), stats = api_param(job, "stats");
    int64_t ns;

    q->engine = shared->engine;
    if (lookback.len > 0) {
        if (api_parse_duration(lookback, &ns, err) != PS_OK) {
            char reason[sizeof(err->text)];
            snprintf(reason, sizeof(reason), "%s", err->text);
            return ps_fail(err, PS_EINVAL, "error parsing lookback delta duration: %s", reason);
        }
        if (ns / 1000000 > 0)
            q->engine.lookback_ms = ns / 1000000;
    }
    q->stats = stats.len > 0;
    q->engine.per_step_stats = shared->per_step_stats && ps_str_eq_c(stats, "all");
    if (q->stats && !ps_str_eq_c(stats, "all") && !ps_str_eq_c(stats, "true"))
        q->stats_warning = "unsupported value of the stats parameter: use \"true\" or \"all\"";
    return PS_OK;
}

ps_status
query_read_request(query_api *shared, api_job *job, request *q, ps_err *err)
{
    struct timespec now;
    ps_str timeout = api_param(job, "timeout");
    int64_t ns;

    clock_gettime(CLOCK_REALTIME, &now);
    q->query = api_param(job, "query");
    PS_TRY(api_limit_param(job, "limit", &q->limit, err));
    if (q->range) {
        PS_TRY(read_range(shared, job, q, err));
    } else {
        PS_TRY(api_time_param(job, "time", (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
                              &q->start_ms, err));
        q->end_ms = q->start_ms;
    }
    if (timeout.len > 0) {
        if (api_parse_duration(timeout, &ns, err) != PS_OK)
            return api_bad_param("timeout", err);
        if (ns < api_deadline_ns(job) - api_arrived_ns(job))
            api_set_deadline(job, api_arrived_ns(job) + ns);
    }
    return read_engine_options(shared, job, q, err);
}

/* ---- evaluating --------------------------------------------------------------------------------------------------- */

static void
respond_result(query_api *shared, api_job *job, const request *q, read_source *src,
               const ev_result *result, query_timings t)
{
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

    w.n_source_warnings = read_source_warnings(src, &w.source_warnings);
    if (q->limit > 0 && result->n > q->limit &&
        (result->type == PQL_VECTOR || result->type == PQL_MATRIX))
        w.warning = "results truncated due to limit";
    metric_add(shared->samples, (double)result->stats.samples_read);
    w.timings.total = seconds(pg_now_ns() - api_arrived_ns(job));
    ps_buf_init(&out, &ps_malloc);
    out.max = (size_t)shared->settings->promql_max_bytes;
    query_render(&out, &w);
    if (out.failed)
        api_fail(job, API_EXECUTION,
                 "the answer is larger than a query may be (metrics.promql.max-bytes), or there is "
                 "no memory for it");
    else
        api_respond(job, 200, "application/json", &out);
    ps_buf_done(&out);
}

static void
evaluate(query_api *shared, api_job *job, const request *q, read_source *src, pql_expr *expr)
{
    ev_env env = {.alloc = ps_malloc,
                  .source = read_source_for_engine(src),
                  .executor = query_pool_executor(shared->pool),
                  .poll = api_poll,
                  .poll_self = job};
    query_timings t = {.queue = seconds(api_begun_ns(job) - api_arrived_ns(job))};
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
        respond_result(shared, job, q, src, result, t);
    else if (preparing && st == PS_EINVAL)
        api_fail_text(job, API_BAD_DATA, ev_query_error(eq));
    else
        api_fail_status(job, st, eq != NULL ? ev_query_error(eq) : PS_STR("no memory"));
    ev_query_free(eq);
}

static void
open_and_evaluate(query_api *shared, api_job *job, const request *q, pql_expr *expr)
{
    read_source *src = NULL;
    ps_err err;
    ps_status st = api_open_source(job, query_pool_executor(shared->pool).n_workers, 0, &src, &err);

    if (st != PS_OK) {
        api_fail_status(job, st, ps_str_c(err.text));
        return;
    }
    evaluate(shared, job, q, src, expr);
    api_close_source(job, src);
}

/* Bad queries are answered before anything is asked of the database. */
bool
query_parse(query_api *shared, api_job *job, const request *q, pql_expr **ret)
{
    pql_error error;

    if (pql_parse(api_arena(job), q->query, &shared->language, ret, &error) != PS_OK) {
        ps_buf text;
        ps_buf_init(&text, &ps_malloc);
        ps_buf_addf(&text, "invalid parameter \"query\": %s", error.text);
        api_fail_text(job, API_BAD_DATA, ps_buf_str(&text));
        ps_buf_done(&text);
        return false;
    }
    if (q->range && (*ret)->type != PQL_VECTOR && (*ret)->type != PQL_SCALAR) {
        api_fail(job, API_BAD_DATA,
                 "invalid parameter \"query\": invalid expression type \"%s\" for range query, "
                 "must be Scalar or instant Vector",
                 pql_type_text((*ret)->type));
        return false;
    }
    return true;
}

static void
run(query_api *shared, api_job *job, bool range)
{
    request q = {.range = range};
    pql_expr *expr = NULL;
    ps_err err;

    ps_status st = query_read_request(shared, job, &q, &err);
    if (st != PS_OK)
        api_fail_params(job, st, &err);
    else if (query_parse(shared, job, &q, &expr))
        open_and_evaluate(shared, job, &q, expr);
}

void
query_instant(api_job *job, void *self)
{
    run(self, job, false);
}

void
query_range(api_job *job, void *self)
{
    run(self, job, true);
}
