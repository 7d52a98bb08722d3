//! Irises at the server: enrolled beside the face, searched, fused, logged, and never kept as pictures.

use sallyport_domain::{Eye, IrisTemplate, ModalityPolicy, ModelDigest, ReasonCode, Verdict};
use sallyport_protocol::{
    EnrolmentOutcome, EnrolmentRefusal, EnrolmentSample, EnrolmentSubmission, PassageRequest,
    Probe, Sealed, paths,
};
use sallyport_transparency::Entry;

use crate::common::{Gate, Rig, mate, policy, subject, template};

const ENCODER: [u8; 32] = [9; 32];

fn rings(seed: u64) -> [u128; 64] {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1215;
    let mut word = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(z ^ (z >> 31))
    };
    std::array::from_fn(|_| (word() << 64) | word())
}

/// A sample of an eye: about one bit in eight differs from sample to sample, strangers differ in half.
fn iris(person: u64, eye: Eye, sample: u64) -> IrisTemplate {
    let side = match eye {
        Eye::Left => 1,
        Eye::Right => 2,
    };
    let own = rings(person * 10 + side);
    let noise = (0..4).map(|k| rings(77_000 + person * 1_000 + side * 100 + sample * 10 + k));
    let noise = noise
        .reduce(|a, b| std::array::from_fn(|at| a[at] & b[at]))
        .unwrap();
    let code = std::array::from_fn(|at| own[at] ^ noise[at]);
    IrisTemplate::new(
        ModelDigest::from_bytes(ENCODER),
        eye,
        80,
        400,
        code,
        [u128::MAX; 64],
    )
    .unwrap()
}

fn probe(template: IrisTemplate) -> Probe {
    Probe::new(ModelDigest::from_bytes(ENCODER), template, 80.0, 3).unwrap()
}

fn sample(number: u64, template: IrisTemplate) -> EnrolmentSample {
    EnrolmentSample {
        probe: probe(template),
        source_sha256: format!("{number:064x}"),
        photograph: None,
    }
}

fn submission(gate: &Gate, person: u64, samples: u64) -> EnrolmentSubmission {
    let mut submission = gate.submission(person);
    for eye in Eye::BOTH {
        for number in 0..samples {
            // One near-infrared picture shows both eyes.
            let source = person * 1_000 + 100 + number;
            submission
                .samples
                .push(sample(source, iris(person, eye, number)));
        }
    }
    submission
}

async fn submit(gate: &Gate, submission: &EnrolmentSubmission) -> EnrolmentOutcome {
    gate.client.post(paths::ENROLMENT, submission).await.good()
}

fn refusal(outcome: &EnrolmentOutcome) -> EnrolmentRefusal {
    match outcome {
        EnrolmentOutcome::Refused { reason, .. }
        | EnrolmentOutcome::UnderReview {
            doubt: Some(reason),
            ..
        } => *reason,
        EnrolmentOutcome::UnderReview { doubt: None, .. } | EnrolmentOutcome::Enrolled { .. } => {
            panic!("it was taken without a doubt")
        }
    }
}

fn with_irises(mut request: PassageRequest, person: u64, sample: u64) -> PassageRequest {
    for eye in Eye::BOTH {
        request.probes.push(probe(iris(person, eye, sample)));
    }
    request
}

async fn entry(rig: &Rig, index: u64) -> Entry {
    let rows = rig.state.store.log_entries(0, 10_000).await.unwrap();
    let at = usize::try_from(index).unwrap();
    Entry::from_bytes(&rows[at].1).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn face_and_both_irises_open_the_door_and_the_log_says_what_each_said() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    for person in 1..4 {
        gate.enrol_as(submission(&gate, person, 3)).await;
    }
    let request = with_irises(gate.request(rig.transaction(1), mate(2, 9)), 2, 9);
    let decided = gate.pass(&request).await;
    assert_eq!(
        (decided.verdict, decided.reason),
        (Verdict::Grant, ReasonCode::Authorised)
    );
    let logged = entry(&rig, decided.log_index).await;
    assert_eq!(
        logged.findings,
        [
            "face:identifies",
            "iris_left:identifies",
            "iris_right:identifies"
        ]
    );
    assert_eq!(logged.models.len(), 2, "one face model, one iris encoder");
    let calibration = logged.calibration.unwrap();
    assert!(
        calibration.starts_with("sallyport-default@1:") && calibration.len() > 80,
        "{calibration}"
    );
    assert_eq!(logged.subject, Some(subject(2).to_string()));
    // Irises alone are enough where any modality is, also after a restart.
    let rig = rig.restart().await;
    let gate = rig.gate("side-in").await;
    let mut only = with_irises(gate.request(rig.transaction(2), template(1)), 3, 9);
    only.probes.remove(0);
    assert_eq!(gate.pass(&only).await.verdict, Verdict::Grant);
}

#[tokio::test(flavor = "multi_thread")]
async fn modalities_that_disagree_are_never_granted() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    for person in 1..3 {
        gate.enrol_as(submission(&gate, person, 3)).await;
    }
    // The face of one, the irises of another.
    let request = with_irises(gate.request(rig.transaction(1), mate(1, 9)), 2, 9);
    let decided = gate.pass(&request).await;
    assert_eq!(
        (decided.verdict, decided.reason),
        (Verdict::Refer, ReasonCode::ModalityConflict)
    );
    assert!(decided.door_order.is_none());
    // The face of one, the irises of nobody.
    let request = with_irises(gate.request(rig.transaction(2), mate(1, 9)), 50, 9);
    let decided = gate.pass(&request).await;
    assert_eq!(
        (decided.verdict, decided.reason),
        (Verdict::Refer, ReasonCode::ModalityMismatch)
    );
    let logged = entry(&rig, decided.log_index).await;
    assert_eq!(
        logged.findings,
        ["face:identifies", "iris_left:against", "iris_right:against"]
    );
    // One good iris does not outvote a face that speaks against.
    let mut request = gate.request(rig.transaction(3), template(900));
    request.probes.push(probe(iris(1, Eye::Left, 9)));
    assert_ne!(gate.pass(&request).await.verdict, Verdict::Grant);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gates_policy_says_which_modalities_are_needed() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol_as(submission(&gate, 1, 3)).await;
    let mut both = policy();
    both.modalities = ModalityPolicy::FaceAndIris;
    let strict = rig.gate_with("vault-in", &both).await;
    let face = strict.request(rig.transaction(1), mate(1, 9));
    let decided = strict.pass(&face).await;
    assert_eq!(
        (decided.verdict, decided.reason),
        (Verdict::Refer, ReasonCode::ModalityMissing)
    );
    let all = with_irises(strict.request(rig.transaction(2), mate(1, 9)), 1, 9);
    assert_eq!(strict.pass(&all).await.verdict, Verdict::Grant);
    let mut face_only = policy();
    face_only.modalities = ModalityPolicy::FaceOnly;
    let plain = rig.gate_with("yard-in", &face_only).await;
    // What such a gate sends of an eye is not used, neither for nor against.
    let request = with_irises(plain.request(rig.transaction(3), mate(1, 9)), 50, 9);
    let decided = plain.pass(&request).await;
    assert_eq!(decided.verdict, Verdict::Grant);
    assert_eq!(
        entry(&rig, decided.log_index).await.findings,
        ["face:identifies"]
    );
    let mut eyes = with_irises(plain.request(rig.transaction(4), mate(1, 9)), 1, 9);
    eyes.probes.remove(0);
    assert_eq!(
        plain.pass(&eyes).await.reason,
        ReasonCode::SearchUnavailable
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_that_nobody_is_enrolled_with_finds_nobody() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol_as(submission(&gate, 1, 3)).await;
    let other = iris(1, Eye::Left, 9);
    let other = IrisTemplate::new(
        ModelDigest::from_bytes([8; 32]),
        Eye::Left,
        80,
        400,
        *other.code(),
        *other.mask(),
    )
    .unwrap();
    let mut request = gate.request(rig.transaction(1), mate(1, 9));
    request
        .probes
        .push(Probe::new(ModelDigest::from_bytes([8; 32]), other, 80.0, 1).unwrap());
    let decided = gate.pass(&request).await;
    assert_eq!(
        (decided.verdict, decided.reason),
        (Verdict::Refer, ReasonCode::SearchUnavailable)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn irises_that_do_not_agree_or_stand_under_the_wrong_name_are_refused() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let mut stray = submission(&gate, 1, 2);
    stray.samples.push(sample(5, iris(40, Eye::Left, 0)));
    assert_eq!(
        refusal(&submit(&gate, &stray).await),
        EnrolmentRefusal::InconsistentSamples
    );
    let mut twice = submission(&gate, 1, 0);
    let left = iris(1, Eye::Left, 0);
    twice.samples.push(sample(6, left.clone()));
    twice.samples.push(sample(7, left.under_other_name()));
    assert_eq!(
        refusal(&submit(&gate, &twice).await),
        EnrolmentRefusal::SameEyeUnderBothNames
    );
    let mut no_face = submission(&gate, 1, 3);
    no_face
        .samples
        .retain(|sample| sample.probe.template.face().is_none());
    let refused = gate.client.post(paths::ENROLMENT, &no_face).await.refused();
    assert_eq!(refused, (400, "invalid".to_owned()));
    assert!(rig.state.gallery.read().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_iris_under_a_new_face_and_name_is_a_possible_duplicate_also_swapped() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol_as(submission(&gate, 1, 3)).await;
    let mut disguised = gate.submission(2);
    disguised.samples.push(sample(8, iris(1, Eye::Right, 7)));
    assert_eq!(
        refusal(&submit(&gate, &disguised).await),
        EnrolmentRefusal::PossibleDuplicate
    );
    let mut swapped = gate.submission(3);
    swapped
        .samples
        .push(sample(9, iris(1, Eye::Right, 7).under_other_name()));
    assert_eq!(
        refusal(&submit(&gate, &swapped).await),
        EnrolmentRefusal::PossibleDuplicate
    );
    let other = submit(&gate, &submission(&gate, 4, 3)).await;
    assert!(matches!(
        other,
        EnrolmentOutcome::UnderReview { doubt: None, .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_references_of_each_eye_are_kept_and_never_a_picture_of_one() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let mut five = submission(&gate, 1, 5);
    for sample in &mut five.samples {
        sample.photograph = Some(Sealed {
            media_type: "image/jpeg".to_owned(),
            enc: "AAAA".to_owned(),
            ciphertext: "Q0FOQVJZIFBJQ1RVUkU=".to_owned(),
        });
    }
    gate.enrol_as(five).await;
    let references = rig.state.store.references(subject(1)).await.unwrap();
    let of = |modality: &str| {
        references
            .iter()
            .filter(|one| one.modality == modality)
            .count()
    };
    assert_eq!((of("face"), of("iris_left"), of("iris_right")), (2, 3, 3));
    for reference in &references {
        assert_eq!(
            reference.photograph_sealed.is_some(),
            reference.modality == "face"
        );
    }
    assert_eq!(rig.state.gallery.read().unwrap().len(), 8);
}
