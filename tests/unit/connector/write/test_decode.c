/*
 * test_decode.c - decoding without a database: every reason to refuse a series, every limit, and
 * the two levels of the cache. The path is only as much of one as decoding needs.
 */
#include <stdio.h>

#include "connector/write/internal.h"
#include "tests/unit/support.h"

#define NOW INT64_C(1700000000000)

typedef struct fixture {
    settings set;
    write_path w;
    wp_tenant *tenant;
    wp_decoder d;
    wp_request r;
    metrics *registry;
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
    f->set = (settings){.ingest_max_decompressed_bytes = 1 << 20,
                        .ingest_max_series = 100,
                        .ingest_max_samples = 1000,
                        .ingest_max_labels = 5,
                        .ingest_max_label_name_bytes = 20,
                        .ingest_max_label_value_bytes = 100,
                        .ingest_max_label_set_bytes = 200,
                        .ingest_max_exemplars = 3,
                        .ingest_max_metadata = 2,
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
    pthread_mutex_init(&f->w.mu, NULL);
    pthread_mutex_init(&f->w.old_mu, NULL);
    wp_stats_init(&f->w, f->registry);
    wp_decoder_init(&f->d);
    ps_arena_init(&f->r.arena, &ps_malloc, 0);
    f->r.tenant = f->tenant;
    ps_buf_init(&f->message, &ps_malloc);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    fixture *f = *state;
    wp_periods_set(&f->w, NULL);
    wp_request_trim(&f->r);
    wp_decoder_done(&f->d);
    series_cache_free(f->w.cache);
    metrics_free(f->registry);
    ps_buf_done(&f->message);
    free(f->tenant);
    free(f);
    return 0;
}

static void
decode(fixture *f)
{
    /* exact, so that reading beyond the message is found */
    char *exact = test_exact_copy(f->message.ptr, f->message.len);
    f->r.in = (write_request){.body = {exact, f->message.len}, .encoding = WRITE_PLAIN};
    wp_decode(&f->w, &f->d, &f->r);
    f->r.in.body = (ps_str){NULL, 0};
    free(exact);
}

static void
add(fixture *f, const mdl_label *labels, size_t n_labels, int64_t t_ms, double v)
{
    wire_write_series(&f->message, (mdl_labels){labels, n_labels}, &(wire_sample){t_ms, v, 0}, 1,
                      NULL, 0);
}

static double
counter(fixture *f, const char *name, const char *labels)
{
    return metric_value(metrics_counter(f->registry, name, "", labels));
}

static const mdl_label good[] = {{PS_STR("__name__"), PS_STR("good")}, {PS_STR("a"), PS_STR("1")}};

/* ---- one bad series beside good ones -------------------------------------------------------- */

#define L(name, value)                                                                             \
    {                                                                                              \
        {name, sizeof(name) - 1},                                                                  \
        {                                                                                          \
            value, sizeof(value) - 1                                                               \
        }                                                                                          \
    }
#define X10 "xxxxxxxxxx"
#define X100 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10

static const struct {
    const char *what;
    mdl_label labels[7];
    size_t n;
    int64_t t_ms;
    const char *text, *reason;
} bad_series[] = {
    {"no label at all", {L("", "")}, 0, NOW, "empty", "labels"},
    {"no name", {L("a", "1")}, 1, NOW, "__name__", "labels"},
    {"empty name", {L("__name__", ""), L("a", "1")}, 2, NOW, "__name__", "labels"},
    {"only empty values", {L("__name__", ""), L("a", "")}, 2, NOW, "empty", "labels"},
    {"label name empty", {L("__name__", "m"), L("", "1")}, 2, NOW, "label name is empty", "labels"},
    {"same label twice",
     {L("__name__", "m"), L("a", "1"), L("a", "1")},
     3,
     NOW,
     "more than once",
     "labels"},
    {"name twice", {L("__name__", "m"), L("__name__", "n")}, 2, NOW, "more than once", "labels"},
    {"value not UTF-8", {L("__name__", "m"), L("a", "\xff")}, 2, NOW, "UTF-8", "labels"},
    {"label name not UTF-8", {L("__name__", "m"), L("\xc3", "1")}, 2, NOW, "UTF-8", "labels"},
    {"metric name not UTF-8",
     {L("__name__", "\xed\xa0\x80"), L("a", "1")},
     2,
     NOW,
     "UTF-8",
     "labels"},
    {"NUL in value", {L("__name__", "m"), L("a", "x\0y")}, 2, NOW, "NUL", "labels"},
    {"NUL in label name", {L("__name__", "m"), L("a\0b", "1")}, 2, NOW, "NUL", "labels"},
    {"too many labels",
     {L("__name__", "m"), L("a", "1"), L("b", "1"), L("c", "1"), L("d", "1"), L("e", "1")},
     6,
     NOW,
     "limit is 5",
     "label-limit"},
    {"label name too long",
     {L("__name__", "m"), L("a" X10 X10, "1")},
     2,
     NOW,
     "limit is 20",
     "label-limit"},
    {"value too long",
     {L("__name__", "m"), L("a", "1" X100)},
     2,
     NOW,
     "limit is 100",
     "label-limit"},
    {"set too long",
     {L("__name__", "m"), L("a", X100), L("b", X100)},
     3,
     NOW,
     "limit is 200",
     "label-limit"},
    {"too far ahead",
     {L("__name__", "m"), L("a", "1")},
     2,
     NOW + 600001,
     "out of bounds",
     "future"},
    {"after timestamptz",
     {L("__name__", "m"), L("a", "1")},
     2,
     MDL_TIME_MAX_MS + 1,
     "out of bounds",
     "time"},
    {"end of int64", {L("__name__", "m"), L("a", "1")}, 2, INT64_MAX, "out of bounds", "time"},
    {"before timestamptz",
     {L("__name__", "m"), L("a", "1")},
     2,
     MDL_TIME_MIN_MS - 1,
     "out of bounds",
     "time"},
    {"start of int64", {L("__name__", "m"), L("a", "1")}, 2, INT64_MIN, "out of bounds", "time"},
};

static void
test_bad_series_cost_nothing_else(void **state)
{
    for (size_t i = 0; i < PS_ARRAY_LEN(bad_series); i++) {
        fixture *f;
        set_up(state);
        f = *state;
        add(f, good, 2, NOW, 1);
        add(f, bad_series[i].labels, bad_series[i].n, bad_series[i].t_ms, 2);
        add(f, good, 2, NOW + 600000, 3);
        decode(f);
        char labels[64];
        snprintf(labels, sizeof(labels), "type=\"metric\",reason=\"%s\"", bad_series[i].reason);
        bool ok = f->r.fatal == PS_OK && f->r.n_points == 2 && f->r.refused_counts.floats == 1 &&
                  f->r.refused && strstr(f->r.text, bad_series[i].text) != NULL &&
                  ps_utf8_valid(ps_str_c(f->r.text)) &&
                  counter(f, "promscale_ingest_items_refused_total", labels) == 1;
        if (!ok)
            print_message("%s: %zu points, %s\n", bad_series[i].what, f->r.n_points, f->r.text);
        assert_true(ok);
        assert_true(f->r.points[0].value == 1 && f->r.points[1].value == 3);
        tear_down(state);
    }
    set_up(state);
}

static void
test_bad_histograms_are_refused_by_name(void **state)
{
    fixture *f = *state;
    /* TimeSeries: the label __name__="h", then a histogram (field 4) that counts 1 in no bucket */
    ps_buf_add(&f->message, "\x0a\x13\x0a\x0d\x0a\x08__name__\x12\x01h\x22\x02\x08\x01", 21);
    add(f, good, 2, NOW, 1);
    decode(f);
    assert_int_equal(f->r.fatal, PS_OK);
    assert_int_equal(f->r.n_points, 1);
    assert_int_equal(f->r.refused_counts.histograms, 1);
    assert_int_equal(f->r.received.histograms, 1);
    assert_int_equal(f->r.received.floats, 1);
    assert_int_equal(f->r.n_fresh, 1); /* only the good one is to be created */
    assert_non_null(strstr(f->r.text, "series h: histogram's observation count should equal"));
}

static void
test_only_the_first_are_named(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 50; i++) {
        char value[16];
        snprintf(value, sizeof(value), "v%d", i);
        const mdl_label labels[] = {{PS_STR("a"), ps_str_c(value)}};
        add(f, labels, 1, NOW, 1);
    }
    decode(f);
    assert_int_equal(f->r.refused_counts.floats, 50);
    assert_int_equal(f->r.named, WP_REFUSALS_NAMED);
    assert_int_equal(f->r.unnamed, 50 - WP_REFUSALS_NAMED);
    assert_non_null(strstr(f->r.text, "v0"));
    assert_null(strstr(f->r.text, "v9"));
    /* refused label sets are not cached */
    assert_int_equal(series_cache_get_stats(f->w.cache).elements, 0);
}

/* ---- limits of a request -------------------------------------------------------------------- */

static void
expect_limit(fixture *f, const char *limit)
{
    char labels[64];
    snprintf(labels, sizeof(labels), "type=\"metric\",limit=\"%s\"", limit);
    assert_int_equal(f->r.fatal, PS_ELIMIT);
    assert_int_equal(f->r.n_points, 0);
    assert_true(strlen(f->r.text) > 0);
    assert_true(counter(f, "promscale_ingest_limit_hits_total", labels) == 1);
}

static void
test_limit_series(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 100; i++)
        add(f, good, 2, NOW - i, 1);
    decode(f);
    assert_int_equal(f->r.fatal, PS_OK);
    assert_int_equal(f->r.n_points, 100);
    add(f, good, 2, NOW - 100, 1);
    decode(f);
    expect_limit(f, "series");
}

static void
test_limit_samples(void **state)
{
    fixture *f = *state;
    wire_sample samples[1001];
    for (int i = 0; i < 1001; i++)
        samples[i] = (wire_sample){NOW - i, i, 0};
    wire_write_series(&f->message, (mdl_labels){good, 2}, samples, 1000, NULL, 0);
    decode(f);
    assert_int_equal(f->r.n_points, 1000);
    ps_buf_clear(&f->message);
    wire_write_series(&f->message, (mdl_labels){good, 2}, samples, 1001, NULL, 0);
    decode(f);
    expect_limit(f, "samples");
}

static void
test_limit_metadata(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 3; i++) {
        decode(f);
        assert_int_equal(f->r.fatal, PS_OK);
        assert_int_equal(f->r.n_metadata, i);
        wire_write_metadata(&f->message, &(wire_metadata){WIRE_METRIC_GAUGE, PS_STR("m"),
                                                          PS_STR("h"), PS_STR("u")});
    }
    decode(f);
    /* those beyond it never cost anything else: they are left out */
    assert_int_equal(f->r.fatal, PS_OK);
    assert_false(f->r.refused);
    assert_int_equal(f->r.n_metadata, 2);
    assert_true(
        counter(f, "promscale_ingest_limit_hits_total", "type=\"metric\",limit=\"metadata\"") == 1);
}

static void
test_limit_exemplars(void **state)
{
    fixture *f = *state;
    const wire_exemplar e = {good, 1, NOW, 1};
    const wire_exemplar four[] = {e, e, e, e};
    wire_write_series(&f->message, (mdl_labels){good, 2}, &(wire_sample){NOW, 1, 0}, 1, four, 3);
    decode(f);
    assert_int_equal(f->r.n_exemplars, 3);
    ps_buf_clear(&f->message);
    wire_write_series(&f->message, (mdl_labels){good, 2}, &(wire_sample){NOW, 1, 0}, 1, four, 4);
    decode(f);
    /* exemplars never cost samples: they are left out */
    assert_int_equal(f->r.fatal, PS_OK);
    assert_false(f->r.refused);
    assert_int_equal(f->r.n_exemplars, 0);
    assert_int_equal(f->r.n_points, 1);
    assert_true(counter(f, "promscale_ingest_limit_hits_total",
                        "type=\"metric\",limit=\"exemplars\"") == 1);
}

static void
test_large_exemplars_are_left_out(void **state)
{
    fixture *f = *state;
    static char text[WP_EXEMPLAR_MAX_BYTES];
    memset(text, 'x', sizeof(text));
    for (size_t len = WP_EXEMPLAR_MAX_BYTES - 1; len <= WP_EXEMPLAR_MAX_BYTES; len++) {
        const mdl_label label = {PS_STR("a"), {text, len}}; /* one byte of name */
        const wire_exemplar e = {&label, 1, NOW, 1};
        ps_buf_clear(&f->message);
        wire_write_series(&f->message, (mdl_labels){good, 2}, &(wire_sample){NOW, 1, 0}, 1, &e, 1);
        decode(f);
        assert_int_equal(f->r.n_points, 1);
        assert_false(f->r.refused);
        assert_int_equal(f->r.n_exemplars, len + 1 <= WP_EXEMPLAR_MAX_BYTES);
    }
    assert_true(counter(f, "promscale_ingest_items_refused_total",
                        "type=\"metric\",reason=\"exemplar\"") == 1);
}

static void
test_limit_decompressed(void **state)
{
    fixture *f = *state;
    ps_buf body;
    ps_buf_init(&body, &ps_malloc);
    for (int encoding = 0; encoding < 2; encoding++) {
        for (int over = 0; over < 2; over++) {
            ps_buf_clear(&f->message);
            for (int i = 0; i < 50; i++)
                add(f, good, 2, NOW - i, 1);
            f->set.ingest_max_decompressed_bytes = (int64_t)f->message.len - over;
            assert_int_equal(wire_snappy_encode(ps_buf_str(&f->message), &body, NULL), PS_OK);
            f->r.in =
                encoding == 0
                    ? (write_request){.body = ps_buf_str(&body), .encoding = WRITE_SNAPPY}
                    : (write_request){.body = ps_buf_str(&f->message), .encoding = WRITE_PLAIN};
            wp_decode(&f->w, &f->d, &f->r);
            assert_int_equal(f->r.fatal, over ? PS_ELIMIT : PS_OK);
            assert_int_equal(f->r.n_points, over ? 0 : 50);
        }
    }
    assert_true(counter(f, "promscale_ingest_limit_hits_total",
                        "type=\"metric\",limit=\"decompressed-bytes\"") == 2);
    ps_buf_done(&body);
}

static void
test_corrupt_stores_nothing(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 3; i++)
        add(f, good, 2, NOW - i, 1);
    size_t whole = f->message.len;
    for (size_t cut = 1; cut < whole; cut++) {
        if (cut % (whole / 3) == 0)
            continue; /* between two series: a message of its own */
        f->message.len = whole - cut;
        decode(f);
        assert_int_equal(f->r.fatal, PS_ECORRUPT);
        assert_int_equal(f->r.n_points + f->r.n_fresh, 0);
    }
    f->r.in = (write_request){.body = PS_STR("this is not snappy"), .encoding = WRITE_SNAPPY};
    wp_decode(&f->w, &f->d, &f->r);
    assert_int_equal(f->r.fatal, PS_ECORRUPT);
}

/* ---- the two levels of the cache ------------------------------------------------------------ */

static void
test_spellings_of_one_series(void **state)
{
    fixture *f = *state;
    const mdl_label sorted[] = {L("__name__", "m"), L("a", "1"), L("b", "2")};
    const mdl_label mixed[] = {L("b", "2"), L("a", "1"), L("__name__", "m")};
    const mdl_label with_empty[] = {L("__name__", "m"), L("a", "1"), L("b", "2"), L("c", "")};
    add(f, mixed, 3, NOW, 1);
    add(f, sorted, 3, NOW + 1, 2);
    add(f, with_empty, 4, NOW + 2, 3);
    decode(f);
    assert_int_equal(f->r.n_fresh, 3);
    for (int i = 1; i < 3; i++)
        assert_true(ps_str_eq(f->r.fresh[0].key, f->r.fresh[i].key));
    assert_true(f->r.fresh[0].alias.len > 0 && f->r.fresh[1].alias.len == 0 &&
                f->r.fresh[2].alias.len > 0);
    assert_int_equal(f->r.fresh[2].first_point, 2);

    series_cache_item item = {.key = f->r.fresh[1].key, .ref = {77, 5}};
    assert_true(series_cache_insert(f->w.cache, f->r.epoch, &item, 1));
    decode(f); /* all three are known by their canonical form; the spellings are remembered */
    assert_int_equal(f->r.n_fresh, 0);
    assert_int_equal(f->r.n_points, 3);
    for (int i = 0; i < 3; i++)
        assert_true(f->r.points[i].series_id == 77 && f->r.points[i].metric_id == 5);
    assert_int_equal(series_cache_get_stats(f->w.cache).elements, 3);
    uint64_t queries = series_cache_get_stats(f->w.cache).queries;
    decode(f); /* and now found by their bytes */
    assert_int_equal(f->r.n_points, 3);
    assert_int_equal(series_cache_get_stats(f->w.cache).queries - queries, 3);
    atomic_store(&f->tenant->id, 9); /* not for another tenant */
    decode(f);
    assert_int_equal(f->r.n_fresh, 3);
}

static void
test_series_that_carry_nothing(void **state)
{
    fixture *f = *state;
    wire_write_series(&f->message, (mdl_labels){good, 2}, NULL, 0, NULL, 0);
    add(f, good, 2, NOW + 600001, 1); /* refused, and nothing else is left of the series */
    decode(f);
    assert_int_equal(f->r.n_points, 0);
    assert_int_equal(f->r.n_fresh, 0); /* it is not created either */
    assert_int_equal(f->r.refused_counts.floats, 1);
}

/* ---- samples older than they are kept ------------------------------------------------------- */

#define DAY INT64_C(86400000)

static const struct {
    const char *tenant;
    mdl_label labels[4];
    size_t n;
    int64_t days; /* 0: for ever */
} kept_series[] = {
    {"", {L("__name__", "other")}, 1, 90},
    {"acme", {L("__name__", "other")}, 1, 20},
    {"acme", {L("__name__", "week")}, 1, 7},
    {"", {L("__name__", "week")}, 1, 7},
    {"", {L("__name__", "ever")}, 1, 0},
    {"", {L("__name__", "week"), L("env", "dev")}, 2, 3},
    {"", {L("__name__", "ever"), L("env", "dev")}, 2, 3},
    {"", {L("__name__", "week"), L("env", "dev"), L("keep", "1")}, 3, 0},
    {"", {L("__name__", "other"), L("env", "prod"), L("keep", "1")}, 3, 90},
    {"acme", {L("__name__", "other"), L("env", "dev"), L("x", "1")}, 3, 200},
    {"", {L("__name__", "other"), L("env", "dev"), L("x", "1")}, 3, 3},
    {"", {L("__name__", "cpu_user")}, 1, 400},
};

static void
set_periods(fixture *f)
{
    const catalog_period rules[] = {
        {'d', PS_STR(""), 90 * DAY},
        {'t', PS_STR("acme"), 20 * DAY},
        {'m', PS_STR("week"), 7 * DAY},
        {'m', PS_STR("ever"), 0},
        {'s', PS_STR("{env=\"dev\"}"), 3 * DAY},
        {'s', PS_STR("{env=~\"de.\",keep=\"1\"}"), 0},
        {'s', PS_STR("{__tenant__=\"acme\",x=\"1\"}"), 200 * DAY},
        {'s', PS_STR("{__name__=~\"cpu_.*\"}"), 400 * DAY},
    };
    wp_periods *p;
    ps_err err;
    assert_int_equal(wp_periods_new(rules, PS_ARRAY_LEN(rules), &p, &err), PS_OK);
    wp_periods_set(&f->w, p);
    f->w.old_told_ns = pg_now_ns(); /* there is no log to be told */
}

static void
test_old_is_what_the_rules_of_the_series_say(void **state)
{
    fixture *f = *state;
    const int64_t ages[] = {1, 5, 10, 50, 100, 300, 1000};
    set_periods(f);
    for (int refuse = 0; refuse < 2; refuse++) {
        f->set.ingest_old_samples = refuse ? "refuse" : "count";
        for (size_t i = 0; i < PS_ARRAY_LEN(kept_series); i++) {
            double before = metric_value(f->w.stats.old);
            size_t old = 0;
            ps_buf_clear(&f->message);
            for (size_t k = 0; k < PS_ARRAY_LEN(ages); k++) {
                old += kept_series[i].days > 0 && ages[k] > kept_series[i].days;
                add(f, kept_series[i].labels, kept_series[i].n, NOW - ages[k] * DAY, 1.0);
            }
            char *exact = test_exact_copy(f->message.ptr, f->message.len);
            f->r.in = (write_request){.body = {exact, f->message.len},
                                      .encoding = WRITE_PLAIN,
                                      .tenant = ps_str_c(kept_series[i].tenant)};
            wp_decode(&f->w, &f->d, &f->r);
            f->r.in.body = (ps_str){NULL, 0};
            free(exact);
            assert_int_equal(metric_value(f->w.stats.old) - before, old);
            assert_int_equal(f->r.n_points, PS_ARRAY_LEN(ages) - (refuse ? old : 0));
        }
    }
}

static void
test_rules_that_cannot_be_used_are_told_of(void **state)
{
    (void)state;
    const catalog_period rules[] = {{'d', PS_STR(""), DAY}, {'s', PS_STR("{a=~\"(\"}"), DAY}};
    wp_periods *p = NULL;
    ps_err err;
    assert_int_not_equal(wp_periods_new(rules, PS_ARRAY_LEN(rules), &p, &err), PS_OK);
    assert_null(p);
}

int
main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_bad_series_cost_nothing_else, tear_down),
        CASE(test_bad_histograms_are_refused_by_name),
        CASE(test_only_the_first_are_named),
        CASE(test_limit_series),
        CASE(test_limit_samples),
        CASE(test_limit_metadata),
        CASE(test_limit_exemplars),
        CASE(test_large_exemplars_are_left_out),
        CASE(test_limit_decompressed),
        CASE(test_corrupt_stores_nothing),
        CASE(test_spellings_of_one_series),
        CASE(test_series_that_carry_nothing),
        CASE(test_old_is_what_the_rules_of_the_series_say),
        cmocka_unit_test(test_rules_that_cannot_be_used_are_told_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
