-- Claims of deliveries are told from retries that wait for their time, and a hook's secret can be replaced, as in PostgreSQL.
ALTER TABLE webhook_deliveries ADD COLUMN claimed_until_ms INTEGER;

CREATE INDEX webhook_deliveries_claimed ON webhook_deliveries (claimed_until_ms) WHERE state = 0 AND claimed_until_ms IS NOT NULL;

ALTER TABLE webhook_hooks ADD COLUMN previous_secret TEXT;
ALTER TABLE webhook_hooks ADD COLUMN previous_until_ms INTEGER;
