-- Messages that backends are to be told of. A row is written in the transaction of its message, and removed once the deliveries to
-- webhooks are recorded. It names the conversation, which may be deleted meanwhile.
CREATE TABLE announced_messages (
    position        bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant          text COLLATE "C" NOT NULL,
    name            text COLLATE "C" NOT NULL,
    conversation_id bigint           NOT NULL,
    seq             bigint           NOT NULL
);
