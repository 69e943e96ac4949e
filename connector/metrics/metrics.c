/*
 * metrics.c - the registry: families in order of registration, each with its series.
 *
 * Updates are lock-free: a value is the bits of a double in an atomic word, added to by compare and
 * exchange; a histogram has one counter per bucket (not cumulative) and the sum. The lock guards the
 * lists only: registering, which is rare, and rendering. Metrics live as long as the registry.
 */
#include "connector/metrics/metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef enum metric_type { TYPE_COUNTER, TYPE_GAUGE, TYPE_HISTOGRAM } metric_type;
static const char *const type_names[] = {"counter", "gauge", "histogram"};

struct metric {
    metric *next; /* in its family */
    metric_type type;
    char *labels;
    _Atomic uint64_t value; /* bits of a double; of a histogram the sum */
    double (*fn)(void *self);
    void *self;
    double *bounds;            /* histogram */
    _Atomic uint64_t *buckets; /* n_bounds + 1 */
    size_t n_bounds;
};

typedef struct family {
    struct family *next;
    char *name, *help;
    metric_type type;
    metric *first, *last;
    metrics_collect_fn collect; /* or series are asked for */
    void *self;
} family;

struct metrics {
    pthread_mutex_t lock;
    family *first, *last;
};

metrics *
metrics_new(void)
{
    metrics *m = calloc(1, sizeof(*m));

    if (m != NULL)
        pthread_mutex_init(&m->lock, NULL);
    return m;
}

static void
metric_free(metric *x)
{
    free(x->labels);
    free(x->bounds);
    free((void *)x->buckets);
    free(x);
}

void
metrics_free(metrics *m)
{
    if (m == NULL)
        return;
    for (family *f = m->first, *next; f != NULL; f = next) {
        next = f->next;
        for (metric *x = f->first, *after; x != NULL; x = after) {
            after = x->next;
            metric_free(x);
        }
        free(f->name);
        free(f->help);
        free(f);
    }
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* ---- registering --------------------------------------------------------------------------- */

static family *
family_get(metrics *m, const char *name, const char *help, metric_type type)
{
    for (family *f = m->first; f != NULL; f = f->next) {
        if (strcmp(f->name, name) == 0)
            return f->type == type ? f : NULL;
    }
    family *f = calloc(1, sizeof(*f));
    if (f == NULL)
        return NULL;
    f->name = strdup(name);
    f->help = strdup(help);
    f->type = type;
    if (f->name == NULL || f->help == NULL) {
        free(f->name);
        free(f->help);
        free(f);
        return NULL;
    }
    if (m->last)
        m->last->next = f;
    else
        m->first = f;
    m->last = f;
    return f;
}

static metric *
metric_make(metric_type type, const char *labels, const double *bounds, size_t n_bounds)
{
    metric *x = calloc(1, sizeof(*x));

    if (x == NULL)
        return NULL;
    x->type = type;
    x->labels = strdup(labels);
    if (type == TYPE_HISTOGRAM) {
        x->n_bounds = n_bounds;
        x->bounds = calloc(n_bounds + 1, sizeof(double));
        x->buckets = calloc(n_bounds + 1, sizeof(*x->buckets));
    }
    if (x->labels == NULL ||
        (type == TYPE_HISTOGRAM && (x->bounds == NULL || x->buckets == NULL))) {
        metric_free(x);
        return NULL;
    }
    if (n_bounds > 0)
        memcpy(x->bounds, bounds, n_bounds * sizeof(double));
    return x;
}

static metric *
metric_get(metrics *m, const char *name, const char *help, const char *labels, metric_type type,
           const double *bounds, size_t n_bounds, double (*fn)(void *self), void *self)
{
    if (m == NULL)
        return NULL;
    pthread_mutex_lock(&m->lock);
    family *f = family_get(m, name, help, type);
    metric *x = f ? f->first : NULL;
    while (x != NULL && strcmp(x->labels, labels) != 0)
        x = x->next;
    if (f != NULL && x == NULL && (x = metric_make(type, labels, bounds, n_bounds)) != NULL) {
        x->fn = fn;
        x->self = self;
        if (f->last)
            f->last->next = x;
        else
            f->first = x;
        f->last = x;
    }
    pthread_mutex_unlock(&m->lock);
    return x;
}

metric *
metrics_counter(metrics *m, const char *name, const char *help, const char *labels)
{
    return metric_get(m, name, help, labels, TYPE_COUNTER, NULL, 0, NULL, NULL);
}

metric *
metrics_gauge(metrics *m, const char *name, const char *help, const char *labels)
{
    return metric_get(m, name, help, labels, TYPE_GAUGE, NULL, 0, NULL, NULL);
}

metric *
metrics_gauge_fn(metrics *m, const char *name, const char *help, const char *labels,
                 double (*fn)(void *self), void *self)
{
    return metric_get(m, name, help, labels, TYPE_GAUGE, NULL, 0, fn, self);
}

metric *
metrics_counter_fn(metrics *m, const char *name, const char *help, const char *labels,
                   double (*fn)(void *self), void *self)
{
    return metric_get(m, name, help, labels, TYPE_COUNTER, NULL, 0, fn, self);
}

metric *
metrics_histogram(metrics *m, const char *name, const char *help, const char *labels,
                  const double *bounds, size_t n_bounds)
{
    return metric_get(m, name, help, labels, TYPE_HISTOGRAM, bounds, n_bounds, NULL, NULL);
}

static bool
collected(metrics *m, const char *name, const char *help, metric_type type, metrics_collect_fn fn,
          void *self)
{
    if (m == NULL)
        return false;
    pthread_mutex_lock(&m->lock);
    family *f = family_get(m, name, help, type);
    bool free_name = f != NULL && f->first == NULL && f->collect == NULL;
    if (free_name) {
        f->collect = fn;
        f->self = self;
    }
    pthread_mutex_unlock(&m->lock);
    return free_name;
}

bool
metrics_gauges(metrics *m, const char *name, const char *help, metrics_collect_fn fn, void *self)
{
    return collected(m, name, help, TYPE_GAUGE, fn, self);
}

bool
metrics_counters(metrics *m, const char *name, const char *help, metrics_collect_fn fn, void *self)
{
    return collected(m, name, help, TYPE_COUNTER, fn, self);
}

/* ---- updating ------------------------------------------------------------------------------ */

void
metric_add(metric *x, double v)
{
    if (x == NULL)
        return;
    uint64_t old = atomic_load_explicit(&x->value, memory_order_relaxed), sum;
    do
        sum = ps_bits_of(ps_double_of(old) + v);
    while (!atomic_compare_exchange_weak_explicit(&x->value, &old, sum, memory_order_relaxed,
                                                  memory_order_relaxed));
}

void
metric_set(metric *x, double v)
{
    if (x != NULL)
        atomic_store_explicit(&x->value, ps_bits_of(v), memory_order_relaxed);
}

void
metric_observe(metric *x, double v)
{
    size_t i = 0;

    if (x == NULL || x->type != TYPE_HISTOGRAM)
        return;
    while (i < x->n_bounds && !(v <= x->bounds[i])) /* NaN goes to +Inf */
        i++;
    atomic_fetch_add_explicit(&x->buckets[i], 1, memory_order_relaxed);
    metric_add(x, v);
}

double
metric_value(const metric *x)
{
    if (x == NULL)
        return 0;
    return x->fn ? x->fn(x->self)
                 : ps_double_of(atomic_load_explicit(&x->value, memory_order_relaxed));
}

/* ---- reading ------------------------------------------------------------------------------- */

typedef struct visit { /* one walk over the registry; text is scratch for names and labels */
    metrics_visit_fn fn;
    void *self;
    ps_buf name, labels;
} visit;

static const char *
c_text(ps_buf *buf)
{
    ps_buf_add_char(buf, 0);
    return buf->failed ? NULL : buf->ptr;
}

static void
visit_sample(visit *v, const char *name, const char *suffix, const char *labels, const double *le,
             double value)
{
    ps_buf_clear(&v->name);
    ps_buf_add_c(&v->name, name);
    ps_buf_add_c(&v->name, suffix);
    ps_buf_clear(&v->labels);
    ps_buf_add_c(&v->labels, labels);
    if (le != NULL) {
        char text[PS_DOUBLE_TEXT];
        ps_buf_add_c(&v->labels, labels[0] ? ",le=\"" : "le=\"");
        ps_buf_add(&v->labels, text, ps_format_double(text, *le));
        ps_buf_add_c(&v->labels, "\"");
    }
    const char *n = c_text(&v->name), *l = c_text(&v->labels);
    if (n != NULL && l != NULL)
        v->fn(v->self, n, l, value);
}

static void
visit_histogram(visit *v, const family *f, metric *x)
{
    const double inf = __builtin_inf();
    uint64_t count = 0;

    for (size_t i = 0; i <= x->n_bounds; i++) {
        count += atomic_load_explicit(&x->buckets[i], memory_order_relaxed);
        visit_sample(v, f->name, "_bucket", x->labels, i < x->n_bounds ? &x->bounds[i] : &inf,
                     (double)count);
    }
    visit_sample(v, f->name, "_sum", x->labels, NULL, metric_value(x));
    visit_sample(v, f->name, "_count", x->labels, NULL, (double)count);
}

struct metrics_sink {
    visit *v;
    const family *f;
};

void
metrics_sink_add(metrics_sink *sink, const char *labels, double value)
{
    visit_sample(sink->v, sink->f->name, "", labels, NULL, value);
}

static void
visit_family(visit *v, const family *f)
{
    metrics_sink sink = {v, f};

    if (f->collect != NULL)
        f->collect(f->self, &sink);
    for (metric *x = f->first; x != NULL; x = x->next) {
        if (f->type == TYPE_HISTOGRAM)
            visit_histogram(v, f, x);
        else
            visit_sample(v, f->name, "", x->labels, NULL, metric_value(x));
    }
}

static void
visit_init(visit *v, metrics_visit_fn fn, void *self)
{
    v->fn = fn;
    v->self = self;
    ps_buf_init(&v->name, &ps_malloc);
    ps_buf_init(&v->labels, &ps_malloc);
}

static void
visit_done(visit *v)
{
    ps_buf_done(&v->name);
    ps_buf_done(&v->labels);
}

void
metrics_visit(metrics *m, metrics_visit_fn fn, void *self)
{
    visit v;

    visit_init(&v, fn, self);
    pthread_mutex_lock(&m->lock);
    for (const family *f = m->first; f != NULL; f = f->next)
        visit_family(&v, f);
    pthread_mutex_unlock(&m->lock);
    visit_done(&v);
}

void
metrics_visit_families(metrics *m, metrics_family_fn fn, void *self)
{
    pthread_mutex_lock(&m->lock);
    for (const family *f = m->first; f != NULL; f = f->next)
        fn(self, f->name, type_names[f->type], f->help);
    pthread_mutex_unlock(&m->lock);
}

/* ---- text format 0.0.4 ----------------------------------------------------------------------- */

static void
render_sample(void *self, const char *name, const char *labels, double value)
{
    ps_buf *out = self;
    char text[PS_DOUBLE_TEXT];

    ps_buf_add_c(out, name);
    if (labels[0]) {
        ps_buf_add_char(out, '{');
        ps_buf_add_c(out, labels);
        ps_buf_add_char(out, '}');
    }
    ps_buf_add_char(out, ' ');
    ps_buf_add(out, text, ps_format_double(text, value));
    ps_buf_add_char(out, '\n');
}

static void
render_help(ps_buf *out, const family *f)
{
    ps_buf_add_c(out, "# HELP ");
    ps_buf_add_c(out, f->name);
    ps_buf_add_char(out, ' ');
    for (const char *p = f->help; *p; p++) {
        if (*p == '\\')
            ps_buf_add_c(out, "\\\\");
        else if (*p == '\n')
            ps_buf_add_c(out, "\\n");
        else
            ps_buf_add_char(out, *p);
    }
    ps_buf_add_c(out, "\n# TYPE ");
    ps_buf_add_c(out, f->name);
    ps_buf_add_char(out, ' ');
    ps_buf_add_c(out, type_names[f->type]);
    ps_buf_add_char(out, '\n');
}

void
metrics_render(metrics *m, ps_buf *out)
{
    visit v;

    visit_init(&v, render_sample, out);
    pthread_mutex_lock(&m->lock);
    for (const family *f = m->first; f != NULL; f = f->next) {
        render_help(out, f);
        visit_family(&v, f);
    }
    pthread_mutex_unlock(&m->lock);
    visit_done(&v);
}

void
metrics_label(ps_buf *out, const char *name, ps_str value)
{
    if (out->len > 0)
        ps_buf_add_char(out, ',');
    ps_buf_add_c(out, name);
    ps_buf_add_c(out, "=\"");
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];
        if (c == '"' || c == '\\')
            ps_buf_add_char(out, '\\');
        if (c == '\n')
            ps_buf_add_c(out, "\\n");
        else
            ps_buf_add_char(out, c);
    }
    ps_buf_add_char(out, '"');
}
