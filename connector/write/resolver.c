/*
 * resolver.c - the one thread that talks to the catalog: new series, tenants, metadata, and the
 * feed.
 *
 * It takes what waits, in batches. It alone follows the feed and decides which database and which
 * generation the cache's ids belong to; whoever finds that ids no longer hold sends the request
 * here (decode_again), and from here it goes back to be decoded once the feed was read.
 *
 * When nothing waits it polls the feed every few seconds, which is also the health probe.
 */
#include "connector/write/internal.h"

#include <stdlib.h>

#define POLL_NS INT64_C(5000000000)
#define RETENTION_NS INT64_C(60000000000)
enum { MAX_REQUESTS = 1024, STUBBORN_FAILURES = 3 };

typedef struct resolver {
    write_path *w;
    wp_conn conn;
    wp_resolve resolve;
    wp_decoder decoder; /* for texts of series */
    catalog_feed feed;
    int64_t polled_ns, retention_ns;
    int failures; /* in a row */
    wp_request *requests[MAX_REQUESTS];
    size_t n;
} resolver;

/* ---- the feed ------------------------------------------------------------------------------- */

/*
 * Another database than before: nothing that was known holds. The order matters to those who look at
 * the same time: tenants first, then the cache and its epoch, then the identity. A decoder reads its
 * tenant's id after the epoch, a flusher compares the identity before the epoch; so whoever has seen
 * the new of one has also seen the new of what was changed before it.
 */
static void
note_identity(resolver *rs)
{
    write_path *w = rs->w;
    pthread_mutex_lock(&w->mu);
    bool other = strcmp(w->identity, rs->conn.identity) != 0;
    bool first = w->identity[0] == '\0';
    w->reconnect_wanted = false;
    for (size_t i = 0; other && i < WP_TENANT_BUCKETS; i++) {
        for (wp_tenant *t = w->tenants[i]; t != NULL; t = t->hash_next)
            atomic_store(&t->id, t->name_len == 0 ? 0 : -1);
    }
    pthread_mutex_unlock(&w->mu);
    if (!other)
        return;
    rs->feed.cursor = 0;
    rs->retention_ns = 0;
    series_cache_clear(w->cache, 0);
    pthread_mutex_lock(&w->mu);
    memcpy(w->identity, rs->conn.identity, sizeof(w->identity));
    pthread_mutex_unlock(&w->mu);
    if (!first)
        log_warn(w->log, "this is another database than before, all series are resolved again",
                 LOG_STR("database", rs->conn.identity));
}

/* Once a minute: how long samples are kept. Nothing waits for the answer: where there is none (a setting
 * that is no interval will do) samples are stored all the same. */
static ps_status
ask_retention(resolver *rs, ps_err *err)
{
    write_path *w = rs->w;
    pg_wait wait = wp_wait(w);
    int64_t now = pg_now_ns();
    catalog_period *rules = NULL;
    wp_periods *periods = NULL;
    size_t n;
    if (rs->retention_ns != 0 && now < rs->retention_ns + RETENTION_NS)
        return PS_OK;
    ps_status status = catalog_periods(rs->conn.pg, &wait, &rules, &n, err);
    if (status != PS_OK && !wp_conn_settle(w, &rs->conn))
        return PS_EUNAVAILABLE;
    if (status == PS_OK)
        status = wp_periods_new(rules, n, &periods, err);
    free(rules);
    wp_periods_set(w, periods); /* NULL: not known, so that nothing is old */
    if (status != PS_OK)
        log_limited(w->log, LOG_WARN, 60000, "cannot ask how long samples are kept",
                    (log_field[]){LOG_STR("reason", err->text)}, 1);
    rs->retention_ns = now;
    return PS_OK;
}

static ps_status
poll_feed(resolver *rs, ps_err *err)
{
    write_path *w = rs->w;
    pg_wait wait = wp_wait(w);
    bool from_now = rs->feed.cursor == 0;
    PS_TRY(catalog_poll(rs->conn.pg, &wait, &rs->feed, err));
    int64_t before = series_cache_now(w->cache).generation;
    if (rs->feed.trimmed || (from_now && before != 0))
        series_cache_clear(w->cache, rs->feed.generation);
    else
        series_cache_advance(w->cache, rs->feed.generation, rs->feed.deleted, rs->feed.n_deleted);
    if (before != 0 && before != rs->feed.generation) {
        metric_add(w->stats.generation_changes, 1);
        log_info(w->log, "the catalog moved on", LOG_INT("generation", rs->feed.generation),
                 LOG_INT("deleted_series", rs->feed.n_deleted));
    }
    catalog_feed_done(&rs->feed);
    rs->polled_ns = pg_now_ns();
    atomic_store(&w->last_ok_ns, rs->polled_ns);
    atomic_store(&w->probe_ok, true);
    pthread_mutex_lock(&w->mu);
    w->poll_wanted = false;
    bool flushing = w->n_queued[WP_FLUSH] > 0;
    for (int i = 0; i < WP_FLUSHERS; i++)
        flushing = flushing || w->flush_started_ns[i] != 0;
    if (!flushing)
        atomic_store(&w->flush_ok, true);
    pthread_mutex_unlock(&w->mu);
    return PS_OK;
}

/* ---- a batch -------------------------------------------------------------------------------- */

static ps_status
ensure_tenants(resolver *rs, ps_err *err)
{
    for (size_t i = 0; i < rs->n;) {
        wp_request *r = rs->requests[i];
        wp_tenant *t = r->tenant;
        int32_t id = atomic_load(&t->id);
        if (id < 0) {
            pg_wait wait = wp_wait(rs->w);
            ps_status status =
                catalog_tenant_id(rs->conn.pg, &wait, (ps_str){t->name, t->name_len}, &id, err);
            if (status == PS_EINVAL && wp_conn_settle(rs->w, &rs->conn)) {
                rs->requests[i] = rs->requests[--rs->n];
                wp_fatal(r, PS_EINVAL, "the tenant is refused by the database: %s", err->text);
                wp_finish(rs->w, r);
                continue;
            }
            if (status != PS_OK)
                return status;
            atomic_store(&t->id, id);
        }
        i++;
    }
    return PS_OK;
}

/* Requests whose ids are of another epoch go back; returns how many stay (at the front of the
 * list). */
static size_t
send_back_stale(resolver *rs)
{
    uint64_t epoch = series_cache_now(rs->w->cache).epoch;
    size_t kept = 0;
    for (size_t i = 0; i < rs->n; i++) {
        wp_request *r = rs->requests[i];
        if (r->decode_again || r->epoch != epoch)
            wp_route(rs->w, r, WP_DECODE, true);
        else
            rs->requests[kept++] = r;
    }
    return kept;
}

static ps_status
store_metadata(resolver *rs, wp_request *r, size_t lo, size_t hi, ps_err *err)
{
    write_path *w = rs->w;
    pg_wait wait = wp_wait(w);
    ps_status status =
        catalog_upsert_metadata(rs->conn.pg, &wait, r->tenant_id, r->metadata + lo, hi - lo, err);
    if (status == PS_OK) {
        metric_add(w->stats.metadata_written, (double)(hi - lo));
        for (size_t i = lo; i < hi; i++)
            wp_tell(w, r->marks[i]);
        return PS_OK;
    }
    if (!wp_conn_settle(w, &rs->conn))
        return PS_EUNAVAILABLE;
    if (status != PS_EINVAL && status != PS_EINTERNAL)
        return status;
    if (hi - lo > 1 && status == PS_EINVAL) {
        size_t mid = lo + (hi - lo) / 2;
        PS_TRY(store_metadata(rs, r, lo, mid, err));
        return store_metadata(rs, r, mid, hi, err);
    }
    /* Samples must not suffer: the request goes on, and its answer says so. */
    wp_refuse(w, r, WP_REASON_METADATA, wp_floats(0), (ps_str){0},
              "metadata of %.*s%s not stored: %s", (int)ps_utf8_prefix(r->metadata[lo].family, 128),
              r->metadata[lo].family.ptr, hi - lo > 1 ? " and others" : "", err->text);
    return PS_OK;
}

static void
pass_on(write_path *w, wp_request *r)
{
    wp_observe(w, WP_STAGE_RESOLVE, r->entered_ns);
    if (r->fatal == PS_OK && wp_request_has_data(r))
        wp_route(w, r, WP_FLUSH, false);
    else
        wp_finish(w, r);
}

static int
by_tenant(const void *a, const void *b)
{
    const wp_request *x = *(wp_request *const *)a, *y = *(wp_request *const *)b;
    if (x->tenant != y->tenant)
        return x->tenant < y->tenant ? -1 : 1;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

/* On an error the requests that are not passed on are still in the list. */
static ps_status
process(resolver *rs, bool poll, ps_err *err)
{
    write_path *w = rs->w;
    bool was_open = rs->conn.pg != NULL && PQstatus(rs->conn.pg) == CONNECTION_OK;
    PS_TRY(wp_conn_open(w, &rs->conn, "resolver", err));
    if (!was_open) {
        note_identity(rs);
        poll = true;
    }
    if (poll)
        PS_TRY(poll_feed(rs, err));
    if (poll)
        PS_TRY(ask_retention(rs, err));
    PS_TRY(ensure_tenants(rs, err));
    rs->n = send_back_stale(rs);
    qsort(rs->requests, rs->n, sizeof(*rs->requests), by_tenant);
    PS_TRY(wp_resolve_series(w, &rs->conn, &rs->resolve, &rs->decoder, rs->requests, rs->n, err));
    while (rs->n > 0) {
        wp_request *r = rs->requests[rs->n - 1];
        if (r->fatal == PS_OK && r->n_metadata > 0) {
            PS_TRY(store_metadata(rs, r, 0, r->n_metadata, err));
            r->n_metadata = 0;
        }
        rs->n--;
        pass_on(w, r);
    }
    return PS_OK;
}

static void
give_back(resolver *rs)
{
    while (rs->n > 0)
        wp_route(rs->w, rs->requests[--rs->n], WP_RESOLVE, true);
}

/* True when there is work; under mu. */
static bool
wait_for_work(resolver *rs, bool *ret_poll)
{
    write_path *w = rs->w;
    while (!w->aborting) {
        int64_t now = pg_now_ns(), wake = rs->polled_ns + POLL_NS;
        if (now >= w->resolve_pause_until_ns) {
            bool stale = wp_peek(w, WP_RESOLVE) != NULL && wp_peek(w, WP_RESOLVE)->decode_again;
            *ret_poll = w->poll_wanted || now >= wake || stale;
            if (*ret_poll || w->n_queued[WP_RESOLVE] > 0)
                return true;
        } else {
            wake = w->resolve_pause_until_ns;
        }
        wp_timed_wait(&w->resolve_cv, &w->mu, wake);
    }
    return false;
}

static void
take_batch(resolver *rs)
{
    size_t n_series = 0;
    wp_request *r;
    while (rs->n < MAX_REQUESTS && n_series < WP_RESOLVE_MAX_SERIES &&
           (r = wp_take(rs->w, WP_RESOLVE)) != NULL) {
        rs->requests[rs->n++] = r;
        n_series += r->n_fresh;
    }
}

static void
on_failure(resolver *rs, ps_status status, const ps_err *err)
{
    write_path *w = rs->w;
    bool conflict = status == PS_ECONFLICT;
    if (!wp_conn_settle(w, &rs->conn) || !conflict) {
        int64_t pause = wp_backoff(&rs->conn);
        if (++rs->failures >= STUBBORN_FAILURES)
            wp_conn_close(
                &rs->conn); /* perhaps a server that has become a standby: find the primary */
        log_limited(w->log, LOG_WARN, 5000, "cannot resolve series, trying again",
                    (log_field[]){LOG_STR("reason", err->text), LOG_INT("waiting_requests", rs->n)},
                    2);
        pthread_mutex_lock(&w->mu);
        w->resolve_pause_until_ns = pg_now_ns() + pause;
        pthread_mutex_unlock(&w->mu);
    }
    if (rs->conn.pg == NULL)
        atomic_store(&w->probe_ok, false);
    pthread_mutex_lock(&w->mu);
    w->poll_wanted = w->poll_wanted || conflict;
    pthread_mutex_unlock(&w->mu);
    give_back(rs);
}

void *
wp_resolver_main(void *path)
{
    write_path *w = path;
    resolver *rs = calloc(1, sizeof(*rs));
    if (rs == NULL) {
        log_error(w->log, "no memory for the resolver");
        return NULL;
    }
    rs->w = w;
    wp_decoder_init(&rs->decoder);
    for (;;) {
        bool poll = false;
        pthread_mutex_lock(&w->mu);
        bool work = wait_for_work(rs, &poll);
        bool reconnect = w->reconnect_wanted;
        if (work)
            take_batch(rs);
        pthread_mutex_unlock(&w->mu);
        if (!work)
            break;
        if (reconnect)
            wp_conn_close(&rs->conn);
        ps_err err;
        ps_status status = process(rs, poll, &err);
        if (status != PS_OK) {
            on_failure(rs, status, &err);
            continue;
        }
        rs->conn.backoff_ns = 0;
        rs->failures = 0;
    }
    catalog_feed_done(&rs->feed);
    wp_resolve_done(&rs->resolve);
    wp_decoder_done(&rs->decoder);
    wp_conn_close(&rs->conn);
    free(rs);
    return NULL;
}
