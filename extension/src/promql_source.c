/*
 * promql_source.c - what the engine reads in a backend: for each selection its series, and their samples
 * in the selection's window, read by the scan of the foreign table (fdw_scan.c) when the selection is
 * made.
 *
 * Samples are kept as they came from the scan, one piece per series and slice of time; pieces whose
 * times are the same share them. So a sample takes 8 to 16 bytes until the query ends, a histogram its
 * full size (some hundred bytes); the budget says how many may be held, and a query that needs more is
 * refused. Where only the newest sample of each
 * series is wanted, blocks are walked backwards and only heads are read (fdw_newest.c).
 */
#include "promql.h"

#include "damage.h"

#include "miscadmin.h"
#include "utils/memutils.h"

typedef struct piece {
    struct piece *next;
    const int64_t *t_ms;
    const double *values;
    const hst_hist **histograms; /* NULL: floats only; else NULL where one is a float */
    const int64_t *start_ms;     /* NULL: none is known, or nobody asks */
    size_t n;
} piece;

typedef struct series_samples {
    piece *first, **end;
    size_t n;
    bool histograms, starts; /* some piece has them */
} series_samples;

typedef struct found_samples { /* of a selection */
    series_samples *series;
    uint64 blocks, bytes; /* what they came from */
} found_samples;

/* ---- memory --------------------------------------------------------------------------------------- */

static const char *const memory_hint =
    "Ask for fewer series or a shorter time, or raise promscale.promql_memory.";

void
promql_no_memory(void)
{
    ereport(ERROR,
            (errcode(ERRCODE_OUT_OF_MEMORY),
             errmsg("the PromQL query needs more memory than it may"), errhint("%s", memory_hint)));
    pg_unreachable();
}

static void *
need(void *p)
{
    if (p == NULL)
        promql_no_memory();
    return p;
}

/* Regular expressions are the only thing outside of memory contexts. */
static void
free_matchers(void *self)
{
    promql_source *src = self;

    for (size_t i = 0; i < src->n_matchers; i++)
        re_matcher_free(src->matchers[i]);
    src->n_matchers = 0;
    ev_query_free(src->query);
    src->query = NULL;
}

promql_source *
promql_source_new(MemoryContext context, Snapshot snapshot, size_t max_bytes)
{
    promql_source *src = MemoryContextAllocZero(context, sizeof(*src));
    MemoryContextCallback *callback = MemoryContextAllocZero(context, sizeof(*callback));
    HASHCTL control = {.keysize = sizeof(int32), .entrysize = 48, .hcxt = context};

    src->context = context;
    src->snapshot = snapshot;
    src->from_ms = MDL_TIME_MIN_MS;
    src->to_ms = MDL_TIME_MAX_MS;
    bridge_alloc_init(&src->memory, context, max_bytes);
    ps_arena_init(&src->arena, &src->memory.alloc, 0);
    src->labels =
        hash_create("promscale label texts", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    src->tenants =
        hash_create("promscale tenants", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    callback->func = free_matchers;
    callback->arg = src;
    MemoryContextRegisterResetCallback(context, callback);
    return src;
}

/* ---- selecting -------------------------------------------------------------------------------------- */

static void
compile(promql_source *src, const mdl_matcher *matchers, size_t n)
{
    ps_err err;

    src->matchers = need(ps_arena_array(&src->arena, Max(n, 1), sizeof(*src->matchers)));
    for (size_t i = 0; i < n; i++) {
        ps_status st = re_matcher_new(&src->memory.alloc, &matchers[i], &src->matchers[i], &err);

        if (st != PS_OK)
            bridge_raise(st, &err, NULL, NULL);
        src->n_matchers++;
    }
}

static void
forget_matchers(promql_source *src)
{
    for (size_t i = 0; i < src->n_matchers; i++)
        re_matcher_free(src->matchers[i]);
    src->n_matchers = 0;
}

static const mdl_matcher *
name_of(const mdl_matcher *matchers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const mdl_matcher *m = &matchers[i];
        if (m->type == MDL_MATCH_EQ && m->value.len > 0 && ps_str_eq_c(m->name, MDL_METRIC_NAME))
            return m;
    }
    return NULL;
}

void
promql_select_matching(promql_source *src, const mdl_matcher *matchers, size_t n, promql_list *ret)
{
    compile(src, matchers, n);
    promql_select(src, name_of(matchers, n), ret);
    forget_matchers(src);
}

static piece *
keep(promql_source *src, series_samples *s, const int64_t *times, const double *values, size_t n)
{
    piece *p = need(ps_arena_new(&src->arena, sizeof(*p)));
    double *copy = need(ps_arena_new(&src->arena, n * sizeof(*copy)));

    memcpy(copy, values, n * sizeof(*copy));
    *p = (piece){.t_ms = times, .values = copy, .n = n};
    *s->end = p;
    s->end = &p->next;
    s->n += n;
    return p;
}

/* What floats do not have, for the series that the scan stands at. */
static void
keep_more(promql_source *src, fdw_scan *scan, series_samples *s, piece *p)
{
    const fdw_merge *m = &scan->merge;
    bool histograms = false, starts = false;
    int64_t *start_ms = NULL;

    for (size_t i = 0; i < m->n_runs; i++) {
        histograms |= fdw_run_is_histogram(&m->runs[i]);
        starts |= scan->need_start && m->runs[i].series.started;
    }
    if (histograms)
        p->histograms = need(ps_arena_array(&src->arena, p->n, sizeof(*p->histograms)));
    if (starts)
        p->start_ms = start_ms = need(ps_arena_array(&src->arena, p->n, sizeof(*start_ms)));
    if (histograms || starts)
        fdw_merge_histograms(&scan->merge, 0, p->n, &src->arena, p->histograms, start_ms);
    s->histograms |= histograms;
    s->starts |= starts;
}

static void
read_all(promql_source *src, fdw_scan *scan, const promql_list *list, series_samples *out)
{
    const int64_t *times = NULL;
    uint64 version = 0;

    scan->need_start = src->starts;
    while (fdw_scan_next_series(scan)) {
        const fdw_samples *in = &scan->merge.out;
        series_samples *s = &out[list->order[scan->current - list->rows]];

        if (in->n == 0)
            continue;
        if (version != in->times_version) {
            int64_t *copy = need(ps_arena_new(&src->arena, in->n * sizeof(*copy)));
            memcpy(copy, in->t_ms, in->n * sizeof(*copy));
            times = copy;
            version = in->times_version;
        }
        keep_more(src, scan, s, keep(src, s, times, in->values, in->n));
        CHECK_FOR_INTERRUPTS();
    }
}

static void
read_newest(promql_source *src, fdw_scan *scan, const promql_list *list, series_samples *out)
{
    fdw_newest *w = fdw_newest_new(scan, false);
    int64_t t_ms;
    double value;

    scan->newest_arena = &src->arena;
    scan->need_start = src->starts;
    while (fdw_newest_next(w, &t_ms, &value)) {
        series_samples *s = &out[list->order[scan->current - list->rows]];
        int64_t *copy = need(ps_arena_new(&src->arena, sizeof(*copy)));
        const hst_hist *h = fdw_newest_histogram(w);

        *copy = t_ms;

        piece *p = keep(src, s, copy, &value, 1);

        if (h != NULL) {
            p->histograms = need(ps_arena_array(&src->arena, 1, sizeof(*p->histograms)));
            p->histograms[0] = h;
            s->histograms = true;
        }
        if (fdw_newest_start(w) != 0) {
            int64_t *start_ms = need(ps_arena_new(&src->arena, sizeof(*start_ms)));

            *start_ms = fdw_newest_start(w);
            p->start_ms = start_ms;
            s->starts = true;
        }
    }
}

static void
select_one(promql_source *src, const ev_selection *sel, ev_series_list *ret)
{
    promql_list list;

    src->from_ms = Max(sel->from_ms, MDL_TIME_MIN_MS);
    src->to_ms = Min(sel->to_ms, MDL_TIME_MAX_MS);
    promql_select_matching(src, sel->matchers, sel->n_matchers, &list);
    src->from_ms = MDL_TIME_MIN_MS;
    src->to_ms = MDL_TIME_MAX_MS;
    found_samples *found = need(ps_arena_array(&src->arena, 1, sizeof(*found)));
    series_samples *samples = need(ps_arena_array(&src->arena, Max(list.n, 1), sizeof(*samples)));
    found->series = samples;
    for (size_t i = 0; i < list.n; i++)
        samples[i].end = &samples[i].first;
    if (list.n > 0) {
        fdw_scan *scan = fdw_scan_of_series(src->context, src->snapshot, list.rows, list.n,
                                            sel->from_ms, sel->to_ms);

        if (sel->newest_only)
            read_newest(src, scan, &list, samples);
        else
            read_all(src, scan, &list, samples);
        found->blocks = scan->counts.blocks_read + scan->counts.blocks_heads;
        found->bytes = scan->counts.bytes_read;
        MemoryContextDelete(scan->context);
        damage_rest(false);
    }
    *ret = (ev_series_list){.n = list.n, .labels = list.labels, .impl = found};
}

ps_status
promql_guarded(promql_source *src, void (*body)(promql_source *src, void *arg), void *arg,
               ps_err *err)
{
    MemoryContext caller = CurrentMemoryContext;
    volatile ps_status st = PS_OK;

    PG_TRY();
    {
        body(src, arg);
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(src->context);
        src->raised = CopyErrorData();
        FlushErrorState();
        /* histograms are made by the scan, in the query's memory */
        if (src->raised->sqlerrcode == ERRCODE_OUT_OF_MEMORY && src->raised->hint == NULL)
            src->raised->hint = pstrdup(memory_hint);
        st = ps_fail(err, PS_EINTERNAL, "reading failed");
    }
    PG_END_TRY();
    MemoryContextSwitchTo(caller);
    return st;
}

typedef struct selecting {
    const ev_selection *selections;
    size_t n;
    ev_series_list *ret;
} selecting;

static void
select_all(promql_source *src, void *arg)
{
    const selecting *s = arg;

    for (size_t i = 0; i < s->n; i++)
        select_one(src, &s->selections[i], &s->ret[i]);
}

static ps_status
source_select(void *self, const ev_selection *selections, size_t n, ev_series_list *ret,
              ps_err *err)
{
    selecting s = {selections, n, ret};

    return promql_guarded(self, select_all, &s, err);
}

static void
source_taken(void *self, const ev_series_list *list, ev_reading *ret)
{
    const found_samples *found = list->impl;

    (void)self;
    ret->blocks = found->blocks;
    ret->bytes = found->bytes;
}

/* ---- reading -------------------------------------------------------------------------------------------- */

/* n items of 8 bytes, or as many zeros; `to` is used again and may hold anything. */
static void
put_optional(void *to, const void *from, size_t n)
{
    if (to != NULL && from != NULL)
        memcpy(to, from, n * sizeof(int64));
    else if (to != NULL)
        memset(to, 0, n * sizeof(int64));
}

static ps_status
source_read(void *self, const ev_series_list *list, size_t series, size_t worker, ev_samples *into,
            ps_err *err)
{
    const found_samples *found = list->impl;
    const series_samples *s = found->series + series;

    (void)self;
    (void)worker;
    if (ev_samples_reserve(into, into->n + s->n, s->histograms, s->starts) != PS_OK)
        return ps_fail(err, PS_ENOMEM, "no memory");
    for (const piece *p = s->first; p != NULL; p = p->next) {
        memcpy(into->t_ms + into->n, p->t_ms, p->n * sizeof(*p->t_ms));
        memcpy(into->v + into->n, p->values, p->n * sizeof(*p->values));
        put_optional(into->h == NULL ? NULL : into->h + into->n, p->histograms, p->n);
        put_optional(into->start_ms == NULL ? NULL : into->start_ms + into->n, p->start_ms, p->n);
        into->n += p->n;
    }
    return PS_OK;
}

ev_source
promql_source_for_engine(promql_source *src)
{
    return (ev_source){.self = src,
                       .select = source_select,
                       .read = source_read,
                       .estimate = promql_estimate,
                       .taken = source_taken};
}
