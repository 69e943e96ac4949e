/*
 * support.h - what unit tests share: an allocator that fails on demand, random numbers that repeat,
 * bytes as hex. All static inline, so that a test is still one file.
 */
#ifndef PROMSCALE_TESTS_UNIT_SUPPORT_H
#define PROMSCALE_TESTS_UNIT_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/base/base.h"

/* ---- an allocator that counts, and fails from call number fail_at on (1 = the first) --------- */

typedef struct test_alloc {
    size_t calls;   /* that asked for memory */
    size_t fail_at; /* 0 = never */
    size_t live_bytes, peak_bytes, live_blocks;
} test_alloc;

static inline void *
test_alloc_realloc(void *self, void *old, size_t old_size, size_t new_size)
{
    test_alloc *t = self;
    if (new_size == 0) {
        if (old != NULL) {
            assert_true(t->live_blocks > 0 && t->live_bytes >= old_size);
            t->live_blocks--;
            t->live_bytes -= old_size;
        }
        free(old);
        return NULL;
    }
    t->calls++;
    if (t->fail_at != 0 && t->calls >= t->fail_at)
        return NULL;
    /* Always moves, so that a pointer kept across a resize is found out. */
    void *p = malloc(new_size);
    if (p == NULL)
        return NULL;
    if (old != NULL) {
        memcpy(p, old, old_size < new_size ? old_size : new_size);
        free(old);
        t->live_bytes -= old_size;
        t->live_blocks--;
    }
    t->live_blocks++;
    t->live_bytes += new_size;
    if (t->live_bytes > t->peak_bytes)
        t->peak_bytes = t->live_bytes;
    return p;
}

static inline ps_alloc
test_alloc_of(test_alloc *t)
{
    return (ps_alloc){test_alloc_realloc, t};
}

/* At the end of a test: everything was given back, with the sizes that it was taken with. */
static inline void
test_alloc_check_empty(const test_alloc *t)
{
    assert_int_equal(t->live_blocks, 0);
    assert_int_equal(t->live_bytes, 0);
}

/* ---- random numbers (xorshift64*): the same for the same seed ------------------------------ */

typedef struct test_random {
    uint64_t state; /* not 0 */
} test_random;

static inline uint64_t
test_random_u64(test_random *r)
{
    r->state ^= r->state << 13;
    r->state ^= r->state >> 7;
    r->state ^= r->state << 17;
    return r->state * UINT64_C(0x2545F4914F6CDD1D);
}

/* 0 <= result < n, n > 0 */
static inline uint64_t
test_random_below(test_random *r, uint64_t n)
{
    return (test_random_u64(r) >> 11) % n;
}

/* ---- hex ----------------------------------------------------------------------------------- */

/* dst has room for 2 * len + 1 */
static inline const char *
test_hex(char *dst, const void *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        dst[2 * i] = digits[((const uint8_t *)bytes)[i] >> 4];
        dst[2 * i + 1] = digits[((const uint8_t *)bytes)[i] & 15];
    }
    dst[2 * len] = '\0';
    return dst;
}

static inline int
test_hex_digit(char c)
{
    return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* Blanks are skipped. Returns the number of bytes; dst must hold them. */
static inline size_t
test_unhex(uint8_t *dst, const char *hex)
{
    size_t n = 0;
    for (; *hex != '\0'; hex++) {
        if (*hex == ' ')
            continue;
        assert_true(hex[1] != '\0');
        dst[n++] = (uint8_t)(test_hex_digit(hex[0]) << 4 | test_hex_digit(hex[1]));
        hex++;
    }
    return n;
}

/* A heap copy of exactly len bytes, so that AddressSanitizer sees a read of one byte more. */
static inline char *
test_exact_copy(const void *bytes, size_t len)
{
    char *p = malloc(len == 0 ? 1 : len);
    assert_non_null(p);
    if (len > 0)
        memcpy(p, bytes, len);
    return p;
}

#define assert_str(slice, literal)                                                                 \
    do {                                                                                           \
        ps_str assert_str_ = (slice);                                                              \
        assert_int_equal(assert_str_.len, strlen(literal));                                        \
        if (assert_str_.len > 0)                                                                   \
            assert_memory_equal(assert_str_.ptr, literal, assert_str_.len);                        \
    } while (0)

#endif
