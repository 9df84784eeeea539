-- Changes of members that backends are to be told of. A row is written in the transaction of its change, and removed once the deliveries to
-- webhooks are recorded. It names the conversation, which may be deleted meanwhile.
CREATE TABLE announced_members (
    position  bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event     uuid             NOT NULL DEFAULT gen_random_uuid(),
    tenant    text COLLATE "C" NOT NULL,
    name      text COLLATE "C" NOT NULL,
    user_name text COLLATE "C" NOT NULL,
    is_member boolean          NOT NULL,  -- since this change
    at        timestamptz(3)   NOT NULL DEFAULT clock_timestamp()
);
