-- Records that officers opened with a reason, for quotas and for pictures of an open record; kept two days, the log keeps them for good.
CREATE TABLE consultation (
    log_index BIGINT PRIMARY KEY NOT NULL,
    officer_id TEXT NOT NULL,
    about TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX consultation_officer ON consultation (officer_id, at);

-- A supervisor doubled an officer's quota until then.
CREATE TABLE quota_raise (
    officer_id TEXT PRIMARY KEY NOT NULL REFERENCES officer (id),
    until BIGINT NOT NULL
);

-- Wings whose people an officer needs to know; without rows all.
CREATE TABLE officer_wing (
    officer_id TEXT NOT NULL REFERENCES officer (id),
    wing TEXT NOT NULL,
    PRIMARY KEY (officer_id, wing)
);

-- The wing in which a person lives; sealed.
CREATE TABLE subject_wing (
    subject_id TEXT PRIMARY KEY NOT NULL REFERENCES subject (id) ON DELETE CASCADE,
    wing_sealed BYTEA NOT NULL
);
