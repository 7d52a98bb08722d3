//! The witness protocol (<https://c2sp.org/tlog-witness>) without IO: reading a request, judging it against what was cosigned before,
//! and the answers. A witness keeps one checkpoint per log and never cosigns one that does not continue it.
//!
//! The caller must persist the accepted checkpoint before it answers, and must let nothing come between reading the latest checkpoint
//! and persisting the new one.

use crate::{
    Checkpoint, CheckpointError, Cosigner, CosignerKey, Hash, MAX_NOTE_BYTES, Note, NoteError,
    ProofError, VerifierKey, empty_root, verify_consistency,
};

/// Larger requests are refused: the old size, 63 hashes and a checkpoint.
pub const MAX_WITNESS_REQUEST_BYTES: usize = MAX_NOTE_BYTES + 64 * 64;
/// Content type of the answer to a wrong old size.
pub const SIZE_CONTENT_TYPE: &str = "text/x.tlog.size";

const MAX_PROOF: usize = 63;

/// Why a witness does not cosign; each has its HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 400: not of the form, or the old size is larger than the checkpoint's.
    #[error(
        "the request is not: old SIZE, up to 63 proof lines, an empty line, and a checkpoint that is not smaller"
    )]
    BadRequest,
    /// 404: the log is not one that this witness knows.
    #[error("this witness does not know a log of this origin")]
    UnknownLog,
    /// 403: not signed by the log.
    #[error("no good signature of the log on the checkpoint")]
    NotSigned,
    /// 409: the old size is not the one last cosigned.
    #[error("the last checkpoint cosigned has size {0}")]
    Conflict(u64),
    /// 422: the checkpoint does not continue the one last cosigned.
    #[error("the checkpoint does not continue the one last cosigned: {0}")]
    Inconsistent(ProofError),
}

impl Refusal {
    /// HTTP status of the answer.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::UnknownLog => 404,
            Self::NotSigned => 403,
            Self::Conflict(_) => 409,
            Self::Inconsistent(_) => 422,
        }
    }

    /// Content type and body of the answer.
    #[must_use]
    pub fn body(self) -> (&'static str, String) {
        match self {
            Self::Conflict(size) => (SIZE_CONTENT_TYPE, format!("{size}\n")),
            Self::BadRequest | Self::UnknownLog | Self::NotSigned | Self::Inconsistent(_) => {
                ("text/plain; charset=utf-8", format!("{self}\n"))
            }
        }
    }
}

/// The body of `add-checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the checkpoint that the log believes to be the last one cosigned.
    pub old: u64,
    /// Consistency proof from there.
    pub proof: Vec<Hash>,
    /// The signed checkpoint.
    pub note: String,
}

impl AddCheckpoint {
    /// Reads a request.
    ///
    /// # Errors
    /// Not of the form.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let bad = Refusal::BadRequest;
        if bytes.len() > MAX_WITNESS_REQUEST_BYTES {
            return Err(bad);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| bad)?;
        let (head, note) = text.split_once("\n\n").ok_or(bad)?;
        let mut lines = head.split('\n');
        let old = lines
            .next()
            .and_then(|line| line.strip_prefix("old "))
            .and_then(decimal)
            .ok_or(bad)?;
        let proof: Vec<Hash> = lines
            .take(MAX_PROOF + 1)
            .map(Hash::from_base64)
            .collect::<Option<_>>()
            .ok_or(bad)?;
        if proof.len() > MAX_PROOF || note.is_empty() {
            return Err(bad);
        }
        Ok(Self {
            old,
            proof,
            note: note.to_owned(),
        })
    }

    /// The request's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("old {}\n", self.old);
        for hash in &self.proof {
            text.push_str(&hash.to_base64());
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.note);
        text
    }

    /// First half of judging: is it a checkpoint of a known log, signed by it?
    ///
    /// # Errors
    /// 400, 403 or 404.
    pub fn open(self, logs: &[VerifierKey]) -> Result<OpenedCheckpoint, Refusal> {
        let note = Note::parse(self.note.as_bytes()).map_err(|_| Refusal::BadRequest)?;
        let checkpoint =
            Checkpoint::from_text(note.unverified_text()).map_err(|_| Refusal::BadRequest)?;
        let keys: Vec<VerifierKey> = logs
            .iter()
            .filter(|key| key.name() == checkpoint.origin)
            .cloned()
            .collect();
        if keys.is_empty() {
            return Err(Refusal::UnknownLog);
        }
        note.verify(&keys).map_err(|_| Refusal::NotSigned)?;
        if self.old > checkpoint.size {
            return Err(Refusal::BadRequest);
        }
        Ok(OpenedCheckpoint {
            request: self,
            checkpoint,
        })
    }
}

/// A request whose checkpoint is signed by a known log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedCheckpoint {
    request: AddCheckpoint,
    checkpoint: Checkpoint,
}

impl OpenedCheckpoint {
    /// What the log claims now.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note that was offered; evidence when it is refused.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.request.note
    }

    /// Second half: does it continue `latest`, the checkpoint of this origin that was cosigned last?
    ///
    /// # Errors
    /// 409 or 422.
    pub fn check(self, latest: Option<&Checkpoint>) -> Result<Accepted, Refusal> {
        let known = latest.map_or(0, |latest| latest.size);
        if self.request.old != known {
            return Err(Refusal::Conflict(known));
        }
        let old_root = latest.map_or_else(empty_root, |latest| latest.root);
        verify_consistency(
            known,
            self.checkpoint.size,
            &self.request.proof,
            old_root,
            self.checkpoint.root,
        )
        .map_err(Refusal::Inconsistent)?;
        Ok(Accepted {
            checkpoint: self.checkpoint,
            note: self.request.note,
        })
    }
}

/// A checkpoint that continues the last one. Persist it, then [`Accepted::cosign`] and answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    checkpoint: Checkpoint,
    note: String,
}

impl Accepted {
    /// The checkpoint to keep.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note to keep.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }

    /// The answer's body: one signature line. `time` is in seconds since 1970 (UTC) and must not be 0.
    #[must_use]
    pub fn cosign(&self, cosigner: &Cosigner, time: u64) -> String {
        cosigner.cosign(&self.checkpoint.to_text(), time)
    }
}

/// A witness's answer, as the log reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WitnessAnswer {
    /// The note with this witness's cosignatures added, and the time that the witness gave.
    Cosigned {
        /// The note with the added lines.
        note: String,
        /// Seconds since 1970, UTC.
        time: u64,
    },
    /// The witness knows another size; ask again from there.
    Conflict(u64),
    /// Any other answer.
    Refused(u16),
}

/// Reads a witness's answer to a checkpoint. Lines by other keys are left out.
///
/// # Errors
/// The answer is not of the form, or its cosignature is wrong or missing.
pub fn read_answer(
    note: &str,
    witness: &CosignerKey,
    status: u16,
    body: &[u8],
) -> Result<WitnessAnswer, NoteError> {
    match status {
        200 => {
            let lines = std::str::from_utf8(body).map_err(|_| NoteError::Malformed)?;
            let (note, time) = add_cosignature(note, lines, witness)?;
            Ok(WitnessAnswer::Cosigned { note, time })
        }
        409 => std::str::from_utf8(body)
            .ok()
            .and_then(|text| text.strip_suffix('\n'))
            .and_then(decimal)
            .map(WitnessAnswer::Conflict)
            .ok_or(NoteError::Malformed),
        other => Ok(WitnessAnswer::Refused(other)),
    }
}

/// Adds this witness's lines out of `lines` to a note; a line of it that is already there is not added again. Returns also the time
/// that the witness gave.
///
/// # Errors
/// Not signature lines, a wrong cosignature, or none of this witness.
pub fn add_cosignature(
    note: &str,
    lines: &str,
    witness: &CosignerKey,
) -> Result<(String, u64), NoteError> {
    if note.len() + lines.len() > MAX_NOTE_BYTES {
        return Err(NoteError::TooLarge);
    }
    let mut added = Note::parse(note.as_bytes())?;
    // The lines must be signature lines and nothing else: parsed under a text of their own.
    let offered = Note::parse(format!("lines\n\n{lines}").as_bytes())?;
    let mut result = note.to_owned();
    let mut ours = false;
    for signature in offered.signatures {
        if !witness.made(&signature) {
            continue;
        }
        ours = true;
        if !added.signatures.contains(&signature) {
            result.push_str(&witness.line(&signature.payload));
            added.signatures.push(signature);
        }
    }
    if !ours {
        return Err(NoteError::NoKnownSignature);
    }
    let time = witness.verify(&added)?.ok_or(NoteError::NoKnownSignature)?;
    Ok((result, time))
}

/// How a log that shows a new checkpoint betrayed its witness; words for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    /// Smaller than before.
    #[error(
        "the log was rolled back or cut: it now claims {now} entries, and had {before} when it was last seen"
    )]
    Shrunk {
        /// Entries when last seen.
        before: u64,
        /// Entries claimed now.
        now: u64,
    },
    /// Not a continuation.
    #[error(
        "the log was changed or forked: its {now} entries do not continue the {before} that were seen before"
    )]
    Forked {
        /// Entries when last seen.
        before: u64,
        /// Entries claimed now.
        now: u64,
    },
    /// Not signed by the log, or of another log.
    #[error("the log's checkpoint is not acceptable: {0}")]
    NotTheLog(CheckpointError),
    /// No checkpoint any more.
    #[error("the log shows no checkpoint any more; it had {0} entries when it was last seen")]
    Vanished(u64),
}

/// A watcher's judgement of what a log shows now, for a watcher that asks the log (a gate), rather than being asked.
///
/// `latest` is the checkpoint that the watcher keeps. `None` as the result: nothing new.
///
/// # Errors
/// The log betrayed the watcher.
pub fn watch(
    log: &VerifierKey,
    latest: Option<&Checkpoint>,
    shown: Option<&str>,
    proof: &[Hash],
) -> Result<Option<Accepted>, LogFault> {
    let before = latest.map_or(0, |latest| latest.size);
    let Some(note) = shown else {
        return if before == 0 {
            Ok(None)
        } else {
            Err(LogFault::Vanished(before))
        };
    };
    let checkpoint = Checkpoint::open(note.as_bytes(), log).map_err(LogFault::NotTheLog)?;
    let now = checkpoint.size;
    if now < before {
        return Err(LogFault::Shrunk { before, now });
    }
    let old_root = latest.map_or_else(empty_root, |latest| latest.root);
    verify_consistency(before, now, proof, old_root, checkpoint.root)
        .map_err(|_| LogFault::Forked { before, now })?;
    if latest.is_some_and(|latest| latest.size == now) {
        return Ok(None);
    }
    Ok(Some(Accepted {
        checkpoint,
        note: note.to_owned(),
    }))
}

fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0"
        || (!text.starts_with('0')
            && !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit()));
    canonical.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
#[path = "witness/tests.rs"]
mod tests;
