/*
 * batch.c - the points of many requests as one sorted sequence per tenant, then rows.
 *
 * Arrival order decides which of two samples of the same series and time stays: requests are put in
 * order of arrival and the sort is stable.
 */
#include "connector/write/internal.h"

#include <stdlib.h>

enum { KEEP_POINTS = 1 << 17, KEEP_BYTES = 4 << 20 };

void
wp_batch_init(wp_batch *b)
{
    *b = (wp_batch){0};
    ps_buf_init(&b->copy, &ps_malloc);
    ps_buf_init(&b->sql, &ps_malloc);
}

void
wp_batch_done(wp_batch *b)
{
    free(b->points);
    free(b->scratch);
    ps_buf_done(&b->copy);
    ps_buf_done(&b->sql);
}

/* A flush of unusual size must not keep its memory. */
static void
shrink(wp_batch *b)
{
    if (b->cap_points > KEEP_POINTS) {
        free(b->points);
        b->points = NULL;
        b->cap_points = 0;
    }
    if (b->cap_scratch > KEEP_POINTS) {
        free(b->scratch);
        b->scratch = NULL;
        b->cap_scratch = 0;
    }
    if (b->copy.cap > KEEP_BYTES) {
        ps_buf_done(&b->copy);
        ps_buf_init(&b->copy, &ps_malloc);
    }
}

static bool
reserve(wp_batch *b, size_t n)
{
    return wp_grow((void **)&b->points, &b->cap_points, n, sizeof(*b->points)) &&
           wp_grow((void **)&b->scratch, &b->cap_scratch, n, sizeof(*b->scratch));
}

static int
by_tenant_and_age(const void *a, const void *b)
{
    const wp_request *x = *(wp_request *const *)a, *y = *(wp_request *const *)b;
    if (x->tenant_id != y->tenant_id)
        return x->tenant_id < y->tenant_id ? -1 : 1;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

/* All points of one kind of one tenant's requests: gathered, sorted, made rows. */
static ps_status
add_kind(wp_batch *b, wp_request *const *requests, size_t n, int kind, ps_err *err)
{
    bool hists = kind == BLK_KIND_HISTOGRAM;
    size_t total = 0, filled = 0;
    for (size_t i = 0; i < n; i++)
        total += hists ? requests[i]->n_hists : requests[i]->n_points;
    if (total == 0)
        return PS_OK;
    if (!reserve(b, total))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        const blk_point *points = hists ? requests[i]->hists : requests[i]->points;
        size_t k = hists ? requests[i]->n_hists : requests[i]->n_points;
        if (k > 0)
            memcpy(b->points + filled, points, k * sizeof(*points));
        filled += k;
    }
    size_t kept = (hists ? blk_histograms_sort_unique
                         : blk_points_sort_unique)(b->points, b->scratch, filled, &b->dups);
    return wp_rows_add(b, requests[0]->tenant_id, kind, b->points, kept, b->scratch, err);
}

ps_status
wp_batch_requests(wp_batch *b, wp_request **requests, size_t n, ps_err *err)
{
    shrink(b);
    b->dups = (blk_dup_stats){0};
    wp_rows_begin(b);
    qsort(requests, n, sizeof(*requests), by_tenant_and_age);
    for (size_t at = 0, end; at < n; at = end) {
        for (end = at; end < n && requests[end]->tenant_id == requests[at]->tenant_id;)
            end++;
        PS_TRY(add_kind(b, requests + at, end - at, BLK_KIND_FLOAT, err));
        PS_TRY(add_kind(b, requests + at, end - at, BLK_KIND_HISTOGRAM, err));
    }
    return wp_rows_end(b, err);
}

ps_status
wp_batch_points(wp_batch *b, int32_t tenant_id, int kind, const blk_point *points, size_t n,
                ps_err *err)
{
    b->dups = (blk_dup_stats){0};
    if (!reserve(b, n))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    wp_rows_begin(b);
    PS_TRY(wp_rows_add(b, tenant_id, kind, points, n, b->scratch, err));
    return wp_rows_end(b, err);
}
