//! Log entries: one line of JSON, hashed as stored and never re-encoded (`security.md` 2.10).
//!
//! No name, no score, no picture: personal detail is sealed in a side table, and the entry carries only `detail_hash`.

use serde::{Deserialize, Serialize};

/// Larger entries are refused: bundles carry two-byte lengths.
pub const MAX_ENTRY_BYTES: usize = 65_535;
/// Entries are meant to stay below this.
pub const SOFT_ENTRY_BYTES: usize = 4_096;

/// Why bytes are not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Too large to be stored.
    #[error("an entry has at most {MAX_ENTRY_BYTES} bytes")]
    TooLarge,
    /// Not one line of JSON of version 1.
    #[error("not a log entry of version 1: {0}")]
    Malformed(String),
}

/// One log entry. Absent fields are left out of the JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Format version; always 1 and always first.
    pub v: u8,
    /// Event id, a version 7 UUID.
    pub id: String,
    /// Kind of event, such as `passage` or `consultation`.
    pub kind: String,
    /// Server time, microseconds since 1970 UTC.
    pub time: i64,
    /// Gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// Boot epoch of the gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Sequence number of the gate's event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The gate's signature over its event, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_sig: Option<String>,
    /// Officer who acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Second officer of a two-person act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor2: Option<String>,
    /// Pseudonym of the person concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What the event refers to: a transaction, review or enrolment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Grant, refuse, refer, or the outcome of another act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// Reason code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Version of the policy that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// SHA-256 of the models involved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Calibration and fusion rules that turned scores into findings: `name@version:sha256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,
    /// What each captured modality said about the person concerned, such as `iris_left:against`; never a score.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// SHA-256 of exactly what this act is bound to, such as the content of an enrolment, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Biometric references that this act stored: `id:version of the template secret:SHA-256 of the stored template`; or the ids of those
    /// that it deleted, or of passages whose pictures it deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// Server build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// SHA-256 of 32 random bytes and the sealed detail, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail_hash: Option<String>,
}

impl Entry {
    /// An entry of this kind at this time.
    #[must_use]
    pub fn new(id: String, kind: &str, time_micros: i64) -> Self {
        Self {
            v: 1,
            id,
            kind: kind.to_owned(),
            time: time_micros,
            ..Self::default()
        }
    }

    /// The line that is stored and hashed, without newline.
    ///
    /// # Errors
    /// Too large.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EntryError> {
        let bytes =
            serde_json::to_vec(self).map_err(|error| EntryError::Malformed(error.to_string()))?;
        if bytes.len() > MAX_ENTRY_BYTES {
            Err(EntryError::TooLarge)
        } else {
            Ok(bytes)
        }
    }

    /// Reads a stored line.
    ///
    /// # Errors
    /// Too large, several lines, not JSON, unknown fields, or another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(EntryError::TooLarge);
        }
        if bytes.contains(&b'\n') || !bytes.starts_with(b"{\"v\":1,") {
            return Err(EntryError::Malformed(
                "it must be one line that starts with {\"v\":1,".to_owned(),
            ));
        }
        // Positions are enough to find the fault; the parser's words could quote the content.
        let entry: Self = serde_json::from_slice(bytes).map_err(|error| {
            EntryError::Malformed(format!("fault at column {}", error.column()))
        })?;
        if entry.v == 1 {
            Ok(entry)
        } else {
            Err(EntryError::Malformed("another version".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_is_one_short_line_and_survives() {
        let entry = Entry {
            gate: Some("front-in".into()),
            ..Entry::new("id".into(), "passage", 7)
        };
        let bytes = entry.to_bytes().unwrap();
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            r#"{"v":1,"id":"id","kind":"passage","time":7,"gate":"front-in"}"#
        );
        assert_eq!(Entry::from_bytes(&bytes), Ok(entry));
    }

    #[test]
    fn other_versions_unknown_fields_and_several_lines_are_refused() {
        for text in [
            r#"{"v":2,"id":"i","kind":"k","time":1}"#,
            r#"{"id":"i","kind":"k","time":1,"v":1}"#,
            r#"{"v":1,"id":"i","kind":"k","time":1,"name":"x"}"#,
            "{\"v\":1,\"id\":\"i\",\n\"kind\":\"k\",\"time\":1}",
        ] {
            assert!(Entry::from_bytes(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Entry::from_bytes(&bytes);
            let mut begun = b"{\"v\":1,".to_vec();
            begun.extend(bytes);
            let _ = Entry::from_bytes(&begun);
        }
    }
}
