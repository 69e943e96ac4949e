/*
 * resolve_call.c - one call of _prom_catalog.resolve_series.
 *
 * Series of one batch share most of their labels, so the call carries each distinct (key, value)
 * pair and each distinct metric once, and series as lists of indices. The table that finds the
 * distinct ones is filled by clients, hence the secret seed.
 */
#include "connector/catalog/catalog.h"

#include <stdlib.h>

enum { METRICS, KEYS, VALUES, SERIES_METRIC, SERIES_N_LABELS, SERIES_LABELS, N_BUFS };
enum { MAX_LABELS_PER_CALL = 16 << 20, ARRAY_HEAD_BYTES = 20 };

typedef struct pair {
    mdl_label label;
    int32_t metric; /* 1-based index in p_metrics if the key is __name__, else 0 */
} pair;

typedef struct interner {
    pair *pairs;     /* [0] unused: indices are 1-based */
    uint32_t *slots; /* index in pairs, 0 = empty; at least twice as many as labels */
    size_t mask;
    uint32_t n_pairs, n_metrics, n_labels;
    uint64_t seed;
    ps_buf bufs[N_BUFS];
} interner;

static void
interner_done(interner *in)
{
    free(in->pairs);
    free(in->slots);
    for (int i = 0; i < N_BUFS; i++)
        ps_buf_done(&in->bufs[i]);
}

static void
put_text(ps_buf *out, ps_str s)
{
    pg_put_u32(out, (uint32_t)s.len);
    ps_buf_add_str(out, s);
}

static void
put_int4(ps_buf *out, uint32_t v)
{
    pg_put_u32(out, 4);
    pg_put_u32(out, v);
}

static uint32_t
intern(interner *in, const mdl_label *label)
{
    uint64_t hash = ps_hash64(label->value, ps_hash64(label->name, in->seed));
    size_t at = hash & in->mask;
    for (; in->slots[at] != 0; at = (at + 1) & in->mask) {
        const mdl_label *other = &in->pairs[in->slots[at]].label;
        if (ps_str_eq(other->name, label->name) && ps_str_eq(other->value, label->value))
            return in->slots[at];
    }
    uint32_t index = ++in->n_pairs;
    in->slots[at] = index;
    in->pairs[index] = (pair){.label = *label};
    put_text(&in->bufs[KEYS], label->name);
    put_text(&in->bufs[VALUES], label->value);
    if (ps_str_eq(label->name, PS_STR(MDL_METRIC_NAME))) {
        in->pairs[index].metric = (int32_t)++in->n_metrics;
        put_text(&in->bufs[METRICS], label->value);
    }
    return index;
}

static ps_status
intern_all(interner *in, const mdl_labels *series, size_t n, ps_err *err)
{
    size_t n_labels = 0;
    for (size_t i = 0; i < n; i++)
        n_labels += series[i].n;
    if (n == 0 || n_labels > MAX_LABELS_PER_CALL)
        return ps_fail(err, PS_EINTERNAL, "cannot resolve %zu series with %zu labels at once", n,
                       n_labels);
    size_t slots = 16;
    while (slots < n_labels * 2)
        slots *= 2;
    in->mask = slots - 1;
    in->slots = calloc(slots, sizeof(*in->slots));
    in->pairs = calloc(n_labels + 1, sizeof(*in->pairs));
    if (in->slots == NULL || in->pairs == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");

    for (int i = 0; i < N_BUFS; i++)
        pg_put_array(&in->bufs[i], i <= VALUES ? PG_OID_TEXT : PG_OID_INT4,
                     1); /* sizes are set at the end */
    for (size_t i = 0; i < n; i++) {
        int32_t of_metric = 0;
        for (size_t k = 0; k < series[i].n; k++) {
            uint32_t index = intern(in, &series[i].items[k]);
            if (in->pairs[index].metric != 0)
                of_metric = in->pairs[index].metric;
            put_int4(&in->bufs[SERIES_LABELS], index);
        }
        if (of_metric == 0)
            return ps_fail(err, PS_EINTERNAL, "a label set without a metric name is not canonical");
        put_int4(&in->bufs[SERIES_METRIC], (uint32_t)of_metric);
        put_int4(&in->bufs[SERIES_N_LABELS], (uint32_t)series[i].n);
    }
    in->n_labels = (uint32_t)n_labels;
    uint32_t sizes[N_BUFS] = {in->n_metrics, in->n_pairs, in->n_pairs,
                              (uint32_t)n,   (uint32_t)n, in->n_labels};
    for (int i = 0; i < N_BUFS; i++) {
        if (in->bufs[i].failed)
            return ps_fail(err, PS_ENOMEM, "out of memory");
        uint32_t be = __builtin_bswap32(sizes[i]);
        memcpy(in->bufs[i].ptr + 12, &be, sizeof(be));
    }
    return PS_OK;
}

/* The answer has an id for each metric of p_metrics and one for each series. */
static ps_status
read_answer(const PGresult *res, const interner *in, size_t n, int64_t *ret_generation,
            series_ref *ret_refs, ps_err *err)
{
    if (PQntuples(res) != 1 || PQnfields(res) != 3 || PQgetlength(res, 0, 0) != 8)
        return ps_fail(err, PS_ECORRUPT, "the database answered no series ids");
    ps_str metric_field = {PQgetvalue(res, 0, 1), (size_t)PQgetlength(res, 0, 1)};
    ps_str series_field = {PQgetvalue(res, 0, 2), (size_t)PQgetlength(res, 0, 2)};
    int32_t *metric_ids = calloc(in->n_metrics, sizeof(*metric_ids));
    int64_t *series_ids = calloc(n, sizeof(*series_ids));
    const char *index_of =
        in->bufs[SERIES_METRIC].ptr + ARRAY_HEAD_BYTES + 4; /* 1-based, as sent */
    ps_status status = PS_OK;
    if (metric_ids == NULL || series_ids == NULL)
        status = ps_fail(err, PS_ENOMEM, "out of memory");
    if (status == PS_OK)
        status = pg_get_int4_array(metric_field, in->n_metrics, metric_ids, err);
    if (status == PS_OK)
        status = pg_get_int8_array(series_field, n, series_ids, err);
    for (size_t i = 0; status == PS_OK && i < n; i++) {
        int32_t metric_id = metric_ids[pg_get_u32(index_of + i * 8) - 1];
        if (metric_id <= 0 || series_ids[i] <= 0)
            status = ps_fail(err, PS_ECORRUPT, "the database answered series id %lld of metric %d",
                             (long long)series_ids[i], (int)metric_id);
        else
            ret_refs[i] = (series_ref){.series_id = series_ids[i], .metric_id = metric_id};
    }
    if (status == PS_OK)
        *ret_generation = (int64_t)pg_get_u64(PQgetvalue(res, 0, 0));
    free(metric_ids);
    free(series_ids);
    return status;
}

ps_status
catalog_resolve(PGconn *conn, const pg_wait *wait, uint64_t seed, int32_t tenant_id,
                const mdl_labels *series, size_t n, int64_t *ret_generation, series_ref *ret_refs,
                ps_err *err)
{
    static const char sql[] = "SELECT generation, metric_ids, series_ids"
                              " FROM _prom_catalog.resolve_series($1, $2, $3, $4, $5, $6, $7)";
    interner in = {.seed = seed};
    ps_buf tenant;
    PGresult *res = NULL;
    for (int i = 0; i < N_BUFS; i++)
        ps_buf_init(&in.bufs[i], &ps_malloc);
    ps_buf_init(&tenant, &ps_malloc);
    pg_put_u32(&tenant, (uint32_t)tenant_id);

    ps_status status =
        tenant.failed ? ps_fail(err, PS_ENOMEM, "out of memory") : intern_all(&in, series, n, err);
    if (status == PS_OK) {
        pg_param params[1 + N_BUFS] = {{PG_OID_INT4, ps_buf_str(&tenant)}};
        for (int i = 0; i < N_BUFS; i++)
            params[1 + i] = (pg_param){i <= VALUES ? PG_OID_TEXT_ARRAY : PG_OID_INT4_ARRAY,
                                       ps_buf_str(&in.bufs[i])};
        status = pg_run(conn, sql, params, 1 + N_BUFS, wait, &res, err);
    }
    if (status == PS_OK)
        status = read_answer(res, &in, n, ret_generation, ret_refs, err);
    PQclear(res);
    ps_buf_done(&tenant);
    interner_done(&in);
    return status;
}
