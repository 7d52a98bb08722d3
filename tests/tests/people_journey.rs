//! Officers' journeys through a person's record, in a real browser: a gate officer opens it with a reason, bans the person at once and
//! proposes a release, a supervisor confirms and approves. And every page about enrolments, devices and doors with data on it. Every page
//! is checked in light and dark colours for accessibility (WCAG 2.2 AA by axe-core), at 1280 and 800 pixels for what does not fit.

use std::path::Path;

use sallyport_tests::browser::Browser;
use sallyport_tests::installation::Checkout;
use sallyport_tests::site::Site;

const PASSWORD: &str = "a quiet harbour in june";

/// Looks at the page in both colours and widths, and leaves pictures for whoever wants to look.
async fn checked(browser: &Browser, name: &str) {
    let shots = std::env::temp_dir().join("sallyport-screenshots");
    std::fs::create_dir_all(&shots).unwrap();
    for dark in [false, true] {
        browser.colours(dark).await.unwrap();
        for width in [800, 1280] {
            browser.width(width).await.unwrap();
            let colours = if dark { "dark" } else { "light" };
            let file = shots.join(format!("{name}-{width}-{colours}.png"));
            browser.screenshot(&file).await.unwrap();
            let overflows = browser.overflows().await.unwrap();
            assert!(overflows.is_empty(), "{name} {width}: {overflows:?}");
        }
        let violations = browser.accessibility_violations().await.unwrap();
        assert!(violations.is_empty(), "{name} {dark}: {violations:#?}");
    }
    browser.colours(false).await.unwrap();
}

async fn go(browser: &Browser, path: &str) {
    let here = browser.client.current_url().await.unwrap();
    let there = here.join(path).unwrap();
    browser.client.goto(there.as_str()).await.unwrap();
    browser.wait("h1").await.unwrap();
}

/// Makes an account at its link and signs in.
async fn signs_in(browser: &Browser, link: &str, name: &str) {
    browser.client.goto(link).await.unwrap();
    browser.fill("#name", name).await.unwrap();
    browser.fill("#password", PASSWORD).await.unwrap();
    browser.fill("#again", PASSWORD).await.unwrap();
    browser.click("main button").await.unwrap();
    let password = "input[autocomplete=current-password]";
    browser.wait(password).await.unwrap();
    browser.fill("#name", name).await.unwrap();
    browser.fill("#password", PASSWORD).await.unwrap();
    browser.click("main button").await.unwrap();
    browser.wait("nav").await.unwrap();
}

async fn signs_out(browser: &Browser) {
    browser.click(".who button").await.unwrap();
    let password = "input[autocomplete=current-password]";
    browser.wait(password).await.unwrap();
}

/// Adds Chromium's own security key to the account.
async fn adds_key(browser: &Browser) {
    browser.fill("#label", "On my key ring").await.unwrap();
    browser.click("#key").await.unwrap();
    browser.wait("nav a[href='/log']").await.unwrap();
}

/// Opens a section of the record page and sends its form.
async fn proposes(browser: &Browser, what: &str, which: &str, why: &str) {
    let form = format!("input[name=what][value={what}]");
    let open = format!("document.querySelector('{form}').closest('details').open = true");
    browser.client.execute(&open, vec![]).await.unwrap();
    let option = format!("#{what}-which option[value={which}]");
    browser.click(&option).await.unwrap();
    browser.fill(&format!("#{what}-words"), why).await.unwrap();
    let button = format!("form:has({form}) button");
    browser.click(&button).await.unwrap();
    browser.wait("#asked").await.unwrap();
}

fn copy(from: &Path, people: &[&str], into: &Path) -> String {
    for person in people {
        let to = into.join(person);
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(from.join(person)).unwrap() {
            let file = file.unwrap().path();
            std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
    }
    into.display().to_string()
}

/// Two people are enrolled, three more are under review (one of them looks like somebody enrolled), one has passed, and a device waits. Returns the path
/// of the batch under review.
fn with_data(site: &Site, checkout: &Checkout, folder: &Path) -> String {
    let scenes = folder.join("scenes");
    let fixtures = checkout.cache().join("fixtures");
    checkout
        .run("sallyport-scenes", [fixtures, scenes.clone()])
        .unwrap();
    let station = site.join("station", "entry").unwrap().display().to_string();
    let gate = site.join("front-in", "entry").unwrap();
    let import = |people: &[&str], name: &str| {
        let pictures = copy(&scenes.join("enrol"), people, &folder.join(name));
        let batch = site.open_batch("station").unwrap();
        let code = batch.code.as_str();
        let import = [
            "import",
            &pictures,
            "--state",
            &station,
            "--enrolment",
            code,
        ];
        checkout.run("sallyport-gate", import).unwrap();
        site.close_batch(batch.id).unwrap();
        batch.id
    };
    let enrolled = import(&["person-a", "person-b"], "first");
    site.approve_batch(enrolled).unwrap();
    let second = import(&["person-a", "person-c", "person-d"], "second");
    site.open_batch("station").unwrap();
    let picked = folder.join("picked");
    let passages = scenes.join("passages");
    copy(&passages, &["01-mate-of-a"], &picked);
    let config = site.write_gate_config(&gate, &picked, 1).unwrap();
    site.replay(&config, |_| {}).unwrap();
    let add = ["gate", "add", "back-out", "--direction", "exit"];
    site.server_command(&add).unwrap();
    let token = site.server_command(&["gate", "token", "back-out"]).unwrap();
    let token = token.lines().last().unwrap().trim();
    let server = format!("localhost:{}", site.gate_port);
    let state = folder.join("back-out").display().to_string();
    let join = [
        "join", "--server", &server, "--token", token, "--state", &state,
    ];
    checkout.run("sallyport-gate", join).unwrap();
    format!("/enrolment-orders/{second}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_opened_a_ban_holds_at_once_and_a_supervisor_decides() {
    let folder = tempfile::tempdir().unwrap();
    let checkout = Checkout::find().unwrap();
    let site = Site::create(folder.path()).unwrap();
    let batch = with_data(&site, &checkout, folder.path());
    let invite = |role: &str| {
        let line = ["officer", "setup-link", "--role", role];
        let said = site.server_command(&line).unwrap();
        said.lines().last().unwrap().to_owned()
    };
    // Before there is a supervisor who would have to approve them.
    let links = ["supervisor", "gate_officer", "enroller", "administrator"].map(invite);
    let alex = Browser::start(folder.path(), 1280, 900, false)
        .await
        .unwrap();
    signs_in(&alex, &links[1], "Alex Example").await;
    let sam = Browser::start(folder.path(), 1280, 900, false)
        .await
        .unwrap();
    sam.put_security_key_in().await.unwrap();
    signs_in(&sam, &links[0], "Sam Example, senior").await;
    adds_key(&sam).await;

    // From the passage to the record, with a reason.
    alex.click(".passage.grant a").await.unwrap();
    let record = alex.wait("dd a[href^='/people/']").await.unwrap();
    let path = record.attr("href").await.unwrap().unwrap();
    go(&alex, "/people").await;
    checked(&alex, "people").await;
    go(&alex, &path).await;
    checked(&alex, "person-reason").await;
    alex.click("option[value=own_request]").await.unwrap();
    alex.fill("#case", "2026-17").await.unwrap();
    alex.click("main form button").await.unwrap();
    alex.wait("#record").await.unwrap();
    checked(&alex, "person").await;
    proposes(&alex, "status", "banned", "threatened a visitor").await;
    proposes(&alex, "status", "released", "end of sentence").await;
    let open = "document.querySelectorAll('details').forEach(one => one.open = true)";
    alex.client.execute(open, vec![]).await.unwrap();
    checked(&alex, "person-proposed").await;
    assert!(alex.text().await.unwrap().contains("Banned"));
    go(&alex, &format!("{path}/statement")).await;
    checked(&alex, "statement").await;
    assert!(
        alex.text()
            .await
            .unwrap()
            .contains("Who looked at your record")
    );

    // The supervisor sees both, confirms one, and what depended on the status before is then decided as it stands.
    go(&sam, "/gates").await;
    checked(&sam, "gates-supervisor").await;
    sam.click(".waits a").await.unwrap();
    sam.wait("main section a").await.unwrap();
    checked(&sam, "approvals-two").await;
    sam.click("main section a").await.unwrap();
    sam.wait("input[value=approve]").await.unwrap();
    checked(&sam, "approval-confirm").await;
    sam.click("input[value=approve]").await.unwrap();
    sam.click("main form button").await.unwrap();
    sam.wait(".message.good").await.unwrap();
    checked(&sam, "approvals-done").await;
    sam.click("main section a").await.unwrap();
    sam.wait("input[value=approve]").await.unwrap();
    assert!(
        sam.text()
            .await
            .unwrap()
            .contains("from banned to released")
    );
    sam.click("input[value=approve]").await.unwrap();
    sam.click("main form button").await.unwrap();
    sam.wait(".message.good").await.unwrap();
    go(&alex, &path).await;
    assert!(alex.text().await.unwrap().contains("Released"));

    // What waits for a decision about enrolments.
    go(&sam, "/enrolments").await;
    checked(&sam, "enrolments-list").await;
    go(&sam, &batch).await;
    checked(&sam, "enrolment-batch").await;
    sam.click("[aria-labelledby=doubtful] a").await.unwrap();
    sam.wait("#alike").await.unwrap();
    checked(&sam, "enrolment-candidate").await;
    go(&sam, "/release").await;
    checked(&sam, "release-gates").await;

    // An enroller opens an enrolment; an administrator sees the device that waits.
    signs_out(&alex).await;
    signs_in(&alex, &links[2], "Erin Example").await;
    go(&alex, "/enrolments").await;
    checked(&alex, "enrolments-enroller").await;
    signs_out(&alex).await;
    alex.put_security_key_in().await.unwrap();
    signs_in(&alex, &links[3], "Pat Example").await;
    adds_key(&alex).await;
    go(&alex, "/gates").await;
    alex.wait("#rest-1").await.unwrap();
    checked(&alex, "gates-device").await;
    for browser in [alex, sam] {
        browser.client.close().await.unwrap();
    }
    let (_, said) = site.verified_log("export").unwrap();
    assert!(said.contains("VERIFIED"), "{said}");
    site.server.stop().unwrap();
}
