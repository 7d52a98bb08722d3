//! An evidence bundle: what the log holds about one event, in one file, for a court. Entries with their proofs, the signed and cosigned
//! checkpoint, and the artefacts that entries name by digest. What only the site says is kept apart, under `stated`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Checkpoint, Entry, Selected, SelectionError};

/// Format of the file.
const FORMAT: &str = "sallyport-evidence/1";
/// A larger bundle is refused before it is read.
pub const MAX_EVIDENCE_BYTES: usize = 16 * 1024 * 1024;

/// Something that an entry names by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artefact {
    /// What it is, for people.
    pub name: String,
    /// Index of the entry that names its SHA-256.
    pub named_by: u64,
    /// Its exact text.
    pub text: String,
}

/// The bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Always `sallyport-evidence/1`.
    pub format: String,
    /// What it is about.
    pub about: String,
    /// The log's key; a copy for comparison.
    pub log: String,
    /// The witness policy; a copy for comparison.
    pub policy: String,
    /// The checkpoint with all signatures.
    pub checkpoint: String,
    /// Entries in order, each with its proof.
    pub entries: Vec<Selected>,
    /// What entries name by digest.
    pub artefacts: Vec<Artefact>,
    /// What the site says beyond it; nothing vouches for it.
    pub stated: BTreeMap<String, String>,
}

/// Why a bundle is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Not of the form.
    #[error("this is no evidence bundle of version 1")]
    Malformed,
    /// An entry.
    #[error("entry {index}: {source}")]
    Entry {
        /// Which.
        index: u64,
        /// Why.
        source: SelectionError,
    },
    /// Out of order or twice.
    #[error("entry {0} is out of order or there twice")]
    Order(u64),
    /// Nobody names it.
    #[error("entry {named_by} does not name the digest of '{name}': it was changed or exchanged")]
    Artefact {
        /// Which.
        name: String,
        /// By which entry.
        named_by: u64,
    },
}

impl Evidence {
    /// An empty bundle about something.
    #[must_use]
    pub fn new(about: &str) -> Self {
        Self {
            format: FORMAT.to_owned(),
            about: about.to_owned(),
            log: String::new(),
            policy: String::new(),
            checkpoint: String::new(),
            entries: Vec::new(),
            artefacts: Vec::new(),
            stated: BTreeMap::new(),
        }
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Not of the form.
    pub fn parse(bytes: &[u8]) -> Result<Self, EvidenceError> {
        if bytes.len() > MAX_EVIDENCE_BYTES {
            return Err(EvidenceError::Malformed);
        }
        let parsed: Self = serde_json::from_slice(bytes).map_err(|_| EvidenceError::Malformed)?;
        if parsed.format == FORMAT {
            Ok(parsed)
        } else {
            Err(EvidenceError::Malformed)
        }
    }

    /// Checks every entry against a checkpoint that was opened with a trusted key, and every artefact against the entry that names it.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self, checkpoint: &Checkpoint) -> Result<(), EvidenceError> {
        let mut next = 0;
        for selected in &self.entries {
            if selected.index < next {
                return Err(EvidenceError::Order(selected.index));
            }
            next = selected.index + 1;
            selected
                .verify(checkpoint)
                .map_err(|source| EvidenceError::Entry {
                    index: selected.index,
                    source,
                })?;
        }
        for artefact in &self.artefacts {
            let digest: String = Sha256::digest(artefact.text.as_bytes())
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let names = |selected: &Selected| {
                selected.index == artefact.named_by
                    && Entry::from_bytes(selected.entry.as_bytes())
                        .is_ok_and(|entry| entry_names(&entry, &digest))
            };
            if !self.entries.iter().any(names) {
                return Err(EvidenceError::Artefact {
                    name: artefact.name.clone(),
                    named_by: artefact.named_by,
                });
            }
        }
        Ok(())
    }
}

fn entry_names(entry: &Entry, digest: &str) -> bool {
    let ends = |text: &Option<String>| {
        text.as_deref()
            .is_some_and(|text| text.ends_with(&format!(":{digest}")) || text == digest)
    };
    ends(&entry.calibration)
        || ends(&entry.about)
        || ends(&entry.content)
        || entry.models.iter().any(|m| m == digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hash, NodeMap, append, inclusion_proof, leaf_hash, root};
    use proptest::prelude::*;

    fn bundle() -> (Evidence, Checkpoint) {
        let text = "{\"calibration\":1}";
        let digest: String = Sha256::digest(text.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let entries: Vec<Vec<u8>> = (0..9)
            .map(|index| {
                let entry = Entry {
                    calibration: (index == 4).then(|| format!("pair@1:{digest}")),
                    ..Entry::new(format!("e{index}"), "passage", index)
                };
                entry.to_bytes().unwrap()
            })
            .collect();
        let mut nodes = NodeMap::new();
        for (index, bytes) in (0..).zip(&entries) {
            let stored = append(index, leaf_hash(bytes), &nodes).unwrap();
            nodes.extend(stored);
        }
        let checkpoint = Checkpoint {
            origin: "o".into(),
            size: 9,
            root: root(9, &nodes).unwrap(),
        };
        let mut evidence = Evidence::new("x");
        for index in [2_u64, 4, 8] {
            let proof: Vec<Hash> = inclusion_proof(index, 9, &nodes).unwrap();
            let bytes = entries[index as usize].clone();
            evidence
                .entries
                .push(Selected::new(index, bytes, &proof).unwrap());
        }
        evidence.artefacts.push(Artefact {
            name: "calibration".into(),
            named_by: 4,
            text: text.into(),
        });
        (evidence, checkpoint)
    }

    #[test]
    fn a_bundle_survives_its_text_and_changed_ones_are_refused() {
        let (evidence, checkpoint) = bundle();
        let read = Evidence::parse(evidence.to_text().as_bytes()).unwrap();
        assert_eq!(read, evidence);
        assert_eq!(read.verify(&checkpoint), Ok(()));
        let mut other = evidence.clone();
        other.entries[1].entry = other.entries[1].entry.replace("passage", "passagf");
        assert!(matches!(
            other.verify(&checkpoint),
            Err(EvidenceError::Entry { index: 4, .. })
        ));
        let mut other = evidence.clone();
        other.entries.swap(0, 1);
        assert_eq!(other.verify(&checkpoint), Err(EvidenceError::Order(2)));
        let mut other = evidence.clone();
        other.artefacts[0].text.push(' ');
        assert!(matches!(
            other.verify(&checkpoint),
            Err(EvidenceError::Artefact { .. })
        ));
        let mut other = evidence;
        other.artefacts[0].named_by = 2;
        other.verify(&checkpoint).unwrap_err();
        for text in ["", "{}", "[]", "{\"format\":\"sallyport-evidence/1\"}"] {
            assert_eq!(
                Evidence::parse(text.as_bytes()),
                Err(EvidenceError::Malformed)
            );
        }
    }

    proptest! {
        #[test]
        fn any_changed_byte_of_an_entry_is_found(at in any::<prop::sample::Index>(), bit in 0..7_u32) {
            let (mut evidence, checkpoint) = bundle();
            let mut bytes = evidence.entries[1].entry.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            evidence.entries[1].entry = String::from_utf8(bytes).unwrap();
            prop_assert!(evidence.verify(&checkpoint).is_err());
        }

        #[test]
        fn hostile_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Evidence::parse(&bytes);
        }
    }
}
