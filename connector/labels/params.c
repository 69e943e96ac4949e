/*
 * params.c - what requests for labels ask for: matcher sets, names in their escaped form.
 */
#include "connector/labels/labels.h"
#include "lib/promql/promql.h"

/* A set of matchers that all match the empty value would select series by what they do not have: all of
 * them, usually. */
static bool
selects_something(const pql_selector *s, ps_status *ret_status, ps_err *err)
{
    *ret_status = PS_OK;
    for (size_t i = 0; i < s->n_matchers; i++) {
        re_matcher *m;
        *ret_status = re_matcher_new(&ps_malloc, &s->matchers[i], &m, err);
        if (*ret_status != PS_OK)
            return false;
        bool empty = re_matcher_matches_empty(m);
        re_matcher_free(m);
        if (!empty)
            return true;
    }
    return false;
}

static ps_status
read_match_param(api_job *job, ps_str text, read_match *ret, ps_err *err)
{
    pql_expr *expr;
    pql_error error;
    ps_status status = pql_parse_selector(api_arena(job), text, &expr, &error);
    if (status != PS_OK)
        return ps_fail(err, status == PS_ENOMEM ? PS_ENOMEM : PS_EINVAL, "%s", error.text);
    *ret = (read_match){expr->selector.matchers, expr->selector.n_matchers};
    return PS_OK;
}

ps_status
labels_matches(api_job *job, const read_match **ret, size_t *ret_n, ps_err *err)
{
    ps_str *texts;
    size_t n;
    PS_TRY(api_params(job, "match[]", &texts, &n, err));
    read_match *sets = ps_arena_array(api_arena(job), n + 1, sizeof(*sets));
    if (sets == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory");
    for (size_t i = 0; i < n; i++)
        PS_TRY(read_match_param(job, texts[i], &sets[i], err));
    for (size_t i = 0; i < n; i++) {
        pql_selector s = {.matchers = (mdl_matcher *)sets[i].matchers, .n_matchers = sets[i].n};
        ps_status status;
        if (selects_something(&s, &status, err))
            continue;
        PS_TRY(status);
        return ps_fail(err, PS_EINVAL, "match[] must contain at least one non-empty matcher");
    }
    *ret = sets;
    *ret_n = n;
    return PS_OK;
}

/* ---- escaped names ---------------------------------------------------------------------------------- */

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static size_t
put_rune(char *dst, uint32_t c)
{
    if (c < 0x80) {
        dst[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; --i > 0; c >>= 6)
        dst[i] = (char)(0x80 | (c & 0x3f));
    dst[0] = (char)(0xf00 >> n | c);
    return n;
}

/* After an underscore: another one, or a code in hexadecimal and an underscore. Returns what it takes of the
 * text, 0 if it is none of these. */
static size_t
read_code(ps_str s, char *dst, size_t *ret_written)
{
    enum { MAX_DIGITS = 5 };
    uint32_t c = 0;
    if (s.len > 0 && s.ptr[0] == '_') {
        *dst = '_';
        *ret_written = 1;
        return 1;
    }
    for (size_t i = 0; i < s.len && i <= MAX_DIGITS; i++) {
        if (s.ptr[i] == '_') {
            if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
                return 0;
            *ret_written = put_rune(dst, c);
            return i + 1;
        }
        int digit = hex_digit(s.ptr[i]);
        if (digit < 0)
            return 0;
        c = c << 4 | (uint32_t)digit;
    }
    return 0;
}

ps_status
labels_unescape(ps_arena *arena, ps_str name, ps_str *ret, ps_err *err)
{
    *ret = name;
    if (!ps_str_starts(name, PS_STR("U__")))
        return PS_OK;
    char *dst = ps_arena_new(arena, name.len + 1);
    size_t n = 0;
    if (dst == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory");
    for (size_t i = 3; i < name.len;) {
        size_t written;
        if (name.ptr[i] != '_') {
            dst[n++] = name.ptr[i++];
            continue;
        }
        size_t taken = read_code((ps_str){name.ptr + i + 1, name.len - i - 1}, dst + n, &written);
        if (taken == 0)
            return PS_OK;
        n += written;
        i += taken + 1;
    }
    *ret = (ps_str){dst, n};
    return PS_OK;
}
