-- Data keys, wrapped by a version of the key-encryption key. Owner: a subject, or 'site'. Wrapped keys of subjects move here from
-- their rows; installations made before are made anew (the key file says so).
CREATE TABLE data_key (
    owner TEXT NOT NULL,
    purpose TEXT NOT NULL,
    kek_version BIGINT NOT NULL,
    wrapped BYTEA NOT NULL,
    PRIMARY KEY (owner, purpose)
);
CREATE INDEX data_key_by_version ON data_key (kek_version, owner, purpose);
ALTER TABLE subject DROP COLUMN key_wrapped;
