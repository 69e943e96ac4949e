/*
 * label_learn.c - what a view learns while it is in use: from the feed, which series are new and which are gone;
 * and, where it does not hold all series, the labels of those that somebody asked for.
 *
 * Labels are read first and put into a lesson; then all of it is taken in under the lock, so that queries wait
 * for memory only. After a failure half-way the view is of no use any more, and another one is loaded.
 */
#include "connector/catalog/label_view.h"

#include <stdlib.h>

enum { DEAD_MIN = 100000, AT_ONCE = 50000 /* series of a lesson */, ASKED_BYTES = 300 };
/* More news than that, and than series are held: loading all takes a tenth of the time that learning takes. */
enum { MANY_NEWS = 200000 };

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

/* Those of the created that the view does not know; at the front of the array. *ret_stats: what it holds. */
static size_t
keep_unknown(label_view *v, int64_t *ids, size_t n, idx_stats *ret_stats)
{
    size_t kept = 0;
    pthread_rwlock_rdlock(&v->lock);
    *ret_stats = idx_get_stats(v->x);
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

static ps_status
add_metric_of(label_view *v, const staged *s, ps_err *err)
{
    for (size_t i = 0; i < s->labels.n; i++) {
        if (ps_str_eq_c(s->labels.items[i].name, MDL_METRIC_NAME))
            return label_view_add_metric(v, s->metric_id, s->labels.items[i].value, err);
    }
    return PS_OK;
}

/* Under the write lock. */
static ps_status
take_in(label_view *v, const lesson *l, const int64_t *deleted, size_t n_deleted, ps_err *err)
{
    for (size_t i = 0; i < n_deleted; i++)
        PS_TRY(idx_delete(v->x, deleted[i], err));
    for (const staged *s = l->first; s != NULL; s = s->next) {
        PS_TRY(label_view_add_tenant(v, s->tenant_id, s->tenant, err));
        PS_TRY(idx_add_labels(v->x, s->tenant_id, s->series_id, s->metric_id, s->labels, err));
        PS_TRY(add_metric_of(v, s, err));
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

/* The deleted, and n of the created in portions: a lesson takes several times what the index does. *ret_broken:
 * the index is of no use any more. */
static ps_status
learn_created(label_view *v, PGconn *conn, const pg_wait *wait, const follow_news *news, size_t n,
              size_t *ret_learnt, idx_stats *ret_stats, bool *ret_broken, ps_err *err)
{
    ps_status status;
    size_t at = 0;
    do {
        size_t part = n - at < AT_ONCE ? n - at : AT_ONCE;
        lesson l = {.n = 0};
        ps_arena_init(&l.arena, &ps_malloc, 0);
        status = part == 0 ? PS_OK
                           : follow_series(conn, wait, news->created + at, part, stage, &l, err);
        if (status == PS_OK) {
            pthread_rwlock_wrlock(&v->lock);
            status = take_in(v, &l, news->deleted, at == 0 ? news->n_deleted : 0, err);
            *ret_stats = idx_get_stats(v->x);
            pthread_rwlock_unlock(&v->lock);
            *ret_broken = status != PS_OK;
        }
        *ret_learnt += l.n;
        ps_arena_done(&l.arena);
        at += part;
    } while (status == PS_OK && at < n);
    return status;
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
    idx_stats stats = {0};
    size_t n = keep_unknown(v, news->created, news->n_created, &stats), learnt = 0;
    if (n > MANY_NEWS && n > stats.series) {
        label_index_outdated(ix, v, "so many series are new");
        return ps_fail(err, PS_ECONFLICT, "the labels of all series are loaded anew");
    }
    bool broken = false;
    ps_status status = learn_created(v, conn, wait, news, n, &learnt, &stats, &broken, err);
    if (status != PS_OK && !broken) /* what was taken in is right */
        return status;
    if (status == PS_OK)
        status = move_cursor(v, ps_buf_str(&news->cursor), err);
    metric_add(ix->m_learnt, (double)(learnt + news->n_deleted));
    label_index_tell_size(ix, &stats);
    if (status != PS_OK) /* the index is of no use any more */
        label_index_outdated(ix, v, err->text);
    else if (label_view_is_whole(v) && stats.deleted > DEAD_MIN && stats.deleted > stats.series)
        label_index_outdated(ix, v, "most of it are deleted series");
    else
        label_index_refresh(ix, v, &stats);
    /* another one may have room: it need not hold all */
    return status == PS_ELIMIT
               ? ps_fail(err, PS_ECONFLICT, "the labels of all series are loaded anew")
               : status;
}

/* ---- what was asked for --------------------------------------------------------------------------- */

/* Is there room for so many more? What was asked for before goes, if that makes some. */
static ps_status
make_room(label_index *ix, label_view *v, size_t n, size_t n_before, ps_err *err)
{
    pthread_rwlock_rdlock(&v->lock);
    size_t bytes = idx_get_stats(v->x).bytes;
    pthread_rwlock_unlock(&v->lock);
    if (bytes <= v->max_bytes && n <= (v->max_bytes - bytes) / ASKED_BYTES)
        return PS_OK;
    if (bytes > v->loaded_bytes + v->max_bytes / 8 &&
        n + n_before <= (v->max_bytes - v->loaded_bytes) / ASKED_BYTES) {
        label_index_outdated(ix, v, "room is needed for series of another time");
        return ps_fail(err, PS_ECONFLICT, "the labels of series are loaded anew");
    }
    return ps_fail(err, PS_ELIMIT,
                   "the request needs the labels of %zu series more than the label index holds, which"
                   " would take it beyond query.index-max-bytes (%zu): ask for a shorter time, or for"
                   " fewer series",
                   n + n_before, ix->max_bytes);
}

/* Those that the catalog does not have were deleted: ids never come again. Under the write lock. */
static ps_status
take_asked(label_view *v, const lesson *l, const int64_t *ids, size_t n, ps_err *err)
{
    atomic_fetch_add(&v->taught, 1);
    PS_TRY(take_in(v, l, NULL, 0, err));
    for (size_t i = 0; i < n; i++) {
        if (!idx_knows(v->x, ids[i]))
            PS_TRY(idx_delete(v->x, ids[i], err));
    }
    return PS_OK;
}

static ps_status
learn_some(label_index *ix, label_view *v, PGconn *conn, const pg_wait *wait, const int64_t *ids,
           size_t n, ps_err *err)
{
    lesson l = {.n = 0};
    ps_arena_init(&l.arena, &ps_malloc, 0);
    ps_status status = follow_series(conn, wait, ids, n, stage, &l, err);
    if (status != PS_OK) { /* nothing was changed */
        ps_arena_done(&l.arena);
        return status;
    }
    pthread_rwlock_wrlock(&v->lock);
    status = take_asked(v, &l, ids, n, err);
    idx_stats stats = idx_get_stats(v->x);
    pthread_rwlock_unlock(&v->lock);
    ps_arena_done(&l.arena);
    metric_add(ix->m_asked, (double)l.n);
    label_index_tell_size(ix, &stats);
    if (status != PS_OK) /* the index is of no use any more */
        label_index_outdated(ix, v, err->text);
    else
        label_index_refresh(ix, v, &stats);
    return status;
}

ps_status
label_index_learn_asked(label_index *ix, label_view *v, PGconn *conn, const pg_wait *wait,
                        const int64_t *ids, size_t n, size_t n_before, ps_err *err)
{
    PS_TRY(make_room(ix, v, n, n_before, err));
    for (size_t at = 0; at < n; at += AT_ONCE)
        PS_TRY(learn_some(ix, v, conn, wait, ids + at, n - at < AT_ONCE ? n - at : AT_ONCE,
                          err));
    return PS_OK;
}
