/*
 * ops.h - what operators and senders see: the routes, the page at /, the lines at start.
 */
#ifndef PROMSCALE_CONNECTOR_OPS_H
#define PROMSCALE_CONNECTOR_OPS_H

#include "connector/connector.h"

enum { OPS_MAX_ROUTES = 96 };
/* Routes over c, which must outlive the server. Returns how many. */
size_t ops_routes(connector *c, http_route routes[OPS_MAX_ROUTES]);

/* write_handler.c: POST /api/v1/write and /write. */
void ops_write(http_request *r, void *connector);
/* status_page.c: GET /. */
void ops_status_page(http_request *r, void *connector);

/* The media type and encoding rules of remote write 1.0; why is the answer's text. */
ps_status ops_check_write_headers(const http_request *r, write_version *version,
                                  const char **why) PS_MUST_CHECK;

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
