-- A change of models: from when to when references of a new model are made beside those of the old one.
CREATE TABLE model_change (
    id TEXT PRIMARY KEY NOT NULL,
    from_model TEXT NOT NULL,
    to_model TEXT NOT NULL,
    station TEXT REFERENCES gate (id),
    begun_at INTEGER NOT NULL,
    ended_at INTEGER,
    log_index INTEGER NOT NULL
) STRICT;

-- Photographs that gave no template of the new model.
CREATE TABLE model_change_unusable (
    change_id TEXT NOT NULL REFERENCES model_change (id),
    reference_id TEXT NOT NULL REFERENCES reference (id) ON DELETE CASCADE,
    log_index INTEGER NOT NULL,
    PRIMARY KEY (change_id, reference_id)
) STRICT;
