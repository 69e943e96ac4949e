/*
 * exposition.h - metrics as text: Prometheus's text format 0.0.4 and OpenMetrics 1.0, read line by line,
 * and turned into a remote write 2.0 message.
 */
#ifndef PROMSCALE_EXPOSITION_H
#define PROMSCALE_EXPOSITION_H

#include "lib/wire/wire.h"

typedef enum exp_format { EXP_TEXT, EXP_OPENMETRICS } exp_format;

enum { EXP_MAX_LABELS = 1024 }; /* of a series, and of an exemplar; beyond it the text is refused */

typedef struct exp_exemplar {
    mdl_label *labels; /* as they stand: neither sorted nor checked */
    size_t n_labels;
    double value;
    bool has_time;
    int64_t t_ms;
} exp_exemplar;

typedef struct exp_sample { /* slices live until the next call */
    mdl_label *labels;      /* __name__ first, then as they stand: neither sorted nor checked */
    size_t n_labels;
    double value;
    bool has_time;
    int64_t t_ms;
    bool has_exemplar;
    exp_exemplar exemplar;
    /* What the lines before say of the family that the series belongs to; UNKNOWN and "" if nothing. */
    wire_metadata metadata;
} exp_sample;

typedef struct exp_reader { /* private fields */
    ps_str text;
    exp_format format;
    size_t at;         /* next byte */
    wire_metadata now; /* of the family that was named last */
    bool ended;        /* "# EOF" was there */
    ps_arena line;     /* unescaped texts of a line */
    ps_arena family;   /* and of the family */
    mdl_label *labels, *exemplar_labels; /* EXP_MAX_LABELS of each, in `fixed` */
    ps_arena fixed;
} exp_reader;

/* Borrows text. PS_ENOMEM. */
ps_status exp_reader_init(exp_reader *r, exp_format format, ps_str text, const ps_alloc *alloc,
                          ps_err *err) PS_MUST_CHECK;
void exp_reader_done(exp_reader *r);
/*
 * The next sample; *ret_more is false at the end. PS_EINVAL with the offset, and line and column in the
 * text: a reader that failed cannot go on. PS_ELIMIT: too many labels. PS_ENOMEM.
 */
ps_status exp_next(exp_reader *r, bool *ret_more, exp_sample *ret, ps_err *err) PS_MUST_CHECK;

/*
 * All samples of a text into a remote write 2.0 message: an item for each. Those without a time get
 * now_ms, exemplars without one that of their sample. Errors as above; memory that the writer
 * misses is told by wire_v2_writer_finish.
 */
ps_status exp_translate(ps_str text, exp_format format, int64_t now_ms, const ps_alloc *alloc,
                        wire_v2_writer *out, ps_err *err) PS_MUST_CHECK;

#endif
