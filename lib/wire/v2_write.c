/*
 * v2_write.c - remote write 2.0, written: for adapters of other formats, tests and the benchmark.
 *
 * The table of symbols must stand in front of nothing, but reads best there, and it is known only
 * when all series are; so series grow in a buffer of their own, and finish() puts the two together.
 * A text becomes a symbol once: a hash table over the symbols, which lie one behind the other as they
 * will stand in the message. References of a series are sized before they are written, so they are
 * looked up first and kept in a small array.
 */
#include "lib/wire/internal.h"

typedef struct slot {
    uint32_t hash;    /* upper half */
    uint32_t ref;     /* + 1; 0: free */
    uint32_t at, len; /* the text, in symbols */
} slot;

struct wire_v2_writer {
    ps_alloc alloc;
    size_t max_bytes;
    ps_buf symbols, series;
    slot *slots;
    size_t n_slots; /* a power of two, or 0 */
    uint32_t n_symbols;
    uint32_t *refs; /* of the series at hand, then of its exemplars */
    size_t cap_refs, n_refs;
    bool failed;
};

wire_v2_writer *
wire_v2_writer_new(const ps_alloc *alloc, size_t max_bytes)
{
    wire_v2_writer *w = ps_alloc_array(alloc, 1, sizeof *w);
    if (w == NULL)
        return NULL;
    w->alloc = *alloc;
    w->max_bytes = max_bytes < INT32_MAX ? max_bytes : INT32_MAX;
    ps_buf_init(&w->symbols, alloc);
    ps_buf_init(&w->series, alloc);
    return w;
}

void
wire_v2_writer_free(wire_v2_writer *w)
{
    if (w == NULL)
        return;
    ps_alloc alloc = w->alloc;
    ps_buf_done(&w->symbols);
    ps_buf_done(&w->series);
    ps_alloc_free(&alloc, w->slots, w->n_slots * sizeof *w->slots);
    ps_alloc_free(&alloc, w->refs, w->cap_refs * sizeof *w->refs);
    ps_alloc_free(&alloc, w, sizeof *w);
}

/* ---- symbols ------------------------------------------------------------------------------------ */

static bool
grow_slots(wire_v2_writer *w)
{
    size_t n = w->n_slots == 0 ? 256 : w->n_slots * 2;
    slot *slots = ps_alloc_array(&w->alloc, n, sizeof *slots);
    if (slots == NULL)
        return false;
    for (size_t i = 0; i < w->n_slots; i++) {
        if (w->slots[i].ref == 0)
            continue;
        size_t at = w->slots[i].hash & (n - 1);
        while (slots[at].ref != 0)
            at = (at + 1) & (n - 1);
        slots[at] = w->slots[i];
    }
    ps_alloc_free(&w->alloc, w->slots, w->n_slots * sizeof *w->slots);
    w->slots = slots;
    w->n_slots = n;
    return true;
}

/* Symbol 0 is "", whatever else there is. */
static uint32_t
ref_of(wire_v2_writer *w, ps_str s)
{
    if (s.len == 0 || w->failed)
        return 0;
    if (w->n_symbols * 2 >= w->n_slots && !grow_slots(w)) {
        w->failed = true;
        return 0;
    }
    uint32_t hash = (uint32_t)(ps_hash64(s, 0) >> 32);
    size_t at = hash & (w->n_slots - 1);
    for (; w->slots[at].ref != 0; at = (at + 1) & (w->n_slots - 1)) {
        const slot *known = &w->slots[at];
        if (known->hash == hash && known->len == s.len &&
            memcmp(w->symbols.ptr + known->at, s.ptr, s.len) == 0)
            return known->ref;
    }
    wire_put_nested(&w->symbols, 4, s.len);
    size_t text = w->symbols.len;
    ps_buf_add_str(&w->symbols, s);
    if (w->symbols.failed || w->symbols.len > w->max_bytes) {
        w->failed = w->symbols.failed;
        return 0;
    }
    w->slots[at] = (slot){hash, ++w->n_symbols, (uint32_t)text, (uint32_t)s.len};
    return w->n_symbols;
}

static void
add_refs(wire_v2_writer *w, const mdl_label *labels, size_t n)
{
    size_t need = w->n_refs + 2 * n;
    if (need >= w->cap_refs) { /* also the first time: pointers into it are never NULL */
        size_t cap = need * 2 + 64;
        uint32_t *refs = w->alloc.realloc(w->alloc.self, w->refs, w->cap_refs * sizeof *refs,
                                          cap * sizeof *refs);
        if (refs == NULL) {
            w->failed = true;
            return;
        }
        w->refs = refs;
        w->cap_refs = cap;
    }
    for (size_t i = 0; i < n; i++) {
        w->refs[w->n_refs++] = ref_of(w, labels[i].name);
        w->refs[w->n_refs++] = ref_of(w, labels[i].value);
    }
}

static size_t
refs_size(const uint32_t *refs, size_t n)
{
    size_t size = 0;
    for (size_t i = 0; i < n; i++)
        size += wire_varint_size(refs[i]);
    return size;
}

static void
put_refs(ps_buf *out, const uint32_t *refs, size_t n)
{
    if (n == 0)
        return;
    wire_put_nested(out, 1, refs_size(refs, n));
    for (size_t i = 0; i < n; i++)
        wire_put_varint(out, refs[i]);
}

static size_t
refs_field_size(const uint32_t *refs, size_t n)
{
    return n == 0 ? 0 : wire_nested_size(refs_size(refs, n));
}

/* ---- parts of a series -------------------------------------------------------------------------- */

static size_t
sample_size(const wire_sample *s)
{
    return wire_double_size(s->value) + wire_number_size(2, (uint64_t)s->t_ms) +
           wire_number_size(3, (uint64_t)s->start_ms);
}

static void
put_sample(ps_buf *out, const wire_sample *s)
{
    wire_put_nested(out, 2, sample_size(s));
    wire_put_double(out, 1, s->value);
    wire_put_number(out, 2, (uint64_t)s->t_ms);
    wire_put_number(out, 3, (uint64_t)s->start_ms);
}

static size_t
exemplar_size(const wire_exemplar *e, const uint32_t *refs)
{
    return refs_field_size(refs, 2 * e->n_labels) + wire_double_size(e->value) +
           wire_number_size(3, (uint64_t)e->t_ms);
}

static void
put_exemplar(ps_buf *out, const wire_exemplar *e, const uint32_t *refs)
{
    wire_put_nested(out, 4, exemplar_size(e, refs));
    put_refs(out, refs, 2 * e->n_labels);
    wire_put_double(out, 2, e->value);
    wire_put_number(out, 3, (uint64_t)e->t_ms);
}

typedef struct about { /* metadata of a series as it is written */
    uint64_t type;
    uint32_t help, unit;
} about;

static size_t
about_size(const about *m)
{
    return wire_number_size(1, m->type) + wire_number_size(3, m->help) +
           wire_number_size(4, m->unit);
}

static void
put_about(ps_buf *out, const about *m)
{
    wire_put_nested(out, 5, about_size(m));
    wire_put_number(out, 1, m->type);
    wire_put_number(out, 3, m->help);
    wire_put_number(out, 4, m->unit);
}

static size_t
series_size(const wire_v2_writer *w, const wire_v2_item *item, const about *m)
{
    const uint32_t *refs = w->refs;
    size_t size = refs_field_size(refs, 2 * item->labels.n);
    refs += 2 * item->labels.n;
    for (size_t i = 0; i < item->n_samples; i++)
        size += wire_nested_size(sample_size(&item->samples[i]));
    for (size_t i = 0; i < item->n_histograms; i++)
        size += wire_nested_size(wire_histogram_size(&item->histograms[i], true));
    for (size_t i = 0; i < item->n_exemplars; i++) {
        size += wire_nested_size(exemplar_size(&item->exemplars[i], refs));
        refs += 2 * item->exemplars[i].n_labels;
    }
    return size + (item->metadata == NULL ? 0 : wire_nested_size(about_size(m)));
}

void
wire_v2_write(wire_v2_writer *w, const wire_v2_item *item)
{
    if (w->failed || w->series.len > w->max_bytes)
        return;
    about m = {0};
    w->n_refs = 0;
    add_refs(w, item->labels.items, item->labels.n);
    for (size_t i = 0; i < item->n_exemplars; i++)
        add_refs(w, item->exemplars[i].labels, item->exemplars[i].n_labels);
    if (item->metadata != NULL)
        m = (about){(uint64_t)item->metadata->type, ref_of(w, item->metadata->help),
                    ref_of(w, item->metadata->unit)};
    if (w->failed)
        return;
    ps_buf *out = &w->series;
    const uint32_t *refs = w->refs;
    wire_put_nested(out, 5, series_size(w, item, &m));
    put_refs(out, refs, 2 * item->labels.n);
    refs += 2 * item->labels.n;
    for (size_t i = 0; i < item->n_samples; i++)
        put_sample(out, &item->samples[i]);
    for (size_t i = 0; i < item->n_histograms; i++) {
        wire_put_nested(out, 3, wire_histogram_size(&item->histograms[i], true));
        wire_put_histogram(out, &item->histograms[i], true);
    }
    for (size_t i = 0; i < item->n_exemplars; i++) {
        put_exemplar(out, &item->exemplars[i], refs);
        refs += 2 * item->exemplars[i].n_labels;
    }
    if (item->metadata != NULL)
        put_about(out, &m);
    w->failed = out->failed;
}

ps_status
wire_v2_writer_finish(wire_v2_writer *w, ps_buf *out, ps_err *err)
{
    ps_status status = PS_OK;
    size_t bytes = 2 + w->symbols.len + w->series.len;
    if (w->failed) {
        status = ps_fail(err, PS_ENOMEM, "out of memory");
    } else if (bytes > w->max_bytes) {
        status = ps_fail(err, PS_ELIMIT, "the write request has more than %zu bytes", w->max_bytes);
    } else if (!ps_buf_reserve(out, bytes)) {
        status = ps_fail(err, PS_ENOMEM, "out of memory");
    } else {
        wire_put_nested(out, 4, 0);
        ps_buf_add(out, w->symbols.ptr, w->symbols.len);
        ps_buf_add(out, w->series.ptr, w->series.len);
    }
    ps_buf_clear(&w->symbols);
    ps_buf_clear(&w->series);
    if (w->n_slots > 0)
        memset(w->slots, 0, w->n_slots * sizeof *w->slots);
    w->n_symbols = 0;
    w->failed = false;
    return status;
}
