/* reference_decoder.h - a second decoder of blocks, slow and plain, written from
 * docs/block-format.md. */
#ifndef PROMSCALE_TESTS_UNIT_BLOCK_REFERENCE_DECODER_H
#define PROMSCALE_TESTS_UNIT_BLOCK_REFERENCE_DECODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ref_histogram { /* numbers as bits of doubles */
    uint64_t schema, zero_threshold, hint, count, zero_count, sum;
    bool integer;
    size_t n_bounds, n[2];                    /* positive, negative */
    uint64_t *bounds, *index[2], *numbers[2]; /* malloc; all buckets, empty ones included */
} ref_histogram;

typedef struct ref_sample {
    int64_t metric_id, series_id, t, start;
    uint64_t bits;
    ref_histogram *h; /* malloc; NULL: a float */
} ref_sample;

typedef struct ref_block {
    int64_t tenant_id, metric_id, level, kind, format, n_series, n_samples;
    int64_t series_lo, series_hi, t_min, t_max;
    ref_sample *samples; /* malloc */
    size_t n;
} ref_block;

/* Decodes a whole undamaged block. False if something does not fit (CRCs are not checked). */
bool ref_decode(const uint8_t *data, size_t len, ref_block *ret);
void ref_free(ref_block *b);

#endif
