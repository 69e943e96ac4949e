/*
 * settings.h - everything that can be set, as one immutable struct. One table (settings.c) feeds
 * parsing of flags, environment and file, `--help` and docs/settings.md; precedence is flag >
 * environment (PROMSCALE_ + upper case, '.' and '-' as '_') > file (YAML) > default. An unknown key is
 * an error.
 */
#ifndef PROMSCALE_CONNECTOR_SETTINGS_H
#define PROMSCALE_CONNECTOR_SETTINGS_H

#include "lib/base/base.h"

typedef struct settings {    /* strings are owned by the struct, never NULL; "" = not set */
    const char *config_file; /* config */

    const char *data_dir;            /* data-dir: embedded PostgreSQL; default promscale-data */
    int64_t embedded_shared_buffers; /* embedded.shared-buffers, bytes, 128MB */
    const char *
        embedded_bin_dir; /* embedded.bin-dir: folder of postgres and initdb; "" = found by itself */

    const char *db_uri; /* db.uri: yours; excludes the next six */
    const char *db_app, *db_host, *db_user, *db_password, *db_name, *db_ssl_mode;
    int64_t db_port;
    int64_t db_connection_timeout_ms; /* db.connection-timeout, 60s */
    bool db_is_external;              /* derived: any db.uri or db.host... was given */

    const char *web_listen_address; /* web.listen-address, 127.0.0.1:9201 */
    const char *web_telemetry_path; /* web.telemetry-path, /metrics */
    bool web_enable_admin_api;      /* web.enable-admin-api, false */
    const char *web_cors_origin;    /* web.cors-origin, .* */
    int64_t web_max_connections;    /* web.max-connections, 512 */
    int64_t web_head_timeout_ms;    /* web.head-timeout, 30s: absolute, for the request's head */
    int64_t web_body_timeout_ms;    /* web.body-timeout, 60s: absolute, for the body */
    int64_t web_idle_timeout_ms;    /* web.idle-timeout, 5m: keep-alive */

    int64_t ingest_max_body_bytes;         /* ingest.max-body-bytes, 16MB, as received */
    int64_t ingest_max_decompressed_bytes; /* ingest.max-decompressed-bytes, 64MB */
    int64_t ingest_max_series;             /* ingest.max-series, per request, 100000 */
    int64_t ingest_max_samples;            /* ingest.max-samples, per request, 1000000 */
    int64_t ingest_max_labels;             /* ingest.max-labels, per series, 500 */
    int64_t ingest_max_label_name_bytes;   /* ingest.max-label-name-bytes, 1024 */
    int64_t ingest_max_label_value_bytes;  /* ingest.max-label-value-bytes, 64KB */
    int64_t ingest_max_label_set_bytes;    /* ingest.max-label-set-bytes, 256KB */
    int64_t ingest_max_exemplars;          /* ingest.max-exemplars, per request, 10000 */
    int64_t ingest_max_metadata;           /* ingest.max-metadata, per request, 10000 */
    int64_t ingest_max_symbols;            /* ingest.max-symbols, per request, 1000000 */
    int64_t ingest_max_histogram_buckets;  /* ingest.max-histogram-buckets, 16384 */
    int64_t ingest_max_future_ms;          /* ingest.max-future, 10m */
    const char *ingest_old_samples;        /* ingest.old-samples, count: accept, count, refuse */
    int64_t ingest_queue_requests;         /* ingest.queue-requests, 1000, waiting or in work */
    int64_t ingest_queue_bytes;            /* ingest.queue-bytes, 256MB, of their bodies */
    int64_t ingest_timeout_ms;             /* ingest.timeout, 20s: then 503 */
    int64_t ingest_workers;                /* ingest.workers, 0 = one per core, at most 8 */
    int64_t ingest_flush_max_samples;      /* ingest.flush-max-samples, 50000 */
    int64_t
        ingest_flush_min_parallel;  /* ingest.flush-min-parallel, 20000: a second flush may start */
    int64_t ingest_flush_gather_ms; /* ingest.flush-gather, 20ms: from one flush to the next */
    int64_t cache_series_max_bytes; /* metrics.cache.series.max-bytes, 256MB */

    bool web_enable_otlp_receiver;                    /* web.enable-otlp-receiver, true */
    const char *otlp_translation_strategy;            /* otlp.*: as Prometheus's file names them */
    const char *otlp_promote_resource_attributes;     /* comma list */
    const char *otlp_ignore_resource_attributes;      /* comma list */
    bool otlp_promote_all_resource_attributes;
    bool otlp_keep_identifying_resource_attributes;
    bool otlp_promote_scope_metadata;
    bool otlp_convert_histograms_to_nhcb;
    bool otlp_label_name_underscore_sanitization;
    bool otlp_label_name_preserve_multiple_underscores;
    const char *otlp_delta; /* refuse, as-is */

    int64_t query_connections;       /* query.connections, 8: to the database, for reading */
    int64_t query_max_bytes;         /* query.max-bytes, 1GB: blocks and labels of one query */
    const char *query_damaged_blocks; /* warn, error */
    int64_t query_index_max_bytes;   /* query.index-max-bytes, 1GB: the label index */
    const char *enable_feature;      /* enable-feature: comma list, "" = none */
    int64_t promql_timeout_ms;       /* metrics.promql.query-timeout, 2m */
    int64_t promql_subquery_step_ms; /* metrics.promql.default-subquery-step-interval, 1m */
    int64_t promql_lookback_ms;      /* metrics.promql.lookback-delta, 5m */
    int64_t promql_max_samples;      /* metrics.promql.max-samples, 50 million, per query */
    int64_t promql_max_points;       /* metrics.promql.max-points-per-ts, 11000 */
    int64_t promql_max_bytes;        /* metrics.promql.max-bytes, 1GB, per query */
    int64_t promql_max_concurrency;  /* metrics.promql.max-concurrency, 20 */
    int64_t promql_workers;          /* metrics.promql.workers, 0 = one per core */

    int64_t remote_read_sample_limit;       /* remote-read.sample-limit, 50 million, 0 = none */
    int64_t remote_read_max_bytes_in_frame; /* remote-read.max-bytes-in-frame, 1MB */
    int64_t remote_read_timeout_ms;         /* remote-read.timeout, 10m */

    bool self_scrape;                /* self-scrape, true */
    int64_t self_scrape_interval_ms; /* self-scrape-interval, 15s */

    bool startup_only;               /* startup.only: install or upgrade, then exit */
    bool startup_install_extensions; /* startup.install-extensions, true */
    bool startup_upgrade_extensions; /* startup.upgrade-extensions, true */

    const char *log_format;             /* telemetry.log.format: logfmt | json */
    const char *log_level;              /* telemetry.log.level: error | warn | info | debug */
    int64_t log_throughput_interval_ms; /* telemetry.log.throughput-report-interval, 0 = off, 60s */
    int64_t shutdown_timeout_ms;        /* shutdown-timeout, 30s: draining on SIGTERM */
} settings;

typedef enum settings_outcome {
    SETTINGS_RUN,
    SETTINGS_PRINTED, /* --help, --version: text is on stdout, exit 0 */
} settings_outcome;

/*
 * argv without the program name (and without a subcommand). Reads the file named by config. Errors
 * name the key, where it came from and what is accepted. *ret_rest: index in argv of the first
 * argument after "--", argc if there is none. *ret is NULL when something was printed instead.
 */
ps_status settings_load(int argc, char *const *argv, char *const *envp, settings **ret,
                        settings_outcome *ret_outcome, int *ret_rest, ps_err *err) PS_MUST_CHECK;
void settings_free(settings *s);
/* The i-th setting's name and its value as a user would write it, without passwords; is_text: of a kind that
 * YAML wants in quotes. False: there is no i-th. Replaces what is in value. */
bool settings_show(const settings *s, size_t i, const char **ret_name, bool *ret_is_text,
                   ps_buf *value);
void settings_show_named(const settings *s, const char *name, ps_buf *value);
/* docs/settings.md, generated (`promscale --help=markdown`). */
void settings_print_markdown(void);

#endif
