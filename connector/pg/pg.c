/*
 * pg.c - from settings to a connection whose session is set up as all our code expects it.
 *
 * libpq's own messages about an unreadable conninfo may quote it, password included: such errors
 * get a text of ours.
 */
#include "connector/pg/pg.h"

#include <errno.h>
#include <poll.h>

/* keyword='value', with libpq's escaping. */
static void
add_pair(ps_buf *out, const char *key, const char *value)
{
    if (out->len > 0)
        ps_buf_add_char(out, ' ');
    ps_buf_add_c(out, key);
    ps_buf_add_c(out, "='");
    for (const char *p = value; *p != '\0'; p++) {
        if (*p == '\'' || *p == '\\')
            ps_buf_add_char(out, '\\');
        ps_buf_add_char(out, *p);
    }
    ps_buf_add_char(out, '\'');
}

static ps_status
add_uri(const char *uri, ps_buf *out, ps_err *err)
{
    PQconninfoOption *options = PQconninfoParse(uri, NULL);
    if (options == NULL)
        return ps_fail(err, PS_EINVAL,
                       "db.uri is not a connection URI or conninfo string that libpq can read");
    for (PQconninfoOption *o = options; o->keyword != NULL; o++) {
        if (o->val != NULL)
            add_pair(out, o->keyword, o->val);
    }
    PQconninfoFree(options);
    return PS_OK;
}

ps_status
pg_conninfo(const settings *s, ps_buf *out, ps_err *err)
{
    size_t before = out->len;
    if (s->db_uri[0] != '\0') {
        PS_TRY(add_uri(s->db_uri, out, err));
    } else {
        const struct {
            const char *key, *value;
        } pairs[] = {{"host", s->db_host},         {"user", s->db_user},
                     {"password", s->db_password}, {"dbname", s->db_name},
                     {"sslmode", s->db_ssl_mode},  {"application_name", s->db_app}};
        for (size_t i = 0; i < PS_ARRAY_LEN(pairs); i++) {
            if (pairs[i].value[0] != '\0')
                add_pair(out, pairs[i].key, pairs[i].value);
        }
        if (s->db_port > 0) {
            char port[24];
            snprintf(port, sizeof(port), "%lld", (long long)s->db_port);
            add_pair(out, "port", port);
        }
    }
    if (out->failed)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    if (out->len == before)
        return ps_fail(err, PS_EINVAL, "no database is named in the settings");
    return PS_OK;
}

/* Drives a started connection to its end. */
static ps_status
connect_poll(PGconn *conn, int64_t deadline_ns, ps_err *err)
{
    PostgresPollingStatusType want = PGRES_POLLING_WRITING;
    while (want != PGRES_POLLING_OK) {
        if (want == PGRES_POLLING_FAILED || PQstatus(conn) == CONNECTION_BAD)
            return pg_fail_result(NULL, conn, err);
        struct pollfd fd = {.fd = PQsocket(conn),
                            .events = want == PGRES_POLLING_READING ? POLLIN : POLLOUT};
        int64_t left_ms = (deadline_ns - pg_now_ns() + 999999) / 1000000;
        if (left_ms <= 0)
            return ps_fail(err, PS_EUNAVAILABLE, "no connection to the database in time");
        int n = poll(&fd, 1, left_ms > 3600000 ? 3600000 : (int)left_ms);
        if (n < 0 && errno != EINTR)
            return ps_fail(err, PS_EUNAVAILABLE, "poll while connecting failed (errno %d)", errno);
        if (n > 0)
            want = PQconnectPoll(conn);
    }
    return PS_OK;
}

/* remote_apply waits for more than "on" does: whoever has chosen it keeps it. Statements that wait for
 * a lock and look afterwards need a snapshot each, whatever the default of the database is. */
static const char session_setup[] =
    "SELECT set_config('synchronous_commit',"
    " CASE WHEN current_setting('synchronous_commit') = 'remote_apply' THEN 'remote_apply'"
    " ELSE 'on' END, false),"
    " set_config('default_transaction_isolation', 'read committed', false),"
    " set_config('standard_conforming_strings', 'on', false),"
    " set_config('datestyle', 'ISO', false),"
    " set_config('timezone', 'UTC', false),"
    " set_config('bytea_output', 'hex', false)";

static void
ignore_notice(void *self, const PGresult *res)
{
    (void)self;
    (void)res;
}

/* What the connection calls itself: the name that the conninfo gives to all, then its role. */
static void
name_connection(const PQconninfoOption *options, const char *role, char *dst, size_t cap)
{
    const char *name = "promscale";
    for (; options->keyword != NULL; options++) {
        if (strcmp(options->keyword, "application_name") == 0 && options->val != NULL)
            name = options->val;
    }
    snprintf(dst, cap, "%.*s %s", (int)ps_utf8_prefix(ps_str_c(name), 40), name, role);
}

ps_status
pg_connect(const char *conninfo, const char *role, int64_t timeout_ms, PGconn **ret, ps_err *err)
{
    /* Given twice, the later keyword wins; ones before "dbname" are defaults that conninfo may
     * change. */
    const char *keys[] = {"keepalives_idle",  "keepalives_interval",
                          "keepalives_count", "tcp_user_timeout",
                          "dbname",           "application_name",
                          "client_encoding",  NULL};
    char application[64];
    const char *values[] = {"10", "5", "3", "15000", conninfo, application, "UTF8", NULL};
    int64_t deadline_ns = pg_now_ns() + timeout_ms * 1000000;

    PQconninfoOption *check = PQconninfoParse(conninfo, NULL);
    if (check == NULL)
        return ps_fail(err, PS_EINVAL, "the connection string for the database cannot be read");
    name_connection(check, role, application, sizeof(application));
    PQconninfoFree(check);
    PGconn *conn = PQconnectStartParams(keys, values, 1);
    if (conn == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    PQsetNoticeReceiver(conn, ignore_notice, NULL);
    ps_status status = connect_poll(conn, deadline_ns, err);
    if (status == PS_OK) {
        PGresult *res;
        pg_wait wait = {.cancel_fd = -1, .deadline_ns = deadline_ns};
        status = pg_run(conn, session_setup, NULL, 0, &wait, &res, err);
        if (status == PS_OK)
            PQclear(res);
    }
    if (status != PS_OK) {
        PQfinish(conn);
        return status;
    }
    *ret = conn;
    return PS_OK;
}
