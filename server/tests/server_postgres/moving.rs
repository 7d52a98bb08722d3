//! An installation that began on SQLite moves to PostgreSQL, log and all.

use std::sync::Arc;

use sallyport_domain::Verdict;
use sallyport_server::clock::{Clock as _, ManualClock, SystemClock};
use sallyport_server::{audit, installation, moving, registry};

use sallyport_server::store::Store;

use crate::common::{Rig, cluster, config, data, mate};

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_moves_from_sqlite_to_postgresql_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = data(&folder);
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    installation::create(&path, &config(0), &*clock)
        .await
        .unwrap();
    let rig = Rig::open(folder, clock.clone(), None).await;
    let gate = rig.gate("front-in").await;
    for seed in 1..=3 {
        gate.enrol(seed).await;
    }
    for number in 0..10 {
        gate.pass(&gate.request(rig.transaction(number), mate(1, number)))
            .await;
    }
    let size = rig.state.store.log_size().await.unwrap();
    let (certificate, key) = (
        gate.answer.certificate_pem.clone(),
        gate.device.key_pem.clone(),
    );
    let database = Arc::new(cluster().database().await);
    let (application, owner) = (database.application(), database.owner());
    let moved = async || {
        moving::migrate_store(&path, &application, &owner, clock.clone(), None, "test").await
    };
    // While a server runs nothing is moved.
    let serving = installation::lock(&path).unwrap();
    let said = format!("{:#}", moved().await.unwrap_err());
    assert!(said.contains("stop it first"), "{said}");
    drop(serving);
    let remains = rig.end().await;

    let copied = moved().await.unwrap();
    assert_eq!(copied.log_size, size);
    assert!(!path.join("sallyport.db").exists() && path.join("sallyport.db.moved").exists());
    let said = format!("{:#}", moved().await.unwrap_err());
    assert!(said.contains("already"), "{said}");
    // A command that was still on the old file cannot write into it any more.
    let old = Store::open(&format!(
        "sqlite:{}",
        path.join("sallyport.db.moved").display()
    ))
    .await
    .unwrap();
    let mut write = old.write().await.unwrap();
    let refused = write
        .log_insert(
            size,
            0,
            b"late".to_vec(),
            sallyport_transparency::Hash([0; 32]),
            "",
            &[],
        )
        .await
        .unwrap_err();
    let said = format!("{:?}", refused);
    assert!(said.contains("moved to PostgreSQL"), "{said}");
    drop(write);
    old.close().await;

    let rig = Rig::open(remains.folder, clock.clone(), Some(database)).await;
    assert_eq!(audit::check(&rig.state).await.unwrap(), size + 1);
    let (_, last) = rig
        .state
        .store
        .log_entries(size, 1)
        .await
        .unwrap()
        .remove(0);
    assert!(crate::common::contains(&last, b"store_moved"));
    assert_eq!(registry::load(&rig.state).await.unwrap().failed, 0);
    let client = rig.client(Some((&certificate, &key)));
    let request = gate.request(rig.transaction(77), mate(2, 77));
    let decision: sallyport_protocol::PassageDecision = client
        .post(sallyport_protocol::paths::PASSAGE, &request)
        .await
        .good();
    assert_eq!(decision.verdict, Verdict::Grant);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_holds_something_is_not_moved_into_and_the_old_one_goes_on() {
    let taken = Rig::start().await;
    let database = taken.database.clone().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = data(&folder);
    let clock = taken.clock.clone();
    installation::create(&path, &config(0), &*clock)
        .await
        .unwrap();
    let done = moving::migrate_store(
        &path,
        &database.application(),
        &database.owner(),
        clock.clone(),
        None,
        "test",
    )
    .await;
    let said = format!("{:#}", done.unwrap_err());
    assert!(said.contains("holds an installation"), "{said}");
    let state = installation::open(&path, clock).await.unwrap();
    audit::check(&state).await.unwrap();
    assert!(state.config.database.is_empty());
    audit::check(&taken.state).await.unwrap();
}
