/*
 * info.h of eval - what the two files of info() share: info_plan.c makes what info.c runs.
 */
#ifndef PROMSCALE_EVAL_INFO_H
#define PROMSCALE_EVAL_INFO_H

#include "lib/eval/internal.h"

/* One row of the result: a series of the first argument, at the steps at which certain info series are
 * the newest of their metric. */
typedef struct ev_info_row {
    uint32_t base;
    const uint64_t *at; /* NULL: all steps */
    ps_str conflict;    /* a label that two info metrics disagree about */
} ev_info_row;

/* Info series with the same identifying labels. */
typedef struct ev_info_combo {
    uint32_t *chosen; /* [metrics of the class] info series; UINT32_MAX: none */
    size_t n_slots;
    uint64_t *at;
    uint32_t next; /* of the class; UINT32_MAX: the last */
} ev_info_combo;

typedef struct ev_info_node {
    ev_node node; /* kids: first argument, info series (times of their samples) */
    re_matcher **name_matchers;
    size_t n_name_matchers;
    const ps_str *data_names; /* labels that the second argument names */
    size_t n_data_names;
    bool may_miss; /* a series without info series stays */
    size_t n_words;
    /* classes of info series */
    ev_matrix infos;
    ev_groups *classes;
    uint32_t *info_class, *info_name; /* per info series; class UINT32_MAX: out of the question */
    uint32_t *class_combo;            /* first of each class */
    ev_info_combo *combos;
    size_t n_combos, cap_combos;
    uint64_t **class_any; /* steps with any info series of the class */
    /* the first step at which two info series are equally new */
    size_t clash_step;
    uint32_t clash_of[2];
    int64_t clash_ms;
    uint64_t *clash; /* all such steps */
    /* running */
    ev_info_row *rows;
    ev_series *series;
    size_t n_rows, cap_rows, cap_series;
    bool in_place; /* row i is of series i */
    uint64_t *any_base;
    ev_batch out, *in;
    size_t at;
} ev_info_node;

ps_status ev_info_plan(ev_info_node *n) PS_MUST_CHECK;

#endif
