/*
 * internal.h - what the stages of the write path share: the request on its way, the queues between
 * the stages, and the path itself.
 *
 * A request is always in exactly one hand: in a queue (under path->mu) or with the stage that took
 * it from there. Only that stage touches its data. Two things cut across: `answered` (the timer may
 * answer a request that waits or is being sent; whoever holds it then drops it) and `pinned` (a
 * stage reads the request's body, which dies with the answer, so the timer must wait).
 *
 * Threads: ingest.workers decoders, one resolver, two flushers, one timer.
 */
#ifndef PROMSCALE_CONNECTOR_WRITE_INTERNAL_H
#define PROMSCALE_CONNECTOR_WRITE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "connector/catalog/catalog.h"
#include "connector/catalog/series_cache.h"
#include "connector/pg/pg.h"
#include "connector/write/write.h"
#include "lib/block/block.h"
#include "lib/wire/wire.h"

typedef struct wp_periods wp_periods; /* old.c */

typedef enum wp_queue { WP_DECODE, WP_RESOLVE, WP_FLUSH, WP_QUEUES } wp_queue;

enum {
    WP_MAX_WORKERS = 64,
    WP_FLUSHERS = 2,
    WP_PACK_BELOW = 128,        /* a metric with fewer samples in a flush shares a bucket's row */
    WP_ROW_MAX_SAMPLES = 65536, /* a row holds at most as many; about 1 MB at worst */
    WP_RESOLVE_MAX_SERIES = 10000,   /* in one call */
    WP_RESOLVE_MAX_BYTES = 16 << 20, /* of label text in one call */
    WP_SPLIT_CALLS = 2000, /* calls spent on finding the guilty in one batch, then all get 503 */
    WP_REFUSALS_NAMED = 5, /* series named in an answer; the others are counted */
    WP_REFUSAL_TEXT = 1536,
    WP_SERIES_TEXT = 256,         /* of a series' text in answers and logs */
    WP_EXEMPLAR_MAX_BYTES = 1024, /* label text of one exemplar */
    WP_MAX_TENANTS = 10000,       /* remembered */
    WP_MAX_BATCH_REQUESTS = 4096,
    WP_ROW_MAX_HISTOGRAM_BYTES = 4 << 20, /* of histograms in memory that go into one row */
};

/* ---- why something was refused: metric labels and words -------------------------------------- */

typedef enum wp_reason {
    WP_REASON_LABELS,      /* invalid label set */
    WP_REASON_LABEL_LIMIT, /* label set over a limit */
    WP_REASON_FUTURE,      /* time too far ahead */
    WP_REASON_TIME,        /* time outside timestamptz */
    WP_REASON_OLD,         /* older than its series is kept */
    WP_REASON_HISTOGRAM,   /* one that makes no sense, or with too many buckets */
    WP_REASON_REFERENCE,   /* 2.0: to a symbol that is not there */
    WP_REASON_EMPTY,       /* 2.0: a series without anything */
    WP_REASON_EXEMPLAR,    /* exemplar that cannot be kept */
    WP_REASON_METADATA,
    WP_REASON_OTLP, /* a metric or a data point that has no place here */
    WP_REASON_DATABASE, /* the database will never take it */
    WP_REASONS
} wp_reason;

/* Limits of a whole request. */
typedef enum wp_limit {
    WP_LIMIT_BODY,
    WP_LIMIT_DECOMPRESSED,
    WP_LIMIT_SERIES,
    WP_LIMIT_SAMPLES,
    WP_LIMIT_EXEMPLARS,
    WP_LIMIT_METADATA,
    WP_LIMIT_SYMBOLS,
    WP_LIMITS
} wp_limit;

/* Answered PS_EUNAVAILABLE. */
typedef enum wp_rejection {
    WP_REJECT_QUEUE_REQUESTS,
    WP_REJECT_QUEUE_BYTES,
    WP_REJECT_TENANT_SHARE,
    WP_REJECT_STOPPING,
    WP_REJECT_TIMEOUT,
    WP_REJECT_FAULT,
    WP_REJECTIONS
} wp_rejection;

typedef enum wp_stage {
    WP_STAGE_RECEIVE,
    WP_STAGE_DECODE,
    WP_STAGE_RESOLVE,
    WP_STAGE_BATCH,
    WP_STAGE_FLUSH,
    WP_STAGES
} wp_stage;

typedef struct wp_stats { /* set at start; the metrics themselves are lock-free */
    metric *received, *written, *histograms_received, *histograms_written, *exemplars_written,
        *metadata_written, *duplicates, *conflicts, *old;
    metric *refused[WP_REASONS], *limits[WP_LIMITS], *rejected[WP_REJECTIONS], *stages[WP_STAGES];
    metric *series_resolved, *generation_changes, *flushes, *flush_failures[4], *flush_samples;
    metric *flush_requests, *flush_rows, *flush_bytes, *max_time, *up;
} wp_stats;

/* ---- a request ------------------------------------------------------------------------------- */

typedef struct wp_tenant wp_tenant;

typedef struct wp_new_series { /* a series that the cache did not know; its points stand together */
    ps_str key;                /* canonical label bytes, in the request's arena */
    ps_str alias;              /* as the sender wrote them, if that differs and is one piece */
    uint32_t n_labels;
    uint32_t first_point, n_points;
    uint32_t first_hist, n_hists;
    uint32_t first_exemplar, n_exemplars;
    uint32_t at; /* the resolver's: index in its list of distinct series */
} wp_new_series;

typedef struct wp_exemplar {
    series_ref ref;
    int64_t t_ms;
    double value;
    ps_str json; /* labels; arena */
} wp_exemplar;

typedef struct wp_counts {
    int64_t floats, histograms;
} wp_counts;

typedef struct wp_request {
    /* Constant from submit on. */
    write_request in;
    write_done_fn done;
    void *done_self;
    wp_tenant *tenant;
    uint64_t seq;
    int64_t submitted_ns, deadline_ns;
    int64_t arrived_ms; /* of day: the time of samples that have none */

    /* Under path->mu. */
    struct wp_request *older, *newer;   /* all unanswered ones, by age */
    struct wp_request *q_prev, *q_next; /* in its tenant's queue */
    bool queued, pinned, answered;
    wp_queue queue;
    size_t held_bytes;  /* counted in path->held_bytes */
    int64_t entered_ns; /* when it came into its queue: stage latency */

    /* Of the stage that holds it. */
    uint64_t epoch; /* of all ids below */
    int32_t tenant_id;
    int64_t generation;
    bool decode_again; /* the catalog moved on: its ids mean nothing any more */
    uint32_t losses;   /* connections lost with it on board: from 3 on it is sent alone */
    blk_point *points;
    size_t n_points, cap_points;
    blk_point *hists; /* of histograms, which are in the arena */
    size_t n_hists, cap_hists;
    size_t hists_weight;  /* in samples */
    wp_new_series *fresh; /* n_fresh; malloc'd */
    size_t n_fresh, cap_fresh;
    wp_exemplar *exemplars;
    size_t n_exemplars, cap_exemplars;
    catalog_metadata *metadata;
    size_t n_metadata, cap_metadata;
    uint64_t *marks; /* of each metadata, for wp_tell; 0: none */
    size_t cap_marks;
    ps_arena arena; /* what the above borrow */

    /* The answer as it grows. */
    ps_status fatal; /* not PS_OK: nothing (more) is stored; `text` says why */
    wp_counts received, refused_counts;
    int64_t exemplars_written;
    uint32_t named, unnamed;
    bool refused; /* something was: 400 */
    size_t text_len;
    char text[WP_REFUSAL_TEXT];

    struct wp_request *next_spare;
} wp_request;

typedef struct wp_list {
    wp_request *head, *tail;
} wp_list;

struct wp_tenant { /* under path->mu, but for name and id once it is set */
    wp_tenant *hash_next;
    wp_tenant *age_prev, *age_next; /* in path->active or path->idle, latest first */
    wp_tenant *ring_prev[WP_QUEUES], *ring_next[WP_QUEUES];
    wp_list queues[WP_QUEUES];
    int64_t last_seen_ns;
    size_t n_requests, n_bytes;
    size_t n_users; /* requests that point here, answered ones that a stage still holds included */
    bool active;
    _Atomic int32_t id; /* -1: not asked yet */
    size_t name_len;
    char name[];
};

enum { WP_TENANT_BUCKETS = 1024, WP_MAX_SPARE = 64 };
enum { WP_SEEN = 1024, WP_TOLD_SETS = 8192, WP_TOLD_WAYS = 4 };

/* ---- the path -------------------------------------------------------------------------------- */

struct write_path {
    /* Constant after start. */
    const settings *set;
    logger *log;
    char *conninfo;
    int64_t (*now_ms)(void *);
    void *now_self;
    wp_stats stats;
    series_cache *cache;
    uint64_t seed;
    int cancel_fd; /* eventfd, readable from the moment of giving up */
    size_t n_workers;
    int64_t timeout_ns;
    size_t held_max; /* decoders pause while decoded requests hold more */

    pthread_mutex_t mu;                                              /* guards the rest */
    pthread_cond_t work_cv, resolve_cv, flush_cv, timer_cv, idle_cv; /* CLOCK_MONOTONIC */
    bool stopping;                                                   /* no new requests */
    bool aborting;                                                   /* threads end */
    uint64_t next_seq;
    wp_request *oldest, *newest;
    int n_flushers;  /* numbered as they come */
    bool timer_idle; /* nothing that it might have to answer was there */
    size_t n_inside, bytes_inside, held_bytes;
    wp_request *spare;
    size_t n_spare;

    wp_tenant *tenants[WP_TENANT_BUCKETS];
    wp_tenant *active_first, *active_last, *idle_first, *idle_last;
    size_t n_tenants, n_active;

    wp_tenant *rings[WP_QUEUES];
    size_t n_queued[WP_QUEUES];
    size_t waiting_samples; /* in the flush queue: what it weighs */

    int64_t flush_started_ns[WP_FLUSHERS]; /* 0: that one is idle */
    int64_t flush_last_ns;                 /* when the last one began */
    size_t flush_expected; /* requests that were inside together lately: as many may come again */
    int64_t flush_pause_until_ns;          /* back-off after a failure */
    int64_t resolve_pause_until_ns;
    bool poll_wanted, reconnect_wanted;
    /* Of the database that cached ids belong to; set by the resolver. */
    char identity[CATALOG_IDENTITY_BYTES];

    _Atomic uint64_t told[WP_TOLD_SETS][WP_TOLD_WAYS]; /* metadata.c */

    pthread_mutex_t old_mu;      /* guards periods */
    wp_periods *periods;         /* NULL: not known yet */
    _Atomic int64_t shortest_ms; /* of them; 0: for ever, or not known yet */
    _Atomic int64_t old_told_ns; /* when the log has told of samples older than that */

    _Atomic bool probe_ok, flush_ok;
    _Atomic int64_t last_ok_ns;

    pthread_t threads[WP_MAX_WORKERS + WP_FLUSHERS + 2];
    size_t n_threads;
};

/* ---- queue.c: under path->mu ---------------------------------------------------------------- */

void wp_push(write_path *w, wp_request *r, wp_queue queue, bool front);
wp_request *wp_take(write_path *w, wp_queue queue); /* tenants in turn; NULL if empty */
wp_request *wp_peek(const write_path *w, wp_queue queue); /* what wp_take would return */
void wp_remove(write_path *w, wp_request *r);       /* from the queue that it is in */
/* Latest first of `active`; made if new. NULL: no memory, or too many tenants are busy. */
wp_tenant *wp_tenant_get(write_path *w, ps_str name, int64_t now_ns);
void wp_tenants_free(write_path *w);

/* ---- one function or two a stage ------------------------------------------------------------ */

void *wp_worker_main(void *path);   /* worker.c */
void *wp_resolver_main(void *path); /* resolver.c */
void *wp_flusher_main(void *path);  /* flusher.c */
void *wp_timer_main(void *path);    /* ack.c */

/* v2_labels.c: labels of a series of 2.0, as they would stand in 1.0; kept for the next series */
typedef struct wp_v2_labels {
    char *bytes;
    size_t cap_bytes;
    uint32_t *ends; /* of each label in bytes */
    size_t cap_ends;
    uint32_t n;
    ps_str refs; /* where they come from; empty: nothing can be kept */
    uint32_t name_at;
    bool name_twice;
    ps_str name; /* of the metric, in the message */
    uint32_t *middle;
    size_t cap_middle;
} wp_v2_labels;
void wp_v2_labels_begin(wp_v2_labels *k); /* of a message */
void wp_v2_labels_done(wp_v2_labels *k);
/* *why: NULL, or what is wrong with the references; then nothing has changed. */
ps_status wp_v2_labels_take(wp_v2_labels *k, const wire_v2_symbols *symbols,
                            const wire_v2_series *s, const settings *set, const char **why,
                            ps_err *err) PS_MUST_CHECK;
static inline ps_str
wp_v2_labels_bytes(const wp_v2_labels *k)
{
    return (ps_str){k->bytes, k->n == 0 ? 0 : k->ends[k->n - 1]};
}
static inline ps_str
wp_v2_labels_name(const wp_v2_labels *k)
{
    return k->name_at < k->n ? k->name : (ps_str){NULL, 0};
}

typedef struct wp_v2_seen {
    const char *name; /* the symbol */
    uint32_t type, help, unit;
} wp_v2_seen;

/* decode.c; the thread is worker.c */
typedef struct wp_decoder { /* a thread's scratch memory */
    ps_buf raw;             /* the message, decompressed */
    ps_buf adapted;         /* the message that another format became */
    ps_buf key;             /* a canonical label set */
    ps_buf text;
    mdl_label *labels;
    size_t cap_labels;
    wire_sample *samples;
    size_t cap_samples;
    wire_exemplar *exemplars;
    size_t cap_exemplars;
    wire_histogram *histograms;
    size_t cap_histograms;
    /* 2.0 */
    ps_arena symbols; /* the table of the message */
    wp_v2_labels v2_labels;
    uint32_t *refs;
    size_t cap_refs;
    wire_v2_exemplar *v2_exemplars;
    size_t cap_v2_exemplars;
    size_t expanded;          /* bytes of texts that references stood for */
    wp_v2_seen seen[WP_SEEN]; /* metadata that this message has said already */
    bool any_seen;
    /* Other spellings of known sets, for the cache; keys in the message. */
    series_cache_item *aliases; /* keys of 2.0 in the request's arena */
    size_t n_aliases, cap_aliases;
    int64_t lo_ms, hi_ms; /* times that are accepted */
    int64_t now_ms;
    int64_t old_ms; /* earlier ones may be older than their series is kept; at least lo_ms */
    bool refuse_old;
} wp_decoder;
void wp_decoder_init(wp_decoder *d);
void wp_decoder_done(wp_decoder *d);
/* Fills r from its body; r->fatal says if that failed. Needs no lock; r is the caller's. */
void wp_decode(write_path *w, wp_decoder *d, wp_request *r);
/* Text of the series in r's body that has this id, for an answer; false if it is not found. */
bool wp_name_series(write_path *w, wp_decoder *d, const wp_request *r, int64_t series_id,
                    ps_buf *out);
/* Wire form of canonical labels (the cache's key). */
void wp_put_key(ps_buf *out, const mdl_label *labels, size_t n);

static inline wp_counts
wp_floats(int64_t n)
{
    return (wp_counts){.floats = n};
}

/* take.c: what both versions do with a series. s: labels and counts; v2: NULL, or where its parts are
 * (then s has only labels). *ret_refused: as a whole. */
ps_status wp_take_series(write_path *w, wp_decoder *d, wp_request *r, series_cursor *cur,
                         const wire_series *s, const wire_v2_reader *reader,
                         const wire_v2_series *v2, bool *ret_refused, ps_err *err) PS_MUST_CHECK;
ps_status wp_over_limit(write_path *w, wp_limit limit, int64_t max, const char *what, ps_err *err);
enum { WP_SERIES_PER_BREATH = 4096 };

/* old.c: how long samples are kept, in ms; 0: for ever. wp_periods_set takes the new ones over. */
ps_status wp_periods_new(const catalog_period *rules, size_t n, wp_periods **ret,
                         ps_err *err) PS_MUST_CHECK;
void wp_periods_free(wp_periods *p);
int64_t wp_periods_kept(const wp_periods *p, ps_str tenant, const mdl_label *labels, size_t n);
void wp_periods_set(write_path *w, wp_periods *p);
int64_t wp_kept_ms(write_path *w, wp_decoder *d, const wp_request *r, const wire_series *s);

/* labels.c: the labels into d->labels, unless there are absurdly many. */
bool wp_parse_labels(const write_path *w, wp_decoder *d, const wire_series *s);

/* metadata.c; mark: 0, or what wp_metadata_mark said. */
ps_status wp_take_metadata(write_path *w, wp_request *r, const wire_metadata *m, uint64_t mark,
                           ps_err *err) PS_MUST_CHECK;
/* The same metadata of the same catalog in the same minutes has the same mark. */
uint64_t wp_metadata_mark(const write_path *w, const wp_request *r, int64_t now_ms,
                          const wire_metadata *m);
bool wp_is_told(const write_path *w, uint64_t mark); /* the database has it */
void wp_tell(write_path *w, uint64_t mark);

/* decode_v2.c */
ps_status wp_walk_v2(write_path *w, wp_decoder *d, wp_request *r, series_cursor *cur,
                     ps_str message, ps_err *err) PS_MUST_CHECK;
bool wp_name_series_v2(write_path *w, wp_decoder *d, const wp_request *r, series_cursor *cur,
                       ps_str message, int64_t series_id, ps_buf *out);
bool wp_points_at_nothing(const wire_v2_symbols *symbols, const uint32_t *refs, size_t n);

/* What became of a series: refused, new (its number in r->fresh), or known. */
typedef struct wp_lookup {
    series_ref ref;
    size_t fresh; /* SIZE_MAX: known */
    bool refused;
} wp_lookup;

/* labels.c: the way of a series that the cache does not know by its bytes */
ps_status wp_lookup_slow(write_path *w, wp_decoder *d, wp_request *r, series_cursor *cur,
                         const wire_series *s, wp_lookup *ret, ps_err *err) PS_MUST_CHECK;
/* Text of a series for answers and logs, in d->text. */
ps_str wp_series_text(const write_path *w, wp_decoder *d, const wire_series *s);

/* adapt.c: other formats. A body that is not remote write becomes a message of 2.0 in d->adapted; note
 * takes what was refused on the way, NULL: nobody wants to know. */
ps_status wp_adapt(write_path *w, wp_decoder *d, const wp_request *r, wp_request *note, ps_str body,
                   ps_str *ret, ps_err *err) PS_MUST_CHECK;
ps_status wp_gunzip(ps_str in, size_t max_bytes, ps_buf *out, ps_err *err) PS_MUST_CHECK;

/* exemplar.c */
ps_status wp_take_exemplars(write_path *w, wp_decoder *d, wp_request *r, const wire_series *s,
                            series_ref ref, ps_err *err) PS_MUST_CHECK;
ps_status wp_take_exemplars_v2(write_path *w, wp_decoder *d, wp_request *r, const wire_series *s,
                               const wire_v2_reader *reader, const wire_v2_series *v2,
                               series_ref ref, ps_err *err) PS_MUST_CHECK;
/* A call of insert_exemplars. */
void wp_exemplars_sql(ps_buf *out, wp_request *const *requests, size_t n);

/* request.c: memory of a request */
wp_request *wp_request_new(write_path *w);          /* under mu */
void wp_request_reset(wp_request *r);               /* forgets what decoding found */
void wp_request_trim(wp_request *r);                /* and gives the memory back */
void wp_request_free(write_path *w, wp_request *r); /* under mu */
size_t wp_request_bytes(const wp_request *r);
/* What it weighs in a flush, in samples. */
size_t wp_request_weight(const wp_request *r);
/* It has something to flush. */
static inline bool
wp_request_has_data(const wp_request *r)
{
    return r->n_points > 0 || r->n_hists > 0 || r->n_exemplars > 0;
}
bool wp_grow(void **array, size_t *cap, size_t need, size_t item_size);
/* Notes a refusal: series (may be empty) and reason go into the answer while there is room. */
void wp_refuse(write_path *w, wp_request *r, wp_reason reason, wp_counts n, ps_str series,
               const char *fmt, ...) PS_PRINTF(6, 7);
/* Sets r->fatal. */
void wp_fatal(wp_request *r, ps_status status, const char *fmt, ...) PS_PRINTF(3, 4);

/* ack.c */
/* Answers a request that the caller holds, once, and gives its memory back. Takes mu. */
void wp_finish(write_path *w, wp_request *r);
/* Passes a request that the caller holds on to the next stage; finishes it if the path gives up
 * or it is past its deadline. Takes mu. */
void wp_route(write_path *w, wp_request *r, wp_queue queue, bool front);
void wp_timed_wait(pthread_cond_t *cv, pthread_mutex_t *mu, int64_t until_ns);

/* batch.c, encode.c */
typedef struct wp_batch { /* a flusher's; reused */
    blk_point *points, *scratch;
    size_t cap_points, cap_scratch;
    ps_buf copy; /* rows in COPY's binary format */
    ps_buf sql;
    size_t n_rows, n_samples;
    blk_dup_stats dups;
} wp_batch;
void wp_batch_init(wp_batch *b);
void wp_batch_done(wp_batch *b);
/* Rows for all points of the requests (sorted by tenant in place). */
ps_status wp_batch_requests(wp_batch *b, wp_request **requests, size_t n,
                            ps_err *err) PS_MUST_CHECK;
/* Rows for points that are sorted and unique already; kind: BLK_KIND_FLOAT or _HISTOGRAM. */
ps_status wp_batch_points(wp_batch *b, int32_t tenant_id, int kind, const blk_point *points,
                          size_t n, ps_err *err) PS_MUST_CHECK;
void wp_rows_begin(wp_batch *b);
ps_status wp_rows_add(wp_batch *b, int32_t tenant_id, int kind, const blk_point *points, size_t n,
                      blk_point *scratch, ps_err *err) PS_MUST_CHECK;
ps_status wp_rows_end(wp_batch *b, ps_err *err) PS_MUST_CHECK;

/* conn.c: a connection of one thread */
typedef struct wp_conn {
    PGconn *pg; /* NULL: not connected */
    char identity[CATALOG_IDENTITY_BYTES];
    char warning[128]; /* the last WARNING since this was cleared */
    int64_t backoff_ns;
} wp_conn;
ps_status wp_conn_open(write_path *w, wp_conn *c, const char *application,
                       ps_err *err) PS_MUST_CHECK;
void wp_conn_close(wp_conn *c);
/* After an error: closes the connection unless it is in order and idle. True if it is still
 * open. */
bool wp_conn_settle(write_path *w, wp_conn *c);
pg_wait wp_wait(const write_path *w);
int64_t wp_backoff(wp_conn *c); /* ns to pause; doubles from call to call, wp_conn_open resets it */

/* resolve.c: series that the cache did not know, of many requests at once */
typedef struct wp_distinct { /* a series to ask for, once however many requests have it */
    ps_str key, alias;       /* in the arena of the request that brought it first */
    int32_t tenant_id;
    uint32_t n_labels;
    series_ref ref;
    ps_status status; /* PS_EINVAL: refused; PS_EINTERNAL: failed, the sender may try again */
    char *why;        /* malloc'd, for the two */
} wp_distinct;

typedef struct wp_resolve { /* the resolver's, reused */
    wp_distinct *series;
    size_t n_series, cap_series;
    uint32_t *slots; /* index + 1 in series, by hash of tenant and key */
    size_t cap_slots;
    mdl_label *labels;
    size_t cap_labels;
    mdl_labels *sets;
    size_t cap_sets;
    series_ref *refs;
    size_t cap_refs;
    series_cache_item *items;
    size_t cap_items;
    int calls; /* spent on finding the guilty */
} wp_resolve;
void wp_resolve_done(wp_resolve *x);
/*
 * Finds ids for all new series of the requests (all of one epoch); series that the database refuses
 * are refused in their requests. PS_ECONFLICT: the catalog moved on, nothing was filled in. Other
 * errors: try again.
 */
ps_status wp_resolve_series(write_path *w, wp_conn *c, wp_resolve *x, wp_decoder *d,
                            wp_request *const *requests, size_t n, ps_err *err) PS_MUST_CHECK;

/* flush.c: one transaction. Status as in pg_run: PS_EINVAL data, PS_ECONFLICT generation,
 * PS_EINTERNAL, else try again. PS_OK only after COMMIT came back without a word of warning. */
ps_status wp_send(write_path *w, wp_conn *c, wp_batch *b, int64_t generation,
                  wp_request *const *with_exemplars, size_t n, ps_err *err) PS_MUST_CHECK;

/* stats.c */
void wp_stats_init(write_path *w, metrics *m);
void wp_observe(const write_path *w, wp_stage stage, int64_t since_ns);
const char *wp_reason_name(wp_reason reason);

static inline bool
wp_expired(const wp_request *r, int64_t now_ns)
{
    return now_ns >= r->deadline_ns;
}

#endif
