-- A worker that is killed is noticed at once: it holds a lock on a connection of its own, which the server releases when the process ends.

-- `lock`: the number of the advisory lock; null: there is none, and only beats count. `lock_server`: the start of the server that gave it.
-- After a restart or a failover all locks are gone, which says nothing of the workers.
ALTER TABLE job_workers ADD COLUMN lock bigint, ADD COLUMN lock_server timestamptz;

-- Returns the workers but this one whose locks are gone.
CREATE FUNCTION starling_jobs_lost_locks(besides uuid)
RETURNS TABLE (worker uuid, lock bigint)
LANGUAGE sql VOLATILE
AS $$
    WITH given AS MATERIALIZED (
        SELECT w.id, w.lock FROM job_workers w
        WHERE w.lock IS NOT NULL AND w.id <> besides AND w.lock_server = pg_postmaster_start_time()
    )
    -- Shared, so that nodes that look at the same time don't take one another for the holder.
    SELECT g.id, g.lock FROM given g WHERE pg_try_advisory_xact_lock_shared(g.lock)
$$;

-- Takes their jobs away from those of these workers whose locks are still these, and still gone. An attempt that was lost counts. Returns the
-- numbers of dead workers and of lost attempts.
CREATE FUNCTION starling_jobs_bury_unlocked(ids uuid[], locks bigint[])
RETURNS TABLE (workers bigint, lost bigint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
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

    SELECT count(f.state) INTO lost FROM (
        SELECT array_agg(r.job) AS ids, array_agg(r.generation) AS generations,
               array_agg(CASE WHEN r.attempt < j.attempts_max THEN 0 END::bigint) AS delays, count(*) AS jobs
        FROM job_running r JOIN jobs j ON j.id = r.job
        WHERE r.worker = ANY (dead) AND r.lease_until IS NULL
    ) l, LATERAL starling_jobs_finish(
        l.ids, l.generations, array_fill(2::smallint, ARRAY[l.jobs::integer]), l.delays,
        array_fill(NULL::text, ARRAY[l.jobs::integer]), array_fill('the worker was lost'::text, ARRAY[l.jobs::integer])) f
    WHERE l.jobs > 0;
    RETURN NEXT;
END
$$;
