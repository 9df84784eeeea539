-- The durable log. Times are milliseconds since 1970 in UTC:
-- SELECT datetime(at_ms / 1000, 'unixepoch'), sender, content FROM messages;

-- When somebody was last there.
CREATE TABLE users (
    tenant       TEXT    NOT NULL,
    user_name    TEXT    NOT NULL,
    last_seen_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, user_name)
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT: an id is never used again.
CREATE TABLE conversations (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant        TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    owner         TEXT    NOT NULL,
    title         TEXT,
    metadata      TEXT,               -- compact JSON, exactly as it was given
    created_at_ms INTEGER NOT NULL,
    active_at_ms  INTEGER NOT NULL,   -- time of the newest message, or of creation
    head          INTEGER NOT NULL DEFAULT 0,  -- number of the newest message
    members_version INTEGER NOT NULL DEFAULT 0,  -- how often somebody was added or removed
    UNIQUE (tenant, name)
) STRICT;

-- Who is in a conversation, and up to where they have read.
CREATE TABLE members (
    conversation_id INTEGER NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    user_name       TEXT    NOT NULL,
    tenant          TEXT    NOT NULL,  -- the conversation's, repeated for the index below
    read_seq        INTEGER NOT NULL DEFAULT 0,
    joined_at_ms    INTEGER NOT NULL,
    PRIMARY KEY (conversation_id, user_name)
) STRICT, WITHOUT ROWID;

CREATE INDEX members_by_user ON members (tenant, user_name, conversation_id);

-- The log.
CREATE TABLE messages (
    conversation_id INTEGER NOT NULL,
    seq             INTEGER NOT NULL,  -- 1, 2, 3 ... without a hole
    id              BLOB    NOT NULL,  -- a UUID's 16 bytes; hex(id) shows it
    sender          TEXT    NOT NULL,
    key             TEXT    NOT NULL,  -- idempotency key: a retry finds the first one by it
    role            TEXT    NOT NULL,  -- user, assistant, system, tool
    at_ms           INTEGER NOT NULL,
    content         TEXT    NOT NULL,
    metadata        TEXT,              -- compact JSON, exactly as it was given
    PRIMARY KEY (conversation_id, seq),
    UNIQUE (conversation_id, sender, key)
) STRICT, WITHOUT ROWID;

-- Deleted conversations whose messages are still being removed, in pieces.
CREATE TABLE erasures (
    conversation_id INTEGER PRIMARY KEY
) STRICT;
