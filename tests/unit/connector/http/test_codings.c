/*
 * test_codings.c - answers in fewer bytes, and scripts of other origins.
 */
#include <zlib.h>

#include "tests/unit/connector/http/rawclient.h"

static rc_answer
ask(int fd, const char *method, const char *target, const char *headers)
{
    char text[1024];

    snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n", method, target, headers);
    assert_true(rc_send_c(fd, text));
    return rc_read(fd, false);
}

/* The text that /api/long makes. */
static void
expect_text(const char *text, size_t len, size_t at_least)
{
    char want[16];
    size_t at = 0;

    assert_true(len >= at_least);
    for (size_t i = 0; at < len; i++) {
        size_t n = (size_t)snprintf(want, sizeof(want), "%zu,", i % 1000);
        assert_true(at + n <= len);
        assert_memory_equal(text + at, want, n);
        at += n;
    }
}

static void
expect_coded(const rc_answer *a, const char *coding, size_t at_least)
{
    char line[64];
    z_stream z = {.next_in = (Bytef *)a->body, .avail_in = (uInt)a->body_len};
    size_t room = at_least + 64;
    char *text = malloc(room);

    assert_int_equal(a->status, 200);
    snprintf(line, sizeof(line), "Content-Encoding: %s", coding);
    assert_true(rc_has_header(a, line));
    assert_true(rc_has_header(a, "Vary: Accept-Encoding"));
    assert_true(a->body_len < at_least / 2);
    assert_int_equal(inflateInit2(&z, coding[0] == 'g' ? 15 + 16 : 15), Z_OK);
    z.next_out = (Bytef *)text;
    z.avail_out = (uInt)room;
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    expect_text(text, z.total_out, at_least);
    inflateEnd(&z);
    free(text);
}

static void
test_codings(void **state)
{
    static const struct {
        const char *target, *accept, *coding;
        size_t bytes;
    } cases[] = {
        {"/api/long", "Accept-Encoding: gzip\r\n", "gzip", 2000},
        {"/api/long?q=json&n=3000000", "Accept-Encoding: br, GZIP;q=0.5, deflate\r\n", "gzip",
         3000000},
        {"/api/long?q=json", "Accept-Encoding: deflate, gzip\r\n", "deflate", 2000},
        {"/api/long", "Accept-Encoding: gzip;q=0, deflate;q=0.1\r\n", "deflate", 2000},
        {"/api/long", "Accept-Encoding: gzip;q=0.000\r\n", NULL, 2000},
        {"/api/long", "Accept-Encoding: br, identity\r\n", NULL, 2000},
        {"/api/long", "Accept-Encoding: gzipped\r\n", NULL, 2000},
        {"/api/long", "", NULL, 2000},
        {"/api/long?n=500", "Accept-Encoding: gzip\r\n", NULL, 500},
        {"/api/long?q=bytes", "Accept-Encoding: gzip\r\n", NULL, 2000},
    };
    rc_server s;

    (void)state;
    rc_start(&s, (http_server_config){0});
    int fd = rc_connect(&s);
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        rc_answer a = ask(fd, "GET", cases[i].target, cases[i].accept);
        if (cases[i].coding != NULL) {
            expect_coded(&a, cases[i].coding, cases[i].bytes);
        } else {
            assert_null(strcasestr(a.head, "Content-Encoding"));
            expect_text(a.body, a.body_len, cases[i].bytes);
        }
        rc_done(&a);
    }
    close(fd);
    rc_stop(&s);
}

static void
test_any_origin(void **state)
{
    rc_server s;

    (void)state;
    rc_start(&s, (http_server_config){.cors_origin = ".*"});
    int fd = rc_connect(&s);
    rc_answer a = ask(fd, "GET", "/api/long", "Origin: http://a.example\r\n");
    assert_true(rc_has_header(&a, "Access-Control-Allow-Origin: *"));
    assert_true(rc_has_header(&a, "Access-Control-Allow-Methods: GET, POST, OPTIONS"));
    assert_true(rc_has_header(&a, "Access-Control-Expose-Headers: Date"));
    assert_true(rc_has_header(&a, "Vary: Origin"));
    rc_done(&a);
    a = ask(fd, "OPTIONS", "/api/long",
            "Origin: http://a.example\r\n"); /* the browser's question */
    assert_int_equal(a.status, 204);
    assert_true(rc_has_header(&a, "Access-Control-Allow-Origin: *"));
    rc_done(&a);
    a = ask(fd, "POST", "/api/long", "Origin: http://a.example\r\nContent-Length: 0\r\n");
    assert_int_equal(a.status, 405); /* errors can be read by the script, too */
    assert_true(rc_has_header(&a, "Access-Control-Allow-Origin: *"));
    rc_done(&a);
    a = ask(fd, "GET", "/api/long", "");
    assert_null(strcasestr(a.head, "Access-Control"));
    rc_done(&a);
    a = ask(fd, "GET", "/show", "Origin: http://a.example\r\n"); /* not for scripts */
    assert_null(strcasestr(a.head, "Access-Control"));
    rc_done(&a);
    a = ask(fd, "OPTIONS", "/show", "Origin: http://a.example\r\n");
    assert_int_equal(a.status, 405);
    rc_done(&a);
    close(fd);
    rc_stop(&s);
}

static void
test_some_origins(void **state)
{
    http_server *none = NULL;
    rc_server s;
    ps_err err;

    (void)state;
    rc_start(&s, (http_server_config){.cors_origin = "https?://(a|b)\\.example"});
    int fd = rc_connect(&s);
    rc_answer a = ask(fd, "GET", "/api/long", "Origin: https://b.example\r\n");
    assert_true(rc_has_header(&a, "Access-Control-Allow-Origin: https://b.example"));
    rc_done(&a);
    a = ask(fd, "GET", "/api/long", "Origin: https://b.example.evil\r\n"); /* whole origins only */
    assert_int_equal(a.status, 200);
    assert_null(strcasestr(a.head, "Allow-Origin"));
    rc_done(&a);
    close(fd);
    rc_stop(&s);
    http_server_config bad = {.listen_address = "127.0.0.1:0", .cors_origin = "("};
    bad.metrics = metrics_new();
    assert_int_equal(http_server_start(&bad, &none, &err), PS_EINVAL);
    metrics_free(bad.metrics);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_codings),
                                       cmocka_unit_test(test_any_origin),
                                       cmocka_unit_test(test_some_origins)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
