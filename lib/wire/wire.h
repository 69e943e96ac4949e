/*
 * wire.h - bytes as they come over the network: snappy, remote write 1.0, and the writers that
 * tests and the self-scrape need. Nothing here knows HTTP.
 */
#ifndef PROMSCALE_WIRE_H
#define PROMSCALE_WIRE_H

#include "lib/model/model.h"

/* ---- snappy ------------------------------------------------------------------------------- */

/*
 * Decompresses a snappy block, or the framed stream format if the input begins with its 10-byte
 * magic (checked by CRC per chunk as the format says). The announced length is checked against
 * max_bytes before anything is allocated. Replaces out's content; out is empty after a failure.
 * Errors: PS_ECORRUPT, PS_ELIMIT (larger than max_bytes), PS_ENOMEM.
 */
ps_status wire_snappy_decode(ps_str in, size_t max_bytes, ps_buf *out, ps_err *err) PS_MUST_CHECK;
/* Snappy block format, for tests, tools and remote read answers. */
ps_status wire_snappy_encode(ps_str in, ps_buf *out, ps_err *err) PS_MUST_CHECK;

/* ---- remote write 1.0, read in place: the hot path ---------------------------------------- */

typedef struct wire_sample {
    int64_t t_ms;
    double value; /* bits as received */
} wire_sample;

typedef struct wire_exemplar {
    const mdl_label *labels;
    size_t n_labels;
    int64_t t_ms;
    double value;
} wire_exemplar;

/* One TimeSeries as it stands in the message. All slices borrow the message. */
typedef struct wire_series {
    ps_str bytes;       /* the whole TimeSeries submessage */
    ps_str label_bytes; /* from the first label field to the end of the last one: the cache key.
                            Only set if the label fields are contiguous (they always are in
                            practice); else empty, and the caller goes by the parsed labels. */
    uint32_t n_labels, n_samples, n_exemplars, n_histograms;
} wire_series;

typedef enum wire_metric_type {
    WIRE_METRIC_UNKNOWN = 0,
    WIRE_METRIC_COUNTER,
    WIRE_METRIC_GAUGE,
    WIRE_METRIC_HISTOGRAM,
    WIRE_METRIC_GAUGEHISTOGRAM,
    WIRE_METRIC_SUMMARY,
    WIRE_METRIC_INFO,
    WIRE_METRIC_STATESET,
    WIRE_METRIC_TYPE_MAX
} wire_metric_type;

/* "counter"; "unknown" outside the enum. */
const char *wire_metric_type_name(wire_metric_type type);

typedef struct wire_metadata {
    wire_metric_type type; /* outside the enum: UNKNOWN */
    ps_str family, help, unit;
} wire_metadata;

typedef struct wire_write_reader { /* iterates over a WriteRequest; private fields */
    const uint8_t *pos, *end, *begin;
} wire_write_reader;

typedef enum wire_item { WIRE_END = 0, WIRE_SERIES, WIRE_METADATA } wire_item;

void wire_write_reader_init(wire_write_reader *r, ps_str message);
/*
 * Next series or metadata of the request, unknown fields skipped. One pass over the submessage
 * fills *ret_series with counts and slices (no allocation). Errors: PS_ECORRUPT with the byte
 * offset: truncated field, varint over 10 bytes, wrong wire type, length beyond the message;
 * PS_ELIMIT for a message over 2 GiB. Histograms are counted and skipped. After an error the reader
 * stays where it was.
 */
ps_status wire_write_next(wire_write_reader *r, wire_item *ret_item, wire_series *ret_series,
                          wire_metadata *ret_metadata, ps_err *err) PS_MUST_CHECK;
/* Parts of a series that wire_write_next accepted; arrays have room for the counts given there. */
void wire_series_labels(const wire_series *s, mdl_label *labels);
void wire_series_samples(const wire_series *s, wire_sample *samples);
/* labels: room for max_labels over all exemplars of the series; PS_ELIMIT beyond it. */
ps_status wire_series_exemplars(const wire_series *s, wire_exemplar *exemplars, mdl_label *labels,
                                size_t max_labels, ps_err *err) PS_MUST_CHECK;

/* ---- remote write 1.0, writer (self-scrape, tests, bench) ---------------------------------- */

void wire_write_series(ps_buf *out, mdl_labels labels, const wire_sample *samples, size_t n_samples,
                       const wire_exemplar *exemplars, size_t n_exemplars);
void wire_write_metadata(ps_buf *out, const wire_metadata *metadata);

#endif
