//! The gate's journal: signs what the gate goes through by itself and gives it to the spool, in order.
//!
//! It never decides anything, and nobody waits for it before a door is free for life safety. What cannot be written because the disk
//! fails is kept in memory, in order, and written as soon as the disk takes it.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sallyport_domain::{GateId, Timestamp, TransactionId};
use sallyport_protocol::{
    DegradedCause, DoorReport, GateEvent, GateEventBody, PROTOCOL_VERSION, SignedDoorReport,
    SignedGateEvent,
};
use sallyport_transparency::NoteSigner;
use zeroize::Zeroizing;

use crate::clock::Mono;
use crate::deps::Deps;
use crate::durable;
use crate::spool::{Chain, OpenPeriod, Place, Spool, SpoolError};
use crate::witness::WitnessError;

/// Events that wait in memory for a disk that fails; beyond that new ones are refused.
const WAITING: usize = 4_096;

/// The journal of one gate; shared by threads. Recording only takes a place in memory; [`Self::flush`], on a thread of its own, makes
/// it durable, so that no disk holds up who records.
pub struct Journal {
    gate: GateId,
    signer: NoteSigner,
    spool: Arc<Spool>,
    deps: Deps,
    begun: Mono,
    memory: Mutex<Memory>,
    /// One writer at a time; never taken while `memory` is held.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Memory {
    waiting: VecDeque<Waiting>,
    /// What is missing now.
    open: Vec<OpenPeriod>,
}

#[derive(Clone)]
struct Waiting {
    body: GateEventBody,
    at: Timestamp,
    mono: Duration,
}

impl Journal {
    /// Opens the journal; its key lies in `folder` and is made at first use. Periods that were open when the agent ended are closed,
    /// as found.
    ///
    /// # Errors
    /// The key cannot be read or made.
    pub fn open(
        folder: &Path,
        gate: &GateId,
        spool: Arc<Spool>,
        deps: Deps,
    ) -> Result<Self, WitnessError> {
        let seed = seed(folder, &deps)?;
        let journal = Self {
            gate: gate.clone(),
            signer: NoteSigner::new(&GateEvent::key_name(gate), &seed)
                .map_err(|_| WitnessError::BadKey)?,
            begun: deps.clock.mono(),
            memory: Mutex::default(),
            writing: Mutex::default(),
            spool,
            deps,
        };
        for period in journal.chain().periods {
            journal.record(GateEventBody::DegradedEnded {
                cause: period.cause,
                began_at: period.began_at,
                undecided: period.undecided,
                found: true,
            });
        }
        Ok(journal)
    }

    /// What goes on, as the last durable events say.
    #[must_use]
    pub fn chain(&self) -> Chain {
        self.spool.chain()
    }

    /// Records an event that happens now.
    pub fn record(&self, body: GateEventBody) {
        self.record_at(body, self.deps.clock.wall());
    }

    /// Records an event that happened at `at`.
    pub fn record_at(&self, body: GateEventBody, at: Timestamp) {
        self.put(&mut self.memory(), body, at);
    }

    /// Notes that something is missing, or there again; does nothing when that is known.
    pub fn degraded(&self, cause: DegradedCause, missing: bool) {
        let mut memory = self.memory();
        let known = memory.open.iter().find(|period| period.cause == cause);
        let body = match (known, missing) {
            (None, true) => GateEventBody::DegradedBegan { cause },
            (Some(period), false) => GateEventBody::DegradedEnded {
                cause,
                began_at: period.began_at,
                undecided: period.undecided,
                found: false,
            },
            (None, false) | (Some(_), true) => return,
        };
        let at = self.deps.clock.wall();
        self.put(&mut memory, body, at);
    }

    fn put(&self, memory: &mut Memory, body: GateEventBody, at: Timestamp) {
        match &body {
            GateEventBody::DegradedBegan { cause } => memory.open.push(OpenPeriod {
                cause: *cause,
                began_at: at,
                undecided: 0,
            }),
            GateEventBody::DegradedEnded { cause, .. } => {
                memory.open.retain(|period| period.cause != *cause);
            }
            GateEventBody::Undecided { .. } => {
                for period in &mut memory.open {
                    period.undecided += 1;
                }
            }
            GateEventBody::LifeSafetyBegan { .. }
            | GateEventBody::LifeSafetyEnded { .. }
            | GateEventBody::LifeSafetyPassage { .. }
            | GateEventBody::OfficerDecided { .. } => {}
        }
        if memory.waiting.len() >= WAITING {
            // The disk has failed for a long time. The oldest stay: they tell how it began.
            tracing::error!("the gate's journal is full in memory; an event is lost");
            return;
        }
        memory.waiting.push_back(Waiting {
            body,
            at,
            mono: self.deps.clock.mono().since(self.begun),
        });
    }

    /// Is everything durable?
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.memory().waiting.is_empty()
    }

    /// Makes durable what waits in memory, in order.
    ///
    /// # Errors
    /// The disk fails; what is left waits on.
    pub fn flush(&self) -> Result<(), SpoolError> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(next) = self.memory().waiting.front().cloned() else {
                return Ok(());
            };
            self.spool.gate_event(|place| self.signed(place, next))?;
            self.memory().waiting.pop_front();
        }
    }

    fn signed(&self, place: &Place, next: Waiting) -> Option<SignedGateEvent> {
        let event = GateEvent {
            purpose: GateEvent::PURPOSE.to_owned(),
            gate: self.gate.clone(),
            epoch: place.epoch,
            sequence: place.sequence,
            previous: place.previous.clone(),
            mono_us: u64::try_from(next.mono.as_micros()).unwrap_or(u64::MAX),
            at: next.at,
            body: next.body,
        };
        let line = serde_json::to_string(&event).ok()?;
        Some(SignedGateEvent {
            version: PROTOCOL_VERSION,
            gate: self.gate.clone(),
            key: self.signer.verifier().to_string(),
            note: self.signer.sign(&format!("{line}\n")).ok()?,
        })
    }

    /// A spooled door report with the gate's signature; `None` when it cannot be signed, and then it goes as it is.
    #[must_use]
    pub fn signed_door_report(&self, json: &[u8]) -> Option<Vec<u8>> {
        let report: DoorReport = serde_json::from_slice(json).ok()?;
        let signed = SignedDoorReport {
            version: PROTOCOL_VERSION,
            gate: self.gate.clone(),
            key: self.signer.verifier().to_string(),
            note: self
                .signer
                .sign(&SignedDoorReport::text(
                    &serde_json::to_string(&report).ok()?,
                ))
                .ok()?,
        };
        serde_json::to_vec(&signed).ok()
    }

    /// A new name for a release. A failing random source must not keep a door shut: the time will do.
    #[must_use]
    pub fn new_release(&self) -> TransactionId {
        let now = self.deps.clock.wall();
        self.deps
            .new_transaction(now)
            .map_or_else(|_| TransactionId::new(now, [0; 10]), |(id, _)| id)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The seed of the journal's key. A key of its own: it signs nothing but events and door reports.
fn seed(folder: &Path, deps: &Deps) -> Result<Zeroizing<[u8; 32]>, WitnessError> {
    let path = folder.join("events.key");
    let failed = |source| WitnessError::Io {
        path: path.clone(),
        source,
    };
    let mut seed = Zeroizing::new([0_u8; 32]);
    match fs::read(&path).map(Zeroizing::new) {
        Ok(bytes) => {
            let bytes: &[u8; 32] = bytes
                .as_slice()
                .try_into()
                .map_err(|_| WitnessError::Damaged(path.clone()))?;
            seed.copy_from_slice(bytes);
            Ok(seed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            deps.random.fill(&mut *seed)?;
            durable::replace(&path, &*seed, 0o600).map_err(failed)?;
            Ok(seed)
        }
        Err(source) => Err(failed(source)),
    }
}
