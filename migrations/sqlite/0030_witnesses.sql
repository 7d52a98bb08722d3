-- Who watches the log: gates and outside witnesses.
CREATE TABLE witness (
    name TEXT PRIMARY KEY NOT NULL,
    vkey TEXT NOT NULL,
    gate_id TEXT REFERENCES gate (id),
    since INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    size INTEGER NOT NULL
) STRICT;

-- Cosignatures of the newest checkpoints; older ones are dropped, since a newer checkpoint vouches for them.
CREATE TABLE witness_cosignature (
    size INTEGER NOT NULL,
    witness TEXT NOT NULL REFERENCES witness (name),
    line TEXT NOT NULL,
    PRIMARY KEY (size, witness)
) STRICT;

-- The log betrayed a witness, or the server's own check. Both checkpoints are kept as evidence.
CREATE TABLE log_alarm (
    id TEXT PRIMARY KEY NOT NULL,
    raised_by TEXT NOT NULL,
    what TEXT NOT NULL,
    kept TEXT,
    shown TEXT,
    at INTEGER NOT NULL
) STRICT;
CREATE TRIGGER log_alarm_keeps BEFORE UPDATE ON log_alarm BEGIN SELECT RAISE(ABORT, 'alarms are never changed'); END;
CREATE TRIGGER log_alarm_stays BEFORE DELETE ON log_alarm BEGIN SELECT RAISE(ABORT, 'alarms are never deleted'); END;
