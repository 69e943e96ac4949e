/*
 * store.c - begin and end of all reading, and the thread that loads the label index.
 *
 * The loader has a connection only while it loads. When loading fails, queries are told why at once,
 * and it is tried again, ever more slowly.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "connector/read/internal.h"

enum {
    CONNECT_TIMEOUT_MS = 5000,
    RETRY_MIN_MS = 100,
    RETRY_MAX_MS = 10000,
    LIMIT_RETRY_MS = 60000
};

/* ---- the loader ------------------------------------------------------------------------------------ */

static ps_status
load_once(read_store *s, ps_err *err)
{
    PGconn *conn = NULL;
    pg_wait wait = {.cancel_fd = s->stop_fd, .deadline_ns = INT64_MAX};
    PS_TRY(pg_connect(s->conninfo, "labels", CONNECT_TIMEOUT_MS, &conn, err));
    ps_status status = label_index_load(s->labels, conn, &wait, err);
    if (status == PS_ECANCELED)
        pg_cancel(conn);
    PQfinish(conn);
    return status;
}

static ps_status
load(read_store *s, ps_err *err)
{
    ps_status status;
    do {
        status = load_once(s, err);
    } while (status != PS_OK && label_index_try_less(s->labels, status));
    return status;
}

/* Until the descriptor is readable or time is over; false: the store stops. */
static bool
pause_for(const read_store *s, int fd, int timeout_ms)
{
    struct pollfd fds[2] = {{.fd = s->stop_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    int n = poll(fds, 2, timeout_ms);
    return !(n > 0 && fds[0].revents != 0);
}

static void *
loader_main(void *self)
{
    read_store *s = self;
    int retry_ms = RETRY_MIN_MS;
    while (pause_for(s, label_index_wanted_fd(s->labels), -1)) {
        ps_err err = {.code = PS_OK};
        if (!label_index_wanted(s->labels))
            continue;
        ps_status status = load(s, &err);
        if (status == PS_OK) {
            retry_ms = RETRY_MIN_MS;
            continue;
        }
        if (status == PS_ECANCELED)
            break;
        log_limited(s->log, LOG_WARN, 60000, "the label index cannot be loaded, trying again",
                    (const log_field[]){LOG_STR("error", err.text)}, 1);
        err.code = status == PS_ELIMIT ? PS_ELIMIT : PS_EUNAVAILABLE;
        label_index_failed(s->labels, &err);
        if (!pause_for(s, -1, status == PS_ELIMIT ? LIMIT_RETRY_MS : retry_ms))
            break;
        retry_ms = retry_ms * 2 < RETRY_MAX_MS ? retry_ms * 2 : RETRY_MAX_MS;
    }
    return NULL;
}

/* ---- begin and end ------------------------------------------------------------------------------- */

static double
open_connections(void *self)
{
    read_store *s = self;
    pthread_mutex_lock(&s->lock);
    size_t n = s->n_open;
    pthread_mutex_unlock(&s->lock);
    return (double)n;
}

static void
register_metrics(read_store *s, metrics *m)
{
    if (m == NULL)
        return;
    s->m_blocks =
        metrics_counter(m, "promscale_query_blocks_total", "Blocks that queries read.", "");
    s->m_bytes = metrics_counter(m, "promscale_query_block_bytes_total",
                                 "Bytes of blocks that queries read.", "");
    s->m_rounds = metrics_counter(m, "promscale_query_selections_repeated_total",
                                  "Queries that read again, since series had come or gone.", "");
    s->m_damaged =
        metrics_counter(m, "promscale_query_damaged_blocks_total",
                        "Blocks that queries left out, since they cannot be read.", "");
    s->m_connections =
        metrics_gauge_fn(m, "promscale_query_connections",
                         "Connections to the database for reading.", "", open_connections, s);
}

ps_status
read_store_start(const read_store_config *config, read_store **ret, ps_err *err)
{
    read_store *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&s->lock, NULL);
    s->set = config->settings;
    s->log = config->log;
    s->damage_fails = s->set->query_damaged_blocks != NULL &&
                      strcmp(s->set->query_damaged_blocks, "error") == 0;
    s->conninfo = strdup(config->conninfo);
    s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ps_status status = s->conninfo == NULL || s->stop_fd < 0
                           ? ps_fail(err, PS_ENOMEM, "out of memory or descriptors")
                           : label_index_new((size_t)s->set->query_index_max_bytes, s->log,
                                             config->metrics, &s->labels, err);
    if (status == PS_OK) {
        register_metrics(s, config->metrics);
        s->loader_runs = pthread_create(&s->loader, NULL, loader_main, s) == 0;
        if (!s->loader_runs)
            status = ps_fail(err, PS_ENOMEM, "no thread for loading the label index");
    }
    if (status != PS_OK) {
        read_store_free(s);
        return status;
    }
    *ret = s;
    return PS_OK;
}

void
read_store_stop(read_store *s)
{
    if (s == NULL)
        return;
    (void)eventfd_write(s->stop_fd, 1);
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    for (read_source *src = s->sources; src != NULL; src = src->next) {
        atomic_store(&src->cancelled, true);
        (void)eventfd_write(src->cancel_fd, 1);
    }
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (s->loader_runs)
        pthread_join(s->loader, NULL);
    s->loader_runs = false;
}

void
read_store_free(read_store *s)
{
    if (s == NULL)
        return;
    if (s->stop_fd >= 0)
        read_store_stop(s);
    read_conns_close_idle(s);
    label_index_free(s->labels);
    if (s->stop_fd >= 0)
        close(s->stop_fd);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s->conninfo);
    free(s);
}
