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
translate(v2_walk *v, const wire_v2_series *s, wire_series *ret, bool *ret_ok, ps_err *err)
{
    wp_v2_labels *labels = &v->d->v2_labels;
    const wire_v2_symbols *symbols = &v->reader.symbols;
    const char *why;
    *ret_ok = false;
    PS_TRY(wp_v2_labels_take(labels, symbols, s, v->w->set, &why, err));
    if (PS_UNLIKELY(why != NULL)) {
        refuse(v, s, WP_REASON_REFERENCE, (ps_str){0}, why);
        return PS_OK;
    }
    if (PS_UNLIKELY(s->has_metadata && ((s->help_ref >= symbols->n && s->help_ref > 0) ||
                                        (s->unit_ref >= symbols->n && s->unit_ref > 0)))) {
        refuse(v, s, WP_REASON_REFERENCE, (ps_str){0},
               "a series has metadata references outside of the symbols table");
        return PS_OK;
    }
    ps_str bytes = wp_v2_labels_bytes(labels);
    PS_TRY(expand(v, bytes.len, err));
    *ret = (wire_series){.bytes = bytes,
                         .label_bytes = bytes,
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

/* Of a classic histogram or summary that was given as what it is, the name that its series share. What
 * remote write brings stands for itself. */
static ps_str
family_of(const v2_walk *v, const wire_v2_series *s, ps_str name)
{
    static const ps_str tails[] = {{"_bucket", 7}, {"_count", 6}, {"_sum", 4}};
    bool classic = s->type == WIRE_METRIC_HISTOGRAM || s->type == WIRE_METRIC_SUMMARY;
    if (v->r->in.version == WRITE_V2 || !classic || s->n_histograms > 0)
        return name;
    for (size_t i = 0; i < PS_ARRAY_LEN(tails); i++)
        if (name.len > tails[i].len &&
            memcmp(name.ptr + name.len - tails[i].len, tails[i].ptr, tails[i].len) == 0)
            return (ps_str){name.ptr, name.len - tails[i].len};
    return name;
}

static ps_status
take_metadata(v2_walk *v, const wire_v2_series *s, ps_str name, ps_err *err)
{
    /* Every series of a metric says the same; the same references mean the same in one message. */
    wp_v2_seen seen = {name.ptr, s->type, s->help_ref, s->unit_ref};
    uint64_t h = ((uint64_t)(uintptr_t)name.ptr ^ (uint64_t)s->help_ref << 32 ^ s->unit_ref) *
                 UINT64_C(0x9E3779B97F4A7C15);
    wp_v2_seen *place = &v->d->seen[h >> 54];
    _Static_assert(WP_SEEN == 1 << 10, "ten bits of the hash");
    if (place->name == seen.name && place->type == seen.type && place->help == seen.help &&
        place->unit == seen.unit)
        return PS_OK;
    *place = seen;
    v->d->any_seen = true;
    wire_metadata m = {.type = s->type < WIRE_METRIC_TYPE_MAX ? (wire_metric_type)s->type
                                                              : WIRE_METRIC_UNKNOWN,
                       .family = family_of(v, s, name),
                       .help = symbol(&v->reader.symbols, s->help_ref),
                       .unit = symbol(&v->reader.symbols, s->unit_ref)};
    if (m.type == WIRE_METRIC_UNKNOWN && m.help.len == 0 && m.unit.len == 0)
        return PS_OK; /* it says nothing */
    PS_TRY(expand(v, m.family.len + m.help.len + m.unit.len, err));
    uint64_t mark = wp_metadata_mark(v->w, v->r, v->now_ms, &m);
    if (wp_is_told(v->w, mark))
        return PS_OK;
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
    if (d->any_seen)
        memset(d->seen, 0, sizeof(d->seen));
    d->any_seen = false;
    wp_v2_labels_begin(&d->v2_labels);
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
    bool ok, refused;
    PS_TRY(translate(v, s, &as_v1, &ok, err));
    if (!ok)
        return PS_OK;
    ps_str name = wp_v2_labels_name(&v->d->v2_labels);
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
    wp_v2_labels_begin(&d->v2_labels);
    while (wire_v2_next(&reader, &any, &s, NULL) == PS_OK && any) {
        series_ref ref;
        const char *why;
        if (wp_v2_labels_take(&d->v2_labels, &reader.symbols, &s, w->set, &why, NULL) != PS_OK)
            return false;
        if (why != NULL)
            continue;
        ps_str bytes = wp_v2_labels_bytes(&d->v2_labels);
        wire_series as_v1 = {.bytes = bytes, .label_bytes = bytes, .n_labels = s.n_refs / 2};
        if (!series_cache_find(w->cache, cur, r->tenant_id, as_v1.label_bytes, &ref) ||
            ref.series_id != series_id)
            continue;
        ps_buf_add_str(out, wp_series_text(w, d, &as_v1));
        return true;
    }
    return false;
}
