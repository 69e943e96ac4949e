/*
 * internal.h - what the files of lib/block share: byte cursors, varints, bit packing, frames of
 * integers, the map between doubles and integers, integer columns, the header, the two readers.
 *
 * Layers inside the folder, lower first; each uses only what stands before it:
 *   bits.c                    pack and unpack unsigned integers of w bits
 *   frames.c                  128 integers: absolute first value + packed residuals + patches
 *   decimal.c                 doubles <-> integers (decimal, ordered bits), exceptions
 *   icol.c  times.c           integer columns of flush blocks; time columns of columns blocks
 *   codec.c  codec_zstd.c  coded.c  coded_plan.c  value codecs of columns blocks, one table by stored id
 *   header.c                  the header both formats begin with
 *   layout.c  starts.c        histograms, start timestamps (histograms.h)
 *   flush_write.c flush_read.c flush_values.c columns_write.c columns_read.c
 *   reader.c points.c merge.c
 *
 * Stored integers are handled as uint64_t (two's complement): hostile bytes may wrap, never
 * overflow.
 */
#ifndef PROMSCALE_BLOCK_INTERNAL_H
#define PROMSCALE_BLOCK_INTERNAL_H

#include "lib/block/block.h"

/* ---- byte cursors and varints (LEB128, at most 10 bytes) ---------------------------------- */

typedef struct blk_in { /* reading stops at end; `bad` is sticky, so one check closes a sequence */
    const uint8_t *p;
    const uint8_t *end;
    bool bad;
} blk_in;

static inline size_t
blk_in_left(const blk_in *in)
{
    return (size_t)(in->end - in->p);
}

uint64_t blk_in_varint_slow(blk_in *in);

/* Up to eight bytes without a loop: the end byte is found by its clear top bit, what is behind it is
 * masked off, and the groups of seven bits are pushed together pairwise. */
static inline uint64_t
blk_in_varint(blk_in *in)
{
    if (PS_LIKELY(in->p < in->end && *in->p < 0x80))
        return *in->p++;
    if (PS_UNLIKELY(blk_in_left(in) < 8))
        return blk_in_varint_slow(in);
    uint64_t x = ps_get_u64le(in->p), ends = ~x & UINT64_C(0x8080808080808080);
    if (PS_UNLIKELY(ends == 0))
        return blk_in_varint_slow(in);
    in->p += (__builtin_ctzll(ends) >> 3) + 1;
    x &= ends ^ (ends - 1);
    x = (x & UINT64_C(0x007f007f007f007f)) | (x & UINT64_C(0x7f007f007f007f00)) >> 1;
    x = (x & UINT64_C(0x00003fff00003fff)) | (x & UINT64_C(0x3fff00003fff0000)) >> 2;
    return (x & UINT64_C(0x0fffffff)) | (x & UINT64_C(0x0fffffff00000000)) >> 4;
}

static inline uint8_t
blk_in_u8(blk_in *in)
{
    if (PS_UNLIKELY(in->p >= in->end)) {
        in->bad = true;
        return 0;
    }
    return *in->p++;
}

static inline uint64_t
blk_in_u64(blk_in *in)
{
    if (PS_UNLIKELY(blk_in_left(in) < 8)) {
        in->bad = true;
        in->p = in->end;
        return 0;
    }
    in->p += 8;
    return ps_get_u64le(in->p - 8);
}

/* n bytes in place; NULL (and bad) if there are not that many. */
static inline const uint8_t *
blk_in_bytes(blk_in *in, uint64_t n)
{
    const uint8_t *p = in->p;

    if (PS_UNLIKELY(n > blk_in_left(in))) {
        in->bad = true;
        in->p = in->end;
        return NULL;
    }
    in->p += n;
    return p;
}

static inline uint64_t
blk_zigzag(uint64_t v)
{
    return (v << 1) ^ (uint64_t)((int64_t)v >> 63);
}

static inline uint64_t
blk_unzigzag(uint64_t z)
{
    return (z >> 1) ^ (0 - (z & 1));
}

static inline unsigned
blk_bit_length(uint64_t v)
{
    return v == 0 ? 0 : 64 - (unsigned)__builtin_clzll(v);
}

static inline unsigned
blk_varint_len(uint64_t v)
{
    /* (highest bit) / 7 + 1 without a division: exact for all 64 bits */
    return ((63 - (unsigned)__builtin_clzll(v | 1)) * 9 + 73) >> 6;
}

static inline uint8_t *
blk_put_varint(uint8_t *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

static inline void
blk_buf_varint(ps_buf *buf, uint64_t v)
{
    uint8_t tmp[10];

    ps_buf_add(buf, tmp, (size_t)(blk_put_varint(tmp, v) - tmp));
}

static inline void
blk_buf_u64(ps_buf *buf, uint64_t v)
{
    ps_buf_add(buf, &v, 8);
}

/* ---- scratch memory ------------------------------------------------------------------------ */

typedef struct blk_scratch { /* grows, keeps nothing on growth; freed by blk_scratch_done */
    void *ptr;
    size_t cap;
} blk_scratch;

void *blk_scratch_get(const ps_alloc *alloc, blk_scratch *s, size_t n, size_t size);
void blk_scratch_done(const ps_alloc *alloc, blk_scratch *s);

/* ---- bits.c -------------------------------------------------------------------------------- */

/* Stored widths are 0..56 or 64: up to 56 a value lies inside the 8 bytes from its first byte
 * on. */
static inline unsigned
blk_width_round(unsigned w)
{
    return w > 56 ? 64 : w;
}

static inline size_t
blk_packed_bytes(size_t n, unsigned w)
{
    return (n * w + 7) / 8;
}

/* Writes blk_packed_bytes(n, w); dst has 8 bytes more than that. */
void blk_pack(uint8_t *dst, const uint64_t *src, size_t n, unsigned w);
/* Reads blk_packed_bytes(n, w) of the `avail` bytes at src (the caller checked that they are
 * there). n <= BLK_FRAME_VALUES. */
void blk_unpack(uint64_t *dst, size_t n, const uint8_t *src, size_t avail, unsigned w);

/* ---- frames.c ------------------------------------------------------------------------------ */

/* How the residuals of a frame are made from its integers. Stored numbers. */
typedef enum blk_mode {
    BLK_MODE_RAW = 0,
    BLK_MODE_DELTA = 1,
    BLK_MODE_DOD = 2,
    BLK_MODE_XOR = 3
} blk_mode;

enum { BLK_FRAME_PATCHES = 0x40, BLK_FRAME_RAWS = 0x80, BLK_FRAME_WIDTH = 0x3f, BLK_WIDTH_64 = 63 };
/* Longest header: 1 + 2 + 1 + three varints. */
enum { BLK_FRAME_HEAD_MAX = 34 };
/* Longest payload of n values: 8 bytes packed, a patch and a raw each (never all at once),
 * slack. */
#define BLK_FRAME_BODY_MAX ((size_t)BLK_FRAME_VALUES * (8 + 9 + 9) + 32)

typedef struct blk_frame { /* one parsed frame header */
    uint64_t start;
    uint64_t ref;
    uint64_t first_delta; /* mode dod */
    uint32_t n;           /* values */
    uint32_t n_packed;    /* residuals */
    uint8_t width, n_patch, patch_width, n_raw;
    uint32_t payload_len;
} blk_frame;

/* What the next header of a series is written relative to. Begins as {where the first start is
 * expected}. */
typedef struct blk_chain {
    uint64_t start, ref, first_delta;
} blk_chain;

typedef struct blk_raws { /* positions whose value is stored as 8 raw bytes (decimal exceptions) */
    const uint32_t *pos;  /* ascending */
    size_t n;
    const double *values; /* of the whole series, indexed by position */
} blk_raws;

static inline size_t
blk_frame_count(size_t n)
{
    return (n + BLK_FRAME_VALUES - 1) / BLK_FRAME_VALUES;
}

/* Appends all frames of v[0..n): headers to head, payloads to body (the same buffer if they are
 * to alternate). prev is what the first frame's start is written relative to. shift is for mode
 * XOR. */
void blk_frames_encode(const uint64_t *v, size_t n, blk_mode mode, unsigned shift, uint64_t prev,
                       const blk_raws *raws, ps_buf *head, ps_buf *body);
/* Parses one header and moves the chain on; false if it is damaged. */
bool blk_frame_parse(blk_in *head, uint32_t n, blk_mode mode, blk_chain *chain, blk_frame *ret);
/* Bits that three slices of v would take, of so many values each, at most a frame's; all of v if it is two frames at most.
 * For choosing a mode. */
uint64_t blk_frames_cost(const uint64_t *v, size_t n, blk_mode mode, unsigned shift, unsigned slice);
/* Integers of a frame. payload has `avail` >= payload_len bytes. False if damaged. */
bool blk_frame_decode(const blk_frame *f, blk_mode mode, unsigned shift, const uint8_t *payload,
                      size_t avail, uint64_t *out);
/* Raw values of a frame, over what the integers gave. */
bool blk_frame_raws(const blk_frame *f, const uint8_t *payload, double *values);

/* ---- decimal.c ----------------------------------------------------------------------------- */

enum { BLK_DECIMAL_MAX = 14 };

/* Order-preserving map of a double's bits to a signed integer; its own inverse. */
static inline uint64_t
blk_ordered_bits(uint64_t b)
{
    return b ^ ((uint64_t)((int64_t)b >> 63) >> 1);
}

/*
 * Finds the scale k for which most values are exactly integer / 10^k, and the integers. Positions
 * that are not (NaN, -0, Inf, long fractions) go to exc and repeat their predecessor's integer.
 * False if decimals do not pay. ints and exc hold n entries.
 */
bool blk_decimal_analyse(const double *v, size_t n, uint64_t *ints, uint32_t *exc,
                         size_t *ret_n_exc, unsigned *ret_k);
void blk_decimal_restore(const uint64_t *ints, size_t n, unsigned k, unsigned shift, double *out);
double blk_decimal_one(uint64_t i, unsigned k, unsigned shift);
/* Exact scale and integer of one value; false if there is none. */
bool blk_decimal_scalar(double v, uint64_t *ret_int, unsigned *ret_k);
void blk_bits_restore(const uint64_t *ints, size_t n, unsigned shift, double *out);
/* Common trailing zero bits (at most 56; 0 if all are zero), divided out by the caller. */
unsigned blk_common_shift(const uint64_t *v, size_t n);

/* ---- icol.c: integer columns of flush blocks ----------------------------------------------- */

void blk_icol_encode(const uint64_t *v, size_t n, ps_buf *out);
bool blk_icol_decode(blk_in *in, size_t n, uint64_t *out);
/* Integers lo..lo + count of a column of n, the rest passed over; *in stands behind the column
 * afterwards. What is passed over is checked for its length only. */
bool blk_icol_part(blk_in *in, size_t n, size_t lo, size_t count, uint64_t *out);

/* First byte of a metric's values in a flush block. */
enum {
    BLK_GROUP_K = 0x0f,
    BLK_GROUP_BITS = 0x10,
    BLK_GROUP_EXC = 0x20,
    BLK_GROUP_SHIFT = 0x40,
    BLK_GROUP_KNOWN = 0x7f
};

/* ---- header.c ------------------------------------------------------------------------------ */

enum { BLK_VERSION = 1 };
enum { BLK_FLAG_LZ4 = 1, BLK_FLAG_DIST_KEY = 2, BLK_FLAG_STARTS = 4 };
enum {
    BLK_OFF_CRC = 8,
    BLK_FLUSH_FIXED = 12,
    BLK_OFF_HEAD_LEN = 12,
    BLK_OFF_BODY_LEN = 16,
    BLK_OFF_BODY_CRC = 20,
    BLK_COLUMNS_FIXED = 24
};

/* Appends fixed part (lengths and CRCs zero) and varint part. */
void blk_header_write(ps_buf *out, const blk_meta *meta, unsigned flags);
void blk_header_set_flag(char *block, unsigned flag);
/* Parses fixed and varint part; *in stands behind it afterwards. No CRC check. */
ps_status blk_header_read(blk_in *in, blk_meta *ret, unsigned *ret_flags,
                          ps_err *err) PS_MUST_CHECK;
/* Magic, version and format only. */
ps_status blk_header_format(ps_str data, int16_t *ret_format, ps_err *err) PS_MUST_CHECK;
uint32_t blk_crc_skipping(ps_str data); /* CRC of data without the four bytes at BLK_OFF_CRC */
ps_status blk_meta_compare(const blk_meta *have, const blk_meta *row, ps_err *err) PS_MUST_CHECK;

/* ---- scratch of encoders and decoders of columns blocks -------------------------------------- */

typedef struct blk_zstd blk_zstd; /* contexts, kept by writer and reader */

typedef struct blk_codec_scratch {
    blk_scratch ints, exc, planes, zbuf;
    blk_scratch keys, spans, table; /* of histograms */
    ps_buf head[2], body[2];        /* candidates: the best so far and the one being tried */
    blk_zstd *zstd;
    bool relative; /* series may be written relative to the one before */
    blk_scratch differences;
    struct blk_neighbour { /* the series before, as integers; n = 0: not one to be relative to */
        blk_scratch ints;
        size_t n;
        uint8_t k, shift;
        uint8_t depth, costly; /* how many it is relative to itself; those of them with bytes of their own */
    } before;
} blk_codec_scratch;

/* ---- times.c: time columns of columns blocks ----------------------------------------------- */

enum {
    BLK_TCOL_SAME_N = 1,
    BLK_TCOL_SAME_STEP = 2,
    BLK_TCOL_GRID = 4,
    BLK_TCOL_MODE_SHIFT = 3,
    BLK_TCOL_KNOWN = 0x1f
};

typedef struct blk_tcol {
    int64_t t_first, t_last;
    uint64_t step;
    uint32_t n;
    uint8_t flags;
    const uint8_t *frames; /* frame headers, NULL for an exact grid */
    uint32_t frames_len;
    uint32_t body_len;
    size_t body_off;
} blk_tcol;

/* Appends one time column; *prev is the column before (zeroes with t_first = t_min for the first)
 * and becomes this one. */
ps_status blk_tcol_encode(const ps_alloc *alloc, blk_codec_scratch *s, const int64_t *t, size_t n,
                          blk_tcol *prev, ps_buf *head, ps_buf *body) PS_MUST_CHECK;
bool blk_tcol_parse(blk_in *in, const blk_tcol *prev, blk_tcol *ret, bool *ret_unsupported);
/* Times in [from, to]; *ret_lo is the index of the first. False if damaged. */
bool blk_tcol_decode(const blk_tcol *c, const uint8_t *body, size_t body_avail, int64_t from,
                     int64_t to, int64_t *t_ms, size_t *ret_lo, size_t *ret_n);

/* ---- codec.c: value codecs of columns blocks ------------------------------------------------ */

typedef enum blk_codec_id { /* stored numbers, never reused */
                            BLK_CODEC_CONST = 1,
                            BLK_CODEC_DEC_RAW = 2,
                            BLK_CODEC_DEC_DELTA = 3,
                            BLK_CODEC_DEC_DOD = 4,
                            BLK_CODEC_BITS_RAW = 5,
                            BLK_CODEC_BITS_DELTA = 6,
                            BLK_CODEC_BITS_DOD = 7,
                            BLK_CODEC_XOR = 8,
                            BLK_CODEC_ZSTD = 9,
                            BLK_CODEC_DEC_CODED = 10,
                            BLK_CODEC_BITS_CODED = 11,
                            BLK_CODEC_DEC_RELATIVE = 12,
                            BLK_CODEC_END
} blk_codec_id;

enum { BLK_ENTRY_TREF = 3, BLK_ENTRY_LAST_RAW = 4, BLK_ENTRY_K_SHIFT = 3, BLK_ENTRY_SHIFT = 0x80 };
enum { BLK_TREF_SAME = 0, BLK_TREF_NEXT = 1, BLK_TREF_INDEX = 2 };
/* Largest series that may be stored with the zstd codec: it decodes as a whole, into scratch. */
enum { BLK_ZSTD_MAX_VALUES = 65536 };
/* Of a relative series: how many values (the reader keeps integers of one), and how many series in a row. */
enum { BLK_RELATIVE_VALUES = 32768, BLK_RELATIVE_DEPTH = 15 };

typedef struct blk_vcol { /* one series' values as the directory describes them */
    uint8_t codec, k, shift;
    bool last_is_raw;
    bool is_base;      /* the next series is relative to it */
    uint8_t depth;     /* how many series before it have to be read for it */
    uint64_t last_int; /* if !last_is_raw */
    double last;
    const uint8_t *frames;
    uint32_t frames_len;
    uint32_t body_len;
    size_t body_off;
} blk_vcol;

typedef struct blk_encoded { /* borrowed from the scratch until its next use */
    uint8_t codec, k, shift;
    bool last_is_raw;
    uint64_t last_int;
    ps_str frames, body;
} blk_encoded;

/* ---- coded.c: entropy-coded residuals, for codec.c ------------------------------------------- */

enum { BLK_CODED_VALUES = 512 }; /* of a group, which decodes alone */
enum { BLK_CODED_SYMBOLS = 40, BLK_CODED_ESCAPE = BLK_CODED_SYMBOLS - 1 };
enum { BLK_GROUP_ZERO = 63 }; /* in the place of a group's low bits */
enum { BLK_RULE_AVERAGE = 0x07, BLK_RULE_SLOPE = 0x08 };

static inline unsigned
blk_coded_symbol(uint64_t z, unsigned low)
{
    uint64_t q = z >> low;

    return q < BLK_CODED_ESCAPE ? (unsigned)q : BLK_CODED_ESCAPE;
}

/* Low bits that leave a handful of symbols in the middle of these residuals; BLK_GROUP_ZERO if all are 0. */
unsigned blk_coded_low(const uint64_t *z, size_t m);

typedef struct blk_coded_plan { /* judged by a few parts of the series */
    uint32_t cost;              /* how long residuals are; says something beside the same of as many others */
    size_t bytes;               /* about what the groups take, rather too little than too much */
    uint8_t rule;
} blk_coded_plan;
/* What predicts v[0..n) best. */
blk_coded_plan blk_coded_planned(const uint64_t *v, size_t n);
/* Appends to head and body what v[0..n) takes and says whether it is less than less_than bytes; if not, what was
 * appended is worth nothing. prev is what the first start is written relative to. Where no residual is there to code it
 * says that it is not less, unless even_zeros: frames of those are small, too, and read faster. */
ps_status blk_coded_encode(const ps_alloc *alloc, blk_scratch *scratch, const uint64_t *v, size_t n,
                           unsigned rule, uint64_t prev, const blk_raws *raws, bool even_zeros,
                           size_t less_than, ps_buf *head, ps_buf *body, bool *ret_smaller) PS_MUST_CHECK;
typedef struct blk_coded_out { /* what decoding gives; NULL: not wanted */
    const uint64_t *base;      /* added to all integers; may be the same as ints */
    uint64_t *ints;
    double *values;
} blk_coded_out;
/* Values lo..lo + count of n. body has c->body_len bytes. False if damaged. */
bool blk_coded_decode(const blk_vcol *c, uint64_t prev, uint32_t n, const uint8_t *body, size_t lo,
                      size_t count, blk_coded_out to);

void blk_codec_scratch_init(blk_codec_scratch *s, const ps_alloc *alloc);
void blk_codec_scratch_done(blk_codec_scratch *s, const ps_alloc *alloc);
/* Chooses the smallest codec for v[0..n). hard: also those that cost time (sealed blocks). */
ps_status blk_codec_encode(const ps_alloc *alloc, blk_codec_scratch *s, const double *v, size_t n,
                           bool hard, blk_encoded *ret) PS_MUST_CHECK;
/* What a directory entry says of it: flags but for the time column's, and what comes behind them; the
 * payload goes to body. */
unsigned blk_codec_flags(const blk_encoded *e);
void blk_codec_put(const blk_encoded *e, double last, size_t n, ps_buf *head, ps_buf *body);
const char *blk_codec_name(unsigned id); /* NULL: not known */
/* Parses the codec's part of a directory entry of n values: parameters, last value, frame headers. before: the
 * series before it, NULL where there is nothing to be relative to. PS_ECORRUPT without text, or PS_EUNSUPPORTED. */
ps_status blk_codec_parse(blk_in *in, unsigned codec, unsigned flags, uint32_t n,
                          const blk_vcol *before, blk_vcol *ret) PS_MUST_CHECK;
/* Values lo..lo+count of a series of n. */
ps_status blk_codec_decode(const ps_alloc *alloc, blk_codec_scratch *s, const blk_vcol *c,
                           uint32_t n, const uint8_t *body, size_t body_avail, size_t lo,
                           size_t count, double *out) PS_MUST_CHECK;
/* The same of a decimal series and its integers with it: for a relative one ints holds those of the series before and
 * becomes its own. out may be NULL. */
ps_status blk_codec_integers(const blk_vcol *c, uint32_t n, const uint8_t *body, size_t body_avail,
                             size_t lo, size_t count, uint64_t *ints, double *out) PS_MUST_CHECK;

/* codec_zstd.c */
ps_status blk_zstd_encode(const ps_alloc *alloc, blk_codec_scratch *s, const double *v, size_t n,
                          ps_buf *body) PS_MUST_CHECK;
ps_status blk_zstd_decode(const ps_alloc *alloc, blk_codec_scratch *s, const uint8_t *src,
                          size_t len, size_t n, size_t lo, size_t count, double *out) PS_MUST_CHECK;
void blk_zstd_free(blk_zstd *z, const ps_alloc *alloc);

/* Longest time column that a reader keeps decoded. */
enum { BLK_KEPT_TIMES = 65536 };

/* ---- readers ------------------------------------------------------------------------------- */

typedef struct blk_layout blk_layout; /* histograms.h */
typedef struct blk_scol blk_scol;
typedef struct blk_flush_histogram blk_flush_histogram;

typedef struct blk_flush_series {
    int64_t series_id;
    int32_t metric_id;
    uint32_t vec;         /* time vector */
    uint32_t first_value; /* index into values */
    uint32_t group;       /* that holds its values */
} blk_flush_series;

typedef struct blk_flush_group { /* values of one metric */
    int32_t metric_id;
    uint32_t lo, hi; /* series */
    uint32_t n;      /* values */
    uint32_t lookups;
    const uint8_t *p; /* where it begins, NULL: not known yet */
    bool decoded;
    double *pops;     /* of histograms, decoded */
    int32_t *buckets; /* their indexes; samples may share them */
    uint32_t n_pops, n_buckets;
} blk_flush_group;

typedef struct blk_columns_series {
    int64_t series_id;
    uint32_t tcol;
    blk_vcol values;
} blk_columns_series;

typedef struct blk_kept { /* a time column decoded whole, since other series may share it */
    const blk_reader *of; /* NULL: none */
    uint32_t tcol;
    blk_scratch times;
    const blk_reader *ints_of; /* and integers of a series that the next one may be relative to */
    uint32_t series;
    size_t lo, n;
    blk_scratch ints;
} blk_kept;

struct blk_bench {
    ps_alloc alloc;
    blk_codec_scratch scratch;
    blk_kept *kept; /* n_kept of them, a power of 2; a column has one place */
    size_t n_kept;
    blk_scratch parts, marks, values;   /* runs.c */
    blk_scratch times, columns, matrix; /* decoding starts and histograms */
};

struct blk_reader {
    ps_alloc alloc;
    blk_meta meta;
    uint32_t n_series;
    bool head_only;
    bool started;        /* it has start timestamps */
    blk_layout *layouts; /* of histograms */
    uint32_t n_layouts;
    /* format COLUMNS */
    blk_columns_series *cseries;
    blk_tcol *tcols;
    blk_scol *scols; /* one for each series, if it has start timestamps */
    uint32_t n_tcols;
    const uint8_t *body;
    size_t body_len;
    blk_bench own; /* for those who bring none */
    blk_kept own_kept;
    /* format FLUSH: all but values decoded when opened */
    blk_flush_series *fseries;
    uint32_t *vec_start; /* n_vecs + 1 offsets into vec_times */
    uint32_t n_vecs;
    int64_t *vec_times;
    uint32_t n_vec_times;
    double *values; /* NULL: no group is decoded yet */
    blk_flush_histogram *histograms;
    int64_t *starts;
    size_t n_numbers; /* populations and bounds of all groups that are decoded */
    blk_flush_group *groups;
    uint32_t n_groups;
    char *plain; /* the body, kept for groups that are not decoded yet; NULL: in the block itself */
    size_t plain_size;
    const uint8_t *values_end;
    blk_scratch ints;
};

ps_status blk_flush_open(blk_reader *r, ps_str data, bool lazy, ps_err *err) PS_MUST_CHECK;
void blk_flush_close(blk_reader *r);
/* flush_values.c */
ps_status blk_flush_values_all(blk_reader *r, ps_err *err) PS_MUST_CHECK;
ps_status blk_flush_group_decode(blk_reader *r, uint32_t group, ps_err *err) PS_MUST_CHECK;
/* Samples lo..lo + n of series i, which has them. */
ps_status blk_flush_values(blk_reader *r, uint32_t i, size_t lo, size_t n, double *values,
                           ps_err *err) PS_MUST_CHECK;
ps_status blk_columns_open(blk_reader *r, ps_str data, ps_err *err) PS_MUST_CHECK;
void blk_columns_close(blk_reader *r);
ps_status blk_columns_times(const blk_reader *r, blk_bench *b, uint32_t i, int64_t from_ms,
                            int64_t to_ms, int64_t *t_ms, size_t *ret_lo, size_t *ret_n,
                            ps_err *err) PS_MUST_CHECK;
ps_status blk_columns_values(const blk_reader *r, blk_bench *b, uint32_t i, size_t lo, size_t n,
                             double *values, ps_err *err) PS_MUST_CHECK;
ps_status blk_columns_starts(const blk_reader *r, blk_bench *b, uint32_t i, size_t lo, size_t n,
                             int64_t *start_ms, ps_err *err) PS_MUST_CHECK;

#endif
