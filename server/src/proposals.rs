//! What an officer proposes about a person in the console, and what a supervisor's approval then does, there and at once.
//!
//! A proposal is an act that the server can read. The words that people read are made out of it, when it is proposed and again when it is
//! decided, so what is approved cannot differ from what is done. Request, approval and act stand in the audit log alone; approval and act
//! are one transaction (docs/adr/0012). Whatever opens a door or ends a hold is never one person's.

use sallyport_domain::{Act, SubjectId, SubjectStatus, Timestamp};
use serde::{Deserialize, Serialize};

use crate::approvals::{self, ApprovalError, Asked, Kind};
use crate::audit::{AuditError, By};
use crate::consultations::{self, ConsultError};
use crate::enrolments::ledger;
use crate::merging::{self, MergeError, Plan};
use crate::officers::{OfficerError, Session};
use crate::records::{self, RecordError, View};
use crate::registry::{self, RegistryError};
use crate::retention::{self, Event, RetentionError};
use crate::state::AppState;
use crate::store::{StoreError, Write};

/// An act about a person that needs a second one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Proposed {
    /// Another status.
    Status {
        /// What it was when this was proposed.
        from: SubjectStatus,
        /// What it is to be.
        to: SubjectStatus,
    },
    /// A legal hold.
    Hold,
    /// The end of a legal hold.
    Lift {
        /// Its name.
        hold: String,
    },
    /// Something from which terms are counted.
    Event {
        /// What.
        event: Event,
        /// When it was.
        at: Timestamp,
    },
    /// The person's data are destroyed.
    Removal,
    /// The person's references become somebody else's, whose record is the same person's.
    Merge {
        /// What exactly.
        plan: Plan,
    },
    /// They become the person's own again.
    Unmerge {
        /// What exactly.
        plan: Plan,
    },
}

/// Why nothing was proposed, or why what was approved was not done.
#[derive(Debug, thiserror::Error)]
pub enum ProposalError {
    /// The form.
    #[error("Choose what you propose; a date is a day that has come, like 2026-11-23.")]
    Unclear,
    /// No words.
    #[error("Say why, in 1 to 500 characters and one line; the supervisor who decides reads it.")]
    NoWords,
    /// Not opened with a reason a moment ago.
    #[error("Open the person's record first; it stays open to you for fifteen minutes.")]
    NotOpen,
    /// The other record is shut.
    #[error(
        "Open the other person's record first, too, with its own reason; both stay open to you for fifteen minutes."
    )]
    OtherNotOpen,
    /// Nothing would change.
    #[error("The person has this status already.")]
    Same,
    /// Nobody could decide.
    #[error(
        "No supervisor with a security key has an account, so nobody could decide about this. Ask the administrator for one; until then it can be done on the server."
    )]
    NobodyDecides,
    /// Declined already.
    #[error(
        "A supervisor declined exactly this in the last 24 hours (request {0}). With other words it is another request."
    )]
    Declined(u64),
    /// The record is another one now.
    #[error(
        "The record has changed since this was proposed, so it was not done and the request still waits. Decline it; it can be proposed anew."
    )]
    Changed,
    /// Role, presence.
    #[error(transparent)]
    Officer(#[from] OfficerError),
    /// The request.
    #[error(transparent)]
    Approval(Box<ApprovalError>),
    /// The consultation.
    #[error(transparent)]
    Consult(#[from] ConsultError),
    /// Records that cannot be merged or separated.
    #[error(transparent)]
    Merge(Box<MergeError>),
    /// The record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Terms and holds.
    #[error(transparent)]
    Retention(#[from] RetentionError),
    /// Registry, database or log.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<ApprovalError> for ProposalError {
    fn from(error: ApprovalError) -> Self {
        Self::Approval(Box::new(error))
    }
}

impl From<MergeError> for ProposalError {
    fn from(error: MergeError) -> Self {
        if let MergeError::Registry(error) = error {
            return error.into();
        }
        Self::Merge(Box::new(error))
    }
}

impl From<StoreError> for ProposalError {
    fn from(error: StoreError) -> Self {
        Self::Registry(error.into())
    }
}

impl From<AuditError> for ProposalError {
    fn from(error: AuditError) -> Self {
        Self::Registry(error.into())
    }
}

/// Does this change only shut doors that are open? Then one person does it, at once: a delay could cost more than a mistake, which an
/// officer at the gate and two people can put right.
#[must_use]
pub const fn only_shuts(from: SubjectStatus, to: SubjectStatus) -> bool {
    matches!(from, SubjectStatus::Active)
        && matches!(to, SubjectStatus::Suspended | SubjectStatus::Banned)
}

impl Proposed {
    /// Its kind among the requests.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Status { .. } => Kind::Status,
            Self::Hold | Self::Lift { .. } => Kind::Hold,
            Self::Event { .. } => Kind::Event,
            Self::Removal => Kind::Removal,
            Self::Merge { .. } | Self::Unmerge { .. } => Kind::Merger,
        }
    }

    /// The act in a sentence, with everything that it depends on.
    #[must_use]
    pub fn words(&self, subject: SubjectId) -> String {
        match self {
            Self::Status { from, to } => {
                let (from, to) = (from.code(), to.code());
                if self.at_once() {
                    format!(
                        "Confirm that {subject} is {to}. It holds since it was proposed, and was {from} before; declined, it holds as well until two people make it {from} again."
                    )
                } else {
                    format!("Change the status of {subject} from {from} to {to}.")
                }
            }
            Self::Hold => format!(
                "Place a legal hold on {subject}: nothing that is lawful to keep is deleted while it stands."
            ),
            Self::Lift { hold } => format!(
                "Lift the legal hold {hold} on {subject}: what is due for deletion then goes with the next run."
            ),
            Self::Event { event, at } => format!(
                "Record the event {} of {subject} at {}: terms of deletion are counted from it.",
                event.code(),
                at.to_rfc3339_seconds()
            ),
            Self::Removal => format!(
                "Remove {subject} with all references, the keys that open them, and what the log has sealed about this person."
            ),
            Self::Merge { plan } | Self::Unmerge { plan } => plan.what.clone(),
        }
    }

    /// Does it hold from the proposal on, so that a supervisor confirms what is done already?
    #[must_use]
    pub const fn at_once(&self) -> bool {
        match self {
            Self::Status { from, to } => only_shuts(*from, *to),
            Self::Hold
            | Self::Lift { .. }
            | Self::Event { .. }
            | Self::Removal
            | Self::Merge { .. }
            | Self::Unmerge { .. } => false,
        }
    }

    /// As a request for a second person; the command line asks with the same words.
    #[must_use]
    pub fn asked(&self, subject: SubjectId, reason: &str) -> Asked {
        Asked {
            kind: self.kind(),
            subject: Some(subject),
            officer: None,
            what: self.words(subject),
            reason: reason.to_owned(),
        }
    }

    /// Is there anything to do in this record? What is true now is looked at again when it is decided.
    fn fits(&self, view: &View, now: Timestamp) -> Result<(), ProposalError> {
        if let (Some((into, _)), false) = (view.merged_into, matches!(self, Self::Unmerge { .. })) {
            return Err(RegistryError::Merged(into).into());
        }
        match self {
            Self::Status { from, to } if from == to => Err(ProposalError::Same),
            Self::Lift { hold } if !view.holds.contains(hold) => Err(RetentionError::NoHold.into()),
            Self::Event { at, .. } if *at > now => Err(RetentionError::Future.into()),
            Self::Removal if !view.holds.is_empty() => Err(RegistryError::Held.into()),
            Self::Status { .. }
            | Self::Hold
            | Self::Lift { .. }
            | Self::Event { .. }
            | Self::Removal
            | Self::Merge { .. }
            | Self::Unmerge { .. } => Ok(()),
        }
    }

    /// Does it, in the transaction of the approval. Returns the log entry, which names both people.
    pub(crate) async fn carry_out(
        &self,
        state: &AppState,
        write: &mut Write<'_>,
        subject: SubjectId,
        by: By<'_>,
        reason: &str,
    ) -> Result<u64, ProposalError> {
        match self {
            Self::Status { from, to } => {
                let now = if self.at_once() { *to } else { *from };
                status_is(state, write, subject, now).await?;
                Ok(registry::set_status_in(state, write, subject, *to, by, reason).await?)
            }
            Self::Hold => Ok(retention::hold_in(state, write, subject, reason, by)
                .await?
                .1),
            Self::Lift { hold } => {
                Ok(retention::lift_in(state, write, subject, hold, reason, by).await?)
            }
            Self::Event { event, at } => {
                let when = (*event, *at);
                Ok(retention::record_in(state, write, subject, when, reason, by).await?)
            }
            Self::Removal => Ok(registry::remove_in(state, write, subject, by).await?),
            Self::Merge { plan } => Ok(merging::merge_in(state, write, plan, reason, by)
                .await?
                .log_index),
            Self::Unmerge { plan } => Ok(merging::unmerge_in(state, write, plan, reason, by)
                .await?
                .log_index),
        }
    }

    /// Shuts doors at once, in the transaction of the proposal.
    pub(crate) async fn shut(
        &self,
        state: &AppState,
        write: &mut Write<'_>,
        subject: SubjectId,
        officer: &str,
        reason: &str,
    ) -> Result<(), ProposalError> {
        if let Self::Status { from, to } = self
            && self.at_once()
        {
            status_is(state, write, subject, *from).await?;
            let by = By::one(officer);
            registry::set_status_in(state, write, subject, *to, by, reason).await?;
        }
        Ok(())
    }

    /// What follows in this server's memory once it is committed.
    pub(crate) async fn committed(&self, state: &AppState, subject: SubjectId) {
        match self {
            Self::Removal => registry::forget(state, subject),
            Self::Merge { .. } | Self::Unmerge { .. } => merging::committed(state).await,
            Self::Status { .. } | Self::Hold | Self::Lift { .. } | Self::Event { .. } => {}
        }
    }
}

/// The record must be what the log says, with this status.
async fn status_is(
    state: &AppState,
    write: &mut Write<'_>,
    subject: SubjectId,
    expected: SubjectStatus,
) -> Result<(), ProposalError> {
    ledger::catch_up(state).await?;
    let row = write.subject(subject).await?;
    let row = row.ok_or(RegistryError::Unknown)?;
    let opened = registry::open_record(state, &row)?;
    if !records::genuine(state, &row, &opened).await? {
        return Err(RegistryError::NotInLog.into());
    }
    if opened.record.status != expected {
        return Err(ProposalError::Changed);
    }
    Ok(())
}

/// What an officer's form asks for, before it is held against the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// This status.
    Status(SubjectStatus),
    /// What depends on nothing in the record.
    Fixed(Proposed),
    /// To be one with this person.
    Merge(SubjectId),
    /// To be two people again.
    Unmerge,
}

impl Wanted {
    /// From a form's fields: what, which, and a day at the site.
    ///
    /// # Errors
    /// [`ProposalError::Unclear`].
    pub fn parse(
        state: &AppState,
        what: &str,
        which: &str,
        day: &str,
    ) -> Result<Self, ProposalError> {
        let wanted = match what {
            "status" => SubjectStatus::ALL
                .into_iter()
                .find(|status| status.code() == which)
                .map(Self::Status),
            "hold" => Some(Self::Fixed(Proposed::Hold)),
            "lift" => Some(Self::Fixed(Proposed::Lift {
                hold: which.to_owned(),
            })),
            "event" => {
                let event = Event::ALL.into_iter().find(|event| event.code() == which);
                let offset_ms = i64::from(state.config.utc_offset_minutes) * 60_000;
                let at = Timestamp::from_rfc3339_utc(&format!("{day}T00:00:00Z"))
                    .map(|at| at.plus_millis(-offset_ms));
                event
                    .zip(at)
                    .map(|(event, at)| Self::Fixed(Proposed::Event { event, at }))
            }
            "removal" => Some(Self::Fixed(Proposed::Removal)),
            "merge" => which.trim().parse().ok().map(Self::Merge),
            "unmerge" => Some(Self::Unmerge),
            _ => None,
        };
        wanted.ok_or(ProposalError::Unclear)
    }

    async fn about(
        self,
        state: &AppState,
        session: &Session,
        view: &View,
    ) -> Result<Proposed, ProposalError> {
        let subject = view.subject.id;
        Ok(match self {
            Self::Status(to) => Proposed::Status {
                from: view.subject.record.status,
                to,
            },
            Self::Fixed(proposed) => proposed,
            Self::Merge(into) => {
                // Whether two people look alike is told only to whoever may look at both.
                if !consultations::is_open(state, session, &into.to_string()).await? {
                    return Err(ProposalError::OtherNotOpen);
                }
                let plan = merging::plan(state, subject, into).await?;
                Proposed::Merge { plan }
            }
            Self::Unmerge => {
                let plan = merging::plan_back(state, subject).await?;
                Proposed::Unmerge { plan }
            }
        })
    }
}

/// Proposes something about a person whose record the officer has opened with a reason. Returns the request's entry.
///
/// # Errors
/// See [`ProposalError`]; nothing was proposed or done.
pub async fn propose(
    state: &AppState,
    session: &Session,
    subject: SubjectId,
    wanted: Wanted,
    reason: &str,
) -> Result<u64, ProposalError> {
    session.must(Act::ProposeChange)?;
    if !consultations::is_open(state, session, &subject.to_string()).await? {
        return Err(ProposalError::NotOpen);
    }
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(ProposalError::NoWords);
    }
    let view = records::view(state, subject).await?;
    let proposed = wanted.about(state, session, &view).await?;
    proposed.fits(&view, state.clock.now())?;
    let asked = proposed.asked(subject, reason);
    let proposer = session.officer.to_string();
    let request = approvals::propose(state, &asked, subject, &proposed, &proposer).await?;
    ledger::catch_up(state).await?;
    Ok(request)
}

/// The change of status that the command line is asked for, and whether it needs a second person.
///
/// # Errors
/// No such person, or the database failed.
pub async fn of_status(
    state: &AppState,
    subject: SubjectId,
    to: SubjectStatus,
) -> Result<Proposed, RegistryError> {
    let known = registry::subject(state, subject).await?;
    let known = known.ok_or(RegistryError::Unknown)?;
    let from = known.record.status;
    Ok(Proposed::Status { from, to })
}

/// Changes a status at the server, if it is still the one that the words spoke of; whoever asks has seen to the second person.
///
/// # Errors
/// [`ProposalError::Changed`] where it is another one by now; nothing was changed then.
pub async fn set_status(
    state: &AppState,
    subject: SubjectId,
    change: &Proposed,
    actor: &str,
    reason: &str,
) -> Result<u64, ProposalError> {
    let Proposed::Status { from, to } = change else {
        return Err(ProposalError::Unclear);
    };
    ledger::catch_up(state).await?;
    let mut write = state.store.write().await?;
    status_is(state, &mut write, subject, *from).await?;
    let by = By::one(actor);
    let index = registry::set_status_in(state, &mut write, subject, *to, by, reason).await?;
    write.commit().await?;
    state.logged_at(state.clock.now());
    // From here on an older record that somebody puts back is worth nothing.
    ledger::catch_up(state).await?;
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shutting_an_open_door_is_one_persons() {
        for from in SubjectStatus::ALL {
            for to in SubjectStatus::ALL {
                let alone = from.code() == "active" && matches!(to.code(), "suspended" | "banned");
                assert_eq!(only_shuts(from, to), alone, "{from:?} {to:?}");
            }
        }
    }

    #[test]
    fn an_act_survives_its_sealed_form_and_other_acts_have_other_words() {
        let subject: SubjectId = "0192a000-0000-7000-8000-000000000001".parse().unwrap();
        let acts = [
            Proposed::Status {
                from: SubjectStatus::Banned,
                to: SubjectStatus::Active,
            },
            Proposed::Status {
                from: SubjectStatus::Active,
                to: SubjectStatus::Banned,
            },
            Proposed::Hold,
            Proposed::Lift {
                hold: "a".to_owned(),
            },
            Proposed::Event {
                event: Event::Released,
                at: Timestamp::from_micros(0),
            },
            Proposed::Removal,
        ];
        let mut words = std::collections::BTreeSet::new();
        for act in &acts {
            let text = serde_json::to_string(act).unwrap();
            assert_eq!(serde_json::from_str::<Proposed>(&text).unwrap(), *act);
            assert!(act.words(subject).contains(&subject.to_string()));
            words.insert(act.words(subject));
        }
        assert_eq!(words.len(), acts.len());
        assert!(serde_json::from_str::<Proposed>(r#"{"act":"grant"}"#).is_err());
    }
}
