//! Accounts stay ours: bound by an administrator's act in the log, to one subject, and by nothing that a provider or a database says.

use sallyport_domain::Role;
use sallyport_server::config::Config;
use sallyport_server::officers::{self, OfficerError};
use sallyport_server::{audit, rights};
use sallyport_transparency::Entry;
use serde_json::json;

use super::{Site, Tab};
use crate::browser::{Browser, PASSWORD, csrf};
use crate::common::{Rig, data};
use crate::coverage::{entries, program};
use crate::factors::{code_now, secret_of};

async fn alarms(rig: &Rig) -> usize {
    let all = entries(rig, 0).await;
    all.iter().filter(|entry| entry.kind == "log_alarm").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_officer_signs_in_there_and_not_by_password_any_more() {
    let site = Site::start().await;
    site.account("Robin", Role::GateOfficer).await;
    let mut before = Browser::new(&site.rig);
    let form = format!("name=Robin&password={PASSWORD}");
    before.keep(&before.post("/sign-in", &form).await.1);
    before.get("/gates").await;
    site.bind("Robin", "subject-7").await.unwrap();
    let ended = before.ask("GET", "/gates", "", "null").await;
    assert_eq!(ended.0, 303, "sessions of before end");

    // The right password is as good as a wrong one, and looks the same.
    let wrong = before.post("/sign-in", "name=Robin&password=wrong").await;
    let right = before.post("/sign-in", &form).await;
    assert_eq!((wrong.0, right.0), (401, 401));
    assert_eq!(wrong.1, right.1);
    assert_eq!(site.last().await.1, "bound_to_oidc");

    let mut tab = Tab::new(&site);
    let page = tab.get("/sign-in").await.body;
    assert!(page.contains("Sign in with State ID"), "{page}");
    let hop = tab.signs_in(&site, "subject-7").await.hop();
    assert_eq!(hop, "/sign-in");
    let id = site.id("Robin").await;
    let granted = ("grant".to_owned(), "oidc".to_owned(), Some(id));
    assert_eq!(site.last().await, granted);
    assert_eq!(tab.get(&hop).await.status, 303, "on to the first page");
    assert_eq!(tab.get("/gates").await.status, 200);
    assert_eq!(tab.get("/log").await.status, 403, "claims make no role");
    let account = tab.get("/account").await.body;
    assert!(account.contains("<dd>State ID</dd>") && !account.contains("new-password"));
    // Neither a password of its own choice for the time after.
    let token = csrf(&account);
    let form = format!("csrf={token}&password={PASSWORD}2&again={PASSWORD}2");
    assert_eq!(tab.post("/account/password", &form).await.status, 400);

    // Signing out ends the session here, and only here; it ends by itself as every other.
    assert_eq!(
        tab.post("/sign-out", &format!("csrf={token}")).await.status,
        303
    );
    assert_eq!(tab.get("/gates").await.status, 303);
    tab.signs_in(&site, "subject-7").await.hop();
    site.rig.clock.advance_millis(officers::IDLE_LIMIT_MS + 1);
    assert_eq!(tab.get("/gates").await.status, 303);
    tab.signs_in(&site, "subject-7").await.hop();
    officers::disable(&site.rig.state, "Robin", "test")
        .await
        .unwrap();
    assert_eq!(tab.get("/gates").await.status, 303, "the account has ended");
    let mut gone = Tab::new(&site);
    assert_eq!(gone.signs_in(&site, "subject-7").await.status, 401);
    assert_eq!(site.last().await.1, "oidc_not_bound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_alone_opens_nothing_of_a_role_that_needs_a_key() {
    let site = Site::start().await;
    for (name, role) in [
        ("Sam", Role::Supervisor),
        ("Kim", Role::Auditor),
        ("Pat", Role::Administrator),
        ("Toni", Role::KeyCustodian),
    ] {
        let mut key = site.bound(name, role).await;
        let mut tab = Tab::new(&site);
        assert_eq!(tab.signs_in(&site, name).await.hop(), "/sign-in/second");
        for path in ["/", "/account", "/log", "/gates", "/approvals"] {
            assert_eq!(tab.get(path).await.status, 303, "{name} {path}");
        }
        assert!(!tab.has("__Host-sallyport"));
        let (_, question) = tab.json("/sign-in/key/ask", &json!({})).await;
        let answer = json!({ "answer": key.shown(&question) });
        assert_eq!(tab.json("/sign-in/key", &answer).await.0, 200);
        assert_eq!(tab.get("/log").await.status, 200);
        assert_eq!(site.last().await.1, "oidc+key");
    }
    // Begun anew, the account has neither key nor binding: whoever holds the provider cannot add the first key.
    let link = officers::renewal_link(&site.rig.state, "Sam")
        .await
        .unwrap();
    let path = format!("/setup/{}", link.rsplit('/').next().unwrap());
    let form = format!("password={PASSWORD}&again={PASSWORD}");
    assert_eq!(Browser::new(&site.rig).post(&path, &form).await.0, 303);
    let mut tab = Tab::new(&site);
    assert_eq!(tab.signs_in(&site, "Sam").await.status, 401);
    assert_eq!(site.last().await.1, "oidc_not_bound");
    let refused = site.bind("Sam", "Sam").await.unwrap_err().to_string();
    assert!(refused.contains("needs a security key"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_an_account_and_one_subject_has_one() {
    let site = Site::start().await;
    site.bound("Robin", Role::GateOfficer).await;
    site.account("Alex", Role::GateOfficer).await;
    for subject in ["Mallory", "robin", "Robin ", "Alex"] {
        let mut tab = Tab::new(&site);
        let page = tab.signs_in(&site, subject).await;
        assert!(page.status == 401 && tab.is_nobody(), "{subject}");
        assert_eq!(
            site.last().await,
            ("refuse".into(), "oidc_not_bound".into(), None)
        );
    }
    assert_eq!(officers::list(&site.rig.state).await.unwrap().len(), 2);
    for (name, subject, says) in [
        ("Robin", "other", "bound already"),
        ("Alex", "Robin", "another account"),
        ("Alex", "", "1 to 255"),
        ("Alex", "J\u{fc}rgen", "1 to 255"),
        ("Alex", "a\nb", "1 to 255"),
        ("Nobody", "n", "No account"),
    ] {
        let error = site.bind(name, subject).await.unwrap_err().to_string();
        assert!(error.contains(says), "{name} {subject}: {error}");
    }
    let error = officers::unbind(&site.rig.state, "Alex", "test").await;
    assert!(matches!(error, Err(OfficerError::Binding(_))));
    // What the first left, the second may have; but two who read the same state do not both get it.
    officers::disable(&site.rig.state, "Robin", "test")
        .await
        .unwrap();
    site.account("Kai", Role::GateOfficer).await;
    let (one, two) = (
        officers::to_be_bound(&site.rig.state, "Alex", "Robin")
            .await
            .unwrap(),
        officers::to_be_bound(&site.rig.state, "Kai", "Robin")
            .await
            .unwrap(),
    );
    officers::bind(&site.rig.state, &one, "test").await.unwrap();
    assert!(officers::bind(&site.rig.state, &two, "test").await.is_err());
    // The log says that there is a binding, not to whom.
    for (_, bytes) in site.rig.state.store.log_entries(0, 1_000).await.unwrap() {
        let line = String::from_utf8(bytes).unwrap();
        assert!(
            !line.contains("Robin") && !line.contains("realms/state"),
            "{line}"
        );
    }
    assert_eq!(rights::compare(&site.rig.state).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_issuer_has_other_subjects() {
    let site = Site::start().await;
    site.bound("Robin", Role::GateOfficer).await;
    let other = super::provider::TestProvider::start("localhost", site.rig.clock.clone()).await;
    let mut config = site.rig.state.config.clone();
    config.oidc = Some(other.config());
    let folder = data(&site.rig.folder);
    std::fs::write(
        folder.join("server.toml"),
        toml::to_string(&config).unwrap(),
    )
    .unwrap();
    std::fs::write(folder.join("oidc-ca.pem"), &other.authority).unwrap();
    let site = Site {
        rig: site.rig.restart().await,
        provider: other,
    };
    let mut tab = Tab::new(&site);
    assert_eq!(tab.signs_in(&site, "Robin").await.status, 401);
    assert_eq!(site.last().await.1, "oidc_not_bound");
}

async fn forge(rig: &Rig, kind: &str, id: &str, content: &str) {
    let entry = Entry {
        actor: Some("server-console".to_owned()),
        about: Some(id.to_owned()),
        content: Some(content.to_owned()),
        ..audit::entry(kind, sallyport_server::clock::Clock::now(&*rig.clock)).unwrap()
    };
    audit::record(&rig.state, entry).await.unwrap();
}

/// Somebody with the database could write a row of the log by hand. It has no key for what an entry is bound by.
#[tokio::test(flavor = "multi_thread")]
async fn bindings_and_their_ends_that_the_server_did_not_write_open_nothing_and_raise_the_alarm() {
    let site = Site::start().await;
    let rig = &site.rig;
    site.bound("Robin", Role::GateOfficer).await;
    site.account("Alex", Role::GateOfficer).await;
    let (robin, alex) = (site.id("Robin").await, site.id("Alex").await);
    let all = entries(rig, 0).await;
    let genuine = all.iter().find(|entry| entry.kind == "officer_oidc_bound");
    let genuine = genuine.unwrap().content.clone().unwrap();
    assert_eq!(rights::compare(&rig.state).await.unwrap(), 0);
    let signs_in = async |subject: &str| {
        let mut tab = Tab::new(&site);
        tab.signs_in(&site, subject).await.status == 200
    };
    let by_password = async |name: &str| {
        rig.clock.advance_millis(60_000);
        let form = format!("name={name}&password={PASSWORD}");
        Browser::new(rig).post("/sign-in", &form).await.0 == 303
    };

    // Alex is said to be whom Robin is; to be somebody else.
    for content in [genuine.as_str(), "made up"] {
        forge(&site.rig, "officer_oidc_bound", &alex, content).await;
        assert!(!signs_in("Alex").await && !signs_in("made up").await);
        assert!(!by_password("Alex").await, "doubt shuts out");
        assert!(rights::compare(&rig.state).await.unwrap() > 0);
    }
    assert!(signs_in("Robin").await);
    assert_eq!(alarms(rig).await, 1);
    officers::unbind(&rig.state, "Alex", "test").await.unwrap();
    assert!(by_password("Alex").await);
    assert_eq!(rights::compare(&rig.state).await.unwrap(), 0);

    // Robin is said to be unbound: the password still opens nothing.
    forge(&site.rig, "officer_oidc_unbound", &robin, "made up").await;
    assert!(!by_password("Robin").await && signs_in("Robin").await);
    assert_eq!(rights::compare(&rig.state).await.unwrap(), 1);
    assert_eq!(alarms(rig).await, 2);

    // Unbound; then the old binding is written into the log once more.
    officers::unbind(&rig.state, "Robin", "test").await.unwrap();
    assert!(by_password("Robin").await && !signs_in("Robin").await);
    forge(&site.rig, "officer_oidc_bound", &robin, &genuine).await;
    assert!(!signs_in("Robin").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_ours_is_asked_for_unless_the_provider_says_that_it_saw_two_factors() {
    let site = Site::start_with(|oidc| oidc.amr_for_code = vec!["mfa".to_owned()]).await;
    let rig = &site.rig;
    site.account("Alex", Role::GateOfficer).await;
    let mut browser = Browser::new(rig);
    let form = format!("name=Alex&password={PASSWORD}");
    browser.keep(&browser.post("/sign-in", &form).await.1);
    let token = csrf(&browser.get("/account").await);
    let form = format!("csrf={token}");
    assert_eq!(browser.post("/account/codes/new", &form).await.0, 303);
    let secret = secret_of(&browser.get("/account").await);
    let form = format!("csrf={token}&code={}", code_now(rig, &secret));
    assert_eq!(browser.post("/account/codes", &form).await.0, 303);
    // Half a sign-in by password, from before the binding.
    rig.clock.advance_millis(30_000);
    let mut half = Browser::new(rig);
    let form = format!("name=Alex&password={PASSWORD}");
    half.keep(&half.post("/sign-in", &form).await.1);
    site.bind("Alex", "Alex").await.unwrap();
    let code = format!("code={}", code_now(rig, &secret));
    assert_eq!(half.post("/sign-in/code", &code).await.0, 410);
    rig.clock.advance_millis(30_000);

    let mut tab = Tab::new(&site);
    assert_eq!(tab.signs_in(&site, "Alex").await.hop(), "/sign-in/second");
    assert_eq!(tab.get("/gates").await.status, 303);
    assert_eq!(tab.post("/sign-in/code", "code=000000").await.status, 401);
    let code = format!("code={}", code_now(rig, &secret));
    assert_eq!(tab.post("/sign-in/code", &code).await.status, 303);
    assert_eq!(tab.get("/gates").await.status, 200);
    assert_eq!(site.last().await.1, "oidc+code");

    site.provider.set(|knobs| {
        knobs.claims = Box::new(|claims| claims["amr"] = json!(["pwd", "mfa"]));
    });
    let mut tab = Tab::new(&site);
    assert_eq!(tab.signs_in(&site, "Alex").await.hop(), "/sign-in");
    assert_eq!(site.last().await.1, "oidc+amr");
    // A key of ours is never spared.
    let mut key = site.bound("Sam", Role::Supervisor).await;
    let mut tab = Tab::new(&site);
    assert_eq!(tab.signs_in(&site, "Sam").await.hop(), "/sign-in/second");
    let (_, question) = tab.json("/sign-in/key/ask", &json!({})).await;
    let answer = json!({ "answer": key.shown(&question) });
    assert_eq!(tab.json("/sign-in/key", &answer).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_site_demands_of_an_authentication_must_be_said() {
    let site = Site::start_with(|oidc| {
        oidc.acr = vec!["urn:high".to_owned(), "urn:higher".to_owned()];
        oidc.amr = vec!["hwk".to_owned()];
    })
    .await;
    site.bound("Robin", Role::GateOfficer).await;
    for (acr, amr, status) in [
        (json!("urn:high"), json!(["hwk", "pin"]), 200),
        (json!("urn:low"), json!(["hwk"]), 401),
        (json!(null), json!(["hwk"]), 401),
        (json!("urn:high"), json!(["pwd"]), 401),
        (json!("urn:high"), json!(null), 401),
    ] {
        site.provider.set(move |knobs| {
            knobs.claims = Box::new(move |claims| {
                claims["acr"] = acr.clone();
                claims["amr"] = amr.clone();
            });
        });
        let mut tab = Tab::new(&site);
        let to = tab.leaves().await;
        assert!(to.contains("acr_values=urn%3Ahigh+urn%3Ahigher"), "{to}");
        let back = site.provider.signs_in(&to, "Robin");
        assert_eq!(tab.comes_back(&back).await.status, status);
    }
    assert_eq!(site.last().await.1, "oidc_weak");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_bind_with_a_supervisors_approval_and_unbind_without() {
    let site = Site::start().await;
    let run = |line: &[&str]| {
        let mut command = program();
        command.args(["officer"]).args(line);
        let output = command.arg("--data").arg(data(&site.rig.folder)).output();
        let output = output.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    site.account("Robin", Role::GateOfficer).await;
    site.account("Kim", Role::Auditor).await;
    let sam = Browser::signed_in_as(&site.rig, "Sam", Role::Supervisor).await;
    let (done, said) = run(&["bind-oidc", "Robin", "--subject", "r-1"]);
    assert!(done, "a gate officer's needs none: {said}");
    let bind = [
        "bind-oidc",
        "Kim",
        "--subject",
        "k-1",
        "--reason",
        "new provider",
    ];
    let (done, said) = run(&bind);
    assert!(!done && said.contains("nothing was done yet"), "{said}");
    let mut tab = Tab::new(&site);
    assert_eq!(tab.signs_in(&site, "k-1").await.status, 401);

    let list = sam.get("/approvals").await;
    let (_, rest) = list.split_once("href=\"/approvals/").unwrap();
    let path = format!("/approvals/{}", rest.split('"').next().unwrap());
    let page = sam.get(&path).await;
    for words in [
        "account of Kim",
        "auditor",
        "k-1",
        "/realms/state",
        "new provider",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let (_, content) = page.split_once("name=\"content\" value=\"").unwrap();
    let content = content.split('"').next().unwrap();
    let form = format!("csrf={}&content={content}&decision=approve", csrf(&page));
    assert_eq!(sam.post(&path, &form).await.0, 303);
    // What was approved is this subject.
    let (done, _) = run(&[
        "bind-oidc",
        "Kim",
        "--subject",
        "k-2",
        "--reason",
        "new provider",
    ]);
    assert!(!done);
    let (done, said) = run(&bind);
    assert!(done, "{said}");
    assert_eq!(tab.signs_in(&site, "k-1").await.hop(), "/sign-in/second");
    assert_eq!(
        run(&["list"])
            .1
            .matches("signs in at the identity provider")
            .count(),
        2
    );

    let (done, said) = run(&["unbind-oidc", "Kim"]);
    assert!(done, "{said}");
    assert_eq!(tab.signs_in(&site, "k-1").await.status, 401);
    let mut kim = Browser::new(&site.rig);
    let form = format!("name=Kim&password={PASSWORD}");
    let (status, cookie) = kim.post("/sign-in", &form).await;
    assert!(status == 303 && cookie.starts_with("__Host-sallyport-step="));
    kim.keep(&cookie);
}

const OIDC: &str = "site = \"demo\"\nhostnames = []\ngate_listen = \"127.0.0.1:1\"\nconsole_listen = \"127.0.0.1:2\"\nutc_offset_minutes = 0\ncool_off_seconds = 0\n[oidc]\nname = \"State ID\"\nissuer = \"https://id.example/realms/state\"\nclient_id = \"gaol\"\nclient_secret_file = \"oidc-secret\"\nauthority = \"oidc-ca.pem\"\n";

#[test]
fn a_provider_is_configured_in_full_over_https_or_not_at_all() {
    let oidc = Config::parse(OIDC).unwrap().oidc.unwrap();
    assert_eq!(oidc.patience_seconds, 10);
    for (line, says) in [
        ("issuer = \"http://id.example\"", "issuer must be https"),
        (
            "issuer = \"https://a:b@id.example\"",
            "issuer must be https",
        ),
        ("issuer = \"https://id.example?a\"", "issuer must be https"),
        ("issuer = \"id.example\"", "issuer must be https"),
        ("client_id = \"\"", "client_id must have"),
        ("name = \" \"", "name must have"),
    ] {
        let (key, _) = line.split_once(" = ").unwrap();
        let changed: Vec<&str> = OIDC
            .lines()
            .map(|old| if old.starts_with(key) { line } else { old })
            .collect();
        let error = Config::parse(&changed.join("\n")).unwrap_err().to_string();
        assert!(error.contains(says), "{line}: {error}");
    }
    for (more, says) in [
        ("patience_seconds = 0", "patience_seconds must be"),
        ("acr = [\"a b\"]", "have no spaces"),
        ("redirect_uri = \"https://a.example/else\"", "must end with"),
        ("client_secret = \"s\"", "not valid"),
        ("roles = [\"supervisor\"]", "not valid"),
    ] {
        let error = Config::parse(&format!("{OIDC}{more}\n")).unwrap_err();
        assert!(format!("{error:#}").contains(says), "{more}: {error:#}");
    }
    // What is not named has no default.
    let without = OIDC.replace("authority = \"oidc-ca.pem\"\n", "");
    Config::parse(&without).unwrap_err();
}
