/*
 * points.c - data points that become plain samples: numbers, summaries, histograms with bounds as classic
 * ones (_bucket with le, _sum, _count).
 */
#include "lib/otlp/internal.h"

/* ---- what all kinds have in common ---------------------------------------------------------------- */

/* Times are fields 2 (start) and 3 in all of them. */
static bool
read_head(translation *t, ps_str point, uint32_t flags_field, point_head *ret)
{
    pb_reader r = pb_reader_of(point, &t->bad);
    uint64_t start_ns = 0, time_ns = 0, flags = 0;
    resource_labels *res = &t->of_resource;
    pb_field f;

    while (otlp_pb_next(&r, &f)) {
        if (otlp_pb_is(&r, &f, 2, PB_FIXED64))
            start_ns = f.value;
        else if (otlp_pb_is(&r, &f, 3, PB_FIXED64))
            time_ns = f.value;
        else if (otlp_pb_is(&r, &f, flags_field, PB_VARINT))
            flags = f.value;
    }
    if (t->bad != NULL)
        return false;
    if (time_ns == 0) {
        otlp_refuse(t, 1, "a data point has no time");
        return false;
    }
    ret->t_ms = (int64_t)(time_ns / 1000000);
    ret->start_ms = (int64_t)(start_ns / 1000000);
    if (ret->start_ms > ret->t_ms) /* makes no sense, and says nothing */
        ret->start_ms = 0;
    ret->stale = (flags & 1) != 0;
    if (time_ns < res->earliest_ns)
        res->earliest_ns = time_ns;
    if (time_ns > res->latest_ns)
        res->latest_ns = time_ns;
    return true;
}

bool
otlp_point_head(translation *t, ps_str point, uint32_t attributes_field, uint32_t flags_field,
                point_head *ret)
{
    static const ps_str own_name[] = {{MDL_METRIC_NAME, sizeof MDL_METRIC_NAME - 1}};
    attributes a;
    const char *why;

    ps_arena_reset(&t->point);
    if (!read_head(t, point, flags_field, ret))
        return false;
    t->failed = otlp_attributes(point, attributes_field, &t->point, &t->bad, &a);
    if (t->failed == PS_OK)
        t->failed = otlp_labels(t, &a, own_name, 1, false, &ret->labels, &why);
    if (t->failed != PS_OK)
        return false;
    if (why != NULL)
        otlp_refuse(t, 1, why);
    return why == NULL;
}

ps_status
otlp_write_sample(translation *t, const point_head *head, const char *suffix, mdl_label extra,
                  double value, const wire_exemplar *exemplars, size_t n_exemplars)
{
    label_set labels = head->labels;
    ps_str name = t->name;

    if (suffix[0] != 0) {
        ps_buf out;
        ps_alloc alloc = ps_arena_as_alloc(&t->point);
        ps_buf_init(&out, &alloc);
        ps_buf_add_str(&out, name);
        ps_buf_add_c(&out, suffix);
        if (out.failed)
            return PS_ENOMEM;
        name = ps_buf_str(&out);
    }
    /* the head's set is shared by all series of the point: a copy that may be added to */
    labels.cap = labels.n + 2;
    labels.items = ps_arena_array(&t->point, labels.cap, sizeof *labels.items);
    if (labels.items == NULL)
        return PS_ENOMEM;
    if (labels.n > 0)
        memcpy(labels.items, head->labels.items, labels.n * sizeof *labels.items);
    PS_TRY(otlp_set(&labels, &t->point, PS_STR(MDL_METRIC_NAME), name));
    if (extra.name.len > 0)
        PS_TRY(otlp_set(&labels, &t->point, extra.name, extra.value));
    wire_sample sample = {.t_ms = head->t_ms,
                          .start_ms = head->start_ms,
                          .value = head->stale ? ps_double_of(MDL_STALE_NAN_BITS) : value};
    wire_v2_write(t->out, &(wire_v2_item){.labels = {labels.items, labels.n},
                                          .samples = &sample,
                                          .n_samples = 1,
                                          .exemplars = exemplars,
                                          .n_exemplars = n_exemplars,
                                          .metadata = &t->metadata});
    return PS_OK;
}

static const mdl_label no_label;

/* ---- numbers -------------------------------------------------------------------------------------- */

ps_status
otlp_number_point(translation *t, ps_str point, bool with_exemplars)
{
    pb_reader r = pb_reader_of(point, &t->bad);
    point_head head;
    wire_exemplar *exemplars = NULL;
    size_t n_exemplars = 0;
    bool has_value = false;
    double value = 0;
    pb_field f;

    while (otlp_pb_next(&r, &f)) {
        if (otlp_pb_is(&r, &f, 4, PB_FIXED64)) {
            has_value = true;
            value = ps_double_of(f.value);
        } else if (otlp_pb_is(&r, &f, 6, PB_FIXED64)) {
            has_value = true;
            value = (double)(int64_t)f.value;
        }
    }
    if (!otlp_point_head(t, point, 7, 8, &head))
        return t->failed;
    if (!has_value && !head.stale) {
        otlp_refuse(t, 1, "a data point has no value");
        return PS_OK;
    }
    if (with_exemplars)
        PS_TRY(otlp_exemplars(t, point, 5, head.t_ms, &exemplars, &n_exemplars));
    return otlp_write_sample(t, &head, "", no_label, value, exemplars, n_exemplars);
}

/* ---- summaries ------------------------------------------------------------------------------------ */

static ps_status
number_label(translation *t, const char *name, double v, mdl_label *ret)
{
    char *text = ps_arena_new(&t->point, PS_DOUBLE_PLAIN_TEXT);

    if (text == NULL)
        return PS_ENOMEM;
    *ret = (mdl_label){.name = ps_str_c(name), .value = {text, ps_format_double_plain(text, v)}};
    return PS_OK;
}

static ps_status
quantile(translation *t, const point_head *head, ps_str message)
{
    pb_reader r = pb_reader_of(message, &t->bad);
    double q = 0, value = 0;
    mdl_label label;
    pb_field f;

    while (otlp_pb_next(&r, &f)) {
        if (otlp_pb_is(&r, &f, 1, PB_FIXED64))
            q = ps_double_of(f.value);
        else if (otlp_pb_is(&r, &f, 2, PB_FIXED64))
            value = ps_double_of(f.value);
    }
    PS_TRY(number_label(t, "quantile", q, &label));
    return otlp_write_sample(t, head, "", label, value, NULL, 0);
}

ps_status
otlp_summary_point(translation *t, ps_str point)
{
    pb_reader r = pb_reader_of(point, &t->bad);
    point_head head;
    double count = 0, sum = 0;
    pb_field f;

    if (!otlp_point_head(t, point, 7, 8, &head))
        return t->failed;
    while (otlp_pb_next(&r, &f)) {
        if (otlp_pb_is(&r, &f, 4, PB_FIXED64))
            count = (double)f.value;
        else if (otlp_pb_is(&r, &f, 5, PB_FIXED64))
            sum = ps_double_of(f.value);
    }
    PS_TRY(otlp_write_sample(t, &head, "_sum", no_label, sum, NULL, 0));
    PS_TRY(otlp_write_sample(t, &head, "_count", no_label, count, NULL, 0));
    r = pb_reader_of(point, &t->bad);
    while (otlp_pb_next(&r, &f))
        if (otlp_pb_is(&r, &f, 6, PB_BYTES))
            PS_TRY(quantile(t, &head, f.bytes));
    return PS_OK;
}

/* ---- histograms with bounds ----------------------------------------------------------------------- */

typedef struct classic {
    uint64_t *counts, *bounds; /* bounds: bits of doubles */
    size_t n_counts, n_bounds;
    wire_exemplar *exemplars;
    size_t n_exemplars, next_exemplar;
} classic;

/* Exemplars of a bucket: those up to its bound, in the order that was sent. */
static ps_status
bucket(translation *t, const point_head *head, classic *h, double bound, double cumulative)
{
    size_t first = h->next_exemplar;
    mdl_label le;

    while (h->next_exemplar < h->n_exemplars && !(h->exemplars[h->next_exemplar].value > bound))
        h->next_exemplar++;
    PS_TRY(number_label(t, "le", bound, &le));
    return otlp_write_sample(t, head, "_bucket", le, cumulative, h->exemplars + first,
                             h->next_exemplar - first);
}

static ps_status
buckets(translation *t, const point_head *head, classic *h, uint64_t count)
{
    static const mdl_label infinite = {.name = {"le", 2}, .value = {"+Inf", 4}};
    uint64_t cumulative = 0;

    for (size_t i = 0; i < h->n_bounds && i < h->n_counts; i++) {
        cumulative += h->counts[i];
        PS_TRY(bucket(t, head, h, ps_double_of(h->bounds[i]), (double)cumulative));
    }
    return otlp_write_sample(t, head, "_bucket", infinite, (double)count,
                             h->exemplars + h->next_exemplar, h->n_exemplars - h->next_exemplar);
}

ps_status
otlp_classic_point(translation *t, ps_str point)
{
    pb_reader r = pb_reader_of(point, &t->bad);
    point_head head;
    classic h = {0};
    bool has_sum = false;
    uint64_t count = 0;
    double sum = 0;
    pb_field f;

    if (!otlp_point_head(t, point, 9, 10, &head))
        return t->failed;
    while (otlp_pb_next(&r, &f)) {
        if (otlp_pb_is(&r, &f, 4, PB_FIXED64)) {
            count = f.value;
        } else if (otlp_pb_is(&r, &f, 5, PB_FIXED64)) {
            has_sum = true;
            sum = ps_double_of(f.value);
        }
    }
    PS_TRY(otlp_pb_numbers(point, 6, true, &t->bad, &t->point, &h.counts, &h.n_counts));
    PS_TRY(otlp_pb_numbers(point, 7, true, &t->bad, &t->point, &h.bounds, &h.n_bounds));
    PS_TRY(otlp_exemplars(t, point, 8, head.t_ms, &h.exemplars, &h.n_exemplars));
    if (t->bad != NULL)
        return PS_OK;
    if (has_sum)
        PS_TRY(otlp_write_sample(t, &head, "_sum", no_label, sum, NULL, 0));
    PS_TRY(otlp_write_sample(t, &head, "_count", no_label, (double)count, NULL, 0));
    return buckets(t, &head, &h, count);
}
