/*
 * resolve.c - ids for new series of many requests, in as few calls as possible.
 *
 * Distinct series are gathered first (thousands of requests may bring the same ones when a
 * connector starts), then asked for in calls of bounded size, a tenant at a time. What comes back
 * fills the cache and the points that wait for it. A call that fails because of its data is halved
 * until the guilty series stands alone; only that one is refused.
 */
#include "connector/write/internal.h"

#include <stdlib.h>

void
wp_resolve_done(wp_resolve *x)
{
    free(x->series);
    free(x->slots);
    free(x->labels);
    free(x->sets);
    free(x->refs);
    free(x->items);
    *x = (wp_resolve){0};
}

static void
forget(wp_resolve *x)
{
    for (size_t i = 0; i < x->n_series; i++)
        free(x->series[i].why);
    x->n_series = 0;
    x->calls = 0;
    if (x->cap_series > 100000) /* the memory of an unusual batch is given back */
        wp_resolve_done(x);
}

/* ---- gathering ------------------------------------------------------------------------------ */

static ps_status
add_series(const write_path *w, wp_resolve *x, int32_t tenant_id, wp_new_series *fresh, ps_err *err)
{
    size_t mask = x->cap_slots - 1;
    size_t at = ps_hash64(fresh->key, w->seed ^ (uint32_t)tenant_id) & mask;
    for (; x->slots[at] != 0; at = (at + 1) & mask) {
        const wp_distinct *other = &x->series[x->slots[at] - 1];
        if (other->tenant_id == tenant_id && ps_str_eq(other->key, fresh->key)) {
            fresh->at = x->slots[at] - 1;
            return PS_OK;
        }
    }
    if (!wp_grow((void **)&x->series, &x->cap_series, x->n_series + 1, sizeof(*x->series)))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    x->series[x->n_series] = (wp_distinct){.key = fresh->key,
                                           .alias = fresh->alias,
                                           .tenant_id = tenant_id,
                                           .n_labels = fresh->n_labels};
    fresh->at = (uint32_t)x->n_series++;
    x->slots[at] = fresh->at + 1;
    return PS_OK;
}

/* All new series, each once; of one tenant after the other, as the requests are. */
static ps_status
gather(const write_path *w, wp_resolve *x, wp_request *const *requests, size_t n, ps_err *err)
{
    size_t total = 0, slots = 64;
    for (size_t i = 0; i < n; i++)
        total += requests[i]->n_fresh;
    while (slots < total * 2)
        slots *= 2;
    if (x->cap_slots != slots) {
        free(x->slots);
        x->slots = calloc(slots, sizeof(*x->slots));
        x->cap_slots = x->slots != NULL ? slots : 0;
    } else {
        memset(x->slots, 0, slots * sizeof(*x->slots));
    }
    if (x->slots == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < requests[i]->n_fresh; k++)
            PS_TRY(add_series(w, x, requests[i]->tenant_id, &requests[i]->fresh[k], err));
    }
    return PS_OK;
}

/* ---- asking --------------------------------------------------------------------------------- */

static ps_status
call(write_path *w, wp_conn *c, wp_resolve *x, size_t lo, size_t hi, int64_t generation,
     ps_err *err)
{
    size_t n = hi - lo, n_labels = 0;
    for (size_t i = lo; i < hi; i++)
        n_labels += x->series[i].n_labels;
    if (!wp_grow((void **)&x->labels, &x->cap_labels, n_labels, sizeof(*x->labels)) ||
        !wp_grow((void **)&x->sets, &x->cap_sets, n, sizeof(*x->sets)) ||
        !wp_grow((void **)&x->refs, &x->cap_refs, n, sizeof(*x->refs)))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    mdl_label *labels = x->labels;
    for (size_t i = 0; i < n; i++) {
        const wp_distinct *s = &x->series[lo + i];
        wire_series as_wire = {.bytes = s->key, .label_bytes = s->key, .n_labels = s->n_labels};
        wire_series_labels(&as_wire, labels);
        x->sets[i] = (mdl_labels){.items = labels, .n = s->n_labels};
        labels += s->n_labels;
    }
    pg_wait wait = wp_wait(w);
    int64_t got;
    PS_TRY(catalog_resolve(c->pg, &wait, w->seed, x->series[lo].tenant_id, x->sets, n, &got,
                           x->refs, err));
    if (got != generation)
        return ps_fail(err, PS_ECONFLICT, "the catalog moved on");
    for (size_t i = 0; i < n; i++)
        x->series[lo + i].ref = x->refs[i];
    metric_add(w->stats.series_resolved, (double)n);
    return PS_OK;
}

static void
blame(wp_resolve *x, size_t lo, size_t hi, ps_status status, const char *why)
{
    for (size_t i = lo; i < hi; i++) {
        x->series[i].status = status;
        free(x->series[i].why);
        x->series[i].why = strdup(why);
    }
}

static ps_status
call_split(write_path *w, wp_conn *c, wp_resolve *x, size_t lo, size_t hi, int64_t generation,
           ps_err *err)
{
    ps_status status = PS_EUNAVAILABLE;
    /* A deadlock or a lock time-out leaves the connection in order: worth another try at once. */
    for (int tries = 0; tries < 5 && status == PS_EUNAVAILABLE; tries++) {
        status = call(w, c, x, lo, hi, generation, err);
        if (status == PS_OK)
            return PS_OK;
        if (!wp_conn_settle(w, c))
            return PS_EUNAVAILABLE;
    }
    if (status != PS_EINVAL && status != PS_EINTERNAL)
        return status;
    if (++x->calls > WP_SPLIT_CALLS) {
        blame(x, lo, hi, PS_EINTERNAL, "too many series of this batch failed in the database");
        return PS_OK;
    }
    if (hi - lo == 1) {
        blame(x, lo, hi, status, err->text);
        log_limited(w->log, LOG_WARN, 1000, "the database does not take a series",
                    (log_field[]){LOG_STR("reason", err->text)}, 1);
        return PS_OK;
    }
    size_t mid = lo + (hi - lo) / 2;
    PS_TRY(call_split(w, c, x, lo, mid, generation, err));
    return call_split(w, c, x, mid, hi, generation, err);
}

static ps_status
ask(write_path *w, wp_conn *c, wp_resolve *x, int64_t generation, ps_err *err)
{
    for (size_t lo = 0; lo < x->n_series;) {
        size_t hi = lo, bytes = 0;
        while (hi < x->n_series && hi - lo < WP_RESOLVE_MAX_SERIES &&
               bytes < WP_RESOLVE_MAX_BYTES && x->series[hi].tenant_id == x->series[lo].tenant_id)
            bytes += x->series[hi++].key.len;
        PS_TRY(call_split(w, c, x, lo, hi, generation, err));
        lo = hi;
    }
    return PS_OK;
}

/* ---- filling in ----------------------------------------------------------------------------- */

static bool
fill_cache(write_path *w, wp_resolve *x, uint64_t epoch)
{
    size_t n = 0;
    if (!wp_grow((void **)&x->items, &x->cap_items, x->n_series * 2, sizeof(*x->items)))
        return true; /* a cache: nothing is wrong without it */
    for (size_t i = 0; i < x->n_series; i++) {
        const wp_distinct *s = &x->series[i];
        if (s->status != PS_OK)
            continue;
        x->items[n++] =
            (series_cache_item){.key = s->key, .tenant_id = s->tenant_id, .ref = s->ref};
        if (s->alias.len > 0)
            x->items[n++] =
                (series_cache_item){.key = s->alias, .tenant_id = s->tenant_id, .ref = s->ref};
    }
    return series_cache_insert(w->cache, epoch, x->items, n);
}

static void
refuse_series(write_path *w, wp_decoder *d, wp_request *r, const wp_new_series *fresh,
              const wp_distinct *s)
{
    const char *why = s->why != NULL ? s->why : "refused by the database";
    if (s->status == PS_EINTERNAL) {
        metric_add(w->stats.rejected[WP_REJECT_FAULT], 1);
        wp_fatal(r, PS_EUNAVAILABLE, "%s", why);
        return;
    }
    wire_series as_wire = {.bytes = s->key, .label_bytes = s->key, .n_labels = s->n_labels};
    ps_str text = r->named < WP_REFUSALS_NAMED ? wp_series_text(w, d, &as_wire) : (ps_str){0};
    wp_refuse(w, r, WP_REASON_DATABASE, (wp_counts){fresh->n_points, fresh->n_hists}, text,
              "refused by the database: %s", why);
}

static void
fill_points(blk_point *points, uint32_t n, series_ref ref)
{
    for (uint32_t i = 0; i < n; i++) {
        points[i].series_id = ref.series_id;
        points[i].metric_id = ref.metric_id;
    }
}

static size_t
keep_filled(blk_point *points, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (points[i].metric_id != 0)
            points[kept++] = points[i];
    }
    return kept;
}

/* Writes ids into the points that wait for them and takes out those of refused series (metric
 * 0). */
static void
fill_request(write_path *w, wp_resolve *x, wp_decoder *d, wp_request *r)
{
    bool holes = false;
    for (size_t k = 0; k < r->n_fresh && r->fatal == PS_OK; k++) {
        const wp_new_series *fresh = &r->fresh[k];
        const wp_distinct *s = &x->series[fresh->at];
        if (s->status != PS_OK) {
            refuse_series(w, d, r, fresh, s);
            holes = true;
            continue;
        }
        fill_points(r->points + fresh->first_point, fresh->n_points, s->ref);
        fill_points(r->hists + fresh->first_hist, fresh->n_hists, s->ref);
        for (uint32_t i = 0; i < fresh->n_exemplars; i++)
            r->exemplars[fresh->first_exemplar + i].ref = s->ref;
    }
    r->n_fresh = 0;
    if (!holes)
        return;
    r->n_points = keep_filled(r->points, r->n_points);
    r->n_hists = keep_filled(r->hists, r->n_hists);
    size_t kept = 0;
    for (size_t i = 0; i < r->n_exemplars; i++) {
        if (r->exemplars[i].ref.metric_id != 0)
            r->exemplars[kept++] = r->exemplars[i];
    }
    r->n_exemplars = kept;
}

ps_status
wp_resolve_series(write_path *w, wp_conn *c, wp_resolve *x, wp_decoder *d,
                  wp_request *const *requests, size_t n, ps_err *err)
{
    if (n == 0)
        return PS_OK;
    ps_status status = gather(w, x, requests, n, err);
    if (status == PS_OK && x->n_series > 0)
        status = ask(w, c, x, requests[0]->generation, err);
    if (status == PS_OK && x->n_series > 0 && !fill_cache(w, x, requests[0]->epoch))
        status = ps_fail(err, PS_ECONFLICT, "the catalog moved on");
    for (size_t i = 0; status == PS_OK && i < n; i++)
        fill_request(w, x, d, requests[i]);
    forget(x);
    return status;
}
