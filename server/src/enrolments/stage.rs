//! A station submits one person: checked like ever, then put aside for the second officer.

use sallyport_domain::{
    DataKind, Enrolment, EnrolmentId, ModelDigest, ReferenceId, Template, Timestamp,
};
use sallyport_protocol::{
    EnrolmentOutcome, EnrolmentRefusal, EnrolmentSample, EnrolmentSubmission,
};
use sallyport_transparency::Entry;
use zeroize::Zeroizing;

use super::content::{self, Content, Findings, Staged};
use super::{code_sha256, ledger};
use crate::audit::{self, AuditError};
use crate::clock::random;
use crate::enrolment::{self, Checked};
use crate::keys;
use crate::passages::{content_sha256, sealed_json};
use crate::policies;
use crate::profiles;
use crate::registry::RegistryError;
use crate::replicas;
use crate::sealing::Key;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::enrolments::{EnrolmentRow, OrderRow};
use crate::store::gates::GateRow;
use crate::store::registry::ReferenceRow;
use crate::templates;

/// A submission is tried so often when other servers change the registry in between.
const ATTEMPTS: u32 = 16;

/// Takes what a station submits under an order's code: consistency of the samples, search for duplicates among those enrolled and
/// those under review, then put aside with a log entry. The same submission again gets the answer that holds now.
///
/// # Errors
/// See [`RegistryError`]; nothing was stored.
pub async fn submit(
    state: &AppState,
    station: &GateRow,
    mut submission: EnrolmentSubmission,
) -> Result<EnrolmentOutcome, RegistryError> {
    let models = enrolment::validate(&submission)?;
    let code = Zeroizing::new(std::mem::take(&mut submission.enrolment));
    // Without the code, so that an import goes on under another one where it stopped.
    let submission_sha256 = content_sha256(&submission)?;
    profiles::check_submission(&state.profile().profile, &mut submission)?;
    let submission = entered(state, submission)?;
    // One after the other: two submissions of one person must see each other as duplicates.
    let _turn = state.enrolling.lock().await;
    let policy = policies::in_force(state, station).await?;
    let (policy, _) = policy.ok_or(RegistryError::NotInLog)?;
    for _ in 0..ATTEMPTS {
        // Another server may take the same person at this moment: the search for duplicates must have seen everything that is
        // committed before this is.
        let seen = replicas::catch_up(state).await?;
        let order = state.store.order_of_code(&code_sha256(&code)).await?;
        let order = order
            .filter(|order| order.gate == station.id)
            .ok_or(RegistryError::NoOrder)?;
        if let Some(answer) = known(state, &submission, &submission_sha256, &order).await? {
            return Ok(answer);
        }
        if !is_open(&order, state.clock.now()) {
            return Err(RegistryError::NoOrder);
        }
        capturing(state, &order).await?;
        let (keep, alike) = match enrolment::check(state, &policy, &submission).await? {
            Checked::Keep { samples, alike } => (samples, alike),
            Checked::Refused(reason) => {
                return refuse(state, &submission, &order, &models, reason).await;
            }
        };
        let findings = Findings {
            alike,
            offered: submission.samples.len(),
            ..Findings::default()
        };
        let stage = Stage {
            submission: &submission,
            sha256: &submission_sha256,
            order: &order,
            models: &models,
            seen,
        };
        if let Some(outcome) = stage.put_aside(state, &keep, findings).await? {
            return Ok(outcome);
        }
    }
    Err(RegistryError::Busy)
}

fn is_open(order: &OrderRow, now: Timestamp) -> bool {
    order.closed_at.is_none() && order.expires_at > now
}

/// The submission with all templates under the secret in which this server works.
fn entered(
    state: &AppState,
    mut submission: EnrolmentSubmission,
) -> Result<EnrolmentSubmission, RegistryError> {
    for sample in &mut submission.samples {
        let entered = state.keys.templates.enter(&sample.probe.template);
        sample.probe.template =
            entered.map_err(|_| RegistryError::Invalid("a sample's template is none"))?;
    }
    Ok(submission)
}

/// The answer to what was submitted before.
async fn known(
    state: &AppState,
    submission: &EnrolmentSubmission,
    sha256: &str,
    order: &OrderRow,
) -> Result<Option<EnrolmentOutcome>, RegistryError> {
    if let Some(row) = state.store.subject(submission.subject).await? {
        if row.submission_sha256 != sha256 {
            return Err(RegistryError::Conflict);
        }
        let references = state.store.references(row.id).await?;
        return Ok(Some(EnrolmentOutcome::Enrolled {
            subject: row.id,
            references: references.into_iter().map(|row| row.id).collect(),
            log_index: row.log_index,
        }));
    }
    let rows = state
        .store
        .enrolments_of_subject(submission.subject)
        .await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let same = row.submission_sha256 == sha256;
    match row.state.as_str() {
        "under_review" if !same => Err(RegistryError::Conflict),
        "under_review" => Ok(Some(EnrolmentOutcome::UnderReview {
            enrolment: row.id,
            doubt: super::is_doubtful(state, row)
                .await?
                .then_some(EnrolmentRefusal::PossibleDuplicate),
            log_index: row.log_index,
        })),
        // Found to be somebody who was enrolled already; the references are that person's now.
        "approved"
            if same && ledger::became_another(state, &row.id.to_string(), row.subject).await =>
        {
            Ok(Some(EnrolmentOutcome::Enrolled {
                subject: submission.subject,
                references: Vec::new(),
                log_index: row.log_index,
            }))
        }
        "rejected" if same && row.order == order.id => Ok(Some(EnrolmentOutcome::Refused {
            reason: EnrolmentRefusal::Rejected,
            log_index: row.log_index,
        })),
        // Decided, erased, or enrolled and removed since; under a new order it may be tried again, and a second officer decides. One
        // order takes one person.
        _ => Ok(None),
    }
}

/// The station's first use of the code.
async fn capturing(state: &AppState, order: &OrderRow) -> Result<(), RegistryError> {
    if order.capturing_at.is_some() {
        return Ok(());
    }
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    if write.order_capturing(order.id, now).await? {
        let entry = Entry {
            gate: Some(order.gate.to_string()),
            about: Some(order.id.to_string()),
            ..audit::entry("enrolment_capturing", now)?
        };
        ledger::append(state, &mut write, entry, None).await?;
        write.commit().await?;
        state.logged_at(now);
    }
    Ok(())
}

fn entry_about(
    kind: &str,
    submission: &EnrolmentSubmission,
    models: &[ModelDigest],
    decision: &str,
    now: Timestamp,
) -> Result<Entry, AuditError> {
    Ok(Entry {
        gate: Some(submission.station.to_string()),
        subject: Some(submission.subject.to_string()),
        decision: Some(decision.to_owned()),
        models: models.iter().map(ToString::to_string).collect(),
        ..audit::entry(kind, now)?
    })
}

async fn refuse(
    state: &AppState,
    submission: &EnrolmentSubmission,
    order: &OrderRow,
    models: &[ModelDigest],
    reason: EnrolmentRefusal,
) -> Result<EnrolmentOutcome, RegistryError> {
    let now = state.clock.now();
    let entry = Entry {
        about: Some(order.id.to_string()),
        reason: Some(enrolment::refusal_code(reason).to_owned()),
        ..entry_about("enrolment", submission, models, "refused", now)?
    };
    let log_index = audit::record(state, entry).await?;
    Ok(EnrolmentOutcome::Refused { reason, log_index })
}

struct Stage<'a> {
    submission: &'a EnrolmentSubmission,
    sha256: &'a str,
    order: &'a OrderRow,
    models: &'a [ModelDigest],
    /// Up to which change of the registry duplicates were searched.
    seen: i64,
}

impl Stage<'_> {
    /// Seals and stores; `None` when the registry changed meanwhile.
    async fn put_aside(
        &self,
        state: &AppState,
        keep: &[usize],
        mut findings: Findings,
    ) -> Result<Option<EnrolmentOutcome>, RegistryError> {
        let now = state.clock.now();
        let subject = self.submission.subject;
        let (key, key_rows) = keys::new_subject_keys(&state.keys.ring, subject)?;
        let secret = templates::newest(&state.store.template_secrets().await?);
        let samples: Vec<&EnrolmentSample> = keep
            .iter()
            .filter_map(|at| self.submission.samples.get(*at))
            .collect();
        let mut staged = Vec::with_capacity(samples.len());
        for sample in &samples {
            let one = self.staged(state, &key, sample, secret, now).await?;
            let (modality, quality) = (sample.probe.modality, sample.probe.quality);
            findings.quality.push((modality, quality));
            findings.of_references.insert(one.0.row.id, quality);
            staged.push(one);
        }
        staged.sort_by_key(|one: &(Staged, &EnrolmentSample)| one.0.row.id);
        let plain = self.content(state, &staged)?;
        let id = EnrolmentId::new(now, random().map_err(|_| AuditError::Random)?);
        let mut row = EnrolmentRow {
            id,
            order: self.order.id,
            subject,
            state: "under_review".to_owned(),
            content_sha256: content::sha256(&plain),
            submission_sha256: self.sha256.to_owned(),
            content_sealed: None,
            findings_sealed: None,
            sampled: false,
            submitted_at: now,
            log_index: 0,
        };
        let doubt = (!findings.alike.is_empty()).then_some(EnrolmentRefusal::PossibleDuplicate);
        content::seal(state, &key, &mut row, &plain, &findings)?;
        let mut hash = [0; 32];
        hex::decode_to_slice(&row.content_sha256, &mut hash)
            .map_err(|_| StoreError::Corrupt("enrolment.content_sha256"))?;
        // The states that this passes through; the domain says whether it may.
        Enrolment::open(id, subject, self.order.opened_by)
            .begin_capture()
            .and_then(|enrolment| enrolment.submit(hash))
            .map_err(|_| RegistryError::NoOrder)?;
        let mut write = state.store.write().await?;
        let order = write.order(self.order.id).await?;
        let order = order.filter(|order| is_open(order, now));
        let order = order.ok_or(RegistryError::NoOrder)?;
        // Keys wrapped just before a rotation would stay behind, and so would templates under a secret just replaced.
        let newest = state.keys.ring.newest()?;
        if write.registry_seq().await? != self.seen
            || key_rows.iter().any(|row| row.version != newest)
            || templates::newest(&write.template_secrets().await?) != secret
        {
            return Ok(None);
        }
        for row in &key_rows {
            write.data_key_insert(row).await?;
        }
        let entry = Entry {
            about: Some(id.to_string()),
            reason: doubt.map(|doubt| enrolment::refusal_code(doubt).to_owned()),
            content: Some(row.content_sha256.clone()),
            ..entry_about(
                "enrolment_submitted",
                self.submission,
                self.models,
                "under_review",
                now,
            )?
        };
        row.log_index = ledger::append(state, &mut write, entry, None).await?;
        let rows: Vec<ReferenceRow> = staged.iter().map(|(one, _)| one.row.clone()).collect();
        write.enrolment_insert(&row, &rows).await?;
        if !order.batch {
            write.order_close(order.id, now).await?;
        }
        let seq = write.registry_changed(subject).await?;
        write.commit().await?;
        state.logged_at(now);
        if let Ok(mut pending) = state.pending.write() {
            for (one, sample) in &staged {
                let (model, template) = (sample.probe.model, &sample.probe.template);
                let protection = pending.insert(model, one.row.id, subject, template);
                state.note_protection(protection);
            }
        }
        replicas::own_change(state, seq).await;
        Ok(Some(EnrolmentOutcome::UnderReview {
            enrolment: id,
            doubt,
            log_index: row.log_index,
        }))
    }

    fn content(
        &self,
        state: &AppState,
        staged: &[(Staged, &EnrolmentSample)],
    ) -> Result<Zeroizing<Vec<u8>>, RegistryError> {
        let content = Content {
            v: 1,
            subject: self.submission.subject,
            category: self.submission.category,
            name: self.submission.display_name.trim().to_owned(),
            document: self.document(state)?,
            station: self.submission.station.clone(),
            references: staged
                .iter()
                .map(|(one, _)| content::said_of(one))
                .collect(),
        };
        Ok(Zeroizing::new(content::json(&content)?))
    }

    /// The document's number, where it may be kept.
    fn document(&self, state: &AppState) -> Result<String, RegistryError> {
        let (kind, category) = (DataKind::DocumentNumber, self.submission.category);
        if !profiles::may_keep(&state.profile().profile, kind, category) {
            return Ok(String::new());
        }
        Ok(content::open_detail(state, self.order)?.document.clone())
    }

    async fn staged<'a>(
        &self,
        state: &AppState,
        key: &Key,
        sample: &'a EnrolmentSample,
        secret_version: u32,
        now: Timestamp,
    ) -> Result<(Staged, &'a EnrolmentSample), RegistryError> {
        let template: &Template = &sample.probe.template;
        // Of an eye no picture is kept, whatever a station sends: templates only (NSW Regulation 2014, cl 321).
        let photograph = sample
            .photograph
            .as_ref()
            .filter(|_| template.face().is_some());
        let photograph = sealed_json(photograph)?;
        let mut row = ReferenceRow {
            id: ReferenceId::new(now, random().map_err(|_| AuditError::Random)?),
            subject: self.submission.subject,
            modality: template.modality().code().to_owned(),
            model: sample.probe.model.to_string(),
            secret_version,
            template_sealed: Vec::new(),
            source_sha256: sample.source_sha256.clone(),
            photograph_sealed: None,
            origin: None,
        };
        let stored = state
            .keys
            .templates
            .put_away(state, secret_version, template.clone())
            .await?;
        content::seal_staged(state, key, &mut row, &stored, photograph.as_deref())?;
        let staged = Staged {
            row,
            template: stored,
            photograph,
        };
        Ok((staged, sample))
    }
}
