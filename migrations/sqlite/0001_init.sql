-- Registry, gates, passages and audit log. Times are microseconds since 1970 UTC. *_sealed columns are ciphertext.
CREATE TABLE setting (
    name TEXT PRIMARY KEY NOT NULL,
    value_sealed BLOB NOT NULL
) STRICT;

-- Category, status, effective date and name are one sealed record, so that nobody with the database alone can change them.
CREATE TABLE subject (
    id TEXT PRIMARY KEY NOT NULL,
    key_wrapped BLOB NOT NULL,
    record_sealed BLOB NOT NULL,
    submission_sha256 TEXT NOT NULL,
    log_index INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Tells every running server which subjects to load again or drop.
CREATE TABLE registry_change (
    seq INTEGER PRIMARY KEY NOT NULL,
    subject_id TEXT NOT NULL
) STRICT;

CREATE TABLE reference (
    id TEXT PRIMARY KEY NOT NULL,
    subject_id TEXT NOT NULL REFERENCES subject (id) ON DELETE CASCADE,
    modality TEXT NOT NULL,
    model TEXT NOT NULL,
    template_sealed BLOB NOT NULL,
    source_sha256 TEXT NOT NULL,
    photograph_sealed BLOB,
    created_at INTEGER NOT NULL,
    UNIQUE (subject_id, model, source_sha256)
) STRICT;

CREATE TABLE gate (
    id TEXT PRIMARY KEY NOT NULL,
    direction TEXT NOT NULL,
    policy TEXT NOT NULL,
    locked_down INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    last_seen INTEGER,
    health TEXT
) STRICT;

CREATE TABLE gate_key (
    spki_sha256 TEXT PRIMARY KEY NOT NULL,
    gate_id TEXT NOT NULL REFERENCES gate (id),
    issued_at INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE TABLE join_token (
    secret_sha256 TEXT PRIMARY KEY NOT NULL,
    gate_id TEXT NOT NULL REFERENCES gate (id),
    expires_at INTEGER NOT NULL,
    used_at INTEGER
) STRICT;

CREATE TABLE passage (
    transaction_id TEXT PRIMARY KEY NOT NULL,
    gate_id TEXT NOT NULL REFERENCES gate (id),
    direction TEXT NOT NULL,
    captured_at INTEGER NOT NULL,
    decided_at INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    candidates TEXT NOT NULL,
    pad TEXT NOT NULL,
    defects TEXT NOT NULL,
    policy TEXT NOT NULL,
    model TEXT NOT NULL,
    request_sha256 TEXT NOT NULL,
    door_nonce TEXT NOT NULL,
    attachment_sealed BLOB,
    log_index INTEGER NOT NULL,
    door_outcome TEXT,
    door_at INTEGER
) STRICT;
CREATE INDEX passage_by_time ON passage (decided_at);
CREATE INDEX passage_by_log_index ON passage (log_index);

CREATE TABLE review (
    transaction_id TEXT PRIMARY KEY NOT NULL REFERENCES passage (transaction_id),
    officer_id TEXT NOT NULL,
    verdict TEXT NOT NULL,
    reason_sealed BLOB NOT NULL,
    decided_at INTEGER NOT NULL,
    log_index INTEGER NOT NULL,
    fetched_at INTEGER
) STRICT;

CREATE TABLE door_report (
    transaction_id TEXT PRIMARY KEY NOT NULL,
    gate_id TEXT NOT NULL REFERENCES gate (id),
    outcome TEXT NOT NULL,
    at INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    log_index INTEGER NOT NULL
) STRICT;

CREATE TABLE log_entry (
    idx INTEGER PRIMARY KEY NOT NULL,
    time INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    leaf_hash BLOB NOT NULL
) STRICT;

CREATE INDEX log_entry_by_time ON log_entry (time);

-- What an entry must not carry in clear; the entry has SHA-256(salt || sealed).
CREATE TABLE log_detail (
    idx INTEGER PRIMARY KEY NOT NULL REFERENCES log_entry (idx),
    salt BLOB NOT NULL,
    sealed BLOB NOT NULL
) STRICT;

CREATE TABLE log_node (
    level INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;

CREATE TABLE log_checkpoint (
    size INTEGER PRIMARY KEY NOT NULL,
    note TEXT NOT NULL
) STRICT;

CREATE TRIGGER log_entry_keeps BEFORE UPDATE ON log_entry BEGIN SELECT RAISE(ABORT, 'log entries are never changed'); END;
CREATE TRIGGER log_entry_stays BEFORE DELETE ON log_entry BEGIN SELECT RAISE(ABORT, 'log entries are never deleted'); END;
CREATE TRIGGER log_node_keeps BEFORE UPDATE ON log_node BEGIN SELECT RAISE(ABORT, 'log nodes are never changed'); END;
CREATE TRIGGER log_node_stays BEFORE DELETE ON log_node BEGIN SELECT RAISE(ABORT, 'log nodes are never deleted'); END;
CREATE TRIGGER log_checkpoint_keeps BEFORE UPDATE ON log_checkpoint BEGIN SELECT RAISE(ABORT, 'checkpoints are never changed'); END;
CREATE TRIGGER log_checkpoint_stays BEFORE DELETE ON log_checkpoint BEGIN SELECT RAISE(ABORT, 'checkpoints are never deleted'); END;
