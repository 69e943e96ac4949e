/*
 * label_view.h - inside of the index and of a view: label_index.c makes it, label_load.c and label_some.c fill
 * it, label_learn.c keeps it up to date.
 */
#ifndef PROMSCALE_CONNECTOR_LABEL_VIEW_H
#define PROMSCALE_CONNECTOR_LABEL_VIEW_H

#include <pthread.h>
#include <stdatomic.h>

#include "connector/catalog/label_index.h"

/* How much of the catalog a view holds; what is tried one after another until it fits. */
typedef enum label_extent {
    LABEL_ALL,    /* every series */
    LABEL_RECENT, /* those that lived lately, and whatever was asked for since */
    LABEL_ASKED   /* only what was asked for since */
} label_extent;

typedef struct label_metric {
    int32_t id;
    ps_str name; /* in the view's arena */
} label_metric;

typedef struct label_tenant {
    int32_t id;
    char *name;
    size_t name_len;
} label_tenant;

/* The answer to a question who lived, of one metric of which many more are held. */
enum { LABEL_GUESSES = 64 };
typedef struct label_guess {
    int32_t tenant_id, metric_id; /* 0: none */
    int64_t from_ms, to_ms;       /* windows */
    mdl_ids ids;
} label_guess;

struct label_view {
    atomic_int refs;
    char identity[LABEL_IDENTITY_BYTES];
    int64_t timeline;
    pthread_rwlock_t lock; /* guards what follows; writers go first */
    idx *x;
    label_tenant *tenants;
    size_t n_tenants;
    /* Of views that do not hold all series: the names of all metrics, the first n_sorted in order. */
    ps_arena names;
    label_metric *metrics;
    size_t n_metrics, n_sorted, cap_metrics;
    label_extent extent; /* this and what follows are set before anybody knows the view */
    int64_t since_ms;    /* LABEL_RECENT: it was loaded with all series that lived since */
    size_t loaded_bytes; /* of the index when it was loaded */
    uint64_t loaded_series;
    size_t max_bytes;
    atomic_ullong taught; /* times that series were taken in which somebody had asked for */
    pthread_rwlock_t seen_lock; /* guards what follows */
    mdl_ids seen;               /* ids that are known to be in the index; may be emptied at any time */
    label_guess guesses[LABEL_GUESSES]; /* by metric; so may these */
    size_t guess_bytes;
    pthread_mutex_t cursor_lock; /* guards the cursor, which is moved after what it stands for */
    ps_buf cursor;
};

struct label_index {
    size_t max_bytes;
    uint64_t seed;
    logger *log;
    int wanted_fd, ready_fd;
    pthread_mutex_t lock; /* guards what follows */
    label_view *current;  /* NULL: none is loaded; holds a reference */
    label_extent extent;  /* how much is loaded next */
    bool refreshing;      /* current is used until the next one is there */
    int64_t too_large;    /* bytes of the table of series that did not fit; 0: it was never tried */
    ps_err failure;       /* why, if code is not PS_OK */
    metric *m_bytes, *m_series, *m_loads, *m_learnt, *m_asked, *m_whole;
};

/* The view has grown: another one is to take its place, and is loaded beside it if there is room for two. */
void label_index_refresh(label_index *ix, label_view *v, const idx_stats *stats);
void label_index_tell_size(label_index *ix, const idx_stats *stats);
/* Adds it, unless it is there. */
ps_status label_view_add_tenant(label_view *v, int32_t id, ps_str name, ps_err *err) PS_MUST_CHECK;
/* The name of a metric of which a series was seen. Under the write lock. */
ps_status label_view_add_metric(label_view *v, int32_t id, ps_str name, ps_err *err) PS_MUST_CHECK;
/* Fill a view that nobody else knows yet: with all series; with some. */
ps_status label_view_load(label_view *v, PGconn *conn, const pg_wait *wait,
                          ps_err *err) PS_MUST_CHECK;
ps_status label_view_load_some(label_view *v, PGconn *conn, const pg_wait *wait,
                               ps_err *err) PS_MUST_CHECK;

#endif
