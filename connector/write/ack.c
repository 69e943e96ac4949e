/*
 * ack.c - the end of a request: answered exactly once, by the stage that finished it or by the
 * timer.
 *
 * All unanswered requests stand in one list by age; since all wait equally long, the list is
 * ordered by deadline too and the timer sleeps until the first one's. It may answer a request that
 * a stage holds: the answer borrows nothing from the request, and the stage that passes it on later
 * finds `answered` and drops it. Only a request whose body is being read (pinned) is left to its
 * stage.
 */
#include "connector/write/internal.h"

#include <time.h>

static const char too_late[] = "the database did not take the samples in time, send them again";
static const char going_down[] = "the server is shutting down, send the samples again";

/* Under mu: takes r out of the list of unanswered ones. From here on the answer is the caller's
 * duty. */
static void
claim_answer(write_path *w, wp_request *r)
{
    r->answered = true;
    *(r->older != NULL ? &r->older->newer : &w->oldest) = r->newer;
    *(r->newer != NULL ? &r->newer->older : &w->newest) = r->older;
    r->older = r->newer = NULL;
    w->bytes_inside -= r->in.body.len;
    r->tenant->n_requests--;
    r->tenant->n_bytes -= r->in.body.len;
}

/* Under mu, after the answer was given: only now does stopping no longer wait for it. */
static void
answer_given(write_path *w)
{
    w->n_inside--;
    if (w->n_inside == 0)
        pthread_cond_broadcast(&w->idle_cv);
}

static void
drop(write_path *w, wp_request *r)
{
    bool paused = w->held_bytes > w->held_max;
    w->held_bytes -= r->held_bytes;
    r->tenant->n_users--;
    wp_request_free(w, r);
    if (paused && w->held_bytes <= w->held_max)
        pthread_cond_broadcast(&w->work_cv);
}

static void
count(write_path *w, const wp_request *r, const write_result *result)
{
    metric_add(w->stats.received, (double)r->received.floats);
    metric_add(w->stats.histograms_received, (double)r->received.histograms);
    metric_add(w->stats.written, (double)result->samples_written);
    metric_add(w->stats.histograms_written, (double)result->histograms_written);
    metric_add(w->stats.exemplars_written, (double)result->exemplars_written);
}

static void
build_answer(write_path *w, wp_request *r, write_result *ret)
{
    *ret = (write_result){.status = r->fatal, .text = r->text};
    if (r->unnamed > 0) {
        snprintf(r->text + r->text_len, sizeof(r->text) - r->text_len, " (and %u more)",
                 r->unnamed);
    }
    if (r->fatal == PS_OK) {
        ret->status = r->refused ? PS_EINVAL : PS_OK;
        ret->samples_written = r->received.floats - r->refused_counts.floats;
        ret->samples_refused = r->refused_counts.floats;
        ret->histograms_written = r->received.histograms - r->refused_counts.histograms;
        ret->histograms_refused = r->refused_counts.histograms;
        ret->exemplars_written = r->exemplars_written;
    }
    count(w, r, ret);
}

void
wp_finish(write_path *w, wp_request *r)
{
    pthread_mutex_lock(&w->mu);
    bool mine = !r->answered;
    if (mine)
        claim_answer(w, r);
    pthread_mutex_unlock(&w->mu);
    if (mine) {
        write_result result;
        build_answer(w, r, &result);
        r->done(r->done_self, &result);
    }
    pthread_mutex_lock(&w->mu);
    drop(w, r);
    if (mine)
        answer_given(w);
    pthread_mutex_unlock(&w->mu);
}

static pthread_cond_t *
cv_of(write_path *w, wp_queue queue)
{
    return queue == WP_DECODE ? &w->work_cv : queue == WP_RESOLVE ? &w->resolve_cv : &w->flush_cv;
}

void
wp_route(write_path *w, wp_request *r, wp_queue queue, bool front)
{
    int64_t now = pg_now_ns();
    pthread_mutex_lock(&w->mu);
    r->pinned = false;
    if (queue == WP_DECODE)
        wp_request_trim(r); /* what waits to be decoded must not hold what decoders wait for */
    size_t bytes = wp_request_bytes(r);
    w->held_bytes += bytes - r->held_bytes;
    r->held_bytes = bytes;
    if (r->answered) {
        drop(w, r);
        pthread_mutex_unlock(&w->mu);
        return;
    }
    if (w->aborting || wp_expired(r, now)) {
        metric_add(w->stats.rejected[w->aborting ? WP_REJECT_STOPPING : WP_REJECT_TIMEOUT], 1);
        const char *text = w->aborting ? going_down : too_late;
        pthread_mutex_unlock(&w->mu);
        wp_fatal(r, PS_EUNAVAILABLE, "%s", text);
        wp_finish(w, r);
        return;
    }
    r->entered_ns = now;
    wp_push(w, r, queue, front);
    pthread_cond_signal(cv_of(w, queue));
    if (w->timer_idle)
        pthread_cond_signal(&w->timer_cv);
    pthread_mutex_unlock(&w->mu);
}

/* ---- the timer ------------------------------------------------------------------------------ */

/* Under mu, which is given up while the answer is given. */
static void
answer_late(write_path *w, wp_request *r)
{
    write_done_fn done = r->done;
    void *self = r->done_self;
    bool waited = r->queued;
    if (waited)
        wp_remove(w, r);
    if (!waited || r->queue == WP_FLUSH)
        atomic_store(&w->flush_ok, false);
    claim_answer(w, r);
    if (waited)
        drop(w, r);
    pthread_mutex_unlock(&w->mu);
    metric_add(w->stats.rejected[WP_REJECT_TIMEOUT], 1);
    write_result result = {.status = PS_EUNAVAILABLE, .text = too_late};
    done(self, &result);
    pthread_mutex_lock(&w->mu);
    answer_given(w);
}

void *
wp_timer_main(void *path)
{
    write_path *w = path;
    pthread_mutex_lock(&w->mu);
    while (!w->aborting) {
        int64_t now = pg_now_ns();
        wp_request *r = w->oldest;
        while (r != NULL && r->pinned)
            r = r->newer;
        if (r == NULL) {
            /* Pinned ones are finished by their stage if they are late; whoever queues one
             * signals. */
            w->timer_idle = true;
            pthread_cond_wait(&w->timer_cv, &w->mu);
            w->timer_idle = false;
        } else if (wp_expired(r, now)) {
            answer_late(w, r);
        } else {
            wp_timed_wait(&w->timer_cv, &w->mu, r->deadline_ns);
        }
    }
    pthread_mutex_unlock(&w->mu);
    return NULL;
}

void
wp_timed_wait(pthread_cond_t *cv, pthread_mutex_t *mu, int64_t until_ns)
{
    struct timespec ts = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
    pthread_cond_timedwait(cv, mu, &ts);
}
