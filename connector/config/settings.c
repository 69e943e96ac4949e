/*
 * settings.c - flags, environment, file and defaults into one immutable struct.
 *
 * Each source is read into texts first (a source may name the file that is another source), then
 * applied from the weakest to the strongest. A wrong value is an error even where a stronger source
 * overrides it: it would bite the day that override goes.
 */
#include "connector/config/settings.h"

#include <stdio.h>
#include <stdlib.h>

#include "connector/config/table.h"
#include "lib/otlp/otlp.h"

static ps_status
apply(settings *s, const setting_source *src, ps_err *err)
{
    for (size_t i = 0; i < settings_count; i++) {
        char who[160];
        if (src->text[i] == NULL)
            continue;
        setting_origin_name(src, (int)i, who, sizeof(who));
        PS_TRY(setting_assign(s, (int)i, src->text[i], who, err));
    }
    return PS_OK;
}

static ps_status
apply_defaults(settings *s, ps_err *err)
{
    for (size_t i = 0; i < settings_count; i++)
        PS_TRY(setting_assign(s, (int)i, settings_table[i].def, settings_table[i].name, err));
    return PS_OK;
}

/* Who gave this setting, strongest first: "--db.host"; false if nobody did. */
static bool
given(const setting_source *sources, size_t n, const char *name, char *who, size_t cap)
{
    int index = setting_find(ps_str_c(name));

    for (size_t i = n; i-- > 0;) {
        if (index >= 0 && sources[i].text[index] != NULL && sources[i].text[index][0] != 0) {
            setting_origin_name(&sources[i], index, who, cap);
            return true;
        }
    }
    return false;
}

/* Which database: the embedded one, a URI, or single db.* settings; two at once is a mistake. */
static ps_status
choose_database(settings *s, const setting_source *sources, size_t n, ps_err *err)
{
    static const char *const parts[] = {"db.host",     "db.port", "db.user",
                                        "db.password", "db.name", "db.ssl-mode"};
    char uri[160], part[160], dir[160], app[160];
    bool has_uri = given(sources, n, "db.uri", uri, sizeof(uri));
    bool has_part = false;

    for (size_t i = 0; i < PS_ARRAY_LEN(parts) && !has_part; i++)
        has_part = given(sources, n, parts[i], part, sizeof(part));
    if (has_uri && !has_part && given(sources, n, "db.app", app, sizeof(app)))
        return ps_fail(err, PS_EINVAL,
                       "%.100s and %.100s exclude each other: put application_name into the URI",
                       uri, app);
    if (has_uri && has_part)
        return ps_fail(err, PS_EINVAL,
                       "%.100s and %.100s exclude each other: put it all into the URI", uri, part);
    s->db_is_external = has_uri || has_part;
    if (s->db_is_external && given(sources, n, "data-dir", dir, sizeof(dir)))
        return ps_fail(
            err, PS_EINVAL,
            "%.100s and %.100s exclude each other: data-dir is for the embedded PostgreSQL, db.* names "
            "your own",
            dir, has_uri ? uri : part);
    return PS_OK;
}

/* What Prometheus refuses in its configuration, too. */
static ps_status
check_otlp(const settings *s, ps_err *err)
{
    otlp_settings ignored;

    if (!otlp_strategy(ps_str_c(s->otlp_translation_strategy), &ignored))
        return ps_fail(err, PS_EINVAL, "otlp.translation-strategy: there is no \"%.64s\"",
                       s->otlp_translation_strategy);
    if (s->otlp_promote_all_resource_attributes && s->otlp_promote_resource_attributes[0])
        return ps_fail(err, PS_EINVAL,
                       "otlp.promote-all-resource-attributes and otlp.promote-resource-attributes "
                       "exclude each other");
    if (!s->otlp_promote_all_resource_attributes && s->otlp_ignore_resource_attributes[0])
        return ps_fail(err, PS_EINVAL,
                       "otlp.ignore-resource-attributes is for otlp.promote-all-resource-attributes");
    return PS_OK;
}

static ps_status
check(const settings *s, ps_err *err)
{
    PS_TRY(check_otlp(s, err));
    if (s->web_telemetry_path[0] != '/' || strpbrk(s->web_telemetry_path, "?#*% ") != NULL)
        return ps_fail(err, PS_EINVAL,
                       "web.telemetry-path: \"%.64s\" is not a plain path (like /metrics)",
                       s->web_telemetry_path);
    if (!s->db_is_external && s->data_dir[0] == 0)
        return ps_fail(err, PS_EINVAL,
                       "data-dir is empty: name a folder, or a database with db.uri");
    if (s->ingest_max_body_bytes > s->ingest_queue_bytes)
        return ps_fail(
            err, PS_EINVAL,
            "ingest.max-body-bytes is larger than ingest.queue-bytes: such a request could "
            "never be taken");
    return PS_OK;
}

static ps_status
load(settings *s, setting_source *sources, char *const *envp, ps_err *err)
{
    setting_source *file = &sources[0], *env = &sources[1], *flags = &sources[2];
    int config = setting_find(PS_STR("config"));

    PS_TRY(settings_read_env(envp, env, err));
    const char *path = flags->text[config] ? flags->text[config] : env->text[config];
    if (path != NULL && path[0])
        PS_TRY(settings_read_file(path, file, err));
    PS_TRY(apply_defaults(s, err));
    for (size_t i = 0; i < 3; i++)
        PS_TRY(apply(s, &sources[i], err));
    PS_TRY(choose_database(s, sources, 3, err));
    return check(s, err);
}

ps_status
settings_load(int argc, char *const *argv, char *const *envp, settings **ret,
              settings_outcome *ret_outcome, int *ret_rest, ps_err *err)
{
    setting_source sources[3] = {{.origin = ORIGIN_FILE},
                                 {.origin = ORIGIN_ENV},
                                 {.origin = ORIGIN_FLAG}};
    settings_request request = REQUEST_RUN;
    settings *s = calloc(1, sizeof(*s));
    int rest = argc;
    ps_status st = s ? PS_OK : ps_fail(err, PS_ENOMEM, "no memory for settings");

    if (st == PS_OK)
        st = settings_read_flags(argc, argv, &sources[2], &request, &rest, err);
    if (st == PS_OK && request == REQUEST_HELP)
        settings_print_help();
    else if (st == PS_OK && request == REQUEST_MARKDOWN)
        settings_print_markdown();
    else if (st == PS_OK && request == REQUEST_VERSION)
        printf("promscale %s\n", PROMSCALE_VERSION);
    else if (st == PS_OK)
        st = load(s, sources, envp, err);
    for (size_t i = 0; i < 3; i++)
        setting_source_done(&sources[i]);
    if (st != PS_OK || request != REQUEST_RUN) {
        settings_free(s);
        s = NULL;
    }
    if (st != PS_OK)
        return st;
    *ret = s;
    *ret_outcome = request == REQUEST_RUN ? SETTINGS_RUN : SETTINGS_PRINTED;
    *ret_rest = rest;
    return PS_OK;
}

void
settings_free(settings *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < settings_count; i++) {
        if (settings_table[i].kind == SETTING_STRING || settings_table[i].kind == SETTING_CHOICE)
            free((void *)*(const char **)((char *)s + settings_table[i].offset));
    }
    free(s);
}
