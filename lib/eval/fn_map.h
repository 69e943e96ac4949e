/*
 * fn_map.h - what the files with functions over instant vectors share.
 */
#ifndef PROMSCALE_EVAL_FN_MAP_H
#define PROMSCALE_EVAL_FN_MAP_H

#include "lib/eval/internal.h"

/* Takes histograms out of the rows. */
void ev_floats_only(ev_batch *b);
/* minute ... year: which one is told by the call. */
ps_status ev_map_date(const ev_map_call *call, ev_batch *b);

#endif
