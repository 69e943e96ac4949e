/*
 * Remote read: requests as clients write them and as nobody should, answers byte by byte. The bytes that
 * are expected were put together by hand from the definition of the messages.
 */
#include "tests/unit/support.h"

#include "lib/wire/wire.h"

static const wire_read_limits limits = {.max_queries = 3, .max_matchers = 5};

typedef struct parsed {
    ps_arena arena;
    char *copy;
    wire_read_request r;
    ps_err err;
    ps_status status;
} parsed;

static parsed
parse_bytes(const void *bytes, size_t n)
{
    parsed p = {.copy = test_exact_copy(bytes, n)};
    ps_arena_init(&p.arena, &ps_malloc, 0);
    p.status = wire_read_request_parse((ps_str){p.copy, n}, &limits, &p.arena, &p.r, &p.err);
    return p;
}

static parsed
parse(const char *hex)
{
    uint8_t bytes[512];
    return parse_bytes(bytes, test_unhex(bytes, hex));
}

static void
done(parsed *p)
{
    ps_arena_done(&p->arena);
    free(p->copy);
}

/* start 5, end -1, a="b", c!~"", hints; then a query without anything; accepted: 1, 0 (packed). */
#define WHOLE                                                                                      \
    "0a 25 08 05 10 ffffffffffffffffff01 1a 06 12 01 61 1a 01 62 1a 05 08 03 12 01 63"             \
    "22 07 08 e807 12 02 7878 0a 00 12 02 01 00"

static void
a_whole_request(void **state)
{
    (void)state;
    parsed p = parse(WHOLE);
    if (p.status != PS_OK)
        fail_msg("%s", p.err.text);
    assert_int_equal(p.r.n_queries, 2);
    const wire_read_query *q = &p.r.queries[0];
    assert_int_equal(q->start_ms, 5);
    assert_int_equal(q->end_ms, -1);
    assert_int_equal(q->n_matchers, 2);
    assert_int_equal(q->matchers[0].type, MDL_MATCH_EQ);
    assert_str(q->matchers[0].name, "a");
    assert_str(q->matchers[0].value, "b");
    assert_int_equal(q->matchers[1].type, MDL_MATCH_NRE);
    assert_str(q->matchers[1].name, "c");
    assert_str(q->matchers[1].value, "");
    assert_int_equal(p.r.queries[1].n_matchers, 0);
    assert_int_equal(p.r.queries[1].start_ms, 0);
    assert_int_equal(p.r.type, WIRE_READ_CHUNKS);
    assert_int_equal(p.r.n_types, 2);
    done(&p);
}

static void
the_type_of_the_answer(void **state)
{
    static const struct {
        const char *hex;
        wire_read_type type;
    } cases[] = {
        {"", WIRE_READ_SAMPLES},        {"12 00", WIRE_READ_SAMPLES},
        {"12 01 00", WIRE_READ_SAMPLES}, {"12 01 01", WIRE_READ_CHUNKS},
        {"10 01", WIRE_READ_CHUNKS},     {"10 00 10 01", WIRE_READ_SAMPLES},
        {"12 03 8001 01", WIRE_READ_CHUNKS}, {"12 01 02", WIRE_READ_UNKNOWN},
        {"10 07", WIRE_READ_UNKNOWN},    {"10 07 12 01 00", WIRE_READ_SAMPLES},
    };
    (void)state;
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        parsed p = parse(cases[i].hex);
        assert_int_equal(p.status, PS_OK);
        assert_int_equal(p.r.type, cases[i].type);
        done(&p);
    }
}

static void
what_is_refused(void **state)
{
    static const struct {
        const char *hex;
        ps_status status;
    } cases[] = {
        {"08 01", PS_ECORRUPT},              /* a query that is a number */
        {"0a 02 18 01", PS_ECORRUPT},        /* a matcher that is one */
        {"0a 02 0a 00", PS_ECORRUPT},        /* a time that is not */
        {"0a 04 1a 02 0a 00", PS_ECORRUPT},  /* a kind of matcher that is not */
        {"0a 04 1a 02 10 01", PS_ECORRUPT},  /* a name that is a number */
        {"11 0000000000000000", PS_ECORRUPT}, /* an answer type that is a double */
        {"12 01 80", PS_ECORRUPT},           /* half a type */
        {"0a", PS_ECORRUPT},
        {"0a 05 08", PS_ECORRUPT},
        {"0b 0c", PS_ECORRUPT}, /* a group */
        {"0a 04 1a 02 08 04", PS_EINVAL},
        {"0a 05 1a 03 12 01 ff", PS_EINVAL},
        {"0a 05 1a 03 1a 01 c0", PS_EINVAL},
        {"0a 00 0a 00 0a 00 0a 00", PS_ELIMIT},
        {"0a 06 1a 00 1a 00 1a 00 0a 06 1a 00 1a 00 1a 00", PS_ELIMIT},
    };
    (void)state;
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        parsed p = parse(cases[i].hex);
        if (p.status != cases[i].status)
            fail_msg("%s: %s", cases[i].hex, ps_status_name(p.status));
        assert_int_equal(p.err.code, cases[i].status);
        done(&p);
    }
}

static void
every_truncation(void **state)
{
    uint8_t bytes[512];
    size_t n = test_unhex(bytes, WHOLE), good = 0;
    (void)state;
    for (size_t len = 0; len < n; len++) {
        parsed p = parse_bytes(bytes, len);
        good += p.status == PS_OK;
        assert_true(p.status == PS_OK || p.status == PS_ECORRUPT);
        done(&p);
    }
    assert_int_equal(good, 3); /* between fields */
}

static void
memory_may_run_out(void **state)
{
    uint8_t bytes[512];
    size_t n = test_unhex(bytes, WHOLE);
    (void)state;
    for (size_t fail_at = 1;; fail_at++) {
        test_alloc counted = {.fail_at = fail_at};
        ps_alloc alloc = test_alloc_of(&counted);
        ps_arena arena;
        wire_read_request r;
        ps_err err;
        ps_arena_init(&arena, &alloc, 0);
        ps_status status =
            wire_read_request_parse((ps_str){(char *)bytes, n}, &limits, &arena, &r, &err);
        ps_arena_done(&arena);
        test_alloc_check_empty(&counted);
        if (status == PS_OK)
            break;
        assert_int_equal(status, PS_ENOMEM);
    }
}

/* ---- answers ------------------------------------------------------------------------------------------ */

static const mdl_label two[] = {{{"__name__", 8}, {"up", 2}}, {{"a", 1}, {"b", 1}}};
#define TWO_LABELS "0a0e 0a085f5f6e616d655f5f 12027570 0a06 0a0161 120162"

static void
assert_hex(ps_buf *out, const char *hex)
{
    uint8_t bytes[512];
    size_t n = test_unhex(bytes, hex);
    assert_false(out->failed);
    assert_int_equal(out->len, n);
    assert_memory_equal(out->ptr, bytes, n);
    ps_buf_clear(out);
}

static void
samples_by_hand(void **state)
{
    ps_buf out, inner;
    (void)state;
    ps_buf_init(&out, &ps_malloc);
    ps_buf_init(&inner, &ps_malloc);
    wire_read_put_sample(&inner, 300, 1.0);
    wire_read_put_sample(&inner, -1, 0.0);
    wire_read_put_sample(&inner, 0, -0.0);
    wire_read_put_series(&out, (mdl_labels){two, 2}, ps_buf_str(&inner));
    assert_hex(&out, "0a 3e " TWO_LABELS "12 0c 09 000000000000f03f 10 ac02"
                     "12 0b 10 ffffffffffffffffff01 12 09 09 0000000000000080");
    ps_buf_clear(&inner);
    wire_read_put_result(&out, ps_buf_str(&inner));
    wire_read_put_result(&out, PS_STR("xyz"));
    assert_hex(&out, "0a 00 0a 03 78797a");
    ps_buf_done(&inner);
    ps_buf_done(&out);
}

static void
histograms_by_hand(void **state)
{
    const double counts[] = {2, 3};
    const hst_span span = {-1, 2};
    hst_hist h = {.schema = 1, .count = 5, .sum = 1, .integer = true, .hint = HST_GAUGE,
                  .positive = {&span, 1, 2, counts}};
    ps_buf out;
    (void)state;
    ps_buf_init(&out, &ps_malloc);
    wire_read_put_histogram(&out, 7, &h);
    assert_hex(&out, "22 1d 08 05 19 000000000000f03f 20 02 30 00 5a 04 08 01 10 02 62 02 04 02"
                     "70 03 78 07");
    ps_buf_done(&out);
}

static void
frames_by_hand(void **state)
{
    ps_buf out, chunks;
    const wire_read_chunk c = {.type = 1, .t_min_ms = 1, .t_max_ms = 300, .data = PS_STR("abc")};
    (void)state;
    ps_buf_init(&out, &ps_malloc);
    ps_buf_init(&chunks, &ps_malloc);
    wire_read_put_chunk(&chunks, &c);
    ps_str one = ps_buf_str(&chunks);
    wire_read_put_frame(&out, 0, (mdl_labels){two, 2}, one);
    assert_int_equal((uint8_t)out.ptr[0], out.len - 5);
    uint32_t crc = ps_crc32c(0, out.ptr + 5, out.len - 5);
    for (int i = 0; i < 4; i++)
        assert_int_equal((uint8_t)out.ptr[1 + i], crc >> (24 - 8 * i) & 255);
    memmove(out.ptr, out.ptr + 5, out.len -= 5);
    assert_hex(&out, "0a 26 " TWO_LABELS "12 0c 08 01 10 ac02 18 01 22 03 616263");
    wire_read_put_frame(&out, 300, (mdl_labels){two, 2}, one);
    assert_int_equal((uint8_t)out.ptr[0], 40 + 3);
    assert_memory_equal(out.ptr + out.len - 3, "\x10\xac\x02", 3); /* the query */
    ps_buf_done(&chunks);
    ps_buf_done(&out);
}

static void
chunks_are_cut_between_each_other(void **state)
{
    ps_buf chunks;
    (void)state;
    ps_buf_init(&chunks, &ps_malloc);
    for (int i = 0; i < 5; i++) { /* nine bytes each */
        const wire_read_chunk c = {.type = 1, .data = PS_STR("abc")};
        wire_read_put_chunk(&chunks, &c);
    }
    assert_int_equal(chunks.len, 45);
    ps_str rest = ps_buf_str(&chunks);
    assert_int_equal(wire_read_cut_chunks(&rest, 1).len, 9); /* one at least */
    assert_int_equal(wire_read_cut_chunks(&rest, 10).len, 18);
    assert_int_equal(wire_read_cut_chunks(&rest, 1000).len, 18);
    assert_int_equal(rest.len, 0);
    ps_buf_done(&chunks);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_request),
        cmocka_unit_test(the_type_of_the_answer),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(every_truncation),
        cmocka_unit_test(memory_may_run_out),
        cmocka_unit_test(samples_by_hand),
        cmocka_unit_test(histograms_by_hand),
        cmocka_unit_test(frames_by_hand),
        cmocka_unit_test(chunks_are_cut_between_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
