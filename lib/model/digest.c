/*
 * digest.c - identities that are stored: of label sets, of single labels, of places.
 *
 * Everything here is written to the database and computed again by every connector and by the
 * extension, on every machine and in every later version. None of it may ever change; the unit test
 * pins values.
 *
 * A label set is encoded as length and bytes of each name and value, lengths as u32 little-endian,
 * so that no two different sets have the same encoding ("ab","c" against "a","bc").
 */
#include "lib/model/model.h"

static void
add_pair(ps_buf *scratch, ps_str name, ps_str value)
{
    uint8_t size[4];
    ps_put_u32le(size, (uint32_t)name.len);
    ps_buf_add(scratch, size, sizeof size);
    ps_buf_add_str(scratch, name);
    ps_put_u32le(size, (uint32_t)value.len);
    ps_buf_add(scratch, size, sizeof size);
    ps_buf_add_str(scratch, value);
}

static ps_status
finish(const ps_buf *scratch, ps_digest *ret)
{
    if (scratch->failed)
        return PS_ENOMEM;
    *ret = ps_digest_of(ps_buf_str(scratch));
    return PS_OK;
}

ps_status
mdl_labels_digest(mdl_labels labels, ps_buf *scratch, ps_digest *ret)
{
    ps_buf_clear(scratch);
    for (size_t i = 0; i < labels.n; i++)
        add_pair(scratch, labels.items[i].name, labels.items[i].value);
    return finish(scratch, ret);
}

ps_status
mdl_label_digest(ps_str name, ps_str value, ps_buf *scratch, ps_digest *ret)
{
    ps_buf_clear(scratch);
    add_pair(scratch, name, value);
    return finish(scratch, ret);
}

/*
 * The last two rounds of the splitmix64 generator over (tenant, metric) as one word: a bijection,
 * so no two pairs share a key, and neighbours land far apart. Never change it: rows are placed by
 * it.
 */
int64_t
mdl_dist_key(int32_t tenant_id, int32_t metric_or_bucket)
{
    uint64_t x = (uint64_t)(uint32_t)tenant_id << 32 | (uint32_t)metric_or_bucket;
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    x ^= x >> 31;
    int64_t key;
    memcpy(&key, &x, sizeof key);
    return key;
}
