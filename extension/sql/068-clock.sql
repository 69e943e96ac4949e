-- Retention goes by the server's clock, and what it has deleted does not come back. A clock that is a year ahead for
-- a minute would make everything too old. So a leap is like a rule that has changed: nothing is deleted by it at once.
--
-- Each run of retention notes the time. Where the next one finds itself more than two days later, either the server
-- (or its maintenance) was off, or the clock has leapt. Samples of yesterday say that time has really passed; else
-- retention stands still for a day, and says so, or until the clock has gone back. A clock that is wrong for longer
-- than that is believed. Not dumped: a restored database has seen the time of its restore.

-- One row.
CREATE TABLE _prom_catalog.clock_seen (
    one      bool PRIMARY KEY DEFAULT true CHECK (one),
    seen_at  timestamptz NOT NULL,
    leapt_at timestamptz,                          -- since then nobody knows; NULL: all is well
    before   timestamptz                           -- the time that was seen before the leap
);
INSERT INTO _prom_catalog.clock_seen (seen_at) VALUES (now());

-- Notes the time. Returns NULL, or why nothing is to be deleted by it. Under the maintenance lock.
CREATE FUNCTION _prom_catalog.doubt_clock() RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    c_leap CONSTANT interval := '2 days';
    c_doubt CONSTANT interval := '1 day';
    v _prom_catalog.clock_seen;
BEGIN
    SELECT * INTO v FROM _prom_catalog.clock_seen;
    IF now() > v.seen_at + c_leap THEN -- during a doubt, too: that one is not over, it has leapt again
        v.before := CASE WHEN v.leapt_at IS NULL THEN v.seen_at ELSE v.before END;
        v.leapt_at := now();
    ELSIF now() NOT BETWEEN v.leapt_at AND v.leapt_at + c_doubt THEN -- it has gone back, or on for long enough
        v.leapt_at := NULL;
    END IF;
    IF v.leapt_at IS NOT NULL AND EXISTS (SELECT FROM _prom_catalog.metric_day d WHERE d.day = now()::date - 1
                                          AND d.merged_samples + d.sealed_samples > 0) THEN
        v.leapt_at := NULL;
    END IF;
    INSERT INTO _prom_catalog.clock_seen AS c (seen_at, leapt_at, before)
        VALUES (now(), v.leapt_at, CASE WHEN v.leapt_at IS NOT NULL THEN v.before END)
        ON CONFLICT (one) DO UPDATE SET seen_at = excluded.seen_at, leapt_at = excluded.leapt_at, before = excluded.before;
    RETURN CASE WHEN v.leapt_at IS NOT NULL THEN
        format('the clock says %s, and the last time it was seen was %s: nothing is deleted until %s; if the clock is right,'
               ' SELECT _prom_catalog.trust_clock()', date_trunc('second', now()), date_trunc('second', v.before),
               date_trunc('second', v.leapt_at) + c_doubt) END;
END $$;

-- For who has looked at the clock, after the server was off for days.
CREATE FUNCTION _prom_catalog.trust_clock() RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE _prom_catalog.clock_seen SET seen_at = now(), leapt_at = NULL, before = NULL
$$;
COMMENT ON FUNCTION _prom_catalog.trust_clock() IS
    'lets retention go on that stands still because the clock has leapt, or the server was off for days';

REVOKE ALL ON FUNCTION _prom_catalog.doubt_clock() FROM PUBLIC;
