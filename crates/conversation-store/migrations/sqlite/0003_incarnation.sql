-- Which log a client's cursor belongs to, and which change of title and metadata a node knows.

-- Which life of the database this is: one row. A database that was restored to an earlier state lives another life, in which the
-- same numbers will mean other messages.
CREATE TABLE incarnation (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    id          TEXT    NOT NULL,
    begun_at_ms INTEGER NOT NULL
) STRICT;

INSERT INTO incarnation (one, id, begun_at_ms)
VALUES (1, lower(hex(randomblob(4))), CAST(unixepoch('subsec') * 1000 AS INTEGER));

-- A null `log` is that of a conversation from before this column: its id serves.
ALTER TABLE conversations ADD COLUMN log TEXT;
ALTER TABLE conversations ADD COLUMN details_version INTEGER NOT NULL DEFAULT 0;  -- how often title or metadata changed
