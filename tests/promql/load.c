/*
 * load.c - what a load command says, put into a memory store.
 */
#include "tests/promql/load.h"

static ps_status
load_item(const script_load_item *item, int64_t step_ms, memory_store *into, ps_err *err)
{
    for (size_t i = 0; i < item->series.values.n; i++) {
        const script_value *value = &item->series.values.items[i];
        if (value->omitted)
            continue;
        memory_sample sample = {.t_ms = (int64_t)i * step_ms, .v = value->v, .h = value->h};
        if (item->starts.n > 0 && !item->starts.items[i].omitted)
            sample.start_ms = sample.t_ms + (int64_t)item->starts.items[i].v;
        PS_TRY(memory_append(into, item->series.labels, &sample, err));
    }
    return PS_OK;
}

ps_status
load_run(ps_arena *arena, const script_load *load, memory_store *into, ps_err *err)
{
    for (size_t i = 0; i < load->n; i++)
        PS_TRY(load_item(&load->items[i], load->step_ms, into, err));
    if (load->nhcb)
        PS_TRY(load_nhcb(arena, load, into, err));
    if (memory_settle(into) != PS_OK)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    return PS_OK;
}
