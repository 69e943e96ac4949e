"""What differs because the Prometheus at hand is older than the language that we have; README.md lists the same."""
import re

SORT = "PromQL warning: sort is ineffective for range queries since results are always ordered by labels"


def sort_warning(q, theirs, mine, problem):
    return problem.startswith("notes:") and SORT in mine.get("warnings", [""])[0] + str(mine.get("warnings"))


def info_function(q, theirs, mine, problem):
    return "info(" in q.text and (q.step > 0 or q.delayed or re.search(r"offset|@|info\(alone\)", q.text) is not None)


def classic_fraction(q, theirs, mine, problem):
    return "histogram_fraction(" in q.text and "latency_bucket" in q.text


def native_rate(q, theirs, mine, problem):
    return re.search(r"(rate|increase)\(sizes", q.text) is not None


def native_subquery(q, theirs, mine, problem):
    return re.search(r"sizes.*\[[^\]]*:", q.text) is not None and "buckets" in problem


def filtered_pairs(q, theirs, mine, problem):
    return (str(mine.get("error")).startswith("multiple matches for labels") and "error" not in theirs
            and re.search(r"[<>]|==|!=", q.text) is not None)


def equal_labels(q, theirs, mine, problem):
    return "error" not in mine and theirs.get("error") == "vector cannot contain metrics with the same labelset"


def late_or(q, theirs, mine, problem):
    return q.delayed and q.step > 0 and " or " in q.text


def nan_deviation(q, theirs, mine, problem):
    return "mad_over_time(" in q.text and "NaN" in problem


def stats_only(q, theirs, mine, problem):
    return (problem.startswith("notes: set()") and problem.count("PromQL") == 1
            and "conflicting counter resets during histogram aggregation" in problem
            and re.search(r"histogram_(count|sum|avg)\(", q.text) is not None)


def stats_equality(q, theirs, mine, problem):
    return re.search(r"histogram_(count|sum|avg)\(sizes [!=]= sizes", q.text) is not None


def late_subquery(q, theirs, mine, problem):
    return q.delayed and re.search(r"last_over_time\(.*\]", q.text) is not None and "series" in problem


def coincidence(q, theirs, mine, problem):
    return q.start == 0 and re.search(r"@.*\[[^\]]*:", q.text) is not None


def last_bit(q, theirs, mine, problem):
    return "%" in q.text and re.search(r"\^|exp|sinh|cosh", q.text) is not None and re.search(r" at [\d.]+: ", problem)


def same_note(q, theirs, mine, problem):
    texts = [{re.sub(r" \(\d+:\d+\)$", "", t) for t in x.get("warnings", []) + x.get("infos", [])}
             for x in (theirs, mine)]
    return problem.startswith("notes:") and texts[0] == texts[1]


ALWAYS = (1000, 0)
# (the first version without the difference, what it is, how it is told)
DIFFERENCES = [
    ((3, 6), "rates of native histograms reach beyond the time at which they were zero", native_rate),
    ((3, 6), "subqueries over native histograms mix up their buckets", native_subquery),
    ((3, 8), "histogram_fraction of classic histograms from within the first bucket", classic_fraction),
    ((3, 9), "filtered pairs do not count as matches", filtered_pairs),
    ((3, 9), "series whose labels become equal are an error though they never meet", equal_labels),
    ((3, 9), "names dropped late: which name a result of `or` has", late_or),
    ((3, 9), "names dropped late: last_over_time of a subquery keeps a name that is to go", late_subquery),
    ((3, 12), "no warning that sort has no effect in a range query", sort_warning),
    ((3, 14), "info() with series that come and go, offset, @, without identifying labels", info_function),
    ((3, 14), "mad_over_time is a number although there is a NaN", nan_deviation),
    ((3, 14), "histograms of which only count and sum are read differ from themselves now and then", stats_equality),
    ((3, 14), "no warning of resets that meet where only counts and sums are read", stats_only),
    (ALWAYS, "a selector with @ in a subquery that begins when the query does", coincidence),
    (ALWAYS, "the remainder of a number so large that its last bit is all that counts", last_bit),
    (ALWAYS, "which place is shown of a note that two parts of a query give", same_note),
]


def reason(version, q, theirs, mine, problem):
    """Why this difference is right, or None."""
    for until, what, is_it in DIFFERENCES:
        if version < until and is_it(q, theirs, mine, problem):
            return what if until == ALWAYS else f"before {until[0]}.{until[1]}: {what}"
    return None
