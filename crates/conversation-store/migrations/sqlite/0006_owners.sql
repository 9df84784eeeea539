-- Conversations whose owner left before an owner who leaves was followed by anybody: the member who joined first owns them now. Those
-- without any member keep their owner.

UPDATE conversations
SET owner = (SELECT m.user_name FROM members m WHERE m.conversation_id = conversations.id
             ORDER BY m.joined_at_ms, m.user_name LIMIT 1)
WHERE NOT EXISTS (SELECT 1 FROM members m
                  WHERE m.conversation_id = conversations.id AND m.user_name = conversations.owner)
  AND EXISTS (SELECT 1 FROM members m WHERE m.conversation_id = conversations.id);
