-- One near-infrared picture shows both eyes: a source may come once per modality. SQLite cannot change the rule of a table in place.
CREATE TABLE reference_new (
    id TEXT PRIMARY KEY NOT NULL,
    subject_id TEXT NOT NULL REFERENCES subject (id) ON DELETE CASCADE,
    modality TEXT NOT NULL,
    model TEXT NOT NULL,
    template_sealed BLOB NOT NULL,
    source_sha256 TEXT NOT NULL,
    photograph_sealed BLOB,
    created_at INTEGER NOT NULL,
    UNIQUE (subject_id, modality, model, source_sha256)
) STRICT;
INSERT INTO reference_new (id, subject_id, modality, model, template_sealed, source_sha256, photograph_sealed, created_at)
SELECT id, subject_id, modality, model, template_sealed, source_sha256, photograph_sealed, created_at FROM reference;
DROP TABLE reference;
ALTER TABLE reference_new RENAME TO reference;
