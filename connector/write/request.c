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
    free(r->fresh);
    free(r->exemplars);
    free(r->metadata);
    ps_arena_done(&r->arena);
}

void
wp_request_trim(wp_request *r)
{
    wp_request_reset(r);
    free_arrays(r);
    r->points = NULL;
    r->fresh = NULL;
    r->exemplars = NULL;
    r->metadata = NULL;
    r->cap_points = r->cap_fresh = r->cap_exemplars = r->cap_metadata = 0;
}

void
wp_request_reset(wp_request *r)
{
    r->n_points = r->n_fresh = r->n_exemplars = r->n_metadata = 0;
    ps_arena_done(&r->arena);
    r->fatal = PS_OK;
    r->decode_again = false;
    r->samples_received = r->samples_refused = r->exemplars_written = 0;
    r->named = r->unnamed = 0;
    r->refused = false;
    r->text_len = 0;
    r->text[0] = '\0';
}

size_t
wp_request_bytes(const wp_request *r)
{
    return r->cap_points * sizeof(*r->points) + r->cap_fresh * sizeof(*r->fresh) +
           r->cap_exemplars * sizeof(*r->exemplars) + r->cap_metadata * sizeof(*r->metadata) +
           r->arena.used_bytes;
}

void
wp_request_free(write_path *w, wp_request *r)
{
    wp_request_reset(r);
    if (w->n_spare < WP_MAX_SPARE && wp_request_bytes(r) <= SPARE_MAX_BYTES) {
        wp_request kept = {.points = r->points,
                           .cap_points = r->cap_points,
                           .fresh = r->fresh,
                           .cap_fresh = r->cap_fresh,
                           .exemplars = r->exemplars,
                           .cap_exemplars = r->cap_exemplars,
                           .metadata = r->metadata,
                           .cap_metadata = r->cap_metadata,
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
wp_refuse(write_path *w, wp_request *r, wp_reason reason, int64_t n_samples, ps_str series,
          const char *fmt, ...)
{
    char why[320];
    va_list args;
    r->refused = true;
    r->samples_refused += n_samples;
    metric_add(w->stats.refused[reason], n_samples > 0 ? (double)n_samples : 1);
    size_t room = sizeof(r->text) - TAIL_BYTES - r->text_len;
    if (r->named >= WP_REFUSALS_NAMED || room < 64) {
        r->unnamed++;
        return;
    }
    va_start(args, fmt);
    vsnprintf(why, sizeof(why), fmt, args);
    va_end(args);
    int n = snprintf(r->text + r->text_len, room, "%s%s%.*s%s%s", r->named > 0 ? "; " : "",
                     series.len > 0 ? "series " : "", (int)series.len,
                     series.ptr != NULL ? series.ptr : "", series.len > 0 ? ": " : "", why);
    if (n > 0) {
        size_t end = r->text_len + ((size_t)n < room ? (size_t)n : room - 1);
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
