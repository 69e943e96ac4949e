/*
 * ctx.c - errors, limits and memory of an evaluation.
 *
 * A context belongs to one thread at a time: the query's own, or one of a piece of a leaf. The first
 * failure wins and keeps its text; memory for that text is not counted, so that an exhausted budget can
 * be reported. Samples and bytes are counted for the query as a whole, with atomics.
 */
#include "lib/eval/query.h"

enum { MAX_ERROR_BYTES = 64 * 1024 };

void
ev_ctx_init(ev_ctx *c, ev_query *q, ev_notes *notes)
{
    memset(c, 0, sizeof *c);
    c->q = q;
    c->notes = notes;
    ps_buf_init(&c->error, &q->env.alloc);
    c->error.max = MAX_ERROR_BYTES;
}

void
ev_ctx_done(ev_ctx *c)
{
    ps_buf_done(&c->error);
}

ps_status
ev_ctx_take(ev_ctx *c, ev_ctx *piece)
{
    if (piece->failed != PS_OK)
        return ev_fail_str(c, piece->failed, ps_buf_str(&piece->error));
    return PS_OK;
}

ps_status
ev_fail(ev_ctx *c, ps_status code, const char *fmt, ...)
{
    if (c->failed != PS_OK)
        return c->failed;
    va_list args;
    va_start(args, fmt);
    ps_buf_addv(&c->error, fmt, args);
    va_end(args);
    c->failed = code;
    return code;
}

ps_status
ev_fail_str(ev_ctx *c, ps_status code, ps_str text)
{
    if (c->failed != PS_OK)
        return c->failed;
    ps_buf_add_str(&c->error, text);
    c->failed = code;
    return code;
}

ps_status
ev_no_memory(ev_ctx *c)
{
    ev_query *q = c->q;
    if (atomic_load_explicit(&q->budget.refused, memory_order_relaxed))
        return ev_fail(c, PS_ELIMIT, "query needs more memory than its limit of %zu bytes",
                       q->budget.max);
    return ev_fail(c, PS_ENOMEM, "out of memory");
}

ps_status
ev_poll(ev_ctx *c)
{
    const ev_env *env = &c->q->env;
    if (env->poll == NULL)
        return PS_OK;
    ps_status status = env->poll(env->poll_self);
    if (PS_LIKELY(status == PS_OK))
        return PS_OK;
    if (status == PS_ETIMEOUT)
        return ev_fail(c, status, "query timed out in expression evaluation");
    return ev_fail(c, status, "query was canceled in expression evaluation");
}

ps_status
ev_hold(ev_ctx *c, int64_t samples)
{
    ev_query *q = c->q;
    int64_t now = atomic_fetch_add_explicit(&q->held, samples, memory_order_relaxed) + samples;
    if (samples <= 0)
        return PS_OK;
    if (now > 0 && (uint64_t)now > q->options.max_samples)
        return ev_fail(c, PS_ELIMIT,
                       "query processing would load too many samples into memory in "
                       "query execution");
    int_least64_t peak = atomic_load_explicit(&q->peak_held, memory_order_relaxed);
    while (now > peak &&
           !atomic_compare_exchange_weak_explicit(&q->peak_held, &peak, now, memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
    return PS_OK;
}

void
ev_release(ev_ctx *c, int64_t samples)
{
    atomic_fetch_sub_explicit(&c->q->held, samples, memory_order_relaxed);
}

ps_arena *
ev_arena(ev_ctx *c)
{
    return &c->q->arena;
}

const ps_alloc *
ev_alloc(ev_ctx *c)
{
    return &c->q->alloc;
}

const ev_options *
ev_query_options(const ev_ctx *c)
{
    return &c->q->options;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* What the node that runs has more, or less, of. */
static void
count_heap(ev_profile *p, size_t old_size, size_t new_size)
{
    int_least64_t more = (int_least64_t)new_size - (int_least64_t)old_size;
    int_least64_t used = atomic_fetch_add_explicit(&p->used, more, memory_order_relaxed) + more;
    int_least64_t peak = atomic_load_explicit(&p->peak, memory_order_relaxed);
    while (used > peak &&
           !atomic_compare_exchange_weak_explicit(&p->peak, &peak, used, memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

static void *
budget_realloc(void *self, void *old, size_t old_size, size_t new_size)
{
    ev_budget *b = self;
    if (new_size > old_size) {
        size_t more = new_size - old_size;
        size_t used = atomic_fetch_add_explicit(&b->used, more, memory_order_relaxed) + more;
        if (used < more || (b->max > 0 && used > b->max)) {
            atomic_fetch_sub_explicit(&b->used, more, memory_order_relaxed);
            atomic_store_explicit(&b->refused, true, memory_order_relaxed);
            return NULL;
        }
        size_t peak = atomic_load_explicit(&b->peak, memory_order_relaxed);
        while (used > peak &&
               !atomic_compare_exchange_weak_explicit(&b->peak, &peak, used, memory_order_relaxed,
                                                      memory_order_relaxed))
            ;
    }
    void *p = b->under.realloc(b->under.self, old, old_size, new_size);
    if (new_size > old_size && p == NULL)
        atomic_fetch_sub_explicit(&b->used, new_size - old_size, memory_order_relaxed);
    else if (new_size < old_size && (p != NULL || new_size == 0))
        atomic_fetch_sub_explicit(&b->used, old_size - new_size, memory_order_relaxed);
    return p;
}

static void *
node_realloc(void *self, void *old, size_t old_size, size_t new_size)
{
    ev_budget *b = self;
    void *p = budget_realloc(self, old, old_size, new_size);
    if (PS_UNLIKELY(b->profile != NULL) && (p != NULL || new_size == 0))
        count_heap(b->profile, old_size, new_size);
    return p;
}

void
ev_budget_init(ev_budget *b, const ps_alloc *under, size_t max)
{
    b->under = *under;
    b->max = max;
    atomic_init(&b->used, 0);
    atomic_init(&b->peak, 0);
    atomic_init(&b->refused, false);
    b->profile = NULL;
}

ps_alloc
ev_budget_alloc(ev_budget *b)
{
    return (ps_alloc){node_realloc, b};
}

ps_alloc
ev_budget_arena_alloc(ev_budget *b)
{
    return (ps_alloc){budget_realloc, b};
}
