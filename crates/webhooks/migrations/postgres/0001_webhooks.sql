-- Webhooks of tenants, their deliveries, and hooks that ask first.

-- One row. The version rises with each change of a webhook or a hook, so that nodes notice changes.
CREATE TABLE webhook_registry (
    version bigint NOT NULL
);

INSERT INTO webhook_registry VALUES (1);

CREATE TABLE webhooks (
    id            uuid PRIMARY KEY,
    tenant        text COLLATE "C" NOT NULL,
    url           text             NOT NULL,
    events        text COLLATE "C" NOT NULL,  -- '*', or types with spaces between them
    ordered       boolean          NOT NULL,
    paused        boolean          NOT NULL DEFAULT false,
    failing_since timestamptz,                -- null: the newest attempt succeeded, or there was none
    created_at    timestamptz(3)   NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX webhooks_by_tenant ON webhooks (tenant, id);

-- Secrets that sign. The newest has no end.
CREATE TABLE webhook_secrets (
    webhook     uuid           NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    secret      text           NOT NULL,
    created_at  timestamptz    NOT NULL DEFAULT clock_timestamp(),
    signs_until timestamptz(3),
    PRIMARY KEY (webhook, secret)
);

-- Deliveries of events. The id of an event is that of its deliveries.
CREATE TABLE webhook_deliveries (
    webhook      uuid             NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    event        uuid             NOT NULL,
    position     bigint           GENERATED ALWAYS AS IDENTITY,
    type         text COLLATE "C" NOT NULL,
    order_key    text COLLATE "C",
    state        smallint         NOT NULL DEFAULT 0,  -- 0: waiting, 1: delivered, 2: failed
    attempts     integer          NOT NULL DEFAULT 0,
    status       smallint,                             -- the HTTP status of the newest answer
    reason       text,                                 -- why the newest attempt failed
    answer       text             NOT NULL DEFAULT '', -- the beginning of the newest answer
    recorded_at  timestamptz(3)   NOT NULL DEFAULT clock_timestamp(),
    first_attempt_at timestamptz(3),
    attempted_at timestamptz(3),
    due_at       timestamptz(3)   NOT NULL DEFAULT clock_timestamp(),  -- when it is attempted, or when its claim is over
    body         text             NOT NULL,            -- JSON, exactly as it is sent
    PRIMARY KEY (webhook, event)
);

CREATE INDEX webhook_deliveries_by_position ON webhook_deliveries (webhook, position);
CREATE INDEX webhook_deliveries_that_wait ON webhook_deliveries (webhook, position) WHERE state = 0;
CREATE INDEX webhook_deliveries_that_are_due ON webhook_deliveries (webhook, due_at, position) WHERE state = 0;
CREATE INDEX webhook_deliveries_in_order ON webhook_deliveries (webhook, order_key, position) WHERE state = 0;

-- Hooks that ask first: at most one for each point.
CREATE TABLE webhook_hooks (
    tenant     text COLLATE "C" NOT NULL,
    point      text COLLATE "C" NOT NULL,
    url        text             NOT NULL,
    timeout_ms integer          NOT NULL,
    on_failure text             NOT NULL,  -- 'refuse' or 'allow'
    secret     text             NOT NULL,
    PRIMARY KEY (tenant, point)
);
