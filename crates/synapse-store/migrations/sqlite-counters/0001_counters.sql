-- What keys and teams have spent of the present day and month.
CREATE TABLE counters (
    level TEXT NOT NULL,
    name TEXT NOT NULL,
    measure TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (level, name, measure)
) STRICT, WITHOUT ROWID;
