/*
 * fuzz_exposition.c - text and OpenMetrics over arbitrary bytes; the first byte says which. What is
 * accepted is written again as OpenMetrics, every name quoted, and must then say the same.
 */
#include <inttypes.h>

#include "lib/exposition/exposition.h"
#include "tests/fuzz/fuzz.h"

static void
put_quoted(ps_buf *out, ps_str s)
{
    ps_buf_add_char(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '\n' || s.ptr[i] == '"' || s.ptr[i] == '\\')
            ps_buf_add_char(out, '\\');
        ps_buf_add_char(out, s.ptr[i] == '\n' ? 'n' : s.ptr[i]);
    }
    ps_buf_add_char(out, '"');
}

static void
put_labels(ps_buf *out, const mdl_label *labels, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        put_quoted(out, labels[i].name);
        ps_buf_add_char(out, '=');
        put_quoted(out, labels[i].value);
        ps_buf_add_char(out, ',');
    }
    ps_buf_add_c(out, "}");
}

static void
put_point(ps_buf *out, double value, bool has_time, int64_t t_ms)
{
    char text[PS_DOUBLE_TEXT];
    ps_format_double(text, value);
    ps_buf_addf(out, " %s", text);
    /* whole seconds: fractions are the unit tests' */
    if (has_time)
        ps_buf_addf(out, " %" PRId64, t_ms / 1000);
}

static void
put_sample(ps_buf *out, const exp_sample *s)
{
    ps_buf_add_char(out, '{');
    put_quoted(out, s->labels[0].value);
    ps_buf_add_char(out, ',');
    put_labels(out, s->labels + 1, s->n_labels - 1);
    put_point(out, s->value, s->has_time, s->t_ms);
    if (s->has_exemplar) {
        ps_buf_add_c(out, " # {");
        put_labels(out, s->exemplar.labels, s->exemplar.n_labels);
        put_point(out, s->exemplar.value, s->exemplar.has_time, s->exemplar.t_ms);
    }
    ps_buf_add_c(out, "\n# EOF\n");
}

static void
require_same_labels(const mdl_label *a, const mdl_label *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        REQUIRE(ps_str_eq(a[i].name, b[i].name) && ps_str_eq(a[i].value, b[i].value));
}

static void
check_sample(const exp_sample *a, ps_buf *again)
{
    exp_reader r;
    exp_sample b;
    bool more;
    ps_buf_clear(again);
    put_sample(again, a);
    REQUIRE(!again->failed);
    REQUIRE(exp_reader_init(&r, EXP_OPENMETRICS, ps_buf_str(again), &ps_malloc, NULL) == PS_OK);
    ps_status st = exp_next(&r, &more, &b, NULL);
    /* times beyond what OpenMetrics takes; escapes make names longer than nothing */
    if (st != PS_OK) {
        REQUIRE(a->has_time || a->has_exemplar);
        exp_reader_done(&r);
        return;
    }
    REQUIRE(more && a->n_labels == b.n_labels && a->has_time == b.has_time);
    require_same_labels(a->labels, b.labels, a->n_labels);
    REQUIRE(ps_bits_of(a->value) == ps_bits_of(b.value));
    if (a->has_time && a->t_ms > -(INT64_C(1) << 51) && a->t_ms < INT64_C(1) << 51)
        REQUIRE(b.t_ms == a->t_ms / 1000 * 1000);
    REQUIRE(a->has_exemplar == b.has_exemplar);
    if (a->has_exemplar) {
        REQUIRE(a->exemplar.n_labels == b.exemplar.n_labels);
        require_same_labels(a->exemplar.labels, b.exemplar.labels, a->exemplar.n_labels);
        REQUIRE(ps_bits_of(a->exemplar.value) == ps_bits_of(b.exemplar.value));
    }
    REQUIRE(exp_next(&r, &more, &b, NULL) == PS_OK && !more);
    exp_reader_done(&r);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    exp_reader r;
    exp_sample s;
    bool more = true;
    ps_err err;
    ps_status st;
    ps_buf again;

    if (size == 0)
        return 0;
    char *text = malloc(size); /* a byte too much, so that an empty text has an address */
    REQUIRE(text != NULL);
    memcpy(text, data + 1, size - 1);
    ps_buf_init(&again, &ps_malloc);
    text = realloc(text, size > 1 ? size - 1 : 1);
    exp_format format = data[0] & 1 ? EXP_OPENMETRICS : EXP_TEXT;
    REQUIRE(exp_reader_init(&r, format, (ps_str){text, size - 1}, &ps_malloc, &err) == PS_OK);
    while ((st = exp_next(&r, &more, &s, &err)) == PS_OK && more)
        check_sample(&s, &again);
    if (st != PS_OK) {
        REQUIRE(st == PS_EINVAL || st == PS_ELIMIT);
        REQUIRE(err.offset >= 0 && (size_t)err.offset <= size - 1);
        REQUIRE(ps_utf8_valid(ps_str_c(err.text)));
    }
    exp_reader_done(&r);
    ps_buf_done(&again);
    free(text);
    return 0;
}
