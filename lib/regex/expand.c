/*
 * expand.c - the replacement of label_replace: groups of a match put into a template.
 *
 * The rules are those of Go's regexp.Expand. A name is as long as it can be, so "$1x" is the group "1x",
 * which does not exist and gives nothing; "${1}x" is what was meant. A "$" that begins no name stays.
 */
#include "lib/regex/internal.h"

enum { FEW_GROUPS = 16, MAX_GROUP_NUMBER = 100000000 };

/* "$" has been read; what follows is a reference if true is returned: *name, and *len bytes of it. */
static bool
read_reference(ps_str s, ps_str *name, size_t *len)
{
    bool brace = s.len > 0 && s.ptr[0] == '{';
    size_t at = brace ? 1 : 0;
    if (at >= s.len)
        return false;
    ps_str rest = {s.ptr + at, s.len - at};
    size_t n = re_name_length(rest);
    if (n == 0)
        return false;
    *name = (ps_str){rest.ptr, n};
    at += n;
    if (brace) {
        if (at >= s.len || s.ptr[at] != '}')
            return false;
        at++;
    }
    *len = at;
    return true;
}

/* The number that a name is, -1 if it is a name: leading zeros make a name. */
static int64_t
group_number(ps_str name)
{
    int64_t n = 0;
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] < '0' || name.ptr[i] > '9' || n >= MAX_GROUP_NUMBER)
            return -1;
        n = n * 10 + (name.ptr[i] - '0');
    }
    return name.len > 1 && name.ptr[0] == '0' ? -1 : n;
}

static void
expand(const re_regex *re, const re_group *groups, size_t n_groups, ps_str template_, ps_buf *out)
{
    for (size_t at = 0; at < template_.len;) {
        const char *dollar = memchr(template_.ptr + at, '$', template_.len - at);
        size_t plain = dollar == NULL ? template_.len - at : (size_t)(dollar - template_.ptr) - at;
        ps_buf_add(out, template_.ptr + at, plain);
        at += plain;
        if (dollar == NULL)
            return;
        at++;
        ps_str rest = {template_.ptr + at, template_.len - at};
        ps_str name;
        size_t len;
        if (rest.len > 0 && rest.ptr[0] == '$') {
            ps_buf_add_char(out, '$');
            at++;
        } else if (!read_reference(rest, &name, &len)) {
            ps_buf_add_char(out, '$');
        } else {
            int64_t number = group_number(name);
            if (number < 0)
                number = re_group_named(re, name);
            if (number >= 0 && (uint64_t)number < n_groups && groups[number].ptr != NULL)
                ps_buf_add_str(out, groups[number]);
            at += len;
        }
    }
}

bool
re_expand(const re_regex *re, ps_str s, ps_str template_, ps_buf *out)
{
    re_group few[FEW_GROUPS];
    size_t n = re_group_count(re) + 1;
    if (n <= FEW_GROUPS) {
        if (!re_match_groups(re, s, few, n))
            return false;
        expand(re, few, n, template_, out);
        return true;
    }
    re_group *groups = ps_alloc_array(&out->alloc, n, sizeof *groups);
    if (groups == NULL) {
        out->failed = true;
        return true;
    }
    bool matched = re_match_groups(re, s, groups, n);
    if (matched)
        expand(re, groups, n, template_, out);
    ps_alloc_free(&out->alloc, groups, n * sizeof *groups);
    return matched;
}
