-- Conversations whose owner left before an owner who leaves was followed by anybody: the member who joined first owns them now. Those
-- without any member keep their owner.

UPDATE conversations c
SET owner = (SELECT m.user_name FROM members m WHERE m.conversation_id = c.id
             ORDER BY m.joined_at, m.user_name LIMIT 1)
WHERE NOT EXISTS (SELECT FROM members m WHERE m.conversation_id = c.id AND m.user_name = c.owner)
  AND EXISTS (SELECT FROM members m WHERE m.conversation_id = c.id);
