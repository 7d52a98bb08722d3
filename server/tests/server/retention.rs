//! Data leave when their purpose ends, by the profile that the log says holds.

use sallyport_domain::{
    Direction, FaceTemplate, OfficerId, SubjectCategory, TransactionId, Verdict,
};
use sallyport_protocol::{EnrolmentSubmission, paths};
use sallyport_server::clock::Clock as _;
use sallyport_server::registry::{self, RegistryError};
use sallyport_server::retention::{self, Event, RetentionError, Run};
use sallyport_server::store::Engine;
use sallyport_server::{audit, gates, installation, passages, profiles, reviews};
use sallyport_transparency::Entry;
use sqlx::Row as _;

use crate::ENGINE;
use crate::common::{Gate, Rig, collect, contains, data, mate, policy, subject, template};
use crate::coverage::picture;

const DAY_MS: i64 = 24 * 3_600_000;

fn visitor(rig: &Rig, gate: &Gate, person: u64) -> EnrolmentSubmission {
    let mut submission = gate.submission(person);
    submission.category = SubjectCategory::Visitor;
    let who = submission.subject.to_string();
    submission.samples[0].photograph = Some(picture(rig, &who));
    submission
}

async fn entries(rig: &Rig, kind: &str) -> Vec<Entry> {
    let rows = rig.state.store.log_entries(0, 10_000).await.unwrap();
    rows.iter()
        .map(|(_, bytes)| Entry::from_bytes(bytes).unwrap())
        .filter(|entry| entry.kind == kind)
        .collect()
}

async fn run(rig: &Rig) -> Run {
    retention::run(&rig.state, "test").await.unwrap()
}

/// The verdict on a person at the first gate. Not over the network: certificates end long before terms do.
async fn verdict(rig: &Rig, gate: &Gate, number: u64, person: u64) -> Verdict {
    let row = rig.state.store.gate(&gate.id).await.unwrap().unwrap();
    let request = gate.request(rig.transaction(number), mate(person, 40 + number));
    let decided = passages::request(&rig.state, &row, request).await;
    decided.unwrap().verdict
}

#[tokio::test(flavor = "multi_thread")]
async fn in_new_south_wales_a_visitor_is_forgotten_six_months_after_the_last_visit_unless_held() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    for person in [1, 2] {
        gate.enrol_as(visitor(&rig, &gate, person)).await;
    }
    gate.enrol(3).await;
    // Five months later one of them visits; that person's term begins anew.
    rig.clock.advance_millis(150 * DAY_MS);
    assert_eq!(verdict(&rig, &gate, 1, 2).await, Verdict::Grant);
    assert_eq!(run(&rig).await, Run::default());
    rig.clock.advance_millis(40 * DAY_MS);
    let hold = retention::hold(&rig.state, subject(1), "order 4711", "test")
        .await
        .unwrap();
    let held = run(&rig).await;
    assert_eq!((held.erased, held.deleted), (0, 0), "{held:?}");
    assert_eq!(held.held, 3, "two templates and a photograph");
    let photograph = rig.state.store.references(subject(1)).await.unwrap();
    let photograph = photograph
        .into_iter()
        .find_map(|row| row.photograph_sealed)
        .unwrap();
    // A piece: the whole may lie on several pages.
    let photograph = photograph[photograph.len() / 2..][..32].to_vec();
    let lies_in_files = |folder: &std::path::Path| {
        let mut files = Vec::new();
        collect(folder, &mut files);
        assert!(files.len() > 1);
        files.iter().any(|(_, bytes)| contains(bytes, &photograph))
    };
    if ENGINE == Engine::Sqlite {
        assert!(lies_in_files(&data(&rig.folder)), "the search can find it");
    }
    let wrong = retention::lift(&rig.state, subject(2), &hold, "over", "test").await;
    assert!(matches!(wrong, Err(RetentionError::NoHold)), "{wrong:?}");
    retention::lift(&rig.state, subject(1), &hold, "over", "test")
        .await
        .unwrap();
    let done = run(&rig).await;
    assert_eq!(
        (done.erased, done.deleted, done.held),
        (1, 0, 0),
        "{done:?}"
    );
    assert!(rig.state.store.subject(subject(1)).await.unwrap().is_none());
    assert!(rig.state.store.subject(subject(2)).await.unwrap().is_some());
    assert!(rig.state.store.subject(subject(3)).await.unwrap().is_some());
    let erased = entries(&rig, "subject_erased").await;
    assert_eq!(erased.len(), 1);
    assert_eq!(erased[0].subject, Some(subject(1).to_string()));
    assert!(erased[0].reason.as_deref().unwrap().contains("clause 321"));
    assert_eq!(erased[0].policy.as_deref(), Some("nsw-2014@3"));
    assert_ne!(verdict(&rig, &gate, 2, 1).await, Verdict::Grant);
    // A request ends it at once.
    let now = rig.clock.now();
    retention::record(
        &rig.state,
        subject(2),
        Event::DeletionRequested,
        now,
        "asked at the gate",
        "test",
    )
    .await
    .unwrap();
    assert_eq!(run(&rig).await.erased, 1);
    assert_eq!(run(&rig).await, Run::default());
    audit::check(&rig.state).await.unwrap();
    // Staff, who are employed, stay.
    assert_eq!(verdict(&rig, &gate, 3, 3).await, Verdict::Grant);
    assert_eq!(rig.state.store.alarms().await.unwrap().len(), 1, "overdue");
    if ENGINE == Engine::Sqlite {
        let remains = rig.end().await;
        assert!(!lies_in_files(&remains.data()));
    }
}

/// The shipped profile with another name, and one rule's term changed.
fn other_profile(from: &str, to: &str) -> String {
    let text = profiles::read("nsw-2014").unwrap();
    assert!(text.contains(from), "{from}");
    text.replace("name = \"nsw-2014\"", "name = \"trial\"")
        .replacen(from, to, 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_has_its_own_term_and_a_deleted_photograph_leaves_the_person_recognisable() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    // The first rule about photographs is the visitors'.
    let text = other_profile("months = 6", "months = 1");
    profiles::set(&rig.state, &text, "a trial", "test")
        .await
        .unwrap();
    let again = other_profile("months = 6", "months = 2");
    let again = profiles::set(&rig.state, &again, "a trial", "test").await;
    assert!(again.unwrap_err().to_string().contains("raise the version"));
    gate.enrol_as(visitor(&rig, &gate, 1)).await;
    rig.clock.advance_millis(40 * DAY_MS);
    let done = run(&rig).await;
    assert_eq!((done.deleted, done.erased), (1, 0), "{done:?}");
    let rows = rig.state.store.references(subject(1)).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.photograph_sealed.is_none()));
    let entry = entries(&rig, "retention_deleted").await.remove(0);
    assert_eq!(entry.decision.as_deref(), Some("photograph"));
    assert_eq!(entry.policy.as_deref(), Some("trial@3"));
    let rig = rig.restart().await;
    assert_eq!(rig.state.profile().profile.name(), "trial");
    assert_eq!(verdict(&rig, &gate, 1, 1).await, Verdict::Grant);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_profile_forbids_is_not_kept_and_an_altered_profile_stops_the_start() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let text = profiles::read("nsw-2014").unwrap();
    let prisoners = text.find("categories = [\"prisoner\"]").unwrap();
    let keep = prisoners + text[prisoners..].find("keep = ").unwrap();
    let end = keep + text[keep..].find('\n').unwrap();
    let text = format!("{}keep = \"never\"{}", &text[..keep], &text[end..])
        .replace("name = \"nsw-2014\"", "name = \"trial\"")
        .replace("[\"access\", ", "[");
    profiles::set(&rig.state, &text, "a trial", "test")
        .await
        .unwrap();
    let mut prisoner = gate.submission(2);
    prisoner.category = SubjectCategory::Prisoner;
    let answer = gate.client.post(paths::ENROLMENT, &prisoner).await;
    assert_eq!(answer.status, 403);
    assert!(rig.state.store.subject(subject(2)).await.unwrap().is_none());
    // A purpose that is not permitted: no new gate, and an officer decides at those that are there.
    let id = "side".parse().unwrap();
    let refused = gates::add(&rig.state, &id, Direction::Entry, &policy(), "test").await;
    assert!(refused.unwrap_err().to_string().contains("purpose"));
    let request = gate.request(rig.transaction(1), mate(1, 40));
    assert_eq!(gate.pass(&request).await.verdict, Verdict::Refer);

    let hand = rig.hand().await;
    sqlx::query("UPDATE profile SET content = REPLACE(content, 'months = 6', 'months = 60')")
        .execute(&hand)
        .await
        .unwrap();
    hand.close().await;
    let clock = rig.clock.clone();
    let remains = rig.end().await;
    let state = installation::open_with(&data(&remains.folder), clock, None)
        .await
        .unwrap();
    let refused = registry::load(&state).await;
    assert!(
        matches!(refused, Err(RegistryError::ProfileChanged)),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nightly_run_comes_once_a_day_and_what_was_late_is_an_alarm() {
    let rig = Rig::start().await;
    assert_eq!(
        retention::nightly(&rig.state).await.unwrap(),
        None,
        "nobody"
    );
    let gate = rig.gate("front-in").await;
    gate.enrol_as(visitor(&rig, &gate, 1)).await;
    assert_eq!(
        retention::nightly(&rig.state).await.unwrap(),
        Some(Run::default())
    );
    assert_eq!(retention::nightly(&rig.state).await.unwrap(), None);
    rig.clock.advance_millis(DAY_MS);
    assert!(retention::nightly(&rig.state).await.unwrap().is_some());
    rig.clock.advance_millis(200 * DAY_MS);
    let late = retention::nightly(&rig.state).await.unwrap().unwrap();
    assert_eq!((late.erased, late.overdue), (1, 3), "{late:?}");
    assert_eq!(entries(&rig, "retention_overdue").await.len(), 1);
    assert_eq!(rig.state.store.alarms().await.unwrap().len(), 1);
    let future = rig.clock.now().plus_millis(1);
    let refused = retention::record(
        &rig.state,
        subject(1),
        Event::Released,
        future,
        "early",
        "test",
    )
    .await;
    assert!(
        matches!(refused, Err(RetentionError::Future)),
        "{refused:?}"
    );
}

/// A person without references and documents still has a name: it goes when its time is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_all_that_is_left_goes_too_and_a_hold_that_comes_late_counts() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol_as(visitor(&rig, &gate, 1)).await;
    gate.enrol_as(visitor(&rig, &gate, 2)).await;
    let hand = rig.hand().await;
    sqlx::query("DELETE FROM reference WHERE subject_id = $1")
        .bind(subject(1).to_string())
        .execute(&hand)
        .await
        .unwrap();
    hand.close().await;
    rig.clock.advance_millis(200 * DAY_MS);
    retention::hold(&rig.state, subject(2), "order 4711", "test")
        .await
        .unwrap();
    let done = run(&rig).await;
    assert_eq!((done.erased, done.held), (1, 3), "{done:?}");
    assert!(rig.state.store.subject(subject(1)).await.unwrap().is_none());
    assert!(rig.state.store.subject(subject(2)).await.unwrap().is_some());
}

/// A passage with a picture; who stands there is the template's business.
async fn passes(rig: &Rig, gate: &Gate, number: u64, who: FaceTemplate) -> TransactionId {
    let row = rig.state.store.gate(&gate.id).await.unwrap().unwrap();
    let mut request = gate.request(rig.transaction(number), who);
    let id = request.transaction;
    request.attachment = Some(picture(rig, &id.to_string()));
    passages::request(&rig.state, &row, request).await.unwrap();
    assert!(has_picture(rig, id).await);
    id
}

async fn has_picture(rig: &Rig, passage: TransactionId) -> bool {
    passages::open_picture(&rig.state, passage)
        .await
        .unwrap()
        .is_some()
}

async fn reviewed(rig: &Rig, passage: TransactionId, verdict: Verdict) {
    let officer = OfficerId::from_uuid("0190a000-0000-7000-8000-000000000001".parse().unwrap());
    reviews::decide(&rig.state, passage, officer, verdict, "looked")
        .await
        .unwrap();
}

const HOUR_MS: i64 = 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn the_picture_of_a_passage_goes_72_hours_after_its_decision_and_waits_for_review_14_days() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let known = passes(&rig, &gate, 1, mate(1, 40)).await;
    let waiting = passes(&rig, &gate, 2, template(502)).await;
    let refused = passes(&rig, &gate, 3, template(503)).await;
    let granted = passes(&rig, &gate, 4, template(504)).await;
    rig.clock.advance_millis(10 * HOUR_MS);
    reviewed(&rig, refused, Verdict::Refuse).await;
    reviewed(&rig, granted, Verdict::Grant).await;
    // A hand in the database prolongs nothing: the log says when it was, and what.
    let hand = rig.hand().await;
    sqlx::query("UPDATE passage SET decided_at = decided_at + 864000000000, verdict = 'grant'")
        .execute(&hand)
        .await
        .unwrap();
    rig.clock.advance_millis(62 * HOUR_MS - 1);
    assert_eq!(run(&rig).await, Run::default());
    let kept = retention::list(&rig.state, "test").await.unwrap();
    let named: Vec<_> = kept.pictures.iter().map(|one| one.passage).collect();
    assert_eq!(named, [known, waiting, refused, granted]);
    // The machine's own decision ended the first one.
    rig.clock.advance_millis(1);
    assert_eq!(run(&rig).await.pictures, 1);
    assert!(!has_picture(&rig, known).await);
    rig.clock.advance_millis(10 * HOUR_MS);
    let done = run(&rig).await;
    assert_eq!((done.pictures, done.deleted, done.overdue), (2, 0, 0));
    for (passage, stays) in [(waiting, true), (refused, false), (granted, false)] {
        assert_eq!(has_picture(&rig, passage).await, stays);
    }
    let deleted = entries(&rig, "retention_deleted").await;
    let listed: Vec<_> = deleted
        .iter()
        .map(|entry| entry.references.clone())
        .collect();
    let names = |ids: &[TransactionId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(listed, [names(&[known]), names(&[refused, granted])]);
    assert_eq!(deleted[0].decision.as_deref(), Some("passage_pictures"));
    assert_eq!(deleted[0].policy.as_deref(), Some("nsw-2014@3"));
    // Nobody reviews the other one; after a restart the log still says what is due.
    let rig = rig.restart().await;
    rig.clock.advance_millis((336 - 82) * HOUR_MS - 1);
    assert_eq!(run(&rig).await.pictures, 0);
    rig.clock.advance_millis(1);
    assert_eq!(run(&rig).await.pictures, 1);
    assert!(!has_picture(&rig, waiting).await);
    assert_eq!(run(&rig).await, Run::default());
    audit::check(&rig.state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_of_passages_go_with_the_person_who_was_recognised_there_and_nobody_elses() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    gate.enrol(2).await;
    let one = passes(&rig, &gate, 1, mate(1, 40)).await;
    let two = passes(&rig, &gate, 2, mate(2, 40)).await;
    let stranger = passes(&rig, &gate, 3, template(503)).await;
    registry::remove(&rig.state, subject(1), "test")
        .await
        .unwrap();
    for (passage, stays) in [(one, false), (two, true), (stranger, true)] {
        assert_eq!(has_picture(&rig, passage).await, stays);
    }
    let deleted = entries(&rig, "retention_deleted").await;
    assert_eq!(deleted.len(), 1);
    assert_eq!(deleted[0].references, [one.to_string()]);
    assert_eq!(deleted[0].subject, Some(subject(1).to_string()));
    // More than one entry can list, in one night.
    for number in 0..110 {
        passes(&rig, &gate, 100 + number, template(600)).await;
    }
    rig.clock.advance_millis(336 * HOUR_MS);
    assert_eq!(run(&rig).await.pictures, 112);
    let deleted = entries(&rig, "retention_deleted").await;
    let sizes: Vec<_> = deleted.iter().map(|entry| entry.references.len()).collect();
    assert_eq!(sizes, [1, 100, 12]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_is_late_is_found_by_the_nightly_search() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    passes(&rig, &gate, 1, template(501)).await;
    rig.clock.advance_millis(15 * DAY_MS + 1);
    let kept = retention::list(&rig.state, "test").await.unwrap();
    assert!(kept.pictures[0].is_overdue(rig.clock.now()));
    let late = retention::nightly(&rig.state).await.unwrap().unwrap();
    assert_eq!((late.pictures, late.overdue), (1, 1), "{late:?}");
    assert_eq!(entries(&rig, "retention_overdue").await.len(), 1);
    assert_eq!(rig.state.store.alarms().await.unwrap().len(), 1);
}

/// How many rows each of these tables has.
async fn tables_with(rig: &Rig, tables: [&str; 3]) -> Vec<i64> {
    let hand = rig.hand().await;
    let mut counts = Vec::new();
    for table in tables {
        let query = format!("SELECT COUNT(*) FROM {table}");
        let row = sqlx::query(sqlx::AssertSqlSafe(query));
        counts.push(row.fetch_one(&hand).await.unwrap().get::<i64, _>(0));
    }
    hand.close().await;
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn no_template_of_somebody_who_is_not_enrolled_is_stored() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    gate.enrol(1).await;
    let tables = ["reference", "enrolment_reference", "passage"];
    let before = tables_with(&rig, tables).await;
    let stranger = template(501);
    let passage = passes(&rig, &gate, 1, stranger.clone()).await;
    // The passage is one row more, and no table of templates has one.
    let mut expected = before.clone();
    expected[2] += 1;
    assert_eq!(tables_with(&rig, tables).await, expected);
    // What is sealed beside its log entry, opened: numbers of comparisons, far smaller than a template.
    let row = rig.state.store.passage(passage).await.unwrap().unwrap();
    let detail = audit::detail(&rig.state, row.log_index).await.unwrap();
    let detail = detail.expect("scores are sealed there");
    let value: serde_json::Value = serde_json::from_slice(&detail).unwrap();
    let mut keys: Vec<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "calibration",
            "calibration_version",
            "candidates",
            "fused",
            "identifies"
        ]
    );
    assert!(detail.len() < stranger.as_slice().len() * 4 / 2);
    // As it came over the wire: nowhere in any file.
    let numbers: Vec<u8> = stranger.as_slice()[128..132]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let text = serde_json::to_string(&stranger).unwrap();
    let pieces = [numbers, text.as_bytes()[text.len() / 2..][..40].to_vec()];
    let files = rig.end().await.files().await;
    assert!(files.len() > 1);
    for (path, bytes) in files {
        for piece in &pieces {
            assert!(!contains(&bytes, piece), "{}", path.display());
        }
    }
}
