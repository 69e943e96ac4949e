/*
 * worker.h - the maintenance worker: its settings and its registration (see worker.c).
 */
#ifndef PROMSCALE_WORKER_H
#define PROMSCALE_WORKER_H

void worker_define_settings(void);
void worker_register_launcher(void); /* only while shared_preload_libraries are loaded */

#endif
