/*
 * leaf.c - reads the series of a selector, batch by batch, in parallel pieces; and what an instant
 * selector is: the newest sample of the lookback window, unless it is a stale marker.
 *
 * Memory: one batch of output (about 64 k cells), and for each worker the samples of one series and the
 * histograms of its rows.
 */
#include "lib/eval/leaf.h"

enum { PIECE_CELLS = 4096, MIN_PIECES_ROWS = 1 };

/* Times far outside of any data, so that adding ranges and offsets to them cannot overflow. */
#define FAR_MS (INT64_MAX / 4)

void
ev_window_times(const pql_when *when, const ev_grid *grid, int64_t *ret_first_end,
                int64_t *ret_end_step)
{
    bool fixed = when->at != PQL_AT_NONE;
    int64_t base = fixed ? when->at_ms : grid->start_ms;
    base = base > FAR_MS ? FAR_MS : base < -FAR_MS ? -FAR_MS : base;
    *ret_first_end = base - when->offset_ms;
    *ret_end_step = fixed ? 0 : grid->step_ms;
}

ps_status
ev_source_failed(ev_ctx *c, ps_status status, const ps_err *err)
{
    if (status == PS_ENOMEM)
        return ev_no_memory(c);
    if (err->text[0] != '\0')
        return ev_fail(c, status, "%s", err->text);
    return ev_fail(c, status, "reading samples: %s", ps_status_name(status));
}

int64_t
ev_row_weight(const ev_row *row, size_t n_steps)
{
    int64_t weight = 0;
    for (size_t w = 0; w < (n_steps + 63) / 64; w++)
        weight += __builtin_popcountll(row->has[w]);
    if (row->h != NULL)
        for (size_t s = 0; s < n_steps; s++)
            if (row->h[s] != NULL && ev_has(row->has, s))
                weight += (int64_t)hst_weight(row->h[s]) - 1;
    return weight;
}

ps_status
ev_take_series(ev_node *n, const ev_node *from, bool dropped)
{
    ev_ctx *c = n->c;
    n->n_series = from->n_series;
    n->distinct = from->distinct;
    n->series = from->series;
    if (!dropped || from->n_series == 0)
        return PS_OK;
    n->series = ps_arena_new(ev_arena(c), from->n_series * sizeof *n->series);
    if (n->series == NULL)
        return ev_no_memory(c);
    bool now = !ev_query_options(c)->delayed_names;
    ps_str name = ev_metric_name(from->series[0].labels);
    for (size_t i = 0; i < from->n_series; i++) {
        n->series[i] = from->series[i];
        PS_TRY(ev_series_drop_name(c, &n->series[i]));
        if (!now || !n->distinct)
            continue;
        /* distinct sets stay so if what goes is the same name everywhere, and nothing else */
        bool same = ps_str_eq(ev_metric_name(from->series[i].labels), name) &&
                    n->series[i].labels.n + (name.len > 0) == from->series[i].labels.n;
        n->distinct = same;
    }
    return PS_OK;
}

/* ---- rows of instant selectors -------------------------------------------------------------------- */

static bool
is_stale(const ev_samples *s, size_t i)
{
    if (s->h != NULL && s->h[i] != NULL)
        return hst_is_stale(s->h[i]);
    return ps_bits_of(s->v[i]) == MDL_STALE_NAN_BITS;
}

/* Puts sample i of the series into a cell. */
static ps_status
set_cell(ev_leaf *l, ev_ctx *c, const ev_samples *s, size_t i, size_t step, ev_row *row)
{
    bool histogram = s->h != NULL && s->h[i] != NULL;
    ev_set(row->has, step);
    if (l->what == EV_TIMES) {
        if (histogram && l->float_times)
            return ev_fail(c, PS_EINVAL, "this should be an info metric, with float samples");
        row->v[step] = (double)s->t_ms[i] / l->divisor;
    } else if (l->what == EV_STARTS)
        row->v[step] = s->start_ms == NULL ? 0 : (double)s->start_ms[i] / l->divisor;
    else if (!histogram)
        row->v[step] = s->v[i];
    else {
        PS_TRY(ev_row_hists(c, row, l->n.grid.n));
        /* a sample that stands in several steps is copied once */
        if (step > 0 && ev_has(row->has, step - 1) && row->h[step - 1] != NULL &&
            row->v[step - 1] == (double)i)
            row->h[step] = row->h[step - 1];
        else if (hst_copy(row->arena, s->h[i], &row->h[step]) != PS_OK)
            return ev_no_memory(c);
        row->v[step] = (double)i;
    }
    return PS_OK;
}

/* Floats only: the common case, a word of presence bits at a time. */
static void
fill_floats(const ev_leaf *l, const ev_samples *s, ev_row *row)
{
    const int64_t *t = s->t_ms;
    const double *v = s->v;
    size_t n = s->n, n_steps = l->n.grid.n, next = 0;
    int64_t end = l->first_end_ms;
    for (size_t step = 0; step < n_steps;) {
        size_t stop = step + 64 < n_steps ? step + 64 : n_steps;
        uint64_t bits = 0;
        for (; step < stop; step++, end += l->end_step_ms) {
            while (next < n && t[next] <= end)
                next++;
            if (next == 0 || t[next - 1] <= end - l->lookback_ms)
                continue;
            double x = v[next - 1];
            row->v[step] = x;
            bits |= (uint64_t)(ps_bits_of(x) != MDL_STALE_NAN_BITS) << (step & 63);
        }
        row->has[(step - 1) >> 6] = bits;
    }
}

static ps_status
instant_row(ev_leaf *l, ev_ctx *c, ev_worker *w, size_t series, ev_row *row, int64_t *ret_window)
{
    const ev_samples *s = &w->samples;
    (void)series;
    *ret_window = 0;
    if (l->what == EV_VALUES && s->h == NULL)
        fill_floats(l, s, row);
    else {
        size_t next = 0;
        int64_t end = l->first_end_ms;
        for (size_t step = 0; step < l->n.grid.n; step++, end += l->end_step_ms) {
            while (next < s->n && s->t_ms[next] <= end)
                next++;
            if (next > 0 && s->t_ms[next - 1] > end - l->lookback_ms && !is_stale(s, next - 1))
                PS_TRY(set_cell(l, c, s, next - 1, step, row));
        }
    }
    if (w->counts.per_step != NULL)
        for (size_t step = 0; step < l->n.grid.n; step++)
            if (ev_has(row->has, step))
                w->counts.per_step[step] +=
                    row->h != NULL && row->h[step] != NULL ? hst_weight(row->h[step]) : 1;
    w->counts.total += (uint64_t)ev_row_weight(row, l->n.grid.n);
    return PS_OK;
}

/* ---- pieces ----------------------------------------------------------------------------------------- */

static ps_status
run_row(ev_leaf *l, ev_piece *p, ev_worker *w, size_t worker, size_t i)
{
    ev_query *q = l->n.c->q;
    size_t series = l->out.first + i;
    int64_t window = 0;
    ps_err err = {.offset = -1};
    ev_samples_clear(&w->samples);
    ps_status status =
        q->env.source.read(q->env.source.self, l->list, series, worker, &w->samples, &err);
    if (status != PS_OK)
        return ev_source_failed(&p->c, status, &err);
    w->read += w->samples.n;
    if (w->samples.n == 0)
        return PS_OK;
    w->read_series++;
    if (l->stats_only && ev_stats_of(l, &w->samples) != PS_OK)
        return ev_no_memory(&p->c);
    ev_row row = ev_batch_row(&l->out, i);
    row.arena = &w->arena;
    PS_TRY(l->run(l, &p->c, w, series, &row, &window));
    l->out.h[i] = row.h;
    if (p->held + window > p->peak)
        p->peak = p->held + window;
    p->held += ev_row_weight(&row, l->n.grid.n);
    return PS_OK;
}

static void
run_piece(void *arg, size_t task, size_t worker)
{
    ev_leaf *l = arg;
    ev_piece *p = &l->pieces[task];
    ev_worker *w = &l->workers[worker];
    p->c.worker = worker;
    for (size_t i = p->first; i < p->first + p->n; i++) {
        if (atomic_load_explicit(&l->failed_piece, memory_order_relaxed) < task)
            return;
        if ((i & 15) == 0 && ev_poll(&p->c) != PS_OK)
            break;
        if (run_row(l, p, w, worker, i) != PS_OK)
            break;
    }
    if (p->c.failed == PS_OK)
        return;
    size_t first = atomic_load(&l->failed_piece);
    while (task < first && !atomic_compare_exchange_weak(&l->failed_piece, &first, task))
        ;
}

/* Notes, samples held and the first failure, in the order of the pieces. */
static ps_status
gather_pieces(ev_leaf *l)
{
    ev_ctx *c = l->n.c;
    for (size_t i = 0; i < l->n_pieces; i++) {
        ev_piece *p = &l->pieces[i];
        ev_notes_take(c->notes, &p->notes);
        PS_TRY(ev_ctx_take(c, &p->c));
        PS_TRY(ev_hold(c, p->peak));
        ev_release(c, p->peak);
        l->held += p->held;
        PS_TRY(ev_hold(c, p->held));
    }
    return PS_OK;
}

static void
gather_counts(ev_leaf *l)
{
    ev_query *q = l->n.c->q;
    for (size_t i = 0; i < q->env.executor.n_workers; i++) {
        ev_worker *w = &l->workers[i];
        atomic_fetch_add_explicit(&q->samples_read, w->read, memory_order_relaxed);
        if (l->n.profile != NULL) {
            l->n.profile->read_samples += w->read;
            l->n.profile->read_series += w->read_series;
        }
        w->read = w->read_series = 0;
        if (l->n.counts == NULL)
            continue;
        l->n.counts->total += w->counts.total;
        w->counts.total = 0;
        if (w->counts.per_step != NULL)
            for (size_t s = 0; s < l->n.grid.n; s++) {
                l->n.counts->per_step[s] += w->counts.per_step[s];
                w->counts.per_step[s] = 0;
            }
    }
}

static ps_status
leaf_next(ev_node *n, ev_batch **ret)
{
    ev_leaf *l = (ev_leaf *)n;
    ev_query *q = n->c->q;
    ev_release(n->c, l->held);
    l->held = 0;
    if (l->at >= n->n_series || n->grid.n == 0)
        return PS_OK;
    size_t rows = n->n_series - l->at < l->out.cap ? n->n_series - l->at : l->out.cap;
    ev_batch_clear(&l->out, l->at, rows);
    for (size_t i = 0; i < q->env.executor.n_workers; i++)
        ps_arena_reset(&l->workers[i].arena);
    l->n_pieces = 0;
    for (size_t first = 0; first < rows; first += l->piece_rows) {
        ev_piece *p = &l->pieces[l->n_pieces++];
        p->first = first;
        p->n = rows - first < l->piece_rows ? rows - first : l->piece_rows;
        p->held = p->peak = 0;
        ev_notes_clear(&p->notes);
    }
    atomic_store(&l->failed_piece, SIZE_MAX);
    q->env.executor.run(q->env.executor.self, l->n_pieces, run_piece, l);
    gather_counts(l);
    PS_TRY(gather_pieces(l));
    l->at += rows;
    *ret = &l->out;
    return PS_OK;
}

/* ---- opening ------------------------------------------------------------------------------------------- */

static ps_status
open_workers(ev_leaf *l)
{
    ev_ctx *c = l->n.c;
    ev_query *q = c->q;
    size_t n = q->env.executor.n_workers, steps = l->n.grid.n == 0 ? 1 : l->n.grid.n;
    bool per_step = l->n.counts != NULL && l->n.counts->per_step != NULL;
    l->piece_rows = PIECE_CELLS / steps < MIN_PIECES_ROWS ? MIN_PIECES_ROWS : PIECE_CELLS / steps;
    l->cap_pieces = (l->out.cap + l->piece_rows - 1) / l->piece_rows;
    ev_worker *workers = ps_arena_array(ev_arena(c), n, sizeof *workers);
    ev_piece *pieces = ps_arena_array(ev_arena(c), l->cap_pieces + 1, sizeof *pieces);
    if (workers == NULL || pieces == NULL)
        return ev_no_memory(c);
    for (size_t i = 0; i < n; i++) {
        ev_samples_init(&workers[i].samples, ev_alloc(c));
        ps_arena_init(&workers[i].arena, ev_alloc(c), 0);
        if (per_step) {
            workers[i].counts.per_step = ps_arena_array(ev_arena(c), steps, sizeof(uint64_t));
            if (workers[i].counts.per_step == NULL)
                return ev_no_memory(c);
        }
    }
    for (size_t i = 0; i < l->cap_pieces; i++) {
        ev_notes_init(&pieces[i].notes, ev_alloc(c));
        ev_ctx_init(&pieces[i].c, q, &pieces[i].notes);
    }
    l->workers = workers;
    l->pieces = pieces;
    return PS_OK;
}

static ps_status
open_series(ev_leaf *l)
{
    ev_node *n = &l->n;
    ev_ctx *c = n->c;
    l->list = &c->q->lists[l->selection];
    ev_series *series = ps_arena_array(ev_arena(c), l->list->n + 1, sizeof *series);
    if (series == NULL)
        return ev_no_memory(c);
    for (size_t i = 0; i < l->list->n; i++)
        series[i].labels = l->list->labels[i];
    ev_node found = {.series = series, .n_series = l->list->n, .distinct = true};
    bool dropped = l->what != EV_VALUES && l->divisor != 1;
    if (l->fn != NULL)
        dropped = !l->fn->keeps_name;
    return ev_take_series(n, &found, dropped);
}

static ps_status
leaf_open(ev_node *n)
{
    ev_leaf *l = (ev_leaf *)n;
    PS_TRY(open_series(l));
    if (l->fn != NULL)
        PS_TRY(ev_param_values(n, 0, &l->call.params));
    size_t rows = ev_batch_rows(n->grid.n);
    PS_TRY(ev_batch_init(&l->out, n->c, rows < n->n_series ? rows : n->n_series, n->grid.n));
    return open_workers(l);
}

static void
leaf_close(ev_node *n)
{
    ev_leaf *l = (ev_leaf *)n;
    ev_batch_done(&l->out, n->c);
    if (l->workers == NULL)
        return;
    for (size_t i = 0; i < n->c->q->env.executor.n_workers; i++) {
        ev_samples_done(&l->workers[i].samples);
        ps_arena_done(&l->workers[i].arena);
    }
    for (size_t i = 0; i < l->cap_pieces; i++) {
        ev_notes_done(&l->pieces[i].notes);
        ev_ctx_done(&l->pieces[i].c);
    }
    ev_release(n->c, l->held);
}

/* A batch, its pieces, and for each worker the arrays of the longest series: a power of two of samples. */
static uint64_t
leaf_holds(const ev_node *n, size_t steps)
{
    const ev_leaf *l = (const ev_leaf *)n;
    const ev_reading *r = &n->c->q->readings[l->selection];
    uint64_t rows = ev_batch_rows(steps), piece_rows = PIECE_CELLS / (steps == 0 ? 1 : steps);
    rows = rows < n->n_series ? rows : n->n_series;
    piece_rows = piece_rows < MIN_PIECES_ROWS ? MIN_PIECES_ROWS : piece_rows;
    uint64_t pieces = (rows + piece_rows - 1) / piece_rows;
    uint64_t workers = n->c->q->env.executor.n_workers, cap = 64;
    workers = workers < pieces ? workers : pieces;
    uint64_t samples = r->series == 0 ? 0 : r->samples / r->series;
    while (cap < samples && cap < UINT64_MAX / 4)
        cap *= 2;
    return ev_plus(ev_batch_bytes(n->n_series, steps),
                   ev_plus(ev_times(pieces, sizeof(ev_piece)),
                           samples == 0 ? 0 : ev_times(ev_times(workers, cap), 16)));
}

const ev_node_ops ev_leaf_ops = {"selector", sizeof(ev_leaf), leaf_open, leaf_next,
                                 leaf_close, EV_LEAF,         leaf_holds};

/* ---- building -------------------------------------------------------------------------------------------- */

ps_status
ev_build_selector(ev_ctx *c, const pql_expr *selector, const mdl_matcher *matchers,
                  size_t n_matchers, ev_leaf_what what, const ev_grid *grid, ev_node **ret)
{
    ev_node *n;
    PS_TRY(ev_new_node(c, &ev_leaf_ops, selector, grid, PQL_VECTOR, &n));
    ev_leaf *l = (ev_leaf *)n;
    const pql_selector *s = &selector->selector;
    bool smoothed = s->edge == PQL_SMOOTHED && what == EV_VALUES;
    l->what = what;
    l->divisor = 1;
    l->float_times = what == EV_TIMES;
    l->run = smoothed ? ev_smoothed_row : instant_row;
    l->lookback_ms = ev_query_options(c)->lookback_ms;
    ev_window_times(&s->when, grid, &l->first_end_ms, &l->end_step_ms);
    l->stats_only = what == EV_VALUES && !smoothed && ev_stats_suffice(c->q);
    l->stats_window_ms = l->lookback_ms;
    int64_t last = l->first_end_ms + (int64_t)(grid->n - 1) * l->end_step_ms;
    ev_selection selection = {.matchers = matchers,
                              .n_matchers = n_matchers,
                              .from_ms = l->first_end_ms - l->lookback_ms + 1,
                              .to_ms = last + (smoothed ? l->lookback_ms : 0),
                              .newest_only = last == l->first_end_ms && !smoothed &&
                                             !l->stats_only && what != EV_STARTS};
    PS_TRY(ev_select(c, &selection, &l->selection));
    *ret = n;
    return PS_OK;
}
