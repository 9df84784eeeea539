-- Durable jobs. A job has one row in `jobs`, which never changes, and one row in the table of its state: `job_scheduled`, `job_ready`,
-- `job_running` or `job_endings`. A change of state deletes a row there and inserts one here.
--
-- Claims must stay fast while somebody keeps an old snapshot for half an hour, such as a backup. Deleted rows then can't be removed, and a
-- scan from the beginning of an index would read all of them. So a scan begins at a mark: a position below which no row is visible, and
-- none can appear any more. Rows are ordered by the transaction that inserted them (`xid`). No transaction below
-- pg_snapshot_xmin(pg_current_snapshot()) is running, so no row with a lower `xid` can still appear.

-- What a job is, and what is kept of it until it is trimmed.
CREATE TABLE jobs (
    id           uuid PRIMARY KEY,
    tenant       text COLLATE "C" NOT NULL,
    queue        text COLLATE "C" NOT NULL,
    kind         text COLLATE "C" NOT NULL,
    payload      text             NOT NULL,  -- JSON, exactly as it was given
    priority     smallint         NOT NULL,
    attempts_max smallint         NOT NULL,
    backoff_first_ms integer      NOT NULL,
    backoff_max_ms   integer      NOT NULL,
    key          text COLLATE "C",           -- its key, which it takes again when it is retried
    held         smallint,                   -- as in `job_keys`
    run_at       timestamptz(3)   NOT NULL,  -- when it might run first
    created_at   timestamptz(3)   NOT NULL
);

-- For lists, newest first.
CREATE INDEX jobs_by_queue ON jobs (tenant, queue, id);

-- Keys of jobs that must be there only once.
CREATE TABLE job_keys (
    tenant text COLLATE "C" NOT NULL,
    queue  text COLLATE "C" NOT NULL,
    key    text COLLATE "C" NOT NULL,
    job    uuid             NOT NULL UNIQUE,
    held   smallint         NOT NULL,  -- until the job is 0: claimed, 1: ended, 2: trimmed
    PRIMARY KEY (tenant, queue, key)
);

-- Jobs that wait for a time.
CREATE TABLE job_scheduled (
    run_at     timestamptz(3)   NOT NULL,
    job        uuid             NOT NULL UNIQUE,
    queue      text COLLATE "C" NOT NULL,
    tenant     text COLLATE "C" NOT NULL,
    priority   smallint         NOT NULL,
    attempt    smallint         NOT NULL,  -- attempts that were made
    generation integer          NOT NULL,  -- claims that were made
    PRIMARY KEY (run_at, job)
);

-- Jobs that wait for a worker. A backlog is a queue, a tenant and a priority.
CREATE TABLE job_ready (
    queue      text COLLATE "C" NOT NULL,
    tenant     text COLLATE "C" NOT NULL,
    priority   smallint         NOT NULL,
    xid        bigint           NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    position   bigint           GENERATED ALWAYS AS IDENTITY,
    job        uuid             NOT NULL,
    attempt    smallint         NOT NULL,
    generation integer          NOT NULL,
    ready_at   timestamptz(3)   NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (queue, tenant, priority, xid, position)
);

CREATE INDEX job_ready_by_arrival ON job_ready (xid);

-- Jobs that a worker has. A completion must name the generation, so that a worker that was taken for dead can't finish a job that another
-- one has claimed since.
CREATE TABLE job_running (
    job         uuid PRIMARY KEY,
    generation  integer          NOT NULL,
    attempt     smallint         NOT NULL,  -- this attempt included
    queue       text COLLATE "C" NOT NULL,
    tenant      text COLLATE "C" NOT NULL,
    priority    smallint         NOT NULL,
    worker      uuid             NOT NULL,
    worker_name text             NOT NULL,
    lease_until timestamptz(3),             -- null: until the worker is dead
    started_at  timestamptz(3)   NOT NULL
) WITH (fillfactor = 80);

CREATE INDEX job_running_by_worker ON job_running (worker);
CREATE INDEX job_running_by_lease ON job_running (lease_until) WHERE lease_until IS NOT NULL;

-- Running jobs that shall stop. Their workers read this with their beats.
CREATE TABLE job_cancellations (
    worker     uuid    NOT NULL,
    job        uuid    NOT NULL,
    generation integer NOT NULL,
    PRIMARY KEY (worker, job)
);

-- What became of each attempt.
CREATE TABLE job_attempts (
    job        uuid           NOT NULL,
    generation integer        NOT NULL,
    attempt    smallint       NOT NULL,
    worker     uuid           NOT NULL,
    worker_name text          NOT NULL,
    started_at timestamptz(3) NOT NULL,
    ended_at   timestamptz(3) NOT NULL,
    outcome    smallint       NOT NULL,  -- 0: done, 1: failed, 2: the worker was lost, 3: handed back, 4: cancelled
    error      text,
    PRIMARY KEY (job, generation)
);

-- Jobs that have ended.
CREATE TABLE job_endings (
    job      uuid PRIMARY KEY,
    queue    text COLLATE "C" NOT NULL,
    tenant   text COLLATE "C" NOT NULL,
    state    smallint         NOT NULL,  -- 3: done, 4: failed, 5: cancelled
    ended_at timestamptz(3)   NOT NULL,
    result   text                        -- JSON, exactly as it was given
);

CREATE INDEX job_endings_by_time ON job_endings (tenant, queue, state, ended_at, job);

-- Those who work, each with the time of its newest beat.
CREATE TABLE job_workers (
    id      uuid PRIMARY KEY,
    node    text        NOT NULL,
    seen_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Queues that somebody has paused.
CREATE TABLE job_pauses (
    tenant text COLLATE "C" NOT NULL,
    queue  text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, queue)
);

-- The number of jobs by state (0: scheduled, 1: ready, 2: running, 3: done, 4: failed, 5: cancelled). Each change of state inserts a delta,
-- so that no row is written by everybody. Deltas are added to the counts from time to time.
CREATE TABLE job_counts (
    queue  text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    state  smallint         NOT NULL,
    jobs   bigint           NOT NULL,
    PRIMARY KEY (queue, tenant, state)
) WITH (fillfactor = 50);

CREATE TABLE job_count_deltas (
    xid      bigint           NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    position bigint           GENERATED ALWAYS AS IDENTITY,
    queue    text COLLATE "C" NOT NULL,
    tenant   text COLLATE "C" NOT NULL,
    state    smallint         NOT NULL,
    jobs     bigint           NOT NULL,
    PRIMARY KEY (xid, position)
);

-- Small tables with many deletions must be cleaned often.
ALTER TABLE job_scheduled SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE job_ready SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE job_running SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE job_count_deltas SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- Adds jobs. The answer has a row for each: the job that is there now, and whether it was added. It is another job if that one holds the key.
-- A job that was added before is not added again, so a caller may repeat the call.
CREATE FUNCTION starling_jobs_enqueue(
    ids uuid[], tenants text[], queues text[], kinds text[], payloads text[], priorities smallint[], run_ats timestamptz[],
    attempts_maxs smallint[], backoff_firsts integer[], backoff_maxs integer[], keys text[], helds smallint[])
RETURNS TABLE (item bigint, job uuid, added boolean)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    -- In one order, so that two callers with the same keys can't deadlock. This waits for a caller that is inserting the same key.
    INSERT INTO job_keys (tenant, queue, key, job, held)
    SELECT DISTINCT ON (g.tenant COLLATE "C", g.queue COLLATE "C", g.key COLLATE "C") g.tenant, g.queue, g.key, g.id, g.held
    FROM unnest(ids, tenants, queues, keys, helds) WITH ORDINALITY AS g (id, tenant, queue, key, held, item)
    WHERE g.key IS NOT NULL AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = g.id)
    ORDER BY g.tenant COLLATE "C", g.queue COLLATE "C", g.key COLLATE "C", g.item
    ON CONFLICT DO NOTHING;

    -- A statement of its own, which sees the keys that were inserted while the first one waited.
    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT g.*, g.run_at IS NULL OR g.run_at <= clock_timestamp() AS due,
               CASE WHEN g.key IS NULL OR EXISTS (SELECT FROM jobs j WHERE j.id = g.id) THEN g.id ELSE coalesce(holder.job, g.id) END AS holder
        FROM unnest(ids, tenants, queues, kinds, payloads, priorities, run_ats, attempts_maxs, backoff_firsts, backoff_maxs, keys, helds)
             WITH ORDINALITY AS g (id, tenant, queue, kind, payload, priority, run_at, attempts_max, backoff_first, backoff_max, key, held, item)
        LEFT JOIN LATERAL (
            SELECT k.job FROM job_keys k
            WHERE k.tenant = g.tenant COLLATE "C" AND k.queue = g.queue COLLATE "C" AND k.key = g.key COLLATE "C" LIMIT 1
        ) holder ON true
    ), added AS (
        INSERT INTO jobs (id, tenant, queue, kind, payload, priority, attempts_max, backoff_first_ms, backoff_max_ms, key, held, run_at, created_at)
        SELECT g.id, g.tenant, g.queue, g.kind, g.payload, g.priority, g.attempts_max, g.backoff_first, g.backoff_max, g.key, g.held,
               coalesce(g.run_at, clock_timestamp()), clock_timestamp()
        FROM given g WHERE g.holder = g.id ORDER BY g.item
        ON CONFLICT DO NOTHING
        RETURNING id
    ), new AS MATERIALIZED (
        SELECT g.* FROM given g JOIN added a ON a.id = g.id
    ), ready AS (
        INSERT INTO job_ready (queue, tenant, priority, job, attempt, generation)
        SELECT n.queue, n.tenant, n.priority, n.id, 0, 0 FROM new n WHERE n.due ORDER BY n.item
    ), scheduled AS (
        INSERT INTO job_scheduled (run_at, job, queue, tenant, priority, attempt, generation)
        SELECT n.run_at, n.id, n.queue, n.tenant, n.priority, 0, 0 FROM new n WHERE NOT n.due
    ), counted AS (
        INSERT INTO job_count_deltas (queue, tenant, state, jobs)
        SELECT n.queue, n.tenant, n.due::integer, count(*) FROM new n GROUP BY 1, 2, 3
    )
    SELECT g.item, g.holder, EXISTS (SELECT FROM added a WHERE a.id = g.id) FROM given g;
END
$$;

-- Returns the backlogs in which jobs have become ready since a mark, each with its first job, and then a row without a backlog: the next mark.
CREATE FUNCTION starling_jobs_arrivals(since bigint)
RETURNS TABLE (queue text, tenant text, priority smallint, xid bigint, "position" bigint, ready_at timestamptz)
LANGUAGE sql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
    (SELECT DISTINCT ON (r.queue, r.tenant, r.priority) r.queue, r.tenant, r.priority, r.xid, r.position, r.ready_at
     FROM job_ready r WHERE r.xid >= since
     ORDER BY r.queue, r.tenant, r.priority, r.xid, r.position)
    UNION ALL
    SELECT NULL, NULL, NULL, pg_snapshot_xmin(pg_current_snapshot())::text::bigint, 0, NULL
$$;

-- Gives a worker the next jobs of some backlogs. For each backlog the answer has a row per job, and then a row without a job: the backlog's next mark,
-- and since when its first job that is still there has been ready. Only a claim without a lease needs a worker that is listed.
CREATE FUNCTION starling_jobs_claim(
    claimer uuid, claimer_name text, lease_ms bigint, queues text[], tenants text[], priorities smallint[], xids bigint[], positions bigint[], limits integer[])
RETURNS TABLE (
    backlog integer, job uuid, generation integer, attempt smallint, kind text, payload text, attempts_max smallint,
    backoff_first_ms integer, backoff_max_ms integer, xid bigint, "position" bigint, ready_at timestamptz, lease_until timestamptz)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    until timestamptz(3) := clock_timestamp() + lease_ms * interval '1 millisecond';
BEGIN
    IF lease_ms IS NULL THEN
        -- Holds off a burial of this worker until this transaction ends. A worker that was buried gets an empty answer.
        PERFORM FROM job_workers w WHERE w.id = claimer FOR KEY SHARE;
        IF NOT FOUND THEN
            RETURN;
        END IF;
    END IF;
    FOR backlog IN 1 .. coalesce(array_length(queues, 1), 0) LOOP
        IF NOT EXISTS (SELECT FROM job_pauses p WHERE p.tenant = tenants[backlog] COLLATE "C" AND p.queue = queues[backlog] COLLATE "C") THEN
            RETURN QUERY
            WITH picked AS MATERIALIZED (
                SELECT r.ctid AS place, r.job, r.attempt, r.generation, r.ready_at, r.xid, r.position FROM job_ready r
                WHERE r.queue = queues[backlog] COLLATE "C" AND r.tenant = tenants[backlog] COLLATE "C" AND r.priority = priorities[backlog]
                  AND (r.xid, r.position) >= (xids[backlog], positions[backlog])
                ORDER BY r.xid, r.position LIMIT limits[backlog] FOR UPDATE SKIP LOCKED
            ), gone AS (
                DELETE FROM job_ready r USING picked p WHERE r.ctid = p.place
            ), running AS (
                INSERT INTO job_running (job, generation, attempt, queue, tenant, priority, worker, worker_name, lease_until, started_at)
                SELECT p.job, p.generation + 1, p.attempt + 1, queues[backlog], tenants[backlog], priorities[backlog], claimer, claimer_name,
                       until, clock_timestamp()
                FROM picked p
            ), unlocked AS (
                DELETE FROM job_keys k USING picked p WHERE k.job = p.job AND k.held = 0
            ), counted AS (
                INSERT INTO job_count_deltas (queue, tenant, state, jobs)
                SELECT queues[backlog], tenants[backlog], c.state, c.sign * (SELECT count(*) FROM picked)
                FROM (VALUES (1::smallint, -1), (2::smallint, 1)) AS c (state, sign) WHERE EXISTS (SELECT FROM picked)
            )
            SELECT backlog, p.job, p.generation + 1, (p.attempt + 1)::smallint, j.kind, j.payload, j.attempts_max,
                   j.backoff_first_ms, j.backoff_max_ms, p.xid, p.position, p.ready_at, until
            FROM picked p JOIN jobs j ON j.id = p.job ORDER BY p.xid, p.position;
        END IF;

        -- A statement of its own, which does not see the rows that were just deleted. It does see rows that another worker is deleting, since
        -- that worker may still roll back.
        RETURN QUERY
        SELECT backlog, NULL::uuid, NULL::integer, NULL::smallint, NULL::text, NULL::text, NULL::smallint, NULL::integer, NULL::integer,
               least(f.xid, s.xmin), CASE WHEN f.xid <= s.xmin THEN f.position ELSE 0 END, f.ready_at, NULL::timestamptz
        FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xmin) s
        LEFT JOIN LATERAL (
            SELECT r.xid, r.position, r.ready_at FROM job_ready r
            WHERE r.queue = queues[backlog] COLLATE "C" AND r.tenant = tenants[backlog] COLLATE "C" AND r.priority = priorities[backlog]
              AND (r.xid, r.position) >= (xids[backlog], positions[backlog])
            ORDER BY r.xid, r.position LIMIT 1
        ) f ON true;
    END LOOP;
END
$$;

-- Ends attempts. Outcomes: 0 done, 1 failed, 2 the worker was lost, 3 handed back, 4 cancelled. `delays`: milliseconds until the next attempt
-- of a job that failed, or null if there is none. The answer has a row for each: the state that the job has now, or null if it was no longer
-- running in this generation, or its lease was over, and then nothing has changed.
CREATE FUNCTION starling_jobs_finish(
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
    SELECT g.item, e.state FROM given g LEFT JOIN ended e ON e.item = g.item;
END
$$;

-- Makes jobs ready whose time has come. Returns how many, and a time before which no job is scheduled any more.
CREATE FUNCTION starling_jobs_promote(since timestamptz, at_most integer)
RETURNS TABLE (promoted bigint, mark timestamptz)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    WITH picked AS MATERIALIZED (
        SELECT s.* FROM job_scheduled s WHERE s.run_at >= since AND s.run_at <= clock_timestamp()
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
    -- Transactions that schedule a job may take a while to commit, but no longer than a minute.
    SELECT least(clock_timestamp() - interval '1 minute', (SELECT s.run_at FROM job_scheduled s WHERE s.run_at >= since ORDER BY s.run_at LIMIT 1))
    INTO mark;
    RETURN NEXT;
END
$$;

-- Takes the jobs of dead workers away from them: of workers without a beat for this long, and of leases that are over. An attempt that was
-- lost counts. Returns the numbers of dead workers and of lost attempts, and a time before which no lease ends any more.
CREATE FUNCTION starling_jobs_bury(silent_ms bigint, leases_since timestamptz)
RETURNS TABLE (workers bigint, lost bigint, mark timestamptz)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    dead uuid[];
BEGIN
    -- A claim locks its worker's row. So a worker that is claiming is not buried, and a buried one can't claim.
    WITH silent AS MATERIALIZED (
        SELECT w.id FROM job_workers w WHERE w.seen_at < clock_timestamp() - silent_ms * interval '1 millisecond' FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM job_workers w USING silent s WHERE w.id = s.id RETURNING w.id
    )
    SELECT coalesce(array_agg(g.id), '{}'), count(*) INTO dead, workers FROM gone g;

    SELECT count(f.state) INTO lost FROM (
        SELECT array_agg(r.job) AS ids, array_agg(r.generation) AS generations,
               array_agg(CASE WHEN r.attempt < j.attempts_max THEN 0 END::bigint) AS delays, count(*) AS jobs
        FROM job_running r JOIN jobs j ON j.id = r.job
        WHERE r.worker = ANY (dead) AND r.lease_until IS NULL
           OR r.lease_until >= leases_since AND r.lease_until < clock_timestamp()
    ) l, LATERAL starling_jobs_finish(
        l.ids, l.generations, array_fill(2::smallint, ARRAY[l.jobs::integer]), l.delays,
        array_fill(NULL::text, ARRAY[l.jobs::integer]), array_fill('the worker was lost'::text, ARRAY[l.jobs::integer])) f
    WHERE l.jobs > 0;

    -- Transactions that give a lease may take a while to commit, but no longer than a minute.
    SELECT least(clock_timestamp() - interval '1 minute',
                 (SELECT r.lease_until FROM job_running r WHERE r.lease_until >= leases_since ORDER BY r.lease_until LIMIT 1))
    INTO mark;
    RETURN NEXT;
END
$$;

-- Cancels jobs. A job that runs with a lease loses it; one that runs without is asked to stop. The answer has a row for each job that there is:
-- the state that it has now.
CREATE FUNCTION starling_jobs_cancel(ids uuid[])
RETURNS TABLE (job uuid, state smallint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    WITH scheduled AS (
        DELETE FROM job_scheduled s WHERE s.job = ANY (ids) RETURNING s.job, s.queue, s.tenant, 0::smallint AS state
    ), backlogs AS MATERIALIZED (
        SELECT DISTINCT j.queue, j.tenant, j.priority FROM jobs j WHERE j.id = ANY (ids)
    ), ready AS (
        DELETE FROM job_ready r USING backlogs l
        WHERE r.queue = l.queue AND r.tenant = l.tenant AND r.priority = l.priority AND r.job = ANY (ids)
        RETURNING r.job, r.queue, r.tenant, 1::smallint AS state
    ), gone AS MATERIALIZED (
        SELECT * FROM scheduled UNION ALL SELECT * FROM ready
    ), endings AS (
        INSERT INTO job_endings (job, queue, tenant, state, ended_at) SELECT g.job, g.queue, g.tenant, 5, clock_timestamp() FROM gone g
    ), unlocked AS (
        DELETE FROM job_keys k USING gone g WHERE k.job = g.job AND k.held <= 1
    )
    INSERT INTO job_count_deltas (queue, tenant, state, jobs)
    SELECT c.queue, c.tenant, c.state, sum(c.jobs)
    FROM (SELECT g.queue, g.tenant, g.state, -1 AS jobs FROM gone g UNION ALL SELECT g.queue, g.tenant, 5, 1 FROM gone g) c
    GROUP BY 1, 2, 3;

    -- A statement of its own, which sees the jobs that a worker claimed in the meantime.
    PERFORM FROM (
        SELECT array_agg(r.job) AS jobs, array_agg(r.generation) AS generations, count(*) AS number
        FROM job_running r WHERE r.job = ANY (ids) AND r.lease_until IS NOT NULL
    ) l, LATERAL starling_jobs_finish(
        l.jobs, l.generations, array_fill(4::smallint, ARRAY[l.number::integer]), array_fill(NULL::bigint, ARRAY[l.number::integer]),
        array_fill(NULL::text, ARRAY[l.number::integer]), array_fill(NULL::text, ARRAY[l.number::integer])) f
    WHERE l.number > 0;

    INSERT INTO job_cancellations (worker, job, generation)
    SELECT r.worker, r.job, r.generation FROM job_running r WHERE r.job = ANY (ids)
    ON CONFLICT (worker, job) DO UPDATE SET generation = excluded.generation;

    RETURN QUERY SELECT s.job, s.state FROM starling_jobs_states(ids) s;
END
$$;

-- Returns the states of those of these jobs that there are.
CREATE FUNCTION starling_jobs_states(ids uuid[])
RETURNS TABLE (job uuid, state smallint)
LANGUAGE sql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
    SELECT j.id, coalesce(
        (SELECT e.state FROM job_endings e WHERE e.job = j.id),
        (SELECT 2 FROM job_running r WHERE r.job = j.id),
        (SELECT 0 FROM job_scheduled s WHERE s.job = j.id),
        1)::smallint
    FROM jobs j WHERE j.id = ANY (ids)
$$;

-- Starts jobs that failed or were cancelled once more, with all their attempts before them. A job whose key another one has by now stays as it
-- is. Returns those that were started.
CREATE FUNCTION starling_jobs_retry(ids uuid[])
RETURNS TABLE (job uuid)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    -- In one order, so that two callers can't deadlock. Nobody else starts or removes these jobs until this transaction ends.
    PERFORM FROM job_endings e WHERE e.job = ANY (ids) AND e.state IN (4, 5) ORDER BY e.job FOR UPDATE;

    INSERT INTO job_keys (tenant, queue, key, job, held)
    SELECT DISTINCT ON (j.tenant, j.queue, j.key) j.tenant, j.queue, j.key, j.id, j.held
    FROM jobs j JOIN job_endings e ON e.job = j.id
    WHERE j.id = ANY (ids) AND j.key IS NOT NULL AND e.state IN (4, 5)
    ORDER BY j.tenant, j.queue, j.key, j.id
    ON CONFLICT DO NOTHING;

    RETURN QUERY
    WITH gone AS (
        DELETE FROM job_endings e USING jobs j
        WHERE e.job = ANY (ids) AND e.state IN (4, 5) AND j.id = e.job AND (j.key IS NULL OR EXISTS (
            SELECT FROM job_keys k WHERE k.tenant = j.tenant AND k.queue = j.queue AND k.key = j.key AND k.job = j.id))
        RETURNING e.job, e.queue, e.tenant, e.state, j.priority
    ), ready AS (
        INSERT INTO job_ready (queue, tenant, priority, job, attempt, generation)
        SELECT g.queue, g.tenant, g.priority, g.job, 0, coalesce((SELECT max(a.generation) FROM job_attempts a WHERE a.job = g.job), 0)
        FROM gone g ORDER BY g.job
    ), counted AS (
        INSERT INTO job_count_deltas (queue, tenant, state, jobs)
        SELECT c.queue, c.tenant, c.state, sum(c.jobs)
        FROM (SELECT g.queue, g.tenant, g.state, -1 AS jobs FROM gone g UNION ALL SELECT g.queue, g.tenant, 1, 1 FROM gone g) c
        GROUP BY 1, 2, 3
    )
    SELECT g.job FROM gone g;
END
$$;

-- Removes jobs that have ended. Returns those that were removed.
CREATE FUNCTION starling_jobs_discard(ids uuid[])
RETURNS TABLE (job uuid)
LANGUAGE sql VOLATILE
AS $$
    WITH gone AS (
        DELETE FROM job_endings e WHERE e.job = ANY (ids) RETURNING e.job, e.queue, e.tenant, e.state
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
    SELECT g.job FROM gone g
$$;

-- Removes jobs that wait. Returns those that were removed.
CREATE FUNCTION starling_jobs_discard_waiting(ids uuid[])
RETURNS TABLE (job uuid)
LANGUAGE sql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
    WITH scheduled AS (
        DELETE FROM job_scheduled s WHERE s.job = ANY (ids) RETURNING s.job, s.queue, s.tenant, 0::smallint AS state
    ), backlogs AS MATERIALIZED (
        SELECT DISTINCT j.queue, j.tenant, j.priority FROM jobs j WHERE j.id = ANY (ids)
    ), ready AS (
        DELETE FROM job_ready r USING backlogs l
        WHERE r.queue = l.queue AND r.tenant = l.tenant AND r.priority = l.priority AND r.job = ANY (ids)
        RETURNING r.job, r.queue, r.tenant, 1::smallint AS state
    ), gone AS MATERIALIZED (
        SELECT * FROM scheduled UNION ALL SELECT * FROM ready
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
    SELECT g.job FROM gone g
$$;

-- Discards jobs of one queue of a tenant that ended in one state before all but the newest `kept`, at most `at_most` of them, and none that ended before
-- `since`. Returns how many, and a time before which no such job is left.
CREATE FUNCTION starling_jobs_trim(of_tenant text, of_queue text, of_state smallint, kept integer, at_most integer, since timestamptz)
RETURNS TABLE (discarded bigint, mark timestamptz)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    newest_to_go timestamptz;
BEGIN
    SELECT e.ended_at INTO newest_to_go FROM job_endings e
    WHERE e.tenant = of_tenant COLLATE "C" AND e.queue = of_queue COLLATE "C" AND e.state = of_state AND e.ended_at >= since
    ORDER BY e.ended_at DESC, e.job DESC OFFSET kept LIMIT 1;
    IF newest_to_go IS NULL THEN
        discarded := 0;
        mark := since;
    ELSE
        SELECT count(*) INTO discarded FROM starling_jobs_discard(ARRAY(
            SELECT e.job FROM job_endings e
            WHERE e.tenant = of_tenant COLLATE "C" AND e.queue = of_queue COLLATE "C" AND e.state = of_state AND e.ended_at >= since
            ORDER BY e.ended_at DESC, e.job DESC OFFSET kept LIMIT at_most));
        -- Transactions that end a job may take a while to commit, but no longer than a minute.
        mark := CASE WHEN discarded < at_most THEN least(newest_to_go, clock_timestamp() - interval '1 minute') ELSE since END;
    END IF;
    RETURN NEXT;
END
$$;

-- Adds deltas to the counts, at most `at_most` of them. Only one caller does it at a time. Returns how many, and the next mark.
CREATE FUNCTION starling_jobs_fold(since bigint, at_most integer)
RETURNS TABLE (folded bigint, mark bigint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
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
        )
        SELECT count(*) INTO folded FROM gone;
    END IF;
    SELECT least(pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
                 (SELECT d.xid FROM job_count_deltas d WHERE d.xid >= since ORDER BY d.xid, d.position LIMIT 1))
    INTO mark;
    RETURN NEXT;
END
$$;
