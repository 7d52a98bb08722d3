//! The gate as a witness of the audit log.
//!
//! It keeps the last checkpoint that it saw, demands at every heartbeat a proof that the log continues it, and cosigns. A log that
//! was rolled back, cut, changed or forked raises an alarm that survives restarts; both checkpoints are kept as evidence. While the alarm
//! stands, the gate opens on no grant: who rewrites the log could order doors, too. Only a person at the gate machine ends the alarm, by
//! moving the folder `witness/alarm` away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sallyport_domain::{GateId, Timestamp};
use sallyport_protocol::{HeartbeatAnswer, LogAlarm, LogSeen};
use sallyport_transparency::{Checkpoint, Cosigner, Hash, VerifierKey, watch};
use zeroize::Zeroizing;

use crate::deps::{Random, RandomError};
use crate::durable;

/// Why the gate cannot be a witness.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// A file operation failed.
    #[error(
        "cannot use {path}: {source}; check that the folder belongs to this user and has free space"
    )]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error(
        "{0} is damaged. It is this gate's memory of the audit log: keep it, call the administrator, and let both be compared with the server's log"
    )]
    Damaged(PathBuf),
    /// The server's key of the log, got at joining, is not one.
    #[error(
        "the audit log's key that the server gave at joining is not acceptable; join the gate again with a new token"
    )]
    BadKey,
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// The gate's memory of the log.
pub struct GateWitness {
    log: VerifierKey,
    cosigner: Cosigner,
    folder: PathBuf,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    latest: Option<(Checkpoint, String)>,
    cosignature: Option<String>,
    alarm: Option<LogAlarm>,
}

impl GateWitness {
    /// Opens the memory in `folder`, or begins one.
    ///
    /// # Errors
    /// See [`WitnessError`]; a gate that lost its memory must not go on as if it never had one.
    pub fn open(
        folder: &Path,
        gate: &GateId,
        log_vkey: &str,
        random: &dyn Random,
    ) -> Result<Self, WitnessError> {
        let log = VerifierKey::parse(log_vkey)
            .ok()
            .filter(VerifierKey::is_log_key)
            .ok_or(WitnessError::BadKey)?;
        fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
        let name = format!("{}/gate/{gate}", log.name());
        let cosigner =
            Cosigner::new(&name, &*seed(folder, random)?).map_err(|_| WitnessError::BadKey)?;
        let latest = read(&folder.join("checkpoint"))?
            .map(|note| {
                Checkpoint::open(note.as_bytes(), &log)
                    .map(|checkpoint| (checkpoint, note))
                    .map_err(|_| WitnessError::Damaged(folder.join("checkpoint")))
            })
            .transpose()?;
        let place = folder.join("alarm");
        let alarm = if place.exists() {
            // Whatever is left of the evidence, the alarm stands.
            let what = read(&place.join("what"))?;
            Some(LogAlarm {
                what: what
                    .as_deref()
                    .and_then(|text| text.split_once('\n'))
                    .map_or_else(
                        || "an alarm about the audit log was raised before".to_owned(),
                        |(_, sentence)| sentence.trim_end().to_owned(),
                    ),
                at: Timestamp::from_micros(
                    what.as_deref()
                        .and_then(|text| text.split_once('\n'))
                        .and_then(|(at, _)| at.parse().ok())
                        .unwrap_or(0),
                ),
                kept: read(&place.join("kept"))?,
                shown: read(&place.join("shown"))?,
            })
        } else {
            None
        };
        Ok(Self {
            log,
            cosigner,
            folder: folder.to_owned(),
            memory: Mutex::new(Memory {
                latest,
                cosignature: None,
                alarm,
            }),
        })
    }

    /// What the next heartbeat says about the log.
    #[must_use]
    pub fn seen(&self) -> LogSeen {
        let memory = self.memory();
        LogSeen {
            size: memory
                .latest
                .as_ref()
                .map_or(0, |(checkpoint, _)| checkpoint.size),
            witness: self.cosigner.verifier().to_string(),
            cosignature: memory.cosignature.clone(),
            alarm: memory.alarm.clone(),
        }
    }

    /// The checkpoint that the gate keeps.
    #[must_use]
    pub fn kept(&self) -> Option<Checkpoint> {
        let memory = self.memory();
        memory.latest.as_ref().map(|(kept, _)| kept.clone())
    }

    /// The alarm, while it stands.
    #[must_use]
    pub fn alarm(&self) -> Option<LogAlarm> {
        self.memory().alarm.clone()
    }

    /// Judges a heartbeat's answer. What continues the log is kept durably, then cosigned. Returns the alarm when this answer raised it.
    ///
    /// # Errors
    /// The memory could not be written; nothing was cosigned, and the next heartbeat tries again. An alarm is raised all the same.
    pub fn take(
        &self,
        answer: &HeartbeatAnswer,
        now: Timestamp,
    ) -> Result<Option<LogAlarm>, WitnessError> {
        let mut memory = self.memory();
        if memory.alarm.is_some() {
            return Ok(None);
        }
        let proof: Option<Vec<Hash>> = answer
            .proof
            .iter()
            .map(|hash| Hash::from_base64(hash))
            .collect();
        // What cannot be read proves nothing.
        let proof = proof.unwrap_or_default();
        let latest = memory.latest.as_ref().map(|(checkpoint, _)| checkpoint);
        let judged = watch(&self.log, latest, answer.checkpoint.as_deref(), &proof);
        let what = match (&answer.log_fault, &judged) {
            (_, Err(fault)) => fault.to_string(),
            (Some(fault), Ok(_)) => format!("the server reports: {fault}"),
            (None, Ok(_)) => {
                if let Ok(Some(accepted)) = judged {
                    let path = self.folder.join("checkpoint");
                    durable::replace(&path, accepted.note().as_bytes(), 0o600)
                        .map_err(|source| failed(&path, source))?;
                    memory.cosignature = Some(accepted.cosign(&self.cosigner, seconds(now)));
                    memory.latest =
                        Some((accepted.checkpoint().clone(), accepted.note().to_owned()));
                } else if let (None, Some((latest, _))) = (&memory.cosignature, &memory.latest) {
                    // After a restart: the kept checkpoint was shown and proved again.
                    let line = self.cosigner.cosign(&latest.to_text(), seconds(now));
                    memory.cosignature = Some(line);
                }
                return Ok(None);
            }
        };
        let alarm = LogAlarm {
            what,
            at: now,
            kept: memory.latest.as_ref().map(|(_, note)| note.clone()),
            shown: answer.checkpoint.clone(),
        };
        memory.alarm = Some(alarm.clone());
        drop(memory);
        self.keep(&alarm, &answer.proof)?;
        Ok(Some(alarm))
    }

    /// Writes the evidence; the folder appears whole or not at all.
    fn keep(&self, alarm: &LogAlarm, proof: &[String]) -> Result<(), WitnessError> {
        let (place, begun) = (self.folder.join("alarm"), self.folder.join("alarm.tmp"));
        let write = || -> io::Result<()> {
            if begun.exists() {
                fs::remove_dir_all(&begun)?;
            }
            fs::create_dir(&begun)?;
            let what = format!("{}\n{}\n", alarm.at.as_micros(), alarm.what);
            durable::replace(&begun.join("what"), what.as_bytes(), 0o600)?;
            for (name, text) in [("kept", &alarm.kept), ("shown", &alarm.shown)] {
                if let Some(text) = text {
                    durable::replace(&begun.join(name), text.as_bytes(), 0o600)?;
                }
            }
            durable::replace(&begun.join("proof"), proof.join("\n").as_bytes(), 0o600)?;
            fs::rename(&begun, &place)?;
            durable::sync_folder(&self.folder)
        };
        write().map_err(|source| failed(&place, source))
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The checkpoint kept in this folder, without opening the witness; `None` when there is none that the log signed, or an alarm stands.
#[must_use]
pub fn kept_checkpoint(folder: &Path, log_vkey: &str) -> Option<Checkpoint> {
    let log = VerifierKey::parse(log_vkey).ok()?;
    let note = read(&folder.join("checkpoint")).ok()??;
    let kept = Checkpoint::open(note.as_bytes(), &log).ok()?;
    standing_alarm(folder).is_none().then_some(kept)
}

/// Whether an alarm stands in this folder, and its sentence, without opening the witness.
#[must_use]
pub fn standing_alarm(folder: &Path) -> Option<String> {
    let place = folder.join("alarm");
    place.exists().then(|| {
        read(&place.join("what"))
            .ok()
            .flatten()
            .and_then(|text| {
                text.split_once('\n')
                    .map(|(_, what)| what.trim_end().to_owned())
            })
            .unwrap_or_else(|| "an alarm was raised before".to_owned())
    })
}

/// Seconds since 1970 for a cosignature; 0 would mean no time at all.
fn seconds(now: Timestamp) -> u64 {
    u64::try_from(now.as_micros() / 1_000_000)
        .unwrap_or(1)
        .max(1)
}

/// The witness key's seed, made at first use. It is a key of its own: it signs nothing but checkpoints.
fn seed(folder: &Path, random: &dyn Random) -> Result<Zeroizing<[u8; 32]>, WitnessError> {
    let path = folder.join("witness.key");
    let mut seed = Zeroizing::new([0_u8; 32]);
    match fs::read(&path).map(Zeroizing::new) {
        Ok(bytes) => {
            let bytes: &[u8; 32] = bytes
                .as_slice()
                .try_into()
                .map_err(|_| WitnessError::Damaged(path))?;
            seed.copy_from_slice(bytes);
            Ok(seed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            random.fill(&mut *seed)?;
            durable::replace(&path, &*seed, 0o600).map_err(|source| failed(&path, source))?;
            Ok(seed)
        }
        Err(source) => Err(failed(&path, source)),
    }
}

fn read(path: &Path) -> Result<Option<String>, WitnessError> {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| WitnessError::Damaged(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(path, source)),
    }
}

fn failed(path: &Path, source: io::Error) -> WitnessError {
    WitnessError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
#[path = "witness/tests.rs"]
mod tests;
