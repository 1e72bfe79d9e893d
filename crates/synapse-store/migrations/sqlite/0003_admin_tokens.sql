-- Administrators' tokens, for the admin API.

CREATE TABLE admin_tokens (
    id          TEXT    NOT NULL PRIMARY KEY,
    description TEXT,
    created_at  INTEGER NOT NULL,
    revoked_at  INTEGER,
    hash        BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;
