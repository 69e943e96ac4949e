/*
 * compare.c - is a result what a script expects?
 *
 * Floats may differ by a millionth, histograms by the same in every bucket; labels, times, order and the
 * layout of buckets have to be the same.
 */
#include "tests/promql/compare.h"

#include <float.h>
#include <math.h>

#define TOLERANCE 1e-6

bool
compare_floats(double a, double b)
{
    bool stale_a = ps_bits_of(a) == MDL_STALE_NAN_BITS;
    bool stale_b = ps_bits_of(b) == MDL_STALE_NAN_BITS;
    if (stale_a || stale_b)
        return stale_a && stale_b;
    if (isnan(a) && isnan(b))
        return true;
    if (a == b)
        return true;
    double sum = fabs(a) + fabs(b);
    double diff = fabs(a - b);
    if (a == 0 || b == 0 || sum < DBL_MIN)
        return diff < TOLERANCE * DBL_MIN;
    return diff / fmin(sum, DBL_MAX) < TOLERANCE;
}

/* ---- histograms ---------------------------------------------------------------------------------- */

typedef struct side_walk {
    const hst_side *side;
    uint32_t span, in_span, at;
    int32_t index;
} side_walk;

/* The next bucket that somebody is in. */
static bool
next_bucket(side_walk *w, int32_t *index, double *count)
{
    while (w->at < w->side->n_counts) {
        while (w->span < w->side->n_spans && w->in_span == w->side->spans[w->span].length) {
            w->span++;
            w->in_span = 0;
            if (w->span < w->side->n_spans)
                w->index += w->side->spans[w->span].offset;
        }
        *index = w->index++;
        *count = w->side->counts[w->at++];
        w->in_span++;
        if (*count != 0)
            return true;
    }
    return false;
}

static side_walk
walk(const hst_side *side)
{
    return (side_walk){.side = side, .index = side->n_spans > 0 ? side->spans[0].offset : 0};
}

static bool
compare_sides(const hst_side *a, const hst_side *b)
{
    side_walk wa = walk(a);
    side_walk wb = walk(b);
    int32_t ia, ib;
    double ca, cb;
    for (;;) {
        bool more = next_bucket(&wa, &ia, &ca);
        if (more != next_bucket(&wb, &ib, &cb))
            return false;
        if (!more)
            return true;
        if (ia != ib || !compare_floats(ca, cb))
            return false;
    }
}

bool
compare_histograms(const hst_hist *e, const hst_hist *a, bool with_hint)
{
    if (e->schema != a->schema || e->zero_threshold != a->zero_threshold ||
        !compare_floats(e->count, a->count) || !compare_floats(e->sum, a->sum) ||
        !compare_floats(e->zero_count, a->zero_count) || (with_hint && e->hint != a->hint))
        return false;
    if (e->schema == HST_CUSTOM &&
        (e->n_bounds != a->n_bounds ||
         (e->n_bounds > 0 && memcmp(e->bounds, a->bounds, e->n_bounds * sizeof(double)) != 0)))
        return false;
    return compare_sides(&e->positive, &a->positive) && compare_sides(&e->negative, &a->negative);
}

/* ---- values -------------------------------------------------------------------------------------- */

static bool
compare_value(const script_value *e, double v, const hst_hist *h)
{
    if ((e->h != NULL) != (h != NULL))
        return false;
    return h != NULL ? compare_histograms(e->h, h, e->has_hint) : compare_floats(e->v, v);
}

static const hst_hist *
hist_at(const ev_result_series *s, size_t i)
{
    return s->h == NULL ? NULL : s->h[i];
}

static bool
say_value(ps_buf *why, mdl_labels labels, const script_value *e, double v, const hst_hist *h)
{
    ps_buf_add_c(why, "expected ");
    print_series(why, labels);
    ps_buf_add_char(why, ' ');
    if (e->omitted)
        ps_buf_add_c(why, "nothing");
    else
        print_value(why, e->v, e->h);
    ps_buf_add_c(why, ", got ");
    print_value(why, v, h);
    if (h != NULL && e->h != NULL && e->has_hint)
        ps_buf_addf(why, " (hints %d and %d)", (int)e->h->hint, (int)h->hint);
    return false;
}

static bool
say_series(ps_buf *why, const char *what, mdl_labels labels)
{
    ps_buf_add_c(why, what);
    print_series(why, labels);
    return false;
}

/* The last line counts where a series was written twice. */
static const script_series *
find_expected(const script_eval *e, mdl_labels labels, size_t *position)
{
    for (size_t i = e->n_series; i-- > 0;) {
        if (mdl_labels_eq(e->series[i].labels, labels)) {
            *position = i;
            return &e->series[i];
        }
    }
    return NULL;
}

/* Every series that is expected must be among those found. */
static bool
compare_missing(const script_eval *e, const ev_result_series *series, size_t n, ps_buf *why)
{
    for (size_t i = 0; i < e->n_series; i++) {
        size_t k = 0;
        while (k < n && !(mdl_labels_eq(series[k].labels, e->series[i].labels) && series[k].n > 0))
            k++;
        if (k == n) {
            say_series(why, "expected ", e->series[i].labels);
            ps_buf_addf(why, ", got no such series among %zu", n);
            return false;
        }
    }
    return true;
}

static bool
compare_doubles(const ev_result_series *series, size_t n, ps_buf *why)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = i + 1; k < n && series[i].n > 0; k++) {
            if (series[k].n > 0 && mdl_labels_eq(series[i].labels, series[k].labels))
                return say_series(why, "got the same labels twice: ", series[i].labels);
        }
    }
    return true;
}

/* ---- results ------------------------------------------------------------------------------------- */

/* One point of each series (first[i]; series with n = 0 are not there). */
static bool
compare_vector(const script_eval *e, const ev_result_series *series, size_t n, ps_buf *why)
{
    if (e->is_scalar || e->is_string) {
        ps_buf_add_c(why, "expected a scalar or string, got a vector");
        return false;
    }
    size_t position;
    for (size_t i = 0; i < n; i++) {
        if (series[i].n == 0)
            continue;
        const script_series *found = find_expected(e, series[i].labels, &position);
        if (found == NULL) {
            say_series(why, "expected no ", series[i].labels);
            ps_buf_add_c(why, ", got ");
            print_value(why, series[i].v[0], hist_at(&series[i], 0));
            return false;
        }
        if (e->expected[EXPECT_ORDERED] && position != i) {
            say_series(why, "expected ", series[i].labels);
            ps_buf_addf(why, " at position %zu, got it at %zu", position + 1, i + 1);
            return false;
        }
        if (!compare_value(&found->values.items[0], series[i].v[0], hist_at(&series[i], 0)))
            return say_value(why, series[i].labels, &found->values.items[0], series[i].v[0],
                             hist_at(&series[i], 0));
    }
    return compare_doubles(series, n, why) && compare_missing(e, series, n, why);
}

static bool
compare_row(const script_series *e, const ev_result_series *s, int64_t start_ms, int64_t end_ms,
            int64_t step_ms, ps_buf *why)
{
    size_t at = 0;
    for (size_t i = 0; i < e->values.n; i++) {
        const script_value *value = &e->values.items[i];
        int64_t t_ms = start_ms + (int64_t)i * step_ms;
        if (t_ms > end_ms)
            return say_series(why, "expected more points than there are steps for ", e->labels);
        bool here = at < s->n && s->t_ms[at] == t_ms;
        if (!here && value->omitted)
            continue;
        if (!here) {
            say_series(why, "expected ", e->labels);
            ps_buf_addf(why, " at %lld ms ", (long long)t_ms);
            print_value(why, value->v, value->h);
            ps_buf_add_c(why, ", got nothing there");
            return false;
        }
        if (value->omitted || !compare_value(value, s->v[at], hist_at(s, at))) {
            ps_buf_addf(why, "at %lld ms: ", (long long)t_ms);
            return say_value(why, e->labels, value, s->v[at], hist_at(s, at));
        }
        at++;
    }
    if (at == s->n)
        return true;
    say_series(why, "expected ", e->labels);
    ps_buf_addf(why, " with %zu points, got one at %lld ms: ", at, (long long)s->t_ms[at]);
    print_value(why, s->v[at], hist_at(s, at));
    return false;
}

static bool
compare_matrix(const script_eval *e, const ev_result *r, ps_buf *why)
{
    int64_t start_ms = e->matrix ? e->matrix_start_ms : e->start_ms;
    int64_t end_ms = e->matrix ? e->matrix_end_ms : e->end_ms;
    int64_t step_ms = e->matrix ? e->matrix_step_ms : e->step_ms;
    if (e->expected[EXPECT_ORDERED] || e->is_scalar || e->is_string || (!e->range && !e->matrix)) {
        ps_buf_add_c(why, "expected something else, got a matrix");
        return false;
    }
    for (size_t i = 0; i < r->n; i++) {
        if (i > 0 && mdl_labels_cmp(r->series[i - 1].labels, r->series[i].labels) >= 0)
            return say_series(why, "not in the order of labels: ", r->series[i].labels);
        size_t position;
        const script_series *found = find_expected(e, r->series[i].labels, &position);
        if (found == NULL) {
            say_series(why, "expected no ", r->series[i].labels);
            ps_buf_addf(why, ", got %zu points, first ", r->series[i].n);
            if (r->series[i].n > 0)
                print_value(why, r->series[i].v[0], hist_at(&r->series[i], 0));
            return false;
        }
        if (r->series[i].n == 0)
            return say_series(why, "got a series without points: ", r->series[i].labels);
        if (!compare_row(found, &r->series[i], start_ms, end_ms, step_ms, why))
            return false;
    }
    return compare_missing(e, r->series, r->n, why);
}

static bool
compare_scalar(const script_eval *e, double v, ps_buf *why)
{
    if (e->is_scalar && compare_floats(e->scalar, v))
        return true;
    ps_buf_add_c(why, "expected ");
    if (e->is_scalar)
        print_value(why, e->scalar, NULL);
    else
        ps_buf_add_c(why, "no scalar");
    ps_buf_add_c(why, ", got ");
    print_value(why, v, NULL);
    return false;
}

static bool
compare_string(const script_eval *e, ps_str text, ps_buf *why)
{
    if (e->is_string && ps_str_eq(e->string, text))
        return true;
    ps_buf_add_c(why, e->is_string ? "expected " : "expected no string");
    if (e->is_string)
        print_json_text(why, e->string);
    ps_buf_add_c(why, ", got ");
    print_json_text(why, text);
    return false;
}

bool
compare_result(const script_eval *e, const ev_result *r, ps_buf *why)
{
    switch (r->type) {
    case PQL_MATRIX:
        return compare_matrix(e, r, why);
    case PQL_VECTOR:
        if (!e->matrix && !e->range)
            return compare_vector(e, r->series, r->n, why);
        break;
    case PQL_SCALAR:
        if (r->n == 1 && r->series[0].n == 1)
            return compare_scalar(e, r->series[0].v[0], why);
        break;
    case PQL_STRING:
        return compare_string(e, r->text, why);
    default:
        break;
    }
    ps_buf_addf(why, "got a result of another kind (%s)", pql_type_text(r->type));
    return false;
}

bool
compare_step(const script_eval *e, const ev_result *r, pql_type type, int64_t t_ms, ps_buf *why)
{
    ev_result_series *at = ps_alloc_array(&why->alloc, r->n + 1, sizeof *at);
    if (at == NULL || r->type != PQL_MATRIX) {
        ps_alloc_free(&why->alloc, at, (r->n + 1) * sizeof *at);
        ps_buf_add_c(why, "got no matrix");
        return false;
    }
    size_t n = 0;
    bool ordered = true;
    for (size_t i = 0; i < r->n; i++) {
        const ev_result_series *s = &r->series[i];
        ordered = ordered && (i == 0 || mdl_labels_cmp(s[-1].labels, s->labels) < 0);
        size_t k = 0;
        while (k < s->n && s->t_ms[k] != t_ms)
            k++;
        if (k < s->n)
            at[n++] = (ev_result_series){s->labels, 1, s->t_ms + k, s->v + k,
                                         s->h == NULL ? NULL : s->h + k};
    }
    bool good;
    if (!ordered) {
        ps_buf_add_c(why, "got a matrix that is not in the order of labels");
        good = false;
    } else if (type == PQL_SCALAR) {
        good = n == 1 && compare_scalar(e, at[0].v[0], why);
        if (n != 1)
            ps_buf_addf(why, "expected one scalar at this step, got %zu", n);
    } else {
        good = compare_vector(e, at, n, why);
    }
    ps_alloc_free(&why->alloc, at, (r->n + 1) * sizeof *at);
    return good;
}

/* ---- annotations --------------------------------------------------------------------------------- */

static bool
say_texts(ps_buf *why, const ps_str *texts, size_t n)
{
    ps_buf_add_c(why, ", got");
    for (size_t i = 0; i < n; i++) {
        ps_buf_add_char(why, ' ');
        print_json_text(why, texts[i]);
    }
    if (n == 0)
        ps_buf_add_c(why, " none");
    return false;
}

static bool
compare_kind(const script_eval *e, script_expect wanted, script_expect unwanted, const char *name,
             const ps_str *texts, size_t n, ps_buf *why)
{
    if (e->expected[unwanted] && n > 0) {
        ps_buf_addf(why, "expected no %s", name);
        return say_texts(why, texts, n);
    }
    if (!e->expected[wanted])
        return true;
    if (n == 0) {
        ps_buf_addf(why, "expected %s", name);
        return say_texts(why, texts, n);
    }
    for (size_t i = 0; i < e->n_texts; i++) {
        size_t k = 0;
        if (e->texts[i].kind != wanted)
            continue;
        while (k < n && !script_text_matches(&e->texts[i], texts[k]))
            k++;
        if (k == n) {
            ps_buf_addf(why, "expected %s ", name);
            print_json_text(why, e->texts[i].text);
            return say_texts(why, texts, n);
        }
    }
    for (size_t k = 0; k < n; k++) {
        bool matched = false;
        for (size_t i = 0; i < e->n_texts && !matched; i++)
            matched = e->texts[i].kind == wanted && script_text_matches(&e->texts[i], texts[k]);
        if (!matched) {
            ps_buf_addf(why, "expected no other %s", name);
            return say_texts(why, &texts[k], 1);
        }
    }
    return true;
}

bool
compare_notes(const script_eval *e, const ev_result *r, ps_buf *why)
{
    return compare_kind(e, EXPECT_WARN, EXPECT_NO_WARN, "warning", r->warnings, r->n_warnings,
                        why) &&
           compare_kind(e, EXPECT_INFO, EXPECT_NO_INFO, "info", r->infos, r->n_infos, why);
}
