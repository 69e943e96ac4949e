/*
 * test_limits.c - every limit of ingest, set by its flag and hit through the front door: a request at
 * the limit is let in, one beyond it is counted by the limit's metric and answered as promised. No
 * database is there, so what is let in waits. A setting that is neither here nor known to be no limit
 * fails the first test.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "connector/config/table.h"
#include "connector/write/write.h"
#include "lib/wire/wire.h"
#include "tests/unit/support.h"

#define NOW INT64_C(1700000000000)
#define X10 "xxxxxxxxxx"
#define HITS "promscale_ingest_limit_hits_total", "type=\"metric\",limit="
#define REFUSED "promscale_ingest_items_refused_total", "type=\"metric\",reason="
#define REJECTED "promscale_ingest_rejected_total", "type=\"metric\",reason="

/* Fills a request: beyond the limit, or right at it. */
typedef void (*fill_fn)(ps_buf *message, bool beyond);

static const mdl_label name_and[] = {{PS_STR("__name__"), PS_STR("m")},
                                     {PS_STR("a"), PS_STR("123456789012345")}};

static void
add(ps_buf *message, const mdl_label *labels, size_t n_labels, int64_t t_ms)
{
    wire_write_series(message, (mdl_labels){labels, n_labels}, &(wire_sample){t_ms, 1, 0}, 1, NULL,
                      0);
}

/* A message of exactly n bytes: one series with a label value of the right length. */
static void
add_bytes(ps_buf *message, size_t n)
{
    char text[2048];
    memset(text, 'x', sizeof text);
    for (size_t len = 1; len < n && len < sizeof text; len++) {
        const mdl_label labels[] = {name_and[0], {PS_STR("a"), {text, len}}};
        ps_buf_clear(message);
        add(message, labels, 2, NOW);
        if (message->len == n)
            return;
    }
    fail_msg("no message of %zu bytes", n);
}

static void
fill_1kb(ps_buf *message, bool beyond)
{
    add_bytes(message, 1024 + beyond);
}

static void
fill_series(ps_buf *message, bool beyond)
{
    for (int i = 0; i < 3 + beyond; i++)
        add(message, name_and, 1, NOW + i);
}

static void
fill_samples(ps_buf *message, bool beyond)
{
    const wire_sample s[] = {{NOW, 1, 0}, {NOW + 1, 1, 0}, {NOW + 2, 1, 0}};
    wire_write_series(message, (mdl_labels){name_and, 1}, s, 2 + beyond, NULL, 0);
}

static void
fill_labels(ps_buf *message, bool beyond)
{
    add(message, name_and, 1 + beyond, NOW);
}

static void
fill_label_name(ps_buf *message, bool beyond)
{
    const mdl_label labels[] = {name_and[0], {{"a2345678901234567", 16 + beyond}, PS_STR("1")}};
    add(message, labels, 2, NOW);
}

static void
fill_label_value(ps_buf *message, bool beyond)
{
    const mdl_label labels[] = {name_and[0], {PS_STR("a"), {"12345678901234567", 16 + beyond}}};
    add(message, labels, 2, NOW);
}

static void
fill_label_set(ps_buf *message, bool beyond)
{
    /* 9 bytes of name, 1 of "a", the rest */
    static const char rest[] = X10 X10 X10 X10 X10 "12345";
    const mdl_label labels[] = {name_and[0], {PS_STR("a"), {rest, 64 - 10 + beyond}}};
    add(message, labels, 2, NOW);
}

static void
fill_exemplars(ps_buf *message, bool beyond)
{
    const wire_exemplar e = {name_and + 1, 1, NOW, 1};
    const wire_exemplar all[] = {e, e, e};
    wire_write_series(message, (mdl_labels){name_and, 1}, &(wire_sample){NOW, 1, 0}, 1, all,
                      2 + beyond);
}

static void
fill_metadata(ps_buf *message, bool beyond)
{
    add(message, name_and, 1, NOW);
    for (int i = 0; i < 2 + beyond; i++)
        wire_write_metadata(message, &(wire_metadata){WIRE_METRIC_GAUGE, PS_STR("m"), PS_STR("h"),
                                                      PS_STR("u")});
}

/* 2.0: "" and "__name__", "m" and so on. */
static void
fill_symbols(ps_buf *message, bool beyond)
{
    const mdl_label labels[] = {name_and[0], {PS_STR("a"), {"x", beyond}}};
    wire_v2_writer *w = wire_v2_writer_new(&ps_malloc, 1000);
    wire_v2_write(w, &(wire_v2_item){.labels = {labels, 2},
                                     .samples = &(wire_sample){NOW, 1, 0},
                                     .n_samples = 1});
    assert_int_equal(wire_v2_writer_finish(w, message, NULL), PS_OK);
    wire_v2_writer_free(w);
}

static void
fill_buckets(ps_buf *message, bool beyond)
{
    static const double counts[] = {1, 1, 1, 1};
    const hst_span span = {0, 3 + beyond};
    const hst_hist h = {.count = span.length,
                        .positive = {&span, 1, span.length, counts},
                        .integer = true};
    wire_write_series_histograms(message, (mdl_labels){name_and, 1},
                                 &(wire_histogram){.t_ms = NOW, .histogram = &h}, 1);
}

static void
fill_future(ps_buf *message, bool beyond)
{
    add(message, name_and, 1, NOW + 60000 + beyond);
}

static void
fill_one(ps_buf *message, bool beyond)
{
    (void)beyond;
    add(message, name_and, 1, NOW);
}

static void
fill_600kb(ps_buf *message, bool beyond)
{
    static char text[60000];
    (void)beyond;
    memset(text, 'x', sizeof text);
    const mdl_label labels[] = {name_and[0], {PS_STR("a"), {text, sizeof text}}};
    for (int i = 0; i < 10; i++)
        add(message, labels, 2, NOW + i);
}

/* The answer: as a status of the request beyond it; PS_OK: the samples stay, so it waits too. */
static const struct limit {
    const char *setting, *value;
    const char *metric, *label, *label_value;
    fill_fn fill;
    ps_status status;
    write_version version;
} limits[] = {
    {"ingest.max-body-bytes", "1KB", HITS, "body-bytes", fill_1kb, PS_ELIMIT, WRITE_V1},
    {"ingest.max-decompressed-bytes", "1KB", HITS, "decompressed-bytes", fill_1kb, PS_ELIMIT,
     WRITE_V1},
    {"ingest.max-series", "3", HITS, "series", fill_series, PS_ELIMIT, WRITE_V1},
    {"ingest.max-samples", "2", HITS, "samples", fill_samples, PS_ELIMIT, WRITE_V1},
    {"ingest.max-labels", "1", REFUSED, "label-limit", fill_labels, PS_EINVAL, WRITE_V1},
    {"ingest.max-label-name-bytes", "16", REFUSED, "label-limit", fill_label_name, PS_EINVAL,
     WRITE_V1},
    {"ingest.max-label-value-bytes", "16", REFUSED, "label-limit", fill_label_value, PS_EINVAL,
     WRITE_V1},
    {"ingest.max-label-set-bytes", "64", REFUSED, "label-limit", fill_label_set, PS_EINVAL,
     WRITE_V1},
    {"ingest.max-exemplars", "2", HITS, "exemplars", fill_exemplars, PS_OK, WRITE_V1},
    {"ingest.max-metadata", "2", HITS, "metadata", fill_metadata, PS_OK, WRITE_V1},
    {"ingest.max-symbols", "4", HITS, "symbols", fill_symbols, PS_ELIMIT, WRITE_V2},
    {"ingest.max-histogram-buckets", "4", REFUSED, "histogram", fill_buckets, PS_EINVAL, WRITE_V1},
    {"ingest.max-future", "1m", REFUSED, "future", fill_future, PS_EINVAL, WRITE_V1},
    {"ingest.queue-requests", "1", REJECTED, "queue-requests", fill_one, PS_EUNAVAILABLE, WRITE_V1},
    {"ingest.queue-bytes", "1MB", REJECTED, "queue-bytes", fill_600kb, PS_EUNAVAILABLE, WRITE_V1},
    {"ingest.timeout", "300ms", REJECTED, "timeout", NULL, PS_EUNAVAILABLE, WRITE_V1},
};

static const char *const no_limits[] = {"ingest.workers", "ingest.flush-max-samples",
                                        "ingest.flush-min-parallel", "ingest.flush-gather",
                                        "ingest.old-samples"};

static void
test_every_setting_of_ingest_is_here(void **state)
{
    size_t found = 0;
    (void)state;
    for (size_t i = 0; i < settings_count; i++) {
        const setting *s = &settings_table[i];
        bool known = strncmp(s->name, "ingest.", 7) != 0;
        for (size_t k = 0; k < PS_ARRAY_LEN(no_limits); k++)
            known |= strcmp(s->name, no_limits[k]) == 0;
        for (size_t k = 0; k < PS_ARRAY_LEN(limits); k++) {
            if (strcmp(s->name, limits[k].setting) != 0)
                continue;
            known = true;
            found++;
            assert_true(s->def[0] != '\0' && strcmp(s->def, "0") != 0);
        }
        if (!known)
            fail_msg("%s: no test hits this limit", s->name);
    }
    assert_int_equal(found, PS_ARRAY_LEN(limits));
}

/* ---- a path without a database ------------------------------------------------------------------ */

typedef struct answer {
    _Atomic int n;
    _Atomic int status;
    char text[512];
} answer;

static void
on_done(void *self, const write_result *result)
{
    answer *a = self;
    snprintf(a->text, sizeof(a->text), "%s", result->text);
    a->status = result->status;
    a->n++;
}

static int64_t
fixed_now(void *self)
{
    (void)self;
    return NOW;
}

static settings *
settings_with(const struct limit *l)
{
    char flag[128];
    /* the second would be larger than a queue of the smallest size; the last one of a flag wins */
    char *argv[] = {(char[]){"--ingest.workers=1"}, (char[]){"--ingest.max-body-bytes=1MB"}, flag};
    char *envp[] = {NULL};
    settings *s;
    settings_outcome outcome;
    int rest;
    ps_err err;
    snprintf(flag, sizeof(flag), "--%s=%s", l->setting, l->value);
    if (settings_load(3, argv, envp, &s, &outcome, &rest, &err) != PS_OK)
        fail_msg("%s", err.text);
    return s;
}

/* True if the request was taken. */
static bool
submit(write_path *w, const ps_buf *message, const struct limit *l, answer *a)
{
    const write_request request = {.body = ps_buf_str(message),
                                   .encoding = WRITE_PLAIN,
                                   .version = l->version};
    ps_err err;
    ps_status status = write_submit(w, &request, on_done, a, &err);
    if (status != PS_OK) {
        snprintf(a->text, sizeof(a->text), "%s", err.text);
        a->status = status;
    }
    return status == PS_OK;
}

static double
counter(metrics *m, const struct limit *l)
{
    char labels[96];
    snprintf(labels, sizeof(labels), "%s\"%s\"", l->label, l->label_value);
    return metric_value(metrics_counter(m, l->metric, "", labels));
}

static void
wait_for(metrics *m, const struct limit *l)
{
    for (int i = 0; i < 12000 && counter(m, l) == 0; i++)
        usleep(5000);
    if (counter(m, l) != 1)
        fail_msg("%s: the metric says %g", l->setting, counter(m, l));
}

static void
hit(const struct limit *l, logger *log)
{
    settings *set = settings_with(l);
    metrics *m = metrics_new();
    write_path_config config = {.settings = set,
                                .conninfo = "host=/nonexistent connect_timeout=1",
                                .log = log,
                                .metrics = m,
                                .now_ms = fixed_now};
    answer answers[2] = {0};
    bool taken[2] = {false, false};
    ps_buf message[2];
    write_path *w;
    ps_err err;

    assert_int_equal(write_path_start(&config, &w, &err), PS_OK);
    for (int i = 0; i < 2; i++) {
        ps_buf_init(&message[i], &ps_malloc);
        if (l->fill == NULL && i == 0)
            continue; /* one request hits it */
        (l->fill != NULL ? l->fill : fill_one)(&message[i], i == 1);
        taken[i] = submit(w, &message[i], l, &answers[i]);
        assert_true(taken[i] || i == 1);
    }
    wait_for(m, l);
    if (l->status != PS_OK) {
        for (int i = 0; i < 12000 && taken[1] && answers[1].n == 0; i++)
            usleep(5000);
        assert_int_equal(answers[1].status, l->status);
        assert_true(answers[1].text[0] != '\0');
    } else {
        assert_int_equal(answers[1].n, 0);
    }
    write_path_stop(w, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(answers[i].n, taken[i]);
        if (taken[i] && (i == 0 || l->status == PS_OK))
            assert_int_equal(answers[i].status, PS_EUNAVAILABLE); /* it waited until now */
    }
    assert_true(counter(m, l) == 1);
    write_path_free(w);
    metrics_free(m);
    settings_free(set);
    for (int i = 0; i < 2; i++)
        ps_buf_done(&message[i]);
}

static void
test_every_limit_is_hit_and_counted(void **state)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    logger *log;
    ps_err err;
    (void)state;
    assert_int_equal(log_new(null, "logfmt", "error", &log, &err), PS_OK);
    for (size_t i = 0; i < PS_ARRAY_LEN(limits); i++)
        hit(&limits[i], log);
    log_free(log);
    close(null);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_setting_of_ingest_is_here),
        cmocka_unit_test(test_every_limit_is_hit_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
