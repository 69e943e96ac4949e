/*
 * ticker.c - see ticker.h. Beats are counted from the start, so they do not drift.
 */
#include "connector/ops/ticker.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct ticker {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool stop;
    int64_t next_ms, interval_ms;
    void (*work)(void *self);
    void *self;
};

static int64_t
now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void *
ticker_main(void *self)
{
    ticker *t = self;

    pthread_mutex_lock(&t->lock);
    while (!t->stop) {
        if (now_ms() < t->next_ms) {
            struct timespec until = {.tv_sec = t->next_ms / 1000,
                                     .tv_nsec = (t->next_ms % 1000) * 1000000};
            pthread_cond_timedwait(&t->changed, &t->lock, &until);
            continue;
        }
        pthread_mutex_unlock(&t->lock);
        t->work(t->self);
        pthread_mutex_lock(&t->lock);
        do
            t->next_ms += t->interval_ms;
        while (t->next_ms <= now_ms());
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

ps_status
ticker_start(int64_t first_ms, int64_t interval_ms, void (*work)(void *self), void *self,
             ticker **ret, ps_err *err)
{
    pthread_condattr_t attr;
    ticker *t = calloc(1, sizeof(*t));

    if (t == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory for a thread");
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &attr);
    pthread_condattr_destroy(&attr);
    t->next_ms = now_ms() + first_ms;
    t->interval_ms = interval_ms > 0 ? interval_ms : 1;
    t->work = work;
    t->self = self;
    if (pthread_create(&t->thread, NULL, ticker_main, t) != 0) {
        pthread_cond_destroy(&t->changed);
        pthread_mutex_destroy(&t->lock);
        free(t);
        return ps_fail(err, PS_EUNAVAILABLE, "a thread cannot be started");
    }
    *ret = t;
    return PS_OK;
}

void
ticker_stop(ticker *t)
{
    if (t == NULL)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
