/*
 * test_merge.c - the merge against an oracle that knows only sorted lists: random overlapping
 * inputs of both formats, packed ones among them; precedence, windows, cuts, targets, cancelling.
 */
#include "tests/unit/support.h"

#include "lib/block/block.h"
#include "tests/unit/block/blockgen.h"

enum { METRIC = 10, TENANT = 5, MAX_INPUTS = 12, MAX_POINTS = 60000, SERIES = 12 };

typedef struct input {
    ps_buf bytes;
    blk_reader *r;
} input;

typedef struct result {
    blk_point *points;
    size_t n;
    size_t blocks;
    const blk_merge_opts *opts;
    int64_t last_series[64]; /* per cut: ascending series */
    int64_t last_cut[64];
    size_t n_cuts;
    size_t stop_after; /* polls until should_stop says yes; 0 = never */
    size_t polls;
    ps_status emit_status;
    int64_t told_series; /* by on_series */
    size_t n_told;
} result;

static int64_t
cut_of(const blk_merge_opts *o, int64_t t)
{
    if (o->cut_ms == 0)
        return 0;
    if (t < o->cut_lo_ms)
        return INT64_MIN;
    if (t >= o->cut_hi_ms)
        return INT64_MAX;
    return (t - (((t % o->cut_ms) + o->cut_ms) % o->cut_ms)) / o->cut_ms;
}

static ps_status
collect(void *self, ps_str data, const blk_meta *meta, ps_err *err)
{
    result *res = self;
    blk_reader *r;
    static int64_t t[MAX_POINTS];
    static double v[MAX_POINTS];

    if (res->emit_status != PS_OK)
        return ps_fail(err, res->emit_status, "refused");
    assert_int_equal(blk_reader_open(&ps_malloc, data, meta, &r, err), PS_OK);
    assert_int_equal(meta->tenant_id, TENANT);
    assert_int_equal(meta->metric_id, METRIC);
    assert_int_equal(meta->format, BLK_FORMAT_COLUMNS);
    assert_int_equal(meta->level, res->opts->out_level);
    int64_t cut = cut_of(res->opts, meta->t_min_ms);
    assert_int_equal(cut, cut_of(res->opts, meta->t_max_ms));
    size_t k = 0;
    while (k < res->n_cuts && res->last_cut[k] != cut)
        k++;
    if (k == res->n_cuts) {
        assert_true(k < PS_ARRAY_LEN(res->last_cut));
        res->last_cut[res->n_cuts++] = cut;
    } else {
        /* the same series may go on in the next block */
        assert_true(res->last_series[k] <= meta->series_lo);
    }
    res->last_series[k] = meta->series_hi;
    for (uint32_t i = 0; i < blk_reader_n_series(r); i++) {
        blk_series s;
        size_t n;
        blk_reader_series(r, i, &s);
        assert_int_equal(blk_reader_decode(r, i, INT64_MIN, INT64_MAX, t, v, &n, err), PS_OK);
        for (size_t j = 0; j < n; j++)
            res->points[res->n++] = (blk_point){.series_id = s.series_id,
                                                .t_ms = t[j],
                                                .value = v[j],
                                                .metric_id = METRIC};
    }
    res->blocks++;
    blk_reader_free(r);
    return PS_OK;
}

static void
told(void *self, int64_t series_id, const int64_t *t_ms, size_t n)
{
    result *res = self;

    assert_true(res->n_told == 0 || series_id > res->told_series);
    for (size_t i = 1; i < n; i++)
        assert_true(t_ms[i] > t_ms[i - 1]);
    res->told_series = series_id;
    res->n_told += n;
}

static bool
stop(void *self)
{
    result *res = self;

    return res->stop_after > 0 && ++res->polls >= res->stop_after;
}

static void
encode_columns(const blk_point *p, size_t n, ps_buf *out, blk_meta *meta)
{
    blk_writer_opts o = {TENANT, METRIC, BLK_LEVEL_MERGED, 0};
    blk_writer *w = blk_writer_new(&ps_malloc, &o);
    ps_err err;

    for (size_t at = 0, end; at < n; at = end) {
        int64_t t[2000];
        double v[2000];
        for (end = at; end < n && p[end].series_id == p[at].series_id; end++) {
            t[end - at] = p[end].t_ms;
            v[end - at] = p[end].value;
        }
        assert_int_equal(blk_writer_add(w, p[at].series_id, t, v, end - at, &err), PS_OK);
    }
    assert_int_equal(blk_writer_finish(w, out, meta, &err), PS_OK);
    blk_writer_free(w);
}

/* Random points of some series; in packed inputs also of other metrics, which must not come out. */
static size_t
random_points(uint64_t *state, blk_point *p, bool packed, int64_t base, int64_t spread,
              uint32_t owner)
{
    size_t n = 1 + gen_below(state, 400);

    for (size_t i = 0; i < n; i++) {
        int32_t metric = packed && gen_below(state, 2)
                             ? METRIC + MDL_BUCKETS * (int32_t)(1 + gen_below(state, 3))
                             : METRIC;
        p[i] = (blk_point){.series_id = (int64_t)gen_below(state, SERIES) * 3 - 9,
                           .t_ms = base + (int64_t)gen_below(state, (uint64_t)spread) * 1000,
                           .value = (double)gen_below(state, 3),
                           .metric_id = metric,
                           .owner = owner};
    }
    p[0].metric_id = METRIC;
    return n;
}

static void
one_round(uint64_t *state, blk_merge_opts *o, int64_t base, int64_t spread)
{
    size_t n_inputs = 1 + gen_below(state, MAX_INPUTS), n_all = 0;
    input in[MAX_INPUTS];
    blk_reader *readers[MAX_INPUTS];
    blk_point *all = malloc(MAX_POINTS * sizeof *all), *scratch = malloc(MAX_POINTS * sizeof *all);
    result res = {.points = malloc(MAX_POINTS * sizeof *all), .opts = o};
    blk_dup_stats ignored = {0}, want_dups = {0};
    blk_merge_stats stats;
    ps_err err;

    for (size_t i = 0; i < n_inputs; i++) {
        unsigned kind = (unsigned)gen_below(state, 3); /* flush, packed flush, columns */
        blk_point p[512], tmp[512];
        blk_meta meta;
        size_t n = random_points(state, p, kind == 1, base, spread, (uint32_t)i);
        n = blk_points_sort_unique(p, tmp, n, &ignored);
        ps_buf_init(&in[i].bytes, &ps_malloc);
        if (kind == 2)
            encode_columns(p, n, &in[i].bytes, &meta);
        else
            assert_int_equal(blk_encode_flush(&ps_malloc, TENANT,
                                              kind == 1 ? mdl_bucket(METRIC) : METRIC, p, n,
                                              &in[i].bytes, &meta, &err),
                             PS_OK);
        assert_int_equal(blk_reader_open(&ps_malloc, ps_buf_str(&in[i].bytes), &meta, &readers[i],
                                         &err),
                         PS_OK);
        for (size_t k = 0; k < n; k++) {
            if (p[k].metric_id == METRIC && p[k].t_ms >= o->from_ms && p[k].t_ms < o->to_ms)
                all[n_all++] = p[k];
        }
    }
    blk_part parts[MAX_INPUTS];
    blk_merge_opts with_parts = *o;
    if (gen_below(state, 2)) { /* the caller knows where the metric's series are */
        for (size_t i = 0; i < n_inputs; i++)
            parts[i] = (blk_part){blk_reader_seek(readers[i], METRIC, INT64_MIN),
                                  blk_reader_seek(readers[i], METRIC + 1, INT64_MIN)};
        with_parts.parts = parts;
    }
    uint64_t n_in = n_all;
    /* oracle: the stable sort (inputs stand in order of precedence), tested on its own */
    n_all = blk_points_sort_unique(all, scratch, n_all, &want_dups);
    assert_int_equal(blk_merge(&ps_malloc, readers, n_inputs, &with_parts, collect, &res, NULL,
                               &stats, &err),
                     PS_OK);
    assert_int_equal(stats.samples_in, n_in);
    assert_int_equal(stats.samples_out, n_all);
    assert_int_equal(stats.blocks_out, res.blocks);
    assert_memory_equal(&stats.dups, &want_dups, sizeof want_dups);
    assert_int_equal(res.n, n_all);
    assert_int_equal(res.n_told, n_all);
    blk_points_sort_unique(res.points, scratch, res.n, &ignored);
    for (size_t i = 0; i < n_all; i++) {
        assert_int_equal(res.points[i].series_id, all[i].series_id);
        assert_int_equal(res.points[i].t_ms, all[i].t_ms);
        assert_memory_equal(&res.points[i].value, &all[i].value, 8);
    }
    for (size_t i = 0; i < n_inputs; i++) {
        blk_reader_free(readers[i]);
        ps_buf_done(&in[i].bytes);
    }
    free(all);
    free(scratch);
    free(res.points);
}

static void
test_against_oracle(void **unused)
{
    uint64_t state = 1;

    (void)unused;
    for (unsigned round = 0; round < 400; round++) {
        int64_t day = (int64_t)gen_below(&state, 40000) - 20000;
        int64_t base = day * MDL_DAY_MS - (int64_t)gen_below(&state, 100000);
        int64_t spread = 1 + (int64_t)gen_below(&state, gen_below(&state, 2) ? 60 : 400000);
        blk_merge_opts o = {.tenant_id = TENANT,
                            .metric_id = METRIC,
                            .out_level = gen_below(&state, 2) ? BLK_LEVEL_MERGED : BLK_LEVEL_SEALED,
                            .from_ms = INT64_MIN,
                            .to_ms = INT64_MAX,
                            .on_series = told};
        if (gen_below(&state, 2)) /* the series of flush blocks in several parts */
            o.at_once = 1 + gen_below(&state, 300);
        if (gen_below(&state, 2)) { /* window */
            o.from_ms = base + (int64_t)gen_below(&state, (uint64_t)spread) * 1000;
            o.to_ms = o.from_ms + (int64_t)gen_below(&state, (uint64_t)spread) * 1000;
        }
        if (gen_below(&state, 2)) {
            o.cut_ms = MDL_DAY_MS;
            o.cut_lo_ms = (day - (int64_t)gen_below(&state, 2)) * MDL_DAY_MS;
            o.cut_hi_ms = (day + (int64_t)gen_below(&state, 5)) * MDL_DAY_MS;
        }
        if (gen_below(&state, 2))
            o.target_samples = 1 + gen_below(&state, 200);
        if (gen_below(&state, 2))
            o.target_bytes = 1 + gen_below(&state, 500);
        one_round(&state, &o, base, spread);
    }
}

static blk_reader *
open_points(blk_point *p, size_t n, ps_buf *bytes)
{
    blk_meta meta;
    blk_reader *r;
    ps_err err;

    ps_buf_init(bytes, &ps_malloc);
    assert_int_equal(blk_encode_flush(&ps_malloc, TENANT, METRIC, p, n, bytes, &meta, &err), PS_OK);
    assert_int_equal(blk_reader_open(&ps_malloc, ps_buf_str(bytes), &meta, &r, &err), PS_OK);
    return r;
}

static void
test_precedence_and_conflicts(void **unused)
{
    blk_point a[] = {{.series_id = 1, .t_ms = 10, .value = 1.0, .metric_id = METRIC},
                     {.series_id = 1, .t_ms = 20, .value = 2.0, .metric_id = METRIC}};
    blk_point b[] = {{.series_id = 1, .t_ms = 10, .value = 1.0, .metric_id = METRIC},
                     {.series_id = 1, .t_ms = 20, .value = 3.0, .metric_id = METRIC},
                     {.series_id = 1, .t_ms = 15, .value = 0, .metric_id = METRIC}};
    blk_point out[8];
    ps_buf bytes[2];
    blk_merge_opts o = {.tenant_id = TENANT,
                        .metric_id = METRIC,
                        .from_ms = INT64_MIN,
                        .to_ms = INT64_MAX};
    result res = {.points = out, .opts = &o};
    blk_merge_stats stats;
    blk_dup_stats dups = {0};
    blk_point scratch[3];
    ps_err err;

    (void)unused;
    blk_points_sort_unique(b, scratch, 3, &dups);
    blk_reader *r[] = {open_points(a, 2, &bytes[0]), open_points(b, 3, &bytes[1])};
    assert_int_equal(blk_merge(&ps_malloc, r, 2, &o, collect, &res, stop, &stats, &err), PS_OK);
    assert_int_equal(res.n, 3);
    assert_true(out[0].value == 1.0 && out[1].value == 0 && out[2].value == 2.0);
    assert_int_equal(stats.dups.duplicates, 1);
    assert_int_equal(stats.dups.conflicts, 1);
    assert_int_equal(stats.samples_in, 5);
    /* the other way round the other value wins */
    blk_reader *back[] = {r[1], r[0]};
    res.n = res.n_cuts = 0;
    assert_int_equal(blk_merge(&ps_malloc, back, 2, &o, collect, &res, stop, &stats, &err), PS_OK);
    assert_true(out[2].value == 3.0);
    for (unsigned i = 0; i < 2; i++) {
        blk_reader_free(r[i]);
        ps_buf_done(&bytes[i]);
    }
}

static void
test_ends_early(void **unused)
{
    blk_point a[] = {{.series_id = 1, .t_ms = 10, .value = 1.0, .metric_id = METRIC},
                     {.series_id = 2, .t_ms = 20, .value = 2.0, .metric_id = METRIC},
                     {.series_id = 3, .t_ms = 20, .value = 2.0, .metric_id = METRIC}};
    blk_point out[8];
    ps_buf bytes;
    blk_merge_opts o = {.tenant_id = TENANT,
                        .metric_id = METRIC,
                        .from_ms = INT64_MIN,
                        .to_ms = INT64_MAX};
    result res = {.points = out, .opts = &o, .stop_after = 2};
    blk_merge_stats stats = {.samples_in = 99};
    ps_err err;

    (void)unused;
    blk_reader *r = open_points(a, 3, &bytes);
    assert_int_equal(blk_merge(&ps_malloc, &r, 1, &o, collect, &res, stop, &stats, &err),
                     PS_ECANCELED);
    assert_int_equal(stats.samples_in, 99); /* outputs on success only */
    res = (result){.points = out, .opts = &o, .emit_status = PS_EUNAVAILABLE};
    assert_int_equal(blk_merge(&ps_malloc, &r, 1, &o, collect, &res, stop, &stats, &err),
                     PS_EUNAVAILABLE);
    o.tenant_id = TENANT + 1;
    assert_int_equal(blk_merge(&ps_malloc, &r, 1, &o, collect, &res, stop, &stats, &err),
                     PS_EINVAL);
    o.tenant_id = TENANT;
    o.from_ms = o.to_ms;
    res = (result){.points = out, .opts = &o};
    assert_int_equal(blk_merge(&ps_malloc, &r, 1, &o, collect, &res, stop, &stats, &err), PS_OK);
    assert_int_equal(stats.samples_out, 0);
    assert_int_equal(blk_merge(&ps_malloc, &r, 0, &o, collect, &res, stop, &stats, &err), PS_OK);
    /* a part of the series only; one that the block does not have */
    blk_part part = {1, 2};
    o.from_ms = INT64_MIN;
    o.parts = &part;
    res = (result){.points = out, .opts = &o};
    assert_int_equal(blk_merge(&ps_malloc, &r, 1, &o, collect, &res, stop, &stats, &err), PS_OK);
    assert_true(res.n == 1 && out[0].series_id == 2);
    part.end = 4;
    assert_int_equal(blk_merge(&ps_malloc, &r, 1, &o, collect, &res, stop, &stats, &err),
                     PS_EINVAL);
    part = (blk_part){2, 1};
    assert_int_equal(blk_merge(&ps_malloc, &r, 1, &o, collect, &res, stop, &stats, &err),
                     PS_EINVAL);
    blk_reader_free(r);
    ps_buf_done(&bytes);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_oracle),
        cmocka_unit_test(test_precedence_and_conflicts),
        cmocka_unit_test(test_ends_early),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
