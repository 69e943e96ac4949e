/*
 * binop.c - the element-wise part of binary operators.
 *
 * Rows without histograms, by far the most, take plain loops over all cells, also over those where
 * nothing is: their results are never looked at, and a loop without a condition is several times as
 * fast. Only the operators that call a function (^ % atan2) go by presence bits. Comparisons make 64
 * presence bits at a time. Rows with histograms go cell by cell.
 *
 * Notes: an operator keeps one note per step, the last in the order of the pairs; so a byte per step is
 * kept and the annotations are made when all rows are through.
 */
#include <math.h>

#include "lib/eval/join.h"

typedef enum elem_note {
    NOTE_NONE,
    NOTE_FLOAT_FLOAT,
    NOTE_FLOAT_HIST,
    NOTE_HIST_FLOAT,
    NOTE_HIST_HIST,
    NOTE_COLLISION,
    NOTE_RECONCILED,
    NOTE_LAYOUT,
    N_NOTES
} elem_note;

typedef struct elem {
    double v;
    const hst_hist *h;
    bool keep;
    bool unfit; /* the operator has no result for these operands */
    elem_note note;
} elem;

void
ev_binop_init(ev_binop *b, ev_ctx *c, const pql_expr *e, size_t n_steps)
{
    memset(b, 0, sizeof *b);
    b->c = c;
    b->e = e;
    b->op = e->binary.op;
    b->return_bool = e->binary.return_bool;
    b->n_steps = n_steps;
    b->n_words = (n_steps + 63) / 64;
}

bool
ev_binop_changes_metric(pql_op op)
{
    return op >= PQL_ADD && op <= PQL_ATAN2;
}

static bool
is_comparison(pql_op op)
{
    return op >= PQL_EQ && op <= PQL_LE;
}

static bool
compare(pql_op op, double l, double r)
{
    switch (op) {
    case PQL_EQ:
        return l == r;
    case PQL_NE:
        return l != r;
    case PQL_GT:
        return l > r;
    case PQL_LT:
        return l < r;
    case PQL_GE:
        return l >= r;
    default:
        return l <= r;
    }
}

static double
compute(pql_op op, double l, double r)
{
    switch (op) {
    case PQL_ADD:
        return l + r;
    case PQL_SUB:
        return l - r;
    case PQL_MUL:
        return l * r;
    case PQL_DIV:
        return l / r;
    case PQL_MOD:
        return fmod(l, r);
    case PQL_POW:
        return pow(l, r);
    default:
        return atan2(l, r);
    }
}

double
ev_binop_scalar(pql_op op, double l, double r)
{
    return is_comparison(op) ? (double)compare(op, l, r) : compute(op, l, r);
}

/* ---- floats ------------------------------------------------------------------------------------ */

#define ALL_CELLS(expr)                                                                            \
    do {                                                                                           \
        for (size_t i = 0; i < n; i++)                                                             \
            o[i] = (expr);                                                                         \
    } while (0)

static void
arithmetic_row(pql_op op, const double *a, const double *b, size_t n, const uint64_t *both,
               double *o)
{
    switch (op) {
    case PQL_ADD:
        ALL_CELLS(a[i] + b[i]);
        return;
    case PQL_SUB:
        ALL_CELLS(a[i] - b[i]);
        return;
    case PQL_MUL:
        ALL_CELLS(a[i] * b[i]);
        return;
    case PQL_DIV:
        ALL_CELLS(a[i] / b[i]);
        return;
    default:
        for (size_t w = 0; w * 64 < n; w++)
            for (uint64_t bits = both[w]; bits != 0; bits &= bits - 1) {
                size_t i = w * 64 + (size_t)__builtin_ctzll(bits);
                o[i] = compute(op, a[i], b[i]);
            }
    }
}

#define BITS_OF(expr)                                                                              \
    do {                                                                                           \
        for (size_t i = 0; i < n; i++)                                                             \
            bits |= (uint64_t)(expr) << i;                                                         \
    } while (0)

/* Which of at most 64 cells hold the comparison. */
static uint64_t
compare_cells(pql_op op, const double *a, const double *b, size_t n)
{
    uint64_t bits = 0;
    switch (op) {
    case PQL_EQ:
        BITS_OF(a[i] == b[i]);
        break;
    case PQL_NE:
        BITS_OF(a[i] != b[i]);
        break;
    case PQL_GT:
        BITS_OF(a[i] > b[i]);
        break;
    case PQL_LT:
        BITS_OF(a[i] < b[i]);
        break;
    case PQL_GE:
        BITS_OF(a[i] >= b[i]);
        break;
    default:
        BITS_OF(a[i] <= b[i]);
    }
    return bits;
}

static void
compare_row(const ev_binop *b, const ev_row *l, const ev_row *r, const uint64_t *both, ev_row *out)
{
    const double *kept = b->keep_right ? r->v : l->v;
    for (size_t w = 0; w < b->n_words; w++) {
        size_t from = w * 64, n = b->n_steps - from < 64 ? b->n_steps - from : 64;
        uint64_t bits = both[w];
        if (bits != 0)
            bits = compare_cells(b->op, l->v + from, r->v + from, n);
        if (b->return_bool) {
            for (size_t i = 0; i < n; i++)
                out->v[from + i] = (double)(bits >> i & 1);
            out->has[w] = both[w];
        } else {
            if (out->v != kept)
                memcpy(out->v + from, kept + from, n * sizeof *kept);
            out->has[w] = both[w] & bits;
        }
    }
}

/* ---- with histograms ---------------------------------------------------------------------------- */

static elem
unfit(elem_note note)
{
    return (elem){.unfit = true, .note = note};
}

static ps_status
add_hists(pql_op op, const hst_hist *l, const hst_hist *r, ps_arena *arena, elem *ret)
{
    hst_notes notes = {0};
    const hst_hist *h;
    ps_status status =
        op == PQL_ADD ? hst_add(arena, l, r, &notes, &h) : hst_sub(arena, l, r, &notes, &h);
    if (status == PS_EINVAL) {
        *ret = unfit(NOTE_LAYOUT);
        return PS_OK;
    }
    PS_TRY(status);
    if (op == PQL_SUB && h->hint != HST_GAUGE)
        PS_TRY(hst_with_hint(arena, h, HST_GAUGE, &h));
    /* a collision is a failure of this pair, not just a note about it */
    if (notes.hint_collision)
        *ret = unfit(NOTE_COLLISION);
    else
        *ret = (elem){.h = h,
                      .keep = true,
                      .note = notes.bounds_reconciled ? NOTE_RECONCILED : NOTE_NONE};
    return PS_OK;
}

static ps_status
hist_hist(pql_op op, const hst_hist *l, const hst_hist *r, ps_arena *arena, elem *ret)
{
    switch (op) {
    case PQL_ADD:
    case PQL_SUB:
        return add_hists(op, l, r, arena, ret);
    case PQL_EQ:
    case PQL_NE:
        *ret = (elem){.h = l, .keep = hst_equal(l, r) == (op == PQL_EQ)};
        return PS_OK;
    default:
        *ret = unfit(NOTE_HIST_HIST);
        return PS_OK;
    }
}

static ps_status
hist_float(pql_op op, const hst_hist *l, double r, ps_arena *arena, elem *ret)
{
    *ret = (elem){.keep = true};
    switch (op) {
    case PQL_MUL:
        return hst_mul(arena, l, r, &ret->h);
    case PQL_DIV:
        return hst_div(arena, l, r, &ret->h);
    case PQL_TRIM_UPPER:
    case PQL_TRIM_LOWER:
        return hst_trim(arena, l, r, op == PQL_TRIM_UPPER, &ret->h);
    default:
        *ret = unfit(NOTE_HIST_FLOAT);
        return PS_OK;
    }
}

static ps_status
cell(const ev_binop *b, double lv, const hst_hist *lh, double rv, const hst_hist *rh,
     ps_arena *arena, elem *ret)
{
    pql_op op = b->op;
    if (lh != NULL && rh != NULL)
        return hist_hist(op, lh, rh, arena, ret);
    if (lh != NULL)
        return hist_float(op, lh, rv, arena, ret);
    if (rh != NULL) {
        *ret = (elem){.keep = true};
        if (op == PQL_MUL)
            return hst_mul(arena, rh, lv, &ret->h);
        *ret = unfit(NOTE_FLOAT_HIST);
    } else if (op == PQL_TRIM_UPPER || op == PQL_TRIM_LOWER)
        *ret = unfit(NOTE_FLOAT_FLOAT);
    else if (is_comparison(op))
        *ret = (elem){.v = b->keep_right ? rv : lv, .keep = compare(op, lv, rv)};
    else
        *ret = (elem){.v = compute(op, lv, rv), .keep = true};
    return PS_OK;
}

static ps_status
keep_note(ev_binop *b, size_t step, elem_note note)
{
    if (b->last == NULL) {
        b->last = ps_arena_array(ev_arena(b->c), b->n_steps, sizeof *b->last);
        if (b->last == NULL)
            return ev_no_memory(b->c);
    }
    b->last[step] = (uint8_t)note;
    return PS_OK;
}

/* Computes one cell of out; false in *ret: nothing stands there. */
static ps_status
mixed_cell(ev_binop *b, const ev_row *l, const ev_row *r, size_t i, ev_row *out, bool *ret,
           bool *ret_ok)
{
    elem e;
    if (cell(b, l->v[i], l->h != NULL ? l->h[i] : NULL, r->v[i], r->h != NULL ? r->h[i] : NULL,
             out->arena, &e) != PS_OK)
        return ev_no_memory(b->c);
    if (e.note != NOTE_NONE)
        PS_TRY(keep_note(b, i, e.note));
    *ret_ok = !e.unfit;
    *ret = !e.unfit && (e.keep || b->return_bool);
    if (!*ret)
        return PS_OK;
    if (b->return_bool) {
        e.v = e.keep ? 1 : 0;
        e.h = NULL;
    }
    out->v[i] = e.v;
    if (e.h != NULL)
        PS_TRY(ev_row_hists(b->c, out, b->n_steps));
    if (out->h != NULL)
        out->h[i] = e.h;
    return PS_OK;
}

static ps_status
mixed_row(ev_binop *b, const ev_row *l, const ev_row *r, const uint64_t *both, ev_row *out,
          uint64_t *ok)
{
    for (size_t w = 0; w < b->n_words; w++) {
        uint64_t has = 0, fits = 0;
        for (uint64_t bits = both[w]; bits != 0; bits &= bits - 1) {
            uint64_t bit = bits & -bits;
            bool there = false, fit = false;
            PS_TRY(mixed_cell(b, l, r, w * 64 + (size_t)__builtin_ctzll(bits), out, &there, &fit));
            has |= there ? bit : 0;
            fits |= fit ? bit : 0;
        }
        out->has[w] = has;
        if (ok != NULL)
            ok[w] = fits;
    }
    return PS_OK;
}

ps_status
ev_binop_row(ev_binop *b, const ev_row *l, const ev_row *r, const uint64_t *both, ev_row *out,
             uint64_t *ok)
{
    if (l->h != NULL || r->h != NULL || b->op == PQL_TRIM_UPPER || b->op == PQL_TRIM_LOWER)
        return mixed_row(b, l, r, both, out, ok);
    if (ok != NULL)
        memcpy(ok, both, b->n_words * sizeof *ok);
    if (is_comparison(b->op)) {
        compare_row(b, l, r, both, out);
        return PS_OK;
    }
    arithmetic_row(b->op, l->v, r->v, b->n_steps, both, out->v);
    if (out->has != both)
        memcpy(out->has, both, b->n_words * sizeof *both);
    return PS_OK;
}

/* ---- notes ---------------------------------------------------------------------------------------- */

static void
say(ev_binop *b, elem_note note)
{
    const char *op = pql_op_text(b->op), *what = b->op == PQL_SUB ? "subtraction" : "addition";
    static const char *const sides[N_NOTES][2] = {
        [NOTE_FLOAT_FLOAT] = {"float", "float"},
        [NOTE_FLOAT_HIST] = {"float", "histogram"},
        [NOTE_HIST_FLOAT] = {"histogram", "float"},
        [NOTE_HIST_HIST] = {"histogram", "histogram"},
    };
    if (note == NOTE_COLLISION)
        ev_warn(b->c, b->e, "conflicting counter resets during histogram %s", what);
    else if (note == NOTE_RECONCILED)
        ev_info(b->c, b->e, "mismatched custom buckets were reconciled during %s", what);
    else if (note == NOTE_LAYOUT)
        ev_warn(b->c, b->e, "incompatible bucket layout encountered for binary operator %s", op);
    else
        ev_info(b->c, b->e,
                "incompatible sample types encountered for binary operator \"%s\": %s %s %s", op,
                sides[note][0], op, sides[note][1]);
}

void
ev_binop_finish(ev_binop *b)
{
    uint32_t said = 1u << NOTE_NONE;
    for (size_t i = 0; b->last != NULL && i < b->n_steps; i++) {
        uint32_t bit = 1u << b->last[i];
        if ((said & bit) == 0)
            say(b, (elem_note)b->last[i]);
        said |= bit;
    }
}
