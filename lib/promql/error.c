/*
 * error.c - the message of the first error, and the state it leaves behind.
 *
 * Messages are built in the arena and copied, cut at a character boundary, into the caller's
 * pql_error: texts from the query are quoted, so that any bytes come out as readable UTF-8. What a
 * query can put into a message is cut first. Running out of memory needs no message to be built.
 */
#include "lib/promql/internal.h"

enum { MAX_QUOTED = 256 };

void
pql_line_column(ps_str text, uint32_t at, uint32_t *ret_line, uint32_t *ret_column)
{
    uint32_t line = 1, start = 0;
    for (uint32_t i = 0; i < at && i < text.len; i++) {
        if (text.ptr[i] == '\n') {
            line++;
            start = i + 1;
        }
    }
    *ret_line = line;
    *ret_column = at - start + 1;
}

void
pql_set_error(pql_error *error, uint32_t from, uint32_t to, ps_str text)
{
    size_t n = ps_utf8_prefix(text, sizeof error->text - 1);
    error->from = from;
    error->to = to;
    memcpy(error->text, text.ptr, n);
    error->text[n] = '\0';
}

static ps_str
cut(ps_str s, size_t max)
{
    return (ps_str){s.ptr, s.len > max ? ps_utf8_prefix(s, max) : s.len};
}

static void
append_one(ps_buf *out, char verb, va_list *args)
{
    switch (verb) {
    case 's':
        ps_buf_add_c(out, va_arg(*args, const char *));
        break;
    case 'q':
        pql_quote(out, cut(va_arg(*args, ps_str), MAX_QUOTED));
        break;
    case 'd':
        ps_buf_addf(out, "%u", va_arg(*args, unsigned));
        break;
    case 'c':
        pql_quote_rune(out, va_arg(*args, uint32_t), '\'');
        break;
    case 'U': {
        uint32_t rune = va_arg(*args, uint32_t);
        ps_buf_addf(out, "U+%04X ", (unsigned)rune);
        pql_quote_rune(out, rune, '\'');
        break;
    }
    default:
        ps_buf_add_char(out, verb);
    }
}

void
pql_append(ps_buf *out, const char *format, va_list args)
{
    va_list copy;
    va_copy(copy, args);
    for (const char *f = format; *f != '\0'; f++) {
        if (*f == '%' && f[1] != '\0')
            append_one(out, *++f, &copy);
        else
            ps_buf_add_char(out, *f);
    }
    va_end(copy);
}

static void
place_error(pql_parser *p, uint32_t from, uint32_t to, ps_status status)
{
    p->status = status;
    pql_line_column(p->text, from, &p->error->line, &p->error->column);
    ps_buf_clear(&p->message);
    if (p->text.len == 0)
        ps_buf_add_c(&p->message, "unknown position: parse error: ");
    else
        ps_buf_addf(&p->message, "%u:%u: parse error: ", (unsigned)p->error->line,
                    (unsigned)p->error->column);
    p->error->from = from;
    p->error->to = to;
}

static void *
finish_error(pql_parser *p)
{
    if (p->message.failed)
        p->status = PS_ENOMEM;
    ps_str text = p->message.failed ? PS_STR("not enough memory to parse the query")
                                    : ps_buf_str(&p->message);
    pql_set_error(p->error, p->error->from, p->error->to, text);
    return NULL;
}

void *
pql_fail(pql_parser *p, uint32_t from, uint32_t to, const char *format, ...)
{
    if (p->status != PS_OK)
        return NULL;
    place_error(p, from, to, PS_EINVAL);
    va_list args;
    va_start(args, format);
    pql_append(&p->message, format, args);
    va_end(args);
    return finish_error(p);
}

void *
pql_no_memory(pql_parser *p)
{
    if (p->status != PS_OK)
        return NULL;
    p->status = PS_ENOMEM;
    p->error->line = p->error->column = 1;
    pql_set_error(p->error, 0, 0, PS_STR("not enough memory to parse the query"));
    return NULL;
}

void *
pql_too_deep(pql_parser *p, uint32_t from)
{
    if (p->status != PS_OK)
        return NULL;
    place_error(p, from, (uint32_t)p->text.len, PS_ELIMIT);
    ps_buf_addf(&p->message, "expression is nested deeper than %d levels", PQL_MAX_DEPTH);
    return finish_error(p);
}

/* ---- unexpected tokens ------------------------------------------------------------------------ */

/* A token as messages name it; words of the language by their kind. */
static void
describe(pql_parser *p, pql_token t)
{
    ps_buf *out = &p->message;
    ps_str text = cut(pql_token_text(p, t), MAX_QUOTED);
    const char *kind = NULL;
    if (t.type == T_EOF) {
        ps_buf_add_c(out, "end of input");
        return;
    }
    if (t.type == T_IDENTIFIER)
        kind = "identifier ";
    else if (t.type == T_METRIC_IDENTIFIER)
        kind = "metric identifier ";
    else if (t.type == T_STRING)
        kind = "string ";
    else if (t.type == T_NUMBER)
        kind = "number ";
    else if (t.type == T_DURATION)
        kind = "duration ";
    if (kind != NULL)
        ps_buf_add_c(out, kind);
    const char *open = NULL;
    if (t.type >= T_ADD && t.type <= T_ATAN2)
        open = "<op:";
    else if (pql_is_aggregator(t.type))
        open = "<aggr:";
    else if (t.type >= T_BOOL && t.type <= T_SMOOTHED)
        open = "<";
    if (open != NULL) {
        ps_buf_add_c(out, open);
        ps_buf_add_str(out, text);
        ps_buf_add_char(out, '>');
        return;
    }
    bool name = t.type == T_IDENTIFIER || t.type == T_METRIC_IDENTIFIER;
    if (name || text.len <= 10) {
        pql_quote(out, text);
        return;
    }
    size_t n = 0; /* ten characters */
    for (int i = 0; i < 10 && n < text.len; i++) {
        uint32_t width;
        pql_rune(text, (uint32_t)n, &width);
        n += width;
    }
    pql_quote(out, (ps_str){text.ptr, n});
    ps_buf_add_c(out, "...");
}

void *
pql_unexpected_in(pql_parser *p, const char *where, const char *expected)
{
    if (p->status != PS_OK)
        return NULL;
    place_error(p, p->token.from, p->token.to, PS_EINVAL);
    ps_buf_add_c(&p->message, "unexpected ");
    describe(p, p->token);
    if (where[0] != '\0') {
        ps_buf_add_c(&p->message, " in ");
        ps_buf_add_c(&p->message, where);
    }
    if (expected[0] != '\0') {
        ps_buf_add_c(&p->message, ", expected ");
        ps_buf_add_c(&p->message, expected);
    }
    return finish_error(p);
}

void *
pql_unexpected(pql_parser *p)
{
    return pql_unexpected_in(p, p->place->where, p->place->expected);
}
