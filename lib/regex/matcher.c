/*
 * matcher.c - matchers that run: most patterns never reach RE2.
 *
 * What people write in =~ is nearly always a list of strings, a prefix or "anything". Patterns of these
 * shapes are recognised here and run as what they are; the rest is RE2's. A shape is only recognised
 * where it means for certain what RE2 would make of it: whatever is unusual (flags, classes, escapes of
 * letters, braces) is left to RE2.
 *
 * Shapes, with lit for text without special characters ("\." is text):
 *     [^] lit [$]     lit|lit|...     lit(lit|lit)lit     [any] [lit] [any], any being .* or .+
 * The whole value has to match, so "^" in front and "$" behind say nothing.
 *
 * A matcher is one object of the caller's allocator, and an arena over the same for its texts.
 */
#include "lib/regex/internal.h"

/* A product of parts "a(b|c)d" may become longer than the pattern: up to this factor. */
enum { MAX_SET_GROWTH = 8 };

typedef enum shape { SHAPE_SET, SHAPE_AROUND, SHAPE_REGEX } shape;
/* What stands in front of or behind the text of SHAPE_AROUND. */
typedef enum any { ANY_NONE, ANY_STAR, ANY_PLUS } any;

struct re_matcher {
    ps_alloc alloc;
    ps_arena arena;
    mdl_matcher of;
    bool negated;
    shape shape;
    const ps_str *set; /* SHAPE_SET: ascending, unique */
    size_t n_set;
    any before, behind; /* SHAPE_AROUND */
    ps_str text;
    ps_str prefix; /* of SHAPE_REGEX, found apart */
    re_regex *re;
    bool matches_empty;
};

/* ---- reading patterns --------------------------------------------------------------------------- */

static bool
is_special(char c)
{
    return memchr("\\.+*?()|[]{}^$", c, 14) != NULL;
}

static bool
is_punctuation(char c)
{
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
}

/* Text from p[*at] on, its escapes undone, to the first special character. */
static ps_status
read_text(ps_arena *arena, ps_str p, size_t *at, ps_str *ret)
{
    char *to = ps_arena_new(arena, p.len - *at + 1);
    if (to == NULL)
        return PS_ENOMEM;
    size_t n = 0;
    size_t i = *at;
    for (; i < p.len; i++) {
        if (p.ptr[i] == '\\' && i + 1 < p.len && is_punctuation(p.ptr[i + 1]))
            i++;
        else if (is_special(p.ptr[i]))
            break;
        to[n++] = p.ptr[i];
    }
    *at = i;
    *ret = (ps_str){to, n};
    return PS_OK;
}

static any
read_any(ps_str p, size_t *at)
{
    if (p.len - *at < 2 || p.ptr[*at] != '.' || (p.ptr[*at + 1] != '*' && p.ptr[*at + 1] != '+'))
        return ANY_NONE;
    *at += 2;
    return p.ptr[*at - 1] == '*' ? ANY_STAR : ANY_PLUS;
}

/* A quantifier binds to the last character before it. */
static bool
at_quantifier(ps_str p, size_t at)
{
    return at < p.len && memchr("*+?{", p.ptr[at], 4) != NULL;
}

static ps_status
read_around(re_matcher *m, ps_str p, bool *ret)
{
    size_t at = 0;
    *ret = false;
    m->before = read_any(p, &at);
    if (at_quantifier(p, at))
        return PS_OK; /* ".*?" */
    PS_TRY(read_text(&m->arena, p, &at, &m->text));
    if (at_quantifier(p, at))
        return PS_OK;
    m->behind = read_any(p, &at);
    /* ".*.+" is not worth a case of its own */
    *ret = at == p.len && !(m->text.len == 0 && m->behind != ANY_NONE && m->before != ANY_NONE);
    if (*ret)
        m->shape = SHAPE_AROUND;
    return PS_OK;
}

/* Alternatives "a|b|c" from p[*at] on to the first other special character. */
static ps_status
read_list(ps_arena *arena, ps_str p, size_t *at, ps_str **ret, size_t *ret_n)
{
    size_t max = 1;
    for (size_t i = *at; i < p.len; i++)
        max += p.ptr[i] == '|';
    ps_str *items = ps_arena_array(arena, max, sizeof *items);
    if (items == NULL)
        return PS_ENOMEM;
    /* one piece of memory for all texts: read_text() would take the rest of the pattern for each */
    char *to = ps_arena_new(arena, p.len - *at + 1);
    if (to == NULL)
        return PS_ENOMEM;
    size_t n = 0;
    size_t len = 0;
    size_t i = *at;
    for (; i < p.len; i++) {
        if (p.ptr[i] == '|') {
            items[n++] = (ps_str){to, len};
            to += len;
            len = 0;
            continue;
        }
        if (p.ptr[i] == '\\' && i + 1 < p.len && is_punctuation(p.ptr[i + 1]))
            i++;
        else if (is_special(p.ptr[i]))
            break;
        to[len++] = p.ptr[i];
    }
    items[n++] = (ps_str){to, len};
    *at = i;
    *ret = items;
    *ret_n = n;
    return PS_OK;
}

static void
sift_down(ps_str *items, size_t root, size_t n)
{
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && ps_str_cmp(items[child], items[child + 1]) < 0)
            child++;
        if (ps_str_cmp(items[root], items[child]) >= 0)
            return;
        ps_str swap = items[root];
        items[root] = items[child];
        items[child] = swap;
    }
}

/* Heapsort: patterns come from clients. Returns the number that is left without doubles. */
static size_t
sort_unique(ps_str *items, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_down(items, i, n);
    for (size_t last = n; last-- > 1;) {
        ps_str swap = items[0];
        items[0] = items[last];
        items[last] = swap;
        sift_down(items, 0, last);
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (kept == 0 || ps_str_cmp(items[kept - 1], items[i]) != 0)
            items[kept++] = items[i];
    }
    return kept;
}

/* Puts `head` before and `tail` behind every item. *ret: false where that would grow too large. */
static ps_status
wrap_items(ps_arena *arena, ps_str *items, size_t n, ps_str head, ps_str tail, size_t pattern_len,
           bool *ret)
{
    size_t total = 0;
    *ret = false;
    for (size_t i = 0; i < n; i++) {
        total += head.len + items[i].len + tail.len;
        if (total > MAX_SET_GROWTH * pattern_len + 256)
            return PS_OK;
    }
    char *to = ps_arena_new(arena, total + 1);
    if (to == NULL)
        return PS_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        ps_str made = {to, head.len + items[i].len + tail.len};
        memcpy(to, head.ptr, head.len);
        memcpy(to + head.len, items[i].ptr, items[i].len);
        memcpy(to + head.len + items[i].len, tail.ptr, tail.len);
        to += made.len;
        items[i] = made;
    }
    *ret = true;
    return PS_OK;
}

/* "a|b|c" or "head(a|b|c)tail". */
static ps_status
read_set(re_matcher *m, ps_str p, bool *ret)
{
    size_t at = 0;
    ps_str *items;
    size_t n;
    *ret = false;
    PS_TRY(read_list(&m->arena, p, &at, &items, &n));
    if (at < p.len) {
        if (n != 1 || p.ptr[at] != '(')
            return PS_OK;
        ps_str head = items[0];
        ps_str tail;
        at++;
        if (p.len - at >= 2 && p.ptr[at] == '?' && p.ptr[at + 1] == ':')
            at += 2;
        PS_TRY(read_list(&m->arena, p, &at, &items, &n));
        if (at == p.len || p.ptr[at] != ')')
            return PS_OK;
        at++;
        PS_TRY(read_text(&m->arena, p, &at, &tail));
        if (at != p.len)
            return PS_OK;
        bool fits;
        PS_TRY(wrap_items(&m->arena, items, n, head, tail, p.len, &fits));
        if (!fits)
            return PS_OK;
    }
    m->set = items;
    m->n_set = sort_unique(items, n);
    m->shape = SHAPE_SET;
    *ret = true;
    return PS_OK;
}

/*
 * The text that every match of a general pattern begins with. Alternatives at the outer level would
 * each have a beginning of their own: where there may be some, there is no prefix. Brackets of classes
 * would fool the counting of parentheses, as would \Q.
 */
static ps_status
find_prefix(ps_arena *arena, ps_str p, ps_str *ret)
{
    size_t depth = 0;
    bool has_class = memchr(p.ptr, '[', p.len) != NULL;
    for (size_t i = 0; i < p.len; i++) {
        if (p.ptr[i] == '\\') {
            if (i + 1 < p.len && p.ptr[i + 1] == 'Q')
                return PS_OK;
            i++;
        } else if (p.ptr[i] == '(') {
            depth++;
        } else if (p.ptr[i] == ')') {
            depth -= depth > 0;
        } else if (p.ptr[i] == '|' && (depth == 0 || has_class)) {
            return PS_OK;
        }
    }
    size_t at = p.len > 0 && p.ptr[0] == '^' ? 1 : 0;
    ps_str text;
    PS_TRY(read_text(arena, p, &at, &text));
    ps_str rest = {p.ptr + at, p.len - at};
    bool flags = ps_str_starts(rest, PS_STR("(?")) && !ps_str_starts(rest, PS_STR("(?:"));
    if (at_quantifier(p, at) || flags) {
        /* the last character may be there or not (in "a(?i)*", too); it may be several bytes long */
        while (text.len > 0 && ((unsigned char)text.ptr[text.len - 1] & 0xc0) == 0x80)
            text.len--;
        if (text.len > 0)
            text.len--;
    }
    *ret = text;
    return PS_OK;
}

/* ---- making ----------------------------------------------------------------------------------------- */

/* Without what says nothing in an anchored pattern. "a$|b" keeps it: there it may say something. */
static ps_str
strip_anchors(ps_str p)
{
    if (memchr(p.ptr, '|', p.len) != NULL)
        return p;
    if (p.len > 0 && p.ptr[0] == '^') {
        p.ptr++;
        p.len--;
    }
    if (p.len > 0 && p.ptr[p.len - 1] == '$') {
        size_t escapes = 0;
        while (escapes + 1 < p.len && p.ptr[p.len - 2 - escapes] == '\\')
            escapes++;
        if (escapes % 2 == 0)
            p.len--;
    }
    return p;
}

static ps_status
compile_pattern(re_matcher *m, ps_err *err)
{
    ps_str p = m->of.value;
    bool known = false;
    ps_status status = PS_OK;
    if (p.len > RE_MAX_PATTERN_BYTES || !ps_utf8_valid(p))
        return re_compile(p, &m->re, err); /* for its words */
    ps_str bare = strip_anchors(p);
    status = read_around(m, bare, &known);
    if (status == PS_OK && (!known || (m->before == ANY_NONE && m->behind == ANY_NONE)))
        status = read_set(m, bare, &known);
    if (status == PS_OK && !known) {
        m->shape = SHAPE_REGEX;
        status = find_prefix(&m->arena, p, &m->prefix);
        if (status == PS_OK)
            return re_compile(p, &m->re, err);
    }
    return status == PS_OK ? PS_OK : ps_fail(err, status, "out of memory for a matcher");
}

static ps_status
fill(re_matcher *m, const mdl_matcher *of, ps_err *err)
{
    ps_str *one = ps_arena_array(&m->arena, 1, sizeof *one);
    if (one == NULL || ps_arena_dup(&m->arena, of->name, &m->of.name) != PS_OK ||
        ps_arena_dup(&m->arena, of->value.len == 0 ? PS_STR("") : of->value, &m->of.value) != PS_OK)
        return ps_fail(err, PS_ENOMEM, "out of memory for a matcher");
    m->of.type = of->type;
    m->negated = of->type == MDL_MATCH_NE || of->type == MDL_MATCH_NRE;
    if (of->type == MDL_MATCH_RE || of->type == MDL_MATCH_NRE) {
        PS_TRY(compile_pattern(m, err));
    } else {
        *one = m->of.value;
        m->set = one;
        m->n_set = 1;
        m->shape = SHAPE_SET;
    }
    m->matches_empty = re_matcher_matches(m, PS_STR(""));
    return PS_OK;
}

ps_status
re_matcher_new(const ps_alloc *alloc, const mdl_matcher *of, re_matcher **ret, ps_err *err)
{
    re_matcher *m = ps_alloc_array(alloc, 1, sizeof *m);
    if (m == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory for a matcher");
    m->alloc = *alloc;
    ps_arena_init(&m->arena, alloc, 0);
    ps_status status = fill(m, of, err);
    if (status != PS_OK) {
        re_matcher_free(m);
        return status;
    }
    *ret = m;
    return PS_OK;
}

void
re_matcher_free(re_matcher *m)
{
    if (m == NULL)
        return;
    if (m->re != NULL)
        re_free(m->re);
    ps_arena_done(&m->arena);
    ps_alloc alloc = m->alloc;
    ps_alloc_free(&alloc, m, sizeof *m);
}

/* ---- running ------------------------------------------------------------------------------------------ */

static bool
in_set(const re_matcher *m, ps_str value)
{
    size_t from = 0;
    size_t to = m->n_set;
    while (from < to) {
        size_t mid = from + (to - from) / 2;
        int order = ps_str_cmp(m->set[mid], value);
        if (order == 0)
            return true;
        if (order < 0)
            from = mid + 1;
        else
            to = mid;
    }
    return false;
}

static bool
is_around(const re_matcher *m, ps_str value)
{
    size_t head = m->before == ANY_PLUS ? 1 : 0;
    size_t tail = m->behind == ANY_PLUS ? 1 : 0;
    if (value.len < head + m->text.len + tail)
        return false;
    if (m->text.len == 0)
        return m->before != ANY_NONE || m->behind != ANY_NONE || value.len == 0;
    if (m->before == ANY_NONE)
        return memcmp(value.ptr, m->text.ptr, m->text.len) == 0 &&
               (m->behind != ANY_NONE || value.len == m->text.len);
    if (m->behind == ANY_NONE)
        return memcmp(value.ptr + value.len - m->text.len, m->text.ptr, m->text.len) == 0;
    return memmem(value.ptr + head, value.len - head - tail, m->text.ptr, m->text.len) != NULL;
}

bool
re_matcher_matches(const re_matcher *m, ps_str value)
{
    bool matches = m->shape == SHAPE_SET      ? in_set(m, value)
                   : m->shape == SHAPE_AROUND ? is_around(m, value)
                                              : re_matches(m->re, value);
    return matches != m->negated;
}

const mdl_matcher *
re_matcher_of(const re_matcher *m)
{
    return &m->of;
}

bool
re_matcher_matches_empty(const re_matcher *m)
{
    return m->matches_empty;
}

size_t
re_matcher_set(const re_matcher *m, const ps_str **ret)
{
    if (m->shape != SHAPE_SET || m->negated)
        return 0;
    if (ret != NULL)
        *ret = m->set;
    return m->n_set;
}

ps_str
re_matcher_prefix(const re_matcher *m)
{
    ps_str none = PS_STR("");
    if (m->negated)
        return none;
    if (m->shape == SHAPE_REGEX)
        return m->prefix.len > 0 ? m->prefix : none;
    if (m->shape == SHAPE_AROUND)
        return m->before == ANY_NONE ? m->text : none;
    return m->n_set == 1 ? m->set[0] : none;
}

bool
re_matchers_match(re_matcher *const *matchers, size_t n, mdl_labels labels)
{
    for (size_t i = 0; i < n; i++) {
        ps_str value = mdl_labels_get(labels, matchers[i]->of.name);
        if (!re_matcher_matches(matchers[i], value))
            return false;
    }
    return true;
}
