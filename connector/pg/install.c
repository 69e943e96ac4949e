/*
 * install.c - brings the extension in the database to this program's version, or says why it cannot.
 *
 * Everything happens on one connection under a session-level advisory lock, so any number of connectors
 * may start at once: the first works, the others wait and then find it done. What it changes is one
 * transaction. The lock is of the session and not of the transaction so that the transaction's snapshot
 * is taken after waiting.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "connector/pg/pg.h"

#define INSTALL_LOCK "5787775663255584771" /* 0x50524f4d00000003 */
enum { MIN_SERVER = 150000 };

typedef struct version {
    int part[3];
} version;

typedef struct install {
    PGconn *conn;
    const settings *settings;
    logger *log;
    version installed; /* zeros = none; an installed 0.0.0 is told by has */
    bool has;
    bool offered; /* the server has the files of our version */
    char installed_text[32];
    char default_text[32]; /* what the server's files offer, "" = no files */
} install;

/* "1.2.3"; anything that does not start so counts as 0.0.0 */
static version
parse_version(const char *text)
{
    version v = {{0, 0, 0}};
    if (sscanf(text, "%d.%d.%d", &v.part[0], &v.part[1], &v.part[2]) < 1)
        return (version){{0, 0, 0}};
    return v;
}

static int
compare_versions(version a, version b)
{
    for (size_t i = 0; i < PS_ARRAY_LEN(a.part); i++) {
        if (a.part[i] != b.part[i])
            return a.part[i] < b.part[i] ? -1 : 1;
    }
    return 0;
}

/* Fails with the server's own message; 42501 gets the way out. */
static ps_status
sql_failed(const PGconn *conn, const PGresult *res, const char *doing, ps_err *err)
{
    const char *state = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
    const char *message = res ? PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) : NULL;

    if (state && strcmp(state, "42501") == 0)
        return ps_fail(
            err, PS_EINVAL,
            "%s: %.80s. A superuser must run CREATE EXTENSION promscale (or ALTER EXTENSION promscale UPDATE) "
            "in this database once",
            doing, message);
    return ps_fail(err, PS_EUNAVAILABLE, "%s: %.160s", doing,
                   message ? message : PQerrorMessage(conn));
}

static ps_status
run(const install *in, const char *sql, const char *doing, PGresult **ret, ps_err *err)
{
    PGresult *res = PQexec(in->conn, sql);
    ExecStatusType got = PQresultStatus(res);
    ps_status st = PS_OK;

    if (got != PGRES_COMMAND_OK && got != PGRES_TUPLES_OK)
        st = sql_failed(in->conn, res, doing, err);
    if (st == PS_OK && ret)
        *ret = res;
    else
        PQclear(res);
    return st;
}

static ps_status
check_server(const install *in, ps_err *err)
{
    PGresult *res = NULL;
    const char *encoding = PQparameterStatus(in->conn, "server_encoding");
    int number = PQserverVersion(in->conn);

    if (number < MIN_SERVER)
        return ps_fail(err, PS_EUNSUPPORTED,
                       "the database server is PostgreSQL %d.%d; promscale needs 15 or newer",
                       number / 10000, number % 10000);
    if (!encoding || strcmp(encoding, "UTF8") != 0)
        return ps_fail(
            err, PS_EUNSUPPORTED,
            "the database's encoding is %s; promscale needs UTF8: make another database with CREATE DATABASE %s "
            "ENCODING 'UTF8' TEMPLATE template0",
            encoding ? encoding : "unknown", "promscale");
    PS_TRY(run(in, "SELECT pg_is_in_recovery()", "cannot ask the database server", &res, err));
    bool standby = strcmp(PQgetvalue(res, 0, 0), "t") == 0;
    PQclear(res);
    if (standby)
        return ps_fail(err, PS_EUNSUPPORTED,
                       "the database server is a standby, which is read-only: point db.uri at the "
                       "primary (or list all hosts and add target_session_attrs=read-write)");
    return PS_OK;
}

static ps_status
look(install *in, ps_err *err)
{
    PGresult *res = NULL;

    PS_TRY(run(
        in,
        "SELECT (SELECT extversion FROM pg_extension WHERE extname = 'promscale'),"
        " (SELECT default_version FROM pg_available_extensions WHERE name = 'promscale'),"
        " EXISTS (SELECT FROM pg_available_extension_versions WHERE name = 'promscale' AND version = '" PROMSCALE_VERSION
        "')",
        "cannot look for the extension", &res, err));
    in->has = !PQgetisnull(res, 0, 0);
    snprintf(in->installed_text, sizeof(in->installed_text), "%s", PQgetvalue(res, 0, 0));
    snprintf(in->default_text, sizeof(in->default_text), "%s", PQgetvalue(res, 0, 1));
    in->offered = strcmp(PQgetvalue(res, 0, 2), "t") == 0;
    in->installed = parse_version(in->installed_text);
    PQclear(res);
    return PS_OK;
}

/* The server's folder of extensions must hold our version before anything can be installed. */
static ps_status
check_offered(const install *in, ps_err *err)
{
    int major = PQserverVersion(in->conn) / 10000;
    if (in->offered)
        return PS_OK;
    if (in->default_text[0] == '\0')
        return ps_fail(
            err, PS_ENOTFOUND,
            "PostgreSQL %d at the database has no files of the extension promscale: on its machine run "
            "\"make install-extension\" in promscale's source, or install its package",
            major);
    return ps_fail(
        err, PS_ENOTFOUND,
        "the database server offers the extension promscale in version %s, this promscale is %s: install the "
        "same version there (make install-extension, or its package)",
        in->default_text, PROMSCALE_VERSION);
}

static ps_status
change(const install *in, const char *statement, const char *doing, ps_err *err)
{
    ps_status st = run(in, "BEGIN", doing, NULL, err);
    if (st == PS_OK)
        st = run(in, statement, doing, NULL, err);
    if (st == PS_OK)
        return run(in, "COMMIT", doing, NULL, err);
    PGresult *res = PQexec(in->conn, "ROLLBACK");
    PQclear(res);
    return st;
}

static ps_status
install_or_upgrade(install *in, ps_err *err)
{
    PS_TRY(look(in, err));
    int order = in->has ? compare_versions(in->installed, parse_version(PROMSCALE_VERSION)) : -1;
    if (order == 0)
        return PS_OK;
    if (order > 0)
        return ps_fail(
            err, PS_EUNSUPPORTED,
            "the database holds extension promscale %s, newer than this promscale %s: start that version or a "
            "later one",
            in->installed_text, PROMSCALE_VERSION);
    if (!in->has) {
        if (!in->settings->startup_install_extensions)
            return ps_fail(
                err, PS_EINVAL,
                "the database has no extension promscale, and startup.install-extensions is off: "
                "run CREATE EXTENSION promscale in it");
        PS_TRY(check_offered(in, err));
        if (in->log)
            log_info(in->log, "installing the extension", LOG_STR("version", PROMSCALE_VERSION));
        return change(in, "CREATE EXTENSION promscale VERSION '" PROMSCALE_VERSION "'",
                      "cannot install the extension", err);
    }
    if (!in->settings->startup_upgrade_extensions)
        return ps_fail(
            err, PS_EINVAL,
            "the database holds extension promscale %s, this promscale needs %s, and "
            "startup.upgrade-extensions is off: run ALTER EXTENSION promscale UPDATE in it",
            in->installed_text, PROMSCALE_VERSION);
    PS_TRY(check_offered(in, err));
    if (in->log)
        log_info(in->log, "upgrading the extension", LOG_STR("from", in->installed_text),
                 LOG_STR("to", PROMSCALE_VERSION));
    return change(in, "ALTER EXTENSION promscale UPDATE TO '" PROMSCALE_VERSION "'",
                  "cannot upgrade the extension", err);
}

ps_status
pg_install(const char *conninfo, const settings *s, logger *log, ps_err *err)
{
    install in = {.settings = s, .log = log};

    PS_TRY(pg_connect(conninfo, "install", s->db_connection_timeout_ms, &in.conn, err));
    ps_status st = check_server(&in, err);
    /* Another connector may be at it right now; one that hangs must not hang us for ever. */
    if (st == PS_OK)
        st = run(&in, "SET lock_timeout = '120s'; SELECT pg_advisory_lock(" INSTALL_LOCK ")",
                 "another promscale is installing the extension in this database", NULL, err);
    if (st == PS_OK)
        st = install_or_upgrade(&in, err);
    PQfinish(in.conn); /* lets the lock go */
    return st;
}
