/*
 * fuzz_block_histograms.c - stored blocks of histograms, and of either kind with start timestamps.
 *
 * The first byte chooses what the rest is:
 *   0  a block, whose checksums are set right so that the input gets deep: opened eagerly and lazily,
 *      decoded whole and in part; what decodes must survive a merge unchanged
 *   1  a description of points: written as a flush block and as a columns block, both of which must
 *      give them back; and in several flush blocks, whose merge must be what sorting all points gives
 * Blocks lie on the heap at their exact size.
 */
#include "lib/block/histograms.h"
#include "tests/fuzz/fuzz.h"

#include <math.h>

enum { MAX_DECODE = 4096, MAX_POINTS = 600 };

static void
fix_checksums(char *p, size_t len)
{
    if (len < BLK_COLUMNS_FIXED)
        return;
    p[0] = 'P';
    p[1] = 'B';
    p[2] = BLK_VERSION;
    p[4] = p[4] & 1 ? BLK_KIND_FLOAT : BLK_KIND_HISTOGRAM;
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

/* ---- samples of a series -------------------------------------------------------------------- */

typedef struct samples { /* of one series */
    int64_t t[MAX_DECODE], starts[MAX_DECODE];
    double v[MAX_DECODE];
    const hst_hist *h[MAX_DECODE];
    ps_arena arena;
    size_t n;
} samples;

static bool
is_marker(const hst_hist *h)
{
    return hst_is_stale(h) && h->count == 0 && blk_populated(h) == 0;
}

static void
require_same(const samples *a, size_t i, const samples *b, size_t k)
{
    REQUIRE(a->t[i] == b->t[k] && a->starts[i] == b->starts[k]);
    REQUIRE((a->h[i] == NULL) == (b->h[k] == NULL));
    if (a->h[i] == NULL) {
        REQUIRE(ps_bits_of(a->v[i]) == ps_bits_of(b->v[k]));
        return;
    }
    REQUIRE(a->h[i]->hint == b->h[k]->hint);
    if (is_marker(a->h[i]) && is_marker(b->h[k]))
        return;
    REQUIRE(hst_equal(a->h[i], b->h[k]) && a->h[i]->integer == b->h[k]->integer);
}

/* All samples of series i from `from_ms` on; false if they are damaged or too many. */
static bool
decode(blk_bench *b, const blk_reader *r, uint32_t i, int64_t from_ms, samples *to)
{
    blk_run run = {r, i, 1};
    ps_err err;
    blk_series s;

    ps_arena_init(&to->arena, &ps_malloc, (size_t)64 << 20);
    to->n = 0;
    blk_reader_series(r, i, &s);
    if (s.n_samples > MAX_DECODE)
        return false;
    blk_samples into = {.t_ms = to->t,
                        .values = to->v,
                        .histograms = to->h,
                        .start_ms = to->starts,
                        .arena = &to->arena};
    ps_status status = blk_runs_read(b, &run, 1, from_ms, INT64_MAX, &into, &err);
    REQUIRE(status == PS_OK || status == PS_ECORRUPT || status == PS_EUNSUPPORTED ||
            status == PS_ENOMEM);
    to->n = into.n;
    for (size_t k = 0; status == PS_OK && k < to->n; k++) {
        REQUIRE(to->t[k] >= s.t_first_ms && to->t[k] <= s.t_last_ms &&
                (k == 0 || to->t[k] > to->t[k - 1]));
        REQUIRE(to->h[k] == NULL || hst_check(to->h[k], NULL) == PS_OK);
    }
    return status == PS_OK;
}

static samples whole, part, again;

/* True if the series decodes. A part of it is then that part. */
static bool
check_series(blk_bench *b, const blk_reader *r, uint32_t i)
{
    bool ok = decode(b, r, i, INT64_MIN, &whole);

    if (ok) {
        size_t from = whole.n / 3;
        REQUIRE(decode(b, r, i, whole.t[from], &part) && part.n == whole.n - from);
        for (size_t k = 0; k < part.n; k++)
            require_same(&part, k, &whole, from + k);
        ps_arena_done(&part.arena);
    }
    ps_arena_done(&whole.arena);
    return ok;
}

/* ---- merging -------------------------------------------------------------------------------- */

typedef struct target { /* what comes out of a merge must be in it */
    blk_bench *b;
    const blk_reader *source;
    size_t n;
} target;

static ps_status
check_output(void *self, ps_str data, const blk_meta *meta, ps_err *err)
{
    target *m = self;
    blk_reader *r;

    REQUIRE(blk_reader_open(&ps_malloc, data, meta, &r, err) == PS_OK);
    blk_bench *b = blk_bench_new(&ps_malloc);
    REQUIRE(b != NULL);
    for (uint32_t i = 0; i < blk_reader_n_series(r); i++) {
        blk_series s;
        size_t at = 0;
        blk_reader_series(r, i, &s);
        uint32_t k = blk_reader_seek(m->source, s.metric_id, s.series_id);
        REQUIRE(k < blk_reader_n_series(m->source));
        REQUIRE(decode(b, r, i, INT64_MIN, &again) &&
                decode(m->b, m->source, k, INT64_MIN, &whole));
        while (at < whole.n && whole.t[at] != again.t[0])
            at++;
        REQUIRE(whole.n - at >= again.n);
        for (size_t j = 0; j < again.n; j++)
            require_same(&again, j, &whole, at + j);
        m->n += again.n;
        ps_arena_done(&again.arena);
        ps_arena_done(&whole.arena);
    }
    blk_bench_free(b);
    blk_reader_free(r);
    return PS_OK;
}

/* Merges one sound block. */
static void
merge_alone(blk_bench *b, blk_reader *r, int32_t metric_id, uint8_t seed)
{
    blk_merge_opts o = {.tenant_id = blk_reader_meta(r)->tenant_id,
                        .metric_id = metric_id,
                        .out_level = 1 + (seed & 1),
                        .from_ms = INT64_MIN,
                        .to_ms = INT64_MAX,
                        .target_samples = seed & 2 ? 10 : 0,
                        .target_bytes = seed & 4 ? 300 : 0};
    target m = {b, r, 0};
    blk_merge_stats stats;
    ps_err err;

    REQUIRE(blk_merge(&ps_malloc, &r, 1, &o, check_output, &m, NULL, &stats, &err) == PS_OK);
    REQUIRE(stats.samples_out == m.n && stats.samples_in == m.n);
}

static void
fuzz_bytes(const uint8_t *data, size_t size)
{
    blk_reader *r[2] = {NULL, NULL};
    ps_err err;
    bool sound = true;
    char *bytes = malloc(size == 0 ? 1 : size);
    blk_bench *b = blk_bench_new(&ps_malloc);

    REQUIRE(bytes != NULL && b != NULL);
    memcpy(bytes, data, size);
    fix_checksums(bytes, size);
    for (unsigned lazy = 0; lazy < 2; lazy++) {
        ps_status status =
            (lazy ? blk_reader_open_lazy : blk_reader_open)(&ps_malloc, (ps_str){bytes, size}, NULL,
                                                            &r[lazy], &err);
        REQUIRE(status == PS_OK || status == PS_ECORRUPT || status == PS_EUNSUPPORTED);
        if (status != PS_OK) {
            REQUIRE(lazy == 0 || r[0] == NULL);
            r[lazy] = NULL;
            sound = false;
            continue;
        }
        for (uint32_t i = 0; i < blk_reader_n_series(r[lazy]); i++) {
            blk_series s;
            blk_reader_series(r[lazy], i, &s);
            bool ok = blk_reader_prepare(r[lazy], s.metric_id, &err) == PS_OK &&
                      check_series(b, r[lazy], i);
            REQUIRE(ok || lazy == 0 || !sound);
            sound &= ok;
        }
    }
    if (sound) {
        blk_series s;
        blk_reader_series(r[1], 0, &s);
        merge_alone(b, r[1], s.metric_id, size > 5 ? data[5] : 0);
    }
    blk_bench_free(b);
    blk_reader_free(r[0]);
    blk_reader_free(r[1]);
    free(bytes);
}

/* ---- descriptions --------------------------------------------------------------------------- */

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

static double
take_number(source *s, unsigned op)
{
    switch (op & 3) {
    case 0:
        return (double)take(s, 1);
    case 1:
        return (double)take(s, 3);
    case 2:
        return (double)take(s, 2) / 100;
    default:
        return ps_double_of(take(s, 8));
    }
}

static hst_side
take_side(source *s, ps_arena *arena, unsigned op, bool custom)
{
    uint32_t n = (uint32_t)take(s, 1) % (custom ? 4 : 12), wanted = 1 + (op >> 4);
    hst_span *spans = ps_arena_array(arena, wanted, sizeof *spans);
    double *counts = ps_arena_array(arena, (size_t)n + 1, sizeof *counts);

    REQUIRE(spans != NULL && counts != NULL);
    hst_side side = {spans, wanted, n, counts};
    for (uint32_t k = 0, left = n; k < wanted; k++) {
        uint32_t len = k + 1 == wanted ? left : left / 2;
        int32_t offset = (int32_t)take(s, 1);
        spans[k] = (hst_span){custom ? 0 : k == 0 ? offset - 128 : offset, len};
        left -= len;
    }
    for (uint32_t i = 0; i < n; i++)
        counts[i] = take_number(s, op);
    return side;
}

/* NULL: what was described is no histogram. */
static const hst_hist *
take_histogram(source *s, ps_arena *arena)
{
    static const double bounds[] = {-1, 0.5, 1, 2.5, 10};
    unsigned op = (unsigned)take(s, 1), kind = (unsigned)take(s, 1);
    hst_hist *h = ps_arena_array(arena, 1, sizeof *h);

    REQUIRE(h != NULL);
    *h = (hst_hist){.schema = (int32_t)(kind % 13) - 4,
                    .hint = (hst_hint)(kind >> 4 & 3),
                    .integer = kind >> 6 & 1,
                    .sum = take_number(s, op >> 2),
                    .count = take_number(s, op)};
    if (kind == 255) {
        *h = (hst_hist){.sum = ps_double_of(MDL_STALE_NAN_BITS)};
        return h;
    }
    if (kind >> 7) {
        h->schema = HST_CUSTOM;
        h->bounds = bounds;
        h->n_bounds = PS_ARRAY_LEN(bounds);
    } else {
        h->zero_threshold = fabs(take_number(s, op >> 1));
        h->zero_count = take_number(s, op);
        h->negative = take_side(s, arena, op, false);
    }
    h->positive = take_side(s, arena, op, kind >> 7);
    return hst_check(h, NULL) == PS_OK ? h : NULL;
}

static size_t
take_points(source *s, ps_arena *arena, blk_point *p)
{
    int64_t t = 1700000000000, id = 1;
    size_t n = 0;

    while (s->p < s->end && n < MAX_POINTS) {
        unsigned op = (unsigned)take(s, 1);
        const hst_hist *h = take_histogram(s, arena);
        if (h == NULL)
            continue;
        id = op & 1 ? id : (int64_t)take(s, 1);
        t = op & 2 ? t + 15000 : 1700000000000 + (int64_t)take(s, 3);
        int64_t start = op & 4 ? 0 : op & 8 ? t - (int64_t)take(s, 1) : 1690000000000;
        for (unsigned k = 0; k <= op >> 5 && n < MAX_POINTS; k++, t += 15000)
            p[n++] = (blk_point){
                .metric_id = 5, .series_id = id, .t_ms = t, .histogram = h, .start_ms = start};
    }
    return n;
}

/* The reader gives back those points. */
static void
require_points(const blk_reader *r, const blk_point *p, size_t n)
{
    blk_bench *b = blk_bench_new(&ps_malloc);
    size_t at = 0;

    REQUIRE(b != NULL);
    for (uint32_t i = 0; i < blk_reader_n_series(r); i++) {
        blk_series s;
        blk_reader_series(r, i, &s);
        REQUIRE(decode(b, r, i, INT64_MIN, &whole));
        for (size_t k = 0; k < whole.n; k++, at++) {
            static samples want;
            REQUIRE(at < n && p[at].series_id == s.series_id);
            want.t[0] = p[at].t_ms;
            want.starts[0] = p[at].start_ms;
            want.h[0] = p[at].histogram;
            require_same(&whole, k, &want, 0);
        }
        ps_arena_done(&whole.arena);
    }
    REQUIRE(at == n);
    blk_bench_free(b);
}

static void
check_bytes(const ps_buf *out, const blk_point *p, size_t n)
{
    char *copy = malloc(out->len);
    blk_reader *r;
    ps_err err;

    REQUIRE(copy != NULL && !out->failed);
    memcpy(copy, out->ptr, out->len);
    REQUIRE(blk_reader_open(&ps_malloc, (ps_str){copy, out->len}, NULL, &r, &err) == PS_OK);
    require_points(r, p, n);
    blk_reader_free(r);
    free(copy);
}

typedef struct collected {
    const blk_point *p;
    size_t n, at;
} collected;

static ps_status
compare_output(void *self, ps_str data, const blk_meta *meta, ps_err *err)
{
    collected *c = self;
    blk_reader *r;

    REQUIRE(blk_reader_open(&ps_malloc, data, meta, &r, err) == PS_OK);
    REQUIRE((size_t)meta->n_samples <= c->n - c->at);
    require_points(r, c->p + c->at, (size_t)meta->n_samples);
    c->at += (size_t)meta->n_samples;
    blk_reader_free(r);
    return PS_OK;
}

static void
check_merge(blk_point *p, size_t n, const blk_point *sorted, size_t n_sorted, uint8_t seed)
{
    enum { INPUTS = 3 };
    static blk_point piece[MAX_POINTS], scratch[MAX_POINTS];
    blk_merge_opts o = {.tenant_id = 1,
                        .metric_id = 5,
                        .out_level = 1,
                        .from_ms = INT64_MIN,
                        .to_ms = INT64_MAX,
                        .target_samples = seed & 1 ? 20 : 0};
    blk_reader *r[INPUTS];
    ps_buf bytes[INPUTS];
    blk_dup_stats dups = {0};
    blk_merge_stats stats;
    blk_meta meta;
    ps_err err;
    size_t n_in = 0;

    for (size_t i = 0; i < INPUTS; i++) {
        size_t lo = n * i / INPUTS, m = n * (i + 1) / INPUTS - lo;
        if (m == 0)
            continue;
        memcpy(piece, p + lo, m * sizeof *piece);
        m = blk_histograms_sort_unique(piece, scratch, m, &dups);
        ps_buf_init(&bytes[n_in], &ps_malloc);
        REQUIRE(blk_encode_flush_histograms(&ps_malloc, 1, 5, piece, m, &bytes[n_in], &meta,
                                            &err) == PS_OK);
        REQUIRE(blk_reader_open(&ps_malloc, ps_buf_str(&bytes[n_in]), &meta, &r[n_in], &err) ==
                PS_OK);
        n_in++;
    }
    collected c = {sorted, n_sorted, 0};
    REQUIRE(blk_merge(&ps_malloc, r, n_in, &o, compare_output, &c, NULL, &stats, &err) == PS_OK);
    REQUIRE(c.at == n_sorted);
    for (size_t i = 0; i < n_in; i++) {
        blk_reader_free(r[i]);
        ps_buf_done(&bytes[i]);
    }
}

static void
put_columns(const blk_point *p, size_t n, int16_t level, ps_buf *out)
{
    blk_writer_opts o = {1, 5, level, BLK_KIND_HISTOGRAM};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    static samples s;
    blk_meta meta;
    ps_err err;

    REQUIRE(w != NULL);
    for (size_t at = 0; at < n; at += s.n) {
        for (s.n = 0; at + s.n < n && p[at + s.n].series_id == p[at].series_id; s.n++) {
            s.t[s.n] = p[at + s.n].t_ms;
            s.starts[s.n] = p[at + s.n].start_ms;
            s.h[s.n] = p[at + s.n].histogram;
        }
        REQUIRE(blk_writer_add_histograms(w, p[at].series_id, s.t, s.starts, s.h, s.n, &err) ==
                PS_OK);
    }
    REQUIRE(blk_writer_finish(w, out, &meta, &err) == PS_OK);
    blk_writer_free(w);
}

static void
fuzz_points(source s)
{
    static blk_point arrived[MAX_POINTS], p[MAX_POINTS], scratch[MAX_POINTS];
    uint8_t seed = (uint8_t)take(&s, 1);
    blk_dup_stats dups = {0};
    ps_arena arena;
    blk_meta meta;
    ps_buf out;
    ps_err err;

    ps_arena_init(&arena, &ps_malloc, 0);
    size_t n = take_points(&s, &arena, arrived), kept = n;
    if (n > 0) {
        memcpy(p, arrived, n * sizeof *p);
        kept = blk_histograms_sort_unique(p, scratch, n, &dups);
        REQUIRE(kept + dups.duplicates + dups.conflicts == n);
        ps_buf_init(&out, &ps_malloc);
        REQUIRE(blk_encode_flush_histograms(&ps_malloc, 1, 5, p, kept, &out, &meta, &err) == PS_OK);
        check_bytes(&out, p, kept);
        ps_buf_clear(&out);
        put_columns(p, kept, 1 + (seed >> 1 & 1), &out);
        check_bytes(&out, p, kept);
        ps_buf_done(&out);
        check_merge(arrived, n, p, kept, seed);
    }
    ps_arena_done(&arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] % 2 == 0)
        fuzz_bytes(data + 1, size - 1);
    else
        fuzz_points((source){data + 1, data + size});
    return 0;
}
