-- Who watches the log: gates and outside witnesses.
CREATE TABLE witness (
    name TEXT PRIMARY KEY NOT NULL,
    vkey TEXT NOT NULL,
    gate_id TEXT REFERENCES gate (id),
    since BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    size BIGINT NOT NULL
);

-- Cosignatures of the newest checkpoints; older ones are dropped, since a newer checkpoint vouches for them.
CREATE TABLE witness_cosignature (
    size BIGINT NOT NULL,
    witness TEXT NOT NULL REFERENCES witness (name),
    line TEXT NOT NULL,
    PRIMARY KEY (size, witness)
);

-- The log betrayed a witness, or the server's own check. Both checkpoints are kept as evidence.
CREATE TABLE log_alarm (
    id TEXT PRIMARY KEY NOT NULL,
    raised_by TEXT NOT NULL,
    what TEXT NOT NULL,
    kept TEXT,
    shown TEXT,
    at BIGINT NOT NULL
);
CREATE TRIGGER log_alarm_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON log_alarm FOR EACH STATEMENT EXECUTE FUNCTION log_is_append_only();
