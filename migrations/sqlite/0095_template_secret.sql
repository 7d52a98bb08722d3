-- Which of the installation's template secrets a template is under; 0: none, from before there were any.
ALTER TABLE reference ADD COLUMN secret_version INTEGER NOT NULL DEFAULT 0;
