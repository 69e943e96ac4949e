/*
 * table.h - the one table of settings, private to connector/config and its tests.
 *
 * A row says all there is to know about a setting; flags, environment, file, --help and
 * docs/settings.md are loops over it. A new setting is one field in settings.h and one row in table.c.
 */
#ifndef PROMSCALE_CONNECTOR_CONFIG_TABLE_H
#define PROMSCALE_CONNECTOR_CONFIG_TABLE_H

#include "connector/config/settings.h"

typedef enum setting_kind {
    SETTING_STRING,
    SETTING_BOOL,
    SETTING_INT,
    SETTING_SIZE,     /* bytes: 128MB */
    SETTING_DURATION, /* ms: 15s */
    SETTING_CHOICE    /* one of `choices` */
} setting_kind;

typedef struct setting {
    const char *name; /* "web.listen-address": the flag, the key in the file */
    setting_kind kind;
    size_t offset;       /* of the field in struct settings */
    const char *def;     /* as a user would write it; "" = not set */
    int64_t min, max;    /* inclusive, for INT, SIZE, DURATION */
    const char *choices; /* "logfmt|json", for CHOICE */
    const char *operand; /* what --help calls the value: "FILE" */
    const char *section;
    const char *help; /* one or two sentences */
} setting;

extern const setting settings_table[];
extern const size_t settings_count;
enum { SETTINGS_MAX = 96 }; /* room in arrays indexed like the table */

/* Index in the table, or -1. */
int setting_find(ps_str name);
/* "PROMSCALE_WEB_LISTEN_ADDRESS" into dst (cap bytes, cut if too short). */
void setting_env_name(const setting *def, char *dst, size_t cap);

/* ---- sources: texts by index, before they are parsed -------------------------------------- */

typedef enum setting_origin { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_ENV, ORIGIN_FLAG } setting_origin;

typedef struct setting_source {
    setting_origin origin;
    const char *file;            /* ORIGIN_FILE: its name, borrowed */
    char *text[SETTINGS_MAX];    /* owned; NULL = not given here */
    unsigned line[SETTINGS_MAX]; /* ORIGIN_FILE: where */
} setting_source;

void setting_source_done(setting_source *src);
/* Copies text. PS_EINVAL if the source has this setting already (flags: the last one wins). */
ps_status setting_source_put(setting_source *src, int index, ps_str text, unsigned line,
                             ps_err *err) PS_MUST_CHECK;
/* "--web.listen-address", "PROMSCALE_WEB_LISTEN_ADDRESS", "web.listen-address (promscale.yml:3)". */
void setting_origin_name(const setting_source *src, int index, char *dst, size_t cap);

typedef enum settings_request {
    REQUEST_RUN,
    REQUEST_HELP,
    REQUEST_MARKDOWN,
    REQUEST_VERSION
} settings_request;

/* *ret_rest: index after "--", argc without one; not written for requests other than RUN. */
ps_status settings_read_flags(int argc, char *const *argv, setting_source *src,
                              settings_request *ret_request, int *ret_rest,
                              ps_err *err) PS_MUST_CHECK;
ps_status settings_read_env(char *const *envp, setting_source *src, ps_err *err) PS_MUST_CHECK;
ps_status settings_read_file(const char *path, setting_source *src, ps_err *err) PS_MUST_CHECK;

/* Parses text into the field; who names the source in errors. Frees what was there. */
ps_status setting_assign(settings *s, int index, const char *text, const char *who,
                         ps_err *err) PS_MUST_CHECK;

void settings_print_help(void);

#endif
