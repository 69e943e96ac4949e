/*
 * jobs.c - the queue of requests and the threads that run them.
 *
 *   handler (server's thread) -> queue -> thread -> endpoint -> answer
 *
 * Everything mutable is under the one lock, which is never held while something waits. Answering lets go of
 * the request: the watcher must not look at it afterwards, so job->r is cleared under the lock first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "connector/api/internal.h"
#include "connector/pg/pg.h"

enum { MAX_QUEUED = 1000, WATCH_MS = 100, ARENA_BYTES = 64 << 20 };

/* ---- running ---------------------------------------------------------------------------------------- */

static api_job *
take_job(api *a)
{
    api_job *job = a->queue;

    if (job == NULL)
        return NULL;
    a->queue = job->next;
    if (a->queue == NULL)
        a->queue_end = &a->queue;
    a->n_queued--;
    return job;
}

static void
run_job(api_job *job)
{
    ps_err err;

    job->begun_ns = pg_now_ns();
    job->deadline_ns = job->arrived_ns + job->api->settings->promql_timeout_ms * 1000000;
    ps_arena_init(&job->arena, &ps_malloc, ARENA_BYTES);
    ps_status st = api_read_params(job, &err);
    if (st != PS_OK)
        api_fail_params(job, st, &err);
    else
        job->endpoint->run(job, job->endpoint->self);
    ps_arena_done(&job->arena);
}

static void *
job_main(void *arg)
{
    api *a = arg;
    api_job *job;

    pthread_mutex_lock(&a->lock);
    while (!a->stopping) {
        if ((job = take_job(a)) == NULL) {
            pthread_cond_wait(&a->wake, &a->lock);
            continue;
        }
        job->next = a->running;
        a->running = job;
        a->n_running++;
        pthread_mutex_unlock(&a->lock);
        run_job(job);
        pthread_mutex_lock(&a->lock);
        api_job **at = &a->running;
        while (*at != job)
            at = &(*at)->next;
        *at = job->next;
        a->n_running--;
        free(job);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

/* ---- ending what nobody waits for ---------------------------------------------------------------------- */

static void
stop_job(api_job *job, ps_status why)
{
    atomic_store(&job->stop, why);
    if (job->source != NULL)
        read_source_cancel(job->source);
}

/* Jobs in the queue whose clients are gone, as a list of their own: they must not keep others waiting. */
static api_job *
take_forsaken(api *a)
{
    api_job *gone = NULL, **at = &a->queue;

    while (*at != NULL) {
        api_job *job = *at;
        if (!http_client_gone(job->r)) {
            at = &job->next;
            continue;
        }
        *at = job->next;
        a->n_queued--;
        job->next = gone;
        gone = job;
    }
    a->queue_end = at;
    return gone;
}

static void
answer_unrun(api_job *jobs, int status, const char *type, const char *text)
{
    while (jobs != NULL) {
        api_job *next = jobs->next;
        http_respond_api_error(jobs->r, status, type, "%s", text);
        free(jobs);
        jobs = next;
    }
}

static void *
watch_main(void *arg)
{
    api *a = arg;
    struct timespec until;

    pthread_mutex_lock(&a->lock);
    while (!a->stopping) {
        for (api_job *job = a->running; job != NULL; job = job->next) {
            if (job->r != NULL && http_client_gone(job->r) && atomic_load(&job->stop) == PS_OK)
                stop_job(job, PS_ECANCELED);
        }
        api_job *forsaken = take_forsaken(a);
        if (forsaken != NULL) {
            pthread_mutex_unlock(&a->lock);
            answer_unrun(forsaken, 499, "canceled", "the client is gone");
            pthread_mutex_lock(&a->lock);
            continue;
        }
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += WATCH_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_nsec -= 1000000000L;
            until.tv_sec++;
        }
        (void)pthread_cond_timedwait(&a->watch, &a->lock, &until);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

void
api_submit(http_request *r, void *endpoint)
{
    const api_endpoint *e = endpoint;
    api *a = e->api;
    api_job *job = calloc(1, sizeof(*job));
    const char *refusal = NULL;

    if (job == NULL) {
        http_respond_api_error(r, 503, "unavailable", "no memory, try again");
        return;
    }
    job->api = a;
    job->r = r;
    job->endpoint = e;
    job->arrived_ns = pg_now_ns();
    pthread_mutex_lock(&a->lock);
    if (a->stopping)
        refusal = "the connector is stopping";
    else if (a->n_queued >= MAX_QUEUED)
        refusal = "too many queries are waiting, try again";
    if (refusal == NULL) {
        *a->queue_end = job;
        a->queue_end = &job->next;
        a->n_queued++;
        pthread_cond_signal(&a->wake);
    }
    pthread_mutex_unlock(&a->lock);
    if (refusal != NULL) {
        free(job);
        http_respond_api_error(r, 503, "unavailable", "%s", refusal);
    }
}

/* ---- what a job knows --------------------------------------------------------------------------------------- */

const settings *
api_settings(const api_job *job)
{
    return job->api->settings;
}

read_store *
api_store(const api_job *job)
{
    return job->api->store;
}

logger *
api_log(const api_job *job)
{
    return job->api->log;
}

metrics *
api_metrics(const api_job *job)
{
    return job->api->metrics;
}

const http_request *
api_request(const api_job *job)
{
    return job->r;
}

http_request *
api_answering(api_job *job)
{
    return job->r;
}

ps_str
api_tenant(const api_job *job)
{
    return http_request_identity(job->r)->tenant;
}

ps_arena *
api_arena(api_job *job)
{
    return &job->arena;
}

int64_t
api_arrived_ns(const api_job *job)
{
    return job->arrived_ns;
}

int64_t
api_begun_ns(const api_job *job)
{
    return job->begun_ns;
}

int64_t
api_deadline_ns(const api_job *job)
{
    return job->deadline_ns;
}

void
api_set_deadline(api_job *job, int64_t deadline_ns)
{
    job->deadline_ns = deadline_ns;
}

ps_status
api_poll(void *self)
{
    api_job *job = self;
    ps_status st = (ps_status)atomic_load_explicit(&job->stop, memory_order_relaxed);

    if (st != PS_OK)
        return st == PS_EUNAVAILABLE ? PS_ECANCELED : st;
    return pg_now_ns() > job->deadline_ns ? PS_ETIMEOUT : PS_OK;
}

static void
publish_source(api_job *job, read_source *src)
{
    pthread_mutex_lock(&job->api->lock);
    job->source = src;
    if (src != NULL && atomic_load(&job->stop) != PS_OK)
        read_source_cancel(src);
    pthread_mutex_unlock(&job->api->lock);
}

ps_status
api_open_source(api_job *job, size_t n_workers, size_t max_bytes, read_source **ret, ps_err *err)
{
    read_source_config config = {.tenant = api_tenant(job),
                                 .n_workers = n_workers,
                                 .max_bytes = max_bytes,
                                 .deadline_ns = job->deadline_ns};

    PS_TRY(read_source_open(job->api->store, &config, ret, err));
    publish_source(job, *ret);
    return PS_OK;
}

void
api_close_source(api_job *job, read_source *src)
{
    publish_source(job, NULL);
    read_source_close(src);
}

/* ---- life ----------------------------------------------------------------------------------------------------- */

static double
count_running(void *self)
{
    api *a = self;

    pthread_mutex_lock(&a->lock);
    double n = (double)a->n_running;
    pthread_mutex_unlock(&a->lock);
    return n;
}

static double
count_queued(void *self)
{
    api *a = self;

    pthread_mutex_lock(&a->lock);
    double n = (double)a->n_queued;
    pthread_mutex_unlock(&a->lock);
    return n;
}

static ps_status
start_threads(api *a, ps_err *err)
{
    size_t n = (size_t)a->settings->promql_max_concurrency;

    a->threads = calloc(n, sizeof(*a->threads));
    if (a->threads == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory");
    for (; a->n_threads < n; a->n_threads++) {
        if (pthread_create(&a->threads[a->n_threads], NULL, job_main, a) != 0)
            return ps_fail(err, PS_ENOMEM, "cannot start a thread");
    }
    if (pthread_create(&a->watcher, NULL, watch_main, a) != 0)
        return ps_fail(err, PS_ENOMEM, "cannot start a thread");
    a->has_watcher = true;
    return PS_OK;
}

ps_status
api_start(const api_config *config, api **ret, ps_err *err)
{
    api *a = calloc(1, sizeof(*a));

    if (a == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory");
    a->settings = config->settings;
    a->store = config->store;
    a->log = config->log;
    a->metrics = config->metrics;
    a->queue_end = &a->queue;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->wake, NULL);
    pthread_cond_init(&a->watch, NULL);
    ps_status st = start_threads(a, err);
    if (st != PS_OK) {
        api_stop(a);
        api_free(a);
        return st;
    }
    metrics_gauge_fn(a->metrics, "promscale_query_running", "Queries that run.", "", count_running,
                     a);
    metrics_gauge_fn(a->metrics, "promscale_query_queued", "Queries that wait for others.", "",
                     count_queued, a);
    *ret = a;
    return PS_OK;
}

void
api_stop(api *a)
{
    if (a == NULL)
        return;
    pthread_mutex_lock(&a->lock);
    a->stopping = true;
    api_job *waiting = a->queue;
    a->queue = NULL;
    a->queue_end = &a->queue;
    a->n_queued = 0;
    for (api_job *job = a->running; job != NULL; job = job->next)
        stop_job(job, PS_EUNAVAILABLE);
    pthread_cond_broadcast(&a->wake);
    pthread_cond_broadcast(&a->watch);
    pthread_mutex_unlock(&a->lock);
    answer_unrun(waiting, 503, "unavailable", "the connector is stopping");
    for (size_t i = 0; i < a->n_threads; i++)
        pthread_join(a->threads[i], NULL);
    a->n_threads = 0;
    if (a->has_watcher)
        pthread_join(a->watcher, NULL);
    a->has_watcher = false;
}

void
api_free(api *a)
{
    if (a == NULL)
        return;
    pthread_cond_destroy(&a->watch);
    pthread_cond_destroy(&a->wake);
    pthread_mutex_destroy(&a->lock);
    free(a->threads);
    free(a);
}
