-- The key that this one has followed; it ends with the new one's first sign of life.
ALTER TABLE gate_key ADD COLUMN replaces TEXT;
