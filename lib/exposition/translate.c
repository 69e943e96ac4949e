/*
 * translate.c - text to remote write 2.0: each line an item. Labels stay in the order in which they stand,
 * and what is wrong with a set is not looked at: whoever takes the message sorts, and refuses by name.
 */
#include "lib/exposition/internal.h"

static void
write_one(const exp_sample *s, int64_t now_ms, wire_v2_writer *out)
{
    wire_sample sample = {.t_ms = s->has_time ? s->t_ms : now_ms, .value = s->value};
    const exp_exemplar *e = &s->exemplar;
    wire_exemplar exemplar = {.labels = e->labels,
                              .n_labels = e->n_labels,
                              .t_ms = e->has_time ? e->t_ms : sample.t_ms,
                              .value = e->value};
    bool known = s->metadata.family.len > 0;

    wire_v2_write(out, &(wire_v2_item){.labels = {s->labels, s->n_labels},
                                       .samples = &sample,
                                       .n_samples = 1,
                                       .exemplars = s->has_exemplar ? &exemplar : NULL,
                                       .n_exemplars = s->has_exemplar,
                                       .metadata = known ? &s->metadata : NULL});
}

ps_status
exp_translate(ps_str text, exp_format format, int64_t now_ms, const ps_alloc *alloc,
              wire_v2_writer *out, ps_err *err)
{
    exp_reader r;
    exp_sample s;
    bool more = true;
    ps_status st;

    PS_TRY(exp_reader_init(&r, format, text, alloc, err));
    while ((st = exp_next(&r, &more, &s, err)) == PS_OK && more)
        write_one(&s, now_ms, out);
    exp_reader_done(&r);
    return st;
}
