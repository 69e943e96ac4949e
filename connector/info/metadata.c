/*
 * metadata.c - /api/v1/metadata: what metrics mean, as their senders said; several answers if several
 * senders differ. Asked in one round trip; in the order of the names, so that a limit always cuts the same.
 */
#include "connector/info/internal.h"
#include "connector/read/sql.h"

enum { MAX_ROWS = 200000 };

static const char metadata_sql[] =
    "SELECT metric_family, type, unit, help FROM ("
    " SELECT m.*, pg_catalog.dense_rank() OVER (ORDER BY m.metric_family) AS family,"
    " pg_catalog.row_number() OVER (PARTITION BY m.metric_family"
    " ORDER BY m.last_seen DESC, m.digest) AS variant"
    " FROM _prom_catalog.metadata m JOIN _prom_catalog.tenant t ON t.id = m.tenant_id"
    " WHERE t.name = $1"
    " AND ($2 = '' OR (m.metric_family = $2 AND m.family_digest = _prom_ext.text_digest($2)))) x"
    " WHERE family <= $3 AND variant <= $4 ORDER BY metric_family, variant LIMIT $5";

static ps_str
cell(const PGresult *res, int row, int column)
{
    return (ps_str){PQgetvalue(res, row, column), (size_t)PQgetlength(res, row, column)};
}

static void
add_variant(ps_buf *out, const PGresult *res, int row)
{
    static const char *const names[] = {"type", "unit", "help"};

    ps_buf_add_char(out, '{');
    for (int i = 0; i < 3; i++) {
        info_key(out, names[i]);
        api_json_text(out, cell(res, row, i + 1), true);
    }
    ps_buf_add_char(out, '}');
}

static void
answer(api_job *job, const PGresult *res)
{
    int n = PQntuples(res);
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    out.max = (size_t)api_settings(job)->promql_max_bytes;
    ps_buf_add_char(&out, '{');
    for (int row = 0; row < n; row++) {
        ps_str family = cell(res, row, 0);
        if (row > 0 && ps_str_eq(family, cell(res, row - 1, 0))) {
            ps_buf_add_char(&out, ',');
        } else {
            ps_buf_add_c(&out, row > 0 ? "]," : "");
            api_json_text(&out, family, true);
            ps_buf_add_c(&out, ":[");
        }
        add_variant(&out, res, row);
    }
    ps_buf_add_c(&out, n > 0 ? "]}" : "}");
    if (n == MAX_ROWS)
        api_fail(job, API_EXECUTION, "there is too much metadata for one answer: set a limit");
    else
        api_answer(job, &out, NULL, 0);
    ps_buf_done(&out);
}

static void
ask(api_job *job, int64_t limit, int64_t per_metric)
{
    ps_str tenant = api_tenant(job), family = api_param(job, "metric");
    const int64_t numbers[] = {limit < 0 ? INT64_MAX : limit,
                               per_metric < 1 ? INT64_MAX : per_metric, MAX_ROWS};
    pg_param params[5] = {{PG_OID_TEXT, tenant.len ? tenant : PS_STR("")},
                          {PG_OID_TEXT, family.len ? family : PS_STR("")}};
    read_source *src = NULL;
    PGresult *res = NULL;
    ps_buf bytes;
    ps_err err;

    ps_buf_init(&bytes, &ps_malloc);
    for (size_t i = 0; i < 3; i++)
        pg_put_u64(&bytes, (uint64_t)numbers[i]);
    for (size_t i = 0; i < 3; i++)
        params[i + 2] = (pg_param){PG_OID_INT8, {bytes.ptr + 8 * i, 8}};
    ps_status st = bytes.failed ? ps_fail(&err, PS_ENOMEM, "no memory")
                                : api_open_source(job, 1, 0, &src, &err);
    if (st == PS_OK)
        st = read_sql(src, metadata_sql, params, PS_ARRAY_LEN(params), &res, &err);
    if (st == PS_OK)
        answer(job, res);
    else
        api_fail_status(job, st, ps_str_c(err.text));
    PQclear(res);
    api_close_source(job, src);
    ps_buf_done(&bytes);
}

void
info_metadata(api_job *job, void *self)
{
    int64_t limit, per_metric;
    ps_err err;

    (void)self;
    if (api_parse_whole(api_param(job, "limit"), "limit", 64, &limit, &err) != PS_OK)
        api_fail(job, API_BAD_DATA, "limit must be a number");
    else if (api_parse_whole(api_param(job, "limit_per_metric"), "limit", 64, &per_metric, &err) !=
             PS_OK)
        api_fail(job, API_BAD_DATA, "limit_per_metric must be a number");
    else if (memchr(api_param(job, "metric").ptr, 0, api_param(job, "metric").len) != NULL ||
             !ps_utf8_valid(api_param(job, "metric")))
        info_answer_text(job, "{}"); /* no such name can be stored */
    else
        ask(job, limit, per_metric);
}
