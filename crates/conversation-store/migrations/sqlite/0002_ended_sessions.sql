-- Sessions that operators ended: their tickets are void, whatever becomes of the session store.
CREATE TABLE ended_sessions (
    session     TEXT    PRIMARY KEY,
    ended_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX ended_sessions_by_time ON ended_sessions (ended_at_ms);
