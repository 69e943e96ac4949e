/*
 * help.c - the table as text: --help for a terminal of 100 columns, and docs/settings.md.
 */
#include <stdio.h>

#include "connector/config/table.h"

enum { COLUMNS = 100, INDENT = 6 };

static void
print_wrapped(const char *text, int indent, int width)
{
    int column = 0;

    while (*text) {
        size_t len = strcspn(text, " ");
        if (column == 0 || column + 1 + (int)len > width) {
            printf("%s%*s%.*s", column ? "\n" : "", indent, "", (int)len, text);
            column = indent + (int)len;
        } else {
            printf(" %.*s", (int)len, text);
            column += 1 + (int)len;
        }
        text += len;
        text += strspn(text, " ");
    }
    printf("\n");
}

static void
print_operand(const setting *def)
{
    if (def->kind == SETTING_BOOL)
        printf("[=false]");
    else
        printf(" %s", def->kind == SETTING_CHOICE ? def->choices : def->operand);
}

void
settings_print_help(void)
{
    const char *section = "";

    printf(
        "promscale %s - Prometheus metrics in PostgreSQL\n\n"
        "  promscale [flags]                                       run the connector\n"
        "  promscale sql [flags] [-- psql arguments]               open psql on the same database\n"
        "  promscale --help | --help=markdown | --version\n\n"
        "Each setting is a flag, an environment variable (PROMSCALE_ and the name in capitals, with _ for\n"
        ". and -) and a key of the YAML file named by --config. Flags win over the environment, that over\n"
        "the file. Sizes: 64KB, 128MB. Durations: 500ms, 15s, 1h30m, 90d.\n",
        PROMSCALE_VERSION);
    for (size_t i = 0; i < settings_count; i++) {
        const setting *def = &settings_table[i];
        if (strcmp(section, def->section) != 0) {
            section = def->section;
            printf("\n%s\n", section);
        }
        printf("  --%s", def->name);
        print_operand(def);
        if (def->def[0] && def->kind != SETTING_BOOL)
            printf("  (%s)", def->def);
        else if (def->kind == SETTING_BOOL)
            printf("  (%s)", def->def);
        printf("\n");
        print_wrapped(def->help, INDENT, COLUMNS);
    }
}

static void
print_markdown_cell(const char *text)
{
    for (; *text; text++)
        printf(*text == '|' ? "\\|" : "%c", *text);
}

static void
print_accepts(const setting *def)
{
    static const char *const names[] = {[SETTING_STRING] = "text",
                                        [SETTING_BOOL] = "true, false",
                                        [SETTING_INT] = "number",
                                        [SETTING_SIZE] = "size",
                                        [SETTING_DURATION] = "duration"};

    print_markdown_cell(def->kind == SETTING_CHOICE ? def->choices : names[def->kind]);
}

void
settings_print_markdown(void)
{
    const char *section = "";

    printf(
        "# Settings\n\n"
        "Made by `promscale --help=markdown` from `connector/config/table.c`; do not edit by hand.\n\n"
        "Each setting is a flag (`--web.listen-address=:9201`), an environment variable\n"
        "(`PROMSCALE_WEB_LISTEN_ADDRESS`) and a key of the YAML file named by `--config`, dotted or nested.\n"
        "Flags win over the environment, the environment over the file, the file over the default.\n"
        "An unknown key, in any of them, is an error. Sizes: `64KB`, `128MB` (powers of 1024).\n"
        "Durations: `500ms`, `15s`, `1h30m`, `90d`.\n");
    for (size_t i = 0; i < settings_count; i++) {
        const setting *def = &settings_table[i];
        if (strcmp(section, def->section) != 0) {
            section = def->section;
            printf("\n## %s\n\n| Setting | Default | Accepts | Meaning |\n|---|---|---|---|\n",
                   section);
        }
        /* The version is in this default: the page must not change with it. */
        bool versioned = strcmp(def->name, "db.app") == 0;
        printf("| `%s` | ", def->name);
        if (def->def[0])
            printf("`%s`", versioned ? "promscale@VERSION" : def->def);
        printf(" | ");
        print_accepts(def);
        printf(" | ");
        print_markdown_cell(def->help);
        printf(" |\n");
    }
}
