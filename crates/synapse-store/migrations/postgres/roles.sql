-- Before a schema is made or changed: who may do what. Where the user may make roles, there are three; the schema
-- belongs to the first of them. Roles belong to the whole server, so several databases may find them made.
DO $$
DECLARE
    may_all CONSTANT BOOLEAN := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
    may_make CONSTANT BOOLEAN := (SELECT rolcreaterole FROM pg_roles WHERE rolname = current_user);
    role TEXT;
BEGIN
    FOREACH role IN ARRAY ARRAY['synapse_migrator', 'synapse_app', 'synapse_reader'] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = role);
        CONTINUE WHEN NOT (may_all OR may_make);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            IF NOT may_all THEN
                EXECUTE format('GRANT %I TO CURRENT_USER', role);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- Somebody else was quicker.
        END;
    END LOOP;

    -- A schema that was made without the roles stays its maker's.
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'synapse_migrator' AND pg_has_role(oid, 'MEMBER'))
        AND NOT EXISTS (
            SELECT FROM pg_namespace AS n JOIN pg_roles AS owner ON owner.oid = n.nspowner
            WHERE n.nspname = 'synapse' AND owner.rolname <> 'synapse_migrator'
        )
    THEN
        IF NOT has_database_privilege('synapse_migrator', current_database(), 'CREATE') THEN
            EXECUTE format('GRANT CREATE ON DATABASE %I TO synapse_migrator', current_database());
        END IF;
        PERFORM set_config('role', 'synapse_migrator', TRUE);
    END IF;
END;
$$;
CREATE SCHEMA IF NOT EXISTS synapse;
