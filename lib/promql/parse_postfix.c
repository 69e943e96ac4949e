/*
 * parse_postfix.c - what follows an operand: [range], [range:step], offset, @, anchored, smoothed.
 *
 * They bind closer than any operator. offset and @ belong to a selector (that of a range selector
 * too) or to a subquery, in either order, each once. A literal duration becomes a number at once;
 * any other duration expression is kept until pql_prepare().
 */
#include "lib/promql/internal.h"

/* ---- offset and @ ------------------------------------------------------------------------------ */

/* Where the offset and @ of an expression are; NULL if it can have none. */
static pql_when *
when_of(pql_expr *base)
{
    switch (base->kind) {
    case PQL_SELECTOR:
        return &base->selector.when;
    case PQL_RANGE:
        return &base->range.selector->selector.when;
    case PQL_SUBQUERY:
        return &base->subquery.when;
    default:
        return NULL;
    }
}

static bool
add_offset(pql_parser *p, pql_expr *base)
{
    static const pql_place place = {"offset", "number, duration, step(), or range()"};
    const pql_place *outer = p->place;
    pql_take(p);
    p->place = &place;
    pql_expr *duration = pql_parse_offset_duration(p);
    p->place = outer;
    if (duration == NULL)
        return false;
    pql_when *when = when_of(base);
    if (when == NULL) {
        pql_fail(p, base->from, base->to,
                 "offset modifier must be preceded by an instant vector selector or range vector "
                 "selector or a subquery");
    } else if (when->has_offset) {
        pql_fail(p, base->from, base->to, "offset may not be set multiple times");
    } else if (duration->kind == PQL_NUMBER) {
        when->offset_ms = pql_literal_ms(duration);
        when->has_offset = when->offset_ms != 0;
    } else {
        when->offset_expr = duration;
        when->has_offset = true;
        pql_over(p, base, duration);
    }
    base->to = p->taken_to;
    return p->status == PS_OK;
}

/* The places where an @ may be set; NULL and an error if there is none or it is taken. */
static pql_when *
when_for_at(pql_parser *p, pql_expr *base)
{
    pql_when *when = when_of(base);
    if (when == NULL)
        return pql_fail(p, base->from, base->to,
                        "@ modifier must be preceded by an instant vector selector or range vector "
                        "selector or a subquery");
    if (when->at != PQL_AT_NONE)
        return pql_fail(p, base->from, base->to, "@ <timestamp> may not be set multiple times");
    return when;
}

static bool
at_time(pql_parser *p, pql_expr *base, bool negative)
{
    const double limit = 9223372036854775808.0;
    pql_expr *number = pql_parse_literal(p);
    if (number == NULL)
        return false;
    double seconds = negative ? -number->number.value : number->number.value;
    if (!(seconds > -limit && seconds < limit)) {
        char text[PS_DOUBLE_PLAIN_TEXT];
        ps_format_double_plain(text, seconds);
        bool finite = seconds - seconds == 0;
        pql_fail(p, base->from, base->to, "timestamp out of bounds for @ modifier: %s%s", text,
                 finite ? ".000000" : "");
        return false;
    }
    pql_when *when = when_for_at(p, base);
    if (when == NULL)
        return false;
    /* Milliseconds beyond int64 lie outside of all data: the ends of time stand for them. */
    double ms = seconds * 1000;
    if (ms >= limit || ms < -limit) {
        when->at_ms = ms > 0 ? INT64_MAX : INT64_MIN;
    } else {
        int64_t whole = (int64_t)ms;
        double rest = ms - (double)whole;
        when->at_ms = whole + (rest >= 0.5) - (rest <= -0.5);
    }
    when->at = PQL_AT_TIME;
    base->to = number->to;
    return true;
}

static bool
add_at(pql_parser *p, pql_expr *base)
{
    static const pql_place place = {"@", "timestamp"};
    const pql_place *outer = p->place;
    pql_take(p);
    p->place = &place;
    pql_token_type type = pql_peek(p);
    bool sign = type == T_ADD || type == T_SUB;
    if (sign)
        pql_take(p);
    pql_token_type next = pql_peek(p);
    if (next == T_NUMBER || next == T_DURATION) {
        p->place = outer;
        return at_time(p, base, type == T_SUB);
    }
    if (sign || (type != T_START && type != T_END))
        goto unexpected;
    pql_take(p);
    if (pql_peek(p) != T_LEFT_PAREN)
        goto unexpected;
    pql_take(p);
    if (pql_peek(p) != T_RIGHT_PAREN)
        goto unexpected;
    uint32_t to = pql_take(p).to;
    p->place = outer;
    pql_when *when = when_for_at(p, base);
    if (when == NULL)
        return false;
    when->at = type == T_START ? PQL_AT_START : PQL_AT_END;
    base->to = to;
    return true;

unexpected:
    pql_unexpected(p);
    return false;
}

/* ---- anchored, smoothed ------------------------------------------------------------------------ */

static bool
add_edge(pql_parser *p, pql_expr *base)
{
    bool anchored = pql_take(p).type == T_ANCHORED;
    const char *word = anchored ? "anchored" : "smoothed";
    pql_expr *selector = base->kind == PQL_RANGE ? base->range.selector : base;
    pql_edge edge = anchored ? PQL_ANCHORED : PQL_SMOOTHED;
    if (!p->options.extended_range)
        pql_fail(p, base->from, base->to, "%s modifier is experimental and not enabled", word);
    else if (base->kind == PQL_SUBQUERY)
        pql_fail(p, base->from, base->to, "%s modifier is not supported for subqueries", word);
    else if (selector->kind != PQL_SELECTOR)
        pql_fail(p, base->from, base->to, "%s modifier not implemented", word);
    else if (selector->selector.edge != PQL_PLAIN && selector->selector.edge != edge)
        pql_fail(p, base->from, base->to,
                 "anchored and smoothed modifiers cannot be used together");
    else
        selector->selector.edge = edge;
    return p->status == PS_OK;
}

/* ---- brackets ---------------------------------------------------------------------------------- */

static pql_expr *
positive_duration(pql_parser *p)
{
    pql_expr *duration = pql_parse_duration(p, PQL_PREC_ADD);
    if (duration == NULL || pql_peek(p) == T_ERROR)
        return NULL;
    if (duration->kind == PQL_NUMBER && duration->number.value <= 0)
        return pql_fail(p, duration->from, duration->to, "duration must be greater than 0");
    return duration;
}

static int64_t
literal_ms(const pql_expr *duration)
{
    return duration->kind == PQL_NUMBER ? pql_literal_ms(duration) : 0;
}

static pql_expr *
only_if_computed(pql_expr *duration)
{
    return duration->kind == PQL_NUMBER ? NULL : duration;
}

static pql_expr *
finish_range(pql_parser *p, pql_expr *base, pql_token open, pql_expr *range)
{
    uint32_t to = pql_take(p).to;
    const char *wrong = NULL;
    if (base->kind != PQL_SELECTOR)
        wrong = "ranges only allowed for vector selectors";
    else if (base->selector.when.has_offset)
        wrong = "no offset modifiers allowed before range";
    else if (base->selector.when.at != PQL_AT_NONE)
        wrong = "no @ modifiers allowed before range";
    if (wrong != NULL)
        return pql_fail(p, open.from, to, "%s", wrong);
    pql_expr *node = pql_new(p, PQL_RANGE, base->from, to);
    if (node == NULL || !pql_over(p, node, base) || !pql_over(p, node, range))
        return NULL;
    node->type = PQL_MATRIX;
    node->range.selector = base;
    node->range.range_ms = literal_ms(range);
    node->range.range_expr = only_if_computed(range);
    return node;
}

/* After the colon. */
static pql_expr *
parse_subquery(pql_parser *p, pql_expr *base, pql_expr *range)
{
    static const pql_place before_step = {"subquery selector",
                                          "number, duration, step(), range(), or \"]\""};
    static const pql_place after_step = {"subquery selector", "\"]\""};
    pql_expr *node = pql_new(p, PQL_SUBQUERY, base->from, 0);
    if (node == NULL || !pql_over(p, node, base) || !pql_over(p, node, range))
        return NULL;
    p->place = &before_step;
    if (pql_peek(p) != T_RIGHT_BRACKET) {
        pql_expr *step = positive_duration(p);
        if (step == NULL || !pql_over(p, node, step))
            return NULL;
        node->subquery.step_ms = literal_ms(step);
        node->subquery.step_expr = only_if_computed(step);
        p->place = &after_step;
        if (pql_peek(p) != T_RIGHT_BRACKET)
            return pql_unexpected(p);
    }
    node->to = pql_take(p).to;
    node->type = PQL_MATRIX;
    node->subquery.of = base;
    node->subquery.range_ms = literal_ms(range);
    node->subquery.range_expr = only_if_computed(range);
    return node;
}

static pql_expr *
parse_brackets(pql_parser *p, pql_expr *base)
{
    static const pql_place before_range = {"subquery or range selector",
                                           "number, duration, step(), or range()"};
    static const pql_place after_range = {"subquery or range", "\":\" or \"]\""};
    const pql_place *outer = p->place;
    pql_token open = pql_take(p);
    p->place = &before_range;
    pql_expr *range = positive_duration(p);
    if (range == NULL)
        return NULL;
    p->place = &after_range;
    pql_expr *node;
    if (pql_peek(p) == T_RIGHT_BRACKET) {
        node = finish_range(p, base, open, range);
    } else if (pql_peek(p) == T_COLON) {
        pql_take(p);
        node = parse_subquery(p, base, range);
    } else {
        return pql_unexpected(p);
    }
    p->place = outer;
    return node;
}

pql_expr *
pql_parse_postfix(pql_parser *p, pql_expr *base)
{
    while (base != NULL) {
        bool ok = true;
        switch (pql_peek(p)) {
        case T_LEFT_BRACKET:
            base = parse_brackets(p, base);
            break;
        case T_OFFSET:
            ok = add_offset(p, base);
            break;
        case T_AT:
            ok = add_at(p, base);
            break;
        case T_ANCHORED:
        case T_SMOOTHED:
            ok = add_edge(p, base);
            break;
        case T_ERROR:
            return NULL;
        default:
            return base;
        }
        if (!ok)
            return NULL;
    }
    return base;
}
