/*
 * Answers that are sent while they are made: all bytes in order, a maker who waits for its client, and an
 * end for the maker however the client goes.
 */
#include "tests/unit/connector/http/rawclient.h"

static int
begin(rc_server *s, const char *query)
{
    char text[256];
    int fd = rc_connect(s);
    snprintf(text, sizeof(text), "GET /stream?%s HTTP/1.1\r\nHost: x\r\n\r\n", query);
    assert_true(rc_send_c(fd, text));
    return fd;
}

static bool
read_exactly(int fd, char *dst, size_t n)
{
    while (n > 0) {
        ssize_t got = recv(fd, dst, n, 0);
        if (got <= 0)
            return false;
        dst += got;
        n -= (size_t)got;
    }
    return true;
}

/* Length of the next piece of the transfer coding; -1: the connection has ended. */
static ssize_t
read_size(int fd)
{
    char line[32];
    size_t n = 0;
    while (n < sizeof(line) - 1 && (n < 2 || memcmp(line + n - 2, "\r\n", 2) != 0)) {
        if (!read_exactly(fd, line + n, 1))
            return -1;
        n++;
    }
    line[n] = 0;
    return (ssize_t)strtoul(line, NULL, 16);
}

/* Reads the whole answer and returns its length; *ret_complete: it ended as it should. */
static size_t
read_stream(int fd, bool *ret_complete)
{
    rc_answer a = rc_read(fd, true);
    size_t total = 0;
    ssize_t n;
    assert_int_equal(a.status, 200);
    assert_true(rc_has_header(&a, "Transfer-Encoding: chunked"));
    assert_true(rc_has_header(&a, "Content-Type: application/x-stream"));
    rc_done(&a);
    char *piece = malloc(1 << 20);
    *ret_complete = false;
    while ((n = read_size(fd)) >= 0) {
        assert_true(n < 1 << 20);
        if (!read_exactly(fd, piece, (size_t)n + 2))
            break;
        for (ssize_t i = 0; i < n; i++)
            assert_int_equal((uint8_t)piece[i], (total + (size_t)i) % 251);
        total += (size_t)n;
        if (n == 0) {
            *ret_complete = true;
            break;
        }
    }
    free(piece);
    return total;
}

static void
everything_arrives_in_order(void **state)
{
    static const struct {
        const char *query;
        size_t n;
    } cases[] = {{"n=0", 0},           {"n=1", 1},
                 {"n=10000&ms=1", 10000},       {"n=30000000&piece=100000", 30000000},
                 {"n=9000000&piece=3000000", 9000000}, {"n=5000&piece=7", 5000}};
    rc_server s;
    bool complete;
    (void)state;
    rc_start(&s, (http_server_config){0});
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        int fd = begin(&s, cases[i].query);
        assert_int_equal(read_stream(fd, &complete), cases[i].n);
        assert_true(complete);
        rc_expect(fd, "GET /show HTTP/1.1\r\nHost: x\r\n\r\n", 200); /* on the same connection */
        close(fd);
        rc_wait_streams(&s, i + 1);
        assert_int_equal(s.stream, PS_OK);
    }
    rc_stop(&s);
}

static void
an_unfinished_answer_is_cut(void **state)
{
    rc_server s;
    bool complete;
    (void)state;
    rc_start(&s, (http_server_config){0});
    int fd = begin(&s, "n=100000&cut=1");
    assert_int_equal(read_stream(fd, &complete), 100000);
    assert_false(complete);
    rc_wait_closed(fd);
    close(fd);
    rc_wait_streams(&s, 1);
    rc_stop(&s);
}

static void
a_maker_waits_for_its_client(void **state)
{
    rc_server s;
    bool complete;
    (void)state;
    rc_start(&s, (http_server_config){0});
    int fd = begin(&s, "n=40000000&piece=100000");
    rc_sleep_ms(500);
    pthread_mutex_lock(&s.lock);
    assert_int_equal(s.n_streams, 0); /* 40 MB are neither in the ring nor in the sockets */
    pthread_mutex_unlock(&s.lock);
    assert_int_equal(read_stream(fd, &complete), 40000000);
    assert_true(complete);
    close(fd);
    rc_wait_streams(&s, 1);
    rc_stop(&s);
}

/* While bytes are on their way, while the maker has none, and while it waits for room. */
static void
a_client_that_leaves_ends_the_maker(void **state)
{
    static const char *const queries[] = {"n=100000000&piece=1000&ms=1", "n=100&piece=10&ms=1500",
                                          "n=100000000&piece=100000"};
    rc_server s;
    (void)state;
    rc_start(&s, (http_server_config){0});
    for (size_t i = 0; i < PS_ARRAY_LEN(queries); i++) {
        int fd = begin(&s, queries[i]);
        rc_sleep_ms(300);
        close(fd);
        int64_t left = rc_now_ms();
        rc_wait_streams(&s, i + 1);
        assert_int_equal(s.stream, PS_ECANCELED);
        assert_true(s.stream_ended_ms - left < 9000);
    }
    for (int i = 0; i < 6000 && http_server_open_requests(s.http) > 0; i++)
        rc_sleep_ms(10);
    assert_int_equal(http_server_open_requests(s.http), 0);
    rc_stop(&s);
}

static void
a_client_that_takes_nothing_is_left(void **state)
{
    rc_server s;
    (void)state;
    rc_start(&s, (http_server_config){.body_timeout_ms = 2000});
    int fd = begin(&s, "n=100000000&piece=100000");
    rc_wait_streams(&s, 1);
    assert_int_equal(s.stream, PS_ECANCELED);
    close(fd);
    /* ... but not one that is slow: each piece that it takes gives it time. */
    fd = begin(&s, "n=3000&piece=1000&ms=900");
    bool complete;
    assert_int_equal(read_stream(fd, &complete), 3000);
    assert_true(complete);
    close(fd);
    rc_wait_streams(&s, 2);
    rc_stop(&s);
}

static void
a_maker_who_waits_asks_whether_to_go_on(void **state)
{
    rc_server s;
    (void)state;
    rc_start(&s, (http_server_config){0});
    int fd = begin(&s, "n=100000000&piece=100000");
    rc_sleep_ms(200);
    atomic_store(&s.stream_stop, true);
    rc_wait_streams(&s, 1);
    assert_int_equal(s.stream, PS_ETIMEOUT);
    close(fd);
    rc_stop(&s);
}

/* With connections in all states: sending, waiting for bytes, waiting for room. */
static void
the_server_can_be_stopped(void **state)
{
    rc_server s;
    (void)state;
    rc_start(&s, (http_server_config){0});
    int fds[3] = {begin(&s, "n=100000000&piece=1000&ms=1"), begin(&s, "n=100&piece=10&ms=1000"),
                  begin(&s, "n=100000000&piece=100000")};
    rc_sleep_ms(300);
    int64_t begun = rc_now_ms();
    http_server_stop(s.http, 100);
    assert_true(rc_now_ms() - begun < 8000);
    rc_wait_streams(&s, 3);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    metrics_free(s.metrics);
    log_free(s.log);
    pthread_mutex_destroy(&s.lock);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_arrives_in_order),
        cmocka_unit_test(an_unfinished_answer_is_cut),
        cmocka_unit_test(a_maker_waits_for_its_client),
        cmocka_unit_test(a_client_that_leaves_ends_the_maker),
        cmocka_unit_test(a_client_that_takes_nothing_is_left),
        cmocka_unit_test(a_maker_who_waits_asks_whether_to_go_on),
        cmocka_unit_test(the_server_can_be_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
