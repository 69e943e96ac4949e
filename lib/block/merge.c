/*
 * merge.c - folds many blocks of one metric into few, sorted by series and time.
 *
 * Each input has a cursor on its next series. One pass over all cursors serves the smallest id and
 * finds the next one: inputs mostly hold the same series, and then a pass costs less per input
 * than keeping a heap. When most cursors are looked at in vain, a heap takes over. Either way the
 * inputs of a series come by precedence. Their samples are decoded behind each other; usually that
 * is already in time order, otherwise the sorted runs are merged, stable, so that of equal times
 * the first input's comes first and stays. The result is cut at the given boundaries, each slot
 * between two cuts having a writer of its own.
 *
 * A sample is its time, 8 bytes of contents (a value, or where its histogram is, in an arena that
 * lives as long as the series) and, if some input has any, its start timestamp.
 *
 * Memory: the samples of one series (twice when runs must be merged) and one unfinished block per
 * slot.
 */
#include "lib/block/histograms.h"

typedef struct cursor { /* one input: its next series of the metric */
    int64_t series_id;
    uint32_t index, end; /* in the reader; index < end */
    uint32_t input;      /* precedence: lower wins */
} cursor;

typedef struct slot { /* an open output between two cuts */
    int64_t key;
    blk_writer *writer;
} slot;

typedef struct merge_state {
    const ps_alloc *alloc;
    blk_reader *const *inputs;
    const blk_merge_opts *opts;
    int64_t series_lo, series_hi; /* those of opts, or everything */
    blk_emit_fn emit;
    void *self;
    cursor *cursors; /* by input, later a heap */
    size_t n_cursors;
    int16_t kind;
    bool started;
    /* samples of the current series: times, contents, start timestamps; the second is for merging
     * runs */
    blk_scratch t[2], v[2], starts[2];
    ps_arena arena; /* histograms of the current series */
    size_t n;
    size_t *runs; /* starts of ascending runs; room for one per input and the end */
    size_t n_runs;
    slot *slots; /* by key */
    size_t n_slots, slots_cap;
    ps_buf out;
    blk_merge_stats stats;
} merge_state;

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

static void
cursors_open(merge_state *m, size_t n_inputs)
{
    const int32_t metric = m->opts->metric_id;

    for (size_t i = 0; i < n_inputs; i++) {
        const blk_reader *r = m->inputs[i];
        cursor c = {.input = (uint32_t)i};
        c.index = blk_reader_seek(r, metric, m->series_lo);
        if (m->series_hi < INT64_MAX)
            c.end = blk_reader_seek(r, metric, m->series_hi + 1);
        else
            c.end = metric < INT32_MAX ? blk_reader_seek(r, metric + 1, INT64_MIN)
                                       : blk_reader_n_series(r);
        if (c.index >= c.end)
            continue;
        c.series_id = series_id_at(r, c.index);
        m->cursors[m->n_cursors++] = c;
    }
}

/* False if the input has no further series. */
static bool
cursor_advance(const merge_state *m, cursor *c)
{
    if (++c->index >= c->end)
        return false;
    c->series_id = series_id_at(m->inputs[c->input], c->index);
    return true;
}

static bool
cursor_before(const cursor *a, const cursor *b)
{
    return a->series_id != b->series_id ? a->series_id < b->series_id : a->input < b->input;
}

static void
heap_sift(cursor *heap, size_t len, size_t i)
{
    cursor moving = heap[i];

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
heap_build(merge_state *m)
{
    for (size_t i = m->n_cursors / 2; i-- > 0;)
        heap_sift(m->cursors, m->n_cursors, i);
}

static void
heap_advance(merge_state *m)
{
    if (!cursor_advance(m, &m->cursors[0]))
        m->cursors[0] = m->cursors[--m->n_cursors];
    if (m->n_cursors > 0)
        heap_sift(m->cursors, m->n_cursors, 0);
}

/* ---- the samples of one series ------------------------------------------------------------- */

static bool
samples_reserve(merge_state *m, size_t more)
{
    const size_t need = m->n + more;
    blk_scratch *arrays[] = {&m->t[0], &m->v[0], &m->starts[0]};

    for (unsigned i = 0; i < (m->started ? 3 : 2); i++) {
        blk_scratch *s = arrays[i];
        if (need * 8 <= s->cap)
            continue;
        size_t cap = s->cap * 2 > need * 8 ? s->cap * 2 : need * 8;
        void *p = m->alloc->realloc(m->alloc->self, s->ptr, s->cap, cap);
        if (p == NULL)
            return false;
        *s = (blk_scratch){p, cap};
    }
    return true;
}

static ps_status
gathered(merge_state *m, size_t got)
{
    const int64_t *t = m->t[0].ptr;

    if (got == 0)
        return PS_OK;
    if (m->n == 0 || t[m->n] <= t[m->n - 1])
        m->runs[m->n_runs++] = m->n;
    m->n += got;
    m->stats.samples_in += got;
    return PS_OK;
}

/* A flush block's series lies decoded in memory. */
static ps_status
gather_flush(merge_state *m, blk_reader *r, uint32_t index, ps_err *err)
{
    const blk_flush_series *s = &r->fseries[index];

    if (PS_UNLIKELY(!r->groups[s->group].decoded))
        PS_TRY(blk_flush_group_decode(r, s->group, err));
    const int64_t *t = r->vec_times + r->vec_start[s->vec];
    size_t n = r->vec_start[s->vec + 1] - r->vec_start[s->vec], lo = 0;

    while (lo < n && t[lo] < m->opts->from_ms)
        lo++;
    while (n > lo && t[n - 1] >= m->opts->to_ms)
        n--;
    if (!samples_reserve(m, n - lo))
        return no_memory(err);
    for (size_t i = lo; i < n; i++)
        ((int64_t *)m->t[0].ptr)[m->n + i - lo] = t[i];
    if (m->started) {
        int64_t *starts = (int64_t *)m->starts[0].ptr + m->n;
        for (size_t i = lo; i < n; i++)
            starts[i - lo] = r->starts == NULL ? 0 : r->starts[s->first_value + i];
    }
    if (m->kind == BLK_KIND_HISTOGRAM) {
        const hst_hist **h = (const hst_hist **)m->v[0].ptr + m->n;
        PS_TRY(blk_flush_histograms_make(r, index, lo, n - lo, &m->arena, h, err));
        return gathered(m, n - lo);
    }
    const double *v = r->values + s->first_value;
    for (size_t i = lo; i < n; i++)
        ((double *)m->v[0].ptr)[m->n + i - lo] = v[i];
    return gathered(m, n - lo);
}

/* Decodes one input's samples of the current series behind those already there. */
static ps_status
gather_one(merge_state *m, const cursor *c, ps_err *err)
{
    blk_reader *r = m->inputs[c->input];
    const blk_merge_opts *o = m->opts;
    blk_series s;
    size_t lo, got;

    if (r->meta.format == BLK_FORMAT_FLUSH)
        return gather_flush(m, r, c->index, err);
    blk_reader_series(r, c->index, &s);
    if (s.t_last_ms < o->from_ms || s.t_first_ms >= o->to_ms)
        return PS_OK;
    if (!samples_reserve(m, s.n_samples))
        return no_memory(err);
    PS_TRY(blk_reader_times(r, c->index, o->from_ms, o->to_ms - 1, (int64_t *)m->t[0].ptr + m->n,
                            &lo, &got, err));
    if (m->started)
        PS_TRY(blk_bench_starts(&r->own, r, c->index, lo, got, (int64_t *)m->starts[0].ptr + m->n,
                                err));
    if (m->kind == BLK_KIND_HISTOGRAM)
        PS_TRY(blk_columns_histograms(r, &r->own, c->index, lo, got, &m->arena,
                                      (const hst_hist **)m->v[0].ptr + m->n, err));
    else
        PS_TRY(blk_reader_values(r, c->index, lo, got, (double *)m->v[0].ptr + m->n, err));
    return gathered(m, got);
}

/* Start timestamps follow the times, which say what goes where; hence they go first. */
static void
merge_two_starts(const int64_t *t, const int64_t *s, size_t a, size_t mid, size_t hi, int64_t *to)
{
    size_t b = mid, k = a;

    while (a < mid || b < hi)
        to[k++] = s[b == hi || (a < mid && t[a] <= t[b]) ? a++ : b++];
}

static void
merge_two(const int64_t *t, const double *v, size_t a, size_t mid, size_t hi, int64_t *to_t,
          double *to_v)
{
    size_t b = mid, k = a;

    while (a < mid && b < hi) {
        bool left = t[a] <= t[b];
        size_t i = left ? a++ : b++;
        to_t[k] = t[i];
        memcpy(&to_v[k++], &v[i], sizeof *v); /* it may be no double */
    }
    memcpy(to_t + k, t + a, (mid - a) * sizeof *t);
    memcpy(to_v + k, v + a, (mid - a) * sizeof *v);
    k += mid - a;
    memcpy(to_t + k, t + b, (hi - b) * sizeof *t);
    memcpy(to_v + k, v + b, (hi - b) * sizeof *v);
}

/* Merges the runs pairwise, neighbours with neighbours (which keeps precedence), until one is
 * left. */
static ps_status
merge_runs(merge_state *m, ps_err *err)
{
    if (blk_scratch_get(m->alloc, &m->t[1], m->n, 8) == NULL ||
        blk_scratch_get(m->alloc, &m->v[1], m->n, 8) == NULL ||
        (m->started && blk_scratch_get(m->alloc, &m->starts[1], m->n, 8) == NULL))
        return no_memory(err);
    while (m->n_runs > 1) {
        size_t n_out = 0;
        m->runs[m->n_runs] = m->n;
        for (size_t i = 0; i < m->n_runs; i += 2) {
            size_t lo = m->runs[i], mid = m->runs[i + 1],
                   hi = i + 1 < m->n_runs ? m->runs[i + 2] : mid;
            if (m->started)
                merge_two_starts(m->t[0].ptr, m->starts[0].ptr, lo, mid, hi, m->starts[1].ptr);
            merge_two(m->t[0].ptr, m->v[0].ptr, lo, mid, hi, m->t[1].ptr, m->v[1].ptr);
            m->runs[n_out++] = lo;
        }
        m->n_runs = n_out;
        blk_scratch t = m->t[0], v = m->v[0], starts = m->starts[0];
        m->t[0] = m->t[1];
        m->v[0] = m->v[1];
        m->starts[0] = m->starts[1];
        m->t[1] = t;
        m->v[1] = v;
        m->starts[1] = starts;
    }
    return PS_OK;
}

/* Are the contents of samples i and k the same? */
static bool
same_sample(const merge_state *m, size_t i, size_t k)
{
    if (m->kind == BLK_KIND_HISTOGRAM) {
        const hst_hist *const *h = m->v[0].ptr;
        return blk_same_histogram(h[i], h[k]);
    }
    return memcmp((double *)m->v[0].ptr + i, (double *)m->v[0].ptr + k, sizeof(double)) == 0;
}

/* The first of equal times stays. */
static void
drop_repeats(merge_state *m)
{
    int64_t *t = m->t[0].ptr, *starts = m->starts[0].ptr;
    double *v = m->v[0].ptr;
    size_t kept = 1;

    for (size_t i = 1; i < m->n; i++) {
        if (t[i] != t[kept - 1]) {
            t[kept] = t[i];
            if (m->started)
                starts[kept] = starts[i];
            memmove(&v[kept++], &v[i], sizeof *v);
        } else if (same_sample(m, i, kept - 1)) {
            m->stats.dups.duplicates++;
        } else {
            m->stats.dups.conflicts++;
        }
    }
    m->n = kept;
}

/* ---- output -------------------------------------------------------------------------------- */

static ps_status
finish_block(merge_state *m, blk_writer *w, ps_err *err)
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
slot_writer(merge_state *m, int64_t key)
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
        slot *p =
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
    m->slots[lo] = (slot){key, w};
    m->n_slots++;
    return w;
}

/* How many of the samples at..hi go into one block. */
static size_t
piece_len(const merge_state *m, size_t at, size_t hi)
{
    const size_t target = m->opts->target_samples;
    size_t n = target == 0 || target > MAX_PIECE ? MAX_PIECE : target, numbers = 0;

    n = hi - at < n ? hi - at : n;
    if (m->kind != BLK_KIND_HISTOGRAM)
        return n;
    const hst_hist *const *h = m->v[0].ptr;
    for (size_t i = 0; i < n; i++) {
        const hst_hist *p = h[at + i];
        numbers += 3 + (size_t)p->positive.n_counts + p->negative.n_counts + p->n_bounds;
        if (i > 0 && numbers > MAX_PIECE_NUMBERS)
            return i;
    }
    return n;
}

static ps_status
add_piece(const merge_state *m, blk_writer *w, int64_t series_id, size_t at, size_t n, ps_err *err)
{
    const int64_t *t = (int64_t *)m->t[0].ptr + at;
    const int64_t *starts = m->started ? (int64_t *)m->starts[0].ptr + at : NULL;

    if (m->kind == BLK_KIND_HISTOGRAM)
        return blk_writer_add_histograms(w, series_id, t, starts,
                                         (const hst_hist *const *)m->v[0].ptr + at, n, err);
    return blk_writer_add_started(w, series_id, t, starts, (double *)m->v[0].ptr + at, n, err);
}

/* Samples lo..hi of the current series, all of one slot. */
static ps_status
write_slot(merge_state *m, blk_writer *w, int64_t series_id, size_t lo, size_t hi, ps_err *err)
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

static ps_status
write_series(merge_state *m, int64_t series_id, ps_err *err)
{
    const int64_t *t = m->t[0].ptr;

    for (size_t lo = 0, hi; lo < m->n; lo = hi) {
        int64_t end;
        int64_t key = slot_key(m->opts, t[lo], &end);
        /* first sample not before `end`; mostly all of them are */
        hi = m->n;
        if (end != INT64_MAX && t[m->n - 1] >= end) {
            for (hi = lo + 1; hi < m->n && t[hi] < end;)
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
finish_series(merge_state *m, int64_t series_id, ps_err *err)
{
    if (m->n == 0)
        return PS_OK;
    if (m->n_runs > 1) {
        PS_TRY(merge_runs(m, err));
        drop_repeats(m);
    }
    return write_series(m, series_id, err);
}

static void
begin_series(merge_state *m)
{
    m->n = 0;
    m->n_runs = 0;
    ps_arena_reset(&m->arena);
}

/* One pass over all cursors: gathers series `id`, finds the smallest id behind it, drops exhausted
 * cursors. Returns the number of inputs that held the series in *ret_hits. */
static ps_status
pass_series(merge_state *m, int64_t id, int64_t *ret_next, size_t *ret_hits, ps_err *err)
{
    int64_t next = INT64_MAX;
    size_t kept = 0, hits = 0;

    begin_series(m);
    for (size_t i = 0; i < m->n_cursors; i++) {
        cursor *c = &m->cursors[i];
        if (c->series_id == id) {
            hits++;
            PS_TRY(gather_one(m, c, err));
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
heap_series(merge_state *m, ps_err *err)
{
    const int64_t series_id = m->cursors[0].series_id;

    begin_series(m);
    do {
        PS_TRY(gather_one(m, &m->cursors[0], err));
        heap_advance(m);
    } while (m->n_cursors > 0 && m->cursors[0].series_id == series_id);
    return finish_series(m, series_id, err);
}

static ps_status
merge_all(merge_state *m, size_t n_inputs, bool (*should_stop)(void *self), ps_err *err)
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
check_inputs(merge_state *m, size_t n_inputs, ps_err *err)
{
    m->kind = BLK_KIND_FLOAT;
    for (size_t i = 0; i < n_inputs; i++) {
        const blk_reader *r = m->inputs[i];
        if (r->meta.tenant_id != m->opts->tenant_id)
            return ps_fail(err, PS_EINVAL, "a block of another tenant cannot be merged");
        if (r->head_only)
            return ps_fail(err, PS_EINVAL, "a block opened without its body cannot be merged");
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
    merge_state m = {.alloc = alloc, .inputs = inputs, .opts = opts, .emit = emit, .self = self};
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
