/*
 * reader.c - the reader: line by line, one sample a call.
 *
 *   [name] [{ labels }] value [time] [# { labels } value [time]]
 *
 * Nothing is copied but texts with escapes, into an arena that is emptied for each line; what is said of
 * a family lives in another until the next family is named.
 */
#include "lib/exposition/internal.h"

enum { LINE_BUDGET = 16 << 20, FAMILY_BUDGET = 16 << 20 };

ps_status
exp_reader_init(exp_reader *r, exp_format format, ps_str text, const ps_alloc *alloc, ps_err *err)
{
    *r = (exp_reader){.text = text, .format = format};
    ps_arena_init(&r->line, alloc, LINE_BUDGET);
    ps_arena_init(&r->family, alloc, FAMILY_BUDGET);
    ps_arena_init(&r->fixed, alloc, 0);
    r->labels = ps_arena_array(&r->fixed, EXP_MAX_LABELS, sizeof(mdl_label));
    r->exemplar_labels = ps_arena_array(&r->fixed, EXP_MAX_LABELS, sizeof(mdl_label));
    if (r->labels != NULL && r->exemplar_labels != NULL)
        return PS_OK;
    exp_reader_done(r);
    return ps_fail(err, PS_ENOMEM, "no memory for labels");
}

void
exp_reader_done(exp_reader *r)
{
    ps_arena_done(&r->line);
    ps_arena_done(&r->family);
    ps_arena_done(&r->fixed);
}

/* Behind " # {". */
static ps_status
read_exemplar(exp_reader *r, exp_exemplar *ret, ps_err *err)
{
    *ret = (exp_exemplar){.labels = r->exemplar_labels};
    PS_TRY(exp_labels(r, ret->labels, true, &ret->n_labels, err));
    if (!exp_separator(r))
        return exp_fail(r, err, "a value is expected after an exemplar's labels");
    PS_TRY(exp_number(r, &ret->value, err));
    if (exp_take(r, ' ')) {
        ret->has_time = true;
        PS_TRY(exp_time(r, &ret->t_ms, err));
    }
    return PS_OK;
}

/* Behind the value. */
static ps_status
read_rest(exp_reader *r, exp_sample *s, ps_err *err)
{
    bool openmetrics = r->format == EXP_OPENMETRICS;

    if (openmetrics && exp_take_word(r, PS_STR(" # {"))) {
        s->has_exemplar = true;
    } else if (exp_separator(r) && (openmetrics || exp_peek(r) != '\n')) {
        s->has_time = true;
        PS_TRY(exp_time(r, &s->t_ms, err));
        s->has_exemplar = openmetrics && exp_take_word(r, PS_STR(" # {"));
    }
    if (s->has_exemplar)
        PS_TRY(read_exemplar(r, &s->exemplar, err));
    return exp_line_end(r, err);
}

static ps_status
read_sample(exp_reader *r, exp_sample *s, ps_err *err)
{
    *s = (exp_sample){.labels = r->labels, .n_labels = 1};
    s->labels[0] = (mdl_label){.name = PS_STR(MDL_METRIC_NAME), .value = exp_name(r, true)};
    bool named = s->labels[0].value.len > 0;
    if (named)
        exp_blanks(r);
    if (exp_take(r, '{')) {
        s->n_labels = named;
        PS_TRY(exp_labels(r, s->labels, false, &s->n_labels, err));
        if (!exp_separator(r) && r->format == EXP_OPENMETRICS)
            return exp_fail(r, err, "a blank and a value are expected");
    } else if (!named) {
        return exp_fail(r, err, "a metric's name or # is expected");
    } else if (r->format == EXP_OPENMETRICS && !exp_take(r, ' ')) {
        return exp_fail(r, err, "{ or a value is expected after a metric's name");
    }
    PS_TRY(exp_number(r, &s->value, err));
    PS_TRY(read_rest(r, s, err));
    s->metadata = exp_metadata_of(r, s->labels[0].value);
    return exp_tidy_bounds(r, s->metadata.type, s->labels, s->n_labels, err);
}

ps_status
exp_next(exp_reader *r, bool *ret_more, exp_sample *ret, ps_err *err)
{
    ps_arena_reset(&r->line);
    while (!r->ended) {
        exp_blanks(r);
        if (exp_at_end(r)) {
            if (r->format == EXP_OPENMETRICS)
                return exp_fail(r, err, "the text does not end with # EOF");
            break;
        }
        if (r->format == EXP_TEXT && exp_take(r, '\n'))
            continue;
        if (exp_take(r, '#')) {
            PS_TRY(exp_comment(r, err));
            continue;
        }
        PS_TRY(read_sample(r, ret, err));
        *ret_more = true;
        return PS_OK;
    }
    *ret_more = false;
    return PS_OK;
}
