-- Durable jobs, as in PostgreSQL: one row per job in `jobs`, which never changes, and one row in the table of its state. Times are Unix
-- milliseconds. There is one writer, so the order of ready jobs is the order of `position`.

CREATE TABLE jobs (
    id           BLOB    PRIMARY KEY,
    tenant       TEXT    NOT NULL,
    queue        TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    payload      TEXT    NOT NULL,
    priority     INTEGER NOT NULL,
    attempts_max INTEGER NOT NULL,
    backoff_first_ms INTEGER NOT NULL,
    backoff_max_ms   INTEGER NOT NULL,
    key              TEXT,              -- its key, which it takes again when it is retried
    held             INTEGER,           -- as in `job_keys`
    run_at_ms        INTEGER NOT NULL,  -- when it might run first
    created_at_ms    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- For lists, newest first.
CREATE INDEX jobs_by_queue ON jobs (tenant, queue, id);

CREATE TABLE job_keys (
    tenant TEXT    NOT NULL,
    queue  TEXT    NOT NULL,
    key    TEXT    NOT NULL,
    job    BLOB    NOT NULL UNIQUE,
    held   INTEGER NOT NULL,  -- until the job is 0: claimed, 1: ended, 2: trimmed
    PRIMARY KEY (tenant, queue, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE job_scheduled (
    run_at_ms  INTEGER NOT NULL,
    job        BLOB    NOT NULL UNIQUE,
    queue      TEXT    NOT NULL,
    tenant     TEXT    NOT NULL,
    priority   INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    PRIMARY KEY (run_at_ms, job)
) STRICT, WITHOUT ROWID;

CREATE TABLE job_ready (
    position    INTEGER PRIMARY KEY AUTOINCREMENT,
    queue       TEXT    NOT NULL,
    tenant      TEXT    NOT NULL,
    priority    INTEGER NOT NULL,
    job         BLOB    NOT NULL,
    attempt     INTEGER NOT NULL,
    generation  INTEGER NOT NULL,
    ready_at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX job_ready_by_backlog ON job_ready (queue, tenant, priority, position);

CREATE TABLE job_running (
    job            BLOB    PRIMARY KEY,
    generation     INTEGER NOT NULL,
    attempt        INTEGER NOT NULL,
    queue          TEXT    NOT NULL,
    tenant         TEXT    NOT NULL,
    priority       INTEGER NOT NULL,
    worker         BLOB    NOT NULL,
    worker_name    TEXT    NOT NULL,
    lease_until_ms INTEGER,
    started_at_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX job_running_by_worker ON job_running (worker);
CREATE INDEX job_running_by_lease ON job_running (lease_until_ms) WHERE lease_until_ms IS NOT NULL;

CREATE TABLE job_cancellations (
    worker     BLOB    NOT NULL,
    job        BLOB    NOT NULL,
    generation INTEGER NOT NULL,
    PRIMARY KEY (worker, job)
) STRICT, WITHOUT ROWID;

CREATE TABLE job_attempts (
    job           BLOB    NOT NULL,
    generation    INTEGER NOT NULL,
    attempt       INTEGER NOT NULL,
    worker        BLOB    NOT NULL,
    worker_name   TEXT    NOT NULL,
    started_at_ms INTEGER NOT NULL,
    ended_at_ms   INTEGER NOT NULL,
    outcome       INTEGER NOT NULL,
    error         TEXT,
    PRIMARY KEY (job, generation)
) STRICT, WITHOUT ROWID;

CREATE TABLE job_endings (
    job         BLOB    PRIMARY KEY,
    queue       TEXT    NOT NULL,
    tenant      TEXT    NOT NULL,
    state       INTEGER NOT NULL,
    ended_at_ms INTEGER NOT NULL,
    result      TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX job_endings_by_time ON job_endings (tenant, queue, state, ended_at_ms, job);

CREATE TABLE job_workers (
    id         BLOB    PRIMARY KEY,
    node       TEXT    NOT NULL,
    seen_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE job_pauses (
    tenant TEXT NOT NULL,
    queue  TEXT NOT NULL,
    PRIMARY KEY (tenant, queue)
) STRICT, WITHOUT ROWID;

-- The number of jobs by state. One writer can keep them without deltas.
CREATE TABLE job_counts (
    queue  TEXT    NOT NULL,
    tenant TEXT    NOT NULL,
    state  INTEGER NOT NULL,
    jobs   INTEGER NOT NULL,
    PRIMARY KEY (queue, tenant, state)
) STRICT, WITHOUT ROWID;
