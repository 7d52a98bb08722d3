-- Every commit that concerns other servers of this database tells them. The payload names the server that wrote, so that it can
-- pass over its own notices, and holds pseudonyms only.
CREATE FUNCTION notice_registry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('sallyport_registry', current_setting('application_name') || ' ' || NEW.seq);
    RETURN NULL;
END
$$;
CREATE TRIGGER registry_change_noticed AFTER INSERT ON registry_change FOR EACH ROW EXECUTE FUNCTION notice_registry();

CREATE FUNCTION notice_passage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(TG_ARGV[0], current_setting('application_name') || ' ' || NEW.transaction_id);
    RETURN NULL;
END
$$;
CREATE TRIGGER passage_noticed AFTER INSERT ON passage FOR EACH ROW EXECUTE FUNCTION notice_passage('sallyport_passage');
CREATE TRIGGER door_report_noticed AFTER INSERT ON door_report FOR EACH ROW EXECUTE FUNCTION notice_passage('sallyport_passage');
CREATE TRIGGER review_noticed AFTER INSERT ON review FOR EACH ROW EXECUTE FUNCTION notice_passage('sallyport_review');
