/*
 * merge.c - folds many blocks of one metric into few, sorted by series and time.
 *
 * Each input has a cursor on its next series. One pass over all cursors serves the smallest id and
 * finds the next one: inputs mostly hold the same series, and then a pass costs less per input
 * than keeping a heap. When most cursors are looked at in vain, a heap takes over. Either way the
 * inputs of a series come by precedence. (Where most inputs are flush blocks, merge_scatter.c goes
 * through them another way.) Their samples are decoded behind each other; usually that
 * is already in time order, otherwise the sorted runs are merged, stable, so that of equal times
 * the first input's comes first and stays. The result is cut at the given boundaries, each slot
 * between two cuts having a writer of its own.
 *
 * Memory: the samples of one series (twice when runs must be merged) and one unfinished block per
 * slot.
 */
#include "lib/block/merge.h"

/* Longest piece of one series that goes into one block: samples, and of histograms also numbers that
 * are not empty. What a writer makes of so many is within its limits. */
#define MAX_PIECE ((size_t)1 << 20)
#define MAX_PIECE_NUMBERS ((size_t)1 << 20)
_Static_assert(MAX_PIECE_NUMBERS * 7 < BLK_SERIES_MAX_NUMBERS, "see columns_histograms_write.c");

static ps_status
no_memory(ps_err *err)
{
    return ps_fail(err, PS_ENOMEM, "out of memory");
}

/* ---- cursors ------------------------------------------------------------------------------- */

static int64_t
series_id_at(const blk_reader *r, uint32_t i)
{
    return r->meta.format == BLK_FORMAT_COLUMNS ? r->cseries[i].series_id : r->fseries[i].series_id;
}

/* Where the metric's series begin and end. */
static void
seek_part(const blk_merging *m, const blk_reader *r, blk_cursor *c)
{
    const int32_t metric = m->opts->metric_id;

    c->index = blk_reader_seek(r, metric, m->series_lo);
    if (m->series_hi < INT64_MAX)
        c->end = blk_reader_seek(r, metric, m->series_hi + 1);
    else
        c->end = metric < INT32_MAX ? blk_reader_seek(r, metric + 1, INT64_MIN)
                                    : blk_reader_n_series(r);
}

static void
cursors_open(blk_merging *m, size_t n_inputs)
{
    for (size_t i = 0; i < n_inputs; i++) {
        const blk_reader *r = m->inputs[i];
        blk_cursor c = {.input = (uint32_t)i};
        if (m->opts->parts != NULL) {
            c.index = m->opts->parts[i].first;
            c.end = m->opts->parts[i].end;
        } else {
            seek_part(m, r, &c);
        }
        if (c.index >= c.end)
            continue;
        c.series_id = series_id_at(r, c.index);
        m->cursors[m->n_cursors++] = c;
    }
}

/* False if the input has no further series. */
static bool
cursor_advance(const blk_merging *m, blk_cursor *c)
{
    if (++c->index >= c->end)
        return false;
    c->series_id = series_id_at(m->inputs[c->input], c->index);
    return true;
}

static bool
cursor_before(const blk_cursor *a, const blk_cursor *b)
{
    return a->series_id != b->series_id ? a->series_id < b->series_id : a->input < b->input;
}

static void
heap_sift(blk_cursor *heap, size_t len, size_t i)
{
    blk_cursor moving = heap[i];

    for (size_t child; (child = 2 * i + 1) < len; i = child) {
        if (child + 1 < len && cursor_before(&heap[child + 1], &heap[child]))
            child++;
        if (!cursor_before(&heap[child], &moving))
            break;
        heap[i] = heap[child];
    }
    heap[i] = moving;
}

static void
heap_build(blk_merging *m)
{
    for (size_t i = m->n_cursors / 2; i-- > 0;)
        heap_sift(m->cursors, m->n_cursors, i);
}

static void
heap_advance(blk_merging *m)
{
    if (!cursor_advance(m, &m->cursors[0]))
        m->cursors[0] = m->cursors[--m->n_cursors];
    if (m->n_cursors > 0)
        heap_sift(m->cursors, m->n_cursors, 0);
}

/* ---- output -------------------------------------------------------------------------------- */

static ps_status
finish_block(blk_merging *m, blk_writer *w, ps_err *err)
{
    blk_meta meta;

    if (blk_writer_samples(w) == 0)
        return PS_OK;
    ps_buf_clear(&m->out);
    PS_TRY(blk_writer_finish(w, &m->out, &meta, err));
    m->stats.blocks_out++;
    m->stats.samples_out += (uint64_t)meta.n_samples;
    return m->emit(m->self, ps_buf_str(&m->out), &meta, err);
}

/* Key of the slot that holds t, and the first time behind it (INT64_MAX: there is none). */
static int64_t
slot_key(const blk_merge_opts *o, int64_t t, int64_t *ret_end)
{
    *ret_end = INT64_MAX;
    if (o->cut_ms <= 0)
        return 0;
    if (t >= o->cut_hi_ms)
        return INT64_MAX;
    if (t < o->cut_lo_ms) {
        *ret_end = o->cut_lo_ms;
        return INT64_MIN;
    }
    int64_t key = t / o->cut_ms - (t % o->cut_ms < 0);
    if (!__builtin_mul_overflow(key + 1, o->cut_ms, ret_end) && *ret_end < o->cut_hi_ms)
        return key;
    *ret_end = o->cut_hi_ms;
    return key;
}

static blk_writer *
slot_writer(blk_merging *m, int64_t key)
{
    size_t lo = 0, hi = m->n_slots;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (m->slots[mid].key < key)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < m->n_slots && m->slots[lo].key == key)
        return m->slots[lo].writer;
    if (m->n_slots == m->slots_cap) {
        size_t cap = m->slots_cap == 0 ? 8 : m->slots_cap * 2;
        blk_slot *p =
            m->alloc->realloc(m->alloc->self, m->slots, m->slots_cap * sizeof *p, cap * sizeof *p);
        if (p == NULL)
            return NULL;
        m->slots = p;
        m->slots_cap = cap;
    }
    blk_writer_opts opts = {m->opts->tenant_id, m->opts->metric_id, m->opts->out_level, m->kind};
    blk_writer *w = blk_writer_new(m->alloc, &opts);
    if (w == NULL)
        return NULL;
    memmove(m->slots + lo + 1, m->slots + lo, (m->n_slots - lo) * sizeof *m->slots);
    m->slots[lo] = (blk_slot){key, w};
    m->n_slots++;
    return w;
}

/* How many of the samples at..hi go into one block. */
static size_t
piece_len(const blk_merging *m, size_t at, size_t hi)
{
    const size_t target = m->opts->target_samples;
    size_t n = target == 0 || target > MAX_PIECE ? MAX_PIECE : target, numbers = 0;

    n = hi - at < n ? hi - at : n;
    if (m->kind != BLK_KIND_HISTOGRAM)
        return n;
    const hst_hist *const *h = m->series_v;
    for (size_t i = 0; i < n; i++) {
        const hst_hist *p = h[at + i];
        numbers += 3 + (size_t)p->positive.n_counts + p->negative.n_counts + p->n_bounds;
        if (i > 0 && numbers > MAX_PIECE_NUMBERS)
            return i;
    }
    return n;
}

static ps_status
add_piece(const blk_merging *m, blk_writer *w, int64_t series_id, size_t at, size_t n, ps_err *err)
{
    const int64_t *t = m->series_t + at;
    const int64_t *starts = m->started ? (int64_t *)m->starts[0].ptr + at : NULL;

    if (m->kind == BLK_KIND_HISTOGRAM)
        return blk_writer_add_histograms(w, series_id, t, starts,
                                         (const hst_hist *const *)m->series_v + at, n, err);
    return blk_writer_add_started(w, series_id, t, starts, (const double *)m->series_v + at, n,
                                  err);
}

/* Samples lo..hi of the current series, all of one slot. */
static ps_status
write_slot(blk_merging *m, blk_writer *w, int64_t series_id, size_t lo, size_t hi, ps_err *err)
{
    const blk_merge_opts *o = m->opts;

    for (size_t at = lo, n; at < hi; at += n) {
        n = piece_len(m, at, hi);
        /* a block holds a series once */
        if (at > lo)
            PS_TRY(finish_block(m, w, err));
        ps_status status = add_piece(m, w, series_id, at, n, err);
        if (status == PS_ELIMIT && blk_writer_samples(w) > 0) {
            PS_TRY(finish_block(m, w, err));
            status = add_piece(m, w, series_id, at, n, err);
        }
        if (status != PS_OK)
            return status;
        if ((o->target_bytes > 0 && blk_writer_bytes(w) >= o->target_bytes) ||
            (o->target_samples > 0 && blk_writer_samples(w) >= o->target_samples))
            PS_TRY(finish_block(m, w, err));
    }
    return PS_OK;
}

ps_status
blk_merge_write(blk_merging *m, int64_t series_id, const int64_t *t, const void *v, size_t n,
                ps_err *err)
{
    m->series_t = t;
    m->series_v = v;
    if (m->opts->on_series != NULL)
        m->opts->on_series(m->self, series_id, t, n);
    for (size_t lo = 0, hi; lo < n; lo = hi) {
        int64_t end;
        int64_t key = slot_key(m->opts, t[lo], &end);
        /* first sample not before `end`; mostly all of them are */
        hi = n;
        if (end != INT64_MAX && t[n - 1] >= end) {
            for (hi = lo + 1; hi < n && t[hi] < end;)
                hi++;
        }
        blk_writer *w = slot_writer(m, key);
        if (w == NULL)
            return no_memory(err);
        PS_TRY(write_slot(m, w, series_id, lo, hi, err));
    }
    return PS_OK;
}

/* ---- the whole ----------------------------------------------------------------------------- */

/* Sorts out what was gathered for one series and writes it. */
static ps_status
finish_series(blk_merging *m, int64_t series_id, ps_err *err)
{
    if (m->n == 0)
        return PS_OK;
    if (m->n_runs > 1)
        PS_TRY(blk_merge_sort(m, err));
    return blk_merge_write(m, series_id, m->t[0].ptr, m->v[0].ptr, m->n, err);
}

static void
begin_series(blk_merging *m)
{
    m->n = 0;
    m->n_runs = 0;
    ps_arena_reset(&m->arena);
}

/* One pass over all cursors: gathers series `id`, finds the smallest id behind it, drops exhausted
 * cursors. Returns the number of inputs that held the series in *ret_hits. */
static ps_status
pass_series(blk_merging *m, int64_t id, int64_t *ret_next, size_t *ret_hits, ps_err *err)
{
    int64_t next = INT64_MAX;
    size_t kept = 0, hits = 0;

    begin_series(m);
    for (size_t i = 0; i < m->n_cursors; i++) {
        blk_cursor *c = &m->cursors[i];
        if (c->series_id == id) {
            hits++;
            PS_TRY(blk_merge_gather(m, c, err));
            if (!cursor_advance(m, c))
                continue;
        }
        next = c->series_id < next ? c->series_id : next;
        if (kept != i)
            m->cursors[kept] = *c;
        kept++;
    }
    m->n_cursors = kept;
    *ret_next = next;
    *ret_hits = hits;
    return finish_series(m, id, err);
}

static ps_status
heap_series(blk_merging *m, ps_err *err)
{
    const int64_t series_id = m->cursors[0].series_id;

    begin_series(m);
    do {
        PS_TRY(blk_merge_gather(m, &m->cursors[0], err));
        heap_advance(m);
    } while (m->n_cursors > 0 && m->cursors[0].series_id == series_id);
    return finish_series(m, series_id, err);
}

static ps_status
merge_all(blk_merging *m, size_t n_inputs, bool (*should_stop)(void *self), ps_err *err)
{
    enum { MISSES_PER_HIT = 48, SLACK = 4096 }; /* above this a heap is cheaper */
    size_t looked = 0, hits = 0, found = 0;
    int64_t next = INT64_MAX;
    bool heap = false;

    m->cursors = ps_alloc_array(m->alloc, n_inputs, sizeof *m->cursors);
    m->runs = ps_alloc_array(m->alloc, n_inputs + 1, sizeof *m->runs);
    if (m->cursors == NULL || m->runs == NULL)
        return no_memory(err);
    cursors_open(m, n_inputs);
    if (blk_merge_scatters(m)) {
        PS_TRY(blk_merge_scatter(m, should_stop, err));
        m->n_cursors = 0;
    }
    for (size_t i = 0; i < m->n_cursors; i++)
        next = m->cursors[i].series_id < next ? m->cursors[i].series_id : next;
    while (m->n_cursors > 0) {
        if (should_stop != NULL && should_stop(m->self))
            return ps_fail(err, PS_ECANCELED, "canceled");
        if (heap) {
            PS_TRY(heap_series(m, err));
            continue;
        }
        looked += m->n_cursors;
        PS_TRY(pass_series(m, next, &next, &found, err));
        hits += found;
        if (looked > hits * MISSES_PER_HIT + SLACK) {
            heap = true;
            heap_build(m);
        }
    }
    for (size_t i = 0; i < m->n_slots; i++)
        PS_TRY(finish_block(m, m->slots[i].writer, err));
    return PS_OK;
}

static ps_status
check_inputs(blk_merging *m, size_t n_inputs, ps_err *err)
{
    m->kind = BLK_KIND_FLOAT;
    for (size_t i = 0; i < n_inputs; i++) {
        const blk_reader *r = m->inputs[i];
        if (r->meta.tenant_id != m->opts->tenant_id)
            return ps_fail(err, PS_EINVAL, "a block of another tenant cannot be merged");
        if (r->head_only)
            return ps_fail(err, PS_EINVAL, "a block opened without its body cannot be merged");
        const blk_part *part = m->opts->parts == NULL ? NULL : &m->opts->parts[i];
        if (part != NULL && (part->first > part->end || part->end > r->n_series ||
                             m->opts->series_lo != 0 || m->opts->series_hi != 0))
            return ps_fail(err, PS_EINVAL, "a part of a block that it does not have");
        if (i > 0 && r->meta.kind != m->kind)
            return ps_fail(err, PS_EINVAL, "floats cannot be merged with histograms");
        m->kind = r->meta.kind;
        m->started |= r->started;
    }
    return PS_OK;
}

ps_status
blk_merge(const ps_alloc *alloc, blk_reader *const *inputs, size_t n_inputs,
          const blk_merge_opts *opts, blk_emit_fn emit, void *self, bool (*should_stop)(void *self),
          blk_merge_stats *ret_stats, ps_err *err)
{
    blk_merging m = {.alloc = alloc, .inputs = inputs, .opts = opts, .emit = emit, .self = self};
    const bool all = opts->series_lo == 0 && opts->series_hi == 0;
    ps_status status = PS_OK;

    m.series_lo = all ? INT64_MIN : opts->series_lo;
    m.series_hi = all ? INT64_MAX : opts->series_hi;
    PS_TRY(check_inputs(&m, n_inputs, err));
    ps_buf_init(&m.out, alloc);
    ps_arena_init(&m.arena, alloc, 0);
    if (n_inputs > 0 && opts->from_ms < opts->to_ms)
        status = merge_all(&m, n_inputs, should_stop, err);
    for (size_t i = 0; i < m.n_slots; i++)
        blk_writer_free(m.slots[i].writer);
    ps_alloc_free(alloc, m.slots, m.slots_cap * sizeof *m.slots);
    ps_alloc_free(alloc, m.cursors, n_inputs * sizeof *m.cursors);
    ps_alloc_free(alloc, m.runs, (n_inputs + 1) * sizeof *m.runs);
    for (unsigned i = 0; i < 2; i++) {
        blk_scratch_done(alloc, &m.t[i]);
        blk_scratch_done(alloc, &m.v[i]);
        blk_scratch_done(alloc, &m.starts[i]);
    }
    ps_buf_done(&m.out);
    ps_arena_done(&m.arena);
    if (status == PS_OK)
        *ret_stats = m.stats;
    return status;
}
