/*
 * exemplars.c - /api/v1/query_exemplars: the exemplars of all series that the query's selectors match.
 *
 *   selectors -> series (connector/read/find.h) -> their exemplars, one statement -> by label set, then time
 */
#include <stdlib.h>

#include "connector/info/internal.h"
#include "connector/read/find.h"
#include "connector/read/sql.h"

enum { MAX_ROWS = 250000, MAX_SERIES = 1000000, MAX_SELECTORS = 1000 };

/* Labels as two arrays in the order of the names. */
static const char exemplars_sql[] =
    "SELECT e.series_id, e.time, e.value,"
    " (SELECT pg_catalog.array_agg(l.key ORDER BY l.key COLLATE \"C\")"
    "  FROM pg_catalog.jsonb_each_text(e.labels) l),"
    " (SELECT pg_catalog.array_agg(l.value ORDER BY l.key COLLATE \"C\")"
    "  FROM pg_catalog.jsonb_each_text(e.labels) l)"
    " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS s(metric_id, series_id)"
    " JOIN _prom_data.exemplar e ON e.metric_id = s.metric_id AND e.series_id = s.series_id"
    " WHERE e.time >= $3 AND e.time <= $4 ORDER BY e.series_id, e.time, e.digest LIMIT $5";

typedef struct request {
    int64_t from_ms, to_ms;
    read_match *sets;
    size_t n_sets;
} request;

/* ---- what is asked ------------------------------------------------------------------------------------- */

static ps_status
collect(api_job *job, pql_expr *expr, request *q, ps_err *err)
{
    if (expr->kind == PQL_SELECTOR) {
        if (q->n_sets == MAX_SELECTORS)
            return ps_fail(err, PS_ELIMIT, "the query has more than %d selectors", MAX_SELECTORS);
        q->sets[q->n_sets++] = (read_match){expr->selector.matchers, expr->selector.n_matchers};
    }
    size_t n = pql_children(expr, NULL, 0);
    pql_expr **children = ps_arena_array(api_arena(job), n + 1, sizeof(*children));
    if (children == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory");
    (void)pql_children(expr, children, n);
    for (size_t i = 0; i < n; i++)
        PS_TRY(collect(job, children[i], q, err));
    return PS_OK;
}

/* False: it was answered. */
static bool
read_request(const info *in, api_job *job, request *q)
{
    pql_expr *expr;
    pql_error error;
    ps_err err;

    ps_status st = api_time_param(job, "start", MDL_TIME_MIN_MS, &q->from_ms, &err);
    if (st == PS_OK)
        st = api_time_param(job, "end", MDL_TIME_MAX_MS, &q->to_ms, &err);
    if (st == PS_OK && q->to_ms < q->from_ms)
        st = ps_fail(&err, PS_EINVAL, "end timestamp must not be before start timestamp");
    if (st != PS_OK) {
        api_fail_params(job, st, &err);
        return false;
    }
    if (pql_parse(api_arena(job), api_param(job, "query"), in->language, &expr, &error) != PS_OK) {
        api_fail(job, API_BAD_DATA, "%s", error.text);
        return false;
    }
    q->sets = ps_arena_array(api_arena(job), MAX_SELECTORS, sizeof(*q->sets));
    st = q->sets == NULL ? ps_fail(&err, PS_ENOMEM, "no memory") : collect(job, expr, q, &err);
    if (st != PS_OK)
        api_fail_status(job, st, ps_str_c(err.text));
    return st == PS_OK;
}

/* ---- rows ------------------------------------------------------------------------------------------------ */

static ps_status
ask(read_source *src, const request *q, const idx_found *found, PGresult **ret, ps_err *err)
{
    ps_buf ids[2], times;

    for (int i = 0; i < 2; i++) {
        ps_buf_init(&ids[i], &ps_malloc);
        pg_put_array(&ids[i], i == 0 ? PG_OID_INT4 : PG_OID_INT8, found->n);
    }
    for (size_t i = 0; i < found->n; i++) {
        pg_put_u32(&ids[0], 4);
        pg_put_u32(&ids[0], (uint32_t)found->items[i].metric_id);
        pg_put_u32(&ids[1], 8);
        pg_put_u64(&ids[1], (uint64_t)found->items[i].series_id);
    }
    ps_buf_init(&times, &ps_malloc);
    pg_put_u64(&times, (uint64_t)pg_timestamp_of_ms(q->from_ms));
    pg_put_u64(&times, (uint64_t)(pg_timestamp_of_ms(q->to_ms) + 999)); /* to the end of its ms */
    pg_put_u64(&times, MAX_ROWS);
    ps_status st = PS_OK;
    if (ids[0].failed || ids[1].failed || times.failed) {
        st = ps_fail(err, PS_ENOMEM, "no memory");
    } else {
        const pg_param params[] = {{PG_OID_INT4_ARRAY, ps_buf_str(&ids[0])},
                                   {PG_OID_INT8_ARRAY, ps_buf_str(&ids[1])},
                                   {PG_OID_TIMESTAMPTZ, {times.ptr, 8}},
                                   {PG_OID_TIMESTAMPTZ, {times.ptr + 8, 8}},
                                   {PG_OID_INT8, {times.ptr + 16, 8}}};
        st = read_sql(src, exemplars_sql, params, PS_ARRAY_LEN(params), ret, err);
    }
    ps_buf_done(&times);
    ps_buf_done(&ids[0]);
    ps_buf_done(&ids[1]);
    return st;
}

/* The next element of a binary text[] that text points into; false: there is none. */
static bool
next_text(ps_str *rest, ps_str *ret)
{
    if (rest->len < 4)
        return false;
    uint32_t len = pg_get_u32(rest->ptr);
    if (len > rest->len - 4)
        return false;
    *ret = (ps_str){rest->ptr + 4, len};
    *rest = (ps_str){rest->ptr + 4 + len, rest->len - 4 - len};
    return true;
}

static ps_str
elements(const PGresult *res, int row, int column)
{
    enum { ARRAY_HEAD = 20 }; /* dimensions, flags, type, length, lower bound */
    size_t len = (size_t)PQgetlength(res, row, column);

    return len < ARRAY_HEAD ? PS_STR("")
                            : (ps_str){PQgetvalue(res, row, column) + ARRAY_HEAD, len - ARRAY_HEAD};
}

static void
add_exemplar(ps_buf *out, const PGresult *res, int row)
{
    ps_str names = elements(res, row, 3), values = elements(res, row, 4), name, value;
    bool first = true;

    ps_buf_add_c(out, "{\"labels\":{");
    while (next_text(&names, &name) && next_text(&values, &value)) {
        if (!first)
            ps_buf_add_char(out, ',');
        api_json_text(out, name, false);
        ps_buf_add_char(out, ':');
        api_json_text(out, value, false);
        first = false;
    }
    ps_buf_add_c(out, "},\"value\":");
    api_json_value(out, ps_double_of(pg_get_u64(PQgetvalue(res, row, 2))));
    ps_buf_add_c(out, ",\"timestamp\":");
    api_json_time(out, pg_ms_of_timestamp((int64_t)pg_get_u64(PQgetvalue(res, row, 1))));
    ps_buf_add_char(out, '}');
}

static int64_t
series_of(const PGresult *res, int row)
{
    return (int64_t)pg_get_u64(PQgetvalue(res, row, 0));
}

/* First row of the series: rows are in the order of ids, labels are not. */
static int
seek(const PGresult *res, int n, int64_t series_id)
{
    int lo = 0;

    while (lo < n) {
        int mid = lo + (n - lo) / 2;
        if (series_of(res, mid) < series_id)
            lo = mid + 1;
        else
            n = mid;
    }
    return lo;
}

static void
answer(api_job *job, read_source *src, const idx_found *found, const PGresult *res)
{
    int n = res != NULL ? PQntuples(res) : 0;
    const ps_str *warnings;
    size_t n_warnings = read_source_warnings(src, &warnings);
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    out.max = (size_t)api_settings(job)->promql_max_bytes;
    ps_buf_add_char(&out, '[');
    for (size_t i = 0; i < found->n && n > 0; i++) {
        int64_t id = found->items[i].series_id;
        int row = seek(res, n, id);
        if (row == n || series_of(res, row) != id)
            continue;
        ps_buf_add_c(&out, out.len > 1 ? ",{\"seriesLabels\":" : "{\"seriesLabels\":");
        api_json_labels(&out, found->items[i].labels);
        ps_buf_add_c(&out, ",\"exemplars\":[");
        for (int first = row; row < n && series_of(res, row) == id; row++) {
            if (row > first)
                ps_buf_add_char(&out, ',');
            add_exemplar(&out, res, row);
        }
        ps_buf_add_c(&out, "]}");
    }
    ps_buf_add_char(&out, ']');
    if (n == MAX_ROWS)
        api_fail(job, API_EXECUTION, "more than %d exemplars: ask for less time or fewer series",
                 MAX_ROWS - 1);
    else
        api_answer(job, &out, warnings, n_warnings);
    ps_buf_done(&out);
}

void
info_exemplars(api_job *job, void *self)
{
    request q = {0};
    read_source *src = NULL;
    PGresult *res = NULL;
    idx_found found = {0};
    ps_buf none;
    ps_err err;

    if (!read_request(self, job, &q))
        return;
    if (q.n_sets == 0) {
        ps_buf_init(&none, &ps_malloc);
        api_respond(job, 204, NULL, &none);
        ps_buf_done(&none);
        return;
    }
    read_finding what = {.sets = q.sets,
                         .n_sets = q.n_sets,
                         .from_ms = INT64_MIN,
                         .to_ms = INT64_MAX};
    if (q.from_ms > MDL_TIME_MIN_MS && q.to_ms < MDL_TIME_MAX_MS) { /* which have samples near by */
        what.around_from_ms = q.from_ms - MDL_WINDOW_MS;
        what.around_to_ms = q.to_ms + MDL_WINDOW_MS;
    }
    ps_status st = api_open_source(job, 1, 0, &src, &err);
    if (st == PS_OK)
        st = read_find(src, &what, &found, NULL, &err);
    if (st == PS_OK && found.n > MAX_SERIES)
        st = ps_fail(&err, PS_ELIMIT, "the query selects more than %d series", MAX_SERIES);
    if (st == PS_OK && found.n > 0)
        st = ask(src, &q, &found, &res, &err);
    if (st == PS_OK)
        answer(job, src, &found, res);
    else
        api_fail_status(job, st, ps_str_c(err.text));
    PQclear(res);
    api_close_source(job, src);
}
