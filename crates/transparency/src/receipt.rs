//! A receipt: a slip that a person takes along, with the log's promise that an entry stands at a place of the log.
//!
//! It is a signed note of the log's key, and no checkpoint: its first line is no log's name. The slip says nothing about the person; only
//! who has the entry can see that it belongs to the slip. Should the entry ever be gone or changed, the slip is the proof against the log.

use crate::{Hash, Note, NoteError, NoteSigner, VerifierKey, leaf_hash};

const HEADER: &str = "sallyport-receipt/1";

/// Why a receipt is not accepted, or an entry does not keep its promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not signed by this log.
    #[error("the slip is not acceptable: {0}")]
    Note(#[from] NoteError),
    /// Not of the form.
    #[error("the signed text is no receipt")]
    Malformed,
    /// Of another log.
    #[error("the slip is of another log, {0}")]
    OtherLog(String),
}

/// The promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Name of the log.
    pub origin: String,
    /// Index of the entry.
    pub index: u64,
    /// Its leaf hash.
    pub leaf: Hash,
}

impl Receipt {
    /// For an entry's bytes.
    #[must_use]
    pub fn new(origin: &str, index: u64, entry: &[u8]) -> Self {
        Self {
            origin: origin.to_owned(),
            index,
            leaf: leaf_hash(entry),
        }
    }

    fn to_text(&self) -> String {
        format!(
            "{HEADER}\n{}\n{}\n{}\n",
            self.origin,
            self.index,
            self.leaf.to_base64()
        )
    }

    /// The slip's text, signed.
    ///
    /// # Errors
    /// The origin has control characters.
    pub fn sign(&self, signer: &NoteSigner) -> Result<String, NoteError> {
        signer.sign(&self.to_text())
    }

    /// Reads a slip that this log signed.
    ///
    /// # Errors
    /// See [`ReceiptError`].
    pub fn open(slip: &[u8], log: &VerifierKey) -> Result<Self, ReceiptError> {
        let note = Note::parse(slip)?;
        let text = note.verify(std::slice::from_ref(log))?;
        let lines: Vec<&str> = text.lines().collect();
        let [HEADER, origin, index, leaf] = lines.as_slice() else {
            return Err(ReceiptError::Malformed);
        };
        let receipt = Self {
            origin: (*origin).to_owned(),
            index: index.parse().map_err(|_| ReceiptError::Malformed)?,
            leaf: Hash::from_base64(leaf).ok_or(ReceiptError::Malformed)?,
        };
        if receipt.to_text() != text {
            return Err(ReceiptError::Malformed);
        }
        if receipt.origin != log.name() {
            return Err(ReceiptError::OtherLog(receipt.origin));
        }
        Ok(receipt)
    }

    /// Is this the entry that was promised?
    #[must_use]
    pub fn is_for(&self, index: u64, entry: &[u8]) -> bool {
        self.index == index && self.leaf == leaf_hash(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Checkpoint, sign_checkpoint};
    use proptest::prelude::*;

    fn signer() -> NoteSigner {
        NoteSigner::new("sallyport/a/audit1", &[3; 32]).unwrap()
    }

    fn slip() -> String {
        Receipt::new("sallyport/a/audit1", 41, b"entry")
            .sign(&signer())
            .unwrap()
    }

    #[test]
    fn a_slip_names_one_entry_at_one_place() {
        let receipt = Receipt::open(slip().as_bytes(), signer().verifier()).unwrap();
        assert!(receipt.is_for(41, b"entry"));
        assert!(!receipt.is_for(40, b"entry"));
        assert!(!receipt.is_for(41, b"entrz"));
        assert!(slip().len() < 300, "fits a small QR code");
    }

    #[test]
    fn forged_foreign_and_other_notes_are_no_slips() {
        let other = NoteSigner::new("sallyport/a/audit1", &[4; 32]).unwrap();
        let forged = Receipt::new("sallyport/a/audit1", 41, b"x")
            .sign(&other)
            .unwrap();
        assert!(matches!(
            Receipt::open(forged.as_bytes(), signer().verifier()),
            Err(ReceiptError::Note(_))
        ));
        let foreign = Receipt::new("sallyport/b/audit1", 41, b"x")
            .sign(&signer())
            .unwrap();
        assert!(matches!(
            Receipt::open(foreign.as_bytes(), signer().verifier()),
            Err(ReceiptError::OtherLog(_))
        ));
        let checkpoint = Checkpoint {
            origin: "sallyport/a/audit1".into(),
            size: 3,
            root: Hash([1; 32]),
        };
        let checkpoint = sign_checkpoint(&checkpoint, &signer()).unwrap();
        assert_eq!(
            Receipt::open(checkpoint.as_bytes(), signer().verifier()),
            Err(ReceiptError::Malformed)
        );
        // And a slip is no checkpoint.
        Checkpoint::open(slip().as_bytes(), signer().verifier()).unwrap_err();
        let padded = signer()
            .sign(
                &Receipt::new("sallyport/a/audit1", 41, b"x")
                    .to_text()
                    .replace("\n41\n", "\n041\n"),
            )
            .unwrap();
        assert_eq!(
            Receipt::open(padded.as_bytes(), signer().verifier()),
            Err(ReceiptError::Malformed)
        );
    }

    proptest! {
        #[test]
        fn any_changed_character_is_found(at in 0..250_usize, with in 0x20_u8..0x7f) {
            let mut bytes = slip().into_bytes();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != with);
            bytes[at] = with;
            prop_assert!(Receipt::open(&bytes, signer().verifier()).is_err());
        }

        #[test]
        fn hostile_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Receipt::open(&bytes, signer().verifier());
        }
    }
}
