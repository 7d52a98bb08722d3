-- Console accounts and sessions. Tokens are stored as SHA-256 only.
CREATE TABLE officer (
    id TEXT PRIMARY KEY NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    name_sealed BLOB NOT NULL,
    role TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    failures INTEGER NOT NULL,
    blocked_until INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE session (
    token_sha256 TEXT PRIMARY KEY NOT NULL,
    officer_id TEXT NOT NULL REFERENCES officer (id),
    csrf TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_seen INTEGER NOT NULL
) STRICT;

CREATE TABLE setup_token (
    secret_sha256 TEXT PRIMARY KEY NOT NULL,
    role TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER
) STRICT;
