/*
 * reference_coded.c - codecs 10 and 11 of section 5: see reference_decoder.h. Reads codes bit by bit, looking through
 * all symbols for each.
 */
#include "tests/unit/block/reference_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct codes {
    unsigned n, length[40], code[40];
} codes;

typedef struct string { /* of bits, most significant first */
    const uint8_t *p;
    size_t len, bit;
    bool backwards;
} string;

static codes
read_codes(bytes *body)
{
    codes c = {.n = ref_byte(body)};
    unsigned next = 0, previous = 0;

    if (c.n > 40)
        body->bad = true;
    for (unsigned i = 0; i < c.n && !body->bad; i += 2) {
        unsigned both = ref_byte(body);
        c.length[i] = both & 15;
        if (i + 1 < c.n)
            c.length[i + 1] = both >> 4;
    }
    for (unsigned length = 1; length <= 10; length++) {
        for (unsigned i = 0; i < c.n && !body->bad; i++) {
            if (c.length[i] != length)
                continue;
            next <<= length - (previous == 0 ? length : previous);
            previous = length;
            c.code[i] = next++;
        }
    }
    return c;
}

static unsigned
bit_of(string *s)
{
    size_t at = s->bit / 8, bit = s->bit % 8;

    s->bit++;
    if (at >= s->len)
        return 0;
    return s->p[s->backwards ? s->len - 1 - at : at] >> (7 - bit) & 1;
}

static unsigned
symbol_of(const codes *c, string *s)
{
    unsigned code = 0, used = 0, any = 0;

    for (unsigned i = 0; i < c->n; i++) {
        used += c->length[i] > 0;
        any = c->length[i] > 0 ? i : any;
    }
    if (used == 1) {
        (void)bit_of(s);
        return any;
    }
    for (unsigned length = 1; length <= 10; length++) {
        code = code << 1 | bit_of(s);
        for (unsigned i = 0; i < c->n; i++) {
            if (c->length[i] == length && c->code[i] == code)
                return i;
        }
    }
    return 0;
}

static uint64_t
arithmetic(uint64_t v, unsigned by)
{
    return (uint64_t)((int64_t)v >> by);
}

static void
follow(unsigned rule, unsigned low, uint64_t trend, uint64_t *v, const uint64_t *z, size_t n)
{
    const unsigned s = rule & 7;
    bool was_large = false;
    uint64_t a = rule & 8 ? trend << 4 : v[0] << 8;

    for (size_t i = 1; i < n; i++) {
        uint64_t guess = arithmetic(a + 128, 8), r = ref_unzigzag(z[i]), before = a;
        bool large = low <= 56 && z[i] >> low >= 39;
        if (rule & 8) {
            uint64_t d = guess + r;
            v[i] = v[i - 1] + d;
            a += arithmetic((d << 8) - a, s);
        } else {
            v[i] = (s == 0 ? v[i - 1] : guess) + r;
            a += arithmetic((v[i] << 8) - a, s);
        }
        if (large && !was_large)
            a = before;
        was_large = large;
    }
}

static void
group(bytes *p, size_t end, const codes *c, unsigned flags, size_t n, size_t base, uint64_t *r,
      ref_raws *exceptions)
{
    const unsigned low = flags & 63;
    const size_t m = n - 1;
    uint64_t n_escapes = 0, pos = base;

    if (flags & 0x80) {
        for (uint64_t k = ref_varint(p); k > 0 && !p->bad; k--) {
            pos += ref_varint(p);
            exceptions->pos[exceptions->n] = pos;
            exceptions->bits[exceptions->n++] = ref_fixed(p, 8);
        }
    }
    if (low == 63)
        return;
    if (flags & 0x40)
        n_escapes = ref_varint(p);
    bytes escapes = *p;
    for (uint64_t k = 0; k < n_escapes; k++)
        (void)ref_varint(p);
    for (size_t at = 0; at < m; at += 128) {
        size_t len = m - at < 128 ? m - at : 128;
        for (size_t i = 0; i < len; i++)
            r[1 + at + i] = ref_packed_value(p, p->at, i, low);
        p->at += (len * low + 7) / 8;
    }
    string first = {p->p + p->at, end - p->at, 0, false}, second = {p->p + p->at, end - p->at, 0, true};
    for (size_t i = 0; i < m; i++) {
        unsigned symbol = symbol_of(c, i < (m + 1) / 2 ? &first : &second);
        if (symbol == 39)
            r[1 + i] = ref_varint(&escapes);
        else
            r[1 + i] |= (uint64_t)symbol << low;
    }
}

void
ref_coded(bytes *h, bytes *body, size_t n, uint64_t S, uint64_t *v, ref_raws *exceptions)
{
    unsigned rule = ref_byte(h);
    codes c = read_codes(body);
    uint64_t chain_start = S, chain_trend = 0;

    for (size_t base = 0; base < n && !h->bad && !body->bad; base += 512, v += 512) {
        size_t len = n - base < 512 ? n - base : 512;
        uint64_t r[512] = {0}, trend = 0;
        unsigned flags = ref_byte(h);
        size_t payload = ref_varint(h), end = body->at + payload;

        v[0] = chain_start + ref_svarint(h);
        if (rule & 8)
            trend = chain_trend + ref_svarint(h);
        chain_trend = trend;
        chain_start = v[0] + 32 * trend;
        if (end > body->len) {
            body->bad = true;
            return;
        }
        group(body, end, &c, flags, len, base, r, exceptions);
        body->at = end;
        follow(rule, flags & 63, trend, v, r, len);
    }
}
