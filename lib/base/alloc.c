/*
 * alloc.c - the allocator interface and its one implementation over the C library.
 *
 * Libraries get memory only through a ps_alloc that their caller hands in: the connector passes
 * ps_malloc or an arena with a budget, the extension a memory context, tests an allocator that
 * fails on demand. Sizes are given back on free, so an allocator can account without headers of its
 * own. A size of zero is served as one byte, so that NULL always means "no memory".
 */
#include "lib/base/base.h"

#include <stdlib.h>

static void *
malloc_realloc(void *self, void *old, size_t old_size, size_t new_size)
{
    (void)self;
    (void)old_size;
    if (new_size == 0) {
        free(old);
        return NULL;
    }
    return realloc(old, new_size);
}

const ps_alloc ps_malloc = {malloc_realloc, NULL};

void *
ps_alloc_new(const ps_alloc *a, size_t size)
{
    return a->realloc(a->self, NULL, 0, size == 0 ? 1 : size);
}

void *
ps_alloc_array(const ps_alloc *a, size_t n, size_t size)
{
    size_t bytes;
    if (!ps_mul_size(n, size, &bytes))
        return NULL;
    void *p = ps_alloc_new(a, bytes);
    if (p != NULL)
        memset(p, 0, bytes);
    return p;
}

void
ps_alloc_free(const ps_alloc *a, void *p, size_t size)
{
    if (p != NULL)
        a->realloc(a->self, p, size == 0 ? 1 : size, 0);
}

bool
ps_mul_size(size_t a, size_t b, size_t *ret)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *ret = product;
    return true;
}

bool
ps_add_size(size_t a, size_t b, size_t *ret)
{
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *ret = sum;
    return true;
}
