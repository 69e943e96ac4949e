/*
 * functions.c - the words of the language: functions with their types, operators, aggregations.
 *
 * The table is in the order of pql_fn, which is that of the names, so that a name is found by
 * halving. `variadic` counts as Prometheus counts: the last declared argument may be left out, and
 * there may be that many of it (any number if negative).
 */
#include "lib/promql/internal.h"

#define V PQL_VECTOR
#define M PQL_MATRIX
#define S PQL_SCALAR
#define T PQL_STRING

static const pql_function functions[PQL_FN_COUNT] = {
    {PQL_FN_ABS, "abs", 1, 0, false, {V}, V},
    {PQL_FN_ABSENT, "absent", 1, 0, false, {V}, V},
    {PQL_FN_ABSENT_OVER_TIME, "absent_over_time", 1, 0, false, {M}, V},
    {PQL_FN_ACOS, "acos", 1, 0, false, {V}, V},
    {PQL_FN_ACOSH, "acosh", 1, 0, false, {V}, V},
    {PQL_FN_ASIN, "asin", 1, 0, false, {V}, V},
    {PQL_FN_ASINH, "asinh", 1, 0, false, {V}, V},
    {PQL_FN_ATAN, "atan", 1, 0, false, {V}, V},
    {PQL_FN_ATANH, "atanh", 1, 0, false, {V}, V},
    {PQL_FN_AVG_OVER_TIME, "avg_over_time", 1, 0, false, {M}, V},
    {PQL_FN_CEIL, "ceil", 1, 0, false, {V}, V},
    {PQL_FN_CHANGES, "changes", 1, 0, false, {M}, V},
    {PQL_FN_CLAMP, "clamp", 3, 0, false, {V, S, S}, V},
    {PQL_FN_CLAMP_MAX, "clamp_max", 2, 0, false, {V, S}, V},
    {PQL_FN_CLAMP_MIN, "clamp_min", 2, 0, false, {V, S}, V},
    {PQL_FN_COS, "cos", 1, 0, false, {V}, V},
    {PQL_FN_COSH, "cosh", 1, 0, false, {V}, V},
    {PQL_FN_COUNT_OVER_TIME, "count_over_time", 1, 0, false, {M}, V},
    {PQL_FN_DAY_OF_MONTH, "day_of_month", 1, 1, false, {V}, V},
    {PQL_FN_DAY_OF_WEEK, "day_of_week", 1, 1, false, {V}, V},
    {PQL_FN_DAY_OF_YEAR, "day_of_year", 1, 1, false, {V}, V},
    {PQL_FN_DAYS_IN_MONTH, "days_in_month", 1, 1, false, {V}, V},
    {PQL_FN_DEG, "deg", 1, 0, false, {V}, V},
    {PQL_FN_DELTA, "delta", 1, 0, false, {M}, V},
    {PQL_FN_DERIV, "deriv", 1, 0, false, {M}, V},
    {PQL_FN_DOUBLE_EXPONENTIAL_SMOOTHING, "double_exponential_smoothing", 3, 0, true, {M, S, S}, V},
    {PQL_FN_END, "end", 0, 0, true, {0}, S},
    {PQL_FN_EXP, "exp", 1, 0, false, {V}, V},
    {PQL_FN_FIRST_OVER_TIME, "first_over_time", 1, 0, false, {M}, V},
    {PQL_FN_FLOOR, "floor", 1, 0, false, {V}, V},
    {PQL_FN_HISTOGRAM_AVG, "histogram_avg", 1, 0, false, {V}, V},
    {PQL_FN_HISTOGRAM_COUNT, "histogram_count", 1, 0, false, {V}, V},
    {PQL_FN_HISTOGRAM_FRACTION, "histogram_fraction", 3, 0, false, {S, S, V}, V},
    {PQL_FN_HISTOGRAM_QUANTILE, "histogram_quantile", 2, 0, false, {S, V}, V},
    {PQL_FN_HISTOGRAM_QUANTILES, "histogram_quantiles", 4, 9, true, {V, T, S, S}, V},
    {PQL_FN_HISTOGRAM_STDDEV, "histogram_stddev", 1, 0, false, {V}, V},
    {PQL_FN_HISTOGRAM_STDVAR, "histogram_stdvar", 1, 0, false, {V}, V},
    {PQL_FN_HISTOGRAM_SUM, "histogram_sum", 1, 0, false, {V}, V},
    {PQL_FN_HOUR, "hour", 1, 1, false, {V}, V},
    {PQL_FN_IDELTA, "idelta", 1, 0, false, {M}, V},
    {PQL_FN_INCREASE, "increase", 1, 0, false, {M}, V},
    {PQL_FN_INFO, "info", 2, 1, true, {V, V}, V},
    {PQL_FN_IRATE, "irate", 1, 0, false, {M}, V},
    {PQL_FN_LABEL_JOIN, "label_join", 4, -1, false, {V, T, T, T}, V},
    {PQL_FN_LABEL_REPLACE, "label_replace", 5, 0, false, {V, T, T, T, T}, V},
    {PQL_FN_LAST_OVER_TIME, "last_over_time", 1, 0, false, {M}, V},
    {PQL_FN_LN, "ln", 1, 0, false, {V}, V},
    {PQL_FN_LOG10, "log10", 1, 0, false, {V}, V},
    {PQL_FN_LOG2, "log2", 1, 0, false, {V}, V},
    {PQL_FN_MAD_OVER_TIME, "mad_over_time", 1, 0, true, {M}, V},
    {PQL_FN_MAX_OF, "max_of", 2, 0, true, {S, S}, S},
    {PQL_FN_MAX_OVER_TIME, "max_over_time", 1, 0, false, {M}, V},
    {PQL_FN_MIN_OF, "min_of", 2, 0, true, {S, S}, S},
    {PQL_FN_MIN_OVER_TIME, "min_over_time", 1, 0, false, {M}, V},
    {PQL_FN_MINUTE, "minute", 1, 1, false, {V}, V},
    {PQL_FN_MONTH, "month", 1, 1, false, {V}, V},
    {PQL_FN_PI, "pi", 0, 0, false, {0}, S},
    {PQL_FN_PREDICT_LINEAR, "predict_linear", 2, 0, false, {M, S}, V},
    {PQL_FN_PRESENT_OVER_TIME, "present_over_time", 1, 0, false, {M}, V},
    {PQL_FN_QUANTILE_OVER_TIME, "quantile_over_time", 2, 0, false, {S, M}, V},
    {PQL_FN_RAD, "rad", 1, 0, false, {V}, V},
    {PQL_FN_RANGE, "range", 0, 0, true, {0}, S},
    {PQL_FN_RATE, "rate", 1, 0, false, {M}, V},
    {PQL_FN_RESETS, "resets", 1, 0, false, {M}, V},
    {PQL_FN_ROUND, "round", 2, 1, false, {V, S}, V},
    {PQL_FN_SCALAR, "scalar", 1, 0, false, {V}, S},
    {PQL_FN_SGN, "sgn", 1, 0, false, {V}, V},
    {PQL_FN_SIN, "sin", 1, 0, false, {V}, V},
    {PQL_FN_SINH, "sinh", 1, 0, false, {V}, V},
    {PQL_FN_SORT, "sort", 1, 0, false, {V}, V},
    {PQL_FN_SORT_BY_LABEL, "sort_by_label", 2, -1, true, {V, T}, V},
    {PQL_FN_SORT_BY_LABEL_DESC, "sort_by_label_desc", 2, -1, true, {V, T}, V},
    {PQL_FN_SORT_DESC, "sort_desc", 1, 0, false, {V}, V},
    {PQL_FN_SQRT, "sqrt", 1, 0, false, {V}, V},
    {PQL_FN_START, "start", 0, 0, true, {0}, S},
    {PQL_FN_START_TIMESTAMP, "start_timestamp", 1, 0, true, {V}, V},
    {PQL_FN_STDDEV_OVER_TIME, "stddev_over_time", 1, 0, false, {M}, V},
    {PQL_FN_STDVAR_OVER_TIME, "stdvar_over_time", 1, 0, false, {M}, V},
    {PQL_FN_STEP, "step", 0, 0, true, {0}, S},
    {PQL_FN_SUM_OVER_TIME, "sum_over_time", 1, 0, false, {M}, V},
    {PQL_FN_TAN, "tan", 1, 0, false, {V}, V},
    {PQL_FN_TANH, "tanh", 1, 0, false, {V}, V},
    {PQL_FN_TIME, "time", 0, 0, false, {0}, S},
    {PQL_FN_TIMESTAMP, "timestamp", 1, 0, false, {V}, V},
    {PQL_FN_TS_OF_FIRST_OVER_TIME, "ts_of_first_over_time", 1, 0, true, {M}, V},
    {PQL_FN_TS_OF_LAST_OVER_TIME, "ts_of_last_over_time", 1, 0, true, {M}, V},
    {PQL_FN_TS_OF_MAX_OVER_TIME, "ts_of_max_over_time", 1, 0, true, {M}, V},
    {PQL_FN_TS_OF_MIN_OVER_TIME, "ts_of_min_over_time", 1, 0, true, {M}, V},
    {PQL_FN_VECTOR, "vector", 1, 0, false, {S}, V},
    {PQL_FN_YEAR, "year", 1, 1, false, {V}, V},
};

#undef V
#undef M
#undef S
#undef T

static const char *const op_texts[] = {
    [PQL_OP_NONE] = "",
    [PQL_ADD] = "+",
    [PQL_SUB] = "-",
    [PQL_MUL] = "*",
    [PQL_DIV] = "/",
    [PQL_MOD] = "%",
    [PQL_POW] = "^",
    [PQL_ATAN2] = "atan2",
    [PQL_EQ] = "==",
    [PQL_NE] = "!=",
    [PQL_GT] = ">",
    [PQL_LT] = "<",
    [PQL_GE] = ">=",
    [PQL_LE] = "<=",
    [PQL_TRIM_UPPER] = "</",
    [PQL_TRIM_LOWER] = ">/",
    [PQL_AND] = "and",
    [PQL_OR] = "or",
    [PQL_UNLESS] = "unless",
    [PQL_DUR_STEP] = "step",
    [PQL_DUR_RANGE] = "range",
    [PQL_DUR_MIN_OF] = "min_of",
    [PQL_DUR_MAX_OF] = "max_of",
};

static const char *const agg_texts[] = {
    [PQL_SUM] = "sum",
    [PQL_AVG] = "avg",
    [PQL_COUNT] = "count",
    [PQL_MIN] = "min",
    [PQL_MAX] = "max",
    [PQL_GROUP] = "group",
    [PQL_STDDEV] = "stddev",
    [PQL_STDVAR] = "stdvar",
    [PQL_TOPK] = "topk",
    [PQL_BOTTOMK] = "bottomk",
    [PQL_COUNT_VALUES] = "count_values",
    [PQL_QUANTILE] = "quantile",
    [PQL_LIMITK] = "limitk",
    [PQL_LIMIT_RATIO] = "limit_ratio",
};

const pql_function *
pql_function_of(pql_fn id)
{
    return (unsigned)id < PQL_FN_COUNT ? &functions[id] : NULL;
}

const pql_function *
pql_function_named(ps_str name)
{
    size_t low = 0, high = PQL_FN_COUNT;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = ps_str_cmp(name, ps_str_c(functions[middle].name));
        if (order == 0)
            return &functions[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const char *
pql_op_text(pql_op op)
{
    return (unsigned)op < PS_ARRAY_LEN(op_texts) ? op_texts[op] : "";
}

const char *
pql_agg_text(pql_agg op)
{
    return (unsigned)op < PS_ARRAY_LEN(agg_texts) ? agg_texts[op] : "";
}

const char *
pql_type_text(pql_type type)
{
    switch (type) {
    case PQL_SCALAR:
        return "scalar";
    case PQL_STRING:
        return "string";
    case PQL_VECTOR:
        return "instant vector";
    case PQL_MATRIX:
        return "range vector";
    case PQL_NONE:
        break;
    }
    return "none";
}
