/*
 * info.h - the short endpoints of the Prometheus API: what the program is and holds, queries as text and as
 * tree, metadata, exemplars, and the parts that a Prometheus has and this program has not (targets, rules,
 * alerts), which answer as one that has none of them.
 */
#ifndef PROMSCALE_CONNECTOR_INFO_H
#define PROMSCALE_CONNECTOR_INFO_H

#include "connector/api/api.h"
#include "lib/promql/promql.h"

typedef struct info { /* borrowed */
    const settings *settings;
    const pql_options *language;
    int64_t started_ms; /* Unix */
} info;

/* Endpoints: self is an info. */

/* tree.c */
void info_format_query(api_job *job, void *info);
void info_parse_query(api_job *job, void *info);

/* program.c */
void info_build(api_job *job, void *info);
void info_runtime(api_job *job, void *info);
void info_config(api_job *job, void *info);
void info_flags(api_job *job, void *info);
void info_wal_replay(api_job *job, void *info);

/* features.c */
void info_features(api_job *job, void *info);

/* cardinality.c */
void info_cardinality(api_job *job, void *info);

/* metadata.c, exemplars.c */
void info_metadata(api_job *job, void *info);
void info_exemplars(api_job *job, void *info);

/* elsewhere.c */
void info_rules(api_job *job, void *info);
void info_alerts(api_job *job, void *info);
void info_alertmanagers(api_job *job, void *info);
void info_targets(api_job *job, void *info);
void info_target_metadata(api_job *job, void *info);
void info_scrape_pools(api_job *job, void *info);
void info_notifications(api_job *job, void *info);

/* admin.c */
void info_clean_tombstones(api_job *job, void *info);
void info_snapshot(api_job *job, void *info);

/* delete.c */
void info_delete_series(api_job *job, void *info);

#endif
