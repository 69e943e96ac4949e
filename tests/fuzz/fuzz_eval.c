/*
 * fuzz_eval.c - whatever parses is evaluated, over a small store of odd series and under a budget.
 *
 * The first byte chooses the options, the rest is the query. It is asked three times: as a range query
 * with one worker; the same with pieces in reverse order, spread over three workers; and at one of its
 * steps as an instant query. The first two must agree in every bit, and the third with its step of the
 * first. What fails must say why; everything must be given back.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lib/eval/eval.h"
#include "lib/regex/regex.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_TEXT = 2048, N_POINTS = 40, MAX_POLLS = 20000, N_SERIES = 22, STEPS = 11 };
enum { POINT_MS = 30000, STEP_MS = 90000, START_MS = 60000, ASKED = 7 };
#define BUDGET ((size_t)48 << 20)

/* ---- the store ------------------------------------------------------------------------------------ */

typedef struct odd_series {
    mdl_labels labels;
    double v[N_POINTS];
    const hst_hist *h[N_POINTS];
    bool has[N_POINTS];
    bool histograms;
} odd_series;

static odd_series all[N_SERIES];
static ps_arena kept;

static const char *const names[N_SERIES] = {
    "b_bucket{l=\"1\",le=\"+Inf\"}",
    "b_bucket{l=\"1\",le=\"0.5\"}",
    "b_bucket{l=\"1\",le=\"1\"}",
    "b_bucket{l=\"2\",le=\"+Inf\"}",
    "b_bucket{l=\"2\",le=\"x\"}",
    "h{instance=\"a\",job=\"j\"}",
    "h{instance=\"b\",job=\"j\"}",
    "h{instance=\"c\",job=\"j\"}",
    "m{l=\"1\"}",
    "m{l=\"2\"}",
    "one",
    "target_info{instance=\"a\",job=\"j\",v=\"1\"}",
    "target_info{instance=\"a\",job=\"j\",v=\"2\"}",
    "target_info{instance=\"b\",job=\"j\",v=\"1\"}",
    "x{instance=\"a\",job=\"j\",l=\"1\"}",
    "x{instance=\"a\",job=\"j\",l=\"2\"}",
    "x{instance=\"b\",job=\"j\",l=\"1\"}",
    "x{instance=\"b\",job=\"j\",l=\"3\"}",
    "x_total{instance=\"a\",job=\"j\",l=\"1\"}",
    "x_total{instance=\"b\",job=\"j\",l=\"2\"}",
    "x_total{__type__=\"counter\",__unit__=\"s\",l=\"3\"}",
    "y_total{instance=\"a\",job=\"j\",l=\"1\"}",
};

static const char *const shapes[3] = {
    "schema:1 count:12 sum:18.4 z_bucket:2 z_bucket_w:0.001 buckets:[1 2 0 1] n_buckets:[4 0 2]",
    "schema:-53 count:10 sum:7 custom_values:[0.5 1 2] buckets:[1 4 3 2]",
    "schema:0 count:4 sum:NaN buckets:[1 0 2] offset:-1 counter_reset_hint:gauge",
};

/* A value for point i of series s: counters with resets, gauges with gaps, and what else can be odd. */
static double
odd_value(size_t s, size_t i)
{
    if (i % 13 == 12)
        return ps_double_of(MDL_STALE_NAN_BITS);
    if (s == 15 && i % 7 == 3)
        return NAN;
    if (s == 16 && i % 11 == 5)
        return INFINITY;
    if (s == 17)
        return i % 2 == 0 ? 1e308 : -1e308;
    if (s >= 18)
        return (double)((i % (9 + s % 4)) * (s - 10)) * 0.1;
    return (double)((i * (s + 3)) % 17) - (s > 9 ? 4.5 : 0);
}

static void
make_store(void)
{
    ps_arena_init(&kept, &ps_malloc, 0);
    const hst_hist *one[3];
    bool hint;
    ps_err err;
    pql_error error;
    for (size_t k = 0; k < 3; k++)
        REQUIRE(hst_parse(&kept, ps_str_c(shapes[k]), &one[k], &hint, &err) == PS_OK);
    for (size_t s = 0; s < N_SERIES; s++) {
        REQUIRE(pql_parse_series(&kept, ps_str_c(names[s]), &all[s].labels, &error) == PS_OK);
        bool native = names[s][0] == 'h';
        all[s].histograms = native || names[s][0] == 'm';
        for (size_t i = 0; i < N_POINTS; i++) {
            all[s].has[i] = (i * 7 + s) % 9 != 0;
            all[s].v[i] = odd_value(s, i);
            if (native || (all[s].histograms && (i + s) % 5 == 0))
                REQUIRE(hst_mul(&kept, one[(s + (i == 30)) % 3], (double)(1 + (i % 12)),
                                &all[s].h[i]) == PS_OK);
        }
    }
}

typedef struct found {
    uint8_t series[N_SERIES];
    int64_t from_ms, to_ms;
} found;

typedef struct asked { /* one evaluation */
    ps_arena arena;
    size_t polls;
} asked;

static ps_status
find(void *self, const ev_selection *selections, size_t n, ev_series_list *ret, ps_err *err)
{
    asked *a = self;
    re_matcher *matchers[64];
    for (size_t k = 0; k < n; k++) {
        size_t made = 0;
        ps_status status = PS_OK;
        found *f = ps_arena_array(&a->arena, 1, sizeof *f);
        mdl_labels *labels = ps_arena_array(&a->arena, N_SERIES, sizeof *labels);
        REQUIRE(f != NULL && labels != NULL);
        REQUIRE(selections[k].from_ms <= selections[k].to_ms);
        f->from_ms = selections[k].from_ms;
        f->to_ms = selections[k].to_ms;
        if (selections[k].n_matchers > 64)
            return ps_fail(err, PS_ELIMIT, "too many matchers");
        for (; made < selections[k].n_matchers && status == PS_OK; made += status == PS_OK)
            status = re_matcher_new(&ps_malloc, &selections[k].matchers[made], &matchers[made], err);
        ret[k] = (ev_series_list){0, labels, f};
        for (size_t s = 0; s < N_SERIES && status == PS_OK; s++)
            if (re_matchers_match(matchers, made, all[s].labels)) {
                f->series[ret[k].n] = (uint8_t)s;
                labels[ret[k].n++] = all[s].labels;
            }
        for (size_t i = 0; i < made; i++)
            re_matcher_free(matchers[i]);
        PS_TRY(status);
    }
    return PS_OK;
}

static ps_status
get(void *self, const ev_series_list *list, size_t series, size_t worker, ev_samples *into,
    ps_err *err)
{
    const found *f = list->impl;
    const odd_series *s = &all[f->series[series]];
    (void)self;
    (void)worker;
    (void)err;
    PS_TRY(ev_samples_reserve(into, N_POINTS, s->histograms, true));
    for (size_t i = 0; i < N_POINTS; i++) {
        int64_t t = (int64_t)i * POINT_MS;
        if (!s->has[i] || t < f->from_ms || t > f->to_ms)
            continue;
        into->t_ms[into->n] = t;
        into->v[into->n] = s->v[i];
        into->start_ms[into->n] = i % 6 == 0 ? 0 : (int64_t)(i / 9 * 9) * POINT_MS + 1;
        if (s->histograms) {
            into->h[into->n] = NULL;
            if (s->h[i] != NULL)
                PS_TRY(hst_copy(&into->arena, s->h[i], &into->h[into->n]));
        }
        into->n++;
    }
    return PS_OK;
}

static ps_status
poll(void *self)
{
    asked *a = self;
    return ++a->polls > MAX_POLLS ? PS_ETIMEOUT : PS_OK;
}

static void
run_in_reverse(void *self, size_t n, ev_task_fn fn, void *arg)
{
    (void)self;
    for (size_t i = n; i-- > 0;)
        fn(arg, i, i % 3);
}

/* ---- asking ------------------------------------------------------------------------------------------ */

typedef struct answer {
    ps_status status;
    ps_buf text;  /* of the error or of everything */
    ps_buf asked; /* instant, or the step of ASKED: one line for each series */
    bool is_vector;
} answer;

static void
print_point(ps_buf *out, const ev_result_series *s, size_t i)
{
    if (s->h != NULL && s->h[i] != NULL)
        hst_format(out, s->h[i]);
    else /* NaN is NaN */
        ps_buf_addf(out, " %016llx",
                    isnan(s->v[i]) ? 0x7ff8ULL : (unsigned long long)ps_bits_of(s->v[i]));
}

static void
print(answer *a, const ev_result *r, int64_t t_ms)
{
    for (size_t k = 0; k < r->n; k++) {
        const ev_result_series *s = &r->series[k];
        REQUIRE(s->n > 0);
        mdl_format_labels(&a->text, s->labels.items, s->labels.n, 0);
        for (size_t i = 0; i < s->n; i++) {
            REQUIRE(i == 0 || s->t_ms[i - 1] < s->t_ms[i]);
            ps_buf_addf(&a->text, " %lld", (long long)s->t_ms[i]);
            print_point(&a->text, s, i);
            if (s->t_ms[i] != t_ms)
                continue;
            mdl_format_labels(&a->asked, s->labels.items, s->labels.n, 0);
            print_point(&a->asked, s, i);
            ps_buf_add_char(&a->asked, '\n');
        }
        ps_buf_add_char(&a->text, '\n');
    }
    for (size_t i = 0; i < r->n_warnings; i++)
        ps_buf_add_str(&a->text, r->warnings[i]);
    for (size_t i = 0; i < r->n_infos; i++)
        ps_buf_add_str(&a->text, r->infos[i]);
    REQUIRE(r->stats.peak_bytes <= BUDGET);
}

/* Asks at one time (step 0) or over steps; false: the text is no query. */
static bool
ask(ps_str text, uint8_t flags, int64_t start, int64_t end, int64_t step, bool reverse, answer *ret)
{
    static const pql_options language = {true, true, true};
    pql_expr *expr;
    pql_error error;
    asked a = {0};
    *ret = (answer){.status = PS_OK};
    ps_buf_init(&ret->text, &ps_malloc);
    ps_buf_init(&ret->asked, &ps_malloc);
    ps_arena_init(&a.arena, &ps_malloc, BUDGET);
    ret->status = pql_parse(&a.arena, text, &language, &expr, &error);
    if (ret->status != PS_OK) {
        ps_arena_done(&a.arena);
        return false;
    }
    ret->is_vector = expr->type == PQL_VECTOR || expr->type == PQL_SCALAR;
    ev_options options = {.max_samples = 200000,
                          .max_bytes = BUDGET,
                          .delayed_names = flags & 1,
                          .start_timestamps = flags >> 1 & 1,
                          .type_unit_labels = flags >> 2 & 1,
                          .per_step_stats = flags >> 3 & 1};
    ev_env env = {.alloc = ps_malloc,
                  .source = {&a, find, get},
                  .executor = {NULL, 3, run_in_reverse},
                  .poll = poll,
                  .poll_self = &a};
    if (!reverse)
        env.executor = ev_serial;
    ev_query *q;
    const ev_result *result;
    ret->status = ev_query_new(&env, &options, expr, text, start, end, step, &q);
    if (ret->status == PS_OK)
        ret->status = ev_query_run(q, &result);
    if (ret->status == PS_OK)
        print(ret, result, START_MS + ASKED * STEP_MS);
    else {
        REQUIRE(ev_query_error(q).len > 0);
        ps_buf_add_str(&ret->text, ev_query_error(q));
    }
    ev_query_free(q);
    ps_arena_done(&a.arena);
    return true;
}

static void
done(answer *a)
{
    ps_buf_done(&a->text);
    ps_buf_done(&a->asked);
}

/* Limits may be hit by one way of asking and not by another. */
static bool
settled(const answer *a)
{
    return a->status == PS_OK || a->status == PS_EINVAL;
}

static bool
has_line(ps_str lines, const char *line, size_t len)
{
    for (const char *p = lines.ptr; lines.len >= len && p + len <= lines.ptr + lines.len; p++)
        if ((p == lines.ptr || p[-1] == '\n') && memcmp(p, line, len) == 0)
            return true;
    return false;
}

static void
require_same(bool same, const ps_buf *a, const ps_buf *b)
{
    if (!same)
        fprintf(stderr, "%.*s\ndiffers from\n%.*s\n", (int)a->len, a->ptr, (int)b->len, b->ptr);
    REQUIRE(same);
}

/* Every line of one is in the other: instant vectors are in no order. */
static void
same_lines(const ps_buf *a, const ps_buf *b)
{
    bool same = a->len == b->len;
    for (size_t at = 0; at < a->len && same;) {
        size_t end = at;
        while (a->ptr[end++] != '\n')
            ;
        same = has_line(ps_buf_str(b), a->ptr + at, end - at);
        at = end;
    }
    require_same(same, a, b);
}

/* Does the answer depend on where the query begins and ends? */
static bool
knows_its_range(ps_str text)
{
    static const char *const words[] = {"start", "end", "range", "step"};
    for (size_t at = 0; at < text.len; at++)
        for (size_t i = 0; i < 4; i++) {
            ps_str word = ps_str_c(words[i]);
            if (text.len - at >= word.len &&
                ps_str_eq_nocase((ps_str){text.ptr + at, word.len}, word))
                return true;
        }
    return false;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > MAX_TEXT)
        return 0;
    if (all[0].labels.n == 0)
        make_store();
    ps_str text = {(const char *)data + 1, size - 1};
    int64_t at = START_MS + ASKED * STEP_MS, end = START_MS + (STEPS - 1) * STEP_MS;
    answer range, reversed, instant;
    bool parsed = ask(text, data[0], START_MS, end, STEP_MS, false, &range);
    if (parsed && range.is_vector) {
        ask(text, data[0], START_MS, end, STEP_MS, true, &reversed);
        if (settled(&range) && settled(&reversed)) {
            bool same = range.status == reversed.status && range.text.len == reversed.text.len;
            if (same && range.text.len > 0)
                same = memcmp(range.text.ptr, reversed.text.ptr, range.text.len) == 0;
            require_same(same, &range.text, &reversed.text);
        }
        done(&reversed);
    }
    if (parsed) {
        ask(text, data[0], at, at, 0, false, &instant);
        if (range.status == PS_OK && instant.status == PS_OK && !knows_its_range(text))
            same_lines(&instant.asked, &range.asked);
        done(&instant);
    }
    done(&range);
    return 0;
}
