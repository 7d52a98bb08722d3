//! What gates went through by themselves becomes entries of the log: releases for life safety, times without a server, people without
//! a decision, what officers decided on the spot.
//!
//! A gate signs, numbers and chains its events. The same event again does nothing; a missing number, another content under a number, or
//! a broken chain is an entry of its own, once. Nothing here opens a door or changes a decision.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sallyport_domain::{GateId, Timestamp};
use sallyport_protocol::{GateEvent, GateEventBody, SignedGateEvent};
use sallyport_transparency::{Entry, Note, VerifierKey};
use sha2::{Digest as _, Sha256};

use crate::audit::{self, AuditError};
use crate::state::AppState;
use crate::store::gate_events::{EventRow, ReleaseRow};
use crate::store::{StoreError, Write};

/// A release that ended stays on the live page for this long.
const SHOWN_MS: i64 = 12 * 3_600_000;
/// Longer texts of officers are not taken.
const TEXT_CHARS: usize = 500;

/// Why an event was not taken.
#[derive(Debug, thiserror::Error)]
pub enum GateEventError {
    /// It is not what the protocol says.
    #[error("{0}")]
    Invalid(&'static str),
    /// Another event has this number.
    #[error(
        "this gate reported another event under this number before; both are in the log as an alarm. Let the administrator compare the gate's spool with the log"
    )]
    Conflict,
    /// Database or log failed.
    #[error("the server could not record the event; send it again")]
    Unavailable(#[source] AuditError),
}

impl From<AuditError> for GateEventError {
    fn from(error: AuditError) -> Self {
        Self::Unavailable(error)
    }
}

impl From<StoreError> for GateEventError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.into())
    }
}

/// An event whose signature was checked.
struct Opened {
    vkey: String,
    digest: String,
    signature: String,
    event: GateEvent,
}

fn open(gate: &GateId, signed: &SignedGateEvent) -> Result<Opened, GateEventError> {
    let invalid = GateEventError::Invalid;
    let key = VerifierKey::parse(&signed.key)
        .ok()
        .filter(|key| key.is_log_key() && key.name() == GateEvent::key_name(gate))
        .ok_or(invalid("the event's key is not one of this gate"))?;
    let note = Note::parse(signed.note.as_bytes())
        .map_err(|_| invalid("the event is not a signed note"))?;
    let text = note
        .verify(std::slice::from_ref(&key))
        .map_err(|_| invalid("the event's signature is wrong"))?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let event: GateEvent = serde_json::from_str(line)
        .map_err(|_| invalid("the signed text is no event of this protocol"))?;
    if event.purpose != GateEvent::PURPOSE || event.gate != *gate {
        return Err(invalid("the event is another gate's"));
    }
    if event.sequence == 0 || i64::try_from(event.sequence).is_err() {
        return Err(invalid("the event's number is impossible"));
    }
    let signature = signed
        .note
        .lines()
        .last()
        .and_then(|line| line.rsplit_once(' '))
        .and_then(|(_, text)| STANDARD.decode(text).ok())
        .map(|bytes| STANDARD.encode(bytes.get(4..).unwrap_or_default()))
        .unwrap_or_default();
    Ok(Opened {
        vkey: key.to_string(),
        digest: hex::encode(Sha256::digest(text)),
        signature,
        event,
    })
}

/// Takes one event.
///
/// # Errors
/// See [`GateEventError`].
pub async fn receive(
    state: &AppState,
    gate: &GateId,
    signed: &SignedGateEvent,
) -> Result<(), GateEventError> {
    let opened = open(gate, signed)?;
    check_texts(&opened.event.body)?;
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    know_key(state, &mut write, gate, &opened.vkey).await?;
    let sequence = opened.event.sequence;
    let known = write.gate_events_at(gate, &opened.vkey, sequence).await?;
    if let Some(same) = known.iter().find(|row| row.digest == opened.digest) {
        return if same.accepted {
            Ok(())
        } else {
            Err(GateEventError::Conflict)
        };
    }
    if !known.is_empty() {
        let index = fault(state, &mut write, &opened, "duplicate_differs", None).await?;
        let row = EventRow {
            sequence,
            digest: opened.digest.clone(),
            accepted: false,
        };
        write
            .gate_event_insert(gate, &opened.vkey, &row, index)
            .await?;
        write.commit().await?;
        state.logged_at(now);
        state.announce_alarm();
        return Err(GateEventError::Conflict);
    }
    let newest = write.gate_event_newest(gate, &opened.vkey).await?;
    let (last, digest) = newest.map_or((0, String::new()), |row| (row.sequence, row.digest));
    if sequence > last + 1 {
        let what = format!("numbers {} to {} are missing", last + 1, sequence - 1);
        fault(state, &mut write, &opened, "gap", Some(what)).await?;
    } else if sequence == last + 1 && opened.event.previous != digest {
        fault(state, &mut write, &opened, "chain_broken", None).await?;
    } else if sequence <= last {
        fault(state, &mut write, &opened, "late", None).await?;
    }
    let index = audit::append(
        state,
        &mut write,
        entry_of(&opened, now)?,
        Some(signed.note.as_bytes()),
    )
    .await?;
    let row = EventRow {
        sequence,
        digest: opened.digest.clone(),
        accepted: true,
    };
    write
        .gate_event_insert(gate, &opened.vkey, &row, index)
        .await?;
    take_release(&mut write, &opened.event, index).await?;
    write.commit().await?;
    state.logged_at(now);
    tell(state, &opened.event).await?;
    Ok(())
}

/// A gate's key that is new becomes an entry.
pub(crate) async fn know_key(
    state: &AppState,
    write: &mut Write<'_>,
    gate: &GateId,
    vkey: &str,
) -> Result<(), AuditError> {
    if write.gate_event_key(gate).await?.as_deref() == Some(vkey) {
        return Ok(());
    }
    let now = state.clock.now();
    write.gate_event_key_put(gate, vkey, now).await?;
    let entry = Entry {
        about: Some(vkey.to_owned()),
        ..gate_entry("gate_event_key", gate, now)?
    };
    audit::append(state, write, entry, None).await.map(drop)
}

fn check_texts(body: &GateEventBody) -> Result<(), GateEventError> {
    let (officer, reason, doors) = match body {
        GateEventBody::LifeSafetyBegan {
            officer,
            reason,
            doors,
            ..
        } => (officer, reason, doors.as_slice()),
        GateEventBody::OfficerDecided {
            officer, reason, ..
        } => (officer, reason, [].as_slice()),
        GateEventBody::LifeSafetyEnded { .. }
        | GateEventBody::LifeSafetyPassage { .. }
        | GateEventBody::DegradedBegan { .. }
        | GateEventBody::DegradedEnded { .. }
        | GateEventBody::Undecided { .. } => return Ok(()),
    };
    let long = |text: &String| text.chars().count() > TEXT_CHARS;
    if long(officer) || long(reason) || doors.len() > 64 || doors.iter().any(long) {
        Err(GateEventError::Invalid("a text of the event is too long"))
    } else {
        Ok(())
    }
}

fn gate_entry(kind: &str, gate: &GateId, now: Timestamp) -> Result<Entry, AuditError> {
    Ok(Entry {
        gate: Some(gate.to_string()),
        ..audit::entry(kind, now)?
    })
}

/// The numbers of a gate do not fit: an entry that raises an alarm in the streams.
async fn fault(
    state: &AppState,
    write: &mut Write<'_>,
    opened: &Opened,
    reason: &str,
    what: Option<String>,
) -> Result<u64, AuditError> {
    let gate = &opened.event.gate;
    tracing::error!(gate.id = %gate, reason, "the numbers of a gate's events do not fit; compare its spool with the log");
    let entry = Entry {
        epoch: Some(opened.event.epoch),
        seq: Some(opened.event.sequence),
        gate_sig: Some(opened.signature.clone()),
        about: Some(what.unwrap_or_else(|| opened.digest.clone())),
        reason: Some(reason.to_owned()),
        ..gate_entry("gate_sequence", gate, state.clock.now())?
    };
    audit::append(state, write, entry, None).await
}

/// The entry of an event. Officers' words are only in the sealed detail.
fn entry_of(opened: &Opened, now: Timestamp) -> Result<Entry, AuditError> {
    let event = &opened.event;
    let at = event.at.to_rfc3339();
    let found = |found: bool, otherwise: &str| {
        Some(if found { "found_at_start" } else { otherwise }.to_owned())
    };
    let (kind, about, decision, reason) = match &event.body {
        GateEventBody::LifeSafetyBegan {
            release,
            source,
            found: late,
            ..
        } => (
            "life_safety_release",
            Some(format!("{release} since {at}")),
            Some("begin"),
            found(*late, source.code()),
        ),
        GateEventBody::LifeSafetyEnded {
            release,
            found: late,
        } => (
            "life_safety_release",
            Some(format!("{release} until {at}")),
            Some("end"),
            found(*late, "restored"),
        ),
        GateEventBody::LifeSafetyPassage { transaction, .. } => (
            "life_safety_passage",
            Some(transaction.to_string()),
            None,
            Some("door_free".to_owned()),
        ),
        GateEventBody::DegradedBegan { cause } => (
            "gate_degraded",
            Some(format!("since {at}")),
            Some("begin"),
            Some(cause.code().to_owned()),
        ),
        GateEventBody::DegradedEnded {
            cause,
            began_at,
            undecided,
            found,
        } => (
            "gate_degraded",
            Some(format!(
                "since {} until {at}{}, {undecided} without decision",
                began_at.to_rfc3339(),
                if *found { " (found at start)" } else { "" }
            )),
            Some("end"),
            Some(cause.code().to_owned()),
        ),
        GateEventBody::Undecided { transaction } => (
            "undecided",
            Some(transaction.to_string()),
            None,
            Some("no_decision".to_owned()),
        ),
        GateEventBody::OfficerDecided {
            transaction,
            decision,
            ..
        } => (
            "officer_at_gate",
            transaction.map(|transaction| transaction.to_string()),
            Some(decision.code()),
            Some("on_the_spot".to_owned()),
        ),
    };
    Ok(Entry {
        epoch: Some(event.epoch),
        seq: Some(event.sequence),
        gate_sig: Some(opened.signature.clone()),
        about,
        decision: decision.map(str::to_owned),
        reason,
        ..gate_entry(kind, &event.gate, now)?
    })
}

async fn take_release(
    write: &mut Write<'_>,
    event: &GateEvent,
    index: u64,
) -> Result<(), AuditError> {
    match &event.body {
        GateEventBody::LifeSafetyBegan {
            release,
            source,
            doors,
            ..
        } => {
            let row = ReleaseRow {
                id: release.to_string(),
                gate: event.gate.to_string(),
                source: source.code().to_owned(),
                doors: serde_json::to_string(doors).map_err(audit::refused)?,
                began_at: event.at,
                ended_at: None,
                began_index: index,
            };
            write.release_begin(&row).await?;
        }
        GateEventBody::LifeSafetyEnded { release, .. } => {
            write
                .release_end(&event.gate, &release.to_string(), event.at)
                .await?;
        }
        GateEventBody::LifeSafetyPassage { .. }
        | GateEventBody::DegradedBegan { .. }
        | GateEventBody::DegradedEnded { .. }
        | GateEventBody::Undecided { .. }
        | GateEventBody::OfficerDecided { .. } => {}
    }
    Ok(())
}

async fn tell(state: &AppState, event: &GateEvent) -> Result<(), AuditError> {
    match &event.body {
        GateEventBody::LifeSafetyBegan { .. } => {
            tracing::error!(gate.id = %event.gate, "LIFE SAFETY: the gate's doors are free");
        }
        GateEventBody::LifeSafetyEnded { .. } => {
            tracing::warn!(gate.id = %event.gate, "life safety: the gate's doors obey grants again");
        }
        GateEventBody::LifeSafetyPassage { .. }
        | GateEventBody::DegradedBegan { .. }
        | GateEventBody::DegradedEnded { .. }
        | GateEventBody::Undecided { .. }
        | GateEventBody::OfficerDecided { .. } => return Ok(()),
    }
    load_releases(state).await?;
    // Every page must show it.
    state.announce_alarm();
    Ok(())
}

/// Reads the releases for the console's pages; another process may have taken one.
///
/// # Errors
/// The database failed.
pub async fn load_releases(state: &AppState) -> Result<(), StoreError> {
    let since = state.clock.now().plus_millis(-SHOWN_MS);
    let rows = state.store.releases(since).await?;
    state.set_releases(rows);
    Ok(())
}
