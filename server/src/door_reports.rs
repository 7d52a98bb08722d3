//! What doors did becomes entries of the log. A gate numbers its reports and signs them; a missing number, another content under a known
//! one, or a report without the signature of a gate that signs is an entry of its own, once. What a door did is recorded all the same.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sallyport_domain::{GateId, Verdict};
use sallyport_protocol::{DoorOutcome, DoorReport, GateEvent, SignedDoorReport};
use sallyport_transparency::{Entry, Note, VerifierKey};
use sha2::{Digest as _, Sha256};

use crate::audit::{self, AuditError};
use crate::gate_events;
use crate::passages::PassageError;
use crate::state::AppState;
use crate::store::Write;
use crate::store::gate_events::EventRow;
use crate::store::passages::DoorReportRow;

/// Who signed a report, and how.
#[derive(Debug, Clone)]
pub struct Signature {
    vkey: String,
    text: String,
}

/// Checks a signed report.
///
/// # Errors
/// The signature or what it signs is wrong.
pub fn open(
    gate: &GateId,
    signed: &SignedDoorReport,
) -> Result<(DoorReport, Signature), PassageError> {
    let invalid = PassageError::Invalid;
    let key = VerifierKey::parse(&signed.key)
        .ok()
        .filter(|key| key.is_log_key() && key.name() == GateEvent::key_name(gate))
        .ok_or(invalid("the door report's key is not one of this gate"))?;
    let note = Note::parse(signed.note.as_bytes())
        .map_err(|_| invalid("the door report is not a signed note"))?;
    let text = note
        .verify(std::slice::from_ref(&key))
        .map_err(|_| invalid("the door report's signature is wrong"))?;
    let report: DoorReport = text
        .strip_prefix(SignedDoorReport::PURPOSE)
        .and_then(|rest| rest.strip_prefix('\n')?.strip_suffix('\n'))
        .and_then(|line| serde_json::from_str(line).ok())
        .ok_or(invalid(
            "the signed text is no door report of this protocol",
        ))?;
    if report.gate != *gate || report.version != signed.version {
        return Err(invalid("the door report is another gate's"));
    }
    let text = signed
        .note
        .lines()
        .last()
        .and_then(|line| line.rsplit_once(' '))
        .and_then(|(_, text)| STANDARD.decode(text).ok())
        .map(|bytes| STANDARD.encode(bytes.get(4..).unwrap_or_default()))
        .unwrap_or_default();
    let vkey = key.to_string();
    Ok((report, Signature { vkey, text }))
}

/// Records what a door did. Idempotent by transaction; a report about an unknown passage is logged as such.
///
/// # Errors
/// See [`PassageError`].
pub async fn receive(
    state: &AppState,
    gate: &GateId,
    report: &DoorReport,
    signature: Option<&Signature>,
) -> Result<(), PassageError> {
    let row = DoorReportRow {
        transaction: report.transaction,
        gate: gate.clone(),
        outcome: report.outcome.code().to_owned(),
        at: report.at,
        sequence: i64::try_from(report.sequence)
            .map_err(|_| PassageError::Invalid("sequence is too large"))?,
    };
    if report.sequence == 0 {
        return Err(PassageError::Invalid("reports are numbered from 1 on"));
    }
    let mut write = state.store.write().await?;
    let stored = write.door_report(report.transaction).await?;
    if stored.as_ref() == Some(&row) {
        return Ok(());
    }
    let now = state.clock.now();
    let mut numbered = Numbered::new(state, &mut write, report, signature).await?;
    if stored.is_some() {
        // Two stories about one passage. The first stays; that there is another is an entry.
        if !numbered.known {
            let index = numbered.fault("passage_differs", None).await?;
            numbered.store(false, index).await?;
            write.commit().await?;
            state.logged_at(now);
            state.announce_alarm();
        }
        return Err(PassageError::Conflict);
    }
    let faults = numbered.check().await?;
    let passage = write
        .passage(report.transaction)
        .await?
        .filter(|passage| passage.gate == *gate);
    let ordered = passage.as_ref().is_some_and(|passage| {
        passage.verdict == Verdict::Grant
            || passage
                .review
                .as_ref()
                .is_some_and(|review| review.verdict == Verdict::Grant)
    });
    let released = report.outcome == DoorOutcome::Released;
    if released && !ordered {
        tracing::error!(%gate, transaction = %report.transaction, "a door reports a release that was never granted");
    }
    let entry = Entry {
        gate: Some(gate.to_string()),
        seq: Some(report.sequence),
        gate_sig: signature.map(|signature| signature.text.clone()),
        about: Some(report.transaction.to_string()),
        decision: Some(row.outcome.clone()),
        reason: (released && !ordered).then(|| "not_granted".to_owned()),
        ..audit::entry("door", now)?
    };
    let index = audit::append(state, &mut write, entry, None).await?;
    write.door_report_insert(&row, index).await?;
    Numbered::new(state, &mut write, report, signature)
        .await?
        .store(true, index)
        .await?;
    write.commit().await?;
    state.logged_at(now);
    if faults {
        state.announce_alarm();
    }
    state.announce(report.transaction);
    Ok(())
}

/// A report among the numbers of its gate. They are kept beside those of the gate's events, in a series of their own.
struct Numbered<'a, 'w> {
    state: &'a AppState,
    write: &'a mut Write<'w>,
    report: &'a DoorReport,
    signature: Option<&'a Signature>,
    series: String,
    digest: String,
    /// Exactly this was seen before.
    known: bool,
    /// Something else was, under this number.
    taken: bool,
}

impl<'a, 'w> Numbered<'a, 'w> {
    async fn new(
        state: &'a AppState,
        write: &'a mut Write<'w>,
        report: &'a DoorReport,
        signature: Option<&'a Signature>,
    ) -> Result<Self, PassageError> {
        let key = signature.map_or("", |signature| signature.vkey.as_str());
        let series = format!("door-reports {key}");
        let bytes = serde_json::to_vec(report).map_err(audit::refused)?;
        let digest = hex::encode(Sha256::digest(bytes));
        let there = write
            .gate_events_at(&report.gate, &series, report.sequence)
            .await?;
        Ok(Self {
            known: there.iter().any(|row| row.digest == digest),
            taken: there.iter().any(|row| row.digest != digest),
            state,
            write,
            report,
            signature,
            series,
            digest,
        })
    }

    /// Compares number and signature with what is known, and writes what does not fit.
    async fn check(&mut self) -> Result<bool, PassageError> {
        let (gate, sequence) = (&self.report.gate, self.report.sequence);
        let mut faults = false;
        match self.signature {
            Some(signature) => {
                gate_events::know_key(self.state, self.write, gate, &signature.vkey).await?;
            }
            None if self.write.gate_event_key(gate).await?.is_some() => {
                self.fault("unsigned", None).await?;
                faults = true;
            }
            None => {}
        }
        let newest = self.write.gate_event_newest(gate, &self.series).await?;
        let last = match newest {
            Some(row) => row.sequence,
            // A gate whose state is new begins with 1; one that begins to sign goes on counting.
            None if sequence == 1 => 0,
            None => self.write.door_report_newest(gate).await?,
        };
        if self.taken {
            self.fault("duplicate_differs", None).await?;
            faults = true;
        } else if sequence > last + 1 {
            let what = format!("numbers {} to {} are missing", last + 1, sequence - 1);
            self.fault("gap", Some(what)).await?;
            faults = true;
        } else if sequence <= last {
            self.fault("late", None).await?;
            faults = true;
        }
        Ok(faults)
    }

    async fn fault(&mut self, reason: &str, what: Option<String>) -> Result<u64, AuditError> {
        let gate = &self.report.gate;
        tracing::error!(gate.id = %gate, reason, "the numbers of a gate's door reports do not fit; compare its spool with the log");
        let entry = Entry {
            gate: Some(gate.to_string()),
            seq: Some(self.report.sequence),
            gate_sig: self.signature.map(|signature| signature.text.clone()),
            about: Some(what.unwrap_or_else(|| self.report.transaction.to_string())),
            decision: Some("door_report".to_owned()),
            reason: Some(reason.to_owned()),
            ..audit::entry("gate_sequence", self.state.clock.now())?
        };
        audit::append(self.state, self.write, entry, None).await
    }

    async fn store(self, accepted: bool, index: u64) -> Result<(), PassageError> {
        let row = EventRow {
            sequence: self.report.sequence,
            digest: self.digest,
            accepted,
        };
        self.write
            .gate_event_insert(&self.report.gate, &self.series, &row, index)
            .await?;
        Ok(())
    }
}
