/*
 * old.c - how long samples of a series are kept, so that those which are older on arrival can be told of.
 *
 * The rules (default, tenants, metrics, selectors) are few and change rarely: the resolver asks for all of
 * them once a minute. A decoder looks at them only for a series with a sample older than the shortest of all
 * periods, and goes by the labels, since the series may be new. Longest of the selectors that match, else the
 * metric's, else the tenant's, else the default: as the database does it.
 *
 * While a changed rule does not delete yet (its grace), the database answers with one rule, the longest period
 * of all. Where an answer cannot be used, nothing is old. `old_mu` guards the rules; nobody waits under it.
 */
#include "connector/write/internal.h"

#include <stdlib.h>

#include "lib/promql/promql.h"
#include "lib/regex/regex.h"

typedef struct named { /* of a tenant or a metric */
    ps_str name;
    int64_t ms; /* 0: for ever */
} named;

typedef struct selector {
    re_matcher **matchers;
    size_t n;
    int64_t ms;
} selector;

struct wp_periods {
    ps_arena arena; /* everything but what matchers own */
    named *tenants, *metrics;
    selector *selectors;
    size_t n_tenants, n_metrics, n_selectors;
    int64_t default_ms;
    int64_t shortest_ms; /* 0: all for ever */
};

void
wp_periods_free(wp_periods *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->n_selectors; i++)
        for (size_t k = 0; k < p->selectors[i].n; k++)
            re_matcher_free(p->selectors[i].matchers[k]);
    ps_arena_done(&p->arena);
    free(p);
}

static int
by_name(const void *a, const void *b)
{
    return ps_str_cmp(((const named *)a)->name, ((const named *)b)->name);
}

static int64_t
longer(int64_t a, int64_t b)
{
    return a == 0 || b == 0 ? 0 : (a > b ? a : b);
}

static ps_status
read_selector(wp_periods *p, ps_str text, int64_t ms, ps_err *err)
{
    pql_expr *expr;
    pql_error error;
    ps_status status = pql_parse_selector(&p->arena, text, &expr, &error);
    if (status != PS_OK)
        return ps_fail(err, status, "%s", error.text);
    selector *s = &p->selectors[p->n_selectors];
    *s = (selector){.ms = ms};
    s->matchers = ps_arena_array(&p->arena, expr->selector.n_matchers, sizeof(re_matcher *));
    if (s->matchers == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    p->n_selectors++; /* from here on they are freed */
    for (; s->n < expr->selector.n_matchers; s->n++)
        PS_TRY(re_matcher_new(&ps_malloc, &expr->selector.matchers[s->n], &s->matchers[s->n], err));
    return PS_OK;
}

static ps_status
read_rule(wp_periods *p, const catalog_period *rule, ps_err *err)
{
    if (rule->ms > 0 && (p->shortest_ms == 0 || rule->ms < p->shortest_ms))
        p->shortest_ms = rule->ms;
    if (rule->kind == 'd') {
        p->default_ms = rule->ms;
        return PS_OK;
    }
    if (rule->kind == 's')
        return read_selector(p, rule->subject, rule->ms, err);
    named *one = rule->kind == 't' ? &p->tenants[p->n_tenants++] : &p->metrics[p->n_metrics++];
    one->ms = rule->ms;
    return ps_arena_dup(&p->arena, rule->subject, &one->name) == PS_OK
               ? PS_OK
               : ps_fail(err, PS_ENOMEM, "out of memory");
}

ps_status
wp_periods_new(const catalog_period *rules, size_t n, wp_periods **ret, ps_err *err)
{
    wp_periods *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return ps_fail(err, PS_ENOMEM, "out of memory");
    ps_arena_init(&p->arena, &ps_malloc, 0);
    p->tenants = ps_arena_array(&p->arena, n + 1, sizeof(named));
    p->metrics = ps_arena_array(&p->arena, n + 1, sizeof(named));
    p->selectors = ps_arena_array(&p->arena, n + 1, sizeof(selector));
    ps_status status = p->tenants == NULL || p->metrics == NULL || p->selectors == NULL
                           ? ps_fail(err, PS_ENOMEM, "out of memory")
                           : PS_OK;
    for (size_t i = 0; i < n && status == PS_OK; i++)
        status = read_rule(p, &rules[i], err);
    if (status != PS_OK) {
        wp_periods_free(p);
        return status;
    }
    qsort(p->tenants, p->n_tenants, sizeof(named), by_name);
    qsort(p->metrics, p->n_metrics, sizeof(named), by_name);
    *ret = p;
    return PS_OK;
}

void
wp_periods_set(write_path *w, wp_periods *p)
{
    pthread_mutex_lock(&w->old_mu);
    wp_periods *before = w->periods;
    w->periods = p;
    atomic_store(&w->shortest_ms, p != NULL ? p->shortest_ms : 0);
    pthread_mutex_unlock(&w->old_mu);
    wp_periods_free(before);
}

/* ---- of a series --------------------------------------------------------------------------- */

static ps_str
label_of(const mdl_label *labels, size_t n, ps_str name)
{
    for (size_t i = 0; i < n; i++) {
        if (ps_str_eq(labels[i].name, name))
            return labels[i].value;
    }
    return (ps_str){0};
}

static bool
selects(const selector *s, ps_str tenant, const mdl_label *labels, size_t n)
{
    for (size_t i = 0; i < s->n; i++) {
        ps_str name = re_matcher_of(s->matchers[i])->name;
        ps_str value = ps_str_eq(name, ps_str_c("__tenant__")) ? tenant : label_of(labels, n, name);
        if (!re_matcher_matches(s->matchers[i], value))
            return false;
    }
    return true;
}

int64_t
wp_periods_kept(const wp_periods *p, ps_str tenant, const mdl_label *labels, size_t n)
{
    const named family = {.name = label_of(labels, n, ps_str_c("__name__"))}, owner = {tenant, 0};
    int64_t ms = -1;
    for (size_t i = 0; i < p->n_selectors; i++) {
        if (selects(&p->selectors[i], tenant, labels, n))
            ms = ms < 0 ? p->selectors[i].ms : longer(ms, p->selectors[i].ms);
    }
    if (ms >= 0)
        return ms;
    const named *found = bsearch(&family, p->metrics, p->n_metrics, sizeof(named), by_name);
    if (found == NULL)
        found = bsearch(&owner, p->tenants, p->n_tenants, sizeof(named), by_name);
    return found != NULL ? found->ms : p->default_ms;
}

int64_t
wp_kept_ms(write_path *w, wp_decoder *d, const wp_request *r, const wire_series *s)
{
    if (!wp_parse_labels(w, d, s))
        return 0;
    pthread_mutex_lock(&w->old_mu);
    int64_t ms =
        w->periods != NULL ? wp_periods_kept(w->periods, r->in.tenant, d->labels, s->n_labels) : 0;
    pthread_mutex_unlock(&w->old_mu);
    return ms;
}
