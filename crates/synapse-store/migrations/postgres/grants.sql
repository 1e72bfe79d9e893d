-- After a schema was made or changed: the gateway reads and writes, and only appends to the audit log; a reader sees
-- the audit log and incidents, and no hashes of keys.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'synapse_app') THEN
        GRANT USAGE ON SCHEMA synapse TO synapse_app;
        GRANT SELECT ON ALL TABLES IN SCHEMA synapse TO synapse_app;
        GRANT INSERT, UPDATE, DELETE ON teams, keys, system_prompts, worker_keys, admin_tokens, incidents, alerts,
            deliveries, baselines TO synapse_app;
        GRANT UPDATE ON changes TO synapse_app;
        GRANT INSERT ON audit_entries, audit_checkpoints, audit_anchors, audit_holds TO synapse_app;
        GRANT UPDATE (released_at) ON audit_holds TO synapse_app;
        GRANT EXECUTE ON FUNCTION retire_audit_months(BIGINT) TO synapse_app;
        GRANT EXECUTE ON FUNCTION make_audit_partitions() TO synapse_app;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'synapse_reader') THEN
        GRANT USAGE ON SCHEMA synapse TO synapse_reader;
        GRANT SELECT ON audit_entries, audit_checkpoints, audit_anchors, audit_holds, incidents TO synapse_reader;
    END IF;
END;
$$;
