-- What each captured modality said, as JSON; never a score.
ALTER TABLE passage ADD COLUMN findings TEXT NOT NULL DEFAULT '[]';
