-- Which log a client's cursor belongs to, which change of title and metadata a node knows, and who owns a conversation whose
-- owner left. Nodes of the version before run beside this schema while an upgrade is rolled out.

-- Which life of the database this is: one row. A database that was restored to an earlier state lives another life, in which the
-- same numbers will mean other messages.
CREATE TABLE incarnation (
    one      boolean        PRIMARY KEY DEFAULT true CHECK (one),
    id       text           NOT NULL,
    origin   text           NOT NULL,  -- which server wrote this row, into which table, in which transaction
    begun_at timestamptz(3) NOT NULL
);

-- The server's own identity, which survives a failover. Empty where the role may not read it.
CREATE FUNCTION starling_server()
RETURNS text
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN (SELECT system_identifier::text FROM pg_control_system());
EXCEPTION WHEN insufficient_privilege OR undefined_function THEN
    RETURN '';
END
$$;

-- What a row that this transaction writes into this table has as its origin. A physical copy (a standby, a base backup) keeps all
-- three parts. A dump that is restored, anywhere and in any way, is written by another transaction.
CREATE FUNCTION starling_origin(relation oid, writer xid)
RETURNS text
LANGUAGE sql STABLE
AS $$
    SELECT concat_ws('/', starling_server(), relation::text, writer::text)
$$;

-- The incarnation; null where its row was not written here, so that another one is to begin.
CREATE FUNCTION starling_incarnation()
RETURNS text
LANGUAGE sql STABLE
AS $$
    SELECT i.id FROM incarnation i WHERE i.origin = starling_origin(i.tableoid, i.xmin)
$$;

-- Begins another incarnation, unless one has begun since `seen` was read (null: none was valid). Answers the one that holds now.
CREATE FUNCTION starling_reincarnate(seen text)
RETURNS text
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    found_id text;
BEGIN
    -- One node after the other; each statement sees what the one before has committed.
    LOCK TABLE incarnation IN SHARE ROW EXCLUSIVE MODE;
    found_id := starling_incarnation();
    IF found_id IS NOT NULL AND found_id IS DISTINCT FROM seen THEN
        RETURN found_id;
    END IF;
    INSERT INTO incarnation AS i (id, origin, begun_at)
    VALUES (left(replace(gen_random_uuid()::text, '-', ''), 8),
            starling_origin('incarnation'::regclass, pg_current_xact_id()::xid),
            date_trunc('milliseconds', clock_timestamp()))
    ON CONFLICT (one) DO UPDATE
        SET id = excluded.id, origin = excluded.origin, begun_at = excluded.begun_at
    RETURNING i.id INTO found_id;
    RETURN found_id;
END
$$;

SELECT starling_reincarnate(NULL);

-- A node was told by this database that a conversation reaches up to `known`. If it does not, the database was set back, and another
-- incarnation begins. Answers whether it was.
CREATE FUNCTION starling_report_head(given_id bigint, known bigint, seen text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    found_head bigint;
BEGIN
    SELECT c.head INTO found_head FROM conversations c WHERE c.id = given_id;
    IF NOT FOUND OR found_head >= known THEN
        RETURN false;
    END IF;
    PERFORM starling_reincarnate(seen);
    RETURN true;
END
$$;

-- A null `log` is that of a conversation from before this column: its id serves. A default in the same step would rewrite the table.
ALTER TABLE conversations
    ADD COLUMN log text,
    ADD COLUMN details_version bigint NOT NULL DEFAULT 0;  -- how often title or metadata changed
ALTER TABLE conversations ALTER COLUMN log SET DEFAULT left(replace(gen_random_uuid()::text, '-', ''), 16);

-- A trigger counts, since nodes of the version before do not.
CREATE FUNCTION starling_count_details()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NEW.details_version := OLD.details_version + 1;
    RETURN NEW;
END
$$;

CREATE TRIGGER count_details BEFORE UPDATE OF title, metadata ON conversations
    FOR EACH ROW EXECUTE FUNCTION starling_count_details();

-- As before, and hands the conversation on: an owner who is no member any more is followed by the member who joined first.
DROP FUNCTION starling_set_member(bigint, text, boolean);
CREATE FUNCTION starling_set_member(given_id bigint, given_user text, wanted boolean)
RETURNS TABLE (changed boolean, version bigint, owner text)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    found_tenant  text;
    found_version bigint;
    found_owner   text;
    is_changed    boolean;
BEGIN
    SELECT c.tenant, c.members_version, c.owner INTO found_tenant, found_version, found_owner
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
        IF NOT EXISTS (SELECT FROM members m WHERE m.conversation_id = given_id AND m.user_name = found_owner) THEN
            -- Without any member left it keeps its owner.
            found_owner := coalesce(
                (SELECT m.user_name FROM members m WHERE m.conversation_id = given_id
                 ORDER BY m.joined_at, m.user_name LIMIT 1),
                found_owner);
        END IF;
        UPDATE conversations c SET members_version = found_version, owner = found_owner WHERE c.id = given_id;
    END IF;
    RETURN QUERY SELECT is_changed, found_version, found_owner;
END
$$;
