/*
 * fuzz_chunk.c - Prometheus's chunks over arbitrary bytes.
 *
 * The first byte is the encoding. What can be read, and has times that a series can have, is written
 * again, in as many chunks as it needs, and read back: the same samples, bit for bit. The input is copied
 * to the heap at its exact size, so a read beyond it is seen.
 */
#include "lib/chunk/chunk.h"
#include "tests/fuzz/fuzz.h"

enum { BUDGET = 1 << 26 };

static bool
times_ascend(const chk_decoded *d)
{
    for (size_t i = 0; i < d->n; i++) {
        if (d->t_ms[i] < MDL_TIME_MIN_MS || d->t_ms[i] > MDL_TIME_MAX_MS ||
            (i > 0 && d->t_ms[i] <= d->t_ms[i - 1]))
            return false;
    }
    return true;
}

static void
require_same(const chk_decoded *all, size_t from, const chk_decoded *part)
{
    for (size_t i = 0; i < part->n; i++) {
        size_t k = from + i;
        REQUIRE(all->t_ms[k] == part->t_ms[i]);
        REQUIRE((all->values == NULL) == (part->values == NULL));
        if (all->values != NULL) {
            REQUIRE(ps_bits_of(all->values[k]) == ps_bits_of(part->values[i]));
        } else if (hst_is_stale(all->histograms[k])) {
            REQUIRE(hst_is_stale(part->histograms[i]));
        } else {
            REQUIRE(hst_equal(all->histograms[k], part->histograms[i]));
            REQUIRE((all->histograms[k]->hint == HST_GAUGE) ==
                    (part->histograms[i]->hint == HST_GAUGE));
        }
    }
}

static void
check_again(const chk_decoded *d, ps_arena *arena)
{
    chk_samples s = {d->t_ms, d->values, d->histograms, d->n};
    ps_buf out;
    ps_buf_init(&out, &ps_malloc);
    for (size_t from = 0; from < d->n;) {
        chk_chunk c;
        chk_decoded part;
        ps_buf_clear(&out);
        REQUIRE(chk_encode(&ps_malloc, &s, from, &out, &c, NULL) == PS_OK);
        REQUIRE(c.n > 0 && c.n <= CHK_MAX_SAMPLES && from + c.n <= d->n);
        ps_status status = chk_decode(c.encoding, ps_buf_str(&out), arena, &part, NULL);
        REQUIRE(status == PS_OK || status == PS_ENOMEM);
        if (status == PS_OK) {
            REQUIRE(part.n == c.n);
            require_same(d, from, &part);
        }
        from += c.n;
    }
    ps_buf_done(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ps_arena arena;
    chk_decoded d;
    ps_err err = {.code = PS_OK};
    if (size == 0)
        return 0;
    int encoding = data[0] & 7;
    uint8_t *bytes = malloc(size);
    REQUIRE(bytes != NULL);
    memcpy(bytes, data + 1, size - 1);
    bytes = realloc(bytes, size == 1 ? 1 : size - 1);
    ps_arena_init(&arena, &ps_malloc, BUDGET);
    ps_status status = chk_decode(encoding, (ps_str){(char *)bytes, size - 1}, &arena, &d, &err);
    if (status == PS_OK) {
        if (times_ascend(&d))
            check_again(&d, &arena);
    } else {
        REQUIRE(status == PS_ECORRUPT || status == PS_EUNSUPPORTED || status == PS_ENOMEM);
        REQUIRE(err.code == status);
    }
    ps_arena_done(&arena);
    free(bytes);
    return 0;
}
