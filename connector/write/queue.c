/*
 * queue.c - the queues between stages, each shared fairly: a tenant has a list of its own in each
 * queue, tenants with something in it form a ring, and taking goes round the ring. All under
 * path->mu.
 *
 * Tenants are remembered for as long as they were heard of in the last seconds (active) or requests
 * of theirs are inside; the rest are forgotten when too many are known.
 */
#include "connector/write/internal.h"

#include <stdlib.h>

#define WP_ACTIVE_NS INT64_C(10000000000)

/* ---- queues --------------------------------------------------------------------------------- */

static void
ring_add(write_path *w, wp_tenant *t, wp_queue q)
{
    wp_tenant *first = w->rings[q];
    if (first == NULL) {
        t->ring_prev[q] = t->ring_next[q] = t;
        w->rings[q] = t;
        return;
    }
    t->ring_next[q] = first; /* last in turn */
    t->ring_prev[q] = first->ring_prev[q];
    t->ring_prev[q]->ring_next[q] = t;
    first->ring_prev[q] = t;
}

static void
ring_remove(write_path *w, wp_tenant *t, wp_queue q)
{
    if (t->ring_next[q] == t) {
        w->rings[q] = NULL;
        return;
    }
    t->ring_prev[q]->ring_next[q] = t->ring_next[q];
    t->ring_next[q]->ring_prev[q] = t->ring_prev[q];
    if (w->rings[q] == t)
        w->rings[q] = t->ring_next[q];
}

void
wp_push(write_path *w, wp_request *r, wp_queue queue, bool front)
{
    wp_tenant *t = r->tenant;
    wp_list *list = &t->queues[queue];
    if (list->head == NULL) {
        ring_add(w, t, queue);
        list->head = list->tail = r;
        r->q_prev = r->q_next = NULL;
    } else if (front) {
        r->q_prev = NULL;
        r->q_next = list->head;
        list->head->q_prev = r;
        list->head = r;
    } else {
        r->q_next = NULL;
        r->q_prev = list->tail;
        list->tail->q_next = r;
        list->tail = r;
    }
    r->queued = true;
    r->queue = queue;
    w->n_queued[queue]++;
    if (queue == WP_FLUSH)
        w->waiting_samples += wp_request_weight(r);
}

void
wp_remove(write_path *w, wp_request *r)
{
    wp_queue queue = r->queue;
    wp_list *list = &r->tenant->queues[queue];
    if (r->q_prev != NULL)
        r->q_prev->q_next = r->q_next;
    else
        list->head = r->q_next;
    if (r->q_next != NULL)
        r->q_next->q_prev = r->q_prev;
    else
        list->tail = r->q_prev;
    r->q_prev = r->q_next = NULL;
    r->queued = false;
    w->n_queued[queue]--;
    if (queue == WP_FLUSH)
        w->waiting_samples -= wp_request_weight(r);
    if (list->head == NULL)
        ring_remove(w, r->tenant, queue);
}

wp_request *
wp_peek(const write_path *w, wp_queue queue)
{
    return w->rings[queue] != NULL ? w->rings[queue]->queues[queue].head : NULL;
}

wp_request *
wp_take(write_path *w, wp_queue queue)
{
    wp_tenant *t = w->rings[queue];
    if (t == NULL)
        return NULL;
    wp_request *r = t->queues[queue].head;
    w->rings[queue] = t->ring_next[queue]; /* the next one's turn; wp_remove mends it if t leaves */
    wp_remove(w, r);
    return r;
}

/* ---- tenants -------------------------------------------------------------------------------- */

static void
age_unlink(write_path *w, wp_tenant *t)
{
    wp_tenant **first = t->active ? &w->active_first : &w->idle_first;
    wp_tenant **last = t->active ? &w->active_last : &w->idle_last;
    *(t->age_prev != NULL ? &t->age_prev->age_next : first) = t->age_next;
    *(t->age_next != NULL ? &t->age_next->age_prev : last) = t->age_prev;
    t->age_prev = t->age_next = NULL;
    if (t->active)
        w->n_active--;
}

static void
age_link(write_path *w, wp_tenant *t, bool active)
{
    wp_tenant **first = active ? &w->active_first : &w->idle_first;
    wp_tenant **last = active ? &w->active_last : &w->idle_last;
    t->active = active;
    t->age_next = *first;
    t->age_prev = NULL;
    *(*first != NULL ? &(*first)->age_prev : last) = t;
    *first = t;
    if (active)
        w->n_active++;
}

static wp_tenant **
tenant_slot(write_path *w, ps_str name)
{
    wp_tenant **slot = &w->tenants[ps_hash64(name, w->seed) % WP_TENANT_BUCKETS];
    while (*slot != NULL && !ps_str_eq((ps_str){(*slot)->name, (*slot)->name_len}, name))
        slot = &(*slot)->hash_next;
    return slot;
}

static bool
forget_idle(write_path *w)
{
    for (wp_tenant *t = w->idle_last; t != NULL; t = t->age_prev) {
        if (t->n_users > 0)
            continue;
        wp_tenant **slot = tenant_slot(w, (ps_str){t->name, t->name_len});
        *slot = t->hash_next;
        age_unlink(w, t);
        free(t);
        w->n_tenants--;
        return true;
    }
    return false;
}

wp_tenant *
wp_tenant_get(write_path *w, ps_str name, int64_t now_ns)
{
    while (w->active_last != NULL && w->active_last->last_seen_ns < now_ns - WP_ACTIVE_NS) {
        wp_tenant *t = w->active_last;
        age_unlink(w, t);
        age_link(w, t, false);
    }
    wp_tenant *t = *tenant_slot(w, name);
    if (t != NULL) {
        age_unlink(w, t);
    } else {
        if (w->n_tenants >= WP_MAX_TENANTS && !forget_idle(w))
            return NULL;
        t = calloc(1, sizeof(*t) + name.len);
        if (t == NULL)
            return NULL;
        if (name.len > 0)
            memcpy(t->name, name.ptr, name.len);
        t->name_len = name.len;
        atomic_init(&t->id, name.len == 0 ? 0 : -1);
        *tenant_slot(w, name) = t;
        w->n_tenants++;
    }
    t->last_seen_ns = now_ns;
    age_link(w, t, true);
    return t;
}

void
wp_tenants_free(write_path *w)
{
    for (size_t i = 0; i < WP_TENANT_BUCKETS; i++) {
        for (wp_tenant *t = w->tenants[i], *next; t != NULL; t = next) {
            next = t->hash_next;
            free(t);
        }
        w->tenants[i] = NULL;
    }
}
