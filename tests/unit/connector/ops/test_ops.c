/*
 * test_ops.c - the routes as a client sees them, over a real write path whose database is away: which
 * requests are refused for good, and that everything else is asked to come again; the self-scrape's
 * message; the page at /.
 */
#include "tests/unit/connector/http/rawclient.h"

#include <fcntl.h>

#include "connector/ops/ops.h"
#include "lib/wire/wire.h"

static connector c;
static rc_server srv; /* only its port is used */

static char folder[] = "/tmp/ps-ops-XXXXXX";

static int
start_connector(void **state)
{
    char host[64];
    char *argv[] = {"--self-scrape=false", "--ingest.timeout=500ms", "--ingest.max-body-bytes=64KB",
                    "--ingest.max-decompressed-bytes=100KB", host};
    http_route routes[OPS_MAX_ROUTES];
    settings_outcome outcome;
    ps_err err;
    int rest;
    (void)state;

    assert_non_null(mkdtemp(folder));
    snprintf(host, sizeof(host), "--db.uri=postgresql:///none?host=%s", folder);
    assert_int_equal(settings_load(5, argv, NULL, &c.settings, &outcome, &rest, &err), PS_OK);
    assert_int_equal(log_new(open("/dev/null", O_WRONLY), "logfmt", "info", &c.log, &err), PS_OK);
    c.metrics = metrics_new();
    c.conninfo = malloc(128);
    snprintf(c.conninfo, 128, "host=%s dbname=none user=u password='se cret' application_name=x",
             folder);
    c.program = "pro gram";
    c.sql_command = ops_sql_command(&c);
    ops_register_process_metrics(&c);
    write_path_config wc = {.settings = c.settings,
                            .conninfo = c.conninfo,
                            .log = c.log,
                            .metrics = c.metrics};
    assert_int_equal(facts_start(c.conninfo, c.log, c.metrics, &c.facts, &err), PS_OK);
    assert_int_equal(write_path_start(&wc, &c.write, &err), PS_OK);
    assert_int_equal(recent_start(c.metrics, c.log, 0, &c.recent, &err), PS_OK);
    http_server_config config = {.listen_address = "127.0.0.1:0",
                                 .max_connections = 50,
                                 .head_timeout_ms = 5000,
                                 .body_timeout_ms = 5000,
                                 .idle_timeout_ms = 5000,
                                 .body_pool_bytes = 1 << 20,
                                 .routes = routes,
                                 .n_routes = ops_routes(&c, routes),
                                 .log = c.log,
                                 .metrics = c.metrics};
    assert_int_equal(http_server_start(&config, &c.http, &err), PS_OK);
    srv.port = (int)strtol(strrchr(http_server_address(c.http), ':') + 1, NULL, 10);
    return 0;
}

static int
stop_connector(void **state)
{
    (void)state;
    http_server_quiesce(c.http);
    write_path_stop(c.write, 0);
    http_server_stop(c.http, 1000);
    recent_stop(c.recent);
    facts_stop(c.facts);
    write_path_free(c.write);
    metrics_free(c.metrics);
    log_free(c.log);
    settings_free(c.settings);
    free(c.conninfo);
    free(c.sql_command);
    rmdir(folder);
    return 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

static rc_answer
post(const char *path, const char *headers, ps_str body)
{
    char head[512];
    int fd = rc_connect(&srv);

    snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n",
             path, headers, body.len);
    assert_true(rc_send_c(fd, head) && rc_send(fd, body.ptr, body.len));
    rc_answer a = rc_read(fd, false);
    close(fd);
    return a;
}

static void
expect_post(const char *headers, ps_str body, int status, const char *text)
{
    rc_answer a = post("/api/v1/write", headers, body);

    if (a.status != status || strstr(a.body, text) == NULL)
        fail_msg("%s: %d %s", headers, a.status, a.body);
    assert_true(status != 503 || rc_has_header(&a, "Retry-After: 1"));
    assert_null(strstr(a.head, "Samples-Written"));
    rc_done(&a);
}

static void
test_media_types(void **state)
{
    /* What is accepted goes on to snappy, which finds the body corrupt; what is not is 415. */
    static const ps_str junk = {"\xff\xff\xff\xff\xff\xff\xff", 7};
    static const char *const good[] = {
        "",
        "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n",
        "content-type: Application/X-Protobuf\r\ncontent-encoding: SNAPPY\r\n",
        "Content-Type: application/x-protobuf;proto=prometheus.WriteRequest\r\n",
        "Content-Type: application/x-protobuf ; charset=x; PROTO = \"prometheus.WriteRequest\" \r\n",
        "Content-Type:\r\nContent-Encoding:\r\n",
    };
    static const struct {
        const char *headers, *text;
    } good_text[] = {
        {"Content-Type: text/plain\r\n", "line 1, column 1"},
        {"Content-Type: TEXT/PLAIN; version=\"0.0.4\"; charset=utf-8\r\nContent-Encoding: identity\r\n",
         "line 1, column 1"},
        {"Content-Type: text/plain\r\nContent-Encoding: gzip\r\n", "gzip"},
        {"Content-Type: text/plain\r\nContent-Encoding: snappy\r\n", "snappy"},
        {"Content-Type: application/openmetrics-text;version=1.0.0\r\nContent-Encoding: GZIP\r\n", "gzip"},
    };
    static const struct {
        const char *headers, *text;
    } bad[] = {
        {"Content-Type: application/json\r\n", "application/x-protobuf"},
        {"Content-Type: text/html\r\n", "text/plain"},
        {"Content-Type: text/plain; version=0.0.5\r\n", "version=0.0.4"},
        {"Content-Type: application/openmetrics-text; version=2.0.0\r\n", "version=1.0.0"},
        {"Content-Type: text/plain\r\nContent-Encoding: zstd\r\n", "gzip or snappy"},
        {"Content-Type: application/x-protobuf2\r\n", "application/x-protobuf"},
        {"Content-Type: application/x-protobuf;proto=prometheus.writerequest\r\n",
         "unknown protobuf message"},
        {"Content-Type: application/x-protobuf;proto=\r\n", "unknown protobuf message"},
        {"Content-Encoding: gzip\r\n", "snappy"},
        {"Content-Encoding: snappy, gzip\r\n", "snappy"},
    };
    (void)state;

    for (size_t i = 0; i < PS_ARRAY_LEN(good); i++)
        expect_post(good[i], junk, 400, "snappy");
    for (size_t i = 0; i < PS_ARRAY_LEN(good_text); i++)
        expect_post(good_text[i].headers, junk, 400, good_text[i].text);
    for (size_t i = 0; i < PS_ARRAY_LEN(bad); i++)
        expect_post(bad[i].headers, junk, 415, bad[i].text);
}

static ps_str
one_sample(ps_buf *out, const char *name)
{
    ps_buf plain;
    mdl_label label = {PS_STR("__name__"), ps_str_c(name)};
    struct timespec now;
    ps_err err;

    clock_gettime(CLOCK_REALTIME, &now);
    wire_sample s = {(int64_t)now.tv_sec * 1000, 1, 0};
    ps_buf_init(&plain, &ps_malloc);
    wire_write_series(&plain, (mdl_labels){&label, 1}, &s, 1, NULL, 0);
    assert_int_equal(wire_snappy_encode(ps_buf_str(&plain), out, &err), PS_OK);
    ps_buf_done(&plain);
    return ps_buf_str(out);
}

static void
test_what_is_final_and_what_is_not(void **state)
{
    static char big[70000];
    ps_buf body;
    (void)state;

    ps_buf_init(&body, &ps_malloc);
    expect_post("", PS_STR("\x80\x80\x08\x00"), 413, "decompressed");
    expect_post("", (ps_str){big, sizeof(big)}, 413, "larger than");
    expect_post("", PS_STR("\x03\x08\x0a\xff\x01"), 400, "malformed");
    /* A good request while the database is away: never lost, never 4xx, never 429. */
    int64_t begun = rc_now_ms();
    expect_post("", one_sample(&body, "m"), 503, "");
    assert_true(rc_now_ms() - begun < 20000);
    rc_answer a = post("/write", "", ps_buf_str(&body));
    assert_int_equal(a.status, 503);
    rc_done(&a);
    ps_buf_done(&body);
    srv.metrics = c.metrics;
    assert_true(rc_metric(&srv, "promscale_ingest_requests_total{type=\"metric\",code=\"503\"} ") ==
                2);
    assert_true(
        rc_metric(&srv, "promscale_ingest_duration_seconds_count{type=\"metric\",code=\"503\"} ") ==
        2);
}

/* ---- the other paths --------------------------------------------------------------------------- */

static rc_answer
get(const char *request)
{
    int fd = rc_connect(&srv);
    assert_true(rc_send_c(fd, request));
    rc_answer a = rc_read(fd, false);
    close(fd);
    return a;
}

static void
expect_get(const char *request, int status, const char *type, const char *part)
{
    rc_answer a = get(request);

    if (a.status != status || strstr(a.body, part) == NULL ||
        (type[0] && strcasestr(a.head, type) == NULL))
        fail_msg("%s%d %s %s", request, a.status, a.head, a.body);
    rc_done(&a);
}

static void
test_paths(void **state)
{
    (void)state;
    expect_get("GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n", 200, "text/plain", "healthy");
    expect_get("GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n", 503, "Retry-After: 1", "database");
    expect_get("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 503, "", "database");
    expect_get("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200, "text/plain; version=0.0.4",
               "\npromscale_build_info{version=\"");
    expect_get("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200, "",
               "\nprocess_resident_memory_bytes ");
    expect_get("GET /api/v1/nonsense HTTP/1.1\r\nHost: x\r\n\r\n", 404, "text/plain",
               "404 page not found\n");
    expect_get("GET /api/v1/%22%3c%01 HTTP/1.1\r\nHost: x\r\n\r\n", 404, "text/plain",
               "404 page not found\n");
    expect_get("GET /api/v1/write HTTP/1.1\r\nHost: x\r\n\r\n", 405, "Allow: POST", "");
    expect_get("GET /favicon.ico HTTP/1.1\r\nHost: x\r\n\r\n", 404, "", "");
}

static void
test_page(void **state)
{
    (void)state;
    rc_answer a = get("GET / HTTP/1.1\r\nHost: pro.example:9201\r\n\r\n");

    assert_int_equal(a.status, 200);
    assert_non_null(strcasestr(a.head, "text/html; charset=utf-8"));
    assert_non_null(strstr(a.head, "default-src 'none'"));
    assert_non_null(strstr(a.body, "url: http://pro.example:9201/api/v1/write"));
    assert_non_null(strstr(a.body, "the database does not answer"));
    assert_non_null(strstr(a.body, PROMSCALE_VERSION));
    assert_non_null(strstr(a.body, "<pre>psql &#39;user=u "));
    assert_non_null(strstr(a.body, "host=/tmp/ps-ops-"));
    assert_null(strstr(a.body, "se cret"));
    assert_null(strstr(a.body, "<script"));
    assert_null(strstr(a.body, "src="));
    rc_done(&a);
    a = get("GET / HTTP/1.1\r\nHost: <b>\r\n\r\n"); /* a name that is none: our own address */
    char url[64];
    snprintf(url, sizeof(url), "url: http://127.0.0.1:%d/api/v1/write", srv.port);
    assert_non_null(strstr(a.body, url));
    assert_null(strstr(a.body, "<b></b>"));
    rc_done(&a);
}

/* ---- self-scrape ------------------------------------------------------------------------------- */

static double
two(void *self)
{
    (void)self;
    return 2;
}

static void
test_self_scrape_message(void **state)
{
    static const double bounds[] = {0.5};
    static const char *const want[] = {
        "up{instance=\"i:1\",job=\"promscale\"} 1",
        "a_total{instance=\"i:1\",job=\"promscale\",x=\"q\\\"\\\\\\nz\"} 3.5",
        "g{instance=\"i:1\",job=\"promscale\"} 2",
        "h_bucket{a=\"\",b=\"2\",instance=\"i:1\",job=\"promscale\",le=\"0.5\"} 1",
        "h_bucket{b=\"2\",instance=\"i:1\",job=\"promscale\",le=\"+Inf\"} 1",
    };
    metrics *m = metrics_new();
    wire_write_reader reader;
    ps_buf out, labels;
    size_t n_series = 0, n_metadata = 0;
    ps_err err;
    (void)state;

    ps_buf_init(&out, &ps_malloc);
    ps_buf_init(&labels, &ps_malloc);
    metrics_label(&labels, "x", PS_STR("q\"\\\nz"));
    ps_buf_add_char(&labels, 0);
    metric_add(metrics_counter(m, "a_total", "A.", labels.ptr), 3.5);
    metrics_gauge_fn(m, "g", "G.", "", two, NULL);
    metric_observe(metrics_histogram(m, "h", "H.", "b=\"2\",a=\"\"", bounds, 1), 0.25);
    assert_int_equal(self_scrape_render(m, PS_STR("i:1"), 1234567, true, &out, &err), PS_OK);
    wire_write_reader_init(&reader, ps_buf_str(&out));
    for (;;) {
        wire_item item;
        wire_series s;
        wire_metadata md;
        assert_int_equal(wire_write_next(&reader, &item, &s, &md, &err), PS_OK);
        if (item == WIRE_END)
            break;
        if (item == WIRE_METADATA) {
            assert_int_equal(md.type, n_metadata == 0   ? WIRE_METRIC_COUNTER
                                      : n_metadata == 1 ? WIRE_METRIC_GAUGE
                                                        : WIRE_METRIC_HISTOGRAM);
            n_metadata++;
            continue;
        }
        mdl_label items[16];
        wire_sample sample;
        assert_true(s.n_labels <= 16 && s.n_samples == 1);
        wire_series_labels(&s, items);
        wire_series_samples(&s, &sample);
        assert_int_equal(sample.t_ms, 1234567);
        ps_buf_clear(&labels);
        mdl_format_labels(&labels, items, s.n_labels, 1000);
        ps_buf_addf(&labels, " %g", sample.value);
        ps_buf_add_char(&labels, 0);
        if (n_series < 3)
            assert_string_equal(labels.ptr, want[n_series]);
        else if (n_series == 4)
            assert_string_equal(labels.ptr, want[4]); /* an empty label is no label */
        n_series++;
    }
    assert_int_equal(n_series, 1 + 1 + 1 + 4);
    assert_int_equal(n_metadata, 3);
    ps_buf_done(&out);
    ps_buf_done(&labels);
    metrics_free(m);
}

static void
test_recent_counts_the_right_ones(void **state)
{
    metrics *m = metrics_new();
    recent *r;
    recent_figures f;
    ps_err err;
    (void)state;

    metric_add(metrics_counter(m, "promscale_ingest_items_total", "I.",
                               "type=\"metric\",kind=\"sample\""),
               10);
    assert_int_equal(recent_start(m, c.log, 0, &r, &err), PS_OK);
    metric_add(metrics_counter(m, "promscale_ingest_items_total", "I.",
                               "type=\"metric\",kind=\"sample\""),
               5);
    metric_add(metrics_counter(m, "promscale_ingest_items_total", "I.",
                               "type=\"metric\",kind=\"metadata\""),
               100);
    metric_add(metrics_counter(m, "promscale_ingest_requests_total", "R.",
                               "type=\"metric\",code=\"204\""),
               7);
    metric_add(metrics_counter(m, "promscale_ingest_requests_total", "R.",
                               "type=\"metric\",code=\"503\""),
               2);
    recent_figures_get(r, &f);
    assert_true(f.delta[RECENT_SAMPLES] == 5 && f.total[RECENT_SAMPLES] == 15);
    assert_true(f.delta[RECENT_REQUESTS] == 9 && f.delta[RECENT_FAILED] == 2);
    recent_stop(r);
    metrics_free(m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_media_types),
        cmocka_unit_test(test_what_is_final_and_what_is_not),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_page),
        cmocka_unit_test(test_self_scrape_message),
        cmocka_unit_test(test_recent_counts_the_right_ones),
    };

    return cmocka_run_group_tests(tests, start_connector, stop_connector);
}
