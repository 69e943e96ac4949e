/*
 * follow.h - the catalog's feed for those who hold labels: which series are new and which are gone,
 * and the labels of new ones. SQL and parsing; what is done with it is label_index.c's.
 *
 * Cursors are snapshots of the database as bytes; nobody looks into them.
 */
#ifndef PROMSCALE_CONNECTOR_FOLLOW_H
#define PROMSCALE_CONNECTOR_FOLLOW_H

#include "connector/pg/pg.h"
#include "lib/model/model.h"

/* One parameter: the cursor (PG_OID_SNAPSHOT, binary). */
extern const char follow_sql[];
/* A cursor that is too old: the answer is "trimmed", and has a cursor to go on with. */
void follow_first_cursor(ps_buf *out);

typedef struct follow_news {
    ps_buf cursor; /* to go on with */
    int64_t generation;
    bool trimmed; /* the feed cannot tell: load everything anew */
    int64_t *created, *deleted;
    size_t n_created, n_deleted;
} follow_news;

/* From the result of follow_sql. */
ps_status follow_read(const PGresult *res, follow_news *ret, ps_err *err) PS_MUST_CHECK;
void follow_news_done(follow_news *news);
/* Server timelines: ids and cursors of one mean nothing in another. */
int64_t follow_timeline(const follow_news *news);

/* ---- labels of some series --------------------------------------------------------------------- */

/* Called for each series; labels are in no order and valid during the call. */
typedef ps_status (*follow_series_fn)(void *self, int32_t tenant_id, ps_str tenant,
                                      int64_t series_id, int32_t metric_id, const mdl_label *labels,
                                      size_t n, ps_err *err);
/* Those of the ids that there are in this transaction's snapshot, or in one of its own. After an error the
 * connection is to be closed. */
ps_status follow_series(PGconn *conn, const pg_wait *wait, const int64_t *ids, size_t n,
                        follow_series_fn fn, void *self, ps_err *err) PS_MUST_CHECK;

#endif
