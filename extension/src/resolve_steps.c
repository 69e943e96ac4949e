/*
 * resolve_steps.c - label pairs and positions. See resolve.h for the order and why.
 *
 * Statements take arrays and unnest them. A planner that guesses wrong about a young, unanalysed table
 * would scan it whole for every batch, so nothing is left to its guess: look-ups are a function scan
 * with one index probe per item (LATERAL ... OFFSET 0 cannot be turned round), and the function sets
 * enable_seqscan, enable_bitmapscan, enable_hashjoin and enable_mergejoin off.
 */
#include "resolve.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/* ---- labels -------------------------------------------------------------------------------- */

/* First by key id, then by digest: the same order in every session. */
static int
compare_pairs(const void *a, const void *b, void *arg)
{
    const resolve_batch *batch = arg;
    const resolve_pair *x = &batch->pairs[*(const int *)a];
    const resolve_pair *y = &batch->pairs[*(const int *)b];
    int32 x_key = batch->keys[x->key].id, y_key = batch->keys[y->key].id;

    if (x_key != y_key)
        return x_key < y_key ? -1 : 1;
    return resolve_uuid_cmp(&x->digest, &y->digest);
}

static bool
pair_missing(const resolve_batch *batch, int i)
{
    return batch->pairs[i].id == 0;
}

/* Key ids, values and digests of these pairs, as arguments 2 to 4; argument 1 is the tenant. */
static void
pair_arguments(const resolve_batch *batch, const int *items, int n, Datum values[4])
{
    int32 *keys = palloc_array(int32, n);
    Datum *texts = palloc_array(Datum, n);
    pg_uuid_t *digests = palloc_array(pg_uuid_t, n);

    for (int i = 0; i < n; i++) {
        const resolve_pair *pair = &batch->pairs[items[i]];
        keys[i] = batch->keys[pair->key].id;
        texts[i] = pair->value;
        digests[i] = pair->digest;
    }
    values[0] = Int32GetDatum(batch->tenant_id);
    values[1] = PointerGetDatum(catalog_make_int4_array(keys, n));
    values[2] = PointerGetDatum(construct_array(texts, n, TEXTOID, -1, false, TYPALIGN_INT));
    values[3] = PointerGetDatum(resolve_uuid_array(digests, n));
    pfree(keys);
    pfree(texts);
    pfree(digests);
}

static void
look_up_labels(resolve_batch *batch, const int *items, int n, Datum values[4])
{
    static catalog_stmt stmt = {
        .sql = "SELECT u.ord::int4, l.id, l.value = u.value"
               " FROM unnest($2, $3, $4) WITH ORDINALITY u(key_id, value, digest, ord),"
               " LATERAL (SELECT id, value FROM _prom_catalog.label"
               "          WHERE key_id = u.key_id AND digest = u.digest AND tenant_id = $1"
               "          OFFSET 0) l",
        .n_args = 4,
        .args = {INT4OID, INT4ARRAYOID, TEXTARRAYOID, UUIDARRAYOID},
    };
    uint64 found = catalog_run(&stmt, values, false);

    for (uint64 i = 0; i < found; i++) {
        if (!DatumGetBool(catalog_value(i, 3)))
            resolve_collision("a label value");
        batch->pairs[items[DatumGetInt32(catalog_value(i, 1)) - 1]].id =
            DatumGetInt32(catalog_value(i, 2));
    }
    SPI_freetuptable(SPI_tuptable);
}

/* What comes back are the rows that are new, in the order of the items: some may be passed over. */
static void
insert_labels(resolve_batch *batch, const int *items, int n, Datum values[4])
{
#define INSERT_LABELS                                                                              \
    "INSERT INTO _prom_catalog.label (tenant_id, key_id, value, digest)"                           \
    " SELECT $1, key_id, value, digest FROM unnest($2, $3, $4) u(key_id, value, digest)"
#define RETURNING_LABELS " RETURNING id, key_id, digest"
    static catalog_stmt plain = {
        .sql = INSERT_LABELS RETURNING_LABELS,
        .n_args = 4,
        .args = {INT4OID, INT4ARRAYOID, TEXTARRAYOID, UUIDARRAYOID},
    };
    static catalog_stmt careful = {
        .sql = INSERT_LABELS " ON CONFLICT DO NOTHING" RETURNING_LABELS,
        .n_args = 4,
        .args = {INT4OID, INT4ARRAYOID, TEXTARRAYOID, UUIDARRAYOID},
    };
    uint64 made = resolve_insert(&plain, &careful, values);
    int at = 0;

    for (uint64 i = 0; i < made; i++) {
        int32 key_id = DatumGetInt32(catalog_value(i, 2));
        const pg_uuid_t *digest = DatumGetUUIDP(catalog_value(i, 3));

        while (at < n && (batch->keys[batch->pairs[items[at]].key].id != key_id ||
                          resolve_uuid_cmp(&batch->pairs[items[at]].digest, digest) != 0))
            at++;
        if (at == n)
            elog(ERROR, "labels were not inserted in the order given");
        batch->pairs[items[at++]].id = DatumGetInt32(catalog_value(i, 1));
    }
    SPI_freetuptable(SPI_tuptable);
}

/* Does it for the labels whose ids are not known yet, each once (a pair that the arguments hold twice
 * gets its id from the look-up that comes last); false if there are none. */
static bool
for_missing_labels(resolve_batch *batch,
                   void (*step)(resolve_batch *, const int *, int, Datum values[4]), bool each_once)
{
    Datum values[4];
    int n;
    int *items = resolve_missing(batch, batch->n_pairs, pair_missing, &n);

    if (n > 0) {
        CHECK_FOR_INTERRUPTS();
        qsort_arg(items, n, sizeof *items, compare_pairs, batch);
        if (each_once)
            n = resolve_unique(items, n, compare_pairs, batch);
        pair_arguments(batch, items, n, values);
        step(batch, items, n, values);
    }
    pfree(items);
    return n > 0;
}

static void
no_step(resolve_batch *batch, const int *items, int n, Datum values[4])
{
}

void
resolve_labels(resolve_batch *batch)
{
    if (for_missing_labels(batch, look_up_labels, false) &&
        for_missing_labels(batch, insert_labels, true) &&
        for_missing_labels(batch, look_up_labels, false) &&
        for_missing_labels(batch, no_step, false))
        resolve_give_way("labels");
}

/* ---- positions ----------------------------------------------------------------------------- */

static HTAB *
needed_positions(const resolve_batch *batch)
{
    resolve_position *p = NULL;
    HASHCTL control = {.keysize = sizeof p->at,
                       .entrysize = sizeof(resolve_position),
                       .hcxt = CurrentMemoryContext};
    HTAB *table =
        hash_create("promscale positions", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

    for (int k = 0; k < batch->n_series; k++) {
        const resolve_series *s = &batch->series[k];
        resolve_position at = {.at.metric = s->metric};

        for (int i = 0; i < s->n_refs; i++) {
            bool exists;

            at.at.key = batch->pairs[s->refs[i] - 1].key;
            p = hash_search(table, &at.at, HASH_ENTER, &exists);
            if (!exists)
                p->pos = 0;
        }
    }
    return table;
}

/* By metric id, then __name__ first, then by key: the order in which positions are given away. */
static int
compare_positions(const void *a, const void *b, void *arg)
{
    const resolve_batch *batch = arg;
    const resolve_position *x = *(resolve_position *const *)a, *y = *(resolve_position *const *)b;
    int32 x_metric = batch->metrics[x->at.metric].id, y_metric = batch->metrics[y->at.metric].id;

    if (x_metric != y_metric)
        return x_metric < y_metric ? -1 : 1;
    ps_str x_key = catalog_str(batch->keys[x->at.key].text);
    ps_str y_key = catalog_str(batch->keys[y->at.key].text);
    bool x_name = ps_str_eq(x_key, PS_STR(MDL_METRIC_NAME));
    bool y_name = ps_str_eq(y_key, PS_STR(MDL_METRIC_NAME));
    if (x_name != y_name)
        return x_name ? -1 : 1;
    return ps_str_cmp(x_key, y_key);
}

/* The entries without a position, sorted. */
static resolve_position **
missing_positions(resolve_batch *batch, int *ret_n)
{
    resolve_position **items =
        palloc_array(resolve_position *, Max(hash_get_num_entries(batch->positions), 1));
    HASH_SEQ_STATUS scan;
    resolve_position *p;
    int n = 0;

    hash_seq_init(&scan, batch->positions);
    while ((p = hash_seq_search(&scan)) != NULL) {
        if (p->pos == 0)
            items[n++] = p;
    }
    qsort_arg(items, n, sizeof *items, compare_positions, batch);
    *ret_n = n;
    return items;
}

static void
position_arguments(const resolve_batch *batch, resolve_position *const *items, int n,
                   Datum values[3])
{
    int32 *metrics = palloc_array(int32, n);
    int32 *keys = palloc_array(int32, n);
    int32 *positions = palloc_array(int32, n);

    for (int i = 0; i < n; i++) {
        metrics[i] = batch->metrics[items[i]->at.metric].id;
        keys[i] = batch->keys[items[i]->at.key].id;
        positions[i] = items[i]->pos;
    }
    values[0] = PointerGetDatum(catalog_make_int4_array(metrics, n));
    values[1] = PointerGetDatum(catalog_make_int4_array(keys, n));
    values[2] = PointerGetDatum(catalog_make_int4_array(positions, n));
}

static void
look_up_positions(resolve_batch *batch)
{
    static catalog_stmt stmt = {
        .sql = "SELECT u.ord::int4, p.pos"
               " FROM unnest($1, $2) WITH ORDINALITY u(metric_id, key_id, ord),"
               " LATERAL (SELECT pos FROM _prom_catalog.label_key_position"
               "          WHERE metric_id = u.metric_id AND key_id = u.key_id OFFSET 0) p",
        .n_args = 2,
        .args = {INT4ARRAYOID, INT4ARRAYOID},
    };
    Datum values[3];
    int n;
    resolve_position **items = missing_positions(batch, &n);

    if (n == 0)
        return;
    position_arguments(batch, items, n, values);
    uint64 found = catalog_run(&stmt, values, false);
    for (uint64 i = 0; i < found; i++)
        items[DatumGetInt32(catalog_value(i, 1)) - 1]->pos = DatumGetInt32(catalog_value(i, 2));
    SPI_freetuptable(SPI_tuptable);
}

typedef struct position_count {
    int32 metric_id;
    int32 positions;
} position_count;

/*
 * Locks the rows of these entries' metrics, in the order of their ids, and returns how many positions
 * each has given away. From here to the end of the transaction nobody else gives away positions of
 * these metrics.
 */
static position_count *
lock_metrics(const resolve_batch *batch, resolve_position *const *items, int n, int *ret_n)
{
    static catalog_stmt stmt = {
        .sql = "SELECT id, positions FROM _prom_catalog.metric WHERE id = ANY ($1)"
               " ORDER BY id FOR NO KEY UPDATE",
        .n_args = 1,
        .args = {INT4ARRAYOID},
    };
    int32 *ids = palloc_array(int32, n);
    int n_ids = 0;

    for (int i = 0; i < n; i++) { /* items are sorted by metric id */
        int32 id = batch->metrics[items[i]->at.metric].id;
        if (n_ids == 0 || ids[n_ids - 1] != id)
            ids[n_ids++] = id;
    }
    Datum value = PointerGetDatum(catalog_make_int4_array(ids, n_ids));
    if (catalog_run(&stmt, &value, false) != n_ids)
        resolve_give_way("label positions");
    position_count *counts = palloc_array(position_count, n_ids);
    for (int i = 0; i < n_ids; i++)
        counts[i] = (position_count){.metric_id = DatumGetInt32(catalog_value(i, 1)),
                                     .positions = DatumGetInt32(catalog_value(i, 2))};
    SPI_freetuptable(SPI_tuptable);
    *ret_n = n_ids;
    return counts;
}

static void
insert_positions(const resolve_batch *batch, resolve_position *const *items, int n,
                 const position_count *counts, int n_counts)
{
    static catalog_stmt insert = {
        .sql = "INSERT INTO _prom_catalog.label_key_position (metric_id, key_id, pos)"
               " SELECT * FROM unnest($1, $2, $3)",
        .n_args = 3,
        .args = {INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID},
    };
    static catalog_stmt update = {
        .sql = "UPDATE _prom_catalog.metric m SET positions = u.positions"
               " FROM unnest($1, $2) u(id, positions) WHERE m.id = u.id",
        .n_args = 2,
        .args = {INT4ARRAYOID, INT4ARRAYOID},
    };
    Datum values[3];
    int32 *ids = palloc_array(int32, n_counts);
    int32 *positions = palloc_array(int32, n_counts);

    position_arguments(batch, items, n, values);
    catalog_run(&insert, values, false);
    for (int i = 0; i < n_counts; i++) {
        ids[i] = counts[i].metric_id;
        positions[i] = counts[i].positions;
    }
    values[0] = PointerGetDatum(catalog_make_int4_array(ids, n_counts));
    values[1] = PointerGetDatum(catalog_make_int4_array(positions, n_counts));
    catalog_run(&update, values, false);
}

void
resolve_positions(resolve_batch *batch)
{
    int n, n_counts;

    batch->positions = needed_positions(batch);
    look_up_positions(batch);
    resolve_position **items = missing_positions(batch, &n);
    if (n == 0)
        return;
    position_count *counts = lock_metrics(batch, items, n, &n_counts);
    look_up_positions(batch); /* somebody may have given some away before the lock was ours */
    items = missing_positions(batch, &n);
    if (n == 0)
        return;
    for (int i = 0, c = 0; i < n; i++) {
        while (counts[c].metric_id != batch->metrics[items[i]->at.metric].id)
            c++;
        items[i]->pos = ++counts[c].positions;
        if (items[i]->pos > RESOLVE_MAX_POSITIONS)
            ereport(ERROR,
                    (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                     errmsg("a metric may have at most %d label names", RESOLVE_MAX_POSITIONS)));
    }
    insert_positions(batch, items, n, counts, n_counts);
}
