/*
 * dump_blocks.c - says what blocks hold, for tests that must not trust the extension's own readers.
 *
 * Input, a line per row:  <label> <hex of data>      (a COPY ... TO STDOUT of both columns)
 * Output, a line per sample:  <label> <tenant> <metric> <series> <t_ms> <16 hex digits of the value>
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
dump(const char *label, ps_str data)
{
    blk_reader *r;
    ps_err err;

    if (blk_reader_open(&ps_malloc, data, NULL, &r, &err) != PS_OK)
        die(label, err.text);
    for (uint32_t i = 0; i < blk_reader_n_series(r); i++) {
        blk_series s;
        size_t got;

        blk_reader_series(r, i, &s);
        int64_t *t_ms = malloc((size_t)s.n_samples * sizeof(*t_ms));
        double *values = malloc((size_t)s.n_samples * sizeof(*values));
        if (t_ms == NULL || values == NULL)
            die("malloc", "no memory");
        if (blk_reader_decode(r, i, INT64_MIN, INT64_MAX, t_ms, values, &got, &err) != PS_OK)
            die(label, err.text);
        for (size_t k = 0; k < got; k++)
            printf("%s %" PRId32 " %" PRId32 " %" PRId64 " %" PRId64 " %016" PRIx64 "\n", label,
                   blk_reader_meta(r)->tenant_id, s.metric_id, s.series_id, t_ms[k],
                   ps_bits_of(values[k]));
        free(t_ms);
        free(values);
    }
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
