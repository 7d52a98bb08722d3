//! What one person asks for and a supervisor decides: at the server removals, mergers, accounts, exports with sealed details, the
//! profile, gates' policies, recorded groups, the destruction of a key, the sealed emergency credential; at the server or in the console
//! changes of status, legal holds and events.
//!
//! There is no table of approvals. Who asked, for exactly what, who answered and whether it was used is read from the audit log alone,
//! so no hand in the database can make an approval. What exactly is asked for is bound by a keyed hash, and shown from the entry's
//! sealed detail. An approval is used once, within fifteen minutes (`security.md` 1.3; ASVS 5.0 2.3.5). What was proposed in the console
//! carries an act that the server can read, and is done in the transaction of its approval (`proposals`).

use std::collections::{BTreeMap, HashMap};

use sallyport_domain::{OfficerId, Role, SubjectId, Timestamp};
use sallyport_transparency::Entry;
use serde::{Deserialize, Serialize};

use crate::audit::{self, AuditError, By};
use crate::enrolments::ledger;
use crate::officers::{OfficerError, Session};
use crate::proposals::{ProposalError, Proposed};
use crate::registry::RegistryError;
use crate::state::AppState;
use crate::store::StoreError;
use crate::witness;

/// A request waits this long for its answer.
pub const ASKED_MS: i64 = 24 * 60 * 60 * 1_000;
/// An approval holds this long.
pub const GIVEN_MS: i64 = 15 * 60 * 1_000;
/// Longest reason or answer, in characters.
pub const WORDS: usize = 500;

/// Kinds of acts that need a second person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A person's data are destroyed.
    Removal,
    /// A link for a new account, or for the renewal of one, that may do more than a gate officer's.
    Account,
    /// Sealed details leave the server.
    Export,
    /// The jurisdiction profile.
    Profile,
    /// A person's demographic group.
    Group,
    /// A key-encryption key is destroyed.
    Key,
    /// Two records become one person's, or two again.
    Merger,
    /// A new sealed emergency credential.
    BreakGlass,
    /// A person's status.
    Status,
    /// A legal hold, or the end of one.
    Hold,
    /// Something from which terms are counted.
    Event,
    /// A gate decides by another policy.
    Policy,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Removal,
        Self::Account,
        Self::Export,
        Self::Profile,
        Self::Group,
        Self::Key,
        Self::Merger,
        Self::BreakGlass,
        Self::Status,
        Self::Hold,
        Self::Event,
        Self::Policy,
    ];

    /// The word in the log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Removal => "removal",
            Self::Account => "account",
            Self::Export => "export",
            Self::Profile => "profile",
            Self::Group => "group",
            Self::Key => "key",
            Self::Merger => "merger",
            Self::BreakGlass => "break_glass",
            Self::Status => "status",
            Self::Hold => "hold",
            Self::Event => "event",
            Self::Policy => "policy",
        }
    }

    /// From its word.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// In words, for a list.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Removal => "Removal of a person",
            Self::Account => "Officer's account",
            Self::Export => "Export with sealed details",
            Self::Profile => "Jurisdiction profile",
            Self::Group => "Recorded group of a person",
            Self::Key => "Destruction of a key",
            Self::Merger => "Merger of two records",
            Self::BreakGlass => "Sealed emergency credential",
            Self::Status => "Status of a person",
            Self::Hold => "Legal hold",
            Self::Event => "Event that terms are counted from",
            Self::Policy => "Policy of a gate",
        }
    }
}

/// Exactly what is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its kind.
    pub kind: Kind,
    /// The person whom it is about.
    pub subject: Option<SubjectId>,
    /// The officer whom it is about; that officer does not decide.
    pub officer: Option<OfficerId>,
    /// The act in a sentence, with everything that it depends on; the second person reads this.
    pub what: String,
    /// Why.
    pub reason: String,
}

impl Asked {
    /// What the log binds the request to: a keyed hash, for what is asked may be guessed. `act`: what the server does at the approval.
    fn content(&self, state: &AppState, act: Option<&Proposed>) -> Result<String, AuditError> {
        let subject = self.subject.map(|id| id.to_string()).unwrap_or_default();
        let officer = self.officer.map(|id| id.to_string()).unwrap_or_default();
        let kind = self.kind.code();
        // A NUL stands in none of them: `check` refuses control characters, and JSON has none.
        let mut text = [kind, &subject, &officer, &self.what, &self.reason].join("\0");
        if let Some(act) = act {
            text.push('\0');
            text.push_str(&serde_json::to_string(act).map_err(audit::refused)?);
        }
        Ok(state.keys.site.lookup("approval", &text))
    }

    fn check(&self) -> Result<(), ApprovalError> {
        words(&self.reason)?;
        if self.what.contains('\0') {
            return Err(ApprovalError::Words);
        }
        Ok(())
    }
}

fn words(text: &str) -> Result<(), ApprovalError> {
    if text.chars().count() > WORDS || text.chars().any(char::is_control) {
        return Err(ApprovalError::Words);
    }
    Ok(())
}

/// The sealed detail of a request.
#[derive(Serialize, Deserialize)]
struct Detail {
    what: String,
    reason: String,
    /// What the server does when it is approved; without it the command is given again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    act: Option<Proposed>,
}

/// Why a request was not taken or not decided.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    /// Too long, or with control characters.
    #[error("a reason has up to 500 characters, in one line")]
    Words,
    /// Declined without a reason.
    #[error("Say why you decline it; whoever asked is shown that there is a reason in the log.")]
    NoReason,
    /// No such person.
    #[error("there is no person with this pseudonym in the registry")]
    NoPerson,
    /// No such request.
    #[error("This request was answered already, is older than 24 hours, or never was.")]
    Unknown,
    /// What was shown is not what was asked.
    #[error(
        "What was asked for is not what this page showed. Nothing was decided; look at it again."
    )]
    Changed,
    /// The same person.
    #[error("You asked for it, or it is about your own account: another supervisor decides.")]
    Own,
    /// It could not be done, so it was not approved either.
    #[error("Nothing was approved and nothing was done. {0}")]
    NotDone(#[source] Box<ProposalError>),
    /// The officer may not, or not any more.
    #[error(transparent)]
    Officer(#[from] OfficerError),
    /// Database or log.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl From<StoreError> for ApprovalError {
    fn from(error: StoreError) -> Self {
        Self::Audit(error.into())
    }
}

/// May it be done now?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// A second person approved it; this entry uses the approval up. It must be done now, once.
    Approved(u64),
    /// There is no supervisor who could decide; this entry says that one person did it alone.
    Alone(u64),
    /// Not yet.
    Waits {
        /// The request's entry.
        request: u64,
        /// When it lapses.
        until: Timestamp,
    },
    /// No.
    Declined {
        /// The request's entry.
        request: u64,
    },
}

/// A request as the log tells it.
#[derive(Debug, Clone)]
struct Request {
    kind: Kind,
    at: Timestamp,
    by: String,
    subject: Option<SubjectId>,
    officer: Option<String>,
    content: String,
    answer: Option<(Timestamp, bool)>,
}

impl Request {
    /// Still to be answered?
    fn is_open(&self, now: Timestamp) -> bool {
        self.answer.is_none() && lasts(self.at, ASKED_MS, now)
    }

    fn waits(&self, index: u64, officer: &str) -> Waiting {
        Waiting {
            request: index,
            kind: self.kind,
            at: self.at,
            by: self.by.clone(),
            subject: self.subject,
            about: self.officer.clone(),
            own: self.by == officer || self.officer.as_deref() == Some(officer),
            content: self.content.clone(),
        }
    }
}

/// The clocks of two servers on one database differ by this much at most.
const SKEW_MS: i64 = 5_000;

fn lasts(since: Timestamp, length_ms: i64, now: Timestamp) -> bool {
    (-SKEW_MS..=length_ms).contains(&now.millis_since(since))
}

/// Requests and their answers, as the log tells them; what was used up or lapsed for a newer one is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Approvals {
    requests: BTreeMap<u64, Request>,
    /// The newest request for each content.
    newest: HashMap<String, u64>,
}

impl Approvals {
    /// Takes in one entry.
    pub(crate) fn take(&mut self, index: u64, entry: &Entry) {
        let (Some(content), Some(by)) = (&entry.content, &entry.actor) else {
            return;
        };
        let at = Timestamp::from_micros(entry.time);
        if entry.kind == "approval_asked" {
            let Some(kind) = entry.decision.as_deref().and_then(Kind::from_code) else {
                return;
            };
            let request = Request {
                kind,
                at,
                by: by.clone(),
                subject: entry.subject.as_deref().and_then(|id| id.parse().ok()),
                officer: entry.about.clone(),
                content: content.clone(),
                answer: None,
            };
            if let Some(older) = self.newest.insert(content.clone(), index) {
                self.requests.remove(&older);
            }
            self.requests.insert(index, request);
            return;
        }
        let Some(request) = entry.about.as_deref().and_then(|about| about.parse().ok()) else {
            return;
        };
        match entry.kind.as_str() {
            "approval_used" => self.end(request),
            kind @ ("approval_given" | "approval_declined") => {
                if let Some(asked) = self.requests.get_mut(&request)
                    && asked.content == *content
                    && asked.by != *by
                    && asked.officer.as_ref() != Some(by)
                    && asked.is_open(at)
                {
                    asked.answer = Some((at, kind == "approval_given"));
                }
            }
            _ => {}
        }
    }

    /// A person was removed; nobody decides about that person any more.
    pub(crate) fn forget(&mut self, subject: SubjectId) {
        self.requests
            .retain(|_, request| request.subject != Some(subject));
        let requests = &self.requests;
        self.newest.retain(|_, index| requests.contains_key(index));
    }

    fn end(&mut self, request: u64) {
        if let Some(used) = self.requests.remove(&request)
            && self.newest.get(&used.content) == Some(&request)
        {
            self.newest.remove(&used.content);
        }
    }

    fn standing(&self, content: &str, now: Timestamp) -> Option<Standing> {
        let index = *self.newest.get(content)?;
        let request = self.requests.get(&index)?;
        match request.answer {
            None if request.is_open(now) => Some(Standing::Waits(index, request.at)),
            Some((at, true)) if lasts(at, GIVEN_MS, now) => Some(Standing::Approved(index)),
            Some((_, false)) if lasts(request.at, ASKED_MS, now) => Some(Standing::Declined(index)),
            _ => None,
        }
    }
}

#[derive(Clone, Copy)]
enum Standing {
    Waits(u64, Timestamp),
    Approved(u64),
    Declined(u64),
}

fn entry_of(
    kind: &str,
    asked: &Asked,
    content: String,
    now: Timestamp,
) -> Result<Entry, AuditError> {
    Ok(Entry {
        subject: asked.subject.map(|id| id.to_string()),
        decision: Some(asked.kind.code().to_owned()),
        content: Some(content),
        ..audit::entry(kind, now)?
    })
}

/// May `actor` do this now? The first time it is asked for; with an approval, this uses it up, before the act.
///
/// Where no supervisor with a security key stands who could decide, one person does it alone and the log says so. Where there were
/// supervisors once, an alarm says so too: whoever keeps the server could have ended their accounts for it.
///
/// # Errors
/// See [`ApprovalError`]; then nothing may be done.
pub async fn pass(state: &AppState, asked: &Asked, actor: &str) -> Result<Pass, ApprovalError> {
    asked.check()?;
    let content = asked.content(state, None)?;
    let now = state.clock.now();
    // The writer's seat first: what the log says then cannot change before the entry is in it.
    // A command's own process reads the log before it takes the writer's seat, so that no door waits for that.
    ledger::catch_up(state).await?;
    let mut write = state.store.write().await?;
    ledger::catch_up(state).await?;
    let standing = state.rights(|rights| rights.approvals().standing(&content, now));
    match standing {
        Some(Standing::Waits(request, at)) => {
            let until = at.plus_millis(ASKED_MS);
            Ok(Pass::Waits { request, until })
        }
        Some(Standing::Declined(request)) => Ok(Pass::Declined { request }),
        Some(Standing::Approved(request)) => {
            let entry = Entry {
                actor: Some(actor.to_owned()),
                about: Some(request.to_string()),
                ..entry_of("approval_used", asked, content, now)?
            };
            let index = audit::finish(state, write, entry, None).await?;
            Ok(Pass::Approved(index))
        }
        None => {
            if let Some(subject) = asked.subject
                && write.subject(subject).await?.is_none()
            {
                return Err(ApprovalError::NoPerson);
            }
            let officer = asked.officer.map(|id| id.to_string());
            let supervisors = state.rights(|rights| rights.supervisors());
            let others = supervisors
                .iter()
                .any(|id| Some(id.to_string()) != officer && id.to_string() != actor);
            let detail = serde_json::to_vec(&Detail {
                what: asked.what.clone(),
                reason: asked.reason.clone(),
                act: None,
            })
            .map_err(audit::refused)?;
            let kind = if others {
                "approval_asked"
            } else {
                "approval_missing"
            };
            let entry = Entry {
                actor: Some(actor.to_owned()),
                about: officer,
                ..entry_of(kind, asked, content, now)?
            };
            let index = audit::finish(state, write, entry, Some(&detail)).await?;
            if others {
                let until = now.plus_millis(ASKED_MS);
                return Ok(Pass::Waits {
                    request: index,
                    until,
                });
            }
            if state.rights(|rights| rights.had_supervisors()) {
                let what = format!(
                    "two-person rule: {} (entry {index}): no supervisor is left who could decide, so one person did it alone",
                    asked.kind.code()
                );
                witness::raise(state, witness::SERVER, &what, None, None).await?;
            }
            Ok(Pass::Alone(index))
        }
    }
}

/// Writes down what an officer proposes about a person; what only shuts doors holds from this transaction on. Returns the request's entry.
///
/// # Errors
/// See [`ProposalError`]; nothing was proposed or done.
pub(crate) async fn propose(
    state: &AppState,
    asked: &Asked,
    subject: SubjectId,
    act: &Proposed,
    proposer: &str,
) -> Result<u64, ProposalError> {
    asked.check()?;
    let content = asked
        .content(state, Some(act))
        .map_err(ApprovalError::from)?;
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    ledger::catch_up(state).await?;
    if write.subject(subject).await?.is_none() {
        return Err(RegistryError::Unknown.into());
    }
    // Shutting doors waits for nobody, and an earlier answer about the same words was about an earlier time.
    if !act.at_once() {
        match state.rights(|rights| rights.approvals().standing(&content, now)) {
            Some(Standing::Waits(request, _)) => return Ok(request),
            Some(Standing::Declined(request)) => return Err(ProposalError::Declined(request)),
            // What was approved was done with it.
            Some(Standing::Approved(_)) | None => {}
        }
    }
    let supervisors = state.rights(|rights| rights.supervisors());
    let decidable = supervisors.iter().any(|id| id.to_string() != proposer);
    if !decidable && !act.at_once() {
        return Err(ProposalError::NobodyDecides);
    }
    let kind = if decidable {
        "approval_asked"
    } else {
        "approval_missing"
    };
    let detail = Detail {
        what: asked.what.clone(),
        reason: asked.reason.clone(),
        act: Some(act.clone()),
    };
    let detail = serde_json::to_vec(&detail).map_err(audit::refused)?;
    let entry = Entry {
        actor: Some(proposer.to_owned()),
        ..entry_of(kind, asked, content, now)?
    };
    let index = audit::append(state, &mut write, entry, Some(&detail)).await?;
    act.shut(state, &mut write, subject, proposer, &asked.reason)
        .await?;
    write.commit().await?;
    state.logged_at(now);
    Ok(index)
}

/// A request that waits for its answer.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The request's entry; its number for people.
    pub request: u64,
    /// Its kind.
    pub kind: Kind,
    /// When it was asked.
    pub at: Timestamp,
    /// Who asked.
    pub by: String,
    /// The person whom it is about.
    pub subject: Option<SubjectId>,
    /// The officer whom it is about.
    pub about: Option<String>,
    /// Did this officer ask for it, or is it about the own account? Then another supervisor decides.
    pub own: bool,
    /// [`Asked`]'s hash, which the answer must name.
    pub content: String,
}

/// The requests that wait, oldest first, as `officer` sees them.
///
/// # Errors
/// The database failed.
pub async fn waiting(state: &AppState, officer: OfficerId) -> Result<Vec<Waiting>, StoreError> {
    ledger::catch_up(state).await?;
    let (now, officer) = (state.clock.now(), officer.to_string());
    Ok(state.rights(|rights| {
        let requests = rights.approvals().requests.iter();
        requests
            .filter(|(_, request)| request.is_open(now))
            .map(|(index, request)| request.waits(*index, &officer))
            .collect()
    }))
}

/// The requests about one person that wait, and those that were declined in the last 24 hours (`true`), oldest first.
///
/// # Errors
/// The database failed.
pub async fn about_person(
    state: &AppState,
    officer: OfficerId,
    subject: SubjectId,
) -> Result<Vec<(Waiting, bool)>, StoreError> {
    ledger::catch_up(state).await?;
    let (now, officer) = (state.clock.now(), officer.to_string());
    Ok(state.rights(|rights| {
        let requests = rights.approvals().requests.iter();
        requests
            .filter(|(_, request)| {
                let declined = matches!(request.answer, Some((_, false)));
                request.subject == Some(subject)
                    && (request.is_open(now) || declined && lasts(request.at, ASKED_MS, now))
            })
            .map(|(index, request)| (request.waits(*index, &officer), !request.is_open(now)))
            .collect()
    }))
}

async fn one(state: &AppState, officer: OfficerId, request: u64) -> Result<Waiting, ApprovalError> {
    let all = waiting(state, officer).await?;
    let mut all = all.into_iter();
    all.find(|one| one.request == request)
        .ok_or(ApprovalError::Unknown)
}

/// How many wait, as far as the log was read; for a banner.
#[must_use]
pub fn how_many_wait(state: &AppState) -> usize {
    let now = state.clock.now();
    state.rights(|rights| {
        let requests = rights.approvals().requests.values();
        requests.filter(|request| request.is_open(now)).count()
    })
}

/// What exactly is asked for.
#[derive(Debug)]
pub struct Shown {
    /// The request.
    pub waiting: Waiting,
    /// The act in a sentence.
    pub what: String,
    /// Why.
    pub reason: String,
    /// Is it done by the server when it is approved?
    pub does: bool,
    /// Does it hold already, so that it is only confirmed?
    pub holds: bool,
}

/// The sealed detail of a request, which must be exactly what the request's entry is bound to; the words must be those of the act.
async fn opened(state: &AppState, waiting: &Waiting) -> Result<Detail, ApprovalError> {
    let detail = audit::detail(state, waiting.request).await?;
    let detail = detail.ok_or(ApprovalError::Unknown)?;
    let detail: Detail = serde_json::from_slice(&detail).map_err(audit::refused)?;
    let asked = Asked {
        kind: waiting.kind,
        subject: waiting.subject,
        officer: match waiting.about.as_deref().map(str::parse) {
            Some(Ok(officer)) => Some(officer),
            Some(Err(_)) => return Err(ApprovalError::Changed),
            None => None,
        },
        what: detail.what.clone(),
        reason: detail.reason.clone(),
    };
    let words = detail.act.as_ref().zip(waiting.subject);
    let same_words = words.is_none_or(|(act, subject)| act.words(subject) == detail.what);
    if !same_words || asked.content(state, detail.act.as_ref())? != waiting.content {
        return Err(ApprovalError::Changed);
    }
    Ok(detail)
}

/// Opens a request for an officer; the look is in the log before anything is shown.
///
/// # Errors
/// See [`ApprovalError`]; nothing may be shown.
pub async fn look(
    state: &AppState,
    session: &Session,
    request: u64,
) -> Result<Shown, ApprovalError> {
    session.must(sallyport_domain::Act::DecideChange)?;
    let waiting = one(state, session.officer, request).await?;
    let entry = Entry {
        actor: Some(session.officer.to_string()),
        subject: waiting.subject.map(|id| id.to_string()),
        about: Some(request.to_string()),
        decision: Some("approval_page".to_owned()),
        reason: Some("approval".to_owned()),
        ..audit::entry("consultation", state.clock.now())?
    };
    audit::record(state, entry).await?;
    let detail = opened(state, &waiting).await?;
    Ok(Shown {
        waiting,
        what: detail.what,
        reason: detail.reason,
        does: detail.act.is_some(),
        holds: detail.act.is_some_and(|act| act.at_once()),
    })
}

/// What an answer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// The answer's entry.
    pub index: u64,
    /// The entry of what was done with it.
    pub done: Option<u64>,
}

/// A supervisor's answer to exactly what was shown. Where the request carries an act, an approval does it in the same transaction: both
/// stand in the log, or neither does and the request still waits.
///
/// # Errors
/// See [`ApprovalError`]; nothing was decided or done.
pub async fn decide(
    state: &AppState,
    session: &Session,
    request: u64,
    content: &str,
    approve: bool,
    reason: &str,
) -> Result<Decided, ApprovalError> {
    session.must(sallyport_domain::Act::DecideChange)?;
    let now = state.clock.now();
    session.fresh(now)?;
    let reason = reason.trim();
    words(reason)?;
    if !approve && reason.is_empty() {
        return Err(ApprovalError::NoReason);
    }
    let mut write = state.store.write().await?;
    let asked = one(state, session.officer, request).await?;
    if asked.content != content {
        return Err(ApprovalError::Changed);
    }
    if asked.own {
        return Err(ApprovalError::Own);
    }
    let detail = opened(state, &asked).await?;
    let answer = |kind: &str| {
        Ok::<_, AuditError>(Entry {
            actor: Some(session.officer.to_string()),
            subject: asked.subject.map(|id| id.to_string()),
            about: Some(request.to_string()),
            decision: Some(asked.kind.code().to_owned()),
            content: Some(asked.content.clone()),
            ..audit::entry(kind, now)?
        })
    };
    let said = Some(reason.as_bytes()).filter(|reason| !reason.is_empty());
    if !approve {
        let index = audit::finish(state, write, answer("approval_declined")?, said).await?;
        return Ok(Decided { index, done: None });
    }
    let index = audit::append(state, &mut write, answer("approval_given")?, said).await?;
    let Some((act, subject)) = detail.act.as_ref().zip(asked.subject) else {
        write.commit().await?;
        state.logged_at(now);
        return Ok(Decided { index, done: None });
    };
    audit::append(state, &mut write, answer("approval_used")?, None).await?;
    let officer = session.officer.to_string();
    let by = By {
        actor: &asked.by,
        second: Some(&officer),
    };
    match act
        .carry_out(state, &mut write, subject, by, &detail.reason)
        .await
    {
        Ok(done) => {
            write.commit().await?;
            state.logged_at(now);
            act.committed(state, subject).await;
            if let Err(error) = ledger::catch_up(state).await {
                // It is done and in the log, which is read again before the next decision.
                tracing::warn!(%error, "the log could not be read after an approval");
            }
            let done = Some(done);
            Ok(Decided { index, done })
        }
        Err(error) => {
            // The alarm needs the writer's seat.
            drop(write);
            if let ProposalError::Registry(RegistryError::NotInLog) = &error {
                let wrong = "its status, legal basis, custody or visits are not what the log says";
                ledger::alarm(state, "subject", &subject.to_string(), wrong).await?;
            }
            Err(ApprovalError::NotDone(Box::new(error)))
        }
    }
}

/// Does a link for this role need a second person? All but a gate officer's do.
#[must_use]
pub fn needs_approval(role: Role) -> bool {
    role != Role::GateOfficer
}

#[cfg(test)]
mod tests;
