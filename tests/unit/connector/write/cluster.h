/*
 * cluster.h - a throw-away PostgreSQL with the extension, for tests that need a real one: own
 * folder under /tmp, unix socket only, gone at the end. As root it runs as the user postgres.
 */
#ifndef PROMSCALE_TESTS_CLUSTER_H
#define PROMSCALE_TESTS_CLUSTER_H

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where the server's programs are: PROMSCALE_TEST_PGBIN, if it is set. */
static inline const char *
cluster_bin(void)
{
    const char *bin = getenv("PROMSCALE_TEST_PGBIN");
    return bin != NULL ? bin : "/usr/lib/postgresql/15/bin";
}

typedef struct cluster {
    char dir[64];
    char conninfo[256];
    PGconn *admin; /* the test's own connection */
} cluster;

static inline int cluster_run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Runs a shell command as the database's user; output goes to <dir>/log or nowhere. */
static inline int
cluster_run(const char *fmt, ...)
{
    char inner[2048], full[2400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(inner, sizeof(inner), fmt, args);
    va_end(args);
    snprintf(full, sizeof(full),
             geteuid() == 0 ? "setpriv --reuid=postgres --regid=postgres --init-groups sh -c '%s'"
                            : "sh -c '%s'",
             inner);
    return system(full);
}

static inline int
cluster_start(const cluster *c)
{
    return cluster_run("%s/pg_ctl -D %s/data -w -t 60 -l %s/log start >/dev/null 2>&1",
                       cluster_bin(), c->dir, c->dir);
}

/* mode: fast or immediate */
static inline int
cluster_stop(const cluster *c, const char *mode)
{
    return cluster_run("%s/pg_ctl -D %s/data -w -t 60 -m %s stop >/dev/null 2>&1", cluster_bin(),
                       c->dir, mode);
}

static inline void
cluster_connect(cluster *c)
{
    if (c->admin != NULL)
        PQfinish(c->admin);
    c->admin = PQconnectdb(c->conninfo);
    if (PQstatus(c->admin) != CONNECTION_OK)
        fprintf(stderr, "cluster: %s\n", PQerrorMessage(c->admin));
}

/* One or more statements; the first column of the last row as text, malloc'd; NULL if there is
 * none. Prints errors and returns NULL. */
static inline char *cluster_sql(PGconn *conn, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static inline char *
cluster_sql(PGconn *conn, const char *fmt, ...)
{
    char sql[4096];
    va_list args;
    va_start(args, fmt);
    vsnprintf(sql, sizeof(sql), fmt, args);
    va_end(args);
    PGresult *res = PQexec(conn, sql);
    char *ret = NULL;
    if (PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) > 0)
        ret = strdup(PQgetvalue(res, PQntuples(res) - 1, 0));
    else if (PQresultStatus(res) != PGRES_COMMAND_OK && PQresultStatus(res) != PGRES_TUPLES_OK)
        fprintf(stderr, "cluster: %s: %s", sql, PQerrorMessage(conn));
    PQclear(res);
    return ret;
}

static inline long long
cluster_number(PGconn *conn, const char *sql)
{
    char *text = cluster_sql(conn, "%s", sql);
    long long n = text != NULL ? atoll(text) : -1;
    free(text);
    return n;
}

/* (Re)creates the database that tests use. */
static inline int
cluster_database(cluster *c)
{
    char other[256];
    if (c->admin != NULL)
        PQfinish(c->admin);
    c->admin = NULL;
    snprintf(other, sizeof(other), "host=%s user=postgres dbname=postgres", c->dir);
    PGconn *conn = PQconnectdb(other);
    free(cluster_sql(conn, "DROP DATABASE IF EXISTS ingest WITH (FORCE)"));
    free(cluster_sql(conn, "CREATE DATABASE ingest"));
    PQfinish(conn);
    cluster_connect(c);
    PGresult *res = PQexec(c->admin, "CREATE EXTENSION promscale");
    int ok = PQresultStatus(res) == PGRES_COMMAND_OK;
    if (!ok)
        fprintf(stderr, "cluster: %s", PQerrorMessage(c->admin));
    PQclear(res);
    return ok ? 0 : -1;
}

static inline int
cluster_create(cluster *c)
{
    memset(c, 0, sizeof(*c));
    strcpy(c->dir, "/tmp/psingestXXXXXX");
    if (mkdtemp(c->dir) == NULL)
        return -1;
    char command[256];
    snprintf(command, sizeof(command), "chmod 755 %s", c->dir);
    if (geteuid() == 0)
        snprintf(command, sizeof(command), "chown postgres: %s", c->dir);
    if (system(command) != 0)
        return -1;
    if (cluster_run(
            "%s/initdb -D %s/data -A trust -U postgres -E UTF8 --locale=C -k >%s/initdb.log 2>&1",
            cluster_bin(), c->dir, c->dir) != 0)
        return -1;
    snprintf(command, sizeof(command), "%s/data/postgresql.conf", c->dir);
    snprintf(c->conninfo, sizeof(c->conninfo), "host=%s user=postgres dbname=ingest", c->dir);
    FILE *f = fopen(command, "a");
    if (f == NULL)
        return -1;
    fprintf(f,
            "listen_addresses = ''\nunix_socket_directories = '%s'\nshared_buffers = 64MB\n"
            "max_connections = 50\nlog_min_messages = warning\n",
            c->dir);
    fclose(f);
    return cluster_start(c) == 0 && cluster_database(c) == 0 ? 0 : -1;
}

static inline void
cluster_drop(cluster *c)
{
    char command[128];
    if (c->admin != NULL)
        PQfinish(c->admin);
    c->admin = NULL;
    cluster_stop(c, "immediate");
    snprintf(command, sizeof(command), "rm -rf %s", c->dir);
    if (system(command) != 0)
        fprintf(stderr, "cluster: %s is left behind\n", c->dir);
}

#endif
