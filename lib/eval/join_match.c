/*
 * join_match.c - which series of two vectors belong together: those whose key is equal, the labels of
 * on() or all but those of ignoring() and the metric name. Keys are made once per series.
 */
#include "lib/eval/join.h"

ps_status
ev_match_on_of(ev_ctx *c, const pql_matching *m, ev_match_on *ret)
{
    *ret = (ev_match_on){m->on, m->labels, m->n_labels};
    if (m->on)
        return PS_OK;
    ps_str *names = ps_arena_array(ev_arena(c), m->n_labels + 1, sizeof *names);
    if (names == NULL)
        return ev_no_memory(c);
    names[0] = PS_STR(MDL_METRIC_NAME);
    for (size_t i = 0; i < m->n_labels; i++)
        names[i + 1] = m->labels[i];
    ret->names = names;
    ret->n = m->n_labels + 1;
    return PS_OK;
}

ps_status
ev_match_key(ev_ctx *c, const ev_match_on *by, mdl_labels l, mdl_labels *ret)
{
    return by->on ? ev_labels_keep(c, l, by->names, by->n, ret)
                  : ev_labels_without(c, l, by->names, by->n, ret);
}

ps_status
ev_match_groups(ev_ctx *c, const ev_match_on *by, const ev_node *n, ev_groups *groups,
                uint32_t **ret)
{
    uint32_t *of = ps_arena_array(ev_arena(c), n->n_series + 1, sizeof *of);
    if (of == NULL)
        return ev_no_memory(c);
    for (size_t i = 0; i < n->n_series; i++) {
        mdl_labels key;
        if (i % 4096 == 0)
            PS_TRY(ev_poll(c));
        PS_TRY(ev_match_key(c, by, n->series[i].labels, &key));
        PS_TRY(ev_groups_add(groups, key, &of[i], NULL));
    }
    *ret = of;
    return PS_OK;
}
