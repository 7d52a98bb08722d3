//! Several servers on one database: one registry, one log, galleries in step.

use std::time::Duration;

use sallyport_domain::{OfficerId, SubjectStatus, Verdict};
use sallyport_protocol::{EnrolmentOutcome, PassageDecision, paths};
use sallyport_server::state::LiveEvent;
use sallyport_server::{audit, registry, reviews};
use sqlx::{Connection as _, PgConnection};

use crate::common::{Gate, Rig, data, mate, subject, template};

/// A second server: its own copy of the data folder, the same database.
async fn replica(rig: &Rig) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(data(&folder)).unwrap();
    for entry in std::fs::read_dir(data(&rig.folder)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), data(&folder).join(entry.file_name())).unwrap();
    }
    Rig::open(folder, rig.clock.clone(), rig.database.clone()).await
}

async fn two() -> (Rig, Rig, Gate) {
    let one = Rig::start().await;
    let other = replica(&one).await;
    one.follow();
    other.follow();
    let gate = one.gate("front-in").await;
    (one, other, gate)
}

/// The same gate, speaking to the other server.
fn at(rig: &Rig, gate: &Gate) -> crate::common::Client {
    rig.client(Some((&gate.answer.certificate_pem, &gate.device.key_pem)))
}

async fn decision(rig: &Rig, gate: &Gate, number: u64, seed: u64) -> PassageDecision {
    let request = gate.request(rig.transaction(number), mate(seed, 40 + number));
    at(rig, gate).post(paths::PASSAGE, &request).await.good()
}

async fn superuser(rig: &Rig) -> PgConnection {
    let address = rig.database.as_ref().unwrap().superuser();
    PgConnection::connect(&address).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_enrols_suspends_or_removes_the_other_knows() {
    let (one, other, gate) = two().await;
    gate.enrol(1).await;
    gate.enrol(2).await;
    other.caught_up().await;
    assert_eq!(other.state.gallery.read().unwrap().len(), 4);
    let verdict = async |number, seed| decision(&other, &gate, number, seed).await.verdict;
    assert_eq!(verdict(1, 1).await, Verdict::Grant);
    registry::set_status(
        &one.state,
        subject(1),
        SubjectStatus::Suspended,
        "test",
        "trial",
    )
    .await
    .unwrap();
    assert_ne!(verdict(2, 1).await, Verdict::Grant);
    registry::remove(&one.state, subject(2), "test")
        .await
        .unwrap();
    other.caught_up().await;
    assert_eq!(other.state.gallery.read().unwrap().len(), 2);
    assert_ne!(verdict(3, 2).await, Verdict::Grant);
}

/// Connections are cut again and again while the registry changes; afterwards nothing is missing and nothing is left over.
#[tokio::test(flavor = "multi_thread")]
async fn galleries_are_in_step_after_connections_were_killed() {
    let (one, other, gate) = two().await;
    let mut hand = superuser(&one).await;
    let mut killed = 0;
    for seed in 1..=12 {
        gate.enrol(seed).await;
        if seed % 3 == 0 {
            registry::remove(&one.state, subject(seed - 1), "test")
                .await
                .unwrap();
        }
        // Every connection of the other server, its listener among them.
        let rows = sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
             AND application_name = $1 OR (datname = current_database() AND query LIKE 'LISTEN%')",
        )
        .bind(other.state.store.name())
        .fetch_all(&mut hand)
        .await
        .unwrap();
        killed += rows.len();
    }
    // How many there are just then depends on how fast the other server connects again.
    assert!(killed > 0);
    one.caught_up().await;
    other.caught_up().await;
    let count = |rig: &Rig| rig.state.gallery.read().unwrap().len();
    assert_eq!((count(&one), count(&other)), (16, 16));
    for (number, seed) in (1..=12).enumerate() {
        let expected = if seed % 3 == 2 {
            Verdict::Refer
        } else {
            Verdict::Grant
        };
        let found = decision(&other, &gate, 100 + number as u64, seed).await;
        assert_eq!(found.verdict, expected, "{seed}");
    }
    audit::check(&one.state).await.unwrap();
    audit::check(&other.state).await.unwrap();
}

/// The same face, sent to both servers at once under two ids: one of them is told that it is a duplicate.
#[tokio::test(flavor = "multi_thread")]
async fn one_person_sent_to_two_servers_at_once_is_doubtful_once() {
    let (one, other, gate) = two().await;
    for seed in 1..=8 {
        let first = gate.submission(seed);
        let mut second = gate.submission(seed + 500);
        for (sample, number) in second.samples.iter_mut().zip(60..) {
            sample.probe = crate::common::probe(mate(seed, number));
        }
        let (here, there) = (at(&one, &gate), at(&other, &gate));
        let (first, second) = tokio::join!(
            here.post(paths::ENROLMENT, &first),
            there.post(paths::ENROLMENT, &second)
        );
        let certain = [first, second]
            .into_iter()
            .filter(|answer| {
                let outcome: EnrolmentOutcome = serde_json::from_slice(&answer.body).unwrap();
                matches!(outcome, EnrolmentOutcome::UnderReview { doubt: None, .. })
            })
            .count();
        assert_eq!(certain, 1, "{seed}");
    }
    let count: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM enrolment WHERE state = 'under_review'")
            .fetch_one(&mut superuser(&one).await)
            .await
            .unwrap();
    assert_eq!(count, 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_write_one_log_without_gaps() {
    let (one, other, gate) = two().await;
    let before = one.state.store.log_size().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..60 {
        let rig = if number % 2 == 0 { &one } else { &other };
        let (client, request) = (
            at(rig, &gate),
            gate.request(rig.transaction(number), template(900 + number)),
        );
        tasks.spawn(async move {
            let decision: PassageDecision = client.post(paths::PASSAGE, &request).await.good();
            decision.log_index
        });
    }
    let mut indexes = tasks.join_all().await;
    indexes.sort_unstable();
    let expected: Vec<u64> = (before..before + 60).collect();
    assert_eq!(indexes, expected);
    for rig in [&one, &other, &one] {
        audit::publish(&rig.state).await.unwrap();
        assert_eq!(audit::check(&rig.state).await.unwrap(), before + 60);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passage_here_shows_on_the_pages_there_and_a_review_there_opens_here() {
    let (one, other, gate) = two().await;
    gate.enrol(1).await;
    other.caught_up().await;
    let mut shown = other.state.live.subscribe();
    let request = gate.request(one.transaction(1), template(700));
    let decided = gate.pass(&request).await;
    assert_eq!(decided.verdict, Verdict::Refer);
    let event = tokio::time::timeout(Duration::from_secs(30), shown.recv())
        .await
        .expect("it is told")
        .unwrap();
    assert_eq!(event, LiveEvent::Passage(request.transaction));
    let woken = one.state.reviewed.notified();
    tokio::pin!(woken);
    woken.as_mut().enable();
    let officer = OfficerId::from_uuid("0190a000-0000-7000-8000-000000000001".parse().unwrap());
    reviews::decide(
        &other.state,
        request.transaction,
        officer,
        Verdict::Refuse,
        "not expected",
    )
    .await
    .unwrap();
    tokio::time::timeout(Duration::from_secs(30), woken)
        .await
        .expect("the waiting gate is woken");
}
