/*
 * codec.c - the value codecs of columns blocks: one table by stored id, the choice, the decoders.
 *
 * The writer tries what can win for a series and keeps the smallest result, exactly measured (head
 * and body bytes). Most codecs are the integer frames of frames.c over different integers: decimal
 * integers, ordered bits, plain bits with xor. Constant series have no frames at all. Sealed series
 * may have two more that are slower to read and therefore have to win clearly: entropy-coded
 * residuals of the same integers (coded.c), and zstd for irregular floats.
 *
 * A sealed series may be written relative to the one before it in the block: the differences of their integers, coded.
 * That is for cumulative buckets of classic histograms, each of which counts all that the one below it counts. To read
 * the last of such a row all of it is read, so rows are short and a lot must be won.
 */
#include "lib/block/internal.h"

typedef enum codec_family {
    FAMILY_CONST,
    FAMILY_DECIMAL,
    FAMILY_BITS,
    FAMILY_XOR,
    FAMILY_ZSTD
} codec_family;

static const struct codec {
    const char *name; /* NULL: the id is not used */
    codec_family family;
    blk_mode mode;
    bool coded; /* not frames but the groups of coded.c */
} codecs[BLK_CODEC_END] = {
    [BLK_CODEC_CONST] = {"const", FAMILY_CONST, BLK_MODE_RAW, false},
    [BLK_CODEC_DEC_RAW] = {"decimal", FAMILY_DECIMAL, BLK_MODE_RAW, false},
    [BLK_CODEC_DEC_DELTA] = {"decimal-delta", FAMILY_DECIMAL, BLK_MODE_DELTA, false},
    [BLK_CODEC_DEC_DOD] = {"decimal-dod", FAMILY_DECIMAL, BLK_MODE_DOD, false},
    [BLK_CODEC_BITS_RAW] = {"bits", FAMILY_BITS, BLK_MODE_RAW, false},
    [BLK_CODEC_BITS_DELTA] = {"bits-delta", FAMILY_BITS, BLK_MODE_DELTA, false},
    [BLK_CODEC_BITS_DOD] = {"bits-dod", FAMILY_BITS, BLK_MODE_DOD, false},
    [BLK_CODEC_XOR] = {"xor", FAMILY_XOR, BLK_MODE_XOR, false},
    [BLK_CODEC_ZSTD] = {"zstd", FAMILY_ZSTD, BLK_MODE_RAW, false},
    [BLK_CODEC_DEC_CODED] = {"decimal-coded", FAMILY_DECIMAL, BLK_MODE_RAW, true},
    [BLK_CODEC_BITS_CODED] = {"bits-coded", FAMILY_BITS, BLK_MODE_RAW, true},
    [BLK_CODEC_DEC_RELATIVE] = {"decimal-relative", FAMILY_DECIMAL, BLK_MODE_RAW, true},
};

const char *
blk_codec_name(unsigned id)
{
    return id < BLK_CODEC_END ? codecs[id].name : NULL;
}

void
blk_codec_scratch_init(blk_codec_scratch *s, const ps_alloc *alloc)
{
    memset(s, 0, sizeof *s);
    for (unsigned i = 0; i < 2; i++) {
        ps_buf_init(&s->head[i], alloc);
        ps_buf_init(&s->body[i], alloc);
    }
}

void
blk_codec_scratch_done(blk_codec_scratch *s, const ps_alloc *alloc)
{
    for (unsigned i = 0; i < 2; i++) {
        ps_buf_done(&s->head[i]);
        ps_buf_done(&s->body[i]);
    }
    blk_scratch_done(alloc, &s->ints);
    blk_scratch_done(alloc, &s->exc);
    blk_scratch_done(alloc, &s->planes);
    blk_scratch_done(alloc, &s->zbuf);
    blk_scratch_done(alloc, &s->keys);
    blk_scratch_done(alloc, &s->spans);
    blk_scratch_done(alloc, &s->table);
    blk_scratch_done(alloc, &s->differences);
    blk_scratch_done(alloc, &s->before.ints);
    blk_zstd_free(s->zstd, alloc);
    s->zstd = NULL;
}

/* ---- encoding ------------------------------------------------------------------------------ */

typedef struct choice { /* the best candidate so far lies in slot `slot ^ 1` */
    blk_codec_scratch *s;
    unsigned slot;
    size_t size; /* of the best */
    blk_encoded best;
    const ps_alloc *alloc;
    bool failed, hard;
} choice;

/* Closes the candidate in c->slot; keeps it if it is smaller. */
static void
consider(choice *c, blk_encoded e)
{
    ps_buf *head = &c->s->head[c->slot], *body = &c->s->body[c->slot];
    size_t size = head->len + body->len;

    if (head->failed || body->failed) {
        c->failed = true;
        return;
    }
    if (size >= c->size)
        return;
    e.frames = ps_buf_str(head);
    e.body = ps_buf_str(body);
    c->best = e;
    c->size = size;
    c->slot ^= 1;
}

static void
try_frames(choice *c, blk_encoded e, const uint64_t *ints, size_t n, uint64_t prev,
           const blk_raws *raws)
{
    ps_buf *head = &c->s->head[c->slot], *body = &c->s->body[c->slot];

    if (c->failed)
        return;
    ps_buf_clear(head);
    ps_buf_clear(body);
    blk_frames_encode(ints, n, codecs[e.codec].mode, e.shift, prev, raws, head, body);
    consider(c, e);
}

enum { CODED_MIN_VALUES = 240 };

/* Is it worth trying? The plan is a guess: what misses by little may yet be good enough. */
static bool
promises(const blk_coded_plan *plan, size_t less_than)
{
    return plan->bytes < less_than + less_than / 64;
}

/* The same integers coded, for sealed series that are long enough to pay for a table. They take about three times
 * as long to read: a fortieth must be won. */
static void
try_coded(choice *c, blk_encoded e, const uint64_t *ints, size_t n, uint64_t prev, const blk_raws *raws,
          blk_coded_plan *ret_plan)
{
    ps_buf *head = &c->s->head[c->slot], *body = &c->s->body[c->slot];
    bool smaller;

    if (c->failed || !c->hard || n < CODED_MIN_VALUES)
        return;
    *ret_plan = blk_coded_planned(ints, n);
    const size_t less_than = c->size - c->size / 40;
    if (!promises(ret_plan, less_than))
        return;
    ps_buf_clear(head);
    ps_buf_clear(body);
    if (blk_coded_encode(c->alloc, &c->s->planes, ints, n, ret_plan->rule, prev, raws, false, less_than,
                         head, body, &smaller) != PS_OK)
        c->failed = true;
    else if (smaller)
        consider(c, e);
}

/* w[i] = v[i] - base[i]; are they all the same? */
static bool
subtract(const uint64_t *v, const uint64_t *base, size_t n, uint64_t *w)
{
    uint64_t any = 0;

    w[0] = v[0] - base[0];
    for (size_t i = 1; i < n; i++) {
        w[i] = v[i] - base[i];
        any |= w[i] ^ w[0];
    }
    return any == 0;
}

/* Differences to the series before, coded. An eighth must be won: who wants this series alone reads others too. No more
 * than three in a row; but those that move as the one before does (buckets where nothing new comes) take no bytes and
 * a tenth of the time, and are counted apart: reading one alone costs two or three times as much as one that stands for
 * itself, whatever is in its row. */
static void
try_relative(choice *c, blk_encoded e, const uint64_t *ints, size_t n, const blk_raws *raws,
             const blk_coded_plan *alone)
{
    enum { COSTLY = 3, IN_A_ROW = 8 };
    struct blk_neighbour *before = &c->s->before;
    ps_buf *head = &c->s->head[c->slot], *body = &c->s->body[c->slot];
    const size_t less_than = c->size - c->size / 8;
    blk_coded_plan plan = {0};
    bool smaller;

    if (c->failed || !c->hard || !c->s->relative || n < CODED_MIN_VALUES || n > BLK_RELATIVE_VALUES ||
        before->n != n || before->k != e.k || before->shift != e.shift ||
        before->depth >= IN_A_ROW)
        return;
    uint64_t *w = blk_scratch_get(c->alloc, &c->s->differences, n, sizeof *w);
    if (w == NULL) {
        c->failed = true;
        return;
    }
    const bool free = subtract(ints, before->ints.ptr, n, w);
    if (!free) {
        if (before->costly >= COSTLY)
            return;
        plan = blk_coded_planned(w, n);
        if (plan.cost >= alone->cost / 16 * 15 || !promises(&plan, less_than))
            return;
    }
    ps_buf_clear(head);
    ps_buf_clear(body);
    if (blk_coded_encode(c->alloc, &c->s->planes, w, n, plan.rule, 0, raws, true, less_than, head, body,
                         &smaller) != PS_OK) {
        c->failed = true;
    } else if (smaller) {
        consider(c, e);
        before->costly += !free && c->best.codec == BLK_CODEC_DEC_RELATIVE;
    }
}

/* What the next series may be relative to, should this one stay decimal. */
static void
remember(choice *c, const uint64_t *ints, size_t n, const blk_encoded *e)
{
    struct blk_neighbour *before = &c->s->before;

    before->n = 0;
    if (!c->s->relative || !c->hard || n > BLK_RELATIVE_VALUES)
        return;
    void *kept = blk_scratch_get(c->alloc, &before->ints, n, sizeof *ints);
    if (kept == NULL) {
        c->failed = true;
        return;
    }
    memcpy(kept, ints, n * sizeof *ints);
    before->n = n;
    before->k = e->k;
    before->shift = e->shift;
}

/* The mode that costs least for these integers; id of raw + mode is the codec's id. */
static unsigned
best_mode(const uint64_t *ints, size_t n)
{
    enum { SLICE = 48 };
    static const uint8_t modes[] = {BLK_MODE_RAW, BLK_MODE_DELTA, BLK_MODE_DOD, BLK_MODE_RAW};
    unsigned best = BLK_MODE_RAW;
    uint64_t best_cost = UINT64_MAX;

    /* where only parts are looked at and are the same by all modes, a step somewhere else costs differences least */
    for (unsigned i = n <= 2 * BLK_FRAME_VALUES ? 0 : 1, end = i + 3; i < end; i++) {
        uint64_t cost = blk_frames_cost(ints, n, (blk_mode)modes[i], 0, SLICE);
        if (cost < best_cost) {
            best = modes[i];
            best_cost = cost;
        }
    }
    return best;
}

static void
try_decimal(choice *c, const double *v, size_t n, uint64_t *ints, const uint32_t *exc, size_t n_exc,
            unsigned k)
{
    blk_raws raws = {exc, n_exc, v};
    blk_coded_plan plan = {0};
    blk_encoded e = {.k = (uint8_t)k, .shift = (uint8_t)blk_common_shift(ints, n)};

    if (e.shift > 0) {
        for (size_t i = 0; i < n; i++)
            ints[i] = (uint64_t)((int64_t)ints[i] >> e.shift);
    }
    e.last_is_raw = n_exc > 0 && exc[n_exc - 1] == n - 1;
    e.last_int = e.last_is_raw ? 0 : ints[n - 1];
    e.codec = (uint8_t)(BLK_CODEC_DEC_RAW + best_mode(ints, n));
    try_frames(c, e, ints, n, e.last_int, &raws);
    e.codec = BLK_CODEC_DEC_CODED;
    try_coded(c, e, ints, n, e.last_int, &raws, &plan);
    e.codec = BLK_CODEC_DEC_RELATIVE;
    try_relative(c, e, ints, n, &raws, &plan);
    remember(c, ints, n, &e);
}

/* Codecs on the bits of doubles. Their last value is stored raw. */
static void
try_bits(choice *c, const double *v, size_t n, uint64_t *ints)
{
    blk_encoded e = {.last_is_raw = true};
    blk_coded_plan plan;
    uint64_t any = 0;

    for (size_t i = 1; i < n; i++)
        any |= ps_bits_of(v[i]) ^ ps_bits_of(v[i - 1]);
    e.shift = any == 0 ? 0 : (uint8_t)__builtin_ctzll(any);
    e.codec = BLK_CODEC_XOR;
    for (size_t i = 0; i < n; i++)
        ints[i] = ps_bits_of(v[i]);
    try_frames(c, e, ints, n, ints[n - 1], NULL);

    for (size_t i = 0; i < n; i++)
        ints[i] = blk_ordered_bits(ints[i]);
    e.shift = (uint8_t)blk_common_shift(ints, n);
    for (size_t i = 0; i < n; i++)
        ints[i] = (uint64_t)((int64_t)ints[i] >> e.shift);
    e.codec = (uint8_t)(BLK_CODEC_BITS_RAW + best_mode(ints, n));
    try_frames(c, e, ints, n, ints[n - 1], NULL);
    e.codec = BLK_CODEC_BITS_CODED;
    try_coded(c, e, ints, n, ints[n - 1], NULL, &plan);
}

static ps_status
try_zstd(const ps_alloc *alloc, choice *c, const double *v, size_t n)
{
    ps_buf *head = &c->s->head[c->slot], *body = &c->s->body[c->slot];
    size_t before = c->size;

    ps_buf_clear(head);
    ps_buf_clear(body);
    PS_TRY(blk_zstd_encode(alloc, c->s, v, n, body));
    /* it decodes slowly and only as a whole: it has to win clearly */
    c->size -= before / 12;
    consider(c, (blk_encoded){.codec = BLK_CODEC_ZSTD, .last_is_raw = true});
    if (c->best.codec != BLK_CODEC_ZSTD)
        c->size = before;
    return c->failed ? PS_ENOMEM : PS_OK;
}

static bool
all_same(const double *v, size_t n)
{
    uint64_t first = ps_bits_of(v[0]), any = 0;

    for (size_t i = 1; i < n; i++) {
        any |= ps_bits_of(v[i]) ^ first;
        if ((i & 63) == 0 && any != 0)
            return false;
    }
    return any == 0;
}

static void
encode_const(double v, blk_encoded *ret)
{
    unsigned k;

    *ret = (blk_encoded){.codec = BLK_CODEC_CONST, .last_is_raw = true};
    if (blk_decimal_scalar(v, &ret->last_int, &k) &&
        blk_varint_len(blk_zigzag(ret->last_int)) < 8) {
        ret->k = (uint8_t)k;
        ret->last_is_raw = false;
    }
}

ps_status
blk_codec_encode(const ps_alloc *alloc, blk_codec_scratch *s, const double *v, size_t n, bool hard,
                 blk_encoded *ret)
{
    enum { ZSTD_MIN_VALUES = 64 };
    choice c = {.s = s, .size = SIZE_MAX, .alloc = alloc, .hard = hard};
    size_t n_exc;
    unsigned k;

    if (all_same(v, n)) {
        s->before.n = 0;
        encode_const(v[0], ret);
        return PS_OK;
    }
    uint64_t *ints = blk_scratch_get(alloc, &s->ints, n, sizeof *ints);
    uint32_t *exc = blk_scratch_get(alloc, &s->exc, n, sizeof *exc);
    if (ints == NULL || exc == NULL)
        return PS_ENOMEM;
    bool decimal = blk_decimal_analyse(v, n, ints, exc, &n_exc, &k);
    if (decimal)
        try_decimal(&c, v, n, ints, exc, n_exc, k);
    else
        s->before.n = 0;
    /* decimals that need more than half of a double's bits may be real floats by accident */
    if (!decimal || c.size > n * 4)
        try_bits(&c, v, n, ints);
    if (c.failed)
        return PS_ENOMEM;
    if (hard && n >= ZSTD_MIN_VALUES && n <= BLK_ZSTD_MAX_VALUES && c.size > n * 3)
        PS_TRY(try_zstd(alloc, &c, v, n));
    *ret = c.best;
    if (codecs[ret->codec].family != FAMILY_DECIMAL)
        s->before.n = 0;
    if (ret->codec == BLK_CODEC_DEC_RELATIVE)
        s->before.depth++;
    else
        s->before.depth = s->before.costly = 0;
    return PS_OK;
}

unsigned
blk_codec_flags(const blk_encoded *e)
{
    return (unsigned)e->k << BLK_ENTRY_K_SHIFT | (e->last_is_raw ? BLK_ENTRY_LAST_RAW : 0) |
           (e->shift > 0 ? BLK_ENTRY_SHIFT : 0);
}

void
blk_codec_put(const blk_encoded *e, double last, size_t n, ps_buf *head, ps_buf *body)
{
    if (e->shift > 0)
        ps_buf_add_char(head, (char)e->shift);
    if (e->last_is_raw)
        blk_buf_u64(head, ps_bits_of(last));
    else
        blk_buf_varint(head, blk_zigzag(e->last_int));
    if (e->codec == BLK_CODEC_CONST)
        return;
    if (e->codec == BLK_CODEC_ZSTD) {
        blk_buf_varint(head, e->body.len);
    } else if (n > BLK_FRAME_VALUES || codecs[e->codec].coded) {
        blk_buf_varint(head, e->frames.len);
        blk_buf_varint(head, e->body.len);
    }
    ps_buf_add_str(head, e->frames);
    ps_buf_add_str(body, e->body);
}

/* ---- decoding ------------------------------------------------------------------------------ */

/* What the first frame's start is relative to. */
static uint64_t
chain_start(const blk_vcol *c)
{
    switch (codecs[c->codec].family) {
    case FAMILY_DECIMAL:
        return c->last_is_raw || c->codec == BLK_CODEC_DEC_RELATIVE ? 0 : c->last_int;
    case FAMILY_BITS:
        return (uint64_t)((int64_t)blk_ordered_bits(ps_bits_of(c->last)) >> c->shift);
    default:
        return ps_bits_of(c->last);
    }
}

/* A relative series goes on from one with integers of the same meaning, and not from too many. */
static bool
make_relative(blk_vcol *c, const blk_vcol *before, uint32_t n)
{
    c->depth = before->depth + 1;
    return codecs[before->codec].family == FAMILY_DECIMAL && before->k == c->k &&
           before->shift == c->shift && c->depth <= BLK_RELATIVE_DEPTH && n <= BLK_RELATIVE_VALUES;
}

ps_status
blk_codec_parse(blk_in *in, unsigned codec, unsigned flags, uint32_t n, const blk_vcol *before,
                blk_vcol *ret)
{
    blk_vcol c = {.codec = (uint8_t)codec,
                  .k = flags >> BLK_ENTRY_K_SHIFT & 15,
                  .last_is_raw = (flags & BLK_ENTRY_LAST_RAW) != 0};

    if (blk_codec_name(codec) == NULL || (codec == BLK_CODEC_DEC_RELATIVE && before == NULL))
        return PS_EUNSUPPORTED;
    const codec_family family = codecs[codec].family;
    if (flags & BLK_ENTRY_SHIFT)
        c.shift = blk_in_u8(in);
    if (c.last_is_raw) {
        c.last = ps_double_of(blk_in_u64(in));
    } else {
        c.last_int = blk_unzigzag(blk_in_varint(in));
        if (c.k > BLK_DECIMAL_MAX || c.shift > 63)
            return PS_ECORRUPT;
        c.last = blk_decimal_one(c.last_int, c.k, c.shift);
    }
    if (in->bad || c.shift > 63 || c.k > BLK_DECIMAL_MAX ||
        (!c.last_is_raw && family != FAMILY_CONST && family != FAMILY_DECIMAL))
        return PS_ECORRUPT;
    if (codec == BLK_CODEC_DEC_RELATIVE && !make_relative(&c, before, n))
        return PS_ECORRUPT;
    if (family == FAMILY_ZSTD) {
        uint64_t len = blk_in_varint(in);
        if (in->bad || len > BLK_MAX_BYTES || n > BLK_ZSTD_MAX_VALUES)
            return PS_ECORRUPT;
        c.body_len = (uint32_t)len;
    } else if (codecs[codec].coded || (family != FAMILY_CONST && n > BLK_FRAME_VALUES)) {
        uint64_t frames_len = blk_in_varint(in);
        uint64_t body_len = blk_in_varint(in);
        c.frames = blk_in_bytes(in, frames_len);
        if (c.frames == NULL || body_len > BLK_MAX_BYTES)
            return PS_ECORRUPT;
        c.frames_len = (uint32_t)frames_len;
        c.body_len = (uint32_t)body_len;
    } else if (family != FAMILY_CONST) {
        blk_chain chain = {.start = chain_start(&c)};
        blk_frame f;
        c.frames = in->p;
        if (!blk_frame_parse(in, n, codecs[codec].mode, &chain, &f))
            return PS_ECORRUPT;
        c.frames_len = (uint32_t)(in->p - c.frames);
        c.body_len = f.payload_len;
    }
    *ret = c;
    return PS_OK;
}

/* One frame's integers, and its values unless out is NULL. */
static bool
decode_frame(const blk_vcol *c, const blk_frame *f, const uint8_t *payload, size_t avail,
             uint64_t *ints, double *out)
{
    const codec_family family = codecs[c->codec].family;

    if (!blk_frame_decode(f, codecs[c->codec].mode, c->shift, payload, avail, ints))
        return false;
    if (out == NULL)
        return true;
    if (family == FAMILY_DECIMAL)
        blk_decimal_restore(ints, f->n, c->k, c->shift, out);
    else if (family == FAMILY_BITS)
        blk_bits_restore(ints, f->n, c->shift, out);
    else
        memcpy(out, ints, (size_t)f->n * 8);
    if (f->n_raw > 0)
        return family == FAMILY_DECIMAL && blk_frame_raws(f, payload, out);
    return true;
}

static bool
decode_frames(const blk_vcol *c, uint32_t n, const uint8_t *body, size_t body_avail, size_t lo,
              size_t count, uint64_t *ints, double *out)
{
    uint64_t here[BLK_FRAME_VALUES];
    double part[BLK_FRAME_VALUES];
    blk_in head = {c->frames, c->frames + c->frames_len, false};
    blk_chain chain = {.start = chain_start(c)};
    const size_t hi = lo + count;
    size_t off = 0;
    blk_frame f;

    for (size_t at = 0; at < hi; at += BLK_FRAME_VALUES, off += f.payload_len) {
        uint32_t len = n - at < BLK_FRAME_VALUES ? (uint32_t)(n - at) : BLK_FRAME_VALUES;
        if (!blk_frame_parse(&head, len, codecs[c->codec].mode, &chain, &f) ||
            f.payload_len > c->body_len - off)
            return false;
        if (at + len <= lo)
            continue;
        const bool whole = at >= lo && at + len <= hi;
        if (!decode_frame(c, &f, body + off, body_avail - off, here,
                          out == NULL ? NULL
                          : whole     ? out + (at - lo)
                                      : part))
            return false;
        size_t from = at < lo ? lo : at, to = at + len < hi ? at + len : hi;
        if (!whole && out != NULL)
            memcpy(out + (from - lo), part + (from - at), (to - from) * sizeof *out);
        if (ints != NULL)
            memcpy(ints + (from - lo), here + (from - at), (to - from) * sizeof *ints);
    }
    return true;
}

/* Head and body must tell the same last value. */
static bool
last_agrees(const blk_vcol *c, uint32_t n, size_t lo, size_t count, const double *out)
{
    return count == 0 || lo + count != n || ps_bits_of(out[count - 1]) == ps_bits_of(c->last);
}

ps_status
blk_codec_decode(const ps_alloc *alloc, blk_codec_scratch *s, const blk_vcol *c, uint32_t n,
                 const uint8_t *body, size_t body_avail, size_t lo, size_t count, double *out)
{
    switch (codecs[c->codec].family) {
    case FAMILY_CONST:
        for (size_t i = 0; i < count; i++)
            out[i] = c->last;
        break;
    case FAMILY_ZSTD:
        PS_TRY(blk_zstd_decode(alloc, s, body + c->body_off, c->body_len, n, lo, count, out));
        break;
    default:
        if (!(codecs[c->codec].coded
                  ? blk_coded_decode(c, chain_start(c), n, body + c->body_off, lo, count,
                                     (blk_coded_out){.values = out})
                  : decode_frames(c, n, body + c->body_off, body_avail - c->body_off, lo, count,
                                  NULL, out)))
            return PS_ECORRUPT;
    }
    return last_agrees(c, n, lo, count, out) ? PS_OK : PS_ECORRUPT;
}

ps_status
blk_codec_integers(const blk_vcol *c, uint32_t n, const uint8_t *body, size_t body_avail, size_t lo,
                   size_t count, uint64_t *ints, double *out)
{
    blk_coded_out to = {c->depth > 0 ? ints : NULL, ints, out};

    if (!(codecs[c->codec].coded
              ? blk_coded_decode(c, chain_start(c), n, body + c->body_off, lo, count, to)
              : decode_frames(c, n, body + c->body_off, body_avail - c->body_off, lo, count, ints,
                              out)))
        return PS_ECORRUPT;
    return out == NULL || last_agrees(c, n, lo, count, out) ? PS_OK : PS_ECORRUPT;
}
