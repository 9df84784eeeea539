-- Calls that take a bounded time, however many jobs, leases, schedules and keys there are, as in PostgreSQL.

-- Numbers of nothing that earlier programs have left.
DELETE FROM job_counts WHERE jobs = 0;

-- For lists of ended jobs, newest first: most jobs of a queue may be in another state.
CREATE INDEX job_endings_by_job ON job_endings (tenant, queue, state, job);

-- Ready jobs by their ids, for those who cancel and discard them.
CREATE INDEX job_ready_by_job ON job_ready (job);
