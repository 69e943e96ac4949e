/*
 * merge_scatter.c - the merge of many flush blocks, each of which holds a sample or two of each series.
 *
 * Going from series to series, as merge.c does, costs a look at every input for every series. Here the
 * inputs are gone through one after the other, twice: first the samples of each series are counted,
 * then each sample is put where its series' samples lie in one large array. What stands there of a
 * series is in the order of the inputs, which is that of precedence, and nearly always in that of time.
 *
 *   ids        distinct series, in a hash table; its slots are numbered as they come
 *   slot_of    for each entry (a series in an input) its slot, so that the second pass looks up nothing
 *   order      slots by series id; a part of them whose samples fit at once is put and written, then the next
 *
 * Inputs mostly repeat the succession of series of some input before them: the next slot and the slot that
 * followed last time are tried before the table is asked. Most flush blocks hold one sample of each of their
 * series; loops of their own do nothing else for these.
 *
 * Memory: 4 bytes an entry, 40 to 60 a series, 16 a sample of a part.
 */
#include "lib/block/merge.h"

enum { NO_SLOT = 0xffffffff };
/* A part stays in the processor's cache: samples go to a different series each. */
#define PART_SAMPLES ((size_t)128 << 10)

typedef struct sample {
    int64_t t;
    double v;
} sample;

typedef struct slot {
    int64_t series_id;
    uint32_t samples; /* of all inputs; outside the window, too */
    uint32_t next;    /* slot that followed in an input */
    size_t at;        /* where its next sample goes, in the part that is made */
} slot;

typedef struct scatter {
    blk_merging *m;
    slot *slots;
    size_t n_slots, cap_slots;
    uint32_t *table; /* slot + 1, 0 = empty; at most half full */
    size_t table_size;
    uint32_t *slot_of; /* of all entries, input by input */
    size_t n_entries;
    size_t *entry;      /* by cursor: the entry of its next series */
    uint32_t *order[2]; /* slots by series id; the second is for sorting */
    sample *samples;    /* of a part, by series */
    size_t cap_part;
} scatter;

bool
blk_merge_scatters(const blk_merging *m)
{
    enum { MIN_INPUTS = 4 };
    size_t n_flush = 0;

    for (size_t i = 0; i < m->n_cursors; i++)
        n_flush += m->inputs[m->cursors[i].input]->meta.format == BLK_FORMAT_FLUSH;
    return m->kind == BLK_KIND_FLOAT && !m->started && n_flush >= MIN_INPUTS &&
           n_flush * 2 >= m->n_cursors;
}

static ps_status
no_memory(ps_err *err)
{
    return ps_fail(err, PS_ENOMEM, "out of memory");
}

/* ---- counting ------------------------------------------------------------------------------ */

static size_t
place_of(const scatter *s, int64_t series_id)
{
    return ((uint64_t)series_id * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (s->table_size - 1);
}

static bool
grow(scatter *s)
{
    const ps_alloc *alloc = s->m->alloc;
    const size_t cap = s->cap_slots == 0 ? 256 : s->cap_slots * 2, old = s->table_size;
    slot *slots =
        alloc->realloc(alloc->self, s->slots, s->cap_slots * sizeof *slots, cap * sizeof *slots);

    if (slots == NULL)
        return false;
    s->slots = slots;
    s->cap_slots = cap;
    uint32_t *table = ps_alloc_array(alloc, cap * 2, sizeof *table);
    if (table == NULL)
        return false;
    ps_alloc_free(alloc, s->table, old * sizeof *table);
    s->table = table;
    s->table_size = cap * 2;
    for (size_t i = 0; i < s->n_slots; i++) {
        size_t at = place_of(s, slots[i].series_id);
        while (table[at] != 0)
            at = (at + 1) & (s->table_size - 1);
        table[at] = (uint32_t)i + 1;
    }
    return true;
}

/* The slot of a series, a new one if there is none yet; NO_SLOT: no memory. */
static uint32_t
find_slot(scatter *s, int64_t series_id)
{
    if (s->n_slots == s->cap_slots && !grow(s))
        return NO_SLOT;
    size_t at = place_of(s, series_id);
    for (; s->table[at] != 0; at = (at + 1) & (s->table_size - 1)) {
        if (s->slots[s->table[at] - 1].series_id == series_id)
            return s->table[at] - 1;
    }
    s->slots[s->n_slots] = (slot){.series_id = series_id, .next = NO_SLOT};
    s->table[at] = (uint32_t)++s->n_slots;
    return (uint32_t)s->n_slots - 1;
}

static inline int64_t
id_at(const blk_reader *r, uint32_t i)
{
    return r->meta.format == BLK_FORMAT_COLUMNS ? r->cseries[i].series_id : r->fseries[i].series_id;
}

static inline uint32_t
samples_at(const blk_reader *r, uint32_t i)
{
    if (r->meta.format == BLK_FORMAT_COLUMNS)
        return r->tcols[r->cseries[i].tcol].n;
    const uint32_t *start = r->vec_start + r->fseries[i].vec;
    return start[1] - start[0];
}

/* A flush block of one sample a series: sample i is that of series i. */
static inline bool
is_single(const blk_reader *r)
{
    return r->meta.format == BLK_FORMAT_FLUSH && r->meta.n_samples == r->meta.n_series;
}

/* The slot of a series that is not the one behind `before`. */
static uint32_t
slot_after(scatter *s, uint32_t before, int64_t series_id)
{
    uint32_t k = before == NO_SLOT ? NO_SLOT : s->slots[before].next;

    if (k != NO_SLOT && s->slots[k].series_id == series_id)
        return k;
    k = find_slot(s, series_id);
    if (k != NO_SLOT && before != NO_SLOT)
        s->slots[before].next = k;
    return k;
}

static ps_status
count_input(scatter *s, const blk_cursor *c, size_t entry, ps_err *err)
{
    const blk_reader *r = s->m->inputs[c->input];
    const bool single = is_single(r);
    uint32_t k = NO_SLOT;

    for (uint32_t i = c->index; i < c->end; i++) {
        const int64_t id = single ? r->fseries[i].series_id : id_at(r, i);
        const uint32_t behind = k + 1; /* 0 behind NO_SLOT: known without waiting for memory */

        if (behind < s->n_slots && s->slots[behind].series_id == id)
            k = behind;
        else
            k = slot_after(s, k, id);
        if (k == NO_SLOT)
            return no_memory(err);
        const uint32_t n = single ? 1 : samples_at(r, i);
        if (__builtin_add_overflow(s->slots[k].samples, n, &s->slots[k].samples))
            return ps_fail(err, PS_ELIMIT, "too many samples of one series");
        s->slot_of[entry++] = k;
    }
    return PS_OK;
}

static ps_status
count_all(scatter *s, ps_err *err)
{
    const blk_merging *m = s->m;

    for (size_t i = 0; i < m->n_cursors; i++)
        s->n_entries += m->cursors[i].end - m->cursors[i].index;
    if (s->n_entries >= NO_SLOT)
        return ps_fail(err, PS_ELIMIT, "too many series in the blocks of one merge");
    s->slot_of = ps_alloc_new(m->alloc, s->n_entries * sizeof *s->slot_of);
    s->entry = ps_alloc_array(m->alloc, m->n_cursors, sizeof *s->entry);
    if (s->slot_of == NULL || s->entry == NULL)
        return no_memory(err);
    size_t entry = 0;
    for (size_t i = 0; i < m->n_cursors; i++) {
        const blk_cursor *c = &m->cursors[i];
        s->entry[i] = entry;
        PS_TRY(count_input(s, c, entry, err));
        entry += c->end - c->index;
    }
    return PS_OK;
}

/* ---- order --------------------------------------------------------------------------------- */

/* By 8 bits of the distance to the lowest id at a time, as many times as the highest needs. */
static ps_status
sort_slots(scatter *s, ps_err *err)
{
    const size_t n = s->n_slots;
    int64_t lo = INT64_MAX, hi = INT64_MIN;

    for (unsigned i = 0; i < 2; i++) {
        s->order[i] = ps_alloc_new(s->m->alloc, n * sizeof *s->order[i]);
        if (s->order[i] == NULL)
            return no_memory(err);
    }
    for (size_t i = 0; i < n; i++) {
        const int64_t id = s->slots[i].series_id;
        lo = id < lo ? id : lo;
        hi = id > hi ? id : hi;
        s->order[0][i] = (uint32_t)i;
    }
    const unsigned bits = blk_bit_length((uint64_t)hi - (uint64_t)lo);
    for (unsigned shift = 0; shift < bits; shift += 8) {
        size_t count[257] = {0};
        uint32_t *from = s->order[0], *to = s->order[1];

#define DIGIT(k) ((((uint64_t)s->slots[k].series_id - (uint64_t)lo) >> shift) & 255)
        for (size_t i = 0; i < n; i++)
            count[DIGIT(from[i]) + 1]++;
        for (unsigned d = 1; d < 257; d++)
            count[d] += count[d - 1];
        for (size_t i = 0; i < n; i++)
            to[count[DIGIT(from[i])]++] = from[i];
#undef DIGIT
        s->order[0] = to;
        s->order[1] = from;
    }
    return PS_OK;
}

/* ---- putting ------------------------------------------------------------------------------- */

/* A series of a flush block. Its group is decoded. */
static inline void
put_flush(const scatter *s, const blk_reader *r, uint32_t i, slot *k, bool whole)
{
    const blk_flush_series *f = &r->fseries[i];
    const uint32_t lo = r->vec_start[f->vec], n = r->vec_start[f->vec + 1] - lo;
    const int64_t from = s->m->opts->from_ms, to = s->m->opts->to_ms;

    for (uint32_t j = 0; j < n; j++) {
        const int64_t t = r->vec_times[lo + j];
        if (!whole && (t < from || t >= to))
            continue;
        s->samples[k->at++] = (sample){t, r->values[f->first_value + j]};
    }
}

static ps_status
put_columns(const scatter *s, blk_reader *r, uint32_t i, slot *k, ps_err *err)
{
    blk_merging *m = s->m;
    const uint32_t n = samples_at(r, i);
    int64_t *t = blk_scratch_get(m->alloc, &m->t[0], n, sizeof *t);
    double *v = blk_scratch_get(m->alloc, &m->v[0], n, sizeof *v);
    size_t lo, got;

    if (t == NULL || v == NULL)
        return no_memory(err);
    PS_TRY(blk_reader_times(r, i, m->opts->from_ms, m->opts->to_ms - 1, t, &lo, &got, err));
    PS_TRY(blk_reader_values(r, i, lo, got, v, err));
    for (size_t j = 0; j < got; j++)
        s->samples[k->at++] = (sample){t[j], v[j]};
    return PS_OK;
}

/* Each entry is about another series, hence about memory far from that of the one before. */
static inline void
look_ahead(const scatter *s, size_t entry, size_t end)
{
    enum { NEAR = 6, FAR = 12 };

    if (entry + FAR >= end)
        return;
    __builtin_prefetch(&s->slots[s->slot_of[entry + FAR]], 1);
    const size_t at = s->slots[s->slot_of[entry + NEAR]].at;
    if (at < s->cap_part)
        __builtin_prefetch(&s->samples[at], 1);
}

/* What put_input does, of an input whose series have a sample each, all of them in the window. */
static void
put_singles(const scatter *s, blk_cursor *c, size_t *entry, int64_t last_id)
{
    const blk_reader *r = s->m->inputs[c->input];
    const uint32_t *slot_of = s->slot_of, *vec_start = r->vec_start;
    const blk_flush_series *series = r->fseries;
    const int64_t *times = r->vec_times;
    const double *values = r->values;
    sample *samples = s->samples;
    slot *slots = s->slots;
    const size_t shift = *entry - c->index, end = *entry + (c->end - c->index);
    uint32_t i = c->index;

    for (; i < c->end; i++) {
        slot *k = &slots[slot_of[shift + i]];
        look_ahead(s, shift + i, end);
        if (k->series_id > last_id)
            break;
        samples[k->at++] = (sample){times[vec_start[series[i].vec]], values[i]};
    }
    *entry = shift + i;
    c->index = i;
}

/* What an input holds of the series up to last_id, which is all of a part that is left of it. */
static ps_status
put_input(scatter *s, size_t cursor, int64_t last_id, ps_err *err)
{
    blk_cursor *c = &s->m->cursors[cursor];
    blk_reader *r = s->m->inputs[c->input];
    const blk_merge_opts *o = s->m->opts;
    const bool flush = r->meta.format == BLK_FORMAT_FLUSH,
               whole = r->meta.t_min_ms >= o->from_ms && r->meta.t_max_ms < o->to_ms;
    size_t entry = s->entry[cursor];

    if (flush && c->index < c->end)
        PS_TRY(blk_flush_group_decode(r, r->fseries[c->index].group, err));
    if (whole && is_single(r)) {
        put_singles(s, c, &s->entry[cursor], last_id);
        return PS_OK;
    }
    const size_t end = entry + (c->end - c->index);
    for (; c->index < c->end; c->index++, entry++) {
        slot *k = &s->slots[s->slot_of[entry]];
        look_ahead(s, entry, end);
        if (k->series_id > last_id)
            break;
        if (flush)
            put_flush(s, r, c->index, k, whole);
        else
            PS_TRY(put_columns(s, r, c->index, k, err));
    }
    s->entry[cursor] = entry;
    return PS_OK;
}

/* ---- writing ------------------------------------------------------------------------------- */

/* One series: nearly always its samples ascend in time as they are. */
static ps_status
write_slot(blk_merging *m, int64_t series_id, const sample *from, size_t n, ps_err *err)
{
    int64_t *t = blk_scratch_get(m->alloc, &m->t[0], n, sizeof *t);
    double *v = blk_scratch_get(m->alloc, &m->v[0], n, sizeof *v);

    if (t == NULL || v == NULL)
        return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        t[i] = from[i].t;
        v[i] = from[i].v;
    }
    m->stats.samples_in += n;
    m->n = n;
    m->n_runs = 0;
    /* what an input brought ascends, so there are no more runs than inputs */
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || t[i] <= t[i - 1])
            m->runs[m->n_runs++] = i;
    }
    if (n == 0)
        return PS_OK;
    if (m->n_runs > 1)
        PS_TRY(blk_merge_sort(m, err));
    return blk_merge_write(m, series_id, m->t[0].ptr, m->v[0].ptr, m->n, err);
}

/* Slots order[a..b): n samples together. */
static ps_status
write_part(scatter *s, size_t a, size_t b, size_t n, bool (*should_stop)(void *self), ps_err *err)
{
    blk_merging *m = s->m;
    size_t at = 0;

    if (n > s->cap_part) {
        ps_alloc_free(m->alloc, s->samples, s->cap_part * sizeof *s->samples);
        s->cap_part = n;
        s->samples = ps_alloc_new(m->alloc, n * sizeof *s->samples);
        if (s->samples == NULL)
            return no_memory(err);
    }
    for (size_t i = a; i < b; i++) {
        slot *k = &s->slots[s->order[0][i]];
        k->at = at;
        at += k->samples;
    }
    for (size_t i = 0; i < m->n_cursors; i++) {
        if (should_stop != NULL && should_stop(m->self))
            return ps_fail(err, PS_ECANCELED, "canceled");
        PS_TRY(put_input(s, i, s->slots[s->order[0][b - 1]].series_id, err));
    }
    at = 0;
    for (size_t i = a; i < b; i++) {
        const slot *k = &s->slots[s->order[0][i]];
        if (should_stop != NULL && should_stop(m->self))
            return ps_fail(err, PS_ECANCELED, "canceled");
        PS_TRY(write_slot(m, k->series_id, s->samples + at, k->at - at, err));
        at += k->samples;
    }
    return PS_OK;
}

static ps_status
write_parts(scatter *s, bool (*should_stop)(void *self), ps_err *err)
{
    const size_t most = s->m->opts->at_once > 0 ? s->m->opts->at_once : PART_SAMPLES;

    for (size_t a = 0, b; a < s->n_slots; a = b) {
        size_t n = s->slots[s->order[0][a]].samples;
        for (b = a + 1; b < s->n_slots && n + s->slots[s->order[0][b]].samples <= most; b++)
            n += s->slots[s->order[0][b]].samples;
        PS_TRY(write_part(s, a, b, n, should_stop, err));
    }
    return PS_OK;
}

ps_status
blk_merge_scatter(blk_merging *m, bool (*should_stop)(void *self), ps_err *err)
{
    scatter s = {.m = m};
    ps_status status = count_all(&s, err);

    if (status == PS_OK)
        status = sort_slots(&s, err);
    if (status == PS_OK)
        status = write_parts(&s, should_stop, err);
    for (unsigned i = 0; i < 2; i++)
        ps_alloc_free(m->alloc, s.order[i], s.n_slots * sizeof *s.order[i]);
    ps_alloc_free(m->alloc, s.slots, s.cap_slots * sizeof *s.slots);
    ps_alloc_free(m->alloc, s.table, s.table_size * sizeof *s.table);
    ps_alloc_free(m->alloc, s.slot_of, s.n_entries * sizeof *s.slot_of);
    ps_alloc_free(m->alloc, s.entry, m->n_cursors * sizeof *s.entry);
    ps_alloc_free(m->alloc, s.samples, s.cap_part * sizeof *s.samples);
    return status;
}
