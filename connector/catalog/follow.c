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

/* Series first, then each of their labels once: most of them are had by many. */
static const char series_sql[] =
    "SELECT s.tenant_id, t.name, s.id, s.metric_id, s.labels FROM _prom_catalog.series s"
    " JOIN _prom_catalog.tenant t ON t.id = s.tenant_id WHERE s.id = ANY ($1)";
static const char labels_sql[] = "SELECT l.id, k.key, l.value FROM _prom_catalog.label l"
                                 " JOIN _prom_catalog.label_key k ON k.id = l.key_id WHERE l.id = ANY ($1)"
                                 " ORDER BY l.id";

typedef struct reading {
    PGconn *conn;
    const pg_wait *wait;
    PGresult *series;
    int32_t *ids; /* of labels, ascending */
    size_t n_ids;
    PGresult **labels; /* AT_ONCE ids each */
    size_t n_labels;
    ps_err *err;
} reading;

static ps_status
run_ids(const reading *r, const char *sql, ps_buf *array, Oid type, PGresult **ret)
{
    const pg_param param = {type, ps_buf_str(array)};
    ps_status status = array->failed ? ps_fail(r->err, PS_ENOMEM, "out of memory")
                                     : pg_run(r->conn, sql, &param, 1, r->wait, ret, r->err);
    ps_buf_done(array);
    return status;
}

static int
compare_ids(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static int32_t
label_at(ps_str labels, int64_t i)
{
    return (int32_t)pg_get_u32(labels.ptr + 20 + i * 8 + 4);
}

/* The number of elements of a row's array; -1: it is none. */
static int64_t
count_labels(const PGresult *res, int row)
{
    ps_str labels = field(res, row, 4);
    int64_t n = pg_array_length(labels);
    return n > 0 && labels.len != 20 + (size_t)n * 8 ? -1 : n;
}

/* Which labels do they have? */
static ps_status
gather_ids(reading *r)
{
    int n = PQntuples(r->series);
    size_t cap = 0, unique = 0;
    bool good = n == 0 || PQnfields(r->series) == 5;
    for (int i = 0; i < n && good; i++) {
        int64_t labels = count_labels(r->series, i);
        good = labels >= 0 && PQgetlength(r->series, i, 0) == 4 &&
               PQgetlength(r->series, i, 2) == 8 && PQgetlength(r->series, i, 3) == 4;
        cap += good ? (size_t)labels : 0;
    }
    if (!good)
        return ps_fail(r->err, PS_ECORRUPT, "the database answered no series");
    r->ids = calloc(cap + 1, sizeof(*r->ids));
    if (r->ids == NULL)
        return ps_fail(r->err, PS_ENOMEM, "out of memory");
    for (int i = 0; i < n; i++) {
        ps_str labels = field(r->series, i, 4);
        for (int64_t k = 0, end = count_labels(r->series, i); k < end; k++) {
            if (label_at(labels, k) != 0)
                r->ids[r->n_ids++] = label_at(labels, k);
        }
    }
    qsort(r->ids, r->n_ids, sizeof(*r->ids), compare_ids);
    for (size_t i = 0; i < r->n_ids; i++) {
        if (i == 0 || r->ids[i] != r->ids[unique - 1])
            r->ids[unique++] = r->ids[i];
    }
    r->n_ids = unique;
    return PS_OK;
}

/* All of them, or it is an error: each result has a row for each of its ids, in order. */
static ps_status
read_labels(reading *r)
{
    r->labels = calloc(r->n_ids / IDS_A_CALL + 1, sizeof(*r->labels));
    if (r->labels == NULL)
        return ps_fail(r->err, PS_ENOMEM, "out of memory");
    for (size_t at = 0; at < r->n_ids; at += IDS_A_CALL) {
        size_t n = r->n_ids - at < IDS_A_CALL ? r->n_ids - at : IDS_A_CALL;
        ps_buf array;
        PGresult *res;
        ps_buf_init(&array, &ps_malloc);
        pg_put_array(&array, PG_OID_INT4, n);
        for (size_t i = 0; i < n; i++) {
            pg_put_u32(&array, 4);
            pg_put_u32(&array, (uint32_t)r->ids[at + i]);
        }
        PS_TRY(run_ids(r, labels_sql, &array, PG_OID_INT4_ARRAY, &res));
        r->labels[r->n_labels++] = res;
        bool good = (size_t)PQntuples(res) == n && PQnfields(res) == 3;
        for (size_t i = 0; i < n && good; i++)
            good = PQgetlength(res, (int)i, 0) == 4 &&
                   (int32_t)pg_get_u32(PQgetvalue(res, (int)i, 0)) == r->ids[at + i];
        if (!good)
            return ps_fail(r->err, PS_ECORRUPT, "a series has a label that there is not");
    }
    return PS_OK;
}

static ps_status
hand_out(const reading *r, follow_series_fn fn, void *self)
{
    mdl_label *labels = NULL;
    size_t cap = 0;
    ps_status status = PS_OK;
    for (int i = 0; i < PQntuples(r->series) && status == PS_OK; i++) {
        ps_str ids = field(r->series, i, 4);
        size_t n = 0, most = (size_t)count_labels(r->series, i);
        if (most > cap) {
            free(labels);
            cap = most;
            labels = calloc(cap, sizeof(*labels));
        }
        if (labels == NULL && most > 0)
            return ps_fail(r->err, PS_ENOMEM, "out of memory");
        for (size_t k = 0; k < most; k++) {
            int32_t id = label_at(ids, (int64_t)k);
            if (id == 0)
                continue;
            const int32_t *found = bsearch(&id, r->ids, r->n_ids, sizeof(id), compare_ids);
            size_t at = (size_t)(found - r->ids);
            const PGresult *res = r->labels[at / IDS_A_CALL];
            labels[n++] = (mdl_label){field(res, (int)(at % IDS_A_CALL), 1),
                                      field(res, (int)(at % IDS_A_CALL), 2)};
        }
        if (n > 0)
            status = fn(self, (int32_t)pg_get_u32(PQgetvalue(r->series, i, 0)),
                        field(r->series, i, 1), (int64_t)pg_get_u64(PQgetvalue(r->series, i, 2)),
                        (int32_t)pg_get_u32(PQgetvalue(r->series, i, 3)), labels, n, r->err);
    }
    free(labels);
    return status;
}

static ps_status
some_series(PGconn *conn, const pg_wait *wait, const int64_t *ids, size_t n, follow_series_fn fn,
            void *self, ps_err *err)
{
    reading r = {.conn = conn, .wait = wait, .err = err};
    ps_buf array;
    ps_buf_init(&array, &ps_malloc);
    pg_put_array(&array, PG_OID_INT8, n);
    for (size_t i = 0; i < n; i++) {
        pg_put_u32(&array, 8);
        pg_put_u64(&array, (uint64_t)ids[i]);
    }
    ps_status status = run_ids(&r, series_sql, &array, PG_OID_INT8_ARRAY, &r.series);
    if (status == PS_OK)
        status = gather_ids(&r);
    if (status == PS_OK)
        status = read_labels(&r);
    if (status == PS_OK)
        status = hand_out(&r, fn, self);
    for (size_t i = 0; i < r.n_labels; i++)
        PQclear(r.labels[i]);
    free(r.labels);
    free(r.ids);
    PQclear(r.series);
    return status;
}

static ps_status
command(PGconn *conn, const pg_wait *wait, const char *sql, ps_err *err)
{
    PGresult *res;
    PS_TRY(pg_run(conn, sql, NULL, 0, wait, &res, err));
    PQclear(res);
    return PS_OK;
}

/* In one snapshot: labels go with the last series that has them. */
ps_status
follow_series(PGconn *conn, const pg_wait *wait, const int64_t *ids, size_t n, follow_series_fn fn,
              void *self, ps_err *err)
{
    bool own = PQtransactionStatus(conn) == PQTRANS_IDLE;
    if (own)
        PS_TRY(command(conn, wait, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", err));
    for (size_t at = 0; at < n; at += IDS_A_CALL)
        PS_TRY(some_series(conn, wait, ids + at, n - at < IDS_A_CALL ? n - at : IDS_A_CALL, fn,
                           self, err));
    return own ? command(conn, wait, "COMMIT", err) : PS_OK;
}
