/*
 * coded.c - integers as entropy-coded residuals of a prediction, for sealed series.
 *
 * Frames (frames.c) spend a whole number of bits on every residual, as many as the largest needs. What is measured
 * is rarely spread evenly: counts arrive around a rate, gauges move a little more often than a lot. Here a residual
 * is cut into low bits, which are noise and stored as they are, and a symbol above them, whose code is the shorter
 * the more frequent it is in the series (Huffman, one table a series).
 *
 * The prediction follows the series: the level of the values or of their steps so far, averaged with weights that
 * halve every 2^s values. s = 0 is the value, or the step, before: plain differences and differences of differences.
 *
 * Groups of 512 values start from an absolute value, so each decodes alone but for the table; their number of low
 * bits follows how busy the series is. Residuals too large for the symbols, a counter's reset, stand apart as
 * varints. The symbols of a group are two bit strings, one read from the front, one from the back of the same
 * bytes: two chains of look-ups that do not wait for each other.
 *
 * Everything read is hostile: groups are copied into padded buffers whose size bounds what codes can consume, and
 * what they consumed must be exactly what was there.
 */
#include "lib/block/internal.h"

enum {
    SYMBOLS = BLK_CODED_SYMBOLS,
    ESCAPE = BLK_CODED_ESCAPE,
    CODE_BITS = 10, /* longest code */
    TABLE = 1 << CODE_BITS,
    AT_ONCE = 5,      /* codes that a loaded word surely holds */
    TREND_BITS = 4,   /* of the stored trend behind the point */
    AVERAGE_BITS = 8, /* of averages */
    /* Two strings of half a group each, all codes at their longest. */
    STRINGS_MAX = (BLK_CODED_VALUES / 2 * CODE_BITS + 7) / 8 * 2,
    PAD = 16
};

enum { GROUP_LOW = 0x3f, GROUP_ZERO = BLK_GROUP_ZERO, GROUP_ESCAPES = 0x40, GROUP_RAWS = 0x80 };
enum { RULE_AVERAGE = BLK_RULE_AVERAGE, RULE_SLOPE = BLK_RULE_SLOPE, RULE_KNOWN = 0x0f };

/* ---- prediction ---------------------------------------------------------------------------- */

/* An average, of values or of steps, is a number with AVERAGE_BITS behind the point. */
static inline uint64_t
first_average(unsigned rule, uint64_t start, uint64_t trend)
{
    return rule & RULE_SLOPE ? trend << (AVERAGE_BITS - TREND_BITS) : start << AVERAGE_BITS;
}

static inline uint64_t
rounded(uint64_t average)
{
    return (uint64_t)((int64_t)(average + (1 << (AVERAGE_BITS - 1))) >> AVERAGE_BITS);
}

static inline void
move_average(uint64_t *average, uint64_t x, unsigned s)
{
    *average += (uint64_t)((int64_t)((x << AVERAGE_BITS) - *average) >> s);
}

/* Averages do not follow a residual that is an escape and the first of its kind in a row: a counter's reset is none
 * of its steps, while a rate that stays at its new height is. limit is the smallest escape. */
static inline bool
follows(uint64_t z, uint64_t limit, bool *escaped)
{
    bool before = *escaped;

    *escaped = z >= limit;
    return !*escaped || before;
}

static inline uint64_t
escape_limit(unsigned low)
{
    return low == GROUP_ZERO ? UINT64_MAX : (uint64_t)ESCAPE << low;
}

/* Zigzags of the residuals of v[1..n). Returns a number that none of them is
 * above. */
static uint64_t
residuals(const uint64_t *v, size_t n, unsigned rule, uint64_t trend, uint64_t limit, uint64_t *z)
{
    const unsigned s = rule & RULE_AVERAGE;
    const bool slope = (rule & RULE_SLOPE) != 0;
    uint64_t average = first_average(rule, v[0], trend), any = 0;
    bool escaped = false;

    for (size_t i = 1; i < n; i++) {
        uint64_t guess = slope    ? v[i - 1] + rounded(average)
                         : s == 0 ? v[i - 1] /* exact where fixed point would cut the high bits */
                                  : rounded(average);
        z[i - 1] = blk_zigzag(v[i] - guess);
        any |= z[i - 1];
        if (follows(z[i - 1], limit, &escaped))
            move_average(&average, slope ? v[i] - v[i - 1] : v[i], s);
    }
    return any;
}

/* Zigzags of residuals in out[1..n) become values; out[0] is the start. */
static void
restore(uint64_t *out, size_t n, unsigned rule, uint64_t trend, uint64_t limit)
{
    const unsigned s = rule & RULE_AVERAGE;
    uint64_t last = out[0], average = first_average(rule, last, trend);
    bool escaped = false;

    if (!(rule & RULE_SLOPE) && s == 0) {
        for (size_t i = 1; i < n; i++)
            out[i] = last += blk_unzigzag(out[i]);
    } else if (!(rule & RULE_SLOPE)) {
        for (size_t i = 1; i < n; i++) {
            uint64_t z = out[i];
            out[i] = blk_unzigzag(z) + rounded(average);
            if (PS_LIKELY(follows(z, limit, &escaped)))
                move_average(&average, out[i], s);
        }
    } else {
        for (size_t i = 1; i < n; i++) {
            uint64_t z = out[i], step = blk_unzigzag(z) + rounded(average);
            out[i] = last += step;
            if (PS_LIKELY(follows(z, limit, &escaped)))
                move_average(&average, step, s);
        }
    }
}

/* ---- writing: what to write ------------------------------------------------------------------ */

/* Where steps begin: the mean of the first few. */
static uint64_t
trend_of(const uint64_t *v, size_t n, unsigned rule)
{
    enum { FEW = 16 };
    size_t m = n > FEW ? FEW : n - 1;

    if (!(rule & RULE_SLOPE) || m == 0)
        return 0;
    int64_t rise = (int64_t)(v[m] - v[0]);
    if (rise > INT64_MAX >> 10 || rise < INT64_MIN >> 10)
        return 0;
    return (uint64_t)(rise * (1 << TREND_BITS) / (int64_t)m);
}

/* log2(1 + z) in 256ths, linear between powers of two, and 1023 too high. */
static inline uint64_t
log2_of(uint64_t z)
{
    return ps_bits_of((double)(int64_t)(z < INT64_MAX ? z + 1 : INT64_MAX)) >> (52 - 8);
}

unsigned
blk_coded_low(const uint64_t *z, size_t m)
{
    enum { MIDDLE = 2 * 256 + 64 };
    uint64_t sum = 0, any = 0;

    for (size_t i = 0; i < m; i++) {
        sum += log2_of(z[i]);
        any |= z[i];
    }
    if (any == 0)
        return GROUP_ZERO;
    unsigned mean = (unsigned)(sum / m) - 1023 * 256, low = mean <= MIDDLE ? 0 : (mean - MIDDLE + 255) / 256;
    return low > 56 ? 56 : low;
}

/* Code lengths by Huffman's way, no longer than CODE_BITS: rare symbols count as less rare until that holds.
 * count is spent. Unused symbols get 0, a lone one 1. */
static void
choose_lengths(uint32_t *count, uint8_t *length)
{
    for (;;) {
        uint32_t weight[2 * SYMBOLS];
        uint8_t parent[2 * SYMBOLS] = {0}, depth[2 * SYMBOLS] = {0};
        unsigned n = SYMBOLS, used = 0, longest = 0;

        for (unsigned i = 0; i < SYMBOLS; i++) {
            weight[i] = count[i];
            used += count[i] > 0;
        }
        for (unsigned left = used; left > 1; left--, n++) {
            unsigned low[2] = {0, 0};
            for (unsigned k = 0; k < 2; k++) {
                uint32_t least = UINT32_MAX;
                for (unsigned i = 0; i < n; i++) {
                    if (weight[i] > 0 && weight[i] < least) {
                        least = weight[i];
                        low[k] = i;
                    }
                }
                weight[n] = k == 0 ? least : weight[n] + least;
                weight[low[k]] = 0;
                parent[low[k]] = (uint8_t)n;
            }
        }
        for (unsigned i = n; i-- > 0;) {
            depth[i] = parent[i] == 0 ? 0 : (uint8_t)(depth[parent[i]] + 1);
            if (i < SYMBOLS) {
                length[i] = count[i] == 0 ? 0 : used == 1 ? 1 : depth[i];
                longest = length[i] > longest ? length[i] : longest;
            }
        }
        if (longest <= CODE_BITS)
            return;
        for (unsigned i = 0; i < SYMBOLS; i++)
            count[i] = count[i] == 0 ? 0 : count[i] / 2 + 1;
    }
}

/* Codes in the order of (length, symbol), counting up. */
static void
assign_codes(const uint8_t *length, uint16_t *code)
{
    unsigned next = 0;

    for (unsigned l = 1; l <= CODE_BITS; l++) {
        for (unsigned i = 0; i < SYMBOLS; i++) {
            if (length[i] == l)
                code[i] = (uint16_t)next++;
        }
        next <<= 1;
    }
}

/* ---- writing: bytes -------------------------------------------------------------------------- */

typedef struct bit_writer { /* most significant bit first */
    uint8_t *p;
    uint64_t acc;
    unsigned filled;
} bit_writer;

static uint8_t *
put_string(uint8_t *to, const uint8_t *symbols, size_t n, const uint8_t *length,
           const uint16_t *code)
{
    bit_writer w = {.p = to};

    for (size_t i = 0; i < n; i++) {
        w.acc = w.acc << length[symbols[i]] | code[symbols[i]];
        w.filled += length[symbols[i]];
        while (w.filled >= 8) {
            w.filled -= 8;
            *w.p++ = (uint8_t)(w.acc >> w.filled);
        }
    }
    if (w.filled > 0)
        *w.p++ = (uint8_t)(w.acc << (8 - w.filled));
    return w.p;
}

static void
put_strings(ps_buf *body, const uint8_t *symbols, size_t m, const uint8_t *length,
            const uint16_t *code)
{
    uint8_t first[STRINGS_MAX], second[STRINGS_MAX];
    const size_t half = m - m / 2;
    size_t n1 = (size_t)(put_string(first, symbols, half, length, code) - first);
    size_t n2 = (size_t)(put_string(second, symbols + half, m - half, length, code) - second);

    ps_buf_add(body, first, n1);
    while (n2 > 0)
        ps_buf_add_char(body, (char)second[--n2]);
}

typedef struct group_raws {
    const blk_raws *all;
    size_t at, n; /* those of this group */
    size_t base;  /* position of the group in the series */
} group_raws;

static void
put_raws(ps_buf *body, const group_raws *g)
{
    uint64_t before = g->base;

    blk_buf_varint(body, g->n);
    for (size_t i = 0; i < g->n; i++) {
        uint64_t pos = g->all->pos[g->at + i];
        blk_buf_varint(body, pos - before);
        blk_buf_u64(body, ps_bits_of(g->all->values[pos]));
        before = pos;
    }
}

/* Payload of one group; z is spent. */
static void
put_group(ps_buf *body, uint64_t *z, size_t m, unsigned low, const group_raws *raws,
          const uint8_t *length, const uint16_t *code, unsigned *flags)
{
    uint8_t symbols[BLK_CODED_VALUES], packed[BLK_FRAME_BODY_MAX];
    size_t n_escapes = 0;

    *flags = low;
    if (raws->n > 0) {
        *flags |= GROUP_RAWS;
        put_raws(body, raws);
    }
    if (low == GROUP_ZERO)
        return;
    for (size_t i = 0; i < m; i++) {
        symbols[i] = (uint8_t)blk_coded_symbol(z[i], low);
        n_escapes += symbols[i] == ESCAPE;
    }
    if (n_escapes > 0) {
        *flags |= GROUP_ESCAPES;
        blk_buf_varint(body, n_escapes);
    }
    for (size_t i = 0; i < m; i++) {
        if (symbols[i] == ESCAPE)
            blk_buf_varint(body, z[i]);
        z[i] = symbols[i] == ESCAPE || low == 0 ? 0 : z[i] & ((UINT64_C(1) << low) - 1);
    }
    for (size_t at = 0; at < m; at += BLK_FRAME_VALUES) {
        size_t len = m - at < BLK_FRAME_VALUES ? m - at : BLK_FRAME_VALUES;
        blk_pack(packed, z + at, len, low);
        ps_buf_add(body, packed, blk_packed_bytes(len, low));
    }
    put_strings(body, symbols, m, length, code);
}

static void
put_table(ps_buf *body, const uint8_t *length)
{
    unsigned n = SYMBOLS;

    while (length[n - 1] == 0)
        n--;
    ps_buf_add_char(body, (char)n);
    for (unsigned i = 0; i < n; i += 2)
        ps_buf_add_char(body, (char)(length[i] | (i + 1 < n ? length[i + 1] << 4 : 0)));
}

/* What a group starts with. */
static void
put_start(ps_buf *head, unsigned rule, uint64_t start, uint64_t trend, blk_chain *chain)
{
    blk_buf_varint(head, blk_zigzag(start - chain->start));
    if (rule & RULE_SLOPE)
        blk_buf_varint(head, blk_zigzag(trend - chain->first_delta));
    chain->first_delta = trend;
    chain->start = start + ((BLK_CODED_VALUES >> TREND_BITS) * trend);
}

static size_t
group_at(size_t n, size_t at)
{
    return n - at < BLK_CODED_VALUES ? n - at : BLK_CODED_VALUES;
}

/* Residuals of all groups, group by group (z as long as v, the first of each group unused), and how often there is
 * which symbol; low bits of each group. Returns bits of all that the symbols do not say, UINT64_MAX if there is nothing to code. */
static uint64_t
make_residuals(const uint64_t *v, size_t n, unsigned rule, uint64_t *z, uint8_t *lows, uint32_t *count)
{
    uint64_t bits = 0;
    bool any = false;

    for (size_t at = 0; at < n; at += BLK_CODED_VALUES) {
        size_t m = group_at(n, at) - 1;
        if (m == 0)
            continue;
        uint64_t trend = trend_of(v + at, m + 1, rule);
        uint64_t most = residuals(v + at, m + 1, rule, trend, UINT64_MAX, z + at + 1);
        unsigned low = blk_coded_low(z + at + 1, m);
        lows[at / BLK_CODED_VALUES] = (uint8_t)low;
        bits += 8 * 6;
        if (low == GROUP_ZERO)
            continue;
        if (most >= escape_limit(low))
            (void)residuals(v + at, m + 1, rule, trend, escape_limit(low), z + at + 1);
        any = true;
        for (size_t i = 1; i <= m; i++) {
            unsigned symbol = blk_coded_symbol(z[at + i], low);
            count[symbol]++;
            bits += low + (symbol == ESCAPE ? 8 * blk_varint_len(z[at + i]) : 0);
        }
    }
    return any ? bits : UINT64_MAX;
}

ps_status
blk_coded_encode(const ps_alloc *alloc, blk_scratch *scratch, const uint64_t *v, size_t n, unsigned rule,
                 uint64_t prev, const blk_raws *raws, bool even_zeros, size_t less_than, ps_buf *head,
                 ps_buf *body, bool *ret_smaller)
{
    const size_t n_groups = (n + BLK_CODED_VALUES - 1) / BLK_CODED_VALUES;
    uint64_t *z = blk_scratch_get(alloc, scratch, n + n_groups, sizeof *z);
    uint32_t count[SYMBOLS] = {0}, spent[SYMBOLS];
    uint8_t length[SYMBOLS];
    uint16_t code[SYMBOLS] = {0};
    blk_chain chain = {.start = prev};
    size_t raw_at = 0;

    *ret_smaller = false;
    if (z == NULL)
        return PS_ENOMEM;
    uint8_t *lows = (uint8_t *)(z + n);
    uint64_t bits = make_residuals(v, n, rule, z, lows, count);
    if (bits == UINT64_MAX && !even_zeros)
        return PS_OK;
    if (bits == UINT64_MAX) { /* a table has at least one symbol */
        bits = n_groups * 8 * 6;
        count[0] = 1;
    }
    memcpy(spent, count, sizeof spent);
    choose_lengths(spent, length);
    for (unsigned i = 0; i < SYMBOLS; i++)
        bits += (uint64_t)count[i] * length[i];
    if (bits / 8 + (raws == NULL ? 0 : raws->n * 9) >= less_than)
        return PS_OK;
    assign_codes(length, code);
    ps_buf_add_char(head, (char)rule);
    put_table(body, length);
    for (size_t at = 0; at < n; at += BLK_CODED_VALUES) {
        size_t len = group_at(n, at), before = body->len;
        uint64_t trend = trend_of(v + at, len, rule);
        group_raws mine = {.all = raws, .at = raw_at, .base = at};
        unsigned flags;
        while (raws != NULL && raw_at + mine.n < raws->n && raws->pos[raw_at + mine.n] < at + len)
            mine.n++;
        unsigned low = len == 1 ? GROUP_ZERO : lows[at / BLK_CODED_VALUES];
        put_group(body, z + at + 1, len - 1, low, &mine, length, code, &flags);
        ps_buf_add_char(head, (char)flags);
        blk_buf_varint(head, body->len - before);
        put_start(head, rule, v[at], trend, &chain);
        raw_at += mine.n;
    }
    *ret_smaller = head->len + body->len < less_than;
    return head->failed || body->failed ? PS_ENOMEM : PS_OK;
}

/* ---- reading ------------------------------------------------------------------------------- */

/* len is a power of two. */
static void
fill_table(uint16_t *table, unsigned len, unsigned entry)
{
    const uint64_t four = entry * UINT64_C(0x0001000100010001);

    for (unsigned i = 0; len < 4 && i < len; i++)
        table[i] = (uint16_t)entry;
    for (unsigned i = 0; i + 4 <= len; i += 4)
        memcpy(table + i, &four, sizeof four);
}

/* Symbol and length (above 8 bits) of whatever begins with these CODE_BITS bits. */
static bool
read_table(blk_in *in, uint16_t *table)
{
    uint8_t length[SYMBOLS] = {0};
    unsigned n = blk_in_u8(in), used = 0, lone = 0, at = 0;

    if (n == 0 || n > SYMBOLS)
        return false;
    const uint8_t *nibbles = blk_in_bytes(in, (n + 1) / 2);
    if (nibbles == NULL)
        return false;
    for (unsigned i = 0; i < n; i++) {
        length[i] = nibbles[i / 2] >> (i & 1 ? 4 : 0) & 15;
        if (length[i] > CODE_BITS)
            return false;
        used += length[i] > 0;
        lone = length[i] > 0 ? i : lone;
    }
    if (used == 1) { /* one bit each, whatever it is */
        if (length[lone] != 1)
            return false;
        fill_table(table, TABLE, lone | 1 << 8);
        return true;
    }
    for (unsigned l = 1; l <= CODE_BITS; l++) {
        for (unsigned i = 0; i < n; i++) {
            if (length[i] != l)
                continue;
            unsigned len = TABLE >> l;
            if (len > TABLE - at)
                return false;
            fill_table(table + at, len, i | l << 8);
            at += len;
        }
    }
    return at == TABLE; /* every string of bits means something */
}

static inline uint64_t
window(const uint8_t *p, size_t bit)
{
    return __builtin_bswap64(ps_get_u64le(p + (bit >> 3))) << (bit & 7);
}

static inline uint64_t
one_symbol(const uint16_t *table, uint64_t w, size_t *bit, uint8_t *ret)
{
    unsigned e = table[w >> (64 - CODE_BITS)];

    *ret = (uint8_t)e;
    *bit += e >> 8;
    return w << (e >> 8);
}

/* m symbols out of len bytes; false unless they take exactly those. */
static bool
read_strings(const uint16_t *table, const uint8_t *p, size_t len, size_t m, uint8_t *symbols)
{
    uint8_t front[STRINGS_MAX + PAD], back[STRINGS_MAX + PAD];
    const size_t half = m - m / 2, rest = m / 2;
    size_t bit1 = 0, bit2 = 0, i = 0;

    if (len > STRINGS_MAX)
        return false;
    memcpy(front, p, len);
    memset(front + len, 0, sizeof front - len);
    memset(back + len, 0, sizeof back - len);
    for (size_t k = 0; k < len; k++)
        back[k] = p[len - 1 - k];
    for (; i + AT_ONCE <= rest; i += AT_ONCE) {
        uint64_t w1 = window(front, bit1), w2 = window(back, bit2);
        for (size_t k = 0; k < AT_ONCE; k++) {
            w1 = one_symbol(table, w1, &bit1, &symbols[i + k]);
            w2 = one_symbol(table, w2, &bit2, &symbols[half + i + k]);
        }
    }
    for (; i < half; i++) {
        one_symbol(table, window(front, bit1), &bit1, &symbols[i]);
        if (i < rest)
            one_symbol(table, window(back, bit2), &bit2, &symbols[half + i]);
    }
    return (bit1 + 7) / 8 + (bit2 + 7) / 8 == len;
}

typedef struct group {
    uint64_t start, trend;
    uint32_t n;
    unsigned flags;
    size_t len; /* of the payload */
} group;

static bool
parse_group(blk_in *head, unsigned rule, uint32_t n, blk_chain *chain, group *ret)
{
    group g = {.n = n};

    g.flags = blk_in_u8(head);
    g.len = (size_t)blk_in_varint(head);
    g.start = chain->start + blk_unzigzag(blk_in_varint(head));
    if (rule & RULE_SLOPE)
        g.trend = chain->first_delta + blk_unzigzag(blk_in_varint(head));
    chain->first_delta = g.trend;
    chain->start = g.start + (BLK_CODED_VALUES >> TREND_BITS) * g.trend;
    unsigned low = g.flags & GROUP_LOW;
    *ret = g;
    return !head->bad && (low <= 56 || (low == GROUP_ZERO && !(g.flags & GROUP_ESCAPES)));
}

/* Symbols and low bits become zigzags. */
static bool
join_residuals(const uint8_t *symbols, unsigned low, blk_in *escapes, size_t n_escapes, size_t m,
               uint64_t *z)
{
    size_t met = 0;

    for (size_t i = 0; i < m; i++) {
        if (PS_UNLIKELY(symbols[i] == ESCAPE)) {
            z[i] = blk_in_varint(escapes);
            met++;
        } else {
            z[i] |= (uint64_t)symbols[i] << low;
        }
    }
    return met == n_escapes && !escapes->bad && blk_in_left(escapes) == 0;
}

/* Integers of a group; `in` is its payload behind the raws. */
static bool
read_group(const group *g, unsigned rule, const uint16_t *table, blk_in *in, uint64_t *out)
{
    const unsigned low = g->flags & GROUP_LOW;
    const size_t m = g->n - 1;
    uint8_t symbols[BLK_CODED_VALUES];
    uint64_t n_escapes = 0;

    out[0] = g->start;
    if (low == GROUP_ZERO && rule == 0) { /* what stands still beside the series before */
        for (size_t i = 1; i <= m; i++)
            out[i] = g->start;
        return blk_in_left(in) == 0;
    }
    if (low == GROUP_ZERO) {
        memset(out + 1, 0, m * sizeof *out);
        restore(out, g->n, rule, g->trend, escape_limit(low));
        return blk_in_left(in) == 0;
    }
    if (g->flags & GROUP_ESCAPES)
        n_escapes = blk_in_varint(in);
    blk_in escapes = *in;
    if (n_escapes > m)
        return false;
    for (uint64_t i = 0; i < n_escapes; i++)
        (void)blk_in_varint(in);
    escapes.end = in->p;
    for (size_t at = 0; at < m; at += BLK_FRAME_VALUES) {
        size_t len = m - at < BLK_FRAME_VALUES ? m - at : BLK_FRAME_VALUES;
        const uint8_t *packed = blk_in_bytes(in, blk_packed_bytes(len, low));
        if (packed == NULL)
            return false;
        blk_unpack(out + 1 + at, len, packed, (size_t)(in->end - packed), low);
    }
    if (in->bad || !read_strings(table, in->p, blk_in_left(in), m, symbols) ||
        !join_residuals(symbols, low, &escapes, (size_t)n_escapes, m, out + 1))
        return false;
    restore(out, g->n, rule, g->trend, escape_limit(low));
    return true;
}

/* Passes over the raws at the front of a group's payload, or puts those of lo..hi over the values. */
static bool
read_raws(blk_in *in, const group *g, size_t lo, size_t hi, double *values)
{
    uint64_t n = blk_in_varint(in), pos = 0;

    if (n == 0 || n > g->n)
        return false;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t step = blk_in_varint(in), bits = blk_in_u64(in);
        if (in->bad || step >= g->n - pos || (i > 0 && step == 0))
            return false;
        pos += step;
        if (pos >= lo && pos < hi)
            values[pos - lo] = ps_double_of(bits);
    }
    return true;
}

/* Values lo..hi of a group. */
static bool
decode_group(const blk_vcol *c, const group *g, unsigned rule, const uint16_t *table,
             const uint8_t *payload, size_t lo, size_t hi, blk_coded_out to)
{
    blk_in in = {payload, payload + g->len, false};
    uint64_t ints[BLK_CODED_VALUES];

    if ((g->flags & GROUP_RAWS) && !read_raws(&in, g, 0, 0, NULL))
        return false;
    if (!read_group(g, rule, table, &in, ints))
        return false;
    if (to.base != NULL) {
        for (size_t i = lo; i < hi; i++)
            ints[i] += to.base[i - lo];
    }
    if (to.ints != NULL)
        memcpy(to.ints, ints + lo, (hi - lo) * sizeof *ints);
    if (to.values == NULL)
        return true;
    if (c->codec == BLK_CODEC_BITS_CODED)
        blk_bits_restore(ints + lo, hi - lo, c->shift, to.values);
    else
        blk_decimal_restore(ints + lo, hi - lo, c->k, c->shift, to.values);
    in = (blk_in){payload, payload + g->len, false};
    return !(g->flags & GROUP_RAWS) || read_raws(&in, g, lo, hi, to.values);
}

bool
blk_coded_decode(const blk_vcol *c, uint64_t prev, uint32_t n, const uint8_t *body, size_t lo,
                 size_t count, blk_coded_out to)
{
    uint16_t table[TABLE];
    blk_in head = {c->frames, c->frames + c->frames_len, false};
    blk_in in = {body, body + c->body_len, false};
    blk_chain chain = {.start = prev};
    const size_t hi = lo + count;
    const unsigned rule = blk_in_u8(&head);
    group g;

    if (head.bad || (rule & ~(unsigned)RULE_KNOWN) || !read_table(&in, table))
        return false;
    for (size_t at = 0; at < hi; at += BLK_CODED_VALUES) {
        uint32_t len = (uint32_t)group_at(n, at);
        if (!parse_group(&head, rule, len, &chain, &g))
            return false;
        const uint8_t *payload = blk_in_bytes(&in, g.len);
        if (payload == NULL)
            return false;
        if (at + len <= lo)
            continue;
        size_t from = at < lo ? lo : at, end = at + len < hi ? at + len : hi;
        blk_coded_out here = {to.base == NULL ? NULL : to.base + (from - lo),
                              to.ints == NULL ? NULL : to.ints + (from - lo),
                              to.values == NULL ? NULL : to.values + (from - lo)};
        if (!decode_group(c, &g, rule, table, payload, from - at, end - at, here))
            return false;
    }
    /* what was read to its end must be all there is */
    return hi < n || (blk_in_left(&head) == 0 && blk_in_left(&in) == 0);
}
