/*
 * reference_histograms.c - sections 7 and 8 of docs/block-format.md for the reference decoder:
 * histograms and start timestamps, one number after the other.
 */
#include "tests/unit/block/reference_internal.h"

#include <stdlib.h>
#include <string.h>

static double
number(uint64_t bits)
{
    double v;

    memcpy(&v, &bits, 8);
    return v;
}

static uint64_t
bits_of(double v)
{
    uint64_t bits;

    memcpy(&bits, &v, 8);
    return bits;
}

/* ---- layouts -------------------------------------------------------------------------------- */

static uint64_t *
read_spans(bytes *b, uint64_t n_spans, size_t *ret_n)
{
    uint64_t *index = NULL, next = 0;
    size_t n = 0;

    for (uint64_t i = 0; i < n_spans && !b->bad; i++) {
        next = i == 0 ? ref_svarint(b) : next + ref_varint(b) + 1;
        uint64_t length = ref_varint(b) + 1;
        index = realloc(index, (n + length) * sizeof *index);
        for (; length > 0; length--)
            index[n++] = next++;
    }
    *ret_n = n;
    return index;
}

ref_layouts
ref_read_layouts(bytes *b)
{
    ref_layouts l = {.n = ref_varint(b)};

    l.like = calloc(l.n + 1, sizeof *l.like);
    for (size_t i = 0; i < l.n && !b->bad; i++) {
        ref_histogram *h = &l.like[i];
        unsigned flags = ref_byte(b);
        h->integer = flags & 1;
        h->schema = ref_svarint(b);
        if (flags >> 1 == 1)
            h->zero_threshold = bits_of(0x1p-128);
        else if (flags >> 1 == 2)
            h->zero_threshold = ref_fixed(b, 8);
        if (h->schema == (uint64_t)-53) {
            h->n_bounds = ref_varint(b);
            h->bounds = ref_integers(h->n_bounds);
            for (size_t k = 0; k < h->n_bounds; k++)
                h->bounds[k] = ref_fixed(b, 8);
        }
        uint64_t positive = ref_varint(b), negative = ref_varint(b);
        h->index[0] = read_spans(b, positive, &h->n[0]);
        h->index[1] = read_spans(b, negative, &h->n[1]);
    }
    return l;
}

static void
free_parts(ref_histogram *h)
{
    free(h->bounds);
    for (unsigned side = 0; side < 2; side++) {
        free(h->index[side]);
        free(h->numbers[side]);
    }
}

void
ref_free_layouts(ref_layouts *l)
{
    for (size_t i = 0; i < l->n; i++)
        free_parts(&l->like[i]);
    free(l->like);
}

void
ref_free_histogram(ref_histogram *h)
{
    if (h != NULL)
        free_parts(h);
    free(h);
}

static uint64_t *
copy(const uint64_t *from, size_t n)
{
    uint64_t *to = ref_integers(n);

    if (n > 0)
        memcpy(to, from, n * sizeof *to);
    return to;
}

static ref_histogram *
make(const ref_histogram *like, uint64_t hint)
{
    ref_histogram *h = malloc(sizeof *h);

    *h = *like;
    h->hint = hint;
    h->bounds = copy(like->bounds, like->n_bounds);
    for (unsigned side = 0; side < 2; side++) {
        h->index[side] = copy(like->index[side], like->n[side]);
        h->numbers[side] = ref_integers(like->n[side]);
    }
    return h;
}

static void
add_rest(ref_histogram *h)
{
    double sum = number(h->zero_count);

    for (unsigned side = 0; side < 2; side++) {
        for (size_t k = 0; k < h->n[side]; k++)
            sum += number(h->numbers[side][k]);
    }
    h->count = bits_of(number(h->count) + sum);
}

/* ---- columns blocks ------------------------------------------------------------------------- */

static uint64_t *
value_column(bytes *b, size_t n)
{
    uint64_t *bits = ref_integers(n);
    unsigned codec = ref_byte(b);

    if (codec != 0) {
        unsigned flags = ref_byte(b);
        if (codec == 1 || codec == 9 || n <= 128) {
            ref_series_values(b, b, codec, flags, n, NULL, bits);
            return bits;
        }
        bytes body = *b; /* behind all frame headers */
        if (flags & 0x80)
            (void)ref_byte(&body);
        if (flags & 4)
            (void)ref_fixed(&body, 8);
        else
            (void)ref_varint(&body);
        uint64_t heads = ref_varint(&body);
        (void)ref_varint(&body);
        body.at += heads;
        const size_t heads_end = body.at;
        ref_series_values(b, &body, codec, flags, n, NULL, bits);
        b->bad |= b->at != heads_end;
        b->at = body.at;
    }
    return bits;
}

void
ref_columns_histograms(bytes *body, size_t len, const ref_layouts *layouts, size_t n,
                       ref_histogram **ret)
{
    bytes b = {body->p, body->at + len, body->at, false};

    for (size_t at = 0; at < n && !b.bad;) {
        uint64_t layout = ref_varint(&b), run = ref_varint(&b) + 1;
        if (layout >= layouts->n || run > n - at) {
            b.bad = true;
            break;
        }
        unsigned flags = ref_byte(&b);
        uint64_t *hints = ref_column(&b, run);
        for (size_t i = 0; i < run; i++)
            ret[at + i] = make(&layouts->like[layout], hints[i]);
        free(hints);
        const ref_histogram *like = &layouts->like[layout];
        for (size_t c = 0; c < 3 + like->n[0] + like->n[1]; c++) {
            uint64_t *v = value_column(&b, run);
            for (size_t i = 0; i < run; i++) {
                ref_histogram *h = ret[at + i];
                uint64_t *to = c == 0               ? &h->count
                               : c == 1             ? &h->zero_count
                               : c == 2             ? &h->sum
                               : c - 3 < like->n[0] ? &h->numbers[0][c - 3]
                                                    : &h->numbers[1][c - 3 - like->n[0]];
                *to = v[i];
            }
            free(v);
        }
        for (size_t i = 0; i < run && flags & 1; i++)
            add_rest(ret[at + i]);
        at += run;
    }
    body->bad |= b.bad || b.at != b.len;
    body->at = b.at;
}

/* ---- flush blocks --------------------------------------------------------------------------- */

/* The integers of n populations, with what stands before them, as bits. */
static void
populations(bytes *b, size_t n, const uint64_t *positive, ref_histogram **h, size_t n_samples)
{
    unsigned flags = ref_byte(b), k = flags & 15, shift = flags & 0x40 ? ref_byte(b) : 0;
    size_t n_exc = flags & 0x20 ? ref_varint(b) : 0, at = 0;
    uint64_t *pos = ref_integers(n_exc), *exc = ref_integers(n_exc), before = 0;

    for (size_t i = 0; i < n_exc; i++)
        pos[i] = before += ref_varint(b);
    for (size_t i = 0; i < n_exc; i++)
        exc[i] = ref_fixed(b, 8);
    uint64_t *v = ref_column(b, n), *bits = ref_integers(n);
    for (size_t i = 0; i < n_samples; i++) {
        size_t len = h[i]->n[0] + h[i]->n[1];
        for (size_t j = 0; j < len && positive[i] == 0; j++)
            v[at + j] += v[at + j - len];
        at += len;
    }
    for (size_t i = 0; i < n; i++)
        bits[i] = flags & 0x10 ? ref_ordered(v[i], shift) : ref_decimal(v[i], k, shift);
    for (size_t i = 0; i < n_exc; i++)
        bits[pos[i]] = exc[i];
    at = 0;
    for (size_t i = 0; i < n_samples; i++) {
        for (unsigned side = 0; side < 2; side++) {
            for (size_t j = 0; j < h[i]->n[side]; j++)
                h[i]->numbers[side][j] = bits[at++];
        }
    }
    free(pos);
    free(exc);
    free(v);
    free(bits);
}

/* Gives each sample its buckets; returns how many populations there are. */
static size_t
buckets(bytes *b, const uint64_t *positive, ref_histogram **h, size_t n)
{
    size_t n_new = 0, n_index = 0, n_pops = 0, at = 0;

    for (size_t i = 0; i < n; i++)
        n_new += positive[i] != 0;
    uint64_t *negative = ref_column(b, n_new);
    n_new = 0;
    for (size_t i = 0; i < n; i++) {
        if (positive[i] != 0)
            n_index += positive[i] - 1 + negative[n_new++];
    }
    uint64_t *steps = ref_column(b, n_index);
    n_new = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t sizes[2] = {positive[i] - 1, positive[i] == 0 ? 0 : negative[n_new++]};
        for (unsigned side = 0; side < 2; side++) {
            free(h[i]->index[side]);
            free(h[i]->numbers[side]);
            if (positive[i] == 0) {
                h[i]->n[side] = h[i - 1]->n[side];
                h[i]->index[side] = copy(h[i - 1]->index[side], h[i]->n[side]);
            } else {
                h[i]->n[side] = sizes[side];
                h[i]->index[side] = ref_integers(sizes[side]);
                for (size_t k = 0; k < sizes[side]; k++, at++)
                    h[i]->index[side][k] =
                        k == 0 ? steps[at] : h[i]->index[side][k - 1] + 1 + steps[at];
            }
            h[i]->numbers[side] = ref_integers(h[i]->n[side]);
            n_pops += h[i]->n[side];
        }
    }
    free(negative);
    free(steps);
    return n_pops;
}

void
ref_flush_histograms(bytes *b, const ref_layouts *layouts, const uint64_t *len, size_t n_series,
                     size_t n, ref_histogram **ret)
{
    unsigned flags = ref_byte(b);
    uint64_t *layout = ref_column(b, n), *hint = ref_column(b, n), *v = ref_integers(n);

    for (size_t i = 0; i < n; i++)
        ret[i] = make(&layouts->like[layout[i] < layouts->n ? layout[i] : 0], hint[i]);
    for (unsigned what = 0; what < 3; what++) {
        ref_group(b, len, n_series, n, v);
        for (size_t i = 0; i < n; i++)
            *(what == 0 ? &ret[i]->count : what == 1 ? &ret[i]->zero_count : &ret[i]->sum) = v[i];
    }
    uint64_t *positive = ref_column(b, n);
    size_t n_pops = buckets(b, positive, ret, n);
    if (n_pops > 0)
        populations(b, n_pops, positive, ret, n);
    for (size_t i = 0; i < n && flags & 1; i++)
        add_rest(ret[i]);
    free(layout);
    free(hint);
    free(v);
    free(positive);
}

/* ---- start timestamps ----------------------------------------------------------------------- */

static int64_t
from_distance(uint64_t distance, uint64_t base)
{
    if (distance == 0)
        return 0;
    return (int64_t)((int64_t)distance > 0 ? base + distance - 1 : base + distance);
}

size_t
ref_skip_starts(bytes *b, size_t n)
{
    (void)ref_byte(b);
    free(ref_column(b, n));
    return b->at;
}

void
ref_flush_starts(const bytes *b, size_t at, ref_block *r)
{
    bytes in = {b->p, b->len, at, false};
    unsigned mode = ref_byte(&in);
    uint64_t *v = ref_column(&in, r->n);

    for (size_t i = 0; i < r->n; i++)
        r->samples[i].start =
            from_distance(v[i], (uint64_t)(mode == 3 ? r->t_min : r->samples[i].t));
    free(v);
}

void
ref_columns_starts(bytes *h, bytes *body, ref_block *b)
{
    uint64_t start = 0, distance = 0;

    for (size_t at = 0, end; at < b->n && !h->bad; at = end) {
        for (end = at; end < b->n && b->samples[end].series_id == b->samples[at].series_id;)
            end++;
        unsigned mode = ref_byte(h);
        if (mode == 1 || mode == 3)
            start += ref_svarint(h);
        if (mode == 2 || mode == 4)
            distance += ref_svarint(h);
        uint64_t *v = NULL;
        if (mode >= 3) {
            size_t expected = body->at + ref_varint(h);
            v = ref_column(body, end - at);
            body->bad |= body->at != expected;
        }
        for (size_t i = at; i < end && mode != 0; i++) {
            uint64_t base = mode % 2 == 1 ? start : distance + (uint64_t)b->samples[i].t;
            b->samples[i].start = from_distance(v == NULL ? 1 : v[i - at], base);
        }
        free(v);
    }
}
