/*
 * connector.h - the program's parts in one place: made by main.c in this order, ended in the reverse
 * one, read by connector/ops. There are no globals.
 */
#ifndef PROMSCALE_CONNECTOR_CONNECTOR_H
#define PROMSCALE_CONNECTOR_CONNECTOR_H

#include <stdatomic.h>

#include "connector/api/api.h"
#include "connector/config/settings.h"
#include "connector/embedded/embedded.h"
#include "connector/http/http.h"
#include "connector/info/info.h"
#include "connector/log/log.h"
#include "connector/metrics/metrics.h"
#include "connector/ops/facts.h"
#include "connector/ops/recent.h"
#include "connector/ops/self_scrape.h"
#include "connector/pg/maintenance.h"
#include "connector/query/query.h"
#include "connector/read/read.h"
#include "connector/write/write.h"

enum { OPS_MAX_ENDPOINTS = 64 };

typedef struct connector {
    const char *program; /* as it was called: "build/promscale" */
    settings *settings;
    logger *log;
    metrics *metrics;
    embedded *embedded; /* NULL: a database of the user's */
    atomic_bool
        reviving;   /* its server has died and does not answer again yet; set by the main thread */
    char *conninfo; /* with the password, if there is one: never shown */
    char *sql_command;  /* what a user types to open psql; without a password */
    int64_t started_ms; /* Unix */
    facts *facts;
    write_path *write;
    read_store *read;
    api *api;
    query_api *query;
    info info;
    api_endpoint endpoints[OPS_MAX_ENDPOINTS]; /* filled by ops_routes() */
    recent *recent;
    http_server *http;
    self_scrape *self_scrape;
    maintenance *maintenance;
} connector;

/* True while samples can be stored: the database answers. For /-/ready, /healthz and the page. */
bool connector_ready(const connector *c);

#endif
