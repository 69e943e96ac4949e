/*
 * pool.c - an executor with threads: whoever is free takes the next task.
 *
 * A run is announced under the lock by its number; workers take tasks until there are none and then say
 * that they are done with it. run() returns when all workers have said so.
 */
#include "tests/promql/pool.h"

#include <pthread.h>
#include <stdlib.h>

typedef struct worker {
    pool *p;
    size_t number;
    pthread_t thread;
} worker;

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    uint64_t run; /* number of the current one */
    bool stop;
    size_t busy; /* workers that are not done with it */
    size_t next, n_tasks;
    ev_task_fn fn;
    void *arg;
    size_t n;
    worker *workers;
};

static void *
work(void *arg)
{
    worker *w = arg;
    pool *p = w->p;
    uint64_t seen = 0;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (p->run == seen && !p->stop)
            pthread_cond_wait(&p->work, &p->lock);
        if (p->stop)
            break;
        seen = p->run;
        while (p->next < p->n_tasks) {
            size_t task = p->next++;
            pthread_mutex_unlock(&p->lock);
            p->fn(p->arg, task, w->number);
            pthread_mutex_lock(&p->lock);
        }
        if (--p->busy == 0)
            pthread_cond_signal(&p->done);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void
pool_run(void *self, size_t n, ev_task_fn fn, void *arg)
{
    pool *p = self;
    pthread_mutex_lock(&p->lock);
    p->fn = fn;
    p->arg = arg;
    p->next = 0;
    p->n_tasks = n;
    p->busy = p->n;
    p->run++;
    pthread_cond_broadcast(&p->work);
    while (p->busy > 0)
        pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

pool *
pool_new(size_t n_threads)
{
    pool *p = calloc(1, sizeof *p);
    if (p == NULL)
        return NULL;
    p->workers = calloc(n_threads, sizeof *p->workers);
    if (p->workers == NULL) {
        free(p);
        return NULL;
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    for (; p->n < n_threads; p->n++) {
        worker *w = &p->workers[p->n];
        *w = (worker){.p = p, .number = p->n};
        if (pthread_create(&w->thread, NULL, work, w) != 0)
            break;
    }
    if (p->n == n_threads)
        return p;
    pool_free(p);
    return NULL;
}

void
pool_free(pool *p)
{
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (size_t i = 0; i < p->n; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->done);
    free(p->workers);
    free(p);
}

ev_executor
pool_executor(pool *p)
{
    return (ev_executor){.self = p, .n_workers = p->n, .run = pool_run};
}
