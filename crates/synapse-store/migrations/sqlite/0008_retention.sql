-- What stands in place of old entries of the audit log, and orders to keep what there is. Times are microseconds.

CREATE TABLE audit_anchors (
    chain BLOB    NOT NULL,
    next  INTEGER NOT NULL,
    at    INTEGER NOT NULL,
    note  TEXT    NOT NULL,
    PRIMARY KEY (chain, next)
) STRICT;

CREATE TABLE audit_holds (
    id          TEXT PRIMARY KEY,
    since       INTEGER,
    reason      TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    released_at INTEGER
) STRICT;

CREATE TRIGGER anchors_are_not_changed BEFORE UPDATE ON audit_anchors
BEGIN SELECT RAISE(ABORT, 'the audit log is never changed'); END;
CREATE TRIGGER anchors_are_not_deleted BEFORE DELETE ON audit_anchors
BEGIN SELECT RAISE(ABORT, 'the audit log is never changed'); END;
