/*
 * layout.c - layouts of histograms: written, read and checked, told apart.
 *
 * Checks are those of hst_check(), so that what is made with a layout is a histogram. Spans are stored
 * without their redundancy: no length is 0, and no gap between two spans.
 */
#include "lib/block/histograms.h"

#include <math.h>

/* ---- writing -------------------------------------------------------------------------------- */

static void
put_spans(ps_buf *out, const hst_side *side)
{
    for (uint32_t i = 0; i < side->n_spans; i++) {
        const hst_span *s = &side->spans[i];
        if (i == 0)
            blk_buf_varint(out, blk_zigzag((uint64_t)(int64_t)s->offset));
        else
            blk_buf_varint(out, (uint64_t)s->offset - 1);
        blk_buf_varint(out, (uint64_t)s->length - 1);
    }
}

void
blk_layout_put(ps_buf *out, const hst_hist *like, const hst_side *positive,
               const hst_side *negative)
{
    const uint64_t zero = ps_bits_of(like->zero_threshold);
    unsigned how = zero == 0                            ? BLK_ZERO_NONE
                   : zero == ps_bits_of(BLK_USUAL_ZERO) ? BLK_ZERO_USUAL
                                                        : BLK_ZERO_GIVEN;

    ps_buf_add_char(out, (char)(how << BLK_LAYOUT_ZERO_SHIFT |
                                (like->integer ? BLK_LAYOUT_INTEGER : 0)));
    blk_buf_varint(out, blk_zigzag((uint64_t)(int64_t)like->schema));
    if (how == BLK_ZERO_GIVEN)
        blk_buf_u64(out, zero);
    if (like->schema == HST_CUSTOM) {
        blk_buf_varint(out, like->n_bounds);
        ps_buf_add(out, like->bounds, like->n_bounds * sizeof(double));
    }
    blk_buf_varint(out, positive->n_spans);
    blk_buf_varint(out, negative->n_spans);
    put_spans(out, positive);
    put_spans(out, negative);
}

/* ---- reading -------------------------------------------------------------------------------- */

static double
bound_at(const uint8_t *bounds, size_t i)
{
    return ps_double_of(ps_get_u64le(bounds + i * 8));
}

static bool
read_bounds(blk_in *in, blk_layout *l)
{
    uint64_t n = blk_in_varint(in);

    if (in->bad || n > BLK_MAX_BUCKETS)
        return false;
    l->bounds = blk_in_bytes(in, n * 8);
    if (l->bounds == NULL)
        return false;
    l->n_bounds = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        double b = bound_at(l->bounds, i);
        if (isnan(b) || b == HUGE_VAL || (i > 0 && b <= bound_at(l->bounds, i - 1)))
            return false;
    }
    return true;
}

/* One span; *index stands behind the one before. */
static bool
read_span(blk_in *in, bool first, int64_t *index, hst_span *ret)
{
    uint64_t at = blk_in_varint(in), length = blk_in_varint(in);

    if (in->bad || (!first && at > HST_INDEX_MAX) || length >= BLK_MAX_BUCKETS)
        return false;
    int64_t offset = first ? (int64_t)blk_unzigzag(at) : (int64_t)at + 1;
    if (offset < -HST_INDEX_MAX || offset > HST_INDEX_MAX)
        return false;
    *ret = (hst_span){(int32_t)offset, (uint32_t)length + 1};
    *index += offset + ret->length;
    return *index <= HST_INDEX_MAX;
}

static bool
read_side(blk_in *in, blk_layout *l, unsigned side, uint64_t n_spans)
{
    int64_t index = 0;
    uint64_t n = 0;

    for (uint64_t i = 0; i < n_spans; i++) {
        hst_span s;
        if (!read_span(in, i == 0, &index, &s))
            return false;
        if (i == 0 && s.offset < 0 && l->schema == HST_CUSTOM)
            return false;
        n += s.length;
        if (n > BLK_MAX_BUCKETS)
            return false;
    }
    l->n_spans[side] = (uint32_t)n_spans;
    l->n_buckets[side] = (uint32_t)n;
    return l->schema != HST_CUSTOM || index <= (int64_t)l->n_bounds + 1;
}

ps_status
blk_layout_parse(blk_in *in, blk_layout *ret)
{
    unsigned flags = blk_in_u8(in), zero = flags >> BLK_LAYOUT_ZERO_SHIFT;
    int64_t schema = (int64_t)blk_unzigzag(blk_in_varint(in));
    blk_layout l = {.integer = (flags & BLK_LAYOUT_INTEGER) != 0};

    if (in->bad)
        return PS_ECORRUPT;
    if (flags & ~(unsigned)BLK_LAYOUT_KNOWN || zero > BLK_ZERO_GIVEN ||
        (schema != HST_CUSTOM && (schema < HST_SCHEMA_MIN || schema > HST_SCHEMA_MAX)))
        return PS_EUNSUPPORTED;
    l.schema = (int32_t)schema;
    if (zero == BLK_ZERO_GIVEN)
        l.zero_threshold = ps_double_of(blk_in_u64(in));
    else
        l.zero_threshold = zero == BLK_ZERO_USUAL ? BLK_USUAL_ZERO : 0;
    if (isnan(l.zero_threshold) || isinf(l.zero_threshold) || l.zero_threshold < 0)
        return PS_ECORRUPT;
    if (schema == HST_CUSTOM && (l.zero_threshold != 0 || !read_bounds(in, &l)))
        return PS_ECORRUPT;
    uint64_t n_positive = blk_in_varint(in), n_negative = blk_in_varint(in);
    if (in->bad || n_positive > BLK_MAX_BUCKETS || n_negative > BLK_MAX_BUCKETS ||
        (schema == HST_CUSTOM && n_negative > 0))
        return PS_ECORRUPT;
    l.spans = in->p;
    if (!read_side(in, &l, 0, n_positive) || !read_side(in, &l, 1, n_negative) ||
        l.n_buckets[0] + l.n_buckets[1] > BLK_MAX_BUCKETS)
        return PS_ECORRUPT;
    l.spans_end = in->p;
    *ret = l;
    return PS_OK;
}

void
blk_layout_spans(const blk_layout *l, hst_span *ret)
{
    blk_in in = {l->spans, l->spans_end, false};

    for (unsigned side = 0; side < 2; side++) {
        int64_t index = 0;
        for (uint32_t i = 0; i < l->n_spans[side]; i++)
            (void)read_span(&in, i == 0, &index, ret++);
    }
}

ps_status
blk_layouts_read(const ps_alloc *alloc, blk_in *in, blk_layout **ret, uint32_t *ret_n, ps_err *err)
{
    enum { MIN_BYTES = 4 };
    uint64_t n = blk_in_varint(in);

    if (in->bad || n == 0 || n > blk_in_left(in) / MIN_BYTES)
        return ps_fail(err, PS_ECORRUPT, "block is damaged: number of layouts");
    *ret = ps_alloc_array(alloc, (size_t)n, sizeof **ret);
    if (*ret == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    *ret_n = (uint32_t)n; /* to be freed, whatever comes */
    for (uint64_t i = 0; i < n; i++) {
        ps_status status = blk_layout_parse(in, &(*ret)[i]);
        if (status == PS_EUNSUPPORTED)
            return ps_fail(err, status, "block has histograms of a kind not known to this build");
        if (status != PS_OK)
            return ps_fail(err, status, "block is damaged: layout of histograms");
    }
    return PS_OK;
}

/* ---- byte strings by number ----------------------------------------------------------------- */

typedef struct intern_item {
    uint64_t hash;
    size_t at, len;
} intern_item;

static intern_item *
item_at(const blk_intern *in, uint32_t i)
{
    return (intern_item *)(void *)in->items.ptr + i;
}

void
blk_intern_init(blk_intern *in, const ps_alloc *alloc)
{
    memset(in, 0, sizeof *in);
    ps_buf_init(&in->bytes, alloc);
    ps_buf_init(&in->items, alloc);
}

void
blk_intern_done(blk_intern *in)
{
    ps_alloc alloc = in->bytes.alloc;

    ps_alloc_free(&alloc, in->table, in->table_size * sizeof *in->table);
    ps_buf_done(&in->bytes);
    ps_buf_done(&in->items);
}

void
blk_intern_clear(blk_intern *in)
{
    ps_buf_clear(&in->bytes);
    ps_buf_clear(&in->items);
    in->n = 0;
    if (in->table != NULL)
        memset(in->table, 0, in->table_size * sizeof *in->table);
}

static bool
intern_grow(blk_intern *in)
{
    size_t size = in->table_size == 0 ? 16 : in->table_size * 2;
    uint32_t *table = ps_alloc_array(&in->bytes.alloc, size, sizeof *table);

    if (table == NULL)
        return false;
    for (uint32_t i = 0; i < in->n; i++) {
        size_t at = item_at(in, i)->hash & (size - 1);
        while (table[at] != 0)
            at = (at + 1) & (size - 1);
        table[at] = i + 1;
    }
    ps_alloc_free(&in->bytes.alloc, in->table, in->table_size * sizeof *in->table);
    in->table = table;
    in->table_size = size;
    return true;
}

bool
blk_intern_number(blk_intern *in, size_t at, uint32_t *ret)
{
    if (in->bytes.failed || (((size_t)in->n + 1) * 2 > in->table_size && !intern_grow(in)))
        return false;
    ps_str s = {in->bytes.ptr + at, in->bytes.len - at};
    intern_item item = {ps_hash64(s, 0), at, s.len};
    size_t slot = item.hash & (in->table_size - 1);
    for (; in->table[slot] != 0; slot = (slot + 1) & (in->table_size - 1)) {
        const intern_item *known = item_at(in, in->table[slot] - 1);
        if (known->hash == item.hash && known->len == s.len &&
            memcmp(in->bytes.ptr + known->at, s.ptr, s.len) == 0) {
            in->bytes.len = at;
            *ret = in->table[slot] - 1;
            return true;
        }
    }
    ps_buf_add(&in->items, &item, sizeof item);
    if (in->items.failed)
        return false;
    in->table[slot] = in->n + 1;
    *ret = in->n++;
    return true;
}

/* ---- histograms ----------------------------------------------------------------------------- */

uint32_t
blk_populated(const hst_hist *h)
{
    uint32_t n = 0;

    for (unsigned side = 0; side < 2; side++) {
        const hst_side *s = side == 0 ? &h->positive : &h->negative;
        for (uint32_t i = 0; i < s->n_counts; i++)
            n += s->counts[i] != 0;
    }
    return n;
}

bool
blk_same_histogram(const hst_hist *a, const hst_hist *b)
{
    if (hst_is_stale(a) && hst_is_stale(b))
        return true;
    return a->hint == b->hint && hst_equal(a, b);
}

bool
blk_count_rest(const hst_hist *h, double *ret)
{
    double sum = h->zero_count, v;

    for (unsigned side = 0; side < 2; side++) {
        blk_buckets b = blk_buckets_of(side == 0 ? &h->positive : &h->negative);
        while (blk_buckets_next(&b, &v))
            sum += v;
    }
    *ret = h->count - sum;
    return ps_bits_of(*ret + sum) == ps_bits_of(h->count) && floor(*ret) == *ret &&
           fabs(*ret) <= 0x1p53;
}
