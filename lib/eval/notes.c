/*
 * notes.c - annotations: warnings and infos about a query's data.
 *
 * The same text is kept once. Where it is about several places of the query, that of the outermost
 * call is shown, of several beside each other the last: the place that is evaluated last. So the answer
 * does not depend on the order in which nodes are pulled. Two kinds are gathered over many samples and
 * worded at the end; they show the first place. Running out of memory here loses a note, not the
 * query; it is seen when texts are made.
 */
#include <math.h>

#include "lib/eval/query.h"

enum { MAX_NOTES = 10000, MAX_NOTE_BYTES = 16 * 1024 };

void
ev_notes_init(ev_notes *n, const ps_alloc *alloc)
{
    memset(n, 0, sizeof *n);
    n->alloc = *alloc;
    ps_arena_init(&n->arena, alloc, 0);
    ps_buf_init(&n->text, alloc);
    n->text.max = MAX_NOTE_BYTES;
}

void
ev_notes_done(ev_notes *n)
{
    ps_alloc_free(&n->alloc, n->items, n->cap * sizeof *n->items);
    ps_arena_done(&n->arena);
    ps_buf_done(&n->text);
    n->items = NULL;
    n->n = n->cap = 0;
}

void
ev_notes_clear(ev_notes *n)
{
    n->n = 0;
    ps_arena_reset(&n->arena);
}

static ev_note *
find_note(ev_notes *n, bool info, ps_str text, uint64_t hash)
{
    for (size_t i = 0; i < n->n; i++) {
        ev_note *note = &n->items[i];
        if (note->hash == hash && note->info == info && ps_str_eq(note->text, text))
            return note;
    }
    return NULL;
}

static ev_note *
add_note(ev_notes *n, bool info, ps_str text, const pql_expr *at, bool gathered)
{
    uint64_t hash = ps_hash64(text, 0);
    ev_note *note = find_note(n, info, text, hash);
    if (note != NULL) {
        bool later = at->to > note->at->to ||
                     (at->to == note->at->to && at->from < note->at->from);
        if (gathered ? at->from < note->at->from : later)
            note->at = at;
        return note;
    }
    if (n->n == MAX_NOTES)
        return NULL;
    if (n->n == n->cap) {
        size_t cap = n->cap == 0 ? 8 : n->cap * 2;
        ev_note *grown =
            n->alloc.realloc(n->alloc.self, n->items, n->cap * sizeof *grown, cap * sizeof *grown);
        if (grown == NULL)
            goto failed;
        n->items = grown;
        n->cap = cap;
    }
    note = &n->items[n->n];
    memset(note, 0, sizeof *note);
    if (ps_arena_dup(&n->arena, text, &note->text) != PS_OK)
        goto failed;
    note->info = info;
    note->hash = hash;
    note->at = at;
    n->n++;
    return note;
failed:
    n->failed = true;
    return NULL;
}

ps_buf *
ev_note_begin(ev_ctx *c)
{
    ps_buf_clear(&c->notes->text);
    return &c->notes->text;
}

void
ev_note_end(ev_ctx *c, bool info, const pql_expr *at)
{
    ev_notes *n = c->notes;
    if (n->text.failed)
        n->failed = true;
    else
        add_note(n, info, ps_buf_str(&n->text), at, false);
}

void
ev_warn(ev_ctx *c, const pql_expr *at, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    ps_buf_addv(ev_note_begin(c), fmt, args);
    va_end(args);
    ev_note_end(c, false, at);
}

void
ev_info(ev_ctx *c, const pql_expr *at, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    ps_buf_addv(ev_note_begin(c), fmt, args);
    va_end(args);
    ev_note_end(c, true, at);
}

static double
larger(double a, double b)
{
    return b > a ? b : a;
}

static void
merge_figures(ev_note *note, const ev_note *more)
{
    if (note->n == 0) {
        note->kind = more->kind;
        note->t_min = more->t_min;
        note->t_max = more->t_max;
        note->bucket_min = more->bucket_min;
        note->bucket_max = more->bucket_max;
        note->max_diff = more->max_diff;
    } else {
        note->t_min = more->t_min < note->t_min ? more->t_min : note->t_min;
        note->t_max = more->t_max > note->t_max ? more->t_max : note->t_max;
        note->bucket_min = -larger(-note->bucket_min, -more->bucket_min);
        note->bucket_max = larger(note->bucket_max, more->bucket_max);
        note->max_diff = larger(note->max_diff, more->max_diff);
    }
    note->n += more->n;
}

/* Beginning and metric name of a gathered note, by which it is found again. */
static void
add_gathered(ev_ctx *c, bool info, const pql_expr *at, const char *head, const char *before_metric,
             ps_str metric, bool always, const ev_note *figures)
{
    ps_buf *text = ev_note_begin(c);
    ps_buf_add_c(text, head);
    if (always || metric.len > 0) {
        ps_buf_add_c(text, before_metric);
        pql_quote(text, metric);
    }
    ev_note *note = text->failed ? NULL : add_note(c->notes, info, ps_buf_str(text), at, true);
    if (note != NULL)
        merge_figures(note, figures);
    c->notes->failed |= text->failed;
}

void
ev_note_monotonicity(ev_ctx *c, const pql_expr *at, ps_str metric, int64_t t_ms, double from_bucket,
                     double to_bucket, double diff)
{
    ev_note f = {.kind = EV_NOTE_MONOTONICITY,
                 .t_min = t_ms,
                 .t_max = t_ms,
                 .bucket_min = from_bucket,
                 .bucket_max = to_bucket,
                 .max_diff = diff,
                 .n = 1};
    add_gathered(c, true, at,
                 "input to histogram_quantile needed to be fixed for monotonicity (see "
                 "https://prometheus.io/docs/prometheus/latest/querying/functions/"
                 "#histogram_quantile)",
                 " for metric name ", metric, false, &f);
}

void
ev_note_start_overlap(ev_ctx *c, const pql_expr *at, ps_str metric, uint64_t occurrences)
{
    ev_note f = {.kind = EV_NOTE_OVERLAP, .n = occurrences};
    add_gathered(c, false, at, "sample has start time that overlaps with previous sample timestamp",
                 " for metric ", metric, true, &f);
}

void
ev_notes_take(ev_notes *into, const ev_notes *from)
{
    into->failed |= from->failed;
    for (size_t i = 0; i < from->n; i++) {
        const ev_note *more = &from->items[i];
        bool gathered = more->kind != EV_NOTE_PLAIN;
        ev_note *note = add_note(into, more->info, more->text, more->at, gathered);
        if (note != NULL && gathered)
            merge_figures(note, more);
    }
}

/* ---- texts ------------------------------------------------------------------------------------ */

/* Go's %.2g: two significant digits, exponent from 100 on and below 0.0001. */
static void
add_two_digits(ps_buf *out, double v)
{
    char text[PS_DOUBLE_TEXT];
    if (!(v > 0) || v > 1e300 || v < 1e-300) {
        ps_format_double_go(text, v);
        ps_buf_add_c(out, text);
        return;
    }
    int exponent = (int)floor(log10(v));
    double digits = nearbyint(v / pow(10, exponent - 1));
    if (digits >= 100) {
        digits /= 10;
        exponent++;
    }
    int two = (int)digits;
    if (exponent < -4 || exponent >= 2) {
        ps_buf_addf(out, "%d", two / 10);
        if (two % 10 != 0)
            ps_buf_addf(out, ".%d", two % 10);
        ps_buf_addf(out, "e%c%02d", exponent < 0 ? '-' : '+', exponent < 0 ? -exponent : exponent);
        return;
    }
    ps_buf decimal;
    ps_buf_init(&decimal, &out->alloc);
    ps_buf_addf(&decimal, "%de%d", two, exponent - 1);
    double rounded = v;
    if (!decimal.failed && ps_parse_double(ps_buf_str(&decimal), &rounded) == PS_OK) {
        ps_format_double_go(text, rounded);
        ps_buf_add_c(out, text);
    }
    out->failed |= decimal.failed;
    ps_buf_done(&decimal);
}

/* 2006-01-02T15:04:05Z, the second that holds t_ms (towards zero, as the original divides). */
static void
add_time(ps_buf *out, int64_t t_ms)
{
    int64_t s = t_ms / 1000;
    int64_t day = s / 86400, rest = s % 86400;
    if (rest < 0) {
        rest += 86400;
        day--;
    }
    /* days since 0000-03-01, in eras of 400 years */
    int64_t z = day + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    int64_t month = mp < 10 ? mp + 3 : mp - 9;
    int64_t year = yoe + era * 400 + (month <= 2 ? 1 : 0);
    ps_buf_addf(out, "%04lld-%02d-%02dT%02d:%02d:%02dZ", (long long)year, (int)month,
                (int)(doy - (153 * mp + 2) / 5 + 1), (int)(rest / 3600), (int)(rest / 60 % 60),
                (int)(rest % 60));
}

static void
add_figures(ps_buf *out, const ev_note *note)
{
    char text[PS_DOUBLE_TEXT];
    if (note->kind == EV_NOTE_OVERLAP) {
        if (note->n > 1)
            ps_buf_addf(out, " (%llu occurrences)", (unsigned long long)note->n);
        return;
    }
    ps_buf_add_c(out, ", from buckets ");
    ps_format_double_go(text, note->bucket_min);
    ps_buf_add_c(out, text);
    ps_buf_add_c(out, " to ");
    ps_format_double_go(text, note->bucket_max);
    ps_buf_add_c(out, text);
    ps_buf_add_c(out, ", with a max diff of ");
    add_two_digits(out, note->max_diff);
    ps_buf_addf(out, ", over %llu samples from ", (unsigned long long)note->n);
    add_time(out, note->t_min);
    ps_buf_add_c(out, " to ");
    add_time(out, note->t_max);
}

static ps_status
word(ev_ctx *c, const ev_note *note, ps_str *ret)
{
    uint32_t line, column;
    ps_buf text;
    ps_buf_init(&text, ev_alloc(c));
    ps_buf_add_c(&text, note->info ? "PromQL info: " : "PromQL warning: ");
    ps_buf_add_str(&text, note->text);
    if (note->kind != EV_NOTE_PLAIN)
        add_figures(&text, note);
    /* A subquery takes the place of a selector that was never written. */
    uint32_t from = note->at->kind == PQL_SUBQUERY ? 0 : note->at->from;
    pql_line_column(c->q->text, from, &line, &column);
    ps_buf_addf(&text, " (%u:%u)", line, column);
    ps_status status = text.failed ? PS_ENOMEM : ps_arena_dup(ev_arena(c), ps_buf_str(&text), ret);
    ps_buf_done(&text);
    return status == PS_OK ? PS_OK : ev_no_memory(c);
}

ps_status
ev_notes_texts(ev_ctx *c, const ps_str **ret_warnings, size_t *ret_n_warnings,
               const ps_str **ret_infos, size_t *ret_n_infos)
{
    const ev_notes *n = c->notes;
    if (n->failed)
        return ev_no_memory(c);
    ps_str *texts = ps_arena_array(ev_arena(c), n->n + 1, sizeof *texts);
    if (texts == NULL)
        return ev_no_memory(c);
    size_t at = 0;
    for (int info = 0; info < 2; info++) {
        size_t from = at;
        for (size_t i = 0; i < n->n; i++)
            if (n->items[i].info == (info == 1))
                PS_TRY(word(c, &n->items[i], &texts[at++]));
        *(info ? ret_infos : ret_warnings) = texts + from;
        *(info ? ret_n_infos : ret_n_warnings) = at - from;
    }
    return PS_OK;
}
