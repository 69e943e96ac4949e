/*
 * presence.h - which series have samples in which window (MDL_WINDOW_MS), found out from blocks: what
 * presence.c (reading) and maint_presence.c (keeping it in _prom_data.presence) share.
 */
#ifndef PROMSCALE_PRESENCE_H
#define PROMSCALE_PRESENCE_H

#include "bridge.h"

#include "utils/array.h"

/* For the sets and readers of one call or step. */
#define PRESENCE_BUDGET ((size_t)1 << 30)

/* Called for series lo to hi and a window in which they have samples; false: out of memory. */
typedef bool (*presence_fn)(void *self, int64 lo, int64 hi, int64 window_ms);

typedef struct presence_scratch {
    int64 *t_ms; /* grown with palloc */
    size_t cap;
} presence_scratch;

/* Series first to end - 1 of a block, which are of one metric and whose samples lie in [t_min, t_max]; what
 * they have in [from, to], which are whole windows. No values are decoded, and times only of series that
 * span windows. PS_ECORRUPT and the like: these times cannot be read. */
typedef struct presence_range {
    blk_reader *reader;
    uint32 first, end;
    int64 t_min_ms, t_max_ms;
    int64 from_ms, to_ms;
} presence_range;
ps_status presence_of_range(const presence_range *range, presence_scratch *scratch, presence_fn fn,
                            void *self, ps_err *err);

/* The bytes of a stored set; PS_ECORRUPT where the server has lost them. What it brings is palloc'ed, or
 * borrowed from the row. */
ps_status presence_set_bytes(Datum set, ps_str *ret, ps_err *err);

/* Ids of the metric's series, of all tenants, that may have samples in the range, which is widened to whole windows.
 * Inside an SPI connection, under the snapshot that the blocks are read with. NULL: the sets do not say (there
 * are none, as before the first fold or after a restore of blocks alone; one is damaged; the user may not read all
 * of them), or there are more than so many. */
ArrayType *presence_of_metric(int32 metric_id, int64 *from_ms, int64 *to_ms, uint64 most);

/* May the user read the sets, and all of them? A policy may hide a set and not its blocks. */
bool presence_may_be_read(void);

BRIDGE_NORETURN void presence_no_memory(void);

#endif
