//! An officer's journey in a real browser: set up, sign in, see a passage arrive, review it, sign out. Every page is checked for
//! accessibility (WCAG 2.2 AA by axe-core), in light and dark colours.

use std::path::{Path, PathBuf};

use sallyport_tests::browser::Browser;
use sallyport_tests::installation::Checkout;
use sallyport_tests::site::Site;

const PASSWORD: &str = "a quiet harbour in june";

async fn checked(browser: &Browser, name: &str, shots: &Path) {
    browser
        .screenshot(&shots.join(format!("{name}.png")))
        .await
        .unwrap();
    let violations = browser.accessibility_violations().await.unwrap();
    assert!(violations.is_empty(), "{name}: {violations:#?}");
}

/// Only these passages, in this order.
fn pick(scenes: &Path, into: &Path, wanted: &[&str]) {
    for (number, wanted) in wanted.iter().enumerate() {
        let from = std::fs::read_dir(scenes.join("passages"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_string_lossy().contains(wanted))
            .unwrap();
        let to = into.join(format!("{number:02}-{wanted}"));
        std::fs::create_dir_all(&to).unwrap();
        for frame in std::fs::read_dir(from).unwrap() {
            let frame = frame.unwrap().path();
            std::fs::copy(&frame, to.join(frame.file_name().unwrap())).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_officer_sets_up_signs_in_reviews_and_signs_out() {
    let folder = tempfile::tempdir().unwrap();
    let shots: PathBuf = std::env::temp_dir().join("sallyport-screenshots");
    std::fs::create_dir_all(&shots).unwrap();
    let checkout = Checkout::find().unwrap();
    let scenes = folder.path().join("scenes");
    checkout
        .run(
            "sallyport-scenes",
            [checkout.cache().join("fixtures"), scenes.clone()],
        )
        .unwrap();
    let site = Site::create(folder.path()).unwrap();
    let station = site.join("station", "entry").unwrap().display().to_string();
    let gate = site.join("front-in", "entry").unwrap();
    let enrol = scenes.join("enrol").display().to_string();
    let batch = site.open_batch("station").unwrap();
    let import = [
        "import",
        &enrol,
        "--state",
        &station,
        "--enrolment",
        &batch.code,
        "--development",
    ];
    checkout.run("sallyport-gate", import).unwrap();
    site.close_batch(batch.id).unwrap();
    site.approve_batch(batch.id).unwrap();
    let invite = |role: &str| {
        let said = site
            .server_command(&["officer", "setup-link", "--role", role])
            .unwrap();
        said.lines().last().unwrap().to_owned()
    };
    let (link, other_link) = (invite("supervisor"), invite("gate_officer"));

    // Set up and sign in.
    let browser = Browser::start(folder.path(), 1280, 900, false)
        .await
        .unwrap();
    browser.client.goto(&link).await.unwrap();
    checked(&browser, "setup", &shots).await;
    browser.fill("#name", "Officer Example").await.unwrap();
    browser.fill("#password", PASSWORD).await.unwrap();
    browser.fill("#again", PASSWORD).await.unwrap();
    browser.click("main button").await.unwrap();
    browser
        .wait("input[autocomplete=current-password]")
        .await
        .unwrap();
    checked(&browser, "sign-in", &shots).await;
    browser.fill("#name", "Officer Example").await.unwrap();
    browser
        .fill("#password", "not the right password")
        .await
        .unwrap();
    browser.click("main button").await.unwrap();
    browser.wait(".message.bad").await.unwrap();
    browser.fill("#name", "Officer Example").await.unwrap();
    browser.fill("#password", PASSWORD).await.unwrap();
    browser.click("main button").await.unwrap();

    // A supervisor needs a security key before anything else is open.
    browser.wait("#label").await.unwrap();
    assert!(browser.text().await.unwrap().contains("Add one now"));
    checked(&browser, "account-without-key", &shots).await;
    browser.put_security_key_in().await.unwrap();
    browser.fill("#label", "On my key ring").await.unwrap();
    browser.click("#key").await.unwrap();
    browser.wait("nav a[href='/log']").await.unwrap();
    assert!(browser.text().await.unwrap().contains("On my key ring"));
    browser
        .click("form[action='/account/codes/new'] button")
        .await
        .unwrap();
    browser.wait("svg.qr").await.unwrap();
    checked(&browser, "account", &shots).await;
    browser.click("nav a[href='/']").await.unwrap();
    browser.wait("#passages").await.unwrap();
    checked(&browser, "live-empty", &shots).await;
    browser.click("nav a[href='/enrolments']").await.unwrap();
    browser.wait("h1").await.unwrap();
    checked(&browser, "enrolments", &shots).await;
    browser.click("nav a[href='/']").await.unwrap();
    browser.wait("#passages").await.unwrap();

    // Passages arrive while the page is open; the stranger waits for the officer.
    let picked = folder.path().join("picked");
    pick(&scenes, &picked, &["mate-of-a", "stranger-one"]);
    let config = site.write_gate_config(&gate, &picked, 120).unwrap();
    let replay = std::thread::spawn(move || {
        let outcomes = site.replay(&config, |_| {});
        (site, outcomes)
    });
    browser.wait(".passage.grant").await.unwrap();
    browser.wait(".passage.refer.open").await.unwrap();
    checked(&browser, "live", &shots).await;

    // Another officer's window in dark colours on a narrow screen; before signing in it sees nothing.
    let other = Browser::start(folder.path(), 420, 900, true).await.unwrap();
    other.client.goto(&other_link).await.unwrap();
    other.fill("#name", "Officer Other").await.unwrap();
    other.fill("#password", PASSWORD).await.unwrap();
    other.fill("#again", PASSWORD).await.unwrap();
    other.click("main button").await.unwrap();
    other
        .wait("input[autocomplete=current-password]")
        .await
        .unwrap();
    let live = browser.client.current_url().await.unwrap();
    other.client.goto(live.as_str()).await.unwrap();
    other
        .wait("input[autocomplete=current-password]")
        .await
        .unwrap();
    checked(&other, "sign-in-dark", &shots).await;
    other.fill("#name", "Officer Other").await.unwrap();
    other.fill("#password", PASSWORD).await.unwrap();
    other.click("main button").await.unwrap();
    other.wait(".passage.refer").await.unwrap();
    checked(&other, "live-dark", &shots).await;
    other.click(".passage.refer.open a").await.unwrap();
    other.wait("select#preset").await.unwrap();
    checked(&other, "passage-dark", &shots).await;
    other.client.close().await.unwrap();

    // The keyboard opens the waiting referral; the officer grants, and the door opens.
    browser.click(".passage.refer.open a").await.unwrap();
    browser.wait("select#preset").await.unwrap();
    checked(&browser, "passage", &shots).await;
    browser.click("input[value=grant]").await.unwrap();
    browser
        .click("option[value='identity document checked']")
        .await
        .unwrap();
    browser.click("input[name=sure]").await.unwrap();
    browser
        .click("form[action$='/review'] button")
        .await
        .unwrap();
    browser.wait("#reviewed").await.unwrap();
    checked(&browser, "reviewed", &shots).await;
    assert!(
        browser
            .text()
            .await
            .unwrap()
            .contains("identity document checked")
    );
    let (site, outcomes) = replay.join().unwrap();
    let outcomes = outcomes.unwrap();
    assert_eq!(outcomes.len(), 2);
    assert_eq!(
        (outcomes[0].verdict.as_str(), outcomes[0].door),
        ("grant", true)
    );
    assert_eq!(
        (outcomes[1].reason.as_str(), outcomes[1].door),
        ("officer_granted", true)
    );

    // Log, gates, sign out; then nothing is shown any more.
    for (page, name) in [
        ("log", "log"),
        ("gates", "gates"),
        ("consultations", "consultations"),
        ("release", "release"),
        ("nowhere", "not-found"),
    ] {
        browser
            .client
            .goto(live.join(page).unwrap().as_str())
            .await
            .unwrap();
        browser.wait("h1").await.unwrap();
        checked(&browser, name, &shots).await;
    }
    // The enrolment station never asks for orders: the supervisor is told that nothing was freed.
    let release = live.join("release").unwrap();
    browser.client.goto(release.as_str()).await.unwrap();
    let reason = "#reason-station";
    browser.fill(reason, "smoke in the corridor").await.unwrap();
    browser
        .click("form[action='/release/station'] button")
        .await
        .unwrap();
    browser.wait(".message.bad").await.unwrap();
    checked(&browser, "release-silent", &shots).await;
    assert!(browser.text().await.unwrap().contains("NOTHING WAS FREED"));
    browser.client.goto(live.as_str()).await.unwrap();
    browser.click(".who button").await.unwrap();
    browser
        .wait("input[autocomplete=current-password]")
        .await
        .unwrap();
    browser
        .client
        .goto(live.join("log").unwrap().as_str())
        .await
        .unwrap();
    browser
        .wait("input[autocomplete=current-password]")
        .await
        .unwrap();

    // Password, then the security key.
    browser.fill("#name", "Officer Example").await.unwrap();
    browser.fill("#password", PASSWORD).await.unwrap();
    browser.click("main button").await.unwrap();
    browser.wait("#key[data-act=show]").await.unwrap();
    let asked = browser.client.current_url().await.unwrap();
    assert_eq!(asked.path(), "/sign-in/second");
    checked(&browser, "second-factor", &shots).await;
    browser.click("#key").await.unwrap();
    browser.wait("#passages").await.unwrap();

    // Somebody at the server asks for what needs a second person.
    let ask = ["profile", "set", "uk", "--reason", "the site moved"];
    let refused = site.server_command(&ask).unwrap_err().to_string();
    assert!(refused.contains("nothing was done yet"), "{refused}");
    browser
        .client
        .goto(live.join("gates").unwrap().as_str())
        .await
        .unwrap();
    browser.wait(".waits a").await.unwrap();
    checked(&browser, "request-waits", &shots).await;
    browser.click(".waits a").await.unwrap();
    browser.wait("main section a").await.unwrap();
    checked(&browser, "approvals", &shots).await;
    browser.click("main section a").await.unwrap();
    browser.wait("input[value=approve]").await.unwrap();
    checked(&browser, "approval", &shots).await;
    assert!(browser.text().await.unwrap().contains("the site moved"));
    browser.click("input[value=approve]").await.unwrap();
    browser.click("main form button").await.unwrap();
    browser.wait("main > p.card").await.unwrap();
    site.server_command(&ask).unwrap();
    browser.client.close().await.unwrap();

    let (_, said) = site.verified_log("export").unwrap();
    assert!(said.contains("VERIFIED"), "{said}");
    site.server.stop().unwrap();
}
