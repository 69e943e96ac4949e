/*
 * columns_write.c - writes merged and sealed blocks, one series after the other.
 *
 * Each series is encoded when it is added; four buffers grow side by side (directory of time
 * columns, directory of series, payloads of both) and are joined when the block is finished: all
 * of the head first, then all payloads. Time columns are looked up by hash and compared whole; the
 * column of the series before is tried first, since the series of one target usually follow each
 * other.
 *
 * A series that stays as it is can be taken from a block that is open: its entry says nothing but what
 * it says itself, unless it is relative to the one before, which then has to come from there, too.
 *
 * The writer owns its buffers; series arrays are read during the call only. One thread at a time.
 */
#include "lib/block/histograms.h"

typedef struct known_times { /* a time column as it was given, for comparing */
    uint64_t hash;
    size_t at; /* byte offset in times */
    size_t n;
} known_times;

struct blk_writer {
    ps_alloc alloc;
    blk_writer_opts opts;
    blk_meta meta; /* grows with each series */
    ps_buf tcol_head, tcol_body, series_head, series_body;
    ps_buf starts_head, starts_body; /* empty until a start timestamp is known */
    ps_buf payload;                  /* of a series' histograms while it is being made */
    blk_starts_chain starts_chain;
    blk_intern layouts;
    blk_tcol prev_tcol;
    uint32_t prev_tref; /* of the series before */
    ps_buf times;       /* int64_t of all columns */
    ps_buf known;       /* known_times */
    uint32_t n_tcols;
    uint32_t *table; /* open addressing: index + 1, 0 = empty; at most half full */
    size_t table_size;
    const blk_reader *copied_of; /* where the series before was taken from; NULL: it was encoded */
    uint32_t copied;             /* its index there */
    blk_codec_scratch scratch;
};

/* What one sample can take at most, time and value in the worst codec, with frame headers; and its
 * start timestamp. */
enum { WORST_SAMPLE_BYTES = 20, WORST_START_BYTES = 10, WORST_SERIES_BYTES = 256 };

enum { N_BUFS = 9 };

static ps_status
no_memory(ps_err *err)
{
    return ps_fail(err, PS_ENOMEM, "out of memory");
}

static ps_buf *
buf_at(blk_writer *w, size_t i)
{
    ps_buf *bufs[N_BUFS] = {&w->tcol_head,   &w->tcol_body,   &w->series_head,
                            &w->series_body, &w->starts_head, &w->starts_body,
                            &w->payload,     &w->times,       &w->known};
    return bufs[i];
}

blk_writer *
blk_writer_new(const ps_alloc *alloc, const blk_writer_opts *opts)
{
    blk_writer *w = ps_alloc_new(alloc, sizeof *w);

    if (w == NULL)
        return NULL;
    memset(w, 0, sizeof *w);
    w->alloc = *alloc;
    w->opts = *opts;
    w->opts.kind = opts->kind == 0 ? BLK_KIND_FLOAT : opts->kind;
    for (size_t i = 0; i < N_BUFS; i++)
        ps_buf_init(buf_at(w, i), alloc);
    blk_intern_init(&w->layouts, alloc);
    blk_codec_scratch_init(&w->scratch, alloc);
    w->scratch.relative = w->opts.kind == BLK_KIND_FLOAT;
    return w;
}

void
blk_writer_free(blk_writer *w)
{
    if (w == NULL)
        return;
    for (size_t i = 0; i < N_BUFS; i++)
        ps_buf_done(buf_at(w, i));
    blk_intern_done(&w->layouts);
    ps_alloc alloc = w->alloc;
    blk_codec_scratch_done(&w->scratch, &alloc);
    ps_alloc_free(&alloc, w->table, w->table_size * sizeof *w->table);
    ps_alloc_free(&alloc, w, sizeof *w);
}

size_t
blk_writer_samples(const blk_writer *w)
{
    return (size_t)w->meta.n_samples;
}

size_t
blk_writer_bytes(const blk_writer *w)
{
    enum { HEADER = 60 };

    if (w->meta.n_series == 0)
        return 0;
    return HEADER + w->tcol_head.len + w->tcol_body.len + w->series_head.len + w->series_body.len +
           w->starts_head.len + w->starts_body.len + w->layouts.bytes.len;
}

/* ---- time columns -------------------------------------------------------------------------- */

static known_times *
known_at(const blk_writer *w, uint32_t i)
{
    return (known_times *)(void *)w->known.ptr + i;
}

static bool
same_times(const blk_writer *w, uint32_t i, const int64_t *t, size_t n)
{
    const known_times *k = known_at(w, i);

    return k->n == n && memcmp(w->times.ptr + k->at, t, n * sizeof *t) == 0;
}

static void
table_put(uint32_t *table, size_t size, uint64_t hash, uint32_t index)
{
    size_t at = hash & (size - 1);

    while (table[at] != 0)
        at = (at + 1) & (size - 1);
    table[at] = index + 1;
}

static bool
table_grow(blk_writer *w)
{
    size_t size = w->table_size == 0 ? 64 : w->table_size * 2;
    uint32_t *table = ps_alloc_array(&w->alloc, size, sizeof *table);

    if (table == NULL)
        return false;
    for (uint32_t i = 0; i < w->n_tcols; i++)
        table_put(table, size, known_at(w, i)->hash, i);
    ps_alloc_free(&w->alloc, w->table, w->table_size * sizeof *w->table);
    w->table = table;
    w->table_size = size;
    return true;
}

static ps_status
add_tcol(blk_writer *w, const int64_t *t, size_t n, uint64_t hash)
{
    known_times k = {hash, w->times.len, n};

    if (((size_t)w->n_tcols + 1) * 2 > w->table_size && !table_grow(w))
        return PS_ENOMEM;
    ps_buf_add(&w->times, t, n * sizeof *t);
    ps_buf_add(&w->known, &k, sizeof k);
    if (w->times.failed || w->known.failed)
        return PS_ENOMEM;
    PS_TRY(
        blk_tcol_encode(&w->alloc, &w->scratch, t, n, &w->prev_tcol, &w->tcol_head, &w->tcol_body));
    table_put(w->table, w->table_size, hash, w->n_tcols++);
    return PS_OK;
}

/* The column with these times, a new one if there is none yet. Only then they have to be looked at. */
static ps_status
find_tcol(blk_writer *w, const int64_t *t, size_t n, uint32_t *ret, ps_err *err)
{
    if (w->n_tcols > 0 && same_times(w, w->prev_tref, t, n)) {
        *ret = w->prev_tref;
        return PS_OK;
    }
    uint64_t hash = ps_hash64((ps_str){(const char *)t, n * sizeof *t}, 0);
    if (w->table_size > 0) {
        for (size_t at = hash & (w->table_size - 1); w->table[at] != 0;
             at = (at + 1) & (w->table_size - 1)) {
            uint32_t i = w->table[at] - 1;
            if (known_at(w, i)->hash == hash && same_times(w, i, t, n)) {
                *ret = i;
                return PS_OK;
            }
        }
    }
    for (size_t i = 1; i < n; i++) {
        if (t[i] <= t[i - 1])
            return ps_fail(err, PS_EINVAL, "sample times do not ascend");
    }
    *ret = w->n_tcols;
    return add_tcol(w, t, n, hash) == PS_OK ? PS_OK : no_memory(err);
}

/* ---- series -------------------------------------------------------------------------------- */

static ps_status
check_series(const blk_writer *w, int64_t series_id, const int64_t *t, size_t n, bool started,
             ps_err *err)
{
    const size_t worst = WORST_SAMPLE_BYTES + (started ? WORST_START_BYTES : 0);

    if (n == 0)
        return ps_fail(err, PS_EINVAL, "a series without samples");
    if (w->meta.n_series > 0 && series_id <= w->meta.series_hi)
        return ps_fail(err, PS_EINVAL, "series ids do not ascend");
    if (n > BLK_MAX_SAMPLES - (size_t)w->meta.n_samples ||
        blk_writer_bytes(w) + n * worst + WORST_SERIES_BYTES > BLK_MAX_BYTES)
        return ps_fail(err, PS_ELIMIT, "too many samples for one block");
    if (t[0] < MDL_TIME_MIN_MS || t[n - 1] > MDL_TIME_MAX_MS)
        return ps_fail(err, PS_EINVAL, "sample time is out of range");
    return PS_OK;
}

/* Id and flags of the entry, between them the codec unless that is 0, and the time column. */
static void
put_entry(blk_writer *w, int64_t series_id, uint32_t tcol, unsigned codec, unsigned flags)
{
    ps_buf *head = &w->series_head;
    bool first = w->meta.n_series == 0;

    if (!first && tcol == w->prev_tref)
        flags |= BLK_TREF_SAME;
    else if (tcol == (first ? 0 : w->prev_tref + 1))
        flags |= BLK_TREF_NEXT;
    else
        flags |= BLK_TREF_INDEX;
    blk_buf_varint(head, first ? 0 : (uint64_t)series_id - (uint64_t)w->meta.series_hi);
    if (codec != 0)
        ps_buf_add_char(head, (char)codec);
    ps_buf_add_char(head, (char)flags);
    if ((flags & BLK_ENTRY_TREF) == BLK_TREF_INDEX)
        blk_buf_varint(head, tcol);
}

/* Start timestamps of the series that is being added. The directory of them begins with the first
 * series that has any. */
static ps_status
put_starts(blk_writer *w, const int64_t *t, const int64_t *start_ms, size_t n)
{
    size_t known = 0;

    while (start_ms != NULL && known < n && blk_start_valid(start_ms[known]) == 0)
        known++;
    if (start_ms == NULL || known == n) {
        if (w->starts_head.len > 0)
            ps_buf_add_char(&w->starts_head, BLK_STARTS_NONE);
        return w->starts_head.failed ? PS_ENOMEM : PS_OK;
    }
    if (w->starts_head.len == 0) {
        for (int32_t i = 0; i < w->meta.n_series; i++)
            ps_buf_add_char(&w->starts_head, BLK_STARTS_NONE);
    }
    int64_t *starts = blk_scratch_get(&w->alloc, &w->scratch.ints, n * 2, sizeof *starts);
    if (starts == NULL)
        return PS_ENOMEM;
    for (size_t i = 0; i < n; i++)
        starts[i] = blk_start_valid(start_ms[i]);
    blk_scol_put(starts, t, n, &w->starts_chain, (uint64_t *)(starts + n), &w->starts_head,
                 &w->starts_body);
    return w->starts_head.failed || w->starts_body.failed ? PS_ENOMEM : PS_OK;
}

/* Notes that the series is in the block. */
static void
added(blk_writer *w, int64_t series_id, const int64_t *t_ms, size_t n, uint32_t tcol)
{
    blk_meta *m = &w->meta;

    w->prev_tref = tcol;
    w->copied_of = NULL;
    if (m->n_series == 0) {
        m->series_lo = series_id;
        m->t_min_ms = t_ms[0];
        m->t_max_ms = t_ms[n - 1];
    }
    m->series_hi = series_id;
    if (t_ms[0] < m->t_min_ms)
        m->t_min_ms = t_ms[0];
    if (t_ms[n - 1] > m->t_max_ms)
        m->t_max_ms = t_ms[n - 1];
    m->n_series++;
    m->n_samples += (int32_t)n;
}

/* No memory; what the encoder remembers of this series is of no series in the block. */
static ps_status
not_added(blk_writer *w, ps_err *err)
{
    w->scratch.before.n = 0;
    return no_memory(err);
}

ps_status
blk_writer_add_started(blk_writer *w, int64_t series_id, const int64_t *t_ms,
                       const int64_t *start_ms, const double *values, size_t n, ps_err *err)
{
    blk_encoded e;
    uint32_t tcol;

    if (w->opts.kind != BLK_KIND_FLOAT)
        return ps_fail(err, PS_EINVAL, "a block of histograms does not hold floats");
    PS_TRY(check_series(w, series_id, t_ms, n, start_ms != NULL, err));
    PS_TRY(find_tcol(w, t_ms, n, &tcol, err));
    if (put_starts(w, t_ms, start_ms, n) != PS_OK ||
        blk_codec_encode(&w->alloc, &w->scratch, values, n, w->opts.level >= BLK_LEVEL_SEALED,
                         &e) != PS_OK)
        return not_added(w, err);
    put_entry(w, series_id, tcol, e.codec, blk_codec_flags(&e));
    blk_codec_put(&e, values[n - 1], n, &w->series_head, &w->series_body);
    if (w->series_head.failed || w->series_body.failed)
        return not_added(w, err);
    added(w, series_id, t_ms, n, tcol);
    return PS_OK;
}

ps_status
blk_writer_add(blk_writer *w, int64_t series_id, const int64_t *t_ms, const double *values,
               size_t n, ps_err *err)
{
    return blk_writer_add_started(w, series_id, t_ms, NULL, values, n, err);
}

bool
blk_writer_may_copy(const blk_writer *w, const blk_reader *r, uint32_t i)
{
    if (w->opts.kind != BLK_KIND_FLOAT || r->meta.kind != BLK_KIND_FLOAT ||
        r->meta.format != BLK_FORMAT_COLUMNS || r->meta.level != w->opts.level || r->head_only)
        return false;
    return r->cseries[i].values.depth == 0 || (w->copied_of == r && w->copied + 1 == i);
}

ps_status
blk_writer_add_copied(blk_writer *w, const blk_reader *r, uint32_t i, const int64_t *t_ms,
                      const int64_t *start_ms, size_t n, ps_err *err)
{
    uint32_t tcol;

    if (!blk_writer_may_copy(w, r, i) || n != r->tcols[r->cseries[i].tcol].n)
        return ps_fail(err, PS_EINVAL, "series cannot be copied");
    const blk_columns_series *s = &r->cseries[i];
    const blk_vcol *c = &s->values;
    const blk_encoded e = {.codec = c->codec,
                           .k = c->k,
                           .shift = c->shift,
                           .last_is_raw = c->last_is_raw,
                           .last_int = c->last_int,
                           .frames = {(const char *)c->frames, c->frames_len},
                           .body = {(const char *)r->body + c->body_off, c->body_len}};
    PS_TRY(check_series(w, s->series_id, t_ms, n, start_ms != NULL, err));
    /* bytes from elsewhere need not keep to what the encoder takes at most */
    if (blk_writer_bytes(w) + n * (WORST_SAMPLE_BYTES + WORST_START_BYTES) + WORST_SERIES_BYTES +
            e.frames.len + e.body.len > BLK_MAX_BYTES)
        return ps_fail(err, PS_ELIMIT, "too many samples for one block");
    PS_TRY(find_tcol(w, t_ms, n, &tcol, err));
    if (put_starts(w, t_ms, start_ms, n) != PS_OK)
        return not_added(w, err);
    put_entry(w, s->series_id, tcol, e.codec, blk_codec_flags(&e));
    blk_codec_put(&e, c->last, n, &w->series_head, &w->series_body);
    w->scratch.before.n = 0; /* its integers are not known */
    if (w->series_head.failed || w->series_body.failed)
        return not_added(w, err);
    added(w, s->series_id, t_ms, n, tcol);
    w->copied_of = r;
    w->copied = i;
    return PS_OK;
}

/* The payload comes first: how large it gets decides whether there is room. A layout that was new for
 * a series without room stays; it does no harm. */
ps_status
blk_writer_add_histograms(blk_writer *w, int64_t series_id, const int64_t *t_ms,
                          const int64_t *start_ms, const hst_hist *const *histograms, size_t n,
                          ps_err *err)
{
    uint32_t tcol;

    if (w->opts.kind != BLK_KIND_HISTOGRAM)
        return ps_fail(err, PS_EINVAL, "a block of floats does not hold histograms");
    PS_TRY(check_series(w, series_id, t_ms, n, start_ms != NULL, err));
    ps_buf_clear(&w->payload);
    ps_status status =
        blk_columns_put_histograms(&w->alloc, &w->scratch, &w->layouts, histograms, n,
                                   w->opts.level >= BLK_LEVEL_SEALED, &w->payload);
    if (status == PS_OK &&
        w->payload.len + blk_writer_bytes(w) + n * WORST_SAMPLE_BYTES + WORST_SERIES_BYTES >
            BLK_MAX_BYTES)
        status = PS_ELIMIT;
    if (status == PS_ELIMIT)
        return ps_fail(err, status, "too many buckets for one block");
    if (status != PS_OK)
        return no_memory(err);
    PS_TRY(find_tcol(w, t_ms, n, &tcol, err));
    if (put_starts(w, t_ms, start_ms, n) != PS_OK)
        return no_memory(err);
    put_entry(w, series_id, tcol, 0, 0);
    blk_buf_varint(&w->series_head, w->payload.len);
    ps_buf_add_str(&w->series_body, ps_buf_str(&w->payload));
    if (w->series_head.failed || w->series_body.failed)
        return no_memory(err);
    added(w, series_id, t_ms, n, tcol);
    return PS_OK;
}

/* ---- finishing ----------------------------------------------------------------------------- */

static void
writer_reset(blk_writer *w)
{
    for (size_t i = 0; i < N_BUFS; i++)
        ps_buf_clear(buf_at(w, i));
    blk_intern_clear(&w->layouts);
    w->starts_chain = (blk_starts_chain){0};
    memset(&w->meta, 0, sizeof w->meta);
    w->prev_tcol = (blk_tcol){0};
    w->prev_tref = 0;
    w->copied_of = NULL;
    w->scratch.before.n = 0;
    w->n_tcols = 0;
    if (w->table != NULL)
        memset(w->table, 0, w->table_size * sizeof *w->table);
}

ps_status
blk_writer_finish(blk_writer *w, ps_buf *out, blk_meta *ret_meta, ps_err *err)
{
    const size_t start = out->len;
    blk_meta m = w->meta;

    if (m.n_series == 0)
        return ps_fail(err, PS_EINVAL, "a block without series");
    m.tenant_id = w->opts.tenant_id;
    m.metric_id = w->opts.metric_id;
    m.dist_key = mdl_dist_key(m.tenant_id, m.metric_id);
    m.level = w->opts.level;
    m.kind = w->opts.kind;
    m.format = BLK_FORMAT_COLUMNS;

    blk_header_write(out, &m, w->starts_head.len > 0 ? BLK_FLAG_STARTS : 0);
    blk_buf_varint(out, w->n_tcols);
    ps_buf_add_str(out, ps_buf_str(&w->tcol_head));
    if (m.kind == BLK_KIND_HISTOGRAM) {
        blk_buf_varint(out, w->layouts.n);
        ps_buf_add_str(out, ps_buf_str(&w->layouts.bytes));
    }
    ps_buf_add_str(out, ps_buf_str(&w->series_head));
    ps_buf_add_str(out, ps_buf_str(&w->starts_head));
    const size_t head_len = out->len - start;
    ps_buf_add_str(out, ps_buf_str(&w->tcol_body));
    ps_buf_add_str(out, ps_buf_str(&w->series_body));
    ps_buf_add_str(out, ps_buf_str(&w->starts_body));
    if (out->failed)
        return no_memory(err);
    const size_t body_len = out->len - start - head_len;
    char *p = out->ptr + start;
    ps_put_u32le(p + BLK_OFF_HEAD_LEN, (uint32_t)head_len);
    ps_put_u32le(p + BLK_OFF_BODY_LEN, (uint32_t)body_len);
    ps_put_u32le(p + BLK_OFF_BODY_CRC, ps_crc32c(0, p + head_len, body_len));
    ps_put_u32le(p + BLK_OFF_CRC, blk_crc_skipping((ps_str){p, head_len}));
    *ret_meta = m;
    writer_reset(w);
    return PS_OK;
}
