/*
 * fuzz_wire.c - the remote write reader over arbitrary bytes.
 *
 * Everything that the reader accepts is walked to the bottom; then what was read is written by our
 * writer and read again: both readings must agree, bit for bit. The input is copied to the heap at
 * its exact size, so a read beyond it is seen.
 */
#include "lib/wire/wire.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_EXEMPLAR_LABELS = 256 };

typedef struct parts { /* of one series, on the heap at their exact sizes */
    mdl_label *labels;
    wire_sample *samples;
    wire_exemplar *exemplars;
    mdl_label exemplar_labels[MAX_EXEMPLAR_LABELS];
    size_t n_exemplars;
} parts;

static void
take_parts(const wire_series *s, parts *p)
{
    p->labels = calloc(s->n_labels + 1, sizeof *p->labels);
    p->samples = calloc(s->n_samples + 1, sizeof *p->samples);
    p->exemplars = calloc(s->n_exemplars + 1, sizeof *p->exemplars);
    REQUIRE(p->labels != NULL && p->samples != NULL && p->exemplars != NULL);
    wire_series_labels(s, p->labels);
    wire_series_samples(s, p->samples);
    ps_status status =
        wire_series_exemplars(s, p->exemplars, p->exemplar_labels, MAX_EXEMPLAR_LABELS, NULL);
    REQUIRE(status == PS_OK || status == PS_ELIMIT);
    p->n_exemplars = status == PS_OK ? s->n_exemplars : 0;
}

static void
free_parts(parts *p)
{
    free(p->labels);
    free(p->samples);
    free(p->exemplars);
}

static void
require_inside(ps_str part, ps_str whole)
{
    REQUIRE(part.len == 0 || (part.ptr >= whole.ptr && part.len <= whole.len &&
                              part.ptr + part.len <= whole.ptr + whole.len));
}

static void
require_same_labels(const mdl_label *a, const mdl_label *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        REQUIRE(ps_str_eq(a[i].name, b[i].name) && ps_str_eq(a[i].value, b[i].value));
}

static void
require_same_point(int64_t t1, double v1, int64_t t2, double v2)
{
    REQUIRE(t1 == t2 && ps_bits_of(v1) == ps_bits_of(v2));
}

static void
check_series(const wire_series *s, ps_buf *again)
{
    parts first;
    parts second;
    wire_write_reader reader;
    wire_item item;
    wire_series copy;
    wire_metadata metadata;
    take_parts(s, &first);
    for (size_t i = 0; i < s->n_labels; i++) {
        require_inside(first.labels[i].name, s->bytes);
        require_inside(first.labels[i].value, s->bytes);
        if (s->label_bytes.len > 0)
            require_inside(first.labels[i].value, s->label_bytes);
    }
    require_inside(s->label_bytes, s->bytes);

    ps_buf_clear(again);
    wire_write_series(again, (mdl_labels){first.labels, s->n_labels}, first.samples, s->n_samples,
                      first.exemplars, first.n_exemplars);
    REQUIRE(!again->failed);
    wire_write_reader_init(&reader, ps_buf_str(again));
    REQUIRE(wire_write_next(&reader, &item, &copy, &metadata, NULL) == PS_OK);
    REQUIRE(item == WIRE_SERIES);
    REQUIRE(copy.n_labels == s->n_labels && copy.n_samples == s->n_samples);
    REQUIRE(copy.n_exemplars == first.n_exemplars && copy.n_histograms == 0);
    REQUIRE((copy.label_bytes.len > 0) == (copy.n_labels > 0));
    take_parts(&copy, &second);
    require_same_labels(first.labels, second.labels, s->n_labels);
    for (size_t i = 0; i < s->n_samples; i++)
        require_same_point(first.samples[i].t_ms, first.samples[i].value, second.samples[i].t_ms,
                           second.samples[i].value);
    for (size_t i = 0; i < first.n_exemplars; i++) {
        const wire_exemplar *a = &first.exemplars[i];
        const wire_exemplar *b = &second.exemplars[i];
        REQUIRE(a->n_labels == b->n_labels);
        require_same_labels(a->labels, b->labels, a->n_labels);
        require_same_point(a->t_ms, a->value, b->t_ms, b->value);
    }
    free_parts(&second);
    free_parts(&first);
}

static void
check_metadata(const wire_metadata *m, ps_buf *again)
{
    wire_write_reader reader;
    wire_item item;
    wire_series series;
    wire_metadata copy;
    ps_buf_clear(again);
    wire_write_metadata(again, m);
    REQUIRE(!again->failed);
    wire_write_reader_init(&reader, ps_buf_str(again));
    REQUIRE(wire_write_next(&reader, &item, &series, &copy, NULL) == PS_OK);
    REQUIRE(item == WIRE_METADATA && copy.type == m->type);
    REQUIRE(ps_str_eq(copy.family, m->family) && ps_str_eq(copy.help, m->help));
    REQUIRE(ps_str_eq(copy.unit, m->unit));
    REQUIRE(m->type < WIRE_METRIC_TYPE_MAX);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *message = malloc(size == 0 ? 1 : size);
    REQUIRE(message != NULL);
    if (size > 0)
        memcpy(message, data, size);
    ps_buf again;
    ps_buf_init(&again, &ps_malloc);
    wire_write_reader reader;
    wire_write_reader_init(&reader, (ps_str){(char *)message, size});
    wire_item item = WIRE_SERIES;
    while (item != WIRE_END) {
        wire_series series;
        wire_metadata metadata;
        ps_err err = {.code = PS_OK};
        const uint8_t *before = reader.pos;
        ps_status status = wire_write_next(&reader, &item, &series, &metadata, &err);
        if (status != PS_OK) {
            REQUIRE(status == PS_ECORRUPT && err.code == PS_ECORRUPT);
            REQUIRE(err.offset >= 0 && (size_t)err.offset <= size);
            REQUIRE(reader.pos == before);
            break;
        }
        REQUIRE(item == WIRE_END || reader.pos > before);
        if (item == WIRE_SERIES)
            check_series(&series, &again);
        else if (item == WIRE_METADATA)
            check_metadata(&metadata, &again);
    }
    ps_buf_done(&again);
    free(message);
    return 0;
}
