/*
 * request.c - a request's memory, and the answer that grows with it.
 *
 * Decoded requests keep their arrays when they are done and go on a short list of spare ones, since
 * the next request is likely of the same size; large ones are given back.
 */
#include "connector/write/internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { SPARE_MAX_BYTES = 1 << 20 };

wp_request *
wp_request_new(write_path *w)
{
    wp_request *r = w->spare;
    if (r != NULL) {
        w->spare = r->next_spare;
        w->n_spare--;
        r->next_spare = NULL;
        return r;
    }
    r = calloc(1, sizeof(*r));
    if (r != NULL)
        ps_arena_init(&r->arena, &ps_malloc, 0);
    return r;
}

static void
free_arrays(wp_request *r)
{
    free(r->points);
    free(r->hists);
    free(r->fresh);
    free(r->exemplars);
    free(r->metadata);
    free(r->marks);
    ps_arena_done(&r->arena);
}

void
wp_request_trim(wp_request *r)
{
    wp_request_reset(r);
    free_arrays(r);
    r->points = NULL;
    r->hists = NULL;
    r->fresh = NULL;
    r->exemplars = NULL;
    r->metadata = NULL;
    r->marks = NULL;
    r->cap_marks = 0;
    r->cap_points = r->cap_hists = r->cap_fresh = r->cap_exemplars = r->cap_metadata = 0;
}

void
wp_request_reset(wp_request *r)
{
    r->n_points = r->n_hists = r->hists_weight = r->n_fresh = r->n_exemplars = r->n_metadata = 0;
    ps_arena_done(&r->arena);
    r->fatal = PS_OK;
    r->decode_again = false;
    r->received = r->refused_counts = (wp_counts){0};
    r->exemplars_written = 0;
    r->named = r->unnamed = 0;
    r->refused = false;
    r->text_len = 0;
    r->text[0] = '\0';
}

size_t
wp_request_bytes(const wp_request *r)
{
    return (r->cap_points + r->cap_hists) * sizeof(*r->points) + r->cap_fresh * sizeof(*r->fresh) +
           r->cap_exemplars * sizeof(*r->exemplars) + r->cap_metadata * sizeof(*r->metadata) +
           r->cap_marks * sizeof(*r->marks) + r->arena.used_bytes;
}

void
wp_request_free(write_path *w, wp_request *r)
{
    wp_request_reset(r);
    if (w->n_spare < WP_MAX_SPARE && wp_request_bytes(r) <= SPARE_MAX_BYTES) {
        wp_request kept = {.points = r->points,
                           .cap_points = r->cap_points,
                           .hists = r->hists,
                           .cap_hists = r->cap_hists,
                           .fresh = r->fresh,
                           .cap_fresh = r->cap_fresh,
                           .exemplars = r->exemplars,
                           .cap_exemplars = r->cap_exemplars,
                           .metadata = r->metadata,
                           .cap_metadata = r->cap_metadata,
                           .marks = r->marks,
                           .cap_marks = r->cap_marks,
                           .arena = r->arena,
                           .next_spare = w->spare};
        *r = kept;
        w->spare = r;
        w->n_spare++;
        return;
    }
    free_arrays(r);
    free(r);
}

size_t
wp_request_weight(const wp_request *r)
{
    enum { EXEMPLAR_WEIGHT = 10 }; /* it is a row, and text */
    return r->n_points + r->hists_weight + EXEMPLAR_WEIGHT * r->n_exemplars;
}

bool
wp_grow(void **array, size_t *cap, size_t need, size_t item_size)
{
    if (need <= *cap)
        return true;
    size_t more = *cap < 32 ? 64 : *cap * 2, bytes;
    if (more < need)
        more = need;
    if (!ps_mul_size(more, item_size, &bytes))
        return false;
    void *p = realloc(*array, bytes);
    if (p == NULL)
        return false;
    *array = p;
    *cap = more;
    return true;
}

/* Room at the end of the text is kept for "and n more". */
enum { TAIL_BYTES = 48 };

void
wp_refuse(write_path *w, wp_request *r, wp_reason reason, wp_counts n, ps_str series,
          const char *fmt, ...)
{
    char why[320];
    va_list args;
    r->refused = true;
    r->refused_counts.floats += n.floats;
    r->refused_counts.histograms += n.histograms;
    int64_t items = n.floats + n.histograms;
    metric_add(w->stats.refused[reason], items > 0 ? (double)items : 1);
    size_t room = sizeof(r->text) - TAIL_BYTES - r->text_len;
    if (r->named >= WP_REFUSALS_NAMED || room < 64) {
        r->unnamed++;
        return;
    }
    va_start(args, fmt);
    vsnprintf(why, sizeof(why), fmt, args);
    va_end(args);
    int len = snprintf(r->text + r->text_len, room, "%s%s%.*s%s%s", r->named > 0 ? "; " : "",
                       series.len > 0 ? "series " : "", (int)series.len,
                       series.ptr != NULL ? series.ptr : "", series.len > 0 ? ": " : "", why);
    if (len > 0) {
        size_t end = r->text_len + ((size_t)len < room ? (size_t)len : room - 1);
        r->text_len = ps_utf8_prefix((ps_str){r->text, end}, end);
        r->text[r->text_len] = '\0';
    }
    r->named++;
}

void
wp_fatal(wp_request *r, ps_status status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(r->text, sizeof(r->text) - TAIL_BYTES, fmt, args);
    va_end(args);
    r->text_len = strlen(r->text);
    r->unnamed = 0;
    r->fatal = status;
}
