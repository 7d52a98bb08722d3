//! How an entry reads to other systems: as stored, as CEF, as OCSF; and the syslog frame around it. No name and no score is in any of
//! them, because none is in an entry.

use sallyport_domain::Timestamp;
use sallyport_transparency::Entry;
use serde::Deserialize;
use serde_json::{Value, json};

/// Version of OCSF whose attributes are used.
const OCSF_VERSION: &str = "1.3.0";
/// Facility 13, "log audit" (RFC 5424 table 1).
const FACILITY: u8 = 13;

/// What a receiver gets for each entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The entry's exact bytes: a receiver can check them against the log's hashes.
    #[default]
    Json,
    /// ArcSight Common Event Format, version 0.
    Cef,
    /// Open Cybersecurity Schema Framework.
    Ocsf,
}

/// An entry with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Index in the log.
    pub index: u64,
    /// Stored bytes.
    pub bytes: Vec<u8>,
}

impl Event {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// What is not a well-formed entry is sent all the same, as its bytes.
    fn entry(&self) -> Option<Entry> {
        Entry::from_bytes(&self.bytes).ok()
    }

    /// In this format, without line end.
    #[must_use]
    pub fn in_format(&self, format: Format) -> String {
        match (format, self.entry()) {
            (Format::Cef, Some(entry)) => cef(self.index, &entry),
            (Format::Ocsf, Some(entry)) => ocsf(self.index, &entry).to_string(),
            (Format::Json, _) | (_, None) => self.text(),
        }
    }

    /// As a JSON value, for a webhook's body.
    #[must_use]
    pub fn as_value(&self, format: Format) -> Value {
        match (format, self.entry()) {
            (Format::Ocsf, Some(entry)) => ocsf(self.index, &entry),
            (Format::Cef, Some(entry)) => {
                json!({"index": self.index, "cef": cef(self.index, &entry)})
            }
            // As text, so that the bytes that are hashed survive every parser.
            (Format::Json, _) | (_, None) => json!({"index": self.index, "entry": self.text()}),
        }
    }

    /// One syslog message (RFC 5424) in its octet-counted frame (RFC 5425). `host` is this server.
    #[must_use]
    pub fn syslog(&self, format: Format, host: &str, site: &str) -> Vec<u8> {
        let entry = self.entry();
        let (time, kind) = entry.as_ref().map_or_else(
            || ("-".to_owned(), "not_well_formed".to_owned()),
            |entry| {
                let time = Timestamp::from_micros(entry.time).to_rfc3339();
                (time, entry.kind.clone())
            },
        );
        let severity = entry.as_ref().map_or(Severity::Alarm, severity).syslog();
        let priority = FACILITY * 8 + severity;
        let name = |text: &str, most: usize| -> String {
            text.chars()
                .map(|c| if c.is_ascii_graphic() { c } else { '_' })
                .take(most)
                .collect()
        };
        // 32473 is the number that RFC 5612 keeps for examples; none is assigned to this product.
        let message = format!(
            "<{priority}>1 {time} {} sallyport - {} [sallyport@32473 index=\"{}\" site=\"{}\"] {}",
            name(host, 255),
            name(&kind, 32),
            self.index,
            name(site, 64),
            self.in_format(format)
        );
        format!("{} {message}", message.len()).into_bytes()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    Routine,
    Refused,
    Notice,
    Alarm,
}

impl Severity {
    const fn syslog(self) -> u8 {
        match self {
            Self::Routine => 6,
            Self::Refused => 5,
            Self::Notice => 4,
            Self::Alarm => 1,
        }
    }

    const fn cef(self) -> u8 {
        match self {
            Self::Routine => 1,
            Self::Refused => 4,
            Self::Notice => 6,
            Self::Alarm => 10,
        }
    }

    /// `severity_id` of OCSF: informational, low, medium, critical.
    const fn ocsf(self) -> u8 {
        match self {
            Self::Routine => 1,
            Self::Refused => 2,
            Self::Notice => 3,
            Self::Alarm => 5,
        }
    }
}

fn severity(entry: &Entry) -> Severity {
    match entry.kind.as_str() {
        "log_alarm"
        | "life_safety_release"
        | "life_safety_order"
        | "gate_sequence"
        | "break_glass_opened"
        | "break_glass_unreviewed" => Severity::Alarm,
        "door" if entry.reason.as_deref() == Some("not_granted") => Severity::Alarm,
        "clock"
        | "gate_degraded"
        | "officer_at_gate"
        | "gate_lost"
        | "gate_revoked"
        | "keys_rotated"
        | "subject_removed"
        | "export"
        | "promise_missed"
        | "stream_lost"
        | "break_glass_prepared"
        | "break_glass_ended"
        | "break_glass_reviewed"
        | "break_glass_drill_due" => Severity::Notice,
        _ if matches!(
            entry.decision.as_deref(),
            Some("refuse" | "refused" | "refer" | "fault")
        ) =>
        {
            Severity::Refused
        }
        _ => Severity::Routine,
    }
}

fn escaped(text: &str, special: &[char]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            c if c == '\\' || special.contains(&c) => {
                escaped.push('\\');
                escaped.push(c);
            }
            c => escaped.push(c),
        }
    }
    escaped
}

fn cef(index: u64, entry: &Entry) -> String {
    let header = |text: &str| escaped(text, &['|']);
    let kind = header(&entry.kind);
    let mut text = format!(
        "CEF:0|Sallyport|sallyport-server|{}|{kind}|{}|{}|externalId={index} rt={}",
        env!("CARGO_PKG_VERSION"),
        header(&entry.kind.replace('_', " ")),
        severity(entry).cef(),
        entry.time.div_euclid(1_000),
    );
    let mut put = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            text.push_str(&format!(" {key}={}", escaped(value, &['='])));
        }
    };
    put("cs5", Some(&entry.id));
    put("cs5Label", Some("event"));
    put("dvchost", entry.gate.as_deref());
    put("suser", entry.actor.as_deref());
    put("duser", entry.subject.as_deref());
    put("act", entry.decision.as_deref());
    put("reason", entry.reason.as_deref());
    for (slot, label, value) in [
        ("cs1", "about", &entry.about),
        ("cs2", "second actor", &entry.actor2),
        ("cs3", "policy", &entry.policy),
        ("cs4", "detail hash", &entry.detail_hash),
    ] {
        if value.is_some() {
            put(slot, value.as_deref());
            put(&format!("{slot}Label"), Some(label));
        }
    }
    text
}

/// Sign-in and accounts have classes of their own; there is none for passages through doors, which are base events with the product's
/// own attributes under `unmapped`.
fn ocsf(index: u64, entry: &Entry) -> Value {
    let (category, class, activity) = match entry.kind.as_str() {
        "sign_in" => (3, 3_002, 1),
        "sign_out" => (3, 3_002, 2),
        "officer_created" => (3, 3_001, 1),
        _ => (0, 0, 99),
    };
    let status = match entry.decision.as_deref() {
        Some("grant" | "released") => 1,
        Some("refuse" | "fault" | "order_rejected") => 2,
        _ => 0,
    };
    let mut event = json!({
        "time": entry.time.div_euclid(1_000),
        "category_uid": category,
        "class_uid": class,
        "activity_id": activity,
        "type_uid": class * 100 + activity,
        "severity_id": severity(entry).ocsf(),
        "status_id": status,
        "message": entry.kind,
        "metadata": {
            "version": OCSF_VERSION,
            "uid": entry.id,
            "sequence": index,
            "product": {
                "name": "Sallyport",
                "vendor_name": "Sallyport",
                "version": env!("CARGO_PKG_VERSION"),
            },
        },
        "unmapped": entry,
    });
    if let (Some(actor), Some(map)) = (&entry.actor, event.as_object_mut()) {
        map.insert("actor".to_owned(), json!({"user": {"uid": actor}}));
        if class != 0 {
            map.insert("user".to_owned(), json!({"uid": actor}));
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let entry = Entry {
            gate: Some("front-in".into()),
            actor: Some("o-1".into()),
            decision: Some("refuse".into()),
            reason: Some("a=b|c\\d".into()),
            ..Entry::new("id-1".into(), "passage", 1_795_420_800_123_456)
        };
        Event {
            index: 41,
            bytes: entry.to_bytes().unwrap(),
        }
    }

    #[test]
    fn syslog_carries_time_kind_index_and_the_entrys_own_bytes_in_its_frame() {
        let framed = event().syslog(Format::Json, "server one", "site-a");
        let text = String::from_utf8(framed).unwrap();
        let (length, message) = text.split_once(' ').unwrap();
        assert_eq!(length.parse(), Ok(message.len()));
        let head = "<109>1 2026-11-23T08:00:00.123Z server_one sallyport - passage [sallyport@32473 index=\"41\" site=\"site-a\"] ";
        let body = message
            .strip_prefix(head)
            .unwrap_or_else(|| panic!("{message}"));
        assert_eq!(body.as_bytes(), event().bytes);
        let junk = Event {
            index: 3,
            bytes: vec![0xff, b'x'],
        };
        let text = String::from_utf8(junk.syslog(Format::Cef, "s", "a")).unwrap();
        assert!(
            text.contains("<105>1 - s sallyport - not_well_formed"),
            "{text}"
        );
    }

    #[test]
    fn cef_escapes_what_would_end_a_field() {
        let text = event().in_format(Format::Cef);
        assert!(
            text.starts_with("CEF:0|Sallyport|sallyport-server|"),
            "{text}"
        );
        assert!(
            text.contains("|passage|passage|4|externalId=41 rt=1795420800123 "),
            "{text}"
        );
        assert!(text.contains(" act=refuse reason=a\\=b|c\\\\d"), "{text}");
        assert!(text.contains(" dvchost=front-in suser=o-1 "), "{text}");
    }

    #[test]
    fn ocsf_has_the_required_attributes_and_the_whole_entry() {
        let value = event().as_value(Format::Ocsf);
        for name in [
            "time",
            "category_uid",
            "class_uid",
            "activity_id",
            "type_uid",
            "severity_id",
        ] {
            assert!(value[name].is_number(), "{name}");
        }
        assert_eq!(value["metadata"]["sequence"], 41);
        assert_eq!(value["status_id"], 2);
        let kept: Entry = serde_json::from_value(value["unmapped"].clone()).unwrap();
        assert_eq!(kept.to_bytes().unwrap(), event().bytes);
        let sign_in = Entry {
            actor: Some("o-2".into()),
            decision: Some("grant".into()),
            ..Entry::new("id".into(), "sign_in", 1)
        };
        let value = ocsf(0, &sign_in);
        assert_eq!(value["type_uid"], 300_201);
        assert_eq!(value["user"]["uid"], "o-2");
        assert_eq!(value["status_id"], 1);
    }
}
