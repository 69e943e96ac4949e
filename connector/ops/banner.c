/*
 * banner.c - what a user reads when all is ready: where, how to connect Prometheus, how to ask in SQL.
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "connector/ops/ops.h"

/* For a POSIX shell: bare where that is safe, else in single quotes. */
static void
add_shell_word(ps_buf *out, const char *word)
{
    static const char safe[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%,=";

    if (word[0] && word[strspn(word, safe)] == 0) {
        ps_buf_add_c(out, word);
        return;
    }
    ps_buf_add_char(out, '\'');
    for (; *word; word++) {
        if (*word == '\'')
            ps_buf_add_c(out, "'\\''");
        else
            ps_buf_add_char(out, *word);
    }
    ps_buf_add_char(out, '\'');
}

/* keyword=value of conninfo without the secrets, as one shell word after psql. */
static void
add_psql(ps_buf *out, const char *conninfo)
{
    static const char *const shown[] = {"service", "host", "port", "user", "dbname", "sslmode"};
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    ps_buf text;

    ps_buf_init(&text, &ps_malloc);
    for (const PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++) {
        bool wanted = false;
        for (size_t i = 0; i < PS_ARRAY_LEN(shown); i++)
            wanted = wanted || strcmp(o->keyword, shown[i]) == 0;
        if (!wanted || o->val == NULL || o->val[0] == 0)
            continue;
        ps_buf_addf(&text, "%s%s=", text.len ? " " : "", o->keyword);
        bool quote = strpbrk(o->val, " '\\") != NULL;
        if (quote)
            ps_buf_add_char(&text, '\'');
        for (const char *p = o->val; *p; p++) {
            if (*p == '\'' || *p == '\\')
                ps_buf_add_char(&text, '\\');
            ps_buf_add_char(&text, *p);
        }
        if (quote)
            ps_buf_add_char(&text, '\'');
    }
    PQconninfoFree(options);
    ps_buf_add_char(&text, 0);
    ps_buf_add_c(out, "psql ");
    if (!text.failed)
        add_shell_word(out, text.ptr);
    ps_buf_done(&text);
}

char *
ops_sql_command(const connector *c)
{
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    if (c->embedded != NULL) {
        add_shell_word(&out, c->program);
        ps_buf_add_c(&out, " sql --data-dir ");
        add_shell_word(&out, embedded_data_dir(c->embedded));
    } else {
        add_psql(&out, c->conninfo);
    }
    ps_buf_add_char(&out, 0);
    char *ret = out.failed ? NULL : strdup(out.ptr);
    ps_buf_done(&out);
    return ret;
}

void
ops_local_url(const connector *c, char *dst, size_t cap)
{
    const char *address = http_server_address(c->http), *port = strrchr(address, ':');

    if (strncmp(address, "0.0.0.0:", 8) == 0 || strncmp(address, "[::]:", 5) == 0)
        snprintf(dst, cap, "http://127.0.0.1%s", port);
    else
        snprintf(dst, cap, "http://%s", address);
}

void
ops_print_banner(const connector *c, int64_t took_ms)
{
    char url[128], retention[64];

    ops_local_url(c, url, sizeof(url));
    facts_retention(c->facts, retention, sizeof(retention));
    printf("\nPromscale %s is ready (%lld.%01lld s).\n\n", PROMSCALE_VERSION,
           (long long)(took_ms / 1000), (long long)(took_ms % 1000 / 100));
    printf("  HTTP       %s\n", url);
    printf("  SQL        %s\n", c->sql_command);
    if (c->embedded != NULL)
        printf("  Data       %s\n", embedded_data_dir(c->embedded));
    else
        printf("  Data       in your PostgreSQL\n");
    printf(
        "  Retention  %s (change it in SQL: SELECT prom_api.set_default_retention_period('30 days');)\n",
        retention);
    printf("\nFor prometheus.yml:\n\n  remote_write:\n    - url: %s/api/v1/write\n\n", url);
    printf("For Grafana: data source Prometheus, URL %s\n\n", url);
    if (isatty(STDOUT_FILENO))
        printf("Ctrl-C stops it.\n");
    fflush(stdout);
}
