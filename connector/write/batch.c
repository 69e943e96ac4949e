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

ps_status
wp_batch_requests(wp_batch *b, wp_request **requests, size_t n, ps_err *err)
{
    shrink(b);
    b->dups = (blk_dup_stats){0};
    wp_rows_begin(b);
    qsort(requests, n, sizeof(*requests), by_tenant_and_age);
    for (size_t at = 0; at < n;) {
        int32_t tenant_id = requests[at]->tenant_id;
        size_t end = at, n_points = 0;
        for (; end < n && requests[end]->tenant_id == tenant_id; end++)
            n_points += requests[end]->n_points;
        if (!reserve(b, n_points))
            return ps_fail(err, PS_ENOMEM, "out of memory");
        size_t filled = 0;
        for (; at < end; at++) {
            if (requests[at]->n_points > 0)
                memcpy(b->points + filled, requests[at]->points,
                       requests[at]->n_points * sizeof(*b->points));
            filled += requests[at]->n_points;
        }
        if (filled == 0)
            continue;
        size_t kept = blk_points_sort_unique(b->points, b->scratch, filled, &b->dups);
        PS_TRY(wp_rows_add(b, tenant_id, b->points, kept, b->scratch, err));
    }
    return wp_rows_end(b, err);
}

ps_status
wp_batch_points(wp_batch *b, int32_t tenant_id, const blk_point *points, size_t n, ps_err *err)
{
    b->dups = (blk_dup_stats){0};
    if (!reserve(b, n))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    wp_rows_begin(b);
    PS_TRY(wp_rows_add(b, tenant_id, points, n, b->scratch, err));
    return wp_rows_end(b, err);
}
