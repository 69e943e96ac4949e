/*
 * compat.h - the only file that asks for PG_VERSION_NUM. PostgreSQL 15 is the oldest server that we
 * build for; 16 to 18 differ in the few places below. Code elsewhere uses the names from here.
 */
#ifndef PROMSCALE_COMPAT_H
#define PROMSCALE_COMPAT_H

#include "postgres.h"

#include "commands/explain.h"
#include "optimizer/pathnode.h"
#include "tcop/pquery.h"
#include "utils/selfuncs.h"

#if PG_VERSION_NUM < 150000
#error "promscale needs PostgreSQL 15 or later"
#endif

/* 18 split the EXPLAIN headers: the state and the property writers have files of their own. */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

/* 16 moved varatt macros out of postgres.h. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 16 made integer and pointer Datum conversions inline functions; nothing to do, but varlena keeps
 * its macros in both. 18 spells "does not return" as pg_noreturn before the declaration. */
#if PG_VERSION_NUM >= 180000
#define BRIDGE_NORETURN pg_noreturn
#else
#define BRIDGE_NORETURN __attribute__((noreturn))
#endif

/* A path of a base relation without an outer path; 17 added fdw_restrictinfo, 18 disabled_nodes. */
static inline ForeignPath *
compat_foreignscan_path(PlannerInfo *root, RelOptInfo *rel, double rows, Cost startup, Cost total,
                        List *pathkeys, Relids required_outer, List *fdw_private)
{
#if PG_VERSION_NUM >= 180000
    return create_foreignscan_path(root, rel, NULL, rows, 0, startup, total, pathkeys,
                                   required_outer, NULL, NIL, fdw_private);
#elif PG_VERSION_NUM >= 170000
    return create_foreignscan_path(root, rel, NULL, rows, startup, total, pathkeys, required_outer,
                                   NULL, NIL, fdw_private);
#else
    return create_foreignscan_path(root, rel, NULL, rows, startup, total, pathkeys, required_outer,
                                   NULL, fdw_private);
#endif
}

/* A path of an upper relation; the same two additions. */
static inline ForeignPath *
compat_foreign_upper_path(PlannerInfo *root, RelOptInfo *rel, PathTarget *target, double rows,
                          Cost startup, Cost total)
{
#if PG_VERSION_NUM >= 180000
    return create_foreign_upper_path(root, rel, target, rows, 0, startup, total, NIL, NULL, NIL,
                                     NIL);
#elif PG_VERSION_NUM >= 170000
    return create_foreign_upper_path(root, rel, target, rows, startup, total, NIL, NULL, NIL, NIL);
#else
    return create_foreign_upper_path(root, rel, target, rows, startup, total, NIL, NULL, NIL);
#endif
}

/* Guess at the number of elements of an array expression; 17 added root and made it a double. */
static inline double
compat_array_length(PlannerInfo *root, Node *array)
{
#if PG_VERSION_NUM >= 170000
    return estimate_array_length(root, array);
#else
    return estimate_array_length(array);
#endif
}

/* Runs a portal to its end; 18 dropped the argument that said it would run once only. */
static inline bool
compat_portal_run(Portal portal, long count, bool top_level, DestReceiver *dest, DestReceiver *alt,
                  QueryCompletion *qc)
{
#if PG_VERSION_NUM >= 180000
    return PortalRun(portal, count, top_level, dest, alt, qc);
#else
    return PortalRun(portal, count, top_level, true, dest, alt, qc);
#endif
}

#endif
