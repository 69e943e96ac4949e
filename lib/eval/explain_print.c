/*
 * explain_print.c - a plan as text, indented like PostgreSQL's, and as one JSON object.
 *
 * Depth is bounded by the parser, so this may recurse.
 */
#include "lib/eval/eval.h"

enum { INDENT = 6 };

/* ---- text -------------------------------------------------------------------------------------------- */

static void
add_bytes(ps_buf *out, uint64_t bytes)
{
    static const char *const units[] = {"kB", "MB", "GB", "TB"};
    if (bytes < 1024) {
        ps_buf_addf(out, "%llu bytes", (unsigned long long)bytes);
        return;
    }
    size_t unit = 0;
    uint64_t whole = (bytes >> 10) + ((bytes & 1023) != 0);
    for (; whole >= 10240 && unit + 1 < PS_ARRAY_LEN(units); unit++)
        whole = (whole >> 10) + ((whole & 1023) != 0);
    ps_buf_addf(out, "%llu %s", (unsigned long long)whole, units[unit]);
}

static void
add_ms(ps_buf *out, int64_t ns)
{
    ns = ns < 0 ? 0 : ns;
    ps_buf_addf(out, "%lld.%03lld ms", (long long)(ns / 1000000), (long long)(ns / 1000 % 1000));
}

static void
add_reading_text(ps_buf *out, const ev_reading *r)
{
    ps_buf_addf(out, "series=%llu blocks=%llu samples=%llu bytes=", (unsigned long long)r->series,
                (unsigned long long)r->blocks, (unsigned long long)r->samples);
    add_bytes(out, r->bytes);
}

static void
add_spaces(ps_buf *out, size_t n)
{
    while (n-- > 0)
        ps_buf_add_char(out, ' ');
}

static void
node_text(ps_buf *out, const ev_plan *plan, const ev_plan_node *n, size_t depth)
{
    if (depth > 0) {
        add_spaces(out, depth * INDENT - 4);
        ps_buf_add_c(out, "->  ");
    }
    ps_buf_addf(out, "%s, %s: ", n->kind, n->what);
    ps_buf_add_str(out, n->text);
    ps_buf_addf(out, "  (steps=%zu series=%llu memory=", n->n_steps,
                (unsigned long long)n->estimated.series);
    add_bytes(out, n->estimated.bytes);
    if (plan->analyzed) {
        ps_buf_addf(out, ") (actual series=%llu points=%llu memory=",
                    (unsigned long long)n->actual.series, (unsigned long long)n->actual.points);
        add_bytes(out, n->actual.bytes);
        ps_buf_add_c(out, " time=");
        add_ms(out, n->actual.total_ns);
        ps_buf_add_c(out, " self=");
        add_ms(out, n->actual.self_ns);
    }
    ps_buf_add_c(out, ")\n");
    if (n->reads) {
        add_spaces(out, depth * INDENT + 2);
        ps_buf_addf(out, "Reads%s: ", n->newest_only ? " newest samples" : "");
        add_reading_text(out, &n->estimated_reading);
        if (plan->analyzed) {
            ps_buf_add_c(out, " (actual ");
            add_reading_text(out, &n->actual_reading);
            ps_buf_add_char(out, ')');
        }
        ps_buf_add_char(out, '\n');
    }
    for (size_t i = 0; i < n->n_kids; i++)
        node_text(out, plan, n->kids[i], depth + 1);
}

static void
totals_text(ps_buf *out, const char *what, const ev_reading *r, uint64_t bytes)
{
    ps_buf_addf(out, "%s: blocks=%llu samples=%llu bytes=", what, (unsigned long long)r->blocks,
                (unsigned long long)r->samples);
    add_bytes(out, r->bytes);
    ps_buf_add_c(out, " memory=");
    add_bytes(out, bytes);
    ps_buf_add_char(out, '\n');
}

void
ev_plan_text(ps_buf *out, const ev_plan *p)
{
    node_text(out, p, p->root, 0);
    totals_text(out, "Estimated", &p->estimated_reading, p->estimated_bytes);
    if (p->analyzed)
        totals_text(out, "Actual", &p->actual_reading, p->actual_bytes);
    ps_buf_add_c(out, "Estimating Time: ");
    add_ms(out, p->estimating_ns);
    ps_buf_add_char(out, '\n');
    if (!p->analyzed)
        return;
    ps_buf_add_c(out, "Execution Time: ");
    add_ms(out, p->running_ns);
    ps_buf_add_char(out, '\n');
}

/* ---- JSON -------------------------------------------------------------------------------------------- */

/* Also hides what may end up in a page. */
static void
add_json_text(ps_buf *out, ps_str s)
{
    ps_buf_add_char(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c == '"' || c == '\\') {
            ps_buf_add_char(out, '\\');
            ps_buf_add_char(out, (char)c);
        } else if (c < 0x20 || c == '<' || c == '>' || c == '&')
            ps_buf_addf(out, "\\u%04x", c);
        else
            ps_buf_add_char(out, (char)c);
    }
    ps_buf_add_char(out, '"');
}

static void
add_seconds(ps_buf *out, int64_t ns)
{
    ns = ns < 0 ? 0 : ns;
    ps_buf_addf(out, "%lld.%09lld", (long long)(ns / 1000000000), (long long)(ns % 1000000000));
}

static void
add_time(ps_buf *out, int64_t ms)
{
    uint64_t size = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;
    ps_buf_addf(out, "%s%llu.%03llu", ms < 0 ? "-" : "", (unsigned long long)(size / 1000),
                (unsigned long long)(size % 1000));
}

static void
add_reading_json(ps_buf *out, const char *key, const ev_reading *r)
{
    ps_buf_addf(out, ",\"%s\":{\"series\":%llu,\"blocks\":%llu,\"samples\":%llu,\"bytes\":%llu}",
                key, (unsigned long long)r->series, (unsigned long long)r->blocks,
                (unsigned long long)r->samples, (unsigned long long)r->bytes);
}

static void
reads_json(ps_buf *out, const ev_plan *plan, const ev_plan_node *n)
{
    ps_buf_add_c(out, ",\"reads\":{\"start\":");
    add_time(out, n->from_ms);
    ps_buf_add_c(out, ",\"end\":");
    add_time(out, n->to_ms);
    ps_buf_addf(out, ",\"newestOnly\":%s", n->newest_only ? "true" : "false");
    add_reading_json(out, "estimated", &n->estimated_reading);
    if (plan->analyzed)
        add_reading_json(out, "actual", &n->actual_reading);
    ps_buf_add_char(out, '}');
}

static void
node_json(ps_buf *out, const ev_plan *plan, const ev_plan_node *n)
{
    ps_buf_addf(out, "{\"kind\":\"%s\",\"what\":\"%s\",\"query\":", n->kind, n->what);
    add_json_text(out, n->text);
    ps_buf_addf(out, ",\"steps\":%zu,\"estimated\":{\"series\":%llu,\"memoryBytes\":%llu}",
                n->n_steps, (unsigned long long)n->estimated.series,
                (unsigned long long)n->estimated.bytes);
    if (plan->analyzed) {
        ps_buf_addf(out, ",\"actual\":{\"series\":%llu,\"points\":%llu,\"memoryBytes\":%llu",
                    (unsigned long long)n->actual.series, (unsigned long long)n->actual.points,
                    (unsigned long long)n->actual.bytes);
        ps_buf_add_c(out, ",\"totalTime\":");
        add_seconds(out, n->actual.total_ns);
        ps_buf_add_c(out, ",\"selfTime\":");
        add_seconds(out, n->actual.self_ns);
        ps_buf_add_char(out, '}');
    }
    if (n->reads)
        reads_json(out, plan, n);
    ps_buf_add_c(out, ",\"children\":[");
    for (size_t i = 0; i < n->n_kids; i++) {
        if (i > 0)
            ps_buf_add_char(out, ',');
        node_json(out, plan, n->kids[i]);
    }
    ps_buf_add_c(out, "]}");
}

static void
totals_json(ps_buf *out, const char *key, const ev_reading *r, uint64_t bytes)
{
    ps_buf_addf(out,
                "\"%s\":{\"blocks\":%llu,\"samples\":%llu,\"bytes\":%llu,\"memoryBytes\":%llu},",
                key, (unsigned long long)r->blocks, (unsigned long long)r->samples,
                (unsigned long long)r->bytes, (unsigned long long)bytes);
}

void
ev_plan_json(ps_buf *out, const ev_plan *p)
{
    ps_buf_add_char(out, '{');
    totals_json(out, "estimated", &p->estimated_reading, p->estimated_bytes);
    if (p->analyzed)
        totals_json(out, "actual", &p->actual_reading, p->actual_bytes);
    ps_buf_add_c(out, "\"estimatingTime\":");
    add_seconds(out, p->estimating_ns);
    if (p->analyzed) {
        ps_buf_add_c(out, ",\"executionTime\":");
        add_seconds(out, p->running_ns);
    }
    ps_buf_add_c(out, ",\"plan\":");
    node_json(out, p, p->root);
    ps_buf_add_char(out, '}');
}
