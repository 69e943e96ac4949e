/*
 * parse.c - the notation of test scripts: key:value pairs between blanks, lists in brackets.
 *
 * First the text is cut into values by key, which also counts the items of lists; then the histogram is
 * made in one piece and the lists are read into it.
 */
#include "lib/histogram/internal.h"

typedef enum key {
    SCHEMA,
    SUM,
    COUNT,
    Z_BUCKET,
    Z_BUCKET_W,
    CUSTOM_VALUES,
    BUCKETS,
    OFFSET,
    N_BUCKETS,
    N_OFFSET,
    HINT,
    N_KEYS
} key;

static const struct {
    const char *name;
    bool list;
} keys[N_KEYS] = {
    [SCHEMA] = {"schema", false},
    [SUM] = {"sum", false},
    [COUNT] = {"count", false},
    [Z_BUCKET] = {"z_bucket", false},
    [Z_BUCKET_W] = {"z_bucket_w", false},
    [CUSTOM_VALUES] = {"custom_values", true},
    [BUCKETS] = {"buckets", true},
    [OFFSET] = {"offset", false},
    [N_BUCKETS] = {"n_buckets", true},
    [N_OFFSET] = {"n_offset", false},
    [HINT] = {"counter_reset_hint", false},
};

static const char *const hints[] = {
    [HST_UNKNOWN] = "unknown",
    [HST_RESET] = "reset",
    [HST_NOT_RESET] = "not_reset",
    [HST_GAUGE] = "gauge",
};

typedef struct fields {
    ps_str value[N_KEYS];
    bool seen[N_KEYS];
    uint32_t items[N_KEYS];
} fields;

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The next word of a list or of the whole; empty at the end. */
static ps_str
next_word(ps_str *s)
{
    while (s->len > 0 && is_blank(*s->ptr))
        s->ptr++, s->len--;
    ps_str word = {s->ptr, 0};
    while (word.len < s->len && !is_blank(s->ptr[word.len]))
        word.len++;
    s->ptr += word.len;
    s->len -= word.len;
    return word;
}

static ps_status
find_key(ps_str *s, key *ret, ps_err *err)
{
    for (int k = 0; k < N_KEYS; k++) {
        size_t n = strlen(keys[k].name);
        if (s->len > n && s->ptr[n] == ':' && memcmp(s->ptr, keys[k].name, n) == 0) {
            s->ptr += n + 1;
            s->len -= n + 1;
            *ret = (key)k;
            return PS_OK;
        }
    }
    return ps_fail(err, PS_EINVAL, "unknown field in a histogram: \"%.*s\"",
                   (int)ps_utf8_prefix(*s, 40), s->ptr);
}

static ps_status
cut_list(ps_str *s, fields *f, key k, ps_err *err)
{
    const char *end = s->len > 0 && *s->ptr == '[' ? memchr(s->ptr, ']', s->len) : NULL;
    if (end == NULL)
        return ps_fail(err, PS_EINVAL, "%s of a histogram is not a list", keys[k].name);
    f->value[k] = (ps_str){s->ptr + 1, (size_t)(end - s->ptr) - 1};
    s->len -= (size_t)(end - s->ptr) + 1;
    s->ptr = end + 1;
    ps_str list = f->value[k];
    uint32_t n = 0;
    while (next_word(&list).len > 0)
        if (++n > HST_INDEX_MAX)
            return ps_fail(err, PS_EINVAL, "%s of a histogram is too long", keys[k].name);
    f->items[k] = n;
    return PS_OK;
}

static ps_status
cut(ps_str s, fields *f, ps_err *err)
{
    for (;;) {
        while (s.len > 0 && is_blank(*s.ptr))
            s.ptr++, s.len--;
        if (s.len == 0)
            return PS_OK;
        key k = SCHEMA;
        PS_TRY(find_key(&s, &k, err));
        if (f->seen[k])
            return ps_fail(err, PS_EINVAL, "duplicate key \"%s\" in histogram", keys[k].name);
        f->seen[k] = true;
        if (keys[k].list)
            PS_TRY(cut_list(&s, f, k, err));
        else
            f->value[k] = next_word(&s);
    }
}

static ps_status
bad_value(key k, ps_str s, ps_err *err)
{
    return ps_fail(err, PS_EINVAL, "error parsing %s of a histogram: \"%.*s\"", keys[k].name,
                   (int)ps_utf8_prefix(s, 40), s.ptr);
}

static ps_status
read_number(const fields *f, key k, double *ret, ps_err *err)
{
    if (f->seen[k] && ps_parse_double(f->value[k], ret) != PS_OK)
        return bad_value(k, f->value[k], err);
    return PS_OK;
}

static ps_status
read_int(const fields *f, key k, int32_t *ret, ps_err *err)
{
    int64_t v;
    if (!f->seen[k])
        return PS_OK;
    if (ps_parse_i64(f->value[k], &v) != PS_OK || v < INT32_MIN || v > INT32_MAX)
        return bad_value(k, f->value[k], err);
    *ret = (int32_t)v;
    return PS_OK;
}

static ps_status
read_list(const fields *f, key k, double *ret, ps_err *err)
{
    ps_str list = f->value[k];
    for (uint32_t i = 0; i < f->items[k]; i++) {
        ps_str word = next_word(&list);
        if (ps_parse_double(word, &ret[i]) != PS_OK)
            return bad_value(k, word, err);
    }
    return PS_OK;
}

static ps_status
read_hint(const fields *f, hst_hint *ret, ps_err *err)
{
    if (!f->seen[HINT])
        return PS_OK;
    for (size_t i = 0; i < PS_ARRAY_LEN(hints); i++) {
        if (ps_str_eq_c(f->value[HINT], hints[i])) {
            *ret = (hst_hint)i;
            return PS_OK;
        }
    }
    return bad_value(HINT, f->value[HINT], err);
}

static ps_status
read_side(const fields *f, key buckets, key offset, char **at, hst_side *ret, ps_err *err)
{
    uint32_t n = f->items[buckets];
    int32_t first = 0;
    PS_TRY(read_int(f, offset, &first, err));
    if (n == 0)
        return PS_OK;
    hst_span *span = (hst_span *)*at;
    double *counts = (double *)(span + 1);
    *span = (hst_span){first, n};
    PS_TRY(read_list(f, buckets, counts, err));
    *at = (char *)(counts + n);
    *ret = (hst_side){span, 1, n, counts};
    return PS_OK;
}

static ps_status
read_scalars(const fields *f, hst_hist *h, ps_err *err)
{
    PS_TRY(read_int(f, SCHEMA, &h->schema, err));
    PS_TRY(read_number(f, SUM, &h->sum, err));
    PS_TRY(read_number(f, COUNT, &h->count, err));
    PS_TRY(read_number(f, Z_BUCKET, &h->zero_count, err));
    PS_TRY(read_number(f, Z_BUCKET_W, &h->zero_threshold, err));
    return read_hint(f, &h->hint, err);
}

ps_status
hst_parse(ps_arena *arena, ps_str s, const hst_hist **ret, bool *ret_has_hint, ps_err *err)
{
    fields f = {0};
    PS_TRY(cut(s, &f, err));
    size_t units = (size_t)f.items[BUCKETS] + f.items[N_BUCKETS] + f.items[CUSTOM_VALUES] + 2;
    hst_hist *h = ps_arena_new(arena, sizeof *h + 8 * units);
    if (h == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory for a histogram");
    *h = (hst_hist){0};
    char *at = (char *)(h + 1);
    PS_TRY(read_scalars(&f, h, err));
    PS_TRY(read_side(&f, BUCKETS, OFFSET, &at, &h->positive, err));
    PS_TRY(read_side(&f, N_BUCKETS, N_OFFSET, &at, &h->negative, err));
    h->n_bounds = f.items[CUSTOM_VALUES];
    if (h->n_bounds > 0) {
        PS_TRY(read_list(&f, CUSTOM_VALUES, (double *)at, err));
        h->bounds = (const double *)at;
    }
    PS_TRY(hst_check(h, err));
    *ret_has_hint = f.seen[HINT];
    *ret = h;
    return PS_OK;
}
