/*
 * chunk.h - Prometheus's chunks: up to 120 samples of one series in the bit format that its storage and
 * its remote read use (three of its encodings; layout: tsdb/docs/format/chunks.md of Prometheus).
 *
 * A chunk holds samples of one sort: floats, integer histograms or float histograms. Histograms of one
 * chunk have one layout (schema, zero threshold, bounds, buckets) and, unless they are gauges, no
 * counter reset between them, since whoever reads a chunk takes that for granted. So samples are cut
 * into chunks here, and a change of any of these begins a new one.
 *
 * Values are carried as bits: NaN payloads, -0 and the stale marker survive. What the format does not
 * hold: start timestamps; of a stale histogram anything but its being stale; of the first histogram of
 * a chunk whether it is a reset (readers compare it with the one before).
 */
#ifndef PROMSCALE_CHUNK_H
#define PROMSCALE_CHUNK_H

#include "lib/histogram/histogram.h"
#include "lib/model/model.h"

typedef enum chk_encoding { CHK_XOR = 1, CHK_HISTOGRAM = 2, CHK_FLOAT_HISTOGRAM = 3 } chk_encoding;
enum { CHK_MAX_SAMPLES = 120 }; /* in a chunk that is written; any number up to 65535 is read */

typedef struct chk_samples { /* of one series, ascending in time; borrows */
    const int64_t *t_ms;
    const double *values;              /* where the sample is a float */
    const hst_hist *const *histograms; /* NULL: all are floats; an entry NULL: this one is */
    size_t n;
} chk_samples;

typedef struct chk_chunk {
    chk_encoding encoding;
    uint32_t n; /* samples in it, at least 1 */
    int64_t t_min_ms, t_max_ms;
} chk_chunk;

/* Makes one chunk of samples from, from + 1, ... (from < n), as many as go together. Appends the bytes
 * to out. alloc: for the time of the call. PS_ENOMEM. */
ps_status chk_encode(const ps_alloc *alloc, const chk_samples *samples, size_t from, ps_buf *out,
                     chk_chunk *ret, ps_err *err) PS_MUST_CHECK;

typedef struct chk_decoded { /* arrays of n, in the arena */
    int64_t *t_ms;
    double *values;              /* of CHK_XOR, else NULL */
    const hst_hist **histograms; /* of the others; a stale one has no buckets */
    size_t n;
} chk_decoded;

/*
 * Reads a chunk from hostile bytes. Hints: GAUGE where the chunk says so, else UNKNOWN for the first
 * and NOT_RESET for the others. PS_ECORRUPT; PS_EUNSUPPORTED for another encoding; PS_ENOMEM. Takes at
 * most some 300 times the chunk's size.
 */
ps_status chk_decode(int encoding, ps_str data, ps_arena *arena, chk_decoded *ret,
                     ps_err *err) PS_MUST_CHECK;

#endif
