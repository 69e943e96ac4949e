/*
 * executor.c - threads that help whoever runs a query.
 *
 * A run is a list of tasks that are taken one by one, by the one who asked for it and by helpers that
 * have nothing else to do. The run lies on the caller's stack: it is in the list only while tasks are
 * left, and the caller waits until the last helper has let go of it. Which thread takes which task has
 * no influence on results (lib/eval cuts the work by size alone).
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "connector/query/internal.h"

typedef struct run run;
struct run {
    run *next;
    ev_task_fn fn;
    void *arg;
    size_t n;
    atomic_size_t taken; /* may go beyond n */
    size_t inside;       /* helpers, under the lock */
};

typedef struct helper {
    query_pool *pool;
    pthread_t thread;
    size_t worker;
} helper;

struct query_pool {
    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    run *runs;
    bool stop;
    size_t n_helpers;
    helper helpers[];
};

static void
work(run *r, size_t worker)
{
    size_t task;

    while ((task = atomic_fetch_add_explicit(&r->taken, 1, memory_order_relaxed)) < r->n)
        r->fn(r->arg, task, worker);
}

static run *
find_run(query_pool *p)
{
    for (run *r = p->runs; r != NULL; r = r->next) {
        if (atomic_load_explicit(&r->taken, memory_order_relaxed) < r->n)
            return r;
    }
    return NULL;
}

static void *
helper_main(void *arg)
{
    helper *h = arg;
    query_pool *p = h->pool;
    run *r;

    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        if ((r = find_run(p)) == NULL) {
            pthread_cond_wait(&p->work, &p->lock);
            continue;
        }
        r->inside++;
        pthread_mutex_unlock(&p->lock);
        work(r, h->worker);
        pthread_mutex_lock(&p->lock);
        if (--r->inside == 0)
            pthread_cond_broadcast(&p->idle);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void
pool_run(void *self, size_t n, ev_task_fn fn, void *arg)
{
    query_pool *p = self;
    run r = {.fn = fn, .arg = arg, .n = n};

    if (n > 1 && p->n_helpers > 0) {
        pthread_mutex_lock(&p->lock);
        r.next = p->runs;
        p->runs = &r;
        pthread_cond_broadcast(&p->work);
        pthread_mutex_unlock(&p->lock);
    }
    work(&r, 0);
    if (n > 1 && p->n_helpers > 0) {
        pthread_mutex_lock(&p->lock);
        run **at = &p->runs;
        while (*at != &r)
            at = &(*at)->next;
        *at = r.next;
        while (r.inside > 0)
            pthread_cond_wait(&p->idle, &p->lock);
        pthread_mutex_unlock(&p->lock);
    }
}

ps_status
query_pool_start(size_t helpers, query_pool **ret, ps_err *err)
{
    query_pool *p = calloc(1, sizeof(*p) + helpers * sizeof(helper));

    if (p == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory");
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->idle, NULL);
    for (; p->n_helpers < helpers; p->n_helpers++) {
        helper *h = &p->helpers[p->n_helpers];
        *h = (helper){.pool = p, .worker = p->n_helpers + 1};
        if (pthread_create(&h->thread, NULL, helper_main, h) != 0) {
            query_pool_free(p);
            return ps_fail(err, PS_ENOMEM, "cannot start a thread");
        }
    }
    *ret = p;
    return PS_OK;
}

void
query_pool_free(query_pool *p)
{
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (size_t i = 0; i < p->n_helpers; i++)
        pthread_join(p->helpers[i].thread, NULL);
    pthread_cond_destroy(&p->idle);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

ev_executor
query_pool_executor(query_pool *p)
{
    return (ev_executor){.self = p, .n_workers = p->n_helpers + 1, .run = pool_run};
}
