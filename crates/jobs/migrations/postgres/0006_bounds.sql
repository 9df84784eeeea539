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
    ), forgotten AS (
        DELETE FROM job_attempts a USING ended e WHERE e.generation > 1000 AND a.job = e.job AND a.generation <= e.generation - 1000
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
    -- A variable: an index is not searched for a function that may return another time for each row.
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

-- As `starling_limits_claim`. A turn that is noted while a claim is under way stays: it is that of a job whose place the claim has not seen.
CREATE FUNCTION starling_limits_claim_6(
    l job_limits, claimer uuid, claimer_name text, until timestamptz, of_tenant text, of_priority smallint, from_xid bigint, from_position bigint, want integer)
RETURNS TABLE (
    job uuid, generation integer, attempt smallint, xid bigint, "position" bigint, ready_at timestamptz, set_aside integer, retry_in_ms bigint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    now_us bigint := floor(extract(epoch FROM clock_timestamp()) * 1000000);
    has_keys boolean := l.key_concurrency IS NOT NULL OR l.key_rate IS NOT NULL;
    free bigint := want;
    most bigint;
    begun integer := 0;
    again_us bigint;
    key_places integer;
    key_next_us bigint;
    places jsonb := '{}';
    aside tid[] := '{}';
    a record;
    turn record;
    next_job record;
BEGIN
    IF l.total_concurrency IS NOT NULL THEN
        free := least(free, l.total_concurrency - (SELECT count(*) FROM job_running r
            WHERE r.queue = l.queue AND r.limited_xid >= l.running_since));
    END IF;
    IF l.tenant_concurrency IS NOT NULL AND free > 0 THEN
        free := least(free, l.tenant_concurrency - (SELECT count(*) FROM job_running r
            WHERE r.queue = l.queue AND r.tenant = of_tenant COLLATE "C" AND r.limited_xid >= l.running_since));
    END IF;
    IF l.total_rate IS NOT NULL AND free > 0 THEN
        SELECT * INTO a FROM starling_limits_allowance(l.queue, 0::smallint, '', '', l.total_rate, l.total_burst, now_us);
        free := least(free, a.allowed);
    END IF;
    IF l.tenant_rate IS NOT NULL AND free > 0 THEN
        SELECT * INTO a FROM starling_limits_allowance(l.queue, 1::smallint, of_tenant, '', l.tenant_rate, l.tenant_burst, now_us);
        free := least(free, a.allowed);
    END IF;
    free := greatest(free, 0);
    most := free;

    -- Blocked jobs come first: they have waited longer. A key's turns go when it has no blocked jobs or no place; with its next end or time there is another one.
    -- Only the turns go that were there before the places were counted: one that comes later may be that of the next end.
    IF free > 0 THEN
        DELETE FROM job_key_turns u
        WHERE u.queue = l.queue AND u.tenant = of_tenant COLLATE "C" AND u.xid >= l.turns_since AND u.due_us <= now_us AND NOT EXISTS (
            SELECT FROM job_blocked b WHERE b.queue = u.queue AND b.tenant = u.tenant AND b.key = u.key);
        FOR turn IN
            SELECT u.key, min(u.position) AS first, array_agg(u.position) AS positions FROM job_key_turns u
            WHERE u.queue = l.queue AND u.tenant = of_tenant COLLATE "C" AND u.xid >= l.turns_since AND u.due_us <= now_us AND EXISTS (
                SELECT FROM job_blocked b WHERE b.queue = u.queue AND b.tenant = u.tenant AND b.key = u.key AND b.priority = of_priority)
            GROUP BY u.key ORDER BY first LIMIT 100
        LOOP
            EXIT WHEN free <= 0;
            SELECT p.places INTO key_places FROM starling_limits_key_places(l, of_tenant, turn.key, now_us) p;
            FOR next_job IN
                SELECT b.job, b.attempt, b.generation, b.ready_xid, b.ready_position, b.ready_at FROM job_blocked b
                WHERE b.queue = l.queue AND b.tenant = of_tenant COLLATE "C" AND b.key = turn.key AND b.priority = of_priority
                ORDER BY b.ready_xid, b.ready_position LIMIT greatest(least(free, key_places), 0)
            LOOP
                DELETE FROM job_blocked b WHERE b.job = next_job.job;
                -- Somebody else may have cancelled it.
                IF FOUND THEN
                    PERFORM starling_limits_begin(l, next_job.job, next_job.generation + 1, (next_job.attempt + 1)::smallint, of_tenant, of_priority,
                        CASE WHEN has_keys THEN turn.key END, claimer, claimer_name, until, now_us);
                    job := next_job.job;
                    generation := next_job.generation + 1;
                    attempt := next_job.attempt + 1;
                    xid := next_job.ready_xid;
                    "position" := next_job.ready_position;
                    ready_at := next_job.ready_at;
                    RETURN NEXT;
                    free := free - 1;
                    begun := begun + 1;
                    key_places := key_places - 1;
                END IF;
            END LOOP;
            IF key_places <= 0 THEN
                DELETE FROM job_key_turns u WHERE u.position = ANY (turn.positions);
                SELECT p.next_us INTO key_next_us FROM starling_limits_key_places(l, of_tenant, turn.key, now_us) p;
                IF key_next_us IS NOT NULL THEN
                    INSERT INTO job_key_turns (queue, tenant, key, due_us) VALUES (l.queue, of_tenant, turn.key, key_next_us);
                END IF;
            END IF;
        END LOOP;
    END IF;

    IF free > 0 THEN
        -- `places`: how many jobs of each key may still begin; below 0: it has none, and its time is noted.
        FOR next_job IN
            SELECT r.ctid AS spot, r.job, r.attempt, r.generation, r.ready_at, r.xid, r.position, CASE WHEN has_keys THEN j.concurrency_key END AS key
            FROM job_ready r JOIN jobs j ON j.id = r.job
            WHERE r.queue = l.queue AND r.tenant = of_tenant COLLATE "C" AND r.priority = of_priority
              AND (r.xid, r.position) >= (from_xid, from_position)
            ORDER BY r.xid, r.position LIMIT 500 FOR UPDATE OF r SKIP LOCKED
        LOOP
            IF next_job.key IS NOT NULL THEN
                key_places := coalesce((places ->> next_job.key)::integer, 0);
                IF key_places = 0 THEN
                    SELECT p.places, p.next_us INTO key_places, key_next_us
                    FROM starling_limits_key_places(l, of_tenant, next_job.key, now_us) p;
                    IF key_next_us IS NOT NULL THEN
                        INSERT INTO job_key_turns (queue, tenant, key, due_us) VALUES (l.queue, of_tenant, next_job.key, key_next_us);
                    END IF;
                    IF key_places <= 0 THEN
                        places := places || jsonb_build_object(next_job.key, -1);
                    END IF;
                END IF;
                IF key_places <= 0 THEN
                    aside := aside || next_job.spot;
                    CONTINUE;
                END IF;
                places := places || jsonb_build_object(next_job.key, key_places - 1);
            END IF;
            DELETE FROM job_ready r WHERE r.ctid = next_job.spot;
            PERFORM starling_limits_begin(l, next_job.job, next_job.generation + 1, (next_job.attempt + 1)::smallint, of_tenant, of_priority,
                next_job.key, claimer, claimer_name, until, now_us);
            job := next_job.job;
            generation := next_job.generation + 1;
            attempt := next_job.attempt + 1;
            xid := next_job.xid;
            "position" := next_job.position;
            ready_at := next_job.ready_at;
            RETURN NEXT;
            free := free - 1;
            begun := begun + 1;
            EXIT WHEN free <= 0;
        END LOOP;
        WITH gone AS (
            DELETE FROM job_ready r WHERE r.ctid = ANY (aside)
            RETURNING r.queue, r.tenant, r.priority, r.xid, r.position, r.job, r.attempt, r.generation, r.ready_at
        )
        INSERT INTO job_blocked (queue, tenant, key, priority, ready_xid, ready_position, job, attempt, generation, ready_at)
        SELECT g.queue, g.tenant, j.concurrency_key, g.priority, g.xid, g.position, g.job, g.attempt, g.generation, g.ready_at
        FROM gone g JOIN jobs j ON j.id = g.job;
    END IF;

    IF begun > 0 THEN
        IF l.total_rate IS NOT NULL THEN
            PERFORM starling_limits_charge(l.queue, 0::smallint, '', '', l.total_rate, l.total_burst, now_us, begun);
        END IF;
        IF l.tenant_rate IS NOT NULL THEN
            PERFORM starling_limits_charge(l.queue, 1::smallint, of_tenant, '', l.tenant_rate, l.tenant_burst, now_us, begun);
        END IF;
        INSERT INTO job_count_deltas (queue, tenant, state, jobs) VALUES (l.queue, of_tenant, 1, -begun), (l.queue, of_tenant, 2, begun);
    END IF;

    job := NULL;
    generation := NULL;
    attempt := NULL;
    xid := NULL;
    "position" := NULL;
    ready_at := NULL;
    set_aside := cardinality(aside);
    IF begun < want AND begun = most THEN
        -- The queue or the tenant may begin no more: until a rate allows it, or until a job ends.
        again_us := 0;
        IF l.total_rate IS NOT NULL THEN
            SELECT * INTO a FROM starling_limits_allowance(l.queue, 0::smallint, '', '', l.total_rate, l.total_burst, now_us);
            again_us := greatest(again_us, CASE WHEN a.allowed <= 0 THEN a.next_us END);
        END IF;
        IF l.tenant_rate IS NOT NULL THEN
            SELECT * INTO a FROM starling_limits_allowance(l.queue, 1::smallint, of_tenant, '', l.tenant_rate, l.tenant_burst, now_us);
            again_us := greatest(again_us, CASE WHEN a.allowed <= 0 THEN a.next_us END);
        END IF;
    ELSIF begun = 0 AND cardinality(aside) = 0 THEN
        -- What there is waits for its keys.
        again_us := coalesce((SELECT min(u.due_us) FROM job_key_turns u
            WHERE u.queue = l.queue AND u.tenant = of_tenant COLLATE "C" AND u.xid >= l.turns_since AND u.due_us > now_us), 0);
    END IF;
    retry_in_ms := CASE WHEN again_us > now_us THEN (again_us - now_us + 999) / 1000 WHEN again_us IS NOT NULL THEN 0 END;
    RETURN NEXT;
END
$$;

-- As `starling_jobs_claim_within_limits`.
CREATE FUNCTION starling_jobs_claim_6(
    claimer uuid, claimer_name text, lease_ms bigint, queues text[], tenants text[], priorities smallint[], xids bigint[], positions bigint[], limits integer[])
RETURNS TABLE (
    backlog integer, job uuid, generation integer, attempt smallint, kind text, payload text, attempts_max smallint,
    backoff_first_ms integer, backoff_max_ms integer, xid bigint, "position" bigint, ready_at timestamptz, lease_until timestamptz,
    set_aside integer, retry_in_ms bigint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    until timestamptz(3) := clock_timestamp() + lease_ms * interval '1 millisecond';
    any_limits boolean;
    l job_limits;
    locked job_limits;
    awaited text;
    c record;
BEGIN
    IF lease_ms IS NULL THEN
        -- Holds off a burial of this worker until this transaction ends. A worker that was buried gets an empty answer.
        PERFORM FROM job_workers w WHERE w.id = claimer FOR KEY SHARE;
        IF NOT FOUND THEN
            RETURN;
        END IF;
    END IF;
    any_limits := EXISTS (SELECT FROM job_limits o WHERE o.queue = ANY (queues));
    FOR place IN 1 .. coalesce(array_length(queues, 1), 0) LOOP
        IF any_limits THEN
            set_aside := NULL;
            retry_in_ms := NULL;
            SELECT o.* INTO l FROM job_limits o WHERE o.queue = queues[place] COLLATE "C";
        END IF;
        IF NOT EXISTS (SELECT FROM job_pauses p WHERE p.tenant = tenants[place] COLLATE "C" AND p.queue = queues[place] COLLATE "C") THEN
            IF l.queue IS NULL THEN
                RETURN QUERY
                WITH picked AS MATERIALIZED (
                    SELECT r.ctid AS spot, r.job, r.attempt, r.generation, r.ready_at, r.xid, r.position FROM job_ready r
                    WHERE r.queue = queues[place] COLLATE "C" AND r.tenant = tenants[place] COLLATE "C" AND r.priority = priorities[place]
                      AND (r.xid, r.position) >= (xids[place], positions[place])
                    ORDER BY r.xid, r.position LIMIT limits[place] FOR UPDATE SKIP LOCKED
                ), gone AS (
                    DELETE FROM job_ready r USING picked p WHERE r.ctid = p.spot
                ), running AS (
                    INSERT INTO job_running (job, generation, attempt, queue, tenant, priority, worker, worker_name, lease_until, started_at)
                    SELECT p.job, p.generation + 1, p.attempt + 1, queues[place], tenants[place], priorities[place], claimer, claimer_name,
                           until, clock_timestamp()
                    FROM picked p
                ), unlocked AS (
                    DELETE FROM job_keys k USING picked p WHERE k.job = p.job AND k.held = 0
                ), counted AS (
                    INSERT INTO job_count_deltas (queue, tenant, state, jobs)
                    SELECT queues[place], tenants[place], c.state, c.sign * (SELECT count(*) FROM picked)
                    FROM (VALUES (1::smallint, -1), (2::smallint, 1)) AS c (state, sign) WHERE EXISTS (SELECT FROM picked)
                )
                SELECT place, p.job, p.generation + 1, (p.attempt + 1)::smallint, j.kind, j.payload, j.attempts_max,
                       j.backoff_first_ms, j.backoff_max_ms, p.xid, p.position, p.ready_at, until, NULL::integer, NULL::bigint
                FROM picked p JOIN jobs j ON j.id = p.job ORDER BY p.xid, p.position;
            ELSIF limits[place] > 0 THEN
                -- Waits for one queue at most, and holds no other one meanwhile, so that claims can't deadlock.
                IF coalesce(awaited, l.queue) = l.queue THEN
                    awaited := l.queue;
                    SELECT o.* INTO locked FROM job_limits o WHERE o.queue = queues[place] COLLATE "C" FOR UPDATE;
                ELSE
                    SELECT o.* INTO locked FROM job_limits o WHERE o.queue = queues[place] COLLATE "C" FOR UPDATE SKIP LOCKED;
                    IF NOT FOUND THEN
                        retry_in_ms := 20;
                    END IF;
                END IF;
                IF greatest(locked.running_since, locked.turns_since) > pg_snapshot_xmin(pg_current_snapshot())::text::bigint THEN
                    -- The database was restored elsewhere, where transactions have lower numbers, and no mark is valid any more.
                    locked.running_since := 0;
                    locked.turns_since := 0;
                END IF;
                IF locked.queue IS NOT NULL THEN
                    FOR c IN
                        SELECT g.*, j.kind, j.payload, j.attempts_max, j.backoff_first_ms, j.backoff_max_ms
                        FROM starling_limits_claim_6(
                            locked, claimer, claimer_name, until, tenants[place], priorities[place], xids[place], positions[place], limits[place]) g
                        LEFT JOIN jobs j ON j.id = g.job
                    LOOP
                        IF c.job IS NULL THEN
                            set_aside := c.set_aside;
                            retry_in_ms := c.retry_in_ms;
                        ELSE
                            RETURN QUERY SELECT place, c.job, c.generation, c.attempt, c.kind, c.payload, c.attempts_max, c.backoff_first_ms,
                                c.backoff_max_ms, c.xid, c.position, c.ready_at, until::timestamptz, NULL::integer, NULL::bigint;
                        END IF;
                    END LOOP;
                END IF;
            END IF;
        END IF;

        -- A statement of its own, which does not see the rows that were just deleted. It does see rows that another worker is deleting, since
        -- that worker may still roll back.
        IF l.queue IS NULL THEN
            RETURN QUERY
            SELECT place, NULL::uuid, NULL::integer, NULL::smallint, NULL::text, NULL::text, NULL::smallint, NULL::integer, NULL::integer,
                   least(f.xid, s.xmin), CASE WHEN f.xid <= s.xmin THEN f.position ELSE 0 END, f.ready_at, NULL::timestamptz, NULL::integer, NULL::bigint
            FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xmin) s
            LEFT JOIN LATERAL (
                SELECT r.xid, r.position, r.ready_at FROM job_ready r
                WHERE r.queue = queues[place] COLLATE "C" AND r.tenant = tenants[place] COLLATE "C" AND r.priority = priorities[place]
                  AND (r.xid, r.position) >= (xids[place], positions[place])
                ORDER BY r.xid, r.position LIMIT 1
            ) f ON true;
        ELSE
            -- Blocked jobs are ready, too.
            RETURN QUERY
            SELECT place, NULL::uuid, NULL::integer, NULL::smallint, NULL::text, NULL::text, NULL::smallint, NULL::integer, NULL::integer,
                   least(f.xid, s.xmin), CASE WHEN f.xid <= s.xmin THEN f.position ELSE 0 END, least(f.ready_at, b.ready_at), NULL::timestamptz,
                   set_aside, retry_in_ms
            FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xmin) s
            LEFT JOIN LATERAL (
                SELECT r.xid, r.position, r.ready_at FROM job_ready r
                WHERE r.queue = queues[place] COLLATE "C" AND r.tenant = tenants[place] COLLATE "C" AND r.priority = priorities[place]
                  AND (r.xid, r.position) >= (xids[place], positions[place])
                ORDER BY r.xid, r.position LIMIT 1
            ) f ON true
            LEFT JOIN LATERAL (
                SELECT o.ready_at FROM job_blocked o
                WHERE o.queue = queues[place] COLLATE "C" AND o.tenant = tenants[place] COLLATE "C" AND o.priority = priorities[place]
                ORDER BY o.ready_xid, o.ready_position LIMIT 1
            ) b ON true;
        END IF;
    END LOOP;
END
$$;

-- As `starling_limits_tidy`, and adds a turn for keys that have blocked jobs, no running ones, and no turn.
CREATE FUNCTION starling_limits_tidy_6(at_most integer)
RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    now_us bigint := floor(extract(epoch FROM clock_timestamp()) * 1000000);
    free text[];
BEGIN
    -- While nobody claims from these queues: a claim sets jobs aside that can't be seen yet.
    SELECT coalesce(array_agg(o.queue), '{}') INTO free FROM (SELECT l.queue FROM job_limits l ORDER BY l.queue FOR UPDATE SKIP LOCKED) o;
    DELETE FROM job_rates r WHERE r.ctid = ANY (ARRAY(
        SELECT o.ctid FROM job_rates o WHERE o.queue = ANY (free) AND o.due_us <= now_us LIMIT at_most));
    DELETE FROM job_key_turns u WHERE u.position = ANY (ARRAY(
        SELECT o.position FROM job_key_turns o WHERE o.queue = ANY (free) AND o.due_us <= now_us AND NOT EXISTS (
            SELECT FROM job_blocked b WHERE b.queue = o.queue AND b.tenant = o.tenant AND b.key = o.key) LIMIT at_most));
    -- A turn may be missing: programs of the version before lose one when a job ends while they claim. Some of the blocked jobs are looked at, chosen by chance.
    INSERT INTO job_key_turns (queue, tenant, key)
    SELECT k.queue, k.tenant, k.key
    FROM (SELECT DISTINCT b.queue, b.tenant, b.key
          FROM job_blocked b TABLESAMPLE SYSTEM (least(100, 100 * 64 / greatest(pg_relation_size('job_blocked') / 8192.0, 1))::real)
          WHERE b.queue = ANY (free)) k
    WHERE NOT EXISTS (SELECT FROM job_running r
              WHERE r.queue = k.queue AND r.tenant = k.tenant AND r.concurrency_key = k.key AND r.limited_xid IS NOT NULL)
      AND NOT EXISTS (SELECT FROM job_key_turns u WHERE u.queue = k.queue AND u.tenant = k.tenant AND u.key = k.key)
    LIMIT at_most;
    UPDATE job_limits l SET running_since = 0, turns_since = 0
    WHERE l.queue = ANY (free) AND greatest(l.running_since, l.turns_since) > pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
    -- No transaction below the lowest one that runs can add a row any more. A step of some size, so that the limits of a quiet queue stay as they are.
    UPDATE job_limits l SET running_since = m.running, turns_since = m.turns
    FROM (SELECT o.queue,
                 least(pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
                       (SELECT min(r.limited_xid) FROM job_running r WHERE r.queue = o.queue AND r.limited_xid >= o.running_since)) AS running,
                 least(pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
                       (SELECT min(u.xid) FROM job_key_turns u WHERE u.queue = o.queue AND u.xid >= o.turns_since)) AS turns
          FROM job_limits o WHERE o.queue = ANY (free)) m
    WHERE l.queue = m.queue AND (m.running > l.running_since + 500 OR m.turns > l.turns_since + 500);
END
$$;

-- As `starling_jobs_enqueue_with_keys`, in a time that grows with the number of jobs, not with its square.
CREATE FUNCTION starling_jobs_enqueue_6(
    ids uuid[], tenants text[], queues text[], kinds text[], payloads text[], priorities smallint[], run_ats timestamptz[],
    attempts_maxs smallint[], backoff_firsts integer[], backoff_maxs integer[], keys text[], helds smallint[], concurrency_keys text[])
RETURNS TABLE (item bigint, job uuid, added boolean)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    added_at timestamptz(3);
BEGIN
    -- In one order, so that two callers with the same keys can't deadlock. This waits for a caller that is inserting the same key.
    INSERT INTO job_keys (tenant, queue, key, job, held)
    SELECT DISTINCT ON (g.tenant COLLATE "C", g.queue COLLATE "C", g.key COLLATE "C") g.tenant, g.queue, g.key, g.id, g.held
    FROM unnest(ids, tenants, queues, keys, helds) WITH ORDINALITY AS g (id, tenant, queue, key, held, item)
    WHERE g.key IS NOT NULL AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = g.id)
    ORDER BY g.tenant COLLATE "C", g.queue COLLATE "C", g.key COLLATE "C", g.item
    ON CONFLICT DO NOTHING;
    added_at := clock_timestamp();

    -- A statement of its own, which sees the keys that were inserted while the first one waited.
    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT g.*, CASE WHEN g.key IS NULL OR EXISTS (SELECT FROM jobs j WHERE j.id = g.id) THEN g.id ELSE coalesce(holder.job, g.id) END AS holder
        FROM unnest(ids, tenants, queues, kinds, payloads, priorities, run_ats, attempts_maxs, backoff_firsts, backoff_maxs, keys, helds, concurrency_keys)
             WITH ORDINALITY AS g (
                id, tenant, queue, kind, payload, priority, run_at, attempts_max, backoff_first, backoff_max, key, held, concurrency_key, item)
        LEFT JOIN LATERAL (
            SELECT k.job FROM job_keys k
            WHERE k.tenant = g.tenant COLLATE "C" AND k.queue = g.queue COLLATE "C" AND k.key = g.key COLLATE "C" LIMIT 1
        ) holder ON true
    ), added AS (
        -- The rows come back in the order in which they were inserted. A job is due if it may run when it is added.
        INSERT INTO jobs (id, tenant, queue, kind, payload, priority, attempts_max, backoff_first_ms, backoff_max_ms, key, held, run_at, created_at,
                          concurrency_key)
        SELECT g.id, g.tenant, g.queue, g.kind, g.payload, g.priority, g.attempts_max, g.backoff_first, g.backoff_max, g.key, g.held,
               coalesce(g.run_at, added_at), added_at, g.concurrency_key
        FROM given g WHERE g.holder = g.id ORDER BY g.item
        ON CONFLICT DO NOTHING
        RETURNING id, tenant, queue, priority, run_at, run_at <= created_at AS due
    ), ready AS (
        INSERT INTO job_ready (queue, tenant, priority, job, attempt, generation)
        SELECT a.queue, a.tenant, a.priority, a.id, 0, 0 FROM added a WHERE a.due
    ), scheduled AS (
        INSERT INTO job_scheduled (run_at, job, queue, tenant, priority, attempt, generation)
        SELECT a.run_at, a.id, a.queue, a.tenant, a.priority, 0, 0 FROM added a WHERE NOT a.due
    ), counted AS (
        INSERT INTO job_count_deltas (queue, tenant, state, jobs)
        SELECT a.queue, a.tenant, a.due::integer, count(*) FROM added a GROUP BY 1, 2, 3
    )
    SELECT g.item, g.holder, g.id IN (SELECT a.id FROM added a) FROM given g;
END
$$;

-- As `starling_schedules_fire`, in a time that grows with the number of moments, not with its square.
CREATE FUNCTION starling_schedules_fire_6(
    tenants text[], names text[], revisions uuid[], expecteds timestamptz[], nexts timestamptz[],
    places integer[], ids uuid[], moments timestamptz[], keys text[])
RETURNS TABLE (job uuid)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_mergejoin = off SET jit = off
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
    ), given AS MATERIALIZED (
        SELECT i.place, i.id, i.moment, i.key FROM unnest(places, ids, moments, keys) AS i (place, id, moment, key)
    ), newest AS MATERIALIZED (
        SELECT i.place, max(i.moment) AS moment FROM given i GROUP BY i.place
    ), moved AS MATERIALIZED (
        UPDATE job_schedules s SET next_at = p.next, last_at = coalesce(p.newest, s.last_at)
        FROM (SELECT p.tenant, p.name, p.next, p.place, n.moment AS newest FROM picked p LEFT JOIN newest n ON n.place = p.place) p
        WHERE s.tenant = p.tenant AND s.name = p.name
        RETURNING p.place, s.tenant, s.queue, s.kind, s.payload, s.priority, s.attempts_max, s.backoff_first_ms, s.backoff_max_ms
    )
    SELECT array_agg(i.id ORDER BY i.moment, i.id) AS ids, array_agg(m.tenant ORDER BY i.moment, i.id) AS tenants,
           array_agg(m.queue ORDER BY i.moment, i.id) AS queues, array_agg(m.kind ORDER BY i.moment, i.id) AS kinds,
           array_agg(m.payload ORDER BY i.moment, i.id) AS payloads, array_agg(m.priority ORDER BY i.moment, i.id) AS priorities,
           array_agg(i.moment ORDER BY i.moment, i.id) AS moments, array_agg(m.attempts_max ORDER BY i.moment, i.id) AS attempts,
           array_agg(m.backoff_first_ms ORDER BY i.moment, i.id) AS firsts, array_agg(m.backoff_max_ms ORDER BY i.moment, i.id) AS longest,
           array_agg(i.key ORDER BY i.moment, i.id) AS keys, array_agg(2::smallint ORDER BY i.moment, i.id) AS helds
    INTO f FROM given i JOIN moved m ON m.place = i.place;
    IF f.ids IS NOT NULL THEN
        RETURN QUERY SELECT e.job FROM starling_jobs_enqueue_6(
            f.ids, f.tenants, f.queues, f.kinds, f.payloads, f.priorities, f.moments, f.attempts, f.firsts, f.longest, f.keys, f.helds, NULL) e
        WHERE e.added;
    END IF;
END
$$;

-- As `starling_jobs_arrivals_within_limits`. Where many jobs have become ready since the mark, such as when a node has just started, it does not read them, but
-- goes from the first job of each backlog to that of the next one. No transaction that still runs can add a job before the mark of a backlog.
CREATE FUNCTION starling_jobs_arrivals_6(since bigint)
RETURNS TABLE (queue text, tenant text, priority smallint, xid bigint, "position" bigint, ready_at timestamptz)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    horizon bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
    are_many boolean := true;
BEGIN
    IF since > 0 THEN
        PERFORM FROM (
            SELECT FROM job_ready r WHERE r.xid >= since UNION ALL SELECT FROM job_blocked b WHERE b.xid >= since
        ) a OFFSET 2000 LIMIT 1;
        are_many := FOUND;
    END IF;
    IF are_many THEN
        RETURN QUERY
        WITH RECURSIVE firsts AS (
            (SELECT r.queue, r.tenant, r.priority, r.xid, r.position, r.ready_at FROM job_ready r
             ORDER BY r.queue, r.tenant, r.priority, r.xid, r.position LIMIT 1)
            UNION ALL
            SELECT n.queue, n.tenant, n.priority, n.xid, n.position, n.ready_at
            FROM firsts f CROSS JOIN LATERAL (
                SELECT r.queue, r.tenant, r.priority, r.xid, r.position, r.ready_at FROM job_ready r
                WHERE (r.queue, r.tenant, r.priority) > (f.queue, f.tenant, f.priority)
                ORDER BY r.queue, r.tenant, r.priority, r.xid, r.position LIMIT 1
            ) n
        ), firsts_blocked AS (
            (SELECT b.queue, b.tenant, b.priority, b.ready_at FROM job_blocked b
             ORDER BY b.queue, b.tenant, b.priority, b.ready_xid, b.ready_position LIMIT 1)
            UNION ALL
            SELECT n.queue, n.tenant, n.priority, n.ready_at
            FROM firsts_blocked f CROSS JOIN LATERAL (
                SELECT b.queue, b.tenant, b.priority, b.ready_at FROM job_blocked b
                WHERE (b.queue, b.tenant, b.priority) > (f.queue, f.tenant, f.priority)
                ORDER BY b.queue, b.tenant, b.priority, b.ready_xid, b.ready_position LIMIT 1
            ) n
        )
        SELECT DISTINCT ON (a.queue, a.tenant, a.priority) a.queue, a.tenant, a.priority,
               least(a.xid, horizon), CASE WHEN a.xid <= horizon THEN a.position ELSE 0 END, a.ready_at
        FROM (SELECT f.queue, f.tenant, f.priority, f.xid, f.position, f.ready_at FROM firsts f
              UNION ALL SELECT f.queue, f.tenant, f.priority, since, 0, f.ready_at FROM firsts_blocked f) a
        ORDER BY a.queue, a.tenant, a.priority, a.xid, a.position;
    ELSE
        RETURN QUERY
        SELECT DISTINCT ON (a.queue, a.tenant, a.priority) a.queue, a.tenant, a.priority,
               least(a.xid, horizon), CASE WHEN a.xid <= horizon THEN a.position ELSE 0 END, a.ready_at
        FROM (SELECT r.queue, r.tenant, r.priority, r.xid, r.position, r.ready_at FROM job_ready r WHERE r.xid >= since
              UNION ALL
              SELECT b.queue, b.tenant, b.priority, since, 0, b.ready_at FROM job_blocked b WHERE b.xid >= since) a
        ORDER BY a.queue, a.tenant, a.priority, a.xid, a.position;
    END IF;
    RETURN QUERY SELECT NULL::text, NULL::text, NULL::smallint, horizon, 0::bigint, NULL::timestamptz;
END
$$;

-- As `starling_jobs_promote`, and reads no job whose time has not come.
CREATE FUNCTION starling_jobs_promote_6(since timestamptz, at_most integer)
RETURNS TABLE (promoted bigint, mark timestamptz)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    now_is timestamptz := clock_timestamp();
BEGIN
    WITH picked AS MATERIALIZED (
        SELECT s.* FROM job_scheduled s WHERE s.run_at >= since AND s.run_at <= now_is
        ORDER BY s.run_at, s.job LIMIT at_most FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM job_scheduled s USING picked p WHERE s.run_at = p.run_at AND s.job = p.job
    ), ready AS (
        INSERT INTO job_ready (queue, tenant, priority, job, attempt, generation)
        SELECT p.queue, p.tenant, p.priority, p.job, p.attempt, p.generation FROM picked p ORDER BY p.run_at, p.job
    ), counted AS (
        INSERT INTO job_count_deltas (queue, tenant, state, jobs)
        SELECT p.queue, p.tenant, c.state, c.sign * count(*)
        FROM picked p CROSS JOIN (VALUES (0::smallint, -1), (1::smallint, 1)) AS c (state, sign) GROUP BY p.queue, p.tenant, c.state, c.sign
    )
    SELECT count(*) INTO promoted FROM picked;
    -- Transactions that schedule a job may take a while to commit. Those that take longer than a minute are found by a caller that begins at the beginning again.
    SELECT least(now_is - interval '1 minute', (SELECT s.run_at FROM job_scheduled s WHERE s.run_at >= since ORDER BY s.run_at LIMIT 1))
    INTO mark;
    RETURN NEXT;
END
$$;

-- As `starling_jobs_trim`, but if somebody else is at it, it leaves that queue and state to them.
CREATE FUNCTION starling_jobs_trim_6(of_tenant text, of_queue text, of_state smallint, kept integer, at_most integer, since timestamptz)
RETURNS TABLE (discarded bigint, mark timestamptz)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    newest_to_go timestamptz;
BEGIN
    discarded := 0;
    mark := since;
    IF pg_try_advisory_xact_lock(hashtextextended(concat_ws(' ', 'starling_jobs_trim', of_state, of_tenant, of_queue), 0)) THEN
        SELECT e.ended_at INTO newest_to_go FROM job_endings e
        WHERE e.tenant = of_tenant COLLATE "C" AND e.queue = of_queue COLLATE "C" AND e.state = of_state AND e.ended_at >= since
        ORDER BY e.ended_at DESC, e.job DESC OFFSET kept LIMIT 1;
        IF newest_to_go IS NOT NULL THEN
            SELECT count(*) INTO discarded FROM starling_jobs_discard(ARRAY(
                SELECT e.job FROM job_endings e
                WHERE e.tenant = of_tenant COLLATE "C" AND e.queue = of_queue COLLATE "C" AND e.state = of_state AND e.ended_at >= since
                ORDER BY e.ended_at DESC, e.job DESC OFFSET kept LIMIT at_most));
            -- As with leases, only a caller that begins at the beginning finds what took longer than a minute to be committed.
            IF discarded < at_most THEN
                mark := least(newest_to_go, clock_timestamp() - interval '1 minute');
            END IF;
        END IF;
    END IF;
    RETURN NEXT;
END
$$;

-- Numbers of nothing that earlier programs have left.
DELETE FROM job_counts WHERE jobs = 0;

-- As `starling_jobs_fold`, and removes the counts that become zero.
CREATE FUNCTION starling_jobs_fold_6(since bigint, at_most integer)
RETURNS TABLE (folded bigint, mark bigint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    z record;
BEGIN
    folded := 0;
    IF pg_try_advisory_xact_lock(x'5374726c4a6f6273'::bigint) THEN
        WITH gone AS (
            DELETE FROM job_count_deltas d USING (
                SELECT o.xid, o.position FROM job_count_deltas o WHERE o.xid >= since ORDER BY o.xid, o.position LIMIT at_most
            ) o
            WHERE d.xid = o.xid AND d.position = o.position
            RETURNING d.queue, d.tenant, d.state, d.jobs
        ), counted AS (
            INSERT INTO job_counts AS c (queue, tenant, state, jobs)
            SELECT g.queue, g.tenant, g.state, sum(g.jobs) FROM gone g GROUP BY 1, 2, 3
            ON CONFLICT (queue, tenant, state) DO UPDATE SET jobs = c.jobs + excluded.jobs
            RETURNING c.queue, c.tenant, c.state, c.jobs
        )
        SELECT (SELECT count(*) FROM gone) AS folded, array_agg(c.queue) AS queues, array_agg(c.tenant) AS tenants, array_agg(c.state) AS states
        INTO z FROM counted c WHERE c.jobs = 0;
        folded := z.folded;
        -- Nobody else changes counts while this has the lock.
        DELETE FROM job_counts c USING unnest(z.queues, z.tenants, z.states) AS o (queue, tenant, state)
        WHERE c.queue = o.queue COLLATE "C" AND c.tenant = o.tenant COLLATE "C" AND c.state = o.state AND c.jobs = 0;
    END IF;
    SELECT least(pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
                 (SELECT d.xid FROM job_count_deltas d WHERE d.xid >= since ORDER BY d.xid, d.position LIMIT 1))
    INTO mark;
    RETURN NEXT;
END
$$;

-- For lists of ended jobs, newest first: most jobs of a queue may be in another state.
CREATE INDEX job_endings_by_job ON job_endings (tenant, queue, state, job);

-- Ready jobs by their ids, for those who cancel and discard them.
CREATE INDEX job_ready_by_job ON job_ready (job);

-- Whether any of these jobs waits.
CREATE FUNCTION starling_jobs_wait_6(ids uuid[])
RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM job_scheduled s WHERE s.job = ANY (ids))
        OR EXISTS (SELECT FROM job_ready r WHERE r.job = ANY (ids))
        OR EXISTS (SELECT FROM job_blocked b WHERE b.job = ANY (ids));
END
$$;

-- As `starling_jobs_cancel_with_blocked`, without reading the backlogs.
CREATE FUNCTION starling_jobs_cancel_6(ids uuid[])
RETURNS TABLE (job uuid, state smallint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    l record;
BEGIN
    -- A job that is made ready, set aside or tried again meanwhile is not where a statement looks for it, but where the next one does.
    FOR look IN 1 .. 3 LOOP
        WITH scheduled AS (
            DELETE FROM job_scheduled s WHERE s.job = ANY (ids) RETURNING s.job, s.queue, s.tenant, 0::smallint AS state
        ), ready AS (
            DELETE FROM job_ready r WHERE r.job = ANY (ids) RETURNING r.job, r.queue, r.tenant, 1::smallint AS state
        ), blocked AS (
            DELETE FROM job_blocked b WHERE b.job = ANY (ids) RETURNING b.job, b.queue, b.tenant, 1::smallint AS state
        ), gone AS MATERIALIZED (
            SELECT * FROM scheduled UNION ALL SELECT * FROM ready UNION ALL SELECT * FROM blocked
        ), endings AS (
            INSERT INTO job_endings (job, queue, tenant, state, ended_at) SELECT g.job, g.queue, g.tenant, 5, clock_timestamp() FROM gone g
        ), unlocked AS (
            DELETE FROM job_keys k USING gone g WHERE k.job = g.job AND k.held <= 1
        )
        INSERT INTO job_count_deltas (queue, tenant, state, jobs)
        SELECT c.queue, c.tenant, c.state, sum(c.jobs)
        FROM (SELECT g.queue, g.tenant, g.state, -1 AS jobs FROM gone g UNION ALL SELECT g.queue, g.tenant, 5, 1 FROM gone g) c
        GROUP BY 1, 2, 3;

        -- In one order, as those who end attempts. An attempt ends before this, or learns of it.
        PERFORM FROM job_running r WHERE r.job = ANY (ids) ORDER BY r.job FOR UPDATE;
        SELECT array_agg(r.job) AS jobs, array_agg(r.generation) AS generations, count(*)::integer AS number INTO l
        FROM job_running r WHERE r.job = ANY (ids) AND r.lease_until IS NOT NULL;
        IF l.number > 0 THEN
            PERFORM FROM starling_jobs_finish_6(
                l.jobs, l.generations, array_fill(4::smallint, ARRAY[l.number]), array_fill(NULL::bigint, ARRAY[l.number]),
                array_fill(NULL::text, ARRAY[l.number]), array_fill(NULL::text, ARRAY[l.number]));
        END IF;
        INSERT INTO job_cancellations (worker, job, generation)
        SELECT r.worker, r.job, r.generation FROM job_running r WHERE r.job = ANY (ids)
        ON CONFLICT (worker, job) DO UPDATE SET generation = excluded.generation;
        EXIT WHEN NOT starling_jobs_wait_6(ids);
    END LOOP;
    RETURN QUERY SELECT s.job, s.state FROM starling_jobs_states(ids) s;
END
$$;

-- As `starling_jobs_discard_waiting_with_blocked`, without reading the backlogs.
CREATE FUNCTION starling_jobs_discard_waiting_6(ids uuid[])
RETURNS TABLE (job uuid)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    -- As in `starling_jobs_cancel_6`.
    FOR look IN 1 .. 3 LOOP
        RETURN QUERY
        WITH scheduled AS (
            DELETE FROM job_scheduled s WHERE s.job = ANY (ids) RETURNING s.job, s.queue, s.tenant, 0::smallint AS state
        ), ready AS (
            DELETE FROM job_ready r WHERE r.job = ANY (ids) RETURNING r.job, r.queue, r.tenant, 1::smallint AS state
        ), blocked AS (
            DELETE FROM job_blocked b WHERE b.job = ANY (ids) RETURNING b.job, b.queue, b.tenant, 1::smallint AS state
        ), gone AS MATERIALIZED (
            SELECT * FROM scheduled UNION ALL SELECT * FROM ready UNION ALL SELECT * FROM blocked
        ), attempts AS (
            DELETE FROM job_attempts a USING gone g WHERE a.job = g.job
        ), unlocked AS (
            DELETE FROM job_keys k USING gone g WHERE k.job = g.job
        ), jobs_gone AS (
            DELETE FROM jobs j USING gone g WHERE j.id = g.job
        ), counted AS (
            INSERT INTO job_count_deltas (queue, tenant, state, jobs)
            SELECT g.queue, g.tenant, g.state, -count(*) FROM gone g GROUP BY 1, 2, 3
        )
        SELECT g.job FROM gone g;
        EXIT WHEN NOT starling_jobs_wait_6(ids);
    END LOOP;
END
$$;
