/*
 * times.c - time columns of columns blocks. A column is the times of one scraped target; all series
 * with the same times refer to it.
 *
 * Times are first subtracted from a grid (first time + i * step). On an exact grid nothing is left
 * and nothing is stored. Otherwise the distances from the grid are frames: jitter is a few
 * patches, a gap moves all later distances by the same amount, which the frames' absolute starts
 * absorb.
 */
#include "lib/block/internal.h"

/* The most common step if there is one that holds for a quarter of all, else the mean. */
static uint64_t
guess_step(const int64_t *t, size_t n, uint64_t *ret_mean)
{
    uint64_t candidate = 0;
    size_t votes = 0, count = 0;

    for (size_t i = 1; i < n; i++) {
        uint64_t d = (uint64_t)t[i] - (uint64_t)t[i - 1];
        if (votes == 0) {
            candidate = d;
            votes = 1;
        } else if (d == candidate) {
            votes++;
        } else {
            votes--;
        }
    }
    for (size_t i = 1; i < n; i++)
        count += (uint64_t)t[i] - (uint64_t)t[i - 1] == candidate;
    uint64_t span = (uint64_t)t[n - 1] - (uint64_t)t[0];
    *ret_mean = (span + (n - 1) / 2) / (n - 1);
    return count * 4 >= n - 1 ? candidate : *ret_mean;
}

/* Distances from the grid; false if all are zero. */
static bool
off_grid(const int64_t *t, size_t n, uint64_t step, uint64_t *out)
{
    uint64_t at = (uint64_t)t[0], any = 0;

    for (size_t i = 0; i < n; i++, at += step) {
        out[i] = (uint64_t)t[i] - at;
        any |= out[i];
    }
    return any != 0;
}

static blk_mode
encode_best(const uint64_t *dist, size_t n, ps_buf *frames, ps_buf *payload)
{
    blk_mode best = BLK_MODE_RAW;
    uint64_t best_cost = UINT64_MAX;

    for (blk_mode mode = BLK_MODE_RAW; mode <= BLK_MODE_DOD; mode++) {
        uint64_t cost = blk_frames_cost(dist, n, mode, 0, 64);
        if (cost < best_cost) {
            best = mode;
            best_cost = cost;
        }
    }
    ps_buf_clear(frames);
    ps_buf_clear(payload);
    blk_frames_encode(dist, n, best, 0, 0, NULL, frames, payload);
    return best;
}

static void
put_column(blk_tcol *c, blk_mode mode, const blk_tcol *prev, ps_str frames, ps_str payload,
           ps_buf *head, ps_buf *body)
{
    bool grid = (c->flags & BLK_TCOL_GRID) != 0;

    c->flags |= c->n == prev->n ? BLK_TCOL_SAME_N : 0;
    c->flags |= c->step == prev->step ? BLK_TCOL_SAME_STEP : 0;
    c->flags |= grid ? 0 : (uint8_t)(mode << BLK_TCOL_MODE_SHIFT);
    ps_buf_add_char(head, (char)c->flags);
    if (!(c->flags & BLK_TCOL_SAME_N))
        blk_buf_varint(head, c->n);
    blk_buf_varint(head, blk_zigzag((uint64_t)c->t_first - (uint64_t)prev->t_first));
    if (!(c->flags & BLK_TCOL_SAME_STEP))
        blk_buf_varint(head, c->step);
    if (grid)
        return;
    blk_buf_varint(head, (uint64_t)c->t_last - (uint64_t)c->t_first);
    if (c->n > BLK_FRAME_VALUES) {
        blk_buf_varint(head, frames.len);
        blk_buf_varint(head, payload.len);
    }
    ps_buf_add_str(head, frames);
    ps_buf_add_str(body, payload);
}

ps_status
blk_tcol_encode(const ps_alloc *alloc, blk_codec_scratch *s, const int64_t *t, size_t n,
                blk_tcol *prev, ps_buf *head, ps_buf *body)
{
    ps_buf *frames = &s->head[0], *payload = &s->body[0];
    uint64_t mean = prev->step;
    blk_tcol c = {.t_first = t[0], .t_last = t[n - 1], .n = (uint32_t)n, .step = prev->step};
    uint64_t *dist = blk_scratch_get(alloc, &s->ints, n, sizeof *dist);
    blk_mode mode = BLK_MODE_RAW;

    if (dist == NULL)
        return PS_ENOMEM;
    if (n > 1)
        c.step = guess_step(t, n, &mean);
    if (!off_grid(t, n, c.step, dist)) {
        c.flags = BLK_TCOL_GRID;
        ps_buf_clear(frames);
        ps_buf_clear(payload);
    } else {
        mode = encode_best(dist, n, frames, payload);
    }
    put_column(&c, mode, prev, ps_buf_str(frames), ps_buf_str(payload), head, body);
    *prev = c;
    return frames->failed || payload->failed || head->failed || body->failed ? PS_ENOMEM : PS_OK;
}

/* ---- reading ------------------------------------------------------------------------------- */

static blk_mode
tcol_mode(const blk_tcol *c)
{
    return (blk_mode)(c->flags >> BLK_TCOL_MODE_SHIFT & 3);
}

static bool
grid_last(const blk_tcol *c, int64_t *ret)
{
    uint64_t span;

    if (c->n > 1 && (c->step == 0 || c->step > (uint64_t)(MDL_TIME_MAX_MS - MDL_TIME_MIN_MS)))
        return false;
    if (__builtin_mul_overflow((uint64_t)(c->n - 1), c->step, &span) || span > (uint64_t)INT64_MAX)
        return c->n == 1;
    *ret = c->n == 1 ? c->t_first : (int64_t)((uint64_t)c->t_first + span);
    return true;
}

bool
blk_tcol_parse(blk_in *in, const blk_tcol *prev, blk_tcol *ret, bool *ret_unsupported)
{
    blk_tcol c = {.n = prev->n, .step = prev->step};

    c.flags = blk_in_u8(in);
    if (c.flags & ~BLK_TCOL_KNOWN || tcol_mode(&c) == BLK_MODE_XOR) {
        *ret_unsupported = !in->bad;
        return false;
    }
    if (!(c.flags & BLK_TCOL_SAME_N)) {
        uint64_t n = blk_in_varint(in);
        if (n > BLK_MAX_SAMPLES)
            return false;
        c.n = (uint32_t)n;
    }
    c.t_first = (int64_t)((uint64_t)prev->t_first + blk_unzigzag(blk_in_varint(in)));
    if (!(c.flags & BLK_TCOL_SAME_STEP))
        c.step = blk_in_varint(in);
    if (in->bad || c.n == 0 || c.t_first < MDL_TIME_MIN_MS || c.t_first > MDL_TIME_MAX_MS)
        return false;
    if (c.flags & BLK_TCOL_GRID) {
        c.t_last = c.t_first;
        if (!grid_last(&c, &c.t_last) || c.t_last < c.t_first || c.t_last > MDL_TIME_MAX_MS)
            return false;
        *ret = c;
        return true;
    }
    uint64_t span = blk_in_varint(in);
    if (in->bad || span > (uint64_t)(MDL_TIME_MAX_MS - c.t_first))
        return false;
    c.t_last = c.t_first + (int64_t)span;
    if (c.n > BLK_FRAME_VALUES) {
        uint64_t frames_len = blk_in_varint(in);
        uint64_t body_len = blk_in_varint(in);
        c.frames = blk_in_bytes(in, frames_len);
        if (c.frames == NULL || body_len > BLK_MAX_BYTES)
            return false;
        c.frames_len = (uint32_t)frames_len;
        c.body_len = (uint32_t)body_len;
    } else {
        blk_frame f;
        blk_chain chain = {0};
        c.frames = in->p;
        if (!blk_frame_parse(in, c.n, tcol_mode(&c), &chain, &f))
            return false;
        c.frames_len = (uint32_t)(in->p - c.frames);
        c.body_len = f.payload_len;
    }
    *ret = c;
    return true;
}

static void
decode_grid(const blk_tcol *c, int64_t from, int64_t to, int64_t *t_ms, size_t *ret_lo,
            size_t *ret_n)
{
    uint64_t lo = 0, hi = c->n;

    if (c->n > 1) {
        lo = ((uint64_t)from - (uint64_t)c->t_first + c->step - 1) / c->step;
        hi = ((uint64_t)to - (uint64_t)c->t_first) / c->step + 1;
    }
    int64_t t = (int64_t)((uint64_t)c->t_first + lo * c->step);
    size_t n = hi > lo ? hi - lo : 0;
    for (size_t i = 0; i < n; i++)
        t_ms[i] = (int64_t)((uint64_t)t + i * c->step);
    *ret_lo = lo;
    *ret_n = n;
}

/* All times of one frame, which lies wholly in the range; checks as below. */
static bool
take_whole(const blk_tcol *c, const uint64_t *dist, size_t at, uint32_t n, int64_t *before,
           int64_t *t_ms)
{
    uint64_t base = (uint64_t)c->t_first + (uint64_t)at * c->step;
    int64_t last = *before;
    unsigned falls = 0;

    for (uint32_t i = 0; i < n; i++) {
        int64_t t = (int64_t)(base + i * c->step + dist[i]);
        falls |= t <= last;
        t_ms[i] = last = t;
    }
    *before = last;
    return falls == 0 && last <= c->t_last;
}

/*
 * Times of one frame that lie in [from, to], appended at t_ms[*ret_n]. Checks that times ascend,
 * also against *before, and stay inside the column's bounds.
 */
static bool
take_frame(const blk_tcol *c, const uint64_t *dist, size_t at, uint32_t n, int64_t from, int64_t to,
           int64_t *before, int64_t *t_ms, size_t *ret_lo, size_t *ret_n)
{
    uint64_t base = (uint64_t)c->t_first + (uint64_t)at * c->step;
    int64_t last = *before;

    for (uint32_t i = 0; i < n; i++, base += c->step) {
        int64_t t = (int64_t)(base + dist[i]);
        if (t <= last || t > c->t_last)
            return false;
        last = t;
        if (t < from || t > to)
            continue;
        if (*ret_n == 0)
            *ret_lo = at + i;
        t_ms[(*ret_n)++] = t;
    }
    *before = last;
    return true;
}

bool
blk_tcol_decode(const blk_tcol *c, const uint8_t *body, size_t body_avail, int64_t from, int64_t to,
                int64_t *t_ms, size_t *ret_lo, size_t *ret_n)
{
    uint64_t dist[BLK_FRAME_VALUES];
    const blk_mode mode = tcol_mode(c);
    size_t off = 0, n = 0, lo = 0;
    blk_chain chain = {0};
    blk_frame f, next = {0};

    *ret_n = 0;
    *ret_lo = 0;
    from = from < c->t_first ? c->t_first : from;
    to = to > c->t_last ? c->t_last : to;
    if (from > to)
        return true;
    if (c->flags & BLK_TCOL_GRID) {
        decode_grid(c, from, to, t_ms, ret_lo, ret_n);
        return true;
    }
    blk_in head = {c->frames, c->frames + c->frames_len, false};
    body += c->body_off;
    body_avail -= c->body_off;
    int64_t before = c->t_first - 1;
    for (size_t at = 0; at < c->n; at += BLK_FRAME_VALUES, off += f.payload_len) {
        uint32_t len = c->n - at < BLK_FRAME_VALUES ? (uint32_t)(c->n - at) : BLK_FRAME_VALUES;
        f = next;
        if (at == 0 && !blk_frame_parse(&head, len, mode, &chain, &f))
            return false;
        int64_t first = (int64_t)((uint64_t)c->t_first + (uint64_t)at * c->step + f.start);
        size_t after = at + BLK_FRAME_VALUES;
        int64_t bound = INT64_MAX; /* first time of the next frame */
        if (after < c->n) {
            uint32_t next_len =
                c->n - after < BLK_FRAME_VALUES ? (uint32_t)(c->n - after) : BLK_FRAME_VALUES;
            if (!blk_frame_parse(&head, next_len, mode, &chain, &next))
                return false;
            bound = (int64_t)((uint64_t)c->t_first + (uint64_t)after * c->step + next.start);
        }
        if (f.n_raw > 0 || f.payload_len > c->body_len - off || first <= before ||
            first > c->t_last || (at == 0 && f.start != 0))
            return false;
        if (first > to)
            break;
        if (bound <= from) {
            before = first;
            continue;
        }
        if (!blk_frame_decode(&f, mode, 0, body + off, body_avail - off, dist))
            return false;
        if (first >= from && (after < c->n ? bound - 1 : c->t_last) <= to) {
            lo = n == 0 ? at : lo;
            if (!take_whole(c, dist, at, len, &before, t_ms + n))
                return false;
            n += len;
        } else if (!take_frame(c, dist, at, len, from, to, &before, t_ms, &lo, &n)) {
            return false;
        }
        if (after >= c->n && before != c->t_last)
            return false;
    }
    *ret_lo = lo;
    *ret_n = n;
    return true;
}
