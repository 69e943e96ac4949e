/*
 * samples.c - the arrays that a source reads a series into. They only grow; whoever holds an ev_samples
 * uses it for one series after the other.
 */
#include "lib/eval/eval.h"

void
ev_samples_init(ev_samples *s, const ps_alloc *alloc)
{
    memset(s, 0, sizeof *s);
    s->alloc = *alloc;
    ps_arena_init(&s->arena, alloc, 0);
}

void
ev_samples_done(ev_samples *s)
{
    ps_alloc_free(&s->alloc, s->t_ms, s->cap * sizeof *s->t_ms);
    ps_alloc_free(&s->alloc, s->v, s->cap * sizeof *s->v);
    if (s->h != NULL)
        ps_alloc_free(&s->alloc, s->h, s->cap * sizeof *s->h);
    if (s->start_ms != NULL)
        ps_alloc_free(&s->alloc, s->start_ms, s->cap * sizeof *s->start_ms);
    ps_arena_done(&s->arena);
    ps_alloc alloc = s->alloc;
    ev_samples_init(s, &alloc);
}

/* The optional arrays go, so that a series without histograms is seen to have none. */
void
ev_samples_clear(ev_samples *s)
{
    s->n = 0;
    if (s->h != NULL) {
        ps_alloc_free(&s->alloc, s->h, s->cap * sizeof *s->h);
        s->h = NULL;
        ps_arena_reset(&s->arena);
    }
    if (s->start_ms != NULL) {
        ps_alloc_free(&s->alloc, s->start_ms, s->cap * sizeof *s->start_ms);
        s->start_ms = NULL;
    }
}

/* All arrays have the same capacity, or freeing them would need four. A failure half-way frees all. */
static ps_status
grow_all(ev_samples *s, size_t cap)
{
    void *arrays[4] = {s->t_ms, s->v, s->h, s->start_ms};
    const bool wanted[4] = {true, true, s->h != NULL, s->start_ms != NULL};
    void *grown[4] = {NULL, NULL, NULL, NULL};
    for (int i = 0; i < 4; i++) {
        if (!wanted[i])
            continue;
        grown[i] = ps_alloc_new(&s->alloc, cap * 8);
        if (grown[i] == NULL) {
            for (int j = 0; j < i; j++)
                if (grown[j] != NULL)
                    ps_alloc_free(&s->alloc, grown[j], cap * 8);
            return PS_ENOMEM;
        }
        if (s->n > 0)
            memcpy(grown[i], arrays[i], s->n * 8);
        if (i >= 2)
            memset((char *)grown[i] + s->n * 8, 0, (cap - s->n) * 8);
    }
    for (int i = 0; i < 4; i++)
        if (arrays[i] != NULL)
            ps_alloc_free(&s->alloc, arrays[i], s->cap * 8);
    s->t_ms = grown[0];
    s->v = grown[1];
    s->h = grown[2];
    s->start_ms = grown[3];
    s->cap = cap;
    return PS_OK;
}

ps_status
ev_samples_reserve(ev_samples *s, size_t n, bool histograms, bool starts)
{
    _Static_assert(sizeof(void *) == 8 && sizeof(double) == 8, "arrays have items of 8 bytes");
    if (n > s->cap) {
        size_t cap = s->cap < 64 ? 64 : s->cap;
        while (cap < n) {
            if (cap > SIZE_MAX / 32)
                return PS_ENOMEM;
            cap *= 2;
        }
        PS_TRY(grow_all(s, cap));
    }
    if (histograms && s->h == NULL && s->cap > 0) {
        s->h = ps_alloc_array(&s->alloc, s->cap, sizeof *s->h);
        if (s->h == NULL)
            return PS_ENOMEM;
    }
    if (starts && s->start_ms == NULL && s->cap > 0) {
        s->start_ms = ps_alloc_array(&s->alloc, s->cap, sizeof *s->start_ms);
        if (s->start_ms == NULL)
            return PS_ENOMEM;
    }
    return PS_OK;
}
