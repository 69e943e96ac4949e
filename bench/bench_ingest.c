/*
 * bench_ingest.c - what a sample costs in the connector before it reaches the network again:
 * decompress, decode and look up, batch and encode. No database, no HTTP, one thread: CPU seconds
 * per million samples, stage by stage.
 *
 * bench_ingest [series] [samples per request] [requests per flush] [scrapes] [version]
 *
 * version is that of remote write, 1 or 2. In 2.0 each series has its metadata, as Prometheus sends them.
 * The fleet is like the standard load's: 500 series a target in 137 metrics, nine labels, some 170
 * bytes of label text; each request holds consecutive series of one scrape.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "connector/write/internal.h"

enum { PER_TARGET = 500, METRICS = 137 };

typedef struct totals {
    double snappy, decode, batch;
    uint64_t samples, wire_bytes, body_bytes, rows, row_bytes;
} totals;

static double
cpu_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int64_t
fixed_now(void *self)
{
    (void)self;
    return INT64_C(1800000000000);
}

/* To `out`, or to `v2` if that is not NULL. */
static void
put_series(ps_buf *out, wire_v2_writer *v2, uint32_t series, int scrape)
{
    char name[64], instance[64], host[64], device[32], uid[48];
    uint32_t target = series / PER_TARGET, k = series % PER_TARGET;
    snprintf(name, sizeof(name), "node_some_subsystem_metric_%u_total", k % METRICS);
    snprintf(instance, sizeof(instance), "10.1.%u.%u:9100", target / 250, target % 250);
    snprintf(host, sizeof(host), "host-%05u.eu-west-1.example.net", target);
    snprintf(device, sizeof(device), "dev%u", k / METRICS);
    snprintf(uid, sizeof(uid), "%08x-%04x", target * 2654435761u, target & 0xffff);
    const mdl_label labels[] = {
        {PS_STR("__name__"), ps_str_c(name)}, {PS_STR("cluster"), PS_STR("production-a")},
        {PS_STR("device"), ps_str_c(device)}, {PS_STR("env"), PS_STR("prod")},
        {PS_STR("host"), ps_str_c(host)},     {PS_STR("instance"), ps_str_c(instance)},
        {PS_STR("job"), PS_STR("node")},      {PS_STR("region"), PS_STR("eu-west-1")},
        {PS_STR("uid"), ps_str_c(uid)}};
    double v;
    switch (k % 4) {
    case 0:
        v = k;
        break;
    case 1:
        v = (double)scrape * (k + 7);
        break;
    case 2:
        v = (double)(scrape * 15 + (int)(k % 13)) / 100.0;
        break;
    default:
        v = 4096.0 * ((k * 7919u + (uint32_t)scrape * 31u) % 65536u);
        break;
    }
    wire_sample sample = {INT64_C(1700000000000) + scrape * 15000 + target % 15000, v, 0};
    const mdl_labels set = {labels, PS_ARRAY_LEN(labels)};
    if (v2 == NULL) {
        wire_write_series(out, set, &sample, 1, NULL, 0);
        return;
    }
    snprintf(host, sizeof(host), "What metric %u of the subsystem says.", k % METRICS);
    const wire_metadata metadata = {.type = WIRE_METRIC_COUNTER, .help = ps_str_c(host)};
    wire_v2_write(v2, &(wire_v2_item){.labels = set,
                                      .samples = &sample,
                                      .n_samples = 1,
                                      .metadata = &metadata});
}

/* Stands in for the resolver: new series get numbers. */
static void
resolve(write_path *w, wp_request *r, int64_t *next_id)
{
    for (size_t i = 0; i < r->n_fresh; i++) {
        wp_new_series *fresh = &r->fresh[i];
        mdl_label labels[16];
        wire_series as_wire = {.bytes = fresh->key,
                               .label_bytes = fresh->key,
                               .n_labels = fresh->n_labels};
        wire_series_labels(&as_wire, labels);
        int32_t metric_id = 1 + (int32_t)(ps_hash64(labels[0].value, 7) % 100000);
        series_cache_item item = {.key = fresh->key,
                                  .ref = {.series_id = ++*next_id, .metric_id = metric_id}};
        if (!series_cache_insert(w->cache, r->epoch, &item, 1))
            abort();
        for (uint32_t k = 0; k < fresh->n_points; k++) {
            r->points[fresh->first_point + k].series_id = item.ref.series_id;
            r->points[fresh->first_point + k].metric_id = metric_id;
        }
    }
}

/* Stands in for it, too: the database has taken the metadata. */
static void
store_metadata(write_path *w, const wp_request *r)
{
    for (size_t i = 0; i < r->n_metadata; i++)
        wp_tell(w, r->marks[i]);
}

/* One request as a client sends it. */
static ps_status
make_body(ps_buf *message, wire_v2_writer *v2, uint32_t from, uint32_t to, int scrape, ps_buf *body,
          ps_err *err)
{
    ps_buf_clear(message);
    for (uint32_t k = from; k < to; k++)
        put_series(message, v2, k, scrape);
    if (v2 != NULL)
        PS_TRY(wire_v2_writer_finish(v2, message, err));
    return wire_snappy_encode(ps_buf_str(message), body, err);
}

static void
flush(wp_batch *b, wp_request **requests, size_t n, totals *t)
{
    ps_err err;
    double start = cpu_s();
    if (wp_batch_requests(b, requests, n, &err) != PS_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    t->batch += cpu_s() - start;
    t->rows += b->n_rows;
    t->row_bytes += b->copy.len;
}

static void
print_totals(const char *what, const totals *t, const series_cache_stats *cache)
{
    double m = (double)t->samples / 1e6;
    printf("%-10s %8.1f M samples  snappy %.4f  decode+look-up %.4f  batch+encode %.4f"
           "  all %.4f CPU-s/M\n",
           what, m, t->snappy / m, (t->decode - t->snappy) / m, t->batch / m,
           (t->decode + t->batch) / m);
    printf("           %.1f B/sample on the wire, %.1f decompressed; %.1f samples a row,"
           " %.2f B/sample sent to the"
           " database; cache %zu series, %.1f MB, %.1f %% hits\n",
           (double)t->body_bytes / (double)t->samples, (double)t->wire_bytes / (double)t->samples,
           (double)t->samples / (double)t->rows, (double)t->row_bytes / (double)t->samples,
           cache->elements, (double)cache->bytes / 1e6,
           cache->queries > 0 ? 100.0 * (double)cache->hits / (double)cache->queries : 0);
}

int
main(int argc, char **argv)
{
    uint32_t n_series = argc > 1 ? (uint32_t)atoi(argv[1]) : 50000;
    uint32_t per_request = argc > 2 ? (uint32_t)atoi(argv[2]) : 2000;
    size_t per_flush = argc > 3 ? (size_t)atoi(argv[3]) : 4;
    int scrapes = argc > 4 ? atoi(argv[4]) : 40;
    write_version version = argc > 5 && atoi(argv[5]) == 2 ? WRITE_V2 : WRITE_V1;
    enum { MAX_PER_FLUSH = 256 };
    if (per_flush < 1 || per_flush > MAX_PER_FLUSH || per_request < 1 || n_series < 1)
        return 2;

    settings set = {.ingest_max_decompressed_bytes = 64 << 20,
                    .ingest_max_series = 1000000,
                    .ingest_max_samples = 10000000,
                    .ingest_max_labels = 500,
                    .ingest_max_label_name_bytes = 1024,
                    .ingest_max_label_value_bytes = 65536,
                    .ingest_max_label_set_bytes = 262144,
                    .ingest_max_metadata = 10000,
                    .ingest_max_symbols = 1000000,
                    .ingest_max_future_ms = 600000};
    write_path *w = calloc(1, sizeof(*w));
    wp_tenant *tenant = calloc(1, sizeof(*tenant) + 1);
    wp_request *requests[MAX_PER_FLUSH];
    wp_decoder d;
    wp_batch b;
    ps_err err;
    series_cache_config cache = {.max_bytes = (size_t)1 << 30};
    if (w == NULL || tenant == NULL || series_cache_new(&cache, &w->cache, &err) != PS_OK)
        return 1;
    w->set = &set;
    w->now_ms = fixed_now;
    for (size_t i = 0; i < per_flush; i++) {
        requests[i] = wp_request_new(w);
        requests[i]->tenant = tenant;
    }
    wp_decoder_init(&d);
    wp_batch_init(&b);

    /* Built before anything is measured: the generator must not disturb the caches. */
    size_t n_bodies = (n_series + per_request - 1) / per_request;
    ps_buf *bodies = calloc(n_bodies * (size_t)scrapes, sizeof(*bodies));
    uint64_t message_bytes = 0;
    if (bodies == NULL)
        return 1;
    ps_buf message;
    ps_buf_init(&message, &ps_malloc);
    wire_v2_writer *v2 = version == WRITE_V2 ? wire_v2_writer_new(&ps_malloc, 1 << 30) : NULL;
    for (size_t i = 0; i < n_bodies * (size_t)scrapes; i++) {
        uint32_t at = (uint32_t)(i % n_bodies) * per_request;
        uint32_t end = at + per_request < n_series ? at + per_request : n_series;
        ps_buf_init(&bodies[i], &ps_malloc);
        if (make_body(&message, v2, at, end, (int)(i / n_bodies), &bodies[i], &err) != PS_OK)
            return 1;
        message_bytes += message.len;
    }
    ps_buf_done(&message);
    wire_v2_writer_free(v2);

    int64_t next_id = 0;
    size_t filled = 0;
    totals cold = {0}, warm = {0};
    for (size_t i = 0; i < n_bodies * (size_t)scrapes; i++) {
        totals *t = i < n_bodies ? &cold : &warm;
        wp_request *r = requests[filled++];
        r->in = (write_request){.body = ps_buf_str(&bodies[i]),
                                .encoding = WRITE_SNAPPY,
                                .version = version};
        double start = cpu_s();
        wp_decode(w, &d, r);
        t->decode += cpu_s() - start;
        start = cpu_s();
        if (wire_snappy_decode(r->in.body, 64 << 20, &d.raw, &err) !=
            PS_OK) /* its share, measured apart */
            return 1;
        t->snappy += cpu_s() - start;
        t->samples += r->n_points;
        t->wire_bytes += message_bytes / (n_bodies * (uint64_t)scrapes);
        t->body_bytes += bodies[i].len;
        if (r->n_fresh > 0)
            resolve(w, r, &next_id);
        store_metadata(w, r);
        if (filled == per_flush) {
            flush(&b, requests, filled, t);
            filled = 0;
        }
    }
    series_cache_stats stats = series_cache_get_stats(w->cache);
    print_totals("cold", &cold, &stats);
    print_totals("warm", &warm, &stats);
    wp_batch_done(&b);
    wp_decoder_done(&d);
    for (size_t i = 0; i < n_bodies * (size_t)scrapes; i++)
        ps_buf_done(&bodies[i]);
    free(bodies);
    for (size_t i = 0; i < per_flush; i++) {
        wp_request_trim(requests[i]);
        free(requests[i]);
    }
    series_cache_free(w->cache);
    free(tenant);
    free(w);
    return 0;
}
