/*
 * pending.c - parts of the engine that are not here yet. Whoever brings a part takes its
 * lines away; the file goes with the last one.
 */
#include "lib/eval/internal.h"

ps_status
ev_build_info(ev_ctx *c, const pql_expr *e, const ev_grid *grid, ev_node **ret)
{
    (void)c;
    (void)e;
    (void)grid;
    *ret = NULL;
    return PS_EUNSUPPORTED;
}
