/*
 * features.c - /api/v1/features: what may be asked of this program, by name, so that clients need not
 * conclude it from a version. Names and groups as Prometheus has them; promscale's own stand in a group of
 * their own.
 */
#include "connector/info/internal.h"

typedef struct feature {
    const char *name;
    bool on;
} feature;

static void
add_group(ps_buf *out, const char *group, const feature *list, size_t n)
{
    info_key(out, group);
    ps_buf_add_char(out, '{');
    for (size_t i = 0; i < n; i++) {
        info_key(out, list[i].name);
        ps_buf_add_c(out, list[i].on ? "true" : "false");
    }
    ps_buf_add_char(out, '}');
}

/* Is it a word of enable-feature? */
static bool
enabled(const settings *s, const char *name)
{
    ps_str rest = ps_str_c(s->enable_feature);

    while (rest.len > 0) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        size_t len = comma ? (size_t)(comma - rest.ptr) : rest.len;
        if (ps_str_eq_c(ps_str_trim((ps_str){rest.ptr, len}), name))
            return true;
        len += comma != NULL;
        rest = (ps_str){rest.ptr + len, rest.len - len};
    }
    return false;
}

static void
add_language(ps_buf *out, const info *in)
{
    const settings *s = in->settings;
    const feature list[] = {
        {"anchored", in->language->extended_range},
        {"at_modifier", true},
        {"bool", true},
        {"by", true},
        {"delayed_name_removal", enabled(s, "promql-delayed-name-removal")},
        {"duration_expr", true},
        {"fill", in->language->fill},
        {"fill_left", in->language->fill},
        {"fill_right", in->language->fill},
        {"group_left", true},
        {"group_right", true},
        {"ignoring", true},
        {"negative_offset", true},
        {"offset", true},
        {"on", true},
        {"per_query_lookback_delta", true},
        {"per_step_stats", enabled(s, "promql-per-step-stats")},
        {"smoothed", in->language->extended_range},
        {"subqueries", true},
        {"type_and_unit_labels", enabled(s, "type-and-unit-labels")},
        {"without", true},
    };

    add_group(out, "promql", list, PS_ARRAY_LEN(list));
    info_key(out, "promql_functions");
    ps_buf_add_char(out, '{');
    for (int i = 0; i < PQL_FN_COUNT; i++) {
        const pql_function *fn = pql_function_of((pql_fn)i);
        info_key(out, fn->name);
        ps_buf_add_c(out,
                     !fn->experimental || in->language->experimental_functions ? "true" : "false");
    }
    ps_buf_add_char(out, '}');
}

void
info_features(api_job *job, void *self)
{
    const info *in = self;
    const feature asked[] = {
        {"admin", in->settings->web_enable_admin_api},
        {"exclude_alerts", true},
        {"label_values_match", true},
        {"otlp_write_receiver", in->settings->web_enable_otlp_receiver},
        {"query_stats", true},
        {"query_warnings", true},
        {"remote_write_receiver", true},
        {"time_range_labels", true},
        {"time_range_series", true},
    };
    const feature own[] = {{"sql", true}};
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    ps_buf_add_char(&out, '{');
    add_group(&out, "api", asked, PS_ARRAY_LEN(asked));
    add_language(&out, in);
    add_group(&out, "promscale", own, PS_ARRAY_LEN(own));
    ps_buf_add_char(&out, '}');
    api_answer(job, &out, NULL, 0);
    ps_buf_done(&out);
}
