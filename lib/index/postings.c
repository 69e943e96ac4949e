/*
 * postings.c - which series have a label pair: ascending slots, stored as differences of one to five
 * bytes. Slots come in ascending order, so that adding is appending; a pair that all series of a job
 * have costs a byte a series. There is no skipping: only the smallest list of a selection is walked,
 * the other matchers are checked against the series' own labels.
 */
#include "lib/index/internal.h"

enum { MAX_VARINT = 5 };

static size_t
put_varint(uint8_t *p, uint32_t v)
{
    size_t n = 0;
    while (v >= 128) {
        p[n++] = (uint8_t)(v | 128);
        v >>= 7;
    }
    p[n++] = (uint8_t)v;
    return n;
}

static ps_status
put(idx *x, idx_postings *p, uint32_t step, ps_err *err)
{
    if (p->cap - p->len < MAX_VARINT) {
        /* with its header a multiple of what allocators give out */
        size_t cap = ((p->len + p->len / 2 + MAX_VARINT + 8 + 15) & ~(size_t)15) - 8;
        if (cap > UINT32_MAX)
            return ps_fail(err, PS_ELIMIT, "too many series have the same label");
        void *bytes = p->bytes;
        PS_TRY(idx_resize(x, &bytes, p->cap, cap, 1, err));
        p->bytes = bytes;
        p->cap = cap;
    }
    p->len += (uint32_t)put_varint(p->bytes + p->len, step);
    return PS_OK;
}

ps_status
idx_postings_add(idx *x, idx_postings *p, uint32_t slot, ps_err *err)
{
    if (p->n == 1)
        PS_TRY(put(x, p, p->last, err));
    if (p->n > 0)
        PS_TRY(put(x, p, slot - p->last, err));
    p->last = slot;
    p->n++;
    return PS_OK;
}

void
idx_walk_begin(const idx_postings *p, idx_walk *w)
{
    bool single = p->n == 1;
    *w = (idx_walk){p->bytes, p->n, single ? p->last : 0, single};
}
