/*
 * sender.h - for tests of the write path: requests built sample by sample, sent, and their answers
 * awaited; and a reader of everything that the database holds.
 */
#ifndef PROMSCALE_TESTS_SENDER_H
#define PROMSCALE_TESTS_SENDER_H

#include <pthread.h>
#include <time.h>

#include "connector/write/write.h"
#include "lib/block/block.h"
#include "lib/wire/wire.h"
#include "tests/unit/connector/write/cluster.h"
#include "tests/unit/support.h"

/* ---- settings as a test needs them ---------------------------------------------------------- */

static inline settings
sender_settings(void)
{
    return (settings){.ingest_max_body_bytes = 16 << 20,
                      .ingest_max_decompressed_bytes = 64 << 20,
                      .ingest_max_series = 100000,
                      .ingest_max_samples = 1000000,
                      .ingest_max_labels = 500,
                      .ingest_max_label_name_bytes = 1024,
                      .ingest_max_label_value_bytes = 64 << 10,
                      .ingest_max_label_set_bytes = 256 << 10,
                      .ingest_max_exemplars = 10000,
                      .ingest_max_metadata = 10000,
                      .ingest_max_symbols = 1000000,
                      .ingest_max_histogram_buckets = 16384,
                      .ingest_max_future_ms = 600000,
                      .ingest_queue_requests = 1000,
                      .ingest_queue_bytes = 256 << 20,
                      .ingest_timeout_ms = 20000,
                      .ingest_workers = 2,
                      .ingest_flush_max_samples = 50000,
                      .ingest_flush_min_parallel = 20000,
                      .cache_series_max_bytes = 64 << 20};
}

/* ---- one request ---------------------------------------------------------------------------- */

typedef struct sent {
    ps_buf message, body;
    pthread_mutex_t mu;
    pthread_cond_t cv;
    int answers; /* must become exactly 1 */
    bool accepted;
    write_result result;
    char text[2048];
} sent;

static inline void
sent_init(sent *s)
{
    memset(s, 0, sizeof(*s));
    ps_buf_init(&s->message, &ps_malloc);
    ps_buf_init(&s->body, &ps_malloc);
    pthread_mutex_init(&s->mu, NULL);
    pthread_cond_init(&s->cv, NULL);
}

static inline void
sent_done(sent *s)
{
    ps_buf_done(&s->message);
    ps_buf_done(&s->body);
    pthread_mutex_destroy(&s->mu);
    pthread_cond_destroy(&s->cv);
}

/* Adds a series: "name", then pairs of label name and value, then NULL. Labels as given, in that
 * order. */
static inline void sent_series(sent *s, const wire_sample *samples, size_t n, const char *name, ...)
    __attribute__((sentinel));

static inline void
sent_series(sent *s, const wire_sample *samples, size_t n, const char *name, ...)
{
    mdl_label labels[16] = {{PS_STR(MDL_METRIC_NAME), ps_str_c(name)}};
    size_t n_labels = 1;
    va_list args;
    va_start(args, name);
    for (const char *key = va_arg(args, const char *); key != NULL;
         key = va_arg(args, const char *)) {
        labels[n_labels].name = ps_str_c(key);
        labels[n_labels++].value = ps_str_c(va_arg(args, const char *));
    }
    va_end(args);
    wire_write_series(&s->message, (mdl_labels){labels, n_labels}, samples, n, NULL, 0);
}

static inline void
sent_one(sent *s, const char *metric_name, const char *value_of_a, int64_t t_ms, double v)
{
    sent_series(s, &(wire_sample){t_ms, v, 0}, 1, metric_name, "a", value_of_a, NULL);
}

static inline void
on_answer(void *self, const write_result *result)
{
    sent *s = self;
    pthread_mutex_lock(&s->mu);
    s->answers++;
    s->result = *result;
    snprintf(s->text, sizeof(s->text), "%s", result->text);
    s->result.text = s->text;
    pthread_cond_broadcast(&s->cv);
    pthread_mutex_unlock(&s->mu);
}

static inline ps_status
sent_submit(write_path *w, sent *s, const char *tenant, ps_err *err)
{
    if (s->body.len == 0)
        assert_int_equal(wire_snappy_encode(ps_buf_str(&s->message), &s->body, NULL), PS_OK);
    s->answers = 0;
    write_request r = {.tenant = ps_str_c(tenant),
                       .body = ps_buf_str(&s->body),
                       .encoding = WRITE_SNAPPY};
    ps_status status = write_submit(w, &r, on_answer, s, err);
    s->accepted = status == PS_OK;
    return status;
}

static inline const write_result *
sent_wait(sent *s)
{
    pthread_mutex_lock(&s->mu);
    while (s->answers == 0)
        pthread_cond_wait(&s->cv, &s->mu);
    pthread_mutex_unlock(&s->mu);
    return &s->result;
}

/* Sends and waits, again while the answer is "later"; returns the last answer. */
static inline const write_result *
sent_until_taken(write_path *w, sent *s, const char *tenant)
{
    for (;;) {
        if (sent_submit(w, s, tenant, NULL) == PS_OK) {
            sent_wait(s);
            if (s->result.status != PS_EUNAVAILABLE)
                return &s->result;
        }
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
}

/* ---- what the database holds ---------------------------------------------------------------- */

typedef struct stored { /* one sample of one block row */
    char series[96];    /* "tenant/metric/value of label a" */
    int64_t t_ms;
    double value;
} stored;

typedef struct store {
    stored *items; /* sorted by series, time */
    size_t n, cap;
} store;

static inline int
stored_cmp(const void *a, const void *b)
{
    const stored *x = a, *y = b;
    int c = strcmp(x->series, y->series);
    return c != 0 ? c : (x->t_ms > y->t_ms) - (x->t_ms < y->t_ms);
}

static inline void
store_add_block(store *st, PGconn *conn, const char *hex)
{
    size_t len;
    unsigned char *data = PQunescapeBytea((const unsigned char *)hex, &len);
    char *exact = test_exact_copy(data, len);
    blk_reader *reader;
    ps_err err;
    assert_int_equal(blk_reader_open(&ps_malloc, (ps_str){exact, len}, NULL, &reader, &err), PS_OK);
    for (uint32_t i = 0; i < blk_reader_n_series(reader); i++) {
        blk_series s;
        size_t n;
        blk_reader_series(reader, i, &s);
        int64_t *t = calloc(s.n_samples, sizeof(*t));
        double *v = calloc(s.n_samples, sizeof(*v));
        assert_int_equal(blk_reader_decode(reader, i, INT64_MIN, INT64_MAX, t, v, &n, &err), PS_OK);
        char *name =
            cluster_sql(conn,
                        "SELECT concat_ws('/', t.name, m.metric_name, (SELECT l.value"
                        " FROM _prom_catalog.label l"
                        " JOIN _prom_catalog.label_key k ON k.id = l.key_id AND k.key = 'a'"
                        " WHERE l.id = ANY (s.labels))) FROM _prom_catalog.series s"
                        " JOIN _prom_catalog.metric m ON m.id = s.metric_id AND m.id = %d"
                        " JOIN _prom_catalog.tenant t ON t.id = s.tenant_id WHERE s.id = %lld",
                        (int)s.metric_id, (long long)s.series_id);
        for (size_t k = 0; k < n; k++) {
            if (st->n == st->cap) {
                st->cap = st->cap * 2 + 1024;
                st->items = realloc(st->items, st->cap * sizeof(stored));
            }
            stored *item = &st->items[st->n++];
            snprintf(item->series, sizeof(item->series), "%s",
                     name != NULL ? name : "(no such series)");
            item->t_ms = t[k];
            item->value = v[k];
        }
        free(name);
        free(t);
        free(v);
    }
    blk_reader_free(reader);
    free(exact);
    PQfreemem(data);
}

/* Everything in fresh. Samples that were sent twice may be there twice (readers count them
 * once), but then with one value. */
static inline void
store_load(store *st, PGconn *conn)
{
    memset(st, 0, sizeof(*st));
    PGresult *res = PQexec(conn, "SELECT data FROM _prom_data.fresh ORDER BY id");
    assert_int_equal(PQresultStatus(res), PGRES_TUPLES_OK);
    for (int i = 0; i < PQntuples(res); i++)
        store_add_block(st, conn, PQgetvalue(res, i, 0));
    PQclear(res);
    qsort(st->items, st->n, sizeof(stored), stored_cmp);
    size_t kept = 0;
    for (size_t i = 0; i < st->n; i++) {
        if (kept > 0 && stored_cmp(&st->items[kept - 1], &st->items[i]) == 0) {
            assert_true(ps_bits_of(st->items[kept - 1].value) == ps_bits_of(st->items[i].value));
            continue;
        }
        st->items[kept++] = st->items[i];
    }
    st->n = kept;
}

static inline void
store_done(store *st)
{
    free(st->items);
}

static inline const stored *
store_find(const store *st, const char *series, int64_t t_ms)
{
    stored key = {.t_ms = t_ms};
    snprintf(key.series, sizeof(key.series), "%s", series);
    return bsearch(&key, st->items, st->n, sizeof(stored), stored_cmp);
}

#endif
