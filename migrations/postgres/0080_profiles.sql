-- Texts of the jurisdiction profiles that held. Which one holds, the log says: its newest entry of the kind profile_change names the
-- SHA-256. Until there is one, the server's own strictest profile holds.
CREATE TABLE profile (
    sha256 TEXT PRIMARY KEY NOT NULL,
    content TEXT NOT NULL
);
