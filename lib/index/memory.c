/*
 * memory.c - every byte is counted here, with the allocator's own share: a header of 8 bytes,
 * multiples of 16, at least 32, as common allocators have it.
 */
#include "lib/index/internal.h"

enum { CHUNK_BYTES = 64 << 10, BIG_ARRAY_BYTES = 1 << 20 };

struct idx_chunk {
    struct idx_chunk *next;
    size_t size;
};

static size_t
cost(size_t bytes)
{
    size_t c = (bytes + 8 + 15) & ~(size_t)15;
    return bytes == 0 ? 0 : c < 32 ? 32 : c;
}

static ps_status
over_budget(const idx *x, ps_err *err)
{
    return ps_fail(err, PS_ELIMIT, "the label index does not fit into %zu bytes", x->max_bytes);
}

ps_status
idx_resize(idx *x, void **array, size_t old_n, size_t new_n, size_t size, ps_err *err)
{
    size_t bytes;
    if (!ps_mul_size(new_n, size, &bytes) || bytes > SIZE_MAX / 4)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    size_t before = cost(old_n * size), after = cost(bytes);
    if (x->max_bytes != 0 && after > before && x->bytes - before + after > x->max_bytes)
        return over_budget(x, err);
    void *p = x->alloc.realloc(x->alloc.self, *array, old_n * size, bytes);
    if (p == NULL && bytes > 0)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    x->bytes += after - before;
    *array = p;
    return PS_OK;
}

void
idx_release(idx *x, void *array, size_t n, size_t size)
{
    ps_alloc_free(&x->alloc, array, n * size);
    x->bytes -= cost(n * size);
}

ps_status
idx_grow(idx *x, void **array, size_t n, size_t *cap, size_t size, ps_err *err)
{
    if (n < *cap)
        return PS_OK;
    if (n >= IDX_MAX_COUNT)
        return ps_fail(err, PS_ELIMIT, "the label index holds no more than 2^32 of anything");
    /* big ones grow by less: half of what was added may stay unused */
    size_t more = *cap * size >= BIG_ARRAY_BYTES ? *cap / 2 : *cap;
    size_t want = *cap + (more < 4 ? 4 : more);
    PS_TRY(idx_resize(x, array, *cap, want, size, err));
    *cap = want;
    return PS_OK;
}

ps_status
idx_keep(idx *x, size_t bytes, size_t align, void **ret, ps_err *err)
{
    size_t skip = (size_t)(-(uintptr_t)x->keep & (align - 1));
    if (bytes == 0)
        skip = 0;
    if (x->keep == NULL || bytes + skip > x->keep_left) {
        size_t size = bytes > CHUNK_BYTES / 8 ? bytes : CHUNK_BYTES;
        void *p = NULL;
        PS_TRY(idx_resize(x, &p, 0, sizeof(struct idx_chunk) + size, 1, err));
        struct idx_chunk *chunk = p;
        *chunk = (struct idx_chunk){x->chunks, size};
        x->chunks = chunk;
        if (size == bytes) { /* one of its own; what is left of the last chunk stays in use */
            *ret = chunk + 1;
            return PS_OK;
        }
        x->keep = (char *)(chunk + 1);
        x->keep_left = size;
        skip = 0;
    }
    *ret = x->keep + skip;
    x->keep += skip + bytes;
    x->keep_left -= skip + bytes;
    return PS_OK;
}

static void
free_chunks(idx *x)
{
    while (x->chunks != NULL) {
        struct idx_chunk *chunk = x->chunks;
        x->chunks = chunk->next;
        idx_release(x, chunk, sizeof(*chunk) + chunk->size, 1);
    }
}

ps_status
idx_new(const ps_alloc *alloc, size_t max_bytes, uint64_t seed, idx **ret, ps_err *err)
{
    if (max_bytes != 0 && max_bytes < cost(sizeof(idx)))
        return ps_fail(err, PS_ELIMIT, "the label index does not fit into %zu bytes", max_bytes);
    idx *x = ps_alloc_array(alloc, 1, sizeof(*x));
    if (x == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    x->alloc = *alloc;
    x->bytes = cost(sizeof(*x));
    x->max_bytes = max_bytes;
    x->seed = seed;
    x->settled = true;
    *ret = x;
    return PS_OK;
}

void
idx_free(idx *x)
{
    if (x == NULL)
        return;
    for (size_t i = 0; i < x->n_tenants; i++) {
        idx_release(x, x->tenants[i].names, x->tenants[i].cap_names, sizeof(uint32_t));
        idx_release(x, x->tenants[i].metrics, x->tenants[i].cap_metrics, sizeof(uint32_t));
    }
    for (size_t i = 0; i < x->n_names; i++)
        idx_release(x, x->names[i].values, x->names[i].cap, sizeof(uint32_t));
    for (size_t i = 0; i < x->n_pairs; i++)
        idx_release(x, x->pairs[i].slots.bytes, x->pairs[i].slots.cap, 1);
    for (size_t i = 0; i < x->n_metrics; i++)
        idx_release(x, x->metrics[i].order, x->metrics[i].cap, sizeof(uint32_t));
    idx_release(x, x->tenants, x->cap_tenants, sizeof(*x->tenants));
    idx_release(x, x->tenants_by_id, x->cap_tenants_by_id, sizeof(uint32_t));
    idx_release(x, x->names, x->cap_names, sizeof(*x->names));
    idx_release(x, x->dirty_names, x->cap_dirty_names, sizeof(uint32_t));
    idx_release(x, x->keys, x->cap_keys, sizeof(*x->keys));
    idx_release(x, x->pairs, x->cap_pairs, sizeof(*x->pairs));
    idx_release(x, x->pair_table, x->cap_pair_table, sizeof(uint32_t));
    idx_release(x, x->metrics, x->cap_metrics, sizeof(*x->metrics));
    idx_release(x, x->metric_table, x->cap_metric_table, sizeof(uint32_t));
    idx_release(x, x->dirty_metrics, x->cap_dirty_metrics, sizeof(uint32_t));
    idx_release(x, x->slots, x->cap_slots, sizeof(*x->slots));
    idx_release(x, x->slot_table, x->cap_slot_table, sizeof(uint32_t));
    free_chunks(x);
    ps_alloc alloc = x->alloc;
    ps_alloc_free(&alloc, x, sizeof(*x));
}

ps_status
idx_changed(idx *x, ps_status status)
{
    if (status == PS_ENOMEM || status == PS_ELIMIT)
        x->broken = true;
    return status;
}

ps_status
idx_check_usable(const idx *x, ps_err *err)
{
    return x->broken ? ps_fail(err, PS_ELIMIT, "the label index has run out of memory") : PS_OK;
}

idx_stats
idx_get_stats(const idx *x)
{
    return (idx_stats){.bytes = x->bytes,
                       .max_bytes = x->max_bytes,
                       .series = x->n_slots - x->n_dead,
                       .deleted = x->n_dead,
                       .names = x->n_names,
                       .pairs = x->n_pairs};
}
