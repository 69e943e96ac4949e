/*
 * hints.c - counter reset hints as they are read back, not as they were appended.
 *
 * Scripts were written over a store that keeps counters in runs: within a run every histogram is known to
 * be no reset, the first of a run is "unknown" (a reset or not: the reader has to look), and gauges are
 * gauges. "reset" is never read. What begins a new run: see begins_run().
 */
#include <stdlib.h>

#include "tests/promql/memory.h"

static bool
same_bounds(const hst_hist *a, const hst_hist *b)
{
    return a->n_bounds == b->n_bounds &&
           (a->n_bounds == 0 || memcmp(a->bounds, b->bounds, a->n_bounds * sizeof(double)) == 0);
}

/* prev is the sample before, NULL if there is none or it was a float. */
static ps_status
begins_run(ps_arena *arena, const hst_hist *prev, const hst_hist *cur, bool *ret)
{
    *ret = true;
    if (prev == NULL || prev->hint == HST_GAUGE || cur->hint == HST_RESET || hst_is_stale(prev))
        return PS_OK;
    if (prev->schema != cur->schema || prev->zero_threshold != cur->zero_threshold ||
        !same_bounds(prev, cur))
        return PS_OK;
    /* What was appended as "not reset" is looked at all the same. */
    const hst_hist *plain;
    PS_TRY(hst_with_hint(arena, cur, HST_UNKNOWN, &plain));
    *ret = hst_detect_reset(prev, plain);
    return PS_OK;
}

ps_status
memory_hints(ps_arena *arena, memory_series *s)
{
    free(s->read);
    s->read = calloc(s->n, sizeof(hst_hist *));
    if (s->read == NULL)
        return PS_ENOMEM;
    const hst_hist *prev = NULL;
    for (size_t i = 0; i < s->n; i++) {
        const hst_hist *cur = s->samples[i].h;
        if (cur != NULL) {
            hst_hint hint = HST_GAUGE;
            if (cur->hint != HST_GAUGE) {
                bool first;
                PS_TRY(begins_run(arena, prev, cur, &first));
                hint = first ? HST_UNKNOWN : HST_NOT_RESET;
            }
            PS_TRY(hst_with_hint(arena, cur, hint, &s->read[i]));
        }
        prev = cur;
    }
    return PS_OK;
}
