-- Alerts, what is owed to webhooks for them, and what detectors have learnt. Identifiers sort by time.

CREATE TABLE alerts (
    id          TEXT COLLATE "C" PRIMARY KEY,
    at          BIGINT NOT NULL,
    rule        TEXT   NOT NULL,
    severity    TEXT   NOT NULL,
    rank        BIGINT NOT NULL,
    subject     TEXT COLLATE "C" NOT NULL,
    key         TEXT COLLATE "C",
    team        TEXT COLLATE "C",
    source      TEXT,
    title       TEXT   NOT NULL,
    explanation TEXT   NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('open', 'acknowledged', 'muted')),
    state_time  BIGINT,
    CHECK ((state = 'open') = (state_time IS NULL))
);

CREATE INDEX alerts_by_time ON alerts (at, id);
CREATE INDEX alerts_by_team ON alerts (team, at, id);
CREATE INDEX alerts_by_key ON alerts (key, at, id);
CREATE INDEX alerts_muted ON alerts (rule, subject, state_time) WHERE state = 'muted';

CREATE TABLE deliveries (
    alert    TEXT COLLATE "C" NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    webhook  TEXT COLLATE "C" NOT NULL,
    progress TEXT COLLATE "C" NOT NULL CHECK (progress IN ('pending', 'delivered', 'dead')),
    attempts BIGINT NOT NULL DEFAULT 0,
    next_at  BIGINT NOT NULL,
    error    TEXT,
    PRIMARY KEY (alert, webhook)
);

CREATE INDEX deliveries_due ON deliveries (webhook, next_at) WHERE progress = 'pending';

CREATE TABLE baselines (
    instance TEXT COLLATE "C" PRIMARY KEY,
    saved_at BIGINT NOT NULL,
    state    TEXT   NOT NULL
);
