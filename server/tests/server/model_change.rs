//! A change of models: nobody is lost, nobody gets a reference without proof, and the log knows each.

use sallyport_domain::{
    FaceTemplate, GateId, ModelDigest, PadKind, PadVerdict, PadVote, ReferenceId, TransactionId,
    Verdict,
};
use sallyport_protocol::{
    PROTOCOL_VERSION, Probe, Reencoded, ReencodingOutcome, ReencodingRequest, ReencodingResult,
    ReencodingTask, SuccessorProbes, SuccessorsKept, paths,
};
use sallyport_server::model_change::{self, ChangeError, Plan, Waits};
use sallyport_transparency::Entry;

use crate::common::{Gate, MODEL, Rig, mate, probe, subject, template};
use crate::coverage::picture;

const NEXT: [u8; 32] = [8; 32];

/// The next model sees faces in its own way; people under it have nothing to do with themselves under the first one.
fn next_sample(person: u64, sample: u64) -> FaceTemplate {
    mate(50_000 + person, sample)
}

fn next_probe(template: FaceTemplate) -> Probe {
    Probe {
        model: ModelDigest::from_bytes(NEXT),
        ..probe(template)
    }
}

fn plan(station: Option<&GateId>) -> Plan {
    Plan {
        from: ModelDigest::from_bytes(MODEL),
        to: ModelDigest::from_bytes(NEXT),
        station: station.cloned(),
        reason: "a better model".to_owned(),
    }
}

pub(crate) async fn begin(rig: &Rig, station: Option<&GateId>) -> String {
    model_change::begin(&rig.state, &plan(station), "test")
        .await
        .unwrap()
}

pub(crate) fn after(gate: &Gate, transaction: TransactionId, person: u64) -> SuccessorProbes {
    SuccessorProbes {
        version: PROTOCOL_VERSION,
        transaction,
        gate: gate.id.clone(),
        probes: vec![next_probe(next_sample(person, 7))],
    }
}

pub(crate) async fn next(gate: &Gate) -> Option<ReencodingTask> {
    let request = ReencodingRequest {
        version: PROTOCOL_VERSION,
        station: gate.id.clone(),
        model: ModelDigest::from_bytes(NEXT),
    };
    let answer = gate.client.post(paths::REENCODING, &request).await;
    (answer.status != 204).then(|| answer.good())
}

pub(crate) fn unusable(gate: &Gate, reference: ReferenceId) -> ReencodingResult {
    ReencodingResult {
        version: PROTOCOL_VERSION,
        station: gate.id.clone(),
        reference,
        result: Reencoded::Unusable,
    }
}

fn encoded(
    gate: &Gate,
    task: &ReencodingTask,
    old: FaceTemplate,
    new: FaceTemplate,
) -> ReencodingResult {
    ReencodingResult {
        result: Reencoded::Encoded {
            old: Box::new(probe(old)),
            new: Box::new(next_probe(new)),
        },
        ..unusable(gate, task.reference)
    }
}

async fn send(gate: &Gate, message: &SuccessorProbes) -> Result<u8, u16> {
    let answer = gate.client.post(paths::SUCCESSORS, message).await;
    if answer.status != 200 {
        return Err(answer.status);
    }
    Ok(answer.good::<SuccessorsKept>().kept)
}

async fn last(rig: &Rig) -> Entry {
    let size = rig.state.store.log_size().await.unwrap();
    let rows = rig.state.store.log_entries(size - 1, 1).await.unwrap();
    Entry::from_bytes(&rows[0].1).unwrap()
}

/// The verdict on somebody whom a gate sees with the next model only.
async fn seen_by_next(rig: &Rig, gate: &Gate, number: u64, person: u64) -> Verdict {
    let mut request = gate.request(rig.transaction(number), template(1));
    request.probes = vec![next_probe(next_sample(person, 90 + number))];
    gate.pass(&request).await.verdict
}

async fn left(rig: &Rig) -> Vec<(sallyport_domain::SubjectId, Waits)> {
    let report = model_change::report(&rig.state, "test").await.unwrap();
    let left = &report[0].left;
    left.iter().map(|(who, waits)| (*who, *waits)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_passage_brings_the_new_reference_and_nothing_else_does() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    for person in 1..=3 {
        gate.enrol(person).await;
    }
    let granted = gate.request(rig.transaction(1), mate(1, 9));
    assert_eq!(gate.pass(&granted).await.verdict, Verdict::Grant);
    // No change goes on.
    assert_eq!(
        send(&gate, &after(&gate, granted.transaction, 1)).await,
        Ok(0)
    );
    let change = begin(&rig, None).await;
    assert_eq!(last(&rig).await.decision.as_deref(), Some("begun"));
    let again = model_change::begin(&rig.state, &plan(None), "test").await;
    assert!(matches!(again, Err(ChangeError::GoesOn)), "{again:?}");

    // Referred, unknown, another gate's.
    let referred = gate.request(rig.transaction(2), template(70));
    assert_ne!(gate.pass(&referred).await.verdict, Verdict::Grant);
    assert_eq!(
        send(&gate, &after(&gate, referred.transaction, 1)).await,
        Err(400)
    );
    let unknown = after(&gate, rig.transaction(99), 1);
    assert_eq!(send(&gate, &unknown).await, Err(400));
    let other = rig.gate("side-in").await;
    let foreign = after(&other, granted.transaction, 1);
    assert_eq!(send(&other, &foreign).await, Err(400));

    let size = rig.state.store.log_size().await.unwrap();
    let message = after(&gate, granted.transaction, 1);
    assert_eq!(send(&gate, &message).await, Ok(1));
    let entry = last(&rig).await;
    assert_eq!(entry.kind, "reference_renewed");
    assert_eq!(entry.subject, Some(subject(1).to_string()));
    assert_eq!(entry.about, Some(granted.transaction.to_string()));
    assert_eq!(entry.models, ["07".repeat(32), "08".repeat(32)]);
    assert_eq!(entry.references.len(), 1);
    // A second time, and at a later passage: there is one already.
    assert_eq!(send(&gate, &message).await, Ok(0));
    assert_eq!(rig.state.store.log_size().await.unwrap(), size + 1);

    // Somebody whose samples look, to the next model, like another person's.
    let granted = gate.request(rig.transaction(3), mate(2, 9));
    assert_eq!(gate.pass(&granted).await.verdict, Verdict::Grant);
    assert_eq!(
        send(&gate, &after(&gate, granted.transaction, 1)).await,
        Ok(0)
    );
    assert_eq!(last(&rig).await.kind, "reference_not_renewed");
    // Too late.
    rig.clock.advance_millis(60_001);
    assert_eq!(
        send(&gate, &after(&gate, granted.transaction, 2)).await,
        Err(400)
    );

    // Both models find the person, also after a restart: the log knows the reference.
    assert_eq!(seen_by_next(&rig, &gate, 4, 1).await, Verdict::Grant);
    assert_ne!(seen_by_next(&rig, &gate, 5, 2).await, Verdict::Grant);
    let rig = rig.restart().await;
    let gate = rig.gate("yard-in").await;
    assert_eq!(seen_by_next(&rig, &gate, 6, 1).await, Verdict::Grant);
    let old = gate.request(rig.transaction(7), mate(1, 11));
    assert_eq!(gate.pass(&old).await.verdict, Verdict::Grant);
    assert_eq!(rig.state.store.alarms().await.unwrap().len(), 0);

    // Nobody is forgotten at the end.
    assert_eq!(
        left(&rig).await,
        [2, 3].map(|person| (subject(person), Waits::Passage))
    );
    for leave in [0, 1, 3] {
        let refused = model_change::end(&rig.state, &change, leave, "test").await;
        assert!(
            matches!(refused, Err(ChangeError::PeopleLeft { left: 2 })),
            "{refused:?}"
        );
    }
    let ended = model_change::end(&rig.state, &change, 2, "test").await;
    let ended = ended.unwrap();
    assert_eq!((ended.people, ended.references, ended.left), (1, 2, 2));
    assert_eq!(last(&rig).await.decision.as_deref(), Some("ended"));
    let rows = rig.state.store.references(subject(1)).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].model, "08".repeat(32));
    let old = gate.request(rig.transaction(8), mate(1, 12));
    assert_ne!(gate.pass(&old).await.verdict, Verdict::Grant);
    assert_eq!(seen_by_next(&rig, &gate, 9, 1).await, Verdict::Grant);
    // Who was left behind is found by the old model as before.
    let behind = gate.request(rig.transaction(10), mate(3, 12));
    assert_eq!(gate.pass(&behind).await.verdict, Verdict::Grant);
    let rig = rig.restart().await;
    assert_eq!(rig.state.store.alarms().await.unwrap().len(), 0);
    let gone = model_change::end(&rig.state, &change, 2, "test").await;
    assert!(matches!(gone, Err(ChangeError::Unknown)), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspected_attack_or_a_modality_that_said_nothing_brings_no_reference() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    begin(&rig, None).await;
    let mut request = gate.request(rig.transaction(1), mate(1, 9));
    request.pad.votes.push(PadVote {
        kind: PadKind::FaceTexture,
        verdict: PadVerdict::AttackSuspected,
        reason: "a frame around the face".to_owned(),
    });
    // Whatever the policy makes of that vote.
    let granted = gate.pass(&request).await.verdict == Verdict::Grant;
    let kept = send(&gate, &after(&gate, request.transaction, 1)).await;
    assert_eq!(kept, if granted { Ok(0) } else { Err(400) });
    let rows = rig.state.store.references(subject(1)).await.unwrap();
    assert!(rows.iter().all(|row| row.model == "07".repeat(32)));
}

#[tokio::test(flavor = "multi_thread")]
async fn photographs_are_encoded_again_by_the_named_station_only_and_a_mixed_up_picture_is_not_kept()
 {
    let rig = Rig::start().await;
    let (gate, station) = (rig.gate("front-in").await, rig.gate("desk").await);
    for person in 1..=3 {
        let mut submission = gate.submission(person);
        if person < 3 {
            let who = submission.subject.to_string();
            submission.samples[0].photograph = Some(picture(&rig, &who));
        }
        gate.enrol_as(submission).await;
    }
    let request = ReencodingRequest {
        version: PROTOCOL_VERSION,
        station: station.id.clone(),
        model: ModelDigest::from_bytes(NEXT),
    };
    // Before a change there is nothing to hand out.
    let answer = station.client.post(paths::REENCODING, &request).await;
    assert_eq!(answer.status, 400);
    let change = begin(&rig, Some(&station.id)).await;
    let foreign = ReencodingRequest {
        station: gate.id.clone(),
        ..request.clone()
    };
    let answer = gate.client.post(paths::REENCODING, &foreign).await;
    assert_eq!(answer.status, 400);
    let answer = gate.client.post(paths::REENCODING, &request).await;
    assert_eq!(answer.status, 403);
    let all: Vec<Waits> = left(&rig)
        .await
        .into_iter()
        .map(|(_, waits)| waits)
        .collect();
    assert_eq!(all, [Waits::Photograph, Waits::Photograph, Waits::Passage]);

    let first = next(&station).await.unwrap();
    assert_eq!((first.waiting, first.photograph.as_str()), (2, "anBlZw=="));
    let entry = last(&rig).await;
    assert_eq!(entry.kind, "photograph_to_station");
    assert_eq!(entry.about, Some(first.reference.to_string()));
    let first_of = entry.subject.unwrap();
    // A station that stopped asks again and gets the same.
    assert_eq!(next(&station).await.unwrap(), first);
    let person = (1..=2)
        .find(|person| subject(*person).to_string() == first_of)
        .unwrap();
    let good = encoded(&station, &first, mate(person, 0), next_sample(person, 1));
    let kept: ReencodingOutcome = station.client.post(paths::REENCODED, &good).await.good();
    assert_eq!(kept, ReencodingOutcome::Kept);
    assert_eq!(last(&rig).await.kind, "reference_renewed");
    let size = rig.state.store.log_size().await.unwrap();
    let kept: ReencodingOutcome = station.client.post(paths::REENCODED, &good).await.good();
    assert_eq!(kept, ReencodingOutcome::Kept, "sent twice");
    assert_eq!(rig.state.store.log_size().await.unwrap(), size);
    assert_eq!(seen_by_next(&rig, &gate, 1, person).await, Verdict::Grant);

    // The other person's photograph, but somebody else's face.
    let second = next(&station).await.unwrap();
    assert_eq!(second.waiting, 1);
    let mixed = encoded(&station, &second, mate(77, 0), next_sample(77, 1));
    let kept: ReencodingOutcome = station.client.post(paths::REENCODED, &mixed).await.good();
    assert_eq!(kept, ReencodingOutcome::NotKept);
    let entry = last(&rig).await;
    assert_eq!(
        (entry.kind.as_str(), entry.decision.as_deref()),
        ("reference_not_renewed", Some("another_picture"))
    );
    assert_eq!(next(&station).await, None, "tried once");
    let other = 3 - person;
    let mut expected = [
        (subject(other), Waits::Passage),
        (subject(3), Waits::Passage),
    ];
    expected.sort();
    assert_eq!(left(&rig).await, expected);

    // At the end the photograph goes with the new reference.
    let ended = model_change::end(&rig.state, &change, 2, "test").await;
    ended.unwrap();
    let rows = rig.state.store.references(subject(person)).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert!(rows[0].photograph_sealed.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_somebody_wrote_into_the_database_is_none() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let hand = rig.hand().await;
    sqlx::query(
        "INSERT INTO model_change (id, from_model, to_model, station, begun_at, log_index) VALUES ($1, $2, $3, $4, 0, 0)",
    )
    .bind("forged")
    .bind("07".repeat(32))
    .bind("08".repeat(32))
    .bind("front-in")
    .execute(&hand)
    .await
    .unwrap();
    let granted = gate.request(rig.transaction(1), mate(1, 9));
    assert_eq!(gate.pass(&granted).await.verdict, Verdict::Grant);
    assert_eq!(
        send(&gate, &after(&gate, granted.transaction, 1)).await,
        Ok(0)
    );
    assert_eq!(rig.state.store.alarms().await.unwrap().len(), 1);
    let request = ReencodingRequest {
        version: PROTOCOL_VERSION,
        station: gate.id.clone(),
        model: ModelDigest::from_bytes(NEXT),
    };
    let answer = gate.client.post(paths::REENCODING, &request).await;
    assert_eq!(answer.status, 400);
    // Nor is one that leads elsewhere than the log says.
    sqlx::query("DELETE FROM model_change")
        .execute(&hand)
        .await
        .unwrap();
    let change = begin(&rig, None).await;
    sqlx::query("UPDATE model_change SET station = 'front-in'")
        .execute(&hand)
        .await
        .unwrap();
    let answer = gate.client.post(paths::REENCODING, &request).await;
    assert_eq!(answer.status, 400);
    let ended = model_change::end(&rig.state, &change, 1, "test").await;
    assert!(matches!(ended, Err(ChangeError::Unknown)), "{ended:?}");
}
