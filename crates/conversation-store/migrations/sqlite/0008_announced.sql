-- Messages that backends are to be told of. A row is written in the transaction of its message, and removed once the deliveries to
-- webhooks are recorded. It names the conversation, which may be deleted meanwhile.
CREATE TABLE announced_messages (
    position        INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant          TEXT    NOT NULL,
    name            TEXT    NOT NULL,
    conversation_id INTEGER NOT NULL,
    seq             INTEGER NOT NULL
) STRICT;
