/*
 * query.c - begin and end of what all queries share.
 */
#include <stdlib.h>
#include <unistd.h>

#include "connector/query/internal.h"

static ps_status
start_pool(query_api *q, ps_err *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t workers = (size_t)q->settings->promql_workers;

    if (workers == 0)
        workers = cores > 1 ? (size_t)cores : 1;
    return query_pool_start(workers - 1, &q->pool, err);
}

ps_status
query_api_start(const settings *set, metrics *m, query_api **ret, ps_err *err)
{
    query_api *q = calloc(1, sizeof(*q));

    if (q == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory");
    q->settings = set;
    q->engine = (ev_options){.lookback_ms = set->promql_lookback_ms,
                             .subquery_step_ms = set->promql_subquery_step_ms,
                             .max_samples = (uint64_t)set->promql_max_samples,
                             .max_bytes = (size_t)set->promql_max_bytes};
    q->samples =
        metrics_counter(m, "promscale_query_samples_total", "Samples that queries have read.", "");
    ps_status st = query_features(q, set->enable_feature, err);
    if (st == PS_OK)
        st = start_pool(q, err);
    if (st != PS_OK) {
        query_api_free(q);
        return st;
    }
    *ret = q;
    return PS_OK;
}

void
query_api_free(query_api *q)
{
    if (q == NULL)
        return;
    query_pool_free(q->pool);
    free(q);
}

const pql_options *
query_language(const query_api *q)
{
    return &q->language;
}

const ev_options *
query_engine(const query_api *q)
{
    return &q->engine;
}
