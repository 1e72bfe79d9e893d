-- What stands in place of old entries of the audit log, and orders to keep what there is. Times are microseconds.

CREATE TABLE audit_anchors (
    chain BYTEA  NOT NULL,
    next  BIGINT NOT NULL,
    at    BIGINT NOT NULL,
    note  TEXT   NOT NULL,
    PRIMARY KEY (chain, next)
);

CREATE TABLE audit_holds (
    id          TEXT COLLATE "C" PRIMARY KEY,
    since       BIGINT,
    reason      TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    released_at BIGINT
);

CREATE TRIGGER no_change BEFORE UPDATE OR DELETE ON audit_anchors
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER no_truncation BEFORE TRUNCATE ON audit_anchors
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Takes out the months before a time, for whoever may only append: months that ended a month ago at least, that no
-- hold keeps, and that an anchor stands in place of. Gives how many entries that were.
CREATE FUNCTION retire_audit_months(before BIGINT) RETURNS BIGINT
LANGUAGE plpgsql SECURITY DEFINER SET search_path = synapse, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    part NAME;
    gone BIGINT := 0;
    count BIGINT;
BEGIN
    IF before > extract(epoch FROM now() - INTERVAL '31 days') * 1000000 THEN
        RAISE insufficient_privilege USING MESSAGE = 'a month of the audit log is kept for a month at least';
    END IF;
    IF EXISTS (SELECT FROM audit_holds WHERE released_at IS NULL AND coalesce(since, 0) < before) THEN
        RAISE insufficient_privilege USING MESSAGE = 'a hold keeps these months of the audit log';
    END IF;
    IF EXISTS (
        SELECT FROM (SELECT chain, max(seq) AS last FROM audit_entries WHERE at < before GROUP BY chain) AS e
        WHERE e.last >= coalesce((SELECT max(a.next) FROM audit_anchors AS a WHERE a.chain = e.chain), 0)
    ) THEN
        RAISE insufficient_privilege USING MESSAGE = 'no anchor stands in place of these months of the audit log';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('synapse audit partitions', 0));
    FOR part IN
        SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'audit_entries'::regclass AND c.relname ~ '^audit_entries_\d{4}_\d{2}$'
        AND extract(epoch FROM to_date(right(c.relname, 7), 'YYYY_MM') + INTERVAL '1 month') * 1000000 <= before
    LOOP
        EXECUTE format('SELECT count(*) FROM %I', part) INTO count;
        gone := gone + count;
        EXECUTE format('DROP TABLE %I', part);
    END LOOP;
    IF EXISTS (SELECT FROM audit_entries_other WHERE at < before) THEN
        ALTER TABLE audit_entries_other DISABLE TRIGGER no_change;
        DELETE FROM audit_entries_other WHERE at < before;
        GET DIAGNOSTICS count = ROW_COUNT;
        gone := gone + count;
        ALTER TABLE audit_entries_other ENABLE TRIGGER no_change;
    END IF;
    ALTER TABLE audit_checkpoints DISABLE TRIGGER no_change;
    DELETE FROM audit_checkpoints AS c WHERE c.at < before
        AND c.seq < (SELECT max(a.next) FROM audit_anchors AS a WHERE a.chain = c.chain);
    ALTER TABLE audit_checkpoints ENABLE TRIGGER no_change;
    RETURN gone;
END;
$$;
REVOKE ALL ON FUNCTION retire_audit_months(BIGINT) FROM PUBLIC;
