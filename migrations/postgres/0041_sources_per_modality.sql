-- One near-infrared picture shows both eyes: a source may come once per modality.
ALTER TABLE reference DROP CONSTRAINT reference_subject_id_model_source_sha256_key;
ALTER TABLE reference ADD UNIQUE (subject_id, modality, model, source_sha256);
