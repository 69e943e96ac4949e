/*
 * histogram_type.c - prom_api.histogram as text, as binary and as jsonb.
 *
 * Text is the notation of Prometheus's test scripts, {{schema:1 count:5 sum:18.4 buckets:[2 0 3]}}: one
 * list of populations a side, in which a gap between spans is filled with zeros. Reading it back gives an
 * equal histogram. As with float8, text knows one NaN only, and it does not tell whether the populations
 * came as integers; binary is exact.
 *
 * jsonb has the shape of the HTTP API, numbers as strings, since jsonb has neither NaN nor infinity.
 */
#include "histogram.h"

#include "fmgr.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

/* ---- text ------------------------------------------------------------------------------------- */

PGDLLEXPORT Datum promscale_histogram_out(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_out);
Datum
promscale_histogram_out(PG_FUNCTION_ARGS)
{
    histogram_work w;
    ps_buf out;

    histogram_work_init(&w, CurrentMemoryContext, HISTOGRAM_WORK_BYTES);
    const hst_hist *h = histogram_of_datum(&w, PG_GETARG_DATUM(0));
    ps_buf_init(&out, &w.memory.alloc);
    ps_buf_add_c(&out, "{{");
    ps_status st = hst_spell(&out, h, HISTOGRAM_MAX_BUCKETS);
    if (st == PS_ELIMIT)
        ereport(ERROR,
                (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                 errmsg("the histogram's buckets lie too far apart to be written as text"),
                 errhint("Its binary form has no such limit; histogram_buckets() lists them.")));
    ps_buf_add_c(&out, "}}");
    bridge_check(st == PS_OK && out.failed ? PS_ENOMEM : st, NULL);
    PG_RETURN_CSTRING(pnstrdup(out.ptr, out.len));
}

PGDLLEXPORT Datum promscale_histogram_in(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_in);
Datum
promscale_histogram_in(PG_FUNCTION_ARGS)
{
    const char *text = PG_GETARG_CSTRING(0);
    ps_str s = ps_str_trim(ps_str_c(text));
    histogram_work w;
    const hst_hist *h;
    bool has_hint;
    ps_err err = {0};

    if (s.len < 4 || memcmp(s.ptr, "{{", 2) != 0 || memcmp(s.ptr + s.len - 2, "}}", 2) != 0)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
                 errmsg("invalid input syntax for type %s: \"%.*s\"", "histogram",
                        (int)ps_utf8_prefix(s, 100), s.ptr),
                 errhint("A histogram looks like {{schema:1 count:5 sum:18.4 buckets:[2 3]}}.")));
    histogram_work_init(&w, CurrentMemoryContext, HISTOGRAM_WORK_BYTES);
    ps_status st = hst_parse(&w.arena, (ps_str){s.ptr + 2, s.len - 4}, &h, &has_hint, &err);
    if (st == PS_EINVAL)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION), errmsg("%s", err.text),
                 errhint("Fields are schema, count, sum, z_bucket, z_bucket_w, custom_values, "
                         "buckets, offset, n_buckets, n_offset, counter_reset_hint.")));
    bridge_check(st, &err);
    PG_RETURN_DATUM(histogram_datum(h));
}

/* ---- binary ----------------------------------------------------------------------------------- */

/* The stored bytes, which have a version of their own. */
PGDLLEXPORT Datum promscale_histogram_send(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_send);
Datum
promscale_histogram_send(PG_FUNCTION_ARGS)
{
    histogram_work w;

    histogram_work_init(&w, CurrentMemoryContext, HISTOGRAM_WORK_BYTES);
    PG_RETURN_DATUM(histogram_datum(histogram_of_datum(&w, PG_GETARG_DATUM(0))));
}

PGDLLEXPORT Datum promscale_histogram_recv(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_recv);
Datum
promscale_histogram_recv(PG_FUNCTION_ARGS)
{
    StringInfo in = (StringInfo)PG_GETARG_POINTER(0);
    int n = in->len - in->cursor;
    histogram_work w;
    const hst_hist *h;
    ps_err err = {0};

    histogram_work_init(&w, CurrentMemoryContext, HISTOGRAM_WORK_BYTES);
    ps_status st = histogram_read(&w.arena, (ps_str){pq_getmsgbytes(in, n), (size_t)n}, &h, &err);
    if (st == PS_ECORRUPT || st == PS_EUNSUPPORTED)
        ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION), errmsg("%s", err.text)));
    bridge_check(st, &err);
    PG_RETURN_DATUM(histogram_datum(h));
}

/* ---- jsonb ------------------------------------------------------------------------------------ */

static JsonbValue
json_text(const char *s)
{
    JsonbValue v = {.type = jbvString};

    v.val.string.val = unconstify(char *, s);
    v.val.string.len = (int)strlen(s);
    return v;
}

static void
push_number(JsonbParseState **state, JsonbIteratorToken what, double v)
{
    char *text = palloc(PS_DOUBLE_TEXT);

    ps_format_double(text, v);
    JsonbValue value = json_text(text);
    pushJsonbValue(state, what, &value);
}

static void
push_key(JsonbParseState **state, const char *key)
{
    JsonbValue v = json_text(key);

    pushJsonbValue(state, WJB_KEY, &v);
}

static void
push_bucket(JsonbParseState **state, const hst_bucket *b)
{
    static const int rules[] = {2, 0, 1, 3}; /* open, left open, right open, closed */
    const int rule = rules[(b->lower_in ? 2 : 0) + (b->upper_in ? 1 : 0)];
    JsonbValue v = {.type = jbvNumeric};

    v.val.numeric = DatumGetNumeric(DirectFunctionCall1(int4_numeric, Int32GetDatum(rule)));
    pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
    pushJsonbValue(state, WJB_ELEM, &v);
    push_number(state, WJB_ELEM, b->lower);
    push_number(state, WJB_ELEM, b->upper);
    push_number(state, WJB_ELEM, b->count);
    pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

PGDLLEXPORT Datum promscale_histogram_jsonb(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_jsonb);
Datum
promscale_histogram_jsonb(PG_FUNCTION_ARGS)
{
    JsonbParseState *state = NULL;
    histogram_work w;
    hst_iter it;
    hst_bucket b;
    bool any = false;

    histogram_work_init(&w, CurrentMemoryContext, HISTOGRAM_WORK_BYTES);
    const hst_hist *h = histogram_of_datum(&w, PG_GETARG_DATUM(0));
    pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
    push_key(&state, "count");
    push_number(&state, WJB_VALUE, h->count);
    push_key(&state, "sum");
    push_number(&state, WJB_VALUE, h->sum);
    hst_iter_up(&it, h);
    while (hst_next(&it, &b)) {
        if (b.count == 0)
            continue;
        if (!any) {
            push_key(&state, "buckets");
            pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
        }
        any = true;
        push_bucket(&state, &b);
    }
    if (any)
        pushJsonbValue(&state, WJB_END_ARRAY, NULL);
    PG_RETURN_JSONB_P(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}
