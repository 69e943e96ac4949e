/*
 * arena.c - bump allocation that dies as a whole.
 *
 * An arena is a list of chunks; the newest is the one that is carved. Chunks double from 4 KiB to
 * 1 MiB, and a request larger than that gets a chunk of its own, so n bytes of small objects cost
 * O(log n) calls to the allocator below. Near the budget the next chunk shrinks to what is needed,
 * so a budget is not lost to rounding.
 *
 * Invariants: used_bytes is the sum of all chunk sizes, headers included; pos <= size in each
 * chunk. Under AddressSanitizer the unused part of each chunk is poisoned, so reading past what was
 * handed out, or after a reset, is reported although the memory still belongs to the arena.
 */
#include "lib/base/base.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n) __asan_poison_memory_region((p), (n))
#define UNPOISON(p, n) __asan_unpoison_memory_region((p), (n))
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

enum { ALIGN = 16, FIRST_CHUNK = 4096, LAST_CHUNK = 1 << 20 };

struct ps_arena_chunk {
    ps_arena_chunk *next; /* older */
    size_t size;          /* of data */
    size_t pos;           /* first free byte of data */
    size_t unused;        /* keeps data 16-byte aligned */
    char data[];
};

_Static_assert(sizeof(ps_arena_chunk) % ALIGN == 0, "chunk data must be aligned");

void
ps_arena_init(ps_arena *arena, const ps_alloc *alloc, size_t budget_bytes)
{
    arena->alloc = *alloc;
    arena->head = NULL;
    arena->used_bytes = 0;
    arena->budget_bytes = budget_bytes;
}

static void
free_chunk(ps_arena *arena, ps_arena_chunk *chunk)
{
    size_t bytes = sizeof *chunk + chunk->size;
    arena->used_bytes -= bytes;
    UNPOISON(chunk->data, chunk->size);
    ps_alloc_free(&arena->alloc, chunk, bytes);
}

void
ps_arena_done(ps_arena *arena)
{
    while (arena->head != NULL) {
        ps_arena_chunk *chunk = arena->head;
        arena->head = chunk->next;
        free_chunk(arena, chunk);
    }
}

/* The newest chunk is usually the largest; an oversized one is not worth holding on to. */
void
ps_arena_reset(ps_arena *arena)
{
    ps_arena_chunk *keep = NULL;
    while (arena->head != NULL) {
        ps_arena_chunk *chunk = arena->head;
        arena->head = chunk->next;
        if (keep == NULL && chunk->size <= LAST_CHUNK)
            keep = chunk;
        else
            free_chunk(arena, chunk);
    }
    if (keep != NULL) {
        keep->next = NULL;
        keep->pos = 0;
        POISON(keep->data, keep->size);
    }
    arena->head = keep;
}

static ps_arena_chunk *
new_chunk(ps_arena *arena, size_t need)
{
    size_t size = arena->head == NULL ? FIRST_CHUNK - sizeof(ps_arena_chunk)
                                      : 2 * arena->head->size + sizeof(ps_arena_chunk);
    if (size > LAST_CHUNK)
        size = LAST_CHUNK;
    if (size < need)
        size = need;
    if (arena->budget_bytes != 0) {
        size_t left =
            arena->budget_bytes > arena->used_bytes ? arena->budget_bytes - arena->used_bytes : 0;
        if (left < sizeof(ps_arena_chunk) || left - sizeof(ps_arena_chunk) < need)
            return NULL;
        if (size > left - sizeof(ps_arena_chunk))
            size = need;
    }
    size_t bytes;
    if (!ps_add_size(sizeof(ps_arena_chunk), size, &bytes))
        return NULL;
    ps_arena_chunk *chunk = ps_alloc_new(&arena->alloc, bytes);
    if (chunk == NULL)
        return NULL;
    chunk->size = size;
    chunk->pos = 0;
    chunk->next = arena->head;
    chunk->unused = 0;
    POISON(chunk->data, chunk->size);
    arena->head = chunk;
    arena->used_bytes += bytes;
    return chunk;
}

/* Size as carved: never zero, a multiple of the alignment; 0 on overflow. */
static size_t
carved(size_t size)
{
    if (size > SIZE_MAX - ALIGN)
        return 0;
    return size == 0 ? ALIGN : (size + (ALIGN - 1)) & ~(size_t)(ALIGN - 1);
}

void *
ps_arena_new(ps_arena *arena, size_t size)
{
    size_t need = carved(size);
    if (need == 0)
        return NULL;
    ps_arena_chunk *chunk = arena->head;
    if (chunk == NULL || chunk->size - chunk->pos < need) {
        chunk = new_chunk(arena, need);
        if (chunk == NULL)
            return NULL;
    }
    char *p = chunk->data + chunk->pos;
    chunk->pos += need;
    UNPOISON(p, size);
    return p;
}

void *
ps_arena_array(ps_arena *arena, size_t n, size_t size)
{
    size_t bytes;
    if (!ps_mul_size(n, size, &bytes))
        return NULL;
    void *p = ps_arena_new(arena, bytes);
    if (p != NULL)
        memset(p, 0, bytes);
    return p;
}

ps_status
ps_arena_dup(ps_arena *arena, ps_str s, ps_str *ret)
{
    char *p = ps_arena_new(arena, s.len);
    if (p == NULL)
        return PS_ENOMEM;
    if (s.len > 0)
        memcpy(p, s.ptr, s.len);
    *ret = (ps_str){p, s.len};
    return PS_OK;
}

size_t
ps_arena_carved(const ps_arena *arena)
{
    size_t carved_bytes = 0;
    for (const ps_arena_chunk *chunk = arena->head; chunk != NULL; chunk = chunk->next)
        carved_bytes += chunk->pos;
    return carved_bytes;
}

static void *
arena_realloc(void *self, void *old, size_t old_size, size_t new_size)
{
    ps_arena *arena = self;
    if (new_size == 0)
        return NULL;
    if (old == NULL)
        return ps_arena_new(arena, new_size);
    size_t had = carved(old_size);
    size_t need = carved(new_size);
    if (need == 0)
        return NULL;
    ps_arena_chunk *chunk = arena->head;
    bool is_last = chunk != NULL && (char *)old + had == chunk->data + chunk->pos;
    if (need <= had) {
        POISON(old, had);
        UNPOISON(old, new_size);
        return old;
    }
    /* A buffer that grows at the end of the chunk grows in place. */
    if (is_last && chunk->size - chunk->pos >= need - had) {
        chunk->pos += need - had;
        UNPOISON(old, new_size);
        return old;
    }
    void *p = ps_arena_new(arena, new_size);
    if (p != NULL)
        memcpy(p, old, old_size);
    return p;
}

ps_alloc
ps_arena_as_alloc(ps_arena *arena)
{
    return (ps_alloc){arena_realloc, arena};
}
