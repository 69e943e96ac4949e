/*
 * v2_labels.c - the references of a series, as the label bytes that 1.0 would have for them.
 *
 * Looking up and copying some twenty texts costs more than all else that is done for a known series.
 * But series of one target follow each other, and most of their labels stay: so the references are
 * compared, as bytes, with those of the series before, and what is the same at the beginning and at the
 * end is kept of its label bytes; only what differs between is looked up. References are packed
 * numbers, the end of each being a byte without the high bit: what is kept begins and ends there, and
 * with whole pairs.
 */
#include "connector/write/internal.h"

#include <stdlib.h>

enum { NO_NAME = UINT32_MAX };

void
wp_v2_labels_begin(wp_v2_labels *k)
{
    k->n = 0;
    k->refs = (ps_str){NULL, 0};
    k->name_at = NO_NAME;
}

void
wp_v2_labels_done(wp_v2_labels *k)
{
    free(k->bytes);
    free(k->ends);
    free(k->middle);
    *k = (wp_v2_labels){0};
}

/* ---- what is the same ------------------------------------------------------------------------- */

static size_t
same_start(const uint8_t *a, const uint8_t *b, size_t max)
{
    size_t n = 0;
    while (max - n >= 8) {
        uint64_t differ = ps_get_u64le(a + n) ^ ps_get_u64le(b + n);
        if (differ != 0)
            return n + (size_t)__builtin_ctzll(differ) / 8;
        n += 8;
    }
    while (n < max && a[n] == b[n])
        n++;
    return n;
}

static size_t
same_end(const uint8_t *a_end, const uint8_t *b_end, size_t max)
{
    size_t n = 0;
    while (max - n >= 8) {
        uint64_t differ = ps_get_u64le(a_end - n - 8) ^ ps_get_u64le(b_end - n - 8);
        if (differ != 0)
            return n + (size_t)__builtin_clzll(differ) / 8;
        n += 8;
    }
    while (n < max && a_end[-(ptrdiff_t)n - 1] == b_end[-(ptrdiff_t)n - 1])
        n++;
    return n;
}

static uint32_t
count_refs(const uint8_t *p, size_t len)
{
    size_t n = len;
    for (; len >= 8; len -= 8, p += 8)
        n -= (size_t)__builtin_popcountll(ps_get_u64le(p) & UINT64_C(0x8080808080808080));
    for (; len > 0; len--, p++)
        n -= *p >> 7;
    return (uint32_t)n;
}

typedef struct shared { /* with the series before */
    size_t start, end;  /* bytes of references */
    uint32_t start_pairs, end_pairs;
} shared;

static shared
compare(ps_str refs, ps_str before)
{
    const uint8_t *a = (const uint8_t *)refs.ptr, *b = (const uint8_t *)before.ptr;
    size_t shorter = refs.len < before.len ? refs.len : before.len;
    shared s = {0};
    if (shorter == 0)
        return s;
    s.start = same_start(a, b, shorter);
    while (s.start > 0 && a[s.start - 1] >= 0x80)
        s.start--;
    uint32_t n = count_refs(a, s.start);
    if (n % 2 != 0)
        for (s.start--; s.start > 0 && a[s.start - 1] >= 0x80;)
            s.start--;
    s.start_pairs = n / 2;

    s.end = same_end(a + refs.len, b + before.len, shorter - s.start);
    const uint8_t *at = a + refs.len - s.end, *at_b = b + before.len - s.end;
    bool cut = (at > a && at[-1] >= 0x80) || (at_b > b && at_b[-1] >= 0x80);
    n = count_refs(at, s.end);
    if (cut && n > 0) { /* a number of which only the end is the same */
        while (*at++ >= 0x80)
            ;
        n--;
    }
    if (n % 2 != 0)
        while (*at++ >= 0x80)
            ;
    s.end_pairs = n / 2;
    s.end = n < 2 ? 0 : (size_t)(a + refs.len - at);
    return s;
}

/* ---- what differs ----------------------------------------------------------------------------- */

static inline char *
put_length(char *at, size_t n)
{
    for (; n >= 0x80; n >>= 7)
        *at++ = (char)(n | 0x80);
    *at++ = (char)n;
    return at;
}

static inline size_t
length_size(size_t n)
{
    return n < 0x80 ? 1 : n < 0x4000 ? 2 : n < 0x200000 ? 3 : n < 0x10000000 ? 4 : 5;
}

static inline size_t
pair_size(ps_str name, ps_str value) /* of what is in the label */
{
    return 2 + length_size(name.len) + name.len + length_size(value.len) + value.len;
}

static inline char *
put_text(char *at, char tag, ps_str s)
{
    *at++ = tag;
    at = put_length(at, s.len);
    if (s.len > 0)
        memcpy(at, s.ptr, s.len);
    return at + s.len;
}

static void
put_pair(wp_v2_labels *k, uint32_t i, ps_str name, ps_str value)
{
    char *at = k->bytes + (i == 0 ? 0 : k->ends[i - 1]);
    *at++ = 0x0A; /* TimeSeries.labels */
    at = put_length(at, pair_size(name, value));
    at = put_text(at, 0x0A, name);
    at = put_text(at, 0x12, value);
    k->ends[i] = (uint32_t)(at - k->bytes);
    if (name.len == sizeof(MDL_METRIC_NAME) - 1 &&
        memcmp(name.ptr, MDL_METRIC_NAME, sizeof(MDL_METRIC_NAME) - 1) == 0) {
        k->name_twice |= k->name_at != NO_NAME;
        k->name = value;
        k->name_at = i;
    }
}

static bool
grow(wp_v2_labels *k, size_t bytes, size_t pairs)
{
    return wp_grow((void **)&k->bytes, &k->cap_bytes, bytes, 1) &&
           wp_grow((void **)&k->ends, &k->cap_ends, pairs, sizeof(*k->ends));
}

/* Makes room for pairs of `middle` bytes between those that stay. */
static bool
open_gap(wp_v2_labels *k, const shared *s, uint32_t n, size_t middle, size_t max_bytes,
         const char **why, bool *ret_memory)
{
    uint32_t old_end = k->n - s->end_pairs; /* the first of those at the end */
    size_t from = old_end == 0 ? 0 : k->ends[old_end - 1];
    size_t tail = k->n == 0 ? 0 : k->ends[k->n - 1] - from;
    size_t to = (s->start_pairs == 0 ? 0 : k->ends[s->start_pairs - 1]) + middle;
    if (to + tail > max_bytes) {
        *why = "a series has too many bytes of labels";
        return false;
    }
    *ret_memory = grow(k, to + tail, n);
    if (!*ret_memory)
        return false;
    uint32_t new_end = n - s->end_pairs;
    if (s->end_pairs > 0) {
        memmove(k->bytes + to, k->bytes + from, tail);
        memmove(k->ends + new_end, k->ends + old_end, s->end_pairs * sizeof(*k->ends));
        for (uint32_t i = new_end; i < n; i++)
            k->ends[i] += (uint32_t)(to - from);
    }
    if (k->name_at != NO_NAME && k->name_at >= s->start_pairs)
        k->name_at = k->name_at >= old_end ? k->name_at - old_end + new_end : NO_NAME;
    return true;
}

ps_status
wp_v2_labels_take(wp_v2_labels *k, const wire_v2_symbols *symbols, const wire_v2_series *s,
                  const settings *set, const char **why, ps_err *err)
{
    uint32_t n = s->n_refs / 2;
    *why = s->n_refs % 2 != 0                    ? "a series has an odd number of label references"
           : (int64_t)n > set->ingest_max_labels ? "a series has too many labels"
                                                 : NULL;
    if (PS_UNLIKELY(*why != NULL))
        return PS_OK;
    shared same = compare(s->ref_bytes, k->refs);
    uint32_t n_middle = s->n_refs - 2 * (same.start_pairs + same.end_pairs);
    if (!wp_grow((void **)&k->middle, &k->cap_middle, n_middle, sizeof(*k->middle)))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    if (PS_LIKELY(s->ref_bytes.len > 0))
        wire_v2_read_refs((ps_str){s->ref_bytes.ptr + same.start,
                                   s->ref_bytes.len - same.start - same.end},
                          k->middle, n_middle);
    else
        wire_v2_refs(s, k->middle);
    size_t bytes = 0, max = (size_t)set->ingest_max_label_set_bytes + 16 * (size_t)n;
    for (uint32_t i = 0; i < n_middle; i += 2) {
        if (PS_UNLIKELY(k->middle[i] >= symbols->n || k->middle[i + 1] >= symbols->n)) {
            *why = "a series has label references outside of the symbols table";
            return PS_OK;
        }
        size_t pair = pair_size(symbols->items[k->middle[i]], symbols->items[k->middle[i + 1]]);
        bytes += 1 + length_size(pair) + pair;
    }
    bool memory = true;
    if (!open_gap(k, &same, n, bytes, max, why, &memory))
        return memory ? PS_OK : ps_fail(err, PS_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < n_middle; i += 2)
        put_pair(k, same.start_pairs + i / 2, symbols->items[k->middle[i]],
                 symbols->items[k->middle[i + 1]]);
    k->n = n;
    /* Of two names only one is remembered: such a set is refused anyhow, and nothing of it is kept. */
    k->refs = k->name_twice ? (ps_str){NULL, 0} : s->ref_bytes;
    k->name_twice = false;
    return PS_OK;
}
