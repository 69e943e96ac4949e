/*
 * internal.h - what the files of lib/otlp share: protobuf fields, attributes, label sets, the names of
 * metrics, and the state of a translation.
 */
#ifndef PROMSCALE_OTLP_INTERNAL_H
#define PROMSCALE_OTLP_INTERNAL_H

#include "lib/otlp/otlp.h"

/* ---- protobuf.c ----------------------------------------------------------------------------------- */

typedef enum pb_type { PB_VARINT = 0, PB_FIXED64 = 1, PB_BYTES = 2, PB_FIXED32 = 5 } pb_type;

typedef struct pb_field {
    uint32_t number;
    pb_type type;
    uint64_t value; /* of all types but PB_BYTES */
    ps_str bytes;
} pb_field;

/*
 * Fields of a message one after the other. After the last one, or after something that is no field, next
 * is false; what was wrong is noted in *bad (one for all readers of a message: its address, or NULL),
 * to be looked at once, at the end of the walk.
 */
typedef struct pb_reader {
    const char *pos, *end;
    const char **bad;
} pb_reader;

static inline pb_reader
pb_reader_of(ps_str message, const char **bad)
{
    return (pb_reader){message.ptr, message.len > 0 ? message.ptr + message.len : message.ptr, bad};
}
bool otlp_pb_next(pb_reader *r, pb_field *ret);
/* Is it the field with this number? One with another type than this makes the message bad. */
bool otlp_pb_is(pb_reader *r, const pb_field *f, uint32_t number, pb_type type);
/* The last one of these bytes; empty if there is none. */
ps_str otlp_pb_find(ps_str message, uint32_t number, const char **bad);
/* Numbers of a repeated field, packed or not, fixed (8 bytes each) or varint. *ret in the arena. */
ps_status otlp_pb_numbers(ps_str message, uint32_t number, bool fixed, const char **bad,
                          ps_arena *arena, uint64_t **ret, size_t *ret_n) PS_MUST_CHECK;

static inline int64_t
pb_zigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

/* ---- label sets ----------------------------------------------------------------------------------- */

/* Labels as they are being made: in no order, names unique. Setting "" takes a label away. */
typedef struct label_set {
    mdl_label *items;
    size_t n, cap;
} label_set;

typedef struct attributes { /* sorted by key, in order of the message where keys are equal */
    mdl_label *items;
    size_t n;
} attributes;

/* ---- the state of a translation ------------------------------------------------------------------- */

typedef struct resource_labels {
    attributes all;
    ps_str job, instance; /* empty: none */
    bool has_job, has_instance;
    label_set promoted;
    uint64_t earliest_ns, latest_ns; /* of its data points; earliest > latest: there was none */
} resource_labels;

typedef struct translation {
    ps_str message;
    const otlp_settings *set;
    wire_v2_writer *out;
    const otlp_refusals *refusals;
    const char *bad;
    ps_status failed;  /* of memory or depth, where no status can be returned */
    ps_arena resource; /* lives while a resource's metrics are read */
    ps_arena scope;
    ps_arena metric;
    ps_arena point;
    resource_labels of_resource;
    label_set of_scope;
    /* the metric that is being read */
    ps_str name_as_sent, name;
    wire_metadata metadata;
    bool delta;
} translation;

void otlp_refuse(const translation *t, int64_t n_points, const char *why);

/* ---- value.c -------------------------------------------------------------------------------------- */

/* An AnyValue as text: strings as they are, numbers, JSON for what is nested, base64 for bytes. */
ps_status otlp_value_text(ps_str value, ps_arena *arena, const char **bad,
                          ps_str *ret) PS_MUST_CHECK;

/* ---- attributes.c --------------------------------------------------------------------------------- */

/* KeyValues of this field of a message, sorted. PS_ELIMIT: too many of them. */
ps_status otlp_attributes(ps_str message, uint32_t number, ps_arena *arena, const char **bad,
                          attributes *ret) PS_MUST_CHECK;
ps_str otlp_get(const label_set *set, ps_str name);
/* PS_ENOMEM. */
ps_status otlp_set(label_set *set, ps_arena *arena, ps_str name, ps_str value) PS_MUST_CHECK;
void otlp_sort(mdl_label *labels, mdl_label *scratch, size_t n);
/*
 * The labels of attributes (but for `ignored`), of those that the resource promotes (unless own), its job
 * and instance, and the scope's. *ret_why: they cannot be labels; why (then PS_OK is returned).
 */
ps_status otlp_labels(translation *t, const attributes *a, const ps_str *ignored, size_t n_ignored,
                      bool own, label_set *ret, const char **ret_why) PS_MUST_CHECK;

/* ---- names.c -------------------------------------------------------------------------------------- */

typedef enum metric_kind { KIND_GAUGE, KIND_SUM, KIND_COUNTER, KIND_OTHER } metric_kind;

/* Each *ret in the arena; empty: there is no such name that could be used. PS_ENOMEM. */
ps_status otlp_metric_name(const otlp_settings *set, ps_arena *arena, ps_str name, ps_str unit,
                           metric_kind kind, ps_str *ret) PS_MUST_CHECK;
ps_status otlp_unit_name(ps_arena *arena, ps_str unit, ps_str *ret) PS_MUST_CHECK;
ps_status otlp_label_name(const otlp_settings *set, ps_arena *arena, ps_str name,
                          ps_str *ret) PS_MUST_CHECK;

/* ---- resource.c ----------------------------------------------------------------------------------- */

ps_status otlp_begin_resource(translation *t, ps_str resource) PS_MUST_CHECK;
ps_status otlp_begin_scope(translation *t, ps_str scope, ps_str schema_url) PS_MUST_CHECK;
/* target_info, if there is something to be told of the resource. */
ps_status otlp_end_resource(translation *t) PS_MUST_CHECK;

/* ---- points.c, histograms.c, exemplars.c: one data point each ------------------------------------- */

typedef struct point_head { /* what all kinds have in common */
    label_set labels;       /* without a name */
    int64_t t_ms, start_ms;
    bool stale; /* "no recorded value" */
} point_head;

/* false: refused, or a failure (t->failed). */
bool otlp_point_head(translation *t, ps_str point, uint32_t attributes_field, uint32_t flags_field,
                     point_head *ret);
/* A series with the suffix, and a label more if extra has a name. */
ps_status otlp_write_sample(translation *t, const point_head *head, const char *suffix,
                            mdl_label extra, double value, const wire_exemplar *exemplars,
                            size_t n_exemplars) PS_MUST_CHECK;
ps_status otlp_number_point(translation *t, ps_str point, bool with_exemplars) PS_MUST_CHECK;
ps_status otlp_summary_point(translation *t, ps_str point) PS_MUST_CHECK;
ps_status otlp_classic_point(translation *t, ps_str point) PS_MUST_CHECK;
ps_status otlp_custom_point(translation *t, ps_str point) PS_MUST_CHECK;
ps_status otlp_exponential_point(translation *t, ps_str point) PS_MUST_CHECK;
ps_status otlp_exemplars(translation *t, ps_str point, uint32_t number, int64_t t_ms,
                         wire_exemplar **ret, size_t *ret_n) PS_MUST_CHECK;

#endif
