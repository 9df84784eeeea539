-- Webhooks, deliveries and hooks, as in PostgreSQL. Times are Unix milliseconds.

CREATE TABLE webhook_registry (
    version INTEGER NOT NULL
) STRICT;

INSERT INTO webhook_registry VALUES (1);

CREATE TABLE webhooks (
    id               BLOB    PRIMARY KEY,
    tenant           TEXT    NOT NULL,
    url              TEXT    NOT NULL,
    events           TEXT    NOT NULL,  -- '*', or types with spaces between them
    ordered          INTEGER NOT NULL,
    paused           INTEGER NOT NULL DEFAULT 0,
    failing_since_ms INTEGER,
    created_at_ms    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX webhooks_by_tenant ON webhooks (tenant, id);

CREATE TABLE webhook_secrets (
    number         INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook        BLOB    NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    secret         TEXT    NOT NULL,
    signs_until_ms INTEGER,
    UNIQUE (webhook, secret)
) STRICT;

CREATE TABLE webhook_deliveries (
    position            INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook             BLOB    NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    event               BLOB    NOT NULL,
    type                TEXT    NOT NULL,
    order_key           TEXT,
    state               INTEGER NOT NULL DEFAULT 0,  -- 0: waiting, 1: delivered, 2: failed
    attempts            INTEGER NOT NULL DEFAULT 0,
    status              INTEGER,
    reason              TEXT,
    answer              TEXT    NOT NULL DEFAULT '',
    recorded_at_ms      INTEGER NOT NULL,
    first_attempt_at_ms INTEGER,
    attempted_at_ms     INTEGER,
    due_at_ms           INTEGER NOT NULL,  -- when it is attempted, or when its claim is over
    body                TEXT    NOT NULL,            -- JSON, exactly as it is sent
    UNIQUE (webhook, event)
) STRICT;

CREATE INDEX webhook_deliveries_by_position ON webhook_deliveries (webhook, position);
CREATE INDEX webhook_deliveries_that_wait ON webhook_deliveries (webhook, position) WHERE state = 0;
CREATE INDEX webhook_deliveries_that_are_due ON webhook_deliveries (webhook, due_at_ms, position) WHERE state = 0;
CREATE INDEX webhook_deliveries_in_order ON webhook_deliveries (webhook, order_key, position) WHERE state = 0;

CREATE TABLE webhook_hooks (
    tenant     TEXT    NOT NULL,
    point      TEXT    NOT NULL,
    url        TEXT    NOT NULL,
    timeout_ms INTEGER NOT NULL,
    on_failure TEXT    NOT NULL,  -- 'refuse' or 'allow'
    secret     TEXT    NOT NULL,
    PRIMARY KEY (tenant, point)
) STRICT, WITHOUT ROWID;
