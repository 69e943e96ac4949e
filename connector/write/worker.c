/*
 * worker.c - the threads that decode: take a request, decode it, pass it to the stage that it needs
 * next.
 *
 * Decoded requests hold memory until they are answered. When all together hold more than held_max,
 * workers pause; the queue in front of them then fills and admission refuses. One request is always
 * let through, however large.
 */
#include "connector/write/internal.h"

static wp_request *
next_request(write_path *w)
{
    wp_request *r = NULL;
    pthread_mutex_lock(&w->mu);
    while (!w->aborting) {
        if (w->held_bytes <= w->held_max || w->held_bytes == 0) {
            r = wp_take(w, WP_DECODE);
            if (r != NULL)
                break;
        }
        pthread_cond_wait(&w->work_cv, &w->mu);
    }
    if (r != NULL)
        r->pinned = true;
    pthread_mutex_unlock(&w->mu);
    return r;
}

static void
decode_one(write_path *w, wp_decoder *d, wp_request *r)
{
    wp_observe(w, WP_STAGE_RECEIVE, r->entered_ns);
    if (atomic_load(&r->tenant->id) < 0) {
        r->decode_again = true; /* the key of the cache needs the tenant's id */
        wp_route(w, r, WP_RESOLVE, false);
        return;
    }
    int64_t start = pg_now_ns();
    wp_decode(w, d, r);
    wp_observe(w, WP_STAGE_DECODE, start);
    if (r->fatal != PS_OK) {
        wp_finish(w, r);
    } else if (r->tenant_id < 0) { /* forgotten meanwhile */
        r->decode_again = true;
        wp_route(w, r, WP_RESOLVE, false);
    } else if (r->n_fresh > 0 || r->n_metadata > 0) {
        wp_route(w, r, WP_RESOLVE, false);
    } else if (wp_request_has_data(r)) {
        wp_route(w, r, WP_FLUSH, false);
    } else {
        wp_finish(w, r);
    }
}

void *
wp_worker_main(void *path)
{
    write_path *w = path;
    wp_decoder d;
    wp_decoder_init(&d);
    for (wp_request *r = next_request(w); r != NULL; r = next_request(w))
        decode_one(w, &d, r);
    wp_decoder_done(&d);
    return NULL;
}
