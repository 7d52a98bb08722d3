//! Officers' roles and accounts: every role at every route of the console, accounts that end, the first one of an installation.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use sallyport_domain::{Act, Role, Timestamp};
use sallyport_server::clock::Clock as _;
use sallyport_server::console::{Need, need};
use sallyport_server::officers::{self, OfficerError};
use sallyport_server::{audit, rights};
use sallyport_transparency::Entry;

use crate::browser::{Browser, PASSWORD, csrf, setup_path};
use crate::common::{Rig, template};
use crate::coverage::{entries, program, routes};

/// What the page says to a role that may not.
const NOT_FOR_ROLE: &str = "Not for your role";

/// As if every session had been opened with this: what the server itself would write.
pub(crate) async fn set_level(rig: &Rig, level: i64) {
    let pool = rig.hand().await;
    let tokens: Vec<(String,)> = sqlx::query_as("SELECT token_sha256 FROM session")
        .fetch_all(&pool)
        .await
        .unwrap();
    for (token,) in tokens {
        let mut row = rig.state.store.session(&token).await.unwrap().unwrap();
        row.level = level;
        sqlx::query("UPDATE session SET level = $1, code = $2 WHERE token_sha256 = $3")
            .bind(level)
            .bind(rights::session_code(&rig.state, &token, &row))
            .bind(token)
            .execute(&pool)
            .await
            .unwrap();
    }
}

/// Gives every account this role, in the database and in the log.
pub(crate) async fn set_role(rig: &Rig, role: &str) {
    for account in rig.state.store.officers().await.unwrap() {
        let row = rig.state.store.officer(account.id).await.unwrap().unwrap();
        let content = rights::account_content(&rig.state, row.id, role, &row.password_hash);
        let entry = Entry {
            about: Some(row.id.to_string()),
            decision: Some(role.to_owned()),
            content: Some(content),
            ..audit::entry("officer_role", rig.clock.now()).unwrap()
        };
        audit::record(&rig.state, entry).await.unwrap();
    }
    sqlx::query("UPDATE officer SET role = $1")
        .bind(role.to_owned())
        .execute(&rig.hand().await)
        .await
        .unwrap();
}

/// A page that the role may open with everything it needs.
fn home_of(role: Role) -> &'static str {
    match role {
        Role::GateOfficer | Role::Administrator => "/gates",
        Role::Enroller => "/account",
        Role::Supervisor | Role::Auditor | Role::KeyCustodian | Role::BreakGlass => "/log",
    }
}

fn console_routes() -> BTreeSet<String> {
    #[cfg_attr(not(feature = "oidc"), expect(unused_mut, reason = "a build has more"))]
    let mut found = routes(include_str!("../../src/console/mod.rs"));
    #[cfg(feature = "oidc")]
    found.extend(routes(include_str!("../../src/console/oidc.rs")));
    found
}

#[test]
fn every_route_says_who_may_use_it_and_few_are_open_to_everybody() {
    let mut open = Vec::new();
    for route in console_routes() {
        let (method, path) = route.split_once(' ').unwrap();
        match need(method, path) {
            Some(Need::Nothing) => open.push(route),
            Some(Need::Officer | Need::Account) => {}
            Some(Need::Any(acts)) => assert!(!acts.is_empty(), "{route} is closed to all"),
            None => panic!("say in console/access.rs who may use {route}; it is closed until then"),
        }
    }
    assert_eq!(
        open,
        [
            "GET /assets/{name}",
            // Only at the server itself: `break_glass.rs`.
            "GET /break-glass",
            "GET /setup/{secret}",
            "GET /sign-in",
            #[cfg(feature = "oidc")]
            "GET /sign-in/oidc/callback",
            "GET /sign-in/second",
            "POST /break-glass",
            "POST /setup/{secret}",
            "POST /sign-in",
            "POST /sign-in/code",
            "POST /sign-in/key",
            "POST /sign-in/key/ask",
            #[cfg(feature = "oidc")]
            "POST /sign-in/oidc",
        ]
    );
    // Said a second time, by hand.
    let may = |role: Role, route: (&str, &str)| need(route.0, route.1).unwrap().met_by(role);
    for role in [Role::Administrator, Role::KeyCustodian] {
        for route in console_routes() {
            let (method, path) = route.split_once(' ').unwrap();
            assert!(
                !["/passages", "/enrolment", "/people"]
                    .iter()
                    .any(|start| path.starts_with(start))
                    || !may(role, (method, path)),
                "{role:?} sees nobody's record: {route}"
            );
        }
        assert!(!may(role, ("GET", "/")) && !may(role, ("GET", "/live/events")));
    }
    assert!(!may(Role::GateOfficer, ("GET", "/log")));
    assert!(!may(Role::Auditor, ("POST", "/passages/{id}/review")));
    let propose = ("POST", "/people/{id}/propose");
    assert!(!may(Role::Supervisor, propose) && !may(Role::Auditor, propose));
    assert!(may(Role::Auditor, ("GET", "/log")));
    assert_eq!(need("DELETE", "/log"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_at_every_route_is_let_through_exactly_as_its_acts_say() {
    let rig = Rig::start().await;
    let gate = rig.gate("front-in").await;
    let request = gate.request(rig.transaction(1), template(77));
    gate.pass(&request).await;
    let browser = Browser::signed_in(&rig).await;
    let csrf = csrf(&browser.get("/account").await);
    let (mut tried, mut logged) = (0, BTreeSet::new());
    for role in Role::ALL {
        set_role(&rig, role.code()).await;
        // A password alone opens only the account page where the role needs a key.
        set_level(&rig, 1).await;
        let (status, body) = browser
            .ask("GET", home_of(role), "", "https://localhost:0")
            .await;
        assert_eq!(status == 403, role.needs_hardware_key(), "{role:?}");
        assert_eq!(
            body.contains("Add your security key first"),
            role.needs_hardware_key()
        );
        set_level(&rig, 3).await;
        let account = browser.get("/account").await;
        for route in console_routes() {
            let (method, path) = route.split_once(' ').unwrap();
            let need = need(method, path).unwrap();
            let real = path
                .replace("{id}", &request.transaction.to_string())
                .replace("{secret}", "1")
                .replace("{name}", "1")
                .replace("{used}", "1")
                .replace("{request}", "1");
            // Not so complete that anything is done, and signing out waits.
            let form = if path == "/sign-out" {
                "csrf=other".to_owned()
            } else {
                format!("csrf={csrf}&verdict=&preset=&reason=&case=&name=&password=&again=")
            };
            let size = rig.state.store.log_size().await.unwrap();
            let (status, body) = browser
                .ask(method, &real, &form, "https://localhost:0")
                .await;
            let refused = status == 403 && (path == "/live/events" || body.contains(NOT_FOR_ROLE));
            assert_eq!(refused, !need.met_by(role), "{role:?} {route}: {status}");
            if path == "/break-glass" {
                assert!(status == 403 && body.contains("Only at the server itself"));
            }
            if refused {
                // Within a minute more of a kind are counted.
                if logged.insert(route.clone()) {
                    let entry = entries(&rig, size).await.pop().unwrap();
                    assert_eq!(entry.kind, "refused");
                    assert_eq!(entry.about.as_deref(), Some(route.as_str()));
                    assert_eq!(entry.reason.as_deref(), Some("not_for_role"));
                    assert!(entry.actor.is_some());
                }
                let linked = account.contains(&format!("<a href=\"{path}\""));
                assert!(method != "GET" || !linked, "{route}");
            }
            tried += 1;
        }
    }
    assert_eq!(tried, 6 * console_routes().len());
    // A role that this version does not know is no role.
    set_role(&rig, "operator").await;
    let (status, _) = browser
        .ask("GET", "/account", "", "https://localhost:0")
        .await;
    assert_eq!(status, 303, "to the sign-in page");
}

/// With the right cookie and the right token, but from another page: whatever the route, nothing is done.
#[tokio::test(flavor = "multi_thread")]
async fn every_form_that_is_sent_from_elsewhere_is_refused() {
    let rig = Rig::start().await;
    let browser = Browser::signed_in_as(&rig, "Sam", Role::Supervisor).await;
    let csrf = csrf(&browser.get("/account").await);
    let size = rig.state.store.log_size().await.unwrap();
    let mut tried = 0;
    for route in console_routes() {
        let (method, path) = route.split_once(' ').unwrap();
        if method == "GET" {
            continue;
        }
        let real = path.replace(['{', '}'], "");
        for origin in [
            "https://evil.example",
            "null",
            "http://localhost:0",
            "https://localhost:1",
        ] {
            let form = format!("csrf={csrf}&decision=approve&reason=x");
            let (status, body) = browser.ask(method, &real, &form, origin).await;
            assert_eq!(status, 403, "{route} from {origin}");
            assert!(
                body.contains("not sent from the console's own page"),
                "{route} from {origin}: {body}"
            );
            tried += 1;
        }
    }
    assert!(tried > 80, "{tried}");
    let left = entries(&rig, size).await;
    assert!(left.iter().all(|entry| entry.kind == "refused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_account_is_out_at_once_and_a_renewed_one_begins_anew() {
    let rig = Rig::start().await;
    let mut browser = Browser::signed_in(&rig).await;
    let link = officers::renewal_link(&rig.state, " ALEX ").await.unwrap();
    let path = format!("/setup/{}", link.rsplit('/').next().unwrap());
    let page = Browser::new(&rig).get(&path).await;
    assert!(page.contains("Choose a new password") && page.contains("Alex"));
    let new = "another+quiet+harbour+in+june";
    let form = format!("name=Mallory&password={new}&again={new}");
    let stranger = Browser::new(&rig);
    let size = rig.state.store.log_size().await.unwrap();
    assert_eq!(stranger.post(&path, &form).await.0, 303);
    let entry = entries(&rig, size).await.pop().unwrap();
    assert_eq!(entry.kind, "officer_renewed");
    assert_eq!(officers::list(&rig.state).await.unwrap().len(), 1);
    assert_eq!(officers::list(&rig.state).await.unwrap()[0].name, "Alex");
    let out = browser.ask("GET", "/account", "", "null").await;
    assert_eq!(out.0, 303, "the old session has ended");
    let old = format!("name=Alex&password={PASSWORD}");
    assert_eq!(browser.post("/sign-in", &old).await.0, 401);
    let right = format!("name=Alex&password={new}");
    let (status, cookie) = browser.post("/sign-in", &right).await;
    assert_eq!(status, 303);
    browser.cookie = Some(cookie);
    browser.get("/account").await;

    // A link for the account that is still open when it ends.
    let open = officers::renewal_link(&rig.state, "Alex").await.unwrap();
    officers::disable(&rig.state, "Alex", "test").await.unwrap();
    let out = browser.ask("GET", "/account", "", "null").await;
    assert_eq!(out.0, 303, "the session has ended");
    assert_eq!(browser.post("/sign-in", &right).await.0, 401);
    let path = format!("/setup/{}", open.rsplit('/').next().unwrap());
    assert_eq!(browser.post(&path, &form).await.0, 410);
    for name in ["Alex", "Nobody"] {
        let ended = officers::disable(&rig.state, name, "test").await;
        assert!(matches!(ended, Err(OfficerError::NoAccount)));
    }
    // The name stays taken: nobody else gets under it into the log.
    let setup = setup_path(&rig, Role::GateOfficer).await;
    let form = format!("name=Alex&password={PASSWORD}&again={PASSWORD}");
    assert_eq!(browser.post(&setup, &form).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_prints_a_link_for_one_administrator_and_there_is_no_other_way_in() {
    let rig = Rig::start().await;
    assert!(officers::list(&rig.state).await.unwrap().is_empty());
    let data = crate::common::data(&rig.folder);
    let mut server = program()
        .args(["serve", "--data"])
        .arg(&data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let link = lines
        .map(|line| line.unwrap())
        .find(|line| line.starts_with("https://"))
        .expect("a link is printed");
    let pid = server.id().to_string();
    let killed = Command::new("kill").args(["-KILL", &pid]).status().unwrap();
    assert!(killed.success());
    server.wait().unwrap();
    let path = format!("/setup/{}", link.rsplit('/').next().unwrap());
    let form = format!("name=Alex&password={PASSWORD}&again={PASSWORD}");
    let browser = Browser::new(&rig);
    assert_eq!(browser.post(&path, &form).await.0, 303);
    assert_eq!(browser.post(&path, &form).await.0, 410, "it works once");
    let accounts = officers::list(&rig.state).await.unwrap();
    assert_eq!(accounts.len(), 1);
    assert_eq!(accounts[0].role, Some(Role::Administrator));
    assert_eq!(officers::first_link(&rig.state).await.unwrap(), None);
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000).plus_millis(ms)
}

#[test]
fn a_session_goes_on_only_with_what_its_role_may() {
    let session = officers::Session {
        officer: "0190a000-0000-7000-8000-000000000001".parse().unwrap(),
        name: "Alex".to_owned(),
        role: Role::Enroller,
        csrf: String::new(),
        token_sha256: String::new(),
        level: officers::Level::Password,
        opened_at: at(0),
        fresh_at: at(0),
    };
    for (ms, fresh) in [(-1, false), (0, true), (300_000, true), (300_001, false)] {
        assert_eq!(session.fresh(at(ms)).is_ok(), fresh, "{ms}");
    }
    for act in Act::ALL {
        match session.must(act) {
            Ok(()) => assert!(Role::Enroller.may(act)),
            Err(OfficerError::Role(refused)) => {
                assert!(refused == act && !Role::Enroller.may(act));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn the_command_takes_only_roles_that_exist() {
    let output = program()
        .args([
            "officer",
            "setup-link",
            "--role",
            "operator",
            "--data",
            "/nowhere",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    for role in Role::ALL {
        assert!(said.contains(role.code()), "{said}");
    }
}

#[cfg(not(feature = "oidc"))]
#[tokio::test(flavor = "multi_thread")]
async fn a_build_without_the_identity_provider_refuses_one_and_says_which_build_is_needed() {
    let rig = Rig::start().await;
    let path = crate::common::data(&rig.folder).join("server.toml");
    let oidc = "[oidc]\nname = \"State ID\"\nissuer = \"https://id.example\"\nclient_id = \"gaol\"\nclient_secret_file = \"oidc-secret\"\nauthority = \"oidc-ca.pem\"\n";
    let text = std::fs::read_to_string(&path).unwrap() + oidc;
    std::fs::write(&path, text).unwrap();
    for words in [["officer", "list"].as_slice(), &["serve"]] {
        let mut command = program();
        command
            .args(words)
            .arg("--data")
            .arg(path.parent().unwrap());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{words:?}");
        assert!(said.contains("--features oidc"), "{said}");
    }
    let page = Browser::new(&rig).get("/sign-in").await;
    assert!(!page.contains("/sign-in/oidc"));
}
