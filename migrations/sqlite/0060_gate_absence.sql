-- Gates that fell silent: from when on. A row goes when the gate is heard of again; both are entries of the log.
CREATE TABLE gate_absence (
    gate_id TEXT PRIMARY KEY NOT NULL REFERENCES gate (id),
    since INTEGER NOT NULL
) STRICT;
