/*
 * matchers.h - label matchers as the planner's side sees them: which function is what, and what it
 * asks for at this moment. Nothing of it may enter a plan: matchers are resolved when execution starts.
 */
#ifndef PROMSCALE_MATCHERS_H
#define PROMSCALE_MATCHERS_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "nodes/supportnodes.h"

typedef enum matcher_kind {
    MATCHER_NONE,
    MATCHER_EQUAL,
    MATCHER_NOT_EQUAL,
    MATCHER_REGEX,
    MATCHER_NOT_REGEX,
    MATCHER_CONTAINS, /* labels @> json, eq(labels, json) */
} matcher_kind;

/* By the C name of the function that evaluates it. */
matcher_kind matchers_kind(Oid function);

/* What labels ? tag (an equality) and labels @> json ask for: a list of int4[], and a series that
 * passes has at least one id of each. Raises what evaluating them would raise. */
List *matchers_ids_of_tag(Datum tag);
List *matchers_ids_of_json(Datum json);

/* Answers for eq(labels, json), which is a function and no operator. In matchers_estimate.c. */
void matchers_function_share(SupportRequestSelectivity *request);

/* Share of a metric's series for which the function matcher(labels, right) is true; negative if that
 * cannot be said. In fdw_sample.c. */
double matchers_try(PlannerInfo *root, int32 metric_id, Oid matcher, Const *right);

#endif
