/*
 * params.c - parameters of endpoints: from a form in the body and from the URL, the body's first, as
 * clients of Prometheus have it. Times are Unix seconds or RFC 3339, durations are seconds or what PromQL
 * writes.
 */
#include <math.h>
#include <stdio.h>

#include "connector/api/internal.h"
#include "lib/promql/promql.h"

/* ---- the form -------------------------------------------------------------------------------------- */

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static ps_status
decode(ps_arena *arena, ps_str s, ps_str *ret, ps_err *err)
{
    char *dst = ps_arena_new(arena, s.len + 1);
    size_t n = 0;

    if (dst == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory");
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] != '%') {
            dst[n++] = s.ptr[i] == '+' ? ' ' : s.ptr[i];
            continue;
        }
        int hi = i + 2 < s.len ? hex_digit(s.ptr[i + 1]) : -1;
        int lo = i + 2 < s.len ? hex_digit(s.ptr[i + 2]) : -1;
        if (hi < 0 || lo < 0)
            return ps_fail(err, PS_EINVAL, "error parsing form values: bad percent-encoding");
        dst[n++] = (char)(hi << 4 | lo);
        i += 2;
    }
    *ret = (ps_str){dst, n};
    return PS_OK;
}

static ps_str
cut(ps_str *rest, char at)
{
    const char *p = rest->len ? memchr(rest->ptr, at, rest->len) : NULL;
    ps_str part = {rest->ptr, p ? (size_t)(p - rest->ptr) : rest->len};

    *rest = p ? (ps_str){p + 1, rest->len - part.len - 1} : (ps_str){"", 0};
    return part;
}

static bool
is_form(const http_request *r)
{
    ps_str type;

    if (http_method(r) != HTTP_POST || !http_header(r, "Content-Type", &type))
        return false;
    return ps_str_eq_nocase(ps_str_trim(cut(&type, ';')),
                            PS_STR("application/x-www-form-urlencoded"));
}

static ps_status
read_form(api_job *job, ps_str rest, ps_err *err)
{
    while (rest.len > 0) {
        ps_str value = cut(&rest, '&');
        if (value.len == 0)
            continue;
        ps_str name = cut(&value, '=');
        api_pair *pair = &job->params[job->n_params];
        PS_TRY(decode(&job->arena, name, &pair->name, err));
        PS_TRY(decode(&job->arena, value, &pair->value, err));
        job->n_params++;
    }
    return PS_OK;
}

ps_status
api_read_params(api_job *job, ps_err *err)
{
    ps_str form = is_form(job->r) ? http_body(job->r) : PS_STR("");
    size_t n = 1;
    ps_str name, value;

    for (size_t i = 0; i < form.len; i++)
        n += form.ptr[i] == '&';
    for (size_t i = 0; http_query_at(job->r, i, &name, &value); i++)
        n++;
    job->params = ps_arena_array(&job->arena, n, sizeof(*job->params));
    if (job->params == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory");
    PS_TRY(read_form(job, form, err));
    for (size_t i = 0; http_query_at(job->r, i, &name, &value); i++)
        job->params[job->n_params++] = (api_pair){name, value};
    return PS_OK;
}

static const api_pair *
find(const api_job *job, const char *name)
{
    for (size_t i = 0; i < job->n_params; i++) {
        if (ps_str_eq_c(job->params[i].name, name))
            return &job->params[i];
    }
    return NULL;
}

ps_str
api_param(const api_job *job, const char *name)
{
    const api_pair *pair = find(job, name);

    return pair != NULL ? pair->value : PS_STR("");
}

bool
api_has_param(const api_job *job, const char *name)
{
    return find(job, name) != NULL;
}

ps_status
api_params(api_job *job, const char *name, ps_str **ret, size_t *ret_n, ps_err *err)
{
    ps_str *values = ps_arena_array(&job->arena, job->n_params + 1, sizeof(*values));
    size_t n = 0;

    if (values == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory");
    for (size_t i = 0; i < job->n_params; i++) {
        if (ps_str_eq_c(job->params[i].name, name))
            values[n++] = job->params[i].value;
    }
    *ret = values;
    *ret_n = n;
    return PS_OK;
}

ps_status
api_bad_param(const char *name, ps_err *err)
{
    char reason[sizeof(err->text)];

    snprintf(reason, sizeof(reason), "%s", err->text);
    return ps_fail(err, PS_EINVAL, "invalid parameter \"%s\": %s", name, reason);
}

ps_status
api_time_param(const api_job *job, const char *name, int64_t absent, int64_t *ret_ms, ps_err *err)
{
    ps_str s = api_param(job, name);

    if (s.len == 0 && absent != INT64_MIN) {
        *ret_ms = absent;
        return PS_OK;
    }
    if (api_parse_time(s, ret_ms, err) == PS_OK)
        return PS_OK;
    if (absent != INT64_MIN) {
        char reason[sizeof(err->text)];
        snprintf(reason, sizeof(reason), "%s", err->text);
        (void)ps_fail(err, PS_EINVAL, "invalid time value for '%s': %s", name, reason);
    }
    return api_bad_param(name, err);
}

ps_status
api_limit_param(const api_job *job, const char *name, uint64_t *ret, ps_err *err)
{
    return api_parse_limit(api_param(job, name), ret, err) == PS_OK ? PS_OK
                                                                    : api_bad_param(name, err);
}

/* ---- times ---------------------------------------------------------------------------------------------- */

static bool
digits(ps_str *s, size_t n, int64_t *ret)
{
    *ret = 0;
    if (s->len < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (s->ptr[i] < '0' || s->ptr[i] > '9')
            return false;
        *ret = *ret * 10 + (s->ptr[i] - '0');
    }
    *s = (ps_str){s->ptr + n, s->len - n};
    return true;
}

static bool
literal(ps_str *s, char c)
{
    if (s->len == 0 || s->ptr[0] != c)
        return false;
    *s = (ps_str){s->ptr + 1, s->len - 1};
    return true;
}

/* Days since 1970-01-01 of a date of the Gregorian calendar (years counted from March, in eras of 400). */
static int64_t
days_of(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400, of_era = y - era * 400;
    int64_t of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static int64_t
days_in(int64_t y, int64_t m)
{
    static const int8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return days[m - 1] + (m == 2 && y % 4 == 0 && (y % 100 != 0 || y % 400 == 0));
}

static bool
fraction(ps_str *s, int64_t *ret_ms)
{
    int64_t scale = 100;

    *ret_ms = 0;
    if (!literal(s, '.'))
        return true;
    if (s->len == 0 || s->ptr[0] < '0' || s->ptr[0] > '9')
        return false;
    while (s->len > 0 && s->ptr[0] >= '0' && s->ptr[0] <= '9') {
        *ret_ms += (s->ptr[0] - '0') * scale;
        scale /= 10;
        *s = (ps_str){s->ptr + 1, s->len - 1};
    }
    return true;
}

static bool
zone(ps_str *s, int64_t *ret_ms)
{
    int64_t h, m, sign = 1;

    *ret_ms = 0;
    if (literal(s, 'Z'))
        return true;
    if (literal(s, '-'))
        sign = -1;
    else if (!literal(s, '+'))
        return false;
    if (!digits(s, 2, &h) || !literal(s, ':') || !digits(s, 2, &m) || h > 23 || m > 59)
        return false;
    *ret_ms = sign * (h * 60 + m) * 60000;
    return true;
}

static bool
parse_rfc3339(ps_str s, int64_t *ret_ms)
{
    int64_t y, mo, d, h, mi, sec, ms, off;

    if (!digits(&s, 4, &y) || !literal(&s, '-') || !digits(&s, 2, &mo) || !literal(&s, '-') ||
        !digits(&s, 2, &d) || !literal(&s, 'T') || !digits(&s, 2, &h) || !literal(&s, ':') ||
        !digits(&s, 2, &mi) || !literal(&s, ':') || !digits(&s, 2, &sec) || !fraction(&s, &ms) ||
        !zone(&s, &off) || s.len > 0)
        return false;
    if (mo < 1 || mo > 12 || d < 1 || d > days_in(y, mo) || h > 23 || mi > 59 || sec > 59)
        return false;
    *ret_ms = (((days_of(y, mo, d) * 24 + h) * 60 + mi) * 60 + sec) * 1000 + ms - off;
    return true;
}

static int64_t
within(double ms)
{
    if (ms <= (double)MDL_TIME_MIN_MS)
        return MDL_TIME_MIN_MS;
    return ms >= (double)MDL_TIME_MAX_MS ? MDL_TIME_MAX_MS : (int64_t)ms;
}

/* What Prometheus formats its smallest and largest time as; clients send them back. */
static bool
parse_boundary(ps_str s, int64_t *ret_ms)
{
    if (ps_str_eq_c(s, "-292273086-05-16T16:47:06Z"))
        *ret_ms = MDL_TIME_MIN_MS;
    else if (ps_str_eq_c(s, "292277025-08-18T07:12:54.999999999Z"))
        *ret_ms = MDL_TIME_MAX_MS;
    else
        return false;
    return true;
}

static ps_status
fail_quoted(ps_err *err, ps_str s, const char *what)
{
    ps_buf q;

    ps_buf_init(&q, &ps_malloc);
    pql_quote(&q, (ps_str){s.ptr, ps_utf8_prefix(s, 100)});
    ps_status st =
        ps_fail(err, PS_EINVAL, "cannot parse %.*s to %s", (int)q.len, q.ptr ? q.ptr : "", what);
    ps_buf_done(&q);
    return st;
}

ps_status
api_parse_time(ps_str s, int64_t *ret_ms, ps_err *err)
{
    double v;

    if (ps_parse_double(s, &v) == PS_OK && !isnan(v)) {
        double whole, part = modf(v, &whole);
        *ret_ms = within(whole * 1000 + round(part * 1000));
        return PS_OK;
    }
    if (parse_rfc3339(s, ret_ms) || parse_boundary(s, ret_ms))
        return PS_OK;
    return fail_quoted(err, s, "a valid timestamp");
}

ps_status
api_parse_duration(ps_str s, int64_t *ret_ns, ps_err *err)
{
    double v;
    int64_t ms;

    if (ps_parse_double(s, &v) == PS_OK && !isnan(v)) {
        if (v * 1e9 > 9.2233720368547748e18 || v * 1e9 < -9.2233720368547748e18)
            return fail_quoted(err, s, "a valid duration. It overflows int64");
        *ret_ns = (int64_t)(v * 1e9);
        return PS_OK;
    }
    if (ps_parse_duration(s, &ms) == PS_OK && ms <= INT64_MAX / 1000000) {
        *ret_ns = ms * 1000000;
        return PS_OK;
    }
    return fail_quoted(err, s, "a valid duration");
}

ps_status
api_parse_limit(ps_str s, uint64_t *ret, ps_err *err)
{
    int64_t v = 0;

    PS_TRY(api_parse_whole(s, "strconv.Atoi", 64, &v, err));
    if (v < 0 && s.len > 0)
        return ps_fail(err, PS_EINVAL, "limit must be non-negative");
    *ret = s.len > 0 ? (uint64_t)v : 0;
    return PS_OK;
}
