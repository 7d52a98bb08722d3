-- A code over each row that only the server can make: a session or one-time link that somebody writes by hand is none.
ALTER TABLE session ADD COLUMN code TEXT NOT NULL DEFAULT '';
ALTER TABLE setup_token ADD COLUMN code TEXT NOT NULL DEFAULT '';
ALTER TABLE join_token ADD COLUMN code TEXT NOT NULL DEFAULT '';
