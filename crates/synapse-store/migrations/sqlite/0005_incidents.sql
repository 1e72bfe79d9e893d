-- What was found in requests and replies; never the matched text. Identifiers sort by time.

CREATE TABLE incidents (
    id             TEXT    NOT NULL PRIMARY KEY,
    at             INTEGER NOT NULL,
    request        TEXT    NOT NULL,
    key            TEXT,
    team           TEXT,
    model          TEXT,
    policy         TEXT    NOT NULL,
    policy_version TEXT    NOT NULL,
    action         TEXT    NOT NULL,
    severity       TEXT    NOT NULL,
    findings       TEXT    NOT NULL CHECK (json_type(findings) = 'array')
) STRICT;

CREATE INDEX incidents_by_time ON incidents (at, id);
CREATE INDEX incidents_by_team ON incidents (team, at, id);
CREATE INDEX incidents_by_key ON incidents (key, at, id);

-- Whoever keeps keys in memory looks at this mark; incidents come often, and do not move it.

CREATE TABLE changes (mark INTEGER NOT NULL) STRICT;
INSERT INTO changes (mark) VALUES (0);

CREATE TRIGGER teams_inserted AFTER INSERT ON teams BEGIN UPDATE changes SET mark = mark + 1; END;
CREATE TRIGGER teams_updated AFTER UPDATE ON teams BEGIN UPDATE changes SET mark = mark + 1; END;
CREATE TRIGGER teams_deleted AFTER DELETE ON teams BEGIN UPDATE changes SET mark = mark + 1; END;
CREATE TRIGGER keys_inserted AFTER INSERT ON keys BEGIN UPDATE changes SET mark = mark + 1; END;
CREATE TRIGGER keys_updated AFTER UPDATE ON keys BEGIN UPDATE changes SET mark = mark + 1; END;
CREATE TRIGGER keys_deleted AFTER DELETE ON keys BEGIN UPDATE changes SET mark = mark + 1; END;
CREATE TRIGGER worker_keys_inserted AFTER INSERT ON worker_keys BEGIN UPDATE changes SET mark = mark + 1; END;
CREATE TRIGGER worker_keys_updated AFTER UPDATE ON worker_keys BEGIN UPDATE changes SET mark = mark + 1; END;
CREATE TRIGGER worker_keys_deleted AFTER DELETE ON worker_keys BEGIN UPDATE changes SET mark = mark + 1; END;
CREATE TRIGGER admin_tokens_inserted AFTER INSERT ON admin_tokens BEGIN UPDATE changes SET mark = mark + 1; END;
CREATE TRIGGER admin_tokens_updated AFTER UPDATE ON admin_tokens BEGIN UPDATE changes SET mark = mark + 1; END;
CREATE TRIGGER admin_tokens_deleted AFTER DELETE ON admin_tokens BEGIN UPDATE changes SET mark = mark + 1; END;
