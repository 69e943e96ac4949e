/*
 * metadata.c - type, help and unit of metrics: from the wire into the request.
 *
 * 1.0 sends them once a minute, in requests of their own. 2.0 sends them with each series in every
 * request, and storing them each time would cost more than the samples. So what the database took is
 * remembered for some minutes, by a hash under the path's secret seed: a small table of four places a
 * hash, without locks, in which a newer one may push out an older one; then it is stored once more.
 * The hash covers the epoch of the catalog, so that whatever is dropped in the database is told again.
 */
#include "connector/write/internal.h"

#define TOLD_MS INT64_C(600000)

/* ---- what the database has -------------------------------------------------------------------- */

uint64_t
wp_metadata_mark(const write_path *w, const wp_request *r, int64_t now_ms, const wire_metadata *m)
{
    uint64_t h = w->seed ^ r->epoch * UINT64_C(0x9E3779B97F4A7C15);
    h = ps_hash64(m->family, h ^ (uint64_t)(now_ms / TOLD_MS));
    h = ps_hash64(m->help, h ^ (uint32_t)r->tenant_id);
    h = ps_hash64(m->unit, h ^ (uint64_t)m->type);
    return h == 0 ? 1 : h;
}

bool
wp_is_told(const write_path *w, uint64_t mark)
{
    const _Atomic uint64_t *set = w->told[mark % WP_TOLD_SETS];
    for (int i = 0; i < WP_TOLD_WAYS; i++) {
        if (atomic_load_explicit(&set[i], memory_order_relaxed) == mark)
            return true;
    }
    return false;
}

void
wp_tell(write_path *w, uint64_t mark)
{
    if (mark == 0 || wp_is_told(w, mark))
        return;
    _Atomic uint64_t *set = w->told[mark % WP_TOLD_SETS];
    for (int i = WP_TOLD_WAYS - 1; i > 0; i--)
        atomic_store_explicit(&set[i], atomic_load_explicit(&set[i - 1], memory_order_relaxed),
                              memory_order_relaxed);
    atomic_store_explicit(&set[0], mark, memory_order_relaxed);
}

/* ---- into the request -------------------------------------------------------------------------- */

static bool
is_text(const write_path *w, ps_str s)
{
    return s.len <= (size_t)w->set->ingest_max_label_value_bytes && ps_utf8_valid(s) &&
           (s.len == 0 || memchr(s.ptr, '\0', s.len) == NULL);
}

ps_status
wp_take_metadata(write_path *w, wp_request *r, const wire_metadata *m, uint64_t mark, ps_err *err)
{
    if (m->family.len == 0 || !is_text(w, m->family) || !is_text(w, m->help) ||
        !is_text(w, m->unit)) {
        wp_refuse(w, r, WP_REASON_METADATA, wp_floats(0), (ps_str){0},
                  "metadata with an empty or unusable metric name, help or unit");
        return PS_OK;
    }
    if ((int64_t)r->n_metadata >= w->set->ingest_max_metadata) { /* never costs samples */
        metric_add(w->stats.limits[WP_LIMIT_METADATA], 1);
        metric_add(w->stats.refused[WP_REASON_METADATA], 1);
        return PS_OK;
    }
    if (!wp_grow((void **)&r->metadata, &r->cap_metadata, r->n_metadata + 1,
                 sizeof(*r->metadata)) ||
        !wp_grow((void **)&r->marks, &r->cap_marks, r->n_metadata + 1, sizeof(*r->marks)))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    catalog_metadata *item = &r->metadata[r->n_metadata];
    if (ps_arena_dup(&r->arena, m->family, &item->family) != PS_OK ||
        ps_arena_dup(&r->arena, m->help, &item->help) != PS_OK ||
        ps_arena_dup(&r->arena, m->unit, &item->unit) != PS_OK)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    item->type = wire_metric_type_name(m->type);
    r->marks[r->n_metadata++] = mark;
    return PS_OK;
}
