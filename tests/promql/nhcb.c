/*
 * nhcb.c - classic histograms of a load block as native ones with custom buckets.
 *
 * The series name_bucket{le=...}, name_count and name_sum of one label set become one group; what they say
 * at the same position of the block becomes one histogram of the series `name`. Populations of classic
 * buckets are cumulative, those of native ones are not.
 */
#include <math.h>

#include "tests/promql/load.h"

typedef struct nhcb_bucket {
    double le, count; /* cumulative */
} nhcb_bucket;

typedef struct nhcb_point {
    bool present, has_count;
    double count, sum;
    nhcb_bucket *buckets; /* ascending by le */
    size_t n;
} nhcb_point;

typedef struct nhcb_group {
    mdl_labels labels;
    nhcb_point *points; /* by position in the block */
    size_t n_points;
    size_t max_buckets;
} nhcb_group;

typedef enum nhcb_part { PART_NONE, PART_BUCKET, PART_COUNT, PART_SUM } nhcb_part;

static nhcb_part
part_of(ps_str name, ps_str *base)
{
    static const struct {
        const char *suffix;
        nhcb_part part;
    } parts[] = {{"_bucket", PART_BUCKET}, {"_count", PART_COUNT}, {"_sum", PART_SUM}};
    for (size_t i = 0; i < PS_ARRAY_LEN(parts); i++) {
        size_t n = strlen(parts[i].suffix);
        if (name.len >= n && memcmp(name.ptr + name.len - n, parts[i].suffix, n) == 0) {
            *base = (ps_str){name.ptr, name.len - n};
            return parts[i].part;
        }
    }
    return PART_NONE;
}

static ps_status
base_labels(ps_arena *arena, mdl_labels labels, ps_str base, mdl_labels *ret)
{
    mdl_label *items = ps_arena_array(arena, labels.n + 1, sizeof *items);
    if (items == NULL)
        return PS_ENOMEM;
    size_t n = 0;
    for (size_t i = 0; i < labels.n; i++) {
        if (ps_str_eq_c(labels.items[i].name, "le"))
            continue;
        items[n] = labels.items[i];
        if (ps_str_eq_c(items[n].name, MDL_METRIC_NAME))
            items[n].value = base;
        n++;
    }
    *ret = (mdl_labels){items, n};
    return PS_OK;
}

static ps_status
set_bucket(nhcb_point *p, double le, double count, ps_err *err)
{
    size_t at = 0;
    while (at < p->n && p->buckets[at].le < le)
        at++;
    if (at < p->n && p->buckets[at].le == le)
        return PS_OK;
    if (count < 0 || (at > 0 && count < p->buckets[at - 1].count) ||
        (at < p->n && count > p->buckets[at].count))
        return ps_fail(err, PS_EINVAL, "buckets of a histogram are not cumulative");
    memmove(p->buckets + at + 1, p->buckets + at, (p->n - at) * sizeof *p->buckets);
    p->buckets[at] = (nhcb_bucket){le, count};
    p->n++;
    return PS_OK;
}

static ps_status
collect(ps_arena *arena, nhcb_group *g, const script_load_item *item, nhcb_part part, double le,
        ps_err *err)
{
    for (size_t i = 0; i < item->series.values.n; i++) {
        const script_value *value = &item->series.values.items[i];
        nhcb_point *p = &g->points[i];
        if (value->omitted || value->h != NULL)
            continue;
        p->present = true;
        if (part == PART_SUM) {
            p->sum = value->v;
        } else if (part == PART_COUNT) {
            if (value->v < 0)
                return ps_fail(err, PS_EINVAL, "the count of a histogram is negative");
            p->count = value->v;
            p->has_count = true;
        } else {
            if (p->buckets == NULL)
                p->buckets = ps_arena_array(arena, g->max_buckets + 1, sizeof *p->buckets);
            if (p->buckets == NULL)
                return ps_fail(err, PS_ENOMEM, "out of memory");
            PS_TRY(set_bucket(p, le, value->v, err));
        }
    }
    return PS_OK;
}

static ps_status
convert(ps_arena *arena, nhcb_point *p, const hst_hist **ret, ps_err *err)
{
    if (p->buckets == NULL)
        p->buckets = ps_arena_array(arena, 1, sizeof *p->buckets);
    if (!p->has_count && p->n > 0)
        p->count = p->buckets[p->n - 1].count;
    if (p->buckets != NULL && (p->n == 0 || !isinf(p->buckets[p->n - 1].le)))
        p->buckets[p->n++] = (nhcb_bucket){INFINITY, p->count};
    hst_hist *h = ps_arena_array(arena, 1, sizeof *h);
    hst_span *span = ps_arena_array(arena, 1, sizeof *span);
    double *counts = ps_arena_array(arena, p->n, sizeof *counts);
    double *bounds = ps_arena_array(arena, p->n, sizeof *bounds);
    if (p->buckets == NULL || h == NULL || span == NULL || counts == NULL || bounds == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    double before = 0;
    for (size_t i = 0; i < p->n; i++) {
        counts[i] = p->buckets[i].count - before;
        before = p->buckets[i].count;
        bounds[i] = p->buckets[i].le;
    }
    if (p->count != before)
        return ps_fail(err, PS_EINVAL, "count and +Inf bucket of a histogram differ");
    span->length = (uint32_t)p->n;
    h->schema = HST_CUSTOM;
    h->count = p->count;
    h->sum = p->sum;
    h->positive = (hst_side){span, 1, (uint32_t)p->n, counts};
    h->bounds = bounds;
    h->n_bounds = (uint32_t)p->n - 1;
    PS_TRY(hst_check(h, err));
    if (hst_compact(arena, h, ret) != PS_OK)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    return PS_OK;
}

/* The group of these labels; groups has room for one more. */
static nhcb_group *
find_group(nhcb_group *groups, size_t *n, mdl_labels labels)
{
    for (size_t i = 0; i < *n; i++) {
        if (mdl_labels_eq(groups[i].labels, labels))
            return &groups[i];
    }
    groups[*n].labels = labels;
    return &groups[(*n)++];
}

static ps_status
collect_all(ps_arena *arena, const script_load *load, nhcb_group *groups, size_t *n, ps_err *err)
{
    for (size_t i = 0; i < load->n; i++) {
        const script_load_item *item = &load->items[i];
        ps_str base;
        double le = 0;
        nhcb_part part =
            part_of(mdl_labels_get(item->series.labels, PS_STR(MDL_METRIC_NAME)), &base);
        if (part == PART_BUCKET) {
            ps_str text = mdl_labels_get(item->series.labels, PS_STR("le"));
            if (ps_parse_double(text, &le) != PS_OK || isnan(le))
                continue;
        }
        mdl_labels labels;
        if (part == PART_NONE)
            continue;
        if (base_labels(arena, item->series.labels, base, &labels) != PS_OK)
            return ps_fail(err, PS_ENOMEM, "out of memory");
        nhcb_group *g = find_group(groups, n, labels);
        if (g->n_points < item->series.values.n) {
            nhcb_point *grown = ps_arena_array(arena, item->series.values.n, sizeof *grown);
            if (grown == NULL)
                return ps_fail(err, PS_ENOMEM, "out of memory");
            if (g->n_points > 0)
                memcpy(grown, g->points, g->n_points * sizeof *grown);
            g->points = grown;
            g->n_points = item->series.values.n;
        }
        g->max_buckets = load->n;
        PS_TRY(collect(arena, g, item, part, le, err));
    }
    return PS_OK;
}

ps_status
load_nhcb(ps_arena *arena, const script_load *load, memory_store *into, ps_err *err)
{
    nhcb_group *groups = ps_arena_array(arena, load->n + 1, sizeof *groups);
    size_t n = 0;
    if (groups == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    PS_TRY(collect_all(arena, load, groups, &n, err));
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < groups[i].n_points; k++) {
            if (!groups[i].points[k].present)
                continue;
            memory_sample sample = {.t_ms = (int64_t)k * load->step_ms};
            PS_TRY(convert(arena, &groups[i].points[k], &sample.h, err));
            PS_TRY(memory_append(into, groups[i].labels, &sample, err));
        }
    }
    return PS_OK;
}
