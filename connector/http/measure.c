/*
 * measure.c - the HTTP server's own metrics. Series of (path, code) are made when first seen, so that
 * a quiet server has few; the pointers are kept in an atomic table, the registry copies all texts.
 */
#include <stdio.h>
#include <stdlib.h>

#include "connector/http/internal.h"

static const int codes[] = {200, 204, 400, 404, 405, 413, 415, 422, 500, 501, 503};
enum { N_CODES = PS_ARRAY_LEN(codes), CODE_OTHER = N_CODES, CODE_ABORTED, CODE_SLOTS };

typedef struct route_slots {
    _Atomic(metric *) requests[CODE_SLOTS];
    _Atomic(metric *) duration;
} route_slots;

struct route_metrics {
    metrics *registry; /* may be NULL */
    const http_route *routes;
    size_t n_routes;
    route_slots *slots; /* one more than routes: requests without a route */
    metric *connections, *requests, *gone, *refused_busy, *refused_large;
    metric *timeouts[CONN_SEND + 1];
};

static const double duration_bounds[] = {0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                         0.5,   1,     2.5,  5,     10,   30};

route_metrics *
route_metrics_new(metrics *m, const http_route *routes, size_t n)
{
    static const struct {
        conn_state state;
        const char *labels;
    } phases[] = {{CONN_FRESH, "phase=\"head\""},
                  {CONN_IDLE, "phase=\"head\""},
                  {CONN_HEAD, "phase=\"head\""},
                  {CONN_BODY, "phase=\"body\""},
                  {CONN_SEND, "phase=\"answer\""}};
    route_metrics *rm = calloc(1, sizeof(*rm));

    if (rm == NULL)
        return NULL;
    rm->registry = m;
    rm->routes = routes;
    rm->n_routes = n;
    rm->slots = calloc(n + 1, sizeof(*rm->slots));
    if (rm->slots == NULL) {
        free(rm);
        return NULL;
    }
    rm->connections =
        metrics_gauge(m, "promscale_http_connections", "Open client connections.", "");
    rm->requests =
        metrics_gauge(m, "promscale_http_requests_in_flight", "Requests not yet answered.", "");
    rm->gone =
        metrics_counter(m, "promscale_http_clients_gone_total",
                        "Clients that closed their connection before they were answered.", "");
    rm->refused_busy =
        metrics_counter(m, "promscale_http_requests_refused_total",
                        "Requests answered by the server itself, before any handler.",
                        "reason=\"busy\"");
    rm->refused_large =
        metrics_counter(m, "promscale_http_requests_refused_total",
                        "Requests answered by the server itself, before any handler.",
                        "reason=\"too_large\"");
    for (size_t i = 0; i < PS_ARRAY_LEN(phases); i++)
        rm->timeouts[phases[i].state] =
            metrics_counter(m, "promscale_http_timeouts_total",
                            "Connections closed because the client was too slow, by what was slow.",
                            phases[i].labels);
    return rm;
}

void
route_metrics_free(route_metrics *rm)
{
    if (rm == NULL)
        return;
    free(rm->slots);
    free(rm);
}

static size_t
code_slot(int status)
{
    for (size_t i = 0; i < N_CODES; i++) {
        if (codes[i] == status)
            return i;
    }
    return CODE_OTHER;
}

static void
labels_text(char *dst, size_t cap, const char *path, size_t slot)
{
    static const char *const words[] = {[CODE_OTHER - N_CODES] = "other",
                                        [CODE_ABORTED - N_CODES] = "aborted"};

    if (slot < N_CODES)
        snprintf(dst, cap, "path=\"%s\",code=\"%d\"", path, codes[slot]);
    else
        snprintf(dst, cap, "path=\"%s\",code=\"%s\"", path, words[slot - N_CODES]);
}

void
route_metrics_done(route_metrics *rm, const http_request *r, bool sent)
{
    size_t route = r->route ? (size_t)(r->route - rm->routes) : rm->n_routes;
    const char *path = r->route ? r->route->path : "other";
    size_t slot = sent && r->answered ? code_slot(r->status) : CODE_ABORTED;
    char labels[160];

    metric *x = atomic_load(&rm->slots[route].requests[slot]);
    if (x == NULL) {
        labels_text(labels, sizeof(labels), path, slot);
        x = metrics_counter(rm->registry, "promscale_http_requests_total",
                            "HTTP requests by path and status.", labels);
        atomic_store(&rm->slots[route].requests[slot], x);
    }
    metric_add(x, 1);
    x = atomic_load(&rm->slots[route].duration);
    if (x == NULL) {
        snprintf(labels, sizeof(labels), "path=\"%s\"", path);
        x = metrics_histogram(rm->registry, "promscale_http_request_duration_seconds",
                              "Time from a request's complete head to the last byte of its answer.",
                              labels, duration_bounds, PS_ARRAY_LEN(duration_bounds));
        atomic_store(&rm->slots[route].duration, x);
    }
    metric_observe(x, (double)(http_now_ms() - r->begun_ms) / 1000.0);
}

void
route_metrics_gauge_connections(route_metrics *rm, double by)
{
    metric_add(rm->connections, by);
}

void
route_metrics_gauge_requests(route_metrics *rm, double by)
{
    metric_add(rm->requests, by);
}

void
route_metrics_timeout(route_metrics *rm, conn_state state)
{
    metric_add(rm->timeouts[state], 1);
}

void
route_metrics_gone(route_metrics *rm)
{
    metric_add(rm->gone, 1);
}

void
route_metrics_refused(route_metrics *rm, int status)
{
    if (status == 503)
        metric_add(rm->refused_busy, 1);
    else if (status == 413)
        metric_add(rm->refused_large, 1);
}
