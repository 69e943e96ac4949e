/*
 * base.h - what every other part rests on: status and error, byte slices, allocators, arenas,
 * growing buffers, hashes, numbers as text.
 *
 * Rules for everything in lib/: no I/O, no clock, no threads, no mutable globals, no logging, no
 * malloc (memory comes through a ps_alloc), no strlen on foreign bytes. Functions that can fail in
 * more than one way return ps_status and fill a caller-owned ps_err; outputs (ret_*) are written on
 * success only.
 *
 * Ownership words used in headers: "borrows" (caller keeps it alive), "copies", "takes" (callee
 * frees), "arena" (dies with the arena passed in).
 *
 * Units: time is int64_t Unix milliseconds everywhere; it becomes timestamptz only at the edge to
 * PostgreSQL.
 */
#ifndef PROMSCALE_BASE_H
#define PROMSCALE_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PS_MUST_CHECK __attribute__((warn_unused_result))
#define PS_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define PS_LIKELY(x) __builtin_expect(!!(x), 1)
#define PS_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define PS_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* ---- status and error ------------------------------------------------------------------- */

/*
 * Every status has an HTTP status (connector/http/respond.c) and a SQLSTATE
 * (extension/src/bridge.c); tools/check-statuses sees to it that none is forgotten.
 */
typedef enum ps_status {
    PS_OK = 0,
    PS_EINVAL,       /* the input is wrong and stays wrong */
    PS_ENOMEM,       /* the allocator or its budget said no */
    PS_ELIMIT,       /* a configured limit was hit */
    PS_ECORRUPT,     /* stored or received bytes are damaged */
    PS_EUNSUPPORTED, /* well-formed, but of a kind or version that this build does not know */
    PS_ENOTFOUND,
    PS_ECONFLICT, /* catalog generation or state moved on; resolve again and retry */
    PS_ETIMEOUT,
    PS_ECANCELED,
    PS_EUNAVAILABLE, /* may succeed later: overload, database away, shutdown */
    PS_EINTERNAL,
    PS_STATUS_MAX
} ps_status;

/* Lives on the caller's stack and never allocates: so running out of memory can be reported. */
typedef struct ps_err {
    ps_status code;
    int32_t offset; /* byte in the input, -1 if there is none */
    char text[248]; /* NUL-terminated, valid UTF-8 if the format's arguments were */
} ps_err;

/* Fills err (may be NULL) and returns code: "return ps_fail(err, PS_EINVAL, ...)". */
ps_status ps_fail(ps_err *err, ps_status code, const char *fmt, ...) PS_PRINTF(3, 4);
ps_status ps_fail_at(ps_err *err, ps_status code, size_t offset, const char *fmt, ...)
    PS_PRINTF(4, 5);
/* Lower-case name of a status ("corrupt"); "unknown" outside the enum. */
const char *ps_status_name(ps_status status);

#define PS_TRY(expr)                                                                               \
    do {                                                                                           \
        ps_status ps_try_status_ = (expr);                                                         \
        if (PS_UNLIKELY(ps_try_status_ != PS_OK))                                                  \
            return ps_try_status_;                                                                 \
    } while (0)

/* ---- slices ----------------------------------------------------------------------------- */

typedef struct ps_str { /* a borrowed view; not NUL-terminated; ptr may be NULL if len is 0 */
    const char *ptr;
    size_t len;
} ps_str;

#define PS_STR(literal) ((ps_str){(literal), sizeof(literal) - 1})
ps_str ps_str_c(const char *nul_terminated);
bool ps_str_eq(ps_str a, ps_str b);
bool ps_str_eq_c(ps_str a, const char *b);
/* memcmp order, shorter first on a tie: the order of labels. */
int ps_str_cmp(ps_str a, ps_str b);
bool ps_str_starts(ps_str s, ps_str prefix);
/* Case-insensitive for ASCII letters only (HTTP header values). */
bool ps_str_eq_nocase(ps_str a, ps_str b);
ps_str ps_str_trim(ps_str s);
/* Strict UTF-8 (no surrogates, no overlong forms, at most U+10FFFF). U+0000 is valid here. */
bool ps_utf8_valid(ps_str s);
/* Length of the longest prefix of at most max bytes that ends at a character boundary. */
size_t ps_utf8_prefix(ps_str s, size_t max);

/* ---- memory ----------------------------------------------------------------------------- */

/*
 * realloc(self, NULL, 0, n) allocates, realloc(self, p, old, 0) frees and returns NULL, otherwise
 * it resizes. Returns NULL when out of memory (never aborts, never jumps). Alignment is that of
 * max_align_t.
 */
typedef struct ps_alloc {
    void *(*realloc)(void *self, void *old, size_t old_size, size_t new_size);
    void *self;
} ps_alloc;

/* The C library's malloc: for programs and tests. The only place in lib/ that names malloc. */
extern const ps_alloc ps_malloc;

void *ps_alloc_new(const ps_alloc *a, size_t size) PS_MUST_CHECK;
/* Zeroed; NULL also if n * size overflows. */
void *ps_alloc_array(const ps_alloc *a, size_t n, size_t size) PS_MUST_CHECK;
void ps_alloc_free(const ps_alloc *a, void *p, size_t size);
bool ps_mul_size(size_t a, size_t b, size_t *ret); /* false on overflow */
bool ps_add_size(size_t a, size_t b, size_t *ret);

/*
 * Arena: bump allocation that dies as a whole. Has a budget in bytes; over it allocation fails.
 * Not for sharing between threads. Under AddressSanitizer freed arenas are really freed.
 */
typedef struct ps_arena_chunk ps_arena_chunk;
typedef struct ps_arena {
    ps_alloc alloc; /* copied */
    ps_arena_chunk *head;
    size_t used_bytes;   /* taken from alloc, chunk headers included */
    size_t budget_bytes; /* 0 = none */
} ps_arena;

void ps_arena_init(ps_arena *arena, const ps_alloc *alloc, size_t budget_bytes);
void ps_arena_done(ps_arena *arena);  /* frees everything; the arena can be used again */
void ps_arena_reset(ps_arena *arena); /* keeps one chunk */
void *ps_arena_new(ps_arena *arena, size_t size) PS_MUST_CHECK; /* not zeroed, 16-byte aligned */
void *ps_arena_array(ps_arena *arena, size_t n, size_t size) PS_MUST_CHECK; /* zeroed */
ps_status ps_arena_dup(ps_arena *arena, ps_str s, ps_str *ret) PS_MUST_CHECK;
size_t ps_arena_carved(const ps_arena *arena); /* bytes that were handed out */
/* A ps_alloc over the arena (frees are ignored). The arena must outlive it. */
ps_alloc ps_arena_as_alloc(ps_arena *arena);

/*
 * Growing byte buffer. Failure is sticky: after a failed append `failed` is set and further appends
 * do nothing, so that a sequence of appends needs one check at its end.
 */
typedef struct ps_buf {
    char *ptr;
    size_t len;
    size_t cap;
    size_t max; /* limit in bytes, 0 = none */
    bool failed;
    ps_alloc alloc; /* copied */
} ps_buf;

void ps_buf_init(ps_buf *buf, const ps_alloc *alloc);
void ps_buf_done(ps_buf *buf);
void ps_buf_clear(ps_buf *buf); /* keeps capacity, clears failed */
bool ps_buf_reserve(ps_buf *buf, size_t more) PS_MUST_CHECK;
void ps_buf_add(ps_buf *buf, const void *bytes, size_t len);
void ps_buf_add_str(ps_buf *buf, ps_str s);
void ps_buf_add_c(ps_buf *buf, const char *nul_terminated);
void ps_buf_add_char(ps_buf *buf, char c);
void ps_buf_addf(ps_buf *buf, const char *fmt, ...) PS_PRINTF(2, 3);
void ps_buf_addv(ps_buf *buf, const char *fmt, va_list args) PS_PRINTF(2, 0);
ps_str ps_buf_str(const ps_buf *buf);

/* ---- bytes ------------------------------------------------------------------------------ */

static inline uint16_t
ps_get_u16le(const void *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t
ps_get_u32le(const void *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t
ps_get_u64le(const void *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
static inline void
ps_put_u16le(void *p, uint16_t v)
{
    memcpy(p, &v, 2);
}
static inline void
ps_put_u32le(void *p, uint32_t v)
{
    memcpy(p, &v, 4);
}
static inline void
ps_put_u64le(void *p, uint64_t v)
{
    memcpy(p, &v, 8);
}
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "stored formats are read in place; big-endian needs byte swaps in these six functions"
#endif

static inline uint64_t
ps_bits_of(double v)
{
    uint64_t b;
    memcpy(&b, &v, 8);
    return b;
}
static inline double
ps_double_of(uint64_t b)
{
    double v;
    memcpy(&v, &b, 8);
    return v;
}

/* ---- hashes ----------------------------------------------------------------------------- */

typedef struct ps_digest { /* 128 bits, big-endian canonical form: what a uuid column holds */
    uint8_t bytes[16];
} ps_digest;

/* XXH3-128 of the bytes (unkeyed: an identity that is verified against its source on a hit). */
ps_digest ps_digest_of(ps_str s);
bool ps_digest_eq(const ps_digest *a, const ps_digest *b);
/* XXH3-64 keyed with a secret seed: for hash tables that clients can fill. */
uint64_t ps_hash64(ps_str s, uint64_t seed);
/* xxHash64 without a seed: where others must come to the same number. */
uint64_t ps_xxh64(ps_str s);
/* CRC-32C (Castagnoli), by the processor's instruction where there is one; start with crc = 0. */
uint32_t ps_crc32c(uint32_t crc, const void *bytes, size_t len);

/* ---- numbers as text -------------------------------------------------------------------- */

/* Shortest text that reads back to the same double, Prometheus's spelling (NaN, +Inf, -Inf, -0,
 * exponent outside 1e-6..1e21 as Go's 'g'-like formatting). Locale-free. Returns the length, a NUL
 * follows; dst holds at least PS_DOUBLE_TEXT bytes. */
enum { PS_DOUBLE_TEXT = 32 };
size_t ps_format_double(char *dst, double v);
/* The same without any exponent: literals in queries, scalars. At least PS_DOUBLE_PLAIN_TEXT bytes. */
enum { PS_DOUBLE_PLAIN_TEXT = 352 };
size_t ps_format_double_plain(char *dst, double v);
/* The same with an exponent outside 1e-4..1e6, as Go's %v and %g: histograms, annotations. At least
 * PS_DOUBLE_TEXT bytes. */
size_t ps_format_double_go(char *dst, double v);
/* Whole input must be a number (decimal, hex float, Inf, NaN in any case, optional sign).
 * Locale-free, correctly rounded. PS_EINVAL also for a number too large for a double. NaN is the
 * one that Prometheus writes. */
ps_status ps_parse_double(ps_str s, double *ret) PS_MUST_CHECK;
ps_status ps_parse_i64(ps_str s, int64_t *ret) PS_MUST_CHECK;
/* "15s", "1h30m", "90d", "500ms", "2w", "1y" (Prometheus durations) to milliseconds. */
ps_status ps_parse_duration(ps_str s, int64_t *ret_ms) PS_MUST_CHECK;
/* The inverse as Prometheus writes it: "1h30m", "90d"; years and weeks only if nothing remains;
 * "0s" for 0. Returns the length, a NUL follows; 0 if it does not fit in cap. */
enum { PS_DURATION_TEXT = 40 };
size_t ps_format_duration(char *dst, size_t cap, int64_t ms);
/* "128MB", "64KiB", "1g", "512B", plain bytes; in any case, units are powers of 1024. */
ps_status ps_parse_size(ps_str s, int64_t *ret_bytes) PS_MUST_CHECK;

#endif
