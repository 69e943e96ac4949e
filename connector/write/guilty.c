/*
 * guilty.c - a request that the database does not take: what of it can be stored all the same?
 *
 * First without its exemplars. Then its points, halved at borders between series until the guilty
 * series stands alone; that one is refused by name. Its body is read once more for the name, so the
 * request is pinned meanwhile.
 */
#include "connector/write/flusher.h"

/* False if it was answered meanwhile: then nothing needs to be found out. */
static bool
pin(write_path *w, wp_request *r)
{
    pthread_mutex_lock(&w->mu);
    r->pinned = !r->answered;
    bool ok = r->pinned;
    pthread_mutex_unlock(&w->mu);
    return ok;
}

static void
unpin(write_path *w, wp_request *r)
{
    pthread_mutex_lock(&w->mu);
    r->pinned = false;
    if (w->timer_idle)
        pthread_cond_signal(&w->timer_cv);
    pthread_mutex_unlock(&w->mu);
}

/* Start of the series that holds the middle of [lo, hi), or of the one after it; hi if it is one
 * series. */
static size_t
series_border(const blk_point *points, size_t lo, size_t hi)
{
    size_t mid = lo + (hi - lo) / 2;
    while (mid > lo && points[mid].series_id == points[mid - 1].series_id)
        mid--;
    if (mid > lo)
        return mid;
    while (mid < hi && points[mid].series_id == points[lo].series_id)
        mid++;
    return mid;
}

typedef struct suspects { /* the points of one kind of a request */
    int kind;
    blk_point *points;
    size_t *n;
} suspects;

static void
refuse_points(flusher *f, wp_request *r, const suspects *s, size_t lo, size_t hi, const char *why)
{
    ps_buf name;
    ps_buf_init(&name, &ps_malloc);
    if (r->named >= WP_REFUSALS_NAMED ||
        !wp_name_series(f->w, &f->decoder, r, s->points[lo].series_id, &name))
        ps_buf_addf(&name, "with id %lld", (long long)s->points[lo].series_id);
    int64_t n = (int64_t)(hi - lo);
    wp_refuse(f->w, r, WP_REASON_DATABASE,
              s->kind == BLK_KIND_FLOAT ? wp_floats(n) : (wp_counts){.histograms = n},
              ps_buf_str(&name), "refused by the database: %s", why);
    ps_buf_done(&name);
}

/* Stores points [lo, hi) but for those of guilty series. What is decided gets metric_id 0. */
static ps_status
store_range(flusher *f, wp_request *r, const suspects *s, size_t lo, size_t hi, ps_err *err)
{
    ps_status status =
        wp_batch_points(&f->batch, r->tenant_id, s->kind, s->points + lo, hi - lo, err);
    if (status == PS_OK)
        status = wp_send(f->w, &f->conn, &f->batch, r->generation, NULL, 0, err);
    if (status != PS_OK)
        status = flusher_failed(f, status);
    if (status == PS_EINTERNAL || (status == PS_EINVAL && f->calls++ >= WP_SPLIT_CALLS)) {
        wp_fatal(r, PS_EUNAVAILABLE, "the database fails: %s", err->text);
        return PS_OK;
    }
    if (status != PS_OK && status != PS_EINVAL)
        return status;
    if (status == PS_EINVAL) {
        size_t border = series_border(s->points, lo, hi);
        if (border < hi) {
            PS_TRY(store_range(f, r, s, lo, border, err));
            return r->fatal == PS_OK ? store_range(f, r, s, border, hi, err) : PS_OK;
        }
        refuse_points(f, r, s, lo, hi, err->text);
    }
    for (size_t i = lo; i < hi; i++)
        s->points[i].metric_id = 0;
    return PS_OK;
}

static void
keep_undecided(const suspects *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < *s->n; i++) {
        if (s->points[i].metric_id != 0)
            s->points[kept++] = s->points[i];
    }
    *s->n = kept;
}

/* Stores what can be stored of one kind. */
static ps_status
store_kind(flusher *f, wp_request *r, const suspects *s, ps_err *err)
{
    blk_dup_stats dups = {0};
    if (*s->n == 0 || r->fatal != PS_OK)
        return PS_OK;
    wp_batch *b = &f->batch;
    if (!wp_grow((void **)&b->scratch, &b->cap_scratch, *s->n, sizeof(*b->scratch)))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    *s->n = (s->kind == BLK_KIND_FLOAT
                 ? blk_points_sort_unique
                 : blk_histograms_sort_unique)(s->points, b->scratch, *s->n, &dups);
    ps_status status = store_range(f, r, s, 0, *s->n, err);
    keep_undecided(s); /* the next try must not send or refuse the same again */
    return status;
}

ps_status
flusher_alone(flusher *f, wp_request *r, ps_status why, ps_err *err)
{
    write_path *w = f->w;
    if (why == PS_EINTERNAL) {
        metric_add(w->stats.rejected[WP_REJECT_FAULT], 1);
        wp_fatal(r, PS_EUNAVAILABLE, "the database fails: %s", err->text);
        return PS_OK;
    }
    if (r->n_exemplars > 0) {
        /* Which of the two is guilty is not known yet; exemplars are worth less. */
        ps_status status = flusher_attempt(f, &r, 1, false, err);
        if (status != PS_EINVAL && status != PS_OK)
            return status;
        metric_add(w->stats.refused[WP_REASON_EXEMPLAR], (double)r->n_exemplars);
        r->n_exemplars = 0;
        if (status == PS_OK)
            return PS_OK;
    }
    if (!pin(w, r))
        return PS_OK;
    ps_status status = store_kind(f, r, &(suspects){BLK_KIND_FLOAT, r->points, &r->n_points}, err);
    if (status == PS_OK)
        status = store_kind(f, r, &(suspects){BLK_KIND_HISTOGRAM, r->hists, &r->n_hists}, err);
    unpin(w, r);
    return status;
}
