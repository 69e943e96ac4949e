/*
 * script.h - test scripts, command by command.
 */
#ifndef PROMSCALE_TESTS_PROMQL_SCRIPT_H
#define PROMSCALE_TESTS_PROMQL_SCRIPT_H

#include "lib/regex/regex.h"
#include "tests/promql/values.h"

typedef struct script { /* borrows the text */
    ps_str text;
    size_t at;
    size_t line; /* of what begins at `at`, from 1 */
} script;

typedef enum script_kind { SCRIPT_END, SCRIPT_CLEAR, SCRIPT_LOAD, SCRIPT_EVAL } script_kind;

typedef struct script_load_item {
    script_series series;
    script_values starts; /* n = 0: no line of start timestamps before it */
} script_load_item;

typedef struct script_load {
    bool nhcb;
    int64_t step_ms;
    script_load_item *items;
    size_t n, cap;
} script_load;

typedef enum script_expect {
    EXPECT_FAIL,
    EXPECT_WARN,
    EXPECT_NO_WARN,
    EXPECT_INFO,
    EXPECT_NO_INFO,
    EXPECT_ORDERED,
    EXPECT_KINDS
} script_expect;

typedef struct script_text { /* what an error or an annotation must look like */
    script_expect kind;
    bool any;     /* nothing more is said */
    re_regex *re; /* found anywhere; NULL: equal to `text` */
    ps_str text;
} script_text;

enum { SCRIPT_MAX_TEXTS = 32 };

typedef struct script_eval {
    ps_str expr;
    bool range;
    int64_t start_ms, end_ms, step_ms; /* instant: start = end, step 0 */
    bool expected[EXPECT_KINDS];
    script_text texts[SCRIPT_MAX_TEXTS];
    size_t n_texts;
    bool matrix; /* an instant query that gives a matrix, over these times */
    int64_t matrix_start_ms, matrix_end_ms, matrix_step_ms;
    bool is_string, is_scalar;
    ps_str string;
    double scalar;
    script_series *series; /* in order of writing */
    size_t n_series, cap_series;
} script_eval;

typedef struct script_command {
    script_kind kind;
    size_t line;
    script_load load;
    script_eval eval;
} script_command;

void script_open(script *s, ps_str text);
/*
 * The next command; all of it in `arena`, apart from what script_command_done() frees. PS_EINVAL: lines
 * that are no command, ret->line says where; goes on behind the block next time.
 */
ps_status script_next(script *s, ps_arena *arena, script_command *ret, ps_err *err) PS_MUST_CHECK;
void script_command_done(script_command *c);
bool script_text_matches(const script_text *t, ps_str actual);

#endif
