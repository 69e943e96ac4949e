/*
 * internal.h of connector/read - what a store and a source are made of.
 *
 * A query's way: source.c (the engine asks) -> select.c (labels, and whether they are up to date) ->
 * fetch.c (rows of blocks) -> blocks.c (which series each holds) -> source.c (samples of one series). When
 * a query is explained, estimate.c stands in the place of blocks.c.
 */
#ifndef PROMSCALE_CONNECTOR_READ_INTERNAL_H
#define PROMSCALE_CONNECTOR_READ_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "connector/catalog/label_index.h"
#include "connector/read/read.h"
#include "lib/block/block.h"

/* ---- store.c, pool.c ------------------------------------------------------------------------------ */

typedef struct read_conn {
    struct read_conn *next;
    PGconn *pg;
    bool streams; /* has the statement for blocks by time */
    bool used; /* has served a query before: it may have died since */
    char identity[LABEL_IDENTITY_BYTES];
} read_conn;

struct read_store {
    const settings *set;
    char *conninfo;
    logger *log;
    label_index *labels;
    int stop_fd; /* readable when the store stops */
    pthread_t loader;
    bool loader_runs;
    pthread_mutex_t lock;   /* guards what follows */
    pthread_cond_t changed; /* a connection is free, a source was cancelled */
    bool stopping;
    read_conn *idle;
    size_t n_open; /* connections, idle ones included */
    read_source *sources;
    metric *m_blocks, *m_bytes, *m_rounds, *m_connections, *m_damaged;
    bool damage_fails; /* query.damaged-blocks */
};

/* A connection for src, an idle one if there is any. */
ps_status read_conn_get(read_source *src, read_conn **ret, ps_err *err) PS_MUST_CHECK;
/* ok: it can be used again. */
void read_conn_put(read_store *s, read_conn *c, bool ok);
/* Closes those that wait: the server was restarted. */
void read_conns_close_idle(read_store *s);

/* ---- a source ---------------------------------------------------------------------------------------- */

typedef struct read_block { /* a row of one of the block tables */
    int64_t id;
    const char *table; /* one of read_tables */
    blk_meta meta;
    PGresult *res; /* holds the bytes; NULL: they are in the arena */
    blk_reader *reader;
} read_block;

typedef struct read_wanted { /* a series that was selected */
    int32_t metric_id;
    uint32_t index; /* in the list */
    int64_t series_id;
} read_wanted;

typedef struct read_hit { /* a block has samples of a series */
    uint32_t series, block, index;
} read_hit;

typedef struct read_alive { /* which series lived between two times: a question and its answer */
    bool asks;  /* there is something to ask */
    bool ready; /* ids is the answer */
    int32_t tenant_id;
    idx_metric_ids metrics;
    int64_t from_ms, to_ms;
    mdl_ids ids;
    bool guessed; /* guess is an earlier answer, which selections are made within until there is one */
    mdl_ids guess;
} read_alive;

typedef struct read_estimate read_estimate;
typedef struct read_list { /* of one selection */
    ev_selection selection;
    re_matcher **matchers;
    idx_found found;
    int32_t tenant_id;
    read_alive alive; /* where the index does not hold all series */
    mdl_labels *labels;
    read_wanted *wanted; /* ascending by metric and id */
    int32_t *metrics;    /* distinct */
    size_t n_metrics;
    read_block *blocks;
    size_t n_blocks, cap_blocks;
    read_hit *hits;
    size_t n_hits, cap_hits;
    blk_run *runs; /* of series i: [first_run[i], first_run[i + 1]), those of floats first */
    size_t *first_run;
    uint64_t n_rows, n_row_bytes; /* that came from the database */
    read_estimate *estimate;      /* instead of blocks, while the source estimates */
    /* stream.c: rows come in order of time, and this is called before each is added. */
    ps_status (*on_row)(read_source *src, struct read_list *list, const read_block *row,
                        size_t bytes, ps_err *err);
} read_list;

typedef struct read_search read_search; /* find.c */

enum { READ_DAMAGED_TEXTS = 10, READ_DAMAGED_IDS = 1024 };
typedef struct read_damaged { /* damage.c */
    size_t n_ids, n_texts;
    uint64_t n_rest; /* without a text */
    int64_t ids[READ_DAMAGED_IDS];
    const char *tables[READ_DAMAGED_IDS];
    ps_str texts[READ_DAMAGED_TEXTS + 1];
    char rest[96];
} read_damaged;

struct read_source {
    read_store *store;
    read_source *prev, *next; /* under the store's lock */
    char *tenant;
    size_t tenant_len;
    size_t n_workers;
    int64_t deadline_ns;
    int cancel_fd;
    atomic_bool cancelled;
    size_t max_bytes;
    atomic_size_t bytes; /* taken through alloc, and held in results */
    atomic_bool over;    /* max_bytes was reached */
    ps_alloc alloc;      /* counts, from any thread */
    ps_arena arena;
    label_view *view;
    size_t n_asked;  /* series that were read into it for this source */
    uint64_t taught; /* label_view_taught() before the lists were selected */
    bool guessed_short; /* series lived that they were not selected from */
    bool estimating; /* rows are asked for without data */
    read_list *lists;
    size_t n_lists;
    read_search *search; /* instead of lists */
    bool found_since; /* a search without a time: only what lived since since_ms */
    int64_t since_ms;
    struct read_streaming *streaming; /* stream.c */
    blk_bench **benches; /* by worker; made when first used */
    read_damaged damaged;
};

static inline pg_wait
read_wait(const read_source *src)
{
    return (pg_wait){.cancel_fd = src->cancel_fd, .deadline_ns = src->deadline_ns};
}

/* Counts what is held outside of alloc. False: that would be too much. */
bool read_take_bytes(read_source *src, size_t n);
void read_give_bytes(read_source *src, size_t n);
/* PS_ELIMIT, if the source's own limit is why there was no memory. */
ps_status read_no_memory(read_source *src, ps_err *err);
/* A growing array in src->alloc. */
ps_status read_grow(read_source *src, void **array, size_t n, size_t *cap, size_t size,
                    ps_err *err) PS_MUST_CHECK;

/* select.c: fills src->lists, blocks included. */
ps_status read_select(read_source *src, ps_err *err) PS_MUST_CHECK;
/* What it and find.c do alike: hold a view, `prepare` with what it knows, take a connection, `run`
 * (whose news are those after the cursor); begin anew where the view turns out to be outdated. */
typedef struct read_rounds {
    ps_status (*prepare)(read_source *src, ps_err *err);
    ps_status (*run)(read_source *src, read_conn *c, ps_str cursor, ps_err *err);
} read_rounds;
ps_status read_compile(read_source *src, read_list *list, ps_err *err) PS_MUST_CHECK;
/* In order of labels; sets the list's tenant, too. */
ps_status read_select_labels(read_source *src, read_list *list, idx_found *ret,
                             ps_err *err) PS_MUST_CHECK;
ps_status read_rounds_run(read_source *src, const read_rounds *r, ps_err *err) PS_MUST_CHECK;
ps_status read_follow_send(PGconn *conn, ps_str cursor, ps_err *err) PS_MUST_CHECK;
ps_status read_follow_receive(read_source *src, PGconn *conn, follow_news *ret,
                              ps_err *err) PS_MUST_CHECK;
ps_status read_sync_receive(read_source *src, PGconn *conn, ps_err *err) PS_MUST_CHECK;
bool read_should_stop(const read_source *src);

/* alive.c. Prepares the question, none if the index holds all series; n queries of one tenant. An answer to
 * another one stays until read_alive_receive. */
ps_status read_alive_prepare(read_source *src, read_alive *a, const label_query *q, size_t n,
                             int64_t from_ms, int64_t to_ms, ps_err *err) PS_MUST_CHECK;
/* Is there no metric whose name fits and that the view did not know when the question was prepared? */
ps_status read_alive_asked_enough(read_source *src, const read_alive *a, const label_query *q, size_t n,
                                  bool *ret, ps_err *err) PS_MUST_CHECK;
ps_status read_alive_send(const read_alive *a, PGconn *conn, ps_err *err) PS_MUST_CHECK;
ps_status read_alive_receive(read_source *src, read_alive *a, PGconn *conn,
                             ps_err *err) PS_MUST_CHECK;
/* Reads into the index what it does not know of the answer and the queries might select. */
ps_status read_alive_learn(read_source *src, read_alive *a, const label_query *q, size_t n,
                           PGconn *conn, bool *ret_learnt, ps_err *err) PS_MUST_CHECK;
void read_alive_done(read_alive *a);
/* An earlier answer for a selection that comes before this one, if there is any. */
void read_alive_guess(read_source *src, read_alive *a);
/* There is an answer: of `held` series that were selected `lived` did. *ret_short: the guess did not have all that
 * it names. */
void read_alive_compare(read_source *src, read_alive *a, size_t held, size_t lived, bool *ret_short);
/* select.c: the same of lists. Selections are made within an answer that is there, until it is forgotten. */
void read_lists_forget(read_source *src);
ps_status read_lists_ask(read_source *src, ps_err *err) PS_MUST_CHECK;
ps_status read_lists_learn(read_source *src, PGconn *conn, bool *ret_learnt, ps_err *err) PS_MUST_CHECK;

/* fetch.c */
int64_t read_timestamp_of(int64_t t_ms); /* beyond what timestamptz holds: an infinity */
/* Sends the statement for a list; nothing if it has no series: *ret_sent. */
ps_status read_fetch_send(read_source *src, const read_list *list, PGconn *conn, bool *ret_sent,
                          ps_err *err) PS_MUST_CHECK;
/* Receives its rows as blocks. */
ps_status read_fetch_receive(read_source *src, read_list *list, PGconn *conn,
                             ps_err *err) PS_MUST_CHECK;
ps_status read_fetch_prepare(PGconn *conn, const pg_wait *wait, ps_err *err) PS_MUST_CHECK;
/* What lists with on_row need. */
ps_status read_fetch_prepare_by_time(PGconn *conn, const pg_wait *wait, ps_err *err) PS_MUST_CHECK;

/* damage.c: PS_OK for a block that is left out, which is told; any other failure goes on. */
ps_status read_damage(read_source *src, const read_list *list, const read_block *row,
                      ps_status status, ps_err *err) PS_MUST_CHECK;
void read_on_notice(void *src, const PGresult *res);
void read_damaged_done(read_damaged *d);

/* estimate.c: rows without data, summed up. */
ps_status read_estimate_begin(read_source *src, read_list *list, ps_err *err) PS_MUST_CHECK;
ps_status read_estimate_row(read_source *src, read_list *list, const blk_meta *m,
                            int64_t data_bytes, ps_err *err) PS_MUST_CHECK;
ev_reading read_estimate_end(const read_list *list); /* nothing was asked: 0 */

/* blocks.c */
/* Sorts what is wanted of the list. */
ps_status read_blocks_want(read_source *src, read_list *list, ps_err *err) PS_MUST_CHECK;
/* Takes res if it succeeds and keeps a reference. */
ps_status read_blocks_add(read_source *src, read_list *list, const read_block *row, ps_str data,
                          ps_err *err) PS_MUST_CHECK;
ps_status read_blocks_finish(read_source *src, read_list *list, ps_err *err) PS_MUST_CHECK;
void read_blocks_drop(read_source *src, read_list *list);

#endif
