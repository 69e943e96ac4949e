/*
 * regex.h - regular expressions of PromQL, and matchers that can be run.
 *
 * RE2 behind a thin C shim (shim.cc, the only C++ of the project): linear time in the input, the same
 * dialect as Prometheus (https://github.com/google/re2/wiki/Syntax). No exception and no abort leaves
 * the shim; programs have a memory limit. Always anchored at both ends, '.' matches newline, as
 * Prometheus 3 has it. Compiled objects are immutable and may be used by several threads at once.
 */
#ifndef PROMSCALE_REGEX_H
#define PROMSCALE_REGEX_H

#include "lib/model/model.h"

enum { RE_MAX_PATTERN_BYTES = 1 << 20, RE_MAX_PROGRAM_BYTES = 8 << 20 };

typedef struct re_regex re_regex;

/* PS_EINVAL: bad pattern, with RE2's own words in *err; PS_ELIMIT: too large; PS_ENOMEM. */
ps_status re_compile(ps_str pattern, re_regex **ret, ps_err *err) PS_MUST_CHECK;
void re_free(re_regex *re);
bool re_matches(const re_regex *re, ps_str s); /* whole string */
bool re_search(const re_regex *re, ps_str s);  /* anywhere: for tests' "regex:" expectations */
/* If the whole of s matches: expands `template` with Go's rules ($1, ${1}, $name, ${name}, $$; a name
 * that is no group gives nothing; $1x means the group "1x") into out and returns true. */
bool re_expand(const re_regex *re, ps_str s, ps_str template_, ps_buf *out);

/* ---- matchers ---------------------------------------------------------------------------------- */

/* A matcher with its regular expression compiled. Patterns that are a plain string, a list of plain
 * strings ("a|b|c"), a prefix ("a.*") or anything (".*", ".+") are run without RE2. */
typedef struct re_matcher re_matcher;

ps_status re_matcher_new(const ps_alloc *alloc, const mdl_matcher *m, re_matcher **ret,
                         ps_err *err) PS_MUST_CHECK;
void re_matcher_free(re_matcher *m);
const mdl_matcher *re_matcher_of(const re_matcher *m); /* copies of name and value, owned by it */
bool re_matcher_matches(const re_matcher *m, ps_str value); /* value "" = label absent */
bool re_matcher_matches_empty(const re_matcher *m);
/* The values that are all the matcher can match (=, or an alternation of plain strings; ret may be
 * NULL to ask for the number); 0: not such a matcher. And the plain prefix that every match has, ""
 * if there is none. For indexes. */
size_t re_matcher_set(const re_matcher *m, const ps_str **ret);
ps_str re_matcher_prefix(const re_matcher *m);
bool re_matchers_match(re_matcher *const *matchers, size_t n, mdl_labels labels);

#endif
