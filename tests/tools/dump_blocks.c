/*
 * dump_blocks.c - says what blocks hold, for tests that must not trust the extension's own readers.
 *
 * Input, a line per row:  <label> <hex of data>      (a COPY ... TO STDOUT of both columns)
 * Output, a line per sample:  <label> <tenant> <metric> <series> <t_ms> <16 hex digits of the value>
 * or, of histograms, instead of the value their text, without blanks.
 */
#include "lib/block/block.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

_Noreturn static void
die(const char *what, const char *detail)
{
    fprintf(stderr, "dump_blocks: %s: %s\n", what, detail);
    exit(1);
}

static int
digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static size_t
from_hex(char *text)
{
    size_t n = 0;

    for (; digit(text[2 * n]) >= 0; n++) {
        if (digit(text[2 * n + 1]) < 0)
            die("odd number of digits", "");
        text[n] = (char)(digit(text[2 * n]) * 16 + digit(text[2 * n + 1]));
    }
    return n;
}

static void
dump_histogram(const hst_hist *h)
{
    ps_buf text;

    ps_buf_init(&text, &ps_malloc);
    hst_format(&text, h);
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != ' ')
            putchar(text.ptr[i]);
    }
    ps_buf_done(&text);
}

static void
dump_series(const char *label, blk_bench *b, const blk_reader *r, uint32_t i)
{
    const bool floats = blk_reader_meta(r)->kind == BLK_KIND_FLOAT;
    ps_arena arena;
    blk_series s;
    size_t lo, got;
    ps_err err;

    blk_reader_series(r, i, &s);
    ps_arena_init(&arena, &ps_malloc, 0);
    int64_t *t_ms = malloc((size_t)s.n_samples * sizeof(*t_ms));
    double *values = malloc((size_t)s.n_samples * sizeof(*values));
    const hst_hist **h = malloc((size_t)s.n_samples * sizeof(*h));
    if (t_ms == NULL || values == NULL || h == NULL)
        die("malloc", "no memory");
    if (blk_bench_times(b, r, i, INT64_MIN, INT64_MAX, t_ms, &lo, &got, &err) != PS_OK ||
        (floats ? blk_bench_values(b, r, i, lo, got, values, &err)
                : blk_bench_histograms(b, r, i, lo, got, &arena, h, &err)) != PS_OK)
        die(label, err.text);
    for (size_t k = 0; k < got; k++) {
        printf("%s %" PRId32 " %" PRId32 " %" PRId64 " %" PRId64 " ", label,
               blk_reader_meta(r)->tenant_id, s.metric_id, s.series_id, t_ms[k]);
        if (floats)
            printf("%016" PRIx64, ps_bits_of(values[k]));
        else
            dump_histogram(h[k]);
        printf("\n");
    }
    free(t_ms);
    free(values);
    free(h);
    ps_arena_done(&arena);
}

static void
dump(const char *label, ps_str data)
{
    blk_bench *b = blk_bench_new(&ps_malloc);
    blk_reader *r;
    ps_err err;

    if (b == NULL)
        die("malloc", "no memory");
    if (blk_reader_open(&ps_malloc, data, NULL, &r, &err) != PS_OK)
        die(label, err.text);
    for (uint32_t i = 0; i < blk_reader_n_series(r); i++)
        dump_series(label, b, r, i);
    blk_bench_free(b);
    blk_reader_free(r);
}

int
main(void)
{
    char *line = NULL;
    size_t cap = 0;

    while (getline(&line, &cap, stdin) > 0) {
        char *hex = strpbrk(line, " \t");
        if (hex == NULL)
            die("not a row", line);
        *hex++ = '\0';
        size_t n = from_hex(hex);
        dump(line, (ps_str){hex, n});
    }
    free(line);
    return ferror(stdin) || fflush(stdout) != 0;
}
