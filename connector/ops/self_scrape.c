/*
 * self_scrape.c - the registry as a WriteRequest, through the same write path as everybody's data.
 *
 * One request is under way at a time: while it is, a beat is left out rather than queued. A failure is
 * not retried either; the next beat brings newer numbers.
 */
#include "connector/ops/self_scrape.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "connector/ops/ticker.h"
#include "lib/wire/wire.h"

enum { MAX_LABELS = 24, METADATA_EVERY = 20 /* beats */ };

struct self_scrape {
    metrics *metrics;
    write_path *write;
    logger *log;
    char *instance;
    ticker *ticker;
    metric *failed;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool under_way;
    uint64_t beats;
    ps_buf body; /* the request's while it is under way */
};

/* ---- rendering ------------------------------------------------------------------------------- */

typedef struct render {
    ps_buf *out;
    ps_str instance;
    int64_t t_ms;
    ps_buf text; /* unescaped label values of one series */
    ps_status status;
    ps_err *err;
} render;

/* One name="value" of the labels text, value unescaped into r->text. Returns what follows, NULL at the end. */
static const char *
next_label(render *r, const char *p, mdl_label *ret)
{
    const char *eq = strchr(p, '=');

    if (*p == 0 || eq == NULL || eq[1] != '"')
        return NULL;
    size_t begin = r->text.len;
    ret->name = (ps_str){p, (size_t)(eq - p)};
    for (p = eq + 2; *p && *p != '"'; p++) {
        bool escaped = *p == '\\' && p[1];
        p += escaped;
        ps_buf_add_char(&r->text, escaped && *p == 'n' ? '\n' : *p);
    }
    ret->value = (ps_str){r->text.ptr + begin, r->text.len - begin};
    if (*p == '"')
        p++;
    return *p == ',' ? p + 1 : p;
}

static void
render_series(void *self, const char *name, const char *labels, double value)
{
    render *r = self;
    mdl_label items[MAX_LABELS] = {{PS_STR("__name__"), ps_str_c(name)},
                                   {PS_STR("job"), PS_STR("promscale")},
                                   {PS_STR("instance"), r->instance}};
    size_t n = 3;
    wire_sample sample = {.t_ms = r->t_ms, .value = value};

    if (r->status != PS_OK)
        return;
    ps_buf_clear(&r->text);
    /* Reserved whole, so that the slices stay where they are. */
    if (!ps_buf_reserve(&r->text, strlen(labels) + 1)) {
        r->status = ps_fail(r->err, PS_ENOMEM, "no memory for the self-scrape");
        return;
    }
    for (const char *p = labels; n < MAX_LABELS && (p = next_label(r, p, &items[n])) != NULL;)
        n++;
    r->status = mdl_labels_canonical(items, n, &(mdl_label_limits){0}, &n, r->err);
    if (r->status == PS_OK)
        wire_write_series(r->out, (mdl_labels){items, n}, &sample, 1, NULL, 0);
}

static void
render_family(void *self, const char *name, const char *type, const char *help)
{
    render *r = self;
    wire_metadata md = {.type = strcmp(type, "counter") == 0 ? WIRE_METRIC_COUNTER
                                : strcmp(type, "gauge") == 0 ? WIRE_METRIC_GAUGE
                                                             : WIRE_METRIC_HISTOGRAM,
                        .family = ps_str_c(name),
                        .help = ps_str_c(help)};

    wire_write_metadata(r->out, &md);
}

ps_status
self_scrape_render(metrics *m, ps_str instance, int64_t t_ms, bool metadata, ps_buf *out,
                   ps_err *err)
{
    render r = {.out = out, .instance = instance, .t_ms = t_ms, .err = err};

    ps_buf_clear(out);
    ps_buf_init(&r.text, &ps_malloc);
    render_series(&r, "up", "", 1);
    metrics_visit(m, render_series, &r);
    if (metadata)
        metrics_visit_families(m, render_family, &r);
    ps_buf_done(&r.text);
    if (r.status == PS_OK && out->failed)
        return ps_fail(err, PS_ENOMEM, "no memory for the self-scrape");
    return r.status;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void
done(void *self, const write_result *result)
{
    self_scrape *s = self;

    if (result->status != PS_OK) {
        metric_add(s->failed, 1);
        log_limited(s->log, LOG_WARN, 60000, "own metrics were not stored",
                    (const log_field[]){LOG_STR("reason", result->text)}, 1);
    }
    pthread_mutex_lock(&s->lock);
    s->under_way = false;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void
beat(void *self)
{
    self_scrape *s = self;
    struct timespec now;
    ps_err err;

    pthread_mutex_lock(&s->lock);
    bool busy = s->under_way;
    s->under_way = true;
    pthread_mutex_unlock(&s->lock);
    if (busy) {
        metric_add(s->failed, 1);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    ps_status st = self_scrape_render(s->metrics, ps_str_c(s->instance),
                                      (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
                                      s->beats++ % METADATA_EVERY == 0, &s->body, &err);
    if (st == PS_OK) {
        write_request wr = {.body = ps_buf_str(&s->body), .encoding = WRITE_PLAIN};
        st = write_submit(s->write, &wr, done, s, &err);
    }
    if (st != PS_OK)
        done(s, &(write_result){.status = st, .text = err.text});
}

ps_status
self_scrape_start(metrics *m, write_path *w, logger *log, const char *instance, int64_t interval_ms,
                  self_scrape **ret, ps_err *err)
{
    self_scrape *s = calloc(1, sizeof(*s));

    if (s == NULL || (s->instance = strdup(instance)) == NULL) {
        free(s);
        return ps_fail(err, PS_ENOMEM, "no memory for the self-scrape");
    }
    s->metrics = m;
    s->write = w;
    s->log = log;
    s->failed = metrics_counter(m, "promscale_self_scrape_failures_total",
                                "Own metrics that were not stored.", "");
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    ps_buf_init(&s->body, &ps_malloc);
    ps_status st = ticker_start(0, interval_ms, beat, s, &s->ticker, err);
    if (st != PS_OK) {
        self_scrape_stop(s);
        return st;
    }
    *ret = s;
    return PS_OK;
}

void
self_scrape_stop(self_scrape *s)
{
    if (s == NULL)
        return;
    ticker_stop(s->ticker);
    pthread_mutex_lock(&s->lock);
    while (s->under_way)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    ps_buf_done(&s->body);
    free(s->instance);
    free(s);
}
