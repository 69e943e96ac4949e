/*
 * str.c - borrowed byte slices: comparing, trimming.
 *
 * A slice may be empty with a NULL pointer, which memcmp and friends must never see; every function
 * here looks at the length first.
 */
#include "lib/base/base.h"

ps_str
ps_str_c(const char *nul_terminated)
{
    if (nul_terminated == NULL)
        return (ps_str){NULL, 0};
    return (ps_str){nul_terminated, strlen(nul_terminated)};
}

bool
ps_str_eq(ps_str a, ps_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool
ps_str_eq_c(ps_str a, const char *b)
{
    return ps_str_eq(a, ps_str_c(b));
}

int
ps_str_cmp(ps_str a, ps_str b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common == 0 ? 0 : memcmp(a.ptr, b.ptr, common);
    if (order != 0)
        return order < 0 ? -1 : 1;
    return (a.len > b.len) - (a.len < b.len);
}

bool
ps_str_starts(ps_str s, ps_str prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

static char
ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool
ps_str_eq_nocase(ps_str a, ps_str b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++) {
        if (ascii_lower(a.ptr[i]) != ascii_lower(b.ptr[i]))
            return false;
    }
    return true;
}

static bool
is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

ps_str
ps_str_trim(ps_str s)
{
    while (s.len > 0 && is_space(s.ptr[s.len - 1]))
        s.len--;
    while (s.len > 0 && is_space(*s.ptr)) {
        s.ptr++;
        s.len--;
    }
    return s;
}
