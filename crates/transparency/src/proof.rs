//! Proof files (<https://c2sp.org/tlog-proof>): one entry's inclusion, verifiable offline.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{
    Checkpoint, CheckpointError, Hash, ProofError, VerifierKey, leaf_hash, verify_inclusion,
};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Why a proof file is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofFileError {
    /// Not of the form.
    #[error("not a proof file")]
    Malformed,
    /// The checkpoint inside is not accepted.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The proof does not hold.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// An inclusion proof with the checkpoint it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofFile {
    /// Index of the entry.
    pub index: u64,
    /// Sibling first.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint, with all signatures.
    pub checkpoint: String,
}

impl ProofFile {
    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\nindex {}\n", self.index);
        for hash in &self.hashes {
            text.push_str(&hash.to_base64());
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Parses the file's text; an `extra` line is allowed and left out, since nothing vouches for it.
    ///
    /// # Errors
    /// Not of the form.
    pub fn parse(text: &str) -> Result<Self, ProofFileError> {
        let malformed = ProofFileError::Malformed;
        if text.len() > 128 * 1024 {
            return Err(malformed);
        }
        let (head, checkpoint) = text.split_once("\n\n").ok_or(malformed)?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(malformed);
        }
        let extra = lines.peek().and_then(|line| line.strip_prefix("extra "));
        if let Some(extra) = extra {
            STANDARD.decode(extra).map_err(|_| malformed)?;
            lines.next();
        }
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .ok_or(malformed)?;
        if index.len() > 1 && index.starts_with('0') || !index.bytes().all(|b| b.is_ascii_digit()) {
            return Err(malformed);
        }
        let hashes: Vec<Hash> = lines
            .map(Hash::from_base64)
            .collect::<Option<_>>()
            .ok_or(malformed)?;
        if hashes.len() > 63 {
            return Err(malformed);
        }
        Ok(Self {
            index: index.parse().map_err(|_| malformed)?,
            hashes,
            checkpoint: checkpoint.to_owned(),
        })
    }

    /// Checks that `entry` is in the log.
    ///
    /// # Errors
    /// The checkpoint is not the log's, or the proof does not hold.
    pub fn verify(&self, entry: &[u8], log: &VerifierKey) -> Result<Checkpoint, ProofFileError> {
        let checkpoint = Checkpoint::open(self.checkpoint.as_bytes(), log)?;
        verify_inclusion(
            self.index,
            checkpoint.size,
            leaf_hash(entry),
            &self.hashes,
            checkpoint.root,
        )?;
        Ok(checkpoint)
    }
}
