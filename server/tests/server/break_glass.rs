//! The sealed emergency credential: it opens once, at the server itself, for an hour, with an alarm at once and a review the next day; and
//! the whole drill through the real program and real TLS.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Output, Stdio};

use sallyport_domain::Role;
use sallyport_server::break_glass::{
    self, BreakGlassError, Credential, DRILL_EVERY_MS, End, LIMIT_MS, review_due,
};
use sallyport_server::clock::{Clock as _, SystemClock};
use sallyport_server::console::need;
use sallyport_server::state::AppState;
use sallyport_server::{audit, console, installation, officers, refusals, registry, tls};
use sallyport_transparency::Entry;
use sqlx::AssertSqlSafe;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::browser::{Browser, csrf};
use crate::common::{Client, Rig, contains, template};
use crate::coverage::{entries, program, routes};

const OPEN: &str = "Emergency access is open at the server itself.";

/// A new credential in the envelope.
async fn sealed(rig: &Rig) -> String {
    let (credential, _) = break_glass::prepare(&rig.state, "test").await.unwrap();
    credential.text().to_owned()
}

/// Types a credential, not faster than it is looked at.
async fn typed(rig: &Rig, browser: &Browser, credential: &str) -> (u16, String) {
    rig.clock.advance_millis(10_000);
    let credential = credential.replace(' ', "+");
    let form = format!("credential={credential}&name=Robin+Duty&reason=all+keys+are+lost");
    browser.post("/break-glass", &form).await
}

/// Somebody at the server who has opened emergency access.
pub(crate) async fn emergency(rig: &Rig) -> Browser {
    let credential = sealed(rig).await;
    let mut browser = Browser::at_the_server(rig);
    let (status, cookie) = typed(rig, &browser, &credential).await;
    assert_eq!(status, 303, "{cookie}");
    browser.cookie = Some(cookie);
    browser
}

/// Kinds of the entries from `start` on.
async fn kinds(rig: &Rig, start: u64) -> Vec<String> {
    let all = entries(rig, start).await.into_iter();
    all.map(|entry| entry.kind).collect()
}

async fn count(rig: &Rig, kind: &str) -> usize {
    let all = kinds(rig, 0).await;
    all.iter().filter(|other| *other == kind).count()
}

async fn is_out(browser: &Browser) -> bool {
    let (status, _) = browser.ask("GET", "/log", "", "null").await;
    status == 303
}

/// The newest opening.
async fn opening(rig: &Rig) -> (u64, Entry) {
    let all = entries(rig, 0).await;
    let at = all
        .iter()
        .rposition(|entry| entry.kind == "break_glass_opened")
        .unwrap();
    (at as u64, all[at].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_credential_that_stands_opens_and_only_once() {
    let rig = Rig::start().await;
    let here = Browser::at_the_server(&rig);
    let never = Credential::generate().unwrap().text().to_owned();
    let (status, said) = typed(&rig, &here, &never).await;
    assert_eq!(status, 401, "none stands");
    assert!(said.contains("opens nothing, or there were too many"));
    let superseded = sealed(&rig).await;
    let stands = sealed(&rig).await;
    for wrong in [&never, &superseded] {
        let answer = typed(&rig, &here, wrong).await;
        assert_eq!(answer, (401, said.clone()), "all answers are equal");
    }
    // The first is an entry at once, and more within a minute are counted.
    rig.clock.advance_millis(60_000);
    refusals::flush(&rig.state).await.unwrap();
    let refused: Vec<String> = entries(&rig, 0)
        .await
        .into_iter()
        .filter(|entry| entry.reason.as_deref() == Some("wrong_credential"))
        .map(|entry| entry.about.unwrap())
        .collect();
    assert_eq!(
        refused,
        [
            "POST /break-glass",
            "POST /break-glass (2 more within a minute)"
        ]
    );
    // A slip of the finger is told, and costs nothing.
    let other = if stands.starts_with('A') { "B" } else { "A" };
    let slip = format!("{other}{}", &stands[1..]);
    let (status, page) = typed(&rig, &here, &slip).await;
    assert!(
        status == 400 && page.contains("Group 1 is mistyped"),
        "{page}"
    );
    let sparse = format!("credential={}&name=+&reason=fire", stands.replace(' ', "+"));
    assert_eq!(here.post("/break-glass", &sparse).await.0, 400, "no name");
    assert_eq!(count(&rig, "break_glass_opened").await, 0);

    let size = rig.state.store.log_size().await.unwrap();
    let (status, cookie) = typed(&rig, &here, &stands.to_lowercase()).await;
    assert_eq!(status, 303);
    assert_eq!(kinds(&rig, size).await, ["break_glass_opened"]);
    let (_, opened) = opening(&rig).await;
    assert!(opened.detail_hash.is_some());
    let line = String::from_utf8(opened.to_bytes().unwrap()).unwrap();
    for told in ["Robin", "keys", &stands, &stands.replace(' ', "")] {
        assert!(!line.contains(told), "{line}");
    }
    let answer = typed(&rig, &here, &stands).await;
    assert_eq!(answer, (401, said.clone()), "used");
    let mut inside = Browser::at_the_server(&rig);
    inside.cookie = Some(cookie);
    let token = csrf(&inside.get("/").await);
    let (status, _) = inside.post("/sign-out", &format!("csrf={token}")).await;
    assert_eq!(status, 303);
    assert!(is_out(&inside).await, "nor does its cookie open anything");
    assert_eq!(typed(&rig, &here, &stands).await, (401, said), "ended");
    let ended = entries(&rig, 0).await;
    let ended = ended.iter().find(|entry| entry.kind == "break_glass_ended");
    assert_eq!(ended.unwrap().reason.as_deref(), Some("signed_out"));
    assert_eq!(ended.unwrap().actor, opened.actor);

    // Nor does anything of it lie on the disk in the clear.
    let told = ["Robin Duty", "all keys are lost", &stands];
    for (path, bytes) in rig.end().await.files().await {
        for told in told.map(str::as_bytes) {
            assert!(!contains(&bytes, told), "{}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_are_slowed_down_and_a_tired_hand_waits_ten_seconds_at_most() {
    let rig = Rig::start().await;
    let stands = sealed(&rig).await;
    let never = Credential::generate().unwrap().text().to_owned();
    let guess = async |credential: &str| {
        let opened = break_glass::open(&rig.state, credential, "Robin", "fire").await;
        matches!(opened, Err(BreakGlassError::Wrong))
    };
    for _ in 0..200 {
        assert!(guess(&never).await);
    }
    assert!(guess(&stands).await, "too soon, and in the same words");
    rig.clock.advance_millis(10_000);
    assert!(!guess(&stands).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_elsewhere_nothing_is_shown_or_opened_and_a_session_does_not_travel() {
    let rig = Rig::start().await;
    let stands = sealed(&rig).await;
    let inside = emergency(&rig).await;
    let stands_now = sealed(&rig).await;
    assert_ne!(stands, stands_now);
    let elsewhere: [(Option<[u8; 4]>, bool); 4] = [
        (None, false),
        (Some([10, 0, 0, 7]), false),
        (Some([10, 0, 0, 7]), true),
        // A proxy on the server's own machine.
        (Some([127, 0, 0, 1]), true),
    ];
    for (from, passed_on) in elsewhere {
        let mut browser = Browser::new(&rig);
        browser.from = from.map(IpAddr::from);
        browser.passed_on = passed_on;
        let size = rig.state.store.log_size().await.unwrap();
        let (status, page) = typed(&rig, &browser, &stands_now).await;
        assert_eq!(status, 403, "{from:?} {passed_on}");
        assert!(page.contains("Only at the server itself"));
        let (status, page) = browser.ask("GET", "/break-glass", "", "null").await;
        assert!(status == 403 && !page.contains("<form"));
        browser.cookie.clone_from(&inside.cookie);
        for path in ["/", "/live/events", "/log", "/gates"] {
            let (status, page) = browser.ask("GET", path, "", "null").await;
            assert_eq!(status, 403, "{path} {from:?} {passed_on}");
            assert!(path == "/live/events" || page.contains("Only at the server itself"));
        }
        let left = kinds(&rig, size).await;
        assert!(left.iter().all(|kind| kind == "refused"), "{left:?}");
        rig.clock.advance_millis(60_000);
        refusals::flush(&rig.state).await.unwrap();
    }
    let refused = entries(&rig, 0).await;
    let refused = refused.iter().filter(|entry| entry.kind == "refused");
    for entry in refused {
        assert_eq!(entry.reason.as_deref(), Some("not_at_the_server"));
    }
    inside.get("/log").await;
    // It was not used up by any of this.
    let here = Browser::at_the_server(&rig);
    assert_eq!(typed(&rig, &here, &stands_now).await.0, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hand_writes_into_the_database_opens_reviews_and_prolongs_nothing() {
    let rig = Rig::start().await;
    let here = Browser::at_the_server(&rig);
    let old = sealed(&rig).await;
    let inside = emergency(&rig).await;
    let (_, opened) = opening(&rig).await;
    let old_making = entries(&rig, 0).await;
    let makings: Vec<&Entry> = old_making
        .iter()
        .filter(|entry| entry.kind == "break_glass_prepared")
        .collect();
    let token = csrf(&inside.get("/").await);
    inside.post("/sign-out", &format!("csrf={token}")).await;

    // Entries as whoever has the database could append them: without the server's key.
    let guessed = Credential::generate().unwrap();
    let sha256 = |text: &str| {
        use sha2::Digest as _;
        hex::encode(sha2::Sha256::digest(text))
    };
    let mut forged = makings[0].clone();
    forged.content = Some(sha256(guessed.text()));
    for (entry, credential) in [
        (forged, guessed.text()),
        (makings[0].clone(), old.as_str()),
        (makings[1].clone(), old.as_str()),
    ] {
        audit::record(&rig.state, entry).await.unwrap();
        assert_eq!(typed(&rig, &here, credential).await.0, 401);
    }
    // The old session once more, under a credential that stands; and a row of a session.
    sealed(&rig).await;
    let newest = rig.state.store.log_size().await.unwrap() - 1;
    for about in [opened.about.clone(), Some(newest.to_string())] {
        let again = Entry {
            about,
            time: rig.clock.now().as_micros(),
            ..opened.clone()
        };
        audit::record(&rig.state, again).await.unwrap();
        assert!(is_out(&inside).await);
    }
    let cookie = inside.cookie.clone().unwrap();
    let secret = cookie.split_once('=').unwrap().1;
    Browser::signed_in(&rig).await;
    sqlx::query("UPDATE session SET token_sha256 = $1")
        .bind(sha256(secret))
        .execute(&rig.hand().await)
        .await
        .unwrap();
    assert!(is_out(&inside).await);

    // A review that no auditor wrote.
    let inside = emergency(&rig).await;
    let (used, _) = opening(&rig).await;
    break_glass::end_all(&rig.state, "test").await.unwrap();
    assert!(is_out(&inside).await);
    let forged = Entry {
        actor: Some(opened.actor.clone().unwrap()),
        about: Some(used.to_string()),
        content: Some(sha256("reviewed")),
        ..audit::entry("break_glass_reviewed", rig.clock.now()).unwrap()
    };
    audit::record(&rig.state, forged).await.unwrap();
    let uses = break_glass::uses(&rig.state).await.unwrap();
    assert_eq!((uses[0].entry, uses[0].reviewed), (used, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_what_an_emergency_needs_under_a_name_of_its_own_and_nothing_else() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let person = gate.enrol(1).await;
    let request = gate.request(rig.transaction(1), template(77));
    gate.pass(&request).await;
    let inside = emergency(&rig).await;
    let (_, opened) = opening(&rig).await;
    let size = rig.state.store.log_size().await.unwrap();
    let page = inside.get("/").await;
    assert!(page.contains("Robin Duty") && page.contains("Emergency access"));
    assert!(page.contains(OPEN) && !page.contains("href=\"/account\""));
    let token = csrf(&page);
    let passage = format!("/passages/{}", request.transaction);
    inside.get(&passage).await;
    let verdict = format!("csrf={token}&verdict=refuse&preset=other&words=unknown&sure=yes");
    let (status, _) = inside.post(&format!("{passage}/review"), &verdict).await;
    assert_eq!(status, 303);
    assert!(
        inside
            .get(&passage)
            .await
            .contains("Robin Duty (emergency access)")
    );
    inside.get("/log").await;
    // Half an hour later, without a proof that there is no second of.
    rig.clock.advance_millis(30 * 60 * 1_000);
    let form = format!("csrf={token}&reason=incident&case=2026-17");
    assert_eq!(inside.post(&passage, &form).await.0, 200);
    let free = format!("csrf={token}&action=free&reason=smoke");
    let (status, page) = inside.post("/release/front-in", &free).await;
    // The gate was silent for half an hour: asked, logged, and said.
    assert_eq!(status, 409, "{page}");
    let left = entries(&rig, size).await;
    for kind in ["consultation", "review", "life_safety_order"] {
        assert!(left.iter().any(|entry| entry.kind == kind), "{kind}");
    }
    for entry in &left {
        assert_eq!(entry.actor, opened.actor, "{}", entry.kind);
    }
    assert!(
        officers::list(&rig.state).await.unwrap().is_empty(),
        "no account"
    );

    // Every route, exactly as its acts say; and no account comes into its role.
    for route in routes(include_str!("../../src/console/mod.rs")) {
        let (method, path) = route.split_once(' ').unwrap();
        let need = need(method, path).unwrap();
        let real = path
            .replace("{id}", &request.transaction.to_string())
            .replace("{subject}", &person.to_string())
            .replace("{secret}", "1")
            .replace("{name}", "1")
            .replace("{used}", "1")
            .replace("{request}", "1");
        let form = if path == "/sign-out" {
            "csrf=other"
        } else {
            &free
        };
        let (status, body) = inside.ask(method, &real, form, "https://localhost:0").await;
        let refused = status == 403 && body.contains("Not for your role");
        assert_eq!(refused, !need.met_by(Role::BreakGlass), "{route}: {status}");
        let closed = [
            "/account",
            "/approvals",
            "/enrolments",
            "/consultations",
            "/break-glass/uses",
        ];
        if closed.iter().any(|start| path.starts_with(start)) || path == "/gates/approve" {
            assert!(refused, "said a second time, by hand: {route}");
        }
    }
    let output = program()
        .args([
            "officer",
            "setup-link",
            "--role",
            "break_glass",
            "--data",
            "/nowhere",
        ])
        .output()
        .unwrap();
    assert!(!output.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_lasts_sixty_minutes_of_work_or_of_none_and_its_end_is_noted_once() {
    let rig = Rig::start().await;
    let inside = emergency(&rig).await;
    let other = second_server(&rig).await;
    assert_eq!(LIMIT_MS, 3_600_000);
    // No use of it prolongs it, and no rest shortens it.
    rig.clock.advance_millis(LIMIT_MS - 1_000);
    inside.get("/log").await;
    break_glass::look(&rig.state).await.unwrap();
    rig.clock.advance_millis(1_000);
    inside.get("/log").await;
    assert_eq!(count(&rig, "break_glass_ended").await, 0);
    rig.clock.advance_millis(1);
    assert!(is_out(&inside).await);
    // A clock that is set back does not open it again once its end is noted.
    for state in [&rig.state, &other, &rig.state] {
        break_glass::look(state).await.unwrap();
    }
    assert_eq!(count(&rig, "break_glass_ended").await, 1);
    rig.clock.advance_millis(-1_000);
    assert!(is_out(&inside).await);
    rig.clock.advance_millis(-LIMIT_MS - 10_000);
    assert!(is_out(&inside).await);
}

/// Another server on the same database.
async fn second_server(rig: &Rig) -> AppState {
    let data = crate::common::data(&rig.folder);
    let state = installation::open(&data, rig.clock.clone()).await.unwrap();
    registry::load(&state).await.unwrap();
    state
}

#[tokio::test(flavor = "multi_thread")]
async fn every_officers_open_page_is_told_at_once_and_again_at_its_end() {
    let rig = Rig::start().await;
    let other = second_server(&rig).await;
    let mut told_there = other.live.subscribe();
    let alex = Browser::signed_in(&rig).await;
    let sam = Browser::signed_in_as(&rig, "Sam", Role::Supervisor).await;
    let pat = Browser::signed_in_as(&rig, "Pat", Role::Administrator).await;
    let live = "/live/events?after=1000000";
    let (mut of_alex, mut of_sam) = (alex.stream(live).await, sam.stream(live).await);
    // Every other page, of any role, has a script that listens here.
    let page = pat.get("/account").await;
    assert!(page.contains("data-seen=\"0\" hidden") && page.contains("/assets/alarms-"));
    let mut of_pat = pat.stream("/live/alarms").await;
    of_pat.until("alarm\ndata: 0").await;
    assert!(!alex.get("/gates").await.contains(OPEN));
    let inside = emergency(&rig).await;
    of_alex.until("reload").await;
    of_sam.until("reload").await;
    of_pat.until("alarm\ndata: 1").await;
    let kim = Browser::signed_in_as(&rig, "Kim", Role::Auditor).await;
    for (browser, path) in [
        (&alex, "/gates"),
        (&sam, "/"),
        (&kim, "/log"),
        (&pat, "/account"),
    ] {
        let page = browser.get(path).await;
        assert!(
            page.contains(OPEN) && page.contains("role=\"alert\""),
            "{path}"
        );
        assert!(!page.contains("Robin"), "the banner names nobody");
    }
    // Pages at another server hear of it with its next look, a second later at most.
    break_glass::look(&other).await.unwrap();
    assert_eq!(
        told_there.try_recv().unwrap(),
        sallyport_server::state::LiveEvent::LogAlarm
    );
    break_glass::look(&other).await.unwrap();
    assert!(told_there.try_recv().is_err(), "told once");

    // A supervisor ends it: the emergency's own stream ends, and all pages are told.
    let of_inside = inside.stream(live).await;
    let of_inside_too = inside.stream("/live/alarms").await;
    let (used, _) = opening(&rig).await;
    let end = format!("/break-glass/uses/{used}/end");
    let form = format!("csrf={}", csrf(&alex.get("/gates").await));
    assert_eq!(alex.post(&end, &form).await.0, 403, "not a gate officer");
    let page = sam.get("/break-glass/uses").await;
    assert!(page.contains("Robin Duty") && page.contains("all keys are lost"));
    let form = format!("csrf={}", csrf(&page));
    assert_eq!(sam.post(&end, &form).await.0, 303);
    of_inside.ended().await;
    of_inside_too.ended().await;
    of_pat.until("alarm\ndata: 2").await;
    of_alex.until("reload").await;
    assert!(is_out(&inside).await);
    assert!(!alex.get("/gates").await.contains("mergency access"));
    assert!(sam.get("/").await.contains("waits for an auditor"));
    assert_eq!(sam.post(&end, &form).await.0, 409, "ended already");
    let ended = entries(&rig, 0).await;
    let ended = ended.iter().find(|entry| entry.kind == "break_glass_ended");
    assert_eq!(ended.unwrap().reason.as_deref(), Some("supervisor"));
}

async fn rename(rig: &Rig, from: &str, to: &str) {
    sqlx::query(AssertSqlSafe(format!("ALTER TABLE {from} RENAME TO {to}")))
        .execute(&rig.hand().await)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_takes_no_entry_opens_nothing() {
    let rig = Rig::start().await;
    let stands = sealed(&rig).await;
    let here = Browser::at_the_server(&rig);
    let mut live = rig.state.live.subscribe();
    for table in ["log_node", "log_detail", "log_entry"] {
        rename(&rig, table, "elsewhere").await;
        let (status, said) = typed(&rig, &here, &stands).await;
        assert_eq!(status, 503, "{table}");
        assert!(said.contains("nothing was opened") && !said.contains("__Host"));
        rename(&rig, "elsewhere", table).await;
    }
    assert_eq!(count(&rig, "break_glass_opened").await, 0);
    assert!(live.try_recv().is_err());
    assert!(break_glass::uses(&rig.state).await.unwrap().is_empty());
    assert_eq!(typed(&rig, &here, &stands).await.0, 303, "it still stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_who_is_not_whoever_opened_it_closes_the_review_in_words() {
    let rig = Rig::start().await;
    let inside = emergency(&rig).await;
    let (used, opened) = opening(&rig).await;
    inside.get("/log").await;
    let sam = Browser::signed_in_as(&rig, "Sam", Role::Supervisor).await;
    let kim = Browser::signed_in_as(&rig, "Kim", Role::Auditor).await;
    let robin = Browser::signed_in_as(&rig, "duty,+ROBIN", Role::Auditor).await;
    let path = format!("/break-glass/uses/{used}/review");
    let form = |page: &str, finding: &str| format!("csrf={}&finding={finding}", csrf(page));
    let good = "a+drill+as+announced";
    let page = kim.get("/break-glass/uses").await;
    assert!(!page.contains("<textarea"), "it is open");
    assert_eq!(
        kim.post(&path, &form(&page, good)).await.0,
        409,
        "it is open"
    );
    break_glass::end(&rig.state, used, "test", End::Command)
        .await
        .unwrap();
    let page = kim.get("/break-glass/uses").await;
    assert!(
        page.contains("<textarea") && page.contains("audit_log"),
        "{page}"
    );
    let of_sam = sam.get("/break-glass/uses").await;
    assert!(!of_sam.contains("<textarea"));
    assert_eq!(sam.post(&path, &form(&of_sam, good)).await.0, 403);
    let of_robin = robin.get("/break-glass/uses").await;
    let (status, said) = robin.post(&path, &form(&of_robin, good)).await;
    assert!(status == 403 && said.contains("Another auditor"), "{said}");
    for (wrong, status) in [
        (form(&page, ""), 400),
        (form(&page, "++ok++"), 400),
        (form(&page, &"x".repeat(2_001)), 400),
        (form(&page, good).replace("csrf=", "csrf=0"), 403),
    ] {
        assert_eq!(kim.post(&path, &wrong).await.0, status);
    }
    let nothing = "/break-glass/uses/0/review";
    assert_eq!(kim.post(nothing, &form(&page, good)).await.0, 409);
    rig.clock.advance_millis(officers::FRESH_MS + 1);
    assert_eq!(
        kim.post(&path, &form(&page, good)).await.0,
        403,
        "not fresh"
    );
    assert_eq!(count(&rig, "break_glass_reviewed").await, 0);

    let lee = Browser::signed_in_as(&rig, "Lee", Role::Auditor).await;
    let page = lee.get("/break-glass/uses").await;
    assert_eq!(lee.post(&path, &form(&page, good)).await.0, 303);
    let entry = entries(&rig, 0).await.pop().unwrap();
    assert_eq!(entry.kind, "break_glass_reviewed");
    assert_eq!(entry.decision.as_deref(), Some("in_time"));
    assert!(entry.detail_hash.is_some() && entry.actor != opened.actor);
    let page = lee.get("/break-glass/uses").await;
    assert!(page.contains("by Lee: a drill as announced"), "{page}");
    assert_eq!(lee.post(&path, &form(&page, good)).await.0, 409, "once");
    rig.clock.advance_millis(72 * 60 * 60 * 1_000);
    break_glass::look(&rig.state).await.unwrap();
    assert_eq!(count(&rig, "break_glass_unreviewed").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_that_is_late_is_an_entry_by_clock_and_an_alarm_until_it_is_done() {
    let rig = Rig::start().await;
    let other = second_server(&rig).await;
    let inside = emergency(&rig).await;
    let (used, opened) = opening(&rig).await;
    let token = csrf(&inside.get("/").await);
    inside.post("/sign-out", &format!("csrf={token}")).await;
    let due = review_due(sallyport_domain::Timestamp::from_micros(opened.time), 0);
    rig.clock
        .advance_millis(due.millis_since(rig.clock.now()) - 1);
    break_glass::look(&rig.state).await.unwrap();
    assert_eq!(count(&rig, "break_glass_unreviewed").await, 0, "not yet");
    // The clock goes in microseconds.
    rig.clock.advance_millis(2);
    let (one, two) = tokio::join!(break_glass::look(&rig.state), break_glass::look(&other));
    one.and(two).unwrap();
    for state in [&rig.state, &other] {
        break_glass::look(state).await.unwrap();
    }
    assert_eq!(
        count(&rig, "break_glass_unreviewed").await,
        1,
        "of two servers that look at once, one writes it"
    );
    let alex = Browser::signed_in(&rig).await;
    let late = "was not reviewed in time";
    let page = alex.get("/gates").await;
    assert!(
        page.contains(late) && page.contains("role=\"alert\""),
        "{page}"
    );
    // Also after a restart, out of the log alone.
    let rig = rig.restart().await;
    break_glass::look(&rig.state).await.unwrap();
    let kim = Browser::signed_in_as(&rig, "Kim", Role::Auditor).await;
    let page = kim.get("/break-glass/uses").await;
    assert!(page.contains(late) && page.contains("Late: it was due"));
    let form = format!("csrf={}&finding=looked+at+too+late", csrf(&page));
    let path = format!("/break-glass/uses/{used}/review");
    assert_eq!(kim.post(&path, &form).await.0, 303);
    let entry = entries(&rig, 0).await.pop().unwrap();
    assert_eq!(entry.decision.as_deref(), Some("late"));
    assert!(!kim.get("/account").await.contains(late));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_that_nobody_tried_for_half_a_year_is_noted_once() {
    let rig = Rig::start().await;
    let stands = sealed(&rig).await;
    let never = Credential::generate().unwrap().text().to_owned();
    rig.clock.advance_millis(DRILL_EVERY_MS);
    break_glass::look(&rig.state).await.unwrap();
    assert_eq!(count(&rig, "break_glass_drill_due").await, 0);
    rig.clock.advance_millis(1);
    for _ in 0..3 {
        break_glass::look(&rig.state).await.unwrap();
    }
    assert_eq!(count(&rig, "break_glass_drill_due").await, 1);
    let due = async || {
        let envelope = break_glass::envelope(&rig.state).await.unwrap();
        envelope.unwrap().drill_due
    };
    assert!(
        !break_glass::drill(&rig.state, &never, "test")
            .await
            .unwrap()
    );
    assert!(due().await);
    assert!(
        break_glass::drill(&rig.state, &stands, "test")
            .await
            .unwrap()
    );
    assert!(!due().await);
    let here = Browser::at_the_server(&rig);
    assert_eq!(typed(&rig, &here, &stands).await.0, 303, "it stood on");
}

// The whole drill, through the real program and real TLS.

fn run(rig: &Rig, line: &str, typed: &str) -> Output {
    let mut command = program();
    command
        .args(["officer", "break-glass"])
        .args(line.split(' '))
        .arg("--data")
        .arg(crate::common::data(&rig.folder))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that asks for nothing may have ended already.
    let _ = writeln!(stdin, "{typed}");
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// One request over real TLS: status, cookie and body.
async fn over_tls(
    client: &Client,
    method: &str,
    path: &str,
    cookie: &str,
    form: &str,
) -> (u16, String, String) {
    let mut stream = client.connect().await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: https://localhost\r\nCookie: {cookie}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The other side may close without a farewell.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let cookie = answer
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .and_then(|line| line.split(';').next())
        .unwrap_or_default()
        .to_owned();
    (status, cookie, answer)
}

/// An address of this machine that is none of loopback, where it has one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent by this.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback()).then_some(address)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_drill_with_the_real_program_over_real_tls() {
    let rig = Rig::start().await;
    let now = SystemClock.now();
    rig.clock.advance_millis(now.millis_since(rig.clock.now()));
    let identity = rig
        .state
        .authority
        .server_identity(&rig.state.config.hostnames, now)
        .unwrap();
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(tls::serve(
        listener,
        tls::console_config(&identity).unwrap(),
        console::router(rig.state.clone()),
        stopped,
    ));
    let here = rig.stranger().at(SocketAddr::from(([127, 0, 0, 1], port)));

    assert!(said(&run(&rig, "status", "")).contains("NONE stands"));
    let sheet = said(&run(&rig, "prepare --reason trial", ""));
    let credential = sheet
        .lines()
        .find(|line| line.split_whitespace().count() == 7 && line.trim().len() == 41)
        .unwrap()
        .trim();
    assert!(sheet.contains("/break-glass") && sheet.contains("test-site"));
    let never = Credential::generate().unwrap();
    for (wrong, why) in [
        (never.text(), "NOT the credential"),
        ("22222", "seven groups"),
    ] {
        let output = run(&rig, "drill", wrong);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(why), "{told}");
    }
    assert!(said(&run(&rig, "drill", credential)).contains("goes on standing"));
    let status = said(&run(&rig, "status", ""));
    assert!(!status.contains("last tried: never") && status.contains("use\tnever"));
    assert!(!run(&rig, "end", "").status.success(), "nothing is open");

    let form = format!(
        "credential={}&name=Robin+Duty&reason=trial",
        credential.replace(' ', "+")
    );
    match own_address() {
        Some(address) => {
            let outside = here.at(SocketAddr::from((address, port)));
            let (status, cookie, _) = over_tls(&outside, "POST", "/break-glass", "", &form).await;
            assert_eq!((status, cookie.as_str()), (403, ""), "from {address}");
        }
        None => eprintln!("this machine has only loopback; the other address is tried in process"),
    }
    let (status, cookie, answer) = over_tls(&here, "POST", "/break-glass", "", &form).await;
    assert_eq!(status, 303, "{answer}");
    let (status, _, page) = over_tls(&here, "GET", "/", &cookie, "").await;
    assert!(status == 200 && page.contains(OPEN) && page.contains("Robin Duty"));
    if let Some(address) = own_address() {
        let outside = here.at(SocketAddr::from((address, port)));
        let (status, _, page) = over_tls(&outside, "GET", "/", &cookie, "").await;
        assert!(status == 403 && !page.contains("Robin Duty"));
    }
    assert!(said(&run(&rig, "status", "")).contains("OPEN until"));
    assert!(said(&run(&rig, "end", "")).contains("1 emergency access ended"));
    let (status, _, _) = over_tls(&here, "GET", "/", &cookie, "").await;
    assert_eq!(status, 303, "out at once");
    let output = run(&rig, "drill", credential);
    assert!(!output.status.success(), "used up");
    assert!(said(&run(&rig, "status", "")).contains("review due"));

    let now = SystemClock.now();
    rig.clock.advance_millis(now.millis_since(rig.clock.now()));
    let kim = Browser::signed_in_as(&rig, "Kim", Role::Auditor).await;
    let page = kim.get("/break-glass/uses").await;
    let (used, _) = opening(&rig).await;
    let review = format!("csrf={}&finding=the+trial+of+today", csrf(&page));
    let path = format!("/break-glass/uses/{used}/review");
    assert_eq!(kim.post(&path, &review).await.0, 303);
    assert!(said(&run(&rig, "status", "")).contains("reviewed, log entry"));
    let told: Vec<String> = kinds(&rig, 0)
        .await
        .into_iter()
        .filter(|kind| kind.starts_with("break_glass_") || kind.starts_with("approval_"))
        .collect();
    assert_eq!(
        told,
        [
            "approval_missing",
            "break_glass_prepared",
            "break_glass_drilled",
            "break_glass_drilled",
            "break_glass_opened",
            "break_glass_ended",
            "break_glass_drilled",
            "break_glass_reviewed",
        ]
    );
}
