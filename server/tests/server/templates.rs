//! Templates under the installation's secret: nothing as captured is stored or compared, and a new secret needs no new capture.

use std::process::Command;

use sallyport_domain::{Template, Verdict};
use sallyport_server::clock::{Clock as _, SystemClock};
use sallyport_server::keys::{self, Purpose};
use sallyport_server::{audit, registry, templates};

use crate::common::{Gate, Rig, contains, data, mate, subject, template};

const SERVER: &str = env!("CARGO_BIN_EXE_sallyport-server");

async fn verdict(rig: &Rig, gate: &Gate, number: u64, seed: u64) -> Verdict {
    let request = gate.request(rig.transaction(number), mate(seed, 40 + number));
    gate.pass(&request).await.verdict
}

/// Versions of the secrets under which references are, and of those that exist.
async fn versions(rig: &Rig) -> (Vec<u32>, Vec<String>) {
    let mut references = Vec::new();
    for row in rig.state.store.subjects().await.unwrap() {
        let rows = rig.state.store.references(row.id).await.unwrap();
        references.extend(rows.iter().map(|row| row.secret_version));
    }
    let secrets = rig.state.store.template_secrets().await.unwrap();
    (
        references,
        secrets.into_iter().map(|row| row.owner).collect(),
    )
}

/// The template in the database, opened with the subject's key: still not what was captured.
async fn stored(rig: &Rig, seed: u64) -> Vec<u8> {
    let id = subject(seed);
    let key = keys::subject_key(&rig.state, id, Purpose::Registry).await;
    let key = key.unwrap().unwrap();
    let row = rig.state.store.references(id).await.unwrap().remove(0);
    registry::open_template(&rig.state, &key, &row)
        .unwrap()
        .to_vec()
}

fn bytes(template: &Template) -> Vec<u8> {
    let numbers = template.face().unwrap().as_slice();
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_template_is_stored_as_it_was_captured_and_two_installations_store_different_ones() {
    let (one, other) = (Rig::start().await, Rig::start().await);
    let mut opened = Vec::new();
    for rig in [&one, &other] {
        let gate = rig.gate("front-in").await;
        gate.enrol(1).await;
        assert_eq!(verdict(rig, &gate, 1, 1).await, Verdict::Grant);
        assert_eq!(verdict(rig, &gate, 2, 9).await, Verdict::Refer);
        let captured = bytes(&Template::Face(template(1)));
        let stored = stored(rig, 1).await;
        assert_eq!(stored.len(), captured.len());
        // Not one number stands where it stood.
        let same = stored
            .chunks(4)
            .zip(captured.chunks(4))
            .filter(|(a, b)| a == b);
        assert_eq!(same.count(), 0);
        opened.push(stored);
    }
    assert_ne!(opened[0], opened[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_beside_a_running_server_needs_no_capture_and_destroys_the_old_secret() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    for seed in 1..=3 {
        gate.enrol(seed).await;
    }
    assert_eq!(
        versions(&rig).await,
        (vec![1; 6], vec!["templates/1".to_owned()])
    );
    let before = stored(&rig, 1).await;

    // A renewal that stopped after its first step: the new secret is there, and nothing is under it.
    let (_, row) = rig
        .state
        .keys
        .ring
        .new_data_key("templates/2", Purpose::Registry)
        .unwrap();
    let mut write = rig.state.store.write().await.unwrap();
    write.data_key_insert(&row).await.unwrap();
    write.commit().await.unwrap();
    // Who is enrolled now is stored under it, and passes at the server that works in the older one.
    gate.enrol(4).await;
    let (mut references, _) = versions(&rig).await;
    references.sort_unstable();
    assert_eq!(references, [1, 1, 1, 1, 1, 1, 2, 2]);
    assert_eq!(verdict(&rig, &gate, 1, 4).await, Verdict::Grant);

    let output = Command::new(SERVER)
        .args(["registry", "renew-templates", "--data"])
        .arg(data(&rig.folder))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(
        said.contains("6 templates brought under secret 2"),
        "{said}"
    );
    assert_eq!(
        versions(&rig).await,
        (vec![2; 8], vec!["templates/2".to_owned()])
    );
    let after = stored(&rig, 1).await;
    let same = after
        .chunks(4)
        .zip(before.chunks(4))
        .filter(|(a, b)| a == b);
    assert_eq!(same.count(), 0);
    // The running server goes on, also with what it loads anew and enrols.
    gate.enrol(5).await;
    assert_eq!(registry::load(&rig.state).await.unwrap().failed, 0);
    for seed in 1..=5 {
        assert_eq!(verdict(&rig, &gate, 10 + seed, seed).await, Verdict::Grant);
    }
    assert_eq!(verdict(&rig, &gate, 20, 9).await, Verdict::Refer);

    // The command was another process with the real clock; the new start must not find its own clock behind the log.
    let behind = SystemClock.now().millis_since(rig.clock.now());
    rig.clock.advance_millis(behind);
    let rig = rig.restart().await;
    let gate = rig.gate("back-in").await;
    assert_eq!(registry::load(&rig.state).await.unwrap().failed, 0);
    for seed in 1..=5 {
        assert_eq!(verdict(&rig, &gate, 30 + seed, seed).await, Verdict::Grant);
    }
    // Once more, from the newest secret and through the library.
    let done = templates::renew(&rig.state, "test", |_| {}).await.unwrap();
    assert_eq!(
        (done.version, done.references, done.continued),
        (3, 10, false)
    );
    assert_eq!(verdict(&rig, &gate, 40, 2).await, Verdict::Grant);
    // A template that is put back as it was under an older secret is refused, not compared.
    let mut row = rig
        .state
        .store
        .references(subject(1))
        .await
        .unwrap()
        .remove(0);
    let key = keys::subject_key(&rig.state, subject(1), Purpose::Registry).await;
    row.secret_version = 2;
    assert!(registry::open_template(&rig.state, &key.unwrap().unwrap(), &row).is_err());
    audit::check(&rig.state).await.unwrap();
    // What was captured is in no file, sealed or not.
    let captured = bytes(&Template::Face(template(1)));
    let remains = rig.end().await;
    for (path, bytes) in remains.files().await {
        assert!(!contains(&bytes, &captured), "{}", path.display());
    }
}
