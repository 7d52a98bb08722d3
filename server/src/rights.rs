//! What the audit log says of accounts, second factors, gates, gates' keys and people's status. A row that somebody wrote into the
//! database by hand, or brought back as it was before, is worth nothing: the log knows of no act that made it so (`security.md`
//! section 6, threat 7). Sessions and one-time links are too short-lived for the log; they carry a code that only the server can make.

mod binding;

use std::collections::{BTreeSet, HashMap, HashSet};

use sallyport_domain::{GateId, GatePolicy, OfficerId, Role, SubjectId, SubjectStatus, Timestamp};
use sallyport_transparency::Entry;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::approvals::Approvals;
use crate::audit::AuditError;
use crate::break_glass::BreakGlass;
use crate::enrolments::ledger;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::gates::GateRow;
use crate::store::officers::{OfficerRow, SessionRow};

#[cfg(feature = "oidc")]
pub(crate) use binding::{BoundTo, bound_content, bound_to};
pub(crate) use binding::{bound, unbound_content};

/// What an entry `gate_joined` says of a key that waits for an officer's approval.
pub(crate) const WAITS: &str = "waits_for_approval";

/// Kinds that matter here, as they stand in an entry.
pub(crate) const KINDS: [&[u8]; 31] = [
    b"\"kind\":\"officer_created\"",
    b"\"kind\":\"officer_renewed\"",
    b"\"kind\":\"officer_password\"",
    b"\"kind\":\"officer_role\"",
    b"\"kind\":\"officer_disabled\"",
    b"\"kind\":\"officer_key_added\"",
    b"\"kind\":\"officer_key_removed\"",
    b"\"kind\":\"officer_codes_added\"",
    b"\"kind\":\"officer_oidc_bound\"",
    b"\"kind\":\"officer_oidc_unbound\"",
    b"\"kind\":\"gate_added\"",
    b"\"kind\":\"gate_policy\"",
    b"\"kind\":\"gate_joined\"",
    b"\"kind\":\"gate_renewed\"",
    b"\"kind\":\"gate_revoked\"",
    b"\"kind\":\"gate_key_ended\"",
    b"\"kind\":\"gate_approved\"",
    b"\"kind\":\"subject_status\"",
    b"\"kind\":\"subject_removed\"",
    b"\"kind\":\"subject_erased\"",
    b"\"kind\":\"approval_asked\"",
    b"\"kind\":\"approval_given\"",
    b"\"kind\":\"approval_declined\"",
    b"\"kind\":\"approval_used\"",
    b"\"kind\":\"break_glass_prepared\"",
    b"\"kind\":\"break_glass_drilled\"",
    b"\"kind\":\"break_glass_drill_due\"",
    b"\"kind\":\"break_glass_opened\"",
    b"\"kind\":\"break_glass_ended\"",
    b"\"kind\":\"break_glass_unreviewed\"",
    b"\"kind\":\"break_glass_reviewed\"",
];

/// An account, as the log tells it.
#[derive(Debug, Default)]
struct Account {
    role: String,
    /// [`account_content`]; none in entries of before it was written.
    content: Option<String>,
    ended: bool,
    /// Hardware keys.
    keys: HashSet<String>,
    codes: bool,
    /// To a subject of the identity provider.
    binding: binding::Binding,
}

/// A gate, as the log tells it.
#[derive(Debug, Default)]
struct Gate {
    /// [`gate_content`]; none in entries of before it was written.
    content: Option<String>,
    policy: Option<String>,
    /// The entry that says both; none while the gate was not added.
    set_by: Option<u64>,
    /// The highest number that a policy of this gate ever had.
    highest: u32,
    /// Keys that it joined or renewed with since it was last revoked.
    keys: HashSet<String>,
    /// Keys that it joined with and that no officer has approved yet.
    waiting: BTreeSet<String>,
}

impl Gate {
    /// Policies only ever rise: an entry with an older one, however it came into the log, changes nothing.
    fn is_next(&self, entry: &Entry) -> bool {
        number(entry).is_some_and(|number| number > self.highest)
    }

    fn take_policy(&mut self, index: u64, entry: &Entry) {
        self.content.clone_from(&entry.content);
        self.policy.clone_from(&entry.policy);
        self.set_by = Some(index);
        self.highest = number(entry).unwrap_or(0);
    }
}

fn number(entry: &Entry) -> Option<u32> {
    entry.policy.as_deref().and_then(GatePolicy::number_of)
}

/// What the log says, up to an entry. Filled by `ledger::catch_up`.
#[derive(Debug, Default)]
pub struct Rights {
    accounts: HashMap<OfficerId, Account>,
    gates: HashMap<GateId, Gate>,
    statuses: HashMap<SubjectId, String>,
    approvals: Approvals,
    break_glass: BreakGlass,
}

impl Rights {
    /// Takes in one entry.
    pub(crate) fn take(&mut self, index: u64, entry: &Entry) {
        let kind = entry.kind.as_str();
        if kind.starts_with("approval_") {
            self.approvals.take(index, entry);
        } else if kind.starts_with("break_glass_") {
            self.break_glass.take(index, entry);
        } else if kind.starts_with("officer_") {
            self.take_account(kind, index, entry);
        } else if kind.starts_with("gate_") {
            self.take_gate(index, kind, entry);
        } else if let Some(subject) = entry.subject.as_deref().and_then(|id| id.parse().ok()) {
            match (kind, &entry.decision) {
                ("subject_status", Some(status)) => {
                    self.statuses.insert(subject, status.clone());
                }
                // What was asked for about the person goes with the person.
                ("subject_removed" | "subject_erased", _) => {
                    self.statuses.remove(&subject);
                    self.approvals.forget(subject);
                }
                _ => {}
            }
        }
    }

    fn take_account(&mut self, kind: &str, index: u64, entry: &Entry) {
        // Whose account: of an act by another officer the one that it is about.
        let whose = match kind {
            "officer_role" | "officer_disabled" | "officer_oidc_bound" | "officer_oidc_unbound" => {
                &entry.about
            }
            _ => &entry.actor,
        };
        let Some(id) = whose.as_deref().and_then(|id| id.parse().ok()) else {
            return;
        };
        if kind == "officer_created" {
            self.accounts.entry(id).or_default();
        }
        let Some(account) = self.accounts.get_mut(&id) else {
            return;
        };
        match kind {
            "officer_created" | "officer_role" => {
                account.role = entry.decision.clone().unwrap_or_default();
                account.content.clone_from(&entry.content);
            }
            "officer_renewed" => {
                account.content.clone_from(&entry.content);
                account.keys.clear();
                account.codes = false;
                // It begins anew; else a provider alone would open an account that has no key any more.
                account.binding = binding::Binding::Never;
            }
            "officer_oidc_bound" | "officer_oidc_unbound" => account.binding.take(index, entry),
            "officer_password" => account.content.clone_from(&entry.content),
            "officer_disabled" => account.ended = true,
            "officer_key_added" => account.keys.extend(entry.about.clone()),
            "officer_key_removed" => {
                if let Some(key) = &entry.about {
                    account.keys.remove(key);
                }
            }
            "officer_codes_added" => account.codes = true,
            _ => {}
        }
    }

    fn take_gate(&mut self, index: u64, kind: &str, entry: &Entry) {
        let Some(id) = entry.gate.as_deref().and_then(|id| id.parse().ok()) else {
            return;
        };
        let gate: &mut Gate = self.gates.entry(id).or_default();
        match kind {
            "gate_added" if gate.set_by.is_none() => gate.take_policy(index, entry),
            "gate_policy" if gate.set_by.is_some() && gate.is_next(entry) => {
                gate.take_policy(index, entry);
            }
            // Before there were approvals a key counted from its joining on.
            "gate_joined" if entry.decision.as_deref() == Some(WAITS) => {
                if let Some(key) = &entry.about {
                    gate.keys.remove(key);
                    gate.waiting.insert(key.clone());
                }
            }
            "gate_approved" => {
                if let Some(key) = entry.about.as_ref().and_then(|key| gate.waiting.take(key)) {
                    gate.keys.insert(key);
                }
            }
            "gate_joined" | "gate_renewed" => gate.keys.extend(entry.about.clone()),
            "gate_revoked" => {
                gate.keys.clear();
                gate.waiting.clear();
            }
            "gate_key_ended" => {
                if let Some(key) = &entry.about {
                    gate.keys.remove(key);
                }
            }
            _ => {}
        }
    }

    /// Requests for a second person, and their answers.
    pub(crate) const fn approvals(&self) -> &Approvals {
        &self.approvals
    }

    /// The sealed emergency credential and its uses.
    pub(crate) const fn break_glass(&self) -> &BreakGlass {
        &self.break_glass
    }

    /// Supervisors in office who have a security key, so that they can decide.
    pub(crate) fn supervisors(&self) -> Vec<OfficerId> {
        let accounts = self.accounts.iter();
        accounts
            .filter(|(_, account)| {
                !account.ended && !account.keys.is_empty() && is_supervisor(account)
            })
            .map(|(id, _)| *id)
            .collect()
    }

    /// Was there ever an account of a supervisor?
    pub(crate) fn had_supervisors(&self) -> bool {
        self.accounts.values().any(is_supervisor)
    }

    fn account(&self, id: OfficerId, role: &str, content: &str) -> bool {
        self.accounts.get(&id).is_some_and(|account| {
            !account.ended
                && account.role == role
                && account
                    .content
                    .as_deref()
                    .is_none_or(|said| said == content)
        })
    }

    fn in_office(&self, id: OfficerId, role: &str) -> bool {
        self.accounts
            .get(&id)
            .is_some_and(|account| !account.ended && account.role == role)
    }

    fn factors(&self, id: OfficerId, keys: &HashSet<String>, codes: bool) -> bool {
        self.accounts
            .get(&id)
            .is_some_and(|account| account.keys == *keys && account.codes == codes)
    }

    /// The entry that set a gate's policy, and the highest number that it ever had; `None` of a gate that was never added.
    pub(crate) fn policy_of(&self, gate: &GateId) -> Option<(u64, u32)> {
        let gate = self.gates.get(gate)?;
        Some((gate.set_by?, gate.highest))
    }

    pub(crate) fn gate(&self, row: &GateRow, content: &str) -> bool {
        self.gates.get(&row.id).is_some_and(|gate| {
            // An entry of before names the policy's version only.
            match &gate.content {
                Some(said) => said == content,
                None => serde_json::from_str::<GatePolicy>(&row.policy)
                    .is_ok_and(|policy| gate.policy == Some(policy.version)),
            }
        })
    }

    fn key(&self, gate: &GateId, spki_sha256: &str) -> bool {
        self.gates
            .get(gate)
            .is_some_and(|gate| gate.keys.contains(spki_sha256))
    }

    fn waits(&self, gate: &GateId, spki_sha256: &str) -> bool {
        self.gates
            .get(gate)
            .is_some_and(|gate| gate.waiting.contains(spki_sha256))
    }

    fn status(&self, subject: SubjectId, status: &str) -> bool {
        self.statuses
            .get(&subject)
            .is_none_or(|said| said == status)
    }
}

fn is_supervisor(account: &Account) -> bool {
    account.role == Role::Supervisor.code()
}

/// Does the log say so? Asked again after reading what other servers logged in the meantime.
async fn holds(
    state: &AppState,
    said: impl Fn(&Rights) -> bool + Send,
) -> Result<bool, StoreError> {
    if state.rights(&said) {
        return Ok(true);
    }
    ledger::catch_up(state).await?;
    Ok(state.rights(&said))
}

/// What the log binds an account to: role and password hash, under a key of the installation, so that the log tells nothing of either's
/// value. Entries that make or change an account carry it.
#[must_use]
pub fn account_content(state: &AppState, id: OfficerId, role: &str, password_hash: &str) -> String {
    let text = format!("{id}\0{role}\0{password_hash}");
    state.keys.site.lookup("officer.account", &text)
}

/// What the log binds a gate to: SHA-256 of its direction, a line feed, and its policy as stored.
#[must_use]
pub fn gate_content(direction: &str, policy: &str) -> String {
    hex::encode(Sha256::digest(format!("{direction}\n{policy}")))
}

/// Is this account what the log says it is?
///
/// # Errors
/// The database failed.
pub async fn account_stands(state: &AppState, row: &OfficerRow) -> Result<bool, StoreError> {
    // An account that ended must not go on until the next look at the log.
    ledger::catch_up(state).await?;
    let content = account_content(state, row.id, &row.role, &row.password_hash);
    Ok(state.rights(|rights| rights.account(row.id, &row.role, &content)))
}

/// Does the officer still hold this role? Cheap, for each request.
///
/// # Errors
/// The database failed.
pub async fn in_office(state: &AppState, id: OfficerId, role: &str) -> Result<bool, StoreError> {
    holds(state, |rights| rights.in_office(id, role)).await
}

/// Are these the account's second factors? Neither one more nor one less.
///
/// # Errors
/// The database failed.
pub async fn factors_stand(
    state: &AppState,
    id: OfficerId,
    keys: impl Iterator<Item = String> + Send,
    codes: bool,
) -> Result<bool, StoreError> {
    let keys: HashSet<String> = keys.collect();
    holds(state, |rights| rights.factors(id, &keys, codes)).await
}

/// Is this gate's direction and policy what the log says?
///
/// # Errors
/// The database failed.
pub async fn gate_stands(state: &AppState, row: &GateRow) -> Result<bool, StoreError> {
    let content = gate_content(&row.direction, &row.policy);
    holds(state, |rights| rights.gate(row, &content)).await
}

/// Did this gate join or renew with this key, and was it not revoked since?
///
/// # Errors
/// The database failed.
pub async fn key_stands(
    state: &AppState,
    gate: &GateId,
    spki_sha256: &str,
) -> Result<bool, StoreError> {
    holds(state, |rights| rights.key(gate, spki_sha256)).await
}

/// Devices that joined and that no officer has approved yet: gate, and SHA-256 of the public key.
///
/// # Errors
/// The database failed.
pub async fn waiting(state: &AppState) -> Result<Vec<(GateId, String)>, StoreError> {
    ledger::catch_up(state).await?;
    let mut waiting: Vec<_> = state.rights(|rights| {
        let of_gate = |(id, gate): (&GateId, &Gate)| {
            let keys = gate.waiting.iter().cloned();
            keys.map(|key| (id.clone(), key)).collect::<Vec<_>>()
        };
        rights.gates.iter().flat_map(of_gate).collect()
    });
    waiting.sort();
    Ok(waiting)
}

/// Does this gate's key wait for an officer's approval? As far as the log was read: ask [`key_stands`] first. A gate that is allowed
/// needs no look at the log for this, which matters when the log cannot be read and doors have to be freed.
pub(crate) fn key_waits(state: &AppState, gate: &GateId, spki_sha256: &str) -> bool {
    state.rights(|rights| rights.waits(gate, spki_sha256))
}

/// Does this gate's key count no more, neither as one that is allowed nor as one that waits? As far as the log was read.
pub(crate) fn key_ended(state: &AppState, gate: &GateId, spki_sha256: &str) -> bool {
    state.rights(|rights| !rights.key(gate, spki_sha256) && !rights.waits(gate, spki_sha256))
}

/// Is this the status that the log says the person has?
///
/// # Errors
/// The database failed.
pub async fn status_stands(
    state: &AppState,
    subject: SubjectId,
    status: SubjectStatus,
) -> Result<bool, StoreError> {
    holds(state, |rights| rights.status(subject, status.code())).await
}

/// The code that a session's row carries: whose it is, what it was opened with, since when, and the forms' token. Without the server's key
/// nobody can make one, so no row that was written by hand is a session.
#[must_use]
pub fn session_code(state: &AppState, token_sha256: &str, session: &SessionRow) -> String {
    let text = format!(
        "{token_sha256}\0{}\0{}\0{}\0{}\0{}",
        session.officer,
        session.level,
        session.created_at.as_micros(),
        session.fresh_at.as_micros(),
        session.csrf,
    );
    state.keys.site.lookup("session", &text)
}

/// The same for a link at which an account is made or renewed.
pub(crate) fn link_code(
    state: &AppState,
    secret_sha256: &str,
    role: &str,
    officer: Option<OfficerId>,
    expires_at: Timestamp,
) -> String {
    let officer = officer.map(|id| id.to_string()).unwrap_or_default();
    let text = format!(
        "{secret_sha256}\0{role}\0{officer}\0{}",
        expires_at.as_micros()
    );
    state.keys.site.lookup("setup_token", &text)
}

/// The same for a gate's join token.
pub(crate) fn join_code(
    state: &AppState,
    secret_sha256: &str,
    gate: &GateId,
    expires_at: Timestamp,
) -> String {
    let text = format!("{secret_sha256}\0{gate}\0{}", expires_at.as_micros());
    state.keys.site.lookup("join_token", &text)
}

/// Are the two codes equal? Takes as long for wrong ones.
pub(crate) fn same(stored: &str, right: &str) -> bool {
    stored.as_bytes().ct_eq(right.as_bytes()).into()
}

/// Raises the alarm about a row that is not the log's.
///
/// # Errors
/// The alarm could not be stored.
pub(crate) async fn alarm(state: &AppState, what: &str, id: &str) -> Result<(), AuditError> {
    ledger::alarm(state, what, id, "the log knows of no act that made it so").await
}

/// Compares all accounts and gates with the log, and raises an alarm for each that differs. Returns how many.
///
/// # Errors
/// The database failed.
pub async fn compare(state: &AppState) -> Result<usize, AuditError> {
    ledger::catch_up(state).await?;
    crate::log_codes::tell(state).await?;
    let mut wrong = 0;
    for account in state.store.officers().await? {
        let mut stands = false;
        // Read twice where it differs: it may have changed between the two looks.
        for _ in 0..2 {
            let row = state.store.officer(account.id).await?;
            stands = match row.filter(|row| !row.disabled) {
                Some(row) => account_stands(state, &row).await?,
                None => true,
            };
            if stands {
                break;
            }
        }
        if !stands {
            wrong += 1;
            alarm(state, "officer's account", &account.id.to_string()).await?;
        }
    }
    for gate in state.store.gates().await? {
        if !gate_stands(state, &gate).await? {
            wrong += 1;
            alarm(state, "gate", gate.id.as_str()).await?;
        }
    }
    Ok(wrong + binding::compare(state).await?)
}
