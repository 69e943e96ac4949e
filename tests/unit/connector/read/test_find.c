/*
 * Finding series, label names and values against a real PostgreSQL: windows, what came just before, limits,
 * giving up, an index that is loaded anew meanwhile.
 */
#include <pthread.h>
#include <unistd.h>

#include "connector/pg/pg.h"
#include "connector/read/find.h"
#include "tests/unit/support.h"

#include "tests/unit/connector/write/cluster.h"

#define HOUR INT64_C(3600000)
#define T0 (INT64_C(1700000000000) / (8 * HOUR) * (8 * HOUR)) /* begins a window */

static cluster server;
static logger *lg;

typedef struct world {
    settings set;
    metrics *m;
    read_store *store;
} world;

static void
sql(const char *text)
{
    PGresult *res = PQexec(server.admin, text);
    ExecStatusType status = PQresultStatus(res);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        print_message("%s: %s", text, PQerrorMessage(server.admin));
    assert_true(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK);
    PQclear(res);
}

static void
begin(world *w)
{
    ps_err err = {0};
    assert_int_equal(cluster_database(&server), 0);
    w->set = (settings){.query_connections = 3,
                        .query_max_bytes = INT64_C(256) << 20,
                        .query_index_max_bytes = INT64_C(64) << 20};
    w->m = metrics_new();
    read_store_config config = {.settings = &w->set,
                                .conninfo = server.conninfo,
                                .log = lg,
                                .metrics = w->m};
    assert_int_equal(read_store_start(&config, &w->store, &err), PS_OK);
    sql("SELECT _prom_catalog.set_setting('retention_period', '0')");
}

static void
end(world *w)
{
    read_store_free(w->store);
    metrics_free(w->m);
}

/* A sample of m<metric>{i="<i>"}. */
static void
put(int m, int i, int64_t t_ms)
{
    char text[512];
    snprintf(text, sizeof(text),
             "SELECT prom_api.create_metric('m%d'); INSERT INTO prom_data.m%d (time, value, series_id)"
             " SELECT to_timestamp(%lld / 1000.0), 1, _prom_catalog.get_or_create_series_id("
             "'{\"__name__\": \"m%d\", \"i\": \"%d\"}')",
             m, m, (long long)t_ms, m, i);
    sql(text);
}

/* What is found, as text: label sets, names (name "") or values; and how it went. */
static ps_status
ask_with(world *w, const read_source_config *config, const read_finding *what, const char *name,
         ps_buf *out, ps_err *err)
{
    read_source *src;
    idx_found found = {0};
    idx_texts texts = {0};
    int32_t tenant_id = -1;
    PS_TRY(read_source_open(w->store, config, &src, err));
    ps_status status = name == NULL     ? read_find(src, what, &found, &tenant_id, err)
                       : name[0] == 0   ? read_find_names(src, what, &texts, err)
                                        : read_find_values(src, what, ps_str_c(name), &texts, err);
    ps_buf_clear(out);
    for (size_t i = 0; status == PS_OK && i < found.n; i++) {
        mdl_format_labels(out, found.items[i].labels.items, found.items[i].labels.n, 0);
        ps_buf_add_char(out, ' ');
    }
    for (size_t i = 0; status == PS_OK && i < texts.n; i++) {
        ps_buf_add_str(out, texts.items[i]);
        ps_buf_add_char(out, ' ');
    }
    ps_buf_add_char(out, 0);
    assert_int_equal(found.n > 0, tenant_id == 0);
    read_source_close(src);
    return status;
}

static void
expect(world *w, const mdl_matcher *m, size_t n_sets, int64_t from_ms, int64_t to_ms,
       const char *name, const char *want)
{
    read_match sets[4];
    ps_buf out;
    ps_err err = {0};
    for (size_t i = 0; i < n_sets; i++)
        sets[i] = (read_match){&m[i], 1};
    read_finding what = {.sets = sets, .n_sets = n_sets, .from_ms = from_ms, .to_ms = to_ms};
    read_source_config config = {.deadline_ns = pg_now_ns() + 20000000000};
    ps_buf_init(&out, &ps_malloc);
    ps_status status = ask_with(w, &config, &what, name, &out, &err);
    if (status != PS_OK)
        print_message("%s\n", err.text);
    assert_int_equal(status, PS_OK);
    assert_string_equal(out.ptr, want);
    ps_buf_done(&out);
}

static const mdl_matcher of_m1 = {MDL_MATCH_EQ, {"__name__", 8}, {"m1", 2}};
static const mdl_matcher any = {MDL_MATCH_RE, {"__name__", 8}, {".+", 2}};

static void
test_windows(void **state)
{
    (void)state;
    world w;
    const mdl_matcher two[] = {{MDL_MATCH_EQ, PS_STR("i"), PS_STR("2")}, of_m1, of_m1};
    begin(&w);
    expect(&w, NULL, 0, INT64_MIN, INT64_MAX, "", "");
    expect(&w, &any, 1, T0, T0, NULL, "");
    put(1, 1, T0);
    put(1, 2, T0 + 8 * HOUR);
    put(2, 2, T0 - 1);
    for (int folded = 0; folded < 2; folded++) {
        expect(&w, &of_m1, 1, INT64_MIN, INT64_MAX, NULL, "m1{i=\"1\"} m1{i=\"2\"} ");
        expect(&w, &of_m1, 1, T0 + 7 * HOUR, T0 + 7 * HOUR, NULL, "m1{i=\"1\"} ");
        expect(&w, &of_m1, 1, T0 + 8 * HOUR, INT64_MAX, NULL, "m1{i=\"2\"} ");
        expect(&w, &of_m1, 1, INT64_MIN, T0 + 8 * HOUR - 1, NULL, "m1{i=\"1\"} ");
        expect(&w, &of_m1, 1, T0 + 1, T0, NULL, "");
        expect(&w, two, 3, T0 - HOUR, T0, NULL, "m1{i=\"1\"} m2{i=\"2\"} ");
        expect(&w, two, 3, INT64_MIN, INT64_MAX, NULL, "m1{i=\"1\"} m1{i=\"2\"} m2{i=\"2\"} ");
        expect(&w, NULL, 0, T0 - HOUR, T0 - HOUR, "__name__", "m2 ");
        expect(&w, NULL, 0, T0, T0 + 9 * HOUR, "__name__", "m1 ");
        expect(&w, two, 2, T0 - HOUR, T0 - HOUR, "i", "2 ");
        expect(&w, NULL, 0, T0 - HOUR, T0, "", "__name__ i ");
        expect(&w, NULL, 0, T0 - 24 * HOUR, T0 - 16 * HOUR, "", "");
        expect(&w, &any, 1, T0, T0, "nothing", "");
        sql("SELECT _prom_ext.merge_step()");
    }
    end(&w);
}

/* Metrics that nobody knew when the question was sent are asked for in another round. */
static void
test_sees_what_came_before(void **state)
{
    (void)state;
    world w;
    char want[512] = "";
    begin(&w);
    for (int i = 1; i <= 9; i++) {
        put(i, i, T0);
        snprintf(want + strlen(want), sizeof(want) - strlen(want), "m%d{i=\"%d\"} ", i, i);
        expect(&w, &any, 1, T0, T0 + 1, NULL, want);
    }
    expect(&w, &any, 1, T0, T0, "i", "1 2 3 4 5 6 7 8 9 ");
    sql("SELECT prom_api.drop_metric('m5')");
    expect(&w, NULL, 0, T0, T0, "i", "1 2 3 4 6 7 8 9 ");
    put(1, 1, T0 + 1);
    sql("UPDATE _prom_catalog.state SET feed_floor = pg_snapshot_xmax(pg_current_snapshot())");
    sql("DELETE FROM _prom_catalog.series_feed");
    sql("SELECT pg_current_xact_id()");
    expect(&w, &any, 1, T0, T0, "i", "1 2 3 4 6 7 8 9 ");
    assert_true(metric_value(metrics_counter(w.m, "promscale_label_index_loads_total", "", "")) >= 2);
    end(&w);
}

static void
test_limits(void **state)
{
    (void)state;
    world w;
    begin(&w);
    sql("SELECT prom_api.create_metric('m1')");
    sql("INSERT INTO prom_data.m1 (time, value, series_id) SELECT to_timestamp(1700000000), 1,"
        " _prom_catalog.get_or_create_series_id(jsonb_build_object('__name__', 'm1', 'i', i::text))"
        " FROM generate_series(1, 2000) i");
    read_match set = {&of_m1, 1};
    read_finding what = {
        .sets = &set, .n_sets = 1, .from_ms = INT64_C(1700000000000), .to_ms = INT64_MAX};
    ps_buf all, some;
    ps_err err;
    ps_buf_init(&all, &ps_malloc);
    ps_buf_init(&some, &ps_malloc);
    read_source_config config = {.deadline_ns = INT64_MAX};
    assert_int_equal(ask_with(&w, &config, &what, NULL, &all, &err), PS_OK);
    size_t refused = 0;
    for (config.max_bytes = 1000; config.max_bytes < 2000000; config.max_bytes *= 2) {
        for (int kind = 0; kind < 3; kind++) {
            ps_status status = ask_with(&w, &config, &what, kind == 0 ? NULL : kind == 1 ? "" : "i",
                                        &some, &err);
            assert_true(status == PS_OK || status == PS_ELIMIT);
            if (status == PS_ELIMIT)
                assert_non_null(strstr(err.text, "query.max-bytes"));
            refused += status == PS_ELIMIT;
        }
    }
    assert_true(refused > 5);
    what.limit = 3;
    config.max_bytes = 0;
    assert_int_equal(ask_with(&w, &config, &what, NULL, &some, &err), PS_OK);
    assert_string_equal(some.ptr, "m1{i=\"1\"} m1{i=\"10\"} m1{i=\"100\"} ");
    assert_true(ps_str_starts(ps_buf_str(&all), (ps_str){some.ptr, some.len - 1}));
    ps_buf_done(&all);
    ps_buf_done(&some);
    end(&w);
}

/* ---- giving up ----------------------------------------------------------------------------------- */

static void *
cancel_later(void *src)
{
    usleep(200000);
    read_source_cancel(src);
    return NULL;
}

static ps_status
ask_locked(world *w, bool cancel, int64_t deadline_ns, ps_err *err)
{
    read_finding what = {.from_ms = T0, .to_ms = T0};
    read_source_config config = {.deadline_ns = deadline_ns};
    read_source *src;
    idx_texts texts;
    pthread_t thread;
    assert_int_equal(read_source_open(w->store, &config, &src, err), PS_OK);
    if (cancel)
        assert_int_equal(pthread_create(&thread, NULL, cancel_later, src), 0);
    ps_status status = read_find_names(src, &what, &texts, err);
    if (cancel)
        pthread_join(thread, NULL);
    read_source_close(src);
    return status;
}

static void
test_cancel_and_deadline(void **state)
{
    (void)state;
    static const char busy[] = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
                               " AND application_name LIKE 'promscale query%'";
    world w;
    ps_err err;
    begin(&w);
    put(1, 1, T0);
    expect(&w, NULL, 0, T0, T0, "", "__name__ i ");
    PGconn *locker = PQconnectdb(server.conninfo);
    PQclear(PQexec(locker, "BEGIN; LOCK TABLE _prom_data.presence IN ACCESS EXCLUSIVE MODE"));
    assert_int_equal(ask_locked(&w, true, INT64_MAX, &err), PS_ECANCELED);
    assert_int_equal(ask_locked(&w, false, pg_now_ns() + 200000000, &err), PS_ETIMEOUT);
    for (int i = 0; i < 3000 && cluster_number(server.admin, busy) > 0; i++)
        usleep(20000);
    assert_int_equal(cluster_number(server.admin, busy), 0); /* in the database, too */
    PQfinish(locker);
    expect(&w, NULL, 0, T0, T0, "", "__name__ i ");
    end(&w);
}

static void
test_damaged_sets_are_an_error(void **state)
{
    (void)state;
    world w;
    ps_err err;
    ps_buf out;
    read_match set = {&of_m1, 1};
    read_finding what = {.sets = &set, .n_sets = 1, .from_ms = T0, .to_ms = T0};
    read_source_config config = {.deadline_ns = INT64_MAX};
    begin(&w);
    put(1, 1, T0);
    sql("SELECT _prom_ext.merge_step()");
    sql("UPDATE _prom_data.presence SET series_ids = set_byte(series_ids, 2, 1)");
    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(ask_with(&w, &config, &what, NULL, &out, &err), PS_EINTERNAL);
    assert_non_null(strstr(err.text, "damaged"));
    ps_buf_done(&out);
    expect(&w, &of_m1, 1, INT64_MIN, INT64_MAX, NULL, "m1{i=\"1\"} ");
    expect(&w, &of_m1, 1, T0 + 24 * HOUR, INT64_MAX, NULL, "");
    end(&w);
}

static int
set_up(void **state)
{
    (void)state;
    ps_err err;
    return log_new(2, "logfmt", "error", &lg, &err) == PS_OK ? cluster_create(&server) : -1;
}

static int
tear_down(void **state)
{
    (void)state;
    cluster_drop(&server);
    log_free(lg);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_sees_what_came_before),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_cancel_and_deadline),
        cmocka_unit_test(test_damaged_sets_are_an_error),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
