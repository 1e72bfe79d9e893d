-- What keys decide for their callers besides models, and what teams may spend. A key that was made before is
-- bound to nothing more, which makes its traffic as sensitive as any can be.

ALTER TABLE keys ADD COLUMN binding TEXT NOT NULL DEFAULT '{}' CHECK (json_type(binding) = 'object');

ALTER TABLE teams ADD COLUMN limits TEXT NOT NULL DEFAULT '{}' CHECK (json_type(limits) = 'object');

-- Every system prompt that a key has had, so that a record's version can be read up.
CREATE TABLE system_prompts (
    key_id     TEXT    NOT NULL REFERENCES keys (id),
    version    INTEGER NOT NULL CHECK (version > 0),
    text       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (key_id, version)
) STRICT;
