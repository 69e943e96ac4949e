/*
 * fuzz_wire.c - the remote write readers, 1.0 and 2.0, over arbitrary bytes.
 *
 * Everything that a reader accepts is walked to the bottom; then what was read is written by our
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

/* ---- histograms: of either version ------------------------------------------------------------- */

static void
require_same_histogram(const wire_histogram *a, const wire_histogram *b)
{
    REQUIRE(a->t_ms == b->t_ms && b->histogram != NULL);
    REQUIRE(hst_equal(a->histogram, b->histogram));
    REQUIRE(a->histogram->hint == b->histogram->hint);
    REQUIRE(a->histogram->integer == b->histogram->integer);
}

/* What is accepted can be stored, and means the same written and read again. */
static void
check_histogram(const wire_histogram *h, ps_buf *again)
{
    REQUIRE((h->histogram == NULL) != (h->why == NULL));
    if (h->histogram == NULL)
        return;
    REQUIRE(hst_check(h->histogram, NULL) == PS_OK);
    wire_write_reader reader;
    wire_item item;
    wire_series copy;
    wire_metadata metadata;
    wire_histogram got;
    ps_arena arena;
    ps_buf_clear(again);
    wire_write_series_histograms(again, (mdl_labels){NULL, 0}, h, 1);
    REQUIRE(!again->failed);
    wire_write_reader_init(&reader, ps_buf_str(again));
    REQUIRE(wire_write_next(&reader, &item, &copy, &metadata, NULL) == PS_OK);
    REQUIRE(item == WIRE_SERIES && copy.n_histograms == 1);
    ps_arena_init(&arena, &ps_malloc, 0);
    REQUIRE(wire_series_histograms(&copy, &arena, &got, NULL) == PS_OK);
    require_same_histogram(h, &got);
    ps_arena_done(&arena);
}

static void
check_histograms(const wire_series *s, ps_buf *again)
{
    ps_arena arena;
    ps_arena_init(&arena, &ps_malloc, 0);
    wire_histogram *h = calloc(s->n_histograms + 1, sizeof *h);
    REQUIRE(h != NULL);
    REQUIRE(wire_series_histograms(s, &arena, h, NULL) == PS_OK);
    for (size_t i = 0; i < s->n_histograms; i++)
        check_histogram(&h[i], again);
    free(h);
    ps_arena_done(&arena);
}

/* ---- 1.0 ---------------------------------------------------------------------------------------- */

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

static void
check_v1(ps_str message, ps_buf *again)
{
    wire_write_reader reader;
    wire_write_reader_init(&reader, message);
    wire_item item = WIRE_SERIES;
    while (item != WIRE_END) {
        wire_series series;
        wire_metadata metadata;
        ps_err err = {.code = PS_OK};
        const uint8_t *before = reader.pos;
        ps_status status = wire_write_next(&reader, &item, &series, &metadata, &err);
        if (status != PS_OK) {
            REQUIRE(status == PS_ECORRUPT && err.code == PS_ECORRUPT);
            REQUIRE(err.offset >= 0 && (size_t)err.offset <= message.len);
            REQUIRE(reader.pos == before);
            return;
        }
        REQUIRE(item == WIRE_END || reader.pos > before);
        if (item == WIRE_SERIES) {
            check_series(&series, again);
            check_histograms(&series, again);
        } else if (item == WIRE_METADATA) {
            check_metadata(&metadata, again);
        }
    }
}

/* ---- 2.0 ---------------------------------------------------------------------------------------- */

typedef struct v2_parts {
    uint32_t *refs;
    wire_sample *samples;
    wire_histogram *histograms;
    wire_v2_exemplar *exemplars;
    uint32_t exemplar_refs[MAX_EXEMPLAR_LABELS];
} v2_parts;

static void
take_v2_parts(const wire_v2_series *s, ps_arena *arena, v2_parts *p)
{
    p->refs = calloc(s->n_refs + 1, sizeof *p->refs);
    p->samples = calloc(s->n_samples + 1, sizeof *p->samples);
    p->histograms = calloc(s->n_histograms + 1, sizeof *p->histograms);
    p->exemplars = calloc(s->n_exemplars + 1, sizeof *p->exemplars);
    REQUIRE(p->refs != NULL && p->samples != NULL && p->histograms != NULL && p->exemplars != NULL);
    wire_v2_refs(s, p->refs);
    wire_v2_samples(s, p->samples);
    REQUIRE(wire_v2_histograms(s, arena, p->histograms, NULL) == PS_OK);
    ps_status status =
        wire_v2_exemplars(s, p->exemplars, p->exemplar_refs, MAX_EXEMPLAR_LABELS, NULL);
    REQUIRE(status == PS_OK || status == PS_ELIMIT);
}

static void
free_v2_parts(v2_parts *p)
{
    free(p->refs);
    free(p->samples);
    free(p->histograms);
    free(p->exemplars);
}

/* Labels as the references say; false if they do not. */
static bool
v2_labels(const wire_v2_symbols *symbols, const uint32_t *refs, size_t n, mdl_label *labels)
{
    for (size_t i = 0; i < n; i++) {
        if (refs[i] >= symbols->n)
            return false;
        *(i % 2 == 0 ? &labels[i / 2].name : &labels[i / 2].value) = symbols->items[refs[i]];
    }
    return n % 2 == 0;
}

static void
check_v2_again(const wire_v2_item *item, ps_str message)
{
    wire_v2_reader reader;
    wire_v2_series s;
    v2_parts p;
    bool any;
    ps_arena arena;
    ps_arena_init(&arena, &ps_malloc, 0);
    REQUIRE(wire_v2_reader_init(&reader, message, 100000, &arena, NULL) == PS_OK);
    REQUIRE(wire_v2_next(&reader, &any, &s, NULL) == PS_OK && any);
    REQUIRE(s.n_refs == 2 * item->labels.n && s.n_samples == item->n_samples);
    REQUIRE(s.n_histograms == item->n_histograms);
    take_v2_parts(&s, &arena, &p);
    mdl_label *labels = calloc(item->labels.n + 1, sizeof *labels);
    REQUIRE(labels != NULL && v2_labels(&reader.symbols, p.refs, s.n_refs, labels));
    require_same_labels(labels, item->labels.items, item->labels.n);
    for (size_t i = 0; i < item->n_samples; i++) {
        const wire_sample *a = &item->samples[i], *b = &p.samples[i];
        require_same_point(a->t_ms, a->value, b->t_ms, b->value);
        REQUIRE(a->start_ms == b->start_ms);
    }
    for (size_t i = 0; i < item->n_histograms; i++)
        require_same_histogram(&item->histograms[i], &p.histograms[i]);
    REQUIRE(wire_v2_next(&reader, &any, &s, NULL) == PS_OK && !any);
    free(labels);
    free_v2_parts(&p);
    ps_arena_done(&arena);
}

static void
check_v2_series(const wire_v2_reader *reader, const wire_v2_series *s, ps_arena *arena,
                ps_buf *again)
{
    v2_parts p;
    take_v2_parts(s, arena, &p);
    size_t kept = 0;
    for (size_t i = 0; i < s->n_histograms; i++) {
        check_histogram(&p.histograms[i], again);
        if (p.histograms[i].histogram != NULL)
            p.histograms[kept++] = p.histograms[i];
    }
    mdl_label *labels = calloc(s->n_refs / 2 + 1, sizeof *labels);
    REQUIRE(labels != NULL);
    wire_v2_item item = {.samples = p.samples,
                         .n_samples = s->n_samples,
                         .histograms = p.histograms,
                         .n_histograms = kept};
    if (v2_labels(&reader->symbols, p.refs, s->n_refs, labels))
        item.labels = (mdl_labels){labels, s->n_refs / 2};
    wire_v2_writer *w = wire_v2_writer_new(&ps_malloc, 1 << 28);
    REQUIRE(w != NULL);
    wire_v2_write(w, &item);
    ps_buf_clear(again);
    ps_status status = wire_v2_writer_finish(w, again, NULL);
    REQUIRE(status == PS_OK || status == PS_ELIMIT); /* many references to one long symbol */
    if (status == PS_OK)
        check_v2_again(&item, ps_buf_str(again));
    wire_v2_writer_free(w);
    free(labels);
    free_v2_parts(&p);
}

static void
check_v2(ps_str message, ps_buf *again)
{
    wire_v2_reader reader;
    ps_arena arena;
    ps_err err = {.code = PS_OK};
    ps_arena_init(&arena, &ps_malloc, 0);
    ps_status status = wire_v2_reader_init(&reader, message, 10000, &arena, &err);
    bool any = status == PS_OK;
    while (any) {
        wire_v2_series s;
        const uint8_t *before = reader.pos;
        status = wire_v2_next(&reader, &any, &s, &err);
        if (status != PS_OK) {
            REQUIRE(status == PS_ECORRUPT && reader.pos == before);
            REQUIRE(err.offset >= 0 && (size_t)err.offset <= message.len);
            break;
        }
        if (any)
            check_v2_series(&reader, &s, &arena, again);
    }
    ps_arena_done(&arena);
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
    check_v1((ps_str){(char *)message, size}, &again);
    check_v2((ps_str){(char *)message, size}, &again);
    ps_buf_done(&again);
    free(message);
    return 0;
}
