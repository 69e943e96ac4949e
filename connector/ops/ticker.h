/*
 * ticker.h - a thread that does one thing at fixed intervals and can be stopped while it waits.
 */
#ifndef PROMSCALE_CONNECTOR_OPS_TICKER_H
#define PROMSCALE_CONNECTOR_OPS_TICKER_H

#include "lib/base/base.h"

typedef struct ticker ticker;

/* work is called every interval_ms, first after first_ms. Beats that are missed are left out. */
ps_status ticker_start(int64_t first_ms, int64_t interval_ms, void (*work)(void *self), void *self,
                       ticker **ret, ps_err *err) PS_MUST_CHECK;
void ticker_stop(ticker *t); /* waits for the work under way, frees; NULL does nothing */

#endif
