//! Names and content of spool files.

use std::fmt;

use sallyport_protocol::{DoorReport, FailedAcquisition, SignedGateEvent};
use serde::Serialize;

/// Holds the next sequence number of door reports as 20 digits.
pub(super) const SEQUENCE_FILE: &str = "sequence";
/// Records are padded with spaces to a multiple of this, so that an outcome can change in place.
const BLOCK_BYTES: usize = 512;

/// No gate ever counts this far, the server takes no such number, and one more still fits: a number from here on is damage.
const IMPOSSIBLE: u64 = i64::MAX as u64;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A door report of a release that may or may not have happened yet.
    Intent,
    /// A door report.
    Door,
    /// A failed acquisition.
    Failed,
    /// A signed event of the gate.
    Event,
}

/// A file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) number: u64,
    pub(super) kind: Kind,
}

impl Name {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (number, kind) = text.split_once('.')?;
        let kind = match kind {
            "intent" => Kind::Intent,
            "door" => Kind::Door,
            "failed" => Kind::Failed,
            "event" => Kind::Event,
            _ => return None,
        };
        Some(Self {
            number: number.parse().ok().filter(|number| *number < IMPOSSIBLE)?,
            kind,
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Intent => "intent",
            Kind::Door => "door",
            Kind::Failed => "failed",
            Kind::Event => "event",
        };
        write!(f, "{:020}.{kind}", self.number)
    }
}

/// JSON, padded.
pub(super) fn encode<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value).ok()?;
    let padded = (bytes.len() + 1).div_ceil(BLOCK_BYTES) * BLOCK_BYTES;
    bytes.resize(padded - 1, b' ');
    bytes.push(b'\n');
    Some(bytes)
}

/// Checks a record; `None` when it is damaged, else its sequence number where it has one.
pub(super) fn inspect(kind: Kind, bytes: &[u8]) -> Option<Option<u64>> {
    match kind {
        Kind::Intent | Kind::Door => serde_json::from_slice::<DoorReport>(bytes)
            .ok()
            .filter(|report| report.sequence < IMPOSSIBLE)
            .map(|report| Some(report.sequence)),
        Kind::Failed => serde_json::from_slice::<FailedAcquisition>(bytes)
            .ok()
            .map(|_| None),
        Kind::Event => serde_json::from_slice::<SignedGateEvent>(bytes)
            .ok()
            .map(|_| None),
    }
}

/// The counter's value.
pub(super) fn counter(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    text.parse().ok().filter(|number| *number < IMPOSSIBLE)
}
