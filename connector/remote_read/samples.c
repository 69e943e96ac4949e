/*
 * samples.c - SAMPLES: all samples of all series in one message, which has to be in memory.
 */
#include "connector/remote_read/internal.h"

enum { BATCH_BYTES = 32 << 20 };

typedef struct gathering {
    remote_read *rr;
    size_t query; /* whose series are in `series` */
    uint64_t n;   /* samples of it */
    uint64_t limit;
    ps_buf series, answer;
} gathering;

static ps_status
encode(void *self, const ev_samples *s, ps_buf *out, ps_err *err)
{
    (void)self, (void)err;
    for (size_t i = 0; i < s->n; i++) {
        if (s->h != NULL && s->h[i] != NULL)
            wire_read_put_histogram(out, s->t_ms[i], s->h[i]);
        else
            wire_read_put_sample(out, s->t_ms[i], s->v[i]);
    }
    return PS_OK;
}

/* Results stand for queries by their position: each has one. */
static void
end_results(gathering *g, size_t until)
{
    for (; g->query < until; g->query++) {
        wire_read_put_result(&g->answer, ps_buf_str(&g->series));
        ps_buf_clear(&g->series);
        g->n = 0;
    }
}

static ps_status
check_size(const gathering *g, ps_err *err)
{
    if (!g->series.failed && !g->answer.failed)
        return PS_OK;
    return ps_fail(err, PS_ELIMIT,
                   "the answer is larger than a query may hold (query.max-bytes), or there is no "
                   "memory for it");
}

static ps_status
take(void *self, size_t query, const read_series *s, ps_err *err)
{
    gathering *g = self;

    end_results(g, query);
    g->n += s->n_samples;
    g->rr->samples += s->n_samples;
    if (g->limit > 0 && g->n > g->limit)
        return ps_fail(err, PS_ELIMIT, "exceeded sample limit (%llu)",
                       (unsigned long long)g->limit);
    wire_read_put_series(&g->series, s->labels, s->encoded);
    return check_size(g, err);
}

static ps_status
respond(gathering *g, ps_err *err)
{
    http_request *r = api_answering(g->rr->job);
    ps_buf out;

    end_results(g, g->rr->n_queries);
    PS_TRY(check_size(g, err));
    ps_buf_done(&g->series);
    ps_buf_init(&out, &ps_malloc);
    ps_status st = wire_snappy_encode(ps_buf_str(&g->answer), &out, err);
    if (st == PS_OK) {
        http_set_header(r, "Content-Encoding", "snappy");
        api_respond(g->rr->job, 200, "application/x-protobuf", &out);
    }
    ps_buf_done(&out);
    return st;
}

ps_status
remote_read_samples(remote_read *rr, ps_err *err)
{
    const settings *set = api_settings(rr->job);
    gathering g = {.rr = rr, .limit = (uint64_t)set->remote_read_sample_limit};
    const read_sink sink = {.self = &g, .encode = encode, .take = take};

    ps_buf_init(&g.series, &ps_malloc);
    ps_buf_init(&g.answer, &ps_malloc);
    g.series.max = g.answer.max = (size_t)set->query_max_bytes;
    ps_status st = read_stream(rr->source, rr->queries, rr->n_queries, BATCH_BYTES, &sink, err);
    if (st == PS_OK)
        st = respond(&g, err);
    ps_buf_done(&g.series);
    ps_buf_done(&g.answer);
    return st;
}
