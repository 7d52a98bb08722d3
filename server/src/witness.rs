//! Gates and outside bodies watch the log: what they are shown, their cosignatures, and the alarm when the log betrayed one of them.
//!
//! A gate asks at every heartbeat for a proof that the log continues what it saw before. For some seconds all gates are shown the same
//! checkpoint, so that all cosign the same one. The server also watches itself: it never signs what does not continue the last
//! checkpoint that it signed, and goes through the stored log all the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sallyport_domain::{GateId, Timestamp};
use sallyport_protocol::LogSeen;
use sallyport_transparency::{
    Checkpoint, CosignerKey, Hash, Policy, PolicyWitness, ProofError, add_cosignature,
    consistency_proof, needed_for_consistency,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::audit::{self, AuditError};
use crate::fsck::Fsck;
use crate::gate_events;
use crate::state::AppState;
use crate::store::witness::{AlarmRow, WitnessRow};

/// All gates are shown the same checkpoint for this long.
const ROUND_MS: i64 = 5_000;
/// Pause between two pages of the server's own check, and after a whole round.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// Alarms are counted anew this often: another process may have raised one.
const COUNT_EVERY: Duration = Duration::from_secs(2);
/// Who raised an alarm, when the server did itself.
pub(crate) const SERVER: &str = "server";
/// Alarms of one gate beyond this say nothing new.
const ALARM_BYTES: usize = 4_096;

/// What the running server remembers about its log, outside the database.
#[derive(Debug, Default)]
pub struct LogWatch {
    /// What gates are shown now, and since when.
    round: Mutex<Option<(Timestamp, Checkpoint, String)>>,
    /// The largest checkpoint that this process signed or saw.
    signed: Mutex<Option<Checkpoint>>,
    /// The server's own finding; stays until the server ends.
    fault: Mutex<Option<String>>,
    alarms: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogWatch {
    /// How many alarms there are.
    #[must_use]
    pub fn alarms(&self) -> u64 {
        self.alarms.load(Ordering::SeqCst)
    }

    /// What the server itself found wrong with its log.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        locked(&self.fault).clone()
    }

    pub(crate) fn last_signed(&self) -> Option<Checkpoint> {
        locked(&self.signed).clone()
    }

    pub(crate) fn has_signed(&self, checkpoint: Checkpoint) {
        let mut signed = locked(&self.signed);
        if signed
            .as_ref()
            .is_none_or(|last| last.size < checkpoint.size)
        {
            *signed = Some(checkpoint);
        }
    }
}

/// What a heartbeat's answer says about the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogAnswer {
    /// The checkpoint of this round.
    pub checkpoint: Option<String>,
    /// Proof from what the gate keeps, base64.
    pub proof: Vec<String>,
    /// The server's own finding.
    pub fault: Option<String>,
}

/// The name of a gate's witness key.
#[must_use]
pub fn gate_witness_name(origin: &str, gate: &GateId) -> String {
    format!("{origin}/gate/{gate}")
}

/// Takes what a gate says about the log, and answers with the checkpoint of the round and the proof.
///
/// # Errors
/// The database failed.
pub async fn heartbeat(
    state: &AppState,
    gate: &GateId,
    seen: Option<&LogSeen>,
) -> Result<LogAnswer, AuditError> {
    if let Some(seen) = seen {
        take(state, gate, seen).await?;
    }
    let size = seen.map_or(0, |seen| seen.size);
    let Some((checkpoint, note)) = shown(state, size).await? else {
        return Ok(LogAnswer {
            fault: state.watch.fault(),
            ..LogAnswer::default()
        });
    };
    let proof = if size == 0 || size > checkpoint.size {
        // Of a log that shrank there is no proof; the gate will say so.
        Vec::new()
    } else {
        match proof(state, size, checkpoint.size).await? {
            Ok(proof) => proof,
            Err(error) => {
                fault(state, format!("the stored tree has gaps: {error}")).await?;
                Vec::new()
            }
        }
    };
    Ok(LogAnswer {
        checkpoint: Some(note),
        proof: proof.into_iter().map(Hash::to_base64).collect(),
        fault: state.watch.fault(),
    })
}

/// A consistency proof out of the stored nodes.
pub(crate) async fn proof(
    state: &AppState,
    old: u64,
    new: u64,
) -> Result<Result<Vec<Hash>, ProofError>, AuditError> {
    let nodes = state
        .store
        .log_nodes(&needed_for_consistency(old, new))
        .await?;
    Ok(consistency_proof(old, new, &nodes))
}

/// The checkpoint of this round; the newest one for a gate that knows more than the round shows.
async fn shown(state: &AppState, known: u64) -> Result<Option<(Checkpoint, String)>, AuditError> {
    let now = state.clock.now();
    if let Some((since, checkpoint, note)) = locked(&state.watch.round).clone() {
        let age = now.millis_since(since);
        if (0..ROUND_MS).contains(&age) && known <= checkpoint.size {
            return Ok(Some((checkpoint, note)));
        }
    }
    let Some(note) = state.store.checkpoint().await? else {
        return Ok(None);
    };
    // Its signature is not checked here: the gates do that, and shall see what is stored.
    let checkpoint = match Checkpoint::open(note.as_bytes(), state.keys.log.verifier()) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            fault(state, format!("the newest stored checkpoint: {error}")).await?;
            return Ok(Some((
                Checkpoint {
                    origin: String::new(),
                    size: 0,
                    root: Hash::default(),
                },
                note,
            )));
        }
    };
    *locked(&state.watch.round) = Some((now, checkpoint.clone(), note.clone()));
    Ok(Some((checkpoint, note)))
}

async fn take(state: &AppState, gate: &GateId, seen: &LogSeen) -> Result<(), AuditError> {
    if let Some(alarm) = &seen.alarm {
        let cut = |text: &str| text.chars().take(ALARM_BYTES).collect::<String>();
        let what = format!("gate {gate}: {}", cut(&alarm.what));
        raise(
            state,
            gate.as_str(),
            &what,
            alarm.kept.as_deref().map(cut),
            alarm.shown.as_deref().map(cut),
        )
        .await?;
    }
    let name = gate_witness_name(&state.config.log_origin(), gate);
    let key = match CosignerKey::parse(&seen.witness) {
        Ok(key) if key.name() == name => key,
        Ok(_) | Err(_) => {
            tracing::warn!(gate.id = %gate, "the gate's witness key is not acceptable; its cosignatures do not count");
            return Ok(());
        }
    };
    let row = known(state, &name, &key, Some(gate)).await?;
    let Some(line) = &seen.cosignature else {
        return Ok(());
    };
    if row.size == seen.size {
        return Ok(());
    }
    let Some(note) = state.store.checkpoint_at(seen.size).await? else {
        let what = format!(
            "gate {gate} cosigned a checkpoint of {} entries, which this database does not have: it was rolled back or is a copy",
            seen.size
        );
        return raise(state, SERVER, &what, None, Some(line.clone())).await;
    };
    cosigned(state, &row, &key, seen.size, &note, line).await
}

/// The stored witness of this name, after its key was stored or changed; a change of key is an entry of the log.
pub(crate) async fn known(
    state: &AppState,
    name: &str,
    key: &CosignerKey,
    gate: Option<&GateId>,
) -> Result<WitnessRow, AuditError> {
    let vkey = key.to_string();
    if let Some(row) = state.store.witness(name).await?
        && row.vkey == vkey
    {
        return Ok(row);
    }
    let now = state.clock.now();
    let entry = sallyport_transparency::Entry {
        gate: gate.map(ToString::to_string),
        about: Some(vkey.clone()),
        ..audit::entry("witness_key", now)?
    };
    let mut write = state.store.write().await?;
    write.witness_put(name, &vkey, gate, now).await?;
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    state.logged_at(now);
    Ok(WitnessRow {
        name: name.to_owned(),
        vkey,
        gate: gate.map(ToString::to_string),
        seen_at: now,
        size: 0,
    })
}

/// Stores a cosignature, or raises the alarm when it is over another checkpoint of that size.
pub(crate) async fn cosigned(
    state: &AppState,
    row: &WitnessRow,
    key: &CosignerKey,
    size: u64,
    note: &str,
    line: &str,
) -> Result<(), AuditError> {
    match add_cosignature(note, line, key) {
        Ok(_) => {
            let mut write = state.store.write().await?;
            write
                .cosignature_put(&row.name, size, line, state.clock.now())
                .await?;
            write.commit().await?;
            Ok(())
        }
        Err(error) => {
            let what = format!(
                "{} cosigned another checkpoint of {size} entries than this log has ({error}): two logs are shown under one key",
                row.name
            );
            raise(
                state,
                SERVER,
                &what,
                Some(note.to_owned()),
                Some(line.to_owned()),
            )
            .await
        }
    }
}

/// Keeps an alarm and its evidence, tells officers, and logs it. The same alarm again does nothing.
///
/// # Errors
/// The alarm itself could not be stored.
pub async fn raise(
    state: &AppState,
    by: &str,
    what: &str,
    kept: Option<String>,
    shown: Option<String>,
) -> Result<(), AuditError> {
    let id = hex::encode(
        Sha256::new()
            .chain_update(by)
            .chain_update([0])
            .chain_update(what)
            .chain_update([0])
            .chain_update(kept.as_deref().unwrap_or_default())
            .chain_update([0])
            .chain_update(shown.as_deref().unwrap_or_default())
            .finalize(),
    );
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    let new = write
        .alarm_insert(&AlarmRow {
            id: id.clone(),
            raised_by: by.to_owned(),
            what: what.to_owned(),
            kept,
            shown,
            at: now,
        })
        .await?;
    write.commit().await?;
    if !new {
        return Ok(());
    }
    tracing::error!(alarm.by = by, "ALARM about the audit log: {what}");
    count(state).await?;
    state.announce_alarm();
    // The log may be the very thing that is broken: then the alarm stands without an entry.
    let entry = sallyport_transparency::Entry {
        gate: (by != SERVER).then(|| by.to_owned()),
        about: Some(id),
        reason: Some(by.to_owned()),
        ..audit::entry("log_alarm", now)?
    };
    if let Err(error) = audit::record(state, entry).await {
        tracing::error!(error = %error, "the alarm could not be written to the log");
    }
    Ok(())
}

/// The server found its own log changed: every gate is told with its next heartbeat.
///
/// # Errors
/// The alarm could not be stored; gates are told all the same.
pub async fn fault(state: &AppState, what: String) -> Result<(), AuditError> {
    let first = {
        let mut fault = locked(&state.watch.fault);
        let first = fault.is_none();
        fault.get_or_insert_with(|| what.clone());
        first
    };
    if first {
        let kept = state
            .watch
            .last_signed()
            .map(|checkpoint| checkpoint.to_text());
        let shown = state.store.checkpoint().await?;
        raise(state, SERVER, &what, kept, shown).await?;
    }
    Ok(())
}

/// Counts the alarms, so that every page of the console can show them.
///
/// # Errors
/// The database failed.
pub async fn count(state: &AppState) -> Result<(), AuditError> {
    let alarms = state.store.alarms().await?.len() as u64;
    state.watch.alarms.store(alarms, Ordering::SeqCst);
    Ok(())
}

/// Signs a new checkpoint when there are entries for one; what must not be signed becomes an alarm.
///
/// # Errors
/// The database failed.
pub async fn publish(state: &AppState) -> Result<(), AuditError> {
    match audit::publish(state).await {
        Ok(_) => Ok(()),
        Err(
            error @ (AuditError::RolledBack { .. }
            | AuditError::Damaged(_)
            | AuditError::Refused(_)),
        ) => fault(state, error.to_string()).await,
        Err(error) => Err(error),
    }
}

/// File in the data folder with outside witnesses, in lines of tlog-policy: `witness NAME VKEY [URL]`.
pub const OUTSIDE_FILE: &str = "outside-witnesses";

/// The outside witnesses of the installation.
///
/// # Errors
/// The file is there and is not right.
pub fn outside(state: &AppState) -> Result<Vec<PolicyWitness>, AuditError> {
    let path = state.data.join(OUTSIDE_FILE);
    let failed = |source| AuditError::File {
        path: path.display().to_string(),
        source,
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let policy = Policy::parse(format!("{}\nquorum none\n", text.trim_end()).as_bytes())
        .map_err(|error| failed(std::io::Error::other(error)))?;
    Ok(policy.witnesses().to_vec())
}

/// The site's policy: two gates (or the only one) and, where there are any, one outside witness must have cosigned.
///
/// # Errors
/// Database, or the file of outside witnesses.
pub async fn policy(state: &AppState) -> Result<Policy, AuditError> {
    let mut text = format!("log {}\n", state.keys.log.verifier());
    let mut parts: Vec<&str> = Vec::new();
    let rows = state.store.witnesses().await?;
    let gates: Vec<&WitnessRow> = rows.iter().filter(|row| row.gate.is_some()).collect();
    let mut names = Vec::new();
    for row in &gates {
        let name = format!("gate-{}", row.gate.as_deref().unwrap_or_default());
        text.push_str(&format!("witness {name} {}\n", row.vkey));
        names.push(name);
    }
    if !names.is_empty() {
        let enough = names.len().min(2);
        text.push_str(&format!("group gates {enough} {}\n", names.join(" ")));
        parts.push("gates");
    }
    let outside = outside(state)?;
    for witness in &outside {
        let url = witness.url.as_deref().unwrap_or_default();
        text.push_str(&format!("witness {} {} {url}\n", witness.name, witness.key));
    }
    if !outside.is_empty() {
        let names: Vec<&str> = outside
            .iter()
            .map(|witness| witness.name.as_str())
            .collect();
        text.push_str(&format!("group outside any {}\n", names.join(" ")));
        parts.push("outside");
    }
    match parts.as_slice() {
        [] => text.push_str("quorum none\n"),
        [one] => text.push_str(&format!("quorum {one}\n")),
        several => text.push_str(&format!(
            "group witnesses all {}\nquorum witnesses\n",
            several.join(" ")
        )),
    }
    Policy::parse(text.as_bytes()).map_err(audit::refused)
}

/// Goes through the stored log, a page at a time, until the server stops.
pub async fn watch_over(state: AppState, mut stop: watch::Receiver<bool>) {
    let mut check = tokio::time::interval(CHECK_EVERY);
    let mut alarms = tokio::time::interval(COUNT_EVERY);
    let mut fsck: Option<Fsck> = None;
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            _ = alarms.tick() => {
                if let Err(error) = count(&state).await {
                    tracing::warn!(error = %error, "alarms about the log could not be counted");
                }
                if let Err(error) = gate_events::load_releases(&state).await {
                    tracing::warn!(error = %error, "releases for life safety could not be read");
                }
            }
            _ = check.tick() => {
                if let Err(error) = check_on(&state, &mut fsck).await {
                    tracing::warn!(error = %error, "the log could not be checked");
                }
            }
        }
    }
}

/// One step of the server's own check.
///
/// # Errors
/// The database failed; what was found wrong is an alarm, not an error.
pub async fn check_on(state: &AppState, running: &mut Option<Fsck>) -> Result<(), AuditError> {
    let mut fsck = match running.take() {
        Some(fsck) => fsck,
        None => Fsck::begin(state).await?,
    };
    let outcome = match fsck.step(state).await {
        Ok(true) => {
            *running = Some(fsck);
            return Ok(());
        }
        Ok(false) => fsck.finish(state).await.map(drop),
        Err(error) => Err(error),
    };
    match outcome {
        Err(error @ AuditError::Damaged(_)) => fault(state, error.to_string()).await,
        Err(error @ AuditError::Store(crate::store::StoreError::Corrupt(_))) => {
            fault(state, error.to_string()).await
        }
        other => other,
    }
}
