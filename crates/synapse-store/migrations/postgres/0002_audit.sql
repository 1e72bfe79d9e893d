-- The audit log: appended to, and never changed. Times are microseconds since 1970 (UTC).

CREATE TABLE audit_entries (
    chain            BYTEA NOT NULL,
    seq              BIGINT NOT NULL,
    prev             BYTEA NOT NULL,
    hash             BYTEA NOT NULL,
    id               BYTEA NOT NULL,
    at               BIGINT NOT NULL,
    kind             TEXT COLLATE "C" NOT NULL,
    request          TEXT COLLATE "C",
    key              TEXT COLLATE "C",
    team             TEXT COLLATE "C",
    actor            TEXT COLLATE "C",
    source           TEXT COLLATE "C",
    route            TEXT COLLATE "C",
    operation        TEXT COLLATE "C",
    model_asked      TEXT COLLATE "C",
    model_served     TEXT COLLATE "C",
    backend          TEXT COLLATE "C",
    zone             TEXT COLLATE "C",
    key_class        TEXT COLLATE "C",
    data_class       TEXT COLLATE "C",
    policy           TEXT COLLATE "C",
    policy_version   TEXT COLLATE "C",
    prompt_version   BIGINT,
    prompt_mark      TEXT COLLATE "C",
    digest_key       TEXT COLLATE "C",
    request_digest   BYTEA,
    reply_digest     BYTEA,
    request_bytes    BIGINT,
    reply_bytes      BIGINT,
    tokens_in        BIGINT,
    tokens_out       BIGINT,
    tokens_estimated BIGINT,
    cost             BIGINT,
    attempts         BIGINT,
    stream           BIGINT,
    outcome          TEXT COLLATE "C",
    status           BIGINT,
    code             TEXT COLLATE "C",
    finish_reason    TEXT COLLATE "C",
    incident         TEXT COLLATE "C",
    findings         TEXT COLLATE "C",
    first_token_us   BIGINT,
    duration_us      BIGINT,
    overhead_us      BIGINT,
    timings          TEXT COLLATE "C",
    detail           TEXT COLLATE "C",
    -- Whatever is unique here names the month; that a place is taken once in all months, appending sees to.
    PRIMARY KEY (chain, seq, at)
) PARTITION BY RANGE (at);

-- Whatever no month was made for.
CREATE TABLE audit_entries_other PARTITION OF audit_entries DEFAULT;

-- That a request was accepted is looked for by the request or the time; all else finds what closes it. Nothing is
-- indexed that comes in no order: digests are found by the team and the month of their key.
CREATE INDEX audit_entries_by_time ON audit_entries (at, id);
CREATE INDEX audit_entries_by_request ON audit_entries (request) WHERE request IS NOT NULL;
CREATE INDEX audit_entries_by_team ON audit_entries (team, at, id)
    WHERE team IS NOT NULL AND kind <> 'request.accepted';
CREATE INDEX audit_entries_by_key ON audit_entries (key, at, id)
    WHERE key IS NOT NULL AND kind <> 'request.accepted';
CREATE INDEX audit_entries_by_model ON audit_entries (model_asked, at, id)
    WHERE model_asked IS NOT NULL AND kind <> 'request.accepted';
CREATE INDEX audit_entries_by_outcome ON audit_entries (outcome, at, id) WHERE outcome <> 'completed';
CREATE INDEX audit_entries_by_actor ON audit_entries (actor, at, id) WHERE actor IS NOT NULL;
CREATE INDEX audit_entries_by_incident ON audit_entries (incident) WHERE incident IS NOT NULL;

-- What was signed of each chain.
CREATE TABLE audit_checkpoints (
    chain BYTEA  NOT NULL,
    seq   BIGINT NOT NULL,
    at    BIGINT NOT NULL,
    note  TEXT   NOT NULL,
    PRIMARY KEY (chain, seq)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE insufficient_privilege USING MESSAGE = 'the audit log is never changed';
END;
$$;

-- Rows of partitions are guarded by what guards their parent's; against TRUNCATE each needs a guard of its own.
CREATE TRIGGER no_change BEFORE UPDATE OR DELETE ON audit_entries
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER no_truncation BEFORE TRUNCATE ON audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER no_truncation BEFORE TRUNCATE ON audit_entries_other
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER no_change BEFORE UPDATE OR DELETE ON audit_checkpoints
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER no_truncation BEFORE TRUNCATE ON audit_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Makes this month's partition and those of months to come, for whoever may only append. A month that has entries
-- in the default partition stays there.
CREATE FUNCTION make_audit_partitions() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = synapse, pg_temp AS $$
DECLARE
    this_month CONSTANT TIMESTAMP := date_trunc('month', now() AT TIME ZONE 'UTC');
    month TIMESTAMP;
    part TEXT;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('synapse audit partitions', 0));
    FOR ahead IN 0..2 LOOP
        month := this_month + make_interval(months => ahead);
        part := 'audit_entries_' || to_char(month, 'YYYY_MM');
        CONTINUE WHEN to_regclass(part) IS NOT NULL;
        BEGIN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF audit_entries FOR VALUES FROM (%s) TO (%s)',
                part,
                (extract(epoch FROM month) * 1000000)::BIGINT,
                (extract(epoch FROM month + INTERVAL '1 month') * 1000000)::BIGINT
            );
            EXECUTE format(
                'CREATE TRIGGER no_truncation BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()',
                part
            );
        EXCEPTION WHEN check_violation THEN
            RAISE WARNING 'entries of % stay in audit_entries_other', part;
        END;
    END LOOP;
END;
$$;
REVOKE ALL ON FUNCTION make_audit_partitions() FROM PUBLIC;
