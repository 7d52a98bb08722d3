-- The key by which a gate signs its events; a change is an entry of the log.
CREATE TABLE gate_event_key (
    gate_id TEXT PRIMARY KEY NOT NULL REFERENCES gate (id),
    vkey TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT;

-- Numbers and digests of the events that a gate signed. A second content under one number is kept as not accepted.
CREATE TABLE gate_event (
    gate_id TEXT NOT NULL REFERENCES gate (id),
    vkey TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    digest TEXT NOT NULL,
    accepted INTEGER NOT NULL,
    log_index INTEGER NOT NULL,
    PRIMARY KEY (gate_id, vkey, sequence, digest)
) STRICT;

-- Doors that were freed for life safety, from when to when by the gate's clock.
CREATE TABLE life_safety_release (
    id TEXT PRIMARY KEY NOT NULL,
    gate_id TEXT NOT NULL REFERENCES gate (id),
    source TEXT NOT NULL,
    doors TEXT NOT NULL,
    began_at INTEGER NOT NULL,
    ended_at INTEGER,
    began_index INTEGER NOT NULL
) STRICT;
