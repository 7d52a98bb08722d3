//! Entries that somebody appends to the log by hand, tree and all, are not believed.

use sallyport_domain::{Role, SubjectStatus, Verdict};
use sallyport_server::approvals::{Asked, Kind, Pass, pass};
use sallyport_server::{audit, fsck, installation, registry, rights};
use sallyport_transparency::{Entry, append, leaf_hash, needed_for_append};
use sqlx::AnyPool;

use crate::browser::Browser;
use crate::common::{Rig, data, dialect, mate, subject};
use crate::coverage::entries;

/// Appends an entry as somebody does who has the database and no key: with the right hashes and tree nodes, and this code.
async fn by_hand(rig: &Rig, pool: &AnyPool, entry: Entry, code: Option<String>) -> u64 {
    let index = rig.state.store.log_size().await.unwrap();
    let (time, bytes) = (entry.time, entry.to_bytes().unwrap());
    let leaf = leaf_hash(&bytes);
    let nodes = rig.state.store.log_nodes(&needed_for_append(index)).await;
    let new = append(index, leaf, &nodes.unwrap()).unwrap();
    sqlx::query(
        "INSERT INTO log_entry (idx, time, bytes, leaf_hash, code) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(index as i64)
    .bind(time)
    .bind(bytes)
    .bind(leaf.0.to_vec())
    .bind(code)
    .execute(pool)
    .await
    .unwrap();
    for (id, hash) in new {
        sqlx::query("INSERT INTO log_node (level, idx, hash) VALUES ($1, $2, $3)")
            .bind(i64::from(id.level))
            .bind(id.index as i64)
            .bind(hash.0.to_vec())
            .execute(pool)
            .await
            .unwrap();
    }
    index
}

fn entry(rig: &Rig, kind: &str) -> Entry {
    let clock: &dyn sallyport_server::clock::Clock = &*rig.clock;
    audit::entry(kind, clock.now()).unwrap()
}

async fn code_of(pool: &AnyPool, index: u64) -> String {
    let query = sqlx::query_scalar("SELECT code FROM log_entry WHERE idx = $1");
    query.bind(index as i64).fetch_one(pool).await.unwrap()
}

async fn alarms(rig: &Rig) -> usize {
    rights::compare(&rig.state).await.unwrap();
    rig.state.store.alarms().await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_appended_entry_gives_no_role_approves_nothing_and_lifts_no_ban() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let person = gate.enrol(1).await;
    let alex = Browser::signed_in(&rig).await;
    Browser::signed_in_as(&rig, "Sam", Role::Supervisor).await;
    let pool = rig.hand().await;
    let record = "SELECT record_sealed FROM subject WHERE id = $1";
    let record: Vec<u8> = sqlx::query_scalar(record)
        .bind(person.to_string())
        .fetch_one(&pool)
        .await
        .unwrap();
    registry::set_status(&rig.state, person, SubjectStatus::Banned, "test", "trial")
        .await
        .unwrap();
    let of = |name: &'static str| sallyport_server::officers::find(&rig.state, name);
    let (alex_id, sam_id) = (of("Alex").await.unwrap().id, of("Sam").await.unwrap().id);
    let asked = Asked {
        kind: Kind::Removal,
        subject: Some(person),
        officer: None,
        what: "Remove.".to_owned(),
        reason: "trial".to_owned(),
    };
    let Ok(Pass::Waits { request, .. }) = pass(&rig.state, &asked, "test").await else {
        panic!("a supervisor could decide")
    };
    let asked_for = entries(&rig, request).await.remove(0);
    let status = Entry {
        subject: Some(person.to_string()),
        decision: Some("active".to_owned()),
        ..entry(&rig, "subject_status")
    };
    let role = Entry {
        about: Some(alex_id.to_string()),
        decision: Some("supervisor".to_owned()),
        ..entry(&rig, "officer_role")
    };
    let approval = Entry {
        actor: Some(sam_id.to_string()),
        about: Some(request.to_string()),
        subject: Some(person.to_string()),
        decision: Some("removal".to_owned()),
        content: asked_for.content,
        ..entry(&rig, "approval_given")
    };
    // Without a code, with a made-up one, and with another entry's own.
    let stolen = code_of(&pool, request).await;
    let first = by_hand(&rig, &pool, status, None).await;
    by_hand(&rig, &pool, role, Some("0".repeat(64))).await;
    by_hand(&rig, &pool, approval, Some(stolen)).await;
    for (line, value) in [(
        "UPDATE subject SET record_sealed = $1 WHERE id = $2",
        record,
    )] {
        let query = sqlx::query(line).bind(value).bind(person.to_string());
        query.execute(&pool).await.unwrap();
    }
    sqlx::query("UPDATE officer SET role = 'supervisor' WHERE id = $1")
        .bind(alex_id.to_string())
        .execute(&pool)
        .await
        .unwrap();

    let request_of = gate.request(rig.transaction(1), mate(1, 40));
    assert_ne!(gate.pass(&request_of).await.verdict, Verdict::Grant);
    let (status, _) = alex
        .ask("GET", "/approvals", "", "https://localhost:0")
        .await;
    assert_ne!(status, 200);
    let waits = pass(&rig.state, &asked, "test").await;
    assert!(matches!(waits, Ok(Pass::Waits { .. })), "{waits:?}");
    assert!(rig.state.store.subject(subject(1)).await.unwrap().is_some());
    // An alarm for each of the three, beside those about the rows that differ.
    assert!(alarms(&rig).await >= 3);
    let said = rig.state.store.alarms().await.unwrap();
    let told = said
        .iter()
        .filter(|one| one.what.contains("somebody appended it"));
    assert_eq!(told.count(), 3);
    let found = fsck::run(&rig.state, |_, _| ()).await.unwrap_err();
    assert!(
        found
            .to_string()
            .contains(&format!("entry {first} does not carry")),
        "{found}"
    );
    // Neither does another server, or this one after a restart, believe them.
    let rig = rig.restart().await;
    assert_ne!(
        gate_verdict(&rig, &gate).await,
        Verdict::Grant,
        "after a restart"
    );
}

async fn gate_verdict(rig: &Rig, gate: &crate::common::Gate) -> Verdict {
    let row = rig.state.store.gate(&gate.id).await.unwrap().unwrap();
    let request = gate.request(rig.transaction(2), mate(1, 41));
    let decided = sallyport_server::passages::request(&rig.state, &row, request).await;
    decided.unwrap().verdict
}

async fn reopened(rig: &Rig) -> anyhow::Result<()> {
    let state = installation::open(&data(&rig.folder), rig.clock.clone()).await?;
    state.store.close().await;
    Ok(())
}

/// From which entry on there are codes is nobody's to move.
#[tokio::test(flavor = "multi_thread")]
async fn where_codes_begin_is_sealed_and_remembered() {
    let rig = Rig::start().await;
    rig.gate("front-in").await;
    let pool = rig.hand().await;
    reopened(&rig).await.unwrap();
    let file = data(&rig.folder).join("log-codes");
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), "0");
    // The file says another number than the database.
    std::fs::write(&file, "7\n").unwrap();
    let wrong = format!("{:#}", reopened(&rig).await.unwrap_err());
    assert!(wrong.contains("from number 0 on"), "{wrong}");
    std::fs::write(&file, "seven").unwrap();
    assert!(reopened(&rig).await.is_err());
    std::fs::write(&file, "0\n").unwrap();
    // Taken out of the database, with the file and without.
    let take_out = "DELETE FROM setting WHERE name = 'log-codes-from'";
    sqlx::query(take_out).execute(&pool).await.unwrap();
    for keep in [true, false] {
        if !keep {
            std::fs::remove_file(&file).unwrap();
        }
        let wrong = format!("{:#}", reopened(&rig).await.unwrap_err());
        assert!(wrong.contains("does not say any more"), "{wrong}");
    }
    // An installation of before there were codes: from the next entry on.
    let triggers = dialect(
        "DROP TRIGGER log_entry_keeps",
        "ALTER TABLE log_entry DISABLE TRIGGER ALL",
    );
    sqlx::query(triggers).execute(&pool).await.unwrap();
    let without = "UPDATE log_entry SET code = NULL";
    sqlx::query(without).execute(&pool).await.unwrap();
    pool.close().await;
    let size = rig.state.store.log_size().await.unwrap();
    let rig = rig.restart().await;
    let text = std::fs::read_to_string(data(&rig.folder).join("log-codes")).unwrap();
    assert_eq!(text.trim(), size.to_string());
    rig.gate("side").await;
    fsck::run(&rig.state, |_, _| ()).await.unwrap();
    assert_eq!(alarms(&rig).await, 0);
    let pool = rig.hand().await;
    by_hand(&rig, &pool, entry(&rig, "subject_status"), None).await;
    assert_eq!(alarms(&rig).await, 1);
}
