-- Sealed detail of log entries stays as well: erasure destroys its key, not its bytes.
CREATE TRIGGER log_detail_keeps BEFORE UPDATE ON log_detail BEGIN SELECT RAISE(ABORT, 'log details are never changed'); END;
CREATE TRIGGER log_detail_stays BEFORE DELETE ON log_detail BEGIN SELECT RAISE(ABORT, 'log details are never deleted'); END;
