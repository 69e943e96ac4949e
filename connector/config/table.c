/*
 * table.c - every setting, one row each; the order is that of --help and of docs/settings.md.
 */
#include "connector/config/table.h"

#include <ctype.h>
#include <stdio.h>

#define FIELD(f) offsetof(settings, f)
#define KB INT64_C(1024)
#define MB (1024 * KB)
#define GB (1024 * MB)
#define TB (1024 * GB)
#define SEC INT64_C(1000)
#define MIN_ (60 * SEC)
#define HOUR (60 * MIN_)
#define DAY (24 * HOUR)

/* clang-format off */
#define STRING(nm, f, d, operand, sec, help) \
    {nm, SETTING_STRING, FIELD(f), d, 0, 0, NULL, operand, sec, help}
#define BOOL(nm, f, d, sec, help) \
    {nm, SETTING_BOOL, FIELD(f), d, 0, 0, NULL, "BOOL", sec, help}
#define INT(nm, f, d, lo, hi, sec, help) \
    {nm, SETTING_INT, FIELD(f), d, lo, hi, NULL, "NUMBER", sec, help}
#define SIZE(nm, f, d, lo, hi, sec, help) \
    {nm, SETTING_SIZE, FIELD(f), d, lo, hi, NULL, "SIZE", sec, help}
#define DURATION(nm, f, d, lo, hi, sec, help) \
    {nm, SETTING_DURATION, FIELD(f), d, lo, hi, NULL, "DURATION", sec, help}
#define CHOICE(nm, f, d, choices, sec, help) \
    {nm, SETTING_CHOICE, FIELD(f), d, 0, 0, choices, "WORD", sec, help}

static const char general[] = "General";
static const char embedded[] = "Embedded PostgreSQL";
static const char yours[] = "A PostgreSQL of your own";
static const char web[] = "HTTP";
static const char ingest[] = "Ingest";
static const char otlp[] = "OpenTelemetry";
static const char query[] = "Queries";
static const char promql[] = "PromQL";
static const char remote_read[] = "Remote read";
static const char self[] = "Self-monitoring";
static const char startup[] = "Start and stop";
static const char logging[] = "Logging";

const setting settings_table[] = {
    STRING("config", config_file, "", "FILE", general,
           "YAML file with settings; keys as below, dotted (web.listen-address: ...) or nested."),

    STRING("data-dir", data_dir, "promscale-data", "DIR", embedded,
           "Folder of the private PostgreSQL that runs when no database of your own is named. "
           "Created if it does not exist."),
    SIZE("embedded.shared-buffers", embedded_shared_buffers, "128MB", 16 * MB, 1 * TB, embedded,
         "Its shared_buffers. The page cache of the system does the rest."),
    STRING("embedded.bin-dir", embedded_bin_dir, "", "DIR", embedded,
           "Folder that holds initdb and postgres. Found by itself if not set."),

    STRING("db.uri", db_uri, "", "URI", yours,
           "Connection URI (postgres://user:password@host:port/name). Excludes db.app, db.host, db.port, "
           "db.user, db.password, db.name and db.ssl-mode. Several hosts may be given, as libpq allows."),
    STRING("db.app", db_app, "promscale@" PROMSCALE_VERSION, "NAME", yours,
           "application_name of the connections."),
    STRING("db.host", db_host, "localhost", "HOST", yours, "Host name, or folder of a Unix socket."),
    INT("db.port", db_port, "5432", 1, 65535, yours, "TCP port."),
    STRING("db.user", db_user, "postgres", "NAME", yours, "User."),
    STRING("db.password", db_password, "", "TEXT", yours,
           "Password. Better in PROMSCALE_DB_PASSWORD, the file or ~/.pgpass: other users of the machine can "
           "read a program's arguments."),
    STRING("db.name", db_name, "promscale", "NAME", yours, "Database; it must exist and be UTF8."),
    CHOICE("db.ssl-mode", db_ssl_mode, "require", "disable|allow|prefer|require|verify-ca|verify-full", yours,
           "TLS to the database, as in libpq."),
    DURATION("db.connection-timeout", db_connection_timeout_ms, "60s", 1 * SEC, 1 * HOUR, yours,
             "How long the start waits for the database to answer."),

    STRING("web.listen-address", web_listen_address, "127.0.0.1:9201", "HOST:PORT", web,
           "Where HTTP is served. \":9201\" listens on all interfaces; there is no authentication in this "
           "version, so think twice."),
    STRING("web.telemetry-path", web_telemetry_path, "/metrics", "PATH", web,
           "Path of the connector's own metrics."),
    BOOL("web.enable-admin-api", web_enable_admin_api, "false", web,
         "Answers /api/v1/admin/tsdb/: whoever reaches the port may then delete series."),
    STRING("web.cors-origin", web_cors_origin, ".*", "REGEX", web,
           "Origins (of pages in browsers) whose scripts may call the API; matches whole origins. Empty: none."),
    INT("web.max-connections", web_max_connections, "512", 1, 65536, web,
        "Open client connections; further ones wait in the backlog."),
    DURATION("web.head-timeout", web_head_timeout_ms, "30s", 10, 1 * DAY, web,
             "A request's head must be complete this long after its first byte."),
    DURATION("web.body-timeout", web_body_timeout_ms, "60s", 10, 1 * DAY, web,
             "A request's body must be complete this long after its head; an answer must be read in the same time."),
    DURATION("web.idle-timeout", web_idle_timeout_ms, "5m", 10, 1 * DAY, web,
             "A kept-alive connection without a request is closed after this."),

    SIZE("ingest.max-body-bytes", ingest_max_body_bytes, "16MB", 1 * KB, 1 * GB, ingest,
         "Body of a write request as received; larger: 413."),
    SIZE("ingest.max-decompressed-bytes", ingest_max_decompressed_bytes, "64MB", 1 * KB, 4 * GB - 1, ingest,
         "The same after decompression; larger: 413."),
    INT("ingest.max-series", ingest_max_series, "100000", 1, 100000000, ingest, "Series in one request."),
    INT("ingest.max-samples", ingest_max_samples, "1000000", 1, 1000000000, ingest, "Samples in one request."),
    INT("ingest.max-labels", ingest_max_labels, "500", 1, 1000, ingest,
        "Labels of one series, the name included; a series with more is refused, the others are stored."),
    SIZE("ingest.max-label-name-bytes", ingest_max_label_name_bytes, "1024", 16, 1 * MB, ingest,
         "Length of one label name."),
    SIZE("ingest.max-label-value-bytes", ingest_max_label_value_bytes, "64KB", 16, 64 * MB, ingest,
         "Length of one label value."),
    SIZE("ingest.max-label-set-bytes", ingest_max_label_set_bytes, "256KB", 64, 64 * MB, ingest,
         "Names and values of one series together."),
    INT("ingest.max-exemplars", ingest_max_exemplars, "10000", 0, 10000000, ingest,
        "Exemplars in one request; a series that would go beyond it keeps none of its own."),
    INT("ingest.max-metadata", ingest_max_metadata, "10000", 0, 10000000, ingest,
        "Metadata entries in one request; those beyond it are not stored."),
    INT("ingest.max-symbols", ingest_max_symbols, "1000000", 1, 100000000, ingest,
        "Symbols in one request of remote write 2.0."),
    INT("ingest.max-histogram-buckets", ingest_max_histogram_buckets, "16384", 1, 16384, ingest,
        "Buckets, spans and custom bounds of one native histogram; one with more is refused, the others are stored."),
    DURATION("ingest.max-future", ingest_max_future_ms, "10m", 0, 3650 * DAY, ingest,
             "Samples further ahead of the clock than this are refused (out of bounds)."),
    CHOICE("ingest.old-samples", ingest_old_samples, "count", "accept|count|refuse", ingest,
           "Samples older than their series is kept: stored until retention comes by, silently or counted, or refused."),
    INT("ingest.queue-requests", ingest_queue_requests, "1000", 1, 1000000, ingest,
        "Write requests waiting or in work; beyond it: 503, the sender tries again."),
    SIZE("ingest.queue-bytes", ingest_queue_bytes, "256MB", 1 * MB, 1 * TB, ingest,
         "Bytes of bodies held in memory, received ones included; beyond it: 503."),
    DURATION("ingest.timeout", ingest_timeout_ms, "20s", 100, 1 * HOUR, ingest,
             "A write that is not committed by then is answered 503."),
    INT("ingest.workers", ingest_workers, "0", 0, 64, ingest,
        "Threads that decode and look series up. 0: one per core, at most 8."),
    INT("ingest.flush-max-samples", ingest_flush_max_samples, "50000", 1, 10000000, ingest,
        "Samples in one transaction, about."),
    INT("ingest.flush-min-parallel", ingest_flush_min_parallel, "20000", 1, 10000000, ingest,
        "Samples that must wait before a second transaction runs beside the first."),
    DURATION("ingest.flush-gather", ingest_flush_gather_ms, "20ms", 0, 1000, ingest,
             "While requests come close together, a transaction begins that long after the one before at the earliest, "
             "unless much waits or all senders do."),
    SIZE("metrics.cache.series.max-bytes", cache_series_max_bytes, "256MB", 1 * MB, 1 * TB, ingest,
         "Memory for the cache from label sets to series."),

    BOOL("web.enable-otlp-receiver", web_enable_otlp_receiver, "true", otlp,
         "Takes OpenTelemetry's metrics at /api/v1/otlp/v1/metrics; false: 404."),
    STRING("otlp.translation-strategy", otlp_translation_strategy, "UnderscoreEscapingWithSuffixes", "NAME", otlp,
           "How names become names of metrics and labels: UnderscoreEscapingWithSuffixes, "
           "UnderscoreEscapingWithoutSuffixes, NoUTF8EscapingWithSuffixes or NoTranslation."),
    STRING("otlp.promote-resource-attributes", otlp_promote_resource_attributes, "", "LIST", otlp,
           "Resource attributes that become labels of all series, separated by commas."),
    BOOL("otlp.promote-all-resource-attributes", otlp_promote_all_resource_attributes, "false", otlp,
         "All resource attributes become labels, but for those that are ignored."),
    STRING("otlp.ignore-resource-attributes", otlp_ignore_resource_attributes, "", "LIST", otlp,
           "Resource attributes that do not become labels when all do, separated by commas."),
    BOOL("otlp.keep-identifying-resource-attributes", otlp_keep_identifying_resource_attributes, "false", otlp,
         "target_info has service.name, service.namespace and service.instance.id as labels, too."),
    BOOL("otlp.convert-histograms-to-nhcb", otlp_convert_histograms_to_nhcb, "false", otlp,
         "Histograms with bounds become native histograms with custom buckets, else classic ones."),
    BOOL("otlp.promote-scope-metadata", otlp_promote_scope_metadata, "false", otlp,
         "Name, version, schema and attributes of the scope become labels otel_scope_..."),
    BOOL("otlp.label-name-underscore-sanitization", otlp_label_name_underscore_sanitization, "false", otlp,
         "Escaped label names that begin with one underscore get \"key\" in front."),
    BOOL("otlp.label-name-preserve-multiple-underscores", otlp_label_name_preserve_multiple_underscores, "false",
         otlp, "Each character that is escaped in a label name becomes an underscore, else runs become one."),
    CHOICE("otlp.delta", otlp_delta, "refuse", "refuse|as-is", otlp,
           "Data points of delta temporality: refused, or stored as they are, with their start timestamps."),

    INT("query.connections", query_connections, "8", 1, 1000, query,
        "Connections to the database for reading; a query holds one while it fetches. Opened when needed."),
    SIZE("query.max-bytes", query_max_bytes, "1GB", 1 * MB, 16 * TB, query,
         "Compressed samples and labels that one query may hold; one that needs more is refused."),
    CHOICE("query.damaged-blocks", query_damaged_blocks, "warn", "warn|error", query,
           "What a query does about blocks that cannot be read: leaves their samples out with a warning, or fails."),
    SIZE("query.index-max-bytes", query_index_max_bytes, "1GB", 1 * MB, 16 * TB, query,
         "Memory for the index from labels to series, about 130 bytes a series. Where not all series fit, "
         "or most are dead, those that lived lately are held, and others are read when a request needs them."),
    STRING("enable-feature", enable_feature, "", "LIST", promql,
           "Parts of the language that Prometheus has behind feature flags, by its names, separated by commas: "
           "promql-experimental-functions, promql-extended-range-selectors, promql-binop-fill-modifiers, "
           "promql-delayed-name-removal, promql-per-step-stats, use-start-timestamps, type-and-unit-labels."),
    DURATION("metrics.promql.query-timeout", promql_timeout_ms, "2m", 1, 1 * DAY, promql,
             "A query that has no answer by then ends with an error; the time in the queue counts."),
    DURATION("metrics.promql.default-subquery-step-interval", promql_subquery_step_ms, "1m", 1, 365 * DAY, promql,
             "Step of subqueries that name none."),
    DURATION("metrics.promql.lookback-delta", promql_lookback_ms, "5m", 1, 365 * DAY, promql,
             "How far back an instant selector looks for the newest sample."),
    INT("metrics.promql.max-samples", promql_max_samples, "50000000", 1, INT64_C(1000000000000), promql,
        "Samples that one query may hold at the same time."),
    INT("metrics.promql.max-points-per-ts", promql_max_points, "11000", 1, 100000000, promql,
        "Steps of a range query, after which it is refused."),
    SIZE("metrics.promql.max-bytes", promql_max_bytes, "1GB", 1 * MB, 1 * TB, promql,
         "Memory that one query may use to evaluate, and the size of its answer."),
    INT("metrics.promql.max-concurrency", promql_max_concurrency, "20", 1, 1000, promql,
        "Queries that run at once; further ones wait."),
    INT("metrics.promql.workers", promql_workers, "0", 0, 256, promql,
        "Threads that share the work of running queries. 0: one per core."),

    INT("remote-read.sample-limit", remote_read_sample_limit, "50000000", 0, INT64_C(1000000000000), remote_read,
        "Samples of one query, after which an answer that is not a stream is refused. 0: no limit."),
    SIZE("remote-read.max-bytes-in-frame", remote_read_max_bytes_in_frame, "1MB", 1 * KB, 64 * MB, remote_read,
         "Size of the pieces in which a stream is sent, about; a piece holds one series."),
    DURATION("remote-read.timeout", remote_read_timeout_ms, "10m", 1, 1 * DAY, remote_read,
             "An answer that is not sent by then is cut off. Until its end it holds a snapshot in the database."),

    BOOL("self-scrape", self_scrape, "true", self, "Store the connector's own metrics (job=\"promscale\")."),
    DURATION("self-scrape-interval", self_scrape_interval_ms, "15s", 1 * SEC, 1 * HOUR, self, "How often."),

    BOOL("startup.only", startup_only, "false", startup, "Install or upgrade the extension, then exit."),
    BOOL("startup.install-extensions", startup_install_extensions, "true", startup,
         "Install the extension where it is missing."),
    BOOL("startup.upgrade-extensions", startup_upgrade_extensions, "true", startup,
         "Upgrade the extension to this connector's version."),
    DURATION("shutdown-timeout", shutdown_timeout_ms, "30s", 0, 1 * HOUR, startup,
             "On SIGTERM or Ctrl-C: how long requests that are inside may take. A second signal is faster."),

    CHOICE("telemetry.log.format", log_format, "logfmt", "logfmt|json", logging, "Format of the log on stderr."),
    CHOICE("telemetry.log.level", log_level, "info", "error|warn|info|debug", logging, "Lowest level logged."),
    DURATION("telemetry.log.throughput-report-interval", log_throughput_interval_ms, "60s", 0, 1 * DAY, logging,
             "A line with samples per second this often, if there are any. 0s: never."),
};
/* clang-format on */
const size_t settings_count = PS_ARRAY_LEN(settings_table);
_Static_assert(PS_ARRAY_LEN(settings_table) <= SETTINGS_MAX, "raise SETTINGS_MAX");

int
setting_find(ps_str name)
{
    for (size_t i = 0; i < settings_count; i++) {
        if (ps_str_eq_c(name, settings_table[i].name))
            return (int)i;
    }
    return -1;
}

void
setting_env_name(const setting *def, char *dst, size_t cap)
{
    snprintf(dst, cap, "PROMSCALE_%s", def->name);
    for (char *p = dst; *p; p++)
        *p = (char)(*p == '.' || *p == '-' ? '_' : toupper((unsigned char)*p));
}
