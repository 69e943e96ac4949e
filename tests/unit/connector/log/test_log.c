/*
 * test_log.c - lines as they arrive on the descriptor: form, escaping, levels, rate limit, and that
 * threads do not mix them.
 */
#include "tests/unit/support.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "connector/log/log.h"

typedef struct sink {
    int fds[2];
    logger *lg;
    char text[65536];
} sink;

static void
sink_open(sink *k, const char *format, const char *level)
{
    ps_err err;

    assert_int_equal(pipe(k->fds), 0);
    assert_int_equal(log_new(k->fds[1], format, level, &k->lg, &err), PS_OK);
}

/* What was written; ends the logger. */
static const char *
sink_read(sink *k)
{
    size_t len = 0;
    ssize_t n;

    log_free(k->lg);
    close(k->fds[1]);
    while ((n = read(k->fds[0], k->text + len, sizeof(k->text) - 1 - len)) > 0)
        len += (size_t)n;
    k->text[len] = 0;
    close(k->fds[0]);
    return k->text;
}

/* The text after the time stamp, which is checked for its form. */
static const char *
after_ts(const char *line, const char *prefix)
{
    int y, mo, d, h, mi, s, ms, n = 0;

    assert_true(strncmp(line, prefix, strlen(prefix)) == 0);
    assert_int_equal(sscanf(line + strlen(prefix), "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &y, &mo, &d,
                            &h, &mi, &s, &ms, &n),
                     7);
    assert_true(y >= 2024 && n == 24);
    return line + strlen(prefix) + n;
}

static void
test_logfmt(void **state)
{
    static sink k;
    (void)state;

    sink_open(&k, "logfmt", "info");
    log_info(k.lg, "all is well", LOG_STR("path", "/a/b"), LOG_INT("n", -5), LOG_DOUBLE("r", 0.25),
             LOG_STR("empty", ""), LOG_STR("odd", "a \"b\"\n\tc=\\d"));
    log_debug(k.lg, "not seen");
    assert_string_equal(after_ts(sink_read(&k), "ts="),
                        " level=info msg=\"all is well\" path=/a/b n=-5 r=0.25 empty=\"\" "
                        "odd=\"a \\\"b\\\"\\n\\tc=\\\\d\"\n");
}

static void
test_json(void **state)
{
    static sink k;
    (void)state;

    sink_open(&k, "json", "debug");
    log_debug(k.lg, "plain", LOG_STR("s", "a\x01\"b"), LOG_INT("n", 7),
              LOG_DOUBLE("nan", __builtin_nan("")));
    assert_string_equal(
        after_ts(sink_read(&k), "{\"ts\":\""),
        "\",\"level\":\"debug\",\"msg\":\"plain\",\"s\":\"a\\u0001\\\"b\",\"n\":7,\"nan\":\"NaN\"}\n");
}

static void
test_levels(void **state)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    (void)state;

    for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
        static sink k;
        int lines = 0;
        sink_open(&k, "logfmt", names[level]);
        log_error(k.lg, "e");
        log_warn(k.lg, "w");
        log_info(k.lg, "i");
        log_debug(k.lg, "d");
        for (const char *p = sink_read(&k); (p = strchr(p, '\n')) != NULL; p++)
            lines++;
        assert_int_equal(lines, level + 1);
    }
    logger *lg;
    ps_err err;
    assert_int_equal(log_new(2, "xml", "info", &lg, &err), PS_EINVAL);
    assert_int_equal(log_new(2, "json", "loud", &lg, &err), PS_EINVAL);
    assert_false(log_enabled(NULL, LOG_ERROR));
}

static void
test_hostile_values_stay_in_one_line(void **state)
{
    static sink k;
    static char big[100000];
    (void)state;

    memset(big, 'x', sizeof(big));
    sink_open(&k, "json", "info");
    log_info(k.lg, "m", LOG_SLICE("bad", PS_STR("a\xff\xc0z")),
             LOG_SLICE("big", ((ps_str){big, sizeof(big)})),
             LOG_SLICE("big2", ((ps_str){big, sizeof(big)})),
             LOG_SLICE("big3", ((ps_str){big, sizeof(big)})),
             LOG_SLICE("big4", ((ps_str){big, sizeof(big)})),
             LOG_SLICE("big5", ((ps_str){big, sizeof(big)})), LOG_INT("last", 1));
    const char *text = sink_read(&k);
    size_t len = strlen(text);
    assert_true(len < 4200);
    assert_true(ps_utf8_valid((ps_str){text, len}));
    assert_ptr_equal(strchr(text, '\n'), text + len - 1);
    assert_string_equal(text + len - 2, "}\n");
    assert_non_null(strstr(text, "\"bad\":\"a??z\""));
    assert_non_null(strstr(text, "xxx...\""));
    int quotes = 0;
    for (const char *p = text; *p; p++)
        quotes += *p == '"';
    assert_int_equal(quotes % 2, 0);
}

static void
test_rate_limit(void **state)
{
    static sink k;
    (void)state;

    sink_open(&k, "logfmt", "info");
    for (int i = 0; i < 5; i++)
        log_limited(k.lg, LOG_WARN, 1000, "often", NULL, 0);
    log_limited(k.lg, LOG_WARN, 1000, "another", NULL, 0);
    usleep(1100000);
    log_limited(k.lg, LOG_WARN, 1000, "often", NULL, 0);
    const char *text = sink_read(&k), *first = strstr(text, "msg=often\n");
    assert_non_null(first);
    assert_null(strstr(first + 1, "msg=often\n"));
    assert_non_null(strstr(text, "msg=another\n"));
    assert_non_null(strstr(text, "msg=often suppressed=4\n"));
}

enum { THREADS = 4, LINES = 200 };

static void *
write_lines(void *lg)
{
    for (int i = 0; i < LINES; i++) {
        log_info(lg, "from a thread", LOG_STR("a", "aaaaaaaaaaaaaaaaaaaa"), LOG_INT("i", i));
        log_limited(lg, LOG_INFO, 1000000, "once", NULL, 0);
    }
    return NULL;
}

static void
test_threads_do_not_mix_lines(void **state)
{
    pthread_t t[THREADS];
    char line[512];
    ps_err err;
    logger *lg;
    int n = 0, once = 0;
    FILE *f = tmpfile();
    (void)state;

    assert_non_null(f);
    assert_int_equal(log_new(fileno(f), "logfmt", "info", &lg, &err), PS_OK);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, write_lines, lg), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    log_free(lg);
    rewind(f);
    while (fgets(line, sizeof(line), f)) {
        const char *rest = after_ts(line, "ts=");
        bool is_once = strcmp(rest, " level=info msg=once\n") == 0;
        once += is_once;
        assert_true(
            is_once ||
            strncmp(rest, " level=info msg=\"from a thread\" a=aaaaaaaaaaaaaaaaaaaa i=", 57) == 0);
        n++;
    }
    fclose(f);
    assert_int_equal(n, THREADS * LINES + 1);
    assert_int_equal(once, 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logfmt),     cmocka_unit_test(test_json),
        cmocka_unit_test(test_levels),     cmocka_unit_test(test_hostile_values_stay_in_one_line),
        cmocka_unit_test(test_rate_limit), cmocka_unit_test(test_threads_do_not_mix_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
