-- Appends a batch of new messages with little more than an UPDATE and an INSERT. It answers nothing, and writes nothing, where one of the
-- messages is in the log already or one of the conversations is gone: then starling_append of the first migration tells for each message.
-- Nodes of the version before call only that one, and both may run at the same time: both lock the rows of the conversations first, in the
-- order of their ids.
--
-- The conversations are distinct, and ascending by id. Each has so many messages. A message names the position of its conversation, and its
-- own number among the messages of that conversation in this batch. The answer: the number before the first one of each conversation, and
-- the time of its messages.
--
-- The caller sets the planner: every look-up has a fitting index, so one plan fits all batches, and is made once per connection.
CREATE OR REPLACE FUNCTION starling_append_fresh(
    conversation_ids bigint[], counts integer[], positions integer[], numbers integer[], ids uuid[], senders text[], keys text[],
    roles text[], contents text[], metadatas text[])
RETURNS TABLE (bases bigint[], times timestamptz[])
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_variable
BEGIN
    BEGIN
        IF cardinality(conversation_ids) = 1 THEN
            -- Waits for the row, and then sees the number that was committed meanwhile.
            UPDATE conversations c
            SET head = c.head + counts[1],
                active_at = greatest(date_trunc('milliseconds', clock_timestamp()), c.active_at)
            WHERE c.id = conversation_ids[1]
            RETURNING ARRAY[c.head - counts[1]], ARRAY[c.active_at] INTO bases, times;
        ELSE
            PERFORM FROM conversations c WHERE c.id = ANY (conversation_ids) ORDER BY c.id FOR NO KEY UPDATE;
            WITH moved AS (
                UPDATE conversations c
                SET head = c.head + g.count,
                    active_at = greatest(date_trunc('milliseconds', clock_timestamp()), c.active_at)
                FROM unnest(conversation_ids, counts) AS g (id, count)
                WHERE c.id = g.id
                RETURNING c.id, c.head - g.count AS base, c.active_at
            )
            SELECT array_agg(moved.base ORDER BY moved.id), array_agg(moved.active_at ORDER BY moved.id)
            INTO bases, times FROM moved;
        END IF;
        IF cardinality(bases) IS DISTINCT FROM cardinality(conversation_ids) THEN
            RAISE no_data_found;
        END IF;
        IF cardinality(ids) = 1 THEN
            INSERT INTO messages (conversation_id, seq, id, sender, key, role, at, content, metadata)
            VALUES (conversation_ids[1], bases[1] + 1, ids[1], senders[1], keys[1], roles[1], times[1], contents[1],
                    metadatas[1]);
            RETURN NEXT;
            RETURN;
        END IF;
        INSERT INTO messages (conversation_id, seq, id, sender, key, role, at, content, metadata)
        SELECT conversation_ids[m.position], bases[m.position] + m.number, m.id, m.sender, m.key, m.role,
               times[m.position], m.content, m.metadata
        FROM unnest(positions, numbers, ids, senders, keys, roles, contents, metadatas)
             AS m (position, number, id, sender, key, role, content, metadata);
        RETURN NEXT;
    EXCEPTION
        -- The index of the keys has one of the messages. All of the block is undone.
        WHEN unique_violation OR no_data_found THEN
            RETURN;
    END;
END
$$;
