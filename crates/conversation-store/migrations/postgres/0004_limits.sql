-- Limits that hold in the transaction that reaches them, however many nodes ask at the same time. The functions of the first
-- migration stay, for nodes of the version before.

-- Adds a member, unless the conversation has members_max members (0: no limit). No row: there is no such conversation. The row's
-- lock puts all changes of a conversation's members in one order; the statements after it see what was committed before.
CREATE FUNCTION starling_add_member(given_id bigint, given_user text, members_max bigint)
RETURNS TABLE (changed boolean, version bigint, owner text, is_full boolean)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    found_version bigint;
    found_owner   text;
    held          bigint;
BEGIN
    SELECT c.members_version, c.owner INTO found_version, found_owner
    FROM conversations c WHERE c.id = given_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF members_max > 0 AND NOT EXISTS (
        SELECT FROM members m WHERE m.conversation_id = given_id AND m.user_name = given_user)
    THEN
        SELECT count(*) INTO held
        FROM (SELECT FROM members m WHERE m.conversation_id = given_id LIMIT members_max) AS counted;
        IF held >= members_max THEN
            RETURN QUERY SELECT false, found_version, found_owner, true;
            RETURN;
        END IF;
    END IF;
    RETURN QUERY SELECT s.changed, s.version, s.owner, false FROM starling_set_member(given_id, given_user, true) s;
END
$$;

-- Creates a conversation or finds the one that is there, as starling_create does, unless the tenant has conversations_max
-- conversations (0: no limit): then the id is null. The lock makes creations of one tenant wait for each other, where it has a limit.
CREATE FUNCTION starling_create_within(
    given_tenant text, given_name text, given_owner text, given_title text, given_metadata text, given_members text[],
    conversations_max bigint)
RETURNS TABLE (id bigint, created boolean, member boolean)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    held bigint;
BEGIN
    IF conversations_max > 0
        AND NOT EXISTS (SELECT FROM conversations c WHERE c.tenant = given_tenant AND c.name = given_name)
    THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('starling:conversations:' || given_tenant, 0));
        SELECT count(*) INTO held
        FROM (SELECT FROM conversations c WHERE c.tenant = given_tenant LIMIT conversations_max) AS counted;
        IF held >= conversations_max
            AND NOT EXISTS (SELECT FROM conversations c WHERE c.tenant = given_tenant AND c.name = given_name)
        THEN
            RETURN QUERY SELECT NULL::bigint, false, false;
            RETURN;
        END IF;
    END IF;
    RETURN QUERY SELECT s.id, s.created, s.member FROM starling_create(
        given_tenant, given_name, given_owner, given_title, given_metadata, given_members) s;
END
$$;
