/*
 * fdw_explain.c - what EXPLAIN shows of a scan: the conditions that select blocks, the quals that
 * are evaluated once per series, and with ANALYZE what was read. Counts are sums over all rescans and
 * tell of nothing that the caller may not see: they count rows that SPI returned.
 */
#include "fdw.h"

#include "commands/explain.h"
#include "nodes/makefuncs.h"
#include "utils/ruleutils.h"

static void
show_quals(ForeignScanState *node, ExplainState *es, const char *label, List *quals)
{
    if (quals == NIL)
        return;

    List *context = set_deparse_context_plan(es->deparse_cxt, node->ss.ps.plan, NIL);
    bool prefix = list_length(es->rtable) > 1 || es->verbose;
    char *text = deparse_expression((Node *)make_ands_explicit(quals), context, prefix, false);

    ExplainPropertyText(label, text, es);
}

void
fdw_explain(ForeignScanState *node, ExplainState *es)
{
    ForeignScan *plan = castNode(ForeignScan, node->ss.ps.plan);
    fdw_scan *scan = node->fdw_state;

    if (scan == NULL)
        return;
    show_quals(node, es, "Block Cond",
               list_truncate(list_copy(plan->fdw_recheck_quals), scan->n_conds));
    show_quals(node, es, "Series Filter", scan->series_qual_exprs);
    if (!es->analyze)
        return;

    const fdw_counts *counts = &scan->counts;

    if (es->format != EXPLAIN_FORMAT_TEXT) {
        ExplainPropertyInteger("Blocks Read", NULL, (int64)counts->blocks_read, es);
        ExplainPropertyInteger("Blocks Skipped By Series", NULL, (int64)counts->blocks_skipped, es);
        ExplainPropertyInteger("Samples Decoded", NULL, (int64)counts->samples_decoded, es);
        ExplainPropertyInteger("Series Matched", NULL, (int64)counts->series_matched, es);
        ExplainPropertyInteger("Series Total", NULL, (int64)counts->series_total, es);
        return;
    }
    ExplainPropertyText("Blocks",
                        psprintf("read=" UINT64_FORMAT " skipped by series=" UINT64_FORMAT,
                                 counts->blocks_read, counts->blocks_skipped),
                        es);
    ExplainPropertyInteger("Samples Decoded", NULL, (int64)counts->samples_decoded, es);
    ExplainPropertyText("Series",
                        psprintf("matched=" UINT64_FORMAT " total=" UINT64_FORMAT,
                                 counts->series_matched, counts->series_total),
                        es);
}
