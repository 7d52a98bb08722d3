//! An officer's answer on its way to the gate.

use sallyport_domain::{OfficerId, ReasonCode, TransactionId, Verdict};
use sallyport_protocol::{DoorOrder, PassageDecision, paths};
use sallyport_server::clock::Clock as _;
use sallyport_server::reviews::{self, ReviewError};

use crate::common::{Answer, Client, Gate, Rig, contains, mate, template};

fn officer() -> OfficerId {
    OfficerId::from_uuid("0190a000-0000-7000-8000-000000000001".parse().unwrap())
}

async fn poll(client: &Client, transaction: TransactionId) -> Answer {
    let path = format!("{}?transaction={transaction}", paths::REVIEW);
    client.send("GET", &path, b"").await.unwrap()
}

async fn referred(rig: &Rig, gate: &Gate, number: u64) -> TransactionId {
    let request = gate.request(rig.transaction(number), template(number + 500));
    let decision = gate.pass(&request).await;
    assert_eq!(decision.verdict, Verdict::Refer);
    request.transaction
}

fn order(decision: &PassageDecision) -> DoorOrder {
    serde_json::from_str(&decision.door_order.as_ref().unwrap().order).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_gate_gets_a_fresh_order_once() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let transaction = referred(&rig, &gate, 1).await;
    let client = gate.client.clone();
    let waiting = tokio::spawn(async move { poll(&client, transaction).await });
    rig.clock.advance_millis(20_000);
    let index = reviews::decide(
        &rig.state,
        transaction,
        officer(),
        Verdict::Grant,
        "Canary reason: known to me",
    )
    .await
    .unwrap();
    let decision: PassageDecision = waiting.await.unwrap().good();
    assert_eq!(
        (decision.verdict, decision.reason, decision.log_index),
        (Verdict::Grant, ReasonCode::OfficerGranted, index)
    );
    let first = order(&decision);
    assert_eq!(first.issued_at, rig.clock.now());
    assert_eq!(first.transaction, transaction);
    // Asked again later: the same order, which has died.
    rig.clock.advance_millis(5_000);
    let again: PassageDecision = poll(&gate.client, transaction).await.good();
    assert_eq!(again, decision);
    // The first answer of the passage itself stays what it was.
    let request = gate.request(rig.transaction(1), template(501));
    assert_ne!(request.transaction, transaction, "a later id");
    // The words are sealed.
    let row = rig.state.store.passage(transaction).await.unwrap().unwrap();
    assert_eq!(
        reviews::reason_text(&rig.state, &row).await.as_deref(),
        Some("Canary reason: known to me")
    );
    for (path, bytes) in rig.end().await.files().await {
        assert!(!contains(&bytes, b"Canary reason"), "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_nobody_fetched_in_a_minute_opens_nothing() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let transaction = referred(&rig, &gate, 1).await;
    reviews::decide(&rig.state, transaction, officer(), Verdict::Grant, "known")
        .await
        .unwrap();
    rig.clock.advance_millis(reviews::FETCH_WITHIN_MS + 1);
    let late: PassageDecision = poll(&gate.client, transaction).await.good();
    assert!(
        order(&late).not_after < rig.clock.now(),
        "the order is void from the start"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_is_made_once_with_a_reason_and_only_where_there_is_something_to_decide() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let back = rig.gate("back-in").await;
    gate.enrol(1).await;
    let transaction = referred(&rig, &gate, 1).await;
    let decide = |verdict, reason: &'static str| {
        let state = rig.state.clone();
        async move { reviews::decide(&state, transaction, officer(), verdict, reason).await }
    };
    assert!(matches!(
        decide(Verdict::Grant, "  ").await,
        Err(ReviewError::BadReason)
    ));
    assert!(matches!(
        decide(Verdict::Refer, "no").await,
        Err(ReviewError::BadVerdict)
    ));
    let (one, two) = tokio::join!(
        decide(Verdict::Refuse, "unknown to me"),
        decide(Verdict::Grant, "known to me")
    );
    assert!(one.is_ok() != two.is_ok(), "one officer is first");
    assert!(matches!(one.and(two), Err(ReviewError::AlreadyDecided)));
    // Another gate learns nothing.
    let answer = poll(&back.client, transaction).await;
    assert_eq!(answer.refused(), (404, "unknown".to_owned()));
    let answer = poll(&gate.client, rig.transaction(99)).await;
    assert_eq!(answer.refused(), (404, "unknown".to_owned()));

    let granted = gate.request(rig.transaction(3), mate(1, 5));
    assert_eq!(gate.pass(&granted).await.verdict, Verdict::Grant);
    assert!(matches!(
        reviews::decide(
            &rig.state,
            granted.transaction,
            officer(),
            Verdict::Refuse,
            "late"
        )
        .await,
        Err(ReviewError::NotReviewable)
    ));
    assert!(matches!(
        reviews::decide(
            &rig.state,
            rig.transaction(98),
            officer(),
            Verdict::Grant,
            "who"
        )
        .await,
        Err(ReviewError::Unknown)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_the_gate_without_an_order() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let transaction = referred(&rig, &gate, 1).await;
    reviews::decide(&rig.state, transaction, officer(), Verdict::Refuse, "no")
        .await
        .unwrap();
    let decision: PassageDecision = poll(&gate.client, transaction).await.good();
    assert_eq!(
        (decision.verdict, decision.reason, decision.door_order),
        (Verdict::Refuse, ReasonCode::OfficerRefused, None)
    );
}
