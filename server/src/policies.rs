//! A gate's policy: the one that holds by the log, and the next one.
//!
//! Its text lies in the gate's row, and the newest entry `gate_added` or `gate_policy` binds it. Each policy has a higher number than
//! all before it at this gate, so an older one, however genuine, never holds again (`security.md` section 6, threat 16).

use sallyport_domain::{GateId, GatePolicy, PolicyError};
use sallyport_transparency::Entry;
use sha2::{Digest as _, Sha256};

use crate::approvals::{Asked, Kind};
use crate::audit::{self, AuditError};
use crate::enrolments::ledger;
use crate::profiles;
use crate::registry::RegistryError;
use crate::rights;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::gates::GateRow;

/// Longest text of a policy.
const TEXT: usize = 65_536;

/// Why a policy was not set or shown.
#[derive(Debug, thiserror::Error)]
pub enum PolicySetError {
    /// There is no such gate.
    #[error("there is no gate of this name; see: sallyport-server gate list")]
    Unknown,
    /// Not one at all.
    #[error("this is no policy: {0}")]
    Unreadable(String),
    /// It makes no sense.
    #[error("the policy is not acceptable: {0}")]
    Senseless(#[from] PolicyError),
    /// The jurisdiction profile forbids the purpose.
    #[error(
        "purpose: the jurisdiction profile does not permit it; sallyport-server profile show lists those it permits"
    )]
    Purpose,
    /// Not the next one.
    #[error(
        "version: {version} is not above {highest}, the highest number that this gate ever had by the log; raise the number at its end"
    )]
    NotHigher {
        /// The version that was to be set.
        version: String,
        /// The highest number so far.
        highest: u32,
    },
    /// Another policy was set in the meantime.
    #[error(
        "the gate has another policy than a moment ago, so what was approved is not what would change; look at it again: sallyport-server gate policy GATE"
    )]
    Changed,
    /// The gate's row is not the log's, and the log's own copy cannot be opened.
    #[error(
        "the gate's direction or policy in the database is not what the audit log says; somebody changed it by hand. Look at the alarm first, and put the row back from a backup"
    )]
    NotInLog,
    /// The profile.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Database or log.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl From<StoreError> for PolicySetError {
    fn from(error: StoreError) -> Self {
        Self::Audit(error.into())
    }
}

/// A policy with where it is from.
#[derive(Debug, Clone)]
pub struct Held {
    /// The policy.
    pub policy: GatePolicy,
    /// Its text, as the log binds it.
    pub text: String,
    /// The entry that set it.
    pub set_by: u64,
    /// The highest number that this gate's policies ever had.
    pub highest: u32,
}

/// SHA-256 of a policy's text, hexadecimal.
#[must_use]
pub fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// Reads a policy and looks at every field.
///
/// # Errors
/// The sentence names the field, and the line where the text itself is wrong.
pub fn parse(text: &str) -> Result<GatePolicy, PolicySetError> {
    if text.len() > TEXT {
        let words = format!("it has {} bytes, and {TEXT} at most are read", text.len());
        return Err(PolicySetError::Unreadable(words));
    }
    // A policy holds nothing personal, so the parser's words may quote it.
    let policy: GatePolicy = serde_json::from_str(text)
        .map_err(|error| PolicySetError::Unreadable(error.to_string()))?;
    policy.check()?;
    Ok(policy)
}

/// The text that is stored and bound.
pub(crate) fn text_of(policy: &GatePolicy) -> Result<String, AuditError> {
    serde_json::to_string(policy).map_err(audit::refused)
}

/// The policy that holds at a gate, by the log.
///
/// # Errors
/// See [`PolicySetError`].
pub async fn held(state: &AppState, gate: &GateId) -> Result<Held, PolicySetError> {
    ledger::catch_up(state).await?;
    let row = state.store.gate(gate).await?;
    let row = row.ok_or(PolicySetError::Unknown)?;
    let said = state.rights(|rights| rights.policy_of(gate));
    let (set_by, highest) = said.ok_or(PolicySetError::NotInLog)?;
    let stands = |text: &str| {
        let content = rights::gate_content(&row.direction, text);
        let row = GateRow {
            policy: text.to_owned(),
            ..row.clone()
        };
        state.rights(|rights| rights.gate(&row, &content))
    };
    let text = if stands(&row.policy) {
        row.policy.clone()
    } else {
        // A hand wrote another one into the row; the log has sealed the right one.
        let detail = audit::detail(state, set_by).await?;
        let text = detail.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
        let text = text.filter(|text| stands(text));
        text.ok_or(PolicySetError::NotInLog)?
    };
    let policy = serde_json::from_str(&text).map_err(|_| StoreError::Corrupt("gate.policy"))?;
    Ok(Held {
        policy,
        text,
        set_by,
        highest,
    })
}

/// A change that was looked at and may be asked for.
#[derive(Debug, Clone)]
pub struct Change {
    gate: GateId,
    from: Held,
    new: GatePolicy,
    text: String,
}

impl Change {
    /// What it changes, in sentences.
    #[must_use]
    pub fn in_words(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "Gate {} decides by policy {} instead of {}, from its next passage on.",
            self.gate, self.new.version, self.from.policy.version
        )];
        let changes = self.from.policy.changes(&self.new);
        if changes.is_empty() {
            lines.push("Nothing but the version changes.".to_owned());
        }
        lines.extend(changes);
        let sha256 = sha256(&self.text);
        lines.push(format!("SHA-256 of the new policy's text: {sha256}."));
        lines
    }

    /// What a supervisor is asked to approve.
    #[must_use]
    pub fn asked(&self, reason: &str) -> Asked {
        Asked {
            kind: Kind::Policy,
            subject: None,
            officer: None,
            what: self.in_words().join(" "),
            reason: reason.to_owned(),
        }
    }
}

/// What this policy would change at a gate.
///
/// # Errors
/// See [`PolicySetError`]; then it cannot be set.
pub async fn change(
    state: &AppState,
    gate: &GateId,
    new: &GatePolicy,
) -> Result<Change, PolicySetError> {
    new.check()?;
    profiles::current(state).await?;
    let from = held(state, gate).await?;
    permitted(state, new, from.highest)?;
    Ok(Change {
        gate: gate.clone(),
        from,
        new: new.clone(),
        text: text_of(new)?,
    })
}

fn permitted(state: &AppState, new: &GatePolicy, highest: u32) -> Result<(), PolicySetError> {
    if !state.profile().profile.permits(new.purpose) {
        return Err(PolicySetError::Purpose);
    }
    match GatePolicy::number_of(&new.version) {
        Some(number) if number > highest => Ok(()),
        Some(_) | None => Err(PolicySetError::NotHigher {
            version: new.version.clone(),
            highest,
        }),
    }
}

/// Sets a gate's policy; returns the log entry. All servers decide by it from their next passage on. The gate's other state, such as a
/// lock-down or a release, stays.
///
/// # Errors
/// See [`PolicySetError`]; nothing was changed.
pub async fn set(state: &AppState, change: &Change, actor: &str) -> Result<u64, PolicySetError> {
    // The writer's seat first: what the log says then cannot change before the entry is in it.
    let mut write = state.store.write().await?;
    profiles::current(state).await?;
    let from = held(state, &change.gate).await?;
    if from.set_by != change.from.set_by || from.text != change.from.text {
        return Err(PolicySetError::Changed);
    }
    permitted(state, &change.new, from.highest)?;
    let direction = write.gate_policy(&change.gate, &change.text).await?;
    let direction = direction.ok_or(PolicySetError::Unknown)?;
    let entry = Entry {
        gate: Some(change.gate.to_string()),
        actor: Some(actor.to_owned()),
        policy: Some(change.new.version.clone()),
        content: Some(rights::gate_content(&direction, &change.text)),
        ..audit::entry("gate_policy", state.clock.now())?
    };
    let index = audit::finish(state, write, entry, Some(change.text.as_bytes())).await?;
    ledger::catch_up(state).await?;
    Ok(index)
}

/// The policy by which a gate's request is decided now, with its text: the log is read to its end first, so that a policy that was set
/// through another server, or an older one that a hand put back, is seen. `None` where the row is not the log's; the alarm is raised.
///
/// # Errors
/// Database or log failed.
pub(crate) async fn in_force(
    state: &AppState,
    gate: &GateRow,
) -> Result<Option<(GatePolicy, String)>, AuditError> {
    let mut row = gate.clone();
    // Read again where it differs: it may have been set between the two looks.
    for _ in 0..2 {
        ledger::catch_up(state).await?;
        if rights::gate_stands(state, &row).await? {
            let policy = serde_json::from_str(&row.policy)
                .map_err(|_| StoreError::Corrupt("gate.policy"))?;
            return Ok(Some((policy, row.policy)));
        }
        match state.store.gate(&gate.id).await? {
            Some(now) => row = now,
            None => break,
        }
    }
    rights::alarm(state, "gate", gate.id.as_str()).await?;
    Ok(None)
}
