/*
 * export.c - a script as lines of JSON, for those who run it elsewhere: through HTTP, through SQL.
 *
 *   {"line":3,"plain":true,"store":[{"metric":{..},"values":[[t_ms,"bits in hex",start_ms],..]},..]}
 *   {"line":7,"query":"..","start":0,"end":0,"step":0,"answer":{"resultType":..},"spelled":[["..",..],..]}
 *   or "error":".."
 *
 * A line with the whole store comes before the first question over it; plain: nothing but floats without
 * start timestamps (0: not known) is in it. A histogram stands as {{...}}, with the hint with which it is
 * read, {{stale}} if that is what it is; spelled: those of each series of the answer, likewise. Answers are those of the engine over series in memory; that they are what the script expects is
 * what running the script shows.
 */
#include "tests/promql/compare.h"
#include "tests/promql/load.h"
#include "tests/promql/run.h"

static void
export_histogram(ps_buf *out, const hst_hist *h)
{
    ps_buf_add_c(out, "{{");
    if (hst_is_stale(h))
        ps_buf_add_c(out, "stale");
    else if (hst_spell(out, h, 1 << 24) != PS_OK)
        ps_buf_add_c(out, "too wide");
    ps_buf_add_c(out, "}}");
}

static void
export_spelled(ps_buf *out, const ev_result *r)
{
    ps_buf_add_c(out, ",\"spelled\":[");
    for (size_t i = 0; i < r->n; i++) {
        const ev_result_series *s = &r->series[i];
        bool first = true;

        ps_buf_add_c(out, i > 0 ? ",[" : "[");
        for (size_t k = 0; s->h != NULL && k < s->n; k++) {
            if (s->h[k] == NULL)
                continue;
            ps_buf_add_c(out, first ? "\"" : ",\"");
            export_histogram(out, s->h[k]);
            ps_buf_add_char(out, '"');
            first = false;
        }
        ps_buf_add_char(out, ']');
    }
    ps_buf_add_char(out, ']');
}

static void
export_series(ps_buf *out, const memory_series *s)
{
    ps_buf_add_c(out, "{\"metric\":{");
    for (size_t i = 0; i < s->labels.n; i++) {
        ps_buf_add_c(out, i > 0 ? "," : "");
        print_json_text(out, s->labels.items[i].name);
        ps_buf_add_char(out, ':');
        print_json_text(out, s->labels.items[i].value);
    }
    ps_buf_add_c(out, "},\"values\":[");
    for (size_t i = 0; i < s->n; i++) {
        const memory_sample *x = &s->samples[i];

        ps_buf_addf(out, "%s[%lld,\"", i > 0 ? "," : "", (long long)x->t_ms);
        if (x->h != NULL)
            export_histogram(out, s->read != NULL && s->read[i] != NULL ? s->read[i] : x->h);
        else
            ps_buf_addf(out, "%016llx", (unsigned long long)ps_bits_of(x->v));
        ps_buf_addf(out, "\",%lld]", (long long)x->start_ms);
    }
    ps_buf_add_c(out, "]}");
}

static void
export_store(ps_buf *out, const memory_store *store, size_t line)
{
    bool plain = true;
    for (size_t i = 0; i < store->n; i++)
        plain = plain && !store->series[i]->histograms && !store->series[i]->starts;
    ps_buf_addf(out, "{\"line\":%zu,\"plain\":%s,\"store\":[", line, plain ? "true" : "false");
    for (size_t i = 0; i < store->n; i++) {
        ps_buf_add_c(out, i > 0 ? "," : "");
        export_series(out, store->series[i]);
    }
    ps_buf_add_c(out, "]}\n");
}

static void
export_eval(ps_buf *out, const script_command *c, const memory_store *store)
{
    const script_eval *e = &c->eval;
    run_query r;
    ps_buf_addf(out, "{\"line\":%zu,\"query\":", c->line);
    print_json_text(out, e->expr);
    ps_buf_addf(out, ",\"start\":%lld,\"end\":%lld,\"step\":%lld,", (long long)e->start_ms,
                (long long)e->end_ms, (long long)e->step_ms);
    ps_status status = run_query_start(&r, store, &ev_serial, e->expr, e->start_ms, e->end_ms,
                                       e->range ? e->step_ms : 0);
    if (status == PS_OK) {
        ps_buf_add_c(out, "\"answer\":");
        size_t from = out->len;
        print_result(out, r.result);
        for (size_t i = from; i < out->len; i++) {
            if (out->ptr[i] == '\n') /* between series: texts have none */
                out->ptr[i] = ' ';
        }
        export_spelled(out, r.result);
    } else {
        ps_buf_add_c(out, "\"error\":");
        print_json_text(out, run_query_error(&r));
    }
    ps_buf_add_c(out, "}\n");
    run_query_done(&r);
}

ps_status
run_export(ps_str text, FILE *to, ps_err *err)
{
    script s;
    script_command c;
    ps_arena arena;
    memory_store store;
    ps_buf out;
    bool changed = true;
    ps_status status;
    script_open(&s, text);
    memory_init(&store);
    ps_arena_init(&arena, &ps_malloc, 0);
    ps_buf_init(&out, &ps_malloc);
    do {
        ps_arena_reset(&arena);
        status = script_next(&s, &arena, &c, err);
        if (status == PS_OK && c.kind == SCRIPT_CLEAR)
            memory_clear(&store);
        if (status == PS_OK && c.kind == SCRIPT_LOAD)
            status = load_run(&arena, &c.load, &store, err);
        if (status == PS_OK && c.kind == SCRIPT_EVAL) {
            if (changed)
                export_store(&out, &store, c.line);
            export_eval(&out, &c, &store);
        }
        changed = c.kind != SCRIPT_EVAL;
        script_command_done(&c);
        fwrite(out.ptr, 1, out.len, to);
        ps_buf_clear(&out);
    } while (status == PS_OK && c.kind != SCRIPT_END);
    ps_buf_done(&out);
    ps_arena_done(&arena);
    memory_done(&store);
    return status;
}
