/*
 * worker.c - the maintenance worker.
 */
#include "postgres.h"

#include "worker.h"

void
worker_define_settings(void)
{
}

void
worker_register_launcher(void)
{
}
