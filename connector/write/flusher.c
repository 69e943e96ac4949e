/*
 * flusher.c - when to flush, what, and what to do when it fails.
 *
 * Group commit: while one flush runs, requests gather; when it ends, all that waits
 * (up to ingest.flush-max-samples, tenants in turn) goes into the next. A second flush starts
 * beside the first only if much waits or the first has been running for a while, since two small
 * transactions cost more than one.
 *
 * A row costs the database and every fold the same whatever it holds, and a small flush has nearly as many
 * rows as a large one. So flushes do not follow each other more closely than ingest.flush-gather. That
 * must not keep senders waiting for each other in vain: when as many requests wait as were inside together
 * lately, all senders are here, each of them idle until it has its answer, and the flush begins.
 *
 * Nobody's data may hold up others': a flush that fails because of what is in it is halved until
 * the guilty request stands alone, and that one is taken apart series by series (guilty.c). A
 * failure of the database (or a connection lost in the middle: the commit is in doubt) puts all
 * back in the queue, where they wait for the next try or their deadline. Requests that were aboard
 * when connections broke three times are sent alone from then on: one of them may be what breaks
 * it.
 */
#include "connector/write/flusher.h"

#include <stdlib.h>

#define SLOW_NS                                                                                    \
    INT64_C(20000000) /* a flush that runs longer no longer keeps the second one waiting */
enum {
    SUSPECT_LOSSES = 3,
    STUBBORN_FAILURES = 3 /* in a row: then the connection is given up, too */
};

/* ---- when and what -------------------------------------------------------------------------- */

static int64_t
gather_ns(const write_path *w)
{
    const int64_t set = w->set->ingest_flush_gather_ms * INT64_C(1000000);
    return set < w->timeout_ns / 4 ? set : w->timeout_ns / 4; /* nobody is refused for having waited */
}

bool
flusher_may_start(const write_path *w, int index, int64_t now, int64_t *ret_wake_ns)
{
    int64_t other_started = 0;
    *ret_wake_ns = INT64_MAX;
    if (w->n_queued[WP_FLUSH] == 0)
        return false;
    if (now < w->flush_pause_until_ns) {
        *ret_wake_ns = w->flush_pause_until_ns;
        return false;
    }
    for (int i = 0; i < WP_FLUSHERS; i++) {
        if (i != index && w->flush_started_ns[i] != 0)
            other_started = w->flush_started_ns[i];
    }
    if (w->waiting_samples > (size_t)w->set->ingest_flush_min_parallel)
        return true;
    const wp_request *first = wp_peek(w, WP_FLUSH);
    bool alone = first != NULL && first->losses >= SUSPECT_LOSSES; /* nobody joins it */
    if (other_started == 0 && (alone || w->n_queued[WP_FLUSH] >= w->flush_expected ||
                               w->waiting_samples >= (size_t)w->set->ingest_flush_max_samples))
        return true;
    const int64_t until =
        other_started != 0 ? other_started + SLOW_NS : w->flush_last_ns + gather_ns(w);
    if (now >= until)
        return true;
    *ret_wake_ns = until;
    return false;
}

void
flusher_starts(write_path *w, int index, int64_t now)
{
    if (now >= w->flush_last_ns + gather_ns(w)) /* those who were missing did not come */
        w->flush_expected = (w->flush_expected + w->n_inside) / 2;
    if (w->flush_expected < w->n_inside)
        w->flush_expected = w->n_inside;
    w->flush_last_ns = now;
    w->flush_started_ns[index] = now;
}

/* Under mu. */
static void
take_batch(flusher *f)
{
    write_path *w = f->w;
    size_t n_samples = 0;
    wp_request *r;
    f->n = 0;
    while (f->n < WP_MAX_BATCH_REQUESTS && (r = wp_peek(w, WP_FLUSH)) != NULL) {
        bool alone = r->losses >= SUSPECT_LOSSES;
        size_t weight = wp_request_weight(r);
        if (f->n > 0 && (alone || n_samples + weight > (size_t)w->set->ingest_flush_max_samples))
            break;
        f->requests[f->n++] = wp_take(w, WP_FLUSH);
        n_samples += weight;
        if (alone)
            break;
    }
}

static bool
next_batch(flusher *f)
{
    write_path *w = f->w;
    pthread_mutex_lock(&w->mu);
    w->flush_started_ns[f->index] = 0;
    pthread_cond_signal(&w->flush_cv); /* the other one may have waited for us */
    while (!w->aborting) {
        int64_t now = pg_now_ns(), wake;
        if (flusher_may_start(w, f->index, now, &wake)) {
            flusher_starts(w, f->index, now);
            take_batch(f);
            break;
        }
        if (wake == INT64_MAX)
            pthread_cond_wait(&w->flush_cv, &w->mu);
        else
            wp_timed_wait(&w->flush_cv, &w->mu, wake);
    }
    bool aborting = w->aborting;
    pthread_mutex_unlock(&w->mu);
    return !aborting || f->n > 0;
}

/* Requests whose ids are of another epoch go back to be decoded again. */
static void
drop_stale(flusher *f)
{
    uint64_t epoch = series_cache_now(f->w->cache).epoch;
    size_t kept = 0;
    for (size_t i = 0; i < f->n; i++) {
        wp_request *r = f->requests[i];
        if (r->epoch == epoch) {
            f->requests[kept++] = r;
        } else {
            r->decode_again = true;
            wp_route(f->w, r, WP_RESOLVE, true);
        }
    }
    f->n = kept;
}

/* ---- one flush ------------------------------------------------------------------------------ */

static ps_status
ensure_connection(flusher *f, ps_err *err)
{
    write_path *w = f->w;
    PS_TRY(wp_conn_open(w, &f->conn, f->index == 0 ? "flusher 0" : "flusher 1", err));
    pthread_mutex_lock(&w->mu);
    bool same = strcmp(f->conn.identity, w->identity) == 0;
    if (!same) { /* one of the two talks to a database that is no longer the one */
        w->reconnect_wanted = w->poll_wanted = true;
        pthread_cond_signal(&w->resolve_cv);
    }
    pthread_mutex_unlock(&w->mu);
    if (same)
        return PS_OK;
    wp_conn_close(&f->conn);
    return ps_fail(err, PS_EUNAVAILABLE,
                   "connected to another database than the one that series were resolved in");
}

ps_status
flusher_attempt(flusher *f, wp_request **requests, size_t n, bool exemplars, ps_err *err)
{
    write_path *w = f->w;
    int64_t start = pg_now_ns();
    ps_status status = wp_batch_requests(&f->batch, requests, n, err);
    if (status == PS_OK)
        status = wp_send(w, &f->conn, &f->batch, requests[0]->generation, requests,
                         exemplars ? n : 0, err);
    if (status != PS_OK)
        return flusher_failed(f, status);
    metric_observe(w->stats.flush_requests, (double)n);
    for (size_t i = 0; i < n; i++)
        wp_observe(w, WP_STAGE_FLUSH, start);
    return PS_OK;
}

/* Counts a failed transaction and puts the connection in order. Statuses that say nothing about
 * the data become PS_EUNAVAILABLE; so does everything if the connection is gone. */
ps_status
flusher_failed(flusher *f, ps_status status)
{
    wp_stats *stats = &f->w->stats;
    bool open = wp_conn_settle(f->w, &f->conn);
    if (status == PS_EINVAL && open) {
        metric_add(stats->flush_failures[PG_VERDICT_DATA], 1);
        return status;
    }
    if (status == PS_ECONFLICT && open) {
        metric_add(stats->flush_failures[PG_VERDICT_GENERATION], 1);
        return status;
    }
    if (open && status != PS_EUNAVAILABLE && status != PS_ENOMEM) {
        metric_add(stats->flush_failures[PG_VERDICT_BUG], 1);
        return PS_EINTERNAL;
    }
    metric_add(stats->flush_failures[PG_VERDICT_RETRY], 1);
    return status == PS_ENOMEM ? PS_ENOMEM : PS_EUNAVAILABLE;
}

/* Stores the requests or finds out which cannot be stored. Those that are done with are NULL
 * afterwards; PS_OK: all are. */
static ps_status
flush_some(flusher *f, wp_request **requests, size_t n, ps_err *err)
{
    write_path *w = f->w;
    ps_status status = flusher_attempt(f, requests, n, true, err);
    if (status == PS_OK) {
        for (size_t i = 0; i < n; i++) {
            requests[i]->exemplars_written = (int64_t)requests[i]->n_exemplars;
            wp_finish(w, requests[i]);
            requests[i] = NULL;
        }
        return PS_OK;
    }
    if (status != PS_EINVAL && status != PS_EINTERNAL)
        return status;
    log_limited(w->log, status == PS_EINTERNAL ? LOG_ERROR : LOG_WARN, 1000,
                "a flush failed, looking for the guilty",
                (log_field[]){LOG_STR("reason", err->text), LOG_INT("requests", n)}, 2);
    if (n > 1 && f->calls++ < WP_SPLIT_CALLS) {
        PS_TRY(flush_some(f, requests, n / 2, err));
        return flush_some(f, requests + n / 2, n - n / 2, err);
    }
    for (size_t i = 0; i < n; i++) {
        if (n == 1)
            PS_TRY(flusher_alone(f, requests[i], status, err));
        else
            wp_fatal(requests[i], PS_EUNAVAILABLE, "the database fails: %s", err->text);
        wp_finish(w, requests[i]);
        requests[i] = NULL;
    }
    return PS_OK;
}

/* ---- after it ------------------------------------------------------------------------------- */

static void
put_back(flusher *f, wp_queue queue, bool lost)
{
    while (f->n > 0) { /* from the last on, so that the first stands in front again */
        wp_request *r = f->requests[--f->n];
        if (r == NULL)
            continue;
        r->losses += lost;
        r->decode_again = queue == WP_RESOLVE;
        /* a suspect goes to the end: it must not break the connection for all behind it */
        wp_route(f->w, r, queue, r->losses < SUSPECT_LOSSES);
    }
}

static void
on_failure(flusher *f, ps_status status, bool was_open, const ps_err *err)
{
    write_path *w = f->w;
    if (status == PS_ECONFLICT) {
        pthread_mutex_lock(&w->mu);
        w->poll_wanted = true;
        pthread_cond_signal(&w->resolve_cv);
        pthread_mutex_unlock(&w->mu);
        put_back(f, WP_RESOLVE, false);
        return;
    }
    int64_t pause = wp_backoff(&f->conn);
    bool lost = was_open && f->conn.pg == NULL;
    if (++f->failures >= STUBBORN_FAILURES)
        wp_conn_close(&f->conn); /* perhaps a server that has become a standby: find the primary */
    log_limited(w->log, LOG_WARN, 5000, "flush failed, trying again",
                (log_field[]){LOG_STR("reason", err->text), LOG_INT("requests", f->n)}, 2);
    atomic_store(&w->flush_ok, false);
    pthread_mutex_lock(&w->mu);
    w->flush_pause_until_ns = pg_now_ns() + pause;
    pthread_mutex_unlock(&w->mu);
    put_back(f, WP_FLUSH, lost);
}

static void
flush_batch(flusher *f)
{
    write_path *w = f->w;
    ps_err err;
    for (size_t i = 0; i < f->n; i++)
        wp_observe(w, WP_STAGE_BATCH, f->requests[i]->entered_ns);
    f->calls = 0;
    ps_status status = ensure_connection(f, &err);
    bool was_open = status == PS_OK;
    if (was_open)
        drop_stale(f); /* only now: the ids must be of the database at the other end */
    if (was_open && f->n == 0)
        return;
    if (was_open)
        status = flush_some(f, f->requests, f->n, &err);
    if (status == PS_OK) {
        f->conn.backoff_ns = 0;
        f->failures = 0;
        atomic_store(&w->last_ok_ns, pg_now_ns());
        atomic_store(&w->flush_ok, true);
    } else {
        on_failure(f, status, was_open, &err);
    }
    f->n = 0;
}

void *
wp_flusher_main(void *path)
{
    write_path *w = path;
    flusher *f = calloc(1, sizeof(*f));
    if (f == NULL) {
        log_error(w->log, "no memory for a flusher");
        return NULL;
    }
    f->w = w;
    pthread_mutex_lock(&w->mu);
    f->index = w->n_flushers++;
    pthread_mutex_unlock(&w->mu);
    wp_batch_init(&f->batch);
    wp_decoder_init(&f->decoder);
    while (next_batch(f))
        flush_batch(f);
    wp_batch_done(&f->batch);
    wp_decoder_done(&f->decoder);
    wp_conn_close(&f->conn);
    free(f);
    return NULL;
}
