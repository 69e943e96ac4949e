/*
 * test_limits.c - clients that are slow, too many, too greedy or gone; and an orderly end with all of
 * them inside. Each test has a server of its own with limits small enough to be hit.
 */
#include "connector/http/internal.h"
#include "tests/unit/connector/http/rawclient.h"

#include <dirent.h>
#include <sched.h>
#include <stdatomic.h>

static const char show[] = "GET /show HTTP/1.1\r\nHost: x\r\n\r\n";

/* Sends one byte every 20 ms until the server closes; how long that took. */
static int64_t
dribble(int fd, const char *text)
{
    int64_t begun = rc_now_ms();

    while (rc_now_ms() - begun < 8000) {
        char c;
        if (!rc_send(fd, *text ? text : "a", 1))
            break;
        text += *text != 0;
        if (recv(fd, &c, 1, MSG_DONTWAIT) == 0)
            break;
        rc_sleep_ms(20);
    }
    return rc_now_ms() - begun;
}

static void
test_slow_heads(void **state)
{
    rc_server s;
    (void)state;

    rc_start(&s, (http_server_config){.head_timeout_ms = 1000, .idle_timeout_ms = 10000});
    int fd = rc_connect(&s);
    int64_t took = dribble(fd, "GET /show HTTP/1.1\r\nHost: x\r\nX: ");
    assert_in_range(took, 300, 7000);
    close(fd);
    fd = rc_connect(&s); /* says nothing at all */
    took = rc_wait_closed(fd);
    assert_in_range(took, 300, 7000);
    close(fd);
    /* On a connection that has served: idle it may be for long, a head must still be quick. */
    fd = rc_connect(&s);
    rc_expect(fd, show, 200);
    rc_sleep_ms(1500);
    rc_expect(fd, show, 200);
    took = dribble(fd, "GET /show HTTP/1.1\r\nHost: x\r\nX: ");
    assert_in_range(took, 300, 7000);
    close(fd);
    assert_true(rc_metric(&s, "promscale_http_timeouts_total{phase=\"head\"} ") == 3);
    rc_stop(&s);
}

static void
test_slow_bodies(void **state)
{
    rc_server s;
    (void)state;

    rc_start(&s, (http_server_config){.body_timeout_ms = 400});
    int fd = rc_connect(&s);
    int64_t took = dribble(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
    assert_in_range(took, 400, 7000);
    close(fd);
    fd = rc_connect(&s);
    took = dribble(fd,
                   "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n");
    assert_in_range(took, 400, 7000);
    close(fd);
    assert_true(rc_metric(&s, "promscale_http_timeouts_total{phase=\"body\"} ") == 2);
    /* The handler's time is not the client's. */
    fd = rc_connect(&s);
    rc_expect(fd, "GET /later?ms=1200&n=1 HTTP/1.1\r\nHost: x\r\n\r\n", 200);
    close(fd);
    rc_stop(&s);
}

static void
test_idle_connections_are_closed(void **state)
{
    rc_server s;
    (void)state;

    rc_start(&s, (http_server_config){.idle_timeout_ms = 300});
    int fd = rc_connect(&s);
    rc_expect(fd, show, 200);
    int64_t took = rc_wait_closed(fd);
    assert_in_range(took, 200, 7000);
    close(fd);
    assert_true(rc_metric(&s, "promscale_http_timeouts_total{phase=\"head\"} ") == 0);
    rc_stop(&s);
}

static void
test_reader_that_does_not_read(void **state)
{
    static char body[1 << 20];
    rc_server s;
    int fd, small = 4096;
    (void)state;

    rc_start(&s, (http_server_config){.body_timeout_ms = 500});
    fd = rc_connect(&s);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    for (int i = 0; i < 8; i++) { /* pipelined, so that the answers exceed all buffers */
        if (!rc_send_c(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n") ||
            !rc_send(fd, body, sizeof(body)))
            break;
    }
    for (int i = 0; i < 6000 && rc_metric(&s, "promscale_http_connections ") > 0; i++)
        rc_sleep_ms(10);
    assert_true(rc_metric(&s, "promscale_http_connections ") == 0);
    assert_true(rc_metric(&s, "promscale_http_timeouts_total{phase=\"answer\"} ") +
                    rc_metric(&s, "promscale_http_timeouts_total{phase=\"body\"} ") >=
                1);
    close(fd);
    rc_stop(&s);
}

/* ---- clients that leave ------------------------------------------------------------------------ */

static void
test_client_leaves_in_the_middle_of_a_body(void **state)
{
    rc_server s;
    (void)state;

    rc_start(&s, (http_server_config){.body_pool_bytes = 1 << 20});
    for (int i = 0; i < 50; i++) { /* far more than the pool, were it not given back */
        static char part[200000];
        int fd = rc_connect(&s);
        assert_true(
            rc_send_c(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n"));
        assert_true(rc_send(fd, part, sizeof(part)));
        close(fd);
        if (i % 4 == 0)
            rc_sleep_ms(10);
    }
    rc_sleep_ms(200); /* the last ones may not even be accepted yet */
    for (int i = 0; i < 6000 && rc_metric(&s, "promscale_http_connections ") > 0; i++)
        rc_sleep_ms(10);
    assert_true(rc_metric(&s, "promscale_http_connections ") == 0); /* long before any deadline */
    int fd = rc_connect(&s);
    static char body[900000];
    assert_true(rc_send_c(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n"));
    assert_true(rc_send(fd, body, sizeof(body)));
    rc_answer a = rc_read(fd, false);
    assert_int_equal(a.status, 200);
    rc_done(&a);
    close(fd);
    rc_stop(&s);
}

static void
test_client_leaves_while_it_waits(void **state)
{
    rc_server s;
    (void)state;

    rc_start(&s, (http_server_config){.max_connections = 0});
    int fd = rc_connect(&s);
    assert_true(rc_send_c(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"));
    rc_wait_held(&s, 1);
    assert_false(http_client_gone(s.held[0]));
    close(fd);
    for (int i = 0; i < 6000 && !http_client_gone(s.held[0]); i++)
        rc_sleep_ms(10);
    assert_true(http_client_gone(s.held[0]));
    assert_true(rc_metric(&s, "promscale_http_clients_gone_total ") == 1);
    rc_release(&s); /* into the void, without a fuss */
    for (int i = 0; i < 6000 && rc_metric(&s, "promscale_http_connections ") > 0; i++)
        rc_sleep_ms(10);
    assert_true(rc_metric(&s, "promscale_http_connections ") == 0);
    assert_true(rc_metric(&s, "promscale_http_requests_in_flight ") == 0);
    rc_stop(&s);
}

/* ---- too many, too much ------------------------------------------------------------------------ */

enum { CLIENTS = 200, EACH = 20 };

static void *
busy_client(void *self)
{
    rc_server *s = self;
    int fd = rc_connect(s);

    for (int i = 0; i < EACH; i++) {
        char text[160], want[16];
        snprintf(text, sizeof(text),
                 "POST /later?ms=%d&n=%d HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd",
                 i % 3, i);
        snprintf(want, sizeof(want), "%d\n", i);
        assert_true(rc_send_c(fd, text));
        rc_answer a = rc_read(fd, false);
        assert_int_equal(a.status, 200);
        assert_string_equal(a.body, want);
        rc_done(&a);
    }
    close(fd);
    return NULL;
}

static void
test_two_hundred_connections(void **state)
{
    pthread_t t[CLIENTS];
    rc_server s;
    (void)state;

    rc_start(&s, (http_server_config){.max_connections = 0});
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, busy_client, &s), 0);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < 6000 && rc_metric(&s, "promscale_http_connections ") > 0; i++)
        rc_sleep_ms(10);
    assert_true(rc_metric(&s, "promscale_http_requests_total{path=\"/later\",code=\"200\"} ") ==
                CLIENTS * EACH);
    assert_true(rc_metric(&s, "promscale_http_requests_in_flight ") == 0);
    assert_true(rc_metric(&s, "promscale_http_connections ") == 0);
    rc_stop(&s);
}

static void
test_connection_limit(void **state)
{
    rc_server s;
    int fd[3];
    (void)state;

    rc_start(&s, (http_server_config){.max_connections = 3});
    for (int i = 0; i < 3; i++) {
        fd[i] = rc_connect(&s);
        rc_expect(fd[i], show, 200);
    }
    for (int i = 1; i < 3; i++)
        assert_true(rc_send_c(fd[i], "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"));
    rc_wait_held(&s, 2);
    /* The fourth waits until the one that idles has been idle for a while, which is then closed. */
    int fourth = rc_connect(&s);
    int64_t begun = rc_now_ms();
    rc_expect(fourth, show, 200);
    assert_true(rc_now_ms() - begun >= 500);
    rc_wait_closed(fd[0]);
    assert_true(rc_send_c(fourth, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"));
    rc_wait_held(&s, 3);
    /* The fifth waits until somebody leaves: nobody idles, nobody is thrown out. */
    int fifth = rc_connect(&s);
    assert_true(rc_send_c(fifth, show));
    rc_sleep_ms(1500);
    char c;
    assert_int_equal(recv(fifth, &c, 1, MSG_DONTWAIT), -1);
    close(fd[1]);
    rc_release(&s);
    rc_answer a = rc_read(fifth, false);
    assert_int_equal(a.status, 200);
    rc_done(&a);
    close(fd[0]);
    close(fd[2]);
    close(fourth);
    close(fifth);
    rc_stop(&s);
}

/* Shares the only processor that the library's threads may use with them, who yield. */
static void *
greedy_thread(void *self)
{
    const atomic_int *done = self;
    while (!atomic_load(done))
        continue;
    return NULL;
}

/* The library's threads run last on one processor, where somebody else is at work: the doorman takes connections far
 * quicker than they are looked at. Returns how many threads. */
static int
starve_library(const cpu_set_t *cpu)
{
    const struct sched_param none = {0};
    DIR *tasks = opendir("/proc/self/task");
    int n = 0;

    assert_non_null(tasks);
    for (const struct dirent *e; (e = readdir(tasks)) != NULL;) {
        char path[300], name[32] = "";
        (void)snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
        FILE *f = fopen(path, "r");
        if (f == NULL)
            continue;
        if (fgets(name, sizeof name, f) != NULL && strncmp(name, "MHD-", 4) == 0) {
            const pid_t id = (pid_t)strtol(e->d_name, NULL, 10);
            assert_int_equal(sched_setaffinity(id, sizeof *cpu, cpu), 0);
            assert_int_equal(sched_setscheduler(id, SCHED_IDLE, &none), 0);
            n++;
        }
        fclose(f);
    }
    closedir(tasks);
    return n;
}

/* The library is slow in taking what the doorman hands it: that counts as well, or a limit of the library's own would be
 * met, after which it hangs. */
static void
test_more_at_once_than_may_be(void **state)
{
    enum { AT_ONCE = 400 };
    static int fds[AT_ONCE];
    cpu_set_t all, one;
    pthread_t greedy;
    atomic_int done = 0;
    rc_server s;
    int cpu = 0;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    while (!CPU_ISSET(cpu, &all))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    rc_start(&s, (http_server_config){.max_connections = 4});
    for (int64_t begun = rc_now_ms(); starve_library(&one) < 2; rc_sleep_ms(1)) /* they name themselves */
        assert_true(rc_now_ms() - begun < 60000);
    assert_int_equal(pthread_create(&greedy, NULL, greedy_thread, &done), 0);
    assert_int_equal(pthread_setaffinity_np(greedy, sizeof one, &one), 0);
    for (int i = 0; i < AT_ONCE; i++)
        fds[i] = rc_connect_port(s.port);
    rc_sleep_ms(200);
    pthread_mutex_lock(&s.http->lock);
    assert_in_range(http_n_taken(s.http), 0, 4);
    pthread_mutex_unlock(&s.http->lock);
    for (int i = 0; i < AT_ONCE; i++)
        close(fds[i]);
    atomic_store(&done, 1);
    pthread_join(greedy, NULL);
    int fd = rc_connect(&s);
    rc_expect(fd, show, 200);
    close(fd);
    rc_stop(&s);
}

static void
test_body_pool(void **state)
{
    static char body[600000];
    rc_server s;
    (void)state;

    rc_start(&s, (http_server_config){.body_pool_bytes = 1 << 20});
    int one = rc_connect(&s), two = rc_connect(&s);
    assert_true(rc_send_c(one, "POST /hold HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\n\r\n"));
    assert_true(rc_send(one, body, sizeof(body)));
    rc_wait_held(&s, 1);
    assert_true(rc_send_c(two, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\n\r\n"));
    (void)rc_send(two, body, sizeof(body));
    rc_answer a = rc_read(two, false);
    assert_int_equal(a.status, 503);
    assert_true(rc_has_header(&a, "Retry-After: 1"));
    rc_done(&a);
    close(two);
    assert_true(rc_metric(&s, "promscale_http_requests_refused_total{reason=\"busy\"} ") == 1);
    rc_release(&s);
    a = rc_read(one, false);
    assert_int_equal(a.status, 200);
    rc_done(&a);
    /* Who announces much and sends nothing keeps nobody out. */
    int lazy[20];
    for (int i = 0; i < 20; i++) {
        lazy[i] = rc_connect(&s);
        assert_true(
            rc_send_c(lazy[i], "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx"));
    }
    rc_sleep_ms(100);
    assert_true(rc_send_c(one, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\n\r\n"));
    assert_true(rc_send(one, body, sizeof(body)));
    a = rc_read(one, false);
    assert_int_equal(a.status, 200);
    rc_done(&a);
    for (int i = 0; i < 20; i++)
        close(lazy[i]);
    close(one);
    rc_stop(&s);
}

/* ---- start and stop ---------------------------------------------------------------------------- */

static void
test_addresses(void **state)
{
    static const char *const bad[] = {"",
                                      "localhost",
                                      "127.0.0.1:",
                                      "127.0.0.1:http",
                                      "127.0.0.1:99999999",
                                      "::1:80",
                                      "no.such.host.invalid:80"};
    rc_server s;
    http_server *other = NULL;
    ps_err err;
    (void)state;

    rc_start(&s, (http_server_config){.max_connections = 0});
    http_server_config config = {.listen_address = http_server_address(s.http),
                                 .max_connections = 1,
                                 .head_timeout_ms = 1000,
                                 .body_timeout_ms = 1000,
                                 .idle_timeout_ms = 1000,
                                 .log = s.log,
                                 .metrics = s.metrics};
    assert_int_equal(http_server_start(&config, &other, &err), PS_EUNAVAILABLE);
    assert_non_null(strstr(err.text, "already in use"));
    assert_non_null(strstr(err.text, "--web.listen-address"));
    for (size_t i = 0; i < PS_ARRAY_LEN(bad); i++) {
        config.listen_address = bad[i];
        assert_int_not_equal(http_server_start(&config, &other, &err), PS_OK);
        assert_non_null(strstr(err.text, "listen address"));
    }
    config.listen_address = "localhost:0";
    assert_int_equal(http_server_start(&config, &other, &err), PS_OK);
    http_server_stop(other, 0);
    rc_stop(&s);
}

static void
test_quiesce(void **state)
{
    rc_server s;
    (void)state;

    rc_start(&s, (http_server_config){.max_connections = 0});
    int open = rc_connect(&s), waits = rc_connect(&s), half = rc_connect(&s), post = rc_connect(&s);
    rc_expect(open, show, 200);
    assert_true(rc_send_c(waits, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_true(rc_send_c(half, "GET /show HTTP/1.1\r\n"));
    assert_true(rc_send_c(post, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab"));
    rc_wait_held(&s, 1);
    for (int i = 0; i < 6000 && http_server_open_requests(s.http) < 2; i++)
        rc_sleep_ms(5);
    assert_int_equal(http_server_open_requests(s.http), 2);
    http_server_quiesce(s.http);
    assert_true(rc_send_c(open, show));
    rc_answer a = rc_read(open, false);
    assert_int_equal(a.status, 503);
    assert_true(rc_has_header(&a, "Connection: close"));
    assert_true(rc_has_header(&a, "Retry-After: 1"));
    rc_done(&a);
    rc_expect(half, "Host: x\r\n\r\n", 503); /* its head came too late */
    rc_expect(post, "cd", 503);              /* its body too */
    int late = -1;
    for (int i = 0; i < 200; i++) { /* new connections are refused as soon as the doorman knows */
        if ((late = rc_connect_port(s.port)) < 0)
            break;
        close(late);
        rc_sleep_ms(5);
    }
    assert_true(late < 0);
    rc_release(&s); /* who was inside before gets the answer */
    a = rc_read(waits, false);
    assert_int_equal(a.status, 200);
    rc_done(&a);
    close(open);
    close(waits);
    close(half);
    close(post);
    rc_stop(&s);
}

static void
test_stop_answers_those_that_wait(void **state)
{
    enum { N = 20 };
    rc_server s;
    int fd[N];
    (void)state;

    rc_start(&s, (http_server_config){.max_connections = 0});
    for (int i = 0; i < N; i++) {
        fd[i] = rc_connect(&s);
        assert_true(
            rc_send_c(fd[i], "POST /hold HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"));
    }
    rc_wait_held(&s, N);
    int64_t begun = rc_now_ms();
    http_server_stop(s.http, 300);
    assert_in_range(rc_now_ms() - begun, 250, 8000);
    for (int i = 0; i < N; i++) {
        rc_answer a = rc_read(fd[i], false);
        assert_int_equal(a.status, 503);
        rc_done(&a);
        close(fd[i]);
    }
    /* The handlers' answers come when the server is gone: the requests are still theirs. */
    for (int i = 0; i < N; i++) {
        assert_true(ps_str_eq_c(http_body(s.held[i]), "ab"));
        http_set_header(s.held[i], "X-Late", "1");
    }
    rc_release(&s);
    metrics_free(s.metrics);
    log_free(s.log);
    pthread_mutex_destroy(&s.lock);
}

static atomic_int stop_clients;

static void *
restless_client(void *self)
{
    rc_server *s = self;

    while (!atomic_load(&stop_clients)) {
        int fd = rc_connect_port(s->port);
        if (fd < 0)
            break;
        for (int i = 0; i < 50 && rc_send_c(fd, "GET /later?ms=1&n=1 HTTP/1.1\r\nHost: x\r\n\r\n");
             i++) {
            rc_answer a = rc_read(fd, false);
            bool ok = a.status == 200;
            assert_true(ok || a.status == 503 || a.status == 0);
            rc_done(&a);
            if (!ok)
                break;
        }
        close(fd);
    }
    return NULL;
}

static void
test_stop_under_load(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++) {
        pthread_t t[8];
        rc_server s;
        atomic_store(&stop_clients, 0);
        rc_start(&s, (http_server_config){.max_connections = 0});
        for (int i = 0; i < 8; i++)
            assert_int_equal(pthread_create(&t[i], NULL, restless_client, &s), 0);
        rc_sleep_ms(30 + round * 7);
        http_server_stop(s.http, round % 2 ? 2000 : 0);
        atomic_store(&stop_clients, 1);
        for (int i = 0; i < 8; i++)
            pthread_join(t[i], NULL);
        rc_sleep_ms(30); /* late answers of detached threads */
        metrics_free(s.metrics);
        log_free(s.log);
    }
}

/* Requests that the library itself refuses, at the moment of the stop. */
static void *
babbling_client(void *self)
{
    static const char *const words[] = {
        "GET / HTTP/1.1\r\nno colon\r\n\r\n", "POST /echo HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "\xff\x01 / HTTP/9.9\r\n\r\n",
        "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n"};
    rc_server *s = self;

    for (size_t i = 0; !atomic_load(&stop_clients); i++) {
        int fd = rc_connect_port(s->port);
        if (fd < 0)
            break;
        (void)rc_send_c(fd, words[i % PS_ARRAY_LEN(words)]);
        close(fd);
    }
    return NULL;
}

static void
test_stop_beside_garbage(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        pthread_t t[4];
        rc_server s;
        atomic_store(&stop_clients, 0);
        rc_start(&s, (http_server_config){.max_connections = 0});
        for (int i = 0; i < 4; i++)
            assert_int_equal(pthread_create(&t[i], NULL, babbling_client, &s), 0);
        rc_sleep_ms(10 + round);
        int64_t begun = rc_now_ms();
        http_server_stop(s.http, 10000);
        assert_true(rc_now_ms() - begun < 8000); /* nobody had to be waited for */
        atomic_store(&stop_clients, 1);
        for (int i = 0; i < 4; i++)
            pthread_join(t[i], NULL);
        metrics_free(s.metrics);
        log_free(s.log);
        pthread_mutex_destroy(&s.lock);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow_heads),
        cmocka_unit_test(test_slow_bodies),
        cmocka_unit_test(test_idle_connections_are_closed),
        cmocka_unit_test(test_reader_that_does_not_read),
        cmocka_unit_test(test_client_leaves_in_the_middle_of_a_body),
        cmocka_unit_test(test_client_leaves_while_it_waits),
        cmocka_unit_test(test_two_hundred_connections),
        cmocka_unit_test(test_connection_limit),
        cmocka_unit_test(test_more_at_once_than_may_be),
        cmocka_unit_test(test_body_pool),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_quiesce),
        cmocka_unit_test(test_stop_answers_those_that_wait),
        cmocka_unit_test(test_stop_under_load),
        cmocka_unit_test(test_stop_beside_garbage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
