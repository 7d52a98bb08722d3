//! A gate's policy and the next one: strictly read, approved by a second person, only ever rising, and by the log alone.

use std::process::{Command, Output};

use sallyport_domain::{GateId, GatePolicy, ReasonCode, Role, UnrecognisedPolicy, Verdict};
use sallyport_protocol::{PassageDecision, paths};
use sallyport_server::clock::{Clock as _, SystemClock};
use sallyport_server::policies::{self, PolicySetError};
use sallyport_server::store::passages::PassageRow;
use sallyport_server::{gates, installation, profiles, registry, rights};
use sqlx::AssertSqlSafe;

use crate::approvals::answer;
use crate::browser::Browser;
use crate::common::{Gate, Rig, data, mate, policy};
use crate::coverage::entries;

/// A policy that lets nobody in.
fn closed(version: &str) -> GatePolicy {
    GatePolicy {
        version: version.to_owned(),
        rules: Vec::new(),
        ..policy()
    }
}

/// A file with such a policy.
pub(crate) fn file(rig: &Rig, version: &str) -> String {
    let path = rig.folder.path().join(version);
    std::fs::write(&path, serde_json::to_string(&closed(version)).unwrap()).unwrap();
    path.display().to_string()
}

async fn set(rig: &Rig, gate: &GateId, new: &GatePolicy) -> Result<u64, PolicySetError> {
    let change = policies::change(&rig.state, gate, new).await?;
    policies::set(&rig.state, &change, "test").await
}

async fn decided(rig: &Rig, gate: &Gate, number: u64) -> PassageDecision {
    gate.pass(&gate.request(rig.transaction(number), mate(1, number)))
        .await
}

async fn by_hand(rig: &Rig, statement: &str) {
    let hand = rig.hand().await;
    let done = sqlx::query(AssertSqlSafe(statement.to_owned()))
        .execute(&hand)
        .await
        .unwrap();
    assert!(done.rows_affected() > 0, "{statement}");
    hand.close().await;
}

async fn text(rig: &Rig, gate: &GateId) -> String {
    rig.state.store.gate(gate).await.unwrap().unwrap().policy
}

async fn alarms(rig: &Rig) -> usize {
    let all = entries(rig, 0).await;
    all.iter().filter(|entry| entry.kind == "log_alarm").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_not_the_next_or_not_permitted_or_of_no_gate_is_not_set() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await.id;
    let before = rig.state.store.log_size().await.unwrap();
    for version in ["default-1", "default-0", "front-1", "a-01"] {
        let refused = set(&rig, &gate, &closed(version)).await;
        assert!(
            matches!(refused, Err(PolicySetError::NotHigher { highest: 1, .. })),
            "{version}: {refused:?}"
        );
    }
    let nonsense = set(&rig, &gate, &closed("front")).await;
    assert!(matches!(nonsense, Err(PolicySetError::Senseless(_))));
    let nobody = set(&rig, &"side".parse().unwrap(), &closed("a-2")).await;
    assert!(matches!(nobody, Err(PolicySetError::Unknown)));
    assert_eq!(rig.state.store.log_size().await.unwrap(), before);

    let narrow = profiles::read("nsw-2014")
        .unwrap()
        .replace("name = \"nsw-2014\"", "name = \"trial\"")
        .replace("[\"access\", ", "[");
    profiles::set(&rig.state, &narrow, "a trial", "test")
        .await
        .unwrap();
    let purpose = set(&rig, &gate, &closed("a-2")).await;
    assert!(matches!(purpose, Err(PolicySetError::Purpose)));

    // What was looked at is not what would change any more.
    profiles::set(&rig.state, &profiles::read("uk").unwrap(), "", "test")
        .await
        .unwrap();
    let looked = policies::change(&rig.state, &gate, &closed("a-5"))
        .await
        .unwrap();
    set(&rig, &gate, &closed("a-2")).await.unwrap();
    let late = policies::set(&rig.state, &looked, "test").await;
    assert!(matches!(late, Err(PolicySetError::Changed)), "{late:?}");
    // The number counts, whatever the name, and numbers that were skipped are gone.
    set(&rig, &gate, &closed("b-9")).await.unwrap();
    let refused = set(&rig, &gate, &closed("a-5")).await;
    assert!(matches!(
        refused,
        Err(PolicySetError::NotHigher { highest: 9, .. })
    ));
}

#[test]
fn a_file_is_read_strictly_and_the_error_names_the_field() {
    let good = serde_json::to_value(policy()).unwrap();
    assert!(policies::parse(&good.to_string()).is_ok());
    let with = |field: &str, value: serde_json::Value| {
        let mut policy = good.clone();
        let (place, name) = field.rsplit_once('/').unwrap();
        policy.pointer_mut(place).unwrap()[name] = value;
        policies::parse(&policy.to_string())
            .unwrap_err()
            .to_string()
    };
    for (field, value, says) in [
        ("/fpir_taget", 0.1.into(), "unknown field `fpir_taget`"),
        ("/rules/0/window", 1.into(), "unknown field `window`"),
        ("/fpir_target", 0.5.into(), "fpir_target: 0.5"),
        ("/fmr_target", 0.into(), "fmr_target: 0"),
        ("/version", "one".into(), "version: \"one\""),
        (
            "/purpose",
            "marketing".into(),
            "unknown variant `marketing`",
        ),
        (
            "/rules/0/directions",
            serde_json::json!([]),
            "rules[0].directions",
        ),
    ] {
        let error = with(field, value);
        assert!(error.contains(says), "{field}: {error}");
    }
    for (text, says) in [
        ("", "EOF"),
        ("{}", "missing field `version`"),
        (r#"{"version":"a-1","version":"a-2"}"#, "duplicate field"),
        (&" ".repeat(70_000), "65536"),
    ] {
        let error = policies::parse(text).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passages_before_and_after_name_the_policy_that_decided_them() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let other = rig.gate("back-in").await;
    gate.enrol(1).await;
    // Another server on the same database, which hears of nothing.
    let replica = installation::open_with(&data(&rig.folder), rig.clock.clone(), None)
        .await
        .unwrap();
    registry::load(&replica).await.unwrap();
    assert_eq!(decided(&rig, &gate, 1).await.verdict, Verdict::Grant);
    let size = rig.state.store.log_size().await.unwrap();
    let index = set(&rig, &gate.id, &closed("front-2")).await.unwrap();
    assert_eq!(index, size);
    let entry = entries(&rig, index).await.remove(0);
    assert_eq!(entry.kind, "gate_policy");
    assert_eq!(entry.policy.as_deref(), Some("front-2"));
    let text_now = text(&rig, &gate.id).await;
    assert_eq!(
        entry.content,
        Some(rights::gate_content("entry", &text_now))
    );

    let after = decided(&rig, &gate, 2).await;
    assert_eq!(after.verdict, Verdict::Refuse);
    assert_eq!(after.reason, ReasonCode::CategoryNotAdmitted);
    assert!(after.door_order.is_none());
    // Through the other server, which is asked now for the first time since, even with the row as it read it before.
    let stale = gates::list(&replica).await.unwrap();
    let mut stale = stale.into_iter().find(|row| row.id == gate.id).unwrap();
    stale.policy = serde_json::to_string(&policy()).unwrap();
    let request = gate.request(rig.transaction(3), mate(1, 3));
    let decision = sallyport_server::passages::request(&replica, &stale, request)
        .await
        .unwrap();
    assert_eq!(decision.reason, ReasonCode::CategoryNotAdmitted);
    // The same transaction gets the same answer, by the policy of its time.
    assert_eq!(decided(&rig, &gate, 1).await.verdict, Verdict::Grant);
    // And no other gate is changed.
    let request = other.request(rig.transaction(4), mate(1, 4));
    assert_eq!(other.pass(&request).await.verdict, Verdict::Grant);

    let named = async |number: u64| {
        let row: Option<PassageRow> = rig
            .state
            .store
            .passage(rig.transaction(number))
            .await
            .unwrap();
        let row = row.unwrap();
        let entry = entries(&rig, row.log_index).await.remove(0);
        assert_eq!(entry.policy.as_deref(), Some(row.policy.as_str()));
        row.policy
    };
    for (number, version) in [
        (1, "default-1"),
        (2, "front-2"),
        (3, "front-2"),
        (4, "default-1"),
    ] {
        assert_eq!(named(number).await, version, "{number}");
    }
    // Evidence of a passage says the policy of its time, not today's.
    for (number, version) in [(1, "default-1"), (2, "front-2")] {
        let transaction = rig.transaction(number).to_string();
        let bundle = sallyport_server::evidence::bundle(&rig.state, &transaction)
            .await
            .unwrap();
        let said = &bundle.stated["policy of the gate"];
        assert!(said.contains(version), "{number}: {said}");
    }
    // After a restart, by the log.
    replica.store.close().await;
    let rig = rig.restart().await;
    assert_eq!(
        policies::held(&rig.state, &gate.id).await.unwrap().policy,
        closed("front-2")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passage_that_was_decided_by_the_policy_before_is_neither_granted_nor_logged_after_the_change()
 {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let old = text(&rig, &gate.id).await;
    decided(&rig, &gate, 1).await;
    let row = rig.state.store.passage(rig.transaction(1)).await.unwrap();
    set(&rig, &gate.id, &closed("front-2")).await.unwrap();
    let now = text(&rig, &gate.id).await;
    let late = PassageRow {
        transaction: rig.transaction(2),
        log_index: 1_000,
        ..row.unwrap()
    };
    for (policy, taken) in [(old, false), (now, true)] {
        let mut write = rig.state.store.write().await.unwrap();
        let inserted = write.passage_insert(&late, &policy, None).await.unwrap();
        assert_eq!(inserted, taken, "{policy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_policy_put_back_by_hand_is_refused_and_the_next_one_mends_it() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let older = text(&rig, &gate.id).await;
    // The second server has read the log up to here only.
    let replica = installation::open_with(&data(&rig.folder), rig.clock.clone(), None)
        .await
        .unwrap();
    registry::load(&replica).await.unwrap();
    set(&rig, &gate.id, &closed("front-2")).await.unwrap();
    by_hand(&rig, &format!("UPDATE gate SET policy = '{older}'")).await;
    let request = gate.request(rig.transaction(1), mate(1, 1));
    let row = replica.store.gate(&gate.id).await.unwrap().unwrap();
    let refused = sallyport_server::passages::request(&replica, &row, request.clone()).await;
    assert!(refused.unwrap_err().to_string().contains("audit log"));
    let answer = gate.client.post(paths::PASSAGE, &request).await;
    assert_eq!(answer.refused(), (503, "not_in_log".to_owned()));
    assert_eq!(rights::compare(&rig.state).await.unwrap(), 1);
    assert_eq!(alarms(&rig).await, 1);
    // What holds is still known, and a next one brings the row in order.
    let held = policies::held(&rig.state, &gate.id).await.unwrap();
    assert_eq!(held.policy.version, "front-2");
    let open = GatePolicy {
        version: "front-3".to_owned(),
        ..policy()
    };
    set(&rig, &gate.id, &open).await.unwrap();
    assert_eq!(decided(&rig, &gate, 2).await.verdict, Verdict::Grant);
    // A row with another direction is not blessed with a new policy.
    by_hand(&rig, "UPDATE gate SET direction = 'exit'").await;
    let refused = set(&rig, &gate.id, &closed("front-4")).await;
    assert!(
        matches!(refused, Err(PolicySetError::NotInLog)),
        "{refused:?}"
    );
    by_hand(&rig, "UPDATE gate SET direction = 'entry'").await;

    // A gate whose row was taken away does not begin anew with its first policy.
    let direction = sallyport_domain::Direction::Entry;
    let side: GateId = "side".parse().unwrap();
    gates::add(&rig.state, &side, direction, &policy(), "test")
        .await
        .unwrap();
    by_hand(&rig, "DELETE FROM gate WHERE id = 'side'").await;
    let again = gates::add(&rig.state, &side, direction, &policy(), "test").await;
    assert!(matches!(again, Err(gates::GateError::Exists)));
    replica.store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_gate_stays_locked_whatever_its_policy() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    by_hand(&rig, "UPDATE gate SET locked_down = 1").await;
    assert_eq!(decided(&rig, &gate, 1).await.reason, ReasonCode::LockedDown);
    let open = GatePolicy {
        version: "front-2".to_owned(),
        unrecognised: UnrecognisedPolicy::Refuse,
        ..policy()
    };
    set(&rig, &gate.id, &open).await.unwrap();
    assert_eq!(decided(&rig, &gate, 2).await.reason, ReasonCode::LockedDown);
}

fn run(rig: &Rig, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sallyport-server"))
        .args(line.split(' '))
        .arg("--data")
        .arg(data(&rig.folder))
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_shows_says_what_would_change_and_sets_only_what_a_supervisor_approved() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    // The command looks at the real clock.
    let now = SystemClock.now();
    rig.clock.advance_millis(now.millis_since(rig.clock.now()));
    let sam = Browser::signed_in_as(&rig, "Sam", Role::Supervisor).await;
    let file = rig.folder.path().join("next.json");
    let shown = run(&rig, "gate policy front-in --json");
    assert!(shown.status.success());
    let mut next = policies::parse(&String::from_utf8(shown.stdout).unwrap()).unwrap();
    assert_eq!(next, policy());
    next = GatePolicy {
        version: "front-2".to_owned(),
        ..next
    };
    next.rules[0].categories.retain(|one| one.code() != "staff");
    let write = |policy: &GatePolicy| {
        std::fs::write(&file, serde_json::to_string_pretty(policy).unwrap()).unwrap();
    };
    write(&next);
    let size = rig.state.store.log_size().await.unwrap();
    let line = format!("gate policy front-in --set {}", file.display());
    let dry = run(&rig, &format!("{line} --dry-run"));
    let words = said(&dry);
    assert!(dry.status.success(), "{words}");
    for part in [
        "Gate front-in decides by policy front-2 instead of default-1",
        "staff inwards: was at any time; becomes never.",
        "staff outwards: was at any time; becomes never.",
        &policies::sha256(&serde_json::to_string(&next).unwrap()),
        "Nothing was asked or changed.",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert!(!words.contains("visitor"), "{words}");
    assert!(said(&run(&rig, &line)).contains("--reason"));
    assert_eq!(rig.state.store.log_size().await.unwrap(), size);

    let with_reason = format!("{line} --reason strike");
    let waits = run(&rig, &with_reason);
    assert!(!waits.status.success() && said(&waits).contains("nothing was done yet"));
    let page = sam.get(&format!("/approvals/{size}")).await;
    for part in [
        "Policy of a gate",
        "staff inwards: was at any time; becomes never.",
        "strike",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(answer(&sam, size, "decision=approve").await, 303);
    // It is for exactly that text.
    let mut looser = next.clone();
    looser.fpir_target = 1e-3;
    write(&looser);
    let other = run(&rig, &with_reason);
    assert!(!other.status.success(), "{}", said(&other));
    write(&next);
    let done = run(&rig, &with_reason);
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(decided(&rig, &gate, 1).await.verdict, Verdict::Refuse);
    let shown = said(&run(&rig, "gate policy front-in"));
    assert!(
        shown.contains("Version front-2.") && shown.contains("a number above 2"),
        "{shown}"
    );
    let again = said(&run(&rig, &format!("{line} --dry-run")));
    assert!(again.contains("version: front-2 is not above 2"), "{again}");
    std::fs::write(&file, r#"{"version":"a-9","colour":"red"}"#).unwrap();
    let wrong = said(&run(&rig, &format!("{line} --dry-run")));
    assert!(wrong.contains("unknown field `colour`"), "{wrong}");
}
