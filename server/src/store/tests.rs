//! A full disk, as SQLite reports it: no new page can be had.

use std::sync::Arc;

use sallyport_domain::{
    Direction, FaceTemplate, Modality, ModelDigest, PadAssessment, TransactionId,
};
use sallyport_protocol::{PROTOCOL_VERSION, PassageRequest, Probe, Sealed};
use sqlx::Executor as _;

use crate::clock::{Clock as _, ManualClock, SystemClock};
use crate::config::Config;
use crate::passages::{self, PassageError};
use crate::state::AppState;
use crate::{audit, gates, installation};

/// Sets the most pages that the file may have, on every connection of the pool.
async fn limit_pages(state: &AppState, pages: &'static str) {
    let mut connections = Vec::new();
    for _ in 0..8 {
        let mut connection = state.store.pool.acquire().await.unwrap();
        connection.execute(pages).await.unwrap();
        connections.push(connection);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_grants_nothing_loses_nothing_and_is_over_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let config = Config {
        site: "test-site".parse().unwrap(),
        hostnames: vec!["localhost".to_owned()],
        gate_listen: "127.0.0.1:0".parse().unwrap(),
        console_listen: "127.0.0.1:0".parse().unwrap(),
        database: String::new(),
        utc_offset_minutes: 0,
        cool_off_seconds: 0,
        allow_unlocked_memory: true,
        monitor_listen: None,
        oidc: None,
        officers: crate::config::OfficerRules::FLOOR,
    };
    installation::create(&data, &config, &*clock).await.unwrap();
    let state = installation::open(&data, clock.clone()).await.unwrap();
    let id = "front-in".parse().unwrap();
    gates::add(
        &state,
        &id,
        Direction::Entry,
        &gates::default_policy(),
        "test",
    )
    .await
    .unwrap();
    let gate = state.store.gate(&id).await.unwrap().unwrap();
    let request = |number: u8| PassageRequest {
        version: PROTOCOL_VERSION,
        transaction: TransactionId::new(clock.now(), [number; 10]),
        gate: id.clone(),
        direction: Direction::Entry,
        captured_at: clock.now(),
        claim: None,
        probes: vec![Probe {
            modality: Modality::Face,
            model: ModelDigest::from_bytes([7; 32]),
            template: FaceTemplate::normalise(vec![1.0; 512]).unwrap().into(),
            quality: 50.0,
            samples: 1,
        }],
        pad: PadAssessment::default(),
        people_in_view: 1,
        defects: Vec::new(),
        door_nonce: "0".repeat(32),
        attachment: Some(Sealed {
            media_type: "image/jpeg".to_owned(),
            enc: String::new(),
            ciphertext: "A".repeat(20_000),
        }),
    };
    passages::request(&state, &gate, request(0)).await.unwrap();
    let before = state.store.log_size().await.unwrap();

    // SQLite raises the limit to the present size by itself.
    limit_pages(&state, "PRAGMA max_page_count = 1").await;
    for number in 1..4 {
        let refused = passages::request(&state, &gate, request(number)).await;
        assert!(
            matches!(refused, Err(PassageError::Unavailable(_))),
            "{refused:?}"
        );
    }
    assert_eq!(state.store.log_size().await.unwrap(), before);
    // What was answered before is still answered.
    passages::request(&state, &gate, request(0)).await.unwrap();

    limit_pages(&state, "PRAGMA max_page_count = 1000000").await;
    for number in 1..4 {
        let decision = passages::request(&state, &gate, request(number))
            .await
            .unwrap();
        assert_eq!(decision.log_index, before + u64::from(number) - 1);
    }
    audit::publish(&state).await.unwrap();
    audit::check(&state).await.unwrap();
}
