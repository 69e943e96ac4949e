/*
 * chunks.c - STREAMED_XOR_CHUNKS: frames of chunks, sent while they are read.
 *
 * Nothing is sent before the first series is there, so that what fails early is told. What fails later
 * cuts the connection: the client must not take what it has for all there is.
 */
#include "connector/remote_read/internal.h"
#include "lib/chunk/chunk.h"

enum { BATCH_BYTES = 16 << 20 };

static const char content_type[] =
    "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

typedef struct streaming {
    remote_read *rr;
    size_t frame_bytes;
    ps_buf chunk, frame;
} streaming;

static ps_status
encode(void *self, const ev_samples *s, ps_buf *out, ps_err *err)
{
    streaming *st = self;
    const chk_samples in = {.t_ms = s->t_ms, .values = s->v, .histograms = s->h, .n = s->n};
    chk_chunk c;

    for (size_t from = 0; from < s->n; from += c.n) {
        ps_buf_clear(&st->chunk);
        PS_TRY(chk_encode(&ps_malloc, &in, from, &st->chunk, &c, err));
        const wire_read_chunk w = {.type = c.encoding,
                                   .t_min_ms = c.t_min_ms,
                                   .t_max_ms = c.t_max_ms,
                                   .data = ps_buf_str(&st->chunk)};
        wire_read_put_chunk(out, &w);
    }
    return PS_OK;
}

static ps_status
begin(streaming *st, ps_err *err)
{
    if (st->rr->begun)
        return PS_OK;
    if (!api_stream_begin(st->rr->job, 200, content_type))
        return ps_fail(err, PS_ENOMEM, "no memory for the answer");
    st->rr->begun = true;
    return PS_OK;
}

static ps_status
take(void *self, size_t query, const read_series *s, ps_err *err)
{
    streaming *st = self;
    size_t labels = wire_read_labels_size(s->labels);
    size_t room = labels < st->frame_bytes ? st->frame_bytes - labels : 1;
    ps_str rest = s->encoded;

    PS_TRY(begin(st, err));
    while (rest.len > 0) {
        ps_str chunks = wire_read_cut_chunks(&rest, room);
        ps_buf_clear(&st->frame);
        wire_read_put_frame(&st->frame, query, s->labels, chunks);
        if (st->frame.failed)
            return ps_fail(err, PS_ENOMEM, "no memory for the answer");
        PS_TRY(api_stream_write(st->rr->job, ps_buf_str(&st->frame), err));
    }
    st->rr->samples += s->n_samples;
    return PS_OK;
}

ps_status
remote_read_chunks(remote_read *rr, ps_err *err)
{
    streaming st = {
        .rr = rr,
        .frame_bytes = (size_t)api_settings(rr->job)->remote_read_max_bytes_in_frame};
    const read_sink sink = {.self = &st, .encode = encode, .take = take, .parts = true};

    ps_buf_init(&st.chunk, &ps_malloc);
    ps_buf_init(&st.frame, &ps_malloc);
    ps_status status =
        read_stream(rr->source, rr->queries, rr->n_queries, BATCH_BYTES, &sink, err);
    if (status == PS_OK)
        status = begin(&st, err); /* an answer without series */
    if (rr->begun)
        api_stream_end(rr->job, status == PS_OK);
    ps_buf_done(&st.chunk);
    ps_buf_done(&st.frame);
    return status;
}
