/*
 * test_join_vector.c - operators between two vectors against a slow one that goes step by step.
 *
 * The slow one knows nothing of series: at each step it gathers what is there, compares every sample of
 * one side with every sample of the other, and builds labels from scratch. Random queries over random
 * series with gaps must give the same cells, bit by bit, or the same error.
 */
#include <math.h>
#include <stdio.h>

#include "tests/unit/eval/harness.h"
#include "tests/unit/support.h"

enum { N_NAMES = 4, MAX_SERIES = 64, MAX_STEPS = 130, MAX_OUT = 4096, ERROR_TEXT = 600 };
static const char *const names[N_NAMES] = {"__name__", "a", "b", "c"};

typedef struct lset { /* values by name, NULL: absent */
    const char *v[N_NAMES];
} lset;

typedef struct sample {
    lset l;
    double v;
    bool drop;
} sample;

typedef struct vec {
    sample s[MAX_OUT];
    size_t n;
} vec;

typedef struct input {
    lset l;
    double v[MAX_STEPS];
    bool has[MAX_STEPS];
} input;

typedef struct side {
    input in[MAX_SERIES];
    size_t n;
} side;

typedef enum card { ONE, LEFT, RIGHT, SET } card;

typedef struct question {
    const char *op;
    bool on, is_bool, delayed;
    bool names[N_NAMES], include[N_NAMES];
    card card;
    bool fill_left, fill_right;
    double fl, fr;
    size_t n_steps;
} question;

typedef struct answer {
    char errors[MAX_STEPS + 1][ERROR_TEXT]; /* of all steps */
    size_t n_errors;
    lset l[MAX_OUT];
    bool drop[MAX_OUT];
    bool (*has)[MAX_STEPS];
    double (*v)[MAX_STEPS];
    size_t n;
} answer;

/* ---- label sets -------------------------------------------------------------------------------------- */

static bool
same_value(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool
same_labels(const lset *a, const lset *b)
{
    for (int i = 0; i < N_NAMES; i++)
        if (!same_value(a->v[i], b->v[i]))
            return false;
    return true;
}

static lset
key_of(const question *q, const lset *l)
{
    lset k = {{0}};
    for (int i = 0; i < N_NAMES; i++)
        if (q->on ? q->names[i] : i != 0 && !q->names[i])
            k.v[i] = l->v[i];
    return k;
}

static void
labels_text(char *out, const lset *l)
{
    char *p = out;
    *p++ = '{';
    for (int i = 0; i < N_NAMES; i++)
        if (l->v[i] != NULL)
            p += sprintf(p, "%s%s=\"%s\"", p[-1] == '{' ? "" : ", ", names[i], l->v[i]);
    strcpy(p, "}");
}

/* ---- one step ------------------------------------------------------------------------------------------ */

static double
apply(const char *op, double l, double r, bool *keep)
{
    *keep = true;
    switch (op[0]) {
    case '+':
        return l + r;
    case '-':
        return l - r;
    case '*':
        return l * r;
    case '/':
        return l / r;
    case '%':
        return fmod(l, r);
    case '^':
        return pow(l, r);
    case 'a':
        return atan2(l, r);
    case '=':
        *keep = l == r;
        return l;
    case '!':
        *keep = l != r;
        return l;
    case '>':
        *keep = op[1] == '=' ? l >= r : l > r;
        return l;
    default:
        *keep = op[1] == '=' ? l <= r : l < r;
        return l;
    }
}

static bool
is_arithmetic(const char *op)
{
    return strchr("+-*/%^a", op[0]) != NULL;
}

static lset
result_labels(const question *q, const lset *many, const lset *one)
{
    lset l = *many;
    if (is_arithmetic(q->op) || (q->is_bool && !q->delayed))
        l.v[0] = NULL;
    for (int i = 0; i < N_NAMES; i++) {
        if (q->card == ONE && q->names[i] != q->on)
            l.v[i] = NULL;
        if (q->card != ONE && q->include[i])
            l.v[i] = one->v[i];
    }
    return l;
}

/* Adds one pair; false with *error set. */
static bool
pair(const question *q, const sample *many, const sample *one, vec *taken, vec *out, char *error)
{
    bool keep;
    lset key = key_of(q, &many->l);
    double v = q->card == RIGHT ? apply(q->op, one->v, many->v, &keep)
                                : apply(q->op, many->v, one->v, &keep);
    sample s = {result_labels(q, &many->l, &one->l), q->is_bool ? (double)keep : v,
                q->is_bool && q->delayed};
    /* taken holds key and labels of all pairs by turns */
    for (size_t i = 0; i < taken->n; i += 2)
        if (same_labels(&taken->s[i].l, &key) &&
            (q->card == ONE || same_labels(&taken->s[i + 1].l, &s.l))) {
            sprintf(error, "multiple matches for labels: %s",
                    q->card == ONE
                        ? "many-to-one matching must be explicit (group_left/group_right)"
                        : "grouping labels must ensure unique matches");
            return false;
        }
    taken->s[taken->n++].l = key;
    taken->s[taken->n++].l = s.l;
    if (keep || q->is_bool)
        out->s[out->n++] = s;
    return true;
}

static bool
check_one_side(const question *q, const vec *one, char *error)
{
    for (size_t i = 0; i < one->n; i++)
        for (size_t j = 0; j < i; j++) {
            lset a = key_of(q, &one->s[i].l), b = key_of(q, &one->s[j].l);
            char t[3][100];
            if (!same_labels(&a, &b))
                continue;
            labels_text(t[0], &a);
            labels_text(t[1], &one->s[i].l);
            labels_text(t[2], &one->s[j].l);
            bool less = strcmp(t[1], t[2]) < 0;
            sprintf(
                error,
                "found duplicate series for the match group %s on the %s hand-side of the "
                "operation: [%s, %s];many-to-many matching not allowed: matching labels must be "
                "unique on one side",
                t[0], q->card == RIGHT ? "left" : "right", t[less ? 1 : 2], t[less ? 2 : 1]);
            return false;
        }
    return true;
}

static bool
match_step(const question *q, const vec *l, const vec *r, vec *out, char *error)
{
    static vec taken;
    const vec *many = q->card == RIGHT ? r : l, *one = q->card == RIGHT ? l : r;
    bool fills = q->fill_left || q->fill_right;
    taken.n = 0;
    if ((l->n == 0 || r->n == 0) && !fills)
        return true;
    if (!check_one_side(q, one, error))
        return false;
    for (size_t i = 0; i < many->n; i++) {
        lset key = key_of(q, &many->s[i].l);
        const sample filled = {key, q->fr, false}, *found = q->fill_right ? &filled : NULL;
        for (size_t j = 0; j < one->n; j++) {
            lset k = key_of(q, &one->s[j].l);
            if (same_labels(&k, &key))
                found = &one->s[j];
        }
        if (found != NULL && !pair(q, &many->s[i], found, &taken, out, error))
            return false;
    }
    for (size_t j = 0; q->fill_left && j < one->n; j++) {
        sample filled = {key_of(q, &one->s[j].l), q->fl, false};
        bool matched = false;
        for (size_t i = 0; i < taken.n; i += 2)
            matched |= same_labels(&taken.s[i].l, &filled.l);
        if (!matched && !pair(q, &filled, &one->s[j], &taken, out, error))
            return false;
    }
    return true;
}

static bool
key_in(const question *q, const vec *v, const lset *l)
{
    lset key = key_of(q, l);
    for (size_t i = 0; i < v->n; i++) {
        lset k = key_of(q, &v->s[i].l);
        if (same_labels(&k, &key))
            return true;
    }
    return false;
}

static void
set_step(const question *q, const vec *l, const vec *r, vec *out)
{
    for (size_t i = 0; i < l->n; i++)
        if (q->op[0] == 'o' || key_in(q, r, &l->s[i].l) == (q->op[0] == 'a'))
            out->s[out->n++] = l->s[i];
    for (size_t i = 0; q->op[0] == 'o' && i < r->n; i++)
        if (!key_in(q, l, &r->s[i].l))
            out->s[out->n++] = r->s[i];
}

/* ---- all steps ------------------------------------------------------------------------------------------ */

static void
gather(const side *s, size_t step, vec *out)
{
    out->n = 0;
    for (size_t i = 0; i < s->n; i++)
        if (s->in[i].has[step])
            out->s[out->n++] = (sample){s->in[i].l, s->in[i].v[step], false};
}

static bool
put(answer *a, const sample *s, size_t step, bool allow_equal)
{
    size_t i = 0;
    while (i < a->n && (!same_labels(&a->l[i], &s->l) || (allow_equal && a->has[i][step])))
        i++;
    assert_true(i < MAX_OUT);
    if (i == a->n) {
        a->l[a->n] = s->l;
        a->drop[a->n] = s->drop;
        memset(a->has[a->n], 0, sizeof a->has[0]);
        a->n++;
    }
    if (a->has[i][step])
        return false;
    a->has[i][step] = true;
    a->v[i][step] = s->v;
    return true;
}

static void
add_error(answer *a, const char *text)
{
    strcpy(a->errors[a->n_errors++], text);
}

/* Names that go at the end; series that become equal are merged. */
static void
drop_names(answer *a, answer *into, size_t n_steps)
{
    into->n = into->n_errors = 0;
    for (size_t i = 0; i < a->n; i++)
        for (size_t step = 0; step < n_steps; step++) {
            sample s = {a->l[i], a->v[i][step], false};
            if (a->drop[i])
                s.l.v[0] = NULL;
            if (a->has[i][step] && into->n_errors == 0 && !put(into, &s, step, false))
                add_error(into, "vector cannot contain metrics with the same labelset");
        }
}

static void
slow(const question *q, const side *l, const side *r, answer *a)
{
    static vec left, right, out;
    a->n = a->n_errors = 0;
    for (size_t step = 0; step < q->n_steps; step++) {
        char error[ERROR_TEXT];
        bool fine = true;
        out.n = 0;
        gather(l, step, &left);
        gather(r, step, &right);
        if (q->card == SET)
            set_step(q, &left, &right, &out);
        else
            fine = match_step(q, &left, &right, &out, error);
        for (size_t i = 0; fine && i < out.n; i++)
            if (!put(a, &out.s[i], step, q->delayed && q->n_steps == 1)) {
                strcpy(error, "vector cannot contain metrics with the same labelset");
                fine = false;
            }
        if (!fine)
            add_error(a, error);
    }
}

/* ---- random questions -------------------------------------------------------------------------------------- */

static bool
chance(test_random *r, unsigned percent)
{
    return test_random_below(r, 100) < percent;
}

/* Pair by pair; what is absent makes way for the next name. */
static int
compare_labels(const void *x, const void *y)
{
    const lset *a = &((const input *)x)->l, *b = &((const input *)y)->l;
    for (int i = 0, j = 0; i < N_NAMES || j < N_NAMES; i++, j++) {
        while (i < N_NAMES && a->v[i] == NULL)
            i++;
        while (j < N_NAMES && b->v[j] == NULL)
            j++;
        if (i == N_NAMES || j == N_NAMES || i != j)
            return i == j ? 0 : i == N_NAMES ? -1 : j == N_NAMES ? 1 : i - j;
        int c = strcmp(a->v[i], b->v[j]);
        if (c != 0)
            return c;
    }
    return 0;
}

/* Series in the order of their labels, each there with its own odds. */
static void
make_side(test_random *r, char which, unsigned percent, size_t n_steps, store *s, side *out)
{
    static const char *const values[N_NAMES][3] = {{"l1", "l2", "r1"},
                                                   {"x", "y", NULL},
                                                   {"p", "q", NULL},
                                                   {"1", "2", NULL}};
    out->n = 0;
    for (int i = 0; i < 2 * 3 * 3 * 3; i++) {
        int at[N_NAMES] = {i / 27, i / 9 % 3, i / 3 % 3, i % 3};
        if (!chance(r, percent) || out->n == MAX_SERIES)
            continue;
        input *in = &out->in[out->n++];
        char text[128];
        for (int k = 0; k < N_NAMES; k++)
            in->l.v[k] = values[k][at[k]];
        if (which == 'r')
            in->l.v[0] = at[0] == 0 ? "r1" : "r2";
        labels_text(text, &in->l);
        double v[MAX_STEPS];
        unsigned there = chance(r, 50) ? 100 : (unsigned)test_random_below(r, 100);
        for (size_t step = 0; step < n_steps; step++) {
            in->has[step] = chance(r, there);
            in->v[step] = (double)test_random_below(r, 9) - 4;
            if (chance(r, 3))
                in->v[step] = chance(r, 50) ? NAN : INFINITY;
            v[step] = in->has[step] ? in->v[step] : ps_double_of(MDL_STALE_NAN_BITS);
        }
        store_add(s, text, 0, 1000, n_steps, v, 0);
    }
    qsort(out->in, out->n, sizeof out->in[0], compare_labels);
}

static const char *
name_list(char *out, const bool *list, int from)
{
    char *p = out;
    for (int i = from; i < N_NAMES; i++)
        if (list[i])
            p += sprintf(p, "%s%s", p == out ? "" : ",", names[i]);
    *p = '\0';
    return out;
}

static void
make_question(test_random *r, question *q, char *text)
{
    static const char *const ops[] = {"+",  "-", "*", "/",  "%",  "^",   "atan2", "==",
                                      "!=", ">", "<", ">=", "<=", "and", "or",    "unless"};
    char a[64], b[64];
    memset(q, 0, sizeof *q);
    q->op = ops[test_random_below(r, PS_ARRAY_LEN(ops))];
    bool set = strcmp(q->op, "and") == 0 || q->op[0] == 'o' || q->op[0] == 'u';
    q->card = set ? SET : (card)test_random_below(r, 3);
    q->on = chance(r, 50);
    for (int i = q->on && chance(r, 10) ? 0 : 1; i < N_NAMES; i++)
        q->names[i] = chance(r, q->on ? 60 : 35);
    for (int i = chance(r, 10) ? 0 : 1; i < N_NAMES; i++)
        q->include[i] =
            (q->card == LEFT || q->card == RIGHT) && !(q->on && q->names[i]) && chance(r, 30);
    q->is_bool = !set && strchr("=!<>", q->op[0]) != NULL && chance(r, 40);
    if (!set && chance(r, 40)) {
        q->fill_left = chance(r, 60);
        q->fill_right = chance(r, 60);
        q->fl = (double)test_random_below(r, 5);
        q->fr = (double)test_random_below(r, 5);
    }
    char *p = text;
    p += sprintf(p, "{__name__=~\"l.\"} %s %s %s(%s)", q->op, q->is_bool ? "bool" : "",
                 q->on ? "on" : "ignoring", name_list(a, q->names, 0));
    if (q->card == LEFT || q->card == RIGHT)
        p += sprintf(p, " group_%s(%s)", q->card == LEFT ? "left" : "right",
                     name_list(b, q->include, 0));
    if (q->fill_left)
        p += sprintf(p, " fill_left(%g)", q->fl);
    if (q->fill_right)
        p += sprintf(p, " fill_right(%g)", q->fr);
    sprintf(p, " {__name__=~\"r.\"}");
}

static lset
labels_of(mdl_labels l, char buf[N_NAMES][32])
{
    lset out = {{0}};
    for (int i = 0; i < N_NAMES; i++) {
        ps_str v = mdl_labels_get(l, ps_str_c(names[i]));
        if (v.len == 0)
            continue;
        assert_true(v.len < 32);
        memcpy(buf[i], v.ptr, v.len);
        buf[i][v.len] = '\0';
        out.v[i] = buf[i];
    }
    return out;
}

/* The engine's result against the slow one. */
static void
compare(const answer *a, const ev_result *got, const char *text)
{
    size_t cells = 0, wanted = 0;
    for (size_t i = 0; i < a->n; i++)
        for (size_t s = 0; s < MAX_STEPS; s++)
            wanted += a->has[i][s];
    for (size_t i = 0; i < got->n; i++) {
        char buf[N_NAMES][32];
        lset l = labels_of(got->series[i].labels, buf);
        size_t k = 0;
        while (k < a->n && !same_labels(&a->l[k], &l))
            k++;
        if (k == a->n) {
            char series[128];
            labels_text(series, &l);
            fail_msg("%s: %s is too much", text, series);
        }
        for (size_t p = 0; p < got->series[i].n; p++) {
            size_t step = (size_t)(got->series[i].t_ms[p] / 1000);
            double want = a->v[k][step], v = got->series[i].v[p];
            if (!a->has[k][step] || (ps_bits_of(want) != ps_bits_of(v) && (v == v || want == want)))
                fail_msg("%s: step %zu: %g, wanted %g", text, step, v, want);
            cells++;
        }
    }
    if (cells != wanted)
        fail_msg("%s: %zu cells, wanted %zu", text, cells, wanted);
}

static void
ask(store *s, const question *q, const char *text, const answer *a)
{
    static const pql_options all = {true, true, true};
    ps_arena arena;
    pql_expr *expr;
    pql_error error;
    ev_query *query;
    const ev_result *result;
    ps_arena_init(&arena, &ps_malloc, 0);
    if (pql_parse(&arena, ps_str_c(text), &all, &expr, &error) != PS_OK)
        fail_msg("%s: %s", text, error.text);
    ev_env env = {.alloc = ps_malloc, .source = store_source(s), .executor = ev_serial};
    ev_options options = {.lookback_ms = 1, .delayed_names = q->delayed};
    ps_status status =
        ev_query_new(&env, &options, expr, ps_str_c(text), 0, (int64_t)(q->n_steps - 1) * 1000,
                     q->n_steps == 1 ? 0 : 1000, &query);
    assert_int_equal(status, PS_OK);
    status = ev_query_run(query, &result);
    if (a->n_errors == 0 && status == PS_OK)
        compare(a, result, text);
    else {
        /* that of the first step */
        ps_str got = ev_query_error(query);
        bool found = a->n_errors > 0 && ps_str_eq(got, ps_str_c(a->errors[0]));
        if (status != PS_EINVAL || !found)
            fail_msg("%s: \"%.*s\", wanted \"%s\" (%zu steps)", text, (int)got.len, got.ptr,
                     a->n_errors == 0 ? "" : a->errors[0], q->n_steps);
    }
    ev_query_free(query);
    ps_arena_done(&arena);
}

static void
test_random_queries(void **state)
{
    (void)state;
    static side left, right;
    static answer a, b;
    size_t fine = 0, failed = 0;
    test_random r = {20};
    for (int i = 0; i < 2; i++) {
        answer *x = i == 0 ? &a : &b;
        x->has = calloc(MAX_OUT, sizeof *x->has);
        x->v = calloc(MAX_OUT, sizeof *x->v);
    }
    for (int world = 0; world < 400; world++) {
        store *s = calloc(1, sizeof *s);
        static const size_t lengths[] = {1, 2, 64, 65, 130};
        size_t n_steps = lengths[test_random_below(&r, PS_ARRAY_LEN(lengths))];
        store_init(s);
        make_side(&r, 'l', (unsigned)test_random_below(&r, 40), n_steps, s, &left);
        make_side(&r, 'r', (unsigned)test_random_below(&r, 40), n_steps, s, &right);
        for (int i = 0; i < 25; i++) {
            question q;
            char text[400];
            make_question(&r, &q, text);
            q.n_steps = n_steps;
            q.delayed = chance(&r, 30);
            slow(&q, &left, &right, &a);
            if (a.n_errors == 0) {
                drop_names(&a, &b, n_steps);
                ask(s, &q, text, &b);
            } else
                ask(s, &q, text, &a);
            (*(a.n_errors == 0 ? &fine : &failed))++;
        }
        store_done(s);
        free(s);
    }
    /* enough of both kinds, else this proves nothing */
    assert_true(fine > 3000 && failed > 1000);
    free(a.has);
    free(a.v);
    free(b.has);
    free(b.v);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_queries)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
