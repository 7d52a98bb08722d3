//! Reports that must not be lost: each is durable before the agent goes on, and is delivered again
//! and again until the server has taken it.
//!
//! One file per record, `<number>.<kind>`, written under a temporary name, synced and renamed. A
//! door report is written *before* the door is released (`.intent`), so that neither a crash nor a
//! full disk can hide a release: an intent found at start is reported as released.
//!
//! Bounds: at most [`SpoolLimits::records`]. Failed acquisitions may fill three quarters; then the
//! oldest of them makes room. Door reports are never dropped: when there is no room for one, the
//! door stays shut. Events of the gate (releases for life safety, times without a server) have room of
//! their own beyond the bound.

mod chain;
mod disk;
mod record;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sallyport_domain::{GateId, Timestamp, TransactionId};
use sallyport_protocol::{DoorOutcome, DoorReport, FailedAcquisition, PROTOCOL_VERSION, paths};
use serde::Serialize;

pub use chain::{Chain, OpenPeriod, OpenRelease, Place};
pub use disk::{FileDisk, SpoolDisk};
use record::{Kind, Name};

/// The spool cannot take or give a record.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file operation failed.
    #[error("the spool cannot {what} {path}: {source}; check the state folder and its free space")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// No room for a door report.
    #[error(
        "the spool is full of door reports that the server has not taken; restore the connection to the server"
    )]
    Full,
    /// The memory of the gate's events is damaged.
    #[error(
        "{0} is damaged; it numbers what this gate reports. Keep it, move it away and restart: the server will raise an alarm about the numbers, which is right"
    )]
    Chain(PathBuf),
    /// A record could not be written as JSON.
    #[error("a report could not be written as JSON")]
    Encode,
}

/// How much the spool holds.
#[derive(Debug, Clone, Copy)]
pub struct SpoolLimits {
    /// Records at most.
    pub records: usize,
}

/// Room for events of the gate when everything else has filled the spool.
const EVENTS_BEYOND: usize = 10_000;

impl Default for SpoolLimits {
    fn default() -> Self {
        Self { records: 10_000 }
    }
}

/// A record to deliver.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Its name, for [`Spool::delivered`].
    pub number: u64,
    /// Route of the server.
    pub path: &'static str,
    /// JSON text.
    pub json: Vec<u8>,
}

/// A door report that is durable already and waits for what the door did.
#[derive(Debug)]
#[must_use = "the intent must be settled with what the door did"]
pub struct Intent {
    number: u64,
    report: DoorReport,
}

struct Inner {
    records: BTreeMap<u64, Kind>,
    next_number: u64,
    next_sequence: u64,
    chain: Chain,
    torn: usize,
    dropped: u64,
}

/// The durable spool; one per state folder, shared by threads.
pub struct Spool {
    folder: PathBuf,
    disk: Arc<dyn SpoolDisk>,
    limits: SpoolLimits,
    inner: Mutex<Inner>,
}

impl Spool {
    /// Opens the spool of a folder and takes up what a crash left.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn open(
        folder: &Path,
        limits: SpoolLimits,
        disk: Arc<dyn SpoolDisk>,
    ) -> Result<Self, SpoolError> {
        let spool = Self {
            folder: folder.to_owned(),
            disk,
            limits,
            inner: Mutex::new(Inner {
                records: BTreeMap::new(),
                next_number: 1,
                next_sequence: 1,
                chain: Chain::default(),
                torn: 0,
                dropped: 0,
            }),
        };
        spool.recover()?;
        Ok(spool)
    }

    /// Counts what waits and what is damaged in a folder without taking it over, beside a running
    /// agent.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn count(folder: &Path, disk: Arc<dyn SpoolDisk>) -> Result<(usize, usize), SpoolError> {
        let names = disk
            .list(folder)
            .map_err(|source| io_error("read", folder, source))?;
        let torn = names.iter().filter(|name| name.ends_with(".torn")).count();
        let waiting = names.iter().filter_map(|name| Name::parse(name)).count();
        Ok((waiting, torn))
    }

    /// Records that wait for the server.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock()
            .records
            .values()
            .filter(|kind| **kind != Kind::Intent)
            .count()
    }

    /// Damaged records found at start (kept as `.torn`), and failed acquisitions dropped for room.
    #[must_use]
    pub fn losses(&self) -> (usize, u64) {
        let inner = self.lock();
        (inner.torn, inner.dropped)
    }

    /// Writes down that the door is about to be released. Only then may it be.
    ///
    /// # Errors
    /// No room or no disk: the door must stay shut.
    pub fn intend_release(
        &self,
        gate: &GateId,
        transaction: TransactionId,
        at: Timestamp,
    ) -> Result<Intent, SpoolError> {
        let mut inner = self.lock();
        let report = self.door_report(&inner, gate, transaction, DoorOutcome::Released, at);
        let number = self.add(&mut inner, Kind::Intent, &report)?;
        let intent = Intent { number, report };
        if let Err(error) = self.advance_sequence(&mut inner) {
            // The door stays shut, so the record must not say otherwise after a restart.
            drop(inner);
            self.settle(intent, DoorOutcome::Fault)?;
            return Err(error);
        }
        Ok(intent)
    }

    /// Turns an intent into a report of what the door did.
    ///
    /// # Errors
    /// The disk failed; the intent stays and is reported as released after a restart.
    pub fn settle(&self, intent: Intent, outcome: DoorOutcome) -> Result<(), SpoolError> {
        let mut inner = self.lock();
        let from = self.path(intent.number, Kind::Intent);
        if outcome != DoorOutcome::Released {
            let report = DoorReport {
                outcome,
                ..intent.report
            };
            let bytes = record::encode(&report).ok_or(SpoolError::Encode)?;
            // Records are padded to a fixed size, so this needs no new space on a full disk.
            self.disk
                .overwrite(&from, &bytes)
                .map_err(|source| io_error("rewrite", &from, source))?;
        }
        let to = self.path(intent.number, Kind::Door);
        self.disk
            .rename(&from, &to)
            .map_err(|source| io_error("rename", &from, source))?;
        inner.records.insert(intent.number, Kind::Door);
        Ok(())
    }

    /// Records an order that was not obeyed.
    ///
    /// # Errors
    /// No room or no disk.
    pub fn reject_order(
        &self,
        gate: &GateId,
        transaction: TransactionId,
        at: Timestamp,
    ) -> Result<(), SpoolError> {
        let mut inner = self.lock();
        let report = self.door_report(&inner, gate, transaction, DoorOutcome::OrderRejected, at);
        self.add(&mut inner, Kind::Door, &report)?;
        self.advance_sequence(&mut inner)
    }

    /// Records a failure to acquire.
    ///
    /// # Errors
    /// No room or no disk.
    pub fn failed_acquisition(&self, report: &FailedAcquisition) -> Result<(), SpoolError> {
        let mut inner = self.lock();
        let share = self.limits.records / 4 * 3;
        let failed: Vec<u64> = inner
            .records
            .iter()
            .filter(|(_, kind)| **kind == Kind::Failed)
            .map(|(number, _)| *number)
            .collect();
        if let Some(oldest) = failed.first().filter(|_| failed.len() >= share.max(1)) {
            let path = self.path(*oldest, Kind::Failed);
            self.disk
                .remove(&path)
                .map_err(|source| io_error("remove", &path, source))?;
            inner.records.remove(oldest);
            inner.dropped += 1;
        }
        self.add(&mut inner, Kind::Failed, report).map(drop)
    }

    /// The oldest record after `number` that waits for the server.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn next_after(&self, number: u64) -> Result<Option<Pending>, SpoolError> {
        let found = self
            .lock()
            .records
            .range(number.saturating_add(1)..)
            .find_map(|(number, kind)| kind.route().map(|route| (*number, *kind, route)));
        let Some((number, kind, path)) = found else {
            return Ok(None);
        };
        let file = self.path(number, kind);
        let json = self
            .disk
            .read(&file)
            .map_err(|source| io_error("read", &file, source))?;
        Ok(Some(Pending { number, path, json }))
    }

    /// The server has taken the record.
    ///
    /// # Errors
    /// It cannot be removed; it will be delivered again, which the server recognises.
    pub fn delivered(&self, number: u64) -> Result<(), SpoolError> {
        let mut inner = self.lock();
        let Some(kind) = inner.records.get(&number).copied() else {
            return Ok(());
        };
        let path = self.path(number, kind);
        self.disk
            .remove(&path)
            .map_err(|source| io_error("remove", &path, source))?;
        inner.records.remove(&number);
        Ok(())
    }

    fn door_report(
        &self,
        inner: &Inner,
        gate: &GateId,
        transaction: TransactionId,
        outcome: DoorOutcome,
        at: Timestamp,
    ) -> DoorReport {
        DoorReport {
            version: PROTOCOL_VERSION,
            transaction,
            gate: gate.clone(),
            outcome,
            at,
            sequence: inner.next_sequence,
        }
    }

    fn add<T: Serialize>(
        &self,
        inner: &mut Inner,
        kind: Kind,
        value: &T,
    ) -> Result<u64, SpoolError> {
        let room = match kind {
            Kind::Event => self.limits.records.saturating_add(EVENTS_BEYOND),
            Kind::Intent | Kind::Door | Kind::Failed => self.limits.records,
        };
        if inner.records.len() >= room {
            return Err(SpoolError::Full);
        }
        let bytes = record::encode(value).ok_or(SpoolError::Encode)?;
        let number = inner.next_number;
        let path = self.path(number, kind);
        self.disk
            .create(&path, &bytes)
            .map_err(|source| io_error("write", &path, source))?;
        inner.next_number += 1;
        inner.records.insert(number, kind);
        Ok(number)
    }

    /// The counter is written after the record: a crash in between is mended by [`Self::recover`],
    /// which looks at both, so sequence numbers have neither gaps nor repetitions.
    fn advance_sequence(&self, inner: &mut Inner) -> Result<(), SpoolError> {
        inner.next_sequence += 1;
        let path = self.folder.join(record::SEQUENCE_FILE);
        let text = format!("{:020}\n", inner.next_sequence);
        self.disk
            .overwrite(&path, text.as_bytes())
            .map_err(|source| io_error("write", &path, source))
    }

    fn recover(&self) -> Result<(), SpoolError> {
        let mut inner = self.lock();
        let names = self
            .disk
            .prepare(&self.folder)
            .map_err(|source| io_error("open", &self.folder, source))?;
        let sequence_file = self.folder.join(record::SEQUENCE_FILE);
        let counter = self.disk.read(&sequence_file).ok();
        if let Some(next) = counter.as_deref().and_then(record::counter) {
            inner.next_sequence = next;
        }
        self.recover_chain(&mut inner)?;
        for name in names {
            let path = self.folder.join(&name);
            let Some(Name { number, kind }) = Name::parse(&name) else {
                continue;
            };
            inner.next_number = inner.next_number.max(number + 1);
            let bytes = self
                .disk
                .read(&path)
                .map_err(|source| io_error("read", &path, source))?;
            let Some(found) = record::inspect(kind, &bytes) else {
                inner.torn += 1;
                let aside = self.folder.join(format!("{name}.torn"));
                self.disk
                    .rename(&path, &aside)
                    .map_err(|source| io_error("set aside", &path, source))?;
                tracing::error!(
                    file = %aside.display(),
                    "a spooled report was damaged; it is set aside and must be looked at"
                );
                continue;
            };
            if kind == Kind::Event {
                self.catch_up(&mut inner, &bytes);
            }
            if let Some(sequence) = found {
                inner.next_sequence = inner.next_sequence.max(sequence + 1);
            }
            let kind = if kind == Kind::Intent {
                // The agent ended between writing the intent and settling it: somebody may have
                // passed.
                let to = self.path(number, Kind::Door);
                self.disk
                    .rename(&path, &to)
                    .map_err(|source| io_error("rename", &path, source))?;
                Kind::Door
            } else {
                kind
            };
            inner.records.insert(number, kind);
        }
        let text = format!("{:020}\n", inner.next_sequence);
        self.disk
            .overwrite(&sequence_file, text.as_bytes())
            .map_err(|source| io_error("write", &sequence_file, source))
    }

    fn path(&self, number: u64, kind: Kind) -> PathBuf {
        self.folder.join(Name { number, kind }.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> SpoolError {
    SpoolError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

impl Kind {
    /// Where a record of this kind goes; an unsettled intent goes nowhere yet.
    const fn route(self) -> Option<&'static str> {
        match self {
            Self::Intent => None,
            Self::Door => Some(paths::DOOR_REPORT),
            Self::Failed => Some(paths::FAILED_ACQUISITION),
            Self::Event => Some(paths::GATE_EVENT),
        }
    }
}

#[cfg(test)]
#[path = "spool/tests.rs"]
mod tests;
