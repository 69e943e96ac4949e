/*
 * fdw_explain.c - what EXPLAIN shows of a scan: the conditions that select blocks, the quals that
 * are evaluated once per series, and with ANALYZE what was read. Counts are sums over all rescans and
 * tell of nothing that the caller may not see: they count rows that SPI returned.
 */
#include "fdw.h"

#include "commands/explain.h"
#include "nodes/makefuncs.h"
#include "utils/ruleutils.h"

char *
fdw_explain_exprs(ForeignScanState *node, ExplainState *es, Node *exprs)
{
    List *context = set_deparse_context_plan(es->deparse_cxt, node->ss.ps.plan, NIL);
    bool prefix = list_length(es->rtable) > 1 || es->verbose;

    return deparse_expression(exprs, context, prefix, false);
}

/* Of the plan's recheck quals, which are all quals that the node deals with itself, n from first on. */
void
fdw_explain_quals(ForeignScanState *node, ExplainState *es, const char *label, int first, int n)
{
    List *quals = ((ForeignScan *)node->ss.ps.plan)->fdw_recheck_quals;

    quals = list_truncate(list_copy_tail(quals, first), n);
    if (quals != NIL)
        ExplainPropertyText(label, fdw_explain_exprs(node, es, (Node *)make_ands_explicit(quals)),
                            es);
}

void
fdw_explain(ForeignScanState *node, ExplainState *es)
{
    if (node->fdw_state != NULL)
        fdw_explain_scan(node, node->fdw_state, es);
}

void
fdw_explain_scan(ForeignScanState *node, fdw_scan *scan, ExplainState *es)
{
    fdw_explain_quals(node, es, "Block Cond", 0, scan->n_conds);
    fdw_explain_quals(node, es, "Series Filter", scan->n_conds, scan->n_series_quals);
    if (!es->analyze)
        return;

    const fdw_counts *counts = &scan->counts;

    if (counts->blocks_damaged > 0)
        ExplainPropertyInteger("Damaged Blocks", NULL, (int64)counts->blocks_damaged, es);
    if (es->format != EXPLAIN_FORMAT_TEXT) {
        ExplainPropertyInteger("Blocks Read", NULL, (int64)counts->blocks_read, es);
        ExplainPropertyInteger("Block Heads Read", NULL, (int64)counts->blocks_heads, es);
        ExplainPropertyInteger("Blocks Skipped By Series", NULL, (int64)counts->blocks_skipped, es);
        ExplainPropertyInteger("Samples Decoded", NULL, (int64)counts->samples_decoded, es);
        ExplainPropertyInteger("Series Matched", NULL, (int64)counts->series_matched, es);
        ExplainPropertyInteger("Series Total", NULL, (int64)counts->series_total, es);
        return;
    }
    const char *heads =
        counts->blocks_heads == 0 ? "" : psprintf(" heads=" UINT64_FORMAT, counts->blocks_heads);

    ExplainPropertyText("Blocks",
                        psprintf("read=" UINT64_FORMAT "%s skipped by series=" UINT64_FORMAT,
                                 counts->blocks_read, heads, counts->blocks_skipped),
                        es);
    ExplainPropertyInteger("Samples Decoded", NULL, (int64)counts->samples_decoded, es);
    ExplainPropertyText("Series",
                        psprintf("matched=" UINT64_FORMAT " total=" UINT64_FORMAT,
                                 counts->series_matched, counts->series_total),
                        es);
}
