/*
 * count.c - see count.h. Looking for a series that cannot be brings the index up to date and costs next to
 * nothing; what is in it is then counted.
 */
#include "connector/read/count.h"

#include "connector/read/find.h"
#include "connector/read/internal.h"

static bool
should_stop(void *self)
{
    return read_should_stop(self);
}

ps_status
read_count(read_source *src, size_t limit, idx_cardinality *ret, ps_err *err)
{
    const mdl_matcher nobody = {MDL_MATCH_EQ, PS_STR(MDL_METRIC_NAME), {"\xff", 1}}; /* not UTF-8 */
    const read_match set = {&nobody, 1};
    const read_finding finding = {
        .sets = &set, .n_sets = 1, .from_ms = INT64_MIN, .to_ms = INT64_MAX, .limit = 1};
    idx_found none;

    PS_TRY(read_find(src, &finding, &none, NULL, err));
    idx_cardinality_query q = {.limit = limit, .should_stop = should_stop, .self = src};
    ps_status status = label_view_count(src->view, (ps_str){src->tenant, src->tenant_len}, &q,
                                        &src->arena, ret, err);
    if (status == PS_ENOMEM)
        return read_no_memory(src, err);
    if (status == PS_ECANCELED && !atomic_load(&src->cancelled))
        return ps_fail(err, PS_ETIMEOUT, "the request timed out while counting series");
    return status;
}
