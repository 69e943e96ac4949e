/*
 * program.c - /api/v1/status: what this program is and how it is set.
 *
 * buildinfo's version is that of the Prometheus whose API is spoken here, since clients read it for what
 * they may ask (Grafana: label values with match[], and more); revision and branch say whose it is. Settings
 * that hold a password are never shown.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "connector/info/internal.h"
#include "connector/read/sql.h"

/* The Prometheus that answers are made like. */
#define SPOKEN_VERSION "3.14.0"

static void
add_text(ps_buf *out, const char *name, const char *value)
{
    info_key(out, name);
    api_json_text(out, ps_str_c(value), true);
}

static void
add_number(ps_buf *out, const char *name, int64_t value)
{
    info_key(out, name);
    api_json_i64(out, value);
}

void
info_build(api_job *job, void *self)
{
    ps_buf out;

    (void)self;
    ps_buf_init(&out, &ps_malloc);
    ps_buf_add_char(&out, '{');
    add_text(&out, "version", SPOKEN_VERSION);
    add_text(&out, "revision", "promscale-" PROMSCALE_VERSION);
    add_text(&out, "branch", "promscale");
    add_text(&out, "buildUser", "");
    add_text(&out, "buildDate", "");
    add_text(&out, "goVersion", "");
    ps_buf_add_char(&out, '}');
    api_answer(job, &out, NULL, 0);
    ps_buf_done(&out);
}

/* ---- runtimeinfo ------------------------------------------------------------------------------------ */

static void
add_time(ps_buf *out, const char *name, int64_t ms)
{
    char text[40];
    time_t s = (time_t)(ms / 1000);
    struct tm tm;

    gmtime_r(&s, &tm);
    size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, sizeof(text) - n, ".%03dZ", (int)(ms % 1000));
    add_text(out, name, text);
}

/* As the database says; empty if it does not answer. */
static void
add_retention(api_job *job, ps_buf *out)
{
    static const char sql[] =
        "SELECT CASE WHEN s::pg_catalog.interval = '0' THEN 'unlimited' ELSE s END "
        "FROM _prom_catalog.setting('retention_period') AS s";
    PGresult *res = NULL;
    read_source *src = NULL;
    const char *text = "";
    ps_err err;

    if (api_open_source(job, 1, 0, &src, &err) == PS_OK &&
        read_sql(src, sql, NULL, 0, &res, &err) == PS_OK && PQntuples(res) == 1)
        text = PQgetvalue(res, 0, 0);
    add_text(out, "storageRetention", text);
    PQclear(res);
    api_close_source(job, src);
}

static int64_t
threads(void)
{
    char line[128];
    int64_t n = 0;
    FILE *f = fopen("/proc/self/status", "r");

    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, "Threads:", 8) == 0)
            n = strtol(line + 8, NULL, 10);
    }
    if (f != NULL)
        fclose(f);
    return n;
}

void
info_runtime(api_job *job, void *self)
{
    const info *in = self;
    char folder[4096], host[256];
    struct timespec now;
    ps_buf out;

    clock_gettime(CLOCK_REALTIME, &now);
    ps_buf_init(&out, &ps_malloc);
    ps_buf_add_char(&out, '{');
    add_time(&out, "startTime", in->started_ms);
    add_text(&out, "CWD", getcwd(folder, sizeof(folder)) != NULL ? folder : "");
    add_text(&out, "hostname", gethostname(host, sizeof(host) - 1) == 0 ? host : "");
    add_time(&out, "serverTime", (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    info_key(&out, "reloadConfigSuccess");
    ps_buf_add_c(&out, "true");
    add_time(&out, "lastConfigTime", in->started_ms);
    add_number(&out, "corruptionCount", 0);
    add_number(&out, "goroutineCount", threads());
    add_number(&out, "GOMAXPROCS", sysconf(_SC_NPROCESSORS_ONLN));
    add_number(&out, "GOMEMLIMIT", INT64_MAX);
    add_text(&out, "GOGC", "");
    add_text(&out, "GODEBUG", "");
    add_retention(job, &out);
    ps_buf_add_char(&out, '}');
    api_answer(job, &out, NULL, 0);
    ps_buf_done(&out);
}

void
info_wal_replay(api_job *job, void *self)
{
    (void)self;
    info_answer_text(job, "{\"min\":0,\"max\":0,\"current\":0}");
}

/* ---- settings --------------------------------------------------------------------------------------- */

void
info_config(api_job *job, void *self)
{
    const info *in = self;
    ps_buf yaml, value, out;
    const char *name;
    bool is_text;

    ps_buf_init(&yaml, &ps_malloc);
    ps_buf_init(&value, &ps_malloc);
    ps_buf_init(&out, &ps_malloc);
    for (size_t i = 0; settings_show(in->settings, i, &name, &is_text, &value); i++) {
        ps_buf_addf(&yaml, "%s: ", name);
        if (is_text)
            api_json_text(&yaml, ps_buf_str(&value), false); /* a JSON text is a YAML text, too */
        else
            ps_buf_add_str(&yaml, ps_buf_str(&value));
        ps_buf_add_char(&yaml, '\n');
    }
    ps_buf_add_c(&out, "{\"yaml\":");
    api_json_text(&out, ps_buf_str(&yaml), true);
    ps_buf_add_char(&out, '}');
    out.failed |= yaml.failed || value.failed;
    api_answer(job, &out, NULL, 0);
    ps_buf_done(&out);
    ps_buf_done(&value);
    ps_buf_done(&yaml);
}

static int
by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Flags are a map: in the order of their names. */
void
info_flags(api_job *job, void *self)
{
    const info *in = self;
    ps_buf value, out;
    const char **names, *name;
    size_t n = 0;
    bool is_text;

    ps_buf_init(&value, &ps_malloc);
    ps_buf_init(&out, &ps_malloc);
    while (settings_show(in->settings, n, &name, &is_text, &value))
        n++;
    names = ps_arena_array(api_arena(job), n + 1, sizeof(*names));
    out.failed = names == NULL;
    for (size_t i = 0; names != NULL && i < n; i++)
        (void)settings_show(in->settings, i, &names[i], &is_text, &value);
    if (names != NULL)
        qsort(names, n, sizeof(*names), by_name);
    ps_buf_add_char(&out, '{');
    for (size_t i = 0; names != NULL && i < n; i++) {
        settings_show_named(in->settings, names[i], &value);
        info_key(&out, names[i]);
        api_json_text(&out, ps_buf_str(&value), true);
    }
    ps_buf_add_char(&out, '}');
    out.failed |= value.failed;
    api_answer(job, &out, NULL, 0);
    ps_buf_done(&out);
    ps_buf_done(&value);
}
