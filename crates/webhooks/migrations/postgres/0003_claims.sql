-- Claims of deliveries are told from retries that wait for their time, tables with many dead rows are cleaned often, and a hook's secret can be
-- replaced.

-- Until when the newest claim of the delivery lasts, or would have lasted. It is in force as long as `due_at` is the same time and lies ahead:
-- nodes of the version before claim without it, and each end of an attempt changes `due_at`.
ALTER TABLE webhook_deliveries ADD COLUMN claimed_until timestamptz(3);

-- To count the claims in force. It is read from its end, where no dead rows are.
CREATE INDEX webhook_deliveries_claimed ON webhook_deliveries (claimed_until) WHERE state = 0 AND claimed_until IS NOT NULL;

ALTER TABLE webhook_deliveries SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- The secret before the newest, which signs as well until then. Nodes of the version before sign with the newest alone.
ALTER TABLE webhook_hooks ADD COLUMN previous_secret text, ADD COLUMN previous_until timestamptz(3);
