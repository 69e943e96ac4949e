/*
 * label_some.c - views that do not hold all series, since all of them would not fit: which series they are
 * loaded with. What they do not know is label_known.c's.
 *
 * Such a view is a cache of labels. It says what the series that it knows are called, never that there are no
 * others: whoever selects from it asks the database which ids have samples in the time in question
 * (series_alive), of all metrics whose names fit, and has those read that the view does not know. So the
 * answer is exact whatever the view was loaded with, and a series that wakes up after years needs nobody to
 * tell of it. Names of metrics are few and are all known.
 *
 * It is loaded with the series of the newest windows.
 */
#include "connector/catalog/label_load.h"

#include <stdlib.h>

enum {
    AT_ONCE = 20000,
    BYTES_OF_SERIES = 300, /* what one takes, with labels of its own; rather too much */
    HOUR_MS = 3600000
};

/* ---- loading ---------------------------------------------------------------------------------------- */

static ps_status
run_ids(label_loading *l, const char *sql, const void *ids, size_t n, size_t width, PGresult **ret)
{
    ps_buf array;
    ps_buf_init(&array, &ps_malloc);
    pg_put_array(&array, width == 8 ? PG_OID_INT8 : PG_OID_INT4, n);
    for (size_t i = 0; i < n; i++) {
        pg_put_u32(&array, (uint32_t)width);
        if (width == 8)
            pg_put_u64(&array, (uint64_t)((const int64_t *)ids)[i]);
        else
            pg_put_u32(&array, (uint32_t)((const int32_t *)ids)[i]);
    }
    const pg_param param = {width == 8 ? PG_OID_INT8_ARRAY : PG_OID_INT4_ARRAY, ps_buf_str(&array)};
    ps_status status = array.failed ? ps_fail(l->err, PS_ENOMEM, "out of memory")
                                    : pg_run(l->conn, sql, &param, 1, l->wait, ret, l->err);
    ps_buf_done(&array);
    return status;
}

static ps_str
cell(const PGresult *res, int row, int column)
{
    return (ps_str){PQgetvalue(res, row, column), (size_t)PQgetlength(res, row, column)};
}

static bool
has_lengths(const PGresult *res, int row, int n, const int *lengths)
{
    for (int i = 0; i < n; i++) {
        if (PQgetlength(res, row, i) != lengths[i])
            return false;
    }
    return PQnfields(res) == n + 1;
}

static ps_status
take_labels(label_loading *l, const PGresult *res)
{
    static const int lengths[] = {4, 4, 4};
    for (int i = 0; i < PQntuples(res); i++) {
        if (!has_lengths(res, i, 3, lengths))
            return label_loading_damaged(l, "labels");
        PS_TRY(label_loading_label(l, (int32_t)pg_get_u32(PQgetvalue(res, i, 0)),
                                   (int32_t)pg_get_u32(PQgetvalue(res, i, 1)),
                                   (int32_t)pg_get_u32(PQgetvalue(res, i, 2)), cell(res, i, 3)));
    }
    return PS_OK;
}

static int
by_number(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* The labels of these series that were not read yet. */
static ps_status
read_labels(label_loading *l, const PGresult *series)
{
    int32_t *ids = NULL;
    size_t n = 0, cap = 0;
    for (int i = 0; i < PQntuples(series); i++) {
        ps_str labels = cell(series, i, 3);
        int64_t n_labels = pg_array_length(labels);
        if (n_labels < 0 || (n_labels > 0 && labels.len != 20 + (size_t)n_labels * 8)) {
            free(ids);
            return label_loading_damaged(l, "series");
        }
        if (n + (size_t)n_labels > cap) {
            cap = cap * 2 + (size_t)n_labels + AT_ONCE;
            int32_t *more = realloc(ids, cap * sizeof(*ids));
            if (more == NULL) {
                free(ids);
                return ps_fail(l->err, PS_ENOMEM, "out of memory");
            }
            ids = more;
        }
        for (int64_t k = 0; k < n_labels; k++) {
            int32_t label = (int32_t)pg_get_u32(labels.ptr + 20 + k * 8 + 4);
            if (label > 0 && !label_loading_has(l, label))
                ids[n++] = label;
        }
    }
    size_t unique = 0;
    if (n > 1)
        qsort(ids, n, sizeof(*ids), by_number);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || ids[i] != ids[unique - 1])
            ids[unique++] = ids[i];
    }
    ps_status status = PS_OK;
    for (size_t at = 0; at < unique && status == PS_OK; at += AT_ONCE) {
        PGresult *res = NULL;
        size_t left = unique - at;
        status = run_ids(l, "SELECT id, tenant_id, key_id, value FROM _prom_catalog.label WHERE id = ANY ($1)",
                         ids + at, left < AT_ONCE ? left : AT_ONCE, 4, &res);
        if (status == PS_OK)
            status = take_labels(l, res);
        PQclear(res);
    }
    free(ids);
    return status;
}

static ps_status
take_series(label_loading *l, const PGresult *res)
{
    static const int lengths[] = {8, 4, 4};
    for (int i = 0; i < PQntuples(res); i++) {
        if (!has_lengths(res, i, 3, lengths))
            return label_loading_damaged(l, "series");
    }
    PS_TRY(read_labels(l, res));
    for (int i = 0; i < PQntuples(res); i++)
        PS_TRY(label_loading_series(l, (int64_t)pg_get_u64(PQgetvalue(res, i, 0)),
                                    (int32_t)pg_get_u32(PQgetvalue(res, i, 1)),
                                    (int32_t)pg_get_u32(PQgetvalue(res, i, 2)), cell(res, i, 3)));
    return PS_OK;
}

static ps_status
load_series(label_loading *l, const int64_t *ids, size_t n)
{
    for (size_t at = 0; at < n; at += AT_ONCE) {
        PGresult *res;
        size_t left = n - at;
        PS_TRY(run_ids(l, "SELECT id, tenant_id, metric_id, labels FROM _prom_catalog.series"
                          " WHERE id = ANY ($1)",
                       ids + at, left < AT_ONCE ? left : AT_ONCE, 8, &res));
        ps_status status = take_series(l, res);
        PQclear(res);
        PS_TRY(status);
    }
    return PS_OK;
}

static ps_status
load_names(label_loading *l)
{
    PGresult *res;
    PS_TRY(label_loading_run(l, "SELECT id, metric_name FROM _prom_catalog.metric", &res));
    ps_status status = PS_OK;
    for (int i = 0; i < PQntuples(res) && status == PS_OK; i++)
        status = PQgetlength(res, i, 0) != 4
                     ? label_loading_damaged(l, "metrics")
                     : label_view_add_metric(l->v, (int32_t)pg_get_u32(PQgetvalue(res, i, 0)),
                                           cell(res, i, 1), l->err);
    PQclear(res);
    return status;
}

/* ---- which ------------------------------------------------------------------------------------------- */

static ps_status
database_time(label_loading *l, int64_t *ret_ms)
{
    PGresult *res;
    PS_TRY(label_loading_run(l, "SELECT now()", &res));
    bool good = PQntuples(res) == 1 && PQgetlength(res, 0, 0) == 8;
    if (good)
        *ret_ms = pg_ms_of_timestamp((int64_t)pg_get_u64(PQgetvalue(res, 0, 0)));
    PQclear(res);
    return good ? PS_OK : label_loading_damaged(l, "time");
}

/* The series of all tenants that lived since then. */
static ps_status
read_alive(label_loading *l, int64_t since_ms, mdl_ids *into)
{
    ps_buf time;
    PGresult *res;
    ps_buf_init(&time, &ps_malloc);
    pg_put_u64(&time, (uint64_t)pg_timestamp_of_ms(since_ms));
    const pg_param param = {PG_OID_TIMESTAMPTZ, ps_buf_str(&time)};
    ps_status status =
        time.failed ? ps_fail(l->err, PS_ENOMEM, "out of memory")
                    : pg_run(l->conn,
                             "SELECT _prom_ext.series_alive(id, NULL, $1, 'infinity')"
                             " FROM _prom_catalog.tenant",
                             &param, 1, l->wait, &res, l->err);
    ps_buf_done(&time);
    PS_TRY(status);
    for (int i = 0; i < PQntuples(res) && status == PS_OK; i++)
        status = mdl_ids_read(into, cell(res, i, 0), l->err);
    PQclear(res);
    return status;
}

/* Some days, if few series die meanwhile and most of the budget stays free; if not even the last hours fit,
 * nothing. */
static ps_status
choose_series(label_loading *l, mdl_ids *ret)
{
    static const int64_t hours[] = {8, 48, 192};
    label_view *v = l->v;
    const size_t most = v->max_bytes / 2 / BYTES_OF_SERIES;
    uint64_t first = 0;
    int64_t now_ms;
    PS_TRY(database_time(l, &now_ms));
    v->since_ms = now_ms;
    for (size_t i = 0; i < PS_ARRAY_LEN(hours); i++) {
        mdl_ids ids;
        int64_t since_ms = mdl_window_start_ms(now_ms - hours[i] * HOUR_MS);
        mdl_ids_init(&ids, &ps_malloc);
        ps_status status = read_alive(l, since_ms, &ids);
        /* a longer time is worth while only if most series live through it */
        bool fits = status == PS_OK && ids.count <= (i == 0 ? most * 3 / 2 : most) &&
                    (i == 0 || ids.count <= first + first / 2);
        first = i == 0 ? ids.count : first;
        if (fits) {
            mdl_ids_done(ret);
            *ret = ids;
            v->since_ms = since_ms;
        } else {
            mdl_ids_done(&ids);
        }
        PS_TRY(status);
        if (!fits || ret->count > most / 4)
            break;
    }
    return PS_OK;
}

typedef struct id_list {
    int64_t *items;
    size_t n;
} id_list;

static void
list_run(void *self, int64_t lo, int64_t hi)
{
    id_list *l = self;
    for (int64_t id = lo; id <= hi; id++)
        l->items[l->n++] = id;
}

static ps_status
load_recent(label_loading *l)
{
    mdl_ids ids;
    id_list list = {0};
    mdl_ids_init(&ids, &ps_malloc);
    ps_status status = choose_series(l, &ids);
    if (status == PS_OK) {
        list.items = calloc(ids.count + 1, sizeof(*list.items));
        status = list.items == NULL ? ps_fail(l->err, PS_ENOMEM, "out of memory") : PS_OK;
    }
    if (status == PS_OK) {
        mdl_ids_runs(&ids, list_run, &list);
        status = load_series(l, list.items, list.n);
    }
    free(list.items);
    mdl_ids_done(&ids);
    return status;
}

/* After a restore of the blocks alone nothing says who lived when. */
static ps_status
check_presence(label_loading *l)
{
    PGresult *res;
    PS_TRY(label_loading_run(l, "SELECT _prom_catalog.presence_is_missing()", &res));
    bool good = PQntuples(res) == 1 && PQgetlength(res, 0, 0) == 1;
    bool missing = good && PQgetvalue(res, 0, 0)[0] != 0;
    PQclear(res);
    if (missing)
        return ps_fail(l->err, PS_EUNAVAILABLE,
                       "not all series fit into query.index-max-bytes, and which series lived when is not"
                       " known yet: maintenance will find out, _prom_catalog.recount_presence() does at once");
    return good ? PS_OK : label_loading_damaged(l, "presence");
}

static ps_status
load_some(label_loading *l)
{
    PS_TRY(label_loading_begin(l));
    PS_TRY(check_presence(l));
    PS_TRY(load_names(l));
    if (l->v->extent == LABEL_RECENT)
        PS_TRY(load_recent(l));
    else
        PS_TRY(database_time(l, &l->v->since_ms));
    PS_TRY(label_loading_command(l, "COMMIT"));
    return idx_settle(l->v->x, l->err);
}

ps_status
label_view_load_some(label_view *v, PGconn *conn, const pg_wait *wait, ps_err *err)
{
    label_loading l = {.v = v, .conn = conn, .wait = wait, .err = err};
    ps_status status = load_some(&l);
    label_loading_done(&l);
    return status;
}
