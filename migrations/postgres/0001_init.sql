-- Registry, gates, passages and audit log. Times are microseconds since 1970 UTC. *_sealed columns are ciphertext.
CREATE TABLE setting (
    name TEXT PRIMARY KEY NOT NULL,
    value_sealed BYTEA NOT NULL
);

-- Category, status, effective date and name are one sealed record, so that nobody with the database alone can change them.
CREATE TABLE subject (
    id TEXT PRIMARY KEY NOT NULL,
    key_wrapped BYTEA NOT NULL,
    record_sealed BYTEA NOT NULL,
    submission_sha256 TEXT NOT NULL,
    log_index BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Tells every running server which subjects to load again or drop.
CREATE TABLE registry_change (
    seq BIGINT PRIMARY KEY NOT NULL,
    subject_id TEXT NOT NULL
);

CREATE TABLE reference (
    id TEXT PRIMARY KEY NOT NULL,
    subject_id TEXT NOT NULL REFERENCES subject (id) ON DELETE CASCADE,
    modality TEXT NOT NULL,
    model TEXT NOT NULL,
    template_sealed BYTEA NOT NULL,
    source_sha256 TEXT NOT NULL,
    photograph_sealed BYTEA,
    created_at BIGINT NOT NULL,
    UNIQUE (subject_id, model, source_sha256)
);

CREATE TABLE gate (
    id TEXT PRIMARY KEY NOT NULL,
    direction TEXT NOT NULL,
    policy TEXT NOT NULL,
    locked_down BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    last_seen BIGINT,
    health TEXT
);

CREATE TABLE gate_key (
    spki_sha256 TEXT PRIMARY KEY NOT NULL,
    gate_id TEXT NOT NULL REFERENCES gate (id),
    issued_at BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE TABLE join_token (
    secret_sha256 TEXT PRIMARY KEY NOT NULL,
    gate_id TEXT NOT NULL REFERENCES gate (id),
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);

CREATE TABLE passage (
    transaction_id TEXT PRIMARY KEY NOT NULL,
    gate_id TEXT NOT NULL REFERENCES gate (id),
    direction TEXT NOT NULL,
    captured_at BIGINT NOT NULL,
    decided_at BIGINT NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    candidates TEXT NOT NULL,
    pad TEXT NOT NULL,
    defects TEXT NOT NULL,
    policy TEXT NOT NULL,
    model TEXT NOT NULL,
    request_sha256 TEXT NOT NULL,
    door_nonce TEXT NOT NULL,
    attachment_sealed BYTEA,
    log_index BIGINT NOT NULL,
    door_outcome TEXT,
    door_at BIGINT
);
CREATE INDEX passage_by_time ON passage (decided_at);
CREATE INDEX passage_by_log_index ON passage (log_index);

CREATE TABLE review (
    transaction_id TEXT PRIMARY KEY NOT NULL REFERENCES passage (transaction_id),
    officer_id TEXT NOT NULL,
    verdict TEXT NOT NULL,
    reason_sealed BYTEA NOT NULL,
    decided_at BIGINT NOT NULL,
    log_index BIGINT NOT NULL,
    fetched_at BIGINT
);

CREATE TABLE door_report (
    transaction_id TEXT PRIMARY KEY NOT NULL,
    gate_id TEXT NOT NULL REFERENCES gate (id),
    outcome TEXT NOT NULL,
    at BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    log_index BIGINT NOT NULL
);

CREATE TABLE log_entry (
    idx BIGINT PRIMARY KEY NOT NULL,
    time BIGINT NOT NULL,
    bytes BYTEA NOT NULL,
    leaf_hash BYTEA NOT NULL
);

CREATE INDEX log_entry_by_time ON log_entry (time);

-- What an entry must not carry in clear; the entry has SHA-256(salt || sealed).
CREATE TABLE log_detail (
    idx BIGINT PRIMARY KEY NOT NULL REFERENCES log_entry (idx),
    salt BYTEA NOT NULL,
    sealed BYTEA NOT NULL
);

CREATE TABLE log_node (
    level BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    PRIMARY KEY (level, idx)
);

CREATE TABLE log_checkpoint (
    size BIGINT PRIMARY KEY NOT NULL,
    note TEXT NOT NULL
);


CREATE FUNCTION log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;
CREATE TRIGGER log_entry_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON log_entry FOR EACH STATEMENT EXECUTE FUNCTION log_is_append_only();
CREATE TRIGGER log_node_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON log_node FOR EACH STATEMENT EXECUTE FUNCTION log_is_append_only();
CREATE TRIGGER log_checkpoint_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON log_checkpoint FOR EACH STATEMENT EXECUTE FUNCTION log_is_append_only();
