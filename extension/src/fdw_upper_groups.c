/*
 * fdw_upper_groups.c - distinct combinations of key values. Equality and hash are those of GROUP BY:
 * the types' own, with their collations, and NULL equals NULL. Values are copied when a combination
 * is new. Numbers are given in order, so that what belongs to a combination can be an array.
 */
#include "fdw_upper.h"

#include "common/hashfn.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#define SH_PREFIX upper_map
#define SH_ELEMENT_TYPE upper_map_entry
#define SH_KEY_TYPE uint64
#define SH_KEY key
#define SH_HASH_KEY(tb, key) murmurhash64_low(key)
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE extern
#define SH_DEFINE

static inline uint32
murmurhash64_low(uint64 key)
{
    return hash_combine(murmurhash32((uint32)key), murmurhash32((uint32)(key >> 32)));
}

#include <lib/simplehash.h>

void
upper_keys_init(upper_keys *keys, int n_columns, const Oid *equals, const Oid *types,
                const Oid *collations, MemoryContext parent)
{
    MemoryContext old = MemoryContextSwitchTo(parent);

    memset(keys, 0, sizeof(*keys));
    keys->n_columns = n_columns;
    keys->equal = palloc0(sizeof(FmgrInfo) * Max(n_columns, 1));
    keys->hash = palloc0(sizeof(FmgrInfo) * Max(n_columns, 1));
    keys->collations = palloc(sizeof(Oid) * Max(n_columns, 1));
    keys->lengths = palloc(sizeof(int16) * Max(n_columns, 1));
    keys->by_value = palloc(sizeof(bool) * Max(n_columns, 1));
    for (int i = 0; i < n_columns; i++) {
        Oid left, right;

        if (!get_op_hash_functions(equals[i], &left, &right))
            elog(ERROR, "operator %u has no hash function", equals[i]);
        fmgr_info(get_opcode(equals[i]), &keys->equal[i]);
        fmgr_info(left, &keys->hash[i]);
        keys->collations[i] = collations[i];
        get_typlenbyval(types[i], &keys->lengths[i], &keys->by_value[i]);
    }
    keys->context = AllocSetContextCreate(parent, "promscale group keys", ALLOCSET_DEFAULT_SIZES);
    keys->modulus = 1;
    MemoryContextSwitchTo(old);
}

void
upper_keys_clear(upper_keys *keys)
{
    MemoryContextReset(keys->context);
    keys->values = NULL;
    keys->nulls = NULL;
    keys->hashes = NULL;
    keys->table = NULL;
    keys->n = keys->cap = keys->mask = 0;
    keys->bytes = 0;
}

static uint32
hash_of(upper_keys *keys, const Datum *values, const bool *nulls)
{
    uint32 hash = 0;

    for (int i = 0; i < keys->n_columns; i++) {
        hash = pg_rotate_left32(hash, 1);
        if (!nulls[i])
            hash ^=
                DatumGetUInt32(FunctionCall1Coll(&keys->hash[i], keys->collations[i], values[i]));
    }
    return murmurhash32(hash);
}

static bool
same(upper_keys *keys, uint32 number, const Datum *values, const bool *nulls)
{
    const Datum *have = keys->values + (size_t)number * keys->n_columns;
    const bool *have_nulls = keys->nulls + (size_t)number * keys->n_columns;

    for (int i = 0; i < keys->n_columns; i++) {
        if (nulls[i] != have_nulls[i])
            return false;
        if (!nulls[i] && !DatumGetBool(FunctionCall2Coll(&keys->equal[i], keys->collations[i],
                                                         have[i], values[i])))
            return false;
    }
    return true;
}

static void *
grow(upper_keys *keys, void *array, size_t size)
{
    if (array == NULL)
        return MemoryContextAllocHuge(keys->context, size * keys->cap);
    return repalloc_huge(array, size * keys->cap);
}

/* Room for one more; the table is at most half full. */
static void
reserve(upper_keys *keys)
{
    if (keys->n < keys->cap)
        return;
    if (keys->cap > PG_UINT32_MAX / 8)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("too many groups")));
    keys->cap = keys->cap == 0 ? 64 : keys->cap * 2;
    keys->values = grow(keys, keys->values, sizeof(Datum) * Max(keys->n_columns, 1));
    keys->nulls = grow(keys, keys->nulls, sizeof(bool) * Max(keys->n_columns, 1));
    keys->hashes = grow(keys, keys->hashes, sizeof(uint32));
    if (keys->table != NULL)
        pfree(keys->table);
    keys->mask = keys->cap * 2 - 1;
    keys->table = MemoryContextAllocExtended(keys->context, sizeof(uint32) * (keys->mask + 1),
                                             MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
    for (uint32 i = 0; i < keys->n; i++) {
        uint32 at = keys->hashes[i] & keys->mask;

        while (keys->table[at] != 0)
            at = (at + 1) & keys->mask;
        keys->table[at] = i + 1;
    }
}

static void
copy_values(upper_keys *keys, uint32 number, const Datum *values, const bool *nulls)
{
    Datum *to = keys->values + (size_t)number * keys->n_columns;
    MemoryContext old = MemoryContextSwitchTo(keys->context);

    memcpy(keys->nulls + (size_t)number * keys->n_columns, nulls, keys->n_columns);
    for (int i = 0; i < keys->n_columns; i++) {
        to[i] = 0;
        if (nulls[i])
            continue;
        to[i] = datumCopy(values[i], keys->by_value[i], keys->lengths[i]);
        if (!keys->by_value[i])
            keys->bytes += datumGetSize(values[i], false, keys->lengths[i]) + 16;
    }
    keys->bytes += (sizeof(Datum) + sizeof(bool)) * keys->n_columns + 3 * sizeof(uint32);
    MemoryContextSwitchTo(old);
}

uint32
upper_keys_find(upper_keys *keys, const Datum *values, const bool *nulls)
{
    uint32 hash = hash_of(keys, values, nulls);
    uint32 at, number;

    /* of other bits than the place in the table */
    if (keys->modulus > 1 && murmurhash32(hash + 1) % keys->modulus != keys->residue)
        return UPPER_LEFT_OUT;
    reserve(keys);
    for (at = hash & keys->mask; keys->table[at] != 0; at = (at + 1) & keys->mask) {
        number = keys->table[at] - 1;
        if (keys->hashes[number] == hash && same(keys, number, values, nulls))
            return number;
    }
    number = keys->n;
    copy_values(keys, number, values, nulls);
    keys->hashes[number] = hash;
    keys->table[at] = number + 1;
    keys->n++;
    return number;
}
