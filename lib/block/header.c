/*
 * header.c - what every block begins with: a fixed part at fixed offsets (magic, version, format,
 * kind, level, flags, CRC) and the row's columns as varints. Bytes 0..7 keep their meaning in every
 * future version, so that any build can say what it does not know.
 *
 * dist_key is a function of tenant and metric and is stored only when it is not that function's
 * value (a metric spread over several groups).
 */
#include "lib/block/internal.h"

#include <inttypes.h>

enum { OFF_VERSION = 2, OFF_FORMAT = 3, OFF_KIND = 4, OFF_LEVEL = 5, OFF_FLAGS = 6 };
static const char magic[2] = {'P', 'B'};

static inline uint64_t
zigzag_i64(int64_t v)
{
    return blk_zigzag((uint64_t)v);
}

void
blk_header_write(ps_buf *out, const blk_meta *meta, unsigned flags)
{
    uint8_t fixed[BLK_COLUMNS_FIXED] = {0};

    if (meta->dist_key != mdl_dist_key(meta->tenant_id, meta->metric_id))
        flags |= BLK_FLAG_DIST_KEY;
    memcpy(fixed, magic, sizeof magic);
    fixed[OFF_VERSION] = BLK_VERSION;
    fixed[OFF_FORMAT] = (uint8_t)meta->format;
    fixed[OFF_KIND] = (uint8_t)meta->kind;
    fixed[OFF_LEVEL] = (uint8_t)meta->level;
    ps_put_u16le(fixed + OFF_FLAGS, (uint16_t)flags);
    ps_buf_add(out, fixed,
               meta->format == BLK_FORMAT_COLUMNS ? BLK_COLUMNS_FIXED : BLK_FLUSH_FIXED);

    blk_buf_varint(out, zigzag_i64(meta->tenant_id));
    blk_buf_varint(out, zigzag_i64(meta->metric_id));
    if (flags & BLK_FLAG_DIST_KEY)
        blk_buf_u64(out, (uint64_t)meta->dist_key);
    blk_buf_varint(out, (uint64_t)meta->n_series);
    blk_buf_varint(out, (uint64_t)meta->n_samples);
    blk_buf_varint(out, zigzag_i64(meta->series_lo));
    blk_buf_varint(out, (uint64_t)meta->series_hi - (uint64_t)meta->series_lo);
    blk_buf_varint(out, zigzag_i64(meta->t_min_ms));
    blk_buf_varint(out, (uint64_t)meta->t_max_ms - (uint64_t)meta->t_min_ms);
}

ps_status
blk_header_format(ps_str data, int16_t *ret_format, ps_err *err)
{
    const uint8_t *p = (const uint8_t *)data.ptr;

    if (data.len < BLK_FLUSH_FIXED || memcmp(p, magic, sizeof magic) != 0)
        return ps_fail(err, PS_ECORRUPT, "not a block");
    if (p[OFF_VERSION] != BLK_VERSION)
        return ps_fail(err, PS_EUNSUPPORTED, "block version %u is not known to this build",
                       p[OFF_VERSION]);
    if (p[OFF_FORMAT] != BLK_FORMAT_FLUSH && p[OFF_FORMAT] != BLK_FORMAT_COLUMNS)
        return ps_fail(err, PS_EUNSUPPORTED, "block format %u is not known to this build",
                       p[OFF_FORMAT]);
    if (p[OFF_FORMAT] == BLK_FORMAT_COLUMNS && data.len < BLK_COLUMNS_FIXED)
        return ps_fail(err, PS_ECORRUPT, "block is cut short");
    *ret_format = p[OFF_FORMAT];
    return PS_OK;
}

static bool
read_i32(blk_in *in, int32_t *ret)
{
    int64_t v = (int64_t)blk_unzigzag(blk_in_varint(in));

    *ret = (int32_t)v;
    return v >= INT32_MIN && v <= INT32_MAX;
}

/* A lower bound and the distance to the upper one; false on overflow. */
static bool
read_range(blk_in *in, int64_t *lo, int64_t *hi)
{
    uint64_t span;

    *lo = (int64_t)blk_unzigzag(blk_in_varint(in));
    span = blk_in_varint(in);
    *hi = (int64_t)((uint64_t)*lo + span);
    return *hi >= *lo && (uint64_t)*hi - (uint64_t)*lo == span;
}

ps_status
blk_header_read(blk_in *in, blk_meta *ret, unsigned *ret_flags, ps_err *err)
{
    const uint8_t *p = in->p;
    blk_meta m = {0};
    ps_str all = {(const char *)p, blk_in_left(in)};

    PS_TRY(blk_header_format(all, &m.format, err));
    m.kind = p[OFF_KIND];
    m.level = p[OFF_LEVEL];
    unsigned flags = ps_get_u16le(p + OFF_FLAGS);
    unsigned known = BLK_FLAG_DIST_KEY | BLK_FLAG_STARTS;
    if (m.format == BLK_FORMAT_FLUSH)
        known |= BLK_FLAG_LZ4;
    if (m.kind != BLK_KIND_FLOAT && m.kind != BLK_KIND_HISTOGRAM)
        return ps_fail(err, PS_EUNSUPPORTED, "block kind %d is not known to this build", m.kind);
    if (flags & ~known)
        return ps_fail(err, PS_EUNSUPPORTED, "block flags 0x%x are not known to this build",
                       flags & ~known);

    in->p += m.format == BLK_FORMAT_COLUMNS ? BLK_COLUMNS_FIXED : BLK_FLUSH_FIXED;
    bool ok = read_i32(in, &m.tenant_id);
    ok &= read_i32(in, &m.metric_id);
    m.dist_key = flags & BLK_FLAG_DIST_KEY ? (int64_t)blk_in_u64(in)
                                           : mdl_dist_key(m.tenant_id, m.metric_id);
    uint64_t n_series = blk_in_varint(in);
    uint64_t n_samples = blk_in_varint(in);
    ok &= read_range(in, &m.series_lo, &m.series_hi);
    ok &= read_range(in, &m.t_min_ms, &m.t_max_ms);
    if (in->bad || !ok || n_series == 0 || n_samples < n_series || n_samples > BLK_MAX_SAMPLES ||
        m.t_min_ms < MDL_TIME_MIN_MS || m.t_max_ms > MDL_TIME_MAX_MS)
        return ps_fail(err, PS_ECORRUPT, "block header is damaged");
    m.n_series = (int32_t)n_series;
    m.n_samples = (int32_t)n_samples;
    *ret = m;
    *ret_flags = flags;
    return PS_OK;
}

uint32_t
blk_crc_skipping(ps_str data)
{
    uint32_t crc = ps_crc32c(0, data.ptr, BLK_OFF_CRC);

    return ps_crc32c(crc, data.ptr + BLK_OFF_CRC + 4, data.len - BLK_OFF_CRC - 4);
}

ps_status
blk_meta_compare(const blk_meta *have, const blk_meta *row, ps_err *err)
{
    const struct {
        const char *name;
        int64_t have, row;
    } columns[] = {
        {"tenant_id", have->tenant_id, row->tenant_id},
        {"metric_id", have->metric_id, row->metric_id},
        {"dist_key", have->dist_key, row->dist_key},
        {"level", have->level, row->level},
        {"kind", have->kind, row->kind},
        {"format", have->format, row->format},
        {"series_lo", have->series_lo, row->series_lo},
        {"series_hi", have->series_hi, row->series_hi},
        {"t_min", have->t_min_ms, row->t_min_ms},
        {"t_max", have->t_max_ms, row->t_max_ms},
        {"n_series", have->n_series, row->n_series},
        {"n_samples", have->n_samples, row->n_samples},
    };

    for (size_t i = 0; i < PS_ARRAY_LEN(columns); i++) {
        if (columns[i].have != columns[i].row)
            return ps_fail(err, PS_ECORRUPT,
                           "block is not that of its row: %s is %" PRId64 ", the row says %" PRId64,
                           columns[i].name, columns[i].have, columns[i].row);
    }
    return PS_OK;
}

size_t
blk_head_bytes(ps_str prefix)
{
    int16_t format;

    if (blk_header_format(prefix, &format, NULL) != PS_OK || format != BLK_FORMAT_COLUMNS)
        return 0;
    size_t n = ps_get_u32le(prefix.ptr + BLK_OFF_HEAD_LEN);
    return n > BLK_COLUMNS_FIXED && n <= BLK_MAX_BYTES ? n : 0;
}

ps_status
blk_peek_meta(ps_str prefix, blk_meta *ret, ps_err *err)
{
    blk_in in = {(const uint8_t *)prefix.ptr, (const uint8_t *)prefix.ptr + prefix.len, false};
    unsigned flags;

    return blk_header_read(&in, ret, &flags, err);
}

void
blk_header_set_flag(char *block, unsigned flag)
{
    ps_put_u16le(block + OFF_FLAGS, (uint16_t)(ps_get_u16le(block + OFF_FLAGS) | flag));
}
