/*
 * internal.h - what the files of lib/promql share: tokens, the parser's state, building of nodes and
 * of error messages.
 *
 * One struct serves lexer and parser. The first error ends everything: it sets `status`, and each
 * function returns NULL (or an error token) from then on. A token is lexed only when a decision
 * depends on it: which of two faults of a query is reported depends on that order, and ours is that
 * of Prometheus.
 */
#ifndef PROMSCALE_PROMQL_INTERNAL_H
#define PROMSCALE_PROMQL_INTERNAL_H

#include "lib/promql/promql.h"

typedef enum pql_token_type {
    T_ERROR,
    T_EOF,
    T_IDENTIFIER,
    T_METRIC_IDENTIFIER, /* holds a colon */
    T_NUMBER,
    T_DURATION,
    T_STRING,
    T_LEFT_PAREN,
    T_RIGHT_PAREN,
    T_LEFT_BRACE,
    T_RIGHT_BRACE,
    T_LEFT_BRACKET,
    T_RIGHT_BRACKET,
    T_COMMA,
    T_COLON,
    T_EQL, /* = */
    /* operators, from here to T_ATAN2: messages name them so */
    T_ADD,
    T_SUB,
    T_MUL,
    T_DIV,
    T_MOD,
    T_POW,
    T_EQLC, /* == */
    T_NEQ,
    T_GTR,
    T_LSS,
    T_GTE,
    T_LTE,
    T_TRIM_UPPER,
    T_TRIM_LOWER,
    T_EQL_REGEX,
    T_NEQ_REGEX,
    T_AT,
    T_AND,
    T_OR,
    T_UNLESS,
    T_ATAN2,
    /* aggregations, in the order of pql_agg */
    T_SUM,
    T_AVG,
    T_COUNT,
    T_MIN,
    T_MAX,
    T_GROUP,
    T_STDDEV,
    T_STDVAR,
    T_TOPK,
    T_BOTTOMK,
    T_COUNT_VALUES,
    T_QUANTILE,
    T_LIMITK,
    T_LIMIT_RATIO,
    /* keywords */
    T_BOOL,
    T_BY,
    T_WITHOUT,
    T_ON,
    T_IGNORING,
    T_GROUP_LEFT,
    T_GROUP_RIGHT,
    T_FILL,
    T_FILL_LEFT,
    T_FILL_RIGHT,
    T_OFFSET,
    T_ANCHORED,
    T_SMOOTHED,
    /* words that are functions, names or parts of durations by place */
    T_START,
    T_END,
    T_STEP,
    T_RANGE,
    T_MAX_OF,
    T_MIN_OF,
    T_TYPES
} pql_token_type;

typedef struct pql_token {
    pql_token_type type;
    uint32_t from, to;
} pql_token;

typedef struct pql_lexer {
    uint32_t pos;   /* next byte */
    uint32_t start; /* first byte of the token being read */
    int32_t parens; /* open ones */
    bool in_braces, in_brackets;
    bool in_duration; /* between [ and the first number: stricter than in_brackets alone */
    bool got_colon, got_number;
} pql_lexer;

/* What an unexpected token is unexpected in. */
typedef struct pql_place {
    const char *where, *expected; /* "" each if there is nothing to say */
} pql_place;

typedef struct pql_parser {
    ps_arena *arena;
    ps_str text;
    pql_options options;
    pql_error *error;
    ps_status status;
    pql_lexer lex;
    pql_token token; /* valid if peeked */
    bool peeked;
    uint32_t taken_to; /* end of the last token that was taken */
    const pql_place *place;
    uint32_t nesting;
    ps_buf message;
} pql_parser;

void pql_parser_init(pql_parser *p, ps_arena *arena, ps_str text, pql_error *error);

/* ---- errors ---------------------------------------------------------------------------------- */

/*
 * The first error of the parser, later ones are ignored. `format` knows %s (const char *), %q
 * (ps_str, quoted), %c (uint32_t, a quoted character), %d (unsigned), %U (uint32_t as U+0041 'A').
 * Always returns NULL, for "return pql_fail(...)".
 */
void *pql_fail(pql_parser *p, uint32_t from, uint32_t to, const char *format, ...);
/* The token that was peeked at fits nowhere. */
void *pql_unexpected(pql_parser *p);
void *pql_unexpected_in(pql_parser *p, const char *where, const char *expected);
void *pql_no_memory(pql_parser *p);
void *pql_too_deep(pql_parser *p, uint32_t from);
void pql_append(ps_buf *out, const char *format, va_list args);
/* Text of an error that has no place in a query, or a place of its own kind. */
void pql_set_error(pql_error *error, uint32_t from, uint32_t to, ps_str text);

/* ---- lex.c, lex_number.c --------------------------------------------------------------------- */

pql_token pql_lex(pql_parser *p);
/* Decodes the character at `at`; *ret_width is 0 at the end (result PQL_END_OF_TEXT), 1 for a bad
 * byte (result U+FFFD). */
enum { PQL_END_OF_TEXT = UINT32_MAX >> 1, PQL_BAD_RUNE = 0xFFFD };
uint32_t pql_rune(ps_str text, uint32_t at, uint32_t *ret_width);
/* Reads a number or duration at lex.pos. */
pql_token pql_lex_number(pql_parser *p);

/* Type of the next token, which stays. T_ERROR if there is a (lexical or earlier) error. */
static inline pql_token_type
pql_peek(pql_parser *p)
{
    if (p->status != PS_OK)
        return T_ERROR;
    if (!p->peeked) {
        p->token = pql_lex(p);
        p->peeked = true;
    }
    return p->token.type;
}

/* Takes the token that was peeked at. */
static inline pql_token
pql_take(pql_parser *p)
{
    p->peeked = false;
    p->taken_to = p->token.to;
    return p->token;
}

static inline ps_str
pql_token_text(const pql_parser *p, pql_token t)
{
    return (ps_str){p->text.ptr + t.from, t.to - t.from};
}

static inline bool
pql_is_aggregator(pql_token_type t)
{
    return t >= T_SUM && t <= T_LIMIT_RATIO;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

/* Zeroed; NULL and an error if there is no memory. */
pql_expr *pql_new(pql_parser *p, pql_kind kind, uint32_t from, uint32_t to);
void *pql_new_array(pql_parser *p, size_t n, size_t size);
/* Makes node->depth one more than that of the child; false (and an error) if that is too much. */
bool pql_over(pql_parser *p, pql_expr *node, const pql_expr *child);
/* Heap sort: no memory, and no list that makes it slow. */
void pql_sort(ps_str *items, size_t n);
bool pql_enter(pql_parser *p); /* one level of recursion; pql_leave() also after false */
void pql_leave(pql_parser *p);

/* ---- parse*.c -------------------------------------------------------------------------------- */

/* Precedences of binary operators, low to high. */
enum { PQL_PREC_OR = 1, PQL_PREC_AND, PQL_PREC_COMPARE, PQL_PREC_ADD, PQL_PREC_MUL, PQL_PREC_POW };

pql_expr *pql_parse_expr(pql_parser *p, int precedence);
pql_expr *pql_parse_primary(pql_parser *p);
pql_expr *pql_parse_braces(pql_parser *p, pql_token name, bool has_name);
pql_expr *pql_parse_aggregate(pql_parser *p, pql_token op);
pql_expr *pql_parse_call(pql_parser *p, pql_token name);
pql_expr *pql_parse_postfix(pql_parser *p, pql_expr *base);
pql_expr *pql_parse_literal(pql_parser *p); /* number or duration, which has been peeked at */
/* A duration expression of at least this precedence; after offset the grammar is another. */
pql_expr *pql_parse_duration(pql_parser *p, int precedence);
pql_expr *pql_parse_offset_duration(pql_parser *p);
bool pql_starts_expr(pql_token_type t);
bool pql_is_metric_name(pql_token_type t);
bool pql_is_label_name(pql_token_type t);
/* Names in parentheses: of by, without, on, ignoring, group_left, group_right. */
bool pql_parse_label_list(pql_parser *p, ps_str **ret, size_t *ret_n, uint32_t *ret_to);
/* The text of a string token. */
bool pql_string(pql_parser *p, pql_token t, ps_str *ret);
double pql_seconds_of(int64_t ms);
/* True if the literal (seconds) does not fit in Prometheus's nanoseconds. */
bool pql_seconds_out_of_range(double seconds);
/* A literal in milliseconds. As Prometheus counts: rounded to nanoseconds, then cut. */
int64_t pql_literal_ms(const pql_expr *number);

/* ---- check.c --------------------------------------------------------------------------------- */

void pql_check(pql_parser *p, pql_expr *expr);
bool pql_check_matcher(pql_parser *p, const mdl_matcher *m, uint32_t from, uint32_t to);

/* ---- printing -------------------------------------------------------------------------------- */

enum { PQL_PRETTY_LINE = 100 };
void pql_print_labels(ps_buf *out, const ps_str *labels, size_t n);
void pql_print_aggregate_head(ps_buf *out, const pql_expr *expr); /* sum by (a)␠ */
void pql_print_operator(ps_buf *out, const pql_expr *expr);       /* + on (a) group_left () */
void pql_print_subquery_tail(ps_buf *out, const pql_expr *expr);  /* [5m:1m] offset 1m */
void pql_print_duration(ps_buf *out, int64_t ms);
bool pql_is_plain_name(ps_str name, bool colon);
void pql_quote_rune(ps_buf *out, uint32_t rune, char quote);

#endif
