/*
 * Selecting and reading against a real PostgreSQL; what SQL says of the same samples is the oracle.
 */
#include <pthread.h>
#include <unistd.h>

#include "connector/read/read.h"
#include "connector/pg/pg.h"
#include "tests/unit/support.h"

#include "tests/unit/connector/write/cluster.h"

enum { WORKERS = 3 };

static cluster server;
static logger *lg;

static settings
some_settings(void)
{
    return (settings){.query_connections = 3,
                      .query_max_bytes = INT64_C(256) << 20,
                      .query_index_max_bytes = INT64_C(64) << 20};
}

typedef struct world {
    settings set;
    metrics *m;
    read_store *store;
} world;

static void
begin(world *w)
{
    ps_err err = {0};
    assert_int_equal(cluster_database(&server), 0);
    w->set = some_settings();
    w->m = metrics_new();
    read_store_config config = {.settings = &w->set,
                                .conninfo = server.conninfo,
                                .log = lg,
                                .metrics = w->m};
    assert_int_equal(read_store_start(&config, &w->store, &err), PS_OK);
}

static void
end(world *w)
{
    read_store_free(w->store);
    metrics_free(w->m);
}

static double
counted(world *w, const char *name)
{
    return metric_value(metrics_counter(w->m, name, "", ""));
}

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

static int64_t
make_series(const char *labels)
{
    char text[1024];
    snprintf(text, sizeof(text), "SELECT _prom_catalog.get_or_create_series_id('%s')", labels);
    return cluster_number(server.admin, text);
}

/* ---- asking ------------------------------------------------------------------------------------- */

typedef struct answer {
    ps_status status;
    ps_err err;
    size_t n_series, n_samples;
    ps_buf text; /* "labels|time|value" lines, by label set and time */
} answer;

static void
add_samples(answer *a, mdl_labels labels, const ev_samples *s)
{
    a->n_series += s->n > 0;
    a->n_samples += s->n;
    for (size_t i = 0; i < s->n; i++) {
        char value[PS_DOUBLE_TEXT];
        ps_format_double(value, s->v[i]);
        mdl_format_labels(&a->text, labels.items, labels.n, 0);
        ps_buf_addf(&a->text, "|%lld|%s\n", (long long)s->t_ms[i], value);
    }
}

static void
read_list_of(answer *a, const ev_source *source, const ev_series_list *list)
{
    for (size_t i = 0; i < list->n && a->status == PS_OK; i++) {
        ev_samples s;
        ev_samples_init(&s, &ps_malloc);
        assert_true(i == 0 || mdl_labels_cmp(list->labels[i - 1], list->labels[i]) < 0);
        a->status = source->read(source->self, list, i, i % WORKERS, &s, &a->err);
        for (size_t k = 1; k < s.n; k++)
            assert_true(s.t_ms[k - 1] < s.t_ms[k]);
        if (a->status == PS_OK)
            add_samples(a, list->labels[i], &s);
        ev_samples_done(&s);
    }
}

static answer
ask_with(read_store *store, const read_source_config *config, const ev_selection *sel)
{
    read_source *src;
    answer a = {.status = PS_OK};
    ev_series_list list = {0};
    ps_buf_init(&a.text, &ps_malloc);
    a.status = read_source_open(store, config, &src, &a.err);
    if (a.status != PS_OK)
        return a;
    ev_source source = read_source_for_engine(src);
    a.status = source.select(source.self, sel, 1, &list, &a.err);
    if (a.status == PS_OK)
        read_list_of(&a, &source, &list);
    read_source_close(src);
    ps_buf_add_char(&a.text, 0);
    return a;
}

static answer
ask(world *w, const mdl_matcher *matchers, size_t n, int64_t from_ms, int64_t to_ms)
{
    read_source_config config = {.n_workers = WORKERS, .deadline_ns = pg_now_ns() + 20000000000};
    ev_selection sel = {matchers, n, from_ms, to_ms, false};
    answer a = ask_with(w->store, &config, &sel);
    if (a.status != PS_OK)
        print_message("%s\n", a.err.text);
    assert_int_equal(a.status, PS_OK);
    return a;
}

static size_t
count(world *w, const char *metric_name)
{
    mdl_matcher m = {MDL_MATCH_EQ, PS_STR("__name__"), ps_str_c(metric_name)};
    answer a = ask(w, &m, 1, MDL_TIME_MIN_MS, MDL_TIME_MAX_MS);
    size_t n = a.n_samples;
    ps_buf_done(&a.text);
    return n;
}

/* ---- tests ---------------------------------------------------------------------------------------- */

static void
test_empty(void **state)
{
    (void)state;
    world w;
    begin(&w);
    assert_int_equal(count(&w, "nothing"), 0);
    read_source_config config = {.tenant = PS_STR("nobody"), .deadline_ns = INT64_MAX};
    ev_selection sel = {NULL, 0, 0, 1000, false};
    answer a = ask_with(w.store, &config, &sel);
    assert_int_equal(a.status, PS_OK);
    ps_buf_done(&a.text);
    end(&w);
}

/* What was committed before the question is in the answer; what was deleted is not. */
static void
test_sees_what_came_before(void **state)
{
    (void)state;
    world w;
    char text[512];
    begin(&w);
    assert_int_equal(count(&w, "m"), 0); /* the index is loaded now, and empty */
    sql("SELECT prom_api.create_metric('m')");
    for (int i = 0; i < 20; i++) {
        snprintf(text, sizeof(text), "{\"__name__\": \"m\", \"i\": \"%d\"}", i);
        int64_t id = make_series(text);
        snprintf(text, sizeof(text),
                 "INSERT INTO prom_data.m (time, value, series_id) VALUES"
                 " (now() + interval '%d s', %d, %lld)",
                 i, i, (long long)id);
        sql(text);
        assert_int_equal(count(&w, "m"), i + 1);
    }
    assert_true(counted(&w, "promscale_query_selections_repeated_total") >= 20);
    assert_int_equal(counted(&w, "promscale_label_index_loads_total"), 1);
    double before = counted(&w, "promscale_query_selections_repeated_total");
    make_series("{\"__name__\": \"other\"}"); /* does not matter for m */
    assert_int_equal(count(&w, "m"), 20);
    assert_true(counted(&w, "promscale_query_selections_repeated_total") == before);
    sql("SELECT _prom_catalog.delete_series_from_metric('m', ARRAY[id]) FROM _prom_catalog.series"
        " WHERE labels[2] = (SELECT id FROM _prom_catalog.label WHERE value = '7')");
    assert_int_equal(count(&w, "m"), 19);
    sql("SELECT prom_api.drop_metric('m')");
    assert_int_equal(count(&w, "m"), 0);
    assert_int_equal(counted(&w, "promscale_label_index_loads_total"), 1);
    end(&w);
}

/* The same metric through SQL, for samples in [from, to]. */
static ps_buf
oracle(const char *metric_name, int64_t from_ms, int64_t to_ms)
{
    char text[1024];
    ps_buf out;
    snprintf(
        text, sizeof(text),
        "SELECT (extract(epoch FROM time) * 1000)::int8, value, prom_api.val(job_id), prom_api.val(inst_id)"
        " FROM prom_metric.%s WHERE time >= to_timestamp(%lld / 1000.0)"
        " AND time <= to_timestamp(%lld / 1000.0) ORDER BY prom_api.val(inst_id) COLLATE \"C\","
        " prom_api.val(job_id) COLLATE \"C\", time",
        metric_name, (long long)from_ms, (long long)to_ms);
    PGresult *res = PQexec(server.admin, text);
    if (PQresultStatus(res) != PGRES_TUPLES_OK)
        print_message("%s\n", PQerrorMessage(server.admin));
    assert_int_equal(PQresultStatus(res), PGRES_TUPLES_OK);
    ps_buf_init(&out, &ps_malloc);
    for (int i = 0; i < PQntuples(res); i++) {
        double v = 0;
        char value[PS_DOUBLE_TEXT];
        assert_int_equal(ps_parse_double(ps_str_c(PQgetvalue(res, i, 1)), &v), PS_OK);
        ps_format_double(value, v);
        ps_buf_addf(&out, "%s{inst=\"%s\",job=\"%s\"}|%s|%s\n", metric_name, PQgetvalue(res, i, 3),
                    PQgetvalue(res, i, 2), PQgetvalue(res, i, 0), value);
    }
    ps_buf_add_char(&out, 0);
    PQclear(res);
    return out;
}

static void
insert_random(test_random *r, const char *metric_name, int64_t base_ms, int64_t span_ms)
{
    char text[2048];
    int64_t from_ms = base_ms + (int64_t)(test_random_u64(r) % (uint64_t)span_ms);
    snprintf(text, sizeof(text),
             "INSERT INTO prom_data.%s (time, value, series_id)"
             " SELECT to_timestamp((%lld + 15000 * k) / 1000.0), (random() * 1000)::int, s"
             " FROM generate_series(0, %d) k, (SELECT _prom_catalog.get_or_create_series_id("
             " jsonb_build_object('__name__', '%s', 'job', 'j' || (i %% 3), 'inst', 'i' || i)) s"
             " FROM generate_series(%d, %d) i) x",
             metric_name, (long long)from_ms, (int)(1 + test_random_u64(r) % 40), metric_name,
             (int)(test_random_u64(r) % 10), (int)(10 + test_random_u64(r) % 10));
    sql(text);
}

static void
compare(world *w, const char *metric_name, int64_t from_ms, int64_t to_ms)
{
    mdl_matcher m = {MDL_MATCH_EQ, PS_STR("__name__"), ps_str_c(metric_name)};
    answer a = ask(w, &m, 1, from_ms, to_ms);
    ps_buf want = oracle(metric_name, from_ms, to_ms);
    assert_string_equal(a.text.ptr, want.ptr);
    ps_buf_done(&want);
    ps_buf_done(&a.text);
}

/* The newest sample of each series, by the long way and the short one. */
static void
compare_newest(world *w, const char *metric_name, int64_t from_ms, int64_t to_ms)
{
    mdl_matcher m = {MDL_MATCH_EQ, PS_STR("__name__"), ps_str_c(metric_name)};
    read_source_config config = {.n_workers = WORKERS, .deadline_ns = INT64_MAX};
    ev_selection sel = {&m, 1, from_ms, to_ms, true};
    answer newest = ask_with(w->store, &config, &sel);
    answer all = ask(w, &m, 1, from_ms, to_ms);
    assert_int_equal(newest.status, PS_OK);
    assert_int_equal(newest.n_series, all.n_series);
    assert_int_equal(newest.n_samples, all.n_series);
    for (char *line = newest.text.ptr, *stop; *line != 0; line = stop + 1) {
        stop = strchr(line, '\n');
        *stop = 0;
        char *found = strstr(all.text.ptr, line); /* it is there, as the last of its series */
        assert_non_null(found);
        char *next = strchr(found, '\n') + 1;
        size_t labels = strcspn(line, "|");
        assert_true(strncmp(next, line, labels + 1) != 0);
    }
    ps_buf_done(&newest.text);
    ps_buf_done(&all.text);
}

/* Samples that overlap, fresh, merged and sealed, of two metrics (both share packed rows). */
static void
test_against_sql(void **state)
{
    (void)state;
    world w;
    test_random r = {4242};
    const int64_t span_ms = 30 * 3600 * 1000;
    begin(&w);
    const int64_t base_ms =
        cluster_number(server.admin,
                       "SELECT extract(epoch FROM date_trunc('day', now()) - interval '3 d')::int8"
                       " * 1000");
    sql("SELECT prom_api.create_metric('a'), prom_api.create_metric('b')");
    for (int round = 0; round < 24; round++) {
        insert_random(&r, "a", base_ms, span_ms);
        insert_random(&r, "b", base_ms, span_ms);
        if (round % 6 == 2)
            sql("SELECT _prom_ext.merge_step()");
        if (round % 12 == 7)
            sql("CALL prom_api.execute_maintenance(force => true)");
        sql("CALL prom_api.execute_maintenance()");
        compare(&w, "a", base_ms - 1, base_ms + 2 * span_ms);
        for (int i = 0; i < 4; i++) {
            int64_t from_ms = base_ms + (int64_t)(test_random_u64(&r) % (uint64_t)span_ms);
            int64_t to_ms = from_ms + (int64_t)(test_random_u64(&r) % (uint64_t)span_ms);
            compare(&w, i % 2 ? "a" : "b", from_ms, to_ms);
            compare_newest(&w, i % 2 ? "b" : "a", from_ms, to_ms);
        }
    }
    assert_true(cluster_number(server.admin, "SELECT count(*) FROM _prom_data.block") +
                    cluster_number(server.admin, "SELECT count(*) FROM _prom_data.block_far") >
                0);
    end(&w);
}

static void
test_trimmed_feed(void **state)
{
    (void)state;
    world w;
    begin(&w);
    assert_int_equal(count(&w, "m"), 0);
    sql("SELECT prom_api.create_metric('m')");
    char text[256];
    snprintf(text, sizeof(text), "INSERT INTO prom_data.m VALUES (now(), 1, %lld)",
             (long long)make_series("{\"__name__\": \"m\"}"));
    sql(text);
    sql("UPDATE _prom_catalog.state SET feed_floor = pg_snapshot_xmax(pg_current_snapshot())");
    sql("DELETE FROM _prom_catalog.series_feed");
    sql("SELECT pg_current_xact_id()");
    assert_int_equal(count(&w, "m"), 1);
    assert_true(counted(&w, "promscale_label_index_loads_total") >= 2);
    end(&w);
}

static void
test_limits(void **state)
{
    (void)state;
    world w;
    begin(&w);
    sql("SELECT prom_api.create_metric('m')");
    sql("INSERT INTO prom_data.m (time, value, series_id)"
        " SELECT now() - interval '1 h' + k * interval '1 s', random(), s"
        " FROM generate_series(1, 3000) k, (SELECT _prom_catalog.get_or_create_series_id("
        " jsonb_build_object('__name__', 'm', 'i', i::text)) s FROM generate_series(1, 20) i) x");
    mdl_matcher m = {MDL_MATCH_EQ, PS_STR("__name__"), PS_STR("m")};
    ev_selection sel = {&m, 1, MDL_TIME_MIN_MS, MDL_TIME_MAX_MS, false};
    read_source_config config = {.n_workers = 1,
                                 .max_bytes = 100000,
                                 .deadline_ns = pg_now_ns() + 20000000000};
    answer a = ask_with(w.store, &config, &sel);
    assert_int_equal(a.status, PS_ELIMIT);
    assert_non_null(strstr(a.err.text, "query.max-bytes"));
    ps_buf_done(&a.text);
    assert_int_equal(count(&w, "m"), 60000); /* others are not affected */
    end(&w);

    begin(&w);
    read_store_free(w.store);
    w.set.query_index_max_bytes = 20000;
    sql("SELECT prom_api.create_metric('m'); INSERT INTO prom_data.m (time, value, series_id)"
        " SELECT now(), 1, _prom_catalog.get_or_create_series_id("
        " jsonb_build_object('__name__', 'm', 'i', i::text)) FROM generate_series(1, 1000) i");
    read_store_config sc = {.settings = &w.set,
                            .conninfo = server.conninfo,
                            .log = lg,
                            .metrics = w.m};
    ps_err err;
    assert_int_equal(read_store_start(&sc, &w.store, &err), PS_OK);
    a = ask_with(w.store, &config, &sel);
    assert_int_equal(a.status, PS_ELIMIT);
    assert_non_null(strstr(a.err.text, "query.index-max-bytes"));
    ps_buf_done(&a.text);
    end(&w);
}

/* ---- waiting, and not waiting any more --------------------------------------------------------- */

typedef struct canceller {
    read_source *src;
    int after_ms;
} canceller;

static void *
cancel_later(void *arg)
{
    canceller *c = arg;
    usleep((useconds_t)c->after_ms * 1000);
    read_source_cancel(c->src);
    return NULL;
}

static int
busy_backends(void)
{
    return (int)cluster_number(server.admin,
                               "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
                               " AND application_name LIKE 'promscale query%'");
}

static ps_status
ask_locked(world *w, int cancel_after_ms, int64_t deadline_ns, ps_err *err)
{
    mdl_matcher m = {MDL_MATCH_EQ, PS_STR("__name__"), PS_STR("m")};
    ev_selection sel = {&m, 1, MDL_TIME_MIN_MS, MDL_TIME_MAX_MS, false};
    ev_series_list list;
    read_source *src;
    pthread_t thread;
    read_source_config config = {.deadline_ns = deadline_ns};
    assert_int_equal(read_source_open(w->store, &config, &src, err), PS_OK);
    canceller c = {src, cancel_after_ms};
    if (cancel_after_ms > 0)
        assert_int_equal(pthread_create(&thread, NULL, cancel_later, &c), 0);
    ev_source source = read_source_for_engine(src);
    ps_status status = source.select(source.self, &sel, 1, &list, err);
    if (cancel_after_ms > 0)
        pthread_join(thread, NULL);
    read_source_close(src);
    return status;
}

static void
test_cancel_and_deadline(void **state)
{
    (void)state;
    world w;
    ps_err err;
    begin(&w);
    sql("SELECT prom_api.create_metric('m')");
    make_series("{\"__name__\": \"m\"}");
    assert_int_equal(count(&w, "m"), 0);
    PGconn *locker = PQconnectdb(server.conninfo);
    PQclear(PQexec(locker, "BEGIN; LOCK TABLE _prom_data.fresh IN ACCESS EXCLUSIVE MODE"));

    assert_int_equal(ask_locked(&w, 200, INT64_MAX, &err), PS_ECANCELED);
    assert_int_equal(ask_locked(&w, 0, pg_now_ns() + 200000000, &err), PS_ETIMEOUT);
    for (int i = 0; i < 3000 && busy_backends() > 0; i++)
        usleep(20000);
    assert_int_equal(busy_backends(), 0); /* in the database, too */

    PQfinish(locker);
    assert_int_equal(count(&w, "m"), 0);
    end(&w);
}

/* The server goes away and comes back: meanwhile a clear error, then answers as before. */
static void
test_restart(void **state)
{
    (void)state;
    world w;
    begin(&w);
    sql("SELECT prom_api.create_metric('m')");
    char text[256];
    snprintf(text, sizeof(text), "INSERT INTO prom_data.m VALUES (now(), 1, %lld)",
             (long long)make_series("{\"__name__\": \"m\"}"));
    sql(text);
    assert_int_equal(count(&w, "m"), 1);
    cluster_stop(&server, "immediate");
    ev_selection sel = {NULL, 0, 0, 1000, false};
    read_source_config config = {.n_workers = 1, .deadline_ns = pg_now_ns() + 20000000000};
    answer a = ask_with(w.store, &config, &sel);
    assert_int_equal(a.status, PS_EUNAVAILABLE);
    assert_true(a.err.text[0] != 0);
    ps_buf_done(&a.text);
    assert_int_equal(cluster_start(&server), 0);
    cluster_connect(&server);
    assert_int_equal(count(&w, "m"), 1);
    end(&w);
}

/* Another database under the same address: nothing that was known holds. */
static void
test_another_database(void **state)
{
    (void)state;
    world w;
    begin(&w);
    make_series("{\"__name__\": \"m\", \"is\": \"old\"}");
    mdl_matcher m = {MDL_MATCH_EQ, PS_STR("is"), PS_STR("old")};
    read_source_config config = {.n_workers = 1, .deadline_ns = pg_now_ns() + 20000000000};
    ev_selection sel = {&m, 1, 0, 1000, false};
    ev_series_list list;
    ps_err err;
    for (int round = 0; round < 2; round++) {
        read_source *src;
        assert_int_equal(read_source_open(w.store, &config, &src, &err), PS_OK);
        ev_source source = read_source_for_engine(src);
        assert_int_equal(source.select(source.self, &sel, 1, &list, &err), PS_OK);
        assert_int_equal(list.n, round == 0 ? 1 : 0);
        read_source_close(src);
        if (round == 0)
            assert_int_equal(cluster_database(&server), 0);
    }
    end(&w);
}

/* ---- many at once ------------------------------------------------------------------------------- */

typedef struct writer {
    world *w;
    int number, wrong;
} writer;

/* Makes a series, asks for it at once; deletes it, asks again. */
static void *
write_and_ask(void *arg)
{
    writer *me = arg;
    PGconn *conn = PQconnectdb(server.conninfo);
    for (int i = 0; i < 40; i++) {
        char text[400], value[40];
        snprintf(value, sizeof(value), "w%d-%d", me->number, i);
        snprintf(text, sizeof(text),
                 "SELECT _prom_catalog.get_or_create_series_id('{\"__name__\": \"m\","
                 " \"who\": \"%s\"}')",
                 value);
        int64_t id = cluster_number(conn, text);
        snprintf(text, sizeof(text), "INSERT INTO prom_data.m VALUES (now(), 1, %lld)",
                 (long long)id);
        PQclear(PQexec(conn, text));
        mdl_matcher m = {MDL_MATCH_EQ, PS_STR("who"), ps_str_c(value)};
        ev_selection sel = {&m, 1, 0, MDL_TIME_MAX_MS, false};
        read_source_config config = {.n_workers = WORKERS,
                                     .deadline_ns = pg_now_ns() + 20000000000};
        answer a = ask_with(me->w->store, &config, &sel);
        me->wrong += a.status != PS_OK || a.n_samples != 1;
        ps_buf_done(&a.text);
        if (i % 4 != 0)
            continue;
        snprintf(text, sizeof(text), "SELECT _prom_catalog.delete_series_rows(ARRAY[%lld::int8])",
                 (long long)id);
        free(cluster_sql(conn, "%s", text));
        a = ask_with(me->w->store, &config, &sel);
        me->wrong += a.status != PS_OK || a.n_samples != 0;
        ps_buf_done(&a.text);
    }
    PQfinish(conn);
    return NULL;
}

static void
test_many_at_once(void **state)
{
    (void)state;
    world w;
    enum { N = 5 };
    pthread_t threads[N];
    writer writers[N];
    begin(&w);
    sql("SELECT prom_api.create_metric('m')");
    for (int i = 0; i < N; i++) {
        writers[i] = (writer){&w, i, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, write_and_ask, &writers[i]), 0);
    }
    for (int i = 0; i < N; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(writers[i].wrong, 0);
    }
    assert_int_equal(counted(&w, "promscale_label_index_loads_total"), 1);
    assert_int_equal(count(&w, "m"), N * 30);
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
        cmocka_unit_test(test_empty),        cmocka_unit_test(test_sees_what_came_before),
        cmocka_unit_test(test_against_sql),  cmocka_unit_test(test_trimmed_feed),
        cmocka_unit_test(test_limits),       cmocka_unit_test(test_cancel_and_deadline),
        cmocka_unit_test(test_restart),      cmocka_unit_test(test_another_database),
        cmocka_unit_test(test_many_at_once),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
