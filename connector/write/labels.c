/*
 * labels.c - the way of a series that the cache does not know by its bytes: parse, check, make
 * canonical, look again, and if even that fails note it for the resolver. A label set that is
 * refused is never cached.
 */
#include "connector/write/internal.h"

static void
put_varint(ps_buf *out, size_t v)
{
    while (v >= 0x80) {
        ps_buf_add_char(out, (char)(v | 0x80));
        v >>= 7;
    }
    ps_buf_add_char(out, (char)v);
}

static size_t
varint_len(size_t v)
{
    size_t n = 1;
    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}

void
wp_put_key(ps_buf *out, const mdl_label *labels, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t name = labels[i].name.len, value = labels[i].value.len;
        ps_buf_add_char(out, 0x0A); /* TimeSeries.labels */
        put_varint(out, 1 + varint_len(name) + name + 1 + varint_len(value) + value);
        ps_buf_add_char(out, 0x0A); /* Label.name */
        put_varint(out, name);
        ps_buf_add_str(out, labels[i].name);
        ps_buf_add_char(out, 0x12); /* Label.value */
        put_varint(out, value);
        ps_buf_add_str(out, labels[i].value);
    }
}

bool
wp_parse_labels(const write_path *w, wp_decoder *d, const wire_series *s)
{
    if ((int64_t)s->n_labels > w->set->ingest_max_labels)
        return false;
    if (!wp_grow((void **)&d->labels, &d->cap_labels, s->n_labels, sizeof(*d->labels)))
        return false;
    wire_series_labels(s, d->labels);
    return true;
}

ps_str
wp_series_text(const write_path *w, wp_decoder *d, const wire_series *s)
{
    ps_buf_clear(&d->text);
    if (wp_parse_labels(w, d, s))
        mdl_format_labels(&d->text, d->labels, s->n_labels, WP_SERIES_TEXT);
    else
        ps_buf_addf(&d->text, "with %u labels", s->n_labels);
    return ps_buf_str(&d->text);
}

static void
refuse_labels(write_path *w, wp_decoder *d, wp_request *r, const wire_series *s, const ps_err *why)
{
    ps_str text = r->named < WP_REFUSALS_NAMED ? wp_series_text(w, d, s) : (ps_str){0};
    wp_refuse(w, r, why->code == PS_ELIMIT ? WP_REASON_LABEL_LIMIT : WP_REASON_LABELS,
              (wp_counts){s->n_samples, s->n_histograms}, text, "%s", why->text);
}

/* Notes the series (key in d->key) for the resolver. */
static ps_status
note_fresh(wp_decoder *d, wp_request *r, const wire_series *s, size_t n_labels, size_t *ret,
           ps_err *err)
{
    if (!wp_grow((void **)&r->fresh, &r->cap_fresh, r->n_fresh + 1, sizeof(*r->fresh)))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    wp_new_series *fresh = &r->fresh[r->n_fresh];
    *fresh = (wp_new_series){.n_labels = (uint32_t)n_labels};
    ps_str key = ps_buf_str(&d->key);
    if (ps_arena_dup(&r->arena, key, &fresh->key) != PS_OK ||
        (s->label_bytes.len > 0 && !ps_str_eq(s->label_bytes, key) &&
         ps_arena_dup(&r->arena, s->label_bytes, &fresh->alias) != PS_OK))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    *ret = r->n_fresh++;
    return PS_OK;
}

ps_status
wp_lookup_slow(write_path *w, wp_decoder *d, wp_request *r, series_cursor *cur,
               const wire_series *s, wp_lookup *ret, ps_err *err)
{
    const mdl_label_limits limits = {.max_labels = (uint32_t)w->set->ingest_max_labels,
                                     .max_name_bytes =
                                         (uint32_t)w->set->ingest_max_label_name_bytes,
                                     .max_value_bytes =
                                         (uint32_t)w->set->ingest_max_label_value_bytes,
                                     .max_set_bytes = (uint32_t)w->set->ingest_max_label_set_bytes};
    ps_err why;
    size_t n = 0;
    ps_status status;
    if (wp_parse_labels(w, d, s))
        status = mdl_labels_canonical(d->labels, s->n_labels, &limits, &n, &why);
    else
        status = ps_fail(&why, PS_ELIMIT, "the series has %u labels, the limit is %lld",
                         s->n_labels, (long long)w->set->ingest_max_labels);
    if (status != PS_OK) {
        refuse_labels(w, d, r, s, &why);
        ret->refused = true;
        return PS_OK;
    }
    ps_buf_clear(&d->key);
    wp_put_key(&d->key, d->labels, n);
    if (d->key.failed)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    if (ps_str_eq(ps_buf_str(&d->key), s->label_bytes) ||
        !series_cache_find(w->cache, cur, r->tenant_id, ps_buf_str(&d->key), &ret->ref))
        return note_fresh(d, r, s, n, &ret->fresh, err);
    if (s->label_bytes.len > 0) {
        if (!wp_grow((void **)&d->aliases, &d->cap_aliases, d->n_aliases + 1, sizeof(*d->aliases)))
            return ps_fail(err, PS_ENOMEM, "out of memory");
        ps_str alias = s->label_bytes;
        if (r->in.version != WRITE_V1 && ps_arena_dup(&r->arena, alias, &alias) != PS_OK)
            return ps_fail(err, PS_ENOMEM, "out of memory");
        d->aliases[d->n_aliases++] =
            (series_cache_item){.key = alias, .tenant_id = r->tenant_id, .ref = ret->ref};
    }
    return PS_OK;
}
