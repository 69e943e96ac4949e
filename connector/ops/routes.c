/*
 * routes.c - which path is what, and the short handlers.
 *
 * Liveness (/-/healthy) says that the process answers. Readiness (/-/ready) and /healthz say that
 * samples can be stored: a load balancer sends elsewhere while the database is away.
 */
#include "connector/labels/labels.h"
#include "connector/ops/ops.h"
#include "connector/remote_read/remote_read.h"

bool
connector_ready(const connector *c)
{
    return !atomic_load(&c->reviving) && write_path_healthy(c->write);
}

static void
serve_metrics(http_request *r, void *self)
{
    connector *c = self;
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    metrics_render(c->metrics, &out);
    if (out.failed)
        http_respond_text(r, 503, "no memory");
    else
        http_respond(r, 200, "text/plain; version=0.0.4; charset=utf-8", ps_buf_str(&out));
    ps_buf_done(&out);
}

static void
serve_healthy(http_request *r, void *self)
{
    (void)self;
    http_respond_text(r, 200, "promscale is healthy");
}

static void
serve_ready(http_request *r, void *self)
{
    connector *c = self;

    if (connector_ready(c))
        http_respond_text(r, 200, "promscale is ready");
    else
        http_respond_text(r, 503, "the database does not answer");
}

static void
serve_healthz(http_request *r, void *self)
{
    connector *c = self;

    if (connector_ready(c))
        http_respond(r, 200, "text/plain; charset=utf-8", PS_STR(""));
    else
        http_respond_text(r, 503, "the database does not answer");
}

/* Prometheus's words: tools look at them to tell an endpoint that is missing from one that fails. */
static void
not_found(http_request *r, void *self)
{
    (void)self;
    http_respond_text(r, 404, "404 page not found");
}

/* ---- the Prometheus API ---------------------------------------------------------------------------- */

typedef struct api_path {
    const char *path, *name;
    unsigned methods;
    void (*run)(api_job *job, void *self);
    void *self;
} api_path;

/* Fills c->endpoints and routes to them. */
static size_t
api_routes(connector *c, http_route *routes)
{
    const unsigned form = HTTP_GET | HTTP_POST, change = HTTP_POST | HTTP_PUT;
    const api_path list[] = {
        {"/api/v1/query", "instant", form, query_instant, c->query},
        {"/api/v1/query_range", "range", form, query_range, c->query},
        {"/api/v1/explain", "explain", form, query_explain, c->query},
        {"/api/v1/series", "series", form, labels_series, NULL},
        {"/api/v1/labels", "labels", form, labels_names, NULL},
        {LABELS_VALUES_PREFIX "*", "label_values", HTTP_GET, labels_values, NULL},
        {"/api/v1/format_query", "format_query", form, info_format_query, &c->info},
        {"/api/v1/parse_query", "parse_query", form, info_parse_query, &c->info},
        {"/api/v1/query_exemplars", "query_exemplars", form, info_exemplars, &c->info},
        {"/api/v1/metadata", "metadata", HTTP_GET, info_metadata, &c->info},
        {"/api/v1/status/buildinfo", "status", HTTP_GET, info_build, &c->info},
        {"/api/v1/status/runtimeinfo", "status", HTTP_GET, info_runtime, &c->info},
        {"/api/v1/status/config", "status", HTTP_GET, info_config, &c->info},
        {"/api/v1/status/flags", "status", HTTP_GET, info_flags, &c->info},
        {"/api/v1/status/tsdb", "status_tsdb", HTTP_GET, info_cardinality, &c->info},
        {"/api/v1/status/walreplay", "status", HTTP_GET, info_wal_replay, &c->info},
        {"/api/v1/features", "status", HTTP_GET, info_features, &c->info},
        {"/api/v1/rules", "rules", HTTP_GET, info_rules, &c->info},
        {"/api/v1/alerts", "rules", HTTP_GET, info_alerts, &c->info},
        {"/api/v1/alertmanagers", "rules", HTTP_GET, info_alertmanagers, &c->info},
        {"/api/v1/targets", "targets", HTTP_GET, info_targets, &c->info},
        {"/api/v1/targets/metadata", "targets", HTTP_GET, info_target_metadata, &c->info},
        {"/api/v1/scrape_pools", "targets", HTTP_GET, info_scrape_pools, &c->info},
        {"/api/v1/notifications", "status", HTTP_GET, info_notifications, &c->info},
        {"/api/v1/admin/tsdb/delete_series", "admin", change, info_delete_series, &c->info},
        {"/api/v1/read", "read", HTTP_POST, remote_read_run, NULL},
        {"/read", "read", HTTP_POST, remote_read_run, NULL},
        {"/api/v1/admin/tsdb/clean_tombstones", "admin", change, info_clean_tombstones, &c->info},
        {"/api/v1/admin/tsdb/snapshot", "admin", change, info_snapshot, &c->info},
    };

    _Static_assert(PS_ARRAY_LEN(list) <= OPS_MAX_ENDPOINTS, "raise OPS_MAX_ENDPOINTS");
    for (size_t i = 0; i < PS_ARRAY_LEN(list); i++) {
        const api_path *p = &list[i];
        bool form_body = p->run != remote_read_run;
        c->endpoints[i] =
            (api_endpoint){.api = c->api, .name = p->name, .run = p->run, .self = p->self};
        routes[i] = (http_route){.path = p->path,
                                 .methods = p->methods,
                                 .handler = api_submit,
                                 .self = &c->endpoints[i],
                                 .max_body_bytes =
                                     form_body ? API_MAX_BODY_BYTES : REMOTE_READ_MAX_BODY_BYTES,
                                 .cors = true};
    }
    return PS_ARRAY_LEN(list);
}

size_t
ops_routes(connector *c, http_route routes[OPS_MAX_ROUTES])
{
    const unsigned any = HTTP_GET | HTTP_HEAD | HTTP_POST | HTTP_PUT | HTTP_OPTIONS | HTTP_DELETE;
    const size_t body = (size_t)c->settings->ingest_max_body_bytes, small = 64 * 1024;
    const http_route list[] = {
        {"/api/v1/write", HTTP_POST, ops_write, c, body, false},
        {"/write", HTTP_POST, ops_write, c, body, false},
        {c->settings->web_telemetry_path, HTTP_GET, serve_metrics, c, 0, false},
        {"/healthz", HTTP_GET | HTTP_OPTIONS, serve_healthz, c, 0, false},
        {"/-/healthy", HTTP_GET, serve_healthy, c, 0, false},
        {"/-/ready", HTTP_GET, serve_ready, c, 0, false},
        {"/", HTTP_GET, ops_status_page, c, 0, false},
        {"/api/v1/*", any, not_found, c, small, true},
    };

    _Static_assert(PS_ARRAY_LEN(list) + 1 + OPS_MAX_ENDPOINTS <= OPS_MAX_ROUTES,
                   "raise OPS_MAX_ROUTES");
    size_t n = PS_ARRAY_LEN(list);
    memcpy(routes, list, sizeof(list));
    if (c->settings->web_enable_otlp_receiver)
        routes[n++] = (http_route){"/api/v1/otlp/v1/metrics", HTTP_POST, ops_otlp, c, body, false};
    return n + api_routes(c, routes + n);
}
