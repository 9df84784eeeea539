-- Jobs that have failed for good, for tenants who want to be told of them.

-- These tenants, and the version of that list, so that an older list takes the place of no newer one.
CREATE TABLE job_failure_listeners (
    tenant text COLLATE "C" PRIMARY KEY
);

CREATE TABLE job_failure_listeners_version (
    version bigint NOT NULL
);

INSERT INTO job_failure_listeners_version VALUES (0);

-- A row is written in the transaction in which a job fails, and removed once somebody has taken note. The job may be gone meanwhile.
CREATE TABLE job_failures (
    position  bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event     uuid             NOT NULL DEFAULT gen_random_uuid(),
    job       uuid             NOT NULL,
    queue     text COLLATE "C" NOT NULL,
    tenant    text COLLATE "C" NOT NULL,
    failed_at timestamptz(3)   NOT NULL
);

-- A trigger notes it, since jobs fail in several ways, and nodes of the version before do not.
CREATE FUNCTION starling_jobs_note_failure()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF EXISTS (SELECT FROM job_failure_listeners l WHERE l.tenant = NEW.tenant) THEN
        INSERT INTO job_failures (job, queue, tenant, failed_at) VALUES (NEW.job, NEW.queue, NEW.tenant, NEW.ended_at);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER job_failures_are_noted AFTER INSERT ON job_endings
FOR EACH ROW WHEN (NEW.state = 4 AND NOT starts_with(NEW.queue, 'starling.')) EXECUTE FUNCTION starling_jobs_note_failure();
