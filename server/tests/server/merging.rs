//! Two records of one person become one, and two again.

use sallyport_domain::{SubjectCategory, SubjectId, SubjectStatus, Verdict};
use sallyport_protocol::{SuccessorsKept, paths};
use sallyport_server::merging::{self, MergeError, Plan};
use sallyport_server::registry::{self, RegistryError};
use sallyport_server::{audit, consultations, duplicates, records, retention};

use crate::common::{Gate, Rig, mate, probe, subject};
use crate::coverage::{entries, picture};

/// Enrols somebody with the face of `face`, with a photograph, although it may be somebody known.
async fn enrol(rig: &Rig, gate: &Gate, person: u64, face: u64, category: SubjectCategory) {
    let mut submission = gate.submission(person);
    submission.category = category;
    for (sample, number) in submission.samples.iter_mut().zip(60..) {
        sample.probe = probe(mate(face, number + person));
    }
    let photograph = picture(rig, &submission.subject.to_string());
    submission.samples[0].photograph = Some(photograph);
    gate.enrol_as(submission).await;
}

/// Enrols `person` as staff with the face of `face`, whoever has it already.
pub(crate) async fn enrol_again(rig: &Rig, gate: &Gate, person: u64, face: u64) -> SubjectId {
    enrol(rig, gate, person, face, SubjectCategory::Staff).await;
    subject(person)
}

/// One person, enrolled as 1 and as 2, and somebody else, 3.
async fn twice(rig: &Rig, gate: &Gate) -> (SubjectId, SubjectId) {
    enrol(rig, gate, 1, 1, SubjectCategory::Staff).await;
    enrol(rig, gate, 2, 1, SubjectCategory::Staff).await;
    enrol(rig, gate, 3, 3, SubjectCategory::Staff).await;
    (subject(1), subject(2))
}

async fn merge(rig: &Rig, from: SubjectId, into: SubjectId) -> Plan {
    let plan = merging::plan(&rig.state, from, into).await.unwrap();
    let done = merging::merge(&rig.state, &plan, "one passport", "test").await;
    assert_eq!(done.unwrap().moved, plan.moving);
    plan
}

async fn back(rig: &Rig, from: SubjectId) -> merging::Done {
    let plan = merging::plan_back(&rig.state, from).await.unwrap();
    merging::unmerge(&rig.state, &plan, "twins", "test")
        .await
        .unwrap()
}

async fn references(rig: &Rig, of: SubjectId) -> usize {
    rig.state.store.references(of).await.unwrap().len()
}

async fn refused(rig: &Rig, from: u64, into: u64) -> MergeError {
    let size = rig.state.store.log_size().await.unwrap();
    let plan = merging::plan(&rig.state, subject(from), subject(into)).await;
    assert_eq!(rig.state.store.log_size().await.unwrap(), size);
    plan.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_records_of_one_person_are_found_merged_recognised_as_one_and_separated_again() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let (one, two) = twice(&rig, &gate).await;
    let pairs = duplicates::find(&rig.state, "test", |_, _| ())
        .await
        .unwrap();
    assert_eq!(pairs.into_iter().collect::<Vec<_>>(), [(one, two)]);
    let looked = entries(&rig, 0).await.pop().unwrap();
    assert_eq!(looked.about.as_deref(), Some("duplicates"));
    // The person is like two records, and nobody says which one this is.
    let before = gate
        .pass(&gate.request(rig.transaction(1), mate(1, 40)))
        .await;
    assert_ne!(before.verdict, Verdict::Grant);

    let start = rig.state.store.log_size().await.unwrap();
    let plan = merge(&rig, one, two).await;
    for needed in [
        "2 references",
        "look alike",
        &one.to_string(),
        &two.to_string(),
    ] {
        assert!(plan.what.contains(needed), "{}", plan.what);
    }
    let left = entries(&rig, start).await;
    let said: Vec<_> = left
        .iter()
        .map(|entry| (entry.kind.as_str(), entry.decision.as_deref().unwrap()))
        .collect();
    assert_eq!(
        said,
        [("subject_merged", "merged"), ("subject_merged", "into")]
    );
    assert_eq!(left[0].references.len(), 2);
    // The words are under the key of the record that was closed.
    let detail: Vec<_> = left
        .iter()
        .map(|entry| entry.detail_hash.is_some())
        .collect();
    assert_eq!(detail, [false, true]);
    assert_eq!(
        (references(&rig, one).await, references(&rig, two).await),
        (0, 4)
    );

    let granted = gate
        .pass(&gate.request(rig.transaction(2), mate(1, 41)))
        .await;
    assert_eq!(granted.verdict, Verdict::Grant);
    let passed = entries(&rig, left.len() as u64 + start).await;
    assert_eq!(passed[0].subject, Some(two.to_string()));
    let view = records::view(&rig.state, one).await.unwrap();
    assert_eq!(view.merged_into.unwrap().0, two);
    let view = records::view(&rig.state, two).await.unwrap();
    assert_eq!(view.merged, [one]);
    assert_eq!(view.references.len(), 4);
    assert!(view.references.iter().all(|one| one.quality == Some(80.0)));
    assert!(
        view.references
            .iter()
            .all(|one| one.photograph || one.device.is_some())
    );

    // It stands after a start, out of the log.
    let rig = rig.restart().await;
    assert_eq!(registry::load(&rig.state).await.unwrap().failed, 0);
    assert_eq!(rig.state.gallery.read().unwrap().people(), 2);
    let done = back(&rig, one).await;
    assert_eq!((done.moved, done.deleted), (2, 0));
    assert_eq!(
        (references(&rig, one).await, references(&rig, two).await),
        (2, 2)
    );
    let rig = rig.restart().await;
    assert_eq!(registry::load(&rig.state).await.unwrap().failed, 0);
    assert_eq!(rig.state.gallery.read().unwrap().people(), 3);
    assert!(rig.state.store.alarms().await.unwrap().is_empty());
    // And may be merged again, the other way round.
    merge(&rig, two, one).await;
    assert_eq!(
        (references(&rig, one).await, references(&rig, two).await),
        (4, 0)
    );
    audit::check(&rig.state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_look_alike_is_not_merged_whoever_approves() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let (one, two) = twice(&rig, &gate).await;
    assert!(matches!(refused(&rig, 1, 3).await, MergeError::NotAlike));
    assert!(matches!(refused(&rig, 3, 2).await, MergeError::NotAlike));
    assert!(matches!(refused(&rig, 1, 1).await, MergeError::Same));
    assert!(matches!(
        refused(&rig, 1, 9).await,
        MergeError::Registry(RegistryError::Unknown)
    ));
    assert!(matches!(
        merging::plan_back(&rig.state, one).await,
        Err(MergeError::NotMerged(who)) if who == one
    ));
    // A ban cannot be merged away.
    let status = async |who, status| {
        registry::set_status(&rig.state, who, status, "test", "trial")
            .await
            .unwrap();
    };
    status(one, SubjectStatus::Banned).await;
    assert!(matches!(
        refused(&rig, 1, 2).await,
        MergeError::Status {
            from: "banned",
            into: "active"
        }
    ));
    status(one, SubjectStatus::Active).await;
    // What was approved is what is done, or nothing.
    let plan = merging::plan(&rig.state, one, two).await.unwrap();
    let nothing = merging::merge(&rig.state, &plan, "  ", "test").await;
    assert!(matches!(nothing, Err(MergeError::NoReason)));
    status(one, SubjectStatus::Suspended).await;
    status(two, SubjectStatus::Suspended).await;
    let late = merging::merge(&rig.state, &plan, "one passport", "test").await;
    assert!(matches!(late, Err(MergeError::Changed)), "{late:?}");
    let mut other = merging::plan(&rig.state, one, two).await.unwrap();
    other.what.push(' ');
    let other = merging::merge(&rig.state, &other, "one passport", "test").await;
    assert!(matches!(other, Err(MergeError::Changed)), "{other:?}");
    assert_eq!(
        (references(&rig, one).await, references(&rig, two).await),
        (2, 2)
    );

    merge(&rig, one, two).await;
    for (from, into) in [(1, 2), (2, 1), (1, 3), (3, 1), (2, 3)] {
        let chained = refused(&rig, from, into).await;
        assert!(
            matches!(chained, MergeError::Chain(_)),
            "{from} {into} {chained:?}"
        );
    }
    // The record that was closed is not changed any more.
    let status = registry::set_status(
        &rig.state,
        one,
        SubjectStatus::Active,
        "test",
        "a way around the ban",
    );
    assert!(matches!(status.await, Err(RegistryError::Merged(who)) if who == two));
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_wings_and_the_end_are_the_persons() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let (one, two) = twice(&rig, &gate).await;
    let hold = retention::hold(&rig.state, one, "order 4711", "test")
        .await
        .unwrap();
    consultations::set_wing(&rig.state, one, Some("c"), "test")
        .await
        .unwrap();
    merge(&rig, one, two).await;
    let wing = consultations::wing(&rig.state, two).await.unwrap();
    assert_eq!(wing.as_deref(), Some("c"));
    let held = async || {
        let kept = retention::list(&rig.state, "test").await.unwrap();
        let all = kept.items.iter().filter(|item| item.subject != subject(3));
        let (held, free): (Vec<_>, Vec<_>) =
            all.partition(|item| item.due == sallyport_domain::Due::Held);
        (held.len(), free.len())
    };
    assert_eq!(held().await, (6, 0), "four templates and two photographs");
    retention::lift(&rig.state, two, &hold, "over", "test")
        .await
        .unwrap();
    assert_eq!(held().await, (0, 6));

    let closed = registry::remove(&rig.state, one, "test").await;
    assert!(matches!(closed, Err(RegistryError::Merged(who)) if who == two));
    let start = rig.state.store.log_size().await.unwrap();
    registry::remove(&rig.state, two, "test").await.unwrap();
    let gone: Vec<_> = entries(&rig, start)
        .await
        .into_iter()
        .map(|entry| (entry.kind, entry.subject.unwrap()))
        .collect();
    assert_eq!(
        gone,
        [two, one].map(|who| ("subject_removed".to_owned(), who.to_string()))
    );
    for who in [one, two] {
        assert!(rig.state.store.subject(who).await.unwrap().is_none());
    }
    assert_eq!(rig.state.gallery.read().unwrap().people(), 1);
}

/// Whoever was shut out while merged stays shut out under both names; a hold forbids the separation; two wings forbid the merger.
#[tokio::test(flavor = "multi_thread")]
async fn a_separation_opens_no_door_and_releases_nothing_that_is_held() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let (one, two) = twice(&rig, &gate).await;
    let wing = async |who, name| {
        consultations::set_wing(&rig.state, who, Some(name), "test")
            .await
            .unwrap();
    };
    wing(one, "a").await;
    wing(two, "b").await;
    assert!(matches!(refused(&rig, 1, 2).await, MergeError::Wings));
    wing(one, "b").await;
    merge(&rig, one, two).await;
    let hold = retention::hold(&rig.state, two, "order 4711", "test")
        .await
        .unwrap();
    let held = merging::plan_back(&rig.state, one).await;
    assert!(matches!(held, Err(MergeError::Held(who)) if who == two));
    retention::lift(&rig.state, two, &hold, "over", "test")
        .await
        .unwrap();
    registry::set_status(&rig.state, two, SubjectStatus::Banned, "test", "trial")
        .await
        .unwrap();
    back(&rig, one).await;
    for who in [one, two] {
        let view = records::view(&rig.state, who).await.unwrap();
        assert_eq!(view.subject.record.status, SubjectStatus::Banned);
    }
    let request = gate.request(rig.transaction(1), mate(1, 40));
    assert_ne!(gate.pass(&request).await.verdict, Verdict::Grant);
}

/// What a gate captured of the merged person may be of either: when they are separated it goes.
#[tokio::test(flavor = "multi_thread")]
async fn what_gates_captured_since_the_merger_is_nobodys_after_a_separation() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let (one, two) = twice(&rig, &gate).await;
    merge(&rig, one, two).await;
    crate::model_change::begin(&rig, None).await;
    let passage = rig.transaction(1);
    let granted = gate.pass(&gate.request(passage, mate(1, 40))).await;
    assert_eq!(granted.verdict, Verdict::Grant);
    let message = crate::model_change::after(&gate, passage, 1);
    let kept = gate.client.post(paths::SUCCESSORS, &message).await;
    assert_eq!(kept.good::<SuccessorsKept>().kept, 1);
    assert_eq!(references(&rig, two).await, 5);
    let start = rig.state.store.log_size().await.unwrap();
    let done = back(&rig, one).await;
    assert_eq!((done.moved, done.deleted), (2, 1));
    assert_eq!(
        (references(&rig, one).await, references(&rig, two).await),
        (2, 2)
    );
    for who in [one, two] {
        let view = records::view(&rig.state, who).await.unwrap();
        assert!(view.references.iter().all(|one| one.quality == Some(80.0)));
        let record = &view.subject.record;
        assert_eq!(record.quality.len(), view.references.len());
    }
    let retired = entries(&rig, start).await.pop().unwrap();
    assert_eq!(retired.kind, "reference_retired");
    assert_eq!(retired.references.len(), 1);
    let rig = rig.restart().await;
    assert_eq!(registry::load(&rig.state).await.unwrap().failed, 0);
    assert_eq!(rig.state.gallery.read().unwrap().len(), 6);
}

/// With a request for deletion under either pseudonym the person goes, with both.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_the_other_pseudonym_erases_both() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    enrol(&rig, &gate, 1, 1, SubjectCategory::Visitor).await;
    enrol(&rig, &gate, 2, 1, SubjectCategory::Visitor).await;
    let now = sallyport_server::clock::Clock::now(&*rig.clock);
    let event = retention::Event::DeletionRequested;
    retention::record(&rig.state, subject(1), event, now, "at the gate", "test")
        .await
        .unwrap();
    merge(&rig, subject(1), subject(2)).await;
    assert_eq!(retention::run(&rig.state, "test").await.unwrap().erased, 1);
    for who in [1, 2] {
        assert!(
            rig.state
                .store
                .subject(subject(who))
                .await
                .unwrap()
                .is_none()
        );
    }
    let erased = entries(&rig, 0).await;
    let erased = erased.iter().filter(|entry| entry.kind == "subject_erased");
    assert_eq!(erased.count(), 2);
    assert_eq!(rig.state.gallery.read().unwrap().len(), 0);
}

/// Somebody who writes the database by hand merges nobody and separates nobody.
#[tokio::test(flavor = "multi_thread")]
async fn rows_moved_by_hand_are_not_loaded() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let (one, two) = twice(&rig, &gate).await;
    let pool = rig.hand().await;
    let copy = "CREATE TEMPORARY TABLE before_merger AS SELECT * FROM reference";
    sqlx::query(copy).execute(&pool).await.unwrap();
    merge(&rig, one, two).await;
    // The rows as they were before, which open with the first person's key.
    for line in [
        "DELETE FROM reference",
        "INSERT INTO reference SELECT * FROM before_merger",
    ] {
        sqlx::query(line).execute(&pool).await.unwrap();
    }
    pool.close().await;
    let rig = rig.restart().await;
    let loaded = registry::load(&rig.state).await.unwrap();
    assert_eq!(
        loaded.failed, 1,
        "the first person's rows are not in the log"
    );
    assert_eq!(rig.state.gallery.read().unwrap().len(), 4);
    assert!(!rig.state.store.alarms().await.unwrap().is_empty());
}
