-- Sealed detail of log entries stays as well: erasure destroys its key, not its bytes.
CREATE TRIGGER log_detail_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON log_detail FOR EACH STATEMENT EXECUTE FUNCTION log_is_append_only();
