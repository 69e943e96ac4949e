/*
 * decode.c - from a request's body to points with series ids: the hot loop.
 *
 * The message is decompressed into the worker's own buffer and walked once, in place. A series that
 * the cache knows by its label bytes costs one comparison, a look at its samples, and nothing else;
 * whatever has to outlive the walk (labels of new series, exemplars, metadata) is copied into the
 * request. So a request that waits for the database holds 32 bytes a sample and its compressed
 * body, not the message; if its ids become worthless (the catalog moved on) it is simply decoded
 * again from the body.
 *
 * The cache's read lock is held while walking, but for a breath every few thousand series. The
 * request remembers the epoch that it began with: if a later one began meanwhile, its ids are stale
 * as a whole.
 *
 * Bad parts never cost the good ones: they are refused one by one with their reason. Only a message
 * that cannot be read, or one over a limit for whole requests, is refused as a whole.
 */
#include "connector/write/internal.h"

#include <stdlib.h>

enum { SERIES_PER_BREATH = 4096 };

void
wp_decoder_init(wp_decoder *d)
{
    *d = (wp_decoder){0};
    ps_buf_init(&d->raw, &ps_malloc);
    ps_buf_init(&d->key, &ps_malloc);
    ps_buf_init(&d->text, &ps_malloc);
}

void
wp_decoder_done(wp_decoder *d)
{
    ps_buf_done(&d->raw);
    ps_buf_done(&d->key);
    ps_buf_done(&d->text);
    free(d->labels);
    free(d->samples);
    free(d->exemplars);
    free(d->aliases);
}

static ps_status
over_limit(write_path *w, wp_limit limit, int64_t max, const char *what, ps_err *err)
{
    metric_add(w->stats.limits[limit], 1);
    return ps_fail(err, PS_ELIMIT, "the request has more than %lld %s", (long long)max, what);
}

/* ---- samples -------------------------------------------------------------------------------- */

static void
refuse_times(write_path *w, wp_decoder *d, wp_request *r, const wire_series *s, int64_t n_future,
             int64_t n_range)
{
    ps_str text = r->named < WP_REFUSALS_NAMED ? wp_series_text(w, d, s) : (ps_str){0};
    if (n_future > 0) {
        char ahead[32];
        ps_format_duration(ahead, sizeof(ahead), w->set->ingest_max_future_ms);
        wp_refuse(w, r, WP_REASON_FUTURE, n_future, text,
                  "%lld sample(s) out of bounds: more than %s ahead of the clock",
                  (long long)n_future, ahead);
    }
    if (n_range > 0)
        wp_refuse(w, r, WP_REASON_TIME, n_range, text,
                  "%lld sample(s) out of bounds: the time is outside what the database can hold",
                  (long long)n_range);
}

/* Appends the samples that can be stored; the others are refused. */
static ps_status
take_samples(write_path *w, wp_decoder *d, wp_request *r, const wire_series *s, series_ref ref,
             ps_err *err)
{
    size_t n = s->n_samples;
    if (PS_UNLIKELY((int64_t)(r->n_points + n) > w->set->ingest_max_samples))
        return over_limit(w, WP_LIMIT_SAMPLES, w->set->ingest_max_samples, "samples", err);
    if (PS_UNLIKELY(
            !wp_grow((void **)&d->samples, &d->cap_samples, n, sizeof(*d->samples)) ||
            !wp_grow((void **)&r->points, &r->cap_points, r->n_points + n, sizeof(*r->points))))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    wire_series_samples(s, d->samples);
    blk_point *out = r->points + r->n_points;
    int64_t n_future = 0, n_range = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t t = d->samples[i].t_ms;
        if (PS_UNLIKELY(t < d->lo_ms || t > d->hi_ms)) {
            if (t < MDL_TIME_MIN_MS || t > MDL_TIME_MAX_MS)
                n_range++;
            else
                n_future++;
            continue;
        }
        *out++ = (blk_point){.series_id = ref.series_id,
                             .t_ms = t,
                             .value = d->samples[i].value,
                             .metric_id = ref.metric_id};
    }
    r->n_points = (size_t)(out - r->points);
    r->samples_received += (int64_t)n;
    if (PS_UNLIKELY(n_future + n_range > 0))
        refuse_times(w, d, r, s, n_future, n_range);
    return PS_OK;
}

static void
refuse_histograms(write_path *w, wp_decoder *d, wp_request *r, const wire_series *s)
{
    ps_str text = r->named < WP_REFUSALS_NAMED ? wp_series_text(w, d, s) : (ps_str){0};
    r->samples_received += s->n_histograms;
    wp_refuse(w, r, WP_REASON_HISTOGRAM, s->n_histograms, text,
              "native histograms are not in this version");
}

static ps_status
take_series(write_path *w, wp_decoder *d, wp_request *r, series_cursor *cur, const wire_series *s,
            ps_err *err)
{
    if (PS_UNLIKELY(s->n_histograms > 0))
        refuse_histograms(w, d, r, s);
    if (PS_UNLIKELY(s->n_samples == 0 && s->n_exemplars == 0))
        return PS_OK; /* it carries nothing (more) */
    wp_lookup found = {.fresh = SIZE_MAX};
    if (PS_UNLIKELY(s->label_bytes.len == 0 ||
                    !series_cache_find(w->cache, cur, r->tenant_id, s->label_bytes, &found.ref))) {
        PS_TRY(wp_lookup_slow(w, d, r, cur, s, &found, err));
        if (found.refused) {
            r->samples_received += s->n_samples;
            return PS_OK;
        }
    }
    size_t first_point = r->n_points, first_exemplar = r->n_exemplars;
    PS_TRY(take_samples(w, d, r, s, found.ref, err));
    if (PS_UNLIKELY(s->n_exemplars > 0))
        PS_TRY(wp_take_exemplars(w, d, r, s, found.ref, err));
    if (found.fresh != SIZE_MAX) {
        wp_new_series *fresh = &r->fresh[found.fresh];
        fresh->first_point = (uint32_t)first_point;
        fresh->n_points = (uint32_t)(r->n_points - first_point);
        fresh->first_exemplar = (uint32_t)first_exemplar;
        fresh->n_exemplars = (uint32_t)(r->n_exemplars - first_exemplar);
        if (fresh->n_points == 0 && fresh->n_exemplars == 0)
            r->n_fresh--; /* nothing of it is left: do not create it */
    }
    return PS_OK;
}

/* ---- metadata ------------------------------------------------------------------------------- */

static bool
is_text(const write_path *w, ps_str s)
{
    return s.len <= (size_t)w->set->ingest_max_label_value_bytes && ps_utf8_valid(s) &&
           (s.len == 0 || memchr(s.ptr, '\0', s.len) == NULL);
}

static ps_status
take_metadata(write_path *w, wp_request *r, const wire_metadata *m, ps_err *err)
{
    if (m->family.len == 0 || !is_text(w, m->family) || !is_text(w, m->help) ||
        !is_text(w, m->unit)) {
        wp_refuse(w, r, WP_REASON_METADATA, 0, (ps_str){0},
                  "metadata with an empty or unusable metric name, help or unit");
        return PS_OK;
    }
    if ((int64_t)r->n_metadata >= w->set->ingest_max_metadata) { /* never costs samples */
        metric_add(w->stats.limits[WP_LIMIT_METADATA], 1);
        metric_add(w->stats.refused[WP_REASON_METADATA], 1);
        return PS_OK;
    }
    if (!wp_grow((void **)&r->metadata, &r->cap_metadata, r->n_metadata + 1, sizeof(*r->metadata)))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    catalog_metadata *item = &r->metadata[r->n_metadata];
    if (ps_arena_dup(&r->arena, m->family, &item->family) != PS_OK ||
        ps_arena_dup(&r->arena, m->help, &item->help) != PS_OK ||
        ps_arena_dup(&r->arena, m->unit, &item->unit) != PS_OK)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    item->type = wire_metric_type_name(m->type);
    r->n_metadata++;
    return PS_OK;
}

/* ---- the walk ------------------------------------------------------------------------------- */

static ps_status
open_message(write_path *w, wp_decoder *d, const wp_request *r, ps_str *ret, ps_err *err)
{
    size_t max = (size_t)w->set->ingest_max_decompressed_bytes;
    if (r->in.encoding == WRITE_PLAIN) {
        if (r->in.body.len > max)
            return ps_fail(err, PS_ELIMIT, "the message has %zu bytes, the limit is %zu",
                           r->in.body.len, max);
        *ret = r->in.body;
        return PS_OK;
    }
    PS_TRY(wire_snappy_decode(r->in.body, max, &d->raw, err));
    *ret = ps_buf_str(&d->raw);
    return PS_OK;
}

static ps_status
walk(write_path *w, wp_decoder *d, wp_request *r, series_cursor *cur, ps_str message, ps_err *err)
{
    wire_write_reader reader;
    int64_t n_series = 0;
    wire_write_reader_init(&reader, message);
    for (;;) {
        wire_item item;
        wire_series series;
        wire_metadata metadata;
        PS_TRY(wire_write_next(&reader, &item, &series, &metadata, err));
        if (PS_LIKELY(item == WIRE_SERIES)) {
            if (PS_UNLIKELY(++n_series > w->set->ingest_max_series))
                return over_limit(w, WP_LIMIT_SERIES, w->set->ingest_max_series, "series", err);
            if (PS_UNLIKELY(n_series % SERIES_PER_BREATH == 0))
                series_cache_yield(w->cache);
            PS_TRY(take_series(w, d, r, cur, &series, err));
        } else if (item == WIRE_METADATA) {
            PS_TRY(take_metadata(w, r, &metadata, err));
        } else {
            return PS_OK;
        }
    }
}

static int64_t
latest_time(const write_path *w)
{
    int64_t now = w->now_ms(w->now_self);
    if (now > MDL_TIME_MAX_MS - w->set->ingest_max_future_ms)
        return MDL_TIME_MAX_MS;
    return now + w->set->ingest_max_future_ms;
}

/* One large message must not keep its memory for good. */
static void
shrink(wp_decoder *d)
{
    if (d->raw.cap > ((size_t)4 << 20)) {
        ps_buf_done(&d->raw);
        ps_buf_init(&d->raw, &ps_malloc);
    }
    if (d->cap_labels > 4096) {
        free(d->labels);
        d->labels = NULL;
        d->cap_labels = 0;
    }
    if (d->cap_samples > 65536) {
        free(d->samples);
        d->samples = NULL;
        d->cap_samples = 0;
    }
}

void
wp_decode(write_path *w, wp_decoder *d, wp_request *r)
{
    ps_err err;
    ps_str message;
    wp_request_reset(r);
    d->n_aliases = 0;
    d->lo_ms = MDL_TIME_MIN_MS;
    d->hi_ms = latest_time(w);
    ps_status status = open_message(w, d, r, &message, &err);
    if (status == PS_ELIMIT)
        metric_add(w->stats.limits[WP_LIMIT_DECOMPRESSED], 1);
    if (status == PS_OK) {
        series_cursor cur;
        series_cache_begin(w->cache, &cur);
        r->epoch = cur.epoch;
        r->generation = cur.generation;
        r->tenant_id = atomic_load(&r->tenant->id); /* after the epoch: see resolver.c */
        status = walk(w, d, r, &cur, message, &err);
        series_cache_end(w->cache, &cur);
        if (status == PS_OK && d->n_aliases > 0)
            series_cache_insert(w->cache, cur.epoch, d->aliases, d->n_aliases);
    }
    if (status != PS_OK) {
        wp_request_reset(r);
        wp_fatal(r, status == PS_ENOMEM ? PS_EUNAVAILABLE : status, "%s", err.text);
    }
    shrink(d);
}

bool
wp_name_series(write_path *w, wp_decoder *d, const wp_request *r, int64_t series_id, ps_buf *out)
{
    ps_str message;
    wire_write_reader reader;
    series_cursor cur;
    bool found = false;
    if (open_message(w, d, r, &message, NULL) != PS_OK)
        return false;
    wire_write_reader_init(&reader, message);
    series_cache_begin(w->cache, &cur);
    while (!found) {
        wire_item item;
        wire_series s;
        wire_metadata metadata;
        series_ref ref;
        if (wire_write_next(&reader, &item, &s, &metadata, NULL) != PS_OK || item == WIRE_END)
            break;
        if (item == WIRE_SERIES && s.label_bytes.len > 0 &&
            series_cache_find(w->cache, &cur, r->tenant_id, s.label_bytes, &ref) &&
            ref.series_id == series_id) {
            ps_buf_add_str(out, wp_series_text(w, d, &s));
            found = true;
        }
    }
    series_cache_end(w->cache, &cur);
    return found;
}
