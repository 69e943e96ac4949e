/*
 * stats.c - the write path's counters and histograms, named after its stages.
 */
#include "connector/write/internal.h"

#define TYPE "type=\"metric\""

static const double seconds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                 0.1,    0.25,    0.5,    1,     2.5,    5,     10,   30};
static const double counts[] = {1,     10,    100,   500,    1000,   2500,   5000,
                                10000, 25000, 50000, 100000, 250000, 1000000};
static const double few[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096};
static const double sizes[] = {1024,    4096,    16384,    65536,   262144,
                               1048576, 4194304, 16777216, 67108864};

static const char *const reason_names[WP_REASONS] = {
    [WP_REASON_LABELS] = "labels",       [WP_REASON_LABEL_LIMIT] = "label-limit",
    [WP_REASON_FUTURE] = "future",       [WP_REASON_TIME] = "time",
    [WP_REASON_HISTOGRAM] = "histogram", [WP_REASON_EXEMPLAR] = "exemplar",
    [WP_REASON_METADATA] = "metadata",   [WP_REASON_DATABASE] = "database",
    [WP_REASON_REFERENCE] = "reference", [WP_REASON_EMPTY] = "empty",
    [WP_REASON_OTLP] = "otlp",           [WP_REASON_OLD] = "old",
};

const char *
wp_reason_name(wp_reason reason)
{
    return reason < WP_REASONS ? reason_names[reason] : "unknown";
}

static double
up(void *self)
{
    return write_path_healthy(self) ? 1 : 0;
}

static size_t
locked_size(write_path *w, const size_t *value)
{
    pthread_mutex_lock(&w->mu);
    size_t v = *value;
    pthread_mutex_unlock(&w->mu);
    return v;
}

static double
queued_decode(void *self)
{
    write_path *w = self;
    return (double)locked_size(w, &w->n_queued[WP_DECODE]);
}

static double
queued_resolve(void *self)
{
    write_path *w = self;
    return (double)locked_size(w, &w->n_queued[WP_RESOLVE]);
}

static double
queued_flush(void *self)
{
    write_path *w = self;
    return (double)locked_size(w, &w->n_queued[WP_FLUSH]);
}

static double
requests_inside(void *self)
{
    write_path *w = self;
    return (double)locked_size(w, &w->n_inside);
}

static double
bytes_inside(void *self)
{
    write_path *w = self;
    return (double)locked_size(w, &w->bytes_inside);
}

static double
bytes_held(void *self)
{
    write_path *w = self;
    return (double)locked_size(w, &w->held_bytes);
}

static void
init_gauges(write_path *w, metrics *m)
{
    static const char len_help[] = "Requests that wait for a stage.";
    metrics_gauge_fn(m, "promscale_ingest_channel_len", len_help, TYPE ",subsystem=\"decode\"",
                     queued_decode, w);
    metrics_gauge_fn(m, "promscale_ingest_channel_len", len_help, TYPE ",subsystem=\"resolve\"",
                     queued_resolve, w);
    metrics_gauge_fn(m, "promscale_ingest_channel_len", len_help, TYPE ",subsystem=\"flush\"",
                     queued_flush, w);
    metrics_gauge_fn(m, "promscale_ingest_active_write_requests",
                     "Write requests that are not answered yet.", TYPE, requests_inside, w);
    metrics_gauge_fn(m, "promscale_ingest_queue_bytes", "Bytes of the bodies of these requests.",
                     TYPE, bytes_inside, w);
    metrics_gauge_fn(m, "promscale_ingest_held_bytes",
                     "Memory of requests that are decoded and not answered.", TYPE, bytes_held, w);
    metrics_gauge_fn(m, "promscale_sql_database_up",
                     "1 while the database takes what is sent to it.", "", up, w);
    metric_set(metrics_gauge(m, "promscale_ingest_channel_cap",
                             "Requests that may be inside at once.", TYPE),
               (double)w->set->ingest_queue_requests);
}

static void
init_refusals(wp_stats *s, metrics *m)
{
    static const char *const reason_labels[WP_REASONS] = {
        [WP_REASON_LABELS] = TYPE ",reason=\"labels\"",
        [WP_REASON_LABEL_LIMIT] = TYPE ",reason=\"label-limit\"",
        [WP_REASON_FUTURE] = TYPE ",reason=\"future\"",
        [WP_REASON_TIME] = TYPE ",reason=\"time\"",
        [WP_REASON_HISTOGRAM] = TYPE ",reason=\"histogram\"",
        [WP_REASON_EXEMPLAR] = TYPE ",reason=\"exemplar\"",
        [WP_REASON_METADATA] = TYPE ",reason=\"metadata\"",
        [WP_REASON_DATABASE] = TYPE ",reason=\"database\"",
        [WP_REASON_REFERENCE] = TYPE ",reason=\"reference\"",
        [WP_REASON_EMPTY] = TYPE ",reason=\"empty\"",
        [WP_REASON_OTLP] = TYPE ",reason=\"otlp\"",
        [WP_REASON_OLD] = TYPE ",reason=\"old\"",
    };
    static const char *const limit_labels[WP_LIMITS] = {
        [WP_LIMIT_BODY] = TYPE ",limit=\"body-bytes\"",
        [WP_LIMIT_DECOMPRESSED] = TYPE ",limit=\"decompressed-bytes\"",
        [WP_LIMIT_SERIES] = TYPE ",limit=\"series\"",
        [WP_LIMIT_SAMPLES] = TYPE ",limit=\"samples\"",
        [WP_LIMIT_EXEMPLARS] = TYPE ",limit=\"exemplars\"",
        [WP_LIMIT_METADATA] = TYPE ",limit=\"metadata\"",
        [WP_LIMIT_SYMBOLS] = TYPE ",limit=\"symbols\"",
    };
    static const char *const rejection_labels[WP_REJECTIONS] = {
        [WP_REJECT_QUEUE_REQUESTS] = TYPE ",reason=\"queue-requests\"",
        [WP_REJECT_QUEUE_BYTES] = TYPE ",reason=\"queue-bytes\"",
        [WP_REJECT_TENANT_SHARE] = TYPE ",reason=\"tenant-share\"",
        [WP_REJECT_STOPPING] = TYPE ",reason=\"stopping\"",
        [WP_REJECT_TIMEOUT] = TYPE ",reason=\"timeout\"",
        [WP_REJECT_FAULT] = TYPE ",reason=\"fault\"",
    };
    for (size_t i = 0; i < WP_REASONS; i++)
        s->refused[i] =
            metrics_counter(m, "promscale_ingest_items_refused_total",
                            "Samples (or series, exemplars, metadata) that will never be stored.",
                            reason_labels[i]);
    for (size_t i = 0; i < WP_LIMITS; i++)
        s->limits[i] = metrics_counter(m, "promscale_ingest_limit_hits_total",
                                       "Times that a request was over a limit.", limit_labels[i]);
    for (size_t i = 0; i < WP_REJECTIONS; i++)
        s->rejected[i] =
            metrics_counter(m, "promscale_ingest_rejected_total",
                            "Requests answered with: send again later.", rejection_labels[i]);
}

static void
init_flush(wp_stats *s, metrics *m)
{
    static const char *const verdict_labels[4] = {TYPE ",verdict=\"retry\"",
                                                  TYPE ",verdict=\"generation\"",
                                                  TYPE ",verdict=\"data\"",
                                                  TYPE ",verdict=\"bug\""};
    s->flushes = metrics_counter(m, "promscale_ingest_flushes_total",
                                 "Transactions of samples committed.", TYPE);
    for (size_t i = 0; i < PS_ARRAY_LEN(verdict_labels); i++)
        s->flush_failures[i] =
            metrics_counter(m, "promscale_ingest_flush_failures_total",
                            "Transactions of samples that failed and were tried again.",
                            verdict_labels[i]);
    s->flush_samples = metrics_histogram(m, "promscale_ingest_flush_samples", "Samples in a flush.",
                                         TYPE, counts, PS_ARRAY_LEN(counts));
    s->flush_requests = metrics_histogram(m, "promscale_ingest_inserts_per_batch",
                                          "Requests in a flush.", TYPE, few, PS_ARRAY_LEN(few));
    s->flush_rows =
        metrics_histogram(m, "promscale_ingest_rows_per_batch", "Rows (blocks) in a flush.", TYPE,
                          counts, PS_ARRAY_LEN(counts));
    s->flush_bytes = metrics_histogram(m, "promscale_ingest_flush_bytes", "Bytes sent in a flush.",
                                       TYPE, sizes, PS_ARRAY_LEN(sizes));
}

void
wp_stats_init(write_path *w, metrics *m)
{
    static const char *const stage_labels[WP_STAGES] = {
        [WP_STAGE_RECEIVE] = TYPE ",stage=\"receive\"",
        [WP_STAGE_DECODE] = TYPE ",stage=\"decode\"",
        [WP_STAGE_RESOLVE] = TYPE ",stage=\"resolve\"",
        [WP_STAGE_BATCH] = TYPE ",stage=\"batch\"",
        [WP_STAGE_FLUSH] = TYPE ",stage=\"flush\"",
    };
    wp_stats *s = &w->stats;
    if (m == NULL)
        return;
    s->received = metrics_counter(m, "promscale_ingest_items_received",
                                  "Items in requests as received.", TYPE ",kind=\"sample\"");
    s->written = metrics_counter(m, "promscale_ingest_items_total", "Items committed and flushed.",
                                 TYPE ",kind=\"sample\"");
    s->histograms_received =
        metrics_counter(m, "promscale_ingest_items_received", "Items in requests as received.",
                        TYPE ",kind=\"histogram\"");
    s->histograms_written =
        metrics_counter(m, "promscale_ingest_items_total", "Items committed and flushed.",
                        TYPE ",kind=\"histogram\"");
    s->exemplars_written =
        metrics_counter(m, "promscale_ingest_items_total", "Items committed and flushed.",
                        TYPE ",kind=\"exemplar\"");
    s->metadata_written =
        metrics_counter(m, "promscale_ingest_items_total", "Items committed and flushed.",
                        TYPE ",kind=\"metadata\"");
    s->old = metrics_counter(m, "promscale_ingest_old_samples_total",
                             "Samples older than their series is kept, stored or refused.", TYPE);
    s->duplicates = metrics_counter(m, "promscale_ingest_duplicates_total",
                                    "Samples that came twice in one flush with the same value.",
                                    TYPE ",kind=\"sample\"");
    s->conflicts =
        metrics_counter(m, "promscale_ingest_conflicts_total",
                        "Samples that came twice in one flush with another value; the first stays.",
                        TYPE ",kind=\"sample\"");
    s->series_resolved = metrics_counter(m, "promscale_ingest_series_resolved_total",
                                         "Series whose ids were asked of the database.", TYPE);
    s->generation_changes =
        metrics_counter(m, "promscale_ingest_generation_changes_total",
                        "Times that the catalog moved on and requests were resolved again.", TYPE);
    s->max_time = metrics_gauge(m, "promscale_ingest_max_sent_timestamp_milliseconds",
                                "Latest time of a sample that was stored.", TYPE);
    for (size_t i = 0; i < WP_STAGES; i++)
        s->stages[i] =
            metrics_histogram(m, "promscale_ingest_stage_duration_seconds",
                              "Time that a request spent in a stage, waiting for it included.",
                              stage_labels[i], seconds, PS_ARRAY_LEN(seconds));
    init_refusals(s, m);
    init_flush(s, m);
    init_gauges(w, m);
}

void
wp_observe(const write_path *w, wp_stage stage, int64_t since_ns)
{
    metric_observe(w->stats.stages[stage], (double)(pg_now_ns() - since_ns) / 1e9);
}
