//! Enrolment with two people: nobody alone brings anybody into the registry, by the product or by hand in the database.

use sallyport_domain::{EnrolmentId, InvalidTransition, OfficerId, Role, Verdict};
use sallyport_protocol::{EnrolmentOutcome, EnrolmentRefusal, EnrolmentSubmission, paths};
use sallyport_server::enrolments::{self, DecisionError, Outcome};
use sallyport_server::officers;
use sallyport_server::registry::{self, RegistryError};
use sallyport_transparency::Entry;
use sqlx::AssertSqlSafe;

use crate::browser::{Browser, csrf};
use crate::common::{Gate, Rig, approve, approver, dialect, mate, opener, probe, subject};

async fn put_aside(gate: &Gate, submission: &EnrolmentSubmission) -> EnrolmentId {
    let outcome: EnrolmentOutcome = gate.client.post(paths::ENROLMENT, submission).await.good();
    let EnrolmentOutcome::UnderReview { enrolment, .. } = outcome else {
        panic!("{outcome:?}");
    };
    enrolment
}

/// Under a single enrolment of its own.
async fn single(gate: &Gate, seed: u64) -> EnrolmentSubmission {
    EnrolmentSubmission {
        enrolment: gate.order(false).await.code,
        ..gate.submission(seed)
    }
}

async fn content(rig: &Rig, id: EnrolmentId) -> String {
    let row = rig.state.store.enrolment(id).await.unwrap().unwrap();
    row.content_sha256
}

async fn decided(
    rig: &Rig,
    id: EnrolmentId,
    officer: OfficerId,
    outcome: Outcome,
    reason: &str,
) -> Result<u64, DecisionError> {
    let hash = content(rig, id).await;
    enrolments::decide(&rig.state, id, officer, outcome, &hash, reason).await
}

async fn last(rig: &Rig, kind: &str) -> Entry {
    let rows = rig.state.store.log_entries(0, 10_000).await.unwrap();
    rows.iter()
        .rev()
        .map(|(_, bytes)| Entry::from_bytes(bytes).unwrap())
        .find(|entry| entry.kind == kind)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_enrolled_by_one_officer_and_no_door_opens_before_the_second() {
    let rig = Rig::start_with(600).await;
    let gate = rig.gate("front-in").await;
    let submission = single(&gate, 1).await;
    let id = put_aside(&gate, &submission).await;
    let passing = async |number| {
        gate.pass(&gate.request(rig.transaction(number), mate(1, 40)))
            .await
    };
    assert_ne!(passing(1).await.verdict, Verdict::Grant);
    assert!(rig.state.gallery.read().unwrap().is_empty());
    assert!(rig.state.store.subject(subject(1)).await.unwrap().is_none());
    // Whoever opened it, whoever has not looked, and whoever names other content decides nothing.
    let own = decided(&rig, id, opener(), Outcome::Approve, "").await;
    assert!(matches!(
        own,
        Err(DecisionError::Forbidden(InvalidTransition::SameOfficer))
    ));
    let blind = decided(&rig, id, approver(), Outcome::Approve, "").await;
    assert!(matches!(blind, Err(DecisionError::NotLooked)));
    enrolments::review(&rig.state, id, approver())
        .await
        .unwrap();
    let other = "0".repeat(64);
    let other = enrolments::decide(&rig.state, id, approver(), Outcome::Approve, &other, "").await;
    assert!(matches!(
        other,
        Err(DecisionError::Forbidden(InvalidTransition::ContentChanged))
    ));
    let hash = content(&rig, id).await;
    decided(&rig, id, approver(), Outcome::Approve, "")
        .await
        .unwrap();
    let entry = last(&rig, "enrolment").await;
    assert_eq!(entry.decision.as_deref(), Some("enrolled"));
    assert_eq!(entry.actor, Some(opener().to_string()));
    assert_eq!(entry.actor2, Some(approver().to_string()));
    assert_eq!(entry.content.as_deref(), Some(hash.as_str()));
    assert_eq!(entry.references.len(), 2);
    // The cool-off begins with the approval.
    assert_ne!(passing(2).await.verdict, Verdict::Grant);
    rig.clock.advance_millis(600_000);
    assert_eq!(passing(3).await.verdict, Verdict::Grant);
    let again = decided(&rig, id, approver(), Outcome::Approve, "").await;
    assert!(matches!(again, Err(DecisionError::Unknown)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_for_one_station_one_person_and_its_time() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let other = rig.gate("back-in").await;
    let refused = async |gate: &Gate, submission: &EnrolmentSubmission| {
        gate.client
            .post(paths::ENROLMENT, submission)
            .await
            .refused()
    };
    let no = (403, "no_enrolment".to_owned());
    let mut made_up = gate.submission(1);
    made_up.enrolment = "made up".to_owned();
    assert_eq!(refused(&gate, &made_up).await, no);
    let first = single(&gate, 1).await;
    let elsewhere = EnrolmentSubmission {
        enrolment: first.enrolment.clone(),
        ..other.submission(1)
    };
    assert_eq!(refused(&other, &elsewhere).await, no);
    put_aside(&gate, &first).await;
    let second = EnrolmentSubmission {
        enrolment: first.enrolment.clone(),
        ..gate.submission(2)
    };
    assert_eq!(refused(&gate, &second).await, no);
    let late = single(&gate, 3).await;
    rig.clock.advance_millis(enrolments::CODE_LIFETIME_MS);
    // The station's certificate has ended by then too; the code by itself is no good any more.
    let row = rig.state.store.gate(&gate.id).await.unwrap().unwrap();
    let late = enrolments::submit(&rig.state, &row, late).await;
    assert!(matches!(late, Err(RegistryError::NoOrder)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rejected_or_never_decided_leaves_nothing() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let submission = gate.submission(1);
    let id = put_aside(&gate, &submission).await;
    enrolments::review(&rig.state, id, approver())
        .await
        .unwrap();
    let silent = decided(&rig, id, approver(), Outcome::Reject, " ").await;
    assert!(matches!(silent, Err(DecisionError::NoReason)));
    decided(&rig, id, approver(), Outcome::Reject, "another name")
        .await
        .unwrap();
    let again: EnrolmentOutcome = gate.client.post(paths::ENROLMENT, &submission).await.good();
    assert!(matches!(
        again,
        EnrolmentOutcome::Refused {
            reason: EnrolmentRefusal::Rejected,
            ..
        }
    ));
    put_aside(&gate, &gate.submission(2)).await;
    rig.clock
        .advance_millis(enrolments::PENDING_LIFETIME_MS - 1);
    assert_eq!(enrolments::house(&rig.state).await.unwrap().erased, 0);
    rig.clock.advance_millis(1);
    let kept = enrolments::house(&rig.state).await.unwrap();
    assert_eq!((kept.erased, kept.closed), (1, 1));
    assert_eq!(
        last(&rig, "enrolment").await.decision.as_deref(),
        Some("abandoned")
    );
    assert!(rig.state.pending.read().unwrap().is_empty());
    let pool = rig.hand().await;
    for query in [
        "SELECT COUNT(*) FROM enrolment_reference",
        "SELECT COUNT(*) FROM enrolment WHERE content_sealed IS NOT NULL OR findings_sealed IS NOT NULL",
        "SELECT COUNT(*) FROM subject",
        "SELECT COUNT(*) FROM data_key WHERE owner <> 'site' AND owner NOT LIKE 'templates/%'",
    ] {
        let left: i64 = sqlx::query_scalar(AssertSqlSafe(query))
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(left, 0, "{query}");
    }
}

/// A double is found among those under review too, and becomes the first person's when the second officer says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_possible_double_is_compared_and_can_become_the_person_it_is() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let first = put_aside(&gate, &gate.submission(1)).await;
    let mut double = gate.submission(2);
    for (sample, number) in double.samples.iter_mut().zip(60..) {
        sample.probe = probe(mate(1, number));
    }
    let id = put_aside(&gate, &double).await;
    approve(&rig.state, first).await;
    let seen = enrolments::review(&rig.state, id, approver())
        .await
        .unwrap();
    assert_eq!(seen.findings.alike, [subject(1)]);
    let silent = decided(&rig, id, approver(), Outcome::Approve, "").await;
    assert!(matches!(silent, Err(DecisionError::NoReason)));
    let stranger = Outcome::SamePerson(subject(9));
    let stranger = decided(&rig, id, approver(), stranger, "seen").await;
    assert!(matches!(stranger, Err(DecisionError::NotAlike)));
    decided(
        &rig,
        id,
        approver(),
        Outcome::SamePerson(subject(1)),
        "passport",
    )
    .await
    .unwrap();
    assert!(rig.state.store.subject(subject(2)).await.unwrap().is_none());
    let references = rig.state.store.references(subject(1)).await.unwrap();
    assert_eq!(references.len(), 4);
    let origins = references.iter().filter_map(|one| one.origin);
    assert_eq!(origins.collect::<Vec<_>>(), [subject(2), subject(2)]);
    assert_eq!(rig.state.gallery.read().unwrap().len(), 4);
    assert!(rig.state.pending.read().unwrap().is_empty());
    assert_eq!(
        last(&rig, "enrolment").await.decision.as_deref(),
        Some("merged")
    );
    // All four stand in the log: a fresh load takes them.
    let rig = rig.restart().await;
    let loaded = registry::load(&rig.state).await.unwrap();
    assert_eq!((loaded.references, loaded.failed), (4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_needs_one_approval_after_those_drawn_were_looked_at() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    for seed in 1..=7 {
        put_aside(&gate, &gate.submission(seed)).await;
    }
    let mut double = gate.submission(8);
    for (sample, number) in double.samples.iter_mut().zip(60..) {
        sample.probe = probe(mate(1, number));
    }
    put_aside(&gate, &double).await;
    let order = rig.state.store.orders_live().await.unwrap()[0].id;
    let early = enrolments::batch(&rig.state, order, approver())
        .await
        .unwrap();
    let approve = async |content: &str, officer| {
        enrolments::decide_batch(&rig.state, order, officer, true, content, "").await
    };
    let open = approve(&early.content_sha256, approver()).await;
    assert!(matches!(open, Err(DecisionError::StillOpen)));
    enrolments::close(&rig.state, order, "test").await.unwrap();
    let batch = enrolments::batch(&rig.state, order, approver())
        .await
        .unwrap();
    assert_eq!(
        (
            batch.certain.len(),
            batch.doubtful.len(),
            batch.unseen.len()
        ),
        (7, 1, 5)
    );
    let (last_one, others) = batch.unseen.split_last().unwrap();
    for id in others {
        enrolments::review(&rig.state, *id, approver())
            .await
            .unwrap();
    }
    // Somebody else's look, and a look that only stands in the table, do not count.
    enrolments::review(&rig.state, *last_one, opener())
        .await
        .unwrap();
    let pool = rig.hand().await;
    let forged = format!(
        "INSERT INTO enrolment_look (enrolment_id, officer_id, log_index) VALUES ('{last_one}', '{}', 0)",
        approver()
    );
    sqlx::query(AssertSqlSafe(forged))
        .execute(&pool)
        .await
        .unwrap();
    let hash = batch.content_sha256;
    let unseen = approve(&hash, approver()).await;
    assert!(matches!(unseen, Err(DecisionError::NotLooked)));
    enrolments::review(&rig.state, *last_one, approver())
        .await
        .unwrap();
    let own = approve(&hash, opener()).await;
    assert!(matches!(
        own,
        Err(DecisionError::Forbidden(InvalidTransition::SameOfficer))
    ));
    assert_eq!(approve(&hash, approver()).await.unwrap(), 7);
    assert_eq!(rig.state.store.subjects().await.unwrap().len(), 7);
    assert!(rig.state.store.subject(subject(8)).await.unwrap().is_none());
    assert_eq!(rig.state.pending.read().unwrap().len(), 2);
}

/// Whoever changes the database by hand brings nobody in.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_under_review_is_not_approved_and_an_alarm_is_raised() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let (one, two) = (
        put_aside(&gate, &gate.submission(1)).await,
        put_aside(&gate, &gate.submission(2)).await,
    );
    let hashes = [content(&rig, one).await, content(&rig, two).await];
    for id in [one, two] {
        enrolments::review(&rig.state, id, approver())
            .await
            .unwrap();
    }
    let pool = rig.hand().await;
    let template: (String, Vec<u8>) = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT id, template_sealed FROM enrolment_reference WHERE enrolment_id = '{one}' ORDER BY id LIMIT 1"
    )))
    .fetch_one(&pool)
    .await
    .unwrap();
    sqlx::query("UPDATE enrolment_reference SET template_sealed = $1 WHERE enrolment_id = $2")
        .bind(template.1)
        .bind(two.to_string())
        .execute(&pool)
        .await
        .unwrap();
    let forged = format!(
        "UPDATE enrolment SET content_sha256 = '{}' WHERE id = '{one}'",
        hashes[1]
    );
    sqlx::query(AssertSqlSafe(forged))
        .execute(&pool)
        .await
        .unwrap();
    for (id, hash) in [(one, &hashes[1]), (two, &hashes[1])] {
        let refused =
            enrolments::decide(&rig.state, id, approver(), Outcome::Approve, hash, "").await;
        assert!(
            matches!(
                refused,
                Err(DecisionError::Registry(RegistryError::Changed))
            ),
            "{refused:?}"
        );
    }
    assert_eq!(rig.state.watch.alarms(), 2);
    last(&rig, "log_alarm").await;
    assert!(rig.state.store.subjects().await.unwrap().is_empty());
}

/// Somebody who was removed is brought back out of an old copy; a reference is added under somebody's name.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_log_does_not_know_are_not_loaded() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    gate.enrol(2).await;
    let pool = rig.hand().await;
    for table in ["subject", "reference", "data_key"] {
        let copy = format!("CREATE TABLE old_{table} AS SELECT * FROM {table}");
        sqlx::query(AssertSqlSafe(copy))
            .execute(&pool)
            .await
            .unwrap();
    }
    registry::remove(&rig.state, subject(1), "test")
        .await
        .unwrap();
    let back = |table: &str, column: &str| {
        format!(
            "INSERT INTO {table} SELECT * FROM old_{table} WHERE {column} = '{}'",
            subject(1)
        )
    };
    for (table, column) in [
        ("subject", "id"),
        ("reference", "subject_id"),
        ("data_key", "owner"),
    ] {
        sqlx::query(AssertSqlSafe(back(table, column)))
            .execute(&pool)
            .await
            .unwrap();
    }
    // While running, with and without a hint to load it.
    assert_eq!(enrolments::ledger::compare(&rig.state).await.unwrap(), 2);
    let hint = dialect(
        "INSERT INTO registry_change (seq, subject_id) SELECT MAX(seq) + 1, (SELECT id FROM subject ORDER BY id LIMIT 1) FROM registry_change",
        "INSERT INTO registry_change (seq, subject_id) SELECT MAX(seq) + 1, (SELECT id FROM subject ORDER BY id LIMIT 1) FROM registry_change",
    );
    sqlx::query(hint).execute(&pool).await.unwrap();
    sallyport_server::replicas::catch_up(&rig.state)
        .await
        .unwrap();
    assert_eq!(rig.state.gallery.read().unwrap().len(), 2);
    assert!(rig.state.watch.alarms() >= 2);
    for table in ["subject", "reference", "data_key"] {
        let drop = format!("DROP TABLE old_{table}");
        sqlx::query(AssertSqlSafe(drop))
            .execute(&pool)
            .await
            .unwrap();
    }
    pool.close().await;
    // And at a start.
    let rig = rig.restart().await;
    let loaded = registry::load(&rig.state).await.unwrap();
    assert_eq!((loaded.references, loaded.failed), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_in_the_console_needs_a_fresh_proof_of_presence() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let one = put_aside(&gate, &single(&gate, 1).await).await;
    let sam = Browser::signed_in_as(&rig, "Sam", Role::Supervisor).await;
    let path = format!("/enrolments/{one}");
    let page = sam.get(&path).await;
    assert!(page.contains("name=\"decision\""));
    let form = format!(
        "csrf={}&content={}&decision=approve",
        csrf(&page),
        content(&rig, one).await
    );
    rig.clock.advance_millis(officers::FRESH_MS + 1);
    let (status, page) = sam.post(&path, &form).await;
    assert!(status == 403 && page.contains("Prove first"), "{page}");
    assert!(!page.contains("name=\"decision\""));
    assert!(rig.state.store.subject(subject(1)).await.unwrap().is_none());
    let kim = Browser::signed_in_as(&rig, "Kim", Role::Supervisor).await;
    let page = kim.get(&path).await;
    let form = form.replace(&csrf(&sam.get("/account").await), &csrf(&page));
    assert_eq!(kim.post(&path, &form).await.0, 303);
    assert_eq!(
        last(&rig, "enrolment").await.decision.as_deref(),
        Some("enrolled")
    );
}
