/*
 * cardinality.c - /api/v1/status/tsdb: how much there is of what. Series are counted in the label index,
 * blocks by the database.
 */
#include "connector/info/internal.h"
#include "connector/read/count.h"
#include "connector/read/sql.h"

enum { DEFAULT_LIMIT = 10, MAX_LIMIT = 10000 };

/* Blocks pack series of several metrics, but never of several tenants. */
static const char blocks_sql[] =
    "SELECT pg_catalog.count(*), pg_catalog.min(b.t_min), pg_catalog.max(b.t_max) FROM ("
    " SELECT tenant_id, t_min, t_max FROM _prom_data.fresh"
    " UNION ALL SELECT tenant_id, t_min, t_max FROM _prom_data.merged"
    " UNION ALL SELECT tenant_id, t_min, t_max FROM _prom_data.block"
    " UNION ALL SELECT tenant_id, t_min, t_max FROM _prom_data.block_far) b"
    " JOIN _prom_catalog.tenant t ON t.id = b.tenant_id WHERE t.name = $1";

typedef struct block_figures {
    int64_t n, min_ms, max_ms;
} block_figures;

static ps_status
ask_blocks(api_job *job, read_source *src, block_figures *ret, ps_err *err)
{
    ps_str tenant = api_tenant(job);
    pg_param param = {PG_OID_TEXT, tenant.len ? tenant : PS_STR("")};
    PGresult *res = NULL;

    *ret = (block_figures){.min_ms = INT64_MAX, .max_ms = INT64_MIN};
    PS_TRY(read_sql(src, blocks_sql, &param, 1, &res, err));
    if (PQntuples(res) == 1 && PQgetlength(res, 0, 0) == 8)
        ret->n = (int64_t)pg_get_u64(PQgetvalue(res, 0, 0));
    if (ret->n > 0 && PQgetlength(res, 0, 1) == 8 && PQgetlength(res, 0, 2) == 8) {
        ret->min_ms = pg_ms_of_timestamp((int64_t)pg_get_u64(PQgetvalue(res, 0, 1)));
        ret->max_ms = pg_ms_of_timestamp((int64_t)pg_get_u64(PQgetvalue(res, 0, 2)));
    }
    PQclear(res);
    return PS_OK;
}

static void
add_number(ps_buf *out, const char *name, int64_t value)
{
    info_key(out, name);
    api_json_i64(out, value);
}

static void
add_figures(ps_buf *out, const char *title, idx_figures list, bool pairs)
{
    ps_buf text;

    ps_buf_init(&text, &ps_malloc);
    info_key(out, title);
    ps_buf_add_char(out, '[');
    for (size_t i = 0; i < list.n; i++) {
        const idx_figure *f = &list.items[i];
        ps_buf_clear(&text);
        ps_buf_add_str(&text, f->name);
        if (pairs) {
            ps_buf_add_char(&text, '=');
            ps_buf_add_str(&text, f->value);
        }
        ps_buf_add_c(out, i > 0 ? ",{\"name\":" : "{\"name\":");
        api_json_text(out, ps_buf_str(&text), true);
        add_number(out, "value", (int64_t)f->count);
        ps_buf_add_char(out, '}');
    }
    ps_buf_add_char(out, ']');
    out->failed |= text.failed;
    ps_buf_done(&text);
}

static void
answer(api_job *job, const idx_cardinality *c, const block_figures *blocks)
{
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    out.max = (size_t)api_settings(job)->promql_max_bytes;
    ps_buf_add_c(&out, "{\"headStats\":{");
    add_number(&out, "numSeries", (int64_t)c->series);
    add_number(&out, "numLabelPairs", (int64_t)c->pairs);
    add_number(&out, "chunkCount", blocks->n);
    add_number(&out, "minTime", blocks->min_ms);
    add_number(&out, "maxTime", blocks->max_ms);
    ps_buf_add_char(&out, '}');
    add_figures(&out, "seriesCountByMetricName", c->by_metric, false);
    add_figures(&out, "labelValueCountByLabelName", c->values_by_name, false);
    add_figures(&out, "memoryInBytesByLabelName", c->bytes_by_name, false);
    add_figures(&out, "seriesCountByLabelValuePair", c->by_pair, true);
    ps_buf_add_char(&out, '}');
    api_answer(job, &out, NULL, 0);
    ps_buf_done(&out);
}

static void
count(api_job *job, size_t limit)
{
    read_source *src = NULL;
    idx_cardinality c;
    block_figures blocks;
    ps_err err;

    ps_status st = api_open_source(job, 1, 0, &src, &err);
    if (st == PS_OK)
        st = read_count(src, limit, &c, &err);
    if (st == PS_OK)
        st = ask_blocks(job, src, &blocks, &err);
    if (st == PS_OK)
        answer(job, &c, &blocks);
    else
        api_fail_status(job, st, ps_str_c(err.text));
    api_close_source(job, src);
}

void
info_cardinality(api_job *job, void *self)
{
    int64_t limit;
    ps_err err;

    (void)self;
    ps_status st = api_parse_whole(api_param(job, "limit"), "limit", 64, &limit, &err);
    if (st == PS_OK && limit == INT64_MIN && api_param(job, "limit").len == 0)
        limit = DEFAULT_LIMIT;
    if (st != PS_OK || limit < 1)
        api_fail(job, API_BAD_DATA, "limit must be a positive number");
    else if (limit > MAX_LIMIT)
        api_fail(job, API_BAD_DATA, "limit must not exceed %d", MAX_LIMIT);
    else
        count(job, (size_t)limit);
}
