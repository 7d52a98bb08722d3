//! Checkpoints (<https://c2sp.org/tlog-checkpoint>) and their cosignatures (<https://c2sp.org/tlog-cosignature>).

use ed25519_dalek::{Signature, Signer, SigningKey};

use crate::note::{NoteSignature, TYPE_COSIGNATURE, TYPE_ED25519};
use crate::{Hash, Note, NoteError, NoteSigner, VerifierKey};

/// Why a checkpoint is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it is not accepted.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text is not origin, size and root.
    #[error("not a checkpoint: it must have an origin, a size and a root, and no more lines")]
    Malformed,
    /// The origin is another log.
    #[error("the checkpoint is of another log")]
    OtherLog,
}

/// The size and root of a log at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name; equals its key's name.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
}

impl Checkpoint {
    /// The three lines that are signed.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            self.root.to_base64()
        )
    }

    /// Parses the three lines. Extension lines are refused: monitors could not audit them.
    ///
    /// # Errors
    /// Not three lines of that form.
    pub fn from_text(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text
            .strip_suffix('\n')
            .ok_or(CheckpointError::Malformed)?
            .split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Malformed);
        };
        let canonical =
            size == "0" || (!size.starts_with('0') && size.bytes().all(|b| b.is_ascii_digit()));
        if origin.is_empty() || !canonical {
            return Err(CheckpointError::Malformed);
        }
        Ok(Self {
            origin: origin.to_owned(),
            size: size.parse().map_err(|_| CheckpointError::Malformed)?,
            root: Hash::from_base64(root).ok_or(CheckpointError::Malformed)?,
        })
    }

    /// Opens a signed checkpoint of the log with this key.
    ///
    /// # Errors
    /// Not signed by the key, not a checkpoint, or of another log.
    pub fn open(note: &[u8], log: &VerifierKey) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        let checkpoint = Self::from_text(note.verify(std::slice::from_ref(log))?)?;
        if checkpoint.origin == log.name() {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::OtherLog)
        }
    }
}

/// Signs a checkpoint as the log; the result is the whole note.
///
/// # Errors
/// The origin is not the signer's name.
pub fn sign_checkpoint(
    checkpoint: &Checkpoint,
    signer: &NoteSigner,
) -> Result<String, CheckpointError> {
    if checkpoint.origin != signer.verifier().name() {
        return Err(CheckpointError::OtherLog);
    }
    Ok(signer.sign(&checkpoint.to_text())?)
}

fn cosigned_message(time: u64, text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
}

/// A witness's public key (type 0x04); prints as a verifier key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignerKey(VerifierKey);

impl CosignerKey {
    /// Parses a verifier key of type 0x04.
    ///
    /// # Errors
    /// Not such a key.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let key = VerifierKey::parse(text)?;
        if key.kind() == TYPE_COSIGNATURE {
            Ok(Self(key))
        } else {
            Err(NoteError::BadKey)
        }
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    pub(crate) fn public(&self) -> &ed25519_dalek::VerifyingKey {
        self.0.key()
    }

    pub(crate) fn made(&self, signature: &NoteSignature) -> bool {
        self.0.is(signature)
    }

    pub(crate) fn line(&self, payload: &[u8]) -> String {
        self.0.line(payload)
    }

    /// The time (seconds since 1970, UTC) at which this witness cosigned, the latest when it did so more than once; `None` when it did not.
    ///
    /// # Errors
    /// Its cosignature is wrong.
    pub fn verify(&self, note: &Note) -> Result<Option<u64>, NoteError> {
        let mut found = None;
        for signature in note
            .signatures
            .iter()
            .filter(|signature| self.0.is(signature))
        {
            let (time, bytes) = signature
                .payload
                .split_first_chunk::<8>()
                .ok_or(NoteError::BadSignature)?;
            let bytes: [u8; 64] = bytes.try_into().map_err(|_| NoteError::BadSignature)?;
            let time = u64::from_be_bytes(*time);
            self.0
                .key()
                .verify_strict(
                    &cosigned_message(time, note.unverified_text()),
                    &Signature::from_bytes(&bytes),
                )
                .map_err(|_| NoteError::BadSignature)?;
            found = found.max(Some(time));
        }
        Ok(found)
    }
}

impl std::fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Cosigns checkpoints as a witness. Whoever calls it has checked consistency and stored the checkpoint first.
pub struct Cosigner {
    key: SigningKey,
    verifier: CosignerKey,
}

impl std::fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cosigner({}, [sealed])", self.verifier.0.name())
    }
}

impl Cosigner {
    /// From a name and an Ed25519 seed.
    ///
    /// # Errors
    /// The name is empty or holds a space or `+`.
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        debug_assert_ne!(TYPE_COSIGNATURE, TYPE_ED25519);
        let key = SigningKey::from_bytes(seed);
        let verifier = CosignerKey(VerifierKey::new(
            name,
            TYPE_COSIGNATURE,
            key.verifying_key(),
        )?);
        Ok(Self { key, verifier })
    }

    /// The public side.
    #[must_use]
    pub fn verifier(&self) -> &CosignerKey {
        &self.verifier
    }

    /// The signature line to add to the note, for a checkpoint text seen at `time` (seconds since 1970, UTC).
    #[must_use]
    pub fn cosign(&self, text: &str, time: u64) -> String {
        let signature = self.key.sign(&cosigned_message(time, text));
        let mut payload = time.to_be_bytes().to_vec();
        payload.extend_from_slice(&signature.to_bytes());
        self.verifier.0.line(&payload)
    }
}

#[cfg(test)]
#[path = "checkpoint/tests.rs"]
mod tests;
