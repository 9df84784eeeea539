-- What nodes say of the link between them, only while some node cannot hear the others: it finds out here whether they hear each
-- other. Worth nothing after a crash, so it is not logged; a standby has the table without rows.
CREATE UNLOGGED TABLE nodes (
    node    text COLLATE "C" PRIMARY KEY,  -- its name and a suffix of this run
    hears   boolean          NOT NULL,
    said_at timestamptz      NOT NULL
) WITH (fillfactor = 50);
