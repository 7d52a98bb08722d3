//! Doors freed through the console: the order first, the log after; a gate that is silent gets none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Verifier as _;
use sallyport_domain::Role;
use sallyport_protocol::{
    Heartbeat, HeartbeatAnswer, PROTOCOL_VERSION, ReleaseAction, ReleaseOrder, paths,
};
use sallyport_server::clock::Clock as _;
use sallyport_server::release_orders;
use sallyport_transparency::Entry;
use sqlx::AssertSqlSafe;

use crate::browser::{Browser, csrf};
use crate::common::{Gate, Rig};
use crate::gate_events;

async fn rename(rig: &Rig, from: &str, to: &str) {
    sqlx::query(AssertSqlSafe(format!("ALTER TABLE {from} RENAME TO {to}")))
        .execute(&rig.hand().await)
        .await
        .unwrap();
}

async fn beat(rig: &Rig, gate: &Gate, camera: &str) -> HeartbeatAnswer {
    let beat = Heartbeat {
        version: PROTOCOL_VERSION,
        gate: gate.id.clone(),
        now: rig.clock.now(),
        cameras: vec![("face".to_owned(), camera.to_owned())],
        spooled: 0,
        log: None,
    };
    gate.client.post(paths::HEARTBEAT, &beat).await.good()
}

/// The order in a heartbeat's answer, if the server signed it.
async fn fetched(rig: &Rig, gate: &Gate, camera: &str) -> Option<ReleaseOrder> {
    let signed = beat(rig, gate, camera).await.release?;
    let signature = STANDARD.decode(&signed.signature).unwrap();
    let signature = ed25519_dalek::Signature::from_slice(&signature).unwrap();
    let key = rig.state.keys.door.verifying_key();
    key.verify(signed.order.as_bytes(), &signature).unwrap();
    Some(serde_json::from_str(&signed.order).unwrap())
}

/// `decision reason` of the entries of orders.
async fn ordered(rig: &Rig) -> Vec<String> {
    let rows = rig.state.store.log_entries(0, 1_000).await.unwrap();
    rows.iter()
        .map(|(_, bytes)| Entry::from_bytes(bytes).unwrap())
        .filter(|entry| entry.kind == "life_safety_order")
        .map(|entry| {
            assert!(entry.actor.is_some() && entry.detail_hash.is_some());
            let reason = entry.reason.unwrap();
            let reason = reason.split(' ').next().unwrap();
            format!("{} {reason}", entry.decision.unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_frees_the_doors_and_ends_it_and_a_silent_gate_is_said() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let officer = Browser::signed_in_as(&rig, "Alex", Role::GateOfficer).await;
    let token = csrf(&officer.get("/").await);
    let (status, _) = officer
        .post(
            "/release/front-in",
            &format!("csrf={token}&action=free&reason=fire"),
        )
        .await;
    assert_eq!(status, 403, "not the role");
    let browser = Browser::signed_in_as(&rig, "Sam", Role::Supervisor).await;
    let page = browser.get("/release").await;
    assert!(page.contains("Obey grants"), "{page}");
    let post = async |action: &str, reason: &str| {
        let token = csrf(&browser.get("/release").await);
        let form = format!("csrf={token}&action={action}&reason={reason}");
        browser.post("/release/front-in", &form).await
    };
    // Nobody has heard of the gate for a while.
    beat(&rig, &gate, "ok").await;
    rig.clock.advance_millis(20_000);
    let (status, page) = post("free", "smoke").await;
    assert_eq!(status, 409);
    assert!(page.contains("NOTHING WAS FREED"), "{page}");
    assert_eq!(fetched(&rig, &gate, "ok").await, None, "nor later");
    assert_eq!(post("free", "").await.0, 400, "no reason");
    assert_eq!(ordered(&rig).await, ["free gate_silent"]);

    assert_eq!(post("free", "smoke").await.0, 303);
    let order = fetched(&rig, &gate, "ok").await.unwrap();
    assert_eq!(
        (order.action, order.reason.as_str()),
        (ReleaseAction::Free, "smoke")
    );
    assert_eq!(order.gate, gate.id);
    assert_eq!(
        fetched(&rig, &gate, "ok").await,
        Some(order.clone()),
        "an answer may be lost"
    );
    let page = browser.get("/release").await;
    assert!(page.contains("the gate has not confirmed it yet"), "{page}");
    // The gate's own word.
    let mut journal = gate_events::Journal::new(&gate, 1);
    let release = rig.transaction(1);
    gate_events::freed_by_console(&rig, &gate, &mut journal, release).await;
    let page = browser.get("/release").await;
    assert!(
        page.contains("Free since") && page.contains("supervisor through the console"),
        "{page}"
    );
    assert!(
        page.contains("the doors of gate front-in are free"),
        "the banner"
    );
    rig.clock.advance_millis(31_000);
    assert_eq!(fetched(&rig, &gate, "ok").await, None, "void by now");

    assert_eq!(post("end", "over").await.0, 303);
    let end = fetched(&rig, &gate, "ok").await.unwrap();
    assert_eq!(end.action, ReleaseAction::End);
    assert!(end.issued_at > order.issued_at);
    let page = browser.get("/release").await;
    assert!(page.contains("The end was ordered"), "{page}");
    gate_events::restored(&rig, &gate, &mut journal, release).await;
    let page = browser.get("/release").await;
    assert!(
        page.contains("Obey grants") && !page.contains("was ordered"),
        "{page}"
    );
    assert_eq!(
        ordered(&rig).await,
        ["free gate_silent", "free sent", "end sent"]
    );
    // Not without having proved lately to be there.
    rig.clock.advance_millis(6 * 60_000);
    beat(&rig, &gate, "ok").await;
    let page = browser.get("/release").await;
    assert!(!page.contains("<button class=\"danger\""), "{page}");
    assert_eq!(post("free", "smoke").await.0, 403);
    assert_eq!(fetched(&rig, &gate, "ok").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_holds_up_no_release_and_gets_its_entry_later() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let browser = Browser::signed_in_as(&rig, "Sam", Role::Supervisor).await;
    beat(&rig, &gate, "ok").await;
    let token = csrf(&browser.get("/release").await);
    rename(&rig, "log_entry", "log_gone").await;
    let form = format!("csrf={token}&action=free&reason=smoke");
    let (status, page) = browser.post("/release/front-in", &form).await;
    assert_eq!(status, 503);
    assert!(page.contains("The order went out"), "{page}");
    // This heartbeat has a change of its cameras to log, which fails; the order comes all the same.
    let order = fetched(&rig, &gate, "broken").await.unwrap();
    assert_eq!(order.action, ReleaseAction::Free);
    release_orders::catch_up(&rig.state).await;
    rename(&rig, "log_gone", "log_entry").await;
    assert!(ordered(&rig).await.is_empty());
    for _ in 0..2 {
        release_orders::catch_up(&rig.state).await;
        assert_eq!(ordered(&rig).await, ["free sent_at"]);
    }
}
