/*
 * damage.h - blocks that cannot be read: what a statement does about them.
 *
 * A damaged block costs its own samples and nothing else: it is left out, and a WARNING says so, once
 * a block and statement. Who would rather have no answer sets promscale.damaged_blocks to error. Nobody
 * leaves a block out without calling damage_found(). A block of a kind, format or version that this
 * build does not know is treated alike: PS_EUNSUPPORTED.
 *
 * Here, too: bytes that the server itself cannot bring (a TOAST value with missing chunks, a page whose
 * checksum fails) are damage like any other, so they are asked for inside a subtransaction.
 */
#ifndef PROMSCALE_DAMAGE_H
#define PROMSCALE_DAMAGE_H

#include "bridge.h"

void damage_define_settings(void);

/* Is this status about the block, and not about us? */
static inline bool
damage_is(ps_status status)
{
    return status == PS_ECORRUPT || status == PS_EUNSUPPORTED;
}

/* Warns, or raises if promscale.damaged_blocks says so. table: a constant, with its schema. meta is what
 * the row says, which need not be true. */
void damage_found(const char *table, int64 id, const blk_meta *meta, ps_status status,
                  const ps_err *err);

/* At the end of a scan: tells how many blocks there were beyond those that were named. late: by a scan that has
 * met some, perhaps in a statement before, since a cursor or a prepared statement's portal was closed only now. */
void damage_rest(bool late);

/* Do the row's columns contradict each other? PS_OK or PS_ECORRUPT. */
ps_status damage_check_row(const blk_meta *meta, ps_err *err);

/* Calls fn in a subtransaction; what it allocates in CurrentMemoryContext stays. An error that tells of
 * damage in storage becomes PS_ECORRUPT, any other goes on. Where no subtransaction can be had (the
 * leader of a parallel plan) every error goes on. */
ps_status damage_guarded(void (*fn)(void *arg), void *arg, ps_err *err);

/* The value's bytes from `data`, or its first max_bytes (0: all), in the clear: *ret is palloc'ed, or
 * `data` itself if there was nothing to do. */
ps_status damage_detoast(struct varlena *data, size_t max_bytes, struct varlena **ret, ps_err *err);

#endif
