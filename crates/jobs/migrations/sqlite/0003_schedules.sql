-- Schedules: jobs that are added again and again, at the moments of a cron expression in a time zone.
CREATE TABLE job_schedules (
    tenant       TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    revision     BLOB    NOT NULL,  -- of this version
    cron         TEXT    NOT NULL,
    zone         TEXT    NOT NULL,
    missed       INTEGER NOT NULL,  -- firings that nobody could make are 0: skipped, 1: made up for by one job, 2: by a job each
    queue        TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    payload      TEXT    NOT NULL,
    priority     INTEGER NOT NULL,
    attempts_max INTEGER NOT NULL,
    backoff_first_ms INTEGER NOT NULL,
    backoff_max_ms   INTEGER NOT NULL,
    next_at_ms   INTEGER,           -- null: never again
    last_at_ms   INTEGER,           -- the last moment for which a job was added
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX job_schedules_by_next ON job_schedules (next_at_ms) WHERE next_at_ms IS NOT NULL;
