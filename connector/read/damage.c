/*
 * damage.c - blocks that cannot be read: they cost their own samples only, and whoever asked is told.
 *
 * A block that is damaged, or of a kind that this version does not know, is left out, named in the
 * query's warnings (the first few; of the others the number), logged and counted. The same block may
 * be met several times, by several selections or when a round begins anew: it is told of once. Label
 * requests have the server read blocks, whose WARNINGs say the same. With query.damaged-blocks = error
 * the query fails instead.
 *
 * Nothing here leaves a block out in silence: read_damage() is the only way to go on without one.
 */
#include <stdlib.h>
#include <time.h>

#include "connector/read/internal.h"

static bool
is_news(read_damaged *d, const read_block *row)
{
    for (size_t i = 0; i < d->n_ids; i++) {
        if (d->ids[i] == row->id && d->tables[i] == row->table)
            return false;
    }
    if (d->n_ids < READ_DAMAGED_IDS) {
        d->ids[d->n_ids] = row->id;
        d->tables[d->n_ids++] = row->table;
    }
    return true;
}

static void
keep_text(read_damaged *d, ps_buf *text)
{
    if (d->n_texts == READ_DAMAGED_TEXTS || text->failed) {
        d->n_rest++;
        return;
    }
    for (size_t i = 0; i < d->n_texts; i++) { /* the server's words may come again */
        if (ps_str_eq(d->texts[i], ps_buf_str(text)))
            return;
    }
    char *copy = malloc(text->len + 1);
    if (copy == NULL) {
        d->n_rest++;
        return;
    }
    memcpy(copy, text->ptr, text->len);
    d->texts[d->n_texts++] = (ps_str){copy, text->len};
}

static void
add_time(ps_buf *out, int64_t t_ms)
{
    time_t t = (time_t)(t_ms >= 0 ? t_ms / 1000 : (t_ms - 999) / 1000);
    struct tm tm;
    char text[64];
    if (gmtime_r(&t, &tm) == NULL || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        ps_buf_addf(out, "%lld ms", (long long)t_ms);
    else
        ps_buf_add_c(out, text);
}

/* The name of the row's metric, if a series of it was asked for. */
static void
add_metric(ps_buf *out, const read_list *list, int32_t metric_id)
{
    for (size_t i = 0; metric_id > 0 && i < list->found.n; i++) {
        const read_wanted *w = &list->wanted[i];
        if (w->metric_id != metric_id)
            continue;
        ps_str name = mdl_labels_get(list->found.items[w->index].labels, PS_STR(MDL_METRIC_NAME));
        ps_buf_addf(out, "metric \"%.*s\"", (int)ps_utf8_prefix(name, 200), name.ptr);
        return;
    }
    ps_buf_addf(out, metric_id < 0 ? "small metrics (metric_id %d)" : "metric_id %d", metric_id);
}

ps_status
read_damage(read_source *src, const read_list *list, const read_block *row, ps_status status,
            ps_err *err)
{
    char why[sizeof(err->text)];
    if (status != PS_ECORRUPT && status != PS_EUNSUPPORTED)
        return status;
    memcpy(why, err->text, sizeof(why));
    if (src->store->damage_fails)
        return ps_fail(err, status, "block %lld of table _prom_data.%s (metric_id %d): %s",
                       (long long)row->id, row->table, row->meta.metric_id, why);
    if (!is_news(&src->damaged, row))
        return PS_OK;
    metric_add(src->store->m_damaged, 1);
    ps_buf text;
    ps_buf_init(&text, &ps_malloc);
    ps_buf_addf(&text,
                "block %lld of table _prom_data.%s cannot be read, its samples are left out: ",
                (long long)row->id, row->table);
    add_metric(&text, list, row->meta.metric_id);
    ps_buf_add_c(&text, " from ");
    add_time(&text, row->meta.t_min_ms);
    ps_buf_add_c(&text, " to ");
    add_time(&text, row->meta.t_max_ms);
    ps_buf_addf(&text, ": %s", why);
    keep_text(&src->damaged, &text);
    ps_buf_add_char(&text, 0);
    if (!text.failed)
        log_limited(src->store->log, LOG_WARN, 10000, "a block cannot be read",
                    (const log_field[]){LOG_STR("block", text.ptr)}, 1);
    ps_buf_done(&text);
    return PS_OK;
}

/* What the server says beside its answers: warnings about blocks concern the client, nothing else does. */
void
read_on_notice(void *self, const PGresult *res)
{
    read_source *src = self;
    const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL);
    if (src == NULL || severity == NULL || strcmp(severity, "WARNING") != 0 || state == NULL ||
        (strcmp(state, "XX001") != 0 && strcmp(state, "0A000") != 0) || primary == NULL)
        return;
    metric_add(src->store->m_damaged, 1);
    ps_buf text;
    ps_buf_init(&text, &ps_malloc);
    ps_buf_add_c(&text, primary);
    if (detail != NULL)
        ps_buf_addf(&text, ": %s", detail);
    keep_text(&src->damaged, &text);
    ps_buf_done(&text);
}

size_t
read_source_warnings(read_source *src, const ps_str **ret)
{
    read_damaged *d = &src->damaged;
    if (d->n_rest > 0) {
        int n = snprintf(d->rest, sizeof(d->rest),
                         "more blocks cannot be read, their samples are left out: %llu",
                         (unsigned long long)d->n_rest);
        d->texts[d->n_texts] = (ps_str){d->rest, (size_t)n};
    }
    *ret = d->texts;
    return d->n_texts + (d->n_rest > 0);
}

void
read_damaged_done(read_damaged *d)
{
    for (size_t i = 0; i < d->n_texts; i++)
        free((char *)(uintptr_t)d->texts[i].ptr);
    *d = (read_damaged){0};
}
