-- Changes of members that backends are to be told of. A row is written in the transaction of its change, and removed once the deliveries to
-- webhooks are recorded. It names the conversation, which may be deleted meanwhile.
CREATE TABLE announced_members (
    position  INTEGER PRIMARY KEY AUTOINCREMENT,
    event     BLOB    NOT NULL,
    tenant    TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    user_name TEXT    NOT NULL,
    is_member INTEGER NOT NULL,  -- since this change
    at_ms     INTEGER NOT NULL
) STRICT;
