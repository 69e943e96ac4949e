/*
 * blocks.c - which block holds which of the wanted series.
 *
 * Both stand in order of (metric, series), so a block's directory and the wanted ones are walked
 * together, with jumps where one has much that the other does not have. What is found are hits, which
 * are turned into the runs of each series when all blocks are there.
 */
#include <stdlib.h>

#include "connector/read/internal.h"

enum { LINEAR = 8 };

static int
compare_ids(int32_t m1, int64_t s1, int32_t m2, int64_t s2)
{
    return m1 != m2 ? (m1 > m2) - (m1 < m2) : (s1 > s2) - (s1 < s2);
}

/* Byte `shift` / 8 of what is sorted by: the series, then the metric. */
static unsigned
digit(const read_wanted *w, unsigned shift)
{
    return shift < 64 ? (uint64_t)w->series_id >> shift & 255
                      : (uint32_t)w->metric_id >> (shift - 64) & 255;
}

/* By metric and series, both positive: byte by byte, without those that are the same in all. Returns
 * where the result is. */
static read_wanted *
sort_wanted(read_wanted *items, read_wanted *scratch, size_t n)
{
    uint64_t differ_series = 0;
    uint32_t differ_metric = 0;
    for (size_t i = 1; i < n; i++) {
        differ_series |= (uint64_t)(items[i].series_id ^ items[0].series_id);
        differ_metric |= (uint32_t)(items[i].metric_id ^ items[0].metric_id);
    }
    for (unsigned shift = 0; shift < 96; shift += 8) {
        size_t at[256] = {0}, sum = 0;
        if ((shift < 64 ? differ_series >> shift & 255 : differ_metric >> (shift - 64) & 255) == 0)
            continue;
        for (size_t i = 0; i < n; i++)
            at[digit(&items[i], shift)]++;
        for (unsigned k = 0; k < 256; k++) {
            size_t count = at[k];
            at[k] = sum;
            sum += count;
        }
        for (size_t i = 0; i < n; i++)
            scratch[at[digit(&items[i], shift)]++] = items[i];
        read_wanted *other = items;
        items = scratch;
        scratch = other;
    }
    return items;
}

ps_status
read_blocks_want(read_source *src, read_list *list, ps_err *err)
{
    size_t n = list->found.n;
    list->n_metrics = 0;
    if (n == 0)
        return PS_OK;
    read_wanted *items = ps_arena_new(&src->arena, n * 2 * sizeof(*items));
    if (items == NULL)
        return read_no_memory(src, err);
    for (size_t i = 0; i < n; i++) {
        const idx_series *s = &list->found.items[i];
        if (s->metric_id <= 0 || s->series_id <= 0)
            return ps_fail(err, PS_ECORRUPT, "series %lld of metric %d: no such numbers are given",
                           (long long)s->series_id, s->metric_id);
        items[i] = (read_wanted){s->metric_id, (uint32_t)i, s->series_id};
    }
    list->wanted = sort_wanted(items, items + n, n);
    size_t n_metrics = 1;
    for (size_t i = 1; i < n; i++)
        n_metrics += list->wanted[i].metric_id != list->wanted[i - 1].metric_id;
    list->metrics = ps_arena_new(&src->arena, n_metrics * sizeof(*list->metrics));
    if (list->metrics == NULL)
        return read_no_memory(src, err);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || list->wanted[i].metric_id != list->wanted[i - 1].metric_id)
            list->metrics[list->n_metrics++] = list->wanted[i].metric_id;
    }
    return PS_OK;
}

/* First wanted at or after `from` that is not before (metric, series). */
static size_t
seek_wanted(const read_list *list, size_t from, int32_t metric_id, int64_t series_id)
{
    size_t lo = from, hi = from, step = 1, n = list->found.n;
    while (hi < n && compare_ids(list->wanted[hi].metric_id, list->wanted[hi].series_id, metric_id,
                                 series_id) < 0) {
        lo = hi + 1;
        hi += step;
        step *= 2;
    }
    hi = hi < n ? hi : n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (compare_ids(list->wanted[mid].metric_id, list->wanted[mid].series_id, metric_id,
                        series_id) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Walks a block's series and the wanted ones together. */
static ps_status
find_hits(read_source *src, read_list *list, blk_reader *reader, ps_err *err)
{
    uint32_t n = blk_reader_n_series(reader), behind = 0;
    int32_t prepared = 0;
    size_t w = 0;
    for (uint32_t i = 0; i < n && w < list->found.n;) {
        blk_series s;
        const read_wanted *want = &list->wanted[w];
        blk_reader_series(reader, i, &s);
        int cmp = compare_ids(s.metric_id, s.series_id, want->metric_id, want->series_id);
        if (cmp < 0) { /* one step, or a jump if steps have led to nothing */
            i = ++behind < LINEAR ? i + 1
                                  : blk_reader_seek(reader, want->metric_id, want->series_id);
            continue;
        }
        behind = 0;
        if (cmp > 0) {
            w = seek_wanted(list, w, s.metric_id, s.series_id);
            continue;
        }
        if (s.t_first_ms <= list->selection.to_ms && s.t_last_ms >= list->selection.from_ms) {
            if (prepared != s.metric_id)
                PS_TRY(blk_reader_prepare(reader, s.metric_id, err));
            prepared = s.metric_id;
            PS_TRY(read_grow(src, (void **)&list->hits, list->n_hits, &list->cap_hits,
                             sizeof(*list->hits), err));
            list->hits[list->n_hits++] = (read_hit){want->index, (uint32_t)list->n_blocks, i};
        }
        i++;
        w++;
    }
    return PS_OK;
}

static void
drop_block(read_source *src, read_block *b, size_t bytes)
{
    blk_reader_free(b->reader);
    b->reader = NULL;
    if (b->res != NULL)
        read_give_bytes(src, bytes);
}

/* A row that holds none of the wanted series is forgotten at once. */
ps_status
read_blocks_add(read_source *src, read_list *list, const read_block *row, ps_str data, ps_err *err)
{
    read_block b = *row;
    size_t bytes = 0, hits = list->n_hits;
    PS_TRY(read_grow(src, (void **)&list->blocks, list->n_blocks, &list->cap_blocks,
                     sizeof(*list->blocks), err));
    if (b.res != NULL) {
        bytes = PQresultMemorySize(b.res);
        if (!read_take_bytes(src, bytes))
            return read_no_memory(src, err);
    } else if (ps_arena_dup(&src->arena, data, &data) != PS_OK) {
        return read_no_memory(src, err);
    }
    const bool head = list->selection.newest_only && b.meta.format == BLK_FORMAT_COLUMNS &&
                      b.meta.kind == BLK_KIND_FLOAT &&
                      b.meta.t_max_ms <= list->selection.to_ms; /* as in fetch.c */
    ps_status status = head ? blk_reader_open_head(&src->alloc, data, &b.meta, &b.reader, err)
                            : blk_reader_open_lazy(&src->alloc, data, &b.meta, &b.reader, err);
    if (status == PS_OK)
        status = find_hits(src, list, b.reader, err);
    if (status != PS_OK || list->n_hits == hits) {
        list->n_hits = hits;
        drop_block(src, &b, bytes);
        return status == PS_ENOMEM ? read_no_memory(src, err)
                                   : read_damage(src, list, row, status, err);
    }
    list->blocks[list->n_blocks++] = b;
    return PS_OK;
}

static void
put_runs(read_list *list, size_t *at, bool floats)
{
    for (size_t i = 0; i < list->n_hits; i++) {
        const read_hit *h = &list->hits[i];
        const read_block *b = &list->blocks[h->block];
        if ((b->meta.kind == BLK_KIND_FLOAT) == floats)
            list->runs[at[h->series]++] = (blk_run){b->reader, h->index, b->id};
    }
}

/* Hits become runs, series by series, those of floats first. */
ps_status
read_blocks_finish(read_source *src, read_list *list, ps_err *err)
{
    size_t n = list->found.n;
    list->first_run = ps_arena_array(&src->arena, n + 2, sizeof(*list->first_run));
    list->runs = ps_arena_new(&src->arena, (list->n_hits + 1) * sizeof(*list->runs));
    if (list->first_run == NULL || list->runs == NULL)
        return read_no_memory(src, err);
    size_t *at = list->first_run + 1; /* while filling: where the next run of series i goes */
    for (size_t i = 0; i < list->n_hits; i++)
        at[list->hits[i].series + 1]++;
    for (size_t i = 1; i <= n; i++)
        at[i] += at[i - 1];
    put_runs(list, at, true);
    put_runs(list, at, false);
    ps_alloc_free(&src->alloc, list->hits, list->cap_hits * sizeof(*list->hits));
    list->hits = NULL;
    list->n_hits = list->cap_hits = 0;
    return PS_OK;
}

void
read_blocks_drop(read_source *src, read_list *list)
{
    for (size_t i = 0; i < list->n_blocks; i++) {
        read_block *b = &list->blocks[i];
        drop_block(src, b, b->res != NULL ? PQresultMemorySize(b->res) : 0);
        PQclear(b->res);
    }
    ps_alloc_free(&src->alloc, list->blocks, list->cap_blocks * sizeof(*list->blocks));
    ps_alloc_free(&src->alloc, list->hits, list->cap_hits * sizeof(*list->hits));
    list->blocks = NULL;
    list->hits = NULL;
    list->n_blocks = list->cap_blocks = list->n_hits = list->cap_hits = 0;
    list->runs = NULL;
    list->first_run = NULL;
    list->estimate = NULL;
}
