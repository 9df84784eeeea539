-- Limits of queues: how many jobs run at the same time over all nodes, and how many begin per second, in all, of each tenant, and of each concurrency key
-- of a tenant.
--
-- A claim learns with one look whether any of its queues has limits. Only then it locks the row of the queue's limits, so that such claims follow one
-- another, and counts the running jobs in `job_running`: no count is kept that could go wrong. A job whose key has no place is set aside in `job_blocked`,
-- so that later claims don't meet it again. For the API it is still ready.

-- Rates are jobs in 1,000 seconds. Null: no such limit. The last two columns are marks, as the first migration describes them: no running job that is counted, and
-- no turn, has a lower `xid`. So claims stay fast while deleted rows can't be removed.
CREATE TABLE job_limits (
    queue              text COLLATE "C" PRIMARY KEY,
    total_concurrency  integer,
    total_rate         integer,
    total_burst        integer,
    tenant_concurrency integer,
    tenant_rate        integer,
    tenant_burst       integer,
    key_concurrency    integer,
    key_rate           integer,
    key_burst          integer,
    running_since      bigint NOT NULL DEFAULT 0,
    turns_since        bigint NOT NULL DEFAULT 0
);

-- Rates, as the times at which they are whole again (GCRA's theoretical arrival time), microseconds since 1970. A rate without a row is whole.
CREATE TABLE job_rates (
    queue  text COLLATE "C" NOT NULL,
    scope  smallint         NOT NULL,  -- 0: the queue, 1: a tenant, 2: a key
    tenant text COLLATE "C" NOT NULL,  -- empty for the queue
    key    text COLLATE "C" NOT NULL,  -- empty but for a key
    due_us bigint           NOT NULL,
    PRIMARY KEY (queue, scope, tenant, key)
) WITH (fillfactor = 50);

-- Which jobs have no more than so many at once: the customer's account, for example.
ALTER TABLE jobs ADD COLUMN concurrency_key text COLLATE "C";

-- `limited_xid`: the transaction since which limits count it, if they do. `concurrency_key`: its key, if keys have limits.
ALTER TABLE job_running ADD COLUMN limited_xid bigint, ADD COLUMN concurrency_key text COLLATE "C";
CREATE INDEX job_running_by_queue ON job_running (queue, limited_xid) WHERE limited_xid IS NOT NULL;
CREATE INDEX job_running_by_tenant ON job_running (queue, tenant, limited_xid) WHERE limited_xid IS NOT NULL;
CREATE INDEX job_running_by_key ON job_running (queue, tenant, concurrency_key, limited_xid)
    WHERE limited_xid IS NOT NULL AND concurrency_key IS NOT NULL;

-- Ready jobs that wait for a place of their key, with their places in `job_ready`.
CREATE TABLE job_blocked (
    queue          text COLLATE "C" NOT NULL,
    tenant         text COLLATE "C" NOT NULL,
    key            text COLLATE "C" NOT NULL,
    priority       smallint         NOT NULL,
    ready_xid      bigint           NOT NULL,
    ready_position bigint           NOT NULL,
    job            uuid             NOT NULL UNIQUE,
    attempt        smallint         NOT NULL,
    generation     integer          NOT NULL,
    ready_at       timestamptz(3)   NOT NULL,
    xid            bigint           NOT NULL DEFAULT pg_current_xact_id()::text::bigint,  -- that set it aside
    PRIMARY KEY (queue, tenant, key, priority, ready_xid, ready_position)
);

CREATE INDEX job_blocked_by_backlog ON job_blocked (queue, tenant, priority, ready_xid, ready_position);
CREATE INDEX job_blocked_by_arrival ON job_blocked (xid);

-- Keys that may have a place for one of their blocked jobs, from this time on. Whoever ends a job adds a row and looks at nothing; claims of the queue, which
-- follow one another, take them out. So no key is missed, and nobody who ends a job waits.
CREATE TABLE job_key_turns (
    position bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue    text COLLATE "C" NOT NULL,
    tenant   text COLLATE "C" NOT NULL,
    key      text COLLATE "C" NOT NULL,
    due_us   bigint           NOT NULL DEFAULT 0,
    xid      bigint           NOT NULL DEFAULT pg_current_xact_id()::text::bigint
);

CREATE INDEX job_key_turns_by_tenant ON job_key_turns (queue, tenant, xid);

ALTER TABLE job_blocked SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE job_key_turns SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- A trigger adds the turn, since jobs end in several ways, and nodes of the version before do not.
CREATE FUNCTION starling_jobs_note_turn()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF EXISTS (SELECT FROM job_limits l WHERE l.queue = OLD.queue) THEN
        INSERT INTO job_key_turns (queue, tenant, key) VALUES (OLD.queue, OLD.tenant, OLD.concurrency_key);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER job_key_turns_are_noted AFTER DELETE ON job_running
FOR EACH ROW WHEN (OLD.concurrency_key IS NOT NULL) EXECUTE FUNCTION starling_jobs_note_turn();

-- As `starling_jobs_enqueue`, for jobs of which some have concurrency keys.
CREATE FUNCTION starling_jobs_enqueue_with_keys(
    ids uuid[], tenants text[], queues text[], kinds text[], payloads text[], priorities smallint[], run_ats timestamptz[],
    attempts_maxs smallint[], backoff_firsts integer[], backoff_maxs integer[], keys text[], helds smallint[], concurrency_keys text[])
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
        FROM unnest(ids, tenants, queues, kinds, payloads, priorities, run_ats, attempts_maxs, backoff_firsts, backoff_maxs, keys, helds, concurrency_keys)
             WITH ORDINALITY AS g (
                id, tenant, queue, kind, payload, priority, run_at, attempts_max, backoff_first, backoff_max, key, held, concurrency_key, item)
        LEFT JOIN LATERAL (
            SELECT k.job FROM job_keys k
            WHERE k.tenant = g.tenant COLLATE "C" AND k.queue = g.queue COLLATE "C" AND k.key = g.key COLLATE "C" LIMIT 1
        ) holder ON true
    ), added AS (
        INSERT INTO jobs (id, tenant, queue, kind, payload, priority, attempts_max, backoff_first_ms, backoff_max_ms, key, held, run_at, created_at,
                          concurrency_key)
        SELECT g.id, g.tenant, g.queue, g.kind, g.payload, g.priority, g.attempts_max, g.backoff_first, g.backoff_max, g.key, g.held,
               coalesce(g.run_at, clock_timestamp()), clock_timestamp(), g.concurrency_key
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

-- Returns the backlogs in which jobs have become ready since a mark, as `starling_jobs_arrivals` does, and those in which jobs were set aside.
CREATE FUNCTION starling_jobs_arrivals_within_limits(since bigint)
RETURNS TABLE (queue text, tenant text, priority smallint, xid bigint, "position" bigint, ready_at timestamptz)
LANGUAGE sql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
    (SELECT DISTINCT ON (a.queue, a.tenant, a.priority) a.queue, a.tenant, a.priority, a.xid, a.position, a.ready_at
     FROM (SELECT r.queue, r.tenant, r.priority, r.xid, r.position, r.ready_at FROM job_ready r WHERE r.xid >= since
           UNION ALL
           SELECT b.queue, b.tenant, b.priority, since, 0, b.ready_at FROM job_blocked b WHERE b.xid >= since) a
     ORDER BY a.queue, a.tenant, a.priority, a.xid, a.position)
    UNION ALL
    SELECT NULL, NULL, NULL, pg_snapshot_xmin(pg_current_snapshot())::text::bigint, 0, NULL
$$;

-- Returns how many jobs a rate lets begin now, and from when on one may begin.
CREATE FUNCTION starling_limits_allowance(
    of_queue text, of_scope smallint, of_tenant text, of_key text, rate integer, burst integer, now_us bigint, OUT allowed bigint, OUT next_us bigint)
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    interval_us bigint := (1000000000::bigint + rate - 1) / rate;
    whole_us bigint := (SELECT r.due_us FROM job_rates r
        WHERE r.queue = of_queue COLLATE "C" AND r.scope = of_scope AND r.tenant = of_tenant COLLATE "C" AND r.key = of_key COLLATE "C");
BEGIN
    -- No more is owed than a burst, should the clock have been set back.
    whole_us := least(greatest(coalesce(whole_us, now_us), now_us), now_us + burst * interval_us);
    allowed := (burst * interval_us - (whole_us - now_us)) / interval_us;
    next_us := whole_us - (burst - 1) * interval_us;
END
$$;

-- Takes note that jobs have begun that a rate counts.
CREATE FUNCTION starling_limits_charge(
    of_queue text, of_scope smallint, of_tenant text, of_key text, rate integer, burst integer, now_us bigint, jobs integer)
RETURNS void
LANGUAGE sql VOLATILE
AS $$
    INSERT INTO job_rates AS r (queue, scope, tenant, key, due_us)
    VALUES (of_queue, of_scope, of_tenant, of_key, now_us + jobs * ((1000000000::bigint + rate - 1) / rate))
    ON CONFLICT (queue, scope, tenant, key) DO UPDATE
    SET due_us = least(greatest(r.due_us, now_us), now_us + burst * ((1000000000::bigint + rate - 1) / rate))
        + jobs * ((1000000000::bigint + rate - 1) / rate)
$$;

-- Returns how many jobs of a key may begin now, and, if its rate lets none begin, from when on one may.
CREATE FUNCTION starling_limits_key_places(l job_limits, of_tenant text, of_key text, now_us bigint, OUT places integer, OUT next_us bigint)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    a record;
BEGIN
    places := 2147483647;
    IF l.key_concurrency IS NOT NULL THEN
        places := l.key_concurrency - (SELECT count(*) FROM job_running r
            WHERE r.queue = l.queue AND r.tenant = of_tenant COLLATE "C" AND r.concurrency_key = of_key COLLATE "C" AND r.limited_xid >= l.running_since);
    END IF;
    IF l.key_rate IS NOT NULL AND places > 0 THEN
        SELECT * INTO a FROM starling_limits_allowance(l.queue, 2::smallint, of_tenant, of_key, l.key_rate, l.key_burst, now_us);
        places := least(places, a.allowed);
        IF places <= 0 THEN
            next_us := a.next_us;
        END IF;
    END IF;
END
$$;

-- Gives a worker one job of a queue with limits.
CREATE FUNCTION starling_limits_begin(
    l job_limits, id uuid, of_generation integer, of_attempt smallint, of_tenant text, of_priority smallint, of_key text,
    claimer uuid, claimer_name text, until timestamptz, now_us bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
BEGIN
    INSERT INTO job_running (job, generation, attempt, queue, tenant, priority, worker, worker_name, lease_until, started_at, limited_xid, concurrency_key)
    VALUES (id, of_generation, of_attempt, l.queue, of_tenant, of_priority, claimer, claimer_name, until, clock_timestamp(),
            pg_current_xact_id()::text::bigint, of_key);
    DELETE FROM job_keys k WHERE k.job = id AND k.held = 0;
    IF of_key IS NOT NULL AND l.key_rate IS NOT NULL THEN
        PERFORM starling_limits_charge(l.queue, 2::smallint, of_tenant, of_key, l.key_rate, l.key_burst, now_us, 1);
    END IF;
END
$$;

-- Gives a worker the next jobs of a backlog of a queue with limits, whose row the caller has locked. The answer has a row per job, and then a row without one: how
-- many jobs were set aside, and in how many milliseconds to ask again if limits let no more begin; 0: when a job ends.
CREATE FUNCTION starling_limits_claim(
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
    IF free > 0 THEN
        DELETE FROM job_key_turns u
        WHERE u.queue = l.queue AND u.tenant = of_tenant COLLATE "C" AND u.xid >= l.turns_since AND u.due_us <= now_us AND NOT EXISTS (
            SELECT FROM job_blocked b WHERE b.queue = u.queue AND b.tenant = u.tenant AND b.key = u.key);
        FOR turn IN
            SELECT u.key, min(u.position) AS first FROM job_key_turns u
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
                DELETE FROM job_key_turns u
                WHERE u.queue = l.queue AND u.tenant = of_tenant COLLATE "C" AND u.xid >= l.turns_since AND u.key = turn.key AND u.due_us <= now_us;
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

-- Gives a worker the next jobs of some backlogs, as `starling_jobs_claim` does, within the limits of their queues. Of queues without limits it takes them in the
-- same way as that. The last columns are in the rows without a job: see `starling_limits_claim`.
CREATE FUNCTION starling_jobs_claim_within_limits(
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
                        FROM starling_limits_claim(
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

-- Makes blocked jobs ready as others are, so that they can be cancelled and discarded like those.
CREATE FUNCTION starling_limits_set_back(ids uuid[])
RETURNS void
LANGUAGE sql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
    WITH gone AS (
        DELETE FROM job_blocked b WHERE b.job = ANY (ids)
        RETURNING b.queue, b.tenant, b.priority, b.job, b.attempt, b.generation, b.ready_at, b.ready_xid, b.ready_position
    )
    INSERT INTO job_ready (queue, tenant, priority, job, attempt, generation, ready_at)
    SELECT g.queue, g.tenant, g.priority, g.job, g.attempt, g.generation, g.ready_at FROM gone g ORDER BY g.ready_xid, g.ready_position
$$;

-- As `starling_jobs_cancel`, blocked jobs included.
CREATE FUNCTION starling_jobs_cancel_with_blocked(ids uuid[])
RETURNS TABLE (job uuid, state smallint)
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM starling_limits_set_back(ids);
    RETURN QUERY SELECT c.job, c.state FROM starling_jobs_cancel(ids) c;
END
$$;

-- As `starling_jobs_discard_waiting`, blocked jobs included.
CREATE FUNCTION starling_jobs_discard_waiting_with_blocked(ids uuid[])
RETURNS TABLE (job uuid)
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM starling_limits_set_back(ids);
    RETURN QUERY SELECT d.job FROM starling_jobs_discard_waiting(ids) d;
END
$$;

-- Keeps the limits of a queue in the place of those there were, unless `at_most` other queues have some. Jobs that run already are counted. Returns whether they
-- are kept.
CREATE FUNCTION starling_limits_put(
    of_queue text, total_concurrency integer, total_rate integer, total_burst integer, tenant_concurrency integer, tenant_rate integer,
    tenant_burst integer, key_concurrency integer, key_rate integer, key_burst integer, at_most integer)
RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_variable
DECLARE
    has_keys boolean := key_concurrency IS NOT NULL OR key_rate IS NOT NULL;
BEGIN
    -- One at a time, so that the number of queues is exact.
    PERFORM pg_advisory_xact_lock(hashtextextended('starling_limits', 0));
    IF (SELECT count(*) FROM job_limits o WHERE o.queue <> of_queue COLLATE "C") >= at_most THEN
        RETURN false;
    END IF;
    INSERT INTO job_limits AS l (
        queue, total_concurrency, total_rate, total_burst, tenant_concurrency, tenant_rate, tenant_burst, key_concurrency, key_rate, key_burst)
    VALUES (of_queue, total_concurrency, total_rate, total_burst, tenant_concurrency, tenant_rate, tenant_burst, key_concurrency, key_rate, key_burst)
    ON CONFLICT (queue) DO UPDATE SET
        total_concurrency = excluded.total_concurrency, total_rate = excluded.total_rate, total_burst = excluded.total_burst,
        tenant_concurrency = excluded.tenant_concurrency, tenant_rate = excluded.tenant_rate, tenant_burst = excluded.tenant_burst,
        key_concurrency = excluded.key_concurrency, key_rate = excluded.key_rate, key_burst = excluded.key_burst;
    -- In one order, so that this can't deadlock with those who end jobs.
    PERFORM FROM job_running r WHERE r.queue = of_queue COLLATE "C" ORDER BY r.job FOR UPDATE;
    UPDATE job_running r SET limited_xid = pg_current_xact_id()::text::bigint, concurrency_key = CASE WHEN has_keys THEN j.concurrency_key END
    FROM jobs j WHERE r.queue = of_queue COLLATE "C" AND j.id = r.job;
    INSERT INTO job_key_turns (queue, tenant, key) SELECT DISTINCT b.queue, b.tenant, b.key FROM job_blocked b WHERE b.queue = of_queue COLLATE "C";
    RETURN true;
END
$$;

-- Removes the limits of a queue, and makes at most `at_most` of its blocked jobs ready as others are. Returns 0: there were none, 1: call again, 2: they are gone.
CREATE FUNCTION starling_limits_remove(of_queue text, at_most integer)
RETURNS smallint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    ids uuid[];
BEGIN
    UPDATE job_limits l SET total_concurrency = NULL, total_rate = NULL, total_burst = NULL, tenant_concurrency = NULL, tenant_rate = NULL,
        tenant_burst = NULL, key_concurrency = NULL, key_rate = NULL, key_burst = NULL
    WHERE l.queue = of_queue COLLATE "C";
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    ids := ARRAY(SELECT b.job FROM job_blocked b WHERE b.queue = of_queue COLLATE "C" ORDER BY b.ready_xid, b.ready_position LIMIT at_most);
    PERFORM starling_limits_set_back(ids);
    IF cardinality(ids) >= at_most THEN
        -- Should nobody call again, claims find the others by these.
        INSERT INTO job_key_turns (queue, tenant, key) SELECT DISTINCT b.queue, b.tenant, b.key FROM job_blocked b WHERE b.queue = of_queue COLLATE "C";
        RETURN 1;
    END IF;
    DELETE FROM job_key_turns u WHERE u.queue = of_queue COLLATE "C";
    DELETE FROM job_rates r WHERE r.queue = of_queue COLLATE "C";
    DELETE FROM job_limits l WHERE l.queue = of_queue COLLATE "C";
    RETURN 2;
END
$$;

-- Removes rates that are whole again, and turns of keys without blocked jobs, at most so many of each, and moves the marks on.
CREATE FUNCTION starling_limits_tidy(at_most integer)
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
