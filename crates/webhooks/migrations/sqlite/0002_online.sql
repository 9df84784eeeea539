-- Which users are online, as in PostgreSQL. There is one node, but each start of it is another run.

CREATE TABLE webhook_online_nodes (
    node           BLOB    PRIMARY KEY,
    alive_since_ms INTEGER NOT NULL,
    seen_at_ms     INTEGER NOT NULL,
    is_dead        INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE webhook_online_users (
    tenant    TEXT NOT NULL,
    user_name TEXT NOT NULL,
    PRIMARY KEY (tenant, user_name)
) STRICT, WITHOUT ROWID;

CREATE TABLE webhook_online_places (
    tenant    TEXT NOT NULL,
    user_name TEXT NOT NULL,
    node      BLOB NOT NULL,
    PRIMARY KEY (tenant, user_name, node)
) STRICT, WITHOUT ROWID;

CREATE INDEX webhook_online_places_by_node ON webhook_online_places (node);
