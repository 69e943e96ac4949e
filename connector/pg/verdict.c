/*
 * verdict.c - what a failed statement means for the data that was in it.
 *
 * The sender of samples gets one of two answers to a failure: "send again later" (503) or "this
 * will never go in" (400, and Prometheus throws it away). The second is the dangerous one, so only
 * SQLSTATEs that speak about the values themselves count as DATA. A unique or foreign key violation
 * does not: no sample can cause one, but a sequence behind its table after a bad restore would, and
 * then every sender would be told to throw everything away.
 */
#include "connector/pg/pg.h"

static const struct {
    const char *prefix; /* of the SQLSTATE; the first that fits decides */
    pg_verdict verdict;
} verdicts[] = {
    {"PS001", PG_VERDICT_GENERATION}, {"08", PG_VERDICT_RETRY}, /* connection */
    {"40", PG_VERDICT_RETRY},                                   /* serialisation, deadlock */
    {"53", PG_VERDICT_RETRY},    /* disk full, memory, too many connections */
    {"55", PG_VERDICT_RETRY},    /* lock timeout, object in use, not in the right state yet */
    {"57", PG_VERDICT_RETRY},    /* shutdown, crash, starting up, cancelled */
    {"58", PG_VERDICT_RETRY},    /* I/O errors of the server */
    {"25006", PG_VERDICT_RETRY}, /* read-only: a standby before its promotion */
    {"25P0", PG_VERDICT_RETRY},  /* idle-in-transaction and transaction time-outs */
    {"22P02", PG_VERDICT_BUG},   /* unreadable text: our literal */
    {"22P03", PG_VERDICT_BUG},   /* unreadable binary: our encoder */
    {"22P04", PG_VERDICT_BUG},   /* bad COPY format: our encoder */
    {"22", PG_VERDICT_DATA},          {"23514", PG_VERDICT_DATA}, /* CHECK */
    {"54", PG_VERDICT_DATA},                                      /* a limit of the server */
};

pg_verdict
pg_verdict_of_state(const char *sqlstate)
{
    if (sqlstate == NULL || sqlstate[0] == '\0')
        return PG_VERDICT_RETRY; /* libpq's own errors: the connection is gone */
    for (size_t i = 0; i < PS_ARRAY_LEN(verdicts); i++) {
        if (strncmp(sqlstate, verdicts[i].prefix, strlen(verdicts[i].prefix)) == 0)
            return verdicts[i].verdict;
    }
    return PG_VERDICT_BUG;
}

pg_verdict
pg_verdict_of(const PGresult *res, const PGconn *conn)
{
    if (res == NULL || conn == NULL || PQstatus(conn) != CONNECTION_OK)
        return PG_VERDICT_RETRY;
    return pg_verdict_of_state(PQresultErrorField(res, PG_DIAG_SQLSTATE));
}

ps_status
pg_status_of(pg_verdict verdict)
{
    switch (verdict) {
    case PG_VERDICT_RETRY:
        return PS_EUNAVAILABLE;
    case PG_VERDICT_GENERATION:
        return PS_ECONFLICT;
    case PG_VERDICT_DATA:
        return PS_EINVAL;
    case PG_VERDICT_BUG:
        break;
    }
    return PS_EINTERNAL;
}

/* The first line of src, cut at a character boundary: it goes into log lines and answers. What
 * libpq says after the first line is guesses for people at a terminal. */
static void
first_line(char *dst, size_t cap, const char *src)
{
    size_t n = ps_utf8_prefix((ps_str){src, strcspn(src, "\r\n")}, cap - 1);
    memcpy(dst, src, n);
    dst[n] = '\0';
}

ps_status
pg_fail_result(const PGresult *res, const PGconn *conn, ps_err *err)
{
    char text[200];
    const char *state = res != NULL ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
    const char *message = res != NULL ? PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    if (message == NULL)
        message = conn != NULL ? PQerrorMessage(conn) : "no connection";
    first_line(text, sizeof(text), message);
    ps_status status = pg_status_of(pg_verdict_of(res, conn));
    if (state != NULL)
        return ps_fail(err, status, "%s (SQLSTATE %s)", text, state);
    return ps_fail(err, status, "%s", text[0] != '\0' ? text : "connection to the database lost");
}
