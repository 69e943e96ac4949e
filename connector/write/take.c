/*
 * take.c - what both versions of remote write do with a series: find it, append its samples and
 * histograms, pass its exemplars on.
 *
 * A series of 2.0 comes with its labels as they would stand in 1.0, so that both share the cache and
 * everything that is said of a series; only its other parts lie elsewhere.
 */
#include "connector/write/internal.h"

ps_status
wp_over_limit(write_path *w, wp_limit limit, int64_t max, const char *what, ps_err *err)
{
    metric_add(w->stats.limits[limit], 1);
    return ps_fail(err, PS_ELIMIT, "the request has more than %lld %s", (long long)max, what);
}

/* ---- samples -------------------------------------------------------------------------------- */

static wp_counts
counts_of(bool floats, int64_t n)
{
    return floats ? wp_floats(n) : (wp_counts){.histograms = n};
}

typedef struct odd_times { /* samples of a series by what is odd about their times */
    int64_t future, range, old;
    bool judged;       /* the rest is known */
    int64_t kept_ms;   /* how long they are kept; 0: for ever */
    int64_t oldest_ms; /* earlier ones are older than that */
} odd_times;

/* Counts samples that retention will take at once, and tells the log once an hour. */
static void
note_old(write_path *w, const wp_decoder *d, const wp_request *r, int64_t kept_ms, int64_t n)
{
    const int64_t hour_ns = INT64_C(3600000000000);
    int64_t told = atomic_load(&w->old_told_ns), now = pg_now_ns();
    metric_add(w->stats.old, (double)n);
    if ((told != 0 && now < told + hour_ns) ||
        !atomic_compare_exchange_strong(&w->old_told_ns, &told, now))
        return;
    char kept[32];
    ps_format_duration(kept, sizeof(kept), kept_ms);
    log_warn(w->log,
             d->refuse_old ? "samples older than their series is kept are refused"
                           : "samples older than their series is kept are stored until "
                             "retention comes by",
             LOG_STR("kept", kept), LOG_SLICE("tenant", r->in.tenant), LOG_INT("samples", n));
}

static void
refuse_times(write_path *w, wp_decoder *d, wp_request *r, const wire_series *s, bool floats,
             odd_times odd)
{
    const int64_t n_future = odd.future, n_range = odd.range;
    if (odd.old > 0)
        note_old(w, d, r, odd.kept_ms, odd.old);
    if (n_future + n_range == 0 && (odd.old == 0 || !d->refuse_old))
        return;
    ps_str text = r->named < WP_REFUSALS_NAMED ? wp_series_text(w, d, s) : (ps_str){0};
    if (n_future > 0) {
        char ahead[32];
        ps_format_duration(ahead, sizeof(ahead), w->set->ingest_max_future_ms);
        wp_refuse(w, r, WP_REASON_FUTURE, counts_of(floats, n_future), text,
                  "%lld sample(s) out of bounds: more than %s ahead of the clock",
                  (long long)n_future, ahead);
    }
    if (n_range > 0)
        wp_refuse(w, r, WP_REASON_TIME, counts_of(floats, n_range), text,
                  "%lld sample(s) out of bounds: the time is outside what the database can hold",
                  (long long)n_range);
    if (odd.old > 0 && d->refuse_old)
        wp_refuse(w, r, WP_REASON_OLD, counts_of(floats, odd.old), text,
                  "%lld sample(s) out of bounds: older than the series is kept",
                  (long long)odd.old);
}

/* A sample that may be too old, depending on its series. */
static bool
is_old(write_path *w, wp_decoder *d, const wp_request *r, const wire_series *s, int64_t t,
       odd_times *odd)
{
    if (!odd->judged) {
        odd->judged = true;
        odd->kept_ms = wp_kept_ms(w, d, r, s);
        odd->oldest_ms = odd->kept_ms <= 0 || d->now_ms - MDL_TIME_MIN_MS <= odd->kept_ms
                             ? MDL_TIME_MIN_MS
                             : d->now_ms - odd->kept_ms;
    }
    return t < odd->oldest_ms;
}

/* Whether a sample of this time is to be stored; counts what is odd. */
static inline bool
time_fits(write_path *w, wp_decoder *d, const wp_request *r, const wire_series *s, int64_t t,
          odd_times *odd)
{
    if (PS_LIKELY(t >= d->old_ms && t <= d->hi_ms))
        return true;
    if (t < MDL_TIME_MIN_MS || t > MDL_TIME_MAX_MS) {
        odd->range++;
        return false;
    }
    if (t > d->hi_ms) {
        odd->future++;
        return false;
    }
    if (!is_old(w, d, r, s, t, odd))
        return true;
    odd->old++;
    return !d->refuse_old;
}

/* A start that is no time before its sample says nothing. */
static inline int64_t
start_of(int64_t start_ms, int64_t t_ms)
{
    return start_ms > 0 && start_ms <= t_ms ? start_ms : 0;
}

static ps_status
check_samples(write_path *w, const wp_request *r, size_t n, ps_err *err)
{
    if (PS_UNLIKELY((int64_t)(r->n_points + r->n_hists + n) > w->set->ingest_max_samples))
        return wp_over_limit(w, WP_LIMIT_SAMPLES, w->set->ingest_max_samples, "samples", err);
    return PS_OK;
}

/* Appends the samples that can be stored; the others are refused. */
static ps_status
take_samples(write_path *w, wp_decoder *d, wp_request *r, const wire_series *s,
             const wire_v2_series *v2, series_ref ref, ps_err *err)
{
    size_t n = s->n_samples;
    PS_TRY(check_samples(w, r, n, err));
    if (PS_UNLIKELY(
            !wp_grow((void **)&d->samples, &d->cap_samples, n, sizeof(*d->samples)) ||
            !wp_grow((void **)&r->points, &r->cap_points, r->n_points + n, sizeof(*r->points))))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    if (v2 != NULL)
        wire_v2_samples(v2, d->samples);
    else
        wire_series_samples(s, d->samples);
    blk_point *out = r->points + r->n_points;
    odd_times odd = {0};
    for (size_t i = 0; i < n; i++) {
        int64_t t = d->samples[i].t_ms;
        if (PS_UNLIKELY(!time_fits(w, d, r, s, t, &odd)))
            continue;
        *out++ = (blk_point){.series_id = ref.series_id,
                             .t_ms = t,
                             .value = d->samples[i].value,
                             .metric_id = ref.metric_id,
                             .start_ms = start_of(d->samples[i].start_ms, t)};
    }
    r->n_points = (size_t)(out - r->points);
    r->received.floats += (int64_t)n;
    if (PS_UNLIKELY(odd.future + odd.range + odd.old > 0))
        refuse_times(w, d, r, s, true, odd);
    return PS_OK;
}

/* ---- histograms ------------------------------------------------------------------------------ */

/* Histograms take up to eight times the bytes of their message; what they may take is what a message
 * may. */
static ps_status
read_histograms(write_path *w, wp_decoder *d, wp_request *r, const wire_series *s,
                const wire_v2_series *v2, ps_err *err)
{
    size_t n = s->n_histograms, max = (size_t)w->set->ingest_max_decompressed_bytes;
    size_t bytes = (v2 != NULL ? v2->bytes : s->bytes).len;
    PS_TRY(check_samples(w, r, n, err));
    if (r->arena.used_bytes > max || 8 * bytes + n * sizeof(hst_hist) > max - r->arena.used_bytes)
        return wp_over_limit(w, WP_LIMIT_DECOMPRESSED, (int64_t)max, "bytes of histograms", err);
    if (!wp_grow((void **)&d->histograms, &d->cap_histograms, n, sizeof(*d->histograms)) ||
        !wp_grow((void **)&r->hists, &r->cap_hists, r->n_hists + n, sizeof(*r->hists)))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    if (v2 != NULL)
        return wire_v2_histograms(v2, &r->arena, d->histograms, err);
    return wire_series_histograms(s, &r->arena, d->histograms, err);
}

static const char *
too_large(const write_path *w, const hst_hist *h)
{
    size_t n = (size_t)h->positive.n_counts + h->positive.n_spans + h->negative.n_counts +
               h->negative.n_spans + h->n_bounds;
    return n > (size_t)w->set->ingest_max_histogram_buckets
               ? "histogram has more buckets than the limit ingest.max-histogram-buckets"
               : NULL;
}

static ps_status
take_histograms(write_path *w, wp_decoder *d, wp_request *r, const wire_series *s,
                const wire_v2_series *v2, series_ref ref, ps_err *err)
{
    size_t n = s->n_histograms;
    odd_times odd = {0};
    int64_t n_bad = 0;
    const char *why = NULL;
    PS_TRY(read_histograms(w, d, r, s, v2, err));
    for (size_t i = 0; i < n; i++) {
        const wire_histogram *h = &d->histograms[i];
        const char *bad = h->histogram == NULL ? h->why : too_large(w, h->histogram);
        if (bad != NULL) {
            why = why == NULL ? bad : why;
            n_bad++;
            continue;
        }
        if (!time_fits(w, d, r, s, h->t_ms, &odd))
            continue;
        r->hists[r->n_hists++] = (blk_point){.series_id = ref.series_id,
                                             .t_ms = h->t_ms,
                                             .histogram = h->histogram,
                                             .metric_id = ref.metric_id,
                                             .start_ms = start_of(h->start_ms, h->t_ms)};
        r->hists_weight += hst_weight(h->histogram);
    }
    r->received.histograms += (int64_t)n;
    if (n_bad > 0)
        wp_refuse(w, r, WP_REASON_HISTOGRAM, counts_of(false, n_bad),
                  r->named < WP_REFUSALS_NAMED ? wp_series_text(w, d, s) : (ps_str){0}, "%s", why);
    if (odd.future + odd.range + odd.old > 0)
        refuse_times(w, d, r, s, false, odd);
    return PS_OK;
}

/* ---- a series -------------------------------------------------------------------------------- */

static ps_status
take_parts(write_path *w, wp_decoder *d, wp_request *r, const wire_series *s,
           const wire_v2_reader *reader, const wire_v2_series *v2, series_ref ref, ps_err *err)
{
    PS_TRY(take_samples(w, d, r, s, v2, ref, err));
    if (PS_UNLIKELY(s->n_histograms > 0))
        PS_TRY(take_histograms(w, d, r, s, v2, ref, err));
    if (PS_UNLIKELY(s->n_exemplars > 0))
        PS_TRY(v2 != NULL ? wp_take_exemplars_v2(w, d, r, s, reader, v2, ref, err)
                          : wp_take_exemplars(w, d, r, s, ref, err));
    return PS_OK;
}

ps_status
wp_take_series(write_path *w, wp_decoder *d, wp_request *r, series_cursor *cur,
               const wire_series *s, const wire_v2_reader *reader, const wire_v2_series *v2,
               bool *ret_refused, ps_err *err)
{
    wp_lookup found = {.fresh = SIZE_MAX};
    *ret_refused = false;
    if (PS_UNLIKELY(s->n_samples == 0 && s->n_exemplars == 0 && s->n_histograms == 0))
        return PS_OK; /* it carries nothing */
    if (PS_UNLIKELY(s->label_bytes.len == 0 ||
                    !series_cache_find(w->cache, cur, r->tenant_id, s->label_bytes, &found.ref))) {
        PS_TRY(wp_lookup_slow(w, d, r, cur, s, &found, err));
        if (found.refused) {
            r->received.floats += s->n_samples;
            r->received.histograms += s->n_histograms;
            *ret_refused = true;
            return PS_OK;
        }
    }
    size_t first_point = r->n_points, first_hist = r->n_hists, first_exemplar = r->n_exemplars;
    PS_TRY(take_parts(w, d, r, s, reader, v2, found.ref, err));
    if (found.fresh != SIZE_MAX) {
        wp_new_series *fresh = &r->fresh[found.fresh];
        fresh->first_point = (uint32_t)first_point;
        fresh->n_points = (uint32_t)(r->n_points - first_point);
        fresh->first_hist = (uint32_t)first_hist;
        fresh->n_hists = (uint32_t)(r->n_hists - first_hist);
        fresh->first_exemplar = (uint32_t)first_exemplar;
        fresh->n_exemplars = (uint32_t)(r->n_exemplars - first_exemplar);
        if (fresh->n_points == 0 && fresh->n_hists == 0 && fresh->n_exemplars == 0)
            r->n_fresh--; /* nothing of it is left: do not create it */
    }
    return PS_OK;
}
