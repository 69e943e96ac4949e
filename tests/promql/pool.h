/*
 * pool.h - an executor with threads.
 */
#ifndef PROMSCALE_TESTS_PROMQL_POOL_H
#define PROMSCALE_TESTS_PROMQL_POOL_H

#include "lib/eval/eval.h"

typedef struct pool pool;

pool *pool_new(size_t n_threads); /* NULL: no threads to be had */
void pool_free(pool *p);
ev_executor pool_executor(pool *p); /* one run at a time */

#endif
