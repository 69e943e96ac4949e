/*
 * test_pg.c - verdicts, connection strings, binary arrays: what needs no server. (What needs one is
 * tested with the write path.)
 */
#include "connector/pg/pg.h"
#include "tests/unit/support.h"

static void
test_verdicts(void **state)
{
    (void)state;
    static const struct {
        const char *sqlstate;
        pg_verdict verdict;
    } cases[] = {
        {"PS001", PG_VERDICT_GENERATION}, /* guard */
        {"", PG_VERDICT_RETRY},
        {NULL, PG_VERDICT_RETRY},
        {"08006", PG_VERDICT_RETRY},
        {"40001", PG_VERDICT_RETRY},
        {"40P01", PG_VERDICT_RETRY},
        {"53100", PG_VERDICT_RETRY}, /* disk full */
        {"53200", PG_VERDICT_RETRY},
        {"53300", PG_VERDICT_RETRY},
        {"55P03", PG_VERDICT_RETRY},
        {"57014", PG_VERDICT_RETRY},
        {"57P01", PG_VERDICT_RETRY},
        {"57P03", PG_VERDICT_RETRY},
        {"58030", PG_VERDICT_RETRY},
        {"25006", PG_VERDICT_RETRY}, /* read-only */
        {"22003", PG_VERDICT_DATA},
        {"22021", PG_VERDICT_DATA}, /* bad encoding */
        {"22023", PG_VERDICT_DATA},
        {"22P05", PG_VERDICT_DATA},
        {"23514", PG_VERDICT_DATA},
        {"54000", PG_VERDICT_DATA},
        {"22P03", PG_VERDICT_BUG}, /* our own encoding: never a reason to throw samples away */
        {"22P04", PG_VERDICT_BUG},
        {"23505", PG_VERDICT_BUG}, /* a sequence behind its table */
        {"23502", PG_VERDICT_BUG},
        {"42P01", PG_VERDICT_BUG},
        {"42501", PG_VERDICT_BUG},
        {"XX000", PG_VERDICT_BUG},
        {"XX001", PG_VERDICT_BUG},
        {"P0001", PG_VERDICT_BUG},
    };
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        if (pg_verdict_of_state(cases[i].sqlstate) != cases[i].verdict)
            print_message("%s\n", cases[i].sqlstate);
        assert_int_equal(pg_verdict_of_state(cases[i].sqlstate), cases[i].verdict);
    }
    assert_int_equal(pg_status_of(PG_VERDICT_RETRY), PS_EUNAVAILABLE);
    assert_int_equal(pg_status_of(PG_VERDICT_GENERATION), PS_ECONFLICT);
    assert_int_equal(pg_status_of(PG_VERDICT_DATA), PS_EINVAL);
    assert_int_equal(pg_status_of(PG_VERDICT_BUG), PS_EINTERNAL);
    assert_int_equal(pg_verdict_of(NULL, NULL), PG_VERDICT_RETRY);
}

static settings
no_settings(void)
{
    return (settings){.db_uri = "",
                      .db_app = "",
                      .db_host = "",
                      .db_user = "",
                      .db_password = "",
                      .db_name = "",
                      .db_ssl_mode = ""};
}

static const char *
option(PQconninfoOption *options, const char *key)
{
    for (; options->keyword != NULL; options++) {
        if (strcmp(options->keyword, key) == 0)
            return options->val;
    }
    return NULL;
}

static PQconninfoOption *
parsed(const settings *s)
{
    ps_buf out;
    ps_err err;
    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(pg_conninfo(s, &out, &err), PS_OK);
    ps_buf_add_char(&out, '\0');
    PQconninfoOption *options = PQconninfoParse(out.ptr, NULL);
    assert_non_null(options);
    ps_buf_done(&out);
    return options;
}

static void
test_conninfo_from_parts(void **state)
{
    (void)state;
    settings s = no_settings();
    s.db_host = "db.example.net";
    s.db_port = 6543;
    s.db_user = "o'brien";
    s.db_password = "back\\slash and 'quote'";
    s.db_name = "metrics";
    s.db_app = "mine";
    PQconninfoOption *options = parsed(&s);
    assert_string_equal(option(options, "host"), "db.example.net");
    assert_string_equal(option(options, "port"), "6543");
    assert_string_equal(option(options, "user"), "o'brien");
    assert_string_equal(option(options, "password"), "back\\slash and 'quote'");
    assert_string_equal(option(options, "dbname"), "metrics");
    assert_string_equal(option(options, "application_name"), "mine");
    assert_null(option(options, "sslmode"));
    PQconninfoFree(options);
}

static void
test_conninfo_from_uri(void **state)
{
    (void)state;
    settings s = no_settings();
    s.db_uri = "postgres://me:s%27ecret@h1:1,h2:2/db%20name"
               "?target_session_attrs=read-write&sslmode=require";
    PQconninfoOption *options = parsed(&s);
    assert_string_equal(option(options, "host"), "h1,h2");
    assert_string_equal(option(options, "port"), "1,2");
    assert_string_equal(option(options, "password"), "s'ecret");
    assert_string_equal(option(options, "dbname"), "db name");
    assert_string_equal(option(options, "target_session_attrs"), "read-write");
    assert_string_equal(option(options, "sslmode"), "require");
    PQconninfoFree(options);
}

static void
test_secrets_stay_out_of_errors(void **state)
{
    (void)state;
    settings s = no_settings();
    ps_buf out;
    ps_err err;
    PGconn *conn;
    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(pg_conninfo(&s, &out, &err), PS_EINVAL); /* nothing is set */
    s.db_uri = "postgres://me:hunter2%zz@host/";
    assert_int_equal(pg_conninfo(&s, &out, &err), PS_EINVAL);
    assert_null(strstr(err.text, "hunter2"));
    assert_int_equal(pg_connect("hunter2 without an equals sign", "test", 1000, &conn, &err),
                     PS_EINVAL);
    assert_null(strstr(err.text, "hunter2"));
    assert_int_equal(pg_connect("host=/nonexistent password=hunter2 dbname=x", "test", 1000, &conn,
                                &err),
                     PS_EUNAVAILABLE);
    assert_null(strstr(err.text, "hunter2"));
    assert_null(strchr(err.text, '\n'));
    ps_buf_done(&out);
}

static void
test_binary_arrays(void **state)
{
    (void)state;
    ps_buf out;
    ps_err err;
    int64_t numbers[3] = {0};
    int32_t small[2] = {0};
    ps_buf_init(&out, &ps_malloc);
    pg_put_array(&out, PG_OID_INT8, 3);
    for (int64_t v = -1; v <= 1; v++) {
        pg_put_u32(&out, 8);
        pg_put_u64(&out, (uint64_t)(v * INT64_C(1000000000000)));
    }
    assert_int_equal(pg_array_length(ps_buf_str(&out)), 3);
    assert_int_equal(pg_get_int8_array(ps_buf_str(&out), 3, numbers, &err), PS_OK);
    assert_true(numbers[0] == INT64_C(-1000000000000) && numbers[1] == 0 &&
                numbers[2] == INT64_C(1000000000000));
    assert_int_equal(pg_get_int8_array(ps_buf_str(&out), 2, numbers, &err), PS_ECORRUPT);
    assert_int_equal(pg_get_int4_array(ps_buf_str(&out), 3, small, &err), PS_ECORRUPT);
    for (size_t cut = 0; cut < out.len; cut++) { /* never read beyond a cut */
        char *exact = test_exact_copy(out.ptr, cut);
        assert_int_equal(pg_get_int8_array((ps_str){exact, cut}, 3, numbers, &err), PS_ECORRUPT);
        free(exact);
    }
    ps_buf_clear(&out);
    pg_put_array(&out, PG_OID_INT8, 0);
    assert_int_equal(pg_array_length(ps_buf_str(&out)), 0);
    assert_int_equal(pg_get_int8_array(ps_buf_str(&out), 0, numbers, &err), PS_OK);
    ps_buf_done(&out);
}

static void
test_times(void **state)
{
    (void)state;
    assert_true(pg_timestamp_of_ms(INT64_C(946684800000)) == 0);
    assert_true(pg_timestamp_of_ms(0) == INT64_C(-946684800000000));
    assert_true(pg_timestamp_of_ms(-1) == INT64_C(-946684800001000));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),          cmocka_unit_test(test_conninfo_from_parts),
        cmocka_unit_test(test_conninfo_from_uri), cmocka_unit_test(test_secrets_stay_out_of_errors),
        cmocka_unit_test(test_binary_arrays),     cmocka_unit_test(test_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
