-- Enrolment with two people. What a station submits is put aside here, sealed under the subject's own data key, until a second
-- officer has decided; then it moves into subject and reference, or is erased. An order is one enrolment or one batch of them.
CREATE TABLE enrolment_order (
    id TEXT PRIMARY KEY NOT NULL,
    code_sha256 TEXT NOT NULL UNIQUE,
    gate_id TEXT NOT NULL REFERENCES gate (id),
    batch INTEGER NOT NULL,
    opened_by TEXT NOT NULL,
    detail_sealed BLOB NOT NULL,
    opened_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    capturing_at INTEGER,
    closed_at INTEGER,
    decision TEXT,
    decided_by TEXT,
    decided_index INTEGER,
    log_index INTEGER NOT NULL
) STRICT;

CREATE TABLE enrolment (
    id TEXT PRIMARY KEY NOT NULL,
    order_id TEXT NOT NULL REFERENCES enrolment_order (id),
    subject_id TEXT NOT NULL,
    state TEXT NOT NULL,
    content_sha256 TEXT NOT NULL,
    submission_sha256 TEXT NOT NULL,
    content_sealed BLOB,
    findings_sealed BLOB,
    sampled INTEGER NOT NULL,
    submitted_at INTEGER NOT NULL,
    log_index INTEGER NOT NULL
) STRICT;
CREATE INDEX enrolment_by_subject ON enrolment (subject_id);
CREATE INDEX enrolment_by_order ON enrolment (order_id, state);

CREATE TABLE enrolment_reference (
    id TEXT PRIMARY KEY NOT NULL,
    enrolment_id TEXT NOT NULL REFERENCES enrolment (id) ON DELETE CASCADE,
    modality TEXT NOT NULL,
    model TEXT NOT NULL,
    secret_version INTEGER NOT NULL,
    template_sealed BLOB NOT NULL,
    source_sha256 TEXT NOT NULL,
    photograph_sealed BLOB
) STRICT;
CREATE INDEX enrolment_reference_of ON enrolment_reference (enrolment_id);

-- Which officer looked at which enrolment, with the log entry that proves it.
CREATE TABLE enrolment_look (
    enrolment_id TEXT NOT NULL REFERENCES enrolment (id) ON DELETE CASCADE,
    officer_id TEXT NOT NULL,
    log_index INTEGER NOT NULL,
    PRIMARY KEY (enrolment_id, officer_id)
) STRICT;

-- Under whose identifier a reference was captured, where that is another subject's: a duplicate that was found out.
ALTER TABLE reference ADD COLUMN origin TEXT;
