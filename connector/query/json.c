/*
 * json.c - results, statistics and annotations as the Prometheus API has them.
 *
 * The buffer's limit bounds the whole.
 */
#include "connector/query/internal.h"

enum { MAX_NOTES = 10 };

/* ---- histograms ------------------------------------------------------------------------------------------ */

static void
add_bucket(ps_buf *out, const hst_bucket *b)
{
    static const char rules[] = {'2', '0', '1', '3'}; /* open, left open, right open, closed */

    ps_buf_add_char(out, '[');
    ps_buf_add_char(out, rules[(b->lower_in ? 2 : 0) + (b->upper_in ? 1 : 0)]);
    ps_buf_add_char(out, ',');
    api_json_value(out, b->lower);
    ps_buf_add_char(out, ',');
    api_json_value(out, b->upper);
    ps_buf_add_char(out, ',');
    api_json_value(out, b->count);
    ps_buf_add_char(out, ']');
}

static void
add_histogram(ps_buf *out, const hst_hist *h)
{
    hst_iter it;
    hst_bucket b;
    bool any = false;

    ps_buf_add_c(out, "{\"count\":");
    api_json_value(out, h->count);
    ps_buf_add_c(out, ",\"sum\":");
    api_json_value(out, h->sum);
    hst_iter_up(&it, h);
    while (hst_next(&it, &b)) {
        bool zero_bucket = b.lower_in && b.upper_in;
        if (b.count == 0 || (zero_bucket && !(b.count > 0))) /* as Prometheus has it */
            continue;
        ps_buf_add_c(out, any ? "," : ",\"buckets\":[");
        any = true;
        add_bucket(out, &b);
    }
    ps_buf_add_c(out, any ? "]}" : "}");
}

/* ---- series ------------------------------------------------------------------------------------------------ */

static void
add_point(ps_buf *out, const ev_result_series *s, size_t i)
{
    ps_buf_add_char(out, '[');
    api_json_time(out, s->t_ms[i]);
    ps_buf_add_char(out, ',');
    if (s->h != NULL && s->h[i] != NULL)
        add_histogram(out, s->h[i]);
    else
        api_json_value(out, s->v[i]);
    ps_buf_add_char(out, ']');
}

static void
add_points(ps_buf *out, const ev_result_series *s, bool histograms)
{
    bool any = false;

    for (size_t i = 0; i < s->n; i++) {
        if ((s->h != NULL && s->h[i] != NULL) != histograms)
            continue;
        if (!any)
            ps_buf_add_c(out, histograms ? ",\"histograms\":[" : ",\"values\":[");
        else
            ps_buf_add_char(out, ',');
        any = true;
        add_point(out, s, i);
    }
    if (any)
        ps_buf_add_char(out, ']');
}

static void
add_series(ps_buf *out, const ev_result *r, uint64_t limit)
{
    size_t n = limit > 0 && limit < r->n ? (size_t)limit : r->n;

    ps_buf_add_char(out, '[');
    for (size_t i = 0; i < n && !out->failed; i++) {
        const ev_result_series *s = &r->series[i];
        ps_buf_add_c(out, i > 0 ? ",{\"metric\":" : "{\"metric\":");
        api_json_labels(out, s->labels);
        if (r->type == PQL_VECTOR) {
            ps_buf_add_c(out, s->h != NULL && s->h[0] != NULL ? ",\"histogram\":" : ",\"value\":");
            add_point(out, s, 0);
        } else {
            add_points(out, s, false);
            add_points(out, s, true);
        }
        ps_buf_add_char(out, '}');
    }
    ps_buf_add_char(out, ']');
}

/* Scalars never have an exponent, unlike values of vectors. */
static void
add_scalar(ps_buf *out, const ev_result_series *s)
{
    char text[PS_DOUBLE_PLAIN_TEXT];

    ps_buf_add_char(out, '[');
    api_json_time(out, s->t_ms[0]);
    ps_buf_add_c(out, ",\"");
    size_t n = ps_format_double_plain(text, s->v[0]);
    ps_buf_add(out, text, n);
    ps_buf_add_c(out, "\"]");
}

static void
add_result(ps_buf *out, const query_rendering *w)
{
    const ev_result *r = w->result;

    switch (r->type) {
    case PQL_SCALAR:
        ps_buf_add_c(out, "{\"resultType\":\"scalar\",\"result\":");
        add_scalar(out, &r->series[0]);
        break;
    case PQL_STRING:
        ps_buf_add_c(out, "{\"resultType\":\"string\",\"result\":[");
        api_json_time(out, w->time_ms);
        ps_buf_add_char(out, ',');
        api_json_text(out, r->text, true);
        ps_buf_add_char(out, ']');
        break;
    default:
        ps_buf_add_c(out, r->type == PQL_VECTOR ? "{\"resultType\":\"vector\",\"result\":"
                                                : "{\"resultType\":\"matrix\",\"result\":");
        add_series(out, r, w->limit);
    }
}

/* ---- around it ---------------------------------------------------------------------------------------------- */

static void
add_seconds(ps_buf *out, const char *name, double seconds)
{
    char text[PS_DOUBLE_TEXT];
    size_t n = ps_format_double(text, seconds);

    ps_buf_addf(out, "\"%s\":", name);
    ps_buf_add(out, text, n);
}

static void
add_stats(ps_buf *out, const query_rendering *w)
{
    const ev_stats *s = &w->result->stats;
    const query_timings *t = &w->timings;

    ps_buf_add_c(out, ",\"stats\":{\"timings\":{");
    add_seconds(out, "evalTotalTime", t->prepare + t->eval + t->sort);
    ps_buf_add_char(out, ',');
    add_seconds(out, "resultSortTime", t->sort);
    ps_buf_add_char(out, ',');
    add_seconds(out, "queryPreparationTime", t->prepare);
    ps_buf_add_char(out, ',');
    add_seconds(out, "innerEvalTime", t->eval);
    ps_buf_add_char(out, ',');
    add_seconds(out, "execQueueTime", t->queue);
    ps_buf_add_char(out, ',');
    add_seconds(out, "execTotalTime", t->total);
    ps_buf_add_c(out, "},\"samples\":{");
    if (w->per_step && s->per_step != NULL) {
        ps_buf_add_c(out, "\"totalQueryableSamplesPerStep\":[");
        for (size_t i = 0; i < s->n_steps; i++) {
            ps_buf_add_c(out, i > 0 ? ",[" : "[");
            api_json_time(out, w->start_ms + (int64_t)i * w->step_ms);
            ps_buf_add_char(out, ',');
            api_json_i64(out, (int64_t)s->per_step[i]);
            ps_buf_add_char(out, ']');
        }
        ps_buf_add_c(out, "],");
    }
    ps_buf_addf(out, "\"totalQueryableSamples\":%llu,\"samplesRead\":%llu,\"peakSamples\":%llu}}",
                (unsigned long long)s->total_samples, (unsigned long long)s->samples_read,
                (unsigned long long)s->peak_samples);
}

static void
add_note(ps_buf *out, const char *key, ps_str text, bool *any)
{
    if (*any)
        ps_buf_add_char(out, ',');
    else
        ps_buf_addf(out, ",\"%s\":[", key);
    *any = true;
    api_json_text(out, text, true);
}

static void
add_notes(ps_buf *out, const char *key, const char *kind, const ps_str *notes, size_t n, bool *any)
{
    for (size_t i = 0; i < n && i < MAX_NOTES; i++)
        add_note(out, key, notes[i], any);
    if (n > MAX_NOTES)
        ps_buf_addf(out, ",\"%zu more %s annotations omitted\"", n - MAX_NOTES, kind);
}

static void
add_warnings(ps_buf *out, const query_rendering *w)
{
    bool any = false;

    for (size_t i = 0; i < w->n_source_warnings; i++)
        add_note(out, "warnings", w->source_warnings[i], &any);
    add_notes(out, "warnings", "warning", w->result->warnings, w->result->n_warnings, &any);
    if (w->warning != NULL)
        add_note(out, "warnings", ps_str_c(w->warning), &any);
    if (any)
        ps_buf_add_char(out, ']');
}

static void
add_infos(ps_buf *out, const ev_result *r)
{
    bool any = false;

    add_notes(out, "infos", "info", r->infos, r->n_infos, &any);
    if (any)
        ps_buf_add_char(out, ']');
}

void
query_render(ps_buf *out, const query_rendering *w)
{
    ps_buf_add_c(out, "{\"status\":\"success\",\"data\":");
    add_result(out, w);
    if (w->stats)
        add_stats(out, w);
    ps_buf_add_char(out, '}');
    add_warnings(out, w);
    add_infos(out, w->result);
    ps_buf_add_char(out, '}');
}
