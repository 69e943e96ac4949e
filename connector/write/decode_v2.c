/*
 * decode_v2.c - a message of remote write 2.0, series by series.
 *
 * References are replaced by what they stand for: the labels of a series become the bytes that they
 * would be in 1.0, which is the key of the cache and the shape in which labels are checked, compared
 * and resolved. So a series is the same whichever version brings it, and texts are checked only when a
 * series is new. What references stand for may be much more than the message; together it may not be
 * more than a message of 1.0 may.
 */
#include "connector/write/internal.h"

typedef struct v2_walk {
    write_path *w;
    wp_decoder *d;
    wp_request *r;
    wire_v2_reader reader;
    int64_t now_ms;
    /* Metadata of the series before, as references. */
    ps_str last_name;
    uint32_t last_type, last_help, last_unit;
} v2_walk;

bool
wp_points_at_nothing(const wire_v2_symbols *symbols, const uint32_t *refs, size_t n)
{
    uint32_t max = 0;
    for (size_t i = 0; i < n; i++)
        max = refs[i] > max ? refs[i] : max;
    return n % 2 != 0 || (n > 0 && max >= symbols->n);
}

/* ---- labels ----------------------------------------------------------------------------------- */

static inline char *
put_length(char *at, size_t n)
{
    for (; n >= 0x80; n >>= 7)
        *at++ = (char)(n | 0x80);
    *at++ = (char)n;
    return at;
}

static inline size_t
length_size(size_t n)
{
    return n < 0x80 ? 1 : n < 0x4000 ? 2 : n < 0x200000 ? 3 : n < 0x10000000 ? 4 : 5;
}

static inline char *
put_text(char *at, char tag, ps_str s)
{
    *at++ = tag;
    at = put_length(at, s.len);
    if (s.len > 0)
        memcpy(at, s.ptr, s.len);
    return at + s.len;
}

/* References are in range. */
static bool
put_labels(ps_buf *out, const ps_str *symbols, const uint32_t *refs, size_t n, ps_str *ret_name)
{
    ps_buf_clear(out);
    for (size_t i = 0; i < n; i += 2) {
        ps_str name = symbols[refs[i]], value = symbols[refs[i + 1]];
        size_t len = 2 + length_size(name.len) + name.len + length_size(value.len) + value.len;
        if (PS_UNLIKELY(!ps_buf_reserve(out, len + 6)))
            return false;
        char *at = out->ptr + out->len;
        *at++ = 0x0A; /* TimeSeries.labels */
        at = put_length(at, len);
        at = put_text(at, 0x0A, name);
        at = put_text(at, 0x12, value);
        out->len = (size_t)(at - out->ptr);
        if (name.len == sizeof(MDL_METRIC_NAME) - 1 &&
            memcmp(name.ptr, MDL_METRIC_NAME, name.len) == 0)
            *ret_name = value;
    }
    return true;
}

/* Bytes of labels, or too many to be looked at closer: more than a label set may have anyhow. */
static bool
labels_are_sane(const settings *set, const ps_str *symbols, const uint32_t *refs, size_t n)
{
    size_t bytes = 0;
    if ((int64_t)(n / 2) > set->ingest_max_labels)
        return false;
    for (size_t i = 0; i < n; i++)
        bytes += symbols[refs[i]].len;
    return (int64_t)bytes <= set->ingest_max_label_set_bytes;
}

static ps_status
expand(v2_walk *v, size_t bytes, ps_err *err)
{
    int64_t max = v->w->set->ingest_max_decompressed_bytes;
    v->d->expanded += bytes;
    if (PS_UNLIKELY((int64_t)v->d->expanded > max))
        return wp_over_limit(v->w, WP_LIMIT_DECOMPRESSED, max, "bytes with references resolved",
                             err);
    return PS_OK;
}

static void
refuse(v2_walk *v, const wire_v2_series *s, wp_reason reason, ps_str series, const char *why)
{
    v->r->received.floats += s->n_samples;
    v->r->received.histograms += s->n_histograms;
    wp_refuse(v->w, v->r, reason, (wp_counts){s->n_samples, s->n_histograms}, series, "%s", why);
}

/* The series as 1.0 would have it, labels only. *ret_ok: its references make sense. */
static ps_status
translate(v2_walk *v, const wire_v2_series *s, wire_series *ret, ps_str *ret_name, bool *ret_ok,
          ps_err *err)
{
    wp_decoder *d = v->d;
    const wire_v2_symbols *symbols = &v->reader.symbols;
    *ret_ok = false;
    if (!wp_grow((void **)&d->refs, &d->cap_refs, s->n_refs, sizeof(*d->refs)))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    wire_v2_refs(s, d->refs);
    if (PS_UNLIKELY(wp_points_at_nothing(symbols, d->refs, s->n_refs))) {
        refuse(v, s, WP_REASON_REFERENCE, (ps_str){0},
               s->n_refs % 2 != 0 ? "a series has an odd number of label references"
                                  : "a series has label references outside of the symbols table");
        return PS_OK;
    }
    if (PS_UNLIKELY(s->has_metadata && ((s->help_ref >= symbols->n && s->help_ref > 0) ||
                                        (s->unit_ref >= symbols->n && s->unit_ref > 0)))) {
        refuse(v, s, WP_REASON_REFERENCE, (ps_str){0},
               "a series has metadata references outside of the symbols table");
        return PS_OK;
    }
    if (PS_UNLIKELY(!labels_are_sane(v->w->set, symbols->items, d->refs, s->n_refs))) {
        refuse(v, s, WP_REASON_LABEL_LIMIT, (ps_str){0},
               "a series has too many labels, or too many bytes of them");
        return PS_OK;
    }
    if (!put_labels(&d->wire_key, symbols->items, d->refs, s->n_refs, ret_name))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    PS_TRY(expand(v, d->wire_key.len, err));
    *ret = (wire_series){.bytes = ps_buf_str(&d->wire_key),
                         .label_bytes = ps_buf_str(&d->wire_key),
                         .n_labels = s->n_refs / 2,
                         .n_samples = s->n_samples,
                         .n_exemplars = s->n_exemplars,
                         .n_histograms = s->n_histograms};
    *ret_ok = true;
    return PS_OK;
}

/* ---- metadata --------------------------------------------------------------------------------- */

static ps_str
symbol(const wire_v2_symbols *symbols, uint32_t ref)
{
    return ref < symbols->n ? symbols->items[ref] : (ps_str){0};
}

static ps_status
take_metadata(v2_walk *v, const wire_v2_series *s, ps_str name, ps_err *err)
{
    if (name.ptr == v->last_name.ptr && name.len == v->last_name.len && s->type == v->last_type &&
        s->help_ref == v->last_help && s->unit_ref == v->last_unit)
        return PS_OK; /* often: the buckets of a histogram */
    v->last_name = name;
    v->last_type = s->type;
    v->last_help = s->help_ref;
    v->last_unit = s->unit_ref;
    wire_metadata m = {.type = s->type < WIRE_METRIC_TYPE_MAX ? (wire_metric_type)s->type
                                                              : WIRE_METRIC_UNKNOWN,
                       .family = name,
                       .help = symbol(&v->reader.symbols, s->help_ref),
                       .unit = symbol(&v->reader.symbols, s->unit_ref)};
    if (m.type == WIRE_METRIC_UNKNOWN && m.help.len == 0 && m.unit.len == 0)
        return PS_OK; /* it says nothing */
    PS_TRY(expand(v, m.help.len + m.unit.len, err));
    uint64_t mark = wp_metadata_mark(v->w, v->r, v->now_ms, &m);
    uint64_t *place = &v->d->marks[mark % WP_MARKS];
    if (*place == mark || wp_is_told(v->w, mark))
        return PS_OK;
    *place = mark;
    v->d->marked = true;
    return wp_take_metadata(v->w, v->r, &m, mark, err);
}

/* ---- the walk --------------------------------------------------------------------------------- */

static ps_status
begin(v2_walk *v, ps_str message, ps_err *err)
{
    wp_decoder *d = v->d;
    size_t max = (size_t)v->w->set->ingest_max_symbols;
    ps_arena_reset(&d->symbols);
    d->expanded = 0;
    if (d->marked)
        memset(d->marks, 0, sizeof(d->marks));
    d->marked = false;
    v->now_ms = v->w->now_ms(v->w->now_self);
    ps_status status = wire_v2_reader_init(&v->reader, message, max, &d->symbols, err);
    if (status == PS_ELIMIT)
        metric_add(v->w->stats.limits[WP_LIMIT_SYMBOLS], 1);
    return status;
}

static ps_status
take(v2_walk *v, series_cursor *cur, const wire_v2_series *s, ps_err *err)
{
    wire_series as_v1;
    ps_str name = {0};
    bool ok, refused;
    PS_TRY(translate(v, s, &as_v1, &name, &ok, err));
    if (!ok)
        return PS_OK;
    bool nothing = s->n_samples == 0 && s->n_histograms == 0 && s->n_exemplars == 0;
    if (PS_UNLIKELY(nothing && (name.len == 0 || !s->has_metadata))) {
        ps_str text =
            v->r->named < WP_REFUSALS_NAMED ? wp_series_text(v->w, v->d, &as_v1) : (ps_str){0};
        refuse(v, s, name.len == 0 ? WP_REASON_LABELS : WP_REASON_EMPTY, text,
               name.len == 0 ? "a series has no metric name"
                             : "TimeSeries must contain at least one sample or histogram");
        return PS_OK;
    }
    PS_TRY(wp_take_series(v->w, v->d, v->r, cur, &as_v1, &v->reader, s, &refused, err));
    if (s->has_metadata && !refused && name.len > 0)
        PS_TRY(take_metadata(v, s, name, err));
    return PS_OK;
}

ps_status
wp_walk_v2(write_path *w, wp_decoder *d, wp_request *r, series_cursor *cur, ps_str message,
           ps_err *err)
{
    v2_walk v = {.w = w, .d = d, .r = r};
    int64_t n_series = 0;
    PS_TRY(begin(&v, message, err));
    for (;;) {
        wire_v2_series s;
        bool any;
        PS_TRY(wire_v2_next(&v.reader, &any, &s, err));
        if (!any)
            return PS_OK;
        if (PS_UNLIKELY(++n_series > w->set->ingest_max_series))
            return wp_over_limit(w, WP_LIMIT_SERIES, w->set->ingest_max_series, "series", err);
        if (PS_UNLIKELY(n_series % WP_SERIES_PER_BREATH == 0))
            series_cache_yield(w->cache);
        PS_TRY(take(&v, cur, &s, err));
    }
}

bool
wp_name_series_v2(write_path *w, wp_decoder *d, const wp_request *r, series_cursor *cur,
                  ps_str message, int64_t series_id, ps_buf *out)
{
    wire_v2_reader reader;
    wire_v2_series s;
    bool any = true;
    ps_arena_reset(&d->symbols);
    if (wire_v2_reader_init(&reader, message, (size_t)w->set->ingest_max_symbols, &d->symbols,
                            NULL) != PS_OK)
        return false;
    while (wire_v2_next(&reader, &any, &s, NULL) == PS_OK && any) {
        series_ref ref;
        ps_str name;
        if (!wp_grow((void **)&d->refs, &d->cap_refs, s.n_refs, sizeof(*d->refs)))
            return false;
        wire_v2_refs(&s, d->refs);
        if (wp_points_at_nothing(&reader.symbols, d->refs, s.n_refs) ||
            !labels_are_sane(w->set, reader.symbols.items, d->refs, s.n_refs) ||
            !put_labels(&d->wire_key, reader.symbols.items, d->refs, s.n_refs, &name))
            continue;
        wire_series as_v1 = {.bytes = ps_buf_str(&d->wire_key),
                             .label_bytes = ps_buf_str(&d->wire_key),
                             .n_labels = s.n_refs / 2};
        if (!series_cache_find(w->cache, cur, r->tenant_id, as_v1.label_bytes, &ref) ||
            ref.series_id != series_id)
            continue;
        ps_buf_add_str(out, wp_series_text(w, d, &as_v1));
        return true;
    }
    return false;
}
