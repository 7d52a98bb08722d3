//! What must be true of an enrolment before anything is stored: the samples agree, each eye stands under its own name, and
//! nobody like this is enrolled already.

use std::collections::BTreeSet;

use sallyport_domain::consistency::{
    IrisEnrolmentDefect, choose_iris_references, possible_duplicates,
};
use sallyport_domain::{
    Evidence, FaceTemplate, FusionCalibration, GatePolicy, IrisRotation, IrisTemplate, ModelDigest,
    OperatingPoints, SubjectId, Template,
};
use sallyport_matching::{Captured, Gallery, Identification};
use sallyport_protocol::{EnrolmentRefusal, EnrolmentSample, EnrolmentSubmission};

use crate::registry::RegistryError;
use crate::state::AppState;

/// Longest name, characters.
const MAX_NAME_CHARS: usize = 200;
/// Most samples in one submission.
const MAX_SAMPLES: usize = 32;
/// References of each eye that must agree, where that many samples were offered.
const IRISES_NEEDED: usize = 3;
/// People looked at in a search for duplicates.
const CANDIDATES: usize = 4;

/// The outcome of all checks.
pub(crate) enum Checked {
    /// These samples may be put aside for a second officer, by their places in the submission.
    Keep {
        /// Places of the samples.
        samples: Vec<usize>,
        /// People, enrolled or under review, who may be the same person.
        alike: Vec<SubjectId>,
    },
    /// The samples are of no use; nothing is stored.
    Refused(EnrolmentRefusal),
}

/// Is the message itself acceptable? Returns each model once, the faces' first.
///
/// # Errors
/// A sentence that says what to change.
pub(crate) fn validate(
    submission: &EnrolmentSubmission,
) -> Result<Vec<ModelDigest>, RegistryError> {
    let name = submission.display_name.trim();
    if name.is_empty()
        || name.chars().count() > MAX_NAME_CHARS
        || name.chars().any(char::is_control)
    {
        return Err(RegistryError::Invalid(
            "display_name must have 1 to 200 characters and no control characters",
        ));
    }
    if submission.samples.is_empty() {
        return Err(RegistryError::Invalid("at least one sample is needed"));
    }
    if submission.samples.len() > MAX_SAMPLES {
        return Err(RegistryError::Invalid("at most 32 samples per submission"));
    }
    let models_of = |face: bool| -> BTreeSet<ModelDigest> {
        submission
            .samples
            .iter()
            .filter(|sample| sample.probe.template.face().is_some() == face)
            .map(|sample| sample.probe.model)
            .collect()
    };
    let (faces, irises) = (models_of(true), models_of(false));
    if faces.is_empty() {
        return Err(RegistryError::Invalid(
            "at least one face sample is needed; irises alone cannot be checked for duplicates against people enrolled by face",
        ));
    }
    if faces.len() > 1 || irises.len() > 1 {
        return Err(RegistryError::Invalid(
            "all face samples must be made by one model, and all iris samples by one encoder",
        ));
    }
    let is_digest = |text: &str| {
        text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    // A face strip may give both eyes, so a source may come once per modality.
    let sources: BTreeSet<(&str, &str)> = submission
        .samples
        .iter()
        .map(|sample| (sample.probe.modality.code(), sample.source_sha256.as_str()))
        .collect();
    if sources.len() != submission.samples.len()
        || !sources.into_iter().all(|(_, digest)| is_digest(digest))
    {
        return Err(RegistryError::Invalid(
            "each sample needs the SHA-256 of its own source picture in lower-case hexadecimal",
        ));
    }
    Ok(faces.into_iter().chain(irises).collect())
}

/// Are the samples one person, and who looks like that person, among those enrolled and those under review?
///
/// # Errors
/// The search for duplicates could not be made.
pub(crate) async fn check(
    state: &AppState,
    policy: &GatePolicy,
    submission: &EnrolmentSubmission,
) -> Result<Checked, RegistryError> {
    let faces: Vec<&FaceTemplate> = submission
        .samples
        .iter()
        .filter_map(|sample| sample.probe.template.face())
        .collect();
    let same = state.calibration.verification_threshold(policy.fmr_target);
    let one_person = faces.iter().enumerate().all(|(index, one)| {
        faces
            .iter()
            .skip(index + 1)
            .all(|other| same.is_match(one.similarity(other)))
    });
    if !one_person {
        return Ok(Checked::Refused(EnrolmentRefusal::InconsistentSamples));
    }
    let keep = match kept(&submission.samples) {
        Ok(keep) => keep,
        Err(refusal) => return Ok(Checked::Refused(refusal)),
    };
    let samples: Vec<(ModelDigest, Template)> = keep
        .iter()
        .filter_map(|at| submission.samples.get(*at))
        .map(|sample| (sample.probe.model, sample.probe.template.clone()))
        .collect();
    let galleries = [state.gallery.clone(), state.pending.clone()];
    let (calibration, policy) = (state.fusion.clone(), policy.clone());
    let own = submission.subject;
    let found = tokio::task::spawn_blocking(move || {
        let mut found = BTreeSet::new();
        for gallery in &galleries {
            let gallery = gallery.read().ok()?;
            found.extend(alike(&gallery, &samples, &calibration, &policy, own)?);
        }
        Some(found)
    })
    .await;
    match found {
        Ok(Some(alike)) => Ok(Checked::Keep {
            samples: keep,
            alike: alike.into_iter().collect(),
        }),
        Ok(None) | Err(_) => Err(RegistryError::Invalid(
            "duplicates cannot be searched with this model; all stations must use the models of the enrolled references",
        )),
    }
}

/// Who in the gallery may be the person of these samples, but for `own`. `None` where there are references, but not of their models.
pub(crate) fn alike(
    gallery: &Gallery,
    samples: &[(ModelDigest, Template)],
    calibration: &FusionCalibration,
    policy: &GatePolicy,
    own: SubjectId,
) -> Option<BTreeSet<SubjectId>> {
    // Left and right may be exchanged at one of the two enrolments, so both ways are searched.
    let swapped: Vec<(ModelDigest, Template)> = samples
        .iter()
        .map(|(model, template)| match template {
            Template::Face(face) => (*model, Template::Face(face.clone())),
            Template::Iris(iris) => (*model, Template::Iris(iris.under_other_name())),
        })
        .collect();
    let mut alike = BTreeSet::new();
    for captured in captures(samples).into_iter().chain(captures(&swapped)) {
        match gallery.identify(&captured, calibration, IrisRotation::Wide, CANDIDATES) {
            Identification::Found { scores, size } => {
                let points = OperatingPoints::new(calibration, policy, size);
                let evidence = Evidence::new(scores, points);
                alike.extend(possible_duplicates(&evidence, own));
            }
            Identification::OtherModel(_) => return None,
        }
    }
    Some(alike)
}

/// All faces, and of each eye the samples that agree best.
fn kept(samples: &[EnrolmentSample]) -> Result<Vec<usize>, EnrolmentRefusal> {
    let irises: Vec<(usize, &IrisTemplate)> = samples
        .iter()
        .enumerate()
        .filter_map(|(at, sample)| Some((at, sample.probe.template.iris()?)))
        .collect();
    let templates: Vec<&IrisTemplate> = irises.iter().map(|(_, iris)| *iris).collect();
    let offered = |eye| templates.iter().filter(|iris| iris.eye() == eye).count();
    let fewest = sallyport_domain::Eye::BOTH
        .into_iter()
        .map(offered)
        .filter(|count| *count > 0)
        .min()
        .unwrap_or(1);
    let chosen = choose_iris_references(&templates, IRISES_NEEDED.min(fewest));
    let chosen = chosen.map_err(|defects| {
        let swapped = defects
            .iter()
            .any(|defect| matches!(defect, IrisEnrolmentDefect::SameEyeUnderBothNames { .. }));
        if swapped {
            EnrolmentRefusal::SameEyeUnderBothNames
        } else {
            EnrolmentRefusal::InconsistentSamples
        }
    })?;
    let chosen: BTreeSet<usize> = chosen
        .into_iter()
        .filter_map(|place| irises.get(place).map(|(at, _)| *at))
        .collect();
    Ok(samples
        .iter()
        .enumerate()
        .filter(|(at, sample)| sample.probe.template.face().is_some() || chosen.contains(at))
        .map(|(at, _)| at)
        .collect())
}

/// Searches that together use every sample: the first of each modality, then the second, and so on.
fn captures(samples: &[(ModelDigest, Template)]) -> Vec<Captured<'_>> {
    let mut searches: Vec<(Captured<'_>, BTreeSet<&'static str>)> = Vec::new();
    for (model, template) in samples {
        let code = template.modality().code();
        match searches.iter_mut().find(|(_, used)| !used.contains(code)) {
            Some((captured, used)) => {
                *captured = captured.with(*model, template);
                used.insert(code);
            }
            None => searches.push((
                Captured::new().with(*model, template),
                BTreeSet::from([code]),
            )),
        }
    }
    searches.into_iter().map(|(captured, _)| captured).collect()
}

/// The stable name of a refusal, for the log.
pub(crate) const fn refusal_code(reason: EnrolmentRefusal) -> &'static str {
    match reason {
        EnrolmentRefusal::InconsistentSamples => "inconsistent_samples",
        EnrolmentRefusal::SameEyeUnderBothNames => "same_eye_under_both_names",
        EnrolmentRefusal::PossibleDuplicate => "possible_duplicate",
        EnrolmentRefusal::Rejected => "rejected",
    }
}
