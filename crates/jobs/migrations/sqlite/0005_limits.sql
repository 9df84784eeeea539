-- Limits of queues, as in PostgreSQL. There is one writer, so claims follow one another without a lock.

-- Rates are jobs in 1,000 seconds. Null: no such limit.
CREATE TABLE job_limits (
    queue              TEXT PRIMARY KEY,
    total_concurrency  INTEGER,
    total_rate         INTEGER,
    total_burst        INTEGER,
    tenant_concurrency INTEGER,
    tenant_rate        INTEGER,
    tenant_burst       INTEGER,
    key_concurrency    INTEGER,
    key_rate           INTEGER,
    key_burst          INTEGER
) STRICT, WITHOUT ROWID;

-- Rates, as the times at which they are whole again (GCRA's theoretical arrival time), microseconds since 1970. A rate without a row is whole.
CREATE TABLE job_rates (
    queue  TEXT    NOT NULL,
    scope  INTEGER NOT NULL,  -- 0: the queue, 1: a tenant, 2: a key
    tenant TEXT    NOT NULL,  -- empty for the queue
    key    TEXT    NOT NULL,  -- empty but for a key
    due_us INTEGER NOT NULL,
    PRIMARY KEY (queue, scope, tenant, key)
) STRICT, WITHOUT ROWID;

ALTER TABLE jobs ADD COLUMN concurrency_key TEXT;

-- `limited`: the claim counted it. `concurrency_key`: its key, if keys have limits.
ALTER TABLE job_running ADD COLUMN limited INTEGER;
ALTER TABLE job_running ADD COLUMN concurrency_key TEXT;
CREATE INDEX job_running_limited ON job_running (queue, tenant, concurrency_key) WHERE limited;

-- Ready jobs that wait for a place of their key, with their positions in `job_ready`.
CREATE TABLE job_blocked (
    position    INTEGER PRIMARY KEY,
    queue       TEXT    NOT NULL,
    tenant      TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    priority    INTEGER NOT NULL,
    job         BLOB    NOT NULL UNIQUE,
    attempt     INTEGER NOT NULL,
    generation  INTEGER NOT NULL,
    ready_at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX job_blocked_by_key ON job_blocked (queue, tenant, key, priority, position);
CREATE INDEX job_blocked_by_backlog ON job_blocked (queue, tenant, priority, position);

-- Keys that may have a place for one of their blocked jobs, from this time on.
CREATE TABLE job_key_turns (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    queue    TEXT    NOT NULL,
    tenant   TEXT    NOT NULL,
    key      TEXT    NOT NULL,
    due_us   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX job_key_turns_by_key ON job_key_turns (queue, tenant, key);

CREATE TRIGGER job_key_turns_are_noted AFTER DELETE ON job_running
WHEN OLD.concurrency_key IS NOT NULL AND EXISTS (SELECT 1 FROM job_limits WHERE queue = OLD.queue)
BEGIN
    INSERT INTO job_key_turns (queue, tenant, key) VALUES (OLD.queue, OLD.tenant, OLD.concurrency_key);
END;
