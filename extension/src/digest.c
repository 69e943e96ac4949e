/*
 * digest.c - the identities of lib/model as SQL functions: the same bytes in give the same uuid in
 * the connector and here. All are IMMUTABLE: what they return is stored and unique.
 */
#include "bridge.h"
#include "catalog.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

/* Label sets come from SQL users here; resolve_series has the limits that matter. */
enum { DIGEST_BUDGET_BYTES = 512 << 20 };

static Datum
uuid_datum(const ps_digest *digest)
{
    pg_uuid_t *uuid = palloc(sizeof *uuid);

    *uuid = catalog_uuid(digest);
    return UUIDPGetDatum(uuid);
}

PG_FUNCTION_INFO_V1(digest_text);
Datum
digest_text(PG_FUNCTION_ARGS)
{
    ps_digest digest = ps_digest_of(catalog_str(PointerGetDatum(PG_GETARG_TEXT_PP(0))));

    return uuid_datum(&digest);
}

PG_FUNCTION_INFO_V1(digest_label);
Datum
digest_label(PG_FUNCTION_ARGS)
{
    ps_str key = catalog_str(PointerGetDatum(PG_GETARG_TEXT_PP(0)));
    ps_str value = catalog_str(PointerGetDatum(PG_GETARG_TEXT_PP(1)));
    bridge_alloc alloc;
    ps_buf scratch;
    ps_digest digest;

    bridge_alloc_init(&alloc, CurrentMemoryContext, DIGEST_BUDGET_BYTES);
    ps_buf_init(&scratch, &alloc.alloc);
    bridge_check(mdl_label_digest(key, value, &scratch, &digest), NULL);
    ps_buf_done(&scratch);
    return uuid_datum(&digest);
}

static int
compare_names(const void *a, const void *b)
{
    return ps_str_cmp(((const mdl_label *)a)->name, ((const mdl_label *)b)->name);
}

/* The pairs may come in any order; a name that stands twice has no identity. */
PG_FUNCTION_INFO_V1(digest_series);
Datum
digest_series(PG_FUNCTION_ARGS)
{
    int n, n_values;
    Datum *names = catalog_text_array(PG_GETARG_ARRAYTYPE_P(0), "keys", &n);
    Datum *values = catalog_text_array(PG_GETARG_ARRAYTYPE_P(1), "values", &n_values);
    bridge_alloc alloc;
    ps_buf scratch;
    ps_digest digest;

    if (n != n_values)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("there are %d keys but %d values", n, n_values)));
    mdl_label *labels = palloc_array(mdl_label, Max(n, 1));
    for (int i = 0; i < n; i++)
        labels[i] = (mdl_label){catalog_str(names[i]), catalog_str(values[i])};
    qsort(labels, n, sizeof *labels, compare_names);
    for (int i = 1; i < n; i++) {
        if (ps_str_eq(labels[i - 1].name, labels[i].name))
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("a label name is given twice")));
    }
    bridge_alloc_init(&alloc, CurrentMemoryContext, DIGEST_BUDGET_BYTES);
    ps_buf_init(&scratch, &alloc.alloc);
    bridge_check(mdl_labels_digest((mdl_labels){labels, n}, &scratch, &digest), NULL);
    ps_buf_done(&scratch);
    return uuid_datum(&digest);
}

PG_FUNCTION_INFO_V1(digest_dist_key);
Datum
digest_dist_key(PG_FUNCTION_ARGS)
{
    PG_RETURN_INT64(mdl_dist_key(PG_GETARG_INT32(0), PG_GETARG_INT32(1)));
}
