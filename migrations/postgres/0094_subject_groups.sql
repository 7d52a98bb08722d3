-- The demographic group that a person stated, for referral rates by group; sealed under the person's key, so that it goes with the person.
CREATE TABLE subject_group (
    subject_id TEXT PRIMARY KEY NOT NULL REFERENCES subject (id) ON DELETE CASCADE,
    group_sealed BYTEA NOT NULL
);
