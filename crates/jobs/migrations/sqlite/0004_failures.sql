-- Jobs that have failed for good, for tenants who want to be told of them, as in PostgreSQL.

CREATE TABLE job_failure_listeners (
    tenant TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE job_failure_listeners_version (
    version INTEGER NOT NULL
) STRICT;

INSERT INTO job_failure_listeners_version VALUES (0);

CREATE TABLE job_failures (
    position     INTEGER PRIMARY KEY AUTOINCREMENT,
    event        BLOB    NOT NULL,
    job          BLOB    NOT NULL,
    queue        TEXT    NOT NULL,
    tenant       TEXT    NOT NULL,
    failed_at_ms INTEGER NOT NULL
) STRICT;

CREATE TRIGGER job_failures_are_noted AFTER INSERT ON job_endings
WHEN NEW.state = 4 AND substr(NEW.queue, 1, 9) <> 'starling.'
    AND EXISTS (SELECT 1 FROM job_failure_listeners WHERE tenant = NEW.tenant)
BEGIN
    INSERT INTO job_failures (event, job, queue, tenant, failed_at_ms)
    VALUES (randomblob(16), NEW.job, NEW.queue, NEW.tenant, NEW.ended_at_ms);
END;
