/*
 * estimate.c - what reading would take, from the columns of block rows alone.
 *
 * The rows are those that fetch.c would ask for, in one statement, with the length of the data in its
 * place. A row says how many samples of how many series lie between which times and series; of those we
 * count the share of the series that are wanted, and the share of the time. What that cannot know: how
 * many of the wanted series between the row's bounds really are in it. Of all series between these bounds
 * the row has so many; the wanted ones are taken for as likely to be there as the others. All of them: of
 * the metric, or of the bucket's metrics that are no larger than those wanted, since larger ones have rows
 * of their own. Where it was asked who lived in that time (alive.c), the others are none of the metric's.
 *
 * Series that have samples: of each metric no more than its rows hold, of the metrics of a bucket no more
 * than their rows and those of the bucket do.
 *
 * Memory: the source's arena.
 */
#include <math.h>
#include <stdlib.h>

#include "connector/read/internal.h"

/* Of a head: fixed parts, and what it has for each series. */
enum { HEAD_BYTES = 128, HEAD_BYTES_OF_SERIES = 32 };

struct read_estimate {
    double samples, bytes;
    uint64_t blocks;
    double *in_metric; /* [n_metrics] series that rows of the metric hold, at most those wanted */
    double in_bucket[MDL_BUCKETS];
    size_t *of_metric; /* [n_metrics] its series in the index; NULL: not asked for yet */
    idx_keyed *metric_all, *bucket_all; /* all series, by metric and by bucket, ascending */
    size_t n_metric_all, n_bucket_all;
    bool has_bucket_all;
    size_t largest[MDL_BUCKETS]; /* wanted metric, in series */
    int64_t *bucket_ids; /* wanted series by bucket, ascending; made for the first such row */
    size_t bucket_from[MDL_BUCKETS + 1];
};

ps_status
read_estimate_begin(read_source *src, read_list *list, ps_err *err)
{
    read_estimate *e = ps_arena_array(&src->arena, 1, sizeof(*e));
    if (e == NULL)
        return read_no_memory(src, err);
    e->in_metric = ps_arena_array(&src->arena, list->n_metrics + 1, sizeof(*e->in_metric));
    list->estimate = e;
    return e->in_metric == NULL ? read_no_memory(src, err) : PS_OK;
}

/* ---- wanted series between the bounds of a row ---------------------------------------------------- */

static int
by_id(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static ps_status
sort_buckets(read_source *src, const read_list *list, read_estimate *e, ps_err *err)
{
    size_t n = list->found.n, at[MDL_BUCKETS];
    e->bucket_ids = ps_arena_new(&src->arena, (n + 1) * sizeof(*e->bucket_ids));
    if (e->bucket_ids == NULL)
        return read_no_memory(src, err);
    for (size_t i = 0; i < n; i++)
        e->bucket_from[-mdl_bucket(list->wanted[i].metric_id)]++;
    for (size_t b = 0; b < MDL_BUCKETS; b++) {
        e->bucket_from[b + 1] += e->bucket_from[b];
        at[b] = e->bucket_from[b];
    }
    for (size_t i = 0; i < n; i++)
        e->bucket_ids[at[-mdl_bucket(list->wanted[i].metric_id) - 1]++] = list->wanted[i].series_id;
    for (size_t b = 0; b < MDL_BUCKETS; b++)
        qsort(e->bucket_ids + e->bucket_from[b], e->bucket_from[b + 1] - e->bucket_from[b],
              sizeof(*e->bucket_ids), by_id);
    return PS_OK;
}

/* How many of n ascending numbers are below `id`. */
static size_t
ids_below(const int64_t *ids, size_t n, int64_t id)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (ids[mid] < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The first wanted series that is not before (metric, id). */
static size_t
wanted_from(const read_list *list, int32_t metric_id, int64_t id)
{
    size_t lo = 0, hi = list->found.n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const read_wanted *w = &list->wanted[mid];
        if (w->metric_id < metric_id || (w->metric_id == metric_id && w->series_id < id))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static size_t
metric_at(const read_list *list, int32_t metric_id)
{
    size_t lo = 0, hi = list->n_metrics;
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (list->metrics[mid] <= metric_id)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* ---- all series between the bounds of a row --------------------------------------------------------- */

typedef struct looking {
    const read_list *list;
    read_estimate *e;
} looking;

/* Only looks. */
static int32_t
note_size(void *self, int32_t metric_id, size_t n_series)
{
    const looking *l = self;
    size_t at = metric_at(l->list, metric_id), b = (size_t)(-mdl_bucket(metric_id) - 1);
    if (l->list->metrics[at] != metric_id)
        return 0;
    l->e->of_metric[at] = n_series;
    if (n_series > l->e->largest[b])
        l->e->largest[b] = n_series;
    return 0;
}

/* Metrics of which not all is wanted. */
static int32_t
metric_in_part(void *self, int32_t metric_id, size_t n_series)
{
    const looking *l = self;
    size_t at = metric_at(l->list, metric_id);
    if (l->list->metrics[at] != metric_id)
        return 0;
    size_t wanted = wanted_from(l->list, metric_id, INT64_MAX) - wanted_from(l->list, metric_id, 0);
    return wanted < n_series ? metric_id : 0;
}

static int32_t
small_of_bucket(void *self, int32_t metric_id, size_t n_series)
{
    const looking *l = self;
    int32_t bucket = mdl_bucket(metric_id);
    return n_series <= l->e->largest[-bucket - 1] ? bucket : 0;
}

static int
by_key_and_id(const void *a, const void *b)
{
    const idx_keyed *x = a, *y = b;
    if (x->key != y->key)
        return (x->key > y->key) - (x->key < y->key);
    return (x->series_id > y->series_id) - (x->series_id < y->series_id);
}

static ps_status
find_all(read_source *src, read_list *list, idx_key_fn key_of, idx_keyed **ret, size_t *ret_n,
         ps_err *err)
{
    looking l = {list, list->estimate};
    ps_status status =
        label_view_series(src->view, list->tenant_id, key_of, &l, &src->arena, ret, ret_n, err);
    if (status == PS_OK && *ret_n > 1)
        qsort(*ret, *ret_n, sizeof(**ret), by_key_and_id);
    return status == PS_ENOMEM ? read_no_memory(src, err) : status;
}

static void
keep_living(const read_list *list, idx_keyed *items, size_t *n)
{
    size_t kept = 0;
    for (size_t i = 0; i < *n && list->alive.ready; i++) {
        if (mdl_ids_has(&list->alive.ids, items[i].series_id))
            items[kept++] = items[i];
    }
    *n = list->alive.ready ? kept : *n;
}

/* For the first row of a metric, and the first of a bucket. */
static ps_status
look_up(read_source *src, read_list *list, bool bucket, ps_err *err)
{
    read_estimate *e = list->estimate;
    if (e->of_metric == NULL) {
        idx_keyed *none;
        size_t n;
        e->of_metric = ps_arena_array(&src->arena, list->n_metrics + 1, sizeof(*e->of_metric));
        if (e->of_metric == NULL)
            return read_no_memory(src, err);
        PS_TRY(find_all(src, list, note_size, &none, &n, err));
        PS_TRY(find_all(src, list, metric_in_part, &e->metric_all, &e->n_metric_all, err));
        keep_living(list, e->metric_all, &e->n_metric_all);
    }
    if (!bucket || e->has_bucket_all)
        return PS_OK;
    e->has_bucket_all = true;
    return find_all(src, list, small_of_bucket, &e->bucket_all, &e->n_bucket_all, err);
}

static size_t
keyed_below(const idx_keyed *items, size_t n, int32_t key, int64_t id)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (items[mid].key < key || (items[mid].key == key && items[mid].series_id < id))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Those that the row may hold; 0: all of them are wanted. */
static size_t
all_of_row(const read_estimate *e, const blk_meta *m)
{
    int64_t hi = m->series_hi < INT64_MAX ? m->series_hi + 1 : INT64_MAX;
    const idx_keyed *items = m->metric_id < 0 ? e->bucket_all : e->metric_all;
    size_t n = m->metric_id < 0 ? e->n_bucket_all : e->n_metric_all;
    size_t from = keyed_below(items, n, m->metric_id, m->series_lo);
    size_t to = keyed_below(items, n, m->metric_id, hi);
    return to > from ? to - from : 0;
}

/* Wanted series of the row's metric or bucket between its bounds. */
static size_t
wanted_of_row(const read_list *list, const read_estimate *e, const blk_meta *m)
{
    int64_t lo = m->series_lo, hi = m->series_hi < INT64_MAX ? m->series_hi + 1 : INT64_MAX;
    if (hi <= lo)
        return 0;
    if (m->metric_id > 0)
        return wanted_from(list, m->metric_id, hi) - wanted_from(list, m->metric_id, lo);
    size_t b = (size_t)(-m->metric_id - 1), n = e->bucket_from[b + 1] - e->bucket_from[b];
    const int64_t *ids = e->bucket_ids + e->bucket_from[b];
    return ids_below(ids, n, hi) - ids_below(ids, n, lo);
}

/* ---- a row ------------------------------------------------------------------------------------------- */

ps_status
read_estimate_row(read_source *src, read_list *list, const blk_meta *m, int64_t data_bytes,
                  ps_err *err)
{
    const ev_selection *sel = &list->selection;
    read_estimate *e = list->estimate;
    bool bucket = m->metric_id < 0, head = sel->newest_only && m->t_max_ms <= sel->to_ms;
    if (m->n_series <= 0 || m->n_samples <= 0 || m->metric_id < -MDL_BUCKETS || m->metric_id == 0)
        return ps_fail(err, PS_ECORRUPT, "the database answered no block");
    if (bucket && e->bucket_ids == NULL)
        PS_TRY(sort_buckets(src, list, e, err));
    PS_TRY(look_up(src, list, bucket, err));
    double wanted = (double)wanted_of_row(list, e, m), all = (double)all_of_row(e, m);
    double series = fmin(wanted, (double)m->n_series);
    if (all > wanted)
        series = fmin(series, wanted * (double)m->n_series / all);
    double samples = ev_expected_samples(sel->from_ms, sel->to_ms, m->t_min_ms, m->t_max_ms,
                                         m->n_series, m->n_samples);
    e->samples += series * samples;
    if (bucket)
        e->in_bucket[-m->metric_id - 1] += series * fmin(1, samples);
    else
        e->in_metric[metric_at(list, m->metric_id)] += series * fmin(1, samples);
    e->blocks++;
    e->bytes +=
        head ? fmin((double)data_bytes, HEAD_BYTES + (double)HEAD_BYTES_OF_SERIES * m->n_series)
             : (double)data_bytes;
    return PS_OK;
}

/* ---- all of them --------------------------------------------------------------------------------------- */

static double
series_with_samples(const read_list *list, const read_estimate *e)
{
    double series = 0, rest[MDL_BUCKETS] = {0};
    for (size_t i = 0, from = 0; i < list->n_metrics; i++) {
        int32_t metric_id = list->metrics[i];
        size_t to = wanted_from(list, metric_id, INT64_MAX);
        double wanted = (double)(to - from), own = fmin(wanted, e->in_metric[i]);
        series += own;
        rest[-mdl_bucket(metric_id) - 1] += wanted - own;
        from = to;
    }
    for (size_t b = 0; b < MDL_BUCKETS; b++)
        series += fmin(rest[b], e->in_bucket[b]);
    return series;
}

ev_reading
read_estimate_end(const read_list *list)
{
    const read_estimate *e = list->estimate;
    if (e == NULL)
        return (ev_reading){0};
    double series = ceil(series_with_samples(list, e)), samples = ceil(e->samples);
    if (list->selection.newest_only)
        samples = fmin(samples, series);
    return (ev_reading){.series = (uint64_t)series,
                        .blocks = e->blocks,
                        .samples = (uint64_t)samples,
                        .bytes = (uint64_t)e->bytes};
}
