/*
 * A label index that is too small for all series, against a real PostgreSQL: series that begin, die, wake up,
 * are written in the past, folded, sealed and deleted, in random order. What such an index answers is compared
 * with SQL and with an index that holds everything.
 */
#include <pthread.h>
#include <unistd.h>

#include "connector/pg/pg.h"
#include "connector/read/find.h"
#include "tests/unit/support.h"

#include "tests/unit/connector/write/cluster.h"

#define HOUR INT64_C(3600000)
#define DAY (24 * HOUR)

enum { METRICS = 40, SERIES = 100, SMALL_BYTES = 160 << 10, ROUNDS = 120 };

static cluster server;
static logger *lg;
static int64_t now_ms;

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

static void sqlf(const char *fmt, ...) PS_PRINTF(1, 2);

static void
sqlf(const char *fmt, ...)
{
    char text[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    sql(text);
}

static void
begin(world *w, int64_t index_bytes)
{
    ps_err err = {0};
    w->set = (settings){.query_connections = 3,
                        .query_max_bytes = INT64_C(256) << 20,
                        .query_index_max_bytes = index_bytes};
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
counted(const world *w, const char *name)
{
    return metric_value(metrics_counter(w->m, name, "", ""));
}

/* Samples of m<m>{i="<lo>"} to {i="<hi>"}, one each. */
static void
put(int m, int lo, int hi, int64_t t_ms)
{
    sqlf("INSERT INTO prom_data.m%d (time, value, series_id) SELECT to_timestamp(%lld / 1000.0), i,"
         " _prom_catalog.get_or_create_series_id(jsonb_build_object('__name__', 'm%d', 'i', i::text,"
         " 'pod', 'p' || i %% 7)) FROM generate_series(%d, %d) i",
         m, (long long)t_ms, m, lo, hi);
}

/* A long past, and little that still lives. */
static void
make_history(void)
{
    assert_int_equal(cluster_database(&server), 0);
    sql("SELECT _prom_catalog.set_setting('retention_period', '0')");
    now_ms = cluster_number(server.admin, "SELECT (extract(epoch FROM now()) * 1000)::int8");
    for (int m = 0; m < METRICS; m++) {
        sqlf("SELECT prom_api.create_metric('m%d')", m);
        put(m, 1, SERIES, now_ms - 20 * DAY - m * DAY / 4);
        if (m % 4 == 0)
            put(m, 3, 6, now_ms - HOUR);
    }
    sql("CALL prom_api.execute_maintenance(force => true)");
}

/* ---- samples -------------------------------------------------------------------------------------- */

/* "i|time|value" lines; *ret_status is that of the query. */
static ps_buf
ask(world *w, const mdl_matcher *m, size_t n, int64_t from_ms, int64_t to_ms, ps_status *ret_status)
{
    read_source *src;
    ps_err err = {0};
    ps_buf out;
    ev_series_list list = {0};
    read_source_config config = {.n_workers = 1, .deadline_ns = pg_now_ns() + 60000000000};
    ev_selection sel = {m, n, from_ms, to_ms, false};
    ps_buf_init(&out, &ps_malloc);
    assert_int_equal(read_source_open(w->store, &config, &src, &err), PS_OK);
    ev_source source = read_source_for_engine(src);
    *ret_status = source.select(source.self, &sel, 1, &list, &err);
    if (*ret_status != PS_OK)
        ps_buf_add_c(&out, err.text);
    for (size_t i = 0; *ret_status == PS_OK && i < list.n; i++) {
        ev_samples s;
        ev_samples_init(&s, &ps_malloc);
        assert_int_equal(source.read(source.self, &list, i, 0, &s, &err), PS_OK);
        for (size_t k = 0; k < s.n; k++) {
            ps_str label = mdl_labels_get(list.labels[i], PS_STR("i"));
            ps_buf_add_str(&out, label);
            ps_buf_addf(&out, "|%lld|%g\n", (long long)s.t_ms[k], s.v[k]);
        }
        ev_samples_done(&s);
    }
    read_source_close(src);
    ps_buf_add_char(&out, 0);
    return out;
}

static ps_buf
oracle(int m, int i, int64_t from_ms, int64_t to_ms)
{
    char text[1024];
    ps_buf out;
    snprintf(text, sizeof(text),
             "SELECT (prom_api.jsonb(labels) ->> 'i') || '|' || (extract(epoch FROM time) * 1000)::int8 || '|' || value"
             " FROM prom_metric.m%d WHERE time >= to_timestamp(%lld / 1000.0)"
             " AND time <= to_timestamp(%lld / 1000.0) AND (%d = 0 OR prom_api.jsonb(labels) ->> 'i' = '%d')"
             " ORDER BY (prom_api.jsonb(labels) ->> 'i') COLLATE \"C\", time",
             m, (long long)from_ms, (long long)to_ms, i, i);
    PGresult *res = PQexec(server.admin, text);
    if (PQresultStatus(res) != PGRES_TUPLES_OK)
        print_message("%s\n", PQerrorMessage(server.admin));
    assert_int_equal(PQresultStatus(res), PGRES_TUPLES_OK);
    ps_buf_init(&out, &ps_malloc);
    for (int k = 0; k < PQntuples(res); k++)
        ps_buf_addf(&out, "%s\n", PQgetvalue(res, k, 0));
    ps_buf_add_char(&out, 0);
    PQclear(res);
    return out;
}

/* One metric, or one series of it (i > 0). */
static void
compare_samples(world *w, int m, int i, int64_t from_ms, int64_t to_ms)
{
    char name[16], value[16];
    ps_status status;
    snprintf(name, sizeof(name), "m%d", m);
    snprintf(value, sizeof(value), "%d", i);
    const mdl_matcher matchers[] = {{MDL_MATCH_EQ, PS_STR("__name__"), ps_str_c(name)},
                                    {MDL_MATCH_EQ, PS_STR("i"), ps_str_c(value)}};
    ps_buf got = ask(w, matchers, i > 0 ? 2 : 1, from_ms, to_ms, &status);
    ps_buf want = oracle(m, i, from_ms, to_ms);
    assert_string_equal(got.ptr, want.ptr);
    assert_int_equal(status, PS_OK);
    ps_buf_done(&got);
    ps_buf_done(&want);
}

/* ---- labels ----------------------------------------------------------------------------------------- */

/* Series (name NULL), label names ("") or values. */
static ps_buf
find(world *w, const read_finding *what, const char *name, bool *ret_since)
{
    read_source *src;
    idx_found found = {0};
    idx_texts texts = {0};
    ps_err err = {0};
    ps_buf out;
    int64_t since_ms;
    read_source_config config = {.deadline_ns = pg_now_ns() + 60000000000};
    assert_int_equal(read_source_open(w->store, &config, &src, &err), PS_OK);
    ps_status status = name == NULL     ? read_find(src, what, &found, NULL, &err)
                       : name[0] == 0   ? read_find_names(src, what, &texts, &err)
                                        : read_find_values(src, what, ps_str_c(name), &texts, &err);
    if (status != PS_OK)
        print_message("%s\n", err.text);
    assert_int_equal(status, PS_OK);
    ps_buf_init(&out, &ps_malloc);
    for (size_t i = 0; i < found.n; i++) {
        mdl_format_labels(&out, found.items[i].labels.items, found.items[i].labels.n, 0);
        ps_buf_add_char(&out, ' ');
    }
    for (size_t i = 0; i < texts.n; i++) {
        ps_buf_add_str(&out, texts.items[i]);
        ps_buf_add_char(&out, ' ');
    }
    ps_buf_add_char(&out, 0);
    *ret_since = read_found_since(src, &since_ms);
    read_source_close(src);
    return out;
}

static void
compare_labels(world *small, world *large, int m, int64_t from_ms, int64_t to_ms)
{
    static const char *const names[] = {NULL, "", "i", "__name__"};
    char name[16];
    snprintf(name, sizeof(name), "m%d", m);
    const mdl_matcher matcher = {MDL_MATCH_RE, PS_STR("__name__"), ps_str_c(name)};
    const read_match set = {&matcher, 1};
    for (size_t i = 0; i < PS_ARRAY_LEN(names); i++) {
        const read_finding what = {
            .sets = &set, .n_sets = 1, .from_ms = from_ms, .to_ms = to_ms, .limit = i == 0 ? 5 : 0};
        bool since;
        ps_buf got = find(small, &what, names[i], &since), want = find(large, &what, names[i], &since);
        assert_false(since);
        assert_string_equal(got.ptr, want.ptr);
        ps_buf_done(&got);
        ps_buf_done(&want);
    }
}

/* ---- tests -------------------------------------------------------------------------------------------- */

static void
do_something(test_random *r)
{
    int m = (int)test_random_below(r, METRICS), i = 1 + (int)test_random_below(r, SERIES - 5);
    switch (test_random_below(r, 12)) {
    case 0:
        sql("SELECT _prom_ext.merge_step()");
        break;
    case 1:
        if (test_random_below(r, 5) == 0)
            sql("CALL prom_api.execute_maintenance(force => true)");
        break;
    case 2:
        sqlf("SELECT _prom_catalog.delete_series_from_metric('m%d', ARRAY(SELECT id FROM"
             " _prom_catalog.series WHERE metric_id = (SELECT id FROM _prom_catalog.metric WHERE"
             " metric_name = 'm%d') ORDER BY id LIMIT 2))",
             m, m);
        break;
    case 3: /* never seen before */
        put(m, SERIES + i, SERIES + i, now_ms);
        break;
    case 4: /* in the past */
        put(m, i, i + 2, now_ms - (int64_t)test_random_below(r, 40 * 24) * HOUR);
        break;
    case 5:
        if (test_random_below(r, 6) == 0)
            sqlf("SELECT prom_api.drop_metric('m%d'); SELECT prom_api.create_metric('m%d')", m, m);
        break;
    default: /* alive, or awake again */
        put(m, i, i + (int)test_random_below(r, 4), now_ms);
    }
}

static void
test_against_sql(void **state)
{
    (void)state;
    world small, large;
    test_random r = {77};
    make_history();
    begin(&small, SMALL_BYTES);
    begin(&large, INT64_C(64) << 20);
    for (int round = 0; round < ROUNDS; round++) {
        now_ms += 1000;
        do_something(&r);
        int m = (int)test_random_below(&r, METRICS), i = 1 + (int)test_random_below(&r, SERIES);
        int64_t from_ms = now_ms - (int64_t)test_random_below(&r, 45 * 24) * HOUR;
        int64_t to_ms = from_ms + (int64_t)test_random_below(&r, 10 * 24) * HOUR;
        compare_samples(&small, m, 0, now_ms - 2 * HOUR, now_ms);
        compare_samples(&small, m, i, now_ms - 60 * DAY, now_ms + 1);
        if (round % 3 == 0)
            compare_samples(&small, m, 0, from_ms, to_ms);
        compare_labels(&small, &large, m, now_ms - 6 * HOUR, now_ms);
        if (round % 3 == 1)
            compare_labels(&small, &large, m, from_ms, to_ms);
    }
    assert_int_equal(metric_value(metrics_gauge(small.m, "promscale_label_index_whole", "", "")), 0);
    assert_int_equal(metric_value(metrics_gauge(large.m, "promscale_label_index_whole", "", "")), 1);
    assert_true(counted(&small, "promscale_label_index_asked_total") > 1000);
    assert_true(counted(&small, "promscale_label_index_loads_total") >= 2); /* it was full */
    assert_true(metric_value(metrics_gauge(small.m, "promscale_label_index_bytes", "", "")) <=
                SMALL_BYTES);
    end(&small);
    end(&large);
}

/* A series that was silent for weeks is written again by somebody whom we do not hear of. */
static void
test_wakes_up(void **state)
{
    (void)state;
    world w;
    ps_status status;
    make_history();
    begin(&w, SMALL_BYTES);
    const mdl_matcher any_name[] = {{MDL_MATCH_EQ, PS_STR("pod"), PS_STR("p5")},
                                    {MDL_MATCH_EQ, PS_STR("i"), PS_STR("19")}};
    for (int folded = 0; folded < 2; folded++) {
        int m = 1 + folded; /* no series of it was loaded */
        compare_samples(&w, m, 0, now_ms - HOUR, now_ms + HOUR);
        put(m, 17, 19, now_ms);
        if (folded)
            sql("SELECT _prom_ext.merge_step()");
        compare_samples(&w, m, 0, now_ms - HOUR, now_ms + HOUR);
        ps_buf got = ask(&w, any_name, 2, now_ms, now_ms, &status);
        assert_int_equal(status, PS_OK);
        assert_int_equal(got.len > 1, true);
        ps_buf_done(&got);
    }
    end(&w);
}

typedef struct asking { /* a query in a thread of its own */
    world *w;
    int m;
    int64_t from_ms, to_ms;
    pthread_t thread;
    ps_buf got;
    ps_status status;
} asking;

static void *
ask_in_thread(void *self)
{
    asking *a = self;
    char name[16];
    snprintf(name, sizeof(name), "m%d", a->m);
    const mdl_matcher m = {MDL_MATCH_EQ, PS_STR("__name__"), ps_str_c(name)};
    a->got = ask(a->w, &m, 1, a->from_ms, a->to_ms, &a->status);
    return NULL;
}

static void
wait_for_waiting(int n)
{
    int i = 0;
    for (; i < 6000 && cluster_number(server.admin, "SELECT count(DISTINCT pid) FROM pg_locks"
                                                    " WHERE NOT granted") < n;
         i++)
        usleep(10000);
    assert_true(i < 6000);
}

/* What a query does not know when it begins, others may have learnt before it hears of it. */
static void
test_somebody_else_learns(void **state)
{
    (void)state;
    world w;
    bool since;
    make_history();
    begin(&w, SMALL_BYTES);
    asking a[2];
    compare_samples(&w, 4, 0, now_ms - 2 * HOUR, now_ms); /* it is loaded */
    /* two connections, which are then kept */
    sql("BEGIN; LOCK TABLE _prom_data.presence");
    for (int i = 0; i < 2; i++) {
        a[i] = (asking){.w = &w, .m = 4, .from_ms = now_ms - 2 * HOUR, .to_ms = now_ms};
        assert_int_equal(pthread_create(&a[i].thread, NULL, ask_in_thread, &a[i]), 0);
    }
    wait_for_waiting(2);
    sql("COMMIT");
    for (int i = 0; i < 2; i++) {
        pthread_join(a[i].thread, NULL);
        assert_int_equal(a[i].status, PS_OK);
        ps_buf_done(&a[i].got);
    }
    assert_int_equal(counted(&w, "promscale_label_index_asked_total"), 0);

    sql("BEGIN; LOCK TABLE _prom_data.block_far");
    a[0] = (asking){.w = &w, .m = 8, .from_ms = now_ms - 60 * DAY, .to_ms = now_ms};
    assert_int_equal(pthread_create(&a[0].thread, NULL, ask_in_thread, &a[0]), 0);
    wait_for_waiting(1); /* it has asked for what it knows, and for who lived */
    const mdl_matcher matcher = {MDL_MATCH_EQ, PS_STR("__name__"), PS_STR("m8")};
    const read_match set = {&matcher, 1};
    const read_finding what = {
        .sets = &set, .n_sets = 1, .from_ms = now_ms - 60 * DAY, .to_ms = now_ms};
    ps_buf labels = find(&w, &what, "i", &since);
    assert_true(counted(&w, "promscale_label_index_asked_total") > 0);
    ps_buf_done(&labels);
    sql("COMMIT");
    pthread_join(a[0].thread, NULL);
    assert_int_equal(a[0].status, PS_OK);
    ps_buf want = oracle(8, 0, now_ms - 60 * DAY, now_ms);
    assert_string_equal(a[0].got.ptr, want.ptr);
    ps_buf_done(&a[0].got);
    ps_buf_done(&want);
    end(&w);
}

/* Somebody has looked up a metric's past. Who asks for the present is answered out of those that lived last time; one that
 * has woken up since, and is held, is not missed. */
static void
test_the_past_is_held(void **state)
{
    (void)state;
    world w;
    make_history();
    begin(&w, SMALL_BYTES);
    compare_samples(&w, 4, 0, now_ms - 60 * DAY, now_ms);
    compare_samples(&w, 4, 0, now_ms - 10, now_ms);
    compare_samples(&w, 4, 0, now_ms - 10, now_ms);
    for (int i = 0; i < 3; i++) {
        double rounds = counted(&w, "promscale_query_selections_repeated_total");
        put(4, 40 + i, 40 + i, now_ms);
        compare_samples(&w, 4, 0, now_ms - 10, now_ms);
        assert_int_equal(counted(&w, "promscale_query_selections_repeated_total") - rounds, 1);
        compare_samples(&w, 4, 0, now_ms - 10, now_ms);
        compare_samples(&w, 4, 40 + i, now_ms - 10, now_ms);
        assert_int_equal(counted(&w, "promscale_query_selections_repeated_total") - rounds, 1);
    }
    compare_samples(&w, 4, 0, now_ms - 60 * DAY, now_ms);
    end(&w);
}

/* What reading would take: of series that live then, however many of the dead ones are known. */
static void
test_estimates(void **state)
{
    (void)state;
    world w;
    ps_err err = {0};
    read_source *src;
    ev_series_list list;
    ev_reading reading;
    const mdl_matcher m = {MDL_MATCH_EQ, PS_STR("__name__"), PS_STR("m4")};
    make_history();
    begin(&w, SMALL_BYTES);
    compare_samples(&w, 4, 0, now_ms - 60 * DAY, now_ms); /* all of them are learnt */
    const ev_selection sel = {&m, 1, now_ms - 2 * HOUR, now_ms, false};
    const read_source_config config = {.n_workers = 1, .deadline_ns = pg_now_ns() + 60000000000};
    assert_int_equal(read_source_open(w.store, &config, &src, &err), PS_OK);
    ev_source source = read_source_for_engine(src);
    assert_int_equal(source.estimate(source.self, &sel, 1, &list, &reading, &err), PS_OK);
    assert_int_equal(list.n, 4);
    assert_int_equal(reading.series, 4);
    assert_int_equal(reading.samples, 4);
    assert_int_equal(reading.blocks, 1);
    read_source_close(src);
    end(&w);
}

/* A metric that nobody has heard of is found by the first query, also where others fit its matcher that are known. */
static void
test_a_new_metric_among_known_ones(void **state)
{
    (void)state;
    static const char *const fits[] = {"m4|m90", "m4|m9[1-9]", "m4|m92"};
    world w;
    ps_status status;
    make_history();
    begin(&w, SMALL_BYTES);
    put(4, 3, 3, now_ms);
    compare_samples(&w, 4, 0, now_ms, now_ms);
    for (int i = 0; i < 3; i++) {
        const mdl_matcher m = {MDL_MATCH_RE, PS_STR("__name__"), ps_str_c(fits[i])};
        sqlf("SELECT prom_api.create_metric('m%d')", 90 + i);
        put(90 + i, 1, 1, now_ms);
        ps_buf got = ask(&w, &m, 1, now_ms, now_ms, &status);
        assert_int_equal(status, PS_OK);
        assert_non_null(strstr(got.ptr, "3|"));
        assert_true(got.ptr[0] == '1' || strstr(got.ptr, "\n1|") != NULL);
        ps_buf_done(&got);
    }
    end(&w);
}

/* What would need all labels at once is an error that says so; a matcher makes it possible. */
static void
test_too_many(void **state)
{
    (void)state;
    world w;
    ps_status status;
    bool since;
    make_history();
    begin(&w, SMALL_BYTES);
    const mdl_matcher all = {MDL_MATCH_RE, PS_STR("__name__"), PS_STR("m.+")};
    ps_buf got = ask(&w, &all, 1, now_ms - 60 * DAY, now_ms, &status);
    assert_int_equal(status, PS_ELIMIT);
    assert_non_null(strstr(got.ptr, "query.index-max-bytes"));
    ps_buf_done(&got);
    const mdl_matcher some[] = {all, {MDL_MATCH_RE, PS_STR("i"), PS_STR("7|8")}};
    got = ask(&w, some, 2, now_ms - 60 * DAY, now_ms, &status);
    assert_int_equal(status, PS_OK);
    size_t lines = 0;
    for (const char *p = got.ptr; *p != 0; p++)
        lines += *p == '\n';
    assert_int_equal(lines, 2 * METRICS);
    ps_buf_done(&got);
    const mdl_matcher nothing[] = {all, {MDL_MATCH_EQ, PS_STR("i"), PS_STR("none")}};
    got = ask(&w, nothing, 2, now_ms - 60 * DAY, now_ms, &status);
    assert_int_equal(status, PS_OK);
    assert_int_equal(got.len, 1);
    ps_buf_done(&got);
    /* without a time: what lived lately, and it is said */
    const read_finding what = {.from_ms = INT64_MIN, .to_ms = INT64_MAX};
    got = find(&w, &what, "i", &since);
    assert_true(since);
    assert_string_equal(got.ptr, "3 4 5 6 ");
    ps_buf_done(&got);
    end(&w);
}

/* Selections of one query that fit one by one, but not together. */
static void
test_too_many_together(void **state)
{
    (void)state;
    enum { N = 12 };
    world w;
    read_source *src;
    ps_err err = {0};
    mdl_matcher matchers[N];
    ev_selection selections[N];
    ev_series_list lists[N];
    char names[N][16];
    make_history();
    begin(&w, SMALL_BYTES);
    compare_samples(&w, 4, 0, now_ms - HOUR, now_ms);
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof(names[i]), "m%d", i);
        matchers[i] = (mdl_matcher){MDL_MATCH_EQ, PS_STR("__name__"), ps_str_c(names[i])};
        selections[i] = (ev_selection){&matchers[i], 1, now_ms - 60 * DAY, now_ms, false};
    }
    double loads = counted(&w, "promscale_label_index_loads_total");
    read_source_config config = {.n_workers = 1, .deadline_ns = pg_now_ns() + 60000000000};
    assert_int_equal(read_source_open(w.store, &config, &src, &err), PS_OK);
    ev_source source = read_source_for_engine(src);
    assert_int_equal(source.select(source.self, selections, N, lists, &err), PS_ELIMIT);
    assert_non_null(strstr(err.text, "query.index-max-bytes"));
    read_source_close(src);
    assert_true(counted(&w, "promscale_label_index_loads_total") <= loads + 1);
    compare_samples(&w, 9, 0, now_ms - 60 * DAY, now_ms);
    end(&w);
}

/* Not even the newest series fit: each request has its own read. */
static void
test_too_many_alive(void **state)
{
    (void)state;
    world w;
    make_history();
    for (int m = 0; m < METRICS; m++)
        put(m, 1, SERIES, now_ms - 1000);
    begin(&w, SMALL_BYTES);
    for (int m = 0; m < METRICS; m++)
        compare_samples(&w, m, 0, now_ms - HOUR, now_ms);
    end(&w);
}

/* Blocks that were restored without the sets: an error until the sets are there, and never fewer series. */
static void
test_restored_without_presence(void **state)
{
    (void)state;
    world w;
    ps_status status;
    make_history();
    sql("DELETE FROM _prom_data.presence");
    begin(&w, SMALL_BYTES);
    const mdl_matcher m = {MDL_MATCH_EQ, PS_STR("__name__"), PS_STR("m8")};
    ps_buf got = ask(&w, &m, 1, now_ms - 60 * DAY, now_ms, &status);
    assert_int_equal(status, PS_EUNAVAILABLE);
    assert_non_null(strstr(got.ptr, "recount_presence"));
    ps_buf_done(&got);
    sql("CALL prom_api.execute_maintenance(force => true)");
    for (int i = 0; i < 600 && status != PS_OK; i++) {
        usleep(100000);
        got = ask(&w, &m, 1, now_ms - 60 * DAY, now_ms, &status);
        ps_buf_done(&got);
    }
    compare_samples(&w, 8, 0, now_ms - 60 * DAY, now_ms);
    end(&w);
}

/* Series that nobody wrote samples of, as if they had just been created. */
static void
make_dead(int n)
{
    sqlf("BEGIN;"
         "INSERT INTO _prom_catalog.label (id, tenant_id, key_id, value, digest) SELECT 1000000 + g, 0, k.id,"
         " 'x' || g, _prom_ext.text_digest('x' || g) FROM generate_series(1, %d) g,"
         " _prom_catalog.label_key k WHERE k.key = 'i';"
         "INSERT INTO _prom_catalog.series (id, tenant_id, metric_id, labels, digest) SELECT 1000000 + g, 0,"
         " s.metric_id, ARRAY[s.labels[1], 1000000 + g], md5(g::text)::uuid FROM generate_series(1, %d) g,"
         " (SELECT * FROM _prom_catalog.series LIMIT 1) s;"
         "INSERT INTO _prom_catalog.series_feed (op, first_id, series_ids) SELECT 'c', min(id), array_agg(id)"
         " FROM _prom_catalog.series WHERE id > 1000000;"
         "COMMIT",
         n, n);
}

/* An index of which most is dead is loaded anew, without the dead, and meanwhile goes on answering. */
static void
test_the_dead_become_many(void **state)
{
    (void)state;
    world w;
    make_history();
    begin(&w, INT64_C(256) << 20);
    compare_samples(&w, 4, 0, now_ms - 2 * HOUR, now_ms);
    assert_int_equal(metric_value(metrics_gauge(w.m, "promscale_label_index_whole", "", "")), 1);
    make_dead(120000);
    for (int i = 0; i < 3000 && counted(&w, "promscale_label_index_loads_total") < 2; i++) {
        compare_samples(&w, 4, 0, now_ms - 2 * HOUR, now_ms);
        usleep(20000);
    }
    assert_int_equal(counted(&w, "promscale_label_index_loads_total"), 2);
    assert_int_equal(metric_value(metrics_gauge(w.m, "promscale_label_index_whole", "", "")), 0);
    assert_true(metric_value(metrics_gauge(w.m, "promscale_label_index_series", "", "")) < 1000);
    compare_samples(&w, 4, 0, now_ms - 60 * DAY, now_ms);
    end(&w);
}

/* So many new series that the index cannot take them in: it is loaded anew, and queries do not fail. */
static void
test_full_of_news(void **state)
{
    (void)state;
    world w;
    make_history();
    begin(&w, SMALL_BYTES);
    compare_samples(&w, 4, 0, now_ms - 2 * HOUR, now_ms);
    make_dead(5000);
    compare_samples(&w, 4, 0, now_ms - 2 * HOUR, now_ms);
    assert_int_equal(counted(&w, "promscale_label_index_loads_total"), 2);
    end(&w);
}

/* Far more new series than it holds: reading them one lesson after the other would take longer than loading all. */
static void
test_far_more_news(void **state)
{
    (void)state;
    world w;
    make_history();
    begin(&w, INT64_C(256) << 20);
    compare_samples(&w, 4, 0, now_ms - 2 * HOUR, now_ms);
    make_dead(210000);
    compare_samples(&w, 4, 0, now_ms - 2 * HOUR, now_ms);
    assert_int_equal(counted(&w, "promscale_label_index_loads_total"), 2);
    assert_int_equal(counted(&w, "promscale_label_index_learnt_total"), 0);
    end(&w);
}

/* Which series a fresh block that cannot be read holds nobody knows: that is said, however quiet the server is
 * told to be. */
static void
test_damaged_and_quiet(void **state)
{
    (void)state;
    world w;
    read_source *src;
    ps_err err = {0};
    ev_series_list list = {0};
    const ps_str *warnings;
    make_history();
    sql("ALTER DATABASE ingest SET client_min_messages = 'error'");
    sqlf("INSERT INTO prom_data.m1 (time, value, series_id) SELECT to_timestamp(%lld / 1000.0), 1, id FROM"
         " (SELECT id FROM _prom_catalog.series WHERE metric_id = (SELECT id FROM _prom_catalog.metric WHERE"
         " metric_name = 'm1') AND id %% 2 = 0) s",
         (long long)now_ms);
    sql("UPDATE _prom_data.fresh SET data = substr(data, 1, 10)");
    begin(&w, SMALL_BYTES);
    const mdl_matcher m = {MDL_MATCH_EQ, PS_STR("__name__"), PS_STR("m1")};
    ev_selection sel = {&m, 1, now_ms, now_ms, false};
    read_source_config config = {.n_workers = 1, .deadline_ns = pg_now_ns() + 60000000000};
    assert_int_equal(read_source_open(w.store, &config, &src, &err), PS_OK);
    ev_source source = read_source_for_engine(src);
    assert_int_equal(source.select(source.self, &sel, 1, &list, &err), PS_OK);
    assert_int_equal(list.n, 0);
    assert_int_equal(read_source_warnings(src, &warnings), 1);
    read_source_close(src);
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
        cmocka_unit_test(test_wakes_up),
        cmocka_unit_test(test_somebody_else_learns),
        cmocka_unit_test(test_the_past_is_held),
        cmocka_unit_test(test_estimates),
        cmocka_unit_test(test_a_new_metric_among_known_ones),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_too_many_together),
        cmocka_unit_test(test_too_many_alive),
        cmocka_unit_test(test_restored_without_presence),
        cmocka_unit_test(test_full_of_news),
        cmocka_unit_test(test_far_more_news),
        cmocka_unit_test(test_damaged_and_quiet),
        cmocka_unit_test(test_the_dead_become_many),
        cmocka_unit_test(test_against_sql),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
