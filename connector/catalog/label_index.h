/*
 * label_index.h - the connector's label index (lib/index) of one database: loaded as a whole, then
 * kept up to date by what queries learn from the feed.
 *
 * A view is the index of one load. Whoever holds one may use what it gave out (label texts) until it
 * lets go, also after another load has replaced it: after a fail-over, in another database, when the
 * feed was trimmed beyond the cursor, or when deleted series take too much room.
 *
 * What a view knows only grows: series that were created and series that were deleted, each since the
 * beginning of time. So it does not matter in which order, how often and from how old a snapshot news
 * arrive; a view with a cursor knows at least what was visible in that snapshot. It may know more,
 * which does no harm: such series have no samples in an older snapshot.
 *
 * Where all series would not fit into the budget a view holds some of them (label_some.c): then whoever
 * selects asks the database which ids lived in the time in question, and has those learnt that the view does
 * not know.
 *
 * Threads: everything may be called by any thread. Loading is done by one, on a connection of its own.
 */
#ifndef PROMSCALE_CONNECTOR_LABEL_INDEX_H
#define PROMSCALE_CONNECTOR_LABEL_INDEX_H

#include "connector/catalog/follow.h"
#include "connector/log/log.h"
#include "connector/metrics/metrics.h"
#include "lib/index/index.h"

typedef struct label_index label_index;
typedef struct label_view label_view;

ps_status label_index_new(size_t max_bytes, logger *log, metrics *m, label_index **ret,
                          ps_err *err) PS_MUST_CHECK;
void label_index_free(label_index *ix); /* after all views were let go */

/* ---- the loader ------------------------------------------------------------------------------ */

/* Becomes readable when somebody wants a load. */
int label_index_wanted_fd(const label_index *ix);
bool label_index_wanted(const label_index *ix);
/* Loads what is in the database at the other end. The view before is let go first, so that there is room;
 * queries wait. PS_ELIMIT: it does not fit. */
ps_status label_index_load(label_index *ix, PGconn *conn, const pg_wait *wait,
                           ps_err *err) PS_MUST_CHECK;
/* After that failed: is it worth while to try again at once, on a new connection, with fewer series? */
bool label_index_try_less(label_index *ix, ps_status why);
/* What queries are told while there is nothing loaded, from now on. PS_OK: let them wait. */
void label_index_failed(label_index *ix, const ps_err *why);

/* ---- queries ---------------------------------------------------------------------------------- */

/* Waits until there is a view. */
ps_status label_index_hold(label_index *ix, const pg_wait *wait, label_view **ret,
                           ps_err *err) PS_MUST_CHECK;
void label_view_release(label_view *v); /* NULL is fine */
/* Asks for another load, unless one has replaced this view already. */
void label_index_outdated(label_index *ix, label_view *v, const char *why);

/* "cluster/database" */
enum { LABEL_IDENTITY_BYTES = 64 };
const char *label_view_identity(const label_view *v);
ps_status label_identity(PGconn *conn, const pg_wait *wait, char ret[LABEL_IDENTITY_BYTES],
                         ps_err *err) PS_MUST_CHECK;

/* A cursor of which the view knows all that was visible. */
ps_status label_view_cursor(label_view *v, ps_buf *out, ps_err *err) PS_MUST_CHECK;
/* False: it has no series. */
bool label_view_tenant(label_view *v, ps_str name, int32_t *ret);
/* As idx_query; an unknown tenant has no series. */
typedef struct label_query {
    ps_str tenant;
    re_matcher *const *matchers;
    size_t n_matchers;
    size_t max_series, limit;
    const mdl_ids *within;
    bool (*should_stop)(void *self);
    void *self;
    int32_t *ret_tenant_id; /* set if the tenant is known */
} label_query;
/* As idx_select, idx_metrics, and idx_values or (name NULL) idx_names; n queries of one tenant. */
ps_status label_view_select(label_view *v, const label_query *q, ps_arena *arena, idx_found *ret,
                            ps_err *err) PS_MUST_CHECK;
ps_status label_view_metrics(label_view *v, const label_query *q, size_t n, ps_arena *arena,
                             idx_metric_ids *ret, ps_err *err) PS_MUST_CHECK;
ps_status label_view_texts(label_view *v, const label_query *q, size_t n, const ps_str *name,
                           ps_arena *arena, idx_texts *ret, ps_err *err) PS_MUST_CHECK;
/* As idx_series_of_metrics. */
ps_status label_view_series(label_view *v, int32_t tenant_id, idx_key_fn key_of, void *self,
                            ps_arena *arena, idx_keyed **ret, size_t *ret_n,
                            ps_err *err) PS_MUST_CHECK;
/* Does it hold all series? And if not, since when do those have to have lived that it was loaded with. */
bool label_view_is_whole(const label_view *v);
int64_t label_view_since_ms(const label_view *v);
/* Of a view that does not: the metrics whose names fit any of n queries; more than max: all. */
ps_status label_view_named(label_view *v, const label_query *q, size_t n, size_t max,
                           ps_arena *arena, idx_metric_ids *ret, ps_err *err) PS_MUST_CHECK;
/* Which of the ids it does not know; the caller frees an array of *ret_cap, even after PS_ENOMEM. */
ps_status label_view_unknown(label_view *v, mdl_ids *ids, const ps_alloc *alloc, int64_t **ret,
                             size_t *ret_n, size_t *ret_cap) PS_MUST_CHECK;
/*
 * Who lived of a metric, as the database said last time: a guess. Of a metric of which somebody has looked up the
 * past the view holds many more, and a selection within the guess looks at few. Whoever made one has to select
 * again if the database names ids that it did not have. False: there is none. *ret is empty, and is added to.
 */
bool label_view_guess(label_view *v, int32_t tenant_id, int32_t metric_id, int64_t from_ms,
                      int64_t to_ms, mdl_ids *ret);
void label_view_keep_guess(label_view *v, int32_t tenant_id, int32_t metric_id, int64_t from_ms,
                           int64_t to_ms, const mdl_ids *ids);
/* Rises whenever the view takes in series that somebody asked for. Whoever selected before, and finds it risen
 * when all ids are known, has to select again. */
uint64_t label_view_taught(const label_view *v);
/* As idx_get_cardinality, of a tenant by name. */
ps_status label_view_count(label_view *v, ps_str tenant, const idx_cardinality_query *q,
                           ps_arena *arena, idx_cardinality *ret, ps_err *err) PS_MUST_CHECK;
/*
 * Takes in what follow_sql answered, reading new series on conn (in the snapshot of the answer or a later
 * one). PS_ECONFLICT: the view is outdated, and another load was asked for.
 */
ps_status label_index_learn(label_index *ix, label_view *v, PGconn *conn, const pg_wait *wait,
                            const follow_news *news, ps_err *err) PS_MUST_CHECK;

/* Takes in series by id that somebody asked for and the view does not know, in the snapshot that named them
 * or a later one; n_before: those that the same request had read before, which it needs as well. PS_ECONFLICT as
 * above: what was learnt before has to make room. PS_ELIMIT: too many. */
ps_status label_index_learn_asked(label_index *ix, label_view *v, PGconn *conn, const pg_wait *wait,
                                  const int64_t *ids, size_t n, size_t n_before,
                                  ps_err *err) PS_MUST_CHECK;

#endif
