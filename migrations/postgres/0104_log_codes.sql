-- A code over number and hash of each entry that only the server's key makes: an entry that somebody appends by hand is not believed.
ALTER TABLE log_entry ADD COLUMN code TEXT;
