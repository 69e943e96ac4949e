/*
 * coded_plan.c - which prediction suits integers, and about what coded.c would make of them, before it does.
 *
 * Looked at are a few parts of the series, all rules side by side, as floats: what is wanted is the length of residuals
 * and not the residuals. Each part first goes on for a while without being counted, as averages have to find their
 * level; groups are longer than parts, and the beginning matters less there.
 *
 * The bytes are those of an ideal code for what was seen. That is a little less than a table for all of the series gives:
 * who is told that it does not pay can rely on it, mostly, and saves the work.
 */
#include "lib/block/internal.h"

enum { PARTS = 4, WARM = 16, COUNTED = 64, PART = 1 + WARM + COUNTED, MOST = PART * PARTS };
enum { LANES = 4, LOG_BITS = 8, LOG_BIAS = 127 << LOG_BITS };

typedef float f32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));

/* Averages of like kind that follow at different pace. */
static const uint8_t lane_s[LANES] = {0, 2, 3, 4};
static const float lane_weight[LANES] = {1, 0.25f, 0.125f, 0.0625f};
static const float lane_keep[LANES] = {0, 0.75f, 0.875f, 0.9375f};

typedef struct parts {
    size_t n, len, warm; /* parts, an even number; values of each; residuals of each that do not count */
    size_t stride;       /* from one to the next */
} parts;

static parts
cut_parts(size_t n)
{
    const size_t half = (n + 1) / 2;

    if (n <= MOST)
        return (parts){.n = 2, .len = half, .warm = 0, .stride = n - half};
    return (parts){.n = PARTS, .len = PART, .warm = WARM, .stride = (n - PART) / (PARTS - 1)};
}

static size_t
counted(const parts *p)
{
    return p->n * (p->len - 1 - p->warm);
}

/* What an average goes through: values less the first one, or steps less about the mean of the first few. That
 * keeps numbers small, so that floats do. */
typedef struct chain {
    float x[MOST / 2];
    float start;
} chain;

static void
level_chain(const uint64_t *v, size_t n, chain *ret)
{
    ret->start = 0;
    for (size_t i = 1; i < n; i++)
        ret->x[i - 1] = (float)(int64_t)(v[i] - v[0]);
}

static void
slope_chain(const uint64_t *v, size_t n, chain *ret)
{
    const size_t m = n > WARM ? WARM : n - 1;
    const int64_t rise = (int64_t)(v[m] - v[0]), mean = rise / (int64_t)m;

    ret->start = (float)(rise % (int64_t)m) / (float)m;
    for (size_t i = 1; i < n; i++)
        ret->x[i - 1] = (float)(int64_t)(v[i] - v[i - 1] - (uint64_t)mean);
}

/* The next residuals of all rules of a kind: logarithms of 1 + twice as much, in 256ths, LOG_BIAS too high. */
static inline __attribute__((always_inline)) u32x4
next_costs(const chain *c, size_t i, f32x4 keep, f32x4 weight, f32x4 *average)
{
    const f32x4 magic = {0x1.8p23f, 0x1.8p23f, 0x1.8p23f, 0x1.8p23f}; /* rounds to whole numbers */
    const u32x4 no_sign = {INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX};
    f32x4 r = c->x[i] - ((*average + magic) - magic);
    u32x4 bits;

    *average = *average * keep + c->x[i] * weight;
    memcpy(&bits, &r, sizeof bits);
    bits &= no_sign;
    memcpy(&r, &bits, sizeof r);
    r = r + r + 1.0f;
    memcpy(&bits, &r, sizeof bits);
    return bits >> (23 - LOG_BITS);
}

/* Two parts at once: an average waits for the one before it, and processors need not. */
static void
add_costs(const chain *c, const parts *p, uint32_t *cost)
{
    f32x4 keep, weight, a0, a1, a2, a3;
    u32x4 level = {0}, slope = {0};

    memcpy(&keep, lane_keep, sizeof keep);
    memcpy(&weight, lane_weight, sizeof weight);
    a0 = (f32x4){0} + c[0].start;
    a1 = (f32x4){0} + c[1].start;
    a2 = (f32x4){0} + c[2].start;
    a3 = (f32x4){0} + c[3].start;
    for (size_t i = 0; i < p->len - 1; i++) {
        u32x4 l = next_costs(&c[0], i, keep, weight, &a0) + next_costs(&c[1], i, keep, weight, &a1);
        u32x4 s = next_costs(&c[2], i, keep, weight, &a2) + next_costs(&c[3], i, keep, weight, &a3);
        if (i < p->warm)
            continue;
        level += l;
        slope += s;
    }
    for (unsigned k = 0; k < LANES; k++) {
        cost[k] += level[k];
        cost[LANES + k] += slope[k];
    }
}

static unsigned
choose_rule(const uint64_t *v, const parts *p, uint32_t *ret_cost)
{
    uint32_t cost[2 * LANES] = {0};
    chain chains[4];
    unsigned best = 0;

    for (size_t k = 0; k < p->n; k += 2) {
        const uint64_t *one = v + k * p->stride, *other = one + p->stride;
        level_chain(one, p->len, &chains[0]);
        level_chain(other, p->len, &chains[1]);
        slope_chain(one, p->len, &chains[2]);
        slope_chain(other, p->len, &chains[3]);
        add_costs(chains, p, cost);
    }
    for (unsigned k = 1; k < 2 * LANES; k++) {
        if (cost[k] < cost[best])
            best = k;
    }
    *ret_cost = cost[best] - (uint32_t)counted(p) * LOG_BIAS;
    return best < LANES ? lane_s[best] : BLK_RULE_SLOPE | lane_s[best - LANES];
}

/* ---- about how many bytes ------------------------------------------------------------------ */

/* log2 of a number above 0. */
static double
log2_of(double x)
{
    const uint64_t bits = ps_bits_of(x);
    const double f = ps_double_of((bits & ((UINT64_C(1) << 52) - 1)) | UINT64_C(0x3ff) << 52) - 1;

    /* right at both ends, and within a hundredth between */
    return (double)((int64_t)(bits >> 52) - 1023) + f + 0.344 * f * (1 - f);
}

/* Adding and taking away rounds to a whole number, as far as doubles have a fraction. */
#define MAGIC 0x1.8p52

/* The mean of the first steps. */
static double
trend_of(const uint64_t *v, size_t n)
{
    const size_t m = n > WARM ? WARM : n - 1;

    return (double)(int64_t)(v[m] - v[0]) / (double)m;
}

/* Zigzags of the residuals of a part that count. */
static size_t
part_residuals(const uint64_t *v, size_t n, size_t warm, unsigned rule, uint64_t *z)
{
    const bool slope = (rule & BLK_RULE_SLOPE) != 0;
    const double weight = 1.0 / (double)(1u << (rule & BLK_RULE_AVERAGE));
    double average = slope ? trend_of(v, n) : 0;
    size_t m = 0;

    for (size_t i = 1; i < n; i++) {
        const double x = (double)(int64_t)(v[i] - v[slope ? i - 1 : 0]);
        const double r = x - ((average + MAGIC) - MAGIC);
        average += (x - average) * weight;
        if (i > warm)
            z[m++] = r < 0x1p62 && r > -0x1p62 ? blk_zigzag((uint64_t)(int64_t)r) : UINT64_MAX;
    }
    return m;
}

/* Bits of all symbols in the best code of whole bits, nearly. */
static double
symbol_bits(const uint32_t *count)
{
    uint32_t all = 0, most = 0, rest;
    double bits = 0;

    for (unsigned i = 0; i < BLK_CODED_SYMBOLS; i++) {
        all += count[i];
        most = count[i] > most ? count[i] : most;
    }
    /* one above the half has one bit, which is more than its due; the others are a code of their own behind it */
    const bool above = most * 2 > all;
    rest = above ? all - most : all;
    for (unsigned i = 0; i < BLK_CODED_SYMBOLS; i++) {
        if (count[i] > 0 && !(above && count[i] == most))
            bits += count[i] * log2_of((double)rest / count[i]);
    }
    return above ? bits + all : bits;
}

static size_t
about_bytes(const uint64_t *v, size_t n, const parts *p, unsigned rule)
{
    uint32_t count[BLK_CODED_SYMBOLS] = {0};
    uint64_t z[MOST / 2];
    double bits = 0;

    for (size_t k = 0; k < p->n; k++) {
        size_t m = part_residuals(v + k * p->stride, p->len, p->warm, rule, z);
        unsigned low = blk_coded_low(z, m);
        if (low == BLK_GROUP_ZERO)
            continue;
        for (size_t i = 0; i < m; i++) {
            unsigned symbol = blk_coded_symbol(z[i], low);
            count[symbol]++;
            bits += low + (symbol == BLK_CODED_ESCAPE ? 8 * blk_varint_len(z[i]) : 0);
        }
    }
    const size_t groups = (n + BLK_CODED_VALUES - 1) / BLK_CODED_VALUES;
    bits += symbol_bits(count);
    return (size_t)(bits / 8 * (double)n / (double)counted(p)) + groups * 6;
}

blk_coded_plan
blk_coded_planned(const uint64_t *v, size_t n)
{
    const parts p = cut_parts(n);
    blk_coded_plan plan = {0};

    if (p.len < 2)
        return plan;
    plan.rule = (uint8_t)choose_rule(v, &p, &plan.cost);
    plan.bytes = about_bytes(v, n, &p, plan.rule);
    return plan;
}
