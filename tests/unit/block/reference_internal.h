/* reference_internal.h - what the files of the reference decoder share. Names follow
 * docs/block-format.md. */
#ifndef PROMSCALE_TESTS_UNIT_BLOCK_REFERENCE_INTERNAL_H
#define PROMSCALE_TESTS_UNIT_BLOCK_REFERENCE_INTERNAL_H

#include "tests/unit/block/reference_decoder.h"

typedef struct bytes {
    const uint8_t *p;
    size_t len, at;
    bool bad;
} bytes;

/* reference_decoder.c; arrays of integers are malloc'ed */
unsigned ref_byte(bytes *b);
uint64_t ref_fixed(bytes *b, unsigned n);
uint64_t ref_varint(bytes *b);
uint64_t ref_svarint(bytes *b);
uint64_t *ref_integers(size_t n);
uint64_t *ref_column(bytes *b, size_t n);
uint64_t ref_decimal(uint64_t i, unsigned k, unsigned shift);
uint64_t ref_ordered(uint64_t i, unsigned shift);
uint64_t ref_unzigzag(uint64_t z);
uint64_t ref_packed_value(const bytes *b, size_t start, size_t index, unsigned w);
typedef struct ref_raws { /* positions in the series and doubles */
    uint64_t *pos, *bits;
    size_t n;
} ref_raws;
/* reference_coded.c: integers of codecs 10 and 11 */
void ref_coded(bytes *h, bytes *body, size_t n, uint64_t S, uint64_t *v, ref_raws *exceptions);
/* Section 5, what follows a series entry's time column. ints: integers of the entry before, becomes those of this
 * one; NULL where no entry comes before. */
void ref_series_values(bytes *h, bytes *body, unsigned codec, unsigned flags, size_t n, uint64_t *ints,
                       uint64_t *bits);
/* Section 6, a group. */
void ref_group(bytes *b, const uint64_t *len, size_t n_series, size_t n, uint64_t *bits);

/* reference_histograms.c, section 7 */
typedef struct ref_layouts {
    ref_histogram *like; /* without numbers */
    size_t n;
} ref_layouts;
ref_layouts ref_read_layouts(bytes *b);
void ref_free_layouts(ref_layouts *l);
void ref_free_histogram(ref_histogram *h);
void ref_columns_histograms(bytes *body, size_t len, const ref_layouts *layouts, size_t n,
                            ref_histogram **ret);
void ref_flush_histograms(bytes *b, const ref_layouts *layouts, const uint64_t *len,
                          size_t n_series, size_t n, ref_histogram **ret);
/* section 8 */
void ref_columns_starts(bytes *h, bytes *body, ref_block *b);
size_t ref_skip_starts(bytes *b, size_t n); /* returns where they end */
void ref_flush_starts(const bytes *b, size_t at, ref_block *r);

#endif
