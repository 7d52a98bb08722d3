-- What a session was opened with (1 password, 2 and a code, 3 and a hardware key), and when its officer last proved it.
ALTER TABLE session ADD COLUMN level INTEGER NOT NULL DEFAULT 1;
ALTER TABLE session ADD COLUMN fresh_at INTEGER NOT NULL DEFAULT 0;

-- Hardware keys (WebAuthn). The id is the SHA-256 of the credential's.
CREATE TABLE officer_key (
    id TEXT PRIMARY KEY NOT NULL,
    officer_id TEXT NOT NULL REFERENCES officer (id),
    key_sealed BLOB NOT NULL,
    label_sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    used_at INTEGER
) STRICT;
CREATE INDEX officer_key_officer ON officer_key (officer_id);

-- One-time codes (RFC 6238). No step is accepted twice.
CREATE TABLE officer_code (
    officer_id TEXT PRIMARY KEY NOT NULL REFERENCES officer (id),
    secret_sealed BLOB NOT NULL,
    last_step INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Questions that wait for a browser's answer, by their kind and the SHA-256 of its cookie.
CREATE TABLE ceremony (
    id TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    officer_id TEXT,
    state_sealed BLOB NOT NULL,
    failures INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
