/*
 * names.c - names of metrics, units and labels, as OpenTelemetry's compatibility specification tells and
 * Prometheus does it.
 *
 * An escaped name with suffixes is made of words: runs of letters, digits and colons. Unit words are added
 * behind unless they are there, then "total" for counters and "ratio" for gauges of unit 1, moved to
 * the end if they are there; words are joined by one underscore.
 */
#include "lib/otlp/internal.h"

enum { MAX_WORDS = 250 }; /* of a name; longer ones are refused */

static bool
is_label_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool
is_metric_char(char c)
{
    return is_label_char(c) || c == ':';
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool
only_underscores(ps_str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] != '_')
            return false;
    return true;
}

static bool
ends_with(ps_str s, ps_str tail)
{
    return s.len >= tail.len && memcmp(s.ptr + s.len - tail.len, tail.ptr, tail.len) == 0;
}

/* ---- units ---------------------------------------------------------------------------------------- */

typedef struct unit_word {
    const char *sent, *name;
} unit_word;

static const unit_word main_units[] = {
    {"d", "days"},         {"h", "hours"},         {"min", "minutes"},    {"s", "seconds"},
    {"ms", "milliseconds"}, {"us", "microseconds"}, {"ns", "nanoseconds"}, {"By", "bytes"},
    {"KiBy", "kibibytes"}, {"MiBy", "mebibytes"},  {"GiBy", "gibibytes"}, {"TiBy", "tibibytes"},
    {"KBy", "kilobytes"},  {"MBy", "megabytes"},   {"GBy", "gigabytes"},  {"TBy", "terabytes"},
    {"m", "meters"},       {"V", "volts"},         {"A", "amperes"},      {"J", "joules"},
    {"W", "watts"},        {"g", "grams"},         {"Cel", "celsius"},    {"Hz", "hertz"},
    {"1", ""},             {"%", "percent"},
};
static const unit_word per_units[] = {
    {"s", "second"}, {"m", "minute"}, {"h", "hour"}, {"d", "day"},
    {"w", "week"},   {"mo", "month"}, {"y", "year"},
};

static ps_str
unit_of(const unit_word *table, size_t n, ps_str unit)
{
    unit = ps_str_trim(unit);
    for (size_t i = 0; i < unit.len; i++) /* an annotation */
        if (unit.ptr[i] == '{' || unit.ptr[i] == '}')
            return (ps_str){"", 0};
    for (size_t i = 0; i < n; i++)
        if (ps_str_eq_c(unit, table[i].sent))
            return ps_str_c(table[i].name);
    return unit;
}

/* Main and per part ("By/s": bytes, second), not yet fit for a name. */
static void
unit_parts(ps_str unit, ps_str *ret_main, ps_str *ret_per)
{
    const char *slash = unit.len > 0 ? memchr(unit.ptr, '/', unit.len) : NULL;
    size_t len = slash != NULL ? (size_t)(slash - unit.ptr) : unit.len;

    *ret_main = unit_of(main_units, PS_ARRAY_LEN(main_units), (ps_str){unit.ptr, len});
    *ret_per = (ps_str){"", 0};
    if (slash != NULL)
        *ret_per = unit_of(per_units, PS_ARRAY_LEN(per_units),
                           (ps_str){slash + 1, unit.len - len - 1});
}

/* Bytes that a character that begins here has: each of them is replaced as one. */
static size_t
character_len(ps_str s, size_t at)
{
    size_t len = 1;

    while (len < 4 && at + len < s.len && ((uint8_t)s.ptr[at + len] & 0xc0) == 0x80)
        len++;
    return (uint8_t)s.ptr[at] >= 0xc2 && ps_utf8_valid((ps_str){s.ptr + at, len}) ? len : 1;
}

/* Runs of what is not valid become one underscore (each becomes one: keep), the first one goes. */
static ps_status
clean(ps_arena *arena, ps_str s, bool (*valid)(char), bool keep, ps_str *ret)
{
    char *out = ps_arena_new(arena, s.len + 1);
    size_t n = 0;

    if (out == NULL)
        return PS_ENOMEM;
    for (size_t i = 0; i < s.len; i += character_len(s, i)) {
        if (valid(s.ptr[i]))
            out[n++] = s.ptr[i];
        else if (keep || n == 0 || out[n - 1] != '_')
            out[n++] = '_';
    }
    *ret = (ps_str){out, n};
    return PS_OK;
}

static ps_status
clean_unit(ps_arena *arena, ps_str unit, ps_str *ret)
{
    PS_TRY(clean(arena, unit, is_metric_char, false, ret));
    if (ret->len > 0 && ret->ptr[0] == '_')
        *ret = (ps_str){ret->ptr + 1, ret->len - 1};
    return PS_OK;
}

static ps_str
without_last_underscore(ps_str s)
{
    return s.len > 0 && s.ptr[s.len - 1] == '_' ? (ps_str){s.ptr, s.len - 1} : s;
}

static ps_status
prefixed(ps_arena *arena, const char *prefix, ps_str s, ps_str *ret)
{
    size_t len = strlen(prefix);
    char *out = ps_arena_new(arena, len + s.len + 1);

    if (out == NULL)
        return PS_ENOMEM;
    memcpy(out, prefix, len);
    if (s.len > 0)
        memcpy(out + len, s.ptr, s.len);
    *ret = (ps_str){out, len + s.len};
    return PS_OK;
}

/* "per_second"; empty if there is no such part. */
static ps_status
per_word(ps_arena *arena, ps_str per, bool cleaned, ps_str *ret)
{
    *ret = (ps_str){"", 0};
    if (per.len == 0)
        return PS_OK;
    PS_TRY(prefixed(arena, "per_", per, ret));
    return cleaned ? clean_unit(arena, *ret, ret) : PS_OK;
}

ps_status
otlp_unit_name(ps_arena *arena, ps_str unit, ps_str *ret)
{
    ps_buf out;
    ps_alloc alloc = ps_arena_as_alloc(arena);
    ps_str main, per;

    unit_parts(unit, &main, &per);
    PS_TRY(clean_unit(arena, main, &main));
    PS_TRY(per_word(arena, per, true, &per));
    ps_buf_init(&out, &alloc);
    ps_buf_add_str(&out, main);
    if (main.len > 0 && per.len > 0)
        ps_buf_add_char(&out, '_');
    ps_buf_add_str(&out, per);
    if (out.failed)
        return PS_ENOMEM;
    *ret = ps_buf_str(&out);
    if (ret->len > 0 && ret->ptr[0] == '_')
        *ret = (ps_str){ret->ptr + 1, ret->len - 1};
    *ret = without_last_underscore(*ret);
    return PS_OK;
}

/* ---- metrics: words ------------------------------------------------------------------------------- */

typedef struct words {
    ps_str items[MAX_WORDS + 4];
    size_t n;
} words;

/* false: too many. */
static bool
split(ps_str name, words *w)
{
    w->n = 0;
    for (size_t i = 0; i < name.len;) {
        size_t begin = i;
        while (i < name.len && is_metric_char(name.ptr[i]))
            i++;
        if (i > begin && w->n == MAX_WORDS)
            return false;
        if (i > begin)
            w->items[w->n++] = (ps_str){name.ptr + begin, i - begin};
        while (i < name.len && !is_metric_char(name.ptr[i]))
            i++;
    }
    return true;
}

static bool
has_word(const words *w, ps_str word)
{
    for (size_t i = 0; i < w->n; i++)
        if (ps_str_eq(w->items[i], word))
            return true;
    return false;
}

static void
move_to_end(words *w, ps_str word)
{
    size_t n = 0;

    for (size_t i = 0; i < w->n; i++)
        if (!ps_str_eq(w->items[i], word))
            w->items[n++] = w->items[i];
    w->items[n++] = word;
    w->n = n;
}

static ps_status
add_unit(ps_arena *arena, ps_str unit, words *w)
{
    ps_str main, per;

    unit_parts(unit, &main, &per);
    PS_TRY(clean_unit(arena, main, &main));
    PS_TRY(per_word(arena, per, true, &per));
    if (has_word(w, main))
        main.len = 0;
    per = ps_str_eq_c(per, "per_") ? (ps_str){"", 0} : without_last_underscore(per);
    if (has_word(w, per))
        per.len = 0;
    if (per.len > 0)
        main = without_last_underscore(main);
    if (main.len > 0)
        w->items[w->n++] = main;
    if (per.len > 0)
        w->items[w->n++] = per;
    return PS_OK;
}

static ps_status
join(ps_arena *arena, const words *w, ps_str *ret)
{
    ps_buf out;
    ps_alloc alloc = ps_arena_as_alloc(arena);

    ps_buf_init(&out, &alloc);
    if (w->n > 0 && w->items[0].len > 0 && is_digit(w->items[0].ptr[0]))
        ps_buf_add_char(&out, '_');
    for (size_t i = 0; i < w->n; i++) {
        if (i > 0)
            ps_buf_add_char(&out, '_');
        ps_buf_add_str(&out, w->items[i]);
    }
    if (out.failed)
        return PS_ENOMEM;
    *ret = ps_buf_str(&out);
    return PS_OK;
}

static ps_status
name_of_words(ps_arena *arena, ps_str name, ps_str unit, metric_kind kind, ps_str *ret)
{
    words w;

    if (!split(name, &w)) {
        ret->len = 0;
        return PS_OK;
    }
    PS_TRY(add_unit(arena, unit, &w));
    if (kind == KIND_COUNTER)
        move_to_end(&w, PS_STR("total"));
    if (kind == KIND_GAUGE && ps_str_eq_c(unit, "1"))
        move_to_end(&w, PS_STR("ratio"));
    return join(arena, &w, ret);
}

/* ---- metrics: names that keep their characters ---------------------------------------------------- */

static bool
is_metric_char_or_underscore(char c)
{
    return is_metric_char(c) || c == '_';
}

/* Runs of what is not valid become an underscore, except at the ends, where they go. */
static ps_status
name_escaped(ps_arena *arena, ps_str name, ps_str *ret)
{
    ps_buf out;
    ps_alloc alloc = ps_arena_as_alloc(arena);

    ps_buf_init(&out, &alloc);
    for (size_t i = 0, n = 0; i < name.len;) {
        size_t begin = i;
        while (i < name.len && is_metric_char_or_underscore(name.ptr[i]))
            i++;
        if (i > begin) {
            if (n++ > 0 || is_digit(name.ptr[begin]))
                ps_buf_add_char(&out, '_');
            ps_buf_add(&out, name.ptr + begin, i - begin);
        }
        while (i < name.len && !is_metric_char_or_underscore(name.ptr[i]))
            i++;
    }
    *ret = ps_buf_str(&out);
    return out.failed ? PS_ENOMEM : PS_OK;
}

/* Without the word at the end and the character before it, which is taken for a delimiter. */
static ps_str
without_word(ps_str name, ps_str word)
{
    return ends_with(name, word) && name.len > word.len + 1
               ? (ps_str){name.ptr, name.len - word.len - 1}
               : name;
}

static ps_status
name_with_suffixes(ps_arena *arena, ps_str name, ps_str unit, metric_kind kind, ps_str *ret)
{
    ps_buf out;
    ps_alloc alloc = ps_arena_as_alloc(arena);
    ps_str main, per, last = {"", 0};

    if (kind == KIND_GAUGE && ps_str_eq_c(unit, "1"))
        last = PS_STR("ratio");
    if (kind == KIND_COUNTER)
        last = PS_STR("total");
    if (last.len > 0)
        name = without_word(name, last);
    unit_parts(unit, &main, &per);
    PS_TRY(per_word(arena, per, false, &per));
    if (per.len > 0)
        name = without_word(name, per);
    if (main.len > 0 && ends_with(name, main))
        main.len = 0;
    ps_buf_init(&out, &alloc);
    ps_buf_add_str(&out, name);
    const ps_str tails[] = {main, per, last};
    for (size_t i = 0; i < PS_ARRAY_LEN(tails); i++)
        if (tails[i].len > 0) {
            ps_buf_add_char(&out, '_');
            ps_buf_add_str(&out, tails[i]);
        }
    *ret = ps_buf_str(&out);
    return out.failed ? PS_ENOMEM : PS_OK;
}

ps_status
otlp_metric_name(const otlp_settings *set, ps_arena *arena, ps_str name, ps_str unit,
                 metric_kind kind, ps_str *ret)
{
    *ret = name;
    if (set->utf8) {
        if (name.len > 0 && set->add_suffixes)
            return name_with_suffixes(arena, name, unit, kind, ret);
        return PS_OK;
    }
    if (set->add_suffixes)
        PS_TRY(name_of_words(arena, name, unit, kind, ret));
    else
        PS_TRY(name_escaped(arena, name, ret));
    if (!ps_str_eq(*ret, name) && only_underscores(*ret))
        ret->len = 0;
    return PS_OK;
}

/* ---- labels --------------------------------------------------------------------------------------- */

static bool
is_reserved(ps_str name)
{
    return name.len >= 4 && ps_str_starts(name, PS_STR("__")) && ends_with(name, PS_STR("__"));
}

ps_status
otlp_label_name(const otlp_settings *set, ps_arena *arena, ps_str name, ps_str *ret)
{
    bool keep = set->label_name_preserve_multiple_underscores;
    bool reserved = !keep && is_reserved(name);

    *ret = name;
    if (!set->utf8 && name.len > 0) {
        if (reserved)
            name = (ps_str){name.ptr + 2, name.len - 4};
        PS_TRY(clean(arena, name, is_label_char, keep, ret));
        if (reserved) {
            PS_TRY(prefixed(arena, "__", *ret, ret));
            ps_buf out;
            ps_alloc alloc = ps_arena_as_alloc(arena);
            ps_buf_init(&out, &alloc);
            ps_buf_add_str(&out, *ret);
            ps_buf_add_c(&out, "__");
            if (out.failed)
                return PS_ENOMEM;
            *ret = ps_buf_str(&out);
        }
        bool single = ret->len > 0 && ret->ptr[0] == '_' && !ps_str_starts(*ret, PS_STR("__"));
        if (ret->len > 0 && is_digit(ret->ptr[0]))
            PS_TRY(prefixed(arena, "key_", *ret, ret));
        else if (single && set->label_name_underscore_sanitization)
            PS_TRY(prefixed(arena, "key", *ret, ret));
    }
    if (only_underscores(*ret))
        ret->len = 0;
    return PS_OK;
}

bool
otlp_strategy(ps_str name, otlp_settings *settings)
{
    static const struct {
        const char *name;
        bool utf8, add_suffixes;
    } known[] = {
        {"UnderscoreEscapingWithSuffixes", false, true},
        {"UnderscoreEscapingWithoutSuffixes", false, false},
        {"NoUTF8EscapingWithSuffixes", true, true},
        {"NoTranslation", true, false},
    };

    for (size_t i = 0; i < PS_ARRAY_LEN(known); i++)
        if (ps_str_eq_c(name, known[i].name)) {
            settings->utf8 = known[i].utf8;
            settings->add_suffixes = known[i].add_suffixes;
            return true;
        }
    return false;
}
