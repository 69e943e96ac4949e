/*
 * internal.h - what the files of lib/regex share: the parts of the shim that are not public.
 */
#ifndef PROMSCALE_REGEX_INTERNAL_H
#define PROMSCALE_REGEX_INTERNAL_H

#include "lib/regex/regex.h"

/* One capturing group of a match; ptr is NULL if the group took no part in it. Group 0 is all of it. */
typedef ps_str re_group;

size_t re_group_count(const re_regex *re); /* group 0 not counted */
/* Number of the group of this name, -1: there is none. */
int re_group_named(const re_regex *re, ps_str name);
/* Whole string; fills groups 0..n-1. False also if memory ran out. */
bool re_match_groups(const re_regex *re, ps_str s, re_group *ret, size_t n);
/* Length of the longest prefix of s that is made of letters, decimal digits (as Unicode has them) and
 * '_': what may stand as a name in a template. */
size_t re_name_length(ps_str s);

#endif
