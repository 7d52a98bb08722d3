//! Backup while people pass, restore on a new machine, and an older state that is not taken for the newest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sallyport_domain::Verdict;
use sallyport_server::backup::{self, Copied, Restore};
use sallyport_server::keys::key_path;
use sallyport_server::{audit, gates, registry};
use tempfile::TempDir;

use crate::common::{Database, Gate, Rig, contains, data, mate, new_server_database, subject};

struct Vault {
    folder: TempDir,
    recipient: String,
}

impl Vault {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recipient = backup::new_custodian(&folder.path().join("custodian")).unwrap();
        Self { folder, recipient }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn backup(&self, rig: &Rig, name: &str) -> Copied {
        let to = [self.recipient.clone()];
        let made = backup::backup(&rig.state, &self.path(name), &to, "test").await;
        made.unwrap()
    }

    /// Restores into a new data folder, or says why not.
    async fn restore(
        &self,
        name: &str,
        checkpoint: Option<&Path>,
        accept_lost_entries: bool,
        rig: &Rig,
    ) -> (TempDir, Option<Arc<Database>>, anyhow::Result<Copied>) {
        let folder = tempfile::tempdir().unwrap();
        let database = new_server_database().await;
        let addresses = database
            .as_ref()
            .map(|database| (database.application(), database.owner()));
        let from = Restore {
            backup: &self.path(name),
            identity: &self.path("custodian"),
            key_file: &self.path("registry.key"),
            secret: None,
            database: addresses.as_ref().map(|(a, b)| (a.as_str(), b.as_str())),
            checkpoint,
            accept_lost_entries,
        };
        let done = backup::restore(&data(&folder), &from, rig.clock.clone(), "test").await;
        (folder, database, done)
    }
}

async fn pass(rig: &Rig, gate: &Gate, number: u64, seed: u64) -> Verdict {
    let client = rig.client(Some((&gate.answer.certificate_pem, &gate.device.key_pem)));
    let request = gate.request(rig.transaction(number), mate(seed, 40 + number));
    let decision: sallyport_protocol::PassageDecision = client
        .post(sallyport_protocol::paths::PASSAGE, &request)
        .await
        .good();
    decision.verdict
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_made_while_people_pass_is_restored_on_a_new_machine_and_works() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    for seed in 1..=3 {
        gate.enrol(seed).await;
    }
    let vault = Vault::new();
    let mut passages = tokio::task::JoinSet::new();
    for number in 0..40 {
        let (client, request) = (
            gate.client.clone(),
            gate.request(rig.transaction(number), mate(1, number)),
        );
        passages.spawn(async move {
            let answer = client
                .post(sallyport_protocol::paths::PASSAGE, &request)
                .await;
            assert_eq!(answer.status, 200);
        });
    }
    let copied = vault.backup(&rig, "monday").await;
    passages.join_all().await;
    // A view of one moment: the log in it is whole, whatever its length.
    assert!(
        copied.log_size >= 6 && copied.rows > copied.log_size,
        "{copied:?}"
    );
    std::fs::copy(key_path(&data(&rig.folder)), vault.path("registry.key")).unwrap();

    // Nothing of it is readable, not even pseudonyms or table names, and it is for its owner only.
    let bytes = std::fs::read(vault.path("monday")).unwrap();
    for plain in ["Canary", "log_entry", "front-in", &subject(1).to_string()] {
        assert!(!contains(&bytes, plain.as_bytes()), "{plain}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(vault.path("monday"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let (folder, database, done) = vault.restore("monday", None, false, &rig).await;
    assert_eq!(done.unwrap(), copied);
    let restored = Rig::open(folder, rig.clock.clone(), database).await;
    assert_eq!(registry::load(&restored.state).await.unwrap().failed, 0);
    let size = audit::check(&restored.state).await.unwrap();
    assert_eq!(size, copied.log_size + 1, "and one entry about the restore");
    assert_eq!(pass(&restored, &gate, 900, 2).await, Verdict::Grant);
    gates::revoke(&restored.state, &gate.id, "test")
        .await
        .unwrap();
    // An existing backup is never written over.
    let to = [vault.recipient.clone()];
    let again = backup::backup(&rig.state, &vault.path("monday"), &to, "test").await;
    assert!(again.is_err());
    assert_eq!(std::fs::read(vault.path("monday")).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_backup_is_detected_and_only_knowingly_accepted() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let vault = Vault::new();
    std::fs::copy(key_path(&data(&rig.folder)), vault.path("registry.key")).unwrap();
    vault.backup(&rig, "old").await;
    assert_eq!(pass(&rig, &gate, 1, 1).await, Verdict::Grant);
    audit::publish(&rig.state).await.unwrap();
    let checkpoint = audit::checkpoint_file(&data(&rig.folder));

    let (folder, _, done) = vault.restore("old", Some(&checkpoint), false, &rig).await;
    let said = format!("{:#}", done.unwrap_err());
    assert!(
        said.contains("does not continue") && said.contains("--accept-lost-entries"),
        "{said}"
    );
    assert!(
        !data(&folder).join("server.toml").exists(),
        "it cannot be served"
    );

    let (folder, database, done) = vault.restore("old", Some(&checkpoint), true, &rig).await;
    done.unwrap();
    let kept = std::fs::read(data(&folder).join("checkpoint.lost")).unwrap();
    assert_eq!(kept, std::fs::read(&checkpoint).unwrap(), "evidence");
    let restored = Rig::open(folder, rig.clock.clone(), database).await;
    let size = audit::check(&restored.state).await.unwrap();
    let (_, last) = restored
        .state
        .store
        .log_entries(size - 1, 1)
        .await
        .unwrap()
        .remove(0);
    assert!(
        contains(&last, b"entries_lost"),
        "{}",
        String::from_utf8_lossy(&last)
    );
    // The newest backup fits the newest checkpoint.
    vault.backup(&rig, "new").await;
    let (_, _, done) = vault.restore("new", Some(&checkpoint), false, &rig).await;
    done.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_cut_and_foreign_backups_leave_nothing_that_can_be_served() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let vault = Vault::new();
    std::fs::copy(key_path(&data(&rig.folder)), vault.path("registry.key")).unwrap();
    vault.backup(&rig, "good").await;
    let good = std::fs::read(vault.path("good")).unwrap();
    let last_block = good.len() / 65_536 * 65_536;
    let mut tried = 0;
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("cut", good[..good.len() - 1].to_vec()),
        ("cut at a block", good[..last_block.max(1)].to_vec()),
        ("half", good[..good.len() / 2].to_vec()),
        ("header", {
            let mut b = good.clone();
            b[30] ^= 1;
            b
        }),
        ("bit", {
            let mut b = good.clone();
            let at = b.len() / 2;
            b[at] ^= 1;
            b
        }),
        ("last bit", {
            let mut b = good.clone();
            let at = b.len() - 1;
            b[at] ^= 1;
            b
        }),
        ("longer", [good.clone(), vec![0; 16]].concat()),
        ("text", b"not a backup\n".to_vec()),
    ] {
        std::fs::write(vault.path("bad"), bytes).unwrap();
        let (folder, _, done) = vault.restore("bad", None, false, &rig).await;
        assert!(done.is_err(), "{name}");
        assert!(!data(&folder).join("server.toml").exists(), "{name}");
        tried += 1;
    }
    assert_eq!(tried, 9);
    // Another custodian, and another installation's key file.
    let other = Vault::new();
    std::fs::copy(vault.path("good"), other.path("good")).unwrap();
    std::fs::copy(vault.path("registry.key"), other.path("registry.key")).unwrap();
    let (_, _, done) = other.restore("good", None, false, &rig).await;
    let said = format!("{:#}", done.unwrap_err());
    assert!(said.contains("custodian"), "{said}");
    let stranger = Rig::start().await;
    std::fs::copy(
        key_path(&data(&stranger.folder)),
        vault.path("registry.key"),
    )
    .unwrap();
    let (folder, _, done) = vault.restore("good", None, false, &rig).await;
    let said = format!("{:#}", done.unwrap_err());
    assert!(said.contains("registry.key"), "{said}");
    assert!(!data(&folder).join("server.toml").exists());
}

/// Erased today, the key rotated and the old one destroyed: yesterday's backup opens for nobody but its custodian, and even he finds
/// no key in it that opens.
#[tokio::test(flavor = "multi_thread")]
async fn after_erasure_and_retirement_the_key_file_does_not_open_yesterdays_backup() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    gate.enrol(2).await;
    let vault = Vault::new();
    vault.backup(&rig, "yesterday").await;
    registry::remove(&rig.state, subject(1), "test")
        .await
        .unwrap();
    sallyport_server::keys::rewrap(&rig.state, "test", |_| {})
        .await
        .unwrap();
    sallyport_server::keys::retire(&rig.state, 1, "test")
        .await
        .unwrap();
    std::fs::copy(key_path(&data(&rig.folder)), vault.path("registry.key")).unwrap();
    let (_, _, done) = vault.restore("yesterday", None, false, &rig).await;
    let said = format!("{:#}", done.unwrap_err());
    assert!(said.contains("replaced by a rotation"), "{said}");
    vault.backup(&rig, "today").await;
    let (folder, database, done) = vault.restore("today", None, false, &rig).await;
    done.unwrap();
    let restored = Rig::open(folder, rig.clock.clone(), database).await;
    assert!(
        restored
            .state
            .store
            .subject(subject(1))
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(pass(&restored, &gate, 5, 2).await, Verdict::Grant);
}
