/*
 * test_ingest.c - the write path against a real PostgreSQL: what is answered "committed" is there,
 * once; what is refused says why; nobody's data holds up others'.
 */
#include "tests/unit/connector/write/sender.h"

#include <math.h>
#include <stdatomic.h>

enum { T0 = 1700000000 };
#define MS(seconds) (((int64_t)T0 + (seconds)) * 1000)

static cluster db;

typedef struct fixture {
    settings set;
    logger *log;
    metrics *registry;
    write_path *w;
} fixture;

static void
start(fixture *f, const settings *set)
{
    ps_err err;
    f->set = *set;
    f->registry = metrics_new();
    assert_non_null(f->registry);
    assert_int_equal(log_new(2, "logfmt", getenv("TEST_LOG") != NULL ? getenv("TEST_LOG") : "error",
                             &f->log, &err),
                     PS_OK);
    write_path_config config = {.settings = &f->set,
                                .conninfo = db.conninfo,
                                .log = f->log,
                                .metrics = f->registry};
    assert_int_equal(write_path_start(&config, &f->w, &err), PS_OK);
}

static void
stop(fixture *f)
{
    write_path_stop(f->w, 10000);
    write_path_free(f->w);
    metrics_free(f->registry);
    log_free(f->log);
}

static double
counter(fixture *f, const char *name, const char *labels)
{
    return metric_value(metrics_counter(f->registry, name, "", labels));
}

static void
expect(const sent *s, ps_status status)
{
    if (s->answers != 1 || s->result.status != status)
        print_message("answers %d, status %s: %s\n", s->answers, ps_status_name(s->result.status),
                      s->text);
    assert_int_equal(s->answers, 1);
    assert_int_equal(s->result.status, status);
}

/* Every test begins with an empty catalog. */
static int
fresh_database(void **state)
{
    (void)state;
    return cluster_database(&db);
}

/* ---- acknowledged means present ------------------------------------------------------------- */

static void
test_acknowledged_is_present_once(void **state)
{
    (void)state;
    enum { REQUESTS = 40, SERIES = 50 };
    fixture f;
    settings set = sender_settings();
    start(&f, &set);
    static sent requests[REQUESTS];
    char metric_name[32], a[32];
    for (int i = 0; i < REQUESTS; i++) {
        sent_init(&requests[i]);
        for (int k = 0; k < SERIES; k++) {
            snprintf(metric_name, sizeof(metric_name), "m%d", k % 7);
            snprintf(a, sizeof(a), "%d", k);
            sent_one(&requests[i], metric_name, a, MS(i * 15), i + k / 100.0);
        }
        assert_int_equal(sent_submit(f.w, &requests[i], i % 4 == 3 ? "other" : "", NULL), PS_OK);
    }
    for (int i = 0; i < REQUESTS; i++) {
        sent_wait(&requests[i]);
        expect(&requests[i], PS_OK);
        assert_int_equal(requests[i].result.samples_written, SERIES);
        assert_int_equal(requests[i].result.samples_refused, 0);
    }
    store st;
    store_load(&st, db.admin);
    assert_int_equal(st.n, REQUESTS * SERIES);
    for (int i = 0; i < REQUESTS; i++) {
        for (int k = 0; k < SERIES; k++) {
            char name[96];
            snprintf(name, sizeof(name), "%s/m%d/%d", i % 4 == 3 ? "other" : "", k % 7, k);
            const stored *item = store_find(&st, name, MS(i * 15));
            assert_non_null(item);
            assert_true(item->value == i + k / 100.0);
        }
    }
    store_done(&st);
    for (int i = 0; i < REQUESTS; i++) /* again: idempotent, and from the cache alone */
        assert_int_equal(sent_submit(f.w, &requests[i], i % 4 == 3 ? "other" : "", NULL), PS_OK);
    for (int i = 0; i < REQUESTS; i++) {
        sent_wait(&requests[i]);
        expect(&requests[i], PS_OK);
        sent_done(&requests[i]);
    }
    store_load(&st, db.admin);
    assert_int_equal(st.n, REQUESTS * SERIES);
    store_done(&st);
    assert_int_equal(cluster_number(db.admin, "SELECT count(*) FROM _prom_catalog.series"),
                     2 * SERIES);
    assert_true(counter(&f, "promscale_ingest_items_total", "type=\"metric\",kind=\"sample\"") ==
                2 * REQUESTS * SERIES);
    assert_true(write_path_healthy(f.w));
    stop(&f);
}

/* ---- what is refused ------------------------------------------------------------------------ */

static void
test_values_survive_to_the_bit(void **state)
{
    (void)state;
    static const uint64_t bits[] = {MDL_STALE_NAN_BITS,
                                    MDL_NORMAL_NAN_BITS,
                                    UINT64_C(0xfff8000000000123),
                                    UINT64_C(0x8000000000000000),
                                    UINT64_C(0x7ff0000000000000),
                                    UINT64_C(0xfff0000000000000),
                                    1,
                                    UINT64_C(0x4340000000000001)};
    fixture f;
    settings set = sender_settings();
    start(&f, &set);
    sent s;
    sent_init(&s);
    for (size_t i = 0; i < PS_ARRAY_LEN(bits); i++)
        sent_one(&s, "bits", "x", MS(i), ps_double_of(bits[i]));
    /* far away and out of order */
    sent_one(&s, "bits", "x", MDL_TIME_MIN_MS, 1);
    sent_one(&s, "bits", "x", -1, 2);
    sent_one(&s, "bits", "x", 0, 3);
    assert_int_equal(sent_submit(f.w, &s, "", NULL), PS_OK);
    sent_wait(&s);
    expect(&s, PS_OK);
    store st;
    store_load(&st, db.admin);
    for (size_t i = 0; i < PS_ARRAY_LEN(bits); i++) {
        const stored *item = store_find(&st, "/bits/x", MS(i));
        assert_non_null(item);
        assert_true(ps_bits_of(item->value) == bits[i]);
    }
    assert_non_null(store_find(&st, "/bits/x", MDL_TIME_MIN_MS));
    assert_true(store_find(&st, "/bits/x", -1)->value == 2);
    assert_true(store_find(&st, "/bits/x", 0)->value == 3);
    store_done(&st);
    sent_done(&s);
    stop(&f);
}

static void
test_the_good_part_is_stored(void **state)
{
    (void)state;
    fixture f;
    settings set = sender_settings();
    start(&f, &set);
    sent s;
    sent_init(&s);
    sent_one(&s, "good", "1", MS(0), 1);
    sent_one(&s, "", "2", MS(0), 1);
    sent_series(&s, &(wire_sample){MS(0), 1, 0}, 1, "twice", "a", "1", "a", "2", NULL);
    sent_one(&s, "latin", "\xe9", MS(0), 1);
    sent_series(&s,
                (wire_sample[]){{MS(0), 7, 0}, {INT64_C(1) << 60, 8, 0}, {MDL_TIME_MAX_MS, 9, 0}},
                3, "times", "a", "t", NULL);
    sent_one(&s, "good", "3", MS(0), 3);
    assert_int_equal(sent_submit(f.w, &s, "", NULL), PS_OK);
    sent_wait(&s);
    expect(&s, PS_EINVAL);
    assert_int_equal(s.result.samples_written, 3);
    assert_int_equal(s.result.samples_refused, 5);
    assert_non_null(strstr(s.text, "__name__"));
    assert_non_null(strstr(s.text, "twice"));
    assert_non_null(strstr(s.text, "UTF-8"));
    assert_non_null(strstr(s.text, "out of bounds"));
    store st;
    store_load(&st, db.admin);
    assert_int_equal(st.n, 3);
    assert_true(store_find(&st, "/good/3", MS(0))->value == 3);
    assert_true(store_find(&st, "/times/t", MS(0))->value == 7);
    store_done(&st);
    sent_done(&s);
    stop(&f);
}

/* First of equal times wins, within a request and between requests of one flush. */
static void
test_first_write_wins(void **state)
{
    (void)state;
    fixture f;
    settings set = sender_settings();
    start(&f, &set);
    sent s;
    sent_init(&s);
    sent_one(&s, "m", "1", MS(0), 1);
    sent_one(&s, "m", "1", MS(0), 2);
    sent_one(&s, "m", "1", MS(0), 1);
    assert_int_equal(sent_submit(f.w, &s, "", NULL), PS_OK);
    sent_wait(&s);
    expect(&s, PS_OK);
    assert_int_equal(s.result.samples_written, 3);
    store st;
    store_load(&st, db.admin);
    assert_int_equal(st.n, 1);
    assert_true(st.items[0].value == 1);
    store_done(&st);
    assert_true(
        counter(&f, "promscale_ingest_conflicts_total", "type=\"metric\",kind=\"sample\"") == 1);
    assert_true(
        counter(&f, "promscale_ingest_duplicates_total", "type=\"metric\",kind=\"sample\"") == 1);
    sent_done(&s);
    stop(&f);
}

/* ---- nobody poisons others ------------------------------------------------------------------ */

enum { INNOCENT = 50 };

/* 50 innocent requests beside one with a guilty series (and a good one): all sent at once. */
static void
send_with_poison(fixture *f, const char *poison_value, int64_t poison_time)
{
    static sent requests[INNOCENT + 1];
    char a[16];
    for (int i = 0; i <= INNOCENT; i++) {
        sent *s = &requests[i];
        sent_init(s);
        for (int k = 0; k < 20; k++) {
            snprintf(a, sizeof(a), "%d.%d", i, k);
            sent_one(s, k % 2 ? "m_odd" : "m_even", a, MS(k), i);
        }
        if (i == INNOCENT / 2) {
            sent_one(s, "m_guilty", poison_value, poison_time, 1);
            sent_one(s, "m_guilty", poison_value, poison_time + 1, 1);
        }
    }
    for (int i = 0; i <= INNOCENT; i++)
        assert_int_equal(sent_submit(f->w, &requests[i], "", NULL), PS_OK);
    for (int i = 0; i <= INNOCENT; i++) {
        sent_wait(&requests[i]);
        expect(&requests[i], i == INNOCENT / 2 ? PS_EINVAL : PS_OK);
        assert_int_equal(requests[i].result.samples_written, 20);
    }
    const sent *guilty = &requests[INNOCENT / 2];
    assert_int_equal(guilty->result.samples_refused, 2);
    assert_non_null(strstr(guilty->text, "m_guilty"));
    assert_non_null(strstr(guilty->text, "check constraint"));
    store st;
    store_load(&st, db.admin);
    assert_int_equal(st.n, (INNOCENT + 1) * 20);
    store_done(&st);
    for (int i = 0; i <= INNOCENT; i++)
        sent_done(&requests[i]);
}

static void
test_poison_label(void **state)
{
    (void)state;
    free(cluster_sql(db.admin, "ALTER TABLE _prom_catalog.label ADD CONSTRAINT poison"
                               " CHECK (value <> 'poison') NOT VALID"));
    fixture f;
    settings set = sender_settings();
    start(&f, &set);
    send_with_poison(&f, "poison", MS(0));
    stop(&f);
}

static void
test_poison_flush(void **state)
{
    (void)state;
    /* One series of one request has a time that the table does not take. */
    free(cluster_sql(
        db.admin,
        "ALTER TABLE _prom_data.fresh ADD CONSTRAINT poison CHECK (t_min > '2001-01-01')"));
    fixture f;
    settings set = sender_settings();
    start(&f, &set);
    send_with_poison(&f, "x", 1000);
    stop(&f);
}

/* The same for histograms, which come by 2.0 and have rows of their own. */
static void
test_poison_histogram(void **state)
{
    (void)state;
    free(cluster_sql(
        db.admin,
        "ALTER TABLE _prom_data.fresh ADD CONSTRAINT poison CHECK (t_min > '2001-01-01')"));
    fixture f;
    settings set = sender_settings();
    start(&f, &set);
    const hst_span span = {0, 1};
    const double count = 3;
    const hst_hist h = {.count = 3, .sum = 1, .positive = {&span, 1, 1, &count}, .integer = true};
    const wire_histogram good[] = {{.t_ms = MS(0), .histogram = &h},
                                   {.t_ms = MS(1), .histogram = &h}};
    const wire_histogram guilty = {.t_ms = 1000, .histogram = &h};
    const mdl_label labels[2][2] = {{{PS_STR("__name__"), PS_STR("m_good")},
                                     {PS_STR("a"), PS_STR("1")}},
                                    {{PS_STR("__name__"), PS_STR("m_guilty")},
                                     {PS_STR("a"), PS_STR("1")}}};
    wire_v2_writer *writer = wire_v2_writer_new(&ps_malloc, 1 << 20);
    wire_v2_write(writer, &(wire_v2_item){.labels = {labels[0], 2},
                                          .samples = &(wire_sample){MS(2), 1, 0},
                                          .n_samples = 1,
                                          .histograms = good,
                                          .n_histograms = 2});
    wire_v2_write(writer, &(wire_v2_item){.labels = {labels[1], 2},
                                          .histograms = &guilty,
                                          .n_histograms = 1});
    sent s;
    sent_init(&s);
    assert_int_equal(wire_v2_writer_finish(writer, &s.message, NULL), PS_OK);
    wire_v2_writer_free(writer);
    const write_request r = {.body = ps_buf_str(&s.message),
                             .encoding = WRITE_PLAIN,
                             .version = WRITE_V2};
    assert_int_equal(write_submit(f.w, &r, on_answer, &s, NULL), PS_OK);
    sent_wait(&s);
    expect(&s, PS_EINVAL);
    assert_int_equal(s.result.samples_written, 1);
    assert_int_equal(s.result.samples_refused, 0);
    assert_int_equal(s.result.histograms_written, 2);
    assert_int_equal(s.result.histograms_refused, 1);
    assert_non_null(strstr(s.text, "m_guilty"));
    assert_non_null(strstr(s.text, "check constraint"));
    char *rows = cluster_sql(db.admin, "SELECT string_agg(kind || ':' || n_samples, ' '"
                                       " ORDER BY kind) FROM _prom_data.fresh");
    assert_string_equal(rows, "1:1 2:2");
    free(rows);
    sent_done(&s);
    stop(&f);
}

/* ---- the database fails --------------------------------------------------------------------- */

/* A commit that comes with a warning (as when a synchronous standby was not waited for) is no
 * commit. */
static void
test_commit_with_a_warning_is_not_acknowledged(void **state)
{
    (void)state;
    fixture f;
    settings set = sender_settings();
    set.ingest_timeout_ms = 1000;
    start(&f, &set);
    sent s;
    sent_init(&s);
    sent_one(&s, "m", "1", MS(0), 1);
    free(cluster_sql(db.admin,
                     "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS"
                     " $$BEGIN RAISE WARNING 'not sure'; RETURN NULL; END$$;"
                     "CREATE CONSTRAINT TRIGGER warn AFTER INSERT ON _prom_data.fresh"
                     " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION warn()"));
    assert_int_equal(sent_submit(f.w, &s, "", NULL), PS_OK);
    sent_wait(&s);
    expect(&s, PS_EUNAVAILABLE);
    free(cluster_sql(db.admin, "DROP TRIGGER warn ON _prom_data.fresh"));
    assert_int_equal(sent_until_taken(f.w, &s, "")->status, PS_OK);
    store st;
    store_load(&st, db.admin);
    assert_int_equal(st.n, 1);
    store_done(&st);
    sent_done(&s);
    stop(&f);
}

/* One request kills every connection that carries it: the others are stored all the same, and in
 * time. */
static void
test_request_that_kills_its_connection(void **state)
{
    (void)state;
    enum { REQUESTS = 10 };
    static sent requests[REQUESTS + 1];
    fixture f;
    settings set = sender_settings();
    set.ingest_timeout_ms = 8000;
    start(&f, &set);
    free(cluster_sql(db.admin,
                     "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
                     " $$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END$$;"
                     "CREATE TRIGGER die AFTER INSERT ON _prom_data.fresh FOR EACH ROW"
                     " WHEN (NEW.t_min < '2001-01-01') EXECUTE FUNCTION die()"));
    for (int i = 0; i <= REQUESTS; i++) {
        sent_init(&requests[i]);
        sent_one(&requests[i], "m", "1", i == 3 ? 1000 : MS(i), i);
    }
    for (int i = 0; i <= REQUESTS; i++)
        assert_int_equal(sent_submit(f.w, &requests[i], "", NULL), PS_OK);
    for (int i = 0; i <= REQUESTS; i++) {
        sent_wait(&requests[i]);
        expect(&requests[i], i == 3 ? PS_EUNAVAILABLE : PS_OK);
        sent_done(&requests[i]);
    }
    store st;
    store_load(&st, db.admin);
    assert_int_equal(st.n, REQUESTS);
    store_done(&st);
    stop(&f);
}

typedef struct writer { /* a thread that writes until told otherwise; each request a new time */
    fixture *f;
    int id;
    _Atomic int requests;
    _Atomic int *stop;
} writer;

static void *
write_on(void *arg)
{
    writer *wr = arg;
    char a[16];
    while (!atomic_load(wr->stop)) {
        sent s;
        sent_init(&s);
        for (int k = 0; k < 10; k++) {
            snprintf(a, sizeof(a), "%d.%d", wr->id, k + (wr->requests % 50) * 10);
            sent_one(&s, "m", a, MS(wr->requests), wr->requests);
        }
        sent_until_taken(wr->f->w, &s, "");
        expect(&s, PS_OK);
        sent_done(&s);
        wr->requests++;
    }
    return NULL;
}

static void
write_while(fixture *f, void (*trouble)(int round), int rounds)
{
    enum { WRITERS = 3 };
    pthread_t threads[WRITERS];
    writer writers[WRITERS];
    _Atomic int end = 0;
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (writer){f, i, 0, &end};
        assert_int_equal(pthread_create(&threads[i], NULL, write_on, &writers[i]), 0);
    }
    for (int round = 0; round < rounds; round++) {
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        trouble(round);
    }
    for (int i = 0; i < WRITERS; i++) /* a machine that is busy may have let them do little */
        for (int k = 0; k < 600 && writers[i].requests <= rounds / 4; k++)
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    atomic_store(&end, 1);
    store st;
    size_t expected = 0;
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
        expected += (size_t)writers[i].requests * 10;
        assert_true(writers[i].requests > rounds / 4);
    }
    store_load(&st, db.admin);
    assert_int_equal(st.n, expected);
    for (int i = 0; i < WRITERS; i++) {
        for (int n = 0; n < writers[i].requests; n++) {
            char name[96];
            snprintf(name, sizeof(name), "/m/%d.%d", i, (n % 50) * 10);
            const stored *item = store_find(&st, name, MS(n));
            assert_non_null(item);
            assert_true(item->value == n);
        }
    }
    store_done(&st);
}

static void
kill_backends(int round)
{
    (void)round;
    free(cluster_sql(db.admin, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                               " WHERE application_name LIKE 'promscale%%'"));
}

static void
test_backends_killed_while_writing(void **state)
{
    (void)state;
    fixture f;
    settings set = sender_settings();
    start(&f, &set);
    write_while(&f, kill_backends, 30);
    stop(&f);
}

static void
crash_server(int round)
{
    (void)round;
    assert_int_equal(cluster_stop(&db, "immediate"), 0);
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    assert_int_equal(cluster_start(&db), 0);
    cluster_connect(&db);
}

static void
test_server_crashes_while_writing(void **state)
{
    (void)state;
    fixture f;
    settings set = sender_settings();
    start(&f, &set);
    write_while(&f, crash_server, 3);
    stop(&f);
}

/* Deletes series again and again under the writers' feet. What was acknowledged before a
 * deletion may be gone with its series; what is acknowledged afterwards must have a series. */
static void
test_generation_moves_on(void **state)
{
    (void)state;
    fixture f;
    settings set = sender_settings();
    start(&f, &set);
    for (int round = 0; round < 20; round++) {
        sent s;
        sent_init(&s);
        for (int k = 0; k < 10; k++) {
            char a[16];
            snprintf(a, sizeof(a), "%d", k);
            sent_one(&s, "m", a, MS(round), round);
        }
        assert_int_equal(sent_submit(f.w, &s, "", NULL), PS_OK);
        sent_wait(&s);
        expect(&s, PS_OK);
        sent_done(&s);
        store st;
        store_load(&st, db.admin);
        for (int k = 0; k < 10; k++) {
            char name[32];
            snprintf(name, sizeof(name), "/m/%d", k);
            assert_non_null(store_find(&st, name, MS(round)));
        }
        store_done(&st);
        /* k = 0..4: gone */
        free(cluster_sql(db.admin, "SELECT _prom_catalog.delete_series_rows("
                                   "(SELECT array_agg(s.id) FROM _prom_catalog.series s"
                                   " JOIN _prom_catalog.label l ON l.id = ANY (s.labels)"
                                   " WHERE l.value IN ('0','1','2','3','4')))"));
    }
    assert_true(counter(&f, "promscale_ingest_generation_changes_total", "type=\"metric\"") >= 19);
    stop(&f);
}

static void
test_stalled_database(void **state)
{
    (void)state;
    enum { REQUESTS = 10 };
    static sent requests[REQUESTS];
    fixture f;
    settings set = sender_settings();
    set.ingest_timeout_ms = 1500;
    start(&f, &set);
    for (int i = 0; i < REQUESTS; i++) {
        sent_init(&requests[i]);
        sent_one(&requests[i], "m", "1", MS(i), i);
    }
    assert_int_equal(sent_until_taken(f.w, &requests[0], "")->status,
                     PS_OK); /* the series is known */
    free(cluster_sql(db.admin, "BEGIN; LOCK TABLE _prom_data.fresh IN ACCESS EXCLUSIVE MODE"));
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    for (int i = 1; i < REQUESTS; i++)
        assert_int_equal(sent_submit(f.w, &requests[i], "", NULL), PS_OK);
    for (int i = 1; i < REQUESTS; i++) {
        sent_wait(&requests[i]);
        expect(&requests[i], PS_EUNAVAILABLE);
        assert_true(strlen(requests[i].text) > 0);
    }
    clock_gettime(CLOCK_MONOTONIC, &after);
    double waited =
        (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
    assert_true(waited > 1.4 && waited < 15);
    assert_false(write_path_healthy(f.w));
    free(cluster_sql(db.admin, "COMMIT"));
    for (int i = 1; i < REQUESTS; i++)
        assert_int_equal(sent_until_taken(f.w, &requests[i], "")->status, PS_OK);
    assert_true(write_path_healthy(f.w));
    store st;
    store_load(&st, db.admin);
    assert_int_equal(st.n, REQUESTS);
    store_done(&st);
    for (int i = 0; i < REQUESTS; i++) {
        assert_int_equal(requests[i].answers, 1);
        sent_done(&requests[i]);
    }
    stop(&f);
}

/* New series wait for the catalog; series that are known do not. */
static void
test_stalled_catalog(void **state)
{
    (void)state;
    fixture f;
    settings set = sender_settings();
    set.ingest_timeout_ms = 4000;
    start(&f, &set);
    sent known, new_one;
    sent_init(&known);
    sent_init(&new_one);
    sent_one(&known, "m", "1", MS(0), 1);
    sent_one(&new_one, "m", "2", MS(0), 1);
    assert_int_equal(sent_until_taken(f.w, &known, "")->status, PS_OK);
    free(cluster_sql(db.admin, "BEGIN; LOCK TABLE _prom_catalog.series IN ACCESS EXCLUSIVE MODE"));
    assert_int_equal(sent_submit(f.w, &new_one, "", NULL), PS_OK);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(sent_submit(f.w, &known, "", NULL), PS_OK);
        sent_wait(&known);
        expect(&known, PS_OK);
    }
    sent_wait(&new_one);
    expect(&new_one, PS_EUNAVAILABLE);
    free(cluster_sql(db.admin, "COMMIT"));
    assert_int_equal(sent_until_taken(f.w, &new_one, "")->status, PS_OK);
    sent_done(&known);
    sent_done(&new_one);
    stop(&f);
}

static void
visit_held_bytes(void *self, const char *name, const char *labels, double value)
{
    (void)labels;
    if (strcmp(name, "promscale_ingest_held_bytes") == 0)
        *(double *)self = value;
}

/* Small bodies that decode to much: decoders stop while too much is held, and go on afterwards. */
static void
test_decoded_memory_is_bounded(void **state)
{
    (void)state;
    enum { REQUESTS = 40, SAMPLES = 20000 }; /* 640 kB of points each, out of a few kB */
    static sent requests[REQUESTS];
    static wire_sample samples[SAMPLES];
    fixture f;
    settings set = sender_settings();
    set.ingest_queue_bytes = 8 << 20;
    start(&f, &set);
    for (int i = 0; i < REQUESTS; i++) {
        sent_init(&requests[i]);
        for (int k = 0; k < SAMPLES; k++)
            samples[k] = (wire_sample){MS(i * SAMPLES + k), 1, 0};
        sent_series(&requests[i], samples, SAMPLES, "m", "a", "1", NULL);
    }
    assert_int_equal(sent_until_taken(f.w, &requests[0], "")->status, PS_OK);
    free(cluster_sql(db.admin, "BEGIN; LOCK TABLE _prom_data.fresh IN ACCESS EXCLUSIVE MODE"));
    for (int i = 1; i < REQUESTS; i++)
        assert_int_equal(sent_submit(f.w, &requests[i], "", NULL), PS_OK);
    double held = 0;
    for (int i = 0; i < 20 || (held <= 4 << 20 && i < 3000); i++) {
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        metrics_visit(f.registry, visit_held_bytes, &held);
        assert_true(held <=
                    (4 << 20) + 3 * (1 << 20)); /* half the queue, and what two workers hold */
    }
    assert_true(held > 4 << 20);
    free(cluster_sql(db.admin, "COMMIT"));
    for (int i = 1; i < REQUESTS; i++) {
        sent_wait(&requests[i]);
        expect(&requests[i], PS_OK);
        assert_int_equal(requests[i].result.samples_written, SAMPLES);
    }
    for (int i = 0; i < REQUESTS; i++)
        sent_done(&requests[i]);
    for (int i = 0; i < 3000 && held > 0; i++) { /* memory goes back right after the answer */
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        metrics_visit(f.registry, visit_held_bytes, &held);
    }
    assert_true(held == 0);
    stop(&f);
}

static void
test_another_database(void **state)
{
    (void)state;
    fixture f;
    settings set = sender_settings();
    start(&f, &set);
    sent s;
    sent_init(&s);
    char a[16];
    for (int k = 0; k < 100; k++) {
        snprintf(a, sizeof(a), "%d", k);
        sent_one(&s, "m", a, MS(0), k);
    }
    assert_int_equal(sent_until_taken(f.w, &s, "t")->status, PS_OK);
    assert_int_equal(cluster_database(&db),
                     0); /* dropped and made anew: ids mean nothing any more */
    free(cluster_sql(db.admin, "SELECT _prom_catalog.tenant_id('somebody else')"));
    assert_int_equal(sent_until_taken(f.w, &s, "t")->status, PS_OK);
    store st;
    store_load(&st, db.admin);
    assert_int_equal(st.n, 100);
    for (int k = 0; k < 100; k++) {
        char name[32];
        snprintf(name, sizeof(name), "t/m/%d", k);
        const stored *item = store_find(&st, name, MS(0));
        assert_non_null(item);
        assert_true(item->value == k);
    }
    store_done(&st);
    sent_done(&s);
    stop(&f);
}

/* ---- admission ------------------------------------------------------------------------------ */

static void
test_queue_limits_and_shares(void **state)
{
    (void)state;
    enum { QUEUE = 16 };
    static sent hog[QUEUE + 1], late, other[QUEUE];
    fixture f;
    settings set = sender_settings();
    set.ingest_queue_requests = QUEUE;
    set.ingest_timeout_ms = 15000;
    start(&f, &set);
    free(cluster_sql(db.admin, "BEGIN; LOCK TABLE _prom_data.fresh IN ACCESS EXCLUSIVE MODE"));
    ps_err err;
    for (int i = 0; i <= QUEUE; i++) {
        sent_init(&hog[i]);
        sent_one(&hog[i], "m", "1", MS(i), i);
        ps_status status = sent_submit(f.w, &hog[i], "hog", &err);
        assert_int_equal(status, i < QUEUE ? PS_OK : PS_EUNAVAILABLE);
    }
    assert_true(counter(&f, "promscale_ingest_rejected_total",
                        "type=\"metric\",reason=\"queue-requests\"") == 1);
    /* Everything is full of one tenant; another gets in all the same, and the first's share is
     * halved. */
    sent_init(&late);
    sent_one(&late, "m", "2", MS(0), 1);
    assert_int_equal(sent_submit(f.w, &late, "late", &err), PS_OK);
    assert_int_equal(sent_submit(f.w, &hog[QUEUE], "hog", &err), PS_EUNAVAILABLE);
    assert_non_null(strstr(err.text, "share"));
    free(cluster_sql(db.admin, "COMMIT"));
    for (int i = 0; i < QUEUE; i++) {
        sent_wait(&hog[i]);
        expect(&hog[i], PS_OK);
        sent_done(&hog[i]);
    }
    sent_wait(&late);
    expect(&late, PS_OK);
    free(cluster_sql(db.admin, "BEGIN; LOCK TABLE _prom_data.fresh IN ACCESS EXCLUSIVE MODE"));
    int taken = 0;
    for (int i = 0; i < QUEUE; i++) {
        sent_init(&other[i]);
        sent_one(&other[i], "m", "3", MS(i), i);
        taken += sent_submit(f.w, &other[i], "hog", &err) == PS_OK;
    }
    assert_int_equal(taken, QUEUE / 2);
    free(cluster_sql(db.admin, "COMMIT"));
    for (int i = 0; i < QUEUE; i++) {
        if (other[i].accepted) {
            sent_wait(&other[i]);
            expect(&other[i], PS_OK);
        }
        sent_done(&other[i]);
    }
    sent_done(&hog[QUEUE]);
    sent_done(&late);
    stop(&f);
}

static void
test_queue_bytes(void **state)
{
    (void)state;
    static sent requests[3];
    fixture f;
    settings set = sender_settings();
    start(&f, &set);
    free(cluster_sql(db.admin, "BEGIN; LOCK TABLE _prom_data.fresh IN ACCESS EXCLUSIVE MODE"));
    for (int i = 0; i < 3; i++) {
        sent_init(&requests[i]);
        for (int k = 0; k < 1000; k++)
            sent_one(&requests[i], "m", "1", MS(k * 3 + i), k);
    }
    assert_int_equal(sent_submit(f.w, &requests[0], "", NULL), PS_OK);
    f.set.ingest_queue_bytes =
        (int64_t)requests[0].body.len * 5 / 2; /* read under no lock, by this thread only */
    assert_int_equal(sent_submit(f.w, &requests[1], "", NULL), PS_OK);
    assert_int_equal(sent_submit(f.w, &requests[2], "", NULL), PS_EUNAVAILABLE);
    assert_true(counter(&f, "promscale_ingest_rejected_total",
                        "type=\"metric\",reason=\"queue-bytes\"") == 1);
    f.set.ingest_max_body_bytes = 100;
    ps_err err;
    assert_int_equal(sent_submit(f.w, &requests[2], "", &err), PS_ELIMIT);
    assert_true(counter(&f, "promscale_ingest_limit_hits_total",
                        "type=\"metric\",limit=\"body-bytes\"") == 1);
    free(cluster_sql(db.admin, "COMMIT"));
    for (int i = 0; i < 2; i++) {
        sent_wait(&requests[i]);
        expect(&requests[i], PS_OK);
    }
    for (int i = 0; i < 3; i++)
        sent_done(&requests[i]);
    stop(&f);
}

/* ---- stopping ------------------------------------------------------------------------------- */

static void
test_stop_drains_or_gives_up(void **state)
{
    (void)state;
    enum { REQUESTS = 30 };
    static sent requests[REQUESTS], after;
    fixture f;
    settings set = sender_settings();
    for (int stalled = 0; stalled < 2; stalled++) {
        start(&f, &set);
        for (int i = 0; i < REQUESTS; i++) {
            sent_init(&requests[i]);
            sent_one(&requests[i], stalled ? "s" : "m", "1", MS(i), i);
        }
        if (stalled)
            free(cluster_sql(db.admin,
                             "BEGIN; LOCK TABLE _prom_data.fresh IN ACCESS EXCLUSIVE MODE"));
        for (int i = 0; i < REQUESTS; i++)
            assert_int_equal(sent_submit(f.w, &requests[i], "", NULL), PS_OK);
        write_path_stop(f.w, stalled ? 200 : 10000);
        for (int i = 0; i < REQUESTS; i++)
            expect(&requests[i], stalled ? PS_EUNAVAILABLE : PS_OK);
        sent_init(&after);
        sent_one(&after, "m", "1", MS(0), 0);
        assert_int_equal(sent_submit(f.w, &after, "", NULL), PS_EUNAVAILABLE);
        sent_done(&after);
        write_path_free(f.w);
        metrics_free(f.registry);
        log_free(f.log);
        if (stalled)
            free(cluster_sql(db.admin, "COMMIT"));
        for (int i = 0; i < REQUESTS; i++)
            sent_done(&requests[i]);
    }
}

/* ---- metadata and exemplars ----------------------------------------------------------------- */

static void
test_metadata_and_exemplars(void **state)
{
    (void)state;
    fixture f;
    settings set = sender_settings();
    start(&f, &set);
    sent s;
    sent_init(&s);
    const mdl_label labels[] = {{PS_STR("__name__"), PS_STR("m")}, {PS_STR("a"), PS_STR("1")}};
    const mdl_label trace[] = {{PS_STR("trace_id"), PS_STR("it's \"quoted\" \\ and \n split")}};
    const mdl_label bad[] = {{PS_STR("trace_id"), PS_STR("\xff")}};
    const wire_exemplar exemplars[] = {{trace, 1, MS(1), 0.25},
                                       {bad, 1, MS(1), 1},
                                       {trace, 1, MS(2), NAN}};
    wire_write_series(&s.message, (mdl_labels){labels, 2}, &(wire_sample){MS(0), 1, 0}, 1,
                      exemplars, 3);
    wire_write_metadata(&s.message, &(wire_metadata){WIRE_METRIC_COUNTER, PS_STR("m"),
                                                     PS_STR("What it's for."), PS_STR("s")});
    assert_int_equal(sent_submit(f.w, &s, "", NULL), PS_OK);
    sent_wait(&s);
    expect(&s, PS_OK);
    assert_int_equal(s.result.samples_written, 1);
    assert_int_equal(s.result.exemplars_written, 2);
    assert_int_equal(cluster_number(db.admin, "SELECT count(*) FROM _prom_data.exemplar"), 2);
    char *text = cluster_sql(
        db.admin,
        "SELECT (labels->>'trace_id') || extract(epoch FROM time) || value FROM _prom_data.exemplar"
        " WHERE value = 0.25");
    assert_string_equal(text, "it's \"quoted\" \\ and \n split1700000001.0000000.25");
    free(text);
    text = cluster_sql(
        db.admin,
        "SELECT concat_ws('/', metric_family, type, unit, help) FROM _prom_catalog.metadata");
    assert_string_equal(text, "m/counter/s/What it's for.");
    free(text);
    sent_done(&s);
    stop(&f);
}

/* As many exemplars as a request may have, and ten thousand new series with them. */
static void
test_many_new_series_and_exemplars(void **state)
{
    (void)state;
    enum { SERIES = 25000, EXEMPLARS = 5000 };
    fixture f;
    settings set = sender_settings();
    start(&f, &set);
    sent s;
    sent_init(&s);
    for (int i = 0; i < SERIES; i++) {
        char name[32], a[32];
        snprintf(name, sizeof(name), "m%d", i % 300);
        snprintf(a, sizeof(a), "%d", i);
        const mdl_label labels[] = {{PS_STR("__name__"), ps_str_c(name)},
                                    {PS_STR("a"), ps_str_c(a)}};
        const mdl_label trace[] = {{PS_STR("trace_id"), ps_str_c(a)}};
        const wire_exemplar exemplar = {trace, 1, MS(1), i};
        wire_write_series(&s.message, (mdl_labels){labels, 2}, &(wire_sample){MS(0), i, 0}, 1,
                          &exemplar, i < EXEMPLARS);
    }
    assert_int_equal(sent_submit(f.w, &s, "", NULL), PS_OK);
    sent_wait(&s);
    expect(&s, PS_OK);
    assert_int_equal(s.result.samples_written, SERIES);
    assert_int_equal(s.result.exemplars_written, EXEMPLARS);
    assert_int_equal(cluster_number(db.admin, "SELECT count(*) FROM _prom_catalog.series"), SERIES);
    assert_int_equal(cluster_number(db.admin, "SELECT count(*) FROM _prom_data.exemplar e"
                                              " JOIN _prom_catalog.series s ON s.id = e.series_id"
                                              " AND s.metric_id = e.metric_id"
                                              " JOIN _prom_catalog.label l ON l.id = ANY (s.labels)"
                                              " AND l.value = e.value::int::text"),
                     EXEMPLARS);
    sent_done(&s);
    stop(&f);
}

static int
create_cluster(void **state)
{
    (void)state;
    return cluster_create(&db);
}

static int
drop_cluster(void **state)
{
    (void)state;
    cluster_drop(&db);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_acknowledged_is_present_once, fresh_database),
        cmocka_unit_test_setup(test_values_survive_to_the_bit, fresh_database),
        cmocka_unit_test_setup(test_the_good_part_is_stored, fresh_database),
        cmocka_unit_test_setup(test_first_write_wins, fresh_database),
        cmocka_unit_test_setup(test_poison_label, fresh_database),
        cmocka_unit_test_setup(test_poison_flush, fresh_database),
        cmocka_unit_test_setup(test_poison_histogram, fresh_database),
        cmocka_unit_test_setup(test_commit_with_a_warning_is_not_acknowledged, fresh_database),
        cmocka_unit_test_setup(test_request_that_kills_its_connection, fresh_database),
        cmocka_unit_test_setup(test_backends_killed_while_writing, fresh_database),
        cmocka_unit_test_setup(test_server_crashes_while_writing, fresh_database),
        cmocka_unit_test_setup(test_generation_moves_on, fresh_database),
        cmocka_unit_test_setup(test_stalled_database, fresh_database),
        cmocka_unit_test_setup(test_stalled_catalog, fresh_database),
        cmocka_unit_test_setup(test_decoded_memory_is_bounded, fresh_database),
        cmocka_unit_test_setup(test_another_database, fresh_database),
        cmocka_unit_test_setup(test_queue_limits_and_shares, fresh_database),
        cmocka_unit_test_setup(test_queue_bytes, fresh_database),
        cmocka_unit_test_setup(test_stop_drains_or_gives_up, fresh_database),
        cmocka_unit_test_setup(test_metadata_and_exemplars, fresh_database),
        cmocka_unit_test_setup(test_many_new_series_and_exemplars, fresh_database),
    };
    if (getenv("TEST_FILTER") != NULL)
        cmocka_set_test_filter(getenv("TEST_FILTER"));
    return cmocka_run_group_tests(tests, create_cluster, drop_cluster);
}
