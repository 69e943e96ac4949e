/*
 * ids.c - sets of series ids: in memory and as bytes.
 *
 * In memory: bits in chunks of 1024 ids that are found by a small hash table. Ids come from one
 * sequence, so those of a tenant lie close together; a set of a million takes some hundred kB, and
 * asking for one is two loads that stay in the cache. Chunks stand in order of arrival and are sorted
 * when somebody walks them.
 *
 * As bytes:
 *   0  u8   version, 1
 *   1  u32  CRC-32C of all that follows
 *   5  u32  number of ids
 *   9  runs, ascending: varint of (gap << 1 | more), where gap is the number of ids left out since the
 *      run before, less the one that must be (ids begin at 1); if more, varint of the run's length - 2
 * Two runs never touch, so each set has one spelling.
 */
#include "lib/model/model.h"

enum { CHUNK_BITS = 10, CHUNK_IDS = 1 << CHUNK_BITS, CHUNK_WORDS = CHUNK_IDS / 64 };
enum { VERSION = 1, HEAD_BYTES = 9 };

struct mdl_ids_chunk {
    int64_t key; /* id >> CHUNK_BITS */
    uint64_t bits[CHUNK_WORDS];
};

/* ---- in memory ---------------------------------------------------------------------------------- */

void
mdl_ids_init(mdl_ids *s, const ps_alloc *alloc)
{
    *s = (mdl_ids){.alloc = *alloc};
}

void
mdl_ids_done(mdl_ids *s)
{
    ps_alloc_free(&s->alloc, s->chunks, s->cap * sizeof(*s->chunks));
    ps_alloc_free(&s->alloc, s->table, s->table_cap * sizeof(*s->table));
    *s = (mdl_ids){.alloc = s->alloc};
}

static size_t
place(const mdl_ids *s, int64_t key)
{
    uint64_t h = (uint64_t)key * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(h >> 32) & (s->table_cap - 1);
}

/* The chunk, or NULL. *ret_at: its place in the table or the free one where it would be. */
static mdl_ids_chunk *
find_chunk(const mdl_ids *s, int64_t key, size_t *ret_at)
{
    size_t at = place(s, key);
    for (; s->table[at] != 0; at = (at + 1) & (s->table_cap - 1)) {
        mdl_ids_chunk *c = &s->chunks[s->table[at] - 1];
        if (c->key == key) {
            *ret_at = at;
            return c;
        }
    }
    *ret_at = at;
    return NULL;
}

static void
fill_table(mdl_ids *s)
{
    memset(s->table, 0, s->table_cap * sizeof(*s->table));
    for (size_t i = 0; i < s->n; i++) {
        size_t at;
        (void)find_chunk(s, s->chunks[i].key, &at);
        s->table[at] = (uint32_t)i + 1;
    }
}

/* Room for one more chunk: the table is at most half full. */
static ps_status
make_room(mdl_ids *s)
{
    if (s->n == s->cap) {
        size_t cap = s->cap == 0 ? 8 : s->cap * 2;
        if (cap > UINT32_MAX / 4)
            return PS_ENOMEM;
        mdl_ids_chunk *chunks = s->alloc.realloc(
            s->alloc.self, s->chunks, s->cap * sizeof(*chunks), cap * sizeof(*chunks));
        if (chunks == NULL)
            return PS_ENOMEM;
        s->chunks = chunks;
        s->cap = cap;
    }
    if (s->table_cap < s->cap * 2) {
        size_t cap = s->cap * 2;
        uint32_t *table = ps_alloc_array(&s->alloc, cap, sizeof(*table));
        if (table == NULL)
            return PS_ENOMEM;
        ps_alloc_free(&s->alloc, s->table, s->table_cap * sizeof(*table));
        s->table = table;
        s->table_cap = cap;
        fill_table(s);
    }
    return PS_OK;
}

static ps_status
get_chunk(mdl_ids *s, int64_t key, mdl_ids_chunk **ret)
{
    size_t at;
    if (s->n > 0 && s->chunks[s->n - 1].key == key) {
        *ret = &s->chunks[s->n - 1];
        return PS_OK;
    }
    if (s->table_cap > 0 && (*ret = find_chunk(s, key, &at)) != NULL)
        return PS_OK;
    PS_TRY(make_room(s));
    (void)find_chunk(s, key, &at);
    s->chunks[s->n] = (mdl_ids_chunk){.key = key};
    *ret = &s->chunks[s->n++];
    s->table[at] = (uint32_t)s->n;
    return PS_OK;
}

/* Bits a to b (inclusive) of a word. */
static uint64_t
mask_of(unsigned a, unsigned b)
{
    return (~UINT64_C(0) << a) & (~UINT64_C(0) >> (63 - b));
}

static ps_status
add_one(mdl_ids *s, int64_t id)
{
    mdl_ids_chunk *c;
    PS_TRY(get_chunk(s, id >> CHUNK_BITS, &c));
    unsigned bit = (unsigned)(id & (CHUNK_IDS - 1));
    uint64_t mask = UINT64_C(1) << bit % 64, *word = &c->bits[bit / 64];
    s->count += (*word & mask) == 0;
    *word |= mask;
    return PS_OK;
}

ps_status
mdl_ids_add(mdl_ids *s, int64_t lo, int64_t hi)
{
    if (lo == hi && lo >= 1 && lo <= MDL_ID_MAX)
        return add_one(s, lo);
    lo = lo < 1 ? 1 : lo;
    hi = hi > MDL_ID_MAX ? MDL_ID_MAX : hi;
    for (int64_t key = lo >> CHUNK_BITS; lo <= hi && key <= hi >> CHUNK_BITS; key++) {
        mdl_ids_chunk *c;
        PS_TRY(get_chunk(s, key, &c));
        int64_t base = key << CHUNK_BITS;
        unsigned a = lo > base ? (unsigned)(lo - base) : 0;
        unsigned b = hi - base < CHUNK_IDS ? (unsigned)(hi - base) : CHUNK_IDS - 1;
        for (unsigned w = a / 64; w <= b / 64; w++) {
            uint64_t mask = mask_of(w == a / 64 ? a % 64 : 0, w == b / 64 ? b % 64 : 63);
            s->count += (uint64_t)__builtin_popcountll(mask & ~c->bits[w]);
            c->bits[w] |= mask;
        }
    }
    return PS_OK;
}

bool
mdl_ids_has(const mdl_ids *s, int64_t id)
{
    size_t at;
    if (s->n == 0)
        return false;
    const mdl_ids_chunk *c = find_chunk(s, id >> CHUNK_BITS, &at);
    unsigned bit = (unsigned)(id & (CHUNK_IDS - 1));
    return c != NULL && (c->bits[bit / 64] >> bit % 64 & 1) != 0;
}

/* ---- in order ------------------------------------------------------------------------------------ */

static void
sift_down(mdl_ids_chunk *items, size_t at, size_t n)
{
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && items[child + 1].key > items[child].key)
            child++;
        if (items[at].key >= items[child].key)
            return;
        mdl_ids_chunk t = items[at];
        items[at] = items[child];
        items[child] = t;
    }
}

/* In place: nothing is to fail here. Usually they came in order. */
static void
sort_chunks(mdl_ids *s)
{
    size_t i = 1;
    while (i < s->n && s->chunks[i - 1].key < s->chunks[i].key)
        i++;
    if (i >= s->n)
        return;
    for (size_t k = s->n / 2; k-- > 0;)
        sift_down(s->chunks, k, s->n);
    for (size_t n = s->n; --n > 0;) {
        mdl_ids_chunk t = s->chunks[0];
        s->chunks[0] = s->chunks[n];
        s->chunks[n] = t;
        sift_down(s->chunks, 0, n);
    }
    fill_table(s);
}

typedef struct run {
    int64_t lo, hi; /* hi < lo: none yet */
    mdl_ids_fn fn;
    void *self;
} run;

static void
flush_run(const run *r)
{
    if (r->hi >= r->lo)
        r->fn(r->self, r->lo, r->hi);
}

static void
walk_chunk(const mdl_ids_chunk *c, run *r)
{
    for (unsigned w = 0; w < CHUNK_WORDS; w++) {
        uint64_t left = c->bits[w];
        int64_t base = (c->key << CHUNK_BITS) + w * 64;
        while (left != 0) {
            unsigned a = (unsigned)__builtin_ctzll(left);
            uint64_t holes = ~left & (~UINT64_C(0) << a);
            unsigned end = holes == 0 ? 64 : (unsigned)__builtin_ctzll(holes);
            if (r->hi >= r->lo && base + a == r->hi + 1) {
                r->hi = base + end - 1;
            } else {
                flush_run(r);
                r->lo = base + a;
                r->hi = base + end - 1;
            }
            left = end == 64 ? 0 : left & (~UINT64_C(0) << end);
        }
    }
}

void
mdl_ids_runs(mdl_ids *s, mdl_ids_fn fn, void *self)
{
    run r = {.lo = 0, .hi = -1, .fn = fn, .self = self};
    sort_chunks(s);
    for (size_t i = 0; i < s->n; i++)
        walk_chunk(&s->chunks[i], &r);
    flush_run(&r);
}

void
mdl_ids_missing(const mdl_ids *s, const mdl_ids *in, mdl_id_fn fn, void *self)
{
    size_t at;
    for (size_t i = 0; i < s->n; i++) {
        const mdl_ids_chunk *c = &s->chunks[i];
        const mdl_ids_chunk *other = in->n == 0 ? NULL : find_chunk(in, c->key, &at);
        for (unsigned w = 0; w < CHUNK_WORDS; w++) {
            uint64_t left = c->bits[w] & ~(other == NULL ? 0 : other->bits[w]);
            for (; left != 0; left &= left - 1)
                fn(self, (c->key << CHUNK_BITS) + w * 64 + __builtin_ctzll(left));
        }
    }
}

size_t
mdl_ids_bytes(const mdl_ids *s)
{
    return s->cap * sizeof(*s->chunks) + s->table_cap * sizeof(*s->table);
}

/* ---- to bytes ------------------------------------------------------------------------------------ */

typedef struct encoder {
    ps_buf *out;
    size_t start;
    int64_t last; /* -1: nothing yet */
    uint64_t n;
} encoder;

static void
put_varint(ps_buf *out, uint64_t v)
{
    uint8_t bytes[10];
    size_t n = 0;
    for (; v >= 128; v >>= 7)
        bytes[n++] = (uint8_t)(v | 128);
    bytes[n++] = (uint8_t)v;
    ps_buf_add(out, bytes, n);
}

static encoder
encoder_begin(ps_buf *out)
{
    static const char head[HEAD_BYTES] = {VERSION};
    encoder e = {.out = out, .start = out->len, .last = -1};
    ps_buf_add(out, head, sizeof(head));
    return e;
}

static void
encoder_run(void *self, int64_t lo, int64_t hi)
{
    encoder *e = self;
    bool more = hi > lo;
    put_varint(e->out, (uint64_t)(lo - e->last - 2) << 1 | more);
    if (more)
        put_varint(e->out, (uint64_t)(hi - lo - 1));
    e->last = hi;
    e->n += (uint64_t)(hi - lo) + 1;
}

static void
encoder_end(encoder *e)
{
    if (e->out->failed)
        return;
    char *head = e->out->ptr + e->start;
    ps_put_u32le(head + 5, (uint32_t)e->n);
    ps_put_u32le(head + 1, ps_crc32c(0, head + 5, e->out->len - e->start - 5));
}

void
mdl_ids_encode(const int64_t *ids, size_t n, ps_buf *out)
{
    encoder e = encoder_begin(out);
    for (size_t a = 0, b; a < n; a = b) {
        for (b = a + 1; b < n && ids[b] == ids[b - 1] + 1; b++)
            ;
        encoder_run(&e, ids[a], ids[b - 1]);
    }
    encoder_end(&e);
}

ps_status
mdl_ids_write(mdl_ids *s, ps_buf *out, ps_err *err)
{
    if (s->count > MDL_IDS_MAX)
        return ps_fail(err, PS_ELIMIT, "more than %u series in one set", MDL_IDS_MAX);
    encoder e = encoder_begin(out);
    mdl_ids_runs(s, encoder_run, &e);
    encoder_end(&e);
    return out->failed ? ps_fail(err, PS_ENOMEM, "out of memory") : PS_OK;
}

/* ---- from bytes ---------------------------------------------------------------------------------- */

static ps_status
damaged(ps_err *err)
{
    return ps_fail(err, PS_ECORRUPT, "a set of series ids is damaged");
}

static bool
get_varint(const uint8_t **p, const uint8_t *end, uint64_t *ret)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 63 && *p < end; shift += 7) {
        uint8_t b = *(*p)++;
        v |= (uint64_t)(b & 127) << shift;
        if (b < 128) {
            *ret = v;
            return true;
        }
    }
    return false;
}

/* Adds to s, or only checks where that is NULL. */
static ps_status
read_runs(ps_str bytes, uint32_t count, mdl_ids *s, ps_err *err)
{
    const uint8_t *p = (const uint8_t *)bytes.ptr + HEAD_BYTES;
    const uint8_t *end = (const uint8_t *)bytes.ptr + bytes.len;
    uint64_t left = count, v, more = 0;
    int64_t last = -1;
    for (; p < end; left -= more + 1) {
        more = 0;
        if (!get_varint(&p, end, &v) || v >> 1 > MDL_ID_MAX)
            return damaged(err);
        int64_t lo = last + 2 + (int64_t)(v >> 1);
        if ((v & 1) != 0) {
            if (!get_varint(&p, end, &more) || more >= MDL_IDS_MAX - 1)
                return damaged(err);
            more++;
        }
        last = lo + (int64_t)more;
        if (more + 1 > left || last > MDL_ID_MAX)
            return damaged(err);
        if (s != NULL && mdl_ids_add(s, lo, last) != PS_OK)
            return ps_fail(err, PS_ENOMEM, "out of memory");
    }
    return left == 0 ? PS_OK : damaged(err);
}

ps_status
mdl_ids_count(ps_str bytes, uint32_t *ret, ps_err *err)
{
    if (bytes.len < HEAD_BYTES || bytes.ptr[0] != VERSION ||
        ps_get_u32le(bytes.ptr + 1) != ps_crc32c(0, bytes.ptr + 5, bytes.len - 5))
        return damaged(err);
    uint32_t count = ps_get_u32le(bytes.ptr + 5);
    if (count > MDL_IDS_MAX)
        return damaged(err);
    PS_TRY(read_runs(bytes, count, NULL, err));
    *ret = count;
    return PS_OK;
}

ps_status
mdl_ids_read(mdl_ids *s, ps_str bytes, ps_err *err)
{
    uint32_t count;
    PS_TRY(mdl_ids_count(bytes, &count, err));
    return read_runs(bytes, count, s, err);
}
