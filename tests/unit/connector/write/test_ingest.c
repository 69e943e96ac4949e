/*
 * test_ingest.c - the write path against a real PostgreSQL: what is answered "committed" is there, once;
 * what is refused says why; nobody's data holds up others'.
 */
#include "tests/unit/connector/write/sender.h"

#include <math.h>

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
    assert_int_equal(log_new(2, "logfmt", getenv("TEST_LOG") != NULL ? getenv("TEST_LOG") : "error", &f->log, &err),
                     PS_OK);
    write_path_config config = {.settings = &f->set, .conninfo = db.conninfo, .log = f->log, .metrics = f->registry};
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
        print_message("answers %d, status %s: %s\n", s->answers, ps_status_name(s->result.status), s->text);
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

/* ---- acknowledged means present -------------------------------------------------------------------------- */

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
    assert_int_equal(cluster_number(db.admin, "SELECT count(*) FROM _prom_catalog.series"), 2 * SERIES);
    assert_true(counter(&f, "promscale_ingest_items_total", "type=\"metric\",kind=\"sample\"") == 2 * REQUESTS * SERIES);
    assert_true(write_path_healthy(f.w));
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
    };
    return cmocka_run_group_tests(tests, create_cluster, drop_cluster);
}
