-- What pg_dump takes along: every table and every sequence of ours, but not
--   series_feed        transaction ids mean nothing in another cluster;
--   state              a restored database gets a generation of its own (see 020-catalog.sql);
--   job, vacuum_queue, vacuum_taken, vacuum_horizon, erasure  what maintenance was about to do in the other database;
--   retention_memory   which rules somebody has had the time to look at (068-retention-rules.sql);
--   clock_seen         when the other server's clock was looked at (068-clock.sql);
--   leaving_day, retention_progress, retention_run, series_age, garbage_round, compaction  how far these steps have come.
-- Rows that this script itself has made are left out, or restoring would clash with them.
-- Partitions and views are made at run time, are no members of the extension, and are dumped as usual.
DO $$
DECLARE
    r record;
BEGIN
    FOR r IN
        SELECT c.oid::regclass AS rel,
               CASE WHEN c.oid = '_prom_catalog.tenant'::regclass THEN 'WHERE id <> 0' ELSE '' END AS only
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('_prom_catalog', '_prom_data') AND c.relkind IN ('r', 'S')
          AND c.relname <> ALL ('{series_feed,state,job,vacuum_queue,vacuum_taken,vacuum_horizon,erasure,retention_memory,
                              leaving_day,retention_progress,retention_run,series_age,garbage_round,clock_seen,
                              compaction}')
        ORDER BY c.oid
    LOOP
        PERFORM pg_catalog.pg_extension_config_dump(r.rel, r.only);
    END LOOP;
END $$;
