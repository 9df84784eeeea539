-- Which users are online, of tenants with a webhook that wants to know. The database decides whether somebody comes online or goes
-- offline, so that each is told once over all devices and nodes.

-- One row for each run of a node. A run that was taken for dead stays dead: its node goes on as another run.
CREATE TABLE webhook_online_nodes (
    node        uuid PRIMARY KEY,
    alive_since timestamptz NOT NULL DEFAULT clock_timestamp(),  -- it has sent beats without a break since
    seen_at     timestamptz NOT NULL DEFAULT clock_timestamp(),  -- its newest beat
    is_dead     boolean     NOT NULL DEFAULT false               -- until its users are removed
) WITH (fillfactor = 50);

-- Users who are online, so those that have a row in `webhook_online_places`. Whoever adds or removes rows there for a user locks this row.
CREATE TABLE webhook_online_users (
    tenant    text COLLATE "C" NOT NULL,
    user_name text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, user_name)
) WITH (fillfactor = 80);

-- The nodes to which a user is connected.
CREATE TABLE webhook_online_places (
    tenant    text COLLATE "C" NOT NULL,
    user_name text COLLATE "C" NOT NULL,
    node      uuid             NOT NULL,
    PRIMARY KEY (tenant, user_name, node)
);

CREATE INDEX webhook_online_places_by_node ON webhook_online_places (node);
