//! What one person at the server asks for and a supervisor decides, through the real programs and the console's router.

use std::process::{Command, Output};

use sallyport_domain::{Role, SubjectId};
use sallyport_server::approvals::{ASKED_MS, ApprovalError, Asked, GIVEN_MS, Kind, Pass, pass};
use sallyport_server::clock::{Clock as _, SystemClock};
use sallyport_server::{officers, retention};
use sallyport_transparency::Entry;

use crate::browser::{Browser, csrf};
use crate::common::{Rig, subject};
use crate::coverage::entries;

fn removal(person: SubjectId) -> Asked {
    Asked {
        kind: Kind::Removal,
        subject: Some(person),
        officer: None,
        what: format!("Remove {person}."),
        reason: "a request of 3 May".to_owned(),
    }
}

async fn ask(rig: &Rig, asked: &Asked) -> Pass {
    pass(&rig.state, asked, "server-console").await.unwrap()
}

async fn request(rig: &Rig, asked: &Asked) -> u64 {
    let pass = ask(rig, asked).await;
    let Pass::Waits { request, .. } = pass else {
        panic!("{pass:?}")
    };
    request
}

pub(crate) async fn last(rig: &Rig) -> Entry {
    let size = rig.state.store.log_size().await.unwrap();
    entries(rig, size - 1).await.pop().unwrap()
}

pub(crate) fn content(page: &str) -> &str {
    let (_, rest) = page.split_once("name=\"content\" value=\"").unwrap();
    rest.split('"').next().unwrap()
}

/// Looks at the request and answers it, as an officer does.
pub(crate) async fn answer(officer: &Browser, request: u64, form: &str) -> u16 {
    let path = format!("/approvals/{request}");
    let page = officer.get(&path).await;
    let form = format!("csrf={}&content={}&{form}", csrf(&page), content(&page));
    officer.post(&path, &form).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_is_done_once_after_a_second_person_approved_exactly_it() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let person = gate.enrol(1).await;
    let asked = removal(person);
    // Nobody could decide yet: one person does it, and the log says so.
    assert!(matches!(ask(&rig, &asked).await, Pass::Alone(_)));
    assert_eq!(last(&rig).await.kind, "approval_missing");
    let sam = Browser::signed_in_as(&rig, "Sam", Role::Supervisor).await;
    let alex = Browser::signed_in(&rig).await;

    let one = request(&rig, &asked).await;
    assert_eq!(last(&rig).await.kind, "approval_asked");
    let size = rig.state.store.log_size().await.unwrap();
    assert_eq!(request(&rig, &asked).await, one, "asked once");
    assert_eq!(rig.state.store.log_size().await.unwrap(), size);
    // Another reason is another request.
    let mut other = asked.clone();
    other.reason.push('!');
    let two = request(&rig, &other).await;
    assert_ne!(two, one);

    assert!(sam.get("/gates").await.contains("2 requests wait"));
    assert!(
        sam.get("/approvals")
            .await
            .contains(&format!("request {one}"))
    );
    let page = sam.get(&format!("/approvals/{one}")).await;
    assert!(page.contains(&format!("Remove {person}.")) && page.contains("a request of 3 May"));
    let look = last(&rig).await;
    assert_eq!(look.kind, "consultation");
    assert_eq!(look.subject, Some(person.to_string()));
    let form = format!("csrf={}&decision=approve&content=", csrf(&page));
    let path = format!("/approvals/{one}");
    assert_eq!(
        alex.post(&path, &form).await.0,
        403,
        "not for a gate officer"
    );
    for (wrong, status) in [
        (format!("{form}{}", "0".repeat(64)), 409),
        (form.replace("approve", "perhaps") + content(&page), 404),
        (form.replace("approve", "decline") + content(&page), 400),
        (form.replace("csrf=", "csrf=0") + content(&page), 403),
    ] {
        assert_eq!(sam.post(&path, &wrong).await.0, status, "{wrong}");
        assert_eq!(request(&rig, &asked).await, one, "{wrong}");
    }

    assert_eq!(answer(&sam, one, "decision=approve").await, 303);
    let given = last(&rig).await;
    assert_eq!(given.kind, "approval_given");
    assert_eq!(given.content, Some(content(&page).to_owned()));
    assert_eq!(given.about, Some(one.to_string()));
    let again = sam.ask("GET", &path, "", "https://localhost:0").await.0;
    assert_eq!(again, 404, "answered");
    // It is for exactly this.
    assert_eq!(request(&rig, &other).await, two);
    let Pass::Approved(used) = ask(&rig, &asked).await else {
        panic!("approved");
    };
    let entry = entries(&rig, used).await.remove(0);
    assert_eq!(entry.kind, "approval_used");
    assert_eq!(entry.about, Some(one.to_string()));
    // Once.
    assert!(request(&rig, &asked).await > used);

    // Declined with words, which are sealed.
    let words = "decision=decline&reason=not+before+the+hearing";
    assert_eq!(answer(&sam, two, words).await, 303);
    assert_eq!(ask(&rig, &other).await, Pass::Declined { request: two });
    let declined = last(&rig).await;
    assert_eq!(declined.kind, "approval_declined");
    assert!(declined.reason.is_none() && declined.detail_hash.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_approvals_lapse_and_survive_a_restart_by_the_log_alone() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let asked = removal(gate.enrol(1).await);
    let sam = Browser::signed_in_as(&rig, "Sam", Role::Supervisor).await;
    let one = request(&rig, &asked).await;
    rig.clock.advance_millis(officers::FRESH_MS + 1);
    let page = sam.get(&format!("/approvals/{one}")).await;
    assert!(page.contains("Prove first") && !page.contains("decision"));
    let kim = Browser::signed_in_as(&rig, "Kim", Role::Supervisor).await;
    let page = kim.get(&format!("/approvals/{one}")).await;
    let form = format!(
        "csrf={}&content={}&decision=approve",
        csrf(&sam.get("/account").await),
        content(&page)
    );
    let path = format!("/approvals/{one}");
    assert_eq!(sam.post(&path, &form).await.0, 403, "not fresh");
    assert_eq!(answer(&kim, one, "decision=approve").await, 303);
    // Another process reads it from the log.
    let rig = rig.restart().await;
    rig.clock.advance_millis(GIVEN_MS + 1);
    let two = request(&rig, &asked).await;
    assert!(two > one, "the approval was too old");
    rig.clock.advance_millis(ASKED_MS);
    assert_eq!(request(&rig, &asked).await, two);
    rig.clock.advance_millis(1);
    assert!(request(&rig, &asked).await > two, "the request was too old");

    let nobody = pass(&rig.state, &removal(subject(99)), "server-console").await;
    assert!(matches!(nobody, Err(ApprovalError::NoPerson)));
    let mut long = asked.clone();
    long.reason = "x".repeat(501);
    let long = pass(&rig.state, &long, "server-console").await;
    assert!(matches!(long, Err(ApprovalError::Words)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_decides_about_the_own_account_and_ending_all_supervisors_is_an_alarm() {
    let rig = Rig::start().await;
    let sam = Browser::signed_in_as(&rig, "Sam", Role::Supervisor).await;
    let kim = Browser::signed_in_as(&rig, "Kim", Role::Supervisor).await;
    let of_sam = officers::find(&rig.state, "Sam").await.unwrap().id;
    let asked = Asked {
        kind: Kind::Account,
        subject: None,
        officer: Some(of_sam),
        what: "A link for Sam.".to_owned(),
        reason: String::new(),
    };
    let one = request(&rig, &asked).await;
    assert!(
        sam.get("/approvals")
            .await
            .contains("another supervisor decides")
    );
    let page = kim.get(&format!("/approvals/{one}")).await;
    let form = format!(
        "csrf={}&content={}&decision=approve",
        csrf(&sam.get("/account").await),
        content(&page)
    );
    assert_eq!(sam.post(&format!("/approvals/{one}"), &form).await.0, 403);
    assert_eq!(request(&rig, &asked).await, one);

    let alarms = async || {
        let all = entries(&rig, 0).await;
        all.iter().filter(|entry| entry.kind == "log_alarm").count()
    };
    officers::disable(&rig.state, "Kim", "test").await.unwrap();
    assert_eq!(alarms().await, 0);
    // Only Sam is left, and it is about Sam: nobody could decide.
    let asked = Asked {
        reason: "the key is lost".to_owned(),
        ..asked
    };
    assert!(matches!(ask(&rig, &asked).await, Pass::Alone(_)));
    assert_eq!(alarms().await, 1);
}

fn run(rig: &Rig, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sallyport-server"))
        .args(line.split(' '))
        .arg("--data")
        .arg(crate::common::data(&rig.folder))
        .output()
        .unwrap()
}

/// The commands look at the real clock.
fn as_the_programs(rig: &Rig) {
    let now = SystemClock.now();
    rig.clock.advance_millis(now.millis_since(rig.clock.now()));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_such_command_does_nothing_without_a_second_person() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let person = gate.enrol(1).await;
    let other = gate.enrol(3).await;
    let hold = retention::hold(&rig.state, other, "order 4711", "test").await;
    let hold = hold.unwrap();
    let double = crate::merging::enrol_again(&rig, &gate, 2, 1).await;
    as_the_programs(&rig);
    let sam = Browser::signed_in_as(&rig, "Sam", Role::Supervisor).await;
    sallyport_server::keys::prepare(&rig.state, "test")
        .await
        .unwrap();
    sallyport_server::keys::rewrap(&rig.state, "test", |_| ())
        .await
        .unwrap();
    let key = rig.folder.path().join("custodian").display().to_string();
    let made = run(&rig, &format!("backup-key {key}"));
    // It takes no data folder, and says so; ask it without.
    assert!(!made.status.success());
    let made = Command::new(env!("CARGO_BIN_EXE_sallyport-server"))
        .args(["backup-key", &key])
        .output()
        .unwrap();
    let public = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let policy = crate::policies::file(&rig, "front-2");
    let tar = rig.folder.path().join("details.tar").display().to_string();
    for (line, done) in [
        (
            "officer setup-link --role enroller".to_owned(),
            "officer_setup_link",
        ),
        (
            "officer setup-link --renew Sam --reason lost".to_owned(),
            "",
        ),
        ("profile set uk --reason trial".to_owned(), "profile_change"),
        (
            format!("registry group {person} white --reason stated"),
            "subject_group",
        ),
        (
            format!("registry merge {double} --into {person} --reason passport"),
            "subject_merged",
        ),
        (
            format!("registry unmerge {double} --reason twins"),
            "subject_unmerged",
        ),
        ("registry retire-key 1".to_owned(), "keys_rotated"),
        (
            format!("registry status {person} released --reason trial"),
            "subject_status",
        ),
        (
            format!("registry status {person} active --reason trial"),
            "subject_status",
        ),
        (
            format!("retention event {person} released --at 2020-01-01T00:00:00Z --reason trial"),
            "subject_event",
        ),
        (
            format!("retention hold {other} --reason trial"),
            "legal_hold",
        ),
        (
            format!("retention lift {other} {hold} --reason trial"),
            "legal_hold",
        ),
        (
            format!("gate policy front-in --set {policy} --reason trial"),
            "gate_policy",
        ),
        (
            format!("audit export --tar {tar} --details-for {public} --reason complaint"),
            "export",
        ),
        (
            format!("registry remove {person} --reason asked"),
            "subject_removed",
        ),
    ] {
        if done.is_empty() {
            // About the only supervisor: nobody could decide, so it is done by one.
            assert!(run(&rig, &line).status.success(), "{line}");
            continue;
        }
        let size = rig.state.store.log_size().await.unwrap();
        let output = run(&rig, &line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{line}");
        assert!(said.contains("nothing was done yet"), "{line}: {said}");
        let left: Vec<_> = entries(&rig, size)
            .await
            .into_iter()
            .map(|entry| entry.kind)
            .collect();
        assert_eq!(left, ["approval_asked"], "{line}");
        as_the_programs(&rig);
        assert_eq!(answer(&sam, size, "decision=approve").await, 303, "{line}");
        let output = run(&rig, &line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {said}");
        let kinds: Vec<_> = entries(&rig, size)
            .await
            .into_iter()
            .map(|entry| entry.kind)
            .collect();
        let used = kinds.iter().position(|kind| kind == "approval_used");
        let acted = kinds.iter().position(|kind| kind == done);
        assert!(used.is_some() && used < acted, "{line}: {kinds:?}");
    }
    // Shutting an open door needs nobody; opening it again does, and so does anything that makes a ban less.
    let size = rig.state.store.log_size().await.unwrap();
    let line = format!("registry status {other} banned --reason threat");
    assert!(run(&rig, &line).status.success());
    assert_eq!(entries(&rig, size).await[0].kind, "subject_status");
    for status in ["active", "suspended", "released", "deceased"] {
        let line = format!("registry status {other} {status} --reason trial");
        assert!(!run(&rig, &line).status.success(), "{line}");
        assert_eq!(last(&rig).await.kind, "approval_asked");
    }
    // A gate officer's link needs nobody.
    assert!(run(&rig, "officer setup-link").status.success());
}
