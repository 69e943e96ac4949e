/*
 * label_view.h - inside of a view: label_index.c keeps it up to date, label_load.c fills it.
 */
#ifndef PROMSCALE_CONNECTOR_LABEL_VIEW_H
#define PROMSCALE_CONNECTOR_LABEL_VIEW_H

#include <pthread.h>
#include <stdatomic.h>

#include "connector/catalog/label_index.h"

typedef struct label_tenant {
    int32_t id;
    char *name;
    size_t name_len;
} label_tenant;

struct label_view {
    atomic_int refs;
    char identity[LABEL_IDENTITY_BYTES];
    int64_t timeline;
    pthread_rwlock_t lock; /* guards what follows; writers go first */
    idx *x;
    label_tenant *tenants;
    size_t n_tenants;
    pthread_mutex_t cursor_lock; /* guards the cursor, which is moved after what it stands for */
    ps_buf cursor;
};

/* Adds it, unless it is there. */
ps_status label_view_add_tenant(label_view *v, int32_t id, ps_str name, ps_err *err) PS_MUST_CHECK;
/* Fills a view that nobody else knows yet. */
ps_status label_view_load(label_view *v, PGconn *conn, const pg_wait *wait,
                          ps_err *err) PS_MUST_CHECK;

#endif
