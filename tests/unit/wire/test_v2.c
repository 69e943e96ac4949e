/*
 * Remote write 2.0: messages as the format says, damage everywhere in them, and random requests
 * written and read again.
 */
#include "tests/unit/support.h"

#include "lib/wire/wire.h"

typedef struct request { /* a heap copy of exactly its size, and a reader over it */
    char *bytes;
    ps_arena arena;
    wire_v2_reader reader;
    wire_v2_series s;
} request;

static ps_status
open_bytes(request *m, const void *bytes, size_t len, size_t max_symbols, ps_err *err)
{
    m->bytes = test_exact_copy(bytes, len);
    ps_arena_init(&m->arena, &ps_malloc, 0);
    return wire_v2_reader_init(&m->reader, (ps_str){m->bytes, len}, max_symbols, &m->arena, err);
}

static void
open_hex(request *m, const char *hex)
{
    uint8_t bytes[1024];
    ps_err err = {.text = ""};
    if (open_bytes(m, bytes, test_unhex(bytes, hex), 1000, &err) != PS_OK)
        fail_msg("%s", err.text);
}

static void
done(request *m)
{
    free(m->bytes);
    ps_arena_done(&m->arena);
}

static bool
next(request *m)
{
    bool any = false;
    ps_err err = {.text = ""};
    if (wire_v2_next(&m->reader, &any, &m->s, &err) != PS_OK)
        fail_msg("%s", err.text);
    return any;
}

/* ---- by hand ------------------------------------------------------------------------------------ */

static void
a_request_is_read(void **state)
{
    (void)state;
    request m;
    open_hex(&m, "22 00 22 01 61 22 02 6262"             /* "", "a", "bb" */
                 "2a 37 0a 02 01 02"                     /* refs 1 2 */
                 "12 0b 09 000000000000f03f 10 05"       /* 1 at 5 */
                 "12 0d 09 0000000000000040 10 06 18 03" /* 2 at 6, since 3 */
                 "22 0f 0a 02 02 01 11 000000000000f03f 18 07"
                 "2a 04 08 02 18 01"
                 "2a 02 30 09");
    assert_int_equal(m.reader.symbols.n, 3);
    assert_str(m.reader.symbols.items[0], "");
    assert_str(m.reader.symbols.items[2], "bb");
    assert_true(next(&m));
    assert_int_equal(m.s.n_refs, 2);
    assert_int_equal(m.s.n_samples, 2);
    assert_int_equal(m.s.n_exemplars, 1);
    assert_true(m.s.has_metadata);
    assert_int_equal(m.s.type, 2);
    assert_int_equal(m.s.help_ref, 1);
    assert_int_equal(m.s.unit_ref, 0);
    uint32_t refs[2];
    wire_sample samples[2];
    wire_v2_refs(&m.s, refs);
    assert_true(refs[0] == 1 && refs[1] == 2);
    wire_v2_samples(&m.s, samples);
    assert_true(samples[0].t_ms == 5 && samples[0].value == 1 && samples[0].start_ms == 0);
    assert_true(samples[1].t_ms == 6 && samples[1].value == 2 && samples[1].start_ms == 3);
    wire_v2_exemplar e;
    assert_int_equal(wire_v2_exemplars(&m.s, &e, refs, 2, NULL), PS_OK);
    assert_true(e.n_refs == 2 && refs[0] == 2 && refs[1] == 1 && e.t_ms == 7 && e.value == 1);
    assert_int_equal(wire_v2_exemplars(&m.s, &e, refs, 1, NULL), PS_ELIMIT);
    assert_true(next(&m));
    assert_true(m.s.created_ms == 9 && m.s.n_refs == 0 && !m.s.has_metadata);
    assert_false(next(&m));
    assert_false(next(&m));
    done(&m);
}

/* Other orders and shapes that the format allows. */
static void
odd_shapes_are_read(void **state)
{
    (void)state;
    request m;
    uint32_t refs[4];
    wire_sample samples[2];
    /* a series before its symbols, references not packed and in two fields around the samples, an
     * unknown field, a created timestamp for samples that have no start of their own */
    open_hex(&m, "2a 2e 08 01 12 0b 09 000000000000f03f 10 05 52 01 00 0a 05 ffffffff0f 0a 02 8001"
                 "30 04 12 0d 09 0000000000000040 10 06 18 03"
                 "22 00 22 01 61");
    assert_int_equal(m.reader.symbols.n, 2);
    assert_true(next(&m));
    assert_int_equal(m.s.n_refs, 3);
    wire_v2_refs(&m.s, refs);
    assert_true(refs[0] == 1 && refs[1] == UINT32_MAX && refs[2] == 128);
    wire_v2_samples(&m.s, samples);
    assert_true(samples[0].start_ms == 4 && samples[1].start_ms == 3);
    assert_false(next(&m));
    done(&m);
    open_hex(&m, "2a 09 0a 07 ffffffffff0f 01 22 00"); /* more than 32 bits: out of range */
    assert_true(next(&m));
    wire_v2_refs(&m.s, refs);
    assert_true(m.s.n_refs == 2 && refs[0] == UINT32_MAX && refs[1] == 1);
    done(&m);
    open_hex(&m, ""); /* nothing */
    assert_int_equal(m.reader.symbols.n, 0);
    assert_false(next(&m));
    done(&m);
    open_hex(&m, "0a 04 0a 02 61 62 1a 00"); /* 1.0 in the wrong clothes: nothing, too */
    assert_false(next(&m));
    done(&m);
}

static void
what_is_wrong_with_the_table(void **state)
{
    (void)state;
    request m;
    ps_err err;
    uint8_t bytes[64];
    assert_int_equal(open_bytes(&m, bytes, test_unhex(bytes, "22 01 61 22 00"), 10, &err),
                     PS_EINVAL);
    done(&m);
    assert_int_equal(open_bytes(&m, bytes, test_unhex(bytes, "22 00 22 00 22 00"), 2, &err),
                     PS_ELIMIT);
    done(&m);
    static const char *const damaged[] = {"22 05 61", "20 01", "28 01", "2a", "2b", "02 00"};
    for (size_t i = 0; i < PS_ARRAY_LEN(damaged); i++) {
        size_t n = test_unhex(bytes, damaged[i]);
        assert_int_equal(open_bytes(&m, bytes, n, 10, &err), PS_ECORRUPT);
        assert_true(err.offset >= 0 && (size_t)err.offset <= n);
        done(&m);
    }
}

static void
what_is_wrong_in_a_series(void **state)
{
    (void)state;
    static const char *const damaged[] = {
        "2a 03 0a 02 01",    /* references end beyond the series */
        "2a 03 0a 01 80",    /* within a number */
        "2a 05 0d 00000000", /* of fixed size */
        "2a 02 10 01",       /* a sample that is a number */
        "2a 04 12 02 08 01", /* its value is a varint */
        "2a 0c 12 0a 09 000000000000f03f 10",
        "2a 04 22 02 10 01",
        "2a 04 2a 02 0a 00",
        "2a 03 1a 01 08", /* a histogram that ends within a field */
        "2a 02 32 00",    /* created: a text */
        "2a 02 02 00",    /* field 0 */
        "2a 01 80",
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(damaged); i++) {
        request m;
        ps_err err;
        bool any;
        open_hex(&m, damaged[i]);
        const uint8_t *before = m.reader.pos;
        assert_int_equal(wire_v2_next(&m.reader, &any, &m.s, &err), PS_ECORRUPT);
        assert_int_equal(wire_v2_next(&m.reader, &any, &m.s, &err), PS_ECORRUPT);
        assert_ptr_equal(m.reader.pos, before);
        assert_true(err.offset >= 0);
        done(&m);
    }
}

/* ---- written ------------------------------------------------------------------------------------ */

static void
bytes_are_as_the_format_says(void **state)
{
    (void)state;
    const mdl_label labels[] = {{PS_STR("a"), PS_STR("b")}, {PS_STR("b"), PS_STR("a")}};
    const wire_sample samples[] = {{5, 1, 3}, {-1, 0, 0}};
    const mdl_label trace[] = {{PS_STR("t"), PS_STR("a")}};
    const wire_exemplar exemplar = {trace, 1, 7, 1};
    const wire_metadata metadata = {.type = WIRE_METRIC_GAUGE, .help = PS_STR("b")};
    wire_v2_writer *w = wire_v2_writer_new(&ps_malloc, 1000);
    wire_v2_write(w, &(wire_v2_item){.labels = {labels, 2},
                                     .samples = samples,
                                     .n_samples = 2,
                                     .exemplars = &exemplar,
                                     .n_exemplars = 1,
                                     .metadata = &metadata});
    ps_buf out;
    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(wire_v2_writer_finish(w, &out, NULL), PS_OK);
    uint8_t expected[256];
    size_t n = test_unhex(expected, "22 00 22 01 61 22 01 62 22 01 74"
                                    "2a 39 0a 04 01 02 02 01"
                                    "12 0d 09 000000000000f03f 10 05 18 03"
                                    "12 0b 10 ffffffffffffffffff01"
                                    "22 0f 0a 02 03 01 11 000000000000f03f 18 07"
                                    "2a 04 08 02 18 02");
    assert_int_equal(out.len, n);
    assert_memory_equal(out.ptr, expected, n);

    ps_buf_clear(&out); /* the writer is empty again */
    assert_int_equal(wire_v2_writer_finish(w, &out, NULL), PS_OK);
    assert_int_equal(out.len, 2);
    for (int i = 0; i < 100; i++)
        wire_v2_write(w,
                      &(wire_v2_item){.labels = {labels, 2}, .samples = samples, .n_samples = 2});
    assert_int_equal(wire_v2_writer_finish(w, &out, NULL), PS_ELIMIT);
    wire_v2_writer_free(w);
    ps_buf_done(&out);
}

enum { SERIES = 20, LABELS = 6 };

/* The n-th of a few texts; some appear in many series. */
static ps_str
text(size_t n)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
    return (ps_str){letters + n % 26, n % 400 / 20};
}

static void
check_series(request *m, const wire_v2_item *item)
{
    uint32_t refs[2 * LABELS];
    wire_sample samples[8];
    const wire_v2_symbols *symbols = &m->reader.symbols;
    assert_true(next(m));
    assert_int_equal(m->s.n_refs, 2 * item->labels.n);
    wire_v2_refs(&m->s, refs);
    for (size_t i = 0; i < item->labels.n; i++) {
        assert_true(refs[2 * i] < symbols->n && refs[2 * i + 1] < symbols->n);
        assert_true(ps_str_eq(symbols->items[refs[2 * i]], item->labels.items[i].name));
        assert_true(ps_str_eq(symbols->items[refs[2 * i + 1]], item->labels.items[i].value));
    }
    assert_int_equal(m->s.n_samples, item->n_samples);
    wire_v2_samples(&m->s, samples);
    for (size_t i = 0; i < item->n_samples; i++) {
        assert_true(samples[i].t_ms == item->samples[i].t_ms);
        assert_true(ps_bits_of(samples[i].value) == ps_bits_of(item->samples[i].value));
        assert_true(samples[i].start_ms == item->samples[i].start_ms);
    }
    wire_histogram h[2];
    assert_int_equal(m->s.n_histograms, item->n_histograms);
    assert_int_equal(wire_v2_histograms(&m->s, &m->arena, h, NULL), PS_OK);
    for (size_t i = 0; i < item->n_histograms; i++) {
        assert_null(h[i].why);
        assert_true(hst_equal(h[i].histogram, item->histograms[i].histogram));
        assert_true(h[i].start_ms == item->histograms[i].start_ms);
    }
}

static void
all_comes_back(void **state)
{
    (void)state;
    test_random random = {4711};
    wire_v2_writer *w = wire_v2_writer_new(&ps_malloc, 1 << 20);
    for (int round = 0; round < 300; round++) {
        static mdl_label labels[SERIES][LABELS];
        static wire_sample samples[SERIES][8];
        static wire_v2_item items[SERIES];
        const hst_span span = {0, 1};
        const double count = 3;
        const hst_hist h = {.count = 3,
                            .sum = 1,
                            .positive = {&span, 1, 1, &count},
                            .integer = true};
        const wire_histogram hs[2] = {{.t_ms = 1, .start_ms = 9, .histogram = &h},
                                      {.t_ms = 2, .start_ms = round, .histogram = &h}};
        for (int i = 0; i < SERIES; i++) {
            items[i] = (wire_v2_item){.labels = {labels[i], test_random_below(&random, LABELS + 1)},
                                      .samples = samples[i],
                                      .n_samples = test_random_below(&random, 9),
                                      .histograms = hs,
                                      .n_histograms = test_random_below(&random, 3)};
            for (size_t k = 0; k < LABELS; k++)
                labels[i][k] = (mdl_label){text(test_random_below(&random, 5000)),
                                           text(test_random_below(&random, 5000))};
            for (size_t k = 0; k < 8; k++)
                samples[i][k] = (wire_sample){
                    (int64_t)(test_random_u64(&random) >> test_random_below(&random, 64)),
                    ps_double_of(test_random_below(&random, 3) ? test_random_u64(&random) : 0),
                    test_random_below(&random, 2) ? 0 : (int64_t)test_random_u64(&random)};
            wire_v2_write(w, &items[i]);
        }
        ps_buf out;
        ps_buf_init(&out, &ps_malloc);
        assert_int_equal(wire_v2_writer_finish(w, &out, NULL), PS_OK);
        request m;
        assert_int_equal(open_bytes(&m, out.ptr, out.len, 10000, NULL), PS_OK);
        for (int i = 0; i < SERIES; i++)
            check_series(&m, &items[i]);
        assert_false(next(&m));
        done(&m);
        ps_buf_done(&out);
    }
    wire_v2_writer_free(w);
}

static void
running_out_of_memory(void **state)
{
    (void)state;
    const mdl_label labels[] = {{PS_STR("__name__"), PS_STR("up")}, {PS_STR("job"), PS_STR("x")}};
    const wire_sample sample = {1, 2, 3};
    for (size_t fail_at = 1;; fail_at++) {
        test_alloc t = {.fail_at = fail_at};
        ps_alloc a = test_alloc_of(&t);
        ps_buf out;
        ps_buf_init(&out, &a);
        wire_v2_writer *w = wire_v2_writer_new(&a, 1 << 20);
        ps_status status = PS_ENOMEM;
        if (w != NULL) {
            wire_v2_write(w, &(wire_v2_item){.labels = {labels, 2},
                                             .samples = &sample,
                                             .n_samples = 1});
            status = wire_v2_writer_finish(w, &out, NULL);
        }
        wire_v2_writer_free(w);
        ps_buf_done(&out);
        test_alloc_check_empty(&t);
        if (status == PS_OK) {
            assert_true(fail_at > 4);
            return;
        }
        assert_int_equal(status, PS_ENOMEM);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_read),
        cmocka_unit_test(odd_shapes_are_read),
        cmocka_unit_test(what_is_wrong_with_the_table),
        cmocka_unit_test(what_is_wrong_in_a_series),
        cmocka_unit_test(bytes_are_as_the_format_says),
        cmocka_unit_test(all_comes_back),
        cmocka_unit_test(running_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
