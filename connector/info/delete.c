/*
 * delete.c - /api/v1/admin/tsdb/delete_series: samples go by selector and time, at once and in one
 * transaction (prom_api.delete_series). What it waits for is a step of maintenance; then it takes as
 * long as reading and writing the blocks that lose something.
 */
#include "connector/info/internal.h"
#include "connector/labels/labels.h"
#include "connector/read/sql.h"

static const int64_t patience_ns = INT64_C(3600) * 1000000000;

static ps_status
time_of(const api_job *job, const char *name, int64_t absent, int64_t *ret, ps_err *err)
{
    int64_t t_ms;

    *ret = absent;
    if (api_param(job, name).len == 0)
        return PS_OK;
    PS_TRY(api_time_param(job, name, INT64_MIN, &t_ms, err));
    if (t_ms > MDL_TIME_MIN_MS && t_ms < MDL_TIME_MAX_MS)
        *ret = pg_timestamp_of_ms(t_ms);
    else
        *ret = t_ms <= MDL_TIME_MIN_MS ? INT64_MIN : INT64_MAX;
    return PS_OK;
}

/* tenant, selectors, from, to; *ret_selectors: where the second ends in out. */
static ps_status
put_params(api_job *job, ps_buf *out, size_t *ret_selectors, ps_err *err)
{
    const read_match *sets;
    ps_str *texts;
    size_t n;
    int64_t from, to;

    PS_TRY(api_params(job, "match[]", &texts, &n, err));
    if (n == 0)
        return ps_fail(err, PS_EINVAL, "no match[] parameter provided");
    PS_TRY(time_of(job, "start", INT64_MIN, &from, err));
    PS_TRY(time_of(job, "end", INT64_MAX, &to, err));
    ps_status st = labels_matches(job, &sets, &n, err);
    if (st != PS_OK)
        return st == PS_EINVAL ? api_bad_param("match[]", err) : st;
    if (to < from)
        return ps_fail(err, PS_EINVAL,
                       "invalid parameter \"end\": end timestamp must not be before start time");
    pg_put_array(out, PG_OID_TEXT, n);
    for (size_t i = 0; i < n; i++) {
        if (texts[i].len > 0 && memchr(texts[i].ptr, 0, texts[i].len) != NULL)
            return ps_fail(err, PS_EINVAL,
                           "invalid parameter \"match[]\": no label can hold a NUL character");
        pg_put_u32(out, (uint32_t)texts[i].len);
        ps_buf_add_str(out, texts[i]);
    }
    *ret_selectors = out->len;
    pg_put_u64(out, (uint64_t)from);
    pg_put_u64(out, (uint64_t)to);
    return out->failed ? ps_fail(err, PS_ENOMEM, "no memory") : PS_OK;
}

static void
delete_samples(api_job *job, ps_str selectors, ps_str from, ps_str to)
{
    ps_str tenant = api_tenant(job);
    const pg_param params[] = {{PG_OID_TEXT, tenant.len ? tenant : PS_STR("")},
                               {PG_OID_TEXT_ARRAY, selectors},
                               {PG_OID_TIMESTAMPTZ, from},
                               {PG_OID_TIMESTAMPTZ, to}};
    read_source *src = NULL;
    PGresult *res = NULL;
    ps_buf none;
    ps_err err;

    api_set_deadline(job, api_arrived_ns(job) + patience_ns);
    ps_status st = api_open_source(job, 1, 0, &src, &err);
    if (st == PS_OK)
        st = read_sql_writing(src, "SELECT _prom_catalog.delete_series_of($1, $2, $3, $4)", params,
                              PS_ARRAY_LEN(params), &res, &err);
    if (st == PS_OK) {
        ps_buf_init(&none, &ps_malloc);
        api_respond(job, 204, NULL, &none);
        ps_buf_done(&none);
    } else {
        api_fail_status(job, st, ps_str_c(err.text));
    }
    PQclear(res);
    api_close_source(job, src);
}

void
info_delete_series(api_job *job, void *self)
{
    size_t selectors = 0;
    ps_buf params;
    ps_err err;

    (void)self;
    if (!info_admin_allowed(job))
        return;
    ps_buf_init(&params, &ps_malloc);
    ps_status st = put_params(job, &params, &selectors, &err);
    if (st != PS_OK)
        api_fail_params(job, st, &err);
    else
        delete_samples(job, (ps_str){params.ptr, selectors}, (ps_str){params.ptr + selectors, 8},
                       (ps_str){params.ptr + selectors + 8, 8});
    ps_buf_done(&params);
}
