/*
 * label_load.h - what loading all of the catalog (label_load.c) and loading some of it (label_some.c) share:
 * one snapshot, and rows of labels and series that become pairs and series of the index.
 */
#ifndef PROMSCALE_CONNECTOR_LABEL_LOAD_H
#define PROMSCALE_CONNECTOR_LABEL_LOAD_H

#include "connector/catalog/label_view.h"

typedef struct label_key {
    int32_t id;
    ps_str name; /* in the result */
} label_key;

typedef struct label_loading {
    label_view *v;
    PGconn *conn;
    const pg_wait *wait;
    ps_err *err;
    PGresult *keys_result;
    label_key *keys;
    size_t n_keys;
    uint32_t **pages; /* pair number + 1 by label id */
    size_t n_pages;
} label_loading;

/* Opens the transaction; reads who the database is, the cursor, tenants and label names. */
ps_status label_loading_begin(label_loading *l) PS_MUST_CHECK;
ps_status label_loading_run(const label_loading *l, const char *sql, PGresult **ret) PS_MUST_CHECK;
ps_status label_loading_command(const label_loading *l, const char *sql) PS_MUST_CHECK;
ps_status label_loading_damaged(const label_loading *l, const char *what);
/* A row of _prom_catalog.label. */
ps_status label_loading_label(label_loading *l, int32_t id, int32_t tenant_id, int32_t key_id,
                              ps_str value) PS_MUST_CHECK;
bool label_loading_has(const label_loading *l, int32_t label_id);
/* A row of _prom_catalog.series; labels: the array as it comes. PS_ECORRUPT: a label was not loaded. */
ps_status label_loading_series(label_loading *l, int64_t id, int32_t tenant_id, int32_t metric_id,
                               ps_str labels) PS_MUST_CHECK;
void label_loading_done(label_loading *l);

#endif
