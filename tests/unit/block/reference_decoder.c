/*
 * reference_decoder.c - see the header. Follows the sections of docs/block-format.md one by one,
 * shares no code with lib/block, reads bits one at a time and keeps every integer of a block in
 * memory.
 */
#include "tests/unit/block/reference_internal.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

/* ---- 1. conventions ------------------------------------------------------------------------ */

unsigned
ref_byte(bytes *b)
{
    if (b->at >= b->len) {
        b->bad = true;
        return 0;
    }
    return b->p[b->at++];
}

uint64_t
ref_fixed(bytes *b, unsigned n)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < n; i++)
        v |= (uint64_t)ref_byte(b) << (8 * i);
    return v;
}

uint64_t
ref_varint(bytes *b)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        unsigned x = ref_byte(b);
        v |= (uint64_t)(x & 127) << shift;
        if (x < 128)
            return v;
    }
    b->bad = true;
    return 0;
}

uint64_t
ref_unzigzag(uint64_t z)
{
    return z % 2 == 0 ? z / 2 : ~(z / 2);
}

uint64_t
ref_svarint(bytes *b)
{
    return ref_unzigzag(ref_varint(b));
}

uint64_t
ref_packed_value(const bytes *b, size_t start, size_t index, unsigned w)
{
    uint64_t v = 0;

    for (unsigned k = 0; k < w; k++) {
        size_t bit = index * w + k, at = start + bit / 8;
        if (at < b->len && (b->p[at] >> (bit % 8) & 1))
            v |= (uint64_t)1 << k;
    }
    return v;
}

uint64_t *
ref_integers(size_t n)
{
    return calloc(n + 1, sizeof(uint64_t));
}

/* ---- 3. frames ----------------------------------------------------------------------------- */

enum { RAW, DELTA, DOD, XOR };

/* All frames of n integers; headers from h, payloads from p (they may be the same). */
static void
frames(bytes *h, bytes *p, size_t n, int mode, unsigned shift, uint64_t S, uint64_t *v,
       ref_raws *exceptions)
{
    uint64_t chain_start = S, chain_ref = 0, chain_first = 0;

    for (size_t base = 0; base < n && !h->bad && !p->bad; base += 128) {
        size_t len = n - base < 128 ? n - base : 128;
        size_t m = mode == DOD ? (len > 2 ? len - 2 : 0) : len - 1;
        unsigned first_byte = ref_byte(h), w = first_byte % 64;
        unsigned n_patch = 0, patch_width = 0, n_raw = 0;
        uint64_t first_delta = 0, ref = 0, r[128];
        if (w == 63)
            w = 64;
        if (first_byte & 0x40) {
            n_patch = ref_byte(h);
            patch_width = ref_byte(h);
        }
        if (first_byte & 0x80)
            n_raw = ref_byte(h);
        uint64_t start = chain_start + ref_svarint(h);
        if (mode == DOD && len > 1)
            first_delta = chain_first + ref_svarint(h);
        if (mode != XOR && m > 0)
            chain_ref = ref = chain_ref + ref_svarint(h);
        chain_first = first_delta;
        chain_start = start;
        if (mode == DELTA && m > 0)
            chain_start += 128 * (ref + (w == 0 ? 0 : (uint64_t)1 << (w - 1)));
        if (mode == DOD)
            chain_start += 128 * first_delta;

        for (size_t i = 0; i < m; i++)
            r[i] = ref_packed_value(p, p->at, i, w) + ref;
        p->at += (m * w + 7) / 8;
        size_t positions = p->at;
        p->at += n_patch;
        for (size_t i = 0; i < n_patch; i++) {
            uint64_t x = ref_packed_value(p, p->at, i, patch_width);
            if (p->p[positions + i] < m)
                r[p->p[positions + i]] = mode == XOR ? x : ref_unzigzag(x) + ref;
        }
        p->at += (n_patch * patch_width + 7) / 8;
        positions = p->at;
        p->at += n_raw;
        for (size_t i = 0; i < n_raw; i++) {
            exceptions->pos[exceptions->n] = base + p->p[positions + i];
            exceptions->bits[exceptions->n++] = ref_fixed(p, 8);
        }
        v += base == 0 ? 0 : 128;
        v[0] = start;
        for (size_t i = 1; i < len; i++) {
            if (mode == RAW)
                v[i] = v[0] + r[i - 1];
            else if (mode == DELTA)
                v[i] = v[i - 1] + r[i - 1];
            else if (mode == XOR)
                v[i] = v[i - 1] ^ r[i - 1] << shift;
            else if (i == 1)
                v[i] = v[0] + first_delta;
            else
                v[i] = v[i - 1] + (v[i - 1] - v[i - 2]) + r[i - 2];
        }
    }
}

/* ---- 4. integers and doubles --------------------------------------------------------------- */

uint64_t
ref_decimal(uint64_t i, unsigned k, unsigned shift)
{
    double scale = 1, v;
    uint64_t bits;

    while (k-- > 0)
        scale *= 10;
    v = (double)(int64_t)(i << shift) / scale;
    memcpy(&bits, &v, 8);
    return bits;
}

uint64_t
ref_ordered(uint64_t i, unsigned shift)
{
    uint64_t o = i << shift;

    return (int64_t)o >= 0 ? o : o ^ UINT64_C(0x7fffffffffffffff);
}

/* ---- 5. COLUMNS ---------------------------------------------------------------------------- */

typedef struct tcol {
    uint64_t n, step, t_first;
    uint64_t *t;
} tcol;

static void
time_column(bytes *h, bytes *body, const tcol *before, tcol *c)
{
    unsigned flags = ref_byte(h);

    c->n = flags & 1 ? before->n : ref_varint(h);
    c->t_first = before->t_first + ref_svarint(h);
    c->step = flags & 2 ? before->step : ref_varint(h);
    if (h->bad || c->n > 1 << 24)
        c->n = 0;
    c->t = ref_integers(c->n);
    if (!(flags & 4)) {
        (void)ref_varint(h); /* t_last - t_first */
        if (c->n > 128) {
            (void)ref_varint(h);
            (void)ref_varint(h);
        }
        frames(h, body, c->n, flags >> 3 & 3, 0, 0, c->t, NULL);
    }
    for (uint64_t i = 0; i < c->n; i++)
        c->t[i] += c->t_first + i * c->step;
}

static void
zstd_values(bytes *body, size_t len, size_t n, uint64_t *bits)
{
    uint8_t *planes = malloc(8 * n + 1);
    unsigned filter = ref_byte(body);
    uint64_t before = 0;

    if (ZSTD_decompress(planes, 8 * n, body->p + body->at, len - 1) != 8 * n)
        body->bad = true;
    body->at += len - 1;
    for (size_t i = 0; i < n && !body->bad; i++) {
        uint64_t x = 0;
        for (unsigned k = 0; k < 8; k++)
            x |= (uint64_t)planes[k * n + i] << (8 * k);
        before = filter == 0 ? before ^ x : before + ref_unzigzag(x);
        bits[i] = filter == 0 ? before : ref_ordered(before, 0);
    }
    free(planes);
}

void
ref_series_values(bytes *h, bytes *body, unsigned codec, unsigned flags, size_t n, uint64_t *ints,
                  uint64_t *bits)
{
    unsigned k = flags >> 3 & 15, shift = flags & 0x80 ? ref_byte(h) : 0;
    bool last_raw = (flags & 4) != 0;
    uint64_t last_int = last_raw ? 0 : ref_svarint(h);
    uint64_t last = last_raw ? ref_fixed(h, 8) : ref_decimal(last_int, k, shift);
    ref_raws ex = {ref_integers(n), ref_integers(n), 0};

    if (codec == 1) {
        for (size_t i = 0; i < n; i++)
            bits[i] = last;
    } else if (codec == 9) {
        zstd_values(body, ref_varint(h), n, bits);
    } else {
        const bool decimal = codec <= 4 || codec == 10 || codec == 12;
        if (n > 128 || codec >= 10) {
            (void)ref_varint(h);
            (void)ref_varint(h);
        }
        uint64_t S = last;
        if (decimal)
            S = codec == 12 ? 0 : last_int;
        else if (codec != 8)
            S = (uint64_t)((int64_t)ref_ordered(last, 0) >> shift);
        if (codec >= 10)
            ref_coded(h, body, n, S, bits, &ex);
        else
            frames(h, body, n, codec == 8 ? XOR : (int)(codec - 2) % 3, shift, S, bits, &ex);
        for (size_t i = 0; i < n && ints != NULL; i++)
            ints[i] = bits[i] += codec == 12 ? ints[i] : 0;
        for (size_t i = 0; i < n && codec != 8; i++)
            bits[i] = decimal ? ref_decimal(bits[i], k, shift) : ref_ordered(bits[i], shift);
        for (size_t i = 0; i < ex.n; i++)
            bits[ex.pos[i]] = ex.bits[i];
    }
    free(ex.pos);
    free(ex.bits);
}

static void
columns(const uint8_t *data, size_t len, bytes *h, bool started, ref_block *b)
{
    size_t head_len =
        (size_t)data[12] | (size_t)data[13] << 8 | (size_t)data[14] << 16 | (size_t)data[15] << 24;
    bytes body = {data + head_len, len - head_len, 0, false};
    tcol before = {0};
    uint64_t n_tcols = ref_varint(h), id = (uint64_t)b->series_lo;
    tcol *tcols = calloc(n_tcols + 1, sizeof *tcols);
    uint64_t tref = UINT64_MAX;
    uint64_t *ints = NULL; /* of the entry before, then of this one */
    size_t n_ints = 0;

    ref_layouts layouts = {0};

    h->len = head_len;
    for (uint64_t i = 0; i < n_tcols; i++) {
        time_column(h, &body, &before, &tcols[i]);
        before = tcols[i];
    }
    if (b->kind == 2)
        layouts = ref_read_layouts(h);
    for (int64_t s = 0; s < b->n_series && !h->bad; s++) {
        id += ref_varint(h);
        unsigned codec = b->kind == 2 ? 0 : ref_byte(h), flags = ref_byte(h);
        if ((flags & 3) == 1)
            tref++;
        else if ((flags & 3) == 2)
            tref = ref_varint(h);
        if (tref >= n_tcols) {
            h->bad = true;
            break;
        }
        size_t n = tcols[tref].n;
        uint64_t *bits = ref_integers(n);
        if (n != n_ints || ints == NULL) {
            h->bad |= codec == 12;
            free(ints);
            ints = ref_integers(n_ints = n);
        }
        ref_histogram **hists = calloc(n + 1, sizeof *hists);
        if (b->kind == 2)
            ref_columns_histograms(&body, ref_varint(h), &layouts, n, hists);
        else
            ref_series_values(h, &body, codec, flags, n, ints, bits);
        for (size_t i = 0; i < n && b->n < (size_t)b->n_samples; i++)
            b->samples[b->n++] =
                (ref_sample){b->metric_id, (int64_t)id, (int64_t)tcols[tref].t[i], 0,
                             bits[i],      hists[i]};
        free(bits);
        free(hists);
    }
    if (started)
        ref_columns_starts(h, &body, b);
    ref_free_layouts(&layouts);
    free(ints);
    for (uint64_t i = 0; i < n_tcols; i++)
        free(tcols[i].t);
    free(tcols);
    h->bad |= body.bad || h->at != h->len || body.at != body.len;
}

/* ---- 6. FLUSH ------------------------------------------------------------------------------ */

uint64_t *
ref_column(bytes *b, size_t n)
{
    uint64_t *v = ref_integers(n), low, value, before = 0;

    if (n == 0)
        return v;
    unsigned method = ref_byte(b);
    switch (method) {
    case 0:
        value = ref_svarint(b);
        for (size_t i = 0; i < n; i++)
            v[i] = value;
        break;
    case 1:
        for (size_t i = 0; i < n; i++)
            v[i] = ref_svarint(b);
        break;
    case 2:
        for (size_t i = 0; i < n; i++)
            before = v[i] = before + ref_svarint(b);
        break;
    case 3:
        for (size_t i = 0; i < n && !b->bad;) {
            value = ref_svarint(b);
            for (uint64_t length = ref_varint(b) + 1; length > 0 && i < n; length--)
                v[i++] = value;
        }
        break;
    case 4: {
        low = ref_svarint(b);
        unsigned width = ref_byte(b);
        for (size_t i = 0; i < n; i++)
            v[i] = low + ref_fixed(b, width);
        break;
    }
    case 5:
    case 6:
        frames(b, b, n, method == 5 ? RAW : DELTA, 0, 0, v, NULL);
        break;
    default:
        b->bad = true;
    }
    return v;
}

/* Values of one metric, appended to bits. len is the number of samples of each series. */
void
ref_group(bytes *b, const uint64_t *len, size_t n_series, size_t n, uint64_t *bits)
{
    unsigned flags = ref_byte(b), k = flags & 15, shift = flags & 0x40 ? ref_byte(b) : 0;
    size_t n_exc = flags & 0x20 ? ref_varint(b) : 0;
    uint64_t *pos = ref_integers(n_exc), *exc = ref_integers(n_exc), at = 0;

    for (size_t i = 0; i < n_exc; i++)
        pos[i] = at += ref_varint(b);
    for (size_t i = 0; i < n_exc; i++)
        exc[i] = ref_fixed(b, 8);
    uint64_t *first = ref_column(b, n_series), *steps = ref_column(b, n - n_series);
    size_t step = 0, out = 0;
    for (size_t s = 0; s < n_series; s++) {
        uint64_t v = first[s];
        for (uint64_t i = 0; i < len[s]; i++) {
            if (i > 0)
                v += steps[step++];
            bits[out++] = flags & 0x10 ? ref_ordered(v, shift) : ref_decimal(v, k, shift);
        }
    }
    for (size_t i = 0; i < n_exc; i++)
        bits[pos[i]] = exc[i];
    free(pos);
    free(exc);
    free(first);
    free(steps);
}

static void
flush_body(bytes *b, bool started, ref_block *r)
{
    size_t n_series = (size_t)r->n_series, n_metrics = 1;
    uint64_t *metric, *width;

    if (r->metric_id < 0) {
        n_metrics = ref_varint(b);
        metric = ref_column(b, n_metrics);
        width = ref_column(b, n_metrics);
        for (size_t i = 1; i < n_metrics; i++)
            metric[i] += metric[i - 1];
    } else {
        metric = ref_integers(1);
        width = ref_integers(1);
        metric[0] = (uint64_t)r->metric_id;
        width[0] = n_series;
    }
    uint64_t *id = ref_column(b, n_series);
    for (size_t i = 0; i < n_series; i++)
        id[i] += i == 0 ? (uint64_t)r->series_lo : id[i - 1];
    size_t n_vecs = ref_varint(b), n_rest = 0, series = 0, rest_at = 0;
    uint64_t *len = ref_column(b, n_vecs), *first = ref_column(b, n_vecs);
    uint64_t **vec = calloc(n_vecs + 1, sizeof *vec);
    for (size_t i = 0; i < n_vecs; i++)
        n_rest += len[i] - 1;
    uint64_t *rest = ref_column(b, n_rest);
    for (size_t i = 0; i < n_vecs; i++) {
        first[i] += i == 0 ? (uint64_t)r->t_min : first[i - 1];
        vec[i] = ref_integers(len[i]);
        vec[i][0] = first[i];
        for (size_t k = 1; k < len[i]; k++)
            vec[i][k] = vec[i][k - 1] + rest[rest_at++];
    }
    uint64_t *vec_of = ref_column(b, n_series), *series_len = ref_integers(n_series),
             *bits = ref_integers((size_t)r->n_samples);
    for (size_t i = 0; i < n_series; i++)
        series_len[i] = len[vec_of[i]];
    size_t starts_at = b->at;
    if (started)
        b->at = ref_skip_starts(b, (size_t)r->n_samples);
    ref_layouts layouts = {0};
    ref_histogram **hists = calloc((size_t)r->n_samples + 1, sizeof *hists);
    if (r->kind == 2) {
        layouts = ref_read_layouts(b);
        free(ref_column(b, n_metrics)); /* lengths of the groups */
    }
    for (size_t m = 0; m < n_metrics; m++) {
        size_t n = 0, at = 0;
        for (size_t s = 0; s < width[m]; s++)
            n += series_len[series + s];
        if (r->kind == 2)
            ref_flush_histograms(b, &layouts, series_len + series, width[m], n, hists);
        else
            ref_group(b, series_len + series, width[m], n, bits);
        for (size_t s = 0; s < width[m]; s++, series++) {
            for (size_t k = 0; k < series_len[series]; k++, at++)
                r->samples[r->n++] = (ref_sample){(int64_t)metric[m],
                                                  (int64_t)id[series],
                                                  (int64_t)vec[vec_of[series]][k],
                                                  0,
                                                  bits[at],
                                                  hists[at]};
        }
    }
    if (started)
        ref_flush_starts(b, starts_at, r);
    ref_free_layouts(&layouts);
    free(hists);
    for (size_t i = 0; i < n_vecs; i++)
        free(vec[i]);
    uint64_t *all[] = {metric, width, id, len, first, rest, vec_of, series_len, bits};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    free(vec);
    b->bad |= b->at != b->len;
}

/* ---- 2. header ----------------------------------------------------------------------------- */

bool
ref_decode(const uint8_t *data, size_t len, ref_block *ret)
{
    bytes b = {data, len, 0, false};
    ref_block r = {0};

    if (len < 24 || data[0] != 'P' || data[1] != 'B' || data[2] != 1)
        return false;
    r.format = data[3];
    r.kind = data[4];
    r.level = data[5];
    unsigned flags = data[6] | (unsigned)data[7] << 8;
    b.at = r.format == 2 ? 24 : 12;
    r.tenant_id = (int64_t)ref_svarint(&b);
    r.metric_id = (int64_t)ref_svarint(&b);
    if (flags & 2)
        (void)ref_fixed(&b, 8);
    r.n_series = (int64_t)ref_varint(&b);
    r.n_samples = (int64_t)ref_varint(&b);
    r.series_lo = (int64_t)ref_svarint(&b);
    r.series_hi = (int64_t)((uint64_t)r.series_lo + ref_varint(&b));
    r.t_min = (int64_t)ref_svarint(&b);
    r.t_max = (int64_t)((uint64_t)r.t_min + ref_varint(&b));
    r.samples = calloc((size_t)r.n_samples + 1, sizeof *r.samples);
    if (r.format == 2) {
        columns(data, len, &b, flags & 4, &r);
    } else if (flags & 1) {
        size_t size = ref_varint(&b);
        uint8_t *plain = malloc(size);
        bytes body = {plain, size, 0, false};
        if (LZ4_decompress_safe((const char *)data + b.at, (char *)plain, (int)(len - b.at),
                                (int)size) != (int)size)
            b.bad = true;
        else
            flush_body(&body, flags & 4, &r);
        free(plain);
        b.bad |= body.bad;
    } else {
        flush_body(&b, flags & 4, &r);
    }
    *ret = r;
    return !b.bad && r.n == (size_t)r.n_samples;
}

void
ref_free(ref_block *b)
{
    for (size_t i = 0; b->samples != NULL && i < b->n; i++)
        ref_free_histogram(b->samples[i].h);
    free(b->samples);
    *b = (ref_block){0};
}
