/*
 * exemplar.c - exemplars: from the wire into the request, and from there into one SQL call.
 *
 * A bad exemplar never costs anything else and is no reason to answer 400: it is left out and
 * counted, as senders expect. (In 2.0 it is one if its references are: then the sender is broken.)
 */
#include "connector/write/internal.h"

#include <math.h>

enum { MAX_LABELS_PER_SERIES = 65536 };

static bool
is_text(ps_str s)
{
    return ps_utf8_valid(s) && (s.len == 0 || memchr(s.ptr, '\0', s.len) == NULL);
}

static void
put_json_string(ps_buf *out, ps_str s)
{
    ps_buf_add_char(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c == '"' || c == '\\') {
            ps_buf_add_char(out, '\\');
            ps_buf_add_char(out, (char)c);
        } else if (c < 0x20) {
            ps_buf_addf(out, "\\u%04x", c);
        } else {
            ps_buf_add_char(out, (char)c);
        }
    }
    ps_buf_add_char(out, '"');
}

/* False: not labels that can be kept. */
static bool
put_json(ps_buf *out, const mdl_label *labels, size_t n)
{
    size_t bytes = 0;
    ps_buf_clear(out);
    ps_buf_add_char(out, '{');
    for (size_t i = 0; i < n; i++) {
        bytes += labels[i].name.len + labels[i].value.len;
        if (bytes > WP_EXEMPLAR_MAX_BYTES || labels[i].name.len == 0 || !is_text(labels[i].name) ||
            !is_text(labels[i].value))
            return false;
        if (i > 0)
            ps_buf_add_char(out, ',');
        put_json_string(out, labels[i].name);
        ps_buf_add_char(out, ':');
        put_json_string(out, labels[i].value);
    }
    ps_buf_add_char(out, '}');
    return !out->failed;
}

/* Room for n more; *ret_fits false: they are over the limit and left out. */
static ps_status
reserve(write_path *w, wp_decoder *d, wp_request *r, size_t n, size_t max_labels, bool *ret_fits,
        ps_err *err)
{
    *ret_fits = (int64_t)(r->n_exemplars + n) <= w->set->ingest_max_exemplars;
    if (!*ret_fits) {
        metric_add(w->stats.limits[WP_LIMIT_EXEMPLARS], 1);
        metric_add(w->stats.refused[WP_REASON_EXEMPLAR], (double)n);
        return PS_OK;
    }
    if (!wp_grow((void **)&d->exemplars, &d->cap_exemplars, n, sizeof(*d->exemplars)) ||
        !wp_grow((void **)&d->v2_exemplars, &d->cap_v2_exemplars, n, sizeof(*d->v2_exemplars)) ||
        !wp_grow((void **)&d->labels, &d->cap_labels, max_labels, sizeof(*d->labels)) ||
        !wp_grow((void **)&r->exemplars, &r->cap_exemplars, r->n_exemplars + n,
                 sizeof(*r->exemplars)))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    return PS_OK;
}

static ps_status
take_one(write_path *w, wp_decoder *d, wp_request *r, const wire_exemplar *e, series_ref ref,
         ps_err *err)
{
    wp_exemplar *out = &r->exemplars[r->n_exemplars];
    if (e->t_ms < d->lo_ms || e->t_ms > d->hi_ms || !put_json(&d->text, e->labels, e->n_labels)) {
        metric_add(w->stats.refused[WP_REASON_EXEMPLAR], 1);
        return PS_OK;
    }
    *out = (wp_exemplar){.ref = ref, .t_ms = e->t_ms, .value = e->value};
    if (ps_arena_dup(&r->arena, ps_buf_str(&d->text), &out->json) != PS_OK)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    r->n_exemplars++;
    return PS_OK;
}

ps_status
wp_take_exemplars(write_path *w, wp_decoder *d, wp_request *r, const wire_series *s, series_ref ref,
                  ps_err *err)
{
    size_t n = s->n_exemplars;
    size_t max_labels = n > MAX_LABELS_PER_SERIES / 64 ? MAX_LABELS_PER_SERIES : n * 64;
    bool fits;
    PS_TRY(reserve(w, d, r, n, max_labels, &fits, err));
    if (!fits)
        return PS_OK;
    if (wire_series_exemplars(s, d->exemplars, d->labels, max_labels, NULL) != PS_OK) {
        metric_add(w->stats.refused[WP_REASON_EXEMPLAR], (double)n);
        return PS_OK;
    }
    for (size_t i = 0; i < n; i++)
        PS_TRY(take_one(w, d, r, &d->exemplars[i], ref, err));
    return PS_OK;
}

/* In 2.0 an exemplar whose labels cannot be read is told to the sender, as Prometheus does. */
ps_status
wp_take_exemplars_v2(write_path *w, wp_decoder *d, wp_request *r, const wire_series *s,
                     const wire_v2_reader *reader, const wire_v2_series *v2, series_ref ref,
                     ps_err *err)
{
    size_t n = v2->n_exemplars;
    size_t max_labels = n > MAX_LABELS_PER_SERIES / 64 ? MAX_LABELS_PER_SERIES : n * 64;
    bool fits;
    PS_TRY(reserve(w, d, r, n, max_labels, &fits, err));
    if (!fits)
        return PS_OK;
    if (!wp_grow((void **)&d->refs, &d->cap_refs, 2 * max_labels, sizeof(*d->refs)))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    if (wire_v2_exemplars(v2, d->v2_exemplars, d->refs, 2 * max_labels, NULL) != PS_OK) {
        metric_add(w->stats.refused[WP_REASON_EXEMPLAR], (double)n);
        return PS_OK;
    }
    for (size_t i = 0; i < n; i++) {
        const wire_v2_exemplar *e = &d->v2_exemplars[i];
        const uint32_t *refs = d->refs + e->first_ref;
        size_t n_labels = e->n_refs / 2;
        if (wp_points_at_nothing(&reader->symbols, refs, e->n_refs)) {
            wp_refuse(w, r, WP_REASON_EXEMPLAR, wp_floats(0), wp_series_text(w, d, s),
                      "an exemplar's label references are odd or out of range");
            continue;
        }
        mdl_label *labels = d->labels;
        for (size_t k = 0; k < n_labels; k++)
            labels[k] = (mdl_label){reader->symbols.items[refs[2 * k]],
                                    reader->symbols.items[refs[2 * k + 1]]};
        PS_TRY(take_one(w, d, r, &(wire_exemplar){labels, n_labels, e->t_ms, e->value}, ref, err));
    }
    return PS_OK;
}

/* ---- as SQL --------------------------------------------------------------------------------- */

enum { COLUMNS = 7 };

static void
put_value(ps_buf *out, int column, int32_t tenant_id, const wp_exemplar *e)
{
    switch (column) {
    case 0:
        ps_buf_addf(out, "%d", (int)tenant_id);
        break;
    case 1:
        ps_buf_addf(out, "%d", (int)e->ref.metric_id);
        break;
    case 2:
        ps_buf_addf(out, "%lld", (long long)mdl_dist_key(tenant_id, e->ref.metric_id));
        break;
    case 3:
        ps_buf_addf(out, "%lld", (long long)e->ref.series_id);
        break;
    case 4: /* microseconds since 2000 divided exactly: text would need a calendar */
        ps_buf_addf(out, "'2000-01-01+00'::timestamptz + %lld * interval '1 microsecond'",
                    (long long)pg_timestamp_of_ms(e->t_ms));
        break;
    case 5:
        if (isnan(e->value))
            ps_buf_add_c(out, "'NaN'");
        else if (isinf(e->value))
            ps_buf_add_c(out, e->value > 0 ? "'Infinity'" : "'-Infinity'");
        else
            ps_buf_addf(out, "'%.17g'", e->value);
        break;
    default:
        ps_buf_add_char(out, '\'');
        for (size_t i = 0; i < e->json.len; i++) {
            if (e->json.ptr[i] == '\'')
                ps_buf_add_char(out, '\'');
            ps_buf_add_char(out, e->json.ptr[i]);
        }
        ps_buf_add_char(out, '\'');
        break;
    }
}

void
wp_exemplars_sql(ps_buf *out, wp_request *const *requests, size_t n)
{
    static const char *const types[COLUMNS] = {"int4",        "int4",   "int8", "int8",
                                               "timestamptz", "float8", "jsonb"};
    ps_buf_add_c(out, "SELECT _prom_catalog.insert_exemplars(");
    for (int column = 0; column < COLUMNS; column++) {
        bool first = true;
        ps_buf_add_c(out, column == 0 ? "ARRAY[" : ",ARRAY[");
        for (size_t i = 0; i < n; i++) {
            for (size_t k = 0; k < requests[i]->n_exemplars; k++) {
                if (!first)
                    ps_buf_add_char(out, ',');
                first = false;
                put_value(out, column, requests[i]->tenant_id, &requests[i]->exemplars[k]);
            }
        }
        ps_buf_addf(out, "]::%s[]", types[column]);
    }
    ps_buf_add_c(out, ");");
}
