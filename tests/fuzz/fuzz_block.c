/*
 * fuzz_block.c - stored blocks.
 *
 * The first byte chooses what the rest is:
 *   0  a block (both formats), whose checksums are set right so that the input gets deep: opened,
 *      walked, decoded whole and in parts, eagerly and lazily, merged; what opens and decodes must survive the merge
 *      unchanged
 *   1  two such blocks, merged with each other
 *   2  a description of series: written as a columns block, which must come back to the bit
 *   3  a description of points: sorted, written as a flush block, which must come back to the bit;
 *      and in several blocks, whose merge must be what sorting all points gives
 * Blocks lie on the heap at their exact size.
 */
#include "lib/block/internal.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_DECODE = 1 << 16, MAX_MERGE = 1 << 17 };

/* ---- blocks -------------------------------------------------------------------------------- */

static void
fix_checksums(char *p, size_t len)
{
    if (len < BLK_COLUMNS_FIXED)
        return;
    p[0] = 'P';
    p[1] = 'B';
    p[2] = BLK_VERSION;
    p[4] = BLK_KIND_FLOAT;
    if (p[3] != BLK_FORMAT_COLUMNS) {
        p[3] = BLK_FORMAT_FLUSH;
        ps_put_u32le(p + BLK_OFF_CRC, blk_crc_skipping((ps_str){p, len}));
        return;
    }
    size_t head = ps_get_u32le(p + BLK_OFF_HEAD_LEN);
    if (head <= BLK_COLUMNS_FIXED || head > len)
        return;
    ps_put_u32le(p + BLK_OFF_BODY_LEN, (uint32_t)(len - head));
    ps_put_u32le(p + BLK_OFF_BODY_CRC, ps_crc32c(0, p + head, len - head));
    ps_put_u32le(p + BLK_OFF_CRC, blk_crc_skipping((ps_str){p, head}));
}

/* A block opened lazily against the same opened whole (NULL: that was refused): values looked up in an
 * order of its own, until groups are decoded. */
static void
check_lazy(ps_str data, blk_reader *whole)
{
    enum { MAX_LOOKUPS = 40 };
    blk_reader *r;
    ps_err err;

    ps_status status = blk_reader_open_lazy(&ps_malloc, data, NULL, &r, &err);
    REQUIRE(whole == NULL || status == PS_OK);
    if (status != PS_OK)
        return;
    const uint32_t n_series = blk_reader_n_series(r);
    for (uint32_t k = 0; k < MAX_LOOKUPS; k++) {
        uint32_t i = (uint32_t)((uint64_t)k * 2654435761U % n_series);
        blk_series s;
        blk_reader_series(r, i, &s);
        if (s.n_samples > MAX_DECODE)
            continue;
        size_t lo = k % 3 == 0 ? 0 : s.n_samples / 3;
        size_t n = k % 3 == 2 ? (s.n_samples - lo + 1) / 2 : s.n_samples - lo;
        double *v = malloc(n * sizeof *v), *want = malloc(n * sizeof *v);
        REQUIRE(v != NULL && want != NULL);
        status = blk_reader_values(r, i, lo, n, v, &err);
        REQUIRE(status == PS_OK || status == PS_ECORRUPT);
        if (whole != NULL) {
            ps_status right = blk_reader_values(whole, i, lo, n, want, &err);
            REQUIRE(right == status);
            REQUIRE(status != PS_OK || memcmp(v, want, n * sizeof *v) == 0);
        }
        free(v);
        free(want);
    }
    blk_reader_free(r);
}

static blk_reader *
open_block(const char *bytes, size_t len)
{
    blk_reader *r = NULL, *h = NULL;
    blk_meta m;
    ps_err err;
    ps_str s = {bytes, len};

    ps_status status = blk_reader_open(&ps_malloc, s, NULL, &r, &err);
    REQUIRE(status == PS_OK || status == PS_ECORRUPT || status == PS_EUNSUPPORTED);
    if (blk_reader_open_head(&ps_malloc, s, NULL, &h, &err) == PS_OK) {
        for (uint32_t i = 0; r != NULL && i < blk_reader_n_series(h); i++) {
            blk_series a, b;
            blk_reader_series(h, i, &a);
            blk_reader_series(r, i, &b);
            REQUIRE(a.series_id == b.series_id &&
                    ps_bits_of(a.last_value) == ps_bits_of(b.last_value));
        }
        blk_reader_free(h);
    }
    if (status == PS_OK) {
        REQUIRE(blk_peek_meta(s, &m, &err) == PS_OK);
        REQUIRE(blk_meta_compare(blk_reader_meta(r), &m, &err) == PS_OK);
    }
    check_lazy(s, r);
    return r;
}

/* Decodes series i whole and in part; false if it is damaged. Result in malloc'ed arrays. */
static bool
decode_series(blk_reader *r, uint32_t i, blk_series *s, int64_t **ret_t, double **ret_v)
{
    size_t n, n_part;
    ps_err err;

    blk_reader_series(r, i, s);
    REQUIRE(blk_reader_seek(r, s->metric_id, s->series_id) == i);
    if (s->n_samples > MAX_DECODE)
        return false;
    int64_t *t = malloc(s->n_samples * sizeof *t), *pt = malloc(s->n_samples * sizeof *pt);
    double *v = malloc(s->n_samples * sizeof *v), *pv = malloc(s->n_samples * sizeof *pv);
    REQUIRE(t != NULL && v != NULL && pt != NULL && pv != NULL);
    ps_status status = blk_reader_decode(r, i, INT64_MIN, INT64_MAX, t, v, &n, &err);
    REQUIRE(status == PS_OK || status == PS_ECORRUPT);
    /* parts of a damaged series may or may not be seen as damaged; parts of a sound one are its
     * parts */
    size_t lo = s->n_samples / 3, hi = s->n_samples - s->n_samples / 4;
    int64_t from = status == PS_OK ? t[lo] : s->t_first_ms + 1,
            to = status == PS_OK ? t[hi - 1] : s->t_last_ms;
    ps_status part = blk_reader_decode(r, i, from, to, pt, pv, &n_part, &err);
    if (status == PS_OK) {
        REQUIRE(n == s->n_samples && part == PS_OK && t[0] == s->t_first_ms &&
                t[n - 1] == s->t_last_ms);
        REQUIRE(ps_bits_of(v[n - 1]) == ps_bits_of(s->last_value));
        for (size_t k = 1; k < n; k++)
            REQUIRE(t[k] > t[k - 1]);
        REQUIRE(n_part == (hi > lo ? hi - lo : 0));
        REQUIRE(memcmp(pt, t + lo, n_part * sizeof *t) == 0 &&
                memcmp(pv, v + lo, n_part * sizeof *v) == 0);
        size_t at, n_times;
        REQUIRE(blk_reader_times(r, i, from, to, pt, &at, &n_times, &err) == PS_OK);
        REQUIRE(n_times == n_part && (n_part == 0 || at == lo));
        REQUIRE(blk_reader_values(r, i, at, n_times, pv, &err) == PS_OK);
        REQUIRE(memcmp(pt, t + at, n_part * sizeof *t) == 0 &&
                memcmp(pv, v + at, n_part * sizeof *v) == 0);
    }
    free(pt);
    free(pv);
    if (status != PS_OK || ret_t == NULL) {
        free(t);
        free(v);
        return status == PS_OK;
    }
    *ret_t = t;
    *ret_v = v;
    return true;
}

typedef struct merged {
    blk_reader *source; /* NULL: do not compare */
    uint64_t samples;
} merged;

static ps_status
check_output(void *self, ps_str data, const blk_meta *meta, ps_err *err)
{
    merged *m = self;
    blk_reader *r;

    REQUIRE(blk_reader_open(&ps_malloc, data, meta, &r, err) == PS_OK);
    for (uint32_t i = 0; i < blk_reader_n_series(r); i++) {
        blk_series s, was;
        int64_t *t, *want_t;
        double *v, *want_v;
        REQUIRE(decode_series(r, i, &s, &t, &v));
        m->samples += s.n_samples;
        if (m->source != NULL) {
            size_t at = 0;
            uint32_t k = blk_reader_seek(m->source, s.metric_id, s.series_id);
            REQUIRE(k < blk_reader_n_series(m->source) &&
                    decode_series(m->source, k, &was, &want_t, &want_v));
            REQUIRE(was.series_id == s.series_id);
            while (at < was.n_samples && want_t[at] != t[0])
                at++;
            REQUIRE(was.n_samples - at >= s.n_samples);
            REQUIRE(memcmp(t, want_t + at, s.n_samples * sizeof *t) == 0);
            REQUIRE(memcmp(v, want_v + at, s.n_samples * sizeof *v) == 0);
            free(want_t);
            free(want_v);
        }
        free(t);
        free(v);
    }
    blk_reader_free(r);
    return PS_OK;
}

static void
merge(blk_reader **r, size_t n, int32_t metric_id, bool sound, uint8_t seed)
{
    blk_merge_opts o = {.tenant_id = blk_reader_meta(r[0])->tenant_id,
                        .metric_id = metric_id,
                        .out_level = 1 + (seed & 1),
                        .from_ms = INT64_MIN,
                        .to_ms = INT64_MAX,
                        .target_samples = seed & 2 ? 100 : 0,
                        .target_bytes = seed & 4 ? 300 : 0};
    blk_merge_stats stats;
    merged m = {.source = n == 1 ? r[0] : NULL};
    uint64_t have = 0;
    ps_err err;

    if (seed & 8) { /* one cut: an input of wild times would else open a writer for each day */
        o.cut_ms = INT64_C(1) << 52;
        o.cut_lo_ms = INT64_MIN;
        o.cut_hi_ms = INT64_MAX;
    }
    for (size_t i = 0; i < n; i++) {
        if ((size_t)blk_reader_meta(r[i])->n_samples > MAX_MERGE)
            return;
        for (uint32_t k = blk_reader_seek(r[i], metric_id, INT64_MIN);
             k < blk_reader_n_series(r[i]); k++) {
            blk_series s;
            blk_reader_series(r[i], k, &s);
            have += s.metric_id == metric_id ? s.n_samples : 0;
            sound &= s.n_samples <= MAX_DECODE;
        }
    }
    if (!sound)
        m.source = NULL;
    ps_status status = blk_merge(&ps_malloc, r, n, &o, check_output, &m, NULL, &stats, &err);
    REQUIRE(status == PS_OK || status == PS_EINVAL || (!sound && status == PS_ECORRUPT));
    if (status != PS_OK)
        return;
    REQUIRE(stats.samples_in == have && stats.samples_out == m.samples);
    REQUIRE(stats.samples_in == stats.samples_out + stats.dups.duplicates + stats.dups.conflicts);
    REQUIRE(n > 1 || stats.samples_in == stats.samples_out);
}

/* True if every series decodes. */
static bool
walk(blk_reader *r, int32_t *ret_metric)
{
    bool sound = true;
    blk_series s;

    for (uint32_t i = 0; i < blk_reader_n_series(r); i++)
        sound &= decode_series(r, i, &s, NULL, NULL);
    blk_reader_series(r, 0, &s);
    *ret_metric = s.metric_id;
    return sound;
}

static void
fuzz_blocks(const uint8_t *data, size_t size, bool two)
{
    size_t len[2] = {size, 0}, n = 0;
    char *bytes[2] = {NULL, NULL};
    blk_reader *r[2] = {NULL, NULL};
    bool sound = true;
    int32_t metric = 0;
    uint8_t seed = size > 5 ? data[5] : 0; /* where a block has its level: changes nothing else */

    if (two) {
        if (size < 2)
            return;
        len[0] = ps_get_u16le(data);
        data += 2;
        size -= 2;
        len[0] = len[0] < size ? len[0] : size;
        len[1] = size - len[0];
    }
    for (size_t i = 0; i < (two ? 2u : 1u); i++, data += len[0]) {
        bytes[i] = malloc(len[i] == 0 ? 1 : len[i]);
        REQUIRE(bytes[i] != NULL);
        memcpy(bytes[i], data, len[i]);
        fix_checksums(bytes[i], len[i]);
        blk_reader *one = open_block(bytes[i], len[i]);
        if (one == NULL)
            continue;
        int32_t m;
        sound &= walk(one, &m);
        metric = metric == 0 ? m : metric;
        r[n++] = one;
    }
    if (n > 0)
        merge(r, n, metric, sound, seed);
    for (size_t i = 0; i < 2; i++) {
        blk_reader_free(r[i]);
        free(bytes[i]);
    }
}

/* ---- descriptions -------------------------------------------------------------------------- */

typedef struct source {
    const uint8_t *p, *end;
} source;

static uint64_t
take(source *s, size_t n)
{
    uint64_t v = 0;

    if ((size_t)(s->end - s->p) < n)
        n = (size_t)(s->end - s->p);
    memcpy(&v, s->p, n);
    s->p += n;
    return v;
}

/* Up to max samples: each op makes a stretch. */
static size_t
take_series(source *s, int64_t *t, double *v, size_t max)
{
    size_t n = 0, stretches = 1 + take(s, 1) % 6;
    int64_t time = (int64_t)(take(s, 6) << 8) >> 8, scale = 1;
    double x = (double)(int32_t)take(s, 4);

    while (stretches-- > 0 && n < max) {
        unsigned op = (unsigned)take(s, 1);
        size_t len = 1 + take(s, 1);
        uint64_t step = 1 + take(s, op & 1 ? 1 : 2), amount = take(s, op & 2 ? 1 : 3),
                 noise = amount * 2 + 1;
        for (unsigned k = op >> 5; k > 0; k--)
            scale = scale > 1000000 ? 1 : scale * 10;
        for (size_t i = 0; i < len && n < max; i++) {
            noise = noise * UINT64_C(6364136223846793005) + 1;
            time += (int64_t)step + (op & 4 && noise >> 60 == 0 ? (int64_t)(noise >> 52 & 15) : 0);
            if (time < MDL_TIME_MIN_MS || time > MDL_TIME_MAX_MS)
                return n;
            switch (op >> 3 & 3) {
            case 0:
                x += (double)amount;
                break;
            case 1:
                x += (double)(noise >> 40) * (double)amount;
                break;
            case 2:
                x = ps_double_of(take(s, 8));
                break;
            default:
                break;
            }
            t[n] = time;
            v[n++] = scale == 1 ? x : x / (double)scale;
        }
    }
    return n;
}

static void
fuzz_columns(source s)
{
    enum { MAX_SERIES = 8, MAX_SAMPLES = 700 };
    static int64_t t[MAX_SERIES][MAX_SAMPLES];
    static double v[MAX_SERIES][MAX_SAMPLES];
    int64_t ids[MAX_SERIES], id = (int64_t)take(&s, 1) - 100;
    size_t n[MAX_SERIES], n_series = 0;
    blk_writer_opts o = {1, 1, 1 + (int16_t)(take(&s, 1) & 1), 0};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    ps_buf out[2];
    blk_meta meta;
    ps_err err;

    for (size_t want = 1 + take(&s, 1) % MAX_SERIES; want > 0; want--) {
        size_t k = n_series;
        n[k] = take_series(&s, t[k], v[k], MAX_SAMPLES);
        if (n[k] == 0)
            continue;
        if (k > 0 && n[k] == n[k - 1] && take(&s, 1) & 1)
            memcpy(t[k], t[k - 1], n[k] * sizeof t[k][0]);
        ids[n_series++] = id += 1 + (int64_t)take(&s, 1);
    }
    for (unsigned round = 0; round < 2; round++) {
        ps_buf_init(&out[round], &ps_malloc);
        for (size_t k = 0; k < n_series; k++)
            REQUIRE(blk_writer_add(w, ids[k], t[k], v[k], n[k], &err) == PS_OK);
        if (n_series > 0)
            REQUIRE(blk_writer_finish(w, &out[round], &meta, &err) == PS_OK);
    }
    REQUIRE(out[0].len == out[1].len &&
            (out[0].len == 0 || memcmp(out[0].ptr, out[1].ptr, out[0].len) == 0));
    if (n_series > 0) {
        blk_reader *r = open_block(out[0].ptr, out[0].len);
        REQUIRE(r != NULL && blk_reader_n_series(r) == n_series);
        for (uint32_t k = 0; k < n_series; k++) {
            blk_series got;
            int64_t *gt;
            double *gv;
            REQUIRE(decode_series(r, k, &got, &gt, &gv) && got.series_id == ids[k] &&
                    got.n_samples == n[k]);
            REQUIRE(memcmp(gt, t[k], n[k] * sizeof *gt) == 0 &&
                    memcmp(gv, v[k], n[k] * sizeof *gv) == 0);
            free(gt);
            free(gv);
        }
        merge(&r, 1, 1, true, (uint8_t)n[0]);
        blk_reader_free(r);
    }
    blk_writer_free(w);
    ps_buf_done(&out[0]);
    ps_buf_done(&out[1]);
}

typedef struct oracle { /* what a merge of one metric must give */
    const blk_point *p;
    size_t n, at;
} oracle;

static ps_status
compare_output(void *self, ps_str data, const blk_meta *meta, ps_err *err)
{
    oracle *o = self;
    blk_reader *r;

    REQUIRE(blk_reader_open(&ps_malloc, data, meta, &r, err) == PS_OK);
    for (uint32_t i = 0; i < blk_reader_n_series(r); i++) {
        blk_series s;
        int64_t *t;
        double *v;
        REQUIRE(decode_series(r, i, &s, &t, &v));
        for (size_t k = 0; k < s.n_samples; k++, o->at++) {
            REQUIRE(o->at < o->n && o->p[o->at].series_id == s.series_id);
            REQUIRE(o->p[o->at].t_ms == t[k]);
            REQUIRE(ps_bits_of(o->p[o->at].value) == ps_bits_of(v[k]));
        }
        free(t);
        free(v);
    }
    blk_reader_free(r);
    return PS_OK;
}

/* Points in order of arrival, in as many blocks as there are inputs; merged they must be what sorting
 * all of them gives. */
static void
fuzz_merge(blk_point *p, size_t n, size_t n_inputs, bool packed, uint8_t seed)
{
    enum { MAX_INPUTS = 5 };
    static blk_point scratch[2000];
    blk_reader *r[MAX_INPUTS];
    ps_buf bytes[MAX_INPUTS];
    blk_dup_stats dups = {0};
    blk_merge_stats stats;
    blk_meta meta;
    ps_err err;

    for (size_t i = 0; i < n_inputs; i++) {
        static blk_point part[2000];
        size_t lo = n * i / n_inputs, m = n * (i + 1) / n_inputs - lo;
        memcpy(part, p + lo, m * sizeof *part);
        m = blk_points_sort_unique(part, scratch, m, &dups);
        ps_buf_init(&bytes[i], &ps_malloc);
        REQUIRE(blk_encode_flush(&ps_malloc, 1, packed ? mdl_bucket(5) : 5, part, m, &bytes[i],
                                 &meta, &err) == PS_OK);
        r[i] = open_block(bytes[i].ptr, bytes[i].len);
        REQUIRE(r[i] != NULL);
    }
    n = blk_points_sort_unique(p, scratch, n, &dups);
    blk_merge_opts o = {.tenant_id = 1,
                        .metric_id = 5,
                        .out_level = 1,
                        .from_ms = INT64_MIN,
                        .to_ms = INT64_MAX,
                        .target_samples = seed & 1 ? 20 : 0};
    oracle want = {.p = p};
    while (want.n < n && p[want.n].metric_id == 5)
        want.n++;
    REQUIRE(blk_merge(&ps_malloc, r, n_inputs, &o, compare_output, &want, NULL, &stats, &err) ==
            PS_OK);
    REQUIRE(want.at == want.n && stats.samples_out == want.n);
    for (size_t i = 0; i < n_inputs; i++) {
        blk_reader_free(r[i]);
        ps_buf_done(&bytes[i]);
    }
}

static void
fuzz_points(source s)
{
    enum { MAX_POINTS = 2000 };
    static blk_point p[MAX_POINTS], arrived[MAX_POINTS], scratch[MAX_POINTS];
    static int64_t t[64];
    static double v[64];
    bool packed = take(&s, 1) & 1;
    size_t n = 0, at = 0;
    blk_dup_stats dups = {0};
    blk_meta meta;
    ps_buf out;
    ps_err err;

    while (s.p < s.end && n + 64 <= MAX_POINTS) {
        unsigned op = (unsigned)take(&s, 1);
        size_t len = take_series(&s, t, v, 1 + (op & 7) * 3), copies = 1 + (op >> 3);
        int32_t metric = 5 + (packed ? MDL_BUCKETS * (int32_t)(take(&s, 1) & 7) : 0);
        int64_t id = (int64_t)take(&s, 2);
        for (size_t c = 0; c < copies && n + len <= MAX_POINTS; c++) {
            for (size_t i = 0; i < len; i++, n++)
                p[n] = (blk_point){.series_id = id + (int64_t)c,
                                   .t_ms = t[i],
                                   .value = v[i],
                                   .metric_id = metric,
                                   .owner = (uint32_t)n};
        }
    }
    const size_t before = n;
    memcpy(arrived, p, n * sizeof *p);
    n = blk_points_sort_unique(p, scratch, n, &dups);
    REQUIRE(before == n + dups.duplicates + dups.conflicts);
    if (n == 0)
        return;
    ps_buf_init(&out, &ps_malloc);
    REQUIRE(blk_encode_flush(&ps_malloc, 1, packed ? mdl_bucket(5) : 5, p, n, &out, &meta, &err) ==
            PS_OK);
    blk_reader *r = open_block(out.ptr, out.len);
    REQUIRE(r != NULL && blk_meta_compare(blk_reader_meta(r), &meta, &err) == PS_OK);
    for (uint32_t k = 0; k < blk_reader_n_series(r); k++) {
        blk_series got;
        int64_t *gt;
        double *gv;
        REQUIRE(decode_series(r, k, &got, &gt, &gv));
        for (size_t i = 0; i < got.n_samples; i++, at++) {
            REQUIRE(at < n && p[at].series_id == got.series_id && p[at].metric_id == got.metric_id);
            REQUIRE(p[at].t_ms == gt[i] && ps_bits_of(p[at].value) == ps_bits_of(gv[i]));
        }
        free(gt);
        free(gv);
    }
    REQUIRE(at == n);
    merge(&r, 1, p[n - 1].metric_id, true, (uint8_t)n);
    blk_reader_free(r);
    ps_buf_done(&out);
    if (before >= 5)
        fuzz_merge(arrived, before, 2 + before % 4, packed, (uint8_t)n);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    source s = {data + 1, data + size};
    switch (data[0] & 3) {
    case 0:
    case 1:
        fuzz_blocks(data + 1, size - 1, data[0] & 1);
        break;
    case 2:
        fuzz_columns(s);
        break;
    case 3:
        fuzz_points(s);
        break;
    }
    return 0;
}
