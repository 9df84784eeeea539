-- Whether the worker is in the process that has the file open, and so dies with it.
ALTER TABLE job_workers ADD COLUMN lock INTEGER;
