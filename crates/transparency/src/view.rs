//! Entries as people and their tools read them: CSV and JSON Lines, each row with its index. A view proves nothing; the tiles do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Entry;

/// Header of the CSV view, with its line end.
pub const CSV_HEADER: &str = "index,time_utc_us,kind,gate,actor,second_actor,subject,about,decision,reason,policy,event_id\r\n";

/// One CSV row (RFC 4180), with its line end. What is not a well-formed entry is said to be none.
#[must_use]
pub fn csv_row(index: u64, bytes: &[u8]) -> String {
    let Ok(entry) = Entry::from_bytes(bytes) else {
        return format!("{index},,(not well-formed),,,,,,,,,\r\n");
    };
    let mut row = format!("{index},{}", entry.time);
    let optional = |value: Option<String>| value.unwrap_or_default();
    for field in [
        entry.kind,
        optional(entry.gate),
        optional(entry.actor),
        optional(entry.actor2),
        optional(entry.subject),
        optional(entry.about),
        optional(entry.decision),
        optional(entry.reason),
        optional(entry.policy),
        entry.id,
    ] {
        row.push(',');
        row.push_str(&quoted(&field));
    }
    row.push_str("\r\n");
    row
}

pub(crate) fn quoted(field: &str) -> String {
    // A spreadsheet would run a field that begins with one of these.
    let formula = field.starts_with(['=', '+', '-', '@', '\t']);
    let plain = !formula && !field.contains(['"', ',', '\n', '\r']);
    if plain {
        return field.to_owned();
    }
    let guard = if formula { "'" } else { "" };
    format!("\"{guard}{}\"", field.replace('"', "\"\""))
}

/// One line of JSON with its end: index and entry, or the bytes in base64 when they are no entry.
#[must_use]
pub fn json_line(index: u64, bytes: &[u8]) -> String {
    match (Entry::from_bytes(bytes), std::str::from_utf8(bytes)) {
        // As stored, not written anew.
        (Ok(_), Ok(text)) => format!("{{\"index\":{index},\"entry\":{text}}}\n"),
        _ => format!(
            "{{\"index\":{index},\"not_well_formed\":\"{}\"}}\n",
            STANDARD.encode(bytes)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_carry_the_index_and_are_safe_to_open() {
        let entry = Entry {
            gate: Some("front,in".into()),
            reason: Some("say \"why\"".into()),
            about: Some("=1+1".into()),
            ..Entry::new("id".into(), "passage", 7)
        };
        let bytes = entry.to_bytes().unwrap();
        assert_eq!(
            csv_row(3, &bytes),
            "3,7,passage,\"front,in\",,,,\"'=1+1\",,\"say \"\"why\"\"\",,id\r\n"
        );
        let line = json_line(3, &bytes);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["index"], 3);
        assert_eq!(value["entry"]["gate"], "front,in");
        assert!(csv_row(4, b"junk").contains("not well-formed"));
        assert_eq!(
            json_line(4, b"junk"),
            "{\"index\":4,\"not_well_formed\":\"anVuaw==\"}\n"
        );
        assert_eq!(
            CSV_HEADER.matches(',').count(),
            csv_row(4, b"junk").matches(',').count()
        );
    }
}
