-- Schedules: jobs that are added again and again, at the moments of a cron expression in a time zone.

CREATE TABLE job_schedules (
    tenant       text COLLATE "C" NOT NULL,
    name         text COLLATE "C" NOT NULL,
    revision     uuid             NOT NULL,  -- of this version
    cron         text             NOT NULL,
    zone         text             NOT NULL,
    missed       smallint         NOT NULL,  -- firings that nobody could make are 0: skipped, 1: made up for by one job, 2: by a job each
    queue        text COLLATE "C" NOT NULL,
    kind         text COLLATE "C" NOT NULL,
    payload      text             NOT NULL,
    priority     smallint         NOT NULL,
    attempts_max smallint         NOT NULL,
    backoff_first_ms integer      NOT NULL,
    backoff_max_ms   integer      NOT NULL,
    next_at      timestamptz(3),             -- null: never again
    last_at      timestamptz(3),             -- the last moment for which a job was added
    PRIMARY KEY (tenant, name)
) WITH (fillfactor = 80);

CREATE INDEX job_schedules_by_next ON job_schedules (next_at) WHERE next_at IS NOT NULL;

-- Keeps a schedule. `seen`: the version that the caller knows, which this one replaces; null: it knows of none. Times that stay as they are go on
-- where they were. Returns 0: there was none, 1: replaced, 2: another version is there by now, 3: the tenant has `at_most` already.
CREATE FUNCTION starling_schedules_put(
    of_tenant text, of_name text, seen uuid, at_most bigint, new_revision uuid, new_cron text, new_zone text, new_missed smallint, new_queue text,
    new_kind text, new_payload text, new_priority smallint, new_attempts_max smallint, new_backoff_first integer, new_backoff_max integer,
    new_next timestamptz)
RETURNS smallint
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
BEGIN
    IF seen IS NOT NULL THEN
        UPDATE job_schedules s SET
            revision = new_revision, cron = new_cron, zone = new_zone, missed = new_missed, queue = new_queue, kind = new_kind, payload = new_payload,
            priority = new_priority, attempts_max = new_attempts_max, backoff_first_ms = new_backoff_first, backoff_max_ms = new_backoff_max,
            next_at = CASE WHEN s.cron = new_cron AND s.zone = new_zone THEN s.next_at ELSE new_next END
        WHERE s.tenant = of_tenant COLLATE "C" AND s.name = of_name COLLATE "C" AND s.revision = seen;
        RETURN CASE WHEN FOUND THEN 1 ELSE 2 END;
    END IF;
    -- One at a time for each tenant, so that the limit is exact.
    PERFORM pg_advisory_xact_lock(hashtextextended('starling_schedules ' || of_tenant, 0));
    IF (SELECT count(*) FROM job_schedules s WHERE s.tenant = of_tenant COLLATE "C") >= at_most
       AND NOT EXISTS (SELECT FROM job_schedules s WHERE s.tenant = of_tenant COLLATE "C" AND s.name = of_name COLLATE "C") THEN
        RETURN 3;
    END IF;
    INSERT INTO job_schedules (
        tenant, name, revision, cron, zone, missed, queue, kind, payload, priority, attempts_max, backoff_first_ms, backoff_max_ms, next_at)
    VALUES (of_tenant, of_name, new_revision, new_cron, new_zone, new_missed, new_queue, new_kind, new_payload, new_priority, new_attempts_max,
            new_backoff_first, new_backoff_max, new_next)
    ON CONFLICT DO NOTHING;
    RETURN CASE WHEN FOUND THEN 0 ELSE 2 END;
END
$$;

-- Adds the jobs of schedules whose moments have come, and moves these schedules on, unless somebody else has done so. `expecteds`: the moments that the
-- schedules were due at. `places`: for each job, the place of its schedule in the first arrays. Returns the jobs that were added.
CREATE FUNCTION starling_schedules_fire(
    tenants text[], names text[], revisions uuid[], expecteds timestamptz[], nexts timestamptz[],
    places integer[], ids uuid[], moments timestamptz[], keys text[])
RETURNS TABLE (job uuid)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    f record;
BEGIN
    WITH picked AS MATERIALIZED (
        SELECT s.tenant, s.name, g.next, g.place
        FROM unnest(tenants, names, revisions, expecteds, nexts) WITH ORDINALITY AS g (tenant, name, revision, expected, next, place)
        JOIN job_schedules s ON s.tenant = g.tenant COLLATE "C" AND s.name = g.name COLLATE "C" AND s.revision = g.revision AND s.next_at = g.expected
        FOR UPDATE OF s SKIP LOCKED
    ), fired AS MATERIALIZED (
        SELECT p.tenant, p.name, p.place, i.id, i.moment, i.key
        FROM picked p JOIN unnest(places, ids, moments, keys) AS i (place, id, moment, key) ON i.place = p.place
    ), moved AS MATERIALIZED (
        UPDATE job_schedules s SET next_at = p.next,
            last_at = coalesce((SELECT max(i.moment) FROM fired i WHERE i.place = p.place), s.last_at)
        FROM picked p WHERE s.tenant = p.tenant AND s.name = p.name
        RETURNING p.place, s.tenant, s.queue, s.kind, s.payload, s.priority, s.attempts_max, s.backoff_first_ms, s.backoff_max_ms
    )
    SELECT array_agg(i.id ORDER BY i.moment, i.id) AS ids, array_agg(m.tenant ORDER BY i.moment, i.id) AS tenants,
           array_agg(m.queue ORDER BY i.moment, i.id) AS queues, array_agg(m.kind ORDER BY i.moment, i.id) AS kinds,
           array_agg(m.payload ORDER BY i.moment, i.id) AS payloads, array_agg(m.priority ORDER BY i.moment, i.id) AS priorities,
           array_agg(i.moment ORDER BY i.moment, i.id) AS moments, array_agg(m.attempts_max ORDER BY i.moment, i.id) AS attempts,
           array_agg(m.backoff_first_ms ORDER BY i.moment, i.id) AS firsts, array_agg(m.backoff_max_ms ORDER BY i.moment, i.id) AS longest,
           array_agg(i.key ORDER BY i.moment, i.id) AS keys, array_agg(2::smallint ORDER BY i.moment, i.id) AS helds
    INTO f FROM fired i JOIN moved m ON m.place = i.place;
    IF f.ids IS NOT NULL THEN
        RETURN QUERY SELECT e.job FROM starling_jobs_enqueue(
            f.ids, f.tenants, f.queues, f.kinds, f.payloads, f.priorities, f.moments, f.attempts, f.firsts, f.longest, f.keys, f.helds) e
        WHERE e.added;
    END IF;
END
$$;
