/*
 * test_settings.c - the four sources and their precedence, ranges, unknown and double keys, and the
 * table itself. Each setting is tried through each source, so a new row is tested by being there.
 */
#include "tests/unit/support.h"

#include <stdio.h>
#include <unistd.h>

#include "connector/config/table.h"

typedef struct loaded {
    settings *s;
    settings_outcome outcome;
    int rest;
    ps_status status;
    ps_err err;
} loaded;

enum { MAX_ARGS = 16 };

/* argv and envp as NULL-terminated lists. */
static loaded
load(char *const *argv, char *const *envp)
{
    loaded l = {.s = NULL};
    int argc = 0;

    while (argv[argc])
        argc++;
    l.status = settings_load(argc, argv, envp, &l.s, &l.outcome, &l.rest, &l.err);
    return l;
}

#define ARGS(...) ((char *[]){__VA_ARGS__, NULL})
#define NOTHING ((char *[]){NULL})

static void
expect_error(char *const *argv, char *const *envp, const char *part)
{
    loaded l = load(argv, envp);

    assert_int_not_equal(l.status, PS_OK);
    if (strstr(l.err.text, part) == NULL)
        fail_msg("error \"%s\" does not contain \"%s\"", l.err.text, part);
}

/* A file with this text; its name in path (of at least 32 bytes). */
static void
write_file(char *path, const char *text)
{
    strcpy(path, "/tmp/ps-settings-XXXXXX");
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static loaded
load_file(const char *text)
{
    char path[32];

    write_file(path, text);
    loaded l = load(ARGS("--config", path), NOTHING);
    unlink(path);
    return l;
}

static void
expect_file_error(const char *text, const char *part)
{
    loaded l = load_file(text);

    assert_int_not_equal(l.status, PS_OK);
    if (strstr(l.err.text, part) == NULL)
        fail_msg("error \"%s\" does not contain \"%s\"", l.err.text, part);
}

/* ---- the table ------------------------------------------------------------------------------- */

static void
test_every_default_is_accepted(void **state)
{
    (void)state;
    loaded l = load(NOTHING, NOTHING);

    assert_int_equal(l.status, PS_OK);
    assert_string_equal(l.s->web_listen_address, "127.0.0.1:9201");
    assert_int_equal(l.s->embedded_shared_buffers, 128 << 20);
    assert_int_equal(l.s->ingest_max_body_bytes, 16 << 20);
    assert_int_equal(l.s->ingest_timeout_ms, 20000);
    assert_true(l.s->self_scrape);
    assert_false(l.s->startup_only);
    assert_false(l.s->db_is_external);
    settings_free(l.s);
}

static void
test_names_are_unique_and_fields_do_not_overlap(void **state)
{
    (void)state;
    for (size_t i = 0; i < settings_count; i++) {
        assert_true(settings_table[i].help[0] != 0);
        assert_int_equal(setting_find(ps_str_c(settings_table[i].name)), (int)i);
        for (size_t k = 0; k < i; k++)
            assert_true(settings_table[i].offset != settings_table[k].offset);
    }
}

/* A value that every source must bring through, different from the default. */
static void
other_value(const setting *def, char *dst, size_t cap)
{
    switch (def->kind) {
    case SETTING_BOOL:
        snprintf(dst, cap, "%s", strcmp(def->def, "true") == 0 ? "false" : "true");
        break;
    case SETTING_INT:
        snprintf(dst, cap, "%lld", (long long)(def->min + 1));
        break;
    case SETTING_SIZE:
        snprintf(dst, cap, "%lld",
                 (long long)(def->max > 100 << 20 ? (100 << 20) + 7 : def->min + 7));
        break;
    case SETTING_DURATION:
        snprintf(dst, cap, "%lldms", (long long)(def->min + 11));
        break;
    case SETTING_CHOICE: {
        const char *last = strrchr(def->choices, '|') + 1;
        snprintf(dst, cap, "%s", strcmp(def->def, last) == 0 ? "verify-full" : last);
        break;
    }
    case SETTING_STRING:
        snprintf(dst, cap, "%s",
                 strcmp(def->name, "otlp.translation-strategy") == 0 ? "NoTranslation"
                                                                     : "/some-thing");
        break;
    }
}

static bool
same_value(const setting *def, const settings *s, const char *text)
{
    settings *one = calloc(1, sizeof(*one));
    ps_err err;
    bool same;

    assert_int_equal(setting_assign(one, setting_find(ps_str_c(def->name)), text, "test", &err),
                     PS_OK);
    const char *a = (const char *)s + def->offset, *b = (const char *)one + def->offset;
    if (def->kind == SETTING_STRING || def->kind == SETTING_CHOICE)
        same = strcmp(*(const char *const *)a, *(const char *const *)b) == 0;
    else if (def->kind == SETTING_BOOL)
        same = *(const bool *)a == *(const bool *)b;
    else
        same = *(const int64_t *)a == *(const int64_t *)b;
    settings_free(one);
    return same;
}

static void
test_every_setting_through_every_source(void **state)
{
    (void)state;
    for (size_t i = 0; i < settings_count; i++) {
        const setting *def = &settings_table[i];
        char value[64], flag[128], env_name[96], env[192], text[192], path[32], config[64];
        /* the file itself; and what is refused without its companion */
        if (strcmp(def->name, "config") == 0 ||
            strcmp(def->name, "otlp.ignore-resource-attributes") == 0)
            continue;
        other_value(def, value, sizeof(value));
        snprintf(flag, sizeof(flag), "-%s=%s", def->name, value);
        setting_env_name(def, env_name, sizeof(env_name));
        snprintf(env, sizeof(env), "%s=%s", env_name, value);
        snprintf(text, sizeof(text), "%s: \"%s\"\n", def->name, value);
        write_file(path, text);
        snprintf(config, sizeof(config), "--config=%s", path);
        loaded by[3] = {load(ARGS(flag), NOTHING), load(NOTHING, ARGS(env)),
                        load(ARGS(config), NOTHING)};
        unlink(path);
        for (size_t k = 0; k < 3; k++) {
            if (by[k].status != PS_OK)
                fail_msg("%s, source %zu: %s", def->name, k, by[k].err.text);
            assert_true(same_value(def, by[k].s, value));
            assert_true(strcmp(value, def->def) == 0 || !same_value(def, by[k].s, def->def) ||
                        def->def[0] == 0);
            settings_free(by[k].s);
        }
    }
}

static void
test_companions(void **state)
{
    (void)state;
    loaded l = load(ARGS("--otlp.ignore-resource-attributes=a"), NOTHING);
    assert_int_equal(l.status, PS_EINVAL);
    l = load(ARGS("--otlp.ignore-resource-attributes=a", "--otlp.promote-all-resource-attributes"),
             NOTHING);
    assert_int_equal(l.status, PS_OK);
    assert_string_equal(l.s->otlp_ignore_resource_attributes, "a");
    settings_free(l.s);
    l = load(ARGS("--otlp.promote-resource-attributes=a", "--otlp.promote-all-resource-attributes"),
             NOTHING);
    assert_int_equal(l.status, PS_EINVAL);
    l = load(ARGS("--otlp.translation-strategy=None"), NOTHING);
    assert_int_equal(l.status, PS_EINVAL);
}

static void
test_ranges_hold_at_both_ends(void **state)
{
    (void)state;
    for (size_t i = 0; i < settings_count; i++) {
        const setting *def = &settings_table[i];
        const char *unit = def->kind == SETTING_DURATION ? "ms" : "";
        char flag[128];
        if (def->kind != SETTING_INT && def->kind != SETTING_SIZE && def->kind != SETTING_DURATION)
            continue;
        assert_true(def->min < def->max);
        snprintf(flag, sizeof(flag), "--%s=%lld%s", def->name, (long long)def->max + 1, unit);
        expect_error(ARGS(flag), NOTHING, "out of range");
        if (def->min > 0) {
            snprintf(flag, sizeof(flag), "--%s=%lld%s", def->name, (long long)def->min - 1, unit);
            expect_error(ARGS(flag), NOTHING, "out of range");
        }
    }
}

/* ---- precedence ------------------------------------------------------------------------------ */

static void
test_precedence(void **state)
{
    char path[32], config[64];
    (void)state;

    write_file(
        path, "web:\n  listen-address: 127.0.0.1:1001\n  idle-timeout: 11s\n  head-timeout: 12s\n");
    snprintf(config, sizeof(config), "--config=%s", path);
    loaded l = load(ARGS(config, "--web.listen-address=127.0.0.1:1003"),
                    ARGS("PROMSCALE_WEB_LISTEN_ADDRESS=127.0.0.1:1002",
                         "PROMSCALE_WEB_IDLE_TIMEOUT=21s", "HOME=/x"));
    assert_int_equal(l.status, PS_OK);
    assert_string_equal(l.s->web_listen_address,
                        "127.0.0.1:1003");             /* flag over environment and file */
    assert_int_equal(l.s->web_idle_timeout_ms, 21000); /* environment over file */
    assert_int_equal(l.s->web_head_timeout_ms, 12000); /* file over default */
    assert_int_equal(l.s->web_body_timeout_ms, 60000); /* default */
    settings_free(l.s);

    /* The file may be named by the environment; an empty variable is as good as none. */
    snprintf(config, sizeof(config), "PROMSCALE_CONFIG=%s", path);
    l = load(NOTHING, ARGS(config, "PROMSCALE_WEB_HEAD_TIMEOUT="));
    assert_int_equal(l.status, PS_OK);
    assert_int_equal(l.s->web_head_timeout_ms, 12000);
    settings_free(l.s);
    unlink(path);
}

/* ---- flags ----------------------------------------------------------------------------------- */

static void
test_flag_spellings(void **state)
{
    (void)state;
    loaded l = load(ARGS("-db.port", "6000", "--db.host=h", "-self-scrape=false", "--startup.only",
                         "--db.port=6001", "--", "-c", "select 1"),
                    NOTHING);
    assert_int_equal(l.status, PS_OK);
    assert_int_equal(l.s->db_port, 6001); /* the last one wins */
    assert_string_equal(l.s->db_host, "h");
    assert_false(l.s->self_scrape);
    assert_true(l.s->startup_only);
    assert_true(l.s->db_is_external);
    assert_int_equal(l.rest, 7);
    settings_free(l.s);

    expect_error(ARGS("--web.listen-adress=x"), NOTHING, "did you mean --web.listen-address");
    expect_error(ARGS("--no-such-thing-at-all"), NOTHING, "unknown flag");
    expect_error(ARGS("--self-scrape", "false"), NOTHING, "unexpected argument \"false\"");
    expect_error(ARGS("--db.port"), NOTHING, "needs a value");
    expect_error(ARGS("--db.port=x"), NOTHING, "--db.port: \"x\" is not a whole number");
    expect_error(ARGS("--self-scrape=perhaps"), NOTHING, "neither true nor false");
    expect_error(ARGS("--telemetry.log.level=loud"), NOTHING, "error|warn|info|debug");
    expect_error(ARGS("--telemetry.log.level="), NOTHING, "is not one of");
    expect_error(ARGS("--web.head-timeout=15"), NOTHING, "is not a duration");
    expect_error(ARGS("--ingest.max-body-bytes=12parsec"), NOTHING, "is not a size");
    expect_error(ARGS("--version=3"), NOTHING, "takes no value");
}

static void
test_environment_mistakes(void **state)
{
    (void)state;
    expect_error(NOTHING, ARGS("PROMSCALE_WEB_LISTEN_ADRESS=x"),
                 "PROMSCALE_WEB_LISTEN_ADRESS is no setting");
    expect_error(NOTHING, ARGS("PROMSCALE_DB_PORT=99999"),
                 "PROMSCALE_DB_PORT: 99999 is out of range");
    /* What Kubernetes puts there for a service called promscale is none of ours. */
    loaded l =
        load(NOTHING,
             ARGS("PROMSCALE_SERVICE_HOST=10.0.0.1", "PROMSCALE_SERVICE_PORT_HTTP=9201",
                  "PROMSCALE_PORT=tcp://10.0.0.1:9201", "PROMSCALE_PORT_9201_TCP_ADDR=10.0.0.1"));
    assert_int_equal(l.status, PS_OK);
    settings_free(l.s);
}

static void
test_databases_exclude_each_other(void **state)
{
    (void)state;
    expect_error(ARGS("--db.uri=postgres://h/d", "--data-dir=x"), NOTHING,
                 "--data-dir and --db.uri exclude");
    expect_error(ARGS("--db.uri=postgres://h/d"), ARGS("PROMSCALE_DB_HOST=h"),
                 "--db.uri and PROMSCALE_DB_HOST exclude");
    expect_error(ARGS("--db.name=d"), ARGS("PROMSCALE_DATA_DIR=x"),
                 "PROMSCALE_DATA_DIR and --db.name exclude");
    expect_error(ARGS("--db.uri=postgres://h/d", "--db.app=a"), NOTHING, "exclude each other");
    expect_error(ARGS("--data-dir="), NOTHING, "data-dir is empty");
    expect_error(ARGS("--web.telemetry-path=metrics"), NOTHING, "not a plain path");
    expect_error(ARGS("--ingest.max-body-bytes=8MB", "--ingest.queue-bytes=4MB"), NOTHING,
                 "larger than");
    loaded l = load(ARGS("--db.app=a", "--data-dir=x"), NOTHING);
    assert_int_equal(l.status, PS_OK);
    assert_false(l.s->db_is_external);
    settings_free(l.s);
}

/* ---- the file -------------------------------------------------------------------------------- */

static void
test_file_forms(void **state)
{
    (void)state;
    loaded l = load_file(
        "# a comment\nweb.listen-address: \"127.0.0.1:1\"\ningest:\n  max-series: 7\n"
        "metrics:\n  cache:\n    series.max-bytes: 2MB\nself-scrape: no\ndb:\n  password: ''\n");
    if (l.status != PS_OK)
        fail_msg("%s", l.err.text);
    assert_string_equal(l.s->web_listen_address, "127.0.0.1:1");
    assert_int_equal(l.s->ingest_max_series, 7);
    assert_int_equal(l.s->cache_series_max_bytes, 2 << 20);
    assert_false(l.s->self_scrape);
    assert_false(l.s->db_is_external); /* an empty value names nothing */
    settings_free(l.s);
    l = load_file("");
    assert_int_equal(l.status, PS_OK);
    settings_free(l.s);
    l = load_file("# nothing but this\n");
    assert_int_equal(l.status, PS_OK);
    settings_free(l.s);
}

static void
test_file_mistakes(void **state)
{
    (void)state;
    expect_file_error("web:\n  listen-adress: x\n", ":2: unknown setting web.listen-adress");
    expect_file_error("web:\n  head-timeout: 1s\nweb.head-timeout: 2s\n",
                      ":3: web.head-timeout is set a second time");
    expect_file_error("db.port: 1\ndb.port: 1\n", "first in line 1");
    expect_file_error("\n\ndb.port: 70000\n", ":3): 70000 is out of range");
    expect_file_error("db.port: [1, 2]\n", ":1: a value must be");
    expect_file_error("db:\n  - port: 1\n", "a value must be");
    expect_file_error("- db.port\n", "expected \"key: value\"");
    expect_file_error("just text\n", "expected \"key: value\"");
    expect_file_error("db.host:\n", "db.host has no value");
    expect_file_error("db.host: ~\n", "db.host has no value");
    expect_file_error("a: &x 1\n", "unknown setting a");
    expect_file_error("db.host: &x h\ndb.user: *x\n", "a value must be");
    expect_file_error("db.host: \"h\n", "not YAML");
    expect_file_error("\tdb.host: h\n", "not YAML");
    expect_file_error("config: other.yml\n", "cannot be set in the file");
    expect_file_error("db.port: 1\n---\ndb.host: h\n", "second document");
    expect_file_error("a:\n b:\n  c:\n   d:\n    e:\n     f:\n      g:\n       h: 1\n",
                      "nested too deep");
    expect_file_error("? [a, b]\n: c\n", "plain text");
    expect_file_error("db.host: \"a\\0b\"\n", "NUL");
    expect_error(ARGS("--config=/nonexistent/p.yml"), NOTHING, "cannot read the settings file");
}

static void
test_any_text_is_survived(void **state)
{
    uint64_t x = 88172645463325252u;
    (void)state;

    for (int round = 0; round < 400; round++) {
        char text[200];
        static const char alphabet[] = "abdw.:- \n\n\t[]{}&*?|>'\"#%!@`~\\0wx,";
        size_t n = 0;
        for (; n < sizeof(text) - 1; n++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            text[n] = alphabet[x % (sizeof(alphabet) - 1)];
        }
        text[n] = 0;
        loaded l = load_file(text);
        if (l.status == PS_OK)
            settings_free(l.s);
        else
            assert_true(l.err.text[0] != 0);
    }
}

/* What is shown of a setting is read back as the same, and never a password. */
static void
test_shown(void **state)
{
    loaded l = load(ARGS("--db.host=h", "--db.password=hush", "--web.idle-timeout=90m",
                         "--ingest.max-body-bytes=3MB", "--telemetry.log.level=warn"),
                    NOTHING);
    loaded uri = load(ARGS("--db.uri=postgres://me:hush@h/db"), NOTHING);
    const char *name;
    bool is_text;
    ps_buf value;
    size_t n = 0;

    (void)state;
    ps_buf_init(&value, &ps_malloc);
    assert_int_equal(l.status, PS_OK);
    assert_int_equal(uri.status, PS_OK);
    for (; settings_show(l.s, n, &name, &is_text, &value); n++) {
        char text[300];
        snprintf(text, sizeof(text), "%.*s", (int)value.len, value.ptr ? value.ptr : "");
        assert_null(strstr(text, "hush"));
        if (strcmp(name, "db.password") == 0)
            assert_string_equal(text, "<secret>");
        else if (strcmp(name, "web.idle-timeout") == 0)
            assert_string_equal(text, "1h30m");
        else if (strcmp(name, "ingest.max-body-bytes") == 0)
            assert_string_equal(text, "3MB");
        else
            assert_int_equal(setting_assign(l.s, (int)n, text, "test", &l.err), PS_OK);
    }
    assert_int_equal(n, settings_count);
    settings_show_named(uri.s, "db.uri", &value);
    assert_true(ps_str_eq_c(ps_buf_str(&value), "<secret>"));
    settings_show_named(uri.s, "no.such", &value);
    assert_int_equal(value.len, 0);
    ps_buf_done(&value);
    settings_free(l.s);
    settings_free(uri.s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_default_is_accepted),
        cmocka_unit_test(test_names_are_unique_and_fields_do_not_overlap),
        cmocka_unit_test(test_every_setting_through_every_source),
        cmocka_unit_test(test_companions),
        cmocka_unit_test(test_ranges_hold_at_both_ends),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_flag_spellings),
        cmocka_unit_test(test_environment_mistakes),
        cmocka_unit_test(test_databases_exclude_each_other),
        cmocka_unit_test(test_file_forms),
        cmocka_unit_test(test_file_mistakes),
        cmocka_unit_test(test_any_text_is_survived),
        cmocka_unit_test(test_shown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
