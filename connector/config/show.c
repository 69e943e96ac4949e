/*
 * show.c - settings as texts for those who ask over HTTP. What holds or may hold a password is not told.
 */
#include <inttypes.h>

#include "connector/config/table.h"

static bool
is_secret(const setting *def)
{
    return strcmp(def->name, "db.password") == 0 || strcmp(def->name, "db.uri") == 0;
}

static void
show_number(ps_buf *out, setting_kind kind, int64_t v)
{
    static const char *const units[] = {"", "KB", "MB", "GB", "TB"};
    char text[32];
    size_t u = 0;

    if (kind == SETTING_DURATION) {
        (void)ps_format_duration(text, sizeof(text), v);
        ps_buf_add_c(out, text);
        return;
    }
    while (kind == SETTING_SIZE && v >= 1024 && v % 1024 == 0 && u + 1 < PS_ARRAY_LEN(units)) {
        v /= 1024;
        u++;
    }
    ps_buf_addf(out, "%" PRId64 "%s", v, units[u]);
}

bool
settings_show(const settings *s, size_t i, const char **ret_name, bool *ret_is_text, ps_buf *value)
{
    ps_buf_clear(value);
    if (i >= settings_count)
        return false;
    const setting *def = &settings_table[i];
    const void *field = (const char *)s + def->offset;

    *ret_name = def->name;
    *ret_is_text = def->kind == SETTING_STRING || def->kind == SETTING_CHOICE;
    if (def->kind == SETTING_BOOL) {
        ps_buf_add_c(value, *(const bool *)field ? "true" : "false");
    } else if (*ret_is_text) {
        const char *text = *(const char *const *)field;
        ps_buf_add_c(value, is_secret(def) && text[0] ? "<secret>" : text);
    } else {
        show_number(value, def->kind, *(const int64_t *)field);
    }
    return true;
}

void
settings_show_named(const settings *s, const char *name, ps_buf *value)
{
    const char *same;
    bool is_text;
    int i = setting_find(ps_str_c(name));

    ps_buf_clear(value);
    if (i >= 0)
        (void)settings_show(s, (size_t)i, &same, &is_text, value);
}
