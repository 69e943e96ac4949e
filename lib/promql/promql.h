/*
 * promql.h - the language: text to a checked syntax tree, and back.
 *
 * pql_parse() lexes, parses and type-checks in one go; the tree lives in an arena of the caller and
 * borrows nothing from the text. Nothing here evaluates: lib/eval walks the tree. The language is
 * that of Prometheus 3 (https://prometheus.io/docs/prometheus/latest/querying/basics/); messages
 * are worded as Prometheus words them, since people and tools search for them.
 *
 * Positions are byte offsets [from, to) into the query text; pql_line_column() turns one into what
 * people read. Depth is bounded (PQL_MAX_DEPTH), so that no text can exhaust the stack.
 */
#ifndef PROMSCALE_PROMQL_H
#define PROMSCALE_PROMQL_H

#include "lib/model/model.h"

enum { PQL_MAX_DEPTH = 500 };

typedef struct pql_expr pql_expr;

typedef enum pql_type { PQL_NONE, PQL_SCALAR, PQL_STRING, PQL_VECTOR, PQL_MATRIX } pql_type;

typedef enum pql_kind {
    PQL_NUMBER,    /* also a duration: 5m is 300 */
    PQL_TEXT,      /* string literal */
    PQL_SELECTOR,  /* instant vector selector */
    PQL_RANGE,     /* selector[range] */
    PQL_SUBQUERY,  /* expr[range:step] */
    PQL_CALL,      /* function(args) */
    PQL_AGGREGATE, /* sum by (a) (expr) */
    PQL_BINARY,
    PQL_UNARY,
    PQL_PAREN,
    PQL_DURATION, /* duration expression: only inside [..], [..:..] and after offset */
} pql_kind;

typedef enum pql_op {
    PQL_OP_NONE,
    PQL_ADD,
    PQL_SUB,
    PQL_MUL,
    PQL_DIV,
    PQL_MOD,
    PQL_POW,
    PQL_ATAN2,
    PQL_EQ,
    PQL_NE,
    PQL_GT,
    PQL_LT,
    PQL_GE,
    PQL_LE,
    PQL_TRIM_UPPER, /* </ : keeps observations below */
    PQL_TRIM_LOWER, /* >/ */
    PQL_AND,
    PQL_OR,
    PQL_UNLESS,
    /* duration expressions only */
    PQL_DUR_STEP,
    PQL_DUR_RANGE,
    PQL_DUR_MIN_OF,
    PQL_DUR_MAX_OF,
} pql_op;

typedef enum pql_agg {
    PQL_SUM,
    PQL_AVG,
    PQL_COUNT,
    PQL_MIN,
    PQL_MAX,
    PQL_GROUP,
    PQL_STDDEV,
    PQL_STDVAR,
    PQL_TOPK,
    PQL_BOTTOMK,
    PQL_COUNT_VALUES,
    PQL_QUANTILE,
    PQL_LIMITK,
    PQL_LIMIT_RATIO,
} pql_agg;

/* ---- functions --------------------------------------------------------------------------- */

/* One identifier per function, in alphabetical order of the names; functions.c holds the table. */
typedef enum pql_fn {
    PQL_FN_ABS,
    PQL_FN_ABSENT,
    PQL_FN_ABSENT_OVER_TIME,
    PQL_FN_ACOS,
    PQL_FN_ACOSH,
    PQL_FN_ASIN,
    PQL_FN_ASINH,
    PQL_FN_ATAN,
    PQL_FN_ATANH,
    PQL_FN_AVG_OVER_TIME,
    PQL_FN_CEIL,
    PQL_FN_CHANGES,
    PQL_FN_CLAMP,
    PQL_FN_CLAMP_MAX,
    PQL_FN_CLAMP_MIN,
    PQL_FN_COS,
    PQL_FN_COSH,
    PQL_FN_COUNT_OVER_TIME,
    PQL_FN_DAY_OF_MONTH,
    PQL_FN_DAY_OF_WEEK,
    PQL_FN_DAY_OF_YEAR,
    PQL_FN_DAYS_IN_MONTH,
    PQL_FN_DEG,
    PQL_FN_DELTA,
    PQL_FN_DERIV,
    PQL_FN_DOUBLE_EXPONENTIAL_SMOOTHING,
    PQL_FN_END,
    PQL_FN_EXP,
    PQL_FN_FIRST_OVER_TIME,
    PQL_FN_FLOOR,
    PQL_FN_HISTOGRAM_AVG,
    PQL_FN_HISTOGRAM_COUNT,
    PQL_FN_HISTOGRAM_FRACTION,
    PQL_FN_HISTOGRAM_QUANTILE,
    PQL_FN_HISTOGRAM_QUANTILES,
    PQL_FN_HISTOGRAM_STDDEV,
    PQL_FN_HISTOGRAM_STDVAR,
    PQL_FN_HISTOGRAM_SUM,
    PQL_FN_HOUR,
    PQL_FN_IDELTA,
    PQL_FN_INCREASE,
    PQL_FN_INFO,
    PQL_FN_IRATE,
    PQL_FN_LABEL_JOIN,
    PQL_FN_LABEL_REPLACE,
    PQL_FN_LAST_OVER_TIME,
    PQL_FN_LN,
    PQL_FN_LOG10,
    PQL_FN_LOG2,
    PQL_FN_MAD_OVER_TIME,
    PQL_FN_MAX_OF,
    PQL_FN_MAX_OVER_TIME,
    PQL_FN_MIN_OF,
    PQL_FN_MIN_OVER_TIME,
    PQL_FN_MINUTE,
    PQL_FN_MONTH,
    PQL_FN_PI,
    PQL_FN_PREDICT_LINEAR,
    PQL_FN_PRESENT_OVER_TIME,
    PQL_FN_QUANTILE_OVER_TIME,
    PQL_FN_RAD,
    PQL_FN_RANGE,
    PQL_FN_RATE,
    PQL_FN_RESETS,
    PQL_FN_ROUND,
    PQL_FN_SCALAR,
    PQL_FN_SGN,
    PQL_FN_SIN,
    PQL_FN_SINH,
    PQL_FN_SORT,
    PQL_FN_SORT_BY_LABEL,
    PQL_FN_SORT_BY_LABEL_DESC,
    PQL_FN_SORT_DESC,
    PQL_FN_SQRT,
    PQL_FN_START,
    PQL_FN_START_TIMESTAMP,
    PQL_FN_STDDEV_OVER_TIME,
    PQL_FN_STDVAR_OVER_TIME,
    PQL_FN_STEP,
    PQL_FN_SUM_OVER_TIME,
    PQL_FN_TAN,
    PQL_FN_TANH,
    PQL_FN_TIME,
    PQL_FN_TIMESTAMP,
    PQL_FN_TS_OF_FIRST_OVER_TIME,
    PQL_FN_TS_OF_LAST_OVER_TIME,
    PQL_FN_TS_OF_MAX_OVER_TIME,
    PQL_FN_TS_OF_MIN_OVER_TIME,
    PQL_FN_VECTOR,
    PQL_FN_YEAR,
    PQL_FN_COUNT
} pql_fn;

enum { PQL_FN_MAX_ARGS = 5 };
typedef struct pql_function {
    pql_fn id;
    const char *name;
    uint8_t n_args;  /* declared; the last one may be left out or repeated, see variadic */
    int8_t variadic; /* 0: exactly n_args; k > 0: up to k more of the last; -1: any number */
    bool experimental;
    pql_type args[PQL_FN_MAX_ARGS];
    pql_type returns;
} pql_function;

const pql_function *pql_function_named(ps_str name); /* NULL: no such function */
const pql_function *pql_function_of(pql_fn id);
const char *pql_op_text(pql_op op);       /* "+", "and", "</" */
const char *pql_agg_text(pql_agg op);     /* "sum" */
const char *pql_type_text(pql_type type); /* "instant vector", as error messages name it */

/* ---- the tree ------------------------------------------------------------------------------ */

/* Where a selector or subquery looks: offset and @. Expressions are NULL where the text held a plain
 * duration; pql_prepare() fills the numbers from them. */
typedef enum pql_at_kind { PQL_AT_NONE, PQL_AT_TIME, PQL_AT_START, PQL_AT_END } pql_at_kind;
typedef struct pql_when {
    int64_t offset_ms;
    pql_expr *offset_expr;
    bool has_offset;
    pql_at_kind at;
    int64_t at_ms; /* PQL_AT_TIME, and after pql_prepare() of the other two as well */
} pql_when;

typedef enum pql_edge { PQL_PLAIN, PQL_ANCHORED, PQL_SMOOTHED } pql_edge;

typedef struct pql_selector {
    ps_str name;           /* metric name written outside the braces, else empty */
    mdl_matcher *matchers; /* all of them; the one of the name included, in order of writing with
                              the outside name last */
    size_t n_matchers;
    pql_when when;
    pql_edge edge;
} pql_selector;

typedef enum pql_card {
    PQL_ONE_TO_ONE,
    PQL_MANY_TO_ONE /* group_left */,
    PQL_ONE_TO_MANY /* group_right */,
    PQL_MANY_TO_MANY /* set operators */
} pql_card;

typedef struct pql_matching { /* of a binary operator between two vectors */
    pql_card card;
    bool on; /* labels are those of on(), else of ignoring() */
    ps_str *labels;
    size_t n_labels;
    ps_str *include; /* of group_left / group_right */
    size_t n_include;
    bool has_fill_left, has_fill_right;
    double fill_left, fill_right;
} pql_matching;

struct pql_expr {
    pql_kind kind;
    pql_type type;
    uint32_t from, to;
    uint32_t depth; /* of the tree below and with it, at most PQL_MAX_DEPTH; 1 for a leaf */
    union {
        struct {
            double value;
            bool duration; /* written as one, printed as one */
        } number;
        ps_str text;
        pql_selector selector;
        struct {
            pql_expr *selector; /* PQL_SELECTOR; its `when` and `edge` hold those of the range */
            int64_t range_ms;
            pql_expr *range_expr;
        } range;
        struct {
            pql_expr *of;
            int64_t range_ms, step_ms; /* step 0: the default */
            pql_expr *range_expr, *step_expr;
            pql_when when;
        } subquery;
        struct {
            const pql_function *fn;
            pql_expr **args;
            size_t n_args;
        } call;
        struct {
            pql_agg op;
            pql_expr *of, *param; /* param NULL unless the operator takes one */
            ps_str *labels;
            size_t n_labels;
            bool without; /* else by; by () and nothing are the same */
        } aggregate;
        struct {
            pql_op op;
            pql_expr *lhs, *rhs;
            bool return_bool;
            bool has_matching; /* between two vectors */
            pql_matching matching;
        } binary;
        struct {
            pql_op op; /* PQL_ADD, PQL_SUB */
            pql_expr *of;
        } unary;
        pql_expr *paren;
        struct { /* leaves are PQL_NUMBER; lhs NULL: unary, or step()/range() */
            pql_op op;
            pql_expr *lhs, *rhs;
            bool wrapped; /* was in parentheses */
        } duration;
    };
};

/* ---- text to tree ---------------------------------------------------------------------------- */

typedef struct pql_options {
    bool experimental_functions; /* and the aggregations limitk, limit_ratio */
    bool extended_range;         /* anchored, smoothed */
    bool fill;                   /* fill modifiers of binary operators */
} pql_options;

typedef struct pql_error {
    uint32_t line, column; /* from 1; column in bytes */
    uint32_t from, to;
    char text[512]; /* whole message: "1:5: parse error: ..." */
} pql_error;

/*
 * Parses and checks `text`. The tree and all that it points to are in `arena`. PS_EINVAL: wrong text,
 * *error tells what and where; PS_ENOMEM: the arena's budget, PS_ELIMIT: too deep (PQL_MAX_DEPTH),
 * both with a text as well.
 */
ps_status pql_parse(ps_arena *arena, ps_str text, const pql_options *options, pql_expr **ret,
                    pql_error *error) PS_MUST_CHECK;
/* A selector alone, as match[] parameters hold it: matchers in `arena`. The same errors. */
ps_status pql_parse_selector(ps_arena *arena, ps_str text, pql_expr **ret,
                             pql_error *error) PS_MUST_CHECK;
/* A series as scripts and rules write it: name{a="b"}, {"u.b", a="b"}, {}: labels sorted by name. */
ps_status pql_parse_series(ps_arena *arena, ps_str text, mdl_labels *ret,
                           pql_error *error) PS_MUST_CHECK;
void pql_line_column(ps_str text, uint32_t at, uint32_t *ret_line, uint32_t *ret_column);

/*
 * Makes a tree ready for one evaluation: duration expressions become numbers (step() and range() are
 * known now), @ start() and @ end() become times, calls of start(), end(), range() and step() become
 * numbers. All in place. An instant query has start = end and step 0. PS_EINVAL with the text in *error
 * (division by zero, a range that is not positive, ...).
 */
ps_status pql_prepare(ps_arena *arena, pql_expr *expr, int64_t start_ms, int64_t end_ms,
                      int64_t step_ms, pql_error *error) PS_MUST_CHECK;

/* Strings and numbers of the language for others who read such texts (scripts, SQL): s is the whole
 * literal with its quotes; NULL-free result in `arena`. */
ps_status pql_unquote(ps_arena *arena, ps_str s, ps_str *ret) PS_MUST_CHECK;
ps_status pql_parse_number(ps_str s, double *ret) PS_MUST_CHECK; /* also 0x1f, 017, 1_000, 5m */

/* ---- tree to text ---------------------------------------------------------------------------- */

void pql_print(ps_buf *out, const pql_expr *expr);        /* canonical, one line */
void pql_print_pretty(ps_buf *out, const pql_expr *expr); /* lines of at most 100 where possible */
void pql_print_json(ps_buf *out, const pql_expr *expr);   /* as /api/v1/parse_query */
void pql_quote(ps_buf *out, ps_str s);                    /* double quotes, Go's escapes */
/* Children of a node in order of writing, for those who walk trees: at most max go to `ret`; returns
 * how many there are. Duration expressions are not children. */
size_t pql_children(const pql_expr *expr, pql_expr **ret, size_t max);
/* Without the parentheses around it. */
const pql_expr *pql_unwrap(const pql_expr *expr);

#endif
