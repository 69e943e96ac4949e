/*
 * maint_layers.c - which sealed rows a seal takes along with what has come late. Looks at heads only.
 *
 * Late samples could always be sealed as further rows, which is cheap, and which readers and the disk pay
 * for. Or everything they touch could be written anew each time, which is dear when they trickle. So
 * rows are put into layers: the lowest layer is what was sealed first, a row that overlaps with rows of
 * lower ids lies one layer above the highest of them. What has come late takes along all layers from the
 * deepest one on that is not much larger than all above it. A sample is rewritten a few times at most
 * for each power of RATIO that its window is larger, and few layers ever lie on each other. Later, when
 * nothing has come for a while, whatever is still worth it is made one layer (SEAL_QUIET).
 *
 * Two rows overlap here if their ranges of series do and both touch a chunk window: more often than they hold
 * samples of one series and time. So the layers from k on are, among the rows that they overlap with,
 * those with the highest ids, and may be given a new, still higher one: what wins stays what wins. Rows
 * that overlap directly or by others form a component; each is decided upon by itself.
 *
 * What is written together is a batch: components beside each other in the same windows, as long as no
 * sealed row that stays lies between them.
 */
#include "maint_seal.h"

#include "utils/memutils.h"

/* A layer is taken along if it is at most so many times as large as all that is above it. */
enum { RATIO = 4, MAX_LAYERS = 5 };
/* Once it is quiet: what is above the lowest layer may be one part in so many of the bytes. */
enum { QUIET_SHARE = 32 };
/* Neighbours that are both smaller are written together. */
#define SMALL_BYTES ((int64)MAINT_TARGET_BYTES / 4)

typedef struct place {
    uint32 mask;  /* chunk windows of the day that the row touches */
    int32 lo, hi; /* series, as positions among all ends of ranges */
    int32 layer;  /* of sealed rows; of others above all */
    int32 parent; /* union-find; then the component */
} place;

typedef struct group { /* a component */
    int32 first, n;    /* in order[] */
    uint32 mask;
    int64 lo;
    enum { GROUP_STAYS, GROUP_WHOLE, GROUP_ABOVE } fate;
} group;

typedef struct plan {
    seal_stream *st;
    place *places;
    size_t n_positions;
    int32 *order;
    group *groups;
    size_t n_groups;
} plan;

/* ---- places ------------------------------------------------------------------------------ */

static int
cmp_int64(const void *a, const void *b)
{
    const int64 x = *(const int64 *)a, y = *(const int64 *)b;

    return (x > y) - (x < y);
}

static int32
position(const int64 *ends, size_t n, int64 id)
{
    size_t lo = 0, hi = n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (ends[mid] < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return (int32)lo;
}

static uint32
windows_of(const seal_stream *st, const blk_meta *m)
{
    const int64 last = MDL_DAY_MS / st->width_ms - 1;
    const int64 lo = Max((m->t_min_ms - st->day_ms) / st->width_ms, 0);
    const int64 hi = Min((m->t_max_ms - st->day_ms) / st->width_ms, last);

    return (uint32)(((UINT64CONST(1) << (Max(hi, lo) + 1)) - 1) & ~((UINT64CONST(1) << lo) - 1));
}

static void
find_places(plan *p)
{
    const seal_stream *st = p->st;
    int64 *ends = palloc_extended(2 * st->n * sizeof(int64), MCXT_ALLOC_HUGE);
    size_t n = 0;

    for (size_t i = 0; i < st->n; i++) {
        ends[2 * i] = st->rows[i].meta.series_lo;
        ends[2 * i + 1] = st->rows[i].meta.series_hi;
    }
    qsort(ends, 2 * st->n, sizeof(int64), cmp_int64);
    for (size_t i = 0; i < 2 * st->n; i++) {
        if (n == 0 || ends[n - 1] != ends[i])
            ends[n++] = ends[i];
    }
    p->n_positions = n;
    for (size_t i = 0; i < st->n; i++) {
        const blk_meta *m = &st->rows[i].meta;
        p->places[i] = (place){.mask = windows_of(st, m),
                               .lo = position(ends, n, m->series_lo),
                               .hi = position(ends, n, m->series_hi),
                               .parent = (int32)i};
    }
    pfree(ends);
}

static int
by_lo(const void *a, const void *b, void *arg)
{
    const place *places = arg;
    const place *x = &places[*(const int32 *)a], *y = &places[*(const int32 *)b];

    if (x->lo != y->lo)
        return x->lo < y->lo ? -1 : 1;
    return *(const int32 *)a < *(const int32 *)b ? -1 : 1;
}

/* Small rows reach to their small neighbours, so that they count as overlapping. */
static void
join_small(plan *p)
{
    const maint_row *rows = p->st->rows;

    for (size_t i = 0; i + 1 < p->st->n; i++) {
        place *a = &p->places[p->order[i]];
        const place *b = &p->places[p->order[i + 1]];
        if (rows[p->order[i]].data_bytes < SMALL_BYTES &&
            rows[p->order[i + 1]].data_bytes < SMALL_BYTES && (a->mask & b->mask) != 0)
            a->hi = Max(a->hi, b->lo);
    }
}

/* ---- components -------------------------------------------------------------------------- */

static int32
root(place *places, int32 i)
{
    while (places[i].parent != i)
        i = places[i].parent = places[places[i].parent].parent;
    return i;
}

static void
find_components(plan *p)
{
    int32 reach[SEAL_WINDOWS], who[SEAL_WINDOWS];

    for (int w = 0; w < SEAL_WINDOWS; w++)
        reach[w] = who[w] = -1;
    for (size_t i = 0; i < p->st->n; i++) {
        const int32 at = p->order[i];
        const place *r = &p->places[at];
        for (int w = 0; w < SEAL_WINDOWS; w++) {
            if ((r->mask >> w & 1) == 0)
                continue;
            if (reach[w] >= r->lo)
                p->places[root(p->places, who[w])].parent = root(p->places, at);
            if (r->hi > reach[w]) {
                reach[w] = r->hi;
                who[w] = at;
            }
        }
    }
    for (size_t i = 0; i < p->st->n; i++)
        p->places[i].parent = root(p->places, (int32)i);
}

/* ---- layers ------------------------------------------------------------------------------ */

/* A tree over the positions of series, for each window: the highest layer in a range, plus one. */
typedef struct tree {
    int32 *all;  /* of the whole range of a node */
    int32 *most; /* anywhere in it */
} tree;

static int32
tree_most(const tree *t, int32 node, int32 from, int32 to, int32 lo, int32 hi)
{
    if (hi < from || lo > to)
        return 0;
    if (lo <= from && to <= hi)
        return t->most[node];
    const int32 mid = from + (to - from) / 2;
    return Max(t->all[node], Max(tree_most(t, 2 * node, from, mid, lo, hi),
                                 tree_most(t, 2 * node + 1, mid + 1, to, lo, hi)));
}

static void
tree_raise(tree *t, int32 node, int32 from, int32 to, int32 lo, int32 hi, int32 layer)
{
    if (hi < from || lo > to)
        return;
    t->most[node] = Max(t->most[node], layer);
    if (lo <= from && to <= hi) {
        t->all[node] = Max(t->all[node], layer);
        return;
    }
    const int32 mid = from + (to - from) / 2;
    tree_raise(t, 2 * node, from, mid, lo, hi, layer);
    tree_raise(t, 2 * node + 1, mid + 1, to, lo, hi, layer);
}

static void
find_layers(plan *p)
{
    const int32 last = (int32)p->n_positions - 1;
    tree trees[SEAL_WINDOWS] = {0};

    for (size_t i = 0; i < p->st->n; i++) {
        place *r = &p->places[i];
        int32 below = 0;

        if (i >= p->st->n_sealed) {
            r->layer = PG_INT32_MAX;
            continue;
        }
        for (int w = 0; w < SEAL_WINDOWS; w++) {
            if ((r->mask >> w & 1) != 0 && trees[w].most != NULL)
                below = Max(below, tree_most(&trees[w], 1, 0, last, r->lo, r->hi));
        }
        r->layer = below;
        for (int w = 0; w < SEAL_WINDOWS; w++) {
            if ((r->mask >> w & 1) == 0)
                continue;
            if (trees[w].most == NULL) {
                const size_t bytes = 4 * p->n_positions * sizeof(int32);
                trees[w].most = palloc_extended(bytes, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
                trees[w].all = palloc_extended(bytes, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
            }
            tree_raise(&trees[w], 1, 0, last, r->lo, r->hi, below + 1);
        }
    }
}

/* ---- what is taken ------------------------------------------------------------------------ */

static int
by_component_and_layer(const void *a, const void *b, void *arg)
{
    const place *places = arg;
    const int32 i = *(const int32 *)a, j = *(const int32 *)b;
    const place *x = &places[i], *y = &places[j];

    if (x->parent != y->parent)
        return x->parent < y->parent ? -1 : 1;
    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    return i < j ? -1 : 1;
}

/* The deepest layer that is worth it, of the n sealed rows at `rows`; layers: how many there are. */
static int32
deepest(const plan *p, const int32 *rows, int32 n, int32 layers, int64 late)
{
    int64 above = late, own = 0;
    int32 from = layers;

    for (int32 i = n; i-- > 0;) {
        const int32 layer = p->places[rows[i]].layer;
        own += p->st->rows[rows[i]].meta.n_samples;
        if (i > 0 && p->places[rows[i - 1]].layer == layer)
            continue;
        if (own <= RATIO * above)
            from = layer;
        above += own;
        own = 0;
    }
    return Min(from, MAX_LAYERS - 1);
}

/* Sealed rows of this layer and above are written anew; `layers`: none. *ret_shut: rows of the layers below it
 * cannot be read; what lies above these may be joined. */
static int32
choose(const plan *p, const int32 *rows, int32 n_sealed, int32 n, bool *ret_shut)
{
    const seal_stream *st = p->st;
    const int32 layers = n_sealed == 0 ? 0 : p->places[rows[n_sealed - 1]].layer + 1;
    int64 late = 0, bytes = 0, bytes_above = 0;
    int32 from, least = 0;

    for (int32 i = 0; i < n; i++) {
        const maint_row *row = &st->rows[rows[i]];
        late += i < n_sealed ? 0 : row->meta.n_samples;
        bytes += row->data_bytes;
        bytes_above += p->places[rows[i]].layer > 0 ? row->data_bytes : 0;
        if (i < n_sealed && st->shut[rows[i]])
            least = p->places[rows[i]].layer + 1; /* they ascend */
    }
    *ret_shut = least > 0;
    if (st->zeal == SEAL_PLAIN || layers == 0)
        return layers;
    if (n_sealed == n && (layers == 1 || st->zeal == SEAL_SOON))
        return layers; /* nothing new, or nothing to join */
    if (st->zeal == SEAL_ALL || (st->zeal == SEAL_QUIET && bytes_above * QUIET_SHARE >= bytes)) {
        from = least;
    } else {
        from = deepest(p, rows, n_sealed, layers, late);
        if (st->zeal == SEAL_QUIET)
            from = Min(from, 1);
        from = Max(from, least);
    }
    /* a layer alone, with nothing to join, stays */
    return n_sealed == n && from >= layers - 1 ? layers : from;
}

static void
decide(plan *p)
{
    const int32 n = (int32)p->st->n;

    for (int32 a = 0, b; a < n; a = b) {
        const int32 *rows = &p->order[a];
        group *g = &p->groups[p->n_groups++];
        int32 n_sealed = 0;

        *g = (group){.first = a, .lo = PG_INT64_MAX};
        for (b = a; b < n && p->places[p->order[b]].parent == p->places[rows[0]].parent; b++) {
            n_sealed += p->places[p->order[b]].layer != PG_INT32_MAX;
            g->mask |= p->places[p->order[b]].mask;
            g->lo = Min(g->lo, p->st->rows[p->order[b]].meta.series_lo);
        }
        g->n = b - a;
        const int32 layers = n_sealed == 0 ? 0 : p->places[rows[n_sealed - 1]].layer + 1;
        bool shut;
        const int32 from = choose(p, rows, n_sealed, g->n, &shut);
        if (from == layers && n_sealed == g->n)
            g->fate = GROUP_STAYS;
        else
            g->fate = from == 0 ? GROUP_WHOLE : GROUP_ABOVE;
        if (g->fate == GROUP_ABOVE || (g->fate == GROUP_STAYS && layers > 1)) {
            p->st->fragmented = true;
            p->st->held = p->st->held || shut;
        }
        for (int32 i = a; i < b; i++) {
            const place *r = &p->places[p->order[i]];
            p->st->batch[p->order[i]] = r->layer >= from && g->fate != GROUP_STAYS ? 0 : -1;
        }
    }
}

static int
by_windows_and_lo(const void *a, const void *b)
{
    const group *x = a, *y = b;

    if (x->mask != y->mask)
        return x->mask < y->mask ? -1 : 1;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

static void
number_batches(plan *p)
{
    seal_stream *st = p->st;
    int32 whole = -1, above = -1;

    qsort(p->groups, p->n_groups, sizeof(group), by_windows_and_lo);
    for (size_t i = 0; i < p->n_groups; i++) {
        const group *g = &p->groups[i];

        if (i > 0 && g->mask != p->groups[i - 1].mask)
            whole = above = -1;
        if (g->fate == GROUP_STAYS) {
            whole = -1;
            continue;
        }
        int32 *batch = g->fate == GROUP_WHOLE ? &whole : &above;
        if (g->fate == GROUP_ABOVE)
            whole = -1; /* what stays of it lies between */
        if (*batch < 0)
            *batch = st->n_batches++;
        for (int32 k = g->first; k < g->first + g->n; k++) {
            if (st->batch[p->order[k]] == 0)
                st->batch[p->order[k]] = *batch;
        }
    }
}

void
seal_plan(seal_stream *st)
{
    plan p = {.st = st};

    st->batch = palloc_extended(st->n * sizeof(int32), MCXT_ALLOC_HUGE);
    if (st->n_sealed == 0) {
        memset(st->batch, 0, st->n * sizeof(int32));
        st->n_batches = 1;
        return;
    }
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "promscale layers", ALLOCSET_DEFAULT_SIZES);
    MemoryContext old = MemoryContextSwitchTo(context);
    p.places = palloc_extended(st->n * sizeof(place), MCXT_ALLOC_HUGE);
    p.order = palloc_extended(st->n * sizeof(int32), MCXT_ALLOC_HUGE);
    p.groups = palloc_extended(st->n * sizeof(group), MCXT_ALLOC_HUGE);
    for (size_t i = 0; i < st->n; i++)
        p.order[i] = (int32)i;
    find_places(&p);
    qsort_arg(p.order, st->n, sizeof(int32), by_lo, p.places);
    join_small(&p);
    find_components(&p);
    find_layers(&p);
    qsort_arg(p.order, st->n, sizeof(int32), by_component_and_layer, p.places);
    decide(&p);
    number_batches(&p);
    MemoryContextSwitchTo(old);
    MemoryContextDelete(context);
}
