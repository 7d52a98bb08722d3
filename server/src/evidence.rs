//! What the log holds about one passage, for a court, in one file; and the slip that a person can take along.

use sallyport_domain::{GatePolicy, Timestamp};
use sallyport_transparency::{
    Artefact, Entry, Evidence, Receipt, Selected, inclusion_proof, needed_for_inclusion,
};

use crate::audit::{self, AuditError};
use crate::state::AppState;
use crate::{error_rates, export, witness};

/// Entries read at once.
const PAGE: u32 = 1_024;
/// Trouble of clock and gate this long before and after the passage belongs to it.
const AROUND_MS: i64 = 24 * 60 * 60 * 1_000;

/// Goes through the first `size` entries in order.
///
/// # Errors
/// The database failed, or an entry is missing.
pub(crate) async fn scan(
    state: &AppState,
    size: u64,
    each: impl FnMut(u64, &Entry, &[u8]),
) -> Result<(), AuditError> {
    scan_from(state, 0, size, each).await
}

/// The same from an entry on.
///
/// # Errors
/// The database failed, or an entry is missing.
pub(crate) async fn scan_from(
    state: &AppState,
    start: u64,
    size: u64,
    mut each: impl FnMut(u64, &Entry, &[u8]),
) -> Result<(), AuditError> {
    let mut next = start;
    while next < size {
        let rows = state.store.log_entries(next, PAGE).await?;
        if rows.is_empty() {
            return Err(AuditError::Damaged(format!("entry {next} is missing")));
        }
        for (index, bytes) in rows.into_iter().take_while(|(index, _)| *index < size) {
            if index != next {
                return Err(AuditError::Damaged(format!("entry {next} is missing")));
            }
            next += 1;
            if let Ok(entry) = Entry::from_bytes(&bytes) {
                each(index, &entry, &bytes);
            }
        }
    }
    Ok(())
}

/// An entry with its proof against the tree of `size` entries.
pub(crate) async fn selected(
    state: &AppState,
    index: u64,
    bytes: Vec<u8>,
    size: u64,
) -> Result<Selected, AuditError> {
    let nodes = state
        .store
        .log_nodes(&needed_for_inclusion(index, size))
        .await?;
    let proof = inclusion_proof(index, size, &nodes).map_err(audit::refused)?;
    Selected::new(index, bytes, &proof).ok_or_else(|| audit::refused("an entry is not text"))
}

/// The slip for an entry, signed by the log's key.
///
/// # Errors
/// There is no such entry, or the database failed.
pub async fn slip(state: &AppState, index: u64) -> Result<String, AuditError> {
    let rows = state.store.log_entries(index, 1).await?;
    let bytes = rows
        .into_iter()
        .find(|(at, _)| *at == index)
        .map(|(_, bytes)| bytes)
        .ok_or_else(|| audit::refused(format!("the log has no entry {index}")))?;
    Receipt::new(&state.config.log_origin(), index, &bytes)
        .sign(&state.keys.log)
        .map_err(audit::refused)
}

/// Which entries tell about a passage.
struct Wanted<'a> {
    transaction: &'a str,
    gate: Option<&'a str>,
    index: u64,
    time: i64,
}

impl Wanted<'_> {
    /// Everything that names the passage, and the trouble of clock and gate around it.
    fn takes(&self, entry: &Entry) -> bool {
        let around = Timestamp::from_micros(entry.time)
            .millis_since(Timestamp::from_micros(self.time))
            .abs()
            <= AROUND_MS;
        let here = entry.gate.is_none() || entry.gate.as_deref() == self.gate;
        entry.about.as_deref() == Some(self.transaction)
            || (around
                && here
                && matches!(
                    entry.kind.as_str(),
                    "clock"
                        | "gate_lost"
                        | "gate_back"
                        | "gate_degraded"
                        | "gate_sequence"
                        | "life_safety_release"
                        | "life_safety_order"
                        | "log_alarm"
                        | "server_started"
                ))
    }

    /// What held at the time: only the newest before the passage counts.
    fn held(&self, index: u64, entry: &Entry) -> bool {
        index < self.index
            && entry.gate.as_deref() == self.gate
            && matches!(
                entry.kind.as_str(),
                "gate_added"
                    | "gate_policy"
                    | "gate_joined"
                    | "gate_renewed"
                    | "gate_health"
                    | "witness_key"
            )
    }
}

/// Collects the bundle about a passage.
///
/// # Errors
/// There is no such passage in the log, or the database failed.
pub async fn bundle(state: &AppState, transaction: &str) -> Result<Evidence, AuditError> {
    audit::publish(state).await?;
    let policy = witness::policy(state).await?;
    let (note, size) = export::chosen(state, &policy, true).await?;
    let mut passage = None;
    scan(state, size, |index, entry, _| {
        if entry.kind == "passage" && entry.about.as_deref() == Some(transaction) {
            passage = Some((index, entry.clone()));
        }
    })
    .await?;
    let (index, entry) = passage.ok_or_else(|| {
        audit::refused(format!(
            "there is no passage {transaction} in the first {size} entries, which are signed and witnessed; a new one is there after some seconds"
        ))
    })?;
    let wanted = Wanted {
        transaction,
        gate: entry.gate.as_deref(),
        index,
        time: entry.time,
    };
    let mut taken = std::collections::BTreeMap::new();
    let mut held = std::collections::BTreeMap::new();
    let mut rates = error_rates::Held::default();
    scan(state, size, |index, entry, bytes| {
        if index < wanted.index {
            rates.take(index, entry, bytes);
        }
        if wanted.takes(entry) {
            taken.insert(index, bytes.to_vec());
        } else if wanted.held(index, entry) {
            held.insert(entry.kind.clone(), (index, bytes.to_vec()));
        }
    })
    .await?;
    let index_of = |kind: &str| held.get(kind).map(|(index, _)| *index);
    let health = index_of("gate_health");
    let policy_set = index_of("gate_policy").or_else(|| index_of("gate_added"));
    taken.extend(held.into_values());
    // Only what was measured with a model that this passage used.
    rates.of.retain(|_, held| {
        let used = |model: &String| entry.models.contains(model);
        held.entry.models.iter().any(used)
    });
    for held in rates.of.values() {
        taken.insert(held.index, held.bytes.clone());
    }
    let mut evidence = Evidence::new(&format!("passage {transaction}"));
    for (index, bytes) in taken {
        evidence
            .entries
            .push(selected(state, index, bytes, size).await?);
    }
    evidence.log = state.keys.log.verifier().to_string();
    evidence.policy = policy.to_text();
    evidence.checkpoint = note;
    stated(state, &mut evidence, index, &entry, health).await?;
    stated_policy(state, &mut evidence, &entry, policy_set).await?;
    measured(state, &mut evidence, &rates).await?;
    Ok(evidence)
}

/// Artefacts that the passage's entry names, and what only the site can say.
async fn stated(
    state: &AppState,
    evidence: &mut Evidence,
    index: u64,
    entry: &Entry,
    health: Option<u64>,
) -> Result<(), AuditError> {
    let mut say = |name: &str, text: String| {
        evidence.stated.insert(name.to_owned(), text);
    };
    say("made at", state.clock.now().to_rfc3339());
    if let Some(health) = health
        && let Some(detail) = audit::detail(state, health).await?
    {
        say(
            "cameras, as the gate last reported before the passage",
            String::from_utf8_lossy(&detail).into_owned(),
        );
    }
    match &entry.calibration {
        Some(named) if *named == state.fusion_id => {
            let text = serde_json::to_string(&state.fusion).map_err(audit::refused)?;
            evidence.artefacts.push(Artefact {
                name: "calibration of the scores".to_owned(),
                named_by: index,
                text,
            });
        }
        Some(named) => say(
            "calibration",
            format!("{named} was in use then and is not this server's any more"),
        ),
        None => {}
    }
    Ok(())
}

/// The policy by which the passage was decided, from what the log has sealed beside the entry that set it: the gate may have another one
/// by now.
async fn stated_policy(
    state: &AppState,
    evidence: &mut Evidence,
    entry: &Entry,
    set_by: Option<u64>,
) -> Result<(), AuditError> {
    let Some(set_by) = set_by else {
        return Ok(());
    };
    let detail = audit::detail(state, set_by).await?;
    let text = detail.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
    let Some(text) = text else {
        return Ok(());
    };
    let Ok(policy) = serde_json::from_str::<GatePolicy>(&text) else {
        return Ok(());
    };
    if Some(&policy.version) != entry.policy.as_ref() {
        return Ok(());
    }
    evidence.stated.insert(
        "error rates that the gate's policy asks for".to_owned(),
        format!(
            "a stranger is taken for somebody in the registry at most once in {:.0} searches (FPIR {}), and for one claimed person at most once in {:.0} comparisons (FMR {}). These are targets, not measurements",
            1.0 / policy.fpir_target,
            policy.fpir_target,
            1.0 / policy.fmr_target,
            policy.fmr_target
        ),
    );
    evidence
        .stated
        .insert("policy of the gate".to_owned(), text);
    Ok(())
}

/// The measured error rates that held: the signed text, named by its entry, and what it says.
async fn measured(
    state: &AppState,
    evidence: &mut Evidence,
    rates: &error_rates::Held,
) -> Result<(), AuditError> {
    let mut text = Vec::new();
    for (modality, held) in &rates.of {
        if let Some((note, _)) = held.text(state).await? {
            evidence.artefacts.push(Artefact {
                name: format!("measured error rates: {modality}"),
                named_by: held.index,
                text: note,
            });
        }
        text.extend(held.lines(state).await?);
    }
    if text.is_empty() {
        text.push(
            "none: no measurement of the models of this passage was loaded on this server then. Ask the site how and on whom its models were measured"
                .to_owned(),
        );
    }
    evidence
        .stated
        .insert("measured error rates".to_owned(), text.join("\n"));
    Ok(())
}
