/*
 * Histograms of both versions: bytes that a sender would send, what is refused and why, and every
 * histogram written and read again.
 */
#include "tests/unit/support.h"

#include <math.h>

#include "lib/wire/internal.h"

typedef struct read { /* a heap copy of exactly its size, and what comes of it */
    char *bytes;
    ps_arena arena;
    wire_histogram h;
} read;

static void
read_bytes(read *r, const void *bytes, size_t len, bool started)
{
    r->bytes = test_exact_copy(bytes, len);
    ps_arena_init(&r->arena, &ps_malloc, 0);
    assert_int_equal(wire_read_histogram((ps_str){r->bytes, len}, started, &r->arena, &r->h, NULL),
                     PS_OK);
    assert_true((r->h.histogram == NULL) == (r->h.why != NULL));
}

static void
read_hex(read *r, const char *hex, bool started)
{
    uint8_t bytes[2048];
    read_bytes(r, bytes, test_unhex(bytes, hex), started);
}

static void
done(read *r)
{
    free(r->bytes);
    ps_arena_done(&r->arena);
}

static void
assert_text(const read *r, const char *text)
{
    ps_buf out;
    if (r->h.why != NULL)
        fail_msg("refused: %s", r->h.why);
    ps_buf_init(&out, &ps_malloc);
    hst_format(&out, r->h.histogram);
    assert_str(ps_buf_str(&out), text);
    ps_buf_done(&out);
}

static void
assert_refused(const char *hex, const char *part)
{
    read r;
    read_hex(&r, hex, true);
    assert_non_null(r.h.why);
    if (strstr(r.h.why, part) == NULL)
        fail_msg("%s: expected %s", r.h.why, part);
    done(&r);
}

/* ---- what is read ----------------------------------------------------------------------------- */

#define COUNT_7 "08 07 "             /* count_int */
#define SUM_2 "19 0000000000000040 " /* sum */
#define ZERO_1 "30 01 "              /* zero_count_int */
#define SPAN_0_2 "5a 02 10 02 "      /* positive_spans {0, 2} */
#define DELTAS_2_4 "62 02 04 04 "    /* positive_deltas 2, 2: populations 2, 4 */
#define TIME_5 "78 05 "              /* timestamp */
#define START_3 "88 01 03 "          /* start_timestamp */

static void
integers(void **state)
{
    (void)state;
    read r;
    read_hex(&r, COUNT_7 SUM_2 ZERO_1 SPAN_0_2 DELTAS_2_4 TIME_5 START_3, true);
    assert_text(&r, "{count:7, sum:2, [-0,0]:1, (0.5,1]:2, (1,2]:4}");
    assert_true(r.h.histogram->integer);
    assert_true(r.h.t_ms == 5 && r.h.start_ms == 3);
    done(&r);
    read_hex(&r, COUNT_7 SUM_2 ZERO_1 SPAN_0_2 DELTAS_2_4 TIME_5 START_3, false);
    assert_true(r.h.start_ms == 0); /* 1.0 has no such field */
    done(&r);
    /* not packed, one field each; the last of two counts wins */
    read_hex(&r, "08 09 " COUNT_7 SUM_2 ZERO_1 SPAN_0_2 "60 04 60 04 " TIME_5, true);
    assert_text(&r, "{count:7, sum:2, [-0,0]:1, (0.5,1]:2, (1,2]:4}");
    done(&r);
    read_hex(&r, "", true); /* nothing at all: nothing was observed */
    assert_text(&r, "{count:0, sum:0}");
    done(&r);
}

static void
floats(void **state)
{
    (void)state;
    read r;
    read_hex(&r,
             "11 0000000000001440 " SUM_2 "39 000000000000e03f " SPAN_0_2
             "6a 10 000000000000f83f 0000000000000840 70 03 " TIME_5,
             true);
    assert_text(&r, "{count:5, sum:2, [-0,0]:0.5, (0.5,1]:1.5, (1,2]:3}");
    assert_false(r.h.histogram->integer);
    assert_int_equal(r.h.histogram->hint, HST_GAUGE);
    done(&r);
}

static void
stale_and_custom(void **state)
{
    (void)state;
    read r;
    read_hex(&r, "19 020000000000f07f " TIME_5, false);
    assert_null(r.h.why);
    assert_true(hst_is_stale(r.h.histogram));
    done(&r);
    /* schema -53, bounds 1 and 2, all three buckets */
    read_hex(&r,
             "08 06 " SUM_2 "20 69 5a 02 10 03 62 03 02 02 02 "
             "82 01 10 000000000000f03f 0000000000000040",
             false);
    assert_text(&r, "{count:6, sum:2, [-Inf,1]:1, (1,2]:2, (2,+Inf]:3}");
    done(&r);
}

/* What a double does not hold is compared as integers and goes on as a float histogram. */
static void
large_integers(void **state)
{
    (void)state;
    read r;
    /* 2^53 + 1 = 2^53 + 1: count, zero count 1, one bucket of 2^53 */
    read_hex(&r, "08 8180808080808010 30 01 5a 02 10 01 62 08 8080808080808020", false);
    assert_null(r.h.why);
    assert_false(r.h.histogram->integer);
    assert_true(r.h.histogram->count == 9007199254740992.0);
    done(&r);
    assert_refused("08 8180808080808010 30 02 5a 02 10 01 62 08 8080808080808020", "should equal");
    assert_refused("08 01 5a 02 10 03 62 0c feffffffffffffffff01 00 00", "more observations");
}

static void
high_schemas_are_reduced(void **state)
{
    (void)state;
    read r;
    /* schema 9: indexes 0, 1, 2, 3 and 7 become 0, 1 (of two), 2 and 4 */
    read_hex(&r,
             "08 0f 19 000000000000f03f 20 12 5a 02 10 04 5a 04 08 06 10 01 62 05 02 02 02 02 02",
             false);
    assert_null(r.h.why);
    const hst_hist *h = r.h.histogram;
    assert_int_equal(h->schema, 8);
    assert_int_equal(h->positive.n_spans, 2);
    assert_int_equal(h->positive.spans[0].offset, 0);
    assert_int_equal(h->positive.spans[0].length, 3);
    assert_int_equal(h->positive.spans[1].offset, 1);
    assert_int_equal(h->positive.spans[1].length, 1);
    const double populations[] = {1, 2 + 3, 4, 5};
    for (size_t i = 0; i < 4; i++)
        assert_true(h->positive.counts[i] == populations[i]);
    done(&r);
    assert_refused("20 6a", "invalid schema"); /* 53 */
    assert_refused("20 12 08 01 5a 02 10 02 62 01 02", "different number");
    assert_refused("20 12 08 02 5a 02 10 01 5a 04 08 01 10 01 62 02 02 00", "offset is negative");
    assert_refused("20 12 08 01 5a 08 08 feffffff0f 10 01 62 01 02", "too far out");
}

static void
nonsense_is_refused(void **state)
{
    (void)state;
    assert_refused("08 08 " SUM_2 ZERO_1 SPAN_0_2 DELTAS_2_4, "should equal");
    assert_refused("08 08 19 010000000000f87f 30 09", "at least");
    assert_refused(COUNT_7 SPAN_0_2 "62 02 04 05", "negative");
    assert_refused(COUNT_7 "5a 02 10 03 " DELTAS_2_4, "different number");
    assert_refused("08 01 5a 06 10 ffffffff0f 62 01 02", "different number");
    /* broken inside */
    assert_refused(COUNT_7 "62 01 80", "ends within a number");
    assert_refused("11 0000000000000000 6a 07 00000000000000", "ends within a number");
    assert_refused("0d 00000000", "wrong wire type");
    assert_refused("5a 03 08 80 80", "number");
    assert_refused("5a 02 0a 00", "wrong wire type");
    read r;
    read_hex(&r, TIME_5 "62 01 80", false); /* the time is known all the same */
    assert_true(r.h.t_ms == 5);
    done(&r);
}

/* ---- written and read again -------------------------------------------------------------------- */

static void
fill_side(test_random *random, hst_span *spans, double *counts, hst_side *side, bool custom,
          double *total)
{
    uint32_t n_spans = (uint32_t)test_random_below(random, 4), n = 0;
    for (uint32_t i = 0; i < n_spans; i++) {
        int32_t offset = (int32_t)test_random_below(random, 5);
        if (i == 0 && !custom)
            offset = (int32_t)test_random_below(random, 2000) - 1000;
        spans[i] = (hst_span){offset, (uint32_t)test_random_below(random, 5)};
        for (uint32_t k = 0; k < spans[i].length; k++) {
            counts[n] = (double)test_random_below(random, UINT64_C(1) << (1 + i * 12));
            *total += counts[n++];
        }
    }
    *side = (hst_side){spans, n_spans, n, counts};
}

static void
all_come_back(void **state)
{
    (void)state;
    test_random random = {77};
    ps_buf out;
    ps_buf_init(&out, &ps_malloc);
    for (int i = 0; i < 5000; i++) {
        hst_span spans[2][4];
        double counts[2][16], bounds[40];
        bool custom = test_random_below(&random, 4) == 0;
        hst_hist h = {.schema = custom ? HST_CUSTOM : (int32_t)test_random_below(&random, 13) - 4,
                      .hint = (hst_hint)test_random_below(&random, 4),
                      .sum = ps_double_of(test_random_u64(&random)),
                      .integer = test_random_below(&random, 2) == 0};
        fill_side(&random, spans[0], counts[0], &h.positive, custom, &h.count);
        if (custom) {
            for (int k = 0; k < 40; k++)
                bounds[k] = k * 0.25 - 3;
            h.bounds = bounds;
            h.n_bounds = 40;
        } else {
            fill_side(&random, spans[1], counts[1], &h.negative, false, &h.count);
            h.zero_threshold = (double)test_random_below(&random, 3) / 64;
            h.zero_count = (double)test_random_below(&random, 1000);
            h.count += h.zero_count;
        }
        if (!h.integer)
            h.count += 0.5;
        wire_histogram w = {.histogram = &h,
                            .t_ms = (int64_t)test_random_u64(&random),
                            .start_ms = (int64_t)test_random_u64(&random)};
        ps_buf_clear(&out);
        wire_put_histogram(&out, &w, true);
        assert_int_equal(out.len, wire_histogram_size(&w, true));
        read r;
        read_bytes(&r, out.ptr, out.len, true);
        if (r.h.why != NULL)
            fail_msg("refused: %s", r.h.why);
        assert_true(hst_equal(r.h.histogram, &h));
        assert_true(r.h.histogram->hint == h.hint && r.h.histogram->integer == h.integer);
        assert_true(r.h.t_ms == w.t_ms && r.h.start_ms == w.start_ms);
        done(&r);
    }
    ps_buf_done(&out);
}

static void
in_a_request_of_1_0(void **state)
{
    (void)state;
    static const mdl_label labels[] = {{{"__name__", 8}, {"h", 1}}};
    const hst_span span = {0, 1};
    const double count = 3;
    const hst_hist h = {.count = 3, .sum = 1, .positive = {&span, 1, 1, &count}, .integer = true};
    const wire_histogram written[] = {{.t_ms = 1, .histogram = &h}, {.t_ms = 2, .histogram = &h}};
    ps_buf out;
    ps_buf_init(&out, &ps_malloc);
    wire_write_series_histograms(&out, (mdl_labels){labels, 1}, written, 2);
    wire_write_reader reader;
    wire_item item;
    wire_series series;
    wire_metadata metadata;
    wire_histogram got[2];
    wire_write_reader_init(&reader, ps_buf_str(&out));
    assert_int_equal(wire_write_next(&reader, &item, &series, &metadata, NULL), PS_OK);
    assert_int_equal(item, WIRE_SERIES);
    assert_int_equal(series.n_histograms, 2);
    assert_int_equal(series.n_labels, 1);
    ps_arena arena;
    ps_arena_init(&arena, &ps_malloc, 0);
    assert_int_equal(wire_series_histograms(&series, &arena, got, NULL), PS_OK);
    for (int i = 0; i < 2; i++) {
        assert_true(got[i].t_ms == i + 1 && got[i].why == NULL);
        assert_true(hst_equal(got[i].histogram, &h));
    }
    ps_arena_done(&arena);
    /* no memory is told, not called nonsense */
    test_alloc t = {.fail_at = 1};
    ps_alloc a = test_alloc_of(&t);
    ps_arena_init(&arena, &a, 0);
    assert_int_equal(wire_series_histograms(&series, &arena, got, NULL), PS_ENOMEM);
    ps_arena_done(&arena);
    ps_buf_done(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers),
        cmocka_unit_test(floats),
        cmocka_unit_test(stale_and_custom),
        cmocka_unit_test(large_integers),
        cmocka_unit_test(high_schemas_are_reduced),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(all_come_back),
        cmocka_unit_test(in_a_request_of_1_0),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
