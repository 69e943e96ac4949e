/*
 * stream.c - answers that are sent while they are made. The job keeps its request until the end, so that
 * the watcher sees a client that leaves.
 */
#include "connector/api/internal.h"

bool
api_stream_begin(api_job *job, int status, const char *content_type)
{
    job->stream = http_respond_stream(job->r, status, content_type);
    job->stream_status = status;
    return job->stream != NULL;
}

ps_status
api_stream_write(api_job *job, ps_str bytes, ps_err *err)
{
    ps_status st = http_stream_write(job->stream, bytes, api_poll, job);

    if (st == PS_ETIMEOUT)
        return ps_fail(err, st, "the client did not take the answer in time");
    return st == PS_OK ? PS_OK : ps_fail(err, st, "the client is gone");
}

void
api_stream_end(api_job *job, bool complete)
{
    http_stream *stream = job->stream;

    api_measure(job, complete ? job->stream_status : 499);
    pthread_mutex_lock(&job->api->lock);
    job->r = NULL;
    pthread_mutex_unlock(&job->api->lock);
    http_stream_end(stream, complete);
}
