/*
 * sort.c - merge sort of numbers of things that compare in some way (few comparisons matter: they
 * follow pointers), radix sort of plain integers.
 */
#include "lib/index/internal.h"

enum { SMALL = 12 };

static void
insertion_sort(const idx *x, uint32_t *items, size_t n, idx_cmp_fn cmp)
{
    for (size_t i = 1; i < n; i++) {
        uint32_t v = items[i];
        size_t j = i;
        for (; j > 0 && cmp(x, items[j - 1], v) > 0; j--)
            items[j] = items[j - 1];
        items[j] = v;
    }
}

/* Recursion is as deep as the number has bits. */
void
idx_sort(const idx *x, uint32_t *items, uint32_t *scratch, size_t n, idx_cmp_fn cmp)
{
    if (n <= SMALL) {
        insertion_sort(x, items, n, cmp);
        return;
    }
    size_t half = n / 2;
    idx_sort(x, items, scratch, half, cmp);
    idx_sort(x, items + half, scratch, n - half, cmp);
    if (cmp(x, items[half - 1], items[half]) <= 0)
        return;
    memcpy(scratch, items, half * sizeof(*items));
    size_t a = 0, b = half, to = 0;
    while (a < half && b < n)
        items[to++] = cmp(x, scratch[a], items[b]) <= 0 ? scratch[a++] : items[b++];
    memcpy(items + to, scratch + a, (half - a) * sizeof(*items));
}

uint64_t *
idx_sort_u64(uint64_t *items, uint64_t *scratch, size_t n)
{
    uint64_t all = 0, common = UINT64_MAX;
    for (size_t i = 0; i < n; i++) {
        all |= items[i];
        common &= items[i];
    }
    uint64_t differ = all & ~common;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        if ((differ >> shift & 255) == 0)
            continue;
        size_t at[256] = {0}, sum = 0;
        for (size_t i = 0; i < n; i++)
            at[items[i] >> shift & 255]++;
        for (unsigned k = 0; k < 256; k++) {
            size_t count = at[k];
            at[k] = sum;
            sum += count;
        }
        for (size_t i = 0; i < n; i++)
            scratch[at[items[i] >> shift & 255]++] = items[i];
        uint64_t *other = items;
        items = scratch;
        scratch = other;
    }
    return items;
}
