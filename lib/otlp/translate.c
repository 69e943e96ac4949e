/*
 * translate.c - the walk: request -> resources -> scopes -> metrics -> data points.
 *
 * Fields may come in any order, so each message is looked through for what stands for itself before its
 * repeated parts are walked. What is wrong with a metric or a data point is told and left out; bytes
 * that are no protobuf end the walk (protobuf.c).
 */
#include "lib/otlp/internal.h"

enum { ARENA_BUDGET = 64 << 20 };

typedef enum data_kind { /* the field of Metric that holds the data points */
    DATA_NONE = 0,
    DATA_GAUGE = 5,
    DATA_SUM = 7,
    DATA_HISTOGRAM = 9,
    DATA_EXPONENTIAL = 10,
    DATA_SUMMARY = 11
} data_kind;

typedef struct metric {
    ps_str name, help, unit, data;
    data_kind kind;
    uint64_t temporality; /* 1 delta, 2 cumulative */
    bool monotonic;
    int64_t n_points;
} metric;

void
otlp_refuse(const translation *t, int64_t n_points, const char *why)
{
    t->refusals->refused(t->refusals->self, t->name_as_sent, n_points, why);
}

/* ---- a metric ------------------------------------------------------------------------------------- */

static void
read_data(translation *t, metric *m)
{
    pb_reader r = pb_reader_of(m->data, &t->bad);
    pb_field f;

    while (otlp_pb_next(&r, &f)) {
        if (otlp_pb_is(&r, &f, 1, PB_BYTES))
            m->n_points++;
        else if (m->kind != DATA_GAUGE && m->kind != DATA_SUMMARY &&
                 otlp_pb_is(&r, &f, 2, PB_VARINT))
            m->temporality = f.value;
        else if (m->kind == DATA_SUM && otlp_pb_is(&r, &f, 3, PB_VARINT))
            m->monotonic = f.value != 0;
    }
}

static metric
read_metric(translation *t, ps_str message)
{
    static const ps_str none = {"", 0};
    pb_reader r = pb_reader_of(message, &t->bad);
    metric m = {.name = none, .help = none, .unit = none, .data = none};
    pb_field f;

    while (otlp_pb_next(&r, &f)) {
        bool data = f.number == DATA_GAUGE || f.number == DATA_SUM || f.number == DATA_HISTOGRAM ||
                    f.number == DATA_EXPONENTIAL || f.number == DATA_SUMMARY;
        if (otlp_pb_is(&r, &f, 1, PB_BYTES)) {
            m.name = f.bytes;
        } else if (otlp_pb_is(&r, &f, 2, PB_BYTES)) {
            m.help = f.bytes;
        } else if (otlp_pb_is(&r, &f, 3, PB_BYTES)) {
            m.unit = f.bytes;
        } else if (data && otlp_pb_is(&r, &f, f.number, PB_BYTES)) {
            m.kind = (data_kind)f.number;
            m.data = f.bytes;
        }
    }
    read_data(t, &m);
    return m;
}

static wire_metric_type
type_of(const metric *m)
{
    if (m->temporality == 1 && m->kind != DATA_GAUGE && m->kind != DATA_SUMMARY)
        return WIRE_METRIC_UNKNOWN; /* there is no type for what is not cumulative */
    switch (m->kind) {
    case DATA_GAUGE:
        return WIRE_METRIC_GAUGE;
    case DATA_SUM:
        return m->monotonic ? WIRE_METRIC_COUNTER : WIRE_METRIC_GAUGE;
    case DATA_SUMMARY:
        return WIRE_METRIC_SUMMARY;
    case DATA_HISTOGRAM:
    case DATA_EXPONENTIAL:
        return WIRE_METRIC_HISTOGRAM;
    default:
        return WIRE_METRIC_UNKNOWN;
    }
}

/* Why a metric cannot be stored at all; NULL if it can. Sets the name. */
static ps_status
begin_metric(translation *t, const metric *m, const char **ret_why)
{
    metric_kind kind = m->kind == DATA_GAUGE ? KIND_GAUGE
                       : m->kind != DATA_SUM ? KIND_OTHER
                       : m->monotonic        ? KIND_COUNTER
                                             : KIND_SUM;
    bool summed = m->kind != DATA_GAUGE && m->kind != DATA_SUMMARY;

    *ret_why = NULL;
    t->name_as_sent = m->name;
    t->delta = summed && m->temporality == 1;
    if (m->kind == DATA_NONE)
        *ret_why = "a metric of no known kind";
    else if (t->delta && !t->set->delta_as_is)
        *ret_why = "delta temporality is not taken: send cumulative, or set otlp.delta=as-is";
    else if (summed && m->temporality != 1 && m->temporality != 2)
        *ret_why = "a metric without temporality";
    if (*ret_why != NULL)
        return PS_OK;
    PS_TRY(otlp_metric_name(t->set, &t->metric, m->name, m->unit, kind, &t->name));
    if (t->name.len == 0)
        *ret_why = "the name makes no metric name";
    t->metadata = (wire_metadata){.type = type_of(m), .family = t->name, .help = m->help};
    return otlp_unit_name(&t->metric, m->unit, &t->metadata.unit);
}

static ps_status
data_point(translation *t, data_kind kind, ps_str point)
{
    switch (kind) {
    case DATA_GAUGE:
    case DATA_SUM:
        return otlp_number_point(t, point, kind == DATA_SUM);
    case DATA_HISTOGRAM:
        return t->set->convert_histograms_to_nhcb ? otlp_custom_point(t, point)
                                                  : otlp_classic_point(t, point);
    case DATA_EXPONENTIAL:
        return otlp_exponential_point(t, point);
    default:
        return otlp_summary_point(t, point);
    }
}

static ps_status
translate_metric(translation *t, ps_str message)
{
    metric m = read_metric(t, message);
    const char *why;
    pb_field f;

    ps_arena_reset(&t->metric);
    if (t->bad != NULL)
        return PS_OK;
    PS_TRY(begin_metric(t, &m, &why));
    if (why != NULL) {
        otlp_refuse(t, m.n_points, why);
        return PS_OK;
    }
    pb_reader r = pb_reader_of(m.data, &t->bad);
    while (otlp_pb_next(&r, &f))
        if (otlp_pb_is(&r, &f, 1, PB_BYTES))
            PS_TRY(data_point(t, m.kind, f.bytes));
    return PS_OK;
}

/* ---- what is around it ---------------------------------------------------------------------------- */

static ps_status
translate_scope(translation *t, ps_str message)
{
    pb_reader r = pb_reader_of(message, &t->bad);
    pb_field f;

    PS_TRY(otlp_begin_scope(t, otlp_pb_find(message, 1, &t->bad),
                            otlp_pb_find(message, 3, &t->bad)));
    while (otlp_pb_next(&r, &f))
        if (otlp_pb_is(&r, &f, 2, PB_BYTES))
            PS_TRY(translate_metric(t, f.bytes));
    return PS_OK;
}

static ps_status
translate_resource(translation *t, ps_str message)
{
    pb_reader r = pb_reader_of(message, &t->bad);
    pb_field f;

    PS_TRY(otlp_begin_resource(t, otlp_pb_find(message, 1, &t->bad)));
    while (otlp_pb_next(&r, &f))
        if (otlp_pb_is(&r, &f, 2, PB_BYTES))
            PS_TRY(translate_scope(t, f.bytes));
    return t->bad == NULL ? otlp_end_resource(t) : PS_OK;
}

static ps_status
translate_request(translation *t, ps_str message)
{
    pb_reader r = pb_reader_of(message, &t->bad);
    pb_field f;

    while (otlp_pb_next(&r, &f))
        if (otlp_pb_is(&r, &f, 1, PB_BYTES))
            PS_TRY(translate_resource(t, f.bytes));
    return PS_OK;
}

ps_status
otlp_translate(ps_str message, const otlp_settings *settings, const ps_alloc *alloc,
               wire_v2_writer *out, const otlp_refusals *refusals, ps_err *err)
{
    translation t = {.message = message, .set = settings, .out = out, .refusals = refusals};
    ps_arena *const arenas[] = {&t.resource, &t.scope, &t.metric, &t.point};

    for (size_t i = 0; i < PS_ARRAY_LEN(arenas); i++)
        ps_arena_init(arenas[i], alloc, ARENA_BUDGET);
    ps_status st = translate_request(&t, message);
    for (size_t i = 0; i < PS_ARRAY_LEN(arenas); i++)
        ps_arena_done(arenas[i]);
    if (st == PS_ENOMEM)
        return ps_fail(err, st, "no memory for a translation");
    if (st == PS_ELIMIT)
        return ps_fail(err, st, "more than %d attributes in one place, or values nested deeper than %d",
                       OTLP_MAX_ATTRIBUTES, OTLP_MAX_DEPTH);
    if (st == PS_OK && t.bad != NULL)
        return ps_fail_at(err, PS_ECORRUPT, (size_t)(t.bad - message.ptr),
                          "byte %zu: not an ExportMetricsServiceRequest",
                          (size_t)(t.bad - message.ptr));
    return st;
}
