/*
 * labels.c - the three endpoints: parameters, the finding, JSON.
 *
 *   parameters -> source -> read_find* (connector/read/find.h) -> JSON -> answer
 *
 * The order in which parameters are looked at is that of Prometheus, so that of several mistakes the same
 * one is told.
 */
#include "connector/labels/labels.h"
#include "lib/promql/promql.h"

enum { MAX_DAMAGED = 16 }; /* of what read_source_warnings() gives, which is less */

/* Room for JSON is bounded like what a query holds. */
static void
begin_json(const api_job *job, ps_buf *out)
{
    ps_buf_init(out, &ps_malloc);
    out->max = (size_t)api_settings(job)->query_max_bytes;
}

static ps_status
read_window(const api_job *job, read_finding *what, uint64_t *ret_limit, ps_err *err)
{
    PS_TRY(api_limit_param(job, "limit", ret_limit, err));
    PS_TRY(api_time_param(job, "start", MDL_TIME_MIN_MS, &what->from_ms, err));
    return api_time_param(job, "end", MDL_TIME_MAX_MS, &what->to_ms, err);
}

static void
answer(api_job *job, read_source *src, ps_buf *json, bool truncated)
{
    ps_str warnings[2 + MAX_DAMAGED];
    const ps_str *damaged;
    size_t n = 0, n_damaged = read_source_warnings(src, &damaged);
    int64_t since_ms;
    ps_buf since;
    ps_buf_init(&since, &ps_malloc);
    if (truncated)
        warnings[n++] = (ps_str){"results truncated due to limit", 30};
    if (read_found_since(src, &since_ms)) {
        ps_buf_add_c(&since, "only series with samples since ");
        api_json_time(&since, since_ms);
        ps_buf_add_c(&since, " were looked for: give start and end to see older ones");
        warnings[n++] = ps_buf_str(&since);
    }
    for (size_t i = 0; i < n_damaged && i < MAX_DAMAGED; i++)
        warnings[n++] = damaged[i];
    api_answer(job, json, warnings, n);
    ps_buf_done(&since);
    ps_buf_done(json);
}

/* ---- series ------------------------------------------------------------------------------------------- */

static ps_status
read_series_request(api_job *job, read_finding *what, uint64_t *ret_limit, ps_err *err)
{
    if (!api_has_param(job, "match[]"))
        return ps_fail(err, PS_EINVAL, "no match[] parameter provided");
    PS_TRY(read_window(job, what, ret_limit, err));
    if (labels_matches(job, &what->sets, &what->n_sets, err) != PS_OK)
        return err->code == PS_EINVAL ? api_bad_param("match[]", err) : err->code;
    /* one more, to know whether there are more */
    what->limit = *ret_limit < SIZE_MAX ? (size_t)*ret_limit + (*ret_limit > 0) : 0;
    return PS_OK;
}

static void
answer_series(api_job *job, read_source *src, const read_finding *what, uint64_t limit)
{
    idx_found found;
    ps_err err;
    ps_buf json;
    ps_status status = read_find(src, what, &found, NULL, &err);
    if (status != PS_OK) {
        api_fail_status(job, status, ps_str_c(err.text));
        return;
    }
    bool truncated = limit > 0 && found.n > limit;
    begin_json(job, &json);
    ps_buf_add_char(&json, '[');
    for (size_t i = 0; i < found.n - truncated && !json.failed; i++) {
        if (i > 0)
            ps_buf_add_char(&json, ',');
        api_json_labels(&json, found.items[i].labels);
    }
    ps_buf_add_char(&json, ']');
    answer(job, src, &json, truncated);
}

void
labels_series(api_job *job, void *self)
{
    read_finding what = {0};
    read_source *src;
    uint64_t limit;
    ps_err err;
    (void)self;
    ps_status status = read_series_request(job, &what, &limit, &err);
    if (status != PS_OK) {
        api_fail_params(job, status, &err);
        return;
    }
    status = api_open_source(job, 1, 0, &src, &err);
    if (status != PS_OK) {
        api_fail_status(job, status, ps_str_c(err.text));
        return;
    }
    answer_series(job, src, &what, limit);
    api_close_source(job, src);
}

/* ---- names and values ------------------------------------------------------------------------------------ */

static void
answer_texts(api_job *job, read_source *src, const idx_texts *texts, uint64_t limit)
{
    ps_buf json;
    bool truncated = limit > 0 && texts->n > limit;
    size_t n = truncated ? (size_t)limit : texts->n;
    begin_json(job, &json);
    ps_buf_add_char(&json, '[');
    for (size_t i = 0; i < n && !json.failed; i++) {
        if (i > 0)
            ps_buf_add_char(&json, ',');
        api_json_text(&json, texts->items[i], true);
    }
    ps_buf_add_char(&json, ']');
    answer(job, src, &json, truncated);
}

/* name NULL: names of labels, else values of that one. */
static void
find_texts(api_job *job, const ps_str *name)
{
    read_finding what = {0};
    read_source *src;
    idx_texts texts;
    uint64_t limit;
    ps_err err;
    ps_status status = read_window(job, &what, &limit, &err);
    if (status == PS_OK)
        status = labels_matches(job, &what.sets, &what.n_sets, &err);
    if (status != PS_OK) {
        api_fail_params(job, status, &err);
        return;
    }
    status = api_open_source(job, 1, 0, &src, &err);
    if (status != PS_OK) {
        api_fail_status(job, status, ps_str_c(err.text));
        return;
    }
    status = name == NULL ? read_find_names(src, &what, &texts, &err)
                          : read_find_values(src, &what, *name, &texts, &err);
    if (status == PS_OK)
        answer_texts(job, src, &texts, limit);
    else
        api_fail_status(job, status, ps_str_c(err.text));
    api_close_source(job, src);
}

void
labels_names(api_job *job, void *self)
{
    (void)self;
    find_texts(job, NULL);
}

/* <prefix><name>/values. False: another path. */
static bool
name_of_path(const http_request *r, ps_str *ret)
{
    static const ps_str prefix = {LABELS_VALUES_PREFIX, sizeof(LABELS_VALUES_PREFIX) - 1};
    static const ps_str suffix = {"/values", 7};
    ps_str path = http_path(r);
    if (!ps_str_starts(path, prefix) || path.len < prefix.len + suffix.len)
        return false;
    *ret = (ps_str){path.ptr + prefix.len, path.len - prefix.len - suffix.len};
    return ret->len > 0 &&
           ps_str_eq((ps_str){path.ptr + path.len - suffix.len, suffix.len}, suffix);
}

static void
not_found(api_job *job)
{
    ps_buf body;
    ps_buf_init(&body, &ps_malloc);
    ps_buf_add_c(&body, "404 page not found\n");
    api_respond(job, 404, "text/plain; charset=utf-8", &body);
    ps_buf_done(&body);
}

static void
bad_name(api_job *job, ps_str name)
{
    ps_buf text;
    ps_buf_init(&text, &ps_malloc);
    ps_buf_add_c(&text, "invalid label name: ");
    pql_quote(&text, name);
    api_fail_text(job, API_BAD_DATA, ps_buf_str(&text));
    ps_buf_done(&text);
}

void
labels_values(api_job *job, void *self)
{
    ps_str name;
    ps_err err;
    (void)self;
    if (!name_of_path(api_request(job), &name)) {
        not_found(job);
        return;
    }
    ps_status status = labels_unescape(api_arena(job), name, &name, &err);
    if (status != PS_OK)
        api_fail_status(job, status, ps_str_c(err.text));
    else if (name.len == 0 || !ps_utf8_valid(name))
        bad_name(job, name);
    else
        find_texts(job, &name);
}
