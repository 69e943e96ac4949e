/*
 * presence.h - which series have samples in which window (MDL_WINDOW_MS), found out from blocks: what
 * presence.c (reading) and maint_presence.c (keeping it in _prom_data.presence) share.
 */
#ifndef PROMSCALE_PRESENCE_H
#define PROMSCALE_PRESENCE_H

#include "bridge.h"

/* For the sets and readers of one call or step. */
#define PRESENCE_BUDGET ((size_t)1 << 30)

/* Called for each window in which the series has samples; false: out of memory. */
typedef bool (*presence_fn)(void *self, int64 series_id, int64 window_ms);

/* Series number i of a block, its samples in [from, to]. No values are decoded, and times only of a
 * series that spans windows. The array is grown with palloc. PS_ECORRUPT and the like: its times cannot
 * be read. */
typedef struct presence_scratch {
    int64 *t_ms;
    size_t cap;
} presence_scratch;
ps_status presence_of_series(blk_reader *r, uint32 i, int64 from_ms, int64 to_ms,
                             presence_scratch *scratch, presence_fn fn, void *self, ps_err *err);

BRIDGE_NORETURN void presence_no_memory(void);

#endif
