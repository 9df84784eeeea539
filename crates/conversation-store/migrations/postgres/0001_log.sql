-- The durable log. Times have milliseconds, because that is what clients see. Names compare byte by byte
-- (COLLATE "C"), which is the order that clients see, and the same on every machine.

-- When somebody was last there.
CREATE TABLE users (
    tenant    text COLLATE "C" NOT NULL,
    user_name text COLLATE "C" NOT NULL,
    last_seen timestamptz(3)   NOT NULL,
    PRIMARY KEY (tenant, user_name)
) WITH (fillfactor = 70);

-- One row per conversation, written with every batch of messages: neither head nor active_at may stand in an
-- index, and the pages keep room, so that an update stays on its page (HOT) and needs no new index entries.
CREATE TABLE conversations (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant     text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    owner      text COLLATE "C" NOT NULL,
    title      text,
    metadata   text,                       -- compact JSON, exactly as it was given
    created_at timestamptz(3)   NOT NULL,
    active_at  timestamptz(3)   NOT NULL,  -- time of the newest message, or of creation
    head       bigint           NOT NULL DEFAULT 0,  -- number of the newest message
    members_version bigint      NOT NULL DEFAULT 0,  -- how often somebody was added or removed
    UNIQUE (tenant, name)
) WITH (fillfactor = 50);

-- Who is in a conversation, and up to where they have read.
CREATE TABLE members (
    conversation_id bigint           NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    user_name       text COLLATE "C" NOT NULL,
    tenant          text COLLATE "C" NOT NULL,  -- the conversation's, repeated for the index below
    read_seq        bigint           NOT NULL DEFAULT 0,
    joined_at       timestamptz(3)   NOT NULL,
    PRIMARY KEY (conversation_id, user_name)
) WITH (fillfactor = 70);

CREATE INDEX members_by_user ON members (tenant, user_name, conversation_id);

-- The log. No foreign key: who appends holds the conversation's row lock anyway, and a check per message would
-- double the cost. Both keys begin with the conversation, so that the table can be partitioned by it.
CREATE TABLE messages (
    conversation_id bigint           NOT NULL,
    seq             bigint           NOT NULL,  -- 1, 2, 3 ... without a hole
    id              uuid             NOT NULL,
    sender          text COLLATE "C" NOT NULL,
    key             text COLLATE "C" NOT NULL,  -- idempotency key: a retry finds the first one by it
    role            text             NOT NULL,  -- user, assistant, system, tool
    at              timestamptz(3)   NOT NULL,
    content         text             NOT NULL,
    metadata        text,                       -- compact JSON, exactly as it was given
    PRIMARY KEY (conversation_id, seq),
    UNIQUE (conversation_id, sender, key)
);

-- Deleted conversations whose messages are still being removed, in pieces.
CREATE TABLE erasures (
    conversation_id bigint PRIMARY KEY
);

-- Appends a batch: one row per message in the answer; seq is null where the conversation does not exist.
--
-- The rows of the conversations are locked first, in the order of their ids, so that nodes can't deadlock. The
-- second statement then has a snapshot of its own, taken after the locks were granted: it sees every message that
-- another node committed before. One single statement would decide on a snapshot from before the wait, and miss
-- a key that was stored meanwhile.
CREATE FUNCTION starling_append(
    conversation_ids bigint[], ids uuid[], senders text[], keys text[], roles text[], contents text[], metadatas text[])
RETURNS TABLE (item bigint, seq bigint, id uuid, at timestamptz, duplicate boolean)
LANGUAGE plpgsql VOLATILE
-- Every look-up below has a fitting index, so one plan fits all batches: it is made once per connection (making it anew
-- for each small batch, as the planner would, costs more than the batch), and statistics from when the tables were empty
-- must not make it one that reads a whole table.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM conversations c WHERE c.id = ANY (conversation_ids) ORDER BY c.id FOR NO KEY UPDATE;

    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT g.item, g.conversation_id, g.id, g.sender, g.key, g.role, g.content, g.metadata,
               c.head, greatest(date_trunc('milliseconds', clock_timestamp()), c.active_at) AS at,
               stored.seq AS stored_seq, stored.id AS stored_id, stored.at AS stored_at,
               first_value(g.item) OVER (PARTITION BY g.conversation_id, g.sender, g.key ORDER BY g.item) AS first_item
        FROM unnest(conversation_ids, ids, senders, keys, roles, contents, metadatas) WITH ORDINALITY
             AS g (conversation_id, id, sender, key, role, content, metadata, item)
        LEFT JOIN LATERAL (
            SELECT c.head, c.active_at FROM conversations c WHERE c.id = g.conversation_id LIMIT 1
        ) c ON true
        LEFT JOIN LATERAL (
            SELECT m.seq, m.id, m.at FROM messages m
            WHERE m.conversation_id = g.conversation_id AND m.sender = g.sender COLLATE "C" AND m.key = g.key COLLATE "C"
            LIMIT 1
        ) stored ON true
    ), numbered AS MATERIALIZED (
        SELECT given.*,
               head IS NOT NULL AND stored_seq IS NULL AND item = first_item AS fresh,
               head + count(*) FILTER (WHERE head IS NOT NULL AND stored_seq IS NULL AND item = first_item)
                   OVER (PARTITION BY conversation_id ORDER BY item) AS new_seq,
               max(at) OVER (PARTITION BY conversation_id ORDER BY item) AS new_at
        FROM given
    ), inserted AS (
        INSERT INTO messages (conversation_id, seq, id, sender, key, role, at, content, metadata)
        SELECT conversation_id, new_seq, id, sender, key, role, new_at, content, metadata FROM numbered WHERE fresh
    ), moved AS (
        UPDATE conversations c SET head = n.new_seq, active_at = n.new_at
        FROM (SELECT conversation_id, max(new_seq) AS new_seq, max(new_at) AS new_at
              FROM numbered WHERE fresh GROUP BY conversation_id) n
        WHERE c.id = n.conversation_id
    )
    SELECT n.item, coalesce(n.stored_seq, first_value(n.new_seq) OVER same),
           coalesce(n.stored_id, first_value(n.id) OVER same),
           coalesce(n.stored_at, first_value(n.new_at) OVER same),
           NOT n.fresh
    FROM numbered n
    WINDOW same AS (PARTITION BY n.first_item ORDER BY n.item);
END
$$;

-- Creates a conversation with its members, or finds the one that is there. Statement by statement, so that each one
-- sees what other nodes have committed just before.
CREATE FUNCTION starling_create(
    given_tenant text, given_name text, given_owner text, given_title text, given_metadata text, given_members text[])
RETURNS TABLE (id bigint, created boolean, member boolean)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    found_id bigint;
    made_at  timestamptz := date_trunc('milliseconds', clock_timestamp());
BEGIN
    LOOP
        SELECT c.id INTO found_id FROM conversations c WHERE c.tenant = given_tenant AND c.name = given_name;
        IF FOUND THEN
            RETURN QUERY SELECT found_id, false, EXISTS (
                SELECT FROM members m WHERE m.conversation_id = found_id AND m.user_name = given_owner);
            RETURN;
        END IF;

        INSERT INTO conversations (tenant, name, owner, title, metadata, created_at, active_at)
        VALUES (given_tenant, given_name, given_owner, given_title, given_metadata, made_at, made_at)
        ON CONFLICT (tenant, name) DO NOTHING RETURNING conversations.id INTO found_id;
        IF FOUND THEN
            INSERT INTO members (conversation_id, user_name, tenant, joined_at)
            SELECT found_id, names.user_name, given_tenant, made_at
            FROM (SELECT unnest(given_members) UNION SELECT given_owner) AS names (user_name);
            RETURN QUERY SELECT found_id, true, true;
            RETURN;
        END IF;
        -- Another node was quicker; its row is seen on the next turn (or is deleted by then).
    END LOOP;
END
$$;

-- Makes somebody a member, or a member no more, and counts the change. No row: there is no such conversation. The row's lock
-- puts all changes of a conversation in one order, and each statement sees what was committed before the lock was granted.
CREATE FUNCTION starling_set_member(given_id bigint, given_user text, wanted boolean)
RETURNS TABLE (changed boolean, version bigint)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    found_tenant  text;
    found_version bigint;
    is_changed    boolean;
BEGIN
    SELECT c.tenant, c.members_version INTO found_tenant, found_version
    FROM conversations c WHERE c.id = given_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF wanted THEN
        INSERT INTO members (conversation_id, user_name, tenant, joined_at)
        VALUES (given_id, given_user, found_tenant, date_trunc('milliseconds', clock_timestamp()))
        ON CONFLICT (conversation_id, user_name) DO NOTHING;
    ELSE
        DELETE FROM members m WHERE m.conversation_id = given_id AND m.user_name = given_user;
    END IF;
    is_changed := FOUND;
    IF is_changed THEN
        found_version := found_version + 1;
        UPDATE conversations c SET members_version = found_version WHERE c.id = given_id;
    END IF;
    RETURN QUERY SELECT is_changed, found_version;
END
$$;

-- Deletes a conversation and its members, and notes that its messages are to be erased. False: there was none.
CREATE FUNCTION starling_delete(given_id bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    DELETE FROM conversations WHERE id = given_id;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO erasures (conversation_id) VALUES (given_id);
    RETURN true;
END
$$;

-- Erases up to that many messages of one deleted conversation that nobody else is erasing. Returns whether there may
-- be more to do.
CREATE FUNCTION starling_erase(messages_max bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    gone_id bigint;
    gone    bigint;
BEGIN
    SELECT conversation_id INTO gone_id FROM erasures ORDER BY conversation_id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM messages WHERE conversation_id = gone_id AND seq IN (
        SELECT seq FROM messages WHERE conversation_id = gone_id ORDER BY seq LIMIT messages_max);
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone < messages_max THEN
        DELETE FROM erasures WHERE conversation_id = gone_id;
    END IF;
    RETURN true;
END
$$;
