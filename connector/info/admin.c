/*
 * admin.c - /api/v1/admin/tsdb, behind web.enable-admin-api.
 *
 * What is deleted here is deleted at once: there are no tombstones, so cleaning them has nothing to do. A
 * snapshot is what PostgreSQL's own tools make, and of all of the database; pretending to make one would
 * be worse than saying so.
 */
#include "connector/info/internal.h"

bool
info_admin_allowed(api_job *job)
{
    if (api_settings(job)->web_enable_admin_api)
        return true;
    api_fail(job, API_DISABLED, "admin APIs disabled");
    return false;
}

void
info_clean_tombstones(api_job *job, void *self)
{
    ps_buf none;

    (void)self;
    if (!info_admin_allowed(job))
        return;
    ps_buf_init(&none, &ps_malloc);
    api_respond(job, 204, NULL, &none);
    ps_buf_done(&none);
}

void
info_snapshot(api_job *job, void *self)
{
    (void)self;
    if (info_admin_allowed(job))
        api_fail(job, API_EXECUTION,
                 "snapshots are made with PostgreSQL's tools: pg_basebackup or pg_dump");
}
