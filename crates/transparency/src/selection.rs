//! A selection of entries, each with its own inclusion proof: for a period, a person, a gate or an officer, without the rest of the log.
//!
//! It proves that each entry is in the log unchanged. It cannot prove that nothing was left out; only the whole log can.

use serde::{Deserialize, Serialize};

use crate::{Checkpoint, Hash, ProofError, leaf_hash, verify_inclusion};

/// A longer line is refused before parsing: an entry as JSON text and 63 hashes.
pub const MAX_SELECTION_LINE: usize = 6 * crate::MAX_ENTRY_BYTES + 8 * 1024;

/// One selected entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selected {
    /// Place in the log.
    pub index: u64,
    /// The entry exactly as it was hashed.
    pub entry: String,
    /// Inclusion proof, base64, sibling first.
    pub proof: Vec<String>,
}

/// Why a selected entry is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// Not a line of a selection.
    #[error("the line is not an entry with its proof")]
    Malformed,
    /// The entry is not at this place of the log.
    #[error("the entry was changed, or is not at this place of the log: {0}")]
    Proof(#[from] ProofError),
}

impl Selected {
    /// From stored bytes; `None` when they are not text.
    #[must_use]
    pub fn new(index: u64, bytes: Vec<u8>, proof: &[Hash]) -> Option<Self> {
        Some(Self {
            index,
            entry: String::from_utf8(bytes).ok()?,
            proof: proof.iter().map(|hash| hash.to_base64()).collect(),
        })
    }

    /// Reads a line.
    ///
    /// # Errors
    /// Not of the form.
    pub fn parse(line: &str) -> Result<Self, SelectionError> {
        if line.len() > MAX_SELECTION_LINE {
            return Err(SelectionError::Malformed);
        }
        serde_json::from_str(line).map_err(|_| SelectionError::Malformed)
    }

    /// The line without its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Checks the proof against a checkpoint.
    ///
    /// # Errors
    /// The proof does not hold.
    pub fn verify(&self, checkpoint: &Checkpoint) -> Result<(), SelectionError> {
        let proof: Vec<Hash> = self
            .proof
            .iter()
            .take(64)
            .map(|hash| Hash::from_base64(hash))
            .collect::<Option<_>>()
            .ok_or(SelectionError::Malformed)?;
        Ok(verify_inclusion(
            self.index,
            checkpoint.size,
            leaf_hash(self.entry.as_bytes()),
            &proof,
            checkpoint.root,
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeMap, append, inclusion_proof, root};

    #[test]
    fn a_selected_entry_verifies_and_no_changed_one_does() {
        let mut nodes = NodeMap::new();
        for index in 0..20_u64 {
            let leaf = leaf_hash(format!("entry {index}").as_bytes());
            let stored = append(index, leaf, &nodes).unwrap();
            nodes.extend(stored);
        }
        let checkpoint = Checkpoint {
            origin: "o".into(),
            size: 20,
            root: root(20, &nodes).unwrap(),
        };
        for index in 0..20 {
            let proof = inclusion_proof(index, 20, &nodes).unwrap();
            let bytes = format!("entry {index}").into_bytes();
            let selected = Selected::new(index, bytes, &proof).unwrap();
            assert_eq!(Selected::parse(&selected.to_line()), Ok(selected.clone()));
            assert_eq!(selected.verify(&checkpoint), Ok(()));
            let mut other = selected.clone();
            other.index = (index + 1) % 20;
            assert!(other.verify(&checkpoint).is_err());
            let mut other = selected.clone();
            other.entry.push(' ');
            assert!(other.verify(&checkpoint).is_err());
            let mut other = selected;
            other.proof.pop();
            assert!(other.verify(&checkpoint).is_err());
        }
        for line in [
            "",
            "{}",
            "{\"index\":1}",
            "{\"index\":-1,\"entry\":\"\",\"proof\":[]}",
        ] {
            assert_eq!(Selected::parse(line), Err(SelectionError::Malformed));
        }
    }
}
