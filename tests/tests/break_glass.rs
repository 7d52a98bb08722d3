//! The drill of emergency access with the programs as they are: a supervisor approves a new envelope, somebody types its credential in a
//! browser of the server's own machine, officers at other pages are told while they look, the supervisor ends it, an auditor reviews it.

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use sallyport_tests::browser::Browser;
use sallyport_tests::site::Site;

const PASSWORD: &str = "a quiet harbour in june";

async fn checked(browser: &Browser, name: &str) {
    let shots = std::env::temp_dir().join("sallyport-screenshots");
    std::fs::create_dir_all(&shots).unwrap();
    let shot = shots.join(format!("{name}.png"));
    browser.screenshot(&shot).await.unwrap();
    let violations = browser.accessibility_violations().await.unwrap();
    assert!(violations.is_empty(), "{name}: {violations:#?}");
}

/// An officer with a security key, in a window of their own.
async fn officer(folder: &Path, link: &str, name: &str, dark: bool) -> Browser {
    let width = if dark { 420 } else { 1280 };
    let browser = Browser::start(folder, width, 900, dark).await.unwrap();
    browser.client.goto(link).await.unwrap();
    browser.fill("#name", name).await.unwrap();
    browser.fill("#password", PASSWORD).await.unwrap();
    browser.fill("#again", PASSWORD).await.unwrap();
    browser.click("main button").await.unwrap();
    let password = "input[autocomplete=current-password]";
    browser.wait(password).await.unwrap();
    browser.fill("#name", name).await.unwrap();
    browser.fill(password, PASSWORD).await.unwrap();
    browser.click("main button").await.unwrap();
    browser.wait("#label").await.unwrap();
    browser.put_security_key_in().await.unwrap();
    browser.fill("#label", "On my key ring").await.unwrap();
    browser.click("#key").await.unwrap();
    browser.wait("nav a[href='/log']").await.unwrap();
    browser
}

async fn go(browser: &Browser, site: &Site, path: &str) {
    let address = format!("https://localhost:{}{path}", site.console_port);
    browser.client.goto(&address).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_emergency_drill_in_real_browsers_from_the_envelope_to_the_review() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::create(folder.path()).unwrap();
    let invite = |role: &str| {
        let said = site.server_command(&["officer", "setup-link", "--role", role]);
        said.unwrap().lines().last().unwrap().to_owned()
    };
    let (of_sam, of_kim) = (invite("supervisor"), invite("auditor"));
    let sam = officer(folder.path(), &of_sam, "Sam Supervisor", false).await;
    let kim = officer(folder.path(), &of_kim, "Kim Auditor", true).await;

    // The envelope: asked for at the server, approved in the console.
    let data = folder.path().join("data");
    let mut prepare = site.checkout.command("sallyport-server");
    prepare.args(["officer", "break-glass", "prepare", "--wait"]);
    prepare.args(["--reason", "the yearly drill", "--data"]);
    let prepare = prepare.arg(&data).stdout(Stdio::piped()).spawn().unwrap();
    let waiting = std::thread::spawn(move || prepare.wait_with_output().unwrap());
    go(&sam, &site, "/approvals").await;
    while sam
        .client
        .find(fantoccini::Locator::Css("main section a"))
        .await
        .is_err()
    {
        sam.client.refresh().await.unwrap();
    }
    sam.click("main section a").await.unwrap();
    sam.wait("input[value=approve]").await.unwrap();
    checked(&sam, "emergency-approval").await;
    sam.click("input[value=approve]").await.unwrap();
    sam.click("main form button").await.unwrap();
    sam.wait("main > p.card").await.unwrap();
    let printed = waiting.join().unwrap();
    assert!(printed.status.success());
    let sheet = String::from_utf8(printed.stdout).unwrap();
    let (_, sheet) = sheet.split_once("EMERGENCY CREDENTIAL").unwrap();
    let credential = sheet
        .lines()
        .find(|line| line.trim().len() == 41 && line.split_whitespace().count() == 7)
        .unwrap();

    // Somebody at the server, who mistypes it first.
    let here = Browser::start(folder.path(), 1280, 900, false)
        .await
        .unwrap();
    go(&here, &site, "/break-glass").await;
    here.wait("#credential").await.unwrap();
    checked(&here, "emergency-open").await;
    let typed = async |credential: &str| {
        here.fill("#credential", credential).await.unwrap();
        here.wait("#name").await.unwrap().clear().await.unwrap();
        here.fill("#name", "Robin Duty").await.unwrap();
        here.wait("#reason").await.unwrap().clear().await.unwrap();
        here.fill("#reason", "all keys are lost").await.unwrap();
        here.click("main form button").await.unwrap();
    };
    let slip: String = credential.trim().chars().rev().collect();
    typed(&slip).await;
    here.wait(".message.bad").await.unwrap();
    checked(&here, "emergency-mistyped").await;
    let began = Instant::now();
    typed(credential).await;
    here.wait("#passages").await.unwrap();
    // Sam still has the list of approvals open, and Kim the account page.
    sam.wait("#news:not([hidden])").await.unwrap();
    println!(
        "another officer's open page showed it {} ms after the credential was typed",
        began.elapsed().as_millis()
    );
    checked(&sam, "emergency-news").await;
    kim.wait("#news:not([hidden])").await.unwrap();
    checked(&here, "emergency-inside").await;
    sam.click("#news a").await.unwrap();
    sam.wait(".alarm a[href='/break-glass/uses']")
        .await
        .unwrap();
    checked(&sam, "emergency-alarm").await;
    sam.click(".alarm a[href='/break-glass/uses']")
        .await
        .unwrap();
    sam.wait("form[action$='/end'] button").await.unwrap();
    checked(&sam, "emergency-uses").await;
    assert!(sam.text().await.unwrap().contains("Robin Duty"));
    go(&here, &site, "/account").await;
    here.wait("h1").await.unwrap();
    assert!(here.text().await.unwrap().contains("Not for your role"));
    go(&here, &site, "/log").await;
    here.wait("table").await.unwrap();
    checked(&here, "emergency-log").await;
    sam.click("form[action$='/end'] button").await.unwrap();
    sam.wait(".card dl").await.unwrap();
    go(&here, &site, "/log").await;
    here.wait("input[autocomplete=current-password]")
        .await
        .unwrap();

    go(&kim, &site, "/break-glass/uses").await;
    kim.wait("textarea").await.unwrap();
    checked(&kim, "emergency-review-dark").await;
    kim.fill(
        "textarea",
        "The yearly drill, as announced; a new envelope is in the safe.",
    )
    .await
    .unwrap();
    kim.click("form[action$='/review'] button").await.unwrap();
    kim.wait("section.card:not(:has(textarea))").await.unwrap();
    checked(&kim, "emergency-reviewed-dark").await;
    let status = site
        .server_command(&["officer", "break-glass", "status"])
        .unwrap();
    assert!(status.contains("NONE stands") && status.contains("reviewed, log entry"));
    for browser in [sam, kim, here] {
        browser.client.close().await.unwrap();
    }

    let (export, said) = site.verified_log("export").unwrap();
    assert!(said.contains("VERIFIED"), "{said}");
    let rows = std::fs::read_to_string(export.join("view/entries.jsonl")).unwrap();
    for kind in ["prepared", "opened", "ended", "reviewed"] {
        assert!(rows.contains(&format!("break_glass_{kind}")), "{kind}");
    }
    for told in ["Robin", "yearly", "all keys are lost", credential.trim()] {
        assert!(!rows.contains(told), "{told} is in the log in the clear");
    }
    site.server.stop().unwrap();
}
