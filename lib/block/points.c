/*
 * points.c - sorts the points of a flush by (metric, series, time) and drops repeats.
 *
 * Stable, so that among equals the one that arrived first stays. Few points: merge sort. Many:
 * least significant digit radix sort over only those bytes of the three keys in which the points
 * differ at all (a flush spans seconds and thousands of series: about five bytes of twenty).
 */
#include "lib/block/histograms.h"

enum { RADIX_FROM = 256, KEY_BYTES = 20 };

static inline bool
point_after(const blk_point *a, const blk_point *b)
{
    if (a->metric_id != b->metric_id)
        return a->metric_id > b->metric_id;
    if (a->series_id != b->series_id)
        return a->series_id > b->series_id;
    return a->t_ms > b->t_ms;
}

/* Sorted runs of growing width are merged from one array into the other; returns where the
 * result is. */
static blk_point *
merge_sort(blk_point *from, blk_point *to, size_t n)
{
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t lo = 0; lo < n; lo += width * 2) {
            size_t mid = lo + width < n ? lo + width : n,
                   hi = lo + width * 2 < n ? lo + width * 2 : n;
            size_t a = lo, b = mid;
            for (size_t k = lo; k < hi; k++) {
                if (b == hi || (a < mid && !point_after(&from[a], &from[b])))
                    to[k] = from[a++];
                else
                    to[k] = from[b++];
            }
        }
        blk_point *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

/* Byte k of the sort key, least significant first; signed keys have their sign bit flipped. */
static inline unsigned
key_byte(const blk_point *p, unsigned k)
{
    if (k < 8)
        return (unsigned)(((uint64_t)p->t_ms ^ UINT64_C(1) << 63) >> (k * 8)) & 255;
    if (k < 16)
        return (unsigned)(((uint64_t)p->series_id ^ UINT64_C(1) << 63) >> ((k - 8) * 8)) & 255;
    return (((uint32_t)p->metric_id ^ UINT32_C(1) << 31) >> ((k - 16) * 8)) & 255;
}

static blk_point *
radix_sort(blk_point *from, blk_point *to, size_t n)
{
    blk_point first = from[0];
    uint64_t diff_time = 0, diff_series = 0;
    uint32_t diff_metric = 0;

    for (size_t i = 1; i < n; i++) {
        diff_time |= (uint64_t)from[i].t_ms ^ (uint64_t)first.t_ms;
        diff_series |= (uint64_t)from[i].series_id ^ (uint64_t)first.series_id;
        diff_metric |= (uint32_t)from[i].metric_id ^ (uint32_t)first.metric_id;
    }
    for (unsigned k = 0; k < KEY_BYTES; k++) {
        uint64_t diff = k < 8    ? diff_time >> (k * 8)
                        : k < 16 ? diff_series >> ((k - 8) * 8)
                                 : (uint64_t)diff_metric >> ((k - 16) * 8);
        if ((diff & 255) == 0)
            continue;
        uint32_t at[256] = {0};
        for (size_t i = 0; i < n; i++)
            at[key_byte(&from[i], k)]++;
        uint32_t sum = 0;
        for (unsigned b = 0; b < 256; b++) {
            uint32_t count = at[b];
            at[b] = sum;
            sum += count;
        }
        for (size_t i = 0; i < n; i++)
            to[at[key_byte(&from[i], k)]++] = from[i];
        blk_point *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

static size_t
unique(const blk_point *from, blk_point *to, size_t n, bool histograms, blk_dup_stats *stats)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) {
        const blk_point *p = &from[i];
        if (kept > 0) {
            const blk_point *q = &to[kept - 1];
            if (q->t_ms == p->t_ms && q->series_id == p->series_id &&
                q->metric_id == p->metric_id) {
                if (histograms ? blk_same_histogram(q->histogram, p->histogram)
                               : ps_bits_of(q->value) == ps_bits_of(p->value))
                    stats->duplicates++;
                else
                    stats->conflicts++;
                continue;
            }
        }
        if (&to[kept] != p)
            to[kept] = *p;
        kept++;
    }
    return kept;
}

static size_t
sort_unique(blk_point *points, blk_point *scratch, size_t n, bool histograms, blk_dup_stats *stats)
{
    blk_point *sorted = points;
    size_t i = 1;

    while (i < n && !point_after(&points[i - 1], &points[i]))
        i++;
    if (i < n)
        sorted = n < RADIX_FROM || n > UINT32_MAX ? merge_sort(points, scratch, n)
                                                  : radix_sort(points, scratch, n);
    return unique(sorted, points, n, histograms, stats);
}

size_t
blk_points_sort_unique(blk_point *points, blk_point *scratch, size_t n, blk_dup_stats *stats)
{
    return sort_unique(points, scratch, n, false, stats);
}

size_t
blk_histograms_sort_unique(blk_point *points, blk_point *scratch, size_t n, blk_dup_stats *stats)
{
    return sort_unique(points, scratch, n, true, stats);
}
