-- How far the log was sent to each receiver, and which server does it now.
CREATE TABLE stream (
    name TEXT PRIMARY KEY NOT NULL,
    next BIGINT NOT NULL,
    holder TEXT NOT NULL,
    held_until BIGINT NOT NULL
);
