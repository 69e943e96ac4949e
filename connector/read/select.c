/*
 * select.c - the series and blocks of all selections of a query, in one snapshot that is taken after
 * the query came.
 *
 * First round: series are selected from what the label index knows, and their blocks are asked for in
 * the same go as the feed (one transaction of one round trip). If the feed tells of nothing new, or of
 * nothing that changes the selections, that was all. Otherwise a second round learns first and then
 * reads, in one transaction: feed, new labels, selection, blocks.
 *
 * An index that does not hold all series is asked no less than the database: which ids lived in the
 * selection's time comes along with the feed (alive.c), and those that the index does not know are learnt
 * like new ones. What the database answered to the same question before serves for a guess where the index holds
 * many more of the metric; an id that the guess does not have is like one that the index does not know.
 *
 * An index that is of no use any more (fail-over, another database, trimmed feed) is loaded anew while
 * the query waits, and it begins from the start.
 */
#include <stdlib.h>

#include "connector/read/internal.h"

enum { MAX_VIEWS = 4 };

/* ---- labels --------------------------------------------------------------------------------------- */

ps_status
read_compile(read_source *src, read_list *list, ps_err *err)
{
    const ev_selection *sel = &list->selection;
    list->matchers = ps_arena_array(&src->arena, sel->n_matchers + 1, sizeof(*list->matchers));
    if (list->matchers == NULL)
        return read_no_memory(src, err);
    for (size_t i = 0; i < sel->n_matchers; i++)
        PS_TRY(re_matcher_new(&src->alloc, &sel->matchers[i], &list->matchers[i], err));
    return PS_OK;
}

bool
read_should_stop(const read_source *src)
{
    return atomic_load_explicit(&src->cancelled, memory_order_relaxed) ||
           (src->deadline_ns != INT64_MAX && pg_now_ns() >= src->deadline_ns);
}

static bool
should_stop(void *self)
{
    return read_should_stop(self);
}

static const mdl_ids *
within(const read_alive *a)
{
    return a->ready ? &a->ids : a->guessed ? &a->guess : NULL;
}

static label_query
query_of(read_source *src, read_list *list)
{
    return (label_query){.tenant = {src->tenant, src->tenant_len},
                         .matchers = list->matchers,
                         .n_matchers = list->selection.n_matchers,
                         .within = within(&list->alive),
                         .should_stop = should_stop,
                         .self = src,
                         .ret_tenant_id = &list->tenant_id};
}

ps_status
read_select_labels(read_source *src, read_list *list, idx_found *ret, ps_err *err)
{
    label_query q = query_of(src, list);
    ps_status status = label_view_select(src->view, &q, &src->arena, ret, err);
    if (status == PS_ENOMEM)
        return read_no_memory(src, err);
    if (status == PS_ECANCELED && !atomic_load(&src->cancelled))
        return ps_fail(err, PS_ETIMEOUT, "the query timed out while selecting series");
    return status;
}

static ps_status
select_all(read_source *src, ps_err *err)
{
    for (size_t i = 0; i < src->n_lists; i++) {
        read_list *list = &src->lists[i];
        PS_TRY(read_select_labels(src, list, &list->found, err));
        PS_TRY(read_blocks_want(src, list, err));
    }
    return PS_OK;
}

ps_status
read_lists_ask(read_source *src, ps_err *err)
{
    for (size_t i = 0; i < src->n_lists; i++) {
        read_list *list = &src->lists[i];
        const label_query q = query_of(src, list);
        read_alive_done(&list->alive);
        PS_TRY(read_alive_prepare(src, &list->alive, &q, 1, list->selection.from_ms,
                                  list->selection.to_ms, err));
    }
    return PS_OK;
}

ps_status
read_lists_learn(read_source *src, PGconn *conn, bool *ret_learnt, ps_err *err)
{
    *ret_learnt = false;
    for (size_t i = 0; i < src->n_lists; i++) {
        read_list *list = &src->lists[i];
        const label_query q = query_of(src, list);
        bool learnt;
        PS_TRY(read_alive_learn(src, &list->alive, &q, 1, conn, &learnt, err));
        *ret_learnt = *ret_learnt || learnt;
    }
    return PS_OK;
}

static ps_status
ask_and_select_all(read_source *src, ps_err *err)
{
    PS_TRY(read_lists_ask(src, err));
    src->taught = label_view_taught(src->view);
    src->guessed_short = false;
    for (size_t i = 0; i < src->n_lists; i++)
        read_alive_guess(src, &src->lists[i].alive);
    return select_all(src, err);
}

static bool
same_series(const idx_found *a, const idx_found *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        if (a->items[i].series_id != b->items[i].series_id)
            return false;
    }
    return true;
}

/* Would the selections have other series now? Those of a metric that was not asked for are not in the answer that
 * selections are made within. */
static ps_status
check_again(read_source *src, bool *ret_same, ps_err *err)
{
    *ret_same = true;
    for (size_t i = 0; i < src->n_lists && *ret_same; i++) {
        read_list *list = &src->lists[i];
        const label_query q = query_of(src, list);
        idx_found now;
        PS_TRY(read_alive_asked_enough(src, &list->alive, &q, 1, ret_same, err));
        if (!*ret_same)
            break;
        PS_TRY(read_select_labels(src, list, &now, err));
        *ret_same = same_series(&list->found, &now);
    }
    return PS_OK;
}

/* ---- one go ----------------------------------------------------------------------------------------- */

ps_status
read_follow_send(PGconn *conn, ps_str cursor, ps_err *err)
{
    static const int format = 1;
    const char *value = cursor.ptr;
    int length = (int)cursor.len;
    return PQsendQueryPrepared(conn, "follow", 1, &value, &length, &format, 1) == 0
               ? pg_fail_result(NULL, conn, err)
               : PS_OK;
}

/* The one result of a statement and the end of it. */
ps_status
read_follow_receive(read_source *src, PGconn *conn, follow_news *ret, ps_err *err)
{
    pg_wait wait = read_wait(src);
    PGresult *res, *end;
    PS_TRY(pg_next_result(conn, &wait, &res, err));
    ps_status status = PQresultStatus(res) == PGRES_TUPLES_OK ? follow_read(res, ret, err)
                                                              : pg_fail_result(res, conn, err);
    PQclear(res);
    PS_TRY(status);
    status = pg_next_result(conn, &wait, &end, err);
    PQclear(end);
    if (status != PS_OK)
        follow_news_done(ret);
    return status;
}

static ps_status
receive_lists(read_source *src, PGconn *conn, const bool *sent, ps_err *err)
{
    for (size_t i = 0; i < src->n_lists; i++) {
        if (sent[i])
            PS_TRY(read_fetch_receive(src, &src->lists[i], conn, err));
        else
            PS_TRY(read_blocks_finish(src, &src->lists[i], err));
    }
    return PS_OK;
}

ps_status
read_sync_receive(read_source *src, PGconn *conn, ps_err *err)
{
    pg_wait wait = read_wait(src);
    PGresult *res;
    PS_TRY(pg_next_result(conn, &wait, &res, err));
    bool good = PQresultStatus(res) == PGRES_PIPELINE_SYNC;
    PQclear(res);
    return good && PQexitPipelineMode(conn) == 1
               ? PS_OK
               : ps_fail(err, PS_EINTERNAL, "the database did not end the transaction as asked");
}

/* Feed and, where the index does not hold all series, which lived then. */
static ps_status
send_questions(read_source *src, PGconn *conn, ps_str cursor, ps_err *err)
{
    PS_TRY(read_follow_send(conn, cursor, err));
    for (size_t i = 0; i < src->n_lists; i++) {
        if (src->lists[i].alive.asks)
            PS_TRY(read_alive_send(&src->lists[i].alive, conn, err));
    }
    return PS_OK;
}

/* Series that did not live then have no samples: nobody has to look for any. */
static ps_status
keep_alive(read_source *src, read_list *list, ps_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < list->found.n; i++)
        n += mdl_ids_has(&list->alive.ids, list->found.items[i].series_id);
    read_alive_compare(src, &list->alive, list->found.n, n, &src->guessed_short);
    if (n == 0)
        return PS_OK; /* it makes no difference */
    n = 0;
    for (size_t i = 0; i < list->found.n; i++) {
        if (mdl_ids_has(&list->alive.ids, list->found.items[i].series_id))
            list->found.items[n++] = list->found.items[i];
    }
    if (n == list->found.n)
        return PS_OK;
    list->found.n = n;
    return read_blocks_want(src, list, err);
}

static ps_status
receive_alive(read_source *src, PGconn *conn, ps_err *err)
{
    for (size_t i = 0; i < src->n_lists; i++) {
        read_list *list = &src->lists[i];
        if (!list->alive.asks)
            continue;
        PS_TRY(read_alive_receive(src, &list->alive, conn, err));
        PS_TRY(keep_alive(src, list, err));
    }
    return PS_OK;
}

void
read_lists_forget(read_source *src)
{
    for (size_t i = 0; i < src->n_lists; i++)
        read_alive_done(&src->lists[i].alive);
}

/* Feed (unless news is NULL) and blocks, sent at once. After an error the connection is of no use. */
static ps_status
one_go(read_source *src, PGconn *conn, ps_str cursor, follow_news *news, ps_err *err)
{
    bool *sent = ps_arena_array(&src->arena, src->n_lists + 1, sizeof(*sent));
    if (sent == NULL)
        return read_no_memory(src, err);
    if (PQenterPipelineMode(conn) == 0)
        return ps_fail(err, PS_EUNAVAILABLE, "the connection to the database is not usable");
    if (news != NULL)
        PS_TRY(send_questions(src, conn, cursor, err));
    for (size_t i = 0; i < src->n_lists; i++)
        PS_TRY(read_fetch_send(src, &src->lists[i], conn, &sent[i], err));
    if (PQpipelineSync(conn) == 0)
        return pg_fail_result(NULL, conn, err);
    if (news != NULL)
        PS_TRY(read_follow_receive(src, conn, news, err));
    ps_status status = news != NULL ? receive_alive(src, conn, err) : PS_OK;
    if (status == PS_OK)
        status = receive_lists(src, conn, sent, err);
    if (status == PS_OK)
        status = read_sync_receive(src, conn, err);
    if (status != PS_OK && news != NULL)
        follow_news_done(news);
    return status;
}

/* ---- rounds ------------------------------------------------------------------------------------------- */

static void
drop_blocks(read_source *src)
{
    for (size_t i = 0; i < src->n_lists; i++)
        read_blocks_drop(src, &src->lists[i]);
}

static ps_status
run(read_source *src, PGconn *conn, const char *sql, ps_err *err)
{
    pg_wait wait = read_wait(src);
    PGresult *res;
    PS_TRY(pg_run(conn, sql, NULL, 0, &wait, &res, err));
    PQclear(res);
    return PS_OK;
}

/* Learns and reads in one transaction. */
static ps_status
second_round(read_source *src, PGconn *conn, ps_str cursor, ps_err *err)
{
    pg_wait wait = read_wait(src);
    follow_news news;
    metric_add(src->store->m_rounds, 1);
    drop_blocks(src);
    PS_TRY(run(src, conn, "BEGIN", err)); /* repeatable read, by the session's default */
    PS_TRY(read_follow_send(conn, cursor, err));
    PS_TRY(read_follow_receive(src, conn, &news, err));
    ps_status status = label_index_learn(src->store->labels, src->view, conn, &wait, &news, err);
    follow_news_done(&news);
    PS_TRY(status);
    read_lists_forget(src); /* which was of another snapshot */
    PS_TRY(select_all(src, err));
    PS_TRY(one_go(src, conn, cursor, NULL, err));
    return run(src, conn, "COMMIT", err);
}

static ps_status
run_rounds(read_source *src, read_conn *c, ps_str cursor, ps_err *err)
{
    pg_wait wait = read_wait(src);
    follow_news news;
    PS_TRY(one_go(src, c->pg, cursor, &news, err));
    bool any = news.trimmed || news.n_created > 0 || news.n_deleted > 0, same = true, learnt;
    ps_status status = label_index_learn(src->store->labels, src->view, c->pg, &wait, &news, err);
    follow_news_done(&news);
    PS_TRY(status);
    PS_TRY(read_lists_learn(src, c->pg, &learnt, err));
    /* others may have learnt in the meantime what we did not know when we selected */
    if (any || learnt || src->guessed_short || label_view_taught(src->view) != src->taught)
        PS_TRY(check_again(src, &same, err));
    return same ? PS_OK : second_round(src, c->pg, cursor, err);
}

static ps_status
check_identity(read_source *src, const read_conn *c, ps_err *err)
{
    if (strcmp(c->identity, label_view_identity(src->view)) == 0)
        return PS_OK;
    label_index_outdated(src->store->labels, src->view, "this is another database than before");
    return ps_fail(err, PS_ECONFLICT, "the labels of all series are loaded anew");
}

/*
 * The cursor is taken before the selection is made: what others learn in between is then told again,
 * and never missed. A connection that was idle may have died with a server that is back meanwhile.
 */
static ps_status
with_cursor(read_source *src, const read_rounds *r, ps_buf *cursor, ps_err *err)
{
    for (bool again = true;; again = false) {
        read_conn *c;
        ps_buf_clear(cursor);
        PS_TRY(label_view_cursor(src->view, cursor, err));
        PS_TRY(r->prepare(src, err));
        PS_TRY(read_conn_get(src, &c, err));
        bool used = c->used;
        ps_status status = check_identity(src, c, err);
        if (status == PS_OK)
            status = r->run(src, c, ps_buf_str(cursor), err);
        if (status == PS_ETIMEOUT || status == PS_ECANCELED || status == PS_ELIMIT)
            pg_cancel(c->pg);
        read_conn_put(src->store, c, status == PS_OK || status == PS_ECONFLICT);
        if (status != PS_EUNAVAILABLE || !used || !again)
            return status;
        drop_blocks(src);
        read_conns_close_idle(src->store);
    }
}

static ps_status
one_view(read_source *src, const read_rounds *r, ps_err *err)
{
    pg_wait wait = read_wait(src);
    src->n_asked = 0;
    PS_TRY(label_index_hold(src->store->labels, &wait, &src->view, err));
    ps_buf cursor;
    ps_buf_init(&cursor, &ps_malloc);
    ps_status status = with_cursor(src, r, &cursor, err);
    ps_buf_done(&cursor);
    if (status == PS_ECONFLICT) { /* texts of its labels are no longer in use */
        drop_blocks(src);
        label_view_release(src->view);
        src->view = NULL;
    }
    return status;
}

ps_status
read_rounds_run(read_source *src, const read_rounds *r, ps_err *err)
{
    ps_status status = PS_ECONFLICT;
    for (int i = 0; i < MAX_VIEWS && status == PS_ECONFLICT; i++)
        status = one_view(src, r, err);
    if (status == PS_ECONFLICT)
        return ps_fail(err, PS_EUNAVAILABLE, "the database changes too often to be read");
    return status;
}

ps_status
read_select(read_source *src, ps_err *err)
{
    static const read_rounds rounds = {ask_and_select_all, run_rounds};
    for (size_t i = 0; i < src->n_lists; i++)
        PS_TRY(read_compile(src, &src->lists[i], err));
    return read_rounds_run(src, &rounds, err);
}
