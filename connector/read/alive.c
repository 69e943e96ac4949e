/*
 * alive.c - which series lived then: asked of the database (_prom_ext.series_alive), in the same go as the
 * feed. For windows of time, and for selections from a label index that does not hold all series.
 *
 * Such an index knows the names of all metrics. So those whose names fit are asked for; ids that come back and
 * that the index does not know are read into it, and the selection is made again. Where they are many, and
 * there is a matcher that says which values a label must have, the catalog is asked first which series have
 * them: of ten million pods of a metric one is read. Never for more than there are unknown: then these are read.
 */
#include <stdlib.h>

#include "connector/read/internal.h"

/* More metrics than this are not named: all of them are asked for then. Fewer unknown series than that are
 * read without asking which could match; a matcher with more values is no help. */
enum { MANY_HELD = 50 }; /* from which on selections are made within a guess, if few live */
enum { MAX_METRICS = 1000, NARROW_FROM = 500, MAX_NARROW = 4, MAX_VALUES = 100 };

/* ---- asking --------------------------------------------------------------------------------------- */

static int
compare_metrics(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static void
forget_answer(read_alive *a)
{
    if (a->ready)
        mdl_ids_done(&a->ids);
    a->ready = false;
}

void
read_alive_done(read_alive *a)
{
    forget_answer(a);
    if (a->guessed)
        mdl_ids_done(&a->guess);
    a->guessed = false;
}

ps_status
read_alive_prepare(read_source *src, read_alive *a, const label_query *q, size_t n, int64_t from_ms,
                   int64_t to_ms, ps_err *err)
{
    a->asks = false;
    a->metrics = (idx_metric_ids){0};
    a->from_ms = from_ms;
    a->to_ms = to_ms;
    if (label_view_is_whole(src->view) || from_ms > to_ms ||
        !label_view_tenant(src->view, q[0].tenant, &a->tenant_id))
        return PS_OK;
    ps_status status =
        label_view_named(src->view, q, n, MAX_METRICS, &src->arena, &a->metrics, err);
    if (status != PS_OK)
        return read_no_memory(src, err);
    if (a->metrics.n > 1)
        qsort(a->metrics.items, a->metrics.n, sizeof(*a->metrics.items), compare_metrics);
    a->asks = a->metrics.all || a->metrics.n > 0;
    return PS_OK;
}

ps_status
read_alive_asked_enough(read_source *src, const read_alive *a, const label_query *q, size_t n,
                        bool *ret, ps_err *err)
{
    idx_metric_ids now = {0};
    *ret = true;
    if (!a->asks || a->metrics.all)
        return PS_OK;
    if (label_view_named(src->view, q, n, MAX_METRICS, &src->arena, &now, err) != PS_OK)
        return read_no_memory(src, err);
    *ret = !now.all && now.n == a->metrics.n; /* a view forgets no name */
    return PS_OK;
}

static void
put_metrics(ps_buf *out, const idx_metric_ids *of)
{
    pg_put_array(out, PG_OID_INT4, of->n);
    for (size_t i = 0; i < of->n; i++) {
        pg_put_u32(out, 4);
        pg_put_u32(out, (uint32_t)of->items[i]);
    }
}

ps_status
read_alive_send(const read_alive *a, PGconn *conn, ps_err *err)
{
    static const int formats[] = {1, 1, 1, 1};
    const char *values[4];
    int lengths[4] = {4, 0, 8, 8};
    ps_buf buf;
    ps_buf_init(&buf, &ps_malloc);
    pg_put_u32(&buf, (uint32_t)a->tenant_id);
    pg_put_u64(&buf, (uint64_t)read_timestamp_of(a->from_ms));
    pg_put_u64(&buf, (uint64_t)read_timestamp_of(a->to_ms));
    size_t at = buf.len;
    if (!a->metrics.all)
        put_metrics(&buf, &a->metrics);
    ps_status status = buf.failed ? ps_fail(err, PS_ENOMEM, "out of memory") : PS_OK;
    if (status == PS_OK) {
        values[0] = buf.ptr;
        values[1] = a->metrics.all ? NULL : buf.ptr + at;
        values[2] = buf.ptr + 4;
        values[3] = buf.ptr + 12;
        lengths[1] = (int)(buf.len - at);
        if (PQsendQueryPrepared(conn, "alive", 4, values, lengths, formats, 1) == 0)
            status = pg_fail_result(NULL, conn, err);
    }
    ps_buf_done(&buf);
    return status;
}

static ps_status
take(read_source *src, read_alive *a, const PGresult *res, const PGconn *conn, ps_err *err)
{
    if (PQresultStatus(res) != PGRES_TUPLES_OK)
        return pg_fail_result(res, conn, err);
    if (PQntuples(res) != 1 || PQnfields(res) != 1 || PQgetisnull(res, 0, 0))
        return ps_fail(err, PS_ECORRUPT, "the database answered no set of series");
    forget_answer(a);
    mdl_ids_init(&a->ids, &src->alloc);
    a->ready = true;
    return mdl_ids_read(&a->ids,
                        (ps_str){PQgetvalue(res, 0, 0), (size_t)PQgetlength(res, 0, 0)}, err);
}

ps_status
read_alive_receive(read_source *src, read_alive *a, PGconn *conn, ps_err *err)
{
    pg_wait wait = read_wait(src);
    PGresult *res, *end;
    PS_TRY(pg_next_result(conn, &wait, &res, err));
    ps_status status = take(src, a, res, conn, err);
    PQclear(res);
    if (status == PS_ENOMEM)
        return read_no_memory(src, err);
    PS_TRY(status);
    PS_TRY(pg_next_result(conn, &wait, &end, err));
    PQclear(end);
    return PS_OK;
}

/* ---- guessing -------------------------------------------------------------------------------------- */

void
read_alive_guess(read_source *src, read_alive *a)
{
    if (!a->asks || a->metrics.all || a->metrics.n != 1 || a->guessed)
        return;
    mdl_ids_init(&a->guess, &src->alloc);
    a->guessed = label_view_guess(src->view, a->tenant_id, a->metrics.items[0], a->from_ms,
                                  a->to_ms, &a->guess);
    if (!a->guessed)
        mdl_ids_done(&a->guess);
}

static void
note_any(void *self, int64_t id)
{
    (void)id;
    *(bool *)self = true;
}

void
read_alive_compare(read_source *src, read_alive *a, size_t held, size_t lived, bool *ret_short)
{
    bool missed = false;
    if (a->guessed)
        mdl_ids_missing(&a->ids, &a->guess, note_any, &missed);
    *ret_short = *ret_short || missed;
    if (a->metrics.all || a->metrics.n != 1)
        return;
    if (missed || (!a->guessed && held > MANY_HELD && held / 4 > lived))
        label_view_keep_guess(src->view, a->tenant_id, a->metrics.items[0], a->from_ms, a->to_ms,
                              &a->ids);
}

/* ---- fewer of the unknown ones ----------------------------------------------------------------------- */

/* Does it say which values the label must have? */
static bool
narrows(const re_matcher *matcher, const ps_str **ret_values, size_t *ret_n)
{
    const mdl_matcher *m = re_matcher_of(matcher);
    if ((m->type != MDL_MATCH_EQ && m->type != MDL_MATCH_RE) || re_matcher_matches_empty(matcher) ||
        ps_str_eq_c(m->name, MDL_METRIC_NAME))
        return false;
    *ret_n = re_matcher_set(matcher, ret_values);
    return *ret_n > 0 && *ret_n <= MAX_VALUES;
}

/* $1 is the tenant, $2 the metrics; each further one the ids of labels of which a series must have one. OFFSET
 * keeps the planner from walking all series of a metric. */
static const char labels_sql[] =
    "SELECT coalesce(pg_catalog.array_agg(l.id), '{}') FROM _prom_catalog.label_key k"
    " JOIN _prom_catalog.label l ON l.key_id = k.id AND l.tenant_id = $1 AND l.digest = ANY"
    " (ARRAY(SELECT _prom_ext.text_digest(v) FROM pg_catalog.unnest($3) v))"
    " WHERE k.digest = _prom_ext.text_digest($2)";
static const char series_sql[] =
    "SELECT s.id FROM (SELECT id, tenant_id, metric_id FROM _prom_catalog.series WHERE labels && $3%s%s%s"
    " OFFSET 0) s WHERE s.tenant_id = $1 AND ($2 IS NULL OR s.metric_id = ANY ($2)) LIMIT %zu";

static ps_status
label_ids(read_source *src, PGconn *conn, int32_t tenant_id, const re_matcher *matcher,
          const ps_str *set, size_t n, PGresult **ret, ps_err *err)
{
    pg_wait wait = read_wait(src);
    ps_buf tenant, texts;
    ps_buf_init(&tenant, &ps_malloc);
    ps_buf_init(&texts, &ps_malloc);
    pg_put_u32(&tenant, (uint32_t)tenant_id);
    pg_put_array(&texts, PG_OID_TEXT, n);
    for (size_t i = 0; i < n; i++) {
        pg_put_u32(&texts, (uint32_t)set[i].len);
        ps_buf_add_str(&texts, set[i]);
    }
    const pg_param params[] = {{PG_OID_INT4, ps_buf_str(&tenant)},
                               {PG_OID_TEXT, re_matcher_of(matcher)->name},
                               {PG_OID_TEXT_ARRAY, ps_buf_str(&texts)}};
    ps_status status = tenant.failed || texts.failed
                           ? ps_fail(err, PS_ENOMEM, "out of memory")
                           : pg_run(conn, labels_sql, params, 3, &wait, ret, err);
    ps_buf_done(&tenant);
    ps_buf_done(&texts);
    return status;
}

typedef struct narrowing { /* of one query */
    PGresult *labels[MAX_NARROW];
    size_t n;
    bool none; /* nothing has such labels */
} narrowing;

static ps_status
begin_narrowing(read_source *src, const read_alive *a, const label_query *q, PGconn *conn,
                narrowing *ret, ps_err *err)
{
    for (size_t i = 0; i < q->n_matchers && ret->n < MAX_NARROW && !ret->none; i++) {
        const ps_str *set;
        size_t n_set;
        PGresult *res;
        if (!narrows(q->matchers[i], &set, &n_set))
            continue;
        PS_TRY(label_ids(src, conn, a->tenant_id, q->matchers[i], set, n_set, &res, err));
        ret->labels[ret->n++] = res;
        if (PQntuples(res) != 1 || PQgetisnull(res, 0, 0))
            return ps_fail(err, PS_ECORRUPT, "the database answered no labels");
        ret->none = pg_array_length((ps_str){PQgetvalue(res, 0, 0), (size_t)PQgetlength(res, 0, 0)}) <= 0;
    }
    return PS_OK;
}

static ps_status
add_ids(mdl_ids *to, const PGresult *res, ps_err *err)
{
    for (int i = 0; i < PQntuples(res); i++) {
        if (PQgetlength(res, i, 0) != 8)
            return ps_fail(err, PS_ECORRUPT, "the database answered no series");
        int64_t id = (int64_t)pg_get_u64(PQgetvalue(res, i, 0));
        PS_TRY(mdl_ids_add(to, id, id));
    }
    return PS_OK;
}

/* Adds the series that have those labels; *ret_any: there are at least so many. */
static ps_status
series_with(read_source *src, const read_alive *a, const narrowing *w, PGconn *conn, size_t many,
            mdl_ids *to, bool *ret_any, ps_err *err)
{
    static const char *const more[] = {" AND labels && $4", " AND labels && $5", " AND labels && $6"};
    pg_wait wait = read_wait(src);
    pg_param params[2 + MAX_NARROW];
    ps_buf sql, head;
    PGresult *res;
    ps_buf_init(&sql, &ps_malloc);
    ps_buf_init(&head, &ps_malloc);
    pg_put_u32(&head, (uint32_t)a->tenant_id);
    put_metrics(&head, &a->metrics);
    ps_buf_addf(&sql, series_sql, w->n > 1 ? more[0] : "", w->n > 2 ? more[1] : "",
                w->n > 3 ? more[2] : "", many);
    ps_buf_add_char(&sql, 0);
    if (sql.failed || head.failed) {
        ps_buf_done(&sql);
        ps_buf_done(&head);
        return ps_fail(err, PS_ENOMEM, "out of memory");
    }
    params[0] = (pg_param){PG_OID_INT4, {head.ptr, 4}};
    params[1] = (pg_param){PG_OID_INT4_ARRAY,
                           a->metrics.all ? (ps_str){NULL, 0} : (ps_str){head.ptr + 4, head.len - 4}};
    for (size_t i = 0; i < w->n; i++)
        params[2 + i] =
            (pg_param){PG_OID_INT4_ARRAY,
                       {PQgetvalue(w->labels[i], 0, 0), (size_t)PQgetlength(w->labels[i], 0, 0)}};
    ps_status status = pg_run(conn, sql.ptr, params, 2 + w->n, &wait, &res, err);
    ps_buf_done(&sql);
    ps_buf_done(&head);
    PS_TRY(status);
    *ret_any = (size_t)PQntuples(res) >= many;
    status = add_ids(to, res, err);
    PQclear(res);
    return status;
}

/* What one query can select. *ret_any: it cannot be said, or is as much as `many`, so that it is no help. */
static ps_status
narrow_query(read_source *src, const read_alive *a, const label_query *q, PGconn *conn, size_t many,
             mdl_ids *to, bool *ret_any, ps_err *err)
{
    narrowing w = {.n = 0};
    ps_status status = begin_narrowing(src, a, q, conn, &w, err);
    *ret_any = status == PS_OK && w.n == 0;
    if (status == PS_OK && w.n > 0 && !w.none)
        status = series_with(src, a, &w, conn, many, to, ret_any, err);
    for (size_t i = 0; i < w.n; i++)
        PQclear(w.labels[i]);
    return status;
}

/* Keeps of the ids those that can be selected. */
static ps_status
narrow(read_source *src, const read_alive *a, const label_query *q, size_t n, PGconn *conn,
       int64_t *ids, size_t *n_ids, ps_err *err)
{
    mdl_ids can;
    bool any = false;
    ps_status status = PS_OK;
    mdl_ids_init(&can, &src->alloc);
    for (size_t i = 0; i < n && !any && status == PS_OK; i++)
        status = narrow_query(src, a, &q[i], conn, *n_ids, &can, &any, err);
    if (status == PS_OK && !any) {
        size_t kept = 0;
        for (size_t i = 0; i < *n_ids; i++) {
            if (mdl_ids_has(&can, ids[i]))
                ids[kept++] = ids[i];
        }
        *n_ids = kept;
    }
    mdl_ids_done(&can);
    return status == PS_ENOMEM ? read_no_memory(src, err) : status;
}

/* ---- learning ---------------------------------------------------------------------------------------- */

ps_status
read_alive_learn(read_source *src, read_alive *a, const label_query *q, size_t n, PGconn *conn,
                 bool *ret_learnt, ps_err *err)
{
    pg_wait wait = read_wait(src);
    int64_t *ids = NULL;
    size_t n_ids = 0, cap = 0;
    *ret_learnt = false;
    if (!a->ready || label_view_is_whole(src->view))
        return PS_OK;
    ps_status status = label_view_unknown(src->view, &a->ids, &src->alloc, &ids, &n_ids, &cap);
    if (status == PS_ENOMEM)
        status = read_no_memory(src, err);
    if (status == PS_OK && n_ids > NARROW_FROM)
        status = narrow(src, a, q, n, conn, ids, &n_ids, err);
    if (status == PS_OK && n_ids > 0) {
        status = label_index_learn_asked(src->store->labels, src->view, conn, &wait, ids, n_ids,
                                         src->n_asked, err);
        src->n_asked += n_ids;
        *ret_learnt = true;
    }
    ps_alloc_free(&src->alloc, ids, cap * sizeof(*ids));
    return status;
}
