//! Fire while the server is dead, and the gate killed in the middle; a supervisor who frees a door in a browser: the programs as they
//! are, real server, real agent, real log.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};

use sallyport_tests::browser::Browser;
use sallyport_tests::site::Site;

struct Gate {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Gate {
    fn start(site: &Site, config: &Path) -> Self {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(site.root.join("gate.log"))
            .unwrap();
        let mut child = site
            .checkout
            .command("sallyport-gate")
            .args(["run", "--config", &config.display().to_string(), "--json"])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits for a line with all of these parts.
    fn until(&mut self, parts: &[&str]) {
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            if parts.iter().all(|part| line.contains(part)) {
                return;
            }
        }
        panic!("the gate ended before it said {parts:?}");
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Kind, decision and reason of the gate's own events in the log.
fn logged(site: &Site) -> Vec<String> {
    let (export, said) = site.verified_log("export").unwrap();
    assert!(said.contains("VERIFIED"), "{said}");
    let rows = std::fs::read_to_string(export.join("view/entries.jsonl")).unwrap();
    rows.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|row| row["entry"]["kind"] == "life_safety_release")
        .map(|row| {
            let entry = &row["entry"];
            format!(
                "{} {}",
                entry["decision"].as_str().unwrap(),
                entry["about"].as_str().unwrap().split(' ').next().unwrap()
            )
        })
        .collect()
}

fn line(path: &PathBuf, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

#[test]
fn fire_with_a_dead_server_frees_the_door_and_stands_in_the_log_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::create(folder.path()).unwrap();
    let state = site.join("front-in", "entry").unwrap();
    let fire = folder.path().join("fire-line");
    line(&fire, "1\n");
    let config = folder.path().join("gate.toml");
    let door = folder.path().join("door");
    std::fs::write(
        &config,
        format!(
            "state = {state:?}\nheartbeat_s = 0.2\n[door]\nkind = \"simulated\"\nfolder = {door:?}\n\
             [fire_input]\npath = {fire:?}\nalarm = \"low\"\non_fault = \"alarm\"\n\
             [[camera]]\nname = \"none\"\nkind = \"v4l2\"\ndevice = 250\n"
        ),
    )
    .unwrap();
    let mut gate = Gate::start(&site, &config);
    gate.until(&["\"event\":\"heartbeat\""]);
    site.server.kill().unwrap();
    gate.until(&["heartbeat_failed"]);
    line(&fire, "0\n");
    gate.until(&["life_safety", "\"released\":true"]);
    gate.kill();
    let said = std::fs::read_to_string(door.join("life-safety")).unwrap();
    let release = said.split(' ').next().unwrap();
    assert!(!door.join("door.log").exists(), "no grant was invented");

    site.restart_server().unwrap();
    let mut gate = Gate::start(&site, &config);
    gate.until(&["life_safety", "\"released\":true"]);
    line(&fire, "1\n");
    gate.until(&["life_safety", "\"released\":false"]);
    let expected = [format!("begin {release}"), format!("end {release}")];
    let mut found = logged(&site);
    while found.len() < 2 {
        gate.until(&["\"event\":\"delivered\""]);
        found = logged(&site);
    }
    assert_eq!(found, expected);
    gate.kill();
    site.server.stop().unwrap();
}

/// Signs in as a new supervisor with a security key.
async fn supervisor(site: &Site) -> Browser {
    const PASSWORD: &str = "a quiet harbour in june";
    let link = site
        .server_command(&["officer", "setup-link", "--role", "supervisor"])
        .unwrap();
    let browser = Browser::start(&site.root, 1280, 900, false).await.unwrap();
    browser
        .client
        .goto(link.lines().last().unwrap())
        .await
        .unwrap();
    browser.fill("#name", "Officer Example").await.unwrap();
    browser.fill("#password", PASSWORD).await.unwrap();
    browser.fill("#again", PASSWORD).await.unwrap();
    browser.click("main button").await.unwrap();
    browser
        .wait("input[autocomplete=current-password]")
        .await
        .unwrap();
    browser.fill("#name", "Officer Example").await.unwrap();
    browser.fill("#password", PASSWORD).await.unwrap();
    browser.click("main button").await.unwrap();
    browser.wait("#label").await.unwrap();
    browser.put_security_key_in().await.unwrap();
    browser.fill("#label", "On my key ring").await.unwrap();
    browser.click("#key").await.unwrap();
    browser.wait("nav a[href='/release']").await.unwrap();
    browser
}

/// Gives the order that the page offers for the gate, with a reason.
async fn order(browser: &Browser) {
    browser.click("nav a[href='/release']").await.unwrap();
    browser
        .fill("#reason-front-in", "smoke in the corridor")
        .await
        .unwrap();
    browser
        .click("form[action='/release/front-in'] button")
        .await
        .unwrap();
    browser.wait("h1").await.unwrap();
}

/// Looks at the page again until the gate's word is there.
async fn shown(browser: &Browser, gate: &mut Gate, words: &str) {
    loop {
        browser.click("nav a[href='/release']").await.unwrap();
        browser.wait("h1").await.unwrap();
        if browser.text().await.unwrap().contains(words) {
            break;
        }
        // The gate says something at least with every heartbeat.
        gate.until(&["\"event\":"]);
    }
    let name = words.replace(' ', "-").to_lowercase();
    let shots = std::env::temp_dir().join("sallyport-screenshots");
    std::fs::create_dir_all(&shots).unwrap();
    browser
        .screenshot(&shots.join(format!("release-{name}.png")))
        .await
        .unwrap();
    let violations = browser.accessibility_violations().await.unwrap();
    assert!(violations.is_empty(), "{name}: {violations:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_frees_a_door_in_the_browser_and_only_another_order_ends_that() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::create(folder.path()).unwrap();
    let state = site.join("front-in", "entry").unwrap();
    let config = folder.path().join("gate.toml");
    let door = folder.path().join("door");
    std::fs::write(
        &config,
        format!(
            "state = {state:?}\nheartbeat_s = 0.2\n[door]\nkind = \"simulated\"\nfolder = {door:?}\n\
             [[camera]]\nname = \"none\"\nkind = \"v4l2\"\ndevice = 250\n"
        ),
    )
    .unwrap();
    let mut gate = Gate::start(&site, &config);
    gate.until(&["\"event\":\"heartbeat\""]);
    let browser = supervisor(&site).await;
    order(&browser).await;
    gate.until(&["life_safety", "\"released\":true"]);
    shown(&browser, &mut gate, "Free since").await;
    assert!(
        browser
            .text()
            .await
            .unwrap()
            .contains("the doors of gate front-in are free")
    );
    assert!(!door.join("door.log").exists(), "no grant was invented");
    gate.kill();
    let mut gate = Gate::start(&site, &config);
    gate.until(&["life_safety", "\"released\":true"]);
    gate.until(&["\"event\":\"heartbeat\""]);
    assert!(door.join("life-safety").exists(), "the order stands");
    order(&browser).await;
    gate.until(&["life_safety", "\"released\":false"]);
    shown(&browser, &mut gate, "Obey grants").await;
    browser.client.close().await.unwrap();
    gate.kill();
    assert_eq!(logged(&site).len(), 2, "begin and end, once");
    site.server.stop().unwrap();
}
