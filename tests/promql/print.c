/*
 * print.c - values and results as text: for messages, and as the JSON of Prometheus's API.
 */
#include "tests/promql/compare.h"

void
print_value(ps_buf *out, double v, const hst_hist *h)
{
    char text[PS_DOUBLE_TEXT];
    if (h != NULL) {
        ps_buf_addf(out, "schema %d ", (int)h->schema);
        hst_format(out, h);
        return;
    }
    if (ps_bits_of(v) == MDL_STALE_NAN_BITS) {
        ps_buf_add_c(out, "stale");
        return;
    }
    ps_buf_add(out, text, ps_format_double(text, v));
}

void
print_series(ps_buf *out, mdl_labels labels)
{
    mdl_format_labels(out, labels.items, labels.n, 0);
}

void
print_json_text(ps_buf *out, ps_str s)
{
    ps_buf_add_char(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c == '"' || c == '\\')
            ps_buf_add_char(out, '\\');
        if (c < 0x20)
            ps_buf_addf(out, "\\u%04x", c);
        else
            ps_buf_add_char(out, (char)c);
    }
    ps_buf_add_char(out, '"');
}

static void
print_labels(ps_buf *out, mdl_labels labels)
{
    ps_buf_add_char(out, '{');
    for (size_t i = 0; i < labels.n; i++) {
        if (i > 0)
            ps_buf_add_char(out, ',');
        print_json_text(out, labels.items[i].name);
        ps_buf_add_char(out, ':');
        print_json_text(out, labels.items[i].value);
    }
    ps_buf_add_char(out, '}');
}

static void
print_time(ps_buf *out, int64_t t_ms)
{
    uint64_t abs = t_ms < 0 ? (uint64_t)-t_ms : (uint64_t)t_ms;
    ps_buf_addf(out, "%s%llu", t_ms < 0 ? "-" : "", (unsigned long long)(abs / 1000));
    if (abs % 1000 != 0)
        ps_buf_addf(out, ".%03u", (unsigned)(abs % 1000));
}

static void
print_point(ps_buf *out, const ev_result_series *s, size_t i)
{
    const hst_hist *h = s->h == NULL ? NULL : s->h[i];
    ps_buf_add_char(out, '[');
    print_time(out, s->t_ms[i]);
    ps_buf_add_c(out, ",\"");
    print_value(out, s->v[i], h);
    ps_buf_add_c(out, "\"]");
}

static void
print_points(ps_buf *out, const ev_result_series *s, bool histograms)
{
    bool first = true;
    ps_buf_addf(out, ",\"%s\":[", histograms ? "histograms" : "values");
    for (size_t i = 0; i < s->n; i++) {
        if ((s->h != NULL && s->h[i] != NULL) != histograms)
            continue;
        if (!first)
            ps_buf_add_char(out, ',');
        print_point(out, s, i);
        first = false;
    }
    ps_buf_add_char(out, ']');
}

static void
print_one(ps_buf *out, const ev_result_series *s, bool matrix)
{
    bool floats = false;
    bool histograms = false;
    for (size_t i = 0; i < s->n; i++) {
        bool is_hist = s->h != NULL && s->h[i] != NULL;
        floats |= !is_hist;
        histograms |= is_hist;
    }
    ps_buf_add_c(out, "{\"metric\":");
    print_labels(out, s->labels);
    if (matrix) {
        if (floats)
            print_points(out, s, false);
        if (histograms)
            print_points(out, s, true);
    } else {
        ps_buf_add_c(out, histograms ? ",\"histogram\":" : ",\"value\":");
        print_point(out, s, 0);
    }
    ps_buf_add_char(out, '}');
}

static void
print_texts(ps_buf *out, const char *name, const ps_str *texts, size_t n)
{
    if (n == 0)
        return;
    ps_buf_addf(out, ",\"%s\":[", name);
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            ps_buf_add_char(out, ',');
        print_json_text(out, texts[i]);
    }
    ps_buf_add_char(out, ']');
}

void
print_result(ps_buf *out, const ev_result *r)
{
    static const char *const names[] = {
        [PQL_NONE] = "none",     [PQL_SCALAR] = "scalar", [PQL_STRING] = "string",
        [PQL_VECTOR] = "vector", [PQL_MATRIX] = "matrix",
    };
    ps_buf_addf(out, "{\"resultType\":\"%s\",\"result\":", names[r->type]);
    if (r->type == PQL_STRING) {
        print_json_text(out, r->text);
    } else if (r->type == PQL_SCALAR && r->n > 0) {
        print_point(out, &r->series[0], 0);
    } else {
        ps_buf_add_char(out, '[');
        for (size_t i = 0; i < r->n; i++) {
            if (i > 0)
                ps_buf_add_c(out, ",\n");
            print_one(out, &r->series[i], r->type == PQL_MATRIX);
        }
        ps_buf_add_char(out, ']');
    }
    print_texts(out, "warnings", r->warnings, r->n_warnings);
    print_texts(out, "infos", r->infos, r->n_infos);
    ps_buf_addf(out, ",\"samples\":%llu,\"peakSamples\":%llu}",
                (unsigned long long)r->stats.total_samples,
                (unsigned long long)r->stats.peak_samples);
}
