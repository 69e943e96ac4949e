/*
 * resource.c - what a resource and a scope say about all series below them: job and instance, promoted
 * attributes, the scope's labels, and the series target_info that holds the resource's other attributes.
 */
#include "lib/otlp/internal.h"

static const ps_str identifying[] = {
    {"service.namespace", 17}, {"service.name", 12}, {"service.instance.id", 19}};

static bool
find(const attributes *a, ps_str key, ps_str *ret)
{
    for (size_t i = 0; i < a->n; i++)
        if (ps_str_eq(a->items[i].name, key)) {
            *ret = a->items[i].value;
            return true;
        }
    return false;
}

static bool
is_promoted(const otlp_settings *set, ps_str key)
{
    for (size_t i = 0; i < set->n_resource_attributes; i++)
        if (ps_str_eq(set->resource_attributes[i], key))
            return !set->promote_all_resource_attributes;
    return set->promote_all_resource_attributes;
}

static ps_status
job_and_instance(translation *t, resource_labels *r)
{
    ps_str name, space;

    if (find(&r->all, identifying[1], &name)) {
        r->job = name;
        if (find(&r->all, identifying[0], &space)) {
            char *text = ps_arena_new(&t->resource, space.len + 1 + name.len);
            if (text == NULL)
                return PS_ENOMEM;
            memcpy(text, space.ptr, space.len);
            text[space.len] = '/';
            memcpy(text + space.len + 1, name.ptr, name.len);
            r->job = (ps_str){text, space.len + 1 + name.len};
        }
    }
    (void)find(&r->all, identifying[2], &r->instance);
    return PS_OK;
}

ps_status
otlp_begin_resource(translation *t, ps_str resource)
{
    resource_labels *r = &t->of_resource;

    ps_arena_reset(&t->resource);
    *r = (resource_labels){.earliest_ns = UINT64_MAX};
    PS_TRY(otlp_attributes(resource, 1, &t->resource, &t->bad, &r->all));
    PS_TRY(job_and_instance(t, r));
    for (size_t i = 0; i < r->all.n; i++) {
        ps_str name;
        if (!is_promoted(t->set, r->all.items[i].name))
            continue;
        PS_TRY(otlp_label_name(t->set, &t->resource, r->all.items[i].name, &name));
        if (name.len > 0)
            PS_TRY(otlp_set(&r->promoted, &t->resource, name, r->all.items[i].value));
    }
    return PS_OK;
}

/* ---- scope ---------------------------------------------------------------------------------------- */

static ps_status
scope_attributes(translation *t, ps_str scope)
{
    attributes a;

    PS_TRY(otlp_attributes(scope, 3, &t->scope, &t->bad, &a));
    for (size_t i = 0; i < a.n; i++) {
        ps_str name = a.items[i].name;
        char *text = ps_arena_new(&t->scope, sizeof "otel_scope_" + name.len);
        if (text == NULL)
            return PS_ENOMEM;
        memcpy(text, "otel_scope_", 11);
        memcpy(text + 11, name.ptr, name.len);
        PS_TRY(otlp_label_name(t->set, &t->scope, (ps_str){text, 11 + name.len}, &name));
        PS_TRY(otlp_set(&t->of_scope, &t->scope, name, a.items[i].value));
    }
    return PS_OK;
}

ps_status
otlp_begin_scope(translation *t, ps_str scope, ps_str schema_url)
{
    ps_str name = otlp_pb_find(scope, 1, &t->bad);

    ps_arena_reset(&t->scope);
    t->of_scope = (label_set){0};
    if (!t->set->promote_scope_metadata || name.len == 0)
        return PS_OK;
    PS_TRY(scope_attributes(t, scope));
    PS_TRY(otlp_set(&t->of_scope, &t->scope, PS_STR("otel_scope_name"), name));
    PS_TRY(otlp_set(&t->of_scope, &t->scope, PS_STR("otel_scope_version"),
                    otlp_pb_find(scope, 2, &t->bad)));
    return otlp_set(&t->of_scope, &t->scope, PS_STR("otel_scope_schema_url"), schema_url);
}

/* ---- target_info ---------------------------------------------------------------------------------- */

/*
 * From the resource's earliest data point to its latest, often enough for an instant selector to find it,
 * and at the latest itself. Data points that are far apart do not make more of it than a limit.
 */
static void
write_target_info(translation *t, mdl_labels labels)
{
    static const wire_metadata metadata = {.type = WIRE_METRIC_GAUGE,
                                           .family = {"target_info", 11},
                                           .help = {"Target metadata", 15}};
    int64_t lookback = t->set->lookback_ms > 1 ? t->set->lookback_ms : 300000;
    uint64_t step = (uint64_t)lookback / 2 * 1000000, latest = t->of_resource.latest_ns;
    uint64_t at = t->of_resource.earliest_ns;

    if ((latest - at) / step >= OTLP_MAX_TARGET_INFO)
        at = latest - OTLP_MAX_TARGET_INFO * step;
    for (bool last = false; !last; at += step) {
        last = at >= latest || latest - at > latest; /* the second: no wrap */
        wire_sample sample = {.t_ms = (int64_t)((last ? latest : at) / 1000000), .value = 1};
        wire_v2_write(t->out, &(wire_v2_item){.labels = labels,
                                              .samples = &sample,
                                              .n_samples = 1,
                                              .metadata = &metadata});
    }
}

ps_status
otlp_end_resource(translation *t)
{
    const resource_labels *r = &t->of_resource;
    size_t described = r->all.n, n_ignored = PS_ARRAY_LEN(identifying);
    label_set labels;
    const char *why;
    ps_str value;

    if (r->earliest_ns > r->latest_ns)
        return PS_OK;
    for (size_t i = 0; i < PS_ARRAY_LEN(identifying); i++)
        described -= find(&r->all, identifying[i], &value);
    if (described == 0)
        return PS_OK;
    if (t->set->keep_identifying_resource_attributes)
        n_ignored = 0;
    ps_arena_reset(&t->point);
    PS_TRY(otlp_labels(t, &r->all, identifying, n_ignored, true, &labels, &why));
    t->name_as_sent = PS_STR("target_info");
    if (why != NULL) {
        otlp_refuse(t, 0, why);
        return PS_OK;
    }
    if (otlp_get(&labels, PS_STR("job")).len == 0 && otlp_get(&labels, PS_STR("instance")).len == 0)
        return PS_OK;
    PS_TRY(otlp_set(&labels, &t->point, PS_STR(MDL_METRIC_NAME), PS_STR("target_info")));
    write_target_info(t, (mdl_labels){labels.items, labels.n});
    return PS_OK;
}
