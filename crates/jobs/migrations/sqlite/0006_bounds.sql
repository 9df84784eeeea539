-- Calls that take a bounded time, however many jobs, leases, schedules and keys there are, as in PostgreSQL.

-- Numbers of nothing that earlier programs have left.
DELETE FROM job_counts WHERE jobs = 0;
