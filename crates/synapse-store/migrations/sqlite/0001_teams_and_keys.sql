-- Teams and their keys. Times are microseconds since 1970 (UTC); of a secret, only its SHA-256 is kept.

CREATE TABLE teams (
    name       TEXT    NOT NULL PRIMARY KEY,
    created_at INTEGER NOT NULL,
    disabled   INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1))
) STRICT;

CREATE TABLE keys (
    id             TEXT    NOT NULL PRIMARY KEY,
    team           TEXT    NOT NULL REFERENCES teams (name),
    name           TEXT,
    models         TEXT    NOT NULL CHECK (json_type(models) = 'array'),
    created_at     INTEGER NOT NULL,
    expires_at     INTEGER,
    revoked_at     INTEGER,
    disabled       INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    hash           BLOB    NOT NULL CHECK (length(hash) = 32),
    previous_hash  BLOB    CHECK (length(previous_hash) = 32),
    previous_until INTEGER,
    CHECK ((previous_hash IS NULL) = (previous_until IS NULL))
) STRICT;

CREATE INDEX keys_by_team ON keys (team);
