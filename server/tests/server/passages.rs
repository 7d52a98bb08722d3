//! Passages over real TLS: decisions, retries, bad input, the clock, and many at once.

use std::collections::BTreeSet;

use crate::common::{Rig, mate, subject, template};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use sallyport_domain::{
    PadPolicy, PadVerdict, QualityDefect, ReasonCode, SubjectStatus, Timestamp, Verdict,
};
use sallyport_protocol::{
    DoorOrder, DoorOutcome, DoorReport, FailedAcquisition, PROTOCOL_VERSION, PassageDecision, paths,
};
use sallyport_server::clock::Clock as _;
use sallyport_server::{audit, passages, registry};
use sallyport_transparency::Entry;

async fn entries(rig: &Rig) -> Vec<Entry> {
    let rows = rig.state.store.log_entries(0, 10_000).await.unwrap();
    rows.iter()
        .map(|(_, bytes)| Entry::from_bytes(bytes).unwrap())
        .collect()
}

async fn count(rig: &Rig, kind: &str) -> usize {
    entries(rig)
        .await
        .iter()
        .filter(|entry| entry.kind == kind)
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mate_is_granted_with_a_signed_order_and_a_stranger_is_referred() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    for seed in 1..=20 {
        gate.enrol(seed).await;
    }
    let request = gate.request(rig.transaction(1), mate(7, 50));
    let decision = gate.pass(&request).await;
    assert_eq!(
        (decision.verdict, decision.reason),
        (Verdict::Grant, ReasonCode::Authorised)
    );
    let signed = decision.door_order.unwrap();
    let key: [u8; 32] = STANDARD
        .decode(&gate.answer.door_key)
        .unwrap()
        .try_into()
        .unwrap();
    let signature: [u8; 64] = STANDARD
        .decode(&signed.signature)
        .unwrap()
        .try_into()
        .unwrap();
    VerifyingKey::from_bytes(&key)
        .unwrap()
        .verify_strict(signed.order.as_bytes(), &Signature::from_bytes(&signature))
        .unwrap();
    let order: DoorOrder = serde_json::from_str(&signed.order).unwrap();
    assert_eq!(order.purpose, DoorOrder::PURPOSE);
    assert_eq!(
        (order.gate, order.transaction, order.nonce),
        (gate.id.clone(), request.transaction, request.door_nonce)
    );
    assert_eq!(order.not_after.millis_since(order.issued_at), 2_000);

    let stranger = gate
        .pass(&gate.request(rig.transaction(2), template(9_999)))
        .await;
    assert_eq!(
        (stranger.verdict, stranger.reason, stranger.door_order),
        (Verdict::Refer, ReasonCode::NotRecognised, None)
    );
    // The entry is where the answer says, and carries neither name nor score.
    let logged = &entries(&rig).await[decision.log_index as usize];
    assert_eq!(logged.kind, "passage");
    assert_eq!(logged.about, Some(request.transaction.to_string()));
    assert_eq!(logged.subject, Some(subject(7).to_string()));
    assert_eq!(logged.decision.as_deref(), Some("grant"));
    assert!(logged.detail_hash.is_some());
    audit::check(&rig.state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_same_answer_and_never_a_fresh_order() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let request = gate.request(rig.transaction(1), mate(1, 9));
    let first = gate.pass(&request).await;
    assert_eq!(first.verdict, Verdict::Grant);
    rig.clock.advance_millis(60_000);
    let again = gate.pass(&request).await;
    assert_eq!(first, again, "byte for byte, so its life ended long ago");
    assert_eq!(count(&rig, "passage").await, 1);

    let mut other = request.clone();
    other.people_in_view = 2;
    let answer = gate.client.post(paths::PASSAGE, &other).await;
    assert_eq!(answer.refused(), (409, "conflict".to_owned()));
    // Another gate cannot fish for the answer either.
    let back = rig.gate("back-in").await;
    let mut stolen = request.clone();
    stolen.gate = back.id.clone();
    let answer = back.client.post(paths::PASSAGE, &stolen).await;
    assert_eq!(answer.refused(), (409, "conflict".to_owned()));

    // After a restart it is still the same.
    let before = gate;
    let rig = rig.restart().await;
    let client = rig.client(Some((
        &before.answer.certificate_pem,
        &before.device.key_pem,
    )));
    let after: PassageDecision = client.post(paths::PASSAGE, &request).await.good();
    assert_eq!(first, after);
    assert_eq!(count(&rig, "passage").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_thirty_times_at_once_is_one_passage() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let request = gate.request(rig.transaction(1), mate(1, 9));
    let tries: Vec<_> = (0..30)
        .map(|_| {
            let (client, request) = (gate.client.clone(), request.clone());
            tokio::spawn(async move {
                client
                    .post(paths::PASSAGE, &request)
                    .await
                    .good::<PassageDecision>()
            })
        })
        .collect();
    let mut answers = BTreeSet::new();
    for one in tries {
        answers.insert(serde_json::to_string(&one.await.unwrap()).unwrap());
    }
    assert_eq!(answers.len(), 1);
    assert_eq!(count(&rig, "passage").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_passages_at_once_are_all_logged_once() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    for seed in 1..=10 {
        gate.enrol(seed).await;
    }
    let tries: Vec<_> = (0..200_u64)
        .map(|number| {
            let request = gate.request(rig.transaction(number), mate(number % 20 + 1, 70));
            let client = gate.client.clone();
            tokio::spawn(async move {
                let decision: PassageDecision = client.post(paths::PASSAGE, &request).await.good();
                (number % 20 < 10, decision)
            })
        })
        .collect();
    let mut indices = BTreeSet::new();
    for one in tries {
        let (enrolled, decision) = one.await.unwrap();
        assert_eq!(decision.verdict == Verdict::Grant, enrolled);
        assert_eq!(decision.door_order.is_some(), enrolled);
        assert!(indices.insert(decision.log_index));
    }
    assert_eq!(indices.len(), 200);
    assert_eq!(count(&rig, "passage").await, 200);
    audit::publish(&rig.state).await.unwrap();
    audit::check(&rig.state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_oversized_and_foreign_messages_are_refused_and_only_that_is_logged() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let before = entries(&rig).await.len();
    let good = gate.request(rig.transaction(1), mate(1, 9));
    let text = serde_json::to_string(&good).unwrap();
    let send = |body: Vec<u8>| {
        let client = gate.client.clone();
        async move { client.send("POST", paths::PASSAGE, &body).await.unwrap() }
    };
    for bad in [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "\u{0}\u{1}".to_owned(),
        text[..text.len() / 2].to_owned(),
        text.replacen("\"claim\"", "\"klaim\"", 1),
        text.replacen('{', "{\"surplus\":1,", 1),
        // A template that is not of unit length, and one that is too short.
        serde_json::to_string(&{
            let mut value = serde_json::to_value(&good).unwrap();
            value["probes"][0]["template"]["face"] = serde_json::json!(vec![1.0_f32; 512]);
            value
        })
        .unwrap(),
        serde_json::to_string(&{
            let mut value = serde_json::to_value(&good).unwrap();
            value["probes"][0]["template"]["face"] = serde_json::json!([1.0]);
            value
        })
        .unwrap(),
    ] {
        assert_eq!(
            send(bad.clone().into_bytes()).await.refused(),
            (400, "malformed".to_owned()),
            "{}",
            &bad[..bad.len().min(60)]
        );
    }
    assert_eq!(
        send(vec![0xff; 10]).await.refused(),
        (400, "malformed".to_owned())
    );
    assert_eq!(
        send(
            text.replacen("\"version\":2", "\"version\":1", 1)
                .into_bytes()
        )
        .await
        .refused(),
        (400, "unsupported_version".to_owned())
    );
    assert_eq!(
        send(vec![b' '; 2 * 1024 * 1024 + 1]).await.refused(),
        (413, "too_large".to_owned())
    );
    let mut wrong = good.clone();
    wrong.door_nonce = "short".to_owned();
    assert_eq!(
        gate.client.post(paths::PASSAGE, &wrong).await.refused(),
        (400, "invalid".to_owned())
    );
    let mut wrong = good.clone();
    wrong.probes.push(wrong.probes[0].clone());
    assert_eq!(
        gate.client.post(paths::PASSAGE, &wrong).await.refused(),
        (400, "malformed".to_owned())
    );
    // One entry for the first refusal of each kind, and nothing else.
    let noted: Vec<_> = entries(&rig)
        .await
        .split_off(before)
        .into_iter()
        .map(|entry| (entry.kind, entry.reason.unwrap()))
        .collect();
    let refused = |code: &str| ("refused".to_owned(), code.to_owned());
    assert_eq!(
        noted,
        ["malformed", "unsupported_version", "too_large", "invalid"].map(refused)
    );
    // After all that the good one still passes.
    assert_eq!(gate.pass(&good).await.verdict, Verdict::Grant);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_doubt_ends_in_refer_or_refuse() {
    let rig = Rig::start_with(600).await;
    let mut strict = crate::common::policy();
    strict.pad = PadPolicy::Required;
    let gate = rig.gate("front-in").await;
    let checked = rig.gate_with("vault-in", &strict).await;
    gate.enrol(1).await;
    let number = std::cell::Cell::new(0);
    let next = || {
        number.set(number.get() + 1);
        rig.transaction(number.get())
    };
    let outcome = |decision: PassageDecision| {
        assert!(decision.door_order.is_none());
        (decision.verdict, decision.reason)
    };
    // Within the cool-off of ten minutes.
    assert_eq!(
        outcome(gate.pass(&gate.request(next(), mate(1, 9))).await),
        (Verdict::Refer, ReasonCode::CoolingOff)
    );
    rig.clock.advance_millis(601_000);
    assert_eq!(
        gate.pass(&gate.request(next(), mate(1, 9))).await.verdict,
        Verdict::Grant
    );
    let mut several = gate.request(next(), mate(1, 9));
    several.people_in_view = 2;
    assert_eq!(
        outcome(gate.pass(&several).await),
        (Verdict::Refer, ReasonCode::SeveralPeople)
    );
    let mut attack = gate.request(next(), mate(1, 9));
    attack.pad.votes[0].verdict = PadVerdict::AttackSuspected;
    assert_eq!(
        outcome(gate.pass(&attack).await),
        (Verdict::Refer, ReasonCode::PresentationAttackSuspected)
    );
    let mut attack = checked.request(next(), mate(1, 9));
    attack.pad.votes[0].verdict = PadVerdict::AttackSuspected;
    assert_eq!(
        outcome(checked.pass(&attack).await),
        (Verdict::Refuse, ReasonCode::PresentationAttackSuspected)
    );
    let mut unchecked = checked.request(next(), mate(1, 9));
    unchecked.pad.votes.clear();
    assert_eq!(
        outcome(checked.pass(&unchecked).await),
        (Verdict::Refer, ReasonCode::PresentationAttackUnchecked)
    );
    let mut nobody = gate.request(next(), mate(1, 9));
    nobody.probes.clear();
    assert_eq!(
        outcome(gate.pass(&nobody).await),
        (Verdict::Refer, ReasonCode::SearchUnavailable)
    );
    let mut other_model = gate.request(next(), mate(1, 9));
    other_model.probes[0].model = sallyport_domain::ModelDigest::from_bytes([8; 32]);
    assert_eq!(
        outcome(gate.pass(&other_model).await),
        (Verdict::Refer, ReasonCode::SearchUnavailable)
    );
    let mut claim = gate.request(next(), mate(1, 9));
    claim.claim = Some(subject(2));
    assert_eq!(
        outcome(gate.pass(&claim).await),
        (Verdict::Refer, ReasonCode::ClaimMismatch)
    );
    registry::set_status(
        &rig.state,
        subject(1),
        SubjectStatus::Banned,
        "test",
        "trial",
    )
    .await
    .unwrap();
    assert_eq!(
        outcome(gate.pass(&gate.request(next(), mate(1, 9))).await),
        (Verdict::Refuse, ReasonCode::Banned)
    );
    registry::remove(&rig.state, subject(1), "test")
        .await
        .unwrap();
    assert_eq!(
        outcome(gate.pass(&gate.request(next(), mate(1, 9))).await),
        (Verdict::Refer, ReasonCode::NotRecognised)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_stepped_back_grants_nothing_until_it_is_right_again() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    rig.clock.advance_millis(10_000);
    assert_eq!(
        gate.pass(&gate.request(rig.transaction(1), mate(1, 1)))
            .await
            .verdict,
        Verdict::Grant
    );
    // Within the tolerance nothing changes.
    rig.clock.advance_millis(-1_000);
    assert_eq!(
        gate.pass(&gate.request(rig.transaction(2), mate(1, 2)))
            .await
            .verdict,
        Verdict::Grant
    );
    rig.clock.advance_millis(-60_000);
    for number in 3..6 {
        let decision = gate
            .pass(&gate.request(rig.transaction(number), mate(1, number)))
            .await;
        assert_eq!(
            (decision.verdict, decision.reason),
            (Verdict::Refer, ReasonCode::ClockUntrusted)
        );
    }
    assert_eq!(
        count(&rig, "clock").await,
        1,
        "said once, not at each passage"
    );
    // A restart does not make the wrong clock right.
    let (certificate, key) = (
        gate.answer.certificate_pem.clone(),
        gate.device.key_pem.clone(),
    );
    let late = gate.request(rig.transaction(7), mate(1, 7));
    let soon = gate.request(rig.transaction(8), mate(1, 8));
    let rig = rig.restart().await;
    let client = rig.client(Some((&certificate, &key)));
    let decision: PassageDecision = client.post(paths::PASSAGE, &late).await.good();
    assert_eq!(decision.reason, ReasonCode::ClockUntrusted);
    rig.clock.advance_millis(61_000);
    let decision: PassageDecision = client.post(paths::PASSAGE, &soon).await.good();
    assert_eq!(decision.verdict, Verdict::Grant);
    audit::check(&rig.state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn door_reports_and_failures_to_acquire_are_logged_once() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let request = gate.request(rig.transaction(1), mate(1, 9));
    gate.pass(&request).await;
    let report = DoorReport {
        version: PROTOCOL_VERSION,
        transaction: request.transaction,
        gate: gate.id.clone(),
        outcome: DoorOutcome::Released,
        at: rig.clock.now(),
        sequence: 1,
    };
    for _ in 0..3 {
        assert_eq!(
            gate.client.post(paths::DOOR_REPORT, &report).await.status,
            204
        );
    }
    let mut other = report.clone();
    other.outcome = DoorOutcome::Fault;
    assert_eq!(
        gate.client.post(paths::DOOR_REPORT, &other).await.refused(),
        (409, "conflict".to_owned())
    );
    let stored = passages::get(&rig.state, request.transaction)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.door_outcome.as_deref(), Some("released"));
    // A release that nobody granted stands out.
    let mut alone = report.clone();
    alone.transaction = rig.transaction(2);
    alone.sequence = 2;
    assert_eq!(
        gate.client.post(paths::DOOR_REPORT, &alone).await.status,
        204
    );

    let failure = FailedAcquisition {
        version: PROTOCOL_VERSION,
        transaction: rig.transaction(3),
        gate: gate.id.clone(),
        direction: sallyport_domain::Direction::Entry,
        began_at: Timestamp::from_micros(1),
        ended_at: Timestamp::from_micros(2),
        defects: vec![QualityDefect::Blurred],
        attachment: None,
    };
    for _ in 0..2 {
        let decision: PassageDecision = gate
            .client
            .post(paths::FAILED_ACQUISITION, &failure)
            .await
            .good();
        assert_eq!(
            (decision.verdict, decision.reason),
            (Verdict::Refuse, ReasonCode::FailureToAcquire)
        );
    }
    let all = entries(&rig).await;
    let doors: Vec<_> = all.iter().filter(|entry| entry.kind == "door").collect();
    assert_eq!(doors.len(), 2);
    assert_eq!(doors[0].reason, None);
    assert_eq!(doors[1].reason.as_deref(), Some("not_granted"));
    assert_eq!(count(&rig, "passage").await, 2);
}
