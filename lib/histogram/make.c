/*
 * make.c - histograms come to be: copies, other hints, compaction, lower resolution, factors.
 *
 * One allocation holds the struct, then spans, counts and bounds, all of 8-byte units. hst_build()
 * runs what fills the buckets twice: once to count them, once to write them.
 */
#include "lib/histogram/internal.h"

_Static_assert(sizeof(hst_span) == 8, "spans, counts and bounds are laid out in units of 8 bytes");
_Static_assert(sizeof(hst_hist) % 8 == 0, "spans follow the struct");

static ps_status
allocate(ps_arena *arena, const hst_out *positive, const hst_out *negative, uint32_t n_bounds,
         hst_hist **ret)
{
    size_t units = (size_t)positive->n_spans + positive->n_counts + negative->n_spans +
                   negative->n_counts + n_bounds;
    hst_hist *h = ps_arena_new(arena, sizeof *h + 8 * units);
    if (h == NULL)
        return PS_ENOMEM;
    *ret = h;
    return PS_OK;
}

/* The place behind the struct, handed out side by side. */
static void
lay_out(char **at, hst_out *out, const hst_out *size, hst_side *side)
{
    *out = (hst_out){.keep_empty = size->keep_empty};
    out->spans = (hst_span *)*at;
    *at += sizeof(hst_span) * size->n_spans;
    out->counts = (double *)*at;
    *at += sizeof(double) * size->n_counts;
    *side = (hst_side){out->spans, size->n_spans, size->n_counts, out->counts};
}

ps_status
hst_build(ps_arena *arena, const hst_hist *like, bool keep_empty, hst_fill fill, const void *self,
          const hst_hist **ret)
{
    hst_out positive = {.keep_empty = keep_empty}, negative = {.keep_empty = keep_empty};
    fill(self, &positive, &negative);
    hst_hist *h;
    PS_TRY(allocate(arena, &positive, &negative, like->n_bounds, &h));
    *h = *like;
    char *at = (char *)(h + 1);
    hst_out out_positive, out_negative;
    lay_out(&at, &out_positive, &positive, &h->positive);
    lay_out(&at, &out_negative, &negative, &h->negative);
    h->bounds = NULL;
    if (h->n_bounds > 0)
        h->bounds = memcpy(at, like->bounds, sizeof(double) * h->n_bounds);
    fill(self, &out_positive, &out_negative);
    *ret = h;
    return PS_OK;
}

static void
copy_units(char **at, const void *from, size_t n, const void **ret)
{
    *ret = *at;
    if (n > 0)
        memcpy(*at, from, 8 * n);
    *at += 8 * n;
}

ps_status
hst_copy(ps_arena *arena, const hst_hist *h, const hst_hist **ret)
{
    hst_hist *c = ps_arena_new(arena, hst_bytes(h));
    if (c == NULL)
        return PS_ENOMEM;
    *c = *h;
    char *at = (char *)(c + 1);
    copy_units(&at, h->positive.spans, h->positive.n_spans, (const void **)&c->positive.spans);
    copy_units(&at, h->positive.counts, h->positive.n_counts, (const void **)&c->positive.counts);
    copy_units(&at, h->negative.spans, h->negative.n_spans, (const void **)&c->negative.spans);
    copy_units(&at, h->negative.counts, h->negative.n_counts, (const void **)&c->negative.counts);
    copy_units(&at, h->bounds, h->n_bounds, (const void **)&c->bounds);
    *ret = c;
    return PS_OK;
}

ps_status
hst_with_hint(ps_arena *arena, const hst_hist *h, hst_hint hint, const hst_hist **ret)
{
    if (h->hint == hint) {
        *ret = h;
        return PS_OK;
    }
    hst_hist *c = ps_arena_new(arena, sizeof *c);
    if (c == NULL)
        return PS_ENOMEM;
    *c = *h;
    c->hint = hint;
    *ret = c;
    return PS_OK;
}

/* ---- one histogram in, one out --------------------------------------------------------------------- */

typedef struct one {
    const hst_hist *h;
    int32_t shift;
    double divisor;
} one;

static void
fill_side(const one *o, const hst_side *side, hst_out *out)
{
    hst_walk w = hst_walk_of(side, o->shift);
    int32_t index;
    w.divisor = o->divisor;
    while (hst_peek(&w, &index))
        hst_put(out, index, hst_take_all(&w, index));
}

static void
fill_one(const void *self, hst_out *positive, hst_out *negative)
{
    const one *o = self;
    fill_side(o, &o->h->positive, positive);
    fill_side(o, &o->h->negative, negative);
}

static bool
side_is_compact(const hst_side *side)
{
    for (uint32_t i = 0; i < side->n_spans; i++)
        if (side->spans[i].length == 0 || (i > 0 && side->spans[i].offset == 0))
            return false;
    for (uint32_t i = 0; i < side->n_counts; i++)
        if (side->counts[i] == 0)
            return false;
    return true;
}

ps_status
hst_compact(ps_arena *arena, const hst_hist *h, const hst_hist **ret)
{
    if (side_is_compact(&h->positive) && side_is_compact(&h->negative)) {
        *ret = h;
        return PS_OK;
    }
    return hst_build(arena, h, false, fill_one, &(one){h, 0, 1}, ret);
}

ps_status
hst_reduce(ps_arena *arena, const hst_hist *h, int32_t schema, const hst_hist **ret)
{
    if (h->schema == schema) {
        *ret = h;
        return PS_OK;
    }
    if (h->schema == HST_CUSTOM || schema < HST_SCHEMA_MIN || schema > h->schema)
        return PS_EINVAL;
    hst_hist like = *h;
    like.schema = schema;
    return hst_build(arena, &like, false, fill_one, &(one){h, h->schema - schema, 1}, ret);
}

ps_status
hst_mul(ps_arena *arena, const hst_hist *h, double by, const hst_hist **ret)
{
    hst_hist like = *h;
    like.count *= by;
    like.sum *= by;
    like.zero_count *= by;
    if (by < 0)
        like.hint = HST_GAUGE;
    return hst_scale(arena, &like, h, by, ret);
}

static void
fill_nothing(const void *self, hst_out *positive, hst_out *negative)
{
    (void)self, (void)positive, (void)negative;
}

ps_status
hst_div(ps_arena *arena, const hst_hist *h, double by, const hst_hist **ret)
{
    hst_hist like = *h;
    like.count /= by;
    like.sum /= by;
    like.zero_count /= by;
    if (by == 0)
        return hst_build(arena, &like, false, fill_nothing, NULL, ret);
    if (by < 0)
        like.hint = HST_GAUGE;
    return hst_build(arena, &like, false, fill_one, &(one){h, 0, by}, ret);
}

/* ---- equality ---------------------------------------------------------------------------------------- */

/* The next bucket that is not empty. */
static bool
next_populated(hst_walk *w, int32_t *index, double *count)
{
    while (hst_peek(w, index)) {
        *count = hst_take(w);
        if (*count != 0)
            return true;
    }
    return false;
}

static bool
same_side(const hst_side *a, const hst_side *b)
{
    hst_walk wa = hst_walk_of(a, 0), wb = hst_walk_of(b, 0);
    int32_t ia = 0, ib = 0;
    double va = 0, vb = 0;
    for (;;) {
        bool more_a = next_populated(&wa, &ia, &va), more_b = next_populated(&wb, &ib, &vb);
        if (!more_a || !more_b)
            return more_a == more_b;
        if (ia != ib || ps_bits_of(va) != ps_bits_of(vb))
            return false;
    }
}

bool
hst_equal(const hst_hist *a, const hst_hist *b)
{
    return a->schema == b->schema && ps_bits_of(a->count) == ps_bits_of(b->count) &&
           ps_bits_of(a->sum) == ps_bits_of(b->sum) &&
           hst_same_bounds(a->bounds, a->n_bounds, b->bounds, b->n_bounds) &&
           a->zero_threshold == b->zero_threshold &&
           ps_bits_of(a->zero_count) == ps_bits_of(b->zero_count) &&
           same_side(&a->positive, &b->positive) && same_side(&a->negative, &b->negative);
}
