-- Teams, keys, tokens, incidents. Times are microseconds since 1970 (UTC); of a secret, only its SHA-256 is kept.
-- Texts compare byte by byte, as they do in SQLite. `number` tells which of two rows of one instant is newer.

CREATE TABLE teams (
    name       TEXT COLLATE "C" PRIMARY KEY,
    created_at BIGINT  NOT NULL,
    disabled   BOOLEAN NOT NULL DEFAULT FALSE,
    limits     TEXT    NOT NULL CHECK (json_typeof(limits::json) = 'object')
);

CREATE TABLE keys (
    id             TEXT COLLATE "C" PRIMARY KEY,
    number         BIGINT  GENERATED ALWAYS AS IDENTITY,
    team           TEXT COLLATE "C" NOT NULL REFERENCES teams (name),
    group_name     TEXT    NOT NULL,
    name           TEXT,
    models         TEXT    NOT NULL CHECK (json_typeof(models::json) = 'array'),
    created_at     BIGINT  NOT NULL,
    expires_at     BIGINT,
    revoked_at     BIGINT,
    disabled       BOOLEAN NOT NULL DEFAULT FALSE,
    hash           BYTEA   NOT NULL CHECK (octet_length(hash) = 32),
    previous_hash  BYTEA   CHECK (octet_length(previous_hash) = 32),
    previous_until BIGINT,
    binding        TEXT    NOT NULL CHECK (json_typeof(binding::json) = 'object'),
    CHECK ((previous_hash IS NULL) = (previous_until IS NULL))
);

CREATE INDEX keys_by_team ON keys (team);

-- Every system prompt that a key has had, so that a record's version can be read up.
CREATE TABLE system_prompts (
    key_id     TEXT COLLATE "C" NOT NULL REFERENCES keys (id),
    version    BIGINT NOT NULL CHECK (version > 0),
    text       TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (key_id, version)
);

CREATE TABLE worker_keys (
    id           TEXT COLLATE "C" PRIMARY KEY,
    number       BIGINT  GENERATED ALWAYS AS IDENTITY,
    group_name   TEXT    NOT NULL,
    description  TEXT,
    allows_cloud BOOLEAN NOT NULL,
    created_at   BIGINT  NOT NULL,
    revoked_at   BIGINT,
    hash         BYTEA   NOT NULL CHECK (octet_length(hash) = 32)
);

CREATE TABLE admin_tokens (
    id          TEXT COLLATE "C" PRIMARY KEY,
    number      BIGINT GENERATED ALWAYS AS IDENTITY,
    description TEXT,
    created_at  BIGINT NOT NULL,
    revoked_at  BIGINT,
    hash        BYTEA  NOT NULL CHECK (octet_length(hash) = 32)
);

-- What was found in requests and replies; never the matched text. Identifiers sort by time.
CREATE TABLE incidents (
    id             TEXT COLLATE "C" PRIMARY KEY,
    at             BIGINT NOT NULL,
    request        TEXT   NOT NULL,
    key            TEXT COLLATE "C",
    team           TEXT COLLATE "C",
    model          TEXT,
    policy         TEXT   NOT NULL,
    policy_version TEXT   NOT NULL,
    action         TEXT   NOT NULL,
    severity       TEXT   NOT NULL,
    findings       TEXT   NOT NULL CHECK (json_typeof(findings::json) = 'array')
);

CREATE INDEX incidents_by_time ON incidents (at, id);
CREATE INDEX incidents_by_team ON incidents (team, at, id);
CREATE INDEX incidents_by_key ON incidents (key, at, id);

-- Whoever keeps keys in memory looks at this mark, and is told when it moves; incidents come often, and do not
-- move it. Whoever changes teams, keys or tokens locks it first, so that one does so after the other.
CREATE TABLE changes (mark BIGINT NOT NULL);
INSERT INTO changes (mark) VALUES (0);

CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE synapse.changes SET mark = mark + 1;
    PERFORM pg_notify('synapse_changes', '');
    RETURN NULL;
END;
$$;

CREATE TRIGGER note_change AFTER INSERT OR UPDATE OR DELETE ON teams
    FOR EACH STATEMENT EXECUTE FUNCTION note_change();
CREATE TRIGGER note_change AFTER INSERT OR UPDATE OR DELETE ON keys
    FOR EACH STATEMENT EXECUTE FUNCTION note_change();
CREATE TRIGGER note_change AFTER INSERT OR UPDATE OR DELETE ON worker_keys
    FOR EACH STATEMENT EXECUTE FUNCTION note_change();
CREATE TRIGGER note_change AFTER INSERT OR UPDATE OR DELETE ON admin_tokens
    FOR EACH STATEMENT EXECUTE FUNCTION note_change();
