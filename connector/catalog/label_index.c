/* label_index.c - see label_index.h: views that come and go, and what one learns from the feed. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "connector/catalog/label_view.h"

enum { DEAD_MIN = 100000 };

struct label_index {
    size_t max_bytes;
    uint64_t seed;
    logger *log;
    int wanted_fd, ready_fd;
    pthread_mutex_t lock; /* guards what follows */
    label_view *current;  /* NULL: none is loaded; holds a reference */
    ps_err failure;       /* why, if code is not PS_OK */
    metric *m_bytes, *m_series, *m_loads, *m_learnt;
};

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
view_new(const label_index *ix, ps_err *err)
{
    label_view *v = calloc(1, sizeof(*v));
    if (v == NULL || idx_new(&ps_malloc, ix->max_bytes, ix->seed, &v->x, err) != PS_OK) {
        free(v);
        ps_fail(err, PS_ENOMEM, "out of memory");
        return NULL;
    }
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&v->lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&v->cursor_lock, NULL);
    ps_buf_init(&v->cursor, &ps_malloc);
    atomic_init(&v->refs, 1);
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

static void
tell_size(label_index *ix, const idx_stats *stats)
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

ps_status
label_index_load(label_index *ix, PGconn *conn, const pg_wait *wait, ps_err *err)
{
    pthread_mutex_lock(&ix->lock);
    if (ix->current != NULL)
        drop_current(ix);
    pthread_mutex_unlock(&ix->lock);
    label_view *v = view_new(ix, err);
    if (v == NULL)
        return PS_ENOMEM;
    int64_t begun_ns = pg_now_ns();
    ps_status status = label_view_load(v, conn, wait, err);
    idx_stats stats = idx_get_stats(v->x);
    if (status != PS_OK) {
        label_view_release(v);
        if (status == PS_ELIMIT)
            return ps_fail(err, PS_ELIMIT,
                           "the index of all series' labels needs more than the %zu bytes of"
                           " query.index-max-bytes",
                           ix->max_bytes);
        return status;
    }
    pthread_mutex_lock(&ix->lock);
    ix->current = v;
    ix->failure.code = PS_OK;
    set_flag(ix->wanted_fd, false);
    set_flag(ix->ready_fd, true);
    pthread_mutex_unlock(&ix->lock);
    metric_add(ix->m_loads, 1);
    tell_size(ix, &stats);
    log_info(ix->log, "the label index is loaded", LOG_INT("series", stats.series),
             LOG_INT("labels", stats.pairs), LOG_INT("bytes", stats.bytes),
             LOG_INT("took_ms", (pg_now_ns() - begun_ns) / 1000000));
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

/* ---- learning ------------------------------------------------------------------------------------- */

typedef struct staged {
    struct staged *next;
    int32_t tenant_id, metric_id;
    int64_t series_id;
    ps_str tenant;
    mdl_labels labels;
} staged;

typedef struct lesson {
    ps_arena arena;
    staged *first;
    size_t n;
} lesson;

static ps_status
stage(void *self, int32_t tenant_id, ps_str tenant, int64_t series_id, int32_t metric_id,
      const mdl_label *labels, size_t n, ps_err *err)
{
    lesson *l = self;
    staged *s = ps_arena_new(&l->arena, sizeof(*s));
    mdl_label *copy = ps_arena_array(&l->arena, n, sizeof(*copy));
    if (s == NULL || copy == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    *s = (staged){l->first, tenant_id, metric_id, series_id, {NULL, 0}, {copy, n}};
    PS_TRY(ps_arena_dup(&l->arena, tenant, &s->tenant));
    for (size_t i = 0; i < n; i++) {
        PS_TRY(ps_arena_dup(&l->arena, labels[i].name, &copy[i].name));
        PS_TRY(ps_arena_dup(&l->arena, labels[i].value, &copy[i].value));
    }
    l->first = s;
    l->n++;
    return PS_OK;
}

/* Those of the created that the view does not know; at the front of the array. */
static size_t
keep_unknown(label_view *v, int64_t *ids, size_t n)
{
    size_t kept = 0;
    pthread_rwlock_rdlock(&v->lock);
    for (size_t i = 0; i < n; i++) {
        if (!idx_knows(v->x, ids[i]))
            ids[kept++] = ids[i];
    }
    pthread_rwlock_unlock(&v->lock);
    return kept;
}

/* Is cursor a of a later snapshot than b? They are: n, oldest running, next, running ones. */
static bool
is_later(ps_str a, ps_str b)
{
    if (a.len < 20 || b.len < 20)
        return true;
    uint64_t x = pg_get_u64(a.ptr + 12), y = pg_get_u64(b.ptr + 12);
    return x != y ? x > y : pg_get_u64(a.ptr + 4) >= pg_get_u64(b.ptr + 4);
}

/* Under the write lock. */
static ps_status
take_in(label_view *v, const lesson *l, const follow_news *news, ps_err *err)
{
    for (size_t i = 0; i < news->n_deleted; i++)
        PS_TRY(idx_delete(v->x, news->deleted[i], err));
    for (const staged *s = l->first; s != NULL; s = s->next) {
        PS_TRY(label_view_add_tenant(v, s->tenant_id, s->tenant, err));
        PS_TRY(idx_add_labels(v->x, s->tenant_id, s->series_id, s->metric_id, s->labels, err));
    }
    return idx_settle(v->x, err);
}

static ps_status
move_cursor(label_view *v, ps_str cursor, ps_err *err)
{
    bool failed = false;
    pthread_mutex_lock(&v->cursor_lock);
    if (is_later(cursor, ps_buf_str(&v->cursor))) {
        failed = cursor.len > v->cursor.len && !ps_buf_reserve(&v->cursor, cursor.len);
        if (!failed) { /* cannot fail half-way */
            ps_buf_clear(&v->cursor);
            ps_buf_add_str(&v->cursor, cursor);
        }
    }
    pthread_mutex_unlock(&v->cursor_lock);
    return failed ? ps_fail(err, PS_ENOMEM, "out of memory") : PS_OK;
}

ps_status
label_index_learn(label_index *ix, label_view *v, PGconn *conn, const pg_wait *wait,
                  const follow_news *news, ps_err *err)
{
    if (news->trimmed || follow_timeline(news) != v->timeline) {
        label_index_outdated(ix, v,
                             news->trimmed ? "the feed does not reach back far enough"
                                           : "the database has failed over");
        return ps_fail(err, PS_ECONFLICT, "the labels of all series are loaded anew");
    }
    if (news->n_created == 0 && news->n_deleted == 0)
        return move_cursor(v, ps_buf_str(&news->cursor), err);
    lesson l = {.n = 0};
    ps_arena_init(&l.arena, &ps_malloc, 0);
    size_t n = keep_unknown(v, news->created, news->n_created);
    ps_status status = n > 0 ? follow_series(conn, wait, news->created, n, stage, &l, err) : PS_OK;
    if (status != PS_OK) { /* nothing was changed */
        ps_arena_done(&l.arena);
        return status;
    }
    pthread_rwlock_wrlock(&v->lock);
    status = take_in(v, &l, news, err);
    idx_stats stats = idx_get_stats(v->x);
    pthread_rwlock_unlock(&v->lock);
    ps_arena_done(&l.arena);
    if (status == PS_OK)
        status = move_cursor(v, ps_buf_str(&news->cursor), err);
    metric_add(ix->m_learnt, (double)(l.n + news->n_deleted));
    tell_size(ix, &stats);
    if (status != PS_OK) /* the index is of no use any more */
        label_index_outdated(ix, v, err->text);
    else if (stats.deleted > DEAD_MIN && stats.deleted > stats.series)
        label_index_outdated(ix, v, "most of it are deleted series");
    return status;
}
