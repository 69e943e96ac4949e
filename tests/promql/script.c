/*
 * script.c - cuts scripts into lines, and blocks of lines into commands.
 *
 * A line that begins with "#" is an empty line, and an empty line ends a block. Whatever is not understood
 * is an error: a runner that passes over lines proves nothing.
 */
#include "tests/promql/script.h"

static bool
is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

void
script_open(script *s, ps_str text)
{
    *s = (script){text, 0, 1};
}

/* ---- lines --------------------------------------------------------------------------------------- */

/* The line at s->at without blanks around it, "" if it is a comment; *next: where the one after begins. */
static ps_str
peek_line(const script *s, size_t *next)
{
    const char *from = s->text.ptr + s->at;
    size_t left = s->text.len - s->at;
    const char *end = memchr(from, '\n', left);
    size_t len = end == NULL ? left : (size_t)(end - from);
    *next = s->at + len + (end != NULL);
    while (len > 0 && is_space(from[len - 1]))
        len--;
    while (len > 0 && is_space(*from)) {
        from++;
        len--;
    }
    if (len > 0 && *from == '#')
        len = 0;
    return (ps_str){from, len};
}

/* The next line of the block; false at its end. */
static bool
block_line(script *s, ps_str *ret)
{
    size_t next;
    if (s->at >= s->text.len)
        return false;
    *ret = peek_line(s, &next);
    if (ret->len == 0)
        return false;
    s->at = next;
    s->line++;
    return true;
}

static ps_status
read_duration(ps_str s, int64_t *ret, ps_err *err)
{
    if (ps_str_eq_c(s, "0")) {
        *ret = 0;
        return PS_OK;
    }
    if (ps_parse_duration(s, ret) != PS_OK)
        return ps_fail(err, PS_EINVAL, "bad duration: %.*s", (int)(s.len < 99 ? s.len : 99), s.ptr);
    return PS_OK;
}

static ps_status
expect_word(ps_str *rest, const char *word, ps_err *err)
{
    ps_str after;
    ps_str got = script_word(*rest, &after);
    if (!ps_str_eq_c(got, word))
        return ps_fail(err, PS_EINVAL, "\"%s\" expected, not \"%.*s\"", word,
                       (int)(got.len < 99 ? got.len : 99), got.ptr);
    *rest = after;
    return PS_OK;
}

static ps_status
word_and_duration(ps_str *rest, const char *word, int64_t *ret, ps_err *err)
{
    PS_TRY(expect_word(rest, word, err));
    return read_duration(script_word(*rest, rest), ret, err);
}

/* "from D to D step D" */
static ps_status
read_times(ps_str *rest, int64_t *start, int64_t *end, int64_t *step, ps_err *err)
{
    PS_TRY(word_and_duration(rest, "from", start, err));
    PS_TRY(word_and_duration(rest, "to", end, err));
    PS_TRY(word_and_duration(rest, "step", step, err));
    if (*end < *start || *step <= 0)
        return ps_fail(err, PS_EINVAL, "the end is before the start, or the step is not positive");
    return PS_OK;
}

/* ---- load ------------------------------------------------------------------------------------------ */

static bool
same_labels(const script_load_item *a, const script_series *b)
{
    return mdl_labels_eq(a->series.labels, b->labels);
}

/* A series that comes twice counts as it was written last. */
static ps_status
put_item(ps_arena *arena, script_load *load, const script_load_item *item, ps_err *err)
{
    for (size_t i = 0; i < load->n; i++) {
        if (same_labels(&load->items[i], &item->series)) {
            load->items[i] = *item;
            return PS_OK;
        }
    }
    if (load->n == load->cap) {
        size_t cap = load->cap == 0 ? 16 : 2 * load->cap;
        script_load_item *grown = ps_arena_array(arena, cap, sizeof *grown);
        if (grown == NULL)
            return ps_fail(err, PS_ENOMEM, "out of memory");
        if (load->n > 0)
            memcpy(grown, load->items, load->n * sizeof *grown);
        load->items = grown;
        load->cap = cap;
    }
    load->items[load->n++] = *item;
    return PS_OK;
}

static ps_status
parse_load(script *s, ps_arena *arena, ps_str first, ps_str args, script_command *c, ps_err *err)
{
    script_load *load = &c->load;
    c->kind = SCRIPT_LOAD;
    load->nhcb = ps_str_eq_c(first, "load_with_nhcb");
    if (!load->nhcb && !ps_str_eq_c(first, "load"))
        return ps_fail(err, PS_EINVAL, "no such command: %.*s", (int)first.len, first.ptr);
    PS_TRY(read_duration(args, &load->step_ms, err));
    script_series starts;
    bool pending = false;
    ps_str line;
    while (c->line = s->line, block_line(s, &line)) {
        script_load_item item = {0};
        PS_TRY(script_parse_series(arena, line, &item.series, err));
        if (item.series.starts) {
            if (pending)
                return ps_fail(err, PS_EINVAL, "two @st lines in a row");
            starts = item.series;
            pending = true;
            continue;
        }
        if (pending) {
            if (!same_labels(&item, &starts) || starts.values.n != item.series.values.n)
                return ps_fail(err, PS_EINVAL, "the @st line before is of another series or size");
            item.starts = starts.values;
            pending = false;
        }
        PS_TRY(put_item(arena, load, &item, err));
    }
    if (pending)
        return ps_fail(err, PS_EINVAL, "an @st line without its series");
    return PS_OK;
}

/* ---- eval ------------------------------------------------------------------------------------------ */

static const char *const expect_names[EXPECT_KINDS] = {"fail", "warn",    "no_warn",
                                                       "info", "no_info", "ordered"};

static ps_status
add_text(script_eval *e, script_expect kind, const char *how, ps_str text, ps_err *err)
{
    if (e->n_texts == SCRIPT_MAX_TEXTS)
        return ps_fail(err, PS_EINVAL, "more than %d expectations", (int)SCRIPT_MAX_TEXTS);
    script_text *t = &e->texts[e->n_texts];
    *t = (script_text){.kind = kind, .any = how == NULL, .text = text};
    if (how != NULL && strcmp(how, "regex") == 0)
        PS_TRY(re_compile(text, &t->re, err));
    e->n_texts++;
    return PS_OK;
}

/* "expect warn regex: ..." */
static ps_status
parse_expect(script_eval *e, ps_str rest, ps_err *err)
{
    ps_str how;
    ps_str word = script_word(rest, &how);
    script_expect kind = 0;
    while (kind < EXPECT_KINDS && !ps_str_eq_c(word, expect_names[kind]))
        kind++;
    if (kind == EXPECT_KINDS)
        return ps_fail(err, PS_EINVAL, "what is expected? %.*s", (int)word.len, word.ptr);
    if (kind == EXPECT_FAIL && e->expected[kind])
        return ps_fail(err, PS_EINVAL, "two failures are expected");
    e->expected[kind] = true;
    if ((e->expected[EXPECT_WARN] && e->expected[EXPECT_NO_WARN]) ||
        (e->expected[EXPECT_INFO] && e->expected[EXPECT_NO_INFO]))
        return ps_fail(err, PS_EINVAL, "annotations are expected, and expected not to be");
    if (how.len == 0)
        return add_text(e, kind, NULL, how, err);
    static const char *const hows[] = {"regex", "msg"};
    for (size_t i = 0; i < PS_ARRAY_LEN(hows); i++) {
        size_t n = strlen(hows[i]);
        if (how.len > n + 1 && memcmp(how.ptr, hows[i], n) == 0 && how.ptr[n] == ':') {
            ps_str text = ps_str_trim((ps_str){how.ptr + n + 1, how.len - n - 1});
            return add_text(e, kind, hows[i], text, err);
        }
    }
    return ps_fail(err, PS_EINVAL, "msg: or regex: expected, not %.*s",
                   (int)(how.len < 99 ? how.len : 99), how.ptr);
}

static ps_status
add_expected(ps_arena *arena, script_eval *e, const script_series *series, ps_err *err)
{
    if (e->n_series == e->cap_series) {
        size_t cap = e->cap_series == 0 ? 16 : 2 * e->cap_series;
        script_series *grown = ps_arena_array(arena, cap, sizeof *grown);
        if (grown == NULL)
            return ps_fail(err, PS_ENOMEM, "out of memory");
        if (e->n_series > 0)
            memcpy(grown, e->series, e->n_series * sizeof *grown);
        e->series = grown;
        e->cap_series = cap;
    }
    e->series[e->n_series++] = *series;
    return PS_OK;
}

static bool
after(ps_str line, const char *start, ps_str *ret)
{
    ps_str s = ps_str_c(start);
    if (!ps_str_starts(line, s))
        return false;
    *ret = ps_str_trim((ps_str){line.ptr + s.len, line.len - s.len});
    return true;
}

/* One line of the body; *last: what follows is not of this block any more. */
static ps_status
parse_body_line(ps_arena *arena, script_eval *e, ps_str line, bool *last, ps_err *err)
{
    ps_str rest;
    bool old_fail = e->expected[EXPECT_FAIL];
    if (old_fail && after(line, "expected_fail_message", &rest)) {
        *last = true;
        return add_text(e, EXPECT_FAIL, "msg", rest, err);
    }
    if (old_fail && after(line, "expected_fail_regexp", &rest)) {
        *last = true;
        return add_text(e, EXPECT_FAIL, "regex", rest, err);
    }
    if (after(line, "expect range vector", &rest)) {
        e->matrix = true;
        PS_TRY(read_times(&rest, &e->matrix_start_ms, &e->matrix_end_ms, &e->matrix_step_ms, err));
        e->start_ms = e->end_ms = e->matrix_end_ms;
        return rest.len == 0 ? PS_OK : ps_fail(err, PS_EINVAL, "more after the step");
    }
    if (after(line, "expect string", &rest)) {
        e->is_string = true;
        if (pql_unquote(arena, rest, &e->string) != PS_OK)
            return ps_fail(err, PS_EINVAL, "a quoted string expected");
        return PS_OK;
    }
    if (ps_str_eq_c(script_word(line, &rest), "expect"))
        return parse_expect(e, rest, err);
    if (script_parse_number(line, &e->scalar)) {
        e->is_scalar = *last = true;
        return PS_OK;
    }
    script_series series;
    PS_TRY(script_parse_series(arena, line, &series, err));
    if (series.starts || (!e->range && !e->matrix && series.values.n != 1))
        return ps_fail(err, PS_EINVAL, "an instant query gives one value for each series");
    return add_expected(arena, e, &series, err);
}

static ps_status
parse_eval(script *s, ps_arena *arena, ps_str first, ps_str args, script_command *c, ps_err *err)
{
    script_eval *e = &c->eval;
    c->kind = SCRIPT_EVAL;
    ps_str kind = script_word(args, &args);
    e->range = ps_str_eq_c(kind, "range");
    if (first.len > 4) {
        ps_str mod = {first.ptr + 5, first.len - 5};
        script_expect i = 0;
        while (i < EXPECT_KINDS && !ps_str_eq_c(mod, expect_names[i]))
            i++;
        if (first.ptr[4] != '_' || i == EXPECT_KINDS || i == EXPECT_NO_WARN ||
            i == EXPECT_NO_INFO || (e->range && i == EXPECT_ORDERED))
            return ps_fail(err, PS_EINVAL, "no such command: %.*s", (int)first.len, first.ptr);
        e->expected[i] = true;
        if (i != EXPECT_FAIL && i != EXPECT_ORDERED)
            PS_TRY(add_text(e, i, NULL, mod, err));
    }
    if (e->range) {
        PS_TRY(read_times(&args, &e->start_ms, &e->end_ms, &e->step_ms, err));
    } else {
        if (!ps_str_eq_c(kind, "instant"))
            return ps_fail(err, PS_EINVAL, "instant or range expected");
        PS_TRY(word_and_duration(&args, "at", &e->start_ms, err));
        e->end_ms = e->start_ms;
    }
    e->expr = args;
    if (args.len == 0)
        return ps_fail(err, PS_EINVAL, "no expression");
    bool last = false;
    ps_str line;
    while (!last && (c->line = s->line, block_line(s, &line)))
        PS_TRY(parse_body_line(arena, e, line, &last, err));
    return PS_OK;
}

/* ---- commands -------------------------------------------------------------------------------------- */

static ps_status
parse_command(script *s, ps_arena *arena, script_command *ret, ps_err *err)
{
    ps_str line;
    ps_str rest;
    if (!block_line(s, &line))
        return PS_OK;
    ps_str first = script_word(line, &rest);
    if (ps_str_eq_nocase(first, PS_STR("clear"))) {
        ret->kind = SCRIPT_CLEAR;
        return rest.len == 0 ? PS_OK : ps_fail(err, PS_EINVAL, "more after clear");
    }
    if (ps_str_starts(first, PS_STR("load")))
        return parse_load(s, arena, first, rest, ret, err);
    if (ps_str_starts(first, PS_STR("eval")))
        return parse_eval(s, arena, first, rest, ret, err);
    return ps_fail(err, PS_EINVAL, "no such command: %.*s", (int)(line.len < 99 ? line.len : 99),
                   line.ptr);
}

ps_status
script_next(script *s, ps_arena *arena, script_command *ret, ps_err *err)
{
    size_t next;
    ps_str line;
    memset(ret, 0, sizeof *ret);
    while (s->at < s->text.len && peek_line(s, &next).len == 0) {
        s->at = next;
        s->line++;
    }
    if (s->at >= s->text.len)
        return PS_OK; /* SCRIPT_END */
    size_t first = s->line;
    ret->line = first;
    ps_status status = parse_command(s, arena, ret, err);
    if (status != PS_OK) {
        while (block_line(s, &line))
            ;
        return status;
    }
    ret->line = first;
    return PS_OK;
}

void
script_command_done(script_command *c)
{
    for (size_t i = 0; i < c->eval.n_texts; i++) {
        if (c->eval.texts[i].re != NULL)
            re_free(c->eval.texts[i].re);
    }
    c->eval.n_texts = 0;
}

bool
script_text_matches(const script_text *t, ps_str actual)
{
    if (t->any)
        return true;
    return t->re != NULL ? re_search(t->re, actual) : ps_str_eq(t->text, actual);
}
