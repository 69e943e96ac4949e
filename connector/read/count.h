/*
 * count.h - how many series there are of what, from the label index brought up to date.
 */
#ifndef PROMSCALE_CONNECTOR_READ_COUNT_H
#define PROMSCALE_CONNECTOR_READ_COUNT_H

#include "connector/read/read.h"
#include "lib/index/index.h"

/* A source is used for one count (and for read_sql). What is found borrows from it, until
 * read_source_close. limit: entries of each list. */
ps_status read_count(read_source *src, size_t limit, idx_cardinality *ret,
                     ps_err *err) PS_MUST_CHECK;

#endif
