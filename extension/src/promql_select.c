/*
 * promql_select.c - the series that match the matchers of a selector.
 *
 * Metrics are chosen by the matchers on __name__ (one by its digest, if there is an equality), then
 * each metric's series are read and their label ids become texts: ids that were not met before in this
 * query are looked up together, one statement per metric. Other matchers are tried on the texts.
 * A series of a tenant has __tenant__ besides what is stored.
 *
 * Memory: the label sets of matching series and the texts of all labels met, in the source's arena;
 * per metric the ids of all of its series.
 */
#include "promql.h"

#include "catalog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#define TENANT_LABEL "__tenant__"

typedef struct label_text { /* HTAB entry */
    int32 id;
    bool known;
    ps_str key, value;
} label_text;

typedef struct tenant_name {
    int32 id;
    ps_str name;
} tenant_name;

typedef struct candidate { /* a series of the metric under way */
    int64 id;
    int32 tenant_id;
    uint32 n_ids;
    int32 *ids;
} candidate;

typedef struct found {
    fdw_series row;
    mdl_labels labels;
    uint32 place; /* in order of label sets */
} found;

typedef struct selector {
    promql_source *src;
    ps_arena scratch; /* of one metric */
    candidate *candidates;
    size_t n_candidates, cap_candidates;
    int32 *missing; /* label ids without a text */
    size_t n_missing, cap_missing;
    found *found;
    size_t n_found, cap_found;
} selector;

static void *
need(void *p)
{
    if (p == NULL)
        promql_no_memory();
    return p;
}

/* Arrays that grow inside an arena: twice the size, the old one is left behind. */
static void *
grown(ps_arena *arena, void *old, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return old;
    size_t more = *cap == 0 ? 256 : *cap * 2;
    void *p = need(ps_arena_array(arena, more, size));
    if (n > 0)
        memcpy(p, old, n * size);
    *cap = more;
    return p;
}

static ps_str
kept(promql_source *src, Datum text_datum)
{
    ps_str s, packed = catalog_str(PointerGetDatum(PG_DETOAST_DATUM_PACKED(text_datum)));

    if (ps_arena_dup(&src->arena, packed, &s) != PS_OK)
        promql_no_memory();
    return s;
}

/* ---- texts of labels -------------------------------------------------------------------------- */

static void
fetch_texts(promql_source *src, const int32 *ids, int n)
{
    static catalog_stmt stmt = {
        .sql = "SELECT l.id, k.key, l.value FROM _prom_catalog.label l"
               " JOIN _prom_catalog.label_key k ON k.id OPERATOR(pg_catalog.=) l.key_id"
               " WHERE l.id OPERATOR(pg_catalog.=) ANY ($1)",
        .n_args = 1,
        .args = {INT4ARRAYOID},
    };
    enum { AT_ONCE = 10000 };

    for (int from = 0; from < n; from += AT_ONCE) {
        Datum values[1];

        fdw_spi_begin(src->snapshot);
        values[0] = PointerGetDatum(catalog_make_int4_array(ids + from, Min(AT_ONCE, n - from)));
        uint64 rows = catalog_run(&stmt, values, true);
        for (uint64 i = 0; i < rows; i++) {
            int32 id = DatumGetInt32(catalog_value(i, 1));
            label_text *entry = hash_search(src->labels, &id, HASH_FIND, NULL);

            if (entry == NULL)
                elog(ERROR, "the catalog returned a label that was not asked for");
            entry->key = kept(src, catalog_value(i, 2));
            entry->value = kept(src, catalog_value(i, 3));
            entry->known = true;
        }
        fdw_spi_end();
    }
}

static ps_str
name_of_tenant(promql_source *src, int32 id)
{
    static catalog_stmt stmt = {
        .sql = "SELECT name FROM _prom_catalog.tenant WHERE id OPERATOR(pg_catalog.=) $1",
        .n_args = 1,
        .args = {INT4OID},
    };
    Datum values[1] = {Int32GetDatum(id)};
    bool exists;
    tenant_name *entry = hash_search(src->tenants, &id, HASH_ENTER, &exists);

    if (!exists) {
        entry->name = (ps_str){"", 0};
        fdw_spi_begin(src->snapshot);
        if (catalog_run(&stmt, values, true) > 0)
            entry->name = kept(src, catalog_value(0, 1));
        fdw_spi_end();
    }
    return entry->name;
}

/* ---- series of a metric ------------------------------------------------------------------------- */

static void
add_candidate(void *self, HeapTuple tuple, TupleDesc desc)
{
    selector *s = self;
    bool isnull[3];
    Datum id = SPI_getbinval(tuple, desc, 1, &isnull[0]);
    Datum tenant = SPI_getbinval(tuple, desc, 2, &isnull[1]);
    Datum labels = SPI_getbinval(tuple, desc, 3, &isnull[2]);
    int n;

    if (isnull[0] || isnull[1] || isnull[2])
        elog(ERROR, "a null in a row of _prom_catalog.series");
    const int32 *ids = catalog_int4_array(DatumGetArrayTypeP(labels), "labels", &n);
    s->candidates =
        grown(&s->scratch, s->candidates, s->n_candidates, &s->cap_candidates, sizeof(candidate));
    candidate *c = &s->candidates[s->n_candidates++];
    *c = (candidate){.id = DatumGetInt64(id), .tenant_id = DatumGetInt32(tenant), .n_ids = n};
    c->ids = need(ps_arena_array(&s->scratch, Max(n, 1), sizeof(int32)));
    for (int i = 0; i < n; i++) {
        bool exists;

        c->ids[i] = ids[i];
        if (ids[i] == 0)
            continue;
        label_text *entry = hash_search(s->src->labels, &ids[i], HASH_ENTER, &exists);
        if (exists)
            continue;
        entry->known = false;
        s->missing = grown(&s->scratch, s->missing, s->n_missing, &s->cap_missing, sizeof(int32));
        s->missing[s->n_missing++] = ids[i];
    }
}

/* The labels of a candidate, sorted by name, in `items` (of at least n_ids + 1). */
static mdl_labels
labels_of(promql_source *src, const candidate *c, mdl_label *items)
{
    size_t n = 0;

    for (uint32 i = 0; i < c->n_ids; i++) {
        if (c->ids[i] == 0)
            continue;
        label_text *text = hash_search(src->labels, &c->ids[i], HASH_FIND, NULL);
        if (text != NULL && text->known)
            items[n++] = (mdl_label){text->key, text->value};
    }
    if (c->tenant_id != 0) {
        ps_str name = name_of_tenant(src, c->tenant_id);
        if (name.len > 0)
            items[n++] = (mdl_label){PS_STR(TENANT_LABEL), name};
    }
    for (size_t i = 1; i < n; i++) { /* few, and nearly in order */
        mdl_label x = items[i];
        size_t k = i;
        for (; k > 0 && ps_str_cmp(items[k - 1].name, x.name) > 0; k--)
            items[k] = items[k - 1];
        items[k] = x;
    }
    return (mdl_labels){items, n};
}

static void
add_found(selector *s, int32 metric_id, const candidate *c, mdl_labels labels)
{
    promql_source *src = s->src;
    mdl_label *copy = need(ps_arena_array(&src->arena, Max(labels.n, 1), sizeof(mdl_label)));

    memcpy(copy, labels.items, labels.n * sizeof(mdl_label));
    s->found = grown(&src->arena, s->found, s->n_found, &s->cap_found, sizeof(found));
    s->found[s->n_found++] =
        (found){.row = {.id = c->id, .metric_id = metric_id}, .labels = {copy, labels.n}};
}

static void
select_of_metric(selector *s, int32 metric_id)
{
    promql_source *src = s->src;
    int64 from_ms = src->from_ms, to_ms = src->to_ms;
    size_t widest = 0;

    s->n_candidates = s->cap_candidates = s->n_missing = s->cap_missing = 0;
    fdw_spi_begin(src->snapshot);
    fdw_alive_each(metric_id, FDW_STMT_SERIES_OF_TENANTS, FDW_STMT_TENANTS_BY_ID, &from_ms, &to_ms,
                   add_candidate, s);
    fdw_spi_end();
    if (s->n_missing > 0)
        fetch_texts(src, s->missing, (int)s->n_missing);
    for (size_t i = 0; i < s->n_candidates; i++)
        widest = Max(widest, s->candidates[i].n_ids);
    mdl_label *items = need(ps_arena_array(&s->scratch, widest + 1, sizeof(mdl_label)));
    for (size_t i = 0; i < s->n_candidates; i++) {
        mdl_labels labels = labels_of(src, &s->candidates[i], items);

        if ((i & 1023) == 0)
            CHECK_FOR_INTERRUPTS();
        if (re_matchers_match(src->matchers, src->n_matchers, labels))
            add_found(s, metric_id, &s->candidates[i], labels);
    }
    ps_arena_reset(&s->scratch);
}

/* ---- metrics --------------------------------------------------------------------------------------- */

typedef struct metrics {
    promql_source *src;
    int32 *ids;
    size_t n, cap;
} metrics;

static bool
name_matches(const promql_source *src, ps_str name)
{
    for (size_t i = 0; i < src->n_matchers; i++) {
        if (ps_str_eq_c(re_matcher_of(src->matchers[i])->name, MDL_METRIC_NAME) &&
            !re_matcher_matches(src->matchers[i], name))
            return false;
    }
    return true;
}

static void
add_metric(void *self, HeapTuple tuple, TupleDesc desc)
{
    metrics *m = self;
    bool isnull[2];
    int32 id = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull[0]));
    Datum name = SPI_getbinval(tuple, desc, 2, &isnull[1]);

    if (isnull[0] || isnull[1])
        elog(ERROR, "a null in a row of _prom_catalog.metric");
    if (!name_matches(m->src, catalog_str(PointerGetDatum(PG_DETOAST_DATUM_PACKED(name)))))
        return;
    m->ids = grown(&m->src->arena, m->ids, m->n, &m->cap, sizeof(int32));
    m->ids[m->n++] = id;
}

static void
find_metrics(metrics *m, const mdl_matcher *name)
{
    Datum arg = 0;

    fdw_spi_begin(m->src->snapshot);
    if (name != NULL) {
        arg = PointerGetDatum(cstring_to_text_with_len(name->value.ptr, (int)name->value.len));
        fdw_spi_each(FDW_STMT_METRIC_NAMED, &arg, add_metric, m);
    } else {
        fdw_spi_each(FDW_STMT_METRIC_NAMES, NULL, add_metric, m);
    }
    fdw_spi_end();
}

/* ---- all of it ---------------------------------------------------------------------------------------- */

static int
by_labels(const void *a, const void *b)
{
    const found *x = a, *y = b;
    int c = mdl_labels_cmp(x->labels, y->labels);

    return c != 0 ? c : (x->row.id > y->row.id) - (x->row.id < y->row.id);
}

static int
by_row(const void *a, const void *b)
{
    const found *x = a, *y = b;

    if (x->row.metric_id != y->row.metric_id)
        return x->row.metric_id < y->row.metric_id ? -1 : 1;
    return (x->row.id > y->row.id) - (x->row.id < y->row.id);
}

void
promql_select(promql_source *src, const mdl_matcher *name, promql_list *ret)
{
    selector s = {.src = src};
    metrics m = {.src = src};

    ps_arena_init(&s.scratch, &src->memory.alloc, 0);
    find_metrics(&m, name);
    for (size_t i = 0; i < m.n; i++)
        select_of_metric(&s, m.ids[i]);
    ps_arena_done(&s.scratch);

    *ret = (promql_list){.n = s.n_found};
    ret->rows = need(ps_arena_array(&src->arena, Max(s.n_found, 1), sizeof(*ret->rows)));
    ret->order = need(ps_arena_array(&src->arena, Max(s.n_found, 1), sizeof(*ret->order)));
    ret->labels = need(ps_arena_array(&src->arena, Max(s.n_found, 1), sizeof(*ret->labels)));
    if (s.n_found == 0)
        return;
    qsort(s.found, s.n_found, sizeof(found), by_labels);
    for (size_t i = 0; i < s.n_found; i++) {
        s.found[i].place = (uint32)i;
        ret->labels[i] = s.found[i].labels;
    }
    qsort(s.found, s.n_found, sizeof(found), by_row);
    for (size_t i = 0; i < s.n_found; i++) {
        ret->rows[i] = s.found[i].row;
        ret->order[i] = s.found[i].place;
    }
}
