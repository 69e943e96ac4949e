/*
 * shim.cc - RE2 behind C functions: the only C++ of the project.
 *
 * What callers must never see is C++: no exception leaves (memory that runs out becomes PS_ENOMEM or
 * "no match"), nothing is written to stderr, and RE2's types stay here. Templates of the C++ library
 * are kept out as well, so that the object needs little of it.
 *
 * Two spellings are translated on the way in, since RE2 in C++ and the one in Go differ there:
 * "(?<name>" becomes "(?P<name>", and \C (any byte) is refused. Errors are worded as Go words them.
 *
 * An re_regex owns its RE2 and is immutable; RE2's own cache is locked inside.
 */
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <new>

#include <re2/re2.h>

extern "C" {
#include "lib/regex/internal.h"
}

using re2::RE2;
using re2::StringPiece;

struct re_regex {
    RE2 re;
    re_regex(const StringPiece &pattern, const RE2::Options &options) : re(pattern, options) {}
};

static const char *
error_text(RE2::ErrorCode code)
{
    switch (code) {
    case RE2::ErrorBadEscape:
        return "invalid escape sequence";
    case RE2::ErrorBadCharClass:
        return "invalid character class";
    case RE2::ErrorBadCharRange:
        return "invalid character class range";
    case RE2::ErrorMissingBracket:
        return "missing closing ]";
    case RE2::ErrorMissingParen:
        return "missing closing )";
    case RE2::ErrorUnexpectedParen:
        return "unexpected )";
    case RE2::ErrorTrailingBackslash:
        return "trailing backslash at end of expression";
    case RE2::ErrorRepeatArgument:
        return "missing argument to repetition operator";
    case RE2::ErrorRepeatSize:
        return "invalid repeat count";
    case RE2::ErrorRepeatOp:
        return "invalid nested repetition operator";
    case RE2::ErrorBadPerlOp:
        return "invalid or unsupported Perl syntax";
    case RE2::ErrorBadUTF8:
        return "invalid UTF-8";
    case RE2::ErrorBadNamedCapture:
        return "invalid named capture";
    case RE2::ErrorPatternTooLarge:
        return "expression too large";
    default:
        return "internal error";
    }
}

static ps_status
fail(ps_err *err, ps_status code, const char *why, const char *what, size_t len)
{
    ps_str shown = {what, len};
    shown.len = ps_utf8_prefix(shown, 160);
    if (!ps_utf8_valid(shown))
        shown.len = 0; /* error texts are UTF-8 */
    return ps_fail(err, code, "error parsing regexp: %s: `%.*s`", why, (int)shown.len, shown.ptr);
}

/*
 * Copies the pattern in RE2's spelling: into `to`, which has room for three more bytes for every four
 * of it. Returns the length, or SIZE_MAX where \C was met. Text in \Q..\E and in classes is copied as
 * it is.
 */
static size_t
respell(const char *p, size_t n, char *to)
{
    size_t out = 0;
    size_t class_from = SIZE_MAX; /* index of the first byte of the class's content */
    for (size_t i = 0; i < n; i++) {
        bool in_class = class_from != SIZE_MAX;
        if (p[i] == '\\' && i + 1 < n) {
            if (!in_class && p[i + 1] == 'C')
                return SIZE_MAX;
            if (!in_class && p[i + 1] == 'Q') {
                const char *end = (const char *)memmem(p + i, n - i, "\\E", 2);
                size_t to_end = end == NULL ? n - i : (size_t)(end - (p + i)) + 2;
                memcpy(to + out, p + i, to_end);
                out += to_end;
                i += to_end - 1;
                continue;
            }
            to[out++] = p[i++];
        } else if (!in_class && p[i] == '[') {
            to[out++] = p[i];
            if (i + 1 < n && p[i + 1] == '^')
                to[out++] = p[++i];
            class_from = i + 1;
            continue;
        } else if (in_class && p[i] == '[' && i + 1 < n && p[i + 1] == ':') {
            const char *end = (const char *)memmem(p + i, n - i, ":]", 2);
            if (end != NULL) {
                size_t to_end = (size_t)(end - (p + i)) + 2;
                memcpy(to + out, p + i, to_end);
                out += to_end;
                i += to_end - 1;
                continue;
            }
        } else if (in_class && p[i] == ']' && i > class_from) {
            class_from = SIZE_MAX;
        } else if (!in_class && n - i > 3 && memcmp(p + i, "(?<", 3) == 0 && p[i + 3] != '=' &&
                   p[i + 3] != '!') {
            memcpy(to + out, "(?P<", 4);
            out += 4;
            i += 2;
            continue;
        }
        to[out++] = p[i];
    }
    return out;
}

static ps_status
compile(ps_str pattern, const char *text, size_t len, re_regex **ret, ps_err *err)
{
    RE2::Options options;
    options.set_encoding(RE2::Options::EncodingUTF8);
    options.set_dot_nl(true);
    options.set_log_errors(false);
    options.set_max_mem(RE_MAX_PROGRAM_BYTES);
    re_regex *re = new (std::nothrow) re_regex(StringPiece(text, len), options);
    if (re == nullptr)
        return ps_fail(err, PS_ENOMEM, "out of memory for a regular expression");
    if (re->re.ok()) {
        /* RE2 in C++ does not mind two groups of one name */
        if (re->re.NamedCapturingGroups().size() == re->re.CapturingGroupNames().size()) {
            *ret = re;
            return PS_OK;
        }
        delete re;
        return fail(err, PS_EINVAL, "duplicate name of a group", pattern.ptr, pattern.len);
    }
    RE2::ErrorCode code = re->re.error_code();
    ps_status status = code == RE2::ErrorPatternTooLarge ? PS_ELIMIT : PS_EINVAL;
    const char *what = re->re.error_arg().data();
    size_t what_len = re->re.error_arg().size();
    if (what_len == 0 || code == RE2::ErrorMissingParen || code == RE2::ErrorUnexpectedParen) {
        what = pattern.ptr;
        what_len = pattern.len;
    }
    status = fail(err, status, error_text(code), what, what_len);
    delete re;
    return status;
}

extern "C" ps_status
re_compile(ps_str pattern, re_regex **ret, ps_err *err)
{
    if (pattern.len > RE_MAX_PATTERN_BYTES)
        return ps_fail(err, PS_ELIMIT, "regular expression of %zu bytes, at most %d are allowed",
                       pattern.len, (int)RE_MAX_PATTERN_BYTES);
    if (pattern.len == 0)
        pattern.ptr = "";
    char *text = new (std::nothrow) char[pattern.len + pattern.len / 3 + 4];
    if (text == nullptr)
        return ps_fail(err, PS_ENOMEM, "out of memory for a regular expression");
    size_t len = respell(pattern.ptr, pattern.len, text);
    ps_status status;
    if (len == SIZE_MAX) {
        status = fail(err, PS_EINVAL, "invalid escape sequence", "\\C", 2);
    } else {
        try {
            status = compile(pattern, text, len, ret, err);
        } catch (...) {
            status = ps_fail(err, PS_ENOMEM, "out of memory for a regular expression");
        }
    }
    delete[] text;
    return status;
}

extern "C" void
re_free(re_regex *re)
{
    delete re;
}

static bool
match(const re_regex *re, ps_str s, RE2::Anchor anchor)
{
    try {
        StringPiece text(s.len == 0 ? "" : s.ptr, s.len);
        return re->re.Match(text, 0, s.len, anchor, nullptr, 0);
    } catch (...) {
        return false;
    }
}

extern "C" bool
re_matches(const re_regex *re, ps_str s)
{
    return match(re, s, RE2::ANCHOR_BOTH);
}

extern "C" bool
re_search(const re_regex *re, ps_str s)
{
    return match(re, s, RE2::UNANCHORED);
}

/* ---- groups ------------------------------------------------------------------------------------ */

extern "C" size_t
re_group_count(const re_regex *re)
{
    int n = re->re.NumberOfCapturingGroups();
    return n < 0 ? 0 : (size_t)n;
}

extern "C" int
re_group_named(const re_regex *re, ps_str name)
{
    /* Walked rather than looked up: a look-up would want the name as a std::string. */
    for (const auto &group : re->re.NamedCapturingGroups()) {
        if (group.first.size() == name.len && memcmp(group.first.data(), name.ptr, name.len) == 0)
            return group.second;
    }
    return -1;
}

extern "C" bool
re_match_groups(const re_regex *re, ps_str s, re_group *ret, size_t n)
{
    if (n > INT_MAX / sizeof(StringPiece))
        return false;
    StringPiece *groups = new (std::nothrow) StringPiece[n];
    if (groups == nullptr)
        return false;
    bool matched = false;
    try {
        StringPiece text(s.len == 0 ? "" : s.ptr, s.len);
        matched = re->re.Match(text, 0, s.len, RE2::ANCHOR_BOTH, groups, (int)n);
    } catch (...) {
    }
    for (size_t i = 0; i < n && matched; i++) {
        ret[i].ptr = groups[i].data();
        ret[i].len = groups[i].size();
    }
    delete[] groups;
    return matched;
}

extern "C" size_t
re_name_length(ps_str s)
{
    size_t n = 0;
    while (n < s.len && ((s.ptr[n] >= '0' && s.ptr[n] <= '9') || s.ptr[n] == '_' ||
                         ((s.ptr[n] | 0x20) >= 'a' && (s.ptr[n] | 0x20) <= 'z')))
        n++;
    if (n == s.len || (unsigned char)s.ptr[n] < 0x80)
        return n;
    /* Beyond ASCII RE2's own tables say what a letter is. Rare, hence compiled each time. */
    try {
        RE2::Options options;
        options.set_log_errors(false);
        RE2 letters("[\\pL\\p{Nd}_]+", options);
        StringPiece text(s.ptr, s.len);
        StringPiece found;
        if (letters.ok() && letters.Match(text, 0, s.len, RE2::ANCHOR_START, &found, 1))
            return found.size();
    } catch (...) {
    }
    return n;
}
