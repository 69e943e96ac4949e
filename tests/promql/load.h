/*
 * load.h - what a load command says, put into a memory store.
 */
#ifndef PROMSCALE_TESTS_PROMQL_LOAD_H
#define PROMSCALE_TESTS_PROMQL_LOAD_H

#include "tests/promql/memory.h"
#include "tests/promql/script.h"

/* Scratch memory from `arena`. PS_EINVAL: data that cannot be stored. */
ps_status load_run(ps_arena *arena, const script_load *load, memory_store *into,
                   ps_err *err) PS_MUST_CHECK;
/* load_with_nhcb: what the classic histograms of the block become (nhcb.c). */
ps_status load_nhcb(ps_arena *arena, const script_load *load, memory_store *into,
                    ps_err *err) PS_MUST_CHECK;

#endif
