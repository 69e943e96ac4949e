/* label_index.c - see label_index.h: views that come and go, and what queries ask of one. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "connector/catalog/label_view.h"

enum { FEW_SERIES = 50000, ROW_BYTES = 150 /* of a series in the catalog, about */ };

static void
set_flag(int fd, bool on)
{
    eventfd_t v;
    if (on)
        (void)eventfd_write(fd, 1);
    else
        (void)eventfd_read(fd, &v);
}

/* ---- views ------------------------------------------------------------------------------------ */

static label_view *
view_new(const label_index *ix, label_extent extent, ps_err *err)
{
    /* what such a view has besides the index: names of metrics, ids */
    size_t max_bytes = extent == LABEL_ALL ? ix->max_bytes : ix->max_bytes / 8 * 7;
    label_view *v = calloc(1, sizeof(*v));
    if (v == NULL || idx_new(&ps_malloc, max_bytes, ix->seed, &v->x, err) != PS_OK) {
        free(v);
        ps_fail(err, PS_ENOMEM, "out of memory");
        return NULL;
    }
    v->extent = extent;
    v->max_bytes = max_bytes;
    ps_arena_init(&v->names, &ps_malloc, 0);
    mdl_ids_init(&v->seen, &ps_malloc);
    for (size_t i = 0; i < LABEL_GUESSES; i++)
        mdl_ids_init(&v->guesses[i].ids, &ps_malloc);
    pthread_rwlock_init(&v->seen_lock, NULL);
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&v->lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&v->cursor_lock, NULL);
    ps_buf_init(&v->cursor, &ps_malloc);
    atomic_init(&v->refs, 1);
    atomic_init(&v->taught, 0);
    return v;
}

void
label_view_release(label_view *v)
{
    if (v == NULL || atomic_fetch_sub(&v->refs, 1) != 1)
        return;
    idx_free(v->x);
    for (size_t i = 0; i < v->n_tenants; i++)
        free(v->tenants[i].name);
    free(v->tenants);
    free(v->metrics);
    ps_arena_done(&v->names);
    mdl_ids_done(&v->seen);
    for (size_t i = 0; i < LABEL_GUESSES; i++)
        mdl_ids_done(&v->guesses[i].ids);
    pthread_rwlock_destroy(&v->seen_lock);
    ps_buf_done(&v->cursor);
    pthread_mutex_destroy(&v->cursor_lock);
    pthread_rwlock_destroy(&v->lock);
    free(v);
}

const char *
label_view_identity(const label_view *v)
{
    return v->identity;
}

static const label_tenant *
find_tenant(const label_view *v, ps_str name)
{
    for (size_t i = 0; i < v->n_tenants; i++) {
        if (ps_str_eq(name, (ps_str){v->tenants[i].name, v->tenants[i].name_len}))
            return &v->tenants[i];
    }
    return NULL;
}

ps_status
label_view_add_tenant(label_view *v, int32_t id, ps_str name, ps_err *err)
{
    if (find_tenant(v, name) != NULL)
        return PS_OK;
    label_tenant *tenants = realloc(v->tenants, (v->n_tenants + 1) * sizeof(*tenants));
    if (tenants != NULL)
        v->tenants = tenants;
    char *copy = malloc(name.len + 1);
    if (tenants == NULL || copy == NULL) {
        free(copy);
        return ps_fail(err, PS_ENOMEM, "out of memory");
    }
    if (name.len > 0)
        memcpy(copy, name.ptr, name.len);
    v->tenants[v->n_tenants++] = (label_tenant){id, copy, name.len};
    return PS_OK;
}

ps_status
label_identity(PGconn *conn, const pg_wait *wait, char ret[LABEL_IDENTITY_BYTES], ps_err *err)
{
    static const char sql[] =
        "SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()),"
        " (SELECT oid FROM pg_database WHERE datname = current_database()))::text";
    PGresult *res;
    PS_TRY(pg_run(conn, sql, NULL, 0, wait, &res, err));
    ps_status status = PS_OK;
    if (PQntuples(res) != 1 || PQgetlength(res, 0, 0) >= LABEL_IDENTITY_BYTES)
        status = ps_fail(err, PS_ECORRUPT, "the database does not say who it is");
    else
        memcpy(ret, PQgetvalue(res, 0, 0), (size_t)PQgetlength(res, 0, 0) + 1);
    PQclear(res);
    return status;
}

/* ---- the index -------------------------------------------------------------------------------- */

static void
register_metrics(label_index *ix, metrics *m)
{
    if (m == NULL)
        return;
    ix->m_bytes = metrics_gauge(m, "promscale_label_index_bytes",
                                "Memory of the label index, all of it counted.", "");
    ix->m_series =
        metrics_gauge(m, "promscale_label_index_series", "Series in the label index.", "");
    ix->m_loads = metrics_counter(m, "promscale_label_index_loads_total",
                                  "Times that the whole catalog was read.", "");
    ix->m_learnt = metrics_counter(m, "promscale_label_index_learnt_total",
                                   "Series created or deleted that the feed told of.", "");
    ix->m_asked = metrics_counter(m, "promscale_label_index_asked_total",
                                  "Series of long ago whose labels requests had to read.", "");
    ix->m_whole = metrics_gauge(m, "promscale_label_index_whole",
                                "1: all series there are fit into the label index.", "");
    metric_set(metrics_gauge(m, "promscale_label_index_max_bytes", "Budget of the label index.",
                             ""),
               (double)ix->max_bytes);
}

ps_status
label_index_new(size_t max_bytes, logger *log, metrics *m, label_index **ret, ps_err *err)
{
    label_index *ix = calloc(1, sizeof(*ix));
    if (ix == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    ix->max_bytes = max_bytes;
    ix->log = log;
    ix->wanted_fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    ix->ready_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&ix->lock, NULL);
    if (ix->wanted_fd < 0 || ix->ready_fd < 0 ||
        getrandom(&ix->seed, sizeof(ix->seed), 0) != (ssize_t)sizeof(ix->seed)) {
        label_index_free(ix);
        return ps_fail(err, PS_EINTERNAL, "the system gives no descriptors or random numbers");
    }
    register_metrics(ix, m);
    *ret = ix;
    return PS_OK;
}

void
label_index_free(label_index *ix)
{
    if (ix == NULL)
        return;
    label_view_release(ix->current);
    pthread_mutex_destroy(&ix->lock);
    if (ix->wanted_fd >= 0)
        close(ix->wanted_fd);
    if (ix->ready_fd >= 0)
        close(ix->ready_fd);
    free(ix);
}

int
label_index_wanted_fd(const label_index *ix)
{
    return ix->wanted_fd;
}

bool
label_index_wanted(const label_index *ix)
{
    struct pollfd fd = {.fd = ix->wanted_fd, .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

void
label_index_tell_size(label_index *ix, const idx_stats *stats)
{
    metric_set(ix->m_bytes, (double)stats->bytes);
    metric_set(ix->m_series, (double)stats->series);
}

/* Takes the view away, so that queries wait for the next one. Under the lock. */
static void
drop_current(label_index *ix)
{
    label_view_release(ix->current);
    ix->current = NULL;
    ix->refreshing = false;
    ix->failure.code = PS_OK;
    set_flag(ix->ready_fd, false);
    set_flag(ix->wanted_fd, true);
}

void
label_index_outdated(label_index *ix, label_view *v, const char *why)
{
    pthread_mutex_lock(&ix->lock);
    bool current = ix->current == v;
    if (current)
        drop_current(ix);
    pthread_mutex_unlock(&ix->lock);
    if (current)
        log_info(ix->log, "the label index is loaded anew", LOG_STR("reason", why));
}

void
label_index_refresh(label_index *ix, label_view *v, const idx_stats *stats)
{
    if (stats->series < v->loaded_series * 3 + FEW_SERIES || stats->bytes > ix->max_bytes / 2)
        return; /* beyond half of the budget it grows to the end of it */
    pthread_mutex_lock(&ix->lock);
    if (ix->current == v && !ix->refreshing) {
        ix->refreshing = true;
        set_flag(ix->wanted_fd, true);
    }
    pthread_mutex_unlock(&ix->lock);
}

void
label_index_failed(label_index *ix, const ps_err *why)
{
    pthread_mutex_lock(&ix->lock);
    if (ix->current == NULL) {
        ix->failure = *why;
        set_flag(ix->ready_fd, false);
        if (why->code != PS_OK)
            set_flag(ix->ready_fd, true);
    }
    pthread_mutex_unlock(&ix->lock);
}

/* Bytes of the table of series: some more than an index of all of them takes. */
static ps_status
series_bytes(PGconn *conn, const pg_wait *wait, int64_t *ret, ps_err *err)
{
    PGresult *res;
    PS_TRY(pg_run(conn, "SELECT pg_catalog.pg_relation_size('_prom_catalog.series')", NULL, 0, wait,
                  &res, err));
    bool good = PQntuples(res) == 1 && PQgetlength(res, 0, 0) == 8;
    if (good)
        *ret = (int64_t)pg_get_u64(PQgetvalue(res, 0, 0));
    PQclear(res);
    return good ? PS_OK : ps_fail(err, PS_ECORRUPT, "the database does not say how large it is");
}

/* Series that lived in the last two days; -1: nobody knows. */
static int64_t
count_alive(PGconn *conn, const pg_wait *wait)
{
    PGresult *res;
    ps_err ignored;
    int64_t n = -1;
    if (pg_run(conn,
               "SELECT CASE WHEN _prom_catalog.presence_is_missing() THEN -1 ELSE (SELECT"
               " coalesce(sum(_prom_ext.ids_count(_prom_ext.series_alive(id, NULL, now() -"
               " interval '2 days', 'infinity'))), 0)::int8 FROM _prom_catalog.tenant) END",
               NULL, 0, wait, &res, &ignored) != PS_OK)
        return -1;
    if (PQntuples(res) == 1 && PQgetlength(res, 0, 0) == 8)
        n = (int64_t)pg_get_u64(PQgetvalue(res, 0, 0));
    PQclear(res);
    return n;
}

/*
 * All series, if they fit and most of them live: dead ones cost every selection some time. All are tried again
 * when there are fewer of them.
 */
static void
choose_extent(label_index *ix, PGconn *conn, const pg_wait *wait, int64_t bytes)
{
    bool hopeless = bytes / 4 * 3 > (int64_t)ix->max_bytes, too_many = false;
    int64_t series = bytes / ROW_BYTES;
    if (!hopeless && series > FEW_SERIES) {
        int64_t alive = count_alive(conn, wait);
        too_many = alive >= 0 && series > FEW_SERIES + alive * 3;
    }
    pthread_mutex_lock(&ix->lock);
    if (hopeless || too_many)
        ix->extent = LABEL_RECENT;
    else if (ix->too_large == 0 || bytes < ix->too_large)
        ix->extent = LABEL_ALL;
    pthread_mutex_unlock(&ix->lock);
}

bool
label_index_try_less(label_index *ix, ps_status why)
{
    pthread_mutex_lock(&ix->lock);
    bool less = (ix->current == NULL || ix->refreshing) &&
                ((why == PS_ELIMIT && ix->extent < LABEL_ASKED) ||
                 ((why == PS_EINTERNAL || why == PS_EINVAL) && ix->extent == LABEL_RECENT));
    if (less)
        ix->extent++;
    pthread_mutex_unlock(&ix->lock);
    return less;
}

static void
use_view(label_index *ix, label_view *v)
{
    pthread_mutex_lock(&ix->lock);
    label_view_release(ix->current);
    ix->current = v;
    ix->refreshing = false;
    ix->failure.code = PS_OK;
    if (v->extent == LABEL_ALL)
        ix->too_large = 0;
    else
        ix->extent = LABEL_RECENT; /* next time */
    set_flag(ix->wanted_fd, false);
    set_flag(ix->ready_fd, true);
    pthread_mutex_unlock(&ix->lock);
}

ps_status
label_index_load(label_index *ix, PGconn *conn, const pg_wait *wait, ps_err *err)
{
    static const char *const extents[] = {"all series", "series that lived lately", "nothing yet"};
    int64_t begun_ns = pg_now_ns(), table_bytes = 0;
    pthread_mutex_lock(&ix->lock);
    if (ix->current != NULL && !ix->refreshing)
        drop_current(ix);
    pthread_mutex_unlock(&ix->lock);
    PS_TRY(series_bytes(conn, wait, &table_bytes, err));
    if (ix->extent != LABEL_ASKED) /* the loader alone changes it */
        choose_extent(ix, conn, wait, table_bytes);
    label_view *v = view_new(ix, ix->extent, err);
    if (v == NULL)
        return PS_ENOMEM;
    ps_status status = v->extent == LABEL_ALL ? label_view_load(v, conn, wait, err)
                                              : label_view_load_some(v, conn, wait, err);
    idx_stats stats = idx_get_stats(v->x);
    if (status != PS_OK) {
        if (status == PS_ELIMIT && v->extent == LABEL_ALL)
            ix->too_large = table_bytes;
        label_view_release(v);
        if (status == PS_ELIMIT)
            return ps_fail(err, PS_ELIMIT,
                           "the index of series' labels needs more than the %zu bytes of"
                           " query.index-max-bytes",
                           ix->max_bytes);
        return status;
    }
    label_extent extent = v->extent;
    v->loaded_bytes = stats.bytes;
    v->loaded_series = stats.series;
    use_view(ix, v);
    metric_add(ix->m_loads, 1);
    metric_set(ix->m_whole, extent == LABEL_ALL ? 1 : 0);
    label_index_tell_size(ix, &stats);
    log_info(ix->log, "the label index is loaded", LOG_STR("with", extents[extent]),
             LOG_INT("series", stats.series), LOG_INT("labels", stats.pairs),
             LOG_INT("bytes", stats.bytes), LOG_INT("took_ms", (pg_now_ns() - begun_ns) / 1000000));
    return PS_OK;
}

/* ---- queries ------------------------------------------------------------------------------------ */

/* Until the descriptor is readable. */
static ps_status
wait_ready(int fd, const pg_wait *wait, ps_err *err)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = fd, .events = POLLIN},
                                {.fd = wait->cancel_fd, .events = POLLIN}};
        int64_t left_ms = wait->deadline_ns == INT64_MAX
                              ? 3600000
                              : (wait->deadline_ns - pg_now_ns() + 999999) / 1000000;
        if (left_ms <= 0)
            return ps_fail(err, PS_ETIMEOUT, "the labels of all series were not loaded in time");
        int n = poll(fds, 2, left_ms > 3600000 ? 3600000 : (int)left_ms);
        if (n < 0 && errno != EINTR)
            return ps_fail(err, PS_EINTERNAL, "poll failed (errno %d)", errno);
        if (n > 0 && fds[1].revents != 0)
            return ps_fail(err, PS_ECANCELED, "the query was canceled");
        if (n > 0 && fds[0].revents != 0)
            return PS_OK;
    }
}

ps_status
label_index_hold(label_index *ix, const pg_wait *wait, label_view **ret, ps_err *err)
{
    for (;;) {
        pthread_mutex_lock(&ix->lock);
        label_view *v = ix->current;
        ps_err failure = ix->failure;
        if (v != NULL)
            atomic_fetch_add(&v->refs, 1);
        pthread_mutex_unlock(&ix->lock);
        if (v != NULL) {
            *ret = v;
            return PS_OK;
        }
        if (failure.code != PS_OK)
            return ps_fail(err, failure.code, "%s", failure.text);
        PS_TRY(wait_ready(ix->ready_fd, wait, err));
    }
}

ps_status
label_view_cursor(label_view *v, ps_buf *out, ps_err *err)
{
    pthread_mutex_lock(&v->cursor_lock);
    ps_buf_add_str(out, ps_buf_str(&v->cursor));
    pthread_mutex_unlock(&v->cursor_lock);
    return out->failed ? ps_fail(err, PS_ENOMEM, "out of memory") : PS_OK;
}

bool
label_view_tenant(label_view *v, ps_str name, int32_t *ret)
{
    pthread_rwlock_rdlock(&v->lock);
    const label_tenant *t = find_tenant(v, name);
    if (t != NULL)
        *ret = t->id;
    pthread_rwlock_unlock(&v->lock);
    return t != NULL;
}

/* Under the read lock. NULL: no such tenant, or no memory (*ret_status). */
static idx_query *
index_queries(label_view *v, const label_query *q, size_t n, ps_arena *arena, ps_status *ret_status,
              ps_err *err)
{
    const label_tenant *t = n > 0 ? find_tenant(v, q[0].tenant) : NULL;
    *ret_status = PS_OK;
    if (t == NULL)
        return NULL;
    idx_query *ret = ps_arena_array(arena, n, sizeof(*ret));
    if (ret == NULL) {
        *ret_status = ps_fail(err, PS_ENOMEM, "the query needs more memory than it may use");
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        ret[i] = (idx_query){.tenant_id = t->id,
                             .matchers = q[i].matchers,
                             .n_matchers = q[i].n_matchers,
                             .max_series = q[i].max_series,
                             .limit = q[i].limit,
                             .within = q[i].within,
                             .should_stop = q[i].should_stop,
                             .self = q[i].self};
    *q[0].ret_tenant_id = t->id;
    return ret;
}

ps_status
label_view_select(label_view *v, const label_query *q, ps_arena *arena, idx_found *ret, ps_err *err)
{
    ps_status status;
    *ret = (idx_found){0};
    pthread_rwlock_rdlock(&v->lock);
    const idx_query *iq = index_queries(v, q, 1, arena, &status, err);
    if (iq != NULL)
        status = idx_select(v->x, iq, arena, ret, err);
    pthread_rwlock_unlock(&v->lock);
    return status;
}

ps_status
label_view_metrics(label_view *v, const label_query *q, size_t n, ps_arena *arena,
                   idx_metric_ids *ret, ps_err *err)
{
    ps_status status;
    *ret = (idx_metric_ids){0};
    pthread_rwlock_rdlock(&v->lock);
    const idx_query *iq = index_queries(v, q, n, arena, &status, err);
    if (iq != NULL)
        status = idx_metrics(v->x, iq, n, arena, ret, err);
    pthread_rwlock_unlock(&v->lock);
    return status;
}

ps_status
label_view_texts(label_view *v, const label_query *q, size_t n, const ps_str *name, ps_arena *arena,
                 idx_texts *ret, ps_err *err)
{
    ps_status status;
    *ret = (idx_texts){0};
    pthread_rwlock_rdlock(&v->lock);
    const idx_query *iq = index_queries(v, q, n, arena, &status, err);
    if (iq != NULL)
        status = name != NULL ? idx_values(v->x, *name, iq, n, arena, ret, err)
                              : idx_names(v->x, iq, n, arena, ret, err);
    pthread_rwlock_unlock(&v->lock);
    return status;
}

ps_status
label_view_count(label_view *v, ps_str tenant, const idx_cardinality_query *q, ps_arena *arena,
                 idx_cardinality *ret, ps_err *err)
{
    *ret = (idx_cardinality){0};
    pthread_rwlock_rdlock(&v->lock);
    const label_tenant *t = find_tenant(v, tenant);
    ps_status status = PS_OK;
    if (t != NULL) {
        idx_cardinality_query of = *q;
        of.tenant_id = t->id;
        status = idx_get_cardinality(v->x, &of, arena, ret, err);
    }
    pthread_rwlock_unlock(&v->lock);
    return status;
}

ps_status
label_view_series(label_view *v, int32_t tenant_id, idx_key_fn key_of, void *self, ps_arena *arena,
                  idx_keyed **ret, size_t *ret_n, ps_err *err)
{
    pthread_rwlock_rdlock(&v->lock);
    ps_status status = idx_series_of_metrics(v->x, tenant_id, key_of, self, arena, ret, ret_n, err);
    pthread_rwlock_unlock(&v->lock);
    return status;
}
