/*
 * numbers.c - whole numbers of parameters. Prometheus answers with its run-time library's words for what is
 * not one; clients show them, and the same words save somebody a search.
 */
#include "connector/api/api.h"
#include "lib/promql/promql.h"

static bool
all_digits(ps_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
    }
    return s.len > 0;
}

ps_status
api_parse_whole(ps_str s, const char *function, unsigned bits, int64_t *ret, ps_err *err)
{
    ps_str digits = s;
    const char *why = "invalid syntax";
    const int64_t max = (int64_t)((UINT64_C(1) << (bits - 1)) - 1);
    ps_buf quoted;

    if (s.len == 0) {
        *ret = INT64_MIN;
        return PS_OK;
    }
    if (s.ptr[0] == '-' || s.ptr[0] == '+')
        digits = (ps_str){s.ptr + 1, s.len - 1};
    if (all_digits(digits)) {
        if (ps_parse_i64(s.ptr[0] == '+' ? digits : s, ret) == PS_OK && *ret <= max &&
            *ret >= -max - 1)
            return PS_OK;
        why = "value out of range";
    }
    ps_buf_init(&quoted, &ps_malloc);
    pql_quote(&quoted, (ps_str){s.ptr, ps_utf8_prefix(s, 100)});
    ps_status st = ps_fail(err, PS_EINVAL, "%s: parsing %.*s: %s", function, (int)quoted.len,
                           quoted.ptr ? quoted.ptr : "", why);
    ps_buf_done(&quoted);
    return st;
}
