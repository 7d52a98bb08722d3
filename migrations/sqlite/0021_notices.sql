-- SQLite has one server; nothing to notify.
SELECT 1;
