-- Keys reach the backends and workers of one group; workers join one with keys of their own.

ALTER TABLE keys ADD COLUMN group_name TEXT NOT NULL DEFAULT 'default';

CREATE TABLE worker_keys (
    id           TEXT    NOT NULL PRIMARY KEY,
    group_name   TEXT    NOT NULL,
    description  TEXT,
    allows_cloud INTEGER NOT NULL CHECK (allows_cloud IN (0, 1)),
    created_at   INTEGER NOT NULL,
    revoked_at   INTEGER,
    hash         BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;
