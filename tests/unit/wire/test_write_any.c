/*
 * The remote write reader over whole messages: random content in every legal encoding against what
 * was encoded, every truncation, and damage.
 */
#include "tests/unit/wire/message.h"

typedef struct expected_series {
    mdl_label labels[8];
    wire_sample samples[8];
    size_t n_labels, n_samples, n_exemplars;
    bool in_one_piece;
} expected_series;

static const char letters[] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";

/* A varint, sometimes with padding. */
static void
put_number(ps_buf *out, test_random *random, uint64_t v)
{
    uint8_t bytes[10];
    size_t n = 0;
    do {
        bytes[n++] = (uint8_t)(v & 0x7F);
        v >>= 7;
    } while (v != 0);
    if (test_random_below(random, 8) == 0) {
        while (n < 10 && test_random_below(random, 3) != 0)
            bytes[n++] = 0;
    }
    for (size_t i = 0; i + 1 < n; i++)
        bytes[i] |= 0x80;
    ps_buf_add(out, bytes, n);
}

/* Padding of a tag, which is a number of 32 bits, stays within its five bytes in practice. */
static void
put_field(ps_buf *out, test_random *random, unsigned number, ps_str content)
{
    put_number(out, random, number << 3 | 2);
    put_number(out, random, content.len);
    ps_buf_add_str(out, content);
}

static void
put_unknown(ps_buf *out, test_random *random)
{
    if (test_random_below(random, 10) != 0)
        return;
    unsigned number = 6 + (unsigned)test_random_below(random, 3000);
    uint64_t kind = test_random_below(random, 3);
    if (kind == 0) {
        put_field(out, random, number, (ps_str){letters, test_random_below(random, 20)});
    } else if (kind == 1) {
        put_number(out, random, number << 3);
        put_number(out, random, test_random_u64(random));
    } else {
        put_number(out, random, number << 3 | 5);
        ps_buf_add(out, letters, 4);
    }
}

static void
put_label(ps_buf *out, test_random *random, mdl_label label)
{
    ps_buf body;
    ps_buf_init(&body, &ps_malloc);
    bool swapped = test_random_below(random, 6) == 0;
    if (test_random_below(random, 10) == 0) /* overruled by what follows */
        put_field(&body, random, swapped ? 2 : 1, PS_STR("overruled"));
    put_unknown(&body, random);
    put_field(&body, random, swapped ? 2 : 1, swapped ? label.value : label.name);
    put_unknown(&body, random);
    put_field(&body, random, swapped ? 1 : 2, swapped ? label.name : label.value);
    put_unknown(&body, random);
    put_field(out, random, 1, ps_buf_str(&body));
    ps_buf_done(&body);
}

static void
put_point(ps_buf *out, test_random *random, unsigned field, unsigned value_number, wire_sample s)
{
    ps_buf body;
    uint8_t value[8];
    ps_buf_init(&body, &ps_malloc);
    ps_put_u64le(value, ps_bits_of(s.value));
    bool swapped = test_random_below(random, 6) == 0;
    for (int part = 0; part < 2; part++) {
        put_unknown(&body, random);
        if ((part == 0) != swapped) {
            if (ps_bits_of(s.value) == 0 && test_random_below(random, 2) == 0)
                continue;
            put_number(&body, random, value_number << 3 | 1);
            ps_buf_add(&body, value, 8);
        } else {
            put_number(&body, random, (value_number + 1) << 3);
            put_number(&body, random, (uint64_t)s.t_ms);
        }
    }
    put_field(out, random, field, ps_buf_str(&body));
    ps_buf_done(&body);
}

static void
put_series(ps_buf *out, test_random *random, expected_series *e)
{
    ps_buf body;
    bool mixed = test_random_below(random, 4) == 0;
    ps_buf_init(&body, &ps_malloc);
    memset(e, 0, sizeof *e);
    size_t labels = test_random_below(random, 8);
    size_t samples = test_random_below(random, 8);
    e->in_one_piece = true;
    while (labels > 0 || samples > 0) {
        size_t before = body.len;
        if (mixed)
            put_unknown(&body, random);
        bool gap = body.len > before;
        if (labels > 0 && (samples == 0 || !mixed || test_random_below(random, 2) == 0)) {
            ps_str name = {letters + test_random_below(random, 26), test_random_below(random, 26)};
            ps_str value = {letters + test_random_below(random, 26), test_random_below(random, 26)};
            if (gap && e->n_labels > 0)
                e->in_one_piece = false;
            e->labels[e->n_labels++] = (mdl_label){name, value};
            put_label(&body, random, e->labels[e->n_labels - 1]);
            labels--;
        } else {
            uint64_t bits = test_random_below(random, 3) == 0 ? 0 : test_random_u64(random);
            wire_sample s = {(int64_t)(test_random_u64(random) >> test_random_below(random, 64)),
                             ps_double_of(bits), 0};
            if (labels > 0 && e->n_labels > 0)
                e->in_one_piece = false;
            e->samples[e->n_samples++] = s;
            put_point(&body, random, 2, 1, s);
            samples--;
        }
    }
    if (test_random_below(random, 5) == 0) {
        put_point(&body, random, 3, 2, (wire_sample){5, 6, 0});
        e->n_exemplars = 1;
    }
    put_field(out, random, 1, ps_buf_str(&body));
    ps_buf_done(&body);
}

static void
check_series(const wire_series *s, const expected_series *e)
{
    mdl_label labels[8];
    wire_sample samples[8];
    wire_exemplar exemplar;
    assert_int_equal(s->n_labels, e->n_labels);
    assert_int_equal(s->n_samples, e->n_samples);
    assert_int_equal(s->n_exemplars, e->n_exemplars);
    assert_int_equal(s->label_bytes.len > 0, e->in_one_piece && e->n_labels > 0);
    wire_series_labels(s, labels);
    wire_series_samples(s, samples);
    for (size_t i = 0; i < e->n_labels; i++) {
        assert_true(ps_str_eq(labels[i].name, e->labels[i].name));
        assert_true(ps_str_eq(labels[i].value, e->labels[i].value));
    }
    for (size_t i = 0; i < e->n_samples; i++) {
        assert_true(samples[i].t_ms == e->samples[i].t_ms);
        assert_true(ps_bits_of(samples[i].value) == ps_bits_of(e->samples[i].value));
    }
    if (e->n_exemplars == 1) {
        assert_int_equal(wire_series_exemplars(s, &exemplar, NULL, 0, NULL), PS_OK);
        assert_true(exemplar.t_ms == 5 && exemplar.value == 6);
    }
}

static void
every_legal_encoding_means_the_same(void **state)
{
    (void)state;
    test_random random = {2718281828};
    for (int round = 0; round < 4000; round++) {
        expected_series expected[4];
        size_t n = test_random_below(&random, 4);
        ps_buf buf;
        message m;
        ps_buf_init(&buf, &ps_malloc);
        for (size_t i = 0; i < n; i++) {
            put_unknown(&buf, &random);
            put_series(&buf, &random, &expected[i]);
        }
        put_unknown(&buf, &random);
        open_bytes(&m, buf.ptr, buf.len);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(next(&m), WIRE_SERIES);
            check_series(&m.series, &expected[i]);
        }
        assert_end(&m);
        ps_buf_done(&buf);
    }
}

/* Walks a message to its end or first error, touching everything; returns the items seen. */
static size_t
walk(const void *bytes, size_t len, ps_status *ret)
{
    message m;
    wire_item item = WIRE_SERIES;
    size_t n = 0;
    open_bytes(&m, bytes, len);
    while ((*ret = wire_write_next(&m.reader, &item, &m.series, &m.metadata, NULL)) == PS_OK &&
           item != WIRE_END) {
        n++;
        if (item != WIRE_SERIES)
            continue;
        mdl_label *labels = ps_alloc_array(&ps_malloc, m.series.n_labels, sizeof *labels);
        wire_sample *samples = ps_alloc_array(&ps_malloc, m.series.n_samples, sizeof *samples);
        wire_exemplar *exemplars =
            ps_alloc_array(&ps_malloc, m.series.n_exemplars, sizeof *exemplars);
        mdl_label room[4];
        wire_series_labels(&m.series, labels);
        wire_series_samples(&m.series, samples);
        ps_status status = wire_series_exemplars(&m.series, exemplars, room, 4, NULL);
        assert_true(status == PS_OK || status == PS_ELIMIT);
        uint64_t sum = 0;
        for (size_t i = 0; i < m.series.n_labels; i++)
            sum += ps_hash64(labels[i].name, 1) + ps_hash64(labels[i].value, 1);
        assert_true(sum != 1);
        free(labels);
        free(samples);
        free(exemplars);
    }
    done(&m);
    return n;
}

static void
every_truncation_is_an_error_or_shorter(void **state)
{
    (void)state;
    test_random random = {31415};
    ps_buf buf;
    ps_buf_init(&buf, &ps_malloc);
    size_t ends[4];
    for (size_t i = 0; i < 4; i++) {
        expected_series e;
        put_series(&buf, &random, &e);
        ends[i] = buf.len;
    }
    for (size_t len = 0; len < buf.len; len++) {
        ps_status status;
        size_t whole = 0;
        while (ends[whole] <= len)
            whole++;
        size_t n = walk(buf.ptr, len, &status);
        bool at_end = len == 0 || (whole > 0 && ends[whole - 1] == len);
        assert_int_equal(status, at_end ? PS_OK : PS_ECORRUPT);
        assert_int_equal(n, whole);
    }
    ps_buf_done(&buf);
}

static void
damage_never_reaches_outside(void **state)
{
    (void)state;
    test_random random = {1414};
    for (int round = 0; round < 300; round++) {
        ps_buf buf;
        expected_series e;
        ps_buf_init(&buf, &ps_malloc);
        put_series(&buf, &random, &e);
        put_series(&buf, &random, &e);
        for (int i = 0; i < 60; i++) {
            size_t at = test_random_below(&random, buf.len);
            char old = buf.ptr[at];
            ps_status status;
            buf.ptr[at] = (char)test_random_u64(&random);
            walk(buf.ptr, buf.len, &status);
            assert_true(status == PS_OK || status == PS_ECORRUPT);
            if (i % 4 != 0) /* let some damage add up */
                buf.ptr[at] = old;
        }
        ps_buf_done(&buf);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_legal_encoding_means_the_same),
        cmocka_unit_test(every_truncation_is_an_error_or_shorter),
        cmocka_unit_test(damage_never_reaches_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
