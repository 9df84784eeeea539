-- Calls that take a bounded time, however many jobs, leases, schedules and keys there are.
--
-- Programs of the version before call the earlier functions, so none of them is changed. A function that takes the place of an earlier one has its name and
-- the number of this migration.

-- As `starling_jobs_finish`, in a time that grows with the number of attempts, not with its square: the answer only has rows for the attempts that have ended.
-- At most the newest 1,000 attempts are kept of each job, since those that are handed back do not count.
CREATE FUNCTION starling_jobs_finish_6(
    ids uuid[], generations integer[], outcomes smallint[], delays bigint[], results text[], errors text[])
RETURNS TABLE (item bigint, state smallint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    -- In one order, so that two callers can't deadlock.
    PERFORM FROM job_running r WHERE r.job = ANY (ids) ORDER BY r.job FOR UPDATE;

    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT DISTINCT ON (g.id, g.generation) g.* FROM unnest(ids, generations, outcomes, delays, results, errors) WITH ORDINALITY
            AS g (id, generation, outcome, delay, result, error, item)
        ORDER BY g.id, g.generation, g.item
    ), gone AS (
        DELETE FROM job_running r USING given g
        WHERE r.job = g.id AND r.generation = g.generation AND (g.outcome IN (2, 4) OR r.lease_until IS NULL OR r.lease_until >= clock_timestamp())
        RETURNING r.job, r.generation, r.attempt, r.queue, r.tenant, r.priority, r.worker, r.worker_name, r.started_at,
                  g.item, g.outcome, g.delay, g.result, g.error
    ), ended AS MATERIALIZED (
        -- A job that shall stop does not start again.
        SELECT e.*, CASE
            WHEN e.outcome = 0 THEN 3
            WHEN e.outcome = 4 OR EXISTS (SELECT FROM job_cancellations c WHERE c.worker = e.worker AND c.job = e.job) THEN 5
            WHEN e.outcome = 3 OR e.delay <= 0 THEN 1
            WHEN e.delay IS NULL THEN 4
            ELSE 0 END::smallint AS state
        FROM gone e
    ), noted AS (
        INSERT INTO job_attempts (job, generation, attempt, worker, worker_name, started_at, ended_at, outcome, error)
        SELECT e.job, e.generation, e.attempt, e.worker, e.worker_name, e.started_at, clock_timestamp(), e.outcome, e.error FROM ended e
    ), scheduled AS (
        INSERT INTO job_scheduled (run_at, job, queue, tenant, priority, attempt, generation)
        SELECT clock_timestamp() + e.delay * interval '1 millisecond', e.job, e.queue, e.tenant, e.priority, e.attempt, e.generation
        FROM ended e WHERE e.state = 0
    ), ready AS (
        INSERT INTO job_ready (queue, tenant, priority, job, attempt, generation)
        SELECT e.queue, e.tenant, e.priority, e.job, e.attempt - (e.outcome = 3)::integer, e.generation FROM ended e WHERE e.state = 1
    ), endings AS (
        INSERT INTO job_endings (job, queue, tenant, state, ended_at, result)
        SELECT e.job, e.queue, e.tenant, e.state, clock_timestamp(), e.result FROM ended e WHERE e.state >= 3
    ), unlocked AS (
        DELETE FROM job_keys k USING ended e WHERE k.job = e.job AND k.held <= 1 AND e.state >= 3
    ), stopped AS (
        DELETE FROM job_cancellations c USING ended e WHERE c.worker = e.worker AND c.job = e.job
    ), counted AS (
        INSERT INTO job_count_deltas (queue, tenant, state, jobs)
        SELECT c.queue, c.tenant, c.state, sum(c.jobs)
        FROM (SELECT e.queue, e.tenant, 2::smallint AS state, -1 AS jobs FROM ended e
              UNION ALL SELECT e.queue, e.tenant, e.state, 1 FROM ended e) c
        GROUP BY 1, 2, 3
    )
    SELECT e.item, e.state FROM ended e;
END
$$;

-- Takes their jobs away from workers that are not listed any more. An attempt that was lost counts. Returns the number of lost attempts.
CREATE FUNCTION starling_jobs_lose_6(dead uuid[])
RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    l record;
BEGIN
    SELECT array_agg(r.job) AS ids, array_agg(r.generation) AS generations,
           array_agg(CASE WHEN r.attempt < j.attempts_max THEN 0 END::bigint) AS delays, count(*)::integer AS jobs
    INTO l
    FROM job_running r JOIN jobs j ON j.id = r.job
    WHERE r.worker = ANY (dead) AND r.lease_until IS NULL;
    IF l.jobs = 0 THEN
        RETURN 0;
    END IF;
    RETURN (SELECT count(*) FROM starling_jobs_finish_6(
        l.ids, l.generations, array_fill(2::smallint, ARRAY[l.jobs]), l.delays,
        array_fill(NULL::text, ARRAY[l.jobs]), array_fill('the worker was lost'::text, ARRAY[l.jobs])));
END
$$;

-- Takes their jobs away from at most `at_most` workers without a beat for this long. Returns the numbers of these workers and of lost attempts.
CREATE FUNCTION starling_jobs_bury_silent_6(silent_ms bigint, at_most integer)
RETURNS TABLE (workers bigint, lost bigint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    dead uuid[];
BEGIN
    -- A claim locks its worker's row. So a worker that is claiming is not buried, and a buried one can't claim.
    WITH silent AS MATERIALIZED (
        SELECT w.id FROM job_workers w WHERE w.seen_at < clock_timestamp() - silent_ms * interval '1 millisecond'
        LIMIT at_most FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM job_workers w USING silent s WHERE w.id = s.id RETURNING w.id
    )
    SELECT coalesce(array_agg(g.id), '{}'), count(*) INTO dead, workers FROM gone g;
    lost := starling_jobs_lose_6(dead);
    RETURN NEXT;
END
$$;

-- As `starling_jobs_bury_unlocked`.
CREATE FUNCTION starling_jobs_bury_unlocked_6(ids uuid[], locks bigint[])
RETURNS TABLE (workers bigint, lost bigint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    dead uuid[];
BEGIN
    -- A claim locks its worker's row. So a worker that is claiming is not buried, and a buried one can't claim.
    WITH unlocked AS MATERIALIZED (
        SELECT w.id, w.lock FROM job_workers w JOIN unnest(ids, locks) AS g (id, lock) ON w.id = g.id AND w.lock = g.lock
        WHERE w.lock_server = pg_postmaster_start_time() FOR UPDATE OF w SKIP LOCKED
    ), gone AS (
        DELETE FROM job_workers w USING unlocked u
        WHERE w.id = u.id AND pg_try_advisory_xact_lock_shared(u.lock) RETURNING w.id
    )
    SELECT coalesce(array_agg(g.id), '{}'), count(*) INTO dead, workers FROM gone g;
    lost := starling_jobs_lose_6(dead);
    RETURN NEXT;
END
$$;

-- Takes at most `at_most` jobs away whose lease is over. An attempt that was lost counts. Returns their number, and a time before which no lease ends any more.
CREATE FUNCTION starling_jobs_expire_leases_6(since timestamptz, at_most integer)
RETURNS TABLE (lost bigint, mark timestamptz)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    -- A variable, since an index can't be searched for what each row may see in another way.
    now_is timestamptz := clock_timestamp();
    l record;
BEGIN
    -- What others are ending or extending is left to them.
    WITH expired AS MATERIALIZED (
        SELECT r.job, r.generation, r.attempt FROM job_running r WHERE r.lease_until >= since AND r.lease_until < now_is
        ORDER BY r.lease_until LIMIT at_most FOR UPDATE SKIP LOCKED
    )
    SELECT array_agg(e.job) AS ids, array_agg(e.generation) AS generations,
           array_agg(CASE WHEN e.attempt < j.attempts_max THEN 0 END::bigint) AS delays, count(*)::integer AS jobs
    INTO l
    FROM expired e JOIN jobs j ON j.id = e.job;
    lost := 0;
    IF l.jobs > 0 THEN
        SELECT count(*) INTO lost FROM starling_jobs_finish_6(
            l.ids, l.generations, array_fill(2::smallint, ARRAY[l.jobs]), l.delays,
            array_fill(NULL::text, ARRAY[l.jobs]), array_fill('the worker was lost'::text, ARRAY[l.jobs]));
    END IF;

    -- Transactions that give a lease may take a while to commit. Those that take longer than a minute are found by a caller that begins at the beginning again.
    SELECT least(now_is - interval '1 minute',
                 (SELECT r.lease_until FROM job_running r WHERE r.lease_until >= since ORDER BY r.lease_until LIMIT 1))
    INTO mark;
    RETURN NEXT;
END
$$;
