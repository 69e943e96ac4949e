/*
 * find.c - see find.h.
 *
 * Labels come from the index, as for queries. Where a window of time is given, the database says in the
 * same go as the feed which series have samples in it (_prom_ext.series_alive: presence sets, and the
 * directories of rows that are not in them yet), for the metrics that can matter or, where these are
 * many, for all. If the feed brings series of a metric that was not asked for, it is asked again. Where the
 * index does not hold all series, the window also says which of them have to be learnt first (alive.c).
 */
#include <stdlib.h>

#include "connector/read/find.h"
#include "connector/read/internal.h"

/* More candidates than this are not looked at to learn their metrics, and more metrics than this are
 * not named: all of them are asked for then. */
enum { MAX_CANDIDATES = 100000, MAX_METRICS = 1000, MAX_ROUNDS = 4 };

struct read_search {
    const read_finding *what;
    bool windowed; /* as is the case with every search where the index does not hold all series */
    bool since;    /* no time was given: what lived since the index was loaded with */
    label_query *queries; /* a set each; one without matchers if there are none */
    size_t n_queries;
    int32_t tenant_id;
    int32_t asked_tenant_id; /* -1: none could be asked for */
    read_alive alive;
};

static bool
should_stop(void *self)
{
    return read_should_stop(self);
}

/* ---- what is wanted ------------------------------------------------------------------------------- */

static ps_status
compile_set(read_source *src, const read_match *set, label_query *q, ps_err *err)
{
    re_matcher **matchers = ps_arena_array(&src->arena, set->n + 1, sizeof(*matchers));
    if (matchers == NULL)
        return read_no_memory(src, err);
    for (size_t i = 0; i < set->n; i++) {
        ps_status status = re_matcher_new(&src->alloc, &set->matchers[i], &matchers[i], err);
        if (status != PS_OK) {
            while (i-- > 0)
                re_matcher_free(matchers[i]);
            return status == PS_ENOMEM ? read_no_memory(src, err) : status;
        }
    }
    q->matchers = matchers;
    q->n_matchers = set->n;
    return PS_OK;
}

static ps_status
compile_all(read_source *src, read_search *s, ps_err *err)
{
    size_t n = s->what->n_sets == 0 ? 1 : s->what->n_sets;
    s->queries = ps_arena_array(&src->arena, n, sizeof(*s->queries));
    if (s->queries == NULL)
        return read_no_memory(src, err);
    for (size_t i = 0; i < n; i++) {
        s->queries[i] = (label_query){.tenant = {src->tenant, src->tenant_len},
                                      .max_series = MAX_CANDIDATES,
                                      .limit = s->what->limit,
                                      .should_stop = should_stop,
                                      .self = src,
                                      .ret_tenant_id = &s->tenant_id};
        if (s->what->n_sets > 0) {
            PS_TRY(compile_set(src, &s->what->sets[i], &s->queries[i], err));
            s->n_queries++; /* those with matchers to free */
        }
    }
    s->n_queries = n;
    return PS_OK;
}

static void
free_search(read_search *s)
{
    for (size_t i = 0; i < s->n_queries; i++) {
        for (size_t k = 0; k < s->queries[i].n_matchers; k++)
            re_matcher_free(s->queries[i].matchers[k]);
    }
    read_alive_done(&s->alive);
}

static ps_status
checked(read_source *src, ps_status status, ps_err *err)
{
    if (status == PS_ENOMEM)
        return read_no_memory(src, err);
    if (status == PS_ECANCELED && !atomic_load(&src->cancelled))
        return ps_fail(err, PS_ETIMEOUT, "the request timed out while selecting series");
    return status;
}

/* ---- one round -------------------------------------------------------------------------------------- */

static int
compare_metrics(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* The metrics that can matter, ascending. */
static ps_status
wanted_metrics(read_source *src, read_search *s, idx_metric_ids *ret, ps_err *err)
{
    if (s->what->n_sets == 0) {
        *ret = (idx_metric_ids){.all = true};
        return PS_OK;
    }
    ps_status status =
        label_view_metrics(src->view, s->queries, s->n_queries, &src->arena, ret, err);
    PS_TRY(checked(src, status, err));
    ret->all = ret->all || ret->n > MAX_METRICS;
    if (ret->n > 1)
        qsort(ret->items, ret->n, sizeof(*ret->items), compare_metrics);
    return PS_OK;
}

static bool
covers(const idx_metric_ids *asked, const idx_metric_ids *wanted)
{
    if (asked->all)
        return true;
    if (wanted->all)
        return false;
    for (size_t i = 0; i < wanted->n; i++) {
        if (asked->n == 0 || bsearch(&wanted->items[i], asked->items, asked->n, sizeof(int32_t),
                                     compare_metrics) == NULL)
            return false;
    }
    return true;
}

/* From when to when; a search without a time is one since the index's beginning where that does not hold all
 * series: what is older nobody can list in bounded memory. */
static void
choose_window(const read_source *src, read_search *s)
{
    const read_finding *what = s->what;
    bool given = what->from_ms > MDL_TIME_MIN_MS || what->to_ms < MDL_TIME_MAX_MS;
    bool whole = label_view_is_whole(src->view);
    s->windowed = given || !whole;
    s->since = !given && !whole;
    s->alive.from_ms = s->since ? label_view_since_ms(src->view) : what->from_ms;
    s->alive.to_ms = what->to_ms;
    if (s->since && (what->around_from_ms != 0 || what->around_to_ms != 0)) {
        s->since = false;
        s->alive.from_ms = what->around_from_ms;
        s->alive.to_ms = what->around_to_ms;
    }
}

static ps_status
prepare(read_source *src, ps_err *err)
{
    read_search *s = src->search;
    read_alive *a = &s->alive;
    choose_window(src, s);
    if (!label_view_is_whole(src->view)) {
        PS_TRY(read_alive_prepare(src, a, s->queries, s->n_queries, a->from_ms, a->to_ms, err));
        s->asked_tenant_id = a->asks ? a->tenant_id : -1;
        return PS_OK;
    }
    s->asked_tenant_id = -1;
    if (!s->windowed)
        return PS_OK;
    (void)label_view_tenant(src->view, (ps_str){src->tenant, src->tenant_len},
                            &s->asked_tenant_id);
    a->tenant_id = s->asked_tenant_id;
    return wanted_metrics(src, s, &a->metrics, err);
}

static ps_status
begin(read_source *src, ps_err *err)
{
    read_alive_done(&src->search->alive);
    return prepare(src, err);
}

/* Feed and presence in one transaction. After an error the connection is of no use. */
static ps_status
ask(read_source *src, PGconn *conn, ps_str cursor, follow_news *news, ps_err *err)
{
    read_search *s = src->search;
    bool alive = s->windowed && s->asked_tenant_id >= 0;
    if (PQenterPipelineMode(conn) == 0)
        return ps_fail(err, PS_EUNAVAILABLE, "the connection to the database is not usable");
    PS_TRY(read_follow_send(conn, cursor, err));
    if (alive)
        PS_TRY(read_alive_send(&s->alive, conn, err));
    if (PQpipelineSync(conn) == 0)
        return pg_fail_result(NULL, conn, err);
    PS_TRY(read_follow_receive(src, conn, news, err));
    ps_status status = alive ? read_alive_receive(src, &s->alive, conn, err) : PS_OK;
    if (status == PS_OK)
        status = read_sync_receive(src, conn, err);
    if (status != PS_OK)
        follow_news_done(news);
    return status;
}

/* After what the feed told was learnt: was the right thing asked for? */
static ps_status
asked_enough(read_source *src, bool *ret, ps_err *err)
{
    read_search *s = src->search;
    const idx_metric_ids asked = s->alive.metrics;
    int32_t tenant_id = s->asked_tenant_id;
    PS_TRY(prepare(src, err));
    *ret = tenant_id == s->asked_tenant_id && covers(&asked, &s->alive.metrics);
    return PS_OK;
}

static ps_status
run(read_source *src, read_conn *c, ps_str first_cursor, ps_err *err)
{
    pg_wait wait = read_wait(src);
    ps_buf cursor;
    ps_status status = PS_OK;
    bool enough = false, learnt;
    ps_buf_init(&cursor, &ps_malloc);
    ps_buf_add_str(&cursor, first_cursor);
    for (int i = 0; i < MAX_ROUNDS && !enough && status == PS_OK; i++) {
        follow_news news;
        if (i == MAX_ROUNDS - 1)
            src->search->alive.metrics.all = true; /* whoever makes new metrics all the time */
        status = cursor.failed ? ps_fail(err, PS_ENOMEM, "out of memory")
                               : ask(src, c->pg, ps_buf_str(&cursor), &news, err);
        if (status != PS_OK)
            break;
        bool any = news.trimmed || news.n_created > 0 || news.n_deleted > 0;
        status = label_index_learn(src->store->labels, src->view, c->pg, &wait, &news, err);
        follow_news_done(&news);
        enough = !any || !src->search->windowed;
        if (status == PS_OK && !enough)
            status = asked_enough(src, &enough, err);
        ps_buf_clear(&cursor);
        if (status == PS_OK && !enough)
            status = label_view_cursor(src->view, &cursor, err);
    }
    ps_buf_done(&cursor);
    read_search *s = src->search;
    if (status == PS_OK)
        status = read_alive_learn(src, &s->alive, s->queries, s->n_queries, c->pg, &learnt, err);
    return status;
}

/* ---- results ------------------------------------------------------------------------------------------ */

static ps_status
search(read_source *src, const read_finding *what, read_search *s, ps_err *err)
{
    static const read_rounds rounds = {begin, run};
    *s = (read_search){.what = what, .tenant_id = -1};
    if (src->view != NULL || src->lists != NULL)
        return ps_fail(err, PS_EINTERNAL, "a source is used once");
    PS_TRY(compile_all(src, s, err));
    src->search = s;
    PS_TRY(read_rounds_run(src, &rounds, err));
    src->found_since = s->since;
    src->since_ms = s->alive.from_ms;
    for (size_t i = 0; i < s->n_queries; i++) {
        s->queries[i].within = s->windowed ? &s->alive.ids : NULL;
        s->queries[i].max_series = 0;
    }
    return PS_OK;
}

/* Merges b into a: both ascending, each series once. */
static ps_status
merge(read_source *src, idx_found *a, const idx_found *b, ps_err *err)
{
    size_t i = 0, k = 0, n = 0;
    idx_series *items = ps_arena_new(&src->arena, (a->n + b->n + 1) * sizeof(*items));
    if (items == NULL)
        return read_no_memory(src, err);
    while (i < a->n || k < b->n) {
        int order = i == a->n   ? 1
                    : k == b->n ? -1
                                : mdl_labels_cmp(a->items[i].labels, b->items[k].labels);
        items[n++] = order <= 0 ? a->items[i] : b->items[k];
        i += order <= 0;
        k += order >= 0;
    }
    *a = (idx_found){items, n};
    return PS_OK;
}

ps_status
read_find(read_source *src, const read_finding *what, idx_found *ret, int32_t *ret_tenant_id,
          ps_err *err)
{
    read_search s;
    idx_found all = {0};
    ps_status status = search(src, what, &s, err);
    for (size_t i = 0; i < s.n_queries && status == PS_OK; i++) {
        idx_found one;
        status = checked(src, label_view_select(src->view, &s.queries[i], &src->arena, &one, err),
                         err);
        if (status == PS_OK && i == 0)
            all = one;
        else if (status == PS_OK)
            status = merge(src, &all, &one, err);
    }
    free_search(&s);
    src->search = NULL;
    PS_TRY(status);
    if (what->limit != 0 && all.n > what->limit)
        all.n = what->limit;
    if (all.n > 0 && ret_tenant_id != NULL)
        *ret_tenant_id = s.tenant_id;
    *ret = all;
    return PS_OK;
}

static ps_status
texts(read_source *src, const read_finding *what, const ps_str *name, idx_texts *ret, ps_err *err)
{
    read_search s;
    ps_status status = search(src, what, &s, err);
    if (status == PS_OK)
        status = checked(
            src,
            label_view_texts(src->view, s.queries, s.n_queries, name, &src->arena, ret, err), err);
    free_search(&s);
    src->search = NULL;
    return status;
}

ps_status
read_find_names(read_source *src, const read_finding *what, idx_texts *ret, ps_err *err)
{
    return texts(src, what, NULL, ret, err);
}

ps_status
read_find_values(read_source *src, const read_finding *what, ps_str name, idx_texts *ret,
                 ps_err *err)
{
    return texts(src, what, &name, ret, err);
}

bool
read_found_since(const read_source *src, int64_t *ret_ms)
{
    *ret_ms = src->since_ms;
    return src->found_since;
}
