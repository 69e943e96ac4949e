/*
 * adapt.c - bodies in other formats, on the worker's thread: gunzip, and OpenTelemetry's requests and text
 * become the remote write 2.0 message that the rest of the stage reads.
 *
 * Nothing depends on when this runs: a request is decoded again when its ids become worthless, and must
 * then say the same. So samples that came without a time have that of their request's arrival.
 */
#include "connector/write/internal.h"

#include <zlib.h>

#include "lib/exposition/exposition.h"
#include "lib/otlp/otlp.h"

/* ---- gzip ------------------------------------------------------------------------------------ */

/* Replaces out's content; never takes more than max_bytes. */
static ps_status
inflate_all(z_stream *z, size_t max_bytes, ps_buf *out, ps_err *err)
{
    for (;;) {
        size_t room = max_bytes - out->len;
        if (room > (size_t)64 * 1024)
            room = (size_t)64 * 1024;
        if (!ps_buf_reserve(out, room + 1)) /* the one more tells too much from enough */
            return ps_fail(err, PS_ENOMEM, "no memory for a message");
        z->next_out = (unsigned char *)out->ptr + out->len;
        z->avail_out = (unsigned)room + 1;
        int code = inflate(z, Z_NO_FLUSH);
        out->len += room + 1 - z->avail_out;
        if (out->len > max_bytes)
            return ps_fail(err, PS_ELIMIT, "the message has more than %zu bytes", max_bytes);
        if (code == Z_STREAM_END && z->avail_in == 0)
            return PS_OK;
        if (code == Z_STREAM_END) /* members may follow each other */
            code = inflateReset(z);
        if (code != Z_OK)
            return ps_fail(err, code == Z_MEM_ERROR ? PS_ENOMEM : PS_ECORRUPT,
                           "not a gzip stream, or a part of one");
    }
}

ps_status
wp_gunzip(ps_str in, size_t max_bytes, ps_buf *out, ps_err *err)
{
    z_stream z = {0};
    const int gzip_only = 16 + MAX_WBITS;

    ps_buf_clear(out);
    if (inflateInit2(&z, gzip_only) != Z_OK)
        return ps_fail(err, PS_ENOMEM, "no memory for a message");
    z.next_in = (unsigned char *)(uintptr_t)in.ptr; /* zlib's const is optional */
    z.avail_in = (unsigned)in.len;                  /* bodies are below 1 GB */
    ps_status status = inflate_all(&z, max_bytes, out, err);
    inflateEnd(&z);
    return status;
}

/* ---- OpenTelemetry --------------------------------------------------------------------------- */

typedef struct noted {
    write_path *w;
    wp_request *r; /* NULL: refusals were noted when it was decoded */
} noted;

static void
note_refusal(void *self, ps_str name, int64_t n_points, const char *why)
{
    const noted *n = self;
    if (n->r != NULL)
        wp_refuse(n->w, n->r, WP_REASON_OTLP, wp_floats(n_points),
                  ps_utf8_valid(name) ? name : (ps_str){0}, "%s", why);
}

/* Parts of a comma list; empty ones do not count. */
static ps_status
split_list(ps_arena *arena, const char *list, const ps_str **ret, size_t *ret_n)
{
    size_t n = 1, len = strlen(list);
    for (size_t i = 0; i < len; i++)
        n += list[i] == ',';
    ps_str *items = ps_arena_array(arena, n, sizeof *items);
    if (items == NULL)
        return PS_ENOMEM;
    n = 0;
    for (size_t begin = 0, i = 0; i <= len; i++) {
        if (i < len && list[i] != ',')
            continue;
        ps_str item = ps_str_trim((ps_str){list + begin, i - begin});
        if (item.len > 0)
            items[n++] = item;
        begin = i + 1;
    }
    *ret = items;
    *ret_n = n;
    return PS_OK;
}

static ps_status
from_otlp(write_path *w, wp_request *note, ps_str body, wire_v2_writer *out, ps_err *err)
{
    const settings *s = w->set;
    const char *list = s->otlp_promote_all_resource_attributes
                           ? s->otlp_ignore_resource_attributes
                           : s->otlp_promote_resource_attributes;
    otlp_settings set = {
        .promote_all_resource_attributes = s->otlp_promote_all_resource_attributes,
        .keep_identifying_resource_attributes = s->otlp_keep_identifying_resource_attributes,
        .promote_scope_metadata = s->otlp_promote_scope_metadata,
        .convert_histograms_to_nhcb = s->otlp_convert_histograms_to_nhcb,
        .label_name_underscore_sanitization = s->otlp_label_name_underscore_sanitization,
        .label_name_preserve_multiple_underscores = s->otlp_label_name_preserve_multiple_underscores,
        .delta_as_is = strcmp(s->otlp_delta, "as-is") == 0,
        .lookback_ms = s->promql_lookback_ms,
    };
    noted n = {w, note};
    const otlp_refusals refusals = {note_refusal, &n};
    ps_arena arena;

    (void)otlp_strategy(ps_str_c(s->otlp_translation_strategy), &set); /* checked at the start */
    ps_arena_init(&arena, &ps_malloc, 0);
    ps_status status =
        split_list(&arena, list, &set.resource_attributes, &set.n_resource_attributes);
    if (status == PS_OK)
        status = otlp_translate(body, &set, &ps_malloc, out, &refusals, err);
    else
        status = ps_fail(err, status, "no memory for a message");
    ps_arena_done(&arena);
    return status;
}

/* ---- all of them ----------------------------------------------------------------------------- */

ps_status
wp_adapt(write_path *w, wp_decoder *d, const wp_request *r, wp_request *note, ps_str body,
         ps_str *ret, ps_err *err)
{
    size_t max = (size_t)w->set->ingest_max_decompressed_bytes;
    wire_v2_writer *out = wire_v2_writer_new(&ps_malloc, max);
    ps_status status;

    if (out == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory for a message");
    if (r->in.version == WRITE_OTLP)
        status = from_otlp(w, note, body, out, err);
    else
        status = exp_translate(body, r->in.version == WRITE_TEXT ? EXP_TEXT : EXP_OPENMETRICS,
                               r->arrived_ms, &ps_malloc, out, err);
    if (status == PS_EINVAL) /* a text that is wrong somewhere is not stored in part */
        status = PS_ECORRUPT;
    ps_buf_clear(&d->adapted);
    if (status == PS_OK)
        status = wire_v2_writer_finish(out, &d->adapted, err);
    wire_v2_writer_free(out);
    *ret = ps_buf_str(&d->adapted);
    return status;
}
