/*
 * path.c - the write path's life: threads started, drained, ended.
 *
 * Stopping: no new requests; those inside get their time; then `aborting` ends the threads (an
 * eventfd wakes those that wait for the database), and what is left is answered with "send again".
 */
#include "connector/write/internal.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define HEALTHY_NS INT64_C(15000000000)

static int64_t
real_time_ms(void *self)
{
    (void)self;
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void
init_locks(write_path *w)
{
    pthread_condattr_t attr;
    pthread_mutex_init(&w->mu, NULL);
    pthread_mutex_init(&w->old_mu, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_t *const all[] = {&w->work_cv, &w->resolve_cv, &w->flush_cv, &w->timer_cv,
                                   &w->idle_cv};
    for (size_t i = 0; i < PS_ARRAY_LEN(all); i++)
        pthread_cond_init(all[i], &attr);
    pthread_condattr_destroy(&attr);
}

static void
init_constants(write_path *w, const write_path_config *config)
{
    const settings *set = config->settings;
    w->set = set;
    w->log = config->log;
    w->now_ms = config->now_ms != NULL ? config->now_ms : real_time_ms;
    w->now_self = config->now_self;
    w->timeout_ns = set->ingest_timeout_ms * 1000000;
    w->held_max = (size_t)set->ingest_queue_bytes / 2;
    w->n_workers = (size_t)set->ingest_workers;
    if (w->n_workers == 0) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        w->n_workers = cores < 1 ? 1 : cores > 8 ? 8 : (size_t)cores;
    }
    if (w->n_workers > WP_MAX_WORKERS)
        w->n_workers = WP_MAX_WORKERS;
    atomic_init(&w->flush_ok, true);
}

static void
end_threads(write_path *w)
{
    pthread_mutex_lock(&w->mu);
    w->stopping = w->aborting = true;
    pthread_cond_t *const all[] = {&w->work_cv, &w->resolve_cv, &w->flush_cv, &w->timer_cv,
                                   &w->idle_cv};
    for (size_t i = 0; i < PS_ARRAY_LEN(all); i++)
        pthread_cond_broadcast(all[i]);
    pthread_mutex_unlock(&w->mu);
    uint64_t one = 1;
    if (write(w->cancel_fd, &one, sizeof(one)) != (ssize_t)sizeof(one))
        log_error(w->log, "cannot wake threads that wait for the database");
    for (size_t i = 0; i < w->n_threads; i++)
        pthread_join(w->threads[i], NULL);
    w->n_threads = 0;
}

static bool
spawn(write_path *w, void *(*main_fn)(void *))
{
    if (pthread_create(&w->threads[w->n_threads], NULL, main_fn, w) != 0)
        return false;
    w->n_threads++;
    return true;
}

static ps_status
spawn_all(write_path *w, ps_err *err)
{
    bool ok = spawn(w, wp_timer_main) && spawn(w, wp_resolver_main);
    for (size_t i = 0; ok && i < WP_FLUSHERS; i++)
        ok = spawn(w, wp_flusher_main);
    for (size_t i = 0; ok && i < w->n_workers; i++)
        ok = spawn(w, wp_worker_main);
    if (ok)
        return PS_OK;
    end_threads(w);
    return ps_fail(err, PS_EINTERNAL, "cannot start a thread");
}

ps_status
write_path_start(const write_path_config *config, write_path **ret, ps_err *err)
{
    write_path *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    init_locks(w);
    init_constants(w, config);
    w->conninfo = strdup(config->conninfo);
    w->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    series_cache_config cache = {.max_bytes = (size_t)config->settings->cache_series_max_bytes,
                                 .metrics = config->metrics};
    ps_status status = PS_OK;
    if (w->conninfo == NULL || w->cancel_fd < 0)
        status = ps_fail(err, PS_ENOMEM, "out of memory");
    if (status == PS_OK)
        status = series_cache_new(&cache, &w->cache, err);
    if (status == PS_OK) {
        w->seed = series_cache_seed(w->cache);
        wp_stats_init(w, config->metrics);
        status = spawn_all(w, err);
    }
    if (status != PS_OK) {
        write_path_free(w);
        return status;
    }
    *ret = w;
    return PS_OK;
}

bool
write_path_healthy(const write_path *w)
{
    return atomic_load(&w->probe_ok) && atomic_load(&w->flush_ok) &&
           pg_now_ns() - atomic_load(&w->last_ok_ns) < HEALTHY_NS;
}

void
write_path_stop(write_path *w, int64_t timeout_ms)
{
    int64_t until = pg_now_ns() + timeout_ms * 1000000;
    pthread_mutex_lock(&w->mu);
    w->stopping = true;
    while (w->n_inside > 0 && pg_now_ns() < until)
        wp_timed_wait(&w->idle_cv, &w->mu, until);
    pthread_mutex_unlock(&w->mu);
    end_threads(w);

    /* Only queued ones are left, and nobody else is here. */
    while (w->oldest != NULL) {
        wp_request *r = w->oldest;
        if (r->queued)
            wp_remove(w, r);
        wp_route(w, r, WP_DECODE, false); /* answers it, since the path is giving up */
    }
}

void
write_path_free(write_path *w)
{
    if (w == NULL)
        return;
    if (w->n_threads > 0)
        write_path_stop(w, 0);
    while (w->spare != NULL) {
        wp_request *r = w->spare;
        w->spare = r->next_spare;
        w->n_spare = WP_MAX_SPARE; /* full: freeing really frees */
        wp_request_free(w, r);
    }
    wp_tenants_free(w);
    series_cache_free(w->cache);
    if (w->cancel_fd >= 0)
        close(w->cancel_fd);
    free(w->conninfo);
    pthread_cond_t *const all[] = {&w->work_cv, &w->resolve_cv, &w->flush_cv, &w->timer_cv,
                                   &w->idle_cv};
    for (size_t i = 0; i < PS_ARRAY_LEN(all); i++)
        pthread_cond_destroy(all[i]);
    pthread_mutex_destroy(&w->mu);
    wp_periods_set(w, NULL);
    pthread_mutex_destroy(&w->old_mu);
    free(w);
}
