/*
 * catalog.h - the catalog's SQL functions as C functions: resolving series, the feed, tenants,
 * metadata.
 *
 * Each call is one short transaction of its own on a connection that the caller owns; nothing is
 * kept between calls. Errors carry the verdict as their status (pg_status_of): PS_EUNAVAILABLE try
 * again, PS_EINVAL the data will never go in, PS_EINTERNAL neither of them; PS_ETIMEOUT and
 * PS_ECANCELED come from the wait. After any error but PS_EINVAL and PS_EINTERNAL the connection
 * should be closed.
 */
#ifndef PROMSCALE_CONNECTOR_CATALOG_H
#define PROMSCALE_CONNECTOR_CATALOG_H

#include "connector/catalog/series_cache.h"
#include "connector/pg/pg.h"
#include "lib/model/model.h"

/* Which database is at the other end: cluster, timeline, database. Ids and xids of one mean
 * nothing in another (restored, failed over, recreated). */
enum { CATALOG_IDENTITY_BYTES = 96 };
ps_status catalog_identity(PGconn *conn, const pg_wait *wait, char ret[CATALOG_IDENTITY_BYTES],
                           ps_err *err) PS_MUST_CHECK;

/* Id of a tenant, made if it is new. */
ps_status catalog_tenant_id(PGconn *conn, const pg_wait *wait, ps_str name, int32_t *ret,
                            ps_err *err) PS_MUST_CHECK;

/*
 * Ids of n series of one tenant, made where they are new. Label sets are canonical
 * (mdl_labels_canonical). seed: secret for the table of distinct labels. ret_refs has room for n.
 */
ps_status catalog_resolve(PGconn *conn, const pg_wait *wait, uint64_t seed, int32_t tenant_id,
                          const mdl_labels *series, size_t n, int64_t *ret_generation,
                          series_ref *ret_refs, ps_err *err) PS_MUST_CHECK;

typedef struct catalog_feed {
    uint64_t cursor; /* 0: start from now */
    int64_t generation;
    bool trimmed;     /* rows between the old cursor and now are gone: forget everything */
    int64_t *deleted; /* malloc'd by catalog_poll, freed by catalog_feed_done */
    size_t n_deleted;
} catalog_feed;

/* What changed since feed->cursor; moves the cursor. */
ps_status catalog_poll(PGconn *conn, const pg_wait *wait, catalog_feed *feed,
                       ps_err *err) PS_MUST_CHECK;
void catalog_feed_done(catalog_feed *feed);

/* A rule how long samples are kept. *ret and the texts in it are one piece, for free(). */
typedef struct catalog_period {
    char kind; /* d: default, t: tenant, m: metric, s: selector */
    ps_str subject;
    int64_t ms; /* 0: for ever */
} catalog_period;
ps_status catalog_periods(PGconn *conn, const pg_wait *wait, catalog_period **ret, size_t *ret_n,
                          ps_err *err) PS_MUST_CHECK;

typedef struct catalog_metadata {
    ps_str family, unit, help;
    const char *type;
} catalog_metadata;
ps_status catalog_upsert_metadata(PGconn *conn, const pg_wait *wait, int32_t tenant_id,
                                  const catalog_metadata *items, size_t n,
                                  ps_err *err) PS_MUST_CHECK;

#endif
