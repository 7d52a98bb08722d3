//! A person's record in the console, what is proposed about it, and what a supervisor's approval then does: once, exactly that, and with
//! both officers in its entry.

use sallyport_domain::{Role, SubjectId, SubjectStatus, Verdict};
use sallyport_server::approvals::ASKED_MS;
use sallyport_server::clock::Clock as _;
use sallyport_server::{consultations, officers, records, registry};
use sallyport_transparency::Entry;

use crate::approvals::{answer, content, last};
use crate::browser::{Browser, csrf};
use crate::common::{Gate, Rig, dialect, mate, subject};
use crate::coverage::entries;
use crate::officers::{set_level, set_role};

const NAME: &str = "Canary Person 1";
const REASON: &str = "reason=incident&case=2026-17";

/// Sends a form with the officer's token.
async fn send(officer: &Browser, path: &str, form: &str) -> (u16, String) {
    let csrf = csrf(&officer.get("/account").await);
    officer.post(path, &format!("csrf={csrf}&{form}")).await
}

async fn open(officer: &Browser, person: SubjectId) -> String {
    let (status, page) = send(officer, &format!("/people/{person}"), REASON).await;
    assert_eq!(status, 200, "{page}");
    page
}

async fn propose(officer: &Browser, person: SubjectId, form: &str) -> u16 {
    send(officer, &format!("/people/{person}/propose"), form)
        .await
        .0
}

/// Proposes, and returns the request's entry.
async fn asked(rig: &Rig, officer: &Browser, person: SubjectId, form: &str) -> u64 {
    let size = rig.state.store.log_size().await.unwrap();
    assert_eq!(propose(officer, person, form).await, 303, "{form}");
    let entry = entries(rig, size).await.remove(0);
    assert_eq!(entry.kind, "approval_asked", "{form}");
    size
}

async fn status(rig: &Rig, person: SubjectId) -> SubjectStatus {
    let view = records::view(&rig.state, person).await.unwrap();
    view.subject.record.status
}

async fn id(rig: &Rig, name: &str) -> Option<String> {
    let account = officers::find(&rig.state, name).await.unwrap();
    Some(account.id.to_string())
}

async fn of_kind(rig: &Rig, kind: &str) -> Vec<Entry> {
    let mut all = entries(rig, 0).await;
    all.retain(|entry| entry.kind == kind);
    all
}

/// Somebody enrolled, a gate officer who has opened the record, and a supervisor.
async fn begin(rig: &Rig) -> (Gate, SubjectId, Browser, Browser) {
    let gate = rig.gate("front-in").await;
    let person = gate.enrol(1).await;
    let alex = Browser::signed_in(rig).await;
    let sam = Browser::signed_in_as(rig, "Sam", Role::Supervisor).await;
    open(&alex, person).await;
    (gate, person, alex, sam)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_record_is_shown_before_a_reason_and_its_entry() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let person = gate.enrol(1).await;
    let alex = Browser::signed_in(&rig).await;
    let path = format!("/people/{person}");
    let opened = rig.state.records_opened();
    let looks = of_kind(&rig, "consultation").await.len();
    assert!(!alex.get("/people").await.contains(NAME));
    for (wrong, code) in [
        ("", 400),
        ("Canary", 400),
        ("%27+OR+1", 400),
        ("..%2F", 400),
    ] {
        let found = send(&alex, "/people", &format!("person={wrong}")).await;
        assert_eq!(found.0, code, "{wrong}");
    }
    let found = send(&alex, "/people", &format!("person=+{person}+")).await;
    assert_eq!(found.0, 303);
    let question = alex.get(&path).await;
    assert!(question.contains("Why do you need this record?") && !question.contains(NAME));
    for form in ["", "reason=incident&case=", "reason=curiosity&case=1"] {
        let (status, page) = send(&alex, &path, form).await;
        assert!(status == 400 && !page.contains(NAME), "{form}");
    }
    let (status, page) = send(&alex, &format!("{path}/propose"), "what=hold&words=x").await;
    assert!(status == 400 && !page.contains(NAME));
    let statement = format!("{path}/statement");
    assert_eq!(alex.ask("GET", &statement, "", "null").await.0, 400);
    for other in ["/people/1".to_owned(), format!("/people/{}", subject(99))] {
        assert_eq!(send(&alex, &other, REASON).await.0, 404, "{other}");
    }
    assert_eq!(rig.state.records_opened(), opened, "no record was opened");
    assert_eq!(of_kind(&rig, "consultation").await.len(), looks);

    let size = rig.state.store.log_size().await.unwrap();
    let page = open(&alex, person).await;
    for shown in [
        NAME,
        "Active",
        "staff",
        "front-in",
        "Face",
        "no term in the text",
    ] {
        assert!(page.contains(shown), "{shown} is not in {page}");
    }
    let entry = &entries(&rig, size).await[0];
    assert_eq!(entry.kind, "consultation");
    assert_eq!(entry.subject, Some(person.to_string()));
    assert_eq!(entry.about, entry.subject);
    assert_eq!(entry.actor, id(&rig, "Alex").await);
    assert_eq!(entry.reason.as_deref(), Some("incident 2026-17"));
    // Open for a quarter of an hour, each look an entry; to this officer only.
    assert!(alex.get(&path).await.contains(NAME));
    assert_eq!(last(&rig).await.reason.as_deref(), Some("of_open_record"));
    let blair = Browser::signed_in_as(&rig, "Blair", Role::Enroller).await;
    assert!(!blair.get(&path).await.contains(NAME));
    // A row that somebody wrote by hand, even with the number of somebody else's entry, opens nothing.
    let hand = rig.hand().await;
    for index in [size, 0, 1_000_000] {
        sqlx::query("DELETE FROM consultation WHERE officer_id = $1")
            .bind(id(&rig, "Blair").await.unwrap())
            .execute(&hand)
            .await
            .unwrap();
        sqlx::query("UPDATE consultation SET officer_id = $1, log_index = $2, at = $3")
            .bind(id(&rig, "Blair").await.unwrap())
            .bind(i64::try_from(index).unwrap())
            .bind(rig.clock.now().as_micros())
            .execute(&hand)
            .await
            .unwrap();
        assert!(!blair.get(&path).await.contains(NAME), "{index}");
    }
    open(&alex, person).await;
    rig.clock.advance_millis(consultations::OPEN_MS - 60_000);
    assert!(alex.get(&path).await.contains(NAME));
    rig.clock.advance_millis(60_001);
    assert!(!alex.get(&path).await.contains(NAME), "too long ago");
}

#[tokio::test(flavor = "multi_thread")]
async fn wings_and_quota_hold_for_records_too_and_an_emergency_is_told() {
    let rig = Rig::start().await;
    let (_, person, alex, _) = begin(&rig).await;
    let path = format!("/people/{person}");
    let wings = ["b".to_owned()];
    consultations::set_officer_wings(&rig.state, "Alex", &wings, "test")
        .await
        .unwrap();
    consultations::set_wing(&rig.state, person, Some("A"), "test")
        .await
        .unwrap();
    let (status, page) = send(&alex, &path, REASON).await;
    assert!(status == 403 && page.contains("wings") && !page.contains(NAME));
    let (status, page) = send(&alex, &path, "reason=emergency&words=fire+in+A+wing").await;
    assert!(status == 200 && page.contains(NAME));
    assert_eq!(of_kind(&rig, "break_the_glass").await.len(), 1);
    consultations::set_officer_wings(&rig.state, "Alex", &[], "test")
        .await
        .unwrap();
    // Two were opened.
    for _ in 0..18 {
        open(&alex, person).await;
    }
    let (status, page) = send(&alex, &path, REASON).await;
    assert!(status == 429 && !page.contains(NAME));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_proposed_is_done_once_by_the_approval_with_both_officers_named() {
    let rig = Rig::start().await;
    let (gate, person, alex, sam) = begin(&rig).await;
    let form = "what=status&which=released&words=%3Cb%3Eend+of+sentence";
    let one = asked(&rig, &alex, person, form).await;
    assert_eq!(status(&rig, person).await, SubjectStatus::Active);
    assert_eq!(propose(&alex, person, form).await, 303, "the same request");
    assert_eq!(of_kind(&rig, "approval_asked").await.len(), 1);
    assert!(
        alex.get(&format!("/people/{person}"))
            .await
            .contains(&format!("request {one} waits"))
    );
    // Nobody but a supervisor, and only what was shown.
    let path = format!("/approvals/{one}");
    let page = sam.get(&path).await;
    for shown in [
        "from active to released",
        NAME,
        "&#60;b&#62;end of sentence",
    ] {
        assert!(page.contains(shown), "{shown} is not in {page}");
    }
    let approval = format!("decision=approve&content={}", content(&page));
    assert_eq!(send(&alex, &path, &approval).await.0, 403);
    let other = format!("decision=approve&content={}", "0".repeat(64));
    assert_eq!(send(&sam, &path, &other).await.0, 409);
    assert_eq!(status(&rig, person).await, SubjectStatus::Active);

    let size = rig.state.store.log_size().await.unwrap();
    let (done, page) = send(&sam, &path, &approval).await;
    assert!(done == 200 && page.contains("Approved and done"), "{page}");
    let left = entries(&rig, size).await;
    let kinds: Vec<_> = left.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["approval_given", "approval_used", "subject_status"]);
    let act = &left[2];
    assert_eq!(act.actor, id(&rig, "Alex").await);
    assert_eq!(act.actor2, id(&rig, "Sam").await);
    assert_eq!(act.subject, Some(person.to_string()));
    assert_eq!(act.decision.as_deref(), Some("released"));
    assert!(act.detail_hash.is_some(), "the words are sealed beside it");
    assert_eq!(status(&rig, person).await, SubjectStatus::Released);
    let request = gate.request(rig.transaction(1), mate(1, 5));
    assert_ne!(gate.pass(&request).await.verdict, Verdict::Grant);
    assert_eq!(send(&sam, &path, &approval).await.0, 404, "once");
    assert_eq!(of_kind(&rig, "subject_status").await.len(), 1);
    // After a restart it is not waiting either.
    let rig = rig.restart().await;
    let kim = Browser::signed_in_as(&rig, "Kim", Role::Supervisor).await;
    assert!(kim.get("/approvals").await.contains("Nothing waits"));
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_events_and_a_removal_are_done_by_the_approval_and_a_hold_keeps_the_person() {
    let rig = Rig::start().await;
    let (_, person, alex, sam) = begin(&rig).await;
    let approve = async |form: &str| {
        let request = asked(&rig, &alex, person, form).await;
        assert_eq!(
            answer(&sam, request, "decision=approve").await,
            200,
            "{form}"
        );
        let act = last(&rig).await;
        assert_eq!(act.actor, id(&rig, "Alex").await, "{form}");
        assert_eq!(act.actor2, id(&rig, "Sam").await, "{form}");
        assert_eq!(act.subject, Some(person.to_string()));
        act
    };
    // Proposed before the hold, approved after it: the hold counts.
    let removal = "what=removal&words=asked+by+letter";
    let early = asked(&rig, &alex, person, removal).await;
    let placed = approve("what=hold&words=order+4711").await;
    assert_eq!(placed.kind, "legal_hold");
    let hold = placed.about.unwrap();
    assert_eq!(answer(&sam, early, "decision=approve").await, 409);
    assert_eq!(
        propose(&alex, person, "what=removal&words=at+once").await,
        409
    );
    assert!(rig.state.store.subject(person).await.unwrap().is_some());
    let event = approve("what=event&which=released&day=2024-02-29&words=by+the+court").await;
    assert_eq!(event.kind, "subject_event");
    assert_eq!(event.decision.as_deref(), Some("released"));
    assert_eq!(event.reason.as_deref(), Some("2024-02-29T00:00:00Z"));
    let lift = format!("what=lift&which={hold}&words=case+closed");
    let lifted = approve(&lift).await;
    assert_eq!(
        (lifted.kind.as_str(), lifted.about),
        ("legal_hold", Some(hold))
    );
    assert_eq!(propose(&alex, person, &lift).await, 400, "lifted");

    assert_eq!(answer(&sam, early, "decision=approve").await, 200);
    let removed = last(&rig).await;
    assert_eq!(removed.kind, "subject_removed");
    assert_eq!(removed.actor2, id(&rig, "Sam").await);
    assert!(rig.state.store.subject(person).await.unwrap().is_none());
    assert_eq!(
        send(&alex, &format!("/people/{person}"), REASON).await.0,
        404
    );
    let open = alex
        .ask("GET", &format!("/people/{person}"), "", "null")
        .await;
    assert_eq!(open.0, 404, "though it was open a moment ago");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_a_door_holds_at_once_and_only_two_people_open_it_again() {
    let rig = Rig::start().await;
    let (gate, person, alex, sam) = begin(&rig).await;
    let verdict = async |number: u64| {
        let request = gate.request(rig.transaction(number), mate(1, number));
        gate.pass(&request).await.verdict
    };
    assert_eq!(verdict(1).await, Verdict::Grant);
    let ban = "what=status&which=banned&words=threatened+a+visitor";
    let one = asked(&rig, &alex, person, ban).await;
    let alone = last(&rig).await;
    assert_eq!(alone.kind, "subject_status");
    assert_eq!((alone.actor, alone.actor2), (id(&rig, "Alex").await, None));
    assert_eq!(verdict(2).await, Verdict::Refuse);
    // Weaker, or open again: not by one person.
    let weaker = "what=status&which=suspended&words=calm+again";
    let two = asked(&rig, &alex, person, weaker).await;
    let active = "what=status&which=active&words=calm+again";
    let three = asked(&rig, &alex, person, active).await;
    assert_eq!(status(&rig, person).await, SubjectStatus::Banned);
    assert!(
        sam.get(&format!("/approvals/{one}"))
            .await
            .contains("Confirm")
    );
    assert_eq!(answer(&sam, one, "decision=approve").await, 200);
    let confirmed = last(&rig).await;
    assert_eq!(confirmed.decision.as_deref(), Some("banned"));
    assert_eq!(confirmed.actor2, id(&rig, "Sam").await);
    assert_eq!(answer(&sam, three, "decision=approve").await, 200);
    assert_eq!(status(&rig, person).await, SubjectStatus::Active);
    assert_eq!(verdict(3).await, Verdict::Grant);
    assert_eq!(
        answer(&sam, two, "decision=approve").await,
        409,
        "not banned"
    );

    // The same words again: they hold again, whatever was answered before. Declined, the door stays shut; so it does when it lapses.
    let four = asked(&rig, &alex, person, ban).await;
    assert_eq!(verdict(4).await, Verdict::Refuse);
    assert_eq!(answer(&sam, four, "decision=decline&reason=why").await, 303);
    assert_eq!(status(&rig, person).await, SubjectStatus::Banned);
    rig.clock.advance_millis(ASKED_MS + 1);
    assert_eq!(status(&rig, person).await, SubjectStatus::Banned);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_could_decide_only_shutting_a_door_is_done() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let person = gate.enrol(1).await;
    let alex = Browser::signed_in(&rig).await;
    open(&alex, person).await;
    for form in [
        "what=hold&words=x",
        "what=status&which=released&words=x",
        "what=removal&words=x",
    ] {
        assert_eq!(propose(&alex, person, form).await, 409, "{form}");
    }
    let shut = "what=status&which=suspended&words=x";
    assert_eq!(propose(&alex, person, shut).await, 303);
    assert_eq!(of_kind(&rig, "approval_missing").await.len(), 1);
    assert_eq!(status(&rig, person).await, SubjectStatus::Suspended);
    let open_again = "what=status&which=active&words=x";
    assert_eq!(propose(&alex, person, open_again).await, 409);
    assert_eq!(status(&rig, person).await, SubjectStatus::Suspended);
    assert!(of_kind(&rig, "approval_asked").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_was_erased_or_was_written_by_hand_meanwhile_is_not_done_and_said() {
    let rig = Rig::start().await;
    let (gate, person, alex, sam) = begin(&rig).await;
    let released = "what=status&which=released&words=end+of+sentence";
    let one = asked(&rig, &alex, person, released).await;
    registry::set_status(&rig.state, person, SubjectStatus::Banned, "test", "x")
        .await
        .unwrap();
    let page = sam.get(&format!("/approvals/{one}")).await;
    let form = format!("decision=approve&content={}", content(&page));
    let (code, said) = send(&sam, &format!("/approvals/{one}"), &form).await;
    assert!(code == 409 && said.contains("Nothing was approved and nothing was done"));
    assert_eq!(status(&rig, person).await, SubjectStatus::Banned);
    assert!(of_kind(&rig, "approval_given").await.is_empty());
    // It is not lost: it waits, and can be declined.
    assert_eq!(
        answer(&sam, one, "decision=decline&reason=changed").await,
        303
    );

    // A genuine older record put back by hand becomes no less wrong by an approval.
    let two = asked(
        &rig,
        &alex,
        person,
        "what=status&which=active&words=pardoned",
    )
    .await;
    let hand = rig.hand().await;
    let now = rig.state.store.subject(person).await.unwrap().unwrap();
    registry::set_status(&rig.state, person, SubjectStatus::Suspended, "test", "x")
        .await
        .unwrap();
    sqlx::query("UPDATE subject SET record_sealed = $1 WHERE id = $2")
        .bind(now.record_sealed)
        .bind(person.to_string())
        .execute(&hand)
        .await
        .unwrap();
    assert_eq!(answer(&sam, two, "decision=approve").await, 409);
    assert!(of_kind(&rig, "approval_given").await.is_empty());
    assert_eq!(of_kind(&rig, "log_alarm").await.len(), 1);
    assert_eq!(
        send(&alex, &format!("/people/{person}"), REASON).await.0,
        409
    );

    // Another person, whose request's sealed detail is exchanged, and who is then erased.
    let other = gate.enrol(2).await;
    open(&alex, other).await;
    let three = asked(&rig, &alex, other, "what=hold&words=order+1").await;
    let four = asked(&rig, &alex, other, "what=removal&words=order+2").await;
    let page = sam.get(&format!("/approvals/{three}")).await;
    sqlx::query(dialect(
        "DROP TRIGGER log_detail_keeps",
        "ALTER TABLE log_detail DISABLE TRIGGER USER",
    ))
    .execute(&hand)
    .await
    .unwrap();
    sqlx::query("UPDATE log_detail SET sealed = (SELECT d.sealed FROM log_detail d WHERE d.idx = $1) WHERE idx = $2")
        .bind(i64::try_from(four).unwrap())
        .bind(i64::try_from(three).unwrap())
        .execute(&hand)
        .await
        .unwrap();
    let form = format!("decision=approve&content={}", content(&page));
    assert_eq!(
        send(&sam, &format!("/approvals/{three}"), &form).await.0,
        503
    );
    assert!(of_kind(&rig, "legal_hold").await.is_empty());
    let page = sam.get(&format!("/approvals/{four}")).await;
    registry::remove(&rig.state, other, "test").await.unwrap();
    let form = format!("decision=approve&content={}", content(&page));
    assert_eq!(
        send(&sam, &format!("/approvals/{four}"), &form).await.0,
        404
    );
    assert!(
        !sam.get("/approvals")
            .await
            .contains(&format!("request {four}"))
    );
    assert!(of_kind(&rig, "approval_given").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_approvals_at_once_one_counts_and_late_ones_do_not() {
    let rig = Rig::start().await;
    let (_, person, alex, sam) = begin(&rig).await;
    let kim = Browser::signed_in_as(&rig, "Kim", Role::Supervisor).await;
    let request = asked(&rig, &alex, person, "what=hold&words=order+4711").await;
    let path = format!("/approvals/{request}");
    let mut forms = Vec::new();
    for officer in [&sam, &kim] {
        let page = officer.get(&path).await;
        let form = format!(
            "csrf={}&content={}&decision=approve",
            csrf(&page),
            content(&page)
        );
        forms.push((officer, form));
    }
    let tries = (0..8).map(|number| {
        let (officer, form) = &forms[number % 2];
        officer.post(&path, form)
    });
    let answers = futures_util::future::join_all(tries).await;
    let done = answers.iter().filter(|(code, _)| *code == 200).count();
    let late = answers.iter().filter(|(code, _)| *code == 404).count();
    assert_eq!((done, late), (1, 7));
    assert_eq!(of_kind(&rig, "legal_hold").await.len(), 1);
    assert_eq!(of_kind(&rig, "approval_used").await.len(), 1);

    let release = "what=status&which=released&words=asked";
    let request = asked(&rig, &alex, person, release).await;
    let path = format!("/approvals/{request}");
    let form = format!(
        "decision=approve&content={}",
        content(&sam.get(&path).await)
    );
    rig.clock.advance_millis(officers::FRESH_MS + 1);
    assert_eq!(send(&sam, &path, &form).await.0, 403, "not fresh");
    rig.clock.advance_millis(ASKED_MS);
    let lee = Browser::signed_in_as(&rig, "Lee", Role::Supervisor).await;
    assert_eq!(send(&lee, &path, &form).await.0, 404, "lapsed");
    assert!(of_kind(&rig, "subject_status").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_proposed_it_does_not_decide_even_with_another_role() {
    let rig = Rig::start().await;
    let (_, person, alex, _) = begin(&rig).await;
    let request = asked(&rig, &alex, person, "what=hold&words=order+4711").await;
    set_role(&rig, Role::Supervisor.code()).await;
    set_level(&rig, 3).await;
    let path = format!("/approvals/{request}");
    let page = alex.get(&path).await;
    assert!(page.contains("another supervisor decides"), "{page}");
    let all = sallyport_server::approvals::waiting(&rig.state, crate::common::opener()).await;
    let form = format!("decision=approve&content={}", all.unwrap()[0].content);
    assert_eq!(send(&alex, &path, &form).await.0, 403);
    assert!(of_kind(&rig, "legal_hold").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_in_the_form_proposes_nothing() {
    let rig = Rig::start().await;
    let (gate, person, alex, sam) = begin(&rig).await;
    // Whoever has not opened a record is shown nothing of it for a form that makes no sense.
    let shut = gate.enrol(7).await;
    for form in ["what=x", "what=hold&words=x", ""] {
        let (_, page) = send(&alex, &format!("/people/{shut}/propose"), form).await;
        assert!(page.contains("Why do you need"), "{page}");
        assert!(!page.contains("Canary Person"), "{page}");
    }
    let long = format!("what=hold&words={}", "x".repeat(501));
    let tomorrow = rig.clock.now().plus_millis(2 * 86_400_000).to_rfc3339();
    let tomorrow = format!("what=event&which=released&words=x&day={}", &tomorrow[..10]);
    for form in [
        "",
        "what=hold",
        "what=hold&words=+",
        "what=hold&words=two%0Alines",
        "what=hold&words=%00",
        &long,
        "what=grant&words=x",
        "what=status&words=x",
        "what=status&which=operator&words=x",
        "what=status&which=active&words=x",
        "what=lift&which=0192a000-0000-7000-8000-000000000001&words=x",
        "what=lift&which=%00&words=x",
        "what=event&which=born&day=2024-01-01&words=x",
        "what=event&which=released&words=x",
        "what=event&which=released&day=2024-02-30&words=x",
        "what=event&which=released&day=2024-01-01T12:00&words=x",
        &tomorrow,
    ] {
        assert_eq!(propose(&alex, person, form).await, 400, "{form}");
    }
    let path = format!("/people/{person}/propose");
    let form = "what=hold&words=x";
    assert_eq!(alex.post(&path, &format!("csrf=0&{form}")).await.0, 403);
    assert_eq!(send(&sam, &path, form).await.0, 403, "supervisors decide");
    assert_eq!(send(&alex, "/people/1/propose", form).await.0, 404);
    for kind in [
        "approval_asked",
        "subject_status",
        "legal_hold",
        "subject_event",
    ] {
        assert!(of_kind(&rig, kind).await.is_empty(), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_person_is_told_what_is_kept_and_who_looked_by_role() {
    let rig = Rig::start().await;
    let (_, person, alex, _) = begin(&rig).await;
    let path = format!("/people/{person}/statement");
    let (code, page) = alex.ask("GET", &path, "", "null").await;
    assert!(
        code == 400 && !page.contains(NAME),
        "opened for an incident"
    );
    let own = "reason=own_request&case=letter-4711";
    let (_, page) = send(&alex, &format!("/people/{person}"), own).await;
    assert!(page.contains(&path));
    let page = alex.get(&path).await;
    for told in [
        NAME,
        "What is kept about you",
        "face template",
        "Gate officer",
        "incident",
        "you asked what is kept",
        "an officer decides",
    ] {
        assert!(page.contains(told), "{told} is not in {page}");
    }
    let main = page.split("<main").nth(1).unwrap();
    assert!(!main.contains("Alex"), "an officer's name");
    assert!(!main.contains("2026-17") && !main.contains("<script"));
    assert_eq!(last(&rig).await.decision.as_deref(), Some("statement"));
}

/// One person, enrolled as 1 and as 30: proposed on the record of one, with both records opened; done by the approval; taken back the same way.
#[tokio::test(flavor = "multi_thread")]
async fn two_records_of_one_person_are_merged_and_separated_by_two_officers() {
    let rig = Rig::start().await;
    let (gate, person, alex, sam) = begin(&rig).await;
    let double = crate::merging::enrol_again(&rig, &gate, 30, 1).await;
    let stranger = gate.enrol(2).await;
    let into = |who: SubjectId| format!("what=merge&which={who}&words=one+passport");
    // Whether two people look alike is told only to whoever may look at both.
    let size = rig.state.store.log_size().await.unwrap();
    for who in [double, stranger] {
        assert_eq!(propose(&alex, person, &into(who)).await, 409);
    }
    open(&alex, stranger).await;
    open(&alex, double).await;
    for (who, status) in [
        (into(stranger), 409),
        (into(person), 409),
        ("what=merge&which=x&words=y".to_owned(), 400),
        ("what=unmerge&words=y".to_owned(), 409),
    ] {
        assert_eq!(propose(&alex, person, &who).await, status, "{who}");
    }
    let asked_for = of_kind(&rig, "approval_asked").await;
    assert!(asked_for.is_empty(), "{size}");
    let one = asked(&rig, &alex, person, &into(double)).await;
    let references = async |of| rig.state.store.references(of).await.unwrap().len();
    assert_eq!((references(person).await, references(double).await), (2, 2));
    let page = sam.get(&format!("/approvals/{one}")).await;
    assert!(page.contains("look alike"), "{page}");
    assert_eq!(answer(&sam, one, "decision=approve").await, 200);
    assert_eq!((references(person).await, references(double).await), (0, 4));
    let merged = of_kind(&rig, "subject_merged").await;
    assert_eq!(merged.len(), 2);
    for entry in &merged {
        assert_eq!(entry.actor, id(&rig, "Alex").await);
        assert_eq!(entry.actor2, id(&rig, "Sam").await);
    }
    let granted = gate
        .pass(&gate.request(rig.transaction(9), mate(1, 7)))
        .await;
    assert_eq!(granted.verdict, Verdict::Grant);
    // The closed record says so, and takes nothing but its separation.
    let page = alex.get(&format!("/people/{person}")).await;
    assert!(page.contains("Merged into"), "{page}");
    let form = "what=status&which=banned&words=x";
    assert_eq!(propose(&alex, person, form).await, 409);
    let page = alex.get(&format!("/people/{double}")).await;
    assert!(page.contains("Is also"), "{page}");
    let two = asked(&rig, &alex, person, "what=unmerge&words=twins").await;
    // Somebody changed something meanwhile: nothing is done, and the request still waits.
    registry::set_status(
        &rig.state,
        double,
        SubjectStatus::Suspended,
        "test",
        "trial",
    )
    .await
    .unwrap();
    assert_eq!(answer(&sam, two, "decision=approve").await, 409);
    assert_eq!(references(double).await, 4);
    registry::set_status(&rig.state, double, SubjectStatus::Active, "test", "trial")
        .await
        .unwrap();
    assert_eq!(answer(&sam, two, "decision=approve").await, 200);
    assert_eq!((references(person).await, references(double).await), (2, 2));
    assert_eq!(of_kind(&rig, "subject_unmerged").await.len(), 2);
}

/// What was asked for at the server is done only while the record is what the words spoke of.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_changed_since_it_was_asked_for_is_not_overridden() {
    use sallyport_server::proposals::{self, ProposalError};
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let person = gate.enrol(1).await;
    let set = async |status| {
        registry::set_status(&rig.state, person, status, "test", "trial")
            .await
            .unwrap();
    };
    set(SubjectStatus::Suspended).await;
    let change = proposals::of_status(&rig.state, person, SubjectStatus::Active).await;
    let change = change.unwrap();
    set(SubjectStatus::Banned).await;
    let late = proposals::set_status(&rig.state, person, &change, "test", "trial").await;
    assert!(matches!(late, Err(ProposalError::Changed)), "{late:?}");
    assert_eq!(status(&rig, person).await, SubjectStatus::Banned);
    set(SubjectStatus::Suspended).await;
    let done = proposals::set_status(&rig.state, person, &change, "test", "trial").await;
    done.unwrap();
    assert_eq!(status(&rig, person).await, SubjectStatus::Active);
}
