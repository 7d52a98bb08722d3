//! References of the new model: from granted passages and from photographs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sallyport_domain::{
    Evidence, GateId, GatePolicy, IrisRotation, Modality, ModalityVerdict, OperatingPoints,
    PadVerdict, ReferenceId, SubjectId, Template, Verdict,
};
use sallyport_matching::{Captured, Identification};
use sallyport_protocol::{
    Probe, Reencoded, ReencodingOutcome, ReencodingRequest, ReencodingResult, ReencodingTask,
    SuccessorProbes, SuccessorsKept,
};
use sallyport_transparency::Entry;
use sha2::{Digest as _, Sha256};

use super::{ChangeRow, going_on, key_of, waiting};
use crate::audit::{self, AuditError};
use crate::clock::random;
use crate::enrolments::ledger;
use crate::passages::{self, PassageRow, open_attachment};
use crate::policies;
use crate::registry::{self, RegistryError};
use crate::replicas;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::gates::GateRow;
use crate::store::registry::ReferenceRow;
use crate::templates;

/// After a grant the gate has this long to send what the next models make of the same samples.
const AFTER_GRANT_MS: i64 = 60_000;

/// Takes the templates of a passage that the old models granted. Each becomes a reference when a change to its model goes on, the old
/// model's template of the same modality confirmed or identified the person in that passage, no presentation attack was suspected,
/// the person has none of the new model yet, and it is like nobody else's.
///
/// # Errors
/// No such grant, or too long ago; database or log.
pub async fn successors(
    state: &AppState,
    gate: &GateRow,
    message: SuccessorProbes,
) -> Result<SuccessorsKept, RegistryError> {
    let passage = passages::get(state, message.transaction).await?;
    let passage = passage
        .filter(|passage| passage.gate == gate.id && passage.verdict == Verdict::Grant)
        .ok_or(RegistryError::Invalid(
            "this gate was granted no such passage; nothing was kept",
        ))?;
    let since = state.clock.now().millis_since(passage.decided_at);
    if !(0..=AFTER_GRANT_MS).contains(&since) {
        return Err(RegistryError::Invalid(
            "the passage was granted too long ago; the person's next one brings the new references",
        ));
    }
    let suspected = passage
        .pad
        .votes
        .iter()
        .any(|vote| vote.verdict == PadVerdict::AttackSuspected);
    let subject = passage.candidates.first().copied();
    let (Some(subject), false) = (subject, suspected) else {
        return Ok(SuccessorsKept { kept: 0 });
    };
    let policy = policies::in_force(state, gate).await?;
    let (policy, _) = policy.ok_or(RegistryError::NotInLog)?;
    let changes = going_on(state).await?;
    let mut kept = 0;
    for probe in message.probes {
        let change = changes
            .iter()
            .find(|change| change.to == probe.model && is_confirmed(&passage, change, &probe));
        let Some(change) = change else { continue };
        let template = state
            .keys
            .templates
            .enter(&probe.template)
            .map_err(|_| RegistryError::Invalid("a template is none"))?;
        let new = New {
            change,
            gate: &gate.id,
            subject,
            template,
            about: message.transaction.to_string(),
            source_sha256: hex::encode(Sha256::digest(message.transaction.to_string())),
            photograph: None,
            origin: None,
            quality: probe.quality,
            how: "at_passage",
        };
        kept += u8::from(new.keep(state, &policy).await?);
    }
    Ok(SuccessorsKept { kept })
}

/// Did the old model's template of this modality speak for the person?
fn is_confirmed(passage: &PassageRow, change: &ChangeRow, probe: &Probe) -> bool {
    let from = change.from.to_string();
    let enough = [ModalityVerdict::Confirms, ModalityVerdict::Identifies].map(|v| v.code());
    passage.findings.iter().any(|found| {
        found.modality == probe.modality
            && found.model == from
            && enough.contains(&found.verdict.as_str())
    })
}

/// A reference to be.
struct New<'a> {
    change: &'a ChangeRow,
    gate: &'a GateId,
    subject: SubjectId,
    /// Under the secret in which this server works.
    template: Template,
    about: String,
    source_sha256: String,
    /// As the agent sealed it.
    photograph: Option<Vec<u8>>,
    /// Under whose identifier that was sealed, where it is another subject's.
    origin: Option<SubjectId>,
    /// Of the sample, 0 to 100.
    quality: f32,
    how: &'static str,
}

impl New<'_> {
    /// `false` when the person has one already, or somebody else is like it; the latter leaves an entry.
    async fn keep(self, state: &AppState, policy: &GatePolicy) -> Result<bool, RegistryError> {
        // As with enrolments: what is searched is what is there when this is stored.
        let _turn = state.enrolling.lock().await;
        let modality = self.template.modality();
        if self.somebody_else(state, policy).await? {
            let entry = Entry {
                decision: Some("like_somebody_else".to_owned()),
                ..self.entry(state, "reference_not_renewed")?
            };
            audit::record(state, entry).await?;
            return Ok(false);
        }
        let key = key_of(state, self.subject).await?;
        let secret = templates::newest(&state.store.template_secrets().await?);
        let stored = state
            .keys
            .templates
            .put_away(state, secret, self.template.clone())
            .await?;
        let now = state.clock.now();
        let mut row = ReferenceRow {
            id: ReferenceId::new(now, random().map_err(|_| AuditError::Random)?),
            subject: self.subject,
            modality: modality.code().to_owned(),
            model: self.change.to.to_string(),
            secret_version: secret,
            template_sealed: Vec::new(),
            source_sha256: self.source_sha256.clone(),
            photograph_sealed: None,
            origin: self.origin,
        };
        let bytes = registry::template_bytes(&stored);
        row.template_sealed = registry::seal_template_bytes(state, &key, &row, &bytes)?;
        row.photograph_sealed = self
            .photograph
            .as_deref()
            .map(|photograph| registry::seal_photograph(state, &key, &row, photograph))
            .transpose()?;
        let mut write = state.store.write().await?;
        let there = write
            .references_of(self.subject, modality.code(), self.change.to)
            .await?;
        let enough = match self.how {
            "at_passage" => !there.is_empty(),
            _ => there
                .iter()
                .any(|(_, source)| *source == self.source_sha256),
        };
        let gone = write.subject(self.subject).await?.is_none();
        let renewed = templates::newest(&write.template_secrets().await?) != secret;
        if enough || gone || renewed {
            return Ok(false);
        }
        registry::not_merged(state, self.subject).await?;
        let entry = Entry {
            decision: Some(self.how.to_owned()),
            references: vec![ledger::name(&row, &stored)],
            ..self.entry(state, "reference_renewed")?
        };
        audit::append(state, &mut write, entry, None).await?;
        write.reference_insert(&row, now).await?;
        let quality = std::iter::once((row.id, self.quality));
        registry::note_quality(state, &mut write, self.subject, quality).await?;
        let seq = write.registry_changed(self.subject).await?;
        write.commit().await?;
        state.logged_at(now);
        if let Ok(mut gallery) = state.gallery.write() {
            let inserted = gallery.insert(self.change.to, row.id, self.subject, &self.template);
            state.note_protection(inserted);
        }
        replicas::own_change(state, seq).await;
        Ok(true)
    }

    fn entry(&self, state: &AppState, kind: &str) -> Result<Entry, AuditError> {
        Ok(Entry {
            gate: Some(self.gate.to_string()),
            subject: Some(self.subject.to_string()),
            about: Some(self.about.clone()),
            models: vec![self.change.from.to_string(), self.change.to.to_string()],
            ..audit::entry(kind, state.clock.now())?
        })
    }

    /// Would the new model take this for somebody else?
    async fn somebody_else(
        &self,
        state: &AppState,
        policy: &GatePolicy,
    ) -> Result<bool, RegistryError> {
        let (gallery, calibration) = (state.gallery.clone(), state.fusion.clone());
        let (template, policy) = (self.template.clone(), policy.clone());
        let (model, own) = (self.change.to, self.subject);
        let found = tokio::task::spawn_blocking(move || {
            let gallery = gallery.read().ok()?;
            let captured = Captured::new().with(model, &template);
            Some(
                match gallery.identify(&captured, &calibration, IrisRotation::Normal, 8) {
                    Identification::Found { scores, size } => {
                        let points = OperatingPoints::new(&calibration, &policy, size);
                        let evidence = Evidence::new(scores, points);
                        let alike =
                            sallyport_domain::consistency::possible_duplicates(&evidence, own);
                        !alike.is_empty()
                    }
                    // The first of this model.
                    Identification::OtherModel(_) => false,
                },
            )
        });
        found
            .await
            .ok()
            .flatten()
            .ok_or_else(|| StoreError::Corrupt("the gallery in memory").into())
    }
}

/// The change whose station this is and that leads to this model.
async fn change_of(
    state: &AppState,
    station: &GateId,
    leads_to: impl Fn(&ChangeRow) -> bool,
) -> Result<ChangeRow, RegistryError> {
    let changes = going_on(state).await?;
    let found = changes
        .into_iter()
        .find(|change| change.station.as_ref() == Some(station) && leads_to(change));
    found.ok_or(RegistryError::Invalid(
        "no change of models goes on for which this station encodes photographs with this model; begin one with `sallyport-server model-change begin --station`",
    ))
}

/// The next photograph that waits to be encoded; `None` when none does. That it was handed out is in the log.
///
/// # Errors
/// This station encodes for no change; database, log or sealing.
pub async fn next_photograph(
    state: &AppState,
    station: &GateRow,
    request: &ReencodingRequest,
) -> Result<Option<ReencodingTask>, RegistryError> {
    let change = change_of(state, &station.id, |change| change.to == request.model).await?;
    let touched = state.store.references_of_change(&change).await?;
    let waiting = waiting(&change, &touched);
    let Some(first) = waiting.first() else {
        return Ok(None);
    };
    let row = reference(state, first.subject, first.id).await?;
    let row = row.ok_or(RegistryError::Busy)?;
    let key = key_of(state, first.subject).await?;
    let sealed = registry::photograph(state, &key, &row)?;
    let sealed = sealed.ok_or(RegistryError::Busy)?;
    let owner = row.origin.unwrap_or(row.subject);
    let jpeg = open_attachment(state, &sealed, &owner.to_string())?;
    let entry = Entry {
        gate: Some(station.id.to_string()),
        subject: Some(row.subject.to_string()),
        about: Some(row.id.to_string()),
        models: vec![change.from.to_string(), change.to.to_string()],
        ..audit::entry("photograph_to_station", state.clock.now())?
    };
    audit::record(state, entry).await?;
    Ok(Some(ReencodingTask {
        reference: row.id,
        from: change.from,
        photograph: STANDARD.encode(jpeg),
        waiting: waiting.len() as u64,
    }))
}

async fn reference(
    state: &AppState,
    subject: SubjectId,
    id: ReferenceId,
) -> Result<Option<ReferenceRow>, StoreError> {
    let rows = state.store.references(subject).await?;
    Ok(rows.into_iter().find(|row| row.id == id))
}

/// Takes what a station made of a photograph. The old model's template of the same picture must match the stored reference: a
/// station that mixes pictures up, or is made to, brings nobody another face.
///
/// # Errors
/// This station encodes for no change, or the message contradicts itself; database or log.
pub async fn reencoded(
    state: &AppState,
    station: &GateRow,
    message: ReencodingResult,
) -> Result<ReencodingOutcome, RegistryError> {
    let model = match &message.result {
        Reencoded::Encoded { old, new } => {
            if old.modality != Modality::Face || new.modality != Modality::Face {
                return Err(RegistryError::Invalid("a photograph shows a face only"));
            }
            Some((old.model, new.model))
        }
        Reencoded::Unusable => None,
    };
    let change = change_of(state, &station.id, |change| {
        model.is_none_or(|(old, new)| change.from == old && change.to == new)
    })
    .await?;
    let touched = state.store.references_of_change(&change).await?;
    let old_model = change.from.to_string();
    let mine = touched
        .iter()
        .find(|row| row.id == message.reference && row.model == old_model)
        .ok_or(RegistryError::Unknown)?;
    let row = reference(state, mine.subject, mine.id).await?;
    let row = row.ok_or(RegistryError::Unknown)?;
    let Reencoded::Encoded { old, new } = message.result else {
        return not_kept(state, station, &change, &row, "unusable").await;
    };
    let key = key_of(state, row.subject).await?;
    let stored = registry::opened(state, &key, &row)?;
    let stored = state
        .keys
        .templates
        .taken_out(state, row.secret_version, stored)
        .await?;
    let enter = |probe: &Probe| {
        let entered = state.keys.templates.enter(&probe.template);
        entered.map_err(|_| RegistryError::Invalid("a template is none"))
    };
    let quality = new.quality;
    let (old, new) = (enter(&old)?, enter(&new)?);
    let policy = policies::in_force(state, station).await?;
    let (policy, _) = policy.ok_or(RegistryError::NotInLog)?;
    let same = match (stored.face(), old.face()) {
        (Some(stored), Some(old)) => state
            .calibration
            .verification_threshold(policy.fmr_target)
            .is_match(stored.similarity(old)),
        _ => false,
    };
    if !same {
        return not_kept(state, station, &change, &row, "another_picture").await;
    }
    let kept = New {
        change: &change,
        gate: &station.id,
        subject: row.subject,
        template: new,
        about: row.id.to_string(),
        source_sha256: row.source_sha256.clone(),
        photograph: registry::photograph(state, &key, &row)?,
        origin: row.origin,
        quality,
        how: "from_photograph",
    }
    .keep(state, &policy)
    .await?;
    if kept {
        return Ok(ReencodingOutcome::Kept);
    }
    // Sent twice, or somebody else is like it.
    let touched = state.store.references_of_change(&change).await?;
    if waiting(&change, &touched)
        .iter()
        .any(|one| one.id == row.id)
    {
        return not_kept(state, station, &change, &row, "like_somebody_else").await;
    }
    Ok(ReencodingOutcome::Kept)
}

async fn not_kept(
    state: &AppState,
    station: &GateRow,
    change: &ChangeRow,
    row: &ReferenceRow,
    why: &str,
) -> Result<ReencodingOutcome, RegistryError> {
    let now = state.clock.now();
    let entry = Entry {
        gate: Some(station.id.to_string()),
        subject: Some(row.subject.to_string()),
        about: Some(row.id.to_string()),
        decision: Some(why.to_owned()),
        models: vec![change.from.to_string(), change.to.to_string()],
        ..audit::entry("reference_not_renewed", now)?
    };
    let mut write = state.store.write().await?;
    let index = audit::append(state, &mut write, entry, None).await?;
    if write.photograph_unusable(&change.id, row.id, index).await? {
        write.commit().await?;
        state.logged_at(now);
    }
    Ok(ReencodingOutcome::NotKept)
}
