/*
 * value.c - text of one setting to its field, with an error that names the source and what is accepted;
 * and the bookkeeping of texts per source.
 */
#include "connector/config/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

void
setting_source_done(setting_source *src)
{
    for (size_t i = 0; i < settings_count; i++) {
        free(src->text[i]);
        src->text[i] = NULL;
    }
}

ps_status
setting_source_put(setting_source *src, int index, ps_str text, unsigned line, ps_err *err)
{
    const setting *def = &settings_table[index];

    if (src->text[index] != NULL && src->origin == ORIGIN_FILE)
        return ps_fail(err, PS_EINVAL, "%s:%u: %s is set a second time (first in line %u)",
                       src->file, line, def->name, src->line[index]);
    if (memchr(text.ptr ? text.ptr : "", 0, text.len) != NULL)
        return ps_fail(err, PS_EINVAL, "%s: the value contains a NUL byte", def->name);
    char *copy = malloc(text.len + 1);
    if (copy == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory for settings");
    if (text.len > 0)
        memcpy(copy, text.ptr, text.len);
    copy[text.len] = 0;
    free(src->text[index]);
    src->text[index] = copy;
    src->line[index] = line;
    return PS_OK;
}

void
setting_origin_name(const setting_source *src, int index, char *dst, size_t cap)
{
    const setting *def = &settings_table[index];

    switch (src->origin) {
    case ORIGIN_FLAG:
        snprintf(dst, cap, "--%s", def->name);
        break;
    case ORIGIN_ENV:
        setting_env_name(def, dst, cap);
        break;
    case ORIGIN_FILE:
        snprintf(dst, cap, "%s (%s:%u)", def->name, src->file, src->line[index]);
        break;
    case ORIGIN_DEFAULT:
        snprintf(dst, cap, "%s (default)", def->name);
        break;
    }
}

static ps_status
parse_bool(const char *text, bool *ret)
{
    static const char *const yes[] = {"true", "t", "yes", "on", "1"};
    static const char *const no[] = {"false", "f", "no", "off", "0"};

    for (size_t i = 0; i < PS_ARRAY_LEN(yes); i++) {
        if (ps_str_eq_nocase(ps_str_c(text), ps_str_c(yes[i]))) {
            *ret = true;
            return PS_OK;
        }
        if (ps_str_eq_nocase(ps_str_c(text), ps_str_c(no[i]))) {
            *ret = false;
            return PS_OK;
        }
    }
    return PS_EINVAL;
}

static bool
is_choice(const char *choices, const char *text)
{
    size_t len = strlen(text);

    for (const char *p = choices; len > 0 && p != NULL; p = strchr(p, '|'), p = p ? p + 1 : NULL) {
        if (strncmp(p, text, len) == 0 && (p[len] == '|' || p[len] == 0))
            return true;
    }
    return false;
}

/* Numbers in the unit in which a user writes them, for messages. */
static void
format_number(setting_kind kind, int64_t v, char *dst, size_t cap)
{
    static const char *const units[] = {"", "KB", "MB", "GB", "TB"};
    size_t u = 0;

    if (kind == SETTING_DURATION) {
        ps_format_duration(dst, cap, v);
        return;
    }
    while (kind == SETTING_SIZE && v >= 1024 && v % 1024 == 0 && u + 1 < PS_ARRAY_LEN(units)) {
        v /= 1024;
        u++;
    }
    snprintf(dst, cap, "%" PRId64 "%s", v, units[u]);
}

static ps_status
assign_number(int64_t *field, const setting *def, const char *text, const char *who, ps_err *err)
{
    static const char *const what[] = {[SETTING_INT] = "a whole number",
                                       [SETTING_SIZE] = "a size (like 64KB, 128MB, 1GB)",
                                       [SETTING_DURATION] =
                                           "a duration (like 500ms, 15s, 5m, 1h30m, 90d)"};
    int64_t v = 0;
    ps_status st = def->kind == SETTING_INT    ? ps_parse_i64(ps_str_c(text), &v)
                   : def->kind == SETTING_SIZE ? ps_parse_size(ps_str_c(text), &v)
                                               : ps_parse_duration(ps_str_c(text), &v);

    if (st != PS_OK && def->kind == SETTING_DURATION && strcmp(text, "0") == 0)
        st = PS_OK; /* zero needs no unit */
    if (st != PS_OK)
        return ps_fail(err, PS_EINVAL, "%s: \"%.64s\" is not %s", who, text, what[def->kind]);
    if (v < def->min || v > def->max) {
        char lo[32], hi[32];
        format_number(def->kind, def->min, lo, sizeof(lo));
        format_number(def->kind, def->max, hi, sizeof(hi));
        return ps_fail(err, PS_EINVAL, "%s: %.64s is out of range (%s to %s)", who, text, lo, hi);
    }
    *field = v;
    return PS_OK;
}

ps_status
setting_assign(settings *s, int index, const char *text, const char *who, ps_err *err)
{
    const setting *def = &settings_table[index];
    void *field = (char *)s + def->offset;

    switch (def->kind) {
    case SETTING_BOOL:
        if (parse_bool(text, field) != PS_OK)
            return ps_fail(err, PS_EINVAL, "%s: \"%.64s\" is neither true nor false", who, text);
        return PS_OK;
    case SETTING_INT:
    case SETTING_SIZE:
    case SETTING_DURATION:
        return assign_number(field, def, text, who, err);
    case SETTING_CHOICE:
        if (!is_choice(def->choices, text))
            return ps_fail(err, PS_EINVAL, "%s: \"%.64s\" is not one of %s", who, text,
                           def->choices);
        break;
    case SETTING_STRING:
        break;
    }
    char *copy = strdup(text);
    if (copy == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory for settings");
    const char **str = field;
    free((void *)*str);
    *str = copy;
    return PS_OK;
}
