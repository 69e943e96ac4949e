/* follow.c - see follow.h. */
#include "connector/catalog/follow.h"

#include <stdlib.h>

enum { TIMELINE_SHIFT = 40, IDS_A_CALL = 20000 };

const char follow_sql[] = "SELECT generation, next_cursor, trimmed, created, deleted"
                          " FROM _prom_catalog.follow($1)";

void
follow_first_cursor(ps_buf *out)
{
    pg_put_u32(out, 0); /* transactions in progress */
    pg_put_u64(out, 1);
    pg_put_u64(out, 1);
}

static ps_str
field(const PGresult *res, int row, int column)
{
    return (ps_str){PQgetvalue(res, row, column), (size_t)PQgetlength(res, row, column)};
}

static ps_status
no_feed(ps_err *err)
{
    return ps_fail(err, PS_ECORRUPT, "the database answered no feed");
}

static ps_status
read_ids(ps_str bytes, int64_t **ret, size_t *ret_n, ps_err *err)
{
    int64_t n = pg_array_length(bytes);
    if (n < 0 || (uint64_t)n > bytes.len)
        return no_feed(err);
    *ret = calloc((size_t)n + 1, sizeof(**ret));
    if (*ret == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    *ret_n = (size_t)n;
    return pg_get_int8_array(bytes, (size_t)n, *ret, err);
}

ps_status
follow_read(const PGresult *res, follow_news *ret, ps_err *err)
{
    follow_news news = {0};
    if (PQntuples(res) != 1 || PQnfields(res) != 5)
        return no_feed(err);
    for (int i = 0; i < 5; i++) {
        if (PQgetisnull(res, 0, i))
            return no_feed(err);
    }
    if (PQgetlength(res, 0, 0) != 8 || PQgetlength(res, 0, 2) != 1)
        return no_feed(err);
    ps_buf_init(&news.cursor, &ps_malloc);
    ps_buf_add_str(&news.cursor, field(res, 0, 1));
    news.generation = (int64_t)pg_get_u64(PQgetvalue(res, 0, 0));
    news.trimmed = PQgetvalue(res, 0, 2)[0] != 0;
    ps_status status = news.cursor.failed ? ps_fail(err, PS_ENOMEM, "out of memory") : PS_OK;
    if (status == PS_OK)
        status = read_ids(field(res, 0, 3), &news.created, &news.n_created, err);
    if (status == PS_OK)
        status = read_ids(field(res, 0, 4), &news.deleted, &news.n_deleted, err);
    if (status != PS_OK) {
        follow_news_done(&news);
        return status;
    }
    *ret = news;
    return PS_OK;
}

void
follow_news_done(follow_news *news)
{
    ps_buf_done(&news->cursor);
    free(news->created);
    free(news->deleted);
    *news = (follow_news){0};
}

int64_t
follow_timeline(const follow_news *news)
{
    return news->generation >> TIMELINE_SHIFT;
}

/* ---- labels of some series --------------------------------------------------------------------- */

/* A row for each label, those of a series one after another. */
static const char series_sql[] =
    "SELECT s.tenant_id, t.name, s.id, s.metric_id, k.key, l.value"
    " FROM _prom_catalog.series s JOIN _prom_catalog.tenant t ON t.id = s.tenant_id,"
    " LATERAL unnest(s.labels) u(id) JOIN _prom_catalog.label l ON l.id = u.id"
    " JOIN _prom_catalog.label_key k ON k.id = l.key_id"
    " WHERE s.id = ANY ($1) ORDER BY s.id";

static ps_status
read_series(const PGresult *res, follow_series_fn fn, void *self, ps_err *err)
{
    int n = PQntuples(res), cap = 0;
    mdl_label *labels = NULL;
    ps_status status = PS_OK;
    if (n > 0 && (PQnfields(res) != 6 || PQgetlength(res, 0, 0) != 4 ||
                  PQgetlength(res, 0, 2) != 8 || PQgetlength(res, 0, 3) != 4))
        return ps_fail(err, PS_ECORRUPT, "the database answered no series");
    for (int i = 0, end; i < n && status == PS_OK; i = end) {
        uint64_t id = pg_get_u64(PQgetvalue(res, i, 2));
        for (end = i + 1; end < n && pg_get_u64(PQgetvalue(res, end, 2)) == id; end++)
            ;
        if (end - i > cap) {
            free(labels);
            cap = end - i;
            labels = calloc((size_t)cap, sizeof(*labels));
        }
        if (labels == NULL) {
            status = ps_fail(err, PS_ENOMEM, "out of memory");
            break;
        }
        for (int k = i; k < end; k++)
            labels[k - i] = (mdl_label){field(res, k, 4), field(res, k, 5)};
        status = fn(self, (int32_t)pg_get_u32(PQgetvalue(res, i, 0)), field(res, i, 1), (int64_t)id,
                    (int32_t)pg_get_u32(PQgetvalue(res, i, 3)), labels, (size_t)(end - i), err);
    }
    free(labels);
    return status;
}

static ps_status
some_series(PGconn *conn, const pg_wait *wait, const int64_t *ids, size_t n, follow_series_fn fn,
            void *self, ps_err *err)
{
    ps_buf array;
    PGresult *res;
    ps_buf_init(&array, &ps_malloc);
    pg_put_array(&array, PG_OID_INT8, n);
    for (size_t i = 0; i < n; i++) {
        pg_put_u32(&array, 8);
        pg_put_u64(&array, (uint64_t)ids[i]);
    }
    pg_param param = {PG_OID_INT8_ARRAY, ps_buf_str(&array)};
    ps_status status = array.failed ? ps_fail(err, PS_ENOMEM, "out of memory")
                                    : pg_run(conn, series_sql, &param, 1, wait, &res, err);
    ps_buf_done(&array);
    if (status != PS_OK)
        return status;
    status = read_series(res, fn, self, err);
    PQclear(res);
    return status;
}

ps_status
follow_series(PGconn *conn, const pg_wait *wait, const int64_t *ids, size_t n, follow_series_fn fn,
              void *self, ps_err *err)
{
    for (size_t at = 0; at < n; at += IDS_A_CALL)
        PS_TRY(some_series(conn, wait, ids + at, n - at < IDS_A_CALL ? n - at : IDS_A_CALL, fn,
                           self, err));
    return PS_OK;
}
