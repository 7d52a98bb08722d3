-- Accounts can be ended, and a set-up link can renew an account that exists.
ALTER TABLE officer ADD COLUMN disabled_at INTEGER;
ALTER TABLE setup_token ADD COLUMN officer_id TEXT REFERENCES officer (id);
