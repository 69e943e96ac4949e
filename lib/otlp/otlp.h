/*
 * otlp.h - OpenTelemetry's metrics: an ExportMetricsServiceRequest (protobuf) turned into a remote write
 * 2.0 message, by the rules that Prometheus has for it.
 */
#ifndef PROMSCALE_OTLP_H
#define PROMSCALE_OTLP_H

#include "lib/wire/wire.h"

enum {
    OTLP_MAX_ATTRIBUTES = 256, /* of a resource, a scope, a data point, each */
    OTLP_MAX_DEPTH = 16,       /* of values in values */
    OTLP_MAX_TARGET_INFO = 1000 /* samples of target_info that one resource makes */
};

typedef struct otlp_settings { /* all of them as Prometheus's configuration names them */
    /* Translation strategy. Names: false = escaped with _, true = as they are (utf8). */
    bool utf8, add_suffixes;
    /* promote_all: these are left out; else: these become labels of all series. */
    const ps_str *resource_attributes;
    size_t n_resource_attributes;
    bool promote_all_resource_attributes;
    bool keep_identifying_resource_attributes;
    bool promote_scope_metadata;
    bool convert_histograms_to_nhcb;
    bool label_name_underscore_sanitization;
    bool label_name_preserve_multiple_underscores;
    bool delta_as_is; /* data points of delta temporality are taken as they are, else refused */
    int64_t lookback_ms; /* target_info is repeated at half of it; 0: 5 minutes */
} otlp_settings;

/* "UnderscoreEscapingWithSuffixes" and its like: false if there is none of this name. */
bool otlp_strategy(ps_str name, otlp_settings *settings);

/* Told of what cannot be stored: of which metric, how many data points, and why. */
typedef struct otlp_refusals {
    void (*refused)(void *self, ps_str metric, int64_t n_points, const char *why);
    void *self;
} otlp_refusals;

/*
 * PS_ECORRUPT with the byte offset: no message of this kind; what is in the writer then is of no use.
 * PS_ELIMIT: values nested too deeply. PS_ENOMEM. Whatever is wrong with one metric or one data point
 * only is told to `refusals`, and the others go on. Whether labels are valid is left to whoever takes
 * the message, like times out of range.
 */
ps_status otlp_translate(ps_str message, const otlp_settings *settings, const ps_alloc *alloc,
                         wire_v2_writer *out, const otlp_refusals *refusals,
                         ps_err *err) PS_MUST_CHECK;

#endif
