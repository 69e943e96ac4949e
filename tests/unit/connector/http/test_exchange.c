/*
 * test_exchange.c - requests and answers as bytes on a socket: methods, paths, bodies in all forms,
 * what is refused and how the connection fares afterwards.
 */
#include "tests/unit/connector/http/rawclient.h"

#include "connector/http/internal.h"

static rc_server srv;

static int
start_server(void **state)
{
    (void)state;
    rc_start(&srv, (http_server_config){.body_pool_bytes = 0});
    return 0;
}

static int
stop_server(void **state)
{
    (void)state;
    rc_stop(&srv);
    return 0;
}

static void
expect_body(int fd, const char *text, int status, const char *body)
{
    assert_true(rc_send_c(fd, text));
    rc_answer a = rc_read(fd, false);
    assert_int_equal(a.status, status);
    assert_string_equal(a.body, body);
    rc_done(&a);
}

static void
test_methods_and_paths(void **state)
{
    int fd = rc_connect(&srv);
    (void)state;

    expect_body(fd, "GET /show?q=a%20b+c%26&q=2 HTTP/1.1\r\nHost: x\r\nX-TEST: v 1\r\n\r\n", 200,
                "/show|v 1|a b c&\n");
    expect_body(fd, "GET /under/a%2Fb HTTP/1.1\r\nHost: x\r\n\r\n", 200, "/under/a/b|-|-\n");
    expect_body(fd, "GET http://x/show?q=%2f HTTP/1.1\r\nHost: x\r\n\r\n", 200, "/show|-|/\n");
    rc_expect(fd, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404);
    rc_expect(fd, "DELETE /under/deep/x HTTP/1.1\r\nHost: x\r\n\r\n", 200); /* the longest prefix */
    rc_expect(fd, "DELETE /under/x HTTP/1.1\r\nHost: x\r\n\r\n", 405);
    rc_expect(fd, "BREW /show HTTP/1.1\r\nHost: x\r\n\r\n", 405);

    assert_true(rc_send_c(fd, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"));
    rc_answer a = rc_read(fd, false);
    assert_int_equal(a.status, 405);
    assert_true(rc_has_header(&a, "Allow: POST, PUT"));
    rc_done(&a);
    assert_true(rc_send_c(fd, "POST /show HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"));
    a = rc_read(fd, false);
    assert_int_equal(a.status, 405); /* and the connection is still of use */
    assert_true(rc_has_header(&a, "Allow: GET, HEAD"));
    rc_done(&a);
    assert_true(rc_send_c(fd, "HEAD /show HTTP/1.1\r\nHost: x\r\n\r\n"));
    a = rc_read(fd, true);
    assert_int_equal(a.status, 200);
    assert_true(rc_has_header(&a, "Content-Length: 10"));
    assert_true(rc_has_header(&a, "X-Own: yes"));
    rc_done(&a);
    rc_expect(fd, "GET /show HTTP/1.1\r\nHost: x\r\n\r\n", 200);
    close(fd);
}

static void
test_bad_heads_are_refused(void **state)
{
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"GET /show%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /show%0 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /show%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /show?q=%f HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET show HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /show HTTP/1.1\r\n\r\n", 400}, /* no Host */
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         400},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nabc", 501},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
         501},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
    };
    (void)state;

    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        int fd = rc_connect(&srv);
        rc_expect(fd, cases[i].text, cases[i].status);
        close(fd);
    }
}

static void
test_too_large_a_head(void **state)
{
    static char text[200 * 1024];
    (void)state;

    /* One header line that does not fit. */
    int fd = rc_connect(&srv);
    size_t n = (size_t)snprintf(text, sizeof(text), "GET /show HTTP/1.1\r\nHost: x\r\nX: ");
    memset(text + n, 'a', sizeof(text) - n);
    (void)rc_send(fd, text, sizeof(text));
    rc_answer a = rc_read(fd, false);
    assert_true(a.status == 431 || a.status == 0); /* the reset may overtake the answer */
    rc_done(&a);
    close(fd);
    /* A path that does not fit. */
    fd = rc_connect(&srv);
    n = (size_t)snprintf(text, sizeof(text), "GET /");
    memset(text + n, 'a', sizeof(text) - n);
    (void)rc_send(fd, text, sizeof(text));
    a = rc_read(fd, false);
    assert_true(a.status == 414 || a.status == 431 || a.status == 0);
    rc_done(&a);
    close(fd);
    /* Many small headers: fewer than the library's memory holds, more than we keep. */
    fd = rc_connect(&srv);
    n = (size_t)snprintf(text, sizeof(text), "GET /show HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 600; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "X%d: 1\r\n", i);
    memcpy(text + n, "\r\n", 3);
    rc_expect(fd, text, 400);
    close(fd);
    fd = rc_connect(&srv);
    rc_expect(fd, "GET /show HTTP/1.1\r\nHost: x\r\n\r\n", 200);
    close(fd);
}

/* ---- bodies ---------------------------------------------------------------------------------- */

static void
fill(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (char)(i * 2654435761u >> 13);
}

static void
test_body_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 2, 1000, 65535, 65536, 65537, 262144, 262145, 1 << 20};
    static char body[1 << 20];
    int fd = rc_connect(&srv);
    (void)state;

    fill(body, sizeof(body));
    for (size_t i = 0; i < PS_ARRAY_LEN(sizes); i++) {
        char head[128];
        snprintf(head, sizeof(head),
                 "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", sizes[i]);
        assert_true(rc_send_c(fd, head) && rc_send(fd, body, sizes[i]));
        rc_answer a = rc_read(fd, false);
        assert_int_equal(a.status, 200);
        assert_int_equal(a.body_len, sizes[i]);
        assert_memory_equal(a.body, body, sizes[i]);
        rc_done(&a);
    }
    rc_expect(fd, "POST /echo HTTP/1.1\r\nHost: x\r\n\r\n", 200); /* no length: no body */
    close(fd);
}

static bool
send_chunk(int fd, const char *bytes, size_t len)
{
    char head[32];

    snprintf(head, sizeof(head), "%zx;ext=1\r\n", len);
    return rc_send_c(fd, head) && rc_send(fd, bytes, len) && rc_send_c(fd, "\r\n");
}

static void
test_chunked_body(void **state)
{
    static const size_t steps[] = {1, 7, 100, 4096, 70000, 300000};
    static char body[400000];
    int fd = rc_connect(&srv);
    (void)state;

    fill(body, sizeof(body));
    for (size_t i = 0; i < PS_ARRAY_LEN(steps); i++) {
        size_t total = i == 0 ? 50 : sizeof(body) / (i == 1 ? 100 : 1);
        assert_true(
            rc_send_c(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
        for (size_t at = 0; at < total; at += steps[i]) {
            size_t len = total - at < steps[i] ? total - at : steps[i];
            assert_true(send_chunk(fd, body + at, len));
        }
        assert_true(rc_send_c(fd, "0\r\nTrailer: x\r\n\r\n"));
        rc_answer a = rc_read(fd, false);
        assert_int_equal(a.status, 200);
        assert_int_equal(a.body_len, total);
        assert_memory_equal(a.body, body, total);
        rc_done(&a);
    }
    close(fd);
}

static void
test_too_large_a_body(void **state)
{
    static char body[3 << 20];
    int fd = rc_connect(&srv);
    (void)state;

    /* Exactly the limit, then one more: small, so it is read and the connection lives on. */
    char text[1200];
    size_t n = (size_t)snprintf(text, sizeof(text),
                                "POST /tiny HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    memset(text + n, 'x', 1000);
    assert_true(rc_send(fd, text, n + 1000));
    rc_answer a = rc_read(fd, false);
    assert_int_equal(a.status, 200);
    rc_done(&a);
    n = (size_t)snprintf(text, sizeof(text),
                         "POST /tiny HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n");
    memset(text + n, 'x', 1001);
    assert_true(rc_send(fd, text, n + 1001));
    a = rc_read(fd, false);
    assert_int_equal(a.status, 413);
    rc_done(&a);
    rc_expect(fd, "GET /show HTTP/1.1\r\nHost: x\r\n\r\n", 200);

    /* Large: the answer is there before the body was sent; the rest is still taken. */
    rc_expect(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3145728\r\n\r\n", 413);
    assert_true(rc_send(fd, body, sizeof(body)));
    rc_wait_closed(fd);
    close(fd);

    /* Chunked: nobody knows before the limit is crossed. */
    fd = rc_connect(&srv);
    assert_true(
        rc_send_c(fd, "POST /tiny HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
    assert_true(send_chunk(fd, body, 600));
    assert_true(send_chunk(fd, body, 600));
    a = rc_read(fd, false);
    assert_int_equal(a.status, 413);
    assert_true(rc_has_header(&a, "Connection: close"));
    rc_done(&a);
    assert_true(send_chunk(fd, body, 100000)); /* still taken */
    assert_true(rc_send_c(fd, "0\r\n\r\n"));
    rc_wait_closed(fd);
    close(fd);
    assert_true(rc_metric(&srv, "promscale_http_requests_refused_total{reason=\"too_large\"} ") ==
                3);
}

static void
test_expect_continue(void **state)
{
    int fd = rc_connect(&srv);
    (void)state;

    rc_expect(fd,
              "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
              100);
    expect_body(fd, "hello", 200, "hello");
    /* Refused before it is sent: no 100, and the body never comes. */
    rc_expect(
        fd,
        "POST /tiny HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n",
        413);
    rc_wait_closed(fd);
    close(fd);
    fd = rc_connect(&srv);
    rc_expect(fd,
              "POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
              404);
    close(fd);
}

/* ---- order, keep-alive ------------------------------------------------------------------------- */

static void
test_pipelined_requests_in_order(void **state)
{
    char text[4096];
    size_t n = 0;
    int fd = rc_connect(&srv);
    (void)state;

    for (int i = 0; i < 20; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n,
                              "GET /later?n=%d&ms=%d HTTP/1.1\r\nHost: x\r\n\r\n", i, (20 - i) % 3);
    assert_true(rc_send(fd, text, n));
    for (int i = 0; i < 20; i++) {
        rc_answer a = rc_read(fd, false);
        char want[16];
        snprintf(want, sizeof(want), "%d\n", i);
        assert_int_equal(a.status, 200);
        assert_string_equal(a.body, want);
        rc_done(&a);
    }
    close(fd);
}

static void
test_http_1_0_closes(void **state)
{
    int fd = rc_connect(&srv);
    (void)state;

    assert_true(rc_send_c(fd, "GET /show HTTP/1.0\r\n\r\n"));
    rc_wait_closed(fd);
    close(fd);
    fd = rc_connect(&srv);
    rc_expect(fd, "GET /show HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200);
    rc_wait_closed(fd);
    close(fd);
}

static void
test_ten_thousand_requests_on_one_connection(void **state)
{
    static const char request[] = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    int fd = rc_connect(&srv);
    (void)state;

    for (int i = 0; i < 10000; i++) {
        char buf[512];
        size_t n = 0;
        assert_true(rc_send(fd, request, sizeof(request) - 1));
        while (n < 4 || memcmp(buf + n - 3, "abc", 3) != 0) {
            ssize_t got = recv(fd, buf + n, sizeof(buf) - n, 0);
            assert_true(got > 0);
            n += (size_t)got;
        }
        assert_memory_equal(buf, "HTTP/1.1 200 ", 13);
    }
    close(fd);
}

/* ---- errors as JSON, statuses --------------------------------------------------------------------- */

static void
test_every_status_has_its_number(void **state)
{
    (void)state;
    for (int st = 0; st < PS_STATUS_MAX; st++) {
        int code = http_status_of((ps_status)st);
        assert_true(code >= 200 && code < 600 && code != 429);
        if (st != PS_EINTERNAL)
            assert_int_not_equal(code, 500);
    }
    assert_int_equal(http_status_of(PS_EUNAVAILABLE), 503);
    assert_int_equal(http_status_of(PS_EINVAL), 400);
    assert_int_equal(http_status_of(PS_ELIMIT), 413);
    assert_int_equal(http_status_of((ps_status)999), 500);
}

static void
test_random_bytes(void **state)
{
    uint64_t x = 0x9e3779b97f4a7c15u;
    (void)state;

    for (int round = 0; round < 300; round++) {
        static const char *const words[] = {"GET ",
                                            "POST ",
                                            "/echo",
                                            "/show?",
                                            " HTTP/1.1",
                                            "\r\n",
                                            "Host: x",
                                            ": ",
                                            "Content-Length: 5",
                                            "Transfer-Encoding: chunked",
                                            "\r\n\r\n",
                                            "5\r\n",
                                            "0",
                                            "%",
                                            "\xff\x01",
                                            "Expect: 100-continue"};
        char text[600];
        size_t n = 0;
        int fd = rc_connect(&srv);
        while (n < 400) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            const char *w = words[x % PS_ARRAY_LEN(words)];
            size_t len = strlen(w);
            memcpy(text + n, w, len);
            n += len;
            if (x % 61 == 0)
                break;
        }
        (void)rc_send(fd, text, n);
        close(fd);
    }
    int fd = rc_connect(&srv);
    rc_expect(fd, "GET /show HTTP/1.1\r\nHost: x\r\n\r\n", 200);
    close(fd);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods_and_paths),
        cmocka_unit_test(test_bad_heads_are_refused),
        cmocka_unit_test(test_too_large_a_head),
        cmocka_unit_test(test_body_sizes),
        cmocka_unit_test(test_chunked_body),
        cmocka_unit_test(test_too_large_a_body),
        cmocka_unit_test(test_expect_continue),
        cmocka_unit_test(test_pipelined_requests_in_order),
        cmocka_unit_test(test_http_1_0_closes),
        cmocka_unit_test(test_ten_thousand_requests_on_one_connection),
        cmocka_unit_test(test_every_status_has_its_number),
        cmocka_unit_test(test_random_bytes),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
