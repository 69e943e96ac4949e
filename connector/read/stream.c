/*
 * stream.c - samples of many series in order of labels, in bounded memory.
 *
 *   series, in order of labels:    [ batch ][ batch ][ batch ] ...
 *   rows of a batch, by time:      [ group ][ group ] ...       -> per series: what is sent of it
 *
 * The rows that hold a batch's series are asked for in order of time. As soon as enough are there, and the
 * next one begins after all of them end, nothing can be missing from what they hold: each series of the
 * batch is read from them and appended to what is sent of it; the rows are forgotten. When what is to be
 * sent takes too much, the batch gives up its last series, which come again in the next one. At its end it
 * is handed over, series by series.
 *
 * A block is read once per batch. So batches are made as large as memory allows, and the number of series
 * is learned from the batch before.
 */
#include <stdlib.h>

#include "connector/read/internal.h"
#include "connector/read/stream.h"

enum { FIRST_SERIES = 1000, MAX_SERIES = 1 << 17, GROUP_BYTES = 4 << 20, PART_BYTES = 4 << 20 };

struct read_streaming {
    const read_sink *sink;
    size_t memory;
    ev_samples samples;
    bool handed_over; /* something: it is too late to begin anew */
};

typedef struct batch {
    read_list part; /* the series of it; first, so that a hook finds the rest */
    size_t query;
    ps_buf *encoded;     /* per series */
    uint64_t *n_samples; /* the same */
    size_t n_encoded, bytes;
    int64_t group_end_ms;
    size_t group_bytes;
} batch;

/* ---- a group of rows -------------------------------------------------------------------------------------- */

static void
forget_encoded(batch *b, size_t from)
{
    for (size_t i = from; i < b->n_encoded; i++) {
        b->bytes -= b->encoded[i].cap;
        ps_buf_done(&b->encoded[i]);
    }
    b->n_encoded = from < b->n_encoded ? from : b->n_encoded;
}

/* Keeps as many series as take half of the memory, at least one. */
static void
shrink(batch *b, size_t memory)
{
    size_t keep = 1, bytes = b->encoded[0].cap, n = 0;
    while (keep < b->n_encoded && bytes + b->encoded[keep].cap <= memory / 2)
        bytes += b->encoded[keep++].cap;
    forget_encoded(b, keep);
    for (size_t i = 0; i < b->part.found.n; i++) {
        if (b->part.wanted[i].index < keep)
            b->part.wanted[n++] = b->part.wanted[i];
    }
    b->part.found.n = keep;
}

static ps_status
hand_over(read_source *src, batch *b, size_t i, ps_err *err)
{
    const read_sink *sink = src->streaming->sink;
    ps_buf *encoded = &b->encoded[i];
    if (encoded->len == 0)
        return PS_OK;
    src->streaming->handed_over = true;
    const read_series series = {.labels = b->part.found.items[i].labels,
                                .encoded = ps_buf_str(encoded),
                                .n_samples = b->n_samples[i]};
    PS_TRY(sink->take(sink->self, b->query, &series, err));
    ps_buf_clear(encoded);
    b->n_samples[i] = 0;
    return PS_OK;
}

static ps_status
encode_series(read_source *src, batch *b, size_t i, ps_err *err)
{
    struct read_streaming *st = src->streaming;
    ev_series_list list = {.n = b->part.found.n, .impl = &b->part};
    ps_buf *out = &b->encoded[i];
    size_t cap = out->cap;
    if (read_should_stop(src))
        return atomic_load(&src->cancelled)
                   ? ps_fail(err, PS_ECANCELED, "the request was canceled")
                   : ps_fail(err, PS_ETIMEOUT, "the request timed out while reading samples");
    ev_samples_clear(&st->samples);
    PS_TRY(read_source_for_engine(src).read(src, &list, i, 0, &st->samples, err));
    if (st->samples.n == 0)
        return PS_OK;
    PS_TRY(st->sink->encode(st->sink->self, &st->samples, out, err));
    b->n_samples[i] += st->samples.n;
    b->bytes += out->cap - cap;
    if (out->failed)
        return read_no_memory(src, err);
    if (b->part.found.n == 1 && st->sink->parts && out->len >= PART_BYTES)
        return hand_over(src, b, 0, err);
    if (b->part.found.n > 1 && b->bytes > st->memory)
        shrink(b, st->memory);
    return PS_OK;
}

/* Reads all series of the batch from the rows that are there and forgets these. */
static ps_status
end_group(read_source *src, batch *b, ps_err *err)
{
    ps_status status = PS_OK;
    for (size_t i = 0; status == PS_OK && i < b->part.found.n; i++) {
        if (b->part.first_run[i + 1] > b->part.first_run[i])
            status = encode_series(src, b, i, err);
    }
    read_blocks_drop(src, &b->part);
    blk_bench_free(src->benches[0]); /* knows readers that are no more */
    src->benches[0] = NULL;
    ps_arena_reset(&src->arena);
    b->group_end_ms = INT64_MIN;
    b->group_bytes = 0;
    return status;
}

/* Before a row is added. */
static ps_status
on_row(read_source *src, read_list *list, const read_block *row, size_t bytes, ps_err *err)
{
    batch *b = (batch *)list;
    if (list->n_blocks > 0 && row->meta.t_min_ms > b->group_end_ms &&
        b->group_bytes >= GROUP_BYTES) {
        PS_TRY(read_blocks_finish(src, list, err));
        PS_TRY(end_group(src, b, err));
    }
    if (row->meta.t_max_ms > b->group_end_ms)
        b->group_end_ms = row->meta.t_max_ms;
    b->group_bytes += bytes;
    return PS_OK;
}

/* ---- a batch ------------------------------------------------------------------------------------------------ */

static void
swap_arenas(ps_arena *a, ps_arena *b)
{
    ps_arena c = *a;
    *a = *b;
    *b = c;
}

/* In the batch's arena. */
static ps_status
begin_batch(read_source *src, batch *b, ps_err *err)
{
    size_t n = b->part.found.n;
    PS_TRY(read_blocks_want(src, &b->part, err));
    b->encoded = ps_arena_array(&src->arena, n, sizeof(*b->encoded));
    b->n_samples = ps_arena_array(&src->arena, n, sizeof(*b->n_samples));
    if (b->encoded == NULL || b->n_samples == NULL)
        return read_no_memory(src, err);
    b->n_encoded = n;
    for (size_t i = 0; i < n; i++)
        ps_buf_init(&b->encoded[i], &src->alloc);
    return PS_OK;
}

/* In the arena of groups. */
static ps_status
read_batch(read_source *src, batch *b, PGconn *conn, ps_err *err)
{
    bool sent;
    PS_TRY(read_fetch_send(src, &b->part, conn, &sent, err));
    if (!sent)
        return PS_OK;
    PS_TRY(read_fetch_receive(src, &b->part, conn, err));
    PS_TRY(end_group(src, b, err));
    for (size_t i = 0; i < b->part.found.n; i++)
        PS_TRY(hand_over(src, b, i, err));
    return PS_OK;
}

/* Series first .. first + *n of the list; *n: how many it were, and *next: how many to try then. */
static ps_status
run_batch(read_source *src, PGconn *conn, size_t query, size_t first, size_t *n, size_t *next,
          ps_err *err)
{
    const read_list *list = &src->lists[query];
    ps_arena own, rows;
    batch b = {.part = {.selection = list->selection,
                        .tenant_id = list->tenant_id,
                        .found = {list->found.items + first, *n},
                        .on_row = on_row},
               .query = query,
               .group_end_ms = INT64_MIN};
    ps_arena_init(&own, &src->alloc, 0);
    ps_arena_init(&rows, &src->alloc, 0);
    swap_arenas(&src->arena, &own);
    ps_status status = begin_batch(src, &b, err);
    swap_arenas(&src->arena, &own);
    if (status == PS_OK) {
        swap_arenas(&src->arena, &rows);
        status = read_batch(src, &b, conn, err);
        read_blocks_drop(src, &b.part);
        blk_bench_free(src->benches[0]);
        src->benches[0] = NULL;
        swap_arenas(&src->arena, &rows);
    }
    size_t done = b.part.found.n, each = b.bytes / done + 1,
           fit = src->streaming->memory / 4 * 3 / each;
    *n = done;
    *next = fit < 1 ? 1 : fit > done * 8 ? done * 8 : fit;
    *next = *next > MAX_SERIES ? MAX_SERIES : *next;
    forget_encoded(&b, 0);
    ps_arena_done(&rows);
    ps_arena_done(&own);
    return status;
}

/* ---- all of it ------------------------------------------------------------------------------------------------ */

static ps_status
run_sql(read_source *src, PGconn *conn, const char *sql, ps_err *err)
{
    pg_wait wait = read_wait(src);
    PGresult *res;
    PS_TRY(pg_run(conn, sql, NULL, 0, &wait, &res, err));
    PQclear(res);
    return PS_OK;
}

static ps_status
select_series(read_source *src, ps_err *err)
{
    for (size_t i = 0; i < src->n_lists; i++)
        PS_TRY(read_select_labels(src, &src->lists[i], &src->lists[i].found, err));
    return PS_OK;
}

static ps_status
prepare(read_source *src, ps_err *err)
{
    read_lists_forget(src);
    return select_series(src, err);
}

/* Which series lived then, where the index does not hold all of them. */
static ps_status
learn_alive(read_source *src, PGconn *conn, bool *ret_asked, ps_err *err)
{
    bool learnt;
    *ret_asked = false;
    PS_TRY(read_lists_ask(src, err));
    for (size_t i = 0; i < src->n_lists; i++) {
        read_alive *alive = &src->lists[i].alive;
        if (!alive->asks)
            continue;
        *ret_asked = true;
        PS_TRY(read_alive_send(alive, conn, err));
        PS_TRY(read_alive_receive(src, alive, conn, err));
    }
    return read_lists_learn(src, conn, &learnt, err);
}

/* What was told since the cursor changes what is selected. */
static ps_status
learn(read_source *src, PGconn *conn, ps_str cursor, ps_err *err)
{
    pg_wait wait = read_wait(src);
    follow_news news;
    PS_TRY(read_follow_send(conn, cursor, err));
    PS_TRY(read_follow_receive(src, conn, &news, err));
    bool any = news.trimmed || news.n_created > 0 || news.n_deleted > 0;
    ps_status status = label_index_learn(src->store->labels, src->view, conn, &wait, &news, err);
    follow_news_done(&news);
    PS_TRY(status);
    bool asked;
    PS_TRY(learn_alive(src, conn, &asked, err));
    return any || asked ? select_series(src, err) : PS_OK;
}

static ps_status
in_transaction(read_source *src, read_conn *c, ps_str cursor, ps_err *err)
{
    pg_wait wait = read_wait(src);
    PS_TRY(run_sql(src, c->pg, "BEGIN", err)); /* repeatable read, by the session's default */
    PS_TRY(learn(src, c->pg, cursor, err));
    if (!c->streams)
        PS_TRY(read_fetch_prepare_by_time(c->pg, &wait, err));
    c->streams = true;
    for (size_t q = 0; q < src->n_lists; q++) {
        size_t n = FIRST_SERIES, next = n, all = src->lists[q].found.n;
        for (size_t first = 0; first < all; first += n) {
            n = next < all - first ? next : all - first;
            PS_TRY(run_batch(src, c->pg, q, first, &n, &next, err));
        }
    }
    return run_sql(src, c->pg, "COMMIT", err);
}

static ps_status
run_streaming(read_source *src, read_conn *c, ps_str cursor, ps_err *err)
{
    ps_status status = in_transaction(src, c, cursor, err);
    if (status == PS_OK)
        return PS_OK;
    if (PQstatus(c->pg) == CONNECTION_OK)
        pg_cancel(c->pg); /* whatever it was: nobody wants the rest */
    /* What the callers would begin anew for. */
    bool again = status == PS_EUNAVAILABLE || status == PS_ECONFLICT;
    return again && src->streaming->handed_over ? ps_fail(err, PS_EINTERNAL, "%s", err->text)
                                                : status;
}

ps_status
read_stream(read_source *src, const ev_selection *queries, size_t n, size_t memory,
            const read_sink *sink, ps_err *err)
{
    static const read_rounds rounds = {prepare, run_streaming};
    struct read_streaming st = {.sink = sink, .memory = memory};
    src->lists = ps_arena_array(&src->arena, n + 1, sizeof(*src->lists));
    if (src->lists == NULL)
        return read_no_memory(src, err);
    src->n_lists = n;
    for (size_t i = 0; i < n; i++) {
        src->lists[i].selection = queries[i];
        PS_TRY(read_compile(src, &src->lists[i], err));
    }
    src->streaming = &st;
    ev_samples_init(&st.samples, &src->alloc);
    ps_status status = read_rounds_run(src, &rounds, err);
    ev_samples_done(&st.samples);
    src->streaming = NULL;
    return status;
}
