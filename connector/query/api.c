/*
 * api.c - the queue of queries and the threads that run them.
 *
 *   handler (server's thread) -> queue -> query thread -> run.c -> answer
 *
 * Threads are as many as queries may run at once. A watcher looks ten times a second at what runs: a
 * client that is gone ends its query also while it waits for the database. Everything mutable is under
 * the one lock, which is never held while something waits.
 */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "connector/pg/pg.h"
#include "connector/query/internal.h"

enum { MAX_QUEUED = 1000, WATCH_MS = 100 };

/* ---- queue ------------------------------------------------------------------------------------------ */

static query_job *
take_job(query_api *api)
{
    query_job *job = api->queue;

    if (job == NULL)
        return NULL;
    api->queue = job->next;
    if (api->queue == NULL)
        api->queue_end = &api->queue;
    api->n_queued--;
    return job;
}

static void
answer_stopping(query_job *job)
{
    http_respond_api_error(job->r, 503, "unavailable", "the connector is stopping");
    free(job);
}

static void *
query_main(void *arg)
{
    query_api *api = arg;
    query_job *job;

    pthread_mutex_lock(&api->lock);
    while (!api->stopping) {
        if ((job = take_job(api)) == NULL) {
            pthread_cond_wait(&api->wake, &api->lock);
            continue;
        }
        job->next = api->running;
        api->running = job;
        api->n_running++;
        pthread_mutex_unlock(&api->lock);
        query_run(job);
        pthread_mutex_lock(&api->lock);
        query_job **at = &api->running;
        while (*at != job)
            at = &(*at)->next;
        *at = job->next;
        api->n_running--;
        free(job);
    }
    pthread_mutex_unlock(&api->lock);
    return NULL;
}

/* Answering lets go of the request: the watcher must not look at it afterwards. run.c clears job->r
 * under the lock before it answers. */
static void *
watch_main(void *arg)
{
    query_api *api = arg;
    struct timespec until;

    pthread_mutex_lock(&api->lock);
    while (!api->stopping) {
        for (query_job *job = api->running; job != NULL; job = job->next) {
            if (job->r == NULL || !http_client_gone(job->r) || atomic_load(&job->stop) != PS_OK)
                continue;
            atomic_store(&job->stop, PS_ECANCELED);
            if (job->source != NULL)
                read_source_cancel(job->source);
        }
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += WATCH_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_nsec -= 1000000000L;
            until.tv_sec++;
        }
        (void)pthread_cond_timedwait(&api->watch, &api->lock, &until);
    }
    pthread_mutex_unlock(&api->lock);
    return NULL;
}

static void
submit(query_api *api, http_request *r, bool range)
{
    query_job *job = calloc(1, sizeof(*job));
    const char *refusal = NULL;

    if (job == NULL) {
        http_respond_api_error(r, 503, "unavailable", "no memory, try again");
        return;
    }
    job->api = api;
    job->r = r;
    job->range = range;
    job->arrived_ns = pg_now_ns();
    pthread_mutex_lock(&api->lock);
    if (api->stopping)
        refusal = "the connector is stopping";
    else if (api->n_queued >= MAX_QUEUED)
        refusal = "too many queries are waiting, try again";
    if (refusal == NULL) {
        *api->queue_end = job;
        api->queue_end = &job->next;
        api->n_queued++;
        pthread_cond_signal(&api->wake);
    }
    pthread_mutex_unlock(&api->lock);
    if (refusal != NULL) {
        free(job);
        http_respond_api_error(r, 503, "unavailable", "%s", refusal);
    }
}

void
query_instant(http_request *r, void *self)
{
    submit(self, r, false);
}

void
query_range(http_request *r, void *self)
{
    submit(self, r, true);
}

/* ---- life --------------------------------------------------------------------------------------------- */

static double
count_running(void *self)
{
    query_api *api = self;

    pthread_mutex_lock(&api->lock);
    double n = (double)api->n_running;
    pthread_mutex_unlock(&api->lock);
    return n;
}

static double
count_queued(void *self)
{
    query_api *api = self;

    pthread_mutex_lock(&api->lock);
    double n = (double)api->n_queued;
    pthread_mutex_unlock(&api->lock);
    return n;
}

static void
register_metrics(query_api *api)
{
    static const double bounds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                    0.25,   0.5,   1,      2.5,   5,    10,    30,   120};
    static const char *const types[] = {"type=\"instant\"", "type=\"range\""};

    for (int i = 0; i < 2; i++)
        api->m.seconds[i] = metrics_histogram(api->metrics, "promscale_query_duration_seconds",
                                              "Time from a query's arrival to its answer.",
                                              types[i], bounds, PS_ARRAY_LEN(bounds));
    api->m.samples = metrics_counter(api->metrics, "promscale_query_samples_total",
                                     "Samples that queries have read.", "");
    metrics_gauge_fn(api->metrics, "promscale_query_running", "Queries that run.", "",
                     count_running, api);
    metrics_gauge_fn(api->metrics, "promscale_query_queued", "Queries that wait for others.", "",
                     count_queued, api);
}

static ps_status
start_threads(query_api *api, ps_err *err)
{
    size_t n = (size_t)api->settings->promql_max_concurrency;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t workers = (size_t)api->settings->promql_workers;

    if (workers == 0)
        workers = cores > 1 ? (size_t)cores : 1;
    PS_TRY(query_pool_start(workers - 1, &api->pool, err));
    api->threads = calloc(n, sizeof(*api->threads));
    if (api->threads == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory");
    for (; api->n_threads < n; api->n_threads++) {
        if (pthread_create(&api->threads[api->n_threads], NULL, query_main, api) != 0)
            return ps_fail(err, PS_ENOMEM, "cannot start a thread");
    }
    if (pthread_create(&api->watcher, NULL, watch_main, api) != 0)
        return ps_fail(err, PS_ENOMEM, "cannot start a thread");
    api->has_watcher = true;
    return PS_OK;
}

ps_status
query_api_start(const query_api_config *config, query_api **ret, ps_err *err)
{
    query_api *api = calloc(1, sizeof(*api));
    const settings *s = config->settings;

    if (api == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory");
    api->settings = s;
    api->store = config->store;
    api->log = config->log;
    api->metrics = config->metrics;
    api->queue_end = &api->queue;
    api->engine = (ev_options){.lookback_ms = s->promql_lookback_ms,
                               .subquery_step_ms = s->promql_subquery_step_ms,
                               .max_samples = (uint64_t)s->promql_max_samples,
                               .max_bytes = (size_t)s->promql_max_bytes};
    pthread_mutex_init(&api->lock, NULL);
    pthread_cond_init(&api->wake, NULL);
    pthread_cond_init(&api->watch, NULL);
    ps_status st = query_features(api, s->enable_feature, err);
    if (st == PS_OK)
        st = start_threads(api, err);
    if (st != PS_OK) {
        query_api_stop(api);
        query_api_free(api);
        return st;
    }
    register_metrics(api);
    *ret = api;
    return PS_OK;
}

void
query_api_stop(query_api *api)
{
    query_job *waiting;

    if (api == NULL)
        return;
    pthread_mutex_lock(&api->lock);
    api->stopping = true;
    waiting = api->queue;
    api->queue = NULL;
    api->queue_end = &api->queue;
    api->n_queued = 0;
    for (query_job *job = api->running; job != NULL; job = job->next) {
        atomic_store(&job->stop, PS_EUNAVAILABLE);
        if (job->source != NULL)
            read_source_cancel(job->source);
    }
    pthread_cond_broadcast(&api->wake);
    pthread_cond_broadcast(&api->watch);
    pthread_mutex_unlock(&api->lock);
    while (waiting != NULL) {
        query_job *next = waiting->next;
        answer_stopping(waiting);
        waiting = next;
    }
    for (size_t i = 0; i < api->n_threads; i++)
        pthread_join(api->threads[i], NULL);
    api->n_threads = 0;
    if (api->has_watcher)
        pthread_join(api->watcher, NULL);
    api->has_watcher = false;
}

void
query_api_free(query_api *api)
{
    if (api == NULL)
        return;
    query_pool_free(api->pool);
    pthread_cond_destroy(&api->watch);
    pthread_cond_destroy(&api->wake);
    pthread_mutex_destroy(&api->lock);
    free(api->threads);
    free(api);
}
