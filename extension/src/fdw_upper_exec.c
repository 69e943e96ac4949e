/*
 * fdw_upper_exec.c - the node that aggregates: walks the series (fdw_scan_next_series), brings each
 * run of samples to its group, and hands out the groups.
 *
 * Expressions over series-level columns are evaluated when the first sample that passes the quals is
 * at hand, so that nothing is evaluated for a series that SQL would not have evaluated it for.
 *
 * A rescan without a changed parameter hands out the same groups again.
 */
#include "fdw_upper.h"

#include "damage.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#define SERIES_UNKNOWN (PG_UINT32_MAX - 1) /* its key was not evaluated yet */
#define MODULUS_MAX 4096

/* ---- samples ------------------------------------------------------------------------------ */

static void
set_sample(const upper_node *u, const int64 *t_ms, const double *values, size_t i)
{
    TupleTableSlot *slot = u->scan->slot;

    if (u->scan->need_time)
        slot->tts_values[SAMPLES_TIME - 1] =
            TimestampTzGetDatum(bridge_ms_to_timestamptz_unchecked(t_ms[i]));
    if (u->scan->need_value)
        slot->tts_values[SAMPLES_VALUE - 1] = Float8GetDatum(values[i]);
    slot->tts_isnull[SAMPLES_TIME - 1] = !u->scan->need_time;
    slot->tts_isnull[SAMPLES_VALUE - 1] = !u->scan->need_value;
    u->econtext->ecxt_scantuple = slot;
}

/* Copies the samples that pass the row quals; returns their number. */
static size_t
filter_samples(upper_node *u, const int64 *t_ms, const double *values, size_t n)
{
    size_t kept = 0;

    if (n > u->cap_samples) {
        u->cap_samples = Max(n, u->cap_samples * 2);
        if (u->t_ms != NULL) {
            pfree(u->t_ms);
            pfree(u->sample_values);
        }
        u->t_ms = MemoryContextAllocHuge(u->context, u->cap_samples * sizeof(int64));
        u->sample_values = MemoryContextAllocHuge(u->context, u->cap_samples * sizeof(double));
    }
    for (size_t i = 0; i < n; i++) {
        set_sample(u, t_ms, values, i);
        ResetExprContext(u->econtext);
        if (!ExecQual(u->row_quals, u->econtext))
            continue;
        if (u->scan->need_time)
            u->t_ms[kept] = t_ms[i];
        if (u->scan->need_value)
            u->sample_values[kept] = values[i];
        kept++;
    }
    return kept;
}

static void
add_each(upper_node *u, const upper_input *input, upper_state *state, const int64 *t_ms,
         const double *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const double *value = values == NULL ? NULL : &values[i];
        double computed;
        bool isnull = false;

        set_sample(u, t_ms, values, i);
        ResetExprContext(u->econtext);
        if (input->filter != NULL) {
            Datum passes = ExecEvalExprSwitchContext(input->filter_state, u->econtext, &isnull);

            if (isnull || !DatumGetBool(passes))
                continue;
        }
        if (input->arg != NULL) {
            Datum arg = ExecEvalExprSwitchContext(input->arg_state, u->econtext, &isnull);

            if (isnull)
                continue;
            if (input->acc != ACC_COUNT)
                computed = DatumGetFloat8(arg);
            value = &computed;
        }
        upper_add(input->acc, state, t_ms == NULL ? NULL : &t_ms[i], value, 1);
    }
}

static void
add_run(upper_node *u, size_t group, const int64 *t_ms, const double *values, size_t n)
{
    upper_state *states = u->states + group * u->n_inputs;

    for (int i = 0; i < u->n_inputs; i++) {
        const upper_input *input = &u->inputs[i];

        if (input->per_sample)
            add_each(u, input, &states[i], t_ms, values, n);
        else if (!input->off)
            upper_add(input->acc, &states[i], t_ms, values, n);
    }
}

/* ---- groups ------------------------------------------------------------------------------- */

/* Makes room for group; groups come in order. */
static void
reserve_group(upper_node *u, size_t group)
{
    size_t cap = u->cap_groups;

    if (group < u->n_groups)
        return;
    u->n_groups = group + 1;
    if (group < cap)
        return;
    u->cap_groups = Max(cap * 2, 64);
    if (u->states == NULL) {
        u->states = MemoryContextAllocHuge(u->context,
                                           u->cap_groups * u->n_inputs * sizeof(upper_state) + 1);
        u->pairs = MemoryContextAllocHuge(u->context, u->cap_groups * sizeof(uint64));
    } else {
        u->states = repalloc_huge(u->states, u->cap_groups * u->n_inputs * sizeof(upper_state) + 1);
        u->pairs = repalloc_huge(u->pairs, u->cap_groups * sizeof(uint64));
    }
    memset(u->states + cap * u->n_inputs, 0,
           (u->cap_groups - cap) * u->n_inputs * sizeof(upper_state));
}

static size_t
group_of_pair(upper_node *u, uint32 series, uint32 time)
{
    uint64 pair = (uint64)series << 32 | time;
    bool found;
    upper_map_entry *entry = upper_map_insert(u->groups_of_pairs, pair, &found);

    if (!found) {
        if (u->n_groups >= PG_UINT32_MAX - 1)
            ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("too many groups")));
        entry->value = (uint32)u->n_groups;
        reserve_group(u, entry->value);
        u->pairs[entry->value] = pair;
    }
    return entry->value;
}

/* The current series' combination of series-level keys. */
static uint32
series_number(upper_node *u)
{
    fdw_scan *scan = u->scan;
    size_t at = scan->current - scan->series.rows;

    if (u->n_series_keys == 0)
        return 0;
    if (u->series_metric != scan->current->metric_id) {
        if (scan->series.n > u->cap_series) {
            if (u->series_numbers != NULL)
                pfree(u->series_numbers);
            u->cap_series = scan->series.n;
            u->series_numbers = MemoryContextAllocHuge(u->context, u->cap_series * sizeof(uint32));
        }
        for (size_t i = 0; i < scan->series.n; i++)
            u->series_numbers[i] = SERIES_UNKNOWN;
        u->series_metric = scan->current->metric_id;
    }
    if (u->series_numbers[at] != SERIES_UNKNOWN)
        return u->series_numbers[at];

    MemoryContext old;

    u->econtext->ecxt_scantuple = scan->slot;
    ResetExprContext(u->econtext);
    old = MemoryContextSwitchTo(u->econtext->ecxt_per_tuple_memory);
    for (int i = 0, k = 0; i < u->n_keys; i++) {
        if (!u->keys[i].of_time) {
            u->values[k] = ExecEvalExpr(u->keys[i].expr, u->econtext, &u->nulls[k]);
            k++;
        }
    }
    u->series_numbers[at] = upper_keys_find(&u->series_keys, u->values, u->nulls);
    MemoryContextSwitchTo(old);
    return u->series_numbers[at];
}

static void
add_series(upper_node *u, const int64 *t_ms, const double *values, size_t n)
{
    uint32 series = series_number(u);

    if (series == UPPER_LEFT_OUT)
        return;
    for (int i = 0; i < u->n_inputs; i++) {
        upper_input *input = &u->inputs[i];
        bool isnull;

        if (input->filter == NULL || input->per_sample)
            continue;
        u->econtext->ecxt_scantuple = u->scan->slot;
        ResetExprContext(u->econtext);
        input->off =
            !DatumGetBool(ExecEvalExprSwitchContext(input->filter_state, u->econtext, &isnull)) ||
            isnull;
    }
    if (u->n_time_keys == 0) {
        reserve_group(u, series);
        add_run(u, series, t_ms, values, n);
        return;
    }
    upper_times_cut(&u->times, u->row_quals == NULL ? u->scan->merge.out.times_version : 0, t_ms,
                    n);
    for (size_t i = 0, from = 0; i < u->times.n_runs; from = u->times.runs[i++].end) {
        const upper_run *run = &u->times.runs[i];
        size_t group = run->key;

        if (run->key == UPPER_LEFT_OUT)
            continue;
        if (u->n_series_keys > 0)
            group = group_of_pair(u, series, run->key);
        else
            reserve_group(u, group);
        add_run(u, group, t_ms + from, values == NULL ? NULL : values + from, run->end - from);
    }
}

/* ---- passes ------------------------------------------------------------------------------- */

/* The keys whose hash decides in which pass a group comes. */
static upper_keys *
deciding_keys(upper_node *u)
{
    return u->n_time_keys > 0 ? &u->times.distinct : &u->series_keys;
}

static bool
too_large(upper_node *u)
{
    size_t group = u->n_inputs * sizeof(upper_state);
    size_t bytes;

    if (u->n_keys == 0)
        return false;
    if (u->groups_of_pairs != NULL)
        group += sizeof(uint64) + 2 * sizeof(upper_map_entry);
    bytes = u->n_groups * group + u->series_keys.bytes + u->times.distinct.bytes;
    return bytes > get_hash_memory_limit() && deciding_keys(u)->n > 1 &&
           u->pass.modulus < MODULUS_MAX;
}

static void
clear_groups(upper_node *u)
{
    upper_keys_clear(&u->series_keys);
    u->series_keys.modulus = u->times.distinct.modulus = 1;
    deciding_keys(u)->modulus = u->pass.modulus;
    deciding_keys(u)->residue = u->pass.residue;
    upper_times_start(&u->times);
    u->series_metric = 0;
    if (u->groups_of_pairs != NULL)
        upper_map_reset(u->groups_of_pairs);
    if (u->states != NULL)
        memset(u->states, 0, u->cap_groups * u->n_inputs * sizeof(upper_state));
    u->n_groups = 0;
    u->next_group = 0;
}

static bool
walk_newest(upper_node *u)
{
    int64 t_ms;
    double value;

    while (fdw_newest_next(u->newest, &t_ms, &value)) {
        fdw_scan_fill_series(u->scan);
        add_series(u, &t_ms, &value, 1);
        if (too_large(u))
            return false;
    }
    return true;
}

/* False: too many groups for one pass. */
static bool
walk(upper_node *u)
{
    fdw_scan *scan = u->scan;

    if (u->newest != NULL)
        return walk_newest(u);
    while (fdw_scan_next_series(scan)) {
        const int64 *t_ms = scan->need_time ? scan->merge.out.t_ms : NULL;
        const double *values = scan->need_value ? scan->merge.out.values : NULL;
        size_t n = scan->merge.out.n;

        fdw_scan_fill_series(scan);
        if (u->row_quals != NULL) {
            n = filter_samples(u, t_ms, values, n);
            t_ms = u->t_ms;
            values = u->sample_values;
        }
        if (n == 0)
            continue;
        add_series(u, t_ms, values, n);
        if (too_large(u))
            return false;
    }
    return true;
}

static void
scan_again(upper_node *u, const Bitmapset *changed)
{
    fdw_scan_again(u->scan, changed);
    if (u->newest != NULL)
        fdw_newest_again(u->newest);
}

static void
add_pending(upper_node *u, uint32 modulus, uint32 residue)
{
    if (u->n_pending == u->cap_pending) {
        u->cap_pending = Max(u->cap_pending * 2, 16);
        if (u->pending == NULL)
            u->pending = MemoryContextAlloc(u->context, u->cap_pending * sizeof(upper_pass));
        else
            u->pending = repalloc(u->pending, u->cap_pending * sizeof(upper_pass));
    }
    u->pending[u->n_pending++] = (upper_pass){.modulus = modulus, .residue = residue};
}

static void
next_pass(upper_node *u)
{
    u->pass = u->pending[--u->n_pending];
    u->n_passes++;
    clear_groups(u);
    while (!walk(u)) {
        /* a quarter of these groups now, the others later */
        for (uint32 i = 1; i < 4; i++)
            add_pending(u, u->pass.modulus * 4, u->pass.residue + i * u->pass.modulus);
        u->pass.modulus *= 4;
        clear_groups(u);
        scan_again(u, NULL);
    }
    if (!u->grouped)
        reserve_group(u, 0);
    if (u->n_pending > 0)
        scan_again(u, NULL);
}

/* ---- results ------------------------------------------------------------------------------ */

static void
put_keys(upper_node *u, size_t group)
{
    size_t series = group, time = group;
    int n_series = 0, n_time = 0;

    if (u->groups_of_pairs != NULL) {
        series = u->pairs[group] >> 32;
        time = (uint32)u->pairs[group];
    }
    for (int i = 0; i < u->n_keys; i++) {
        const upper_keys *keys = u->keys[i].of_time ? &u->times.distinct : &u->series_keys;
        size_t row = u->keys[i].of_time ? time : series;
        size_t at = row * keys->n_columns + (u->keys[i].of_time ? n_time++ : n_series++);

        u->out->tts_values[u->keys[i].attno - 1] = keys->values[at];
        u->out->tts_isnull[u->keys[i].attno - 1] = keys->nulls[at];
    }
}

static TupleTableSlot *
next_row(upper_node *u)
{
    int64 t_ms;
    double value;

    if (!fdw_newest_next(u->newest, &t_ms, &value))
        return ExecClearTuple(u->scan->slot);
    fdw_scan_fill_series(u->scan);
    set_sample(u, &t_ms, &value, 0);
    return u->scan->slot;
}

TupleTableSlot *
fdw_upper_iterate(ForeignScanState *node)
{
    upper_node *u = node->fdw_state;
    TupleTableSlot *out = u->out;

    if (u->walk == UPPER_NEWEST_ROWS)
        return next_row(u);
    if (!u->computed) {
        u->n_pending = u->n_passes = 0;
        add_pending(u, 1, 0);
        u->n_groups = u->next_group = 0;
        u->computed = true;
    }
    ExecClearTuple(out);
    while (u->next_group == u->n_groups) {
        if (u->n_pending == 0)
            return out;
        next_pass(u);
    }
    memset(out->tts_isnull, true, out->tts_tupleDescriptor->natts * sizeof(bool));
    put_keys(u, u->next_group);
    for (int i = 0; i < u->n_aggs; i++) {
        const upper_state *state = u->states + u->next_group * u->n_inputs + u->agg_inputs[i];
        int at = u->agg_attnos[i] - 1;

        out->tts_values[at] = upper_result(u->agg_funcs[i], state, &out->tts_isnull[at]);
    }
    u->next_group++;
    return ExecStoreVirtualTuple(out);
}

void
fdw_upper_end(ForeignScanState *node)
{
    upper_node *u = node->fdw_state;

    if (u == NULL)
        return;
    node->fdw_state = NULL;
    const bool met = u->scan->counts.blocks_damaged > 0;
    MemoryContextDelete(u->scan->context);
    damage_rest(met);
}

void
fdw_upper_rescan(ForeignScanState *node)
{
    upper_node *u = node->fdw_state;

    if (u->computed && node->ss.ps.chgParam == NULL && u->n_passes == 1 && u->n_pending == 0) {
        u->next_group = 0;
        return;
    }
    u->computed = false;
    scan_again(u, node->ss.ps.chgParam);
}
