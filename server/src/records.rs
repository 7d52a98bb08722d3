//! A person's record in full: why the law lets us know the person, custody or visits, where each reference comes from, what is due when,
//! and what was changed. Legal basis, custody and visits are sealed under the person's key with the rest of the record, and the log holds
//! a keyed hash of them: an older or other record that somebody puts into the database is not shown, but named in an alarm.

use sallyport_domain::{
    DataKind, EnrolmentId, Modality, ReferenceId, SubjectCategory, SubjectId, Timestamp,
};
use sallyport_transparency::Entry;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use crate::audit::{self, AuditError};
use crate::consultations::{self, ConsultError};
use crate::enrolments::ledger::{self, Change};
use crate::registry::{self, RegistryError, Subject};
use crate::retention::{self, Item};
use crate::rights;
use crate::sealing::Key;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::registry::SubjectRow;

/// A reason has at most this many characters.
const MAX_REASON_CHARS: usize = 2_000;
/// A custody reference has at most this many characters.
const MAX_CUSTODY_CHARS: usize = 120;
/// A person visits at most this many prisoners.
const MAX_VISITS: usize = 50;

/// Why the law lets the facility know a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegalBasis {
    /// A court's sentence.
    Sentence,
    /// Remand in custody.
    Remand,
    /// Another order of a court or authority.
    OtherOrder,
    /// The rules about visits.
    VisitRules,
    /// Employment at the facility.
    Employment,
    /// A contract with the facility.
    Contract,
    /// An official's duty, such as an inspector's.
    OfficialDuty,
    /// The person's own free consent.
    Consent,
}

impl LegalBasis {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Sentence,
        Self::Remand,
        Self::OtherOrder,
        Self::VisitRules,
        Self::Employment,
        Self::Contract,
        Self::OfficialDuty,
        Self::Consent,
    ];

    /// The stable name.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Sentence => "sentence",
            Self::Remand => "remand",
            Self::OtherOrder => "other_order",
            Self::VisitRules => "visit_rules",
            Self::Employment => "employment",
            Self::Contract => "contract",
            Self::OfficialDuty => "official_duty",
            Self::Consent => "consent",
        }
    }

    /// Can it be the basis for somebody of this category? Nobody in custody or in the facility's pay consents freely.
    #[must_use]
    pub const fn fits(self, category: SubjectCategory) -> bool {
        use SubjectCategory as Of;
        match self {
            Self::Sentence | Self::Remand => matches!(category, Of::Prisoner),
            Self::OtherOrder => matches!(category, Of::Prisoner | Of::Other),
            Self::VisitRules => matches!(category, Of::Visitor | Of::LegalRepresentative),
            Self::Employment => matches!(category, Of::Staff),
            Self::Contract => matches!(category, Of::Contractor),
            Self::OfficialDuty => matches!(category, Of::Official),
            Self::Consent => matches!(category, Of::Visitor | Of::LegalRepresentative | Of::Other),
        }
    }
}

/// Whom a visitor may visit. It is a record: gates do not read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Visits {
    /// The prisoner.
    pub prisoner: SubjectId,
    /// Approved from.
    pub from: Timestamp,
    /// Approved until.
    pub until: Timestamp,
}

/// Legal basis, custody and visits, as part of the sealed record.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Details {
    /// Why the law lets us know the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<LegalBasis>,
    /// Of a prisoner: the reference of sentence or remand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custody: Option<String>,
    /// Of a visitor: whom, and from when until when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub visits: Vec<Visits>,
}

impl Details {
    /// Is nothing recorded?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Debug for Details {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Details([sealed])")
    }
}

impl Drop for Details {
    fn drop(&mut self) {
        self.custody.zeroize();
    }
}

/// One change of a record.
#[derive(Clone)]
pub enum Set {
    /// Legal basis.
    Basis(LegalBasis),
    /// Reference of sentence or remand; `None` removes it.
    Custody(Option<String>),
    /// Visits to a prisoner; those that were recorded for this prisoner are replaced.
    Visits(Visits),
    /// No more visits to this prisoner.
    EndVisits(SubjectId),
}

impl Set {
    /// As the log names it.
    const fn code(&self) -> &'static str {
        match self {
            Self::Basis(_) => "legal_basis",
            Self::Custody(Some(_)) => "custody_set",
            Self::Custody(None) => "custody_removed",
            Self::Visits(_) => "visits_approved",
            Self::EndVisits(_) => "visits_ended",
        }
    }
}

/// Why a record was not changed or shown.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// No reason.
    #[error(
        "give a reason of 1 to {MAX_REASON_CHARS} characters; it is kept sealed beside the log entry"
    )]
    NoReason,
    /// Not for this category.
    #[error(
        "this legal basis is none for a person of this category; see docs/records.md for which fits whom"
    )]
    Basis,
    /// Not a prisoner, or nothing to store.
    #[error("only a prisoner has a custody reference; it has 1 to {MAX_CUSTODY_CHARS} characters")]
    Custody,
    /// Not a visitor and a prisoner.
    #[error(
        "visits are recorded of a visitor or legal representative to somebody enrolled as a prisoner, for a time that ends after it begins, to at most {MAX_VISITS} prisoners"
    )]
    Visits,
    /// Nothing to end.
    #[error("no visits to this prisoner are recorded for this person")]
    NoVisits,
    /// The wing.
    #[error(transparent)]
    Wing(#[from] ConsultError),
    /// Registry, database or log.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<StoreError> for RecordError {
    fn from(error: StoreError) -> Self {
        Self::Registry(error.into())
    }
}

impl From<AuditError> for RecordError {
    fn from(error: AuditError) -> Self {
        Self::Registry(error.into())
    }
}

/// What the log holds of the details: a hash under the person's own key, worth nothing to anybody once that is destroyed.
fn content(key: &Key, details: &Details) -> Result<String, StoreError> {
    let mut text =
        serde_json::to_string(details).map_err(|_| StoreError::Corrupt("subject.record_sealed"))?;
    let hash = key.lookup("subject.details", &text);
    text.zeroize();
    Ok(hash)
}

/// Are these the details that the log knows? None were ever recorded, or the newest entry's.
async fn stands(
    state: &AppState,
    row: &SubjectRow,
    details: &Details,
) -> Result<bool, RegistryError> {
    let key = registry::subject_key(state, row)?;
    Ok(match ledger::details(state, row.id).await {
        Some(said) => said == content(&key, details)?,
        None => details.is_empty(),
    })
}

/// Is this record what the log says: status, legal basis, custody and visits?
pub(crate) async fn genuine(
    state: &AppState,
    row: &SubjectRow,
    subject: &Subject,
) -> Result<bool, RegistryError> {
    let record = &subject.record;
    Ok(rights::status_stands(state, row.id, record.status).await?
        && stands(state, row, &record.details).await?)
}

fn apply(subject: &mut Subject, set: &Set) -> Result<(), RecordError> {
    let category = subject.record.category;
    let details = &mut subject.record.details;
    match set {
        Set::Basis(basis) if basis.fits(category) => details.basis = Some(*basis),
        Set::Basis(_) => return Err(RecordError::Basis),
        Set::Custody(reference) => {
            let reference = reference.as_deref().map(str::trim);
            let good = reference.is_none_or(|text| {
                (1..=MAX_CUSTODY_CHARS).contains(&text.chars().count())
                    && !text.chars().any(char::is_control)
            });
            if category != SubjectCategory::Prisoner || !good {
                return Err(RecordError::Custody);
            }
            details.custody.zeroize();
            details.custody = reference.map(str::to_owned);
        }
        Set::Visits(visits) => {
            let visitor = matches!(
                category,
                SubjectCategory::Visitor | SubjectCategory::LegalRepresentative
            );
            details
                .visits
                .retain(|known| known.prisoner != visits.prisoner);
            if !visitor || visits.from >= visits.until || details.visits.len() >= MAX_VISITS {
                return Err(RecordError::Visits);
            }
            details.visits.push(visits.clone());
        }
        Set::EndVisits(prisoner) => {
            let before = details.visits.len();
            details.visits.retain(|known| known.prisoner != *prisoner);
            if details.visits.len() == before {
                return Err(RecordError::NoVisits);
            }
        }
    }
    Ok(())
}

/// Changes a record, with an entry of the log that says what kind of thing was changed, never what to; returns it.
///
/// # Errors
/// See [`RecordError`]; nothing was changed.
pub async fn set(
    state: &AppState,
    id: SubjectId,
    set: &Set,
    reason: &str,
    actor: &str,
) -> Result<u64, RecordError> {
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON_CHARS {
        return Err(RecordError::NoReason);
    }
    if let Set::Visits(visits) = set {
        let prisoner = registry::subject(state, visits.prisoner).await?;
        if prisoner.is_none_or(|known| known.record.category != SubjectCategory::Prisoner) {
            return Err(RecordError::Visits);
        }
    }
    ledger::catch_up(state).await?;
    let mut write = state.store.write().await?;
    let row = write.subject(id).await?.ok_or(RegistryError::Unknown)?;
    let key = registry::subject_key(state, &row).map_err(RegistryError::from)?;
    let mut subject = registry::open_record(state, &row)?;
    // What somebody put there by hand must not become true by being sealed again.
    if !stands(state, &row, &subject.record.details).await? {
        return Err(RegistryError::NotInLog.into());
    }
    apply(&mut subject, set)?;
    let sealed = registry::seal_record(state, &key, id, &subject.record)?;
    let now = state.clock.now();
    let entry = Entry {
        actor: Some(actor.to_owned()),
        subject: Some(id.to_string()),
        decision: Some(set.code().to_owned()),
        content: Some(content(&key, &subject.record.details)?),
        ..audit::entry("subject_details", now)?
    };
    let index = audit::append(state, &mut write, entry, Some(reason.as_bytes())).await?;
    write.subject_update(id, sealed).await?;
    write.commit().await?;
    state.logged_at(now);
    ledger::catch_up(state).await?;
    Ok(index)
}

/// One reference, without template or picture.
#[derive(Debug, Clone)]
pub struct ReferenceView {
    /// Which.
    pub id: ReferenceId,
    /// Modality.
    pub modality: Modality,
    /// SHA-256 of the model.
    pub model: String,
    /// When its entry was written: at the second officer's approval, or at the passage or re-encoding that renewed it.
    pub since: Timestamp,
    /// The gate or station that captured it, where the log or the enrolment says so.
    pub device: Option<String>,
    /// Is a photograph kept?
    pub photograph: bool,
    /// Quality of its sample, 0 to 100, where it was kept.
    pub quality: Option<f32>,
}

/// Everything kept about a person that may be shown.
#[derive(Debug, Clone)]
pub struct View {
    /// The person.
    pub subject: Subject,
    /// The clause under which the profile keeps this category's face templates.
    pub clause: String,
    /// Wing.
    pub wing: Option<String>,
    /// Is a demographic group recorded? Which one is told to the person only.
    pub has_group: bool,
    /// References.
    pub references: Vec<ReferenceView>,
    /// What is due when, by which clause.
    pub items: Vec<Item>,
    /// Legal holds that stand.
    pub holds: Vec<String>,
    /// What was changed, oldest first.
    pub changes: Vec<Change>,
    /// Into whom this record was merged, and when.
    pub merged_into: Option<(SubjectId, Timestamp)>,
    /// Whose records were merged into this one.
    pub merged: Vec<SubjectId>,
}

async fn device(state: &AppState, made: ledger::Made) -> Result<Option<String>, RegistryError> {
    let enrolment = made.enrolment.and_then(|id| id.parse::<EnrolmentId>().ok());
    let Some(enrolment) = enrolment else {
        return Ok(made.gate);
    };
    let Some(row) = state.store.enrolment(enrolment).await? else {
        return Ok(None);
    };
    let order = state.store.order(row.order).await?;
    Ok(order.map(|order| order.gate.to_string()))
}

/// A person's record. The caller has written the consultation's entry before.
///
/// # Errors
/// See [`RecordError`]; nothing may be shown.
pub async fn view(state: &AppState, id: SubjectId) -> Result<View, RecordError> {
    ledger::catch_up(state).await?;
    let row = state
        .store
        .subject(id)
        .await?
        .ok_or(RegistryError::Unknown)?;
    let subject = registry::open_record(state, &row)?;
    if !genuine(state, &row, &subject).await? {
        let wrong = "its status, legal basis, custody or visits are not what the log says";
        ledger::alarm(state, "subject", &id.to_string(), wrong).await?;
        return Err(RegistryError::NotInLog.into());
    }
    let mut references = Vec::new();
    for reference in state.store.references(id).await? {
        let since = ledger::captured(state, id, Some(reference.id))
            .await
            .ok_or(RegistryError::NotInLog)?;
        let made = ledger::made(state, id, reference.id).await;
        references.push(ReferenceView {
            id: reference.id,
            modality: Modality::from_code(&reference.modality)
                .ok_or(StoreError::Corrupt("reference.modality"))?,
            model: reference.model,
            since,
            device: device(state, made).await?,
            photograph: reference.photograph_sealed.is_some(),
            quality: subject.record.quality.get(&reference.id).copied(),
        });
    }
    let items = retention::of_person(state, id).await?;
    let life = ledger::life(state, id).await.unwrap_or_default();
    let profile = state.profile();
    let rule = profile
        .profile
        .rule(DataKind::FaceTemplate, subject.record.category);
    Ok(View {
        clause: rule.source.clone(),
        wing: consultations::wing(state, id).await?,
        has_group: state.store.subject_group(id).await?.is_some(),
        references,
        items,
        holds: life.holds.into_iter().collect(),
        changes: ledger::changes(state, id).await,
        merged_into: ledger::merged_into(state, id).await,
        merged: ledger::merged(state, id).await.into_keys().collect(),
        subject,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_category_has_a_basis_and_nobody_in_custody_or_pay_consents() {
        for category in SubjectCategory::ALL {
            assert!(LegalBasis::ALL.iter().any(|basis| basis.fits(category)));
        }
        for category in [
            SubjectCategory::Prisoner,
            SubjectCategory::Staff,
            SubjectCategory::Contractor,
        ] {
            assert!(!LegalBasis::Consent.fits(category));
        }
        assert!(!LegalBasis::Sentence.fits(SubjectCategory::Visitor));
    }
}
