/*
 * wait.c - libpq's asynchronous calls under a deadline and a cancel descriptor, so that no thread
 * is ever stuck with a server that has stopped answering.
 *
 * A wait that ends early never cancels anything on the server: a COMMIT that is on its way may
 * still succeed. The caller closes the connection and does not acknowledge.
 */
#include "connector/pg/pg.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

int64_t
pg_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Waits until the socket is ready for `events`. */
static ps_status
wait_socket(PGconn *conn, short events, const pg_wait *wait, ps_err *err)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = PQsocket(conn), .events = events},
                                {.fd = wait->cancel_fd, .events = POLLIN}};
        if (fds[0].fd < 0)
            return ps_fail(err, PS_EUNAVAILABLE, "connection to the database lost");
        int timeout_ms = -1;
        if (wait->deadline_ns != INT64_MAX) {
            int64_t left_ms = (wait->deadline_ns - pg_now_ns() + 999999) / 1000000;
            timeout_ms = left_ms < 0 ? 0 : left_ms > 3600000 ? 3600000 : (int)left_ms;
        }
        int n = poll(fds, 2, timeout_ms);
        if (n < 0 && errno != EINTR)
            return ps_fail(err, PS_EUNAVAILABLE,
                           "poll on the database connection failed (errno %d)", errno);
        if (n < 0)
            continue;
        if (fds[1].revents != 0)
            return ps_fail(err, PS_ECANCELED, "stopped while waiting for the database");
        if (fds[0].revents != 0)
            return PS_OK;
        if (wait->deadline_ns != INT64_MAX && pg_now_ns() >= wait->deadline_ns)
            return ps_fail(err, PS_ETIMEOUT, "the database did not answer in time");
    }
}

ps_status
pg_flush_out(PGconn *conn, const pg_wait *wait, ps_err *err)
{
    for (;;) {
        int left = PQflush(conn);
        if (left == 0)
            return PS_OK;
        if (left < 0)
            return pg_fail_result(NULL, conn, err);
        PS_TRY(wait_socket(conn, POLLIN | POLLOUT, wait, err));
        /* The server may be waiting for us to read before it reads on. */
        if (PQconsumeInput(conn) == 0)
            return pg_fail_result(NULL, conn, err);
    }
}

ps_status
pg_next_result(PGconn *conn, const pg_wait *wait, PGresult **ret, ps_err *err)
{
    PS_TRY(pg_flush_out(conn, wait, err));
    while (PQisBusy(conn)) {
        PS_TRY(wait_socket(conn, POLLIN, wait, err));
        /* On failure libpq keeps the reason as a result, which is fetched below. */
        if (PQconsumeInput(conn) == 0)
            break;
    }
    *ret = PQgetResult(conn);
    return PS_OK;
}

ps_status
pg_next_copy_row(PGconn *conn, const pg_wait *wait, char **ret, size_t *ret_len, ps_err *err)
{
    for (;;) {
        int n = PQgetCopyData(conn, ret, 1);
        if (n > 0) {
            *ret_len = (size_t)n;
            return PS_OK;
        }
        if (n == -1) {
            *ret = NULL;
            return PS_OK;
        }
        if (n < -1)
            return pg_fail_result(NULL, conn, err);
        PS_TRY(wait_socket(conn, POLLIN, wait, err));
        if (PQconsumeInput(conn) == 0)
            return pg_fail_result(NULL, conn, err);
    }
}

void
pg_cancel(PGconn *conn)
{
    char text[256];
    PGcancel *cancel = PQgetCancel(conn);
    if (cancel != NULL)
        (void)PQcancel(cancel, text, sizeof(text));
    PQfreeCancel(cancel);
}

ps_status
pg_run(PGconn *conn, const char *sql, const pg_param *params, size_t n_params, const pg_wait *wait,
       PGresult **ret, ps_err *err)
{
    Oid types[PG_MAX_PARAMS];
    const char *values[PG_MAX_PARAMS];
    int lengths[PG_MAX_PARAMS], formats[PG_MAX_PARAMS];
    if (n_params > PG_MAX_PARAMS)
        return ps_fail(err, PS_EINTERNAL, "too many parameters");
    for (size_t i = 0; i < n_params; i++) {
        if (params[i].bytes.len > INT32_MAX)
            return ps_fail(err, PS_EINTERNAL, "parameter %zu is too large", i + 1);
        types[i] = params[i].type;
        values[i] = params[i].bytes.ptr;
        lengths[i] = (int)params[i].bytes.len;
        formats[i] = 1;
    }
    if (PQsendQueryParams(conn, sql, (int)n_params, types, values, lengths, formats, 1) == 0)
        return pg_fail_result(NULL, conn, err);

    PGresult *answer = NULL; /* the last result that carries something; the first error */
    for (;;) {
        PGresult *res;
        ps_status status = pg_next_result(conn, wait, &res, err);
        if (status != PS_OK) {
            PQclear(answer);
            return status;
        }
        if (res == NULL)
            break;
        if (answer == NULL || PQresultStatus(answer) != PGRES_FATAL_ERROR) {
            PQclear(answer);
            answer = res;
        } else {
            PQclear(res);
        }
        if (PQstatus(conn) != CONNECTION_OK)
            break;
    }
    ExecStatusType kind = PQresultStatus(answer);
    if (kind != PGRES_TUPLES_OK && kind != PGRES_COMMAND_OK) {
        ps_status status = pg_fail_result(answer, conn, err);
        PQclear(answer);
        return status;
    }
    *ret = answer;
    return PS_OK;
}
