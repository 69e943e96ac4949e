/*
 * elsewhere.c - rules, alerts, targets: a Prometheus in front of us has them, we have none. Dashboards and
 * tools ask for them all the same and must get an empty list and not an error; parameters are checked as if
 * there were something to choose from.
 */
#include "connector/info/internal.h"
#include "lib/regex/regex.h"

/* ---- match[] ------------------------------------------------------------------------------------------ */

static bool
matches_nothing(const mdl_matcher *m, ps_err *err)
{
    re_matcher *compiled = NULL;

    if (re_matcher_new(&ps_malloc, m, &compiled, err) != PS_OK)
        return false;
    bool empty = re_matcher_matches_empty(compiled);
    re_matcher_free(compiled);
    return empty;
}

/* False: it was answered. */
static bool
check_matches(api_job *job)
{
    ps_str *texts;
    size_t n;
    ps_err err;

    ps_status st = api_params(job, "match[]", &texts, &n, &err);
    if (st != PS_OK) {
        api_fail_status(job, st, ps_str_c(err.text));
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        pql_expr *expr;
        pql_error error;
        if (pql_parse_selector(api_arena(job), texts[i], &expr, &error) != PS_OK) {
            api_fail(job, API_BAD_DATA, "%s", error.text);
            return false;
        }
        bool any = false;
        for (size_t k = 0; k < expr->selector.n_matchers && !any; k++)
            any = !matches_nothing(&expr->selector.matchers[k], &err);
        if (!any) {
            api_fail(job, API_BAD_DATA, "match[] must contain at least one non-empty matcher");
            return false;
        }
    }
    return true;
}

/* ---- rules -------------------------------------------------------------------------------------------- */

static ps_str
lower(api_job *job, ps_str s)
{
    char *copy = ps_arena_new(api_arena(job), s.len + 1);

    if (copy == NULL)
        return s;
    for (size_t i = 0; i < s.len; i++)
        copy[i] = s.ptr[i] >= 'A' && s.ptr[i] <= 'Z' ? (char)(s.ptr[i] + 32) : s.ptr[i];
    return (ps_str){copy, s.len};
}

static ps_status
fail_quoted(ps_err *err, const char *before, ps_str s, const char *after)
{
    ps_buf quoted;

    ps_buf_init(&quoted, &ps_malloc);
    pql_quote(&quoted, (ps_str){s.ptr, ps_utf8_prefix(s, 100)});
    ps_status st = ps_fail(err, PS_EINVAL, "%s%.*s%s", before, (int)quoted.len,
                           quoted.ptr ? quoted.ptr : "", after);
    ps_buf_done(&quoted);
    return st;
}

static ps_status
check_type(api_job *job, ps_err *err)
{
    ps_str type = lower(job, api_param(job, "type"));

    if (type.len == 0 || ps_str_eq_c(type, "alert") || ps_str_eq_c(type, "record"))
        return PS_OK;
    (void)fail_quoted(err, "not supported value ", type, "");
    return api_bad_param("type", err);
}

static ps_status
check_exclude_alerts(api_job *job, ps_err *err)
{
    static const char *const words[] = {"1", "t", "true", "0", "f", "false"};
    ps_str s = lower(job, api_param(job, "exclude_alerts"));

    for (size_t i = 0; i < PS_ARRAY_LEN(words); i++) {
        if (s.len == 0 || ps_str_eq_c(s, words[i]))
            return PS_OK;
    }
    (void)fail_quoted(err, "error converting exclude_alerts: strconv.ParseBool: parsing ", s,
                      ": invalid syntax");
    return api_bad_param("exclude_alerts", err);
}

static ps_status
check_pages(const api_job *job, ps_err *err)
{
    ps_str limit = api_param(job, "group_limit"), token = api_param(job, "group_next_token");
    int64_t n = 0;

    if (token.len > 0 && limit.len == 0) {
        (void)ps_fail(err, PS_EINVAL,
                      "group_limit needs to be present in order to paginate over the groups");
        return api_bad_param("group_next_token", err);
    }
    if (limit.len == 0)
        return PS_OK;
    if (api_parse_whole(limit, "group_limit needs to be a valid number: strconv.ParseInt", 32, &n,
                        err) != PS_OK)
        return api_bad_param("group_limit", err);
    if (n <= 0) {
        (void)ps_fail(err, PS_EINVAL, "group_limit needs to be greater than 0");
        return api_bad_param("group_limit", err);
    }
    if (token.len == 0)
        return PS_OK;
    (void)ps_fail(err, PS_EINVAL, "invalid group_next_token '%.*s'. were rule groups changed?",
                  (int)ps_utf8_prefix(token, 200), token.ptr);
    return api_bad_param("group_next_token", err);
}

void
info_rules(api_job *job, void *self)
{
    ps_err err;

    (void)self;
    if (!check_matches(job))
        return;
    ps_status st = check_type(job, &err);
    if (st == PS_OK)
        st = check_exclude_alerts(job, &err);
    if (st == PS_OK)
        st = check_pages(job, &err);
    if (st == PS_OK)
        info_answer_text(job, "{\"groups\":[]}");
    else
        api_fail_params(job, st, &err);
}

void
info_alerts(api_job *job, void *self)
{
    (void)self;
    info_answer_text(job, "{\"alerts\":[]}");
}

void
info_alertmanagers(api_job *job, void *self)
{
    (void)self;
    info_answer_text(job, "{\"activeAlertmanagers\":[],\"droppedAlertmanagers\":[]}");
}

/* ---- targets ------------------------------------------------------------------------------------------ */

/* Dropped ones are not counted unless they are asked for: null, not {}. */
void
info_targets(api_job *job, void *self)
{
    ps_str state = lower(job, api_param(job, "state"));
    bool dropped = state.len == 0 || ps_str_eq_c(state, "any") || ps_str_eq_c(state, "dropped");

    (void)self;
    info_answer_text(
        job, dropped ? "{\"activeTargets\":[],\"droppedTargets\":[],\"droppedTargetCounts\":{}}"
                     : "{\"activeTargets\":[],\"droppedTargets\":[],\"droppedTargetCounts\":null}");
}

void
info_target_metadata(api_job *job, void *self)
{
    ps_str match = api_param(job, "match_target");
    int64_t limit;
    ps_err err;
    pql_expr *expr;
    pql_error error;

    (void)self;
    if (api_parse_whole(api_param(job, "limit"), "limit", 64, &limit, &err) != PS_OK)
        api_fail(job, API_BAD_DATA, "limit must be a number");
    else if (match.len > 0 && pql_parse_selector(api_arena(job), match, &expr, &error) != PS_OK)
        api_fail(job, API_BAD_DATA, "invalid parameter \"match_target\": %s", error.text);
    else
        info_answer_text(job, "[]");
}

void
info_scrape_pools(api_job *job, void *self)
{
    (void)self;
    info_answer_text(job, "{\"scrapePools\":[]}");
}

void
info_notifications(api_job *job, void *self)
{
    (void)self;
    info_answer_text(job, "[]");
}
