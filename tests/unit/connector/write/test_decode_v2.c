/*
 * Remote write 2.0 into the same requests as 1.0: one cache for both, references that point nowhere,
 * start timestamps, histograms of either version, metadata that is told once.
 */
#include "connector/write/internal.h"
#include "tests/unit/support.h"

#define NOW INT64_C(1700000000000)

typedef struct fixture {
    write_path w;
    settings set;
    metrics *registry;
    wp_decoder d;
    wp_request r;
    wp_tenant *tenant;
    wire_v2_writer *writer;
    ps_buf message;
} fixture;

static int64_t
fixed_now(void *self)
{
    (void)self;
    return NOW;
}

static int
set_up(void **state)
{
    fixture *f = calloc(1, sizeof(*f));
    ps_err err;
    f->set = (settings){.ingest_max_decompressed_bytes = 20000,
                        .ingest_max_series = 100,
                        .ingest_max_samples = 1000,
                        .ingest_max_labels = 10,
                        .ingest_max_label_name_bytes = 200,
                        .ingest_max_label_value_bytes = 1000,
                        .ingest_max_label_set_bytes = 2000,
                        .ingest_max_exemplars = 10,
                        .ingest_max_metadata = 100,
                        .ingest_max_symbols = 100,
                        .ingest_max_histogram_buckets = 100,
                        .ingest_max_future_ms = 600000,
                        .ingest_queue_requests = 10};
    series_cache_config cache = {.max_bytes = 1 << 20, .seed = 3};
    f->registry = metrics_new();
    f->tenant = calloc(1, sizeof(*f->tenant) + 1);
    assert_int_equal(series_cache_new(&cache, &f->w.cache, &err), PS_OK);
    f->w.set = &f->set;
    f->w.now_ms = fixed_now;
    wp_stats_init(&f->w, f->registry);
    wp_decoder_init(&f->d);
    ps_arena_init(&f->r.arena, &ps_malloc, 0);
    f->r.tenant = f->tenant;
    f->writer = wire_v2_writer_new(&ps_malloc, 1 << 20);
    ps_buf_init(&f->message, &ps_malloc);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    fixture *f = *state;
    wp_request_trim(&f->r);
    wp_decoder_done(&f->d);
    series_cache_free(f->w.cache);
    metrics_free(f->registry);
    wire_v2_writer_free(f->writer);
    ps_buf_done(&f->message);
    free(f->tenant);
    free(f);
    return 0;
}

static void
decode_as(fixture *f, write_version version)
{
    char *exact = test_exact_copy(f->message.ptr, f->message.len);
    f->r.in = (write_request){.body = {exact, f->message.len},
                              .encoding = WRITE_PLAIN,
                              .version = version};
    wp_decode(&f->w, &f->d, &f->r);
    f->r.in.body = (ps_str){NULL, 0};
    free(exact);
}

static void
decode(fixture *f)
{
    ps_buf_clear(&f->message);
    assert_int_equal(wire_v2_writer_finish(f->writer, &f->message, NULL), PS_OK);
    decode_as(f, WRITE_V2);
}

static const mdl_label good[] = {{PS_STR("__name__"), PS_STR("good")}, {PS_STR("a"), PS_STR("1")}};
static const mdl_label swapped[] = {{PS_STR("a"), PS_STR("1")},
                                    {PS_STR("__name__"), PS_STR("good")}};

static void
add(fixture *f, const mdl_label *labels, size_t n, wire_sample s, const wire_metadata *metadata)
{
    wire_v2_write(f->writer, &(wire_v2_item){.labels = {labels, n},
                                             .samples = &s,
                                             .n_samples = 1,
                                             .metadata = metadata});
}

static void
decode_hex(fixture *f, const char *hex)
{
    uint8_t bytes[1024];
    size_t n = test_unhex(bytes, hex);
    ps_buf_clear(&f->message);
    ps_buf_add(&f->message, bytes, n);
    decode_as(f, WRITE_V2);
}

#define TABLE "22 00 22 08 5f5f6e616d655f5f 22 01 6d 22 01 61 22 01 31 " /* "" __name__ m a 1 */
#define SAMPLE "12 02 10 05 "                                            /* 0 at 5 */

/* ---- labels ------------------------------------------------------------------------------------- */

static void
test_both_versions_share_the_cache(void **state)
{
    fixture *f = *state;
    wire_write_series(&f->message, (mdl_labels){good, 2}, &(wire_sample){NOW, 1, 0}, 1, NULL, 0);
    decode_as(f, WRITE_V1);
    assert_int_equal(f->r.n_fresh, 1);
    series_cache_item item = {.key = f->r.fresh[0].key, .ref = {.series_id = 77, .metric_id = 5}};
    assert_true(series_cache_insert(f->w.cache, series_cache_now(f->w.cache).epoch, &item, 1));
    add(f, good, 2, (wire_sample){NOW, 2, 0}, NULL);
    add(f, swapped, 2, (wire_sample){NOW + 1, 3, 0}, NULL); /* the same set in another order */
    decode(f);
    assert_int_equal(f->r.fatal, PS_OK);
    assert_int_equal(f->r.n_fresh, 0);
    assert_int_equal(f->r.n_points, 2);
    for (int i = 0; i < 2; i++)
        assert_true(f->r.points[i].series_id == 77 && f->r.points[i].value == 2 + i);
    assert_int_equal(f->d.n_aliases, 1); /* the other order is known by now */
    add(f, swapped, 2, (wire_sample){NOW + 1, 3, 0}, NULL);
    decode(f);
    assert_int_equal(f->r.n_points, 1);
    assert_int_equal(f->d.n_aliases, 0);
    ps_buf name;
    ps_buf_init(&name, &ps_malloc);
    f->r.in.body = ps_buf_str(&f->message);
    assert_true(wp_name_series(&f->w, &f->d, &f->r, 77, &name));
    assert_non_null(memmem(name.ptr, name.len, "good", 4));
    assert_false(wp_name_series(&f->w, &f->d, &f->r, 78, &name));
    f->r.in.body = (ps_str){NULL, 0};
    ps_buf_done(&name);
}

static const struct {
    const char *what, *series, *text;
} bad[] = {
    {"an odd number", "2a 09 0a 03 01 02 03 " SAMPLE, "odd number"},
    {"one out of range", "2a 08 0a 02 01 05 " SAMPLE, "outside of the symbols table"},
    {"a huge one", "2a 0c 0a 06 01 ffffffff0f " SAMPLE, "outside of the symbols table"},
    {"help out of range", "2a 0c 0a 02 01 02 " SAMPLE "2a 02 18 09", "metadata references"},
    {"unit out of range", "2a 0c 0a 02 01 02 " SAMPLE "2a 02 20 05", "metadata references"},
    {"no labels", "2a 04 " SAMPLE, "empty"},
    {"no name", "2a 08 0a 02 03 04 " SAMPLE, "name"},
    {"an empty name", "2a 08 0a 02 01 00 " SAMPLE, ""},
    {"a label twice", "2a 0c 0a 06 01 02 03 04 03 04 " SAMPLE, ""},
    {"nothing in it", "2a 04 0a 02 01 02 ", "at least one sample or histogram"},
    {"nothing in it, no name", "2a 04 0a 02 03 04 ", "no metric name"},
};

static void
test_bad_series_cost_only_themselves(void **state)
{
    for (size_t i = 0; i < PS_ARRAY_LEN(bad); i++) {
        fixture *f = *state;
        char hex[512];
        snprintf(hex, sizeof(hex), "%s%s2a 08 0a 02 01 02 %s", TABLE, bad[i].series, SAMPLE);
        decode_hex(f, hex);
        if (f->r.fatal != PS_OK || f->r.n_points != 1 || !f->r.refused ||
            strstr(f->r.text, bad[i].text) == NULL)
            fail_msg("%s: %zu points, %s", bad[i].what, f->r.n_points, f->r.text);
        assert_int_equal(f->r.received.floats - f->r.refused_counts.floats, 1);
    }
}

static void
test_clothes_of_the_other_version(void **state)
{
    fixture *f = *state;
    wire_write_series(&f->message, (mdl_labels){good, 2}, &(wire_sample){NOW, 1, 0}, 1, NULL, 0);
    decode_as(f, WRITE_V2); /* fields that 2.0 has reserved: nothing is in it */
    assert_int_equal(f->r.fatal, PS_OK);
    assert_int_equal(f->r.n_points + f->r.received.floats, 0);
    decode_hex(f, TABLE "2a 08 0a 02 01 02 " SAMPLE);
    assert_int_equal(f->r.n_points, 1);
    decode_as(f, WRITE_V1);
    assert_int_equal(f->r.fatal, PS_OK);
    assert_int_equal(f->r.n_points + f->r.received.floats, 0);
    decode_hex(f, "22 01 61"); /* the first symbol is not "" */
    assert_int_equal(f->r.fatal, PS_EINVAL);
    decode_hex(f, TABLE "2a 08 0a 02 01 02 " SAMPLE "2a 7f");
    assert_int_equal(f->r.fatal, PS_ECORRUPT);
    assert_int_equal(f->r.n_points, 0);
}

/* A short message whose references stand for much. */
static void
test_references_are_paid_for(void **state)
{
    fixture *f = *state;
    char text[900];
    memset(text, 'x', sizeof(text));
    const mdl_label labels[] = {{PS_STR("__name__"), {text, sizeof(text)}},
                                {PS_STR("a"), {text, sizeof(text)}}};
    for (int i = 0; i < 20; i++) { /* 36 KB, of which 20 are too many */
        add(f, labels, 2, (wire_sample){NOW, 1, 0}, NULL);
    }
    decode(f);
    assert_true(f->message.len < 3000);
    assert_int_equal(f->r.fatal, PS_ELIMIT);
    assert_non_null(strstr(f->r.text, "references resolved"));
    const mdl_label three[] = {labels[0], labels[1], {PS_STR("b"), {text, sizeof(text)}}};
    add(f, three, 3, (wire_sample){NOW, 1, 0}, NULL);
    add(f, good, 2, (wire_sample){NOW, 1, 0}, NULL);
    decode(f); /* one set over its limit */
    assert_int_equal(f->r.fatal, PS_OK);
    assert_int_equal(f->r.n_points, 1);
}

/* ---- what is kept of the series before --------------------------------------------------------- */

enum { MANY = 20000, MOST = 24 }; /* references of one, two and three bytes */

static void
put_reference(ps_buf *out, uint32_t v)
{
    for (; v >= 0x80; v >>= 7)
        ps_buf_add_char(out, (char)(v | 0x80));
    ps_buf_add_char(out, (char)v);
}

static uint32_t
any_reference(test_random *random)
{
    static const uint32_t limits[] = {4, 130, 300, MANY};
    return (uint32_t)test_random_below(random, limits[test_random_below(random, 4)]);
}

/* Changes some of the references, their number, or nothing. */
static size_t
change(test_random *random, uint32_t *refs, size_t n)
{
    switch (test_random_below(random, 5)) {
    case 0:
        n = 2 * test_random_below(random, MOST / 2 + 1);
        for (size_t i = 0; i < n; i++)
            refs[i] = any_reference(random);
        return n;
    case 1: /* one pair less, or one more, anywhere */
        if (n >= 2 && test_random_below(random, 2) == 0) {
            size_t at = 2 * test_random_below(random, n / 2);
            memmove(refs + at, refs + at + 2, (n - at - 2) * sizeof(*refs));
            return n - 2;
        }
        if (n + 2 <= MOST) {
            size_t at = 2 * test_random_below(random, n / 2 + 1);
            memmove(refs + at + 2, refs + at, (n - at) * sizeof(*refs));
            refs[at] = any_reference(random);
            refs[at + 1] = any_reference(random);
            return n + 2;
        }
        return n;
    case 2: /* another number with the same last byte, or the same first */
        if (n > 0) {
            uint32_t *r = &refs[test_random_below(random, n)];
            *r = (*r ^ (test_random_below(random, 2) == 0 ? 1 : 0x80)) % MANY;
        }
        return n;
    default:
        for (size_t k = test_random_below(random, 3); n > 0 && k > 0; k--)
            refs[test_random_below(random, n)] = any_reference(random);
        return n;
    }
}

/* Whatever the series before was: the bytes are those of the labels, and nothing is left of it. */
static void
test_labels_against_the_slow_way(void **state)
{
    fixture *f = *state;
    test_random random = {99};
    static char texts[MANY][12];
    static ps_str symbols[MANY];
    ps_buf refs_bytes[2], expected;
    for (int i = 0; i < MANY; i++)
        symbols[i] = (ps_str){texts[i], (size_t)snprintf(texts[i], sizeof(texts[i]), "%.*s%d",
                                                         i % 5, "abcde", i)};
    symbols[0] = (ps_str){"", 0};
    symbols[3] = PS_STR("__name__");
    ps_buf_init(&refs_bytes[0], &ps_malloc);
    ps_buf_init(&refs_bytes[1], &ps_malloc);
    ps_buf_init(&expected, &ps_malloc);
    f->set.ingest_max_labels = MOST;
    wp_v2_labels k = {0};
    wp_v2_labels_begin(&k);
    uint32_t refs[MOST + 2];
    size_t n = 0;
    for (int i = 0; i < 300000; i++) {
        ps_buf *bytes = &refs_bytes[i % 2]; /* the other one is what the series before came from */
        mdl_label labels[MOST / 2];
        ps_str name = {NULL, 0};
        n = change(&random, refs, n);
        ps_buf_clear(bytes);
        for (size_t r = 0; r < n; r++)
            put_reference(bytes, refs[r]);
        for (size_t r = 0; r < n / 2; r++) {
            labels[r] = (mdl_label){symbols[refs[2 * r]], symbols[refs[2 * r + 1]]};
            if (refs[2 * r] == 3)
                name = labels[r].value;
        }
        ps_buf_clear(&expected);
        wp_put_key(&expected, labels, n / 2);
        const wire_v2_series s = {.n_refs = (uint32_t)n, .ref_bytes = ps_buf_str(bytes)};
        const char *why;
        assert_int_equal(wp_v2_labels_take(&k, &(wire_v2_symbols){symbols, MANY}, &s, &f->set, &why,
                                           NULL),
                         PS_OK);
        assert_null(why);
        ps_str got = wp_v2_labels_bytes(&k);
        if (!ps_str_eq(got, ps_buf_str(&expected)))
            fail_msg("series %d: other bytes", i);
        bool twice = false; /* then the set is refused, whichever name it has */
        for (size_t r = 0, names = 0; r < n / 2; r++)
            twice |= refs[2 * r] == 3 && ++names > 1;
        if (!twice)
            assert_true(ps_str_eq(wp_v2_labels_name(&k), name));
    }
    wp_v2_labels_done(&k);
    ps_buf_done(&refs_bytes[0]);
    ps_buf_done(&refs_bytes[1]);
    ps_buf_done(&expected);
}

/* ---- samples ------------------------------------------------------------------------------------ */

static void
test_start_timestamps(void **state)
{
    fixture *f = *state;
    add(f, good, 2, (wire_sample){NOW, 1, NOW - 5}, NULL);
    add(f, good, 2, (wire_sample){NOW, 1, 0}, NULL);
    add(f, good, 2, (wire_sample){NOW, 1, NOW + 5}, NULL); /* makes no sense */
    add(f, good, 2, (wire_sample){NOW, 1, -5}, NULL);
    decode(f);
    assert_int_equal(f->r.n_points, 4);
    const int64_t starts[] = {NOW - 5, 0, 0, 0};
    for (int i = 0; i < 4; i++)
        assert_true(f->r.points[i].start_ms == starts[i]);
    assert_false(f->r.refused);
}

static const hst_span one_span = {0, 1};
static const double three = 3;
static const hst_hist right = {.count = 3,
                               .sum = 1,
                               .positive = {&one_span, 1, 1, &three},
                               .integer = true};
static const hst_hist wrong = {.count = 4,
                               .sum = 1,
                               .positive = {&one_span, 1, 1, &three},
                               .integer = true};

static void
check_histograms(const fixture *f)
{
    assert_int_equal(f->r.fatal, PS_OK);
    assert_int_equal(f->r.n_hists, 1);
    assert_int_equal(f->r.received.histograms, 3);
    assert_int_equal(f->r.refused_counts.histograms, 2);
    assert_int_equal(f->r.received.floats, 0);
    assert_true(f->r.hists[0].t_ms == NOW && hst_equal(f->r.hists[0].histogram, &right));
    assert_int_equal(f->r.hists_weight, hst_weight(&right));
    assert_int_equal(f->r.n_fresh, 1);
    assert_int_equal(f->r.fresh[0].n_hists, 1);
    assert_non_null(strstr(f->r.text, "should equal"));
    assert_non_null(strstr(f->r.text, "out of bounds"));
}

static void
test_histograms(void **state)
{
    fixture *f = *state;
    const wire_histogram all[] = {{.t_ms = NOW, .start_ms = NOW - 9, .histogram = &right},
                                  {.t_ms = NOW, .histogram = &wrong},
                                  {.t_ms = NOW + 86400000, .histogram = &right}};
    wire_v2_write(f->writer,
                  &(wire_v2_item){.labels = {good, 2}, .histograms = all, .n_histograms = 3});
    decode(f);
    check_histograms(f);
    assert_true(f->r.hists[0].start_ms == NOW - 9);
    ps_buf_clear(&f->message);
    wire_write_series_histograms(&f->message, (mdl_labels){good, 2}, all, 3);
    decode_as(f, WRITE_V1);
    check_histograms(f);
    assert_true(f->r.hists[0].start_ms == 0);
}

static void
test_memory_of_histograms_is_limited(void **state)
{
    fixture *f = *state;
    const wire_histogram h = {.t_ms = NOW, .histogram = &right};
    for (int i = 0; i < 90; i++)
        wire_v2_write(f->writer,
                      &(wire_v2_item){.labels = {good, 2}, .histograms = &h, .n_histograms = 1});
    decode(f);
    assert_true(f->message.len < 5000);
    assert_int_equal(f->r.fatal, PS_ELIMIT);
    assert_non_null(strstr(f->r.text, "bytes of histograms"));
}

/* ---- exemplars, metadata ------------------------------------------------------------------------ */

static void
test_exemplars(void **state)
{
    fixture *f = *state;
    /* good; with an odd reference; one out of range */
    decode_hex(f, TABLE "2a 23 0a 02 01 02 " SAMPLE "22 06 0a 02 03 04 18 05 22 05 0a 01 03 18 05"
                        "22 06 0a 02 03 09 18 05 22 02 18 05");
    assert_int_equal(f->r.fatal, PS_OK);
    assert_int_equal(f->r.n_exemplars, 2); /* one without labels is one */
    assert_str(f->r.exemplars[0].json, "{\"a\":\"1\"}");
    assert_str(f->r.exemplars[1].json, "{}");
    assert_true(f->r.refused);
    assert_non_null(strstr(f->r.text, "odd or out of range"));
    assert_int_equal(f->r.received.floats - f->r.refused_counts.floats, 1);
}

static void
test_metadata_is_told_once(void **state)
{
    fixture *f = *state;
    const wire_metadata gauge = {.type = WIRE_METRIC_GAUGE,
                                 .help = PS_STR("help"),
                                 .unit = PS_STR("unit")};
    const wire_metadata counter = {.type = WIRE_METRIC_COUNTER, .help = PS_STR("help")};
    const mdl_label other[] = {{PS_STR("__name__"), PS_STR("other")}};
    const wire_metadata nothing = {.type = WIRE_METRIC_UNKNOWN};
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++) {
            add(f, good, 2, (wire_sample){NOW + i, 1, 0}, &gauge);
            add(f, other, 1, (wire_sample){NOW + i, 1, 0}, &counter);
        }
        add(f, other, 1, (wire_sample){NOW + 9, 1, 0}, &nothing);
        decode(f);
        if (round < 2) { /* not stored yet: again */
            assert_int_equal(f->r.n_metadata, 2);
            assert_str(f->r.metadata[0].family, "good");
            assert_string_equal(f->r.metadata[0].type, "gauge");
            assert_str(f->r.metadata[0].help, "help");
            assert_str(f->r.metadata[0].unit, "unit");
            assert_string_equal(f->r.metadata[1].type, "counter");
        } else {
            assert_int_equal(f->r.n_metadata, 0);
        }
        for (size_t i = 0; round == 1 && i < f->r.n_metadata; i++)
            wp_tell(&f->w, f->r.marks[i]);
    }
    f->r.tenant_id = 1;
    const wire_metadata changed = {.type = WIRE_METRIC_GAUGE, .help = PS_STR("other help")};
    add(f, good, 2, (wire_sample){NOW, 1, 0}, &changed);
    wire_v2_write(f->writer, &(wire_v2_item){.labels = {other, 1}, .metadata = &changed});
    decode(f);
    assert_int_equal(f->r.n_metadata, 2); /* also without a sample */
    assert_int_equal(f->r.n_fresh, 1);
    assert_false(f->r.refused);
}

/* More than its places: the table forgets, but never says what is not so. */
static void
test_the_table_of_told(void **state)
{
    fixture *f = *state;
    test_random random = {5};
    uint64_t marks[20];
    for (int i = 0; i < 20; i++)
        marks[i] = (test_random_u64(&random) | 1) / WP_TOLD_SETS * WP_TOLD_SETS + 7;
    for (int i = 0; i < 20; i++) {
        assert_false(wp_is_told(&f->w, marks[i]));
        wp_tell(&f->w, marks[i]);
        wp_tell(&f->w, marks[i]);
        for (int k = i; k >= 0 && k > i - WP_TOLD_WAYS; k--)
            assert_true(wp_is_told(&f->w, marks[k]));
    }
    assert_false(wp_is_told(&f->w, marks[0]));
    wp_tell(&f->w, 0);
    assert_true(wp_is_told(&f->w, marks[19]));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_both_versions_share_the_cache),
        CASE(test_bad_series_cost_only_themselves),
        CASE(test_clothes_of_the_other_version),
        CASE(test_references_are_paid_for),
        CASE(test_labels_against_the_slow_way),
        CASE(test_start_timestamps),
        CASE(test_histograms),
        CASE(test_memory_of_histograms_is_limited),
        CASE(test_exemplars),
        CASE(test_metadata_is_told_once),
        CASE(test_the_table_of_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
