-- Schemas and roles. The rights that go with the roles stand together in 090-rights.sql.
--
-- prom_api      public functions; ps_tag: the operators inside labels ? ('key' == 'value')
-- prom_metric   a view per metric: samples;   prom_series: a view per metric: its series
-- prom_histogram  a view per metric that has histograms: these
-- prom_info     what is stored, for people
-- prom_data     a view per metric: what SQL writes into
-- _prom_catalog tables and functions behind it all;  _prom_data: the blocks;  _prom_ext: C functions

CREATE SCHEMA prom_api;
CREATE SCHEMA ps_tag;
CREATE SCHEMA prom_metric;
CREATE SCHEMA prom_series;
CREATE SCHEMA prom_histogram;
CREATE SCHEMA prom_info;
CREATE SCHEMA prom_data;
CREATE SCHEMA _prom_catalog;
CREATE SCHEMA _prom_data;
CREATE SCHEMA _prom_ext;

-- Roles belong to the cluster, this script to one database: another database may be making the same
-- roles at this moment, so each is made in a sub-block that lets the other one win.
DO $$
DECLARE
    r text;
    pair text[];
BEGIN
    FOREACH r IN ARRAY ARRAY['prom_reader', 'prom_writer', 'prom_maintenance', 'prom_modifier',
                             'prom_admin'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', r);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
    -- A membership that exists is left alone: granting it again would update a shared row.
    FOREACH pair SLICE 1 IN ARRAY ARRAY[
        ['prom_reader', 'prom_writer'], ['prom_reader', 'prom_maintenance'],
        ['prom_writer', 'prom_modifier'], ['prom_modifier', 'prom_admin'],
        ['prom_maintenance', 'prom_admin']] LOOP
        IF NOT pg_catalog.pg_has_role(pair[2], pair[1], 'MEMBER') THEN
            BEGIN
                EXECUTE format('GRANT %I TO %I', pair[1], pair[2]);
            EXCEPTION WHEN unique_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;
    FOREACH r IN ARRAY ARRAY['prom_reader', 'prom_writer', 'prom_maintenance', 'prom_modifier',
                             'prom_admin'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members
                       WHERE roleid = r::regrole
                         AND member = (SELECT oid FROM pg_catalog.pg_roles
                                       WHERE rolname = current_user)) THEN
            BEGIN
                EXECUTE format('GRANT %I TO %I WITH ADMIN OPTION', r, current_user);
            EXCEPTION WHEN unique_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;
END $$;
