//! Promises: kept by a passage, missed by clock, late for ever.

use sallyport_domain::{GateId, Timestamp, Verdict};
use sallyport_server::clock::Clock as _;
use sallyport_server::promises::{self, Kind, PromiseError};
use sallyport_transparency::Entry;

use crate::common::{Gate, Rig, mate, subject, template};

const MINUTE: i64 = 60_000;

async fn rig() -> (Rig, Gate) {
    let rig = Rig::start().await;
    let gate = rig.gate("wing-b").await;
    gate.enrol(1).await;
    gate.enrol(2).await;
    (rig, gate)
}

fn window(rig: &Rig, from: i64, until: i64) -> (Timestamp, Timestamp) {
    let now = rig.clock.now();
    (
        now.plus_millis(from * MINUTE),
        now.plus_millis(until * MINUTE),
    )
}

async fn round(rig: &Rig, gate: &Gate, from: i64, until: i64) -> String {
    promises::make(
        &rig.state,
        Kind::Round,
        Some(gate.id.clone()),
        Some(subject(1)),
        window(rig, from, until),
        "test",
    )
    .await
    .unwrap()
}

/// Kinds of the entries about this promise.
async fn told(rig: &Rig, id: &str) -> Vec<String> {
    let rows = rig.state.store.log_entries(0, 1_000).await.unwrap();
    rows.iter()
        .map(|(_, bytes)| Entry::from_bytes(bytes).unwrap())
        .filter(|entry| entry.about.as_deref() == Some(id))
        .map(|entry| entry.kind)
        .collect()
}

async fn pass(rig: &Rig, gate: &Gate, number: u64, person: u64) -> Verdict {
    let request = gate.request(rig.transaction(number), mate(person, 7));
    gate.pass(&request).await.verdict
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_is_kept_by_the_persons_own_granted_passage_in_its_window_only() {
    let (rig, gate) = rig().await;
    let other = rig.gate("wing-c").await;
    let id = round(&rig, &gate, 10, 20).await;
    // Too early, at another gate, by somebody else, and by nobody known.
    assert_eq!(pass(&rig, &gate, 1, 1).await, Verdict::Grant);
    rig.clock.advance_millis(12 * MINUTE);
    assert_eq!(pass(&rig, &other, 2, 1).await, Verdict::Grant);
    assert_eq!(pass(&rig, &gate, 3, 2).await, Verdict::Grant);
    gate.pass(&gate.request(rig.transaction(4), template(99)))
        .await;
    promises::look(&rig.state).await.unwrap();
    assert_eq!(told(&rig, &id).await, ["promise_made"]);
    assert_eq!(pass(&rig, &gate, 5, 1).await, Verdict::Grant);
    // Once is enough.
    assert_eq!(pass(&rig, &gate, 6, 1).await, Verdict::Grant);
    rig.clock.advance_millis(20 * MINUTE);
    promises::look(&rig.state).await.unwrap();
    assert_eq!(told(&rig, &id).await, ["promise_made", "promise_kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missed_is_an_entry_by_clock_once_and_late_for_ever() {
    let (rig, gate) = rig().await;
    let id = round(&rig, &gate, 0, 10).await;
    rig.clock.advance_millis(10 * MINUTE);
    promises::look(&rig.state).await.unwrap();
    assert_eq!(told(&rig, &id).await, ["promise_made"], "the last moment");
    rig.clock.advance_millis(1);
    // Also when two servers look, and after a restart.
    promises::look(&rig.state).await.unwrap();
    promises::look(&rig.state).await.unwrap();
    assert_eq!(told(&rig, &id).await, ["promise_made", "promise_missed"]);
    assert_eq!(pass(&rig, &gate, 1, 1).await, Verdict::Grant);
    let all = ["promise_made", "promise_missed", "promise_late"];
    assert_eq!(told(&rig, &id).await, all);
    let kept = rig.state.store.promise(&id).await.unwrap().unwrap();
    assert!(kept.missed && kept.kept_at.is_some());
    // Between the end of the window and the clock's look: late all the same, and missed first.
    let id = round(&rig, &gate, 0, 10).await;
    rig.clock.advance_millis(11 * MINUTE);
    assert_eq!(pass(&rig, &gate, 2, 1).await, Verdict::Grant);
    promises::look(&rig.state).await.unwrap();
    assert_eq!(told(&rig, &id).await, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_reported_by_hand_and_rounds_never() {
    let (rig, gate) = rig().await;
    let make = async |kind, gate: Option<GateId>, from, until| {
        promises::make(
            &rig.state,
            kind,
            gate,
            None,
            window(&rig, from, until),
            "test",
        )
        .await
    };
    let count = make(Kind::Count, None, 0, 5).await.unwrap();
    assert!(!promises::keep(&rig.state, &count, "test").await.unwrap());
    assert!(matches!(
        promises::keep(&rig.state, &count, "test").await,
        Err(PromiseError::Kept)
    ));
    let late = make(Kind::Deletion, None, 0, 5).await.unwrap();
    rig.clock.advance_millis(6 * MINUTE);
    promises::look(&rig.state).await.unwrap();
    assert!(promises::keep(&rig.state, &late, "test").await.unwrap());
    assert_eq!(
        told(&rig, &late).await,
        ["promise_made", "promise_missed", "promise_late"]
    );
    let by_hand = round(&rig, &gate, 0, 5).await;
    assert!(matches!(
        promises::keep(&rig.state, &by_hand, "test").await,
        Err(PromiseError::ByHand)
    ));
    let early = make(Kind::Review, None, 3, 5).await.unwrap();
    assert!(matches!(
        promises::keep(&rig.state, &early, "test").await,
        Err(PromiseError::Early)
    ));
    assert!(matches!(
        promises::keep(&rig.state, "nothing", "test").await,
        Err(PromiseError::Unknown)
    ));
    for (kind, gate, from, until, expected) in [
        (Kind::Count, None, 5, 5, "close after"),
        (Kind::Count, None, -9, -1, "in the past"),
        (Kind::Round, None, 0, 5, "needs a gate"),
        (
            Kind::Count,
            Some("nowhere".parse().unwrap()),
            0,
            5,
            "no gate",
        ),
    ] {
        let error = make(kind, gate, from, until).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
