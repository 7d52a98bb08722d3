-- Signed notes of measured error rates. Which one holds, the log says: its newest entry of the kind error_rates and of the modality names
-- the SHA-256, or that it was withdrawn.
CREATE TABLE error_rates (
    sha256 TEXT PRIMARY KEY NOT NULL,
    content TEXT NOT NULL
);
