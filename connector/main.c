/*
 * main.c - the program: settings, parts in order, wait for a signal, parts in reverse order.
 *
 *   settings -> log -> database (embedded or yours) -> extension -> write path -> reading -> HTTP ->
 *   self-scrape
 *
 * The main thread is the only one that takes signals (all others inherit a mask that blocks them) and
 * the only one that touches the embedded server. Exit status: 0, 1 = failed at run time, 2 = wrong use.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "connector/ops/ops.h"
#include "connector/ops/signals.h"
#include "connector/pg/pg.h"

extern char **environ;

enum {
    SUPERVISE_MS = 250,
    DRAIN_LOOK_MS = 20,
    RESTART_MIN_MS = 500,
    RESTART_MAX_MS = 30000,
    HTTP_STOP_MS = 2000,
    SERVER_STOP_MS = 60000,
    SERVER_STOP_FAST_MS = 3000
};

static int64_t
now_ms(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- start ----------------------------------------------------------------------------------- */

static void
show_progress(void *self, const char *line)
{
    (void)self;
    printf("%s\n", line);
    fflush(stdout);
}

static ps_status
open_database(connector *c, ps_err *err)
{
    ps_buf text;

    if (!c->settings->db_is_external) {
        PS_TRY(embedded_start(c->settings, c->log, show_progress, NULL, &c->embedded, err));
        c->conninfo = strdup(embedded_conninfo(c->embedded));
        return c->conninfo ? PS_OK : ps_fail(err, PS_ENOMEM, "no memory");
    }
    ps_buf_init(&text, &ps_malloc);
    ps_status st = pg_conninfo(c->settings, &text, err);
    if (st == PS_OK) {
        ps_buf_add_char(&text, 0);
        c->conninfo = text.failed ? NULL : strdup(text.ptr);
        st = c->conninfo ? PS_OK : ps_fail(err, PS_ENOMEM, "no memory");
    }
    ps_buf_done(&text);
    return st;
}

static ps_status
start_http(connector *c, ps_err *err)
{
    http_route routes[OPS_MAX_ROUTES];
    const settings *s = c->settings;
    http_server_config config = {.listen_address = s->web_listen_address,
                                 .max_connections = s->web_max_connections,
                                 .head_timeout_ms = s->web_head_timeout_ms,
                                 .body_timeout_ms = s->web_body_timeout_ms,
                                 .idle_timeout_ms = s->web_idle_timeout_ms,
                                 .body_pool_bytes = s->ingest_queue_bytes,
                                 .routes = routes,
                                 .cors_origin = s->web_cors_origin,
                                 .log = c->log,
                                 .metrics = c->metrics};

    config.n_routes = ops_routes(c, routes);
    return http_server_start(&config, &c->http, err);
}

static ps_status
start_queries(connector *c, ps_err *err)
{
    api_config ac = {.settings = c->settings,
                     .store = c->read,
                     .log = c->log,
                     .metrics = c->metrics};

    PS_TRY(query_api_start(c->settings, c->metrics, &c->query, err));
    c->info = (info){.settings = c->settings,
                     .language = query_language(c->query),
                     .started_ms = c->started_ms};
    return api_start(&ac, &c->api, err);
}

/* Everything behind a database that is there and has the extension. */
static ps_status
start_parts(connector *c, ps_err *err)
{
    const settings *s = c->settings;
    write_path_config wc = {.settings = s,
                            .conninfo = c->conninfo,
                            .log = c->log,
                            .metrics = c->metrics};
    read_store_config rc = {.settings = s,
                            .conninfo = c->conninfo,
                            .log = c->log,
                            .metrics = c->metrics};

    ops_register_process_metrics(c);
    PS_TRY(facts_start(c->conninfo, c->log, c->metrics, &c->facts, err));
    PS_TRY(write_path_start(&wc, &c->write, err));
    PS_TRY(read_store_start(&rc, &c->read, err));
    PS_TRY(start_queries(c, err));
    PS_TRY(recent_start(c->metrics, c->log, s->log_throughput_interval_ms, &c->recent, err));
    c->sql_command = ops_sql_command(c);
    if (c->sql_command == NULL)
        return ps_fail(err, PS_ENOMEM, "no memory");
    PS_TRY(start_http(c, err));
    if (s->self_scrape)
        PS_TRY(self_scrape_start(c->metrics, c->write, c->log, http_server_address(c->http),
                                 s->self_scrape_interval_ms, &c->self_scrape, err));
    return maintenance_start(c->conninfo, c->log, &c->maintenance, err);
}

/* ---- stop ------------------------------------------------------------------------------------ */

/* Until everybody who is inside has an answer, the time is over, or a second signal comes. */
static bool
drain(connector *c)
{
    int64_t until = now_ms(CLOCK_MONOTONIC) + c->settings->shutdown_timeout_ms;

    while (http_server_open_requests(c->http) > 0 && now_ms(CLOCK_MONOTONIC) < until) {
        if (signals_wait(DRAIN_LOOK_MS) != 0) {
            log_warn(c->log, "second signal: not waiting for the requests that are inside",
                     LOG_INT("requests", http_server_open_requests(c->http)));
            return false;
        }
    }
    return true;
}

/* Any part may be missing: this also ends a start that failed half-way. */
static void
stop_parts(connector *c)
{
    bool patient = true;

    if (c->http != NULL) {
        http_server_quiesce(c->http);
        patient = drain(c);
    }
    maintenance_stop(c->maintenance);
    if (c->write != NULL)
        write_path_stop(c->write, patient ? HTTP_STOP_MS : 0);
    api_stop(c->api);
    read_store_stop(c->read);
    self_scrape_stop(c->self_scrape);
    http_server_stop(c->http, HTTP_STOP_MS);
    recent_stop(c->recent);
    api_free(c->api);
    query_api_free(c->query);
    facts_stop(c->facts);
    if (c->write != NULL)
        write_path_free(c->write);
    read_store_free(c->read);
    if (c->embedded != NULL) {
        embedded_stop(c->embedded, patient ? SERVER_STOP_MS : SERVER_STOP_FAST_MS);
        embedded_free(c->embedded);
    }
}

/* ---- run ------------------------------------------------------------------------------------- */

/* Restarts a dead server, ever more slowly; meanwhile the write path answers 503. False: a signal came. */
static bool
revive(connector *c)
{
    int64_t pause = RESTART_MIN_MS;
    ps_err err;

    atomic_store(&c->reviving, true);
    log_error(c->log, "the embedded database server has died, restarting it");
    while (embedded_restart(c->embedded, &err) != PS_OK) {
        if (err.code == PS_ECANCELED)
            return true; /* by a signal that is still waiting to be taken */
        log_error(c->log, "the embedded database server does not start", LOG_STR("error", err.text),
                  LOG_INT("retry_ms", pause));
        if (signals_wait(pause) != 0)
            return false;
        pause = pause * 2 < RESTART_MAX_MS ? pause * 2 : RESTART_MAX_MS;
    }
    atomic_store(&c->reviving, false);
    log_info(c->log, "the embedded database server runs again");
    return true;
}

static void
supervise(connector *c)
{
    int got = 0;

    while ((got = signals_wait(SUPERVISE_MS)) == 0) {
        if (c->embedded != NULL && embedded_died(c->embedded) && !revive(c))
            break;
    }
    log_info(c->log, "stopping",
             LOG_STR("signal", got ? strsignal(got) : "while restarting the database"));
}

static ps_status
run(connector *c, ps_err *err)
{
    int64_t begun = now_ms(CLOCK_MONOTONIC);

    PS_TRY(open_database(c, err));
    PS_TRY(pg_install(c->conninfo, c->settings, c->log, err));
    if (c->settings->startup_only) {
        log_info(c->log, "the extension is installed; startup.only ends here");
        return PS_OK;
    }
    PS_TRY(start_parts(c, err));
    int64_t took = now_ms(CLOCK_MONOTONIC) - begun;
    log_info(c->log, "ready", LOG_STR("version", PROMSCALE_VERSION),
             LOG_STR("address", http_server_address(c->http)), LOG_INT("took_ms", took));
    ops_print_banner(c, took);
    supervise(c);
    return PS_OK;
}

/* Each connection needs a descriptor; the usual soft limit of 1024 is for programs that use select(2). */
static void
raise_descriptor_limit(void)
{
    struct rlimit lim;

    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
        lim.rlim_cur = lim.rlim_max < 65536 ? lim.rlim_max : 65536;
        (void)setrlimit(RLIMIT_NOFILE, &lim);
    }
}

static int
main_run(connector *c)
{
    ps_err err = {.code = PS_OK};
    ps_status st =
        log_new(STDERR_FILENO, c->settings->log_format, c->settings->log_level, &c->log, &err);

    if (st == PS_OK && (c->metrics = metrics_new()) == NULL)
        st = ps_fail(&err, PS_ENOMEM, "no memory");
    if (st == PS_OK) {
        raise_descriptor_limit();
        signals_block();
        st = run(c, &err);
    }
    /* A start that a signal ended is a stop like any other. */
    bool failed = st != PS_OK && st != PS_ECANCELED;
    if (failed && c->log != NULL)
        log_error(c->log, "promscale cannot go on", LOG_STR("error", err.text));
    else if (failed)
        fprintf(stderr, "promscale: %s\n", err.text);
    stop_parts(c);
    if (c->log != NULL)
        log_info(c->log, "stopped");
    return failed ? 1 : 0;
}

static bool
has_dashes(int argc, char *const *argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0)
            return true;
    }
    return false;
}

int
main(int argc, char **argv)
{
    connector c = {.program = argc > 0 ? argv[0] : "promscale",
                   .started_ms = now_ms(CLOCK_REALTIME)};
    bool sql = argc > 1 && strcmp(argv[1], "sql") == 0;
    settings_outcome outcome;
    int skip = sql ? 2 : argc > 0, rest = 0, code = 0;
    ps_err err;

    if (settings_load(argc - skip, argv + skip, environ, &c.settings, &outcome, &rest, &err) !=
        PS_OK) {
        fprintf(stderr, "promscale: %s\n", err.text);
        if (sql && !has_dashes(argc, argv))
            fprintf(stderr, "promscale: what is for psql comes after --, as in promscale sql -- -c "
                            "\"SELECT 1\"\n");
        return 2;
    }
    if (outcome == SETTINGS_PRINTED)
        return 0;
    if (sql) {
        code = embedded_sql_main(c.settings, argc - skip - rest, argv + skip + rest, &err);
        fprintf(stderr, "promscale: %s\n", err.text);
    } else if (rest < argc - skip) {
        fprintf(stderr, "promscale: unexpected argument \"%s\"\n", argv[skip + rest]);
        code = 2;
    } else {
        code = main_run(&c);
    }
    free(c.sql_command);
    free(c.conninfo);
    metrics_free(c.metrics);
    log_free(c.log);
    settings_free(c.settings);
    return code;
}
