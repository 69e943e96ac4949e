/*
 * verify.h - what prom_api.verify() does with the rows of one table: walks them page range by page range
 * and says what is wrong with each. Private to verify.c (the walk) and verify_block.c (one row).
 *
 * Everything is reported and nothing raised, so that one damaged page or row does not hide the next.
 * Memory: rows of some pages, and one block; both contexts are reset as the walk goes on.
 */
#ifndef PROMSCALE_VERIFY_H
#define PROMSCALE_VERIFY_H

#include "bridge.h"
#include "presence.h"

#include "executor/spi.h"
#include "funcapi.h"
#include "utils/hsearch.h"

typedef struct verify_known { /* a series, as the catalog has it */
    int64 id;
    int32 metric_id, tenant_id; /* metric 0: it has none */
} verify_known;

typedef struct verify {
    ReturnSetInfo *rsinfo;
    int16 level;           /* that rows of this table have */
    int64 from_ms, to_ms;  /* [from, to): where its rows lie, all of each */
    int64 boundary_ms;     /* of merged rows: cells before it are days, from it on hours */
    int64 last_id;         /* that the sequence gave out; PG_INT64_MAX: not to be asked */
    bool deep;
    bool series_seen;      /* nothing of the catalog is hidden from the caller */
    MemoryContext context; /* of the call */
    MemoryContext row_context;
    HTAB *series; /* verify_known; emptied when there are too many */
    /* deep: the set of series of one window, as it was loaded last */
    MemoryContext set_context;
    bridge_alloc set_memory;
    mdl_ids set;
    int32 set_tenant, set_metric;
    int64 set_window_ms;
    bool set_good;
} verify;

typedef struct verify_row {
    int64 id;
    blk_meta meta;
} verify_row;

/* One line of the answer; row NULL: about the table. */
void verify_put(verify *v, const verify_row *row, const char *problem);

/* Looks at a row: id, BRIDGE_META_COLUMNS, data. Inside SPI, in row_context. */
void verify_look(verify *v, HeapTuple tuple, TupleDesc desc);

#endif
