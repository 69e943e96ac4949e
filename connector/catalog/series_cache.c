/*
 * series_cache.c - reading, writing and lifetime; the table underneath is series_table.c.
 */
#include "connector/catalog/series_table.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

struct series_cache {
    pthread_rwlock_t lock; /* guards all below but the atomics; writers go first */
    series_table table;
    series_cache_view view;
    uint64_t evictions_told; /* evictions already in the metric */

    /* Counted without the lock. */
    _Atomic uint64_t queries, hits;

    metric *m_queries, *m_hits, *m_evictions, *m_deleted;
};

static double
gauge_bytes(void *self)
{
    return (double)series_cache_get_stats(self).bytes;
}

static double
gauge_elements(void *self)
{
    return (double)series_cache_get_stats(self).elements;
}

static void
register_metrics(series_cache *c, metrics *m)
{
    static const char labels[] = "type=\"metric\",name=\"series\"";
    if (m == NULL)
        return;
    c->m_queries =
        metrics_counter(m, "promscale_cache_queries_total", "Look-ups in the cache.", labels);
    c->m_hits = metrics_counter(m, "promscale_cache_query_hits_total",
                                "Look-ups that found an entry.", labels);
    c->m_evictions = metrics_counter(m, "promscale_cache_evictions_total",
                                     "Entries that gave way to others.", labels);
    c->m_deleted = metrics_counter(m, "promscale_cache_deleted_total",
                                   "Entries dropped because their series was deleted.", labels);
    metrics_gauge_fn(m, "promscale_cache_bytes", "Memory in use, all of it counted.", labels,
                     gauge_bytes, c);
    metrics_gauge_fn(m, "promscale_cache_elements", "Entries held.", labels, gauge_elements, c);
    metric_set(metrics_gauge(m, "promscale_series_cache_max_bytes", "Budget of the series cache.",
                             ""),
               (double)c->table.max_bytes);
}

ps_status
series_cache_new(const series_cache_config *config, series_cache **ret, ps_err *err)
{
    uint64_t seed = config->seed;
    if (seed == 0 && getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        return ps_fail(err, PS_EINTERNAL, "the system has no random numbers");
    series_cache *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    if (!series_table_init(&c->table, config->max_bytes, seed, config->hash_mask)) {
        free(c);
        return ps_fail(err, PS_ENOMEM, "the series cache does not fit into %zu bytes",
                       config->max_bytes);
    }
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&c->lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    c->view.epoch = 1;
    register_metrics(c, config->metrics);
    *ret = c;
    return PS_OK;
}

void
series_cache_free(series_cache *c)
{
    if (c == NULL)
        return;
    series_table_done(&c->table);
    pthread_rwlock_destroy(&c->lock);
    free(c);
}

uint64_t
series_cache_seed(const series_cache *c)
{
    return c->table.seed;
}

void
series_cache_begin(series_cache *c, series_cursor *cur)
{
    pthread_rwlock_rdlock(&c->lock);
    *cur = (series_cursor){.epoch = c->view.epoch, .generation = c->view.generation};
}

bool
series_cache_find(series_cache *c, series_cursor *cur, int32_t tenant_id, ps_str key,
                  series_ref *ret)
{
    cur->queries++;
    uint32_t guess = series_table_successor(&c->table, cur->last);
    const series_entry *e = series_table_at(&c->table, guess);
    if (e != NULL && series_entry_is(e, tenant_id, key)) {
        cur->guessed++;
        cur->last = guess;
    } else {
        uint32_t id = series_table_find(&c->table, tenant_id, key);
        if (id == 0)
            return false;
        series_table_set_successor(&c->table, cur->last, id);
        cur->last = id;
        e = series_table_at(&c->table, id);
    }
    cur->hits++;
    series_table_touch(&c->table, cur->last);
    *ret = e->ref;
    return true;
}

void
series_cache_end(series_cache *c, const series_cursor *cur)
{
    pthread_rwlock_unlock(&c->lock);
    atomic_fetch_add_explicit(&c->queries, cur->queries, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->hits, cur->hits, memory_order_relaxed);
    metric_add(c->m_queries, cur->queries);
    metric_add(c->m_hits, cur->hits);
}

void
series_cache_yield(series_cache *c)
{
    pthread_rwlock_unlock(&c->lock);
    pthread_rwlock_rdlock(&c->lock);
}

/* Under the write lock, before it is given up. */
static void
tell_evictions(series_cache *c)
{
    metric_add(c->m_evictions, (double)(c->table.evictions - c->evictions_told));
    c->evictions_told = c->table.evictions;
}

bool
series_cache_insert(series_cache *c, uint64_t epoch, const series_cache_item *items, size_t n)
{
    pthread_rwlock_wrlock(&c->lock);
    bool valid = c->view.epoch == epoch;
    for (size_t i = 0; valid && i < n; i++)
        series_table_put(&c->table, items[i].tenant_id, items[i].key, items[i].ref);
    tell_evictions(c);
    pthread_rwlock_unlock(&c->lock);
    return valid;
}

series_cache_view
series_cache_now(series_cache *c)
{
    pthread_rwlock_rdlock(&c->lock);
    series_cache_view view = c->view;
    pthread_rwlock_unlock(&c->lock);
    return view;
}

static int
compare_int64(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

void
series_cache_advance(series_cache *c, int64_t generation, int64_t *deleted, size_t n_deleted)
{
    if (n_deleted > 0)
        qsort(deleted, n_deleted, sizeof(*deleted), compare_int64);
    pthread_rwlock_wrlock(&c->lock);
    if (n_deleted > 0)
        metric_add(c->m_deleted, (double)series_table_delete_series(&c->table, deleted, n_deleted));
    if (c->view.generation != generation) {
        c->view.generation = generation;
        c->view.epoch++;
    }
    pthread_rwlock_unlock(&c->lock);
}

void
series_cache_clear(series_cache *c, int64_t generation)
{
    pthread_rwlock_wrlock(&c->lock);
    series_table_clear(&c->table);
    c->view.generation = generation;
    c->view.epoch++;
    pthread_rwlock_unlock(&c->lock);
}

series_cache_stats
series_cache_get_stats(series_cache *c)
{
    pthread_rwlock_rdlock(&c->lock);
    series_cache_stats stats = {.bytes = c->table.bytes,
                                .max_bytes = c->table.max_bytes,
                                .elements = c->table.n,
                                .evictions = c->table.evictions};
    pthread_rwlock_unlock(&c->lock);
    stats.queries = atomic_load_explicit(&c->queries, memory_order_relaxed);
    stats.hits = atomic_load_explicit(&c->hits, memory_order_relaxed);
    return stats;
}
