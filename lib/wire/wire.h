/*
 * wire.h - bytes as they come over the network: snappy, remote write 1.0 and 2.0, remote read, and the writers that
 * adapters, tests and the self-scrape need. Nothing here knows HTTP.
 */
#ifndef PROMSCALE_WIRE_H
#define PROMSCALE_WIRE_H

#include "lib/histogram/histogram.h"
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
    double value;     /* bits as received */
    int64_t start_ms; /* start timestamp, 0 = not known; always 0 in 1.0 */
} wire_sample;

/* A native histogram of either version. histogram is NULL where what was sent makes no sense; then
 * `why` says what is wrong with it (static text). */
typedef struct wire_histogram {
    int64_t t_ms, start_ms;
    const hst_hist *histogram; /* in the caller's arena; schemas above 8 are reduced to 8 */
    const char *why;
} wire_histogram;

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
/* Room for n_histograms. PS_ENOMEM; a nonsensical histogram is no failure. */
ps_status wire_series_histograms(const wire_series *s, ps_arena *arena, wire_histogram *histograms,
                                 ps_err *err) PS_MUST_CHECK;
/* labels: room for max_labels over all exemplars of the series; PS_ELIMIT beyond it. */
ps_status wire_series_exemplars(const wire_series *s, wire_exemplar *exemplars, mdl_label *labels,
                                size_t max_labels, ps_err *err) PS_MUST_CHECK;

/* ---- remote write 2.0, read in place ------------------------------------------------------- */

/*
 * io.prometheus.write.v2.Request: a table of symbols and series that refer to it. The table may stand
 * anywhere in the message, so a reader looks through the whole of it first.
 */
typedef struct wire_v2_symbols {
    const ps_str *items;
    uint32_t n; /* items[0] is "" in any valid message */
} wire_v2_symbols;

typedef struct wire_v2_series {
    ps_str bytes;    /* the whole TimeSeries submessage */
    uint32_t n_refs; /* label references; may be odd, may be out of range: not checked */
    uint32_t n_samples, n_exemplars, n_histograms;
    bool has_metadata;
    uint32_t type, help_ref, unit_ref; /* of metadata; not checked */
    int64_t created_ms;  /* field 6 of early senders: start of samples that have none; or 0 */
    ps_str ref_bytes;    /* private: all references, if they are packed in one field */
    uint32_t samples_at; /* private: where the first sample is in bytes */
} wire_v2_series;

typedef struct wire_v2_reader {
    const uint8_t *pos, *end, *begin;
    wire_v2_symbols symbols;
} wire_v2_reader;

/* Collects the symbols in the arena (slices of the message; at most max_symbols: PS_ELIMIT), on the
 * way checking the outermost framing: PS_ECORRUPT. PS_EINVAL: the first symbol is not "". */
ps_status wire_v2_reader_init(wire_v2_reader *r, ps_str message, size_t max_symbols,
                              ps_arena *arena, ps_err *err) PS_MUST_CHECK;
/* Next series; *ret_any is false at the end. Errors as of wire_write_next: PS_ECORRUPT with the byte;
 * then the reader stays where it was. What is inside of histograms is not looked at. */
ps_status wire_v2_next(wire_v2_reader *r, bool *ret_any, wire_v2_series *ret,
                       ps_err *err) PS_MUST_CHECK;
/* Parts of a series that wire_v2_next accepted; arrays have room for the counts given there. A
 * reference too large for 32 bits is UINT32_MAX. */
void wire_v2_refs(const wire_v2_series *s, uint32_t *refs);
/* Of packed references, or of a piece of them that begins and ends between two: how many there were. */
uint32_t wire_v2_read_refs(ps_str packed, uint32_t *refs, uint32_t max);
void wire_v2_samples(const wire_v2_series *s, wire_sample *samples);
ps_status wire_v2_histograms(const wire_v2_series *s, ps_arena *arena, wire_histogram *histograms,
                             ps_err *err) PS_MUST_CHECK;
typedef struct wire_v2_exemplar {
    uint32_t first_ref, n_refs; /* in the refs of all exemplars of the series */
    int64_t t_ms;
    double value;
} wire_v2_exemplar;
/* refs: room for max_refs over all exemplars; PS_ELIMIT beyond it. */
ps_status wire_v2_exemplars(const wire_v2_series *s, wire_v2_exemplar *exemplars, uint32_t *refs,
                            size_t max_refs, ps_err *err) PS_MUST_CHECK;

/* ---- remote write 2.0, writer: adapters of other formats, tests, bench ---------------------- */

/* Builds one Request: each different text becomes one symbol. Failure of memory sticks and is told at
 * the end. */
typedef struct wire_v2_writer wire_v2_writer;
typedef struct wire_v2_item {
    mdl_labels labels;
    const wire_sample *samples;
    size_t n_samples;
    const wire_histogram *histograms;
    size_t n_histograms;
    const wire_exemplar *exemplars;
    size_t n_exemplars;
    const wire_metadata *metadata; /* NULL: none; its family is the series' name */
} wire_v2_item;
wire_v2_writer *wire_v2_writer_new(const ps_alloc *alloc, size_t max_bytes); /* NULL: no memory */
void wire_v2_writer_free(wire_v2_writer *w);
void wire_v2_write(wire_v2_writer *w, const wire_v2_item *item);
/* Appends the message to out and empties the writer. PS_ENOMEM; PS_ELIMIT: over max_bytes. */
ps_status wire_v2_writer_finish(wire_v2_writer *w, ps_buf *out, ps_err *err) PS_MUST_CHECK;

/* ---- remote read --------------------------------------------------------------------------- */

typedef enum wire_read_type { /* of answers, as they are numbered in requests */
    WIRE_READ_UNKNOWN = -1,
    WIRE_READ_SAMPLES = 0,
    WIRE_READ_CHUNKS = 1
} wire_read_type;
typedef struct wire_read_query {
    int64_t start_ms, end_ms; /* inclusive */
    const mdl_matcher *matchers;
    size_t n_matchers;
} wire_read_query;
typedef struct wire_read_request {
    const wire_read_query *queries;
    size_t n_queries;
    wire_read_type type; /* the first acceptable one; SAMPLES if none is named; UNKNOWN: none of ours */
    size_t n_types;
} wire_read_request;
typedef struct wire_read_limits {
    size_t max_queries, max_matchers; /* matchers of all queries */
} wire_read_limits;
/* Arrays in the arena, texts borrow the message. PS_ECORRUPT; PS_EINVAL: a matcher of an unknown kind or
 * not in UTF-8; PS_ELIMIT; PS_ENOMEM. Hints of queries are not read. */
ps_status wire_read_request_parse(ps_str message, const wire_read_limits *limits, ps_arena *arena,
                                  wire_read_request *ret, ps_err *err) PS_MUST_CHECK;

/* Answers, from the inside out; failure of memory sticks in out. A ReadResponse is a result for each query,
 * a result is series, a series is labels and points. */
void wire_read_put_sample(ps_buf *out, int64_t t_ms, double v);
void wire_read_put_histogram(ps_buf *out, int64_t t_ms, const hst_hist *h);
void wire_read_put_series(ps_buf *out, mdl_labels labels, ps_str points);
void wire_read_put_result(ps_buf *out, ps_str series);

/* A stream is frames (length, CRC-32C, ChunkedReadResponse), each with some chunks of one series. */
typedef struct wire_read_chunk {
    uint64_t type; /* encoding of data */
    int64_t t_min_ms, t_max_ms;
    ps_str data;
} wire_read_chunk;
void wire_read_put_chunk(ps_buf *out, const wire_read_chunk *c);
/* Takes chunks (as put by wire_read_put_chunk) off the front of *rest until there are max_bytes. */
ps_str wire_read_cut_chunks(ps_str *rest, size_t max_bytes);
size_t wire_read_labels_size(mdl_labels labels);
void wire_read_put_frame(ps_buf *out, size_t query, mdl_labels labels, ps_str chunks);

/* ---- remote write 1.0, writer (self-scrape, tests, bench) ---------------------------------- */

void wire_write_series(ps_buf *out, mdl_labels labels, const wire_sample *samples, size_t n_samples,
                       const wire_exemplar *exemplars, size_t n_exemplars);
void wire_write_series_histograms(ps_buf *out, mdl_labels labels, const wire_histogram *histograms,
                                  size_t n_histograms);
void wire_write_metadata(ps_buf *out, const wire_metadata *metadata);

#endif
