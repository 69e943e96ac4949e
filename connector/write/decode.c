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

void
wp_decoder_init(wp_decoder *d)
{
    *d = (wp_decoder){0};
    ps_buf_init(&d->raw, &ps_malloc);
    ps_buf_init(&d->adapted, &ps_malloc);
    ps_buf_init(&d->key, &ps_malloc);
    ps_buf_init(&d->text, &ps_malloc);
    ps_arena_init(&d->symbols, &ps_malloc, 0);
}

void
wp_decoder_done(wp_decoder *d)
{
    ps_buf_done(&d->raw);
    ps_buf_done(&d->adapted);
    ps_buf_done(&d->key);
    ps_buf_done(&d->text);
    wp_v2_labels_done(&d->v2_labels);
    ps_arena_done(&d->symbols);
    free(d->labels);
    free(d->samples);
    free(d->exemplars);
    free(d->histograms);
    free(d->refs);
    free(d->v2_exemplars);
    free(d->aliases);
}

/* ---- the walk ------------------------------------------------------------------------------- */

static ps_status
decompress(write_path *w, wp_decoder *d, const wp_request *r, ps_str *ret, ps_err *err)
{
    size_t max = (size_t)w->set->ingest_max_decompressed_bytes;
    if (r->in.encoding == WRITE_PLAIN) {
        if (r->in.body.len > max)
            return ps_fail(err, PS_ELIMIT, "the message has %zu bytes, the limit is %zu",
                           r->in.body.len, max);
        *ret = r->in.body;
        return PS_OK;
    }
    if (r->in.encoding == WRITE_GZIP)
        PS_TRY(wp_gunzip(r->in.body, max, &d->raw, err));
    else
        PS_TRY(wire_snappy_decode(r->in.body, max, &d->raw, err));
    *ret = ps_buf_str(&d->raw);
    return PS_OK;
}

/* A remote write message of either version, whatever came. note: takes refusals; may be NULL. */
static ps_status
open_message(write_path *w, wp_decoder *d, const wp_request *r, wp_request *note, ps_str *ret,
             ps_err *err)
{
    PS_TRY(decompress(w, d, r, ret, err));
    if (r->in.version == WRITE_V1 || r->in.version == WRITE_V2)
        return PS_OK;
    return wp_adapt(w, d, r, note, *ret, ret, err);
}

static ps_status
walk_v1(write_path *w, wp_decoder *d, wp_request *r, series_cursor *cur, ps_str message,
        ps_err *err)
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
                return wp_over_limit(w, WP_LIMIT_SERIES, w->set->ingest_max_series, "series", err);
            if (PS_UNLIKELY(n_series % WP_SERIES_PER_BREATH == 0))
                series_cache_yield(w->cache);
            bool refused;
            PS_TRY(wp_take_series(w, d, r, cur, &series, NULL, NULL, &refused, err));
        } else if (item == WIRE_METADATA) {
            PS_TRY(wp_take_metadata(w, r, &metadata, 0, err));
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

static bool
old_samples_are(const write_path *w, const char *mode)
{
    const char *chosen = w->set->ingest_old_samples;
    return strcmp(chosen != NULL ? chosen : "accept", mode) == 0;
}

/* Samples from before this time may be older than their series is kept. */
static int64_t
oldest_time(const write_path *w, int64_t now_ms)
{
    int64_t kept_ms = atomic_load(&w->shortest_ms);
    if (kept_ms <= 0 || old_samples_are(w, "accept") || now_ms - MDL_TIME_MIN_MS <= kept_ms)
        return MDL_TIME_MIN_MS;
    return now_ms - kept_ms;
}

/* One large message must not keep its memory for good. */
static void
shrink(wp_decoder *d)
{
    if (d->raw.cap > ((size_t)4 << 20)) {
        ps_buf_done(&d->raw);
        ps_buf_init(&d->raw, &ps_malloc);
    }
    if (d->adapted.cap > ((size_t)4 << 20)) {
        ps_buf_done(&d->adapted);
        ps_buf_init(&d->adapted, &ps_malloc);
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
    if (d->cap_histograms > 65536) {
        free(d->histograms);
        d->histograms = NULL;
        d->cap_histograms = 0;
    }
    if (d->cap_refs > 65536) {
        free(d->refs);
        d->refs = NULL;
        d->cap_refs = 0;
    }
    if (d->symbols.used_bytes > ((size_t)1 << 20))
        ps_arena_done(&d->symbols);
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
    d->now_ms = w->now_ms(w->now_self);
    d->old_ms = oldest_time(w, d->now_ms);
    d->refuse_old = old_samples_are(w, "refuse");
    ps_status status = open_message(w, d, r, r, &message, &err);
    if (status == PS_ELIMIT)
        metric_add(w->stats.limits[WP_LIMIT_DECOMPRESSED], 1);
    if (status == PS_OK) {
        series_cursor cur;
        series_cache_begin(w->cache, &cur);
        r->epoch = cur.epoch;
        r->generation = cur.generation;
        r->tenant_id = atomic_load(&r->tenant->id); /* after the epoch: see resolver.c */
        status = (r->in.version != WRITE_V1 ? wp_walk_v2 : walk_v1)(w, d, r, &cur, message, &err);
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

static bool
name_series_v1(write_path *w, wp_decoder *d, const wp_request *r, series_cursor *cur,
               ps_str message, int64_t series_id, ps_buf *out)
{
    wire_write_reader reader;
    wire_write_reader_init(&reader, message);
    for (;;) {
        wire_item item;
        wire_series s;
        wire_metadata metadata;
        series_ref ref;
        if (wire_write_next(&reader, &item, &s, &metadata, NULL) != PS_OK || item == WIRE_END)
            return false;
        if (item == WIRE_SERIES && s.label_bytes.len > 0 &&
            series_cache_find(w->cache, cur, r->tenant_id, s.label_bytes, &ref) &&
            ref.series_id == series_id) {
            ps_buf_add_str(out, wp_series_text(w, d, &s));
            return true;
        }
    }
}

bool
wp_name_series(write_path *w, wp_decoder *d, const wp_request *r, int64_t series_id, ps_buf *out)
{
    ps_str message;
    series_cursor cur;
    if (open_message(w, d, r, NULL, &message, NULL) != PS_OK)
        return false;
    series_cache_begin(w->cache, &cur);
    bool found =
        (r->in.version != WRITE_V1 ? wp_name_series_v2 : name_series_v1)(w, d, r, &cur, message,
                                                                         series_id, out);
    series_cache_end(w->cache, &cur);
    return found;
}
