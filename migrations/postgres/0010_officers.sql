-- Console accounts and sessions. Tokens are stored as SHA-256 only.
CREATE TABLE officer (
    id TEXT PRIMARY KEY NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    name_sealed BYTEA NOT NULL,
    role TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    failures BIGINT NOT NULL,
    blocked_until BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE session (
    token_sha256 TEXT PRIMARY KEY NOT NULL,
    officer_id TEXT NOT NULL REFERENCES officer (id),
    csrf TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    last_seen BIGINT NOT NULL
);

CREATE TABLE setup_token (
    secret_sha256 TEXT PRIMARY KEY NOT NULL,
    role TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);
