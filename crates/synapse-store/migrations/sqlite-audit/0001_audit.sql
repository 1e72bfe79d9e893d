-- A month of the audit log: appended to, and never changed. Times are microseconds since 1970 (UTC).

CREATE TABLE entries (
    chain            BLOB NOT NULL,
    seq              INTEGER NOT NULL,
    prev             BLOB NOT NULL,
    hash             BLOB NOT NULL,
    id               BLOB NOT NULL,
    at               INTEGER NOT NULL,
    kind             TEXT NOT NULL,
    request          TEXT,
    key              TEXT,
    team             TEXT,
    actor            TEXT,
    source           TEXT,
    route            TEXT,
    operation        TEXT,
    model_asked      TEXT,
    model_served     TEXT,
    backend          TEXT,
    zone             TEXT,
    key_class        TEXT,
    data_class       TEXT,
    policy           TEXT,
    policy_version   TEXT,
    prompt_version   INTEGER,
    prompt_mark      TEXT,
    digest_key       TEXT,
    request_digest   BLOB,
    reply_digest     BLOB,
    request_bytes    INTEGER,
    reply_bytes      INTEGER,
    tokens_in        INTEGER,
    tokens_out       INTEGER,
    tokens_estimated INTEGER,
    cost             INTEGER,
    attempts         INTEGER,
    stream           INTEGER,
    outcome          TEXT,
    status           INTEGER,
    code             TEXT,
    finish_reason    TEXT,
    incident         TEXT,
    findings         TEXT,
    first_token_us   INTEGER,
    duration_us      INTEGER,
    overhead_us      INTEGER,
    timings          TEXT,
    detail           TEXT,
    PRIMARY KEY (chain, seq)
) STRICT;

-- That a request was accepted is looked for by the request or the time; all else finds what closes it. Nothing is
-- indexed that comes in no order: digests are found by the team and the month of their key.
CREATE INDEX entries_by_time ON entries (at, id);
CREATE INDEX entries_by_request ON entries (request) WHERE request IS NOT NULL;
CREATE INDEX entries_by_team ON entries (team, at, id)
    WHERE team IS NOT NULL AND kind <> 'request.accepted';
CREATE INDEX entries_by_key ON entries (key, at, id)
    WHERE key IS NOT NULL AND kind <> 'request.accepted';
CREATE INDEX entries_by_model ON entries (model_asked, at, id)
    WHERE model_asked IS NOT NULL AND kind <> 'request.accepted';
CREATE INDEX entries_by_outcome ON entries (outcome, at, id) WHERE outcome <> 'completed';
CREATE INDEX entries_by_actor ON entries (actor, at, id) WHERE actor IS NOT NULL;
CREATE INDEX entries_by_incident ON entries (incident) WHERE incident IS NOT NULL;

-- What was signed of each chain.
CREATE TABLE checkpoints (
    chain BLOB    NOT NULL,
    seq   INTEGER NOT NULL,
    at    INTEGER NOT NULL,
    note  TEXT    NOT NULL,
    PRIMARY KEY (chain, seq)
) STRICT;

-- What these do not stop (`INSERT OR REPLACE` counts as no deletion, and who owns the file drops them) verification
-- finds.
CREATE TRIGGER entries_are_not_changed BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'the audit log is never changed'); END;
CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'the audit log is never changed'); END;
CREATE TRIGGER checkpoints_are_not_changed BEFORE UPDATE ON checkpoints
BEGIN SELECT RAISE(ABORT, 'the audit log is never changed'); END;
CREATE TRIGGER checkpoints_are_not_deleted BEFORE DELETE ON checkpoints
BEGIN SELECT RAISE(ABORT, 'the audit log is never changed'); END;
