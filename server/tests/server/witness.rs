//! Gates watch the log: what they are shown, their cosignatures, and the alarm when somebody with the database changed the past.

use sallyport_protocol::{Heartbeat, HeartbeatAnswer, LogAlarm, LogSeen, PROTOCOL_VERSION, paths};
use sallyport_server::clock::Clock as _;
use sallyport_server::store::Engine;
use sallyport_server::{audit, fsck, witness};
use sallyport_transparency::{
    Checkpoint, Cosigner, CosignerKey, Entry, Hash, LogFault, Note, VerifierKey, watch,
};
use sqlx::AnyPool;

use crate::ENGINE;
use crate::common::{Gate, Rig, dialect, mate};

/// A gate's memory of the log, judged with the code that the agent uses.
struct Watcher {
    cosigner: Cosigner,
    log: VerifierKey,
    latest: Option<Checkpoint>,
    cosignature: Option<String>,
}

impl Watcher {
    fn new(gate: &Gate) -> Self {
        let log = VerifierKey::parse(&gate.answer.log_vkey).unwrap();
        let name = witness::gate_witness_name(log.name(), &gate.id);
        Self {
            cosigner: Cosigner::new(&name, &[gate.id.as_str().len() as u8; 32]).unwrap(),
            log,
            latest: None,
            cosignature: None,
        }
    }

    fn message(&self, rig: &Rig, gate: &Gate) -> Heartbeat {
        Heartbeat {
            version: PROTOCOL_VERSION,
            gate: gate.id.clone(),
            now: rig.clock.now(),
            cameras: Vec::new(),
            spooled: 0,
            log: Some(LogSeen {
                size: self.latest.as_ref().map_or(0, |latest| latest.size),
                witness: self.cosigner.verifier().to_string(),
                cosignature: self.cosignature.clone(),
                alarm: None,
            }),
        }
    }

    /// One heartbeat; the gate keeps and cosigns what continues its memory.
    async fn beat(&mut self, rig: &Rig, gate: &Gate) -> (HeartbeatAnswer, Result<(), LogFault>) {
        let answer: HeartbeatAnswer = gate
            .client
            .post(paths::HEARTBEAT, &self.message(rig, gate))
            .await
            .good();
        let proof: Vec<Hash> = answer
            .proof
            .iter()
            .map(|hash| Hash::from_base64(hash).unwrap())
            .collect();
        let judged = watch(
            &self.log,
            self.latest.as_ref(),
            answer.checkpoint.as_deref(),
            &proof,
        );
        let verdict = judged.map(|accepted| {
            if let Some(accepted) = accepted {
                self.cosignature = Some(accepted.cosign(&self.cosigner, 1_700_000_000));
                self.latest = Some(accepted.checkpoint().clone());
            }
        });
        (answer, verdict)
    }
}

async fn busy(rig: &Rig, gate: &Gate, from: u64, to: u64) {
    for number in from..to {
        gate.pass(&gate.request(rig.transaction(number), mate(1, number)))
            .await;
    }
}

/// The whole log as somebody with the database can leave it: no triggers, no foreign keys.
pub(crate) async fn unprotected(rig: &Rig) -> AnyPool {
    let pool = rig.hand().await;
    let off: &[&str] = match ENGINE {
        Engine::Sqlite => &[
            "DROP TRIGGER log_entry_keeps",
            "DROP TRIGGER log_entry_stays",
            "DROP TRIGGER log_node_keeps",
            "DROP TRIGGER log_node_stays",
            "DROP TRIGGER log_checkpoint_keeps",
            "DROP TRIGGER log_checkpoint_stays",
            "DROP TRIGGER log_detail_keeps",
            "DROP TRIGGER log_detail_stays",
            "PRAGMA foreign_keys = OFF",
        ],
        Engine::Postgres => &["SET session_replication_role = replica"],
    };
    for sql in off {
        sqlx::query(*sql).execute(&pool).await.unwrap();
    }
    pool
}

/// Cuts the log back to `size` entries, as an old copy of the database would show it.
async fn cut(pool: &AnyPool, size: i64) {
    for sql in [
        "DELETE FROM log_detail WHERE idx >= $1",
        "DELETE FROM log_entry WHERE idx >= $1",
        "DELETE FROM log_checkpoint WHERE size > $1",
    ] {
        sqlx::query(sql).bind(size).execute(pool).await.unwrap();
    }
    for level in 0..40_i64 {
        sqlx::query("DELETE FROM log_node WHERE level = $1 AND idx >= $2")
            .bind(level)
            .bind(size >> level)
            .execute(pool)
            .await
            .unwrap();
    }
}

/// Writes another text into entry `index` and makes the whole tree anew: an edit by somebody who knows the format.
async fn rewrite(pool: &AnyPool, index: i64) {
    use sqlx::Row as _;
    let rows = sqlx::query("SELECT idx, bytes FROM log_entry ORDER BY idx")
        .fetch_all(pool)
        .await
        .unwrap();
    sqlx::query("DELETE FROM log_node")
        .execute(pool)
        .await
        .unwrap();
    let mut tree = sallyport_transparency::CompactTree::default();
    for row in rows {
        let at: i64 = row.get(0);
        let mut bytes: Vec<u8> = row.get(1);
        if at == index {
            let mut entry = Entry::from_bytes(&bytes).unwrap();
            entry.decision = Some("refuse".to_owned());
            bytes = entry.to_bytes().unwrap();
            sqlx::query("UPDATE log_entry SET bytes = $1, leaf_hash = $2 WHERE idx = $3")
                .bind(bytes.clone())
                .bind(sallyport_transparency::leaf_hash(&bytes).0.to_vec())
                .bind(at)
                .execute(pool)
                .await
                .unwrap();
        }
        let mut nodes = Vec::new();
        tree.push(&bytes, |id, hash| nodes.push((id, hash)));
        for (id, hash) in nodes {
            sqlx::query("INSERT INTO log_node (level, idx, hash) VALUES ($1, $2, $3)")
                .bind(i64::from(id.level))
                .bind(id.index as i64)
                .bind(hash.0.to_vec())
                .execute(pool)
                .await
                .unwrap();
        }
    }
}

/// Two gates that have seen and cosigned the log.
async fn watched() -> (Rig, [(Gate, Watcher); 2]) {
    let rig = Rig::start().await;
    let (front, back) = (rig.gate("front-in").await, rig.gate("back-out").await);
    front.enrol(1).await;
    busy(&rig, &front, 0, 10).await;
    witness::publish(&rig.state).await.unwrap();
    let mut gates = [front, back].map(|gate| {
        let watcher = Watcher::new(&gate);
        (gate, watcher)
    });
    for (gate, watcher) in &mut gates {
        watcher.beat(&rig, gate).await.1.unwrap();
    }
    rig.clock.advance_millis(5_000);
    (rig, gates)
}

#[tokio::test(flavor = "multi_thread")]
async fn gates_cosign_the_same_checkpoint_and_the_server_shows_it_with_their_lines() {
    let (rig, mut gates) = watched().await;
    assert_eq!(gates[0].1.latest, gates[1].1.latest);
    busy(&rig, &gates[0].0, 10, 14).await;
    witness::publish(&rig.state).await.unwrap();
    for (gate, watcher) in &mut gates {
        let (answer, verdict) = watcher.beat(&rig, gate).await;
        verdict.unwrap();
        assert!(!answer.proof.is_empty());
    }
    // The lines given with these heartbeats stand beside the checkpoint of the round before.
    let cosigned = rig.state.store.cosigned().await.unwrap();
    let (size, note, lines) = &cosigned[0];
    assert_eq!(lines.len(), 2);
    let full = Note::parse((note.clone() + &lines.concat()).as_bytes()).unwrap();
    for (_, watcher) in &gates {
        let key = CosignerKey::parse(&watcher.cosigner.verifier().to_string()).unwrap();
        assert_eq!(key.verify(&full), Ok(Some(1_700_000_000)));
        assert!(watcher.latest.as_ref().unwrap().size > *size);
    }
    // Each witness's key is an entry of the log, once.
    let entries = rig.state.store.log_entries(0, 1_000).await.unwrap();
    let keys = entries
        .iter()
        .filter(|(_, bytes)| Entry::from_bytes(bytes).unwrap().kind == "witness_key")
        .count();
    assert_eq!(keys, 2);
    assert!(rig.state.store.alarms().await.unwrap().is_empty());
    fsck::run(&rig.state, |_, _| {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_old_copy_is_noticed_by_server_and_gates() {
    let (rig, mut gates) = watched().await;
    busy(&rig, &gates[0].0, 10, 20).await;
    witness::publish(&rig.state).await.unwrap();
    for (gate, watcher) in &mut gates {
        watcher.beat(&rig, gate).await.1.unwrap();
    }
    let pool = unprotected(&rig).await;
    cut(&pool, 12).await;
    rig.clock.advance_millis(5_000);
    // The running server remembers what it signed and signs nothing more.
    witness::publish(&rig.state).await.unwrap();
    let alarms = rig.state.store.alarms().await.unwrap();
    assert!(alarms[0].what.contains("rolled back"), "{}", alarms[0].what);
    for (gate, watcher) in &mut gates {
        let (answer, verdict) = watcher.beat(&rig, gate).await;
        assert!(answer.log_fault.unwrap().contains("rolled back"));
        assert!(verdict.is_err());
    }
}

/// The attacker also replaces the server's memory (a restart on the old copy with the old checkpoint file).
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_on_an_old_copy_is_noticed_by_every_gate_even_after_new_entries() {
    let (rig, mut gates) = watched().await;
    busy(&rig, &gates[0].0, 10, 20).await;
    witness::publish(&rig.state).await.unwrap();
    for (gate, watcher) in &mut gates {
        watcher.beat(&rig, gate).await.1.unwrap();
    }
    let pool = unprotected(&rig).await;
    cut(&pool, 12).await;
    std::fs::remove_file(audit::checkpoint_file(&crate::common::data(&rig.folder))).unwrap();
    let clock = rig.clock.clone();
    let mut rig = rig.restart().await;
    clock.advance_millis(5_000);
    for (gate, _) in &mut gates {
        gate.client = rig.client(Some((&gate.answer.certificate_pem, &gate.device.key_pem)));
    }
    witness::publish(&rig.state).await.unwrap();
    for (gate, watcher) in &mut gates {
        let (_, verdict) = watcher.beat(&rig, gate).await;
        assert!(
            matches!(
                verdict,
                Err(LogFault::Shrunk { .. } | LogFault::Vanished(_))
            ),
            "{verdict:?}"
        );
    }
    // The server learned from their cosignatures that it is the copy.
    let alarms = rig.state.store.alarms().await.unwrap();
    assert!(
        alarms
            .iter()
            .any(|alarm| alarm.what.contains("does not have")),
        "{alarms:?}"
    );
    // Grown past what the gates saw: now it is a fork.
    busy(&rig, &gates[0].0, 100, 130).await;
    rig.clock.advance_millis(5_000);
    witness::publish(&rig.state).await.unwrap();
    rig = rig.restart().await;
    for (gate, watcher) in &mut gates {
        gate.client = rig.client(Some((&gate.answer.certificate_pem, &gate.device.key_pem)));
        let (_, verdict) = watcher.beat(&rig, gate).await;
        assert!(
            matches!(verdict, Err(LogFault::Forked { .. })),
            "{verdict:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_with_a_tree_made_anew_is_never_signed_and_every_gate_sees_it() {
    let (rig, mut gates) = watched().await;
    let pool = unprotected(&rig).await;
    rewrite(&pool, 9).await;
    busy(&rig, &gates[0].0, 10, 12).await;
    witness::publish(&rig.state).await.unwrap();
    let fault = rig.state.watch.fault().unwrap();
    assert!(fault.contains("does not continue"), "{fault}");
    for (gate, watcher) in &mut gates {
        let (answer, _) = watcher.beat(&rig, gate).await;
        assert_eq!(answer.log_fault.as_ref(), Some(&fault));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_leaves_the_tree_alone_is_found_by_the_servers_own_rounds() {
    for (name, sql) in [
        (
            "bytes",
            dialect(
                "UPDATE log_entry SET bytes = CAST(REPLACE(CAST(bytes AS TEXT), 'grant', 'refer') AS BLOB) WHERE idx = 13",
                "UPDATE log_entry SET bytes = convert_to(replace(convert_from(bytes, 'UTF8'), 'grant', 'refer'), 'UTF8') WHERE idx = 13",
            ),
        ),
        (
            "time",
            sqlx::AssertSqlSafe("UPDATE log_entry SET time = time + 1 WHERE idx = 3"),
        ),
        (
            "detail",
            sqlx::AssertSqlSafe("UPDATE log_detail SET salt = sealed"),
        ),
        (
            "checkpoint",
            sqlx::AssertSqlSafe("UPDATE log_checkpoint SET note = '?'"),
        ),
    ] {
        let (rig, mut gates) = watched().await;
        let mut running = None;
        // The check that is under way, and one whole round after it.
        witness::check_on(&rig.state, &mut running).await.unwrap();
        let pool = unprotected(&rig).await;
        let done = sqlx::query(sql).execute(&pool).await.unwrap();
        assert!(done.rows_affected() > 0, "{name}");
        for _ in 0..4 {
            witness::check_on(&rig.state, &mut running).await.unwrap();
        }
        let fault = rig.state.watch.fault().expect(name);
        assert!(fault.contains("changed"), "{name}: {fault}");
        for (gate, watcher) in &mut gates {
            let (answer, _) = watcher.beat(&rig, gate).await;
            assert_eq!(answer.log_fault.as_ref(), Some(&fault), "{name}");
        }
    }
}

/// The bar: whatever a superuser of the database does, every gate knows within ten seconds. The server's chores and the gates'
/// heartbeats run as they do in `serve` and in the agent, on the test's clock.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_done_to_the_database_every_gate_knows_within_ten_seconds() {
    type Deed = fn(&AnyPool) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>>;
    async fn one(pool: &AnyPool, sql: sqlx::AssertSqlSafe<&'static str>) {
        let done = sqlx::query(sql).execute(pool).await.unwrap();
        assert!(done.rows_affected() > 0);
    }
    const DEEDS: [(&str, Deed); 8] = [
        ("cut", |pool| Box::pin(cut(pool, 12))),
        ("rewritten with its tree", |pool| Box::pin(rewrite(pool, 9))),
        ("an entry edited", |pool| {
            Box::pin(one(
                pool,
                dialect(
                    "UPDATE log_entry SET bytes = CAST(REPLACE(CAST(bytes AS TEXT), 'grant', 'refer') AS BLOB) WHERE idx = 13",
                    "UPDATE log_entry SET bytes = convert_to(replace(convert_from(bytes, 'UTF8'), 'grant', 'refer'), 'UTF8') WHERE idx = 13",
                ),
            ))
        }),
        ("an entry removed", |pool| {
            Box::pin(one(
                pool,
                sqlx::AssertSqlSafe("DELETE FROM log_entry WHERE idx = 7"),
            ))
        }),
        ("a time edited", |pool| {
            Box::pin(one(
                pool,
                sqlx::AssertSqlSafe("UPDATE log_entry SET time = time - 1 WHERE idx = 2"),
            ))
        }),
        ("a tree node exchanged", |pool| {
            Box::pin(one(
                pool,
                sqlx::AssertSqlSafe(
                    "UPDATE log_node SET hash = (SELECT leaf_hash FROM log_entry WHERE idx = 1) WHERE level = 2 AND idx = 1",
                ),
            ))
        }),
        ("a sealed detail edited", |pool| {
            Box::pin(one(
                pool,
                sqlx::AssertSqlSafe("UPDATE log_detail SET sealed = salt"),
            ))
        }),
        ("checkpoints edited", |pool| {
            Box::pin(one(
                pool,
                sqlx::AssertSqlSafe("UPDATE log_checkpoint SET note = '?'"),
            ))
        }),
    ];
    for (number, (name, deed)) in DEEDS.into_iter().enumerate() {
        let (rig, mut gates) = watched().await;
        let pool = unprotected(&rig).await;
        let (mut running, mut told) = (None, [None; 2]);
        // At another moment of the rounds each time.
        let done_at = 250 * (3 + 7 * number as i64 % 20);
        for now in (0..done_at + 20_000).step_by(250) {
            if now == done_at {
                deed(&pool).await;
            }
            // In `serve` a failure of these is said in the operator's log, and they are tried again.
            let _ = witness::check_on(&rig.state, &mut running).await;
            if now % 1_000 == 0 {
                let _ = witness::publish(&rig.state).await;
            }
            for (at, (gate, watcher)) in gates.iter_mut().enumerate() {
                if (now + 2_000 * at as i64) % 5_000 == 0 {
                    let (answer, verdict) = watcher.beat(&rig, gate).await;
                    if told[at].is_none() && (verdict.is_err() || answer.log_fault.is_some()) {
                        assert!(now >= done_at, "{name}: a false alarm");
                        told[at] = Some(now - done_at);
                    }
                }
            }
            rig.clock.advance_millis(250);
        }
        for at in told {
            let took = at.unwrap_or_else(|| panic!("{name}: a gate was never told"));
            assert!(took <= 10_000, "{name}: {took} ms");
        }
        assert!(
            !rig.state.store.alarms().await.unwrap().is_empty(),
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gates_alarm_is_kept_with_both_checkpoints_logged_and_shown_once() {
    let (rig, gates) = watched().await;
    let (gate, watcher) = &gates[0];
    let mut beat = watcher.message(&rig, gate);
    let alarm = LogAlarm {
        what: "the log was changed or forked".to_owned(),
        at: rig.clock.now(),
        kept: Some("kept note".to_owned()),
        shown: Some("shown note".to_owned()),
    };
    beat.log.as_mut().unwrap().alarm = Some(alarm);
    let mut live = rig.state.live.subscribe();
    for _ in 0..3 {
        let answer = gate.client.post(paths::HEARTBEAT, &beat).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(
        live.try_recv().unwrap(),
        sallyport_server::state::LiveEvent::LogAlarm
    );
    assert!(live.try_recv().is_err());
    let alarms = rig.state.store.alarms().await.unwrap();
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0].raised_by, gate.id.as_str());
    assert_eq!(alarms[0].kept.as_deref(), Some("kept note"));
    assert_eq!(alarms[0].shown.as_deref(), Some("shown note"));
    assert_eq!(rig.state.watch.alarms(), 1);
    let entries = rig.state.store.log_entries(0, 1_000).await.unwrap();
    let logged = entries
        .iter()
        .filter(|(_, bytes)| Entry::from_bytes(bytes).unwrap().kind == "log_alarm")
        .count();
    assert_eq!(logged, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_witness_key_and_a_cosignature_of_another_log_do_not_count() {
    let (rig, mut gates) = watched().await;
    let (gate, watcher) = &mut gates[0];
    // Another gate's name in the key.
    let mut beat = watcher.message(&rig, gate);
    beat.log.as_mut().unwrap().witness = Cosigner::new("somebody/else", &[1; 32])
        .unwrap()
        .verifier()
        .to_string();
    assert_eq!(gate.client.post(paths::HEARTBEAT, &beat).await.status, 200);
    assert!(rig.state.store.cosigned().await.unwrap().is_empty());
    // A line over a checkpoint that this log never signed: somebody shows two logs under one key.
    let text = Checkpoint {
        root: Hash([9; 32]),
        ..watcher.latest.clone().unwrap()
    }
    .to_text();
    watcher.cosignature = Some(watcher.cosigner.cosign(&text, 5));
    watcher.beat(&rig, gate).await.1.unwrap();
    let alarms = rig.state.store.alarms().await.unwrap();
    assert!(alarms[0].what.contains("two logs"), "{alarms:?}");
}
