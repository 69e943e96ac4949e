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

static void
put_number(StringInfo out, const char *key, double v)
{
    char text[PS_DOUBLE_TEXT];

    ps_format_double(text, v);
    appendStringInfo(out, "%s%s", key, text);
}

static void
too_wide(void)
{
    ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                    errmsg("the histogram's buckets lie too far apart to be written as text"),
                    errhint("Its binary form has no such limit; histogram_buckets() lists them.")));
}

static void
put_list(StringInfo out, const char *key, const double *values, uint32 n)
{
    appendStringInfoString(out, key);
    for (uint32 i = 0; i < n; i++)
        put_number(out, i == 0 ? "" : " ", values[i]);
    appendStringInfoChar(out, ']');
}

static void
put_side(StringInfo out, const char *buckets, const char *offset, const hst_side *side)
{
    const double *count = side->counts;
    const char *before = buckets;
    uint64 width = 0;
    int64 index = 0, first = 0;

    if (side->n_counts == 0)
        return;
    for (uint32 i = 0; i < side->n_spans; i++) {
        const hst_span *span = &side->spans[i];

        index += span->offset;
        if (before == buckets)
            first = index; /* empty spans may come before the first bucket */
        width += before == buckets ? 0 : (uint64)span->offset;
        width += span->length;
        if (width > HISTOGRAM_MAX_BUCKETS)
            too_wide();
        for (int32 gap = before == buckets ? 0 : span->offset; gap > 0; gap--) {
            appendStringInfo(out, "%s0", before);
            before = " ";
        }
        for (uint32 k = 0; k < span->length; k++) {
            put_number(out, before, *count++);
            before = " ";
        }
        index += span->length;
    }
    appendStringInfoChar(out, ']');
    if (first != 0)
        appendStringInfo(out, "%s%lld", offset, (long long)first);
}

PGDLLEXPORT Datum promscale_histogram_out(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(promscale_histogram_out);
Datum
promscale_histogram_out(PG_FUNCTION_ARGS)
{
    static const char *const hints[] = {
        [HST_RESET] = "reset", [HST_NOT_RESET] = "not_reset", [HST_GAUGE] = "gauge"};
    histogram_work w;
    StringInfoData out;

    histogram_work_init(&w, CurrentMemoryContext, HISTOGRAM_WORK_BYTES);
    const hst_hist *h = histogram_of_datum(&w, PG_GETARG_DATUM(0));
    initStringInfo(&out);
    appendStringInfo(&out, "{{schema:%d", h->schema);
    put_number(&out, " count:", h->count);
    put_number(&out, " sum:", h->sum);
    if (ps_bits_of(h->zero_count) != 0)
        put_number(&out, " z_bucket:", h->zero_count);
    if (h->zero_threshold != 0)
        put_number(&out, " z_bucket_w:", h->zero_threshold);
    if (h->n_bounds > 0)
        put_list(&out, " custom_values:[", h->bounds, h->n_bounds);
    put_side(&out, " buckets:[", " offset:", &h->positive);
    put_side(&out, " n_buckets:[", " n_offset:", &h->negative);
    if (h->hint != HST_UNKNOWN)
        appendStringInfo(&out, " counter_reset_hint:%s", hints[h->hint]);
    appendStringInfoString(&out, "}}");
    PG_RETURN_CSTRING(out.data);
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
