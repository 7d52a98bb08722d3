-- What shall happen in a window of time: rounds, counts, reviews, deletions. Missed stays missed, also when it is kept late.
CREATE TABLE promise (
    id TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    gate_id TEXT REFERENCES gate (id),
    subject_id TEXT,
    opens_at INTEGER NOT NULL,
    closes_at INTEGER NOT NULL,
    missed INTEGER NOT NULL,
    kept_at INTEGER
) STRICT;
CREATE INDEX promise_open ON promise (kept_at, closes_at);
