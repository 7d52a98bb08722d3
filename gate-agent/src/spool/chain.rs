//! Numbers and chain of the gate's own events, and what is going on at the gate: kept so that neither a crash nor a restart leaves a
//! gap, a repetition, or something begun that never ends.

use std::io;

use sallyport_domain::{Timestamp, TransactionId};
use sallyport_protocol::{DegradedCause, GateEvent, GateEventBody, SignedGateEvent};
use sallyport_transparency::Note;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::record::{self, Kind};
use super::{Inner, Spool, SpoolError, io_error};

/// The file in the spool's folder.
const CHAIN_FILE: &str = "events";

/// Where the next event stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Number of the agent's start.
    pub epoch: u64,
    /// Its number.
    pub sequence: u64,
    /// Digest of the one before.
    pub previous: String,
}

/// Something that is missing now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenPeriod {
    /// What.
    pub cause: DegradedCause,
    /// Since when, by the wall clock.
    pub began_at: Timestamp,
    /// People without a decision meanwhile.
    pub undecided: u64,
}

/// A release for life safety that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenRelease {
    /// Its name.
    pub release: TransactionId,
    /// Since when.
    pub began_at: Timestamp,
}

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// Number of the agent's start that wrote last.
    pub epoch: u64,
    /// Number of the newest event; 0 before the first.
    pub newest: u64,
    /// Its digest.
    pub digest: String,
    /// What is missing now.
    pub periods: Vec<OpenPeriod>,
    /// The release that goes on.
    pub release: Option<OpenRelease>,
    /// This start has its own epoch already.
    #[serde(skip)]
    begun: bool,
}

impl Chain {
    fn place(&self) -> Place {
        Place {
            epoch: if self.begun {
                self.epoch
            } else {
                self.epoch + 1
            },
            sequence: self.newest + 1,
            previous: self.digest.clone(),
        }
    }

    /// Takes an event in. `text` is the signed line.
    fn take(&mut self, event: &GateEvent, text: &str) {
        self.epoch = event.epoch;
        self.newest = event.sequence;
        self.digest = hex::encode(Sha256::digest(text));
        match &event.body {
            GateEventBody::LifeSafetyBegan { release, .. } => {
                self.release = Some(OpenRelease {
                    release: *release,
                    began_at: event.at,
                });
            }
            GateEventBody::LifeSafetyEnded { .. } => self.release = None,
            GateEventBody::DegradedBegan { cause } => {
                self.periods.retain(|period| period.cause != *cause);
                self.periods.push(OpenPeriod {
                    cause: *cause,
                    began_at: event.at,
                    undecided: 0,
                });
            }
            GateEventBody::DegradedEnded { cause, .. } => {
                self.periods.retain(|period| period.cause != *cause);
            }
            GateEventBody::Undecided { .. } => {
                for period in &mut self.periods {
                    period.undecided += 1;
                }
            }
            GateEventBody::LifeSafetyPassage { .. } | GateEventBody::OfficerDecided { .. } => {}
        }
    }
}

/// The event inside a spooled record, and its signed line.
fn opened(bytes: &[u8]) -> Option<(GateEvent, String)> {
    let signed: SignedGateEvent = serde_json::from_slice(bytes).ok()?;
    let note = Note::parse(signed.note.as_bytes()).ok()?;
    let text = note.unverified_text().to_owned();
    let event = serde_json::from_str(text.trim_end()).ok()?;
    Some((event, text))
}

impl Spool {
    /// What is going on, as the spool remembers it.
    #[must_use]
    pub fn chain(&self) -> Chain {
        self.lock().chain.clone()
    }

    /// Makes the next event durable. `sign` is told its place and gives the record.
    ///
    /// # Errors
    /// No room or no disk: the event has no number then, and is to be recorded again.
    pub fn gate_event(
        &self,
        sign: impl FnOnce(&Place) -> Option<SignedGateEvent>,
    ) -> Result<u64, SpoolError> {
        let mut inner = self.lock();
        let record = sign(&inner.chain.place()).ok_or(SpoolError::Encode)?;
        let bytes = record::encode(&record).ok_or(SpoolError::Encode)?;
        let (event, text) = opened(&bytes).ok_or(SpoolError::Encode)?;
        // The record first: what the chain misses after a crash is found in the folder, since no
        // record is delivered before this lock is given back.
        let number = self.add(&mut inner, Kind::Event, &record)?;
        inner.chain.take(&event, &text);
        inner.chain.begun = true;
        if let Err(error) = self.keep_chain(&inner.chain) {
            // It may be delivered all the same; only a crash before the next event that is kept would
            // number one twice, and that raises an alarm.
            tracing::error!("{error}");
        }
        Ok(number)
    }

    pub(super) fn recover_chain(&self, inner: &mut Inner) -> Result<(), SpoolError> {
        let path = self.folder.join(CHAIN_FILE);
        match self.disk.read(&path) {
            Ok(bytes) => {
                inner.chain =
                    serde_json::from_slice(&bytes).map_err(|_| SpoolError::Chain(path))?;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(io_error("read", &path, source)),
        }
    }

    /// Takes in a record that was written when the agent ended before the chain was.
    pub(super) fn catch_up(&self, inner: &mut Inner, bytes: &[u8]) {
        if let Some((event, text)) = opened(bytes)
            && event.sequence > inner.chain.newest
        {
            inner.chain.take(&event, &text);
        }
    }

    fn keep_chain(&self, chain: &Chain) -> Result<(), SpoolError> {
        let path = self.folder.join(CHAIN_FILE);
        let bytes = serde_json::to_vec(chain).map_err(|_| SpoolError::Encode)?;
        self.disk
            .create(&path, &bytes)
            .map_err(|source| io_error("write", &path, source))
    }
}
