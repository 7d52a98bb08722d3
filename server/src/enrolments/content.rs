//! What is put aside of an enrolment: exactly what would be stored, sealed under the subject's own data key, with the hash to which
//! the second officer's approval is bound.

use std::collections::BTreeMap;

use sallyport_domain::{
    GateId, Modality, OfficerId, ReferenceId, SubjectCategory, SubjectId, Template,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use super::ledger;
use crate::keys::{self, Purpose};
use crate::registry::{self, RegistryError};
use crate::sealing::{self, Key, Place, SealError};
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::enrolments::{EnrolmentRow, OrderRow};
use crate::store::registry::ReferenceRow;

/// Why an order was opened, and the document that shows who the person is. `Debug` hides it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderDetail {
    /// Why.
    pub reason: String,
    /// Kind and number of the document, or of the file of a batch.
    pub document: String,
}

impl std::fmt::Debug for OrderDetail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OrderDetail([sealed])")
    }
}

impl Drop for OrderDetail {
    fn drop(&mut self) {
        self.reason.zeroize();
        self.document.zeroize();
    }
}

/// Everything that an approval commits. `Debug` hides it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Format; 1.
    pub v: u8,
    /// Whom.
    pub subject: SubjectId,
    /// Category.
    pub category: SubjectCategory,
    /// Name.
    pub name: String,
    /// Document reference.
    pub document: String,
    /// Station.
    pub station: GateId,
    /// References, in the order of their identifiers.
    pub references: Vec<ContentReference>,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Content([sealed])")
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.name.zeroize();
        self.document.zeroize();
    }
}

/// One reference of a [`Content`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentReference {
    /// Which.
    pub id: ReferenceId,
    /// Modality.
    pub modality: String,
    /// Model.
    pub model: String,
    /// Version of the template secret.
    pub secret_version: u32,
    /// SHA-256 of the source picture.
    pub source_sha256: String,
    /// SHA-256 of the template.
    pub template_sha256: String,
    /// SHA-256 of the photograph as the station sealed it.
    pub photograph_sha256: Option<String>,
}

/// What the checks found, for the second officer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Findings {
    /// People who may be the same person.
    pub alike: Vec<SubjectId>,
    /// Samples that the station offered.
    pub offered: usize,
    /// Modality and quality (0 to 100) of each sample that is kept.
    pub quality: Vec<(Modality, f32)>,
    /// The same by reference; none in what was put aside before this was kept.
    #[serde(default)]
    pub of_references: BTreeMap<ReferenceId, f32>,
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn place<'a>(state: &'a AppState, column: &'a str, row: &'a str, subject: &'a str) -> Place<'a> {
    Place {
        subject,
        ..Place::new(state.config.site.as_str(), "enrolment", column, row)
    }
}

fn detail_place<'a>(state: &'a AppState, row: &'a str) -> Place<'a> {
    let site = state.config.site.as_str();
    Place::new(site, "enrolment_order", "detail_sealed", row)
}

pub(super) fn seal_detail(
    state: &AppState,
    order: &str,
    detail: &OrderDetail,
) -> Result<Vec<u8>, RegistryError> {
    let plain = Zeroizing::new(json(detail)?);
    Ok(sealing::seal(
        &state.keys.site,
        1,
        &detail_place(state, order),
        &plain,
    )?)
}

pub(super) fn open_detail(
    state: &AppState,
    order: &OrderRow,
) -> Result<OrderDetail, RegistryError> {
    if order.detail_sealed.is_empty() {
        let deleted = "(deleted: its time was over)".to_owned();
        return Ok(OrderDetail {
            reason: deleted.clone(),
            document: deleted,
        });
    }
    let row = order.id.to_string();
    let plain = sealing::open(
        &state.keys.site,
        1,
        &detail_place(state, &row),
        &order.detail_sealed,
    )?;
    let plain = Zeroizing::new(plain);
    serde_json::from_slice(&plain).map_err(|_| RegistryError::Changed)
}

pub(super) fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|_| StoreError::Corrupt("enrolment.content_sealed"))
}

/// Content and findings, sealed for their row.
pub(super) fn seal(
    state: &AppState,
    key: &Key,
    row: &mut EnrolmentRow,
    content: &[u8],
    findings: &Findings,
) -> Result<(), RegistryError> {
    let (id, subject) = (row.id.to_string(), row.subject.to_string());
    let findings = Zeroizing::new(json(findings)?);
    let seal = |column, plain: &[u8]| -> Result<Vec<u8>, SealError> {
        sealing::seal(key, 1, &place(state, column, &id, &subject), plain)
    };
    row.content_sealed = Some(seal("content_sealed", content)?);
    row.findings_sealed = Some(seal("findings_sealed", &findings)?);
    Ok(())
}

fn staged_place<'a>(
    state: &'a AppState,
    column: &'a str,
    reference: &'a ReferenceRow,
    row: &'a str,
    subject: &'a str,
) -> Place<'a> {
    Place {
        subject,
        modality: &reference.modality,
        model: &reference.model,
        ..Place::new(
            state.config.site.as_str(),
            "enrolment_reference",
            column,
            row,
        )
    }
}

fn staged_names(reference: &ReferenceRow) -> (String, String) {
    (
        format!("{}/{}", reference.id, reference.secret_version),
        reference.subject.to_string(),
    )
}

/// Seals template and photograph for their row among those under review. The place is another than in the registry: a row that
/// is only moved there does not open.
pub(super) fn seal_staged(
    state: &AppState,
    key: &Key,
    reference: &mut ReferenceRow,
    template: &Template,
    photograph: Option<&[u8]>,
) -> Result<(), SealError> {
    let (row, subject) = staged_names(reference);
    let bytes = registry::template_bytes(template);
    let template = staged_place(state, "template_sealed", reference, &row, &subject);
    let sealed = sealing::seal(key, 1, &template, &bytes)?;
    let place = staged_place(state, "photograph_sealed", reference, &row, &subject);
    let photograph = photograph
        .map(|plain| sealing::seal(key, 1, &place, plain))
        .transpose()?;
    (reference.template_sealed, reference.photograph_sealed) = (sealed, photograph);
    Ok(())
}

/// One reference under review, opened.
pub(super) struct Staged {
    pub(super) row: ReferenceRow,
    pub(super) template: Template,
    /// As the station sealed it.
    pub(super) photograph: Option<Vec<u8>>,
}

/// An enrolment under review, opened and found to be what the log says was submitted.
pub struct Opened {
    pub(super) key: Key,
    pub(super) content: Content,
    pub(super) findings: Findings,
    pub(super) references: Vec<Staged>,
    /// Who opened its order, as the log says.
    pub(super) opened_by: OfficerId,
    /// Did the checks find somebody alike?
    pub(super) doubtful: bool,
    /// Models, as the log has them.
    pub(super) models: Vec<String>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opened([sealed])")
    }
}

/// Opens what is under review. Row, content, each template and photograph, and both log entries must fit each other.
///
/// # Errors
/// [`RegistryError::Changed`] or [`RegistryError::Sealed`]: somebody changed the database by hand.
pub(super) async fn open(
    state: &AppState,
    row: &EnrolmentRow,
    order: &OrderRow,
) -> Result<Opened, RegistryError> {
    let changed = || RegistryError::Changed;
    let submitted = ledger::entry_of(state, row.log_index, "enrolment_submitted")
        .await?
        .filter(|entry| {
            entry.about.as_deref() == Some(&row.id.to_string())
                && entry.subject.as_deref() == Some(&row.subject.to_string())
                && entry.content.as_deref() == Some(&row.content_sha256)
        })
        .ok_or_else(changed)?;
    let opened = ledger::entry_of(state, order.log_index, "enrolment_opened")
        .await?
        .filter(|entry| {
            row.order == order.id
                && entry.about.as_deref() == Some(&order.id.to_string())
                && entry.actor.as_deref() == Some(&order.opened_by.to_string())
        });
    let opened_by = opened.map(|_| order.opened_by).ok_or_else(changed)?;
    let key = keys::subject_key(state, row.subject, Purpose::Registry)
        .await
        .map_err(crate::audit::AuditError::from)?
        .ok_or_else(changed)?;
    let (id, subject) = (row.id.to_string(), row.subject.to_string());
    let unsealed =
        |column, sealed: Option<&Vec<u8>>| -> Result<Zeroizing<Vec<u8>>, RegistryError> {
            let sealed = sealed.ok_or_else(changed)?;
            let place = place(state, column, &id, &subject);
            sealing::open(&key, 1, &place, sealed)
                .map(Zeroizing::new)
                .map_err(|_| changed())
        };
    let plain = unsealed("content_sealed", row.content_sealed.as_ref())?;
    if sha256(&plain) != row.content_sha256 {
        return Err(changed());
    }
    let content: Content = serde_json::from_slice(&plain).map_err(|_| changed())?;
    let findings = unsealed("findings_sealed", row.findings_sealed.as_ref())?;
    let findings = serde_json::from_slice(&findings).map_err(|_| changed())?;
    let rows = state.store.enrolment_references(row).await?;
    if content.subject != row.subject || rows.len() != content.references.len() {
        return Err(changed());
    }
    let mut references = Vec::with_capacity(rows.len());
    for (reference, said) in rows.into_iter().zip(&content.references) {
        let staged = open_staged(state, &key, reference)?;
        if said_of(&staged) != *said {
            return Err(changed());
        }
        references.push(staged);
    }
    Ok(Opened {
        key,
        content,
        findings,
        references,
        opened_by,
        doubtful: submitted.reason.is_some(),
        models: submitted.models,
    })
}

fn open_staged(state: &AppState, key: &Key, row: ReferenceRow) -> Result<Staged, RegistryError> {
    let changed = |_| RegistryError::Changed;
    let (name, subject) = staged_names(&row);
    let place = staged_place(state, "template_sealed", &row, &name, &subject);
    let plain = sealing::open(key, 1, &place, &row.template_sealed).map_err(changed)?;
    let plain = Zeroizing::new(plain);
    let template = registry::template_of(&row, &plain)?;
    let place = staged_place(state, "photograph_sealed", &row, &name, &subject);
    let photograph = row
        .photograph_sealed
        .as_deref()
        .map(|sealed| sealing::open(key, 1, &place, sealed))
        .transpose()
        .map_err(changed)?;
    Ok(Staged {
        row,
        template,
        photograph,
    })
}

/// What the content says of a reference.
pub(super) fn said_of(staged: &Staged) -> ContentReference {
    ContentReference {
        id: staged.row.id,
        modality: staged.row.modality.clone(),
        model: staged.row.model.clone(),
        secret_version: staged.row.secret_version,
        source_sha256: staged.row.source_sha256.clone(),
        template_sha256: registry::template_sha256(&staged.template),
        photograph_sha256: staged.photograph.as_deref().map(sha256),
    }
}
