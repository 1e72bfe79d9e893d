-- Alerts, what is owed to webhooks for them, and what detectors have learnt. Identifiers sort by time.

CREATE TABLE alerts (
    id          TEXT    NOT NULL PRIMARY KEY,
    at          INTEGER NOT NULL,
    rule        TEXT    NOT NULL,
    severity    TEXT    NOT NULL,
    rank        INTEGER NOT NULL,
    subject     TEXT    NOT NULL,
    key         TEXT,
    team        TEXT,
    source      TEXT,
    title       TEXT    NOT NULL,
    explanation TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('open', 'acknowledged', 'muted')),
    state_time  INTEGER,
    CHECK ((state = 'open') = (state_time IS NULL))
) STRICT;

CREATE INDEX alerts_by_time ON alerts (at, id);
CREATE INDEX alerts_by_team ON alerts (team, at, id);
CREATE INDEX alerts_by_key ON alerts (key, at, id);
CREATE INDEX alerts_muted ON alerts (rule, subject, state_time) WHERE state = 'muted';

CREATE TABLE deliveries (
    alert    TEXT    NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    webhook  TEXT    NOT NULL,
    progress TEXT    NOT NULL CHECK (progress IN ('pending', 'delivered', 'dead')),
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at  INTEGER NOT NULL,
    error    TEXT,
    PRIMARY KEY (alert, webhook)
) STRICT;

CREATE INDEX deliveries_due ON deliveries (webhook, next_at) WHERE progress = 'pending';

CREATE TABLE baselines (
    instance TEXT    NOT NULL PRIMARY KEY,
    saved_at INTEGER NOT NULL,
    state    TEXT    NOT NULL
) STRICT;
