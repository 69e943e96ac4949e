/*
 * units.c - whole numbers, durations and sizes as text.
 *
 * Durations follow Prometheus: whole numbers with units, the largest unit first, each at most once,
 * no blanks and no sign; a day has 24 hours, a week 7 days, a year 365 days. A bare 0 is allowed.
 * Every step is checked for overflow: a setting that wraps around would be worse than a refused
 * one.
 */
#include "lib/base/base.h"

typedef struct unit {
    const char *name;
    int64_t ms;
    bool only_whole; /* formatted only if nothing remains: 8d, but 2w */
} unit;

static const unit units[] = {
    {"y", INT64_C(365) * 86400000, true},
    {"w", INT64_C(7) * 86400000, true},
    {"d", 86400000, false},
    {"h", 3600000, false},
    {"m", 60000, false},
    {"s", 1000, false},
    {"ms", 1, false},
};

/* Reads decimal digits at the start of *s; false if there are none or they do not fit. */
static bool
take_number(ps_str *s, int64_t *ret)
{
    int64_t value = 0;
    size_t i = 0;
    for (; i < s->len && s->ptr[i] >= '0' && s->ptr[i] <= '9'; i++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, s->ptr[i] - '0', &value))
            return false;
    }
    if (i == 0)
        return false;
    s->ptr += i;
    s->len -= i;
    *ret = value;
    return true;
}

/* Reads ASCII letters at the start of *s; may be empty. */
static ps_str
take_letters(ps_str *s)
{
    size_t i = 0;
    while (i < s->len &&
           ((s->ptr[i] >= 'a' && s->ptr[i] <= 'z') || (s->ptr[i] >= 'A' && s->ptr[i] <= 'Z')))
        i++;
    ps_str letters = {s->ptr, i};
    s->ptr += i;
    s->len -= i;
    return letters;
}

ps_status
ps_parse_i64(ps_str s, int64_t *ret)
{
    bool negative = s.len > 0 && s.ptr[0] == '-';
    size_t i = s.len > 0 && (negative || s.ptr[0] == '+');
    int64_t value = 0;
    if (i == s.len)
        return PS_EINVAL;
    /* Counted down from zero, since the negative side reaches one further. */
    for (; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9' || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, s.ptr[i] - '0', &value))
            return PS_EINVAL;
    }
    if (!negative && value == INT64_MIN)
        return PS_EINVAL;
    *ret = negative ? value : -value;
    return PS_OK;
}

ps_status
ps_parse_duration(ps_str s, int64_t *ret_ms)
{
    int64_t total = 0;
    size_t next = 0; /* units before this one may not come any more */
    if (ps_str_eq(s, PS_STR("0"))) {
        *ret_ms = 0;
        return PS_OK;
    }
    if (s.len == 0)
        return PS_EINVAL;
    while (s.len > 0) {
        int64_t n;
        if (!take_number(&s, &n))
            return PS_EINVAL;
        ps_str name = take_letters(&s);
        size_t u = next;
        while (u < PS_ARRAY_LEN(units) && !ps_str_eq_c(name, units[u].name))
            u++;
        if (u == PS_ARRAY_LEN(units) || __builtin_mul_overflow(n, units[u].ms, &n) ||
            __builtin_add_overflow(total, n, &total))
            return PS_EINVAL;
        next = u + 1;
    }
    *ret_ms = total;
    return PS_OK;
}

static size_t
put_u64(char *dst, uint64_t v)
{
    char reversed[20];
    size_t n = 0;
    do {
        reversed[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v != 0);
    for (size_t i = 0; i < n; i++)
        dst[i] = reversed[n - 1 - i];
    return n;
}

size_t
ps_format_duration(char *dst, size_t cap, int64_t ms)
{
    char text[PS_DURATION_TEXT];
    size_t len = 0;
    uint64_t left = ms < 0 ? -(uint64_t)ms : (uint64_t)ms;
    if (ms < 0)
        text[len++] = '-';
    if (ms == 0) {
        text[len++] = '0';
        text[len++] = 's';
    }
    for (size_t u = 0; u < PS_ARRAY_LEN(units) && left > 0; u++) {
        uint64_t size = (uint64_t)units[u].ms;
        if (left < size || (units[u].only_whole && left % size != 0))
            continue;
        len += put_u64(text + len, left / size);
        size_t name_len = strlen(units[u].name);
        memcpy(text + len, units[u].name, name_len);
        len += name_len;
        left %= size;
    }
    if (len >= cap) {
        if (cap > 0)
            dst[0] = '\0';
        return 0;
    }
    memcpy(dst, text, len);
    dst[len] = '\0';
    return len;
}

ps_status
ps_parse_size(ps_str s, int64_t *ret_bytes)
{
    static const char prefixes[] = "kmgtpe";
    int64_t n;
    if (!take_number(&s, &n))
        return PS_EINVAL;
    ps_str name = take_letters(&s);
    if (s.len > 0)
        return PS_EINVAL;
    int shift = 0;
    if (name.len > 0 && !ps_str_eq_nocase(name, PS_STR("b"))) {
        const char *prefix = memchr(prefixes, name.ptr[0] | 0x20, sizeof prefixes - 1);
        ps_str rest = {name.ptr + 1, name.len - 1};
        if (prefix == NULL || (rest.len > 0 && !ps_str_eq_nocase(rest, PS_STR("b")) &&
                               !ps_str_eq_nocase(rest, PS_STR("ib"))))
            return PS_EINVAL;
        shift = 10 * (int)(prefix - prefixes + 1);
    }
    if (n > INT64_MAX >> shift)
        return PS_EINVAL;
    *ret_bytes = n << shift;
    return PS_OK;
}
