/*
 * submit.c - admission: whether a request is let in at all.
 *
 * Two limits, requests and bytes of bodies, and within each a fair share: with n tenants heard of
 * in the last seconds none may hold more than an n-th. A tenant that has nothing inside is let in a
 * little beyond the limits, so that one that has filled everything cannot keep the others out.
 */
#include "connector/write/internal.h"

static ps_status
reject(write_path *w, wp_rejection why, ps_err *err, const char *text)
{
    metric_add(w->stats.rejected[why], 1);
    return ps_fail(err, PS_EUNAVAILABLE, "%s", text);
}

static ps_status
check_request(write_path *w, const write_request *request, ps_err *err)
{
    if ((int64_t)request->body.len > w->set->ingest_max_body_bytes) {
        metric_add(w->stats.limits[WP_LIMIT_BODY], 1);
        return ps_fail(err, PS_ELIMIT, "the body has %zu bytes, the limit is %lld",
                       request->body.len, (long long)w->set->ingest_max_body_bytes);
    }
    ps_str tenant = request->tenant;
    if (tenant.len > 1024 || !ps_utf8_valid(tenant) ||
        (tenant.len > 0 && memchr(tenant.ptr, '\0', tenant.len) != NULL))
        return ps_fail(err, PS_EINVAL, "the tenant's name is too long or not valid UTF-8");
    return PS_OK;
}

/* Under mu. */
static ps_status
admit(write_path *w, const wp_tenant *t, size_t len, ps_err *err)
{
    size_t max_requests = (size_t)w->set->ingest_queue_requests,
           max_bytes = (size_t)w->set->ingest_queue_bytes;
    size_t tenants = w->n_active > 0 ? w->n_active : 1;
    if (t->n_requests == 0) { /* at least one for everybody */
        max_requests += tenants > 1 ? max_requests / 8 + 1 : 0;
        max_bytes += tenants > 1 ? max_bytes / 8 : 0;
    } else if (tenants > 1) {
        if (t->n_requests + 1 > max_requests / tenants || t->n_bytes + len > max_bytes / tenants)
            return reject(w, WP_REJECT_TENANT_SHARE, err,
                          "the tenant's share of the ingest queue is full");
    }
    if (w->n_inside + 1 > max_requests)
        return reject(w, WP_REJECT_QUEUE_REQUESTS, err, "the ingest queue is full (requests)");
    if (w->n_inside > 0 && w->bytes_inside + len > max_bytes)
        return reject(w, WP_REJECT_QUEUE_BYTES, err, "the ingest queue is full (bytes)");
    return PS_OK;
}

/* Under mu. */
static void
enter(write_path *w, wp_request *r, wp_tenant *t, int64_t now)
{
    r->tenant = t;
    t->n_requests++;
    t->n_bytes += r->in.body.len;
    t->n_users++;
    r->seq = w->next_seq++;
    r->submitted_ns = r->entered_ns = now;
    r->deadline_ns = now + w->timeout_ns;
    r->older = w->newest;
    *(w->newest != NULL ? &w->newest->newer : &w->oldest) = r;
    w->newest = r;
    w->n_inside++;
    w->bytes_inside += r->in.body.len;
    wp_push(w, r, WP_DECODE, false);
    pthread_cond_signal(&w->work_cv);
    if (w->timer_idle)
        pthread_cond_signal(&w->timer_cv);
}

ps_status
write_submit(write_path *w, const write_request *request, write_done_fn done, void *self,
             ps_err *err)
{
    PS_TRY(check_request(w, request, err));
    int64_t now = pg_now_ns();
    ps_status status;
    pthread_mutex_lock(&w->mu);
    wp_tenant *t = NULL;
    wp_request *r = NULL;
    if (w->stopping) {
        status = reject(w, WP_REJECT_STOPPING, err,
                        "the server is shutting down, send the samples again");
        goto out;
    }
    t = wp_tenant_get(w, request->tenant, now);
    if (t == NULL) {
        status = reject(w, WP_REJECT_QUEUE_REQUESTS, err, "too many tenants are sending");
        goto out;
    }
    status = admit(w, t, request->body.len, err);
    if (status != PS_OK)
        goto out;
    r = wp_request_new(w);
    if (r == NULL) {
        status = reject(w, WP_REJECT_QUEUE_BYTES, err, "out of memory");
        goto out;
    }
    r->in = *request;
    r->arrived_ms = w->now_ms(w->now_self);
    r->done = done;
    r->done_self = self;
    enter(w, r, t, now);
out:
    pthread_mutex_unlock(&w->mu);
    return status;
}
