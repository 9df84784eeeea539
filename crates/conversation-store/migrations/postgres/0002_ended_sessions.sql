-- Sessions that operators ended: their tickets are void, whatever becomes of the session store.
CREATE TABLE ended_sessions (
    session  text COLLATE "C" PRIMARY KEY,
    ended_at timestamptz(3)   NOT NULL
);

CREATE INDEX ended_sessions_by_time ON ended_sessions (ended_at);
