/*
 * signals.h - the signals that stop the program, blocked in every thread and taken by waiting.
 */
#ifndef PROMSCALE_CONNECTOR_OPS_SIGNALS_H
#define PROMSCALE_CONNECTOR_OPS_SIGNALS_H

#include <stdint.h>

/* SIGINT, SIGTERM and, unless nohup has it ignored, SIGHUP. Call before the first thread starts. */
void signals_block(void);
/* The signal that came within timeout_ms, 0 if none did. */
int signals_wait(int64_t timeout_ms);

#endif
