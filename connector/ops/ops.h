/*
 * ops.h - what operators and senders see: the routes, the page at /, the lines at start.
 */
#ifndef PROMSCALE_CONNECTOR_OPS_H
#define PROMSCALE_CONNECTOR_OPS_H

#include <time.h>

#include "connector/connector.h"

enum { OPS_MAX_ROUTES = 96 };
/* Routes over c, which must outlive the server. Returns how many. */
size_t ops_routes(connector *c, http_route routes[OPS_MAX_ROUTES]);

/* write_handler.c: POST /api/v1/write and /write. */
void ops_write(http_request *r, void *connector);
/* status_page.c: GET /. */
void ops_status_page(http_request *r, void *connector);

/* otlp_handler.c: POST /api/v1/otlp/v1/metrics. */
void ops_otlp(http_request *r, void *connector);

/* The media types and encodings of the write endpoints; why is the answer's text. */
ps_status ops_check_write_headers(const http_request *r, write_version *version,
                                  write_encoding *encoding, const char **why) PS_MUST_CHECK;
/* HTTP status of what became of a write request. */
int ops_write_status(const write_result *result);
double ops_seconds_since(const struct timespec *begun);
void ops_measure_write(connector *c, int code, double seconds);
void ops_log_write_failure(connector *c, const http_request *r, int code, const char *text);

/* process_metrics.c: memory, CPU, descriptors, start time, build. */
void ops_register_process_metrics(connector *c);

/* banner.c */
/* How a user opens psql: "build/promscale sql --data-dir ..." or psql with a password-free conninfo.
 * malloc; NULL: no memory. */
char *ops_sql_command(const connector *c);
/* Where a Prometheus on this machine reaches us: "http://127.0.0.1:9201", also when all interfaces are
 * listened on. */
void ops_local_url(const connector *c, char *dst, size_t cap);
/* On stdout, when all is ready. */
void ops_print_banner(const connector *c, int64_t took_ms);

#endif
