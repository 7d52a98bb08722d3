//! The audit log in the database: append-only, signed, and checked at start.

use std::collections::BTreeMap;
use std::path::Path;

use sallyport_server::audit::{self, AuditError};
use sallyport_server::installation;
use sallyport_server::store::Engine;
use sallyport_transparency::{MemoryFiles, verify_export};

use crate::ENGINE;
use crate::common::{Rig, data, dialect, mate};

async fn busy() -> Rig {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    for number in 0..20 {
        gate.pass(&gate.request(rig.transaction(number), mate(1, number)))
            .await;
    }
    audit::publish(&rig.state).await.unwrap().unwrap();
    rig
}

fn files(folder: &Path, below: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(folder, &path, into);
        } else {
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            into.insert(name, std::fs::read(path).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_nodes_and_checkpoints_cannot_be_updated_or_deleted() {
    let rig = busy().await;
    let pool = rig.hand().await;
    for sql in [
        "UPDATE log_entry SET bytes = leaf_hash WHERE idx = 1",
        "DELETE FROM log_entry WHERE idx = 1",
        "UPDATE log_node SET level = 1",
        "DELETE FROM log_node",
        "UPDATE log_checkpoint SET note = ''",
        "DELETE FROM log_checkpoint",
        "UPDATE log_detail SET salt = sealed",
        "DELETE FROM log_detail",
    ] {
        let error = sqlx::query(sql).execute(&pool).await.unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("never") || said.contains("append-only"),
            "{sql}: {error}"
        );
    }
    audit::check(&rig.state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_verifies_and_holds_every_entry() {
    let rig = busy().await;
    let folder = rig.folder.path().join("export");
    let size = audit::export(&rig.state, &folder).await.unwrap();
    let mut map = BTreeMap::new();
    files(&folder, &folder, &mut map);
    let mut seen = 0;
    let verified = verify_export(
        &mut MemoryFiles(map),
        rig.state.keys.log.verifier(),
        |_, _| seen += 1,
    )
    .unwrap();
    assert_eq!((verified.checkpoint.size, seen), (size, size));
    // An existing export is never written over.
    let again = audit::export(&rig.state, &folder).await;
    assert!(matches!(again, Err(AuditError::File { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_again_without_new_entries_signs_nothing() {
    let rig = busy().await;
    assert_eq!(audit::publish(&rig.state).await.unwrap(), None);
    let in_database = rig.state.store.checkpoint().await.unwrap().unwrap();
    let in_file = std::fs::read_to_string(audit::checkpoint_file(&data(&rig.folder))).unwrap();
    assert_eq!(in_database, in_file);
}

/// Somebody with the database drops the triggers and edits: found at the next start.
#[tokio::test(flavor = "multi_thread")]
async fn an_edited_entry_a_removed_entry_and_a_cut_log_are_found_at_start() {
    for (name, sql) in [
        (
            "edited",
            dialect(
                "UPDATE log_entry SET bytes = CAST(REPLACE(CAST(bytes AS TEXT), 'grant', 'refer') AS BLOB) WHERE idx = 12",
                "UPDATE log_entry SET bytes = convert_to(replace(convert_from(bytes, 'UTF8'), 'grant', 'refer'), 'UTF8') \
                 WHERE idx = 12",
            ),
        ),
        (
            "removed",
            sqlx::AssertSqlSafe("DELETE FROM log_entry WHERE idx = 12"),
        ),
        (
            "cut",
            sqlx::AssertSqlSafe("DELETE FROM log_entry WHERE idx > 15"),
        ),
        (
            "node",
            dialect(
                "UPDATE log_node SET hash = zeroblob(32) WHERE level = 4",
                "UPDATE log_node SET hash = decode(repeat('00', 32), 'hex') WHERE level = 4",
            ),
        ),
    ] {
        let rig = busy().await;
        let remains = rig.end().await;
        let pool = remains.hand().await;
        let off: &[&str] = match ENGINE {
            Engine::Sqlite => &[
                "DROP TRIGGER log_entry_keeps",
                "DROP TRIGGER log_entry_stays",
                "DROP TRIGGER log_node_keeps",
                "DROP TRIGGER log_node_stays",
                "PRAGMA foreign_keys = OFF",
            ],
            // Neither triggers nor foreign keys.
            Engine::Postgres => &["SET session_replication_role = replica"],
        };
        for sql in off {
            sqlx::query(*sql).execute(&pool).await.unwrap();
        }
        let done = sqlx::query(sql).execute(&pool).await.unwrap();
        assert!(done.rows_affected() > 0, "{name}");
        pool.close().await;
        let found = match installation::open(&remains.data(), remains.clock.clone()).await {
            Err(error) => format!("{error:#}"),
            Ok(state) => audit::check(&state).await.unwrap_err().to_string(),
        };
        assert!(found.contains("does not start"), "{name}: {found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_folders_and_permissions_are_said_plainly() {
    use std::os::unix::fs::PermissionsExt as _;
    let rig = busy().await;
    let remains = rig.end().await;
    let (folder, clock, data) = (&remains.folder, remains.clock.clone(), remains.data());
    let fault = |result: anyhow::Result<_>| match result {
        Ok(_) => panic!("it opened"),
        Err(error) => format!("{error:#}"),
    };
    let nowhere = fault(installation::open(&folder.path().join("nowhere"), clock.clone()).await);
    assert!(nowhere.contains("sallyport-server init"), "{nowhere}");
    let twice = installation::create(&data, &crate::common::config(0), &*clock)
        .await
        .unwrap_err()
        .to_string();
    assert!(twice.contains("not empty"), "{twice}");

    let key = data.join("registry.key");
    let good = std::fs::read(&key).unwrap();
    assert_eq!(
        std::fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = fault(installation::open(&data, clock.clone()).await);
    assert!(open.contains("chmod 600"), "{open}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();

    let other = format!(
        "sallyport-registry-keys-v2\nprovider file\nminimum 1\nkey 1 {}\n",
        "ab".repeat(32)
    );
    std::fs::write(&key, &other).unwrap();
    let wrong = fault(installation::open(&data, clock.clone()).await);
    assert!(wrong.contains("key file of this database"), "{wrong}");
    assert!(!wrong.contains("abab"), "no key in an error: {wrong}");
    for bad in [
        "sallyport-registry-keys-v2\nprovider file\nminimum 1\n",
        "sallyport-registry-keys-v2\nprovider file\nminimum 1\nkey 1 abcd\n",
        "sallyport-registry-keys-v2\nprovider elsewhere\nminimum 1\nkey 1 00\n",
        "sallyport-registry-keys-v2\nprovider file\nkey 1 00\n",
        "sallyport-registry-keys-v2\nprovider passphrase argon2id m=8 t=1 p=1 salt=00\nminimum 1\nkey 1 00\n",
        "sallyport-registry-key-v1 00\n",
        "",
    ] {
        std::fs::write(&key, bad).unwrap();
        let damaged = fault(installation::open(&data, clock.clone()).await);
        assert!(damaged.contains("restore it"), "{bad}: {damaged}");
    }
    std::fs::write(&key, "garbage").unwrap();
    let damaged = fault(installation::open(&data, clock.clone()).await);
    assert!(damaged.contains("registry.key"), "{damaged}");
    std::fs::write(&key, good).unwrap();

    if ENGINE == Engine::Postgres {
        installation::open(&data, clock).await.unwrap();
        return;
    }
    std::fs::rename(data.join("sallyport.db"), data.join("elsewhere")).unwrap();
    fault(installation::open(&data, clock.clone()).await);
    assert!(
        !data.join("sallyport.db").exists(),
        "a missing database is not replaced by an empty one"
    );
    std::fs::rename(data.join("elsewhere"), data.join("sallyport.db")).unwrap();
    installation::open(&data, clock).await.unwrap();
}
