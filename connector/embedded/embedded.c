/*
 * embedded.c - the private PostgreSQL as the rest of the connector sees it: start, watch, restart, stop.
 *
 *   find folder and user -> lock -> find PostgreSQL -> (initdb) -> configure -> adopt or start -> database
 *
 * The lock is what makes "one connector per folder" true: everything after it has the folder to itself.
 */
#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connector/embedded/internal.h"

enum { STOP_OLD_MS = 60000, LOG_LOOK_MS = 10000 };

struct embedded {
    emb_folder folder;
    emb_binaries binaries;
    emb_postmaster postmaster;
    emb_server_file server;
    char conninfo[256];
    logger *log;
    bool running; /* started, and its death not yet told */
    int64_t log_looked_ms;
};

static void
say(emb_progress progress, void *self, const char *fmt, const char *a, const char *b)
{
    char line[2 * EMB_PATH_MAX + 128];
    if (!progress)
        return;
    snprintf(line, sizeof(line), "%s%s%s", fmt, a, b);
    progress(self, line);
}

/* A server that a killed connector left: used as it is, or stopped if it was started differently. */
static ps_status
adopt(embedded *e, const char *signature, emb_progress progress, void *self, bool *ret_adopted,
      ps_err *err)
{
    emb_server_file old;
    char pid[32];

    *ret_adopted = false;
    if (!emb_postmaster_find(&e->postmaster))
        return PS_OK;
    snprintf(pid, sizeof(pid), "%d", (int)e->postmaster.pid);
    if (emb_read_server_file(e->folder.dir_fd, &old) && strcmp(old.signature, signature) == 0) {
        say(progress, self, "using the database server that is still running, process ", pid, "");
        ps_status st = emb_postmaster_wait(&e->postmaster, old.socket_dir, progress, self, err);
        if (st == PS_OK) {
            e->server = old;
            *ret_adopted = true;
        }
        return st == PS_EUNAVAILABLE ? PS_OK : st; /* it was just ending: start a new one */
    }
    say(progress, self,
        "restarting the running database server (version or configuration changed), process ", pid,
        "");
    return emb_postmaster_stop(&e->postmaster, STOP_OLD_MS, err);
}

static ps_status
query_failed(PGconn *conn, const char *what, ps_err *err)
{
    char text[128];
    snprintf(text, sizeof(text), "%s", PQerrorMessage(conn));
    text[strcspn(text, "\n")] = '\0';
    return ps_fail(err, PS_EUNAVAILABLE, "%s: %s", what, text);
}

static ps_status
make_database(const embedded *e, ps_err *err)
{
    char conninfo[256];
    PGresult *res = NULL;
    ps_status st = PS_OK;

    snprintf(conninfo, sizeof(conninfo),
             "host=%s port=%d user=%s dbname=postgres application_name=promscale",
             e->server.socket_dir, (int)EMB_PORT, EMB_ROLE);
    PGconn *conn = PQconnectdb(conninfo);
    if (PQstatus(conn) != CONNECTION_OK) {
        st = query_failed(conn, "cannot connect to the embedded database", err);
        goto out;
    }
    res = PQexec(conn, "SELECT 1 FROM pg_database WHERE datname = '" EMB_DATABASE "'");
    if (PQresultStatus(res) != PGRES_TUPLES_OK) {
        st = query_failed(conn, "cannot look for the database", err);
        goto out;
    }
    if (PQntuples(res) == 0) {
        PQclear(res);
        res = PQexec(conn, "CREATE DATABASE " EMB_DATABASE);
        if (PQresultStatus(res) != PGRES_COMMAND_OK)
            st = query_failed(conn, "cannot create the database " EMB_DATABASE, err);
    }
out:
    PQclear(res);
    PQfinish(conn);
    return st;
}

static ps_status
start_server(embedded *e, emb_progress progress, void *self, ps_err *err)
{
    char major[16];

    snprintf(major, sizeof(major), "%d", e->binaries.major);
    say(progress, self, "starting PostgreSQL ", major, "");
    PS_TRY(emb_write_server_file(&e->folder, &e->server, err));
    return emb_postmaster_start(&e->postmaster, e->binaries.dir, e->server.socket_dir, progress,
                                self, err);
}

static ps_status
prepare(embedded *e, const settings *s, emb_progress progress, void *self, ps_err *err)
{
    PS_TRY(emb_folder_find(s->data_dir, &e->folder, err));
    if (e->folder.moved)
        say(progress, self, "user ", e->folder.user.name,
            " (PostgreSQL does not run as root) cannot enter the data folder asked for; using the one below");
    say(progress, self, "data folder ", e->folder.dir, "");
    PS_TRY(emb_folder_open(&e->folder, err));
    int major = emb_data_major(&e->folder);
    PS_TRY(emb_find_binaries(s->embedded_bin_dir, major, &e->binaries, err));
    if (major == 0) {
        say(progress, self, "creating a PostgreSQL cluster in ", e->folder.pg,
            e->folder.user.drop ? " (as the unprivileged user)" : "");
        PS_TRY(emb_initdb(&e->folder, &e->binaries, err));
    }
    return emb_postmaster_init(&e->postmaster, &e->folder, err);
}

ps_status
embedded_start(const settings *s, logger *log, void (*progress)(void *self, const char *line),
               void *self, embedded **ret, ps_err *err)
{
    emb_server_file old = {.socket_dir = ""};
    char signature[32];
    bool adopted = false;

    embedded *e = calloc(1, sizeof(*e));
    if (!e)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    e->log = log;
    e->folder.dir_fd = e->folder.lock_fd = -1;
    e->postmaster.pidfd = e->postmaster.log_fd = -1;
    emb_expect_children();
    ps_status st = prepare(e, s, progress, self, err);
    if (st == PS_OK)
        st = emb_configure(&e->folder, &e->binaries, s, signature, err);
    if (st == PS_OK)
        st = adopt(e, signature, progress, self, &adopted, err);
    if (st == PS_OK && !adopted) {
        emb_read_server_file(e->folder.dir_fd, &old);
        memcpy(e->server.signature, signature, sizeof(signature));
        st = emb_socket_dir(&e->folder, old.socket_dir, e->server.socket_dir,
                            sizeof(e->server.socket_dir), err);
        if (st == PS_OK)
            st = start_server(e, progress, self, err);
    }
    if (st == PS_OK)
        st = make_database(e, err);
    if (st != PS_OK) {
        /* a server that was adopted and does not answer is left alone, one that we started is not */
        if (e->server.socket_dir[0] &&
            (e->postmaster.is_child || !emb_postmaster_alive(&e->postmaster)))
            embedded_stop(e, 10000);
        embedded_free(e);
        return st;
    }
    snprintf(e->conninfo, sizeof(e->conninfo), "host=%s port=%d user=%s dbname=%s",
             e->server.socket_dir, (int)EMB_PORT, EMB_ROLE, EMB_DATABASE);
    e->running = true;
    *ret = e;
    return PS_OK;
}

const char *
embedded_conninfo(const embedded *e)
{
    return e->conninfo;
}

const char *
embedded_data_dir(const embedded *e)
{
    return e->folder.dir;
}

bool
embedded_died(embedded *e)
{
    int64_t now = emb_now_ms();

    if (!e->running)
        return false;
    if (now - e->log_looked_ms > LOG_LOOK_MS) {
        e->log_looked_ms = now;
        emb_log_bound(&e->postmaster);
    }
    if (emb_postmaster_alive(&e->postmaster))
        return false;
    e->running = false;
    return true;
}

ps_status
embedded_restart(embedded *e, ps_err *err)
{
    const emb_user *user = &e->folder.user;

    if (emb_postmaster_alive(&e->postmaster)) {
        e->running = true;
        return PS_OK;
    }
    /* Others hold the connection string: the socket stands where it stood, also if a cleaner of
     * temporary files took the folder away. */
    if (mkdir(e->server.socket_dir, 0700) == 0 && user->drop &&
        chown(e->server.socket_dir, user->uid, user->gid) != 0)
        return ps_fail(err, PS_EUNAVAILABLE, "cannot make %s: %s", e->server.socket_dir,
                       strerror(errno));
    ps_status st = start_server(e, NULL, NULL, err);
    e->running = st == PS_OK;
    return st;
}

void
embedded_stop(embedded *e, int64_t timeout_ms)
{
    char path[160];
    ps_err err;

    if (!e)
        return;
    e->running = false;
    if (emb_postmaster_stop(&e->postmaster, timeout_ms, &err) != PS_OK) {
        if (e->log)
            log_error(e->log, "the embedded database does not stop", LOG_STR("error", err.text));
        return;
    }
    /* what a killed server may have left in the socket folder */
    snprintf(path, sizeof(path), "%s/.s.PGSQL.%d", e->server.socket_dir, (int)EMB_PORT);
    unlink(path);
    snprintf(path, sizeof(path), "%s/.s.PGSQL.%d.lock", e->server.socket_dir, (int)EMB_PORT);
    unlink(path);
    rmdir(e->server.socket_dir);
    unlinkat(e->folder.dir_fd, "server", 0);
}

void
embedded_free(embedded *e)
{
    if (!e)
        return;
    emb_postmaster_done(&e->postmaster);
    emb_folder_close(&e->folder);
    free(e);
}
