/*
 * label_load.c - the whole catalog into a new index: cursor, tenants, label names, labels and series,
 * all of one snapshot; the two large ones by COPY. What label_some.c shares of it is in label_load.h.
 *
 * Label ids become pair numbers through a table of pages, as the ids are nearly dense.
 */
#include "connector/catalog/label_load.h"

#include <stdlib.h>

enum { PAGE = 512, MAX_LABELS = 1024, COPY_HEAD = 19 };

typedef label_loading loading;

ps_status
label_loading_damaged(const loading *l, const char *what)
{
    return ps_fail(l->err, PS_ECORRUPT, "the database answered no %s", what);
}

static ps_status
no_memory(const loading *l)
{
    return ps_fail(l->err, PS_ENOMEM, "out of memory");
}

ps_status
label_loading_run(const loading *l, const char *sql, PGresult **ret)
{
    return pg_run(l->conn, sql, NULL, 0, l->wait, ret, l->err);
}

ps_status
label_loading_command(const loading *l, const char *sql)
{
    PGresult *res;
    PS_TRY(label_loading_run(l, sql, &res));
    PQclear(res);
    return PS_OK;
}

/* ---- COPY ------------------------------------------------------------------------------------- */

typedef struct row { /* a binary row that is taken apart */
    const char *p, *end;
    bool bad;
} row;

static ps_str
next_field(row *r)
{
    uint32_t len;
    if (r->bad || r->end - r->p < 4) {
        r->bad = true;
        return (ps_str){"", 0};
    }
    len = pg_get_u32(r->p);
    r->p += 4;
    if (len > (size_t)(r->end - r->p)) { /* NULL, too */
        r->bad = true;
        return (ps_str){"", 0};
    }
    ps_str s = {r->p, len};
    r->p += len;
    return s;
}

static int32_t
next_int4(row *r)
{
    ps_str s = next_field(r);
    r->bad = r->bad || s.len != 4;
    return r->bad ? 0 : (int32_t)pg_get_u32(s.ptr);
}

static int64_t
next_int8(row *r)
{
    ps_str s = next_field(r);
    r->bad = r->bad || s.len != 8;
    return r->bad ? 0 : (int64_t)pg_get_u64(s.ptr);
}

typedef ps_status (*row_fn)(loading *l, row *r);

/* One piece of COPY data: a row, the first one with the header before it, the last one a trailer. */
static ps_status
take_piece(loading *l, const char *p, size_t len, bool first, row_fn fn)
{
    row r = {p, p + len, false};
    if (first) {
        if (len < COPY_HEAD || memcmp(p, "PGCOPY\n\377\r\n\0", 11) != 0)
            return label_loading_damaged(l, "rows");
        r.p += COPY_HEAD;
    }
    if (r.end - r.p < 2)
        return r.p == r.end ? PS_OK : label_loading_damaged(l, "rows");
    bool trailer = (uint8_t)r.p[0] == 255 && (uint8_t)r.p[1] == 255;
    r.p += 2;
    return trailer ? PS_OK : fn(l, &r);
}

static ps_status
copy_rows(loading *l, row_fn fn)
{
    for (bool first = true;; first = false) {
        char *p;
        size_t len;
        PS_TRY(pg_next_copy_row(l->conn, l->wait, &p, &len, l->err));
        if (p == NULL)
            return PS_OK;
        ps_status status = take_piece(l, p, len, first, fn);
        PQfreemem(p);
        PS_TRY(status);
    }
}

/* After an error the connection is in the middle of it. */
static ps_status
copy(loading *l, const char *sql, row_fn fn)
{
    PGresult *res;
    if (PQsendQuery(l->conn, sql) == 0)
        return pg_fail_result(NULL, l->conn, l->err);
    PS_TRY(pg_next_result(l->conn, l->wait, &res, l->err));
    ps_status status =
        PQresultStatus(res) == PGRES_COPY_OUT ? PS_OK : pg_fail_result(res, l->conn, l->err);
    PQclear(res);
    PS_TRY(status);
    PS_TRY(copy_rows(l, fn));
    for (;;) {
        PS_TRY(pg_next_result(l->conn, l->wait, &res, l->err));
        if (res == NULL)
            return status;
        if (PQresultStatus(res) != PGRES_COMMAND_OK)
            status = pg_fail_result(res, l->conn, l->err);
        PQclear(res);
    }
}

/* ---- labels ------------------------------------------------------------------------------------- */

static int
compare_keys(const void *a, const void *b)
{
    int32_t x = ((const label_key *)a)->id, y = ((const label_key *)b)->id;
    return (x > y) - (x < y);
}

static ps_status
load_keys(loading *l)
{
    PS_TRY(label_loading_run(l, "SELECT id, key FROM _prom_catalog.label_key", &l->keys_result));
    PGresult *res = l->keys_result;
    l->n_keys = (size_t)PQntuples(res);
    l->keys = calloc(l->n_keys + 1, sizeof(*l->keys));
    if (l->keys == NULL)
        return no_memory(l);
    for (size_t i = 0; i < l->n_keys; i++) {
        if (PQgetlength(res, (int)i, 0) != 4)
            return label_loading_damaged(l, "label names");
        l->keys[i].id = (int32_t)pg_get_u32(PQgetvalue(res, (int)i, 0));
        l->keys[i].name = (ps_str){PQgetvalue(res, (int)i, 1), (size_t)PQgetlength(res, (int)i, 1)};
    }
    qsort(l->keys, l->n_keys, sizeof(*l->keys), compare_keys);
    return PS_OK;
}

static uint32_t *
place_of_label(loading *l, int32_t id)
{
    size_t page = (size_t)id / PAGE;
    if (id < 0)
        return NULL;
    if (page >= l->n_pages) {
        size_t n = page + page / 2 + 16;
        uint32_t **pages = realloc(l->pages, n * sizeof(*pages));
        if (pages == NULL)
            return NULL;
        memset(pages + l->n_pages, 0, (n - l->n_pages) * sizeof(*pages));
        l->pages = pages;
        l->n_pages = n;
    }
    if (l->pages[page] == NULL)
        l->pages[page] = calloc(PAGE, sizeof(uint32_t));
    return l->pages[page] == NULL ? NULL : &l->pages[page][id % PAGE];
}

ps_status
label_loading_label(loading *l, int32_t id, int32_t tenant_id, int32_t key_id, ps_str value)
{
    const label_key wanted = {.id = key_id};
    const label_key *key = bsearch(&wanted, l->keys, l->n_keys, sizeof(*l->keys), compare_keys);
    if (key == NULL || value.len == 0)
        return PS_OK; /* no series can have it */
    uint32_t pair, *place = place_of_label(l, id);
    if (place == NULL)
        return no_memory(l);
    PS_TRY(idx_pair(l->v->x, tenant_id, key->name, value, &pair, l->err));
    *place = pair + 1;
    return PS_OK;
}

bool
label_loading_has(const loading *l, int32_t label_id)
{
    size_t page = (size_t)label_id / PAGE;
    return label_id >= 0 && page < l->n_pages && l->pages[page] != NULL &&
           l->pages[page][label_id % PAGE] != 0;
}

static ps_status
take_label(loading *l, row *r)
{
    int32_t id = next_int4(r), tenant_id = next_int4(r), key_id = next_int4(r);
    ps_str value = next_field(r);
    return r->bad ? label_loading_damaged(l, "labels")
                  : label_loading_label(l, id, tenant_id, key_id, value);
}

/* ---- series ------------------------------------------------------------------------------------- */

ps_status
label_loading_series(loading *l, int64_t id, int32_t tenant_id, int32_t metric_id, ps_str labels)
{
    uint32_t pairs[MAX_LABELS];
    size_t n = 0;
    int64_t n_labels = pg_array_length(labels);
    if (n_labels < 0 || (n_labels > 0 && labels.len != 20 + (size_t)n_labels * 8))
        return label_loading_damaged(l, "series");
    for (int64_t i = 0; i < n_labels; i++) {
        int32_t label = (int32_t)pg_get_u32(labels.ptr + 20 + i * 8 + 4);
        if (label == 0)
            continue;
        if (!label_loading_has(l, label))
            return ps_fail(l->err, PS_ECORRUPT, "series %lld has a label that there is not",
                           (long long)id);
        if (n == MAX_LABELS)
            return ps_fail(l->err, PS_ELIMIT, "series %lld has too many labels", (long long)id);
        pairs[n++] = l->pages[label / PAGE][label % PAGE] - 1;
    }
    return n == 0 ? PS_OK : idx_add(l->v->x, tenant_id, id, metric_id, pairs, n, l->err);
}

static ps_status
take_series(loading *l, row *r)
{
    int64_t id = next_int8(r);
    int32_t tenant_id = next_int4(r), metric_id = next_int4(r);
    ps_str labels = next_field(r);
    return r->bad ? label_loading_damaged(l, "series")
                  : label_loading_series(l, id, tenant_id, metric_id, labels);
}

/* ---- all ------------------------------------------------------------------------------------------ */

static ps_status
load_cursor(loading *l)
{
    PGresult *res = NULL;
    follow_news news;
    ps_buf first;
    ps_buf_init(&first, &ps_malloc);
    follow_first_cursor(&first);
    pg_param param = {PG_OID_SNAPSHOT, ps_buf_str(&first)};
    ps_status status =
        first.failed ? no_memory(l) : pg_run(l->conn, follow_sql, &param, 1, l->wait, &res, l->err);
    ps_buf_done(&first);
    PS_TRY(status);
    status = follow_read(res, &news, l->err);
    PQclear(res);
    PS_TRY(status);
    l->v->timeline = follow_timeline(&news);
    ps_buf_clear(&l->v->cursor);
    ps_buf_add_str(&l->v->cursor, ps_buf_str(&news.cursor));
    follow_news_done(&news);
    return l->v->cursor.failed ? no_memory(l) : PS_OK;
}

static ps_status
load_tenants(loading *l)
{
    PGresult *res;
    PS_TRY(label_loading_run(l, "SELECT id, name FROM _prom_catalog.tenant", &res));
    ps_status status = PS_OK;
    for (int i = 0; i < PQntuples(res) && status == PS_OK; i++) {
        ps_str name = {PQgetvalue(res, i, 1), (size_t)PQgetlength(res, i, 1)};
        if (PQgetlength(res, i, 0) != 4)
            status = label_loading_damaged(l, "tenants");
        else
            status = label_view_add_tenant(l->v, (int32_t)pg_get_u32(PQgetvalue(res, i, 0)), name,
                                           l->err);
    }
    PQclear(res);
    return status;
}

ps_status
label_loading_begin(loading *l)
{
    PS_TRY(label_identity(l->conn, l->wait, l->v->identity, l->err));
    PS_TRY(label_loading_command(l, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"));
    PS_TRY(load_cursor(l));
    PS_TRY(load_tenants(l));
    return load_keys(l);
}

void
label_loading_done(loading *l)
{
    for (size_t i = 0; i < l->n_pages; i++)
        free(l->pages[i]);
    free(l->pages);
    free(l->keys);
    PQclear(l->keys_result);
}

static ps_status
load_all(loading *l)
{
    PS_TRY(label_loading_begin(l));
    PS_TRY(copy(l,
                "COPY _prom_catalog.label (id, tenant_id, key_id, value) TO STDOUT (FORMAT binary)",
                take_label));
    PS_TRY(copy(l,
                "COPY _prom_catalog.series (id, tenant_id, metric_id, labels) TO STDOUT"
                " (FORMAT binary)",
                take_series));
    PS_TRY(label_loading_command(l, "COMMIT"));
    return idx_settle(l->v->x, l->err);
}

ps_status
label_view_load(label_view *v, PGconn *conn, const pg_wait *wait, ps_err *err)
{
    loading l = {.v = v, .conn = conn, .wait = wait, .err = err};
    ps_status status = load_all(&l);
    label_loading_done(&l);
    return status;
}
