/*
 * The remote write reader: messages by hand, and each rule of the wire format.
 */
#include "tests/unit/wire/message.h"

#include <stdio.h>

/* The whole message is refused at this byte. */
static void
assert_corrupt(const char *hex, int offset)
{
    message m;
    wire_item item = (wire_item)99;
    ps_status status = PS_OK;
    ps_err err = {.code = PS_OK};
    open_hex(&m, hex);
    for (int i = 0; i < 10 && status == PS_OK && item != WIRE_END; i++)
        status = wire_write_next(&m.reader, &item, &m.series, &m.metadata, &err);
    if (status != PS_ECORRUPT)
        fail_msg("accepted: %s", hex);
    assert_int_equal(err.code, PS_ECORRUPT);
    if (err.offset != offset)
        fail_msg("%s: %s", hex, err.text);
    /* asking again changes nothing */
    assert_int_equal(wire_write_next(&m.reader, &item, &m.series, &m.metadata, NULL), PS_ECORRUPT);
    done(&m);
}

/* up{job="x"} 1.0 @ 1700000000000 */
#define UP_LABELS "0a 0e 0a 08 5f5f6e616d655f5f 12 02 7570 0a 08 0a 03 6a6f62 12 01 78"
#define UP_SAMPLE "12 10 09 000000000000f03f 10 80d095ffbc31"
#define UP "0a 2c " UP_LABELS UP_SAMPLE

static void
a_plain_series(void **state)
{
    (void)state;
    message m;
    mdl_label labels[2];
    wire_sample sample;
    open_hex(&m, UP);
    assert_int_equal(next(&m), WIRE_SERIES);
    assert_int_equal(m.series.n_labels, 2);
    assert_int_equal(m.series.n_samples, 1);
    assert_int_equal(m.series.n_exemplars, 0);
    assert_int_equal(m.series.n_histograms, 0);
    assert_ptr_equal(m.series.bytes.ptr, m.bytes + 2);
    assert_int_equal(m.series.bytes.len, 44);
    assert_ptr_equal(m.series.label_bytes.ptr, m.bytes + 2);
    assert_int_equal(m.series.label_bytes.len, 26);
    wire_series_labels(&m.series, labels);
    assert_str(labels[0].name, "__name__");
    assert_str(labels[0].value, "up");
    assert_str(labels[1].name, "job");
    assert_str(labels[1].value, "x");
    wire_series_samples(&m.series, &sample);
    assert_true(sample.t_ms == INT64_C(1700000000000) && sample.value == 1.0);
    assert_end(&m);
}

static void
nothing_is_a_request_too(void **state)
{
    (void)state;
    message m;
    open_hex(&m, "");
    assert_end(&m);
    wire_write_reader reader;
    wire_item item;
    wire_write_reader_init(&reader, (ps_str){NULL, 0});
    assert_int_equal(wire_write_next(&reader, &item, &m.series, &m.metadata, NULL), PS_OK);
    assert_int_equal(item, WIRE_END);

    open_hex(&m, "0a 00");
    assert_int_equal(next(&m), WIRE_SERIES);
    assert_int_equal(m.series.n_labels + m.series.n_samples, 0);
    assert_int_equal(m.series.label_bytes.len, 0);
    assert_end(&m);

    /* labels without samples, an empty label, an empty sample */
    open_hex(&m, "0a 02 0a 00 0a 02 12 00");
    mdl_label label = {PS_STR("x"), PS_STR("x")};
    wire_sample sample = {1, 1, 0};
    assert_int_equal(next(&m), WIRE_SERIES);
    assert_int_equal(m.series.n_labels, 1);
    wire_series_labels(&m.series, &label);
    assert_int_equal(label.name.len + label.value.len, 0);
    assert_int_equal(next(&m), WIRE_SERIES);
    wire_series_samples(&m.series, &sample);
    assert_true(sample.t_ms == 0 && ps_bits_of(sample.value) == 0);
    assert_end(&m);
}

static void
one_sample(const char *hex, int64_t t_ms, uint64_t bits)
{
    message m;
    wire_sample sample = {42, 42, 0};
    open_hex(&m, hex);
    assert_int_equal(next(&m), WIRE_SERIES);
    assert_int_equal(m.series.n_samples, 1);
    wire_series_samples(&m.series, &sample);
    if (sample.t_ms != t_ms || ps_bits_of(sample.value) != bits)
        fail_msg("%s: %lld %016llx", hex, (long long)sample.t_ms,
                 (unsigned long long)ps_bits_of(sample.value));
    assert_end(&m);
}

static void
samples_in_every_spelling(void **state)
{
    (void)state;
    const uint64_t one = UINT64_C(0x3FF0000000000000);
    one_sample("0a 12 12 10 09 000000000000f03f 10 80d095ffbc31", INT64_C(1700000000000), one);
    one_sample("0a 12 12 10 10 80d095ffbc31 09 000000000000f03f", INT64_C(1700000000000), one);
    one_sample("0a 09 12 07 10 80d095ffbc31", INT64_C(1700000000000), 0);
    one_sample("0a 0b 12 09 09 000000000000f03f", 0, one);
    one_sample("0a 04 12 02 10 05", 5, 0);
    /* minus one: ten bytes, with and without a value */
    one_sample("0a 16 12 14 09 000000000000f03f 10 ffffffffffffffffff01", -1, one);
    one_sample("0a 0d 12 0b 10 ffffffffffffffffff01", -1, 0);
    one_sample("0a 0d 12 0b 10 80808080808080808001", INT64_MIN, 0);
    /* padded numbers: longer than needed, up to ten bytes */
    one_sample("0a 05 12 03 10 8500", 5, 0);
    one_sample("0a 0a 12 08 10 85808080808000", 5, 0);
    one_sample("0a 0d 12 0b 10 85808080808080808000", 5, 0);
    one_sample("0a 8900 12 8600 10 8580808000", 5, 0);
    /* fields in padded tags, repeated fields (the last counts), unknown fields between */
    one_sample("0a 0b 12 09 9000 85808080808000", 5, 0);
    one_sample("0a 06 12 04 10 01 10 05", 5, 0);
    one_sample("0a 09 12 07 10 05 2201ff 5005", 5, 0);
    /* NaN payloads and the staleness marker */
    one_sample("0a 0d 12 0b 09 020000000000f07f 10 01", 1, UINT64_C(0x7FF0000000000002));
    one_sample("0a 0d 12 0b 09 efcdab8967452301 10 01", 1, UINT64_C(0x0123456789ABCDEF));
}

static void
labels_in_every_order(void **state)
{
    (void)state;
    message m;
    mdl_label labels[3];
    /* sample first: label bytes do not begin the series, but are in one piece */
    open_hex(&m, "0a 2c " UP_SAMPLE UP_LABELS);
    assert_int_equal(next(&m), WIRE_SERIES);
    assert_ptr_equal(m.series.label_bytes.ptr, m.bytes + 20);
    assert_int_equal(m.series.label_bytes.len, 26);
    wire_sample sample = {0, 0, 0};
    wire_series_samples(&m.series, &sample);
    assert_true(sample.t_ms == INT64_C(1700000000000) && sample.value == 1.0);
    wire_series_labels(&m.series, labels);
    assert_str(labels[1].name, "job");
    assert_end(&m);

    /* a sample, or an unknown field, between labels: no key, but the labels are all found */
    static const char *const split[] = {
        "0a 12 0a 06 0a 01 61 12 01 31 12 00 0a 06 0a 01 62 12 01 32",
        "0a 12 0a 06 0a 01 61 12 01 31 28 05 0a 06 0a 01 62 12 01 32",
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(split); i++) {
        open_hex(&m, split[i]);
        assert_int_equal(next(&m), WIRE_SERIES);
        assert_int_equal(m.series.n_labels, 2);
        assert_int_equal(m.series.label_bytes.len, 0);
        wire_series_labels(&m.series, labels);
        assert_str(labels[0].name, "a");
        assert_str(labels[0].value, "1");
        assert_str(labels[1].name, "b");
        assert_str(labels[1].value, "2");
        assert_end(&m);
    }
}

static void
one_label(const char *hex, const char *name, const char *value)
{
    message m;
    mdl_label label;
    open_hex(&m, hex);
    assert_int_equal(next(&m), WIRE_SERIES);
    assert_int_equal(m.series.n_labels, 1);
    assert_int_equal(m.series.label_bytes.len, m.series.bytes.len);
    wire_series_labels(&m.series, &label);
    assert_str(label.name, name);
    assert_str(label.value, value);
    assert_end(&m);
}

static void
labels_in_every_spelling(void **state)
{
    (void)state;
    one_label("0a 08 0a 06 0a 01 61 12 01 31", "a", "1");
    one_label("0a 08 0a 06 12 01 31 0a 01 61", "a", "1");
    one_label("0a 0b 0a 09 0a 01 61 0a 01 62 12 01 31", "b", "1"); /* the last counts */
    one_label("0a 0b 0a 09 0a 01 61 12 01 31 12 01 32", "a", "2");
    one_label("0a 05 0a 03 0a 01 61", "a", "");
    one_label("0a 05 0a 03 12 01 31", "", "1");
    one_label("0a 07 0a 05 0a 01 61 12 00", "a", "");
    one_label("0a 07 0a 05 0a 00 12 01 31", "", "1");
    one_label("0a 02 0a 00", "", "");
    one_label("0a 09 0a 07 0a 8100 61 12 01 31", "a", "1");
    one_label("0a 0a 0a 08 0a 01 61 18 05 12 01 31", "a", "1");
    one_label("0a 0a 8a00 8600 0a 01 61 12 01 31", "a", "1");
}

static void
long_strings(void **state)
{
    (void)state;
    static const size_t lengths[] = {100, 123, 124, 125,   126,   127,  128,
                                     129, 255, 256, 16383, 16384, 70000};
    static char text[70000];
    memset(text, 'n', sizeof text);
    for (size_t i = 0; i < PS_ARRAY_LEN(lengths); i++) {
        for (size_t j = 0; j < PS_ARRAY_LEN(lengths); j++) {
            ps_buf buf;
            mdl_label label = {{text, lengths[i]}, {text, lengths[j]}};
            wire_sample sample = {1, 2, 0};
            message m;
            ps_buf_init(&buf, &ps_malloc);
            wire_write_series(&buf, (mdl_labels){&label, 1}, &sample, 1, NULL, 0);
            open_bytes(&m, buf.ptr, buf.len);
            assert_int_equal(next(&m), WIRE_SERIES);
            mdl_label got;
            wire_series_labels(&m.series, &got);
            assert_true(ps_str_eq(got.name, label.name) && ps_str_eq(got.value, label.value));
            wire_series_samples(&m.series, &sample);
            assert_true(sample.t_ms == 1 && sample.value == 2);
            assert_end(&m);
            ps_buf_done(&buf);
        }
    }
}

/*
 * The second byte of a long length looks like the tag of a name (0x0A), and the name is such that
 * what follows could be a short label: a reader that takes the first byte alone for the length is
 * led astray.
 */
static void
a_long_length_is_not_two_short_ones(void **state)
{
    (void)state;
    char name[1200];
    char value[75];
    memset(name, 'n', sizeof name);
    memset(value, 'v', sizeof value);
    name[8] = 0x12;
    name[9] = 0x72;
    mdl_label label = {{name, sizeof name}, {value, sizeof value}};
    mdl_label got;
    ps_buf buf;
    message m;
    ps_buf_init(&buf, &ps_malloc);
    wire_write_series(&buf, (mdl_labels){&label, 1}, NULL, 0, NULL, 0);
    assert_memory_equal(buf.ptr + 3, "\x0A\x80\x0A\x0A", 4);
    open_bytes(&m, buf.ptr, buf.len);
    assert_int_equal(next(&m), WIRE_SERIES);
    assert_int_equal(m.series.n_labels, 1);
    wire_series_labels(&m.series, &got);
    assert_true(ps_str_eq(got.name, label.name) && ps_str_eq(got.value, label.value));
    assert_end(&m);
    ps_buf_done(&buf);
}

static void
unknown_fields_are_skipped_at_every_level(void **state)
{
    (void)state;
    static const char *const unknown[] = {
        "28 05", "28 ffffffffffffffffff01", "29 0102030405060708", "2d 01020304", "2a 03 616263",
        "2a 00", "f8ffffff0f 01",           "fa01 01 00",          "a800 05",
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(unknown); i++) {
        uint8_t extra[16];
        size_t n = test_unhex(extra, unknown[i]);
        uint8_t bytes[128];
        /* request, series, label, sample: each with the field before and after what it has */
        uint8_t label[64] = {0};
        size_t label_len = 0;
        memcpy(label, extra, n);
        label_len = n + test_unhex(label + n, "0a 01 61 12 01 31");
        memcpy(label + label_len, extra, n);
        label_len += n;
        uint8_t sample[64];
        memcpy(sample, extra, n);
        size_t sample_len = n + test_unhex(sample + n, "10 07");
        memcpy(sample + sample_len, extra, n);
        sample_len += n;
        size_t len = 0;
        memcpy(bytes, extra, n);
        len += n;
        bytes[len++] = 0x0A;
        bytes[len++] = (uint8_t)(2 * n + 4 + label_len + sample_len);
        memcpy(bytes + len, extra, n);
        len += n;
        bytes[len++] = 0x0A;
        bytes[len++] = (uint8_t)label_len;
        memcpy(bytes + len, label, label_len);
        len += label_len;
        bytes[len++] = 0x12;
        bytes[len++] = (uint8_t)sample_len;
        memcpy(bytes + len, sample, sample_len);
        len += sample_len;
        memcpy(bytes + len, extra, n);
        len += n;
        memcpy(bytes + len, extra, n);
        len += n;

        message m;
        mdl_label got;
        wire_sample point;
        open_bytes(&m, bytes, len);
        assert_int_equal(next(&m), WIRE_SERIES);
        assert_int_equal(m.series.n_labels, 1);
        assert_int_equal(m.series.n_samples, 1);
        wire_series_labels(&m.series, &got);
        assert_str(got.name, "a");
        assert_str(got.value, "1");
        wire_series_samples(&m.series, &point);
        assert_true(point.t_ms == 7 && point.value == 0);
        assert_end(&m);
    }
}

static void
groups_are_refused(void **state)
{
    (void)state;
    /* groups and wire types that do not exist, at each level */
    static const char *const kinds[] = {"2b", "2c", "2e", "2f"};
    for (size_t i = 0; i < PS_ARRAY_LEN(kinds); i++) {
        char hex[64];
        snprintf(hex, sizeof hex, "%s 00", kinds[i]);
        assert_corrupt(hex, 0);
        snprintf(hex, sizeof hex, "0a 02 %s 00", kinds[i]);
        assert_corrupt(hex, 2);
        snprintf(hex, sizeof hex, "0a 04 0a 02 %s 00", kinds[i]);
        assert_corrupt(hex, 4);
        snprintf(hex, sizeof hex, "0a 04 12 02 %s 00", kinds[i]);
        assert_corrupt(hex, 4);
        snprintf(hex, sizeof hex, "0a 04 1a 02 %s 00", kinds[i]);
        assert_corrupt(hex, 4);
        snprintf(hex, sizeof hex, "0a 06 1a 04 0a 02 %s 00", kinds[i]);
        assert_corrupt(hex, 6);
        snprintf(hex, sizeof hex, "0a 04 22 02 %s 00", kinds[i]);
        assert_corrupt(hex, 4);
        snprintf(hex, sizeof hex, "1a 02 %s 00", kinds[i]);
        assert_corrupt(hex, 2);
    }
}

static void
malformed_numbers_and_lengths_name_the_byte(void **state)
{
    (void)state;
    /* field number 0, and beyond 2^29 - 1 */
    assert_corrupt("00 00", 0);
    assert_corrupt("02 00", 0);
    assert_corrupt("8080808010 00", 0);
    /* numbers: eleven bytes, more than 64 bits, cut off */
    assert_corrupt("28 8080808080808080808000", 1);
    assert_corrupt("28 80808080808080808002", 1);
    assert_corrupt("0a 0e 12 0c 10 8080808080808080808000", 5);
    assert_corrupt("0a 0d 12 0b 10 ffffffffffffffffff7f", 5);
    assert_corrupt("28 80", 1);
    assert_corrupt("0a 04 12 02 10 80", 5);
    assert_corrupt("80", 0);
    /* a length that reaches out of its message */
    assert_corrupt("0a", 1);
    assert_corrupt("0a 01", 1);
    assert_corrupt("0a 80", 1);
    assert_corrupt("0a ffffffffffffffffff01", 1);
    assert_corrupt("0a ffffffff0f", 1);
    assert_corrupt("0a 02 0a 01 00 00", 3);
    assert_corrupt("0a 04 0a 02 0a 01 61", 5);
    assert_corrupt("0a 08 0a 06 0a 01 61 12 02 31 00", 8);
    assert_corrupt("0a 08 0a 06 0a 05 61 12 01 31 00", 5);
    assert_corrupt("0a 08 0a 06 0a 06 61 12 01 31 00", 5);
    assert_corrupt("0a 0a 12 09 09 000000000000f03f", 3);
    assert_corrupt("0a 0a 12 08 09 000000000000f03f", 5);
    assert_corrupt("2d 010203", 1);
    assert_corrupt("29 01020304050607", 1);
}

static void
foreign_wire_types_name_the_byte(void **state)
{
    (void)state;
    assert_corrupt("08 05", 0);
    assert_corrupt("18 05", 0);
    assert_corrupt("0a 02 08 05", 2);
    assert_corrupt("0a 02 10 05", 2);
    assert_corrupt("0a 02 18 05", 2);
    assert_corrupt("0a 02 20 05", 2);
    assert_corrupt("0a 04 0a 02 08 05", 4);
    assert_corrupt("0a 04 0a 02 10 05", 4);
    assert_corrupt("0a 04 12 02 08 05", 4);
    assert_corrupt("0a 04 12 02 12 00", 4);
    assert_corrupt("0a 07 12 05 15 00000000", 4);
    assert_corrupt("0a 04 1a 02 08 05", 4);
    assert_corrupt("0a 04 1a 02 10 05", 4);
    assert_corrupt("0a 04 1a 02 1a 00", 4);
    assert_corrupt("1a 02 0a 00", 2);
    assert_corrupt("1a 02 10 05", 2);
    assert_corrupt("1a 02 20 05", 2);
    assert_corrupt("1a 02 28 05", 2);
    /* after good ones */
    assert_corrupt(UP UP "0a 03 0a 01 80", 96);
}

static void
a_number_may_have_any_length_up_to_ten(void **state)
{
    (void)state;
    /* every length of padding and of value, through both the short and the general path */
    for (size_t with_value = 0; with_value < 2; with_value++) {
        for (size_t n = 1; n <= 10; n++) {
            for (size_t bits = 0; bits < 64 && bits < 7 * n; bits++) {
                uint64_t t = UINT64_C(1) << bits | 1;
                uint8_t bytes[40] = {0x0A, 0, 0x12, 0};
                size_t len = 4;
                if (with_value) {
                    bytes[len++] = 0x09;
                    ps_put_u64le(bytes + len, UINT64_C(0x4045000000000000));
                    len += 8;
                }
                bytes[len++] = 0x10;
                for (size_t i = 0; i < n; i++)
                    bytes[len++] = (uint8_t)((t >> 7 * i & 0x7F) | (i + 1 < n ? 0x80 : 0));
                bytes[1] = (uint8_t)(len - 2);
                bytes[3] = (uint8_t)(len - 4);
                message m;
                wire_sample sample = {0, 0, 0};
                open_bytes(&m, bytes, len);
                assert_int_equal(next(&m), WIRE_SERIES);
                wire_series_samples(&m.series, &sample);
                assert_true(sample.t_ms == (int64_t)t);
                assert_true(sample.value == (with_value ? 42 : 0));
                assert_end(&m);
                /* without its last byte the number is cut */
                bytes[1]--;
                bytes[3]--;
                bytes[len - 2] |= 0x80;
                wire_item item;
                open_bytes(&m, bytes, len - 1);
                ps_status status = wire_write_next(&m.reader, &item, &m.series, &m.metadata, NULL);
                assert_int_equal(status, PS_ECORRUPT);
                done(&m);
            }
        }
    }
}

static void
metadata_and_its_types(void **state)
{
    (void)state;
    message m;
    open_hex(&m, "1a 0b 08 01 12 01 66 22 01 68 2a 01 75" UP "1a 00"
                 "1a 0b 08 ffffffffffffffffff01 1a 02 08 07 1a 02 08 08 1a 05 12 01 61 12 00"
                 "1a 07 3001 12 01 66 1801");
    assert_int_equal(next(&m), WIRE_METADATA);
    assert_int_equal(m.metadata.type, WIRE_METRIC_COUNTER);
    assert_str(m.metadata.family, "f");
    assert_str(m.metadata.help, "h");
    assert_str(m.metadata.unit, "u");
    assert_int_equal(next(&m), WIRE_SERIES);
    assert_int_equal(next(&m), WIRE_METADATA);
    assert_int_equal(m.metadata.type, WIRE_METRIC_UNKNOWN);
    assert_int_equal(m.metadata.family.len + m.metadata.help.len + m.metadata.unit.len, 0);
    assert_int_equal(next(&m), WIRE_METADATA);
    assert_int_equal(m.metadata.type, WIRE_METRIC_UNKNOWN);
    assert_int_equal(next(&m), WIRE_METADATA);
    assert_int_equal(m.metadata.type, WIRE_METRIC_STATESET);
    assert_int_equal(next(&m), WIRE_METADATA);
    assert_int_equal(m.metadata.type, WIRE_METRIC_UNKNOWN);
    assert_int_equal(next(&m), WIRE_METADATA);
    assert_str(m.metadata.family, "");
    assert_int_equal(next(&m), WIRE_METADATA);
    assert_str(m.metadata.family, "f");
    assert_end(&m);

    static const char *const names[] = {"unknown",        "counter", "gauge", "histogram",
                                        "gaugehistogram", "summary", "info",  "stateset"};
    assert_int_equal(PS_ARRAY_LEN(names), WIRE_METRIC_TYPE_MAX);
    for (size_t i = 0; i < PS_ARRAY_LEN(names); i++)
        assert_string_equal(wire_metric_type_name((wire_metric_type)i), names[i]);
    assert_string_equal(wire_metric_type_name(WIRE_METRIC_TYPE_MAX), "unknown");
    assert_string_equal(wire_metric_type_name((wire_metric_type)-1), "unknown");
}

static void
exemplars_and_their_room(void **state)
{
    (void)state;
    message m;
    wire_exemplar exemplars[3];
    mdl_label labels[3];
    ps_err err;
    open_hex(&m, "0a 3e" UP_LABELS "1a 13 0a 06 0a 01 74 12 01 39 11 000000000000f03f 18 05"
                 "22 02 08 05 1a 00 1a 07 18 07 0a 03 0a 01 75");
    assert_int_equal(next(&m), WIRE_SERIES);
    assert_int_equal(m.series.n_labels, 2);
    assert_int_equal(m.series.n_exemplars, 3);
    assert_int_equal(m.series.n_histograms, 1);
    assert_int_equal(m.series.label_bytes.len, 26);
    memset(labels, 0, sizeof labels);
    assert_int_equal(wire_series_exemplars(&m.series, exemplars, labels, 3, &err), PS_OK);
    assert_int_equal(exemplars[0].n_labels, 1);
    assert_str(exemplars[0].labels[0].name, "t");
    assert_str(exemplars[0].labels[0].value, "9");
    assert_true(exemplars[0].t_ms == 5 && exemplars[0].value == 1.0);
    assert_int_equal(exemplars[1].n_labels, 0);
    assert_true(exemplars[1].t_ms == 0 && exemplars[1].value == 0);
    assert_int_equal(exemplars[2].n_labels, 1);
    assert_str(exemplars[2].labels[0].name, "u");
    assert_true(exemplars[2].t_ms == 7);
    assert_int_equal(labels[2].name.len, 0);
    assert_int_equal(wire_series_exemplars(&m.series, exemplars, labels, 2, &err), PS_OK);
    labels[1] = (mdl_label){{NULL, 0}, {NULL, 0}};
    assert_int_equal(wire_series_exemplars(&m.series, exemplars, labels, 1, &err), PS_ELIMIT);
    assert_null(labels[1].name.ptr); /* the room was kept to */
    assert_int_equal(wire_series_exemplars(&m.series, exemplars, NULL, 0, &err), PS_ELIMIT);
    assert_end(&m);
}

static void
a_reader_moves_on_success_only(void **state)
{
    (void)state;
    message m;
    wire_item item;
    ps_err first;
    ps_err second;
    open_hex(&m, UP "0a 03 0a 01 80" UP);
    assert_int_equal(next(&m), WIRE_SERIES);
    assert_int_equal(wire_write_next(&m.reader, &item, &m.series, &m.metadata, &first),
                     PS_ECORRUPT);
    assert_int_equal(wire_write_next(&m.reader, &item, &m.series, &m.metadata, &second),
                     PS_ECORRUPT);
    assert_string_equal(first.text, second.text);
    assert_int_equal(first.offset, 46 + 4);
    assert_int_equal(m.series.n_samples, 1); /* outputs are those of the last success */
    done(&m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_series),
        cmocka_unit_test(nothing_is_a_request_too),
        cmocka_unit_test(samples_in_every_spelling),
        cmocka_unit_test(labels_in_every_order),
        cmocka_unit_test(labels_in_every_spelling),
        cmocka_unit_test(long_strings),
        cmocka_unit_test(a_long_length_is_not_two_short_ones),
        cmocka_unit_test(unknown_fields_are_skipped_at_every_level),
        cmocka_unit_test(groups_are_refused),
        cmocka_unit_test(malformed_numbers_and_lengths_name_the_byte),
        cmocka_unit_test(foreign_wire_types_name_the_byte),
        cmocka_unit_test(a_number_may_have_any_length_up_to_ten),
        cmocka_unit_test(metadata_and_its_types),
        cmocka_unit_test(exemplars_and_their_room),
        cmocka_unit_test(a_reader_moves_on_success_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
