/*
 * find.h - which series there are: matcher sets and a window of time to series, to label names, or to
 * the values of a label. No sample is read: what lived when is known to the chunk window (PRESENCE:
 * eight hours, aligned to UTC) from the database's presence sets (docs/read-path.md).
 *
 * As with queries, whoever asks sees what was acknowledged before. A read_source is used for one
 * finding or one query; what was found borrows from it and is valid until read_source_close. Memory
 * counts against the source's bytes (PS_ELIMIT), read_source_cancel and its deadline end it.
 */
#ifndef PROMSCALE_CONNECTOR_READ_FIND_H
#define PROMSCALE_CONNECTOR_READ_FIND_H

#include "connector/read/read.h"
#include "lib/index/index.h"

typedef struct read_match { /* a match[]: a series must match all of them; borrowed */
    const mdl_matcher *matchers;
    size_t n;
} read_match;

/* Series that match any of the sets (none given: all series) and have samples in a chunk window that
 * [from, to] touches. */
typedef struct read_finding {
    const read_match *sets;
    size_t n_sets;
    int64_t from_ms, to_ms; /* inclusive; INT64_MIN and INT64_MAX: at any time, or never yet */
    /* Where the index does not hold all series: from when to when, if at any time; 0: since the time that it
     * was loaded with. */
    int64_t around_from_ms, around_to_ms;
    size_t limit;           /* of series: the first so many; 0 = all */
} read_finding;

/* Ascending by mdl_labels_cmp, each series once. *ret_tenant_id (may be NULL) is set if there are any. */
ps_status read_find(read_source *src, const read_finding *what, idx_found *ret,
                    int32_t *ret_tenant_id, ps_err *err) PS_MUST_CHECK;
/* Names of the labels that such series have, ascending; `limit` does not matter. */
ps_status read_find_names(read_source *src, const read_finding *what, idx_texts *ret,
                          ps_err *err) PS_MUST_CHECK;
/* Values of a label that such series have, ascending. */
ps_status read_find_values(read_source *src, const read_finding *what, ps_str name, idx_texts *ret,
                           ps_err *err) PS_MUST_CHECK;
/* After a finding at any time: only series that have lived since then were looked for. */
bool read_found_since(const read_source *src, int64_t *ret_ms);

#endif
