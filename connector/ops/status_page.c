/*
 * status_page.c - GET /: one page that says what runs here, what came in during the last minute, how to
 * connect Prometheus and how to ask in SQL. Plain HTML and CSS, no script, nothing from elsewhere; all
 * that is not a literal is escaped.
 */
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "connector/ops/ops.h"

static const char head[] =
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<link rel=\"icon\" href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Crect width='16' height='16' rx='4' fill='%23e6522c'/%3E%3Cpath d='M3 11l3-4 3 2 4-5' stroke='white' "
    "stroke-width='1.8' fill='none' stroke-linecap='round' stroke-linejoin='round'/%3E%3C/svg%3E\">\n"
    "<title>Promscale</title>\n<style>\n"
    ":root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--line:#e2e5ea;--text:#1c2430;--soft:#5d6878;"
    "--accent:#c8431f;--code:#f2f4f7;--good:#1f8a4c;--bad:#c62828}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1a2029;--line:#2b3440;--text:#e6eaf0;--soft:#93a0b2;"
    "--accent:#ff8a65;--code:#11161d;--good:#5fd08d;--bad:#ff7b72}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--bg);color:var(--text);font:16px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,"
    "\"Helvetica Neue\",Arial,sans-serif}\n"
    "main{max-width:60rem;margin:0 auto;padding:2.5rem 1.25rem 3rem}\n"
    "header{display:flex;flex-wrap:wrap;align-items:baseline;gap:.25rem .75rem;margin-bottom:1.75rem}\n"
    "h1{font-size:1.75rem;line-height:1.2;margin:0;letter-spacing:-.01em}\n"
    "h2{font-size:1rem;margin:2rem 0 .6rem}\n"
    ".soft{color:var(--soft)}\n"
    ".state{margin-left:auto;font-weight:600}\n.good{color:var(--good)}\n.bad{color:var(--bad)}\n"
    ".grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(13rem,1fr));gap:.75rem}\n"
    ".card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.9rem 1.1rem}\n"
    ".card b{display:block;font-size:1.7rem;line-height:1.25;font-weight:650;font-variant-numeric:tabular-nums}\n"
    ".card small{display:block;color:var(--soft)}\n"
    "pre{margin:.4rem 0 0;padding:.8rem 1rem;background:var(--code);border:1px solid var(--line);border-radius:.5rem;"
    "overflow-x:auto;font:14px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,\"Liberation Mono\",monospace}\n"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.35rem 1.25rem;margin:0}\n"
    "code{font:14px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,\"Liberation Mono\",monospace}\n"
    "dt{color:var(--soft)}\ndd{margin:0;overflow-wrap:anywhere}\n"
    "a{color:var(--accent)}\nnav{display:flex;flex-wrap:wrap;gap:.4rem 1.25rem}\n"
    "</style>\n</head>\n<body>\n<main>\n";

static void
add_escaped(ps_buf *out, ps_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        switch (s.ptr[i]) {
        case '&':
            ps_buf_add_c(out, "&amp;");
            break;
        case '<':
            ps_buf_add_c(out, "&lt;");
            break;
        case '>':
            ps_buf_add_c(out, "&gt;");
            break;
        case '"':
            ps_buf_add_c(out, "&quot;");
            break;
        case '\'':
            ps_buf_add_c(out, "&#39;");
            break;
        default:
            ps_buf_add_char(out, s.ptr[i]);
        }
    }
}

/* 1,234,567 */
static void
add_count(ps_buf *out, double v)
{
    char digits[32];
    int len = snprintf(digits, sizeof(digits), "%.0f", v < 0 ? 0 : v);

    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            ps_buf_add_char(out, ',');
        ps_buf_add_char(out, digits[i]);
    }
}

static void
add_card(ps_buf *out, const char *what, double value, double second, const char *second_is)
{
    ps_buf_addf(out, "<div class=\"card\">%s<b>", what);
    add_count(out, value);
    ps_buf_add_c(out, "</b><small>");
    add_count(out, second);
    ps_buf_addf(out, " %s</small></div>\n", second_is);
}

static void
add_figures(ps_buf *out, connector *c)
{
    recent_figures f;

    recent_figures_get(c->recent, &f);
    double per_second = f.seconds > 0 ? f.delta[RECENT_SAMPLES] / f.seconds : 0;
    if (f.seconds < 55)
        ps_buf_addf(out, "<h2>The last %.0f seconds</h2>\n", f.seconds);
    else
        ps_buf_add_c(out, "<h2>The last minute</h2>\n");
    ps_buf_add_c(out, "<div class=\"grid\">\n");
    add_card(out, "Samples stored", f.delta[RECENT_SAMPLES], round(per_second), "per second");
    add_card(out, "Write requests", f.delta[RECENT_REQUESTS], f.delta[RECENT_FAILED],
             "not answered 2xx");
    add_card(out, "Samples refused", f.delta[RECENT_REFUSED], f.total[RECENT_REFUSED],
             "since the start");
    add_card(out, "Stored since the start", f.total[RECENT_SAMPLES], f.total[RECENT_FLUSHES],
             "transactions");
    ps_buf_add_c(out, "</div>\n");
}

/* The name under which this client reached us, if it is a plain host:port; else our own address. */
static void
add_url(ps_buf *out, const connector *c, const http_request *r)
{
    static const char fine[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]";
    char local[128];
    ps_str host;
    bool plain = http_header(r, "Host", &host) && host.len > 0 && host.len < 256;

    for (size_t i = 0; plain && i < host.len; i++)
        plain = host.ptr[i] != 0 && strchr(fine, host.ptr[i]) != NULL;
    if (plain) {
        ps_buf_add_c(out, "http://");
        ps_buf_add_str(out, host);
        return;
    }
    ops_local_url(c, local, sizeof(local));
    add_escaped(out, ps_str_c(local));
}

static void
add_uptime(ps_buf *out, int64_t since_ms)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    int64_t s = (int64_t)now.tv_sec - since_ms / 1000;
    if (s >= 86400)
        ps_buf_addf(out, "%lld d %lld h", (long long)(s / 86400), (long long)(s % 86400 / 3600));
    else if (s >= 3600)
        ps_buf_addf(out, "%lld h %lld min", (long long)(s / 3600), (long long)(s % 3600 / 60));
    else if (s >= 60)
        ps_buf_addf(out, "%lld min", (long long)(s / 60));
    else
        ps_buf_addf(out, "%lld s", (long long)(s > 0 ? s : 0));
}

static void
add_facts(ps_buf *out, connector *c)
{
    char retention[64], upkeep[256];

    facts_retention(c->facts, retention, sizeof(retention));
    facts_maintenance(c->facts, upkeep, sizeof(upkeep));
    ps_buf_add_c(out, "<h2>In force</h2>\n<div class=\"card\"><dl>\n<dt>Retention</dt><dd>");
    add_escaped(out, ps_str_c(retention));
    ps_buf_add_c(out, "<br><code>SELECT prom_api.set_default_retention_period('30 days');</code> "
                      "<span class=\"soft\">changes it</span></dd>\n<dt>Maintenance</dt><dd>");
    add_escaped(out, ps_str_c(upkeep));
    ps_buf_add_c(out, "<br><code>SELECT * FROM prom_info.maintenance;</code> "
                      "<span class=\"soft\">tells more</span></dd>\n<dt>Data</dt><dd>");
    add_escaped(out, ps_str_c(c->embedded ? embedded_data_dir(c->embedded) : "in your PostgreSQL"));
    ps_buf_add_c(out, "</dd>\n<dt>Listens on</dt><dd>");
    add_escaped(out, ps_str_c(http_server_address(c->http)));
    ps_buf_add_c(out, "</dd>\n<dt>Running for</dt><dd>");
    add_uptime(out, c->started_ms);
    ps_buf_add_c(out, "</dd>\n</dl></div>\n");
}

static void
render_page(ps_buf *out, connector *c, const http_request *r)
{
    bool healthy = connector_ready(c);

    ps_buf_add_c(out, head);
    ps_buf_addf(
        out,
        "<header><h1>Promscale</h1><span class=\"soft\">%s &middot; Prometheus metrics in PostgreSQL</span>"
        "<span class=\"state %s\">&#9679; %s</span></header>\n",
        PROMSCALE_VERSION, healthy ? "good" : "bad",
        healthy ? "ready" : "the database does not answer");
    add_figures(out, c);
    ps_buf_add_c(
        out,
        "<h2>Send metrics</h2>\n<div class=\"soft\">In prometheus.yml:</div>\n<pre>remote_write:\n  - url: ");
    add_url(out, c, r);
    ps_buf_add_c(
        out, "/api/v1/write</pre>\n<h2>Ask in PromQL</h2>\n<div class=\"soft\">As Grafana's data "
             "source Prometheus, or by hand:</div>\n<pre>");
    add_url(out, c, r);
    ps_buf_add_c(out, "\n\npromtool query instant ");
    add_url(out, c, r);
    ps_buf_add_c(out, " 'sum by (job) (up)'</pre>\n<h2>Ask in SQL</h2>\n<pre>");
    add_escaped(out, ps_str_c(c->sql_command));
    ps_buf_add_c(
        out, "</pre>\n<pre>SELECT time, value, val(job_id) AS job, val(instance_id) AS instance\n"
             "  FROM prom_metric.up ORDER BY time DESC LIMIT 10;\n\n"
             "SELECT metric_name, label_keys FROM prom_info.metric ORDER BY 1;</pre>\n");
    add_facts(out, c);
    ps_buf_add_c(out, "<h2>Links</h2>\n<nav><a href=\"");
    add_escaped(out, ps_str_c(c->settings->web_telemetry_path));
    ps_buf_add_c(
        out,
        "\">Own metrics</a><a href=\"/-/ready\">Readiness</a><a href=\"/-/healthy\">Liveness</a>"
        "<a href=\"/healthz\">/healthz</a></nav>\n</main>\n</body>\n</html>\n");
}

void
ops_status_page(http_request *r, void *self)
{
    connector *c = self;
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    render_page(&out, c, r);
    http_set_header(r, "Cache-Control", "no-store");
    http_set_header(r, "Content-Security-Policy",
                    "default-src 'none'; style-src 'unsafe-inline'; img-src data:");
    if (out.failed)
        http_respond_text(r, 503, "no memory");
    else
        http_respond(r, 200, "text/html; charset=utf-8", ps_buf_str(&out));
    ps_buf_done(&out);
}
