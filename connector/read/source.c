/*
 * source.c - what the engine reads from: one query's selections and their samples.
 *
 * Everything that is held (label sets, blocks, readers) is counted against the query's bytes and lives
 * until the source is closed. Reading is done by several workers at once: blocks do not change any
 * more, each worker has a bench of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "connector/read/internal.h"

/* ---- memory --------------------------------------------------------------------------------------- */

bool
read_take_bytes(read_source *src, size_t n)
{
    size_t now = atomic_fetch_add_explicit(&src->bytes, n, memory_order_relaxed) + n;
    if (now <= src->max_bytes)
        return true;
    atomic_store(&src->over, true);
    read_give_bytes(src, n);
    return false;
}

void
read_give_bytes(read_source *src, size_t n)
{
    atomic_fetch_sub_explicit(&src->bytes, n, memory_order_relaxed);
}

static void *
counted_realloc(void *self, void *old, size_t old_size, size_t new_size)
{
    read_source *src = self;
    if (new_size > old_size && !read_take_bytes(src, new_size - old_size))
        return NULL;
    void *p = ps_malloc.realloc(ps_malloc.self, old, old_size, new_size);
    if (new_size < old_size)
        read_give_bytes(src, old_size - new_size);
    else if (p == NULL && new_size > 0)
        read_give_bytes(src, new_size - old_size);
    return p;
}

ps_status
read_no_memory(read_source *src, ps_err *err)
{
    if (!atomic_load(&src->over))
        return ps_fail(err, PS_ENOMEM, "out of memory");
    return ps_fail(
        err, PS_ELIMIT,
        "the query reads more than the %zu bytes of labels and compressed samples that it "
        "may hold (query.max-bytes)",
        src->max_bytes);
}

ps_status
read_grow(read_source *src, void **array, size_t n, size_t *cap, size_t size, ps_err *err)
{
    if (n < *cap)
        return PS_OK;
    size_t want = *cap < 64 ? 64 : *cap + *cap / 2;
    void *p = src->alloc.realloc(src->alloc.self, *array, *cap * size, want * size);
    if (p == NULL)
        return read_no_memory(src, err);
    *array = p;
    *cap = want;
    return PS_OK;
}

/* ---- begin and end ---------------------------------------------------------------------------------- */

static ps_status
enter(read_store *s, read_source *src, ps_err *err)
{
    pthread_mutex_lock(&s->lock);
    bool stopping = s->stopping;
    if (!stopping) {
        src->next = s->sources;
        if (s->sources != NULL)
            s->sources->prev = src;
        s->sources = src;
    }
    pthread_mutex_unlock(&s->lock);
    return stopping ? ps_fail(err, PS_EUNAVAILABLE, "the connector is shutting down") : PS_OK;
}

static void
leave(read_source *src)
{
    read_store *s = src->store;
    pthread_mutex_lock(&s->lock);
    if (src->prev != NULL)
        src->prev->next = src->next;
    else
        s->sources = src->next;
    if (src->next != NULL)
        src->next->prev = src->prev;
    pthread_mutex_unlock(&s->lock);
}

static void
drop_lists(read_source *src)
{
    for (size_t i = 0; i < src->n_lists; i++) {
        read_list *list = &src->lists[i];
        read_blocks_drop(src, list);
        read_alive_done(&list->alive);
        for (size_t k = 0; list->matchers != NULL && k < list->selection.n_matchers; k++)
            re_matcher_free(list->matchers[k]);
    }
    src->lists = NULL;
    src->n_lists = 0;
}

static void
source_free(read_source *src)
{
    drop_lists(src);
    for (size_t i = 0; src->benches != NULL && i < src->n_workers; i++)
        blk_bench_free(src->benches[i]);
    label_view_release(src->view);
    ps_arena_done(&src->arena);
    read_damaged_done(&src->damaged);
    if (src->cancel_fd >= 0)
        close(src->cancel_fd);
    free(src->benches);
    free(src->tenant);
    free(src);
}

ps_status
read_source_open(read_store *s, const read_source_config *config, read_source **ret, ps_err *err)
{
    read_source *src = calloc(1, sizeof(*src));
    if (src == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    src->store = s;
    src->n_workers = config->n_workers == 0 ? 1 : config->n_workers;
    src->deadline_ns = config->deadline_ns;
    src->max_bytes = config->max_bytes != 0 ? config->max_bytes : (size_t)s->set->query_max_bytes;
    src->alloc = (ps_alloc){counted_realloc, src};
    ps_arena_init(&src->arena, &src->alloc, 0);
    src->benches = calloc(src->n_workers, sizeof(*src->benches));
    src->tenant = malloc(config->tenant.len + 1);
    src->tenant_len = config->tenant.len;
    src->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ps_status status =
        src->benches == NULL || src->tenant == NULL || src->cancel_fd < 0
            ? ps_fail(err, PS_EUNAVAILABLE, "no memory or descriptors for another query")
            : enter(s, src, err);
    if (status != PS_OK) {
        source_free(src);
        return status;
    }
    if (config->tenant.len > 0)
        memcpy(src->tenant, config->tenant.ptr, config->tenant.len);
    *ret = src;
    return PS_OK;
}

void
read_source_cancel(read_source *src)
{
    atomic_store(&src->cancelled, true);
    (void)eventfd_write(src->cancel_fd, 1);
    pthread_mutex_lock(&src->store->lock);
    pthread_cond_broadcast(&src->store->changed);
    pthread_mutex_unlock(&src->store->lock);
}

void
read_source_close(read_source *src)
{
    if (src == NULL)
        return;
    leave(src);
    source_free(src);
}

/* ---- the engine's side -------------------------------------------------------------------------------- */

static ps_status
select_lists(read_source *src, const ev_selection *selections, size_t n, ev_series_list *ret,
             ps_err *err)
{
    if (src->lists != NULL)
        return ps_fail(err, PS_EINTERNAL, "a source is selected from once");
    src->lists = ps_arena_array(&src->arena, n + 1, sizeof(*src->lists));
    if (src->lists == NULL)
        return read_no_memory(src, err);
    src->n_lists = n;
    for (size_t i = 0; i < n; i++)
        src->lists[i].selection = selections[i];
    PS_TRY(read_select(src, err));
    for (size_t i = 0; i < n; i++) {
        read_list *list = &src->lists[i];
        list->labels = ps_arena_new(&src->arena, (list->found.n + 1) * sizeof(*list->labels));
        if (list->labels == NULL)
            return read_no_memory(src, err);
        for (size_t k = 0; k < list->found.n; k++)
            list->labels[k] = list->found.items[k].labels;
    }
    for (size_t i = 0; i < n; i++)
        ret[i] = (ev_series_list){src->lists[i].found.n, src->lists[i].labels, &src->lists[i]};
    return PS_OK;
}

/* What was there for an estimate goes. */
static void
forget_estimate(read_source *src)
{
    drop_lists(src);
    label_view_release(src->view);
    src->view = NULL;
    ps_arena_reset(&src->arena);
    src->estimating = false;
}

static ps_status
source_select(void *self, const ev_selection *selections, size_t n, ev_series_list *ret,
              ps_err *err)
{
    read_source *src = self;
    if (src->estimating && src->lists != NULL)
        forget_estimate(src);
    return select_lists(src, selections, n, ret, err);
}

static ps_status
source_estimate(void *self, const ev_selection *selections, size_t n, ev_series_list *ret,
                ev_reading *ret_readings, ps_err *err)
{
    read_source *src = self;
    src->estimating = true;
    PS_TRY(select_lists(src, selections, n, ret, err));
    for (size_t i = 0; i < n; i++)
        ret_readings[i] = read_estimate_end(&src->lists[i]);
    return PS_OK;
}

static void
source_taken(void *self, const ev_series_list *found, ev_reading *ret)
{
    const read_list *list = found->impl;
    (void)self;
    ret->blocks = list->n_rows;
    ret->bytes = list->n_row_bytes;
}

/* Appends the samples of runs in [from, to]. */
static ps_status
read_runs(blk_bench *bench, const blk_run *runs, size_t n, int64_t from_ms, int64_t to_ms,
          ev_samples *into, ps_err *err)
{
    size_t room = blk_runs_samples(runs, n, from_ms, to_ms), got;
    blk_runs_kinds kinds = blk_runs_look(runs, n, from_ms, to_ms);
    PS_TRY(ev_samples_reserve(into, into->n + room, kinds.histograms, kinds.starts));
    int64_t *t_ms = into->t_ms + into->n;
    double *v = into->v + into->n;
    if (!kinds.histograms && !kinds.starts) {
        PS_TRY(blk_runs_decode(bench, runs, n, from_ms, to_ms, t_ms, v, &got, err));
        into->n += got;
        return PS_OK;
    }
    blk_samples out = {.t_ms = t_ms,
                       .values = v,
                       .histograms = into->h != NULL ? into->h + into->n : NULL,
                       .start_ms = into->start_ms != NULL ? into->start_ms + into->n : NULL,
                       .arena = &into->arena};
    PS_TRY(blk_runs_read(bench, runs, n, from_ms, to_ms, &out, err));
    into->n += out.n;
    return PS_OK;
}

/* Blocks of floats know their newest samples, those of histograms have to be decoded. */
static ps_status
read_newest(blk_bench *bench, const blk_run *runs, size_t n, int64_t from_ms, int64_t to_ms,
            ev_samples *into, ps_err *err)
{
    size_t first = into->n, floats = 0;
    bool any = false;
    int64_t t_ms = from_ms;
    double value;
    while (floats < n && blk_reader_meta(runs[floats].reader)->kind == BLK_KIND_FLOAT)
        floats++;
    PS_TRY(blk_runs_newest(bench, runs, floats, from_ms, to_ms, &any, &t_ms, &value, err));
    if (floats < n)
        PS_TRY(read_runs(bench, runs + floats, n - floats, t_ms, to_ms, into, err));
    if (into->n > first && (!any || into->t_ms[into->n - 1] > t_ms)) {
        size_t last = into->n - 1;
        into->t_ms[first] = into->t_ms[last];
        into->h[first] = into->h[last];
        if (into->start_ms != NULL)
            into->start_ms[first] = into->start_ms[last];
        into->n = first + 1;
        return PS_OK;
    }
    into->n = first;
    if (!any)
        return PS_OK;
    PS_TRY(ev_samples_reserve(into, into->n + 1, false, false));
    if (into->h != NULL)
        into->h[first] = NULL;
    if (into->start_ms != NULL)
        into->start_ms[first] = 0;
    into->t_ms[first] = t_ms;
    into->v[first] = value;
    into->n = first + 1;
    return PS_OK;
}

static ps_status
source_read(void *self, const ev_series_list *found, size_t series, size_t worker, ev_samples *into,
            ps_err *err)
{
    read_source *src = self;
    const read_list *list = found->impl;
    const blk_run *runs = list->runs + list->first_run[series];
    size_t n = list->first_run[series + 1] - list->first_run[series];
    if (atomic_load_explicit(&src->cancelled, memory_order_relaxed))
        return ps_fail(err, PS_ECANCELED, "the query was canceled");
    if (n == 0)
        return PS_OK;
    if (src->benches[worker] == NULL)
        src->benches[worker] = blk_bench_new(&src->alloc);
    blk_bench *bench = src->benches[worker];
    if (bench == NULL)
        return read_no_memory(src, err);
    const ev_selection *sel = &list->selection;
    ps_status status = sel->newest_only
                           ? read_newest(bench, runs, n, sel->from_ms, sel->to_ms, into, err)
                           : read_runs(bench, runs, n, sel->from_ms, sel->to_ms, into, err);
    return status == PS_ENOMEM ? read_no_memory(src, err) : status;
}

ev_source
read_source_for_engine(read_source *src)
{
    return (ev_source){.self = src,
                       .select = source_select,
                       .read = source_read,
                       .estimate = source_estimate,
                       .taken = source_taken};
}
